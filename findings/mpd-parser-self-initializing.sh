#!/bin/sh
# mpd-parser gives segments that need no init segment one all the same: the MPD itself, or the folder of the segments.
#
# ISO/IEC 23009-1 clause 5.3.9.2: without an Initialization element or @initialization, each media segment is self-initializing. Transport streams
# in DASH and WebVTT in segments are so. mpd-parser resolves the empty text against the base URL:
#        <SegmentTemplate media="$Number$.vtt" .../>                            map: https://box.example/live/a.mpd
#        <BaseURL>seg/</BaseURL><SegmentTemplate media="$Number$.ts" .../>      map: https://box.example/live/seg/
# One would expect no map, as m3u8-parser gives for a playlist without EXT-X-MAP. Seen with mpd-parser 1.4.0 (npm), the reader of
# video.js.
#
# To a cache that is one more request for the MPD with each new representation, from the segment loader (Accept, priority and CMCD of
# a segment), and for a name that ends in a slash, which no origin of segments answers. A 404 there says nothing about
# the stream; and a rule of the cache that tells manifests from segments by who asks is wrong.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" mpd-parser@1.4.0 m3u8-parser@7.2.0
cat >test.cjs <<'END'
const assert = require("assert");
const { parse } = require("mpd-parser");
const map = (base, type, template) => {
  const mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:full:2011" minBufferTime="PT2S" type="static"
mediaPresentationDuration="PT8S"><Period id="1">${base}<AdaptationSet ${type}><SegmentTemplate timescale="1" duration="4" ${template}/>
<Representation id="r" bandwidth="1000"/></AdaptationSet></Period></MPD>`;
  const { playlists, mediaGroups } = parse(mpd, { manifestUri: "https://box.example/live/a.mpd" });
  const subtitles = Object.values(mediaGroups.SUBTITLES).flatMap(Object.values).flatMap((it) => it.playlists);
  const found = [...playlists, ...subtitles][0].segments[0];
  console.log(template, "->", found.resolvedUri, "map:", found.map?.resolvedUri);
  return found.map?.resolvedUri;
};
const video = 'mimeType="video/mp4" codecs="avc1.4d401e"';
const host = "https://box.example/live/";
assert.equal(map("", video, 'media="$Number$.m4s" initialization="i.mp4"'), host + "i.mp4");
assert.equal(map("", 'mimeType="text/vtt" contentType="text" lang="en"', 'media="$Number$.vtt"'), host + "a.mpd");
assert.equal(map("<BaseURL>seg/</BaseURL>", 'mimeType="video/mp2t" contentType="video"', 'media="$Number$.ts"'), host + "seg/");
const { Parser } = require("m3u8-parser");
const parser = new Parser();
parser.push("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.ts\n#EXT-X-ENDLIST\n");
parser.end();
assert.equal(parser.manifest.segments[0].map, undefined);
END
node test.cjs
