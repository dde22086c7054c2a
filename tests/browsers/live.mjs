// Players of live channels in a browser: node live.mjs --seconds N PLAYER URL [PLAYER URL …]
//
// PLAYER is hls.js, dash.js or shaka, with the settings that it ships with. All pairs play beside each other for N seconds each,
// counted from the first frame. Prints one JSON array: for each pair the time until the first frame, the seconds shown, every
// standstill and every jump of the playback position, errors, and the distance to the live edge as the player sees it. Packages
// are those of package.json here, in the folder that NODE_MODULES names; the browser is CHROMIUM's, or /usr/bin/chromium.

import { commandLine, open, startBrowser } from "./players.mjs";

const { seconds, pairs } = commandLine("live.mjs", 20);

/** How long a player may take to its first frame. */
const PATIENCE_MS = 30_000;

const browser = await startBrowser();

/** Runs in the page. */
function begin({ player, url }) {
  /** Between two looks at the playback position. */
  const LOOK_MS = 100;
  /** A position that stands for so long is a standstill. A busy machine delays looks, not the position. */
  const STILL_MS = 400;
  /** Players skip short gaps between segments by themselves; a viewer sees those from here on. */
  const JUMP_S = 0.3;
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const found = { first_ms: null, shown_s: 0, frames: 0, still: [], jumps: [], errors: [], notes: [], edge_s: [] };
  window.found = found;
  const began = performance.now();
  const noted = (what) => found.notes.length < 200 && found.notes.push(`${((performance.now() - began) / 1000).toFixed(1)}: ${what}`);
  const failed = (what) => found.errors.push(`${((performance.now() - began) / 1000).toFixed(1)}: ${what}`);
  video.addEventListener("error", () => failed(`video: ${video.error?.message}`));
  video.addEventListener("waiting", () => noted(`waiting at ${video.currentTime.toFixed(2)}`));
  video.addEventListener("seeking", () => noted(`seeking to ${video.currentTime.toFixed(2)}`));
  const start = () => video.play().catch((error) => failed(`play: ${error.message}`));
  let edge = () => NaN;
  if (player === "hls.js") {
    const hls = new Hls();
    hls.on(Hls.Events.ERROR, (_, data) =>
      (data.fatal ? failed : noted)(`${data.details} ${data.frag?.url ?? data.url ?? ""} ${data.response?.code ?? ""}`),
    );
    hls.on(Hls.Events.MANIFEST_PARSED, start);
    hls.loadSource(url);
    hls.attachMedia(video);
    edge = () => hls.latency;
  } else if (player === "dash.js") {
    const dash = dashjs.MediaPlayer().create();
    dash.on("error", (event) => failed(`${event.error?.code ?? ""} ${event.error?.message ?? event.error}`));
    dash.updateSettings({ debug: { logLevel: 0 } });
    dash.initialize(video, url, true);
    edge = () => dash.getCurrentLiveLatency();
  } else {
    shaka.polyfill.installAll();
    const own = new shaka.Player();
    own.addEventListener("error", (event) => failed(`shaka ${event.detail?.code} ${event.detail?.data}`));
    own.attach(video).then(() => own.load(url)).then(start, (error) => failed(`shaka ${error.code} ${error.data}`));
    edge = () => own.getStats().liveLatency;
  }
  let last = null;
  setInterval(() => {
    const [now, at] = [performance.now(), video.currentTime];
    found.frames = video.getVideoPlaybackQuality().totalVideoFrames;
    if (found.first_ms === null) {
      if (found.frames === 0 || at === 0 || video.paused) return;
      if (last === null || at === last.at) {
        last = { now, at };
        return;
      }
      found.first_ms = now - began;
      last = { now, at, moved: now };
      return;
    }
    const [passed_s, moved_s] = [(now - last.now) / 1000, at - last.at];
    if (moved_s > passed_s * 1.2 + JUMP_S || moved_s < 0) {
      found.jumps.push(`${(now - began).toFixed(0)} ms: ${last.at.toFixed(2)} to ${at.toFixed(2)}`);
    } else {
      found.shown_s += moved_s;
    }
    const stood_ms = now - last.moved;
    if (at !== last.at) {
      if (stood_ms > STILL_MS) found.still.push({ at_s: at, after_ms: Math.round(last.moved - began), ms: Math.round(stood_ms) });
      last.moved = now;
    }
    found.standing_ms = Math.round(now - last.moved);
    Object.assign(last, { now, at });
    const distance = edge();
    if (Number.isFinite(distance)) found.edge_s.push(distance);
  }, LOOK_MS);
}

async function play(player, url) {
  const found = { player, url };
  const page = await open(browser, player, found);
  await page.evaluate(begin, { player, url });
  let shown;
  for (const since = Date.now(); ; ) {
    await new Promise((done) => setTimeout(done, 250));
    shown = await page.evaluate(() => window.found);
    const passed_ms = Date.now() - since;
    if (shown.first_ms === null ? passed_ms > PATIENCE_MS : passed_ms > shown.first_ms + seconds * 1000) break;
  }
  const edge = shown.edge_s.sort((a, b) => a - b);
  const errors = [...found.errors, ...shown.errors];
  await page.close();
  return { ...found, ...shown, errors, edge_s: [0.5, 0.95].map((part) => edge[Math.floor(edge.length * part)] ?? null) };
}

console.log(JSON.stringify(await Promise.all(pairs.map(([player, url]) => play(player, url))), null, 1));
await browser.close();
