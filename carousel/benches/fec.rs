//! `cargo xtask bench fec`: decoding and encoding source blocks, ours beside the bare `raptorq` crate on the same symbols, in turns
//! in one run, for blocks of 1 and 8 MB and a loss of 1, 5 and 10 %; the other codes for one block. All get their symbols ready made.
//! Times are the processor's where Linux says them, so that what else runs on the machine counts less.
//!
//! `--instructions decode|crate-decode|encode|crate-encode|nothing` does one of them a few times with 5 % of 1 MB, for callgrind.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::hint::black_box;
use std::time::Instant;

use carousel::fec::{BlockCode, EncodingId, Oti, SchemeInfo};
use raptorq::{
    EncodingPacket, ObjectTransmissionInformation, PayloadId, SourceBlockDecoder, SourceBlockEncoder,
};

const SYMBOL_BYTES: u16 = 1400;
const ROUNDS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|it| it == "--instructions") {
        instructions(arguments.get(at + 1).map_or("nothing", String::as_str));
        return;
    }
    let rounds = if arguments.iter().any(|it| it == "--test") { 1 } else { ROUNDS };
    println!("source blocks of symbols of {SYMBOL_BYTES} bytes; {rounds} rounds\n");
    println!("{:<44} {:>8} (least–most)  {:>8}", "", "ms", "MB/s");
    for k in [750, 6000] {
        for percent in [1, 5, 10] {
            let case = Case::new(raptorq_oti(k), k, k * percent / 100 + 1);
            let what = format!("{k} symbols, {} lost", case.lost);
            let work: [&dyn Fn() -> f64; 4] =
                [&|| case.decode(), &|| case.crate_decode(), &|| case.encode(), &|| case.crate_encode()];
            let mut times: [Vec<f64>; 4] = Default::default();
            for _ in 0..rounds {
                for (times, work) in times.iter_mut().zip(work) {
                    times.push(work());
                }
            }
            let names = ["decode", "decode, raptorq crate", "encode", "encode, raptorq crate"];
            for (name, times) in names.iter().zip(&mut times) {
                row(&format!("{what}: {name}"), times, case.block.len());
            }
            let [ours, theirs, encode, their_encode] = times.map(|mut times| middle(&mut times));
            println!(
                "  decodes at {:.2} times the crate's speed, encodes at {:.2} times",
                theirs / ours,
                their_encode / encode
            );
        }
    }
    for (name, oti, k) in others() {
        let case = Case::new(oti, k, k / 20 + 1);
        let (mut decode, mut encode) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            decode.push(case.decode());
            encode.push(case.encode());
        }
        row(&format!("{name}, {k} symbols, {} lost: decode", case.lost), &mut decode, case.block.len());
        row(&format!("{name}: encode"), &mut encode, case.block.len());
    }
}

/// One of the works on a block of 1 MB, so often that what comes before counts little.
fn instructions(what: &str) {
    const TIMES: u32 = 8;
    let case = Case::new(raptorq_oti(750), 750, 38);
    let _ = case.decode();
    for _ in 0..TIMES {
        black_box(match what {
            "decode" => case.decode(),
            "crate-decode" => case.crate_decode(),
            "encode" => case.encode(),
            "crate-encode" => case.crate_encode(),
            _ => 0.0,
        });
    }
    // A packet is a source symbol.
    println!("packets {}", TIMES * case.code.k());
}

fn raptorq_oti(k: u32) -> Oti {
    let raptorq = SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 };
    Oti { encoding_id: EncodingId::RAPTORQ, scheme: raptorq, ..base(k) }
}

fn base(k: u32) -> Oti {
    Oti::no_code(u64::from(k) * u64::from(SYMBOL_BYTES), SYMBOL_BYTES, 0)
}

