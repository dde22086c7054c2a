//! Signed URLs of Amazon CloudFront ("Serving private content with signed URLs" of its Developer Guide).
//!
//! | policy | when | what is added to the query |
//! |---|---|---|
//! | canned | neither `resource` nor `source_ip` | `Expires`, `Signature`, `Key-Pair-Id`, `Hash-Algorithm`: signed is the URL with its query |
//! | custom | either of them | `Policy`, `Signature`, `Key-Pair-Id`, `Hash-Algorithm`: signed is the policy |
//!
//! The policy is JSON without white space, with members in the order of CloudFront's examples; CloudFront reconstructs a canned
//! policy itself. With `Hash-Algorithm=SHA256` the digest is SHA-256 for keys of RSA and ECDSA; without it SHA-1, which ring does
//! not support for signing. A signature of a custom policy with `resource` is valid for many URLs, and is reused for half of its
//! lifetime.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;

use super::{SIGNED_FOR_S, Signing};
use crate::certificates::UnusableFile;

/// Parameters that CloudFront removes from a query before it verifies the signature.
const RESERVED: [&str; 5] = ["Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"];

/// A private key of a trusted key group.
#[derive(Debug, Clone)]
pub(super) struct Key(Arc<dyn SigningKey>);

impl Key {
    /// Reads a key in PEM: PKCS #1, PKCS #8 or SEC 1.
    ///
    /// # Errors
    /// The fault, and its fix.
    pub(super) fn read(pem: &str, file: &Path) -> Result<Self, UnusableFile> {
        let file = file.display();
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| UnusableFile {
            what: format!("{file} has no private key, or one with a passphrase"),
            fix: "give a PEM file without",
        })?;
        let other_kind = || UnusableFile {
            what: format!("{file} is a key of a kind that CloudFront does not take"),
            fix: "give a key of RSA with 2048 bits, or of ECDSA with the curve prime256v1",
        };
        let key = Self(rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| other_kind())?);
        if key.signature(&[]).is_none() {
            return Err(other_kind());
        }
        Ok(key)
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let schemes = [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        self.0.choose_scheme(&schemes)?.sign(message).ok()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A reusable signature for many URLs of a route.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Key, u64, String)>>);

/// Signs a URL.
pub(super) fn sign(signing: &Signing, key: &Key, kept: &Kept, uri: &Uri, now_s: u64) -> Option<String> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let pairs = uri.query().unwrap_or_default().split('&');
    let rest: Vec<&str> =
        pairs.filter(|it| !it.is_empty() && !RESERVED.contains(&name(it).as_str())).collect();
    let mut url = format!("{scheme}://{authority}{}", uri.path());
    if !rest.is_empty() {
        url = format!("{url}?{}", rest.join("&"));
    }
    let parameters = parameters(signing, key, kept, &url, now_s)?;
    let glue = if rest.is_empty() { '?' } else { '&' };
    Some(format!("{url}{glue}{parameters}"))
}

fn parameters(signing: &Signing, key: &Key, kept: &Kept, url: &str, now_s: u64) -> Option<String> {
    let expires = now_s + SIGNED_FOR_S;
    let id = &signing.key_pair_id;
    let Some(resource) = &signing.resource else {
        let policy = policy(url, expires, signing.source_ip.as_deref())?;
        let begin = match signing.source_ip {
            Some(_) => format!("Policy={}", text(policy.as_bytes())),
            None => format!("Expires={expires}"),
        };
        return signed(&begin, &policy, key, id);
    };
    let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    // After a clock that was set back a new one is made as well.
    let is_good =
        |it: &&(Key, u64, String)| it.0.is(key) && (now_s + SIGNED_FOR_S / 2..=expires).contains(&it.1);
    if let Some((.., parameters)) = kept.as_ref().filter(is_good) {
        return Some(parameters.clone());
    }
    let policy = policy(resource, expires, signing.source_ip.as_deref())?;
    let made = signed(&format!("Policy={}", text(policy.as_bytes())), &policy, key, id)?;
    *kept = Some((key.clone(), expires, made.clone()));
    Some(made)
}

fn signed(begin: &str, policy: &str, key: &Key, id: &str) -> Option<String> {
    let signature = text(&key.signature(policy.as_bytes())?);
    Some(format!("{begin}&Signature={signature}&Key-Pair-Id={id}&Hash-Algorithm=SHA256"))
}

fn policy(resource: &str, expires: u64, source_ip: Option<&str>) -> Option<String> {
    // A JSON string.
    let quoted = |it: &str| serde_json::to_string(it).ok();
    let address = match source_ip {
        Some(network) => format!(",\"IpAddress\":{{\"AWS:SourceIp\":{}}}", quoted(network)?),
        None => String::new(),
    };
    Some(format!(
        "{{\"Statement\":[{{\"Resource\":{},\"Condition\":{{\"DateLessThan\":{{\"AWS:EpochTime\":{expires}}}{address}}}}}]}}",
        quoted(resource)?
    ))
}

/// Base64 with CloudFront's replacements for characters that are special in a query.
fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes).replace('+', "-").replace('=', "_").replace('/', "~")
}

