//! Following of changing sources, in a separate thread: reading packages, hashing files and making repair symbols takes
//! seconds for a film, and must not delay sending.
//!
//! ```text
//! watch ─▶ inventory ─▶ changes ─▶ hash, repair symbols ─▶ Update ─▶ Broadcast::apply
//! └────▶ growth: pieces of segments being written  ──────┤
//!      guides, logos ─▶ catalogue ────────────────────────────┘
//!               ▲                                              lost files ─┘
//!               └───────────────────────────────────────────────┘
//! ```

mod growth;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::command::Command;

use crate::broadcast::first_order;
use crate::catalog::Catalog;
use crate::clock::Clocks;
use crate::condition::{Arrivals, Condition, ENDED, first_line};
use crate::config::{Config, Source};
use crate::object::Body;
use crate::package::{self, Inventory, LeftOutReason, ObjectSource, Options, PackageError, Reader, Role};
use crate::prepare::{
    Bundle, PreparedRelease, Update, digest_of, is_in_memory, keep_prefix, options, prepare, prepare_bundle,
};
use crate::releases::{self, Release};
use crate::spool;
use crate::watch::Watch;
use growth::Growth;

/// Capacity of the queue of updates: each may hold repair symbols of some megabytes.
const UPDATES: usize = 8;

/// Objects removed because their file changed during transmission: source and path.
type Lost = Arc<Mutex<Vec<(usize, String)>>>;

/// Handle to the following thread.
#[derive(Debug)]
pub struct Follower {
    updates: Receiver<Update>,
    lost: Lost,
}

/// The following thread has ended by a panic: there will be no further updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

