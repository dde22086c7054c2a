//! ATSC 3.0: a box that knows only the group of low-level signalling finds the services, joins them and serves their objects.
//! Unit tests cover the directory; only this shows that tables, signalling and media of several sockets are combined under the
//! names that players request.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carousel::capture::{write_pcap_frame, write_pcap_header};
use carousel::flute::File;
use carousel::ip::write_ethernet_udp;
use carousel::lct::Toi;
use carousel::route::lls::USBD_TYPE;
use carousel::route::package;
use carousel::route::{Channel, Codepoint, RouteSession, STSID_TYPE, Sender, SourceFlow, Stsid};
use serde_json::Value;
use skycache_tests::Story;
use skycache_tests::client::get;
use skycache_tests::programs::program;

const PATIENCE: Duration = Duration::from_secs(60);
const VIDEO: u64 = 10;
const AUDIO: u64 = 20;
const SEGMENTS: u32 = 3;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn service(id: u32, protocol: u8, address: SocketAddrV4) -> String {
    format!(
        "<Service serviceId=\"{id}\" sltSvcSeqNum=\"0\" serviceCategory=\"1\" majorChannelNo=\"5\" minorChannelNo=\"{id}\" \
         shortServiceName=\"KABC-{id}\"><BroadcastSvcSignaling slsProtocol=\"{protocol}\" slsDestinationIpAddress=\"{}\" \
         slsDestinationUdpPort=\"{}\" slsSourceIpAddress=\"127.0.0.1\"/></Service>",
        address.ip(),
        address.port()
    )
}

fn table(id: u8, version: u8, xml: &str) -> Vec<u8> {
    [&[id, 1, 0, version][..], &gzip(xml.as_bytes())].concat()
}

fn channel(tsi: u64, kind: &str) -> Channel {
    let location = format!("{kind}/init.mp4");
    let init = File { content_location: location, toi: Toi(0xffff_ffff), ..File::default() };
    let source = SourceFlow {
        is_real_time: true,
        template: Some(format!("{kind}/$TOI$.m4s")),
        files: vec![init],
        ..SourceFlow::default()
    };
    Channel { tsi, bandwidth_kbps: Some(500), source: Some(source), ..Channel::default() }
}

fn session(address: SocketAddrV4, channels: Vec<Channel>) -> RouteSession {
    RouteSession {
        group: Some((*address.ip()).into()),
        port: Some(address.port()),
        channels,
        ..RouteSession::default()
    }
}

/// A segment that differs by service, kind and number.
fn segment(service: u32, kind: &str, number: u32) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix".to_vec();
    bytes.extend_from_slice(b"\0\0\0\x08moof");
    bytes.extend_from_slice(&20_008_u32.to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    let seed = service * 7 + number * 13 + kind.len() as u32;
    bytes.extend((0..20_000_u32).map(|at| (at * 31 + seed) as u8));
    bytes
}

fn init(service: u32, kind: &str) -> Vec<u8> {
    format!("\0\0\0\x15ftypisom{service:04}{kind:5}\0\0\0\x08moov").into_bytes()
}

type Packets = Vec<(SocketAddrV4, Vec<u8>)>;

/// The objects of one channel.
fn media(sender: &Sender, service: u32, tsi: u64, kind: &str, to: SocketAddrV4, packets: &mut Packets) {
    let init = init(service, kind);
    let objects =
        (1..=SEGMENTS).map(|number| (number, Codepoint::MEDIA_FILE, segment(service, kind, number)));
    for (toi, codepoint, bytes) in objects.chain([(u32::MAX, 7, init)]) {
        for (at, payload) in bytes.chunks(1_400).enumerate() {
            let (offset, length) = ((at * 1_400) as u64, Some(bytes.len() as u64));
            let mut out = Vec::new();
            sender
                .write_source((tsi, Toi(toi.into())), codepoint, offset, length, payload, &mut out)
                .unwrap();
            packets.push((to, out));
        }
    }
}

