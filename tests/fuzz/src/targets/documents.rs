//! Documents that describe sessions, objects and services.

use std::net::{IpAddr, Ipv4Addr};

use carousel::dvbi::entry_points::EntryPoints;
use carousel::dvbi::guide::Guide;
use carousel::dvbi::{Edition, ServiceList};
use carousel::flute::{Encoding, FdtInstance, FdtNamespace, decode, verify};
use carousel::lct::Toi;
use carousel::mabr::{Configuration, Directory, JoinPolicy};
use carousel::manifest::{Manifest, delayed, segments, shortened};
use carousel::nip::{GuideManifest, NetworkInformationFile, ServiceInformationFile, TimeOffsetFile};
use carousel::route::lls::tables;
use carousel::route::package::{parts, unpack};
use carousel::route::{Entity, Stsid, unchunk};
use carousel::time::WallTime;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

pub(super) fn fdt(bytes: &[u8]) {
    if let Ok((instance, _)) = FdtInstance::parse(bytes) {
        for namespace in FdtNamespace::ALL {
            let xml = instance.to_xml(namespace);
            let read = FdtInstance::parse(xml.as_bytes());
            let (read, _) = read.unwrap_or_else(|err| panic!("{err}: {xml}"));
            // What no XML can hold is written as U+FFFD.
            let plain =
                |name: &str| name.replace(|it| it < ' ' || matches!(it, '\u{fffe}' | '\u{ffff}'), "\u{fffd}");
            let names = |it: &FdtInstance| {
                it.files.iter().map(|file| (file.toi, plain(&file.content_location))).collect::<Vec<_>>()
            };
            assert_eq!(names(&read), names(&instance), "{xml}");
        }
        for file in &instance.files {
            let _ = file.oti();
            let _ = (file.version(), file.object_digest(), file.object_length());
            // Some senders write the length of the encoded bytes.
            let length = file.content_length.filter(|length| *length != bytes.len() as u64);
            if let (Ok(content), Some(length)) = (verify(file, bytes), length) {
                assert_eq!(content.decoded.as_ref().map_or(bytes.len(), Vec::len) as u64, length);
            }
        }
    }
    for encoding in [Encoding::Gzip, Encoding::Zlib, Encoding::Deflate] {
        for length in [None, Some(1000)] {
            if let Ok(Some(object)) = decode(&encoding, bytes, length) {
                assert!(length.is_none_or(|length| object.len() as u64 <= length));
            }
        }
    }
}

pub(super) fn mabr(bytes: &[u8]) {
    let Ok(configuration) = Configuration::parse(bytes) else { return };
    let xml = configuration.to_xml();
    assert!(Configuration::parse(xml.as_bytes()).is_ok(), "{xml}");
    let mut directory = Directory::new(JoinPolicy::default(), Vec::new());
    let _ = directory.document(SOURCE, "a", bytes);
    let _ = directory.document(SOURCE, "b", bytes);
    let _ = directory.aliases().url_of("http://dvb.gw/a/b");
    assert!(directory.sessions().len() <= carousel::limits::MAX_SESSIONS);
}

pub(super) fn nip(bytes: &[u8]) {
    if let Ok(file) = NetworkInformationFile::parse(bytes) {
        assert!(NetworkInformationFile::parse(file.to_xml().as_bytes()).is_ok());
        for stream in std::iter::once(&file.actual).chain(&file.others).flat_map(|it| &it.streams) {
            let _ = stream.delivery.as_ref().map(|it| (it.frequency_10khz(), it.symbol_rate_ksps()));
        }
    }
    if let Ok(file) = ServiceInformationFile::parse(bytes) {
        assert!(ServiceInformationFile::parse(file.to_xml().as_bytes()).is_ok());
    }
    if let Ok(file) = TimeOffsetFile::parse(bytes) {
        let _ = file.time();
    }
    if let Ok(manifest) = GuideManifest::parse(bytes) {
        let _ = manifest.to_xml();
    }
}

pub(super) fn route_signalling(bytes: &[u8]) {
    if let Ok(stsid) = Stsid::parse(bytes) {
        let xml = stsid.to_xml();
        assert!(Stsid::parse(xml.as_bytes()).is_ok(), "{xml}");
        for protected in stsid
            .sessions
            .iter()
            .flat_map(|it| &it.channels)
            .filter_map(|it| it.repair.as_ref())
            .flat_map(|it| &it.protected)
        {
            let _ = protected.source_toi(Toi(u128::MAX));
        }
    }
    if let Some(unpacked) = unpack(bytes) {
        let _ = parts(&unpacked);
    }
    let _ = parts(bytes);
    let _ = tables(bytes);
    let _ = Entity::read(Toi(1), bytes);
    if let Some((body, _)) = unchunk(bytes) {
        assert!(body.len() <= bytes.len());
    }
}

pub(super) fn dvb_i(bytes: &[u8]) {
    if let Ok((list, _)) = ServiceList::parse(bytes) {
        for edition in Edition::ALL {
            let xml = list.to_xml(edition);
            assert!(ServiceList::parse(xml.as_bytes()).is_ok(), "{xml}");
        }
    }
    if let Ok(entries) = EntryPoints::parse(bytes) {
        for edition in Edition::ALL {
            let xml = entries.to_xml(edition);
            assert!(EntryPoints::parse(xml.as_bytes()).is_ok(), "{xml}");
        }
    }
    if let Ok((mut guide, _)) = Guide::parse(bytes) {
        guide.tidy();
        let (again, events) = (guide.clone(), guide.events());
        guide.merge(again);
        guide.tidy();
        assert!(guide.events() <= 2 * events);
        let now = WallTime::from_unix_ms(1_795_219_200_000);
        let _ = guide.now_next("s", now);
        let _ = guide.between("s", now, now.plus_ms(86_400_000));
    }
}

pub(super) fn manifests(bytes: &[u8]) {
    if let Some(manifest) = Manifest::read(bytes) {
        assert!(manifest.target_ms > 0);
        let _ = manifest.fresh_ms();
    }
    let mut count = 0_u32;
    segments(bytes, "http://a.example/b/c.m3u8", &mut |segment| {
        assert!(!segment.url.is_empty());
        count += 1;
        count < 5000
    });
    // What is sent in the place of an MPD is one still, and once is enough.
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(sent) = delayed(text, 2000, 2000) {
            assert_eq!(Manifest::read(sent.as_bytes()).is_some(), Manifest::read(bytes).is_some(), "{sent}");
            assert_eq!(delayed(&sent, 2000, 2000), None, "{sent}");
        }
        let _ = shortened(text, &[(0, 1), (1, 3)]);
    }
}
