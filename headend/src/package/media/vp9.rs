//! VP8 and VP9: the configuration box has all properties (VP Codec ISO Media File Format Binding).

use super::facts::Video;

/// Reads `vpcC`.
pub(super) fn configured(entry: &str, record: &[u8]) -> Option<Video> {
    // version and flags first
    let &[_, _, _, _, profile, level, depths, primaries, transfer, matrix, ..] = record else { return None };
    let bit_depth = depths >> 4;
    let mut video = Video::new(format!("{entry}.{profile:02}.{level:02}.{bit_depth:02}"));
    video.bit_depth = bit_depth;
    video.colour.set([primaries, transfer, matrix]);
    video.colour.is_full_range = Some(depths & 1 == 1);
    Some(video)
}
