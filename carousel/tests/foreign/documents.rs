//! Documents of DVB-NIP, DVB-MABR and DVB-I as broadcasters' equipment and GPAC write them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use carousel::dvbi::entry_points::{DeliveryKind, EntryPoints};
use carousel::dvbi::list::{DASH_TYPE, HLS_TYPE, PictureKind, ServiceList};
use carousel::mabr::{Component, Configuration, Directory, EntryKind, JoinPolicy, Protocol};
use carousel::nip::{GuideManifest, NetworkInformationFile, ServiceInformationFile};
use carousel::time::WallTime;

const FLUTE: &str = "urn:dvb:metadata:cs:MulticastTransportProtocolCS:2019:FLUTE";

/// A gateway's transport session; `ns` is the prefix with its colon.
fn session(ns: &str, attributes: &str, endpoint: (&str, u16, u64), rates: &str, more: &str) -> String {
    let (group, port, tsi) = endpoint;
    format!(
        "<{ns}MulticastGatewayConfigurationTransportSession {attributes} transportSecurity=\"integrity\">\
         <{ns}TransportProtocol protocolIdentifier=\"{FLUTE}\" protocolVersion=\"1\"/><{ns}EndpointAddress>\
         <{ns}NetworkSourceAddress>192.0.2.180</{ns}NetworkSourceAddress>\
         <{ns}NetworkDestinationGroupAddress>{group}</{ns}NetworkDestinationGroupAddress>\
         <{ns}TransportDestinationPort>{port}</{ns}TransportDestinationPort>\
         <{ns}MediaTransportSessionIdentifier>{tsi}</{ns}MediaTransportSessionIdentifier></{ns}EndpointAddress>\
         <{ns}BitRate {rates}/>{more}</{ns}MulticastGatewayConfigurationTransportSession>"
    )
}

/// A bootstrap as SES's equipment writes it: default namespace of 2024, object carousels with latencies to the
/// millisecond, a `validUntil` with more than a date.
fn bootstrap_with_carousels() -> String {
    let resources: String = [
        ("PT5.005S", "urn:dvb:metadata:nativeip:ServiceGuide"),
        ("PT0.533S", "urn:dvb:metadata:nativeip:ServiceInformationFile"),
        ("PT0.514S", "urn:dvb:metadata:nativeip:NetworkInformationFile"),
    ]
    .map(|(latency, uri)| {
        format!("<ResourceLocator targetAcquisitionLatency=\"{latency}\">{uri}</ResourceLocator>\n")
    })
    .concat();
    let services: String = ["B1.1", "C1.3"]
        .map(|name| {
            format!(
                "<PresentationManifests targetAcquisitionLatency=\"PT2S\" serviceIdRef=\"tag:tv.example,2024:{name}\"/>\n\
                 <InitSegments targetAcquisitionLatency=\"PT1S\" serviceIdRef=\"tag:tv.example,2024:{name}\"/>\n"
            )
        })
        .concat();
    let carousel = |sizes: &str, entries: &str| {
        let [transport, content] = ["aggregateTransportSize", "aggregateContentSize"];
        format!("<ObjectCarousel {transport}=\"{sizes}\" {content}=\"{sizes}\">{entries}</ObjectCarousel>")
    };
    let guide = "serviceClass=\"urn:dvb:metadata:nativeip:ContentGuide\" tags=\"http://box.example/tv/dvbi/cg/CoreSet\"";
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MulticastGatewayConfiguration \
         xmlns=\"urn:dvb:metadata:MulticastSessionConfiguration:2024\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:ext=\"urn:dvb:metadata:Extensibility:2024\" xmlns:mpeg7=\"urn:mpeg:mpeg7:schema:2001\" ext:schemaVersion=\"2\" \
         validUntil=\"2099-06-26T07:01:50:000F1000\">\n{}\n{}\n{}\n</MulticastGatewayConfiguration>",
        session("", "", ("224.0.23.14", 3937, 0), "maximum=\"1048576\"", &carousel("26659", &resources)),
        session("", "", ("224.0.49.1", 49_001, 49_001), "maximum=\"2097152\"", &carousel("0", &services)),
        session("", guide, ("224.0.49.2", 49_002, 49_002), "maximum=\"2097152\"", ""),
    )
}

