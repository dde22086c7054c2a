#!/bin/sh
# hls.js never asks a content steering server again that has answered 429 once, though it has read Retry-After.
#
# RFC 8216bis (content steering): on 429 a client takes the time of Retry-After in place of the TTL, and asks again then. That is how a steering
# server that is overloaded spreads its clients. Asked every second for 6.5 s, the second answer and all others an error:
#        503       asked 7 times
#        429       asked 2 times (Retry-After: 1)
# No error event tells the page. The code computes the time from Retry-After and returns before it sets the timer.
# Seen with hls.js 1.7.4 (npm). dash.js and Shaka Player ask again.
#
# A steering server, or a rate limiter before it, that uses the status made for this freezes every player on the pathway of that
# moment until the page is loaded anew; 503 is the one that works.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" hls.js@1.7.4
cat >steer.cjs <<'JS'
globalThis.self = globalThis;
globalThis.location = { href: "https://a.example/" };
const Hls = require("hls.js");
const main = [
  "#EXTM3U",
  '#EXT-X-CONTENT-STEERING:SERVER-URI="https://steer.example/s",PATHWAY-ID="a"',
  '#EXT-X-STREAM-INF:BANDWIDTH=1000,PATHWAY-ID="a"', "https://a.example/v.m3u8",
  '#EXT-X-STREAM-INF:BANDWIDTH=1000,PATHWAY-ID="b"', "https://b.example/v.m3u8", "",
].join("\n");
const answer = { VERSION: 1, TTL: 1, "PATHWAY-PRIORITY": ["a", "b"] };
// How often the steering server is asked, whose answers are `status` from the second one on.
const asked = (status) => new Promise((resolve) => {
  let count = 0;
  class Loader {
    load(context, config, callbacks) {
      this.context = context;
      const times = () => ({ start: 0, first: 0, end: 0 });
      const bytes = { aborted: false, loaded: 0, retry: 0, total: 0, chunkCount: 0, bwEstimate: 0 };
      this.stats = { ...bytes, loading: times(), parsing: times(), buffering: times() };
      const good = (data) => callbacks.onSuccess({ url: context.url, data }, this.stats, context, null);
      setTimeout(() => {
        if (context.type === "manifest") return good(main);
        if (!context.url.startsWith("https://steer.example/")) return undefined;
        count += 1;
        return count === 1 ? good(answer) : callbacks.onError({ code: status, text: "" }, context, null, this.stats);
      }, 5);
    }
    abort() {}
    destroy() {}
    getCacheAge() { return null; }
    getResponseHeader(name) { return name === "Retry-After" ? "1" : null; }
  }
  const hls = new Hls({ loader: Loader, enableWorker: false });
  Object.defineProperty(hls, "media", { get: () => ({ ended: false }) });
  hls.loadSource("https://a.example/main.m3u8");
  setTimeout(() => resolve(count), 6500);
});
Promise.all([asked(503), asked(429)]).then(([other, limited]) => {
  console.log(`503: asked ${other} times; 429: asked ${limited} times`);
  process.exit(other >= 4 && limited === 2 ? 0 : 1);
});
JS
node steer.cjs
