#!/bin/sh
# dash.js asks for a live MPD once and never again if the page calls play() on the video element right after initialize().
#
# Seen with dash.js 5.2.1 (npm: dashjs 5.2.1), Chromium of Debian 12, and a channel of FFmpeg 5.1.9's DASH muxer with
# minimumUpdatePeriod="PT2S", with a UTCTiming source by http-iso. With initialize(video, url, true) alone the MPD is asked for every two
# seconds and the picture moves. With video.play() behind it, as pages do that want the promise for their play button, one
# segment is fetched, the MPD is not asked for again, and the picture stands, without an error event:
#
#     initialize         10 manifests, 11 segments
#     initialize, play   1 manifests, 2 segments
#
# Needs node, npm, ffmpeg with libx264, and a Chromium that decodes H.264: CHROMIUM, or /usr/bin/chromium.
set -eu
dir=$(mktemp -d)
ffmpeg=""
trap '[ -z "$ffmpeg" ] || kill "$ffmpeg"; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts dashjs@5.2.1 playwright-core@1.65.1
mkdir live
(cd live && exec ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -t 120 -c:v libx264 -preset ultrafast \
    -pix_fmt yuv420p -g 50 -keyint_min 50 -sc_threshold 0 -f dash -seg_duration 2 -window_size 10 -extra_window_size 5 \
    -use_template 1 -use_timeline 1 live.mpd) &
ffmpeg=$!
cat >play.mjs <<'JS'
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname === "/") return response.setHeader("content-type", "text/html").end("<video muted></video>");
  if (pathname === "/time") return response.end(new Date().toISOString());
  const file = await readFile(`live${pathname}`).catch(() => null);
  if (!file) response.statusCode = 404;
  response.end(file ?? "");
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
});
async function play(name, calls) {
  const page = await browser.newPage();
  let [manifests, segments] = [0, 0];
  page.on("request", (request) => {
    if (request.url().endsWith(".mpd")) manifests += 1;
    if (request.url().endsWith(".m4s")) segments += 1;
  });
  await page.goto(base);
  await page.addScriptTag({ path: "node_modules/dashjs/dist/modern/umd/dash.all.min.js" });
  await page.evaluate((calls) => {
    const video = document.querySelector("video");
    const player = dashjs.MediaPlayer().create();
    player.updateSettings({ debug: { logLevel: 0 } });
    player.clearDefaultUTCTimingSources();
    player.addUTCTimingSource("urn:mpeg:dash:utc:http-iso:2014", `${location.origin}/time`);
    player.initialize(video, `${location.origin}/live.mpd`, true);
    if (calls) video.play().catch(() => {});
  }, calls);
  await page.waitForTimeout(20_000);
  console.log(`${name.padEnd(18)} ${manifests} manifests, ${segments} segments`);
  await page.close();
  return manifests;
}
const alone = await play("initialize", false);
const called = await play("initialize, play", true);
await browser.close();
server.close();
process.exit(alone >= 4 && called === 1 ? 0 : 1);
JS
until [ "$(ls live | grep -c '^chunk')" -ge 4 ]; do sleep 0.5; done
node play.mjs
