//! `[[source]]`: one directory with packaged HLS or DASH.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use carousel::config::Mistake;
use carousel::config::url::{self, has_credentials};
use carousel::query::{IgnoredQuery, MAX_PARAMETERS};
use serde::{Deserialize, Serialize};

use super::{Events, S3, S3Location, ServiceConfig, settle_url, tag_of};

/// Durations of pieces of a segment.
const CHUNK_MS: RangeInclusive<u64> = 20..=5000;

/// Whether a path is that of a manifest, by its end.
pub(crate) fn has_manifest_name(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".m3u8", ".mpd", ".m3u"].iter().any(|end| lower.ends_with(end))
}

/// `[[source]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Directory with packaged HLS or DASH, or one manifest.
    pub path: PathBuf,
    /// URL under which players and the CDN know that directory; ends with `/`.
    pub base: String,
    /// A name for people; the last part of `path` if left out.
    #[serde(default)]
    pub name: String,
    /// Identifier in the gateway configuration, equal to the DVB-I UniqueIdentifier: a tag URI. Left out: made of the base
    /// URL, `tag:cdn.example.com,2026:vod/film` for `https://cdn.example.com/vod/film/`.
    #[serde(default)]
    pub service_id: String,
    /// Class, by which it is repeated.
    #[serde(default)]
    pub class: Class,
    /// Demand for it beside others of its class.
    #[serde(default = "Source::default_popularity")]
    pub popularity: f64,
    /// Live: its media go out at once, once, within this rate, which the carousel does not get. Left out: the carousel
    /// repeats them for as long as a manifest refers to them.
    #[serde(default)]
    pub reserved_bps: Option<u64>,
    /// Protocol of its media: `flute`, or `route`, which is for live sources.
    #[serde(default)]
    pub protocol: TransportProtocol,
    /// Live: segments are sent while the packager writes them, in pieces of whole movie fragments (or transport stream
    /// packets) that are at least so long, milliseconds. Left out: each segment is sent when it is finished.
    #[serde(default)]
    pub chunk_ms: Option<u64>,
    /// Whether packagers may upload it to `ingest.listen`, below its `name`.
    #[serde(default)]
    pub ingest: bool,
    /// URL of an HLS or DASH manifest, which is fetched into `path` with all that it names, and followed. Or of a bucket:
    /// `s3://bucket/prefix/` for all manifests below the prefix, `s3://bucket/prefix/master.m3u8` for one.
    #[serde(default)]
    pub pull: Option<String>,
    /// Of `pull`: file with the value of `Authorization` that the manifest's host is sent, such as `Bearer TOKEN`.
    #[serde(default)]
    pub pull_authorization_file: Option<PathBuf>,
    /// Of `pull`: PEM file with certificates of authorities, which count beside the system's. Read at the start.
    #[serde(default)]
    pub pull_ca: Option<PathBuf>,
    /// Of `pull`: bytes of all files.
    #[serde(default = "Source::default_pull_bytes")]
    pub pull_bytes: u64,
    /// Of `pull` from a bucket: its store, and credentials.
    #[serde(default)]
    pub s3: Option<S3>,
    /// Of `pull` from a bucket: events of what changes in it, by Kafka.
    #[serde(default)]
    pub events: Option<Events>,
    /// Only the first so many seconds of media are carried; the rest comes from the origin. Segments of a rung are taken
    /// to be of equal length.
    #[serde(default)]
    pub prefix_s: Option<u64>,
    /// Time for which caches may take its objects for fresh, instead of `carousel.expiry_s`.
    #[serde(default)]
    pub expiry_s: Option<u32>,
    /// Also send files that no manifest refers to.
    #[serde(default)]
    pub include_unreferenced: bool,
    /// Folders outside `path` to which symbolic links in it may lead. Others that lead out of it are left out.
    #[serde(default)]
    pub follow_links_to: Vec<PathBuf>,
    /// Query parameters of its URIs that do not distinguish objects: `true` for all, `false` for none, or a list of names.
    /// Left out: those that its manifests have, such as session identifiers and version hashes. They are signalled to
    /// receivers.
    #[serde(default)]
    pub ignore_query: Option<IgnoreQuery>,
    /// Its service in the catalogue for televisions.
    #[serde(default)]
    pub service: ServiceConfig,
}

/// `protocol` of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportProtocol {
    /// FLUTE (RFC 6726).
    #[default]
    Flute,
    /// ROUTE (RFC 9223).
    Route,
}

