//! Parser of FDT Instances: one pass over the bytes, without a tree; names are matched without their prefix.
//!
//! An unusable `File` (no name, no TOI, TOI 0, malformed numbers) is skipped and counted, so that one bad entry does not
//! hide the others.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use super::fdt::{CacheControl, Encoding, FdtInstance, File, OtiAttributes};
use crate::digest::{Digest, from_base64, md5_from_text};
use crate::lct::Toi;
use crate::limits::{MAX_FDT_BYTES, MAX_URI_BYTES, MAX_XML_DEPTH};
use crate::query::IgnoredQuery;
use crate::xml::XmlError;

impl FdtInstance {
    /// Parses an FDT Instance in any of its namespaces. Also returns the number of unusable `File` elements.
    ///
    /// # Errors
    /// `Malformed` for bad XML, `Missing` if the root is not `FDT-Instance`, `TooLarge` above
    /// [`MAX_FDT_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), XmlError> {
        if bytes.len() as u64 > MAX_FDT_BYTES {
            return Err(XmlError::TooLarge("FDT Instance larger than 1 MiB"));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) if is_latin1(bytes) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
            Err(err) => Cow::Owned(of_utf16(bytes).ok_or_else(|| {
                let offset = err.valid_up_to() as u64;
                XmlError::Malformed { offset, why: "not UTF-8".to_owned() }
            })?),
        };
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        let mut parser = Parser::default();
        loop {
            let at = reader.buffer_position();
            let malformed = |why: String| XmlError::Malformed { offset: at, why };
            match reader.read_event().map_err(|err| malformed(err.to_string()))? {
                Event::Start(start) => {
                    parser.start(&start).map_err(malformed)?;
                    parser.depth += 1;
                }
                Event::Empty(start) => {
                    parser.start(&start).map_err(malformed)?;
                    parser.end(start.local_name().as_ref());
                }
                Event::End(end) => {
                    parser.depth = parser.depth.saturating_sub(1);
                    parser.end(end.local_name().as_ref());
                }
                Event::Text(text) => parser.text(&text.xml10_content()),
                // A document type without declarations is only a name; entities are never expanded.
                Event::DocType(declaration) if !declaration.contains('[') => {}
                Event::DocType(_) => {
                    return Err(malformed("document type declarations are refused".to_owned()));
                }
                Event::Eof => break,
                _ => {}
            }
            if parser.depth > MAX_XML_DEPTH {
                return Err(XmlError::TooLarge("elements nested more than 64 deep"));
            }
        }
        if parser.depth != 0 {
            return Err(XmlError::Malformed {
                offset: bytes.len() as u64,
                why: "the document ends early".to_owned(),
            });
        }
        let instance = parser
            .instance
            .ok_or_else(|| XmlError::Missing { what: "FDT-Instance", within: "document".to_owned() })?;
        Ok((instance, parser.unusable))
    }
}

/// Decodes UTF-16 after its byte order mark, which XML parsers must support (XML 1.0 section 4.3.3).
fn of_utf16(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match bytes.get(..2)? {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let (pairs, odd) = bytes[2..].as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect();
    text.ok().filter(|_| odd.is_empty())
}

/// Whether the XML declaration names ISO 8859-1, whose bytes are the first code points.
fn is_latin1(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(100)];
    let declaration = head.split(|&byte| byte == b'>').next().unwrap_or_default();
    declaration.starts_with(b"<?xml")
        && ["iso-8859-1", "latin1", "us-ascii"]
            .iter()
            .any(|name| declaration.windows(name.len()).any(|it| it.eq_ignore_ascii_case(name.as_bytes())))
}

#[derive(Default)]
struct Parser {
    instance: Option<FdtInstance>,
    /// Defaults that the instance gives to its files.
    defaults: File,
    file: Option<Option<File>>,
    /// The 3GPP element whose text is being read.
    reading: Option<CacheControl>,
    depth: usize,
    unusable: usize,
}

