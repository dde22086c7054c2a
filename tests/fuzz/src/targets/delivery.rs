//! The daemon's delivery: the life of objects in one shard, with a cache and an origin in memory.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use carousel::Digest;
use carousel::fec::BlockId;
use carousel::flute::{File, MemoryBuf, OpenRequest, Refusal, SessionKey, Storage, verify};
use carousel::lct::{Toi, Tsi};
use carousel::repair::BackOff;
use carousel::time::{Instant, WallTime};
use skycache::delivery::{
    Change, Decode, Delivery, Lookup, ObjectRef, ObjectStore, Options, RejectReason, RepairError,
    RequestedBytes, Restore, SessionFilter, VerificationId, Verify, Work,
};

use super::receivers::{MOST_BLOCK_BYTES, MOST_BYTES, START, altered, operation};
use crate::input::Input;

/// Objects that are held, by source and name, with what is lent.
#[derive(Debug, Clone, Default)]
struct Cache {
    held: Arc<Mutex<BTreeMap<(IpAddr, String), Digest>>>,
    lent: Arc<AtomicU64>,
}

/// Storage of one object.
#[derive(Debug)]
struct Space {
    bytes: Arc<Mutex<MemoryBuf>>,
    length: u64,
    lent: Arc<AtomicU64>,
}

impl Space {
    fn new(length: u64, lent: &Arc<AtomicU64>) -> Self {
        lent.fetch_add(length, Ordering::Relaxed);
        Self { bytes: Arc::new(Mutex::new(MemoryBuf::new(length))), length, lent: Arc::clone(lent) }
    }

    fn with<R>(&self, run: impl FnOnce(&mut MemoryBuf) -> R) -> R {
        run(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.lent.fetch_sub(self.length, Ordering::Relaxed);
    }
}

impl Cache {
    fn digest(&self, source: IpAddr, name: &str) -> Option<Digest> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&(source, name.to_owned())).copied()
    }

    fn keep(&self, source: IpAddr, file: &File, digest: Digest) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert((source, file.content_location.clone()), digest);
    }

    fn evict(&self, keep: impl Fn(&str) -> bool) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, name), _| keep(name));
    }

    fn holds(&self, session: &SessionKey, file: &File) -> bool {
        let digest = self.digest(session.source, &file.content_location);
        digest.is_some() && digest == file.content_digest
    }
}

struct Lender<'a>(&'a Cache, SessionKey);

impl Storage for Lender<'_> {
    type Buf = Space;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Space, Refusal> {
        match request.file {
            Some(file) if self.0.holds(&self.1, file) => Err(Refusal::Held),
            Some(file) if file.content_location.contains("unwanted") => Err(Refusal::NotWanted),
            _ if request.length > MOST_BYTES => Err(Refusal::NoRoom),
            _ => Ok(Space::new(request.length, &self.0.lent)),
        }
    }
    fn name(&mut self, _: &mut Space, file: &Arc<File>) -> Result<(), Refusal> {
        if self.0.holds(&self.1, file) { Err(Refusal::Held) } else { Ok(()) }
    }
    fn write(&mut self, buf: &mut Space, offset: u64, bytes: &[u8]) {
        buf.with(|it| it.write(offset, bytes));
    }
    fn keep_repair(&mut self, buf: &mut Space, slot: u32, bytes: &[u8]) -> bool {
        slot < 4096 && buf.with(|it| it.keep_repair(slot, bytes))
    }
}

impl ObjectStore for Cache {
    type Buf = Space;
    type SessionStorage<'a> = Lender<'a>;
    type Reader = Arc<Mutex<MemoryBuf>>;
    type Checkpoint = ();

    fn session_storage(&mut self, session: SessionKey) -> Lender<'_> {
        Lender(self, session)
    }
    fn begin(&mut self, _: &SessionKey, _: &Arc<File>) -> Option<Space> {
        Some(Space::new(0, &self.lent))
    }
    fn extend(&mut self, buf: &mut Space, offset: u64, bytes: &[u8]) {
        buf.with(|it| {
            // All of it comes once more when it is complete.
            assert!(offset <= it.bytes.len() as u64, "an object grows without gaps");
            it.bytes.truncate(offset as usize);
            it.bytes.extend_from_slice(bytes);
        });
    }
    fn chunk(&mut self, buf: Space) -> Option<Vec<u8>> {
        Some(buf.with(|it| it.bytes.clone()))
    }
    fn look_up(&self, session: &SessionKey, file: &File) -> Lookup {
        match file.content_location.as_str() {
            "" => Lookup::Unusable,
            name if name.starts_with("urn:") => Lookup::Signalling,
            _ if self.holds(session, file) => Lookup::Held,
            _ => Lookup::Missing,
        }
    }
    fn still_holds(&self, session: &SessionKey, file: &File) -> bool {
        self.digest(session.source, &file.content_location).is_some()
    }
    fn holds_other(&self, session: &SessionKey, file: &File) -> bool {
        self.still_holds(session, file) && !self.holds(session, file)
    }
    fn flush(&mut self) {}
    fn flush_object(&mut self, _: &Space) {}
    fn reader(&self, buf: &Space) -> Option<Arc<Mutex<MemoryBuf>>> {
        Some(Arc::clone(&buf.bytes))
    }
    fn checkpoint(&self, _: &Space) -> Option<()> {
        None
    }
    fn progress(&self, _: &Space) {}
    fn expect(&self, _: &Space, _: Option<Instant>) {}
    fn set_stalled(&self, _: &Self::Buf, _: Option<Instant>) {}
    fn request_seen(&self, _: &Space) {}
}

