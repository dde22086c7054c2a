//! Detection of unplayable media files, before caches store them as complete.
//!
//! Only definite faults count: a file that is empty, ends in the middle of a box or packet, is another kind of file, or
//! cannot be decoded from its start. Encrypted media and unknown formats are opaque and pass.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use carousel::ts::PACKET_BYTES;

use super::media::{self, boxes};
use super::{LeftOutReason as Reason, content_type};
use crate::sys::open_source_file;

/// Bytes of a file that are examined: the first `moof`, or the first picture of a transport stream.
const HEAD_BYTES: usize = 64 << 10;
/// Bytes by which the kind of a file is recognised.
const KIND_BYTES: usize = 1024;

carousel::limits! {
    /// Most top-level boxes of a file that are read.
    const MAX_BOXES: usize = 100_000, "boxes" {
        why: "A segment of 10 s in chunks of 20 ms has a thousand.",
        full: "The file counts as faultless.",
        free: "Holds for one file.",
        test: "files_of_very_many_boxes_are_looked_at_up_to_a_bound",
    }
}

/// Bytes of a transport stream packet.
const PACKET: u64 = 188;

/// Properties of a file that a manifest states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct DeclaredProperties {
    /// Completely encrypted (HLS METHOD=AES-128): its bytes cannot be examined.
    pub(super) is_encrypted: bool,
    /// A segment of boxes.
    pub(super) is_mp4: bool,
    /// Must decode from its start: a segment of video, not a part of one.
    pub(super) is_random_access: bool,
    /// An init segment, which has a `moov` if it is of boxes.
    pub(super) is_init: bool,
}

/// A fault: the reason, and a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) what: String,
}

/// The kind of a file, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mp4,
    TransportStream,
    Html,
    /// Readable text of another kind.
    Text,
    /// Packets that do not begin at the start of the file.
    Misaligned,
    /// Not media; its name.
    Other(&'static str),
    Opaque,
}

/// Checks a file of `length` bytes.
pub(super) fn check(path: &Path, length: u64, expected: DeclaredProperties) -> io::Result<Option<Fault>> {
    let fault = |reason, what: String| Ok(Some(Fault { reason, what }));
    if length == 0 {
        return fault(Reason::Empty, "is empty".to_owned());
    }
    if expected.is_encrypted {
        return match length % 16 {
            0 => Ok(None),
            _ => fault(Reason::Cut, format!("is cut: {length} bytes of AES-128-CBC are not whole blocks")),
        };
    }
    let declared = content_type(&path.to_string_lossy());
    if declared.starts_with("image/") {
        // Thumbnails, one per segment.
        return Ok(None);
    }
    let is_sound_or_picture = declared.starts_with("video/") || declared.starts_with("audio/");
    let file = open_source_file(path)?;
    let mut head = vec![0; KIND_BYTES.min(length as usize)];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    match kind_of(&head) {
        Kind::Text if is_sound_or_picture && head.len() >= MIN_TEXT_BYTES => {
            fault(Reason::NotMedia, "is text under the name of a media file".to_owned())
        }
        Kind::Misaligned => fault(Reason::Cut, "begins in the middle of a packet".to_owned()),
        Kind::Html => fault(Reason::NotMedia, "is an HTML page under the name of a media file".to_owned()),
        Kind::Other(name) => fault(Reason::NotMedia, format!("is {name} under the name of a media file")),
        Kind::TransportStream if expected.is_mp4 => {
            fault(Reason::WrongContainer, "is a transport stream where the manifest has MP4".to_owned())
        }
        Kind::TransportStream => {
            if !length.is_multiple_of(PACKET) {
                let what = format!("is cut: {length} bytes are not whole packets of {PACKET}");
                return fault(Reason::Cut, what);
            }
            if let Some(at) = lost_sync(&file, length)? {
                return fault(Reason::Cut, format!("is damaged: no packet begins at byte {at}"));
            }
            if expected.is_random_access && ts_begins_inside(&read_head(&file, length)?) {
                return fault(Reason::NoRandomAccess, NOT_DECODABLE.to_owned());
            }
            Ok(None)
        }
        Kind::Mp4 => {
            if let Some(what) = broken_boxes(&file, length, expected)? {
                return fault(Reason::Cut, what);
            }
            if expected.is_random_access && moof_begins_inside(&read_head(&file, length)?) {
                return fault(Reason::NoRandomAccess, NOT_DECODABLE.to_owned());
            }
            Ok(None)
        }
        Kind::Opaque if head.len() >= KIND_BYTES && head.iter().all(|&byte| byte == 0) => {
            fault(Reason::Cut, "has no content yet: zeros only".to_owned())
        }
        Kind::Opaque if is_xml(&head) && !ends_as_xml(&file, length)? => {
            fault(Reason::Cut, "is cut: the XML does not end".to_owned())
        }
        Kind::Opaque | Kind::Text => Ok(None),
    }
}

