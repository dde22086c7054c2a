//! Packages pulled from an origin into the folder of a source: a manifest by its URL, and the files that it names.
//!
//! ```text
//! manifests ─ GET ─▶ folder ─ package::Reader ─▶ missing ─ GET ─▶ folder … until nothing is missing
//!    ▲                                                               │
//!    └──── when they may have changed: half a target duration, or a minute ◀┘
//! ```
//!
//! The files are read, held back, sent and taken off the air like those of any folder: [`crate::package`],
//! [`crate::follow`]. A file gets its name when its body is complete; an interrupted one is continued by a range if the
//! origin names its version. Files of a live presentation that no manifest has named for a minute are removed, but only
//! pulled ones, also those pulled before a restart.
//!
//! A bucket ([`s3`]) is listed page by page, and the wanted files of a page are fetched before the next page is requested, so
//! that no list is held in memory. Wanted are manifests, files of which the folder has another version, and with
//! `include_unreferenced` all files. Files that manifests name are fetched as above, even if the list lacks them. Files that two
//! lists in succession lack are removed. Between lists, [`events`] of the store name keys to request.

mod authorities;
mod client;
mod events;
mod files;
mod s3;
mod stats;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use carousel::config::plain;
use carousel::manifest::Manifest;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{Config, Source};
use crate::ingest::folder::FilledFolder;
use crate::options::S3Location;
use crate::options::has_manifest_name;
use crate::package::{Inventory, LeftOutReason, Options, PackageError, Reader, Role, decode, encode};
use client::{Answer, Body, Client, Validator};
use events::Events;
pub use events::{EventOutcome, EventStats, try_read as try_read_event};
use files::{Base, Files};
use s3::credentials::{Environment, environment};
use s3::held::ObjectVersions;
use s3::listing::{Listed, Next, Page};
use s3::{Bucket, Conditions};
pub use s3::{Condition, SmallStore, StoreFailed, WriteOutcome};
pub use stats::{BucketList, KeyLeftOut, OriginKind, PullFailure, PullStats};
use stats::{Failed, without_secrets};

carousel::limits! {
    /// Files of a source that are fetched at the same time.
    const MAX_FETCHES: usize = 4, "requests" {
        why: "Browsers open six connections to one origin; more would load the origin and gain little.",
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

/// Reads of a package in one round: a multivariant playlist names playlists, and these name segments.
const MAX_READINGS: usize = 6;
/// Marks a folder of which every file was pulled: it was empty when pulling began.
const MARK: &str = ".pulled";
/// Interval at which manifests of titles that are not live are requested.
const LOOK: Duration = Duration::from_secs(60);
/// The same for live ones, even if they say otherwise.
const LIVE_LOOK_MS: std::ops::RangeInclusive<u64> = 250..=10_000;
/// Longest wait for an origin that `check` examines, redirects included.
const PROBE: Duration = Duration::from_secs(10);
/// Time for which a file is kept after the last manifest that names it: receivers may be behind.
const KEEP: Duration = Duration::from_secs(60);
/// Longest pause before a failed file is requested again; it doubles from one second on.
const MAX_BACK_OFF_S: u64 = 60;

/// Result of [`complete`] for one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Name of the source.
    pub source: String,
    /// Fetched files and bytes.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// Wanted files that could not be fetched.
    pub missing: Vec<Missing>,
    /// Files that manifests name and that are not carried, fetched or not, by reason.
    pub not_carried: BTreeMap<LeftOutReason, usize>,
    /// The list of the bucket, if it is one.
    pub list: Option<BucketList>,
    /// Why the source failed: its manifest, the list of its bucket, or its folder.
    pub refusal: Option<Refusal>,
}

/// Why a source failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Label of a [`PullFailure`].
    pub reason: &'static str,
    /// Place and fault.
    pub what: String,
    /// Fix.
    pub fix: &'static str,
}

impl Refusal {
    fn of(place: &str, failed: &Failed, kind: OriginKind) -> Self {
        let (reason, fix) = (failed.why.as_str(), failed.why.fix(kind));
        Self { reason, what: format!("{}: {failed}", without_secrets(place)), fix }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// A wanted file that could not be fetched, or a manifest that cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its path below the source's folder, in the form of a URI.
    pub name: String,
    /// Label of a [`PullFailure`], or for a fetched manifest of a [`LeftOutReason`].
    pub reason: &'static str,
    /// Message of the origin or the system; may be empty.
    pub detail: String,
    /// Fix.
    pub fix: &'static str,
}

impl Missing {
    fn of(name: &str, failed: &Failed, kind: OriginKind) -> Self {
        let (reason, fix) = (failed.why.as_str(), failed.why.fix(kind));
        Self { name: name.to_owned(), reason, detail: failed.detail.clone(), fix }
    }

