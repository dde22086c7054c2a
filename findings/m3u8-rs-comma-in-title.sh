#!/bin/sh
# m3u8-rs takes what follows a second comma of EXTINF for the name of a segment.
#
# RFC 8216 section 4.3.2.1: the title of EXTINF is "the remainder of the line following the comma", so that titles may have
# commas; IPTV lists and ad inserters write them. m3u8-rs ends the title at the next comma without an error, and reads the rest of
# the line as a URI: there is one segment more than in the playlist, it carries the duration and the tags (EXT-X-DISCONTINUITY,
# EXT-X-PROGRAM-DATE-TIME), and the real segment has a duration of 0. All media sequence numbers after it are wrong by one.
# Seen with m3u8-rs 6.0.1 (the Rust registry):
#        #EXTINF:4,News, part one     segment " part one" of 4 s, segment "a.ts" of 0 s
#        #EXTINF:4,Weather            segment "b.ts" of 4 s
#
# A receiver or packager that reads playlists with it asks the origin for "/ part one", and a playlist that it writes again has the
# mistake in it for everybody.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'EOF'
[package]
name = "finding"
version = "0.1.0"
edition = "2021"

[dependencies]
m3u8-rs = "=6.0.1"
EOF
cat >src/main.rs <<'EOF'
fn main() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY\n\
        #EXTINF:4,News, part one\na.ts\n#EXTINF:4,Weather\nb.ts\n#EXT-X-ENDLIST\n";
    print!("{text}");
    let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
    for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
        println!("read: {number} {:?} {} s, discontinuity: {}", segment.uri.trim(), segment.duration, segment.discontinuity);
    }
    let read: Vec<_> = playlist.segments.iter().map(|s| (s.uri.trim(), s.duration, s.discontinuity)).collect();
    assert_eq!(read, [("part one", 4.0, true), ("a.ts", 0.0, false), ("b.ts", 4.0, false)]);
}
EOF
CARGO_TARGET_DIR="$dir/target" cargo run -q
