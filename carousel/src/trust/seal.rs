//! Seals: signatures inside of the documents that they sign.
//!
//! ```text
//! <FDT-Instance … sky:Signature="base64 of the seal" …>      one attribute that other receivers pass over
//!
//! format 1 │ flags │ certificate │ [revocation list] │ version, floor, page, issued, until │ TSI │ service, stream │ signature
//! ```
//!
//! A document that is not XML follows its seal: `SKYS`, the length of the seal in 16 bits, the seal, the document.
//!
//! The signature covers the context, the kind of document, the SHA-256 of the document without the attribute's value, and all
//! fields before it. The attribute may occur only once in the document, so that the place of the value is unambiguous.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::keys::{Certificate, RevocationList, SecretKey, text};
use crate::bytes::{Reader, WireError, Writer};
use crate::digest::{Digest, from_base64, to_base64};
use crate::limits::cut;
use crate::time::WallTime;

/// The attribute up to its value. Documents declare the prefix `sky` for [`NAMESPACE`].
const ATTRIBUTE: &str = " sky:Signature=\"";
/// The attribute without a value, in a document before it is sealed.
pub const BLANK: &str = " sky:Signature=\"\"";
/// Namespace of our attributes.
pub const NAMESPACE: &str = "urn:skycache:flute:fdt:2026";

/// First bytes of a sealed document that is not XML.
const MAGIC: &[u8; 4] = b"SKYS";

const CONTEXT: &[u8] = b"skycache seal 1\0";
/// Beginning of the root element.
const ROOT: &[u8] = b"<FDT-Instance";
const FORMAT: u8 = 1;
const HAS_REVOCATIONS: u8 = 1;
/// Longest name of a service or stream.
const NAME_BYTES: usize = 255;
/// Longest seal: a certificate with all its names and a full revocation list.
const SEAL_TEXT_BYTES: usize = 8 << 10;

/// First bytes of an XML document in which its seal begins.
const HEAD_BYTES: usize = 8 << 10;

/// Kind of a sealed document; a seal of one kind is not valid for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An FDT Instance.
    Fdt = 1,
    /// The list of modules of a DSM-CC carousel.
    Modules = 2,
    /// A command to receivers.
    Command = 3,
    /// The list of firmware updates that are offered to receivers.
    Firmware = 4,
}

/// The stream of documents that a document belongs to. Versions grow within it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stream {
    /// Its service; see [`Certificate::covers`].
    pub service: String,
    /// Its name under its root key: the same after a restart of the sender.
    pub name: String,
    /// The TSI of its session; 0 if there is none.
    pub tsi: u64,
}

/// The place of a document in its stream. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Edition {
    /// Grows from document to document, also across restarts.
    pub version: u64,
    /// Documents of lower versions are no longer valid, on any page.
    pub floor: u64,
    /// A newer version replaces the older one of the same page.
    pub page: u32,
    /// Time of the signature.
    pub issued: u64,
    /// End of its validity.
    pub until: u64,
}

/// A seal as read. Nothing of it may be trusted before [`Seal::is_genuine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The certificate of the key that signed.
    pub certificate: Certificate,
    /// The root's revocation list, if there is one.
    pub revocations: Option<RevocationList>,
    /// The stream.
    pub stream: Stream,
    /// The place in it.
    pub edition: Edition,
    pub(super) signature: [u8; 64],
    /// Fields that were signed, without context, kind and digest.
    pub(super) fields: Vec<u8>,
}

/// A document and its seal, separated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its seal.
    pub seal: Seal,
    /// SHA-256 of the document without its seal.
    pub digest: Digest,
}

/// Splits a document that is not XML into its seal and the rest.
fn split(document: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut reader = Reader::new(document);
    reader.take(MAGIC.len(), "magic")?;
    let length = reader.u16("length of the seal")?;
    Ok((reader.take(usize::from(length), "seal")?, reader.rest()))
}

