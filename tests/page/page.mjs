// A person at the page, in a browser: node page.mjs URL OUTDIR
//
// Browses by arrow keys alone, plays a title by HLS and one by DASH for five seconds each, watches the charts move, looks at
// everything in light and dark, on a television and a telephone, in two languages, and asks axe what a person without eyes
// would miss. Screenshots go to OUTDIR; one JSON document says what was found. Packages are those of daemon/web, in the folder
// that NODE_MODULES names; the browser is CHROMIUM's, or /usr/bin/chromium.

import { mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { launch, packagesAt } from "../browsers/chromium.mjs";

const [url, out] = process.argv.slice(2);
if (!url || !out) {
  console.error("usage: node page.mjs URL OUTDIR");
  process.exit(2);
}
const packages = packagesAt("../../daemon/web/node_modules");
const axe = await readFile(join(packages, "axe-core/axe.min.js"), "utf8");
mkdirSync(out, { recursive: true });

const TELEVISION = { viewport: { width: 1920, height: 1080 } };
const TELEPHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
/** How long a thing that must happen may take on a busy machine. */
const PATIENCE_MS = 40_000;

const found = { schema: 1, played: {}, axe: {}, console: [], screenshots: [] };
const failures = [];

function check(what, is) {
  if (!is) failures.push(what);
}

const browser = await launch(packages);

/** Opens the page, and waits for its titles. */
async function open(options, at = "") {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => failures.push(`a script failed: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") found.console.push(message.text());
  });
  await page.goto(url + at);
  await page.waitForSelector(".card:not(.waiting) .name");
  return page;
}

async function picture(page, name) {
  await page.screenshot({ path: join(out, `${name}.png`) });
  found.screenshots.push(`${name}.png`);
}

/** Serious and critical findings. The page's policy lets no script in, so axe comes by the debugger. */
async function audit(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter((it) => ["serious", "critical"].includes(it.impact));
  found.axe[name] = violations.map((it) => `${it.impact}: ${it.id} (${it.nodes.length})`);
  for (const it of serious) failures.push(`axe, ${name}: ${it.id}: ${it.help}: ${it.nodes[0]?.html.slice(0, 200)}`);
}

const focused = (page) =>
  page.evaluate(() => {
    const it = document.activeElement;
    return it?.closest(".card")?.querySelector(".name")?.textContent ?? it?.textContent?.trim().slice(0, 60) ?? "";
  });

/** Walks to the card of a name by arrow keys, row by row. */
async function walkTo(page, name) {
  await page.waitForFunction(() => document.activeElement?.classList.contains("main"));
  for (let step = 0; step < 12; step += 1) await page.keyboard.press("ArrowLeft");
  for (let row = 0; row < 20; row += 1) {
    for (let column = 0; column < 12; column += 1) {
      if ((await focused(page)) === name) return true;
      const before = await focused(page);
      await page.keyboard.press("ArrowRight");
      if ((await focused(page)) === before) break;
    }
    for (let step = 0; step < 12; step += 1) {
      const before = await focused(page);
      await page.keyboard.press("ArrowLeft");
      if ((await focused(page)) === before) break;
    }
    await page.keyboard.press("ArrowDown");
  }
  return false;
}

/** Plays the focused title until its time has gone on by five seconds. */
async function plays(page, name, pictureName) {
  const loaded = [];
  page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog.player video");
  const time = () => page.evaluate(() => document.querySelector("dialog.player video").currentTime);
  await page.waitForFunction(() => document.querySelector("dialog.player video").currentTime > 0);
  const began = await time();
  await page.waitForFunction((from) => document.querySelector("dialog.player video").currentTime >= from + 5, began);
  const size = await page.evaluate(() => document.querySelector("dialog.player video").videoWidth);
  found.played[name] = {
    from_s: began,
    to_s: await time(),
    width: size,
    engine: loaded.find((it) => /\/-\/(hls|dash)\.js$/.test(it)) ?? null,
  };
  check(`${name}: there is a picture`, size > 0);
  await page.keyboard.press("ArrowRight");
  if (pictureName) {
    await picture(page, pictureName);
    await audit(page, pictureName);
  }
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog.player", { state: "detached" });
}

try {
  // The living room: nothing but the arrow keys, OK and Back.
  const room = await open({ ...TELEVISION, colorScheme: "dark" });
  await picture(room, "television-dark");
  await audit(room, "titles-dark");
  const seen = new Set();
  for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"]) {
    await room.keyboard.press(key);
    seen.add(await focused(room));
  }
  check(`arrow keys lead to other titles: ${[...seen].join(", ")}`, seen.size >= 3);
  for (const [name, engine] of [["Only HLS", "/-/hls.js"], ["Only DASH", "/-/dash.js"]]) {
    if (!(await walkTo(room, name))) {
      failures.push(`${name}: no arrow leads there`);
      continue;
    }
    await plays(room, name, name === "Only HLS" ? "playing" : null);
    check(`${name} is played by ${engine}`, found.played[name].engine === engine);
    check(`${name}: the focus returns to its card`, (await focused(room)) === name);
  }
  // A number dialled plays its channel, and a link plays its title.
  await room.keyboard.press("2");
  await room.waitForSelector("dialog.player video");
  await room.waitForFunction(() => document.querySelector("dialog.player video").currentTime > 0);
  await room.keyboard.press("Escape");
  await room.waitForSelector("dialog.player", { state: "detached" });
  // Details.
  await room.keyboard.press("i");
  await room.waitForSelector("dialog.details");
  await picture(room, "details");
  await audit(room, "details");
  await room.keyboard.press("Escape");
  await room.waitForSelector("dialog.details", { state: "detached" });

  // The network operations centre: the charts move while packets are lost.
  const lines = () => room.evaluate(() => [...document.querySelectorAll(".chart .line")].map((it) => it.getAttribute("d")));
  await room.click('nav a[href="#state"]');
  await room.waitForFunction(() => [...document.querySelectorAll(".chart .line")].some((it) => it.getAttribute("d")));
  const before = await lines();
  await room.waitForTimeout(4000);
  const after = await lines();
  found.charts = { lines: before.length, moved: after.filter((it, at) => it !== before[at]).length };
  check(`every chart moves: ${JSON.stringify(found.charts)}`, before.length > 0 && found.charts.moved === before.length);
  found.loss = await room.evaluate(() => document.getElementById("strip")?.textContent ?? "");
  await picture(room, "state-dark");
  await audit(room, "state-dark");
  await room.evaluate(() => document.querySelector(".chart")?.scrollIntoView());
  await picture(room, "charts-dark");
  await room.context().close();

  const day = await open({ ...TELEVISION, colorScheme: "light", locale: "de-DE" });
  await day.waitForFunction(() => document.documentElement.lang === "de");
  await picture(day, "television-light-german");
  await audit(day, "titles-light");
  await day.click('nav a[href="#state"]');
  await day.waitForTimeout(1500);
  await picture(day, "state-light-german");
  await audit(day, "state-light");
  await day.context().close();

  // A telephone, by touch.
  const telephone = await open(TELEPHONE);
  await picture(telephone, "telephone");
  await audit(telephone, "telephone");
  const overflow = await telephone.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  check(`nothing sticks out of the telephone: ${overflow}`, overflow <= 0);
  await telephone.tap(".card .main");
  await telephone.waitForSelector("dialog.player video");
  await telephone.waitForFunction(() => document.querySelector("dialog.player video").currentTime > 0);
  await picture(telephone, "telephone-playing");
  await telephone.context().close();

  // A search, and what no title has.
  const desk = await open({ viewport: { width: 1366, height: 768 } });
  await desk.fill("#q", "only");
  await desk.waitForFunction(() => document.querySelectorAll(".card:not(.waiting)").length === 2);
  await desk.fill("#q", "nobody has this");
  await desk.waitForSelector("#empty:not([hidden])");
  const weight = await desk.evaluate(() => {
    const entries = performance.getEntriesByType("resource").filter((it) => new URL(it.name).pathname.startsWith("/-/"));
    return entries.filter((it) => !/live|titles\.json/.test(it.name)).reduce((sum, it) => sum + it.decodedBodySize, 0);
  });
  found.bytes_before_players = weight;
  check(`under 300 kB before the players: ${weight}`, weight > 0 && weight < 300_000);
  await desk.context().close();
} catch (error) {
  failures.push(error.message);
  for (const context of browser.contexts()) {
    for (const page of context.pages()) await picture(page, "failed").catch(() => {});
  }
}
await browser.close();
// What the policy has kept out would be told here.
for (const text of found.console) if (/Content Security Policy/.test(text)) failures.push(text);
found.failures = failures;
console.log(JSON.stringify(found, null, 2));
process.exit(failures.length ? 1 : 0);
