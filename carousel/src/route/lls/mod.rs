//! Low-level signalling of ATSC 3.0: the list of services and the addresses of their signalling (A/331 section 6).
//!
//! ```text
//! LLS group ─ tables() ─┬ SLT ────────┐
//!                       └ SystemTime ─┤
//! TSI 0 of a service ─┬ S-TSID ───────┼─ ServiceDirectory ─ sessions to join, names, descriptions of channels
//!                     └ USBD ─────────┘
//! ```
//!
//! A datagram is one table, or several in a signed envelope; its certificate chain is the one of television receivers, and
//! is not checked here.

mod directory;
mod system_time;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::bytes::Reader;
use crate::flute::{Encoding, decode};
use crate::limits;
use crate::xml::{Element, parse};

pub use directory::{LLS_TYPE, ListReport, ServiceDirectory, ServiceDrop, ServiceReport, USBD_TYPE};
pub use system_time::SystemTime;

/// Group and port of low-level signalling (A/331 section 6.1).
pub const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 23, 60)), 4937);
/// LLS_table_id of the service list table.
const TABLE_SLT: u8 = 1;
/// LLS_table_id of the system time.
const TABLE_SYSTEM_TIME: u8 = 3;
/// LLS_table_id of signed tables (A/331 section 6.7).
const TABLE_SIGNED: u8 = 0xfe;
/// Maximum characters kept of a name.
const NAME_CHARS: usize = 64;

limits! {
    /// Services of one service list table.
    const MAX_SERVICES: usize = 256, "services" {
        why: "A channel of 25 Mbit/s has some ten.",
        full: "Further services are left out and counted as `too_many_services`.",
        free: "Holds for one table.",
        test: "a_service_list_table_names_services_of_every_kind",
    }

    /// One table, unpacked.
    const MAX_TABLE_BYTES: u64 = 256 << 10, "bytes" {
        why: "A service takes 400 bytes; a datagram of 64 KiB may unpack to a thousand times that.",
        full: "The table is dropped as `bad_table`.",
        free: "Holds for one table.",
        test: "tables_are_bounded",
    }

    /// Tables in one signed datagram.
    const MAX_SIGNED_TABLES: usize = 16, "tables" {
        why: "A/331 defines seven kinds.",
        full: "Further tables of the datagram are left out.",
        free: "Holds for one datagram.",
        test: "tables_are_bounded",
    }
}

/// Protocol of a service's signalling, `@slsProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlsProtocol {
    /// 1.
    Route,
    /// 2.
    Mmtp,
    /// Any other number.
    Other(u8),
    /// The service has no signalling by broadcast.
    None,
}

impl SlsProtocol {
    /// Name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "ROUTE",
            Self::Mmtp => "MMTP",
            Self::Other(_) => "unknown",
            Self::None => "broadband",
        }
    }
}

/// A service of a service list table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `@serviceId`.
    pub id: u32,
    /// `@shortServiceName`.
    pub name: String,
    /// `@majorChannelNo` and `@minorChannelNo`.
    pub channel: Option<(u16, u16)>,
    /// `@serviceCategory`: 1 television, 2 radio, 3 application, 4 guide, 5 emergency, 6 rights.
    pub category: u8,
    /// `@hidden`.
    pub is_hidden: bool,
    /// Protocol of its signalling.
    pub protocol: SlsProtocol,
    /// Destination of its signalling (TSI 0), if valid.
    pub address: Option<SocketAddr>,
    /// Source address of its signalling, if given.
    pub source: Option<IpAddr>,
}

/// A service list table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceList {
    /// The first of `@bsid`: identifier of the broadcast stream.
    pub bsid: u32,
    /// Its services.
    pub services: Vec<Service>,
    /// Services without an identifier, and those beyond the limit.
    pub left_out: u64,
}

/// Contents of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// SLT.
    Services(ServiceList),
    /// SystemTime.
    Time(SystemTime),
    /// An unused kind: ratings, alerts, messages, certificates.
    Other,
    /// It is damaged, or too long.
    Bad,
}

/// One table of low-level signalling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// LLS_group_id.
    pub group_id: u8,
    /// LLS_table_version.
    pub version: u8,
    /// Its content.
    pub content: Content,
}

