#!/bin/sh
# mpeg-ts-parser gives the programme of another service, or none, and titles with their bytes of the character table.
#
# EN 300 468 section 5.2.4: PID 18 has the events of all services of a multiplex, one table for each service_id; section 0 of a table is the present
# event, section 1 the following one; running_status may be 0, undefined. Section 5.1.1: sections may follow each other within a packet. Annex A: text
# begins with the number of its character table, or is in ISO/IEC 6937. Of "Now" and "Next" of service 1:
#        alone                                                  Now, Next
#        another service's sections before them                 Other, Other next
#        running_status 0 in both                               none, none, "eit_unavailable"
#        following event with status 2 (starts in seconds)      Now, none
#        both sections in one packet                            Now, none
#        "Café" in UTF-8 (table 0x15), in ISO/IEC 6937          "\x15CafÃ©", "CafÂe"
# One would expect section numbers and service_id to be read by a library whose one table this is. The date of the start is left out. The status
# of the others is "success". Seen with mpeg-ts-parser 1.0.0 (PyPI), made for the recordings of a national archive.
#
# Recordings get the title of the service that the multiplexer happens to send first, or none from a multiplexer that does not set the status. Who reads
# such titles has to look for control characters; a stream for it should have one service alone.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q mpeg-ts-parser==1.0.0
cat >test.py <<'EOF'
import struct

import mpeg_ts_parser

NOVEMBER_30_2026 = 61374


def with_crc(section):
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1
            value &= 0xFFFFFFFF
    return section + struct.pack(">I", value)


def section(table, extension, number, last, body):
    length = len(body) + 9
    return with_crc(struct.pack(">BHHBBB", table, 0xB000 | length | (0x4000 if table >= 0x40 else 0), extension, 0xC1, number, last) + body)


def event(service, number, name, status):
    descriptor = b"\x4d" + bytes([5 + len(name)]) + b"eng" + bytes([len(name)]) + name + b"\0"
    times = struct.pack(">H6B", NOVEMBER_30_2026, 0x20, 0x15, 0, 0x01, 0x30, 0)
    body = struct.pack(">HHBB", 1, 1, 1, 0x4E) + struct.pack(">H", 100 * service + number) + times + struct.pack(">H", status << 13 | len(descriptor)) + descriptor
    return section(0x4E, service, number, 1, body)


PAT = section(0, 1, 0, 0, struct.pack(">HH", 1, 0xE100))


def found(*events, together=False):
    counters = {}

    def packet(pid, data):
        counters[pid] = (counters.get(pid, -1) + 1) % 16
        return struct.pack(">BHBB", 0x47, 0x4000 | pid, 0x10 | counters[pid], 0) + data.ljust(183, b"\xff")

    with open("stream.ts", "wb") as file:
        for _ in range(100):
            sections = [b"".join(events)] if together else events
            file.write(packet(0, PAT) + b"".join(packet(0x12, each) for each in sections))
    result = mpeg_ts_parser.get_programme_info("stream.ts")
    names = tuple(result[which] and result[which]["name"] for which in ("present", "next"))
    assert result["status"] == ("success" if any(names) else "eit_unavailable")
    print(names, result["metadata"])
    return names


now, following = event(1, 0, b"Now", 4), event(1, 1, b"Next", 1)
assert found(now, following) == ("Now", "Next")
assert found(event(7, 0, b"Other", 4), event(7, 1, b"Other next", 1), now, following) == ("Other", "Other next")
assert found(event(1, 0, b"Now", 0), event(1, 1, b"Next", 0)) == (None, None)
assert found(now, event(1, 1, b"Next", 2)) == ("Now", None)
assert found(now, following, together=True) == ("Now", None)
assert found(event(1, 0, b"\x15" + "Café".encode(), 4), event(1, 1, b"Caf\xc2e", 1)) == ("\x15CafÃ©", "CafÂe")
EOF
venv/bin/python test.py
