//! Tracks of a `moov` in init segments and files (ISO/IEC 14496-12 clause 8), by their first sample description.

use carousel::bytes::Reader;

use super::boxes::{at, boxes, find};
use super::facts::{Audio, Facts, Video};
use super::{Unreadable, audio, av1, avc, hevc, usability, vp9};

carousel::limits! {
    /// Most tracks of an MP4 file that are read.
    pub(super) const MAX_TRACKS: usize = 64, "tracks" {
        why: "A film in many languages has some twenty.",
        full: "Further ones are not considered.",
        free: "Holds for one file.",
        test: "media_are_read_up_to_a_bound",
    }
}

/// Offsets of the boxes of a sample entry (clauses 12.1.3 and 12.2.3).
const VISUAL_ENTRY_BYTES: usize = 78;
const AUDIO_ENTRY_BYTES: usize = 28;

/// Reads the `moov` among the first boxes of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Facts, Unreadable> {
    let movie = find(bytes, b"moov").ok_or(Unreadable::NoInit)?;
    let mut facts = Facts::default();
    for (_, track) in boxes(movie).filter(|(kind, _)| kind == b"trak").take(MAX_TRACKS) {
        let _ = read_track(movie, track, &mut facts);
    }
    Ok(facts)
}

/// Reads a track; `None` if it is of another kind, or lacks a mandatory box.
fn read_track(movie: &[u8], track: &[u8], facts: &mut Facts) -> Option<()> {
    let media = find(track, b"mdia")?;
    let handler: &[u8; 4] = find(media, b"hdlr")?.get(8..)?.first_chunk()?;
    let table = at(media, &[b"minf", b"stbl"])?;
    let (kind, entry) = boxes(find(table, b"stsd")?.get(8..)?).next()?;
    facts.is_protected |= is_encrypted(kind);
    match handler {
        b"vide" if facts.video.is_none() => {
            let mut video = visual(kind, entry)?;
            if video.width == 0 || video.height == 0 {
                (video.width, video.height) = track_size(track)?;
            }
            if video.frame_rate.is_none() {
                let _ = constant_rate(movie, track, media, table, &mut video);
            }
            facts.video = Some(video);
        }
        b"soun" => facts.audio.push(Audio { language: language(media), ..sounding(kind, entry)? }),
        // Their boxes follow reserved bytes and data_reference_index, or text that does not look like a box.
        b"text" | b"subt" | b"sbtl" => facts.subtitles.push(name(original(kind, entry.get(8..)?))),
        _ => {}
    }
    Some(())
}

/// The format that encryption covers (ISO/IEC 14496-12 clause 8.12), by the boxes of the entry, or the entry's own.
fn original(kind: [u8; 4], inner: &[u8]) -> [u8; 4] {
    if !is_encrypted(kind) {
        return kind;
    }
    at(inner, &[b"sinf", b"frma"]).and_then(|format| format.first_chunk()).copied().unwrap_or(kind)
}

fn is_encrypted(kind: [u8; 4]) -> bool {
    matches!(&kind, b"encv" | b"enca" | b"enct" | b"encs")
}

fn name(kind: [u8; 4]) -> String {
    kind.iter().map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '_' }).collect()
}

fn visual(kind: [u8; 4], entry: &[u8]) -> Option<Video> {
    let inner = entry.get(VISUAL_ENTRY_BYTES..)?;
    let kind = original(kind, inner);
    let of = name(kind);
    let configured = match &kind {
        b"avc1" | b"avc3" | b"dva1" | b"dvav" => find(inner, b"avcC").and_then(|it| avc::configured(&of, it)),
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => {
            find(inner, b"hvcC").and_then(|it| hevc::configured(&of, it))
        }
        b"av01" | b"dav1" => find(inner, b"av1C").and_then(|it| av1::configured(&of, it)),
        b"vp08" | b"vp09" => find(inner, b"vpcC").and_then(|it| vp9::configured(&of, it)),
        _ => None,
    };
    let mut video = configured.unwrap_or_else(|| Video::new(of));
    if video.width == 0 || video.height == 0 {
        let mut reader = Reader::new(entry.get(24..)?);
        (video.width, video.height) = (reader.u16("width").ok()?.into(), reader.u16("height").ok()?.into());
    }
    for (kind_of_box, body) in boxes(inner) {
        match &kind_of_box {
            b"colr" => usability::colour_box(body, &mut video.colour),
            b"pasp" => {
                let mut reader = Reader::new(body);
                if let (Ok(width), Ok(height)) = (reader.u32("hSpacing"), reader.u32("vSpacing")) {
                    video.set_sample_aspect(width, height);
                }
            }
            b"mdcv" | b"clli" | b"SmDm" | b"CoLL" => video.hdr10 = true,
            b"dvcC" | b"dvvC" | b"dvwC" => dolby_vision(kind, body, &mut video),
            _ => {}
        }
    }
    Some(video)
}

