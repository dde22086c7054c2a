//! Writer of the packets of one ROUTE session.
//!
//! Objects are sent as they become available: [`Sender::write_source`] takes any piece of one, with the object's length as
//! soon as it is known. Receivers that have lost the last packets still learn the length from EXT_TOL of repair packets.

use std::fmt;
use std::io::Write as _;

use super::{
    Codepoint, LENGTH_BYTES, RouteSession, SIGNALLING_TSI, STSID_TYPE, Stsid, package, protected_oti,
};
use crate::bytes::Writer;
use crate::fec::{BlockCode, CodeError, EncodingId, Oti, Partition, SchemeInfo};
use crate::lct::ext::{het, write_fixed, write_variable};
use crate::lct::{LctHeader, Toi, Tsi};

/// Largest start_offset, and the largest object.
const MAX_OFFSET: u64 = u32::MAX as u64;
/// TOI bits of signalling packages (A/331 Annex C; GPAC): compressed, S-TSID inside, MPD inside.
const TOI_GZIP: u128 = 1 << 31;
const TOI_STSID: u128 = 1 << 17;
const TOI_MPD: u128 = 1 << 18;
/// Maximum length of protected objects, in one source block, which small receivers can decode.
const BLOCK_BYTES: u64 = 32 << 20;

/// Error of writing a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderError {
    /// Offsets have 32 bits.
    TooLong(u64),
    /// A TSI or TOI has more than 32 bits.
    Identifier,
    /// The code does not support objects of this length.
    Code(CodeError),
    /// Compression failed.
    Gzip,
}

impl fmt::Display for SenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "ROUTE has offsets of 32 bits; the object has {bytes} bytes"),
            Self::Identifier => f.write_str("ROUTE has TSIs and TOIs of 32 bits"),
            Self::Code(err) => err.fmt(f),
            Self::Gzip => f.write_str("the signalling cannot be compressed"),
        }
    }
}

impl std::error::Error for SenderError {}

/// Writer of the source, repair and signalling packets of one session; holds no object bytes.
#[derive(Debug, Clone)]
pub struct Sender {
    payload_bytes: usize,
    package_version: u8,
    package: Vec<u8>,
    package_toi: Toi,
}

impl Sender {
    /// A sender with at most this number of object bytes in a packet.
    pub const fn new(payload_bytes: usize) -> Self {
        Self { payload_bytes, package_version: 0, package: Vec::new(), package_toi: Toi(0) }
    }

