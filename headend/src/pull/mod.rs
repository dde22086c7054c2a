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
//!
//! A bucket ([`s3`]) is listed page by page, and what is wanted of a page is fetched before the next is asked for: no list is
//! held, however long. Wanted are manifests, files of which the folder has another version, and with `include_unreferenced`
//! all. What manifests name is fetched as above, without regard to the list. Files that two lists in succession lack are removed.

mod client;
mod files;
mod s3;
mod stats;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use carousel::manifest::Manifest;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{Config, Source};
use crate::ingest::folder::FilledFolder;
use crate::options::S3Location;
use crate::options::has_manifest_name;
use crate::package::{Inventory, LeftOutReason, Options, PackageError, Reader, Role, decode, encode};
use client::{Answer, Client, Validator};
use files::{Base, Files};
use s3::credentials::{Environment, environment};
use s3::held::Held;
use s3::listing::{Listed, Next, Page, place};
use s3::{Bucket, Conditions};
use stats::Failed;
pub use stats::{BucketList, KeyLeftOut, PullFailure, PullStats};

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
/// Patience with a bucket that is looked at for `check`.
const PROBE: Duration = Duration::from_secs(10);
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
    /// Files that are wanted and did not come.
    pub missing: Vec<Missing>,
    /// Files that manifests name, that are there or elsewhere, and are not carried, by reason.
    pub not_carried: BTreeMap<LeftOutReason, usize>,
    /// The list of the bucket, if it is one.
    pub list: Option<BucketList>,
}

/// A file that is wanted and did not come, or a manifest that cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its path below the source's folder, as a URI has it.
    pub name: String,
    /// Label of a [`PullFailure`]; of a manifest that came, of a [`LeftOutReason`].
    pub reason: &'static str,
    /// What the origin or the system said; may be empty.
    pub detail: String,
    /// What to do.
    pub fix: &'static str,
}

impl Missing {
    fn of(name: &str, failed: &Failed) -> Self {
        let (reason, fix) = (failed.why.as_str(), failed.why.fix());
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
/// One line: a folder that cannot be made, a file with credentials that cannot be read, or no thread.
pub fn start(config: &Config) -> Result<Option<Arc<PullStats>>, String> {
    let stats = Arc::new(PullStats::default());
    let pullers = pullers(config, &stats)?;
    if pullers.is_empty() {
        return Ok(None);
    }
    let failed = |err: io::Error| format!("cannot start a thread: {err}");
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
                    let again = || Puller::new(&source, Arc::clone(&stats));
                    keep_following(&source.name, puller, again, Puller::follow, &stats).await;
                });
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
        let (source, of) = (puller.source.clone(), Arc::clone(&puller.files));
        let list = stats.lists().get(&source).cloned();
        let keys = list.as_ref().map(|it| it.keys);
        let inventory = match result.inventory {
            Some(inventory) if result.is_listed && keys != Some(0) => inventory,
            _ => {
                let nothing = || nothing_to_carry(&of.shown(), keys);
                let why = stats.newest_failure_and_fix().unwrap_or_else(nothing);
                return Err(format!("source {source}: {why}"));
            }
        };
        let missing = puller.missing(&result.missing, &inventory);
        let mut not_carried = inventory.left_out_by_reason();
        not_carried.remove(&LeftOutReason::Missing);
        let (files, bytes) = (files_now - files, bytes_now - bytes);
        all.push(Pulled { source, files, bytes, missing, not_carried, list });
    }
    Ok(all)
}

