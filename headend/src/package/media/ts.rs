//! Segments of transport streams: properties of the first programme's streams, from their first parameter sets and
//! frames.

use std::collections::BTreeMap;

use carousel::ts::descriptor::find;
use carousel::ts::psi::{self, Pat, Pmt, Stream};
use carousel::ts::stream::Packets;
use carousel::ts::{Demux, PACKET_BYTES, Packet, Pid};

use super::facts::{Audio, Facts};
use super::{Unreadable, audio, avc, hevc};

carousel::limits! {
    /// Bytes of a video stream that are searched for the parameter sets of its first picture.
    const MAX_VIDEO_BYTES: usize = 1 << 20, "bytes" {
        why: "They come at the beginning of a segment.",
        full: "Bytes behind it are not considered.",
        free: "Holds for one file.",
        test: "streams_of_a_segment_are_read_up_to_a_bound",
    }

    /// Bytes of an audio stream that are searched: its first frame and what may precede it.
    const MAX_AUDIO_BYTES: usize = 16 << 10, "bytes" {
        why: "A frame of AC-3 has up to 4 KB.",
        full: "Bytes behind it are not considered.",
        free: "Holds for one file.",
        test: "streams_of_a_segment_are_read_up_to_a_bound",
    }
}

/// Most streams of a programme that are read. A programme in many languages has some ten; a PMT section has room for 200
/// (ISO/IEC 13818-1 section 2.4.4.8), and each stream costs [`MAX_AUDIO_BYTES`].
const MAX_STREAMS: usize = 32;

/// `CA_descriptor`: the stream is scrambled.
const CONDITIONAL_ACCESS: u8 = 0x09;
/// `ISO_639_language_descriptor`.
const LANGUAGE: u8 = 0x0a;
/// `AC-3_descriptor` and `enhanced_AC-3_descriptor` (EN 300 468 annex D).
const AC3: u8 = 0x6a;
const EAC3: u8 = 0x7a;

/// Kind of a stream, by stream_type and descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Avc,
    Hevc,
    Adts,
    MpegAudio,
    Ac3,
}

impl Kind {
    /// ISO/IEC 13818-1 table 2-34, ATSC A/53, EN 300 468 annex D. Types from 0xc1 on are those of SAMPLE-AES, which leaves
    /// headers and parameter sets in the clear (MPEG-2 Stream Encryption Format for HTTP Live Streaming).
    fn of(stream: &Stream) -> Option<(Self, bool)> {
        let has = |tag| find(&stream.descriptors, tag).is_some();
        Some(match stream.stream_type {
            0x1b => (Self::Avc, false),
            0xdb => (Self::Avc, true),
            0x24 => (Self::Hevc, false),
            0x0f => (Self::Adts, false),
            0xcf => (Self::Adts, true),
            0x03 | 0x04 => (Self::MpegAudio, false),
            0x81 | 0x87 => (Self::Ac3, false),
            0xc1 | 0xc2 => (Self::Ac3, true),
            0x06 if has(AC3) || has(EAC3) => (Self::Ac3, false),
            _ => return None,
        })
    }

    const fn is_video(self) -> bool {
        matches!(self, Self::Avc | Self::Hevc)
    }

    const fn most_bytes(self) -> usize {
        if self.is_video() { MAX_VIDEO_BYTES } else { MAX_AUDIO_BYTES }
    }
}

/// A stream under examination.
struct Open {
    kind: Kind,
    pid: Pid,
    language: Option<String>,
    /// Its bytes, without the headers of PES packets.
    bytes: Vec<u8>,
    /// Whether a PES packet has begun: earlier bytes belong to one whose start was not seen.
    has_begun: bool,
}

/// Reads packets.
pub(super) fn read(bytes: &[u8]) -> Result<Facts, Unreadable> {
    let packets = || Packets::new(bytes).ok_or(Unreadable::Unknown);
    let program = program(packets()?).ok_or(Unreadable::NoProgram)?;
    let mut facts = Facts::default();
    let mut open: Vec<Open> = Vec::new();
    for stream in program.streams.iter().take(MAX_STREAMS) {
        let Some((kind, is_protected)) = Kind::of(stream) else { continue };
        if kind.is_video() && open.iter().any(|other| other.kind.is_video()) {
            continue;
        }
        facts.is_protected |= is_protected || find(&stream.descriptors, CONDITIONAL_ACCESS).is_some();
        let language = find(&stream.descriptors, LANGUAGE).and_then(|data| language(data.first_chunk()?));
        open.push(Open { kind, pid: stream.pid, language, bytes: Vec::new(), has_begun: false });
    }
    for (_, packet) in once(packets()?) {
        let Some(stream) = open.iter_mut().find(|stream| stream.pid == packet.pid) else { continue };
        if packet.scrambled {
            facts.is_protected = true;
        } else {
            stream.push(&packet);
        }
        if open.iter().all(|stream| stream.bytes.len() >= stream.kind.most_bytes()) {
            break;
        }
    }
    for stream in open {
        match stream.kind {
            Kind::Avc => facts.video = avc::streamed(&stream.bytes),
            Kind::Hevc => facts.video = hevc::streamed(&stream.bytes),
            Kind::Adts => facts.audio.extend(stream.sounding(audio::adts)),
            Kind::MpegAudio => facts.audio.extend(stream.sounding(audio::mpeg_audio)),
            Kind::Ac3 => facts.audio.extend(stream.sounding(audio::ac3)),
        }
    }
    Ok(facts)
}

