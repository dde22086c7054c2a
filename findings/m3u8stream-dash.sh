#!/bin/sh
# m3u8stream counts a segment too few for each S of a DASH timeline, asks for $Time$ in milliseconds, and ends without an error where it found nothing.
#
# ISO/IEC 23009-1 clause 5.3.9.6: @r is the number of repetitions, so that r="4" are five segments; clause 5.3.9.4.4: $Time$ is the time in the
# units of @timescale, $Number%05d$ has a width, and numbers begin at 1 where no @startNumber is given. The library reads the manifest of a
# film of 11 s, <S t="0" d="96000" r="4"/><S d="48000"/> at timescale 48000, which are six segments, so:
#        $Number$, startNumber="1"           1 2 3 4 5: the end is missing
#        $Number$, no startNumber            0 1 2 3 4: the first does not exist
#        $Time$                              0 2000 4000 6000 8000, for 0 96000 192000 288000 384000 480000
#        $Number%05d$                        that text itself, five times
#        @duration instead of a timeline     nothing, and the stream ends as if all had been read
# One would expect that of a library with a million downloads a month the commonest forms were tried. Seen with m3u8stream 0.8.6 (npm).
#
# It joins what it has got into one stream of bytes: a valid file that ends early, without an error in any count. Who takes in what such a
# recorder wrote has to compare its duration with that of the manifest.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" m3u8stream@0.8.6
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const http = require("node:http");
const m3u8stream = require("m3u8stream");

const timeline = '<SegmentTimeline><S t="0" d="96000" r="4"/><S d="48000"/></SegmentTimeline>';
const mpd = (media, attributes, inner) => `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT2S"
  profiles="urn:mpeg:dash:profile:isoff-live:2011" mediaPresentationDuration="PT11S"><Period><AdaptationSet mimeType="audio/mp4">
  <Representation id="a" bandwidth="64000" codecs="mp4a.40.2"><SegmentTemplate timescale="48000" initialization="init" media="${media}" ${attributes}>
  ${inner}</SegmentTemplate></Representation></AdaptationSet></Period></MPD>`;
const films = {
  "/number/film.mpd": mpd("$Number$", 'startNumber="1"', timeline),
  "/default/film.mpd": mpd("$Number$", "", timeline),
  "/time/film.mpd": mpd("$Time$", "", timeline),
  "/width/film.mpd": mpd("$Number%05d$", 'startNumber="1"', timeline),
  "/duration/film.mpd": mpd("$Number$", 'startNumber="1" duration="96000"', ""),
};
let asked = [];
const server = http.createServer((request, response) => {
  const name = request.url;
  if (!films[name]) asked.push(name.split("/").pop());
  response.end(films[name] ?? "media");
});
const read = (url) =>
  new Promise((resolve, reject) => {
    const stream = m3u8stream(url, { id: "a" });
    stream.on("error", reject).on("end", resolve).resume();
  });
server.listen(0, "127.0.0.1", async () => {
  const seen = {};
  for (const name of Object.keys(films)) {
    asked = [];
    await read(`http://127.0.0.1:${server.address().port}${name}`);
    // Three segments at a time: the order of requests differs.
    seen[name.split("/")[1]] = asked.sort().join(" ");
  }
  console.log(seen);
  const width = "$Number%05d$";
  assert.deepEqual(seen, {
    number: "1 2 3 4 5 init",
    default: "0 1 2 3 4 init",
    time: "0 2000 4000 6000 8000 init",
    width: [width, width, width, width, width, "init"].join(" "),
    duration: "",
  });
  process.exit(0);
});
EOF
node test.cjs
