//! Receivers that are compared.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use carousel::alc::Template;
use carousel::flute::{Event, File, OpenRequest, Receiver, ReceiverConfig, Refusal, Storage};
use carousel::time::Instant;
use flute::core::UDPEndpoint;
use flute::receiver::writer::ObjectWriterBufferBuilder;
use skycache::delivery::{ObjectRef, Options, SessionFilter};
use skycache::receive::{Command, FinishSink, Finishing, Intake, ReceiveContext};
use skycache::signalling::Document;
use skycache::store::{Store, StoreConfig, StoredObject};
use tempfile::TempDir;

use crate::packets::{SYMBOL_BYTES, Stream};

/// Takes packets and knows how many objects are whole.
pub(crate) trait Contender {
    fn packet(&mut self, packet: &[u8]);
    /// No further packet is at hand.
    fn end_batch(&mut self) {}
    /// Objects that are whole; waits for threads behind, if there are any.
    fn whole(&mut self) -> usize;
}

/// Destination of a bare loop's copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One place, again and again, without looking at the packet.
    Copy,
    /// Memory that has been touched before.
    Warm,
    /// A mapped file of the same file system, preallocated like the store's.
    File,
}

/// The least that anybody must do: find TOI and symbol in a header of known form, mark the symbol, copy it. It checks
/// nothing that could be otherwise than here.
pub(crate) struct Bare {
    target: Target,
    /// A buffer for each object, as a receiver has.
    memory: Vec<Vec<u8>>,
    map: Option<memmap2::MmapMut>,
    seen: Vec<u64>,
    symbols: usize,
    object_bytes: usize,
    stored: usize,
    total: usize,
    objects: usize,
}

/// Offset of the TOI with 32-bit CCI, TSI and TOI.
const TOI_AT: usize = 12;
/// LCT header, EXT_FTI.
const HEADER_BYTES: usize = 32;

impl Bare {
    pub(crate) fn new(stream: &Stream, target: Target, folder: &Path) -> Self {
        let bytes = stream.objects() * stream.object_bytes();
        let symbols = stream.object_bytes().div_ceil(SYMBOL_BYTES);
        let map = (target == Target::File).then(|| {
            let file = tempfile::tempfile_in(folder).expect("file");
            preallocate(&file, bytes as u64);
            map_mut(&file)
        });
        let (buffers, length) = if target == Target::Warm {
            (stream.objects(), stream.object_bytes())
        } else {
            (1, SYMBOL_BYTES)
        };
        let memory = (0..buffers).map(|_| vec![1; length]).collect();
        Self {
            target,
            memory,
            map,
            seen: vec![0; (stream.objects() * symbols).div_ceil(64)],
            symbols,
            object_bytes: stream.object_bytes(),
            stored: 0,
            total: stream.data_packets(),
            objects: stream.objects(),
        }
    }
}

/// Reserves blocks as the store does.
#[allow(unsafe_code)]
fn preallocate(file: &std::fs::File, bytes: u64) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: a plain call on a descriptor that we own.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) };
    if result != 0 {
        file.set_len(bytes).expect("length");
    }
}

#[allow(unsafe_code)]
fn map_mut(file: &std::fs::File) -> memmap2::MmapMut {
    // SAFETY: the file has no name; nobody else can change it.
    unsafe { memmap2::MmapMut::map_mut(file).expect("map") }
}

impl Contender for Bare {
    #[inline]
    fn packet(&mut self, packet: &[u8]) {
        let toi = u32::from_be_bytes(packet[TOI_AT..TOI_AT + 4].try_into().expect("header")) as usize;
        if toi == 0 {
            return;
        }
        let payload = &packet[HEADER_BYTES + 4..];
        if self.target == Target::Copy {
            self.memory[0][..payload.len()].copy_from_slice(payload);
            self.stored += 1;
            return;
        }
        let sbn = u16::from_be_bytes(packet[HEADER_BYTES..HEADER_BYTES + 2].try_into().expect("id"));
        let esi = u16::from_be_bytes(packet[HEADER_BYTES + 2..HEADER_BYTES + 4].try_into().expect("id"));
        let symbol = usize::from(sbn) * self.symbols + usize::from(esi);
        let bit = (toi - 1) * self.symbols + symbol;
        let (word, mask) = (bit / 64, 1 << (bit % 64));
        if self.seen[word] & mask != 0 {
            return;
        }
        self.seen[word] |= mask;
        let at = symbol * SYMBOL_BYTES;
        let target = match &mut self.map {
            Some(map) => &mut map[(toi - 1) * self.object_bytes + at..][..payload.len()],
            None => &mut self.memory[toi - 1][at..at + payload.len()],
        };
        target.copy_from_slice(payload);
        self.stored += 1;
    }

    fn whole(&mut self) -> usize {
        if self.stored == self.total { self.objects } else { 0 }
    }
}

/// The carousel's state machine with objects in memory that has been touched before: what the protocol costs without
/// the disk.
pub(crate) struct OursInMemory {
    receiver: Receiver<Vec<u8>>,
    template: Template,
    memory: Warm,
    whole: usize,
}

struct Warm(Vec<Vec<u8>>);

impl Storage for Warm {
    type Buf = Vec<u8>;
    fn open(&mut self, _: &OpenRequest<'_>) -> Result<Vec<u8>, Refusal> {
        self.0.pop().ok_or(Refusal::NoRoom)
    }
    #[inline]
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn name(&mut self, _: &mut Vec<u8>, _: &Arc<File>) -> Result<(), Refusal> {
        Ok(())
    }
}

