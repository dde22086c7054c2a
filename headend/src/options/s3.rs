//! `[source.s3]`: the store of a source that is pulled from a bucket, and `s3://` URLs.

use std::path::{Path, PathBuf};

use carousel::config::url::{has_credentials, of_host};
use serde::{Deserialize, Serialize};

/// `[source.s3]`: how the bucket of `pull = "s3://bucket/prefix/"` is reached. Credentials are taken from `credentials_file`, or
/// from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, or from the file that AWS's tools have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// URL of the store, for others than Amazon: `https://minio.example.com:9000`. Left out: `AWS_ENDPOINT_URL_S3`,
    /// `AWS_ENDPOINT_URL`, or Amazon's of the region.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region of the bucket. Left out: `AWS_REGION`, `AWS_DEFAULT_REGION`, that of the profile, or `us-east-1`, which stores
    /// without regions take.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket is in the path of URLs (`https://host/bucket/key`), and not in the name of their host. Left out: in
    /// the path if `endpoint` is given, or the bucket's name has a dot.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// File with credentials in the form of `~/.aws/credentials`. It is read again when it changes.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Section of that file. Left out: `AWS_PROFILE`, or `default`.
    #[serde(default)]
    pub profile: Option<String>,
    /// Requests are not signed, for buckets that everybody may read.
    #[serde(default)]
    pub anonymous: bool,
    /// Interval at which the bucket is listed for changes, seconds. Manifests of live presentations are asked for more often.
    #[serde(default = "S3::default_list_every_s")]
    pub list_every_s: u64,
}

/// A bucket and what is taken of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// Name of the bucket.
    pub bucket: String,
    /// Beginning of the keys, with a slash at its end; or empty.
    pub prefix: String,
    /// Name of the only manifest below it.
    pub manifest: Option<String>,
}

impl S3 {
    pub(super) const fn default_list_every_s() -> u64 {
        60
    }

    /// Relative paths begin at `folder`.
    pub(super) fn complete(&mut self, folder: &Path) {
        if let Some(file) = self.credentials_file.as_mut().filter(|file| file.is_relative()) {
            *file = folder.join(&*file);
        }
    }

    /// Key, mistake and fix of each value that cannot work.
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut all = Vec::new();
        if let Some(endpoint) = &self.endpoint {
            let parsed = url::Url::parse(endpoint).ok();
            let is_url =
                parsed.as_ref().is_some_and(|it| matches!(it.scheme(), "http" | "https") && it.has_host());
            // Its value may be a secret.
            if has_credentials(endpoint) {
                let what = "it has a user or password".to_owned();
                all.push(("endpoint", what, "give credentials in credentials_file, and the URL without"));
            } else if !is_url || parsed.is_some_and(|it| it.query().is_some() || it.fragment().is_some()) {
                let what = format!("{endpoint:?} is not a URL of a store");
                all.push(("endpoint", what, "https://host, or http://host:port"));
            } else if let Some(fault) = of_host(endpoint).into_iter().next() {
                all.push(("endpoint", fault.what, "https://host, or http://host:port"));
            }
        }
        if self.region.as_ref().is_some_and(|it| !is_word(it)) {
            let what = format!("{:?} is not a region", self.region.as_deref().unwrap_or_default());
            all.push(("region", what, "for example eu-central-1; us-east-1 where the store has none"));
        }
        if self.anonymous && (self.credentials_file.is_some() || self.profile.is_some()) {
            let what = "credentials are given, too".to_owned();
            all.push(("anonymous", what, "one of anonymous and credentials_file or profile"));
        }
        if self.list_every_s == 0 {
            all.push((
                "list_every_s",
                "must be greater than 0".to_owned(),
                "60 is usual; a listing costs requests",
            ));
        }
        all
    }
}

/// Whether a text may stand in a host name or in the scope of a signature.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl S3Location {
    /// Of `s3://bucket/prefix/`, or `s3://bucket/prefix/master.m3u8`. Keys are written as they are, not percent-encoded, as
    /// AWS's tools do. `None`: it is not such a URL.
    pub fn of(url: &str) -> Option<Result<Self, &'static str>> {
        let rest = url.get(..5).filter(|it| it.eq_ignore_ascii_case("s3://")).map(|_| &url[5..])?;
        Some(Self::of_rest(rest))
    }

    fn of_rest(rest: &str) -> Result<Self, &'static str> {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err("it has credentials, which belong into [source.s3] credentials_file");
        }
        if !(3..=255).contains(&bucket.len()) || !is_word(bucket) {
            return Err("a bucket's name has letters, digits, '-', '_' and '.'");
        }
        let at = key.rfind('/').map_or(0, |at| at + 1);
        let (prefix, name) = key.split_at(at);
        if prefix.starts_with('/') || prefix.contains("//") {
            return Err("two slashes in succession name no folder");
        }
        if key.split('/').any(|it| matches!(it, "." | "..")) {
            return Err("`.` and `..` are not names of folders");
        }
        let location = Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), manifest: None };
        match name {
            "" => Ok(location),
            name if super::has_manifest_name(name) => {
                Ok(Self { manifest: Some(name.to_owned()), ..location })
            }
            _ => Err("it is neither a folder, with a slash at its end, nor a manifest"),
        }
    }

    /// Key of the manifest; of several the beginning of their keys.
    pub fn manifest_key(&self) -> String {
        format!("{}{}", self.prefix, self.manifest.as_deref().unwrap_or_default())
    }

    /// URL of a key, for people.
    pub fn shown(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_bucket_a_folder_and_perhaps_a_manifest() {
        let of = |url: &str| {
            let it = S3Location::of(url).unwrap().unwrap();
            (it.bucket, it.prefix, it.manifest)
        };
        let owned = |bucket: &str, prefix: &str, manifest: Option<&str>| {
            (bucket.to_owned(), prefix.to_owned(), manifest.map(str::to_owned))
        };
        assert_eq!(of("s3://vod"), owned("vod", "", None));
        assert_eq!(of("S3://vod/"), owned("vod", "", None));
        assert_eq!(of("s3://vod/a b/100%/c?d#e/"), owned("vod", "a b/100%/c?d#e/", None));
        assert_eq!(of("s3://vod/film/master.m3u8"), owned("vod", "film/", Some("master.m3u8")));
        assert_eq!(of("s3://vod/film.mpd"), owned("vod", "", Some("film.mpd")));
        assert!(S3Location::of("https://vod/").is_none() && S3Location::of("s3:/").is_none());
        for (url, why) in [
            ("s3://AKIA:secret@vod/", "credentials"),
            ("s3://", "bucket's name"),
            ("s3://a b/", "bucket's name"),
            ("s3://vod//a/", "two slashes"),
            ("s3://vod/a/../b/", "`..`"),
            ("s3://vod/film", "slash at its end"),
        ] {
            let refused = S3Location::of(url).unwrap().unwrap_err();
            assert!(refused.contains(why) && !refused.contains("secret"), "{url}: {refused}");
        }
    }
}
