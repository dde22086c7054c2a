//! Counters of reception, for status and metrics. Published by each shard twice a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::flute::{DropReason, SessionKey};

use crate::delivery::{LossCounters, SessionStats, Totals};

/// What one shard has counted.
type ShardStats = (Totals, BTreeMap<SessionKey, SessionStats>);

/// The statistics of all shards.
#[derive(Debug, Default)]
pub struct ReceiveStats {
    shards: Mutex<BTreeMap<usize, ShardStats>>,
}

impl ReceiveStats {
    /// A shard's counters as they are now.
    pub fn set(&self, shard: usize, totals: Totals, sessions: BTreeMap<SessionKey, SessionStats>) {
        self.shards().insert(shard, (totals, sessions));
    }

    /// The sum over shards, of living and ended sessions: no counter of it falls.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for (totals, _) in self.shards().values() {
            sum += totals;
        }
        sum
    }

    /// Datagrams that no session has taken.
    pub fn losses(&self) -> LossCounters {
        self.totals().losses
    }

    /// The sessions of now.
    pub fn sessions(&self) -> Vec<(SessionKey, SessionStats)> {
        self.shards()
            .values()
            .flat_map(|(_, sessions)| sessions.iter().map(|(key, it)| (*key, it.clone())))
            .collect()
    }

    /// Encoding symbols lost on the link.
    pub fn lost(&self) -> u64 {
        self.totals().packets.lost
    }

    /// Source symbols that FEC restored, and attempts at blocks that failed.
    pub fn recovered(&self) -> (u64, u64) {
        let packets = self.totals().packets;
        (packets.recovered, packets.recovery_failed)
    }

    /// Packets dropped, by reason.
    pub fn dropped(&self) -> Vec<(DropReason, u64)> {
        let packets = self.totals().packets;
        DropReason::ALL.iter().map(|&reason| (reason, packets.dropped(reason))).collect()
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<usize, ShardStats>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
