use std::sync::Arc;

use carousel::Digest;
use carousel::dvbi::Edition;
use carousel::dvbi::list::{GuideSource, LIST_TYPE};
use carousel::dvbi::{ServiceList, Text};
use carousel::eviction::Eviction;
use carousel::limits::MAX_LONG_XML_BYTES;
use carousel::name::ObjectKey;
use carousel::time::WallTime;

use super::*;
use crate::memory::MAX_CATALOGUE_BYTES;
use crate::store::{CameBy, Class, ObjectMeta, ObjectUri, Placement, Store, StoreConfig};

/// A box with an empty cache.
pub(super) fn store(folder: &tempfile::TempDir) -> Store {
    let config = StoreConfig {
        path: folder.path().join("cache"),
        quota_bytes: 1 << 30,
        reserve_bytes: 0,
        memory_bytes: 0,
        eviction: Eviction::Lru,
        ..StoreConfig::default()
    };
    Store::open(&config).unwrap().0
}

/// Puts an object of `length` bytes that begins with `body` into the cache; the rest are zeros.
fn put(store: &Store, key: &str, content_type: &str, body: &[u8], length: usize) {
    let partial = Arc::new(store.create(length as u64, Placement::default()).unwrap());
    partial.write_at(0, body).unwrap();
    let frozen = partial.freeze(length as u64).unwrap();
    let key = ObjectKey::from_name(key, None).unwrap();
    let meta = ObjectMeta {
        uri: ObjectUri::new("http://elsewhere/", &key),
        key,
        content_type: Some(content_type.into()),
        length: length as u64,
        digest: Digest::of(body),
        version: 0,
        received_at: WallTime::from_unix_ms(0),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Carousel,
        response: None,
        ignored_query: Default::default(),
        signed_by: None,
    };
    store.publish(&frozen, meta).unwrap();
}

fn list(number: usize) -> Vec<u8> {
    let list = ServiceList {
        id: format!("tag:example.com,2026:list:{number}"),
        version: 1,
        language: "en".into(),
        names: vec![Text::new("en", "A list")],
        guide_sources: vec![GuideSource {
            id: "guide".into(),
            schedule: format!("http://host/{number}/guide/manifest.xml"),
            ..GuideSource::default()
        }],
        ..ServiceList::default()
    };
    list.to_xml(Edition::R6).into_bytes()
}

#[test]
fn more_than_there_is_room_for_is_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, documents) = (store(&folder), Documents::default());
    for number in 0..MAX_LISTS - 2 {
        let body = list(number);
        put(&store, &format!("host/{number:03}/list.xml"), LIST_TYPE, &body, body.len());
    }
    put(&store, "host/100/list.xml", LIST_TYPE, b"<ServiceList><", 14);
    put(&store, "host/101/list.xml", LIST_TYPE, b"", MAX_LONG_XML_BYTES + 1);
    for number in 102..105 {
        put(&store, &format!("host/{number}/list.xml"), LIST_TYPE, b"beyond", 6);
    }
    let day = b"<TVAMain xmlns=\"urn:tva:metadata:2024\" xml:lang=\"en\"/>";
    for number in 0..MAX_GUIDE_FILES + 5 {
        put(&store, &format!("host/0/guide/{number}.xml"), "application/xml", day, day.len());
    }
    let catalog = Catalog::default();
    catalog.refresh(&store, &documents, MAX_CATALOGUE_BYTES);
    let now = catalog.current();
    assert_eq!(now.lists.len(), MAX_LISTS - 2, "{:?}", now.messages);
    let left_out: Vec<(&str, u64)> =
        LeftOut::ALL.iter().map(|it| it.as_str()).zip(catalog.left_out()).collect();
    let expected = [
        ("too_many_lists", 3),
        ("too_many_guide_files", 5),
        ("too_long", 1),
        ("malformed", 1),
        ("entry", 0),
        ("no_room", 0),
    ];
    assert_eq!(left_out, expected, "{:?}", now.messages);
    assert!(
        now.messages.iter().any(|it| it.starts_with("service list host/100/list.xml: ")),
        "{:?}",
        now.messages
    );
    // Nothing new: the same snapshot, and nothing is counted again.
    catalog.refresh(&store, &documents, MAX_CATALOGUE_BYTES);
    assert_eq!((catalog.current().version, catalog.left_out()[0]), (now.version, 3));
}

