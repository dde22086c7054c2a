//! Bodies of unknown length: they reserve room as they grow, evict nothing, and become pass-through where they may not stay.
//!
//! ```text
//! memory ── more than fits there ──▶ disk, in free room ── quota, reserve or write budget ──▶ passing: a ring of the last bytes
//!    │ └─ no room there: free memory ────────────────────────── none ───────────────────────────────▶ │
//!    └──────── end: room as of any object of that length ────────┴── end: published                └── end: kept nowhere
//! ```
//!
//! Invariants: bytes before [`Growth::passing_from`] stay readable for as long as the body comes; behind it only the last
//! [`RING_BYTES`] are, and the writer waits for readers ([`super::Partial::pace`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::file::UnnamedFile;
use super::format::HEADER_BYTES;
use super::object::Tier;
use super::partial::Room;
use super::{Claim, Placement, Store, file};

/// Bytes of a body of unknown length in memory before it moves to the disk; most segments never exceed them.
const MEMORY_BYTES: u64 = 4 << 20;
/// As [`MEMORY_BYTES`], for one that expires soon: it is worth more memory, but not all of it.
const SHORT_LIVED_MEMORY_BYTES: u64 = 8 << 20;
/// Steps in which memory and disk are reserved, at most.
const MEMORY_STEP_BYTES: u64 = 256 << 10;
const DISK_STEP_BYTES: u64 = 4 << 20;
/// Readable part of a body that is passed through.
pub(super) const RING_BYTES: u64 = 1 << 20;
/// Divisor of `memory_bytes`: memory for all bodies of unknown length together, on top of it.
pub(super) const GROWING_SHARE: u64 = 4;

/// Tier that a growing body may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    /// There is room: it stays readable.
    Kept,
    /// From here on it is passed through.
    Passing,
}

#[derive(Debug)]
struct Rooms {
    /// Of the ring.
    ring: Room,
    /// Of the body.
    all: Vec<Room>,
    reserved_bytes: u64,
}

/// The state of a body of unknown length.
#[derive(Debug)]
pub(super) struct Growth {
    store: Store,
    placement: Placement,
    /// False: the body is passed through and does not move to the disk.
    keep: bool,
    rooms: Mutex<Rooms>,
    /// Its file on the disk, once it has outgrown memory.
    moved: OnceLock<UnnamedFile>,
    ring: File,
    /// The ring on the disk, if memory had no room for it when the body began to pass.
    ring_on_disk: OnceLock<UnnamedFile>,
    /// Room for the ring is reserved on the disk.
    has_disk_room: bool,
    /// Offset from which on it is passed through; `u64::MAX`: it is not.
    passing_from: AtomicU64,
    /// End of the bytes that have been, or are being, written into the ring.
    ring_end: AtomicU64,
}

/// Disk that a body of `end` bytes reserves ahead: many may grow at a time.
fn disk_step(end: u64) -> u64 {
    (end / 2).clamp(MEMORY_STEP_BYTES, DISK_STEP_BYTES)
}

