//! Storage that delivery borrows: files of the store for objects, memory for signalling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use carousel::digest::Digest;
use carousel::flute::{File, Joiner, OpenRequest, Refusal, SessionKey, Storage};
use carousel::name::ObjectKey;
use carousel::nip::Document;
use carousel::time::Instant;
use carousel::trust::Mode;

use super::ReceiveContext;
use super::finishing::{Checkpoint, live_placement, placement};
use super::write_behind::WriteBehind;
use crate::clock;
use crate::delivery::{CarouselSource, FailReason, Flight, Flights, Lookup, ObjectRef, ObjectStore, Outcome};
use crate::signalling::is_gateway_configuration;
use crate::store::{Arrival, Grown, Partial, Store};

/// Whether an object is signalling, which controls reception and is not for players. It is never stored on disk, where
/// every change would be a write.
pub(super) fn is_signalling(file: &File) -> bool {
    is_gateway_configuration(&file.content_location, file.content_type.as_deref())
        || Document::from_name(&file.content_location).is_some()
        || file.content_location == carousel::command::URI
        || file.content_location == carousel::firmware::URI
}

/// Destination of the symbols of one object.
#[derive(Debug)]
pub(super) enum ObjectSpace {
    /// Signalling, and chunks of segments.
    Memory(Vec<u8>),
    /// Other objects of known length.
    File(FileSpace),
    /// A growing object.
    Live(LiveSpace),
}

/// The flight of an object for players. If dropped with a flight, the receiver has given the object up.
#[derive(Debug)]
struct FlightGuard {
    /// `None`: the object has no name yet, or its flight has ended.
    flight: Option<Arc<Flight>>,
    flights: Arc<Flights>,
}

impl FlightGuard {
    fn end(&mut self, why: FailReason) {
        if let Some(flight) = self.flight.take() {
            self.flights.end(&flight, Outcome::Failed(why));
        }
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.end(FailReason::Replaced);
    }
}

/// Storage of unknown length.
#[derive(Debug)]
pub(super) struct LiveSpace {
    guard: FlightGuard,
    partial: Arc<Partial>,
    written: u64,
}

impl LiveSpace {
    /// The partial and the flight, after the last write.
    pub(super) fn into_parts(mut self) -> (Arc<Partial>, Option<Arc<Flight>>) {
        (self.partial, self.guard.flight.take())
    }

    /// Appends bytes at `offset`; those already present are skipped.
    fn extend(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.written.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(new) = bytes.get(known..).filter(|new| !new.is_empty() && offset <= self.written) else {
            return;
        };
        let end = self.written + new.len() as u64;
        let is_kept = self.partial.grow(self.written, end) == Grown::Kept
            && self.partial.write_at(self.written, new).is_ok();
        if !is_kept {
            self.guard.end(FailReason::Store);
            return;
        }
        self.written = end;
        if let Some(flight) = &self.guard.flight {
            flight.advance(end);
        }
    }
}

/// A file of the store.
#[derive(Debug)]
pub(super) struct FileSpace {
    guard: FlightGuard,
    partial: Arc<Partial>,
    received: Arc<carousel::fec::SymbolMap>,
    /// Symbols that had arrived at the last checkpoint.
    checkpointed: AtomicU64,
}

impl FileSpace {
    /// Offset of slot number `slot`, for symbols of `symbol_length` bytes.
    pub(super) fn slot_offset(&self, slot: u32, symbol_length: u64) -> u64 {
        self.received.length().saturating_add(u64::from(slot).saturating_mul(symbol_length))
    }

    /// A checkpoint to write, if the object is resumable and more has arrived. All received bytes must be in the file.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let received = self.received.received();
        if !self.partial.is_resumable() || self.checkpointed.swap(received, Ordering::Relaxed) == received {
            return None;
        }
        let (partial, received) = (Arc::clone(&self.partial), Arc::clone(&self.received));
        let words = received.words();
        Some(Checkpoint { partial, received, words })
    }

    /// The partial and the flight, after the last write.
    pub(super) fn into_parts(mut self) -> (Arc<Partial>, Option<Arc<Flight>>) {
        (self.partial, self.guard.flight.take())
    }
}

/// The daemon's cache as storage of delivery.
#[derive(Debug)]
pub(super) struct CacheStorage {
    pub(super) context: ReceiveContext,
    pub(super) writes: WriteBehind,
}

/// Reader of an object's symbols for decoding.
#[derive(Debug)]
pub(super) struct SymbolReader {
    pub(super) partial: Arc<Partial>,
    /// Transfer length, after which the slots of repair symbols begin.
    pub(super) length: u64,
}

impl ObjectStore for CacheStorage {
    type Buf = ObjectSpace;
    type SessionStorage<'a> = SessionStorage<'a>;
    type Reader = SymbolReader;
    type Checkpoint = Checkpoint;

