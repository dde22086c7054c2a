//! Properties of a rendition, as plain data.

/// Facts read from the media of one rung.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The first video track.
    pub video: Option<Video>,
    /// Audio tracks in order.
    pub audio: Vec<Audio>,
    /// Codecs of subtitle tracks (`stpp`, `wvtt`, `tx3g`).
    pub subtitles: Vec<String>,
    /// Whether a track is encrypted (ISO/IEC 23001-7, scrambled packets, SAMPLE-AES).
    pub is_protected: bool,
}

/// A video track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// RFC 6381, as `avc1.640028`, `hvc1.2.4.L150.B0`, `av01.0.08M.10`. Streams in transport packets get their names in
    /// HLS, `avc1` and `hvc1`.
    pub codec: String,
    /// Luma samples of a line, cropped.
    pub width: u32,
    /// Lines of a frame, cropped.
    pub height: u32,
    /// Width and height of a sample; 1, 1 where they are not signalled.
    pub sample_aspect: (u32, u32),
    /// Frames and seconds, as a reduced fraction.
    pub frame_rate: Option<(u32, u32)>,
    /// Whether pictures may be fields.
    pub is_interlaced: bool,
    /// Bits of a luma sample.
    pub bit_depth: u8,
    /// Colour description.
    pub colour: Colour,
    /// PQ with static metadata: mastering display (SMPTE ST 2086) or light levels (CTA-861.3).
    pub hdr10: bool,
    /// Dynamic metadata of SMPTE ST 2094-40. It is in the samples, so only known for transport streams.
    pub hdr10_plus: bool,
    /// Profile of Dolby Vision.
    pub dolby_vision: Option<u8>,
}

/// Code points of ISO/IEC 23091-2; `None` if absent or "unspecified" (2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Colour {
    /// `ColourPrimaries`: 1 BT.709, 9 BT.2020.
    pub primaries: Option<u8>,
    /// `TransferCharacteristics`: 1 BT.709, 14 BT.2020, 16 PQ, 18 HLG.
    pub transfer: Option<u8>,
    /// `MatrixCoefficients`: 1 BT.709, 9 BT.2020 non-constant luminance.
    pub matrix: Option<u8>,
    /// Whether black is 0.
    pub is_full_range: Option<bool>,
    /// Preferred transfer from an SEI, if another is signalled for old receivers
    /// (`alternative_transfer_characteristics`).
    pub alternative_transfer: Option<u8>,
}

/// Dynamic range of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dynamic {
    /// Standard dynamic range, also where it is not signalled.
    Sdr,
    /// SMPTE ST 2084.
    Pq,
    /// ARIB STD-B67, also if signalled as a preferred alternative to BT.2020.
    Hlg,
}

impl Dynamic {
    /// Name in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sdr => "SDR",
            Self::Pq => "PQ",
            Self::Hlg => "HLG",
        }
    }
}

/// Classes of picture size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Definition {
    /// Below 720 lines.
    Sd,
    /// From 720 lines.
    Hd,
    /// From 1080 lines.
    FullHd,
    /// From 2160 lines.
    Uhd,
    /// From 4320 lines.
    Uhd8k,
}

impl Definition {
    /// Name in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sd => "SD",
            Self::Hd => "HD",
            Self::FullHd => "Full HD",
            Self::Uhd => "UHD",
            Self::Uhd8k => "8K",
        }
    }
}

/// An audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// RFC 6381, as `mp4a.40.2`, `ec-3`.
    pub codec: String,
    /// Channels, including low frequency effects.
    pub channels: Option<u8>,
    /// Sample rate in Hz.
    pub sample_rate_hz: Option<u32>,
    /// RFC 5646 tag, or ISO 639-2 code.
    pub language: Option<String>,
}

/// Common display aspect ratios.
const SHAPES: [(u32, u32); 3] = [(16, 9), (4, 3), (9, 16)];
/// Tolerance of aspect ratios, in thousandths. 720 samples with the sample aspects of BT.601 are 2.3 % wider than the
/// intended 702; 1088 uncropped lines are 0.7 % too high. The nearest film format, 1.85:1, differs by 4 % from 16:9.
const SHAPE_TOLERANCE: u64 = 25;

impl Video {
    /// A video track of this codec without further properties.
    pub(super) fn new(codec: String) -> Self {
        Self {
            codec,
            width: 0,
            height: 0,
            sample_aspect: (1, 1),
            frame_rate: None,
            is_interlaced: false,
            bit_depth: 8,
            colour: Colour::default(),
            hdr10: false,
            hdr10_plus: false,
            dolby_vision: None,
        }
    }

    /// Display aspect ratio: the nearest common one within the tolerance, otherwise the reduced fraction.
    pub fn display_aspect(&self) -> (u32, u32) {
        let width = u64::from(self.width) * u64::from(self.sample_aspect.0);
        let height = u64::from(self.height) * u64::from(self.sample_aspect.1);
        let is_meant = |&(across, down): &(u32, u32)| {
            let (is, should) =
                (u128::from(width) * u128::from(down), u128::from(height) * u128::from(across));
            is.abs_diff(should) * 1000 <= should * u128::from(SHAPE_TOLERANCE)
        };
        SHAPES.into_iter().find(is_meant).unwrap_or_else(|| reduced(width, height))
    }

