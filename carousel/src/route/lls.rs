//! Low-level signalling of ATSC 3.0: which services there are, and where their signalling is (A/331 section 6).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::package::unpack;
use crate::bytes::Reader;
use crate::limits;
use crate::xml::{Element, parse};

/// Group and port of low-level signalling (A/331 section 6.1).
pub const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 23, 60)), 4937);
/// LLS_table_id of the service list table.
const TABLE_SLT: u8 = 1;
/// `@slsProtocol` of ROUTE.
const PROTOCOL_ROUTE: &str = "1";

limits! {
    /// Services of one service list table.
    const MAX_SERVICES: usize = 256, "services" {
        why: "A channel of 25 Mbit/s has some ten.",
        full: "Further services are left out.",
        free: "Holds for one table.",
        test: "a_service_list_table_names_the_sessions_of_route",
    }
}

/// A service that ROUTE delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `@serviceId`.
    pub id: u32,
    /// `@shortServiceName`.
    pub name: String,
    /// Destination of its signalling (TSI 0).
    pub address: SocketAddr,
    /// Its source address, if that is given.
    pub source: Option<IpAddr>,
}

/// The services of ROUTE that a datagram sent to [`GROUP`] lists. `None` if it is no service list table.
pub fn services(datagram: &[u8]) -> Option<Vec<Service>> {
    let mut reader = Reader::new(datagram);
    let [table, _group, _count, _version] = reader.array("LLS header").ok()?;
    if table != TABLE_SLT {
        return None;
    }
    let root = parse(&unpack(reader.rest())?).ok().filter(|root| root.name == "SLT")?;
    Some(root.all("Service").filter_map(service).take(MAX_SERVICES).collect())
}

fn service(element: &Element) -> Option<Service> {
    let signalling = element.find("BroadcastSvcSignaling")?;
    if signalling.attribute("slsProtocol")?.trim() != PROTOCOL_ROUTE {
        return None;
    }
    let group: IpAddr = signalling.attribute("slsDestinationIpAddress")?.trim().parse().ok()?;
    let port = signalling.attribute("slsDestinationUdpPort")?.trim().parse().ok()?;
    Some(Service {
        id: element.attribute("serviceId")?.trim().parse().ok()?,
        name: element.attribute("shortServiceName").unwrap_or_default().to_owned(),
        address: SocketAddr::new(group, port),
        source: signalling.attribute("slsSourceIpAddress").and_then(|it| it.trim().parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(services: usize) -> Vec<u8> {
        let service = |at| {
            format!(
                "<Service serviceId=\"{at}\" shortServiceName=\"S{at}\"><BroadcastSvcSignaling slsProtocol=\"{}\" \
                 slsDestinationIpAddress=\"239.255.1.{}\" slsDestinationUdpPort=\"8000\" slsSourceIpAddress=\"10.0.0.1\"/></Service>",
                1 + at % 2,
                at % 250
            )
        };
        let all: String = (0..services).map(service).collect();
        let xml = format!(
            "<SLT xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/SLT/1.0/\" bsid=\"1\">{all}</SLT>"
        );
        [&[TABLE_SLT, 1, 0, 7][..], xml.as_bytes()].concat()
    }

    #[test]
    fn a_service_list_table_names_the_sessions_of_route() {
        let listed = |count| services(&table(count));
        let expected = Service {
            id: 0,
            name: "S0".to_owned(),
            address: "239.255.1.0:8000".parse().unwrap(),
            source: Some("10.0.0.1".parse().unwrap()),
        };
        assert_eq!(listed(2), Some(vec![expected]), "the other is MMTP");
        assert_eq!(listed(4 * MAX_SERVICES).map(|it| it.len()), Some(MAX_SERVICES));
        assert_eq!(services(&[3, 1, 0, 7, b'<']), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..300) {
            let _ = services(&bytes);
            let _ = services(&table(2)[..cut.min(table(2).len())]);
        }
    }
}
