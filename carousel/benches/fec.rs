//! `cargo xtask bench fec`: decoding one source block at 5 % loss, ours beside the bare `raptorq` crate on the same
//! symbols, in turns in one run; and what encoding costs. Both get their symbols ready made.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::time::Instant;

use carousel::fec::{BlockCode, EncodingId, Oti, SchemeInfo};
use raptorq::{EncodingPacket, ObjectTransmissionInformation, PayloadId, SourceBlockDecoder};

const K: u32 = 750;
const SYMBOL_BYTES: u16 = 1400;
const ROUNDS: usize = 15;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let rounds = if quick { 1 } else { ROUNDS };
    let block: Vec<u8> =
        (0..K * u32::from(SYMBOL_BYTES)).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    println!("a source block of {K} symbols of {SYMBOL_BYTES} bytes, 38 of them lost; {rounds} rounds\n");
    println!("{:<28} {:>9} (least–most)  {:>8}", "", "ms", "MB/s");
    let mut bare = Vec::new();
    for (name, oti) in codes() {
        let code = BlockCode::new(&oti, k_of(&oti)).expect("a code");
        let own = &block[..code.k() as usize * usize::from(SYMBOL_BYTES)];
        let begin = Instant::now();
        let mut encoder = code.encoder(own);
        let lost = code.k() / 20 + 1;
        let repair: Vec<(u32, Vec<u8>)> = (code.k()..code.k() + lost + code.surplus())
            .filter_map(|esi| Some((esi, encoder.repair(esi)?)))
            .collect();
        let encoded = begin.elapsed().as_secs_f64();
        // Every twentieth is lost.
        let mut have: Vec<(u32, &[u8])> =
            (0..).zip(own.chunks(usize::from(SYMBOL_BYTES))).filter(|(esi, _)| esi % 20 != 7).collect();
        have.extend(repair.iter().map(|(esi, symbol)| (*esi, symbol.as_slice())));
        let mut ours = Vec::new();
        for _ in 0..rounds {
            if oti.encoding_id == EncodingId::RAPTORQ {
                bare.push(bare_raptorq(&have, own.len() as u64));
            }
            let symbols = have.iter().map(|(esi, symbol)| (*esi, symbol.to_vec())).collect();
            let begin = Instant::now();
            let recovered = code.decode(symbols).expect("enough symbols");
            ours.push(begin.elapsed().as_secs_f64());
            assert!(recovered.iter().all(|(esi, symbol)| {
                own[*esi as usize * usize::from(SYMBOL_BYTES)..].starts_with(symbol)
            }));
        }
        row(&format!("{name}: decode"), &mut ours, own.len());
        row(&format!("{name}: encode {} symbols", repair.len()), &mut [encoded], own.len());
        if !bare.is_empty() {
            row("bare raptorq crate: decode", &mut bare, own.len());
            println!(
                "  ours is {:.0} % of the bare crate's speed",
                100.0 * middle(&mut bare) / middle(&mut ours)
            );
            bare.clear();
        }
    }
}

fn codes() -> [(&'static str, Oti); 3] {
    let base = Oti::no_code(u64::from(K) * u64::from(SYMBOL_BYTES), SYMBOL_BYTES, 0);
    let raptorq = SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 };
    let raptor = SchemeInfo::Raptor { source_blocks: 1, sub_blocks: 1, alignment: 4 };
    let rs = SchemeInfo::ReedSolomon { max_n: 240, m: 8, group: 1 };
    [
        ("RaptorQ", Oti { encoding_id: EncodingId::RAPTORQ, scheme: raptorq, ..base }),
        ("Raptor", Oti { encoding_id: EncodingId::RAPTOR, scheme: raptor, ..base }),
        (
            "Reed–Solomon (k = 210)",
            Oti { encoding_id: EncodingId::RS_GF28, scheme: rs, max_source_block_length: 210, ..base },
        ),
    ]
}

/// Reed–Solomon takes 255 encoding symbols at most.
fn k_of(oti: &Oti) -> u32 {
    if oti.encoding_id == EncodingId::RS_GF28 { 210 } else { K }
}

fn bare_raptorq(have: &[(u32, &[u8])], length: u64) -> f64 {
    let packets: Vec<EncodingPacket> = have
        .iter()
        .map(|&(esi, symbol)| EncodingPacket::new(PayloadId::new(0, esi), symbol.to_vec()))
        .collect();
    let oti = ObjectTransmissionInformation::new(length, SYMBOL_BYTES, 1, 1, 4);
    let begin = Instant::now();
    let mut decoder = SourceBlockDecoder::new(0, &oti, length);
    assert!(decoder.decode(packets).is_some());
    begin.elapsed().as_secs_f64()
}

fn middle(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn row(name: &str, seconds: &mut [f64], bytes: usize) {
    let median = middle(seconds);
    let (least, most) = (seconds[0] * 1e3, seconds[seconds.len() - 1] * 1e3);
    println!("{name:<28} {:>9.2} ({least:.2}–{most:.2})  {:>8.1}", median * 1e3, bytes as f64 / 1e6 / median);
}
