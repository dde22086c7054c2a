//! Counters of pulled sources, and the reasons for which requests come to nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use carousel::config::without_numbers;
use carousel::reason::Counts;

use super::events::EventStats;
use crate::options::Source;

pub use super::s3::listing::KeyLeftOut;

carousel::reasons! {
    /// Why a request to the origin of a pulled source came to nothing.
    pub enum PullFailure {
        /// No connection, or TLS failed.
        Connect = "connect",
        /// Nothing came for 30 s.
        Timeout = "timeout",
        /// The origin has no such file (404, 410).
        NotFound = "not_found",
        /// Another status that is not a success.
        Status = "status",
        /// Redirects without end, to nowhere, or to an address of this machine alone.
        Redirect = "redirect",
        /// The body has a content coding that was not asked for.
        Encoded = "encoded",
        /// A manifest is longer than 16 MiB.
        TooLong = "too_long",
        /// The body broke off.
        Cut = "cut",
        /// The source has `pull_bytes` bytes.
        Full = "full",
        /// The name leads out of the folder, or is that of a hidden or temporary file.
        BadPath = "bad_path",
        /// The file could not be written.
        Io = "io",
        /// `pull_ca` or `pull_authorization_file` of the `[[source]]` is unusable.
        Configuration = "configuration",
        /// There are no credentials for the bucket.
        NoCredentials = "no_credentials",
        /// The store refuses the access key, its secret or its session token.
        BadCredentials = "bad_credentials",
        /// The origin refuses us: 401 or 403; the access key of a bucket may not read this.
        Denied = "denied",
        /// The clock of this machine differs from the store's.
        Clock = "clock",
        /// The store has no such bucket.
        NoBucket = "no_bucket",
        /// The bucket is in another region, or at another endpoint.
        Region = "region",
        /// The store was busy or failed five times in succession.
        SlowDown = "slow_down",
        /// The object changed while it was fetched, three times in succession.
        Changed = "changed",
        /// The object is in an archive and has not been restored.
        Archived = "archived",
        /// The bucket's list cannot be read.
        Listing = "listing",
        /// No key of the bucket begins with the prefix.
        NoKeys = "no_keys",
        /// What came has nothing that can be carried: no HLS or DASH manifest, or none that can be read.
        NoPackage = "no_package",
        /// A fault of this program; its message is in the log. The file is fetched from its beginning, or the source followed again.
        Internal = "internal",
    }
}

/// Origin of a pulled source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// A web server.
    Web,
    /// A bucket.
    Bucket,
}

impl OriginKind {
    pub(super) fn of(source: &Source) -> Self {
        if source.bucket().is_some() { Self::Bucket } else { Self::Web }
    }
}

impl PullFailure {
    /// The remedy, at an origin of that kind.
    pub const fn fix(self, kind: OriginKind) -> &'static str {
        let is_bucket = matches!(kind, OriginKind::Bucket);
        match self {
            Self::Connect if is_bucket => {
                "correct `endpoint`, host and port; look at the name service and the firewall; https needs the system's \
                 certificates (ca-certificates)"
            }
            Self::Connect => {
                "correct host and port of `pull`; look at the name service and the firewall; https needs the system's \
                 certificates (ca-certificates)"
            }
            Self::Timeout => "look at the network and at the load of the origin; it is asked for again",
            Self::NotFound => "correct the path in `pull`, which is case-sensitive, or put the file there",
            Self::Status if is_bucket => "look at the log of the store, and at `endpoint` and `path_style`",
            Self::Status => "look at the origin's log, and ask it for the same URL with `curl -v`",
            Self::Redirect => {
                "give the URL at which the manifest is in the end as `pull`, or correct the redirects of the origin"
            }
            Self::Encoded => {
                "store it without Content-Encoding, or switch compression off for it at the origin"
            }
            Self::TooLong => "split the presentation into several manifests",
            Self::Cut => "look at the origin and at proxies on the way; it is asked for again",
            Self::Full => "raise `pull_bytes` of the [[source]], or pull less",
            Self::BadPath => {
                "rename it at the origin: a plain path below the folder, neither hidden nor temporary, nor the name of a \
                 folder as well"
            }
            Self::Io => "look at the rights of the folder `path`, and at the room on its disk",
            Self::Configuration => {
                "correct what the message names in the [[source]]: a file that this user can read; `pull_ca` is a PEM file with \
                 certificates of authorities"
            }
            Self::NoCredentials => {
                "put aws_access_key_id and aws_secret_access_key into the file that `credentials_file` names, give \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `anonymous = true`"
            }
            Self::BadCredentials => {
                "put the key, the secret and the session token that are valid now into `credentials_file`"
            }
            Self::Denied if is_bucket => {
                "allow the access key s3:ListBucket on the bucket and s3:GetObject on its objects"
            }
            Self::Denied => {
                "give the file with the value of Authorization that the origin wants as `pull_authorization_file`, or let it \
                 answer this machine without"
            }
            Self::Clock => "set the clock of this machine, by NTP",
            Self::NoBucket => "correct the bucket's name in `pull`, or `endpoint` in [source.s3]",
            Self::Region => "set `region` or `endpoint` in [source.s3] to what the message says",
            Self::SlowDown => "wait: it is asked for again; if that stays so, raise `list_every_s`",
            Self::Changed => "wait until it is uploaded no more; it is fetched again",
            Self::Archived => "restore it, or store it in a class that can be read at once",
            Self::Listing => "set `endpoint` to the URL of the store, not of its console, and `path_style`",
            Self::NoKeys => "correct the prefix in `pull`: it is case-sensitive, and is not percent-encoded",
            Self::NoPackage if is_bucket => {
                "correct the prefix in `pull`, or say include_unreferenced = true"
            }
            Self::NoPackage => {
                "give the URL of an HLS or DASH manifest as `pull`; `headend scan` of the folder tells more"
            }
            Self::Internal => "report it, with the message in the log",
        }
    }
}

