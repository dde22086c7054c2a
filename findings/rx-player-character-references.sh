#!/bin/sh
# RxPlayer does not know the decimal character references that Go's encoding/xml and Python's XML writers put into MPDs: it asks for "d&".
#
# XML 1.0 section 4.1: &#39; and &#x27; are the same character. Go writes an apostrophe as &#39; in text and attributes; lxml and ElementTree write
# what is not ASCII in decimal unless told otherwise. RxPlayer's reader of XML knows the five names and hexadecimal references only. Of
# <BaseURL>d'or/</BaseURL> as Go writes it, of "Français" in a Label as Python does, and of a BaseURL with a comment:
#                             Shaka Player, mpd-parser           RxPlayer
#        d&#39;or/            d'or/i.mp4                         d&#39;or/i.mp4, of which "d&" is asked for: the rest is a fragment
#        d&#x27;or/           d'or/i.mp4                         d'or/i.mp4
#        Fran&#231;ais                                           the name of the audio is "Fran&#231;ais"
#        v/<!-- 2 -->hd/      v/hd/i.mp4                         v/  hd/i.mp4
# One would expect a reader that knows one kind of reference to know the other. Seen with rx-player 4.5.0, shaka-player 5.2.12, mpd-parser 1.4.0
# (npm), Go 1.19 (Debian 12), lxml 6.1.3 (PyPI) and Python 3.11.
#
# All segments of such a channel are requests for one URL, "d&", which a cache answers with one 404. Who writes manifests escapes by percent what
# is not plain in a URL, and writes UTF-8 with the five names of XML.
#
# Needs go (Debian: golang-go).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
go version
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" rx-player@4.5.0 shaka-player@5.2.12 mpd-parser@1.4.0 jsdom@26.1.0
python3 -m venv venv
venv/bin/pip install -q lxml==6.1.3
cat >write.go <<'EOF'
package main

import (
	"encoding/xml"
	"fmt"
)

type Element struct {
	XMLName xml.Name `xml:"BaseURL"`
	Text    string   `xml:",chardata"`
}

func main() {
	text, err := xml.Marshal(Element{Text: "d'or/"})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}
EOF
HOME="$dir" GOCACHE="$dir/go" GO111MODULE=off go run write.go >go.xml
cat >write.py <<'EOF'
import xml.etree.ElementTree as ElementTree

from lxml import etree

written = {library.tostring(library.XML("<Label>Fran\u00e7ais</Label>")) for library in (ElementTree, etree)}
assert written == {b"<Label>Fran&#231;ais</Label>"}
print(written.pop().decode())
EOF
venv/bin/python write.py >python.xml
cat go.xml python.xml
cat >test.cjs <<'EOF'
const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const readMpd = require("./node_modules/rx-player/dist/commonjs/parsers/manifest/dash/js-parser/parse_from_xml_string.js").default;

// The URLs that RxPlayer has for a film, or its error.
function rxPlayerFinds(mpd) {
  try {
    const { parsed } = readMpd(mpd, { url: "https://box.example/film.mpd" }).value;
    const { index, cdnMetadata } = parsed.periods[0].adaptations.video[0].representations[0];
    const names = [index.getInitSegment(), ...index.getSegments(0, 100)].map((segment) => segment.url);
    return names.map((name) => (cdnMetadata[0].baseUrl + name).replace("https://box.example/", ""));
  } catch (error) {
    return [error.message];
  }
}

// The URLs of init segment and media segments that mpd-parser finds, or its error.
function mpdParserFinds(mpd) {
  try {
    const { segments } = require("mpd-parser").parse(mpd, { manifestUri: "https://box.example/film.mpd" }).playlists[0];
    const uris = [segments[0].map.resolvedUri, ...segments.map((segment) => segment.resolvedUri)];
    return uris.map((uri) => uri.replace("https://box.example/", ""));
  } catch (error) {
    return [error.message];
  }
}

// The URLs that Shaka Player asks for to begin a film, or its error.
async function shakaAsks(mpd) {
  const { window } = new (require("jsdom").JSDOM)("<video></video>", { url: "https://box.example/" });
  window.MediaSource = class extends window.EventTarget {
    static isTypeSupported() {
      return true;
    }
  };
  const names = ["document", "DOMParser", "Node", "Element", "HTMLElement", "HTMLMediaElement", "HTMLVideoElement", "Event", "EventTarget"];
  [...names, "MediaSource"].forEach((name) => (globalThis[name] = window[name]));
  globalThis.window = globalThis.self = window;
  globalThis.location = window.location;
  const browser = { userAgent: "Chrome/140.0.0.0 Safari/537.36", vendor: "Google Inc.", language: "en", platform: "Linux" };
  Object.defineProperty(window, "navigator", { value: browser });
  Object.defineProperty(globalThis, "navigator", { value: browser, configurable: true });
  const shaka = require("shaka-player");
  shaka.polyfill.installAll();
  const asked = [];
  shaka.net.NetworkingEngine.registerScheme("https", (uri) => {
    if (!uri.endsWith(".mpd")) asked.push(uri.replace("https://box.example/", ""));
    const data = uri.endsWith(".mpd") ? new TextEncoder().encode(mpd).buffer : new ArrayBuffer(100);
    return shaka.util.AbortableOperation.completed({ uri, originalUri: uri, data, headers: {}, status: 200 });
  });
  const player = new shaka.Player();
  player.configure("streaming.segmentPrefetchLimit", 2);
  try {
    const preload = await player.preload("https://box.example/film.mpd", null, "application/dash+xml");
    await Promise.race([preload.waitForFinish(), new Promise((resolve) => setTimeout(resolve, 3000))]);
  } catch (error) {
    return [String(error.code)];
  }
  return asked;
}

const label = readFileSync("python.xml", "utf8").trim();
const film = (base) => `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
  minBufferTime="PT2S" mediaPresentationDuration="PT8S">${base}<Period id="1"><AdaptationSet contentType="video" mimeType="video/mp4">
  ${label}<Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16"><SegmentTemplate duration="4" initialization="i.mp4"
  media="$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>`;
(async () => {
  const byGo = readFileSync("go.xml", "utf8").trim();
  const cases = [
    [byGo, "d'or/i.mp4", "d&#39;or/i.mp4"],
    ["<BaseURL>d&#x27;or/</BaseURL>", "d'or/i.mp4", "d'or/i.mp4"],
    ["<BaseURL>v/<!-- 2 -->hd/</BaseURL>", "v/hd/i.mp4", "v/  hd/i.mp4"],
  ];
  for (const [base, right, byRx] of cases) {
    const seen = [(await shakaAsks(film(base)))[0], mpdParserFinds(film(base))[0], rxPlayerFinds(film(base))[0]];
    console.log(base, seen);
    assert.deepEqual(seen, [right, right, byRx]);
  }
  assert.equal(new URL("d&#39;or/i.mp4", "https://box.example/").pathname, "/d&");
  const [period] = readMpd(film(byGo), { url: "https://box.example/film.mpd" }).value.parsed.periods;
  console.log("label:", period.adaptations.video[0].label);
  assert.equal(period.adaptations.video[0].label, "Fran&#231;ais");
  process.exit(0);
})();
EOF
node test.cjs
