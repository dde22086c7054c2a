use super::channel::{MAX_DONE, MAX_FLUTE_NAMES};
use super::signalling::MAX_DOCUMENTS;
use super::*;
use crate::lct::ext::{write_fixed, write_variable};
use crate::lct::{LctHeader, Tsi};
use crate::route::{Channel as Described, Payload, Protected, RepairFlow, Sender, SourceFlow};
use linksim::{Link, Profile};
use proptest::prelude::*;

const PAYLOAD_BYTES: usize = 100;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn group() -> SocketAddr {
    "239.0.0.1:6000".parse().unwrap()
}

/// A segment of `fragments` movie fragments.
fn segment(fragments: usize, bytes: usize, seed: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |kind: &[u8; 4], length: usize| {
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(kind);
        let at = out.len();
        out.extend((at..at + length - 8).map(|it| (it as u8).wrapping_mul(31).wrapping_add(seed)));
    };
    add(b"styp", 24);
    for _ in 0..fragments {
        add(b"moof", 80);
        add(b"mdat", bytes);
    }
    out
}

fn session() -> RouteSession {
    let init = File { content_location: "init.mp4".to_owned(), toi: Toi(0xffff_ffff), ..File::default() };
    let source = SourceFlow {
        is_real_time: true,
        template: Some("seg-$TOI%05d$.m4s".to_owned()),
        files: vec![init],
        payloads: vec![Payload { codepoint: 8, format: 1, fragmentation: 1, source_payload_id: Some(1) }],
        ..SourceFlow::default()
    };
    let repair = RepairFlow {
        oti: Some(Sender::repair_oti(PAYLOAD_BYTES as u16)),
        protected: vec![Protected { tsi: 10, x: 1, y: 0 }],
        ..RepairFlow::default()
    };
    RouteSession {
        group: Some(group().ip()),
        port: Some(group().port()),
        channels: vec![
            Described { tsi: 10, source: Some(source), ..Described::default() },
            Described { tsi: 11, repair: Some(repair), ..Described::default() },
        ],
        ..RouteSession::default()
    }
}

struct Air {
    sender: Sender,
    packets: Vec<Vec<u8>>,
}

impl Air {
    fn new() -> Self {
        let mut sender = Sender::new(PAYLOAD_BYTES);
        sender.set_signalling(session(), &[("application/dash+xml", "live.mpd", b"<MPD/>")]).unwrap();
        let mut air = Self { sender, packets: Vec::new() };
        air.signalling();
        air
    }

    fn signalling(&mut self) {
        let packets = &mut self.packets;
        self.sender.signalling(|packet| packets.push(packet.to_vec())).unwrap();
    }

    /// All packets of an object; its length is in the last `marked` of them.
    fn object(&mut self, toi: u128, codepoint: u8, body: &[u8], marked: usize) {
        let count = body.len().div_ceil(PAYLOAD_BYTES);
        for (at, payload) in body.chunks(PAYLOAD_BYTES).enumerate() {
            let length = (at.saturating_add(marked) >= count).then_some(body.len() as u64);
            let mut out = Vec::new();
            let offset = (at * PAYLOAD_BYTES) as u64;
            self.sender.write_source((10, Toi(toi)), codepoint, offset, length, payload, &mut out).unwrap();
            self.packets.push(out);
        }
    }

    fn repair(&mut self, toi: u128, body: &[u8], count: u32) {
        let (sender, packets) = (&self.sender, &mut self.packets);
        Sender::repair_symbols(&Sender::repair_oti(PAYLOAD_BYTES as u16), body, count, |id, symbol| {
            let mut out = Vec::new();
            sender.write_repair((11, Toi(toi)), body.len() as u64, id, symbol, &mut out).unwrap();
            packets.push(out);
        })
        .unwrap();
    }
}

/// What is counted as it changes is what is there.
fn check_memory(receiver: &Receiver) {
    let sizes = receiver.channels.values().flat_map(|it| &it.objects).map(Object::size);
    let sum = sizes.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    assert_eq!((receiver.open_bytes, receiver.objects_bytes), sum);
    let channels = receiver.channels.values().map(Channel::memory_bytes);
    assert_eq!(receiver.channels_bytes, channels.sum::<usize>());
    assert_eq!(receiver.documents.is_empty(), receiver.documents_bytes == 0);
}

#[derive(Debug, Default)]
struct Got {
    objects: Vec<(String, Vec<u8>, End)>,
    documents: Vec<String>,
    failed: Vec<RouteFailure>,
    begun: Vec<String>,
    grown: HashMap<String, Vec<u8>>,
    /// Workers have no room for blocks.
    is_busy: bool,
    refused: u32,
}

fn feed(receiver: &mut Receiver, got: &mut Got, now: Instant, bytes: &[u8]) -> Verdict {
    let verdict = receiver.handle_packet(now, &Packet::parse(bytes).unwrap(), bytes.len());
    poll(receiver, got);
    verdict
}