    /// Those that are in a manifest as it was read, or are it.
    fn of_manifest(name: &str, reason: LeftOutReason) -> Self {
        let fix = match reason {
            LeftOutReason::Missing => "call `headend pull` again: it was not asked for",
            _ => "`headend scan` of the folder says what is wrong with it",
        };
        Self { name: name.to_owned(), reason: reason.as_str(), detail: String::new(), fix }
    }
}

/// Follows the origins of all pulled sources, in a thread of its own that lives as long as the program; `None` if there are
/// none.
///
/// # Errors
/// A line for each source: a folder that cannot be made, a file with credentials that cannot be read. Or no thread.
pub fn start(config: &Config) -> Result<Option<Arc<PullStats>>, String> {
    if !events::HAS_KAFKA && config.sources.iter().any(|it| it.events.is_some()) {
        let (what, fix) = events::MISSING;
        return Err(format!("{what}; {fix}"));
    }
    let stats = Arc::new(PullStats::default());
    let pullers = pullers(config, &stats)?;
    if pullers.is_empty() {
        return Ok(None);
    }
    let failed = |err: io::Error| format!("cannot start a thread: {}", plain(&err));
    let runtime = runtime().map_err(failed)?;
    let sources: Vec<Source> = pulled_sources(config).cloned().collect();
    let counted = Arc::clone(&stats);
    std::thread::Builder::new()
        .name("pull".to_owned())
        .spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            for (puller, source) in pullers.into_iter().zip(sources) {
                let stats = Arc::clone(&counted);
                tasks.spawn_local(async move {
                    let again =
                        || Puller::new(&source, Arc::clone(&stats)).map_err(|failed| failed.to_string());
                    keep_following(&source.name, puller, again, Puller::follow, &stats).await;
                });
            }
            runtime.block_on(tasks);
        })
        .map_err(failed)?;
    Ok(Some(stats))
}

/// Pulls all sources once; `progress` gets files and bytes so far. Every source is tried, and has its result.
///
/// # Errors
/// If the system has no room for a thread's events.
pub fn complete(config: &Config, mut progress: impl FnMut(u64, u64)) -> Result<Vec<Pulled>, String> {
    let runtime = runtime().map_err(|err| format!("cannot start: {}", plain(&err)))?;
    let (mut files_before, mut bytes_before) = (0, 0);
    let mut all = Vec::new();
    for source in pulled_sources(config) {
        let progress = |files, bytes| progress(files_before + files, bytes_before + bytes);
        let pulled = complete_source(source, &runtime, progress);
        (files_before, bytes_before) = (files_before + pulled.files, bytes_before + pulled.bytes);
        all.push(pulled);
    }
    Ok(all)
}

fn complete_source(
    source: &Source,
    runtime: &tokio::runtime::Runtime,
    mut progress: impl FnMut(u64, u64),
) -> Pulled {
    let (name, kind) = (source.name.clone(), OriginKind::of(source));
    // Separate counters: the newest failure must not be that of another source.
    let stats = Arc::new(PullStats::default());
    let mut puller = match Puller::new(source, Arc::clone(&stats)) {
        Ok(puller) => puller,
        Err(failed) => {
            let refusal = Some(Refusal::of(&source.path.display().to_string(), &failed, kind));
            return Pulled { source: name, refusal, ..Pulled::default() };
        }
    };
    let tasks = tokio::task::LocalSet::new();
    let round = tasks.block_on(runtime, async {
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
    let [files, bytes, ..] = stats.counts();
    let list = stats.lists().get(&name).cloned();
    let refusal = round.refusal.map(|(place, failed)| Refusal::of(&place, &failed, kind));
    let mut pulled = Pulled { source: name, files, bytes, list, refusal, ..Pulled::default() };
    if let Some(inventory) = &round.inventory {
        pulled.missing = puller.missing(&round.missing, inventory);
        pulled.not_carried = inventory.left_out_by_reason();
        pulled.not_carried.remove(&LeftOutReason::Missing);
    }
    pulled
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn pulled_sources(config: &Config) -> impl Iterator<Item = &Source> {
    config.sources.iter().filter(|source| source.pull.is_some())
}

fn pullers(config: &Config, stats: &Arc<PullStats>) -> Result<Vec<Puller>, String> {
    let puller = |source: &Source| {
        let told = |failed: Failed| {
            format!("source {}: {failed}; {}", source.name, failed.why.fix(OriginKind::of(source)))
        };
        Puller::new(source, Arc::clone(stats)).map_err(told)
    };
    let (pullers, failures): (Vec<_>, Vec<_>) = pulled_sources(config).map(puller).partition(Result::is_ok);
    let failures: Vec<String> = failures.into_iter().filter_map(Result::err).collect();
    match failures.is_empty() {
        true => Ok(pullers.into_iter().flatten().collect()),
        false => Err(failures.join("\n")),
    }
}

/// Follows a source forever. A task that panics is counted as `internal`, logged, and replaced by a new one after a pause of 1
/// to 60 s: the folder keeps the files pulled so far.
async fn keep_following<T, F: Future<Output = Infallible> + 'static>(
    source: &str,
    first: T,
    again: impl Fn() -> Result<T, String>,
    follow: impl Fn(T) -> F,
    stats: &PullStats,
) {
    let mut next = Some(first);
    let mut panics = 0;
    loop {
        let begun = Instant::now();
        let why = match next.take().map_or_else(&again, Ok) {
            Ok(puller) => match tokio::task::spawn_local(follow(puller)).await {
                Err(ended) if ended.is_panic() => panic_text(&*ended.into_panic()),
                // The program is ending.
                Err(_) => return,
            },
            Err(why) => why,
        };
        panics = if begun.elapsed() > LOOK { 1 } else { panics + 1 };
        let wait = back_off(panics);
        stats.fail(&format!("source {source}"), Failed::new(PullFailure::Internal, why.clone()));
        eprintln!(
            "headend: source {source}: following its origin has failed by a fault of this program ({why}); it restarts in {} s; \
             please report the message above",
            wait.as_secs()
        );
        tokio::time::sleep(wait).await;
    }
}

/// Message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}

/// Result of checking the origin of a source, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// Description of the content.
    Fine(String),
    /// The fault, and its remedy.
    Wrong {
        /// Place and fault.
        what: String,
        /// Fix.
        fix: &'static str,
    },
}

/// Checks the origins of all sources in parallel: requests the manifest from a web server, the first page of the list and the
/// configured manifest from a bucket. Returns each source, its kind, and the result.
pub fn probe(config: &Config) -> Vec<(String, OriginKind, Probed)> {
    let sources: Vec<&Source> = pulled_sources(config).collect();
    let looked = match runtime() {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, look_at_all(&sources)),
        Err(err) => vec![Err(Failed::new(PullFailure::Internal, plain(&err))); sources.len()],
    };
    let told = |(source, looked): (&Source, Result<Probed, Failed>)| {
        let kind = OriginKind::of(source);
        let wrong = |failed: Failed| Probed::Wrong {
            what: format!("{}: {failed}", shown(source)),
            fix: failed.why.fix(kind),
        };
        (source.name.clone(), kind, looked.unwrap_or_else(wrong))
    };
    sources.into_iter().zip(looked).map(told).collect()
}

