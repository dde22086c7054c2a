#!/usr/bin/env bash
# Makes tests/media/cmaf: three video rungs and one of audio, HLS and DASH over the same CMAF segments.
# Run from anywhere; needs FFmpeg with libx264. The result is committed, so that nobody else needs it.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf cmaf && mkdir cmaf && cd cmaf
ffmpeg -hide_banner -loglevel error \
  -f lavfi -i "testsrc2=size=640x360:rate=25:duration=12" \
  -f lavfi -i "sine=frequency=440:sample_rate=48000:duration=12" \
  -filter_complex "[0:v]split=3[a][b][c];[b]scale=426:240[b2];[c]scale=256:144[c2]" \
  -map "[a]" -map "[b2]" -map "[c2]" -map 1:a \
  -c:v libx264 -preset veryslow -profile:v high -threads 1 -g 50 -keyint_min 50 -sc_threshold 0 \
  -b:v:0 180k -maxrate:v:0 180k -bufsize:v:0 360k -b:v:1 90k -maxrate:v:1 90k -bufsize:v:1 180k -b:v:2 50k -maxrate:v:2 50k -bufsize:v:2 100k \
  -c:a aac -b:a 48k -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
  -f dash -seg_duration 2 -use_template 1 -use_timeline 1 -hls_playlist 1 -hls_master_name master.m3u8 \
  -adaptation_sets "id=0,streams=v id=1,streams=a" \
  -init_seg_name 'init-$RepresentationID$.mp4' -media_seg_name '$RepresentationID$-$Number%03d$.m4s' manifest.mpd