impl Growth {
    /// Begins a body without bytes. `None`: there is no room for its ring.
    pub(super) fn new(store: &Store, placement: Placement, keep: bool) -> io::Result<Option<Self>> {
        // One that may be kept seldom passes: memory is for bodies, as long as the disk has room for a ring.
        let on_disk = if keep { store.growing_room_on_disk(RING_BYTES) } else { None };
        let has_disk_room = on_disk.is_some();
        let Some(ring_room) = on_disk.map(|(room, _)| room).or_else(|| store.growing_room(RING_BYTES)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            store: store.clone(),
            placement,
            keep,
            rooms: Mutex::new(Rooms { ring: ring_room, all: Vec::new(), reserved_bytes: 0 }),
            moved: OnceLock::new(),
            ring: file::in_memory()?,
            ring_on_disk: OnceLock::new(),
            has_disk_room,
            passing_from: AtomicU64::new(u64::MAX),
            ring_end: AtomicU64::new(0),
        }))
    }

    /// The file on the disk, if the body has moved there.
    pub(super) fn moved(&self) -> Option<&UnnamedFile> {
        self.moved.get()
    }

    pub(super) fn passing_from(&self) -> u64 {
        self.passing_from.load(Ordering::Acquire)
    }

    /// Makes room for a body that has `written` bytes in `memory` and becomes `end` bytes long.
    pub(super) fn grow(&self, memory: &File, written: u64, end: u64) -> Grown {
        if self.passing_from() != u64::MAX {
            return Grown::Passing;
        }
        // Numbers and reservations only: consistent after a panic elsewhere.
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        while rooms.reserved_bytes < end {
            let room = if self.moved.get().is_some() {
                self.store.growing_room_on_disk(disk_step(end).max(end - rooms.reserved_bytes))
            } else {
                self.memory_room(end, rooms.reserved_bytes)
            };
            if let Some((room, bytes)) = room {
                rooms.all.push(room);
                rooms.reserved_bytes += bytes;
                continue;
            }
            if self.moved.get().is_none() {
                if self.move_to_disk(memory, written, end, &mut rooms) {
                    continue;
                }
                if let Some((room, bytes)) = self.free_memory(end - rooms.reserved_bytes) {
                    rooms.all.push(room);
                    rooms.reserved_bytes += bytes;
                    continue;
                }
            }
            self.begin_passing(written, &mut rooms);
            return Grown::Passing;
        }
        Grown::Kept
    }

    fn begin_passing(&self, written: u64, rooms: &mut Rooms) {
        let in_memory = self.has_disk_room.then(|| self.store.growing_room(RING_BYTES)).flatten();
        if let Some(room) = in_memory {
            rooms.ring = room;
        } else if self.has_disk_room {
            let root = self.store.root();
            match file::anonymous(&root.folder) {
                Ok(ring) => {
                    let _ = self.ring_on_disk.set(ring);
                }
                Err(err) => root.disk.failed(&err),
            }
        }
        self.ring_end.store(written, Ordering::Release);
        self.passing_from.store(written, Ordering::Release);
    }

    /// The file of the ring.
    fn ring(&self) -> &File {
        self.ring_on_disk.get().map_or(&self.ring, |ring| ring)
    }

    fn memory_room(&self, end: u64, reserved_bytes: u64) -> Option<(Room, u64)> {
        let most = match (self.keep, self.placement.is_short_lived) {
            // It goes nowhere else.
            (false, _) => u64::MAX,
            (true, true) => SHORT_LIVED_MEMORY_BYTES,
            (true, false) => MEMORY_BYTES,
        };
        let step = MEMORY_STEP_BYTES.max(end - reserved_bytes);
        (end <= most).then(|| self.store.growing_room(step)).flatten().map(|room| (room, step))
    }

    /// Memory that no object takes, for a body that the disk does not take.
    fn free_memory(&self, bytes: u64) -> Option<(Room, u64)> {
        let bytes = bytes.max(MEMORY_STEP_BYTES);
        let room = self.keep.then(|| self.store.reserve(Tier::Memory, bytes, Claim::Free).ok()).flatten()?;
        Some((room, bytes))
    }

    /// Continues in a file on the disk, if there is free room for it.
    fn move_to_disk(&self, memory: &File, written: u64, end: u64, rooms: &mut Rooms) -> bool {
        if !self.keep {
            return false;
        }
        let bytes = end.saturating_add(disk_step(end));
        let room = self.store.growing_room_on_disk(bytes).or_else(|| self.store.growing_room_on_disk(end));
        let Some((room, bytes)) = room else { return false };
        let root = self.store.root();
        let moved = file::anonymous(&root.folder).and_then(|disk| {
            let mut buffer = vec![0; MEMORY_STEP_BYTES as usize];
            let (mut at, length) = (0, written + HEADER_BYTES as u64);
            while at < length {
                let count = buffer.len().min(usize::try_from(length - at).unwrap_or(buffer.len()));
                memory.read_exact_at(&mut buffer[..count], at)?;
                disk.write_all_at(&buffer[..count], at)?;
                at += count as u64;
            }
            Ok(disk)
        });
        match moved {
            Ok(disk) => {
                root.ledger.wrote(written);
                let _ = self.moved.set(disk);
                (rooms.all, rooms.reserved_bytes) = (vec![room], bytes);
                true
            }
            Err(err) => {
                root.disk.failed(&err);
                false
            }
        }
    }

    /// Whether a reader at `offset` can no longer get the bytes behind it: of `written` bytes the ring has the last ones.
    pub(super) fn is_overrun(&self, offset: u64, written: u64) -> bool {
        offset.max(self.passing_from()).saturating_add(RING_BYTES) < written
    }

    /// Writes into the ring.
    pub(super) fn pass(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > RING_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Stored before the write: a reader that checks afterwards sees that its bytes were overwritten.
        self.ring_end.store(offset + bytes.len() as u64, Ordering::SeqCst);
        let at = offset % RING_BYTES;
        let first = bytes.len().min((RING_BYTES - at) as usize);
        if self.ring_on_disk.get().is_some() {
            self.store.root().ledger.wrote(bytes.len() as u64);
        }
        self.ring().write_all_at(&bytes[..first], at)?;
        self.ring().write_all_at(&bytes[first..], 0)
    }

    /// Reads from the ring.
    pub(super) fn read_passing(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset % RING_BYTES;
        let first = out.len().min((RING_BYTES - at) as usize);
        let (begin, rest) = out.split_at_mut(first);
        self.ring().read_exact_at(begin, at)?;
        self.ring().read_exact_at(rest, 0)?;
        let is_there = offset.saturating_add(RING_BYTES) >= self.ring_end.load(Ordering::SeqCst);
        if is_there { Ok(()) } else { Err(io::Error::other("a player too slow for what passes")) }
    }
}

impl Store {
    /// Room in memory for bodies of unknown length, beside that for objects.
    pub(super) fn growing_room(&self, bytes: u64) -> Option<Room> {
        let inner = &self.0;
        let most = inner.config.memory_bytes / GROWING_SHARE;
        let claim = |now: u64| now.checked_add(bytes).filter(|all| *all <= most);
        inner.growing_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).ok()?;
        let inner = std::sync::Arc::clone(inner);
        Some(Room::new(bytes, move |bytes| {
            inner.growing_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }))
    }

    /// Free room on the disk, within quota, reserve and write budget.
    fn growing_room_on_disk(&self, bytes: u64) -> Option<(Room, u64)> {
        let root = self.root();
        let is_allowed = root.disk.is_usable() && root.ledger.allows(bytes);
        let room = is_allowed.then(|| self.reserve(Tier::Flash, bytes, Claim::Free).ok()).flatten()?;
        Some((room, bytes))
    }
}
