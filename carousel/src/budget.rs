//! Memory of live reception: one budget for the sessions of a process, and the choice of the one that makes room.
//!
//! Each receiver thread reports the memory of its sessions, of whatever protocol, to a [`Holding`]: tables, early packets, objects and
//! segments in memory. If all threads together hold too much, a thread that holds more than its part frees what [`Holding::set`]
//! returns, from the session that [`least_worthy`] chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::MAX_SESSIONS_BYTES;
use crate::time::Instant;

/// Memory of the sessions of all receiver threads of a process, which share one limit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit_bytes: usize,
    held_bytes: AtomicUsize,
    holdings: AtomicUsize,
}

impl Default for SessionBudget {
    fn default() -> Self {
        Self::of(MAX_SESSIONS_BYTES)
    }
}

impl SessionBudget {
    /// A budget of `limit_bytes`, [`MAX_SESSIONS_BYTES`] at most.
    pub fn of(limit_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            limit_bytes: limit_bytes.min(MAX_SESSIONS_BYTES),
            held_bytes: AtomicUsize::new(0),
            holdings: AtomicUsize::new(0),
        }))
    }

    /// Most memory of all sessions.
    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes
    }

    /// Memory of all sessions, as last reported by their threads.
    pub fn held_bytes(&self) -> usize {
        self.0.held_bytes.load(Ordering::Relaxed)
    }
}

/// Memory that one receiver thread holds of a budget; released when dropped.
#[derive(Debug)]
pub struct Holding {
    budget: SessionBudget,
    bytes: usize,
}

impl Default for Holding {
    fn default() -> Self {
        Self::of(SessionBudget::default())
    }
}

impl Holding {
    /// A thread that holds nothing yet.
    pub fn of(budget: SessionBudget) -> Self {
        budget.0.holdings.fetch_add(1, Ordering::Relaxed);
        Self { budget, bytes: 0 }
    }

    /// Reports the memory of the thread. Returns the bytes that it must free so that `spare_bytes` remain free: 0 while it holds no more
    /// than its part, so that a thread with small sessions loses none for those of another.
    pub fn set(&mut self, bytes: usize, spare_bytes: usize) -> usize {
        let Shared { limit_bytes, held_bytes, holdings } = &*self.budget.0;
        let before = std::mem::replace(&mut self.bytes, bytes);
        // Wraps where it shrinks, and the sum is right.
        let change = bytes.wrapping_sub(before);
        let all = held_bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        let part = limit_bytes / holdings.load(Ordering::Relaxed).max(1);
        (all + spare_bytes).saturating_sub(*limit_bytes).min(bytes.saturating_sub(part))
    }

    /// Memory of the thread, as last reported.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.budget.0.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.0.holdings.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of verified objects of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    signed_bytes: u64,
    bytes: u64,
}

impl Brought {
    /// Whether a signed one was among them.
    pub const fn is_signed(&self) -> bool {
        self.signed_bytes > 0
    }

    /// Adds a verified object.
    pub const fn add(&mut self, bytes: u64, is_signed: bool) {
        self.bytes = self.bytes.saturating_add(bytes);
        if is_signed {
            self.signed_bytes = self.signed_bytes.saturating_add(bytes);
        }
    }
}

/// Rank of a session when one must make room, in powers of two, so that a few packets decide nothing: bytes of signed verified
/// objects, bytes of all verified objects, placed packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Worth {
    signed: u32,
    brought: u32,
    placed: u32,
}

impl Worth {
    /// The rank of a session with these counts. Without `is_alive`, after a long silence, only placed packets count.
    pub const fn new(brought: Brought, placed: u64, is_alive: bool) -> Self {
        const fn bits(value: u64) -> u32 {
            u64::BITS - value.leading_zeros()
        }
        let brought = if is_alive { brought } else { Brought { signed_bytes: 0, bytes: 0 } };
        Self { signed: bits(brought.signed_bytes), brought: bits(brought.bytes), placed: bits(placed) }
    }
}

/// A session with its memory and rank.
#[derive(Debug, Clone, Copy)]
pub struct Claim<K> {
    /// The session.
    pub key: K,
    /// Its rank.
    pub worth: Worth,
    /// Time of its last packet.
    pub last_heard: Instant,
    /// Its memory.
    pub held_bytes: usize,
}

