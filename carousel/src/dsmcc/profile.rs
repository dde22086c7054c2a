//! Parameters of a carousel to build, and its objects.

use super::message::Compatible;
use crate::digest::Digest;

/// Kind of a carousel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// Object carousel: directories and files.
    #[default]
    Object,
    /// Two-layer data carousel: a module an object, named by its URI.
    Data,
}

/// Parameters of a carousel that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Object or data carousel.
    pub shape: Shape,
    /// carouselId, and downloadId of all modules.
    pub carousel_id: u32,
    /// association_tag of the stream: its component_tag as a rule.
    pub association_tag: u16,
    /// blockSize, up to [`super::BLOCK_BYTES`].
    pub block_bytes: u16,
    /// Maximum blocks of a module. TS 102 809 guarantees 255 for HbbTV and MHP receivers; 65,536 is the limit of the
    /// format.
    pub most_blocks: u32,
    /// Size up to which small objects share a module.
    pub module_bytes: u32,
    /// Whether modules are compressed if that saves enough.
    pub compress: bool,
    /// Maximum names in one directory; TS 102 809 allows 512.
    pub most_bindings: usize,
    /// moduleTimeOut, blockTimeOut and the Tap's timeout, in microseconds.
    pub timeout_us: u32,
    /// Receivers that the groups of a data carousel are for; empty: not stated.
    pub compatibility: Vec<Compatible>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            shape: Shape::Object,
            carousel_id: 1,
            association_tag: 0x0b,
            block_bytes: super::BLOCK_BYTES,
            most_blocks: 65_536,
            module_bytes: 64 << 10,
            compress: true,
            most_bindings: 512,
            timeout_us: 60_000_000,
            compatibility: Vec::new(),
        }
    }
}

/// An object to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its URI; of a URI with an authority, authority and path are the path in the carousel.
    pub uri: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// SHA-256.
    pub digest: Digest,
    /// Seconds for which it is fresh.
    pub max_age_s: Option<u32>,
    /// Bytes.
    pub length: u64,
    /// Whether compression may save space: text, not media.
    pub is_text: bool,
    /// Objects of different lanes do not share a module, so that each lane can be repeated at its own rate.
    pub lane: u8,
}

/// Identifies an object to its builder.
pub type ObjectNumber = u64;

/// Fills a buffer from an object's bytes at an offset.
pub type ReadBody<'a, E> = dyn FnMut(ObjectNumber, u64, &mut [u8]) -> Result<(), E> + 'a;

/// Why an object cannot be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// All module ids are taken.
    TooManyModules,
    /// The URI is too long for a data carousel's module information.
    UriTooLong,
    /// More parts than 16 bits count.
    TooLong,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooManyModules => "the carousel has no module id left; raise the bytes of a module",
            Self::UriTooLong => "the URI is too long for a data carousel; use an object carousel",
            Self::TooLong => "the object has too many parts; raise the blocks of a module",
        })
    }
}

impl std::error::Error for BuildError {}
