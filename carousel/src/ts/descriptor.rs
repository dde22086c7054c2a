//! Descriptors: tag, length, data (ISO/IEC 13818-1 clause 2.6; EN 300 468 clause 6).

use crate::bytes::{Reader, WireError};

/// `carousel_identifier_descriptor` (ISO/IEC 13818-6).
pub const CAROUSEL_IDENTIFIER: u8 = 0x13;
/// `association_tag_descriptor` (ISO/IEC 13818-6).
pub const ASSOCIATION_TAG: u8 = 0x14;
/// `network_name_descriptor`.
pub const NETWORK_NAME: u8 = 0x40;
/// `service_list_descriptor`.
pub const SERVICE_LIST: u8 = 0x41;
/// `satellite_delivery_system_descriptor`.
pub const SATELLITE_DELIVERY: u8 = 0x43;
/// `service_descriptor`.
pub const SERVICE: u8 = 0x48;
/// `linkage_descriptor`.
pub const LINKAGE: u8 = 0x4a;
/// `stream_identifier_descriptor`.
pub const STREAM_IDENTIFIER: u8 = 0x52;
/// `local_time_offset_descriptor`.
pub const LOCAL_TIME_OFFSET: u8 = 0x58;
/// `data_broadcast_descriptor`.
pub const DATA_BROADCAST: u8 = 0x64;
/// `data_broadcast_id_descriptor`.
pub const DATA_BROADCAST_ID: u8 = 0x66;

/// Most bytes of one descriptor's data.
pub const MAX_DATA_BYTES: usize = 255;

/// Walks a loop of descriptors; what does not fit its own length ends it.
pub fn descriptors(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let tag = reader.u8("descriptor tag").ok()?;
        let length = reader.u8("descriptor length").ok()?;
        Some((tag, reader.take(usize::from(length), "descriptor").ok()?))
    })
}

/// The data of the first descriptor with this tag.
pub fn find(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    descriptors(bytes).find(|(it, _)| *it == tag).map(|(_, data)| data)
}

/// Appends a descriptor.
///
/// # Errors
/// `Illegal` if `data` is longer than 255 bytes; nothing is appended then.
pub fn write(out: &mut Vec<u8>, tag: u8, data: &[u8]) -> Result<(), WireError> {
    let length = u8::try_from(data.len()).map_err(|_| WireError::Illegal {
        what: "descriptor length",
        value: data.len() as u64,
        clause: "ISO/IEC 13818-1 clause 2.6",
    })?;
    out.extend_from_slice(&[tag, length]);
    out.extend_from_slice(data);
    Ok(())
}

/// Text as EN 300 468 Annex A has it: ASCII as it is, everything else as UTF-8 behind 0x15. Cut at `most` bytes, between
/// characters.
pub fn text(text: &str, most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if !text.is_ascii() {
        out.push(0x15);
    }
    for character in text.chars().filter(|it| !it.is_control()) {
        if out.len() + character.len_utf8() > most {
            break;
        }
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out
}

/// Reads such text. UTF-8 (0x15) and ISO 6937's ASCII part are read; other tables as Latin-1, which names Europe's
/// broadcasters well enough for a report.
pub fn read_text(bytes: &[u8]) -> String {
    match bytes {
        [0x15, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0x10, _, _, rest @ ..] | [0x01..=0x0f, rest @ ..] | rest => rest
            .iter()
            .filter(|&&byte| !matches!(byte, 0..=0x1f | 0x7f..=0x9f))
            .map(|&byte| char::from(byte))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_end_where_they_lie() {
        let mut bytes = Vec::new();
        write(&mut bytes, 0x52, &[0x0b]).unwrap();
        write(&mut bytes, 0x66, &[0, 7]).unwrap();
        bytes.extend_from_slice(&[0x13, 200, 0]);
        assert_eq!(descriptors(&bytes).collect::<Vec<_>>(), [(0x52, &[0x0b][..]), (0x66, &[0, 7])]);
        assert!(write(&mut bytes, 1, &[0; 256]).is_err());
    }

    #[test]
    fn text_goes_both_ways_and_is_cut_between_characters() {
        for name in ["Skycache", "Süddeutsche", "東京"] {
            assert_eq!(read_text(&text(name, 255)), name);
        }
        assert_eq!(read_text(&text("Süü", 4)), "Sü");
        assert_eq!(read_text(b"\x05Bras\xedlia\x87"), "Brasília");
    }
}