/// What is said of a source that came and has no presentation.
fn nothing_to_carry(shown: &str, keys: Option<u64>) -> String {
    match keys {
        Some(keys) => format!(
            "{shown}: {keys} keys, and no manifest among them that can be carried; correct the prefix in `pull`, or say \
             include_unreferenced = true"
        ),
        None => format!("{shown}: nothing to carry; give the URL of an HLS or DASH manifest as `pull`"),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn pulled_sources(config: &Config) -> impl Iterator<Item = &Source> {
    config.sources.iter().filter(|source| source.pull.is_some())
}

fn pullers(config: &Config, stats: &Arc<PullStats>) -> Result<Vec<Puller>, String> {
    pulled_sources(config).map(|source| Puller::new(source, Arc::clone(stats))).collect()
}

/// Keeps a source followed. A task that ends by a panic is counted as `internal`, told, and replaced by a new one with pauses of
/// 1 to 60 s: the folder has what was pulled.
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
            "headend: source {source}: following its origin has failed by a fault of this program ({why}); it begins anew in {} s; \
             please report the message above",
            wait.as_secs()
        );
        tokio::time::sleep(wait).await;
    }
}

/// What a panic says.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}

/// Result of a look at the bucket of a source, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// What is there.
    Fine(String),
    /// What is wrong, and what to do.
    Wrong {
        /// Where and what.
        what: String,
        /// What to do.
        fix: &'static str,
    },
}

/// Asks the bucket of each source for the first page of its list, and for the manifest that is named: name of the source, and what
/// is there.
pub fn probe(config: &Config) -> Vec<(String, Probed)> {
    let of = |source: &Source| {
        let location = source.bucket()?;
        let key = format!("{}{}", location.prefix, location.manifest.as_deref().unwrap_or_default());
        let (shown, prefix) = (location.shown(&key), location.prefix.clone());
        let looked = runtime().map_err(|err| Failed::new(PullFailure::Internal, err.to_string()));
        let looked = looked.and_then(|it| {
            it.block_on(async {
                let bucket = bucket(source, location, environment)
                    .map_err(|why| Failed::new(PullFailure::Listing, why))?
                    .impatient();
                let patience = tokio::time::timeout(PROBE, look_into(&bucket, &key));
                let silent =
                    || Failed::new(PullFailure::Timeout, format!("no answer for {} s", PROBE.as_secs()));
                patience.await.map_err(|_| silent())?
            })
        });
        let probed = match looked {
            Ok(page) => judge(&page, source, &prefix, &shown),
            Err(failed) => Probed::Wrong { what: format!("{shown}: {failed}"), fix: failed.why.fix() },
        };
        Some((source.name.clone(), probed))
    };
    config.sources.iter().filter_map(of).collect()
}

/// The first page of a bucket's list. The manifest that is named must be there.
async fn look_into(bucket: &Bucket, key: &str) -> Result<Page, Failed> {
    let page = bucket.list(None).await?;
    if bucket.location().manifest.is_some() && !page.objects.is_empty() {
        bucket.get(key, &Conditions::default()).await?;
    }
    Ok(page)
}

