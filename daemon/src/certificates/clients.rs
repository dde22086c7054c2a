//! Client certificates: those of the authorities of a file, and those in it that are signed by themselves.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use carousel::Digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::named::{Authorities, is_authority, read_authorities, unreadable, verify_time};
use super::{UnusableFile, failures};

#[derive(Debug)]
struct Clients {
    /// Digests of the certificates that are signed by themselves.
    own: HashSet<Digest>,
    /// None if there are only such.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    /// Names by which a client finds its certificate.
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Verifies clients by the authorities of a PEM file. A client that has signed its certificate itself is known by that, byte for
/// byte, and signs none for others.
///
/// # Errors
/// The fault of the file, and the fix.
pub fn verifier_of_clients(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, UnusableFile> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let Authorities { roots, own } = read_authorities(path)?;
    let mut all = RootCertStore { roots: roots.roots.clone() };
    for certificate in &own {
        if !is_authority(certificate).map_err(unreadable)? {
            all.add(certificate.clone()).map_err(|err| unreadable(failures::plain(&err)))?;
        }
    }
    let verifier =
        |roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let authorities = (!roots.is_empty()).then(|| verifier(roots)).transpose();
    Ok(Arc::new(Clients {
        own: own.iter().map(|it| Digest::of(it)).collect(),
        authorities: authorities.map_err(|err| unreadable(err.to_string()))?,
        subjects: all.subjects(),
        algorithms,
    }))
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.own.contains(&Digest::of(own)) {
            return verify_time(own, now).map(|()| ClientCertVerified::assertion());
        }
        let Some(authorities) = &self.authorities else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        authorities.verify_client_cert(own, intermediates, now)
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
    use super::super::named::tests::{FOREIGN_LEAF, KINDS};
    use super::super::read_chain;
    use super::super::tests::make;
    use super::*;

    #[test]
    fn only_an_authority_in_the_file_may_sign_clients() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (constraints, usage, is_authority) in KINDS {
            let arguments = ["-addext", constraints, "-addext", usage, "-days", "2"];
            let made = make(folder.path(), "box.pem", "box.key", &arguments);
            if !made || !make(folder.path(), "other.pem", "other.key", &FOREIGN_LEAF) {
                return;
            }
            let verifier = verifier_of_clients(&path("box.pem")).unwrap();
            assert_eq!(verifier.root_hint_subjects().len(), 1);
            let verify = |file: &str, ahead_s: u64| {
                let chain = read_chain(&path(file)).unwrap();
                let now = UnixTime::now().as_secs() + ahead_s;
                let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
                verifier.verify_client_cert(&chain[0], &[], now).map(|_| ())
            };
            // Its owner, in its time.
            assert_eq!(verify("box.pem", 0), Ok(()), "{constraints} {usage}");
            let expired = Error::InvalidCertificate(CertificateError::Expired);
            assert_eq!(verify("box.pem", 3 * 86400), Err(expired));
            // What its key has signed.
            let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
            let signed = verify("other.pem", 0);
            assert_eq!(signed, if is_authority { Ok(()) } else { Err(unknown) }, "{constraints} {usage}");
            // A file with a leaf alone is a mistake; beside an authority the leaf is left out.
            let why = verifier_of_clients(&path("other.pem")).err().unwrap();
            assert!(
                why.what.contains("CA:TRUE") && why.fix.starts_with("give that of the authority"),
                "{why}"
            );
        }
    }
}