    #[inline]
    fn session_storage(&mut self, session: SessionKey) -> SessionStorage<'_> {
        SessionStorage { context: &self.context, session, writes: &mut self.writes }
    }

    fn begin(&mut self, session: &SessionKey, file: &Arc<File>) -> Option<ObjectSpace> {
        let ReceiveContext { store, flights, names, .. } = &self.context;
        let key = names.key_of(session, &file.content_location).ok()?;
        let placement = live_placement(&self.context, Some(&key), file);
        let partial = Arc::new(store.create_growing(placement, true).ok()?);
        let object = ObjectRef { session: *session, toi: file.toi };
        let flight = Flight::of_growing(key, file.content_type.clone(), object, Arc::clone(&partial));
        let flight = Arc::new(flight);
        flights.replace(Arc::clone(&flight))?;
        let guard = FlightGuard { flight: Some(flight), flights: Arc::clone(flights) };
        Some(ObjectSpace::Live(LiveSpace { guard, partial, written: 0 }))
    }

    fn extend(&mut self, buf: &mut ObjectSpace, offset: u64, bytes: &[u8]) {
        if let ObjectSpace::Live(space) = buf {
            space.extend(offset, bytes);
        }
    }

    fn chunk(&mut self, buf: ObjectSpace) -> Option<Vec<u8>> {
        match buf {
            ObjectSpace::Memory(bytes) => Some(bytes),
            // It was opened before it had a name.
            ObjectSpace::File(space) => {
                let mut bytes = vec![0; usize::try_from(space.received.length()).ok()?];
                space.partial.read_at(0, &mut bytes).ok()?;
                Some(bytes)
            }
            ObjectSpace::Live(_) => None,
        }
    }

    fn document(&mut self, bytes: Vec<u8>) -> Option<ObjectSpace> {
        Some(ObjectSpace::Memory(bytes))
    }

    fn memory_bytes(&self, buf: &ObjectSpace) -> usize {
        buf.memory_bytes()
    }

    fn look_up(&self, session: &SessionKey, file: &File) -> Lookup {
        // A chunk has the name of its segment but is not the segment.
        if is_signalling(file) || Joiner::is_chunk(file) {
            return Lookup::Signalling;
        }
        match self.context.names.key_of(session, &file.content_location) {
            Ok(key) if holds(&self.context.store, key.as_str(), file) => {
                self.context.store.offered(key.as_str(), clock::steady());
                Lookup::Held
            }
            Ok(key) if is_outranked(&self.context, key.as_str(), file) => Lookup::Outranked,
            Ok(_) => Lookup::Missing,
            Err(_) => Lookup::Unusable,
        }
    }

    fn still_holds(&self, session: &SessionKey, file: &File) -> bool {
        is_signalling(file)
            || Joiner::is_chunk(file)
            || self
                .context
                .names
                .key_of(session, &file.content_location)
                .is_ok_and(|key| self.context.store.contains(key.as_str()))
    }

    fn holds_other(&self, session: &SessionKey, file: &File) -> bool {
        if is_signalling(file) || Joiner::is_chunk(file) {
            return false;
        }
        let ReceiveContext { store, names, .. } = &self.context;
        let key = names.key_of(session, &file.content_location).ok();
        key.is_some_and(|key| {
            store.is_carried(key.as_str())
                && !holds(store, key.as_str(), file)
                && !is_outranked(&self.context, key.as_str(), file)
        })
    }

    fn flush(&mut self) {
        self.writes.flush();
    }

    fn flush_object(&mut self, buf: &ObjectSpace) {
        if let ObjectSpace::File(space) = buf {
            self.writes.flush_one(&space.partial);
        }
    }

    fn reader(&self, buf: &ObjectSpace) -> Option<SymbolReader> {
        let ObjectSpace::File(space) = buf else { return None };
        Some(SymbolReader { partial: Arc::clone(&space.partial), length: space.received.length() })
    }

    fn checkpoint(&self, buf: &ObjectSpace) -> Option<Checkpoint> {
        let ObjectSpace::File(space) = buf else { return None };
        space.checkpoint()
    }

    fn is_lost(&self, buf: &ObjectSpace) -> bool {
        matches!(buf, ObjectSpace::File(space) if space.partial.is_lost())
    }

    fn progress(&self, buf: &ObjectSpace) {
        if let Some(flight) = buf.flight() {
            flight.progress();
        }
    }

    fn expect(&self, buf: &ObjectSpace, at: Option<Instant>) {
        if let Some(flight) = buf.flight() {
            flight.set_next_pass(at);
        }
    }

    fn set_stalled(&self, buf: &ObjectSpace, since: Option<Instant>) {
        if let Some(flight) = buf.flight() {
            flight.set_stalled(since);
            // What grows has nothing in reserve.
            if since.is_some() && matches!(buf, ObjectSpace::File(_)) {
                self.context.flights.stalled(flight);
            }
        }
    }

    fn set_overtaken(&self, buf: &ObjectSpace, since: Option<Instant>) {
        if let Some(flight) = buf.flight() {
            flight.set_overtaken(since);
        }
    }

    fn request_seen(&self, buf: &ObjectSpace) {
        if let Some(flight) = buf.flight() {
            flight.request_seen();
        }
    }
}

