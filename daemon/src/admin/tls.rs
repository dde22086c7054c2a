//! TLS of the admin interface: certificates from files, read again when they change, and client certificates if the configuration
//! names their authority.

use std::path::Path;
use std::sync::Arc;

use carousel::digest::Digest;
use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::TlsAcceptor;

use super::options::AdminTls;
use crate::certificates::{self, CertificateFiles, Certificates, ConfiguredFileError};

/// Table of the configuration.
const TABLE: &str = "admin.tls";

/// Characters of a fingerprint in the audit log.
const FINGERPRINT: usize = 16;

/// Reads the files of the configuration; certificate and key are read again when they change, the authority of clients with the next
/// start.
///
/// # Errors
/// One line that names the file.
pub(super) fn acceptor(config: &AdminTls, shown: &Arc<Certificates>) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |err: rustls::Error| format!("[admin.tls] {}: {err}", config.certificate.display());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path)?),
    };
    let files = CertificateFiles::open(TABLE, &config.certificate, &config.key, Arc::clone(shown))?;
    let mut tls = builder.with_cert_resolver(files);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// Reads the authorities of clients.
///
/// # Errors
/// The file, its fault and the fix.
pub(crate) fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, ConfiguredFileError> {
    let about = || format!("[{TABLE}] client_ca {}", path.display());
    certificates::verifier_of_clients(path).map_err(|file| ConfiguredFileError { about: about(), file })
}

/// The fingerprint of a client's certificate, as far as the audit log shows it.
pub(super) fn fingerprint(session: &rustls::ServerConnection) -> Option<String> {
    let certificate = session.peer_certificates()?.first()?;
    let mut hex = Digest::of(certificate).to_hex();
    hex.truncate(FINGERPRINT);
    Some(hex)
}
