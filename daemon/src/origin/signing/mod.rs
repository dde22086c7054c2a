//! Signed requests to origins: presigned URLs of S3 (AWS Signature Version 4), tokens of Bunny CDN, signed URLs of CloudFront.
//!
//! A request is signed just before it is sent, when its receiver is known: the cache key, circuit breakers, logs and parents
//! use the unsigned URL. Signed URLs are valid for [`SIGNED_FOR_S`], which tolerates small clock differences.
//!
//! | form | what is added |
//! |---|---|
//! | `s3` | `X-Amz-…` in the query, signed for GET or HEAD with the key of `base`'s bucket. The path is encoded as S3 does; a query is left out |
//! | `bunny` | `token=HS256-…&expires=…`: HMAC-SHA256 over path, time and sorted query (bunny.net, "Token Authentication V2") |
//! | `cloudfront` | a canned or a custom policy, signed by RSA or ECDSA: see `cloudfront.rs` |

mod cloudfront;
mod refusal;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carousel::config::{Mistake, plain};
use carousel::time::{Instant, WallTime};
use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::options::{ByBase, Route};
use super::parents::{ParentGroup, signed_bases};
use crate::certificates::UnusableFile;
use crate::clock;

pub(super) use refusal::MAX_REFUSAL_BYTES;
pub use refusal::SignatureRefusal;

/// Lifetime of a signature, in seconds.
const SIGNED_FOR_S: u64 = 300;
/// Interval at which a secret's file is checked.
const LOOK: Duration = Duration::from_secs(5);
/// Characters that S3 does not encode in paths.
const S3_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// `[route.sign]`, `[parent.member.sign]`: how requests to the origin of a route, or to a parent, are signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// `s3` (AWS Signature Version 4: Amazon S3, MinIO, R2 …), `bunny` (token authentication of bunny.net), or `cloudfront` (signed URLs of
    /// Amazon CloudFront).
    pub form: SigningForm,
    /// Region of the bucket: `us-east-1` where the server has none.
    #[serde(default = "Signing::default_region")]
    pub region: String,
    /// Id of the access key, for `s3`.
    #[serde(default)]
    pub access_key: String,
    /// Id of the public key, for `cloudfront`.
    #[serde(default)]
    pub key_pair_id: String,
    /// URLs that a signature of `cloudfront` covers, with `*` and `?`, such as `https://d111111abcdef8.cloudfront.net/vod/*`: a
    /// custom policy, whose signature serves many requests. Left out: the requested URL only.
    #[serde(default)]
    pub resource: Option<String>,
    /// The only addresses that CloudFront takes the signature from: an IPv4 address or network, the box's own as CloudFront sees it.
    #[serde(default)]
    pub source_ip: Option<String>,
    /// File with the secret: the secret access key, the pull zone's token key, or the private key in PEM (RSA with 2048 bits, or ECDSA with
    /// prime256v1). Read again when it changes.
    pub secret_file: PathBuf,
}

/// Form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningForm {
    /// A presigned URL.
    S3,
    /// A token and its expiry.
    Bunny,
    /// A policy and its signature.
    CloudFront,
}

impl Signing {
    fn default_region() -> String {
        "us-east-1".to_owned()
    }

    /// Every mistake in the signing of a route.
    pub(super) fn mistakes_of(route: &Route, at: usize) -> Vec<Mistake> {
        let Some(signing) = &route.sign else { return Vec::new() };
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: &str, fix: &str| {
            all.push(Mistake::of_value(&format!("route[{at}].{key}"), what, fix));
        };
        signing.mistakes(std::slice::from_ref(&route.base), &mut wrong);
        if route.host_header.as_deref().is_some_and(|it| it != "origin") {
            wrong("host_header", "a signature is for the host of base", "leave host_header out");
        }
        if !route.methods.is_empty() && route.methods != Route::default_methods() {
            wrong("methods", "only GET and HEAD are signed", "leave methods out");
        }
        all
    }

