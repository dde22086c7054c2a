//! Seeds of HTTP.

use super::{documents, gzip, texts, utf16};

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
