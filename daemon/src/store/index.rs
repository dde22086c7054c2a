//! Index of the cache by key, with an eviction order for each tier and class, bounded by bytes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use carousel::eviction::{Eviction, Order, Slot};
use carousel::name::ObjectKey;
use carousel::time::WallTime;

use super::format::{Class, HEADER_BYTES, ObjectMeta};
use super::returning::Returning;
use super::{EvictReason, StoredObject, Tier};

/// Evictable classes, first evicted first.
const LEAVING: [Class; 3] = [Class::Low, Class::Medium, Class::High];

/// Target durations after which live manifests are evicted as stale, independent of their FDT: they are stale within
/// seconds, and players need them until the next version is complete, which may be lost.
const LIVE_TARGETS: u64 = 10;

/// Time until which a live manifest is not evicted as stale, in milliseconds since 1970; `None`: it is not a live manifest.
fn kept_until_ms(object: &StoredObject) -> Option<i64> {
    let kept_ms = i64::try_from(object.live()?.target_ms.saturating_mul(LIVE_TARGETS)).unwrap_or(i64::MAX);
    Some(object.meta.received_at.unix_ms().saturating_add(kept_ms))
}

/// The index. Every operation is O(1) on average but `list`.
pub(super) struct Index {
    slots: HashMap<ObjectKey, Slot>,
    objects: Vec<Option<Entry>>,
    free: Vec<Slot>,
    /// By tier, then in the order of [`LEAVING`]. Pinned objects are in none.
    orders: [[Order; LEAVING.len()]; Tier::ALL.len()],
    /// Expiry times by slot; entries of reused slots are skipped.
    stale: BinaryHeap<Reverse<(i64, Slot)>>,
    bytes: [u64; Tier::ALL.len()],
    inserted: u64,
    evicted: [u64; EvictReason::ALL.len()],
    names: RandomState,
    /// Objects that were evicted from the disk for room.
    pub(super) returning: Returning,
}

#[derive(Debug)]
struct Entry {
    object: Arc<StoredObject>,
    /// Its eviction order; `None`: pinned.
    class: Option<usize>,
}

impl Index {
    pub(super) fn new(eviction: Eviction) -> Self {
        let orders = || std::array::from_fn(|_| Order::new(eviction));
        Self {
            slots: HashMap::new(),
            objects: Vec::new(),
            free: Vec::new(),
            orders: [orders(), orders()],
            stale: BinaryHeap::new(),
            bytes: Default::default(),
            inserted: 0,
            evicted: Default::default(),
            names: RandomState::new(),
            returning: Returning::default(),
        }
    }

    /// Looks up an object and counts a use.
    pub(super) fn get(&mut self, key: &str) -> Option<Arc<StoredObject>> {
        let slot = *self.slots.get(key)?;
        let entry = self.objects[slot as usize].as_ref()?;
        if let Some(class) = entry.class {
            self.orders[entry.object.tier() as usize][class].touch(slot);
        }
        Some(Arc::clone(&entry.object))
    }

    pub(super) fn peek(&self, key: &str) -> Option<&Arc<StoredObject>> {
        let slot = *self.slots.get(key)?;
        self.objects[slot as usize].as_ref().map(|entry| &entry.object)
    }

