//! Writer of the packets of one FLUTE session. The caller decides their order.
//!
//! The FDT is divided into *pages*: each page describes some files and is sent as one FDT Instance. Adding or withdrawing
//! an object changes one page, so a carousel of 100,000 objects repeats its FDT without ever sending it in one piece.
//! Every changed page, and every page close to its `Expires`, gets a new instance ID.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::fdt::{CacheControl, Encoding, FdtInstance, FdtNamespace, File, OtiAttributes};
use crate::bytes::WireError;
use crate::digest::Digest;
use crate::fec::{BlockCode, EncodingId, Oti, Partition, PayloadId, Protection};
use crate::lct::ext::{self, Fdt, Naci, Time, het};
use crate::lct::{LctHeader, Toi, Tsi, Widths};
use crate::limits::MAX_FDT_BYTES;
use crate::query::IgnoredQuery;
use crate::time::WallTime;
use crate::trust::{Edition, Kind, Sealer, Stream};

/// Wire format of a session. All known receivers support the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderProfile {
    /// Widths of TSI and TOI.
    pub widths: Widths,
    /// FLUTE version in EXT_FDT: 1 or 2.
    pub flute_version: u8,
    /// E in bytes; 1400 leaves room for IP, UDP, LCT, EXT_FTI and a tunnel in 1500.
    pub symbol_length: u16,
    /// Maximum symbols in a source block. 65,535: one block for objects up to 90 MB (GPAC ignores the SBN).
    pub max_source_block_length: u32,
    /// EXT_FTI on every packet, so that receivers can start before the FDT; otherwise only on TOI 0.
    pub fti_everywhere: bool,
    /// Namespace of the FDT.
    pub namespace: FdtNamespace,
    /// Bytes of XML at which a page of the FDT is full. If small enough, an FDT Instance fits one packet and cannot be
    /// lost in part; if large enough, one instance describes the complete session, which some receivers need. Once a
    /// session has [`SMALL_PAGES`] pages, further ones take [`LARGE_PAGE_BYTES`] at least.
    pub fdt_page_bytes: usize,
    /// Time to `Expires`; a page is renewed after half of it.
    pub fdt_lifetime_s: u32,
    /// Whether FDT Instances are compressed with gzip (EXT_CENC).
    pub fdt_gzip: bool,
    /// NACI on the packets of TOI 0 (DVB-NIP announcement channel).
    pub naci: Option<Naci>,
}

impl Default for SenderProfile {
    fn default() -> Self {
        Self {
            widths: Widths::BITS_32,
            flute_version: 1,
            symbol_length: 1400,
            max_source_block_length: 65_535,
            fti_everywhere: true,
            namespace: FdtNamespace::Ietf2005,
            fdt_page_bytes: 1400 - FDT_ROOT_BYTES,
            fdt_lifetime_s: 3600,
            fdt_gzip: false,
            naci: None,
        }
    }
}

/// An object to send, without its TOI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendFile {
    /// Its URI.
    pub content_location: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// Content encoding of the transported bytes.
    pub encoding: Encoding,
    /// Bytes of the object.
    pub content_length: u64,
    /// Bytes as transported.
    pub transfer_length: u64,
    /// SHA-256 of the transported bytes.
    pub content_digest: Digest,
    /// SHA-256 of the decoded object, if it is encoded.
    pub repr_digest: Option<Digest>,
    /// MD5 of the transported bytes, for older receivers.
    pub content_md5: Option<[u8; 16]>,
    /// Seconds after its last description for which caches may treat it as fresh (TS 26.346 `Cache-Control/Expires`).
    pub expiry_s: Option<u32>,
    /// Query parameters that do not distinguish the object.
    pub ignored_query: IgnoredQuery,
}

impl SendFile {
    /// An object without content encoding, with only a name and bytes.
    pub fn of(content_location: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            content_location: content_location.into(),
            content_type: None,
            encoding: Encoding::Identity,
            content_length: bytes.len() as u64,
            transfer_length: bytes.len() as u64,
            content_digest: Digest::of(bytes),
            repr_digest: None,
            content_md5: None,
            expiry_s: None,
            ignored_query: IgnoredQuery::default(),
        }
    }
}

