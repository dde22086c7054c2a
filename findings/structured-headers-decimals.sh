#!/bin/sh
# structured-headers, the Structured Fields library of npm, writes decimals near a whole number as "1.", which every reader refuses.
#
# RFC 9651 section 4.1.5: a decimal has at least one digit behind the point. The library rounds to three digits, takes the zeros off, and
# leaves the point:
#        { pr: 1.0004, sid: "a" }      pr=1., sid="a"
#        { rd: 0.0004 }                rd=0.
#        { pr: 2.9996 }                pr=3.
#        { pr: 1.5 }                   pr=1.5, as it has to be
# One would expect 1.0, as @svta/cml-structured-field-values and the Python library http-sf write, or an error. The library's own reader
# refuses its text ("Decimal cannot end on a period"), and by section 4.2 the whole field with it, "sid" and all.
# Seen with structured-headers 2.1.0, @svta/cml-structured-field-values 1.1.6 (npm) and http-sf 1.5.0 (PyPI).
#
# A playback rate that is steered towards the live edge (CMCD), a rate or a delay that was measured (CMSD) come near a whole number now
# and then, and the report is lost as a whole: from players that are just in time, so that averages of the rest are off. Who writes such
# fields with it has to round first and to pass a whole number as 1, which is an integer.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" structured-headers@2.1.0 @svta/cml-structured-field-values@1.1.6
python3 -m venv venv
venv/bin/pip install -q http-sf==1.5.0
cat >test.mjs <<'EOF'
import assert from "node:assert";
import { parseDictionary, serializeDictionary } from "structured-headers";
import { decodeSfDict, encodeSfDict } from "@svta/cml-structured-field-values";
const values = [{ pr: 1.0004, sid: "a" }, { rd: 0.0004 }, { pr: 2.9996 }, { pr: 1.5 }];
const refuses = (read, text) => {
  try {
    return !read(text);
  } catch (error) {
    return true;
  }
};
const written = values.map((value) => serializeDictionary(value));
const byAnother = values.map((value) => encodeSfDict(value));
written.forEach((text, at) => console.log(JSON.stringify(values[at]), "->", text, "  by the other library:", byAnother[at]));
assert.deepEqual(written, ['pr=1., sid="a"', "rd=0.", "pr=3.", "pr=1.5"]);
assert.deepEqual(byAnother, ['pr=1.0, sid="a"', "rd=0.0", "pr=3.0", "pr=1.5"]);
assert.deepEqual(written.map((text) => refuses(parseDictionary, text)), [true, true, true, false]);
assert.deepEqual(written.map((text) => refuses(decodeSfDict, text)), [true, true, true, false]);
EOF
node test.mjs
cat >test.py <<'EOF'
import http_sf

assert [http_sf.ser(value) for value in (1.0004, 0.0004, 2.9996)] == ["1.0", "0.0", "3.0"]
for text in (b"pr=1.", b"rd=0.", b"pr=3."):
    try:
        http_sf.parse(text, tltype="dictionary")
        raise SystemExit(f"{text} is read")
    except http_sf.StructuredFieldError as error:
        print("http-sf:", text.decode(), error)
EOF
venv/bin/python test.py