/// Checks the topics of all sources with events at their brokers. Returns each source and the result.
pub fn probe_events(config: &Config) -> Vec<(String, Probed)> {
    let sources = config.sources.iter().filter_map(|it| Some((it.name.clone(), it.events.clone()?)));
    sources.map(|(name, options)| (name, look_at_topic(&options))).collect()
}

#[cfg(feature = "kafka")]
fn look_at_topic(options: &crate::options::Events) -> Probed {
    let silent = |_| Err(("no broker answers".to_owned(), "correct `brokers`; look at firewalls"));
    let look = async { tokio::time::timeout(PROBE, events::probe(options)).await.unwrap_or_else(silent) };
    match runtime().map(|runtime| runtime.block_on(look)) {
        Ok(Ok(partitions)) => Probed::Fine(format!("topic {} with {partitions} partitions", options.topic)),
        Ok(Err((what, fix))) => Probed::Wrong { what, fix },
        Err(err) => Probed::Wrong { what: plain(&err), fix: "look at the limits of this user" },
    }
}

#[cfg(not(feature = "kafka"))]
fn look_at_topic(_: &crate::options::Events) -> Probed {
    let (what, fix) = events::MISSING;
    Probed::Wrong { what: what.to_owned(), fix }
}

async fn look_at_all(sources: &[&Source]) -> Vec<Result<Probed, Failed>> {
    let mut looks = Vec::new();
    for source in sources {
        let source = Source::clone(source);
        looks.push(tokio::task::spawn_local(async move { look_at_origin(&source).await }));
    }
    let mut all = Vec::new();
    for look in looks {
        let ended = look.await;
        all.push(ended.unwrap_or_else(|err| Err(Failed::new(PullFailure::Internal, err.to_string()))));
    }
    all
}

async fn look_at_origin(source: &Source) -> Result<Probed, Failed> {
    let look = async {
        match source.bucket() {
            Some(location) => look_at_bucket(source, location).await,
            None => look_at_manifest(source).await,
        }
    };
    let silent = |_| Failed::new(PullFailure::Timeout, format!("no answer for {} s", PROBE.as_secs()));
    tokio::time::timeout(PROBE, look).await.map_err(silent)?
}

async fn look_at_bucket(source: &Source, location: S3Location) -> Result<Probed, Failed> {
    let (prefix, key) = (location.prefix.clone(), location.manifest_key());
    let bucket = bucket(source, location, environment)?.impatient();
    let page = look_into(&bucket, &key).await?;
    Ok(judge(&page, source, &prefix, &shown(source)))
}

/// Requests a manifest from a web server as pulling does.
async fn look_at_manifest(source: &Source) -> Result<Probed, Failed> {
    let url = source.pull.clone().unwrap_or_default();
    let answer = web_client(source, &url)?.get(&url, None, None).await?;
    let Answer::Body { mut body, .. } = answer else {
        return Err(Failed::new(PullFailure::Status, "304"));
    };
    let bytes = manifest_bytes(&mut body).await?;
    if Manifest::read(&bytes).is_none() {
        return Err(Failed::new(PullFailure::NoPackage, "neither an HLS playlist nor a DASH MPD"));
    }
    Ok(Probed::Fine(format!("{}: a manifest of {} bytes", shown(source), bytes.len())))
}

/// The requests to the origin of a source, for messages.
fn shown(source: &Source) -> String {
    match source.bucket() {
        Some(location) => location.shown(&location.manifest_key()),
        None => without_secrets(source.pull.as_deref().unwrap_or_default()),
    }
}

