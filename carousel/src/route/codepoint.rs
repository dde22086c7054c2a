//! Codepoints: the kind of object of a packet (RFC 9223 section 2.1).

use super::Payload;

/// Format of an object (`@formatId`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Only its bytes; metadata are in the EFDT.
    File,
    /// HTTP header fields, then its bytes.
    Entity,
    /// A signalling package of several documents, signed or not.
    Package,
}

/// Properties of an object by the codepoint of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codepoint {
    /// Its format.
    pub format: Format,
    /// An init segment: it is repeated, and its successor may have the same TOI.
    pub is_init: bool,
    /// A media segment, sent while it is produced.
    pub is_media: bool,
}

impl Codepoint {
    /// New init segment; the timeline continues.
    pub const INIT_NEW: u8 = 6;
    /// Init segment, repeated.
    pub const INIT_AGAIN: u8 = 7;
    /// Media segment, file mode.
    pub const MEDIA_FILE: u8 = 8;
    /// Unsigned package.
    pub const PACKAGE: u8 = 3;
    /// Object without a timeline, file mode.
    pub const NRT_FILE: u8 = 1;

    /// The meaning of `codepoint` in a channel with these `Payload` elements. `None` if it has none.
    pub fn of(codepoint: u8, payloads: &[Payload]) -> Option<Self> {
        let (format, is_init, is_media) = match codepoint {
            1 => (Format::File, false, false),
            2 => (Format::Entity, false, false),
            3 | 4 => (Format::Package, false, false),
            5..=7 => (Format::File, true, false),
            8 | 10 => (Format::File, false, true),
            9 => (Format::Entity, false, true),
            _ => {
                let payload = payloads.iter().find(|it| it.codepoint == codepoint)?;
                let format = match payload.format {
                    1 => Format::File,
                    2 => Format::Entity,
                    3 | 4 => Format::Package,
                    _ => return None,
                };
                (format, false, payload.fragmentation != 0)
            }
        };
        Some(Self { format, is_init, is_media })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codepoints_beyond_ten_are_those_of_the_channel() {
        let declared = [Payload { codepoint: 130, format: 2, fragmentation: 1, source_payload_id: None }];
        let entity = Codepoint { format: Format::Entity, is_init: false, is_media: true };
        assert_eq!(Codepoint::of(130, &declared), Some(entity));
        assert_eq!(
            (Codepoint::of(130, &[]), Codepoint::of(0, &declared), Codepoint::of(11, &[])),
            (None, None, None)
        );
        assert!(Codepoint::of(7, &[]).is_some_and(|it| it.is_init));
    }
}
