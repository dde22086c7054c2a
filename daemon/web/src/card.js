// @ts-check
// One title in the list. A card is made once for a place and filled again when another title comes there, so that the focus
// stays where it is. Its height is the same whatever it says: nothing jumps when names arrive.

import { el, icon, refill, setText } from "./dom.js";
import { duration, percent, pick, t, time, write } from "./i18n.js";
import { showLogo } from "./logo.js";
import { end_ms, onAir, progress } from "./programme.js";

/** @typedef {import("./types").Title} Title */

/**
 * What a title is called; never empty.
 * @param {Title} title
 * @returns {{text: string, lang: string}}
 */
export function nameOf(title) {
  const name = pick(title.name);
  return name.text ? name : { text: title.id || t("title.unnamed"), lang: "" };
}

/**
 * The few words that say what kind of thing a title is.
 * @param {Title} title
 * @returns {string[]}
 */
export function facts(title) {
  return [
    title.type === "linear" ? "" : t(`type.${title.type}`),
    title.duration_s ? duration(title.duration_s) : "",
    title.picture ?? "",
    title.genres.slice(0, 2).join(", "),
  ].filter((it) => it !== "");
}

/** A card. */
export class Card {
  /**
   * @param {number} index
   * @param {{open(index: number): void, details(index: number): void}} on
   */
  constructor(index, on) {
    this.index = index;
    /** @type {Title | null} */
    this.title = null;
    this.logo = el("span", "logo");
    this.number = el("span", "number");
    this.name = el("span", "name");
    this.when = el("span", "when");
    this.first = el("span", "text");
    this.bar = el("span", "bar-fill");
    this.track = el("span", "bar", { "aria-hidden": "true" }, this.bar);
    this.second = el("span", "line second");
    this.facts = el("span", "facts");
    this.main = el(
      "button",
      "main",
      { type: "button", tabindex: -1 },
      this.logo,
      el(
        "span",
        "words",
        {},
        el("span", "head", {}, this.number, this.name),
        el("span", "line first", {}, this.when, this.first),
        this.track,
        this.second,
        this.facts,
      ),
    );
    this.more = el("button", "more", { type: "button", tabindex: -1 }, icon("info"));
    this.address = el("a", "address", { tabindex: -1 });
    this.element = el("li", "card waiting", {}, this.main, this.more);
    this.main.addEventListener("click", () => on.open(this.index));
    this.more.addEventListener("click", () => on.details(this.index));
  }

  /** Only the card that was focused last is reached by Tab. @param {boolean} reachable */
  reach(reachable) {
    const tabindex = reachable ? 0 : -1;
    this.main.tabIndex = tabindex;
    this.more.tabIndex = tabindex;
    this.address.tabIndex = tabindex;
  }

  /**
   * @param {Title | null} title null while it is not known
   * @param {boolean} playable whether this browser can play it here
   */
  fill(title, playable) {
    this.title = title;
    this.element.classList.toggle("waiting", title === null);
    if (!title) {
      write(this.name, { text: t("list.loading"), lang: "" });
      for (const it of [this.number, this.when, this.first, this.second, this.facts]) setText(it, "");
      refill(this.logo);
      delete this.logo.dataset.key;
      this.track.hidden = true;
      this.address.remove();
      return;
    }
    const name = nameOf(title);
    showLogo(this.logo, title);
    setText(this.number, title.number === null ? "" : String(title.number));
    this.number.hidden = title.number === null;
    write(this.name, name);
    this.more.setAttribute("aria-label", t("title.about", { name: name.text.slice(0, 100) }));
    this.element.classList.toggle("away", !title.available);
    const words = facts(title);
    if (!title.available) words.unshift(t("title.away"));
    setText(this.facts, words.join(" · "));
    const url = title.play[0]?.url;
    if (url && !playable) {
      this.address.href = url;
      setText(this.address, url.slice(0, 300));
      this.element.append(this.address);
    } else {
      this.address.remove();
    }
    this.tick();
  }

  /** Brings what depends on the time up to date. */
  tick() {
    const { title } = this;
    if (!title) return;
    const { now, next } = onAir(title);
    let share = null;
    if (now) {
      share = progress(now, next);
      const end = end_ms(now, next);
      write(this.first, pick(now.title), 120);
      setText(this.when, end === null ? "" : `${time(now.start_ms)}–${time(end)}`);
    } else {
      setText(this.when, "");
      write(this.first, pick(title.description), 160);
    }
    if (next) {
      const { text, lang } = pick(next.title);
      write(this.second, { text: `${time(next.start_ms)} ${text}`, lang }, 120);
    } else if (title.held !== null && !now) {
      share = title.held;
      write(this.second, { text: t("title.held", { share: percent(title.held) }), lang: "" });
    } else {
      write(this.second, { text: "", lang: "" });
    }
    this.track.hidden = share === null;
    this.track.classList.toggle("of-store", !now);
    this.bar.style.transform = `scaleX(${share ?? 0})`;
  }
}