#[test]
fn documents_beyond_the_memory_of_the_catalogue_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (store, documents) = (store(&folder), Documents::default());
    let lists = [list(0), list(1)];
    for (number, body) in lists.iter().enumerate() {
        put(&store, &format!("host/{number:03}/list.xml"), LIST_TYPE, body, body.len());
    }
    let day = b"<TVAMain xmlns=\"urn:tva:metadata:2024\" xml:lang=\"en\"/>";
    put(&store, "host/0/guide/1.xml", "application/xml", day, day.len());
    let room = lists[0].len() + day.len();
    for (most_bytes, held, too_long) in
        [(room - 1, 1, 2), (room, 1, 1), (room + lists[1].len(), 2, 0), (room - day.len() - 1, 0, 2)]
    {
        let catalog = Catalog::default();
        catalog.refresh(&store, &documents, most_bytes);
        let now = catalog.current();
        let counted = now.left_out[LeftOut::TooLong as usize];
        assert_eq!((now.lists.len(), counted), (held, too_long), "{most_bytes}: {:?}", now.messages);
    }
}

#[test]
fn films_have_the_titles_of_their_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let (store, documents) = (store(&folder), Documents::default());
    let catalog = Catalog::default();
    let put_text = |key: &str, text: &str| put(&store, key, "text/plain", text.as_bytes(), text.len());
    let mpd = |title: &str| {
        format!("<MPD type=\"static\"><ProgramInformation><Title>{title}</Title></ProgramInformation></MPD>")
    };
    let playlist = |init: &str| {
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"{init}\"\n#EXTINF:4,\n1.m4s\n#EXT-X-ENDLIST\n"
        )
    };
    put_text("h/dash/manifest.mpd", &mpd("Das Boot"));
    put_text("h/dash/master.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv/index.m3u8\n");
    put_text("h/hls/master.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv/index.m3u8\n");
    put_text("h/hls/v/index.m3u8", &playlist("../init.mp4"));
    put_text("h/long/a.m3u8", &playlist("init.mp4"));
    put_text("h/none/a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.ts\n");
    let names = || {
        catalog.refresh(&store, &documents, MAX_CATALOGUE_BYTES);
        let now = catalog.current();
        now.titles.iter().map(|it| it.name("en").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["Das Boot", "hls", "long", "none"]);
    // Initialization segments come behind manifests.
    let init = |text: &str| {
        let mut inner = [&[0, 0, 0, 1, 0, 0, 0, 0][..], text.as_bytes()].concat();
        for kind in [b"data", b"\xa9nam", b"ilst", b"meta", b"udta", b"moov"] {
            let mut content = if kind == b"meta" { vec![0; 4] } else { Vec::new() };
            content.append(&mut inner);
            let size = u32::try_from(8 + content.len()).unwrap();
            inner = [&size.to_be_bytes()[..], kind, &content].concat();
        }
        inner
    };
    let title = init("Metropolis");
    put(&store, "h/hls/init.mp4", "video/mp4", &title, title.len());
    put(&store, "h/long/init.mp4", "video/mp4", &title, (1 << 20) + 1);
    put_text("h/dash/manifest.mpd", &mpd("Das Boot (director&apos;s cut)"));
    assert_eq!(names(), ["Das Boot (director's cut)", "Metropolis", "long", "none"]);
    let version = catalog.current().version;
    put_text("h/dash/1.m4s", "another");
    assert_eq!((names().len(), catalog.current().version), (4, version), "nothing to show has changed");
}
