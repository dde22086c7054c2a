//! State machines of `carousel`, driven by sequences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use carousel::alc::Packet;
use carousel::fec::BlockId;
use carousel::flute::{
    self, Event, File, Joiner, MemoryBuf, OpenRequest, ReceiverConfig, Refusal, Storage, verify,
};
use carousel::growing::Growing;
use carousel::lct::Toi;
use carousel::limits::MAX_OBJECTS_IN_FLIGHT;
use carousel::route;
use carousel::time::{Instant, WallTime};

use crate::input::Input;

/// Objects above this have no room.
pub(crate) const MOST_BYTES: u64 = 1 << 20;
/// Decoding above this is left out: it takes long with AddressSanitizer.
pub(crate) const MOST_BLOCK_BYTES: u64 = 256 << 10;
pub(crate) const START: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

/// Operations of the sequences for receivers.
pub(crate) mod operation {
    /// A packet.
    pub(crate) const PACKET: u8 = 0;
    /// Time passes: milliseconds in 32 bits.
    pub(crate) const TIME: u8 = 1;
    /// A packet of the honest session of the seeds: its number, then an offset and bytes that replace its own there.
    pub(crate) const HONEST: u8 = 2;
    /// Bytes of an object come from an origin: TOI, offset, bytes.
    pub(crate) const REPAIR: u8 = 3;
    /// An object came another way, was refused, or has left the cache: TOI, which of them.
    pub(crate) const FATE: u8 = 4;
}

/// A packet of an honest session, with bytes of it replaced.
pub(crate) fn altered(honest: &[Vec<u8>], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Input::new(bytes);
    let number = usize::from(input.byte());
    let mut packet = honest.get(number % honest.len().max(1))?.clone();
    while !input.rest().is_empty() {
        let (at, count) = (usize::from(input.short()), usize::from(input.byte()));
        let replacement = input.take(count);
        if let Some(place) = packet.get_mut(at..).and_then(|it| it.get_mut(..replacement.len())) {
            place.copy_from_slice(replacement);
        }
    }
    Some(packet)
}

pub(super) fn growing(bytes: &[u8]) {
    let mut growing = Growing::default();
    let mut model: BTreeMap<u64, u8> = BTreeMap::new();
    let mut length = None;
    let mut input = Input::new(bytes);
    while let Some((operation, bytes)) = input.record() {
        let mut input = Input::new(bytes);
        let offset = if operation & 2 == 0 { u64::from(input.byte()) } else { u64::from(input.word()) };
        if operation & 1 == 1 {
            if growing.set_length(offset).is_ok() {
                length = Some(offset);
            }
            continue;
        }
        let piece = input.rest();
        let before = growing.held_bytes();
        match growing.insert(offset, piece) {
            Ok(()) => {
                for (at, byte) in (offset..).zip(piece) {
                    let had = model.insert(at, *byte);
                    assert!(had.is_none_or(|had| had == *byte), "bytes that are there stay");
                }
            }
            Err(_) => assert_eq!(growing.held_bytes(), before, "what is refused changes nothing"),
        }
        assert_eq!(growing.held_bytes(), model.len() as u64);
        assert_eq!(growing.length(), length);
    }
    let prefix: Vec<u8> = (0..).map_while(|at| model.get(&at).copied()).collect();
    assert_eq!(growing.prefix(), prefix);
    for range in growing.missing() {
        assert!(range.start < range.end && !model.contains_key(&range.start));
    }
    let is_whole = length == Some(model.len() as u64) && prefix.len() == model.len();
    assert_eq!(growing.is_complete(), is_whole);
    let _ = growing.boxes();
}

/// Memory with a limit for each object.
#[derive(Debug)]
struct Memory;

impl Storage for Memory {
    type Buf = MemoryBuf;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<MemoryBuf, Refusal> {
        if request.length > MOST_BYTES { Err(Refusal::NoRoom) } else { Ok(MemoryBuf::new(request.length)) }
    }
    fn name(&mut self, _: &mut MemoryBuf, file: &Arc<File>) -> Result<(), Refusal> {
        if file.content_location.contains("held") { Err(Refusal::Held) } else { Ok(()) }
    }
    fn write(&mut self, buf: &mut MemoryBuf, offset: u64, bytes: &[u8]) {
        buf.write(offset, bytes);
    }
    fn keep_repair(&mut self, buf: &mut MemoryBuf, slot: u32, bytes: &[u8]) -> bool {
        slot < 4096 && buf.keep_repair(slot, bytes)
    }
}

struct Flute {
    receiver: flute::Receiver<MemoryBuf>,
    joiner: Joiner,
    now: Instant,
    /// Bodies of the honest session.
    bodies: &'static [(String, Vec<u8>)],
}

