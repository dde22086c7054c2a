//! Reassembly of one FLUTE session: packets in, complete and named objects out.
//!
//! ```text
//!              EXT_FTI or FDT gives OTI                   last symbol, and a name
//!  (unknown) ───────────────────────────▶ in flight ───────────────────────────▶ Event::Complete ─▶ done
//! │ neither yet: kept early                │ FDT reuses the TOI                                  │ repeats are
//!      └──────────── FDT arrives ───────────────┼──▶ Event::Replaced: all of it is forgotten ◀────────┘ dropped
//!                                               └──▶ Event::Abandoned: its time is over, or its place is needed
//! ```
//!
//! The receiver places symbols and counts them; it neither hashes nor inflates, so that receive threads are not delayed.
//! The owner of [`Event::Complete`] calls [`super::verify()`] and, if the bytes are wrong, [`Receiver::reject`], after
//! which the next pass is received.
//!
//! All state ages: descriptions expire by their `Expires` (or by age, while the date is not known), objects in flight
//! with their description or after [`MAX_OBJECT_SILENCE`], and in a full table the least recently used entry makes room.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

mod describing;
mod done;
mod gaps;
mod in_flight;
mod joining;
mod recovery;
mod storage;
mod trusting;
mod verdict;

use super::assembler::FdtAssembler;
use super::fdt::File;
use super::table::FdtTable;
use crate::alc::Packet;
use crate::budget::{Brought, Worth};
use crate::fec::{BlockId, Oti, Partition, Serials, SymbolMap};
use crate::lct::Toi;
use crate::limits;
use crate::limits::{
    EXPIRED_GRACE, MAX_EARLY_BYTES, MAX_OBJECT_SILENCE, MAX_OBJECTS_IN_FLIGHT, SPENT_SESSION_SILENCE,
    UNDATED_EXPIRY,
};
use crate::time::{Instant, WallTime};
use crate::trust::WrongSignatures;

use describing::EmptyObject;
use done::{Done, DoneTable};
use gaps::{Coding, Gaps};
pub use in_flight::InFlight;
use in_flight::{contradicts, fti_of};
pub use joining::{JoinFailure, Joined, Joiner, Unfinished};
pub use recovery::RecoveryJob;
pub use storage::{MemoryBuf, MemoryStorage, OpenRequest, Refusal, Storage, SymbolPlace};
use trusting::Place;
pub use trusting::SessionTrust;
pub use verdict::{AbandonReason, DropReason, ReceiverStats, Verdict};

/// Options of a receiver.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// Silence after which an incomplete object counts as stalled ([`Event::Stalled`]).
    /// TS 103 769: `transportObjectReceptionTimeout`.
    pub reception_timeout: Duration,
    /// Time for which the packets of an object are dropped after storage said [`Refusal::NoRoom`].
    pub refused_retry: Duration,
    /// Time for which an object without a name is kept after its last packet.
    pub unnamed_timeout: Duration,
    /// Silence after which a session counts as paused ([`Event::SessionSilent`]).
    pub silence_timeout: Duration,
    /// Required trust; `None`: signatures are not checked.
    pub trust: Option<SessionTrust>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            reception_timeout: Duration::from_secs(2),
            refused_retry: Duration::from_secs(5),
            unnamed_timeout: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(5),
            trust: None,
        }
    }
}

limits! {
    /// Objects in flight without a name, a part of MAX_OBJECTS_IN_FLIGHT, so that invented TOIs cannot displace described objects.
    const MAX_UNNAMED: usize = 128, "objects" {
        why: "Late joiners see a handful before the FDT.",
        full: "Packets of further ones are dropped as `too_many_objects`.",
        free: "When an object is described or has been silent for its timeout.",
        test: "a_hundred_thousand_invented_tois_leave_room_for_described_objects",
    }

    /// Age of an object in flight without a name, from its first packet on.
    const MAX_UNNAMED_AGE: Duration = Duration::from_secs(1800), "s" {
        why: "A carousel repeats its FDT several times a minute; further packets keep an object from counting as silent forever.",
        full: "The object is abandoned as `never_described`.",
        free: "At once; its next packet opens it again.",
        test: "an_object_without_a_name_is_given_up_though_its_packets_come",
    }
}

/// Interval at which completed TOIs that have left the carousel are removed.
const DONE_SCAN: Duration = Duration::from_secs(60);

limits! {
    /// Events that have not been polled.
    const MAX_EVENTS: usize = 4 * MAX_OBJECTS_IN_FLIGHT, "events" {
        why: "Callers poll after every batch of packets.",
        full: "Packets that would make an event are dropped as `events_full`.",
        free: "When events are polled.",
        test: "events_that_nobody_polls_stop_the_intake_not_the_memory",
    }
}

