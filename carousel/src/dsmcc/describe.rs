//! Description of a file in a carousel: URI, digest, expiry, and the parts of an object that is too long for one module.
//!
//! It is carried in `objectInfo` of the file's binding and of its message, where other receivers ignore it: the type in
//! the standard's `content_type_descriptor`, the rest in a private descriptor:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SKYC` |
//! | 1 | flags: 1 digest, 2 freshness, 4 part, 8 `http://` before the path, 16 `https://`, 32 the URI follows |
//! | 32 | SHA-256 of the complete object, if flagged |
//! | 4 | seconds for which it is fresh after it was received, if flagged |
//! | 2 + 2 + 8 | number of this part from 0, number of parts, bytes of the complete object, if flagged |
//! | rest | the URI's bytes, continued in descriptors that begin with `SKYU` |

use super::message::tag;
use crate::bytes::{Reader, Writer};
use crate::digest::Digest;
use crate::limits::MAX_URI_BYTES;
use crate::ts::descriptor::{self, descriptors};

/// Tag of the private descriptor.
const PRIVATE: u8 = 0xdc;
const MAGIC: &[u8; 4] = b"SKYC";
const URI_CONTINUES: &[u8; 4] = b"SKYU";
const DIGEST: u8 = 1;
const FLAG_MAX_AGE: u8 = 2;
const PART: u8 = 4;
const HTTP: u8 = 8;
const HTTPS: u8 = 16;
const URI: u8 = 32;

/// One of several files that make an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0.
    pub index: u16,
    /// Number of parts, at least 1.
    pub count: u16,
    /// Bytes of the complete object.
    pub length: u64,
}

/// Metadata of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Its URI, if it differs from its path in the carousel.
    pub uri: Option<String>,
    /// MIME type.
    pub content_type: Option<String>,
    /// SHA-256 of the complete object.
    pub digest: Option<Digest>,
    /// Seconds for which it is fresh after it was received. Relative, so that the description does not change with time.
    pub max_age_s: Option<u32>,
    /// Number of this part.
    pub part: Option<Part>,
}

impl Description {
    /// Reads the descriptors of an `objectInfo`; `path` is the file's path in the carousel.
    pub fn read(object_info: &[u8], path: &str) -> Self {
        let mut description = Self::default();
        let mut uri: Option<Vec<u8>> = None;
        for (tag, data) in descriptors(object_info) {
            match (tag, data) {
                (tag::CONTENT_TYPE, data) => {
                    let text = String::from_utf8_lossy(data);
                    let text = text.trim_end_matches('\0').trim();
                    description.content_type = Some(text.to_owned()).filter(|it| !it.is_empty());
                }
                (PRIVATE, [b'S', b'K', b'Y', b'C', flags, rest @ ..]) => {
                    uri = description.read_private(*flags, rest, path).or(uri);
                }
                (PRIVATE, [b'S', b'K', b'Y', b'U', rest @ ..]) => {
                    if let Some(uri) = uri.as_mut().filter(|uri| uri.len() < MAX_URI_BYTES) {
                        uri.extend_from_slice(rest);
                    }
                }
                _ => {}
            }
        }
        if let Some(uri) = uri {
            description.uri = String::from_utf8(uri).ok();
        }
        description
    }

    fn read_private(&mut self, flags: u8, rest: &[u8], path: &str) -> Option<Vec<u8>> {
        let mut reader = Reader::new(rest);
        if flags & DIGEST != 0 {
            self.digest = Some(Digest(reader.array("digest").ok()?));
        }
        if flags & FLAG_MAX_AGE != 0 {
            self.max_age_s = Some(reader.u32("max_age").ok()?);
        }
        if flags & PART != 0 {
            let (index, count) = (reader.u16("part").ok()?, reader.u16("parts").ok()?);
            let length = reader.uint::<8>("length").ok()?;
            self.part = (index < count).then_some(Part { index, count, length });
        }
        match flags {
            flags if flags & URI != 0 => Some(reader.rest().to_vec()),
            flags if flags & HTTP != 0 => Some(format!("http://{path}").into_bytes()),
            flags if flags & HTTPS != 0 => Some(format!("https://{path}").into_bytes()),
            _ => None,
        }
    }

    /// Appends the descriptors; `path` is the file's path in the carousel.
    pub fn write(&self, out: &mut Vec<u8>, path: &str) {
        let mut put = |tag, data: &[u8]| {
            // Cannot fail: the data were cut to the size of a descriptor.
            let _ = descriptor::write(out, tag, data);
        };
        if let Some(content_type) = self.content_type.as_deref().filter(|it| it.len() <= 255) {
            put(tag::CONTENT_TYPE, content_type.as_bytes());
        }
        let mut data = Vec::with_capacity(64);
        let mut flags = 0;
        Writer::new(&mut data).bytes(MAGIC).u8(0);
        if let Some(digest) = self.digest {
            flags |= DIGEST;
            data.extend_from_slice(&digest.0);
        }
        if let Some(max_age_s) = self.max_age_s {
            flags |= FLAG_MAX_AGE;
            Writer::new(&mut data).u32(max_age_s);
        }
        if let Some(part) = self.part {
            flags |= PART;
            Writer::new(&mut data).u16(part.index).u16(part.count).uint::<8>(part.length);
        }
        let mut rest: &[u8] = &[];
        match &self.uri {
            Some(uri) if uri.strip_prefix("http://") == Some(path) => flags |= HTTP,
            Some(uri) if uri.strip_prefix("https://") == Some(path) => flags |= HTTPS,
            Some(uri) => {
                flags |= URI;
                let (now, later) =
                    uri.as_bytes().split_at(uri.len().min(descriptor::MAX_DATA_BYTES - data.len()));
                data.extend_from_slice(now);
                rest = later;
            }
            None => {}
        }
        data[4] = flags;
        put(PRIVATE, &data);
        for piece in rest.chunks(descriptor::MAX_DATA_BYTES - URI_CONTINUES.len()) {
            put(PRIVATE, &[URI_CONTINUES, piece].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uri_that_is_the_path_costs_nothing() {
        let description = Description {
            uri: Some("https://cdn.example.com/vod/1.m4s".into()),
            digest: Some(Digest([7; 32])),
            ..Description::default()
        };
        let mut out = Vec::new();
        description.write(&mut out, "cdn.example.com/vod/1.m4s");
        assert_eq!(out.len(), 2 + 5 + 32);
        assert_eq!(Description::read(&out, "cdn.example.com/vod/1.m4s"), description);
    }

    proptest! {
        #[test]
        fn every_description_goes_both_ways(uri in proptest::option::of("[a-z:/]{0,900}"), digest in proptest::option::of(any::<[u8; 32]>()),
                                            max_age_s in any::<Option<u32>>(), part in proptest::option::of((0_u16..9, any::<u64>()))) {
            let part = part.map(|(index, length)| Part { index, count: 9, length });
            let description = Description { uri, content_type: Some("text/html".into()), digest: digest.map(Digest), max_age_s, part };
            let mut out = Vec::new();
            description.write(&mut out, "a/b");
            prop_assert_eq!(Description::read(&out, "a/b"), description);
        }

        #[test]
        fn no_object_info_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut out = vec![PRIVATE, bytes.len() as u8 + 4];
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&bytes);
            let _ = Description::read(&out, "p");
        }
    }
}