fn poll(receiver: &mut Receiver, got: &mut Got) {
    while let Some(event) = receiver.poll_event() {
        match event {
            Event::Complete { file, bytes, end, .. } => {
                assert_eq!(file.content_length, Some(bytes.len() as u64));
                got.objects.push((file.content_location.clone(), bytes, end));
            }
            Event::Document { file, .. } => got.documents.push(file.content_location.clone()),
            Event::Failed { why, .. } => got.failed.push(why),
            Event::Begun { file, .. } => {
                got.grown.remove(&file.content_location);
                got.begun.push(file.content_location.clone());
            }
            Event::BlockReady { tsi, toi, block } if got.is_busy => {
                receiver.postpone_repair(tsi, toi, block);
                got.refused += 1;
            }
            Event::BlockReady { tsi, toi, block } => {
                let lost = receiver.repair_job(tsi, toi, block).and_then(RepairJob::run);
                receiver.repaired(tsi, toi, block, lost.as_deref());
            }
            Event::Package { .. }
            | Event::Elsewhere(_)
            | Event::ChannelRemoved { .. }
            | Event::SessionClosed => {}
        }
    }
    receiver.grown(|_, file, offset, bytes| {
        let grown = got.grown.entry(file.content_location.clone()).or_default();
        assert_eq!(grown.len() as u64, offset, "in order, without gaps");
        grown.extend_from_slice(bytes);
    });
    assert!(receiver.stats().reconcile());
}

fn receive(packets: &[Vec<u8>]) -> (Receiver, Got) {
    let (mut receiver, mut got) = (Receiver::new(ReceiverConfig::default(), group()), Got::default());
    for (number, packet) in packets.iter().enumerate() {
        feed(&mut receiver, &mut got, at(number as u64), packet);
    }
    (receiver, got)
}

#[test]
fn objects_are_named_by_lists_and_templates_whenever_the_s_tsid_comes() {
    let mut air = Air::new();
    let signalling = air.packets.len();
    let (init, first) = (vec![3; 250], segment(3, 200, 1));
    air.object(0xffff_ffff, 5, &init, usize::MAX);
    air.object(7, 8, &first, 2);
    let expected = [
        ("init.mp4".to_owned(), init, End::Length),
        ("seg-00007.m4s".to_owned(), first.clone(), End::Length),
    ];
    let (_, got) = receive(&air.packets);
    assert_eq!(got.objects, expected);
    assert_eq!(
        (got.documents, got.begun),
        (vec!["stsid.xml".into(), "live.mpd".into()], vec!["seg-00007.m4s".to_owned()])
    );
    assert_eq!(got.failed, []);
    air.packets.rotate_left(signalling);
    assert_eq!(receive(&air.packets).1.objects, expected, "the S-TSID comes last");
}

#[test]
fn a_live_object_grows_and_ends_by_length_flag_or_its_successor() {
    let (first, second, third) = (segment(4, 333, 1), segment(4, 250, 2), segment(4, 300, 3));
    let mut air = Air::new();
    air.object(1, 8, &first, 1);
    air.object(2, 8, &second, 0);
    let before_third = air.packets.len();
    air.object(3, 8, &third, 1);
    let (_, got) = receive(&air.packets[..before_third]);
    assert_eq!(
        (got.objects.len(), got.grown["seg-00002.m4s"].len()),
        (1, second.len()),
        "all of it is shown"
    );
    let (_, got) = receive(&air.packets);
    let ends: Vec<_> =
        got.objects.iter().map(|(name, bytes, end)| (name.as_str(), bytes.len(), *end)).collect();
    let expected = [
        ("seg-00001.m4s", first.len(), End::Length),
        ("seg-00002.m4s", second.len(), End::NextObject),
        ("seg-00003.m4s", third.len(), End::Length),
    ];
    assert_eq!(ends, expected);
    assert_eq!(got.objects[1].1, second);
    // The B flag without EXT_TOL.
    let mut air = Air::new();
    air.object(5, 8, &first, 0);
    air.packets.last_mut().unwrap()[1] |= 1;
    assert_eq!(receive(&air.packets).1.objects[0].2, End::CloseObject);
}

#[test]
fn an_unmarked_segment_with_a_loss_is_never_taken_for_whole() {
    let (first, second, third) = (segment(4, 333, 1), segment(4, 250, 2), segment(4, 300, 3));
    let mut air = Air::new();
    air.object(1, 8, &first, 1);
    let start = air.packets.len();
    air.object(2, 8, &second, 0);
    let end = air.packets.len();
    air.object(3, 8, &third, 1);
    // Every run of packets of the second is lost once, its end among them.
    for from in start..end {
        for to in from + 1..=end {
            let lossy = [&air.packets[..from], &air.packets[to..]].concat();
            let (mut receiver, mut got) = receive(&lossy);
            receiver.handle_timeout(at(20_000));
            receiver.close();
            poll(&mut receiver, &mut got);
            assert!(got.objects.iter().all(|(name, ..)| name != "seg-00002.m4s"), "{from}..{to}");
            assert_eq!(got.objects.len(), 2, "{from}..{to}");
        }
    }
}

