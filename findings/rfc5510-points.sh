#!/bin/sh
# Reed-Solomon codes by the letter of RFC 5510 are not those that its implementations send, and cannot repair each other.
#
# RFC 5510 section 8.2.1 defines the generator matrix by a Vandermonde matrix of elements alpha^(i*j), and its abstract says that the
# schemes are compatible with Luigi Rizzo's implementation. Both cannot be: Rizzo's first column is 1, 0, 0 ..., so that the points are
# 0, alpha^0, alpha^1 ... instead of alpha^0, alpha^1 ... The source symbols are the same, every repair symbol is another one. Rows of the
# first repair symbol of four source symbols:
#        by section 8.2.1             64 120 54 15
#        flute-alc 1.11.7 (PyPI)     119  64 56 14
#        zfec 1.6.0.0 (PyPI)         119  64 56 14
# One would expect the formula to be the standard, and a test of one's sender against one's receiver to find a mistake.
#
# A receiver that was written from the text decodes to wrong bytes whenever a symbol is lost, and to right ones as long as none is. Only
# a digest shows it. Who implements FEC Encoding ID 2, 5 or 129 should take 0 as the first point and check against another implementation.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q zfec==1.6.0.0 flute-alc==1.11.7
cat >"$dir/test.py" <<'EOF'
import zfec
from flute import sender

K, REPAIR, LENGTH = 4, 3, 16
N = K + REPAIR

# GF(2^8) by x^8 + x^4 + x^3 + x^2 + 1 (RFC 5510 section 8.1).
exp, log = [1] * 510, [0] * 256
for power in range(1, 510):
    double = exp[power - 1] << 1
    exp[power] = double ^ 0x11D if double & 0x100 else double
for power in range(255):
    log[exp[power]] = power


def multiply(a, b):
    return exp[log[a] + log[b]] if a and b else 0


def divide(a, b):
    return multiply(a, exp[255 - log[b]])


def rows(points):
    """Rows of V(k,k)^-1 V(k,n) for repair symbols: the Lagrange polynomials of the first k points at the others."""
    found = []
    for at in points[K:]:
        row = []
        for i in range(K):
            factor = 1
            for j in range(K):
                if j != i:
                    factor = multiply(factor, divide(at ^ points[j], points[i] ^ points[j]))
            row.append(factor)
        found.append(row)
    return found


def rows_of(encode):
    """The rows of an encoder: what it makes of a block in which one byte is 1."""
    columns = []
    for source in range(K):
        block = bytearray(K * LENGTH)
        block[source * LENGTH] = 1
        columns.append([symbol[0] for symbol in encode(bytes(block))[K:]])
    return [list(row) for row in zip(*columns)]


def by_zfec(block):
    parts = [block[at : at + LENGTH] for at in range(0, len(block), LENGTH)]
    return zfec.Encoder(K, N).encode(parts, tuple(range(N)))


def by_flute(block):
    session = sender.Sender(1, sender.Oti.new_no_code(1400, 64), sender.Config())
    oti = sender.Oti.new_reed_solomon_rs28(LENGTH, K, REPAIR)
    session.add_object_from_buffer(block, "video/mp4", "http://cdn.example.com/a", oti)
    session.publish()
    symbols = {}
    while packet := session.read():
        packet = bytes(packet)
        header = 4 * packet[2]
        if packet[3] == 5:  # FEC Encoding ID: Reed-Solomon over GF(2^8)
            symbols[packet[header + 3]] = packet[header + 4 :]
    return [symbols[esi] for esi in range(N)]


letter = rows([exp[j] for j in range(N)])
rizzo = rows([0] + [exp[j] for j in range(N - 1)])
found = {"flute-alc": rows_of(by_flute), "zfec": rows_of(by_zfec)}
print("by section 8.2.1", letter)
print("points 0, alpha^0, alpha^1 ...", rizzo)
for name, repair in found.items():
    print(name, repair)
assert found == {"flute-alc": rizzo, "zfec": rizzo} and letter != rizzo
assert not any(row in letter for row in rizzo)
EOF
"$dir/venv/bin/python" "$dir/test.py"
