//! What was received and lost, for status and metrics. Written once a second by each shard, read by anybody.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::flute::{DropReason, ReceiverStats, SessionKey};

/// Counters of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// As the receiver counts.
    pub receiver: ReceiverStats,
    /// Objects under reassembly.
    pub in_flight: usize,
    /// Files described.
    pub described: usize,
}

/// Counters that no session has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LossCounters {
    /// Datagrams received.
    pub datagrams: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Datagrams that the kernel had no buffer for.
    pub kernel_drops: u64,
    /// Datagrams that are no ALC packets.
    pub not_alc: u64,
    /// Packets of a TSI that nobody asked for.
    pub other_tsi: u64,
    /// Datagrams inside transport streams of groups that nobody asked for.
    pub other_group: u64,
    /// Packets of sessions beyond the limit.
    pub too_many_sessions: u64,
    /// Whole objects for which the finisher's queue had no room; received again in the next pass.
    pub finisher_full: u64,
}

/// What one shard has counted.
type ShardStats = (LossCounters, BTreeMap<SessionKey, SessionStats>);

/// The statistics of all shards.
#[derive(Debug, Default)]
pub struct ReceiveStats {
    shards: Mutex<BTreeMap<usize, ShardStats>>,
}

impl ReceiveStats {
    /// A shard's counters as they are now.
    pub fn set(&self, shard: usize, losses: LossCounters, sessions: BTreeMap<SessionKey, SessionStats>) {
        self.shards().insert(shard, (losses, sessions));
    }

    /// The sum over shards.
    pub fn losses(&self) -> LossCounters {
        self.shards().values().fold(LossCounters::default(), |sum, (it, _)| LossCounters {
            datagrams: sum.datagrams + it.datagrams,
            bytes: sum.bytes + it.bytes,
            kernel_drops: sum.kernel_drops + it.kernel_drops,
            not_alc: sum.not_alc + it.not_alc,
            other_tsi: sum.other_tsi + it.other_tsi,
            other_group: sum.other_group + it.other_group,
            too_many_sessions: sum.too_many_sessions + it.too_many_sessions,
            finisher_full: sum.finisher_full + it.finisher_full,
        })
    }

    /// All sessions.
    pub fn sessions(&self) -> Vec<(SessionKey, SessionStats)> {
        self.shards()
            .values()
            .flat_map(|(_, sessions)| sessions.iter().map(|(key, it)| (*key, it.clone())))
            .collect()
    }

    /// Packets lost on the way, by the sequence of symbols.
    pub fn lost(&self) -> u64 {
        self.sessions().iter().map(|(_, it)| it.receiver.lost).sum()
    }

    /// Source symbols that FEC brought back, and attempts at blocks that failed.
    pub fn recovered(&self) -> (u64, u64) {
        let sessions = self.sessions();
        let sum = |of: fn(&ReceiverStats) -> u64| sessions.iter().map(|(_, it)| of(&it.receiver)).sum();
        (sum(|it| it.recovered), sum(|it| it.recovery_failed))
    }

    /// Packets dropped, by reason.
    pub fn dropped(&self) -> Vec<(DropReason, u64)> {
        let sessions = self.sessions();
        let count = |reason| sessions.iter().map(|(_, it)| it.receiver.dropped(reason)).sum();
        DropReason::ALL.iter().map(|&reason| (reason, count(reason))).collect()
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<usize, ShardStats>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
