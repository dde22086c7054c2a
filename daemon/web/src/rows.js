// @ts-check
// A row of cards that goes on to the side, under a heading. The last card leads to all titles of the row, so a row of
// 10,000 has forty cards.

import { Card } from "./card.js";
import { el, icon, refill, setText } from "./dom.js";
import { t } from "./i18n.js";

/** @typedef {import("./types").Title} Title */

/** Cards of a row. */
export const MOST = 40;

/** A row. */
export class Row {
  /**
   * @param {string} id
   * @param {string} heading key of its words
   * @param {import("./card.js").Shape} shape
   * @param {{open(title: Title): void, details(title: Title): void, all: (() => void) | null}} on
   */
  constructor(id, heading, shape, on) {
    this.key = heading;
    this.shape = shape;
    this.on = on;
    /** @type {Title[]} */
    this.titles = [];
    this.total = 0;
    /** @type {Card[]} */
    this.cards = [];
    this.heading = el("h2");
    this.heading.id = `${id}-name`;
    this.strip = el("ul", "strip-of-cards", { role: "list", "aria-labelledby": this.heading.id });
    this.allWords = el("span", "name");
    this.all = el("li", `card ${shape} all`, {}, el("button", "main", { type: "button", tabindex: -1 }, el("span", "frame", {}, icon("next"), this.allWords)));
    this.all.addEventListener("click", () => on.all?.());
    const turn = (/** @type {1 | -1} */ by) => {
      const it = el("button", `turn ${by > 0 ? "ahead" : "behind"}`, { type: "button", tabindex: -1, "aria-hidden": "true" }, icon(by > 0 ? "next" : "previous"));
      it.addEventListener("click", () => this.strip.scrollBy({ left: by * this.strip.clientWidth * 0.85, behavior: "smooth" }));
      return it;
    };
    this.behind = turn(-1);
    this.ahead = turn(1);
    this.element = el("section", "row", { "aria-labelledby": this.heading.id, hidden: true }, this.heading, el("div", "strip-frame", {}, this.strip, this.behind, this.ahead));
    this.element.id = id;
    this.strip.addEventListener("scroll", () => this.showTurns(), { passive: true });
    this.strip.addEventListener("focusin", (event) => {
      for (const card of this.cards) card.reach(card.element.contains(/** @type {Node} */ (event.target)));
    });
  }

  /** Arrows for a mouse are there where there is more. */
  showTurns() {
    const { scrollLeft, scrollWidth, clientWidth } = this.strip;
    this.behind.hidden = scrollLeft < 4;
    this.ahead.hidden = scrollLeft > scrollWidth - clientWidth - 4;
  }

  /**
   * @param {Title[]} titles
   * @param {number} total how many there are on the box
   * @param {(title: Title) => import("./types").Stop | null} [stop]
   */
  fill(titles, total, stop = () => null) {
    this.titles = titles.slice(0, MOST);
    this.total = total;
    this.element.hidden = titles.length === 0;
    while (this.cards.length > this.titles.length) this.cards.pop()?.element.remove();
    while (this.cards.length < this.titles.length) {
      const act = (/** @type {(title: Title) => void} */ what) => (/** @type {number} */ index) => this.titles[index] && what(this.titles[index]);
      const card = new Card(this.cards.length, this.shape, { open: act(this.on.open), details: act(this.on.details) });
      this.cards.push(card);
      this.strip.append(card.element);
    }
    this.cards.forEach((card, at) => {
      card.fill(this.titles[at], stop(this.titles[at]));
      card.element.setAttribute("aria-setsize", String(this.titles.length));
      card.element.setAttribute("aria-posinset", String(at + 1));
    });
    if (!this.cards.some((it) => it.main.tabIndex === 0)) this.cards[0]?.reach(true);
    if (total > this.titles.length && this.on.all) this.strip.append(this.all);
    else this.all.remove();
    this.relabel();
    this.showTurns();
  }

  /** Takes the words of the language in use. */
  relabel() {
    setText(this.heading, t(this.key));
    setText(this.allWords, t("row.all", { count: this.total }));
    for (const card of this.cards) card.fill(card.title, card.stop);
  }

  tick() {
    for (const card of this.cards) card.tick();
  }

  /** Grey shapes while nothing is known. @param {number} count */
  wait(count) {
    this.element.hidden = false;
    refill(this.strip, ...Array.from({ length: count }, () => new Card(0, this.shape, { open() {}, details() {} }).element));
  }

  /** Takes the grey shapes away. */
  ready() {
    if (!this.cards.length) refill(this.strip);
  }
}
