#!/bin/sh
# pydash2hls makes a first segment of 48 s of the init segment, and of six segments lists others, one five times, or five.
#
# ISO/IEC 23009-1 clause 5.3.9.6: $Time$ is the begin of a segment, each S goes on where the one before ended, and the first number is
# @startNumber. RFC 8216 section 4.3.2.5: an init segment is EXT-X-MAP. An MPD of six segments, <S t="0" d="96000" r="4"/><S d="48000"/> at timescale 48000, becomes:
#        expected              $Number$, timeline       $Time$, timeline       $Number$, @duration, 11 s
#        MAP init.mp4          48 s  init.mp4           48 s  init.mp4         48 s  init.mp4
#        2 s   1, or 0          2 s  2                   2 s  96000             2 s  1
#        2 s   2, or 96000      2 s  3                   2 s  96000             2 s  2
#        ...                    ...                      ...                    ...
#        1 s   6, or 480000     1 s  7                   1 s  48000             (none; five of six)
# The playlist is a valid one in form, with TARGETDURATION 2 and a segment of 48. A film with a timeline and mediaPresentationDuration,
# as FFmpeg and Shaka Packager write it, is KeyError('@duration'). One would expect a converter to differ in detail. Seen with pydash2hls 3.0.0 (PyPI).
#
# Players have no init segment for what follows, ask for segments that do not exist, or play one five times. Who offers both formats writes both when
# packaging: a playlist that was made from an MPD has to be compared with it, segment by segment.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q pydash2hls==3.0.0
cat >test.py <<'EOF'
from pydash2hls import Dash

TIMELINE = '<SegmentTimeline><S t="0" d="96000" r="4"/><S d="48000"/></SegmentTimeline>'


def convert(media, template="", timeline=TIMELINE, mpd=""):
    text = f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-live:2011"
        minBufferTime="PT2S" {mpd}><Period duration="PT11S"><AdaptationSet mimeType="audio/mp4"><Representation id="a" bandwidth="64000"
        codecs="mp4a.40.2" audioSamplingRate="48000"><SegmentTemplate timescale="48000" initialization="init.mp4" media="{media}" {template}>
        {timeline}</SegmentTemplate></Representation></AdaptationSet></Period></MPD>"""
    film = Dash(text.encode(), "https://box.example/film.mpd")
    film.unpack()
    lines = film.convert("a").splitlines()
    assert not any(line.startswith("#EXT-X-MAP") for line in lines) and "#EXT-X-TARGETDURATION:2" in lines
    places = [at for at, line in enumerate(lines) if line.startswith("#EXTINF:")]
    listed = [(float(lines[at][8:].rstrip(",")), lines[at + 1].removeprefix("https://box.example/")) for at in places]
    print(media, template, listed)
    return listed


init = (48, "init.mp4")
assert convert("$Number$", 'startNumber="1"') == [init, (2, "2"), (2, "3"), (2, "4"), (2, "5"), (2, "6"), (1, "7")]
assert convert("$Time$") == [init] + [(2, "96000")] * 5 + [(1, "48000")]
by_duration = convert("$Number$", 'startNumber="1" duration="96000"', "", 'mediaPresentationDuration="PT11S"')
assert by_duration == [init, (2, "1"), (2, "2"), (2, "3"), (2, "4"), (2, "5")]
try:
    convert("$Number$", 'startNumber="1"', TIMELINE, 'mediaPresentationDuration="PT11S"')
    raise SystemExit("it is converted")
except KeyError as error:
    print("timeline and mediaPresentationDuration:", repr(error))
EOF
venv/bin/python test.py
