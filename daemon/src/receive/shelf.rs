//! Storage that the daemon lends to receivers: files of the store for objects, memory for signalling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use carousel::digest::Digest;
use carousel::flute::{File, OpenRequest, Refusal, SessionKey, Storage};
use carousel::limits::MAX_XML_BYTES;
use carousel::mabr::CONFIGURATION_TYPE;
use carousel::nip::Document;

use super::Shared;
use super::behind::WriteBehind;
use super::finish::Checkpoint;
use crate::delivery::{Carried, FailReason, Flight, ObjectRef, Outcome};
use crate::store::Partial;

/// Whether an object is for us and not for players: it steers reception and is never put on the disk, where it would be
/// written again with every change.
pub(super) fn is_signalling(file: &File) -> bool {
    let is_configuration =
        file.content_type.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(CONFIGURATION_TYPE));
    is_configuration
        || file.content_location.eq_ignore_ascii_case(carousel::mabr::CONFIGURATION_URI)
        || Document::from_name(&file.content_location).is_some()
}

/// Where the symbols of one object go.
#[derive(Debug)]
pub(super) enum ObjectSpace {
    /// Signalling.
    Memory(Vec<u8>),
    /// Everything else.
    File(FileSpace),
}

/// A file of the store, and the flight that players see of it.
#[derive(Debug)]
pub(super) struct FileSpace {
    pub(super) partial: Arc<Partial>,
    received: Arc<carousel::fec::SymbolMap>,
    /// Symbols that had arrived at the last checkpoint.
    checkpointed: AtomicU64,
    /// `None` until the object has a name.
    pub(super) flight: Option<Arc<Flight>>,
    shared: Arc<Shared>,
}

impl FileSpace {
    /// Where slot number `slot` begins, for symbols of `symbol_length` bytes.
    pub(super) fn slot_offset(&self, slot: u32, symbol_length: u64) -> u64 {
        self.received.length() + u64::from(slot) * symbol_length
    }

    /// What is to be made to survive, if the object is of those that do and more has arrived. All that has must be in the
    /// file.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let received = self.received.received();
        if !self.partial.is_resumable() || self.checkpointed.swap(received, Ordering::Relaxed) == received {
            return None;
        }
        let (partial, received) = (Arc::clone(&self.partial), Arc::clone(&self.received));
        let words = received.words();
        Some(Checkpoint { partial, received, words })
    }

    /// The writer, when nothing is written any more.
    pub(super) fn into_parts(mut self) -> (Arc<Partial>, Option<Arc<Flight>>) {
        (Arc::clone(&self.partial), self.flight.take())
    }
}

impl Drop for FileSpace {
    fn drop(&mut self) {
        // Dropped with a flight: the receiver gave the object up.
        if let Some(flight) = self.flight.take() {
            self.shared.flights.end(&flight, Outcome::Failed(FailReason::Replaced));
        }
    }
}

/// Lends storage for the objects of one session.
#[derive(Debug)]
pub(super) struct Shelf<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) session: SessionKey,
    pub(super) behind: &'a mut WriteBehind,
}

impl Shelf<'_> {
    /// Whether the cache has just this object already.
    fn holds(&self, file: &File) -> Result<bool, Refusal> {
        let key =
            self.shared.key_of(&self.session, &file.content_location).map_err(|_| Refusal::NotWanted)?;
        let (digest, length) = (file.object_digest(), file.object_length());
        // Without a digest, an unchanged length and TOI must do.
        Ok(self.shared.store.holds(key.as_str(), digest, length.unwrap_or(0), file.version()))
    }

    /// What tells an object of an earlier run again: name, digest, length and symbols. `None` if it has no digest.
    fn identity(&self, file: &File, request: &OpenRequest<'_>) -> Option<Digest> {
        let key = self.shared.key_of(&self.session, &file.content_location).ok()?;
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

    fn flight_of(&self, file: &Arc<File>, space: &FileSpace) -> Result<Arc<Flight>, Refusal> {
        let key =
            self.shared.key_of(&self.session, &file.content_location).map_err(|_| Refusal::NotWanted)?;
        if self.shared.flights.get(key.as_str()).is_some_and(|flight| flight.symbols().is_none()) {
            // An origin is sending it to a player: soon it will be held.
            return Err(Refusal::NoRoom);
        }
        let object = ObjectRef { session: self.session, toi: file.toi };
        let carried = Carried { object, file: Arc::clone(file) };
        let (partial, received) = (Arc::clone(&space.partial), Arc::clone(&space.received));
        let flight = Arc::new(Flight::of_symbols(key, carried, partial, received));
        self.shared.flights.replace(Arc::clone(&flight)).ok_or(Refusal::NoRoom)?;
        Ok(flight)
    }
}

impl Storage for Shelf<'_> {
    type Buf = ObjectSpace;

    fn open(&mut self, request: &OpenRequest<'_>) -> Result<ObjectSpace, Refusal> {
        if let Some(file) = request.file {
            if is_signalling(file) {
                let length = usize::try_from(request.length).unwrap_or(usize::MAX);
                return if length <= MAX_XML_BYTES {
                    Ok(ObjectSpace::Memory(vec![0; length]))
                } else {
                    Err(Refusal::NotWanted)
                };
            }
            if self.holds(file)? {
                return Err(Refusal::Held);
            }
        }
        let store = &self.shared.store;
        let created = match request.file {
            Some(file) => {
                let wish = super::finish::wish(self.shared, self.session, file);
                match self.identity(file, request) {
                    Some(identity) => store.create_resumable(&identity, request.received, wish),
                    None => store.create(request.length, wish),
                }
            }
            None => store.create_unnamed(request.length),
        };
        let partial = created.map_err(|err| match err {
            crate::store::StoreError::LargerThanQuota { .. } => Refusal::NotWanted,
            _ => Refusal::NoRoom,
        })?;
        let received = Arc::clone(request.received);
        let checkpointed = AtomicU64::new(received.received());
        let shared = Arc::clone(self.shared);
        let mut space =
            FileSpace { partial: Arc::new(partial), received, checkpointed, flight: None, shared };
        if let Some(file) = request.file {
            space.flight = Some(self.flight_of(file, &space)?);
        }
        Ok(ObjectSpace::File(space))
    }

    fn name(&mut self, buf: &mut ObjectSpace, file: &Arc<File>) -> Result<(), Refusal> {
        let ObjectSpace::File(space) = buf else { return Ok(()) };
        if is_signalling(file) {
            return Ok(());
        }
        if self.holds(file)? {
            return Err(Refusal::Held);
        }
        space.flight = Some(self.flight_of(file, space)?);
        Ok(())
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
            ObjectSpace::File(space) => {
                self.behind.write(&space.partial, space.flight.as_ref(), offset, bytes);
            }
        }
    }

    /// Repair symbols lie behind the object in its own file, which is cut to its length when it is published: a box has
    /// more disk than memory. Signalling is small and comes without a code.
    fn keep_repair(&mut self, buf: &mut ObjectSpace, slot: u32, bytes: &[u8]) -> bool {
        match buf {
            ObjectSpace::Memory(_) => false,
            ObjectSpace::File(space) => {
                let offset = space.slot_offset(slot, bytes.len() as u64);
                space.partial.write_at(offset, bytes).is_ok()
            }
        }
    }
}
