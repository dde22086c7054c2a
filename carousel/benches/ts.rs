//! `cargo xtask bench ts`: making a carousel's transport stream, and taking it apart again, in memory.
//!
//! - *build*: bytes of objects to DDB sections to packets, as the headend does for every block.
//! - *demultiplex*: packets to checked sections, all PIDs counted; *receive*: the same, and modules put together.
//! - *floor*: a copy of the same bytes, and the CRC_32 alone, which each direction must pay once.
//!
//! `--instructions build|demux|receive|nothing` does one of them a few times, for callgrind; `cargo xtask bench ts` runs that too
//! where valgrind is installed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::hint::black_box;
use std::time::Instant;

use carousel::bytes::WireError;
use carousel::dsmcc::delivery::{Event, InMemory};
use carousel::dsmcc::profile::{Carried, Profile};
use carousel::dsmcc::{Builder, Receiver};
use carousel::ts::section::crc32;
use carousel::ts::{Demux, PACKET_BYTES, Packetizer, Pid};

const OBJECTS: u64 = 20;
const OBJECT_BYTES: u64 = 1_500_000;
const ROUNDS: usize = 15;
const PID: Pid = Pid::new(0x200);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let body: Vec<u8> =
        (0..OBJECT_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let builder = carousel();
    let mut stream = Vec::new();
    build(&builder, &body, &mut stream);
    let packets = stream.len() / PACKET_BYTES;
    if let Some(at) = arguments.iter().position(|it| it == "--instructions") {
        let what = arguments.get(at + 1).map(String::as_str);
        for _ in 0..4 {
            match what {
                Some("build") => {
                    stream.clear();
                    build(&builder, &body, &mut stream);
                }
                Some("demux") => {
                    black_box(demultiplex(&stream));
                }
                Some("receive") => {
                    black_box(receive(&stream));
                }
                // What comes before, to be taken off.
                _ => {}
            }
        }
        println!("packets {}", packets * 4);
        return;
    }
    let rounds = if arguments.iter().any(|it| it == "--test") { 1 } else { ROUNDS };
    println!(
        "{OBJECTS} objects of {OBJECT_BYTES} bytes: {packets} packets, {:.1} MB of transport stream; {rounds} rounds\n",
        stream.len() as f64 / 1e6
    );
    println!("{:<34} {:>7} (least–most)  {:>8}", "", "GB/s", "ns a packet");
    let mut copy = vec![0; stream.len()];
    let mut out = Vec::with_capacity(stream.len());
    let mut times: [Vec<f64>; 5] = Default::default();
    let timed = |times: &mut Vec<f64>, work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        times.push(begin.elapsed().as_secs_f64());
    };
    // In turns, so that what the machine does meanwhile hits all alike.
    for _ in 0..rounds {
        timed(&mut times[0], &mut || black_box(&mut copy).copy_from_slice(black_box(&stream)));
        timed(&mut times[1], &mut || {
            for section in stream.chunks(4096) {
                black_box(crc32(black_box(section)));
            }
        });
        timed(&mut times[2], &mut || {
            out.clear();
            build(&builder, &body, &mut out);
        });
        timed(&mut times[3], &mut || {
            black_box(demultiplex(&stream));
        });
        timed(&mut times[4], &mut || assert_eq!(receive(&stream), OBJECTS as usize));
    }
    let names = ["floor: copy", "floor: CRC_32 alone", "build", "demultiplex", "receive a carousel"];
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let rate = |seconds: f64| stream.len() as f64 / seconds / 1e9;
        let middle = times[times.len() / 2];
        println!(
            "{name:<34} {:>7.2} ({:.2}–{:.2})  {:>8.1}",
            rate(middle),
            rate(times[times.len() - 1]),
            rate(times[0]),
            middle * 1e9 / packets as f64
        );
    }
}

fn carousel() -> Builder {
    let mut builder = Builder::new(Profile::default());
    for number in 0..OBJECTS {
        let carried = Carried {
            uri: format!("https://cdn.example.com/vod/{number}.m4s"),
            content_type: Some("video/mp4".to_owned()),
            digest: carousel::Digest([number as u8; 32]),
            max_age_s: None,
            length: OBJECT_BYTES,
            is_text: false,
            lane: 0,
        };
        builder.add(carried).expect("room");
    }
    builder.commit(|_, _, _| Ok::<_, WireError>(())).expect("nothing is read");
    builder
}

/// One pass as packets.
fn build(builder: &Builder, body: &[u8], out: &mut Vec<u8>) {
    let mut packetizer = Packetizer::new(PID);
    let read = |_: u64, offset: u64, out: &mut [u8]| {
        out.copy_from_slice(&body[offset as usize..offset as usize + out.len()]);
        Ok::<_, WireError>(())
    };
    let mut packet = [0; PACKET_BYTES];
    packetizer.push_with(|out| builder.write_initiate(out)).expect("a DSI");
    for group in builder.infos() {
        packetizer.push_with(|out| builder.write_info(group, out)).expect("a DII");
    }
    for module in builder.modules() {
        let reading =
            builder.read_module::<WireError>(module.id, &mut { read }).expect("bytes").expect("a module");
        for number in 0..module.blocks {
            packetizer
                .push_with(|out| builder.write_block(&reading, number as u16, out, read))
                .expect("a block");
            while packetizer.next(&mut packet, false) {
                out.extend_from_slice(&packet);
            }
        }
    }
    while packetizer.next(&mut packet, true) {
        out.extend_from_slice(&packet);
    }
}

fn demultiplex(stream: &[u8]) -> usize {
    let mut demux = Demux::default();
    demux.open(PID);
    let mut sections = 0;
    for packet in stream.as_chunks::<PACKET_BYTES>().0 {
        demux.push(packet, |_, section| sections += usize::from(section.is_ok()));
    }
    sections
}

fn receive(stream: &[u8]) -> usize {
    let mut demux = Demux::default();
    demux.open(PID);
    let mut receiver = Receiver::<InMemory>::default();
    let mut files = 0;
    for packet in stream.as_chunks::<PACKET_BYTES>().0 {
        demux.push(packet, |_, section| {
            if let Ok(section) = section {
                receiver.section(&section, &mut InMemory);
            }
        });
        while let Some(event) = receiver.poll_event() {
            files += usize::from(matches!(event, Event::File(_)));
        }
    }
    files
}
