#!/bin/sh
# The crate hls_m3u8 writes tags that it does not know behind the last segment: EXT-X-GAP marks no segment, or the next one, and a break has no begin.
#
# RFC 8216bis section 4.4.4.7: EXT-X-GAP says that the segment after it is missing. RFC 8216 section 4.1: tags that are not known are ignored. Read and
# written again by the crate:
#        EXT-X-GAP, g.ts, EXT-X-CUE-OUT, ad.ts, EXT-X-CUE-IN, b.ts      g.ts, ad.ts, b.ts, EXT-X-GAP, EXT-X-CUE-OUT, EXT-X-CUE-IN
#        EXT-X-SERVER-CONTROL, EXT-X-PART-INF, a.ts                     a.ts, EXT-X-SERVER-CONTROL, EXT-X-PART-INF
#        EXT-X-STREAM-INF:..., VIDEO-RANGE=PQ                           EXT-X-STREAM-INF:..., without it
# One would expect a tag that is kept to be kept where it was, or all of them to be dropped. No error. Seen with hls_m3u8 0.7.0 (the Rust registry).
#
# Players ask for the segment that is missing, and pass over the next one, which is there, when it has been added behind the tag; the advertisement is
# no longer told from the programme; and a rendition for HDR is one that every screen takes. A headend or proxy should change the lines that it means
# to change, and leave the others.
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
hls_m3u8 = "=0.7.0"
[profile.dev]
debug = false
EOF
cat >src/main.rs <<'EOF'
use hls_m3u8::{MasterPlaylist, MediaPlaylist};

const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:100\n";

/// What is written of a media playlist behind its first three tags.
fn written(lines: &str) -> Vec<String> {
    let playlist = format!("{HEAD}{lines}").parse::<MediaPlaylist>().expect("a valid playlist").to_string();
    println!("{playlist}");
    playlist.lines().skip(3).filter(|line| *line != "#EXTINF:4,").map(String::from).collect()
}

fn main() {
    let live = "#EXT-X-GAP\n#EXTINF:4,\ng.ts\n#EXT-X-CUE-OUT:4\n#EXTINF:4,\nad.ts\n#EXT-X-CUE-IN\n#EXTINF:4,\nb.ts\n";
    assert_eq!(written(live), ["g.ts", "ad.ts", "b.ts", "#EXT-X-GAP", "#EXT-X-CUE-OUT:4", "#EXT-X-CUE-IN"]);
    let control = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3";
    let parts = format!("{control}\n#EXT-X-PART-INF:PART-TARGET=1\n#EXTINF:4,\na.ts\n");
    assert_eq!(written(&parts), ["a.ts", control, "#EXT-X-PART-INF:PART-TARGET=1"]);
    let stream = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS=\"hvc1.2.4.L123.B0\",VIDEO-RANGE=PQ\nv.m3u8\n";
    let playlist = MasterPlaylist::try_from(stream).expect("a valid playlist").to_string();
    println!("{playlist}");
    assert!(playlist.contains("hvc1.2.4.L123.B0") && !playlist.contains("VIDEO-RANGE"));
}
EOF
CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$dir/target" cargo run -q
