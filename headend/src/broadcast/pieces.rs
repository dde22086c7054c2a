//! Transmission of live segments in pieces, while their packager writes them.

use std::collections::{BTreeMap, VecDeque};

use carousel::Digest;
use carousel::flute::{FDT_ROOT_BYTES, SenderProfile};

use super::Broadcast;
use crate::air::{GrowingObject, ItemId, SessionIndex};
use crate::object::{AirObject, Body, LiveTiming, Repeat};
use crate::options::TransportProtocol;
use crate::package::{ObjectSource, Role, decode, pattern};
use crate::prepare::{PreparedPiece, protection};

/// Bytes of an FDT Instance that describes pieces: one packet. Each piece has its own description; an instance with all of
/// them would be sent again with every piece.
const PIECE_FDT_BYTES: usize = 1400 - FDT_ROOT_BYTES;

/// Segments of one source in pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Growing segments, by path.
    growing: BTreeMap<String, GrowingObject>,
    /// Complete segments that are still described, oldest first.
    complete: VecDeque<GrowingObject>,
}

impl Broadcast {
    /// Profile of packets of a source's media.
    pub(super) fn media_profile(&self, index: usize) -> SenderProfile {
        let profile = self.config.carousel.sender_profile();
        let source = &self.config.sources[index];
        if source.chunk_ms.is_some() && source.protocol == TransportProtocol::Flute {
            SenderProfile { fdt_page_bytes: PIECE_FDT_BYTES.min(profile.fdt_page_bytes), ..profile }
        } else {
            profile
        }
    }

    /// Objects of a source that are sent in pieces.
    pub(super) fn pieces(&self, index: usize) -> impl Iterator<Item = ItemId> {
        let pieces = &self.sources[index].pieces;
        pieces.growing.values().chain(&pieces.complete).flat_map(|it| it.pieces().iter().copied())
    }

    /// Queues the next piece of a segment.
    pub(super) fn put_piece(&mut self, index: usize, prepared: PreparedPiece) -> Result<(), String> {
        let PreparedPiece { path, like, content_type, piece, whole_repair } = prepared;
        let failed = |err: carousel::flute::SenderError| format!("{path}: {err}");
        let (is_last, end) = (piece.is_last, piece.offset + piece.bytes.len() as u64);
        let growing = match self.sources[index].pieces.growing.remove(&path) {
            Some(growing) => Ok(growing),
            None => {
                let session = self.session_of_piece(index, &path, &like);
                let object = self.growing_object(index, &path, content_type);
                self.air.begin_growing(session, object)
            }
        };
        let mut growing = growing.map_err(failed)?;
        self.air.add_piece(&mut growing, piece).map_err(failed)?;
        if let Some(repair) = whole_repair {
            self.air.add_repair(&mut growing, end, repair).map_err(failed)?;
        }
        if is_last {
            self.forget_sent(index, &growing);
            self.sources[index].pieces.complete.push_back(growing);
        } else {
            self.sources[index].pieces.growing.insert(path, growing);
        }
        Ok(())
    }

    /// The session of a segment's rendition. `like`: a segment of the same rendition, which may have left the window since.
    fn session_of_piece(&mut self, index: usize, path: &str, like: &str) -> SessionIndex {
        let state = &self.sources[index];
        let of_rendition = || {
            let own = pattern(&decode(path))?;
            state.by_path.iter().find(|(it, _)| pattern(&decode(it)).as_ref() == Some(&own))
        };
        let slot = state.by_path.get(like).or_else(|| of_rendition().map(|it| it.1));
        match slot {
            Some(&slot) => state.sessions[slot].index,
            None => self.other_session(index),
        }
    }

    /// Removes complete segments except the newest of a session, which stays described for receivers that lost a
    /// description.
    fn forget_sent(&mut self, index: usize, newest: &GrowingObject) {
        let complete = std::mem::take(&mut self.sources[index].pieces.complete);
        for growing in complete {
            if growing.session() == newest.session() && !self.air.is_growing_pending(&growing) {
                self.air.forget(&growing);
            } else {
                self.sources[index].pieces.complete.push_back(growing);
            }
        }
    }

    /// Removes a segment that will not be completed.
    pub(super) fn abandon_pieces(&mut self, index: usize, path: &str) {
        if let Some(growing) = self.sources[index].pieces.growing.remove(path) {
            self.air.forget(&growing);
        }
    }

    /// The description of a segment, without bytes.
    fn growing_object(&self, index: usize, path: &str, content_type: &'static str) -> AirObject {
        let source = &self.config.sources[index];
        let object = ObjectSource {
            path: path.to_owned(),
            file: source.path.clone(),
            length: 0,
            range: None,
            modified_ns: 0,
            content_type,
            role: Role::Segment,
            bytes: None,
        };
        AirObject {
            uri: format!("{}{path}", source.base),
            content_type: content_type.to_owned(),
            digest: Digest::of(&[]),
            md5: carousel::digest::md5(&[]),
            body: Body::Memory([].into()),
            class: source.class,
            repeat: Repeat::Live(LiveTiming::of(index, self.sources[index].segment_ms)),
            expiry_s: super::expiry_s(&self.config.carousel, source, &object),
            ignored_query: self.sources[index].inventory.ignored_query.clone(),
            protection: protection(&self.config, index, false),
        }
    }
}
