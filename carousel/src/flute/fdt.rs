//! FDT Instance: the XML that describes a session's objects (RFC 6726 section 3.4.2; 3GPP TS 26.346; TS 103 769 Annex F).
//!
//! The model and its serialisation; the parser is in `read.rs`. Values of a file override those of the instance.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::digest::{Digest, to_base64};
use crate::fec::{EncodingId, Oti, SchemeInfo};
use crate::lct::Toi;
use crate::query::IgnoredQuery;
use crate::trust::{self, SignedBy};
use crate::xml::escape;

/// Namespace of written FDT Instances; it should not matter to receivers, but does to some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FdtNamespace {
    /// `urn:IETF:metadata:2005:FLUTE:FDT`: RFC 3926 practice, 3GPP, NIP equipment.
    #[default]
    Ietf2005,
    /// `urn:ietf:params:xml:ns:fdt`: RFC 6726.
    Rfc6726,
    /// `urn:3GPP:metadata:2022:FLUTE:FDT`: literally as in TS 103 769 Annex F.
    ThreeGpp2022,
}

impl FdtNamespace {
    /// Every variant.
    pub const ALL: [Self; 3] = [Self::Ietf2005, Self::Rfc6726, Self::ThreeGpp2022];

    /// The URI.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Ietf2005 => "urn:IETF:metadata:2005:FLUTE:FDT",
            Self::Rfc6726 => "urn:ietf:params:xml:ns:fdt",
            Self::ThreeGpp2022 => "urn:3GPP:metadata:2022:FLUTE:FDT",
        }
    }

    /// Whether its files may have child elements.
    const fn has_elements(self) -> bool {
        !matches!(self, Self::Ietf2005)
    }
}

/// One FDT Instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FdtInstance {
    /// NTP seconds after which the instance is no longer valid.
    pub expires: u32,
    /// No further files will be described in this session.
    pub complete: bool,
    /// The files, each complete in itself: defaults of the instance are already applied.
    pub files: Vec<File>,
    /// Unknown attributes of the root.
    pub unknown: Vec<(String, String)>,
}

/// Description of one object by the FDT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    /// Object name as sent: URI, relative reference, or `urn:`.
    pub content_location: String,
    /// Its TOI; never 0.
    pub toi: Toi,
    /// Bytes before content encoding.
    pub content_length: Option<u64>,
    /// Bytes as transported.
    pub transfer_length: Option<u64>,
    /// MIME type.
    pub content_type: Option<String>,
    /// Content encoding.
    pub encoding: Encoding,
    /// MD5: of the transported bytes by the standard, of the decoded ones by some senders.
    pub content_md5: Option<[u8; 16]>,
    /// SHA-256 of the transported bytes (TS 103 769 Annex F).
    pub content_digest: Option<Digest>,
    /// SHA-256 of the decoded object.
    pub repr_digest: Option<Digest>,
    /// Entity tag at a repair server (3GPP).
    pub etag: Option<String>,
    /// Time for which the object may be cached (3GPP).
    pub cache_control: Option<CacheControl>,
    /// Query parameters that do not distinguish the object.
    pub ignored_query: IgnoredQuery,
    /// FEC OTI.
    pub oti: OtiAttributes,
    /// Signer of the description, and through its SHA-256 of the object; `None`: not signed by a trusted key.
    pub signed_by: Option<Arc<SignedBy>>,
    /// Unknown attributes, by local name.
    pub unknown: Vec<(String, String)>,
}

/// `Content-Encoding`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encoding {
    /// No encoding.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// RFC 1951; in HTTP the same name means zlib, and both occur.
    Deflate,
    /// An unsupported encoding.
    Other(String),
}

impl Encoding {
    /// Parses the attribute's value.
    pub fn from_attribute(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "null" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip,
            "zlib" => Self::Zlib,
            "deflate" => Self::Deflate,
            _ => Self::Other(text.trim().to_owned()),
        }
    }

    /// The attribute's value; `None` for identity.
    pub fn as_attribute(&self) -> Option<&str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zlib => Some("zlib"),
            Self::Deflate => Some("deflate"),
            Self::Other(name) => Some(name),
        }
    }
}

