// @ts-check
// All titles of some kinds, as one long list of cards.

import { byId, el, refill, setText } from "./dom.js";
import { Grid } from "./grid.js";
import { t } from "./i18n.js";
import { Titles } from "./titles.js";

/** @typedef {import("./types").Title} Title */

/** What one can choose from, by the kinds that belong to it. */
const KINDS = /** @type {[string, string][]} */ ([
  ["kind.films", "ondemand"],
  ["kind.channels", "linear"],
  ["kind.radio", "radio"],
  ["kind.more", "file,data,other"],
]);

/** The view. */
export class Library {
  /** @param {{play(title: Title): void, details(title: Title): void}} on */
  constructor(on) {
    this.titles = new Titles((why) => this.changed(why), "ondemand");
    const act = (/** @type {(title: Title) => void} */ what) => (/** @type {number} */ index) => {
      const title = this.titles.at(index);
      if (title) what(title);
    };
    this.grid = new Grid(byId("grid"), this.titles, { open: act(on.play), details: act(on.details) });
    this.grid.reshape("poster");
    this.shown = false;
    this.buttons = KINDS.map(([, kind]) => {
      const it = el("button", "chip", { type: "button", "aria-pressed": "false" });
      it.addEventListener("click", () => this.choose(kind));
      return it;
    });
    refill(byId("library-kinds"), ...this.buttons);
  }

  /** @param {string} kind */
  choose(kind) {
    this.grid.reshape(kind === "ondemand" ? "poster" : "wide");
    this.grid.current = 0;
    if (kind !== this.titles.kind || !this.titles.known) this.titles.choose(kind);
    this.relabel();
    window.scrollTo(0, 0);
  }

  show() {
    this.shown = true;
    if (!this.titles.known) this.titles.fetch(0);
    this.relabel();
    this.grid.refill();
  }

  /** @param {"page" | "reset" | "error"} why */
  changed(why) {
    if (why === "error") {
      window.setTimeout(() => (this.titles.known ? this.grid.draw() : this.titles.fetch(0)), 5000);
    } else {
      if (why === "reset") this.grid.become(0);
      if (this.grid.element.offsetParent) this.grid.refill();
      else this.grid.draw();
    }
    this.relabel();
  }

  relabel() {
    this.buttons.forEach((it, at) => {
      setText(it, t(KINDS[at][0]));
      it.setAttribute("aria-pressed", String(KINDS[at][1] === this.titles.kind));
    });
    const { known, total, failed } = this.titles;
    setText(byId("library-count"), known ? t("titles.count", { count: total }) : "");
    const empty = byId("library-empty");
    empty.hidden = known ? total > 0 : !failed;
    setText(empty, known ? t("titles.none") : t("titles.failed"));
  }
}
