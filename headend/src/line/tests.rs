use std::net::UdpSocket;
use std::path::Path;

use carousel::alc::Packet;
use carousel::flute::SenderProfile;
use carousel::gse::{Deframer, parse_frame};
use carousel::ip::parse_ip;
use carousel::lct::Tsi;
use carousel::multiplex::{Delivery, Multiplex as Demultiplex};
use carousel::ts::rtp::RtpPacket;
use carousel::ts::{Packet as TsPacket, Pid};

use super::*;
use crate::air::{AirConfig, AirObject, Repeat};

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
/// Nanoseconds of a byte at 8 Mbit/s.
const BYTE_NS: u64 = 1000;

fn group() -> SocketAddr {
    SocketAddr::from(([239, 1, 1, 1], 5000))
}

/// A configuration of 8 Mbit/s with further tables.
fn config(tables: &str) -> Config {
    let text = format!(
        "[link]\nrate_bps = 8_000_000\n[[source]]\npath = \"x\"\nbase = \"https://cdn.example.com/\"\n{tables}"
    );
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

/// One session with one object of 20,000 bytes that is sent once.
fn air() -> Air {
    let mut air = Air::new(AirConfig {
        rate_bps: 8_000_000,
        fdt_interval_ms: 1000,
        first_toi: 1,
        once: true,
        ..AirConfig::default()
    });
    air.open_session(group(), Tsi(7), SenderProfile::default());
    let repeat = Repeat::Scheduled { popularity: 1.0 };
    air.add(0, AirObject::of_bytes("https://cdn.example.com/a.m4s", &[7; 20_000], repeat)).unwrap();
    air
}

/// Everything that is sent until the line is over, with its time.
fn run(line: &mut Line, air: &mut Air) -> Vec<(u64, OutgoingDatagram, Vec<u8>)> {
    let (mut now_ns, mut out, mut sent) = (0, Vec::new(), Vec::new());
    while !line.is_over(air) {
        assert!(now_ns < 60_000_000_000, "it never ends");
        match line.next(now_ns, WALL, air, &mut out).unwrap() {
            Some(leaving) => {
                sent.push((now_ns, leaving, out.clone()));
                now_ns += leaving.link_bytes as u64 * BYTE_NS;
            }
            None => match line.next_due_ns(now_ns, air) {
                Some(due_ns) => now_ns = due_ns.max(now_ns + 1),
                None => break,
            },
        }
    }
    sent
}

/// Destination and payload of the UDP datagram in an IP packet from the documentation's address.
fn inner(ip: &[u8]) -> (SocketAddr, Vec<u8>) {
    let packet = parse_ip(ip).unwrap();
    assert_eq!(packet.ttl, 8);
    let datagram = packet.udp().unwrap();
    assert_eq!(datagram.source, SocketAddr::from(([192, 0, 2, 1], 50_000)));
    (datagram.destination, datagram.payload.to_vec())
}

/// IP packets in packets of a transport stream.
fn ip_packets<'a>(packets: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut stream, mut out) = (Demultiplex::default(), Vec::new());
    for packet in packets {
        stream.push(packet.try_into().unwrap(), |delivery| {
            if let Delivery::Ip(_, ip) = delivery {
                out.push(ip.to_vec());
            }
        });
    }
    assert!(stream.dropped().all(|(_, count)| count == 0), "{:?}", stream.dropped().collect::<Vec<_>>());
    out
}

#[test]
fn ip_packets_leave_as_they_are_and_take_their_headers_of_the_link() {
    let config = config("");
    let (mut line, mut air) = (Line::open(&config, true, true, WALL).unwrap(), air());
    assert_eq!(line.destinations(vec![group()]), [group()]);
    let sent = run(&mut line, &mut air);
    for (_, leaving, bytes) in &sent {
        assert_eq!((leaving.destination, leaving.link_bytes), (group(), bytes.len() + IP_UDP_BYTES));
        assert_eq!(Packet::parse(bytes).unwrap().lct.tsi, Some(Tsi(7)));
    }
    assert!(Packet::parse(&sent.last().unwrap().2).unwrap().lct.close_session, "the A flag is last");
    let stats = line.stats(&air);
    let link_bytes: usize = sent.iter().map(|(_, leaving, _)| leaving.link_bytes).sum();
    assert_eq!((stats.packets, stats.link_bytes), (sent.len() as u64, link_bytes as u64));
    assert_eq!((stats.sent, stats.unit, stats.packet, stats.stuffing), (1, "objects", "packets", 0));
    assert!(line.is_over(&air) && line.next_due_ns(0, &air).is_none());
    assert_eq!(line.progress(&air), (1, 1));
}

