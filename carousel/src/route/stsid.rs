//! S-TSID: the channels of a ROUTE session, their contents and the names of objects (ATSC A/331 section 7.1.4, TS 103 769
//! Annex H). Parsed by local name in any namespace; written in those of A/331.

use std::net::IpAddr;

use crate::fec::{EncodingId, Oti, SchemeInfo};
use crate::flute::File;
use crate::lct::Toi;
use crate::limits;
use crate::xml::{Element, XmlError, parse, write};

/// MIME type of an S-TSID.
pub const STSID_TYPE: &str = "application/route-s-tsid+xml";
/// Namespace of S-TSID.
const STSID: &str = "tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/S-TSID/1.0/";
/// Namespace of A/331's attributes of FDT Instances.
const AFDT: &str = "tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/ATSC-FDT/1.0/";
/// Namespace of RFC 6726.
const FDT: &str = "urn:ietf:params:xml:ns:fdt";

limits! {
    /// Channels that one S-TSID describes.
    pub(super) const MAX_CHANNELS: usize = 256, "channels" {
        why: "A service has a representation in each of some ten channels, and a repair flow for each.",
        full: "Further `LS` elements are left out and counted.",
        free: "When the next version of the S-TSID comes.",
        test: "what_an_s_tsid_describes_is_bounded",
    }

    /// Files that the EFDT of one channel lists.
    pub(super) const MAX_EFDT_FILES: usize = 4_096, "files" {
        why: "Live channels list an init segment; an application of A/331 has hundreds of files.",
        full: "Further `File` elements are left out and counted.",
        free: "When the next version of the EFDT comes.",
        test: "what_an_s_tsid_describes_is_bounded",
    }
}

/// Service-based transport session instance description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stsid {
    /// `RS` elements.
    pub sessions: Vec<RouteSession>,
    /// Elements that were unusable or beyond the limits.
    pub left_out: u64,
}

/// One ROUTE session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSession {
    /// `@sIpAddr`. Some senders write the group's address here.
    pub source: Option<IpAddr>,
    /// `@dIpAddr`; `None`: the session of the S-TSID itself.
    pub group: Option<IpAddr>,
    /// `@dPort`; `None`: as for `group`.
    pub port: Option<u16>,
    /// `LS` elements.
    pub channels: Vec<Channel>,
}

/// One LCT channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Channel {
    /// `@tsi`.
    pub tsi: u64,
    /// `@bw`, kbit/s.
    pub bandwidth_kbps: Option<u64>,
    /// `SrcFlow`.
    pub source: Option<SourceFlow>,
    /// `RepairFlow`.
    pub repair: Option<RepairFlow>,
}

/// Objects of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceFlow {
    /// `@rt`: live.
    pub is_real_time: bool,
    /// `EFDT/FDT-Instance/@afdt:fileTemplate`, verbatim.
    pub template: Option<String>,
    /// `EFDT/FDT-Instance/@afdt:efdtVersion`.
    pub efdt_version: Option<u8>,
    /// `EFDT/FDT-Instance/File`.
    pub files: Vec<File>,
    /// `ContentInfo/MediaInfo/@repId`.
    pub representation: Option<String>,
    /// `ContentInfo/MediaInfo/@contentType`: `video`, `audio`, `subtitles`.
    pub content_type: Option<String>,
    /// `Payload` elements.
    pub payloads: Vec<Payload>,
}

/// Meaning of a codepoint in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Payload {
    /// `@codePoint`.
    pub codepoint: u8,
    /// `@formatId`: 1 file, 2 entity, 3 package, 4 signed package.
    pub format: u8,
    /// `@frag`.
    pub fragmentation: u8,
    /// `@srcFecPayloadId`: 1 is start_offset.
    pub source_payload_id: Option<u8>,
}

/// Repair symbols for the objects of other channels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairFlow {
    /// `FECParameters/@fecOTI`; its transfer length 0 stands for that of each object.
    pub oti: Option<Oti>,
    /// `FECParameters/@maximumDelay`, ms.
    pub maximum_delay_ms: Option<u64>,
    /// `FECParameters/@overhead`, percent.
    pub overhead_percent: Option<u32>,
    /// `ProtectedObject` elements.
    pub protected: Vec<Protected>,
}

/// Protected objects: `source TOI = x · repair TOI + y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protected {
    /// `@tsi`.
    pub tsi: u64,
    /// `SourceTOI/@x`.
    pub x: u64,
    /// `SourceTOI/@y`.
    pub y: u64,
}

