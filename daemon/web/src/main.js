// @ts-check
// The page: puts the modules together. What there is to play, what lies on top of it, the live state below, and the keys
// that lead from one to the other.

import { byId, el, refill, setText } from "./dom.js";
import { showDetails } from "./details.js";
import { Dial } from "./dial.js";
import { Grid } from "./grid.js";
import * as i18n from "./i18n.js";
import { actionOf, isTyping, nearest } from "./keys.js";
import { listen } from "./live.js";
import { Notices } from "./notices.js";
import { Player, playable } from "./player.js";
import { boxSays } from "./programme.js";
import { StateView, lossOf } from "./state.js";
import { showSwitches } from "./switches.js";
import { Titles, channel, titleOf } from "./titles.js";
import * as views from "./views.js";

/** @typedef {import("./types").Title} Title */

const { t } = i18n;
/** Pause after the last letter before the box is asked. */
const SEARCH_MS = 300;
/** How often progress bars move. */
const TICK_MS = 10_000;

const notices = new Notices(byId("toast"));
const titles = new Titles(changed);
const grid = new Grid(titles, {
  open: (index) => act(index, play),
  details: (index) => act(index, details),
  playable: (title) => playable(title, titles.players).length > 0,
});
const state = new StateView();
const dial = new Dial(byId("dial"), async (number) => {
  const found = await channel(titles, number).catch(() => null);
  if (found) play(found);
  else notices.say(t("dial.none", { number: String(number) }));
});
/** @type {Player | null} */
let player = null;

/** @param {number} index @param {(title: Title) => void} what */
function act(index, what) {
  const title = titles.at(index);
  if (title) what(title);
}

/** Plays a title, or shows its details if there is nothing that this browser can play. @param {Title} title */
function play(title) {
  if (!playable(title, titles.players).length) {
    details(title);
    return;
  }
  if (player && !player.closedFor) {
    player.start(title);
    return;
  }
  player = new Player(titles.players, { zap, details });
  player.open(title);
}

/** @param {Title} title */
function details(title) {
  if (views.top()?.element.classList.contains("details")) return;
  showDetails(title, {
    playable: playable(title, titles.players).length > 0,
    play: () => {
      if (player && !player.closedFor && player.title?.id === title.id) views.back();
      else play(title);
    },
  });
}

/**
 * The next title of the same sort that can be played.
 * @param {Title} from
 * @param {1 | -1} by
 * @returns {Promise<Title | null>}
 */
async function zap(from, by) {
  const broadcast = (/** @type {Title} */ it) => it.type === "linear" || it.type === "radio";
  let index = titles.indexOf(from.id);
  if (index < 0) index = grid.current;
  // Not the whole list: a thousand steps would be ten questions to the box.
  for (let step = 0; step < Math.min(titles.total, 300); step += 1) {
    index = (index + by + titles.total) % titles.total;
    const title = await titles.get(index).catch(() => null);
    if (!title) return null;
    if (broadcast(title) !== broadcast(from) || !playable(title, titles.players).length) continue;
    grid.become(index);
    return title;
  }
  return null;
}

/** @param {"page" | "reset" | "error"} why */
function changed(why) {
  if (why === "error") {
    if (!titles.known) notices.keep("titles", t("titles.failed"));
    window.setTimeout(() => grid.draw(), 5000);
    if (!titles.known) window.setTimeout(() => titles.fetch(0), 5000);
    return;
  }
  notices.drop("titles");
  refill(byId("plain"));
  setText(byId("name"), titles.name);
  document.title = titles.name;
  showSurroundings();
  if (why === "reset") grid.become(0);
  grid.refill();
}

/** What stands around the grid. */
function showSurroundings() {
  setText(byId("count"), titles.known ? t("titles.count", { count: titles.total }) : "");
  const empty = byId("empty");
  empty.hidden = !titles.known || titles.total > 0;
  setText(empty, titles.q ? t("titles.notFound", { q: titles.q }) : t("titles.none"));
  const none = byId("no-players");
  none.hidden = !titles.known || titles.players;
  setText(none, t("titles.noPlayers"));
  const list = byId("messages");
  list.hidden = titles.messages.length === 0;
  refill(list, ...titles.messages.slice(0, 5).map((text) => {
    const item = el("li");
    i18n.write(item, { text, lang: "" }, 400);
    return item;
  }));
}

/** Takes the words of the language in use, everywhere. */
function relabel() {
  relabelSwitches();
  byId("q").setAttribute("placeholder", t("search"));
  byId("q").setAttribute("aria-label", t("search"));
  showSurroundings();
  grid.refill();
  state.relabel();
}

