//! TLS of the admin interface, with client certificates if an authority for them is named.

use std::path::Path;
use std::sync::Arc;

use carousel::digest::Digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::options::AdminTls;
use crate::certificates::Certificates;

/// Characters of a fingerprint in the audit log.
const FINGERPRINT: usize = 16;

/// Reads the files of the configuration.
///
/// # Errors
/// One line that names the file.
pub(super) fn acceptor(config: &AdminTls, in_force: &Certificates) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |err: rustls::Error| format!("[admin.tls] {}: {err}", config.certificate.display());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|err| format!("[admin.tls] {}: {err}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|err| format!("[admin.tls] {}: {err}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|err| format!("[admin.tls] key {}: {err}; give a PEM file", config.key.display()))?;
    let chain = certificates(&config.certificate)?;
    in_force.put("admin.tls", &config.certificate, &chain);
    let mut tls = builder.with_single_cert(chain, key).map_err(failed)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("[admin.tls] {}: it has no certificate; give a PEM file", path.display())),
        Err(err) => Err(format!("[admin.tls] {}: {err}; give a PEM file", path.display())),
    }
}

/// The fingerprint of a client's certificate, as far as the audit log shows it.
pub(super) fn fingerprint(session: &rustls::ServerConnection) -> Option<String> {
    let certificate = session.peer_certificates()?.first()?;
    let mut hex = Digest::of(certificate).to_hex();
    hex.truncate(FINGERPRINT);
    Some(hex)
}
