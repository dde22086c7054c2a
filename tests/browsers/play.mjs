// Players in a browser: node play.mjs [--seconds N] PLAYER URL [PLAYER URL …]
//
// PLAYER is hls.js, dash.js or shaka. Each URL is played at four times its speed until its end, or until N seconds of it were
// shown. Prints one JSON array: for each pair how far it came, whether it ended, frames shown, requests with the answers that
// were no success, and errors. Packages are those of package.json here, in the folder that NODE_MODULES names; the browser is
// CHROMIUM's, or /usr/bin/chromium.

import { join } from "node:path";

import { launch, packagesAt } from "./chromium.mjs";

const words = process.argv.slice(2);
let seconds = Infinity;
if (words[0] === "--seconds") seconds = Number(words.splice(0, 2)[1]);
if (words.length === 0 || words.length % 2 !== 0) {
  console.error("usage: node play.mjs [--seconds N] PLAYER URL [PLAYER URL …]");
  process.exit(2);
}
const packages = packagesAt("node_modules");

const SCRIPTS = {
  "hls.js": "hls.js/dist/hls.min.js",
  "dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
  shaka: "shaka-player/dist/shaka-player.compiled.js",
};
/** How long a player may show nothing new. */
const PATIENCE_MS = 20_000;
const SPEED = 4;

const browser = await launch(packages);

/** Runs in the page. */
function begin({ player, url, speed }) {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  window.found = { errors: [], notes: [] };
  const noted = (what) => window.found.notes.push(String(what));
  const failed = (what) => window.found.errors.push(String(what));
  video.addEventListener("error", () => failed(`video: ${video.error?.message}`));
  const start = () => {
    video.playbackRate = speed;
    video.play().catch((error) => failed(`play: ${error.message}`));
  };
  if (player === "hls.js") {
    const hls = new Hls();
    hls.on(Hls.Events.ERROR, (_, data) => (data.fatal ? failed : noted)(`${data.details} ${data.frag?.url ?? data.url ?? ""}`));
    hls.on(Hls.Events.MANIFEST_PARSED, start);
    hls.loadSource(url);
    hls.attachMedia(video);
  } else if (player === "dash.js") {
    const dash = dashjs.MediaPlayer().create();
    dash.on("error", (event) => failed(`${event.error?.code ?? ""} ${event.error?.message ?? event.error}`));
    dash.updateSettings({ debug: { logLevel: 0 }, streaming: { utcSynchronization: { enabled: false } } });
    dash.initialize(video, url, false);
    dash.on("canPlay", start);
  } else {
    shaka.polyfill.installAll();
    const own = new shaka.Player();
    own.addEventListener("error", (event) => failed(`shaka ${event.detail?.code} ${event.detail?.data}`));
    own.attach(video).then(() => own.load(url)).then(start, (error) => failed(`shaka ${error.code} ${error.data}`));
  }
}

async function play(player, url) {
  const page = await browser.newPage();
  const found = { player, url, time_s: 0, ended: false, frames: 0, requests: 0, refused: [], errors: [] };
  page.on("response", (response) => {
    if (!/^https?:/.test(response.url())) return;
    found.requests += 1;
    if (response.status() >= 400) found.refused.push(`${response.status()} ${response.url()}`);
  });
  page.on("pageerror", (error) => found.errors.push(`page: ${error.message}`));
  await page.addScriptTag({ path: join(packages, SCRIPTS[player]) });
  await page.evaluate(begin, { player, url, speed: Number.isFinite(seconds) ? 1 : SPEED });
  for (let since = Date.now(); Date.now() - since < PATIENCE_MS; ) {
    await new Promise((done) => setTimeout(done, 200));
    const state = await page.evaluate(() => {
      const video = document.querySelector("video");
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      return { time_s: video.currentTime, start_s: video.buffered.length ? video.buffered.start(0) : 0, ended: video.ended, frames };
    });
    if (state.time_s !== found.time_s) since = Date.now();
    Object.assign(found, state);
    const shown = found.time_s - (found.first_s ??= state.time_s);
    if (state.ended || shown >= seconds) break;
  }
  const { errors, notes } = await page.evaluate(() => window.found);
  found.errors.push(...errors);
  found.notes = notes;
  await page.close();
  return found;
}

const all = [];
for (let at = 0; at < words.length; at += 2) all.push(await play(words[at], words[at + 1]));
console.log(JSON.stringify(all, null, 1));
await browser.close();
