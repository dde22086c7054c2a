#!/bin/sh
# Wireshark shows the sender's time in LCT packets as congestion control feedback, and says of each packet that it has no time.
#
# RFC 5651 section 5.2.2: header extension type 2 is EXT_TIME, with Sender Current Time, Expected Residual Time or both; the flags T and R
# of its experimental forerunner (RFC 3451) are reserved bits since 2009. Of an ALC packet with EXT_TIME and Sender Current Time:
#        tshark      Sender Current Time present flag: Not set
#                    Header Extension Type (HET): EXT_CC, Congestion Control Feedback (2)
#                    Header Extension Data: c000...
# One would expect the dissector for ALC and FLUTE (RFC 5775, 6726, ATSC and DVB use them) to go by the RFC of the last 17 years; the type 2
# that it knows is none of LCT. EXT_FDT, EXT_CENC and EXT_AUTH are shown as what they are.
# Seen with tshark 4.0.17 (Debian 12).
#
# Who looks for the clock of a carousel, or for its remaining time, with Wireshark concludes that the sender gives neither. Look for
# "EXT_CC", and read its data by hand: flags of 16 bits, then seconds since 1900.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install tshark >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/bin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
tshark -v 2>/dev/null | head -n 1
cat >"$dir/write.py" <<'EOF'
import struct, sys

# SCT-High and SCT-Low are present: 8 December 2024, and half a second.
time = struct.pack(">BBHII", 2, 3, 0xC000, 3942604800, 0x80000000)
authentication = struct.pack(">BBH", 1, 1, 0)


def packet(extension):
    # Version 1, TSI and TOI of 32 bits, codepoint 0; behind it SBN, ESI and four bytes.
    lct = struct.pack(">HBBIII", 0x10A0, 4 + len(extension) // 4, 0, 0, 7, 1) + extension + struct.pack(">HH", 0, 0) + b"data"
    udp = struct.pack(">HHHH", 4001, 4001, 8 + len(lct), 0) + lct
    addresses = bytes([192, 0, 2, 1, 239, 0, 0, 1])
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses + udp


with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
    for bytes_ in (packet(time), packet(authentication)):
        file.write(struct.pack("<IIII", 1, 0, len(bytes_), len(bytes_)) + bytes_)
EOF
python3 "$dir/write.py" "$dir/packets"
HOME="$dir" tshark -r "$dir/packets" -d udp.port==4001,alc -O alc,rmt-lct >"$dir/shown" 2>/dev/null
grep -E "flag: |Type|Extension Data" "$dir/shown"
test "$(grep -c 'Sender Current Time present flag: Not set' "$dir/shown")" -eq 2
grep -q 'EXT_CC, Congestion Control Feedback (2)' "$dir/shown"
grep -q 'EXT_AUTH, Packet authentication (1)' "$dir/shown"
! grep -q 'EXT_TIME' "$dir/shown"
