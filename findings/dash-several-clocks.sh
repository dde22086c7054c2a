#!/bin/sh
# Clocks of an MPD: mpd-parser raises an error for NTP though a clock that it knows stands behind it, RxPlayer does not know http-head, and none reads
# a list of URLs.
#
# ISO/IEC 23009-1 table of MPD: several UTCTiming elements are in the order of the author's preference, and a client takes one that it knows. Clause
# 5.8.5.7: @value of the HTTP schemes is a list of URLs, separated by white space.
#                                                    Shaka Player 5.2.12      RxPlayer 4.5.0       mpd-parser 1.4.0 (video.js)
#        ntp:2014, then http-iso:2014                GET of the second        GET of the second    UNSUPPORTED_UTC_TIMING_SCHEME
#        http-ntp:2014, then http-iso:2014           GET of the second        GET of the second    UNSUPPORTED_UTC_TIMING_SCHEME
#        http-head:2014                              HEAD                     no clock             HEAD
#        http-iso:2014, "https://a/ https://b/"      both, as one URL         both, as one URL     both, as one URL
# One would expect the next clock to be taken, as an element that is not known is passed over elsewhere, and a second URL to be one for when the first
# does not answer. Seen with those packages of npm.
#
# An author who adds a clock for better receivers in front takes the channel from video.js (http-streaming 3.17.5), which does not catch the error. A
# list of two servers makes a request with "%20https:" in its path, a 404, and a player that goes by its own clock. A live MPD for all should have one
# UTCTiming, http-iso or http-xsdate, with one URL; who puts a clock of its own in the place of one URL should drop the others.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" rx-player@4.5.0 shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const { parseUTCTiming } = require("mpd-parser");
const readMpd = require("./node_modules/rx-player/dist/commonjs/parsers/manifest/dash/js-parser/parse_from_xml_string.js").default;

// What RxPlayer wants to be fetched for its clock.
const rxPlayer = (mpd) => {
  const { type, value } = readMpd(mpd, { url: "https://box.example/a.mpd" });
  return type === "needs-resources" ? value.urls.map((url) => `GET ${url}`) : [];
};

const mpdParser = (mpd) => {
  try {
    const { method, value } = parseUTCTiming(mpd);
    return [`${method} ${value}`];
  } catch (error) {
    return [error.message];
  }
};

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
let mpd, asked;
shaka.net.NetworkingEngine.registerScheme("https", (uri, request) => {
  if (!uri.includes("box.example")) asked.push(`${request.method} ${uri}`);
  const text = uri.endsWith(".mpd") ? mpd : new Date().toISOString();
  const headers = { date: new Date().toUTCString() };
  return shaka.util.AbortableOperation.completed({ uri, originalUri: uri, data: new TextEncoder().encode(text).buffer, headers, status: 200 });
});
async function shakaPlayer() {
  asked = [];
  const preload = await new shaka.Player().preload("https://box.example/a.mpd", null, "application/dash+xml");
  await Promise.race([preload.waitForFinish().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 2000))]);
  return asked;
}

const clock = (scheme, value) => `<UTCTiming schemeIdUri="urn:mpeg:dash:utc:${scheme}" value="${value}"/>`;
const iso = clock("http-iso:2014", "https://time.example/iso");
const CASES = {
  "ntp, http-iso": clock("ntp:2014", "ntp.example") + iso,
  "http-ntp, http-iso": clock("http-ntp:2014", "https://time.example/ntp") + iso,
  "http-head": clock("http-head:2014", "https://time.example/head"),
  "two URLs": clock("http-iso:2014", "https://a.example/ https://b.example/"),
};
(async () => {
  const seen = {};
  for (const [name, clocks] of Object.entries(CASES)) {
    mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" minBufferTime="PT2S"
      availabilityStartTime="${new Date(Date.now() - 40000).toISOString()}" minimumUpdatePeriod="PT2S">${clocks}<Period id="1" start="PT0S">
      <AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16">
      <SegmentTemplate media="$Number$.m4s" initialization="i.mp4" startNumber="1" duration="4"/></Representation></AdaptationSet></Period></MPD>`;
    seen[name] = { shaka: await shakaPlayer(), rxPlayer: rxPlayer(mpd), mpdParser: mpdParser(mpd) };
  }
  console.log(seen);
  const [second, none] = [["GET https://time.example/iso"], ["UNSUPPORTED_UTC_TIMING_SCHEME"]];
  const head = ["HEAD https://time.example/head"];
  const joined = "GET https://a.example/ https://b.example/";
  assert.deepEqual(seen, {
    "ntp, http-iso": { shaka: second, rxPlayer: second, mpdParser: none },
    "http-ntp, http-iso": { shaka: second, rxPlayer: second, mpdParser: none },
    "http-head": { shaka: head, rxPlayer: [], mpdParser: head },
    "two URLs": { shaka: ["GET https://a.example/%20https://b.example/"], rxPlayer: [joined], mpdParser: [joined] },
  });
  process.exit(0);
})();
EOF
node test.cjs 2>warnings