/// The seal of an XML document, as far as its first bytes show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head<'a> {
    /// More bytes are needed.
    Open,
    /// Its root element, or what is read of it, has no seal.
    Unsigned,
    /// The bytes there are not a seal.
    Malformed,
    /// The seal.
    Sealed(&'a Seal),
}

/// Search for the seal in the first bytes of a document that is still being inflated. It continues where it has ended, so that each byte
/// is scanned once, and [`open_scanned`] uses what it has found.
#[derive(Debug, Default)]
pub struct HeadScan {
    /// Bytes in which what is searched for does not begin.
    scanned: usize,
    /// Where the root element begins.
    root: Option<usize>,
    /// Where the attribute's value begins.
    value: Option<usize>,
    /// The seal, and the place of its text.
    found: Option<(Range<usize>, Seal)>,
    /// Bytes compared, for tests.
    #[cfg(test)]
    compared: usize,
}

impl HeadScan {
    /// Looks at the first bytes of an XML document, of which more may follow: those of the last call, and further ones. The seal is an
    /// attribute of the root element, so that the bytes behind that are not needed.
    pub(super) fn look(&mut self, start: &[u8]) -> Head<'_> {
        if self.value.is_none() {
            let attribute = self.find(start, self.scanned, ATTRIBUTE.as_bytes());
            self.value = attribute.map(|at| at + ATTRIBUTE.len());
        }
        let Some(value) = self.value else {
            self.root = self.root.or_else(|| self.find(start, self.scanned, ROOT));
            let root_end = self.root.and_then(|root| self.find(start, root.max(self.scanned), b">"));
            // The beginning of either may be at the end.
            self.scanned = (start.len() + 1).saturating_sub(ATTRIBUTE.len()).max(self.scanned);
            let has_ended = root_end.is_some() || start.len() >= HEAD_BYTES;
            return if has_ended { Head::Unsigned } else { Head::Open };
        };
        let Some(end) = self.find(start, self.scanned.max(value), b"\"") else {
            self.scanned = start.len();
            return if start.len() - value > 2 * SEAL_TEXT_BYTES { Head::Malformed } else { Head::Open };
        };
        let seal = std::str::from_utf8(&start[value..end]).ok().and_then(from_base64);
        self.found = seal.and_then(|seal| Seal::read(&seal).ok()).map(|seal| (value..end, seal));
        self.found.as_ref().map_or(Head::Malformed, |(_, seal)| Head::Sealed(seal))
    }

    /// Where `what` begins, from `from` on.
    fn find(&mut self, bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
        let rest = bytes.get(from..)?;
        let found = rest.windows(what.len()).position(|it| it == what);
        #[cfg(test)]
        {
            self.compared += found.unwrap_or(rest.len());
        }
        found.map(|at| from + at)
    }
}

/// A document that is not XML, without its seal; `None` if it has none.
pub fn unsealed(document: &[u8]) -> Option<&[u8]> {
    let (_, document) = split(document).ok().filter(|_| document.starts_with(MAGIC))?;
    Some(document)
}

/// Separates a document and its seal; `None` if it has none.
///
/// # Errors
/// If there is more than one place for a seal, or its content is not a seal.
pub fn open(document: &[u8]) -> Result<Option<Sealed>, WireError> {
    open_scanned(document, &HeadScan::default())
}

/// As [`open`], of a document whose first bytes were scanned.
pub(super) fn open_scanned(document: &[u8], scan: &HeadScan) -> Result<Option<Sealed>, WireError> {
    if document.starts_with(MAGIC) {
        let (seal, document) = split(document)?;
        return Ok(Some(Sealed { seal: Seal::read(seal)?, digest: Digest::of(document) }));
    }
    // A document that is not UTF-8 is not one of ours.
    let Ok(document) = std::str::from_utf8(document) else { return Ok(None) };
    let illegal =
        |value: usize| WireError::Illegal { what: "signature", value: value as u64, clause: "seal" };
    let (before, after, seal) = match &scan.found {
        Some((place, seal)) => {
            let before = document.get(..place.start - ATTRIBUTE.len()).ok_or_else(|| illegal(0))?;
            (before, document.get(place.end + 1..).ok_or_else(|| illegal(0))?, seal.clone())
        }
        None => {
            let Some((before, rest)) = document.split_once(ATTRIBUTE) else { return Ok(None) };
            let (value, after) = rest.split_once('"').ok_or_else(|| illegal(0))?;
            if value.len() > 2 * SEAL_TEXT_BYTES {
                return Err(illegal(value.len()));
            }
            let bytes = from_base64(value).ok_or_else(|| illegal(value.len()))?;
            (before, after, Seal::read(&bytes)?)
        }
    };
    if after.contains(ATTRIBUTE) {
        return Err(illegal(after.len()));
    }
    let mut hasher = Digest::hasher();
    for part in [before, BLANK, after] {
        hasher.update(part.as_bytes());
    }
    Ok(Some(Sealed { seal, digest: hasher.finish() }))
}

