use std::net::IpAddr;
use std::path::Path;

use carousel::nip;

use super::*;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const BASE: &str = "https://cdn.example.com/film/";

fn config(tables: &str) -> Config {
    let text = format!("[link]\nrate_bps = 8_000_000\n[[source]]\npath = \"x\"\nbase = \"{BASE}\"\n{tables}");
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

/// A service with two manifests and two sessions.
fn service() -> Service {
    let session = |tsi: u64, component: Component| MediaSession {
        is_chunked: false,
        protocol: TransportProtocol::Flute,
        id: format!("s0-{tsi}"),
        address: SocketAddr::from(([239, 192, 50, 1], 49002)),
        tsi,
        components: vec![component],
        maximum_bps: 6_000_000,
        average_bps: Some(2_000_000),
    };
    Service {
        id: "tag:cdn.example.com,2026:film".to_owned(),
        base: BASE.to_owned(),
        manifests: vec![
            (format!("{BASE}a.m3u8"), "application/vnd.apple.mpegURL".to_owned()),
            (format!("{BASE}b.mpd"), "application/dash+xml".to_owned()),
        ],
        sessions: vec![
            session(10, Component::Hls { manifest: "m0".to_owned(), playlist: format!("{BASE}1.m3u8") }),
            session(2, Component::Generic { manifest: "m0".to_owned(), component: "other".to_owned() }),
        ],
    }
}

fn parsed(document: &Announcement) -> Configuration {
    Configuration::parse(&document.bytes).unwrap()
}

/// Documents of the announcement channel by file name.
fn documents(config: &Config, own: Option<&Offering>) -> Vec<Announcement> {
    announcement(config, &[service()], own, WALL)
}

fn bytes<'a>(documents: &'a [Announcement], file: &str) -> &'a [u8] {
    &documents.iter().find(|it| it.file == file).unwrap_or_else(|| panic!("no {file}")).bytes
}

#[test]
fn the_gateway_configuration_says_where_each_session_is_and_what_it_carries() {
    let config = config("[sessions]\nsource = \"192.0.2.9\"");
    let document = gateway_configuration(&config, &[service()]);
    assert_eq!(
        (document.uri.as_str(), document.content_type.as_str()),
        (carousel::mabr::CONFIGURATION_URI, carousel::mabr::CONFIGURATION_TYPE)
    );
    let configuration = parsed(&document);
    let [own] = &configuration.gateway_sessions[..] else { panic!("one configuration session") };
    let source = Some(IpAddr::from([192, 0, 2, 9]));
    let endpoint = |group: [u8; 4], port, tsi| Endpoint { source, group: group.into(), port, tsi: Some(tsi) };
    assert_eq!(own.endpoints, [endpoint([239, 192, 49, 1], 49001, 1)]);
    assert_eq!((&own.protocol, own.maximum_bps), (&Protocol::Flute, Some(8_000_000)));
    let [session] = &configuration.sessions[..] else { panic!("one service") };
    assert_eq!(session.service_identifier, service().id);
    let manifests: Vec<_> = session.manifests.iter().map(|it| (it.id.as_str(), it.url.as_str())).collect();
    let urls = [format!("{BASE}a.m3u8"), format!("{BASE}b.mpd")];
    assert_eq!(manifests, [("m0", urls[0].as_str()), ("m1", urls[1].as_str())]);
    assert!(session.manifests.iter().all(|it| it.transport_object_uri.as_deref() == Some(it.url.as_str())));
    for (got, wanted) in session.transport_sessions.iter().zip(service().sessions) {
        assert_eq!(got.endpoints, [endpoint([239, 192, 50, 1], 49002, wanted.tsi)]);
        assert_eq!((got.id.as_deref(), &got.components), (Some(wanted.id.as_str()), &wanted.components));
        assert_eq!((got.maximum_bps, got.average_bps), (Some(6_000_000), Some(2_000_000)));
        assert_eq!(got.idle_timeout_ms, Some(60_000));
        assert_eq!(got.transport_security.as_deref(), Some("integrity"));
    }
    assert_eq!(session.transport_sessions.len(), 2);
}

#[test]
fn receivers_repair_from_the_source_s_own_url_or_not_at_all() {
    let with =
        config("[repair]\nreception_timeout_ms = 3000\nfixed_back_off_ms = 40\nrandom_back_off_ms = 500");
    let without = config("[repair]\nenabled = false");
    let repair = |config: &Config| {
        let all = parsed(&gateway_configuration(config, &[service()])).sessions.remove(0).transport_sessions;
        let [first, second] = &all[..] else { panic!("two sessions") };
        assert_eq!(first.repair, second.repair);
        first.repair.clone()
    };
    let expected = RepairParameters {
        transport_object_base_uri: Some(BASE.to_owned()),
        reception_timeout_ms: 3000,
        fixed_back_off_ms: 40,
        random_back_off_ms: 500,
        base_urls: vec![(BASE.to_owned(), 1)],
    };
    assert_eq!((repair(&with), repair(&without)), (Some(expected), None));
}

