#!/bin/sh
# The Python library mpegdash turns every "false" of an MPD into "true": a low-latency stream then says that its segments are complete.
#
# Read and written again by mpegdash, without an error:
#        availabilityTimeComplete="false"                     "true"
#        segmentAlignment="false"                             "true"
#        <Event><Signal>...SCTE-35...</Signal></Event>        <Event/>
#        xmlns:cenc on the ContentProtection                  gone, cenc:default_KID stays: no longer XML with namespaces
#        ServiceDescription, ProducerReferenceTime            gone
# By XML Schema part 2 section 3.2.2 "false" and "0" are the two ways to write it; "0" becomes "true" too. One would expect the values of
# what is kept to be kept, and the result to be well-formed. Seen with mpegdash 0.4.1 (PyPI).
#
# It is the library that scripts in Python use to change a BaseURL or to drop a representation. By ISO/IEC 23009-1 clause 5.3.9.5 a
# segment with @availabilityTimeOffset is complete at its availability time unless @availabilityTimeComplete is false: players
# ask for whole segments seconds before they exist, and to a cache these are requests that are held until the segment ends, or 404.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q mpegdash==0.4.1
cat >in.mpd <<'END'
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" minBufferTime="PT2S"
availabilityStartTime="2026-11-29T10:00:00Z" publishTime="2026-11-29T10:00:00Z"><ServiceDescription id="0"><Latency target="3000"/>
</ServiceDescription><Period id="1" start="PT0S"><EventStream schemeIdUri="urn:scte:scte35:2014:xml+bin" timescale="1"><Event id="1"
presentationTime="4" duration="30"><Signal xmlns="http://www.scte.org/schemas/35/2016"><Binary>/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo=</Binary>
</Signal></Event></EventStream><AdaptationSet mimeType="video/mp4" segmentAlignment="false"><ContentProtection
schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="cenc" xmlns:cenc="urn:mpeg:cenc:2013"
cenc:default_KID="11111111-1111-1111-1111-111111111111"/><ProducerReferenceTime id="0" wallClockTime="2026-11-29T10:00:00Z"
presentationTime="0"/><SegmentTemplate timescale="1" duration="4" availabilityTimeOffset="3.5" availabilityTimeComplete="false"
initialization="i.mp4" media="$Number$.m4s"/><Representation id="v" bandwidth="1000" codecs="avc1.42c00c"/></AdaptationSet></Period></MPD>
END
cat >test.py <<'END'
import re
import xml.etree.ElementTree as ET
from mpegdash.parser import MPEGDASHParser

ET.parse("in.mpd")


def again(name):
    MPEGDASHParser.write(MPEGDASHParser.parse(name), "out.mpd")
    return open("out.mpd").read()


out = again("in.mpd")
print(out)
assert 'availabilityTimeOffset="3.5" availabilityTimeComplete="true"' in out and 'segmentAlignment="true"' in out
assert re.search(r"<Event [^>]*/>", out) and "/DAvAAAA" not in out
assert "ServiceDescription" not in out and "ProducerReferenceTime" not in out
try:
    ET.fromstring(out)
    raise SystemExit("namespaces are well-formed")
except ET.ParseError as error:
    print(error)
    assert "unbound prefix" in str(error)
with open("digits.mpd", "w") as file:
    file.write(open("in.mpd").read().replace('"false"', '"0"'))
assert 'availabilityTimeComplete="true"' in again("digits.mpd")
END
venv/bin/python test.py