/// Chooses the session that makes room: among the lowest-ranked sessions that together hold a quarter of the memory, the first that
/// holds more than half of their average, because a smaller one frees too little; of equal ranks the one that has been silent longest. So
/// many untrusted senders make room before an honest session, however little each of them holds.
pub fn least_worthy<K: Copy>(mut claims: Vec<Claim<K>>) -> Option<K> {
    claims.sort_by_key(|it| (it.worth, it.last_heard));
    let all_bytes: usize = claims.iter().map(|it| it.held_bytes).sum();
    let (mut count, mut bytes) = (0, 0);
    for claim in &claims {
        (count, bytes) = (count + 1, bytes + claim.held_bytes);
        if bytes > all_bytes / 4 {
            break;
        }
    }
    let least = bytes / (2 * count.max(1));
    claims.iter().take(count).find(|it| it.held_bytes > least).map(|it| it.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn receivers_share_one_budget_and_a_small_one_loses_nothing() {
        let budget = SessionBudget::default();
        let [mut small, mut large, mut other, idle] = std::array::from_fn(|_| Holding::of(budget.clone()));
        assert_eq!((small.set(2 * MIB, 0), large.set(90 * MIB, 0), other.set(60 * MIB, 0)), (0, 0, 0));
        assert_eq!(other.set(72 * MIB, 0), 4 * MIB, "all of them hold too much");
        assert_eq!(other.set(72 * MIB, MIB), 5 * MIB, "and leave something free");
        assert_eq!(small.set(3 * MIB, MIB), 0, "it holds less than its part");
        assert_eq!(other.set(41 * MIB, 30 * MIB), MIB, "down to its part");
        assert_eq!((budget.held_bytes(), other.bytes()), (134 * MIB, 41 * MIB));
        drop((large, other, idle));
        assert_eq!(budget.held_bytes(), 3 * MIB);
        assert_eq!(small.set(200 * MIB, 0), 40 * MIB, "all of it is the part of one");
    }

    #[test]
    fn a_budget_of_a_small_box_is_smaller() {
        let budget = SessionBudget::of(8 * MIB);
        let [mut one, mut other] = std::array::from_fn(|_| Holding::of(budget.clone()));
        assert_eq!((one.set(3 * MIB, 0), other.set(5 * MIB, 0)), (0, 0));
        assert_eq!((other.set(6 * MIB, 0), one.set(4 * MIB, 0)), (MIB, 0));
        assert_eq!(
            (budget.limit_bytes(), SessionBudget::of(usize::MAX).limit_bytes()),
            (8 * MIB, MAX_SESSIONS_BYTES)
        );
    }

    fn claim(key: u32, brought: Brought, placed: u64, held_bytes: usize) -> Claim<u32> {
        let last_heard = Instant::from_nanos(u64::from(key));
        Claim { key, worth: Worth::new(brought, placed, true), last_heard, held_bytes }
    }

    #[test]
    fn signed_bytes_count_before_others_and_those_before_packets() {
        let of = |signed_bytes, bytes| Brought { signed_bytes, bytes };
        let worths = [
            Worth::new(of(0, 0), 0, true),
            Worth::new(of(0, 0), 1 << 20, true),
            Worth::new(of(0, 1), 0, true),
            Worth::new(of(0, 1 << 40), 9, true),
            Worth::new(of(1, 1), 0, true),
        ];
        assert!(worths.is_sorted() && worths[0] < worths[1]);
        assert_eq!(Worth::new(of(5, 5), 7, false), Worth::new(of(0, 0), 7, true), "it is silent");
        let mut brought = Brought::default();
        brought.add(3, false);
        brought.add(4, true);
        assert_eq!(brought, of(4, 7));
    }

    #[test]
    fn untrusted_sessions_make_room_before_what_has_proved_right_and_what_holds_little() {
        let nothing = Brought::default();
        let much = Brought { signed_bytes: 0, bytes: 1 << 30 };
        // Few that hold much, beside one that has just begun.
        let mut claims = vec![claim(0, much, 1000, 60 * MIB), claim(1, nothing, 5, MIB)];
        claims.extend((2..12).map(|key| claim(key, nothing, 100_000, 10 * MIB)));
        assert_eq!(least_worthy(claims), Some(2));
        // Very many that hold little each.
        let mut claims = vec![claim(0, much, 1000, 100 * MIB)];
        claims.extend((1..512).map(|key| claim(key, nothing, 10, MIB / 8)));
        assert_eq!(least_worthy(claims), Some(1));
        // So that something has proved right of each.
        let little = Brought { signed_bytes: 0, bytes: 1000 };
        let mut claims = vec![claim(0, much, 1000, 100 * MIB)];
        claims.extend((1..512).map(|key| claim(key, little, 10_000, MIB / 8)));
        assert_eq!(least_worthy(claims), Some(1));
        // Untrusted senders hold next to nothing: the session that has brought less of those that fill the memory.
        let claims = vec![
            claim(0, Brought { signed_bytes: 1, bytes: 1 }, 9, 90 * MIB),
            claim(1, much, 9, 60 * MIB),
            claim(2, nothing, 1, MIB),
        ];
        assert_eq!(least_worthy(claims), Some(1), "the other is signed");
        assert_eq!(least_worthy::<u32>(Vec::new()), None);
        assert_eq!(least_worthy(vec![claim(7, nothing, 0, 1)]), Some(7));
    }
}
