// A person at the page, in a browser: node page.mjs URL OUTDIR [states|operator|live]
//
// Without `states`: walks everywhere by arrow keys alone, plays a title by HLS and one by DASH, continues one, sets an age
// limit and meets it, reads the guide, searches, looks at everything at four sizes in light and dark, in five languages, and
// asks axe what a person without eyes would miss. With `states`: what the page says when the signal, the box, the clock and
// the disk fail; the caller stops the sender and the box when a line on standard output asks for it, and answers with a line.
// With `live`: plays channel 1, which is HLS, and channel 2, which is DASH, for LIVE_SECONDS, and counts where time stands still.
// With `operator`: the operator's page, whose URL is that of the admin interface: charts, tables, pinning and purging, the token.
// Screenshots go to OUTDIR; one JSON document says what was found. Packages are those of daemon/web, in the folder that
// NODE_MODULES names; the browser is CHROMIUM's, or /usr/bin/chromium.

import { mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { launch, packagesAt } from "../browsers/chromium.mjs";

const [url, out, mode] = process.argv.slice(2);
if (!url || !out) {
  console.error("usage: node page.mjs URL OUTDIR [states|operator|live]");
  process.exit(2);
}
const packages = packagesAt("../../daemon/web/node_modules");
const axe = await readFile(join(packages, "axe-core/axe.min.js"), "utf8");
mkdirSync(out, { recursive: true });

const TELEVISION = { viewport: { width: 1920, height: 1080 } };
const TELEPHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
const SIZES = { 390: TELEPHONE, 1280: { viewport: { width: 1280, height: 720 } }, 1920: TELEVISION, 3840: { viewport: { width: 3840, height: 2160 } } };
/** The token of the admin interface, for the operator's page. */
const TOKEN = process.env.TOKEN ?? "";
/** How long a thing that must happen may take on a busy machine. */
const PATIENCE_MS = 40_000;
/** Compressed bytes that a browser fetches before somebody plays. */
const MAX_WEIGHT = 100_000;

const found = { schema: 1, played: {}, axe: {}, console: [], screenshots: [], reached: {}, tabbed: {} };
const failures = [];

function check(what, is) {
  if (!is) failures.push(what);
}

const browser = await launch(packages);

/** Opens the page, and waits for its titles. An operator has his token already, unless he is `asked`. */
async function open(options, at = "", ready = ".card:not(.waiting) .name", asked = false) {
  const context = await browser.newContext(options);
  if (mode === "operator" && !asked) await context.addInitScript((token) => sessionStorage.setItem("skycache.token", token), TOKEN);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => failures.push(`a script failed: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") found.console.push(message.text());
  });
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (/^http|^ws/.test(protocol) && host !== new URL(url).host) failures.push(`another host was asked: ${request.url()}`);
  });
  await page.goto(url + at);
  if (ready) await page.waitForSelector(ready);
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

const focusedHtml = (page) => page.evaluate(() => document.activeElement?.outerHTML.slice(0, 120) ?? "");

/** Goes on with an arrow until the focus is where it is wanted, at most `most` times. */
async function press(page, key, most, wanted) {
  for (let step = 0; step < most; step += 1) {
    if (await wanted()) return true;
    await page.keyboard.press(key);
  }
  return wanted();
}

/** Walks to the card of a name by arrow keys: down to its row, then along it. */
async function walkTo(page, name) {
  const row = () => page.evaluate((wanted) => {
    const names = [...(document.activeElement?.closest(".row")?.querySelectorAll(".card .name") ?? [])].map((it) => it.textContent);
    return document.activeElement?.closest("#row-continue") === null && names.includes(wanted);
  }, name);
  if (!(await press(page, "ArrowDown", 12, row)) && !(await press(page, "ArrowUp", 12, row))) return false;
  const here = async () => (await focused(page)) === name;
  if (await press(page, "ArrowRight", 12, here)) return true;
  return press(page, "ArrowLeft", 24, here);
}

/**
 * What arrow keys reach from where the focus is, and what they do not: every element that can be focused within `root` is
 * tried in all four directions, beginning with the focused one.
 */
async function reach(page, name, root) {
  const missed = await page.evaluate(async (root) => {
    const stops = () =>
      [...document.querySelector(root).querySelectorAll("a[href], button:not([disabled]), input:not([disabled])")].filter((it) => {
        const rect = it.getBoundingClientRect();
        const style = getComputedStyle(it);
        return rect.width > 0 && rect.height > 0 && style.visibility !== "hidden" && !it.matches(".more, .turn, .skip");
      });
    const press = (key) => {
      const target = document.activeElement ?? document.body;
      target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    };
    const seen = new Set([document.activeElement]);
    const queue = [document.activeElement];
    while (queue.length && seen.size < 400) {
      const from = queue.shift();
      for (const key of ["ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"]) {
        if (!from.isConnected) break;
        from.focus({ preventScroll: true });
        press(key);
        const to = document.activeElement;
        if (!seen.has(to) && to !== document.body) {
          seen.add(to);
          queue.push(to);
        }
      }
    }
    const all = stops();
    return { all: all.length, missed: all.filter((it) => !seen.has(it)).map((it) => it.outerHTML.slice(0, 120)) };
  }, root);
  found.reached[name] = `${missed.all - missed.missed.length} of ${missed.all}`;
  check(`arrow keys reach everything of ${name}: not ${missed.missed.slice(0, 3).join(" | ")}`, missed.all > 0 && missed.missed.length === 0);
}

/** Tabs round the page or its dialog from where the focus is: every stop is in sight, uncovered, and marked, and one comes back. */
async function tabRound(page, name) {
  const stops = [];
  // Behind its last element a page gives the focus to the browser, whose next Tab comes back.
  let away = 0;
  for (let step = 0; step < 200; step += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const it = document.activeElement;
      if (!it || it === document.body || it === document.documentElement) return null;
      globalThis.tabRound = globalThis.tabRound ?? new Map();
      if (!globalThis.tabRound.has(it)) globalThis.tabRound.set(it, globalThis.tabRound.size);
      const { left, top, right, bottom, width, height } = it.getBoundingClientRect();
      // What is taller than the window is seen in its part.
      const [x, y] = [(Math.max(0, left) + Math.min(innerWidth, right)) / 2, (Math.max(0, top) + Math.min(innerHeight, bottom)) / 2];
      const over = document.elementFromPoint(x, y);
      const style = getComputedStyle(it);
      const hasOutline = (/** @type {Element} */ of) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(of);
        return outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
      };
      // The frame of a card is marked in its place.
      const isMarked = hasOutline(it) || style.boxShadow !== "none" || [...it.querySelectorAll("*")].some(hasOutline);
      const isSeen = width > 0 && height > 0 && right > 0 && left < innerWidth && bottom > 0 && top < innerHeight;
      return { number: globalThis.tabRound.get(it), html: it.outerHTML.slice(0, 110), isMarked, isSeen, isFree: over === null || it.contains(over) || over.contains(it) };
    });
    if (stop === null) {
      away += 1;
      if (away > 3) break;
      continue;
    }
    if (stops.some((it) => it.number === stop.number)) break;
    stops.push(stop);
  }
  await page.evaluate(() => delete globalThis.tabRound);
  found.tabbed[name] = stops.length;
  const shown = (which) => stops.filter(which).map((it) => it.html).slice(0, 3).join(" | ");
  check(`Tab comes round ${name}: ${stops.length}`, stops.length > 1 && stops.length < 200);
  check(`the focus is marked in ${name}: not ${shown((it) => !it.isMarked)}`, stops.every((it) => it.isMarked));
  check(`the focus is in sight in ${name}: not ${shown((it) => !it.isSeen)}`, stops.every((it) => it.isSeen));
  check(`nothing covers the focus in ${name}: ${shown((it) => !it.isFree)}`, stops.every((it) => it.isFree));
}

/** Whether a control is one that a finger meets: 24 CSS pixels each way, in the window, and under nothing. */
async function isWithinReach(page, selector) {
  return page.evaluate((selector) => {
    const it = document.querySelector(selector);
    if (!it) return "not there";
    const { left, top, right, bottom, width, height } = it.getBoundingClientRect();
    const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    const is = width >= 24 && height >= 24 && left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight && it.contains(over);
    return is ? "" : `${Math.round(left)},${Math.round(top)} ${Math.round(width)}x${Math.round(height)} under ${over?.className}`;
  }, selector);
}

const videoTime = (page) => page.evaluate(() => document.querySelector("dialog.player video")?.currentTime ?? 0);

async function playing(page) {
  await page.waitForSelector("dialog.player video");
  await page.waitForFunction(() => document.querySelector("dialog.player video")?.currentTime > 0);
}

async function leave(page, dialog) {
  await page.keyboard.press("Escape");
  await page.waitForSelector(dialog, { state: "detached" });
}

/** Opens the focused film, plays it from its details, until its time has gone on by five seconds. */
async function plays(page, name, pictureName) {
  const loaded = [];
  page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog.details");
  if (pictureName) {
    await picture(page, "details");
    await audit(page, "details");
    await reach(page, "details", "dialog.details");
    await tabRound(page, "details");
    await page.evaluate(() => document.querySelector("dialog.details .primary").focus());
  }
  await page.keyboard.press("Enter");
  await playing(page);
  const began = await videoTime(page);
  await page.waitForFunction((from) => document.querySelector("dialog.player video").currentTime >= from + 5, began);
  const size = await page.evaluate(() => document.querySelector("dialog.player video").videoWidth);
  found.played[name] = {
    from_s: began,
    to_s: await videoTime(page),
    width: size,
    engine: loaded.find((it) => /\/-\/(hls|dash)\.js$/.test(it)) ?? null,
  };
  check(`${name}: there is a picture`, size > 0);
  await page.keyboard.press("ArrowRight");
  // It does not run to its end, after which there would be nothing to continue.
  await page.keyboard.press("k");
  await page.waitForFunction(() => document.querySelector("dialog.player video").paused);
  if (pictureName) {
    await picture(page, pictureName);
    await audit(page, pictureName);
    await reach(page, "the player", "dialog.player");
    await tabRound(page, "the player");
    // Quality: a fixed one is chosen by keys, and is the one that is marked.
    await page.evaluate(() => document.querySelector('.controls button[aria-label^="Audio"]').focus());
    await page.keyboard.press("Enter");
    await page.waitForSelector(".menu:not([hidden])");
    await picture(page, "tracks");
    await audit(page, "tracks");
    const rungs = await page.locator('.menu-item[data-key^="player.quality"]').count();
    check(`${name}: three pictures and automatic: ${rungs}`, rungs === 4);
    await page.locator('.menu-item[data-key="player.quality 0"]').press("Enter");
    await page.waitForSelector('.menu-item[data-key="player.quality 0"][aria-checked="true"]');
    await page.keyboard.press("Escape");
    check("Escape closes the menu alone", await page.locator("dialog.player").count() === 1);
    check(`and the focus returns to its button: ${await focusedHtml(page)}`, await page.evaluate(() => document.activeElement?.matches('.controls button[aria-label^="Audio"]')));
    // Louder and softer.
    await page.keyboard.press("-");
    const volume = await page.evaluate(() => document.querySelector("dialog.player video").volume);
    check(`the volume is less than whole: ${volume}`, volume > 0.9 && volume < 1);
  }
  await leave(page, "dialog.player");
  await leave(page, "dialog.details");
}

/** Settings by keys: asks for the PIN 1234 from an age on. */
async function setLimit(page, age) {
  await page.focus("#settings");
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog.settings");
  await picture(page, "settings");
  await audit(page, "settings");
  await reach(page, "settings", "dialog.settings");
  await tabRound(page, "settings");
  await page.focus(`[data-key="settings.age ${age}"]`);
  await page.keyboard.press("Enter");
  for (const digits of ["1234", "1234"]) {
    await page.waitForSelector("dialog.pin");
    await page.waitForFunction(() => document.querySelectorAll("dialog.pin .place.filled").length === 0);
    await picture(page, "pin");
    await page.keyboard.type(digits, { delay: 30 });
    await page.waitForTimeout(300);
  }
  await page.waitForSelector("dialog.pin", { state: "detached" });
  await leave(page, "dialog.settings");
  check(`the focus returns to the settings: ${await focusedHtml(page)}`, await page.evaluate(() => document.activeElement?.id === "settings"));
}

/** Details and settings at one size: whole in the window, closed by their button, and the focus is back where it was. */
async function dialogs(page, look) {
  await page.evaluate(() => document.querySelector('nav a[href="#/home"]').click());
  await page.waitForSelector("#home:not([hidden])");
  const card = "#row-films .card:not(.waiting) .main";
  await page.waitForSelector(card);
  for (const [name, opener] of [["details", card], ["settings", "#settings"]]) {
    await page.focus(opener);
    await page.keyboard.press("Enter");
    await page.waitForSelector(`dialog.${name}`);
    await page.waitForTimeout(300);
    await picture(page, `${name}-${look}`);
    await audit(page, `${name}-${look}`);
    const close = `dialog.${name} [aria-label="Close"]`;
    const away = await isWithinReach(page, close);
    check(`the button that closes ${name} is within reach at ${look}: ${away}`, away === "");
    await page.click(close);
    await page.waitForSelector(`dialog.${name}`, { state: "detached" });
    check(`the focus returns from ${name} at ${look}: ${await focusedHtml(page)}`, await page.evaluate((opener) => document.activeElement?.matches(opener), opener));
  }
}

async function person() {
  // The living room: nothing but the keys of a remote control.
  const room = await open({ ...TELEVISION, colorScheme: "dark", locale: "en-GB" });
  await room.waitForSelector(".hero:not([hidden])");
  check("the programme stands first, and its channel and time after it", (await room.textContent(".hero-title")) === "The matinee");
  check(`a channel says when: ${await room.textContent("#row-now .line")}`, /^\d\d:\d\d\s?–\s?\d\d:\d\d · 1 The film$/.test(await room.textContent("#row-now .line")));
  const share = await room.evaluate(() => document.querySelector("#row-now .bar-fill").style.transform);
  check(`a programme has progress: ${share}`, /scaleX\(0\.\d+\)/.test(share) && !/scaleX\(0\.0*\)/.test(share));
  check("a film shows its poster", (await room.locator("#row-films .art.pictured img").count()) >= 1);
  check("an age is shown", (await room.locator("#row-films .badge.age:not([hidden])").allTextContents()).includes("16"));
  await picture(room, "home-1920-dark");
  await audit(room, "home-dark");
  await reach(room, "home", "body");
  await tabRound(room, "home");
  await room.evaluate(() => document.querySelector(".hero .primary").focus());
  for (const [name, engine] of [["Only HLS", "/-/hls.js"], ["Only DASH", "/-/dash.js"]]) {
    if (!(await walkTo(room, name))) {
      failures.push(`${name}: no arrow leads there`);
      continue;
    }
    await plays(room, name, name === "Only HLS" ? "playing" : null);
    check(`${name} is played by ${engine}`, found.played[name]?.engine === engine);
    check(`${name}: the focus returns to its card`, (await focused(room)) === name);
  }

  // What was begun is continued where it was left, over a reload too.
  await room.waitForSelector("#row-continue .card");
  await room.reload();
  await room.waitForSelector("#row-continue .card:not(.waiting) .name");
  const begun = await room.locator("#row-continue .card .name").allTextContents();
  check(`both are begun, the newest first: ${begun}`, begun.join() === "Only DASH,Only HLS");
  await room.locator("#row-continue .card .main").first().press("Enter");
  await playing(room);
  const at = await videoTime(room);
  check(`it goes on where it was left: ${at}`, at > 4);
  await leave(room, "dialog.player");

  // A number dialled plays its channel; its controls say when the programme ends.
  await room.keyboard.press("1");
  await playing(room);
  check("the player says what is on", (await room.textContent("#player-name")) === "The matinee");
  await leave(room, "dialog.player");

  // The guide, by keys: what is on, what follows, and back.
  await room.keyboard.press("g");
  await room.waitForFunction(() => document.activeElement?.matches("button.guide-cell.on"));
  check("the guide begins with what is on", (await focused(room)).startsWith("The matinee"));
  await picture(room, "guide-1920-dark");
  await audit(room, "guide-dark");
  await reach(room, "the guide", "#guide");
  await tabRound(room, "the guide");
  await room.evaluate(() => document.querySelector("button.guide-cell.on").focus());
  await room.keyboard.press("ArrowRight");
  check("the next programme is on the right", (await focused(room)).startsWith("The evening"));
  await room.keyboard.press("Enter");
  await room.waitForSelector("dialog.details");
  check("a programme has details", (await room.textContent("#details-name")) === "The evening");
  check("and what it is about", (await room.textContent("dialog.details .about")) === "What the day was.");
  await picture(room, "programme");
  await audit(room, "programme");
  await leave(room, "dialog.details");
  check("the focus returns to the programme", (await focused(room)).startsWith("The evening"));
  await room.keyboard.press("Escape");
  await room.waitForSelector("#home:not([hidden])");

  // An age limit: asked for at the title, refused with a wrong PIN, kept away from links too.
  await setLimit(room, 16);
  await room.evaluate(() => document.querySelector(".hero .primary").focus());
  check("the way to a title with an age limit", await walkTo(room, "Only DASH"));
  await room.keyboard.press("Enter");
  await room.waitForSelector("dialog.details");
  await room.keyboard.press("Enter");
  await room.waitForSelector("dialog.pin");
  await audit(room, "pin");
  await room.keyboard.type("9999", { delay: 30 });
  await room.waitForFunction(() => document.querySelector(".pin-said").textContent !== "");
  check("nothing plays after a wrong PIN", (await room.locator("dialog.player").count()) === 0);
  await room.waitForTimeout(400);
  await room.keyboard.type("1234", { delay: 30 });
  await playing(room);
  await leave(room, "dialog.player");
  await leave(room, "dialog.details");
  await room.goto(`${url}#play=${encodeURIComponent("tag:example.com,2026:dash")}`);
  await room.reload();
  await room.waitForSelector("dialog.pin");
  check("a link asks for the PIN", (await room.locator("dialog.player").count()) === 0);
  await room.context().close();

  // Four sizes, by day and by night.
  for (const [size, options] of Object.entries(SIZES)) {
    for (const colorScheme of ["dark", "light"]) {
      const page = await open({ ...options, colorScheme, locale: "en-GB" });
      for (const section of ["home", "guide", "library"]) {
        await page.evaluate((to) => document.querySelector(`nav a[href="#/${to}"]`).click(), section);
        await page.waitForSelector(`#${section}:not([hidden])`);
        await page.waitForTimeout(400);
        if (!(section === "home" && size === "1920" && colorScheme === "dark")) await picture(page, `${section}-${size}-${colorScheme}`);
        const wide = await page.evaluate((width) => document.documentElement.scrollWidth - width, options.viewport.width);
        check(`nothing sticks out of ${section} at ${size}: ${wide}`, wide <= 0);
        if (size === "390" || colorScheme === "light") await audit(page, `${section}-${size}-${colorScheme}`);
      }
      await dialogs(page, `${size}-${colorScheme}`);
      if (size === "1920") {
        await page.evaluate(() => document.querySelector('nav a[href="#/library"]').click());
        await page.waitForSelector("#library:not([hidden])");
        await page.evaluate(() => document.querySelector(".chip[aria-pressed=true]").focus());
        await reach(page, "the library", "#library");
      }
      await page.context().close();
    }
  }

  // Five languages, each by its file, and the clock of each region.
  for (const [locale, word] of [["de-DE", "Start"], ["fr-FR", "Accueil"], ["es-ES", "Inicio"], ["it-IT", "Home"], ["en-US", "Home"]]) {
    const page = await open({ ...SIZES[1280], locale });
    await page.waitForFunction((lang) => document.documentElement.lang === lang, locale.slice(0, 2));
    check(`${locale}: ${await page.textContent("nav a")}`, (await page.textContent("nav a")) === word);
    const clock = await page.textContent("#clock");
    check(`${locale} has its own clock: ${clock}`, /[AP]M/.test(clock) === (locale === "en-US"));
    await page.context().close();
  }

  // A telephone, by touch.
  const telephone = await open(TELEPHONE);
  await telephone.tap("#row-now .card .main");
  await playing(telephone);
  await picture(telephone, "telephone-playing");
  await telephone.tap("dialog.player video");
  await telephone.waitForTimeout(300);
  const away = await isWithinReach(telephone, 'dialog.player .controls [aria-label="Close"]');
  check(`the button that closes the player is within reach of a finger: ${away}`, away === "");
  await telephone.context().close();

  // Search: titles, programmes, and what nothing has.
  const desk = await open(SIZES[1280], "#/search", "#search:not([hidden])");
  await desk.fill("#q", "only");
  await desk.waitForFunction(() => document.querySelectorAll("#found-films .card:not(.waiting)").length === 2);
  await desk.fill("#q", "evening");
  await desk.waitForSelector(".programmes .programme");
  check("a programme is found", (await desk.textContent(".programmes .what")) === "The evening");
  await picture(desk, "search");
  await audit(desk, "search");
  await desk.focus("#q");
  await reach(desk, "the search", "#search");
  await desk.fill("#q", "nobody has this");
  await desk.waitForFunction(() => /nobody has this/.test(document.getElementById("search-status").textContent));
  const weight = await desk.evaluate(() => {
    const own = performance.getEntriesByType("resource").filter((it) => /\/-\/[^?]*\.(js|css|svg)$|\/lang\//.test(it.name));
    return own.reduce((sum, it) => sum + it.encodedBodySize, performance.getEntriesByType("navigation")[0].encodedBodySize);
  });
  found.bytes_before_players = weight;
  check(`under ${MAX_WEIGHT} bytes before the players: ${weight}`, weight > 10_000 && weight < MAX_WEIGHT);
  await desk.context().close();
}

/** Live channels at their edge, beside each other: the page's own players and settings, and no other host asked. */
async function live() {
  const seconds = Number(process.env.LIVE_SECONDS ?? 12);
  found.live = {};
  const watch = async ([number, engine]) => {
    const page = await open({ ...SIZES[1280], locale: "en-GB" });
    const loaded = [];
    page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
    await page.keyboard.press(number);
    await playing(page);
    const began = [Date.now(), await videoTime(page)];
    let [last, still, longest] = [began[1], 0, 0];
    while (Date.now() - began[0] < seconds * 1000) {
      await page.waitForTimeout(500);
      const now = await videoTime(page);
      still = now - last < 0.1 ? still + 0.5 : 0;
      longest = Math.max(longest, still);
      last = now;
    }
    const [passed, shown] = [(Date.now() - began[0]) / 1000, last - began[1]];
    found.live[engine] = { passed_s: passed, shown_s: shown, longest_still_s: longest };
    check(`${engine} plays channel ${number}: ${loaded.filter((it) => it.endsWith(".js"))}`, loaded.includes(engine));
    check(`${engine}: time moves: ${shown} of ${passed} s`, shown >= passed / 2);
    await page.mouse.move(600, 400);
    await page.waitForTimeout(300);
    await picture(page, `live-${engine.slice(3, -3)}`);
    await page.context().close();
  };
  await Promise.all([["1", "/-/hls.js"], ["2", "/-/dash.js"]].map(watch));
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the caller do something, and waits until it is done. */
async function ask(what) {
  console.log(what);
  await lines.next();
}

async function states() {
  const state = (page, name, within_ms) => page.waitForSelector(`#health[data-state="${name}"]:not([hidden])`, { timeout: within_ms });
  // A clock that is three hours off.
  const late = await open({ ...SIZES[1280], locale: "en-GB" }, "", null);
  await late.clock.install({ time: Date.now() - 3 * 3_600_000 });
  await late.reload();
  await late.clock.resume();
  await state(late, "clock", PATIENCE_MS);
  check("the clock that differs is told", /3 h/.test(await late.textContent("#health")));
  await picture(late, "state-clock");
  await late.context().close();
  // A full disk, as the box would say it.
  const full = await open(SIZES[1280], "", null);
  await full.addInitScript(() => {
    const real = window.fetch;
    const state = { name: "box", cache: { disk: "full" }, receive: { groups: 0 } };
    const stream = () =>
      new ReadableStream({ start: (to) => to.enqueue(new TextEncoder().encode(`event: state\ndata: ${JSON.stringify(state)}\n\n`)) });
    window.fetch = (path, ...rest) => (path === "/-/live" ? Promise.resolve(new Response(stream())) : real(path, ...rest));
  });
  await full.reload();
  await state(full, "disk", PATIENCE_MS);
  await picture(full, "state-disk-full");
  await audit(full, "disk-full");
  await full.context().close();
  // No signal: told in red within five seconds of the last packet.
  const page = await open({ ...SIZES[1280], colorScheme: "dark", locale: "en-GB" });
  await page.waitForTimeout(2500);
  check("nothing is wrong at first", await page.locator("#health").isHidden());
  await ask("stop the sender");
  const stopped = Date.now();
  await state(page, "no-signal", 15_000);
  found.no_signal_ms = Date.now() - stopped;
  check(`no signal is told within 5 s: ${found.no_signal_ms} ms`, found.no_signal_ms <= 5000);
  const red = await page.evaluate(() => getComputedStyle(document.getElementById("health")).backgroundColor);
  check(`in red: ${red}`, red === "rgb(179, 38, 30)");
  await picture(page, "state-no-signal");
  await audit(page, "no-signal");
  // The box is gone: told, and what was shown stays.
  await ask("stop the box");
  await state(page, "gone", 15_000);
  check("the titles stay", (await page.locator(".card:not(.waiting) .name").count()) > 0);
  await picture(page, "state-gone");
  await ask("start the box");
  await page.waitForFunction(() => document.getElementById("health").dataset.state !== "gone");
  await page.context().close();
}

/** The certificate of the players' listener, and the log: by keys, with a level, a word, held, empty and out of reach. */
async function certificatesAndLog(page) {
  const certificate = await page.locator("[data-table=certificates] tbody td").allTextContents();
  check(`the certificate is there: ${certificate}`, certificate[0] === "[http.tls]" && certificate[1] === "CN=localhost" && certificate[2] === "localhost" && /cert\.pem$/.test(certificate[5]));
  check("two days are a warning", (await page.locator("[data-table=certificates] td.warn").count()) === 1);
  const log = "[data-table=logs]";
  await page.waitForSelector(`${log} tbody tr`);
  const messages = () => page.locator(`${log} .message`).allTextContents();
  // The table is read again each second or so: what was done just now is in it with the next answer.
  const audited = page.locator(`${log} .message`, { hasText: /^command .*method=POST .*\/api\/v1\/pin/ }).first();
  check("the audit of the pin is there", await audited.waitFor({ timeout: PATIENCE_MS }).then(() => true, () => false));
  // By keys alone: from the level to the word to the button.
  await page.focus(`${log} select`);
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  check("arrow keys choose a level", (await page.inputValue(`${log} select`)) === "error");
  check("a level without lines says so", (await messages()).length === 0 && /^No line/.test(await page.textContent(`${log} .hint`)));
  await picture(page, "operator-log-empty");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  await page.keyboard.type("method=POST");
  const found_by_word = await messages();
  check(`a word leaves the lines that have it: ${found_by_word.length}`, found_by_word.length >= 2 && found_by_word.every((it) => it.includes("method=POST")));
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  check("the log is held", (await page.getAttribute(`${log} button`, "aria-pressed")) === "true");
  await page.route("**/api/v1/logs*", (route) => route.fulfill({ status: 500, contentType: "application/json", body: '{"schema":1,"error":"out of order"}' }));
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /out of order/.test(document.querySelector("[data-table=logs] .hint.bad")?.textContent ?? ""));
  check("what was read stays", (await messages()).length === found_by_word.length);
  await audit(page, "operator-log");
  await page.unroute("**/api/v1/logs*");
  await page.waitForFunction(() => document.querySelector("[data-table=logs] .hint.bad") === null);
}

/** Live services as the box says them; the film of this story is none. */
const LIVE = [
  { service: "urn:example:news", state: "live", since_ms: 90_000, target_ms: 2000, segment_age_ms: 1340, latency_ms: 3200, dated: true, segments: 1234, from_origin: 5, listed_early: 4, listed_early_ms: 1200, deadline_misses: 3, repaired: 4 },
  { service: "cdn.example.com/live/sport", state: "origin", since_ms: 9000, target_ms: 6000, segment_age_ms: null, latency_ms: null, dated: false, segments: 0, from_origin: 17, listed_early: 0, listed_early_ms: 0, deadline_misses: 0, repaired: 0 },
  { service: "cdn.example.com/live/weather", state: "stalled", since_ms: 60_000, target_ms: 2000, segment_age_ms: 61_000, latency_ms: 63_500, dated: true, segments: 40, from_origin: 0, listed_early: 0, listed_early_ms: 0, deadline_misses: 12, repaired: 0 },
];

/** The table of live services: its words, its measures, by keys, and at every size. */
async function liveServices() {
  const frame = "[data-table=live] .table-frame";
  const words = { "en-GB": "Live services", "de-DE": "Live-Dienste", "es-ES": "Servicios en directo", "fr-FR": "Services en direct", "it-IT": "Servizi dal vivo" };
  const looks = [["390", "light", "en-GB"], ["390", "dark", "de-DE"], ["1280", "light", "fr-FR"], ["1280", "dark", "es-ES"], ["1920", "light", "it-IT"], ["1920", "dark", "en-GB"]];
  for (const [size, colorScheme, locale] of looks) {
    const name = `operator-live-${size}-${colorScheme}`;
    const page = await open({ ...SIZES[size], colorScheme, locale }, "", "[data-table=sessions] tbody tr");
    if (size === "390") check("without a live service it says so", await page.locator("[data-table=live] .hint").isVisible());
    await page.route("**/api/v1/status", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), live: LIVE } });
    });
    await page.waitForSelector(`${frame} tbody tr:nth-child(3)`);
    check(`${name}: its heading`, (await page.textContent("[data-table=live] h2")) === words[locale]);
    const cells = (row) => page.locator(`${frame} tbody tr:nth-child(${row}) td`).allTextContents();
    if (locale === "en-GB") {
      check(`${name}: ${await cells(1)}`, (await cells(1)).join("|") === "urn:example:news|live|1.3 s|3.2 s|1,234|4, 0.3 s each|3|4|5");
      check(`${name}: ${await cells(2)}`, (await cells(2)).join("|") === "cdn.example.com/live/sport|from origin|–|no date|0|0|0|0|17");
      check(`${name}: a service that stands is bad`, (await page.locator(`${frame} td.bad`).allTextContents()).join() === "stalled");
    }
    // A table that is wider than its frame is moved by arrow keys.
    await page.locator("[data-table=live]").scrollIntoViewIfNeeded();
    await page.focus(frame);
    const hidden = await page.evaluate((frame) => document.querySelector(frame).scrollWidth - document.querySelector(frame).clientWidth, frame);
    if (hidden > 0) {
      await page.keyboard.press("ArrowRight");
      await page.waitForFunction((frame) => document.querySelector(frame).scrollLeft > 0, frame);
    }
    const wide = await page.evaluate((width) => document.documentElement.scrollWidth - width, SIZES[size].viewport.width);
    check(`${name}: nothing sticks out: ${wide}`, wide <= 0);
    await picture(page, name);
    await audit(page, name);
    await page.context().close();
  }
}

