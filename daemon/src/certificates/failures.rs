//! Messages for operators about failures of TLS, in place of the library's.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Kind of a failure; the caller chooses the fix by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No trusted authority has signed the peer's certificate.
    Trust,
    /// The peer's certificate is for other names.
    Names,
    /// The peer requires a client certificate.
    OwnCertificate,
    /// The peer does not use TLS.
    NoTls,
    /// Anything else.
    Other,
}

/// The failure of TLS that caused `err`, if one did.
pub fn failure_of(err: &(dyn StdError + 'static)) -> Option<(FailureKind, String)> {
    if let Some(err) = err.downcast_ref::<Error>() {
        return Some((about(err), plain(err)));
    }
    // The inner error of an I/O error is not its source.
    let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner = inner.and_then(|it| failure_of(it));
    inner.or_else(|| err.source().and_then(failure_of))
}

/// Cause of an error for operators: a failure of TLS, or else the innermost cause, which is the most precise.
pub fn innermost_cause(err: &(dyn StdError + 'static)) -> String {
    if let Some((_, why)) = failure_of(err) {
        return why;
    }
    let mut cause = err;
    loop {
        // What an I/O error is made of is not its source.
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match inner.map(|it| it as &(dyn StdError + 'static)).or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            None => {
                let text = carousel::config::without_numbers(&cause.to_string());
                let looked_up = text.strip_prefix("failed to lookup address information: ");
                return looked_up
                    .map_or_else(|| text.clone(), |why| format!("the host has no address: {why}"));
            }
        }
    }
}

/// Whether a server presented an authority's own or a self-signed certificate: by the text of the error, since the webpki crate
/// is not a dependency.
fn is_authority(err: &CertificateError) -> bool {
    matches!(err, CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

fn about(err: &Error) -> FailureKind {
    match err {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => FailureKind::Trust,
        Error::InvalidCertificate(err) if is_authority(err) => FailureKind::Trust,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => FailureKind::Names,
        Error::AlertReceived(AlertDescription::CertificateRequired) => FailureKind::OwnCertificate,
        Error::InvalidMessage(_) => FailureKind::NoTls,
        _ => FailureKind::Other,
    }
}

/// The failure in plain words.
pub(super) fn plain(err: &Error) -> String {
    let words = match err {
        Error::InconsistentKeys(_) => "certificate and key do not belong together",
        Error::InvalidCertificate(err) => return of_certificate(err),
        Error::InvalidMessage(_) => "the server does not use TLS",
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "the peer asks for a client certificate",
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired => "the peer refuses the certificate that it was shown",
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
                "the peer has no version of TLS, or no cipher, in common"
            }
            AlertDescription::UnrecognisedName => "the peer has no certificate for that name",
            _ => return format!("the peer aborts the handshake: {alert:?}"),
        },
        Error::NoCertificatesPresented => "there is no certificate",
        _ => return err.to_string(),
    };
    words.to_owned()
}

fn of_certificate(err: &CertificateError) -> String {
    use CertificateError as Wrong;
    let words = match err {
        Wrong::BadEncoding => "the certificate is damaged",
        Wrong::Expired | Wrong::ExpiredContext { .. } => "the certificate has expired",
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "the certificate is not valid yet, or the clock is wrong"
        }
        Wrong::Revoked => "the certificate was revoked",
        Wrong::UnknownIssuer => "the certificate is of an authority that is not trusted here",
        Wrong::BadSignature => "the signature of the certificate is wrong",
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            "the certificate is for another purpose"
        }
        Wrong::NotValidForName => "the certificate is for other names",
        Wrong::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let names: Vec<&str> = presented.iter().map(|it| bare(it)).collect();
            return match &names[..] {
                [] => format!("the certificate is for no name, and {expected} was asked"),
                names => format!("the certificate is for {}, not for {expected}", names.join(", ")),
            };
        }
        Wrong::Other(_) if is_authority(err) => {
            "the certificate is signed by itself, or an authority's own, and not trusted here"
        }
        _ => return format!("the certificate is refused: {err}"),
    };
    words.to_owned()
}

/// The bare name of the library's `DnsName("box.lan")`.
fn bare(shown: &str) -> &str {
    let inner = shown.split_once('(').map_or(shown, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_the_librarys_words() {
        for (shown, name) in
            [("DnsName(\"box.lan\")", "box.lan"), ("IpAddress(10.0.0.1)", "10.0.0.1"), ("box", "box")]
        {
            assert_eq!(bare(shown), name);
        }
    }

    #[test]
    fn a_failure_is_found_below_other_errors() {
        let tls = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let below = io::Error::other(io::Error::other(tls));
        let (about, what) = failure_of(&below).unwrap();
        assert_eq!((about, what.contains("not trusted here")), (FailureKind::Trust, true), "{what}");
        assert_eq!(failure_of(&io::Error::other("no TLS at all")), None);
        assert_eq!(failure_of(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}