    /// Inserts an object; removes an existing one of the same key.
    pub(super) fn insert(&mut self, object: Arc<StoredObject>) -> Option<Arc<StoredObject>> {
        let key = object.meta.key.clone();
        let old = self.remove(key.as_str(), EvictReason::Replaced);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.objects.push(None);
            (self.objects.len() - 1) as Slot
        });
        self.bytes[object.tier() as usize] += size(&object);
        self.inserted += 1;
        self.returning.remove(key.as_str(), &object.meta.digest);
        if let Some(expires) = object.meta.expires {
            self.stale.push(Reverse((expires.unix_ms(), slot)));
        }
        if self.stale.len() > 2 * self.objects.len() + 1024 {
            self.forget_old_dates();
        }
        let class = LEAVING.iter().position(|&class| class == object.meta.class);
        self.objects[slot as usize] = Some(Entry { object, class: None });
        self.enter(slot, class);
        self.slots.insert(key, slot);
        old
    }

    /// Replaces `old` by `new`, which has the same bytes. False if `old` is not in the index any more.
    pub(super) fn swap(&mut self, old: &Arc<StoredObject>, new: Arc<StoredObject>) -> bool {
        let Some(&slot) = self.slots.get(old.meta.key.as_str()) else { return false };
        let Some(entry) = self.objects[slot as usize].as_mut().filter(|it| Arc::ptr_eq(&it.object, old))
        else {
            return false;
        };
        if let Some(expires) = new.meta.expires {
            self.stale.push(Reverse((expires.unix_ms(), slot)));
        }
        old.leave();
        entry.object = new;
        if self.stale.len() > 2 * self.objects.len() + 1024 {
            self.forget_old_dates();
        }
        true
    }

    /// Removes expiry entries of removed objects, which would otherwise accumulate while the daemon runs.
    fn forget_old_dates(&mut self) {
        let date = |(slot, entry): (usize, &Option<Entry>)| {
            let expires = entry.as_ref()?.object.meta.expires?;
            Some(Reverse((expires.unix_ms(), slot as Slot)))
        };
        self.stale = self.objects.iter().enumerate().filter_map(date).collect();
    }

    /// Adds a slot to an eviction order; `None`: pinned, in no order.
    fn enter(&mut self, slot: Slot, class: Option<usize>) {
        let Some(entry) = &mut self.objects[slot as usize] else { return };
        entry.class = class;
        if let Some(class) = class {
            let (object, name) = (&entry.object, self.names.hash_one(entry.object.meta.key.as_str()));
            self.orders[object.tier() as usize][class].insert(slot, name, size(object));
        }
    }

    /// Removes a slot from its eviction order.
    fn leave(&mut self, slot: Slot) {
        let Some(entry) = &mut self.objects[slot as usize] else { return };
        if let Some(class) = entry.class.take() {
            self.orders[entry.object.tier() as usize][class].remove(slot);
        }
    }

    pub(super) fn remove(&mut self, key: &str, reason: EvictReason) -> Option<Arc<StoredObject>> {
        let slot = *self.slots.get(key)?;
        self.leave(slot);
        self.forget(slot, reason)
    }

    /// Frees a slot that is in no eviction order.
    fn forget(&mut self, slot: Slot, reason: EvictReason) -> Option<Arc<StoredObject>> {
        let Entry { object, .. } = self.objects[slot as usize].take()?;
        object.leave();
        self.slots.remove(object.meta.key.as_str());
        self.free.push(slot);
        self.bytes[object.tier() as usize] -= size(&object);
        self.evicted[reason as usize] += 1;
        if reason == EvictReason::Room && object.tier() == Tier::Flash {
            self.returning.add(object.meta.key.as_str(), &object.meta.digest, size(&object));
        }
        Some(object)
    }

    /// Evicts until a tier holds at most `most` bytes: stale objects first, then by class, then by the policy; never pinned
    /// objects or those being served. Returns the evicted objects, and false if that is not enough: everything evictable is evicted then.
    pub(super) fn shrink(
        &mut self,
        tier: Tier,
        most: u64,
        now: Option<WallTime>,
    ) -> (Vec<Arc<StoredObject>>, bool) {
        let mut evicted = Vec::new();
        while self.bytes[tier as usize] > most {
            let Some(object) = self.evict_one(tier, now) else { return (evicted, false) };
            evicted.push(object);
        }
        (evicted, true)
    }

    fn evict_one(&mut self, tier: Tier, now: Option<WallTime>) -> Option<Arc<StoredObject>> {
        if let Some(slot) = now.and_then(|now| self.next_stale(tier, now)) {
            self.leave(slot);
            return self.forget(slot, EvictReason::Stale);
        }
        let objects = &self.objects;
        let may_go = |slot: Slot| {
            let entry = objects[slot as usize].as_ref();
            entry.is_some_and(|entry| Arc::strong_count(&entry.object) == 1)
        };
        let slot = self.orders[tier as usize].iter_mut().find_map(|order| order.evict(may_go))?;
        if let Some(entry) = &mut self.objects[slot as usize] {
            entry.class = None;
        }
        self.forget(slot, EvictReason::Room)
    }

    /// A stale object of the tier that can be evicted.
    fn next_stale(&mut self, tier: Tier, now: WallTime) -> Option<Slot> {
        // Stale objects that are in use, pinned, or of the other tier go back into the heap.
        let mut later = Vec::new();
        let mut found = None;
        while let Some(&Reverse((at_ms, slot))) = self.stale.peek()
            && at_ms <= now.unix_ms()
            && later.len() < 64
        {
            self.stale.pop();
            let Some(entry) = self.objects.get(slot as usize).and_then(Option::as_ref) else { continue };
            let expires_ms = entry.object.meta.expires.map(WallTime::unix_ms);
            let kept_ms = kept_until_ms(&entry.object);
            if expires_ms != Some(at_ms) && kept_ms != Some(at_ms) {
                continue;
            }
            if let Some(kept_ms) = kept_ms.filter(|it| *it > at_ms) {
                later.push(Reverse((kept_ms, slot)));
                continue;
            }
            let may_go = entry.class.is_some() && Arc::strong_count(&entry.object) == 1;
            if may_go && entry.object.tier() == tier {
                found = Some(slot);
                break;
            }
            later.push(Reverse((at_ms, slot)));
        }
        self.stale.extend(later);
        found
    }

    pub(super) fn pin(&mut self, key: &str, pinned: bool) -> bool {
        let Some(&slot) = self.slots.get(key) else { return false };
        let class = self.objects[slot as usize].as_ref().map(|entry| entry.object.meta.class);
        self.leave(slot);
        let usual = LEAVING.iter().position(|&it| Some(it) == class).or(Some(1));
        self.enter(slot, if pinned { None } else { usual });
        true
    }

    /// Every object, and whether it is pinned; within each class the last to be evicted first.
    pub(super) fn list(&self) -> Vec<(Arc<StoredObject>, bool)> {
        let ordered = self.orders.iter().flatten().flat_map(Order::iter);
        let pinned = (0..).zip(&self.objects);
        let pinned =
            pinned.filter_map(|(slot, it)| it.as_ref().filter(|it| it.class.is_none()).map(|_| slot));
        let slots = pinned.chain(ordered);
        slots
            .filter_map(|slot: Slot| {
                let entry = self.objects[slot as usize].as_ref()?;
                Some((Arc::clone(&entry.object), entry.class.is_none()))
            })
            .collect()
    }

    /// Objects that are `wanted`, of at most `count` slots from `from` on; `None` behind the last slot.
    pub(super) fn select(
        &self,
        from: usize,
        count: usize,
        wanted: impl Fn(&ObjectMeta) -> bool,
    ) -> Option<Vec<Arc<StoredObject>>> {
        let slots = self.objects.get(from..).filter(|it| !it.is_empty())?;
        let objects = slots.iter().take(count).flatten().map(|entry| &entry.object);
        Some(objects.filter(|object| wanted(&object.meta)).map(Arc::clone).collect())
    }

    /// A counter that changes with every insertion and removal.
    pub(super) fn changes(&self) -> u64 {
        self.inserted + self.evicted.iter().sum::<u64>()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes held in a tier.
    pub(super) const fn bytes(&self, tier: Tier) -> u64 {
        self.bytes[tier as usize]
    }

    pub(super) const fn evicted(&self) -> [u64; EvictReason::ALL.len()] {
        self.evicted
    }

    /// The sum over `reasons`.
    pub(super) fn evicted_for(&self, reasons: &[EvictReason]) -> u64 {
        reasons.iter().map(|&reason| self.evicted[reason as usize]).sum()
    }
}

fn size(object: &Arc<StoredObject>) -> u64 {
    object.meta.length + HEADER_BYTES as u64
}
