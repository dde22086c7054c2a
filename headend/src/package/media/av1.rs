//! AV1: the configuration box (AV1 in ISO BMFF clause 2.3) and the sequence header in it (AV1 specification clause 5.5).

use super::bits::Bits;
use super::facts::{Colour, Video};

const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_METADATA: u8 = 5;
/// `seq_choose_screen_content_tools`: decided for each frame.
const SELECT: u32 = 2;

/// Reads `av1C`. Without a sequence header only profile, level and bit depth are known.
pub(super) fn configured(entry: &str, record: &[u8]) -> Option<Video> {
    let &[_, profile_level, flags, _, ref units @ ..] = record else { return None };
    let (profile, level) = (profile_level >> 5, profile_level & 0x1f);
    let tier = if flags & 0x80 == 0 { 'M' } else { 'H' };
    let bit_depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    let mut video = Video::new(format!("{entry}.{profile}.{level:02}{tier}.{bit_depth:02}"));
    video.bit_depth = bit_depth;
    for (kind, unit) in obus(units) {
        match (kind, unit) {
            (OBU_SEQUENCE_HEADER, _) => {
                let _ = sequence(&mut Bits::new(unit), &mut video);
            }
            // metadata_type: METADATA_TYPE_HDR_CLL, METADATA_TYPE_HDR_MDCV
            (OBU_METADATA, [1 | 2, ..]) => video.hdr10 = true,
            _ => {}
        }
    }
    Some(video)
}

/// Kind and body of the units. One without its length ends them (clause 2.3.4 allows it for the last).
fn obus(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&head, mut behind) = rest.split_first()?;
        if head & 0x04 != 0 {
            behind = behind.get(1..)?;
        }
        let length = if head & 0x02 == 0 { behind.len() } else { leb128(&mut behind)? };
        let (unit, next) = behind.split_at_checked(length)?;
        rest = next;
        Some((head >> 3 & 0x0f, unit))
    })
}

/// Clause 4.10.5: at most eight bytes of seven bits.
fn leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..56).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

fn sequence(bits: &mut Bits<'_>, video: &mut Video) -> Option<()> {
    let profile = bits.bits(3)?;
    bits.bit()?; // still_picture
    let is_reduced = bits.bit()?;
    if is_reduced {
        bits.skip(5)?; // seq_level_idx
    } else {
        operating_points(bits, video)?;
    }
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    (video.width, video.height) = (bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1);
    if !is_reduced && bits.bit()? {
        bits.skip(4 + 3)?; // lengths of frame ids
    }
    bits.skip(3)?; // superblocks, intra filters
    if !is_reduced {
        bits.skip(4)?; // interintra, masked compound, warped motion, dual filter
        let has_order = bits.bit()?;
        if has_order {
            bits.skip(2)?; // jnt_comp, ref_frame_mvs
        }
        let screen_content = if bits.bit()? { SELECT } else { bits.bits(1)? };
        if screen_content > 0 && !bits.bit()? {
            bits.bit()?; // seq_force_integer_mv
        }
        if has_order {
            bits.skip(3)?; // order_hint_bits_minus_1
        }
    }
    bits.skip(3)?; // superres, cdef, restoration
    colour(bits, profile, video)
}

/// Skips everything between the profile and the picture's size: timing, and operating points.
fn operating_points(bits: &mut Bits<'_>, video: &mut Video) -> Option<()> {
    let mut delay_bits = None;
    if bits.bit()? {
        let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
        if bits.bit()? {
            let ticks = u64::from(bits.ue()?) + 1;
            video.set_frame_rate(scale.into(), u64::from(units) * ticks);
        }
        if bits.bit()? {
            delay_bits = Some(bits.bits(5)? as usize + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let has_initial_delay = bits.bit()?;
    for _ in 0..=bits.bits(5)? {
        bits.skip(12)?; // operating_point_idc
        if bits.bits(5)? > 7 {
            bits.bit()?; // seq_tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.bit()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_initial_delay && bits.bit()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// `color_config()` up to the range.
fn colour(bits: &mut Bits<'_>, profile: u32, video: &mut Video) -> Option<()> {
    let is_high = bits.bit()?;
    video.bit_depth = match (is_high, profile) {
        (false, _) => 8,
        (true, 2) if bits.bit()? => 12,
        (true, _) => 10,
    };
    let is_monochrome = profile != 1 && bits.bit()?;
    let mut points = [2; 3];
    if bits.bit()? {
        points = [bits.byte()?, bits.byte()?, bits.byte()?];
        video.colour.set(points);
    }
    // sRGB implies full range.
    let is_full_range = (!is_monochrome && points == [1, 13, 0]) || bits.bit()?;
    video.colour = Colour { is_full_range: Some(is_full_range), ..video.colour };
    Some(())
}