/// A bootstrap as Eutelsat's equipment writes it: every element with a prefix, a validity period of a century, a session of a
/// class that is not ours.
fn bootstrap_with_prefixes() -> String {
    let rates = "average=\"204800\" maximum=\"204800\"";
    let envelope = "serviceClass=\"urn:3gpp:metadata:2005:MBMS:envelope\"";
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ns2:MulticastGatewayConfiguration ns3:schemaVersion=\"0\" \
         validityPeriod=\"P99Y11M30DT0H0M0.000S\" xmlns:ns2=\"urn:dvb:metadata:MulticastSessionConfiguration:2024\" \
         xmlns:ns1=\"urn:mpeg:mpeg7:schema:2001\" xmlns:ns3=\"urn:dvb:metadata:Extensibility:2024\">{}{}{}\
         </ns2:MulticastGatewayConfiguration>",
        session("ns2:", "", ("224.0.23.14", 3937, 0), rates, ""),
        session("ns2:", "", ("239.80.232.176", 50_001, 9), rates, ""),
        session("ns2:", envelope, ("239.80.232.176", 50_000, 8), rates, ""),
    )
}

/// A gateway configuration as GPAC's `mabr` filter writes it: namespace of 2023, an empty object carousel, a session for each
/// HLS rendition with repair parameters of a few milliseconds.
fn gateway_configuration(renditions: u64) -> String {
    let mut sessions = String::new();
    for at in 1..=renditions {
        let _ = write!(
            sessions,
            "<MulticastTransportSession sessionIdleTimeout=\"60000\" transportSecurity=\"none\" id=\"{0}\" \
             transmissionMode=\"resource\">\n<TransportProtocol protocolIdentifier=\"{FLUTE}\" protocolVersion=\"1\"/>\n\
             <EndpointAddress>\n<NetworkDestinationGroupAddress>232.1.2.1</NetworkDestinationGroupAddress>\n\
             <TransportDestinationPort>6021</TransportDestinationPort>\n<MediaTransportSessionIdentifier>{0}\
             </MediaTransportSessionIdentifier>\n</EndpointAddress>\n<BitRate average=\"384587\" maximum=\"384587\"/>\n\
             <UnicastRepairParameters transportObjectReceptionTimeout=\"50\" fixedBackOffPeriod=\"10\" \
             randomBackOffPeriod=\"20\" transportObjectBaseURI=\"tag:packager.example.2025.services.1\">\n\
             <BaseURL>http://127.0.0.1:8080/dash/</BaseURL>\n</UnicastRepairParameters>\n<ServiceComponentIdentifier \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" manifestIdRef=\"mani_0_hls\" \
             xsi:type=\"HLSComponentIdentifierType\" \
             mediaPlaylistLocator=\"tag:packager.example.2025.services.1/live_{at}.m3u8\"/>\n</MulticastTransportSession>\n",
            at * 10
        );
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MulticastGatewayConfiguration \
         xmlns=\"urn:dvb:metadata:MulticastSessionConfiguration:2023\">\n\
         <MulticastGatewayConfigurationTransportSession transportSecurity=\"integrity\">\n<TransportProtocol \
         protocolIdentifier=\"{FLUTE}\" protocolVersion=\"1\"/>\n<EndpointAddress>\n<NetworkDestinationGroupAddress>232.1.2.1\
         </NetworkDestinationGroupAddress>\n<TransportDestinationPort>6020</TransportDestinationPort>\n\
         <MediaTransportSessionIdentifier>1</MediaTransportSessionIdentifier>\n</EndpointAddress>\n<BitRate \
         average=\"810358\" maximum=\"810358\"/>\n<ObjectCarousel aggregateTransportSize=\"5821\">\n</ObjectCarousel>\n\
         </MulticastGatewayConfigurationTransportSession>\n<MulticastSession serviceIdentifier=\"packager:service:0\" \
         contentPlaybackAvailabilityOffset=\"PT4S\">\n<PresentationManifestLocator manifestId=\"mani_0_hls\" \
         contentType=\"application/vnd.apple.mpegURL\" \
         transportObjectURI=\"tag:packager.example.2025.services.1/live.m3u8\">http://127.0.0.1:8080/dash/live.m3u8\
         </PresentationManifestLocator>\n{sessions}</MulticastSession>\n</MulticastGatewayConfiguration>"
    )
}

