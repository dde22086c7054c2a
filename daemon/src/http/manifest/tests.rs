use std::io::Write as _;

use super::*;
use crate::origin::Route;

fn map() -> UrlMap {
    let route = |path: &str, base: &str| Route { path: path.into(), base: base.into(), ..Route::default() };
    let routes = [route("/vod/", "http://o.example:80/hls/"), route("/s/", "https://s.example/x/")];
    UrlMap::new(Some("http://o.example/hls/a/master.m3u8"), routes.iter())
}

/// Rewritten in one piece and byte by byte: both must be the same.
fn of(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let whole = rewritten(None, map(), bytes).unwrap().expect("a manifest");
    let mut rewriter = Rewriter::new(None, map()).unwrap();
    let mut out = Vec::new();
    for byte in bytes {
        rewriter.push(&[*byte], &mut out).unwrap();
    }
    rewriter.finish(&mut out).unwrap();
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole));
    whole
}

fn text(input: &str) -> String {
    String::from_utf8(of(input)).unwrap()
}

fn mpd(inner: &str) -> String {
    format!("<?xml version=\"1.0\"?><!-- <MPD> --><MPD xmlns=\"http://o.example/hls/ns\">{inner}</MPD>")
}

#[test]
fn lines_and_attributes_of_playlists() {
    for (line, expected) in [
        ("http://o.example/hls/v/1.m3u8", "/vod/v/1.m3u8"),
        ("HTTP://O.EXAMPLE:80/hls/1.ts?a=http://o.example/hls/", "/vod/1.ts?a=http://o.example/hls/"),
        ("//o.example/hls/1.ts", "/vod/1.ts"),
        ("/hls/1.ts", "/vod/1.ts"),
        ("/other/1.ts", "/other/1.ts"),
        ("rel/1.ts", "rel/1.ts"),
        ("https://o.example/hls/1.ts", "https://o.example/hls/1.ts"),
        ("https://s.example/x/1.ts", "/s/1.ts"),
        ("http://o.example/hlsx/1.ts", "http://o.example/hlsx/1.ts"),
        (
            "#EXT-X-MAP:URI=\"http://o.example/hls/i.mp4\",BYTERANGE=\"1@0\"",
            "#EXT-X-MAP:URI=\"/vod/i.mp4\",BYTERANGE=\"1@0\"",
        ),
        ("#EXT-X-KEY:METHOD=AES-128,URI=\"/hls/k\"", "#EXT-X-KEY:METHOD=AES-128,URI=\"/vod/k\""),
        ("#EXT-X-CONTENT-STEERING:SERVER-URI=\"/hls/s\"", "#EXT-X-CONTENT-STEERING:SERVER-URI=\"/vod/s\""),
        ("#EXT-X-DATERANGE:X-ASSET-LIST=\"//o.example/hls/l\"", "#EXT-X-DATERANGE:X-ASSET-LIST=\"/vod/l\""),
        (
            "#EXT-X-DEFINE:NAME=\"b\",VALUE=\"http://o.example/hls\"",
            "#EXT-X-DEFINE:NAME=\"b\",VALUE=\"/vod\"",
        ),
        ("#EXT-X-MEDIA:NAME=\"/hls/\"", "#EXT-X-MEDIA:NAME=\"/hls/\""),
        ("http://o.example/./x/../hls/1.ts", "/vod/1.ts"),
        ("http://o.example/hl%73/%2e/a%2fb.ts?x=/../", "/vod/%2e/a%2fb.ts?x=/../"),
        ("http://o.example/hls/a/../$Number%05d$.ts", "/vod/a/../$Number%05d$.ts"),
        ("http://o.example/hls/../1.ts", "http://o.example/hls/../1.ts"),
        ("http://o.example/hls/a/../../hls/1.ts", "/vod/1.ts"),
        ("/x/../hls/1.ts", "/vod/1.ts"),
        (
            "#EXT-X-KEY:METHOD=AES-128,URI=http://o.example/hls/k,IV=0x1",
            "#EXT-X-KEY:METHOD=AES-128,URI=/vod/k,IV=0x1",
        ),
        ("#EXT-X-MAP:BYTERANGE=\"1@0\",URI=/hls/i", "#EXT-X-MAP:BYTERANGE=\"1@0\",URI=/vod/i"),
        ("#EXTINF:2,URI=x,\"http\"", "#EXTINF:2,URI=x,\"http\""),
        ("# http://o.example/hls/ in a comment", "# http://o.example/hls/ in a comment"),
        ("#EXTINF:2,\"unended", "#EXTINF:2,\"unended"),
    ] {
        for end in ["", "\n", "\r\n"] {
            assert_eq!(text(&format!("#EXTM3U\n{line}{end}")), format!("#EXTM3U\n{expected}{end}"), "{line}");
        }
    }
    assert_eq!(text("\u{feff}#EXTM3U\n/hls/1"), "\u{feff}#EXTM3U\n/vod/1");
    assert_eq!(
        of(b"#EXTM3U\n#EXT-X-MEDIA:NAME=\"Fran\xe7ais\",URI=\"/hls/1\"\n"),
        b"#EXTM3U\n#EXT-X-MEDIA:NAME=\"Fran\xe7ais\",URI=\"/vod/1\"\n"
    );
}

