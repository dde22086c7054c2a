// Command line, packages and pages of the scripts that drive players in a browser.

import { join } from "node:path";

import { launch, packagesAt } from "./chromium.mjs";

const SCRIPTS = {
  "hls.js": "hls.js/dist/hls.min.js",
  "dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
  shaka: "shaka-player/dist/shaka-player.compiled.js",
};
const packages = packagesAt("node_modules");

/** `[--seconds N] PLAYER URL [PLAYER URL …]`: N or what `seconds` says, and the pairs. Without a pair the process ends. */
export function commandLine(script, seconds) {
  const words = process.argv.slice(2);
  if (words[0] === "--seconds") seconds = Number(words.splice(0, 2)[1]);
  if (words.length === 0 || words.length % 2 !== 0) {
    console.error(`usage: node ${script} [--seconds N] PLAYER URL [PLAYER URL …]`);
    process.exit(2);
  }
  const pairs = [];
  for (let at = 0; at < words.length; at += 2) pairs.push([words[at], words[at + 1]]);
  return { seconds, pairs };
}

/** The browser, without a page. */
export function startBrowser() {
  return launch(packages);
}

/** A page with this player's package; `found` gets its requests, the answers that were no success, and its errors. */
export async function open(browser, player, found) {
  const page = await browser.newPage();
  Object.assign(found, { requests: 0, refused: [], errors: [] });
  page.on("response", (response) => {
    if (!/^https?:/.test(response.url())) return;
    found.requests += 1;
    if (response.status() >= 400) found.refused.push(`${response.status()} ${response.url()}`);
  });
  page.on("pageerror", (error) => found.errors.push(`page: ${error.message}`));
  await page.addScriptTag({ path: join(packages, SCRIPTS[player]) });
  return page;
}
