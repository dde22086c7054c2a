#!/bin/sh
# mp4box.js writes an event of version 1 as one of version 0 without its time: the break that was to come begins at once.
#
# ISO/IEC 23009-1 clause 5.10.3.3: emsg of version 1 has presentation_time, 64 bits on the media's own clock; version 0 has
# presentation_time_delta, 32 bits from the start of the segment. Packagers of CMAF write version 1. One with
# presentation_time 2^32 + 5 at a timescale of 90000, parsed and written again:
#        mp4box 2.4.1 (npm, GPAC's mp4box.js)    version 0, presentation_time_delta 0, four bytes shorter
#        codem-isoboxer 0.3.10 (dash.js's)       byte for byte what was read
# One would expect the bytes that were read, the more so since the parsed box has the right presentation_time. No error, no warning.
#
# Tools that cut or repackage segments in browsers and Node are built on it. Each SCTE-35 event of what they write is "now", in each segment that
# repeats it. What only has to be passed on, boxes among it, should be copied as the bytes that came.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" mp4box@2.4.1 codem-isoboxer@0.3.10
cat >test.cjs <<'END'
const assert = require("assert");
const { createFile, DataStream } = require("mp4box");
const ISOBoxer = require("codem-isoboxer");
const box = (type, body) => {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + body.length);
  head.write(type, 4, "latin1");
  return Buffer.concat([head, body]);
};
const numbers = Buffer.alloc(24);
numbers[0] = 1;
numbers.writeUInt32BE(90000, 4);
numbers.writeBigUInt64BE(2n ** 32n + 5n, 8);
numbers.writeUInt32BE(180000, 16);
numbers.writeUInt32BE(7, 20);
const event = box("emsg", Buffer.concat([numbers, Buffer.from("urn:scte:scte35:2013:bin\x001\0cue", "latin1")]));
const view = (bytes) => new Uint8Array(bytes).buffer;
const parse = (bytes) => {
  const file = createFile();
  file.appendBuffer(Object.assign(view(bytes), { fileStart: 0 }));
  file.flush();
  return file;
};
const file = parse(event);
const stream = new DataStream();
stream.endianness = DataStream.BIG_ENDIAN;
file.write(stream);
const written = Buffer.from(stream.buffer);
const [before, after] = [file.boxes[0], parse(written).boxes[0]];
console.log("read:", before.presentation_time, "written:", written.length, "of", event.length, "bytes, version", after.version,
  "delta", after.presentation_time_delta);
assert.equal(before.presentation_time, 2 ** 32 + 5);
assert.deepEqual([after.version, after.presentation_time_delta, after.presentation_time], [0, 0, undefined]);
assert.deepEqual([after.event_duration, after.id, written.length], [180000, 7, event.length - 4]);
assert.deepEqual(Buffer.from(ISOBoxer.parseBuffer(view(event)).write()), event);
END
node test.cjs
