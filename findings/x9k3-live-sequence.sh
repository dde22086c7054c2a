#!/bin/sh
# x9k3 gives the segments of a live playlist new numbers with each update until its window is full, and counts discontinuities where there are none.
#
# RFC 8216 section 6.2.2: the media sequence number of a segment must not change; EXT-X-MEDIA-SEQUENCE goes up by one for each segment that is
# removed, and EXT-X-DISCONTINUITY-SEQUENCE for each EXT-X-DISCONTINUITY that is. Of a window of three, with breaks that begin and end in
# front of the segments marked by "!":
#        playlist               MEDIA-SEQUENCE, expected     DISCONTINUITY-SEQUENCE, expected
#        seg0                   1     0                      0     0
#        seg0 seg1              2     0                      0     0
#        seg0 seg1 seg2         3     0                      0     0
#        seg1 seg2 !seg3        4     1                      0     0
#        seg2 !seg3 seg4        5     2                      0     0
#        !seg3 seg4 !seg5       6     3                      1     0
#        seg4 !seg5 seg6        7     4                      2     1
#        !seg5 seg6 !seg7       8     5                      3     1
# seg0 is number 1, then 2, then 3: what a player has loaded comes back under the number that it wants next. Behind a full window the first
# number goes on as it should, and the second goes up for segments without a discontinuity. One would expect a segmenter that is made for
# breaks to keep this count. Seen with x9k3 1.0.39 (PyPI) and FFmpeg 5.1.9 (Debian 12).
#
# A player that joins in the first seconds plays the first segment again; one that matches renditions by discontinuity takes other segments for
# each other. Who takes in such a playlist has to know a segment by its name, not by its number alone.
#
# Needs ffmpeg (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
python3 -m venv venv
venv/bin/pip install -q x9k3==1.0.39
ffmpeg -nostdin -v error -f lavfi -i testsrc=size=160x120:rate=25:duration=16 -c:v libx264 -preset ultrafast -g 50 -f mpegts in.ts
cat >cues.py <<'EOF'
from threefive.encode import mk_splice_insert

for event, time in ((1, 5.48), (2, 13.48)):
    cue = mk_splice_insert(event, pts=time, duration=4.0, out=True)
    cue.command.break_auto_return = True
    print(f"{time - 2},{cue.encode()}")
EOF
venv/bin/python cues.py >cues.txt
cat >test.py <<'EOF'
import os, re, subprocess, time

segmenter = subprocess.Popen(
    ["venv/bin/x9k3", "-i", "in.ts", "-o", "out", "-t", "2", "-l", "-w", "3", "-s", "cues.txt"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
# Each version of the playlist: names of its segments, with "!" behind a discontinuity, and its two numbers.
seen = []
end = time.time() + 60
while time.time() < end and segmenter.poll() is None:
    time.sleep(0.1)
    try:
        text = open("out/index.m3u8").read()
    except FileNotFoundError:
        continue
    numbers = [re.search(rf"^#EXT-X-{name}:(\d+)$", text, re.M) for name in ("MEDIA-SEQUENCE", "DISCONTINUITY-SEQUENCE")]
    names = re.findall(r"^(#EXT-X-DISCONTINUITY$|[^#\n]+)", text, re.M)
    if not all(numbers) or not names or names[-1].startswith("#"):
        continue  # It is being written.
    listed = " ".join(names).replace("#EXT-X-DISCONTINUITY ", "!").replace(".ts", "")
    version = (listed, *(int(number[1]) for number in numbers))
    if not seen or seen[-1][0] != listed:
        seen.append(version)
        print(*version)
segmenter.kill()
expected = [
    ("seg0", 1, 0),
    ("seg0 seg1", 2, 0),
    ("seg0 seg1 seg2", 3, 0),
    ("seg1 seg2 !seg3", 4, 0),
    ("seg2 !seg3 seg4", 5, 0),
    ("!seg3 seg4 !seg5", 6, 1),
    ("seg4 !seg5 seg6", 7, 2),
    ("!seg5 seg6 !seg7", 8, 3),
]
assert seen[: len(expected)] == expected, seen
EOF
venv/bin/python test.py
