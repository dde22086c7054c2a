//! TLS towards origins: the system's authorities, and those of a file.

use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(feature = "kafka")]
use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::tls::pem::{self, PemError};

/// Why a file does not serve as one of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthoritiesError {
    Pem(PemError),
    /// Something else than a certificate of RFC 5280.
    NoCertificate(String),
    /// An extension of a certificate cannot be read.
    Extension(String),
    /// A certificate that may not sign others.
    NotAnAuthority,
    /// The library does not accept them.
    Refused(String),
}

impl fmt::Display for AuthoritiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(why) => why.fmt(f)?,
            Self::NoCertificate(why) => write!(f, "it has no certificate of RFC 5280: {why}")?,
            Self::Extension(why) => {
                write!(f, "its certificate has an extension that cannot be read: {why}")?;
            }
            Self::NotAnAuthority => f.write_str("it has a certificate that may not sign others")?,
            Self::Refused(why) => f.write_str(why)?,
        }
        f.write_str("; it must be a PEM file with certificates of authorities")
    }
}

impl std::error::Error for AuthoritiesError {}

/// Error of the file of `pull_ca`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullCaError {
    file: PathBuf,
    why: AuthoritiesError,
}

impl fmt::Display for PullCaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pull_ca {}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for PullCaError {}

/// TLS that trusts the system's authorities. Without any, https fails, which requests report; http works.
pub(super) fn of_system() -> ClientConfig {
    with(system_roots())
}

/// TLS that trusts the system's authorities, and those of a PEM file.
///
/// # Errors
/// The fault of the file, with the fix.
pub(super) fn of_system_and(path: &Path) -> Result<ClientConfig, PullCaError> {
    let mut roots = system_roots();
    add(path, &mut roots).map_err(|why| PullCaError { file: path.to_owned(), why })?;
    Ok(with(roots))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Systems have some that the library does not accept as authorities.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn with(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// Verifies servers by the authorities of a PEM file alone.
///
/// # Errors
/// The fault of the file, with the fix.
#[cfg(feature = "kafka")]
pub(super) fn verifier(path: &Path) -> Result<std::sync::Arc<dyn ServerCertVerifier>, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    add(path, &mut roots)?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let built = WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider).build();
    Ok(built.map_err(|err| AuthoritiesError::Refused(err.to_string()))?)
}

/// Adds the certificates of a file. The library takes each for that of an authority for all names, so one of a server is refused.
fn add(path: &Path, roots: &mut RootCertStore) -> Result<(), AuthoritiesError> {
    for certificate in pem::read_chain(path).map_err(AuthoritiesError::Pem)? {
        if !is_authority(&certificate)? {
            return Err(AuthoritiesError::NotAnAuthority);
        }
        roots.add(certificate).map_err(|err| AuthoritiesError::Refused(err.to_string()))?;
    }
    Ok(())
}

/// Whether a certificate may sign others (RFC 5280 sections 4.2.1.3, 4.2.1.9).
fn is_authority(certificate: &CertificateDer<'_>) -> Result<bool, AuthoritiesError> {
    let read = x509_cert::Certificate::from_der(certificate)
        .map_err(|err| AuthoritiesError::NoCertificate(err.to_string()))?;
    let read = read.tbs_certificate();
    let unreadable = |err: x509_cert::der::Error| AuthoritiesError::Extension(err.to_string());
    let constraints = read.get_extension::<BasicConstraints>().map_err(unreadable)?;
    let usage = read.get_extension::<KeyUsage>().map_err(unreadable)?;
    Ok(constraints.is_some_and(|(_, it)| it.ca) && usage.is_none_or(|(_, it)| it.key_cert_sign()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::Command;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;

    use super::super::client::Client;
    use super::super::stats::PullFailure;
    use super::*;

    fn openssl(folder: &Path, arguments: &str) -> bool {
        let mut command = Command::new("openssl");
        command.current_dir(folder).args(arguments.split(' '));
        command.output().is_ok_and(|it| it.status.success())
    }

    /// An authority, `ca.pem`, and what it has signed for loopback, `own.pem` and `own.key`.
    fn certificates(folder: &Path) -> bool {
        std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(folder, &format!("req -x509 {key} -days 30 -subj /CN=authority -keyout ca.key -out ca.pem"))
            && openssl(folder, &format!("req {key} -subj /CN=own -keyout own.key -out own.csr"))
            && openssl(
                folder,
                "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out own.pem",
            )
    }

    /// A server of TLS that answers every request with an empty body.
    fn server(folder: &Path) -> String {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(folder.join("own.pem")).unwrap().map(Result::unwrap).collect();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(folder.join("own.key")).unwrap();
        let config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/a.m3u8", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(session, stream);
                if stream.read(&mut [0; 4096]).is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        url
    }

    #[tokio::test]
    async fn an_origin_with_a_private_authority_is_asked_if_the_source_names_that() {
        let folder = tempfile::tempdir().unwrap();
        if !certificates(folder.path()) {
            println!("SKIPPED: openssl is not here");
            return;
        }
        let url = server(folder.path());
        let ca = folder.path().join("ca.pem");
        let client = |ca: Option<&Path>| Client::new(&url, None, ca);
        let refused = client(None).unwrap().get(&url, None, None).await.err().unwrap();
        assert_eq!(refused.why, PullFailure::Connect);
        assert!(refused.detail.contains("pull_ca"), "{}", refused.detail);
        assert!(client(Some(&ca)).unwrap().get(&url, None, None).await.is_ok());
        // A certificate of a server would be trusted for all names.
        for (name, said) in [
            ("own.pem", "may not sign others"),
            ("own.key", "no certificate"),
            ("none.pem", "there is no such file"),
        ] {
            let why = client(Some(&folder.path().join(name))).err().unwrap();
            assert_eq!(why.why, PullFailure::Configuration);
            assert!(why.detail.contains(said) && why.detail.contains("pull_ca"), "{}", why.detail);
        }
    }
}
