//! Queues of live objects: one for each service, earliest play-out deadline first.
//!
//! | queue | contents | order |
//! |---|---|---|
//! | arrivals | objects added since the last packet | |
//! | of a service | objects with a deadline | earliest deadline first |
//! | of a service, interleaved | protected objects that arrived within [`TOGETHER_NS`]: the rungs of one segment | by the fraction sent |
//! | parked | small objects of which a [`Part`] was sent; the next part follows after [`APART_NS`] | by due time |
//! | backlog | at a start, objects of the window before the newest segments | newest first |
//!
//! Within its own reserve no service waits for another. The unused part of a reserve goes to the other services, then to the
//! carousel. An object that was not started by its deadline is dropped: players at the live edge have passed it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use super::ItemId;
use super::job::Job;
use super::reserve::Reserve;
use crate::object::LiveTiming;

/// Objects of a service that arrived within this time are interleaved, so that a burst of losses takes a little of each.
const TOGETHER_NS: u64 = 100_000_000;
/// Minimum time between the parts of a small object, so that one burst of losses cannot hit two of them. A burst of sixteen
/// packets takes 60 ms at 3 Mbit/s.
const APART_NS: u64 = 60_000_000;
/// Minimum symbols to send in two halves: with fewer, a half would be one packet.
const LEAST_DIVIDED: u64 = 4;

carousel::limits! {
    /// Live objects of a service that are sent in turns.
    const MAX_TURNS: usize = 64, "objects" {
        why: "A ladder with languages has 40 renditions; each object has its file open.",
        full: "Further objects wait until one has been sent.",
        free: "When an object has been sent.",
        test: "a_service_has_a_bounded_number_of_files_open",
    }
}

carousel::reasons! {
    /// Why a live object was not sent.
    pub enum LiveDrop {
        /// Its turn did not come before its play-out deadline: the reserve or the link is too small.
        Late = "late",
        /// Its packager removed or replaced it before its turn came.
        Removed = "removed",
    }
}

/// Live objects that were not sent, by [`LiveDrop`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveDrops([u64; LiveDrop::ALL.len()]);

impl LiveDrops {
    pub(crate) const fn add(&mut self, why: LiveDrop) {
        self.0[why as usize] += 1;
    }

    /// Number of one reason.
    pub const fn get(&self, why: LiveDrop) -> u64 {
        self.0[why as usize]
    }

    /// Number of all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Labels and counts.
    pub fn labelled(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LiveDrop::ALL.iter().map(|&why| (why.as_str(), self.get(why)))
    }
}

/// The part of a small object that has been sent. Of four parts, enough is left to decode after one burst that takes a part and
/// another that takes some of the next; of two parts it would not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Half of its source symbols.
    HalfSource,
    /// Its source symbols: complete without loss.
    Source,
    /// Also half of its repair symbols.
    HalfRepair,
}

impl Part {
    /// The part that ends with the `sent`-th symbol of an object with these numbers of source and repair symbols.
    pub(super) const fn ended(sent: u64, source: u64, repair: u64) -> Option<Self> {
        if sent == source {
            return Some(Self::Source);
        }
        if source >= LEAST_DIVIDED && sent == source.div_ceil(2) {
            return Some(Self::HalfSource);
        }
        if repair >= LEAST_DIVIDED && sent == source + repair.div_ceil(2) {
            return Some(Self::HalfRepair);
        }
        None
    }
}

/// Queue of a live job, to which it returns after a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuePosition {
    /// `None`: the backlog.
    service: Option<usize>,
    deadline_ns: u64,
    /// Virtual time of its service at its start.
    base: u64,
}

impl QueuePosition {
    const BACKLOG: Self = Self { service: None, deadline_ns: 0, base: 0 };
}

/// An interleaved job. Ordered by virtual time: that of its start plus the fraction sent since, in units of 2^-32.
#[derive(Debug)]
struct InterleavedJob {
    at: u64,
    turn: QueuePosition,
    job: Job,
}

impl InterleavedJob {
    fn new(turn: QueuePosition, job: Job) -> Self {
        Self { at: turn.base + job.sent_part(), turn, job }
    }
}

impl Ord for InterleavedJob {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The heap returns the greatest first.
        (other.turn.deadline_ns, other.at).cmp(&(self.turn.deadline_ns, self.at))
    }
}

