//! Driver of the delivery state machine: connects it to the cache, the clock, the finishing pool and repair.

use std::net::SocketAddr;
use std::sync::Arc;

use carousel::flute::SessionKey;
use carousel::time::{Instant, WallTime};

use super::finishing::{Answer, FinishQueue, FinishSink, Reply, finish};
use super::storage::CacheStorage;
use super::write_behind::WriteBehind;
use super::{Command, ReceiveContext};
use crate::clock;
use crate::delivery::{
    Announced, Change, Delivery, Described, FailReason, GoneReason, ObjectRef, Options, RepairRequest,
    RuleBook, SessionFilter, Totals,
};
use crate::logs::LineLimit;

/// Queue of repair requests.
pub(super) type RepairQueue = tokio::sync::mpsc::Sender<RepairRequest>;

/// A partly received object, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// The object.
    pub object: ObjectRef,
    /// Its name, if an FDT Instance has described it.
    pub uri: Option<String>,
    /// Bytes that have arrived.
    pub received_bytes: u64,
    /// Bytes as transported.
    pub transfer_length: u64,
}

/// Delivery with its surroundings, for datagrams from any source: sockets of a shard, a recording, memory of a benchmark.
pub struct Intake {
    context: ReceiveContext,
    delivery: Delivery<CacheStorage>,
    finishing: Option<FinishQueue>,
    /// Callback for results of finished work.
    pub(super) reply: Reply,
    pub(super) repairs: Option<RepairQueue>,
    /// Source of the date, for expiry.
    wall: fn() -> Option<WallTime>,
    /// [`crate::store::Store::losses`] at the last check.
    store_losses: u64,
}

impl Intake {
    /// A new intake. Without a queue for finishing, work is done by [`Intake::finish_here`].
    pub fn new(
        context: ReceiveContext,
        options: Options,
        rules: Arc<RuleBook>,
        finishing: Option<FinishQueue>,
    ) -> Self {
        let storage = CacheStorage { context: context.clone(), writes: WriteBehind::default() };
        let mut delivery = Delivery::new(options, storage, rules);
        delivery.set_trust(Arc::clone(&context.trust));
        delivery.share_budget(context.budget.clone());
        Self {
            context,
            delivery,
            finishing,
            reply: Arc::new(|_| {}),
            repairs: None,
            wall: clock::trusted_wall,
            store_losses: 0,
        }
    }

    /// Treats the date as unknown: nothing expires by it.
    pub fn without_date(mut self) -> Self {
        self.wall = || None;
        self
    }

    /// Sets the callback for results of the finishing pool.
    pub fn reply_to(&mut self, reply: impl Fn(Command) + Send + Sync + 'static) {
        self.reply = Arc::new(reply);
    }

