// Players in a browser: node play.mjs [--seconds N] PLAYER URL [PLAYER URL …]
//
// PLAYER is hls.js, dash.js or shaka. Each URL is played at four times its speed until its end, or until N seconds of it were
// shown. Prints one JSON array: for each pair how far it came, whether it ended, frames shown, requests with the answers that
// were no success, and errors. Packages are those of package.json here, in the folder that NODE_MODULES names; the browser is
// CHROMIUM's, or /usr/bin/chromium.

import { commandLine, open, startBrowser } from "./players.mjs";

const { seconds, pairs } = commandLine("play.mjs", Infinity);

/** How long a player may show nothing new. */
const PATIENCE_MS = 20_000;
const SPEED = 4;

const browser = await startBrowser();

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
  const found = { player, url, time_s: 0, ended: false, frames: 0 };
  const page = await open(browser, player, found);
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
for (const [player, url] of pairs) all.push(await play(player, url));
console.log(JSON.stringify(all, null, 1));
await browser.close();