/// What a first page tells: keys that are left out are neither sent nor counted as manifests.
fn judge(page: &Page, source: &Source, prefix: &str, shown: &str) -> Probed {
    let (mut list, mut manifests) = (BucketList::default(), 0);
    for object in &page.objects {
        list.keys += 1;
        match place(object.key.get(prefix.len()..).unwrap_or_default()) {
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
        let fix = PullFailure::NoKeys.fix();
        return Probed::Wrong { what: format!("{shown}: {}", PullFailure::NoKeys), fix };
    }
    if manifests == 0 && is_all && !source.include_unreferenced {
        let fix = "correct the prefix in `pull`, or say include_unreferenced = true; keys that are left out need other names";
        return Probed::Wrong { what, fix };
    }
    Probed::Fine(what)
}

fn bucket(source: &Source, location: S3Location, environment: Environment) -> Result<Bucket, String> {
    Bucket::new(location, &source.s3.clone().unwrap_or_default(), environment)
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
    /// No list of the bucket was due, or it came.
    is_listed: bool,
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
    /// Asks for a manifest, if it is not `known`.
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
    held: Held,
    /// Lists that have begun.
    number: u32,
    /// Time of the next one.
    due: Instant,
    /// Interval of lists.
    every: Duration,
    /// Lists in succession that failed.
    failed: u32,
    /// Files are taken whether a manifest names them or not.
    takes_all: bool,
}

/// A file that failed.
struct Failing {
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
    options: Options,
    /// Of manifests that have come, by path.
    validators: HashMap<String, Validator>,
    /// Files that failed.
    failing: HashMap<String, Failing>,
    /// Manifests that did not come when they were looked at last.
    failed_manifests: BTreeMap<String, Failed>,
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
        let failed = |err: io::Error| format!("{}: {err}", source.path.display());
        let options = Options { ignored_query: source.ignored_query(), ..Options::default() };
        let (origin, base, manifest, listing, options) = match source.bucket() {
            Some(location) => {
                let bytes_of = |name: &str| fs::metadata(folder.root.join(name)).ok().map(|it| it.len());
                let s3 = source.s3.clone().unwrap_or_default();
                let listing = Listing {
                    held: Held::open(&folder.root, bytes_of).map_err(failed)?,
                    number: 0,
                    due: Instant::now(),
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
                let authorization = source.pull_authorization_file.as_deref().map(|file| {
                    let text = fs::read_to_string(file);
                    text.map(|it| it.trim().to_owned())
                        .map_err(|err| format!("pull_authorization_file {}: {err}", file.display()))
                });
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let manifest = decode(path.rsplit('/').next().unwrap_or_default());
                let options = Options { base: folder_of(&url).to_owned(), ..options };
                let origin = Origin::Web(Arc::new(Client::new(&url, authorization.transpose()?)));
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
            files: Arc::new(Files { base, manifest, folder, stats }),
            listing,
            options,
            validators: HashMap::new(),
            failing: HashMap::new(),
            failed_manifests: BTreeMap::new(),
            unnamed: HashMap::new(),
            pulled,
            manifests: Vec::new(),
        })
    }

    async fn follow(mut self) -> Infallible {
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

    /// Lists the bucket if that is due, looks at the manifests, and fetches what is missing.
    async fn round(&mut self) -> Round {
        let mut round = Round { inventory: None, missing: Vec::new(), is_listed: true };
        if self.listing.as_ref().is_some_and(|it| it.due <= Instant::now()) {
            round.is_listed = self.list().await;
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
            let Ok(inventory) = self.read() else { return round };
            round.missing = missing(&inventory);
            self.manifests = changing(&inventory, self.listing.is_some());
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

    fn may_ask(&self, path: &str, now: Instant) -> bool {
        self.failing.get(path).is_none_or(|it| it.again <= now)
    }

    /// Files that are wanted and did not come, each with its reason: those that manifests name (`named`), manifests that no other
    /// file names, and manifests that came and cannot be carried.
    fn missing(&self, named: &[String], inventory: &Inventory) -> Vec<Missing> {
        let mut all = BTreeMap::new();
        for name in named {
            let of_manifest = || Missing::of_manifest(name, LeftOutReason::Missing);
            let why = self.failing.get(name).map(|it| Missing::of(name, &it.why));
            all.insert(name.clone(), why.unwrap_or_else(of_manifest));
        }
        let failing = self.failing.iter().map(|(name, it)| (name, &it.why));
        for (name, why) in failing.chain(&self.failed_manifests) {
            all.entry(name.clone()).or_insert_with(|| Missing::of(name, why));
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

    /// Goes through the list of the bucket, and fetches what is wanted of each page. False: it did not come to its end.
    async fn list(&mut self) -> bool {
        let Origin::Bucket(bucket) = self.origin.clone() else { return true };
        let Some(listing) = &mut self.listing else { return true };
        listing.number += 1;
        let result = self.list_pages(&bucket).await;
        let Some(listing) = &mut self.listing else { return true };
        let now = Instant::now();
        match result {
            Ok(list) => {
                (listing.failed, listing.due) = (0, now + listing.every);
                let gone = listing.held.gone(listing.number);
                if list.keys == 0 {
                    let location = bucket.location();
                    self.files.stats.fail(&location.shown(&location.prefix), PullFailure::NoKeys);
                }
                self.files.stats.listed(&self.source, list);
                for name in gone {
                    self.remove(&name);
                }
                true
            }
            Err(failed) => {
                // Only whole lists tell what is gone.
                listing.number -= 1;
                listing.failed += 1;
                listing.due = now + back_off(listing.failed);
                let location = bucket.location();
                self.files.stats.fail(&location.shown(&location.prefix), failed);
                false
            }
        }
    }

    async fn list_pages(&mut self, bucket: &Bucket) -> Result<BucketList, Failed> {
        let mut list = BucketList::default();
        let (mut next, mut empty_pages) = (None::<Next>, 0);
        loop {
            let page = bucket.list(next.as_ref()).await?;
            empty_pages = if page.objects.is_empty() { empty_pages + 1 } else { 0 };
            let wanted = self.wanted(&page.objects, &bucket.location().prefix, &mut list);
            // Manifests last: what they name is there, or is fetched at once.
            let (manifests, media): (Vec<String>, Vec<String>) =
                wanted.keys().cloned().partition(|path| has_manifest_name(path));
            self.fetch_all(media, &wanted).await;
            self.fetch_all(manifests, &wanted).await;
            match page.next {
                None => return Ok(list),
                Some(again) if next.as_ref() == Some(&again) || empty_pages >= s3::MAX_EMPTY_PAGES => {
                    return Err(Failed::new(PullFailure::Listing, "it has no end"));
                }
                Some(_) => next = page.next,
            }
        }
    }

    /// Paths to fetch of a page of the bucket's list, and their versions there.
    fn wanted(
        &mut self,
        objects: &[Listed],
        prefix: &str,
        list: &mut BucketList,
    ) -> BTreeMap<String, String> {
        let mut wanted = BTreeMap::new();
        let Some(listing) = &mut self.listing else { return wanted };
        let now = Instant::now();
        for object in objects {
            list.keys += 1;
            let name = match place(object.key.get(prefix.len()..).unwrap_or_default()) {
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
            }
        }
        wanted
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

    /// Looks at a manifest: what differs from the one that is there takes its place.
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
        let Answer::Body { validator, mut body, .. } = answer else {
            self.files.stats.unchanged.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let mut bytes = Vec::new();
        while let Some(data) = body.next().await? {
            if bytes.len() as u64 + data.len() as u64 > MAX_MANIFEST_BYTES {
                return Err(PullFailure::TooLong.into());
            }
            bytes.extend_from_slice(&data);
        }
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

    /// Validator of a manifest that has come, also before a restart.
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
                // Its file is as any other that failed.
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
                    self.failing.insert(path, Failing { attempts, again, why });
                }
            }
        }
    }

    /// Removes pulled files of live presentations that no manifest has named for [`KEEP`].
    fn remove_unnamed(&mut self, inventory: &Inventory, missing: &[String]) {
        self.failing.retain(|path, _| missing.contains(path));
        let only = self.files.manifest.as_deref();
        self.validators.retain(|path, _| only == Some(path) || self.manifests.contains(path));
        self.failed_manifests.retain(|path, _| only == Some(path) || self.manifests.contains(path));
        // What is not live stays as it is, with files that are no use.
        if !inventory.is_live() || self.listing.as_ref().is_some_and(|it| it.takes_all) {
            return;
        }
        let now = Instant::now();
        let named: HashSet<&PathBuf> = inventory.objects.values().map(|object| &object.file).collect();
        let mut gone = Vec::new();
        for file in &self.pulled {
            // Manifests of a bucket are removed when it has them no longer.
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
        let listing = self.listing.as_ref().map(|it| it.due);
        let retry = self.failing.values().map(|it| it.again).min();
        until_next_round(Instant::now(), fresh_ms, listing, retry)
    }
}

/// Time until the next round: manifests may have changed after `fresh_ms`, the bucket is listed at `listing`, and a file that
/// failed is asked for again at `retry`, but never sooner than a live manifest would be.
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

/// Paths of manifests that were read: all of them may change. Of a bucket those of live presentations; its list tells of
/// others.
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
