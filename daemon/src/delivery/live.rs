//! Objects that are sent while they are made: those of ROUTE, and segments in FLUTE chunks.
//!
//! Their length is known at their end or never, so that they have no symbol map: storage grows with their beginnings
//! ([`ObjectStore::begin`], [`ObjectStore::extend`]), and once complete they are verified and published as any other.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use carousel::alc::Packet;
use carousel::fec::BlockId;
use carousel::flute::{File, InFlight, Joined, Joiner, ReceiverStats, SessionKey, Unfinished, verify};
use carousel::lct::Tsi;
use carousel::limits::{MAX_SESSIONS, SPENT_SESSION_SILENCE};
use carousel::mabr::ChunkName;
use carousel::route::lls::USBD_TYPE;
use carousel::route::{self, Recognizer, RouteSession, RouteStats, SIGNALLING_TSI, STSID_TYPE};
use carousel::time::Instant;

use super::ObjectRef;
use super::lls::LlsTables;
use super::machine::{Change, Decoded, Delivery, Restore, SessionStats, Work};
use super::memory::MemoryTable;
use super::object::State;
use super::reasons::{GoneReason, RejectReason};
use super::storage::{Lookup, ObjectStore};

/// Minimum silence after which a segment whose next chunk has not begun counts as stalled: chunks come every 0.1 to 1 s.
const CHUNK_SILENCE: Duration = Duration::from_secs(2);

/// Source and destination: a session of ROUTE with all its channels.
pub(super) type RouteKey = (IpAddr, SocketAddr);

/// ROUTE sessions that are described by signalling outside their own group, by group and port.
pub type Described = HashMap<SocketAddr, Vec<RouteSession>>;

/// The receivers of live objects, and their storage.
#[derive(Debug)]
pub(super) struct Live<B> {
    pub(super) routes: MemoryTable<RouteKey, route::Receiver>,
    recognizer: Recognizer,
    pub(super) joiners: MemoryTable<SessionKey, Joiner>,
    /// Objects that have begun: bounded by the objects that the receivers have open.
    pub(super) growing: HashMap<ObjectRef, B>,
    /// Receivers that may have grown in this batch.
    touched_routes: Vec<RouteKey>,
    touched_joiners: Vec<SessionKey>,
    /// Time of the last of them.
    touched_at: Instant,
    /// Documents of signalling packages: each is an object of its own.
    pub(super) documents: u64,
    /// Tables of low-level signalling.
    pub(super) lls: LlsTables,
    /// Descriptions of the channels of groups that have no signalling of their own.
    described: Arc<Described>,
    /// Counters of ended sessions.
    ended: RouteStats,
}

impl<B> Default for Live<B> {
    fn default() -> Self {
        Self {
            routes: MemoryTable::default(),
            recognizer: Recognizer::default(),
            joiners: MemoryTable::default(),
            growing: HashMap::new(),
            touched_routes: Vec::new(),
            touched_joiners: Vec::new(),
            touched_at: Instant::default(),
            documents: 0,
            lls: LlsTables::default(),
            described: Arc::default(),
            ended: RouteStats::default(),
        }
    }
}

/// Update for the readers of a growing segment: whether its next bytes have stalled.
struct GrowingUpdate<'a, B> {
    segment: Unfinished<'a>,
    buf: &'a B,
    /// Whether the next chunk has stalled; `None`: it has not begun.
    next: Option<bool>,
    has_stalled: bool,
}

impl<B> GrowingUpdate<'_, B> {
    fn name(&self) -> &str {
        &self.segment.file.content_location
    }
}

const fn session_of((source, destination): RouteKey, tsi: u64) -> SessionKey {
    SessionKey { source, destination, tsi: Tsi(tsi) }
}

const fn route_of(session: SessionKey) -> RouteKey {
    (session.source, session.destination)
}

/// Keys of all channels of a session of ROUTE.
pub(super) const fn channels_of(at: RouteKey) -> RangeInclusive<SessionKey> {
    session_of(at, 0)..=session_of(at, u64::MAX)
}