impl Protected {
    /// The source object of a repair object.
    pub fn source_toi(&self, repair: Toi) -> Option<Toi> {
        let toi = repair.0.checked_mul(self.x.into())?.checked_add(self.y.into())?;
        (toi <= u128::from(u32::MAX)).then_some(Toi(toi))
    }
}

/// Oti of RaptorQ in the 12 bytes of `@fecOTI` (RFC 6330 section 3.3).
fn oti_from_hex(text: &str) -> Option<Oti> {
    let text = text.trim().trim_start_matches("0x");
    let pairs =
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Vec<u8> = pairs.take(16).collect::<Option<_>>()?;
    Oti::parse_fti(EncodingId::RAPTORQ, &bytes).ok()
}

fn oti_to_hex(oti: &Oti) -> Option<String> {
    let SchemeInfo::RaptorQ { source_blocks, sub_blocks, alignment } = oti.scheme else { return None };
    let (length, symbol) = (oti.transfer_length, oti.symbol_length);
    Some(format!("{length:010x}00{symbol:04x}{source_blocks:02x}{sub_blocks:04x}{alignment:02x}"))
}

fn number<T: std::str::FromStr>(element: &Element, name: &str) -> Option<T> {
    element.attribute(name)?.trim().parse().ok()
}

impl Stsid {
    /// Parses an S-TSID.
    ///
    /// # Errors
    /// If it is not XML or has another root.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let root = parse(bytes)?;
        if root.name != "S-TSID" {
            return Err(XmlError::Missing { what: "S-TSID", within: root.name });
        }
        let mut stsid = Self::default();
        let mut channels = 0;
        for element in root.all("RS") {
            let mut session = RouteSession {
                source: number(element, "sIpAddr"),
                group: number(element, "dIpAddr"),
                port: number(element, "dPort"),
                channels: Vec::new(),
            };
            for element in element.all("LS") {
                let tsi = number::<u64>(element, "tsi").filter(|tsi| *tsi <= u64::from(u32::MAX));
                let Some(tsi) = tsi.filter(|_| channels < MAX_CHANNELS) else {
                    stsid.left_out += 1;
                    continue;
                };
                channels += 1;
                let mut channel =
                    Channel { tsi, bandwidth_kbps: number(element, "bw"), ..Channel::default() };
                channel.source = element.find("SrcFlow").map(|it| source_flow(it, &mut stsid.left_out));
                channel.repair = element.find("RepairFlow").map(repair_flow);
                session.channels.push(channel);
            }
            stsid.sessions.push(session);
        }
        Ok(stsid)
    }

    /// Serialises the S-TSID.
    pub fn to_xml(&self) -> String {
        let sessions = self.sessions.iter().map(|session| {
            Element::new(STSID, "RS")
                .attr_opt("dIpAddr", session.group.map(|it| it.to_string()))
                .attr_opt("dPort", session.port.map(|it| it.to_string()))
                .attr_opt("sIpAddr", session.source.map(|it| it.to_string()))
                .extend(session.channels.iter().map(channel_element))
        });
        let root = Element::new(STSID, "S-TSID").extend(sessions);
        write(&root, &[("", STSID), ("afdt", AFDT), ("fdt", FDT)])
    }
}

fn source_flow(element: &Element, left_out: &mut u64) -> SourceFlow {
    let mut flow = SourceFlow {
        is_real_time: matches!(element.attribute("rt"), Some("true" | "1")),
        ..SourceFlow::default()
    };
    if let Some(fdt) = element.find("EFDT").and_then(|it| it.find("FDT-Instance")) {
        flow.template = fdt.attribute("fileTemplate").map(str::to_owned);
        flow.efdt_version = number(fdt, "efdtVersion");
        for file in fdt.all("File") {
            let location = file.attribute("Content-Location").filter(|it| !it.is_empty());
            let toi = number::<u32>(file, "TOI").map(|toi| Toi(toi.into()));
            match location.zip(toi).filter(|_| flow.files.len() < MAX_EFDT_FILES) {
                Some((location, toi)) => flow.files.push(File {
                    content_location: location.to_owned(),
                    toi,
                    content_length: number(file, "Content-Length"),
                    transfer_length: number(file, "Transfer-Length"),
                    content_type: file.attribute("Content-Type").map(str::to_owned),
                    encoding: crate::flute::Encoding::from_attribute(
                        file.attribute("Content-Encoding").unwrap_or_default(),
                    ),
                    ..File::default()
                }),
                None => *left_out += 1,
            }
        }
    }
    if let Some(media) = element.find("ContentInfo").and_then(|it| it.find("MediaInfo")) {
        flow.representation = media.attribute("repId").map(str::to_owned);
        flow.content_type = media.attribute("contentType").map(str::to_owned);
    }
    for payload in element.all("Payload").take(256) {
        flow.payloads.push(Payload {
            codepoint: number(payload, "codePoint").unwrap_or(0),
            format: number(payload, "formatId").unwrap_or(1),
            fragmentation: number(payload, "frag").unwrap_or(0),
            source_payload_id: number(payload, "srcFecPayloadId"),
        });
    }
    flow
}