/// Signalling and media of a service: its video in the session of its signalling, its sound elsewhere.
fn packets_of(number: u32, main: SocketAddrV4, sound: SocketAddrV4) -> Packets {
    let sessions =
        vec![session(main, vec![channel(VIDEO, "video")]), session(sound, vec![channel(AUDIO, "a")])];
    let stsid = Stsid { sessions, left_out: 0 }.to_xml();
    let usbd = format!(
        "<BundleDescriptionROUTE xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/ROUTEUSD/1.0/\">\
         <UserServiceDescription serviceId=\"{number}\" fullMPDUri=\"live.mpd\" sTSIDUri=\"stsid.xml\"/></BundleDescriptionROUTE>"
    );
    let mpd = format!("<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" id=\"service{number}\"/>");
    let package = gzip(&package::write(&[
        (USBD_TYPE, "usbd.xml", usbd.as_bytes()),
        (STSID_TYPE, "stsid.xml", stsid.as_bytes()),
        ("application/dash+xml", "live.mpd", mpd.as_bytes()),
    ]));
    let sender = Sender::new(1_400);
    let mut packets = Packets::new();
    let toi = Toi((1 << 31) | (0b111 << 16) | 1);
    for (at, payload) in package.chunks(1_400).enumerate() {
        let mut out = Vec::new();
        let (offset, length) = ((at * 1_400) as u64, Some(package.len() as u64));
        sender.write_source((0, toi), Codepoint::PACKAGE, offset, length, payload, &mut out).unwrap();
        packets.push((main, out));
    }
    media(&sender, number, VIDEO, "video", main, &mut packets);
    media(&sender, number, AUDIO, "a", sound, &mut packets);
    packets
}

