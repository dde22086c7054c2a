//! Counters of reception, for status and metrics. Published by each shard twice a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::flute::{DropReason, SessionKey};
use carousel::time::Instant;

use crate::clock;
use crate::delivery::{LossCounters, SessionStats, Totals};

/// Counters of one shard.
type ShardStats = (Totals, BTreeMap<SessionKey, SessionStats>);

/// The statistics of all shards, and of the carousels in transport streams.
#[derive(Debug, Default)]
pub struct ReceiveStats {
    objects: AtomicU64,
    repaired: AtomicU64,
    shards: Mutex<BTreeMap<usize, ShardStats>>,
    /// Time at which a shard last reported more datagrams; 0: at the start.
    last_packet_ns: AtomicU64,
}

impl ReceiveStats {
    /// Publishes the current counters of a shard.
    pub fn set(&self, shard: usize, totals: Totals, sessions: BTreeMap<SessionKey, SessionStats>) {
        let mut shards = self.shards();
        let before = shards.get(&shard).map_or(0, |(it, _)| it.losses.datagrams);
        if totals.losses.datagrams > before {
            self.last_packet_ns.fetch_max(clock::now().as_nanos(), Relaxed);
        }
        shards.insert(shard, (totals, sessions));
    }

    /// Seconds since the last datagram, or since the start; shards report twice a second, so up to half a second late.
    pub fn packet_age_s(&self, now: Instant) -> f64 {
        now.as_nanos().saturating_sub(self.last_packet_ns.load(Relaxed)) as f64 / 1e9
    }

    /// Counts an object completed by a carousel, with or without parts from an origin.
    pub fn count_object(&self, is_repaired: bool) {
        self.objects.fetch_add(1, Relaxed);
        self.repaired.fetch_add(u64::from(is_repaired), Relaxed);
    }

    /// Objects completed by carousels, and the number of those with parts from an origin.
    pub fn objects(&self) -> (u64, u64) {
        (self.objects.load(Relaxed), self.repaired.load(Relaxed))
    }

    /// The sum over all shards and over active and ended sessions: its counters never fall.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for (totals, _) in self.shards().values() {
            sum += totals;
        }
        sum
    }

    /// Datagrams that were not passed to a session.
    pub fn losses(&self) -> LossCounters {
        self.totals().losses
    }

    /// The current sessions.
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

    /// Source symbols restored by FEC, and failed attempts to decode blocks.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_packet_grows_old_until_another_comes() {
        let stats = ReceiveStats::default();
        let totals = |datagrams| Totals {
            losses: LossCounters { datagrams, ..LossCounters::default() },
            ..Totals::default()
        };
        let after_s = |seconds: u64| Instant::from_nanos(clock::now().as_nanos() + seconds * 1_000_000_000);
        stats.set(0, totals(5), BTreeMap::new());
        assert!(stats.packet_age_s(after_s(60)) >= 60.0);
        // Another shard that has counted nothing, and the same count again, are not packets.
        std::thread::sleep(std::time::Duration::from_millis(20));
        stats.set(1, totals(0), BTreeMap::new());
        stats.set(0, totals(5), BTreeMap::new());
        let (then, old_s) = (clock::now(), stats.packet_age_s(clock::now()));
        assert!(old_s >= 0.02, "{old_s}");
        stats.set(0, totals(6), BTreeMap::new());
        assert!(stats.packet_age_s(then) < old_s);
    }
}
