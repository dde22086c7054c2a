//! Pictures of 80 × 45 squares for the demo, coded as H.264 without an encoder.
//!
//! A square is a macroblock of one colour, so that a picture is 1280 × 720. The quantiser is the one at which the DC coefficient
//! of a block is the difference of its samples to the prediction (QP 28: `LevelScale` 256, 8.5.10 and 8.5.11 of Rec. ITU-T
//! H.264): colours are exact, and a square like its neighbour is a byte. Squares that did not change are skipped. The result is
//! Constrained Baseline at level 3.1, which every browser and television decodes.

/// Squares in a row.
pub(super) const COLUMNS: usize = 80;
/// Rows of squares.
pub(super) const ROWS: usize = 45;
/// Luma samples of a square's side.
const SIDE: usize = 16;
/// Width and height in samples.
pub(super) const SIZE: (usize, usize) = (COLUMNS * SIDE, ROWS * SIDE);
/// `profile_idc`, the constraint flags and `level_idc`, as `avc1.` has them.
pub(super) const PROFILE: [u8; 3] = [66, 0xc0, 31];

/// A colour of sRGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour(pub(super) u8, pub(super) u8, pub(super) u8);

impl Colour {
    pub(super) const NIGHT: Self = Self(11, 16, 32);
    pub(super) const WHITE: Self = Self(240, 244, 250);
    pub(super) const AMBER: Self = Self(255, 176, 56);

    /// Y′, Cb and Cr of Rec. ITU-R BT.709 in the range of television. Chroma is even, since its differences are coded in twos.
    fn samples(self) -> [i32; 3] {
        let [red, green, blue] = [self.0, self.1, self.2].map(|it| f64::from(it) / 255.0);
        let luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        let chroma = |difference: f64| 128 + 2 * (112.0 * difference).round() as i32;
        [16 + (219.0 * luma).round() as i32, chroma((blue - luma) / 1.8556), chroma((red - luma) / 1.5748)]
    }
}

/// Squares of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture(Vec<Colour>);

impl Picture {
    pub(super) fn of(colour: Colour) -> Self {
        Self(vec![colour; COLUMNS * ROWS])
    }

    pub(super) fn at(&self, column: usize, row: usize) -> Colour {
        self.0[row * COLUMNS + column]
    }

    /// Paints a square; ignores squares outside of the picture.
    pub(super) fn set(&mut self, column: usize, row: usize, colour: Colour) {
        if column < COLUMNS && row < ROWS {
            self.0[row * COLUMNS + column] = colour;
        }
    }

    /// Paints a rectangle.
    pub(super) fn fill(
        &mut self,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        colour: Colour,
    ) {
        for row in top..top + height {
            for column in left..left + width {
                self.set(column, row, colour);
            }
        }
    }

    /// Writes a line of capitals, digits and `:` in the middle of a row, each letter five squares by seven.
    pub(super) fn write(&mut self, top: usize, text: &str, colour: Colour) {
        let width = (text.chars().count() * 6).saturating_sub(1);
        let left = COLUMNS.saturating_sub(width) / 2;
        for (number, letter) in text.chars().enumerate() {
            for (row, bits) in glyph(letter).into_iter().enumerate() {
                for column in (0..5).filter(|column| bits & (0x10 >> column) != 0) {
                    self.set(left + number * 6 + column, top + row, colour);
                }
            }
        }
    }
}

/// Rows of a letter, its five columns in the low bits; a blank for unknown letters.
const fn glyph(letter: char) -> [u8; 7] {
    match letter {
        '0' => [14, 17, 19, 21, 25, 17, 14],
        '1' => [4, 12, 4, 4, 4, 4, 14],
        '2' => [14, 17, 1, 6, 8, 16, 31],
        '3' => [31, 2, 4, 2, 1, 17, 14],
        '4' => [2, 6, 10, 18, 31, 2, 2],
        '5' => [31, 16, 30, 1, 1, 17, 14],
        '6' => [6, 8, 16, 30, 17, 17, 14],
        '7' => [31, 1, 2, 4, 8, 8, 8],
        '8' => [14, 17, 17, 14, 17, 17, 14],
        '9' => [14, 17, 17, 15, 1, 2, 12],
        ':' => [0, 4, 4, 0, 4, 4, 0],
        'A' => [14, 17, 17, 31, 17, 17, 17],
        'B' => [30, 17, 17, 30, 17, 17, 30],
        'C' => [14, 17, 16, 16, 16, 17, 14],
        'D' => [30, 17, 17, 17, 17, 17, 30],
        'E' => [31, 16, 16, 30, 16, 16, 31],
        'F' => [31, 16, 16, 30, 16, 16, 16],
        'G' => [14, 17, 16, 23, 17, 17, 15],
        'H' => [17, 17, 17, 31, 17, 17, 17],
        'I' => [14, 4, 4, 4, 4, 4, 14],
        'K' => [17, 18, 20, 24, 20, 18, 17],
        'L' => [16, 16, 16, 16, 16, 16, 31],
        'M' => [17, 27, 21, 21, 17, 17, 17],
        'N' => [17, 25, 21, 19, 17, 17, 17],
        'O' => [14, 17, 17, 17, 17, 17, 14],
        'P' => [30, 17, 17, 30, 16, 16, 16],
        'R' => [30, 17, 17, 30, 20, 18, 17],
        'S' => [15, 16, 16, 14, 1, 1, 30],
        'T' => [31, 4, 4, 4, 4, 4, 4],
        'U' => [17, 17, 17, 17, 17, 17, 14],
        'V' => [17, 17, 17, 17, 17, 10, 4],
        'Y' => [17, 17, 10, 4, 4, 4, 4],
        _ => [0; 7],
    }
}