impl<B> Live<B> {
    /// Bytes that the receivers of ROUTE and the joiners hold.
    #[inline]
    pub(super) const fn held_bytes(&self) -> usize {
        self.routes.held_bytes() + self.joiners.held_bytes()
    }

    /// Whether a packet is one of ROUTE: by its source packet indicator, or because an S-TSID says that its channel carries
    /// repair symbols.
    #[inline]
    pub(super) fn is_route(&mut self, key: &SessionKey, packet: &Packet<'_>) -> bool {
        if packet.lct.psi & 2 != 0 {
            return self.recognizer.is_route(key.source, key.destination, packet);
        }
        let receiver = self.routes.get(&(key.source, key.destination));
        receiver.is_some_and(|it| packet.fdt.is_none() && it.is_repair_channel(key.tsi.0))
    }

    pub(super) fn totals(&self) -> RouteStats {
        let mut sum = self.ended.clone();
        for (_, receiver) in self.routes.iter() {
            sum += receiver.stats();
        }
        sum
    }

    /// The channels of ROUTE as they are now.
    pub(super) fn channels(&self) -> impl Iterator<Item = (SessionKey, SessionStats)> {
        self.routes.iter().flat_map(|(&at, receiver)| {
            receiver.channels().map(move |channel| {
                let (packets, bytes) = (channel.packets, channel.bytes);
                let receiver = ReceiverStats { packets, bytes, stored: packets, ..ReceiverStats::default() };
                let in_flight = channel.open;
                (
                    session_of(at, channel.tsi),
                    SessionStats { receiver, in_flight, described: 0, route: Some(Box::new(channel)) },
                )
            })
        })
    }
}

impl<S: ObjectStore> Delivery<S> {
    /// Takes a packet of ROUTE.
    pub(super) fn handle_route(&mut self, now: Instant, key: SessionKey, packet: &Packet<'_>, bytes: usize) {
        let at = (key.source, key.destination);
        if !self.live.routes.contains_key(&at) && self.live.routes.len() >= MAX_SESSIONS {
            let least = self.live.routes.iter().min_by_key(|(_, it)| (it.worth(now), it.last_heard()));
            if let Some(least) = least.map(|(at, _)| *at) {
                self.counters.sessions_displaced += 1;
                self.end_route(now, least);
            }
        }
        let described = &self.live.described;
        let new = || {
            let mut receiver = route::Receiver::new(route::ReceiverConfig::default(), at.1);
            for session in described.get(&at.1).into_iter().flatten() {
                receiver.describe(session.channels.clone());
            }
            receiver
        };
        self.live.routes.open(at, new, |it| it.handle_packet(now, packet, bytes));
        if self.live.touched_routes.last() != Some(&at) {
            self.live.touched_routes.push(at);
        }
        self.route_events(now, at);
    }

    pub(super) fn route_events(&mut self, now: Instant, at: RouteKey) {
        while let Some(event) = self.live.routes.with(&at, route::Receiver::poll_event).flatten() {
            self.route_event(now, at, event);
        }
    }

