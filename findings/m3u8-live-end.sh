#!/bin/sh
# The Python library m3u8 forgets the discontinuity, the EXT-X-MAP and the date in front of the parts of an unfinished segment.
#
# At the end of a low-latency playlist stand the parts of the segment that is being made. When that segment begins an ad break, the tags for
# it stand before its parts. The library hangs tags on the segment that follows; none follows yet, so that they are dropped, and the
# parts are written as if they went on with the programme:
#        #EXT-X-DISCONTINUITY                                 gone
#        #EXT-X-MAP:URI="ad.mp4"                              gone
#        #EXT-X-PROGRAM-DATE-TIME:2026-11-29T10:00:04Z        gone
#        #EXT-X-PART:DURATION=1,URI="ad1.0.mp4"               there
# An EXT-X-DATERANGE is kept before parts, but dropped where no part follows it, as an announced break at the end of an ordinary live
# playlist. One would expect the round trip of a valid playlist to be lossless, or to fail. By RFC 8216 section 4.3.2 these tags
# apply to what follows. Seen with m3u8 6.0.0 (PyPI).
#
# Rewriters and checkers in Python use it. For one target duration at the start of every break the players feed the ad's parts to
# the decoder with the programme's init segment; a reload later the tags are back and contradict what was played.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q m3u8==6.0.0
cat >test.py <<'END'
import m3u8

begin = """#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3
#EXT-X-PART-INF:PART-TARGET=1
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI="film.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T10:00:00Z
#EXTINF:4,
film7.mp4
"""
ad = """#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="ad.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T10:00:04Z
"""
parts = """#EXT-X-PART:DURATION=1,URI="ad8.0.mp4"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="ad8.1.mp4"
"""
range = '#EXT-X-DATERANGE:ID="1",START-DATE="2026-11-29T10:00:04Z",DURATION=30\n'


def again(text):
    written = m3u8.loads(begin + text).dumps()
    print(written, end="--\n")
    return written.split("film7.mp4\n")[1]


unfinished = again(ad + range + parts)
finished = again(ad + "#EXTINF:4,\nad8.mp4\n")
announced = again(range)
names = ("DISCONTINUITY", "MAP", "PROGRAM-DATE-TIME", "DATERANGE", "PART")
found = [[name for name in names if f"#EXT-X-{name}" in text] for text in (unfinished, finished, announced)]
assert found == [["DATERANGE", "PART"], ["DISCONTINUITY", "MAP", "PROGRAM-DATE-TIME"], []], found
END
venv/bin/python test.py