impl Sealed {
    /// Whether the seal's key has signed this document as one of this kind. Does not check its certificate.
    pub fn is_genuine(&self, kind: Kind) -> bool {
        self.seal.is_genuine(kind, &self.digest)
    }

    /// The bytes that are signed.
    pub(super) fn signed(&self, kind: Kind) -> Vec<u8> {
        signed(kind, &self.digest, &self.seal.fields)
    }

    /// Digest of all that is signed, and of the signature.
    pub(super) fn identity(&self, kind: Kind) -> Digest {
        let mut bytes = self.signed(kind);
        bytes.extend_from_slice(&self.seal.signature);
        Digest::of(&bytes)
    }
}

impl Seal {
    /// Reads a seal: all of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not a seal, or of an unknown format.
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8("seal format")?;
        if format != FORMAT {
            return Err(WireError::Unsupported { what: "seal format", value: format.into() });
        }
        let flags = reader.u8("seal flags")?;
        let certificate = Certificate::read(&mut reader)?;
        let revocations = (flags & HAS_REVOCATIONS != 0)
            .then(|| RevocationList::read(&mut reader, certificate.root))
            .transpose()?;
        let edition = Edition {
            version: reader.uint::<8>("version")?,
            floor: reader.uint::<8>("floor")?,
            page: reader.u32("page")?,
            issued: reader.uint::<8>("issued")?,
            until: reader.uint::<8>("until")?,
        };
        let tsi = reader.uint::<6>("TSI")?;
        let mut name = |what| -> Result<String, WireError> {
            let length = usize::from(reader.u8(what)?);
            let name = text(&mut reader, length, NAME_BYTES, what)?;
            let is_plain = !name.chars().any(char::is_control);
            is_plain.then_some(name).ok_or(WireError::Illegal {
                what,
                value: length as u64,
                clause: "no controls",
            })
        };
        let stream = Stream { service: name("service")?, name: name("stream")?, tsi };
        let fields = bytes[..bytes.len() - reader.remaining()].to_vec();
        let signature = reader.array("signature")?;
        if reader.remaining() > 0 {
            let value = reader.remaining() as u64;
            return Err(WireError::Illegal { what: "bytes behind the signature", value, clause: "seal" });
        }
        Ok(Self { certificate, revocations, stream, edition, signature, fields })
    }

    /// Whether its key has signed it for a document of this kind and digest.
    pub fn is_genuine(&self, kind: Kind, digest: &Digest) -> bool {
        self.certificate.key.verify(&signed(kind, digest, &self.fields), &self.signature)
    }
}

fn signed(kind: Kind, digest: &Digest, fields: &[u8]) -> Vec<u8> {
    let mut out = CONTEXT.to_vec();
    out.push(kind as u8);
    out.extend_from_slice(&digest.0);
    out.extend_from_slice(fields);
    out
}

/// Signs documents with an online key. Clones share their versions.
#[derive(Debug, Clone)]
pub struct Sealer {
    secret: SecretKey,
    certificate: Certificate,
    revocations: Option<RevocationList>,
    last_version: Arc<AtomicU64>,
}