#[test]
fn urls_of_several_variables_lead_to_the_box() {
    let with = |definitions: &str, line: &str| text(&format!("#EXTM3U\n{definitions}{line}\n"));
    let define = |name: &str, value: &str| format!("#EXT-X-DEFINE:NAME=\"{name}\",VALUE=\"{value}\"\n");
    let own = [define("h", "http://o.example"), define("p", "hls"), define("t", "a=1")].concat();
    for (line, expected) in [
        ("{$h}/hls/1.ts?{$t}", "/vod/1.ts?a=1"),
        ("http://o.example/{$p}/1.ts", "/vod/1.ts"),
        ("#EXT-X-MAP:URI=\"{$h}/{$p}/i.mp4\"", "#EXT-X-MAP:URI=\"/vod/i.mp4\""),
        ("{$h}/other/1.ts", "{$h}/other/1.ts"),
        ("{$h}/hls/{$imported}.ts", "{$h}/hls/{$imported}.ts"),
        ("http://o.example/hls/{$imported}.ts", "/vod/{$imported}.ts"),
        ("{$p}/{$t", "{$p}/{$t"),
    ] {
        assert_eq!(with(&own, line), format!("#EXTM3U\n{own}{expected}\n"), "{line}");
    }
    // One that leads to the box itself is there already.
    let folder = define("h", "http://o.example/hls");
    assert_eq!(with(&folder, "{$h}/1.ts"), format!("#EXTM3U\n{}{{$h}}/1.ts\n", define("h", "/vod")));
    let many = |count: usize| define("x", "1").repeat(count) + &define("h", "http://o.example");
    assert!(with(&many(MAX_VARIABLES - 1), "{$h}/hls/1").ends_with("\n/vod/1\n"));
    assert!(with(&many(MAX_VARIABLES), "{$h}/hls/1").ends_with("\n{$h}/hls/1\n"));
}

