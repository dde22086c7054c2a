#!/bin/sh
# Shaka Player and mpd-parser refuse an MPD that Python's ElementTree has written, for its namespace prefix.
#
# xml.etree.ElementTree gives every namespace a prefix of its own when it writes: the MPD that was read as <MPD xmlns="..."> becomes
# <ns0:MPD xmlns:ns0="...">, the same document by "Namespaces in XML". One would expect players to read XML with a parser that knows
# namespaces. Two of the three look for an element of the literal name "MPD":
#        Shaka Player 5.2.12            error 4001, DASH_INVALID_XML
#        mpd-parser 1.4.0 (video.js)    DASH_INVALID_XML
#        dash.js 5.2.1                  plays it
# Seen with Python 3.11 and those packages of npm. ET.register_namespace("", "urn:mpeg:dash:schema:mpd:2011") prevents the prefix.
#
# Whoever rewrites a manifest (base URLs of a box, ad breaks, dropped representations) has to keep the default namespace, though no
# validator asks for it; and a reader of MPD, DVB-I or MABR documents has to take both forms, since Java and Python write prefixes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
cat >film.mpd <<'EOF'
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" minBufferTime="PT2S"
    mediaPresentationDuration="PT8S"><Period id="1"><AdaptationSet mimeType="video/mp4"><Representation id="v" bandwidth="1000"
    codecs="avc1.4d401e" width="16" height="16"><SegmentTemplate media="$Number$.m4s" initialization="i.mp4" timescale="1"
    duration="4" /></Representation></AdaptationSet></Period></MPD>
EOF
python3 -c 'import xml.etree.ElementTree as ET; ET.parse("film.mpd").write("again.mpd")'
head -c 300 again.mpd
echo
grep -q '^<ns0:MPD xmlns:ns0="urn:mpeg:dash:schema:mpd:2011"' again.mpd
cat >test.cjs <<'EOF'
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
  const found = {};
  for (const name of ["film.mpd", "again.mpd"]) {
    const text = require("fs").readFileSync(name, "utf8");
    found[name] = { shaka: (await shakaAsks(text)).join(" "), mpdParser: mpdParserFinds(text).join(" ") };
  }
  console.log(found);
  const good = found["film.mpd"].shaka === "i.mp4 1.m4s 2.m4s" && found["film.mpd"].mpdParser === "i.mp4 1.m4s 2.m4s";
  const refused = found["again.mpd"].shaka === "4001" && found["again.mpd"].mpdParser === "DASH_INVALID_XML";
  process.exit(good && refused ? 0 : 1);
})();
EOF
node test.cjs
