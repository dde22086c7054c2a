#!/bin/sh
# The Python package emsg writes the sizes of ID3 wrong from 116 characters on: no reader finds the message, or a part of it.
#
# ID3 2.4.0 section 6.2: sizes have seven bits in each byte, the highest is 0 (synchsafe). AOM's "ID3 timed metadata in CMAF" puts such a tag into emsg.
# The package shifts the bits of the second byte alone to their place. Of a text of so many characters, as a TXXX frame:
#        100      size 00 00 00 70      mutagen: 100      @svta/cml-id3: 100
#        116      size 00 00 00 80      an error          nothing
#        200      size 00 00 00 d4      an error          nothing
#        300      size 00 00 01 38      172               172
# One would expect a function that is called for it to do it, or a test with more than one byte. 00 00 01 00 and 00 00 02 38 would be right for 116 and
# 300 characters. Seen with emsg 0.0.4, mutagen 1.48.1 (PyPI) and @svta/cml-id3 1.0.9 (npm), which hls.js and dash.js are built with.
#
# Short messages of tests arrive; a message in JSON or a URL with a token is gone at each player, or ends in the middle, while each box is well-formed.
# Who passes emsg on should carry its bytes; who checks a stream has to read the tag within.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --legacy-peer-deps --prefix "$dir" @svta/cml-id3@1.0.9 @svta/cml-utils@1.6.1
python3 -m venv venv
venv/bin/pip install -q emsg==0.0.4 mutagen==1.48.1
cat >test.mjs <<'EOF'
import { getId3Frames } from "@svta/cml-id3";

const tag = new Uint8Array(Buffer.from(process.argv[2], "hex"));
console.log(JSON.stringify(getId3Frames(tag).map((frame) => frame.data.length)));
EOF
cat >test.py <<'EOF'
import io, json, subprocess

import mutagen.id3
from emsg.box import id3v2


def read(length):
    tag = id3v2.Builder(txxx_frame_info="x" * length).build()
    try:
        by_mutagen = [len(frame.text[0]) for frame in mutagen.id3.ID3(io.BytesIO(tag)).getall("TXXX")]
    except mutagen.id3.error as error:
        by_mutagen = str(error)
    by_cml = json.loads(subprocess.run(["node", "test.mjs", tag.hex()], capture_output=True, check=True).stdout)
    print(length, tag[6:10].hex(" "), by_mutagen, by_cml)
    assert len(tag) == length + 22
    return tag[6:10].hex(), by_mutagen, by_cml


ERROR = "Header size not synchsafe"
assert read(100) == ("00000070", [100], [100])
assert read(116) == ("00000080", ERROR, [])
assert read(200) == ("000000d4", ERROR, [])
assert read(300) == ("00000138", [172], [172])
EOF
venv/bin/python test.py
