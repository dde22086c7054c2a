use std::path::Path;

use carousel::dsmcc::Receiver;
use carousel::dsmcc::delivery::{Event, InMemory};
use carousel::dsmcc::message::{Compatible, CompatibleKind, Gateway, Message, TABLE_CONTROL, TABLE_DATA};
use carousel::dsmcc::signed::TABLE_SIGNED;
use carousel::flute::SenderProfile;
use carousel::ip::parse_ip;
use carousel::lct::Tsi;
use carousel::multiplex::{Delivery, Multiplex as Demultiplex};
use carousel::trust::{Certificate, Sealer, SecretKey};
use carousel::ts::psi::{Oui, SOFTWARE_UPDATE, SoftwareUpdate, UpdateLink, UpdateType};
use carousel::ts::{Packet, Pid, Section};

use super::*;
use crate::air::{AirConfig, AirObject, Body, ItemId, Repeat};

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
/// Time of a packet at 2 Mbit/s.
const SLOT_NS: u64 = 752_000;
const SCHEDULED: Repeat = Repeat::Scheduled { popularity: 1.0 };

fn config(tables: &str) -> Config {
    let text = format!(
        "[link]\nrate_bps = 2_000_000\n[[source]]\npath = \"x\"\nbase = \"https://cdn.example.com/\"\n{tables}"
    );
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

fn mux(config: &Config, once: bool) -> Mux {
    Mux::new(config, config.multiplex.as_ref().unwrap(), once, WALL).unwrap()
}

fn air() -> Air {
    let mut air = Air::new(AirConfig { rate_bps: 2_000_000, fdt_interval_ms: 1000, ..AirConfig::default() });
    air.open_session(SocketAddr::from(([239, 1, 1, 1], 5000)), Tsi(7), SenderProfile::default());
    air
}

fn add(air: &mut Air, name: &str, bytes: &[u8], repeat: Repeat) -> ItemId {
    air.add(0, AirObject::of_bytes(&format!("https://cdn.example.com/{name}"), bytes, repeat)).unwrap()
}

/// A stream that is sent and received at once.
struct Stream {
    mux: Mux,
    now_ns: u64,
    received: Demultiplex,
    modules: Receiver<InMemory>,
    /// Files of the carousel: path, bytes and when they were complete.
    files: Vec<(String, Vec<u8>, u64)>,
    /// Times at which a payload unit began, by PID; table_ids of the carousel's sections.
    begun: Vec<(u16, u64)>,
    tables: Vec<(u8, u64)>,
    ip: Vec<Vec<u8>>,
    slots: [u64; 3],
    wall: WallTime,
    /// Lists of what is signed, without repeats.
    lists: Vec<Vec<u8>>,
}

impl Stream {
    fn new(mux: Mux) -> Self {
        Self {
            mux,
            now_ns: 0,
            received: Demultiplex::default(),
            modules: Receiver::default(),
            files: Vec::new(),
            begun: Vec::new(),
            tables: Vec::new(),
            ip: Vec::new(),
            slots: [0; 3],
            wall: WALL,
            lists: Vec::new(),
        }
    }

    fn next(&mut self, air: &mut Air) -> Slot {
        let mut out = [0; PACKET_BYTES];
        let slot = self.mux.next_packet(self.now_ns, self.wall, air, &mut out).unwrap();
        self.slots[slot as usize] += 1;
        if slot != Slot::Idle {
            let packet = Packet::parse(&out).unwrap();
            if packet.payload_unit_start {
                self.begun.push((packet.pid.get(), self.now_ns));
            }
            let Self { received, modules, tables, ip, now_ns, lists, .. } = self;
            received.push(&out, |delivery| match delivery {
                Delivery::Carousel(_, section) => {
                    tables.push((section.table_id, *now_ns));
                    if section.table_id == TABLE_SIGNED && lists.last().is_none_or(|it| it != section.body) {
                        lists.push(section.body.to_vec());
                    }
                    modules.section(section, &mut InMemory);
                }
                Delivery::Ip(_, packet) => ip.push(packet.to_vec()),
                Delivery::Gone(_) => {}
            });
            while let Some(event) = self.modules.poll_event() {
                if let Event::File(file) = event {
                    let bytes = file.pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
                    self.files.push((file.path().to_owned(), bytes, self.now_ns));
                }
            }
        }
        self.now_ns += SLOT_NS;
        slot
    }

    fn run(&mut self, air: &mut Air, until_ns: u64) {
        while self.now_ns < until_ns {
            self.next(air);
        }
    }

    /// Times at which units of a PID began.
    fn times(&self, pid: Pid) -> Vec<u64> {
        self.begun.iter().filter(|(of, _)| *of == pid.get()).map(|(_, at)| *at).collect()
    }

    /// Names and sizes of the files, without repeats.
    fn names(&self) -> Vec<(&str, usize)> {
        self.files.iter().map(|(path, bytes, _)| (path.as_str(), bytes.len())).collect()
    }
}

/// The longest time between two of them.
fn longest(times: &[u64]) -> u64 {
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

#[test]
fn every_table_comes_within_its_interval_whatever_else_is_sent() {
    let config = config("[multiplex]\n[sessions]\nsource = \"198.51.100.7\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, "film.mp4", &vec![5; 4_000_000], SCHEDULED);
    stream.run(&mut air, 11_000_000_000);
    // TR 101 290: PAT and PMT within 500 ms, SDT within 2 s, NIT within 10 s, TDT within 30 s; ours come more often.
    for (pid, interval_ms) in
        [(Pid::PAT, 100), (Pid::new(0x100), 100), (Pid::SDT, 1000), (Pid::NIT, 5000), (Pid::new(0x101), 2000)]
    {
        let times = stream.times(pid);
        assert_eq!(times.len() as u64, 11_000_u64.div_ceil(interval_ms), "{pid:?}: {times:?}");
        // A table may wait for those that are due with it.
        assert!(longest(&times) <= interval_ms * 1_000_000 + 12 * SLOT_NS, "{pid:?}: {times:?}");
    }
    let tables = stream.received.tables();
    assert_eq!((tables.transport_stream_id, tables.original_network_id), (Some(1001), Some(1)));
    assert_eq!(tables.time.map(|it| it.unix_ms() / 1000), Some(WALL.unix_ms() / 1000));
    assert_eq!(tables.services[&5001].name, "Skycache");
    let component = tables.component(Pid::new(0x200)).unwrap();
    assert_eq!((component.component_tag, component.data_broadcast_id), (Some(0x0b), Some(5)));
    assert!(stream.received.dropped().all(|(_, count)| count == 0));
    let ip = parse_ip(&stream.ip[0]).unwrap();
    assert_eq!(ip.source, std::net::IpAddr::from([198, 51, 100, 7]));
    assert_eq!(stream.slots[Slot::Stuffing as usize], 0, "there is always something to send");
}

#[test]
fn what_the_objects_leave_is_stuffing_or_nothing() {
    for (stuffing, free) in [(true, Slot::Stuffing), (false, Slot::Idle)] {
        let config = config(&format!("[multiplex]\nstuffing = {stuffing}"));
        let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
        stream.run(&mut air, 1_000_000_000);
        let used = stream.slots[Slot::Used as usize];
        // PAT and PMT ten times, the others once or twice: some 30 packets of 1,330.
        assert!((20..60).contains(&used), "{:?}", stream.slots);
        assert_eq!(stream.slots[free as usize] + used, stream.slots.iter().sum::<u64>());
    }
}

#[test]
fn packets_of_other_senders_go_before_our_own_and_too_long_ones_are_counted() {
    let config = config("[multiplex]");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, "a.m4s", &[5; 50_000], SCHEDULED);
    let [source, group] = ["198.51.100.1:4000", "239.5.5.5:5555"].map(|it| it.parse().unwrap());
    // A section has 4,096 bytes.
    stream.mux.forward().push(source, group, &[1; 5000]);
    for at in 0..20_u8 {
        stream.mux.forward().push(source, group, &[at; 1000]);
    }
    stream.run(&mut air, 500_000_000);
    let foreign = parse_ip(&stream.ip[0]).unwrap().source;
    let first: Vec<bool> = stream.ip.iter().map(|ip| parse_ip(ip).unwrap().source == foreign).collect();
    assert!(first[..20].iter().all(|it| *it) && !first[20..].iter().any(|it| *it), "{first:?}");
    let payloads: Vec<u8> = stream.ip[..20].iter().map(|ip| ip[28]).collect();
    assert_eq!(payloads, (0..20).collect::<Vec<u8>>(), "in order");
    assert_eq!(stream.mux.forwarded(), (20, 1));
}

#[test]
fn little_waits_in_the_stream_so_that_what_is_due_goes_out_soon() {
    let config = config("[multiplex]");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, "film.mp4", &vec![5; 400_000], SCHEDULED);
    for _ in 0..500 {
        stream.next(&mut air);
        // One section more than the limit at most.
        assert!(stream.mux.packetizer.waiting() < WAITING_BYTES + 1500);
    }
}

#[test]
fn a_carousel_is_received_to_the_byte_and_its_control_messages_keep_their_interval() {
    let config = config("[multiplex]\ncarry = \"object-carousel\"\ncontrol_interval_ms = 300");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    let big: Vec<u8> = (0..300_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
    add(&mut air, "big.mp4", &big, SCHEDULED);
    add(&mut air, "small.m4s", b"small", SCHEDULED);
    stream.run(&mut air, 6_000_000_000);
    assert_eq!(stream.names(), [("cdn.example.com/big.mp4", 300_000), ("cdn.example.com/small.m4s", 5)]);
    assert_eq!(stream.files[0].1, big);
    assert!(stream.modules.dropped().all(|(_, count)| count == 0));
    let control: Vec<u64> =
        stream.tables.iter().filter(|(id, _)| *id == TABLE_CONTROL).map(|(_, at)| *at).collect();
    // DSI and DII together; what is new is said twice.
    let beginnings: Vec<u64> = control.chunks(2).map(|pair| pair[0]).collect();
    assert!(beginnings[1] - beginnings[0] < 20 * SLOT_NS, "{beginnings:?}");
    let gaps: Vec<u64> = beginnings[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    // A section of a block may be on its way: 23 packets.
    assert!(gaps.iter().all(|gap| (250_000_000..330_000_000).contains(gap)), "{gaps:?}");
    assert!(stream.tables.iter().any(|(id, _)| *id == TABLE_DATA));
    let rotation = stream.mux.rotation().unwrap();
    assert!(rotation.cycle_done() && rotation.progress().0 == rotation.progress().1);
    let component = stream.received.tables().component(Pid::new(0x200)).unwrap();
    assert_eq!((component.carousel_id, component.data_broadcast_id), (Some(1), Some(7)));
}

#[test]
fn the_list_of_what_is_signed_is_signed_again_when_half_its_life_is_over_and_when_it_changes() {
    let (root, online) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    let now_s = WALL.unix_seconds();
    let certificate =
        Certificate::issue(&root, online.public(), (0, 1), (now_s - 1, now_s + 86_400), Vec::new());
    let mut config = config("[multiplex]\ncarry = \"object-carousel\"\ncontrol_interval_ms = 100");
    config.sealer = Sealer::new(online, certificate, None, 0);
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, "a.m4s", b"a", SCHEDULED);
    let mut lists = |wall: WallTime| {
        stream.wall = wall;
        let until_ns = stream.now_ns + 500_000_000;
        stream.run(&mut air, until_ns);
        stream.lists.len()
    };
    assert_eq!(lists(WALL), 1);
    assert_eq!(lists(WALL.plus_ms(1_799_000)), 1);
    assert_eq!(lists(WALL.plus_ms(1_800_000)), 2);
    assert_eq!(lists(WALL.plus_ms(3_599_000)), 2);
    assert_eq!(lists(WALL), 3, "the clock was set back");
}

/// The update that tables announce for `carry`, as a receiver reads it: data_broadcast_id, entries of the PMT, links of the NIT.
fn announced_update(carry: &str) -> (Option<u16>, Vec<SoftwareUpdate>, Vec<UpdateLink>) {
    let config = config(&format!(
        "[multiplex]\ncarry = \"{carry}\"\n[multiplex.ssu]\noui = \"00-15-0A\"\nselector = \"07ff\"\nupdate_version = 3\nmodel = 7"
    ));
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, "1.5.raucb", b"bundle", SCHEDULED);
    stream.run(&mut air, 6_000_000_000);
    let tables = stream.received.tables();
    let component = tables.component(Pid::new(0x200)).unwrap();
    (
        component.data_broadcast_id,
        component.software_updates,
        tables.network.as_ref().unwrap().updates.clone(),
    )
}

#[test]
fn an_update_is_announced_in_nit_and_pmt_to_receivers_of_its_maker() {
    let oui = Oui::new(0x150a);
    let update = |update_type| SoftwareUpdate { oui, update_type, version: Some(3), selector: vec![7, 0xff] };
    let link = UpdateLink { location: [1001, 1, 5001], makers: vec![(oui, vec![7, 0xff])] };
    let (id, updates, links) = announced_update("data-carousel");
    // Receivers of updates need no other identification, and those of data carousels must not take it for theirs.
    assert_eq!((id, &links), (Some(SOFTWARE_UPDATE), &vec![link.clone()]));
    assert_eq!(updates, [update(UpdateType::Carousel)]);
    let (id, updates, links) = announced_update("mpe");
    assert_eq!((id, links), (Some(5), vec![link]), "IP stays known as such");
    assert_eq!(updates, [update(UpdateType::Proprietary)]);
}

#[test]
fn groups_of_an_update_name_hardware_and_software() {
    let config = config(
        "[multiplex]\ncarry = \"data-carousel\"\n[multiplex.ssu]\noui = \"00-15-0A\"\nmodel = 7\nhardware_version = 2\nsoftware_version = 5",
    );
    let mut builder = carousel::dsmcc::Builder::new(config.multiplex.as_ref().unwrap().profile());
    let carried = carousel::dsmcc::profile::Carried {
        uri: "https://cdn.example.com/1.5.raucb".to_owned(),
        content_type: None,
        digest: carousel::Digest::of(b"bundle"),
        max_age_s: None,
        length: 6,
        is_text: false,
        lane: 0,
    };
    builder.add(carried).unwrap();
    builder.commit(|_, _, _: &mut [u8]| Ok::<_, carousel::WireError>(())).unwrap();
    let mut out = Vec::new();
    builder.write_initiate(&mut out).unwrap();
    let message = Message::read(&Section::parse(&out).unwrap()).unwrap();
    let Message::Initiate { gateway: Gateway::Groups(groups), .. } = message else { panic!("{message:?}") };
    let of = |kind, version| Compatible { kind, oui: Oui::new(0x150a), model: 7, version };
    let both = [of(CompatibleKind::Hardware, 2), of(CompatibleKind::Software, 5)];
    assert!(!groups.is_empty() && groups.iter().all(|it| it.compatibility == both), "{groups:?}");
}

#[test]
fn control_messages_never_take_more_than_their_share() {
    let config = config("[multiplex]\ncarry = \"object-carousel\"\ncontrol_interval_ms = 10");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    for at in 0..40 {
        add(&mut air, &format!("{at}.mp4"), &vec![at; 70_000], SCHEDULED);
    }
    stream.run(&mut air, 4_000_000_000);
    let control = stream.tables.iter().filter(|(id, at)| *id == TABLE_CONTROL && *at > 1_000_000_000).count();
    // 200 + 42·40 bytes in a twentieth of 2 Mbit/s are 150 ms apart; DSI and DII each time.
    assert!((30..=44).contains(&control), "{control}");
}

#[test]
fn a_new_version_takes_the_place_of_the_old_one_and_what_is_withdrawn_goes() {
    let config = config("[multiplex]\ncarry = \"object-carousel\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    let old = add(&mut air, "live.m3u8", b"one", Repeat::Within { ms: 500 });
    let gone = add(&mut air, "gone.mp4", &vec![9; 100_000], SCHEDULED);
    stream.run(&mut air, 2_000_000_000);
    assert_eq!(stream.names(), [("cdn.example.com/live.m3u8", 3), ("cdn.example.com/gone.mp4", 100_000)]);
    let modules = stream.mux.rotation().unwrap().progress().1;
    add(&mut air, "live.m3u8", b"two!", Repeat::Within { ms: 500 });
    air.withdraw(old);
    air.withdraw(gone);
    let changed_ns = stream.now_ns;
    stream.run(&mut air, 4_000_000_000);
    let (path, bytes, at) = stream.files.last().unwrap();
    assert_eq!((path.as_str(), &bytes[..]), ("cdn.example.com/live.m3u8", &b"two!"[..]));
    assert!(at - changed_ns < 200_000_000, "what is new goes first: {}", at - changed_ns);
    assert_eq!(stream.mux.rotation().unwrap().progress().1, modules - 1);
    assert_eq!(stream.files.len(), 3, "a version is handed out once: {:?}", stream.names());
}

#[test]
fn a_file_that_changed_leaves_the_carousel_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    std::fs::write(&path, vec![1; 200_000]).unwrap();
    let config = config("[multiplex]\ncarry = \"object-carousel\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    let (body, _) = Body::file(&path).unwrap();
    let broken = AirObject {
        body,
        ..AirObject::of_bytes("https://cdn.example.com/a.mp4", &vec![1; 200_000], SCHEDULED)
    };
    air.add(0, broken).unwrap();
    add(&mut air, "b.mp4", &vec![2; 200_000], SCHEDULED);
    std::fs::write(&path, vec![3; 1000]).unwrap();
    stream.run(&mut air, 3_000_000_000);
    assert_eq!(stream.names(), [("cdn.example.com/b.mp4", 200_000)]);
    assert_eq!(stream.mux.rotation().unwrap().stats().objects_broken_off, 1);
    assert_eq!(air.objects().count(), 1, "and it leaves the air");
}

#[test]
fn documents_that_lead_to_flute_sessions_are_left_out_of_a_carousel() {
    let config = config("[multiplex]\ncarry = \"object-carousel\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    for name in [carousel::mabr::CONFIGURATION_URI, carousel::nip::Document::Bootstrap.name()] {
        air.add(0, AirObject::of_bytes(name, b"<x/>", Repeat::Within { ms: 500 })).unwrap();
    }
    add(&mut air, "a.mp4", b"a", SCHEDULED);
    stream.run(&mut air, 2_000_000_000);
    assert_eq!(stream.names(), [("cdn.example.com/a.mp4", 1)]);
}

#[test]
fn objects_that_a_data_carousel_cannot_name_are_told_once() {
    let config = config("[multiplex]\ncarry = \"data-carousel\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, &"x".repeat(300), b"a", SCHEDULED);
    add(&mut air, "a.mp4", b"a", SCHEDULED);
    stream.run(&mut air, 1_000_000_000);
    let refused = stream.mux.refused();
    assert!(refused.len() == 1 && refused[0].starts_with("https://cdn.example.com/xxx"), "{refused:?}");
    assert!(stream.mux.refused().is_empty());
    assert_eq!(stream.mux.rotation().unwrap().stats().objects_refused, 1);
    assert_eq!(stream.files.len(), 1);
}

#[test]
fn a_single_pass_sends_each_module_once_and_ends() {
    let config = config("[multiplex]\ncarry = \"object-carousel\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, true)), air());
    add(&mut air, "live.m3u8", b"one", Repeat::Within { ms: 100 });
    for at in 0..4 {
        add(&mut air, &format!("{at}.mp4"), &vec![at; 100_000], SCHEDULED);
    }
    assert!(!stream.mux.is_over(&air), "nothing has been sent");
    while !stream.mux.is_over(&air) {
        assert!(stream.now_ns < 10_000_000_000, "it never ends");
        stream.next(&mut air);
    }
    assert_eq!(stream.files.len(), 5, "{:?}", stream.names());
    let rotation = stream.mux.rotation().unwrap();
    assert_eq!(rotation.stats().modules_sent, rotation.progress().1 as u64);
    assert!(stream.mux.cycle_done(&air));
}

#[test]
fn a_cycle_ends_behind_its_last_packet() {
    let config = config("[multiplex]\nstuffing = false");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    add(&mut air, "a.mp4", &vec![4; 100_000], SCHEDULED);
    while !stream.mux.cycle_done(&air) {
        assert!(stream.now_ns < 10_000_000_000, "it never ends");
        stream.next(&mut air);
    }
    assert!(air.cycle_done());
    let sent: usize = stream.ip.iter().map(|ip| ip.len() - 28).sum();
    assert!(sent > 100_000, "{sent}: the last section is out");
    assert_eq!(stream.ip.len() as u64, air.stats().packets);
}

#[test]
fn modules_of_many_small_files_keep_few_of_them_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("[multiplex]\ncarry = \"object-carousel\"");
    let (mut stream, mut air) = (Stream::new(mux(&config, false)), air());
    for at in 0..150_u8 {
        let path = folder.path().join(at.to_string());
        std::fs::write(&path, [at; 300]).unwrap();
        let uri = format!("https://cdn.example.com/{at}.m4s");
        let object = AirObject {
            body: Body::file(&path).unwrap().0,
            ..AirObject::of_bytes(&uri, &[at; 300], SCHEDULED)
        };
        air.add(0, object).unwrap();
    }
    let mut most = 0;
    while stream.now_ns < 3_000_000_000 {
        stream.next(&mut air);
        most = most.max(stream.mux.rotation().unwrap().open_files());
    }
    // A module has some 140 of them; it is read at once.
    assert!((1..=64).contains(&most), "{most}");
    assert_eq!(stream.files.len(), 150);
    assert!(stream.files.iter().all(|(_, bytes, _)| bytes[..] == [bytes[0]; 300]));
}
