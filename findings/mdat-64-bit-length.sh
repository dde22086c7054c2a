#!/bin/sh
# hls.js, video.js's mux.js and pymp4 stop reading a segment at an mdat whose length has 64 bits: four chunks of a second are one second.
#
# ISO/IEC 14496-12 section 4.2: a box whose size is 1 has its length in the 64 bits behind its type; a writer may do so for any length, and one
# that reserves the place before it knows the length needs them. A segment of CMAF has an mdat for each chunk. Four seconds of AAC in chunks of one, an
# emsg before the last; the same with such lengths:
#                                         mdat of 32 bits      mdat of 64 bits
#        hls.js 1.7.4                     0 to 4.02 s          0 to 1.00 s
#        mux.js 7.1.0, boxes found        5 moof, 1 emsg       1 moof, no emsg
#        pymp4 1.4.0                      5 moof, 1 emsg       1 moof, and nothing behind it
#        codem-isoboxer, mp4box.js        5 moof, 1 emsg       5 moof, 1 emsg
#        FFmpeg                           189 packets          189 packets
# One would expect the oldest part of the format to be known to all, or an error. mux.js and hls.js take every size below 2 for "to the end of
# the file", pymp4 gives a list that ends. Seen with FFmpeg 5.1.9 (Debian 12) and those packages of npm and PyPI.
#
# hls.js hands all bytes to the browser, and believes the segment to be three seconds shorter than what is played. Video.js looks for events and
# captions by that function of mux.js and sees those of the first chunk alone. Who writes chunks should write their length in 32 bits.
#
# Needs ffmpeg and ffprobe (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" hls.js@1.7.4 mux.js@7.1.0 codem-isoboxer@0.3.10 mp4box@2.4.1
python3 -m venv venv
venv/bin/pip install -q pymp4==1.4.0
ffmpeg -v error -f lavfi -i sine=r=48000:d=4 -c:a aac -b:a 64k -movflags empty_moov+default_base_moof -frag_duration 1000000 -f mp4 film.mp4
cat >segments.cjs <<'EOF'
const fs = require("fs");
const film = fs.readFileSync("film.mp4");
const boxes = [];
for (let at = 0; at < film.length; at += film.readUInt32BE(at)) {
  boxes.push({ type: film.toString("latin1", at + 4, at + 8), bytes: film.subarray(at, at + film.readUInt32BE(at)) });
}
const of = (...types) => boxes.filter((box) => types.includes(box.type));
const init = Buffer.concat(of("ftyp", "moov").map((box) => box.bytes));
const text = Buffer.from("urn:example:event\0" + "1\0", "latin1");
const event = Buffer.alloc(12 + text.length + 16);
event.writeUInt32BE(event.length);
event.write("emsg", 4);
text.copy(event, 12);
event.writeUInt32BE(1000, 12 + text.length);
const large = ({ type, bytes }) => {
  if (type === "mdat") {
    const head = Buffer.alloc(16);
    head.writeUInt32BE(1);
    head.write("mdat", 4);
    head.writeBigUInt64BE(BigInt(bytes.length + 8), 8);
    return Buffer.concat([head, bytes.subarray(8)]);
  }
  const copy = Buffer.from(bytes); // the data begins 8 bytes later
  const offset = copy.indexOf("trun") + 12;
  copy.writeInt32BE(copy.readInt32BE(offset) + 8, offset);
  return copy;
};
const chunks = of("moof", "mdat");
const segment = (write) => {
  const parts = chunks.map(write);
  return Buffer.concat([...parts.slice(0, -2), event, ...parts.slice(-2)]);
};
fs.writeFileSync("init", init);
fs.writeFileSync("32", segment((box) => box.bytes));
fs.writeFileSync("64", segment(large));
EOF
node segments.cjs
cat >hls.cjs <<'EOF'
// The worker in which hls.js takes segments apart.
const fs = require("fs");
const listeners = [];
let answers = [];
Object.assign(globalThis, { self: globalThis, window: globalThis, location: { href: "https://box.example/" } });
globalThis.document = { createElement: () => ({ canPlayType: () => "", style: {} }), documentElement: { style: {} }, addEventListener() {} };
globalThis.addEventListener = (name, listener) => name === "message" && listeners.push(listener);
globalThis.postMessage = (message) => answers.push(message);
const browser = { userAgent: "", vendor: "", platform: "", language: "en", languages: ["en"] };
Object.defineProperty(globalThis, "navigator", { value: browser, configurable: true });
const { DefaultConfig } = require("hls.js");
listeners.length = 0;
require("hls.js/dist/hls.worker.js");