impl OursInMemory {
    pub(crate) fn new(stream: &Stream) -> Self {
        let memory = (0..stream.objects()).map(|_| vec![1; stream.object_bytes()]).collect();
        Self {
            receiver: Receiver::new(ReceiverConfig::default()),
            template: Template::default(),
            memory: Warm(memory),
            whole: 0,
        }
    }
}

impl Contender for OursInMemory {
    #[inline]
    fn packet(&mut self, packet: &[u8]) {
        let Ok(parsed) = self.template.parse(packet) else { return };
        self.receiver.handle_packet(Instant::from_nanos(1), None, &parsed, packet, &mut self.memory);
        while let Some(event) = self.receiver.poll_event() {
            self.whole += usize::from(matches!(event, Event::Complete { .. }));
        }
    }

    fn whole(&mut self) -> usize {
        self.whole
    }
}

/// Everything that the daemon does with a datagram, into a cache of its own.
pub(crate) struct Ours {
    intake: Intake,
    filter: SessionFilter,
    context: ReceiveContext,
    at: (SocketAddr, SocketAddr),
    /// Answers of the finishing pool, as a shard gets them.
    answers: std::sync::mpsc::Receiver<Command>,
    /// Objects that are to come.
    objects: usize,
    _folder: TempDir,
    _finishing: Finishing,
}

/// Takes what is finished, and holds the workers back while its gate is shut.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn set_shut(&self, is_shut: bool) {
        *self.0.0.lock().expect("not poisoned") = is_shut;
        self.0.1.notify_all();
    }
}

impl FinishSink for Gate {
    fn document(&mut self, _: Document) {}

    fn stored(&mut self, _: ObjectRef, _: &StoredObject) {
        let guard = self.0.0.lock().expect("not poisoned");
        drop(self.0.1.wait_while(guard, |is_shut| *is_shut).expect("not poisoned"));
    }
}

impl Ours {
    pub(crate) fn new(stream: &Stream, folder: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_workers(stream.objects(), cores, &Gate::default(), folder)
    }

    /// With this `[store] direct_io`.
    pub(crate) fn with_direct_io(objects: usize, direct_io: bool, folder: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(objects, cores, &Gate::default(), direct_io, folder)
    }

    /// With `workers` finishers, behind `gate`.
    pub(crate) fn with_workers(objects: usize, workers: usize, gate: &Gate, folder: &Path) -> Self {
        Self::with(objects, workers, gate, StoreConfig::default().direct_io, folder)
    }

    fn with(objects: usize, workers: usize, gate: &Gate, direct_io: bool, folder: &Path) -> Self {
        let folder = TempDir::new_in(folder).expect("folder");
        let config = StoreConfig {
            path: folder.path().to_path_buf(),
            reserve_bytes: 0,
            direct_io,
            ..StoreConfig::default()
        };
        let (store, _) = Store::open(&config).expect("store");
        let context = ReceiveContext::new(store);
        let finishing =
            Finishing::with_workers(workers, &context, gate, &Default::default()).expect("threads");
        let mut intake =
            Intake::new(context.clone(), Options::without_repairs(), Arc::default(), Some(finishing.queue()));
        let (sender, answers) = std::sync::mpsc::channel();
        intake.reply_to(move |answer| drop(sender.send(answer)));
        let at = ("127.0.0.1:7".parse().expect("source"), "239.1.1.1:5000".parse().expect("group"));
        let filter = SessionFilter::all();
        Self { intake, filter, context, at, answers, objects, _folder: folder, _finishing: finishing }
    }

    /// The cache.
    pub(crate) fn store(&self) -> &Store {
        &self.context.store
    }

    /// Objects in the cache.
    pub(crate) fn finished(&self) -> usize {
        self.context.stats.objects().0 as usize
    }

    fn take_answers(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.intake.object_command(Instant::from_nanos(1), answer);
        }
    }
}

impl Contender for Ours {
    #[inline]
    fn packet(&mut self, packet: &[u8]) {
        self.intake.datagram(Instant::from_nanos(1), self.at.0, self.at.1, &self.filter, packet);
    }

    fn end_batch(&mut self) {
        self.intake.end_batch();
        self.take_answers();
    }

    fn whole(&mut self) -> usize {
        let begin = std::time::Instant::now();
        // Finishing has threads of its own.
        while self.context.stats.objects().0 < self.objects as u64
            && begin.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(1));
            self.end_batch();
        }
        self.context.stats.objects().0 as usize
    }
}

/// The `flute` crate's receiver, with objects in memory.
pub(crate) struct FluteCrate {
    receiver: flute::receiver::MultiReceiver,
    writer: std::rc::Rc<ObjectWriterBufferBuilder>,
    endpoint: UDPEndpoint,
}

impl FluteCrate {
    pub(crate) fn new() -> Self {
        let writer = std::rc::Rc::new(ObjectWriterBufferBuilder::new(false));
        let config = flute::receiver::Config { max_objects_error: 0, ..flute::receiver::Config::default() };
        Self {
            receiver: flute::receiver::MultiReceiver::new(writer.clone(), Some(config), false),
            writer,
            endpoint: UDPEndpoint::new(None, "239.1.1.1".to_owned(), 5000),
        }
    }
}

impl Contender for FluteCrate {
    fn packet(&mut self, packet: &[u8]) {
        let _ = self.receiver.push(&self.endpoint, packet, SystemTime::UNIX_EPOCH);
    }

    fn whole(&mut self) -> usize {
        self.writer.objects.borrow().iter().filter(|object| object.borrow().complete).count()
    }
}