#[test]
fn a_bootstrap_with_object_carousels() {
    let bootstrap = Configuration::parse(bootstrap_with_carousels().as_bytes()).unwrap();
    let sessions = &bootstrap.gateway_sessions;
    assert_eq!(sessions.len(), 3);
    let first = &sessions[0];
    assert_eq!(first.endpoints[0].group, IpAddr::from([224, 0, 23, 14]));
    assert_eq!((first.endpoints[0].port, first.endpoints[0].tsi), (3937, Some(0)));
    assert_eq!((&first.protocol, first.maximum_bps), (&Protocol::Flute, Some(1_048_576)));
    let carousel = first.carousel.as_ref().unwrap();
    assert_eq!((carousel.transport_bytes, carousel.entries.len()), (Some(26_659), 3));
    let nif = carousel.entries.iter().find(|entry| entry.uri.ends_with("NetworkInformationFile")).unwrap();
    assert_eq!((nif.kind, nif.latency), (EntryKind::Resource, Some(Duration::from_millis(514))));
    let services = &sessions[1].carousel.as_ref().unwrap().entries;
    let inits: Vec<_> = services.iter().filter(|entry| entry.kind == EntryKind::Inits).collect();
    assert_eq!((inits.len(), inits[1].service.as_deref()), (2, Some("tag:tv.example,2024:C1.3")));
    assert_eq!(sessions[2].tags, ["http://box.example/tv/dvbi/cg/CoreSet"]);
    // 2099-06-26T07:01:50: what follows the seconds is skipped.
    assert_eq!(bootstrap.valid_until, Some(WallTime::from_unix_ms(4_086_140_510_000)));
    let again = Configuration::parse(bootstrap.to_xml().as_bytes()).unwrap();
    assert_eq!(again.gateway_sessions, bootstrap.gateway_sessions);
}

#[test]
fn sessions_are_joined_by_their_class() {
    let source = IpAddr::from([192, 0, 2, 180]);
    let ports = |document: &str| {
        let mut directory = Directory::new(JoinPolicy::default(), Vec::new());
        directory.document(source, "bootstrap", document.as_bytes()).unwrap();
        directory.sessions().iter().map(|spec| spec.address.port()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&bootstrap_with_carousels()), [3937, 49_001, 49_002]);
    assert_eq!(ports(&bootstrap_with_prefixes()), [3937, 50_001], "an MBMS envelope is not ours");
}

#[test]
fn a_gateway_configuration_with_a_session_for_each_rendition() {
    let configuration = Configuration::parse(gateway_configuration(3).as_bytes()).unwrap();
    let [session] = configuration.sessions.as_slice() else { panic!("one service") };
    assert_eq!(session.playback_offset, Some(Duration::from_secs(4)));
    let manifest = &session.manifests[0];
    assert_eq!(
        (manifest.id.as_str(), manifest.url.as_str()),
        ("mani_0_hls", "http://127.0.0.1:8080/dash/live.m3u8")
    );
    let object = "tag:packager.example.2025.services.1/live.m3u8";
    assert_eq!(manifest.transport_object_uri.as_deref(), Some(object));
    let tsis: Vec<_> = session.transport_sessions.iter().map(|it| it.endpoints[0].tsi).collect();
    assert_eq!(tsis, [Some(10), Some(20), Some(30)]);
    let second = &session.transport_sessions[1];
    let repair = second.repair.as_ref().unwrap();
    assert_eq!(
        (repair.reception_timeout_ms, repair.fixed_back_off_ms, repair.random_back_off_ms),
        (50, 10, 20)
    );
    assert_eq!(repair.base_urls, [("http://127.0.0.1:8080/dash/".to_owned(), 1)]);
    let playlist = "tag:packager.example.2025.services.1/live_2.m3u8".to_owned();
    assert_eq!(second.components, [Component::Hls { manifest: "mani_0_hls".to_owned(), playlist }]);
    let again = Configuration::parse(configuration.to_xml().as_bytes()).unwrap();
    assert_eq!(again.sessions, configuration.sessions);
}

