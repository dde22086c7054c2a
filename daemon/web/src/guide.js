// @ts-check
// The guide: channels below each other, their programmes of a day along a line of time. Only rows and programmes near the
// window exist, and pages of channels are fetched when one comes near them, so 10,000 channels cost what twenty do.

import * as api from "./api.js";
import { showLogo } from "./artwork.js";
import { nameOf } from "./card.js";
import { byId, el, icon, refill, setText } from "./dom.js";
import { day, pick, t, time, times, write } from "./i18n.js";
import { isLocked } from "./parental.js";
import { now_ms } from "./programme.js";

/** @typedef {import("./types").GuideRow} GuideRow */
/** @typedef {import("./types").Programme} Programme */

const HALF_HOUR = 1_800_000;
/** What the guide shows from the half hour that is on. */
const SPAN_MS = 24 * 3_600_000;
/** Channels of one question, and pages that are kept. */
const PAGE = 40;
const MAX_PAGES = 12;
/** Rows beyond the window that exist. */
const AROUND = 4;

/** The view. */
export class Guide {
  /** @param {{play(id: string): void, programme(row: GuideRow, event: Programme): void}} on */
  constructor(on) {
    this.on = on;
    this.view = byId("guide-view");
    this.canvas = el("div", "guide-canvas", { role: "grid" });
    this.head = el("div", "guide-head", { "aria-hidden": "true" });
    this.line = el("div", "guide-now", { "aria-hidden": "true" });
    this.corner = el("span", "guide-corner");
    refill(this.view, this.canvas);
    this.canvas.append(this.head, this.line);
    this.from = 0;
    this.total = 0;
    this.version = -1;
    this.known = false;
    this.failed = false;
    /** @type {Map<number, GuideRow[]>} least recently wanted first */
    this.pages = new Map();
    /** @type {Set<number>} */
    this.asked = new Set();
    this.generation = 0;
    /** @type {Map<number, HTMLElement>} */
    this.rows = new Map();
    /** Where the keys are: row, and a moment within the programme; null on the channel itself. */
    this.at = 0;
    /** @type {number | null} */
    this.moment = null;
    this.rem = 16;
    this.rowHeight = 64;
    this.side = 160;
    this.perMinute = 5;
    this.drawing = 0;
    /** The focus was to come here before there were channels. */
    this.wanted = false;
    this.view.addEventListener("scroll", () => this.draw(), { passive: true });
    if (window.ResizeObserver) new ResizeObserver(() => this.draw()).observe(this.view);
    this.canvas.addEventListener("focusin", (event) => this.noted(/** @type {HTMLElement} */ (event.target)));
    const jump = (/** @type {string} */ id, /** @type {() => number} */ to) =>
      byId(id).addEventListener("click", () => this.goTo(to()));
    jump("guide-to-now", now_ms);
    jump("guide-to-evening", () => {
      const evening = new Date(now_ms());
      evening.setHours(20, 0, 0, 0);
      return evening.getTime() < now_ms() ? now_ms() : evening.getTime();
    });
    jump("guide-later", () => this.leftMoment() + 3 * 3_600_000);
    jump("guide-earlier", () => this.leftMoment() - 3 * 3_600_000);
  }

  /** The moment at the left edge of what is seen. */
  leftMoment() {
    return this.from + (this.view.scrollLeft / this.perMinute) * 60_000;
  }

  /** @param {number} at_ms */
  goTo(at_ms) {
    const moment = Math.floor(at_ms / HALF_HOUR) * HALF_HOUR;
    this.view.scrollLeft = ((moment - this.from) / 60_000) * this.perMinute;
    this.draw();
  }

  show() {
    this.start();
    this.relabel();
    this.render();
  }

  /** Begins at the half hour that is on, if another one is by now. */
  start() {
    const from = Math.floor(now_ms() / HALF_HOUR) * HALF_HOUR;
    if (from === this.from) return;
    this.from = from;
    this.restart();
  }

  restart() {
    this.generation += 1;
    this.pages.clear();
    this.asked.clear();
    for (const it of this.rows.values()) it.remove();
    this.rows.clear();
    this.fetch(Math.floor(this.at / PAGE));
  }

  /** The catalogue has changed. @param {number} version */
  renew(version) {
    if (version !== this.version && this.known) this.restart();
  }

  tick() {
    if (!this.view.offsetParent) return;
    // Who is looking at it keeps what he is looking at.
    if (!this.canvas.contains(document.activeElement)) this.start();
    this.render();
  }

