//! Names of audio codecs in `CODECS` and `@codecs` (RFC 6381), by which a rendition is recognised as audio without reading its media.

/// Sample entries of audio, in lower case: those of RFC 6381 clause 3.3 that the MP4 Registration Authority lists under "codecs".
const AUDIO: &[&str] = &[
    "mp4a", // ISO/IEC 14496-3: AAC, MP3 and others, by their object type
    "ac-3", "ec-3", // ETSI TS 102 366
    "ac-4", // ETSI TS 103 190-2
    "mlpa", // Dolby TrueHD
    "dtsc", "dtse", "dtsh", "dtsl", "dts-", "dts+", // ETSI TS 102 114
    "dtsx", "dtsy", // ETSI TS 103 491
    "mha1", "mha2", "mhm1", "mhm2", // ISO/IEC 23008-3
    "opus", // Encapsulation of Opus in ISO BMFF
    "flac", // Encapsulation of FLAC in ISO BMFF
    "alac", // Apple Lossless
    "iamf", // Immersive Audio Model and Formats
    "ipcm", "fpcm", // ISO/IEC 23003-5
    "samr", "sawb", "sawp", // 3GPP TS 26.244: AMR
    "sevs", // 3GPP TS 26.244: EVS
];

/// Whether a codec is one of audio, by the part of its name before the first dot. Packagers write `Opus` and `opus`, `fLaC` and `flac`.
pub(in crate::package) fn is_audio(codec: &str) -> bool {
    let entry = codec.trim().split('.').next().unwrap_or_default();
    AUDIO.iter().any(|name| name.eq_ignore_ascii_case(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_recognised_by_its_sample_entry_in_any_capitals() {
        let audio = [
            "mp4a.40.2",
            "mp4a.6B",
            "ac-3",
            "ec-3",
            "ac-4.02.01.00",
            "mhm1.0x0D",
            "mha1.0x11",
            "Opus",
            "opus",
            "fLaC",
            "flac",
            "dtsc",
            "dtsx",
            "alac",
            " mp4a.40.5",
            "iamf.000.000.Opus",
        ];
        audio.iter().for_each(|codec| assert!(is_audio(codec), "{codec}"));
        let others = [
            "avc1.64001f",
            "hvc1.2.4.L153",
            "dvh1.05.06",
            "av01.0.04M.08",
            "vp09.00.10.08",
            "stpp.ttml",
            "wvtt",
            "mp4v.20",
            "",
            "ac",
        ];
        others.iter().for_each(|codec| assert!(!is_audio(codec), "{codec}"));
    }
}