/// `ignore_query` of a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected true, false, or a list of names, e.g. [\"token\"]")]
pub enum IgnoreQuery {
    /// All parameters, or none.
    All(bool),
    /// These.
    Names(Vec<String>),
}

impl Source {
    /// The rule of `ignore_query`; `None`: made from the manifests.
    pub fn ignored_query(&self) -> Option<IgnoredQuery> {
        self.ignore_query.as_ref().map(|rule| match rule {
            IgnoreQuery::All(true) => IgnoredQuery::All,
            IgnoreQuery::All(false) => IgnoredQuery::Nothing,
            IgnoreQuery::Names(names) if names.is_empty() => IgnoredQuery::Nothing,
            IgnoreQuery::Names(names) => IgnoredQuery::Names(names.clone()),
        })
    }

    const fn default_popularity() -> f64 {
        1.0
    }

    const fn default_pull_bytes() -> u64 {
        64 << 30
    }

    /// The bucket that it is pulled from.
    pub fn bucket(&self) -> Option<S3Location> {
        S3Location::of(self.pull.as_ref()?)?.ok()
    }

    /// Fills in what follows from other options. Relative paths begin at `folder`.
    pub(crate) fn complete(&mut self, folder: &Path) {
        if self.path.is_relative() {
            self.path = folder.join(&self.path);
        }
        let files = [&mut self.pull_authorization_file, &mut self.pull_ca];
        for file in files.into_iter().flatten().filter(|file| file.is_relative()) {
            *file = folder.join(&*file);
        }
        if let Some(s3) = &mut self.s3 {
            s3.complete(folder);
        }
        if let Some(events) = &mut self.events {
            events.complete(folder);
        }
        for path in self.follow_links_to.iter_mut().filter(|it| it.is_relative()) {
            *path = folder.join(&*path);
        }
        if self.name.is_empty() {
            let last = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
            self.name = last.unwrap_or_else(|| "source".to_owned());
        }
        // Objects go on the air under one spelling, which is the box's.
        if !self.base.contains(char::is_whitespace) {
            settle_url(&mut self.base);
        }
        if self.service_id.is_empty() {
            self.service_id = tag_of(&self.base);
        }
        self.service.settle(folder);
    }

