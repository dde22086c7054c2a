//! Lists of broadcasters, and our own through every edition.

use super::*;
use crate::dvbi::Edition;
use crate::dvbi::list::{DASH_TYPE, HLS_TYPE};
use proptest::prelude::*;

fn shared(path: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(format!("{}/../../shared/schemas/nip/{path}", env!("CARGO_MANIFEST_DIR")));
    if bytes.is_err() {
        eprintln!("SKIPPED: {path} is not here");
    }
    bytes.ok()
}

#[test]
fn a_broadcasters_lists() {
    for (path, services, numbers) in [
        ("ses-capture/service_list_full.xml", 6, 6),
        ("ses-capture/service_list_tp1045.xml", 3, 3),
        ("ses-capture/service_list_private.xml", 36, 36),
    ] {
        let Some(bytes) = shared(path) else { continue };
        let (list, left_out) = ServiceList::parse(&bytes).unwrap();
        assert_eq!((list.services.len(), list.numbers().len()), (services, numbers), "{path}");
        assert!(left_out.is_empty(), "{left_out:?}");
        assert_eq!((list.language.as_str(), list.version), ("en", 1));
        assert_eq!(list.guide_sources[0].schedule, "http://dvb.gw/ses.com/dvbi/cg/manifest.xml");
        let first = &list.services[0];
        assert_eq!(first.instances.len(), 2);
        let locators: Vec<_> = first.instances.iter().filter_map(|it| it.delivery.locator()).collect();
        assert_eq!((locators[0].1, locators[1].1), (DASH_TYPE, HLS_TYPE));
        assert!(first.pictures.iter().any(|it| it.kind == PictureKind::Logo));
        assert_eq!(first.guide_source.as_deref(), Some("dvbnipcg"));
    }
}

