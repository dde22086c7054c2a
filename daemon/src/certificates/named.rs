//! TLS of a client that trusts the certificates of a file: authorities, and certificates of servers themselves.
//!
//! `openssl req -x509` makes self-signed certificates, and OpenSSL's own clients accept such a one as its own authority (`curl
//! --cacert`). The library considers it an authority's and refuses it as a server's. So a server's certificate that is in the
//! file, byte for byte, is verified here, by its names and dates. The library verifies all others, by those of the file alone that are
//! authorities' ([`is_authority`]): it takes each certificate that it is told to trust as one of an authority for all names.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use carousel::Digest;
use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::{Certificate, failures, read_chain};

#[derive(Debug)]
struct Named {
    /// Digests of the certificates.
    certificates: HashSet<Digest>,
    /// None if all are servers'.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// TLS that trusts the system's authorities; without any if `is_tls` is false. `fix`: remedy for a system without
/// authorities.
///
/// # Errors
/// One line with the fix.
pub fn client_trusting_system(is_tls: bool, fix: &str) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| failures::plain(&err))?;
    let builder = if is_tls {
        let none = |_| format!("this system has no certificates of authorities; {fix}");
        builder.with_native_roots().map_err(none)?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// TLS that trusts the certificates of a PEM file and no others.
///
/// # Errors
/// One line with the fix.
pub fn client_trusting(path: &Path) -> Result<ClientConfig, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = read_trusted(path, &mut roots).map_err(failed)?;
    trusting(roots, &certificates).map_err(failed)
}

/// Reads the certificates of a file, and adds those of authorities to the roots.
fn read_trusted(path: &Path, roots: &mut RootCertStore) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = read_chain(path)?;
    for certificate in &certificates {
        if is_authority(certificate)? {
            roots.add(certificate.clone()).map_err(|err| failures::plain(&err))?;
        }
    }
    Ok(certificates)
}

/// Whether a certificate may sign others (RFC 5280 sections 4.2.1.3, 4.2.1.9). One of version 1 cannot say so, and may not.
fn is_authority(certificate: &CertificateDer<'_>) -> Result<bool, String> {
    let read = x509_cert::Certificate::from_der(certificate);
    let read = read.map_err(|err| format!("no certificate of RFC 5280: {err}"))?;
    let read = read.tbs_certificate();
    let failed =
        |err| format!("the certificate of {} has an extension that cannot be read: {err}", read.subject());
    let constraints = read.get_extension::<BasicConstraints>().map_err(failed)?;
    let usage = read.get_extension::<KeyUsage>().map_err(failed)?;
    Ok(constraints.is_some_and(|(_, it)| it.ca) && usage.is_none_or(|(_, it)| it.key_cert_sign()))
}

/// TLS for origins, which trusts the system's certificates, and those of a PEM file if there is one. A system without any is
/// logged, and the origins that need one fail.
///
/// # Errors
/// One line with the fix: the file is unusable.
pub fn client_for_origins(more: Option<&Path>) -> Result<ClientConfig, String> {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    let mut roots = RootCertStore::empty();
    // Systems have some that are no authorities to the library.
    roots.add_parsable_certificates(certificates.iter().cloned());
    if let Some(path) = more {
        let failed = |why: String| format!("[http] origin_ca {}: {why}", path.display());
        certificates.extend(read_trusted(path, &mut roots).map_err(failed)?);
    }
    if roots.is_empty() && more.is_none() {
        // A box without certificates still repairs over http.
        tracing::warn!(
            "this system has no certificates of authorities, so https origins fail; install ca-certificates, or give \
             [http] origin_ca"
        );
        return client_trusting_system(false, "");
    }
    trusting(roots, &certificates)
}

