#!/bin/sh
# hls-parser and the Python library m3u8 write EXT-X-KEY in front of an EXT-X-MAP that stood before it: a clear init segment becomes encrypted.
#
# RFC 8216 section 4.3.2.4: a key applies to the media segments and to the init segments of EXT-X-MAP that come after it, so that
# the order of the two tags says whether the init segment is encrypted. Read and written again it is the other way round:
#        #EXT-X-MAP:URI="init.mp4"             #EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x01
#        #EXT-X-KEY:METHOD=AES-128,...         #EXT-X-MAP:URI="init.mp4"
#        #EXTINF:4,                            #EXTINF:4,
# One would expect that writing what was read gives a playlist for the same bytes.
# Seen with hls-parser 0.16.1 (npm) and m3u8 6.0.0 (PyPI).
#
# Players decrypt the init segment by the new order and get noise: no picture, while every segment and digest in the cache is right.
# Whoever rewrites URIs should leave the lines where they are.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" hls-parser@0.16.1
python3 -m venv venv
venv/bin/pip install -q m3u8==6.0.0
cat >in.m3u8 <<'END'
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MAP:URI="init.mp4"
#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x00000000000000000000000000000001
#EXTINF:4,
s1.mp4
#EXT-X-ENDLIST
END
node -e 'const HLS = require("hls-parser"); console.log(HLS.stringify(HLS.parse(require("fs").readFileSync("in.m3u8", "utf8"))))' >node.m3u8
venv/bin/python -c 'import m3u8; print(m3u8.load("in.m3u8").dumps())' >python.m3u8
order() { echo "$1:" $(grep -oE '^#EXT-X-(MAP|KEY)' "$1"); }
for file in in node python; do order $file.m3u8; done
test "$(order in.m3u8)" = "in.m3u8: #EXT-X-MAP #EXT-X-KEY"
test "$(order node.m3u8)" = "node.m3u8: #EXT-X-KEY #EXT-X-MAP"
test "$(order python.m3u8)" = "python.m3u8: #EXT-X-KEY #EXT-X-MAP"
