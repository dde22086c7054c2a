"""An unsigned sender that means ill: fills every table of a receiver of FLUTE on loopback that it can fill.

hostile.py GROUP PORT SECONDS. Sessions come from addresses of 127.0.0.0/8, so that each counts as a sender of its own.
"""

import random
import socket
import struct
import sys
import time

group, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
CONFIGURATION = "application/xml+dvb-mabr-session-configuration"
SYMBOL = 1400
counts = {}


def sender(number):
    """A socket with a source address of its own."""
    it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    it.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    it.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    it.bind((f"127.7.{number >> 8 & 255}.{number & 255}", 0))
    return it


def packet(tsi, toi, code, extensions, body):
    """LCT header (RFC 5651) with 32 bits of TSI and TOI, extensions, payload."""
    words = 4 + len(extensions) // 4
    return struct.pack("!HBBIII", 0x10A0, words, code, 0, tsi, toi) + extensions + body


def fti(length, symbol=SYMBOL):
    """EXT_FTI of no code (RFC 5445)."""
    return struct.pack("!BBHIHHI", 64, 4, length >> 32, length & 0xFFFFFFFF, 0, symbol, 4096)


def raptorq(length, symbol=SYMBOL):
    """EXT_FTI of RaptorQ (RFC 6330 section 3.3): one source block."""
    return struct.pack("!BB", 64, 4) + length.to_bytes(5, "big") + struct.pack("!BHBHBH", 0, symbol, 1, 1, 4, 0)


def object_packets(tsi, toi, body, extensions=b""):
    for number, start in enumerate(range(0, len(body), SYMBOL)):
        place = struct.pack("!HH", number >> 12, number & 4095)
        yield packet(tsi, toi, 0, extensions + fti(len(body)), place + body[start : start + SYMBOL])


def fdt(tsi, instance, files):
    expires = int(time.time()) + 2208988800 + 3600
    body = f'<FDT-Instance xmlns="urn:IETF:metadata:2005:FLUTE:FDT" Expires="{expires}">{"".join(files)}</FDT-Instance>'
    extension = struct.pack("!I", 192 << 24 | 1 << 20 | instance & 0xFFFFF)
    return object_packets(tsi, 0, body.encode(), extension)


def say(kind, packets, it, pace_bytes_per_s=25_000_000):
    begun, sent = time.monotonic(), 0
    for one in packets:
        it.sendto(one, (group, port))
        sent += len(one)
        late = sent / pace_bytes_per_s - (time.monotonic() - begun)
        if late > 0.002:
            time.sleep(late)
        if time.monotonic() > end:
            break
    counts[kind] = counts.get(kind, 0) + sent


def described(number):
    """Names without end."""
    files = [
        f'<File TOI="{at}" Content-Length="1000" Transfer-Length="1000" Content-Location="http://h{number}/{"x" * 260}/{at}"/>'
        for at in range(1, 2400)
    ]
    return fdt(1, number, files)


def early(number):
    """Packets of objects that nothing describes."""
    return (packet(1, at, 0, b"", struct.pack("!HH", 0, 0) + random.randbytes(SYMBOL)) for at in range(1, 1500))


def document(number):
    """Gateway configurations whose elements take a hundred times their length, and long ones."""
    name = f"http://h{number}/configuration.xml"
    body = f'<MulticastGatewayConfiguration xmlns="{"n" * 50_000}">{"<e/>" * 40_000}</MulticastGatewayConfiguration>'
    if number % 2:
        body = f'<MulticastGatewayConfiguration>{"<a>1</a>" * 900_000}</MulticastGatewayConfiguration>'
    body = body.encode()
    file = f'<File TOI="9" Content-Type="{CONFIGURATION}" Content-Length="{len(body)}" Transfer-Length="{len(body)}" Content-Location="{name}"/>'
    yield from fdt(1, number, [file])
    yield from object_packets(1, 9, body)


def block(number):
    """A source block of 30 MB, of which three fifths of the source symbols come, and repair symbols for the others."""
    length = 30_000_000
    symbols = length // SYMBOL
    file = f'<File TOI="5" Content-Length="{length}" Transfer-Length="{length}" Content-Location="http://h{number}/block"/>'
    yield from fdt(1, number, [file])
    source = symbols * 3 // 5
    for esi in [*range(source), *range(symbols, 2 * symbols - source + 8)]:
        yield packet(1, 5, 6, raptorq(length), struct.pack("!I", esi) + random.randbytes(SYMBOL))


def open_objects(number):
    """Long objects of which one symbol comes."""
    for toi in range(1, 1000):
        body = struct.pack("!HH", 0, 0) + random.randbytes(SYMBOL)
        yield packet(1, toi, 0, fti(200_000_000), body)


end = time.monotonic() + seconds
kinds = [described, early, document, open_objects, described, document, block]
number = 0
while time.monotonic() < end:
    kind = kinds[number % len(kinds)]
    it = sender(1 + number % 60_000)
    say(kind.__name__, kind(number), it)
    it.close()
    number += 1
print(f"hostile: {number} sessions;", ", ".join(f"{kind} {sent / 1e6:.0f} MB" for kind, sent in counts.items()))