/// The symbol length for an FDT Instance of `length` bytes, at most `longest`: chosen so that the last symbol but one ends
/// inside the closing tag. Dissectors that parse each packet's text separately (tshark) report a closing tag without its
/// opening, or a single `>`, as a malformed packet; this avoids both, at the cost of a packet of a few bytes.
fn fdt_symbol_length(length: usize, longest: u16) -> u16 {
    const CLOSING_TAG: usize = "</FDT-Instance>".len();
    if length <= usize::from(longest) {
        return longest;
    }
    let splits = |symbol: &u16| (2..CLOSING_TAG).contains(&(length % usize::from(*symbol)));
    (longest / 2..=longest).rev().find(splits).unwrap_or(longest)
}

/// Why an object cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderError {
    /// The object does not fit the profile (too many blocks or symbols, or longer than its field).
    Oti(WireError),
    /// All TOIs of the profile's width are in use.
    NoToi,
    /// The name and types alone exceed the size limit of an FDT Instance.
    TooMuchText,
}

impl fmt::Display for SenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oti(err) => write!(f, "the object does not fit the session's profile: {err}"),
            Self::NoToi => f.write_str("every TOI of the session is in use"),
            Self::TooMuchText => f.write_str("the object's name is too long for an FDT Instance"),
        }
    }
}

impl std::error::Error for SenderError {}

#[derive(Debug)]
struct Outgoing {
    file: File,
    oti: Oti,
    partition: Partition,
    /// LCT header with extensions, without flags.
    header: Vec<u8>,
    page: usize,
    expiry_s: Option<u32>,
}

impl Outgoing {
    /// The description for an instance made at `now`.
    fn file_at(&self, now: WallTime) -> File {
        let expires = |seconds: u32| now.plus_ms(i64::from(seconds) * 1000).ntp_seconds();
        let cache_control = self.expiry_s.map(|seconds| CacheControl::Expires(expires(seconds)));
        File { cache_control, ..self.file.clone() }
    }
}

/// One page of the FDT, and its current instance.
#[derive(Debug, Default)]
struct Page {
    files: Vec<Toi>,
    xml_bytes: usize,
    dirty: bool,
    instance: Option<Instance>,
}

#[derive(Debug)]
struct Instance {
    bytes: Vec<u8>,
    partition: Partition,
    header: Vec<u8>,
    renew: WallTime,
    /// Version of its signature.
    version: u64,
}

/// Writer of the packets of one session.
#[derive(Debug)]
pub struct Sender {
    tsi: Tsi,
    profile: SenderProfile,
    next_toi: u64,
    next_instance_id: u32,
    objects: BTreeMap<Toi, Outgoing>,
    pages: Vec<Page>,
    complete: bool,
    /// Signer of its FDT, and the signed stream.
    signing: Option<(Sealer, Stream)>,
}

/// Bytes of XML in an FDT Instance besides its files: declaration, root with namespaces and OTI.
pub const FDT_ROOT_BYTES: usize = 400;
/// Maximum pages of one packet in a session; receivers remember some 2,000 instances.
pub const SMALL_PAGES: usize = 512;
/// Bytes of XML in further pages: about 100 files.
pub const LARGE_PAGE_BYTES: usize = 48 << 10;

/// Byte 1 of the LCT header: A and B flags.
const CLOSE_SESSION: u8 = 2;
const CLOSE_OBJECT: u8 = 1;

impl Sender {
    /// A session without objects. `first_toi` (≥ 1) and `first_instance_id` should differ from one start of the
    /// sender to the next, so that receivers do not confuse new objects with old ones.
    pub fn new(tsi: Tsi, profile: SenderProfile, first_toi: u32, first_instance_id: u32) -> Self {
        Self {
            tsi,
            profile,
            next_toi: u64::from(first_toi.max(1)),
            next_instance_id: first_instance_id & 0xf_ffff,
            objects: BTreeMap::new(),
            pages: Vec::new(),
            complete: false,
            signing: None,
        }
    }

    /// Signs the FDT from its next instance on, for `service`, as the stream `name`, which must be stable across restarts and
    /// unique to this session.
    pub fn sign_with(&mut self, sealer: Sealer, service: String, name: String) {
        let stream = Stream { service, name, tsi: self.tsi.0 };
        if self.signing.is_none() {
            let small = self.profile.fdt_page_bytes;
            self.profile.fdt_page_bytes = small.saturating_sub(sealer.xml_bytes(&stream));
        }
        self.signing = Some((sealer, stream));
        for page in &mut self.pages {
            page.dirty = true;
        }
    }

