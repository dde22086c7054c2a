//! The daemon's feed of a transport stream, with a store; answers of SAT>IP servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use carousel::Digest;
use carousel::multiplex::wrapping::{Unit, Unwrap};
use carousel::ts::{PACKET_BYTES, Packetizer, Pid};
use skycache::store::{EvictReason, Store, StoreConfig};
use skycache::transport::{Feed, StreamOutput, StreamState, input::probe};

use super::streams::with_checksum;
use crate::input::Input;

/// What the store may hold: less than the input could ask for.
const QUOTA_BYTES: u64 = 4 << 20;

/// Datagrams are counted.
#[derive(Debug, Default)]
struct Datagrams(u64);

impl StreamOutput for Datagrams {
    fn datagram(&mut self, _: SocketAddr, _: SocketAddr, payload: &[u8]) {
        assert!(payload.len() <= 65_535);
        self.0 += 1;
    }
}

/// A folder that goes with the thread that has it.
struct Folder(PathBuf, Store);

impl Folder {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let name = format!("skycache-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = parent.join(name);
        let _ = std::fs::remove_dir_all(&path);
        let config = StoreConfig {
            path: path.clone(),
            quota_bytes: QUOTA_BYTES,
            memory_bytes: QUOTA_BYTES,
            reserve_bytes: 0,
            ..StoreConfig::default()
        };
        let (store, _) = Store::open(&config).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        Self(path, store)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn clear(store: &Store) {
    for object in store.list() {
        store.remove(object.meta().key.as_str(), EvictReason::Purged);
    }
}

/// Sequences of datagrams, sections, seconds, losses of lock and of objects.
pub(super) fn feed(bytes: &[u8]) {
    std::thread_local! {
        static FOLDER: Folder = Folder::new();
    }
    FOLDER.with(|folder| {
        let store = &folder.1;
        clear(store);
        run(store, bytes);
        assert_eq!(store.usage().partial_bytes, 0, "room stays reserved");
    });
}

fn run(store: &Store, bytes: &[u8]) {
    let mut feed = Feed::new(store.clone(), Arc::default(), Arc::default(), Arc::default(), None);
    let mut output = Datagrams::default();
    let mut counters: BTreeMap<u16, u8> = BTreeMap::new();
    let mut input = Input::new(bytes);
    let mut unwrap = if input.byte() & 1 == 1 { Unwrap::of_frames() } else { Unwrap::default() };
    while let Some((operation, bytes)) = input.record() {
        match operation % 6 {
            0 => unwrap.datagram(bytes, &mut |unit| match unit {
                Unit::Packet(packet) => feed.packet(packet, &mut output),
                Unit::Frame(frame) => feed.frame(frame, &mut output),
            }),
            1 => {
                let mut input = Input::new(bytes);
                let pid = input.short() & 0x1fff;
                let Some(section) = with_checksum(input.rest()) else { continue };
                let mut packetizer = Packetizer::new(Pid::new(pid));
                packetizer.push(&section);
                let mut packet = [0; PACKET_BYTES];
                while packetizer.next(&mut packet, true) {
                    let counter = counters.entry(pid).or_default();
                    packet[3] = packet[3] & 0xf0 | *counter & 0x0f;
                    *counter = counter.wrapping_add(1);
                    feed.packet(&packet, &mut output);
                }
            }
            2 => feed.tick(),
            3 => feed.reset(),
            4 => clear(store),
            _ => feed.finish(&mut output),
        }
    }
    feed.finish(&mut output);
    let mut state = StreamState::default();
    feed.report(&mut state);
    assert_eq!(state.datagrams, output.0);
    let _ = feed.incomplete();
    let mut held = 0;
    for object in store.list() {
        let meta = object.meta();
        let bytes = object.bytes(0..meta.length).unwrap_or_else(|| panic!("{} is gone", meta.key.as_str()));
        assert_eq!(Digest::of(&bytes), meta.digest, "{}", meta.key.as_str());
        held += meta.length;
    }
    assert!(held <= 2 * QUOTA_BYTES, "{held} bytes are held");
}

/// Answers of RTSP, or a datagram of RTCP.
pub(super) fn sat_ip(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte() & 1 == 0 {
        let _ = probe::answers(input.rest());
        return;
    }
    if let Some(signal) = probe::signal(input.rest()) {
        for percent in [signal.strength_percent, signal.quality_percent].into_iter().flatten() {
            assert!((0.0..=100.1).contains(&percent), "{signal:?}");
        }
    }
}
