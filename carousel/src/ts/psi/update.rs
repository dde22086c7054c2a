//! Signalling of system software updates (SSU), as multiplexes announce them to receivers (TS 102 006).
//!
//! A linkage of type 0x09 in the NIT leads to the service with updates (clause 6.1); the `data_broadcast_id_descriptor` with
//! [`SOFTWARE_UPDATE`] in that service's PMT marks the stream (clause 7.1). Both name makers of receivers by their OUI, and may
//! have selector bytes whose meaning the maker defines.

use std::fmt;
use std::str::FromStr;

use crate::bytes::{Reader, WireError, Writer};

/// data_broadcast_id of system software updates.
pub const SOFTWARE_UPDATE: u16 = 0x000a;
/// linkage_type that leads to a service with updates (EN 300 468 clause 6.2.19).
pub(super) const LINKAGE_TYPE: u8 = 0x09;

/// Organizationally unique identifier of a maker of receivers, 24 bits (IEEE 802).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oui(u32);

impl Oui {
    /// DVB's own.
    pub const DVB: Self = Self(0x00_015a);

    /// From its 24 bits; those above are dropped.
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0x00ff_ffff)
    }

    /// Its 24 bits.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Oui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, a, b, c] = self.0.to_be_bytes();
        write!(f, "{a:02X}-{b:02X}-{c:02X}")
    }
}

/// Why a text is not an OUI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OuiError {
    /// Not six hexadecimal digits.
    Malformed(String),
    /// Zero, which names no maker.
    NoMaker(String),
}

impl fmt::Display for OuiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => {
                write!(f, "{text:?} is not an OUI: six hexadecimal digits such as 00-15-0A")
            }
            Self::NoMaker(text) => write!(
                f,
                "{text:?} names no maker; give its OUI such as 00-15-0A, or DVB's own, {}",
                Oui::DVB
            ),
        }
    }
}

impl std::error::Error for OuiError {}

impl FromStr for Oui {
    type Err = OuiError;

    /// `00-15-0A`, `00:15:0a` or `00150A`. Not zero, which is left where none was filled in.
    fn from_str(text: &str) -> Result<Self, OuiError> {
        let wrong = || OuiError::Malformed(text.to_owned());
        let digits: String = text.chars().filter(|it| !matches!(it, '-' | ':')).collect();
        if digits.len() != 6 || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        match u32::from_str_radix(&digits, 16) {
            Ok(0) => Err(OuiError::NoMaker(text.to_owned())),
            Ok(bits) => Ok(Self(bits)),
            Err(_) => Err(wrong()),
        }
    }
}

#[cfg(feature = "config")]
impl serde::Serialize for Oui {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for Oui {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Way in which an update travels (TS 102 006 table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateType {
    /// 0: as the maker defines.
    Proprietary,
    /// 1: a two-layer data carousel in this stream, without a notification table (simple profile).
    Carousel,
    /// 2: a notification table (UNT) in this stream has details (enhanced profile).
    Notified,
    /// 3: over a return channel, by a notification table.
    ReturnChannel,
    /// 4 to 15.
    Reserved(u8),
}

impl UpdateType {
    const fn of(bits: u8) -> Self {
        match bits & 15 {
            0 => Self::Proprietary,
            1 => Self::Carousel,
            2 => Self::Notified,
            3 => Self::ReturnChannel,
            other => Self::Reserved(other),
        }
    }

    /// The four bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Proprietary => 0,
            Self::Carousel => 1,
            Self::Notified => 2,
            Self::ReturnChannel => 3,
            Self::Reserved(bits) => bits & 15,
        }
    }
}

/// One maker's updates in a stream, by its PMT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftwareUpdate {
    /// Maker of the receivers.
    pub oui: Oui,
    /// Way in which the update travels.
    pub update_type: UpdateType,
    /// update_version, 0 to 31: another one with each change. `None`: versions are not signalled.
    pub version: Option<u8>,
    /// Bytes whose meaning the maker defines, 255 at most.
    pub selector: Vec<u8>,
}

/// Reads `system_software_update_info` (TS 102 006 table 4): the selector of the descriptor behind its id.
///
/// # Errors
/// If an entry leads out of it.
pub fn read_updates(selector: &[u8]) -> Result<Vec<SoftwareUpdate>, WireError> {
    let mut reader = Reader::new(selector);
    let length = usize::from(reader.u8("OUI_data_length")?);
    let mut entries = Reader::new(reader.take(length, "OUI data")?);
    let mut updates = Vec::new();
    while entries.remaining() > 0 {
        let oui = Oui::new(entries.uint::<3>("OUI")? as u32);
        let (update_type, version) = (entries.u8("update_type")?, entries.u8("update_version")?);
        let length = usize::from(entries.u8("selector_length")?);
        let selector = entries.take(length, "selector")?.to_vec();
        let version = (version & 0x20 != 0).then_some(version & 0x1f);
        updates.push(SoftwareUpdate { oui, update_type: UpdateType::of(update_type), version, selector });
    }
    Ok(updates)
}

/// Appends `system_software_update_info`.
///
/// # Errors
/// If entries do not fit the 255 bytes of their loop.
pub fn write_updates(out: &mut Vec<u8>, updates: &[SoftwareUpdate]) -> Result<(), WireError> {
    with_length8(out, |out| {
        for update in updates {
            let version = update.version.map_or(0xc0, |it| 0xe0 | it & 0x1f);
            Writer::new(out)
                .uint::<3>(u64::from(update.oui.get()))
                .u8(0xf0 | update.update_type.bits())
                .u8(version)
                .u8(length8(update.selector.len())?)
                .bytes(&update.selector);
        }
        Ok(())
    })
}