    /// Mistakes of source number `at`.
    pub(crate) fn mistakes(&self, at: usize) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| {
            all.push(Mistake::of_value(&format!("source[{at}].{key}"), &what, fix));
        };
        self.base_mistakes(&mut wrong);
        if self.path.to_string_lossy().contains("://") {
            wrong("path", "it is a URL".to_owned(), super::NO_URL_SOURCES);
        }
        if !(1e-6..=1e6).contains(&self.popularity) {
            let what = format!("{} is out of range", self.popularity);
            wrong("popularity", what, "0.000001 to 1000000; 1 is the middle of its class");
        }
        self.live_mistakes(&mut wrong);
        if let Some(IgnoreQuery::Names(names)) = &self.ignore_query
            && names.len() > MAX_PARAMETERS
        {
            let what = format!("{} names are more than {MAX_PARAMETERS}", names.len());
            wrong("ignore_query", what, "true ignores all");
        }
        for path in self.follow_links_to.iter().filter(|it| !it.is_dir()) {
            let what = format!("{} is not a folder", path.display());
            wrong("follow_links_to", what, "give folders that links in path lead to");
        }
        match &self.pull {
            Some(url) => self.pull_mistakes(url, &mut wrong),
            None if self.pull_authorization_file.is_some() => {
                let what = "nothing is pulled".to_owned();
                wrong("pull_authorization_file", what, "give pull, or leave it out");
            }
            None if self.pull_ca.is_some() => {
                wrong("pull_ca", "nothing is pulled".to_owned(), "give pull, or leave it out");
            }
            None if self.s3.is_some() => {
                let fix = "give pull = \"s3://bucket/prefix/\", or leave it out";
                wrong("s3", "nothing is pulled".to_owned(), fix);
            }
            None => {}
        }
        if self.events.is_some() && self.bucket().is_none() {
            let fix = "give pull = \"s3://bucket/prefix/\", or leave [source.events] out";
            wrong("events", "they are of buckets, and none is pulled".to_owned(), fix);
        }
        if self.prefix_s == Some(0) {
            wrong("prefix_s", "must be greater than 0".to_owned(), "leave it out, or give seconds");
        }
        let prefix = format!("source[{at}].events");
        let short_s = self.s3.as_ref().map_or_else(S3::default_list_every_s, |it| it.list_every_s);
        all.extend(self.events.iter().flat_map(|it| it.mistakes(&prefix, short_s)));
        all
    }

    fn base_mistakes(&self, wrong: &mut impl FnMut(&str, String, &str)) {
        if self.base.trim().contains(char::is_whitespace) {
            let what = format!("{:?} has a blank", self.base);
            wrong("base", what, "write %20 for a blank of the path; a host has none");
        } else if self.base.trim() != self.base {
            wrong("base", format!("{:?} has a blank at its begin or end", self.base), "remove it");
        } else if has_credentials(&self.base) {
            let what = "it has a user or password, which would go on the air".to_owned();
            wrong("base", what, "the URL without: receivers have credentials of their own");
        } else if let Some(fault) = url::faults(&self.base).into_iter().next() {
            wrong("base", fault.what, &fault.fix);
        } else if !self.base.ends_with('/') {
            wrong("base", "must end with /".to_owned(), "add the slash: it is the URL of the directory");
        }
    }

    /// Mistakes in what makes a source live, and in what only live sources have.
    fn live_mistakes(&self, wrong: &mut impl FnMut(&str, String, &str)) {
        if self.reserved_bps == Some(0) {
            let fix = "leave it out, or give a rate in bit/s";
            wrong("reserved_bps", "must be greater than 0".to_owned(), fix);
        }
        if self.protocol == TransportProtocol::Route && self.reserved_bps.is_none() {
            let fix = "give reserved_bps, or leave protocol out: FLUTE repeats objects of any size";
            wrong("protocol", "route is for live sources".to_owned(), fix);
        }
        if let Some(ms) = self.chunk_ms {
            if !CHUNK_MS.contains(&ms) {
                wrong("chunk_ms", format!("{ms} ms is out of range"), "20 to 5000; 200 is usual");
            }
            if self.reserved_bps.is_none() {
                let what = "only live sources are sent while they are written".to_owned();
                wrong("chunk_ms", what, "give reserved_bps, or leave chunk_ms out");
            }
        }
    }

    fn pull_mistakes(&self, pull: &str, wrong: &mut impl FnMut(&str, String, &str)) {
        match S3Location::of(pull) {
            // The URL may have credentials.
            Some(Err(why)) => {
                wrong("pull", why.to_owned(), "s3://bucket/prefix/, or s3://bucket/prefix/master.m3u8");
            }
            Some(Ok(_)) if self.pull_authorization_file.is_some() => {
                let what = "requests to a bucket are signed".to_owned();
                wrong("pull_authorization_file", what, "give [source.s3] credentials_file instead");
            }
            Some(Ok(_)) => {}
            None => {
                let path = pull.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
                let is_http = path.starts_with("http://") || path.starts_with("https://");
                // Its value may be a secret.
                if has_credentials(pull) {
                    let what = "it has a user or password".to_owned();
                    wrong("pull", what, "give pull_authorization_file, and the URL without");
                } else if !is_http || !has_manifest_name(&path) {
                    let what = format!("{pull:?} is not a URL of a manifest");
                    wrong("pull", what, "https://host/path/master.m3u8 or .mpd, or s3://bucket/prefix/");
                } else if let Some(fault) = url::of_host(pull).into_iter().next() {
                    wrong("pull", fault.what, &fault.fix);
                }
                if self.s3.is_some() {
                    let what = "pull is not a bucket".to_owned();
                    wrong("s3", what, "s3://bucket/prefix/ as pull, or leave [source.s3] out");
                }
            }
        }
        for (key, what, fix) in self.s3.iter().flat_map(S3::mistakes) {
            wrong(&format!("s3.{key}"), what, fix);
        }
        if self.ingest {
            let what = "it is pulled and uploaded".to_owned();
            wrong("pull", what, "one of pull and ingest, each with a folder of its own");
        }
        if self.pull_bytes == 0 {
            let what = "must be greater than 0".to_owned();
            wrong("pull_bytes", what, "leave it out for the default");
        }
    }
}

/// Class of an object: how soon it is repeated, in broad strokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Announcement, configuration, manifests, init segments: sent when due, at a hard maximum period.
    Signalling,
    /// The most watched.
    High,
    /// Everything that is not said otherwise.
    #[default]
    Medium,
    /// Promotion, back catalogue.
    Low,
}

impl Class {
    /// Relative request probability of one object of the class: high is asked for ten times as often as medium.
    pub const fn weight(self) -> f64 {
        match self {
            Self::Signalling | Self::High => 10.0,
            Self::Medium => 1.0,
            Self::Low => 0.1,
        }
    }

    /// Name as in configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signalling => "signalling",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}
