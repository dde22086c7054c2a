#!/bin/sh
# RxPlayer and mpd-parser do not subtract EventStream@presentationTimeOffset: a break is as late as the media time of its period is high.
#
# ISO/IEC 23009-1 clause 5.10.2: the times of events count from the begin of the Period less EventStream@presentationTimeOffset, as the times
# of segments do less that of SegmentTemplate. Of a period that begins at 100 s with media at 900 s, and an event five seconds into it:
#        Shaka Player 5.2.12                         event at 105 s
#        RxPlayer 4.5.0                              event at 1005 s
#        mpd-parser 1.4.0 (video.js)                 event from 1005 s to 1007 s, the offset in a field beside it
# The first segment begins at 100 s in both. One would expect the two offsets of one period to be treated alike. (All of npm.)
#
# A live packager whose media times count from 1970 writes the same offset in all periods: the event of a break is then half a century away, and
# is not reported at all. In tests with media from 0 there is no offset. emsg boxes in the segments do not have the fault.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" rx-player@4.5.0 shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const readMpd = require("./node_modules/rx-player/dist/commonjs/parsers/manifest/dash/js-parser/parse_from_xml_string.js").default;
const uri = "https://box.example/film.mpd";

const film = (offset) => `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" minBufferTime="PT2S">
  <Period id="1" start="PT100S" duration="PT12S">
  <EventStream schemeIdUri="urn:example:break" timescale="1000" presentationTimeOffset="${offset}">
  <Event presentationTime="${offset + 5000}" duration="2000" id="1">break</Event></EventStream>
  <AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16">
  <SegmentTemplate timescale="1000" presentationTimeOffset="${offset}" initialization="i.mp4" media="$Time$.m4s"><SegmentTimeline>
  <S t="${offset}" d="4000" r="2"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet></Period></MPD>`;

// Begin of the event by each reader, for two of them behind that of the first segment.
function rxPlayer(mpd) {
  const [period] = readMpd(mpd, { url: uri }).value.parsed.periods;
  const [segment] = period.adaptations.video[0].representations[0].index.getSegments(0, 1000);
  return [segment.time, period.streamEvents[0].start];
}

function mpdParser(mpd) {
  const { eventStream, playlists } = require("mpd-parser").parse(mpd, { manifestUri: uri });
  return [playlists[0].segments[0].presentationTime, eventStream[0].start];
}

async function shakaPlayer(mpd) {
  const { window } = new (require("jsdom").JSDOM)("<video></video>", { url: "https://box.example/" });
  window.MediaSource = class extends window.EventTarget {
    static isTypeSupported() {
      return true;
    }
  };
  const names = ["document", "DOMParser", "Node", "Element", "HTMLElement", "HTMLMediaElement", "HTMLVideoElement", "Event", "EventTarget"];
  [...names, "MediaSource"].forEach((name) => (globalThis[name] = window[name]));
  globalThis.window = globalThis.self = window;
  globalThis.location = window.location;
  const browser = { userAgent: "Chrome/140.0.0.0 Safari/537.36", vendor: "Google Inc.", language: "en", platform: "Linux" };
  Object.defineProperty(window, "navigator", { value: browser });
  Object.defineProperty(globalThis, "navigator", { value: browser, configurable: true });
  const shaka = require("shaka-player");
  shaka.polyfill.installAll();
  shaka.net.NetworkingEngine.registerScheme("https", (uri) => {
    const data = uri.endsWith(".mpd") ? new TextEncoder().encode(mpd).buffer : new ArrayBuffer(100);
    return shaka.util.AbortableOperation.completed({ uri, originalUri: uri, data, headers: {}, status: 200 });
  });
  const player = new shaka.Player();
  player.configure("streaming.segmentPrefetchLimit", 2);
  const seen = [];
  const preload = await player.preload(uri, null, "application/dash+xml");
  preload.addEventListener("timelineregionadded", (event) => seen.push(event.detail.startTime));
  await Promise.race([preload.waitForFinish(), new Promise((resolve) => setTimeout(resolve, 3000))]);
  return seen;
}

(async () => {
  const seen = {};
  for (const offset of [0, 900_000]) seen[offset] = [await shakaPlayer(film(offset)), rxPlayer(film(offset)), mpdParser(film(offset))];
  console.log("Shaka Player, RxPlayer, mpd-parser:", seen);
  const right = [100, 105];
  const late = [100, 1005];
  assert.deepEqual(seen, { 0: [[105], right, right], 900000: [[105], late, late] });
  process.exit(0);
})();
EOF
node test.cjs