    /// Maximum object bytes in a packet.
    pub const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Writes a packet with a piece of an object. `length` is that of the object, once it is known; the packet with its last
    /// byte gets the B flag.
    ///
    /// # Errors
    /// `TooLong`, `Identifier`.
    pub fn write_source(
        &self,
        (tsi, toi): (u64, Toi),
        codepoint: u8,
        offset: u64,
        length: Option<u64>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SenderError> {
        let end = offset + payload.len() as u64;
        if end.max(length.unwrap_or(0)) > MAX_OFFSET {
            return Err(SenderError::TooLong(end.max(length.unwrap_or(0))));
        }
        header((tsi, toi), 2, codepoint, length, length == Some(end), out)?;
        Writer::new(out).u32(offset as u32).bytes(payload);
        Ok(())
    }

    /// Writes a packet with a repair symbol of an object of `length` bytes.
    ///
    /// # Errors
    /// `Identifier`.
    pub fn write_repair(
        &self,
        (tsi, toi): (u64, Toi),
        length: u64,
        (sbn, esi): (u8, u32),
        symbol: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SenderError> {
        header((tsi, toi), 0, 0, Some(length), false, out)?;
        Writer::new(out).u8(sbn).uint::<3>(u64::from(esi)).bytes(symbol);
        Ok(())
    }

    /// Writes the packet that signals the end of the session; send it repeatedly.
    ///
    /// # Errors
    /// `Identifier`.
    pub fn write_close(&self, tsi: u64, out: &mut Vec<u8>) -> Result<(), SenderError> {
        out.clear();
        let tsi = Tsi(u32::try_from(tsi).map_err(|_| SenderError::Identifier)?.into());
        let header = LctHeader { psi: 2, close_session: true, ..LctHeader::new(tsi, Toi(0)) };
        header.write(out).map_err(|_| SenderError::Identifier)
    }

    /// Sets the signalling: S-TSID and documents (type, name, bytes). Its version changes with its content.
    ///
    /// # Errors
    /// `Gzip`, `TooLong`.
    pub fn set_signalling(
        &mut self,
        session: RouteSession,
        documents: &[(&str, &str, &[u8])],
    ) -> Result<(), SenderError> {
        let stsid = Stsid { sessions: vec![session], left_out: 0 }.to_xml();
        let mut parts = vec![(STSID_TYPE, "stsid.xml", stsid.as_bytes())];
        parts.extend_from_slice(documents);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&package::write(&parts)).map_err(|_| SenderError::Gzip)?;
        let package = encoder.finish().map_err(|_| SenderError::Gzip)?;
        if package.len() as u64 > package::MAX_PACKAGE_BYTES {
            return Err(SenderError::TooLong(package.len() as u64));
        }
        if package != self.package {
            self.package_version = self.package_version.wrapping_add(1);
            let mpd = if documents.is_empty() { 0 } else { TOI_MPD };
            self.package_toi = Toi(TOI_GZIP | TOI_STSID | mpd | u128::from(self.package_version));
            self.package = package;
        }
        Ok(())
    }

    /// Version of the signalling.
    pub const fn package_version(&self) -> u8 {
        self.package_version
    }

    /// Sets the last used version: another sender has used those up to it, so the next signalling gets the following one.
    pub fn go_on_from(&mut self, version: u8) {
        self.package_version = version;
        self.package = Vec::new();
    }

    /// Calls `each` with the packets of the signalling.
    ///
    /// # Errors
    /// As [`Sender::write_source`].
    pub fn signalling(&self, mut each: impl FnMut(&[u8])) -> Result<(), SenderError> {
        let (length, mut out) = (self.package.len() as u64, Vec::new());
        for (at, payload) in self.package.chunks(self.payload_bytes.max(1)).enumerate() {
            let offset = (at * self.payload_bytes) as u64;
            let id = (SIGNALLING_TSI, self.package_toi);
            self.write_source(id, Codepoint::PACKAGE, offset, Some(length), payload, &mut out)?;
            each(&out);
        }
        Ok(())
    }

    /// The repair flow's OTI for symbols of `symbol_length` bytes: RaptorQ in one source block, of any object.
    pub const fn repair_oti(symbol_length: u16) -> Oti {
        Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 1 },
            ..Oti::no_code(0, symbol_length, 0)
        }
    }

    /// Calls `each` with a number of repair symbols of an object: SBN, ESI and symbol.
    ///
    /// # Errors
    /// `Code` if the object is too large for one block of [`Sender::repair_oti`].
    pub fn repair_symbols(
        oti: &Oti,
        object: &[u8],
        count: u32,
        mut each: impl FnMut((u8, u32), &[u8]),
    ) -> Result<(), SenderError> {
        let oti = protected_oti(oti, object.len() as u64);
        if oti.transfer_length > BLOCK_BYTES {
            return Err(SenderError::Code(CodeError::TooLarge));
        }
        let partition = Partition::new(&oti).map_err(|_| SenderError::Code(CodeError::SymbolLength))?;
        let k = partition.block_symbols(0);
        let code = BlockCode::new(&oti, k).map_err(SenderError::Code)?;
        let mut protected = object.to_vec();
        protected.resize((oti.transfer_length - LENGTH_BYTES) as usize, 0);
        protected.extend_from_slice(&(object.len() as u32).to_be_bytes());
        let mut encoder = code.encoder(&protected);
        for esi in k..k.saturating_add(count) {
            if let Some(symbol) = encoder.repair(esi) {
                each((0, esi), &symbol);
            }
        }
        Ok(())
    }
}

fn header(
    (tsi, toi): (u64, Toi),
    psi: u8,
    codepoint: u8,
    length: Option<u64>,
    close_object: bool,
    out: &mut Vec<u8>,
) -> Result<(), SenderError> {
    out.clear();
    let mut extensions = Vec::new();
    match length {
        Some(length @ 0..=0xff_ffff) => write_fixed(&mut extensions, het::TOL_24, length as u32),
        Some(length) => write_variable(&mut extensions, het::TOL_48, &length.to_be_bytes()[2..])
            .map_err(|_| SenderError::TooLong(length))?,
        None => {}
    }
    let tsi = Tsi(u32::try_from(tsi).map_err(|_| SenderError::Identifier)?.into());
    let header =
        LctHeader { psi, codepoint, close_object, extensions: &extensions, ..LctHeader::new(tsi, toi) };
    header.write(out).map_err(|_| SenderError::Identifier)
}
