//! Memory of reception after ten thousand sessions, with their announcements, signalling documents and short objects, have
//! come and gone in virtual time: it is what it was before.
//!
//! A binary of its own, because its allocator counts. Everything that a shard keeps is real: state machine, names, documents,
//! the directory of sessions, the table of objects in flight, and a cache in a temporary folder.
#![allow(unsafe_code)] // a counting allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use carousel::flute::{SendFile, Sender, SenderProfile};
use carousel::lct::{Toi, Tsi};
use carousel::limits::MAX_SESSIONS;
use carousel::mabr::{CONFIGURATION_TYPE, Directory, JoinPolicy};
use carousel::repair::BackOff;
use carousel::time::{Clocks as _, VirtualClocks, WallTime};
use skycache::delivery::{GoneReason, Options, SessionFilter};
use skycache::receive::{FinishSink, Intake, ReceiveContext};
use skycache::signalling::{Document, Documents, MAX_DOCUMENT_AGE};
use skycache::store::{Class, ClassRule, EvictReason, Store, StoreConfig};

/// The system's allocator, counting what is allocated and not freed.
struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator unchanged; the counter is an atomic that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) };
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE_BYTES.fetch_add(size as i64 - layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

const START: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const DESTINATION: &str = "239.0.0.1:6000";
const OBJECT_BYTES: usize = 400;

/// Host of the objects of a session: those of one session in eight are placed on the disk.
const fn host(number: u32) -> &'static str {
    if number.is_multiple_of(8) { "disk" } else { "memory" }
}

/// Collects the documents that finishing hands on.
#[derive(Default)]
struct Collected(Vec<Document>);

impl FinishSink for Collected {
    fn document(&mut self, document: Document) {
        self.0.push(document);
    }
}

/// The receiving half of a daemon, in virtual time.
struct Reception {
    clocks: VirtualClocks,
    intake: Intake,
    context: ReceiveContext,
    documents: Documents,
    directory: Directory,
    rejected: u64,
}

impl Reception {
    fn new(store: Store, clocks: VirtualClocks) -> Self {
        let options = Options {
            reception_timeout: Duration::from_secs(2),
            repairs: true,
            back_off: BackOff { fixed: Duration::ZERO, random: Duration::from_secs(1) },
            carousel_wait: Duration::from_secs(30),
            client_patience: Duration::from_secs(10),
            seed: 1,
            ..Options::without_repairs()
        };
        let context = ReceiveContext::new(store);
        Self {
            clocks,
            intake: Intake::new(context.clone(), options, Arc::default(), None),
            context,
            documents: Documents::default(),
            directory: Directory::new(JoinPolicy::default(), Vec::new()),
            rejected: 0,
        }
    }

