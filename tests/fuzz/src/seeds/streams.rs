//! Seeds of transport streams, sections, carousels and frames.

use carousel::bytes::WireError;
use carousel::dsmcc::profile::Carried;
use carousel::dsmcc::signed::write_sections;
use carousel::dsmcc::{Builder, Profile, Shape};
use carousel::gse::{Encapsulator, FrameProfile};
use carousel::ip::write_udp;
use carousel::mpe;
use carousel::ts::psi::{
    Int, Nit, Oui, Pat, Pmt, SatelliteDelivery, Sdt, Service, Stream, UpdateLink, write_tdt,
};
use carousel::ts::rtp::write_header;
use carousel::ts::{PACKET_BYTES, Packetizer, Pid};

use crate::input;
use crate::targets::START;

type Section = Vec<u8>;

fn udp(bytes: usize) -> Vec<u8> {
    let address = |text: &str| text.parse().unwrap_or_else(|_| unreachable!("an address"));
    let mut packet = Vec::new();
    write_udp(&mut packet, address("10.0.0.1:5000"), address("239.0.0.1:6000"), 5, &vec![7; bytes]);
    packet
}

/// Tables of one programme with a carousel at PID 0x100 and IP at 0x101.
fn tables() -> Vec<Section> {
    // With a system software update for receivers of one maker.
    let carousel = vec![
        0x52, 1, 0x0b, 0x66, 10, 0x00, 0x0a, 7, 0x00, 0x15, 0x0a, 0xf1, 0xe3, 1, 9, 0x13, 5, 0, 0, 0, 1, 0,
    ];
    let ip = vec![0x52, 1, 0x0c, 0x66, 2, 0x00, 0x05];
    let stream = |pid: u16, descriptors| Stream { stream_type: 0x0b, pid: Pid::new(pid), descriptors };
    let mut out = vec![Vec::new(); 6];
    let pat = Pat { transport_stream_id: 1, programs: vec![(1, Pid::new(0x30))] };
    let pmt =
        Pmt { service_id: 1, pcr_pid: Pid::NULL, streams: vec![stream(0x100, carousel), stream(0x101, ip)] };
    let service = Service { service_id: 1, provider: "p".to_owned(), name: "n".to_owned() };
    let sdt = Sdt { transport_stream_id: 1, original_network_id: 1, services: vec![service] };
    let nit = Nit {
        network_id: 1,
        name: "net".to_owned(),
        transport_stream_id: 1,
        original_network_id: 1,
        services: vec![1],
        delivery: SatelliteDelivery::read(&[
            0x01, 0x17, 0x25, 0x00, 0x01, 0x92, 0xa1, 0x02, 0x75, 0x00, 0x03,
        ])
        .ok(),
        ip_platform: Some((1, 1)),
        updates: vec![UpdateLink { location: [1, 1, 1], makers: vec![(Oui::DVB, vec![7])] }],
    };
    let int = Int {
        platform_id: 1,
        platform_name: "ip".to_owned(),
        targets: vec![[239, 0, 0, 1].into()],
        location: [1, 1, 1, 1],
        component_tag: 0x0c,
    };
    let _ = pat.write(&mut out[0], 0);
    let _ = pmt.write(&mut out[1], 0);
    let _ = sdt.write(&mut out[2], 0);
    let _ = nit.write(&mut out[3], 0);
    let _ = int.write(&mut out[4], 0);
    write_tdt(&mut out[5], START);
    out
}

/// The messages of a carousel, whole, in the order in which they are sent.
fn carousel(shape: Shape) -> Vec<Section> {
    let profile = Profile { shape, block_bytes: 200, module_bytes: 600, ..Profile::default() };
    let mut builder = Builder::new(profile);
    for (name, length, is_text) in
        [("http://h/a/one", 300, false), ("http://h/a/two", 500, true), ("http://h/long", 900, false)]
    {
        let carried = Carried {
            uri: name.to_owned(),
            content_type: Some("text/plain".to_owned()),
            digest: carousel::Digest::of(&vec![7; length]),
            max_age_s: Some(60),
            length: length as u64,
            is_text,
            lane: 0,
        };
        let _ = builder.add(carried);
    }
    let read = |_: u64, _: u64, out: &mut [u8]| {
        out.fill(7);
        Ok::<_, WireError>(())
    };
    let _ = builder.commit(read);
    let list = builder.signed_list().map(|it| it.to_bytes()).unwrap_or_default();
    let mut sections = write_sections(&list).unwrap_or_default();
    sections.push(Vec::new());
    if let Some(initiate) = sections.last_mut() {
        let _ = builder.write_initiate(initiate);
    }
    for group in builder.infos() {
        let mut out = Vec::new();
        let _ = builder.write_info(group, &mut out);
        sections.push(out);
    }
    for module in builder.modules() {
        let mut reader = read;
        let Ok(Some(reading)) = builder.read_module(module.id, &mut reader) else { continue };
        for number in 0..module.blocks {
            let mut out = Vec::new();
            let _ = builder.write_block::<WireError>(&reading, number as u16, &mut out, read);
            sections.push(out);
        }
    }
    sections.retain(|it| !it.is_empty());
    sections
}

fn packets(sections: &[(u16, &[Section])]) -> Vec<u8> {
    let mut out = Vec::new();
    for &(pid, sections) in sections {
        let mut packetizer = Packetizer::new(Pid::new(pid));
        for section in sections {
            packetizer.push(section);
        }
        let mut packet = [0; PACKET_BYTES];
        while packetizer.next(&mut packet, true) {
            out.extend_from_slice(&packet);
        }
    }
    out
}

