//! Measurement of losses on the link, by gaps in the sequence of encoding symbols.
//!
//! A sender transmits a source block in the order of its ESIs, interleaved with other blocks and objects. So gaps are detected
//! separately in each (TOI, SBN). A missing symbol counts as lost when [`WINDOW`] later ones have arrived, when the sender
//! starts the block again, or when the object ends; until then it may only be late. A new pass of a block with fewer symbols is
//! recognised by three packets in ascending order of symbols received before. The result is a lower bound: the ends of a block
//! are not known here, so losses at its ends leave no gap; joining in the middle of an object does not count as loss. Symbol
//! numbers are the sender's word: no more than [`LOST_PER_PACKET`] symbols count as lost for each packet received.

use std::collections::HashMap;

use crate::fec::{EncodingId, Oti, PayloadId};
use crate::lct::Toi;
use crate::limits;

/// Number of later symbols up to which a missing one may be late.
const WINDOW: u32 = u64::BITS;
/// Packets in ascending order, all with symbols received before, that indicate a new pass of a block shorter than [`WINDOW`]:
/// fewer may be copies made by the network.
const NEW_PASS: u32 = 3;
/// Symbols that count as lost for each packet received since the session began. A link with a higher ratio of losses brings no
/// object, and a few packets with forged numbers would count as the loss of all between them.
const LOST_PER_PACKET: u64 = 16;

limits! {
    /// Source blocks of a session whose symbols are followed to count losses.
    const MAX_TRACKS: usize = 1024, "blocks" {
        why: "Senders interleave some hundred; 88 bytes each.",
        full: "The half that received a packet longest ago makes room; its losses are settled.",
        free: "When a block ends or makes room.",
        test: "tracks_are_bounded",
    }
}

/// Parameters that determine the FEC Payload ID and the number of symbols of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    id: EncodingId,
    field_bits: u8,
    symbol_length: u16,
}

impl Coding {
    pub(super) const fn of(oti: &Oti) -> Self {
        Self { id: oti.encoding_id, field_bits: oti.field_bits(), symbol_length: oti.symbol_length }
    }

    /// Width of the ESI if SBN and ESI form one word of 32 bits.
    const fn esi_bits(self) -> Option<u32> {
        match self.id.0 {
            0 | 1 | 130 => Some(16),
            2 if self.field_bits >= 1 && self.field_bits <= 16 => Some(self.field_bits as u32),
            5 => Some(8),
            6 => Some(24),
            _ => None,
        }
    }
}

/// Progress of the sender through one block.
#[derive(Debug, Clone, Copy)]
struct Track {
    /// The highest ESI received in this pass.
    highest: u32,
    /// Bit `n`: ESI `highest - n` was received, or precedes the first one received.
    heard: u64,
    /// A jump of more than the window: counted as loss unless the sender returns to it.
    leap: Option<(u32, u32)>,
    /// Packets since then.
    since_leap: u32,
    /// The sender uses no order in this block: losses cannot be determined.
    is_scattered: bool,
    /// First ESI of the first pass; lower ones may have been sent before.
    joined: u32,
    /// The lowest ESI received in this pass.
    lowest: u32,
    /// Consecutive packets with only symbols received before: first ESI, last ESI, count.
    again: (u32, u32, u32),
    /// Highest ESI and `heard` of the previous pass, until this one has reached it: if the sender continues after it instead, the
    /// packets that seemed to begin a pass were copies.
    before: Option<(u32, u64)>,
    /// Packet count at its last packet.
    at: u64,
}

impl Track {
    const fn new(last: u32) -> Self {
        Self {
            highest: last,
            heard: u64::MAX,
            leap: None,
            since_leap: 0,
            is_scattered: false,
            joined: last,
            lowest: last,
            again: (0, 0, 0),
            before: None,
            at: 0,
        }
    }

