#!/bin/sh
# The npm package scte35 reads the time of a splice_insert from the section's header: 60 s at a known time are 18.7 hours without a time.
#
# ANSI/SCTE 35 section 9.7.3: break_duration() follows splice_time(), which has 40 bits with a time and 8 without. The library looks for the
# time at the right offset but in the whole section instead of the command, where PTS adjustment, cw_index and tier are, takes their bits
# for "no time", and reads all that follows 4 bytes too early. The command's length would tell; it logs "Bad read" and returns the values:
#                                              time (90 kHz)    break           program, avail, expected
#        splice_insert at a time               none             6069169918      82, 204, 244    (60 s: 5426420; 4096, 1, 2)
#        the same, PTS adjustment 8388608      65535            5426420         4096, 1, 2
#        the same, immediate                                    5426420         4096, 1, 2
# The second is worse: all values are plausible, and the time is made of others. A section with two descriptors has one, without its fields.
# One would expect the oldest command of the standard to be read, as threefive does. Seen with scte35 0.2.4 (npm), bundled by esbuild 0.28.2,
# and threefive 3.1.5 (PyPI).
#
# Players and monitors in a browser read breaks of EXT-X-DATERANGE and emsg with it: the break that is to come has no time, so that it is taken to
# be immediate, and does not end. A time_signal is read right, so that a test with the newer form finds nothing.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" scte35@0.2.4 esbuild@0.28.2
python3 -m venv venv
venv/bin/pip install -q threefive==3.1.5
# The package's own entry point names a module that is not in it; applications bundle the file that is.
echo 'export { SCTE35 } from "scte35/build/lib/scte35";' >entry.mjs
node_modules/.bin/esbuild entry.mjs --bundle --format=cjs --platform=node --log-level=error --outfile=library.cjs
cat >read.cjs <<'EOF'
const { SCTE35 } = require("./library.cjs");
const errors = [];
console.error = (text) => errors.push(text);
const { spliceCommand, descriptor } = SCTE35.parseFromB64(process.argv[2]);
console.log(JSON.stringify({ ...spliceCommand, descriptors: descriptor ?? [], errors }));
EOF
cat >test.py <<'EOF'
import base64, json, subprocess

from threefive import Cue

TIME, BREAK = 1_936_310_318, 5_426_420


def bits(*fields):
    text = "".join(format(value, f"0{length}b") for value, length in fields)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def section(command_type, command, descriptors=b"", adjustment=0):
    head = bits((0, 8), (0, 7), (adjustment, 33), (255, 8), (0xFFF, 12), (len(command), 12), (command_type, 8))
    body = head + command + len(descriptors).to_bytes(2, "big") + descriptors
    data = b"\xfc" + (0x3000 | len(body) + 4).to_bytes(2, "big") + body
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return base64.b64encode(data + crc.to_bytes(4, "big")).decode()


def insert(immediate=False, adjustment=0):
    flags = [(7, 32), (0x7F, 8), (1, 1), (1, 1), (1, 1), (immediate, 1), (15, 4)]
    time = [] if immediate else [(1, 1), (63, 6), (TIME, 33)]
    return section(5, bits(*flags, *time, (1, 1), (63, 6), (BREAK, 33), (4096, 16), (1, 8), (2, 8)), adjustment=adjustment)


def read(name, text):
    seen = json.loads(subprocess.run(["node", "read.cjs", text], capture_output=True, text=True, check=True).stdout)
    cue = Cue(text)
    cue.decode()
    print(f"{name}: {seen}")
    return seen, cue


def check(name, text, time, rest):
    seen, cue = read(name, text)
    found = [seen["breakDuration"]["duration"], seen["uniqueProgramId"], seen["available"], seen["expected"]]
    assert seen.get("spliceTime", {}).get("pts") == time and found == rest, (seen, found)
    command = cue.command
    assert abs(command.break_duration - BREAK / 90000) < 1e-5
    assert [command.unique_program_id, command.avail_num, command.avails_expected] == [4096, 1, 2]
    return seen["errors"]


right = [BREAK, 4096, 1, 2]
assert check("at a time", insert(), None, [6069169918, 82, 204, 244])
assert not check("adjusted", insert(adjustment=8388608), 65535, right)
assert not check("immediate", insert(True), None, right)
segmentation = lambda event, kind: b"\x02\x0f" + b"CUEI" + bits((event, 32), (0x7F, 8), (0xBF, 8), (0, 16), (kind, 8), (1, 8), (1, 8))
seen, cue = read("two descriptors", section(6, bits((1, 1), (63, 6), (TIME, 33)), segmentation(1, 0x11) + segmentation(2, 0x10)))
assert seen["pts"] == TIME and len(seen["descriptors"]) == 1 and len(cue.descriptors) == 2
assert sorted(seen["descriptors"][0]) == ["descriptorLength", "indentifier", "spliceDescriptorTag"]
assert [it.segmentation_type_id for it in cue.descriptors] == [0x11, 0x10]
EOF
venv/bin/python test.py
