#!/bin/sh
# hls-parser and the Python library m3u8 keep one key of a segment that has several: all DRM systems but the last are gone.
#
# RFC 8216 section 4.3.2.4: several EXT-X-KEY tags with different KEYFORMAT may apply to one segment, each for the clients of one key
# system; that is how one fMP4 stream serves FairPlay, Widevine and PlayReady. Read and written again:
#        read       KEYFORMAT com.apple.streamingkeydelivery, urn:uuid:edef8ba9-..., com.microsoft.playready
#        written    KEYFORMAT com.microsoft.playready
# No error and no warning. hls-parser keeps all the EXT-X-SESSION-KEY of the multivariant playlist, which promises the three systems.
# Seen with hls-parser 0.16.1 (npm) and m3u8 6.0.0 (PyPI).
#
# A manifest proxy or ad inserter built on them takes the channel from every device of the other systems, and a test with one
# player passes or fails by the order in which the packager writes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" hls-parser@0.16.1
python3 -m venv venv
venv/bin/pip install -q m3u8==6.0.0
key() { echo "$1:METHOD=SAMPLE-AES,URI=\"$2\",KEYFORMAT=\"$3\",KEYFORMATVERSIONS=\"1\""; }
keys() {
    key "$1" skd://a com.apple.streamingkeydelivery
    key "$1" data:text/plain,a urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed
    key "$1" data:text/plain,b com.microsoft.playready
}
{ printf '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n'; keys '#EXT-X-KEY'
    printf '#EXT-X-MAP:URI="i.mp4"\n#EXTINF:4,\ns1.mp4\n#EXTINF:4,\ns2.mp4\n#EXT-X-ENDLIST\n'; } >in.m3u8
{ printf '#EXTM3U\n#EXT-X-VERSION:7\n'; keys '#EXT-X-SESSION-KEY'; printf '#EXT-X-STREAM-INF:BANDWIDTH=1000\nin.m3u8\n'; } >main.m3u8
cat >copy.cjs <<'END'
const HLS = require("hls-parser");
console.log(HLS.stringify(HLS.parse(require("fs").readFileSync(process.argv[2], "utf8"))));
END
formats() { grep -oE '^#EXT-X-(SESSION-)?KEY.*' "$1" | grep -oE 'KEYFORMAT="[^"]*"' | cut -d'"' -f2 | paste -sd' '; }
node copy.cjs in.m3u8 >node.m3u8
node copy.cjs main.m3u8 >node-main.m3u8
venv/bin/python -c 'import m3u8; print(m3u8.load("in.m3u8").dumps())' >python.m3u8
for file in in node python main node-main; do echo "$file: $(formats $file.m3u8)"; done
all="com.apple.streamingkeydelivery urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed com.microsoft.playready"
test "$(formats in.m3u8)" = "$all"
test "$(formats node-main.m3u8)" = "$all"
test "$(formats node.m3u8)" = com.microsoft.playready
test "$(formats python.m3u8)" = com.microsoft.playready