/// A failure, with what the origin or the system said.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) why: PullFailure,
    /// May be empty.
    pub(super) detail: String,
}

impl Failed {
    pub(super) fn new(why: PullFailure, detail: impl Into<String>) -> Self {
        Self { why, detail: detail.into() }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => write!(f, "{}", self.why),
            detail => write!(f, "{} ({detail})", self.why),
        }
    }
}

impl From<PullFailure> for Failed {
    fn from(why: PullFailure) -> Self {
        Self::new(why, "")
    }
}

impl From<io::Error> for Failed {
    fn from(err: io::Error) -> Self {
        Self::new(PullFailure::Io, without_numbers(&err))
    }
}

/// Counters since the start, and the newest failure.
#[derive(Debug, Default)]
pub struct PullStats {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) unchanged: AtomicU64,
    pub(super) removed: AtomicU64,
    pub(super) failed: Counts<PullFailure>,
    newest_failure: Mutex<Option<String>>,
    /// Newest complete list of each bucket, by the name of its source.
    lists: Mutex<BTreeMap<String, BucketList>>,
    /// Events of each bucket that has them, by the name of its source.
    events: Mutex<BTreeMap<String, Arc<EventStats>>>,
}

/// Content of a complete list of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketList {
    /// Keys below the prefix.
    pub keys: u64,
    /// Keys that are left out: number and first one.
    pub left_out: BTreeMap<KeyLeftOut, (u64, String)>,
}

impl BucketList {
    pub(super) fn leave_out(&mut self, why: KeyLeftOut, key: &str) {
        self.left_out.entry(why).or_insert_with(|| (0, shown(key))).0 += 1;
    }

    /// Keys that are left out; empty if there are none.
    pub fn to_text(&self) -> String {
        let told = self.left_out.iter().map(|(why, (count, first))| format!("{count} {why} ({first})"));
        let told = told.collect::<Vec<_>>().join(", ");
        if told.is_empty() { told } else { format!("keys left out: {told}") }
    }
}

/// A key as it is shown: in one line, of bounded length.
fn shown(key: &str) -> String {
    key.chars().take(80).flat_map(char::escape_debug).collect()
}

impl PullStats {
    /// Files that were stored, their bytes, manifests that had not changed, and files removed.
    pub fn counts(&self) -> [u64; 4] {
        [&self.files, &self.bytes, &self.unchanged, &self.removed].map(|it| it.load(Ordering::Relaxed))
    }

    /// Requests that came to nothing, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.failed.labelled()
    }

    pub(super) fn fail(&self, url: &str, failed: impl Into<Failed>) {
        let failed = failed.into();
        self.failed.add(failed.why);
        // A query may be what opens it, and user information is.
        let text = format!("{}: {failed}", without_secrets(url));
        *self.newest_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Newest failure.
    pub fn newest_failure(&self) -> Option<String> {
        self.newest_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn listed(&self, source: &str, list: BucketList) {
        self.lists().insert(source.to_owned(), list);
    }

    /// Newest complete list of each bucket, by the name of its source.
    pub fn lists(&self) -> MutexGuard<'_, BTreeMap<String, BucketList>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events of each bucket that has them, by the name of its source.
    pub fn events(&self) -> BTreeMap<String, Arc<EventStats>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counters of a source's events; the same after its following has started again.
    pub(super) fn events_of(&self, source: &str, topic: &str) -> Arc<EventStats> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(EventStats::of(topic));
        Arc::clone(events.entry(source.to_owned()).or_insert_with(new))
    }

    /// Keys of the newest lists of all buckets, and those of them that are left out, by reason.
    pub fn listed_keys(&self) -> (u64, impl Iterator<Item = (&'static str, u64)>) {
        let lists = self.lists();
        let of = |why: &KeyLeftOut| lists.values().filter_map(|it| Some(it.left_out.get(why)?.0)).sum();
        let left_out: Vec<(&str, u64)> = KeyLeftOut::ALL.iter().map(|why| (why.as_str(), of(why))).collect();
        (lists.values().map(|it| it.keys).sum(), left_out.into_iter())
    }

    /// One line, without what has not happened.
    pub fn to_text(&self) -> String {
        let [files, bytes, _, removed] = self.counts();
        let mut text = format!("pulled: {files} files of {bytes} bytes, {removed} removed");
        for (why, count) in self.failed.labelled().filter(|(_, count)| *count > 0) {
            text.push_str(&format!(", {count} failed: {why}"));
        }
        for (source, list) in self.lists().iter() {
            let left_out = list.to_text();
            if !left_out.is_empty() {
                text.push_str(&format!("; {source}: {left_out}"));
            }
        }
        if let Some(newest) = self.newest_failure() {
            text.push_str(&format!("; newest: {newest}"));
        }
        text
    }
}

/// A URL without its query, and without a user and password.
pub(super) fn without_secrets(url: &str) -> String {
    // Keys have neither; `?` and `#` are characters like others there.
    if url.starts_with("s3://") {
        return shown(url);
    }
    carousel::name::without_secrets(url)
}
