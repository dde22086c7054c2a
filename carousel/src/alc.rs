//! Asynchronous Layered Coding (RFC 5775): an LCT header, a FEC Payload ID, encoding symbols, in one datagram.
//!
//! The payload ID's form depends on the FEC scheme, which FLUTE puts into the codepoint; ROUTE has its own. So a
//! [`Packet`] keeps payload ID and symbols together as `body` until somebody knows.

use crate::bytes::WireError;
use crate::lct::LctHeader;
use crate::lct::ext::{Extension, Extensions, het};

/// One ALC packet: header, the two extensions that every packet is looked at for, and the rest.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The LCT header.
    pub lct: LctHeader<'a>,
    /// Content of EXT_FTI, if there is one.
    pub fti: Option<&'a [u8]>,
    /// Content of EXT_FDT, if there is one.
    pub fdt: Option<&'a [u8]>,
    /// FEC Payload ID and encoding symbols; empty in pure control packets (close session, NACI alone).
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a UDP payload.
    ///
    /// # Errors
    /// As [`LctHeader::split`], and for a malformed walk over the header extensions.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let (lct, body) = LctHeader::split(datagram)?;
        let (mut fti, mut fdt) = (None, None);
        for extension in Extensions::new(lct.extensions) {
            match extension? {
                Extension { het: het::FTI, body } => fti = Some(body),
                Extension { het: het::FDT, body } => fdt = Some(body),
                _ => {}
            }
        }
        Ok(Self { lct, fti, fdt, body })
    }

    /// The extension of this type, if there is one.
    pub fn extension(&self, het: u8) -> Option<&'a [u8]> {
        Extensions::new(self.lct.extensions)
            .flatten()
            .find(|extension| extension.het == het)
            .map(|found| found.body)
    }
}