/// 3GPP `Cache-Control` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheControl {
    /// Do not cache.
    NoCache,
    /// Cache as long as possible.
    MaxStale,
    /// Until these NTP seconds.
    Expires(u32),
}

/// FEC-OTI-* attributes; absent ones come from EXT_FTI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OtiAttributes {
    /// FEC-OTI-FEC-Encoding-ID.
    pub encoding_id: Option<u8>,
    /// FEC-OTI-FEC-Instance-ID.
    pub instance_id: Option<u16>,
    /// FEC-OTI-Maximum-Source-Block-Length.
    pub max_source_block_length: Option<u32>,
    /// FEC-OTI-Encoding-Symbol-Length.
    pub symbol_length: Option<u16>,
    /// FEC-OTI-Max-Number-of-Encoding-Symbols.
    pub max_n: Option<u16>,
    /// FEC-OTI-Scheme-Specific-Info, decoded from base64.
    pub scheme_info: Option<Vec<u8>>,
}

impl OtiAttributes {
    /// Attributes that a sender writes for `oti`.
    pub fn of(oti: &Oti) -> Self {
        let (max_n, scheme_info) = match oti.scheme {
            SchemeInfo::None => (None, None),
            SchemeInfo::ReedSolomon { max_n, m, group } if oti.encoding_id == EncodingId::RS_GF2M => {
                (Some(max_n), Some(vec![m, group]))
            }
            SchemeInfo::ReedSolomon { max_n, .. } => (Some(max_n), None),
            SchemeInfo::Raptor { source_blocks, sub_blocks, alignment } => {
                let [high, low] = source_blocks.to_be_bytes();
                (None, Some(vec![high, low, sub_blocks, alignment]))
            }
            SchemeInfo::RaptorQ { source_blocks, sub_blocks, alignment } => {
                let [high, low] = sub_blocks.to_be_bytes();
                (None, Some(vec![source_blocks, high, low, alignment]))
            }
        };
        Self {
            encoding_id: Some(oti.encoding_id.0),
            instance_id: (oti.encoding_id.0 >= 128).then_some(oti.instance_id),
            max_source_block_length: (oti.max_source_block_length > 0).then_some(oti.max_source_block_length),
            symbol_length: Some(oti.symbol_length),
            max_n,
            scheme_info,
        }
    }
}

impl File {
    /// Bytes as transported: `Transfer-Length`, or `Content-Length` without content encoding.
    pub fn on_air_length(&self) -> Option<u64> {
        self.transfer_length.or_else(|| self.content_length.filter(|_| self.encoding == Encoding::Identity))
    }

    /// SHA-256 of the decoded object, if the FDT gives one. Without content encoding, a digest of the transported bytes
    /// is one of the object.
    pub fn object_digest(&self) -> Option<Digest> {
        match self.encoding {
            Encoding::Identity => self.content_digest.or(self.repr_digest),
            _ => self.repr_digest,
        }
    }

    /// Length of the decoded object, if the FDT gives it.
    pub fn object_length(&self) -> Option<u64> {
        match self.encoding {
            Encoding::Identity => self.content_length.or(self.transfer_length),
            _ => self.content_length,
        }
    }

    /// Version of the object for caches: its TOI, which differs between versions. 0 if the TOI exceeds 64 bits: no
    /// version is derived.
    pub fn version(&self) -> u64 {
        u64::try_from(self.toi.0).unwrap_or(0)
    }

