// @ts-check
// The log on the operator's page: its newest lines, from a level on and with a word in them, followed or held still.

import * as admin from "./admin-api.js";
import { el, refill, setText } from "./dom.js";
import { day, number, seconds, t, write } from "./i18n.js";

/** @typedef {import("./admin-api.js").LogLine} LogLine */

/** Lines that the page keeps. */
const KEPT = 1000;
/** Lines that are shown; older ones are found by level and word. */
const MAX_SHOWN = 200;
const LEVELS = ["error", "warn", "info", "debug", "trace"];
/** How a level is shown. @type {Record<string, string>} */
const HOW = { error: "bad", warn: "warn" };

/** The log. */
export class Logs {
  /** @param {HTMLElement} into @param {(error: unknown) => void} failed what a request without the right means */
  constructor(into, failed) {
    this.failed = failed;
    /** Oldest first. @type {LogLine[]} */
    this.lines = [];
    /** Number of the newest line that the box has reported. */
    this.newest = 0;
    this.held = false;
    /** Error of the box, in place of lines. */
    this.error = "";
    this.asked = false;
    /** The lines that the table has now. */
    this.drawn = "";
    this.heading = el("h2");
    this.heading.id = "table-logs";
    this.levelName = el("span");
    this.level = el("select", "filter");
    for (const it of LEVELS) this.level.append(el("option", "", { value: it, selected: it === "info" }));
    this.field = el("input", "filter", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: 200 });
    this.hold = el("button", "button small", { type: "button", "aria-pressed": "false" });
    this.status = el("p", "hint", { role: "status" });
    this.heads = ["", "", "", ""].map(() => el("th", "", { scope: "col" }));
    this.body = el("tbody");
    this.table = el("table", "data logs", { "aria-labelledby": this.heading.id }, el("thead", "", {}, el("tr", "", {}, ...this.heads)), this.body);
    this.frame = el("div", "table-frame", { tabindex: 0, role: "region", "aria-labelledby": this.heading.id, hidden: true }, this.table);
    this.element = el(
      "section",
      "panel-table whole",
      {},
      this.heading,
      el("p", "field", {}, el("label", "labelled", {}, this.levelName, this.level), this.field, this.hold),
      this.status,
      this.frame,
    );
    this.element.dataset.table = "logs";
    into.append(this.element);
    this.level.addEventListener("change", () => this.draw());
    this.field.addEventListener("input", () => this.draw());
    this.hold.addEventListener("click", () => {
      this.held = !this.held;
      this.relabel();
      this.look();
    });
  }

  relabel() {
    setText(this.heading, t("table.logs"));
    setText(this.levelName, t("logs.level"));
    for (const it of this.level.options) setText(it, t(`level.${it.value}`));
    this.field.setAttribute("placeholder", t("logs.filter"));
    this.field.setAttribute("aria-label", t("logs.filter"));
    setText(this.hold, t(this.held ? "logs.follow" : "logs.hold"));
    this.hold.setAttribute("aria-pressed", String(this.held));
    ["time", "level", "part", "message"].forEach((key, at) => setText(this.heads[at], t(`column.${key}`)));
    this.draw();
  }

  /** Asks for the lines since the last ones. */
  async look() {
    if (this.held) return;
    try {
      const { lines, newest } = await admin.logs(this.newest, KEPT);
      // A daemon that was restarted numbers from 1 on.
      const isNew = newest < this.newest;
      if (isNew) this.lines = [];
      this.newest = isNew ? 0 : newest;
      this.lines = [...this.lines, ...(isNew ? [] : lines)].slice(-KEPT);
      this.error = "";
      this.asked = true;
      this.draw();
      if (isNew) await this.look();
    } catch (error) {
      if (error instanceof admin.Declined) {
        this.error = error.message;
        this.draw();
      } else this.failed(error);
    }
  }

  draw() {
    const worst = LEVELS.indexOf(this.level.value);
    const wanted = this.field.value.trim().toLowerCase();
    const found = this.lines.filter((it) => LEVELS.indexOf(it.level) <= worst && `${it.part} ${it.text}`.toLowerCase().includes(wanted));
    this.frame.hidden = found.length === 0;
    this.status.classList.toggle("bad", this.error !== "");
    setText(
      this.status,
      this.error
        ? t("logs.error", { said: this.error })
        : !this.asked
          ? ""
          : found.length === 0
            ? t(this.lines.length === 0 ? "logs.empty" : "logs.none")
            : t("logs.found", { count: found.length, all: number(this.lines.length) }),
    );
    const shown = found.slice(-MAX_SHOWN).reverse();
    const key = shown.map((it) => it.number).join();
    // Rows that are being read or selected stay as they are while nothing is new.
    if (this.drawn === key) return;
    this.drawn = key;
    refill(
      this.body,
      ...shown.map((it) => {
        const message = el("td", "message");
        write(message, { text: it.text, lang: "" }, 3000);
        const at = el("td", "when", { title: `${day(it.at_ms)} ${seconds(it.at_ms)}` }, seconds(it.at_ms));
        return el("tr", "", {}, at, el("td", HOW[it.level] ?? "", {}, it.level), el("td", "part", {}, it.part), message);
      }),
    );
  }
}