#[test]
fn a_transport_stream_leaves_as_rtp_of_seven_packets_by_the_media_clock() {
    let config = config("[multiplex]\nto = \"rtp://239.10.0.1:5004\"");
    let (mut line, mut air) = (Line::open(&config, true, true, WALL).unwrap(), air());
    let to = SocketAddr::from(([239, 10, 0, 1], 5004));
    assert_eq!(line.destinations(vec![group()]), [to]);
    let sent = run(&mut line, &mut air);
    let (mut packets, mut null) = (Vec::new(), 0);
    for (at, (now_ns, leaving, bytes)) in sent.iter().enumerate() {
        let rtp = RtpPacket::parse(bytes).unwrap();
        assert_eq!((rtp.payload_type, usize::from(rtp.sequence), rtp.ssrc), (33, at, 5004));
        assert_eq!(u64::from(rtp.timestamp), now_ns * 9 / 100_000, "90 kHz");
        assert_eq!((leaving.destination, leaving.link_bytes), (to, rtp.payload.len()), "without the header");
        assert!(at + 1 == sent.len() || rtp.payload.len() == 7 * 188);
        packets.extend(rtp.payload.chunks(188));
    }
    for packet in &packets {
        null += u64::from(TsPacket::parse((*packet).try_into().unwrap()).unwrap().pid == Pid::NULL);
    }
    let inside = ip_packets(packets.iter().copied());
    let inside: Vec<_> = inside.iter().map(|ip| inner(ip)).collect();
    assert!(inside.iter().all(|(destination, _)| *destination == group()));
    let stats = line.stats(&air);
    assert_eq!(inside.len() as u64, air.stats().packets);
    assert_eq!((stats.packets, stats.stuffing), (packets.len() as u64, null));
    assert_eq!((stats.link_bytes, stats.sent), (stats.packets * 188, 1));
    assert!(null > 0 && Packet::parse(&inside.last().unwrap().1).unwrap().lct.close_session);
}

#[test]
fn a_file_of_packets_has_no_headers_and_no_destination() {
    let config = config("[multiplex]\nto = \"rtp://239.10.0.1:5004\"");
    let (mut line, mut air) = (Line::open(&config, true, false, WALL).unwrap(), air());
    assert!(line.destinations(vec![group()]).is_empty());
    assert_eq!(line.where_to(&config), "IP by MPE");
    for (_, leaving, bytes) in run(&mut line, &mut air) {
        assert!(bytes.len() == leaving.link_bytes && bytes.len().is_multiple_of(188) && bytes[0] == 0x47);
        assert_eq!(leaving.destination, SocketAddr::from(([0, 0, 0, 0], 0)));
    }
}

#[test]
fn without_stuffing_a_stream_waits_for_its_tables_at_most() {
    let config = config("[multiplex]\nstuffing = false");
    let mut air = Air::new(AirConfig { rate_bps: 8_000_000, fdt_interval_ms: 1000, ..AirConfig::default() });
    let mut line = Line::open(&config, false, true, WALL).unwrap();
    assert_eq!(line.destinations(Vec::new()), [RECORDED_TO.strip_prefix("udp://").unwrap().parse().unwrap()]);
    let (mut now_ns, mut out, mut idle, mut bytes) = (0, Vec::new(), 0, 0);
    while now_ns < 2_000_000_000 {
        match line.next(now_ns, WALL, &mut air, &mut out).unwrap() {
            Some(leaving) => {
                bytes += leaving.link_bytes;
                now_ns += leaving.link_bytes as u64 * BYTE_NS;
            }
            None => {
                idle += 1;
                let due_ns = line.next_due_ns(now_ns, &air).unwrap();
                assert_eq!(due_ns, now_ns + 10_000_000);
                now_ns = due_ns;
            }
        }
    }
    assert!(idle > 100, "{idle} times idle");
    assert_eq!(line.stats(&air).stuffing, 0);
    assert_eq!(line.stats(&air).link_bytes, bytes as u64);
}

