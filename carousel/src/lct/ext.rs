//! LCT header extensions (RFC 5651 section 5.2): the walk over them, and those that we read or write.
//!
//! HET 0–127 are variable: `HET, HEL, …` with HEL in 32-bit words including the first; HET 128–255 are one word.
//! Unknown ones are skipped and stay in [`super::LctHeader::extensions`]. HEL = 0 would loop forever: malformed.

use crate::bytes::{Reader, WireError, Writer};
use crate::time::WallTime;

/// Header Extension Types: one table of value, name and where it is defined.
pub mod het {
    /// EXT_NOP, RFC 5651.
    pub const NOP: u8 = 0;
    /// EXT_AUTH, RFC 6584 and 5776.
    pub const AUTH: u8 = 1;
    /// EXT_TIME, RFC 5651.
    pub const TIME: u8 = 2;
    /// EXT_FTI, RFC 5775.
    pub const FTI: u8 = 64;
    /// EXT_ROUTE_PRESENTATION_TIME, A/331.
    pub const ROUTE_PRESENTATION_TIME: u8 = 66;
    /// EXT_TOL with 48 bits, A/331.
    pub const TOL_48: u8 = 67;
    /// NIP Actual Carrier Information, TS 103 876 clause 8.7.3.
    pub const NACI: u8 = 68;
    /// EXT_FDT, RFC 6726.
    pub const FDT: u8 = 192;
    /// EXT_CENC, RFC 6726.
    pub const CENC: u8 = 193;
    /// EXT_TOL with 24 bits, A/331.
    pub const TOL_24: u8 = 194;
}

/// One extension: its type and the bytes after HET (and HEL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Header Extension Type.
    pub het: u8,
    /// Content: 3 bytes for HET ≥ 128, else 4·HEL − 2.
    pub body: &'a [u8],
}

/// Walks header extensions; ends after the first error.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Over the bytes of [`super::LctHeader::extensions`].
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&het, after) = self.rest.split_first()?;
        let (skip, length) = match (het, after.first()) {
            (128.., _) => (1, 4),
            (_, Some(&hel)) => (2, usize::from(hel) * 4),
            (_, None) => (2, 4),
        };
        if length == 0 || length > self.rest.len() {
            let have = self.rest.len();
            self.rest = &[];
            return Some(Err(if length == 0 {
                WireError::Illegal { what: "HEL", value: 0, clause: "RFC 5651 section 5.2" }
            } else {
                WireError::Short { what: "header extension", need: length, have }
            }));
        }
        let (whole, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Ok(Extension { het, body: &whole[skip..] }))
    }
}

/// Appends a variable extension (HET < 128), zero-padded to whole words.
///
/// # Errors
/// `Illegal` if it would need more than 255 words.
pub fn write_variable(out: &mut Vec<u8>, het: u8, body: &[u8]) -> Result<(), WireError> {
    let words = (body.len() + 2).div_ceil(4);
    let hel = u8::try_from(words).map_err(|_| WireError::Illegal {
        what: "HEL",
        value: words as u64,
        clause: "RFC 5651 section 5.2",
    })?;
    Writer::new(out).u8(het).u8(hel).bytes(body).bytes(&[0; 3][..words * 4 - 2 - body.len()]);
    Ok(())
}

/// Appends a fixed extension (HET ≥ 128) with 24 bits of content.
pub fn write_fixed(out: &mut Vec<u8>, het: u8, content: u32) {
    Writer::new(out).u8(het).uint::<3>(u64::from(content));
}

/// EXT_FDT (RFC 6726 section 3.4.1): which FDT Instance a packet of TOI 0 belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fdt {
    /// FLUTE version: 1 (RFC 3926) or 2 (RFC 6726).
    pub version: u8,
    /// FDT Instance ID, 20 bits.
    pub instance_id: u32,
}

impl Fdt {
    /// Reads the content of HET 192.
    ///
    /// # Errors
    /// `Short` if it is not 3 bytes; `Unsupported` for versions other than 1 and 2.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let word = Reader::new(body).uint::<3>("EXT_FDT")? as u32;
        match word >> 20 {
            version @ 1..=2 => Ok(Self { version: version as u8, instance_id: word & 0xf_ffff }),
            version => Err(WireError::Unsupported { what: "FLUTE version", value: u64::from(version) }),
        }
    }

    /// Appends it.
    pub fn write(self, out: &mut Vec<u8>) {
        write_fixed(out, het::FDT, u32::from(self.version) << 20 | self.instance_id & 0xf_ffff);
    }
}

/// EXT_TIME (RFC 5651 section 5.2.2): the sender's clock and what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Sender Current Time, NTP seconds.
    pub sct_seconds: Option<u32>,
    /// Sender Current Time, NTP fraction; only with the seconds.
    pub sct_fraction: Option<u32>,
    /// Expected residual time of the object in seconds.
    pub residual_s: Option<u32>,
    /// Session last changed, NTP seconds.
    pub session_changed: Option<u32>,
}

impl Time {
    /// Only the sender's current time.
    pub const fn now(now: WallTime) -> Self {
        Self {
            sct_seconds: Some(now.ntp_seconds()),
            sct_fraction: Some(now.ntp_fraction()),
            residual_s: None,
            session_changed: None,
        }
    }

