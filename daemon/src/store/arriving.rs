//! Reservations of arriving objects: room is reserved as bytes arrive, not when objects are announced.
//!
//! ```text
//! open: a page ── bytes are written ──▶ what has come and a quarter more ── complete ──▶ all of it ──▶ published
//! │ no room: the lowest-ranked arriving object loses its reservation
//! └──▶ lost: unreadable from now on, its room is free at once, delivery opens it again later
//! ```
//!
//! Invariants: an object has reserved at most a page, a quarter of its received bytes, and [`STEP_BYTES`] more than those; the
//! reservation of a lost object is 0; complete objects are not lost.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use carousel::time::Instant;

use super::format::{Class, HEADER_BYTES};
use super::{Claim, Placement, Store, StoreError, Tier};
use crate::clock;

/// Maximum reserved ahead.
const STEP_BYTES: u64 = 4 << 20;
/// Minimum reserved ahead: the page that the first byte takes.
const PAGE_BYTES: u64 = 4096;
/// Objects up to this length reserve all of it when they are opened.
const SMALL_BYTES: u64 = 16 << 10;
/// Silence after which an object makes room for others: its reservation for those of its rank, its memory for any.
pub(super) const SILENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// An object that is about to arrive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival {
    /// Tier that it is meant for.
    pub placement: Placement,
    /// A trusted key has signed its description, and its session has brought objects that were right.
    pub is_signed: bool,
    /// It was evicted for room before: it takes free room only and evicts nothing.
    pub returns: bool,
}

/// Order in which objects make room: a lower rank for a higher one.
type Rank = (bool, u8);

impl Arrival {
    pub(super) const fn claim(self) -> Claim {
        if self.returns { Claim::Free } else { Claim::Named }
    }

    const fn rank(self) -> Rank {
        let class = match self.placement.class {
            Class::Low => 0,
            Class::Medium => 1,
            Class::High => 2,
            Class::Pinned => 3,
        };
        (self.is_signed, class)
    }
}

/// Reservation of one arriving object.
#[derive(Debug)]
pub(super) struct Share {
    tier: Tier,
    rank: Rank,
    claim: Claim,
    /// Length of the body.
    length: u64,
    arrived: AtomicU64,
    /// With the header's page. Changed under the index's lock, or by the last owner.
    reserved: AtomicU64,
    written_at: AtomicU64,
    is_complete: AtomicBool,
    is_lost: AtomicBool,
}

impl Share {
    /// Bytes that it has reserved.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(super) const fn is_small(&self) -> bool {
        self.length <= SMALL_BYTES
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Adds claimed bytes, under the index's lock. False if the object has been lost meanwhile.
    pub(super) fn add(&self, bytes: u64) -> bool {
        let is_there = !self.is_lost();
        if is_there {
            self.reserved.fetch_add(bytes, Ordering::Relaxed);
        }
        is_there
    }

    /// Marks it as lost. Returns the bytes that it had reserved.
    fn lose(&self) -> u64 {
        self.is_lost.store(true, Ordering::Release);
        self.reserved.swap(0, Ordering::Relaxed)
    }

    /// Whether this arriving object makes room for `other`.
    fn gives_way_to(&self, other: &Self, now: Instant) -> bool {
        let is_silent = || now.since(Instant::from_nanos(self.written_at.load(Ordering::Relaxed))) >= SILENCE;
        self.tier == other.tier
            && self.reserved() > 0
            && !self.is_complete.load(Ordering::Relaxed)
            && (self.rank < other.rank || self.rank == other.rank && is_silent())
    }
}

/// All arriving objects.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Weak<Share>>);

impl Shares {
    fn add(&mut self, share: &Arc<Share>) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|it| it.strong_count() > 0);
            self.0.shrink_to(64);
        }
        self.0.push(Arc::downgrade(share));
    }

    /// Takes the room of the lowest-ranked object below `other`; of equal ranks, the one that was written to longest ago.
    /// Returns the bytes.
    pub(super) fn take_from_least(&self, other: &Share) -> Option<u64> {
        let now = clock::now();
        let all = self.0.iter().filter_map(Weak::upgrade);
        let fit = all.filter(|it| !std::ptr::eq(&raw const **it, other) && it.gives_way_to(other, now));
        let least = fit.min_by_key(|it| (it.rank, it.written_at.load(Ordering::Relaxed)))?;
        Some(least.lose())
    }
}

/// The reservation of one object, released when dropped.
#[derive(Debug)]
pub(super) struct Arriving {
    store: Store,
    share: Arc<Share>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.lose();
    }
}

impl Arriving {
    /// Reserves room for the beginning of an object of `length` bytes, of which an earlier run has left `arrived`.
    pub(super) fn open(
        store: &Store,
        tier: Tier,
        length: u64,
        arrived: u64,
        (claim, arrival): (Claim, Arrival),
    ) -> Result<Self, StoreError> {
        store.could_hold(tier, length, claim)?;
        let share = Arc::new(Share {
            tier,
            rank: arrival.rank(),
            claim,
            length,
            arrived: AtomicU64::new(arrived),
            reserved: AtomicU64::new(0),
            written_at: AtomicU64::new(clock::now().as_nanos()),
            is_complete: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
        });
        let first = if share.is_small() { length } else { PAGE_BYTES.max(arrived).min(length) };
        let arriving = Self { store: store.clone(), share };
        arriving.store.claim(tier, first + HEADER_BYTES as u64, claim, Some(&arriving.share))?;
        store.0.arriving.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&arriving.share);
        Ok(arriving)
    }

    fn lose(&self) {
        let bytes = self.share.lose();
        self.store.0.partial_bytes[self.share.tier as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether its room was taken for another object.
    pub(super) fn is_lost(&self) -> bool {
        self.share.is_lost()
    }

    /// Marks it as completely written: it can no longer be lost. False if it is lost already.
    pub(super) fn complete(&self) -> bool {
        self.share.is_complete.store(true, Ordering::Relaxed);
        // The lock orders this against a loss.
        let _index = self.store.index();
        !self.is_lost()
    }

    /// Reserves room for bytes that are about to be written.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let share = &self.share;
        share.written_at.store(clock::now().as_nanos(), Ordering::Relaxed);
        let arrived = share.arrived.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if share.is_lost() {
            return Err(lost());
        }
        // Repair symbols lie behind the body and are removed when their block is decoded.
        let needed = arrived.min(share.length) + HEADER_BYTES as u64;
        let reserved = share.reserved();
        if needed <= reserved {
            return Ok(());
        }
        let ahead = (arrived / 4).clamp(PAGE_BYTES, STEP_BYTES);
        let wanted = (needed + ahead).min(share.length + HEADER_BYTES as u64);
        match self.store.claim(share.tier, wanted - reserved, share.claim, Some(share)) {
            Ok(()) => Ok(()),
            Err(err) => {
                tracing::debug!(%err, arrived, length = share.length, "an object that arrives has no room");
                let _index = self.store.index();
                self.lose();
                Err(lost())
            }
        }
    }
}

fn lost() -> io::Error {
    io::Error::other("its room was needed for others")
}
