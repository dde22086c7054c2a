#!/bin/sh
# Shaka Player does not decode the XML entities of Representation@id, so that it asks for files under another name.
#
# In XML the attribute id="R&amp;B" has the value R&B (XML 1.0 section 3.3.3), and $RepresentationID$ puts that value into the URL (ISO/IEC
# 23009-1 section 5.3.9.4.4). Shaka Player decodes entities in @media, @initialization and BaseURL, but not in the id:
#        media="$RepresentationID$/$Number$.m4s"   Shaka Player: R&amp;B/1.m4s   mpd-parser and dash.js: R&B/1.m4s
#        media="R&amp;B/$Number$.m4s"              all three: R&B/1.m4s
# Seen with Shaka Player 5.2.12 and mpd-parser 1.4.0 (npm).
#
# Ids made from names of tracks or channels meet this. The packager's files, the other players and the headend agree on one name; the
# requests for the other one are misses at the cache and 404 at the origin, from one kind of player only.
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
  const template = (folder) => `<SegmentTemplate media="${folder}/$Number$.m4s" initialization="${folder}/i.mp4" timescale="1" duration="4"/>`;
  const byId = mpd('id="R&amp;B"', template("$RepresentationID$"));
  const byName = mpd('id="v"', template("R&amp;B"));
  const found = [await shakaAsks(byId), mpdParserFinds(byId), await shakaAsks(byName), mpdParserFinds(byName)].map((urls) => urls.join(" "));
  console.log(found);
  const right = "R&B/i.mp4 R&B/1.m4s R&B/2.m4s";
  const wrong = "R&amp;B/i.mp4 R&amp;B/1.m4s R&amp;B/2.m4s";
  process.exit(found.join() === [wrong, right, right, right].join() ? 0 : 1);
})();
EOF
node test.cjs