async function operator() {
  await liveServices();
  const page = await open({ ...TELEVISION, colorScheme: "dark", locale: "en-GB" }, "", ".chart .line[d^=M]");
  await page.waitForSelector("[data-table=sessions] tbody tr");
  // Axes have units and ticks; lines move; the threshold of loss is drawn where it is in sight.
  const labels = await page.locator("#chart-receive .chart-labels text").allTextContents();
  check(`rates have units: ${labels}`, labels.filter((it) => / [kM]bit\/s$/.test(it.replace(/\u00a0/g, " "))).length >= 2);
  check(`time has ticks: ${labels}`, labels.filter((it) => /^\d\d:\d\d/.test(it)).length >= 2);
  check("loss has its thresholds", (await page.locator("#chart-loss .limit").count()) >= 1);
  const lines = () => page.evaluate(() => [...document.querySelectorAll("#chart-receive .line, #chart-players .line, #chart-requests .line")].map((it) => it.getAttribute("d")));
  const before = await lines();
  await page.waitForTimeout(3500);
  const after = await lines();
  check("the charts move", before.length === 5 && after.every((it, at) => it !== before[at]));
  await picture(page, "operator-1920-dark");
  await audit(page, "operator-dark");
  await tabRound(page, "the operator's page");
  await page.evaluate(() => window.scrollTo(0, 0));
  // One cursor for all charts, by the pointer and by keys.
  const box = await page.locator("#chart-receive svg").boundingBox();
  await page.mouse.move(box.x + box.width - 60, box.y + 60);
  await page.waitForFunction(() => [...document.querySelectorAll(".cursor")].every((it) => it.getAttribute("d") !== ""));
  const times = await page.locator(".chart-when").allTextContents();
  check(`all charts read the same second: ${times}`, new Set(times).size === 1 && /^\d\d:\d\d:\d\d$/.test(times[0]));
  await page.mouse.move(5, 5);
  await page.focus("#chart-loss");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  check("arrow keys move the cursor", (await page.textContent("#chart-receive .chart-when")) !== "");
  // A span that is dragged in one chart holds for all, until Escape.
  await page.mouse.move(box.x + box.width - 200, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width - 40, box.y + 60, { steps: 5 });
  await page.mouse.up();
  const ticks = async () => (await page.locator("#chart-flash .chart-labels text").allTextContents()).join();
  const zoomed = await ticks();
  check("no span of the buttons is chosen", (await page.locator("#spans [aria-pressed=true]").count()) === 0);
  await page.waitForTimeout(2500);
  check("the chosen span stays", (await ticks()) === zoomed);
  await page.keyboard.press("Escape");
  await page.focus("#chart-loss");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#spans [aria-pressed=true]");
  // Objects: one is pinned, one is purged and gone.
  await page.locator("[data-table=objects] .button").first().click();
  await page.fill("[data-table=objects] input", ".m4s");
  await page.waitForSelector("[data-table=objects] tbody tr");
  const first = page.locator("[data-table=objects] tbody tr").first();
  const key = await first.locator(".key").textContent();
  await first.locator(".button").first().click();
  await page.waitForFunction((key) => document.getElementById("toast").textContent === `Pinned: ${key}`, key);
  const row = page.locator("[data-table=objects] tbody tr", { hasText: key });
  await row.locator(".danger").click();
  check("purging asks first", (await row.locator(".danger").textContent()) === "Really?");
  await row.locator(".danger").click();
  await page.waitForFunction((key) => /^Purged: /.test(document.getElementById("toast").textContent) && document.getElementById("toast").textContent.includes(key), key);
  // The list and the purge read the field alike: a part of a name is one to both.
  const name = (await page.locator("[data-table=objects] tbody tr .key").first().textContent()).split("/").pop();
  await page.fill("[data-table=objects] input", name);
  const listed = await page.locator("[data-table=objects] tbody tr").count();
  await page.locator("[data-table=objects] .field .danger").click();
  await page.waitForFunction(() => /^Purge \d/.test(document.querySelector("[data-table=objects] .field .danger").textContent));
  const asked = await page.locator("[data-table=objects] .field .danger").textContent();
  check(`the purge is of what is listed: ${asked}`, asked === `Purge ${listed} object${listed === 1 ? "" : "s"} of *${name}*?`);
  await page.locator("[data-table=objects] .field .danger").click();
  await page.waitForFunction((listed) => document.getElementById("toast").textContent.startsWith(`${listed} object`), listed);
  await audit(page, "operator-objects");
  await certificatesAndLog(page);
  await page.context().close();
  for (const [size, colorScheme] of [["390", "light"], ["1280", "dark"], ["1920", "light"], ["3840", "dark"]]) {
    const page = await open({ ...SIZES[size], colorScheme, locale: "de-DE" }, "", ".chart .line[d^=M]");
    await page.waitForTimeout(1500);
    await picture(page, `operator-${size}-${colorScheme}`);
    await page.locator("[data-table=sessions]").scrollIntoViewIfNeeded();
    await picture(page, `operator-tables-${size}-${colorScheme}`);
    if (size === "390") {
      const cut = await page.evaluate(() => [...document.querySelectorAll(".table-grid .table-frame")].filter((it) => it.scrollWidth > it.clientWidth).map((it) => it.parentElement.dataset.table));
      check(`no table is cut at ${size}: ${cut}`, cut.length === 0);
      await page.locator("[data-table=logs]").scrollIntoViewIfNeeded();
      await picture(page, `operator-log-${size}-${colorScheme}`);
    }
    await audit(page, `operator-${size}-${colorScheme}`);
    // A telephone makes its window wider where something sticks out.
    const wide = await page.evaluate((width) => document.documentElement.scrollWidth - width, SIZES[size].viewport.width);
    check(`nothing sticks out at ${size}: ${wide}`, wide <= 0);
    const cut = await page.evaluate(() =>
      [...document.querySelectorAll(".chart svg")].flatMap((picture) => {
        const frame = picture.getBoundingClientRect();
        const isOut = (rect) => rect.left < frame.left - 1 || rect.right > frame.right + 1 || rect.bottom > frame.bottom + 1;
        return [...picture.querySelectorAll(".chart-labels text")].filter((it) => isOut(it.getBoundingClientRect())).map((it) => it.textContent);
      }),
    );
    check(`no tick is cut at ${size}: ${cut}`, cut.length === 0);
    await page.context().close();
  }
  // The token: asked for, refused if it is wrong, kept for the tab, and sent with every request.
  const wary = await open(SIZES[1280], "", "#token:not([hidden])", true);
  const given = [];
  wary.on("request", (request) => /\/api\//.test(request.url()) && given.push(request.headers().authorization ?? ""));
  check("nothing is shown without the token", await wary.locator("#body").isHidden());
  await audit(wary, "token");
  await picture(wary, "operator-token");
  await wary.fill("#token-field", "0000000000000000wrong");
  await wary.keyboard.press("Enter");
  await wary.waitForFunction(() => document.getElementById("token-said").textContent !== "" && !document.getElementById("token").hidden);
  await wary.fill("#token-field", TOKEN);
  await wary.keyboard.press("Enter");
  await wary.waitForSelector(".chart .line[d^=M]");
  check("the token is sent", given.length > 1 && given[given.length - 1] === `Bearer ${TOKEN}`);
  const kept_in = await wary.evaluate(() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie, location.href]);
  check("and kept nowhere but in this tab", kept_in[0].includes(TOKEN) && !kept_in.slice(1).some((it) => it.includes(TOKEN)));
  await wary.reload();
  await wary.waitForSelector(".chart .line[d^=M]");
  await wary.click("#forget");
  await wary.waitForSelector("#token:not([hidden])");
  await wary.context().close();
}

try {
  await { states, operator, live }[mode]?.();
  if (!mode) await person();
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
