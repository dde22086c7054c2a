//! H.264: parameter sets (ISO/IEC 14496-10 clause 7.3.2.1) and their configuration (ISO/IEC 14496-15 clause 5.3.3).

use carousel::bytes::Reader;

use super::bits::Bits;
use super::facts::Video;
use super::{nal, usability};

const SEI: u8 = 6;
const SEQUENCE_PARAMETER_SET: u8 = 7;
/// Profiles whose parameter sets have the chroma format (clause 7.3.2.1.1).
const PROFILES_WITH_CHROMA: [u8; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];

/// Reads `avcC`. Without a parameter set (`avc3`) only the profile is known.
pub(super) fn configured(entry: &str, record: &[u8]) -> Option<Video> {
    let mut reader = Reader::new(record);
    let [_, profile, constraints, level, _] = reader.array("AVCDecoderConfigurationRecord").ok()?;
    let sets = reader.u8("numOfSequenceParameterSets").ok()? & 0x1f;
    let first = (sets > 0).then(|| reader.u16("sequenceParameterSetLength").ok()).flatten();
    let set = first.and_then(|length| reader.take(length.into(), "sequenceParameterSetNALUnit").ok());
    set.and_then(|set| sequence(entry, set))
        .or_else(|| Some(Video::new(codec(entry, [profile, constraints, level]))))
}

/// Reads the units of a stream: the first parameter set, and the SEI of the next picture.
pub(super) fn streamed(stream: &[u8]) -> Option<Video> {
    let mut units = nal::units(stream);
    let mut video = units.find_map(|unit| sequence("avc1", unit))?;
    for unit in units {
        match unit.first().map(|byte| byte & 0x1f) {
            Some(SEI) => nal::supplement(&mut video, &nal::payload(unit, 1)),
            Some(1..=5) => break, // the picture
            _ => {}
        }
    }
    Some(video)
}

fn codec(entry: &str, [profile, constraints, level]: [u8; 3]) -> String {
    format!("{entry}.{profile:02X}{constraints:02X}{level:02X}")
}

/// Reads a parameter set; `None` if it is another unit, or ends before the picture's size.
fn sequence(entry: &str, unit: &[u8]) -> Option<Video> {
    if unit.first()? & 0x1f != SEQUENCE_PARAMETER_SET {
        return None;
    }
    let bytes = nal::payload(unit, 1);
    let mut bits = Bits::new(&bytes);
    let head = [bits.byte()?, bits.byte()?, bits.byte()?];
    let mut video = Video::new(codec(entry, head));
    bits.ue()?; // seq_parameter_set_id
    // Default: 4:2:0 with samples of 8 bits
    let (mut chroma_format, mut is_separate) = (1, false);
    if PROFILES_WITH_CHROMA.contains(&head[0]) {
        chroma_format = bits.ue()?;
        if chroma_format == 3 {
            is_separate = bits.bit()?;
        }
        video.bit_depth = 8 + u8::try_from(bits.ue()?).ok().filter(|&more| more <= 6)?;
        bits.ue()?; // bit_depth_chroma_minus8
        bits.bit()?; // qpprime_y_zero_transform_bypass_flag
        if bits.bit()? {
            skip_scaling_lists(&mut bits, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    bits.ue()?; // log2_max_frame_num_minus4
    skip_picture_order(&mut bits)?;
    bits.ue()?; // max_num_ref_frames
    bits.bit()?; // gaps_in_frame_num_value_allowed_flag
    let (across, down) = (bits.ue()?.checked_add(1)?, bits.ue()?.checked_add(1)?);
    let frames_only = bits.bit()?;
    video.is_interlaced = !frames_only;
    if !frames_only {
        bits.bit()?; // mb_adaptive_frame_field_flag
    }
    bits.bit()?; // direct_8x8_inference_flag
    let lines_of_unit = if frames_only { 1 } else { 2 };
    video.width = across.checked_mul(16)?;
    video.height = down.checked_mul(16 * lines_of_unit)?;
    if bits.bit()? {
        let (unit_x, unit_y) = match (chroma_format, is_separate) {
            (1, _) => (2, 2),
            (2, _) => (2, 1),
            _ => (1, 1),
        };
        let crop = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?].map(u64::from);
        let [left, right, top, bottom] = crop;
        video.width = cropped(video.width, (left + right) * unit_x)?;
        video.height = cropped(video.height, (top + bottom) * unit_y * u64::from(lines_of_unit))?;
    }
    if bits.bit() == Some(true) {
        let _ = usability::read(&mut bits, &mut video).and_then(|()| timing(&mut bits, &mut video));
    }
    Some(video)
}

/// Cropped size of a side of the picture; `None` if 0 or less.
pub(super) fn cropped(side: u32, by: u64) -> Option<u32> {
    u64::from(side).checked_sub(by).filter(|&left| left > 0).and_then(|left| u32::try_from(left).ok())
}

/// A tick is a field (clause E.2.1), so a frame has two.
fn timing(bits: &mut Bits<'_>, video: &mut Video) -> Option<()> {
    if bits.bit()? {
        let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
        video.set_frame_rate(scale.into(), u64::from(units) * 2);
    }
    Some(())
}

fn skip_scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !bits.bit()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = last.wrapping_add(bits.se()?) & 0xff;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}