/// Whether a policy's resource, with CloudFront's `*` and `?`, can match URLs below `base`.
pub(super) fn covers(resource: &str, base: &str) -> bool {
    let head = resource.split(['*', '?']).next().unwrap_or_default();
    head.len() < resource.len() && (base.starts_with(head) || head.starts_with(base))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ring::signature::{ECDSA_P256_SHA256_ASN1, KeyPair as _, UnparsedPublicKey};

    use super::super::SigningForm;
    use super::*;

    // Keys made for these tests (openssl genrsa, openssl ecparam); they are used nowhere else.
    const RSA: &str = include_str!("example_rsa.pem");
    const ECDSA: &str = include_str!("example_ecdsa.pem");
    const NOW_S: u64 = 1_369_353_600;
    const HOST: &str = "https://d111111abcdef8.cloudfront.net";

    fn signing(resource: Option<&str>, source_ip: Option<&str>) -> Signing {
        Signing {
            form: SigningForm::CloudFront,
            region: String::new(),
            access_key: String::new(),
            key_pair_id: "K2JCJMDEHXQW5F".to_owned(),
            resource: resource.map(str::to_owned),
            source_ip: source_ip.map(str::to_owned),
            secret_file: PathBuf::new(),
        }
    }

    fn key(pem: &str) -> Key {
        Key::read(pem, Path::new("key.pem")).unwrap()
    }

    /// By botocore 1.44.8 (`CloudFrontSigner` with RSA and SHA-256) and @aws-sdk/cloudfront-signer 3.1166.0 (`algorithm: "SHA256"`), which
    /// make the same signatures of `example_rsa.pem`.
    #[test]
    fn signatures_are_those_of_amazons_own_signers() {
        let key = key(RSA);
        let of = |signing: &Signing, url: &str| {
            sign(signing, &key, &Kept::default(), &format!("{HOST}{url}").parse().unwrap(), NOW_S).unwrap()
        };
        let canned = signing(None, None);
        assert_eq!(
            of(&canned, "/a%20b/seg-1.m4s"),
            format!(
                "{HOST}/a%20b/seg-1.m4s?Expires=1369353900&Signature=Qe~3km265u2mN6yYreocwUIFke46Sgv5QsKi4lu1gmigBewqYOjdkviPN5-WKrmk3tIVzYzYqcqslA-eL3RWHxgmIZ0urYrYcViLyRg7u4HYUZc0YZLWaoft6sV3W4f6Ty1yJHZd-sjUSyuv4kxlVYNcvNgewOhKfxLof~AjmNOC8PABbFXNfukQpWHH5TxR6j1lZZtPaBVNWh5zctB6wOXhTR8HRpEMQSM0yohBjFr9OmLWY1ijHNJrA21pPr1Vt3lAghDsovP8UInDeQi23vOnYAkJm1xn2Ih-KKho0Ayh25yy4Y8g30PB2FgQS9BI5Tsim1Y~j3Gh2U6Dtrp9LA__&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"
            )
        );
        // Parameters of CloudFront from a player are not part of the URL.
        assert_eq!(
            of(&canned, "/v/i.mpd?Expires=1&x=1&Signature=a=&y=%2F&Policy=&Key-Pair-Id&Hash-Algorithm=SHA1"),
            format!(
                "{HOST}/v/i.mpd?x=1&y=%2F&Expires=1369353900&Signature=Gn0R4IkurrdNPuIpIM0365NdSmvVwt-WZmPpHtgtaxTzcwfK6vKO5HPQAgIM~Ma15Lh7NOOCo6cTA3yqpn4hNya0a9IJ2Ib3RD3OGtUXJJCICtXAqVOldJGJBDz7MVg~smAJ-~eLSF2p~B1A1zejtHQEgGllg7Pgw0GytU1uAamb8B66GwrQigIgTMwCqzfWjIHt6LsBhuqSVtST4oEkCq7YFGTchv1ybHyncwqfTXtwypLEN1gtNST2jPhqhNr-npsrI~qMMvk2uIpy0Z9LKfxLgULSLiZBJZ9iGnlRLKAv49T8tnl~YVdVgCIpr56cbtP26kG3DmbO~D1Cc~GtuQ__&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"
            )
        );
        assert_eq!(
            of(&signing(None, Some("192.0.2.0/24")), "/v/i.mpd"),
            format!(
                "{HOST}/v/i.mpd?Policy=eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNlIjoiaHR0cHM6Ly9kMTExMTExYWJjZGVmOC5jbG91ZGZyb250Lm5ldC92L2kubXBkIiwiQ29uZGl0aW9uIjp7IkRhdGVMZXNzVGhhbiI6eyJBV1M6RXBvY2hUaW1lIjoxMzY5MzUzOTAwfSwiSXBBZGRyZXNzIjp7IkFXUzpTb3VyY2VJcCI6IjE5Mi4wLjIuMC8yNCJ9fX1dfQ__&Signature=GkfD95H1vGQWVHzqYTOPfSwGxiJVA96eaAFCkzJcRL5deksPPKCZRF-u22WWIissxDr65FZ7NTYE0k0yLsODhSKLlINYdInfbWrG90adpP1m7uZtHOIVmwA09~MjSTzS06CbJwI5aJ3SbmjTb3aRLfz1lysDYPlZZv8beE9Q1vyvf1rCAaqDYUf4wQd4ZE~tW3RZddMd8q41g8BElOvPIIO4~S5PVjJ1np2EE~NP72YdRiQlaKGSnMVvpUQwXRCajNZos0mbh~xHi8K33nor2VkC1JFsOgPsWj8d9~5bZ9vwcj~0d-iJXfeQtrE9kAX4wIUTyUxMqng8kvkb3N2Beg__&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"
            )
        );
        assert_eq!(
            of(&signing(Some(&format!("{HOST}/v/*")), None), "/v/i.mpd?x=1"),
            format!(
                "{HOST}/v/i.mpd?x=1&Policy=eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNlIjoiaHR0cHM6Ly9kMTExMTExYWJjZGVmOC5jbG91ZGZyb250Lm5ldC92LyoiLCJDb25kaXRpb24iOnsiRGF0ZUxlc3NUaGFuIjp7IkFXUzpFcG9jaFRpbWUiOjEzNjkzNTM5MDB9fX1dfQ__&Signature=FCYxWOHRZ-qbQGY~mmtbvjGJqywvEhqMIN-0CPcnEAm5Q1mcupOd6U10GEB5TbZxQ4DN~vd3VBLld04rUM-llByUn1zj5ckDmorOpPbEHVCYhdIO1F9E~ooGBWPE6P-Z458qoCpp5UfaaHxMuSHJ1cYvOP3EjCs8gNllBjHL8eEK11cJtVWssSWz5c6ptHt9EkQzPugwILLAxN3yc1v5kvcYYqfqcpjhXwEHonGhEB6xskPp8RSn4Z3xv39ESveXAyN72a5cm6Tc1BlnVD6s~QS7~LKEE-Lgo6Mbt-8-RJynrP3FRVmrNOEs33WBEXGabhk2FWK5Pdm87teioKTAzw__&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"
            )
        );
    }

    #[test]
    fn a_signature_with_ecdsa_is_of_the_policy() {
        let url = sign(
            &signing(None, None),
            &key(ECDSA),
            &Kept::default(),
            &format!("{HOST}/a").parse().unwrap(),
            NOW_S,
        );
        let url = url.unwrap();
        let signature = url.split("Signature=").nth(1).unwrap().split('&').next().unwrap();
        let signature = signature.replace('-', "+").replace('_', "=").replace('~', "/");
        let policy = format!(
            "{{\"Statement\":[{{\"Resource\":\"{HOST}/a\",\"Condition\":{{\"DateLessThan\":{{\"AWS:EpochTime\":1369353900}}}}}}]}}"
        );
        let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(ECDSA.as_bytes()).unwrap() else {
            panic!("of another form")
        };
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            der.secret_pkcs8_der(),
            &ring::rand::SystemRandom::new(),
        );
        let public =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.unwrap().public_key().as_ref().to_vec());
        public.verify(policy.as_bytes(), &STANDARD.decode(signature).unwrap()).unwrap();
    }

    #[test]
    fn one_signature_does_for_a_resource_until_half_of_its_time() {
        let (kept, first) = (Kept::default(), key(ECDSA));
        let signing = signing(Some(&format!("{HOST}/*")), None);
        let of = |key: &Key, path: &str, now_s| {
            let url = sign(&signing, key, &kept, &format!("{HOST}{path}").parse().unwrap(), now_s).unwrap();
            url.split_once("Policy=").unwrap().1.to_owned()
        };
        // Each signature with ECDSA is another one.
        let made = of(&first, "/a", NOW_S);
        assert_eq!(of(&first, "/b?x", NOW_S + 150), made);
        let next = of(&first, "/b", NOW_S + 151);
        assert_ne!(next, made);
        assert_ne!(of(&first, "/b", NOW_S), next, "the clock was set back");
        let last = of(&first, "/b", NOW_S);
        assert_ne!(of(&key(ECDSA), "/b", NOW_S), last, "the key was read again");
    }

    #[test]
    fn keys_that_cannot_sign_are_refused() {
        let fix = |pem: &str| Key::read(pem, Path::new("key.pem")).unwrap_err().to_string();
        assert_eq!(
            fix("nothing"),
            "key.pem has no private key, or one with a passphrase; give a PEM file without"
        );
        // openssl genpkey -algorithm ed25519
        let other = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n";
        assert!(fix(other).contains("prime256v1"), "{}", fix(other));
        assert!(fix(&RSA.replace("RSA PRIVATE", "EC PRIVATE")).contains("of a kind"));
    }

    #[test]
    fn a_resource_covers_a_base() {
        let base = "https://h/v/";
        for resource in ["https://h/v/*", "http*://h/*", "*", "https://h/v/?.mpd*", "https://h/*/x"] {
            assert!(covers(resource, base), "{resource}");
        }
        for resource in ["https://h/v/i.mpd", "https://other/*", "https://h/w/*", ""] {
            assert!(!covers(resource, base), "{resource}");
        }
    }
}