impl Flute {
    fn wall(&self) -> WallTime {
        START.plus_ms(i64::try_from(self.now.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
    }

    fn packet(&mut self, bytes: &[u8]) {
        if let Ok(packet) = Packet::parse(bytes) {
            let wall = Some(self.wall());
            self.receiver.handle_packet(self.now, wall, &packet, bytes, &mut Memory);
        }
    }

    fn settle(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                Event::BlockReady { toi, block } => self.decode(toi, block),
                Event::Complete { file, buf, .. } => {
                    let verified = verify(&file, &buf.bytes);
                    if verified.is_err() {
                        self.receiver.reject(file.toi);
                        continue;
                    }
                    // With an unaltered description, only the honest bytes are verified.
                    let honest = self
                        .bodies
                        .iter()
                        .find(|(_, body)| file.content_digest == Some(carousel::Digest::of(body)));
                    if let Some((name, body)) = honest {
                        assert_eq!(&buf.bytes, body, "{name}");
                    }
                    if Joiner::is_chunk(&file) {
                        self.joiner.chunk(self.now, &file, &buf.bytes);
                    }
                }
                _ => {}
            }
        }
        self.joiner.grown(|_, _, _| {});
        while self.joiner.poll_event().is_some() {}
        assert!(self.receiver.in_flight().count() <= MAX_OBJECTS_IN_FLIGHT);
    }

    fn decode(&mut self, toi: Toi, block: BlockId) {
        let Some(job) = self.receiver.recovery_job(toi, block) else { return };
        let Some(object) = self.receiver.object(toi) else { return };
        let decoded = if job.memory_bytes() > MOST_BLOCK_BYTES {
            None
        } else {
            let buf = object.buf();
            job.run(|place, out| buf.read(place, out))
        };
        self.receiver.recovered(toi, block, decoded.as_deref(), &mut Memory);
    }

    fn pass(&mut self, ms: u32) {
        self.now = self.now + Duration::from_millis(u64::from(ms));
        let wall = Some(self.wall());
        self.receiver.handle_timeout(self.now, wall);
        self.joiner.handle_timeout(self.now);
    }
}

pub(super) fn flute(bytes: &[u8]) {
    let honest = crate::seeds::receivers::honest();
    let mut it = Flute {
        receiver: flute::Receiver::new(ReceiverConfig::default()),
        joiner: Joiner::default(),
        now: Instant::from_nanos(1_000_000_000),
        bodies: &honest.bodies,
    };
    let mut input = Input::new(bytes);
    while let Some((operation, bytes)) = input.record() {
        let mut input = Input::new(bytes);
        match operation % 5 {
            operation::TIME => it.pass(input.word()),
            operation::HONEST => {
                if let Some(packet) = altered(&honest.packets, bytes) {
                    it.packet(&packet);
                }
            }
            operation::REPAIR => {
                let (toi, offset) = (Toi(input.byte().into()), u64::from(input.short()));
                it.receiver.repair(toi, offset, input.rest(), &mut Memory);
            }
            operation::FATE => {
                let toi = Toi(input.byte().into());
                match input.byte() % 3 {
                    0 => it.receiver.hold(toi),
                    1 => it.receiver.reject(toi),
                    _ => it.receiver.forget_unless(|file| file.toi != toi),
                }
            }
            _ => it.packet(bytes),
        }
        it.settle();
    }
    // After any input, nothing stays forever.
    for _ in 0..4 {
        it.pass(3_600_000);
        it.settle();
    }
    assert_eq!(it.receiver.in_flight().count(), 0, "objects stay in flight");
    assert_eq!(it.joiner.open().count(), 0, "segments stay open");
}

pub(super) fn route(bytes: &[u8]) {
    let honest = crate::seeds::receivers::honest_route();
    let destination = "239.0.0.1:6000".parse().unwrap_or_else(|_| unreachable!("an address"));
    let mut receiver = route::Receiver::new(route::ReceiverConfig::default(), destination);
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut input = Input::new(bytes);
    let mut shown = 0_u64;
    while let Some((operation, bytes)) = input.record() {
        let altered = match operation % 3 {
            operation::TIME => {
                now = now + Duration::from_millis(u64::from(Input::new(bytes).word()));
                receiver.handle_timeout(now);
                None
            }
            operation::HONEST => altered(&honest.packets, bytes),
            _ => Some(bytes.to_vec()),
        };
        if let Some(datagram) = &altered
            && let Ok(packet) = Packet::parse(datagram)
        {
            receiver.handle_packet(now, &packet, datagram.len());
        }
        receiver.grown(|_, _, _, bytes| shown += bytes.len() as u64);
        while let Some(event) = receiver.poll_event() {
            match event {
                route::Event::BlockReady { tsi, toi, block } => {
                    let job = receiver.repair_job(tsi, toi, block);
                    let lost = job.filter(|it| it.memory_bytes() <= MOST_BLOCK_BYTES);
                    let lost = lost.and_then(route::RepairJob::run);
                    receiver.repaired(tsi, toi, block, lost.as_deref());
                }
                route::Event::Document { file, bytes } => {
                    assert_eq!(file.content_length, Some(bytes.len() as u64));
                    let is_table = bytes.windows(7).any(|it| it == b"S-TSID ")
                        || [route::STSID_TYPE, route::lls::USBD_TYPE]
                            .map(Some)
                            .contains(&file.content_type.as_deref());
                    assert!(is_table || !file.content_location.is_empty(), "a document without a name");
                }
                _ => {}
            }
        }
    }
    now = now + Duration::from_secs(7200);
    receiver.handle_timeout(now);
    assert_eq!(receiver.open().count(), 0, "objects stay open");
    receiver.close();
}