#[test]
fn packets_of_a_growing_object_are_late_when_those_behind_them_have_come() {
    let state = |receiver: &Receiver, ms: u64| {
        let growing = receiver.growing(at(ms)).find(|it| it.toi == Toi(1)).unwrap();
        (growing.has_gap, growing.is_late)
    };
    for is_protected in [true, false] {
        let mut air = Air::new();
        if !is_protected {
            let mut session = session();
            session.channels.pop();
            air.sender.set_signalling(session, &[]).unwrap();
            air.packets.clear();
            air.signalling();
        }
        let first = air.packets.len();
        air.object(1, 8, &segment(4, 333, 1), 1);
        let (mut receiver, mut got) = receive(&air.packets[..first + 3]);
        assert_eq!(state(&receiver, 5_000), (false, false), "nothing behind it has come");
        feed(&mut receiver, &mut got, at(5_000), &air.packets[first + 4]);
        assert_eq!(state(&receiver, 5_000), (true, !is_protected), "repair symbols may bring it");
        assert_eq!(state(&receiver, 5_499), (true, !is_protected));
        assert_eq!(state(&receiver, 5_500), (true, true));
        feed(&mut receiver, &mut got, at(5_600), &air.packets[first + 3]);
        assert_eq!(state(&receiver, 9_000), (false, false), "it was overtaken");
        // Its end is lost.
        let second = air.packets.len();
        air.object(2, 8, &segment(4, 333, 1), 1);
        feed(&mut receiver, &mut got, at(6_000), &air.packets[second]);
        assert_eq!((state(&receiver, 6_000), state(&receiver, 6_100)), ((false, false), (false, true)));
    }
}

#[test]
fn an_unmarked_object_is_not_late_while_silence_may_end_it() {
    let state = |receiver: &Receiver, ms: u64| {
        receiver.growing(at(ms)).find(|it| it.toi == Toi(1)).map(|it| (it.has_gap, it.is_late))
    };
    let mut air = Air::new();
    air.object(1, 8, &segment(4, 100, 1), 0);
    air.object(2, 8, &segment(4, 100, 2), 1);
    let last = air.packets.pop().unwrap();
    let (mut receiver, mut got) = receive(&air.packets);
    let heard_ms = receiver.last_heard().since(at(0)).as_millis() as u64;
    // How many fragments segments have is not known yet.
    assert_eq!(state(&receiver, heard_ms + 1_000), Some((false, false)));
    assert_eq!(state(&receiver, heard_ms + 2_000), Some((false, true)), "nothing has told it");
    feed(&mut receiver, &mut got, at(heard_ms + 1_000), &last);
    assert_eq!(state(&receiver, heard_ms + 2_100), Some((false, false)), "it ends with the next look");
    receiver.handle_timeout(at(heard_ms + 2_100));
    poll(&mut receiver, &mut got);
    assert_eq!(got.objects.last().map(|it| it.2), Some(End::Silence));
    // Its last fragment is lost.
    air.packets.push(last);
    let whole = segment(4, 100, 3);
    let start = air.packets.len();
    air.object(3, 8, &whole[..whole.len() - 180], 0);
    air.object(4, 8, &segment(4, 100, 4), 0);
    let (mut receiver, mut got) = (receiver, got);
    for packet in &air.packets[start..] {
        feed(&mut receiver, &mut got, at(10_000), packet);
    }
    let late = |ms: u64| receiver.growing(at(ms)).find(|it| it.toi == Toi(3)).map(|it| it.is_late);
    assert_eq!((late(10_499), late(10_500)), (Some(false), Some(true)));
}

#[test]
fn the_last_segment_ends_by_its_fragments_or_fails() {
    let run = |fragments| {
        let mut air = Air::new();
        air.object(1, 8, &segment(4, 100, 1), 1);
        air.object(2, 8, &segment(fragments, 100, 2), 0);
        let (mut receiver, mut got) = receive(&air.packets);
        receiver.handle_timeout(at(1_500));
        poll(&mut receiver, &mut got);
        assert_eq!(got.objects.len(), 1, "it may go on");
        receiver.handle_timeout(at(9_000));
        poll(&mut receiver, &mut got);
        assert_eq!(receiver.open().count(), 0);
        (got.objects.get(1).map(|it| it.2), got.failed)
    };
    assert_eq!(run(4), (Some(End::Silence), vec![]));
    assert_eq!(run(3), (None, vec![RouteFailure::Incomplete]));
    // What is carouselled waits for its next pass.
    let mut air = Air::new();
    air.object(0xffff_ffff, 5, &[1; 300], usize::MAX);
    air.packets.pop();
    let (mut receiver, mut got) = receive(&air.packets);
    receiver.handle_timeout(at(500_000));
    assert_eq!(receiver.open().count(), 1);
    receiver.handle_timeout(at(700_000));
    poll(&mut receiver, &mut got);
    assert_eq!(got.failed, [RouteFailure::Incomplete]);
}