  /** @param {number} page */
  async fetch(page) {
    if (this.asked.has(page)) return;
    this.asked.add(page);
    const { generation } = this;
    try {
      const it = await api.guide(page * PAGE, PAGE, this.from, this.from + SPAN_MS);
      if (generation !== this.generation) return;
      Object.assign(this, { total: it.total, version: it.version, known: true, failed: false });
      this.pages.set(page, it.channels);
      for (const oldest of this.pages.keys()) {
        if (this.pages.size <= MAX_PAGES) break;
        this.pages.delete(oldest);
      }
      for (const [index, row] of this.rows) {
        if (Math.floor(index / PAGE) === page) row.dataset.drawn = "";
      }
    } catch {
      if (generation !== this.generation) return;
      this.failed = true;
      window.setTimeout(() => this.draw(), 5000);
    }
    this.asked.delete(page);
    this.relabel();
    this.draw();
    if (this.wanted && this.view.offsetParent && this.total > 0 && !document.querySelector("dialog[open]")) this.enter();
  }

  /** @param {number} index @returns {GuideRow | null} */
  row(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
  }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      if (this.view.offsetParent) this.render();
    });
  }

  measure() {
    this.rem = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
    const narrow = window.innerWidth < 700;
    this.side = (narrow ? 4.5 : 11) * this.rem;
    this.rowHeight = (narrow ? 3.9 : 4.1) * this.rem;
    this.perMinute = (narrow ? 0.26 : 0.34) * this.rem;
    this.canvas.style.setProperty("--side", `${this.side}px`);
    this.canvas.style.setProperty("--row", `${this.rowHeight}px`);
  }

  /** @param {number} at_ms */
  x(at_ms) {
    return this.side + ((at_ms - this.from) / 60_000) * this.perMinute;
  }

  /** Rows and programmes near the window exist afterwards, and no others but the focused one. */
  render() {
    this.measure();
    const head = 2.4 * this.rem;
    this.canvas.style.width = `${this.x(this.from + SPAN_MS)}px`;
    this.canvas.style.height = `${head + this.total * this.rowHeight}px`;
    this.canvas.setAttribute("aria-rowcount", String(this.total));
    const { scrollTop, clientHeight } = this.view;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - AROUND);
    const last = Math.min(this.total - 1, Math.ceil((scrollTop + clientHeight) / this.rowHeight) + AROUND);
    for (const [index, row] of this.rows) {
      if (index >= this.total || ((index < first || index > last) && !row.contains(document.activeElement))) {
        row.remove();
        this.rows.delete(index);
      }
    }
    this.drawHead();
    /** @type {HTMLElement | null} */
    let before = null;
    for (let index = last; index >= first; index -= 1) {
      before = this.place(index, before, head);
      this.fill(index, before);
    }
    for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(first, last) / PAGE); page += 1) {
      const known = this.pages.get(page);
      if (known) {
        this.pages.delete(page);
        this.pages.set(page, known);
      } else if (page * PAGE < this.total || !this.known) this.fetch(page);
    }
    const now = now_ms();
    this.line.hidden = now < this.from || now > this.from + SPAN_MS;
    this.line.style.left = `${this.x(now)}px`;
    this.line.style.height = `${this.total * this.rowHeight + head}px`;
    setText(byId("guide-day"), day(this.leftMoment()));
    // By Tab one comes in, also where what had the focus is far away, and while nothing has come.
    const stop = /** @type {HTMLElement | null} */ (this.canvas.querySelector("[tabindex='0']") ?? this.canvas.querySelector("button"));
    if (stop) {
      stop.tabIndex = 0;
      this.view.removeAttribute("tabindex");
    } else this.view.tabIndex = 0;
  }

  drawHead() {
    const key = `${this.from} ${this.perMinute} ${document.documentElement.lang}`;
    if (this.head.dataset.key === key) return;
    this.head.dataset.key = key;
    /** @type {HTMLElement[]} */
    const ticks = [];
    for (let at = this.from; at < this.from + SPAN_MS; at += HALF_HOUR) {
      const tick = el("span", "tick", {}, time(at));
      tick.style.left = `${this.x(at)}px`;
      ticks.push(tick);
    }
    refill(this.head, this.corner, ...ticks);
  }

  /**
   * @param {number} index
   * @param {HTMLElement | null} before the row below
   * @param {number} head
   */
  place(index, before, head) {
    let row = this.rows.get(index);
    if (!row) {
      row = el("div", "guide-row", { role: "row", "aria-rowindex": index + 1 });
      this.rows.set(index, row);
      if (before) before.before(row);
      else this.canvas.append(row);
    }
    row.style.top = `${head + index * this.rowHeight}px`;
    return row;
  }

  /** @param {number} index @param {HTMLElement} element */
  fill(index, element) {
    const row = this.row(index);
    const left = this.view.scrollLeft;
    const width = this.view.clientWidth;
    const [lowest, highest] = [left - width, left + 2 * width].map((px) => this.from + (Math.max(0, px) / this.perMinute) * 60_000);
    const tile = Math.round(lowest / (6 * HALF_HOUR));
    const drawn = row ? `${row.id} ${tile} ${this.perMinute} ${this.version} ${document.documentElement.lang}` : "waiting";
    if (element.dataset.drawn !== drawn) {
      const focused = element.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.start : undefined;
      const cells = row
        ? [this.channelCell(row), ...this.cells(row, lowest, highest)]
        : [el("div", "guide-channel", { role: "rowheader" }), el("span", "guide-cell waiting", { role: "gridcell" })];
      refill(element, ...cells);
      element.dataset.drawn = drawn;
      if (focused !== undefined) (/** @type {HTMLElement | null} */ (element.querySelector(`[data-start="${focused}"]`)) ?? /** @type {HTMLElement} */ (element.querySelector("button"))).focus({ preventScroll: true });
    }
    const now = now_ms();
    for (const cell of /** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll("button.guide-cell"))) {
      // Words of what began before the left edge stand at the edge.
      const hidden = Math.max(0, left + this.side - cell.offsetLeft);
      cell.style.paddingLeft = hidden > 0 && hidden < cell.offsetWidth ? `${hidden + 0.7 * this.rem}px` : "";
      const [start, end] = [Number(cell.dataset.start), Number(cell.dataset.end)];
      cell.classList.toggle("on", start <= now && now < end && !cell.classList.contains("none"));
      cell.classList.toggle("over", end <= now);
    }
    for (const cell of /** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll("button"))) {
      const start = cell.dataset.start;
      const here = index === this.at && (start === undefined ? this.moment === null : this.moment !== null && Number(start) <= this.moment && this.moment < Number(cell.dataset.end));
      cell.tabIndex = here ? 0 : -1;
    }
  }

  /** @param {GuideRow} row */
  channelCell(row) {
    const logo = el("span", "logo");
    showLogo(logo, row);
    const name = el("span", "name");
    write(name, nameOf(row), 60);
    const number = el("span", "number", {}, row.number === null ? "" : String(row.number));
    const button = el("button", "", { type: "button", tabindex: -1 }, logo, el("span", "guide-names", {}, number, name));
    button.addEventListener("click", () => this.on.play(row.id));
    return el("div", "guide-channel", { role: "rowheader" }, button);
  }

  /**
   * @param {GuideRow} row
   * @param {number} lowest
   * @param {number} highest
   */
  cells(row, lowest, highest) {
    const end = this.from + SPAN_MS;
    if (!row.events.length) {
      const title = { [document.documentElement.lang]: t("guide.nothing") };
      const none = { id: null, title, episode: {}, synopsis: {}, start_ms: this.from, end_ms: end, genres: [], minimum_age: null, image: null };
      return [this.cell(row, none, false)];
    }
    return row.events
      .filter((it) => it.end_ms > this.from && it.start_ms < end && it.end_ms > lowest && it.start_ms < highest)
      .map((it) => this.cell(row, it, true));
  }

  /**
   * @param {GuideRow} row
   * @param {Programme} event
   * @param {boolean} known
   */
  cell(row, event, known) {
    const [start, end] = [Math.max(this.from, event.start_ms), Math.min(this.from + SPAN_MS, event.end_ms)];
    const [what, when] = [el("span", "what"), el("span", "when")];
    write(what, pick(event.title), 120);
    if (known) setText(when, times(event.start_ms, event.end_ms));
    const age = Math.max(event.minimum_age ?? 0, row.minimum_age ?? 0);
    const cell = el(
      "button",
      known ? "guide-cell" : "guide-cell none",
      { type: "button", role: "gridcell", tabindex: -1, "data-start": start, "data-end": end },
      el("span", "what-line", {}, ...(isLocked(age || null) ? [icon("lock")] : []), what),
      when,
    );
    cell.style.left = `${this.x(start)}px`;
    cell.classList.toggle("tiny", this.x(end) - this.x(start) < 2.2 * this.rem);
    cell.style.width = `${Math.max(2, this.x(end) - this.x(start) - 3)}px`;
    cell.addEventListener("click", () => (known ? this.on.programme(row, event) : this.on.play(row.id)));
    return cell;
  }

  /** Notes which programme has the focus. @param {HTMLElement} target */
  noted(target) {
    const element = target.closest(".guide-row");
    for (const [index, row] of this.rows) if (row === element) this.at = index;
    const { start, end } = target.dataset;
    const inside = this.moment !== null && Number(start) <= this.moment && this.moment < Number(end);
    if (start === undefined) this.moment = null;
    else if (!inside) this.moment = Math.max(Number(start), Math.min(now_ms(), Number(end) - 1));
  }

  focused() {
    return this.canvas.contains(document.activeElement);
  }

  /** Focuses the programme at row and moment; the channel for null. */
  focus() {
    this.at = Math.max(0, Math.min(this.at, this.total - 1));
    const top = this.at * this.rowHeight;
    const room = this.view.clientHeight - 2.4 * this.rem;
    if (top < this.view.scrollTop) this.view.scrollTop = top;
    else if (top + this.rowHeight > this.view.scrollTop + room) this.view.scrollTop = top + this.rowHeight - room;
    const event = this.moment === null ? null : this.eventAt(this.moment);
    if (event) {
      const x = this.x(Math.max(this.from, event.start_ms)) - this.side;
      const end = this.x(Math.min(this.from + SPAN_MS, event.end_ms)) - this.side;
      const seen = this.view.clientWidth - this.side;
      if (x < this.view.scrollLeft || (x > this.view.scrollLeft + 0.7 * seen && end > this.view.scrollLeft + seen)) {
        this.view.scrollLeft = Math.max(0, x - 0.02 * seen);
      }
    } else if (this.moment === null) this.view.scrollLeft = 0;
    this.render();
    const row = this.rows.get(this.at);
    const wanted = /** @type {HTMLElement | undefined} */ (
      [.../** @type {NodeListOf<HTMLElement>} */ (row?.querySelectorAll("button") ?? [])].find((it) => it.tabIndex === 0)
    );
    (wanted ?? /** @type {HTMLElement | null} */ (row?.querySelector("button")))?.focus({ preventScroll: true });
  }

  /** Focuses what is on now, on the channel that had the focus last. */
  enter() {
    this.wanted = this.total === 0;
    if (this.wanted) return false;
    this.moment = Math.max(now_ms(), this.leftMoment());
    this.focus();
    return true;
  }

  /** @param {number} moment @returns {{start_ms: number, end_ms: number} | null} */
  eventAt(moment) {
    const row = this.row(this.at);
    if (!row) return null;
    if (!row.events.length) return { start_ms: this.from, end_ms: this.from + SPAN_MS };
    return row.events.find((it) => it.start_ms <= moment && moment < it.end_ms) ?? null;
  }

  /**
   * Moves the focus within the guide; false at its edge.
   * @param {import("./types").Direction} direction
   */
  move(direction) {
    if (direction === "up" || direction === "down") {
      const to = this.at + (direction === "down" ? 1 : -1);
      if (to < 0 || to >= this.total) return false;
      this.at = to;
      this.focus();
      return true;
    }
    const events = this.row(this.at)?.events ?? [];
    const end = this.from + SPAN_MS;
    if (this.moment === null) {
      if (direction === "left") return false;
      this.moment = Math.max(this.leftMoment(), Math.min(now_ms(), end - 1));
      this.moment = events.find((it) => it.end_ms > /** @type {number} */ (this.moment))?.start_ms ?? this.moment;
      this.moment = Math.max(this.from, this.moment);
    } else if (direction === "right") {
      const moment = this.moment;
      const next = events.find((it) => it.start_ms > moment && it.start_ms < end);
      if (!next) return true;
      this.moment = next.start_ms;
    } else {
      const moment = this.moment;
      const current = events.find((it) => it.start_ms <= moment && moment < it.end_ms);
      const edge = current?.start_ms ?? moment;
      const previous = events.filter((it) => it.start_ms < edge && it.end_ms > this.from).pop();
      this.moment = previous ? Math.max(this.from, previous.start_ms) : null;
    }
    this.focus();
    return true;
  }

  /** Moves by a screen of channels. @param {1 | -1} by */
  page(by) {
    this.at += by * Math.max(1, Math.floor(this.view.clientHeight / this.rowHeight) - 2);
    this.focus();
  }

  /** Draws everything again: other words, or another age limit. */
  redraw() {
    this.head.dataset.key = "";
    for (const it of this.rows.values()) it.dataset.drawn = "";
    this.relabel();
    this.draw();
  }

  relabel() {
    setText(this.corner, t("guide.channels", { count: this.total }));
    this.canvas.setAttribute("aria-label", t("nav.guide"));
    const empty = byId("guide-empty");
    empty.hidden = this.known ? this.total > 0 : !this.failed;
    setText(empty, this.known ? t("guide.none") : t("titles.failed"));
    this.view.hidden = this.known && this.total === 0;
    if (this.from > 0) setText(byId("guide-day"), day(this.leftMoment()));
  }
}
