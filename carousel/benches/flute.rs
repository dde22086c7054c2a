//! `cargo xtask bench flute`: packets of a FLUTE session into memory that has been touched before, beside the least that anybody must do
//! with them; and the same packets again, which change nothing. In turns, so that what the machine does meanwhile hits all alike.
//!
//! `--instructions bare|carousel|bare-repeats|repeats|nothing` does one of them a few times, for callgrind.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant as Clock;

use carousel::alc::Template;
use carousel::flute::{
    Event, File, OpenRequest, Receiver, ReceiverConfig, Refusal, SendFile, Sender, SenderProfile, Storage,
};
use carousel::lct::Tsi;
use carousel::time::{Instant, WallTime};

const SYMBOL_BYTES: usize = 1400;
const OBJECT_BYTES: usize = 1 << 20;
const ROUNDS: usize = 21;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|it| it == "--instructions") {
        instructions(arguments.get(at + 1).map_or("nothing", String::as_str));
        return;
    }
    let (objects, rounds) = if arguments.iter().any(|it| it == "--test") { (2, 1) } else { (32, ROUNDS) };
    let stream = Stream::new(objects);
    println!(
        "{} packets of {SYMBOL_BYTES} bytes, {objects} objects of 1 MiB; {rounds} rounds\n",
        stream.ends.len()
    );
    println!("{:<34} {:>9} (least–most)  {:>7}", "", "ns/packet", "ratio");
    let mut times: [Vec<f64>; 4] = Default::default();
    let (mut bare, mut ours) = (Bare::new(&stream), Ours::new(&stream));
    for _ in 0..rounds {
        bare.forget();
        ours.forget();
        let timed = |times: &mut Vec<f64>, work: &mut dyn FnMut()| {
            let (begin, before) = (Clock::now(), on_cpu_ns());
            work();
            let (elapsed_ns, after) = (begin.elapsed().as_secs_f64() * 1e9, on_cpu_ns());
            let ns = before.zip(after).map_or(elapsed_ns, |(before, after)| (after - before) as f64);
            times.push(ns / stream.ends.len() as f64);
        };
        timed(&mut times[0], &mut || stream.each(|packet| bare.packet(packet)));
        timed(&mut times[1], &mut || stream.each(|packet| ours.packet(packet)));
        assert_eq!(ours.whole, objects);
        timed(&mut times[2], &mut || stream.each(|packet| bare.packet(packet)));
        timed(&mut times[3], &mut || stream.each(|packet| ours.packet(packet)));
    }
    let names =
        ["bare: header, bitmap, copy", "carousel", "bare repeats: header, bitmap", "carousel repeats"];
    let mut floor = 1.0;
    for (at, (name, times)) in names.iter().zip(&mut times).enumerate() {
        times.sort_by(f64::total_cmp);
        let middle = times[times.len() / 2];
        if at % 2 == 0 {
            floor = middle;
        }
        println!(
            "{name:<34} {middle:>9.1} ({:.1}–{:.1})  {:>7.2}",
            times[0],
            times[times.len() - 1],
            middle / floor
        );
    }
}

