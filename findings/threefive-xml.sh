#!/bin/sh
# threefive writes SCTE-35 as XML that no XML reader takes, its own included, and gives the splice time another name than the schema.
#
# DASH carries SCTE-35 as XML in Event elements (ANSI/SCTE 214-1, urn:scte:scte35:2013:xml), and the library is what many build that
# with. A splice_insert of SCTE 35, read from base64:
#        written                                      by the schema of SCTE 35
#        <scte35:SpliceInfoSectionxmlns:scte35=...     <scte35:SpliceInfoSection xmlns:scte35=...
#        <scte35:SpliceTime ptstime="...">             <scte35:SpliceTime ptsTime="...">
# One would expect a function that returns XML to be tried with a reader of XML once. A time_signal has ptsTime with a capital.
# Seen with threefive 3.1.5 (PyPI). The binary section that it writes is right.
#
# Ad breaks for DASH made so do not parse, and take the whole MPD with them where the text is put into it. A packager should carry the binary
# form (urn:scte:scte35:2014:xml+bin), and whatever checks or rewrites MPDs has to survive an Event that is no XML.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q threefive==3.1.5
cat >test.py <<'EOF'
import re, xml.etree.ElementTree
from threefive import Cue

INSERT = "/DAlAAAAAAAAAP/wFAUAAAABf+/+LRQrAP4BI9MIAAEBAQAAfxV6SQ=="
cue = Cue(INSERT)
cue.decode()
binary = cue.encode()
text = str(cue.xml())
print(text)
times = re.findall(r"pts[tT]ime", text)
try:
    xml.etree.ElementTree.fromstring(text)
    raise SystemExit("it is XML")
except xml.etree.ElementTree.ParseError as error:
    print("ElementTree:", error)
again = Cue(text)
again.decode()
print("times:", times, "read by threefive itself:", again.command)
assert binary == INSERT and text.startswith("<scte35:SpliceInfoSectionxmlns:") and times == ["ptstime"] and not again.command
mended = text.replace("Sectionxmlns", "Section xmlns")
assert xml.etree.ElementTree.fromstring(mended).tag == "{https://scte.org/schemas/35}SpliceInfoSection"
EOF
venv/bin/python test.py
