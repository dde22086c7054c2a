#!/bin/sh
# FFmpeg, hls.js, Shaka Player and mux.js take a packet of a transport stream that is sent twice for two pieces of the stream.
#
# ISO/IEC 13818-1 section 2.4.3.3: a packet with payload may be sent twice in a row, with the same continuity_counter; a sender does so to
# protect what is important, and a path with a copy of each datagram does so by itself. A decoder has to drop the second, which is why
# the counter does not count it. Of two seconds of AAC, whose packets are sent twice now and then (none with a clock reference):
#        FFmpeg             errors, corrupt packets, and another number of decoded samples
#        hls.js             "AAC PES did not start with ADTS header", and frames that are none
#        Shaka, mux.js      the payload twice, without an error
#        ts-demuxer         the same
# One would expect FFmpeg's check of the counter, which sees the second packet, to drop it: it marks it as corrupt and uses it all the same.
# Seen with FFmpeg 5.1.9 (Debian 12), hls.js 1.7.4, shaka-player 5.2.12, mux.js 7.1.0 and ts-demuxer 1.1.1 (npm).
#
# A headend that takes in transport streams has to drop repeated packets before anything is cut, packaged or passed on as HLS, and to
# count them apart from losses.
#
# Needs ffmpeg (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" hls.js@1.7.4 shaka-player@5.2.12 mux.js@7.1.0 ts-demuxer@1.1.1
ffmpeg -nostdin -v error -f lavfi -i sine=sample_rate=48000:d=2 -c:a aac -b:a 128k -f mpegts once.ts
cat >readers.cjs <<'EOF'
// What each reader finds: the bytes of audio, or its error.
const listeners = [];
let answers = [];
Object.assign(globalThis, { self: globalThis, window: globalThis, location: { href: "https://box.example/" } });
globalThis.document = { createElement: () => ({ canPlayType: () => "", style: {} }), documentElement: { style: {} }, addEventListener() {} };
globalThis.addEventListener = (name, listener) => name === "message" && listeners.push(listener);
globalThis.postMessage = (message) => answers.push(message);
for (const name of ["HTMLMediaElement", "HTMLElement", "Element"]) globalThis[name] = class {};
const browser = { userAgent: "", vendor: "", platform: "", language: "en", languages: ["en"] };
Object.defineProperty(globalThis, "navigator", { value: browser, configurable: true });
const { DefaultConfig } = require("hls.js");
const shaka = require("shaka-player/dist/shaka-player.compiled-es2021.debug.js");
const mux = require("mux.js");
const { TSDemuxer } = require("ts-demuxer");
listeners.length = 0;
require("hls.js/dist/hls.worker.js"); // in which hls.js takes transport streams apart

let instanceNo = 0;
exports.hls = (bytes) => {
  answers = [];
  instanceNo += 1;
  const times = () => ({ start: 0, executeStart: 0, executeEnd: 0, end: 0 });
  const buffering = { audio: times(), video: times(), audiovideo: times() };
  const chunkMeta = { level: 0, sn: 1, id: 1, part: -1, partial: false, transmuxing: times(), buffering, size: 1 };
  const state = { discontinuity: true, contiguous: false, timeOffset: 0, initSegmentChange: true };
  const tell = (cmd, more) => listeners[0]({ data: { instanceNo, cmd, id: "main", ...more } });
  tell("init", { typeSupported: { mpeg: true, mp3: true, ac3: false }, config: JSON.stringify(DefaultConfig) });
  tell("configure", { config: { audioCodec: "", videoCodec: "", duration: 1, defaultInitPts: null, defaultStart: 0 } });
  tell("demux", { data: bytes.slice().buffer, decryptdata: null, chunkMeta, state });
  tell("flush", { chunkMeta });
  const errors = answers.filter((answer) => answer.event === "hlsError").map((answer) => answer.data.reason);
  const found = answers.map((answer) => answer.data?.remuxResult?.audio).filter(Boolean);
  // Behind the 8 bytes of the header of mdat are the frames without their headers of ADTS.
  const sum = found.reduce((all, audio) => all + (audio.data2.byteLength - 8) + 7 * audio.nb, 0);
  return errors.length ? errors.join() : sum;
};
exports.shaka = (bytes) => new shaka.util.TsParser().parse(bytes).getAudioData().reduce((all, pes) => all + pes.data.length, 0);
exports.mux = (bytes) => {
  let sum = 0;
  const stages = [new mux.mp2t.TransportPacketStream(), new mux.mp2t.TransportParseStream(), new mux.mp2t.ElementaryStream()];
  stages[0].pipe(stages[1]).pipe(stages[2]);
  stages[2].on("data", (data) => (sum += data.type === "audio" ? data.data.length : 0));
  stages[0].push(bytes);
  stages[0].flush();
  return sum;
};
exports.demuxer = (bytes) => {
  let sum = 0;
  const demuxer = new TSDemuxer((packet) => (sum += packet.data.length));
  demuxer.process(bytes);
  demuxer.finalize();
  return sum;
};
EOF
cat >test.cjs <<'EOF'
const assert = require("assert");
const { readFileSync, writeFileSync } = require("fs");
const { spawnSync } = require("child_process");
const readers = require("./readers.cjs");
const once = readFileSync("once.ts");
const packets = [];
let repeated = 0;
for (let at = 0; at < once.length; at += 188) {
  const packet = once.subarray(at, at + 188);
  packets.push(packet);
  const isPayloadAlone = (packet[3] & 0x30) === 0x10 && (packet[1] & 0x5f) === 0x01 && packet[2] === 0; // PID 256, amid a PES packet
  if (isPayloadAlone && packet[3] % 5 === 0) repeated += packets.push(packet) && 1;
}
writeFileSync("twice.ts", Buffer.concat(packets));
const decoded = (file) => {
  const { stdout, stderr } = spawnSync("ffmpeg", ["-nostdin", "-v", "warning", "-i", file, "-f", "s16le", "-"], { maxBuffer: 1 << 26 });
  const lines = String(stderr).trim().split("\n").filter(Boolean);
  return { samples: stdout.length / 2, messages: lines.length, corrupt: lines.filter((line) => line.includes("corrupt")).length };
};
const found = ["once.ts", "twice.ts"].map((file) => {
  const bytes = new Uint8Array(readFileSync(file));
  return { ffmpeg: decoded(file), ...Object.fromEntries(Object.entries(readers).map(([reader, read]) => [reader, read(bytes)])) };
});
console.log(`${once.length / 188} packets, ${repeated} of them twice:`, ...found);
const [a, b] = found;
assert(repeated > 10 && a.ffmpeg.messages === 0 && a.shaka === a.mux && a.shaka === a.demuxer && a.hls === a.shaka);
assert(b.ffmpeg.messages > 10 && b.ffmpeg.corrupt > 10 && b.ffmpeg.samples !== a.ffmpeg.samples);
assert(String(b.hls).includes("did not start with ADTS header"));
for (const reader of ["shaka", "mux", "demuxer"]) assert(b[reader] > a[reader]);
EOF
node test.cjs
