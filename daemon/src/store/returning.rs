//! Return of objects that were evicted for room: received again when there is free room, without evicting others.
//!
//! A carousel larger than the cache would otherwise be written to the flash again and again. Objects are invited together, once
//! as many bytes are free as were evicted since the last invitation, or an eighth of the quota: the room left after an eviction
//! is less than the evicted object takes.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use carousel::digest::Digest;

/// Divisor of the quota: free room that always suffices for an invitation.
const INVITING_SHARE: u64 = 8;

carousel::limits! {
    /// Objects evicted for room that are remembered.
    const MAX_RETURNING: usize = 65_536, "objects" {
        why: "Sixteen bytes each; a cache of 10 GB with segments of 150 KB.",
        full: "The one evicted first is forgotten: when it comes again it evicts others, as a new one does.",
        free: "When the object is held again, or was forgotten.",
        test: "what_was_evicted_is_remembered_within_a_bound_and_invited_when_there_is_room",
    }
}

/// Hashes of the names of evicted objects, oldest first.
#[derive(Debug, Default)]
pub(super) struct Returning {
    names: RandomState,
    order: VecDeque<u64>,
    known: HashSet<u64>,
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
        if !self.known.insert(name) {
            return;
        }
        self.order.push_back(name);
        while self.order.len() > MAX_RETURNING {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
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
        !self.known.is_empty() && self.known.contains(&self.name(key, digest))
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
}