const CARRIER: &str = "[nip.carrier]\nfrequency_10khz = 1172750\npolarization = \"horizontal\"\nmodulation = \"8PSK\"\n\
    roll_off = \"0.20\"\nsymbol_rate_ksps = 27500\nfec = \"3/4\"\n";

#[test]
fn baseband_frames_have_the_carrier_s_size_and_the_mode_adaptation_header_of_l_3() {
    let config = config(&format!(
        "[multiplex]\ncarry = \"gse\"\nto = \"udp://239.10.0.9:5004\"\nmode_adaptation = true\nisi = 3\n{CARRIER}"
    ));
    let (mut line, mut air) = (Line::open(&config, true, true, WALL).unwrap(), air());
    let to = SocketAddr::from(([239, 10, 0, 9], 5004));
    assert_eq!(line.destinations(vec![group()]), [to]);
    assert_eq!(line.where_to(&config), "IP by GSE to udp://239.10.0.9:5004");
    let sent = run(&mut line, &mut air);
    let (mut deframer, mut inside) = (Deframer::default(), Vec::new());
    for (at, (_, leaving, bytes)) in sent.iter().enumerate() {
        // 8PSK 3/4 is MODCOD 14 (EN 302 307-1 table 12).
        assert_eq!(bytes[..4], [0xb8, 14, 0, at as u8]);
        let frame = parse_frame(&bytes[4..]).unwrap();
        assert_eq!(frame.isi, Some(3));
        assert!(frame.data.len() <= 48_408 / 8 - 10);
        assert_eq!(
            (leaving.destination, leaving.link_bytes),
            (to, bytes.len() - 4),
            "the header is not sent"
        );
        deframer.push(&bytes[4..], |ip| inside.push(inner(ip)));
    }
    assert!(deframer.dropped().all(|(_, count)| count == 0));
    assert!(inside.iter().all(|(destination, _)| *destination == group()));
    assert_eq!(inside.len() as u64, air.stats().packets, "the last frame is flushed");
    let stats = line.stats(&air);
    let link_bytes: usize = sent.iter().map(|(_, leaving, _)| leaving.link_bytes).sum();
    assert_eq!((stats.packets, stats.packet), (sent.len() as u64, "baseband frames"));
    assert_eq!((stats.link_bytes, stats.sent), (link_bytes as u64, 1));
}

#[test]
fn a_line_ends_behind_its_last_frame_and_not_before() {
    let config = config(&format!("[multiplex]\ncarry = \"gse\"\n{CARRIER}"));
    let (mut line, mut air) = (Line::open(&config, true, true, WALL).unwrap(), air());
    let sent = run(&mut line, &mut air);
    assert_eq!(sent[0].2[..2], [0x72, 0], "no mode adaptation header, single stream");
    let Line::Frames(frames) = &mut line else { panic!("frames") };
    frames.ready.push_back(vec![1]);
    assert!(air.is_over() && !line.is_over(&air) && !line.cycle_done(&air));
}

#[test]
fn a_code_rate_that_dvb_s2_does_not_have_is_refused() {
    let config = config(&format!("[multiplex]\ncarry = \"gse\"\n{}", CARRIER.replace("3/4", "7/10")));
    let why = Line::open(&config, true, true, WALL).unwrap_err();
    assert_eq!(why, "[multiplex]: DVB-S2 has no code rate 7/10");
}

