#!/bin/sh
# dash.js does not see the text of a BaseURL in a CDATA section, and loses what stands before a comment.
#
# Servers that insert ads write URLs with many & as <BaseURL><![CDATA[https://...?a=1&b=2]]></BaseURL>, and by XML 1.0 section 2.7 that is the
# same text as with &amp;. mpd-parser and Shaka Player take it so. dash.js has an XML parser of its own: an element with a CDATA section
# is one without text, and of two pieces of text the last one counts:
#        <BaseURL>v/a/</BaseURL>                 v/a/i.mp4
#        <BaseURL><![CDATA[v/a/]]></BaseURL>     i.mp4
#        <BaseURL>v/<!-- main -->a/</BaseURL>    a/i.mp4
# Seen with dash.js 5.2.1 (npm) in jsdom, no error, no warning.
#
# Such a player asks the box, beside the MPD, for segments that belong to another host or folder: a miss for every segment of one period,
# from one kind of player. Who writes manifests for boxes should write &amp;, never CDATA.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" dashjs@5.2.1 mpd-parser@1.4.0 jsdom@26.1.0
cat >test.cjs <<'EOF'
const mpd = (representation, template) => `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011"
    type="static" minBufferTime="PT2S" mediaPresentationDuration="PT8S"><Period id="1"><AdaptationSet mimeType="video/mp4">
    <Representation ${representation} bandwidth="1000" codecs="avc1.4d401e" width="16" height="16">
    ${template}</Representation></AdaptationSet></Period></MPD>`;

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

// A browser for dash.js that has no decoder, and a server that gives it one MPD after another.
const asked = [];
let current = "";
const server = require("http").createServer((request, response) => {
  const isMpd = request.url === "/film.mpd";
  if (!isMpd) asked.push(request.url.slice(1));
  response.setHeader("Content-Type", isMpd ? "application/dash+xml" : "video/mp4");
  response.end(isMpd ? current : Buffer.from("0000000866726565", "hex"));
});

function openBrowser(home) {
  const { window } = new (require("jsdom").JSDOM)("<video></video>", { url: home });
  const SourceBuffer = class extends window.EventTarget {
    buffered = { length: 0 };
    appendBuffer() {
      setTimeout(() => this.dispatchEvent(new window.Event("updateend")));
    }
    remove() {}
    abort() {}
  };
  window.MediaSource = class extends window.EventTarget {
    readyState = "open";
    sourceBuffers = [];
    static isTypeSupported() {
      return true;
    }
    constructor() {
      super();
      setTimeout(() => this.dispatchEvent(new window.Event("sourceopen")));
    }
    addSourceBuffer() {
      this.sourceBuffers.push(new SourceBuffer());
      return this.sourceBuffers[this.sourceBuffers.length - 1];
    }
    removeSourceBuffer() {}
    setLiveSeekableRange() {}
    endOfStream() {}
  };
  window.URL.createObjectURL = window.URL.revokeObjectURL = () => "";
  const media = window.HTMLMediaElement.prototype;
  media.load = media.pause = () => {};
  media.play = async () => {};
  const names = ["document", "DOMParser", "XMLHttpRequest", "Node", "Element", "HTMLElement", "Event", "EventTarget", "MediaSource", "self"];
  [...names, "localStorage", "sessionStorage", "CustomEvent", "location"].forEach((name) => (globalThis[name] = window[name]));
  globalThis.window = window;
  Object.defineProperty(globalThis, "navigator", { value: window.navigator, configurable: true });
  const dashjs = require("./node_modules/dashjs/dist/modern/umd/dash.all.debug.js");
  return dashjs.MediaPlayer ? dashjs : window.dashjs || globalThis.dashjs;
}

async function dashAsks(dashjs, text) {
  asked.length = 0;
  current = text;
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({ debug: { logLevel: 0 } });
  player.initialize(document.querySelector("video"), `${location.href}film.mpd`, true);
  for (let wait = 0; wait < 60 && asked.length < 2; wait++) await new Promise((resolve) => setTimeout(resolve, 250));
  const first = asked.slice(0, 2);
  player.destroy();
  return first;
}

(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const dashjs = openBrowser(`http://127.0.0.1:${server.address().port}/`);
  const template = '<SegmentTemplate media="$Number$.m4s" initialization="i.mp4" timescale="1" duration="4"/>';
  const found = [];
  for (const base of ["v/a/", "<![CDATA[v/a/]]>", "v/<!-- main -->a/"]) {
    const text = mpd('id="v"', `<BaseURL>${base}</BaseURL>${template}`);
    const dash = (await dashAsks(dashjs, text)).join(" ");
    const other = mpdParserFinds(text).slice(0, 2).join(" ");
    console.log(base, "dash.js:", dash, "mpd-parser:", other);
    found.push(dash, other);
  }
  const right = "v/a/i.mp4 v/a/1.m4s";
  process.exit(found.join() === [right, right, "i.mp4 1.m4s", right, "a/i.mp4 a/1.m4s", right].join() ? 0 : 1);
})();
EOF
node test.cjs