/// A shard with its cache, its origin and what has come of it.
struct Shard {
    delivery: Delivery<Cache>,
    cache: Cache,
    now: Instant,
    origin: u8,
    /// Whether every complete object is verified at once; else results wait.
    is_prompt: bool,
    waiting: Vec<(ObjectRef, VerificationId)>,
}

impl Shard {
    fn new(mode: u8) -> Self {
        let ms = Duration::from_millis;
        let options = Options {
            reception_timeout: ms(2000),
            repairs: mode & 4 != 0,
            back_off: BackOff { fixed: ms(0), random: ms(1000) },
            carousel_wait: ms(3000),
            client_patience: ms(1000),
            seed: 7,
            ..Options::without_repairs()
        };
        let cache = Cache::default();
        Self {
            delivery: Delivery::new(options, cache.clone(), Arc::default()),
            cache,
            now: Instant::from_nanos(1_000_000_000),
            origin: mode >> 3 & 3,
            is_prompt: mode & 2 == 0,
            waiting: Vec::new(),
        }
    }

    fn wall(&self) -> WallTime {
        START.plus_ms(i64::try_from(self.now.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
    }

    fn arrive(&mut self, source: u8, bytes: &[u8]) {
        let wall = self.wall();
        let source = SocketAddr::from(([10, 0, 0, source], 5000));
        self.delivery.handle_datagram(
            self.now,
            || Some(wall),
            source,
            destination(),
            &SessionFilter::all(),
            bytes,
        );
        self.settle();
    }

    fn settle(&mut self) {
        self.delivery.handle_end_of_batch();
        while let Some(work) = self.delivery.poll_work(|_| true) {
            match work {
                Work::Verify(Verify { object, id, file, buf, .. }) => {
                    let bytes = buf.with(|it| it.bytes.clone());
                    let result = match verify(&file, &bytes) {
                        Ok(content) => {
                            let digest = file.content_digest.unwrap_or(content.digest);
                            self.cache.keep(object.session.source, &file, digest);
                            Ok(())
                        }
                        Err(_) => Err(RejectReason::Verify),
                    };
                    drop(buf);
                    if self.is_prompt || result.is_err() {
                        self.delivery.handle_verified(self.now, object, id, result);
                    } else {
                        self.waiting.push((object, id));
                    }
                }
                Work::Decode(Decode { object, job, reader }) => {
                    let buf = reader.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let small = job.memory_bytes() <= MOST_BLOCK_BYTES;
                    let decoded = if small { job.run(|place, out| buf.read(place, out)) } else { None };
                    self.delivery.handle_decoded(self.now, object, job.block, &decoded);
                }
                Work::Restore(Restore { object, job }) => {
                    let block = job.block;
                    let decoded = if job.memory_bytes() <= MOST_BLOCK_BYTES { job.run() } else { None };
                    self.delivery.handle_restored(self.now, object, block, &decoded);
                }
                Work::Checkpoint(()) => {}
            }
        }
        while let Some(change) = self.delivery.poll_change() {
            if let Change::Announced(_, files) = change {
                assert!(!files.is_empty(), "nothing is announced");
            }
        }
        while let Some(request) = self.delivery.poll_repair(self.now) {
            let object = request.object;
            let result = match self.origin {
                0 => Err(RepairError::NoOrigin),
                1 => Err(RepairError::Failed),
                _ => {
                    if let RequestedBytes::Ranges(lists, _) = &request.requested {
                        for range in lists.iter().flatten() {
                            assert!(range.start < range.end);
                            let length = (range.end - range.start).min(MOST_BYTES) as usize;
                            // An origin with other bytes: nothing of them may be held.
                            self.delivery.handle_repair(self.now, object, range.start, &vec![0xee; length]);
                        }
                        Ok(())
                    } else {
                        Err(RepairError::Mismatch)
                    }
                }
            };
            self.delivery.handle_repair_done(self.now, object, result);
        }
    }

    fn pass(&mut self, ms: u32) {
        let end = self.now + Duration::from_millis(u64::from(ms));
        for _ in 0..64 {
            self.now = self.delivery.poll_timeout().max(self.now).min(end);
            let wall = Some(self.wall());
            self.delivery.handle_timeout(self.now, wall);
            self.settle();
            if self.now >= end {
                break;
            }
            self.now = self.now + Duration::from_millis(1);
        }
        self.now = self.now.max(end);
        let wall = Some(self.wall());
        self.delivery.handle_timeout(self.now, wall);
        self.settle();
    }

    fn assert_counted(&self) {
        let totals = self.delivery.totals();
        assert!(totals.reconcile(), "{totals:?}");
    }
}

fn destination() -> SocketAddr {
    SocketAddr::from(([239, 0, 0, 1], 6000))
}

/// The source of the honest sessions.
const HONEST: u8 = 1;

/// Bytes held of the honest session without other senders.
fn held_alone() -> &'static [(String, Digest)] {
    static HELD: OnceLock<Vec<(String, Digest)>> = OnceLock::new();
    HELD.get_or_init(|| {
        let mut shard = Shard::new(0);
        for packet in &crate::seeds::receivers::honest().packets {
            shard.arrive(HONEST, packet);
        }
        let held = shard.cache.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held: Vec<(String, Digest)> =
            held.iter().map(|((_, name), digest)| (name.clone(), *digest)).collect();
        for name in ["http://h/a.m4s", "http://h/m.m3u8"] {
            assert!(held.iter().any(|(it, _)| it == name), "{name} is received: {held:?}");
        }
        held
    })
}

/// Sequences of datagrams, time, requests, results and evictions.
///
/// With the first bit of the first byte, untrusted senders send everything that the input has, and the honest session runs beside
/// them: at the end all of its objects are held.
pub(super) fn delivery(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let has_untrusted = mode & 1 == 1;
    let mut shard = Shard::new(mode);
    let honest = crate::seeds::receivers::honest();
    let route = crate::seeds::receivers::honest_route();
    let mut beside = honest.packets.iter();
    while let Some((kind, bytes)) = input.record() {
        // The upper bits choose the source; untrusted ones are never the honest one.
        let source = if has_untrusted { HONEST + 1 + (kind >> 4) } else { HONEST + (kind >> 6) };
        let mut input = Input::new(bytes);
        match kind & 7 {
            operation::TIME if has_untrusted => shard.pass(input.word() % 100),
            operation::TIME => shard.pass(input.word()),
            operation::HONEST => {
                if let Some(packet) = altered(&honest.packets, bytes) {
                    shard.arrive(source, &packet);
                }
            }
            operation::FATE => {
                let toi = Toi(input.byte().into());
                let session =
                    SessionKey { source: [10, 0, 0, source].into(), destination: destination(), tsi: Tsi(7) };
                let object = ObjectRef { session, toi };
                match input.byte() % 5 {
                    0 => shard.delivery.handle_request(shard.now, object),
                    1 => shard.delivery.handle_verified(shard.now, object, VerificationId::default(), Ok(())),
                    2 if !has_untrusted => {
                        shard.cache.evict(|name| name.len() % 2 == 0);
                        shard.delivery.handle_evictions();
                    }
                    3 => {
                        let block = BlockId { serial: input.byte().into(), sbn: 0 };
                        shard.delivery.handle_decoded(shard.now, object, block, &None);
                        shard.delivery.handle_restored(shard.now, object, block, &None);
                    }
                    _ => {
                        for (object, id) in std::mem::take(&mut shard.waiting) {
                            shard.delivery.handle_verified(shard.now, object, id, Ok(()));
                        }
                    }
                }
                shard.settle();
            }
            5 => {
                if let Some(packet) = altered(&route.packets, bytes) {
                    shard.arrive(source, &packet);
                }
            }
            _ => shard.arrive(source, bytes),
        }
        if has_untrusted && let Some(packet) = beside.next() {
            shard.arrive(HONEST, packet);
        }
        shard.assert_counted();
    }
    if has_untrusted {
        for packet in beside {
            shard.arrive(HONEST, packet);
        }
        for (name, digest) in held_alone() {
            let held = shard.cache.digest([10, 0, 0, HONEST].into(), name);
            assert_eq!(held, Some(*digest), "{name} is lost to untrusted senders");
        }
    }
    for (object, id) in std::mem::take(&mut shard.waiting) {
        shard.delivery.handle_verified(shard.now, object, id, Ok(()));
    }
    // After any input, nothing stays forever.
    for _ in 0..4 {
        shard.pass(3_600_000);
    }
    shard.delivery.close_sessions(shard.now, |_| false);
    shard.settle();
    shard.assert_counted();
    assert_eq!(shard.delivery.in_flight(), 0);
    assert_eq!(shard.cache.lent.load(Ordering::Relaxed), 0, "storage stays lent");
}
