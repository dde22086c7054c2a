#!/bin/sh
# mpd-parser takes SegmentTemplate@endNumber for the number of segments: a period of two lists 102, the last of -396 seconds.
#
# ISO/IEC 23009-1 clause 5.3.9.4 (table of SegmentTemplate): @endNumber is the number of the last segment, in the count that @startNumber
# begins. mpd-parser adds the two up:
#        startNumber="101" endNumber="102" duration="4"    101.m4s to 202.m4s, the last with a duration of -396 s
#        live for 40 s, startNumber="101" endNumber="120"  up to 220.m4s, while 110.m4s is the last one available
# One would expect 101.m4s and 102.m4s, and 108.m4s to 110.m4s. With startNumber="1" the first is right by chance, which is what players
# are tested with. Seen with mpd-parser 1.4.0 (npm), the reader of video.js.
#
# Packagers write @endNumber where a period was cut (breaks, start-over), with numbers that go on. From the end of each such period, and in
# live at once, the cache and its origin get requests for a hundred segments that never exist. A headend for such players
# should leave @endNumber out and give Period@duration, which says the same.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" mpd-parser@1.4.0
cat >test.cjs <<'END'
const assert = require("assert");
const { parse } = require("mpd-parser");
const NOW = Date.parse("2026-11-29T10:00:40Z");
const live = 'type="dynamic" availabilityStartTime="2026-11-29T10:00:00Z" minimumUpdatePeriod="PT1M" timeShiftBufferDepth="PT12S"';
const segments = (attributes, template) => {
  const mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" minBufferTime="PT2S" ${attributes}>
<Period id="1" start="PT0S"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="$Number$.m4s" initialization="i.mp4" timescale="1" duration="4" ${template}/>
<Representation id="v" bandwidth="1000" codecs="avc1.4d401e"/></AdaptationSet></Period></MPD>`;
  const found = parse(mpd, { manifestUri: "https://box.example/a.mpd", NOW }).playlists[0].segments;
  const [first, last] = [found[0], found.at(-1)];
  console.log(attributes.slice(0, 14), template, "->", found.length, "segments", first.uri, "to", last.uri, last.duration, "s");
  return [first.uri, last.uri, last.duration, found.length];
};
const film = 'type="static" mediaPresentationDuration="PT8S"';
assert.deepEqual(segments(film, 'startNumber="101"'), ["101.m4s", "102.m4s", 4, 2]);
assert.deepEqual(segments(film, 'startNumber="1" endNumber="2"'), ["1.m4s", "2.m4s", 4, 2]);
assert.deepEqual(segments(film, 'startNumber="101" endNumber="102"'), ["101.m4s", "202.m4s", -396, 102]);
assert.deepEqual(segments(live, 'startNumber="101"'), ["108.m4s", "110.m4s", 4, 3]);
assert.deepEqual(segments(live, 'startNumber="101" endNumber="120"'), ["108.m4s", "220.m4s", 4, 113]);
END
node test.cjs
