//! The `raptorq` crate as oracle: the same repair symbols, and the same blocks from the same symbols or none.
//!
//! `SKYCACHE_RAPTORQ_BLOCKS` is the number of blocks, 1,000 unless set; `cargo xtask raptorq` runs 100,000.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)] // the number of blocks comes from the door; counts are printed

use std::sync::Arc;

use linksim::Rng;
use raptorq::{
    EncodingPacket, ObjectTransmissionInformation, PayloadId, SourceBlockDecoder, SourceBlockEncoder,
};
use skycache_raptorq::{Encoder, MAX_SYMBOLS, Plan, padded};

fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    (0..count).map(|_| rng.below(256) as u8).collect()
}

/// One block through both. Gives whether it was decoded.
fn compare(seed: u64, k: usize, symbol_bytes: usize, missing: usize, more: usize) -> bool {
    let mut rng = Rng::new(seed);
    let block = bytes(&mut rng, k * symbol_bytes);
    let plan = Arc::new(Plan::new(k as u32).unwrap());
    let own = Encoder::new(Arc::clone(&plan), &block, symbol_bytes);
    let oti = ObjectTransmissionInformation::new(block.len() as u64, symbol_bytes as u16, 1, 1, 1);
    let theirs = SourceBlockEncoder::new(0, &oti, &block);
    let first = rng.below(100_000) as u32;
    let repair: Vec<(u32, Vec<u8>)> = theirs
        .repair_packets(first, (missing + more) as u32)
        .into_iter()
        .map(|packet| {
            let (id, symbol) = packet.split();
            (id.encoding_symbol_id(), symbol)
        })
        .collect();
    for (esi, symbol) in &repair {
        assert_eq!(own.symbol(*esi), *symbol, "seed {seed}: {k} symbols of {symbol_bytes} bytes, ESI {esi}");
    }
    let mut sources: Vec<Option<&[u8]>> = block.chunks(symbol_bytes).map(Some).collect();
    let mut left = missing;
    while left > 0 {
        left -= usize::from(sources[rng.below(k as u64) as usize].take().is_some());
    }
    let packet = |(esi, symbol): (u32, Vec<u8>)| EncodingPacket::new(PayloadId::new(0, esi), symbol);
    let received = (0..).zip(&sources).filter_map(|(esi, symbol)| Some((esi, symbol.as_ref()?.to_vec())));
    let received: Vec<EncodingPacket> = received.chain(repair.iter().cloned()).map(packet).collect();
    let theirs = SourceBlockDecoder::new(0, &oti, block.len() as u64).decode(received);
    let repair: Vec<(u32, &[u8])> = repair.iter().map(|(esi, symbol)| (*esi, symbol.as_slice())).collect();
    let ours = plan.restore(&sources, &repair, symbol_bytes);
    let what = format!("seed {seed}: {missing} of {k} symbols missing, {more} more");
    assert_eq!(ours.is_some(), theirs.is_some(), "{what}");
    let Some(ours) = ours else { return false };
    assert_eq!(ours.len(), missing, "{what}");
    for (esi, symbol) in ours {
        let start = esi as usize * symbol_bytes;
        assert_eq!(symbol, block[start..start + symbol_bytes], "{what}: ESI {esi}");
    }
    true
}

#[test]
fn small_blocks_are_restored_as_the_crate_restores_them() {
    let blocks = std::env::var("SKYCACHE_RAPTORQ_BLOCKS").map_or(1000, |it| it.parse().unwrap());
    let mut decoded = 0;
    for seed in 0..blocks {
        let mut rng = Rng::new(seed ^ 0x5241_5054);
        let k = 1 + rng.below(300) as usize;
        let missing = 1 + rng.below(k as u64) as usize;
        let more = rng.below(4) as usize;
        let symbol_bytes = 1 + rng.below(300) as usize;
        decoded += u64::from(compare(seed, k, symbol_bytes, missing, more));
    }
    println!("{decoded} of {blocks} blocks decoded");
    // Without any surplus one block in 200 is not (RFC 6330 section 1).
    assert!(decoded * 100 > blocks * 98 && decoded <= blocks);
}

#[test]
fn large_blocks_are_restored_as_the_crate_restores_them() {
    for (seed, (k, missing)) in [(1698, 20), (1698, 300), (3000, 1100), (8837, 90)].into_iter().enumerate() {
        assert!(compare(seed as u64, k, 130, missing, 2), "{k}");
    }
}

#[test]
fn too_few_symbols_restore_nothing() {
    let plan = Plan::new(20).unwrap();
    let block = [7; 20 * 8];
    let mut sources: Vec<Option<&[u8]>> = block.chunks(8).map(Some).collect();
    (sources[3], sources[4]) = (None, None);
    assert_eq!(plan.restore(&sources, &[(20, &[0; 8])], 8), None);
    assert_eq!(plan.restore(&sources, &[], 8), None);
}

/// RFC 6330 section 5.3.1: the code is systematic. Wrong systematic indices, tables or dense rows break it.
fn is_systematic(k: u32) {
    let mut rng = Rng::new(u64::from(k));
    let plan = Arc::new(Plan::new(k).unwrap());
    let block = bytes(&mut rng, k as usize * 2);
    let encoder = Encoder::new(plan, &block, 2);
    for (esi, symbol) in (0..k).zip(block.chunks(2)) {
        assert_eq!(encoder.symbol(esi), symbol, "{k}: {esi}");
    }
}

/// Every K' that RFC 6330 has, from `least` on.
fn every_padded(least: u32) -> impl Iterator<Item = u32> {
    let next = |k: &u32| padded(k + 1).map(|k| k as u32);
    std::iter::successors(padded(least).map(|k| k as u32), next)
}

#[test]
fn blocks_of_every_table_row_are_systematic() {
    assert_eq!((every_padded(1).count(), every_padded(1).last()), (477, Some(MAX_SYMBOLS)));
    for k in every_padded(1).take_while(|k| *k < 2500) {
        is_systematic(k);
        is_systematic(k - 1);
    }
}

/// Minutes; `cargo xtask raptorq` runs it.
#[test]
#[ignore = "takes minutes; cargo xtask raptorq"]
fn large_blocks_of_every_table_row_are_systematic() {
    every_padded(2500).for_each(is_systematic);
}
