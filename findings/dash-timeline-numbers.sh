#!/bin/sh
# Shaka Player, mpd-parser, RxPlayer and FFmpeg do not read the segment number of an S element (@n): behind a gap they ask for other segments.
#
# ISO/IEC 23009-1 clause 5.3.9.6 and its schema: S@n is the number of the first segment of the series, for a timeline with a gap in its numbers;
# without it they are counted on. Clause 5.3.9.2: a SegmentTemplate has its init segment in @initialization or in a child, Initialization:
#                                <S t="0" n="7" d="4"/>        <Initialization sourceURL="x.mp4"/>
#                                <S t="4" n="20" d="4"/>       in a SegmentTemplate
#        expected                7, 20                         x.mp4 first
#        Shaka Player 5.2.12     7, 8                          no init segment
#        mpd-parser 1.4.0        7, 8                          x.mp4
#        RxPlayer 4.5.0          7, 8                          x.mp4
#        FFmpeg 5.1.9            7, 8                          no init segment
# One would expect an attribute of the standard's schema, which validators accept, to be known to one of them. (FFmpeg of Debian 12, the others
# of npm.)
#
# A packager that has lost a segment, or comes back with numbers that go on elsewhere, cannot say so by @n: from there on players ask for
# segments with the wrong numbers, which may exist and be others. A new Period with its own @startNumber is read by all.
#
# Needs ffmpeg (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" rx-player@4.5.0 shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
ffmpeg -nostdin -v error -f lavfi -i testsrc=size=160x120:rate=25:duration=8 -c:v libx264 -preset ultrafast -g 100 -f dash -seg_duration 4 \
  -init_seg_name init.mp4 -media_seg_name '$Number$.m4s' made.mpd
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const { execFile } = require("node:child_process");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const readMpd = require("./node_modules/rx-player/dist/commonjs/parsers/manifest/dash/js-parser/parse_from_xml_string.js").default;

// The URLs that RxPlayer has for a film, or its error.
function rxPlayerFinds(mpd) {
  try {
    const { parsed } = readMpd(mpd, { url: "https://box.example/film.mpd" }).value;
    const { index, cdnMetadata } = parsed.periods[0].adaptations.video[0].representations[0];
    const names = [index.getInitSegment(), ...index.getSegments(0, 100)].map((segment) => segment.url);
    return names.map((name) => (cdnMetadata[0].baseUrl + name).replace("https://box.example/", ""));
  } catch (error) {
    return [error.message];
  }
}

// The URLs of init segment and media segments that mpd-parser finds, or its error.
function mpdParserFinds(mpd) {
  try {
    const { segments } = require("mpd-parser").parse(mpd, { manifestUri: "https://box.example/film.mpd" }).playlists[0];
    const uris = [segments[0].map.resolvedUri, ...segments.map((segment) => segment.resolvedUri)];
    return uris.map((uri) => uri.replace("https://box.example/", ""));
  } catch (error) {
    return [error.message];
  }
}

// The URLs that Shaka Player asks for to begin a film, or its error.
async function shakaAsks(mpd) {
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
  const asked = [];
  shaka.net.NetworkingEngine.registerScheme("https", (uri) => {
    if (!uri.endsWith(".mpd")) asked.push(uri.replace("https://box.example/", ""));
    const data = uri.endsWith(".mpd") ? new TextEncoder().encode(mpd).buffer : new ArrayBuffer(100);
    return shaka.util.AbortableOperation.completed({ uri, originalUri: uri, data, headers: {}, status: 200 });
  });
  const player = new shaka.Player();
  player.configure("streaming.segmentPrefetchLimit", 2);
  try {
    const preload = await player.preload("https://box.example/film.mpd", null, "application/dash+xml");
    await Promise.race([preload.waitForFinish(), new Promise((resolve) => setTimeout(resolve, 3000))]);
  } catch (error) {
    return [String(error.code)];
  }
  return asked;
}

// What FFmpeg asks a server for, which has media for any name.
async function ffmpegAsks(mpd) {
  const asked = [];
  const server = http.createServer((request, response) => {
    const name = request.url.slice(1);
    if (name === "film.mpd") return response.end(mpd);
    if (!asked.includes(name)) asked.push(name);
    const media = asked.filter((it) => it.endsWith(".m4s"));
    response.end(readFileSync(name.endsWith(".mp4") ? "init.mp4" : `${media.indexOf(name) + 1}.m4s`));
  });
  await new Promise((then) => server.listen(0, "127.0.0.1", then));
  const options = ["-nostdin", "-v", "quiet", "-i", `http://127.0.0.1:${server.address().port}/film.mpd`, "-f", "null", "-"];
  await new Promise((then) => execFile("ffmpeg", options, { timeout: 20000 }, then));
  server.close();
  return asked;
}

const film = (template, inner) => `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
  minBufferTime="PT2S" mediaPresentationDuration="PT8S"><Period id="1"><AdaptationSet contentType="video" mimeType="video/mp4">
  <Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16"><SegmentTemplate media="$Number$.m4s" ${template}>${inner}
  </SegmentTemplate></Representation></AdaptationSet></Period></MPD>`;
const numbers = film('startNumber="7" initialization="i.mp4"', '<SegmentTimeline><S t="0" n="7" d="4"/><S t="4" n="20" d="4"/></SegmentTimeline>');
const child = film('startNumber="1" duration="4"', '<Initialization sourceURL="x.mp4"/>');
(async () => {
  const seen = {};
  for (const [name, mpd] of Object.entries({ numbers, child })) {
    seen[name] = { shaka: await shakaAsks(mpd), mpdParser: mpdParserFinds(mpd), rxPlayer: rxPlayerFinds(mpd), ffmpeg: await ffmpegAsks(mpd) };
  }
  console.log(seen);
  const [counted, first, none] = [["i.mp4", "7.m4s", "8.m4s"], ["x.mp4", "1.m4s", "2.m4s"], ["1.m4s", "2.m4s"]];
  assert.deepEqual(seen.numbers, { shaka: counted, mpdParser: counted, rxPlayer: counted, ffmpeg: counted });
  const { ffmpeg, ...others } = seen.child;
  assert.deepEqual(others, { shaka: none, mpdParser: first, rxPlayer: first });
  assert(ffmpeg.includes("1.m4s") && !ffmpeg.includes("x.mp4"));
  process.exit(0);
})();
EOF
node test.cjs