    #[cold]
    fn route_event(&mut self, now: Instant, at: RouteKey, event: route::Event) {
        let object = |tsi, toi| ObjectRef { session: session_of(at, tsi), toi };
        match event {
            // The segment begins when the chunk is joined.
            route::Event::Begun { file, .. } if Joiner::is_chunk(&file) => {}
            route::Event::Begun { tsi, file } => self.live_begun(now, object(tsi, file.toi), file),
            route::Event::Complete { tsi, file, bytes, .. } if Joiner::is_chunk(&file) => {
                self.join(now, session_of(at, tsi), &file, &bytes);
            }
            route::Event::Complete { tsi, file, bytes, .. } => {
                self.live_complete(now, object(tsi, file.toi), file, &bytes);
            }
            route::Event::Document { file, bytes } => {
                let kind = file.content_type.as_deref();
                let (is_stsid, is_usbd) = (kind == Some(STSID_TYPE), kind == Some(USBD_TYPE));
                if !is_stsid && !file.content_location.is_empty() {
                    let number = self.live.next_document();
                    let file = Arc::new(File { toi: number, ..(*file).clone() });
                    self.live_complete(now, object(SIGNALLING_TSI, number), file, &bytes);
                }
                if is_stsid || is_usbd {
                    self.pass_on(now, session_of(at, SIGNALLING_TSI), (*file).clone(), bytes);
                }
            }
            route::Event::BlockReady { tsi, toi, block } => {
                self.route_block_ready(object(tsi, toi), block);
            }
            route::Event::Failed { tsi, toi, why, .. } => {
                self.live_failed(object(tsi, toi), GoneReason::of_route(why));
            }
            route::Event::ChannelRemoved { tsi } => {
                let session = session_of(at, tsi);
                if self.sessions.get(&session).is_none() {
                    self.end_joining(now, session);
                }
            }
            route::Event::SessionClosed => {
                let has_brought = |it: &mut route::Receiver| it.stats().stored > 0 || it.stats().repair > 0;
                if self.live.routes.with(&at, has_brought) == Some(true) {
                    self.changes.push_back(Change::SessionOver(session_of(at, SIGNALLING_TSI), true));
                }
            }
            // Sessions at other addresses must be configured; packages are split into documents by now.
            route::Event::Elsewhere(_) | route::Event::Package { .. } => {}
        }
    }

    /// Replaces the descriptions of channels whose groups have no signalling of their own.
    pub fn describe_routes(&mut self, now: Instant, described: Arc<Described>) {
        let before = std::mem::replace(&mut self.live.described, Arc::clone(&described));
        let is_new = |at: &SocketAddr| before.get(at) != described.get(at);
        for at in self.live.routes.keys().into_iter().filter(|at| is_new(&at.1)) {
            self.live.routes.with(&at, |receiver| {
                for session in described.get(&at.1).into_iter().flatten() {
                    receiver.describe(session.channels.clone());
                }
            });
            self.route_events(now, at);
        }
    }

    fn route_block_ready(&mut self, object: ObjectRef, block: BlockId) {
        let (at, tsi, toi) = (route_of(object.session), object.session.tsi.0, object.toi);
        let receiver = self.live.routes.get(&at);
        // A job copies the symbols of its block: room for them is needed first.
        let bytes = receiver.and_then(|it| it.repair_job_bytes(tsi, toi, block));
        let memory = receiver.and_then(|it| it.repair_memory_bytes(tsi, toi, block));
        if memory.is_some_and(|bytes| bytes > self.options.block_bytes) {
            self.counters.blocks_too_large += 1;
            self.live.routes.with(&at, |it| it.repaired(tsi, toi, block, None));
            return;
        }
        if bytes.is_some_and(|bytes| !self.work.has_room(bytes)) {
            self.counters.blocks_refused += 1;
            self.live.routes.with(&at, |it| it.postpone_repair(tsi, toi, block));
            return;
        }
        match receiver.and_then(|it| it.repair_job(tsi, toi, block)) {
            Some(job) => {
                let bytes = job.held_bytes();
                self.work.push(Work::Restore(Restore { object, job }), bytes);
            }
            None => {
                self.live.routes.with(&at, |it| it.repaired(tsi, toi, block, None));
            }
        }
    }

    /// Handles the result of decoding a source block of a ROUTE object. It is dropped if the object has ended.
    pub fn handle_restored(&mut self, now: Instant, object: ObjectRef, block: BlockId, decoded: &Decoded) {
        let at = route_of(object.session);
        let repair = |it: &mut route::Receiver| {
            it.repaired(object.session.tsi.0, object.toi, block, decoded.as_deref())
        };
        if self.live.routes.with(&at, repair) == Some(true) {
            self.route_events(now, at);
        } else {
            self.counters.blocks_late += 1;
        }
    }

