//! Audio properties, from configurations and frame headers.

use carousel::bytes::Reader;

use super::bits::Bits;
use super::facts::Audio;

/// Channels by `channelConfiguration` (ISO/IEC 23001-8 table 8); 0: explicitly configured, or reserved.
const AAC_CHANNELS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 3, 4, 7, 8, 24, 8, 0];
/// ISO/IEC 14496-3 table 1.18.
const AAC_RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const SPECTRAL_BAND_REPLICATION: u8 = 5;
const PARAMETRIC_STEREO: u8 = 29;
/// Channels by `acmod` (ETSI TS 102 366 table 4.3).
const AC3_CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
/// By `fscod`.
const AC3_RATES_HZ: [u32; 3] = [48_000, 44_100, 32_000];
/// Channels of dependent substreams by the bits of `chan_loc` (ETSI TS 102 366 table F.6.1); bit 0 is the least
/// significant, as in players.
const DEPENDENT_CHANNELS: [u8; 9] = [2, 2, 1, 1, 2, 2, 2, 1, 1];
/// Smallest `bsid` of an E-AC-3 frame.
const EAC3_BSID: u8 = 11;

impl Audio {
    /// A track of this codec without further properties.
    pub(super) fn new(codec: &str) -> Self {
        Self { codec: codec.to_owned(), channels: None, sample_rate_hz: None, language: None }
    }
}

/// Reads `esds` (ISO/IEC 14496-14): the object type, and the configuration of AAC.
pub(super) fn elementary_stream(audio: &mut Audio, body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    reader.u32("version and flags").ok()?;
    let mut reader = descriptor(&mut reader, 3)?;
    reader.u16("ES_ID").ok()?;
    let flags = reader.u8("ES flags").ok()?;
    if flags & 0x80 != 0 {
        reader.u16("dependsOn_ES_ID").ok()?;
    }
    if flags & 0x40 != 0 {
        let length = reader.u8("URLlength").ok()?;
        reader.take(length.into(), "URLstring").ok()?;
    }
    if flags & 0x20 != 0 {
        reader.u16("OCR_ES_Id").ok()?;
    }
    let mut reader = descriptor(&mut reader, 4)?;
    let object_type = reader.u8("objectTypeIndication").ok()?;
    audio.codec = format!("mp4a.{object_type:02X}");
    reader.take(12, "DecoderConfigDescriptor").ok()?;
    let configuration = descriptor(&mut reader, 5)?.rest();
    if object_type == 0x40 {
        aac(audio, configuration)?;
    }
    Some(())
}

/// The body of the next descriptor, if it has this tag (ISO/IEC 14496-1 clause 8.3.3).
fn descriptor<'a>(reader: &mut Reader<'a>, tag: u8) -> Option<Reader<'a>> {
    if reader.u8("descriptor tag").ok()? != tag {
        return None;
    }
    let mut length = 0;
    for _ in 0..4 {
        let byte = reader.u8("descriptor length").ok()?;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(Reader::new(reader.take(length.min(reader.remaining()), "descriptor").ok()?))
}

/// Reads an `AudioSpecificConfig` (ISO/IEC 14496-3 clause 1.6.2.1).
fn aac(audio: &mut Audio, configuration: &[u8]) -> Option<()> {
    let mut bits = Bits::new(configuration);
    let object_type = object_type(&mut bits)?;
    audio.codec.push_str(&format!(".{object_type}"));
    audio.sample_rate_hz = aac_rate(&mut bits)?;
    audio.channels = channels(bits.bits(4)?);
    if matches!(object_type, SPECTRAL_BAND_REPLICATION | PARAMETRIC_STEREO) {
        audio.sample_rate_hz = aac_rate(&mut bits)?.or(audio.sample_rate_hz);
    }
    if object_type == PARAMETRIC_STEREO {
        audio.channels = Some(2);
    }
    Some(())
}

fn object_type(bits: &mut Bits<'_>) -> Option<u8> {
    match bits.bits(5)? {
        31 => Some(32 + bits.bits(6)? as u8),
        it => Some(it as u8),
    }
}