/// Bits of an RBSP (7.2 of Rec. ITU-T H.264).
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits that the last byte has.
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for shift in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
                self.used = 0;
            }
            let bit = (value >> shift & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used);
            }
            self.used += 1;
        }
    }

    /// Unsigned Exp-Golomb code (9.1).
    fn ue(&mut self, value: u32) {
        let bits = 32 - (value + 1).leading_zeros();
        self.put(0, bits - 1);
        self.put(value + 1, bits);
    }

    /// Signed Exp-Golomb code (9.1.1).
    fn se(&mut self, value: i32) {
        self.ue(if value > 0 { value.unsigned_abs() * 2 - 1 } else { value.unsigned_abs() * 2 });
    }

    /// A block with no coefficient except its first, `level` (9.2). `codes` are those of coeff_token for none, for one of ±1 and
    /// for another one, each with its number of bits.
    fn block(&mut self, level: i32, [none, trailing, other]: [(u32, u32); 3]) {
        match level {
            0 => return self.put(none.0, none.1),
            -1 | 1 => {
                self.put(trailing.0, trailing.1);
                self.put(u32::from(level < 0), 1);
            }
            _ => {
                self.put(other.0, other.1);
                // The first level that is not a trailing one is not ±1: its code begins with ±2 (9.2.2.1).
                let code = (level.unsigned_abs() - 2) * 2 + u32::from(level < 0);
                match code {
                    0..14 => self.put(1, code + 1),
                    14..30 => {
                        self.put(1, 15);
                        self.put(code - 14, 4);
                    }
                    _ => {
                        self.put(1, 16);
                        self.put(code - 30, 12);
                    }
                }
            }
        }
        // total_zeros: the coefficient is the first of the block (tables 9-7 and 9-9).
        self.put(1, 1);
    }

    /// The NAL unit of these bits: stop bit, emulation prevention (7.4.1).
    fn unit(mut self, header: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut unit = vec![header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}

/// coeff_token of 4 × 4 luma blocks whose neighbours have no coefficients, and of chroma DC (table 9-5).
const LUMA: [(u32, u32); 3] = [(1, 1), (1, 2), (5, 6)];
const CHROMA: [(u32, u32); 3] = [(1, 2), (1, 1), (7, 6)];

/// The sequence parameter set (7.3.2.1.1).
pub(super) fn sequence() -> Vec<u8> {
    let mut bits = Bits::default();
    PROFILE.iter().for_each(|it| bits.put(u32::from(*it), 8));
    bits.ue(0); // seq_parameter_set_id
    bits.ue(4); // frame_num has eight bits
    bits.ue(2); // pictures are shown in the order of decoding
    bits.ue(1); // one reference frame
    bits.put(0, 1);
    bits.ue(COLUMNS as u32 - 1);
    bits.ue(ROWS as u32 - 1);
    bits.put(0b110, 3); // frames only, direct_8x8_inference, nothing cropped
    bits.put(1, 1); // vui_parameters_present
    bits.put(0b0011_0101, 8); // no aspect ratio, no overscan; of no format, in the range of television, with its colours:
    (0..3).for_each(|_| bits.put(1, 8)); // primaries, transfer, matrix of BT.709
    bits.put(0, 5); // no chroma location, timing, HRD (NAL, VCL), pic_struct
    bits.put(1, 1); // bitstream_restriction: nothing is reordered
    bits.put(1, 1);
    [2, 1, 9, 9, 0, 1].into_iter().for_each(|it| bits.ue(it));
    bits.unit(0x67)
}

/// The picture parameter set (7.3.2.2).
pub(super) fn parameters() -> Vec<u8> {
    let mut bits = Bits::default();
    [0, 0].into_iter().for_each(|it| bits.ue(it)); // its id, the sequence's
    bits.put(0, 2); // CAVLC, no field order
    [0, 0, 0].into_iter().for_each(|it| bits.ue(it)); // one slice group, one reference
    bits.put(0, 3); // no weighted prediction
    bits.se(2); // QP 28
    bits.se(0);
    bits.se(0); // chroma as luma
    bits.put(0b100, 3); // the deblocking filter can be turned off
    bits.unit(0x68)
}

/// Coder of one stream.
#[derive(Debug, Default)]
pub(super) struct Coder {
    before: Option<Picture>,
    frame_num: u32,
    idr_number: u32,
}

impl Coder {
    /// The next picture as one slice, its length before it; with `is_idr`, decoders can begin with it.
    pub(super) fn code(&mut self, picture: &Picture, is_idr: bool) -> Vec<u8> {
        let before = self.before.take().filter(|_| !is_idr);
        let mut bits = Bits::default();
        bits.ue(0); // first macroblock
        bits.ue(if before.is_some() { 5 } else { 7 });
        bits.ue(0);
        if before.is_some() {
            self.frame_num = (self.frame_num + 1) % 256;
            bits.put(self.frame_num, 8);
            bits.put(0, 3); // one reference as it is; sliding window
        } else {
            self.frame_num = 0;
            self.idr_number = (self.idr_number + 1) % 2;
            bits.put(0, 8);
            bits.ue(self.idr_number);
            bits.put(0, 2); // dec_ref_pic_marking
        }
        bits.se(0);
        bits.ue(1); // no deblocking: squares have edges
        let mut skipped = 0;
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                if let Some(before) = &before {
                    if before.at(column, row) == picture.at(column, row) {
                        skipped += 1;
                        continue;
                    }
                    bits.ue(std::mem::take(&mut skipped));
                }
                square(&mut bits, picture, (column, row), before.is_some());
            }
        }
        if skipped > 0 {
            bits.ue(skipped);
        }
        let unit = bits.unit(if before.is_some() { 0x41 } else { 0x65 });
        self.before = Some(picture.clone());
        let mut sized = (unit.len() as u32).to_be_bytes().to_vec();
        sized.extend(unit);
        sized
    }
}

