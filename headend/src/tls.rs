//! TLS towards origins and brokers: its failures in words for operators, and PEM files.
//!
//! The daemon has its own in `certificates`: it has listeners as well, and its operators have other means. `carousel`, which both
//! programs know, knows no TLS.

pub(crate) mod pem;

/// Text of a failure of a session with an origin, with the fix.
pub(crate) fn failure(err: &rustls::Error) -> String {
    use rustls::{CertificateError as Certificate, Error};
    match err {
        Error::InvalidCertificate(why) => match why {
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "the certificate of the origin has expired: renew it, or set the clock of this machine".to_owned()
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the certificate of the origin is not valid yet: set the clock of this machine".to_owned()
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the certificate of the origin is for another host: give the host that it names".to_owned()
            }
            Certificate::UnknownIssuer => {
                "the certificate of the origin is of an authority that this machine does not trust: name its PEM \
                 file in `pull_ca`, or add it to the certificates of the system"
                    .to_owned()
            },
            Certificate::Revoked => "the certificate of the origin is revoked: renew it".to_owned(),
            // By its text, since webpki is not a dependency.
            Certificate::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "the certificate of the origin is its own authority, or not one of a server: give it one of an authority \
                 that this machine trusts"
                    .to_owned()
            },
            _ => format!("the certificate of the origin cannot be verified ({err})"),
        },
        Error::InvalidMessage(_) => {
            "the origin does not use TLS at this port: give an http URL, or the port of https".to_owned()
        }
        Error::AlertReceived(_) => format!("the origin refuses a TLS session ({err})"),
        _ => format!("no TLS session ({err})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_words() {
        for (why, told) in [
            (rustls::CertificateError::Expired, "the origin has expired"),
            (rustls::CertificateError::NotValidForName, "the origin is for another host"),
            (
                rustls::CertificateError::UnknownIssuer,
                "authority that this machine does not trust: name its PEM file in `pull_ca`",
            ),
        ] {
            let text = failure(&rustls::Error::InvalidCertificate(why.clone()));
            assert!(text.contains(told) && !text.contains(&format!("{why:?}")), "{text}");
        }
        let plain = failure(&rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        assert!(plain.starts_with("the origin does not use TLS at this port: "), "{plain}");
    }
}