    /// Handles a complete FLUTE chunk, which is a part of a segment and not an object for players.
    pub(super) fn chunk(&mut self, now: Instant, object: ObjectRef, file: &Arc<File>, buf: S::Buf) {
        self.store.flush_object(&buf);
        self.leave_held(object);
        let bytes = self.store.chunk(buf);
        let Some(bytes) = bytes.filter(|bytes| verify(file, bytes).is_ok()) else {
            self.counters.rejected[RejectReason::Verify as usize] += 1;
            self.reject_chunk(object);
            return;
        };
        if let Some(receiver) = self.sessions.get_mut(&object.session).filter(|_| file.signed_by.is_some()) {
            receiver.brought(bytes.len() as u64, true);
        }
        self.join(now, object.session, file, &bytes);
    }

    fn join(&mut self, now: Instant, session: SessionKey, file: &File, bytes: &[u8]) {
        self.live.joiners.open(session, Joiner::default, |it| it.chunk(now, file, bytes));
        self.touch_joined(now, session);
        self.joined(now, session);
    }

    /// Marks a session whose joined segments are to be examined at the end of the batch.
    pub(super) fn touch_joined(&mut self, now: Instant, session: SessionKey) {
        let live = &mut self.live;
        live.touched_at = now;
        // Other duplicates are removed at the end of the batch.
        if live.touched_joiners.last() != Some(&session) && live.joiners.contains_key(&session) {
            live.touched_joiners.push(session);
        }
    }

    /// Chunks in flight of the segment that is joined as `object`.
    fn chunks_of(&self, object: ObjectRef) -> impl Iterator<Item = (ChunkName<'_>, &InFlight<S::Buf>)> {
        let joiner = self.live.joiners.get(&object.session);
        let segment =
            joiner.and_then(|it| it.unfinished(Instant::default()).find(|it| it.file.toi == object.toi));
        let receiver = segment.and_then(|_| self.sessions.get(&object.session));
        receiver.into_iter().flat_map(carousel::flute::Receiver::in_flight).filter_map(move |it| {
            let name = ChunkName::split(&it.file()?.content_location)?;
            (Some(name.object) == segment.map(|it| &*it.file.content_location)).then_some((name, it))
        })
    }

    /// Reports for each segment joined from chunks of a session whether its next chunk has stalled.
    fn report_joined(&self, now: Instant, session: SessionKey) {
        let Some(joiner) = self.live.joiners.get(&session) else { return };
        let growing = joiner.unfinished(now).filter_map(|segment| {
            let buf = self.live.growing.get(&ObjectRef { session, toi: segment.file.toi })?;
            Some(GrowingUpdate { segment, buf, next: None, has_stalled: false })
        });
        let mut updates: Vec<GrowingUpdate<'_, S::Buf>> = growing.collect();
        if updates.is_empty() {
            return;
        }
        // There may be many more chunks in flight than segments: one pass over the chunks.
        updates.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let in_flight =
            self.sessions.get(&session).into_iter().flat_map(carousel::flute::Receiver::in_flight);
        for chunk in in_flight {
            let name = chunk.file().and_then(|file| ChunkName::split(&file.content_location));
            if let Some(name) = name
                && let Ok(at) = updates.binary_search_by(|it| it.name().cmp(name.object))
                && let Some(it) = updates.get_mut(at)
            {
                let is_stalled = self.is_stalled(session, chunk);
                it.has_stalled |= is_stalled;
                if name.offset == it.segment.end {
                    it.next = Some(is_stalled);
                }
            }
        }
        for GrowingUpdate { segment, buf, next, has_stalled } in updates {
            let is_silent = now.since(segment.heard) >= self.options.reception_timeout.max(CHUNK_SILENCE);
            // A segment that has ended is not lost: lasting silence completes it.
            let is_lost = segment.is_passed || (is_silent && !segment.is_over);
            let is_stalled = next.unwrap_or(is_lost || has_stalled);
            self.store.set_stalled(buf, is_stalled.then_some(now));
        }
    }

