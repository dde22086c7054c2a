#!/bin/sh
# threefive reads a splice_insert by components as another break, and writes an EIDR or UMID back as other bytes.
#
# ANSI/SCTE 35 section 9.7.3: with program_splice_flag 0 each component has a tag and a splice_time(); section 10.3.3 has a PTS offset for each
# in a segmentation_descriptor. Section 10.3.3.1: an EIDR is 12 bytes, a UMID 32. The library takes the tags without the times, so that all
# behind them is read from the wrong place; of a UMID it reads 28 bytes; and its text of an EIDR is written as text, cut off at 12:
#        splice_insert, break of 1 s, two components      break_duration 371.370678, unique_program_id 24464, avail_num 2
#        segmentation_descriptor, 1 s, two components     95815.816533 s, "Call Ad Server" in place of type 0x30
#        EIDR 14 78 f8 5a e1 00 ...                       read as 0x1478f85ae100..., written as the letters "0x1478f85ae1"
#        UMID 00 01 02 ... 1f, type 0x30                  "010203.0405...1a1b", type 0x1c, segment 29 of 30; written as 32 other bytes
# One would expect the same section when what was read is written again, as it is for the other commands and UPIDs, or an error; the CRC is
# right before and after. Seen with threefive 3.1.5 (PyPI).
#
# Tools that insert, log or repackage breaks in Python are built on it: a break of six minutes begins in the place of a second of
# advertisement, and an asset is looked up by an identifier that nobody issued. What only passes a section on should carry its bytes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q threefive==3.1.5
cat >test.py <<'EOF'
import base64
from threefive import Cue


def number(value, length_bits):
    return format(value, f"0{length_bits}b")


def pack(text):
    return int(text, 2).to_bytes(len(text) // 8, "big")


def section(command_type, command, descriptors=b""):
    body = bytes(7) + b"\xff\xf0" + bytes([len(command), command_type]) + command + len(descriptors).to_bytes(2, "big") + descriptors
    data = b"\xfc" + (0x3000 | len(body) + 4).to_bytes(2, "big") + body
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return base64.b64encode(data + crc.to_bytes(4, "big")).decode()


def time(pts):
    return "1" + "1" * 6 + number(pts, 33)


def insert(components):
    splice = "".join(number(tag, 8) + time(pts) for tag, pts in components) if components else time(90000)
    head = number(7, 32) + "01111111" + "1" + ("0" if components else "1") + "101111"
    count = number(len(components), 8) if components else ""
    return section(5, pack(head + count + splice + "1" + "1" * 6 + number(90000, 33) + number(1, 16) + number(0, 16)))


def signal(kind=0, upid=b"", components=()):
    text = number(9, 32) + "01111111" + ("0" if components else "1") + "1" + "1" * 6
    if components:
        text += number(len(components), 8) + "".join(number(tag, 8) + "1" * 7 + number(offset, 33) for tag, offset in components)
    body = b"CUEI" + pack(text + number(90000, 40)) + bytes([kind, len(upid)]) + upid + bytes([0x30, 0, 0])
    return section(6, pack(time(900000)), bytes([2, len(body)]) + body)


def read(text):
    cue = Cue(text)
    cue.decode()
    seen = cue.descriptors[0].get() if cue.descriptors else cue.command.get()
    return {name: value for name, value in seen.items() if value is not None}, cue.encode()


def show(name, text, *fields):
    seen, written = read(text)
    print(f"{name}:", {field: seen[field] for field in fields}, "written again:", "the same" if written == text else written)
    return [seen[field] for field in fields], written


BREAK = ("break_duration", "unique_program_id", "avail_num")
values, written = show("splice_insert of the program", insert([]), *BREAK)
assert values == [1.0, 1, 0] and written == insert([])
values, written = show("splice_insert of components", insert([(1, 90000), (2, 180000)]), *BREAK)
assert values == [371.370678, 24464, 2] and written != insert([(1, 90000), (2, 180000)])

KIND = ("segmentation_duration", "segmentation_type_id", "segment_num", "segments_expected")
values, written = show("segmentation of the program", signal(), *KIND)
assert values == [1.0, 0x30, 0, 0] and written == signal()
values, written = show("segmentation of components", signal(components=[(1, 2**32 + 1), (2, 5)]), *KIND)
assert values[:2] == [95815.816533, 2]

eidr = bytes.fromhex("1478f85ae100b0685b8fb1c8")
values, written = show("EIDR", signal(0x0A, eidr), "segmentation_upid", "segmentation_type_id")
assert values == ["0x" + eidr.hex(), 0x30] and b"0x1478f85ae1" in base64.b64decode(written)
values, written = show("UMID", signal(0x04, bytes(range(32))), "segmentation_upid", *KIND[1:])
assert values[0].startswith("010203.04050607") and values[1:] == [0x1C, 29, 30]
values, written = show("Ad-ID", signal(0x03, b"ABCD0123456H"), "segmentation_upid", "segmentation_type_id")
assert values == ["ABCD0123456H", 0x30] and written == signal(0x03, b"ABCD0123456H")
EOF
venv/bin/python test.py
