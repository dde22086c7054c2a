#!/bin/sh
# Shaka Player and mpd-parser ask for another $Time$ than the MPD says when it counts 100 ns since 1970.
#
# SegmentTimeline@t is an unsigned 64-bit number. Streams that came from Smooth Streaming encoders have the timescale 10,000,000 and count
# from 1970, which is 1.77e16 today, beyond the 2^53 up to which a JavaScript number is exact. The players compute with it all the same:
#        <S t="17722764000000123" d="40000001" r="1"/>
#        the MPD's names:      17722764000000123.m4s   17722764040000124.m4s
#        both players ask for  17722764000000124.m4s   17722764040000124.m4s
# Every odd time is off by one, so that about half of the segments are 404 although every file is there. One would expect an error, a
# name taken from the text, or no fault that comes and goes. Seen with Shaka Player 5.2.12 and mpd-parser 1.4.0 (npm).
#
# It looks like losses on the link, or like a cache that drops every other segment. A headend can warn of a timeline beyond 2^53; a cache
# must not answer with the neighbour that is one tick away.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
cat >test.cjs <<'EOF'
const mpd = (representation, template) => `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011"
    type="static" minBufferTime="PT2S" mediaPresentationDuration="PT8S"><Period id="1"><AdaptationSet mimeType="video/mp4">
    <Representation ${representation} bandwidth="1000" codecs="avc1.4d401e" width="16" height="16">
    ${template}</Representation></AdaptationSet></Period></MPD>`;

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

(async () => {
  const begin = 17722764000000123n;
  const text = mpd('id="v"', `<SegmentTemplate media="$Time$.m4s" initialization="i.mp4" timescale="10000000" presentationTimeOffset="${begin}">
    <SegmentTimeline><S t="${begin}" d="40000001" r="1"/></SegmentTimeline></SegmentTemplate>`);
  const names = ["i.mp4", `${begin}.m4s`, `${begin + 40000001n}.m4s`].join(" ");
  const found = [await shakaAsks(text), mpdParserFinds(text)].map((urls) => urls.join(" "));
  console.log("the MPD's names:", names, "\nShaka Player:   ", found[0], "\nmpd-parser:     ", found[1]);
  const wrong = "i.mp4 17722764000000124.m4s 17722764040000124.m4s";
  process.exit(found.every((urls) => urls === wrong && urls !== names) ? 0 : 1);
})();
EOF
node test.cjs