    /// Records the symbols `first..=last`; returns the number of symbols that are now certainly lost.
    fn take(&mut self, first: u32, last: u32) -> u64 {
        self.since_leap += 1;
        if self.is_scattered {
            return 0;
        }
        let mut lost = 0;
        if self.leap.is_some() && self.since_leap > 4 * WINDOW {
            lost += self.settle_leap();
        }
        let symbols = last - first + 1;
        let mask = if symbols >= WINDOW { u64::MAX } else { (1 << symbols) - 1 };
        if last > self.highest {
            self.again = (0, 0, 0);
            match self.before {
                Some((highest, heard)) if first > highest && self.highest < highest => {
                    (self.highest, self.heard, self.before) = (highest, heard, None);
                }
                Some((highest, _)) if last >= highest => lost += self.settle_before(),
                _ => {}
            }
            let step = last - self.highest;
            if step >= WINDOW {
                lost += u64::from(self.heard.count_zeros());
                self.heard = mask;
                let gone = self.highest + 1..(last + 1 - WINDOW).min(first);
                if gone.start < gone.end {
                    lost += self.settle_leap();
                    (self.leap, self.since_leap) = (Some((gone.start, gone.end)), 0);
                }
            } else {
                lost += u64::from(step) - u64::from((self.heard >> (WINDOW - step)).count_ones());
                self.heard = self.heard << step | mask;
            }
            self.highest = last;
            return lost;
        }
        let behind = self.highest - last;
        if behind < WINDOW {
            let is_again = behind > 0 && first >= self.joined && (self.heard >> behind) & mask == mask;
            self.heard |= mask << behind;
            self.again = match self.again {
                _ if !is_again => (0, 0, 0),
                (_, before, count) if count > 0 && last == before => self.again,
                (start, before, count) if count > 0 && last > before => (start, last, count + 1),
                _ => (first, last, 1),
            };
            let start = self.again.0;
            // A pass whose beginning is lost looks the same as copies of packets.
            if self.again.2 == NEW_PASS && start < self.lowest + NEW_PASS {
                lost += self.settle_leap() + self.settle_before();
                let before = Some((self.highest, self.heard));
                *self = Self { joined: self.lowest.min(start), lowest: start, before, ..Self::new(last) };
            } else {
                self.lowest = self.lowest.min(first);
            }
        } else if self.leap.is_some_and(|(start, end)| first < end && last >= start) {
            *self = Self { is_scattered: true, ..Self::new(last) };
        } else {
            lost += self.end();
            *self = Self::new(last);
        }
        lost
    }

    /// Whether `esi` is the highest, without a gap in the window before it.
    const fn is_without_gap(&self, esi: u32) -> bool {
        self.highest == esi && self.heard == u64::MAX && self.leap.is_none() && !self.is_scattered
    }

    fn settle_leap(&mut self) -> u64 {
        self.leap.take().map_or(0, |(start, end)| u64::from(end - start))
    }

    fn settle_before(&mut self) -> u64 {
        self.before.take().map_or(0, |(_, heard)| u64::from(heard.count_zeros()))
    }

    /// Ends this pass.
    fn end(&mut self) -> u64 {
        let lost = self.settle_leap() + self.settle_before() + u64::from(self.heard.count_zeros());
        self.heard = u64::MAX;
        lost
    }
}

/// Fast path for packets that follow the last one of a block without a gap, recognised by the first four bytes of their FEC
/// Payload ID: SBN and ESI in one word, so that the next ESI is the next number.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    toi: Toi,
    /// The word of the next packet.
    next: u32,
    /// The last word of the block.
    last: u32,
    /// Bytes of the FEC Payload ID and one symbol.
    most_bytes: usize,
}

impl Sequence {
    /// The sequence after `word` in the block of `toi`; `None` for codes with a longer FEC Payload ID.
    fn after(toi: Toi, coding: Coding, word: u32) -> Option<Self> {
        let esi_bits = coding.esi_bits()?;
        let last = word | (u32::MAX >> (u32::BITS - esi_bits));
        let most_bytes = 4 + usize::from(coding.symbol_length.max(1));
        (word < last).then(|| Self { toi, next: word + 1, last, most_bytes })
    }
}

/// The blocks of one session that are being received.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// The block of the last packet: the next packet is nearly always of the same block, or of the next one in the order
    /// of interleaving.
    current: Option<((Toi, u32), Track)>,
    /// Header of the next packet of `current` without loss. The track lags by `in_sequence` symbols.
    sequence: Option<Sequence>,
    in_sequence: u32,
    others: HashMap<(Toi, u32), Track>,
    packets: u64,
    /// Symbols counted as lost.
    lost: u64,
}

