//! Memory of the sessions of one shard, of FLUTE and ROUTE together, within the budget of the process.
//!
//! The memory of receivers of ROUTE and of joiners is summed up as it changes ([`MemoryTable`]); that of receivers of FLUTE is added when
//! memory is checked: twice a second, with each packet of an FDT Instance, and after [`CHECK_INTERVAL_BYTES`] of growth.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use carousel::budget::{Claim, Holding, SessionBudget, least_worthy};
use carousel::flute::{Joiner, SessionKey};
use carousel::route;
use carousel::time::Instant;

use super::live::{RouteKey, channels_of};
use super::machine::Delivery;
use super::storage::ObjectStore;

/// Growth between two checks of the memory, and the margin that a displacement leaves free: the cost of a check is spread over so
/// many bytes of packets.
pub(super) const CHECK_INTERVAL_BYTES: usize = 1 << 20;

/// Approximate memory of a joiner in its table.
const JOINER_BYTES: usize = 512;

/// A value that knows its memory.
pub(super) trait HeldBytes {
    /// Approximate memory, without a search.
    fn held_bytes(&self) -> usize;
}

impl HeldBytes for route::Receiver {
    fn held_bytes(&self) -> usize {
        Self::held_bytes(self)
    }
}

impl HeldBytes for Joiner {
    fn held_bytes(&self) -> usize {
        JOINER_BYTES + Self::held_bytes(self)
    }
}

/// A table with the sum of the memory of its values.
#[derive(Debug)]
pub(super) struct MemoryTable<K, V> {
    all: BTreeMap<K, V>,
    held_bytes: usize,
}

impl<K, V> Default for MemoryTable<K, V> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), held_bytes: 0 }
    }
}

impl<K: Ord + Copy, V: HeldBytes> MemoryTable<K, V> {
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.all.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.all.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.all.iter()
    }

    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.all.range(keys)
    }

    pub(super) fn keys(&self) -> Vec<K> {
        self.all.keys().copied().collect()
    }

    /// Changes a value.
    pub(super) fn with<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let value = self.all.get_mut(key)?;
        let before = value.held_bytes();
        let result = change(value);
        self.held_bytes = self.held_bytes + value.held_bytes() - before;
        Some(result)
    }

    /// Changes a value, which is made if there is none.
    pub(super) fn open<R>(&mut self, key: K, new: impl FnOnce() -> V, change: impl FnOnce(&mut V) -> R) -> R {
        let held_bytes = &mut self.held_bytes;
        let value = self.all.entry(key).or_insert_with(|| {
            let value = new();
            *held_bytes += value.held_bytes();
            value
        });
        let before = value.held_bytes();
        let result = change(value);
        self.held_bytes = self.held_bytes + value.held_bytes() - before;
        result
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.all.remove(key)?;
        self.held_bytes -= value.held_bytes();
        Some(value)
    }
}

/// Memory of the shard, as of the last check.
#[derive(Debug, Default)]
pub(super) struct Memory {
    holding: Holding,
    live_bytes: usize,
    /// Growth of FLUTE sessions since then, at most.
    grown_bytes: usize,
}

impl Memory {
    pub(super) fn share(&mut self, budget: SessionBudget) {
        self.holding = Holding::of(budget);
    }

    /// Memory of the shard's sessions.
    pub(super) const fn held_bytes(&self) -> usize {
        self.holding.bytes()
    }

    /// Counts growth of a FLUTE session.
    pub(super) const fn grow(&mut self, bytes: usize) {
        self.grown_bytes += bytes;
    }

    /// Whether memory is to be checked, for growth since the last check.
    #[inline]
    pub(super) const fn needs_check(&self, live_bytes: usize) -> bool {
        live_bytes + self.grown_bytes > self.live_bytes + CHECK_INTERVAL_BYTES
    }
}

/// A session of either protocol.
#[derive(Debug, Clone, Copy)]
pub(super) enum AnySession {
    Flute(SessionKey),
    Route(RouteKey),
}

