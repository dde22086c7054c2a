#!/bin/sh
# hls-parser turns the EXT-X-MAP of a low-latency fMP4 playlist into an EXT-X-KEY with the method "undefined".
#
# A low-latency playlist in CMAF has an EXT-X-MAP, and parts of the unfinished segment at its end; this is the common case. Read and
# written again by hls-parser, the map is repeated before those parts, as a key:
#        #EXT-X-MAP:URI="init.mp4"
#        #EXTINF:4,
#        s100.mp4
#        #EXT-X-KEY:METHOD=undefined,URI="init.mp4"
#        #EXT-X-PART:DURATION=0.5,URI="s101.0.mp4",INDEPENDENT=YES
# Without parts the playlist comes back as it was. One would expect that writing what was read gives a playlist for the same player.
# Seen with hls-parser 0.16.1 (npm).
#
# Ad inserters and manifest proxies in Node use it. From the live edge on, the rest of the playlist is declared encrypted by a method
# that nobody knows (RFC 8216 section 4.3.2.4 lets clients stop there), and the "key" is the init segment.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" hls-parser@0.16.1
cat >test.cjs <<'EOF'
const { parse, stringify } = require("hls-parser");
const begin = `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4,
s100.mp4
`;
const parts = `#EXT-X-PART:DURATION=0.5,URI="s101.0.mp4",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="s101.1.mp4"
`;
const plain = stringify(parse(begin));
const live = stringify(parse(begin + parts));
console.log(live);
const keys = (text) => text.split("\n").filter((line) => line.startsWith("#EXT-X-KEY"));
console.log("keys without parts:", keys(plain), "with parts:", keys(live));
process.exit(keys(plain).length === 0 && keys(live).join() === '#EXT-X-KEY:METHOD=undefined,URI="init.mp4"' ? 0 : 1);
EOF
node test.cjs