#[test]
fn urls_are_mapped_once_where_a_variable_leads_to_the_box() {
    let with = |base: &str, value: &str, line: &str| {
        let route = Route { path: "/o/".into(), base: base.into(), ..Route::default() };
        let map = UrlMap::new(Some("http://o.example/hls/m.m3u8"), std::iter::once(&route));
        let playlist = format!("#EXTM3U\n#EXT-X-DEFINE:NAME=\"h\",VALUE=\"{value}\"\n{line}\n");
        let out = rewritten(None, map, playlist.as_bytes()).unwrap().unwrap();
        let out = String::from_utf8(out).unwrap();
        let (defined, line) = out.trim_end().rsplit_once('\n').unwrap();
        (defined.rsplit_once("VALUE=").unwrap().1.trim_matches('"').to_owned(), line.to_owned())
    };
    let (root, folder) = ("http://o.example/", "http://o.example/hls/");
    let map_of = |path: &str| format!("#EXT-X-MAP:URI=\"{path}\"");
    for (base, value, line, expected_value, expected) in [
        (root, "http://o.example/hls", "{$h}/1.ts", "/o/hls", "{$h}/1.ts"),
        (root, "http://o.example/hls", &map_of("{$h}/i.mp4"), "/o/hls", &map_of("{$h}/i.mp4")),
        (root, "http://o.example/hls/", "{$h}1.ts", "/o/hls/", "{$h}1.ts"),
        (root, "http://o.example", "{$h}/hls/1.ts", "/o", "{$h}/hls/1.ts"),
        (root, "//o.example", "{$h}/hls/1.ts", "/o", "{$h}/hls/1.ts"),
        (root, "hls", "/{$h}/1.ts", "hls", "/o/hls/1.ts"),
        (folder, "http://o.example/hls", "{$h}/1.ts", "/o", "{$h}/1.ts"),
        (folder, "http://o.example/hls", &map_of("{$h}/i.mp4"), "/o", &map_of("{$h}/i.mp4")),
        (folder, "http://o.example/hls/hls", "{$h}/1.ts", "/o/hls", "{$h}/1.ts"),
        (folder, "http://o.example", "{$h}/hls/1.ts", "http://o.example", "/o/1.ts"),
        // Beside the route, which the value is in.
        (folder, "http://o.example/hls", "{$h}x/1.ts", "/o", "http://o.example/hlsx/1.ts"),
        (
            folder,
            "http://o.example/hls",
            "http://p.example/?u={$h}",
            "/o",
            "http://p.example/?u=http://o.example/hls",
        ),
    ] {
        let expected = (expected_value.to_owned(), expected.to_owned());
        assert_eq!(with(base, value, line), expected, "{base} {value} {line}");
    }
}

#[test]
fn urls_with_their_variables_are_bounded() {
    let define = |name: &str, value: &str| format!("#EXT-X-DEFINE:NAME=\"{name}\",VALUE=\"{value}\"\n");
    let of = |head: &str, line: &str| {
        let out = rewritten(None, map(), format!("#EXTM3U\n{head}{line}\n").as_bytes()).unwrap().unwrap();
        String::from_utf8(out).unwrap().trim_end().rsplit('\n').next().unwrap().to_owned()
    };
    let one = |value: usize, line: &str| of(&define("p", &"x".repeat(value)), line);
    let most = MAX_EXPANDED_BYTES;
    let prefix = "/hls/".len();
    assert_eq!(one(most - prefix, "/hls/{$p}"), format!("/vod/{}", "x".repeat(most - prefix)));
    assert_eq!(one(most - prefix + 1, "/hls/{$p}"), "/vod/{$p}", "the URL");
    assert_eq!(one(most - prefix, "/hls/{$p}/"), "/vod/{$p}/", "by what is behind the variable");
    assert_eq!(one(most - prefix, "/hls/{$p}{$p}{$p}"), "/vod/{$p}{$p}{$p}");
    // A variable's own.
    let host = |blanks: usize| format!("{}http://o.example", " ".repeat(blanks));
    let host_bytes = host(0).len();
    assert_eq!(of(&define("h", "http://o.example"), "{$h}/hls/1"), "/vod/1");
    assert_eq!(
        of(&define(&"n".repeat(most), "http://o.example"), &format!("{{${}}}/hls/1", "n".repeat(most))),
        "/vod/1"
    );
    let name = "n".repeat(most + 1);
    let line = format!("{{${name}}}/hls/1");
    assert_eq!(of(&define(&name, "http://o.example"), &line), line);
    let value = host(most + 1 - host_bytes);
    let mut tokens = Tokens::default();
    let mut pending = [define("h", &value[1..]), define("i", &value)].concat().into_bytes();
    tokens.take(Format::Hls, &map(), &mut pending, &mut Vec::new(), true);
    assert_eq!(tokens.kept_bytes(), most + 1, "only the first is kept, with its name");
    // Many lines of one long value.
    let lines = "/{$p}\n".repeat(10_000);
    let whole = format!("#EXTM3U\n{}{lines}", define("p", &"hls/".repeat(60_000)));
    assert_eq!(rewritten(None, map(), whole.as_bytes()).unwrap().unwrap(), whole.as_bytes());
}

