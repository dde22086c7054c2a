#!/bin/sh
# hls.js, RxPlayer and pycaption take each time in a TTML caption for one of the media: below a body, div or p that begins at 10 s they are 10 s early.
#
# TTML2 section 12 (timing): the times of an element count from the begin of the element around it, and an element without an end ends with
# that one. Of documents with captions "a" and "b", by who reads them (imsc.js is the reader of IMSC's authors, and that of dash.js):
#                                                    imsc.js, Shaka Player      hls.js                         RxPlayer, pycaption
#        body from 10 s, p from 1 s to 3 s           11 to 13 s                 1 to 3 s                       1 to 3 s
#        div from 10 s to 60 s, p 1 to 3, 4 to 5     11 to 13, 14 to 15 s       1 to 3, 4 to 5, 10 to 60 s     1 to 3, 4 to 5 s
#        p from 10 s to 20 s, spans 1 to 2, 3 to 4   11 to 12, 13 to 14 s       1 to 2, 3 to 4, 10 to 20 s     10 to 20 s, both
#        div from 10 s to 12 s, p without times      10 to 12 s                 10 to 12 s                     error
#        p 1 to 3 s, p from 4 s on, body 30 s        1 to 3, 4 to 30 s          error, neither                 error, neither
# One would expect one answer from the players of a page: hls.js plays the same stpp segments as dash.js and Shaka. It shows what is inside a
# div with a begin twice. Seen with hls.js 1.7.4, shaka-player 5.2.12, rx-player 4.5.0, imsc 1.1.5 (npm) and pycaption 2.3.14 (PyPI).
#
# A live encoder that puts the segment's time on the body, and captions that build up word by word, are right in dash.js and wrong or twice in
# hls.js. Whoever writes TTML for more than one player puts begin and end of the media on each p, and nowhere else.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" hls.js@1.7.4 url-toolkit@2.2.5 eventemitter3@5.0.4 @svta/cml-id3@1.0.6 \
  shaka-player@5.2.12 rx-player@4.5.0 imsc@1.1.5 jsdom@26.1.0 esbuild@0.28.2
python3 -m venv venv
venv/bin/pip install -q pycaption==2.3.14
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
const inner = {
  body: '<body begin="10s"><div><p begin="1s" end="3s">a</p></div></body>',
  div: '<body><div begin="10s" end="60s"><p begin="1s" end="3s">a</p><p begin="4s" end="5s">b</p></div></body>',
  span: '<body><div><p begin="10s" end="20s"><span begin="1s" end="2s">a</span><span begin="3s" end="4s">b</span></p></div></body>',
  none: '<body><div begin="10s" end="12s"><p>a</p></div></body>',
  open: '<body dur="30s"><div><p begin="1s" end="3s">a</p><p begin="4s">b</p></div></body>',
};
const film = (body) => `<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en"><head/>${body}</tt>`;
const seen = Object.fromEntries(Object.entries(inner).map(([name, body]) => [name, read(film(body))]));
Object.entries(inner).forEach(([name, body]) => writeFileSync(`${name}.ttml`, film(body)));
console.log(seen);
const right = { body: "11 to 13 a", div: "11 to 13 a, 14 to 15 b", span: "11 to 12 a, 13 to 14 b", none: "10 to 12 a", open: "1 to 3 a, 4 to 30 b" };
const byHls = { body: "1 to 3 a", div: "10 to 60 ab, 1 to 3 a, 4 to 5 b", span: "10 to 20 ab, 1 to 2 a, 3 to 4 b", none: "10 to 12 a" };
const byRx = { body: "1 to 3 a", div: "1 to 3 a, 4 to 5 b", span: "10 to 20 ab", none: "error: Invalid text cue", open: "error: Invalid text cue" };
for (const [name, answers] of Object.entries(seen)) {
  assert.deepEqual([answers["imsc.js"], answers["Shaka Player"]], [right[name], right[name]]);
  assert.equal(answers["RxPlayer"], byRx[name]);
  if (name === "open") assert.match(answers["hls.js"], /^error: Could not parse ttml timestamp/);
  else assert.equal(answers["hls.js"], byHls[name]);
}
process.exit(0);
EOF
node test.cjs
cat >test.py <<'EOF'
import pycaption


def read(name):
    try:
        captions = pycaption.DFXPReader().read(open(f"{name}.ttml").read()).get_captions("en")
        return [(it.start / 1e6, it.end / 1e6, it.get_text()) for it in captions]
    except pycaption.CaptionReadError as error:
        return type(error).__name__


seen = {name: read(name) for name in ("body", "div", "span", "none", "open")}
print("pycaption:", seen)
assert seen["body"] == [(1, 3, "a")] and seen["div"] == [(1, 3, "a"), (4, 5, "b")] and seen["span"] == [(10, 20, "ab")]
assert seen["none"] == seen["open"] == "CaptionReadTimingError"
EOF
venv/bin/python test.py