impl Gaps {
    /// Records a packet if it follows the last one of its block without a gap. Reads only the first four bytes of `body`,
    /// the part after the LCT header.
    #[inline]
    pub(super) fn take_in_sequence(&mut self, toi: Toi, body: &[u8]) -> bool {
        let Some(sequence) = &mut self.sequence else { return false };
        let Some(word) = body.first_chunk::<4>() else { return false };
        let is_next = u32::from_be_bytes(*word) == sequence.next
            && sequence.toi == toi
            && body.len() <= sequence.most_bytes
            && sequence.next < sequence.last;
        if is_next {
            sequence.next += 1;
            self.in_sequence += 1;
        }
        is_next
    }

    /// Records any other packet of an object. Returns the number of symbols that are now certainly lost.
    pub(super) fn take(&mut self, toi: Toi, coding: Coding, body: &[u8]) -> u64 {
        self.end_sequence();
        let Ok((PayloadId { sbn, esi }, symbols)) = PayloadId::split(coding.id, coding.field_bits, body)
        else {
            return 0;
        };
        let length = usize::from(coding.symbol_length.max(1));
        let more = if symbols.len() <= length { 0 } else { symbols.len().div_ceil(length) as u32 - 1 };
        let Some(last) = esi.checked_add(more) else { return 0 };
        self.packets += 1;
        let lost = match &mut self.current {
            Some((key, track)) if *key == (toi, sbn) => track.take(esi, last),
            _ => self.turn_to((toi, sbn), esi, last),
        };
        if let Some((_, track)) = &self.current
            && more == 0
            && track.is_without_gap(esi)
            && let Some(word) = body.first_chunk::<4>()
        {
            self.sequence = Sequence::after(toi, coding, u32::from_be_bytes(*word));
        }
        self.counted(lost)
    }

    /// The part of newly lost symbols that counts.
    fn counted(&mut self, lost: u64) -> u64 {
        let most = self.packets.saturating_mul(LOST_PER_PACKET).saturating_sub(self.lost);
        let counted = lost.min(most);
        self.lost += counted;
        counted
    }

    /// Applies the packets in sequence to the track of the current block.
    fn end_sequence(&mut self) {
        self.sequence = None;
        let symbols = std::mem::take(&mut self.in_sequence);
        self.packets += u64::from(symbols);
        if let Some((_, track)) = &mut self.current {
            track.highest += symbols;
        }
    }

    fn turn_to(&mut self, key: (Toi, u32), first: u32, last: u32) -> u64 {
        let mut lost = 0;
        if let Some((before, mut track)) = self.current.take() {
            track.at = self.packets;
            if self.others.len() >= MAX_TRACKS {
                lost += self.make_room();
            }
            self.others.insert(before, track);
        }
        let track = match self.others.remove(&key) {
            Some(mut track) => {
                lost += track.take(first, last);
                track
            }
            None => Track::new(last),
        };
        self.current = Some((key, track));
        lost
    }

    #[cold]
    fn make_room(&mut self) -> u64 {
        let mut ages: Vec<u64> = self.others.values().map(|track| track.at).collect();
        let middle = ages.len() / 2;
        let (_, &mut median, _) = ages.select_nth_unstable(middle);
        let mut lost = 0;
        self.others.retain(|_, track| {
            let stays = track.at > median;
            lost += if stays { 0 } else { track.end() };
            stays
        });
        lost
    }

    /// Handles an object that is complete or has stalled: symbols missing in this pass are lost.
    pub(super) fn end(&mut self, toi: Toi) -> u64 {
        self.end_sequence();
        let mut lost = 0;
        if let Some((_, track)) = self.current.as_mut().filter(|((of, _), _)| *of == toi) {
            lost += track.end();
        }
        if !self.others.is_empty() {
            self.others.retain(|(of, _), track| {
                lost += if *of == toi { track.end() } else { 0 };
                *of != toi
            });
        }
        self.counted(lost)
    }

    /// Approximate memory of the tracks.
    pub(super) fn held_bytes(&self) -> usize {
        self.others.len() * (size_of::<((Toi, u32), Track)>() + 8)
    }

