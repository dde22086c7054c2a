#!/bin/sh
# mpd-parser finds no segment, or segments of the future, where the last S of a SegmentTimeline repeats to the end (r="-1").
#
# ISO/IEC 23009-1 clause 5.3.9.6: a negative @r repeats until the next S, the end of the Period or the next update of the MPD; @t counts
# from the Period's start plus @presentationTimeOffset. mpd-parser leaves out the offset, and knows the live edge only for a media
# template that has $Number$ in it, behind at least one other character:
#        static, PT6S, d="2", presentationTimeOffset="100"     no segments
#        live for 40 s, d="4", $Time$.m4s                      no segments
#        live for 40 s, d="4", $Number$.m4s                    no segments
#        live for 40 s, d="4", v$Number$.m4s                   v1.m4s to v25.m4s with minimumUpdatePeriod="PT1M": 15 are of the future
# No error, no warning. One would expect 100.m4s, 102.m4s and 104.m4s of the first, and the last to end with the segment that is available
# (clause 5.3.9.5.3), v10.m4s. Seen with mpd-parser 1.4.0 (npm), the reader of video.js.
#
# A timeline of one S with r="-1" is what packagers of a constant duration write to keep live MPDs small. To a cache, video.js is then the
# player that never asks for a segment, or the one whose requests are a minute early and 404: these must not be kept as negative
# answers until the segment arrives.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" mpd-parser@1.4.0
cat >test.cjs <<'END'
const assert = require("assert");
const { parse } = require("mpd-parser");
const NOW = Date.parse("2026-11-29T10:00:40Z");
const live = 'type="dynamic" availabilityStartTime="2026-11-29T10:00:00Z" minimumUpdatePeriod="PT1M" timeShiftBufferDepth="PT1M"';
const film = 'type="static" mediaPresentationDuration="PT6S"';
const segments = (attributes, media, template, s) => {
  const mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" minBufferTime="PT2S" ${attributes}>
<Period id="1" start="PT0S"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="${media}" initialization="i.mp4" timescale="1" ${template}>
<SegmentTimeline>${s}</SegmentTimeline></SegmentTemplate>
<Representation id="v" bandwidth="1000" codecs="avc1.4d401e"/></AdaptationSet></Period></MPD>`;
  const found = parse(mpd, { manifestUri: "https://box.example/a.mpd", NOW }).playlists[0].segments.map((it) => it.uri);
  console.log(attributes.slice(0, 14), media, template, s, "->", found.length, found[0], found.at(-1));
  return found;
};
assert.deepEqual(segments(film, "$Time$.m4s", "", '<S t="0" d="2" r="-1"/>'), ["0.m4s", "2.m4s", "4.m4s"]);
assert.deepEqual(segments(film, "$Time$.m4s", 'presentationTimeOffset="100"', '<S t="100" d="2" r="2"/>'), ["100.m4s", "102.m4s", "104.m4s"]);
assert.deepEqual(segments(film, "$Time$.m4s", 'presentationTimeOffset="100"', '<S t="100" d="2" r="-1"/>'), []);
assert.deepEqual(segments(live, "$Time$.m4s", "", '<S t="0" d="4" r="-1"/>'), []);
assert.deepEqual(segments(live, "$Number$.m4s", "", '<S t="0" d="4" r="-1"/>'), []);
const future = segments(live, "v$Number$.m4s", "", '<S t="0" d="4" r="-1"/>');
assert.equal(future.length, 25);
assert.equal(future.at(-1), "v25.m4s");
END
node test.cjs
