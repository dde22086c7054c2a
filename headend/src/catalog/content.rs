//! Content attributes of a service (TS 103 770 clause 6.11), read from its media: codecs, picture format, colorimetry, HDR.
//! Properties without a term in the classification schemes are left out.

use carousel::dvbi::list::{AudioAttributes, ContentAttributes, VideoAttributes};

use crate::package::media::{Audio, Colour, Definition, Dynamic, Facts, Video};

const VIDEO_CODECS: &str = "urn:dvb:metadata:cs:VideoCodecCS:2022:";
const AUDIO_CODECS: &str = "urn:dvb:metadata:cs:AudioCodecCS:2020:";
const PICTURE_FORMATS: &str = "urn:tva:metadata:cs:PictureFormatCS:2015:";
const COLORIMETRIES: &str = "urn:dvb:metadata:cs:ColorimetryCS:2020:";
const CONFORMANCE_POINTS: &str = "urn:dvb:metadata:cs:VideoConformancePointsCS:2022:";

/// Attributes of a presentation, from the facts of its rungs.
pub(super) fn attributes(facts: &[Facts]) -> ContentAttributes {
    let mut videos: Vec<&Video> = facts.iter().filter_map(|it| it.video.as_ref()).collect();
    // The best first: receivers choose by it.
    videos.sort_by_key(|it| std::cmp::Reverse((it.dynamic() != Dynamic::Sdr, it.height, it.width)));
    let mut audio: Vec<AudioAttributes> = Vec::new();
    for track in facts.iter().flat_map(|it| &it.audio) {
        let attributes = audio_attributes(track);
        let is_same =
            |it: &AudioAttributes| it.language == attributes.language && it.coding == attributes.coding;
        if !audio.iter().any(is_same) {
            audio.push(attributes);
        }
    }
    ContentAttributes {
        audio,
        video: videos.iter().map(|it| video_attributes(it)).collect(),
        video_conformance_points: videos.first().and_then(|it| conformance_point(it)).into_iter().collect(),
    }
}

fn audio_attributes(audio: &Audio) -> AudioAttributes {
    AudioAttributes {
        coding: audio_coding(&audio.codec).map(|term| format!("{AUDIO_CODECS}{term}")),
        channels: audio.channels,
        language: audio.language.clone().filter(|it| it != "und" && !it.is_empty()),
        sample_rate_hz: audio.sample_rate_hz,
    }
}

/// Term of AudioCodecCS by RFC 6381's name.
fn audio_coding(codec: &str) -> Option<&'static str> {
    let codec = codec.to_ascii_lowercase();
    Some(match codec.as_str() {
        "mp4a.40.2" => "1.1.2",
        "mp4a.40.5" => "1.2.3",
        "mp4a.40.29" => "1.3.3",
        _ if codec.starts_with("ec-3") => "3.1",
        _ if codec.starts_with("ac-3") => "3",
        _ if codec.starts_with("ac-4") => "4",
        _ => return None,
    })
}

fn video_attributes(video: &Video) -> VideoAttributes {
    let format = match video.definition() {
        Definition::Sd => "1.1",
        Definition::Hd | Definition::FullHd => "1.2",
        Definition::Uhd => "1.4.1",
        Definition::Uhd8k => "1.4.2",
    };
    VideoAttributes {
        coding: video_coding(&video.codec).map(|term| format!("{VIDEO_CODECS}{term}")),
        is_interlaced: video.is_interlaced,
        width: u16::try_from(video.width).ok(),
        height: u16::try_from(video.height).ok(),
        aspect_ratio: Some(video.display_aspect()).filter(|(w, h)| *w > 0 && *h > 0),
        frame_rate: video.frame_rate.and_then(frame_rate),
        picture_format: Some(format!("{PICTURE_FORMATS}{format}")),
        colorimetry: colorimetry(&video.colour, video.dynamic()).map(|term| format!("{COLORIMETRIES}{term}")),
    }
}

/// `25`, `50`, `30/1.001`: the forms that TV-Anytime has.
fn frame_rate((frames, seconds): (u32, u32)) -> Option<String> {
    match (frames, seconds) {
        (_, 0) => None,
        (frames, 1) => Some(frames.to_string()),
        (frames, 1001) if frames.is_multiple_of(1000) => Some(format!("{}/1.001", frames / 1000)),
        (frames, seconds) => {
            let text = format!("{:.3}", f64::from(frames) / f64::from(seconds));
            Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
        }
    }
}

/// Leaf terms only: BT.709, BT.2020 and BT.2100, the latter two with non-constant luminance.
fn colorimetry(colour: &Colour, dynamic: Dynamic) -> Option<&'static str> {
    let is_constant_luminance = colour.matrix == Some(10);
    match (colour.primaries, dynamic) {
        (Some(1), Dynamic::Sdr) => Some("1"),
        (Some(9), Dynamic::Sdr) if !is_constant_luminance => Some("2.1"),
        (Some(9), Dynamic::Pq | Dynamic::Hlg) if !is_constant_luminance => Some("3.1"),
        _ => None,
    }
}

