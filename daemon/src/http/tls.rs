//! TLS for players: certificates from files, reloaded when they change, and HTTP/2 for clients that support it.

use std::sync::Arc;

use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::options::Tls;
use crate::certificates::{CertificateFiles, Certificates};

/// Table of the configuration.
const TABLE: &str = "http.tls";

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

/// Store of resumable sessions.
#[cfg(feature = "http3")]
fn sessions() -> Arc<dyn rustls::server::StoresServerSessions> {
    rustls::server::ServerSessionMemoryCache::new(MAX_SESSIONS)
}

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    tcp: TlsAcceptor,
    #[cfg(feature = "http3")]
    current: Arc<CertificateFiles>,
}

impl Acceptor {
    /// Creates an acceptor with the configured files, which are checked periodically.
    ///
    /// # Errors
    /// If they are not a certificate and key.
    pub(super) fn new(config: &Tls, shown: Arc<Certificates>) -> Result<Self, String> {
        let current = CertificateFiles::open(TABLE, &config.certificate, &config.key, shown)?;
        let mut tls = server(&current, rustls::DEFAULT_VERSIONS)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            tcp: TlsAcceptor::from(Arc::new(tls)),
            #[cfg(feature = "http3")]
            current,
        })
    }

    /// TLS of QUIC connections, with the same certificates. Each ticket is valid for one connection with early data: a
    /// replayed ticket is rejected.
    ///
    /// # Errors
    /// One line.
    #[cfg(feature = "http3")]
    pub(super) fn for_quic(&self) -> Result<rustls::ServerConfig, String> {
        let mut tls = server(&self.current, &[&rustls::version::TLS13])?;
        tls.alpn_protocols = vec![b"h3".to_vec()];
        // QUIC has its own limits for it.
        tls.max_early_data_size = u32::MAX;
        tls.session_storage = sessions();
        Ok(tls)
    }

    /// Performs the handshake on a socket.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        self.tcp.accept(stream).await
    }
}

fn server(
    current: &Arc<CertificateFiles>,
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
