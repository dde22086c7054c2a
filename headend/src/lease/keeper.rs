//! The thread that sends requests to the store: renews, reads, takes over, and transfers tables. [`super::core`] decides.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::reason::Counts;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, Semaphore};

use super::core::{Answer, Core, Holder, Next, Request, Timing};
use super::record::{self, State};
use crate::clock::boot_ns;
use crate::options::Lease as Options;
use crate::pull::{Condition, PullFailure, SmallStore, StoreFailed, WriteOutcome};

/// Name of the document below the prefix.
const DOCUMENT: &str = "lease.json";
/// Time for a table to come or go.
const TABLE_PATIENCE: Duration = Duration::from_secs(20);
/// Before a table that could not be read is asked for again.
const TABLE_AGAIN: Duration = Duration::from_secs(10);
/// Time for a request of the look at the store.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two requests to a store that does not answer.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Equal failures of the store after which one is logged again.
const FAILURES_A_LINE: u64 = 1000;

carousel::limits! {
    /// Bytes of the document of a lease.
    const MAX_DOCUMENT_BYTES: usize = 4 << 20, "bytes" {
        why: "A hundred live channels have 300 KB; objects of long sessions are in tables.",
        full: "It is not read, counted as `unreadable`, and not taken over.",
        free: "Holds for one document.",
        test: "a_document_or_table_that_is_too_long_is_not_read",
    }

    /// Bytes of a table of objects.
    const MAX_TABLE_BYTES: usize = 64 << 20, "bytes" {
        why: "A session of a million objects has 55 MB.",
        full: "It is not read, counted as `table`; its objects get new TOIs at a takeover.",
        free: "Holds for one table.",
        test: "a_document_or_table_that_is_too_long_is_not_read",
    }

    /// Tables that wait to be written.
    const MAX_WAITING_TABLES: usize = 8, "tables" {
        why: "Few sessions have more objects than the document takes; a table may have 64 MiB.",
        full: "The table is not written, counted as `table`; the next state tries again.",
        free: "When one is being written.",
        test: "tables_that_wait_are_bounded_and_those_that_find_no_place_are_tried_again",
    }

    /// Tables that are read or written at the same time.
    const MAX_TABLE_REQUESTS: usize = 4, "requests" {
        why: "Each holds a table in memory.",
        full: "Further ones wait.",
        free: "When a request ends, after 20 seconds at the latest.",
        test: "a_standby_reads_more_tables_than_requests_may_run",
    }
}

carousel::reasons! {
    /// Why a request for a lease came to nothing.
    pub enum LeaseFailure {
        /// No connection to the store.
        Connect = "connect",
        /// No answer in time: a third of the lease's duration.
        Timeout = "timeout",
        /// The store refuses the request, or has failed.
        Refused = "refused",
        /// The document in the store is not a lease, is of a newer headend, or is too long.
        Unreadable = "unreadable",
        /// A table of objects could not be read, written or removed.
        Table = "table",
        /// The store wrote an object although its condition did not hold.
        Unconditional = "unconditional",
    }
}

/// Role of a headend with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRole {
    /// It sends.
    Active,
    /// Another headend is active, or none yet.
    Standby,
}

impl LeaseRole {
    /// Text for logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
        }
    }
}

/// State of a lease, for `headend status` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Role of this headend.
    pub role: LeaseRole,
    /// Name of this one.
    pub node: String,
    /// Name of the holder, as it was seen last.
    pub holder: Option<String>,
    /// Generation, as it was seen last.
    pub generation: u64,
    /// Time since the start of the renewal that counts; of a standby since the version that it has seen came.
    pub since_renewal_ms: Option<u64>,
    /// Number of takeovers by this process.
    pub takeovers: u64,
    /// Failures by reason.
    pub failures: Vec<(&'static str, u64)>,
}