/// The bytes of a manifest.
async fn manifest_bytes(body: &mut Body) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    while let Some(data) = body.next().await? {
        if bytes.len() as u64 + data.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Failed::new(PullFailure::TooLong, format!("more than {MAX_MANIFEST_BYTES} bytes")));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The first page of a bucket's list. The configured manifest must exist.
async fn look_into(bucket: &Bucket, key: &str) -> Result<Page, Failed> {
    let page = bucket.list(None).await?;
    if bucket.location().manifest.is_some() && !page.objects.is_empty() {
        bucket.get(key, &Conditions::default()).await?;
    }
    Ok(page)
}

/// Results of a first page: keys that are left out are neither sent nor counted as manifests.
fn judge(page: &Page, source: &Source, prefix: &str, shown: &str) -> Probed {
    let (mut list, mut manifests) = (BucketList::default(), 0);
    for object in &page.objects {
        list.keys += 1;
        match object.place(prefix) {
            Ok(_) if object.is_archived => list.leave_out(KeyLeftOut::Archived, &object.key),
            Ok(name) => manifests += u64::from(has_manifest_name(name)),
            Err(why) => list.leave_out(why, &object.key),
        }
    }
    let more = if page.next.is_some() { " and more" } else { "" };
    let left_out = list.to_text();
    let left_out = if left_out.is_empty() { left_out } else { format!("; {left_out}") };
    let what = format!("{shown}: {} keys{more}, {manifests} of them manifests{left_out}", list.keys);
    let is_all = page.next.is_none();
    if list.keys == 0 && is_all {
        let fix = PullFailure::NoKeys.fix(OriginKind::Bucket);
        return Probed::Wrong { what: format!("{shown}: {}", PullFailure::NoKeys), fix };
    }
    if manifests == 0 && is_all && !source.include_unreferenced {
        let fix = "correct the prefix in `pull`, or say include_unreferenced = true; keys that are left out need other names";
        return Probed::Wrong { what, fix };
    }
    Probed::Fine(what)
}

fn bucket(source: &Source, location: S3Location, environment: Environment) -> Result<Bucket, Failed> {
    let bucket = Bucket::new(location, &source.s3.clone().unwrap_or_default(), environment);
    let bucket = bucket.map_err(|why| Failed::new(PullFailure::Listing, why))?;
    let Some(ca) = &source.pull_ca else { return Ok(bucket) };
    let tls = authorities::of_system_and(ca)
        .map_err(|why| Failed::new(PullFailure::Configuration, why.to_string()))?;
    Ok(bucket.by(client::http(tls)))
}

/// A client of the web server of a source.
fn web_client(source: &Source, url: &str) -> Result<Client, Failed> {
    let authorization = source.pull_authorization_file.as_deref().map(|file| {
        let text = fs::read_to_string(file);
        text.map(|it| it.trim().to_owned()).map_err(|err| {
            let what = format!("pull_authorization_file {}: {}", file.display(), plain(&err));
            Failed::new(PullFailure::Configuration, what)
        })
    });
    Client::new(url, authorization.transpose()?, source.pull_ca.as_deref())
}

/// The folder of a URL, with its slash.
fn folder_of(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rfind('/').map_or(path, |at| &path[..=at])
}

/// Result of one round.
struct RoundResult {
    /// Content of the folder; `None` if nothing can be carried.
    inventory: Option<Inventory>,
    /// Files that are still missing.
    missing: Vec<String>,
    /// Why the source failed, and what was requested.
    refusal: Option<(String, Failed)>,
}

/// Origin of a source.
#[derive(Clone)]
enum Origin {
    /// A web server.
    Web(Arc<Client>),
    /// A bucket.
    Bucket(Arc<Bucket>),
}

impl Origin {
    /// Requests a manifest, unless it is still `known`.
    async fn look(&self, files: &Files, path: &str, known: Option<&Validator>) -> Result<Answer, Failed> {
        let name = || files.place_of(path).ok_or(PullFailure::BadPath);
        match (self, &files.base) {
            (Self::Bucket(bucket), Base::Bucket(location)) => {
                bucket.look(&format!("{}{}", location.prefix, name()?), known).await
            }
            (Self::Web(client), _) => {
                let url = files.url_of(path).ok_or(PullFailure::BadPath)?;
                client.get(&url, known, None).await
            }
            (Self::Bucket(_), Base::Manifest(_)) => Err(PullFailure::BadPath.into()),
        }
    }
}

/// State of a bucket.
struct Listing {
    held: ObjectVersions,
    /// Begun lists.
    number: u32,
    /// Time of the next one; with events see [`Puller::list_due`].
    due: Instant,
    /// Time of the newest complete one.
    listed_at: Option<Instant>,
    /// Interval of lists.
    every: Duration,
    /// Lists in succession that failed.
    failed: u32,
    /// Files are fetched even if no manifest names them.
    takes_all: bool,
}

/// A file that failed.
struct FailedFile {
    attempts: u32,
    /// Time of the next attempt.
    again: Instant,
    /// The newest failure.
    why: Failed,
}