    /// Every mistake in it, for URLs below `bases`: key, mistake and fix.
    pub(super) fn mistakes(&self, bases: &[String], mut wrong: impl FnMut(&str, &str, &str)) {
        if self.form == SigningForm::S3 && self.access_key.is_empty() {
            wrong("sign.access_key", "s3 needs one", "give the id of the access key");
        }
        if self.form != SigningForm::S3 {
            let given = [
                ("sign.region", self.region != Self::default_region()),
                ("sign.access_key", !self.access_key.is_empty()),
            ];
            for (key, _) in given.into_iter().filter(|it| it.1) {
                wrong(key, "only s3 has one", "leave it out");
            }
        }
        let is_cloudfront = self.form == SigningForm::CloudFront;
        if !is_cloudfront && !self.key_pair_id.is_empty() {
            wrong("sign.key_pair_id", "only cloudfront has one", "leave it out");
        }
        // Letters and digits: it goes into the query unencoded.
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|it| it.is_ascii_alphanumeric());
        if is_cloudfront && !is_id(&self.key_pair_id) {
            wrong(
                "sign.key_pair_id",
                "cloudfront needs one",
                "give the id that CloudFront shows for the public key, such as K2JCJMDEHXQW5F",
            );
        }
        if let Some(resource) = &self.resource {
            if !is_cloudfront {
                wrong("sign.resource", "only cloudfront has one", "leave it out");
            } else if let Some(base) = bases.iter().find(|it| !cloudfront::covers(resource, it)) {
                let what = format!("{resource:?} is not for what is below {base}");
                wrong("sign.resource", &what, &format!("give {base}*"));
            }
        }
        if let Some(network) = &self.source_ip {
            let is_network = network.parse::<ipnetwork::Ipv4Network>().is_ok();
            if !is_cloudfront {
                wrong("sign.source_ip", "only cloudfront has one", "leave it out");
            } else if !is_network && network.parse::<Ipv4Addr>().is_err() {
                let what = format!("{network:?} is not an IPv4 address or network");
                wrong("sign.source_ip", &what, "give it as \"192.0.2.7\" or \"192.0.2.0/24\"");
            }
        }
    }

    /// Reads the secret, to report mistakes before requests fail.
    ///
    /// # Errors
    /// The fault, and its fix.
    pub fn check(&self) -> Result<(), UnusableFile> {
        Value::read(self.form, &self.secret_file).map(|_| ())
    }
}

/// A parsed secret.
#[derive(Clone)]
enum Value {
    Text(String),
    Key(cloudfront::Key),
}

impl Value {
    fn read(form: SigningForm, file: &Path) -> Result<Self, UnusableFile> {
        let text = std::fs::read_to_string(file).map_err(|err| {
            let fix = match err.kind() {
                ErrorKind::PermissionDenied => {
                    "let the group of skycached read it: chgrp skycache, chmod 640"
                }
                _ => "name the file with the secret",
            };
            UnusableFile { what: format!("{} cannot be read: {}", file.display(), plain(&err)), fix }
        })?;
        let text = text.trim();
        match form {
            _ if text.is_empty() => Err(UnusableFile {
                what: format!("{} is empty", file.display()),
                fix: "put the secret into it",
            }),
            SigningForm::S3 | SigningForm::Bunny => Ok(Self::Text(text.to_owned())),
            SigningForm::CloudFront => cloudfront::Key::read(text, file).map(Self::Key),
        }
    }
}

/// A secret, and the time of the last check of its file.
#[derive(Default)]
struct Secret {
    looked_at: Option<Instant>,
    modified: Option<SystemTime>,
    value: Option<Value>,
}

/// Name of an object that `skycached check` asks S3 for: none has it.
const PROBED: &str = "skycached-check";

/// The routes and parents whose requests are signed.
pub(super) struct Signers {
    routes: ByBase<(Signing, cloudfront::Kept)>,
    secrets: Mutex<HashMap<(PathBuf, SigningForm), Secret>>,
}

impl std::fmt::Debug for Signers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signers").finish_non_exhaustive()
    }
}