    /// Reports for each growing object of a ROUTE session whether its next packets are late.
    fn report_growing(&self, now: Instant, at: RouteKey) {
        let Some(receiver) = self.live.routes.get(&at) else { return };
        for it in receiver.growing(now) {
            let object = ObjectRef { session: session_of(at, it.tsi), toi: it.toi };
            if let Some(buf) = self.live.growing.get(&object) {
                self.store.set_overtaken(buf, it.has_gap.then_some(now));
                self.store.set_stalled(buf, it.is_late.then_some(now));
            }
        }
    }

    /// Handles a client's request for a growing object: stalled chunks of it are repaired at once. False: the object is not
    /// growing.
    pub(super) fn request_growing(&mut self, now: Instant, object: ObjectRef) -> bool {
        let Some(buf) = self.live.growing.get(&object) else { return false };
        self.store.request_seen(buf);
        let stalled = self.chunks_of(object).filter(|(_, it)| it.is_stalled());
        let stalled: Vec<ObjectRef> = stalled.map(|(_, it)| ObjectRef { toi: it.toi(), ..object }).collect();
        for chunk in stalled {
            self.handle_request(now, chunk);
        }
        true
    }

    /// Names objects of ROUTE that an FDT Instance of FLUTE in the same session describes.
    pub(super) fn name_by_flute(&mut self, now: Instant, session: SessionKey, files: &[Arc<File>]) {
        let at = (session.source, session.destination);
        if self.live.routes.with(&at, |it| it.name_by_flute(session.tsi.0, files)).is_some() {
            self.route_events(now, at);
        }
    }

    pub(super) fn joined(&mut self, now: Instant, session: SessionKey) {
        while let Some(event) = self.live.joiners.with(&session, Joiner::poll_event).flatten() {
            let object = |file: &File| ObjectRef { session, toi: file.toi };
            match event {
                Joined::Begun(file) => self.live_begun(now, object(&file), file),
                Joined::Complete { file, bytes, .. } => {
                    self.live_complete(now, object(&file), file, &bytes);
                }
                Joined::Failed(file, why) => self.live_failed(object(&file), GoneReason::of_joining(why)),
            }
        }
    }

    /// Opens storage for a named object of unknown length.
    fn live_begun(&mut self, now: Instant, object: ObjectRef, file: Arc<File>) {
        let before = self.live.growing.remove(&object);
        if self.objects.get(&object).is_some() {
            self.leave(object, GoneReason::Replaced, before);
        }
        self.enter(now, object, Some(Arc::clone(&file)), State::Arriving);
        if matches!(self.store.look_up(&object.session, &file), Lookup::Unusable | Lookup::Outranked) {
            self.changes.push_back(Change::Unusable(object, Arc::clone(&file)));
            self.leave(object, GoneReason::NotWanted, None);
            return;
        }
        match self.store.begin(&object.session, &file) {
            Some(buf) => {
                self.live.growing.insert(object, buf);
            }
            None => self.leave(object, GoneReason::NoRoom, None),
        }
    }

    fn live_complete(&mut self, now: Instant, object: ObjectRef, file: Arc<File>, bytes: &[u8]) {
        if !self.live.growing.contains_key(&object) {
            self.live_begun(now, object, Arc::clone(&file));
        }
        let Some(mut buf) = self.live.growing.remove(&object) else { return };
        self.store.extend(&mut buf, 0, bytes);
        // From now on its readers wait for verification.
        self.store.set_stalled(&buf, None);
        self.store.set_overtaken(&buf, None);
        self.complete(now, object, file, buf, 0);
    }

    fn live_failed(&mut self, object: ObjectRef, why: GoneReason) {
        let buf = self.live.growing.remove(&object);
        self.leave(object, why, buf);
    }

