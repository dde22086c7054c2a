//! Counters of reception, for status and metrics. Published by each shard twice a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::flute::{DropReason, SessionKey};

use crate::delivery::{LossCounters, SessionStats, Totals};

/// What one shard has counted.
type ShardStats = (Totals, BTreeMap<SessionKey, SessionStats>);

/// The statistics of all shards, and of the carousels in transport streams.
#[derive(Debug, Default)]
pub struct ReceiveStats {
    objects: AtomicU64,
    repaired: AtomicU64,
    shards: Mutex<BTreeMap<usize, ShardStats>>,
}

impl ReceiveStats {
    /// A shard's counters as they are now.
    pub fn set(&self, shard: usize, totals: Totals, sessions: BTreeMap<SessionKey, SessionStats>) {
        self.shards().insert(shard, (totals, sessions));
    }

    /// A carousel completed an object, with parts from an origin or without.
    pub fn count_object(&self, is_repaired: bool) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.repaired.fetch_add(u64::from(is_repaired), Ordering::Relaxed);
    }

    /// Objects that carousels completed, and those of them with parts from an origin.
    pub fn objects(&self) -> (u64, u64) {
        (self.objects.load(Ordering::Relaxed), self.repaired.load(Ordering::Relaxed))
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
