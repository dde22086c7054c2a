//! The rate that a live source's segments take of the link, beside what is reserved for it.

use std::collections::HashSet;

use carousel::fec::Partition;

use crate::config::Config;
use crate::overhead::air_bytes;
use crate::package::Inventory;
use crate::prepare::protection;
use crate::units::human_bps;

/// The sum over the renditions of what their largest segment takes of the link, headers and repair symbols included.
fn peak_bps(config: &Config, index: usize, inventory: &Inventory) -> f64 {
    let protection = protection(config, index, false);
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
        let lengths = listed.filter_map(|path| Some(inventory.objects.get(path)?.length));
        let peak_bytes = lengths.filter_map(on_link_bytes).max().unwrap_or(0);
        let segment_ms = rung.segment_ms();
        if segment_ms > 0.0 { peak_bytes as f64 * 8000.0 / segment_ms } else { 0.0 }
    });
    bps_of.sum()
}

/// Warning if the reserve of a source is below that; `None` if it is not, or the source is not live.
pub(super) fn warning(config: &Config, index: usize, inventory: &Inventory) -> Option<String> {
    let source = &config.sources[index];
    let reserved_bps = source.reserved_bps? as f64;
    let peak_bps = peak_bps(config, index, inventory);
    (peak_bps > reserved_bps).then(|| {
        format!(
            "{}: its segments take up to {} of the link with headers and repair symbols, and reserved_bps is {}: beyond it \
             they go only when nothing else is sent, and what comes too late is dropped. Raise reserved_bps, or carry fewer \
             rungs",
            source.name,
            human_bps(peak_bps),
            human_bps(reserved_bps)
        )
    })
}
