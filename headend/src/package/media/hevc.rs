//! HEVC: parameter sets (ISO/IEC 23008-2 clause 7.3.2.2) and their configuration (ISO/IEC 14496-15 clause 8.3.3).

use carousel::bytes::Reader;

use super::avc::cropped;
use super::bits::Bits;
use super::facts::Video;
use super::{nal, usability};

const SEQUENCE_PARAMETER_SET: u8 = 33;
const PREFIX_SEI: u8 = 39;
/// Largest `nal_unit_type` of a picture.
const LAST_PICTURE: u8 = 31;
/// Bytes of the general part of `profile_tier_level()`.
const PROFILE_BYTES: usize = 12;
/// `sps_max_sub_layers_minus1`: 7 is not of the base layer.
const MAX_SUB_LAYERS_MINUS1: u32 = 6;
/// `num_short_term_ref_pic_sets`, clause 7.4.3.2.1.
const MAX_REFERENCE_SETS: u32 = 64;
/// Pictures of a reference set, clause A.4.2.
const MAX_REFERENCES: u32 = 16;

/// Reads `hvcC`: its first parameter set, and its SEI. Without a set (`hev1`) only profile and bit depth are known.
pub(super) fn configured(entry: &str, record: &[u8]) -> Option<Video> {
    let mut reader = Reader::new(record);
    let head: [u8; 23] = reader.array("HEVCDecoderConfigurationRecord").ok()?;
    let profile = head.get(1..)?.first_chunk()?;
    let mut video = None;
    let mut supplements = Vec::new();
    for _ in 0..head[22] {
        let Some((kind, units)) = reader.u8("NAL_unit_type").ok().zip(reader.u16("numNalus").ok()) else {
            break;
        };
        for _ in 0..units {
            let length = reader.u16("nalUnitLength").ok();
            let Some(unit) = length.and_then(|length| reader.take(length.into(), "nalUnit").ok()) else {
                break;
            };
            match kind & 0x3f {
                SEQUENCE_PARAMETER_SET if video.is_none() => video = sequence(entry, unit),
                PREFIX_SEI => supplements.push(unit),
                _ => {}
            }
        }
    }
    let mut video =
        video.unwrap_or_else(|| Video { bit_depth: 8 + (head[17] & 7), ..Video::new(codec(entry, profile)) });
    for unit in supplements {
        nal::supplement(&mut video, &nal::payload(unit, 2));
    }
    Some(video)
}

/// Reads the units of a stream: the first parameter set, and the SEI of the next picture.
pub(super) fn streamed(stream: &[u8]) -> Option<Video> {
    let mut units = nal::units(stream);
    let mut video = units.find_map(|unit| sequence("hvc1", unit))?;
    for unit in units {
        match kind_of(unit) {
            Some(PREFIX_SEI) => nal::supplement(&mut video, &nal::payload(unit, 2)),
            Some(0..=LAST_PICTURE) => break,
            _ => {}
        }
    }
    Some(video)
}

/// `nal_unit_type` of a unit of the base layer.
fn kind_of(unit: &[u8]) -> Option<u8> {
    let &[first, second, ..] = unit else { return None };
    let layer = (first & 1) << 5 | second >> 3;
    (layer == 0).then_some(first >> 1 & 0x3f)
}

/// RFC 6381 by ISO/IEC 14496-15 Annex E.3, as `hvc1.2.4.L150.B0`.
fn codec(entry: &str, profile: &[u8; PROFILE_BYTES]) -> String {
    let [first, a, b, c, d, constraints @ .., level] = profile;
    let space = ["", "A", "B", "C"][usize::from(first >> 6)];
    let compatible = u32::from_be_bytes([*a, *b, *c, *d]).reverse_bits();
    let tier = if first & 0x20 == 0 { 'L' } else { 'H' };
    let mut codec = format!("{entry}.{space}{}.{compatible:X}.{tier}{level}", first & 0x1f);
    let kept = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..kept] {
        codec.push_str(&format!(".{byte:X}"));
    }
    codec
}