/// A service with updates, by a linkage of the NIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateLink {
    /// transport_stream_id, original_network_id and service_id.
    pub location: [u16; 3],
    /// Makers with their selector bytes.
    pub makers: Vec<(Oui, Vec<u8>)>,
}

impl UpdateLink {
    /// Reads the data of a `linkage_descriptor`; `None` if it is of another type.
    ///
    /// # Errors
    /// If an entry leads out of it.
    pub fn read(data: &[u8]) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(data);
        let location = [
            reader.u16("transport_stream_id")?,
            reader.u16("original_network_id")?,
            reader.u16("service_id")?,
        ];
        if reader.u8("linkage_type")? != LINKAGE_TYPE {
            return Ok(None);
        }
        let length = usize::from(reader.u8("OUI_data_length")?);
        let mut entries = Reader::new(reader.take(length, "OUI data")?);
        let mut makers = Vec::new();
        while entries.remaining() > 0 {
            let oui = Oui::new(entries.uint::<3>("OUI")? as u32);
            let length = usize::from(entries.u8("selector_length")?);
            makers.push((oui, entries.take(length, "selector")?.to_vec()));
        }
        Ok(Some(Self { location, makers }))
    }

    /// The data of the `linkage_descriptor`.
    ///
    /// # Errors
    /// If makers do not fit the 255 bytes of their loop.
    pub fn data(&self) -> Result<Vec<u8>, WireError> {
        let mut data = Vec::new();
        let [stream, network, service] = self.location;
        Writer::new(&mut data).u16(stream).u16(network).u16(service).u8(LINKAGE_TYPE);
        with_length8(&mut data, |data| {
            for (oui, selector) in &self.makers {
                Writer::new(data)
                    .uint::<3>(u64::from(oui.get()))
                    .u8(length8(selector.len())?)
                    .bytes(selector);
            }
            Ok(())
        })?;
        Ok(data)
    }
}

fn length8(length: usize) -> Result<u8, WireError> {
    let clause = "TS 102 006 clauses 6.1 and 7.1";
    u8::try_from(length).map_err(|_| WireError::Illegal {
        what: "OUI data or selector length",
        value: length as u64,
        clause,
    })
}

/// A loop behind 8 bits of length.
fn with_length8(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    out.push(0);
    write(out)?;
    out[start] = length8(out.len() - start - 1)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two makers, one with a version and a selector, and private data behind them.
    #[test]
    fn entries_have_the_bytes_of_table_4() {
        let bytes = [15, 0x00, 0x15, 0x0a, 0xf1, 0xe3, 3, 1, 2, 3, 0x00, 0x01, 0x5a, 0xf2, 0xc0, 0, 0xaa];
        let updates = read_updates(&bytes).unwrap();
        let first = SoftwareUpdate {
            oui: "00-15-0A".parse().unwrap(),
            update_type: UpdateType::Carousel,
            version: Some(3),
            selector: vec![1, 2, 3],
        };
        let second = SoftwareUpdate {
            oui: Oui::DVB,
            update_type: UpdateType::Notified,
            version: None,
            selector: Vec::new(),
        };
        assert_eq!(updates, [first, second]);
        let mut out = Vec::new();
        write_updates(&mut out, &updates).unwrap();
        // Bytes behind the loop are private data.
        assert_eq!(out, bytes[..16]);
        assert!(read_updates(&bytes[..9]).is_err());
    }

    #[test]
    fn a_linkage_leads_to_a_service_and_other_types_are_skipped() {
        let data = [0x03, 0xe9, 0x00, 0x01, 0x13, 0x89, 0x09, 5, 0x00, 0x15, 0x0a, 1, 7];
        let link = UpdateLink::read(&data).unwrap().unwrap();
        assert_eq!((link.location, &link.makers[..]), ([1001, 1, 5001], &[(Oui::new(0x150a), vec![7])][..]));
        assert_eq!(link.data().unwrap(), data);
        let other = [0x03, 0xe9, 0x00, 0x01, 0x13, 0x89, 0x0b, 4, 0, 0, 1, 0];
        assert_eq!(UpdateLink::read(&other), Ok(None));
    }

    #[test]
    fn an_oui_is_read_as_people_write_it() {
        for text in ["00-15-0A", "00:15:0a", "00150A"] {
            assert_eq!(text.parse::<Oui>().unwrap().to_string(), "00-15-0A");
        }
        for text in ["", "00-15", "00-15-0A-1", "00-15-0G", "+0150A"] {
            assert!(text.parse::<Oui>().is_err(), "{text}");
        }
        for text in ["00-00-00", "000000"] {
            let why = text.parse::<Oui>().unwrap_err().to_string();
            assert!(why.contains("names no maker") && why.contains("00-01-5A"), "{why}");
        }
    }

    #[test]
    fn entries_that_do_not_fit_are_refused() {
        let update = |length| SoftwareUpdate {
            oui: Oui::DVB,
            update_type: UpdateType::Reserved(9),
            version: None,
            selector: vec![0; length],
        };
        let mut out = Vec::new();
        assert!(write_updates(&mut out, &[update(249)]).is_ok());
        assert!(write_updates(&mut out, &[update(250)]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(updates) = read_updates(&bytes) {
                let mut out = Vec::new();
                write_updates(&mut out, &updates).unwrap();
                prop_assert_eq!(read_updates(&out).unwrap(), updates);
            }
            if let Ok(Some(link)) = UpdateLink::read(&bytes) {
                prop_assert_eq!(UpdateLink::read(&link.data().unwrap()).unwrap().unwrap(), link);
            }
        }
    }
}