fn stream() -> Vec<u8> {
    let (tables, carousel) = (tables(), carousel(Shape::Object));
    let mut ip = Vec::new();
    let _ = mpe::write(&mut ip, &udp(60));
    packets(&[
        (0, &tables[..1]),
        (0x30, &tables[1..2]),
        (0x11, &tables[2..3]),
        (0x10, &tables[3..4]),
        (0x100, &carousel),
        (0x101, &[ip]),
    ])
}

fn gse() -> Vec<Vec<u8>> {
    let profile = FrameProfile { data_bytes: 200, isi: Some(1), roll_off: 2 };
    let (mut encapsulator, mut frames) = (Encapsulator::new(profile), Vec::new());
    for bytes in [40, 300, 60] {
        let _ = encapsulator.push(&udp(bytes), |frame| frames.push(frame.to_vec()));
    }
    encapsulator.flush(|frame| frames.push(frame.to_vec()));
    frames
}

pub(crate) fn transport_stream() -> Vec<Vec<u8>> {
    let stream = stream();
    let datagrams: Vec<&[u8]> = stream.chunks(7 * PACKET_BYTES).collect();
    let rtp = datagrams.iter().enumerate().map(|(at, payload)| {
        let mut out = Vec::new();
        write_header(&mut out, at as u16, at as u32, 1);
        out.extend_from_slice(payload);
        out
    });
    let with = |first: u8, records: Vec<u8>| [vec![first], records].concat();
    vec![
        with(0, input::records(0, &datagrams)),
        with(0, input::records(0, stream.chunks(1000))),
        with(0, input::records(0, rtp)),
        with(1, input::records(0, gse())),
        with(0, input::records(0, gse())),
    ]
}

pub(crate) fn sections() -> Vec<Vec<u8>> {
    let mut sections = tables();
    sections.extend(carousel(Shape::Object).into_iter().take(4));
    sections.extend(carousel(Shape::Data).into_iter().take(3));
    let mut ip = Vec::new();
    let _ = mpe::write(&mut ip, &udp(60));
    sections.push(ip);
    // Without the CRC_32, which the target adds.
    let bare = sections.iter().map(|it| it[..it.len().saturating_sub(4)].to_vec()).collect::<Vec<_>>();
    sections.extend(bare);
    sections
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    vec![input::records(0, gse()), input::records(0, gse().iter().rev())]
}

pub(crate) fn dsm_cc() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for shape in [Shape::Object, Shape::Data] {
        let bare: Vec<Section> =
            carousel(shape).iter().map(|it| it[..it.len().saturating_sub(4)].to_vec()).collect();
        seeds.push(input::records(0, &bare));
        seeds.push(input::records(0, bare.iter().rev()));
        let mut twice = input::records(4, &bare);
        input::add(&mut twice, 2, &[]);
        twice.extend(input::records(0, &bare));
        seeds.push(twice);
    }
    seeds
}

/// Whole streams in datagrams; their sections one by one; what is lost comes again.
pub(crate) fn stream_feed() -> Vec<Vec<u8>> {
    let stream = stream();
    let bare = |sections: &[Section]| -> Vec<Section> {
        sections.iter().map(|it| it[..it.len().saturating_sub(4)].to_vec()).collect()
    };
    let tables = bare(&tables());
    let of_pid = |pid: u16, section: &Section| [pid.to_be_bytes().as_slice(), section.as_slice()].concat();
    let mut seeds = vec![vec![0], vec![1]];
    seeds[0].extend(input::records(0, stream.chunks(7 * PACKET_BYTES)));
    seeds[1].extend(input::records(0, gse()));
    for shape in [Shape::Object, Shape::Data] {
        let mut seed = vec![0];
        for (pid, section) in [(0, &tables[0]), (0x30, &tables[1]), (0x11, &tables[2])] {
            input::add(&mut seed, 1, &of_pid(pid, section));
        }
        for round in 0..2 {
            for section in bare(&carousel(shape)) {
                input::add(&mut seed, 1, &of_pid(0x100, &section));
            }
            input::add(&mut seed, 2, &[]);
            // Everything is purged, and comes again.
            input::add(&mut seed, if round == 0 { 4 } else { 5 }, &[]);
            input::add(&mut seed, 2, &[]);
        }
        seeds.push(seed);
    }
    seeds
}

pub(crate) fn sat_ip() -> Vec<Vec<u8>> {
    let answers = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: 0a1b;timeout=30\r\ncom.ses.streamID: 3\r\n\
        Transport: RTP/AVP;unicast;source=192.0.2.1;client_port=5000-5001\r\n\r\n\
        $\0\0\x04abcd\r\nRTSP/1.0 403 Forbidden\r\nOut-of-Range: freq, pol\r\nContent-Length: 4\r\n\r\nmore\
        RTSP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let text = "ver=1.0;src=1;tuner=1,240,1,7,12402.00,v,dvbs2,8psk,on,0.35,27500,34;pids=0,16";
    let mut report = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
    let words = (16 + text.len()).div_ceil(4);
    report.extend([0x80, 204, 0, words as u8 - 1, 0, 0, 0, 1]);
    report.extend(b"SES1\0\0");
    report.extend([0, text.len() as u8]);
    report.extend(text.as_bytes());
    report.resize(8 + words * 4, 0);
    vec![[&[0], answers.as_bytes()].concat(), [&[1], report.as_slice()].concat()]
}
