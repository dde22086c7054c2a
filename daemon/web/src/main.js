// @ts-check
// The page of viewers: puts the modules together. Its four sections, what lies on top of them, the line that says what is
// wrong with the box, and the keys that lead from one to the other.

import { isBroadcast } from "./card.js";
import { showDetails, showProgramme } from "./details.js";
import { Dial } from "./dial.js";
import { byId, el, icon, refill, setText } from "./dom.js";
import { Guide } from "./guide.js";
import { Health } from "./health.js";
import { Home } from "./home.js";
import * as i18n from "./i18n.js";
import { actionOf, isTyping, nearest } from "./keys.js";
import { Library } from "./library.js";
import { listen } from "./live.js";
import { Notices } from "./notices.js";
import { ageOf, isLocked } from "./parental.js";
import { askPin } from "./pin.js";
import { Player, playable } from "./player.js";
import { boxSays, now_ms } from "./programme.js";
import { Search } from "./search.js";
import { showSettings } from "./settings.js";
import { applyTheme } from "./theme.js";
import { Titles, channel, titleOf } from "./titles.js";
import * as views from "./views.js";

/** @typedef {import("./types").Title} Title */
/** @typedef {import("./types").Programme} Programme */

const { t } = i18n;
/** How often progress bars move. */
const TICK_MS = 10_000;
/** Pause before the box is asked again for what it did not say. */
const AGAIN_MS = 4000;
/** How often the share of films in the box is asked for while something arrives. */
const HELD_MS = 15_000;
const SECTIONS = /** @type {const} */ (["home", "guide", "library", "search"]);
/** @typedef {(typeof SECTIONS)[number]} Section */

applyTheme();
const notices = new Notices(byId("toast"));
let players = false;
/** @type {Player | null} */
let player = null;
/** @type {Section} */
let section = "home";
/** Objects on their way, by the last word of the box. */
let arriving = 0;

const home = new Home({ play, open, details, all: (kind) => go("library", kind), known: (page) => known(page) });
const library = new Library({ play: open, details });
const guide = new Guide({ play: playId, programme: (row, event) => programme(row.id, event) });
const search = new Search({ play: open, details, programme: ({ channel: { id }, event }) => programme(id, event) });
const health = new Health((gone) => document.documentElement.classList.toggle("offline", gone));
const dial = new Dial(byId("dial"), async (number) => {
  const found = await channel(number).catch(() => null);
  if (found) play(found);
  else notices.say(t("dial.none", { number: String(number) }));
});
/** What channel keys go through; made when they are first pressed. @type {Titles | null} */
let zapped = null;

/** Whether this browser can play it here. @param {Title} title */
const canPlay = (title) => playable(title, players).length > 0;

/** A film shows what it is before it plays; a channel plays. @param {Title} title */
function open(title) {
  if (isBroadcast(title)) play(title);
  else details(title);
}

/**
 * Plays a title, after the PIN where it needs one; shows its details if there is nothing that this browser can play.
 * @param {Title} title
 * @param {number | null} [from_s]
 */
async function play(title, from_s = null) {
  const age = ageOf(title);
  if (isLocked(age) && !(await askPin(age ?? 0))) return;
  if (!canPlay(title)) {
    details(title);
    return;
  }
  if (player && !player.closedFor) {
    player.start(title, from_s);
    return;
  }
  player = new Player(players, { zap, details, closed: () => home.renew() });
  player.open(title, from_s);
}

/** @param {string} id */
async function playId(id) {
  const title = await titleOf(id).catch(() => null);
  if (title) play(title);
  else notices.say(t("titles.failed"));
}

/** @param {Title} title */
function details(title) {
  if (views.top()?.element.classList.contains("details")) return;
  const inPlayer = () => player !== null && !player.closedFor && player.title?.id === title.id;
  showDetails(title, {
    playable: canPlay(title),
    play: (from_s) => {
      if (inPlayer()) views.back();
      else play(title, from_s ?? null);
    },
    programme: (event) => showOne(title, event),
    changed: () => home.renew(),
  });
}

/** @param {string} id @param {Programme} event */
async function programme(id, event) {
  const title = await titleOf(id).catch(() => null);
  if (title) showOne(title, event);
  else notices.say(t("titles.failed"));
}

/** @param {Title} title @param {Programme} event */
function showOne(title, event) {
  showProgramme(title, event, {
    playable: canPlay(title),
    play: () => play(title),
    channel: () => showDetails(title, {
      playable: canPlay(title),
      play: () => play(title),
      programme: (it) => showOne(title, it),
      changed: () => home.renew(),
    }),
  });
}

/**
 * The next title of the same sort that can be played.
 * @param {Title} from
 * @param {1 | -1} by
 * @returns {Promise<Title | null>}
 */
