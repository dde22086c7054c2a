//! Transport streams over RTP: order, losses and repeats (RFC 3550, RFC 2250, SMPTE ST 2022-2).

use std::collections::BTreeMap;

use crate::bytes::{Reader, WireError, Writer};
use crate::limits;

/// Payload type MP2T (RFC 3551).
pub const PAYLOAD_TYPE_MP2T: u8 = 33;
/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 12;
limits! {
    /// Packets that wait for an earlier one, for each stream.
    const MAX_WAITING: usize = 64, "packets" {
        why: "60 ms of 11 Mbit/s; networks that reorder shift packets by a few places.",
        full: "The missing packets are counted as lost, and what waits is handed on.",
        free: "When the missing packet arrives or is given up.",
        test: "what_is_lost_permanently_holds_up_no_more_than_the_limit",
    }
}

/// Packets in a row that come late where nothing came on time in between, before their sender is taken for one that has
/// restarted: repeats and delays have some on time among them.
const MAX_LATE_RUN: usize = 16;

/// One RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Time stamp; 90 kHz for MP2T.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload, without padding.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// `Unsupported` if it is not of version 2, `Short` if a length leads out of it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let (first, second) = (reader.u8("RTP header")?, reader.u8("RTP header")?);
        if first >> 6 != 2 {
            return Err(WireError::Unsupported { what: "RTP version", value: u64::from(first >> 6) });
        }
        let (sequence, timestamp, ssrc) =
            (reader.u16("sequence")?, reader.u32("timestamp")?, reader.u32("SSRC")?);
        reader.take(usize::from(first & 0x0f) * 4, "CSRC")?;
        if first & 0x10 != 0 {
            reader.u16("extension profile")?;
            let words = reader.u16("extension length")?;
            reader.take(usize::from(words) * 4, "extension")?;
        }
        let mut payload = reader.rest();
        if first & 0x20 != 0 {
            let padding = usize::from(payload.last().copied().unwrap_or(0));
            payload = payload
                .len()
                .checked_sub(padding.max(1))
                .and_then(|length| payload.get(..length))
                .ok_or(WireError::Short { what: "padding", need: padding, have: payload.len() })?;
        }
        Ok(Self { payload_type: second & 0x7f, sequence, timestamp, ssrc, payload })
    }
}

/// Appends the fixed header of an MP2T packet.
pub fn write_header(out: &mut Vec<u8>, sequence: u16, timestamp: u32, ssrc: u32) {
    Writer::new(out).u8(0x80).u8(PAYLOAD_TYPE_MP2T).u16(sequence).u32(timestamp).u32(ssrc);
}

/// Counts of [`Reorder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpCounts {
    /// Packets handed on.
    pub packets: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after others of higher number, in time.
    pub reordered: u64,
    /// Packets that came twice, or too late.
    pub late: u64,
    /// Times that another sender, or the same again, took over.
    pub restarts: u64,
}

/// Brings packets back into order, and counts what is lost. At most [`MAX_WAITING`] packets wait for one that is missing.
#[derive(Debug, Default)]
pub struct Reorder {
    ssrc: Option<u32>,
    /// The number that is next, extended to 64 bits.
    next: u64,
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Packets in a row that came late.
    late_run: usize,
    counts: RtpCounts,
}

impl Reorder {
    /// Takes a packet, and hands on the payloads that are due.
    pub fn push(&mut self, packet: &RtpPacket<'_>, mut each: impl FnMut(&[u8])) {
        if self.ssrc != Some(packet.ssrc) {
            if self.ssrc.is_some() {
                self.counts.restarts += 1;
                self.flush(&mut each);
            }
            self.ssrc = Some(packet.ssrc);
            self.next = u64::from(packet.sequence) + (1 << 32);
        }
        let ahead = packet.sequence.wrapping_sub(self.next as u16).cast_signed();
        if ahead < 0 {
            self.counts.late += 1;
            self.late_run += 1;
            // A sender that restarted with the same SSRC (dvblast and multicat always have 0) is far away, or behind
            // permanently.
            if ahead < -1000 || self.late_run > MAX_LATE_RUN {
                self.counts.restarts += 1;
                self.flush(&mut each);
                self.ssrc = None;
                self.late_run = 0;
                self.counts.late -= 1;
                self.push(packet, each);
            }
            return;
        }
        self.late_run = 0;
        if ahead == 0 {
            self.counts.packets += 1;
            self.next += 1;
            each(packet.payload);
        } else {
            let at = self.next + u64::from(ahead.unsigned_abs());
            if self.waiting.insert(at, packet.payload.to_vec()).is_some() {
                self.counts.late += 1;
            }
            if self.waiting.len() > MAX_WAITING
                && let Some((&first, _)) = self.waiting.first_key_value()
            {
                self.counts.lost += first - self.next;
                self.next = first;
            }
        }
        while let Some(payload) = self.waiting.remove(&self.next) {
            self.counts.packets += 1;
            if ahead == 0 {
                self.counts.reordered += 1;
            }
            self.next += 1;
            each(&payload);
        }
    }