/// Events, in order. Polled with [`Receiver::poll_event`].
#[derive(Debug)]
pub enum Event<B> {
    /// A new FDT Instance; `new_files` are those of its files that are new or have changed.
    Fdt {
        /// FDT Instance ID.
        instance_id: u32,
        /// FLUTE version of EXT_FDT.
        version: u8,
        /// The XML, after content decoding.
        xml: Vec<u8>,
        /// The new descriptions.
        new_files: Vec<Arc<File>>,
        /// `Complete="true"`: no further files will be described in this session.
        complete: bool,
    },
    /// All source symbols are in `buf`; not verified yet.
    Complete {
        /// Its description by the FDT.
        file: Arc<File>,
        /// Its bytes as transported.
        buf: B,
        /// Symbols placed by [`Receiver::repair`].
        repaired_symbols: u64,
    },
    /// A source block has enough encoding symbols to be decoded: see [`Receiver::recovery_job`].
    BlockReady {
        /// The object.
        toi: Toi,
        /// The block.
        block: BlockId,
    },
    /// An incomplete object with a name has had no packet for [`ReceiverConfig::reception_timeout`], or its sender closed it or
    /// the session: the missing symbols must come from elsewhere, or in the next pass.
    Stalled {
        /// Which.
        toi: Toi,
    },
    /// Packets of a stalled object with a name have resumed.
    Resumed {
        /// Which.
        toi: Toi,
    },
    /// An object is now in flight.
    Opened {
        /// Which.
        toi: Toi,
    },
    /// Storage refused an object that was not in flight.
    Refused {
        /// Which.
        toi: Toi,
        /// Reason, which determines the duration.
        refusal: Refusal,
    },
    /// Data received for this TOI is invalid: the sender reuses it for another object.
    Replaced {
        /// Which.
        toi: Toi,
        /// Its description so far.
        file: Option<Arc<File>>,
        /// Its storage.
        buf: B,
    },
    /// An object in flight was given up.
    Abandoned {
        /// Which.
        toi: Toi,
        /// Why.
        reason: AbandonReason,
        /// Its description, if it has one.
        file: Option<Arc<File>>,
        /// Its storage.
        buf: B,
    },
    /// Files are no longer described: they expired, made room for others, or their TOI was reused. Those in flight get a
    /// separate event.
    Expired {
        /// Their descriptions.
        files: Vec<Arc<File>>,
    },
    /// The sender set the A flag.
    SessionClosed,
    /// Nothing was received for [`ReceiverConfig::silence_timeout`]: the A flag may have been lost. The objects of
    /// [`Receiver::unseen`] are not expected soon.
    SessionSilent,
}

/// Reassembly of one session: its FDT Instances, objects in flight, and events not taken yet. `B` is the storage of a body.
#[derive(Debug)]
pub struct Receiver<B> {
    config: ReceiverConfig,
    assembler: FdtAssembler,
    table: FdtTable,
    in_flight: Vec<InFlight<B>>,
    index: HashMap<Toi, usize>,
    /// Index into `in_flight` of the object of the last packet: the next packet nearly always belongs to the same.
    current: usize,
    serials: Serials,
    unnamed: usize,
    done: DoneTable,
    early: VecDeque<(Toi, Instant, Vec<u8>)>,
    early_bytes: usize,
    /// Objects with length 0 by their description, without a digest or packet that confirms it.
    empty: VecDeque<EmptyObject>,
    events: VecDeque<Event<B>>,
    closed: bool,
    /// A signed FDT Instance has been accepted.
    is_signed: bool,
    /// FDT Instances with wrong signatures.
    wrong_signatures: WrongSignatures,
    last_heard: Instant,
    silent: bool,
    gaps: Gaps,
    /// The longest time between two cycles of a held object; it decreases slowly when cycles become shorter.
    period: Option<Duration>,
    next_done_scan: Instant,
    /// Total bytes of verified objects.
    brought: Brought,
    /// Memory of the objects in flight.
    in_flight_bytes: usize,
    stats: ReceiverStats,
}

/// Approximate memory of an early packet in addition to its bytes, of a completed TOI, and of an object in flight in addition to
/// its symbol map and its buffer.
const EARLY_ENTRY_BYTES: usize = 64;
const DONE_ENTRY_BYTES: usize = 80;
const IN_FLIGHT_BYTES: usize = 1024;