    /// The TOI that the next object gets if it is free, and the next FDT Instance ID.
    pub const fn next_numbers(&self) -> (u64, u32) {
        (self.next_toi, self.next_instance_id)
    }

    /// Takes over from another sender of the same session, before anything is sent: `first` are a TOI and an FDT Instance ID
    /// above all that it has used, `known` returns its TOI for an object. Other objects get new TOIs, and every page of the
    /// FDT a new instance. Returns a map from old to new TOIs.
    ///
    /// # Errors
    /// [`SenderError`] if there are more objects than TOIs; the session is without objects then.
    pub fn renumber(
        &mut self,
        first: (u64, u32),
        known: impl Fn(Toi) -> Option<Toi>,
    ) -> Result<BTreeMap<Toi, Toi>, SenderError> {
        (self.next_toi, self.next_instance_id) = (first.0.max(1), first.1 & 0xf_ffff);
        let before = std::mem::take(&mut self.objects);
        let mut renamed = BTreeMap::new();
        let mut unknown = Vec::new();
        for (old, object) in before {
            // Two objects with one name: the second gets a new TOI.
            match known(old).filter(|new| *new != Toi::FDT && !self.objects.contains_key(new)) {
                Some(new) => self.rename(old, new, object, &mut renamed)?,
                None => unknown.push((old, object)),
            }
        }
        for (old, object) in unknown {
            let new = self.free_toi()?;
            self.next_toi = new.0 as u64 + 1;
            self.rename(old, new, object, &mut renamed)?;
        }
        for page in &mut self.pages {
            page.files = page.files.iter().filter_map(|old| renamed.get(old).copied()).collect();
            let bytes = |toi| self.objects.get(toi).map(|it| it.file.xml_bytes(self.profile.namespace));
            page.xml_bytes = page.files.iter().filter_map(bytes).sum();
            (page.dirty, page.instance) = (true, None);
        }
        Ok(renamed)
    }

    fn rename(
        &mut self,
        old: Toi,
        new: Toi,
        mut object: Outgoing,
        renamed: &mut BTreeMap<Toi, Toi>,
    ) -> Result<(), SenderError> {
        object.header =
            self.header(new, &object.oti, self.profile.fti_everywhere).map_err(SenderError::Oti)?;
        object.file.toi = new;
        self.objects.insert(new, object);
        renamed.insert(old, new);
        Ok(())
    }

    /// Profile of its packets.
    pub const fn profile(&self) -> &SenderProfile {
        &self.profile
    }

    /// Its TSI.
    pub const fn tsi(&self) -> Tsi {
        self.tsi
    }

    /// Adds an object; its packets may be written after the FDT that describes it was sent.
    ///
    /// # Errors
    /// [`SenderError`]; the session is then unchanged.
    pub fn add(&mut self, file: SendFile) -> Result<Toi, SenderError> {
        self.add_protected(file, &Protection::NONE)
    }

    /// As [`Sender::add`], with a FEC scheme. Its repair symbols are made with [`Sender::block_code`].
    ///
    /// # Errors
    /// As for [`Sender::add`].
    pub fn add_protected(&mut self, file: SendFile, protection: &Protection) -> Result<Toi, SenderError> {
        let expiry_s = file.expiry_s;
        let oti = self.oti_of(file.transfer_length, protection);
        let partition = Partition::new(&oti).map_err(SenderError::Oti)?;
        let toi = self.free_toi()?;
        let header = self.header(toi, &oti, self.profile.fti_everywhere).map_err(SenderError::Oti)?;
        let file = File {
            content_location: file.content_location,
            toi,
            content_length: Some(file.content_length),
            transfer_length: Some(file.transfer_length),
            content_type: file.content_type,
            encoding: file.encoding,
            content_md5: file.content_md5,
            content_digest: Some(file.content_digest),
            repr_digest: file.repr_digest,
            oti: OtiAttributes::of(&oti),
            // A placeholder of full length: the date is set with each instance.
            cache_control: file.expiry_s.map(|_| CacheControl::Expires(u32::MAX)),
            ignored_query: file.ignored_query,
            ..File::default()
        };
        let xml_bytes = file.xml_bytes(self.profile.namespace);
        if xml_bytes as u64 > MAX_FDT_BYTES / 2 {
            return Err(SenderError::TooMuchText);
        }
        let page = self.page_with_room(xml_bytes);
        self.pages[page].files.push(toi);
        self.pages[page].xml_bytes += xml_bytes;
        self.pages[page].dirty = true;
        self.next_toi = toi.0 as u64 + 1;
        self.objects.insert(toi, Outgoing { file, oti, partition, header, page, expiry_s });
        Ok(toi)
    }

