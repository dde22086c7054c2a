#!/bin/sh
# The box libraries of dash.js and of SVTA misread boxes of version 1 that CMAF needs: cbcs encryption, empty edits, and "duration unknown".
#
# ISO/IEC 14496-12 and 23001-7 give a second version to many boxes, for 64-bit times or new fields. Parsed and written again:
#                                           codem-isoboxer 0.3.10            @svta/cml-iso-bmff 1.0.6
#        tenc 1: 1 of 10 blocks encrypted,  default_IsEncrypted 6401, IV     the same, and the constant IV is cut off
#        no IV, a constant IV of 16 bytes   size 0; written as it was        when it is written: 32 of 49 bytes
#        elst 1: media_time -1              -4294967297, and written so      the same
#        mdhd 1: duration all ones          written as 0                     written as 0
#        pssh 1: two key IDs, no data       two bytes of data, no key ID     an exception
#        payl of a WebVTT cue: "Hi"         as it was                        written as "Hi" and a zero byte
# The same boxes of version 0 are right in both. One would expect version 1 to be what a library for CMAF is tried with: cbcs is always tenc 1,
# and a writer that has 64-bit times writes elst 1. No error but that of pssh. Seen with those packages of npm.
#
# Whatever edits segments with them breaks what it did not touch: an init segment without its IV plays nowhere, an edit that was a gap
# has a media time that means nothing. Pass boxes on as bytes, and check a rewritten init segment by another reader.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" codem-isoboxer@0.3.10 @svta/cml-iso-bmff@1.0.6
cat >test.mjs <<'EOF'
import assert from "assert";
import ISOBoxer from "codem-isoboxer";
import { defaultReaderConfig, defaultWriterConfig, readIsoBoxes, writeIsoBoxes } from "@svta/cml-iso-bmff";

const box = (type, hex) => {
  const body = Buffer.from(hex.replaceAll(" ", ""), "hex");
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + body.length);
  head.write(type, 4, "latin1");
  return Buffer.concat([head, body]);
};
const bytes = (buffer) => new Uint8Array(buffer).buffer;
const isoboxer = (buffer) => {
  const file = ISOBoxer.parseBuffer(bytes(buffer));
  return [file.boxes[0], Buffer.from(file.write())];
};
const cml = (buffer) => {
  const boxes = readIsoBoxes(bytes(buffer), defaultReaderConfig());
  const parts = [writeIsoBoxes(boxes, defaultWriterConfig())].flat();
  return [boxes[0], Buffer.concat(parts.map((part) => Buffer.from(part.buffer ?? part, part.byteOffset ?? 0, part.byteLength)))];
};
const both = (buffer, name) => {
  const [first, second] = [isoboxer(buffer), cml(buffer)];
  const state = (written) => (written.equals(buffer) ? "the same" : written.toString("hex"));
  console.log(`${name}: isoboxer writes`, state(first[1]), "cml writes", state(second[1]));
  return [...first, ...second];
};
const id = "000102030405060708090a0b0c0d0e0f";

const tenc0 = box("tenc", `00000000 0000 01 08 ${id}`);
let [a, writtenA, b, writtenB] = both(tenc0, "tenc 0");
assert.deepEqual([a.default_IV_size, b.defaultIvSize], [8, 8]);
assert(writtenA.equals(tenc0) && writtenB.equals(tenc0));
const tenc1 = box("tenc", `01000000 00 19 01 00 ${id} 10 ${id}`);
[a, writtenA, b, writtenB] = both(tenc1, "tenc 1");
assert.deepEqual([a.default_IsEncrypted, a.default_IV_size, b.defaultIsEncrypted, b.defaultIvSize], [6401, 0, 6401, 0]);
assert(writtenA.equals(tenc1) && writtenB.length === 32);

const elst0 = box("elst", "00000000 00000001 00015f90 ffffffff 00010000");
[a, writtenA, b, writtenB] = both(elst0, "elst 0");
assert.deepEqual([a.entries[0].media_time, b.entries[0].mediaTime], [-1, -1]);
assert(writtenA.equals(elst0) && writtenB.equals(elst0));
const elst1 = box("elst", "01000000 00000001 0000000000015f90 ffffffffffffffff 00010000");
[a, writtenA, b, writtenB] = both(elst1, "elst 1");
assert.deepEqual([a.entries[0].media_time, b.entries[0].mediaTime], [-4294967297, -4294967297]);
assert(writtenA.includes(Buffer.from("fffffffeffffffff", "hex")) && writtenB.equals(writtenA));

const mdhd0 = box("mdhd", "00000000 00000000 00000000 00015f90 ffffffff 15c70000");
[, writtenA, , writtenB] = both(mdhd0, "mdhd 0");
assert(writtenA.equals(mdhd0) && writtenB.equals(mdhd0));
const mdhd1 = (duration) => box("mdhd", `01000000 0000000000000000 0000000000000000 00015f90 ${duration} 15c70000`);
[, writtenA, , writtenB] = both(mdhd1("ffffffffffffffff"), "mdhd 1");
assert(writtenA.equals(mdhd1("0000000000000000")) && writtenB.equals(writtenA));

const pssh0 = box("pssh", `00000000 ${id} 00000003 616263`);
[a, , b] = both(pssh0, "pssh 0");
assert.deepEqual([[...a.Data], [...b.data]], [[97, 98, 99], [97, 98, 99]]);
const pssh1 = box("pssh", `01000000 ${id} 00000002 ${id} ${id} 00000000`);
[a] = isoboxer(pssh1);
console.log("pssh 1: isoboxer reads", a.DataSize, "bytes of data:", [...a.Data]);
assert.deepEqual([a.DataSize, [...a.Data]], [2, [0, 1]]);
assert.throws(() => cml(pssh1), RangeError);

const payl = box("payl", "4869");
[, writtenA, , writtenB] = both(payl, "payl");
assert(writtenA.equals(payl) && writtenB.equals(box("payl", "486900")));
EOF
node test.mjs