    /// The OTI of this object, or `None` if a parameter that is needed to place symbols is missing.
    pub fn oti(&self) -> Option<Oti> {
        let transfer_length = self.on_air_length()?;
        let attributes = &self.oti;
        let encoding_id = EncodingId(attributes.encoding_id.unwrap_or(0));
        let info = attributes.scheme_info.as_deref().unwrap_or(&[]);
        let max_n = attributes.max_n.unwrap_or(0);
        let scheme = match (encoding_id.0, info) {
            (1, &[z1, z2, sub_blocks, alignment, ..]) => {
                SchemeInfo::Raptor { source_blocks: u16::from_be_bytes([z1, z2]), sub_blocks, alignment }
            }
            (6, &[source_blocks, n1, n2, alignment, ..]) => {
                SchemeInfo::RaptorQ { source_blocks, sub_blocks: u16::from_be_bytes([n1, n2]), alignment }
            }
            (1 | 6, _) => return None,
            (2, &[m, group, ..]) if m > 0 => SchemeInfo::ReedSolomon { max_n, m, group },
            (2 | 5 | 129, _) => SchemeInfo::ReedSolomon { max_n, m: 8, group: 1 },
            _ => SchemeInfo::None,
        };
        Some(Oti {
            encoding_id,
            instance_id: attributes.instance_id.unwrap_or(0),
            transfer_length,
            symbol_length: attributes.symbol_length?,
            max_source_block_length: attributes.max_source_block_length.unwrap_or(0),
            scheme,
        })
    }

    /// Whether `other`, a later description of the same TOI, describes the same bytes: RFC 6726 allows it to complement
    /// the earlier one, not to contradict it.
    pub fn is_same_object(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        self.content_location == other.content_location
            && self.encoding == other.encoding
            && agree(self.on_air_length().as_ref(), other.on_air_length().as_ref())
            && agree(self.content_length.as_ref(), other.content_length.as_ref())
            && agree(self.content_md5.as_ref(), other.content_md5.as_ref())
            && agree(self.content_digest.as_ref(), other.content_digest.as_ref())
    }

    /// Approximate memory of the entry's texts.
    pub(crate) fn text_bytes(&self) -> usize {
        let unknown: usize = self.unknown.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.content_location.len()
            + self.content_type.as_ref().map_or(0, String::len)
            + self.etag.as_ref().map_or(0, String::len)
            + unknown
    }
}

const DVB_EXTENDED_FDT: &str = "urn:dvb:metadata:ExtendedFileDeliveryTable:2022";
/// Namespace of the `Cache-Control` element (TS 26.346 clause 7.2.10.2).
const MBMS_2007: &str = "urn:3GPP:metadata:2007:MBMS:FLUTE:FDT";
/// Namespace of our attributes of a `File`. `No-Vary-Search`: see [`crate::query`]. `Expires`: the value of that element,
/// without a closing tag. Dissectors that parse each packet's text separately (tshark) take a closing tag without its opening
/// for a malformed packet, and with an element in each file nearly every packet would have one.
const SKYCACHE_FDT: &str = trust::NAMESPACE;

impl FdtInstance {
    /// `expires` of an instance without the attribute.
    pub const NO_EXPIRES: u32 = u32::MAX;

    /// Writes the XML: OTI on every `File` and, from the first file, on the instance, since receivers differ in where
    /// they look (GPAC divides by zero without the former, others read only the latter).
    pub fn to_xml(&self, namespace: FdtNamespace) -> String {
        self.write_xml(namespace, false)
    }

    /// As [`FdtInstance::to_xml`], with a placeholder for a signature: see [`trust::Sealer::seal_xml`].
    pub fn to_signable_xml(&self, namespace: FdtNamespace) -> String {
        self.write_xml(namespace, true)
    }

