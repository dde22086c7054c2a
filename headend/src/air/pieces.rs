//! Growing objects, which are sent in pieces: chunks of a live segment.
//!
//! | protocol | a piece is | its end is signalled by | repair symbols |
//! |---|---|---|---|
//! | FLUTE | an object of its own, `URL#offset` (TS 103 769 Annex F) | `URL?isLast#offset` | of each piece |
//! | ROUTE | a range of the segment's object | EXT_TOL on the last piece's packets, and the B flag | of the segment, after its last piece |
//!
//! A piece is sent at its turn in the live queue. Objects in pieces stay described until [`Air::forget`], so that a
//! receiver that lost a description gets it again.

use std::sync::Arc;

use carousel::fec::{Oti, Partition, Protection};
use carousel::flute::{SendFile, SenderError};
use carousel::mabr::ChunkName;
use carousel::{Digest, digest};

use super::route::RouteObject;
use super::{Air, Item, ItemId, SessionIndex};
use crate::object::{AirObject, Body, Piece, RepairSymbols, route_oti};

/// Position of a piece's bytes in its object (ROUTE).
#[derive(Debug, Clone, Copy)]
pub(super) struct PieceRange {
    pub(super) start: u64,
    /// Length of the object, once it is known.
    pub(super) length: Option<u64>,
}

/// An object that is sent in pieces.
#[derive(Debug)]
pub struct GrowingObject {
    session: SessionIndex,
    /// Its description, without bytes.
    object: AirObject,
    /// ROUTE: the item with its name and TOI.
    whole: Option<ItemId>,
    pieces: Vec<ItemId>,
}

impl GrowingObject {
    /// Its session.
    pub const fn session(&self) -> SessionIndex {
        self.session
    }

    /// Its pieces.
    pub fn pieces(&self) -> &[ItemId] {
        &self.pieces
    }
}

impl Air {
    /// Begins an object whose pieces follow. `object` describes it; its body is ignored.
    ///
    /// # Errors
    /// [`SenderError`] if its description does not fit the session.
    pub fn begin_growing(
        &mut self,
        session: SessionIndex,
        object: AirObject,
    ) -> Result<GrowingObject, SenderError> {
        let object = AirObject { body: Body::Memory(Arc::new([])), ..object };
        let whole = match self.sessions[session].route {
            None => None,
            Some(_) => {
                let file = SendFile {
                    content_type: Some(object.content_type.clone()),
                    ..SendFile::of(&object.uri, &[])
                };
                let toi = self.sessions[session].sender.add_protected(file, &Protection::NONE)?;
                let item = Item {
                    session,
                    toi,
                    object: object.clone(),
                    air_bytes: 0,
                    repair: None,
                    route: None,
                    place: None,
                    key: Default::default(),
                    starts: 1,
                    started_ns: 0,
                    completed: 1,
                    arrived_ns: None,
                };
                Some(self.insert(item))
            }
        };
        Ok(GrowingObject { session, object, whole, pieces: Vec::new() })
    }

    /// Queues the next piece.
    ///
    /// # Errors
    /// [`SenderError`] if it does not fit the session.
    pub fn add_piece(&mut self, growing: &mut GrowingObject, piece: Piece) -> Result<ItemId, SenderError> {
        let Piece { offset, bytes, is_last, repair } = piece;
        let length = bytes.len() as u64;
        let id = match growing.whole {
            None => {
                let object = AirObject {
                    uri: ChunkName { object: &growing.object.uri, offset, is_last }.to_string(),
                    digest: Digest::of(&bytes),
                    md5: digest::md5(&bytes),
                    body: Body::Memory(bytes),
                    ..growing.object.clone()
                };
                self.add_prepared(growing.session, object, repair)?
            }
            Some(whole) => {
                let end = is_last.then_some(offset + length);
                let body = Body::Memory(bytes);
                let symbol_length = self.sessions[growing.session].sender.profile().symbol_length;
                let most = self.sessions[growing.session].sender.profile().max_source_block_length;
                let oti = Oti::no_code(length, symbol_length, most);
                self.queue_piece(
                    growing,
                    whole,
                    (oti, body),
                    PieceRange { start: offset, length: end },
                    None,
                )?
            }
        };
        growing.pieces.push(id);
        Ok(id)
    }

    /// ROUTE: queues the repair symbols of the complete object of `length` bytes, after its last piece.
    ///
    /// # Errors
    /// As [`Air::add_piece`].
    pub fn add_repair(
        &mut self,
        growing: &mut GrowingObject,
        length: u64,
        repair: RepairSymbols,
    ) -> Result<(), SenderError> {
        let Some(whole) = growing.whole else { return Ok(()) };
        let oti = route_oti(self.sessions[growing.session].sender.profile().symbol_length, length);
        let body = Body::Memory(Arc::new([]));
        let place = PieceRange { start: 0, length: Some(length) };
        let id = self.queue_piece(growing, whole, (oti, body), place, Some(repair))?;
        growing.pieces.push(id);
        Ok(())
    }

    fn queue_piece(
        &mut self,
        growing: &GrowingObject,
        whole: ItemId,
        (oti, body): (Oti, Body),
        place: PieceRange,
        repair: Option<RepairSymbols>,
    ) -> Result<ItemId, SenderError> {
        let partition = Partition::new(&oti).map_err(SenderError::Oti)?;
        let toi = self.items.get(&whole).map(|item| item.toi).ok_or(SenderError::NoToi)?;
        let object = AirObject { body, protection: Protection::NONE, ..growing.object.clone() };
        let item = Item {
            session: growing.session,
            toi,
            air_bytes: object.body.length(),
            object,
            repair: repair.map(Arc::new),
            route: Some(RouteObject { oti, partition }),
            place: Some(place),
            key: Default::default(),
            starts: 0,
            started_ns: 0,
            completed: 0,
            arrived_ns: None,
        };
        let id = self.insert(item);
        if growing.object.repeat.is_live() {
            self.queue(id);
        }
        Ok(id)
    }

    /// Whether a part of it has not been sent yet.
    pub fn is_growing_pending(&self, growing: &GrowingObject) -> bool {
        growing.pieces.iter().any(|id| self.is_pending(*id))
    }

    /// Removes an object with its pieces.
    pub fn forget(&mut self, growing: &GrowingObject) {
        for id in growing.pieces.iter().chain(&growing.whole) {
            self.withdraw(*id);
        }
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