/// A list that uses every part of the model.
pub(crate) fn everything() -> ServiceList {
    let image = |name: &str| Image {
        uri: format!("http://dvb.gw/x/{name}.png"),
        content_type: "image/png".to_owned(),
    };
    let at = |text: &str| WallTime::from_xml(text);
    let instance = |priority, delivery| Instance {
        priority,
        names: vec![Text::new("", "HD")],
        content: ContentAttributes::default(),
        availability: Vec::new(),
        delivery,
    };
    let mut dash =
        instance(1, Delivery::Dash { uri: "http://dvb.gw/x/a.mpd".into(), content_type: DASH_TYPE.into() });
    dash.content = ContentAttributes {
        audio: vec![AudioAttributes {
            coding: Some("urn:dvb:metadata:cs:AudioCodecCS:2007:1.2".into()),
            channels: Some(2),
            language: Some("en".into()),
            sample_rate_hz: Some(48_000),
        }],
        video: vec![VideoAttributes {
            coding: Some("urn:dvb:metadata:cs:VideoCodecCS:2007:1.4.12".into()),
            is_interlaced: false,
            width: Some(1920),
            height: Some(1080),
            aspect_ratio: Some((16, 9)),
            frame_rate: Some("25".into()),
            picture_format: Some("urn:tva:metadata:cs:PictureFormatCS:2015:1.2".into()),
            colorimetry: Some("urn:dvb:metadata:cs:ColorimetryCS:2020:1".into()),
        }],
        video_conformance_points: Vec::new(),
    };
    dash.availability = vec![Period {
        from: at("2026-11-01T00:00:00Z"),
        to: at("2027-11-01T00:00:00Z"),
        intervals: vec![Interval { days: vec![1, 7], start_ms: 21_600_000, end_ms: 86_400_000 }],
    }];
    let dvbs = Delivery::Dvbs(Dvbs {
        original_network_id: Some(1),
        transport_stream_id: Some(1001),
        service_id: 5001,
        orbital_position: Some("19.2".into()),
        frequency_10khz: Some(1_172_750),
        polarization: Some("vertical".into()),
        symbol_rate_ksps: Some(27_500),
        roll_off: Some("0.20".into()),
        system: Some("DVB-S2".into()),
        modulation: Some("8PSK".into()),
        fec: Some("3/4".into()),
    });
    let hls = Delivery::Identifier { uri: "http://dvb.gw/x/a.m3u8".into(), content_type: HLS_TYPE.into() };
    let multicast = Delivery::MulticastTs { address: "239.1.1.1".into(), port: 5000 };
    let service = |name: &str, kind| Service {
        id: format!("tag:example.com,2026:{name}"),
        version: 3,
        names: vec![Text::new("en", name), Text::new("de", format!("{name} & <mehr>"))],
        providers: vec![Text::new("", "Example")],
        pictures: vec![
            Picture { kind: PictureKind::Logo, image: image("logo") },
            Picture { kind: PictureKind::Banner, image: image("banner") },
        ],
        genres: vec![
            "urn:tva:metadata:cs:ContentCS:2011:3.1.1".into(),
            "urn:tva:metadata:cs:ContentCS:2011:3.2".into(),
        ],
        kind,
        descriptions: vec![Text::new("", "News all day."), Text::new("de", "Nachrichten.")],
        target_regions: vec!["north".into()],
        guide_source: Some("guide".into()),
        guide_service: None,
        minimum_age: Some(12),
        instances: Vec::new(),
    };
    let mut news = service("news", ServiceKind::Linear);
    news.instances = vec![dash, instance(2, hls), instance(3, dvbs), instance(4, multicast)];
    let mut film = service("film", ServiceKind::Ondemand);
    film.guide_service = Some("tag:example.com,2026:film-guide".into());
    let region = |id: &str, regions| Region {
        id: id.into(),
        countries: if regions == Vec::new() { Vec::new() } else { vec!["LUX".into(), "DEU".into()] },
        names: vec![Text::new("", id)],
        postcodes: if regions == Vec::new() { vec!["6815".into()] } else { Vec::new() },
        is_selectable: true,
        regions,
    };
    let lcn = |number, name: &str| Lcn {
        number,
        service: format!("tag:example.com,2026:{name}"),
        is_selectable: true,
        is_visible: number < 100,
    };
    let endpoint = |name: &str| format!("http://dvb.gw/x/{name}");
    ServiceList {
        id: "tag:example.com,2026:list".into(),
        version: 7,
        language: "en".into(),
        names: vec![Text::new("en", "Example channels"), Text::new("de", "Beispielprogramme")],
        providers: vec![Text::new("", "Example")],
        logos: vec![image("list")],
        regions: vec![region("country", vec![region("north", Vec::new())])],
        target_regions: vec!["country".into()],
        lcn_tables: vec![
            LcnTable { target_regions: vec!["north".into()], entries: vec![lcn(1, "news"), lcn(2, "film")] },
            LcnTable { target_regions: Vec::new(), entries: vec![lcn(11, "news"), lcn(112, "film")] },
        ],
        guide_sources: vec![GuideSource {
            id: "guide".into(),
            providers: vec![Text::new("", "Example")],
            schedule: endpoint("schedule"),
            program: Some(endpoint("program")),
            group: Some(endpoint("groups/")),
            more_episodes: Some(endpoint("more")),
        }],
        services: vec![news, film],
    }
}

#[test]
fn what_is_written_is_read_in_every_edition() {
    let list = everything();
    for edition in Edition::ALL {
        let text = list.to_xml(edition);
        let (read, left_out) = ServiceList::parse(text.as_bytes()).unwrap();
        assert!(left_out.is_empty(), "{edition}: {left_out:?}");
        assert_eq!(read.services.len(), 2, "{edition}");
        assert_eq!(Edition::of_namespace(&xml::parse(text.as_bytes()).unwrap().namespace), Some(edition));
        if edition >= Edition::R6 {
            assert_eq!(read, list, "{edition}");
        }
    }
    // What an older edition cannot say is left out, the rest is there.
    let ways = |edition| {
        let (read, _) = ServiceList::parse(list.to_xml(edition).as_bytes()).unwrap();
        read.services[0].instances.len()
    };
    assert_eq!((ways(Edition::R3), ways(Edition::R4), ways(Edition::R6)), (3, 4, 4));
}