/// One pulled source.
struct Puller {
    /// Name of the source.
    source: String,
    origin: Origin,
    files: Arc<Files>,
    /// Of a bucket.
    listing: Option<Listing>,
    /// Of a bucket whose store reports changes.
    events: Option<Events>,
    options: Options,
    /// Of fetched manifests, by path.
    validators: HashMap<String, Validator>,
    /// Files that failed.
    failing: HashMap<String, FailedFile>,
    /// Manifests whose last request failed.
    failed_manifests: BTreeMap<String, Failed>,
    /// Files that no manifest names, and since when.
    unnamed: HashMap<PathBuf, Instant>,
    /// Files that this program has pulled: nothing else is removed.
    pulled: HashSet<PathBuf>,
    /// Paths of manifests that may change.
    manifests: Vec<String>,
    /// Files that a live source with events had in its last round.
    on_air: HashSet<PathBuf>,
}

impl Puller {
    fn new(source: &Source, stats: Arc<PullStats>) -> Result<Self, Failed> {
        let url = source.pull.clone().unwrap_or_default();
        let folder = FilledFolder::open(&source.path, MAX_FILES, source.pull_bytes)
            .map_err(|why| Failed::new(PullFailure::Io, why))?;
        let failed = |err: io::Error| {
            Failed::new(PullFailure::Io, format!("{}: {}", source.path.display(), plain(&err)))
        };
        let options = Options { ignored_query: source.ignored_query(), ..Options::default() };
        let events = match source.events.as_ref().zip(source.bucket()) {
            Some((options, location)) => {
                let stats = stats.events_of(&source.name, &options.topic);
                Some(Events::open(&source.name, &location, options, &folder.root, stats).map_err(failed)?)
            }
            None => None,
        };
        let (origin, base, manifest, listing, options) = match source.bucket() {
            Some(location) => {
                let bytes_of = |name: &str| fs::metadata(folder.root.join(name)).ok().map(|it| it.len());
                let s3 = source.s3.clone().unwrap_or_default();
                let listing = Listing {
                    held: ObjectVersions::open(&folder.root, bytes_of).map_err(failed)?,
                    number: 0,
                    due: Instant::now(),
                    listed_at: None,
                    every: Duration::from_secs(s3.list_every_s.max(1)),
                    failed: 0,
                    takes_all: source.include_unreferenced,
                };
                let origin = Origin::Bucket(Arc::new(bucket(source, location.clone(), environment)?));
                let options = Options {
                    include_unreferenced: source.include_unreferenced,
                    base: source.base.clone(),
                    ..options
                };
                let manifest = location.manifest.clone();
                (origin, Base::Bucket(location), manifest, Some(listing), options)
            }
            None => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let manifest = decode(path.rsplit('/').next().unwrap_or_default());
                let options = Options { base: folder_of(&url).to_owned(), ..options };
                let origin = Origin::Web(Arc::new(web_client(source, &url)?));
                (origin, Base::Manifest(url), Some(manifest), None, options)
            }
        };
        let pulled = match &listing {
            Some(listing) => listing.held.names().map(|name| folder.root.join(name)).collect(),
            None => {
                let mark = folder.root.join(MARK);
                let files = folder.ledger.paths();
                if files.is_empty() {
                    fs::write(&mark, "").map_err(failed)?;
                }
                files.iter().filter(|_| mark.exists()).map(|path| folder.root.join(path)).collect()
            }
        };
        Ok(Self {
            source: source.name.clone(),
            origin,
            files: Arc::new(Files { base, manifest, moved: Default::default(), folder, stats }),
            listing,
            events,
            options,
            validators: HashMap::new(),
            failing: HashMap::new(),
            failed_manifests: BTreeMap::new(),
            unnamed: HashMap::new(),
            pulled,
            manifests: Vec::new(),
            on_air: HashSet::new(),
        })
    }

    async fn follow(mut self) -> Infallible {
        let mut failed_rounds = 0_u32;
        // Ends with this future.
        #[cfg(feature = "kafka")]
        let _reading = self.start_reading();
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
            self.rest(wait).await;
        }
    }

    /// Lists the bucket if that is due, requests the manifests, and fetches what is missing.
    async fn round(&mut self) -> RoundResult {
        let mut round = RoundResult { inventory: None, missing: Vec::new(), refusal: None };
        if self.list_due().is_some_and(|due| due <= Instant::now()) {
            round.refusal = self.list().await.err();
        }
        let mut due = self.manifests.clone();
        if let Some(manifest) = &self.files.manifest {
            let path = if self.listing.is_some() { encode(manifest) } else { manifest.clone() };
            let is_there = self.listing.as_ref().is_some_and(|it| it.held.get(manifest).is_some());
            if !is_there && !due.contains(&path) {
                due.insert(0, path);
            }
        }
        for path in due {
            self.look_at(&path).await;
        }
        for _ in 0..MAX_READINGS {
            let inventory = match self.read() {
                Ok(inventory) => inventory,
                Err(why) => {
                    round.refusal = round.refusal.or_else(|| Some(self.nothing_to_carry(&why)));
                    return round;
                }
            };
            round.missing = missing(&inventory);
            self.manifests = changing(&inventory, self.listing.is_some());
            self.on_air = match self.events.is_some() && inventory.is_live() {
                true => inventory.objects.values().map(|object| object.file.clone()).collect(),
                false => HashSet::new(),
            };
            round.inventory = Some(inventory);
            let now = Instant::now();
            let wanted: Vec<String> =
                round.missing.iter().filter(|it| self.may_ask(it, now)).cloned().collect();
            if wanted.is_empty() {
                break;
            }
            self.fetch_all(wanted, &BTreeMap::new()).await;
        }
        round
    }

    const fn kind(&self) -> OriginKind {
        match &self.origin {
            Origin::Web(_) => OriginKind::Web,
            Origin::Bucket(_) => OriginKind::Bucket,
        }
    }

    fn may_ask(&self, path: &str, now: Instant) -> bool {
        self.failing.get(path).is_none_or(|it| it.again <= now)
    }

    /// Why there is nothing to carry: a failed request, or a fetched package that is none, which is counted.
    fn nothing_to_carry(&self, why: &PackageError) -> (String, Failed) {
        let failing = self.failing.iter().map(|(path, it)| (path, &it.why));
        if let Some((path, failed)) = self.failed_manifests.iter().chain(failing).next() {
            return (self.files.url_of(path).unwrap_or_else(|| path.clone()), failed.clone());
        }
        let list = self
            .files
            .stats
            .lists()
            .get(&self.source)
            .map(|list| format!("{} keys, and no manifest among them that can be carried", list.keys));
        let of_reading = || match why {
            PackageError::Nothing(_, problems) => problems.first().map(ToString::to_string),
            PackageError::NoManifest(path) => Some(format!("{} is not a manifest", path.display())),
            PackageError::Io(path, err) => Some(format!("{}: {}", path.display(), plain(err))),
        };
        let detail = list.or_else(of_reading).unwrap_or_default();
        let failed = Failed::new(PullFailure::NoPackage, detail);
        self.files.stats.fail(&self.files.shown(), failed.clone());
        (self.files.shown(), failed)
    }

    /// Wanted files that could not be fetched, each with its reason: those that manifests name (`named`), manifests that no other
    /// file names, and fetched manifests that cannot be carried.
    fn missing(&self, named: &[String], inventory: &Inventory) -> Vec<Missing> {
        let mut all = BTreeMap::new();
        for name in named {
            let of_manifest = || Missing::of_manifest(name, LeftOutReason::Missing);
            let why = self.failing.get(name).map(|it| Missing::of(name, &it.why, self.kind()));
            all.insert(name.clone(), why.unwrap_or_else(of_manifest));
        }
        let failing = self.failing.iter().map(|(name, it)| (name, &it.why));
        for (name, why) in failing.chain(&self.failed_manifests) {
            all.entry(name.clone()).or_insert_with(|| Missing::of(name, why, self.kind()));
        }
        let faults = inventory.left_out.iter().filter(|it| it.reason.is_fault());
        for it in faults.filter(|it| it.reason != LeftOutReason::Missing && has_manifest_name(&it.name)) {
            all.entry(it.name.clone()).or_insert_with(|| Missing::of_manifest(&it.name, it.reason));
        }
        all.into_values().collect()
    }

    fn read(&self) -> Result<Inventory, PackageError> {
        let root = &self.files.folder.root;
        let source = self.files.manifest.as_ref().map_or_else(|| root.clone(), |it| root.join(it));
        Reader::new(&source, self.options.clone())?.read()
    }

    /// Reads the list of the bucket, and fetches the wanted files of each page.
    ///
    /// # Errors
    /// The request, and the reason why the list is incomplete or empty.
    async fn list(&mut self) -> Result<(), (String, Failed)> {
        let Origin::Bucket(bucket) = self.origin.clone() else { return Ok(()) };
        let Some(listing) = &mut self.listing else { return Ok(()) };
        listing.number += 1;
        if let Some(events) = &self.events {
            events.list_begins();
        }
        let result = self.list_pages(&bucket).await;
        let Some(listing) = &mut self.listing else { return Ok(()) };
        let now = Instant::now();
        let shown = bucket.location().shown(&bucket.location().prefix);
        match result {
            Ok((list, is_whole)) => {
                (listing.failed, listing.due, listing.listed_at) = (0, now + listing.every, Some(now));
                // Files that failed, or still waited for a retry, are retried at the short interval.
                if let Some(events) = self.events.as_ref().filter(|_| !is_whole) {
                    events.want_list();
                }
                let gone = listing.held.gone(listing.number);
                let is_empty = list.keys == 0;
                self.files.stats.listed(&self.source, list);
                for name in gone {
                    self.remove(&name);
                }
                if is_empty {
                    self.files.stats.fail(&shown, PullFailure::NoKeys);
                    return Err((shown, PullFailure::NoKeys.into()));
                }
                Ok(())
            }
            Err(failed) => {
                // Only complete lists show which keys are gone.
                listing.number -= 1;
                listing.failed += 1;
                listing.due = now + back_off(listing.failed);
                self.files.stats.fail(&shown, failed.clone());
                Err((shown, failed))
            }
        }
    }

    /// Returns the list, and whether all its wanted files were fetched.
    async fn list_pages(&mut self, bucket: &Bucket) -> Result<(BucketList, bool), Failed> {
        let (mut list, mut is_whole) = (BucketList::default(), true);
        let (mut next, mut empty_pages) = (None::<Next>, 0);
        loop {
            let page = bucket.list(next.as_ref()).await?;
            empty_pages = if page.objects.is_empty() { empty_pages + 1 } else { 0 };
            let (wanted, waits) = self.wanted(&page.objects, &bucket.location().prefix, &mut list);
            // Manifests last: what they name is there, or is fetched at once.
            let (manifests, media): (Vec<String>, Vec<String>) =
                wanted.keys().cloned().partition(|path| has_manifest_name(path));
            self.fetch_all(media, &wanted).await;
            self.fetch_all(manifests, &wanted).await;
            is_whole &= !waits && !wanted.keys().any(|path| self.failing.contains_key(path));
            match page.next {
                None => return Ok((list, is_whole)),
                Some(again) if next.as_ref() == Some(&again) || empty_pages >= s3::MAX_EMPTY_PAGES => {
                    return Err(Failed::new(PullFailure::Listing, "it has no end"));
                }
                Some(_) => next = page.next,
            }
        }
    }

    /// Paths to fetch of a page of the bucket's list, with their versions there; and whether others failed and are not due
    /// yet.
    fn wanted(
        &mut self,
        objects: &[Listed],
        prefix: &str,
        list: &mut BucketList,
    ) -> (BTreeMap<String, String>, bool) {
        let (mut wanted, mut waits) = (BTreeMap::new(), false);
        let Some(listing) = &mut self.listing else { return (wanted, waits) };
        let now = Instant::now();
        for object in objects {
            list.keys += 1;
            let name = match object.place(prefix) {
                Ok(name) => name,
                Err(why) => {
                    list.leave_out(why, &object.key);
                    continue;
                }
            };
            let is_current = listing.held.is_current(name, &object.version, object.bytes, listing.number);
            let is_manifest =
                || has_manifest_name(name) && self.files.manifest.as_deref().is_none_or(|it| it == name);
            let is_wanted = match is_current {
                Some(is_current) => !is_current,
                None => (listing.takes_all && self.files.manifest.is_none()) || is_manifest(),
            };
            if !is_wanted {
                continue;
            }
            if object.is_archived {
                list.leave_out(KeyLeftOut::Archived, &object.key);
                continue;
            }
            let path = encode(name);
            if self.failing.get(&path).is_none_or(|it| it.again <= now) {
                wanted.insert(path, object.version.clone());
            } else {
                waits = true;
            }
        }
        (wanted, waits)
    }

    /// Removes a file of the folder.
    fn remove(&mut self, name: &str) {
        let file = self.files.folder.root.join(name);
        self.pulled.remove(&file);
        self.unnamed.remove(&file);
        if let Some(listing) = &mut self.listing {
            listing.held.went(name);
        }
        if fs::remove_file(&file).is_ok() {
            self.files.folder.ledger.removed(name);
            self.files.stats.removed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests a manifest, and replaces the current one if it differs.
    async fn look_at(&mut self, path: &str) {
        self.failed_manifests.remove(path);
        if let Err(failed) = self.try_look_at(path).await {
            let url = self.files.url_of(path).unwrap_or_else(|| path.to_owned());
            self.files.stats.fail(&url, failed.clone());
            self.failed_manifests.insert(path.to_owned(), failed);
        }
    }

    async fn try_look_at(&mut self, path: &str) -> Result<(), Failed> {
        let name = self.files.place_of(path).ok_or(PullFailure::BadPath)?;
        let is_there = self.files.folder.root.join(&name).is_file();
        let known = self.known(path, &name).filter(|_| is_there);
        let answer = self.origin.look(&self.files, path, known.as_ref()).await?;
        let (validator, moved_to, mut body) = match answer {
            Answer::Body { validator, moved_to, body, .. } => (validator, moved_to, body),
            Answer::Unchanged { moved_to } => {
                self.files.came_from(path, moved_to)?;
                self.files.stats.unchanged.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            // Only as an answer to a range.
            Answer::OtherVersion => return Err(Failed::new(PullFailure::Status, "206")),
        };
        let bytes = manifest_bytes(&mut body).await?;
        self.files.came_from(path, moved_to)?;
        self.files.store_manifest(&name, &bytes)?;
        self.pulled.insert(self.files.folder.root.join(&name));
        if let (Some(listing), Some(etag)) = (&mut self.listing, validator.as_ref().and_then(Validator::bare))
        {
            listing.held.came(&name, etag, String::new(), bytes.len() as u64, listing.number);
        }
        match validator {
            Some(validator) => self.validators.insert(path.to_owned(), validator),
            None => self.validators.remove(path),
        };
        Ok(())
    }

    /// Validator of a fetched manifest, also from before a restart.
    fn known(&self, path: &str, name: &str) -> Option<Validator> {
        let held = || {
            let version = self.listing.as_ref()?.held.get(name)?;
            Validator::of_bare(&version.etag)
        };
        self.validators.get(path).cloned().or_else(held)
    }

    /// Fetches files. `listed` has the versions of those that a list has.
    async fn fetch_all(&mut self, wanted: Vec<String>, listed: &BTreeMap<String, String>) {
        let mut wanted = wanted.into_iter();
        let mut running = JoinSet::new();
        let mut paths = HashMap::new();
        loop {
            while running.len() < MAX_FETCHES
                && let Some(path) = wanted.next()
            {
                let (files, origin, own) = (Arc::clone(&self.files), self.origin.clone(), path.clone());
                let task = running.spawn_local(async move { files.fetch(&origin, &own).await });
                paths.insert(task.id(), path);
            }
            let (id, came) = match running.join_next_with_id().await {
                None => return,
                Some(Ok((id, came))) => (id, came),
                // Its file is treated like any other that failed.
                Some(Err(ended)) => {
                    let id = ended.id();
                    let why = match ended.try_into_panic() {
                        Ok(panic) => panic_text(&*panic),
                        Err(ended) => ended.to_string(),
                    };
                    let failed = Failed::new(PullFailure::Internal, why);
                    self.files.stats.fail(paths.get(&id).map_or("", String::as_str), failed.clone());
                    (id, Err(failed))
                }
            };
            let Some(path) = paths.remove(&id) else { continue };
            match came {
                Ok((etag, bytes)) => {
                    self.failing.remove(&path);
                    if let Some(name) = self.files.place_of(&path) {
                        if let Some(listing) = &mut self.listing {
                            let listed = listed.get(&path).cloned().unwrap_or_default();
                            listing.held.came(&name, etag, listed, bytes, listing.number);
                        }
                        self.pulled.insert(self.files.folder.root.join(name));
                    }
                }
                Err(why) => {
                    let attempts = self.failing.get(&path).map_or(0, |it| it.attempts) + 1;
                    let again = Instant::now() + back_off(attempts);
                    self.failing.insert(path, FailedFile { attempts, again, why });
                }
            }
        }
    }

    /// Removes pulled files of live presentations that no manifest has named for [`KEEP`].
    fn remove_unnamed(&mut self, inventory: &Inventory, missing: &[String]) {
        self.failing.retain(|path, _| missing.contains(path));
        let only = self.files.manifest.as_deref();
        let named: HashSet<&str> = self.manifests.iter().map(String::as_str).collect();
        let is_used = |path: &str| only == Some(path) || named.contains(path);
        self.validators.retain(|path, _| is_used(path));
        self.failed_manifests.retain(|path, _| is_used(path));
        self.files.keep_redirects(is_used);
        // Files of presentations that are not live stay, even unused ones.
        if !inventory.is_live() || self.listing.as_ref().is_some_and(|it| it.takes_all) {
            return;
        }
        let now = Instant::now();
        let named: HashSet<&PathBuf> = inventory.objects.values().map(|object| &object.file).collect();
        let mut gone = Vec::new();
        for file in &self.pulled {
            // Manifests of a bucket are removed when the bucket no longer has them.
            let is_manifest = match &self.files.manifest {
                Some(manifest) => file.ends_with(manifest),
                None => has_manifest_name(&file.to_string_lossy()),
            };
            if named.contains(file) || is_manifest {
                self.unnamed.remove(file);
            } else if now.duration_since(*self.unnamed.entry(file.clone()).or_insert(now)) >= KEEP {
                gone.push(file.clone());
            }
        }
        for file in gone {
            if let Ok(name) = file.strip_prefix(&self.files.folder.root) {
                self.remove(&name.to_string_lossy());
            }
        }
    }

    /// Time until the next round.
    fn look_again(&self, inventory: &Inventory) -> Duration {
        let live = inventory.objects.values().filter(|object| object.role == Role::Manifest);
        let fresh_ms = live.filter_map(|object| Manifest::read(object.bytes.as_deref()?)?.fresh_ms()).min();
        let listing = self.list_due();
        let retry = self.failing.values().map(|it| it.again).min();
        until_next_round(Instant::now(), fresh_ms, listing, retry)
    }
}

/// Time until the next round: manifests may have changed after `fresh_ms`, the bucket is listed at `listing`, and a failed
/// file is requested again at `retry`, but never sooner than a live manifest would be.
fn until_next_round(
    now: Instant,
    fresh_ms: Option<u64>,
    listing: Option<Instant>,
    retry: Option<Instant>,
) -> Duration {
    let (soonest_ms, latest_ms) = LIVE_LOOK_MS.into_inner();
    let manifests = fresh_ms.map_or(LOOK, |ms| Duration::from_millis(ms.clamp(soonest_ms, latest_ms)));
    let listing = listing.map(|it| it.saturating_duration_since(now));
    let retry = retry.map(|it| it.saturating_duration_since(now).max(Duration::from_millis(soonest_ms)));
    [listing, retry].into_iter().flatten().fold(manifests, Duration::min)
}

/// Paths of manifests that may change: all that were read; for a bucket those of live presentations, since its list shows
/// changes of the others.
fn changing(inventory: &Inventory, is_listed: bool) -> Vec<String> {
    let manifests = inventory.objects.values().filter(|object| object.role == Role::Manifest);
    let is_live = |bytes: &[u8]| Manifest::read(bytes).is_some_and(|it| it.fresh_ms().is_some());
    manifests
        .filter(|object| !is_listed || object.bytes.as_deref().is_some_and(is_live))
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