/// Reads a DOVIDecoderConfigurationRecord. For Dolby Vision's own sample entries the codec is named by profile and level
/// (Dolby Vision Streams within ISO BMFF clause 6.3).
fn dolby_vision(kind: [u8; 4], body: &[u8], video: &mut Video) {
    let &[_, _, first, second, ..] = body else { return };
    let (profile, level) = (first >> 1, (first & 1) << 5 | second >> 3);
    video.dolby_vision = Some(profile);
    if matches!(&kind, b"dvh1" | b"dvhe" | b"dva1" | b"dvav" | b"dav1") {
        video.codec = format!("{}.{profile:02}.{level:02}", name(kind));
    }
}

/// Width and height of `tkhd`, its last fields.
fn track_size(track: &[u8]) -> Option<(u32, u32)> {
    let header = find(track, b"tkhd")?;
    let mut reader = Reader::new(header.last_chunk::<8>()?);
    Some((reader.u32("width").ok()? >> 16, reader.u32("height").ok()? >> 16))
}

/// The frame rate if all samples have equal durations: a single entry of `stts`, or the default of `trex`.
fn constant_rate(movie: &[u8], track: &[u8], media: &[u8], table: &[u8], video: &mut Video) -> Option<()> {
    let mut reader = Reader::new(find(media, b"mdhd")?);
    let skipped = if reader.u32("version and flags").ok()? >> 24 == 1 { 16 } else { 8 };
    reader.take(skipped, "times").ok()?;
    let timescale = reader.u32("timescale").ok()?;
    let mut times = Reader::new(find(table, b"stts")?.get(4..)?);
    let duration = match times.u32("entry_count").ok()? {
        0 => default_duration(movie, track)?,
        1 => times.uint::<8>("entry").ok()? as u32, // sample_count, sample_delta
        _ => return None,
    };
    video.set_frame_rate(timescale.into(), duration.into());
    Some(())
}

fn default_duration(movie: &[u8], track: &[u8]) -> Option<u32> {
    let header = find(track, b"tkhd")?;
    let id = header.get(if header.first()? & 1 == 1 { 20 } else { 12 }..)?.first_chunk::<4>()?;
    let defaults = boxes(find(movie, b"mvex")?).filter(|(kind, _)| kind == b"trex").take(MAX_TRACKS);
    let of_track = defaults.map(|(_, body)| body).find(|body| body.get(4..8) == Some(&id[..]))?;
    of_track.get(12..)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn sounding(kind: [u8; 4], entry: &[u8]) -> Option<Audio> {
    let inner = entry.get(audio_boxes_at(entry)..)?;
    let kind = original(kind, inner);
    let mut audio = Audio::new(&name(kind));
    let mut reader = Reader::new(entry.get(16..)?);
    audio.channels = u8::try_from(reader.u16("channelcount").ok()?).ok().filter(|&count| count > 0);
    reader.take(6, "samplesize").ok()?;
    audio.sample_rate_hz = Some(reader.u32("samplerate").ok()? >> 16).filter(|&rate| rate > 0);
    // A truncated configuration is used as far as it goes.
    let _ = match &kind {
        b"mp4a" => find(inner, b"esds").and_then(|body| audio::elementary_stream(&mut audio, body)),
        b"ac-3" => find(inner, b"dac3").and_then(|body| audio::ac3_box(&mut audio, body)),
        b"ec-3" => find(inner, b"dec3").and_then(|body| audio::eac3_box(&mut audio, body)),
        b"Opus" => find(inner, b"dOps").and_then(|body| audio::opus_box(&mut audio, body)),
        b"fLaC" => find(inner, b"dfLa").and_then(|body| audio::flac_box(&mut audio, body)),
        _ => None,
    };
    Some(audio)
}

/// QuickTime's entries of versions 1 and 2 have additional fields before their boxes.
fn audio_boxes_at(entry: &[u8]) -> usize {
    match entry.get(8..10) {
        Some([0, 1]) if find(entry.get(AUDIO_ENTRY_BYTES..).unwrap_or_default(), b"esds").is_none() => {
            AUDIO_ENTRY_BYTES + 16
        }
        Some([0, 2]) => AUDIO_ENTRY_BYTES + 36,
        _ => AUDIO_ENTRY_BYTES,
    }
}

/// `elng`, or the three letters of `mdhd`, unless they are `und`.
fn language(media: &[u8]) -> Option<String> {
    let extended = find(media, b"elng")
        .and_then(|body| body.get(4..))
        .and_then(|tag| tag.split(|&byte| byte == 0).next());
    if let Some(tag) = extended
        && (1..=35).contains(&tag.len())
        && tag.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    {
        return Some(String::from_utf8_lossy(tag).into_owned());
    }
    let header = find(media, b"mdhd")?;
    let at = if *header.first()? == 1 { 32 } else { 20 };
    let packed = u16::from_be_bytes(*header.get(at..)?.first_chunk()?);
    let letters = [packed >> 10 & 0x1f, packed >> 5 & 0x1f, packed & 0x1f].map(|letter| 0x60 + letter as u8);
    super::ts::language(&letters)
}