impl ObjectSpace {
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.capacity(),
            Self::File(_) | Self::Live(_) => 0,
        }
    }

    fn flight(&self) -> Option<&Arc<Flight>> {
        match self {
            Self::File(FileSpace { guard, .. }) | Self::Live(LiveSpace { guard, .. }) => {
                guard.flight.as_ref()
            }
            Self::Memory(_) => None,
        }
    }

    /// Ends the flight of an object that was given up.
    pub(super) fn give_up(&mut self, reason: FailReason) {
        match self {
            Self::File(FileSpace { guard, .. }) | Self::Live(LiveSpace { guard, .. }) => guard.end(reason),
            Self::Memory(_) => {}
        }
    }
}

#[cfg(test)]
impl ObjectSpace {
    /// Space of an object that no player sees.
    pub(super) fn without_flight(context: &ReceiveContext, partial: Partial) -> Self {
        let guard = FlightGuard { flight: None, flights: Arc::clone(&context.flights) };
        Self::Live(LiveSpace { guard, partial: Arc::new(partial), written: 0 })
    }
}

/// Whether the cache has this version of the object already.
fn holds(store: &Store, key: &str, file: &File) -> bool {
    let (digest, length) = (file.object_digest(), file.object_length());
    let version = file.version();
    // Without a digest, compare length and TOI.
    store.holds(key, digest, length.unwrap_or(0), version)
}

/// Whether a signed object of this name is held or in flight, and this one is not signed. False where signatures are not
/// checked.
pub(super) fn is_outranked(context: &ReceiveContext, key: &str, file: &File) -> bool {
    let ReceiveContext { store, flights, trust, .. } = context;
    if file.signed_by.is_some() || trust.mode_of("") == Mode::Off {
        return false;
    }
    let is_signed = |it: &Arc<Flight>| it.carried().is_some_and(|it| it.file.signed_by.is_some());
    store.is_signed(key) || flights.get(key).is_some_and(|flight| is_signed(&flight))
}

/// Lends storage for the objects of one session.
#[derive(Debug)]
pub(super) struct SessionStorage<'a> {
    context: &'a ReceiveContext,
    session: SessionKey,
    writes: &'a mut WriteBehind,
}

impl SessionStorage<'_> {
    /// The key of an object that the cache does not have yet.
    fn key_of(&self, file: &File) -> Result<ObjectKey, Refusal> {
        let ReceiveContext { store, names, .. } = self.context;
        let key = names.key_of(&self.session, &file.content_location).map_err(|_| Refusal::NotWanted)?;
        match holds(store, key.as_str(), file) {
            true => Err(Refusal::Held),
            false if is_outranked(self.context, key.as_str(), file) => Err(Refusal::NotWanted),
            false => Ok(key),
        }
    }

    fn flight_of(
        &self,
        key: ObjectKey,
        file: &Arc<File>,
        space: &FileSpace,
        is_proven: bool,
    ) -> Result<Arc<Flight>, Refusal> {
        let other = self.context.flights.get(key.as_str()).filter(|flight| flight.symbols().is_none());
        let goes_before = |flight: &Flight| match flight.is_carried() {
            // A stalled flight: its sender has restarted in the middle of it.
            true => !flight.has_stalled(),
            false => flight.goes_before_carousel(),
        };
        if other.is_some_and(|flight| goes_before(&flight)) {
            // It will soon be held. A slow origin gives way at the next offer, after `refused_retry`.
            return Err(Refusal::NoRoom);
        }
        let object = ObjectRef { session: self.session, toi: file.toi };
        let carried = CarouselSource { object, file: Arc::clone(file) };
        let (partial, received) = (Arc::clone(&space.partial), Arc::clone(&space.received));
        let flight = Arc::new(Flight::of_symbols(key, carried, partial, received).proven(is_proven));
        self.context.flights.offer(Arc::clone(&flight)).ok_or(Refusal::NoRoom)?;
        Ok(flight)
    }
}

