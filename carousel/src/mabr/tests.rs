use super::*;
use crate::limits::MAX_SESSIONS;
use proptest::prelude::*;

fn shared(path: &str) -> Option<Vec<u8>> {
    let full = format!("{}/../../shared/{path}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&full);
    if bytes.is_err() {
        eprintln!("SKIPPED: {path} is not here");
    }
    bytes.ok()
}

const DOCUMENTS: [&str; 6] = [
    "schemas/nip/ses-capture/bootstrap.xml",
    "schemas/nip/eutelsat-capture/bootstrap.xml",
    "schemas/mabr/annex-c1.xml",
    "schemas/mabr/annex-c2.xml",
    "schemas/mabr/annex-c3.xml",
    "captures/mabr_flute_hls/xml/gateway_config_1.xml",
];

#[test]
fn real_documents_parse_completely_and_survive_the_trip() {
    for path in DOCUMENTS {
        let Some(bytes) = shared(path) else { continue };
        let configuration = Configuration::parse(&bytes).unwrap_or_else(|err| panic!("{path}: {err}"));
        assert!(configuration.gateway_sessions.len() + configuration.sessions.len() > 0, "{path}");
        let written = configuration.to_xml();
        let again =
            Configuration::parse(written.as_bytes()).unwrap_or_else(|err| panic!("{path}: {err}\n{written}"));
        let plain = |mut configuration: Configuration| {
            configuration.schema_version.get_or_insert_with(|| "2".to_owned());
            // Unknown elements of the document's own namespace come back in ours.
            configuration.unknown.clear();
            for session in &mut configuration.sessions {
                session.unknown.clear();
                session.transport_sessions.iter_mut().for_each(|session| session.unknown.clear());
            }
            configuration
        };
        assert_eq!(plain(again), plain(configuration), "{path}");
    }
}

#[test]
fn the_ses_bootstrap_in_detail() {
    let Some(bytes) = shared(DOCUMENTS[0]) else { return };
    let bootstrap = Configuration::parse(&bytes).unwrap();
    let first = &bootstrap.gateway_sessions[0];
    assert_eq!(first.endpoints[0].group, IpAddr::from([224, 0, 23, 14]));
    assert_eq!((first.endpoints[0].port, first.endpoints[0].tsi), (3937, Some(0)));
    let latency = first
        .carousel
        .as_ref()
        .unwrap()
        .entries
        .iter()
        .find(|entry| entry.uri.ends_with("NetworkInformationFile"));
    assert_eq!(latency.unwrap().latency, Some(Duration::from_millis(514)));
    assert!(
        bootstrap.gateway_sessions.iter().any(|session| session.service_class.as_deref()
            == Some("urn:dvb:metadata:nativeip:ContentGuide")
            && session.tags == ["http://dvb.gw/ses.com/dvbi/cg/CoreSet"])
    );
}

#[test]
fn the_directory_follows_bootstrap_to_configuration_and_drops_what_vanishes() {
    let source = IpAddr::from([10, 0, 0, 1]);
    let session = |port: u16, class: &str| {
        format!(
            "<MulticastGatewayConfigurationTransportSession {class}><TransportProtocol protocolIdentifier='x:FLUTE'/>\
        <EndpointAddress><NetworkDestinationGroupAddress>239.1.1.1</NetworkDestinationGroupAddress><TransportDestinationPort>{port}</TransportDestinationPort>\
        </EndpointAddress></MulticastGatewayConfigurationTransportSession>"
        )
    };
    let document = |sessions: &str| {
        format!(
            "<MulticastGatewayConfiguration xmlns='urn:dvb:metadata:MulticastSessionConfiguration:2019'>{sessions}</MulticastGatewayConfiguration>"
        )
    };
    let mut directory = Directory::new(JoinPolicy::default(), Vec::new());
    let bootstrap = document(
        &(session(1, "")
            + &session(2, "serviceClass='urn:dvb:metadata:nativeip:ContentGuide'")
            + &session(3, "serviceClass='urn:what'")),
    );
    assert_eq!(directory.document(source, "bootstrap", bootstrap.as_bytes()), Ok(DirectoryChange::Sessions));
    let ports = |directory: &Directory| {
        directory.sessions().iter().map(|spec| spec.address.port()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&directory), [1, 2], "an unknown class is not joined");
    assert_eq!(directory.document(source, "BOOTSTRAP", bootstrap.as_bytes()), Ok(DirectoryChange::Same));
    assert_eq!(
        directory.document(source, "bootstrap", document(&session(2, "")).as_bytes()),
        Ok(DirectoryChange::Sessions)
    );
    assert_eq!(ports(&directory), [2]);
    assert!(directory.document(source, "bootstrap", b"<broken").is_err());
    assert_eq!(ports(&directory), [2], "what was said stays in force");
}

#[test]
fn sessions_of_a_hostile_configuration_are_bounded() {
    let one = |at: usize| {
        format!(
            "<MulticastGatewayConfigurationTransportSession><EndpointAddress><NetworkDestinationGroupAddress>239.0.{}.{}</NetworkDestinationGroupAddress>\
        <TransportDestinationPort>5</TransportDestinationPort></EndpointAddress></MulticastGatewayConfigurationTransportSession>",
            at / 256,
            at % 256
        )
    };
    let document = |count| {
        format!(
            "<MulticastGatewayConfiguration>{}</MulticastGatewayConfiguration>",
            (0..count).map(one).collect::<String>()
        )
    };
    let source = IpAddr::from([10, 0, 0, 1]);
    let mut directory = Directory::new(JoinPolicy::default(), Vec::new());
    directory.document(source, "x", document(2000).as_bytes()).unwrap();
    assert_eq!(directory.sessions().len(), MAX_SESSIONS);
    assert_eq!(directory.refused(), 2000 - MAX_SESSIONS as u64);
    assert!(directory.document(source, "x", document(10_000).as_bytes()).is_err());
    directory.document(source, "x", document(1).as_bytes()).unwrap();
    assert_eq!(directory.sessions().len(), 1, "the places are free again");
}

#[test]
fn documents_come_and_go_and_the_last_is_in_force_like_the_first() {
    let document = |port: u16| {
        format!(
            "<MulticastGatewayConfiguration><MulticastGatewayConfigurationTransportSession><EndpointAddress>\
            <NetworkDestinationGroupAddress>239.0.0.1</NetworkDestinationGroupAddress>\
            <TransportDestinationPort>{port}</TransportDestinationPort></EndpointAddress>\
            </MulticastGatewayConfigurationTransportSession></MulticastGatewayConfiguration>"
        )
    };
    let (ours, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let mut directory = Directory::new(JoinPolicy::default(), Vec::new());
    directory.document(ours, "bootstrap", document(1).as_bytes()).unwrap();
    for at in 0..1000_u16 {
        let change = directory.document(other, &format!("d{at}"), document(1000 + at).as_bytes()).unwrap();
        assert_eq!(change, DirectoryChange::Sessions, "{at}");
        assert!(directory.sessions().iter().any(|it| it.address.port() == 1000 + at), "{at}");
    }
    assert_eq!((directory.configurations().count(), directory.evicted()), (256, 745));
    assert!(directory.sessions().iter().any(|it| it.address.port() == 1), "another source's document stays");
    // What is received again stays, what was received longest ago goes.
    directory.document(other, "D745", document(1745).as_bytes()).unwrap();
    directory.document(other, "new", document(3000).as_bytes()).unwrap();
    let ports: Vec<u16> = directory.sessions().iter().map(|it| it.address.port()).collect();
    assert!(ports.contains(&1745) && !ports.contains(&1746) && ports.contains(&3000));
}

#[test]
fn documents_are_bounded_in_bytes_and_an_untrusted_source_displaces_its_own() {
    let document = |port: u16, filling: usize| {
        format!(
            "<MulticastGatewayConfiguration><MulticastGatewayConfigurationTransportSession><EndpointAddress>\
            <NetworkDestinationGroupAddress>239.0.0.1</NetworkDestinationGroupAddress>\
            <TransportDestinationPort>{port}</TransportDestinationPort></EndpointAddress>\
            </MulticastGatewayConfigurationTransportSession><!--{}--></MulticastGatewayConfiguration>",
            " ".repeat(filling)
        )
    };
    let (ours, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let mut directory = Directory::new(JoinPolicy::default(), Vec::new()).within(100_000);
    directory.document(ours, "bootstrap", document(1, 20_000).as_bytes()).unwrap();
    for at in 0..50_u16 {
        directory.document(other, &format!("d{at}"), document(1000 + at, 30_000).as_bytes()).unwrap();
    }
    assert_eq!((directory.configurations().count(), directory.evicted()), (3, 48));
    let ports = |directory: &Directory| -> Vec<u16> {
        directory.sessions().iter().map(|it| it.address.port()).collect()
    };
    assert_eq!(ports(&directory), [1, 1048, 1049], "another source's document stays");
    // A new version takes the place of its own predecessor.
    directory.document(other, "d49", document(2049, 40_000).as_bytes()).unwrap();
    assert_eq!((ports(&directory), directory.evicted()), (vec![1, 1048, 2049], 48));
    directory.document(other, "long", document(3000, 200_000).as_bytes()).unwrap();
    assert_eq!(ports(&directory), [3000], "one that is longer by itself is alone");
}

#[test]
fn services_are_told_with_their_urls_and_rates() {
    let session = |port: u16, rate: &str| {
        format!(
            "<MulticastTransportSession><TransportProtocol protocolIdentifier='x:FLUTE'/><EndpointAddress>\
             <NetworkDestinationGroupAddress>239.1.1.1</NetworkDestinationGroupAddress>\
             <TransportDestinationPort>{port}</TransportDestinationPort></EndpointAddress><BitRate {rate}/>\
             <UnicastRepairParameters transportObjectReceptionTimeout='700'><BaseURL>http://h/{port}/</BaseURL>\
             <BaseURL relativeWeight='0'>http://off/</BaseURL></UnicastRepairParameters></MulticastTransportSession>"
        )
    };
    let service = |id: &str, sessions: &str| {
        format!(
            "<MulticastSession serviceIdentifier='{id}'><PresentationManifestLocator manifestId='m' \
             contentPlaybackPathPattern='/{id}/*'>http://h/{id}/a.mpd</PresentationManifestLocator>{sessions}</MulticastSession>"
        )
    };
    let two = session(1, "average='5' maximum='90'") + &session(2, "maximum='80'");
    let services = service("two", &two)
        + &service("none", "")
        + &service("one", &session(3, "maximum='80'"))
        + &service("", &session(4, "maximum='80'"));
    // Three renditions of one reserve, and one of another.
    let rung = |tsi: u32, rate: &str| {
        let end = "</EndpointAddress>";
        session(5, rate).replace(
            end,
            &format!("<MediaTransportSessionIdentifier>{tsi}</MediaTransportSessionIdentifier>{end}"),
        )
    };
    let rungs: String = (1..4).map(|tsi| rung(tsi, "maximum='80'")).collect();
    let services = services + &service("ladder", &(rungs + &rung(4, "maximum='7'")));
    let text = format!(
        "<MulticastGatewayConfiguration xmlns='urn:dvb:metadata:MulticastSessionConfiguration:2019'>{services}\
         </MulticastGatewayConfiguration>"
    );
    let mut directory = Directory::new(JoinPolicy::default(), Vec::new());
    directory.document([10, 0, 0, 1].into(), "c", text.as_bytes()).unwrap();
    let services = directory.services();
    let ids: Vec<&str> = services.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["two", "one", "ladder"], "in their order, those with a name and sessions");
    assert_eq!(services[0].manifests, ["http://h/two/a.mpd"]);
    assert_eq!(services[0].bases, ["http://h/1/", "http://h/2/"]);
    assert_eq!(services[0].path_patterns, ["/two/*"]);
    let sessions = directory.sessions().iter().filter(|it| it.service == "ladder").count();
    let rates = ["two", "one", "none", "ladder"].map(|id| directory.announced_bps(id));
    assert_eq!((sessions, rates), (4, [Some(5), Some(80), None, Some(87)]));
}

#[test]
fn names_of_gpac_become_the_urls_of_its_origin() {
    let Some(bytes) = shared(DOCUMENTS[5]) else { return };
    let mut aliases = Aliases::default();
    aliases.add(&Configuration::parse(&bytes).unwrap());
    let tag = "tag:mabr.gpac.io.2025.services.2629888065";
    assert_eq!(aliases.url_of(&format!("{tag}/live.m3u8")).unwrap(), "http://127.0.0.1:8080/dash/live.m3u8");
    assert_eq!(
        aliases.url_of(&format!("{tag}/2_00012.m4s")).unwrap(),
        "http://127.0.0.1:8080/dash/2_00012.m4s"
    );
    assert_eq!(aliases.url_of("http://elsewhere/x"), None);
}

#[test]
fn chunk_names() {
    let split = |name| ChunkName::split(name);
    assert_eq!(
        split("http://h/a.m4s#0"),
        Some(ChunkName { object: "http://h/a.m4s", offset: 0, is_last: false })
    );
    assert_eq!(split("a.m4s?isLast#77"), Some(ChunkName { object: "a.m4s", offset: 77, is_last: true }));
    assert_eq!(split("a.m4s?hasRandomAccessPoint&isLast#9").unwrap().object, "a.m4s");
    assert_eq!(split("a.m4s?token=1#9").unwrap().object, "a.m4s?token=1");
    assert_eq!(split("a.m4s"), None);
    assert_eq!(split("a.m4s#top"), None);
}

#[test]
fn playback_path_patterns() {
    for (pattern, path, matches) in [
        ("/a/*.mpd", "/a/b/c.mpd", true),
        ("/a/?.mpd", "/a/b.mpd", true),
        ("/a/?.mpd", "/a/bc.mpd", false),
        ("/a$*b", "/a*b", true),
        ("/a$*b", "/axb", false),
        ("*", "", true),
        ("", "", true),
        ("", "/", false),
        ("/*/x/*", "/1/x/2/x", true),
    ] {
        assert_eq!(playback_path_matches(pattern, path), matches, "{pattern} {path}");
    }
    // What makes naive globs exponential.
    assert!(!playback_path_matches(&"*a".repeat(40), &"a".repeat(39)));
}

proptest! {
    #[test]
    fn no_document_panics(text in "(<Multicast(Gateway|Server)Configuration( a='b')?>)?([ -~]|<[A-Za-z]{1,20}/?>){0,60}") {
        let _ = Configuration::parse(text.as_bytes());
        let _ = ChunkName::split(&text);
    }
}
