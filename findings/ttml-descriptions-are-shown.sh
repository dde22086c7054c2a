#!/bin/sh
# hls.js, Shaka Player and pycaption show what TTML says about a caption as a part of the caption.
#
# TTML2 section 14 (metadata): metadata and the elements within, ttm:desc and ttm:agent for example, may stand in any element of the content, a p
# as well, and are not content. Of <p><metadata><ttm:desc>shout</ttm:desc></metadata>Stop!</p>, the same without "metadata" around it, and
# one with an element of an encoder's own in its place, <e:row>14</e:row>:
#        imsc.js 1.1.5 (dash.js), RxPlayer 4.5.0, ttconv 1.2.3     Stop!          Stop!          Stop!
#        hls.js 1.7.4, pycaption 2.3.14                            shoutStop!     shoutStop!     14Stop!
#        Shaka Player 5.2.12                                       shout, Stop!   shout, Stop!   14, Stop!
# One would expect text of other namespaces to be left out, as imsc.js does. In Shaka it is a caption of its own, at the same time. Seen with those
# versions (npm; pycaption and ttconv of PyPI).
#
# Captioning systems write notes, rows of teletext and names of speakers there, and viewers read them in two of the three players that take
# the segments. Whoever passes on captions from such a system takes the metadata out of the body; validators of IMSC find nothing wrong.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" hls.js@1.7.4 url-toolkit@2.2.5 eventemitter3@5.0.4 @svta/cml-id3@1.0.6 \
  shaka-player@5.2.12 rx-player@4.5.0 imsc@1.1.5 jsdom@26.1.0 esbuild@0.28.2
python3 -m venv venv
venv/bin/pip install -q pycaption==2.3.14 ttconv==1.2.3
# The reader of hls.js, from the sources in its package.
echo 'export { parseIMSC1 } from "./node_modules/hls.js/src/utils/imsc1-ttml-parser";' >entry.mjs
node node_modules/esbuild/install.js
node_modules/.bin/esbuild entry.mjs --bundle --format=cjs --platform=node --log-level=error --define:__USE_M2TS_ADVANCED_CODECS__=false --outfile=hls.cjs
cat >readers.cjs <<'EOF'
// The captions that each reader finds, as [begin, end, text], or its error.
const { JSDOM } = require("jsdom");
const { window } = new JSDOM("<video></video>", { url: "https://box.example/" });
window.MediaSource = class extends window.EventTarget {
  static isTypeSupported() {
    return true;
  }
};
const classes = ["DOMParser", "Node", "Element", "HTMLElement", "HTMLMediaElement", "HTMLVideoElement", "Event", "EventTarget", "Text", "MediaSource"];
["document", "location", ...classes].forEach((name) => (globalThis[name] = window[name]));
globalThis.window = globalThis.self = window;
const browser = { userAgent: "Chrome/140.0.0.0 Safari/537.36", vendor: "Google Inc.", language: "en", platform: "Linux" };
[window, globalThis].forEach((it) => Object.defineProperty(it, "navigator", { value: browser, configurable: true }));
window.getComputedStyle = () => ({});
globalThis.VTTCue = window.VTTCue = class {
  constructor(startTime, endTime, text) {
    Object.assign(this, { startTime, endTime, text });
  }
};
const shaka = require("shaka-player");
const imsc = require("imsc");
const { parseIMSC1 } = require("./hls.cjs");
const rxPlayer = require("./node_modules/rx-player/dist/commonjs/parsers/texttracks/ttml/html/parse_ttml_to_div.js").default;

function readHls(text) {
  const body = Buffer.from(text);
  const box = Buffer.concat([Buffer.alloc(8), body]);
  box.writeUInt32BE(box.length);
  box.write("mdat", 4);
  let found, failed;
  const bytes = box.buffer.slice(box.byteOffset, box.byteOffset + box.length);
  parseIMSC1(bytes, { baseTime: 0, timescale: 1 }, (cues) => (found = cues), (error) => (failed = error));
  if (failed) throw failed;
  return found.map((cue) => [cue.startTime, cue.endTime, cue.text]);
}

function readShaka(text) {
  const parser = new (shaka.text.TextEngine.findParser("application/ttml+xml"))();
  const time = { periodStart: 0, segmentStart: 0, segmentEnd: 1000, vttOffset: 0 };
  const found = [];
  const visit = (cue) => {
    if (cue.nestedCues.length) cue.nestedCues.forEach(visit);
    else if (cue.payload.trim()) found.push([cue.startTime, cue.endTime, cue.payload]);
  };
  parser.parseMedia(new Uint8Array(Buffer.from(text)), time, "", "", []).forEach(visit);
  return found;
}

const readRx = (text) => rxPlayer(text, {}, 0).map((cue) => [cue.start, cue.end, cue.element.textContent]);

// What imsc.js shows between each two of its times.
function readImsc(text) {
  const film = imsc.fromXML(text);
  const times = film.getMediaTimeEvents();
  const textOf = (node) => node.text ?? (node.contents ?? []).map(textOf).join("");
  const shown = times.map((begin, at) => [+begin, +times[at + 1], textOf(imsc.generateISD(film, begin))]);
  return shown.filter(([, , text]) => text);
}

exports.readers = { "hls.js": readHls, "Shaka Player": readShaka, "RxPlayer": readRx, "imsc.js": readImsc };
exports.read = (text) => {
  const all = Object.entries(exports.readers).map(([name, reader]) => {
    try {
      return [name, reader(text).map(([begin, end, text]) => `${+begin.toFixed(3)} to ${+end.toFixed(3)} ${text}`).join(", ")];
    } catch (error) {
      return [name, `error: ${error.code ?? error.message}`];
    }
  });
  return Object.fromEntries(all);
};
EOF
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const { writeFileSync } = require("node:fs");
const { read } = require("./readers.cjs");
const film = (note) => `<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xmlns:e="urn:example:encoder" xml:lang="en">
  <head/><body><div><p begin="1s" end="3s">${note}Stop!</p></div></body></tt>`;
const notes = {
  within: "<metadata><ttm:desc>shout</ttm:desc></metadata>",
  bare: "<ttm:desc>shout</ttm:desc>",
  own: "<metadata><e:row>14</e:row></metadata>",
};
for (const [name, note] of Object.entries(notes)) {
  writeFileSync(`${name}.ttml`, film(note));
  const seen = read(film(note));
  console.log(note, seen);
  const text = name === "own" ? "14" : "shout";
  assert.deepEqual(seen, {
    "hls.js": `1 to 3 ${text}Stop!`,
    "Shaka Player": `1 to 3 ${text}, 1 to 3 Stop!`,
    "RxPlayer": "1 to 3 Stop!",
    "imsc.js": "1 to 3 Stop!",
  });
}
process.exit(0);
EOF
node test.cjs
cat >test.py <<'EOF'
import pycaption

for name, text in {"within": "shout", "bare": "shout", "own": "14"}.items():
    seen = [it.get_text() for it in pycaption.DFXPReader().read(open(f"{name}.ttml").read()).get_captions("en")]
    print("pycaption:", seen)
    assert seen == [f"{text}Stop!"]
EOF
venv/bin/python test.py
for name in within bare own; do
  venv/bin/tt convert -i "$name.ttml" -o "$name.vtt" >/dev/null 2>&1
  [ "$(tail -n 1 "$name.vtt")" = "Stop!" ]
done