impl Follower {
    /// Starts the thread. `known`: the objects on the air, by source; `catalog`: the generator of the catalogue, if there
    /// is one.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        config: &Config,
        known: Vec<Inventory>,
        catalog: Option<Catalog>,
        clocks: Arc<dyn Clocks>,
    ) -> std::io::Result<Self> {
        let (sender, updates) = sync_channel(UPDATES);
        let lost = Lost::default();
        let sources = config
            .sources
            .iter()
            .zip(known)
            .map(|(source, known)| FollowedSource::new(source, known))
            .collect();
        let following = FollowerState {
            config: config.clone(),
            sources,
            catalog,
            commands: Vec::new(),
            firmware: Vec::new(),
            clocks,
            lost: Arc::clone(&lost),
            updates: sender,
        };
        std::thread::Builder::new().name("follow".to_owned()).spawn(move || following.run())?;
        Ok(Self { updates, lost })
    }

    /// The next update, if one is ready.
    ///
    /// # Errors
    /// [`Ended`] after the last update of a thread that has ended.
    pub fn poll(&self) -> Result<Option<Update>, Ended> {
        match self.updates.try_recv() {
            Ok(update) => Ok(Some(update)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }

    /// Reports objects removed because their file changed during transmission.
    pub fn report_lost(&self, files: Vec<(usize, String)>) {
        lock(&self.lost).extend(files);
    }
}

/// Time for which an init segment or key stays on the air while its file is empty, cut or being written: packagers that restart
/// leave it empty for the time of a segment.
const KEEP_NS: u64 = 20_000_000_000;

/// Time after which a file that could not be prepared is tried again without an event.
const RETRY_NS: u64 = 10_000_000_000;

/// Interval of checks for a live source's events. A check is one system call if there are none.
const LIVE_LOOK: Duration = Duration::from_millis(20);
/// Minimum time between readings of a source, in multiples of the duration of a reading.
const READING_SHARE: u64 = 10;

/// State of one source.
struct FollowedSource {
    source: Source,
    /// The objects on the air.
    known: Inventory,
    /// `None` while the source cannot be read.
    reading: Option<(Watch, Reader)>,
    /// A manifest is held until it is consistent: read again even without a change.
    is_unsettled: bool,
    /// There were events since the last reading.
    has_changed: bool,
    /// Time of the last reading, and earliest time of the next.
    read_ns: Option<u64>,
    free_ns: u64,
    /// Time from which objects that could not be prepared are tried again.
    retry_ns: u64,
    /// Its segments that are being written.
    growth: Growth,
    /// Time since which objects are kept although their file is unusable.
    kept: HashMap<String, u64>,
    /// Objects that left the air, or could not be prepared, although they are in `known`: sent again after the next reading.
    lost: BTreeSet<String>,
    /// Why it cannot be read, if it cannot.
    away: Option<String>,
    arrivals: Arrivals,
    /// Whether it has been live since the start.
    was_live: bool,
    /// As last reported.
    condition: Condition,
}

impl FollowedSource {
    fn new(source: &Source, known: Inventory) -> Self {
        let reading = start(source, &known).ok();
        // Changes before the watch began are found by the first reading.
        let mut growth = Growth::default();
        growth.learn(&known);
        Self {
            source: source.clone(),
            condition: Condition::at_start(&known),
            was_live: known.is_live(),
            known,
            reading,
            is_unsettled: true,
            has_changed: false,
            read_ns: None,
            free_ns: 0,
            retry_ns: 0,
            growth,
            kept: HashMap::new(),
            lost: BTreeSet::new(),
            away: None,
            arrivals: Arrivals::default(),
        }
    }

    /// Whether it is live, so that its events are checked more often.
    fn is_live(&self) -> bool {
        let has_events = self.reading.as_ref().is_none_or(|(watch, _)| watch.has_events());
        self.source.reserved_bps.is_some() && has_events
    }

    /// Reads pending events. A folder that was moved, deleted or replaced is watched again as soon as there is one.
    fn look(&mut self) {
        if self.reading.as_ref().is_some_and(|(watch, _)| !matches!(watch.is_in_place(), Ok(true))) {
            self.reading = None;
        }
        if self.reading.is_none() {
            match start(&self.source, &self.known) {
                Ok(reading) => (self.reading, self.has_changed) = (Some(reading), true),
                Err(why) => self.away = Some(first_line(&why)),
            }
        }
        if let Some((watch, _)) = &mut self.reading {
            self.has_changed |= watch.look();
        }
    }

    /// Reads the source, if it may have changed. Held manifests are checked again after `rescan_ns`.
    fn read(&mut self, now_ns: u64, rescan_ns: u64) -> Option<Inventory> {
        let is_wanted = !self.lost.is_empty() && now_ns >= self.free_ns.max(self.retry_ns);
        let is_held_back = self.is_unsettled
            && self.read_ns.is_none_or(|read_ns| now_ns >= read_ns.saturating_add(rescan_ns));
        let has_new = self.has_changed && now_ns >= self.free_ns;
        if !(is_wanted || is_held_back || has_new) {
            return None;
        }
        let (watch, reader) = self.reading.as_mut()?;
        (self.has_changed, self.is_unsettled, self.read_ns) = (false, false, Some(now_ns));
        // A temporarily empty source is left unchanged, and read again even without an event.
        let mut inventory = match reader.read_files(watch.files(), Vec::new()) {
            Ok(inventory) => inventory,
            Err(why) => {
                (self.away, self.is_unsettled) = (Some(first_line(&why.to_string())), true);
                return None;
            }
        };
        self.away = None;
        self.is_unsettled = inventory.is_unsettled;
        keep_prefix(&mut inventory, &self.source);
        self.keep_good(&mut inventory, now_ns);
        Some(inventory)
    }

    /// The current condition, if it differs from the last reported one.
    fn changed_condition(&mut self, now_ns: u64) -> Option<Condition> {
        let stalled = self.arrivals.stalled(&self.source, &self.known, now_ns);
        self.was_live |= self.known.is_live();
        let is_ended = self.source.reserved_bps.is_some()
            && self.was_live
            && !self.known.is_live()
            && self.known.without_media().is_none();
        let now = match (self.away.clone(), stalled) {
            (None, None) if is_ended => Condition::Ended(ENDED.to_owned()),
            (Some(why), _) => Condition::Away(why),
            (None, Some(why)) => Condition::Stalled(why),
            (None, None) => Condition::Available,
        };
        if now == self.condition {
            return None;
        }
        self.condition = now.clone();
        Some(now)
    }

    /// Keeps init segments whose file is temporarily unusable.
    fn keep_good(&mut self, inventory: &mut Inventory, now_ns: u64) {
        let mut kept = HashMap::new();
        for left_out in inventory.left_out.iter().filter(|it| is_passing(it.reason)) {
            let Some(good) = self.known.objects.get(&left_out.name).filter(|it| is_in_memory(it)) else {
                continue;
            };
            let since = self.kept.get(&left_out.name).copied().unwrap_or(now_ns);
            kept.insert(left_out.name.clone(), since);
            if now_ns.saturating_sub(since) < KEEP_NS {
                inventory.objects.insert(left_out.name.clone(), good.clone());
            }
        }
        self.kept = kept;
        // Its time must expire even without an event.
        self.is_unsettled |= self.kept.values().any(|since| now_ns.saturating_sub(*since) < KEEP_NS);
    }
}

/// Whether a file may become usable soon.
const fn is_passing(reason: LeftOutReason) -> bool {
    matches!(reason, LeftOutReason::BeingWritten | LeftOutReason::Empty | LeftOutReason::Cut)
}

/// Begins to watch a source. Files that are as they were at the last reading are finished.
fn start(source: &Source, known: &Inventory) -> Result<(Watch, Reader), String> {
    let failed =
        |err: std::io::Error| format!("{}: {}", source.path.display(), carousel::config::plain(&err));
    let options = Options { is_following: true, ..options(source) };
    let reader = Reader::new(&source.path, options).map_err(|err| match err {
        PackageError::Io(_, err) => failed(err),
        other => other.to_string(),
    })?;
    let mut watch = Watch::start(reader.root(), reader.links_to()).map_err(failed)?;
    let files: HashMap<&Path, i128> =
        known.objects.values().map(|it| (it.file.as_path(), it.modified_ns)).collect();
    watch.finish(|it| files.get(it.file.as_path()) == Some(&it.modified_ns));
    Ok((watch, reader))
}

/// A bundle on offer, with the result of the last check of its file.
struct OfferedBundle {
    /// With the state of its file then; `None`: it could not be read.
    offered: (Release, Option<FileStamp>),
    is_usable: bool,
}

impl OfferedBundle {
    /// Whether the bundle of an offer is the same: same name, session and file.
    fn has_bundle_of(&self, (release, file): &(Release, Option<FileStamp>)) -> bool {
        let of = |it: &Release| (it.offer.sha256, it.offer.url.clone(), it.offer.session, it.path.clone());
        of(&self.offered.0) == of(release) && self.offered.1 == *file
    }
}

/// Identity and change time of a file, which differ when it is replaced, written, or its permissions change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    body: Body,
    changed: (i64, i64),
}

