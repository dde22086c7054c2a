#!/bin/sh
# hls-parser takes an apostrophe for a quotation mark: all attributes behind a name like "Version d'origine" become part of the name.
#
# RFC 8216 section 4.2: a quoted string is delimited by a pair of double quotes; an apostrophe within is a character like others.
# hls-parser pairs both kinds when it looks for the comma that ends an attribute, so that the string never ends, without an error:
#        NAME="Version d'origine",LANGUAGE="fr",DEFAULT=YES,URI="fr.m3u8"
#        name: Version d'origine",LANGUAGE="fr",DEFAULT=YES,URI="fr.m3u8     no language, no default, no URI
# The same in an EXT-X-DATERANGE whose title has one: no start date, no duration, no SCTE35-OUT. Written again, the text is as before,
# so that a round trip does not show it. Seen with hls-parser 0.16.1 (npm).
#
# French and Italian names have an apostrophe as a rule. A manifest proxy or prefetcher in Node sees an audio rendition without a
# playlist of its own, as if it were muxed into the video, and misses the ad break.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" hls-parser@0.16.1
cat >test.cjs <<'END'
const assert = require("assert");
const HLS = require("hls-parser");
const rendition = (name) =>
  HLS.parse(`#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="${name}",LANGUAGE="fr",DEFAULT=YES,AUTOSELECT=YES,URI="fr.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="avc1.4d401e,mp4a.40.2",AUDIO="a"
v.m3u8
`).variants[0].audio[0];
const range = (title) =>
  HLS.parse(`#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T10:00:00Z
#EXT-X-DATERANGE:ID="1",X-TITLE="${title}",START-DATE="2026-11-29T10:00:00Z",DURATION=30,SCTE35-OUT=0xFC00
#EXTINF:4,
a.ts
`).segments[0].dateRange;
for (const [name, title] of [["Version originale", "Avant-match"], ["Version d'origine", "Pub d'avant-match"]]) {
  const audio = rendition(name);
  const { start, duration, attributes } = range(title);
  console.log({ name: audio.name, language: audio.language, default: audio.isDefault, uri: audio.uri, start, duration });
  const apostrophe = name.includes("'");
  assert.equal(audio.uri, apostrophe ? undefined : "fr.m3u8");
  assert.equal(audio.name === name, !apostrophe);
  assert.equal(duration, apostrophe ? undefined : 30);
  assert.equal("SCTE35-OUT" in attributes, !apostrophe);
}
END
node test.cjs
