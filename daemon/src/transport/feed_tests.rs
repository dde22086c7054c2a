//! Limits of a feed, reached and come back from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use carousel::limits::MAX_CAROUSELS;
use carousel::ts::descriptor;
use carousel::ts::psi::{Oui, Pat, Pmt, SOFTWARE_UPDATE, SoftwareUpdate, Stream, UpdateType, write_updates};
use carousel::ts::section::SectionHead;
use carousel::ts::{PACKET_BYTES, Packetizer, Pid};

use super::{Feed, StreamOutput, StreamState};
use crate::store::testing::open;

/// `table_id` of sections with blocks of modules (ISO/IEC 13818-6 section 9.2.2).
const TABLE_BLOCKS: u8 = 0x3c;
/// `stream_type` of DSM-CC sections (ISO/IEC 13818-6 section 9.2.3).
const STREAM_TYPE: u8 = 0x0b;

struct Nothing;

impl StreamOutput for Nothing {
    fn datagram(&mut self, _: SocketAddr, _: SocketAddr, _: &[u8]) {}
}

/// A feed, and the continuity counters of its sender.
struct Tested {
    feed: Feed,
    counters: BTreeMap<u16, u8>,
    _folder: tempfile::TempDir,
}

impl Tested {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let feed = Feed::new(open(&folder), Arc::default(), Arc::default(), Arc::default(), None);
        Self { feed, counters: BTreeMap::new(), _folder: folder }
    }

    fn send(&mut self, pid: u16, section: &[u8]) {
        let mut packetizer = Packetizer::new(Pid::new(pid));
        packetizer.push(section);
        let mut packet = [0; PACKET_BYTES];
        while packetizer.next(&mut packet, true) {
            let counter = self.counters.entry(pid).or_default();
            packet[3] = packet[3] & 0xf0 | *counter & 0x0f;
            *counter = counter.wrapping_add(1);
            self.feed.packet(&packet, &mut Nothing);
        }
    }

    /// The tables of one programme with carousels on these PIDs.
    fn send_tables(&mut self, version: u8, pids: &[u16]) {
        self.send_tables_of(version, &pids.iter().map(|pid| (*pid, Vec::new())).collect::<Vec<_>>());
    }

    /// The same, with the descriptors of each stream.
    fn send_tables_of(&mut self, version: u8, streams: &[(u16, Vec<u8>)]) {
        let mut pat = Vec::new();
        let programs = [(5, Pid::new(0x100))].into_iter().collect();
        Pat { transport_stream_id: 1, programs }.write(&mut pat, 0).unwrap();
        let stream = |(pid, descriptors): &(u16, Vec<u8>)| Stream {
            stream_type: STREAM_TYPE,
            pid: Pid::new(*pid),
            descriptors: descriptors.clone(),
        };
        let mut pmt = Vec::new();
        Pmt { service_id: 5, pcr_pid: Pid::NULL, streams: streams.iter().map(stream).collect() }
            .write(&mut pmt, version)
            .unwrap();
        self.send(0, &pat);
        self.send(0x100, &pmt);
    }

    fn send_block(&mut self, pid: u16) {
        let head = SectionHead {
            table_id: TABLE_BLOCKS,
            private: false,
            extension: 1,
            version: 0,
            number: 0,
            last_number: 0,
        };
        let mut section = Vec::new();
        head.write(&mut section, |out| {
            out.extend_from_slice(&[0; 20]);
            Ok(())
        })
        .unwrap();
        self.send(pid, &section);
    }

    fn state(&self) -> StreamState {
        let mut state = StreamState::default();
        self.feed.report(&mut state);
        state
    }

    /// Carousels that are received, and sections of others.
    fn counts(&self) -> (usize, u64) {
        let state = self.state();
        (state.carousels.len(), state.dropped["too_many_carousels"])
    }
}

#[test]
fn carousels_beyond_the_limit_are_counted_and_places_come_free() {
    let mut tested = Tested::new();
    let pids: Vec<u16> = (0x200..0x200 + MAX_CAROUSELS as u16 + 3).collect();
    tested.send_tables(0, &pids);
    pids.iter().for_each(|pid| tested.send_block(*pid));
    assert_eq!(tested.counts(), (MAX_CAROUSELS, 3));
    // The tables no longer name the first ones, and what was counted of them stays.
    let dropped = tested.state().dropped;
    tested.send_tables(1, &pids[3..]);
    assert_eq!(tested.counts(), (MAX_CAROUSELS - 3, 3));
    assert!(dropped["message"] >= MAX_CAROUSELS as u64, "{dropped:?}");
    assert_eq!(tested.state().dropped, dropped);
    pids[3..].iter().for_each(|pid| tested.send_block(*pid));
    assert_eq!(tested.counts(), (MAX_CAROUSELS, 3));
}

/// The descriptor of a stream with updates for receivers of these makers.
fn updates_for(makers: &[Oui]) -> Vec<u8> {
    let update = |oui: &Oui| SoftwareUpdate {
        oui: *oui,
        update_type: UpdateType::Carousel,
        version: None,
        selector: Vec::new(),
    };
    let mut data = SOFTWARE_UPDATE.to_be_bytes().to_vec();
    write_updates(&mut data, &makers.iter().map(update).collect::<Vec<_>>()).unwrap();
    let mut descriptors = Vec::new();
    descriptor::write(&mut descriptors, descriptor::DATA_BROADCAST_ID, &data).unwrap();
    descriptors
}

#[test]
fn updates_for_receivers_of_other_makers_are_left_out_until_the_tables_say_otherwise() {
    let (ours, other) = (Oui::new(0x00_150a), Oui::new(0x00_e064));
    let mut tested = Tested::new();
    tested.feed = tested.feed.with_software_updates(vec![ours]);
    let refused = |tested: &Tested| tested.state().dropped["foreign_update"];
    let pids = |tested: &Tested| tested.state().carousels.iter().map(|it| it.pid).collect::<Vec<_>>();
    // Blocks come before the PMT that says what they are.
    [0x200, 0x201, 0x202, 0x203].into_iter().for_each(|pid| {
        tested.send_block(pid);
        tested.send_block(pid);
    });
    assert_eq!(pids(&tested), [0x200, 0x201, 0x202, 0x203]);
    let streams = [
        (0x200, updates_for(&[other])),
        (0x201, updates_for(&[other, ours])),
        (0x202, Vec::new()),
        // A descriptor from before makers were named.
        (0x203, vec![descriptor::DATA_BROADCAST_ID, 2, 0x00, 0x0a]),
    ];
    tested.send_tables_of(0, &streams);
    assert_eq!((pids(&tested), refused(&tested)), (vec![0x201, 0x202, 0x203], 0));
    [0x200, 0x201].into_iter().for_each(|pid| tested.send_block(pid));
    assert_eq!((pids(&tested), refused(&tested)), (vec![0x201, 0x202, 0x203], 1));
    // The same PID becomes something else.
    tested.send_tables_of(1, &[(0x200, Vec::new())]);
    tested.send_block(0x200);
    assert_eq!((pids(&tested), refused(&tested)), (vec![0x200], 1));
}