let instanceNo = 0;
module.exports = (name) => {
  answers = [];
  instanceNo += 1;
  const times = () => ({ start: 0, executeStart: 0, executeEnd: 0, end: 0 });
  const buffering = { audio: times(), video: times(), audiovideo: times() };
  const chunkMeta = { level: 0, sn: 1, id: 1, part: -1, partial: false, transmuxing: times(), buffering, size: 1 };
  const state = { discontinuity: true, contiguous: false, timeOffset: 0, initSegmentChange: true, accurateTimeOffset: true, trackSwitch: true };
  const tell = (cmd, more) => listeners[0]({ data: { instanceNo, cmd, id: "main", ...more } });
  tell("init", { typeSupported: { mpeg: true, mp3: true, ac3: false }, config: JSON.stringify(DefaultConfig) });
  const initSegmentData = new Uint8Array(fs.readFileSync("init"));
  tell("configure", { config: { audioCodec: "", videoCodec: "", duration: 4, defaultInitPts: null, initSegmentData } });
  tell("demux", { data: new Uint8Array(fs.readFileSync(name)).buffer, decryptdata: null, chunkMeta, state });
  tell("flush", { chunkMeta });
  const { startPTS, endPTS } = answers.map((answer) => answer.data?.remuxResult?.audio).find(Boolean);
  return [startPTS, endPTS.toFixed(2)];
};
EOF
cat >test.cjs <<'EOF'
const assert = require("assert");
const fs = require("fs");
const find = require("mux.js/lib/mp4/find-box.js");
const ISOBoxer = require("codem-isoboxer");
const { createFile } = require("mp4box");
const hls = require("./hls.cjs");
const bytes = (name) => new Uint8Array(fs.readFileSync(name));
const count = (types) => [types.filter((type) => type === "moof").length, types.filter((type) => type === "emsg").length];
for (const [name, seen, found] of [["32", [0, "4.02"], [5, 1]], ["64", [0, "1.00"], [1, 0]]]) {
  const file = createFile();
  file.appendBuffer(Object.assign(bytes(name).buffer, { fileStart: 0 }));
  file.flush();
  const mux = [find(bytes(name), ["moof"]).length, find(bytes(name), ["emsg"]).length];
  console.log(`mdat of ${name} bits: hls.js`, hls(name), "mux.js", mux);
  assert.deepEqual([hls(name), mux], [seen, found]);
  assert.deepEqual(count(ISOBoxer.parseBuffer(bytes(name).buffer).boxes.map((box) => box.type)), [5, 1]);
  assert.deepEqual(count(file.boxes.map((box) => box.type)), [5, 1]);
}
EOF
node test.cjs
cat >test.py <<'EOF'
from pymp4.parser import MP4

for name, seen in (("32", [b"moof", b"mdat"] * 4 + [b"emsg", b"moof", b"mdat"]), ("64", [b"moof"])):
    with open(name, "rb") as file:
        types = [box.type for box in MP4.parse(file.read())]
    print(f"mdat of {name} bits: pymp4", types)
    assert types == seen
EOF
venv/bin/python test.py
for bits in 32 64; do
  cat init $bits >film-$bits.mp4
  packets=$(ffprobe -v error -count_packets -show_entries stream=nb_read_packets -of csv=p=0 film-$bits.mp4)
  echo "mdat of $bits bits: FFmpeg $packets packets"
  [ "$packets" -eq 189 ]
done