    /// Stores and reports what was received for growing objects in this batch.
    pub(super) fn grow_live(&mut self) {
        let mut touched_routes = std::mem::take(&mut self.live.touched_routes);
        touched_routes.sort_unstable();
        touched_routes.dedup();
        let mut touched_joiners = std::mem::take(&mut self.live.touched_joiners);
        touched_joiners.sort_unstable();
        touched_joiners.dedup();
        let Self { live, store, .. } = self;
        let Live { routes, joiners, growing, touched_at, .. } = live;
        let touched_at = *touched_at;
        for &at in &touched_routes {
            routes.with(&at, |receiver| {
                receiver.grown(|tsi, file, offset, bytes| {
                    let object = ObjectRef { session: session_of(at, tsi), toi: file.toi };
                    if let Some(buf) = growing.get_mut(&object) {
                        store.extend(buf, offset, bytes);
                    }
                });
            });
        }
        for &session in &touched_joiners {
            joiners.with(&session, |joiner| {
                joiner.grown(|file, offset, bytes| {
                    if let Some(buf) = growing.get_mut(&ObjectRef { session, toi: file.toi }) {
                        store.extend(buf, offset, bytes);
                    }
                });
            });
        }
        for &at in &touched_routes {
            if let Some(receiver) = self.live.routes.get(&at) {
                self.report_growing(receiver.last_heard(), at);
            }
        }
        for &session in &touched_joiners {
            self.report_joined(touched_at, session);
        }
        // Reuse the buffers.
        self.live.touched_routes = touched_routes;
        self.live.touched_joiners = touched_joiners;
        self.live.touched_routes.clear();
        self.live.touched_joiners.clear();
    }

    pub(super) fn live_timeout(&mut self, now: Instant) {
        for at in self.live.routes.keys() {
            let heard = self.live.routes.with(&at, |receiver| {
                receiver.handle_timeout(now);
                receiver.last_heard()
            });
            let is_spent = heard.is_some_and(|heard| now.since(heard) >= SPENT_SESSION_SILENCE);
            self.route_events(now, at);
            self.report_growing(now, at);
            if is_spent {
                self.counters.sessions_expired += 1;
                self.end_route(now, at);
            }
        }
        for session in self.live.joiners.keys() {
            self.live.joiners.with(&session, |it| it.handle_timeout(now));
            self.joined(now, session);
            self.report_joined(now, session);
        }
    }

    pub(super) fn end_route(&mut self, now: Instant, at: RouteKey) {
        self.live.routes.with(&at, route::Receiver::close);
        self.route_events(now, at);
        if let Some(receiver) = self.live.routes.remove(&at) {
            self.live.ended += receiver.stats();
        }
        // A session of FLUTE with the same key still needs its joiner, and ends it itself.
        let over: Vec<SessionKey> = self.joined_of(at).map(|(key, _)| *key).collect();
        for session in over {
            self.end_joining(now, session);
        }
    }

    /// Ends the segments that are joined from the chunks of a session.
    pub(super) fn end_joining(&mut self, now: Instant, session: SessionKey) {
        self.live.joiners.with(&session, Joiner::close);
        self.joined(now, session);
        self.live.joiners.remove(&session);
    }

    /// Ends the sessions of ROUTE for which `keep` is false.
    pub(super) fn close_routes(&mut self, now: Instant, mut keep: impl FnMut(&SessionKey) -> bool) {
        for at in self.live.routes.keys() {
            if !keep(&session_of(at, SIGNALLING_TSI)) {
                self.end_route(now, at);
            }
        }
    }

    /// Handles the end of all sessions: live objects without an end marker are completed if the evidence suffices.
    pub fn handle_end(&mut self, now: Instant) {
        for at in self.live.routes.keys() {
            self.live.routes.with(&at, route::Receiver::close);
            self.route_events(now, at);
        }
        // The last objects of a ROUTE channel may be chunks.
        for session in self.live.joiners.keys() {
            self.end_joining(now, session);
        }
    }
}
