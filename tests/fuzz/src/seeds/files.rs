//! Seeds of files.

use super::documents::of_repository;
use super::{gzip, utf16};

/// A segment of this number of movie fragments.
pub(crate) fn segment(fragments: usize, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |kind: &[u8; 4], length: usize| {
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(kind);
        let at = out.len();
        out.extend((at..at + length - 8).map(|it| (it as u8).wrapping_mul(31)));
    };
    add(b"styp", 24);
    for _ in 0..fragments {
        add(b"moof", 40);
        add(b"mdat", bytes);
    }
    out
}

pub(crate) fn media() -> Vec<Vec<u8>> {
    let folder = format!("{}/../../headend/src/package/media/vectors", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&folder).unwrap_or_else(|err| panic!("{folder}: {err}"));
    let mut names: Vec<_> = files.flatten().map(|it| it.path()).collect();
    names.sort();
    let mut seeds = vec![segment(1, 40)];
    seeds.extend(names.iter().filter_map(|it| std::fs::read(it).ok()).filter(|it| it.len() <= 8192));
    seeds
}

const XMLTV: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!DOCTYPE tv SYSTEM \"xmltv.dtd\"><tv><channel id=\"a\"><display-name lang=\"de\">A</display-name>\
    </channel><programme start=\"20261128200000 +0100\" stop=\"20261128210000 +0100\" channel=\"a\"><title lang=\"de\">T &auml; &#228;</title>\
    <sub-title>S</sub-title><desc>D</desc><credits><actor role=\"r\">N</actor></credits><date>2019</date><category>News</category>\
    <episode-num system=\"xmltv_ns\">1 . 4/10 . 0/1</episode-num><rating system=\"FSK\"><value>12</value></rating></programme>\
    <programme start=\"20261128210000 CET\" channel=\"a\"><title>U</title></programme></tv>";

pub(crate) fn guide() -> Vec<Vec<u8>> {
    let mut seeds = of_repository(&["configs/guide.json"]);
    seeds.extend([XMLTV.as_bytes().to_vec(), gzip(XMLTV.as_bytes()), utf16(XMLTV)]);
    seeds
}

pub(crate) fn bucket_events() -> Vec<Vec<u8>> {
    let record = r#"{"eventVersion":"2.1","eventSource":"minio:s3","eventTime":"2026-11-29T06:31:07.120Z","eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"films"},"object":{"key":"vod%2Fa+b.ts","size":3,"eTag":"e-2","versionId":"v","sequencer":"0055AED6DCD90281E5"}}}"#;
    let ceph = record.replace("minio:s3", "ceph:s3").replace("s3:ObjectCreated:Put", "ObjectRemoved:Delete");
    let amazon = format!("{{\"Records\":[{record},{ceph}]}}");
    let bridge = r#"{"detail-type":"Object Created","time":"2026-11-29T06:31:07Z","detail":{"bucket":{"name":"films"},"object":{"key":"a+b","etag":"e","sequencer":"617f08299329d189"}}}"#;
    let quoted = format!("{amazon:?}");
    vec![
        format!("{{\"Type\":\"Notification\",\"Message\":{quoted}}}").into_bytes(),
        format!("{{\"Records\":[{{\"body\":{quoted}}},{{\"Sns\":{{\"Message\":{quoted}}}}}]}}").into_bytes(),
        br#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"films"}"#.to_vec(),
        bridge.as_bytes().to_vec(),
        amazon.into_bytes(),
    ]
}

pub(crate) fn configuration() -> Vec<Vec<u8>> {
    let paths = [
        "configs/edge.toml",
        "configs/shield.toml",
        "configs/stb.toml",
        "configs/headend.toml",
        "configs/live.toml",
        "configs/several.toml",
        "configs/launch.toml",
        "configs/feasibility.toml",
    ];
    let texts = of_repository(&paths);
    let mut seeds: Vec<Vec<u8>> = texts
        .iter()
        .map(|it| carousel::config::uncommented(&String::from_utf8_lossy(it)).into_bytes())
        .collect();
    seeds.extend(texts);
    seeds.iter_mut().for_each(|it| it.truncate(8192));
    seeds
}