impl Parser {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let name = start.local_name();
        match (name.as_ref(), self.instance.is_some()) {
            ("FDT-Instance", false) => {
                let mut instance = FdtInstance::default();
                let mut expires = None;
                for_each_attribute(start, |name, value| match name {
                    "Expires" => expires = value.trim().parse::<u64>().ok(),
                    // Our extension; evaluated before the document is parsed: see `trust`.
                    "Signature" => {}
                    "Complete" => instance.complete = matches!(value.trim(), "true" | "1"),
                    _ if self.defaults.set(name, value).is_none() => {
                        instance.unknown.push((name.to_owned(), value.to_owned()));
                    }
                    _ => {}
                })?;
                // Some senders write more than 32 bits, of which the low ones are the same in all NTP eras. Others omit
                // it, against RFC 6726 section 3.4.2: the receiver then counts from the time of reception.
                instance.expires = expires.map_or(FdtInstance::NO_EXPIRES, |it| it as u32);
                self.instance = Some(instance);
            }
            ("File", true) => {
                let mut file = self.defaults.clone();
                let mut usable = true;
                for_each_attribute(start, |name, value| match file.set(name, value) {
                    Some(ok) => usable &= ok,
                    None => file.unknown.push((name.to_owned(), value.to_owned())),
                })?;
                usable &= !file.content_location.is_empty() && file.toi != Toi::FDT;
                self.file = Some(usable.then_some(file));
            }
            ("no-cache", true) => self.cache_control(CacheControl::NoCache),
            ("max-stale", true) => self.cache_control(CacheControl::MaxStale),
            ("Expires", true) => self.reading = Some(CacheControl::Expires(0)),
            (_, true) => {}
            (other, false) => return Err(format!("the root is <{other}>, not <FDT-Instance>")),
        }
        Ok(())
    }

    fn cache_control(&mut self, value: CacheControl) {
        if let Some(Some(file)) = &mut self.file {
            file.cache_control = Some(value);
        }
    }

    fn text(&mut self, text: &str) {
        if let (Some(CacheControl::Expires(_)), Ok(seconds)) = (self.reading, text.trim().parse::<u64>()) {
            self.cache_control(CacheControl::Expires(seconds as u32));
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "File" => match (self.file.take(), &mut self.instance) {
                (Some(Some(file)), Some(instance)) => instance.files.push(file),
                (Some(None), _) => self.unusable += 1,
                _ => {}
            },
            "Expires" => self.reading = None,
            _ => {}
        }
    }
}

fn for_each_attribute(start: &BytesStart<'_>, mut each: impl FnMut(&str, &str)) -> Result<(), String> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|err| err.to_string())?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|err| err.to_string())?;
        each(attribute.key.local_name().as_ref(), &value);
    }
    Ok(())
}

fn number<T: std::str::FromStr>(value: &str) -> Option<T> {
    value.trim().parse().ok()
}

impl File {
    /// Sets the attribute of that local name. `None` if it is unknown, `Some(false)` if its value makes the complete
    /// entry unusable.
    fn set(&mut self, name: &str, value: &str) -> Option<bool> {
        Some(match name {
            "Content-Location" => {
                self.content_location = value.trim().to_owned();
                value.len() <= MAX_URI_BYTES
            }
            "TOI" => {
                self.toi = Toi(number(value).unwrap_or(0));
                true
            }
            "Content-Length" => {
                self.content_length = number(value);
                self.content_length.is_some()
            }
            "Transfer-Length" => {
                self.transfer_length = number(value);
                self.transfer_length.is_some()
            }
            "Content-Type" => {
                self.content_type = Some(value.trim().to_owned()).filter(|text| !text.is_empty());
                true
            }
            "Content-Encoding" => {
                self.encoding = Encoding::from_attribute(value);
                true
            }
            // An unreadable digest must not count as checked; the object is still usable.
            "Content-MD5" => {
                self.content_md5 = md5_from_text(value);
                true
            }
            "Content-Digest" => {
                self.content_digest = Digest::from_field(value);
                true
            }
            "Repr-Digest" => {
                self.repr_digest = Digest::from_field(value);
                true
            }
            // Our extension, for `Cache-Control/Expires`; see `FdtInstance::to_xml`.
            "Expires" => {
                self.cache_control = number(value).map(CacheControl::Expires);
                true
            }
            // Our extension; see `query`.
            "No-Vary-Search" => {
                self.ignored_query = IgnoredQuery::from_field(value);
                true
            }
            "File-ETag" => {
                self.etag = Some(value.to_owned());
                true
            }
            _ => return self.oti.set(name, value),
        })
    }
}

