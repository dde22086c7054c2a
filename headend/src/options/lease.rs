//! `[lease]`: several headends with one carousel, of which one sends.

use std::path::Path;

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

use super::{Mistakes, S3, S3Location};

/// `[lease]`: of several headends with this configuration one is active, and the others are on standby. The active one is who holds
/// a lease in a bucket, below whose prefix it also keeps what another one needs to continue. It does not go with `[multiplex]`,
/// `chunk_ms`, `protocol = "route"` or `carousel.profile = "bits16"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Folder of a bucket whose store does conditional writes (`If-Match`, `If-None-Match`): `s3://bucket/prefix/`. One for each
    /// carousel.
    pub url: String,
    /// Name of this headend in logs and in `headend status`. Left out: the name of the machine.
    #[serde(default = "Lease::host_name")]
    pub node: String,
    /// Time after which a lease that is not renewed may be taken. Takeover takes this, a renewal's interval and two requests to
    /// the store.
    #[serde(default = "Lease::default_duration_ms")]
    pub duration_ms: u64,
    /// Interval at which the lease is renewed, and at which standbys look at it.
    #[serde(default = "Lease::default_renewal_ms")]
    pub renewal_ms: u64,
    /// Access to the bucket, as `[source.s3]`.
    #[serde(default)]
    pub s3: Option<S3>,
}

impl Lease {
    fn host_name() -> String {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Some(name.trim()).filter(|it| !it.is_empty()).unwrap_or("headend").to_owned()
    }

    const fn default_duration_ms() -> u64 {
        1200
    }

    const fn default_renewal_ms() -> u64 {
        300
    }

    pub(crate) fn settle(&mut self, folder: &Path) {
        if let Some(s3) = &mut self.s3 {
            s3.complete(folder);
        }
    }

    /// Bucket and prefix.
    pub fn location(&self) -> Option<S3Location> {
        S3Location::of(&self.url)?.ok().filter(|it| it.manifest.is_none())
    }

    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("lease");
        if self.location().is_none() {
            let why = match S3Location::of(&self.url) {
                Some(Err(why)) => why.to_owned(),
                _ => format!("{:?} is not a folder of a bucket", self.url),
            };
            mistakes.add("url", why, "s3://bucket/prefix/, with the slash at its end");
        }
        let is_word = !self.node.is_empty()
            && self.node.len() <= 64
            && self.node.chars().all(|c| c.is_ascii_graphic() && c != '"');
        if !is_word {
            let what = format!("{:?} is not a name", self.node);
            mistakes.add("node", what, "a word such as headend-a; every headend has another");
        }
        if !(500..=60_000).contains(&self.duration_ms) {
            let what = format!("{} ms is out of range", self.duration_ms);
            mistakes.add("duration_ms", what, "500 to 60_000; 1200 takes over within 2 s");
        }
        if self.renewal_ms < 50 || self.renewal_ms.saturating_mul(3) > self.duration_ms {
            let what = format!("{} ms does not go with {} ms", self.renewal_ms, self.duration_ms);
            let fix = "50 at least, and at most a third of duration_ms, so that one renewal may be lost";
            mistakes.add("renewal_ms", what, fix);
        }
        for (key, what, fix) in self.s3.iter().flat_map(S3::mistakes) {
            mistakes.add(&format!("s3.{key}"), what, fix);
        }
        if self.s3.as_ref().is_some_and(|it| it.anonymous) {
            let what = "the lease is written".to_owned();
            mistakes.add("s3.anonymous", what, "leave it out, and give credentials");
        }
        mistakes.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_cannot_work_is_named_with_what_to_write() {
        let lease = |text: &str| carousel::config::load::<Lease>(text).unwrap();
        assert_eq!(lease("url = 's3://bkt/a/'").mistakes(), []);
        assert!(!lease("url = 's3://bkt/a/'").node.is_empty());
        for (text, key) in [
            ("url = 'https://bkt/a/'", "lease.url"),
            ("url = 's3://bkt/a'", "lease.url"),
            ("url = 's3://bkt/a.m3u8'", "lease.url"),
            ("url = 's3://bkt/a/'\nnode = ''", "lease.node"),
            ("url = 's3://bkt/a/'\nnode = 'a b'", "lease.node"),
            ("url = 's3://bkt/a/'\nduration_ms = 100", "lease.duration_ms"),
            ("url = 's3://bkt/a/'\nrenewal_ms = 401", "lease.renewal_ms"),
            ("url = 's3://bkt/a/'\nrenewal_ms = 10", "lease.renewal_ms"),
            ("url = 's3://bkt/a/'\n[s3]\nendpoint = 'x'", "lease.s3.endpoint"),
            ("url = 's3://bkt/a/'\n[s3]\nanonymous = true", "lease.s3.anonymous"),
        ] {
            let found = lease(text).mistakes();
            assert!(found.iter().any(|it| it.key == key), "{text}: {found:?}");
        }
    }
}