/// A macroblock of type Intra_16x16 without AC coefficients, predicted from its left neighbour, or else from the one above
/// (7.3.5, tables 7-11 and 8-4, 8-5).
fn square(bits: &mut Bits, picture: &Picture, (column, row): (usize, usize), is_p_slice: bool) {
    let (luma_mode, chroma_mode, predicted) = if column > 0 {
        (1, 1, picture.at(column - 1, row).samples())
    } else if row > 0 {
        (0, 2, picture.at(column, row - 1).samples())
    } else {
        (2, 0, [128; 3])
    };
    let wanted = picture.at(column, row).samples();
    let [luma, cb, cr] = std::array::from_fn(|it| wanted[it] - predicted[it]);
    let has_chroma = cb != 0 || cr != 0;
    bits.ue(1 + luma_mode + 4 * u32::from(has_chroma) + if is_p_slice { 5 } else { 0 });
    bits.ue(chroma_mode);
    bits.se(0); // mb_qp_delta
    bits.block(luma, LUMA);
    if has_chroma {
        bits.block(cb / 2, CHROMA);
        bits.block(cr / 2, CHROMA);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chroma_is_even_and_all_samples_are_in_the_range_of_television() {
        for red in (0..=255).step_by(15) {
            for green in (0..=255).step_by(15) {
                for blue in (0..=255).step_by(15) {
                    let [luma, cb, cr] = Colour(red, green, blue).samples();
                    assert!((16..=235).contains(&luma), "{luma}");
                    for chroma in [cb, cr] {
                        assert!((16..=240).contains(&chroma) && chroma % 2 == 0, "{chroma}");
                    }
                }
            }
        }
        assert_eq!(Colour(0, 0, 0).samples(), [16, 128, 128]);
        assert_eq!(Colour(255, 255, 255).samples(), [235, 128, 128]);
    }

    #[test]
    fn exp_golomb_codes_are_those_of_table_9_2() {
        let mut bits = Bits::default();
        [0, 1, 2, 3, 7].into_iter().for_each(|it| bits.ue(it));
        // 1 010 011 00100 0001000
        assert_eq!(bits.bytes, [0b1010_0110, 0b0100_0001, 0b0000_0000]);
        assert_eq!(bits.used, 3);
    }

    #[test]
    fn no_unit_contains_a_start_code() {
        let mut bits = Bits::default();
        (0..8).for_each(|_| bits.put(0, 8));
        let unit = bits.unit(0x65);
        assert!(unit.windows(3).all(|it| !(it[0] == 0 && it[1] == 0 && it[2] < 3)), "{unit:?}");
    }

    #[test]
    fn what_does_not_change_is_skipped_and_costs_nothing() {
        let mut coder = Coder::default();
        let picture = Picture::of(Colour::NIGHT);
        let first = coder.code(&picture, true).len();
        assert!((3000..5000).contains(&first), "{first}");
        let second = coder.code(&picture, false).len();
        assert!(second < 16, "{second}");
    }
}