#[test]
fn text_attributes_and_cdata_of_mpds() {
    for (inner, expected) in [
        ("<BaseURL> http://o.example/hls/v/ </BaseURL>", "<BaseURL> /vod/v/ </BaseURL>"),
        (
            "<BaseURL serviceLocation='a'><![CDATA[http://o.example/hls/v/]]></BaseURL>",
            "<BaseURL serviceLocation='a'><![CDATA[/vod/v/]]></BaseURL>",
        ),
        (
            "<BaseURL>http:&#47;&#x2F;o.example/hls/?a=1&amp;b=2</BaseURL>",
            "<BaseURL>/vod/?a=1&amp;b=2</BaseURL>",
        ),
        ("<Location>/hls/m.mpd</Location>", "<Location>/vod/m.mpd</Location>"),
        (
            "<SegmentTemplate media='/hls/$Number$.m4s' timescale=\"1\"/>",
            "<SegmentTemplate media='/vod/$Number$.m4s' timescale=\"1\"/>",
        ),
        ("<Period xlink:href = \"//o.example/hls/p\"/>", "<Period xlink:href = \"/vod/p\"/>"),
        (
            "<UTCTiming value=\"http://o.example/hls/t http://t.example/\"/>",
            "<UTCTiming value=\"/vod/t http://t.example/\"/>",
        ),
        (
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"http://o.example/clock http://t.example/\"/>",
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"/-/time\"/>",
        ),
        (
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"http://t.example/ http://o.example/clock\"/>",
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"/-/time\"/>",
        ),
        (
            "<UTCTiming value=\"/now?x=1&amp;y\" schemeIdUri='urn:mpeg:dash:utc:http-xsdate:2014'/>",
            "<UTCTiming value=\"/-/time\" schemeIdUri='urn:mpeg:dash:utc:http-xsdate:2014'/>",
        ),
        (
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:ntp:2014\" value=\"o.example\"/>",
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:ntp:2014\" value=\"o.example\"/>",
        ),
        (
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"2026-11-29T00:00:00Z\"/>",
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"2026-11-29T00:00:00Z\"/>",
        ),
        ("<X URI=/hls/k b=\"1\"/>", "<X URI=/hls/k b=\"1\"/>"),
        ("<X a=\">\" b='\"'>/hls/text</X>", "<X a=\">\" b='\"'>/hls/text</X>"),
        ("<BaseURL>&unknown;/hls/</BaseURL>", "<BaseURL>&unknown;/hls/</BaseURL>"),
        ("<!-- <BaseURL>/hls/</BaseURL> -->", "<!-- <BaseURL>/hls/</BaseURL> -->"),
        ("<BaseURL>/hls/a'b</BaseURL>", "<BaseURL>/vod/a&apos;b</BaseURL>"),
    ] {
        assert_eq!(text(&mpd(inner)), mpd(expected), "{inner}");
    }
    let prefixed = "<d:MPD xmlns:d='x'><d:BaseURL>/hls/</d:BaseURL></d:MPD>";
    assert_eq!(text(prefixed), prefixed.replace("/hls/", "/vod/"));
}