/// The other headend's state, as of a takeover.
#[derive(Debug, Clone)]
pub(super) struct PredecessorState {
    pub(super) generation: u64,
    pub(super) state: Arc<State>,
    /// Time of the read.
    pub(super) read_ns: u64,
    pub(super) tables: Arc<HashMap<String, String>>,
}

/// A state to be written.
#[derive(Debug, Clone)]
struct Published {
    number: u64,
    /// Generation under which it was made; it is not written under another.
    generation: u64,
    state: Arc<State>,
}

/// A table to be written.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) session: usize,
    pub(super) name: String,
    pub(super) content: String,
}

/// Between the thread that sends and the one that asks the store.
#[derive(Debug)]
pub(super) struct Shared {
    /// Generation of the lease that is held; 0: none.
    generation: AtomicU64,
    /// Generation in whose place the thread that sends has continued; 0: none.
    adopted: AtomicU64,
    /// End of the permission to send packets.
    until_ns: AtomicU64,
    is_leaving: AtomicBool,
    has_left: AtomicBool,
    inner: Mutex<Inner>,
    news: Notify,
    failures: Counts<LeaseFailure>,
    node: String,
    uploads: Sender<Upload>,
}

#[derive(Debug, Default)]
struct Inner {
    /// State that is written with the next renewal.
    published: Option<Published>,
    /// The newest that has been written.
    confirmed: Option<(u64, Arc<State>)>,
    found: Option<PredecessorState>,
    /// Tables that have been written: session and name.
    written: Vec<(usize, String)>,
    /// The newest state of another holder.
    seen: Option<Arc<State>>,
    holder: Option<String>,
    seen_generation: u64,
    /// See [`LeaseView::since_renewal_ms`].
    renewed_ns: Option<u64>,
    takeovers: u64,
    broken: Option<String>,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Generation that is held, if packets may be sent now.
    pub(super) fn active(&self) -> Option<u64> {
        let generation = self.generation.load(Ordering::Acquire);
        let until_ns = self.until_ns.load(Ordering::Acquire);
        // The time may be that of another generation, if it has changed in between.
        let is_same = self.generation.load(Ordering::Acquire) == generation;
        (generation > 0 && is_same && boot_ns() < until_ns).then_some(generation)
    }

    pub(super) fn adopt(&self, generation: Option<u64>) {
        self.adopted.store(generation.unwrap_or(0), Ordering::Release);
    }

    /// Whether packets may be sent now that were made under the generation that was adopted.
    pub(super) fn may_send(&self) -> bool {
        self.active().is_some_and(|generation| generation == self.adopted.load(Ordering::Acquire))
    }

