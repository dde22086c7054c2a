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

use super::{Certificate, UnusableFile, failures, read_chain};

/// The fix where a file has a certificate that cannot be read.
const FIX: &str = "give a PEM file with certificates";

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
    let failed = |why: UnusableFile| format!("{}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = read_trusted(path, &mut roots).map_err(failed)?;
    trusting(roots, &certificates).map_err(failed)
}

/// Verifies servers by the authorities of a PEM file ([`read_authorities`]). One that has signed its certificate itself may be in
/// that file, and is taken for its names.
///
/// # Errors
/// The fault of the file, and the fix.
pub fn verifier_of_servers(path: &Path) -> Result<Arc<dyn ServerCertVerifier>, UnusableFile> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Authorities { roots, own } = read_authorities(path)?;
    Ok(Arc::new(Named::of(roots, &own, &provider).map_err(unreadable)?))
}

/// Certificates of a file that only authorities belong in.
#[derive(Debug)]
pub(super) struct Authorities {
    /// Those that may sign others.
    pub(super) roots: RootCertStore,
    /// Those that have signed themselves: each counts for its owner too, whether it may sign others or not.
    pub(super) own: Vec<CertificateDer<'static>>,
}

/// Reads the authorities of a file. Certificates that others have signed and that may sign none are left out: whoever has the key of
/// one could sign with it.
pub(super) fn read_authorities(path: &Path) -> Result<Authorities, UnusableFile> {
    let mut roots = RootCertStore::empty();
    let mut own = read_trusted(path, &mut roots)?;
    own.retain(is_signed_by_itself);
    if roots.is_empty() && own.is_empty() {
        return Err(UnusableFile {
            what:
                "none of its certificates is an authority's (CA:TRUE, and keyCertSign if it has a key usage)"
                    .to_owned(),
            fix: "give that of the authority that has signed them",
        });
    }
    Ok(Authorities { roots, own })
}

fn is_signed_by_itself(certificate: &CertificateDer<'_>) -> bool {
    let read = x509_cert::Certificate::from_der(certificate);
    read.is_ok_and(|it| it.tbs_certificate().subject() == it.tbs_certificate().issuer())
}

pub(super) fn unreadable(what: String) -> UnusableFile {
    UnusableFile { what, fix: FIX }
}

/// Reads the certificates of a file, and adds those of authorities to the roots.
fn read_trusted(
    path: &Path,
    roots: &mut RootCertStore,
) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
    let certificates = read_chain(path)?;
    for certificate in &certificates {
        if is_authority(certificate).map_err(unreadable)? {
            roots.add(certificate.clone()).map_err(|err| unreadable(failures::plain(&err)))?;
        }
    }
    Ok(certificates)
}

/// Whether a certificate may sign others (RFC 5280 sections 4.2.1.3, 4.2.1.9). One of version 1 cannot say so, and may not.
pub(super) fn is_authority(certificate: &CertificateDer<'_>) -> Result<bool, String> {
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
/// The fault of the file, and the fix.
pub fn client_for_origins(more: Option<&Path>) -> Result<ClientConfig, UnusableFile> {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    let mut roots = RootCertStore::empty();
    // Systems have some that are not authorities to the library.
    roots.add_parsable_certificates(certificates.iter().cloned());
    if let Some(path) = more {
        certificates.extend(read_trusted(path, &mut roots)?);
    }
    if roots.is_empty() && more.is_none() {
        // A box without certificates still repairs over http.
        tracing::warn!(
            "this system has no certificates of authorities, so https origins fail; install ca-certificates, or give \
             [http] origin_ca"
        );
        return client_trusting_system(false, "").map_err(unreadable);
    }
    trusting(roots, &certificates)
}

/// TLS that trusts authorities, and servers' certificates themselves.
fn trusting(roots: RootCertStore, certificates: &[CertificateDer<'_>]) -> Result<ClientConfig, UnusableFile> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let named = Named::of(roots, certificates, &provider).map_err(unreadable)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| unreadable(failures::plain(&err)))?
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
        verify_time(own, now)
    }
}

/// Verifies that it is in its time.
pub(super) fn verify_time(own: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
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
pub(super) mod tests {
    use super::super::tests::make;
    use super::*;

    /// Extensions of a certificate that `box.key` has signed itself, and whether it may sign others. OpenSSL takes the last extension
    /// of a kind in place of the one of its configuration.
    pub(in super::super) const KINDS: [(&str, &str, bool); 5] = [
        ("basicConstraints=critical,CA:FALSE", "keyUsage=digitalSignature", false),
        ("basicConstraints=critical,CA:FALSE", "keyUsage=keyCertSign", false),
        ("basicConstraints=critical,CA:TRUE", "keyUsage=digitalSignature", false),
        ("basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign,digitalSignature", true),
        ("basicConstraints=critical,CA:TRUE", "nsComment=any", true),
    ];

    /// Arguments for a certificate that `box.key` signs for another name.
    pub(in super::super) const FOREIGN_LEAF: [&str; 10] = [
        "-CA",
        "box.pem",
        "-CAkey",
        "box.key",
        "-subj",
        "/CN=other",
        "-addext",
        "subjectAltName=DNS:other.lan",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];

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
        assert_eq!(verify("box.lan", last + 1000).unwrap_err(), "the certificate has expired");
        assert!(verify("box.lan", first - 1000).unwrap_err().contains("not valid yet"));
    }

    #[test]
    fn a_servers_certificate_in_the_file_is_no_authority_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let server =
            |constraints: &'static str| ["-addext", "subjectAltName=DNS:box.lan", "-addext", constraints];
        for (constraints, usage, is_authority) in KINDS {
            let made = make(
                folder.path(),
                "box.pem",
                "box.key",
                &[&server(constraints)[..], &["-addext", usage]].concat(),
            );
            if !made || !make(folder.path(), "other.pem", "other.key", &FOREIGN_LEAF) {
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
            // Where only authorities belong, a leaf that another has signed is none of them.
            let own = read_authorities(&path("box.pem")).unwrap();
            assert_eq!((own.roots.is_empty(), own.own.len()), (!is_authority, 1));
            let why = verifier_of_servers(&path("other.pem")).unwrap_err();
            assert!(
                why.what.contains("CA:TRUE") && why.fix.starts_with("give that of the authority"),
                "{why}"
            );
            let [authority, leaf] = ["box.pem", "other.pem"].map(|it| std::fs::read(path(it)).unwrap());
            std::fs::write(path("both.pem"), [authority, leaf].concat()).unwrap();
            let both = read_authorities(&path("both.pem")).unwrap();
            assert_eq!((both.roots.len(), both.own), (usize::from(is_authority), own.own));
        }
    }
}
