#!/bin/sh
# Six of seven readers of DASH play what an EssentialProperty forbids them: video.js takes the pictures for winding as its lowest rendition.
#
# ISO/IEC 23009-1 clause 5.8.4.8: an element with an EssentialProperty whose scheme a client does not know must be ignored. DASH-IF marks the pictures
# for winding so (http://dashif.org/guidelines/trickmode), others tiles of a picture, or what is for one kind of box. Of a film at 900 kbit/s, its
# pictures for winding at 100 kbit/s and an AdaptationSet of 2 Mbit/s with an unknown scheme:
#        Shaka Player 5.2.12                film
#        RxPlayer 4.5.0                     film, unknown
#        mpd-parser 1.4.0 (video.js)        film, unknown, winding
#        FFmpeg 5.1.9                       film, unknown, winding
#        yt-dlp 2026.10.26                  film, unknown, winding; "bestvideo" is the unknown one
#        Streamlink 8.6.3                   "best" is the unknown one, "worst" the winding
# One would expect the one descriptor that is made for clients that do not know it to be read by all. No warning. (FFmpeg of Debian 12, the others of npm
# and PyPI.)
#
# On a slow link video.js shows a picture each few seconds without an error, and recorders take the layer that only a special decoder can show. For
# such clients these sets have to be in an MPD of their own; a cache sees requests for trick play that nobody made.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" rx-player@4.5.0 shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
python3 -m venv venv
venv/bin/pip install -q streamlink==8.6.3 yt-dlp==2026.10.26
ffmpeg -nostdin -v error -f lavfi -i testsrc=size=160x120:rate=25:duration=8 -c:v libx264 -preset ultrafast -g 100 -f dash -seg_duration 4 \
  -init_seg_name init.mp4 -media_seg_name '$Number$.m4s' made.mpd
cat >film.cjs <<'EOF'
const set = (name, bandwidth, property) => `<AdaptationSet id="${bandwidth}" contentType="video" mimeType="video/mp4" codecs="avc1.42c00b">${property}
  <Representation id="${name}" bandwidth="${bandwidth}" width="160" height="120"><SegmentTemplate media="${name}-$Number$.m4s" initialization="${name}-0.mp4"
  startNumber="1" duration="4"/></Representation></AdaptationSet>`;
const essential = (scheme, value) => `<EssentialProperty schemeIdUri="${scheme}" value="${value}"/>`;
module.exports = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" minBufferTime="PT2S"
  mediaPresentationDuration="PT8S"><Period id="1">${set("film", 900000, "")}
  ${set("winding", 100000, essential("http://dashif.org/guidelines/trickmode", "900000"))}
  ${set("unknown", 2000000, essential("https://example.com/only-for-our-boxes", "1"))}</Period></MPD>`;
EOF
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const { execFile } = require("node:child_process");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const mpd = require("./film.cjs");
const readMpd = require("./node_modules/rx-player/dist/commonjs/parsers/manifest/dash/js-parser/parse_from_xml_string.js").default;
const sorted = (names) => [...new Set(names)].sort();

function rxPlayer() {
  const { parsed } = readMpd(mpd, { url: "https://box.example/film.mpd" }).value;
  return sorted(parsed.periods[0].adaptations.video.flatMap(({ representations }) => representations.map(({ id }) => id)));
}

function mpdParser() {
  return sorted(require("mpd-parser").parse(mpd, { manifestUri: "https://box.example/film.mpd" }).playlists.map(({ attributes }) => attributes.NAME));
}

async function shaka() {
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
  // The interface of ABR managers is public: it gets what there is to choose from.
  let choice = [];
  class Manager extends shaka.abr.SimpleAbrManager {
    setVariants(variants) {
      choice = variants.map(({ video }) => video.originalId);
      return super.setVariants(variants);
    }
  }
  player.configure("abrFactory", () => new Manager());
  const preload = await player.preload("https://box.example/film.mpd", null, "application/dash+xml");
  await Promise.race([preload.waitForFinish(), new Promise((resolve) => setTimeout(resolve, 2000))]);
  return sorted(choice);
}

// What the others ask for or list, from a server that has each segment.
async function others() {
  const asked = [];
  const server = http.createServer((request, response) => {
    const name = request.url.slice(1);
    if (name === "film.mpd") return response.end(mpd);
    const [representation, number] = name.split(/[-.]/);
    asked.push(representation);
    if (number > 2) return response.writeHead(404).end();
    response.end(readFileSync(number === "0" ? "init.mp4" : `${number}.m4s`));
  });
  await new Promise((then) => server.listen(0, "127.0.0.1", then));
  const url = `http://127.0.0.1:${server.address().port}/film.mpd`;
  const run = (...command) => new Promise((then) => execFile(command[0], command.slice(1), { timeout: 60000 }, (_, out) => then(out)));
  await run("ffmpeg", "-nostdin", "-v", "quiet", "-i", url, "-map", "0", "-c", "copy", "-f", "null", "-");
  const ffmpeg = sorted(asked.splice(0));
  await run("venv/bin/yt-dlp", "-q", "--ignore-config", "-f", "bestvideo", "-o", "best.mp4", url);
  const ytDlpBest = sorted(asked.splice(0));
  const ytDlp = sorted(JSON.parse(await run("venv/bin/yt-dlp", "-q", "--ignore-config", "-J", url)).formats.map(({ format_id: id }) => id));
  await run("venv/bin/streamlink", "--no-config", "-o", "out.mp4", url, "best");
  const streamlinkBest = sorted(asked.splice(0));
  await run("venv/bin/streamlink", "--no-config", "-o", "out2.mp4", url, "worst");
  const streamlinkWorst = sorted(asked.splice(0));
  server.close();
  return { ffmpeg, ytDlp, ytDlpBest, streamlinkBest, streamlinkWorst };
}

(async () => {
  const found = { shaka: await shaka(), mpdParser: mpdParser(), rxPlayer: rxPlayer(), ...(await others()) };
  console.log(found);
  const all = ["film", "unknown", "winding"];
  assert.deepEqual(found, {
    shaka: ["film"],
    mpdParser: all,
    rxPlayer: ["film", "unknown"],
    ffmpeg: all,
    ytDlp: all,
    ytDlpBest: ["unknown"],
    streamlinkBest: ["unknown"],
    streamlinkWorst: ["winding"],
  });
  process.exit(0);
})();
EOF
node test.cjs