    /// Handles the silence of the session.
    pub(super) fn end_all(&mut self) -> u64 {
        self.end_sequence();
        let mut current = self.current.take();
        let mut lost = current.as_mut().map_or(0, |(_, track)| track.end());
        for track in self.others.values_mut() {
            lost += track.end();
        }
        self.others = HashMap::new();
        self.counted(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODING: Coding = Coding { id: EncodingId::NO_CODE, field_bits: 8, symbol_length: 4 };

    fn body(sbn: u32, esi: u32, symbols: usize) -> Vec<u8> {
        let mut out = Vec::new();
        PayloadId { sbn, esi }.write_16_16(&mut out);
        out.resize(4 + 4 * symbols, 7);
        out
    }

    /// The same counted without the short way for packets in sequence.
    fn lost_one_by_one(packets: &[(u128, u32, u32, usize)]) -> u64 {
        let mut gaps = Gaps::default();
        let lost: u64 = packets
            .iter()
            .map(|&(toi, sbn, esi, symbols)| gaps.take(Toi(toi), CODING, &body(sbn, esi, symbols)))
            .sum();
        lost + gaps.end_all()
    }

    proptest::proptest! {
        #[test]
        fn packets_in_sequence_count_like_any_others(
            runs in proptest::collection::vec((1..3_u128, 0..2_u32, 0..300_u32, 1..150_u32, 1..3_usize), 1..20),
        ) {
            let packets: Vec<_> = runs
                .into_iter()
                .flat_map(|(toi, sbn, first, count, symbols)| {
                    (0..count).map(move |at| (toi, sbn, first + at * symbols as u32, symbols))
                })
                .collect();
            proptest::prop_assert_eq!(lost(packets.clone()), lost_one_by_one(&packets));
        }
    }

    #[test]
    fn a_sequence_ends_with_its_block() {
        let mut gaps = Gaps::default();
        for esi in [0xfffe, 0xffff] {
            assert_eq!(take(&mut gaps, 1, &body(3, esi, 1)), 0);
        }
        assert!(gaps.sequence.is_none());
        assert_eq!(take(&mut gaps, 1, &body(4, 0, 1)), 0);
        assert_eq!(gaps.current.map(|(key, track)| (key, track.highest)), Some(((Toi(1), 4), 0)));
        assert_eq!(gaps.others[&(Toi(1), 3)].highest, 0xffff);
    }

    fn take(gaps: &mut Gaps, toi: u128, body: &[u8]) -> u64 {
        if gaps.take_in_sequence(Toi(toi), body) { 0 } else { gaps.take(Toi(toi), CODING, body) }
    }

    /// Lost symbols of packets given as (TOI, SBN, first ESI, symbols).
    fn lost(packets: impl IntoIterator<Item = (u128, u32, u32, usize)>) -> u64 {
        let mut gaps = Gaps::default();
        let lost: u64 = packets
            .into_iter()
            .map(|(toi, sbn, esi, symbols)| take(&mut gaps, toi, &body(sbn, esi, symbols)))
            .sum();
        lost + gaps.end_all()
    }

    #[test]
    fn a_long_object_that_continues_after_a_short_one_has_no_gap() {
        let long = |from: u32| (from..from + 100).map(|esi| (1, 0, esi, 1));
        let short = |toi| (0..5).map(move |esi| (toi, 0, esi, 1));
        assert_eq!(lost(long(0).chain(short(2)).chain(long(100)).chain(short(3)).chain(long(200))), 0);
    }

    #[test]
    fn what_is_left_out_is_lost_wherever_it_is() {
        let without = |gap: std::ops::Range<u32>| {
            lost((0..1000).filter(|esi| !gap.contains(esi)).map(|esi| (1, 0, esi, 1)))
        };
        for gap in [5..6, 0..3, 300..363, 300..364, 300..365, 300..700, 990..999] {
            let expected = if gap.start == 0 { 0 } else { gap.len() as u64 };
            assert_eq!(without(gap.clone()), expected, "{gap:?}");
        }
        assert_eq!(without(900..1000), 0, "the end leaves no gap");
    }

    #[test]
    fn blocks_in_turn_have_their_gaps_each() {
        let all = (0..200_u32).flat_map(|esi| (0..20_u32).map(move |sbn| (1_u128, sbn, esi, 1_usize)));
        assert_eq!(lost(all.clone()), 0);
        assert_eq!(lost(all.filter(|&(_, sbn, esi, _)| (sbn, esi) != (3, 50) && (sbn, esi) != (7, 51))), 2);
    }

    #[test]
    fn several_symbols_in_a_packet_are_no_gaps() {
        let all = (0..300).map(|at| (1, 0, at * 3, 3));
        assert_eq!(lost(all.clone()), 0);
        assert_eq!(lost(all.filter(|&(.., esi, _)| esi != 30)), 3);
        assert_eq!(lost((0..50).map(|at| (1, 0, at * 100, 100))), 0);
    }

    #[test]
    fn losses_of_short_blocks_are_counted_when_they_come_again() {
        // An audio segment of 18 packets, ten times.
        let passes = |gone: &'static [(u32, u32)]| {
            let all = (0..10).flat_map(|pass| (0..18).map(move |esi| (pass, esi)));
            all.filter(|it| !gone.contains(it)).map(|(_, esi)| (1, 0, esi, 1))
        };
        assert_eq!(lost(passes(&[])), 0);
        assert_eq!(lost(passes(&[(3, 5), (3, 6), (3, 7), (7, 9)])), 4);
        // Where a pass begins and ends is not known, nor whether one of its first packets is late.
        assert_eq!(lost(passes(&[(3, 0), (3, 1), (3, 17), (4, 0), (6, 2)])), 0);
        // In turns with other objects, and each packet twice, close together or later.
        let both = passes(&[(3, 5), (7, 9)]).flat_map(|it| [it, (2, it.1, it.2, it.3)]);
        assert_eq!(lost(both), 4);
        let twice = passes(&[(3, 5), (7, 9)]).flat_map(|it| [it, it]);
        assert_eq!(lost(twice), 2);
        // Several packets in succession again, some symbols behind.
        for (behind, count) in
            (1..60).flat_map(|behind| (1..=behind.min(10)).map(move |count| (behind, count)))
        {
            for at in [30, 70, 150] {
                let copies = (at - behind.min(at)..).take(count as usize);
                let all = (0..at).chain(copies).chain(at..200);
                assert_eq!(lost(all.map(|esi| (1, 0, esi, 1))), 0, "{behind} {count} {at}");
            }
        }
        // What the second of two copies brings, unless that is as late as another pass.
        for delay in 1..14_u32 {
            let all = (0..18 + delay).flat_map(|at| [(0, at), (1, at.wrapping_sub(delay))]);
            let all = all.filter(|&(copy, esi)| esi < 18 && (copy, esi) != (0, 14));
            assert_eq!(lost(all.map(|(_, esi)| (1, 0, esi, 1))), 0, "{delay}");
        }
        for delay in 1..60_u32 {
            let all = (0..200 + delay).flat_map(|at| [at, at.wrapping_sub(delay)]).filter(|&esi| esi < 200);
            assert_eq!(lost(all.map(|esi| (1, 0, esi, 1))), 0, "{delay}");
        }
    }

    #[test]
    fn late_and_repeated_packets_are_not_lost() {
        let mut order: Vec<u32> = (0..500).collect();
        for at in (0..480).step_by(7) {
            order.swap(at, at + 13);
        }
        order.insert(200, order[150]);
        assert_eq!(lost(order.into_iter().map(|esi| (1, 0, esi, 1))), 0);
        let passes = (0..5).flat_map(|_| (0..200).map(|esi| (1, 0, esi, 1)));
        assert_eq!(lost(passes), 0, "a carousel begins again");
    }

    #[test]
    fn a_few_packets_with_high_symbol_numbers_are_not_the_loss_of_all_between_them() {
        let forged = |count: u32| (0..count).map(|at| (1, at / 2, if at % 2 == 0 { 0 } else { 65_000 }, 1));
        assert_eq!(lost(forged(8)), 8 * LOST_PER_PACKET);
        // An outage of ten times the reception before it counts.
        let around = (0..1000).chain(11_000..12_000).map(|esi| (1, 0, esi, 1));
        assert_eq!(lost(around), 10_000);
    }

    #[test]
    fn a_sender_that_leaps_about_in_a_block_loses_nothing() {
        let halves = (0..400).flat_map(|esi| [(1, 0, esi, 1), (1, 0, 1000 + esi, 1)]);
        assert_eq!(lost(halves), 0);
    }

    #[test]
    fn tracks_are_bounded() {
        let mut gaps = Gaps::default();
        for toi in 1..100_000 {
            gaps.take(Toi(toi), CODING, &body(0, 0, 1));
            assert!(gaps.others.len() <= MAX_TRACKS);
        }
        assert_eq!(gaps.end_all(), 0);
        assert_eq!(gaps.others.capacity(), 0);
    }
}