/// Parses the tables of a datagram of low-level signalling. `None` if it contains none.
pub fn tables(datagram: &[u8]) -> Option<Vec<Table>> {
    let mut reader = Reader::new(datagram);
    let [id, group_id, _count, version] = reader.array("LLS header").ok()?;
    if id != TABLE_SIGNED {
        return Some(vec![table(id, group_id, version, reader.rest())]);
    }
    let [count] = reader.array("LLS_payload_count").ok()?;
    let mut tables = Vec::new();
    for _ in 0..usize::from(count).min(MAX_SIGNED_TABLES) {
        let [id, version] = reader.array("LLS_payload_id").ok()?;
        let length = reader.u16("LLS_payload_length").ok()?;
        let payload = reader.take(usize::from(length), "LLS_payload").ok()?;
        tables.push(table(id, group_id, version, payload));
    }
    Some(tables)
}

fn table(id: u8, group_id: u8, version: u8, payload: &[u8]) -> Table {
    let read = |root: &str| unpack(payload).and_then(|it| parse(&it).ok()).filter(|it| it.name == root);
    let content = match id {
        TABLE_SLT => read("SLT").map(|root| Content::Services(service_list(&root))),
        TABLE_SYSTEM_TIME => read("SystemTime").and_then(|it| SystemTime::read(&it)).map(Content::Time),
        // 0 is reserved; signed tables cannot be nested.
        0 | TABLE_SIGNED => None,
        _ => Some(Content::Other),
    };
    Table { group_id, version, content: content.unwrap_or(Content::Bad) }
}

/// Decompresses a table; the standard requires compression.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Some(bytes.to_vec()).filter(|it| it.len() as u64 <= MAX_TABLE_BYTES);
    }
    decode(&Encoding::Gzip, bytes, Some(MAX_TABLE_BYTES)).ok().flatten()
}

fn number<T: std::str::FromStr>(element: &Element, name: &str) -> Option<T> {
    element.attribute(name)?.trim().parse().ok()
}

fn is_true(element: &Element, name: &str) -> bool {
    matches!(element.attribute(name).map(str::trim), Some("true" | "1"))
}

fn service_list(root: &Element) -> ServiceList {
    let bsid = root.attribute("bsid").and_then(|it| it.split_whitespace().next()?.parse().ok());
    let mut list = ServiceList { bsid: bsid.unwrap_or(0), ..ServiceList::default() };
    for element in root.all("Service") {
        match service(element).filter(|_| list.services.len() < MAX_SERVICES) {
            Some(service) => list.services.push(service),
            None => list.left_out += 1,
        }
    }
    list
}