#[test]
fn network_information_of_both_editions() {
    let document = |year: u16, parameters: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NetworkInformationFile xmlns=\"urn:dvb:metadata:nativeip:{year}\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n<VersionUpdate>2025-01-10T11:36:58Z</VersionUpdate>\
             <NIFType>Physical Network</NIFType><ActualBroadcastNetwork><NetworkType>Satellite</NetworkType>\
             <NetworkName>N</NetworkName><NIPNetworkProviderName>P</NIPNetworkProviderName><SatellitePosition>\
             <OrbitalPosition>19.2</OrbitalPosition><West_East_flag>East</West_East_flag></SatellitePosition>\
             <NIPNetworkID>318</NIPNetworkID><NIPStream><LinkLayerFormat>GSE-Lite</LinkLayerFormat>\
             <NIPStreamProviderName>P</NIPStreamProviderName><NIPCarrierID>7600</NIPCarrierID><NIPLinkID>0</NIPLinkID>\
             <NIPServiceID>17702</NIPServiceID><BootstrapStream><BootstrapType>Physical Network</BootstrapType>\
             <Status>Active</Status></BootstrapStream>{parameters}</NIPStream><NIPStream>\
             <LinkLayerFormat>TS</LinkLayerFormat><NIPStreamProviderName>Q</NIPStreamProviderName>\
             <NIPCarrierID>8400</NIPCarrierID><NIPLinkID>0</NIPLinkID><NIPServiceID>1501</NIPServiceID></NIPStream>\
             </ActualBroadcastNetwork></NetworkInformationFile>"
        )
    };
    let s2 = "<DVBS2_NIPDeliveryParameters><Frequency>1222616</Frequency><Polarization>vertical</Polarization>\
              <Modulation_Type>8PSK</Modulation_Type><Roll_off>0.20</Roll_off><SymbolRate>27500</SymbolRate><FEC>3/4</FEC>\
              <input_stream_identifier>0</input_stream_identifier></DVBS2_NIPDeliveryParameters>";
    let s2x = "<DVBS2X_NIPDeliveryParameters><receiver_profiles>Broadcast services</receiver_profiles>\
               <S2X_mode>S2X</S2X_mode><Frequency>1222616</Frequency><Polarization>horizontal</Polarization>\
               <Roll_off>0.20</Roll_off><SymbolRate>27500</SymbolRate></DVBS2X_NIPDeliveryParameters>";
    for (year, parameters) in [(2023, s2), (2024, s2x)] {
        let nif = NetworkInformationFile::parse(document(year, parameters).as_bytes()).unwrap();
        let network = &nif.actual;
        assert_eq!((network.network_id, network.streams.len()), (318, 2), "{year}");
        assert_eq!(network.satellite_position, Some(("19.2".to_owned(), "East".to_owned())));
        let stream = &network.streams[0];
        assert_eq!((stream.carrier_id, stream.service_id), (7600, 17_702));
        assert!(stream.bootstrap.is_some() && network.streams[1].bootstrap.is_none());
        let delivery = stream.delivery.as_ref().unwrap();
        assert_eq!(
            (delivery.frequency_10khz(), delivery.symbol_rate_ksps()),
            (Some(1_222_616), Some(27_500))
        );
        assert_eq!(network.streams[1].delivery, None);
        let again = NetworkInformationFile::parse(nif.to_xml().as_bytes()).unwrap();
        assert_eq!(again.to_xml(), nif.to_xml());
    }
}