    fn packet(&mut self, source: IpAddr, packet: &[u8]) {
        let (now, destination) = (self.clocks.now(), DESTINATION.parse().unwrap());
        self.intake.datagram(now, SocketAddr::new(source, 5000), destination, &SessionFilter::all(), packet);
        self.intake.end_batch();
        let mut collected = Collected::default();
        self.rejected += self.intake.finish_here(now, &mut collected);
        for document in collected.0 {
            let session = document.object.session;
            self.directory.document(session.source, &document.name, &document.bytes).unwrap();
            self.context.names.set_aliases(self.directory.aliases().clone());
            let key = self.context.names.key_of(&session, &document.name).unwrap();
            self.documents.keep(now, &key, document);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clocks.advance(time);
        self.intake.tick(self.clocks.now());
        let _ = self.intake.finish_here(self.clocks.now(), &mut Collected::default());
    }

    /// One session: a gateway configuration, an object that arrives, one that arrives in part and two that are only announced.
    fn session(&mut self, number: u32) {
        let source = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number));
        let profile = SenderProfile { symbol_length: 200, fdt_lifetime_s: 3600, ..SenderProfile::default() };
        let mut sender = Sender::new(Tsi(7), profile, 1, 1);
        let group = Ipv4Addr::from(0xef01_0000 + number % 8);
        let configuration = format!(
            "<MulticastGatewayConfiguration><MulticastGatewayConfigurationTransportSession><EndpointAddress>\
             <NetworkDestinationGroupAddress>{group}</NetworkDestinationGroupAddress><TransportDestinationPort>5\
             </TransportDestinationPort></EndpointAddress></MulticastGatewayConfigurationTransportSession>\
             </MulticastGatewayConfiguration>"
        );
        let mut add = |name: &str, content_type: Option<&str>, body: &[u8]| {
            let file = SendFile {
                content_type: content_type.map(str::to_owned),
                ..SendFile::of(format!("http://{}/{number}/{name}", host(number)), body)
            };
            sender.add(file).unwrap()
        };
        let body = vec![number as u8; OBJECT_BYTES];
        let signalling = add("config.xml", Some(CONFIGURATION_TYPE), configuration.as_bytes());
        let complete = add("a.m4s", Some("video/mp4"), &body);
        let partly = add("b.m4s", None, &body);
        add("c.m4s", None, &body);
        add("d.m4s", None, &body);
        sender.refresh_fdt(self.clocks.wall()).unwrap();
        let mut packets = Vec::new();
        let mut out = Vec::new();
        for page in 0..sender.fdt_pages() {
            for packet in 0..sender.fdt_packets(page) {
                assert!(sender.write_fdt(page, packet, &mut out));
                packets.push(out.clone());
            }
        }
        let mut object = |toi: Toi, body: &[u8], most: usize| {
            for (symbol, bytes) in body.chunks(200).enumerate().take(most) {
                assert!(sender.write_packet(toi, symbol as u64, bytes, false, &mut out));
                packets.push(out.clone());
            }
        };
        object(signalling, configuration.as_bytes(), usize::MAX);
        object(complete, &body, usize::MAX);
        object(partly, &body, 1);
        for packet in packets {
            self.packet(source, &packet);
        }
    }

    /// Sessions with these numbers, then silence until nothing of them is left.
    fn come_and_go(&mut self, numbers: std::ops::Range<u32>) {
        let count = u64::from(numbers.end - numbers.start);
        let before = self.intake.totals().objects;
        for number in numbers.clone() {
            self.session(number);
            self.pass(Duration::from_millis(100));
        }
        let last = format!("{}/{}", host(numbers.end - 1), numbers.end - 1);
        assert!(self.context.store.contains(&format!("{last}/a.m4s")), "the last is held like the first");
        assert!(self.documents.get(&format!("{last}/config.xml")).is_some());
        for _ in 0..200 {
            self.pass(Duration::from_secs(900));
        }
        let after = self.intake.totals();
        assert!(after.reconcile(), "{after:?}");
        let after = after.objects;
        // What has begun to arrive and is silent makes room for others, and is announced again.
        let no_room = GoneReason::NoRoom as usize;
        let again = after.gone[no_room] - before.gone[no_room];
        // Of five objects a session, two are complete at once; the others end when their session does.
        assert_eq!(
            (after.entered - before.entered, after.held - before.held),
            (5 * count + again, 2 * count)
        );
        assert!(again <= count, "{again}: only the one that has begun");
        self.intake.publish_stats(0);
        assert_eq!((after.now, self.rejected, self.context.stats.sessions().len()), ([0; 5], 0, 0));
        assert!(after.sessions_displaced - before.sessions_displaced >= count - MAX_SESSIONS as u64);
        assert_eq!(self.context.flights.announced_count(), 0);
        assert_eq!(self.context.flights.list().len(), 0);
        for object in self.context.store.list() {
            self.context.store.remove(object.meta().key.as_str(), EvictReason::Purged);
        }
        self.pass(MAX_DOCUMENT_AGE);
    }
}

#[test]
fn ten_thousand_sessions_leave_no_memory_behind() {
    let clocks = VirtualClocks::new(START);
    skycache::clock::install(Box::new(clocks.clone())).expect("nothing has asked for the time");
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        path: folder.path().join("cache"),
        quota_bytes: 8 << 20,
        reserve_bytes: 0,
        memory_bytes: 1 << 20,
        classes: vec![ClassRule { base: "http://memory/".to_owned(), class: Class::Low }],
        ..StoreConfig::default()
    };
    let (store, _) = Store::open(&config).unwrap();
    let mut reception = Reception::new(store.clone(), clocks);
    // Tables reach the size that they keep.
    reception.come_and_go(0..1000);
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    reception.come_and_go(1000..11_000);
    let after = LIVE_BYTES.load(Ordering::Relaxed);
    let usage = store.usage();
    assert_eq!((usage.objects, usage.bytes, usage.partial_bytes, usage.memory_bytes), (0, 0, 0, 0));
    println!("{before} bytes before, {after} after");
    assert!((after - before).abs() < 1 << 20, "{before} bytes before, {after} after");
}