#[test]
fn strings_of_steering_manifests_and_lists_of_interstitials() {
    let steering = "{ \"VERSION\": 1, \"RELOAD-URI\": \"\\/hls\\/s\", \"PATHWAY-PRIORITY\": [\"/hls/a\"] }";
    assert_eq!(
        text(steering),
        "{ \"VERSION\": 1, \"RELOAD-URI\": \"/vod/s\", \"PATHWAY-PRIORITY\": [\"/hls/a\"] }"
    );
    let assets = "{\"ASSETS\":[{\"URI\":\"http://o.example/hls/1.m3u8\",\"DURATION\":5,\"T\":\"/hls/\"}]}";
    assert_eq!(text(assets), "{\"ASSETS\":[{\"URI\":\"/vod/1.m3u8\",\"DURATION\":5,\"T\":\"/hls/\"}]}");
}

#[test]
fn utf_16_stays_utf_16() {
    let wide = |text: &str, is_big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|it| if is_big { it.to_be_bytes() } else { it.to_le_bytes() }).collect()
    };
    for is_big in [false, true] {
        for mark in ["", "\u{feff}"] {
            let document = |path: &str| format!("{mark}<MPD><BaseURL>{path}</BaseURL><T>ü𝄞</T></MPD>");
            assert_eq!(of(wide(&document("/hls/"), is_big)), wide(&document("/vod/"), is_big));
        }
    }
    let odd = rewritten(None, map(), b"\xff\xfe<\0M\0P\0D\0>\0\0\xd8");
    assert_eq!(odd.unwrap_err(), Rewriting::Charset, "a lone surrogate is not text");
}

#[test]
fn codings_are_undone() {
    let plain = b"#EXTM3U\n/hls/1.ts\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(plain).unwrap();
    // The same by `brotli` and `zstd`.
    let brotli = [
        0x8b, 0x08, 0x80, 0x23, 0x45, 0x58, 0x54, 0x4d, 0x33, 0x55, 0x0a, 0x2f, 0x68, 0x6c, 0x73, 0x2f, 0x31,
        0x2e, 0x74, 0x73, 0x0a, 0x03,
    ];
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, plain.len() as u8, (plain.len() as u8) << 3 | 1, 0, 0];
    zstd.extend_from_slice(plain);
    for (coding, bytes) in [
        ("gzip", &gzip[..]),
        ("X-Gzip", &gzip),
        ("deflate", &zlib.finish().unwrap()),
        ("br", &brotli),
        ("zstd", &zstd),
    ] {
        let out = rewritten(Some(coding), map(), bytes).unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "#EXTM3U\n/vod/1.ts\n", "{coding}");
    }
    assert_eq!(rewritten(Some("gzip"), map(), &gzip[..gzip.len() - 4]).unwrap_err(), Rewriting::Coding);
    assert_eq!(rewritten(Some("compress"), map(), plain).unwrap_err(), Rewriting::Coding);
}

#[test]
fn any_length_and_tokens_that_are_none() {
    let lines =
        |path: &str| format!("#EXTM3U\n{}", format!("#EXTINF:2,\n{path}1.ts?t=0123456789\n").repeat(60_000));
    let long = lines("http://o.example/hls/");
    assert_eq!(rewritten(None, map(), long.as_bytes()).unwrap().unwrap(), lines("/vod/").into_bytes());
    // A key of half a megabyte, and what comes behind it.
    let data = format!("#EXTM3U\n#EXT-X-KEY:URI=\"data:{}\"\n", "A".repeat(2 * MAX_TOKEN_BYTES));
    let out = rewritten(None, map(), format!("{data}/hls/1\n").as_bytes()).unwrap().unwrap();
    assert!(out == format!("{data}/vod/1\n").into_bytes());
    let text = "x".repeat(2 * MAX_TOKEN_BYTES);
    let with = |path: &str| mpd(&format!("<X>{text}</X><!--{text}--><BaseURL>{path}</BaseURL>"));
    assert!(rewritten(None, map(), with("/hls/").as_bytes()).unwrap().unwrap() == with("/vod/").into_bytes());
}

