#!/bin/sh
# ttconv writes the text of captions into WebVTT as it is: a "<" begins a tag, and "-->" ends the caption.
#
# WebVTT section 4.2.2: in the text of a cue "&" and "<" are written as &amp; and &lt;, and "-->" must not be in it. XML's own escapes are
# resolved when TTML is read; one would expect the other format's to be written, as by FFmpeg, and as ttconv itself does for colours. What
# a viewer sees by the parser of the W3C:
#        TTML: 3 &lt; 5 and 5 &gt; 3       WebVTT: 3 < 5 and 5 > 3     seen: "3  3"
#        TTML: if a&lt;b then c            WebVTT: if a<b then c       seen: "if a"
#        TTML: see &lt;help&gt; there      WebVTT: see <help> there    seen: "see  there"
#        TTML: next --&gt; page            WebVTT: next --> page       no caption
# The same with WebVTT as input, so that a valid file is converted to another. Seen with ttconv 1.2.3 (PyPI), webvtt-parser 2.2.0 (npm).
#
# Captions of programmes on computers, with prices, scores and arrows, lose words on their way from TTML to HLS. A headend that passes such
# files on cannot know; one that makes WebVTT itself has to escape, and a check of the written file finds the "-->" at least.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" webvtt-parser@2.2.0
python3 -m venv venv
venv/bin/pip install -q ttconv==1.2.3
cat >convert.py <<'EOF'
import subprocess

TEXTS = ["3 &lt; 5 and 5 &gt; 3", "if a&lt;b then c", "see &lt;help&gt; there", "next --&gt; page"]
for number, text in enumerate(TEXTS):
    with open(f"{number}.ttml", "w") as file:
        file.write(f'<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en"><head/><body><div><p begin="1s" end="3s">{text}</p></div></body></tt>')
    subprocess.run(["venv/bin/tt", "convert", "-i", f"{number}.ttml", "-o", f"{number}.vtt"], check=True, capture_output=True)
EOF
venv/bin/python convert.py
cat >read.cjs <<'EOF'
const { readFileSync } = require("fs");
const { WebVTTParser } = require("webvtt-parser");
const seenIn = (node) => (node.type === "text" ? node.value : (node.children ?? []).map(seenIn).join(""));
const found = [0, 1, 2, 3].map((number) => {
  const text = readFileSync(`${number}.vtt`, "utf8");
  const { cues, errors } = new WebVTTParser().parse(text, "subtitles");
  const seen = cues.map((cue) => seenIn(cue.tree)).join();
  console.log(JSON.stringify(text.trim().split("\n").pop()), "seen:", JSON.stringify(seen), "errors:", errors.length);
  return [seen, errors.length > 0];
});
process.exit(JSON.stringify(found) === '[["3  3",true],["if a",true],["see  there",true],["",true]]' ? 0 : 1);
EOF
node read.cjs