/// Reads a parameter set; `None` if it is another unit, or ends before the picture's size.
fn sequence(entry: &str, unit: &[u8]) -> Option<Video> {
    if kind_of(unit)? != SEQUENCE_PARAMETER_SET {
        return None;
    }
    let bytes = nal::payload(unit, 2);
    let profile: &[u8; PROFILE_BYTES] = bytes.get(1..)?.first_chunk()?;
    let mut video = Video::new(codec(entry, profile));
    let mut bits = Bits::new(&bytes);
    bits.skip(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.bits(3).filter(|&count| count <= MAX_SUB_LAYERS_MINUS1)?;
    bits.skip(1 + PROFILE_BYTES * 8)?;
    skip_sub_layer_profiles(&mut bits, sub_layers)?;
    bits.ue()?; // sps_seq_parameter_set_id
    let chroma_format = bits.ue()?;
    if chroma_format == 3 {
        bits.bit()?; // separate_colour_plane_flag
    }
    (video.width, video.height) = (bits.ue()?, bits.ue()?);
    if bits.bit()? {
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?].map(u64::from);
        video.width = cropped(video.width, (left + right) * unit_x)?;
        video.height = cropped(video.height, (top + bottom) * unit_y)?;
    }
    video.bit_depth = 8 + u8::try_from(bits.ue()?).ok().filter(|&more| more <= 8)?;
    // general_progressive_source_flag, general_interlaced_source_flag
    video.is_interlaced = profile[5] & 0xc0 == 0x40;
    let _ = behind_the_size(&mut bits, sub_layers, &mut video);
    Some(video)
}

/// Skips everything between the picture's size and the VUI.
fn behind_the_size(bits: &mut Bits<'_>, sub_layers: u32, video: &mut Video) -> Option<()> {
    bits.ue()?; // bit_depth_chroma_minus8
    let order_bits = bits.ue().filter(|&more| more <= 12)? + 4;
    let orderings = if bits.bit()? { sub_layers + 1 } else { 1 };
    for _ in 0..orderings * 3 {
        bits.ue()?; // sub-layer ordering
    }
    for _ in 0..6 {
        bits.ue()?; // sizes of coding and transform blocks
    }
    if bits.bit()? && bits.bit()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.bit()? {
        bits.skip(8)?; // PCM bit depths
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
    }
    skip_reference_sets(bits)?;
    if bits.bit()? {
        for _ in 0..bits.ue().filter(|&count| count <= 32)? {
            bits.skip(order_bits as usize + 1)?;
        }
    }
    bits.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if !bits.bit()? {
        return Some(());
    }
    usability::read(bits, video)?;
    bits.bit()?; // neutral_chroma_indication_flag
    let is_fields = bits.bit()?;
    bits.bit()?; // frame_field_info_present_flag
    if is_fields {
        video.is_interlaced = true;
        video.height = video.height.saturating_mul(2); // each picture is a field
    }
    if bits.bit()? {
        for _ in 0..4 {
            bits.ue()?; // default display window: a hint, that no player crops by
        }
    }
    if bits.bit()? {
        let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
        video.set_frame_rate(scale.into(), u64::from(units) * if is_fields { 2 } else { 1 });
    }
    Some(())
}

fn skip_sub_layer_profiles(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    let mut skipped = 0;
    for _ in 0..sub_layers {
        skipped += if bits.bit()? { 88 } else { 0 };
        skipped += if bits.bit()? { 8 } else { 0 };
    }
    if sub_layers > 0 {
        skipped += 2 * (8 - sub_layers as usize); // reserved
    }
    bits.skip(skipped)
}

fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.bit()? {
                bits.ue()?; // like the list so many before it
                continue;
            }
            if size > 1 {
                bits.se()?;
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                bits.se()?;
            }
        }
    }
    Some(())
}

fn skip_reference_sets(bits: &mut Bits<'_>) -> Option<()> {
    let mut pictures = 0; // of the set before
    for set in 0..bits.ue().filter(|&count| count <= MAX_REFERENCE_SETS)? {
        if set > 0 && bits.bit()? {
            bits.bit()?; // delta_rps_sign
            bits.ue()?; // abs_delta_rps_minus1
            let mut kept = 0;
            for _ in 0..=pictures {
                kept += u32::from(bits.bit()? || bits.bit()?);
            }
            pictures = kept;
        } else {
            let (before, behind) = (bits.ue()?, bits.ue()?);
            pictures = before.checked_add(behind).filter(|&count| count <= MAX_REFERENCES)?;
            for _ in 0..pictures {
                bits.ue()?;
                bits.bit()?;
            }
        }
    }
    Some(())
}
