//! The header page of an object file.
//!
//! ```text
//!    0   8  "SKYCACHE"
//!    8   4  format version, little-endian: 1
//!   12   4  length of the metadata, little-endian
//!   16  32  SHA-256 of the metadata
//!   48   …  metadata as JSON: key, URI, type, length, digest, times, class, response
//!        …  zeros up to 4096
//! 4096   …  body
//! ```
//!
//! JSON, because an operator can read it with `head -c 4096`, and because unknown members of a newer minor version are
//! ignored. The checksum precedes the bytes that it covers, so that a torn header is never accepted.

use std::sync::Arc;

use carousel::digest::Digest;
use carousel::name::ObjectKey;
use carousel::query::IgnoredQuery;
use carousel::time::WallTime;
use serde::{Deserialize, Serialize};

use http::HeaderMap;

use crate::caching::{self, Selecting, SurrogateKeys};

/// Bytes before the body: one page, so that the body is mapped at a page boundary.
pub(super) const HEADER_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"SKYCACHE";
/// Version written, and the newest version read.
const VERSION: u32 = 1;
const METADATA_AT: usize = 48;

/// Eviction priority of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Never.
    Pinned,
    /// After all others.
    High,
    /// The default.
    #[default]
    Medium,
    /// Before all others. Kept in memory until first requested, then promoted.
    Low,
}

impl Class {
    /// Name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Source of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameBy {
    /// Entirely from the carousel.
    Carousel,
    /// From the carousel, with ranges repaired from an origin.
    CarouselRepaired,
    /// Entirely from an origin.
    Origin,
}

impl CameBy {
    /// Name in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Carousel => "carousel",
            Self::CarouselRepaired => "carousel_repaired",
            Self::Origin => "origin",
        }
    }
}

/// An object's URI relative to its key: nearly always the key behind a scheme, which takes no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectUri {
    /// `http://` and the key.
    Http,
    /// `https://` and the key.
    Https,
    /// Anything else.
    Other(Box<str>),
}

impl ObjectUri {
    /// Encodes the `uri` of the object of `key`.
    pub fn new(uri: &str, key: &ObjectKey) -> Self {
        match uri.split_once("://") {
            Some(("http", rest)) if rest == key.as_str() => Self::Http,
            Some(("https", rest)) if rest == key.as_str() => Self::Https,
            _ => Self::Other(uri.into()),
        }
    }

    /// The complete URI.
    pub fn text(&self, key: &ObjectKey) -> String {
        match self {
            Self::Http => format!("http://{key}"),
            Self::Https => format!("https://{key}"),
            Self::Other(uri) => uri.to_string(),
        }
    }
}

/// Metadata of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: ObjectKey,
    /// Its URI as broadcast or fetched.
    pub uri: ObjectUri,
    /// MIME type.
    pub content_type: Option<String>,
    /// Bytes of the body.
    pub length: u64,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// TOI that brought it; 0 if it came from an origin.
    pub version: u64,
    /// Time of its completion.
    pub received_at: WallTime,
    /// End of its freshness, if known.
    pub expires: Option<WallTime>,
    /// Class, by which it is evicted.
    pub class: Class,
    /// Way by which it arrived.
    pub came_by: CameBy,
    /// The origin's response; `None` for objects from the link. Boxed, since most objects have none and small boxes hold tens of
    /// thousands of them.
    pub response: Option<Box<ResponseMeta>>,
    /// Query parameters that do not distinguish this object.
    pub ignored_query: IgnoredQuery,
    /// Its signer: root key, online key and service, as text. `None`: not signed by a trusted key.
    pub signed_by: Option<Arc<str>>,
}

/// The response that brought an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseMeta {
    /// Its status.
    pub status: u16,
    /// Its age in seconds on arrival (RFC 9111 section 4.2.3).
    pub initial_age_s: u32,
    /// Its end-to-end fields, as [`crate::caching::to_pairs`] makes them.
    pub headers: Vec<(String, String)>,
    /// Request fields that selected it (`Vary`).
    pub selecting: Selecting,
    /// Groups with which it is purged.
    pub surrogate_keys: SurrogateKeys,
}

impl ResponseMeta {
    /// Its end-to-end fields.
    pub fn fields(&self) -> HeaderMap {
        caching::from_pairs(self.headers.iter().map(|(name, value)| (name, value)))
    }

    /// Whether this response matches a request with these fields.
    pub fn suits(&self, request: &HeaderMap) -> bool {
        self.selecting.is_empty() || {
            let language = self.headers.iter().find(|(name, _)| name == "content-language");
            caching::selects(&self.selecting, request, language.map(|(_, value)| value.as_str()))
        }
    }
}

impl ObjectMeta {
    /// Status of the response; 200 for objects from the link.
    pub fn status(&self) -> u16 {
        self.response.as_ref().map_or(200, |it| it.status)
    }

    /// Fields of the response.
    pub fn fields(&self) -> HeaderMap {
        self.response.as_ref().map_or_else(HeaderMap::new, |it| it.fields())
    }

    /// Whether this variant matches a request with these fields.
    pub fn suits(&self, request: &HeaderMap) -> bool {
        self.response.as_ref().is_none_or(|it| it.suits(request))
    }

