#!/bin/sh
# hls.js, Shaka Player and mux.js find no stream in a transport stream whose PAT names the network PID first, as DVB's PATs do; no error.
#
# ISO/IEC 13818-1 section 2.4.4.5: an entry of the PAT with program_number 0 has the PID of the network information (in DVB the NIT, PID
# 16); it is no program, so that a segment still has a single one as HLS asks for (RFC 8216 section 3.2). One would expect a reader to go
# on to the first entry that is a program. The three take whatever entry is first for that of the PMT:
#        PAT: program 1                   hls.js, Shaka, mux.js and ts-demuxer find the audio
#        PAT: network, program 1          ts-demuxer finds it; hls.js, Shaka and mux.js find nothing, and say nothing
#        PAT: program 1, network          all find it
# Seen with hls.js 1.7.4, shaka-player 5.2.12, mux.js 7.1.0 (the one of Video.js) and ts-demuxer 1.1.1 (npm).
#
# Segments that are cut from a DVB service must get a PAT of their own with its program alone. A check that opens them with FFmpeg does not
# see the mistake; in the browser the picture stays black with all requests answered.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" hls.js@1.7.4 shaka-player@5.2.12 mux.js@7.1.0 ts-demuxer@1.1.1
cat >stream.cjs <<'EOF'
// A second of silent AAC in PES packets on PID 256, PMT on PID 4096.
const crc = (bytes) => {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) sum = sum & 0x80000000 ? (sum << 1) ^ 0x04c11db7 : sum << 1;
  }
  return [24, 16, 8, 0].map((shift) => (sum >>> shift) & 0xff);
};
const section = (table, body, current = 1) => {
  const length = body.length + 9;
  const bytes = [table, 0xb0 | (length >> 8), length & 0xff, 0, 1, 0xc0 | current, 0, 0, ...body];
  return [...bytes, ...crc(bytes)];
};
exports.section = section;
exports.stream = (pat, pmt) => {
  const packets = [];
  const counters = {};
  const packet = (pid, payload, starts) => {
    const count = (counters[pid] = ((counters[pid] ?? -1) + 1) & 15);
    const free = 184 - payload.length;
    const field = free === 0 ? [] : free === 1 ? [0] : [free - 1, 0, ...Array(free - 2).fill(0xff)];
    packets.push(0x47, (starts ? 0x40 : 0) | (pid >> 8), pid & 0xff, (free ? 0x30 : 0x10) | count, ...field, ...payload);
  };
  const sections = (pid, bytes) => {
    const payload = [0, ...bytes];
    while (payload.length % 184) payload.push(0xff);
    for (let at = 0; at < payload.length; at += 184) packet(pid, payload.slice(at, at + 184), at === 0);
  };
  const frame = [0xff, 0xf1, 0x4c, 0x40, 0x01, 0xbf, 0xfc, 0x00, 0xc8, 0x00, 0x80, 0x23, 0x80]; // ADTS, 48 kHz, mono
  sections(0, section(0, pat));
  sections(4096, pmt);
  for (let frames = 0; frames < 48; frames += 12) {
    const pts = 90000 + frames * 1920;
    const time = [0x21 | ((pts >> 29) & 0x0e), (pts >> 22) & 0xff, 1 | ((pts >> 14) & 0xfe), (pts >> 7) & 0xff, 1 | ((pts << 1) & 0xfe)];
    const audio = Array(12).fill(frame).flat();
    packet(256, [0, 0, 1, 0xc0, 0, audio.length + 8, 0x84, 0x80, 5, ...time, ...audio], true);
  }
  return Uint8Array.from(packets);
};
exports.audio = [0x0f, 0xe1, 0x00, 0xf0, 0x00];
exports.clock = [0xe1, 0x00];
EOF
cat >readers.cjs <<'EOF'
// The number of bytes of audio that each reader finds, of 624.
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
const { section, stream, audio, clock } = require("./stream.cjs");
const readers = require("./readers.cjs");
const [network, program] = [[0, 0, 0xe0, 16], [0, 1, 0xf0, 0x00]];
const pmt = section(2, [...clock, 0xf0, 0, ...audio]);
const seen = {};
for (const [name, pat] of Object.entries({ program, "network, program": [...network, ...program], "program, network": [...program, ...network] })) {
  const bytes = stream(pat, pmt);
  seen[name] = Object.fromEntries(Object.entries(readers).map(([reader, read]) => [reader, read(bytes)]));
  console.log(`PAT: ${name}:`, seen[name]);
}
const all = { hls: 624, shaka: 624, mux: 624, demuxer: 624 };
assert.deepStrictEqual(seen, { program: all, "network, program": { hls: 0, shaka: 0, mux: 0, demuxer: 624 }, "program, network": all });
EOF
node test.cjs