    /// The OTI of an object of `transfer_length` bytes with a FEC scheme.
    pub fn oti_of(&self, transfer_length: u64, protection: &Protection) -> Oti {
        let profile = &self.profile;
        protection.oti(transfer_length, profile.symbol_length, profile.max_source_block_length)
    }

    /// Removes an object from the FDT. Returns whether it was present.
    pub fn withdraw(&mut self, toi: Toi) -> bool {
        let Some(object) = self.objects.remove(&toi) else { return false };
        let page = &mut self.pages[object.page];
        page.files.retain(|&have| have != toi);
        page.xml_bytes = page.xml_bytes.saturating_sub(object.file.xml_bytes(self.profile.namespace));
        page.dirty = true;
        true
    }

    /// Marks the FDT as final (`Complete="true"`): no further objects will be described.
    pub fn set_complete(&mut self) {
        self.complete = true;
        for page in &mut self.pages {
            page.dirty = true;
        }
    }

    /// Partition of an object: its symbols are 0 to `symbols`.
    pub fn partition(&self, toi: Toi) -> Option<&Partition> {
        self.objects.get(&toi).map(|object| &object.partition)
    }

    /// The OTI of an object.
    pub fn oti(&self, toi: Toi) -> Option<&Oti> {
        self.objects.get(&toi).map(|object| &object.oti)
    }

    /// The code of source block `sbn`; `None` if the object has no code, or no such block.
    pub fn block_code(&self, toi: Toi, sbn: u32) -> Option<BlockCode> {
        let object = self.objects.get(&toi)?;
        BlockCode::new(&object.oti, object.partition.block_symbols(sbn)).ok()
    }

