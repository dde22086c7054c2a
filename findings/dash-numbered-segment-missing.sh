#!/bin/sh
# One segment that is missing from a live MPD that numbers its segments stops dash.js and Shaka Player for most of the window, whatever
# comes after it: both ask for it again until it has left timeShiftBufferDepth. A player of HLS skips one that its playlist marks
# EXT-X-GAP, and one might expect these to go on after some attempts. SegmentTemplate@duration has no way to say that a segment
# is missing. Both pass over it at once when it is answered with 204 and no content.
#
# Seen with dash.js 5.2.1 and Shaka Player 5.2.1, default settings, Chromium and FFmpeg 5.1.9 of Debian 12 (-f dash -seg_duration 2
# -use_timeline 0 -window_size 15, suggestedPresentationDelay set to six seconds), files from a plain server on the loopback
# interface. One segment of sound, missing once; time without a moving picture in the 45 s after:
#
#     404  dash.js 37.2 s, 12 requests   shaka 23.5 s, 25 requests
#     204  dash.js  1.9 s,  1 request    shaka  1.9 s,  1 request
#
# Needs node, npm, ffmpeg with libx264, and a Chromium that decodes H.264: CHROMIUM, or /usr/bin/chromium.
set -eu
dir=$(mktemp -d)
ffmpeg=""
trap '[ -z "$ffmpeg" ] || kill "$ffmpeg"; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts dashjs@5.2.1 shaka-player@5.2.1 playwright-core@1.65.1
mkdir live
(cd live && exec ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=size=160x90:rate=25 -f lavfi -i sine -t 240 -map 0 -map 1 \
    -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 50 -keyint_min 50 -sc_threshold 0 -c:a aac -f dash \
    -seg_duration 2 -window_size 15 -extra_window_size 5 -use_template 1 -use_timeline 0 \
    -adaptation_sets "id=0,streams=v id=1,streams=a" live.mpd) &
ffmpeg=$!
cat >play.mjs <<'JS'
import { createServer } from "node:http";
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

let missing = null;
let asked = {};
const server = createServer(async (request, response) => {
  const [, folder, name = ""] = new URL(request.url, "http://localhost").pathname.split("/");
  if (folder === "") return response.setHeader("content-type", "text/html").end("<video muted></video>");
  if (folder === "time") return response.end(new Date().toISOString());
  if (name === missing) {
    asked[folder] = (asked[folder] ?? 0) + 1;
    response.statusCode = Number(folder.split("-")[0]);
    return response.end();
  }
  const file = await readFile(`live/${name}`).catch(() => null);
  if (!file) response.statusCode = 404;
  const is_mpd = file && name === "live.mpd";
  const delay = /suggestedPresentationDelay="[^"]*"/;
  response.end(is_mpd ? file.toString().replace(delay, 'suggestedPresentationDelay="PT6S"') : (file ?? ""));
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const wait = (seconds) => new Promise((ready) => setTimeout(ready, seconds * 1000));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
});
const code = { "dash.js": "dashjs/dist/modern/umd/dash.all.min.js", shaka: "shaka-player/dist/shaka-player.compiled.js" };
/** A page on which a player plays. */
async function play(player, folder) {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}`);
  await page.addScriptTag({ path: `node_modules/${code[player]}` });
  await page.evaluate(({ player, folder }) => {
    const [video, url] = [document.querySelector("video"), `${location.origin}/${folder}/live.mpd`];
    let [at, last] = [0, performance.now()];
    window.stood = 0;
    setInterval(() => {
      const now = performance.now();
      if (at > 0 && video.currentTime === at) window.stood += (now - last) / 1000;
      [at, last] = [video.currentTime, now];
    }, 100);
    if (player === "shaka") {
      const own = new shaka.Player();
      return void own.attach(video).then(() => own.load(url)).then(() => video.play());
    }
    const dash = dashjs.MediaPlayer().create();
    dash.updateSettings({ debug: { logLevel: 0 } });
    dash.clearDefaultUTCTimingSources();
    dash.addUTCTimingSource("urn:mpeg:dash:utc:http-iso:2014", `${location.origin}/time`);
    dash.initialize(video, url, true);
  }, { player, folder });
  return page;
}
let differs = false;
for (const status of [404, 204]) {
  missing = null;
  asked = {};
  const pages = {};
  for (const player of Object.keys(code)) pages[player] = await play(player, `${status}-${player}`);
  await wait(8);
  const before = {};
  for (const player in pages) before[player] = await pages[player].evaluate(() => window.stood);
  const numbers = readdirSync("live").map((name) => Number(name.match(/^chunk-stream1-(\d+)\.m4s$/)?.[1] ?? 0));
  missing = `chunk-stream1-${String(Math.max(...numbers) + 2).padStart(5, "0")}.m4s`;
  await wait(45);
  for (const player in pages) {
    const stood = (await pages[player].evaluate(() => window.stood)) - before[player];
    console.log(status, player, stood.toFixed(1), "s,", asked[`${status}-${player}`], "requests");
    differs ||= status === 404 ? stood < 12 : stood > 6;
    await pages[player].close();
  }
}
await browser.close();
process.exit(differs ? 1 : 0);
JS
sleep 24
node play.mjs || { echo "the behaviour has changed"; exit 1; }