#[test]
fn a_repeat_is_received_and_dropped_and_other_bytes_are_a_new_object() {
    let mut air = Air::new();
    let (first, second) = (vec![1; 250], vec![2; 250]);
    for body in [&first, &first, &second, &second, &first] {
        air.object(0xffff_ffff, 7, body, usize::MAX);
    }
    let (receiver, got) = receive(&air.packets);
    let bodies: Vec<_> = got.objects.into_iter().map(|it| it.1).collect();
    assert_eq!((bodies, receiver.stats().repeats), (vec![first.clone(), second, first], 2));
    // A sender that restarts in the middle of a segment.
    let mut air = Air::new();
    let (old, new) = (segment(3, 200, 1), segment(3, 200, 9));
    air.object(1, 8, &old, 1);
    air.packets.truncate(air.packets.len() - 2);
    air.object(1, 8, &new, 1);
    let (receiver, mut got) = receive(&air.packets);
    assert_eq!((got.objects.pop().unwrap().1, got.failed), (new, vec![RouteFailure::Replaced]));
    assert!(receiver.channels[&10].done.len() <= MAX_DONE);
    let mut channel = Channel::default();
    for toi in 0..2 * MAX_DONE as u128 {
        channel.remember(Toi(toi), Done { length: 1, fingerprint: 1 });
    }
    assert_eq!((channel.done.len(), channel.done_order.len()), (MAX_DONE, MAX_DONE));
}

#[test]
fn names_of_flute_go_before_the_template() {
    // GPAC 26.08-dev, `mabr://…:flute=false:llmode`: each chunk is an object; all but the first of a segment are named by FDT
    // Instances of FLUTE, and the template counts segments.
    let mut air = Air::new();
    for (toi, length) in [(1, 50), (2, 300), (3, 200)] {
        air.object(toi, 8, &vec![toi as u8; length], 1);
    }
    let (mut receiver, mut got) = (Receiver::new(ReceiverConfig::default(), group()), Got::default());
    let name = |toi, name: &str| {
        Arc::new(File { toi: Toi(toi), content_location: name.to_owned(), ..File::default() })
    };
    let signalling = air.packets.len() - 6;
    for packet in &air.packets[..signalling] {
        feed(&mut receiver, &mut got, at(0), packet);
    }
    receiver.name_by_flute(99, &[name(1, "nowhere")]);
    receiver.name_by_flute(10, &[name(7, "old.m4s#7")]);
    for packet in &air.packets[signalling..] {
        feed(&mut receiver, &mut got, at(1), packet);
    }
    assert!(got.objects.is_empty(), "{:?}", got.objects);
    receiver.name_by_flute(10, &[name(2, "a.m4s#50"), name(3, "a.m4s?isLast#350")]);
    poll(&mut receiver, &mut got);
    let names: Vec<_> = got.objects.iter().map(|it| (it.0.as_str(), it.1.len())).collect();
    assert_eq!(names, [("a.m4s#0", 50), ("a.m4s#50", 300), ("a.m4s?isLast#350", 200)]);
    for toi in 0..3 * MAX_FLUTE_NAMES as u128 {
        receiver.name_by_flute(10, &[name(toi, "x#1")]);
    }
    assert_eq!(receiver.channels[&10].flute_names.len(), MAX_FLUTE_NAMES);
}

#[test]
fn documents_are_told_when_they_change() {
    let mut air = Air::new();
    air.signalling();
    let again = [("application/dash+xml", "live.mpd", &b"<MPD id=\"2\"/>"[..])];
    air.sender.set_signalling(session(), &again).unwrap();
    air.signalling();
    let (receiver, got) = receive(&air.packets);
    assert_eq!(got.documents, ["stsid.xml", "live.mpd", "live.mpd"]);
    assert_eq!((receiver.stats().repeats, receiver.stats().packages), (1, 2));
    let mut air = Air::new();
    for number in 0..3 * MAX_DOCUMENTS {
        let name = format!("{number}.mpd");
        air.sender.set_signalling(session(), &[("application/dash+xml", &name, b"<MPD/>")]).unwrap();
        air.signalling();
    }
    let (mut receiver, mut got) = (Receiver::new(ReceiverConfig::default(), group()), Got::default());
    let mut most = 0;
    for packet in &air.packets {
        feed(&mut receiver, &mut got, at(0), packet);
        most = most.max(receiver.documents.len());
    }
    assert_eq!(most, MAX_DOCUMENTS);
    assert!(got.documents.len() >= 3 * MAX_DOCUMENTS);
}

