#!/bin/sh
# GStreamer, FFmpeg and Wireshark do not know the euro sign of DVB's own character table, and emphasis and line ends in UTF-8 become other characters.
#
# EN 300 468 annex A: without a table's number text is in ISO/IEC 6937 with the euro sign at 0xA4; 0x86 and 0x87 begin and end emphasis, 0x8A is a line
# end, which in tables of two bytes and in UTF-8 are U+E086, U+E087 and U+E08A. A name in SDT or EIT, as it is read:
#                                    GStreamer 1.22.0      FFmpeg 5.1.9          tshark 4.0.17
#        0xA4 in the default table   "5 ¤"                 "5 �"                 "5 �"
#        é in the default table      "Café"                "Café"                "Caf�e"
#        a<emphasis>b<line end>c     "ab\nc"               "a\x86b\x8ac"         "a�b�c"
#        the same in UTF-8           "a\ue086b\ue08ac"     "a\ue086b\ue08ac"     "a\ue086b\ue08ac"
#        "Ü€" in table 0x11 (UCS-2)  "Ü€"                  "Ü€"                  ""
#        "€" in table 0x0B           "€"                   "€"                   "€"
# One would expect the oldest table of the format, which half of Europe's channels use, to be right in tools of this age. (All of Debian 12.)
#
# Prices in titles lose their currency, and a title with emphasis, marked as the standard asks for, has boxes in it, or bytes that JSON and XML forbid.
# A guide that is made from such a reading has to drop U+0080 to U+009F and U+E080 to U+E09F; a multiplexer should write titles in UTF-8, without either.
#
# Needs ffprobe, tshark, and /usr/bin/python3 with GStreamer (Debian: ffmpeg, tshark, python3-gi, gir1.2-gst-plugins-bad-1.0).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >test.py <<'EOF'
import json, re, struct, subprocess

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstMpegts", "1.0")
from gi.repository import Gst, GstMpegts

Gst.init(None)
GstMpegts.initialize()
print(Gst.version_string())


def with_crc(section):
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1
            value &= 0xFFFFFFFF
    return section + struct.pack(">I", value)


def section(table, body):
    return with_crc(struct.pack(">BHHBBB", table, (0xF000 if table >= 0x40 else 0xB000) | len(body) + 9, 1, 0xC1, 0, 0) + body)


def packet(pid, counter, data):
    return struct.pack(">BHBB", 0x47, 0x4000 | pid, 0x10 | counter, 0) + data.ljust(183, b"\xff")


PAT = section(0, struct.pack(">HH", 1, 0xE100))
PMT = section(2, struct.pack(">HHBHH", 0xE101, 0xF000, 3, 0xE101, 0xF000))


def names(text):
    title = b"\x4d" + bytes([5 + len(text)]) + b"eng" + bytes([len(text)]) + text + b"\0"
    times = struct.pack(">HH6B", 1, 61374, 0x20, 0x15, 0, 0x01, 0x30, 0)
    eit = section(0x4E, struct.pack(">HHBB", 1, 1, 0, 0x4E) + times + struct.pack(">H", 0x8000 | len(title)) + title)
    service = b"\x48" + bytes([5 + len(text), 1, 2]) + b"P1" + bytes([len(text)]) + text
    sdt = section(0x42, struct.pack(">HBHBH", 1, 0xFF, 1, 0xFC, 0x8000 | len(service)) + service)
    with open("stream.ts", "wb") as file:
        for counter in range(16):
            for pid, data in ((0, PAT), (0x100, PMT), (0x11, sdt), (0x12, eit)):
                file.write(packet(pid, counter, data))
    event = GstMpegts.Section.new(0x12, eit).get_eit().events[0]
    gstreamer = event.descriptors[0].parse_dvb_short_event()[2]
    ffprobe = subprocess.run("ffprobe -v quiet -show_programs -of json stream.ts".split(), capture_output=True).stdout
    ffmpeg = json.loads(ffprobe)["programs"][0]["tags"]["service_name"]
    tshark = subprocess.run("tshark -r stream.ts -V".split(), capture_output=True).stdout.decode()
    found = gstreamer, ffmpeg, re.search("Event Name: ([^\n]*)", tshark)[1]
    print(text, *map(ascii, found))
    return found


# Each byte that is no UTF-8 is replaced in what tshark and ffprobe print.
assert names(b"5 \xa4") == ("5 ¤", "5 \ufffd", "5 \ufffd")
assert names(b"Caf\xc2e") == ("Café", "Café", "Caf\ufffde")
assert names(b"a\x86b\x8ac") == ("ab\nc", "a\x86b\x8ac", "a\ufffdb\ufffdc")
assert names(b"\x15a\xee\x82\x86b\xee\x82\x8ac") == ("a\ue086b\ue08ac",) * 3
assert names(b"\x11" + "Ü€".encode("utf-16-be")) == ("Ü€", "Ü€", "")
assert names(b"\x0b\xa4") == ("€",) * 3
EOF
/usr/bin/python3 test.py