impl Sealer {
    /// A sealer with an online key and its certificate; versions begin above `last_version`. `None` if key, certificate and
    /// list do not belong together.
    pub fn new(
        secret: SecretKey,
        certificate: Certificate,
        revocations: Option<RevocationList>,
        last_version: u64,
    ) -> Option<Self> {
        let is_root = |it: &RevocationList| it.root == certificate.root && it.is_genuine();
        let fits = secret.public() == certificate.key
            && certificate.is_genuine()
            && revocations.as_ref().is_none_or(is_root);
        let last_version = Arc::new(AtomicU64::new(last_version));
        fits.then_some(Self { secret, certificate, revocations, last_version })
    }

    /// The certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The revocation list.
    pub const fn revocations(&self) -> Option<&RevocationList> {
        self.revocations.as_ref()
    }

    /// The highest version given out.
    pub fn last_version(&self) -> u64 {
        self.last_version.load(Ordering::Relaxed)
    }

    /// The next version: milliseconds since 1970, or one more than the last if the clock is behind it.
    pub fn next_version(&self, now: WallTime) -> u64 {
        let clock = u64::try_from(now.unix_ms()).unwrap_or(0);
        let next = |last: u64| Some(clock.max(last.saturating_add(1)));
        let last = self.last_version.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.map_or(clock, |last| clock.max(last.saturating_add(1)))
    }

    /// Raises further versions above this one, which another signer with the same key has used.
    pub fn go_on_from(&self, version: u64) {
        self.last_version.fetch_max(version, Ordering::Relaxed);
    }