async function zap(from, by) {
  const kind = isBroadcast(from) ? "linear,radio" : "ondemand,file,other,data";
  if (zapped?.kind !== kind) zapped = new Titles(() => {}, kind);
  const titles = zapped;
  if (!titles.known) await titles.fetch(0);
  let index = titles.indexOf(from.id);
  // Not the whole list: a thousand steps would be ten questions to the box.
  for (let step = 0; step < Math.min(titles.total, 300); step += 1) {
    index = (index + by + titles.total) % titles.total;
    const title = await titles.get(index).catch(() => null);
    if (!title) return null;
    if (title.id !== from.id && canPlay(title)) return title;
  }
  return null;
}

/** @param {import("./types").TitlesPage} page */
function known(page) {
  players = page.players;
  notices.drop("titles");
  refill(byId("plain"));
  setText(byId("name"), page.name);
  document.title = page.name;
  const none = byId("no-players");
  none.hidden = players;
  setText(none, t("titles.noPlayers"));
  showEmpty();
  const list = byId("messages");
  list.hidden = page.messages.length === 0;
  document.documentElement.classList.toggle("noted", !none.hidden || !list.hidden);
  refill(
    list,
    ...page.messages.slice(0, 5).map((text) => {
      const item = el("li");
      i18n.write(item, { text, lang: "" }, 400);
      return item;
    }),
  );
}

/** The box has nothing to play: what it is waiting for. */
function showEmpty() {
  const empty = byId("empty");
  empty.hidden = !home.known || home.total > 0;
  health.empty = !empty.hidden;
  health.show();
  if (empty.hidden) return;
  refill(
    empty,
    el("strong", "", {}, t("empty.heading")),
    el("span", "", {}, arriving > 0 ? t("empty.arriving", { count: arriving }) : t("titles.none")),
  );
}

async function renewHome() {
  if (await home.renew()) return;
  if (!home.known && !health.gone) notices.keep("titles", t("titles.failed"));
  window.setTimeout(renewHome, AGAIN_MS);
}

/**
 * Shows a section.
 * @param {Section} to
 * @param {string} [kind] of the library
 * @param {boolean} [quietly] without a step in the history
 */
