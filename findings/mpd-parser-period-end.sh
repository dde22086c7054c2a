#!/bin/sh
# mpd-parser lists segments behind the end of a period, of a presentation, and of a period that has not begun, if they are counted by @duration.
#
# ISO/IEC 23009-1 clause 5.3.2.1: a Period ends where the next one starts, or after its @duration; the last one ends with the presentation.
# Without a start, the one behind a Period of unknown length is an early available one, of which nothing can be played. Segments of 4 s:
#        film of 12 s, the second Period starts at 8 s            first: 3, second: 3 (12 to 20 s)      should be 2 and 1
#        live for 40 s, the second Period starts at 20 s          first: 10, second: 5                  should be 5 and 5
#        the same, with duration="PT20S" in the first             first: 10, second: 5                  should be 5 and 5
#        live for 40 s, mediaPresentationDuration="PT20S"         10, and the list is not at its end    should be 5
#        live for 40 s, a second Period without start             first: 10, second: 10                 should be 10 and none
# No error, no warning. Seen with mpd-parser 1.4.0 (npm), the reader of video.js; with a SegmentTimeline it lists what is there.
#
# Each ad break begins a Period, and in that list segments of the programme that nobody made stand before the ad: 404 at every break and
# behind the end of each event, from one kind of player. A cache must not take such requests for losses on the link, and should not fetch
# ahead by such a list; a headend whose breaks video.js is to play has to write timelines.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" mpd-parser@1.4.0
cat >test.cjs <<'EOF'
const assert = require("assert");
const { parse } = require("mpd-parser");
const NOW = Date.parse("2026-11-29T10:00:40Z");
const live = 'type="dynamic" availabilityStartTime="2026-11-29T10:00:00Z" minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT1M"';
const segments = (attributes, ...periods) => {
  const inner = periods.map((period, at) => `<Period id="${at}" ${period}><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="p${at}-$Number$.m4s" initialization="i.mp4" duration="4" timescale="1"/>
<Representation id="v" bandwidth="1000" codecs="avc1.4d401e"/></AdaptationSet></Period>`);
  const mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" minBufferTime="PT2S"
${attributes}>${inner.join("")}</MPD>`;
  const { segments, endList } = parse(mpd, { manifestUri: "https://box.example/a.mpd", NOW }).playlists[0];
  const count = (at) => segments.filter((it) => it.uri.startsWith(`p${at}-`)).length;
  console.log(attributes.slice(0, 14), attributes.includes("PT20S") ? "ends at 20 s" : "", periods, "->", periods.map((_, at) => count(at)), endList);
  return [...periods.map((_, at) => count(at)), endList];
};
const film = 'type="static" mediaPresentationDuration="PT12S"';
assert.deepEqual(segments(film, 'start="PT0S"'), [3, true]);
assert.deepEqual(segments(film, 'start="PT0S" duration="PT8S"', 'duration="PT4S"'), [2, 1, true]);
assert.deepEqual(segments(film, 'start="PT0S"', 'start="PT8S"'), [3, 3, true]);
assert.deepEqual(segments(live, 'start="PT0S"', 'start="PT20S"'), [10, 5, false]);
assert.deepEqual(segments(live, 'start="PT0S" duration="PT20S"', 'start="PT20S"'), [10, 5, false]);
assert.deepEqual(segments(`${live} mediaPresentationDuration="PT20S"`, 'start="PT0S"'), [10, false]);
assert.deepEqual(segments(live, 'start="PT0S"', ""), [10, 10, false]);
EOF
node test.cjs
