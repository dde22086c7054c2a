//! Packages that are pulled from an origin: a manifest by its URL, and what it names, into the folder of its source.
//!
//! ```text
//! manifests ─ GET ─▶ folder ─ package::Reader ─▶ missing ─ GET ─▶ folder … until nothing is missing
//!    ▲                                                               │
//!    └──── when they may have changed: half a target duration, or a minute ◀┘
//! ```
//!
//! Reading, holding back, sending and removal from the air are those of any folder: [`crate::package`],
//! [`crate::follow`]. A file has its name when its body has come to its end, and not before; one that breaks off is
//! continued by a range if the origin names its version. Files of a live presentation that no manifest has named for a
//! minute are removed, and only those that were pulled, also before a restart.

mod client;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use carousel::manifest::Manifest;
use carousel::name::resolve;
use carousel::reason::Counts;
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::config::{Config, Source};
use crate::ingest::folder::FilledFolder;
use crate::ingest::is_plain_path;
use crate::ingest::ledger::Place;
use crate::options::has_manifest_name;
use crate::package::{Inventory, LeftOutReason, Options, PackageError, Reader, Role, decode};
use client::{Answer, Client, Validator};

carousel::limits! {
    /// Files of a source that are fetched at the same time.
    const MAX_FETCHES: usize = 4, "requests" {
        why: "As many as a browser has of one origin; more take nothing but the origin's patience.",
        full: "Further files wait.",
        free: "When a request ends.",
        test: "a_film_is_pulled_whole_and_what_breaks_off_is_continued",
    }

    /// Bytes of a pulled manifest.
    const MAX_MANIFEST_BYTES: u64 = 16 << 20, "bytes" {
        why: "A day of 2-second segments in one playlist is 4 MB.",
        full: "The manifest is refused as `too_long`; the one before stays.",
        free: "Holds for one response.",
        test: "what_an_origin_must_not_do_is_refused_and_counted",
    }

    /// Files of a pulled source.
    const MAX_FILES: usize = 1_000_000, "files" {
        why: "As many objects as a source may have.",
        full: "Further files are refused as `full`.",
        free: "When files leave the window.",
        test: "pulled_bytes_are_bounded_and_room_comes_back",
    }
}

/// Readings of a package in one round: a multivariant playlist names playlists, and these name segments.
const MAX_READINGS: usize = 6;
/// Marks a folder of which every file was pulled: it was empty when pulling began.
const MARK: &str = ".pulled";
/// Interval at which manifests of what is not live are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// The same of live ones, whatever they say.
const LIVE_LOOK_MS: std::ops::RangeInclusive<u64> = 250..=10_000;
/// Time for which a file stays that no manifest names any more: receivers may be behind.
const KEEP: Duration = Duration::from_secs(60);
/// Longest time until a file that has failed is asked for again; the time doubles from one second on.
const MAX_BACK_OFF_S: u64 = 60;
/// Requests for one file before it counts as failed.
const ATTEMPTS: u32 = 3;

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
struct Failed {
    why: PullFailure,
    /// May be empty.
    detail: String,
}

impl Failed {
    fn new(why: PullFailure, detail: impl Into<String>) -> Self {
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
    files: AtomicU64,
    bytes: AtomicU64,
    unchanged: AtomicU64,
    removed: AtomicU64,
    failed: Counts<PullFailure>,
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

    fn fail(&self, url: &str, failed: impl Into<Failed>) {
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

/// Result of [`complete`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Name of the source.
    pub source: String,
    /// Files and bytes that came.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// Files that manifests name and the origin did not give: paths below the source's folder.
    pub missing: Vec<String>,
}

/// Follows the origins of all pulled sources, in a thread of its own that lives as long as the program; `None` if there are
/// none.
///
/// # Errors
/// One line: a folder that cannot be made, a file with credentials that cannot be read, or no thread.
pub fn start(config: &Config) -> Result<Option<Arc<PullStats>>, String> {
    let stats = Arc::new(PullStats::default());
    let pullers = pullers(config, &stats)?;
    if pullers.is_empty() {
        return Ok(None);
    }
    let failed = |err: io::Error| format!("cannot start a thread: {err}");
    let runtime = runtime().map_err(failed)?;
    std::thread::Builder::new()
        .name("pull".to_owned())
        .spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            for puller in pullers {
                tasks.spawn_local(puller.follow());
            }
            runtime.block_on(tasks);
        })
        .map_err(failed)?;
    Ok(Some(stats))
}