/// `None` at the end of the bits, `Some(None)` for a reserved index.
#[allow(clippy::option_option)]
fn aac_rate(bits: &mut Bits<'_>) -> Option<Option<u32>> {
    match bits.bits(4)? {
        15 => bits.bits(24).map(Some),
        index => Some(AAC_RATES_HZ.get(index as usize).copied()),
    }
}

fn channels(configuration: u32) -> Option<u8> {
    AAC_CHANNELS.get(configuration as usize).copied().filter(|&count| count > 0)
}

/// Reads `dac3` (ETSI TS 102 366 clause F.4).
pub(super) fn ac3_box(audio: &mut Audio, body: &[u8]) -> Option<()> {
    let mut bits = Bits::new(body);
    let rate = bits.bits(2)?;
    bits.skip(5 + 3)?; // bsid, bsmod
    ac3_facts(audio, rate, bits.bits(3)?, bits.bit()?);
    Some(())
}

/// Reads `dec3` (ETSI TS 102 366 clause F.6): the first programme.
pub(super) fn eac3_box(audio: &mut Audio, body: &[u8]) -> Option<()> {
    let mut bits = Bits::new(body);
    bits.skip(13 + 3)?; // data_rate, num_ind_sub
    let rate = bits.bits(2)?;
    bits.skip(5 + 1 + 1 + 3)?; // bsid, reserved, asvc, bsmod
    ac3_facts(audio, rate, bits.bits(3)?, bits.bit()?);
    bits.skip(3)?;
    if bits.bits(4)? > 0 {
        let locations = bits.bits(9)?;
        let more: u8 =
            (0..9).filter(|bit| locations >> bit & 1 == 1).map(|bit| DEPENDENT_CHANNELS[bit as usize]).sum();
        audio.channels = audio.channels.map(|count| count + more);
    }
    Some(())
}

fn ac3_facts(audio: &mut Audio, rate: u32, mode: u32, has_low_frequencies: bool) {
    audio.sample_rate_hz = AC3_RATES_HZ.get(rate as usize).copied().or(audio.sample_rate_hz);
    audio.channels = AC3_CHANNELS
        .get(mode as usize)
        .map(|&count| count + u8::from(has_low_frequencies))
        .or(audio.channels);
}

/// Reads `dOps`: Opus plays at 48 kHz, independent of the encoder's input.
pub(super) fn opus_box(audio: &mut Audio, body: &[u8]) -> Option<()> {
    let &[_, channels, ..] = body else { return None };
    audio.channels = Some(channels).filter(|&count| count > 0);
    audio.sample_rate_hz = Some(48_000);
    Some(())
}

/// Reads `dfLa`: STREAMINFO is its first block.
pub(super) fn flac_box(audio: &mut Audio, body: &[u8]) -> Option<()> {
    let mut bits = Bits::new(body.get(8..)?); // version, flags, head of the block
    bits.skip(16 + 16 + 24 + 24)?; // sizes of blocks and frames
    audio.sample_rate_hz = Some(bits.bits(20)?).filter(|&rate| rate > 0);
    audio.channels = Some(bits.bits(3)? as u8 + 1);
    Some(())
}

/// Reads the first frame of AAC in ADTS (ISO/IEC 13818-7 clause 6.2).
pub(super) fn adts(stream: &[u8]) -> Option<Audio> {
    // The sync word, and a layer of 0
    let at = stream.windows(2).position(|two| two[0] == 0xff && two[1] & 0xf6 == 0xf0)?;
    let mut bits = Bits::new(&stream[at + 2..]);
    let object_type = bits.bits(2)? + 1;
    let mut audio = Audio::new(&format!("mp4a.40.{object_type}"));
    audio.sample_rate_hz = AAC_RATES_HZ.get(bits.bits(4)? as usize).copied();
    bits.bit()?; // private_bit
    audio.channels = channels(bits.bits(3)?);
    Some(audio)
}

