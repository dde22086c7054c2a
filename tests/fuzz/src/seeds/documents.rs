//! Seeds of documents.

use carousel::dvbi::entry_points::{EntryPoints, Offering, Provider};
use carousel::dvbi::{Edition, ServiceList, Text};
use carousel::flute::{FdtInstance, FdtNamespace, File};
use carousel::lct::Toi;
use carousel::mabr::{
    Configuration, Endpoint, ManifestLocator, MulticastSession, RepairParameters, TransportSession,
};
use carousel::nip::{GuideManifest, NetworkInformationFile, ServiceInformationFile, TimeOffsetFile};
use carousel::route::package;

use super::receivers::honest_route;
use super::{gzip, texts};
use crate::targets::START;

/// Files of this repository: they are part of the documentation or of tests.
pub(crate) fn of_repository(paths: &[&str]) -> Vec<Vec<u8>> {
    let read = |path: &&str| {
        let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|err| panic!("{path}: {err}"))
    };
    paths.iter().map(read).collect()
}

pub(crate) fn fdt() -> Vec<Vec<u8>> {
    let file = |toi: u128| File {
        content_location: format!("http://h/{toi}.m4s"),
        toi: Toi(toi),
        content_length: Some(500),
        transfer_length: Some(500),
        content_type: Some("video/mp4".to_owned()),
        content_md5: Some([7; 16]),
        content_digest: Some(carousel::Digest::of(b"a")),
        repr_digest: Some(carousel::Digest::of(b"b")),
        etag: Some("\"e\"".to_owned()),
        ..File::default()
    };
    let instance =
        FdtInstance { expires: 4_000_000_000, files: (1..3).map(file).collect(), ..FdtInstance::default() };
    let mut seeds: Vec<Vec<u8>> =
        FdtNamespace::ALL.iter().map(|&it| instance.to_xml(it).into_bytes()).collect();
    seeds.extend(texts(&[
        "<FDT-Instance Expires=\"1\" FEC-OTI-FEC-Encoding-ID=\"6\" FEC-OTI-Encoding-Symbol-Length=\"100\" \
         FEC-OTI-Scheme-Specific-Info=\"AQABBA==\"><File TOI=\"1\" Content-Location=\"a?b&amp;c#0\" Transfer-Length=\"9\"/></FDT-Instance>",
        "<FDT-Instance Expires='1' Complete='true'><File TOI='2' Content-Location='x' Content-Encoding='gzip'>\
         <Cache-Control><max-age>5</max-age></Cache-Control></File></FDT-Instance>",
    ]));
    seeds.push(gzip(&seeds[0]));
    seeds
}

pub(crate) fn mabr() -> Vec<Vec<u8>> {
    let endpoint =
        Endpoint { source: "10.0.0.1".parse().ok(), group: [239, 0, 0, 1].into(), port: 6000, tsi: Some(7) };
    let transport = TransportSession {
        endpoints: vec![endpoint],
        repair: Some(RepairParameters {
            transport_object_base_uri: Some("http://dvb.gw/op/".to_owned()),
            base_urls: vec![("http://cdn.example/".to_owned(), 1)],
            fixed_back_off_ms: 5,
            ..RepairParameters::default()
        }),
        ..TransportSession::default()
    };
    let session = MulticastSession {
        service_identifier: "tag:s,2026:1".to_owned(),
        manifests: vec![ManifestLocator {
            url: "http://cdn.example/m.mpd".to_owned(),
            transport_object_uri: Some("http://dvb.gw/op/m.mpd".to_owned()),
            ..ManifestLocator::default()
        }],
        transport_sessions: vec![transport.clone()],
        ..MulticastSession::default()
    };
    let both = [false, true].map(|for_server| Configuration {
        for_server,
        schema_version: Some("2".to_owned()),
        valid_until: Some(START),
        gateway_sessions: vec![transport.clone()],
        sessions: vec![session.clone()],
        ..Configuration::default()
    });
    both.iter().map(|it| it.to_xml().into_bytes()).collect()
}

pub(crate) fn nip() -> Vec<Vec<u8>> {
    let time = TimeOffsetFile::now(START).to_xml();
    let manifest = GuideManifest::default().to_xml();
    let network = NetworkInformationFile::default().to_xml();
    let services = ServiceInformationFile::default().to_xml();
    texts(&[&time, &manifest, &network, &services])
}

pub(crate) fn route_signalling() -> Vec<Vec<u8>> {
    let parts: [(&str, &str, &[u8]); 2] = [
        ("application/route-s-tsid+xml", "s.xml", b"<S-TSID/>"),
        ("application/dash+xml", "m.mpd", b"<MPD/>"),
    ];
    let package = package::write(&parts);
    let mut seeds = vec![gzip(&package), package];
    // The honest session's own, without the heads of its packets.
    seeds.extend(honest_route().packets.iter().take(3).map(|it| it.get(24..).unwrap_or_default().to_vec()));
    seeds.extend(texts(&[
        "<S-TSID xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/S-TSID/1.0/\"><RS dIpAddr=\"239.0.0.1\" dPort=\"6000\">\
         <LS tsi=\"10\"><SrcFlow rt=\"true\"><EFDT><FDT-Instance Expires=\"1\" fileTemplate=\"s-$TOI$.m4s\"/></EFDT>\
         <Payload codePoint=\"8\" formatId=\"1\" frag=\"1\" order=\"true\"/></SrcFlow><RepairFlow><FECParameters maximumDelay=\"5000\" \
         overhead=\"10\"><ProtectedObject sourceTOI=\"1\" tsi=\"10\"/></FECParameters></RepairFlow></LS></RS></S-TSID>",
        "Content-Type: video/mp4\r\nContent-Location: a.m4s\r\nContent-Length: 4\r\n\r\nbody",
        "4\r\nbody\r\n0\r\nRepr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n\r\n",
        "\u{1}\u{0}\u{0}\u{1}<SLT bsid=\"1\"><Service serviceId=\"1\"><BroadcastSvcSignaling slsProtocol=\"1\" \
         slsDestinationIpAddress=\"239.0.0.1\" slsDestinationUdpPort=\"6000\"/></Service></SLT>",
    ]));
    seeds
}

