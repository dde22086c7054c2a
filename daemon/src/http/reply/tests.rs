use carousel::digest::Digest;
use carousel::time::WallTime;

use super::*;
use crate::signalling::Document;

fn head(bytes: usize) -> Head {
    let object = crate::delivery::ObjectRef {
        session: carousel::flute::SessionKey {
            source: "10.0.0.1".parse().unwrap(),
            destination: "239.0.0.1:5000".parse().unwrap(),
            tsi: carousel::lct::Tsi(1),
        },
        toi: carousel::lct::Toi(1),
    };
    let document = Document {
        object,
        name: "cdn.example.com/v/1.m4s".into(),
        content_type: Some("video/mp4".into()),
        bytes: vec![7; bytes],
        is_signed: false,
    };
    let head = Head::of_document(&document);
    let received = WallTime::from_unix_ms(crate::clock::wall().unix_ms() - 7500);
    Head {
        since: Some((received, 30)),
        expires: Some(WallTime::from_unix_ms(received.unix_ms() + 60_000)),
        ..head
    }
}

fn ask(method: &Method, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Send) {
    head(1000).stamped("hit").respond(method, &crate::caching::from_pairs(headers.iter().copied()))
}

fn field<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    fields.get(name).map_or("", |it| it.to_str().unwrap())
}

#[test]
fn a_hit_says_what_it_is_and_how_old() {
    let (status, fields, send) = ask(&Method::GET, &[]);
    assert_eq!(status, 200);
    assert_eq!(field(&fields, "etag"), format!("\"{}\"", &Digest::of(&[7; 1000]).to_hex()[..32]));
    assert_eq!((field(&fields, "age"), field(&fields, "content-type")), ("37", "video/mp4"));
    assert_eq!(field(&fields, "cache-status"), "skycache; hit; ttl=52");
    // What caches before this one have said stays before it, however often it is stamped.
    let mut head = head(10);
    head.upstream = vec![HeaderValue::from_static("shield; hit")];
    for _ in 0..2 {
        head.stamp("hit");
        let all: Vec<_> = head.fields.get_all("cache-status").iter().collect();
        assert_eq!(all, ["shield; hit", "skycache; hit; ttl=52"]);
    }
    assert_eq!((field(&fields, "via"), field(&fields, "access-control-allow-origin")), ("1.1 skycache", "*"));
    assert!(matches!(send, Send::Pieces(pieces) if pieces == [Piece::Range(0..1000)]));
}

#[test]
fn conditionals_are_answered_here() {
    let etag = field(&ask(&Method::GET, &[]).1, "etag").to_owned();
    for (request, expected) in [
        (("if-none-match", etag.as_str()), 304),
        (("if-match", "\"x\""), 412),
        (("if-none-match", "\"x\""), 200),
    ] {
        let (status, fields, _) = ask(&Method::GET, &[request]);
        assert_eq!(status, expected, "{request:?}");
        assert_eq!(field(&fields, "etag"), etag, "also with a 304 (RFC 9110 section 15.4.5)");
    }
}

#[test]
fn a_range_of_what_grows_has_no_total_and_names_a_site_with_credentials() {
    let site = [("origin", "https://a.example"), ("cookie", "a=b")];
    for (request, allowed) in [(&[][..], "*"), (&site[..], site[0].1)] {
        let request = crate::caching::from_pairs(request.iter().copied());
        let fields = head(1000).stamped("hit").respond_growing(&(10..20), &request);
        assert_eq!(field(&fields, "content-range"), "bytes 10-19/*");
        assert_eq!(field(&fields, "access-control-allow-origin"), allowed);
    }
}

#[test]
fn ranges_and_if_range() {
    let (status, fields, send) = ask(&Method::GET, &[("range", "bytes=10-19")]);
    assert_eq!((status.as_u16(), field(&fields, "content-range")), (206, "bytes 10-19/1000"));
    assert!(matches!(send, Send::Pieces(pieces) if pieces == [Piece::Range(10..20)]));
    let (status, _, _) = ask(&Method::GET, &[("range", "bytes=10-19"), ("if-range", "\"other\"")]);
    assert_eq!(status, 200);
    let (status, fields, _) = ask(&Method::GET, &[("range", "bytes=1000-")]);
    assert_eq!((status.as_u16(), field(&fields, "content-range")), (416, "bytes */1000"));
    let (status, fields, send) = ask(&Method::HEAD, &[("range", "bytes=10-19")]);
    assert_eq!((status.as_u16(), field(&fields, "content-length")), (200, "1000"));
    assert!(matches!(send, Send::Nothing));
}

#[test]
fn several_ranges_are_parts() {
    let (_, fields, send) = ask(&Method::GET, &[("range", "bytes=0-1,998-")]);
    let boundary = field(&fields, "content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    let Send::Pieces(pieces) = send else { panic!("no pieces") };
    assert_eq!((&pieces[1], &pieces[3]), (&Piece::Range(0..2), &Piece::Range(998..1000)));
    let Piece::Bytes(last) = &pieces[4] else { panic!("no end") };
    assert_eq!(last, format!("\r\n--{boundary}--\r\n").as_bytes());
}
