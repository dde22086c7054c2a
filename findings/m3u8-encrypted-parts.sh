#!/bin/sh
# The Python library m3u8 writes a line "None" into an encrypted low-latency playlist that it has read.
#
# The library keeps the key of each segment, but not of the unfinished one whose parts stand at the end of a live playlist. When it
# writes the playlist, that change from a key to no key becomes the text of Python's None, on a line of its own:
#        #EXT-X-KEY:METHOD=AES-128,URI="key.bin"
#        #EXTINF:4,
#        s100.ts
#        None
#        #EXT-X-PART:DURATION=0.5,URI="s101.0.ts",INDEPENDENT=YES
# A line that does not begin with # is a URI (RFC 8216 section 4.1), so that the playlist has one segment more, called None. One
# would expect the round trip of a valid playlist to be lossless, or to fail; without parts it is lossless.
# Seen with m3u8 6.0.0 (PyPI) and, as the reader of the result, m3u8-parser 7.2.0 (npm), which is video.js's.
#
# The library is what manifest manipulators and headend scripts in Python use. A cache that prefetches from the rewritten playlist
# fetches "None", and counts the live edge one segment too late.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q m3u8==6.0.0
cd "$dir"
cat >live.m3u8 <<'EOF'
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-KEY:METHOD=AES-128,URI="key.bin"
#EXTINF:4,
s100.ts
#EXT-X-PART:DURATION=0.5,URI="s101.0.ts",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="s101.1.ts"
EOF
venv/bin/python -c 'import m3u8; print(m3u8.load("live.m3u8").dumps())' >again.m3u8
grep . again.m3u8
test "$(grep -c '^None$' again.m3u8)" = 1
npm install --silent --no-audit --no-fund --prefix "$dir" m3u8-parser@7.2.0
cat >read.cjs <<'EOF'
const fs = require("fs");
const { Parser } = require("m3u8-parser");
const found = ["live.m3u8", "again.m3u8"].map((name) => {
  const parser = new Parser();
  parser.push(fs.readFileSync(name, "utf8"));
  parser.end();
  return parser.manifest.segments.map(({ uri, duration }) => `${uri} of ${duration} s`);
});
console.log("segments before:", found[0], "after:", found[1]);
process.exit(found[0].join() === "s100.ts of 4 s" && found[1].join() === "s100.ts of 4 s,None of 4 s" ? 0 : 1);
EOF
node read.cjs