impl FileStamp {
    /// `None`: it cannot be read.
    fn of(path: &Path) -> Option<Self> {
        let (body, file) = Body::file(path).ok()?;
        let metadata = file.metadata().ok()?;
        Some(Self { body, changed: (metadata.ctime(), metadata.ctime_nsec()) })
    }
}

struct FollowerState {
    config: Config,
    sources: Vec<FollowedSource>,
    catalog: Option<Catalog>,
    /// Commands to receivers on the air.
    commands: Vec<Command>,
    /// Firmware that is on offer.
    firmware: Vec<OfferedBundle>,
    clocks: Arc<dyn Clocks>,
    lost: Lost,
    updates: SyncSender<Update>,
}

impl FollowerState {
    /// Runs until the receiver of the updates is dropped.
    fn run(mut self) {
        let rescan = Duration::from_millis(self.config.carousel.rescan_interval_ms);
        let mut since_rescan = Duration::ZERO;
        loop {
            let is_live = self.sources.iter().any(FollowedSource::is_live);
            let pause = if is_live { LIVE_LOOK.min(rescan) } else { rescan };
            self.clocks.sleep(pause);
            since_rescan += pause;
            let is_rescan = since_rescan >= rescan;
            let lost = if is_rescan { std::mem::take(&mut *lock(&self.lost)) } else { Vec::new() };
            self.take_lost(lost);
            for source in 0..self.sources.len() {
                if !is_rescan && !self.sources[source].is_live() {
                    continue;
                }
                if self.look(source).is_none() || (is_rescan && self.report_condition(source).is_none()) {
                    return;
                }
            }
            if is_rescan {
                since_rescan = Duration::ZERO;
                if self.check_catalog().is_none()
                    || self.check_commands().is_none()
                    || self.check_firmware().is_none()
                {
                    return;
                }
            }
        }
    }

    /// Makes the catalogue again if one of its inputs has changed. `None` if the receiver is gone.
    fn check_catalog(&mut self) -> Option<()> {
        let Some(catalog) = &mut self.catalog else { return Some(()) };
        let inventories: Vec<&Inventory> = self.sources.iter().map(|it| &it.known).collect();
        let now = self.clocks.wall();
        if !catalog.is_stale(&self.config, &inventories, now) {
            return Some(());
        }
        let made = catalog.make(&self.config, &inventories, now);
        self.updates.send(Update::Catalog(Box::new(made))).ok()
    }

    /// Reports new, expired and cancelled commands to receivers. `None` if the receiver is gone.
    fn check_commands(&mut self) -> Option<()> {
        let Some(folder) = spool::folder(&self.config) else { return Some(()) };
        let (commands, _) = spool::read(&folder, self.clocks.wall().unix_seconds());
        if commands == self.commands {
            return Some(());
        }
        self.commands.clone_from(&commands);
        self.updates.send(Update::Commands(commands)).ok()
    }