/// TLS that trusts authorities, and servers' certificates themselves.
fn trusting(roots: RootCertStore, certificates: &[CertificateDer<'_>]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let named = Named::of(roots, certificates, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| failures::plain(&err))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(named));
    Ok(config.with_no_client_auth())
}

impl Named {
    fn of(
        roots: RootCertStore,
        certificates: &[CertificateDer<'_>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let verifier = |roots| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()
        };
        // The library refuses to verify by no authority.
        let authorities = (!roots.is_empty()).then(|| verifier(roots)).transpose();
        Ok(Self {
            certificates: certificates.iter().map(|it| Digest::of(it)).collect(),
            authorities: authorities.map_err(|err| err.to_string())?,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Verifies a certificate that the file has.
    fn verify_named(own: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
        let read = Certificate::read(std::slice::from_ref(own));
        let read = read.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let now_ms = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000);
        if now_ms < read.not_before.unix_ms() {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now_ms > read.not_after.unix_ms() {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(())
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.contains(&Digest::of(own)) {
            return Self::verify_named(own, name, now).map(|()| ServerCertVerified::assertion());
        }
        let Some(authorities) = &self.authorities else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        authorities.verify_server_cert(own, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::make;
    use super::*;

    #[test]
    fn a_certificate_that_is_named_is_taken_for_its_names_and_in_its_time_alone() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["-addext", "subjectAltName=DNS:box.lan", "-days", "2"];
        if !make(folder.path(), "cert.pem", "key.pem", &names) {
            return;
        }
        let own = read_chain(&folder.path().join("cert.pem")).unwrap().remove(0);
        let valid = Certificate::read(std::slice::from_ref(&own)).unwrap();
        let at = |ms: i64| UnixTime::since_unix_epoch(std::time::Duration::from_millis(ms as u64));
        let verify = |name: &str, ms: i64| {
            Named::verify_named(&own, &ServerName::try_from(name.to_owned()).unwrap(), at(ms))
                .map_err(|err| failures::plain(&err))
        };
        let (first, last) = (valid.not_before.unix_ms(), valid.not_after.unix_ms());
        assert_eq!((verify("box.lan", first), verify("box.lan", last)), (Ok(()), Ok(())));
        assert_eq!(
            verify("other.lan", first).unwrap_err(),
            "the certificate is for box.lan, not for other.lan"
        );
        assert_eq!(verify("box.lan", last + 1000).unwrap_err(), "the certificate has ended");
        assert!(verify("box.lan", first - 1000).unwrap_err().contains("not valid yet"));
    }

    #[test]
    fn a_servers_certificate_in_the_file_is_no_authority_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let server =
            |constraints: &'static str| ["-addext", "subjectAltName=DNS:box.lan", "-addext", constraints];
        let signed = ["-CA", "box.pem", "-CAkey", "box.key", "-addext", "subjectAltName=DNS:other.lan"];
        let leaf = [&signed[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat();
        // OpenSSL takes the last extension of a kind in place of the one of its configuration.
        for (constraints, usage, is_authority) in [
            ("basicConstraints=critical,CA:FALSE", "keyUsage=digitalSignature", false),
            ("basicConstraints=critical,CA:FALSE", "keyUsage=keyCertSign", false),
            ("basicConstraints=critical,CA:TRUE", "keyUsage=digitalSignature", false),
            ("basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign,digitalSignature", true),
            ("basicConstraints=critical,CA:TRUE", "nsComment=any", true),
        ] {
            let made = make(
                folder.path(),
                "box.pem",
                "box.key",
                &[&server(constraints)[..], &["-addext", usage]].concat(),
            );
            if !made || !make(folder.path(), "other.pem", "other.key", &leaf) {
                return;
            }
            let mut roots = RootCertStore::empty();
            let certificates = read_trusted(&path("box.pem"), &mut roots).unwrap();
            assert_eq!(roots.is_empty(), !is_authority, "{constraints} {usage}");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let named = Named::of(roots, &certificates, &provider).unwrap();
            let verify = |file: &str, name: &'static str| {
                let own = read_chain(&path(file)).unwrap().remove(0);
                let name = ServerName::try_from(name).unwrap();
                named.verify_server_cert(&own, &certificates, &name, &[], UnixTime::now()).map(|_| ())
            };
            assert_eq!(verify("box.pem", "box.lan"), Ok(()), "{constraints} {usage}");
            assert!(verify("box.pem", "other.lan").is_err());
            let other = verify("other.pem", "other.lan");
            let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
            assert_eq!(other, if is_authority { Ok(()) } else { Err(unknown) }, "{constraints} {usage}");
            // Such a file is usable without any authority, beside the system's too.
            assert!(
                client_trusting(&path("box.pem")).is_ok()
                    && client_for_origins(Some(&path("box.pem"))).is_ok()
            );
        }
    }
}