impl<B> Receiver<B> {
    /// A receiver without state.
    pub fn new(config: ReceiverConfig) -> Self {
        Self {
            config,
            assembler: FdtAssembler::default(),
            table: FdtTable::default(),
            in_flight: Vec::new(),
            index: HashMap::new(),
            current: 0,
            serials: Serials::default(),
            unnamed: 0,
            done: DoneTable::default(),
            early: VecDeque::new(),
            early_bytes: 0,
            empty: VecDeque::new(),
            events: VecDeque::new(),
            closed: false,
            is_signed: false,
            wrong_signatures: WrongSignatures::default(),
            last_heard: Instant::from_nanos(0),
            silent: true,
            gaps: Gaps::default(),
            period: None,
            next_done_scan: Instant::from_nanos(0),
            brought: Brought::default(),
            in_flight_bytes: 0,
            stats: ReceiverStats::default(),
        }
    }

    /// Processes one packet of this session. `datagram` is the complete UDP payload of `packet`; `wall` is the date, or
    /// `None` while it is unknown (then nothing expires).
    ///
    /// Events may follow; poll them after every batch.
    #[inline]
    pub fn handle_packet<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        packet: &Packet<'_>,
        datagram: &[u8],
        storage: &mut S,
    ) -> Verdict {
        self.last_heard = now;
        self.silent = false;
        let verdict = self.dispatch(now, wall, packet, datagram, storage);
        self.stats.packets += 1;
        self.stats.bytes += datagram.len() as u64;
        match verdict {
            Verdict::Stored => self.stats.stored += 1,
            Verdict::Fdt => self.stats.fdt += 1,
            Verdict::Control => self.stats.control += 1,
            Verdict::Early => self.stats.early += 1,
            Verdict::Dropped(reason) => self.stats.dropped[reason as usize] += 1,
        }
        verdict
    }

    fn dispatch<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        packet: &Packet<'_>,
        datagram: &[u8],
        storage: &mut S,
    ) -> Verdict {
        let Some(toi) = packet.lct.toi.filter(|_| !packet.body.is_empty()) else {
            self.close_flags(packet);
            return Verdict::Control;
        };
        if self.events.len() >= MAX_EVENTS {
            return Verdict::Dropped(DropReason::EventsFull);
        }
        let verdict = if toi == Toi::FDT {
            self.fdt_packet(now, wall, packet, storage)
        } else {
            self.object_packet(now, toi, packet, datagram, storage)
        };
        if packet.lct.close_session || packet.lct.close_object {
            self.close_flags(packet);
        }
        verdict
    }

    #[inline]
    fn object_packet<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        toi: Toi,
        packet: &Packet<'_>,
        datagram: &[u8],
        storage: &mut S,
    ) -> Verdict {
        // First, so that the packet's memory is being loaded during the other checks.
        let in_sequence = self.gaps.take_in_sequence(toi, packet.body);
        if self.in_flight.get(self.current).is_some_and(|object| object.toi == toi) {
            return self.place_or_reopen(now, packet, datagram, in_sequence, storage);
        }
        if let Some((reason, coding)) = self.done.like_last(toi, packet.fti) {
            if let Some(coding) = coding.filter(|_| !in_sequence) {
                self.stats.lost += self.gaps.take(toi, coding, packet.body);
            }
            return Verdict::Dropped(reason);
        }
        if let Some(&index) = self.index.get(&toi) {
            self.current = index;
            return self.place_or_reopen(now, packet, datagram, in_sequence, storage);
        }
        if let Some(done) = self.done.get_mut(toi) {
            if let Some(period) = done.seen(now, self.config.reception_timeout) {
                self.period = Some(self.period.map_or(period, |known| period.max(known - known / 8)));
            }
            let on_air = fti_of(packet);
            let restarted = on_air.as_ref().is_some_and(|oti| oti.transfer_length != done.length);
            let over = done.until.is_some_and(|until| now >= until);
            if restarted && self.table.get(toi).is_some_and(|file| contradicts_signed(file, on_air.as_ref()))
            {
                return Verdict::Dropped(DropReason::OtiChanged);
            }
            if !restarted && !over {
                let (reason, coding) = (done.reason, done.coding);
                if done.until.is_none() {
                    self.done.note(toi, packet.fti, reason, coding);
                }
                if let Some(coding) = coding.filter(|_| !in_sequence) {
                    self.stats.lost += self.gaps.take(toi, coding, packet.body);
                }
                return Verdict::Dropped(reason);
            }
            self.done.remove(toi);
        }
        match self.open(now, toi, packet, storage) {
            Ok(true) => self.place(now, packet, in_sequence, storage),
            Ok(false) => self.keep_early(now, toi, datagram),
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    /// Opens the object of `packet` at `self.current`. `Ok(false)` if its length is not known yet.
    fn open<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        toi: Toi,
        packet: &Packet<'_>,
        storage: &mut S,
    ) -> Result<bool, DropReason> {
        let file = self.table.get(toi).cloned();
        if file.is_none() && self.needs_description() {
            return Ok(false);
        }
        let on_air = fti_of(packet);
        if file.as_ref().is_some_and(|file| contradicts_signed(file, on_air.as_ref())) {
            return Err(DropReason::OtiChanged);
        }
        let Some(oti) = on_air.or_else(|| file.as_ref().and_then(|file| file.oti())) else {
            return if packet.fti.is_some() { Err(DropReason::BadOti) } else { Ok(false) };
        };
        let partition = Partition::new(&oti).map_err(|_| DropReason::BadOti)?;
        if file.is_none() && self.unnamed >= MAX_UNNAMED {
            return Err(DropReason::TooManyObjects);
        }
        let place = self.place_for(now, file.as_ref());
        if place == Place::None {
            return Err(DropReason::Unproven);
        }
        // This takes a lock. After it the object is in flight, or its packets are dropped for a while.
        if file.as_ref().is_some_and(|file| self.is_outdated(file)) {
            return Err(self.outdated(now, toi, &oti));
        }
        let file = file.map(|file| with_length_on_air(file, oti.transfer_length));
        if place == Place::OfStalled {
            self.displace(InFlight::is_stalled);
        }
        if self.in_flight.len() >= MAX_OBJECTS_IN_FLIGHT {
            self.displace(|_| true);
        }
        let received = Arc::new(SymbolMap::new(&partition));
        let request = OpenRequest {
            toi,
            length: oti.transfer_length,
            file: file.as_ref(),
            is_proven: self.is_proven(),
            received: &received,
        };
        let buf = storage.open(&request).map_err(|refusal| {
            self.events.push_back(Event::Refused { toi, refusal });
            self.refused(now, toi, oti.transfer_length, Some(Coding::of(&oti)), refusal)
        })?;
        self.events.push_back(Event::Opened { toi });
        self.current = self.in_flight.len();
        self.index.insert(toi, self.current);
        self.unnamed += usize::from(file.is_none());
        let fixed_bytes = IN_FLIGHT_BYTES + received.held_bytes() + storage.memory_bytes(&buf);
        self.in_flight_bytes += fixed_bytes;
        self.in_flight.push(InFlight {
            toi,
            serial: self.serials.next(now),
            file,
            oti,
            partition,
            fti: None,
            received,
            buf,
            fixed_bytes,
            recovery_bytes: 0,
            opened: now,
            last_packet: now,
            turn_began: now,
            repaired_symbols: 0,
            stalled: false,
            recovery: recovery::Recovery::default(),
        });
        Ok(true)
    }

    /// Gives up the least recently received object that `may_go`, to make room for another. False: there is none.
    #[cold]
    fn displace(&mut self, may_go: impl Fn(&InFlight<B>) -> bool) -> bool {
        let candidates = self.in_flight.iter().enumerate().filter(|(_, object)| may_go(object));
        let oldest = candidates.min_by_key(|(_, object)| object.last_packet).map(|(index, _)| index);
        if let Some(index) = oldest {
            self.abandon(index, AbandonReason::Displaced);
        }
        oldest.is_some()
    }

    /// Gives up objects in flight whose storage `is_lost`; they are received again after [`ReceiverConfig::refused_retry`].
    pub fn give_up(&mut self, now: Instant, mut is_lost: impl FnMut(&B) -> bool) {
        let mut index = 0;
        while let Some(object) = self.in_flight.get(index).filter(|_| self.events.len() < MAX_EVENTS) {
            if is_lost(&object.buf) {
                let (toi, length, coding) = (object.toi, object.oti.transfer_length, Coding::of(&object.oti));
                self.abandon(index, AbandonReason::Refused(Refusal::NoRoom));
                self.refused(now, toi, length, Some(coding), Refusal::NoRoom);
            } else {
                index += 1;
            }
        }
    }

    fn abandon(&mut self, index: usize, reason: AbandonReason) {
        if let Some(InFlight { toi, file, buf, .. }) = self.remove(index) {
            self.events.push_back(Event::Abandoned { toi, reason, file, buf });
        }
    }

    /// Places the symbols of `packet` in the object at `self.current`, unless one of them contradicts the description: then the
    /// description counts.
    #[inline]
    fn place_or_reopen<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        datagram: &[u8],
        in_sequence: bool,
        storage: &mut S,
    ) -> Verdict {
        match self.place(now, packet, in_sequence, storage) {
            Verdict::Dropped(DropReason::OtiChanged) => self.oti_changed(now, packet, datagram, storage),
            verdict => verdict,
        }
    }

    /// Handles a packet whose EXT_FTI is not that with which its object, at `self.current`, was opened.
    #[cold]
    fn oti_changed<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        datagram: &[u8],
        storage: &mut S,
    ) -> Verdict {
        let object = &self.in_flight[self.current];
        let toi = object.toi;
        if object.file.is_none() {
            // Either may be forged: the description will say.
            return self.keep_early(now, toi, datagram);
        }
        if !object.is_contradicted_by(packet) {
            return Verdict::Dropped(DropReason::OtiChanged);
        }
        if let Some(InFlight { file, buf, .. }) = self.remove(self.current) {
            self.events.push_back(Event::Replaced { toi, file, buf });
        }
        match self.open(now, toi, packet, storage) {
            Ok(true) => self.place(now, packet, false, storage),
            Ok(false) => self.keep_early(now, toi, datagram),
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    /// Places the symbols of `packet` in the object at `self.current`.
    #[inline]
    fn place<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        in_sequence: bool,
        storage: &mut S,
    ) -> Verdict {
        let object = &mut self.in_flight[self.current];
        let placed = object.place(packet, storage);
        if let Err(reason) = placed
            && !is_of_object(reason)
        {
            // Anybody can have sent it: the object ages as without it.
            return Verdict::Dropped(reason);
        }
        object.last_packet = now;
        if std::mem::take(&mut object.stalled) {
            object.turn_began = now;
            if object.file.is_some() {
                self.events.push_back(Event::Resumed { toi: object.toi });
            }
        }
        if !in_sequence {
            self.stats.lost += self.gaps.take(object.toi, Coding::of(&object.oti), packet.body);
        }
        if !object.recovery.is_empty() {
            let before = std::mem::replace(&mut object.recovery_bytes, object.recovery.held_bytes());
            self.in_flight_bytes = self.in_flight_bytes + object.recovery_bytes - before;
        }
        match placed {
            Ok(None) => {}
            Ok(Some(block)) => self.events.push_back(Event::BlockReady { toi: object.toi, block }),
            Err(reason) => return Verdict::Dropped(reason),
        }
        let object = &self.in_flight[self.current];
        if object.received.is_complete() {
            self.complete_current();
        }
        Verdict::Stored
    }

    /// Completes the object at `self.current`, which has all its symbols; reports it if it has a name.
    fn complete_current(&mut self) {
        let object = &self.in_flight[self.current];
        let Some(file) = &object.file else { return };
        if self.is_outdated(file) {
            let (now, toi, oti) = (object.last_packet, object.toi, object.oti);
            if let Some(InFlight { file, buf, .. }) = self.remove(self.current) {
                self.events.push_back(Event::Replaced { toi, file, buf });
            }
            self.outdated(now, toi, &oti);
            return;
        }
        let (toi, length, coding) = (object.toi, object.oti.transfer_length, Coding::of(&object.oti));
        let Some(InFlight { file: Some(file), buf, repaired_symbols, turn_began, last_packet, .. }) =
            self.remove(self.current)
        else {
            return;
        };
        let done = Done::new(length, None, DropReason::Repeat, Some(coding), last_packet);
        self.done.insert(toi, Done { turn_began, ..done });
        self.events.push_back(Event::Complete { file, buf, repaired_symbols });
    }

    fn keep_early(&mut self, now: Instant, toi: Toi, datagram: &[u8]) -> Verdict {
        while self.early_bytes + datagram.len() > MAX_EARLY_BYTES && self.evict_early() {}
        self.early_bytes += datagram.len();
        self.early.push_back((toi, now, datagram.to_vec()));
        Verdict::Early
    }

    /// Drops the early packet that has waited longest for a description, as the least likely to get one.
    fn evict_early(&mut self) -> bool {
        let Some((.., oldest)) = self.early.pop_front() else { return false };
        self.early_bytes -= oldest.len();
        self.stats.early_evicted += 1;
        true
    }

    fn replay_early<S: Storage<Buf = B>>(&mut self, now: Instant, storage: &mut S) {
        for _ in 0..self.early.len() {
            let Some((toi, at, datagram)) = self.early.pop_front() else { break };
            self.early_bytes -= datagram.len();
            if self.table.get(toi).is_none() {
                self.early_bytes += datagram.len();
                self.early.push_back((toi, at, datagram));
            } else if let Ok(packet) = Packet::parse(&datagram) {
                self.object_packet(now, toi, &packet, &datagram, storage);
            }
        }
    }

    fn close_flags(&mut self, packet: &Packet<'_>) {
        if packet.lct.close_object
            && let Some(toi) = packet.lct.toi
            && let Some(&index) = self.index.get(&toi)
            // A block that is being decoded needs no more packets; if decoding fails, the timeout follows.
            && !self.in_flight[index].needs_no_more()
        {
            self.stall(index);
        }
        if packet.lct.close_session && !self.closed {
            self.closed = true;
            for index in 0..self.in_flight.len() {
                self.stall(index);
            }
            self.events.push_back(Event::SessionClosed);
        }
    }

    fn stall(&mut self, index: usize) {
        let object = &mut self.in_flight[index];
        if !object.stalled && !object.received.is_complete() {
            object.stalled = true;
            self.stats.lost += self.gaps.end(object.toi);
            // Without a name it cannot be repaired; the event follows when the object gets one.
            if object.file.is_some() {
                self.events.push_back(Event::Stalled { toi: object.toi });
            }
        }
    }

    /// Processes timers: stalled objects, expired descriptions, objects and packets that never got a description. Call it
    /// about once a second; early or extra calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant, wall: Option<WallTime>) {
        self.expire_descriptions(now, wall);
        if !self.silent && now.since(self.last_heard) >= self.config.silence_timeout {
            self.silent = true;
            self.stats.lost += self.gaps.end_all();
            if !self.closed {
                self.events.push_back(Event::SessionSilent);
            }
        }
        while self.early.front().is_some_and(|(_, at, _)| now.since(*at) >= self.config.unnamed_timeout) {
            self.evict_early();
        }
        let mut index = 0;
        while index < self.in_flight.len() && self.events.len() < MAX_EVENTS {
            let object = &self.in_flight[index];
            if object.file.is_none() && now.since(object.opened) >= MAX_UNNAMED_AGE {
                self.abandon(index, AbandonReason::NeverDescribed);
                continue;
            }
            let silence = now.since(object.last_packet);
            if silence < self.config.reception_timeout {
                index += 1;
                continue;
            }
            if let Some(reason) = self.over(object, silence) {
                self.abandon(index, reason);
            } else {
                self.stall(index);
                index += 1;
            }
        }
    }

    /// Reason to give up an object in flight after this silence, if any.
    fn over(&self, object: &InFlight<B>, silence: Duration) -> Option<AbandonReason> {
        if object.file.is_none() {
            return (silence >= self.config.unnamed_timeout).then_some(AbandonReason::NeverDescribed);
        }
        if silence >= MAX_OBJECT_SILENCE {
            return Some(AbandonReason::Silent);
        }
        let is_expired = self.table.get(object.toi).is_none() && silence >= EXPIRED_GRACE;
        is_expired.then_some(AbandonReason::Expired)
    }

    fn expire_descriptions(&mut self, now: Instant, wall: Option<WallTime>) {
        let Self { table, assembler, .. } = self;
        let expired = table.expire(now, wall, |instance_id| assembler.heard(instance_id));
        self.expired(expired);
        if now >= self.next_done_scan {
            self.next_done_scan = now + DONE_SCAN;
            // Saturates at the origin of time, where nothing can be that old.
            let before = Instant::from_nanos(
                now.as_nanos().saturating_sub(u64::try_from(UNDATED_EXPIRY.as_nanos()).unwrap_or(u64::MAX)),
            );
            self.assembler.expire(before);
            let table = &self.table;
            self.done.expire(before, |toi| table.get(toi).is_some());
            if self.in_flight.is_empty() && self.in_flight.capacity() > 64 {
                self.in_flight.shrink_to_fit();
                self.index.shrink_to_fit();
            }
            if self.early.is_empty() {
                self.early.shrink_to_fit();
            }
            if self.events.is_empty() {
                self.events.shrink_to_fit();
            }
        }
    }

    fn expired(&mut self, files: Vec<Arc<File>>) {
        if !files.is_empty() {
            self.events.push_back(Event::Expired { files });
        }
    }

    /// Places bytes from another source (unicast repair) in an object in flight. Only complete symbols are used; received
    /// bytes are not overwritten. Blocks that can now be decoded are reported as events. Returns the number of new symbols,
    /// or `None` if the object is not in flight.
    pub fn repair<S: Storage<Buf = B>>(
        &mut self,
        toi: Toi,
        offset: u64,
        bytes: &[u8],
        storage: &mut S,
    ) -> Option<u64> {
        let index = *self.index.get(&toi)?;
        let object = &mut self.in_flight[index];
        let end = offset.saturating_add(bytes.len() as u64);
        let mut new = 0;
        let symbols = object.received.symbols_within(offset..end);
        for symbol in symbols.clone() {
            let range = object.partition.byte_range(symbol);
            let source = (range.start - offset) as usize..(range.end - offset) as usize;
            if let Some(source) = bytes.get(source).filter(|_| !object.received.has(symbol)) {
                storage.write(&mut object.buf, range.start, source);
                object.received.set(symbol);
                new += 1;
            }
        }
        object.repaired_symbols += new;
        if object.received.is_complete() {
            self.current = index;
            self.complete_current();
        } else if new > 0 && !object.recovery.is_empty() {
            let blocks =
                [symbols.start, symbols.end - 1].map(|symbol| object.partition.payload_id(symbol).sbn);
            for sbn in blocks[0]..=blocks[1] {
                self.events.extend(object.recoverable(sbn).map(|block| Event::BlockReady { toi, block }));
            }
        }
        Some(new)
    }

    /// The decoding job of a block reported by [`Event::BlockReady`]. `None` if its object is no longer in flight.
    pub fn recovery_job(&self, toi: Toi, block: BlockId) -> Option<RecoveryJob> {
        self.object(toi).filter(|it| it.serial == block.serial)?.recovery_job(block)
    }

    /// Processes the result of a [`RecoveryJob`]: the lost symbols with their offsets, or nothing. Symbols received meanwhile
    /// are not overwritten. False if its object is no longer in flight; another one may have its TOI.
    pub fn recovered<S: Storage<Buf = B>>(
        &mut self,
        toi: Toi,
        block: BlockId,
        symbols: Option<&[(u64, Vec<u8>)]>,
        storage: &mut S,
    ) -> bool {
        let BlockId { serial, sbn } = block;
        let Some(&index) = self.index.get(&toi).filter(|&&at| self.in_flight[at].serial == serial) else {
            return false;
        };
        let object = &mut self.in_flight[index];
        let Some(symbols) = symbols else {
            self.stats.recovery_failed += 1;
            object.recovery.failed(sbn, object.partition.block_symbols(sbn));
            self.events.extend(object.recoverable(sbn).map(|block| Event::BlockReady { toi, block }));
            return true;
        };
        for (offset, bytes) in symbols {
            let symbol = offset / u64::from(object.partition.symbol_length.max(1));
            if symbol >= object.partition.symbols {
                continue;
            }
            let range = object.partition.byte_range(symbol);
            let is_symbol = range.start == *offset && range.end - range.start == bytes.len() as u64;
            if is_symbol && !object.received.has(symbol) {
                storage.write(&mut object.buf, *offset, bytes);
                object.received.set(symbol);
                self.stats.recovered += 1;
            }
        }
        object.recovery.forget(sbn);
        if object.received.is_complete() {
            self.current = index;
            self.complete_current();
        }
        true
    }

    /// Rejects the reported bytes of `toi`: its next pass is received.
    pub fn reject(&mut self, toi: Toi) {
        self.done.remove(toi);
    }

    /// Forgets reported objects for which `holds` is false: they have left the cache and are received again in the next
    /// cycle.
    pub fn forget_unless(&mut self, mut holds: impl FnMut(&Arc<File>) -> bool) {
        let table = &self.table;
        self.done.retain(|toi| table.get(toi).is_none_or(&mut holds));
    }

    /// Forgets complete objects for which `is_replaced` is true: another session has put other bytes in their place. Of several
    /// objects of one name only the one described last counts. Returns their number.
    pub fn forget_replaced(&mut self, mut is_replaced: impl FnMut(&Arc<File>) -> bool) -> usize {
        let Self { table, done, .. } = self;
        let is_done =
            |file: &&Arc<File>| done.get(file.toi).is_some_and(|it| it.reason == DropReason::Repeat);
        let replaced = table.newest().filter(is_done).filter(|file| is_replaced(file));
        let replaced: Vec<Toi> = replaced.map(|file| file.toi).collect();
        for toi in &replaced {
            done.remove(*toi);
        }
        replaced.len()
    }

    /// Marks `toi` as received from another source (read-through, repair of the complete object): its packets are no
    /// longer needed.
    pub fn hold(&mut self, toi: Toi) {
        let (length, coding) = match self.index.get(&toi) {
            Some(&index) => {
                let oti = self.in_flight[index].oti;
                self.remove(index);
                (oti.transfer_length, Some(Coding::of(&oti)))
            }
            None => {
                let Some(file) = self.table.get(toi) else { return };
                let Some(length) = file.on_air_length() else { return };
                (length, file.oti().as_ref().map(Coding::of))
            }
        };
        self.done.insert(toi, Done::new(length, None, DropReason::Repeat, coding, self.last_heard));
    }

    /// The next event, oldest first. New ones arise only in `handle_*`, `repair` and `hold`.
    pub fn poll_event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// The objects under reassembly.
    pub fn in_flight(&self) -> impl Iterator<Item = &InFlight<B>> {
        self.in_flight.iter()
    }

    /// The object under reassembly with this TOI.
    pub fn object(&self, toi: Toi) -> Option<&InFlight<B>> {
        self.index.get(&toi).map(|&index| &self.in_flight[index])
    }

    /// Described objects that are neither in flight nor done.
    pub fn unseen(&self) -> impl Iterator<Item = &Arc<File>> {
        self.table
            .files()
            .filter(|file| !self.index.contains_key(&file.toi) && self.done.get(file.toi).is_none())
    }

    /// Expected start of the next cycle of an object in flight: its last cycle, plus the longest time between two cycles
    /// of held objects. `None` before a cycle was observed, or after that time.
    pub fn next_pass(&self, toi: Toi) -> Option<Instant> {
        let next = self.object(toi)?.turn_began + self.period?;
        (next >= self.last_heard).then_some(next)
    }

    /// The described objects.
    pub const fn table(&self) -> &FdtTable {
        &self.table
    }

    /// Counters.
    pub const fn stats(&self) -> &ReceiverStats {
        &self.stats
    }

    /// Time of the last packet.
    pub const fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Credits the session with the bytes of a verified object, which raises its rank against sessions without any.
    pub const fn brought(&mut self, bytes: u64, is_signed: bool) {
        self.brought.add(bytes, is_signed);
    }

    /// Rank of the session when one must be displaced. After a long silence only placed packets count.
    pub fn worth(&self, now: Instant) -> Worth {
        let is_alive = now.since(self.last_heard) < SPENT_SESSION_SILENCE;
        Worth::new(self.brought, self.stats.stored, is_alive)
    }

    /// Approximate memory of the session: descriptions, early packets, objects in flight as far as they are in memory, records of
    /// complete objects.
    pub fn held_bytes(&self) -> usize {
        self.table.held_bytes()
            + self.early_bytes
            + self.early.len() * EARLY_ENTRY_BYTES
            + self.done.len() * DONE_ENTRY_BYTES
            + self.assembler.held_bytes()
            + self.in_flight_bytes
            + self.empty.len() * size_of::<EmptyObject>()
            + self.gaps.held_bytes()
    }

    /// Whether nothing is described, in flight or kept early: forgetting the session loses nothing.
    pub fn is_spent(&self) -> bool {
        self.table.is_empty() && self.in_flight.is_empty() && self.early.is_empty()
    }

    /// Ends the session: returns the objects in flight, the descriptions of the others, and the counters.
    pub fn close(self) -> (Vec<InFlight<B>>, Vec<Arc<File>>, ReceiverStats) {
        let unseen = self.unseen().map(Arc::clone).collect();
        let mut stats = self.stats;
        let mut gaps = self.gaps;
        stats.lost += gaps.end_all();
        (self.in_flight, unseen, stats)
    }

    fn refused(
        &mut self,
        now: Instant,
        toi: Toi,
        length: u64,
        coding: Option<Coding>,
        refusal: Refusal,
    ) -> DropReason {
        let (until, reason) = match refusal {
            Refusal::Held => (None, DropReason::Repeat),
            Refusal::NotWanted => (None, DropReason::NotWanted),
            Refusal::NoRoom => (Some(now + self.config.refused_retry), DropReason::NoRoom),
        };
        self.done.insert(toi, Done::new(length, until, reason, coding, now));
        reason
    }

    fn remove(&mut self, index: usize) -> Option<InFlight<B>> {
        if index >= self.in_flight.len() {
            return None;
        }
        let object = self.in_flight.swap_remove(index);
        self.stats.lost += self.gaps.end(object.toi);
        self.in_flight_bytes -= object.held_bytes();
        self.index.remove(&object.toi);
        self.unnamed -= usize::from(object.file.is_none());
        if let Some(moved) = self.in_flight.get(index) {
            self.index.insert(moved.toi, index);
        }
        Some(object)
    }
}

/// Whether the OTI of a packet's EXT_FTI contradicts a signed description. An unsigned one is overridden by it (RFC 6726 section 5) unless
/// other packets agree with the description.
fn contradicts_signed(file: &File, on_air: Option<&Oti>) -> bool {
    file.signed_by.is_some() && on_air.is_some_and(|oti| contradicts(file, oti))
}

/// Whether a packet that was dropped for `reason` shows that its object is on the air.
const fn is_of_object(reason: DropReason) -> bool {
    matches!(reason, DropReason::Duplicate | DropReason::RepairSymbol)
}

/// Corrects a description with the `length` from the packets. Some senders write 0 for lengths that they do not know when
/// they write the FDT Instance; the packets take precedence.
fn with_length_on_air(file: Arc<File>, length: u64) -> Arc<File> {
    if length == 0 || file.on_air_length() != Some(0) {
        return file;
    }
    Arc::new(File { content_length: None, transfer_length: None, ..(*file).clone() })
}

#[cfg(test)]
pub(in crate::flute) mod tests;