#[test]
fn service_information_with_escaped_names() {
    let uris = ["http://box.example/tv/wonderful%20book.pdf", "http://box.example/tv/Zu%CC%88rich.mp4"];
    let media: String = uris.map(|uri| format!("<URI>{uri}</URI>")).concat();
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ServiceInformationFile xmlns=\"urn:dvb:metadata:nativeip:2024\" \
         xmlns:ext=\"urn:dvb:metadata:Extensibility:2024\" ext:schemaVersion=\"1\"><VersionUpdate>2025-01-10T11:36:58Z\
         </VersionUpdate><NIPNetworkProviderName>P</NIPNetworkProviderName><BroadcastMediaStream>\
         <NIPNetworkID>1</NIPNetworkID><NIPCarrierID>1045</NIPCarrierID><NIPLinkID>1</NIPLinkID>\
         <NIPServiceID>0</NIPServiceID><BroadcastMedia>{media}</BroadcastMedia></BroadcastMediaStream>\
         </ServiceInformationFile>"
    );
    let sif = ServiceInformationFile::parse(document.as_bytes()).unwrap();
    assert_eq!(
        (sif.streams[0].ids, sif.streams[0].uris.as_slice()),
        ([1, 1045, 1, 0], &uris.map(str::to_owned)[..])
    );
    assert_eq!(ServiceInformationFile::parse(sif.to_xml().as_bytes()).unwrap(), sif);
}

#[test]
fn a_guide_manifest_of_five_days() {
    let tags =
        ["http://box.example/tv/dvbi/cg/CoreSet", "http://box.example/tv/dvbi/cg/CoreSetRelatedMaterials"];
    let refs: String = tags.map(|tag| format!("<TagRef>{tag}</TagRef>")).concat();
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NIPContentGuideManifest xmlns=\"urn:dvb:metadata:nativeip:2024\">\
         <VersionUpdate>2025-02-11T11:37:03Z</VersionUpdate><GuideSchedule><PublishedStartTime>2025-02-11T11:37:03Z\
         </PublishedStartTime><PublishedDuration>P5D</PublishedDuration><GuideSession>{refs}\
         <CarouselMaxDataSize>204857600</CarouselMaxDataSize></GuideSession></GuideSchedule></NIPContentGuideManifest>"
    );
    let manifest = GuideManifest::parse(document.as_bytes()).unwrap();
    let [schedule] = manifest.schedules.as_slice() else { panic!("{manifest:?}") };
    assert_eq!(schedule.end().to_xml(), "2025-02-16T11:37:03.000Z");
    assert_eq!(
        (schedule.sessions[0].tags.as_slice(), schedule.sessions[0].max_bytes),
        (&tags.map(str::to_owned)[..], 204_857_600)
    );
    assert_eq!(GuideManifest::parse(manifest.to_xml().as_bytes()).unwrap(), manifest);
}

#[test]
fn entry_points_with_types_of_another_namespace() {
    let offering = |name: &str, delivery: &str| {
        format!(
            "<ServiceListOffering regulatorListFlag=\"false\"><dvbi-types:ServiceListName>{name}</dvbi-types:ServiceListName>\
             <dvbi-types:ServiceListURI contentType=\"application/xml\"><dvbi-types:URI>http://box.example/{name}.xml\
             </dvbi-types:URI></dvbi-types:ServiceListURI><dvbi-types:Delivery>{delivery}</dvbi-types:Delivery>\
             <dvbi-types:Language>en</dvbi-types:Language><dvbi-types:TargetCountry>LUX</dvbi-types:TargetCountry>\
             <dvbi-types:ServiceListId>tag:tv.example,2024:{name}</dvbi-types:ServiceListId></ServiceListOffering>"
        )
    };
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ServiceListEntryPoints \
         xmlns=\"urn:dvb:metadata:servicelistdiscovery:2024\" xmlns:mpeg7=\"urn:tva:mpeg7:2008\" \
         xmlns:dvbi-types=\"urn:dvb:metadata:servicediscovery-types:2023\" xml:lang=\"en\"><ServiceListRegistryEntity \
         regulatorFlag=\"false\"><mpeg7:Icon><mpeg7:MediaUri>http://box.example/l.jpg</mpeg7:MediaUri></mpeg7:Icon>\
         <Name>Registry</Name><Address><mpeg7:Name>Somebody else</mpeg7:Name></Address></ServiceListRegistryEntity>\
         <ProviderOffering><Provider regulatorFlag=\"false\"><Name>Provider</Name></Provider>{}{}</ProviderOffering>\
         </ServiceListEntryPoints>",
        offering("full", "<dvbi-types:DASHDelivery required=\"true\"/>"),
        offering("offline", "<dvbi-types:DASHDelivery required=\"false\"/>"),
    );
    let points = EntryPoints::parse(document.as_bytes()).unwrap();
    assert_eq!(
        (points.registry[0].text.as_str(), points.providers[0].names[0].text.as_str()),
        ("Registry", "Provider")
    );
    let lists: Vec<_> = points.lists().collect();
    assert_eq!(lists.len(), 2);
    assert_eq!(lists[0].uris[0].0, "http://box.example/full.xml");
    assert_eq!(
        (lists[0].countries.as_slice(), lists[0].delivery.as_slice()),
        (&["LUX".to_owned()][..], &[DeliveryKind::Dash][..])
    );
    assert_eq!(lists[1].id, "tag:tv.example,2024:offline");
}

