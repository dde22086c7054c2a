#!/bin/sh
# dasha and mpd-inspector leave out the BaseURL of an AdaptationSet, and each loses other segments of a DASH film; neither raises an error.
#
# ISO/IEC 23009-1 clause 5.6.4: the BaseURLs of MPD, Period, AdaptationSet and Representation are joined. Clause 5.3.9.6: r="-1" repeats to
# the next S or the end. Clause 5.3.9.4: endNumber is the last number, "$$" is "$". Clause 5.3.9.1: a SegmentTemplate is inherited by attributes.
#        a film of 20 s                                         dasha 3.1.9                 mpd-inspector 1.2.3
#        BaseURLs p/ (Period), a/ (AdaptationSet), r/           p/r/1.m4s                   p/r/1.m4s
#        <S t="0" d="4" r="-1"/>                                none                        0.m4s alone
#        the same, then <S t="12" d="2" r="3"/>                 12, 14, 16, 18              0, 12, 14, 16, 18
#        startNumber="101" endNumber="103" duration="4"         101 to 105                  101 to 105
#        two Periods, of 8 and 12 s                             a1, a2: the first alone     a1, a2 and b1, b2, b3
#        media="a$$b_$Number$.m4s"                              a$b_1.m4s                   a$$b_Number$.m4s, for each
# One would expect p/a/r/1.m4s, 0 to 16, 0 to 18, 101 to 103, both Periods and a$b_1.m4s. Seen with those packages of npm and PyPI: dasha is made to
# download what it lists, mpd-inspector to validate by the rules of DASH-IF.
#
# An archive that is made with the one, or a check that counts with the other, has or sees less than a player. A count of segments by one
# library proves nothing; compare with what a player asks for, and write a timeline of single S elements for such tools.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" dasha@3.1.9
python3 -m venv venv
venv/bin/pip install -q mpd-inspector==1.2.3
cat >manifests.py <<'EOF'
import json


def mpd(body):
    return f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011"
 type="static" mediaPresentationDuration="PT20S" minBufferTime="PT2S">{body}</MPD>"""


def period(template, attributes="", period_base="", set_base="", base=""):
    representation = f'<Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16">{base}</Representation>'
    return f'<Period {attributes}>{period_base}<AdaptationSet mimeType="video/mp4">{set_base}{template}{representation}</AdaptationSet></Period>'


def times(timeline):
    timeline = f"<SegmentTimeline>{timeline}</SegmentTimeline>"
    return f'<SegmentTemplate media="$Time$.m4s" initialization="i.mp4" timescale="1">{timeline}</SegmentTemplate>'


def numbers(more, media="$Number$.m4s"):
    return f'<SegmentTemplate media="{media}" initialization="i.mp4" timescale="1" {more}/>'


bases = [f"<BaseURL>{base}/</BaseURL>" for base in "par"]
manifests = {
    "listed": mpd(period(times('<S t="0" d="4" r="4"/>'))),
    "bases": mpd(period(numbers('duration="20"'), "", *bases)),
    "repeated": mpd(period(times('<S t="0" d="4" r="-1"/>'))),
    "repeated to the next": mpd(period(times('<S t="0" d="4" r="-1"/><S t="12" d="2" r="3"/>'))),
    "end number": mpd(period(numbers('duration="4" startNumber="101" endNumber="103"'))),
    "periods": mpd(
        period(numbers('duration="4"', "a$Number$.m4s"), 'duration="PT8S"') + period(numbers('duration="4"', "b$Number$.m4s"), 'duration="PT12S"')
    ),
    "dollar": mpd(period(numbers('duration="10"', "a$$b_$Number$.m4s"))),
}
with open("manifests.json", "w") as file:
    json.dump(manifests, file)
EOF
python3 manifests.py
cat >test.mjs <<'EOF'
import { readFileSync } from "fs";
import { parse } from "dasha";

const base = "https://box.example/";
for (const [name, text] of Object.entries(JSON.parse(readFileSync("manifests.json", "utf8")))) {
  const { tracks } = await parse(text, base + "film.mpd");
  const urls = tracks.all.flatMap((track) => track.segments.map((segment) => segment.url.replace(base, "")));
  console.log(`${name}:`, ...urls.filter((url) => !url.endsWith("i.mp4")));
}
EOF
node test.mjs >dasha
cat >test.py <<'EOF'
import json

from mpd_inspector import MPDInspector, MPDParser

with open("manifests.json") as file:
    manifests = json.load(file)
for name, text in manifests.items():
    periods = MPDInspector(MPDParser.from_string(text)).periods
    sets = [representation for period in periods for adaptation in period.adaptation_sets for representation in adaptation.representations]
    print(f"{name}:", *(segment.urls[0] for representation in sets for segment in representation.segment_information.segments))
EOF
venv/bin/python test.py >mpd-inspector
cat >seen-dasha <<'EOF'
listed: 0.m4s 4.m4s 8.m4s 12.m4s 16.m4s
bases: p/r/1.m4s
repeated:
repeated to the next: 12.m4s 14.m4s 16.m4s 18.m4s
end number: 101.m4s 102.m4s 103.m4s 104.m4s 105.m4s
periods: a1.m4s a2.m4s
dollar: a$b_1.m4s a$b_2.m4s
EOF
cat >seen-mpd-inspector <<'EOF'
listed: 0.m4s 4.m4s 8.m4s 12.m4s 16.m4s
bases: p/r/1.m4s
repeated: 0.m4s
repeated to the next: 0.m4s 12.m4s 14.m4s 16.m4s 18.m4s
end number: 101.m4s 102.m4s 103.m4s 104.m4s 105.m4s
periods: a1.m4s a2.m4s b1.m4s b2.m4s b3.m4s
dollar: a$$b_Number$.m4s a$$b_Number$.m4s
EOF
for library in dasha mpd-inspector; do
  echo "$library"
  cat "$library"
  cmp "$library" "seen-$library"
done