fn others() -> [(&'static str, Oti, u32); 2] {
    let raptor = SchemeInfo::Raptor { source_blocks: 1, sub_blocks: 1, alignment: 4 };
    let rs = SchemeInfo::ReedSolomon { max_n: 240, m: 8, group: 1 };
    [
        ("Raptor", Oti { encoding_id: EncodingId::RAPTOR, scheme: raptor, ..base(750) }, 750),
        // Reed–Solomon takes 255 encoding symbols at most.
        (
            "Reed–Solomon",
            Oti { encoding_id: EncodingId::RS_GF28, scheme: rs, max_source_block_length: 210, ..base(210) },
            210,
        ),
    ]
}

/// A block, what of it has arrived, and its repair symbols.
struct Case {
    code: BlockCode,
    block: Vec<u8>,
    lost: u32,
    have: Vec<(u32, Vec<u8>)>,
}

impl Case {
    fn new(oti: Oti, k: u32, lost: u32) -> Self {
        let code = BlockCode::new(&oti, k).expect("a code");
        let block: Vec<u8> =
            (0..k * u32::from(SYMBOL_BYTES)).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let mut encoder = code.encoder(&block);
        let is_lost = |esi: u32| (esi + 1) * lost / k > esi * lost / k;
        let source = (0..k).zip(block.chunks(usize::from(SYMBOL_BYTES)).map(<[u8]>::to_vec));
        let mut have: Vec<(u32, Vec<u8>)> = source.filter(|(esi, _)| !is_lost(*esi)).collect();
        let repair = (k..k + lost + code.surplus()).filter_map(|esi| Some((esi, encoder.repair(esi)?)));
        have.extend(repair);
        Self { code, block, lost, have }
    }

    fn decode(&self) -> f64 {
        let have = self.have.clone();
        let (seconds, restored) = timed(|| self.code.decode(have).expect("enough symbols"));
        assert_eq!(restored.len(), self.lost as usize);
        assert!(restored.iter().all(|(esi, symbol)| {
            self.block[*esi as usize * usize::from(SYMBOL_BYTES)..].starts_with(symbol)
        }));
        seconds
    }

    fn oti(&self) -> ObjectTransmissionInformation {
        ObjectTransmissionInformation::new(self.block.len() as u64, SYMBOL_BYTES, 1, 1, 4)
    }

    fn crate_decode(&self) -> f64 {
        let packet =
            |(esi, symbol): &(u32, Vec<u8>)| EncodingPacket::new(PayloadId::new(0, *esi), symbol.clone());
        let packets: Vec<EncodingPacket> = self.have.iter().map(packet).collect();
        let (seconds, block) =
            timed(|| SourceBlockDecoder::new(0, &self.oti(), self.block.len() as u64).decode(packets));
        assert_eq!(block.expect("enough symbols"), self.block);
        seconds
    }

    /// As many repair symbols as are lost, and the surplus.
    fn encode(&self) -> f64 {
        let k = self.code.k();
        let repair = k..k + self.lost + self.code.surplus();
        timed(|| {
            let mut encoder = self.code.encoder(&self.block);
            repair.map(|esi| encoder.repair(esi)).collect::<Vec<_>>()
        })
        .0
    }

    fn crate_encode(&self) -> f64 {
        timed(|| {
            let encoder = SourceBlockEncoder::new(0, &self.oti(), &self.block);
            encoder.repair_packets(0, self.lost + self.code.surplus())
        })
        .0
    }
}

/// Seconds of `work`: the thread's on the processor, or by the clock.
fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let on_cpu_ns = || -> Option<u64> {
        // The kernel brings the figure up to date when the thread is scheduled.
        std::thread::yield_now();
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    };
    let (begin, before) = (Instant::now(), on_cpu_ns());
    let result = black_box(work());
    let (elapsed, after) = (begin.elapsed().as_secs_f64(), on_cpu_ns());
    let seconds = before.zip(after).map_or(elapsed, |(before, after)| (after - before) as f64 / 1e9);
    (seconds, result)
}

fn middle(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn row(name: &str, seconds: &mut [f64], bytes: usize) {
    let median = middle(seconds);
    let (least, most) = (seconds[0] * 1e3, seconds[seconds.len() - 1] * 1e3);
    println!("{name:<44} {:>8.2} ({least:.2}–{most:.2})  {:>8.1}", median * 1e3, bytes as f64 / 1e6 / median);
}