    /// Its class, by lines. Letterboxed films are classified as if they had black bars, portrait pictures as if rotated.
    pub fn definition(&self) -> Definition {
        let (short, long) = (self.width.min(self.height), self.width.max(self.height));
        match u64::from(short).max(u64::from(long) * 9 / 16) {
            ..720 => Definition::Sd,
            720..1080 => Definition::Hd,
            1080..2160 => Definition::FullHd,
            2160..4320 => Definition::Uhd,
            4320.. => Definition::Uhd8k,
        }
    }

    /// Its dynamic range, by the transfer.
    pub const fn dynamic(&self) -> Dynamic {
        match (self.colour.transfer, self.colour.alternative_transfer) {
            (Some(16), _) => Dynamic::Pq,
            (Some(18), _) | (Some(14), Some(18)) => Dynamic::Hlg,
            _ => Dynamic::Sdr,
        }
    }

    /// Sets the frame rate, unless it is 90 kHz, the clock that replaces it for variable rates.
    pub(super) fn set_frame_rate(&mut self, frames: u64, seconds: u64) {
        if seconds > 0 && (1..=300).contains(&(frames / seconds)) {
            self.frame_rate = Some(reduced(frames, seconds));
        }
    }

    /// Sets the sample aspect, if it is valid.
    pub(super) fn set_sample_aspect(&mut self, width: u32, height: u32) {
        if width > 0 && height > 0 {
            self.sample_aspect = reduced(width.into(), height.into());
        }
    }
}

impl Colour {
    /// Value of a code point; `None` for "unspecified".
    pub(super) fn code_point(value: u8) -> Option<u8> {
        Some(value).filter(|&value| value != 2)
    }

    /// Sets the three code points from their coded values.
    pub(super) fn set(&mut self, [primaries, transfer, matrix]: [u8; 3]) {
        self.primaries = Self::code_point(primaries);
        self.transfer = Self::code_point(transfer);
        self.matrix = Self::code_point(matrix);
    }
}

/// A reduced fraction. Values beyond 32 bits, which are not picture sizes, lose their low bits.
fn reduced(above: u64, below: u64) -> (u32, u32) {
    let (mut a, mut b) = (above, below);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let (mut above, mut below) = (above / a.max(1), below / a.max(1));
    while above.max(below) > u32::MAX.into() {
        (above, below) = (above >> 1, below >> 1);
    }
    (above as u32, below as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, sample_aspect: (u32, u32)) -> Video {
        Video { width, height, sample_aspect, ..Video::new(String::new()) }
    }

    #[test]
    fn shapes_are_what_is_meant() {
        for (width, height, sample_aspect, shape) in [
            (1920, 1080, (1, 1), (16, 9)),
            (1366, 768, (1, 1), (16, 9)),
            (854, 480, (1, 1), (16, 9)),
            (1920, 1088, (1, 1), (16, 9)),
            (1440, 1080, (4, 3), (16, 9)),
            (720, 576, (64, 45), (16, 9)),
            (720, 576, (16, 11), (16, 9)),
            (720, 576, (12, 11), (4, 3)),
            (720, 480, (40, 33), (16, 9)),
            (720, 480, (10, 11), (4, 3)),
            (608, 1080, (1, 1), (9, 16)),
            (1998, 1080, (1, 1), (37, 20)),
            (1920, 804, (1, 1), (160, 67)),
            (1280, 800, (1, 1), (8, 5)),
        ] {
            assert_eq!(
                picture(width, height, sample_aspect).display_aspect(),
                shape,
                "{width}x{height} {sample_aspect:?}"
            );
        }
        let odd = picture(u32::MAX, 1, (u32::MAX, 1)).display_aspect();
        assert!(odd.0 > 0, "{odd:?}");
    }

    #[test]
    fn classes_are_those_of_the_picture_with_its_bars() {
        for (width, height, class) in [
            (720, 576, Definition::Sd),
            (1024, 576, Definition::Sd),
            (1280, 720, Definition::Hd),
            (1280, 536, Definition::Hd),
            (1440, 1080, Definition::FullHd),
            (1920, 804, Definition::FullHd),
            (1080, 1920, Definition::FullHd),
            (2560, 1440, Definition::FullHd),
            (3840, 1600, Definition::Uhd),
            (7680, 4320, Definition::Uhd8k),
        ] {
            assert_eq!(picture(width, height, (1, 1)).definition(), class, "{width}x{height}");
        }
    }

    #[test]
    fn the_transfer_makes_the_dynamic_range() {
        let with = |transfer, alternative_transfer| {
            let colour = Colour { transfer, alternative_transfer, ..Colour::default() };
            Video { colour, ..picture(16, 9, (1, 1)) }.dynamic()
        };
        assert_eq!(with(Some(16), None), Dynamic::Pq);
        assert_eq!(with(Some(18), None), Dynamic::Hlg);
        assert_eq!(with(Some(14), Some(18)), Dynamic::Hlg);
        assert_eq!([with(Some(14), None), with(Some(1), Some(18)), with(None, None)], [Dynamic::Sdr; 3]);
    }

    #[test]
    fn a_clock_is_no_frame_rate() {
        let mut video = picture(16, 9, (1, 1));
        for (frames, seconds) in [(90_000, 1), (0, 1), (1, 0), (1, 2)] {
            video.set_frame_rate(frames, seconds);
            assert_eq!(video.frame_rate, None, "{frames}/{seconds}");
        }
        video.set_frame_rate(60_000, 2002);
        assert_eq!(video.frame_rate, Some((30_000, 1001)));
    }
}