    /// Hands on what waits, in order: nothing has come for a while.
    pub fn flush(&mut self, mut each: impl FnMut(&[u8])) {
        for (at, payload) in std::mem::take(&mut self.waiting) {
            self.counts.lost += at - self.next;
            self.counts.packets += 1;
            self.next = at + 1;
            each(&payload);
        }
    }

    /// The source that is followed.
    pub(crate) const fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Counters.
    pub const fn counts(&self) -> RtpCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(&mut out, sequence, 0, 7);
        out.extend_from_slice(payload);
        out
    }

    fn play(sequences: &[u16]) -> (Vec<u16>, RtpCounts) {
        let mut reorder = Reorder::default();
        let mut out = Vec::new();
        for &sequence in sequences {
            let bytes = packet(sequence, &sequence.to_be_bytes());
            reorder
                .push(&RtpPacket::parse(&bytes).unwrap(), |it| out.push(u16::from_be_bytes([it[0], it[1]])));
        }
        reorder.flush(|it| out.push(u16::from_be_bytes([it[0], it[1]])));
        (out, reorder.counts())
    }

    #[test]
    fn order_is_restored_over_the_wrap_and_losses_are_counted() {
        let (out, counts) = play(&[65_534, 0, 65_535, 1, 1, 4, 3]);
        assert_eq!(out, [65_534, 65_535, 0, 1, 3, 4]);
        assert_eq!((counts.packets, counts.lost, counts.late), (6, 1, 1));
    }

    #[test]
    fn what_is_lost_permanently_holds_up_no_more_than_the_limit() {
        let all: Vec<u16> = (0..500).filter(|it| *it != 100).collect();
        let (out, counts) = play(&all);
        assert_eq!((out, counts.lost), (all, 1));
    }

    #[test]
    fn a_sender_that_restarts_is_followed() {
        let all: Vec<u16> = (20_000..20_100).chain(0..100).collect();
        let (out, counts) = play(&all);
        assert_eq!((out.len(), counts.restarts), (200, 1));
        // One that is not far behind is followed once it is clear that it stays there.
        let all: Vec<u16> = (0..300).chain(0..300).collect();
        let (out, counts) = play(&all);
        assert_eq!((out.len(), counts.restarts, counts.late), (600 - MAX_LATE_RUN, 1, MAX_LATE_RUN as u64));
    }

    #[test]
    fn extensions_and_padding_are_left_out() {
        let mut bytes = packet(1, &[]);
        bytes[0] = 0xb1;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        bytes.extend_from_slice(&[5, 6, 0, 2]);
        assert_eq!(RtpPacket::parse(&bytes).unwrap().payload, [5, 6]);
        *bytes.last_mut().unwrap() = 50;
        assert!(RtpPacket::parse(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_order_within_the_window_is_restored(seed in any::<u64>()) {
            let mut state = seed | 1;
            let mut all: Vec<(u64, u16)> = (0..300).map(|at| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // The first packet decides where it begins.
                (if at == 0 { 0 } else { u64::from(at) + state % 60 }, at)
            }).collect();
            all.sort();
            let all: Vec<u16> = all.into_iter().map(|(_, at)| at).collect();
            prop_assert_eq!(play(&all).0, (0..300).collect::<Vec<u16>>());
        }

        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = RtpPacket::parse(&bytes);
        }
    }
}
