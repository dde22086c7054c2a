//! Reassembly of one ROUTE session: packets in; named objects out, complete or growing.
//!
//! ```text
//!                first packet         name known             length known, all bytes there
//!  (unknown) ─────────────────▶ open ────────────▶ Begun ─────────────────────────────────▶ Complete
//!                                 │                  │ grown()        or guessed: see below
//!                                 └──────────────────┴──▶ Failed: silence, no name, no room, restarted
//! ```
//!
//! Senders omit the length of a live object if they learn of its end too late. The end of a media segment in file mode is
//! then inferred when the channel's next segment begins, or after [`END_SILENCE`], if no bytes are missing, its boxes are
//! complete, and it has as many movie fragments as the segments before it.
//!
//! Objects are repeated under the same TOI, init segments sometimes with other bytes. So each repeat is received, and
//! dropped if it is equal.

mod channel;
mod object;
mod repair;
mod restoring;
mod signalling;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Codepoint, Format, RouteSession, SIGNALLING_TSI, unchunk};
use crate::alc::Packet;
use crate::budget::{Brought, Worth};
use crate::bytes::Reader;
use crate::fec::{BlockId, Serials};
use crate::flute::File;
use crate::growing::{BytesDrop, End};
use crate::lct::Toi;
use crate::lct::ext::{Extensions, het, parse_tol};
use crate::limits;
use crate::limits::SPENT_SESSION_SILENCE;
use crate::time::Instant;

pub use channel::ChannelState;
use channel::{Channel, Done};
use object::{Object, fingerprint};
pub use repair::RepairJob;
pub use verdict::{RouteDrop, RouteFailure, RouteStats, Verdict};

limits! {
    /// Objects of one channel that are open at a time.
    const MAX_OPEN: usize = 64, "objects" {
        why: "A channel sends one segment after the other; applications interleave a handful of files.",
        full: "The object that was heard longest ago is given up as `displaced`.",
        free: "When an object is complete or given up.",
        test: "floods_of_objects_channels_and_events_are_bounded",
    }

    /// Channels of one session, described or received.
    pub(super) const MAX_SESSION_CHANNELS: usize = 256, "channels" {
        why: "As many as one S-TSID describes.",
        full: "The channel without a description that was heard longest ago is removed; if there is none, packets are dropped as `too_many_channels`.",
        free: "When a further channel comes and one of the others has no description.",
        test: "channels_without_a_description_make_room",
    }

    /// Bytes of all open objects of one session.
    const MAX_SESSION_BYTES: u64 = 128 << 20, "bytes" {
        why: "Ten representations with two segments of ten seconds at 5 Mbit/s each.",
        full: "The object that was heard longest ago is given up as `displaced`.",
        free: "When an object is complete or given up.",
        test: "floods_of_objects_channels_and_events_are_bounded",
    }

    /// Events that have not been polled.
    const MAX_EVENTS: usize = 4_096, "events" {
        why: "Callers poll after every batch of packets.",
        full: "Packets are dropped as `events_full`.",
        free: "When events are polled.",
        test: "floods_of_objects_channels_and_events_are_bounded",
    }

    /// Silence after which a media object without a mark of its end is over.
    const END_SILENCE: Duration = Duration::from_secs(2), "s" {
        why: "Chunks come every 0.1 to 1 s.",
        full: "The object is complete if it has as many fragments as those before it.",
        free: "Holds for one object.",
        test: "the_last_segment_ends_by_its_fragments_or_fails",
    }

    /// Silence of a media object after which its packets, or the repair symbols that would replace them, are late.
    const LATE_SILENCE: Duration = Duration::from_millis(500), "s" {
        why: "Pieces of a live object come every 0.1 to 0.5 s, its repair symbols behind its last.",
        full: "Readers of the object are warned that it may not come; if it does, reception continues.",
        free: "With the next packet of the object.",
        test: "packets_of_a_growing_object_are_late_when_those_behind_them_have_come",
    }

    /// Silence after which an incomplete object that is carouselled is given up.
    const MAX_OBJECT_SILENCE: Duration = Duration::from_secs(600), "s" {
        why: "A cycle of a carousel of applications takes minutes.",
        full: "The object is given up as `incomplete`.",
        free: "At once.",
        test: "the_last_segment_ends_by_its_fragments_or_fails",
    }

    /// Age of an object that is carouselled, from its first packet on, at which it is given up.
    const MAX_OBJECT_AGE: Duration = Duration::from_secs(2 * 3600), "s" {
        why: "64 MiB at 80 kbit/s take 1.9 hours; a packet now and then would keep an object from being silent forever.",
        full: "The object is given up as `too_old`.",
        free: "At once; its next packet begins it again.",
        test: "objects_whose_packets_trickle_are_given_up",
    }

    /// Age of a media object, from its first packet on, at which it is given up.
    const MAX_MEDIA_AGE: Duration = Duration::from_secs(600), "s" {
        why: "Sixty times the longest segments in use; 64 MiB at 1 Mbit/s take 540 s.",
        full: "The object is given up as `too_old`.",
        free: "At once.",
        test: "objects_whose_packets_trickle_are_given_up",
    }
}

