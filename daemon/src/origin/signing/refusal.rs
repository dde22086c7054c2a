//! Refusals of a signature, distinguished from refusals of an object by the error document of S3 and CloudFront.
//!
//! The first are faults of the box: players get 502, or the answer of the next parent. The second stay 403 for players. Neither
//! document is passed on, since it may name the access key.

use memchr::memmem;

carousel::limits! {
    /// Bytes of the answer to a refused signed request that are read for its reason.
    pub(in crate::origin) const MAX_REFUSAL_BYTES: usize = 16 << 10, "bytes" {
        why: "Error documents of S3 have less than 1 KB; with a long string to sign some more.",
        full: "The reason is looked for in what was read.",
        free: "Holds for one response.",
        test: "a_refused_signature_is_the_fault_of_the_box_and_no_document_is_passed_on",
    }
}

carousel::reasons! {
    /// Why the server of a signed request refuses its signature.
    pub enum SignatureRefusal in "origin_signatures_refused" by "reason" {
        /// The time of the signature is not the server's: `RequestTimeTooSkewed`, or a request that has expired.
        Clock = "clock",
        /// The signature is not the one that the server computes: `SignatureDoesNotMatch`.
        Secret = "secret",
        /// The server does not know the key: `InvalidAccessKeyId`, `InvalidKey`.
        Key = "key",
        /// The bucket is in another region.
        Region = "region",
    }
}

impl SignatureRefusal {
    /// The remedy.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Clock => "set the clock of the box by NTP",
            Self::Secret => "put the secret of the access key into sign.secret_file",
            Self::Key => "correct sign.access_key (cloudfront: sign.key_pair_id)",
            Self::Region => "give the region of the bucket as sign.region",
        }
    }

    /// The reason in an error document; `None`: the refusal is not of the signature.
    pub(in crate::origin) fn of(document: &[u8]) -> Option<Self> {
        let has = |text: &str| memmem::find(document, text.as_bytes()).is_some();
        match text_of(document, "Code")? {
            b"RequestTimeTooSkewed" | b"RequestExpired" => Some(Self::Clock),
            // Presigned URLs.
            b"AccessDenied" if has("has expired") || has("not valid yet") || has("not yet valid") => {
                Some(Self::Clock)
            }
            b"SignatureDoesNotMatch" | b"MalformedPolicy" | b"MalformedSignature" => Some(Self::Secret),
            b"InvalidAccessKeyId" | b"InvalidKey" | b"MissingKey" => Some(Self::Key),
            b"AuthorizationQueryParametersError" | b"AuthorizationHeaderMalformed" => {
                Some(if has("region") { Self::Region } else { Self::Key })
            }
            _ => None,
        }
    }
}

/// Text of the first element of this name.
fn text_of<'a>(document: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let begin = memmem::find(document, format!("<{name}>").as_bytes())? + name.len() + 2;
    let rest = &document[begin..];
    Some(rest[..memmem::find(rest, b"<")?].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_s3_and_cloudfront_have_their_reason() {
        let of = |code: &str, message: &str| {
            let document = format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>"
            );
            SignatureRefusal::of(document.as_bytes())
        };
        assert_eq!(of("RequestTimeTooSkewed", ""), Some(SignatureRefusal::Clock));
        assert_eq!(of("AccessDenied", "Request has expired"), Some(SignatureRefusal::Clock));
        assert_eq!(of("AccessDenied", "Request is not valid yet"), Some(SignatureRefusal::Clock));
        assert_eq!(of("AccessDenied", "Access Denied"), None);
        assert_eq!(of("SignatureDoesNotMatch", "…"), Some(SignatureRefusal::Secret));
        assert_eq!(of("InvalidAccessKeyId", "…"), Some(SignatureRefusal::Key));
        assert_eq!(of("InvalidKey", "Unknown Key"), Some(SignatureRefusal::Key));
        let wrong = "Error parsing the X-Amz-Credential parameter; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        assert_eq!(of("AuthorizationQueryParametersError", wrong), Some(SignatureRefusal::Region));
        for none in ["", "<Code>", "<Code></Code>", "SignatureDoesNotMatch", "<html>403</html>"] {
            assert_eq!(SignatureRefusal::of(none.as_bytes()), None, "{none}");
        }
    }
}