    fn write_xml(&self, namespace: FdtNamespace, is_signable: bool) -> String {
        let mut out = String::with_capacity(256 + 512 * self.files.len());
        let _ = write!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<FDT-Instance xmlns=\"{}\"",
            namespace.uri()
        );
        if self.files.iter().any(|file| file.content_digest.or(file.repr_digest).is_some()) {
            let _ = write!(out, " xmlns:dvb=\"{DVB_EXTENDED_FDT}\"");
        }
        let is_attribute =
            |it: &CacheControl| matches!(it, CacheControl::Expires(_)) && !namespace.has_elements();
        let mut said = self.files.iter().filter_map(|file| file.cache_control.as_ref());
        let has_query = self.files.iter().any(|file| file.ignored_query != IgnoredQuery::Nothing);
        if is_signable || has_query || said.clone().any(is_attribute) {
            let _ = write!(out, " xmlns:sky=\"{SKYCACHE_FDT}\"");
        }
        if said.any(|it| !is_attribute(it)) {
            let _ = write!(out, " xmlns:mbms2007=\"{MBMS_2007}\"");
        }
        let _ = write!(out, " Expires=\"{}\"", self.expires);
        if self.complete {
            out.push_str(" Complete=\"true\"");
        }
        if let Some(first) = self.files.first() {
            write_oti(&mut out, &first.oti);
        }
        if is_signable {
            out.push_str(trust::BLANK);
        }
        out.push_str(">\n");
        for file in &self.files {
            file.write_xml(namespace, &mut out);
        }
        out.push_str("</FDT-Instance>\n");
        out
    }
}

impl File {
    /// Bytes that [`FdtInstance::to_xml`] adds for this file; a sender splits its FDT by it.
    pub fn xml_bytes(&self, namespace: FdtNamespace) -> usize {
        let mut out = String::with_capacity(512);
        self.write_xml(namespace, &mut out);
        out.len()
    }

    fn write_xml(&self, namespace: FdtNamespace, out: &mut String) {
        let _ = write!(
            out,
            "  <File TOI=\"{}\" Content-Location=\"{}\"",
            self.toi,
            escape(&self.content_location)
        );
        let mut attribute = |name: &str, value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                let _ = write!(out, " {name}=\"{}\"", escape(&value.to_string()));
            }
        };
        let length = |value: &Option<u64>| value.map(|value| value.to_string());
        let display = |value: &Option<String>| value.clone();
        for (name, value) in [
            ("Content-Length", length(&self.content_length)),
            ("Transfer-Length", length(&self.transfer_length)),
            ("Content-Type", display(&self.content_type)),
            ("Content-Encoding", self.encoding.as_attribute().map(str::to_owned)),
            ("Content-MD5", self.content_md5.map(|md5| to_base64(&md5))),
            ("dvb:Content-Digest", self.content_digest.map(Digest::to_field)),
            ("dvb:Repr-Digest", self.repr_digest.map(Digest::to_field)),
            ("sky:No-Vary-Search", self.ignored_query.to_field()),
        ] {
            attribute(name, value.as_ref().map(|value| value as &dyn std::fmt::Display));
        }
        write_oti(out, &self.oti);
        let directive = match self.cache_control {
            None => return out.push_str("/>\n"),
            Some(CacheControl::Expires(ntp)) if !namespace.has_elements() => {
                let _ = writeln!(out, " sky:Expires=\"{ntp}\"/>");
                return;
            }
            Some(CacheControl::NoCache) => "<mbms2007:no-cache>true</mbms2007:no-cache>".to_owned(),
            Some(CacheControl::MaxStale) => "<mbms2007:max-stale>true</mbms2007:max-stale>".to_owned(),
            Some(CacheControl::Expires(ntp)) => format!("<mbms2007:Expires>{ntp}</mbms2007:Expires>"),
        };
        let _ = writeln!(out, "><mbms2007:Cache-Control>{directive}</mbms2007:Cache-Control></File>");
    }
}