impl PartialOrd for InterleavedJob {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for InterleavedJob {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for InterleavedJob {}

#[derive(Debug)]
struct Service {
    reserve: Reserve,
    /// By deadline, then by arrival.
    waiting: BTreeSet<(u64, ItemId)>,
    jobs: BinaryHeap<InterleavedJob>,
    /// Virtual time.
    at: u64,
}

impl Service {
    fn new(reserved_bps: u64) -> Self {
        let reserve = Reserve::new(reserved_bps);
        Self { reserve, waiting: BTreeSet::new(), jobs: BinaryHeap::new(), at: 0 }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let jobs_ns = self.jobs.peek().map(|it| it.turn.deadline_ns);
        let waiting_ns = self.waiting.first().map(|(deadline_ns, _)| *deadline_ns);
        jobs_ns.into_iter().chain(waiting_ns).min()
    }
}

/// Rate within which live is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LiveShare {
    /// Within the reserve, before the carousel.
    Reserve,
    /// Beyond the reserve, as nothing else is to be sent.
    Link,
}

/// The queues.
#[derive(Debug)]
pub(super) struct Live {
    services: Vec<Service>,
    all: Reserve,
    arrivals: Vec<(LiveTiming, ItemId)>,
    /// By age, then by arrival.
    backlog: BTreeSet<(Reverse<u32>, Reverse<ItemId>)>,
    /// The last one is next. There are several if the repair symbols of one become due while another is being sent.
    backlog_jobs: Vec<Job>,
    /// By due time.
    parked: VecDeque<(u64, QueuePosition, Job)>,
    drops_late: bool,
}

impl Live {
    /// Empty queues. `reserved_bps`: of all services together; `by_service`: of each. `drops_late`: enforce deadlines.
    pub(super) fn new(reserved_bps: u64, by_service: &[u64], drops_late: bool) -> Self {
        Self {
            services: by_service.iter().map(|&bps| Service::new(bps)).collect(),
            all: Reserve::new(reserved_bps),
            arrivals: Vec::new(),
            backlog: BTreeSet::new(),
            backlog_jobs: Vec::new(),
            parked: VecDeque::new(),
            drops_late,
        }
    }

    /// Queues an object.
    pub(super) fn push(&mut self, id: ItemId, timing: LiveTiming) {
        self.arrivals.push((timing, id));
    }

    /// Removes an object from all queues. True if it was waiting.
    pub(super) fn remove(&mut self, id: ItemId) -> bool {
        let before = self.waiting();
        self.arrivals.retain(|(_, other)| *other != id);
        self.backlog.retain(|(_, Reverse(other))| *other != id);
        self.backlog_jobs.retain(|job| job.object() != Some(id));
        self.parked.retain(|(_, _, job)| job.object() != Some(id));
        for service in &mut self.services {
            service.waiting.retain(|(_, other)| *other != id);
            service.jobs.retain(|it| it.job.object() != Some(id));
        }
        self.waiting() < before
    }

    /// Number of objects that were not started.
    fn waiting(&self) -> usize {
        let of_services: usize = self.services.iter().map(|service| service.waiting.len()).sum();
        self.arrivals.len() + self.backlog.len() + of_services
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        self.arrivals.clear();
        self.backlog.clear();
        self.backlog_jobs.clear();
        self.parked.clear();
        for service in &mut self.services {
            service.waiting.clear();
            service.jobs.clear();
        }
    }

    /// Whether the object is in the backlog.
    pub(super) fn is_backlog(&self, id: ItemId) -> bool {
        let arrives = |(timing, other): &(LiveTiming, ItemId)| *other == id && timing.age > 0;
        self.backlog.iter().any(|(_, Reverse(other))| *other == id)
            || self.backlog_jobs.iter().any(|job| job.object() == Some(id))
            || self.arrivals.iter().any(arrives)
    }

    /// Whether no object is waiting or being sent.
    pub(super) fn is_empty(&self) -> bool {
        let is_idle = |service: &Service| service.jobs.is_empty();
        self.waiting() == 0
            && self.backlog_jobs.is_empty()
            && self.parked.is_empty()
            && self.services.iter().all(is_idle)
    }

    /// Sets the deadlines of arrivals, and requeues due parked jobs, which are returned. Call it before each choice.
    pub(super) fn admit(&mut self, now_ns: u64) -> Vec<ItemId> {
        let mut unparked = Vec::new();
        while self.next_due_ns().is_some_and(|due_ns| due_ns <= now_ns)
            && let Some((_, turn, job)) = self.parked.pop_front()
        {
            unparked.extend(job.object());
            let base =
                turn.service.map_or(0, |index| self.services[index].at).saturating_sub(job.sent_part());
            self.put(QueuePosition { base, ..turn }, job);
        }
        for (timing, id) in std::mem::take(&mut self.arrivals) {
            if timing.age > 0 {
                self.backlog.insert((Reverse(timing.age), Reverse(id)));
                continue;
            }
            while self.services.len() <= timing.service {
                self.services.push(Service::new(0));
            }
            let deadline_ns = now_ns.saturating_add(timing.within_ms.saturating_mul(1_000_000));
            self.services[timing.service].waiting.insert((deadline_ns, id));
        }
        unparked
    }