function go(to, kind = "", quietly = false) {
  const hash = kind ? `#/${to}=${kind}` : `#/${to}`;
  if (!quietly && location.hash !== hash) history.pushState({ depth: 0 }, "", hash);
  section = to;
  for (const it of SECTIONS) byId(it).hidden = it !== to;
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (byId("nav").querySelectorAll("a"))) {
    if (link.getAttribute("href") === `#/${to}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.documentElement.dataset.section = to;
  window.scrollTo(0, 0);
  if (to === "library") {
    if (kind) library.choose(kind);
    library.show();
  } else if (to === "guide") guide.show();
  else if (to === "search") search.show();
  else home.tick();
}

/** The section that the address names. */
function follow() {
  const [name, kind] = location.hash.replace("#/", "").split("=");
  go(SECTIONS.find((it) => it === name) ?? "home", name === "library" ? kind : "", true);
}

/** Takes the words of the language in use, everywhere. */
function relabel() {
  byId("settings").setAttribute("aria-label", t("settings"));
  home.relabel();
  library.relabel();
  if (section === "library") library.grid.refill();
  guide.redraw();
  search.relabel();
  health.element.dataset.key = "";
  health.show();
  showEmpty();
  showClock();
}

function showClock() {
  setText(byId("clock"), i18n.time(now_ms()));
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const action = actionOf(event);
  if (!action || event.defaultPrevented || isTyping(event.target, action)) return;
  const view = views.top();
  if (view?.key?.(action, event)) {
    // The view has dealt with it.
  } else if (/^[0-9]$/.test(action)) {
    if (!event.repeat) dial.digit(action);
  } else if (action === "back") {
    if (dial.clear()) {
      // A number half dialled is taken back first.
    } else if (view) {
      views.back();
    } else if (section === "search" && search.field.value !== "") {
      search.clear();
      search.field.focus();
    } else if (section !== "home") {
      go("home");
      home.focus();
    } else {
      return; // A remote control's Back leaves the page, as everywhere.
    }
  } else if (action === "search" && !view) {
    go("search");
  } else if (action === "guide" && !view) {
    go("guide");
    guide.enter();
  } else if (action === "up" || action === "down" || action === "left" || action === "right") {
    move(action, view?.element ?? null);
  } else if (!view && action === "info") {
    inform();
  } else if (!view && (action === "next" || action === "previous")) {
    const by = action === "next" ? 1 : -1;
    if (section === "guide" && guide.focused()) guide.page(by);
    else if (section === "library" && library.grid.focused()) library.grid.focus(library.grid.current + by * library.grid.screenful() * library.grid.columns);
    else return;
  } else {
    return;
  }
  event.preventDefault();
}

/** Shows the details of the title that has the focus. */
function inform() {
  const more = document.activeElement?.closest(".card")?.querySelector(".more");
  if (more instanceof HTMLElement) more.click();
  else if (document.activeElement?.closest(".hero")) home.more.click();
  else if (document.activeElement?.closest(".guide-cell")) /** @type {HTMLElement} */ (document.activeElement).click();
}

const calm = () => (window.matchMedia?.("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

/**
 * Moves the focus.
 * @param {import("./types").Direction} direction
 * @param {HTMLElement | null} view
 */
function move(direction, view) {
  const from = document.activeElement;
  const { grid } = library;
  if (!view) {
    if (!from || from === document.body) {
      enter();
      return;
    }
    if (section === "guide" && guide.focused() && guide.move(direction)) return;
    if (section === "library" && grid.focused()) {
      const to = grid.neighbour(direction);
      if (to >= 0) {
        grid.focus(to);
        return;
      }
    }
  }
  const menu = view?.querySelector(".menu:not([hidden])") ?? null;
  const within = /** @type {ParentNode} */ (menu ?? view ?? document);
  // Rows are gone through by their cards; what a card has beside it is for a mouse.
  const except = (/** @type {Element} */ it) =>
    it.classList.contains("skip") || it.classList.contains("more") || it.classList.contains("turn") ||
    (section === "guide" && !view && guide.canvas.contains(it) && (guide.focused() || direction === "left" || direction === "right"));
  const to = nearest(within, from, direction, except);
  if (!to) {
    // Nothing to stop at, but there may be more to see.
    (view?.querySelector(".details-body, .settings-body") ?? window).scrollBy(0, direction === "down" ? 120 : direction === "up" ? -120 : 0);
    return;
  }
  if (!view && guide.canvas.contains(to)) {
    guide.enter();
    return;
  }
  if (!view && grid.element.contains(to)) {
    grid.focus(grid.entry());
    return;
  }
  to.focus({ preventScroll: true });
  const inRow = to.closest(".strip-of-cards") !== null;
  to.scrollIntoView({ block: inRow ? "center" : "nearest", inline: "nearest", behavior: calm() });
  if (to.closest(".hero, .top")) window.scrollTo({ top: 0, behavior: calm() });
}

/** Focuses the first thing of a section. */
function enter() {
  if (section === "guide") guide.enter();
  else if (section === "library") library.grid.focus(library.grid.entry());
  else if (section === "search") search.field.focus();
  else home.focus();
}

/** A television that was told to play a title comes with `#play=` and its id. */
async function playAsked() {
  const asked = new URLSearchParams(location.hash.slice(1)).get("play");
  const title = asked && (await titleOf(asked).catch(() => null));
  if (title) play(title);
}

document.addEventListener("keydown", pressed);
for (const id of ["nav", "settings", "clock"]) byId(id).hidden = false;
byId("settings").append(icon("settings"));
byId("settings").addEventListener("click", () =>
  showSettings({
    language: async (language) => {
      await i18n.use(language, true);
      relabel();
    },
    changed: relabel,
  }),
);
for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (byId("nav").querySelectorAll("a"))) {
  const name = /** @type {Section} */ ((link.getAttribute("href") ?? "").slice(2));
  link.prepend(icon(name === "library" ? "films" : name));
  link.addEventListener("click", (event) => {
    event.preventDefault();
    go(name);
  });
}
window.addEventListener("popstate", () => {
  if (!views.top()) follow();
});
window.addEventListener("scroll", () => document.documentElement.classList.toggle("scrolled", window.scrollY > 8), { passive: true });
follow();
i18n.use(i18n.preferred()).then(relabel);
renewHome().then(() => {
  if (!document.activeElement || document.activeElement === document.body) enter();
  return playAsked();
});
window.setInterval(() => {
  home.tick();
  library.grid.tick();
  guide.tick();
  player?.tick();
  showClock();
}, TICK_MS);
let asked_ms = 0;
/** The share of films in the box grows while something arrives. */
function renewHeld() {
  if (arriving === 0 || Date.now() - asked_ms < HELD_MS || document.hidden || views.top()) return;
  asked_ms = Date.now();
  home.renew();
}

listen({
  history: (samples) => {
    for (const it of samples.slice(-5)) health.sample(it, false);
  },
  sample: (sample) => {
    boxSays(sample.at_ms);
    health.sample(sample);
  },
  state: (it) => {
    arriving = it.cache.in_flight;
    health.state(it);
    showEmpty();
    renewHeld();
  },
  titles: (version) => {
    renewHome();
    library.titles.renew(version, library.grid.current);
    guide.renew(version);
    zapped = null;
  },
  connection: (it) => {
    health.connection(it);
    if (health.gone) notices.drop("titles");
    if (it.state === "open" && home.known) renewHome();
  },
});