/// Bytes below which text may be a test pattern or a marker.
const MIN_TEXT_BYTES: usize = 64;
/// Packets of a transport stream whose sync byte is checked.
const SYNC_SAMPLES: u64 = 8;

/// Offset at which an expected packet does not begin, from a sample.
fn lost_sync(file: &File, length: u64) -> io::Result<Option<u64>> {
    let packets = length / PACKET;
    for sample in 1..=SYNC_SAMPLES {
        let at = (packets - 1) * sample / SYNC_SAMPLES * PACKET;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        if byte != [0x47] {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

const NOT_DECODABLE: &str = "does not decode from its start: its first picture needs others";

fn read_head(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES.min(length as usize)];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

fn kind_of(head: &[u8]) -> Kind {
    let is_packet = |at: usize| head.get(at).is_none_or(|&byte| byte == 0x47);
    if head[0] == 0x47 && head.len() >= 188 && is_packet(188) && is_packet(376) {
        return Kind::TransportStream;
    }
    if let Some((kind, _)) = boxes::head(head)
        && boxes::is_top_level(kind)
    {
        return Kind::Mp4;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins =
        |with: &str| text.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with.as_bytes()));
    let has_tag = |tag: &[u8]| text.windows(tag.len()).take(512).any(|it| it.eq_ignore_ascii_case(tag));
    if begins("<!doctype html") || begins("<html") || (begins("<") && has_tag(b"<html")) {
        return Kind::Html;
    }
    let others: [(&[u8], &str); 9] = [
        (b"#EXTM3U", "a playlist"),
        (b"\x89PNG", "a PNG picture"),
        (b"GIF8", "a GIF picture"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"%PDF-", "a PDF document"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"<Error>", "an origin's error message"),
        (b"{\"", "JSON"),
        (b"\x7fELF", "a program"),
    ];
    if let Some((_, name)) = others.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Kind::Other(name);
    }
    let has_error = |text: &[u8]| text.windows(7).take(200).any(|it| it == b"<Error>");
    if begins("<?xml") && has_error(text) {
        return Kind::Other("an origin's error message");
    }
    if begins("{")
        && text.trim_ascii_start().get(1..).is_some_and(|it| it.trim_ascii_start().starts_with(b"\""))
    {
        return Kind::Other("JSON");
    }
    let is_readable = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~');
    if !begins("<") && !text.is_empty() && head.iter().all(is_readable) {
        return Kind::Text;
    }
    // A partial packet precedes the first complete one.
    let begins_packet = |at: usize| (0..4).all(|packet| head.get(at + packet * 188) == Some(&0x47));
    if (1..188).any(begins_packet) {
        return Kind::Misaligned;
    }
    Kind::Opaque
}

fn is_xml(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    text.starts_with(b"<?xml") || text.starts_with(b"<tt")
}

fn ends_as_xml(file: &File, length: u64) -> io::Result<bool> {
    let mut tail = vec![0; 256.min(length as usize)];
    let start = length - tail.len() as u64;
    let read = file.read_at(&mut tail, start)?;
    let tail = tail[..read].trim_ascii_end();
    Ok(tail.ends_with(b">") && tail.windows(2).any(|it| it == b"</" || it == b"/>"))
}

/// Fault of the top-level boxes, which must end with the file, and not before the media.
fn broken_boxes(file: &File, length: u64, expected: DeclaredProperties) -> io::Result<Option<String>> {
    let mut at = 0_u64;
    let (mut last, mut has_moov, mut has_media) = (*b"    ", false, false);
    for _ in 0..MAX_BOXES {
        if at == length {
            let what = match (&last, expected) {
                (b"moof", _) => "is cut: there are no media behind its last moof",
                (_, DeclaredProperties { is_init: true, .. }) if !has_moov => {
                    "is cut: an init segment has a moov"
                }
                (_, DeclaredProperties { is_init: false, is_mp4: true, .. }) if !has_media && !has_moov => {
                    "is cut: there are no media in it"
                }
                _ => return Ok(None),
            };
            return Ok(Some(what.to_owned()));
        }
        let mut head = [0; 16];
        let read = file.read_at(&mut head, at)?;
        let Some((kind, size)) = boxes::head(&head[..read]) else {
            return Ok(Some(format!("is cut: no box begins at byte {at} of {length}")));
        };
        has_moov |= &kind == b"moov";
        has_media |= matches!(&kind, b"moof" | b"mdat");
        if matches!(&kind, b"moof" | b"mdat") {
            last = kind;
        }
        // A box without a length extends to the end of the file.
        let Some(size) = size else { return Ok(None) };
        if size > length - at {
            let name = String::from_utf8_lossy(&kind).into_owned();
            return Ok(Some(format!(
                "is cut: {name:?} at byte {at} is {size} bytes long, of which {} are there",
                length - at
            )));
        }
        at += size;
    }
    Ok(None)
}

/// Whether the first sample of a track in the first `moof` is marked as depending on others (ISO/IEC 14496-12 clause
/// 8.8.3.1).
fn moof_begins_inside(head: &[u8]) -> bool {
    let Some(moof) = boxes::find(head, b"moof") else { return false };
    boxes::boxes(moof).filter(|(kind, _)| kind == b"traf").any(|(_, traf)| {
        let word = |bytes: &[u8], at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map(|it| u32::from_be_bytes(*it))
        };
        let default = boxes::find(traf, b"tfhd").and_then(|tfhd| {
            let flags = word(tfhd, 0)? & 0xff_ffff;
            let before = [(0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4)];
            let offset: usize =
                before.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, size)| size).sum();
            if flags & 0x20 != 0 { word(tfhd, 8 + offset) } else { None }
        });
        let first = boxes::find(traf, b"trun").and_then(|trun| {
            let flags = word(trun, 0)? & 0xff_ffff;
            let mut at = 8 + if flags & 0x1 != 0 { 4 } else { 0 };
            if flags & 0x4 != 0 {
                return word(trun, at);
            }
            at += [0x100, 0x200].iter().filter(|&&flag| flags & flag != 0).count() * 4;
            if flags & 0x400 != 0 { word(trun, at) } else { default }
        });
        // sample_depends_on is 1, and sample_is_non_sync_sample is set.
        first.is_some_and(|flags| flags & 0x0301_0000 == 0x0101_0000)
    })
}

