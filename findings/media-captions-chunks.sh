#!/bin/sh
# media-captions loses the text of a caption when a piece of the response ends between the CR and the LF behind its times; another load has it.
#
# WebVTT section 6.1: CR LF is one line end, wherever the bytes were cut on the way. The library reads a response as it arrives, and takes the LF that
# begins the next piece for an empty line, which ends the caption. Of a file with three captions, cut at each of its bytes in turn:
#        lines end with LF        all three, at each cut
#        lines end with CR LF     one is empty at three cuts, those behind its times, and there is no error
#        in one piece             all three
# With 60 bytes a caption that is one cut in sixty: of a film with 1,500 captions, read in pieces of 16 KiB, one load in eleven loses one.
# Two more things are not as in WebVTT: a caption whose identifier begins with NOTE is dropped as a comment, and the times of HLS are not
# mapped: of X-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000 the metadata has "MPEGTS".
# One would expect the parser of Vidstack's players to keep what a stream's decoder keeps between pieces. Seen with media-captions 1.0.4 (npm).
#
# A missing line of captions that is there after a reload looks like a fault of the network or of a cache. Captions are best written with LF alone; a
# server does not control where pieces end, but one that sends a small file as one piece has fewer of them.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" media-captions@1.0.4
cat >test.mjs <<'EOF'
import assert from "node:assert";
import { parseByteStream, parseText } from "media-captions";

const lines = ["WEBVTT", "", "00:01.000 --> 00:02.000", "a", "", "00:03.000 --> 00:04.000", "b", "", "00:05.000 --> 00:06.000", "c", ""];
const shown = ({ cues }) => cues.map((cue) => `${cue.startTime} ${cue.text}`).join(", ");
// What is read of a file that arrives in two pieces, for each place of the cut.
async function cuts(file) {
  const bytes = new TextEncoder().encode(file);
  const seen = {};
  for (let at = 1; at < bytes.length; at++) {
    const pieces = [bytes.slice(0, at), bytes.slice(at)];
    const stream = new ReadableStream({ start: (it) => (pieces.forEach((piece) => it.enqueue(piece)), it.close()) });
    const read = await parseByteStream(stream, { type: "vtt", errors: true });
    assert.deepEqual(read.errors, []);
    (seen[shown(read)] ??= []).push([file.slice(0, at).split("\n").length, file.slice(at - 1, at + 1)]);
  }
  return seen;
}
const all = "1 a, 3 b, 5 c";
const [unix, dos] = [await cuts(lines.join("\n")), await cuts(lines.join("\r\n"))];
console.log("LF:", Object.keys(unix), "CR LF:", Object.keys(dos));
assert.deepEqual(Object.keys(unix), [all]);
assert.deepEqual(Object.keys(dos).sort(), ["1 , 3 b, 5 c", all, "1 a, 3 , 5 c", "1 a, 3 b, 5 "].sort());
// The cut is behind the CR of lines 3, 6 and 9.
assert.deepEqual(dos["1 , 3 b, 5 c"], [[3, "\r\n"]]);
assert.deepEqual([dos["1 a, 3 , 5 c"], dos["1 a, 3 b, 5 "]], [[[6, "\r\n"]], [[9, "\r\n"]]]);
assert.equal(shown(await parseText(lines.join("\r\n"))), all);

const named = await parseText("WEBVTT\n\nNOTEBOOK\n00:01.000 --> 00:02.000\na\n\nintro\n00:03.000 --> 00:04.000\nb\n");
console.log("identifiers NOTEBOOK and intro:", shown(named));
assert.equal(shown(named), "3 b");
const mapped = await parseText("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n\n00:01.000 --> 00:02.000\na\n");
console.log("X-TIMESTAMP-MAP:", mapped.metadata, shown(mapped));
assert.deepEqual([mapped.metadata, shown(mapped)], [{ "X-TIMESTAMP-MAP": "MPEGTS" }, "1 a"]);
EOF
node test.mjs
