// @ts-check
// Search: titles by name or number, and programmes of the days to come by name.

import * as api from "./api.js";
import { showLogo } from "./artwork.js";
import { isBroadcast, nameOf } from "./card.js";
import { byId, el, refill, setText } from "./dom.js";
import { day, pick, t, time, write } from "./i18n.js";
import { now_ms } from "./programme.js";
import { MOST, Row } from "./rows.js";

/** @typedef {import("./types").Title} Title */

/** Pause after the last letter before the box is asked. */
const PAUSE_MS = 250;

/** The view. */
export class Search {
  /** @param {{play(title: Title): void, details(title: Title): void, programme(found: import("./types").FoundProgramme): void}} on */
  constructor(on) {
    this.on = on;
    this.field = /** @type {HTMLInputElement} */ (byId("q"));
    this.q = "";
    this.timer = 0;
    this.asked = 0;
    /** @type {import("./types").FoundProgramme[] | null} */
    this.programmes = null;
    this.found = 0;
    const row = (/** @type {string} */ id, /** @type {string} */ key, /** @type {import("./card.js").Shape} */ shape) =>
      new Row(id, key, shape, { open: on.play, details: on.details, all: null });
    this.channels = row("found-channels", "kind.channels", "wide");
    this.films = row("found-films", "kind.films", "poster");
    this.heading = el("h2");
    this.heading.id = "found-programmes-name";
    this.list = el("ol", "programmes", { "aria-labelledby": this.heading.id });
    this.events = el("section", "row", { hidden: true }, this.heading, this.list);
    refill(byId("search-body"), this.channels.element, this.films.element, this.events);
    this.field.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.look(), PAUSE_MS);
    });
    byId("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.look();
    });
  }

  show() {
    this.relabel();
    this.field.focus({ preventScroll: true });
  }

  clear() {
    this.field.value = "";
    this.look();
  }

  async look() {
    clearTimeout(this.timer);
    const q = this.field.value.trim();
    this.q = q;
    const mine = ++this.asked;
    if (!q) {
      this.programmes = null;
      this.channels.fill([], 0);
      this.films.fill([], 0);
      this.showProgrammes();
      return;
    }
    try {
      const [titles, found] = await Promise.all([api.titles({ q, limit: 2 * MOST }), api.programmes(q)]);
      if (mine !== this.asked) return;
      const channels = titles.titles.filter(isBroadcast);
      const others = titles.titles.filter((it) => !isBroadcast(it));
      this.channels.fill(channels, channels.length);
      this.films.fill(others, others.length);
      this.programmes = found.programmes;
      this.found = titles.total + found.total;
    } catch {
      if (mine !== this.asked) return;
      this.programmes = null;
      setText(byId("search-status"), t("titles.failed"));
      return;
    }
    this.showProgrammes();
  }

  showProgrammes() {
    const all = this.programmes ?? [];
    this.events.hidden = all.length === 0;
    setText(this.heading, t("search.programmes"));
    refill(this.list, ...all.map((it) => this.line(it)));
    setText(
      byId("search-status"),
      this.q === "" ? t("search.hint") : this.programmes && this.found === 0 ? t("titles.notFound", { q: this.q }) : "",
    );
  }

  /** @param {import("./types").FoundProgramme} found */
  line(found) {
    const { channel, event } = found;
    const logo = el("span", "logo");
    showLogo(logo, channel);
    const on = event.start_ms <= now_ms();
    const [what, of] = [el("span", "what"), el("span", "of")];
    write(what, pick(event.title), 200);
    write(of, nameOf(channel), 80);
    const when = on ? t("now") : `${day(event.start_ms)} ${time(event.start_ms)}`;
    const button = el("button", "programme", { type: "button" }, logo, el("span", "when", {}, when), what, of);
    button.addEventListener("click", () => this.on.programme(found));
    return el("li", on ? "running" : "", {}, button);
  }

  relabel() {
    this.field.setAttribute("placeholder", t("search.placeholder"));
    this.field.setAttribute("aria-label", t("search"));
    this.channels.relabel();
    this.films.relabel();
    this.showProgrammes();
  }
}
