#!/bin/sh
# The crate flute receives a file as an empty one, and calls it complete, if its length stands in the packets and not in the FDT.
#
# RFC 6726 section 3.4.2: Content-Length and Transfer-Length of a File are optional; section 5: the FEC Object Transmission Information, with the
# transfer length, may be in EXT_FTI of the packets instead of the FDT. Of a file of 5000 bytes in four packets with EXT_FTI:
#        FDT, then the packets                         0 bytes, "completed"; a second cycle changes nothing
#        the packets, then the FDT                     5000 bytes
#        FDT with Transfer-Length or Content-Length    5000 bytes
# One would expect the length of the packets to be used, as it is for the symbols, or no file. Its log has "Transfer length mismatch 0 != 5000".
# Seen with flute-alc 1.11.7 (PyPI), which is the Rust crate flute 1.11.7.
#
# Whether a receiver has the file depends on whether it joined before or behind the FDT, so that most tests pass. A sender should write both lengths
# into the FDT; a receiver should not take an absent length for 0.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q flute-alc==1.11.7
cat >test.py <<'EOF'
import os, struct, tempfile, time

from flute import receiver

FILE, SYMBOL = bytes(range(250)) * 20, 1400


def packet(toi, length, extension, symbol, data):
    """ALC of RFC 5775, Compact No-Code FEC of RFC 5445: LCT header with TSI 1, EXT_FTI, FEC Payload ID, data."""
    fti = bytes([64, 4]) + struct.pack(">HIHHI", length >> 32, length & 0xFFFFFFFF, 0, SYMBOL, 64)
    fields = struct.pack(">III", 0, 1, toi) + extension + fti
    return struct.pack(">HBB", 0x10A0, 1 + len(fields) // 4, 0) + fields + struct.pack(">HH", 0, symbol) + data


def received(lengths, fdt_first, cycles=1):
    expires = int(time.time()) + 2_208_988_800 + 3600
    text = f"""<?xml version="1.0" encoding="UTF-8"?><FDT-Instance xmlns="urn:IETF:metadata:2005:FLUTE:FDT" Expires="{expires}">
    <File TOI="1" Content-Location="file:///film" {lengths}/></FDT-Instance>""".encode()
    fdt = [packet(0, len(text), bytes([192, 0x20, 0, 1]), 0, text)]
    symbols = [packet(1, len(FILE), b"", at // SYMBOL, FILE[at : at + SYMBOL]) for at in range(0, len(FILE), SYMBOL)]
    folder = tempfile.mkdtemp(dir=".")
    box = receiver.Receiver(receiver.UDPEndpoint("224.0.0.1", 3400), 1, receiver.ObjectWriterBuilder(folder), receiver.Config())
    for sent in (fdt + symbols if fdt_first else symbols + fdt) * cycles:
        box.push(sent)
    size = os.path.getsize(f"{folder}/film")
    print(f"lengths in the FDT: {lengths or 'none'}, FDT first: {fdt_first}, received: {size} bytes")
    assert open(f"{folder}/film", "rb").read() == FILE[:size]
    return size


assert received("", True) == received("", True, cycles=2) == 0
assert received("", False) == 5000
assert received('Transfer-Length="5000"', True) == received('Content-Length="5000"', True) == 5000
EOF
venv/bin/python test.py
