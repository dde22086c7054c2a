//! Objects to send: bytes, description, repair symbols, and repetition.

mod body;
mod repair_symbols;

use std::sync::Arc;

use carousel::Digest;
use carousel::fec::Protection;
use carousel::query::IgnoredQuery;

pub use body::{Body, BodyError, OpenBody, ReadAhead};
pub use repair_symbols::RepairSymbols;
pub(crate) use repair_symbols::{SharedRepair, route_oti};

use crate::options::Class;

/// Repetition of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Repeat {
    /// At least this often, from start to start, with priority over scheduled objects.
    Within {
        /// Milliseconds.
        ms: u64,
    },
    /// By the schedule.
    Scheduled {
        /// Relative probability of requests within its class.
        popularity: f64,
    },
    /// Never: live, sent once within its reserved rate. Losses are covered by FEC and repair.
    Live(LiveTiming),
    /// Continuously, one after the other, within the rate of firmware.
    Share,
}

impl Repeat {
    /// Whether it is live.
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

/// Timing of a live object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveTiming {
    /// Index of its service, each of which has a queue.
    pub service: usize,
    /// Time from its arrival to its play-out deadline, by which it must have been started.
    pub within_ms: u64,
    /// At a start, the number of newer ones in its rendition. Objects with newer ones go to the backlog.
    pub age: u32,
}

impl LiveTiming {
    /// Segments by which players stay behind the newest one (RFC 8216bis, Section 6.3.3).
    const SEGMENTS_BEHIND: u64 = 3;
    /// Default duration of a segment.
    const USUAL_SEGMENT_MS: u64 = 2000;

    /// Timing of an object of a service with this segment duration.
    pub const fn of(service: usize, segment_ms: Option<u64>) -> Self {
        let segment_ms = match segment_ms {
            Some(ms) if ms > 0 => ms,
            _ => Self::USUAL_SEGMENT_MS,
        };
        Self { service, within_ms: segment_ms * Self::SEGMENTS_BEHIND, age: 0 }
    }
}

/// A piece of a growing object.
#[derive(Debug)]
pub struct Piece {
    /// Its first byte within the object.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// It is the last piece.
    pub is_last: bool,
    /// FLUTE: repair symbols of the piece.
    pub repair: Option<RepairSymbols>,
}

/// An object to send.
#[derive(Debug, Clone)]
pub struct AirObject {
    /// Its URI in the FDT.
    pub uri: String,
    /// MIME type.
    pub content_type: String,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// MD5 of the body.
    pub md5: [u8; 16],
    /// The bytes.
    pub body: Body,
    /// Class.
    pub class: Class,
    /// Its repetition.
    pub repeat: Repeat,
    /// Its FEC scheme.
    pub protection: Protection,
    /// Freshness lifetime in caches, in seconds; `None`: not stated.
    pub expiry_s: Option<u32>,
    /// Query parameters that do not distinguish it.
    pub ignored_query: IgnoredQuery,
}

impl AirObject {
    /// An object in memory, of medium class and without a code.
    #[cfg(test)]
    pub(crate) fn of_bytes(uri: &str, bytes: &[u8], repeat: Repeat) -> Self {
        Self {
            uri: uri.to_owned(),
            content_type: "video/mp4".to_owned(),
            digest: Digest::of(bytes),
            md5: carousel::digest::md5(bytes),
            body: Body::Memory(bytes.into()),
            class: Class::Medium,
            repeat,
            protection: Protection::NONE,
            expiry_s: None,
            ignored_query: IgnoredQuery::default(),
        }
    }

    pub(crate) const fn max_period_ms(&self) -> Option<u64> {
        match self.repeat {
            Repeat::Within { ms } => Some(ms),
            Repeat::Scheduled { .. } | Repeat::Live(_) | Repeat::Share => None,
        }
    }

    /// Weight in the schedule.
    pub(crate) fn weight(&self) -> f64 {
        match self.repeat {
            Repeat::Scheduled { popularity } => self.class.weight() * popularity,
            Repeat::Within { .. } | Repeat::Live(_) | Repeat::Share => self.class.weight(),
        }
    }
}
