#!/bin/sh
# m3u8, openm3u8 and hls-parser change interstitials when they write a playlist again: a pre-roll moves into the programme, one break of two is gone.
#
# Second edition of HLS (draft-pantos-hls-rfc8216bis) section 4.4.5.1: CUE="PRE" plays the asset before the programme wherever START-DATE is;
# a playlist may have any number of EXT-X-DATERANGE, side by side too; a client's own attribute may be a hexadecimal sequence. Read and written again:
#                                                  m3u8, openm3u8                      hls-parser
#        CUE="PRE,ONCE"                            gone                                kept
#        two EXT-X-DATERANGE before a segment      kept                                the first gone
#        X-COM-KEY=0xABCDEF                        kept                                X-COM-KEY="171,205,239"
#        REQ-VIDEO-LAYOUT="CH-STEREO"              REQ-VIDEO_LAYOUT=""CH-STEREO""      gone
# One would expect what the library knows by name to be written by its name, and what it does not know to be kept, as m3u8parse does with all
# four. No error. Seen with m3u8 6.0.0, openm3u8 8.0.0 (PyPI), hls-parser 0.16.1 and m3u8parse 5.0.2 (npm).
#
# Through such a manifest proxy viewers who join do not see the pre-roll, those who are in the programme see it there, and the end of one
# break deletes the begin of the next. Who rewrites URIs should leave all other characters of the lines.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q m3u8==6.0.0 openm3u8==8.0.0
npm install --silent --no-audit --no-fund --prefix "$dir" hls-parser@0.16.1 m3u8parse@5.0.2
cat >media.m3u8 <<'EOF'
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T10:00:00.000Z
#EXT-X-DATERANGE:ID="b1",CLASS="com.apple.hls.interstitial",START-DATE="2026-11-29T10:00:06.000Z",CUE="PRE,ONCE",X-ASSET-URI="ad.m3u8",X-COM-KEY=0xABCDEF
#EXTINF:6,
0.ts
#EXT-X-DATERANGE:ID="b1",END-DATE="2026-11-29T10:00:10.000Z"
#EXT-X-DATERANGE:ID="b2",START-DATE="2026-11-29T10:00:06.000Z",DURATION=15
#EXTINF:6,
1.ts
EOF
cat >master.m3u8 <<'EOF'
#EXTM3U
#EXT-X-VERSION:12
#EXT-X-STREAM-INF:BANDWIDTH=2000000,CODECS="hvc1.2.4.L123.B0",REQ-VIDEO-LAYOUT="CH-STEREO"
v.m3u8
EOF
cat >test.py <<'EOF'
import sys

import m3u8
import openm3u8

for library in (m3u8, openm3u8):
    for name in ("media", "master"):
        with open(f"{name}.m3u8") as file, open(f"{library.__name__}-{name}", "w") as written:
            written.write(library.loads(file.read()).dumps())
EOF
venv/bin/python test.py
cat >test.mjs <<'EOF'
import { readFileSync, writeFileSync } from "fs";
import HLS from "hls-parser";
import M3U8Parse from "m3u8parse";

for (const name of ["media", "master"]) {
  const text = readFileSync(`${name}.m3u8`, "utf8");
  writeFileSync(`hls-parser-${name}`, HLS.stringify(HLS.parse(text)));
  writeFileSync(`m3u8parse-${name}`, M3U8Parse(text).toString());
}
EOF
node test.mjs
grep -H -E 'DATERANGE|STREAM-INF' m3u8-* openm3u8-* hls-parser-* m3u8parse-*
# has LIBRARY PRE FIRST HEX LAYOUT, each 1 or 0
has() {
  seen=
  for text in 'CUE="PRE,ONCE"' 'END-DATE="2026-11-29T10:00:10' 'X-COM-KEY=0xABCDEF' 'REQ-VIDEO-LAYOUT="CH-STEREO"'; do
    seen="$seen $(cat "$1-media" "$1-master" | grep -c -F -e "$text" || true)"
  done
  echo "$1:$seen"
  [ "$seen" = " $2 $3 $4 $5" ]
}
for library in m3u8 openm3u8; do
  has "$library" 0 1 1 0
  grep -q -F 'REQ-VIDEO_LAYOUT=""CH-STEREO""' "$library-master"
done
has hls-parser 1 0 0 0
grep -q -F 'X-COM-KEY="171,205,239"' hls-parser-media
has m3u8parse 1 1 1 1