    /// Parks a job whose next part follows later.
    pub(super) fn park(&mut self, turn: QueuePosition, job: Job, now_ns: u64) {
        self.parked.push_back((now_ns.saturating_add(APART_NS), turn, job));
    }

    /// Time at which the next parked job is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.parked.front().map(|(due_ns, _, _)| *due_ns)
    }

    /// Takes an object whose deadline has passed before it was started.
    pub(super) fn take_late(&mut self, now_ns: u64) -> Option<ItemId> {
        if !self.drops_late {
            return None;
        }
        let is_late = |service: &&mut Service| service.waiting.first().is_some_and(|it| it.0 < now_ns);
        let service = self.services.iter_mut().find(is_late)?;
        service.waiting.pop_first().map(|(_, id)| id)
    }

    /// The service whose turn it is.
    pub(super) fn choose(&mut self, now_ns: u64, within: LiveShare) -> Option<usize> {
        let may_take_all = within == LiveShare::Link || self.all.has_credit(now_ns);
        let mut best: Option<(bool, u64, usize)> = None;
        for (index, service) in self.services.iter_mut().enumerate() {
            let Some(deadline_ns) = service.deadline_ns() else { continue };
            let is_owed = service.reserve.has_credit(now_ns);
            if !is_owed && !may_take_all {
                continue;
            }
            let key = (!is_owed, deadline_ns, index);
            if best.is_none_or(|best| key < best) {
                best = Some(key);
            }
        }
        best.map(|(_, _, index)| index)
    }

    /// The next object of a service to start in addition to those being sent.
    pub(super) fn pop_startable(
        &mut self,
        index: usize,
        is_protected: impl Fn(ItemId) -> bool,
    ) -> Option<(QueuePosition, ItemId)> {
        let service = &mut self.services[index];
        let &(own_ns, id) = service.waiting.first()?;
        let deadline_ns = match service.jobs.peek() {
            None => own_ns,
            Some(_) if service.jobs.len() >= MAX_TURNS => return None,
            Some(first) => {
                let first_ns = first.turn.deadline_ns;
                // Without a code interleaving protects nothing, and delays the first object.
                let may_share = is_protected(id) && first.job.object().is_some_and(is_protected);
                match own_ns <= first_ns.saturating_add(TOGETHER_NS) && may_share {
                    // The rungs of one segment have one deadline.
                    true => first_ns,
                    false if own_ns < first_ns => own_ns,
                    false => return None,
                }
            }
        };
        service.waiting.pop_first();
        Some((QueuePosition { service: Some(index), deadline_ns, base: service.at }, id))
    }

    /// Takes the job of a service's next packet.
    pub(super) fn pop_job(&mut self, index: usize) -> Option<(QueuePosition, Job)> {
        let service = &mut self.services[index];
        let next = service.jobs.pop()?;
        service.at = service.at.max(next.at);
        Some((next.turn, next.job))
    }

    /// Takes the next object of the backlog, if none of it is being sent.
    pub(super) fn pop_backlog(&mut self, now_ns: u64, within: LiveShare) -> Option<(QueuePosition, ItemId)> {
        let may = self.backlog_jobs.is_empty() && (within == LiveShare::Link || self.all.has_credit(now_ns));
        if may { self.backlog.pop_last().map(|(_, Reverse(id))| (QueuePosition::BACKLOG, id)) } else { None }
    }

    /// Takes the backlog's job.
    pub(super) fn pop_backlog_job(&mut self, now_ns: u64, within: LiveShare) -> Option<(QueuePosition, Job)> {
        let may = within == LiveShare::Link || self.all.has_credit(now_ns);
        if may { self.backlog_jobs.pop().map(|job| (QueuePosition::BACKLOG, job)) } else { None }
    }

    /// Returns a job that was started, or whose packet was written.
    pub(super) fn put(&mut self, turn: QueuePosition, job: Job) {
        match turn.service {
            Some(index) => self.services[index].jobs.push(InterleavedJob::new(turn, job)),
            None => self.backlog_jobs.push(job),
        }
    }

    /// Charges the credit of a packet.
    pub(super) fn spend(&mut self, turn: QueuePosition, bytes: usize) {
        self.all.spend(bytes);
        if let Some(index) = turn.service {
            self.services[index].reserve.spend(bytes);
        }
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