#[test]
fn entity_mode_names_its_objects_itself() {
    let body = segment(2, 300, 4);
    let fields = format!(
        "Content-Location: http://h/e.m4s\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let chunked =
        format!("Content-Location: http://h/c.m4s\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    let mut air = Air::new();
    air.object(1, 9, &[fields.as_bytes(), &body].concat(), 1);
    air.object(2, 9, &[chunked.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(), 1);
    air.object(3, 9, b"no fields at all", 1);
    let (_, got) = receive(&air.packets);
    let expected = [
        ("http://h/e.m4s".to_owned(), body.clone(), End::Length),
        ("http://h/c.m4s".to_owned(), body.clone(), End::Length),
    ];
    assert_eq!(got.objects, expected);
    assert_eq!((got.failed, got.begun), (vec![RouteFailure::BadEntity], vec!["http://h/e.m4s".to_owned()]));
    assert!(body.starts_with(&got.grown["http://h/e.m4s"]) && !got.grown.contains_key("http://h/c.m4s"));
}

#[test]
fn repair_symbols_bring_back_what_a_lossy_link_takes() {
    let mut whole = [0, 0];
    for seed in 0..20 {
        for (protected, whole) in whole.iter_mut().enumerate() {
            let mut air = Air::new();
            let signalling = air.packets.len();
            let bodies: Vec<_> = (0..5).map(|at| segment(4, 2_000 + 37 * at, at as u8)).collect();
            for (at, body) in bodies.iter().enumerate() {
                air.object(1 + at as u128, 8, body, 3);
                if protected == 1 {
                    air.repair(1 + at as u128, body, 30);
                }
            }
            let (mut receiver, mut got) = (Receiver::new(ReceiverConfig::default(), group()), Got::default());
            let mut link = Link::new(seed, Profile::burst(0.05));
            for (number, packet) in air.packets.iter().enumerate() {
                if number >= signalling {
                    link.send(0, packet);
                } else {
                    feed(&mut receiver, &mut got, at(0), packet);
                }
                while let Some(packet) = link.poll(0) {
                    feed(&mut receiver, &mut got, at(number as u64), &packet);
                }
            }
            receiver.close();
            poll(&mut receiver, &mut got);
            for (name, bytes, _) in &got.objects {
                let number: usize = name[4..9].parse().unwrap();
                assert!(*bytes == bodies[number - 1], "seed {seed}: {name}");
            }
            *whole += got.objects.len();
        }
    }
    assert!(whole[0] < 60 && whole[1] >= 96, "{whole:?} of 100 without and with repair symbols");
}

#[test]
fn a_block_for_which_there_was_no_room_is_decoded_later() {
    let body = segment(4, 2_000, 1);
    let mut air = Air::new();
    air.object(1, 8, &body, 40);
    // Three of the middle are lost, and just enough repair symbols come.
    let lost = air.packets.len() - 20;
    air.packets.drain(lost..lost + 3);
    air.repair(1, &body, 5);
    let (mut receiver, mut got) =
        (Receiver::new(ReceiverConfig::default(), group()), Got { is_busy: true, ..Got::default() });
    for packet in &air.packets {
        feed(&mut receiver, &mut got, at(0), packet);
    }
    // More of its packets do not report it again: each report copies it.
    let reported = got.refused;
    for packet in &air.packets {
        feed(&mut receiver, &mut got, at(0), packet);
    }
    assert_eq!((reported, got.refused), (1, 1));
    receiver.handle_timeout(at(0));
    poll(&mut receiver, &mut got);
    assert!(got.objects.is_empty());
    got.is_busy = false;
    receiver.handle_timeout(at(0));
    poll(&mut receiver, &mut got);
    assert_eq!((got.objects.len(), receiver.stats().recovery_failed), (1, 0));
    assert!(got.objects[0].1 == body);
}

#[test]
fn a_block_decoded_late_is_not_placed_in_the_next_object_of_its_toi() {
    let (body, other) = (segment(4, 2_000, 1), segment(4, 2_000, 2));
    let mut air = Air::new();
    air.object(1, 8, &body, 40);
    let lost = air.packets.len() - 20;
    air.packets.drain(lost..lost + 3);
    air.repair(1, &body, 5);
    let mut receiver = Receiver::new(ReceiverConfig::default(), group());
    let feed = |receiver: &mut Receiver, packet: &[u8]| {
        receiver.handle_packet(at(0), &Packet::parse(packet).unwrap(), packet.len());
        std::iter::from_fn(|| receiver.poll_event()).collect::<Vec<_>>()
    };
    let events: Vec<Event> = air.packets.iter().flat_map(|packet| feed(&mut receiver, packet)).collect();
    let ready = events.into_iter().find_map(|event| match event {
        Event::BlockReady { block, .. } => Some(block),
        _ => None,
    });
    let block = ready.unwrap();
    let job = receiver.repair_job(10, Toi(1), block).unwrap();
    assert_eq!(receiver.repair_job_bytes(10, Toi(1), block), Some(job.held_bytes()));
    let lost = job.run();
    assert!(lost.is_some());
    // The sender restarts: another object with the same TOI.
    let mut restarted = Air::new();
    restarted.object(1, 8, &other, 40);
    let count = restarted.packets.len();
    let last = restarted.packets[count - 1].clone();
    let events = feed(&mut receiver, &last);
    let is_replaced = |it: &Event| matches!(it, Event::Failed { why: RouteFailure::Replaced, .. });
    assert!(events.iter().any(is_replaced), "{events:?}");
    let held = receiver.open_bytes;
    assert!(!receiver.repaired(10, Toi(1), block, lost.as_deref()), "its object has ended");
    assert!(!receiver.repaired(10, Toi(1), block, None));
    assert!(receiver.repair_job(10, Toi(1), block).is_none());
    assert_eq!((receiver.open_bytes, receiver.stats().recovered_bytes), (held, 0));
    assert_eq!(receiver.stats().recovery_failed, 0);
    // A later receiver of the session numbers its objects otherwise.
    let mut later = Receiver::new(ReceiverConfig::default(), group());
    let packet = Packet::parse(&last).unwrap();
    later.handle_packet(at(1), &packet, last.len());
    assert_ne!(later.channels[&10].objects[0].serial, block.serial);
}

#[test]
fn repair_symbols_of_a_complete_object_open_nothing() {
    let body = segment(4, 1000, 1);
    let mut air = Air::new();
    air.object(7, 8, &body, 1);
    let whole = air.packets.len();
    air.repair(7, &body, 3);
    let (mut receiver, mut got) = receive(&air.packets[..whole]);
    assert_eq!(got.objects.len(), 1);
    for packet in &air.packets[whole..] {
        let verdict = feed(&mut receiver, &mut got, at(5), packet);
        assert_eq!(verdict, Verdict::Dropped(RouteDrop::RepairNotNeeded));
    }
    assert!(receiver.channels[&10].objects.is_empty());
    assert_eq!((got.begun.len(), got.objects.len()), (1, 1));
    // Of the next, which is not whole, they are kept.
    let mut air = Air::new();
    air.repair(8, &body, 1);
    assert_eq!(feed(&mut receiver, &mut got, at(6), air.packets.last().unwrap()), Verdict::Repair);
}

#[test]
fn floods_of_repair_symbols_are_bounded() {
    let mut air = Air::new();
    let body = segment(4, 2_000, 1);
    air.object(1, 8, &body, 1);
    let lost = air.packets.len() - 40;
    air.packets.truncate(lost);
    let (mut receiver, mut got) = receive(&air.packets);
    let mut kept = 0;
    // Wrong symbols; the length is right.
    for esi in 0..10_000_u32 {
        let mut out = Vec::new();
        let id = (0, 1_000 + esi);
        air.sender
            .write_repair((11, Toi(1)), body.len() as u64, id, &[esi as u8; PAYLOAD_BYTES], &mut out)
            .unwrap();
        kept += usize::from(feed(&mut receiver, &mut got, at(5), &out) == Verdict::Repair);
    }
    assert!(kept < 150 && got.objects.is_empty(), "{kept}");
    assert!(receiver.stats().recovery_failed <= u64::from(8_u32));
    // An object without a signalled length: the extension is taken out.
    let mut kept = 0;
    for esi in 0..2_000_u32 {
        let mut out = Vec::new();
        LctHeader::new(Tsi(11), Toi(2)).write(&mut out).unwrap();
        out.extend_from_slice(&(1_000 + esi).to_be_bytes());
        out.extend_from_slice(&[7; PAYLOAD_BYTES]);
        kept += usize::from(feed(&mut receiver, &mut got, at(6), &out) == Verdict::Repair);
    }
    assert_eq!(kept, 512);
    assert_eq!(
        feed(&mut receiver, &mut got, at(6), &unknown_repair()),
        Verdict::Dropped(RouteDrop::UnknownRepair)
    );
}

fn unknown_repair() -> Vec<u8> {
    let mut out = Vec::new();
    LctHeader::new(Tsi(99), Toi(2)).write(&mut out).unwrap();
    out.extend_from_slice(&[0; 104]);
    out
}

#[test]
fn floods_of_objects_channels_and_events_are_bounded() {
    let sender = Sender::new(PAYLOAD_BYTES);
    let (mut receiver, mut got) = receive(&Air::new().packets);
    let mut out = Vec::new();
    for toi in 1..=1_000 {
        sender.write_source((10, Toi(toi)), 8, 4_000_000_000, None, &[1; 10], &mut out).unwrap();
        assert_eq!(feed(&mut receiver, &mut got, at(1), &out), Verdict::Dropped(RouteDrop::TooLong));
        sender.write_source((10, Toi(1_000 + toi)), 8, 50, None, &[1; 10], &mut out).unwrap();
        feed(&mut receiver, &mut got, at(toi as u64), &out);
        assert!(receiver.channels[&10].objects.len() <= MAX_OPEN);
    }
    for tsi in 0..2 * MAX_SESSION_CHANNELS as u64 {
        sender.write_source((100 + tsi, Toi(1)), 8, 0, None, &[1; 10], &mut out).unwrap();
        feed(&mut receiver, &mut got, at(3_000), &out);
    }
    assert_eq!(receiver.channels.len(), MAX_SESSION_CHANNELS);
    let large = vec![0; 60_000];
    for toi in 0..3_000 {
        let (toi, offset) = (Toi(5_000 + toi / 40), 60_000 * (toi as u64 % 40));
        sender.write_source((10, toi), 1, offset, None, &large, &mut out).unwrap();
        feed(&mut receiver, &mut got, at(4_000), &out);
        assert!(receiver.open_bytes <= MAX_SESSION_BYTES);
    }
    check_memory(&receiver);
    // Events are not polled.
    for toi in 0..2 * MAX_EVENTS as u128 {
        sender.write_source((10, Toi(20_000 + toi)), 8, 0, Some(5), &[1; 5], &mut out).unwrap();
        receiver.handle_packet(at(5_000), &Packet::parse(&out).unwrap(), out.len());
    }
    assert!(receiver.stats().dropped[RouteDrop::EventsFull as usize] > 0);
    assert!(receiver.events.len() <= MAX_EVENTS + 2);
    poll(&mut receiver, &mut got);
    let before = got.objects.len();
    sender.write_source((10, Toi(90_000)), 8, 0, Some(5), &[1; 5], &mut out).unwrap();
    feed(&mut receiver, &mut got, at(6_000), &out);
    assert_eq!(got.objects.len(), before + 1, "the last like the first");
}

#[test]
fn objects_whose_packets_trickle_are_given_up() {
    for (codepoint, step, age) in
        [(1, Duration::from_secs(500), MAX_OBJECT_AGE), (8, END_SILENCE, MAX_MEDIA_AGE)]
    {
        let (sender, mut out) = (Sender::new(PAYLOAD_BYTES), Vec::new());
        let (mut receiver, mut got) = receive(&Air::new().packets);
        let (begun, mut now, mut offset) = (at(1_000), at(1_000), 0);
        while got.failed.is_empty() {
            assert!(now.since(begun) < age + step);
            offset += 10;
            sender.write_source((10, Toi(1)), codepoint, offset, None, &[1; 10], &mut out).unwrap();
            feed(&mut receiver, &mut got, now, &out);
            now = now + step;
            receiver.handle_timeout(now);
            poll(&mut receiver, &mut got);
        }
        assert_eq!((got.failed.as_slice(), receiver.open().count()), (&[RouteFailure::TooOld][..], 0));
        assert!(now.since(begun) >= age && receiver.stats().failed[RouteFailure::TooOld as usize] == 1);
        check_memory(&receiver);
        // The next is received like the first.
        let before = got.objects.len();
        sender.write_source((10, Toi(2)), 8, 0, Some(5), &[1; 5], &mut out).unwrap();
        feed(&mut receiver, &mut got, now, &out);
        assert_eq!(got.objects.len(), before + 1);
    }
}

#[test]
fn objects_make_room_for_other_sessions_those_heard_longest_ago_first() {
    let (sender, mut out) = (Sender::new(PAYLOAD_BYTES), Vec::new());
    let (mut receiver, mut got) = receive(&Air::new().packets);
    let held = receiver.held_bytes();
    for toi in 1..=10 {
        sender.write_source((10, Toi(toi)), 1, 0, None, &[1; 50_000], &mut out).unwrap();
        feed(&mut receiver, &mut got, at(toi as u64), &out);
    }
    assert!(receiver.held_bytes() >= held + 500_000);
    let freed = receiver.shed(120_000);
    poll(&mut receiver, &mut got);
    let open: Vec<u128> = receiver.open().map(|(_, toi, ..)| toi.0).collect();
    assert_eq!((open, got.failed.as_slice()), ((4..=10).collect(), &[RouteFailure::OverBudget; 3][..]));
    assert!((150_000..200_000).contains(&freed), "{freed}");
    check_memory(&receiver);
    assert!(receiver.shed(usize::MAX) >= 350_000 && receiver.held_bytes() == held && receiver.shed(1) == 0);
}

#[test]
fn channels_without_a_description_make_room() {
    let (sender, mut out) = (Sender::new(PAYLOAD_BYTES), Vec::new());
    let (mut receiver, mut got) = receive(&Air::new().packets);
    let described: Vec<u64> = receiver.channels.keys().copied().collect();
    let mut take = |receiver: &mut Receiver, tsi: u64, ms: u64| {
        sender.write_source((tsi, Toi(1)), 8, 0, None, &[1; 10], &mut out).unwrap();
        receiver.handle_packet(at(ms), &Packet::parse(&out).unwrap(), out.len())
    };
    let most = MAX_SESSION_CHANNELS as u64;
    for number in 0..2 * most {
        assert_eq!(take(&mut receiver, 1_000 + number, 3_000 + number), Verdict::Stored);
        // One that is heard again and again stays.
        let _ = take(&mut receiver, 999, 3_000 + number);
        assert!(receiver.channels.len() <= MAX_SESSION_CHANNELS);
    }
    assert!(described.iter().chain([&999]).all(|tsi| receiver.channels.contains_key(tsi)));
    assert!(!receiver.channels.contains_key(&1_000));
    let removed = std::iter::from_fn(|| receiver.poll_event());
    let removed = removed.filter(|it| matches!(it, Event::ChannelRemoved { .. })).count();
    assert_eq!(removed + receiver.channels.len(), described.len() + 1 + 2 * most as usize);
    check_memory(&receiver);
    // A description takes the place of one that has none; those that have one keep theirs.
    let channel = |tsi| Described { tsi, source: Some(SourceFlow::default()), ..Described::default() };
    receiver.describe((5_000..5_000 + 2 * most).map(channel).collect());
    assert!(receiver.channels.contains_key(&5_000) && receiver.channels.len() == MAX_SESSION_CHANNELS);
    assert!(receiver.stats().left_out > 0);
    assert_eq!(take(&mut receiver, 9_000, 9_000), Verdict::Dropped(RouteDrop::TooManyChannels));
    poll(&mut receiver, &mut got);
}

#[test]
fn documents_without_a_name_are_left_out_and_counted() {
    let mut air = Air::new();
    air.packets.clear();
    let usbd = ("application/route-usd+xml", "", &b"<BundleDescriptionROUTE/>"[..]);
    let documents =
        [("application/dash+xml", "", &b"<MPD/>"[..]), usbd, ("application/dash+xml", "b.mpd", b"<MPD/>")];
    air.sender.set_signalling(session(), &documents).unwrap();
    air.signalling();
    let (receiver, got) = receive(&air.packets);
    assert_eq!(got.documents, ["stsid.xml", "", "b.mpd"]);
    assert_eq!(receiver.stats().left_out, 1);
}

#[test]
fn a_description_that_refers_to_itself_is_left_out() {
    let mut looped = session();
    looped.channels[0].tsi = SIGNALLING_TSI;
    looped.channels[1].repair.as_mut().unwrap().protected[0].tsi = 11;
    let mut escaping = session();
    escaping.channels[0].source.as_mut().unwrap().template = Some("../../$TOI$".to_owned());
    let mut elsewhere = session();
    elsewhere.port = Some(1);
    for (session, left_out, complete) in
        [(looped, 2, 0), (escaping, 1, 0), (elsewhere, 0, 0), (session(), 0, 1)]
    {
        let mut air = Air::new();
        air.packets.clear();
        air.sender.set_signalling(session, &[]).unwrap();
        air.signalling();
        air.object(1, 8, &segment(2, 100, 1), 1);
        let (receiver, got) = receive(&air.packets);
        assert_eq!((receiver.stats().left_out, got.objects.len()), (left_out, complete));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_and_duplicates_do_not_matter(seed in any::<u64>(), marked in 1_usize..4) {
        let body = segment(3, 400, 5);
        let mut air = Air::new();
        air.object(3, 8, &body, marked);
        let (mut packets, mut state) = (air.packets.clone(), seed);
        packets.extend(air.packets.iter().step_by(3).cloned());
        for at in (1..packets.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            packets.swap(at, (state >> 33) as usize % (at + 1));
        }
        let (_, got) = receive(&packets);
        prop_assert_eq!(got.objects.len(), 1);
        prop_assert_eq!(&got.objects[0].1, &body);
    }

    #[test]
    fn no_packets_panic_and_every_one_is_counted(packets in proptest::collection::vec(
        (0_u8..4, 0_u64..14, 0_u32..4, 0_u8..12, 0_u32..400, proptest::option::of(0_u64..1 << 48), 0_usize..200, any::<u8>()), 0..120,
    )) {
        let (mut receiver, mut got) = receive(&Air::new().packets);
        for (number, (psi, tsi, toi, codepoint, offset, length, count, flags)) in packets.into_iter().enumerate() {
            let (mut extensions, mut out) = (Vec::new(), Vec::new());
            match length {
                Some(length) if length < 1 << 24 => write_fixed(&mut extensions, het::TOL_24, length as u32),
                Some(length) => write_variable(&mut extensions, het::TOL_48, &length.to_be_bytes()[2..]).unwrap(),
                None => {}
            }
            let header = LctHeader {
                psi, codepoint, extensions: &extensions, close_object: flags & 1 != 0, close_session: flags & 2 != 0,
                ..LctHeader::new(Tsi(tsi), Toi(toi.into()))
            };
            header.write(&mut out).unwrap();
            out.extend_from_slice(&offset.to_be_bytes());
            out.resize(out.len() + count, flags);
            feed(&mut receiver, &mut got, at(number as u64 * 100), &out);
            receiver.handle_timeout(at(number as u64 * 100));
            check_memory(&receiver);
        }
        receiver.close();
        poll(&mut receiver, &mut got);
        prop_assert_eq!((receiver.open().count(), receiver.open_bytes), (0, 0));
        check_memory(&receiver);
    }
}