fn repair_flow(element: &Element) -> RepairFlow {
    let mut flow = RepairFlow::default();
    // In some editions the objects are inside the parameters.
    let parameters = element.find("FECParameters").unwrap_or(element);
    flow.oti = parameters.attribute("fecOTI").and_then(oti_from_hex);
    flow.maximum_delay_ms = number(parameters, "maximumDelay");
    flow.overhead_percent = number(parameters, "overhead");
    let inside = parameters.all("ProtectedObject").chain(element.all("ProtectedObject"));
    for object in inside.take(MAX_CHANNELS) {
        let Some(tsi) = number(object, "tsi") else { continue };
        let (x, y) = object
            .find("SourceTOI")
            .map_or((1, 0), |it| (number(it, "x").unwrap_or(1), number(it, "y").unwrap_or(0)));
        if flow.protected.iter().all(|it| it.tsi != tsi) {
            flow.protected.push(Protected { tsi, x, y });
        }
    }
    flow
}

fn channel_element(channel: &Channel) -> Element {
    let source = channel.source.as_ref().map(|flow| {
        let files = flow.files.iter().map(|file| {
            Element::new(FDT, "File")
                .attr("Content-Location", &file.content_location)
                .attr("TOI", file.toi.to_string())
                .attr_opt("Content-Type", file.content_type.as_deref())
                .attr_opt("Content-Length", file.content_length.map(|it| it.to_string()))
        });
        let mut fdt = Element::new(STSID, "FDT-Instance")
            // The end of NTP's first era: templates do not expire.
            .attr("Expires", u32::MAX.to_string())
            .attr_ns(AFDT, "efdtVersion", flow.efdt_version.unwrap_or(0).to_string());
        if let Some(template) = &flow.template {
            fdt = fdt.attr_ns(AFDT, "fileTemplate", template.as_str());
        }
        let media = Element::new(STSID, "MediaInfo")
            .attr("repId", flow.representation.as_deref().unwrap_or_default())
            .attr_opt("contentType", flow.content_type.as_deref());
        let payloads = flow.payloads.iter().map(|payload| {
            Element::new(STSID, "Payload")
                .attr("codePoint", payload.codepoint.to_string())
                .attr("formatId", payload.format.to_string())
                .attr("frag", payload.fragmentation.to_string())
                .attr("order", "true")
                .attr_opt("srcFecPayloadId", payload.source_payload_id.map(|it| it.to_string()))
        });
        let mut element = Element::new(STSID, "SrcFlow")
            .attr("rt", flow.is_real_time.to_string())
            .child(Element::new(STSID, "EFDT").child(fdt.extend(files)));
        if flow.representation.is_some() {
            element = element.child(Element::new(STSID, "ContentInfo").child(media));
        }
        element.extend(payloads)
    });
    let repair = channel.repair.as_ref().map(|flow| {
        let objects = flow.protected.iter().map(|it| {
            let toi =
                Element::new(STSID, "SourceTOI").attr("x", it.x.to_string()).attr("y", it.y.to_string());
            Element::new(STSID, "ProtectedObject").attr("tsi", it.tsi.to_string()).child(toi)
        });
        let parameters = Element::new(STSID, "FECParameters")
            .attr_opt("maximumDelay", flow.maximum_delay_ms.map(|it| it.to_string()))
            .attr_opt("overhead", flow.overhead_percent.map(|it| it.to_string()))
            .attr_opt("fecOTI", flow.oti.as_ref().and_then(oti_to_hex));
        Element::new(STSID, "RepairFlow").child(parameters.extend(objects))
    });
    Element::new(STSID, "LS")
        .attr("tsi", channel.tsi.to_string())
        .attr_opt("bw", channel.bandwidth_kbps.map(|it| it.to_string()))
        .extend(source)
        .extend(repair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stsid() -> Stsid {
        let source = Channel {
            tsi: 10,
            bandwidth_kbps: Some(220),
            source: Some(SourceFlow {
                is_real_time: true,
                template: Some("seg-0-$TOI%05d$.m4s".to_owned()),
                efdt_version: Some(3),
                files: vec![File {
                    content_location: "init-0.mp4".to_owned(),
                    toi: Toi(u32::MAX.into()),
                    ..File::default()
                }],
                representation: Some("0".to_owned()),
                content_type: Some("video".to_owned()),
                payloads: vec![Payload {
                    codepoint: 8,
                    format: 1,
                    fragmentation: 1,
                    source_payload_id: Some(1),
                }],
            }),
            repair: None,
        };
        let oti = Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 },
            ..Oti::no_code(0, 1400, 0)
        };
        let repair = Channel {
            tsi: 11,
            bandwidth_kbps: None,
            source: None,
            repair: Some(RepairFlow {
                oti: Some(oti),
                maximum_delay_ms: Some(2000),
                overhead_percent: Some(15),
                protected: vec![Protected { tsi: 10, x: 1, y: 0 }],
            }),
        };
        Stsid {
            sessions: vec![RouteSession {
                source: None,
                group: Some("239.0.0.1".parse().unwrap()),
                port: Some(6000),
                channels: vec![source, repair],
            }],
            left_out: 0,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let stsid = stsid();
        assert_eq!(Stsid::parse(stsid.to_xml().as_bytes()), Ok(stsid));
    }

    #[test]
    fn an_s_tsid_as_gpac_writes_it() {
        // GPAC 26.08-dev: FDT-Instance in the namespace of S-TSID, the group as the source's address.
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<S-TSID xmlns="tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/S-TSID/1.0/" xmlns:afdt="tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/ATSC-FDT/1.0/" xmlns:fdt="urn:ietf:params:xml:ns:fdt">
 <RS dIpAddr="232.1.1.1" dPort="6000" sIpAddr="232.1.1.1"><LS tsi="10" bw="220"><SrcFlow rt="true">
    <EFDT><FDT-Instance afdt:efdtVersion="0" afdt:fileTemplate="v-$TOI%05d$.m4s" Expires="4294944000" afdt:maxTransportSize="5510">
      <fdt:File Content-Location="v-init.mp4" TOI="4294967295"/></FDT-Instance></EFDT>
    <Payload codePoint="128" formatId="1" frag="0" order="true"/></SrcFlow></LS></RS></S-TSID>"#;
        let stsid = Stsid::parse(text.as_bytes()).unwrap();
        let flow = stsid.sessions[0].channels[0].source.as_ref().unwrap();
        assert_eq!(flow.template.as_deref(), Some("v-$TOI%05d$.m4s"));
        assert_eq!(
            (flow.files[0].content_location.as_str(), flow.files[0].toi),
            ("v-init.mp4", Toi(4_294_967_295))
        );
        assert_eq!((flow.payloads[0].codepoint, stsid.left_out), (128, 0));
        assert!(Stsid::parse(b"<MPD/>").is_err() && Stsid::parse(b"<S-TSID>").is_err());
    }

    #[test]
    fn what_an_s_tsid_describes_is_bounded() {
        let mut large = stsid();
        let channel = large.sessions[0].channels[0].clone();
        large.sessions[0].channels = vec![channel.clone(); MAX_CHANNELS + 7];
        let read = Stsid::parse(large.to_xml().as_bytes()).unwrap();
        assert_eq!((read.sessions[0].channels.len(), read.left_out), (MAX_CHANNELS, 7));
        let mut long = channel;
        let file = long.source.as_ref().unwrap().files[0].clone();
        long.source.as_mut().unwrap().files = vec![file; MAX_EFDT_FILES + 5];
        large.sessions[0].channels = vec![long];
        let read = Stsid::parse(large.to_xml().as_bytes()).unwrap();
        let files = read.sessions[0].channels[0].source.as_ref().unwrap().files.len();
        assert_eq!((files, read.left_out), (MAX_EFDT_FILES, 5));
        let far = Protected { tsi: 1, x: u64::MAX, y: u64::MAX };
        assert_eq!(far.source_toi(Toi(u32::MAX.into())), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "<S-TSID>(<RS|<LS|<SrcFlow|<EFDT|<RepairFlow|<FECParameters| tsi=\"[0-9]{1,25}\"| fecOTI=\"[0-9a-fx]{0,30}\"|/>|>|</RS>|</LS>){0,12}</S-TSID>") {
            let _ = Stsid::parse(text.as_bytes());
        }
    }
}