impl Signers {
    /// The signers of a configuration.
    pub(super) fn new(routes: &[Route], groups: &[ParentGroup]) -> Self {
        let of_routes = routes.iter().filter_map(|it| Some((it.base.clone(), it.sign.as_ref()?)));
        let bases = of_routes.chain(signed_bases(groups));
        let all = bases.map(|(base, signing)| (base, (signing.clone(), cloudfront::Kept::default())));
        Self { routes: ByBase::of_bases(all), secrets: Mutex::default() }
    }

    /// The signed form of a request's URL; `None`: it is sent unsigned.
    ///
    /// # Errors
    /// If it cannot be signed: without its signature it would be refused.
    pub(super) fn sign(&self, method: &Method, uri: &Uri, now: WallTime) -> Option<Result<Uri, ()>> {
        if self.routes.is_empty() || !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let url = uri.to_string();
        let ((signing, kept), _) = self.routes.of(&url)?;
        let now_s = now.unix_seconds();
        let signed = self.secret(signing.form, &signing.secret_file).and_then(|secret| match secret {
            Value::Key(key) => cloudfront::sign(signing, &key, kept, uri, now_s),
            Value::Text(secret) if signing.form == SigningForm::S3 => s3(signing, &secret, method, &url, now),
            Value::Text(secret) => bunny(&secret, uri, now_s + SIGNED_FOR_S),
        });
        Some(signed.and_then(|it| it.parse().ok()).ok_or(()))
    }

    /// The URL whose answer shows whether the signatures for `url`, a base as configured, are right; `None`: its requests are
    /// not signed. It is that of an object of S3 where `url` is a folder, which cannot be signed itself.
    pub(super) fn probe_url(&self, url: &str) -> Option<String> {
        // As requests have it: with a path.
        let url = url.parse::<Uri>().ok()?.to_string();
        let ((signing, _), _) = self.routes.of(&url)?;
        let is_folder = signing.form == SigningForm::S3 && url.ends_with('/');
        Some(if is_folder { format!("{url}{PROBED}") } else { url })
    }

    fn secret(&self, form: SigningForm, file: &Path) -> Option<Value> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.entry((file.to_path_buf(), form)).or_default();
        let now = clock::now();
        if secret.looked_at.is_none_or(|at| now.since(at) >= LOOK) {
            let is_first = secret.looked_at.replace(now).is_none();
            let modified = std::fs::metadata(file).and_then(|it| it.modified()).ok();
            if is_first || modified != secret.modified {
                secret.modified = modified;
                match Value::read(form, file) {
                    Ok(value) => secret.value = Some(value),
                    Err(why) => {
                        tracing::error!("sign.secret_file: {why}; what was read before counts");
                    }
                }
            }
        }
        secret.value.clone()
    }
}

/// A presigned URL.
fn s3(signing: &Signing, secret: &str, method: &Method, url: &str, now: WallTime) -> Option<String> {
    let mut url: url::Url = url.parse().ok()?;
    let key = percent_decode_str(url.path()).decode_utf8().ok()?.into_owned();
    // A bucket, or a folder in one: S3 would answer with a listing.
    if key.ends_with('/') {
        return None;
    }
    url.set_path(&utf8_percent_encode(&key, S3_PATH).to_string());
    url.set_query(None);
    let now = jiff_of_s3::Timestamp::from_second(i64::try_from(now.unix_seconds()).ok()?).ok()?;
    let method = if *method == Method::HEAD { rusty_s3::Method::Head } else { rusty_s3::Method::Get };
    let none = std::iter::empty();
    let (key, region) = (&signing.access_key, &signing.region);
    let signed = rusty_s3::signing::sign(
        &now,
        method,
        url,
        key,
        secret,
        None,
        region,
        SIGNED_FOR_S,
        none.clone(),
        none,
    );
    Some(signed.into())
}