/// HDR needs one, so that no receiver shows it as SDR.
fn conformance_point(video: &Video) -> Option<String> {
    let is_hevc = ["hvc1", "hev1", "dvh1", "dvhe"].iter().any(|it| video.codec.starts_with(it));
    let is_uhd = video.definition() == Definition::Uhd;
    let term = match (video.dynamic(), is_hevc && is_uhd) {
        (Dynamic::Sdr, _) => return None,
        (Dynamic::Hlg, true) => "2.1.10",
        (Dynamic::Pq, true) => "2.1.11",
        (Dynamic::Hlg, false) => "2.2.1",
        (Dynamic::Pq, false) => "2.2.2",
    };
    Some(format!("{CONFORMANCE_POINTS}{term}"))
}

/// Levels of H.264 in the order of the scheme's terms.
const AVC_LEVELS: [&str; 16] =
    ["1", "1b", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "3", "3.1", "3.2", "4", "4.1", "4.2", "5", "5.1"];

/// Term of VideoCodecCS by RFC 6381's name.
fn video_coding(codec: &str) -> Option<String> {
    let (kind, rest) = codec.split_once('.').unwrap_or((codec, ""));
    match kind {
        "avc1" | "avc3" => {
            let hex = |at: usize| rest.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok());
            let (profile, level) = (hex(0)?, hex(4)?);
            let profile = match profile {
                66 => 1,
                77 => 2,
                88 => 3,
                100 => 4,
                110 => 5,
                122 => 6,
                244 => 7,
                _ => return Some("1".to_owned()),
            };
            let name = if level.is_multiple_of(10) {
                (level / 10).to_string()
            } else {
                format!("{}.{}", level / 10, level % 10)
            };
            let level = AVC_LEVELS.iter().position(|it| *it == name).map(|at| at + 1);
            Some(level.map_or_else(|| format!("1.{profile}"), |level| format!("1.{profile}.{level}")))
        }
        "hvc1" | "hev1" | "dvh1" | "dvhe" => {
            // hvc1.2.4.L150.B0: profile 2, level 150 / 30 = 5.
            let mut fields = rest.split('.');
            let profile = match fields.next()?.trim_start_matches(['A', 'B', 'C']) {
                "1" => 1,
                "2" => 2,
                _ => return Some("4".to_owned()),
            };
            let tier = fields.nth(1).unwrap_or_default();
            // Terms are for the main tier.
            let level = tier.strip_prefix('L').and_then(|it| it.parse::<u16>().ok());
            let level = match (profile, level) {
                (1 | 2, Some(30)) => Some(1),
                (1 | 2, Some(60)) => Some(6),
                (1 | 2, Some(63)) => Some(7),
                (1 | 2, Some(90)) => Some(9),
                (1 | 2, Some(93)) => Some(10),
                (1 | 2, Some(120)) => Some(12),
                (1 | 2, Some(123)) => Some(13),
                (2, Some(150)) => Some(15),
                (2, Some(153)) => Some(16),
                (2, Some(156)) => Some(17),
                (2, Some(180)) => Some(18),
                (2, Some(183)) => Some(19),
                _ => None,
            };
            Some(level.map_or_else(|| format!("4.{profile}"), |level| format!("4.{profile}.{level}")))
        }
        "mp4v" => Some("3".to_owned()),
        "vvc1" | "vvi1" => Some("6".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_have_their_terms() {
        for (codec, term) in [
            ("avc1.640028", Some("1.4.12")),
            ("avc1.42C01E", Some("1.1.9")),
            ("avc3.4D401F", Some("1.2.10")),
            ("avc1.640034", Some("1.4")),
            ("hvc1.2.4.L150.B0", Some("4.2.15")),
            ("hev1.1.6.L93.B0", Some("4.1.10")),
            ("hvc1.2.4.H150.B0", Some("4.2")),
            ("hvc1.4.10.L93", Some("4")),
            ("av01.0.08M.10", None),
        ] {
            assert_eq!(video_coding(codec).as_deref(), term, "{codec}");
        }
        assert_eq!(
            (audio_coding("mp4a.40.2"), audio_coding("EC-3"), audio_coding("Opus")),
            (Some("1.1.2"), Some("3.1"), None)
        );
    }

    #[test]
    fn frame_rates_have_the_forms_of_tv_anytime() {
        let rate = |frames, seconds| frame_rate((frames, seconds)).unwrap();
        assert_eq!(
            (rate(25, 1), rate(30_000, 1001), rate(25, 2)),
            ("25".into(), "30/1.001".into(), "12.5".into())
        );
    }

    #[test]
    fn hdr_is_signalled_by_colorimetry_and_conformance_point() {
        let colour = |primaries, transfer, matrix| Colour {
            primaries: Some(primaries),
            transfer: Some(transfer),
            matrix: Some(matrix),
            ..Colour::default()
        };
        assert_eq!(colorimetry(&colour(1, 1, 1), Dynamic::Sdr), Some("1"));
        assert_eq!(colorimetry(&colour(9, 14, 9), Dynamic::Sdr), Some("2.1"));
        assert_eq!(colorimetry(&colour(9, 16, 9), Dynamic::Pq), Some("3.1"));
        assert_eq!(colorimetry(&colour(5, 6, 6), Dynamic::Sdr), None);
    }
}