#[test]
fn packets_of_other_senders_go_first_and_those_that_do_not_fit_are_counted() {
    let config = config(&format!("[multiplex]\ncarry = \"gse\"\n{CARRIER}"));
    let (mut line, mut air) = (Line::open(&config, true, true, WALL).unwrap(), air());
    let Line::Frames(frames) = &mut line else { panic!("frames") };
    let [source, to] = ["198.51.100.1:4000", "239.5.5.5:5555"].map(|it| it.parse().unwrap());
    // A PDU of GSE has 65,527 bytes at most, IP and UDP headers included.
    frames.forward.push(source, to, &vec![1; 65_507]);
    frames.forward.push(source, to, b"first");
    let sent = run(&mut line, &mut air);
    let (mut deframer, mut inside) = (Deframer::default(), Vec::new());
    for (_, _, bytes) in &sent {
        deframer.push(bytes, |ip| inside.push(ip.to_vec()));
    }
    let first = parse_ip(&inside[0]).unwrap().udp().unwrap();
    assert_eq!((first.source, first.destination, first.payload), (source, to, &b"first"[..]));
    assert_eq!(line.stats(&air).forwarded, (1, 1));
    assert_eq!(inside.len() as u64, air.stats().packets + 1);
}

#[test]
fn a_group_that_others_fill_leaves_room_for_the_rest() {
    let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut groups = Groups::join(&[any, any], "").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = groups.addresses();
    for (at, address) in addresses.iter().enumerate() {
        for number in 0..40_u8 {
            sender.send_to(&[at as u8, number], address).unwrap();
        }
    }
    let mut forward = Forward::default();
    let mut read = |groups: &mut Groups| {
        groups.read(&mut forward).unwrap();
        let taken: Vec<Vec<u8>> = std::iter::from_fn(|| forward.take()).collect();
        let of = |at: u8| taken.iter().filter(|packet| packet[28] == at).count();
        assert!(taken.iter().all(|packet| packet[12..16] == [127, 0, 0, 1]));
        (of(0), of(1))
    };
    assert_eq!([read(&mut groups), read(&mut groups), read(&mut groups)], [(32, 32), (8, 8), (0, 0)]);
}

#[test]
fn a_group_that_cannot_be_joined_is_named() {
    let group = SocketAddr::from(([203, 0, 113, 7], 5000));
    let why = Groups::join(&[group], "").unwrap_err();
    assert!(why.starts_with("[multiplex] forward: 203.0.113.7:5000: "), "{why}");
}

#[test]
fn a_carousel_of_modules_counts_modules_and_ends_when_it_is_closed() {
    let config = config("[multiplex]\ncarry = \"object-carousel\"");
    let mut line = Line::open(&config, false, true, WALL).unwrap();
    assert_eq!(line.where_to(&config), "object carousel to udp://239.10.0.1:5004");
    let mut air = air();
    let (mut out, mut now_ns) = (Vec::new(), 0);
    while now_ns < 1_000_000_000 {
        let leaving = line.next(now_ns, WALL, &mut air, &mut out).unwrap().unwrap();
        now_ns += leaving.link_bytes as u64 * BYTE_NS;
    }
    let stats = line.stats(&air);
    let (sent, all) = line.progress(&air);
    assert!(sent == all && all >= 2 && stats.sent > 2, "{sent} of {all}, {stats:?}");
    assert_eq!((stats.unit, line.is_over(&air), line.cycle_done(&air)), ("modules", false, false));
    line.close();
    let rest = run(&mut line, &mut air);
    assert!(rest.len() < 20 && line.is_over(&air), "{}", rest.len());
}

#[test]
fn counters_as_a_line_of_text() {
    let stats = LineStats {
        on_air: 3,
        packets: 1000,
        stuffing: 125,
        link_bytes: 1_000_000,
        sent: 3,
        broken_off: 0,
        live_dropped: LiveDrops::default(),
        bundles: 0,
        forwarded: (0, 0),
        unit: "objects",
        packet: "packets",
    };
    let text = stats.to_text(Duration::from_secs(2));
    assert_eq!(text, "1000 packets (12.5 % stuffing), 3 objects sent with repeats, 4.000 Mbit/s");
    let all = LineStats { stuffing: 0, broken_off: 1, forwarded: (7, 2), ..stats };
    assert_eq!(
        all.to_text(Duration::from_secs(1)),
        "1000 packets, 3 objects sent with repeats, 1 broken off because they changed, 7 packets of others (2 dropped), 8.000 Mbit/s"
    );
}