/// Length from which repeats of a complete object are not received.
const LONG_BYTES: u64 = 1 << 20;

/// Options of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverConfig {
    /// Silence after which an incomplete media object is given up; at least the delay of its repair symbols.
    pub reception_timeout: Duration,
    /// Time for which an object without a name is kept after its last packet.
    pub unnamed_timeout: Duration,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self { reception_timeout: Duration::from_secs(3), unnamed_timeout: Duration::from_secs(30) }
    }
}

/// Events, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A named media object has begun: [`Receiver::grown`] reports its bytes.
    Begun {
        /// Its channel.
        tsi: u64,
        /// Its description; without its length if unknown.
        file: Arc<File>,
    },
    /// An object is complete.
    Complete {
        /// Its channel.
        tsi: u64,
        /// Its description, with its length.
        file: Arc<File>,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Evidence of its end.
        end: End,
        /// Whether it is an init segment.
        is_init: bool,
    },
    /// A document of a signalling package is new or has changed.
    Document {
        /// Its name and type. The name is empty if the package gives an S-TSID or a user service description none.
        file: Arc<File>,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A new signalling package: it differs from the last one with its TOI.
    Package {
        /// Its TOI.
        toi: Toi,
        /// Its bytes as sent, compressed or not.
        bytes: Vec<u8>,
    },
    /// The S-TSID names sessions at other addresses.
    Elsewhere(Vec<RouteSession>),
    /// A source block can be decoded: see [`Receiver::repair_job`].
    BlockReady {
        /// The channel of the object.
        tsi: u64,
        /// The object.
        toi: Toi,
        /// The block.
        block: BlockId,
    },
    /// An object was given up.
    Failed {
        /// Its channel.
        tsi: u64,
        /// Its TOI.
        toi: Toi,
        /// Its description, if it had one.
        file: Option<Arc<File>>,
        /// Why.
        why: RouteFailure,
    },
    /// A channel was removed to make room for another.
    ChannelRemoved {
        /// The channel.
        tsi: u64,
    },
    /// The sender set the A flag.
    SessionClosed,
}

/// State of a growing object that is visible to players.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrowingState {
    /// Its channel.
    pub tsi: u64,
    /// Its TOI.
    pub toi: Toi,
    /// Bytes are missing before the last received one.
    pub has_gap: bool,
    /// The missing bytes are not expected any more: a later byte was received and the channel has no repair symbols; or
    /// nothing of the object was received for [`LATE_SILENCE`] after a later byte or the beginning of the next object; if
    /// it may have ended, for [`END_SILENCE`].
    pub is_late: bool,
}

/// Reassembly of one session: its channels (LCT sessions), their open objects, and events not taken yet.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    destination: SocketAddr,
    channels: BTreeMap<u64, Channel>,
    /// Fingerprints of documents by name.
    documents: HashMap<String, u64>,
    events: VecDeque<Event>,
    stats: RouteStats,
    last_heard: Instant,
    is_closed: bool,
    serials: Serials,
    /// Bytes that have come of open objects.
    open_bytes: u64,
    /// Memory of open objects, of the channels' tables, and of `documents`.
    objects_bytes: usize,
    channels_bytes: usize,
    documents_bytes: usize,
    brought: Brought,
}

