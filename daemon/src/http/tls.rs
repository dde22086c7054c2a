//! TLS for players: certificates from files, read again when they change, and HTTP/2 for those who speak it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::options::Tls;
use crate::certificates::{Certificate, Certificates};

/// Interval at which the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

#[cfg(feature = "http3")]
carousel::limits! {
    /// TLS sessions that can be resumed over QUIC.
    const MAX_SESSIONS: usize = 8192, "sessions" {
        why: "Each takes some hundred bytes; a player resumes within minutes.",
        full: "The oldest is forgotten; its client shakes hands in full.",
        free: "When another session begins.",
        test: "sessions_that_can_be_resumed_are_bounded",
    }
}

/// Memory of sessions that can be resumed.
#[cfg(feature = "http3")]
fn sessions() -> Arc<dyn rustls::server::StoresServerSessions> {
    rustls::server::ServerSessionMemoryCache::new(MAX_SESSIONS)
}

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    tcp: TlsAcceptor,
    #[cfg(feature = "http3")]
    current: Arc<Current>,
}

/// The certificate in force.
#[derive(Debug)]
struct Current {
    files: [PathBuf; 2],
    key: RwLock<Arc<CertifiedKey>>,
    shown: Arc<Certificates>,
}

impl Current {
    /// Takes a chain and its key into force.
    fn take(&self, key: Arc<CertifiedKey>) {
        self.shown.put("http.tls", &self.files[0], &key.cert);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Reason for which a PEM file cannot be read, and the fix.
fn said(err: &rustls::pki_types::pem::Error) -> String {
    let fix = match err {
        rustls::pki_types::pem::Error::Io(err) if err.kind() == std::io::ErrorKind::PermissionDenied => {
            "let the group of skycached read it: chgrp skycache, chmod 640"
        }
        _ => "give a PEM file",
    };
    match err {
        rustls::pki_types::pem::Error::Io(err) => format!("{}; {fix}", carousel::config::plain(err)),
        err => format!("{err}; {fix}"),
    }
}

/// Reads certificate chain and key.
///
/// # Errors
/// One line with the fix.
fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|err| format!("[http.tls] certificate {}: {}", certificate.display(), said(&err)))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|err| format!("[http.tls] key {}: {}", key.display(), said(&err)))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider)
        .map(Arc::new)
        .map_err(|err| format!("[http.tls] {} and {}: {err}", certificate.display(), key.display()))
}

/// Reads certificate chain and key of a configuration.
///
/// # Errors
/// One line.
pub fn check_certificate(config: &Tls) -> Result<Certificate, String> {
    let key = read(&config.certificate, &config.key)?;
    Certificate::read(&key.cert)
        .map_err(|why| format!("[http.tls] certificate {}: {why}", config.certificate.display()))
}

impl Acceptor {
    /// With the files of the configuration, which are looked at again and again.
    ///
    /// # Errors
    /// If they are no certificate and key.
    pub(super) fn new(config: &Tls, shown: Arc<Certificates>) -> Result<Self, String> {
        let files = [config.certificate.clone(), config.key.clone()];
        let key = read(&files[0], &files[1])?;
        let current = Arc::new(Current { files, key: RwLock::new(Arc::clone(&key)), shown });
        current.take(key);
        tokio::spawn(watch(Arc::clone(&current)));
        let mut tls = server(&current, rustls::DEFAULT_VERSIONS)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            tcp: TlsAcceptor::from(Arc::new(tls)),
            #[cfg(feature = "http3")]
            current,
        })
    }

    /// TLS of QUIC connections, with the same certificates. Each ticket is good for one connection with early data: who sends
    /// that again finds it used.
    ///
    /// # Errors
    /// One line.
    #[cfg(feature = "http3")]
    pub(super) fn for_quic(&self) -> Result<rustls::ServerConfig, String> {
        let mut tls = server(&self.current, &[&rustls::version::TLS13])?;
        tls.alpn_protocols = vec![b"h3".to_vec()];
        // QUIC has limits of its own for it.
        tls.max_early_data_size = u32::MAX;
        tls.session_storage = sessions();
        Ok(tls)
    }

    /// Shakes hands on a socket.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        self.tcp.accept(stream).await
    }
}

fn server(
    current: &Arc<Current>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<rustls::ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|err| format!("[http.tls] {err}"))?;
    Ok(builder.with_no_client_auth().with_cert_resolver(Arc::clone(current) as Arc<dyn ResolvesServerCert>))
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Takes new certificates into force, for ever. What cannot be read changes nothing: renewals write one file after the other.
async fn watch(current: Arc<Current>) {
    let changed_at = |files: &[PathBuf; 2]| -> [Option<SystemTime>; 2] {
        files.each_ref().map(|path| std::fs::metadata(path).and_then(|it| it.modified()).ok())
    };
    let mut known = changed_at(&current.files);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = changed_at(&current.files);
        if now == known {
            continue;
        }
        match read(&current.files[0], &current.files[1]) {
            Ok(key) => {
                current.take(key);
                known = now;
                tracing::info!("a new certificate is in force");
            }
            Err(err) => tracing::warn!("{err}; the certificate before it stays in force"),
        }
    }
}

#[cfg(all(test, feature = "http3"))]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_can_be_resumed_are_bounded() {
        let sessions = sessions();
        let name = |number: usize| number.to_be_bytes().to_vec();
        for number in 0..2 * MAX_SESSIONS {
            assert!(sessions.put(name(number), vec![1]));
        }
        let kept = (0..2 * MAX_SESSIONS).filter(|number| sessions.get(&name(*number)).is_some()).count();
        assert!((1..=MAX_SESSIONS).contains(&kept), "{kept}");
        assert!(sessions.get(&name(2 * MAX_SESSIONS - 1)).is_some(), "the last one has a place");
    }
}