    /// Reads the content of HET 2.
    ///
    /// # Errors
    /// `Short` if a flag promises a value that is not there; `Illegal` for SCT-Low without SCT-High.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let flags = reader.u16("EXT_TIME use")?;
        let mut value = |bit: u16| match flags & bit {
            0 => Ok(None),
            _ => reader.u32("EXT_TIME value").map(Some),
        };
        let time = Self {
            sct_seconds: value(0x8000)?,
            sct_fraction: value(0x4000)?,
            residual_s: value(0x2000)?,
            session_changed: value(0x1000)?,
        };
        if time.sct_fraction.is_some() && time.sct_seconds.is_none() {
            let value = u64::from(flags);
            return Err(WireError::Illegal { what: "EXT_TIME use", value, clause: "RFC 5651 section 5.2.2" });
        }
        Ok(time)
    }

    /// Appends it.
    pub fn write(self, out: &mut Vec<u8>) {
        let values = [self.sct_seconds, self.sct_fraction, self.residual_s, self.session_changed];
        let flags = values.iter().zip([0x8000_u16, 0x4000, 0x2000, 0x1000]);
        let flags = flags.fold(0, |all, (value, bit)| if value.is_some() { all | bit } else { all });
        let count = values.iter().flatten().count() as u8;
        let mut writer = Writer::new(out);
        writer.u8(het::TIME).u8(1 + count).u16(flags);
        for value in values.into_iter().flatten() {
            writer.u32(value);
        }
    }
}

/// NIP Actual Carrier Information (TS 103 876 clause 8.7.3): which NIP stream the receiver is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Naci {
    /// NIPNetworkID.
    pub network_id: u16,
    /// NIPCarrierID.
    pub carrier_id: u16,
    /// NIPLinkID.
    pub link_id: u16,
    /// NIPServiceID.
    pub service_id: u16,
    /// NIPStreamProviderName, at most 255 bytes of UTF-8.
    pub provider: String,
}

impl Naci {
    /// Reads the content of HET 68. The byte before the name's length has no known meaning and is skipped.
    ///
    /// # Errors
    /// `Short` if the name is longer than the extension.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let mut id = || reader.u16("NACI identifier");
        let (network_id, carrier_id, link_id, service_id) = (id()?, id()?, id()?, id()?);
        reader.u8("NACI reserved")?;
        let length = usize::from(reader.u8("NACI name length")?);
        let provider = String::from_utf8_lossy(reader.take(length, "NACI provider name")?).into_owned();
        Ok(Self { network_id, carrier_id, link_id, service_id, provider })
    }

    /// Appends it.
    ///
    /// # Errors
    /// `Illegal` if the name is longer than 255 bytes.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let length = u8::try_from(self.provider.len()).map_err(|_| WireError::Illegal {
            what: "NACI name length",
            value: self.provider.len() as u64,
            clause: "TS 103 876 clause 8.7.3",
        })?;
        let mut body = Vec::with_capacity(10 + self.provider.len());
        let mut writer = Writer::new(&mut body);
        writer.u16(self.network_id).u16(self.carrier_id).u16(self.link_id).u16(self.service_id);
        writer.u8(0).u8(length).bytes(self.provider.as_bytes());
        write_variable(out, het::NACI, &body)
    }
}

/// Transport length of EXT_TOL in either width.
///
/// # Errors
/// `Short` if the extension is cut.
pub fn parse_tol(extension: Extension<'_>) -> Result<u64, WireError> {
    let mut reader = Reader::new(extension.body);
    if extension.het == het::TOL_24 { reader.uint::<3>("EXT_TOL") } else { reader.uint::<6>("EXT_TOL") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hel_of_zero_ends_the_walk() {
        let all: Vec<_> = Extensions::new(&[0, 0, 0, 0, 192, 0, 0, 0]).collect();
        assert_eq!(all.len(), 1);
        assert!(matches!(all[0], Err(WireError::Illegal { what: "HEL", value: 0, .. })));
    }

    #[test]
    fn unknown_extensions_are_skipped() {
        let bytes = [77, 2, 1, 2, 3, 4, 5, 6, 200, 1, 2, 3, 192, 0x10, 0, 7];
        let all: Vec<_> = Extensions::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], Extension { het: 77, body: &[1, 2, 3, 4, 5, 6] });
        assert_eq!(Fdt::parse(all[2].body), Ok(Fdt { version: 1, instance_id: 7 }));
    }

    #[test]
    fn an_extension_longer_than_the_header_is_short() {
        let all: Vec<_> = Extensions::new(&[64, 4, 0, 0]).collect();
        assert_eq!(all, [Err(WireError::Short { what: "header extension", need: 16, have: 4 })]);
        assert_eq!(Extensions::new(&[64]).count(), 1);
    }

    #[test]
    fn time_naci_and_fdt_survive_the_trip() {
        let mut out = Vec::new();
        let time = Time::now(WallTime::from_unix_ms(1_795_219_200_500));
        time.write(&mut out);
        let naci = Naci {
            network_id: 318,
            carrier_id: 7600,
            link_id: 0,
            service_id: 17702,
            provider: "EUTELSAT".into(),
        };
        naci.write(&mut out).unwrap();
        Fdt { version: 2, instance_id: 0xf_ffff }.write(&mut out);
        let all: Vec<_> = Extensions::new(&out).map(Result::unwrap).collect();
        assert_eq!(Time::parse(all[0].body), Ok(time));
        assert_eq!(time.sct_fraction, Some(1 << 31));
        assert_eq!(Naci::parse(all[1].body), Ok(naci));
        assert_eq!(Fdt::parse(all[2].body), Ok(Fdt { version: 2, instance_id: 0xf_ffff }));
        for version in [0, 3, 15] {
            assert!(Fdt::parse(&[version << 4, 0, 1]).is_err(), "{version}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_loop(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            for extension in Extensions::new(&bytes).flatten() {
                let _ = (Fdt::parse(extension.body), Time::parse(extension.body), Naci::parse(extension.body), parse_tol(extension));
            }
        }
    }
}