impl<S: ObjectStore> Delivery<S> {
    /// Checks the memory of the sessions. If all shards together hold too much, and this one more than its part, the lowest-ranked
    /// session makes room: one of ROUTE gives up its oldest objects and segments, one of FLUTE is removed.
    #[cold]
    pub(super) fn keep_within_budget(&mut self, now: Instant) {
        let mut wanted_bytes = self.count_memory(0);
        if wanted_bytes > 0 {
            wanted_bytes = self.count_memory(CHECK_INTERVAL_BYTES);
        }
        while wanted_bytes > 0 {
            match least_worthy(self.claims()) {
                Some(AnySession::Flute(key)) => {
                    let Some(receiver) = self.sessions.remove(&key) else { return };
                    self.counters.sessions_displaced += 1;
                    self.end_session(now, key, receiver);
                }
                Some(AnySession::Route(at)) => self.shed_route(now, at, wanted_bytes),
                None => return,
            }
            wanted_bytes = self.count_memory(CHECK_INTERVAL_BYTES);
        }
    }

    /// Reports the memory of the sessions. Returns the bytes to be freed so that `spare_bytes` remain free.
    fn count_memory(&mut self, spare_bytes: usize) -> usize {
        let objects = &self.objects;
        let of_flute: usize =
            self.sessions.iter().map(|(key, it)| it.held_bytes() + objects.held_bytes(key)).sum();
        let live_bytes = self.live.held_bytes();
        (self.memory.live_bytes, self.memory.grown_bytes) = (live_bytes, 0);
        self.memory.holding.set(of_flute + live_bytes, spare_bytes)
    }

    pub(super) fn claims(&self) -> Vec<Claim<AnySession>> {
        let heard_flute = self.sessions.iter().map(|(_, it)| it.last_heard());
        let heard_route = self.live.routes.iter().map(|(_, it)| it.last_heard());
        let newest = heard_flute.chain(heard_route).max().unwrap_or_default();
        let joined = |key: &SessionKey| self.live.joiners.get(key).map_or(0, HeldBytes::held_bytes);
        let flute = self.sessions.iter().map(|(key, it)| Claim {
            key: AnySession::Flute(*key),
            worth: it.worth(newest),
            last_heard: it.last_heard(),
            held_bytes: it.held_bytes() + self.objects.held_bytes(key) + joined(key),
        });
        let route = self.live.routes.iter().map(|(at, it)| {
            let joined = self.joined_of(*at).map(|(_, joiner)| HeldBytes::held_bytes(joiner));
            Claim {
                key: AnySession::Route(*at),
                worth: it.worth(newest),
                last_heard: it.last_heard(),
                held_bytes: it.held_bytes() + joined.sum::<usize>(),
            }
        });
        flute.chain(route).collect()
    }

    /// The joiners of a ROUTE session, except those of channels that are FLUTE sessions too.
    pub(super) fn joined_of(&self, at: RouteKey) -> impl Iterator<Item = (&SessionKey, &Joiner)> {
        self.live.joiners.range(channels_of(at)).filter(|(key, _)| self.sessions.get(key).is_none())
    }

    /// Frees memory of a ROUTE session: objects, then segments; without any, the session is removed.
    fn shed_route(&mut self, now: Instant, at: RouteKey, wanted_bytes: usize) {
        let mut freed_bytes = self.live.routes.with(&at, |it| it.shed(wanted_bytes)).unwrap_or(0);
        self.route_events(now, at);
        let joined: Vec<SessionKey> = self.joined_of(at).map(|(key, _)| *key).collect();
        for key in joined {
            if freed_bytes < wanted_bytes {
                let wanted_bytes = wanted_bytes - freed_bytes;
                freed_bytes += self.live.joiners.with(&key, |it| it.shed(wanted_bytes)).unwrap_or(0);
                self.joined(now, key);
            }
        }
        if freed_bytes == 0 {
            self.counters.sessions_displaced += 1;
            self.end_route(now, at);
        }
    }
}
