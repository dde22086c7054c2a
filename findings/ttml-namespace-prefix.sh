#!/bin/sh
# hls.js, Shaka Player and pycaption find no caption in EBU-TT-D as EBU writes it, with the prefix "tt:".
#
# EBU Tech 3380 shows all its documents as <tt:tt xmlns:tt="http://www.w3.org/ns/ttml">; by "Namespaces in XML" it is the same document as
# without the prefix. One would expect readers of the format that European broadcasters exchange to know the form of its specification:
#                                                         with <tt:tt>                  p:frameRate="25", 1 s and 24 frames
#        imsc.js 1.1.5 (dash.js)                          1 to 3 s                      1.96 s
#        RxPlayer 4.5.0                                   1 to 3 s                      1.8 s
#        hls.js 1.7.4                                     error, "Invalid ttml"         1.8 s
#        Shaka Player 5.2.12                              error 2005, INVALID_XML       1.96 s
#        pycaption 2.3.14 (PyPI)                          CaptionReadNoCaptions         1.8 s
# The frame rate is in the namespace of TTML's parameters, whose usual prefix is "ttp:" (the others are of npm).
#
# A channel with the captions of a broadcaster has them in dash.js and none in hls.js or Shaka, from the same segments. Who passes TTML on to
# players of more than one kind has to have it written with the default namespace and the usual prefixes; no validator of TTML asks for it.
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
const p = '<p begin="00:00:01.000" end="00:00:03.000">a</p>';
const plain = `<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en"><head/><body><div>${p}</div></body></tt>`;
const prefixed = plain.replace("xmlns", "xmlns:tt").replace(/<(\/?)(?=[a-z])/g, "<$1tt:");
const frames = (prefix) =>
  plain
    .replace("xml:lang", `xmlns:${prefix}="http://www.w3.org/ns/ttml#parameter" ${prefix}:frameRate="25" xml:lang`)
    .replace("00:00:01.000", "00:00:01:24");
const films = { plain, prefixed, usual: frames("ttp"), other: frames("p") };
Object.entries(films).forEach(([name, text]) => writeFileSync(`${name}.ttml`, text));
console.log(prefixed);
const seen = Object.fromEntries(Object.entries(films).map(([name, text]) => [name, read(text)]));
console.log(seen);
const all = (text) => ({ "hls.js": text, "Shaka Player": text, "RxPlayer": text, "imsc.js": text });
assert.deepEqual(seen.plain, all("1 to 3 a"));
assert.deepEqual(seen.prefixed, { ...all("1 to 3 a"), "hls.js": "error: Invalid ttml", "Shaka Player": "error: 2005" });
assert.deepEqual(seen.usual, all("1.96 to 3 a"));
assert.deepEqual(seen.other, { ...all("1.96 to 3 a"), "hls.js": "1.8 to 3 a", "RxPlayer": "1.8 to 3 a" });
process.exit(0);
EOF
node test.cjs
cat >test.py <<'EOF'
import pycaption


def begin(name):
    try:
        return pycaption.DFXPReader().read(open(f"{name}.ttml").read()).get_captions("en")[0].start / 1e6
    except pycaption.CaptionReadError as error:
        return type(error).__name__


seen = {name: begin(name) for name in ("plain", "prefixed", "usual", "other")}
print("pycaption:", seen)
assert seen == {"plain": 1, "prefixed": "CaptionReadNoCaptions", "usual": 1.96, "other": 1.8}
EOF
venv/bin/python test.py
