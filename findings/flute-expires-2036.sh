#!/bin/sh
# The crate flute drops objects whose FDT is valid beyond 7 February 2036: a lifetime of ten years is read as expired.
#
# RFC 6726 sections 3.3 and 3.4.2: the expiry of an FDT instance is the upper 32 bits of an NTP timestamp, which begin again at 0 on 7 February 2036,
# 06:28:16 UTC (RFC 5905 section 6: era 1). A carousel that runs unattended is given a lifetime of years, and these have come near:
#        until the end of 2035    Expires="4291747200"    received
#        until the end of 2036    Expires="4323369600"    more than 32 bits; "FDT has been received but is already expired", no object
#        the same in 32 bits      Expires="28402304"      the same
# One would expect a longer lifetime to be the safer choice, and sender and receiver of one library to agree about it.
# Seen with flute-alc 1.11.7 (PyPI), which is the Rust crate flute 1.11.7.
#
# A sender should keep Expires within 68 years and in 32 bits, and within 2035 for receivers like this one; a receiver has to take the
# era that is nearest to its clock, and for a greater number its lower 32 bits.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q flute-alc==1.11.7
cat >test.py <<'EOF'
import os, re, tempfile, time

from flute import receiver, sender

# 1 January of these years, in seconds of Unix.
UNTIL = {2036: 2_082_758_400, 2037: 2_114_380_800}


def received(year, in_32_bits=False):
    config = sender.Config()
    config.fdt_duration_ms = round((UNTIL[year] - time.time()) * 1000)
    session = sender.Sender(1, sender.Oti.new_no_code(1400, 64), config)
    session.add_object_from_buffer(b"text", "text/plain", "file:///text", None)
    session.publish()
    folder = tempfile.mkdtemp(dir=".")
    box = receiver.Receiver(receiver.UDPEndpoint("224.0.0.1", 3400), 1, receiver.ObjectWriterBuilder(folder), receiver.Config())
    expires = None
    while packet := session.read():
        packet = bytes(packet)
        if found := re.search(rb'Expires="(\d+)"', packet):
            expires = int(found[1])
            if in_32_bits:
                # Leading zeros keep the length of the packet.
                expires %= 1 << 32
                packet = packet.replace(found[1], str(expires).zfill(len(found[1])).encode())
        box.push(packet)
    done = os.listdir(folder)
    print(f'until 1 January {year}: Expires="{expires}", received: {done}')
    return expires >= 1 << 32, bool(done)


assert received(2036) == (False, True)
assert received(2037) == (True, False)
assert received(2037, in_32_bits=True) == (False, False)
EOF
venv/bin/python test.py