/// Pulls what all sources name, once; `progress` gets files and bytes so far.
///
/// # Errors
/// One line: as [`start`], or a manifest that does not come.
pub fn complete(config: &Config, mut progress: impl FnMut(u64, u64)) -> Result<Vec<Pulled>, String> {
    let mut all = Vec::new();
    let stats = Arc::new(PullStats::default());
    let runtime = runtime().map_err(|err| format!("cannot start: {err}"))?;
    for mut puller in pullers(config, &stats)? {
        let [files, bytes, ..] = stats.counts();
        let tasks = tokio::task::LocalSet::new();
        let result = tasks.block_on(&runtime, async {
            let round = puller.round();
            tokio::pin!(round);
            loop {
                match tokio::time::timeout(Duration::from_millis(200), &mut round).await {
                    Ok(round) => return round,
                    Err(_) => {
                        let [files, bytes, ..] = stats.counts();
                        progress(files, bytes);
                    }
                }
            }
        });
        let [files_now, bytes_now, ..] = stats.counts();
        let Puller { source, files: of, .. } = puller;
        if result.inventory.is_none() {
            let why = stats.newest_failure().unwrap_or_else(|| format!("{}: nothing to carry", of.url));
            return Err(format!("source {source}: {why}"));
        }
        let missing = result.missing;
        all.push(Pulled { source, files: files_now - files, bytes: bytes_now - bytes, missing });
    }
    Ok(all)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn pullers(config: &Config, stats: &Arc<PullStats>) -> Result<Vec<Puller>, String> {
    let pulled = config.sources.iter().filter(|source| source.pull.is_some());
    pulled.map(|source| Puller::new(source, Arc::clone(stats))).collect()
}

/// A URL without its query, and without a user and password.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let ends = rest.find('/').unwrap_or(rest.len());
    let begins = rest[..ends].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[begins..])
}

/// The folder of a URL, with its slash.
fn folder_of(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rfind('/').map_or(path, |at| &path[..=at])
}

/// Places of pulled files.
#[derive(Debug)]
struct Files {
    url: String,
    /// Path of the manifest below the folder.
    manifest: String,
    folder: FilledFolder,
    stats: Arc<PullStats>,
}

impl Files {
    /// URL of what is named `path` below the folder of the manifest, which has a URL of its own, query and all.
    fn url_of(&self, path: &str) -> Option<String> {
        if path == self.manifest { Some(self.url.clone()) } else { resolve(&self.url, path).ok() }
    }

    /// Path of that in the store of pulled files.
    fn place_of(&self, path: &str) -> Option<String> {
        let plain = decode(path.split(['?', '#']).next().unwrap_or_default());
        is_plain_path(&plain).then_some(plain)
    }

    /// Fetches a file and gives it its name; false if it did not come. What breaks off is continued, if the origin names the
    /// version.
    async fn fetch(&self, client: &Client, path: &str) -> bool {
        let (Some(url), Some(name)) = (self.url_of(path), self.place_of(path)) else {
            self.stats.fail(path, PullFailure::BadPath);
            return false;
        };
        match self.fetch_to(client, &url, &name).await {
            Ok(()) => true,
            Err(failed) => {
                self.stats.fail(&url, failed);
                false
            }
        }
    }

