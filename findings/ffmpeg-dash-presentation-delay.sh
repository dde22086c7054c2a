#!/bin/sh
# dash.js and Shaka Player stand still soon after the start of a live channel of FFmpeg's DASH muxer, from any server and without a
# loss: its MPD has suggestedPresentationDelay of the last segment's duration, with minimumUpdatePeriod of the same. Both players take
# it over their own, longer defaults, begin where the next segment is just being made, and fall back by standing still.
#
# Seen with FFmpeg 5.1.9 of Debian 12 (-f dash -seg_duration 2: suggestedPresentationDelay="PT2S" minimumUpdatePeriod="PT2S"),
# dash.js 5.2.1, Shaka Player 5.2.1, Chromium of Debian 12, files from a plain server on the loopback interface. Seconds that five
# starts of each, 0.4 s apart, stood still in their first 15 s, and the same with six seconds in the attribute's place (a machine with
# other work, which delays a request now and then):
#
#     dash.js  PT2S 6.5  PT6S 0.0
#     shaka    PT2S 5.4  PT6S 1.3
#
# The muxer has no option for the attribute. Needs node, npm, ffmpeg with libx264, and a Chromium that decodes H.264: CHROMIUM, or
# /usr/bin/chromium.
set -eu
dir=$(mktemp -d)
ffmpeg=""
trap '[ -z "$ffmpeg" ] || kill "$ffmpeg"; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts dashjs@5.2.1 shaka-player@5.2.1 playwright-core@1.65.1
mkdir live
(cd live && exec ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=size=160x90:rate=25 -t 150 -c:v libx264 -preset ultrafast \
    -tune zerolatency -pix_fmt yuv420p -g 50 -keyint_min 50 -sc_threshold 0 -f dash -seg_duration 2 -window_size 15 \
    -extra_window_size 5 -use_template 1 -use_timeline 1 live.mpd) &
ffmpeg=$!
cat >play.mjs <<'JS'
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname === "/") return response.setHeader("content-type", "text/html").end("<video muted></video>");
  if (pathname === "/time") return response.end(new Date().toISOString());
  const file = await readFile(`live/${pathname.split("/").pop()}`).catch(() => null);
  if (!file) response.statusCode = 404;
  if (file && pathname === "/PT6S/live.mpd") {
    return response.end(file.toString().replace(/suggestedPresentationDelay="[^"]*"/, 'suggestedPresentationDelay="PT6S"'));
  }
  response.end(file ?? "");
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const base = `http://127.0.0.1:${server.address().port}`;
const mpd = (await readFile("live/live.mpd")).toString();
console.log(mpd.match(/suggestedPresentationDelay="[^"]*"/)[0], mpd.match(/minimumUpdatePeriod="[^"]*"/)[0]);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
});
const code = { "dash.js": "dashjs/dist/modern/umd/dash.all.min.js", shaka: "shaka-player/dist/shaka-player.compiled.js" };
/** Seconds that the picture stood still after it had begun to move. */
async function stood(player, delay) {
  const page = await browser.newPage();
  await page.goto(base);
  await page.addScriptTag({ path: `node_modules/${code[player]}` });
  await page.evaluate(({ player, delay }) => {
    const [video, url] = [document.querySelector("video"), `${location.origin}/${delay}/live.mpd`];
    window.stood = 0;
    let since = null;
    let moved = false;
    video.addEventListener("waiting", () => moved && (since ??= performance.now()));
    video.addEventListener("timeupdate", () => {
      if (video.currentTime > 0 && !video.seeking && video.readyState >= 3) {
        if (since !== null) window.stood += (performance.now() - since) / 1000;
        since = null;
        moved ||= video.played.length > 0 && video.played.end(video.played.length - 1) - video.played.start(0) > 0.3;
      }
    });
    if (player === "dash.js") {
      const dash = dashjs.MediaPlayer().create();
      dash.updateSettings({ debug: { logLevel: 0 } });
      dash.clearDefaultUTCTimingSources();
      dash.addUTCTimingSource("urn:mpeg:dash:utc:http-iso:2014", `${location.origin}/time`);
      dash.initialize(video, url, true);
    } else {
      const own = new shaka.Player();
      own.attach(video).then(() => own.load(url)).then(() => video.play());
    }
  }, { player, delay });
  await page.waitForTimeout(15_000);
  const seconds = await page.evaluate(() => window.stood);
  await page.close();
  return seconds;
}
let right = /suggestedPresentationDelay="PT2(\.0)?S"/.test(mpd);
for (const player of ["dash.js", "shaka"]) {
  const sums = {};
  for (const delay of ["PT2S", "PT6S"]) {
    const starts = [0, 1, 2, 3, 4].map((at) => new Promise((done) => setTimeout(done, at * 400)).then(() => stood(player, delay)));
    sums[delay] = (await Promise.all(starts)).reduce((sum, it) => sum + it, 0);
  }
  console.log(`${player.padEnd(8)} PT2S ${sums.PT2S.toFixed(1)}  PT6S ${sums.PT6S.toFixed(1)}`);
  right &&= sums.PT2S > 0.5 && sums.PT6S < sums.PT2S / 2;
}
await browser.close();
server.close();
process.exit(right ? 0 : 1);
JS
until [ "$(ls live | grep -c '^chunk')" -ge 9 ]; do sleep 0.5; done
node play.mjs
