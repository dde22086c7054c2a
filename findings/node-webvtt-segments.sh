#!/bin/sh
# node-webvtt cuts captions into segments that it cannot read itself, of 14 s where 4 were asked for, with a caption in the segment before its time.
#
# RFC 8216 section 3.5: a WebVTT segment must contain all cues that are shown during it; EXT-X-TARGETDURATION bounds their length (section
# 4.3.3.1), and a player takes them beside the video by their EXTINF. hlsSegment and hlsSegmentPlaylist of three captions, segments of 4 s:
#        captions                     segments
#        3 to 7 s, first              0.vtt, 4 s: first;  1.vtt, 4 s: first and second
#        8 to 9 s, second             a viewer who joins at 8 s takes 2.vtt and has no caption
#        21 to 22 s, third            2.vtt, 14 s, and EXT-X-TARGETDURATION:14
# One would expect six segments, 8 to 9 s in the third, as webvtt-py makes them. And each has the header X-TIMESTAMP-MAP, which node-webvtt's parse,
# segment and hlsSegment refuse unless they are told so ("Missing blank line after signature"); segment and hlsSegment cannot be told. STYLE and
# REGION are refused too. Seen with node-webvtt 1.9.4 (npm) and webvtt-py 0.6.0 (PyPI).
#
# Each pause without captions makes a segment as long as itself: a live rendition of captions made so stands still for as long as nobody speaks, and
# its target duration is not that of the video. Cut by the clock, with empty segments, and count the two lists against each other.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" node-webvtt@1.9.4
python3 -m venv venv
venv/bin/pip install -q webvtt-py==0.6.0
cat >in.vtt <<'EOF'
WEBVTT

00:03.000 --> 00:07.000
first

00:08.000 --> 00:09.000
second

00:21.000 --> 00:22.000
third
EOF
cat >test.cjs <<'EOF'
const assert = require("assert");
const fs = require("fs");
const webvtt = require("node-webvtt");
const text = fs.readFileSync("in.vtt", "utf8");
const segments = webvtt.hls.hlsSegment(text, 4);
const captions = segments.map(({ content }) => ["first", "second", "third"].filter((caption) => content.includes(caption)));
console.log("node-webvtt:", captions);
assert.deepEqual(captions, [["first"], ["first", "second"], ["third"]]);
const playlist = webvtt.hls.hlsSegmentPlaylist(text, 4);
console.log(playlist);
assert.deepEqual(playlist.match(/(TARGETDURATION|EXTINF):[0-9.]+/g), ["TARGETDURATION:14", "EXTINF:4.00000", "EXTINF:4.00000", "EXTINF:14.00000"]);
const [{ content }] = segments;
assert.match(content, /^WEBVTT\nX-TIMESTAMP-MAP=/);
for (const read of [webvtt.parse, (segment) => webvtt.segment(segment, 4), (segment) => webvtt.hls.hlsSegment(segment, 4)]) {
  assert.throws(() => read(content), /Missing blank line after signature/);
}
assert.equal(webvtt.parse(content, { meta: true }).cues.length, 1);
assert.throws(() => webvtt.parse("WEBVTT\n\nSTYLE\n::cue { color: red }\n\n00:01.000 --> 00:02.000\na\n"), /Cue identifier needs to be followed by timestamp/);
EOF
node test.cjs
venv/bin/python - <<'EOF'
import pathlib
import webvtt

webvtt.segmenter.segment("in.vtt", "segments", seconds=4)
captions = []
for number in range(6):
    text = pathlib.Path(f"segments/fileSequence{number}.webvtt").read_text()
    captions.append([caption for caption in ("first", "second", "third") if caption in text])
print("webvtt-py:", captions)
assert captions == [["first"], ["first"], ["second"], [], [], ["third"]]
assert "EXT-X-TARGETDURATION:4\n" in pathlib.Path("segments/prog_index.m3u8").read_text()
EOF