    /// Handles one datagram.
    #[inline]
    pub fn datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        filter: &SessionFilter,
        payload: &[u8],
    ) {
        self.delivery.handle_datagram(now, self.wall, source, destination, filter, payload);
    }

    /// Counts a datagram from a transport stream whose group is not received.
    pub(super) const fn other_group(&mut self) {
        self.delivery.handle_other_group();
    }

    pub(super) const fn kernel_drops(&mut self, datagrams: u64) {
        self.delivery.handle_kernel_drops(datagrams);
    }

    /// Ends a batch: writes gathered symbols, wakes readers, and dispatches work. Call it whenever no further datagram is
    /// available.
    pub fn end_batch(&mut self) {
        self.delivery.handle_end_of_batch();
        self.give_out(None);
    }

    /// Processes timers that are due.
    pub fn tick(&mut self, now: Instant) {
        let losses = self.context.store.losses();
        if std::mem::replace(&mut self.store_losses, losses) != losses {
            self.delivery.handle_evictions();
        }
        self.delivery.handle_timeout(now, (self.wall)());
        self.give_out(Some(now));
    }

    /// Time of the next call of [`Intake::tick`].
    pub(super) fn next_tick(&self) -> Instant {
        self.delivery.poll_timeout()
    }

    /// Writes checkpoints of large objects in flight before a stop.
    pub(super) fn checkpoint(&mut self, now: Instant) {
        self.delivery.checkpoint(now);
        self.give_out(None);
    }

    pub(super) fn close_sessions(&mut self, now: Instant, keep: impl FnMut(&SessionKey) -> bool) {
        self.delivery.close_sessions(now, keep);
        self.give_out(None);
    }

    /// Sets the ROUTE channels that are described by signalling of other sessions.
    pub fn describe_routes(&mut self, now: Instant, described: Arc<Described>) {
        self.delivery.describe_routes(now, described);
        self.give_out(None);
    }

    /// Executes a command of another thread that concerns an object.
    pub fn object_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Request(object) => self.delivery.handle_request(now, object),
            Command::Repair(object, offset, bytes) => {
                self.delivery.handle_repair(now, object, offset, &bytes);
            }
            Command::RepairDone(object, result) => self.delivery.handle_repair_done(now, object, result),
            Command::Verified(object, id, result) => self.delivery.handle_verified(now, object, id, result),
            Command::Decoded(object, block, decoded, claim) => {
                self.delivery.handle_decoded(now, object, block, &decoded);
                drop(claim);
            }
            Command::Restored(object, block, decoded, claim) => {
                self.delivery.handle_restored(now, object, block, &decoded);
                drop(claim);
            }
            _ => return,
        }
        self.give_out(Some(now));
    }

    /// All counters since the start.
    pub fn totals(&self) -> Totals {
        self.delivery.totals()
    }

    /// Ends all sessions.
    pub fn end(&mut self, now: Instant) {
        self.delivery.handle_end(now);
        self.give_out(None);
    }

    /// The objects under reassembly.
    pub fn incomplete(&self) -> impl Iterator<Item = Incomplete> {
        self.delivery.incomplete().map(|(session, object)| Incomplete {
            object: ObjectRef { session, toi: object.toi() },
            uri: object.file().map(|file| file.content_location.clone()),
            received_bytes: object.received().received_bytes(),
            transfer_length: object.received().length(),
        })
    }

    /// Does all pending work in this thread, where there is no pool. Returns the number of rejected objects.
    pub fn finish_here(&mut self, now: Instant, sink: &mut dyn FinishSink) -> u64 {
        let mut rejected = 0;
        while let Some(work) = self.delivery.poll_work(|_| true) {
            let answer = match finish(&self.context, work, sink, &mut Vec::new()) {
                Some(Answer::Verified(object, id, result)) => {
                    rejected += u64::from(result.is_err());
                    Command::Verified(object, id, result)
                }
                Some(Answer::Decoded(object, block, decoded)) => {
                    Command::Decoded(object, block, decoded, None)
                }
                Some(Answer::Restored(object, block, decoded)) => {
                    Command::Restored(object, block, decoded, None)
                }
                None => continue,
            };
            self.object_command(now, answer);
        }
        rejected
    }

    /// Dispatches work, repair requests and changes.
    #[inline]
    fn give_out(&mut self, now: Option<Instant>) {
        if let Some(finishing) = &self.finishing {
            loop {
                let mut claim = None;
                let work = self.delivery.poll_work(|work| {
                    claim = finishing.claim(work);
                    claim.is_some()
                });
                let Some((work, claim)) = work.zip(claim) else { break };
                finishing.push(work, claim, Arc::clone(&self.reply));
            }
        }
        while let Some(change) = self.delivery.poll_change() {
            self.change(change);
        }
        if let (Some(now), Some(repairs)) = (now, &self.repairs) {
            while self.delivery.has_repairs()
                && let Ok(place) = repairs.try_reserve()
                && let Some(request) = self.delivery.poll_repair(now)
            {
                place.send(request);
            }
        }
    }

    #[cold]
    fn change(&self, change: Change<super::storage::ObjectSpace>) {
        let ReceiveContext { names, flights, .. } = &self.context;
        match change {
            Change::Announced(session, files) => {
                for file in files {
                    let Ok(key) = names.key_of(&session, &file.content_location) else { continue };
                    flights.announce(key, ObjectRef { session, toi: file.toi }, Announced::of(&file));
                }
            }
            Change::Withdrawn(object, file) => {
                if let Ok(key) = names.key_of(&object.session, &file.content_location) {
                    flights.retract(key.as_str(), &object);
                }
            }
            Change::Unusable(_, file) => {
                static LIMIT: LineLimit = LineLimit::new();
                if LIMIT.admits(clock::now(), |count| {
                    tracing::warn!(count, "further objects whose names cannot be used are left out");
                }) {
                    tracing::warn!(name = %file.content_location.escape_debug(), "an object whose name cannot be used is left out");
                }
            }
            Change::Held(_) => {}
            Change::Gone(object, reason, file, buf) => {
                let uri = file.as_ref().map_or("", |file| file.content_location.as_str());
                tracing::debug!(session = %object.session.destination, toi = %object.toi, uri, reason = reason.as_str(), "object gone");
                if let Some(mut buf) = buf {
                    buf.give_up(fail_reason(reason));
                }
            }
            Change::Repaired(object, outcome) => {
                tracing::debug!(session = %object.session.destination, toi = %object.toi, outcome = outcome.as_str(), "repair");
            }
            Change::SessionOver(session, is_closed) => {
                static LIMIT: LineLimit = LineLimit::new();
                if !LIMIT.admits(clock::now(), |count| {
                    tracing::info!(count, "further sessions were closed or are silent");
                }) {
                    return;
                }
                let how = if is_closed { "the sender closed the session" } else { "the session is silent" };
                tracing::info!(session = %session.destination, tsi = session.tsi.0, "{how}");
            }
        }
    }

    /// Publishes the current statistics.
    pub fn publish_stats(&self, number: usize) {
        self.context.stats.set(number, self.totals(), self.delivery.sessions().collect());
    }
}

const fn fail_reason(reason: GoneReason) -> FailReason {
    match reason {
        GoneReason::Expired
        | GoneReason::Silent
        | GoneReason::NeverDescribed
        | GoneReason::Incomplete
        | GoneReason::TooOld => FailReason::Expired,
        GoneReason::Displaced | GoneReason::OverBudget => FailReason::Displaced,
        GoneReason::SessionEnded => FailReason::SessionEnded,
        GoneReason::Rejected => FailReason::Verify,
        GoneReason::NotWanted | GoneReason::NoRoom => FailReason::Store,
        GoneReason::Replaced => FailReason::Replaced,
    }
}
