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
mod files;
mod stats;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use carousel::manifest::Manifest;
use tokio::time::Instant;

use crate::config::{Config, Source};
use crate::ingest::folder::FilledFolder;
use crate::options::has_manifest_name;
use crate::package::{Inventory, LeftOutReason, Options, PackageError, Reader, Role, decode};
use client::{Answer, Client, Validator};
use files::Files;
pub use stats::{PullFailure, PullStats};

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

/// The folder of a URL, with its slash.
fn folder_of(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rfind('/').map_or(path, |at| &path[..=at])
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
