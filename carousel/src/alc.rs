//! Asynchronous Layered Coding (RFC 5775): an LCT header, a FEC Payload ID, encoding symbols, in one datagram.
//!
//! The payload ID's form depends on the FEC scheme, which FLUTE puts into the codepoint; ROUTE has its own. A [`Packet`] keeps
//! payload ID and symbols together as `body` until the scheme is known.
//!
//! Packets of one object differ behind their header only, so that a [`Template`] of the last one spares reading most of them.

use std::ops::Range;

use crate::bytes::WireError;
use crate::lct::ext::{Extension, Extensions, het};
use crate::lct::{LctHeader, Toi, Tsi};

/// One ALC packet: header, the two extensions that are read from every packet, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Bytes of a header that a [`Template`] remembers: 32-bit fields, EXT_FTI and one more extension.
const TEMPLATE_BYTES: usize = 64;

/// The header of the last packet, as bytes and as it was read.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: [u8; TEMPLATE_BYTES],
    /// Bytes of the header; 0: none is remembered.
    length: usize,
    cci: Range<usize>,
    extensions: Range<usize>,
    fti: Option<Range<usize>>,
    fdt: Option<Range<usize>>,
    /// Its fields; those that borrow are empty.
    lct: LctHeader<'static>,
}

impl Default for Template {
    fn default() -> Self {
        let lct = LctHeader { cci: &[], ..LctHeader::new(Tsi(0), Toi(0)) };
        Self { bytes: [0; TEMPLATE_BYTES], length: 0, cci: 0..0, extensions: 0..0, fti: None, fdt: None, lct }
    }
}

impl Template {
    /// Reads a UDP payload as [`Packet::parse`] does; quicker where its header is byte for byte that of the packet before.
    ///
    /// # Errors
    /// As [`Packet::parse`].
    #[inline]
    pub fn parse<'a>(&mut self, datagram: &'a [u8]) -> Result<Packet<'a>, WireError> {
        if self.length > 0
            && let Some((header, body)) = datagram.split_at_checked(self.length)
            && is_same(header, &self.bytes)
        {
            let part = |range: &Range<usize>| header.get(range.clone());
            let lct = LctHeader {
                cci: part(&self.cci).unwrap_or_default(),
                extensions: part(&self.extensions).unwrap_or_default(),
                ..self.lct
            };
            let (fti, fdt) = (self.fti.as_ref().and_then(part), self.fdt.as_ref().and_then(part));
            return Ok(Packet { lct, fti, fdt, body });
        }
        self.learn(datagram)
    }

    fn learn<'a>(&mut self, datagram: &'a [u8]) -> Result<Packet<'a>, WireError> {
        let packet = Packet::parse(datagram)?;
        let length = datagram.len() - packet.body.len();
        self.length = 0;
        if let Some(bytes) = self.bytes.get_mut(..length) {
            bytes.copy_from_slice(&datagram[..length]);
            self.length = length;
            let range = |part: &[u8]| {
                let start = part.as_ptr() as usize - datagram.as_ptr() as usize;
                start..start + part.len()
            };
            (self.cci, self.extensions) = (range(packet.lct.cci), range(packet.lct.extensions));
            (self.fti, self.fdt) = (packet.fti.map(range), packet.fdt.map(range));
            self.lct = LctHeader { cci: &[], extensions: &[], ..packet.lct };
        }
        Ok(packet)
    }
}

/// Whether the remembered bytes begin with `header`; without a call for the lengths that senders use: 32-bit fields with EXT_FTI
/// and without, 16-bit fields with EXT_FTI.
#[inline]
fn is_same(header: &[u8], bytes: &[u8; TEMPLATE_BYTES]) -> bool {
    match header.len() {
        32 => header.first_chunk::<32>() == bytes.first_chunk(),
        28 => header.first_chunk::<28>() == bytes.first_chunk(),
        16 => header.first_chunk::<16>() == bytes.first_chunk(),
        length => bytes.get(..length) == Some(header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lct::Widths;
    use proptest::prelude::*;

    fn datagram(toi: u128, extensions: &[u8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        LctHeader { extensions, ..LctHeader::new(Tsi(7), Toi(toi)) }.write(&mut out).unwrap();
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_header_like_the_last_one_is_not_read_again_and_one_that_differs_in_a_byte_is() {
        let fti = [64, 4, 0, 0, 0, 0, 16, 0, 0, 0, 5, 0x78, 0, 0, 0, 9];
        let mut template = Template::default();
        for (number, toi) in [(1, 3), (2, 3), (3, 4), (4, 4), (5, 3)] {
            let bytes = datagram(toi, &fti, &[number; 20]);
            let packet = template.parse(&bytes).unwrap();
            assert_eq!(packet, Packet::parse(&bytes).unwrap());
            assert_eq!(
                (packet.lct.toi, packet.fti.unwrap().len(), packet.body),
                (Some(Toi(toi)), 14, &[number; 20][..])
            );
        }
        // Neither a shorter datagram nor a longer header is taken for the last one.
        assert!(template.parse(&datagram(3, &fti, &[])[..20]).is_err());
        let long = datagram(3, &[[200, 0, 0, 0]; 20].concat(), &[1]);
        assert_eq!(template.parse(&long), Packet::parse(&long));
        let again = template.parse(&long).unwrap();
        assert_eq!((again.lct.extensions.len(), again.body), (80, &[1][..]));
    }

    proptest! {
        /// Few values, so that headers repeat and differ in all places.
        #[test]
        fn a_template_reads_what_a_parser_reads(
            packets in proptest::collection::vec((0_u128..2, 0_u8..3, 0_usize..5, 0_u8..4, any::<bool>(), 0_usize..8), 1..40)
        ) {
            let mut template = Template::default();
            for (toi, words, extensions, flags, half_word, cut) in packets {
                let widths = Widths { toi_words: words % 3, half_word, tsi_words: 1 };
                let extensions = [200, flags, 0, 1].repeat(extensions);
                let header = LctHeader {
                    widths,
                    extensions: &extensions,
                    close_object: flags == 3,
                    toi: (widths.toi_bytes() > 0).then_some(Toi(toi)),
                    ..LctHeader::new(Tsi(7), Toi(toi))
                };
                let mut bytes = Vec::new();
                header.write(&mut bytes).unwrap();
                bytes.extend_from_slice(&[1; 6]);
                bytes.truncate(bytes.len() - cut);
                prop_assert_eq!(template.parse(&bytes), Packet::parse(&bytes));
            }
        }
    }
}