impl OtiAttributes {
    /// As [`File::set`], for the attributes of the FEC Object Transmission Information.
    fn set(&mut self, name: &str, value: &str) -> Option<bool> {
        Some(match name {
            "FEC-OTI-FEC-Encoding-ID" => {
                self.encoding_id = number(value);
                self.encoding_id.is_some()
            }
            "FEC-OTI-FEC-Instance-ID" => {
                self.instance_id = number(value);
                true
            }
            "FEC-OTI-Maximum-Source-Block-Length" => {
                self.max_source_block_length = number(value);
                self.max_source_block_length.is_some()
            }
            "FEC-OTI-Encoding-Symbol-Length" => {
                self.symbol_length = number(value);
                self.symbol_length.is_some()
            }
            "FEC-OTI-Max-Number-of-Encoding-Symbols" => {
                self.max_n = number(value);
                true
            }
            "FEC-OTI-Scheme-Specific-Info" => {
                self.scheme_info = from_base64(value);
                true
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fec::Oti;
    use crate::flute::FdtNamespace;
    use proptest::prelude::*;

    #[test]
    fn oti_only_on_the_instance_as_rt_libflute_sends_it() {
        let xml = br#"<?xml version="1.0" encoding="UTF-8"?>
<FDT-Instance xmlns="urn:IETF:metadata:2005:FLUTE:FDT" Expires="4004208916" FEC-OTI-FEC-Encoding-ID="0" FEC-OTI-Maximum-Source-Block-Length="64" FEC-OTI-Encoding-Symbol-Length="1436" xmlns:mbms2007="urn:3GPP:metadata:2007:MBMS:FLUTE:FDT">
    <File TOI="2" Content-Location="r700k.bin" Content-Length="700000" Transfer-Length="700000" Content-MD5="xdcszDZv141S253LqEFHmQ==" Content-Type="application/octet-stream"/>
</FDT-Instance>"#;
        let (instance, unusable) = FdtInstance::parse(xml).unwrap();
        assert_eq!((instance.expires, instance.files.len(), unusable), (4_004_208_916, 1, 0));
        assert_eq!(instance.files[0].oti(), Some(Oti::no_code(700_000, 1436, 64)));
        assert!(instance.files[0].content_md5.is_some());
    }

    #[test]
    fn any_namespace_any_prefix_and_the_extensions_of_3gpp() {
        let xml = br#"<f:FDT-Instance xmlns:f="urn:3GPP:metadata:2022:FLUTE:FDT" xmlns:m="urn:3GPP:metadata:2007:MBMS:FLUTE:FDT"
            xmlns:d="urn:dvb:metadata:ExtendedFileDeliveryTable:2022" Expires="4294944000" Complete="1" FullFDT="true" Content-Type="video/mp4">
            <f:File TOI="65536000" Content-Location="http://h/a?x=1&amp;y=2" Content-Length="10" Transfer-Length="7" Content-Encoding="gzip"
              d:Content-Digest="sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:" m:Future="yes" FEC-OTI-Encoding-Symbol-Length="100">
              <m:Cache-Control><m:Expires>3900000000</m:Expires></m:Cache-Control></f:File>
            <f:Group>g</f:Group></f:FDT-Instance>"#;
        let (instance, _) = FdtInstance::parse(xml).unwrap();
        let file = &instance.files[0];
        assert!(instance.complete);
        assert_eq!(file.content_location, "http://h/a?x=1&y=2");
        assert_eq!((file.encoding.clone(), file.on_air_length()), (Encoding::Gzip, Some(7)));
        assert_eq!(file.content_digest, Some(Digest::of(b"abc")));
        assert_eq!(file.cache_control, Some(CacheControl::Expires(3_900_000_000)));
        assert_eq!(file.unknown, [("Future".to_owned(), "yes".to_owned())]);
        assert_eq!(file.content_type.as_deref(), Some("video/mp4"));
    }

    #[test]
    fn an_unusable_file_does_not_hide_the_others() {
        let xml = br#"<FDT-Instance Expires="1"><File TOI="0" Content-Location="fdt"/><File TOI="1"/>
            <File TOI="2" Content-Location="x" Content-Length="-4"/><File TOI="99999999999999999999999999999999999999999" Content-Location="y"/>
            <File TOI="5192296858534827628530496329220095" Content-Location="112 bits" Content-Length="4"/></FDT-Instance>"#;
        let (instance, unusable) = FdtInstance::parse(xml).unwrap();
        assert_eq!((instance.files.len(), unusable), (1, 4));
        assert_eq!(instance.files[0].toi, Toi((1 << 112) - 1));
    }

    #[test]
    fn takes_what_senders_write_beside_the_standard() {
        let file = "<File TOI='1' Content-Location='http://h/\u{e9}'/></FDT-Instance>";
        for head in [
            "<FDT-Instance>",
            "<FDT-Instance Expires='never'>",
            "<!DOCTYPE FDT-Instance><FDT-Instance Expires='1'>",
        ] {
            let (instance, unusable) = FdtInstance::parse(format!("{head}{file}").as_bytes()).unwrap();
            assert_eq!((instance.files.len(), unusable), (1, 0), "{head}");
        }
        let text = format!("<?xml version='1.0' encoding='ISO-8859-1'?><FDT-Instance Expires='1'>{file}");
        let bytes: Vec<u8> = text.chars().map(|it| it as u8).collect();
        assert_eq!(FdtInstance::parse(&bytes).unwrap().0.files[0].content_location, "http://h/\u{e9}");
        assert!(FdtInstance::parse(&bytes[44..]).is_err(), "without a declaration it is not text");
        let text = format!("\u{feff}<?xml version='1.0' encoding='UTF-16'?><FDT-Instance Expires='1'>{file}");
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(to_bytes).collect();
            assert_eq!(FdtInstance::parse(&bytes).unwrap().0.files[0].content_location, "http://h/\u{e9}");
            assert!(FdtInstance::parse(&bytes[..bytes.len() - 1]).is_err(), "half a character");
        }
    }

    #[test]
    fn refuses_what_is_no_fdt_instance() {
        for bad in [
            "",
            "<a/>",
            "<FDT-Instance Expires='1'>",
            "<!DOCTYPE x [<!ENTITY e 'v'>]><FDT-Instance Expires='1'/>",
            "<FDT-Instance Expires='1' Expires='2'/>",
        ] {
            assert!(FdtInstance::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn instances_at_the_limits_are_read_and_those_beyond_are_not() {
        let padded = |bytes: usize| {
            let mut xml = b"<FDT-Instance Expires='1'/>".to_vec();
            xml.resize(bytes, b' ');
            xml
        };
        assert!(FdtInstance::parse(&padded(MAX_FDT_BYTES as usize)).is_ok());
        assert!(matches!(
            FdtInstance::parse(&padded(MAX_FDT_BYTES as usize + 1)),
            Err(XmlError::TooLarge(_))
        ));
        let nested = |depth: usize| {
            format!(
                "<FDT-Instance Expires='1'>{}{}</FDT-Instance>",
                "<a>".repeat(depth),
                "</a>".repeat(depth)
            )
        };
        assert!(FdtInstance::parse(nested(MAX_XML_DEPTH - 1).as_bytes()).is_ok());
        let beyond = FdtInstance::parse(nested(MAX_XML_DEPTH).as_bytes());
        assert!(matches!(beyond, Err(XmlError::TooLarge(_))), "{beyond:?}");
    }

    #[test]
    fn every_attribute_of_the_oti_and_defaults_of_the_instance() {
        let xml = br#"<FDT-Instance Expires="8589934595" Complete="no" Content-Encoding="zlib" Odd="1">
            <File TOI="3" Content-Location=" a " Content-Type=" " File-ETag="e" FEC-OTI-FEC-Encoding-ID="129"
              FEC-OTI-FEC-Instance-ID="9" FEC-OTI-Maximum-Source-Block-Length="50" FEC-OTI-Encoding-Symbol-Length="40"
              FEC-OTI-Max-Number-of-Encoding-Symbols="60" FEC-OTI-Scheme-Specific-Info="AQI=" Content-MD5="nonsense"
              Expires="17"/>
            <File TOI="4" Content-Location="b" Content-Encoding="" Cache-Control="x"/>
            <File TOI="5" Content-Location="c" FEC-OTI-FEC-Encoding-ID="300"/>
            <File TOI="6" Content-Location="d" FEC-OTI-Encoding-Symbol-Length="x"/>
            <File TOI="7" Content-Location="e" FEC-OTI-Maximum-Source-Block-Length=""/>
            <File TOI="8" Content-Location="f" Transfer-Length="1.5"/>
            <File TOI="9" Content-Location="g" FEC-OTI-FEC-Instance-ID="x" FEC-OTI-Max-Number-of-Encoding-Symbols="x"/>
            </FDT-Instance>"#;
        let (instance, unusable) = FdtInstance::parse(xml).unwrap();
        assert_eq!((instance.expires, instance.complete, unusable), (3, false, 4), "32 bits of the expiry");
        assert_eq!(instance.unknown, [("Odd".to_owned(), "1".to_owned())]);
        let tois: Vec<u128> = instance.files.iter().map(|file| file.toi.0).collect();
        assert_eq!(tois, [3, 4, 9]);
        let first = &instance.files[0];
        assert_eq!(
            first.oti,
            OtiAttributes {
                encoding_id: Some(129),
                instance_id: Some(9),
                max_source_block_length: Some(50),
                symbol_length: Some(40),
                max_n: Some(60),
                scheme_info: Some(vec![1, 2]),
            }
        );
        assert_eq!((first.content_location.as_str(), first.content_type.as_deref()), ("a", None));
        assert_eq!((first.etag.as_deref(), first.content_md5), (Some("e"), None));
        assert_eq!(first.cache_control, Some(CacheControl::Expires(17)));
        assert_eq!((&first.encoding, &instance.files[1].encoding), (&Encoding::Zlib, &Encoding::Identity));
        let long = "x".repeat(MAX_URI_BYTES + 1);
        for (length, unusable) in [(MAX_URI_BYTES, 0), (MAX_URI_BYTES + 1, 1)] {
            let name = &long[..length];
            let xml =
                format!("<FDT-Instance Expires='1'><File TOI='1' Content-Location='{name}'/></FDT-Instance>");
            assert_eq!(FdtInstance::parse(xml.as_bytes()).unwrap().1, unusable, "{length}");
        }
    }

    #[test]
    fn elements_of_cache_control_belong_to_their_file() {
        let xml =
            b"<FDT-Instance Expires='1'><Expires>9</Expires><no-cache/><File TOI='1' Content-Location='a'/>
            <File TOI='2' Content-Location='b'><c><Expires> 8 </Expires></c>7</File>
            <File TOI='3' Content-Location='c'><max-stale/></File>
            <File TOI='4' Content-Location='d'><no-cache>true</no-cache></File></FDT-Instance>";
        let (instance, unusable) = FdtInstance::parse(xml).unwrap();
        let all: Vec<_> = instance.files.iter().map(|file| file.cache_control).collect();
        let expires = Some(CacheControl::Expires(8));
        assert_eq!(
            (all, unusable),
            (vec![None, expires, Some(CacheControl::MaxStale), Some(CacheControl::NoCache)], 0)
        );
    }

    #[test]
    fn what_we_write_we_read() {
        let oti = Oti {
            scheme: crate::fec::SchemeInfo::RaptorQ { source_blocks: 3, sub_blocks: 1, alignment: 4 },
            encoding_id: crate::fec::EncodingId::RAPTORQ,
            max_source_block_length: 0,
            ..Oti::no_code(1000, 100, 0)
        };
        let file = File {
            content_location: "http://h/\"<&>.m4s".to_owned(),
            toi: Toi(7),
            content_length: Some(2000),
            transfer_length: Some(1000),
            content_type: Some("video/mp4".to_owned()),
            encoding: Encoding::Gzip,
            content_md5: Some([7; 16]),
            content_digest: Some(Digest::of(b"1")),
            repr_digest: Some(Digest::of(b"2")),
            oti: OtiAttributes::of(&oti),
            cache_control: Some(CacheControl::Expires(4_004_208_916)),
            ..File::default()
        };
        assert_eq!(file.oti(), Some(oti));
        let instance =
            FdtInstance { expires: 77, complete: true, files: vec![file.clone()], unknown: vec![] };
        for directive in [None, Some(CacheControl::NoCache), Some(CacheControl::MaxStale)] {
            let file = File { cache_control: directive, ..file.clone() };
            let one = FdtInstance { files: vec![file], ..instance.clone() };
            assert_eq!(FdtInstance::parse(one.to_xml(FdtNamespace::Rfc6726).as_bytes()).unwrap().0, one);
        }
        for namespace in FdtNamespace::ALL {
            let xml = instance.to_xml(namespace);
            assert_eq!(FdtInstance::parse(xml.as_bytes()).unwrap(), (instance.clone(), 0), "{xml}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = FdtInstance::parse(&bytes);
        }
    }
}