/// A URL with a token of Bunny CDN.
fn bunny(secret: &str, uri: &Uri, expires: u64) -> Option<String> {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let mut pairs: Vec<&str> = query.split('&').filter(|it| !it.is_empty()).collect();
    pairs.retain(|pair| !matches!(pair.split('=').next(), Some("token" | "expires")));
    pairs.sort_unstable();
    let raw = |pair: &&str| percent_decode_str(pair).decode_utf8_lossy().into_owned();
    let said: Vec<String> = pairs.iter().map(raw).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{path}{expires}{}", said.join("&")).as_bytes());
    let token = URL_SAFE_NO_PAD.encode(tag);
    let rest: String = pairs.iter().map(|pair| format!("&{pair}")).collect();
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    Some(format!("{scheme}://{authority}{path}?token=HS256-{token}{rest}&expires={expires}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signers(form: SigningForm, secret: &Path) -> Signers {
        let sign = Signing {
            form,
            region: "us-east-1".to_owned(),
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            key_pair_id: "K2JCJMDEHXQW5F".to_owned(),
            resource: None,
            source_ip: None,
            secret_file: secret.to_path_buf(),
        };
        let base = "https://examplebucket.s3.amazonaws.com/".to_owned();
        Signers::new(&[Route { base, sign: Some(sign), ..Route::default() }], &[])
    }

    #[test]
    fn a_probe_goes_to_a_url_that_is_signed_however_its_base_is_written() {
        let secret = Path::new("none");
        let base = "https://examplebucket.s3.amazonaws.com";
        let probed = |form, url: &str| signers(form, secret).probe_url(url);
        let object = Some(format!("{base}/skycached-check"));
        assert_eq!(probed(SigningForm::S3, base), object);
        assert_eq!(probed(SigningForm::S3, &format!("{base}/")), object);
        assert_eq!(probed(SigningForm::S3, &format!("{base}/a.mpd")), Some(format!("{base}/a.mpd")));
        assert_eq!(probed(SigningForm::Bunny, base), Some(format!("{base}/")));
        assert_eq!(probed(SigningForm::S3, "https://cdn.example.com/"), None);
    }

    #[test]
    fn requests_are_signed_as_amazon_and_bunny_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n").unwrap();
        let s3 = signers(SigningForm::S3, &file);
        // By botocore 1.40.0 (S3SigV4QueryAuth), with the key, date and bucket of Amazon's example of query parameters.
        let now = WallTime::from_unix_ms(1_369_353_600_000);
        let of = |signers: &Signers, method: Method, url: &str| {
            signers.sign(&method, &url.parse().unwrap(), now).map(|it| it.unwrap().to_string())
        };
        let signed =
            of(&s3, Method::GET, "https://examplebucket.s3.amazonaws.com/a%20b/t%C3%A9st+(1).txt?x=1")
                .unwrap();
        let expected = "https://examplebucket.s3.amazonaws.com/a%20b/t%C3%A9st%2B%281%29.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host&X-Amz-Signature=2af7232cdb2bd429084f41d0d0dba35cc5a4e318d9c28307834b3268d83466bc";
        assert_eq!(signed, expected);
        let head = of(&s3, Method::HEAD, "https://examplebucket.s3.amazonaws.com/test.txt").unwrap();
        assert!(
            head.ends_with(
                "X-Amz-Signature=90ec24daf0c78a0a45e106e6dad5e74a458291e7b0646fc71c01eed909821e6d"
            ),
            "{head}"
        );
        for list in ["", "?list-type=2", "vod/", "%2F", "vod%2f"] {
            let url = format!("https://examplebucket.s3.amazonaws.com/{list}").parse().unwrap();
            assert_eq!(s3.sign(&Method::GET, &url, now), Some(Err(())), "{list}: no list of a bucket");
        }
        assert_eq!(of(&s3, Method::GET, "https://elsewhere.example/test.txt"), None);
        assert_eq!(of(&s3, Method::POST, "https://examplebucket.s3.amazonaws.com/test.txt"), None);
        let bunny = signers(SigningForm::Bunny, &file);
        let signed =
            of(&bunny, Method::GET, "https://examplebucket.s3.amazonaws.com/v/a%20b.ts?y=%2F&x=1&token=old")
                .unwrap();
        // By Python's hmac over "/v/a%20b.ts1369353900x=1&y=/".
        assert_eq!(
            signed,
            "https://examplebucket.s3.amazonaws.com/v/a%20b.ts?token=HS256-eI1qgy3ZI84ORZYYR-s3qpxAZ2IC6TgNquoU51nm3fA&x=1&y=%2F&expires=1369353900"
        );
        let nothing = signers(SigningForm::Bunny, &folder.path().join("none"));
        assert_eq!(
            nothing.sign(&Method::GET, &"https://examplebucket.s3.amazonaws.com/a".parse().unwrap(), now),
            Some(Err(()))
        );
    }

    #[test]
    fn a_key_that_is_replaced_by_nothing_stays_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, include_str!("example_rsa.pem")).unwrap();
        let signers = signers(SigningForm::CloudFront, &file);
        let of = |signers: &Signers| {
            let url = "https://examplebucket.s3.amazonaws.com/a".parse().unwrap();
            signers.sign(&Method::GET, &url, WallTime::from_unix_ms(0)).unwrap()
        };
        let signed = of(&signers).unwrap();
        assert!(signed.to_string().contains("Key-Pair-Id=K2JCJMDEHXQW5F"), "{signed}");
        std::fs::write(&file, "nothing").unwrap();
        let key = (file.clone(), SigningForm::CloudFront);
        let mut secrets = signers.secrets.lock().unwrap();
        let secret = secrets.get_mut(&key).unwrap();
        (secret.looked_at, secret.modified) = (None, None);
        drop(secrets);
        assert_eq!(of(&signers), Ok(signed));
        let sign = |form| {
            signers
                .routes
                .of("https://examplebucket.s3.amazonaws.com/")
                .map(|((it, _), _)| Signing { form, ..it.clone() }.check())
        };
        assert!(sign(SigningForm::CloudFront).unwrap().unwrap_err().what.contains("no private key"));
        assert_eq!(sign(SigningForm::Bunny), Some(Ok(())));
        std::fs::remove_file(&file).unwrap();
        assert!(sign(SigningForm::Bunny).unwrap().unwrap_err().what.contains("cannot be read"));
    }

    #[test]
    fn mistakes_are_named() {
        let keys = |text: &str| {
            let route: Route = toml::from_str(text).unwrap();
            Signing::mistakes_of(&route, 0).into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        let begin = "path = '/a/'\nbase = 'https://h/'\n";
        assert_eq!(
            keys(&format!("{begin}[sign]\nform = 's3'\nsecret_file = '/x'")),
            ["route[0].sign.access_key"]
        );
        let cloudfront = format!("{begin}[sign]\nform = 'cloudfront'\nsecret_file = '/x'\n");
        assert_eq!(keys(&cloudfront), ["route[0].sign.key_pair_id"]);
        let good = format!("{cloudfront}key_pair_id = 'K1'\n");
        assert!(keys(&format!("{good}resource = 'https://h/*'\nsource_ip = '192.0.2.0/24'")).is_empty());
        assert_eq!(
            keys(&format!("{good}resource = 'https://other/*'\nsource_ip = '2001:db8::1'")),
            ["route[0].sign.resource", "route[0].sign.source_ip"]
        );
        let bunny = format!("{begin}[sign]\nform = 'bunny'\nsecret_file = '/x'\n");
        assert_eq!(
            keys(&format!("{bunny}resource = 'https://h/*'\nsource_ip = '192.0.2.1'")),
            ["route[0].sign.resource", "route[0].sign.source_ip"]
        );
        assert_eq!(keys(&format!("{cloudfront}key_pair_id = 'a&b'")), ["route[0].sign.key_pair_id"]);
        assert_eq!(
            keys(&format!("{good}region = 'eu-central-1'\naccess_key = 'A'")),
            ["route[0].sign.region", "route[0].sign.access_key"]
        );
        assert!(keys(&format!("{good}region = 'us-east-1'")).is_empty(), "the default says nothing");
        assert_eq!(keys(&format!("{bunny}key_pair_id = 'K1'")), ["route[0].sign.key_pair_id"]);
        assert!(keys(&format!("{begin}[sign]\nform = 'bunny'\nsecret_file = '/x'")).is_empty());
        assert_eq!(
            keys(&format!(
                "{begin}host_header = 'player'\nmethods = ['POST']\n[sign]\nform = 'bunny'\nsecret_file = '/x'"
            )),
            ["route[0].host_header", "route[0].methods"]
        );
    }
}
