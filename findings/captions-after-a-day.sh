#!/bin/sh
# Captions of a channel that has run for more than a day lose their time in four libraries: another day, 99:59:59.999 for all, no caption, or no WebVTT.
#
# WebVTT section 4.1: the hours of a timestamp are two digits or more, without a limit; in HLS the times of cues go on from LOCAL of
# X-TIMESTAMP-MAP, and encoders count from their start or from a date. Of 23:59:58 to 24:00:01, 100:00:05 and 1000:00:05, written as WebVTT:
#        subtitle 4.2.2 (npm)        00:00:01.86400000, 04:00:05.345600000, ...    no timestamps: no caption is read from it
#        pycaption 2.3.14 (PyPI)     00:00:01.000, 04:00:05.000, 16:00:05.000      a caption that ends before it begins
#        pysubs2 1.8.1 (PyPI)        24:00:01.000, 99:59:59.999, 99:59:59.999      begin and end alike
#        subsrt-ts 2.1.2 (npm)       24:00:01.000                                  the others are gone
# As they were from ttconv 1.2.3, webvtt-py 0.6.0 (PyPI), node-webvtt 1.9.4 (npm), FFmpeg 5.1.9 (Debian 12).
# All but subsrt-ts read the right number of milliseconds, so that the fault is in what they write. One would expect hours to be the part that
# is simply large. No error; pysubs2 gives a warning that names SubRip.
#
# The captions of a channel are right in each test and for the first day after each restart of the encoder. A headend or a converter that
# runs for long should be tried with times beyond 24 h and beyond 100 h; or cues be counted from the segment, with MPEGTS for the rest.
#
# Needs ffmpeg (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q pysubs2==1.8.1 pycaption==2.3.14 webvtt-py==0.6.0 ttconv==1.2.3
npm install --silent --no-audit --no-fund --prefix "$dir" subtitle@4.2.2 subsrt-ts@2.1.2 node-webvtt@1.9.4 webvtt-parser@2.2.0
cat >in.vtt <<'EOF'
WEBVTT

23:59:58.000 --> 24:00:01.000
day

100:00:05.000 --> 100:00:06.000
hundred

1000:00:05.000 --> 1000:00:06.000
thousand
EOF
cat >test.py <<'EOF'
import pycaption
import pysubs2
import webvtt

with open("in.vtt") as file:
    text = file.read()
events = pysubs2.SSAFile.from_string(text)
assert [event.start for event in events] == [86398000, 360005000, 3600005000]
captions = pycaption.WebVTTReader().read(text)
assert [caption.start for caption in captions.get_captions("en-US")] == [86398000000, 360005000000, 3600005000000]
for name, written in (
    ("pysubs2", events.to_string("vtt")),
    ("pycaption", pycaption.WebVTTWriter().write(captions)),
    ("webvtt-py", webvtt.from_string(text).content),
):
    with open(f"{name}.vtt", "w") as file:
        file.write(written)
EOF
venv/bin/python -W ignore test.py
cat >test.cjs <<'EOF'
const assert = require("assert");
const fs = require("fs");
const { parseSync, stringifySync } = require("subtitle");
const subsrt = require("subsrt-ts");
const webvtt = require("node-webvtt");
const text = fs.readFileSync("in.vtt", "utf8");
const cues = parseSync(text);
assert.deepEqual(cues.filter((node) => node.type === "cue").map((node) => node.data.start), [86398000, 360005000, 3600005000]);
fs.writeFileSync("subtitle.vtt", stringifySync(cues, { format: "WebVTT" }));
fs.writeFileSync("subsrt-ts.vtt", (subsrt.default ?? subsrt).convert(text, { format: "vtt" }));
fs.writeFileSync("node-webvtt.vtt", webvtt.compile(webvtt.parse(text)));
const parser = require("webvtt-parser");
const seen = new parser.WebVTTParser().parse(fs.readFileSync("subtitle.vtt", "utf8"));
console.log("subtitle's text by the parser of the W3C:", seen.cues.map((cue) => cue.startTime), seen.errors.map((error) => error.message));
assert.deepEqual(seen.cues, []);
EOF
node test.cjs
venv/bin/tt convert -i in.vtt -o ttconv.vtt >tt.log 2>&1
ffmpeg -v error -i in.vtt ffmpeg.vtt
# check NAME SEEN: the times in NAME.vtt
check() {
  seen=$(grep -e '-->' "$1.vtt" | tr -d '\r' | sed 's/ --> /-/' | xargs)
  echo "$1: $seen"
  [ "$seen" = "$2" ]
}
right="23:59:58.000-24:00:01.000 100:00:05.000-100:00:06.000 1000:00:05.000-1000:00:06.000"
check subtitle "23:59:58.000-00:00:01.86400000 04:00:05.345600000-04:00:06.345600000 16:00:05.3542400000-16:00:06.3542400000"
check pycaption "23:59:58.000-00:00:01.000 04:00:05.000-04:00:06.000 16:00:05.000-16:00:06.000"
check pysubs2 "23:59:58.000-24:00:01.000 99:59:59.999-99:59:59.999 99:59:59.999-99:59:59.999"
check subsrt-ts "23:59:58.000-24:00:01.000"
for name in ttconv webvtt-py node-webvtt ffmpeg; do check $name "$right"; done