#[test]
fn manifests_are_known_by_type_name_or_content() {
    for (key, content_type, may, named) in [
        ("h/a", Some("audio/x-mpegurl"), true, true),
        ("h/a", Some("Application/Dash+XML; charset=utf-8"), true, true),
        ("h/a.m3u8?x", Some("binary/octet-stream"), true, true),
        ("h/a", Some("text/plain; charset=utf-8"), true, false),
        ("h/a.ts", Some("application/octet-stream"), false, false),
        ("h/a", None, true, false),
        ("h/a", Some("video/mp4"), false, false),
        ("h/a", Some("text/event-stream"), false, false),
    ] {
        assert_eq!(
            (may_be(key, content_type), is_named(key, content_type)),
            (may, named),
            "{key} {content_type:?}"
        );
    }
    for other in [
        "",
        "hello /hls/",
        "<html><a href='/hls/'>",
        "{\"a\": \"/hls/\"}",
        "#EXT",
        "\u{feff}",
        "<!-- ",
        "#EXTINF:1\n/hls/",
    ] {
        assert_eq!(rewritten(None, map(), other.as_bytes()).unwrap(), None, "{other}");
    }
    // What cannot be one goes out at once.
    let (mut rewriter, mut out) = (Rewriter::new(None, map()).unwrap(), Vec::new());
    rewriter.push(b"d", &mut out).unwrap();
    assert_eq!((rewriter.is_manifest(), out), (Some(false), b"d".to_vec()));
}

proptest::proptest! {
    #[test]
    fn what_has_no_url_stays_what_it_is(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), kind in 0..3_usize) {
        let start: &[u8] = [&b"#EXTM3U\n"[..], b"<MPD>", b"{\"ASSETS\":1"][kind];
        let mut document = start.to_vec();
        document.extend(body);
        let out = rewritten(None, UrlMap::default(), &document).unwrap().unwrap();
        proptest::prop_assert_eq!(out, document);
    }
}

