//! Counters of pulled sources, and the reasons for which requests come to nothing.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use carousel::reason::Counts;

carousel::reasons! {
    /// Why a request to the origin of a pulled source came to nothing.
    pub enum PullFailure {
        /// No connection, or TLS failed.
        Connect = "connect",
        /// Nothing came for 30 s.
        Timeout = "timeout",
        /// The origin has no such file (404, 410).
        NotFound = "not_found",
        /// Another status that is no success.
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
    }
}

/// A failure, with what the origin or the system said.
#[derive(Debug)]
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

impl From<PullFailure> for Failed {
    fn from(why: PullFailure) -> Self {
        Self::new(why, "")
    }
}

impl From<io::Error> for Failed {
    fn from(err: io::Error) -> Self {
        Self::new(PullFailure::Io, err.to_string())
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
        let Failed { why, detail } = failed.into();
        self.failed.add(why);
        // A query may be what opens it, and user information is.
        let url = without_secrets(url);
        let text =
            if detail.is_empty() { format!("{url}: {why}") } else { format!("{url}: {why} ({detail})") };
        *self.newest_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Newest failure.
    pub fn newest_failure(&self) -> Option<String> {
        self.newest_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One line, without what has not happened.
    pub fn to_text(&self) -> String {
        let [files, bytes, _, removed] = self.counts();
        let mut text = format!("pulled: {files} files of {bytes} bytes, {removed} removed");
        for (why, count) in self.failed.labelled().filter(|(_, count)| *count > 0) {
            text.push_str(&format!(", {count} failed: {why}"));
        }
        if let Some(newest) = self.newest_failure() {
            text.push_str(&format!("; newest: {newest}"));
        }
        text
    }
}

/// A URL without its query, and without a user and password.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let ends = rest.find('/').unwrap_or(rest.len());
    let begins = rest[..ends].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[begins..])
}
