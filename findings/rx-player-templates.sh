#!/bin/sh
# RxPlayer refuses or misreads MPDs whose segment information is on several levels, or whose template has two identifiers side by side.
#
# ISO/IEC 23009-1 clause 5.3.9.1: a Representation inherits the attributes and elements of SegmentTemplate and SegmentList from AdaptationSet and
# Period, one by one; a SegmentList has a SegmentTimeline or @duration. Clause 5.3.9.4.4: an identifier stands between two "$".
#                                                              Shaka Player, mpd-parser       RxPlayer
#        @duration in AdaptationSet, @media in Representation  i.mp4, 1.m4s ...               "Invalid SegmentTemplate: no duration"
#        SegmentTimeline there, @media in Representation       i.mp4, 1.m4s ...               the same
#        @duration in Period, @media in AdaptationSet          i.mp4, 5.m4s ...               the same
#        SegmentList with @duration in AdaptationSet           i.mp4, 1.m4s ...               "Invalid SegmentList: no duration"
#        SegmentList with a SegmentTimeline                    i.mp4, 1.m4s ...               the same
#        media="$RepresentationID$$Number$.m4s"                v1.m4s v2.m4s ...              vNumber$.m4s, each time
# The other way round, attributes in AdaptationSet and the timeline in Representation, it reads. The error is of the whole MPD.
# Seen with rx-player 4.5.0, shaka-player 5.2.12 and mpd-parser 1.4.0 (npm).
#
# Who shortens an MPD by moving what is common to an outer level, or leaves the media names of one Representation in it, takes it away from
# these players alone. Names are best written with a separator between identifiers, and segment information on one level.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" rx-player@4.5.0 shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
cat >test.cjs <<'EOF'
const assert = require("node:assert");
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

const film = (period, adaptation, representation) => `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011"
  type="static" minBufferTime="PT2S" mediaPresentationDuration="PT12S"><Period id="1">${period}<AdaptationSet contentType="video" mimeType="video/mp4">
  ${adaptation}<Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16">${representation}</Representation></AdaptationSet>
  </Period></MPD>`;
const timeline = '<SegmentTimeline><S t="0" d="4" r="2"/></SegmentTimeline>';
const media = '<SegmentTemplate media="$Number$.m4s"/>';
const list = '<Initialization sourceURL="i.mp4"/>';
const urls = [1, 2, 3].map((number) => `<SegmentURL media="${number}.m4s"/>`).join("");
const right = ["i.mp4", "1.m4s", "2.m4s", "3.m4s"];
const [noTemplate, noList] = ["Template", "List"].map((kind) => [`Invalid Segment${kind}: no duration`]);
const cases = {
  "timeline within": [
    film("", '<SegmentTemplate initialization="i.mp4" media="$Number$.m4s"/>', `<SegmentTemplate>${timeline}</SegmentTemplate>`),
    right,
    right,
  ],
  "duration in AdaptationSet": [film("", '<SegmentTemplate duration="4" initialization="i.mp4"/>', media), right, noTemplate],
  "timeline in AdaptationSet": [film("", `<SegmentTemplate initialization="i.mp4">${timeline}</SegmentTemplate>`, media), right, noTemplate],
  "duration in Period": [
    film('<SegmentTemplate duration="4" startNumber="5"/>', '<SegmentTemplate initialization="i.mp4" media="$Number$.m4s"/>', ""),
    ["i.mp4", "5.m4s", "6.m4s", "7.m4s"],
    noTemplate,
  ],
  "list in AdaptationSet": [film("", `<SegmentList duration="4">${list}</SegmentList>`, `<SegmentList>${urls}</SegmentList>`), right, noList],
  "list with timeline": [film("", "", `<SegmentList>${list}${timeline}${urls}</SegmentList>`), right, noList],
  "two identifiers": [
    film("", "", '<SegmentTemplate duration="4" initialization="i.mp4" media="$RepresentationID$$Number$.m4s"/>'),
    ["i.mp4", "v1.m4s", "v2.m4s", "v3.m4s"],
    ["i.mp4", "vNumber$.m4s", "vNumber$.m4s", "vNumber$.m4s"],
  ],
};
(async () => {
  for (const [name, [mpd, expected, byRx]] of Object.entries(cases)) {
    const seen = [rxPlayerFinds(mpd), mpdParserFinds(mpd), await shakaAsks(mpd)];
    console.log(`${name}:`, ...seen.map((urls) => urls.join(" ")));
    // Shaka begins a film with two segments.
    assert.deepEqual(seen, [byRx, expected, expected.slice(0, 3)]);
  }
  process.exit(0);
})();
EOF
node test.cjs
