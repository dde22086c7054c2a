//! Comparison of a live source's actual rate with its reserve.

use std::collections::HashSet;

use carousel::fec::Partition;

use super::Warning;
use crate::config::Config;
use crate::options::TransportProtocol;
use crate::overhead::air_bytes;
use crate::package::Inventory;
use crate::prepare::protection;
use crate::units::human_bps;

/// Link bytes of the descriptions of a FLUTE piece: an FDT Instance of some 500 bytes, sent before it and with its last packets.
const DESCRIPTIONS_BYTES: u64 = 2 * 600;

/// Sum of the link rates of the largest segments of all renditions, including headers, repair symbols and descriptions of pieces.
fn peak_bps(config: &Config, index: usize, inventory: &Inventory) -> f64 {
    let (source, protection) = (&config.sources[index], protection(config, index, false));
    let profile = config.carousel.sender_profile();
    let on_link_bytes = |length: u64| {
        let oti = protection.oti(length, profile.symbol_length, profile.max_source_block_length);
        let partition = Partition::new(&oti).ok()?;
        Some(air_bytes(length, &partition, &protection.sequence(&oti, partition)))
    };
    // HLS and DASH over the same segments send them once.
    let mut seen = HashSet::new();
    let bps_of = inventory.live_rungs().map(|rung| {
        let listed = rung.segments.iter().filter(|path| seen.insert(path.as_str()));
        let length = listed.filter_map(|path| Some(inventory.objects.get(path)?.length)).max().unwrap_or(0);
        let segment_ms = rung.segment_ms();
        // In ROUTE all repair symbols follow the last piece.
        let piece_ms = source.chunk_ms.filter(|_| source.protocol == TransportProtocol::Flute);
        let pieces = piece_ms.map_or(1, |piece_ms| (segment_ms as u64).div_ceil(piece_ms.max(1)).max(1));
        let descriptions = if piece_ms.is_some() { DESCRIPTIONS_BYTES } else { 0 };
        let piece_bytes = on_link_bytes(length.div_ceil(pieces)).unwrap_or(0) + descriptions;
        let peak_bytes = if length == 0 { 0 } else { pieces * piece_bytes };
        if segment_ms > 0.0 { peak_bytes as f64 * 8000.0 / segment_ms } else { 0.0 }
    });
    bps_of.sum()
}

/// Warning if the reserve of a live source is below that rate.
pub(super) fn warning(config: &Config, index: usize, inventory: &Inventory) -> Option<Warning> {
    let source = &config.sources[index];
    let reserved_bps = source.reserved_bps? as f64;
    let peak_bps = peak_bps(config, index, inventory);
    (peak_bps > reserved_bps).then(|| {
        let text = format!(
            "its segments take up to {} of the link with headers and repair symbols, and reserved_bps is {}: beyond it \
             they go only when nothing else is sent, and what comes too late is dropped; raise reserved_bps, or carry fewer \
             rungs",
            human_bps(peak_bps),
            human_bps(reserved_bps)
        );
        Warning { source: Some(source.name.clone()), text }
    })
}
