use super::*;

const KEY: &str = "cdn.example.com/v/1.m4s";

fn facts(digest: Digest) -> Facts<'static> {
    Facts {
        key: KEY,
        content_type: None,
        length: Some(1000),
        digest: Some(digest),
        received_at: Some(WallTime::from_unix_ms(1_784_000_000_000)),
        expires: None,
        now: WallTime::from_unix_ms(1_784_000_007_500),
        headers: &[],
        cache_status: "hit",
    }
}

fn ask(facts: &Facts<'_>, method: &Method, headers: &[(&str, &str)]) -> (Response<()>, Send) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let (reply, send) = facts.respond(method, &map);
    (reply.body(()).unwrap(), send)
}

fn header<'a>(response: &'a Response<()>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |it| it.to_str().unwrap())
}

#[test]
fn a_hit_says_what_it_is() {
    let digest = Digest::of(b"x");
    let (response, send) = ask(&facts(digest), &Method::GET, &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "etag"), etag(&digest));
    assert_eq!(header(&response, "age"), "7");
    assert_eq!(header(&response, "content-type"), "video/iso.segment");
    assert_eq!(header(&response, "cache-status"), "skycache; hit");
    assert_eq!(header(&response, "last-modified"), "Tue, 14 Jul 2026 03:33:20 GMT");
    assert!(matches!(send, Send::Pieces(pieces) if pieces == [Piece::Range(0..1000)]));
}

#[test]
fn conditionals_in_the_order_of_rfc_9110() {
    let digest = Digest::of(b"x");
    let facts = facts(digest);
    let tag = etag(&digest);
    let weak = format!("\"other\", W/{tag}");
    for (headers, status) in [
        (vec![("if-none-match", tag.as_str())], 304),
        (vec![("if-none-match", weak.as_str())], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        (vec![("if-none-match", "\"other\""), ("if-modified-since", "Wed, 15 Jul 2026 00:00:00 GMT")], 200),
        (vec![("if-modified-since", "Wed, 15 Jul 2026 00:00:00 GMT")], 304),
        (vec![("if-modified-since", "Sat, 21 Jun 2025 00:00:00 GMT")], 200),
        (vec![("if-modified-since", "yesterday")], 200),
        (vec![("if-match", tag.as_str())], 200),
        (vec![("if-match", weak.as_str())], 412),
        (vec![("if-unmodified-since", "Sat, 21 Jun 2025 00:00:00 GMT")], 412),
        (vec![("if-match", tag.as_str()), ("if-none-match", tag.as_str())], 304),
    ] {
        assert_eq!(ask(&facts, &Method::GET, &headers).0.status(), status, "{headers:?}");
    }
}

#[test]
fn ranges_and_if_range() {
    let digest = Digest::of(b"x");
    let facts = facts(digest);
    let tag = etag(&digest);
    let (response, send) = ask(&facts, &Method::GET, &[("range", "bytes=10-19"), ("if-range", &tag)]);
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (206, "bytes 10-19/1000"));
    assert!(matches!(send, Send::Pieces(pieces) if pieces == [Piece::Range(10..20)]));
    for if_range in ["\"other\"", "W/\"x\"", "Sat, 21 Jun 2025 00:00:00 GMT"] {
        let (response, _) = ask(&facts, &Method::GET, &[("range", "bytes=10-19"), ("if-range", if_range)]);
        assert_eq!(response.status(), 200, "{if_range}");
    }
    let (response, _) =
        ask(&facts, &Method::GET, &[("range", "bytes=10-19"), ("if-range", "Tue, 14 Jul 2026 03:33:20 GMT")]);
    assert_eq!(response.status(), 206);
    let (response, _) = ask(&facts, &Method::GET, &[("range", "bytes=1000-")]);
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (416, "bytes */1000"));
    let (response, send) = ask(&facts, &Method::HEAD, &[("range", "bytes=10-19")]);
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "1000"));
    assert!(matches!(send, Send::Nothing));
}

#[test]
fn several_ranges_are_parts() {
    let facts = facts(Digest::of(b"x"));
    let (response, send) = ask(&facts, &Method::GET, &[("range", "bytes=0-1,998-")]);
    let boundary = header(&response, "content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    let Send::Pieces(pieces) = send else { panic!("no pieces") };
    assert_eq!((&pieces[1], &pieces[3]), (&Piece::Range(0..2), &Piece::Range(998..1000)));
    let Piece::Bytes(last) = &pieces[4] else { panic!("no end") };
    assert_eq!(last, format!("\r\n--{boundary}--\r\n").as_bytes());
}

#[test]
fn what_the_origin_said_of_caching_stands() {
    let kept = [
        ("cache-control".to_owned(), "public, max-age=9".to_owned()),
        ("vary".to_owned(), "Origin".to_owned()),
    ];
    let facts = Facts { headers: &kept, ..facts(Digest::of(b"x")) };
    let (response, _) = ask(&facts, &Method::GET, &[]);
    assert_eq!(header(&response, "cache-control"), "public, max-age=9");
    assert_eq!(header(&response, "vary"), "Origin");
    let until = Facts { headers: &[], expires: Some(WallTime::from_unix_ms(1_784_000_060_000)), ..facts };
    assert_eq!(header(&ask(&until, &Method::GET, &[]).0, "cache-control"), "max-age=52");
}
