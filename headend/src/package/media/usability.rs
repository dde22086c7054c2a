//! Video usability information: the part common to both codecs (ISO/IEC 14496-10 and 23008-2 Annex E).

use super::bits::Bits;
use super::facts::{Colour, Video};

/// Sample aspects by `aspect_ratio_idc` from 1 on (Table E-1 of both).
const SAMPLE_ASPECTS: [(u8, u8); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];
const EXTENDED_SAR: u8 = 255;

/// Reads sample aspect and colour, and leaves `bits` after the chroma locations. Values before a premature end are kept:
/// some encoders truncate their VUI.
pub(super) fn read(bits: &mut Bits<'_>, video: &mut Video) -> Option<()> {
    if bits.bit()? {
        match bits.byte()? {
            EXTENDED_SAR => {
                let (width, height) = (bits.bits(16)?, bits.bits(16)?);
                video.set_sample_aspect(width, height);
            }
            index => {
                if let Some(&(width, height)) =
                    usize::from(index).checked_sub(1).and_then(|index| SAMPLE_ASPECTS.get(index))
                {
                    video.set_sample_aspect(width.into(), height.into());
                }
            }
        }
    }
    if bits.bit()? {
        bits.bit()?; // overscan_appropriate_flag
    }
    if bits.bit()? {
        bits.skip(3)?; // video_format
        video.colour.is_full_range = Some(bits.bit()?);
        if bits.bit()? {
            video.colour.set([bits.byte()?, bits.byte()?, bits.byte()?]);
        }
    }
    if bits.bit()? {
        bits.ue()?;
        bits.ue()?;
    }
    Some(())
}

/// Applies a `colr` box (ISO/IEC 14496-12 clause 12.1.5). Renderers use it, so it overrides the VUI; unspecified values
/// are not changed.
pub(super) fn colour_box(body: &[u8], colour: &mut Colour) {
    // QuickTime's `nclc` is the same without the range.
    let ([b'n', b'c', b'l', b'x', rest @ ..] | [b'n', b'c', b'l', b'c', rest @ ..]) = body else { return };
    let [_, primaries, _, transfer, _, matrix, range @ ..] = rest else { return };
    colour.primaries = Colour::code_point(*primaries).or(colour.primaries);
    colour.transfer = Colour::code_point(*transfer).or(colour.transfer);
    colour.matrix = Colour::code_point(*matrix).or(colour.matrix);
    if let (b'x', Some(range)) = (body[3], range.first()) {
        colour.is_full_range = Some(range & 0x80 != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_wins_where_it_says_something() {
        let mut colour =
            Colour { primaries: Some(1), transfer: Some(1), is_full_range: Some(true), ..Colour::default() };
        colour_box(b"nclx\0\x09\0\x02\0\x09\0", &mut colour);
        let told = (colour.primaries, colour.transfer, colour.matrix, colour.is_full_range);
        assert_eq!(told, (Some(9), Some(1), Some(9), Some(false)));
        let before = colour;
        colour_box(b"prof\0\x01\0\x01\0\x01\0", &mut colour);
        colour_box(b"nclx\0\x01\0", &mut colour);
        assert_eq!(colour, before);
        colour_box(b"nclc\0\x01\0\x01\0\x01", &mut colour);
        assert_eq!((colour.primaries, colour.is_full_range), (Some(1), Some(false)));
    }
}
