//! Maps of limited size in which the oldest entry makes room for a new one, and whose memory shrinks with them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map of at most a given number of entries.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    most: usize,
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    serial: u64,
}

impl<K: Hash + Eq + Clone, V> BoundedMap<K, V> {
    /// Empty, for at most `most` entries.
    pub fn new(most: usize) -> Self {
        Self { most, entries: HashMap::new(), order: BTreeMap::new(), serial: 0 }
    }

    /// The value of `key`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Inserts an entry as the newest. Returns the entry that was removed for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let full = self.entries.len() >= self.most;
        let oldest = if full { self.order.first_key_value().map(|(_, key)| key.clone()) } else { None };
        let displaced = oldest.and_then(|key| self.remove(&key).map(|value| (key, value)));
        self.serial += 1;
        self.order.insert(self.serial, key.clone());
        self.entries.insert(key, (self.serial, value));
        displaced
    }

    /// Removes an entry.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (serial, value) = self.entries.remove(key)?;
        self.order.remove(&serial);
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        Some(value)
    }

    /// Removes the entries for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let order = &mut self.order;
        self.entries.retain(|key, (serial, value)| {
            let stays = keep(key, value);
            if !stays {
                order.remove(serial);
            }
            stays
        });
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    /// All entries, in no order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, (_, value))| (key, value))
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries for which memory is allocated.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_what_is_inserted_again_is_new() {
        let mut map = BoundedMap::new(3);
        for key in 0..3 {
            assert_eq!(map.insert(key, key), None);
        }
        assert_eq!(map.insert(0, 10), None);
        assert_eq!(map.insert(3, 3), Some((1, 1)));
        assert_eq!((map.get(&0), map.len(), map.order.len()), (Some(&10), 3, 3));
    }

    #[test]
    fn memory_goes_with_the_entries() {
        let mut map = BoundedMap::new(10_000);
        for key in 0..20_000 {
            map.insert(key, ());
        }
        assert_eq!(map.len(), 10_000);
        map.retain(|key, ()| key % 2 == 0);
        for key in 0..20_000 {
            map.remove(&key);
        }
        assert!(map.is_empty() && map.order.is_empty() && map.capacity() < 256);
    }
}