/// The thread's time on the processor, where Linux says it: what else runs on the machine counts less.
fn on_cpu_ns() -> Option<u64> {
    // The kernel brings the figure up to date when the thread is scheduled.
    std::thread::yield_now();
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

fn instructions(what: &str) {
    const PASSES: usize = 8;
    let stream = Stream::new(4);
    let (mut bare, mut ours) = (Bare::new(&stream), Ours::new(&stream));
    // Once, so that tables have their size.
    stream.each(|packet| bare.packet(packet));
    stream.each(|packet| ours.packet(packet));
    for _ in 0..PASSES {
        match what {
            "bare" => {
                bare.forget();
                stream.each(|packet| bare.packet(packet));
            }
            "carousel" => {
                ours.forget();
                stream.each(|packet| ours.packet(packet));
                assert_eq!(ours.whole, 4);
            }
            "bare-repeats" => stream.each(|packet| bare.packet(packet)),
            "repeats" => stream.each(|packet| ours.packet(packet)),
            // What comes before, to be taken off.
            _ => {}
        }
    }
    black_box((&bare.memory, ours.whole));
    println!("packets {}", stream.ends.len() * PASSES);
}

/// The packets of a session.
struct Stream {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    objects: usize,
}

impl Stream {
    fn new(objects: usize) -> Self {
        let profile = SenderProfile { symbol_length: SYMBOL_BYTES as u16, ..SenderProfile::default() };
        let mut sender = Sender::new(Tsi(10), profile, 1, 1);
        let body: Vec<u8> = (0..OBJECT_BYTES).map(|at| (at * 31 + (at >> 9)) as u8).collect();
        let file = |at: usize| SendFile::of(format!("http://cdn.example.com/{at}.m4s"), &body);
        let tois: Vec<_> = (0..objects).map(|at| sender.add(file(at)).expect("fits")).collect();
        sender.refresh_fdt(WallTime::from_unix_ms(1_900_000_000_000)).expect("FDT");
        let mut stream = Self { bytes: Vec::new(), ends: Vec::new(), objects };
        let mut out = Vec::new();
        let mut described = None;
        for toi in tois {
            let page = sender.page_of(toi).expect("described");
            if described.replace(page) != Some(page) {
                for packet in 0..sender.fdt_packets(page) {
                    assert!(sender.write_fdt(page, packet, &mut out));
                    stream.push(&out);
                }
            }
            for (symbol, bytes) in body.chunks(SYMBOL_BYTES).enumerate() {
                assert!(sender.write_packet(toi, symbol as u64, bytes, false, &mut out));
                stream.push(&out);
            }
        }
        stream
    }

    fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.ends.push(self.bytes.len());
    }

    #[inline]
    fn each(&self, mut take: impl FnMut(&[u8])) {
        let mut start = 0;
        for &end in &self.ends {
            take(black_box(&self.bytes[start..end]));
            start = end;
        }
    }
}

/// The least that anybody must do: find TOI and symbol in a header of known form, mark the symbol, copy it. It checks nothing that could
/// be otherwise than here.
struct Bare {
    memory: Vec<Vec<u8>>,
    seen: Vec<u64>,
    symbols: usize,
}

/// Offset of the TOI with 32-bit CCI, TSI and TOI.
const TOI_AT: usize = 12;
/// LCT header, EXT_FTI.
const HEADER_BYTES: usize = 32;

impl Bare {
    fn new(stream: &Stream) -> Self {
        let symbols = OBJECT_BYTES.div_ceil(SYMBOL_BYTES);
        let memory = (0..stream.objects).map(|_| vec![1; OBJECT_BYTES]).collect();
        Self { memory, seen: vec![0; (stream.objects * symbols).div_ceil(64)], symbols }
    }

    fn forget(&mut self) {
        self.seen.fill(0);
    }

    #[inline]
    fn packet(&mut self, packet: &[u8]) {
        let toi = u32::from_be_bytes(packet[TOI_AT..TOI_AT + 4].try_into().expect("header")) as usize;
        if toi == 0 {
            return;
        }
        let payload = &packet[HEADER_BYTES + 4..];
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
        self.memory[toi - 1][at..at + payload.len()].copy_from_slice(payload);
    }
}

/// The state machine with objects in memory that has been touched before.
struct Ours {
    template: Template,
    receiver: Receiver<Vec<u8>>,
    shelf: Warm,
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

impl Ours {
    fn new(stream: &Stream) -> Self {
        let memory = (0..stream.objects).map(|_| vec![1; OBJECT_BYTES]).collect();
        let receiver = Receiver::new(ReceiverConfig::default());
        Self { template: Template::default(), receiver, shelf: Warm(memory), whole: 0 }
    }

    fn forget(&mut self) {
        self.receiver = Receiver::new(ReceiverConfig::default());
        self.whole = 0;
    }

    #[inline]
    fn packet(&mut self, packet: &[u8]) {
        let now = Instant::from_nanos(1);
        let Ok(parsed) = self.template.parse(packet) else { return };
        self.receiver.handle_packet(now, None, &parsed, packet, &mut self.shelf);
        while let Some(event) = self.receiver.poll_event() {
            if let Event::Complete { buf, .. } = event {
                self.whole += 1;
                self.shelf.0.push(buf);
            }
        }
    }
}