    /// Request fields that selected the response.
    pub fn selecting(&self) -> &[(String, Option<String>)] {
        self.response.as_ref().map_or(&[], |it| &it.selecting)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    uri: String,
    content_type: Option<String>,
    length: u64,
    sha256: String,
    version: u64,
    received_ms: i64,
    expires_ms: Option<i64>,
    class: Class,
    came_by: CameBy,
    #[serde(default)]
    response: Option<StoredResponse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_vary_search: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredResponse {
    status: u16,
    initial_age_s: u32,
    headers: Vec<(String, String)>,
    selecting: Selecting,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    surrogate_keys: Option<String>,
}

/// Encodes metadata for a header or a snapshot.
pub(super) fn metadata(meta: &ObjectMeta) -> Option<Vec<u8>> {
    let stored = Stored {
        key: meta.key.as_str().to_owned(),
        uri: meta.uri.text(&meta.key),
        content_type: meta.content_type.clone(),
        length: meta.length,
        sha256: meta.digest.to_hex(),
        version: meta.version,
        received_ms: meta.received_at.unix_ms(),
        expires_ms: meta.expires.map(WallTime::unix_ms),
        class: meta.class,
        came_by: meta.came_by,
        response: meta.response.as_deref().map(|it| StoredResponse {
            status: it.status,
            initial_age_s: it.initial_age_s,
            headers: it.headers.clone(),
            selecting: it.selecting.clone(),
            surrogate_keys: (!it.surrogate_keys.is_empty()).then(|| it.surrogate_keys.to_text()),
        }),
        no_vary_search: meta.ignored_query.to_field(),
        signed_by: meta.signed_by.as_deref().map(str::to_owned),
    };
    serde_json::to_vec(&stored).ok()
}

/// Encodes the header page; `None` if the metadata do not fit.
pub(super) fn encode(meta: &ObjectMeta) -> Option<Vec<u8>> {
    let metadata = metadata(meta)?;
    if metadata.len() > HEADER_BYTES - METADATA_AT {
        return None;
    }
    let mut page = vec![0; HEADER_BYTES];
    page[..8].copy_from_slice(MAGIC);
    page[8..12].copy_from_slice(&VERSION.to_le_bytes());
    page[12..16].copy_from_slice(&(metadata.len() as u32).to_le_bytes());
    page[16..48].copy_from_slice(&Digest::of(&metadata).0);
    page[METADATA_AT..METADATA_AT + metadata.len()].copy_from_slice(&metadata);
    Some(page)
}

/// Metadata of an object in memory, which has no header page: several times what the page has, and what quotas count.
const MEMORY_METADATA_BYTES: usize = 16 << 10;

/// Whether metadata may be held with an object in memory.
pub(super) fn fits_memory(meta: &ObjectMeta) -> bool {
    metadata(meta).is_some_and(|metadata| metadata.len() <= MEMORY_METADATA_BYTES)
}

/// Whether the fields of a response are likely to fit a header page, or, if not, memory at least. `None`: neither.
pub fn fields_fit_page(fields: &HeaderMap) -> Option<bool> {
    // Punctuation of JSON, and what is escaped.
    let length: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
    match length {
        // The name and URI of the object, its digest and times take the rest.
        _ if length <= HEADER_BYTES / 2 => Some(true),
        _ if length <= MEMORY_METADATA_BYTES - HEADER_BYTES / 2 => Some(false),
        _ => None,
    }
}

/// Why a file in the store's folder is not a usable object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Truncated, torn, or not ours.
    Damaged,
    /// Written by a newer version of this program.
    Newer,
}

/// Whether a header page is that of a body with this digest. Cheaper than [`decode`]: for each new mapping.
pub(super) fn has_digest(page: &[u8], digest: Digest) -> bool {
    // Quotes within a value are escaped.
    let member = format!("\"sha256\":\"{}\"", digest.to_hex());
    page.starts_with(MAGIC) && memchr::memmem::find(page, member.as_bytes()).is_some()
}

/// Reads a header page.
pub(super) fn decode(page: &[u8]) -> Result<ObjectMeta, BadHeader> {
    let field = |range: std::ops::Range<usize>| page.get(range).ok_or(BadHeader::Damaged);
    if field(0..8)? != MAGIC {
        return Err(BadHeader::Damaged);
    }
    let word = |at: usize| {
        let bytes = page.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(BadHeader::Damaged)?;
        Ok(u32::from_le_bytes(*bytes))
    };
    if word(8)? > VERSION {
        return Err(BadHeader::Newer);
    }
    let length = word(12)? as usize;
    let metadata = METADATA_AT
        .checked_add(length)
        .and_then(|end| page.get(METADATA_AT..end))
        .ok_or(BadHeader::Damaged)?;
    if Digest::of(metadata).0 != *field(16..48)? {
        return Err(BadHeader::Damaged);
    }
    parse_metadata(metadata).ok_or(BadHeader::Damaged)
}

/// Reads what [`metadata`] wrote.
pub(super) fn parse_metadata(metadata: &[u8]) -> Option<ObjectMeta> {
    let stored: Stored = serde_json::from_slice(metadata).ok()?;
    let key = ObjectKey::from_kept(&stored.key).ok()?;
    Some(ObjectMeta {
        uri: ObjectUri::new(&stored.uri, &key),
        key,
        content_type: stored.content_type,
        length: stored.length,
        digest: Digest::from_hex(&stored.sha256)?,
        version: stored.version,
        received_at: WallTime::from_unix_ms(stored.received_ms),
        expires: stored.expires_ms.map(WallTime::from_unix_ms),
        class: stored.class,
        came_by: stored.came_by,
        response: stored.response.map(|it| {
            Box::new(ResponseMeta {
                status: it.status,
                initial_age_s: it.initial_age_s,
                headers: it.headers,
                selecting: it.selecting,
                surrogate_keys: it
                    .surrogate_keys
                    .map_or_else(SurrogateKeys::default, |text| SurrogateKeys::from_text(&text)),
            })
        }),
        ignored_query: stored
            .no_vary_search
            .map_or(IgnoredQuery::Nothing, |it| IgnoredQuery::from_field(&it)),
        signed_by: stored.signed_by.map(Into::into),
    })
}