    async fn fetch_to(&self, client: &Client, url: &str, name: &str) -> Result<(), Failed> {
        let mut coming = self.begin(name)?;
        let mut validator = None::<Validator>;
        let mut attempt = 1;
        loop {
            let from = validator.as_ref().filter(|_| coming.bytes() > 0).map(|it| (coming.bytes(), it));
            let mut body = match client.get(url, None, from).await? {
                Answer::Unchanged => return Err(Failed::new(PullFailure::Status, "304")),
                Answer::Body { continues: true, body, .. } => body,
                // Another version, or no ranges: from the start.
                Answer::Body { validator: new, body, .. } => {
                    coming.restart()?;
                    validator = new;
                    body
                }
            };
            let ended = loop {
                match body.next().await {
                    Ok(Some(data)) => coming.write(&data)?,
                    Ok(None) => break Ok(()),
                    Err(why) => break Err(why),
                }
            };
            match ended {
                Ok(()) => return coming.keep(),
                Err(why) if attempt >= ATTEMPTS => return Err(why.into()),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Stores a manifest if it differs from the one that is there.
    fn store_manifest(&self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        if fs::read(self.folder.root.join(name)).is_ok_and(|it| it == bytes) {
            return Ok(());
        }
        let mut coming = self.begin(name)?;
        coming.write(bytes)?;
        coming.keep()
    }

    fn begin<'a>(&'a self, name: &'a str) -> Result<Coming<'a>, Failed> {
        let place = self.folder.ledger.begin(name).map_err(|_| PullFailure::Full)?;
        let target = self.folder.root.join(name);
        let folder = self.folder.folder_for(&target)?.ok_or(PullFailure::BadPath)?;
        let temporary = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)?;
        Ok(Coming { name, target, place, temporary, stats: &self.stats })
    }
}

/// A file that is coming, under a hidden name.
struct Coming<'a> {
    name: &'a str,
    target: PathBuf,
    place: Place<'a>,
    temporary: NamedTempFile,
    stats: &'a PullStats,
}

impl Coming<'_> {
    /// Bytes that have come so far.
    const fn bytes(&self) -> u64 {
        self.place.bytes()
    }

