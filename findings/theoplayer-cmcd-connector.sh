#!/bin/sh
# THEOplayer's CMCD connector says that playlists are init segments, that the network is 100 kbit/s faster than measured, and escapes content ids twice.
#
# CTA-5004 version 1: ot=m is a manifest or playlist, ot=i an init segment; ot, sf and st are tokens, without quotes; mtp is an integer to the nearest
# 100 kbit/s; in the query the list as a whole is percent-encoded once. Of a film with the id "Film 7", at a measured 8.0 Mbit/s:
#        request            expected                                    sent, behind one decoding
#        manifest           ot=m,sf=h,st=v,cid="Film 7"                 ot="i",sf="h",st="v",cid="Film%207"
#        init segment       ot=i, without su in the middle of a film    ot="i", with su each time
#        segment            mtp=8000, ot=v                              mtp=8100, ot="v"
#        at 8.04 Mbit/s     mtp=8000                                    mtp=8140.000000000001, or the like
# One would expect the rounding that its comments promise, and the tokens that its types name. Seen with @theoplayer/cmcd-connector-web 1.5.0 (npm).
#
# Statistics by type of object count no playlists and too many init segments, with a start of playback at each change of rendition; a server that
# compares tokens finds none. A reader of CMCD has to take strings for tokens and decimals for integers, and not to add up su.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps --prefix "$dir" @theoplayer/cmcd-connector-web@1.5.0
cat >test.mjs <<'EOF'
import assert from "node:assert";
import { EventEmitter } from "node:events";
import { createCMCDConnector, TransmissionMode } from "@theoplayer/cmcd-connector-web";
globalThis.MediaSource = { isTypeSupported: () => true };

const interceptors = [];
const quality = { bandwidth: 2_000_000, codecs: "avc1.4d401e" };
const events = new EventEmitter();
const player = {
  addEventListener: (name, listener) => events.on(name, listener),
  removeEventListener() {},
  network: { addRequestInterceptor: (it) => interceptors.push(it), removeRequestInterceptor() {}, estimator: { bandwidth: 0 } },
  metrics: { currentBandwidthEstimate: 8_000_000 },
  abr: {},
  duration: 600,
  currentTime: 100,
  playbackRate: 1,
  played: { length: 1 },
  buffered: { length: 1, start: () => 90, end: () => 120 },
  videoTracks: [{ id: "v", qualities: [quality], activeQuality: quality }],
  audioTracks: [],
};
createCMCDConnector(player, { transmissionMode: TransmissionMode.QUERY_ARGUMENT, sessionID: "a", contentID: "Film 7" });
events.emit("currentsourcechange", { currentSource: { src: "https://box.example/film.m3u8", type: "application/x-mpegurl" } });
events.emit("durationchange");
function sent(type, more) {
  let url;
  interceptors[0]({ url: "https://box.example/file", type, headers: {}, redirect: (to) => (url = to.url), ...more });
  const text = new URL(url).searchParams.get("CMCD");
  console.log(type, text);
  return Object.fromEntries(text.split(",").map((member) => member.split(/=(.*)/s).slice(0, 2)));
}
const manifest = sent("manifest");
assert.deepEqual([manifest.ot, manifest.sf, manifest.st, manifest.cid], ['"i"', '"h"', '"v"', '"Film%207"']);
const init = sent("segment", { subType: "initialization-segment", mediaType: "video" });
assert(init.ot === '"i"' && "su" in init);
const segment = sent("segment", { mediaType: "video" });
assert.deepEqual([segment.ot, segment.mtp, segment.bl, segment.br], ['"v"', "8100", "20000", "2000"]);
assert(!("su" in segment));
player.metrics.currentBandwidthEstimate = 8_040_000;
assert(Math.abs(sent("segment", { mediaType: "video" }).mtp - 8140) < 1e-6);
EOF
node test.mjs