#[test]
fn a_service_list_with_a_service_by_dash_and_hls() {
    let instance = |priority: u8, content_type: &str, uri: &str| {
        format!(
            "<ServiceInstance priority=\"{priority}\"><DASHDeliveryParameters><UriBasedLocation \
             contentType=\"{content_type}\"><dvbi-types:URI>{uri}</dvbi-types:URI></UriBasedLocation>\
             </DASHDeliveryParameters></ServiceInstance>"
        )
    };
    let logo = "<RelatedMaterial><tva:HowRelated href=\"urn:dvb:metadata:cs:HowRelatedCS:2020:1001.2\"/><tva:MediaLocator>\
                <tva:MediaUri contentType=\"image/png\">http://box.example/one.png</tva:MediaUri></tva:MediaLocator>\
                </RelatedMaterial>";
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ServiceList xmlns=\"urn:dvb:metadata:servicediscovery:2024\" \
         xmlns:dvbi-types=\"urn:dvb:metadata:servicediscovery-types:2023\" xmlns:tva=\"urn:tva:metadata:2024\" version=\"1\" \
         xml:lang=\"en\" id=\"tag:tv.example,2024:list\"><Name>List</Name><ProviderName>Provider</ProviderName>\
         <LCNTableList><LCNTable><LCN channelNumber=\"1\" serviceRef=\"tag:tv.example,2024:one\"/></LCNTable></LCNTableList>\
         <ContentGuideSourceList><ContentGuideSource CGSID=\"guide\"><ProviderName>Provider</ProviderName>\
         <ScheduleInfoEndpoint contentType=\"application/xml\"><dvbi-types:URI>http://box.example/cg/manifest.xml\
         </dvbi-types:URI></ScheduleInfoEndpoint></ContentGuideSource></ContentGuideSourceList><Service version=\"1\">\
         <UniqueIdentifier>tag:tv.example,2024:one</UniqueIdentifier>{}{}<ServiceName>One</ServiceName>\
         <ProviderName>Provider</ProviderName>{logo}<ContentGuideSourceRef>guide</ContentGuideSourceRef></Service>\
         </ServiceList>",
        instance(1, DASH_TYPE, "http://box.example/one.mpd"),
        instance(2, HLS_TYPE, "http://box.example/one.m3u8"),
    );
    let (list, left_out) = ServiceList::parse(document.as_bytes()).unwrap();
    assert_eq!((list.services.len(), list.numbers().len(), left_out.len()), (1, 1, 0));
    assert_eq!(list.guide_sources[0].schedule, "http://box.example/cg/manifest.xml");
    let service = &list.services[0];
    let locators: Vec<_> = service.instances.iter().filter_map(|it| it.delivery.locator()).collect();
    assert_eq!((locators[0].1, locators[1].1), (DASH_TYPE, HLS_TYPE));
    assert!(service.pictures.iter().any(|it| it.kind == PictureKind::Logo));
    assert_eq!(service.guide_source.as_deref(), Some("guide"));
}