/// Reads the first frame of MPEG audio (ISO/IEC 11172-3 clause 2.4.1.3, ISO/IEC 13818-3).
pub(super) fn mpeg_audio(stream: &[u8]) -> Option<Audio> {
    let is_sync = |two: &[u8]| two[0] == 0xff && two[1] & 0xe0 == 0xe0 && two[1] & 0x06 != 0;
    let at = stream.windows(2).position(is_sync)?;
    let &[_, first, second, third, ..] = &stream[at..] else { return None };
    let layer = 4 - (first >> 1 & 3);
    let mut audio = Audio::new(&format!("mp4a.40.{}", 31 + layer));
    let rate = [44_100, 48_000, 32_000].get(usize::from(second >> 2 & 3));
    let divisor = match first >> 3 & 3 {
        3 => 1,
        2 => 2,
        _ => 4,
    };
    audio.sample_rate_hz = rate.map(|rate| rate / divisor);
    audio.channels = Some(if third >> 6 == 3 { 1 } else { 2 });
    Some(audio)
}

/// Reads the first frame of AC-3 or E-AC-3 (ETSI TS 102 366 clauses 4.3 and E.1.2). Channels of dependent substreams,
/// beyond 5.1, are not counted, since they are at the end of the frame.
pub(super) fn ac3(stream: &[u8]) -> Option<Audio> {
    let at = stream.windows(2).position(|two| two == [0x0b, 0x77])?;
    let frame = &stream[at..];
    let mut audio;
    let mut bits = Bits::new(frame.get(2..)?);
    if frame.get(5)? >> 3 < EAC3_BSID {
        audio = Audio::new("ac-3");
        bits.skip(16)?; // crc1
        let rate = bits.bits(2)?;
        bits.skip(6 + 5 + 3)?; // frmsizecod, bsid, bsmod
        let mode = bits.bits(3)?;
        // Mix levels of centre and surround, the mode of Dolby Surround
        let levels =
            usize::from(mode & 1 != 0 && mode != 1) + usize::from(mode & 4 != 0) + usize::from(mode == 2);
        bits.skip(2 * levels)?;
        ac3_facts(&mut audio, rate, mode, bits.bit()?);
    } else {
        audio = Audio::new("ec-3");
        bits.skip(2 + 3 + 11)?; // strmtyp, substreamid, frmsiz
        let rate = bits.bits(2)?;
        bits.skip(2)?; // numblkscod, or the half rate
        ac3_facts(&mut audio, rate, bits.bits(3)?, bits.bit()?);
    }
    Some(audio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spectral_band_replication_doubles_the_rate_and_parametric_stereo_the_channel() {
        // Explicit signalling: 29, 24 kHz, 1 channel, 48 kHz, 2
        let mut audio = Audio::new("mp4a.40");
        aac(&mut audio, &[0b1110_1011, 0b0000_1001, 0b1000_1000]).unwrap();
        assert_eq!(
            (audio.codec.as_str(), audio.channels, audio.sample_rate_hz),
            ("mp4a.40.29", Some(2), Some(48_000))
        );
    }

    #[test]
    fn dependent_substreams_are_counted() {
        // 48 kHz, 3/2 with LFE; one dependent substream with the rear pair
        let mut audio = Audio::new("ec-3");
        eac3_box(&mut audio, &[0x0c, 0x00, 0x20, 0x0f, 0x02, 0x02]).unwrap();
        assert_eq!((audio.channels, audio.sample_rate_hz), (Some(8), Some(48_000)));
    }

    #[test]
    fn layers_of_mpeg_audio() {
        // MPEG-1 layer II, 48 kHz, joint stereo; MPEG-2 layer III, 22.05 kHz, mono
        let two = mpeg_audio(&[0, 0xff, 0xfd, 0x84, 0x44]).unwrap();
        assert_eq!(
            (two.codec.as_str(), two.channels, two.sample_rate_hz),
            ("mp4a.40.33", Some(2), Some(48_000))
        );
        let three = mpeg_audio(&[0xff, 0xf3, 0x40, 0xc4]).unwrap();
        assert_eq!(
            (three.codec.as_str(), three.channels, three.sample_rate_hz),
            ("mp4a.40.34", Some(1), Some(22_050))
        );
    }
}