fn service(element: &Element) -> Option<Service> {
    let signalling = element.find("BroadcastSvcSignaling");
    let protocol = match signalling.map(|it| number(it, "slsProtocol").unwrap_or(0)) {
        Some(1) => SlsProtocol::Route,
        Some(2) => SlsProtocol::Mmtp,
        Some(other) => SlsProtocol::Other(other),
        None => SlsProtocol::None,
    };
    let address = signalling.and_then(|it| {
        let group: IpAddr = number(it, "slsDestinationIpAddress")?;
        Some(SocketAddr::new(group, number(it, "slsDestinationUdpPort")?))
    });
    let name = element.attribute("shortServiceName").unwrap_or_default().trim();
    Some(Service {
        id: number(element, "serviceId")?,
        name: name.chars().filter(|it| !it.is_control()).take(NAME_CHARS).collect(),
        channel: number(element, "majorChannelNo").zip(number(element, "minorChannelNo")),
        category: number(element, "serviceCategory").unwrap_or(0),
        is_hidden: is_true(element, "hidden"),
        protocol,
        address,
        source: signalling.and_then(|it| number(it, "slsSourceIpAddress")),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A service list table of these `Service` elements.
    pub(crate) fn slt(version: u8, services: &str) -> Vec<u8> {
        let xml = format!(
            "<SLT xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/SLT/1.0/\" bsid=\"7 8\">{services}</SLT>"
        );
        [&[TABLE_SLT, 1, 0, version][..], &gzip(xml.as_bytes())].concat()
    }

    pub(crate) fn service_of(id: u32, protocol: u8, address: &str) -> String {
        let address: SocketAddr = address.parse().unwrap();
        format!(
            "<Service serviceId=\"{id}\" sltSvcSeqNum=\"0\" serviceCategory=\"1\" majorChannelNo=\"5\" minorChannelNo=\"{id}\" \
             shortServiceName=\"S{id}\"><BroadcastSvcSignaling slsProtocol=\"{protocol}\" slsDestinationIpAddress=\"{}\" \
             slsDestinationUdpPort=\"{}\" slsSourceIpAddress=\"10.0.0.1\"/></Service>",
            address.ip(),
            address.port(),
        )
    }

    #[test]
    fn a_service_list_table_names_services_of_every_kind() {
        let inet = "<Service serviceId=\"3\" hidden=\"true\"><SvcInetUrl urlType=\"1\">https://a/</SvcInetUrl></Service>\
                    <Service shortServiceName=\"no id\"/>";
        let all =
            [service_of(1, 1, "239.255.1.0:8000"), service_of(2, 2, "239.255.1.1:8001"), inet.to_owned()];
        let table = tables(&slt(9, &all.concat())).unwrap().remove(0);
        assert_eq!((table.group_id, table.version), (1, 9));
        let Content::Services(list) = table.content else { panic!("{table:?}") };
        assert_eq!((list.bsid, list.services.len(), list.left_out), (7, 3, 1));
        let expected = Service {
            id: 1,
            name: "S1".to_owned(),
            channel: Some((5, 1)),
            category: 1,
            is_hidden: false,
            protocol: SlsProtocol::Route,
            address: "239.255.1.0:8000".parse().ok(),
            source: "10.0.0.1".parse().ok(),
        };
        assert_eq!(list.services[0], expected);
        assert_eq!(list.services[1].protocol, SlsProtocol::Mmtp);
        assert_eq!((list.services[2].protocol, list.services[2].address), (SlsProtocol::None, None));
        assert!(list.services[2].is_hidden);
        let many: String =
            (0..MAX_SERVICES as u32 + 40).map(|it| service_of(it, 1, "239.255.1.0:8000")).collect();
        let Content::Services(list) = tables(&slt(1, &many)).unwrap().remove(0).content else { panic!() };
        assert_eq!((list.services.len(), list.left_out), (MAX_SERVICES, 40));
    }

    /// A datagram with tables and a signature around them.
    fn signed(tables: &[(u8, u8, &[u8])], count: u8) -> Vec<u8> {
        let mut out = vec![TABLE_SIGNED, 1, 0, 3, count];
        for (id, version, payload) in tables {
            out.extend_from_slice(&[*id, *version]);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            out.extend_from_slice(payload);
        }
        out.extend_from_slice(&[0, 4, 1, 2, 3, 4]);
        out
    }

    #[test]
    fn tables_with_a_signature_around_them_are_read() {
        let list = slt(4, &service_of(1, 1, "239.255.1.0:8000"));
        let time = gzip(b"<SystemTime currentUtcOffset=\"37\" utcLocalOffset=\"-PT5H\"/>");
        let all = tables(&signed(&[(1, 4, &list[4..]), (3, 2, &time), (6, 1, b"x")], 3)).unwrap();
        assert_eq!(all.iter().map(|it| it.version).collect::<Vec<_>>(), [4, 2, 1]);
        assert!(matches!(&all[0].content, Content::Services(it) if it.services.len() == 1));
        assert!(matches!(&all[1].content, Content::Time(it) if it.utc_offset_s == 37));
        assert_eq!(all[2].content, Content::Other);
    }

    #[test]
    fn tables_are_bounded() {
        let long = |bytes: u64| {
            let text = format!("<SLT bsid=\"1\">{}</SLT>", " ".repeat(bytes as usize - 20));
            assert_eq!(text.len() as u64, bytes);
            [&[TABLE_SLT, 1, 0, 1][..], &gzip(text.as_bytes())].concat()
        };
        assert_eq!(tables(&long(MAX_TABLE_BYTES + 1)).unwrap()[0].content, Content::Bad);
        assert!(matches!(tables(&long(MAX_TABLE_BYTES)).unwrap()[0].content, Content::Services(_)));
        let nested = signed(&[(TABLE_SIGNED, 1, &b"x"[..]); 200], 200);
        let all = tables(&nested).unwrap();
        assert!(all.len() == MAX_SIGNED_TABLES && all.iter().all(|it| it.content == Content::Bad));
        assert_eq!(tables(&signed(&[(1, 1, b"x")], 2)), None, "fewer tables than it says");
        assert_eq!(tables(&[1, 1, 0]), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..300) {
            let _ = tables(&bytes);
            let table = slt(1, &service_of(1, 1, "239.255.1.0:8000"));
            let _ = tables(&table[..cut.min(table.len())]);
            let signed = signed(&[(1, 1, &table[4..])], 1);
            let _ = tables(&signed[..cut.min(signed.len())]);
        }
    }
}