pub(crate) fn dvb_i() -> Vec<Vec<u8>> {
    let text = |text: &str| vec![Text::new("en", text)];
    let list = ServiceList {
        id: "tag:b.example,2026:list".to_owned(),
        version: 1,
        language: "en".to_owned(),
        names: text("List"),
        providers: text("Provider"),
        ..ServiceList::default()
    };
    let entries = EntryPoints {
        language: "en".to_owned(),
        registry: text("Registry"),
        providers: vec![Provider { names: text("One"), lists: vec![Offering::default()] }],
    };
    let mut seeds: Vec<Vec<u8>> = Edition::ALL
        .iter()
        .flat_map(|&it| [list.to_xml(it), entries.to_xml(it)])
        .map(String::into_bytes)
        .collect();
    seeds.extend(texts(&[
        "<ServiceList xmlns=\"urn:dvb:metadata:servicediscovery:2024\" version=\"1\" id=\"tag:x\"><Name>n</Name><ProviderName>p</ProviderName>\
         <LCNTableList><LCNTable><LCN channelNumber=\"1\" serviceRef=\"s\"/></LCNTable></LCNTableList><Service version=\"1\">\
         <UniqueIdentifier>s</UniqueIdentifier><ServiceInstance priority=\"1\"><DASHDeliveryParameters><UriBasedLocation contentType=\"application/dash+xml\">\
         <URI>http://a/m.mpd</URI></UriBasedLocation></DASHDeliveryParameters></ServiceInstance><ServiceName>S</ServiceName></Service></ServiceList>",
        "<TVAMain xmlns=\"urn:tva:metadata:2024\"><ProgramDescription><ProgramInformationTable><ProgramInformation programId=\"crid://a/1\">\
         <BasicDescription><Title type=\"main\">T</Title><Genre href=\"urn:x\"/></BasicDescription></ProgramInformation></ProgramInformationTable>\
         <ProgramLocationTable><Schedule serviceIDRef=\"s\" start=\"2026-11-28T20:00:00Z\" end=\"2026-11-29T20:00:00Z\"><ScheduleEvent>\
         <Program crid=\"crid://a/1\"/><PublishedStartTime>2026-11-28T20:00:00Z</PublishedStartTime><PublishedDuration>PT1H</PublishedDuration>\
         </ScheduleEvent></Schedule></ProgramLocationTable></ProgramDescription></TVAMain>",
    ]));
    seeds
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let mut seeds = of_repository(&[
        "tests/media/cmaf/manifest.mpd",
        "tests/media/cmaf/master.m3u8",
        "tests/media/cmaf/media_0.m3u8",
    ]);
    seeds.extend(texts(&[
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:5\n\
         #EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2.0,\ns1.m4s\n#EXT-X-BYTERANGE:100@0\n#EXTINF:2,\ns2.m4s\n#EXT-X-GAP\n#EXTINF:2,\ns3.m4s\n\
         #EXT-X-PART:URI=\"a/1.m4s\",DURATION=0.5,BYTERANGE=\"50@10\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s4.m4s\"\n",
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"s1\"\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:2,\n{$v}.m4s\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"A\",URI=\"m.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\",CODECS=\"avc1.640028\"\nm.m3u8\n\
         #EXT-X-CONTENT-STEERING:SERVER-URI=\"steer.json\"\n",
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"dynamic\" availabilityStartTime=\"2026-11-28T00:00:00Z\" minimumUpdatePeriod=\"PT2S\">\
         <BaseURL>a/</BaseURL><Period start=\"PT0S\"><AdaptationSet mimeType=\"video/mp4\"><SegmentTemplate media=\"$RepresentationID$/$Time$.m4s\" \
         initialization=\"init.mp4\" timescale=\"1000\"><SegmentTimeline><S t=\"0\" d=\"2000\" r=\"3\"/></SegmentTimeline></SegmentTemplate>\
         <Representation id=\"v\" bandwidth=\"1000\"/></AdaptationSet></Period></MPD>",
        "<MPD><Period duration=\"PT4S\"><AdaptationSet><Representation id=\"1\"><SegmentList duration=\"2\"><Initialization sourceURL=\"init.mp4\"/>\
         <SegmentURL media=\"s1.m4s\" mediaRange=\"0-9\"/><SegmentURL media=\"s2.m4s\"/></SegmentList></Representation>\
         <Representation id=\"2\"><BaseURL>s3.m4s</BaseURL><SegmentBase indexRange=\"0-9\"/></Representation></AdaptationSet></Period></MPD>",
        "{\"VERSION\":1,\"TTL\":300,\"RELOAD-URI\":\"x\",\"PATHWAY-PRIORITY\":[\"a\"]}",
    ]));
    seeds
}