/// A broadcaster that repeats its input, until it is dropped.
struct Broadcaster {
    packets: Arc<Mutex<Packets>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Broadcaster {
    fn start(packets: Packets) -> Self {
        let packets = Arc::new(Mutex::new(packets));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let socket = UdpSocket::from(socket);
        let (sent, stopped) = (Arc::clone(&packets), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                for (to, packet) in sent.lock().unwrap().clone() {
                    let _ = socket.send_to(&packet, to);
                    std::thread::sleep(Duration::from_micros(500));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { packets, stop, thread: Some(thread) }
    }

    fn send(&self, packets: Packets) {
        *self.packets.lock().unwrap() = packets;
    }
}

impl Drop for Broadcaster {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The channel: two services of ROUTE or one, one of MMTP, one that names a port of the box.
fn channel_of(lls: SocketAddrV4, groups: &[SocketAddrV4; 4], version: u8, services: u32) -> Packets {
    let mut all: Vec<String> =
        (1..=services).map(|it| service(it, 1, groups[2 * (it as usize - 1)])).collect();
    all.push(service(8, 2, SocketAddrV4::new(Ipv4Addr::new(239, 255, 7, 7), 5_000)));
    all.push(service(9, 1, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_080)));
    let slt = format!(
        "<SLT xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/SLT/1.0/\" bsid=\"7\">{}</SLT>",
        all.concat()
    );
    let time = "<SystemTime xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/SYSTIME/1.0/\" currentUtcOffset=\"37\"/>";
    let mut packets = vec![(lls, table(1, version, &slt)), (lls, table(3, 1, time))];
    for it in 1..=services {
        let at = 2 * (it as usize - 1);
        packets.extend(packets_of(it, groups[at], groups[at + 1]));
    }
    packets
}

/// Every object of the services, by its path at the box.
fn objects(services: u32) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for service in 1..=services {
        let mpd = format!("<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" id=\"service{service}\"/>");
        all.insert(format!("/atsc3.gw/7/{service}/live.mpd"), mpd.into_bytes());
        for kind in ["video", "a"] {
            let init = init(service, kind);
            all.insert(format!("/atsc3.gw/7/{service}/{kind}/init.mp4"), init);
            for number in 1..=SEGMENTS {
                let path = format!("/atsc3.gw/7/{service}/{kind}/{number}.m4s");
                all.insert(path, segment(service, kind, number));
            }
        }
    }
    all
}

fn served(story: &Story, path: &str) -> Option<Vec<u8>> {
    get(story.http, path, &[]).ok().filter(|it| it.status == 200 && it.whole).map(|it| it.body)
}

fn groups_of(story: &Story) -> [SocketAddrV4; 4] {
    let media = story.groups[2];
    let ports = [0, 1, 2, 3].map(|it| media.port().wrapping_add(it).max(1_024));
    ports.map(|port| SocketAddrV4::new(*media.ip(), port))
}

#[test]
fn services_are_found_by_low_level_signalling_and_served_until_they_are_listed_no_more() {
    let mut story = Story::new();
    let (lls, groups) = (story.groups[1], groups_of(&story));
    story.drop_in(&format!("[receive]\nlls = \"{lls}\"\n"));
    story.start_daemon();
    let broadcaster = Broadcaster::start(channel_of(lls, &groups, 1, 2));
    let expected = objects(2);
    story.until("every object is served", PATIENCE, |story| {
        expected.iter().all(|(path, bytes)| served(story, path).as_ref() == Some(bytes))
    });
    let status = story.status().unwrap();
    let list = &status["atsc"]["lists"][0];
    let services: Vec<(&str, &Value, &Value)> = list["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), &it["left_out"], &it["manifest"]))
        .collect();
    let url = |number: u32| Value::from(format!("http://atsc3.gw/7/{number}/live.mpd"));
    let (first, second, none) = (url(1), url(2), Value::Null);
    let (mmtp, bad) = (Value::from("mmtp"), Value::from("bad_address"));
    let wanted = [
        ("KABC-1", &none, &first),
        ("KABC-2", &none, &second),
        ("KABC-8", &mmtp, &none),
        ("KABC-9", &bad, &none),
    ];
    assert_eq!(services, wanted, "{status:#}");
    assert_eq!(status["atsc"]["times"][0]["utc_offset_s"], 37);
    assert_eq!(story.metric("atsc_services"), 2);
    assert_eq!(story.metric("atsc_left_out_total{reason=\"mmtp\"}"), 1);
    let text = String::from_utf8(story.skycached("status").output().unwrap().stdout).unwrap();
    assert!(text.contains("5.8 KABC-8 (MMTP), not received: mmtp"), "{text}");

    // The next version of the table has one service less.
    broadcaster.send(channel_of(lls, &groups, 2, 1));
    let is_joined = |story: &Story, port: u16| {
        let status = story.status().unwrap_or_default();
        let all = status["receive"]["groups"].as_array().cloned().unwrap_or_default();
        all.iter().any(|it| it["port"] == port && it["joined"] == true)
    };
    story.until("the groups of the second service are left", PATIENCE, |story| {
        let joined = groups.map(|it| is_joined(story, it.port()));
        joined == [true, true, false, false]
    });
    assert_eq!(story.metric("atsc_services"), 1);
}

#[test]
fn a_recording_with_low_level_signalling_is_replayed_and_inspected() {
    let story = Story::new();
    let lls = SocketAddrV4::new(Ipv4Addr::new(224, 0, 23, 60), 4_937);
    let mut packets = channel_of(lls, &groups_of(&story), 1, 2);
    // Media before signalling: a recording begins anywhere.
    packets.reverse();
    let (mut pcap, source) = (Vec::new(), SocketAddr::from(([10, 0, 0, 1], 5_000)));
    write_pcap_header(&mut pcap);
    for (at, (to, packet)) in packets.iter().enumerate() {
        let mut frame = Vec::new();
        write_ethernet_udp(&mut frame, source, (*to).into(), 1, packet);
        write_pcap_frame(&mut pcap, at as u64 * 1_000_000, &frame);
    }
    let path = story.dir().join("atsc.pcap");
    std::fs::write(&path, pcap).unwrap();
    let json = |command: &mut Command| -> Value {
        let output = command.output().expect("program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let digests = |objects: &Value| -> BTreeMap<String, String> {
        let all = objects.as_array().unwrap().iter();
        let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
        all.map(|it| (text(it, "sha256"), text(it, if it["key"].is_null() { "uri" } else { "key" })))
            .collect()
    };
    let replayed = json(program("skycached").arg("replay").arg(&path));
    let inspected = json(program("headend").arg("inspect").arg(&path).arg("--json"));
    let (by_replay, by_inspect) = (digests(&replayed["objects"]), digests(&inspected["objects"]));
    for (path, bytes) in objects(2) {
        let digest = carousel::Digest::of(&bytes).to_hex();
        assert_eq!(by_replay.get(&digest), Some(&path[1..].to_owned()), "{path}: {replayed:#}");
        assert!(by_inspect.get(&digest).is_some_and(|name| path.ends_with(name.as_str())), "{path}");
    }
    for lists in [&replayed["service_lists"], &inspected["service_lists"]] {
        assert_eq!(lists[0]["services"][1]["manifest"], "http://atsc3.gw/7/2/live.mpd", "{lists:#}");
    }
    let table = Command::output(program("headend").arg("inspect").arg(&path)).unwrap().stdout;
    assert!(String::from_utf8(table).unwrap().contains("not received: mmtp"));
}