    /// Generation that is held, whether or not packets may be sent.
    pub(super) fn held(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Acquire)).filter(|it| *it > 0)
    }

    pub(super) fn found(&self, generation: u64) -> Option<PredecessorState> {
        self.inner().found.clone().filter(|it| it.generation == generation)
    }

    /// Takes a state to be written, made under that generation; at once if that is urgent.
    pub(super) fn publish(&self, number: u64, generation: u64, state: State, is_urgent: bool) {
        self.inner().published = Some(Published { number, generation, state: Arc::new(state) });
        if is_urgent {
            self.news.notify_one();
        }
    }

    pub(super) fn confirmed(&self) -> Option<(u64, Arc<State>)> {
        self.inner().confirmed.clone()
    }

    pub(super) fn seen(&self) -> Option<Arc<State>> {
        self.inner().seen.clone()
    }

    pub(super) fn upload(&self, upload: Upload) {
        // Without its thread nobody sends either.
        if let Err(TrySendError::Full(upload)) = self.uploads.try_send(upload) {
            self.failures.add(LeaseFailure::Table);
            self.inner().written.push((upload.session, String::new()));
        }
    }

    pub(super) fn take_written(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.inner().written)
    }

    /// Why this store cannot keep a lease.
    pub(super) fn broken(&self) -> Option<String> {
        self.inner().broken.clone()
    }

    pub(super) fn leave(&self) {
        self.until_ns.store(0, Ordering::Release);
        self.is_leaving.store(true, Ordering::Release);
        self.news.notify_one();
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    pub(super) fn view(&self) -> LeaseView {
        let role = if self.active().is_some() { LeaseRole::Active } else { LeaseRole::Standby };
        let inner = self.inner();
        LeaseView {
            role,
            node: self.node.clone(),
            holder: inner.holder.clone(),
            generation: inner.seen_generation,
            since_renewal_ms: inner.renewed_ns.map(|it| boot_ns().saturating_sub(it) / 1_000_000),
            takeovers: inner.takeovers,
            failures: LeaseFailure::ALL.iter().map(|why| (why.as_str(), self.failures.get(*why))).collect(),
        }
    }

    /// A state for the reference of metrics.
    pub(super) fn sample() -> Arc<Self> {
        Arc::new(Self::new("", channel(MAX_WAITING_TABLES).0))
    }

    fn new(node: &str, uploads: Sender<Upload>) -> Self {
        Self {
            generation: AtomicU64::new(0),
            adopted: AtomicU64::new(0),
            until_ns: AtomicU64::new(0),
            is_leaving: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            inner: Mutex::default(),
            news: Notify::new(),
            failures: Counts::default(),
            node: node.to_owned(),
            uploads,
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// One line: an endpoint that is not a URL, or no thread.
pub(super) fn start(options: &Options) -> Result<Arc<Shared>, String> {
    let store = Arc::new(store(options)?);
    let failed = |err: std::io::Error| format!("cannot start a thread: {}", carousel::config::plain(&err));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (uploads, to_upload) = channel(MAX_WAITING_TABLES);
    let shared = Arc::new(Shared::new(&options.node, uploads));
    let timing = Timing::of_ms(options.duration_ms, options.renewal_ms);
    let holder = Holder { node: options.node.clone(), instance: fastrand::u64(1..) };
    let keeper = Keeper {
        store,
        shared: Arc::clone(&shared),
        core: Core::new(timing, holder),
        patience: Duration::from_millis(options.duration_ms / 3),
        state: Arc::default(),
        state_ns: 0,
        document_tables: HashSet::new(),
        tables: Arc::default(),
        tables_asked: HashSet::new(),
        table_requests: Arc::new(Semaphore::new(MAX_TABLE_REQUESTS)),
        last_failure: None,
    };
    std::thread::Builder::new()
        .name("lease".to_owned())
        .spawn(move || tokio::task::LocalSet::new().block_on(&runtime, keeper.run(to_upload)))
        .map_err(failed)?;
    Ok(shared)
}

fn store(options: &Options) -> Result<SmallStore, String> {
    let location = options
        .location()
        .ok_or_else(|| format!("[lease] url {:?} is not a folder of a bucket", options.url))?;
    SmallStore::new(location, &options.s3.clone().unwrap_or_default())
}

/// Whether a store keeps the conditions of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLook {
    /// It does.
    Fine,
    /// It writes what it must not.
    Unconditional(String),
    /// It could not be asked.
    Failed {
        /// The event.
        what: String,
        /// The remedy.
        fix: String,
    },
}

/// Checks the store of a lease, for `headend check`.
pub fn look(options: &Options) -> StoreLook {
    let failed = |what: String| StoreLook::Failed { what, fix: "correct [lease] and [lease.s3]".to_owned() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return failed(carousel::config::plain(&err)),
    };
    match store(options) {
        Ok(store) => runtime.block_on(look_at(&store)),
        Err(why) => failed(why),
    }
}

/// Writes twice an object that may exist once, and once over a version that does not exist; then removes it.
async fn look_at(store: &SmallStore) -> StoreLook {
    let name = format!("check-{:016x}", fastrand::u64(..));
    let looked = async {
        let WriteOutcome::Done(first) = store.write(&name, vec![1], Condition::Absent, LOOK_PATIENCE).await?
        else {
            return Ok(Some("it refuses `If-None-Match: *` though there is no such object".to_owned()));
        };
        if store.write(&name, vec![2], Condition::Absent, LOOK_PATIENCE).await? != WriteOutcome::Refused {
            return Ok(Some("it lets two writers win `If-None-Match: *`".to_owned()));
        }
        let WriteOutcome::Done(_) =
            store.write(&name, vec![3], Condition::Version(&first), LOOK_PATIENCE).await?
        else {
            return Ok(Some("it refuses `If-Match` with the ETag that it gave".to_owned()));
        };
        if store.write(&name, vec![4], Condition::Version(&first), LOOK_PATIENCE).await?
            != WriteOutcome::Refused
        {
            return Ok(Some("it ignores `If-Match`".to_owned()));
        }
        Ok(None)
    };
    let looked: Result<Option<String>, StoreFailed> = looked.await;
    // Best effort: a leftover probe object is harmless.
    let _ = store.remove(&name, LOOK_PATIENCE).await;
    match looked {
        Ok(None) => StoreLook::Fine,
        Ok(Some(what)) => StoreLook::Unconditional(format!(
            "{}: {what}; two headends would send at once: give a bucket of a store with conditional writes, as Amazon S3, MinIO or \
             Ceph have them",
            store.shown("")
        )),
        Err(failed) => {
            StoreLook::Failed { what: format!("{}: {}", store.shown(""), failed.what), fix: failed.fix }
        }
    }
}

struct Keeper {
    store: Arc<SmallStore>,
    shared: Arc<Shared>,
    core: Core,
    patience: Duration,
    /// The document that was read or written last.
    state: Arc<State>,
    state_ns: u64,
    /// Tables that the document names.
    document_tables: HashSet<String>,
    /// Those that have been read.
    tables: Arc<HashMap<String, String>>,
    tables_asked: HashSet<String>,
    /// [`MAX_TABLE_REQUESTS`].
    table_requests: Arc<Semaphore>,
    last_failure: Option<String>,
}

/// Results of other tasks.
enum TableTransfer {
    Read(String, Option<String>),
    Written(usize, String),
}

impl Keeper {
    async fn run(mut self, mut to_upload: Receiver<Upload>) {
        if !self.wait_for_usable_store().await {
            return;
        }
        let (done, mut results) = channel(MAX_TABLE_REQUESTS);
        let shared = Arc::clone(&self.shared);
        loop {
            let now_ns = boot_ns();
            if shared.is_leaving.load(Ordering::Acquire) {
                self.core.end(now_ns);
            }
            let wait = match self.core.next(now_ns) {
                Next::Over => {
                    shared.has_left.store(true, Ordering::Release);
                    return;
                }
                Next::Ask(request) => {
                    let answer = self.ask(request).await;
                    self.core.answered(boot_ns(), answer);
                    self.notify();
                    self.fetch_tables(&done);
                    continue;
                }
                Next::Wait { until_ns } => Duration::from_nanos(until_ns.saturating_sub(now_ns)),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shared.news.notified() => self.core.expedite(boot_ns()),
                Some(upload) = to_upload.recv(), if self.table_requests.available_permits() > 0 => {
                    self.write_table(upload, &done);
                }
                Some(result) = results.recv() => match result {
                    TableTransfer::Read(name, content) => {
                        self.tables_asked.remove(&name);
                        if let Some(content) = content {
                            Arc::make_mut(&mut self.tables).insert(name, content);
                        }
                        self.fetch_tables(&done);
                    }
                    TableTransfer::Written(session, name) => shared.inner().written.push((session, name)),
                },
            }
        }
    }

    /// Whether the store can have a lease; waits until it answers.
    async fn wait_for_usable_store(&mut self) -> bool {
        loop {
            match look_at(&self.store).await {
                StoreLook::Fine => return true,
                StoreLook::Unconditional(why) => {
                    self.shared.failures.add(LeaseFailure::Unconditional);
                    self.shared.inner().broken = Some(why);
                    return false;
                }
                StoreLook::Failed { what, fix } => {
                    self.shared.failures.add(LeaseFailure::Refused);
                    self.log_failure(&what, &fix);
                }
            }
            if self.shared.is_leaving.load(Ordering::Acquire) {
                self.shared.has_left.store(true, Ordering::Release);
                return false;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn ask(&mut self, request: Request) -> Answer {
        match request {
            Request::Read => match self.store.read(DOCUMENT, MAX_DOCUMENT_BYTES, self.patience).await {
                Ok(None) => {
                    self.works();
                    Answer::Read(None)
                }
                Ok(Some((tag, bytes))) => match record::read(&bytes) {
                    Ok((lease, state)) => {
                        self.works();
                        self.keep(Arc::new(state));
                        Answer::Read(Some((tag, lease)))
                    }
                    Err(why) => {
                        self.shared.failures.add(LeaseFailure::Unreadable);
                        let what = format!("{}: {why}", self.store.shown(DOCUMENT));
                        self.log_failure(
                            &what,
                            "give another url, or remove it while no headend is on the air",
                        );
                        Answer::Lost
                    }
                },
                Err(failed) => self.lost(&failed),
            },
            Request::Write { lease, over } => {
                let published = self.shared.inner().published.clone();
                // Also where it is given back: then nothing has been sent since it was made.
                let published = published.filter(|it| it.generation == lease.generation);
                let state = published.as_ref().map_or(&self.state, |it| &it.state);
                let state = Arc::clone(state);
                let condition = over.as_deref().map_or(Condition::Absent, Condition::Version);
                let content = record::write(&lease, &state);
                match self.store.write(DOCUMENT, content, condition, self.patience).await {
                    Ok(WriteOutcome::Done(tag)) => {
                        self.works();
                        if let Some(Published { number, .. }) = published {
                            self.shared.inner().confirmed = Some((number, Arc::clone(&state)));
                            self.keep(state);
                        }
                        Answer::Written(tag)
                    }
                    Ok(WriteOutcome::Refused) => Answer::Refused,
                    Err(failed) => self.lost(&failed),
                }
            }
        }
    }

    /// Takes over a document's state. Tables that it does not name any more go.
    fn keep(&mut self, state: Arc<State>) {
        let named: HashSet<String> = state.tables().map(str::to_owned).collect();
        if self.core.generation().is_some() {
            for name in self.document_tables.difference(&named).cloned().collect::<Vec<_>>() {
                let (store, shared) = (Arc::clone(&self.store), Arc::clone(&self.shared));
                tokio::task::spawn_local(async move {
                    if store.remove(&name, TABLE_PATIENCE).await.is_err() {
                        shared.failures.add(LeaseFailure::Table);
                    }
                });
            }
        }
        if self.tables.keys().any(|name| !named.contains(name)) {
            Arc::make_mut(&mut self.tables).retain(|name, _| named.contains(name));
        }
        self.document_tables = named;
        // Its times are those of its first reading, however often it is read.
        if self.state != state {
            (self.state, self.state_ns) = (state, boot_ns());
        }
    }

    /// A standby reads the tables of the holder.
    fn fetch_tables(&mut self, done: &Sender<TableTransfer>) {
        if self.core.generation().is_some() {
            return;
        }
        for name in &self.document_tables {
            if self.tables.contains_key(name) || self.tables_asked.contains(name) {
                continue;
            }
            let Ok(permit) = Arc::clone(&self.table_requests).try_acquire_owned() else { return };
            self.tables_asked.insert(name.clone());
            let (store, shared, name, done) =
                (Arc::clone(&self.store), Arc::clone(&self.shared), name.clone(), done.clone());
            tokio::task::spawn_local(async move {
                let read = store.read(&name, MAX_TABLE_BYTES, TABLE_PATIENCE).await;
                let content = read.ok().flatten().and_then(|(_, bytes)| String::from_utf8(bytes).ok());
                drop(permit);
                if content.is_none() {
                    shared.failures.add(LeaseFailure::Table);
                    tokio::time::sleep(TABLE_AGAIN).await;
                }
                // Without a receiver the thread has ended.
                let _ = done.send(TableTransfer::Read(name, content)).await;
            });
        }
    }

    fn write_table(&self, upload: Upload, done: &Sender<TableTransfer>) {
        let (store, shared, done) = (Arc::clone(&self.store), Arc::clone(&self.shared), done.clone());
        let permit = Arc::clone(&self.table_requests).try_acquire_owned();
        tokio::task::spawn_local(async move {
            let Upload { session, name, content } = upload;
            let written = store.write(&name, content.into_bytes(), Condition::Always, TABLE_PATIENCE).await;
            drop(permit);
            let name = written.map(|_| name).unwrap_or_else(|_| {
                shared.failures.add(LeaseFailure::Table);
                String::new()
            });
            let _ = done.send(TableTransfer::Written(session, name)).await;
        });
    }

    /// Informs the sending thread, and writes the log.
    fn notify(&mut self) {
        let shared = &self.shared;
        let mut inner = shared.inner();
        let before = shared.generation.load(Ordering::Acquire);
        let now = self.core.generation().unwrap_or(0);
        if now != before {
            // Times of one generation do not permit sending under another.
            shared.until_ns.store(0, Ordering::Release);
            let log = |what: String| eprintln!("headend: lease: {what}");
            if now > 0 {
                inner.found = Some(PredecessorState {
                    generation: now,
                    state: Arc::clone(&self.state),
                    read_ns: self.state_ns,
                    tables: Arc::clone(&self.tables),
                });
                (inner.published, inner.confirmed) = (None, None);
                log(format!("{} is active, generation {now}", shared.node));
            } else if !shared.is_leaving.load(Ordering::Acquire) {
                let by = self.core.lease().and_then(|it| it.holder.as_ref()).map(|it| it.node.as_str());
                log(format!("{} is on standby; {} has taken over", shared.node, by.unwrap_or("another")));
            }
            shared.generation.store(now, Ordering::Release);
        }
        let lease = self.core.lease();
        let holder = lease.and_then(|it| it.holder.as_ref()).map(|it| it.node.clone());
        if holder != inner.holder && now == 0 && before == 0 {
            match &holder {
                Some(holder) => {
                    eprintln!("headend: lease: {} is on standby; {holder} is active", shared.node);
                }
                None => eprintln!("headend: lease: no headend is active"),
            }
        }
        if now == 0 {
            inner.seen = Some(Arc::clone(&self.state));
        }
        inner.holder = holder;
        inner.seen_generation = lease.map_or(0, |it| it.generation);
        inner.renewed_ns = self.core.renewed_ns().or_else(|| self.core.seen_since_ns());
        inner.takeovers = self.core.takeovers();
        drop(inner);
        shared.until_ns.store(self.core.may_send_until_ns(), Ordering::Release);
    }

    fn lost(&mut self, failed: &StoreFailed) -> Answer {
        self.shared.failures.add(match failed.reason {
            PullFailure::Connect => LeaseFailure::Connect,
            PullFailure::Timeout => LeaseFailure::Timeout,
            PullFailure::TooLong => LeaseFailure::Unreadable,
            _ => LeaseFailure::Refused,
        });
        let what = format!("{}: {}", self.store.shown(DOCUMENT), failed.what);
        self.log_failure(&what, &failed.fix);
        Answer::Lost
    }

    /// One line for equal failures.
    fn log_failure(&mut self, what: &str, fix: &str) {
        let count: u64 = LeaseFailure::ALL.iter().map(|why| self.shared.failures.get(*why)).sum();
        if self.last_failure.as_deref() == Some(what) && !count.is_multiple_of(FAILURES_A_LINE) {
            return;
        }
        eprintln!("headend: lease: {what}; {fix}");
        self.last_failure = Some(what.to_owned());
    }

    fn works(&mut self) {
        if self.last_failure.take().is_some() {
            eprintln!("headend: lease: the store answers again");
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