/// Identity of an object across runs: name, digest, length and symbols. `None` if it has no digest.
fn identity(key: &ObjectKey, file: &File, request: &OpenRequest<'_>) -> Option<Digest> {
    let digest = file
        .content_digest
        .map(|digest| digest.0.to_vec())
        .or_else(|| file.content_md5.map(|md5| md5.to_vec()))?;
    let symbol_length = request.received.symbol_length();
    let mut text = key.as_str().as_bytes().to_vec();
    text.push(0);
    text.extend_from_slice(&digest);
    text.extend_from_slice(&request.length.to_le_bytes());
    text.extend_from_slice(&symbol_length.to_le_bytes());
    Some(Digest::of(&text))
}

impl Storage for SessionStorage<'_> {
    type Buf = ObjectSpace;

    fn open(&mut self, request: &OpenRequest<'_>) -> Result<ObjectSpace, Refusal> {
        // A chunk with repair symbols needs room for them behind its bytes.
        let protected_chunk =
            request.file.filter(|file| Joiner::is_chunk(file) && file.oti.encoding_id != Some(0));
        let is_ours = |file: &Arc<File>| is_signalling(file) || Joiner::is_chunk(file);
        if protected_chunk.is_none() && request.file.is_some_and(is_ours) {
            let length = usize::try_from(request.length).unwrap_or(usize::MAX);
            return if length <= self.context.memory.document_bytes {
                Ok(ObjectSpace::Memory(vec![0; length]))
            } else {
                Err(Refusal::NotWanted)
            };
        }
        let store = &self.context.store;
        let named = request.file.filter(|_| protected_chunk.is_none());
        let named = named.map(|file| Ok((self.key_of(file)?, file))).transpose()?;
        let created = match &named {
            Some((key, file)) => {
                let arrival = Arrival {
                    placement: placement(self.context, Some(key), file),
                    is_signed: request.is_proven && file.signed_by.is_some(),
                    returns: store.returns(key.as_str(), file.object_digest()),
                };
                match identity(key, file, request) {
                    Some(identity) => store.create_resumable(&identity, request.received, arrival),
                    None => store.create_arriving(request.length, arrival),
                }
            }
            None => match protected_chunk {
                Some(chunk) => {
                    let placement = live_placement(self.context, None, chunk);
                    let is_signed = request.is_proven && chunk.signed_by.is_some();
                    store.create_arriving(request.length, Arrival { placement, is_signed, returns: false })
                }
                None => store.create_unnamed(request.length),
            },
        };
        let partial = created.map_err(|err| match err {
            crate::store::StoreError::LargerThanQuota { .. } => Refusal::NotWanted,
            _ => Refusal::NoRoom,
        })?;
        let received = Arc::clone(request.received);
        let checkpointed = AtomicU64::new(received.received());
        let guard = FlightGuard { flight: None, flights: Arc::clone(&self.context.flights) };
        let mut space = FileSpace { guard, partial: Arc::new(partial), received, checkpointed };
        if let Some((key, file)) = named {
            space.guard.flight = Some(self.flight_of(key, file, &space, request.is_proven)?);
        }
        Ok(ObjectSpace::File(space))
    }

    fn name(&mut self, buf: &mut ObjectSpace, file: &Arc<File>) -> Result<(), Refusal> {
        let ObjectSpace::File(space) = buf else { return Ok(()) };
        if is_signalling(file) || Joiner::is_chunk(file) {
            return Ok(());
        }
        let key = self.key_of(file)?;
        space.guard.flight = Some(self.flight_of(key, file, space, false)?);
        Ok(())
    }

    fn memory_bytes(&self, buf: &ObjectSpace) -> usize {
        buf.memory_bytes()
    }

    #[inline]
    fn write(&mut self, buf: &mut ObjectSpace, offset: u64, bytes: &[u8]) {
        match buf {
            ObjectSpace::Memory(memory) => {
                if let Some(target) =
                    usize::try_from(offset).ok().and_then(|at| memory.get_mut(at..at + bytes.len()))
                {
                    target.copy_from_slice(bytes);
                }
            }
            // Live objects do not store symbols.
            ObjectSpace::Live(_) => {}
            ObjectSpace::File(space) => {
                self.writes.write(&space.partial, space.guard.flight.as_ref(), offset, bytes);
            }
        }
    }

    /// Stores a repair symbol behind the object in its own file, which is truncated when it is published: a box has more
    /// disk than memory. Signalling is small and has no FEC code. A write that fails is noticed when its run is written: the
    /// object is lost then, and decodes nothing.
    fn keep_repair(&mut self, buf: &mut ObjectSpace, slot: u32, bytes: &[u8]) -> bool {
        match buf {
            ObjectSpace::Memory(_) | ObjectSpace::Live(_) => false,
            ObjectSpace::File(space) => {
                let offset = space.slot_offset(slot, bytes.len() as u64);
                self.writes.write_repair(&space.partial, offset, bytes);
                !space.partial.is_lost()
            }
        }
    }
}