#[test]
fn documents_that_are_converted_as_a_whole_are_bounded() {
    // Of 128 KiB in four bytes each (RFC 8878 section 3.1.1.2, RLE_Block).
    let zstd = |blocks: u32| {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
        let head = b"#EXTM3U\n";
        bytes.extend_from_slice(&(8_u32 << 3).to_le_bytes()[..3]);
        bytes.extend_from_slice(head);
        for number in 1..=blocks {
            bytes.extend_from_slice(&((1_u32 << 20) | 2 | u32::from(number == blocks)).to_le_bytes()[..3]);
            bytes.push(b'#');
        }
        bytes
    };
    assert_eq!(rewritten(Some("zstd"), map(), &zstd(31)).unwrap().unwrap().len(), 8 + (31 << 17));
    assert_eq!(rewritten(Some("zstd"), map(), &zstd(32)).unwrap_err(), Rewriting::Coding, "what it becomes");
    let long = vec![0; (4 << 20) + 1];
    assert_eq!(rewritten(Some("zstd"), map(), &long).unwrap_err(), Rewriting::Coding, "its own bytes");
    let wide = |count: usize| -> Vec<u8> {
        format!("<MPD><T>{}</T></MPD>", "x".repeat(count)).encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let room = MAX_UTF16_BYTES / 2 - wide(0).len() / 2;
    assert!(rewritten(None, map(), &wide(room)).is_ok());
    assert_eq!(rewritten(None, map(), &wide(room + 1)).unwrap_err(), Rewriting::Charset);
}

#[test]
fn what_one_piece_of_a_document_becomes_is_bounded() {
    let bomb = coding::bombs::brotli(4);
    let (mut rewriter, mut out) = (Rewriter::new(Some("br"), map()).unwrap(), Vec::new());
    assert_eq!(rewriter.push(&bomb, &mut out).unwrap_err(), Rewriting::Coding);
    assert_eq!(rewriter.pending.len(), MAX_STEP_BYTES);
    assert_eq!(rewritten(Some("br"), map(), &bomb).unwrap_err(), Rewriting::Coding);
}

#[test]
fn a_token_is_held_back_up_to_its_limit() {
    let mut rewriter = Rewriter::new(None, map()).unwrap();
    let mut out = Vec::new();
    rewriter.push(b"#EXTM3U\n", &mut out).unwrap();
    rewriter.push(&[b'a'; MAX_TOKEN_BYTES], &mut out).unwrap();
    assert_eq!(out, b"#EXTM3U\n", "its end may come");
    rewriter.push(b"a", &mut out).unwrap();
    assert_eq!(out.len(), b"#EXTM3U\n".len() + MAX_TOKEN_BYTES + 1);
}

#[test]
fn references_in_several_pieces_are_mapped_as_one() {
    for (inner, expected) in [
        ("<BaseURL>http://o.example<![CDATA[/hls/v/]]></BaseURL>", "<BaseURL>/vod/v/</BaseURL>"),
        ("<BaseURL>http://o.example/<!-- c -->hls/v/</BaseURL>", "<BaseURL>/vod/v/<!-- c --></BaseURL>"),
        ("<BaseURL><!-- c -->/hls/v/</BaseURL>", "<BaseURL><!-- c -->/vod/v/</BaseURL>"),
        ("<BaseURL>\n<![CDATA[/hls/v/]]>\n</BaseURL>", "<BaseURL>\n<![CDATA[/vod/v/]]>\n</BaseURL>"),
        ("<BaseURL>http://x<![CDATA[/hls/v/]]></BaseURL>", "<BaseURL>http://x<![CDATA[/hls/v/]]></BaseURL>"),
        ("<BaseURL>/hls/&#x76;<![CDATA[?a&b]]></BaseURL>", "<BaseURL>/vod/v?a&amp;b</BaseURL>"),
        ("<Location>/hls/<![CDATA[l.mpd]]></Location><B/>", "<Location>/vod/l.mpd</Location><B/>"),
    ] {
        assert_eq!(text(&mpd(inner)), mpd(expected), "{inner}");
    }
    let long = mpd(&format!("<BaseURL>/hls/v/<!--{}-->x</BaseURL>", "c".repeat(MAX_TOKEN_BYTES)));
    let sent = rewritten(None, map(), long.as_bytes()).unwrap().unwrap();
    assert!(sent == long.replace("/hls/v/", "/vod/v/").as_bytes(), "in the order of the document");
}

#[test]
fn entities_that_a_document_declares_are_resolved() {
    let with = |subset: &str, inner: &str| {
        let of = |inner: &str| format!("<!DOCTYPE MPD [{subset}]><MPD>{inner}</MPD>");
        text(&of(inner)).split_once("<MPD>").unwrap().1.replace("</MPD>", "")
    };
    let subset = "<!ENTITY b \"http://o.example\"><!ENTITY p '/hls'><!ENTITY b \"http://other.example\">";
    assert_eq!(with(subset, "<BaseURL>&b;&p;/v/</BaseURL>"), "<BaseURL>/vod/v/</BaseURL>");
    assert_eq!(with(subset, "<S media=\"&b;/hls/1.m4s\"/>"), "<S media=\"/vod/1.m4s\"/>");
    for same in ["<BaseURL>&c;/hls/v/</BaseURL>", "<BaseURL>http://x&p;/v/</BaseURL>"] {
        assert_eq!(with(subset, same), same);
    }
    let own =
        with("<!ENTITY a \"&b;\"><!ENTITY % p \"x\"><!ENTITY s SYSTEM \"x\">", "<BaseURL>&a;</BaseURL>");
    assert_eq!(own, "<BaseURL>&a;</BaseURL>", "values with references, and external ones, are left");
    let bomb = format!("<!ENTITY x \"{}\">", "x".repeat(2000));
    let bombed = format!("<BaseURL>{}</BaseURL>", "&x;".repeat(1 + MAX_EXPANDED_BYTES / 2000));
    assert_eq!(with(&bomb, &bombed), bombed);
}