    /// Reports new, changed and withdrawn firmware offers. `None` if the receiver is gone.
    fn check_firmware(&mut self) -> Option<()> {
        if releases::folder(&self.config).is_none() {
            return Some(());
        }
        let (releases, _) = releases::read(&self.config, self.clocks.wall().unix_seconds());
        let now = releases.into_iter().map(|release| {
            let file = FileStamp::of(&release.path);
            (release, file)
        });
        let now: Vec<(Release, Option<FileStamp>)> = now.collect();
        if now.iter().eq(self.firmware.iter().map(|it| &it.offered)) {
            return Some(());
        }
        let mut all = Vec::with_capacity(now.len());
        let before = std::mem::take(&mut self.firmware);
        for offered in now {
            let known = before.iter().find(|it| it.has_bundle_of(&offered));
            let bundle = match known {
                Some(it) if it.is_usable => Bundle::Same,
                Some(_) => Bundle::Unusable,
                None => prepare_bundle(&self.config, &offered.0),
            };
            let is_usable = !matches!(bundle, Bundle::Unusable);
            all.push(PreparedRelease { release: offered.0.clone(), bundle });
            self.firmware.push(OfferedBundle { offered, is_usable });
        }
        self.updates.send(Update::Firmware(all)).ok()
    }

    /// Reports the condition of one source if it has changed. `None` if the receiver is gone.
    fn report_condition(&mut self, source: usize) -> Option<()> {
        let now_ns = self.clocks.now().as_nanos();
        match self.sources[source].changed_condition(now_ns) {
            Some(condition) => self.updates.send(Update::Condition { source, condition }).ok(),
            None => Some(()),
        }
    }

    /// Keeps objects that the transmission has lost for the next reading of their source, which is tried at once.
    fn take_lost(&mut self, lost: Vec<(usize, String)>) {
        for (source, path) in lost {
            let followed = &mut self.sources[source];
            followed.lost.insert(path);
            followed.retry_ns = 0;
        }
    }

    /// Reports the changes of one source. `None` if the receiver is gone.
    fn look(&mut self, source: usize) -> Option<()> {
        let now_ns = self.clocks.now().as_nanos();
        let Self { sources, updates, config, .. } = self;
        let followed = &mut sources[source];
        followed.look();
        if let Some((watch, _)) = &followed.reading {
            let (growth, known) = (&mut followed.growth, &followed.known);
            growth.look((config, source), watch, known, now_ns, |update| updates.send(update).ok())?;
        }
        let rescan_ns = config.carousel.rescan_interval_ms * 1_000_000;
        let Some(inventory) = followed.read(now_ns, rescan_ns) else {
            return Some(());
        };
        followed.growth.learn(&inventory);
        let read_ns = self.clocks.now().as_nanos();
        self.sources[source].free_ns = read_ns.saturating_add((read_ns - now_ns) * READING_SHARE);
        let mut changes = package::changes(&self.sources[source].known, &inventory);
        let followed = &mut self.sources[source];
        let lost = std::mem::take(&mut followed.lost);
        // Others are among the changes.
        let comes_back = |object: &&ObjectSource| {
            lost.contains(&object.path) && followed.known.objects.get(&object.path) == Some(*object)
        };
        changes.added.extend(inventory.objects.values().filter(comes_back).cloned());
        if changes.added.iter().any(|object| object.role == Role::Segment) {
            self.sources[source].arrivals.note(read_ns);
        }
        // A replaced object stays on the air until its successor is ready.
        changes.removed.retain(|path| !inventory.objects.contains_key(path));
        if changes.added.is_empty() && changes.removed.is_empty() {
            return Some(());
        }
        let known = std::mem::replace(&mut self.sources[source].known, inventory.clone());
        let is_live = self.sources[source].source.reserved_bps.is_some();
        if is_live && !known.is_live() {
            // A packager that started later: segments are sent in the order of preparation, newest first.
            changes.added = first_order(changes.added, &inventory, is_live);
        }
        self.updates.send(Update::Changed { source, inventory, removed: changes.removed }).ok()?;
        for object in changes.added {
            // It is or was on the air already.
            if self.sources[source].growth.has_sent(&object.path, || digest_of(&object)) {
                continue;
            }
            match prepare(&self.config, source, &object) {
                Some(prepared) => {
                    self.updates.send(Update::Ready { source, prepared: Box::new(prepared) }).ok()?;
                }
                // It vanished or changed since the reading, or may not be read.
                None => {
                    self.sources[source].lost.insert(object.path);
                    self.sources[source].retry_ns = read_ns.saturating_add(RETRY_NS);
                }
            }
        }
        self.updates.send(Update::Settled { source }).ok()
    }
}

/// The list stays consistent after a panic.
fn lock(lost: &Lost) -> MutexGuard<'_, Vec<(usize, String)>> {
    lost.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
