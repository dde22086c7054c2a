#!/bin/sh
# pysubs2 and subsrt-ts write WebVTT segments of HLS without their X-TIMESTAMP-MAP: captions are then hours away from the picture.
#
# RFC 8216 section 3.5: a WebVTT segment begins with X-TIMESTAMP-MAP, which ties its times to the clock of the media; without it time 0 is 0
# there. A segment whose map says 900000 (10 s), with one caption at the upper edge (line:0 align:start), read and written again:
#        pysubs2 1.8.1 (PyPI)       no map, no settings; the caption has the number 1
#        subsrt-ts 2.1.2 (npm)      no map, no settings, also by convert(vtt, {format: "vtt"}); the caption has the number 2
#        node-webvtt 1.9.4 (npm)    "X-TIMESTAMP-MAP=MPEGTS: 900000,...", a blank that the grammar has not
#        webvtt-py 0.6.0, subtitle 4.2.2    both kept
# One would expect a reader of WebVTT to keep the header's block as the text that it is. No error, no warning; a whole file, whose captions
# are counted from 0, comes out right, and so does the first segment of a film whose clock begins at 0.
#
# Tools that censor, shift or translate captions of live channels are built on these. Of a channel that runs for a day nothing is shown. A box
# that serves such segments cannot know; a headend can warn where a playlist's WebVTT segments have no map and its media do not begin at 0.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q pysubs2==1.8.1 webvtt-py==0.6.0
npm install --silent --no-audit --no-fund --prefix "$dir" subsrt-ts@2.1.2 node-webvtt@1.9.4 subtitle@4.2.2
map=X-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000
printf 'WEBVTT\n%s\n\n00:00:01.000 --> 00:00:02.000 line:0 align:start\nHello\n' $map >in.vtt
venv/bin/python -c 'import pysubs2; pysubs2.load("in.vtt").save("pysubs2.vtt")'
venv/bin/python -c 'import webvtt; webvtt.read("in.vtt").save("webvtt-py.vtt")'
cat >copy.cjs <<'END'
const fs = require("fs");
const text = fs.readFileSync("in.vtt", "utf8");
const subsrt = require("subsrt-ts").default ?? require("subsrt-ts");
fs.writeFileSync("subsrt-ts.vtt", subsrt.build(subsrt.parse(text), { format: "vtt" }));
fs.writeFileSync("subsrt-convert.vtt", subsrt.convert(text, { format: "vtt" }));
const webvtt = require("node-webvtt");
fs.writeFileSync("node-webvtt.vtt", webvtt.compile(webvtt.parse(text, { meta: true })));
const subtitle = require("subtitle");
fs.writeFileSync("subtitle.vtt", subtitle.stringifySync(subtitle.parseSync(text), { format: "WebVTT" }));
END
node copy.cjs
for file in pysubs2 subsrt-ts subsrt-convert node-webvtt webvtt-py subtitle; do
    echo "$file: $(grep -a MPEGTS $file.vtt || echo 'no map'); $(grep -a -e '-->' $file.vtt)"
    grep -q '^Hello' $file.vtt
done
for file in pysubs2 subsrt-ts subsrt-convert; do
    ! grep -q MPEGTS $file.vtt
    test "$(grep -e '-->' $file.vtt | tr -d '\r')" = '00:00:01.000 --> 00:00:02.000'
done
grep -q '^X-TIMESTAMP-MAP=MPEGTS: 900000,' node-webvtt.vtt
grep -qx $map webvtt-py.vtt
grep -qx $map subtitle.vtt
grep -q 'line:0 align:start' subtitle.vtt