    /// The descriptions of the objects, by TOI.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.objects.values().map(|object| &object.file)
    }

    /// Updates the FDT at `now`. Returns the changed pages, which must be sent first.
    ///
    /// # Errors
    /// If the FDT does not fit the limits of the profile.
    pub fn refresh_fdt(&mut self, now: WallTime) -> Result<Vec<usize>, SenderError> {
        let mut changed = Vec::new();
        for index in 0..self.pages.len() {
            let page = &self.pages[index];
            let due = page.instance.as_ref().is_some_and(|instance| now >= instance.renew);
            if page.files.is_empty() {
                self.pages[index].instance = None;
                self.pages[index].dirty = false;
            } else if page.dirty || due {
                let instance = self.build_instance(index, now)?;
                self.pages[index].instance = Some(instance);
                self.pages[index].dirty = false;
                changed.push(index);
            }
        }
        Ok(changed)
    }

    /// Pages of the FDT, some of which may be empty.
    pub fn fdt_pages(&self) -> usize {
        self.pages.len()
    }

    /// The page that describes an object.
    pub fn page_of(&self, toi: Toi) -> Option<usize> {
        self.objects.get(&toi).map(|object| object.page)
    }

    /// Bytes of all FDT packets, headers included.
    pub fn fdt_bytes(&self) -> u64 {
        let instances = self.pages.iter().filter_map(|page| page.instance.as_ref());
        instances.map(|it| it.bytes.len() as u64 + it.partition.symbols * (it.header.len() as u64 + 4)).sum()
    }

    /// Packets of one page; 0 if it is empty.
    pub fn fdt_packets(&self, page: usize) -> u64 {
        self.pages
            .get(page)
            .and_then(|page| page.instance.as_ref())
            .map_or(0, |instance| instance.partition.symbols)
    }

    /// Replaces `out` with packet number `packet` of an FDT page. Returns false, with `out` empty, if there is no such
    /// packet.
    pub fn write_fdt(&self, page: usize, packet: u64, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(instance) = self.pages.get(page).and_then(|page| page.instance.as_ref()) else {
            return false;
        };
        if packet >= instance.partition.symbols {
            return false;
        }
        let range = instance.partition.byte_range(packet);
        out.extend_from_slice(&instance.header);
        instance.partition.payload_id(packet).write_16_16(out);
        out.extend_from_slice(&instance.bytes[range.start as usize..range.end as usize]);
        true
    }

    /// Replaces `out` with the packet of source symbol `symbol`, whose bytes are `bytes` (as
    /// [`Partition::byte_range`] says). `last_ever` sets the B flag: no more packets for this object. Returns false,
    /// with `out` empty, if there is no such object or symbol.
    pub fn write_packet(
        &self,
        toi: Toi,
        symbol: u64,
        bytes: &[u8],
        last_ever: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        let Some(object) = self.objects.get(&toi).filter(|object| symbol < object.partition.symbols) else {
            return false;
        };
        out.extend_from_slice(&object.header);
        if last_ever {
            out[1] |= CLOSE_OBJECT;
        }
        let payload_id = object.partition.payload_id(symbol);
        let block_symbols = object.partition.block_symbols(payload_id.sbn);
        payload_id.write(object.oti.encoding_id, block_symbols, out);
        out.extend_from_slice(bytes);
        true
    }

    /// Replaces `out` with the packet of a repair symbol.
    pub fn write_repair(
        &self,
        toi: Toi,
        payload_id: PayloadId,
        bytes: &[u8],
        last_ever: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        let Some(object) = self.objects.get(&toi) else { return false };
        out.extend_from_slice(&object.header);
        if last_ever {
            out[1] |= CLOSE_OBJECT;
        }
        let block_symbols = object.partition.block_symbols(payload_id.sbn);
        payload_id.write(object.oti.encoding_id, block_symbols, out);
        out.extend_from_slice(bytes);
        true
    }

    /// Replaces `out` with a packet that only signals the end of the session (A flag). Send it several times.
    pub fn write_close(&self, out: &mut Vec<u8>) {
        out.clear();
        let widths = Widths { toi_words: 0, ..self.profile.widths };
        let mut header = LctHeader::new(self.tsi, Toi(0));
        header.widths = widths;
        header.toi = (widths.toi_bytes() > 0).then_some(Toi::FDT);
        let written = header.write(out);
        debug_assert!(
            written.is_ok(),
            "the session's own TSI fits its width, as every object's header showed"
        );
        if let Some(flags) = out.get_mut(1) {
            *flags |= CLOSE_SESSION;
        }
    }

    fn header(&self, toi: Toi, oti: &Oti, with_fti: bool) -> Result<Vec<u8>, WireError> {
        let mut extensions = Vec::new();
        if with_fti {
            oti.write_fti(&mut extensions)?;
        }
        self.header_with(toi, oti.encoding_id, &extensions)
    }

    fn header_with(&self, toi: Toi, id: EncodingId, extensions: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::new();
        let header = LctHeader {
            widths: self.profile.widths,
            codepoint: id.0,
            extensions,
            ..LctHeader::new(self.tsi, toi)
        };
        header.write(&mut out)?;
        Ok(out)
    }

    fn build_instance(&mut self, index: usize, now: WallTime) -> Result<Instance, SenderError> {
        let files = self.pages[index].files.iter().filter_map(|toi| self.objects.get(toi));
        let lifetime_ms = i64::from(self.profile.fdt_lifetime_s) * 1000;
        let instance = FdtInstance {
            expires: now.plus_ms(lifetime_ms).ntp_seconds(),
            complete: self.complete,
            files: files.map(|object| object.file_at(now)).collect(),
            unknown: Vec::new(),
        };
        let (mut bytes, version) = self.instance_bytes(index, &instance, now);
        let mut extensions = Vec::new();
        Fdt { version: self.profile.flute_version, instance_id: self.next_instance_id }
            .write(&mut extensions);
        if self.profile.fdt_gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            // Writing to a Vec cannot fail; if it did, the plain bytes would be sent.
            if encoder.write_all(&bytes).is_ok()
                && let Ok(zipped) = encoder.finish()
            {
                bytes = zipped;
                ext::write_fixed(&mut extensions, het::CENC, 3 << 16);
            }
        }
        Time::now(now).write(&mut extensions);
        let oti = Oti::no_code(
            bytes.len() as u64,
            fdt_symbol_length(bytes.len(), self.profile.symbol_length),
            self.profile.max_source_block_length,
        );
        oti.write_fti(&mut extensions).map_err(SenderError::Oti)?;
        if let Some(naci) = &self.profile.naci {
            naci.write(&mut extensions).map_err(SenderError::Oti)?;
        }
        let header =
            self.header_with(Toi::FDT, EncodingId::NO_CODE, &extensions).map_err(SenderError::Oti)?;
        let partition = Partition::new(&oti).map_err(SenderError::Oti)?;
        self.next_instance_id = (self.next_instance_id + 1) & 0xf_ffff;
        Ok(Instance { bytes, partition, header, renew: now.plus_ms(lifetime_ms / 2), version })
    }

    /// The XML of an instance, signed if enabled, and the version of its signature.
    fn instance_bytes(&self, index: usize, instance: &FdtInstance, now: WallTime) -> (Vec<u8>, u64) {
        let Some((sealer, stream)) = &self.signing else {
            return (instance.to_xml(self.profile.namespace).into_bytes(), 0);
        };
        let version = sealer.next_version(now);
        let others = self.pages.iter().enumerate().filter(|(at, _)| *at != index);
        let floor = others.filter_map(|(_, page)| page.instance.as_ref()).map(|it| it.version).min();
        let issued = now.unix_seconds();
        let edition = Edition {
            version,
            floor: floor.map_or(version, |it| it.min(version)),
            page: u32::try_from(index).unwrap_or(u32::MAX),
            issued,
            until: issued + u64::from(self.profile.fdt_lifetime_s),
        };
        let xml = instance.to_signable_xml(self.profile.namespace);
        (sealer.seal_xml(Kind::Fdt, stream, &edition, &xml).into_bytes(), version)
    }

    fn page_with_room(&mut self, xml_bytes: usize) -> usize {
        let small = self.profile.fdt_page_bytes;
        let limit = if self.pages.len() < SMALL_PAGES { small } else { small.max(LARGE_PAGE_BYTES) };
        let fits = |page: &Page| page.files.is_empty() || page.xml_bytes + xml_bytes <= limit;
        // The last page is filled first; earlier ones have room only after objects were withdrawn.
        if self.pages.last().is_some_and(fits) {
            return self.pages.len() - 1;
        }
        let spacious = |page: &Page| page.xml_bytes < limit / 4 && fits(page);
        if let Some(index) = self.pages.iter().position(spacious) {
            return index;
        }
        self.pages.push(Page::default());
        self.pages.len() - 1
    }

    fn free_toi(&self) -> Result<Toi, SenderError> {
        let most = match self.profile.widths.toi_bytes() {
            bytes @ 0..=7 => (1_u64 << (8 * bytes)) - 1,
            _ => u64::MAX,
        };
        let mut toi = self.next_toi;
        for _ in 0..=self.objects.len() {
            if toi > most || toi == 0 {
                toi = 1;
            }
            if toi <= most && !self.objects.contains_key(&Toi(u128::from(toi))) {
                return Ok(Toi(u128::from(toi)));
            }
            toi += 1;
        }
        Err(SenderError::NoToi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alc::Packet;

    const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

    fn file(name: &str) -> SendFile {
        SendFile { content_length: 100, transfer_length: 100, ..SendFile::of(name, name.as_bytes()) }
    }

    fn sender(profile: SenderProfile) -> Sender {
        Sender::new(Tsi(7), profile, 0, 5)
    }

    /// The XML of an FDT page, and its instance ID.
    fn page(sender: &Sender, page: usize) -> (String, u32) {
        let (mut out, mut xml, mut id) = (Vec::new(), Vec::new(), 0);
        for packet in 0..sender.fdt_packets(page) {
            assert!(sender.write_fdt(page, packet, &mut out));
            let packet = Packet::parse(&out).unwrap();
            id = Fdt::parse(packet.fdt.unwrap()).unwrap().instance_id;
            xml.extend_from_slice(&packet.body[4..]);
        }
        (String::from_utf8(xml).unwrap(), id)
    }

    #[test]
    fn an_object_whose_name_fills_an_instance_is_refused_and_changes_nothing() {
        let mut sender = sender(SenderProfile::default());
        let long = "x".repeat(MAX_FDT_BYTES as usize / 2);
        assert_eq!(sender.add(file(&long)), Err(SenderError::TooMuchText));
        assert_eq!((sender.files().count(), sender.fdt_pages()), (0, 0));
        assert_eq!(sender.add(file("a")), Ok(Toi(1)), "0 is the FDT");
        let empty = SendFile { transfer_length: 1 << 40, ..file("b") };
        assert!(matches!(sender.add(empty), Err(SenderError::Oti(_))));
        assert_eq!(sender.files().count(), 1);
    }

    #[test]
    fn a_sender_goes_on_with_the_numbers_of_another() {
        let mut first = sender(SenderProfile::default());
        let [a, b] = ["a", "b"].map(|name| first.add(file(name)).unwrap());
        first.refresh_fdt(WALL).unwrap();
        let mut second = Sender::new(Tsi(7), SenderProfile::default(), 900, 900);
        // It found them in another order, and one more.
        let [c, other_b, other_a] = ["c", "b", "a"].map(|name| second.add(file(name)).unwrap());
        second.refresh_fdt(WALL).unwrap();
        let known = BTreeMap::from([(other_a, a), (other_b, b)]);
        let (toi, id) = first.next_numbers();
        let renamed = second.renumber((toi + 10, id + 20), |old| known.get(&old).copied()).unwrap();
        assert_eq!(renamed, BTreeMap::from([(other_a, a), (other_b, b), (c, Toi(13))]));
        assert_eq!(second.fdt_packets(0), 0, "nothing of the old numbers is sent");
        assert_eq!(second.refresh_fdt(WALL).unwrap(), [0]);
        let (xml, instance_id) = page(&second, 0);
        assert_eq!(instance_id, id + 20);
        for (name, toi) in [("a", a), ("b", b), ("c", Toi(13))] {
            let described = second.files().find(|it| it.content_location == name).unwrap();
            assert_eq!(described.toi, toi);
            assert!(xml.contains(&format!("TOI=\"{}\"", toi.0)), "{xml}");
            let mut out = Vec::new();
            assert!(second.write_packet(toi, 0, &[0; 100], false, &mut out));
            assert_eq!(Packet::parse(&out).unwrap().lct.toi, Some(toi));
        }
        assert_eq!(second.add(file("d")), Ok(Toi(14)));
        assert!(second.withdraw(a) && !second.withdraw(other_a));
        // Two objects that the other one knew as one are not mixed.
        let renamed = second.renumber((50, 50), |_| Some(b)).unwrap();
        assert_eq!(renamed.values().copied().collect::<Vec<_>>(), [b, Toi(50), Toi(51)]);
    }

    #[test]
    fn a_page_is_renewed_at_half_of_its_lifetime_with_another_id() {
        let mut sender = sender(SenderProfile { fdt_lifetime_s: 100, ..SenderProfile::default() });
        sender.add(file("a")).unwrap();
        assert_eq!(sender.refresh_fdt(WALL), Ok(vec![0]));
        assert_eq!((sender.refresh_fdt(WALL), page(&sender, 0).1), (Ok(vec![]), 5));
        assert!(page(&sender, 0).0.contains(&format!("Expires=\"{}\"", WALL.plus_ms(100_000).ntp_seconds())));
        assert_eq!(sender.refresh_fdt(WALL.plus_ms(49_999)), Ok(vec![]));
        assert_eq!(sender.refresh_fdt(WALL.plus_ms(50_000)), Ok(vec![0]));
        assert_eq!(page(&sender, 0).1, 6);
    }

    #[test]
    fn packets_that_are_not_there_are_not_written() {
        let mut sender = sender(SenderProfile::default());
        let toi = sender.add(file("a")).unwrap();
        let mut out = vec![1];
        assert!(!sender.write_fdt(0, 0, &mut out) && out.is_empty(), "no instance was made");
        sender.refresh_fdt(WALL).unwrap();
        assert!(sender.write_fdt(0, 0, &mut out) && !out.is_empty());
        assert!(!sender.write_fdt(0, sender.fdt_packets(0), &mut out) && out.is_empty());
        assert!(!sender.write_fdt(1, 0, &mut out));
        assert!(!sender.write_packet(toi, 1, b"", false, &mut out) && out.is_empty());
        assert!(sender.withdraw(toi) && !sender.withdraw(toi));
        assert!(!sender.write_packet(toi, 0, &[0; 100], false, &mut out));
        assert_eq!(sender.refresh_fdt(WALL), Ok(vec![]), "an empty page is not an instance");
        assert_eq!((sender.fdt_packets(0), sender.fdt_bytes()), (0, 0));
    }

    #[test]
    fn pages_are_filled_to_their_last_byte_and_again_after_objects_were_withdrawn() {
        let mut sizes = sender(SenderProfile::default());
        sizes.add(file("0000")).unwrap();
        let bytes = sizes.files().next().unwrap().xml_bytes(FdtNamespace::Ietf2005);
        let mut sender = sender(SenderProfile { fdt_page_bytes: 8 * bytes, ..SenderProfile::default() });
        // TOIs of the same number of digits.
        sender.next_toi = 1000;
        let add = |sender: &mut Sender, at: usize| sender.add(file(&format!("{at:04}"))).unwrap();
        let with_toi = |sender: &Sender| sender.files().next().unwrap().xml_bytes(FdtNamespace::Ietf2005);
        let first = add(&mut sender, 0);
        sender.profile.fdt_page_bytes = 8 * with_toi(&sender);
        let tois: Vec<Toi> = (1..16).map(|at| add(&mut sender, at)).collect();
        assert_eq!(sender.fdt_pages(), 2, "eight in each");
        assert_eq!(
            (sender.page_of(first), sender.page_of(tois[6]), sender.page_of(tois[7])),
            (Some(0), Some(0), Some(1))
        );
        // All but one of the first page.
        for toi in &tois[..7] {
            sender.withdraw(*toi);
        }
        let next = add(&mut sender, 16);
        assert_eq!((sender.page_of(next), sender.fdt_pages()), (Some(0), 2), "the first page has room again");
    }

    #[test]
    fn a_session_of_very_many_files_has_larger_pages() {
        let mut sender = sender(SenderProfile { fdt_page_bytes: 64, ..SenderProfile::default() });
        for at in 0..SMALL_PAGES + 100 {
            sender.add(file(&at.to_string())).unwrap();
        }
        assert_eq!(sender.fdt_pages(), SMALL_PAGES, "one file in each, and all others in the last");
    }

    #[test]
    fn tois_and_instance_ids_begin_again_behind_their_width() {
        let mut sender = Sender::new(
            Tsi(7),
            SenderProfile { widths: Widths::BITS_16, ..SenderProfile::default() },
            65_535,
            0xf_ffff,
        );
        assert_eq!(sender.add(file("a")), Ok(Toi(65_535)));
        sender.refresh_fdt(WALL).unwrap();
        assert_eq!(page(&sender, 0).1, 0xf_ffff);
        assert_eq!(sender.add(file("b")), Ok(Toi(1)), "0 is the FDT");
        sender.refresh_fdt(WALL).unwrap();
        assert_eq!(page(&sender, 0).1, 0);
        sender.next_toi = 65_535;
        assert_eq!(sender.add(file("c")), Ok(Toi(2)), "both others are in use");
    }

    #[test]
    fn a_complete_session_says_so_in_every_page() {
        let mut sender = sender(SenderProfile { fdt_page_bytes: 64, ..SenderProfile::default() });
        for name in ["a", "b"] {
            sender.add(file(name)).unwrap();
        }
        assert_eq!(sender.refresh_fdt(WALL), Ok(vec![0, 1]));
        assert!(!page(&sender, 1).0.contains("Complete"));
        sender.set_complete();
        assert_eq!(sender.refresh_fdt(WALL), Ok(vec![0, 1]));
        assert!([0, 1].iter().all(|at| page(&sender, *at).0.contains("Complete=\"true\"")));
    }

    #[test]
    fn no_packet_of_an_fdt_instance_has_a_whole_closing_tag_without_its_opening() {
        for length in (1..20_000).chain([262_144, 1 << 20]) {
            let symbol = usize::from(fdt_symbol_length(length, 1400));
            let last = length % symbol;
            assert!(
                symbol <= 1400 && (length <= 1400 || (2..15).contains(&last)),
                "{length}: {symbol}, {last}"
            );
        }
    }
}
