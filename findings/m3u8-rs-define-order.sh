#!/bin/sh
# m3u8-rs writes EXT-X-DEFINE behind what uses it, and EXT-X-MAP before the EXT-X-KEY that encrypts it.
#
# Second edition of HLS (draft-pantos-hls-rfc8216bis) section 4.3: a variable that is used before its EXT-X-DEFINE is a parse error. RFC 8216
# section 4.3.2.4: EXT-X-KEY applies to an EXT-X-MAP that comes after it. The crate hangs tags that it does not know on the segment or at the end, and
# writes those that it knows in an order of its own:
#        read                                        written
#        DEFINE, KEY URI="{$h}/k", MAP, segment      MAP, KEY URI="{$h}/k", DEFINE, segment
#        DEFINE, STREAM-INF, {$h}/v.m3u8             STREAM-INF, {$h}/v.m3u8, DEFINE
# One would expect a tag that is kept to be kept where it was. m3u8-parser, the reader of video.js, gives https://cdn.example/v.m3u8 for what was read
# and {$h}/v.m3u8 for what was written, without an error. Seen with m3u8-rs 6.0.1 (the Rust registry) and m3u8-parser 7.2.0 (npm).
#
# Packagers and manifest proxies in Rust are built on it: players ask for braces, or end with an error, and an init segment that was encrypted is
# read as it is. Who writes with it should put values in place of variables first, and check the order of the key.
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
m3u8-rs = { version = "=6.0.1", default-features = false, features = ["parser"] }
EOF
cat >src/main.rs <<'EOF'
use m3u8_rs::Playlist;

fn main() {
    for name in ["media", "master"] {
        let text = std::fs::read(format!("{name}.m3u8")).unwrap();
        let mut written = std::fs::File::create(format!("{name}-written.m3u8")).unwrap();
        match m3u8_rs::parse_playlist_res(&text).unwrap() {
            Playlist::MasterPlaylist(playlist) => playlist.write_to(&mut written).unwrap(),
            Playlist::MediaPlaylist(playlist) => playlist.write_to(&mut written).unwrap(),
        }
    }
}
EOF
cat >media.m3u8 <<'EOF'
#EXTM3U
#EXT-X-VERSION:8
#EXT-X-DEFINE:NAME="h",VALUE="https://cdn.example"
#EXT-X-TARGETDURATION:4
#EXT-X-KEY:METHOD=AES-128,URI="{$h}/k",IV=0x00000000000000000000000000000001
#EXT-X-MAP:URI="{$h}/i.mp4"
#EXTINF:4,
{$h}/0.m4s
#EXT-X-ENDLIST
EOF
cat >master.m3u8 <<'EOF'
#EXTM3U
#EXT-X-VERSION:8
#EXT-X-DEFINE:NAME="h",VALUE="https://cdn.example"
#EXT-X-STREAM-INF:BANDWIDTH=1000000
{$h}/v.m3u8
EOF
CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$dir/target" cargo run -q
npm install --silent --no-audit --no-fund --prefix "$dir" m3u8-parser@7.2.0
cat >test.cjs <<'EOF'
const assert = require("assert");
const fs = require("fs");
const { Parser } = require("m3u8-parser");
const read = (name) => {
  const text = fs.readFileSync(`${name}.m3u8`, "utf8");
  console.log(`${name}:\n${text}`);
  const parser = new Parser();
  parser.push(text);
  parser.end();
  const { playlists = [], segments } = parser.manifest;
  return [...playlists, ...segments].map(({ uri, map, key }) => [uri, map?.uri, key?.uri].filter(Boolean));
};
const order = (name) => fs.readFileSync(`${name}.m3u8`, "utf8").match(/(DEFINE|KEY|MAP|STREAM-INF):/g).join("");
const host = "https://cdn.example";
assert.deepEqual(read("media"), [[`${host}/0.m4s`, `${host}/i.mp4`, `${host}/k`]]);
assert.deepEqual(read("media-written"), [[`${host}/0.m4s`, "{$h}/i.mp4", "{$h}/k"]]);
assert.deepEqual([order("media"), order("media-written")], ["DEFINE:KEY:MAP:", "MAP:KEY:DEFINE:"]);
assert.deepEqual(read("master"), [[`${host}/v.m3u8`]]);
assert.deepEqual(read("master-written"), [["{$h}/v.m3u8"]]);
assert.deepEqual([order("master"), order("master-written")], ["DEFINE:STREAM-INF:", "STREAM-INF:DEFINE:"]);
EOF
node test.cjs