fn write_oti(out: &mut String, oti: &OtiAttributes) {
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            let _ = write!(out, " FEC-OTI-{name}=\"{value}\"");
        }
    };
    number("FEC-Encoding-ID", oti.encoding_id.map(u64::from));
    number("FEC-Instance-ID", oti.instance_id.map(u64::from));
    number("Maximum-Source-Block-Length", oti.max_source_block_length.map(u64::from));
    number("Encoding-Symbol-Length", oti.symbol_length.map(u64::from));
    number("Max-Number-of-Encoding-Symbols", oti.max_n.map(u64::from));
    if let Some(info) = &oti.scheme_info {
        let _ = write!(out, " FEC-OTI-Scheme-Specific-Info=\"{}\"", to_base64(info));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        File { content_location: "a".to_owned(), toi: Toi(1), content_length: Some(10), ..File::default() }
    }

    fn xml(file: File, namespace: FdtNamespace) -> String {
        FdtInstance { expires: 5, files: vec![file], ..FdtInstance::default() }.to_xml(namespace)
    }

    #[test]
    fn each_namespace_byte_for_byte() {
        let root = |uri: &str, extra: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<FDT-Instance xmlns=\"{uri}\"{extra} Expires=\"5\">\n  \
                <File TOI=\"1\" Content-Location=\"a\" Content-Length=\"10\""
            )
        };
        let expiring = || File { cache_control: Some(CacheControl::Expires(7)), ..file() };
        for (namespace, uri) in [
            (FdtNamespace::Ietf2005, "urn:IETF:metadata:2005:FLUTE:FDT"),
            (FdtNamespace::Rfc6726, "urn:ietf:params:xml:ns:fdt"),
            (FdtNamespace::ThreeGpp2022, "urn:3GPP:metadata:2022:FLUTE:FDT"),
        ] {
            assert_eq!(xml(file(), namespace), root(uri, "") + "/>\n</FDT-Instance>\n");
            // Cache-Control is an attribute of ours where files have no elements, and 3GPP's element elsewhere.
            let written = xml(expiring(), namespace);
            if namespace == FdtNamespace::Ietf2005 {
                let ours = root(uri, " xmlns:sky=\"urn:skycache:flute:fdt:2026\"");
                assert_eq!(written, ours + " sky:Expires=\"7\"/>\n</FDT-Instance>\n");
            } else {
                let theirs = root(uri, " xmlns:mbms2007=\"urn:3GPP:metadata:2007:MBMS:FLUTE:FDT\"");
                let element =
                    "<mbms2007:Cache-Control><mbms2007:Expires>7</mbms2007:Expires></mbms2007:Cache-Control>";
                assert_eq!(written, theirs + &format!(">{element}</File>\n</FDT-Instance>\n"));
            }
            let no_cache = xml(File { cache_control: Some(CacheControl::NoCache), ..file() }, namespace);
            assert!(no_cache.contains("xmlns:mbms2007=") && !no_cache.contains("xmlns:sky="), "{no_cache}");
        }
    }

    #[test]
    fn names_of_encodings() {
        for (text, encoding) in [
            ("", Encoding::Identity),
            (" Identity ", Encoding::Identity),
            ("null", Encoding::Identity),
            ("GZIP", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("zlib", Encoding::Zlib),
            ("deflate", Encoding::Deflate),
            (" br ", Encoding::Other("br".to_owned())),
        ] {
            assert_eq!(Encoding::from_attribute(text), encoding);
            if let Some(name) = encoding.as_attribute() {
                assert_eq!(Encoding::from_attribute(name), encoding);
            }
        }
        assert_eq!(Encoding::Identity.as_attribute(), None);
    }

    /// A receiver reads what a sender writes of each scheme's OTI.
    #[test]
    fn oti_of_every_scheme_survives_the_attributes() {
        let rs = |max_n, m, group| SchemeInfo::ReedSolomon { max_n, m, group };
        for (id, scheme, block, info) in [
            (0, SchemeInfo::None, 64, None),
            (
                1,
                SchemeInfo::Raptor { source_blocks: 258, sub_blocks: 3, alignment: 4 },
                0,
                Some(vec![1, 2, 3, 4]),
            ),
            (2, rs(200, 9, 2), 150, Some(vec![9, 2])),
            (5, rs(200, 8, 1), 150, None),
            (
                6,
                SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 515, alignment: 4 },
                0,
                Some(vec![1, 2, 3, 4]),
            ),
            (129, rs(200, 8, 1), 150, None),
        ] {
            let oti = Oti {
                encoding_id: EncodingId(id),
                instance_id: if id >= 128 { 7 } else { 0 },
                max_source_block_length: block,
                scheme,
                ..Oti::no_code(10, 4, block)
            };
            let attributes = OtiAttributes::of(&oti);
            assert_eq!(attributes.scheme_info, info, "{id}");
            assert_eq!(attributes.instance_id, (id >= 128).then_some(7), "{id}");
            assert_eq!(attributes.max_source_block_length, (block > 0).then_some(block), "{id}");
            assert_eq!(File { oti: attributes, ..file() }.oti(), Some(oti), "{id}");
        }
        // What is left out or makes no sense: Raptor codes need their information, Reed-Solomon has defaults.
        let read = |id, scheme_info| {
            let oti = OtiAttributes {
                encoding_id: Some(id),
                scheme_info,
                symbol_length: Some(4),
                ..OtiAttributes::default()
            };
            File { oti, ..file() }.oti().map(|oti| oti.scheme)
        };
        assert_eq!((read(1, None), read(6, Some(vec![1, 2, 3]))), (None, None));
        assert_eq!(read(2, Some(vec![0, 9])), Some(rs(0, 8, 1)));
        assert_eq!(read(2, Some(vec![4, 9])), Some(rs(0, 4, 9)));
        assert_eq!(read(5, None), Some(rs(0, 8, 1)));
        assert_eq!(read(0, None), Some(SchemeInfo::None));
        assert_eq!(file().oti(), None, "no symbol length");
    }

    #[test]
    fn the_length_on_the_air_is_that_of_the_encoded_bytes() {
        let gzip = File { encoding: Encoding::Gzip, ..file() };
        assert_eq!((file().on_air_length(), gzip.on_air_length()), (Some(10), None));
        assert_eq!(File { transfer_length: Some(7), ..gzip }.on_air_length(), Some(7));
    }

    #[test]
    fn digest_length_and_version_are_those_of_the_object_that_players_get() {
        let (content, repr) = (Some(Digest::of(b"content")), Some(Digest::of(b"repr")));
        let plain = File { content_digest: content, repr_digest: repr, transfer_length: Some(9), ..file() };
        assert_eq!((plain.object_digest(), plain.object_length()), (content, Some(10)));
        let bare = File { content_digest: None, content_length: None, ..plain.clone() };
        assert_eq!((bare.object_digest(), bare.object_length()), (repr, Some(9)));
        let gzip = File { encoding: Encoding::Gzip, ..plain.clone() };
        assert_eq!((gzip.object_digest(), gzip.object_length()), (repr, Some(10)));
        let bare = File { repr_digest: None, content_length: None, ..gzip };
        assert_eq!((bare.object_digest(), bare.object_length()), (None, None));
        assert_eq!(plain.version(), 1);
        assert_eq!(File { toi: Toi(u128::from(u64::MAX)), ..file() }.version(), u64::MAX);
        assert_eq!(File { toi: Toi(1 << 64), ..file() }.version(), 0);
    }

    #[test]
    fn a_description_may_complement_and_not_contradict() {
        let known = File { content_md5: Some([1; 16]), transfer_length: Some(10), ..file() };
        assert!(known.is_same_object(&file()) && file().is_same_object(&known));
        let digest = Some(Digest::of(b"x"));
        for other in [
            File { content_location: "b".to_owned(), ..known.clone() },
            File { encoding: Encoding::Gzip, ..known.clone() },
            File { transfer_length: Some(11), ..known.clone() },
            File { content_length: Some(11), ..known.clone() },
            File { content_md5: Some([2; 16]), ..known.clone() },
        ] {
            assert!(!known.is_same_object(&other), "{other:?}");
        }
        let with_digest = File { content_digest: digest, ..known.clone() };
        assert!(known.is_same_object(&with_digest));
        let another = File { content_digest: Some(Digest::of(b"y")), ..known };
        assert!(!with_digest.is_same_object(&another));
    }

    #[test]
    fn text_is_counted_to_the_byte() {
        let all = File {
            content_location: "x".repeat(100),
            content_type: Some("y".repeat(20)),
            etag: Some("z".repeat(3)),
            unknown: vec![("k".repeat(5), "v".repeat(7)), ("l".to_owned(), "w".to_owned())],
            ..File::default()
        };
        assert_eq!(all.text_bytes(), 100 + 20 + 3 + 5 + 7 + 2);
    }
}
