//! Seeds of HTTP.

use super::{documents, gzip, texts, utf16};
use crate::input;

pub(crate) fn heads() -> Vec<Vec<u8>> {
    texts(&[
        "GET /vod/a/1.m4s?x=1 HTTP/1.1\r\nHost: box:8080\r\nRange: bytes=0-99\r\nAccept-Encoding: br, gzip\r\nConnection: keep-alive\r\n\r\n",
        "GET /cdn.example.com/v/1.m4s HTTP/1.1\r\nHost: box\r\nUser-Agent: x\r\nOrigin: http://a.example\r\nCookie: a=b\r\n\r\n",
        "GET http://dvb.gw/a%2fb/../c HTTP/1.1\r\nHost: dvb.gw\r\n\r\n",
        "HEAD /vod/live/%2e%2e/1.mpd HTTP/1.1\r\nHost: [::1]:80\r\nRange: bytes=-5, 7-, 1-2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "bytes=0-0,5-9,-1",
    ])
}

pub(crate) fn fields() -> Vec<Vec<u8>> {
    texts(&[
        "accept-language: de\nif-none-match: \"a\", W/\"b\"\n\ncache-control: max-age=60, stale-while-revalidate=5\netag: \"a\"\nvary: accept-language\n\
         date: Sat, 28 Nov 2026 20:00:00 GMT\nage: 7",
        "authorization: Basic x\nrange: bytes=0-5\nif-range: \"a\"\n\ncache-control: private, no-cache=\"set-cookie\", s-maxage=9\nset-cookie: a=b\n\
         expires: Sat, 28 Nov 2026 21:00:00 GMT\nlast-modified: Fri, 27 Nov 2026 20:00:00 GMT\ndate: Saturday, 28-Nov-26 20:00:00 GMT",
        "cache-control: no-cache, max-age=0\n\ncdn-cache-control: max-age=5, must-revalidate\nconnection: x\nx: y\nvary: *",
        "Sat Nov 28 20:00:00 2026",
    ])
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let with = |coding: u8, bytes: &[u8]| [&[coding, 0, 40], bytes].concat();
    let mut seeds: Vec<Vec<u8>> = documents::manifests().iter().map(|it| with(0, it)).collect();
    let absolute = "#EXTM3U\n#EXT-X-MAP:URI=\"https://cdn.example.com/v/i.mp4\"\n#EXTINF:2,\nhttps://live.example/1.m4s\n/v/2.m4s\n";
    let mpd = "<MPD><BaseURL>https://cdn.example.com/v/a/</BaseURL><Location><![CDATA[//live.example/m.mpd]]></Location></MPD>";
    seeds.push(with(1, &gzip(absolute.as_bytes())));
    seeds.extend([absolute, mpd].map(|it| with(0, it.as_bytes())));
    seeds.push(with(0, &utf16(absolute)));
    seeds
}

/// Heads of requests with the client and the time before them.
pub(crate) fn admin() -> Vec<Vec<u8>> {
    let token = crate::targets::TOKEN;
    let heads = [
        "GET /metrics\nhost: 127.0.0.1:8081\n".to_owned(),
        format!("POST /api/v1/purge?key=h%2Fa&prefix=h/&soft=true\nhost: a\nauthorization: Bearer {token}\n"),
        format!("PURGE /h/a?b=1\nauthorization: bearer {token}\nsurrogate-key: a b\nfastly-soft-purge: 1\n"),
        "GET /cache/purge?url=http%3A%2F%2Fh%2Fa\nhost: localhost:8081\n".to_owned(),
        "POST /api/v1/ban?pattern=*&yes=true\norigin: https://evil.example\nsec-fetch-site: cross-site\n"
            .to_owned(),
        format!(
            "POST /api/v1/purge?surrogate_key=x\nhost: box:8081\norigin: http://box:8081\nauthorization: Bearer {token}\n"
        ),
        "GET /api/v1/status\nhost: evil.example\nauthorization: Basic eDp5\n".to_owned(),
    ];
    let with = |client: u8, head: &str| [&[client, 0, 10], head.as_bytes()].concat();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for client in 0..3 {
        seeds.push(input::records(0, heads.iter().map(|head| with(client, head))));
    }
    seeds
}