/// Approximate memory of a receiver without state.
const RECEIVER_BYTES: usize = 1_024;

impl Receiver {
    /// A receiver without state, for the session sent to `destination`.
    pub fn new(config: ReceiverConfig, destination: SocketAddr) -> Self {
        Self {
            config,
            destination,
            channels: BTreeMap::new(),
            documents: HashMap::new(),
            events: VecDeque::new(),
            stats: RouteStats::default(),
            last_heard: Instant::from_nanos(0),
            is_closed: false,
            serials: Serials::default(),
            open_bytes: 0,
            objects_bytes: 0,
            channels_bytes: 0,
            documents_bytes: 0,
            brought: Brought::default(),
        }
    }

    /// Processes one packet. `datagram_bytes` is the length of the UDP payload. Poll events after every batch.
    pub fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>, datagram_bytes: usize) -> Verdict {
        self.last_heard = now;
        self.stats.packets += 1;
        self.stats.bytes += datagram_bytes as u64;
        let verdict = self.dispatch(now, packet, datagram_bytes).unwrap_or_else(Verdict::Dropped);
        match verdict {
            Verdict::Stored => self.stats.stored += 1,
            Verdict::Repair => self.stats.repair += 1,
            Verdict::Control => self.stats.control += 1,
            Verdict::Dropped(reason) => self.stats.dropped[reason as usize] += 1,
        }
        verdict
    }

    fn dispatch(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        datagram_bytes: usize,
    ) -> Result<Verdict, RouteDrop> {
        let tsi = packet.lct.tsi.ok_or(RouteDrop::Malformed)?.0;
        if self.events.len() >= MAX_EVENTS {
            return Err(RouteDrop::EventsFull);
        }
        if !self.channels.contains_key(&tsi) && !self.make_room_for_channel() {
            return Err(RouteDrop::TooManyChannels);
        }
        let channel = match self.channels.entry(tsi) {
            Entry::Occupied(channel) => channel.into_mut(),
            Entry::Vacant(place) => {
                let channel = place.insert(Channel::default());
                self.channels_bytes += channel.memory_bytes();
                channel
            }
        };
        channel.heard = now;
        channel.state.packets += 1;
        channel.state.bytes += datagram_bytes as u64;
        if packet.lct.close_session && !self.is_closed {
            self.is_closed = true;
            self.events.push_back(Event::SessionClosed);
        }
        let Some(toi) = packet.lct.toi.filter(|_| !packet.body.is_empty()) else {
            return Ok(Verdict::Control);
        };
        let length = length_of(packet)?;
        if packet.lct.psi & 2 == 0 {
            return self.repair_packet(now, tsi, toi, packet, length);
        }
        let mut reader = Reader::new(packet.body);
        let offset = u64::from(reader.u32("start_offset").map_err(|_| RouteDrop::Malformed)?);
        let payload = reader.rest();
        let length = match length {
            Some(length) => Some((length, End::Length)),
            None if packet.lct.close_object => Some((offset + payload.len() as u64, End::CloseObject)),
            None => None,
        };
        let at = self.locate(now, tsi, toi, packet.lct.codepoint, length)?;
        match self.place(tsi, at, offset, payload, length) {
            Ok(()) => {}
            // Another object: the sender has restarted.
            Err(BytesDrop::Contradiction) => {
                let file = self.remove(tsi, at).and_then(|object| object.file.filter(|_| object.is_begun));
                if file.is_some() {
                    self.failed(tsi, toi, file, RouteFailure::Replaced);
                }
                let at = self.locate(now, tsi, toi, packet.lct.codepoint, length)?;
                self.place(tsi, at, offset, payload, length).map_err(RouteDrop::of)?;
                self.advance(tsi, at);
                return Ok(Verdict::Stored);
            }
            Err(BytesDrop::TooLong) => {
                let file = self.remove(tsi, at).and_then(|object| object.file);
                self.done_with(tsi, toi, Done { length: u64::MAX, fingerprint: 0 });
                self.failed(tsi, toi, file, RouteFailure::TooLong);
                return Err(RouteDrop::TooLong);
            }
            Err(drop) => {
                // A control packet may contain the length.
                self.advance(tsi, at);
                return Err(RouteDrop::of(drop));
            }
        }
        self.advance(tsi, at);
        Ok(Verdict::Stored)
    }

    /// The index of an object in its channel; opens it if necessary.
    fn locate(
        &mut self,
        now: Instant,
        tsi: u64,
        toi: Toi,
        codepoint: u8,
        length: Option<(u64, End)>,
    ) -> Result<usize, RouteDrop> {
        let channel = self.channels.get_mut(&tsi).ok_or(RouteDrop::TooManyChannels)?;
        if channel.objects.get(channel.current).is_some_and(|object| object.toi == toi) {
            return Ok(channel.current);
        }
        if let Some(at) = channel.objects.iter().position(|object| object.toi == toi) {
            channel.current = at;
            return Ok(at);
        }
        let mut codepoint = Codepoint::of(codepoint, channel.payloads()).ok_or(RouteDrop::Codepoint)?;
        if tsi == SIGNALLING_TSI {
            codepoint.format = Format::Package;
        }
        let done = channel.done.get(&toi);
        if done.is_some_and(|done| {
            done.length >= LONG_BYTES && length.is_none_or(|(length, _)| length == done.length)
        }) {
            return Err(RouteDrop::Repeat);
        }
        let mut object = Object::new(toi, self.serials.next(now), codepoint, done.is_some(), now);
        if codepoint.format == Format::File {
            object.file = channel.describe(toi, codepoint);
        }
        if codepoint.is_media && !object.is_again {
            for other in channel.objects.iter_mut().filter(|it| it.codepoint.is_media) {
                other.next_has_begun = true;
            }
        }
        if channel.objects.len() >= MAX_OPEN {
            let oldest = channel.objects.iter().enumerate().min_by_key(|(_, it)| it.heard).map(|(at, _)| at);
            if let Some(at) = oldest {
                self.give_up(tsi, at, RouteFailure::Displaced);
            }
        }
        self.guess_ends(tsi, |object| object.next_has_begun, End::NextObject);
        let channel = self.channels.get_mut(&tsi).ok_or(RouteDrop::TooManyChannels)?;
        channel.current = channel.objects.len();
        self.objects_bytes += object.size().1;
        channel.objects.push(object);
        Ok(channel.current)
    }

    fn place(
        &mut self,
        tsi: u64,
        at: usize,
        offset: u64,
        payload: &[u8],
        length: Option<(u64, End)>,
    ) -> Result<(), BytesDrop> {
        let Some(object) = self.channels.get_mut(&tsi).and_then(|it| it.objects.get_mut(at)) else {
            return Ok(());
        };
        object.heard = self.last_heard;
        if let Some((length, end)) = length {
            object.bytes.set_length(length)?;
            object.end.get_or_insert(end);
        }
        if payload.is_empty() {
            return Ok(());
        }
        let placed = self.with_object(tsi, at, |object| {
            object.bytes.insert(offset, payload)?;
            object.read_entity();
            Ok(())
        });
        placed.unwrap_or(Ok(()))
    }

    /// Changes an open object, and the sums with it.
    fn with_object<R>(&mut self, tsi: u64, at: usize, change: impl FnOnce(&mut Object) -> R) -> Option<R> {
        let object = self.channels.get_mut(&tsi)?.objects.get_mut(at)?;
        let before = object.size();
        let result = change(object);
        let after = object.size();
        self.open_bytes = self.open_bytes + after.0 - before.0;
        self.objects_bytes = self.objects_bytes + after.1 - before.1;
        Some(result)
    }

    /// Changes the tables of a channel.
    fn with_channel<R>(&mut self, tsi: u64, change: impl FnOnce(&mut Channel) -> R) -> R {
        let before = self.channels.get(&tsi).map_or(0, Channel::memory_bytes);
        let channel = self.channels.entry(tsi).or_default();
        let result = change(channel);
        self.channels_bytes = self.channels_bytes + channel.memory_bytes() - before;
        result
    }

    /// Evaluates the state of an object after new bytes.
    fn advance(&mut self, tsi: u64, at: usize) {
        let Some(object) = self.channels.get(&tsi).and_then(|it| it.objects.get(at)) else { return };
        if object.bytes.is_complete() {
            self.complete(tsi, at, None);
        } else {
            self.begin(tsi, at);
            self.check_repair(tsi, at);
            if self.channels.get(&tsi).and_then(|it| it.objects.get(at)).is_some_and(|it| it.next_has_begun) {
                self.guess_ends(tsi, |object| object.next_has_begun, End::NextObject);
            }
        }
        if self.open_bytes > MAX_SESSION_BYTES {
            self.make_room();
        }
    }

    /// Reports the beginning of an object, once.
    fn begin(&mut self, tsi: u64, at: usize) {
        let Some(object) = self.channels.get_mut(&tsi).and_then(|it| it.objects.get_mut(at)) else { return };
        let is_shown = object.codepoint.is_media && !object.is_again && object.body_at().is_some();
        if let Some(file) = object.file.as_ref().filter(|_| is_shown && !object.is_begun) {
            object.is_begun = true;
            self.events.push_back(Event::Begun { tsi, file: Arc::clone(file) });
        }
    }

    /// Completes objects without an end marker whose end can be inferred.
    fn guess_ends(&mut self, tsi: u64, is_due: impl Fn(&Object) -> bool, end: End) {
        let Some(channel) = self.channels.get(&tsi) else { return };
        let expected = channel.fragments.expected();
        let is_over = |object: &Object| {
            is_due(object) && expected.is_some() && object.boxes().map(|it| it.fragments) == expected
        };
        while let Some(at) =
            self.channels.get(&tsi).and_then(|channel| channel.objects.iter().position(is_over))
        {
            self.complete(tsi, at, Some(end));
        }
    }

    /// Completes an object that has all its bytes. Without a name it waits for one.
    fn complete(&mut self, tsi: u64, at: usize, guessed: Option<End>) {
        let Some(channel) = self.channels.get_mut(&tsi) else { return };
        let Some(object) = channel.objects.get_mut(at) else { return };
        let is_package = object.codepoint.format == Format::Package;
        if let Some(end) = guessed {
            object.end = Some(end);
            let length = object.bytes.end();
            if object.bytes.set_length(length).is_err() {
                return;
            }
        } else if object.codepoint.is_media
            && let Some(boxes) = object.bytes.boxes()
        {
            channel.fragments.learn(boxes.fragments);
        }
        if object.file.is_none() && !is_package {
            if object.codepoint.format == Format::Entity {
                self.give_up(tsi, at, RouteFailure::BadEntity);
            }
            return;
        }
        let Some(object) = self.remove(tsi, at) else { return };
        let (toi, end, codepoint, entity) =
            (object.toi, object.end.unwrap_or(End::Length), object.codepoint, object.entity);
        let file = object.file.clone();
        let sent = object.bytes.into_prefix();
        let done = Done { length: sent.len() as u64, fingerprint: fingerprint(&sent) };
        let before = self.channels.get(&tsi).and_then(|it| it.done.get(&toi)).copied();
        self.done_with(tsi, toi, done);
        if before.is_some_and(|it| it.fingerprint == done.fingerprint && it.length == done.length) {
            self.stats.repeats += 1;
            return;
        }
        if is_package {
            self.package(tsi, toi, sent, end);
            return;
        }
        let Some(file) = file else { return };
        let (mut file, mut bytes) = ((*file).clone(), sent);
        if let Some((body_at, is_chunked)) = entity {
            bytes.drain(..(body_at as usize).min(bytes.len()));
            if is_chunked {
                let Some((body, digest)) = unchunk(&bytes) else {
                    return self.failed(tsi, toi, Some(Arc::new(file)), RouteFailure::BadEntity);
                };
                bytes = body;
                file.repr_digest = digest.or(file.repr_digest);
            }
        }
        // A description with another length is of another version.
        file.transfer_length = Some(bytes.len() as u64);
        if file.encoding == crate::flute::Encoding::Identity {
            file.content_length = file.transfer_length;
        }
        self.count_complete(tsi, end);
        let is_init = codepoint.is_init;
        self.events.push_back(Event::Complete { tsi, file: Arc::new(file), bytes, end, is_init });
    }

    fn count_complete(&mut self, tsi: u64, end: End) {
        self.stats.complete[end as usize] += 1;
        if let Some(channel) = self.channels.get_mut(&tsi) {
            channel.state.complete += 1;
            channel.state.guessed += u64::from(end.is_guessed());
        }
    }

    fn done_with(&mut self, tsi: u64, toi: Toi, done: Done) {
        if self.channels.contains_key(&tsi) {
            // A newer object of a TOI replaces the older one.
            self.with_channel(tsi, |it| it.remember(toi, done));
        }
    }

    /// Processes timers; call it about once a second.
    pub fn handle_timeout(&mut self, now: Instant) {
        let tsis: Vec<u64> = self.channels.keys().copied().collect();
        for tsi in tsis {
            self.guess_ends(tsi, |object| now.since(object.heard) >= END_SILENCE, End::Silence);
            let config = self.config;
            let is_over = |object: &Object| {
                let silence = now.since(object.heard);
                let most = match (object.bytes.is_complete(), object.codepoint.is_media) {
                    (true, _) => config.unnamed_timeout,
                    (false, true) => config.reception_timeout.max(END_SILENCE),
                    (false, false) => MAX_OBJECT_SILENCE,
                };
                silence >= most
            };
            self.give_up_all(tsi, RouteFailure::Incomplete, is_over);
            self.give_up_all(tsi, RouteFailure::TooOld, |object| {
                let most = if object.codepoint.is_media { MAX_MEDIA_AGE } else { MAX_OBJECT_AGE };
                now.since(object.begun) >= most
            });
            let objects = self.channels.get_mut(&tsi).map(|it| &mut it.objects);
            let count = objects.map_or(0, |objects| {
                objects.iter_mut().for_each(|it| it.repair.resume());
                objects.len()
            });
            (0..count).for_each(|at| self.check_repair(tsi, at));
        }
    }

    /// Gives up open objects until `wanted_bytes` are freed, the one with the oldest last packet first. Returns the bytes freed, which
    /// may be fewer. Poll events afterwards.
    pub fn shed(&mut self, wanted_bytes: usize) -> usize {
        let before = self.objects_bytes;
        let open = self.channels.iter().flat_map(|(&tsi, channel)| {
            channel.objects.iter().map(move |object| (object.heard, tsi, object.toi))
        });
        let mut oldest: Vec<(Instant, u64, Toi)> = open.collect();
        oldest.sort_unstable();
        for (_, tsi, toi) in oldest {
            if before - self.objects_bytes >= wanted_bytes {
                break;
            }
            let objects = self.channels.get(&tsi).map(|it| &it.objects);
            if let Some(at) = objects.and_then(|it| it.iter().position(|object| object.toi == toi)) {
                self.give_up(tsi, at, RouteFailure::OverBudget);
            }
        }
        before - self.objects_bytes
    }

    /// Approximate memory of the session: open objects, descriptions, records of complete objects.
    pub const fn held_bytes(&self) -> usize {
        RECEIVER_BYTES + self.objects_bytes + self.channels_bytes + self.documents_bytes
    }

    /// Credits the session with the bytes of a complete object, which raises its rank against sessions without any.
    pub const fn brought(&mut self, bytes: u64) {
        self.brought.add(bytes, false);
    }

    /// Rank of the session when one must be displaced. After a long silence only placed packets count.
    pub fn worth(&self, now: Instant) -> Worth {
        let is_alive = now.since(self.last_heard) < SPENT_SESSION_SILENCE;
        Worth::new(self.brought, self.stats.stored + self.stats.repair, is_alive)
    }

    /// Handles the end of input: completes objects without an end marker whose end can be inferred. Poll events
    /// afterwards.
    pub fn end_silent(&mut self) {
        let tsis: Vec<u64> = self.channels.keys().copied().collect();
        for tsi in tsis {
            self.guess_ends(tsi, |_| true, End::Silence);
        }
    }

    /// As [`Receiver::end_silent`]; incomplete objects are given up.
    pub fn close(&mut self) {
        self.end_silent();
        let tsis: Vec<u64> = self.channels.keys().copied().collect();
        for tsi in tsis {
            self.give_up_all(tsi, RouteFailure::Incomplete, |_| true);
        }
    }

    /// Whether there is room for a further channel. If necessary, the least recently received channel without a description is
    /// removed.
    fn make_room_for_channel(&mut self) -> bool {
        if self.channels.len() < MAX_SESSION_CHANNELS {
            return true;
        }
        let may_go =
            |tsi: u64, it: &Channel| tsi != SIGNALLING_TSI && it.source.is_none() && it.repair.is_none();
        let others = self.channels.iter().filter(|&(&tsi, it)| may_go(tsi, it));
        let Some((&tsi, _)) = others.min_by_key(|(_, it)| it.heard) else { return false };
        self.give_up_all(tsi, RouteFailure::Incomplete, |_| true);
        if let Some(channel) = self.channels.remove(&tsi) {
            self.channels_bytes -= channel.memory_bytes();
        }
        self.events.push_back(Event::ChannelRemoved { tsi });
        true
    }

    /// Gives up objects until the rest is within the limit.
    #[cold]
    fn make_room(&mut self) {
        while self.open_bytes > MAX_SESSION_BYTES {
            let all = self.channels.iter().flat_map(|(&tsi, channel)| {
                channel.objects.iter().enumerate().map(move |(at, object)| (object.heard, tsi, at))
            });
            let Some((_, tsi, at)) = all.min() else { return };
            self.give_up(tsi, at, RouteFailure::Displaced);
        }
    }

    /// Gives up the objects of a channel that satisfy `is_over`: bytes are missing (`incomplete`), or the name is.
    fn give_up_all(&mut self, tsi: u64, incomplete: RouteFailure, is_over: impl Fn(&Object) -> bool) {
        while let Some((at, object)) = self
            .channels
            .get(&tsi)
            .and_then(|it| it.objects.iter().enumerate().find(|(_, object)| is_over(object)))
        {
            let is_complete = object.bytes.is_complete();
            let why = if is_complete { RouteFailure::Unnamed } else { incomplete };
            self.give_up(tsi, at, why);
        }
    }

    fn give_up(&mut self, tsi: u64, at: usize, why: RouteFailure) {
        let Some(object) = self.remove(tsi, at) else { return };
        if object.is_again {
            // An incomplete repeat.
            return;
        }
        let missing = object.bytes.missing().iter().map(|it| it.end - it.start).sum::<u64>();
        self.stats.missing_bytes += missing;
        if object.codepoint.is_media {
            // Further packets cause an event only if it is completed after all.
            self.done_with(tsi, object.toi, Done { length: 0, fingerprint: 0 });
        }
        self.failed(tsi, object.toi, object.file, why);
    }

    fn failed(&mut self, tsi: u64, toi: Toi, file: Option<Arc<File>>, why: RouteFailure) {
        self.stats.failed[why as usize] += 1;
        if let Some(channel) = self.channels.get_mut(&tsi) {
            channel.state.failed += 1;
        }
        self.events.push_back(Event::Failed { tsi, toi, file, why });
    }

    fn remove(&mut self, tsi: u64, at: usize) -> Option<Object> {
        let channel = self.channels.get_mut(&tsi)?;
        if at >= channel.objects.len() {
            return None;
        }
        let object = channel.objects.remove(at);
        channel.current = 0;
        let (held_bytes, memory_bytes) = object.size();
        self.open_bytes -= held_bytes;
        self.objects_bytes -= memory_bytes;
        Some(object)
    }

    /// Calls `each` with contiguous bytes of objects received since the last call: channel, description, offset, bytes.
    pub fn grown(&mut self, mut each: impl FnMut(u64, &Arc<File>, u64, &[u8])) {
        for (&tsi, channel) in &mut self.channels {
            for object in channel.objects.iter_mut().filter(|it| it.is_begun) {
                let (Some(body_at), Some(file)) = (object.body_at(), &object.file) else { continue };
                let prefix = object.bytes.prefix();
                let new = prefix.get((body_at + object.reported_bytes) as usize..);
                if let Some(new) = new.filter(|new| !new.is_empty()) {
                    each(tsi, file, object.reported_bytes, new);
                    object.reported_bytes += new.len() as u64;
                }
            }
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Counters.
    pub const fn stats(&self) -> &RouteStats {
        &self.stats
    }

    /// Time of the last packet.
    pub const fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// State of the channels, by TSI.
    pub fn channels(&self) -> impl Iterator<Item = ChannelState> {
        self.channels.iter().map(|(&tsi, channel)| {
            let protected = channel.repair.iter().flat_map(|it| &it.protected);
            ChannelState {
                tsi,
                open: channel.objects.len(),
                template: channel.source.as_ref().and_then(|it| it.template.clone()),
                representation: channel.source.as_ref().and_then(|it| it.representation.clone()),
                protects: protected.map(|it| it.tsi).collect(),
                ..channel.state.clone()
            }
        })
    }

    /// Open objects: channel, TOI, description if known, received bytes, length if known.
    pub fn open(&self) -> impl Iterator<Item = (u64, Toi, Option<&Arc<File>>, u64, Option<u64>)> {
        self.channels.iter().flat_map(|(&tsi, channel)| {
            let objects = channel.objects.iter().filter(|it| !it.is_again);
            objects.map(move |it| (tsi, it.toi, it.file.as_ref(), it.bytes.held_bytes(), it.bytes.length()))
        })
    }

    /// Growing objects that are visible to players.
    pub fn growing(&self, now: Instant) -> impl Iterator<Item = GrowingState> {
        self.channels.iter().flat_map(move |(&tsi, channel)| {
            channel.objects.iter().filter(|it| it.is_begun).map(move |it| {
                let (has_gap, is_silent) = (!it.bytes.has_no_gap(), now.since(it.heard) >= LATE_SILENCE);
                // The expected number of fragments may be known by the end of the silence.
                let expected = channel.fragments.expected();
                let may_be_over = || {
                    let fragments = it.boxes().map(|it| it.fragments);
                    let is_expected =
                        fragments == expected || expected.is_none() && now.since(it.heard) < END_SILENCE;
                    fragments.is_some() && is_expected
                };
                let is_late = if is_silent {
                    has_gap || it.next_has_begun && !may_be_over()
                } else {
                    has_gap && self.oti_of(tsi).is_none()
                };
                GrowingState { tsi, toi: it.toi, has_gap, is_late }
            })
        })
    }

    /// Whether `tsi` carries repair symbols according to the S-TSID.
    pub fn is_repair_channel(&self, tsi: u64) -> bool {
        self.channels.get(&tsi).is_some_and(|channel| channel.repair.is_some())
    }
}

/// The length of the object in a packet: EXT_TOL, or the first 48 bits of EXT_FTI.
fn length_of(packet: &Packet<'_>) -> Result<Option<u64>, RouteDrop> {
    for extension in Extensions::new(packet.lct.extensions).flatten() {
        if matches!(extension.het, het::TOL_24 | het::TOL_48) {
            return parse_tol(extension).map(Some).map_err(|_| RouteDrop::Malformed);
        }
    }
    let Some(fti) = packet.fti else { return Ok(None) };
    Reader::new(fti).uint::<6>("EXT_FTI").map(Some).map_err(|_| RouteDrop::Malformed)
}