    /// Throws away what has come.
    fn restart(&mut self) -> io::Result<()> {
        let file = self.temporary.as_file_mut();
        file.set_len(0)?;
        file.rewind()?;
        self.place.restart();
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Failed> {
        self.place.take(data.len() as u64).map_err(|_| PullFailure::Full)?;
        Ok(self.temporary.write_all(data)?)
    }

    /// It is whole, and gets its name.
    fn keep(self) -> Result<(), Failed> {
        let bytes = self.bytes();
        self.temporary.persist(&self.target).map_err(|err| err.error)?;
        self.place.stored(self.name);
        self.stats.files.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Result of one round.
struct Round {
    /// Content of the folder; `None` if nothing can be carried.
    inventory: Option<Inventory>,
    /// Files that are still missing.
    missing: Vec<String>,
}

/// One pulled source.
struct Puller {
    /// Name of the source.
    source: String,
    client: Arc<Client>,
    files: Arc<Files>,
    options: Options,
    /// Of manifests that have come, by path.
    validators: HashMap<String, Validator>,
    /// Files that failed: number of attempts, and the time of the next one.
    failing: HashMap<String, (u32, Instant)>,
    /// Files that no manifest names, and since when.
    unnamed: HashMap<PathBuf, Instant>,
    /// Files that this program has pulled: nothing else is removed.
    pulled: HashSet<PathBuf>,
    /// Paths of manifests that may change.
    manifests: Vec<String>,
}

impl Puller {
    fn new(source: &Source, stats: Arc<PullStats>) -> Result<Self, String> {
        let url = source.pull.clone().unwrap_or_default();
        let folder = FilledFolder::open(&source.path, MAX_FILES, source.pull_bytes)?;
        let authorization = source.pull_authorization_file.as_deref().map(|file| {
            let text = fs::read_to_string(file);
            text.map(|it| it.trim().to_owned())
                .map_err(|err| format!("pull_authorization_file {}: {err}", file.display()))
        });
        let mark = folder.root.join(MARK);
        let files = folder.ledger.paths();
        if files.is_empty() {
            fs::write(&mark, "").map_err(|err| format!("{}: {err}", source.path.display()))?;
        }
        let pulled = files.iter().filter(|_| mark.exists()).map(|path| folder.root.join(path)).collect();
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let manifest = decode(path.rsplit('/').next().unwrap_or_default());
        let options = Options {
            include_unreferenced: false,
            base: folder_of(&url).to_owned(),
            ignored_query: source.ignored_query(),
            ..Options::default()
        };
        Ok(Self {
            source: source.name.clone(),
            client: Arc::new(Client::new(&url, authorization.transpose()?)),
            files: Arc::new(Files { url, manifest, folder, stats }),
            options,
            validators: HashMap::new(),
            failing: HashMap::new(),
            unnamed: HashMap::new(),
            pulled,
            manifests: Vec::new(),
        })
    }

    async fn follow(mut self) {
        let mut failed_rounds = 0_u32;
        loop {
            let round = self.round().await;
            let wait = match &round.inventory {
                Some(inventory) => {
                    failed_rounds = 0;
                    self.remove_unnamed(inventory, &round.missing);
                    self.look_again(inventory)
                }
                None => {
                    failed_rounds += 1;
                    back_off(failed_rounds)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Looks at the manifests, and fetches what is missing.
    async fn round(&mut self) -> Round {
        let mut due = self.manifests.clone();
        if !due.contains(&self.files.manifest) {
            due.insert(0, self.files.manifest.clone());
        }
        for path in due {
            self.look_at(&path).await;
        }
        let mut round = Round { inventory: None, missing: Vec::new() };
        for _ in 0..MAX_READINGS {
            let Ok(inventory) = self.read() else { return round };
            round.missing = missing(&inventory);
            self.manifests = changing(&inventory);
            round.inventory = Some(inventory);
            let now = Instant::now();
            let wanted: Vec<String> =
                round.missing.iter().filter(|it| self.may_ask(it, now)).cloned().collect();
            if wanted.is_empty() {
                break;
            }
            self.fetch_all(wanted).await;
        }
        round
    }

    fn may_ask(&self, path: &str, now: Instant) -> bool {
        self.failing.get(path).is_none_or(|(_, again)| *again <= now)
    }

    fn read(&self) -> Result<Inventory, PackageError> {
        Reader::new(&self.files.folder.root.join(&self.files.manifest), self.options.clone())?.read()
    }

    async fn look_at(&mut self, path: &str) {
        let (Some(url), Some(name)) = (self.files.url_of(path), self.files.place_of(path)) else { return };
        let is_there = self.files.folder.root.join(&name).is_file();
        let known = self.validators.get(path).filter(|_| is_there);
        let stats = &self.files.stats;
        let answer = match self.client.get(&url, known, None).await {
            Ok(answer) => answer,
            Err(failed) => return stats.fail(&url, failed),
        };
        let Answer::Body { validator, mut body, .. } = answer else {
            stats.unchanged.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut bytes = Vec::new();
        loop {
            match body.next().await {
                Ok(Some(data)) if bytes.len() as u64 + data.len() as u64 > MAX_MANIFEST_BYTES => {
                    return stats.fail(&url, PullFailure::TooLong);
                }
                Ok(Some(data)) => bytes.extend_from_slice(&data),
                Ok(None) => break,
                Err(why) => return stats.fail(&url, why),
            }
        }
        match self.files.store_manifest(&name, &bytes) {
            Ok(()) => {
                self.pulled.insert(self.files.folder.root.join(&name));
                match validator {
                    Some(validator) => self.validators.insert(path.to_owned(), validator),
                    None => self.validators.remove(path),
                };
            }
            Err(failed) => stats.fail(&url, failed),
        }
    }

    async fn fetch_all(&mut self, wanted: Vec<String>) {
        let mut wanted = wanted.into_iter();
        let mut running = tokio::task::JoinSet::new();
        loop {
            while running.len() < MAX_FETCHES
                && let Some(path) = wanted.next()
            {
                let (files, client) = (Arc::clone(&self.files), Arc::clone(&self.client));
                running.spawn_local(async move {
                    let has_come = files.fetch(&client, &path).await;
                    (path, has_come)
                });
            }
            let Some(ended) = running.join_next().await else { return };
            let Ok((path, has_come)) = ended else { continue };
            if has_come {
                self.failing.remove(&path);
                if let Some(name) = self.files.place_of(&path) {
                    self.pulled.insert(self.files.folder.root.join(name));
                }
            } else {
                let attempts = self.failing.get(&path).map_or(0, |(attempts, _)| *attempts) + 1;
                self.failing.insert(path, (attempts, Instant::now() + back_off(attempts)));
            }
        }
    }

    /// Removes pulled files of live presentations that no manifest has named for [`KEEP`].
    fn remove_unnamed(&mut self, inventory: &Inventory, missing: &[String]) {
        self.failing.retain(|path, _| missing.contains(path));
        self.validators.retain(|path, _| *path == self.files.manifest || self.manifests.contains(path));
        // What is not live stays as it is, with files that are no use.
        if !inventory.is_live() {
            return;
        }
        let now = Instant::now();
        let named: HashSet<&PathBuf> = inventory.objects.values().map(|object| &object.file).collect();
        let mut gone = Vec::new();
        for file in &self.pulled {
            if named.contains(file) || file.ends_with(&self.files.manifest) {
                self.unnamed.remove(file);
            } else if now.duration_since(*self.unnamed.entry(file.clone()).or_insert(now)) >= KEEP {
                gone.push(file.clone());
            }
        }
        for file in gone {
            self.pulled.remove(&file);
            self.unnamed.remove(&file);
            if fs::remove_file(&file).is_ok()
                && let Ok(name) = file.strip_prefix(&self.files.folder.root)
            {
                self.files.folder.ledger.removed(&name.to_string_lossy());
                self.files.stats.removed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// When manifests are looked at again.
    fn look_again(&self, inventory: &Inventory) -> Duration {
        let live = inventory.objects.values().filter(|object| object.role == Role::Manifest);
        let fresh_ms = live.filter_map(|object| Manifest::read(object.bytes.as_deref()?)?.fresh_ms()).min();
        let due = fresh_ms
            .map_or(LOOK, |ms| Duration::from_millis(ms.clamp(*LIVE_LOOK_MS.start(), *LIVE_LOOK_MS.end())));
        let now = Instant::now();
        let again = self.failing.values().map(|(_, again)| again.saturating_duration_since(now)).min();
        again.map_or(due, |again| again.clamp(Duration::from_millis(*LIVE_LOOK_MS.start()), due))
    }
}

/// Paths of manifests that were read: all of them may change.
fn changing(inventory: &Inventory) -> Vec<String> {
    let manifests = inventory.objects.values().filter(|object| object.role == Role::Manifest);
    manifests
        .map(|object| object.path.clone())
        .filter(|path| has_manifest_name(path.split('?').next().unwrap_or_default()))
        .collect()
}

/// Files that manifests name and the folder does not have.
fn missing(inventory: &Inventory) -> Vec<String> {
    let missing = inventory.left_out.iter().filter(|it| it.reason == LeftOutReason::Missing);
    let below = missing.map(|it| &it.name).filter(|name| !name.starts_with('/') && !name.contains(':'));
    let mut seen = HashSet::new();
    below.filter(|name| seen.insert(name.as_str())).cloned().collect()
}

fn back_off(attempts: u32) -> Duration {
    Duration::from_secs((1_u64 << attempts.saturating_sub(1).min(6)).min(MAX_BACK_OFF_S))
}

#[cfg(test)]
mod tests;
