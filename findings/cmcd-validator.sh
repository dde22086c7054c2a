#!/bin/sh
# The public validator of CMCD refuses reports that CTA-5004 allows: custom keys, a comma in a content id, all header fields of HTTP/2.
#
# CTA-5004: keys of one's own have a prefix with a hyphen, for example "com.example-myNumericKey"; strings may hold any character
# of ASCII. HTTP/2 and Node's server have field names in small letters (RFC 9113 section 8.2). Written by @svta/cml-cmcd, version 1:
#        bl=2000,ot=v,sid="s"                                   valid
#        cid="News, part one",ot=v,sid="s"                      "Incorrect format for key: cid"
#        com.example-seats=2,ot=v,sid="s"                       "The key com.example-seats is not reserved."
#        com.example-hd,ot=v,sid="s"                            "key-value pair not separated by ="
#        CMCD-Session: sid="s"                                  valid
#        cmcd-session: sid="s"                                  "No CMCD request found"
#        two fields, separated as HTTP/1.1 separates them       the value of the first ends in a carriage return
# One would expect a validator to take the examples of the specification, and what the library of its working group writes. Seen with
# @montevideo-tech/cmcd-validator 1.3.1 and @svta/cml-cmcd 2.7.0 (npm).
#
# Who checks a player, or the reports that a CDN or a box collects, by it, counts good reports as broken, from titles with a comma or behind HTTP/2
# alone. Split by the rules of structured fields, lower the names first, and keep keys that are not known.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" @montevideo-tech/cmcd-validator@1.3.1 @svta/cml-cmcd@2.7.0
cat >test.mjs <<'EOF'
import assert from "assert";
import { createRequire } from "module";
import { toCmcdHeaders, toCmcdQuery } from "@svta/cml-cmcd";

const { log } = console;
for (const name of ["log", "info", "warn", "error"]) console[name] = () => {}; // the validator's own
const { CMCDHeaderValidator, CMCDQueryValidator } = createRequire(import.meta.url)("@montevideo-tech/cmcd-validator");
const say = (name, { valid, errors }) => {
  const said = errors.map((error) => error.description);
  log(`${name}:`, valid ? "valid" : said);
  return valid ? [true] : [false, said[0]];
};
const query = (report) => {
  const value = decodeURIComponent(toCmcdQuery(report, { version: 1 }).replace(/^CMCD=/, ""));
  return say(value, CMCDQueryValidator(`https://cdn.example/1.m4s?CMCD=${encodeURIComponent(value)}`));
};
assert.deepEqual(query({ bl: 2000, ot: "v", sid: "s" }), [true]);
assert.deepEqual(query({ cid: "News", ot: "v", sid: "s" }), [true]);
assert.deepEqual(query({ cid: "News, part one", ot: "v", sid: "s" }), [false, "Incorrect format for key: cid"]);
assert.deepEqual(query({ "com.example-seats": 2, ot: "v", sid: "s" }), [false, "The key com.example-seats is not reserved."]);
assert.deepEqual(query({ "com.example-hd": true, ot: "v", sid: "s" }), [false, "key-value pair not separated by =."]);

const fields = Object.entries(toCmcdHeaders({ d: 4000, ot: "v", sid: "s" }, { version: 1 }));
const text = (end, name = (field) => field) => fields.map(([field, value]) => `${name(field)}: ${value}`).join(end);
const header = (name, lines) => say(name, CMCDHeaderValidator(lines));
assert.deepEqual(fields.map(([field]) => field).sort(), ["CMCD-Object", "CMCD-Session"]);
assert.deepEqual(header("fields, separated by \\n", text("\n")), [true]);
assert.deepEqual(header("in small letters", text("\n", (field) => field.toLowerCase())), [false, "No CMCD request found"]);
const [valid, said] = header("fields, separated by \\r\\n", text("\r\n"));
assert.equal(valid, false);
assert.match(said, /^ot value does not meet/);
EOF
node test.mjs
