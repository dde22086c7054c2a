// @ts-check
// One title in a row or a list: a wide card for what is broadcast, a poster for what is on demand. A card is made once for a
// place and filled again when another title comes there, so that the focus stays where it is; its height does
// not depend on its text, so that nothing jumps when names arrive.

import { showLogo, showPoster, showStill } from "./artwork.js";
import { el, icon, refill, setText } from "./dom.js";
import { duration, percent, pick, t, time, times, write } from "./i18n.js";
import { ageOf, isLocked } from "./parental.js";
import { end_ms, onAir, progress } from "./programme.js";

/** @typedef {import("./types").Title} Title */
/** @typedef {import("./types").TitleHead} TitleHead */
/** @typedef {"wide" | "poster"} Shape */

/**
 * What a title is called; never empty.
 * @param {TitleHead} title
 * @returns {{text: string, lang: string}}
 */
export function nameOf(title) {
  const name = pick(title.name);
  return name.text ? name : { text: title.id || t("title.unnamed"), lang: "" };
}

/** Number and name of a channel. @param {TitleHead} title */
export function channelOf(title) {
  const { text } = nameOf(title);
  return title.number === null ? text : `${title.number} ${text}`;
}

/** @param {TitleHead} title */
export const isBroadcast = (title) => title.type === "linear" || title.type === "radio";

/**
 * The few words that say what kind of thing a title is.
 * @param {Title} title
 * @returns {string[]}
 */
export function facts(title) {
  return [
    ["linear", "ondemand", "file"].includes(title.type) ? "" : t(`type.${title.type}`),
    title.duration_s ? duration(title.duration_s) : "",
    title.picture ?? "",
    title.genres.slice(0, 2).join(", "),
  ].filter((it) => it !== "");
}

/**
 * From when to when a programme runs; nothing for what is endless.
 * @param {import("./types").Programme} programme
 * @param {import("./types").Programme | null} next
 */
export function span(programme, next) {
  const end = end_ms(programme, next);
  return end === null ? time(programme.start_ms) : times(programme.start_ms, end);
}

/** A card. */
export class Card {
  /**
   * @param {number} index
   * @param {Shape} shape
   * @param {{open(index: number): void, details(index: number): void}} on
   */
  constructor(index, shape, on) {
    this.index = index;
    this.shape = shape;
    /** @type {Title | null} */
    this.title = null;
    /** Where the viewer stopped; shown instead of what the box holds. @type {import("./types").Stop | null} */
    this.stop = null;
    this.art = el("span", "art");
    this.logo = el("span", "logo corner");
    this.age = el("span", "badge age");
    this.badge = el("span", "badge held");
    this.bar = el("span", "bar-fill");
    this.track = el("span", "bar", { "aria-hidden": "true" }, this.bar);
    this.name = el("span", "name");
    this.line = el("span", "line");
    this.main = el(
      "button",
      "main",
      { type: "button", tabindex: -1 },
      el("span", "frame", {}, this.art, this.logo, this.age, this.badge, this.track),
      el("span", "words", {}, this.name, this.line),
    );
    this.more = el("button", "more", { type: "button", tabindex: -1 }, icon("info"));
    this.element = el("li", `card ${shape} waiting`, {}, this.main, this.more);
    this.logo.hidden = this.age.hidden = this.badge.hidden = this.track.hidden = true;
    this.main.addEventListener("click", () => on.open(this.index));
    this.more.addEventListener("click", () => on.details(this.index));
  }

  /** Only the card that was focused last is reached by Tab. @param {boolean} reachable */
  reach(reachable) {
    this.main.tabIndex = this.more.tabIndex = reachable ? 0 : -1;
  }

  /**
   * @param {Title | null} title null while it is not known
   * @param {import("./types").Stop | null} [stop]
   */
  fill(title, stop = null) {
    this.title = title;
    this.stop = stop;
    this.element.classList.toggle("waiting", title === null);
    if (!title) {
      for (const it of [this.name, this.line, this.age, this.badge]) setText(it, "");
      refill(this.art);
      delete this.art.dataset.key;
      this.logo.hidden = this.age.hidden = this.badge.hidden = this.track.hidden = true;
      return;
    }
    this.more.setAttribute("aria-label", t("title.about", { name: nameOf(title).text.slice(0, 100) }));
    this.element.classList.toggle("away", !title.available);
    this.tick();
  }

  /** Brings what depends on the time up to date. */
  tick() {
    const { title, stop } = this;
    if (!title) return;
    const { now, next } = onAir(title);
    const name = nameOf(title);
    const age = ageOf(title);
    if (this.shape === "poster") {
      showPoster(this.art, title);
      this.logo.hidden = true;
    } else {
      showStill(this.art, title, now?.image ?? null);
      // Seen on a still only: without one the logo stands in its middle.
      this.logo.hidden = !isBroadcast(title);
      if (!this.logo.hidden) showLogo(this.logo, title);
    }
    const programme = now ? pick(now.title) : { text: "", lang: "" };
    const channel = channelOf(title);
    if (programme.text) {
      write(this.name, programme, 120);
      write(this.line, { text: `${now ? span(now, next) : ""} · ${channel}`, lang: "" }, 160);
    } else {
      write(this.name, isBroadcast(title) ? { text: channel, lang: name.lang } : name, 120);
      write(this.line, { text: this.below(title, next), lang: "" }, 160);
    }
    this.age.hidden = age === null;
    refill(this.age, ...(isLocked(age) ? [icon("lock")] : []), document.createTextNode(age === null ? "" : String(age)));
    if (age !== null) this.age.setAttribute("aria-label", t("title.age", { age: String(age) }));
    const held = stop === null && title.held !== null && title.held < 1 ? title.held : null;
    this.badge.hidden = held === null && title.available;
    setText(this.badge, !title.available ? t("title.away") : held === null ? "" : t("title.held", { share: percent(held) }));
    const share = stop ? stop.at_s / stop.length_s : now ? progress(now, next) : null;
    this.track.hidden = share === null;
    this.bar.style.transform = `scaleX(${share ?? 0})`;
  }

  /**
   * The second line of a title that has no programme.
   * @param {Title} title
   * @param {import("./types").Programme | null} next
   */
  below(title, next) {
    if (this.stop) return t("title.left", { time: duration(Math.max(60, this.stop.length_s - this.stop.at_s)) });
    if (next) return `${time(next.start_ms)} ${pick(next.title).text}`;
    if (this.shape === "poster") return title.duration_s ? duration(title.duration_s) : (title.genres[0] ?? "");
    return facts(title).join(" · ") || (isBroadcast(title) ? t(`type.${title.type}`) : "");
  }
}
