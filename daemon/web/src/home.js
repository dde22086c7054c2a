// @ts-check
// The first view: one programme or film in large, and rows of what to continue, what is on, and what there is on demand.

import * as api from "./api.js";
import { showLogo, showStill } from "./artwork.js";
import { channelOf, facts, isBroadcast, nameOf, span } from "./card.js";
import { byId, el, icon, refill, setText } from "./dom.js";
import { pick, t, write } from "./i18n.js";
import { recalled } from "./memory.js";
import { ageOf } from "./parental.js";
import { onAir, progress } from "./programme.js";
import { stopOf, stops } from "./resume.js";
import { MOST, Row } from "./rows.js";

/** @typedef {import("./types").Title} Title */

/** Rows by the kinds of titles in them. */
const ROWS = /** @type {[string, string, import("./card.js").Shape, string][]} */ ([
  ["row-now", "row.now", "wide", "linear"],
  ["row-films", "row.films", "poster", "ondemand"],
  ["row-radio", "row.radio", "wide", "radio"],
  ["row-more", "row.more", "wide", "file,data,other"],
]);

/** The view. */
export class Home {
  /** @param {{play(title: Title): void, open(title: Title): void, details(title: Title): void, all(kind: string): void, known(page: import("./types").TitlesPage): void}} on */
  constructor(on) {
    this.on = on;
    /** @type {Title | null} */
    this.featured = null;
    this.art = el("span", "hero-art", { "aria-hidden": "true" });
    this.logo = el("span", "logo");
    this.channel = el("span", "hero-channel");
    this.title = el("h2", "hero-title");
    this.meta = el("p", "hero-meta");
    this.text = el("p", "hero-text");
    this.bar = el("span", "bar-fill");
    this.track = el("span", "bar", { "aria-hidden": "true" }, this.bar);
    this.playWords = el("span");
    this.play = el("button", "button primary", { type: "button" }, icon("play"), this.playWords);
    this.moreWords = el("span");
    this.more = el("button", "button", { type: "button" }, icon("info"), this.moreWords);
    this.play.addEventListener("click", () => this.featured && on.play(this.featured));
    this.more.addEventListener("click", () => this.featured && on.details(this.featured));
    this.hero = el(
      "section",
      "hero",
      { hidden: true },
      this.art,
      el(
        "div",
        "hero-words",
        {},
        el("p", "hero-of", {}, this.logo, this.channel),
        this.title,
        this.meta,
        this.track,
        this.text,
        el("p", "actions", {}, this.play, this.more),
      ),
    );
    this.title.id = "hero-title";
    this.hero.setAttribute("aria-labelledby", "hero-title");
    const row = (/** @type {string} */ id, /** @type {string} */ key, /** @type {import("./card.js").Shape} */ shape, /** @type {(() => void) | null} */ all) =>
      new Row(id, key, shape, { open: id === "row-continue" ? on.play : on.open, details: on.details, all });
    this.resume = row("row-continue", "row.continue", "wide", null);
    this.rows = ROWS.map(([id, key, shape, kind]) => row(id, key, shape, () => on.all(kind)));
    refill(byId("home-body"), this.hero, this.resume.element, ...this.rows.map((it) => it.element));
    this.rows[0].wait(6);
    this.rows[1].wait(8);
    this.asking = false;
    this.known = false;
    this.total = 0;
  }

  /** Asks the box for everything again. Returns whether it has answered. */
  async renew() {
    if (this.asking) return true;
    this.asking = true;
    try {
      const pages = await Promise.all(ROWS.map(([, , , kind]) => api.titles({ kind, limit: MOST })));
      const begun = await this.begun(pages);
      this.known = true;
      this.total = pages.reduce((sum, it) => sum + it.total, 0);
      this.rows.forEach((it, at) => {
        it.ready();
        it.fill(pages[at].titles, pages[at].total);
      });
      this.resume.fill(begun, begun.length, (it) => stopOf(it.id));
      this.feature(this.choose(pages.map((it) => it.titles)));
      this.on.known({ ...pages[0], total: this.total });
      return true;
    } catch {
      return false;
    } finally {
      this.asking = false;
    }
  }

  /**
   * Titles that were stopped in, those that are still there.
   * @param {import("./types").TitlesPage[]} pages
   */
  async begun(pages) {
    const near = pages.reduce((all, it) => all.concat(it.titles), /** @type {Title[]} */ ([]));
    const found = await Promise.all(
      stops()
        .slice(0, 12)
        .map(async ({ id }) => near.find((it) => it.id === id) ?? (await api.titles({ id }).catch(() => null))?.titles[0] ?? null),
    );
    return /** @type {Title[]} */ (found.filter((it) => it !== null && it.available));
  }

  /**
   * The channel that was watched last, or one that has a programme to show, or a film.
   * @param {Title[][]} rows
   */
  choose([channels, films, ...rest]) {
    const last = recalled("channel");
    const on = (/** @type {Title} */ it) => it.play.length > 0 && onAir(it).now !== null;
    return (
      channels.find((it) => it.id === last && on(it)) ??
      channels.find((it) => on(it) && (onAir(it).now?.image || it.banner)) ??
      channels.find(on) ??
      films.find((it) => it.banner && it.play.length > 0) ??
      channels.find((it) => it.play.length > 0) ??
      films[0] ??
      rest.reduce((all, it) => all.concat(it), [])[0] ??
      null
    );
  }

  /** @param {Title | null} title */
  feature(title) {
    this.featured = title;
    this.hero.hidden = title === null;
    document.documentElement.classList.toggle("has-hero", title !== null);
    this.tick();
  }

  tick() {
    for (const row of [this.resume, ...this.rows]) row.tick();
    const title = this.featured;
    if (!title) return;
    const { now, next } = onAir(title);
    const name = nameOf(title);
    const broadcast = isBroadcast(title);
    const programme = now ? pick(now.title) : { text: "", lang: "" };
    showStill(this.art, title, now?.image ?? null);
    showLogo(this.logo, title);
    this.logo.hidden = !broadcast;
    write(this.channel, { text: programme.text ? channelOf(title) : broadcast ? t(`type.${title.type}`) : t("hero.film"), lang: "" });
    write(this.title, programme.text ? programme : name, 120);
    const age = ageOf(title);
    const words = [now ? span(now, next) : "", ...facts(title), age === null ? "" : t("title.age", { age: String(age) })];
    setText(this.meta, words.filter((it) => it !== "").join("  ·  "));
    const about = now ? pick(now.synopsis) : { text: "", lang: "" };
    write(this.text, about.text ? about : pick(title.description), 400);
    const share = now ? progress(now, next) : null;
    this.track.hidden = share === null;
    this.bar.style.transform = `scaleX(${share ?? 0})`;
    setText(this.playWords, t(broadcast ? "hero.watch" : stopOf(title.id) ? "hero.continue" : "play"));
    setText(this.moreWords, t("hero.more"));
  }

  relabel() {
    for (const row of [this.resume, ...this.rows]) row.relabel();
    this.tick();
  }

  /** Focuses the first thing there is. */
  focus() {
    if (!this.hero.hidden) this.play.focus({ preventScroll: true });
    else this.rows.map((it) => it.cards[0]?.main).find(Boolean)?.focus({ preventScroll: true });
  }
}
