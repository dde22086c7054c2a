//! One object of a ROUTE session under reassembly.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use super::repair::Repair;
use crate::flute::File;
use crate::growing::{Boxes, End, Growing};
use crate::lct::Toi;
use crate::route::{Codepoint, Entity, Format};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Object {
    pub(super) toi: Toi,
    /// Its number among the objects that the receiver has opened.
    pub(super) serial: u64,
    pub(super) codepoint: Codepoint,
    pub(super) bytes: Growing,
    /// Its description, once it has a name.
    pub(super) file: Option<Arc<File>>,
    /// Entity mode: offset of the body, once the fields are complete.
    pub(super) entity: Option<(u64, bool)>,
    /// Evidence of its length.
    pub(super) end: Option<End>,
    /// Contiguous bytes that have been reported.
    pub(super) reported_bytes: u64,
    /// Whether [`super::Event::Begun`] was reported.
    pub(super) is_begun: bool,
    /// A repeat of a completed TOI: nothing is reported unless its bytes differ.
    pub(super) is_again: bool,
    /// The next media object of the channel has begun.
    pub(super) next_has_begun: bool,
    /// Time of its first packet.
    pub(super) begun: Instant,
    pub(super) heard: Instant,
    pub(super) repair: Repair,
}

/// Approximate memory of an object without its bytes, repair symbols and the texts of its description.
const OBJECT_BYTES: usize = 1_024;

/// Size of an object: received bytes, and memory.
pub(super) type Size = (u64, usize);

impl Object {
    pub(super) fn new(toi: Toi, serial: u64, codepoint: Codepoint, is_again: bool, now: Instant) -> Self {
        Self {
            toi,
            serial,
            codepoint,
            bytes: Growing::default(),
            file: None,
            entity: None,
            end: None,
            reported_bytes: 0,
            is_begun: false,
            is_again,
            next_has_begun: false,
            begun: now,
            heard: now,
            repair: Repair::default(),
        }
    }

    pub(super) fn size(&self) -> Size {
        let held_bytes = self.bytes.held_bytes() + self.repair.held_bytes();
        // Names have up to 8 KB, and a template makes one for each object.
        let text_bytes = self.file.as_ref().map_or(0, |it| it.text_bytes());
        (held_bytes, OBJECT_BYTES + text_bytes + self.bytes.memory_bytes() + self.repair.memory_bytes())
    }

    /// Boxes of a media object of unknown length, if it may end at its current end.
    pub(super) fn boxes(&self) -> Option<Boxes> {
        let is_open = self.codepoint.is_media && self.codepoint.format == Format::File;
        if is_open && self.bytes.length().is_none() { self.bytes.boxes() } else { None }
    }

    /// Parses the header fields of an object in entity mode, if they are complete.
    pub(super) fn read_entity(&mut self) {
        if self.codepoint.format != Format::Entity || self.entity.is_some() {
            return;
        }
        if let Some(entity) = Entity::read(self.toi, self.bytes.prefix()) {
            self.entity = Some((entity.body_at as u64, entity.is_chunked));
            if !entity.file.content_location.is_empty() {
                self.file = Some(Arc::new(entity.file));
            }
        }
    }

    /// Offset of its body, if it may be visible while it grows.
    pub(super) const fn body_at(&self) -> Option<u64> {
        match (self.codepoint.format, self.entity) {
            (Format::File, _) => Some(0),
            (Format::Entity, Some((at, false))) => Some(at),
            _ => None,
        }
    }
}

/// A fingerprint of bytes, to recognise repeats.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