/// Types of streams (ISO/IEC 13818-1 table 2-34).
const AVC: u8 = 0x1b;
const HEVC: u8 = 0x24;

/// Whether the first picture of a transport stream is not a random access point and has no parameter sets before it.
/// Scrambled and unknown streams pass.
fn ts_begins_inside(head: &[u8]) -> bool {
    let packets = || head.chunks_exact(PACKET_BYTES).filter_map(|it| it.try_into().ok());
    let streams = media::ts::program(packets()).map(|it| it.streams).unwrap_or_default();
    let Some(stream) = streams.iter().find(|it| matches!(it.stream_type, AVC | HEVC)) else { return false };
    let mut video: Vec<u8> = Vec::new();
    for (bytes, packet) in media::ts::once(packets()).filter(|(_, packet)| packet.pid == stream.pid) {
        if packet.scrambled {
            return false;
        }
        if packet.payload_unit_start {
            let has_field = bytes[3] & 0x20 != 0;
            // random_access_indicator
            if video.is_empty() && has_field && bytes[4] > 0 && bytes[5] & 0x40 != 0 {
                return false;
            }
            if !video.is_empty() {
                break;
            }
        }
        if packet.payload_unit_start || !video.is_empty() {
            video.extend_from_slice(packet.payload);
        }
    }
    let mut has_picture = false;
    for at in 0..video.len().saturating_sub(3) {
        if video[at..at + 3] != [0, 0, 1] {
            continue;
        }
        let byte = video[at + 3];
        match stream.stream_type {
            // Slices of others; IDR, SEI (recovery point), SPS.
            AVC => match byte & 0x1f {
                1 => has_picture = true,
                5..=7 => return false,
                _ => {}
            },
            // Slices of others; IRAP, VPS, SPS. PES start codes are above 0xb8.
            _ if byte < 0x80 => match byte >> 1 {
                0..=9 => has_picture = true,
                16..=23 | 32 | 33 => return false,
                _ => {}
            },
            _ => {}
        }
    }
    has_picture
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/media");
    const SEGMENT: DeclaredProperties =
        DeclaredProperties { is_encrypted: false, is_mp4: true, is_random_access: true, is_init: false };

    fn of(bytes: &[u8], expected: DeclaredProperties) -> Option<Reason> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check(file.path(), bytes.len() as u64, expected).unwrap().map(|fault| fault.reason)
    }

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    /// A segment whose first sample has these flags.
    fn segment(flags: u32) -> Vec<u8> {
        let tfhd = boxed(b"tfhd", &[0, 2, 0, 0, 0, 0, 0, 1]);
        let trun = [&[0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0][..], &flags.to_be_bytes()].concat();
        let traf = boxed(b"traf", &[tfhd, boxed(b"trun", &trun)].concat());
        [boxed(b"styp", b"msdh"), boxed(b"moof", &traf), boxed(b"mdat", &[7; 100])].concat()
    }

    #[test]
    fn real_media_have_no_fault() {
        let mut count = 0;
        for folder in ["cmaf", "ts"] {
            let mut folders = vec![Path::new(MEDIA).join(folder)];
            while let Some(folder) = folders.pop() {
                let Ok(entries) = std::fs::read_dir(&folder) else { continue };
                for entry in entries.flatten() {
                    let (path, length) = (entry.path(), entry.metadata().unwrap().len());
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.extension().is_some_and(|it| it == "m4s" || it == "ts" || it == "mp4") {
                        let expected =
                            DeclaredProperties { is_random_access: true, ..DeclaredProperties::default() };
                        assert_eq!(check(&path, length, expected).unwrap(), None, "{}", path.display());
                        count += 1;
                    }
                }
            }
        }
        assert!(count > 4, "{count}");
    }

    #[test]
    fn every_fault_is_named() {
        let whole = segment(0x0200_0000);
        assert_eq!(of(&whole, SEGMENT), None);
        assert_eq!(of(&whole[..whole.len() - 1], SEGMENT), Some(Reason::Cut));
        assert_eq!(of(&whole[..20], SEGMENT), Some(Reason::Cut), "cut between boxes of the head");
        assert_eq!(of(&segment(0x0101_0000), SEGMENT), Some(Reason::NoRandomAccess));
        let part = DeclaredProperties { is_random_access: false, ..SEGMENT };
        assert_eq!(of(&segment(0x0101_0000), part), None);
        assert_eq!(of(b"", SEGMENT), Some(Reason::Empty));
        assert_eq!(of(b" \n<!DOCTYPE html><title>404", SEGMENT), Some(Reason::NotMedia));
        assert_eq!(
            of(b"<?xml version='1.0'?>\n<Error><Code>NoSuchKey</Code></Error>", SEGMENT),
            Some(Reason::NotMedia)
        );
        assert_eq!(of(b"#EXTM3U\n", SEGMENT), Some(Reason::NotMedia));
        assert_eq!(of(&[0; 2000], SEGMENT), Some(Reason::Cut));
        assert_eq!(
            of(b"<tt xmlns='http://www.w3.org/ns/ttml'><body>", DeclaredProperties::default()),
            Some(Reason::Cut)
        );
        assert_eq!(of(b"<tt xmlns='http://www.w3.org/ns/ttml'></tt>\n", DeclaredProperties::default()), None);
        assert_eq!(of(b"WEBVTT\n", DeclaredProperties::default()), None);
        let encrypted = DeclaredProperties { is_encrypted: true, ..SEGMENT };
        assert_eq!(of(&[9; 32], encrypted), None);
        assert_eq!(of(&[9; 33], encrypted), Some(Reason::Cut));
        assert_eq!(of(&[9; 33], SEGMENT), None, "opaque");
    }

    /// A file of this name.
    fn named(name: &str, bytes: &[u8], expected: DeclaredProperties) -> Option<Reason> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        check(&path, bytes.len() as u64, expected).unwrap().map(|fault| fault.reason)
    }

    #[test]
    fn a_cut_between_boxes_is_a_cut() {
        let whole = segment(0x0200_0000);
        let mdat = whole.len() - 108;
        assert_eq!(of(&whole[..mdat], SEGMENT), Some(Reason::Cut), "no mdat");
        assert_eq!(
            of(&[&whole[..], &whole[12..mdat]].concat(), SEGMENT),
            Some(Reason::Cut),
            "the second mdat is not there"
        );
        assert_eq!(of(&[&whole[..], &whole[12..]].concat(), SEGMENT), None, "two chunks");
        assert_eq!(of(&whole[..12], SEGMENT), Some(Reason::Cut), "styp alone");
        let init = DeclaredProperties { is_init: true, ..DeclaredProperties::default() };
        let ftyp = boxed(b"ftyp", b"iso6");
        assert_eq!(of(&ftyp, init), Some(Reason::Cut));
        assert_eq!(of(&[ftyp, boxed(b"moov", b"")].concat(), init), None);
        assert_eq!(of(b"opaque", init), None);
    }

    #[test]
    fn error_pages_and_texts_are_no_media_and_pictures_are() {
        let any = DeclaredProperties::default();
        for page in [
            "<!-- edge -->\n<HTML><head><title>502</title>",
            "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"x\">\n<html xmlns=\"y\">",
            "{ \"error\": \"not found\" }",
        ] {
            assert_eq!(named("1.ts", page.as_bytes(), any), Some(Reason::NotMedia), "{page}");
        }
        let text = "The requested object could not be found on this server. Reference 18.2f3a.";
        assert_eq!(named("1.m4s", text.as_bytes(), any), Some(Reason::NotMedia));
        assert_eq!(named("1.vtt", format!("WEBVTT\n\n{text}").as_bytes(), any), None);
        assert_eq!(named("1.bin", text.as_bytes(), any), None);
        assert_eq!(named("tile-1.png", b"\x89PNG\r\n\x1a\n", any), None, "thumbnails");
        assert_eq!(named("1.m4s", b"\x89PNG\r\n\x1a\n", any), Some(Reason::NotMedia));
    }

    #[test]
    fn packets_begin_where_they_should() {
        let mut packet = vec![0x47, 0x1f, 0xff, 0x10];
        packet.resize(188, 0);
        let whole = packet.repeat(20);
        assert_eq!(of(&whole, DeclaredProperties::default()), None);
        assert_eq!(
            of(&whole[40..], DeclaredProperties::default()),
            Some(Reason::Cut),
            "the first packet is not whole"
        );
        let mut damaged = whole;
        damaged[19 * 188] = 0;
        assert_eq!(of(&damaged, DeclaredProperties::default()), Some(Reason::Cut));
    }

    #[test]
    fn packets_are_whole_and_begin_with_a_picture_that_decodes() {
        // Sections with their CRC_32, in as many packets as they take.
        let packets = |id: u16, mut section: Vec<u8>| {
            let length = section.len() - 3 + 4;
            (section[1], section[2]) = (0xb0 | (length >> 8) as u8, length as u8);
            section.extend(carousel::ts::section::crc32(&section).to_be_bytes());
            section.insert(0, 0);
            let packet = |(at, part): (usize, &[u8])| {
                let start = if at == 0 { 0x40 } else { 0 };
                let mut packet = vec![0x47, start | (id >> 8) as u8, id as u8, 0x10 | at as u8];
                packet.extend_from_slice(part);
                packet.resize(188, 0xff);
                packet
            };
            section.chunks(184).enumerate().flat_map(packet).collect::<Vec<u8>>()
        };
        let pat = |network: &[u8]| {
            let entries = [network, &[0, 1, 0xe1, 0]].concat();
            packets(0, [&[0, 0, 0, 0, 1, 0xc1, 0, 0][..], &entries].concat())
        };
        let pmt = |descriptor: usize| {
            let mut section = vec![2, 0, 0, 0, 1, 0xc1, 0, 0, 0xe1, 1, 0xf0, descriptor as u8];
            section.extend(vec![0xf0; descriptor.min(1)]);
            section.extend(vec![descriptor.saturating_sub(2) as u8; descriptor.min(1)]);
            section.extend(vec![7; descriptor.saturating_sub(2)]);
            section.extend([0x1b, 0xe1, 1, 0xf0, 0]);
            packets(0x100, section)
        };
        let video = |field: &[u8], nal: u8| {
            let mut packet = vec![0x47, 0x41, 1, if field.is_empty() { 0x10 } else { 0x30 }];
            packet.extend(field);
            packet.extend([0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0, 0, 0, 0, 1, nal]);
            packet.resize(188, 0x55);
            packet
        };
        let picture = |field: &[u8], nal: u8| [pat(&[]), pmt(0), video(field, nal)].concat();
        let ts = DeclaredProperties { is_random_access: true, ..DeclaredProperties::default() };
        assert_eq!(of(&picture(&[], 0x41), ts), Some(Reason::NoRandomAccess));
        assert_eq!(of(&picture(&[], 0x65), ts), None, "IDR");
        assert_eq!(of(&picture(&[1, 0x40], 0x41), ts), None, "random_access_indicator");
        let whole = picture(&[], 0x65);
        assert_eq!(of(&whole[..whole.len() - 10], ts), Some(Reason::Cut));
        assert_eq!(of(&whole, SEGMENT), Some(Reason::WrongContainer));
        // The PID of the network first, and a programme map of two packets.
        for nal in [0x41, 0x65] {
            let expected = (nal == 0x41).then_some(Reason::NoRandomAccess);
            let wide = [pat(&[0, 0, 0xe0, 0x10]), pmt(200), video(&[], nal)].concat();
            assert_eq!(of(&wide, ts), expected);
            // The first packet has the beginning of a start code, sent twice; the second the rest.
            let mut first = video(&[], 0x55);
            first[184..].copy_from_slice(&[0x55, 0, 0, 1]);
            let mut second = vec![0x47, 1, 1, 0x11, nal];
            second.resize(188, 0x55);
            let twice = [pat(&[]), pmt(0), first.clone(), first, second].concat();
            assert_eq!(of(&twice, ts), expected);
        }
    }

    #[test]
    fn files_of_very_many_boxes_are_looked_at_up_to_a_bound() {
        let cut = |boxes: usize| {
            let mut bytes = b"\0\0\0\x08free".repeat(boxes);
            bytes.extend_from_slice(b"\0\0\x01\0mdat");
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            broken_boxes(file.as_file(), bytes.len() as u64, SEGMENT).unwrap()
        };
        assert!(cut(MAX_BOXES - 1).unwrap().contains("is cut"));
        assert_eq!(cut(MAX_BOXES), None);
    }
}