#[test]
fn carousels_promise_the_intervals_that_are_configured() {
    let config = config("[carousel]\nannouncement_interval_ms = 700\nmanifest_interval_ms = 1300");
    let latency = |ms| Some(Duration::from_millis(ms));
    let own = parsed(&gateway_configuration(&config, &[service()])).gateway_sessions.remove(0);
    let entries: Vec<_> = own.carousel.unwrap().entries;
    let kinds: Vec<_> = entries.iter().map(|it| (it.kind, it.service.as_deref(), it.latency)).collect();
    let id = service().id;
    assert_eq!(
        kinds,
        [
            (EntryKind::Manifests, Some(id.as_str()), latency(1300)),
            (EntryKind::Inits, Some(id.as_str()), latency(1300)),
        ]
    );
    let documents = documents(&config, None);
    let channel =
        Configuration::parse(bytes(&documents, "bootstrap.xml")).unwrap().gateway_sessions.remove(0);
    let entries = channel.carousel.unwrap().entries;
    let names: Vec<&str> = entries.iter().map(|it| it.uri.as_str()).collect();
    let uris: Vec<&str> = documents.iter().map(|it| it.uri.as_str()).collect();
    assert_eq!(names, uris, "each document of the channel, and nothing else");
    assert!(entries.iter().all(|it| it.kind == EntryKind::Resource && it.latency == latency(700)));
}

#[test]
fn the_bootstrap_leads_to_the_channel_and_to_the_configuration_session() {
    let documents = documents(&config(""), None);
    let sessions = Configuration::parse(bytes(&documents, "bootstrap.xml")).unwrap().gateway_sessions;
    let places: Vec<_> = sessions.iter().map(|it| (it.endpoints[0].group, it.endpoints[0].tsi)).collect();
    let [channel, configuration] = [[224, 0, 23, 14], [239, 192, 49, 1]].map(IpAddr::from);
    assert_eq!(places, [(channel, Some(nip::ANNOUNCEMENT_TSI)), (configuration, Some(CONFIGURATION_TSI))]);
    assert!(sessions[0].tags.is_empty());
    for document in &documents {
        let known = Document::from_name(&document.uri).unwrap();
        assert_eq!(document.content_type, known.content_type());
    }
}

#[test]
fn the_stream_s_identity_is_the_same_in_network_and_service_information() {
    let config = config(
        "[nip]\nprovider = \"P\"\nnetwork_name = \"N\"\nnetwork_id = 11\ncarrier_id = 12\nlink_id = 13\nservice_id = 14\n\
         [[nip.service_lists]]\nname = \"L\"\nuri = \"https://lists.example.com/l.xml\"",
    );
    let documents = documents(&config, None);
    let nif = NetworkInformationFile::parse(bytes(&documents, "nif.xml")).unwrap();
    let stream = &nif.actual.streams[0];
    assert_eq!(
        (nif.actual.network_id, stream.carrier_id, stream.link_id, stream.service_id),
        (11, 12, 13, 14)
    );
    assert_eq!((nif.actual.name.as_str(), nif.actual.provider.as_str()), ("N", "P"));
    assert_eq!(stream.delivery, None, "no carrier is configured");
    let sif = ServiceInformationFile::parse(bytes(&documents, "sif.xml")).unwrap();
    assert_eq!((sif.provider.as_str(), sif.streams[0].ids), ("P", [11, 12, 13, 14]));
    let uris =
        [format!("{BASE}a.m3u8"), format!("{BASE}b.mpd"), "https://lists.example.com/l.xml".to_owned()];
    assert_eq!(sif.streams[0].uris, uris);
    assert_eq!((nif.version_update, sif.version_update), (WALL.to_xml(), WALL.to_xml()));
    let time = TimeOffsetFile::parse(bytes(&documents, "tof.xml")).unwrap().time();
    assert_eq!(time, Some(WALL));
}

#[test]
fn entry_points_are_sent_while_there_are_lists_our_own_first() {
    let none = documents(&config(""), None);
    assert!(none.iter().all(|it| it.file != "slep.xml"));
    let own = Offering {
        id: "tag:own".to_owned(),
        names: vec![Text::new("", "Own")],
        uris: vec![("https://own.example.com/list.xml".to_owned(), LIST_TYPE.to_owned())],
        delivery: vec![DeliveryKind::Dash],
        ..Offering::default()
    };
    let tables = "[dvb_i]\nbase = \"https://own.example.com/\"\n[[nip.service_lists]]\nname = \"L\"\nuri = \"https://lists.example.com/l.xml\"";
    let config = config(tables);
    let documents = documents(&config, Some(&own));
    let points = EntryPoints::parse(bytes(&documents, "slep.xml")).unwrap();
    let uris: Vec<&str> = points.lists().flat_map(|it| it.uris.iter().map(|(uri, _)| uri.as_str())).collect();
    assert_eq!(uris, ["https://own.example.com/list.xml", "https://lists.example.com/l.xml"]);
    let bootstrap = Configuration::parse(bytes(&documents, "bootstrap.xml")).unwrap();
    assert_eq!(bootstrap.gateway_sessions[0].tags, [guide_tag(&config.catalog)], "the guide is here");
}