#[test]
fn a_hostile_list_is_bounded_and_a_lenient_one_is_read() {
    let namespace = "urn:dvb:metadata:servicediscovery:2024";
    let service = |at: usize| {
        format!(
            "<Service><UniqueIdentifier>tag:a,2026:{at}</UniqueIdentifier><ServiceName>&lt;b&gt;{at}</ServiceName></Service>"
        )
    };
    let many: String = (0..MAX_SERVICES + 5).map(service).collect();
    let text = format!(
        "<x:ServiceList xmlns:x='{namespace}' xmlns='{namespace}'><Service/>{}{many}</x:ServiceList>",
        service(0)
    );
    let (list, left_out) = ServiceList::parse(text.as_bytes()).unwrap();
    assert_eq!(list.services.len(), MAX_SERVICES);
    assert_eq!(
        left_out,
        [(LeftOut::NoIdentity, 1), (LeftOut::Twice, 1), (LeftOut::TooMany, 5)].map(|(a, b)| (a, b))
    );
    assert_eq!(list.services[0].names[0].text, "<b>0");
    // No namespace, no version, no language, a malformed channel number.
    let lenient = b"<ServiceList><Name>n</Name><LCNTableList><LCNTable><LCN channelNumber='x' serviceRef='a'/></LCNTable></LCNTableList>\
        <Service><UniqueIdentifier>a</UniqueIdentifier><ServiceInstance priority='-1'><DASHDeliveryParameters/></ServiceInstance>\
        <ServiceName>n</ServiceName></Service></ServiceList>";
    let (list, _) = ServiceList::parse(lenient).unwrap();
    assert_eq!((list.version, list.services[0].instances[0].priority), (1, 0));
    assert!(matches!(list.services[0].instances[0].delivery, Delivery::Other { .. }));
    assert!(ServiceList::parse(b"<Playlist/>").is_err());
    let long = "x".repeat(9000);
    let texts = |name: &str| {
        let text = |at: usize| format!("<{name} xml:lang='l{at}'>{long}</{name}>");
        (0..20).map(text).collect::<String>()
    };
    let instances = format!(
        "<ServiceInstance><DisplayName>{long}</DisplayName><DASHDeliveryParameters/></ServiceInstance>"
    )
    .repeat(40);
    let service = format!(
        "<ServiceList><Service><UniqueIdentifier>a</UniqueIdentifier>{}{}{instances}</Service>\
         <Service><UniqueIdentifier>{long}</UniqueIdentifier></Service></ServiceList>",
        texts("ServiceName"),
        texts("ServiceDescription")
    );
    let (list, left_out) = ServiceList::parse(service.as_bytes()).unwrap();
    assert_eq!(left_out, [(LeftOut::NoIdentity, 1)], "of more than 8,192 bytes");
    let service = &list.services[0];
    assert_eq!([service.names.len(), service.descriptions.len(), service.instances.len()], [16, 16, 32]);
    let lengths = [&service.names, &service.descriptions].map(|it| it[0].text.chars().count());
    assert_eq!(lengths, [400, 4000]);
    let regions = format!(
        "<ServiceList><RegionList>{}</RegionList></ServiceList>",
        "<Region regionID='a'/>".repeat(MAX_REGIONS + 9)
    );
    let (list, left_out) = ServiceList::parse(regions.as_bytes()).unwrap();
    assert_eq!((list.regions.len(), left_out), (MAX_REGIONS, vec![(LeftOut::TooMany, 9)]));
}

#[test]
fn channel_numbers_beyond_the_limit_are_counted_and_the_next_list_is_read() {
    let read = |tables: [usize; 2]| {
        let number = "<LCN channelNumber='1' serviceRef='a'/>";
        let tables = tables.map(|count| format!("<LCNTable>{}</LCNTable>", number.repeat(count)));
        let text = format!("<ServiceList><LCNTableList>{}</LCNTableList></ServiceList>", tables.concat());
        let (list, left_out) = ServiceList::parse(text.as_bytes()).unwrap();
        (list.lcn_tables.iter().map(|it| it.entries.len()).collect::<Vec<_>>(), left_out)
    };
    let too_many = vec![(LeftOut::TooMany, 7)];
    assert_eq!(read([MAX_LCNS - 3, 10]), (vec![MAX_LCNS - 3, 3], too_many), "of all tables together");
    assert_eq!(read([1, 2]), (vec![1, 2], vec![]));
}

proptest! {
    #[test]
    fn no_list_panics(text in "<ServiceList>(<(Service|ServiceInstance|LCN|Period|Interval|RegionList|Region|Availability)( (days|startTime|priority|channelNumber)='[0-9:. Z-]{0,12}')?/?>|</[A-Za-z]{1,8}>|[ -~]){0,40}") {
        let _ = ServiceList::parse(text.as_bytes());
        let _ = ServiceList::parse(format!("{text}</ServiceList>").as_bytes());
    }
}