/** The few words of state that are always in sight. @param {import("./types").Sample} sample */
function showStrip(sample) {
  const loss = lossOf(state.samples);
  const strip = byId("strip");
  setText(strip, t("strip", { rate: i18n.rate(sample.receive_bps), loss: loss === null ? "–" : i18n.percent(loss) }));
  // The words may not have come yet.
  strip.hidden = strip.textContent === "";
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const action = actionOf(event);
  if (!action || event.defaultPrevented || isTyping(event.target, action)) return;
  const view = views.top();
  if (/^[0-9]$/.test(action)) {
    if (!event.repeat) dial.digit(action);
  } else if (view?.key?.(action, event)) {
    // The view has dealt with it.
  } else if (action === "back") {
    if (dial.clear()) {
      // A number half dialled is taken back first.
    } else if (view) {
      views.back();
    } else if (event.key === "Escape" || event.key === "Backspace") {
      if (!titles.q) return;
      clearSearch();
    } else {
      return; // A remote control's Back leaves the page, as everywhere.
    }
  } else if (action === "search" && !view) {
    byId("q").focus();
  } else if (action === "up" || action === "down" || action === "left" || action === "right") {
    move(action, view?.element ?? null);
  } else if (!view && grid.focused() && action === "info") {
    act(grid.current, details);
  } else if (!view && grid.focused() && (action === "next" || action === "previous")) {
    const by = grid.screenful() * grid.columns;
    grid.focus(grid.current + (action === "next" ? by : -by));
  } else {
    return;
  }
  event.preventDefault();
}

/**
 * Moves the focus.
 * @param {import("./types").Direction} direction
 * @param {HTMLElement | null} view
 */
function move(direction, view) {
  const from = document.activeElement;
  if (!view && grid.focused()) {
    const to = grid.neighbour(direction);
    if (to >= 0) {
      grid.focus(to);
      return;
    }
  } else if (!view && (!from || from === document.body)) {
    grid.focus(grid.entry());
    return;
  }
  const inGrid = (/** @type {Element} */ it) => grid.element.contains(it);
  const isCard = (/** @type {Element} */ it) => it.classList.contains("main");
  const except = (/** @type {Element} */ it) => it.classList.contains("skip") || (inGrid(it) && (grid.focused() || !isCard(it)));
  const to = nearest(view ?? document, from, direction, except);
  if (!to) {
    // Nothing to stop at, but there may be more to see.
    (view?.querySelector(".details-body") ?? window).scrollBy(0, direction === "down" ? 120 : direction === "up" ? -120 : 0);
    return;
  }
  if (inGrid(to)) {
    grid.focus(direction === "down" || direction === "up" ? grid.entry() : [...grid.cards.values()].find((it) => it.main === to)?.index ?? 0);
    return;
  }
  to.focus({ preventScroll: true });
  to.scrollIntoView({ block: "nearest", inline: "nearest" });
}

const field = /** @type {HTMLInputElement} */ (byId("q"));
let typing = 0;

function search() {
  clearTimeout(typing);
  const q = field.value.trim();
  if (q !== titles.q) titles.search(q);
}

function clearSearch() {
  field.value = "";
  search();
}

field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = window.setTimeout(search, SEARCH_MS);
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
document.addEventListener("keydown", pressed);

for (const id of ["nav", "search", "switches", "state", "help"]) byId(id).hidden = false;
byId("nav").addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const target = link?.getAttribute("href");
  if (!target) return;
  event.preventDefault(); // Not an entry in the history: Back would lead there.
  const section = byId(target.slice(1));
  section.scrollIntoView();
  if (section.id === "titles") grid.focus(grid.current);
  else /** @type {HTMLElement | null} */ (section.querySelector("[data-stop]"))?.focus({ preventScroll: true });
});
const relabelSwitches = showSwitches(byId("switches"), async (language) => {
  await i18n.use(language, true);
  relabel();
});
i18n.use(i18n.preferred()).then(relabel);
/** A television that was told to play a title comes with `#play=` and its id. */
async function playAsked() {
  const asked = new URLSearchParams(location.hash.slice(1)).get("play");
  const title = asked && (await titleOf(asked).catch(() => null));
  if (title) play(title);
}

titles.fetch(0).then(() => {
  if (!document.activeElement || document.activeElement === document.body) grid.focus(0);
  return playAsked();
});
window.setInterval(() => {
  grid.tick();
  player?.tick();
}, TICK_MS);

listen({
  history: (samples) => {
    const newest = samples[samples.length - 1];
    state.history(samples);
    if (newest) showStrip(newest);
  },
  sample: (sample) => {
    boxSays(sample.at_ms);
    state.sample(sample);
    showStrip(sample);
  },
  state: (it) => state.show(it),
  titles: (version) => titles.renew(version, grid.current),
  connection: ({ state: how, retry_s }) => {
    document.documentElement.classList.toggle("offline", how !== "open");
    if (how === "open") notices.drop("live");
    else if (how === "full") notices.keep("live", t("live.full", { count: retry_s ?? 0 }));
    else notices.keep("live", t("live.lost"));
  },
});
