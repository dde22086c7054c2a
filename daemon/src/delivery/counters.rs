//! Counters of one shard. They outlive sessions: what a session has counted is added when it ends, so that no counter falls.

use carousel::flute::ReceiverStats;
use carousel::route::RouteStats;

use super::object::State;
use super::reasons::{GoneReason, RejectReason, RepairOutcome};

/// Datagrams that were not passed to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LossCounters {
    /// Datagrams received.
    pub datagrams: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Datagrams that the kernel had no buffer for.
    pub kernel_drops: u64,
    /// Datagrams that are not ALC packets.
    pub not_alc: u64,
    /// Packets of a TSI that is not received.
    pub other_tsi: u64,
    /// Datagrams inside transport streams of groups that are not received.
    pub other_group: u64,
    /// Packets of ROUTE where signatures are required: its signalling is not signed.
    pub unsigned_protocol: u64,
    /// Datagrams of low-level signalling.
    pub lls: u64,
    /// Datagrams of low-level signalling beyond the rate limit.
    pub lls_excess: u64,
}

impl std::ops::AddAssign<&Self> for LossCounters {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            datagrams,
            bytes,
            kernel_drops,
            not_alc,
            other_tsi,
            other_group,
            unsigned_protocol,
            lls,
            lls_excess,
        } = other;
        self.datagrams += datagrams;
        self.bytes += bytes;
        self.kernel_drops += kernel_drops;
        self.not_alc += not_alc;
        self.other_tsi += other_tsi;
        self.other_group += other_group;
        self.unsigned_protocol += unsigned_protocol;
        self.lls += lls;
        self.lls_excess += lls_excess;
    }
}

/// Counters of objects and sessions by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectCounters {
    /// Objects that entered delivery: each is now held, gone, or in one of the states.
    pub entered: u64,
    /// Objects that left delivery because the cache holds them.
    pub held: u64,
    /// Objects that left delivery otherwise, in the order of [`GoneReason::ALL`].
    pub gone: [u64; GoneReason::ALL.len()],
    /// Objects now, in the order of [`State::ALL`].
    pub now: [u64; State::ALL.len()],
    /// Complete objects that were rejected and are received again, in the order of [`RejectReason::ALL`].
    pub rejected: [u64; RejectReason::ALL.len()],
    /// Source blocks that were not decoded because the queue was full.
    pub blocks_refused: u64,
    /// Attempts to decode a source block for which this machine has too little memory.
    pub blocks_too_large: u64,
    /// Decoded source blocks that were dropped because their object had ended.
    pub blocks_late: u64,
    /// Ends of repairs, in the order of [`RepairOutcome::ALL`].
    pub repairs: [u64; RepairOutcome::ALL.len()],
    /// Sessions that made room for others.
    pub sessions_displaced: u64,
    /// Sessions that were forgotten after silence.
    pub sessions_expired: u64,
}

impl std::ops::AddAssign<&Self> for ObjectCounters {
    fn add_assign(&mut self, other: &Self) {
        fn add<const N: usize>(sums: &mut [u64; N], counts: &[u64; N]) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let Self {
            entered,
            held,
            gone,
            now,
            rejected,
            blocks_refused,
            blocks_too_large,
            blocks_late,
            repairs,
            sessions_displaced,
            sessions_expired,
        } = other;
        self.entered += entered;
        self.held += held;
        add(&mut self.gone, gone);
        add(&mut self.now, now);
        add(&mut self.rejected, rejected);
        self.blocks_refused += blocks_refused;
        self.blocks_too_large += blocks_too_large;
        self.blocks_late += blocks_late;
        add(&mut self.repairs, repairs);
        self.sessions_displaced += sessions_displaced;
        self.sessions_expired += sessions_expired;
    }
}

impl ObjectCounters {
    /// Whether every object that entered is accounted for.
    pub fn reconcile(&self) -> bool {
        self.entered == self.held + self.gone.iter().sum::<u64>() + self.now.iter().sum::<u64>()
    }
}

/// All counters of one shard, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Counters of datagrams.
    pub losses: LossCounters,
    /// Packets of all sessions, living and ended.
    pub packets: ReceiverStats,
    /// Packets and objects of all sessions of ROUTE, living and ended.
    pub route: RouteStats,
    /// Counters of objects and sessions.
    pub objects: ObjectCounters,
    /// Memory that the sessions hold now.
    pub memory_bytes: u64,
}

impl std::ops::AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        let Self { losses, packets, route, objects, memory_bytes } = other;
        self.losses += losses;
        self.packets += packets;
        self.route += route;
        self.objects += objects;
        self.memory_bytes += memory_bytes;
    }
}

impl Totals {
    /// Whether every datagram and packet is counted in exactly one place.
    pub fn reconcile(&self) -> bool {
        let LossCounters { datagrams, not_alc, other_tsi, other_group, lls, .. } = self.losses;
        let stats = &self.packets;
        let dropped: u64 = stats.dropped.iter().sum();
        let placed = stats.stored + stats.fdt + stats.control + stats.early;
        datagrams == stats.packets + self.route.packets + not_alc + other_tsi + other_group + lls
            && stats.packets == placed + dropped
            && self.route.reconcile()
            && self.objects.reconcile()
    }
}