/// Valid packets, with their bytes. A packet with payload may be sent twice in succession (ISO/IEC 13818-1 clause 2.4.3.3);
/// duplicates are removed.
pub(in crate::package) fn once<'a>(
    packets: impl Iterator<Item = &'a [u8; PACKET_BYTES]>,
) -> impl Iterator<Item = (&'a [u8; PACKET_BYTES], Packet<'a>)> {
    let mut before: BTreeMap<Pid, (u8, &'a [u8])> = BTreeMap::new();
    packets.filter_map(move |bytes| {
        let packet = Packet::parse(bytes).ok()?;
        let own = (packet.continuity, packet.payload);
        let is_again = packet.has_payload && before.insert(packet.pid, own) == Some(own);
        if is_again {
            // A third one belongs to the next cycle of the counter.
            before.remove(&packet.pid);
        }
        (!is_again).then_some((bytes, packet))
    })
}

/// The first programme that has streams.
pub(in crate::package) fn program<'a>(packets: impl Iterator<Item = &'a [u8; PACKET_BYTES]>) -> Option<Pmt> {
    let mut demux = Demux::default();
    demux.open(Pid::PAT);
    for packet in packets {
        let (mut maps, mut found) = (Vec::new(), None);
        demux.push(packet, |pid, section| match section {
            Ok(section) if pid == Pid::PAT && section.table_id == psi::PAT => {
                maps.extend(Pat::read(&section).into_iter().flat_map(|pat| pat.programs));
            }
            Ok(section) if section.table_id == psi::PMT => {
                found = Pmt::read(&section).ok().filter(|pmt| !pmt.streams.is_empty());
            }
            _ => {}
        });
        if found.is_some() {
            return found;
        }
        for (_, pid) in maps {
            demux.open(pid);
        }
    }
    None
}

impl Open {
    fn push(&mut self, packet: &Packet<'_>) {
        let mut payload = packet.payload;
        if packet.payload_unit_start {
            // Clause 2.4.3.6: packet_start_code_prefix to PES_header_data_length, then as many bytes as that says.
            let [0, 0, 1, _, _, _, _, _, header, rest @ ..] = payload else { return };
            self.has_begun = true;
            payload = rest.get(usize::from(*header)..).unwrap_or_default();
        }
        if self.has_begun {
            let room = self.kind.most_bytes() - self.bytes.len();
            self.bytes.extend_from_slice(&payload[..payload.len().min(room)]);
        }
    }

    fn sounding(self, read: fn(&[u8]) -> Option<Audio>) -> Option<Audio> {
        Some(Audio { language: self.language, ..read(&self.bytes)? })
    }
}

/// An ISO 639-2 code, unless it is "undetermined".
pub(super) fn language(code: &[u8; 3]) -> Option<String> {
    let is_code = code.iter().all(u8::is_ascii_alphabetic) && !code.eq_ignore_ascii_case(b"und");
    is_code.then(|| code.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_segment_are_read_up_to_a_bound() {
        for (kind, most) in [(Kind::Avc, MAX_VIDEO_BYTES), (Kind::Adts, MAX_AUDIO_BYTES)] {
            let pid = Pid::PAT;
            let mut open = Open { kind, pid, language: None, bytes: Vec::new(), has_begun: false };
            // A packet that begins a PES packet, and such that continue.
            let mut packet = [0xff; PACKET_BYTES];
            packet[..4].copy_from_slice(&[0x47, 0x40, 0, 0x10]);
            packet[4..13].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0]);
            open.push(&Packet::parse(&packet).unwrap());
            packet[1] = 0;
            for _ in 1..most / 184 {
                open.push(&Packet::parse(&packet).unwrap());
            }
            assert!((most - 184..most).contains(&open.bytes.len()), "{}", open.bytes.len());
            for _ in 0..9 {
                open.push(&Packet::parse(&packet).unwrap());
            }
            assert_eq!(open.bytes.len(), most);
        }
    }
}
