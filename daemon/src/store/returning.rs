//! Return of objects that were evicted for room: received again when there is free room, without evicting others.
//!
//! A carousel larger than the cache would otherwise be written to the flash again and again. Objects are invited together, once
//! as many bytes are free as were evicted since the last invitation, or an eighth of the quota: the room left after an eviction
//! is less than the evicted object takes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use carousel::digest::Digest;

/// Divisor of the quota: free room that always suffices for an invitation.
const INVITING_SHARE: u64 = 8;

carousel::limits! {
    /// Objects evicted for room that are remembered.
    const MAX_RETURNING: usize = 65_536, "objects" {
        why: "Some 50 bytes each; a cache of 10 GB with segments of 150 KB.",
        full: "The one evicted first is forgotten: when it comes again it evicts others, as a new one does.",
        free: "When the object is held again, or was forgotten.",
        test: "what_was_evicted_is_remembered_within_a_bound_and_invited_when_there_is_room",
    }
}

/// Hashes of the names of evicted objects, oldest first.
#[derive(Debug, Default)]
pub(super) struct Returning {
    names: RandomState,
    /// Names with the number of their eviction, oldest first. One whose number is not that in `known` is out of force.
    order: VecDeque<(u64, u64)>,
    known: HashMap<u64, u64>,
    evictions: u64,
    /// Bytes evicted since the last invitation.
    bytes: u64,
    invitations: u64,
}

impl Returning {
    fn name(&self, key: &str, digest: &Digest) -> u64 {
        self.names.hash_one((key, digest.0))
    }

    /// Records an object of `bytes` that was evicted for room.
    pub(super) fn add(&mut self, key: &str, digest: &Digest, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let name = self.name(key, digest);
        if self.known.contains_key(&name) {
            return;
        }
        self.evictions += 1;
        self.known.insert(name, self.evictions);
        self.order.push_back((name, self.evictions));
        while self.known.len() > MAX_RETURNING
            && let Some((oldest, eviction)) = self.order.pop_front()
        {
            // An object that was held again, and evicted again later, is not the oldest.
            if self.known.get(&oldest) == Some(&eviction) {
                self.known.remove(&oldest);
            }
        }
        if self.order.len() > 2 * MAX_RETURNING {
            self.order.retain(|(name, eviction)| self.known.get(name) == Some(eviction));
        }
    }

    /// Removes an object that is held again.
    pub(super) fn remove(&mut self, key: &str, digest: &Digest) {
        if !self.known.is_empty() {
            self.known.remove(&self.name(key, digest));
        }
        if self.known.is_empty() {
            self.order.clear();
        }
    }

    /// Whether this object was evicted for room.
    pub(super) fn has(&self, key: &str, digest: &Digest) -> bool {
        !self.known.is_empty() && self.known.contains_key(&self.name(key, digest))
    }

    /// Number of invitations, with `free` bytes of `quota` free now.
    pub(super) fn invitations(&mut self, free: u64, quota: u64) -> u64 {
        if self.bytes > 0 && free >= self.bytes.min(quota / INVITING_SHARE) {
            self.bytes = 0;
            self.invitations += 1;
        }
        self.invitations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_evicted_is_remembered_within_a_bound_and_invited_when_there_is_room() {
        let mut returning = Returning::default();
        let digest = Digest::of(b"a");
        returning.add("h/a", &digest, 100);
        assert!(returning.has("h/a", &digest) && !returning.has("h/a", &Digest::of(b"newer")));
        assert_eq!(returning.invitations(99, 8000), 0);
        assert_eq!(returning.invitations(100, 8000), 1);
        assert_eq!(returning.invitations(8000, 8000), 1, "once");
        returning.add("h/b", &digest, 5000);
        assert_eq!((returning.invitations(999, 8000), returning.invitations(1000, 8000)), (1, 2));
        returning.remove("h/a", &digest);
        assert!(!returning.has("h/a", &digest) && returning.has("h/b", &digest));
        for number in 0..MAX_RETURNING {
            returning.add(&number.to_string(), &digest, 1);
        }
        assert!(!returning.has("h/b", &digest) && returning.has("0", &digest));
        assert_eq!((returning.order.len(), returning.known.len()), (MAX_RETURNING, MAX_RETURNING));
    }

    #[test]
    fn an_object_that_was_held_in_between_is_as_old_as_its_last_eviction() {
        let (mut returning, digest) = (Returning::default(), Digest::of(b"a"));
        returning.add("again", &digest, 1);
        (1..MAX_RETURNING).for_each(|number| returning.add(&number.to_string(), &digest, 1));
        returning.remove("again", &digest);
        returning.add("again", &digest, 1);
        returning.add("newest", &digest, 1);
        assert!(
            returning.has("again", &digest) && !returning.has("1", &digest) && returning.has("2", &digest)
        );
        // Entries out of force are bounded too.
        for _ in 0..2 * MAX_RETURNING {
            returning.remove("again", &digest);
            returning.add("again", &digest, 1);
        }
        assert!(returning.order.len() <= 2 * MAX_RETURNING && returning.known.len() == MAX_RETURNING);
        assert!(returning.has("again", &digest) && returning.has("2", &digest));
    }
}