    /// The seal of a document of this digest.
    pub fn seal(&self, kind: Kind, stream: &Stream, edition: &Edition, digest: &Digest) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&[FORMAT, if self.revocations.is_some() { HAS_REVOCATIONS } else { 0 }]);
        self.certificate.write(&mut out);
        if let Some(list) = &self.revocations {
            list.write(&mut out);
        }
        let mut writer = Writer::new(&mut out);
        writer.uint::<8>(edition.version).uint::<8>(edition.floor).u32(edition.page);
        writer.uint::<8>(edition.issued).uint::<8>(edition.until).uint::<6>(stream.tsi);
        for name in [&stream.service, &stream.name] {
            let name = cut(name, NAME_BYTES);
            writer.u8(name.len() as u8).bytes(name.as_bytes());
        }
        let signature = self.secret.sign(&signed(kind, digest, &out));
        out.extend_from_slice(&signature);
        out
    }

    /// Puts the seal into a document that has [`BLANK`] once.
    pub fn seal_xml(&self, kind: Kind, stream: &Stream, edition: &Edition, document: &str) -> String {
        debug_assert_eq!(document.matches(BLANK).count(), 1, "a document to be sealed has one place for it");
        let seal = self.seal(kind, stream, edition, &Digest::of(document.as_bytes()));
        document.replacen(BLANK, &format!("{ATTRIBUTE}{}\"", to_base64(&seal)), 1)
    }

    /// Puts the seal before a document that is not XML. `None` if the seal is too long to be counted.
    pub fn seal_bytes(
        &self,
        kind: Kind,
        stream: &Stream,
        edition: &Edition,
        document: &[u8],
    ) -> Option<Vec<u8>> {
        let seal = self.seal(kind, stream, edition, &Digest::of(document));
        let mut out = MAGIC.to_vec();
        Writer::new(&mut out).u16(u16::try_from(seal.len()).ok()?).bytes(&seal).bytes(document);
        Some(out)
    }

    /// Bytes that a seal adds to an XML document.
    pub fn xml_bytes(&self, stream: &Stream) -> usize {
        let nothing = Digest([0; 32]);
        BLANK.len() + self.seal(Kind::Fdt, stream, &Edition::default(), &nothing).len().div_ceil(3) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SEALER, stream};
    use super::*;

    const DOCUMENT: &str = "<?xml version=\"1.0\"?>\n<FDT-Instance sky:Signature=\"\" Expires=\"1\"/>\n";

    fn sealed() -> String {
        let edition = Edition { version: 5, floor: 2, page: 1, issued: 100, until: 200 };
        SEALER.seal_xml(Kind::Fdt, &stream(), &edition, DOCUMENT)
    }

    #[test]
    fn a_sealed_document_says_its_signer_and_purpose() {
        let sealed = sealed();
        let Sealed { seal, digest } = open(sealed.as_bytes()).unwrap().unwrap();
        assert_eq!(digest, Digest::of(DOCUMENT.as_bytes()));
        assert_eq!((&seal.certificate, &seal.stream), (SEALER.certificate(), &stream()));
        assert_eq!((seal.edition.version, seal.edition.floor, seal.edition.page), (5, 2, 1));
        assert!(seal.is_genuine(Kind::Fdt, &digest) && !seal.is_genuine(Kind::Command, &digest));
        assert_eq!(sealed.len(), DOCUMENT.len() - BLANK.len() + SEALER.xml_bytes(&stream()));
        assert_eq!(open(b"<FDT-Instance/>"), Ok(None));
        assert_eq!(open(b"<FDT-Instance name='\xfc'/>"), Ok(None));
    }

    /// The search over all bytes each time, which [`HeadScan`] continues instead.
    fn head_of(start: &[u8]) -> &'static str {
        let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|it| it == what);
        let Some(at) = find(start, ATTRIBUTE.as_bytes()) else {
            let root = find(start, ROOT).unwrap_or(start.len());
            let has_ended = start[root..].contains(&b'>') || start.len() >= HEAD_BYTES;
            return if has_ended { "unsigned" } else { "open" };
        };
        let value = &start[at + ATTRIBUTE.len()..];
        let Some(end) = value.iter().position(|it| *it == b'"') else {
            return if value.len() > 2 * SEAL_TEXT_BYTES { "malformed" } else { "open" };
        };
        let seal = std::str::from_utf8(&value[..end]).ok().and_then(from_base64);
        if seal.is_some_and(|it| Seal::read(&it).is_ok()) { "sealed" } else { "malformed" }
    }

    #[test]
    fn the_first_bytes_are_scanned_once_in_pieces_of_any_length() {
        let behind = |head: &str| format!("<?xml version=\"1.0\"?>{head}{}", "x".repeat(3000));
        let long = "A".repeat(20_000);
        let documents = [
            sealed(),
            sealed().replace("<FDT", &format!("<!--{}--><FDT", "-".repeat(7000))),
            sealed().replacen("sky:Signature=\"", "sky:Signature=\"!", 1),
            behind("<FDT-Instance Expires=\"1\">") + &sealed(),
            behind(""),
            " ".repeat(9000),
            format!("<FDT-Instance{ATTRIBUTE}{long}"),
            behind(&format!("<FDT-Instance{}", &ATTRIBUTE[..9])),
        ];
        for (number, document) in documents.iter().enumerate() {
            let document = document.as_bytes();
            for piece in [1, 2, 7, 13, 16, 100, 2048, 30_000] {
                let (mut scan, mut length, mut pieces) = (HeadScan::default(), 0, 0);
                while length < document.len() {
                    length = (length + piece).min(document.len());
                    pieces += 1;
                    let found = match scan.look(&document[..length]) {
                        Head::Open => "open",
                        Head::Unsigned => "unsigned",
                        Head::Malformed => "malformed",
                        Head::Sealed(_) => "sealed",
                    };
                    assert_eq!(
                        found,
                        head_of(&document[..length]),
                        "{number}: {length} in pieces of {piece}"
                    );
                    if found != "open" {
                        break;
                    }
                }
                // The attribute, the root element and its end, and what may be the beginning of either at the end of a piece.
                let most = 3 * (length + pieces * ATTRIBUTE.len());
                assert!(scan.compared <= most, "{number}: {} of {length} in {pieces}", scan.compared);
                if scan.found.is_some() {
                    assert_eq!(open_scanned(document, &scan), open(document), "{number}");
                }
            }
        }
    }

    #[test]
    fn a_second_seal_behind_the_scanned_bytes_is_refused() {
        let document = format!("{}<!--{ATTRIBUTE}\"-->", sealed());
        let mut scan = HeadScan::default();
        assert!(matches!(scan.look(&document.as_bytes()[..sealed().len()]), Head::Sealed(_)));
        assert!(open_scanned(document.as_bytes(), &scan).is_err() && open(document.as_bytes()).is_err());
        // What is sealed as no XML is not opened by an attribute within.
        let other = [&b"SKYS\0\x01"[..], document.as_bytes()].concat();
        let mut scan = HeadScan::default();
        assert!(matches!(scan.look(&other[..6 + sealed().len()]), Head::Sealed(_)));
        assert!(open_scanned(&other, &scan).is_err());
    }

    #[test]
    fn what_is_no_xml_is_sealed_as_a_whole() {
        let edition = Edition { version: 5, floor: 2, page: 1, issued: 100, until: 200 };
        let sealed = SEALER.seal_bytes(Kind::Modules, &stream(), &edition, b"list").unwrap();
        assert_eq!(unsealed(&sealed), Some(&b"list"[..]));
        let it = open(&sealed).unwrap().unwrap();
        assert!(it.is_genuine(Kind::Modules) && !it.is_genuine(Kind::Fdt));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let is_genuine = |it: Sealed| it.is_genuine(Kind::Modules) && it.seal.certificate.is_genuine();
            assert!(!open(&changed).ok().flatten().is_some_and(is_genuine), "byte {at}");
            assert!(!open(&sealed[..at]).ok().flatten().is_some_and(is_genuine), "{at} bytes");
        }
    }

    #[test]
    fn no_changed_byte_passes() {
        let sealed = sealed().into_bytes();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let genuine = match open(&changed) {
                Ok(Some(it)) => it.is_genuine(Kind::Fdt) && it.seal.certificate.is_genuine(),
                Ok(None) | Err(_) => false,
            };
            assert!(!genuine, "byte {at}: {:?}", char::from(sealed[at]));
        }
    }

    #[test]
    fn a_seal_moved_to_another_place_or_said_twice_is_refused() {
        let sealed = sealed();
        let value = &sealed[sealed.find(ATTRIBUTE).unwrap() + ATTRIBUTE.len()..];
        let value = &value[..value.find('"').unwrap()];
        let moved = DOCUMENT.replace("Expires=\"1", &format!("Expires=\"{value}1"));
        assert!(open(moved.as_bytes()).is_err(), "the blank is not a seal");
        let moved = moved.replace(BLANK, "") + &format!("<x{ATTRIBUTE}{value}\"/>");
        assert!(!open(moved.as_bytes()).unwrap().unwrap().is_genuine(Kind::Fdt));
        let twice = format!("{sealed}<!--{ATTRIBUTE}\"-->");
        assert!(open(twice.as_bytes()).is_err());
        for length in 0..value.len() {
            let cut = sealed.replace(value, &value[..length]);
            assert!(open(cut.as_bytes()).is_err(), "{length}");
        }
    }

    #[test]
    fn versions_follow_the_clock_and_never_fall() {
        let sealer = Sealer { last_version: Arc::new(AtomicU64::new(1000)), ..SEALER.clone() };
        let at = WallTime::from_unix_ms;
        assert_eq!([5000, 5000, 10, 6000].map(|ms| sealer.next_version(at(ms))), [5000, 5001, 5002, 6000]);
        assert_eq!((sealer.clone().next_version(at(0)), sealer.last_version()), (6001, 6001));
    }

    #[test]
    fn keys_that_do_not_belong_together_make_no_sealer() {
        let other = SecretKey::from_seed(&[9; 32]);
        let certificate = SEALER.certificate().clone();
        assert!(Sealer::new(other.clone(), certificate.clone(), None, 0).is_none());
        let foreign = RevocationList::issue(&other, 1, Vec::new());
        assert!(Sealer::new(SEALER.secret.clone(), certificate.clone(), Some(foreign), 0).is_none());
        let longer = Certificate { until: u64::MAX, ..certificate };
        assert!(Sealer::new(SEALER.secret.clone(), longer, None, 0).is_none());
    }
}
