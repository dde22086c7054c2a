// @ts-check
// A chart over time for operators: lines with axes, units and ticks, values under a cursor that all charts share, a span that is
// chosen by dragging and holds for all charts, thresholds as lines, and the latest values as a table for those who cannot see
// lines. Arrow keys move the cursor.

import { el, refill, setText, svg } from "./dom.js";
import { seconds, t, time } from "./i18n.js";

/** @typedef {import("./types").Sample} Sample */

/**
 * One line of a chart.
 * @typedef {object} Series
 * @property {string} key of its name in the language files
 * @property {(sample: Sample) => number} value
 */

/**
 * What a chart shows.
 * @typedef {object} Plan
 * @property {string} id
 * @property {string} label key of its name
 * @property {Series[]} series at most three
 * @property {(value: number) => string} format
 * @property {number} least the least top of the scale
 * @property {number} [most] a top that is never exceeded: shares
 * @property {{value: number, key: string}[]} [limits] thresholds
 */

/**
 * What charts share: the span that is shown, and the moment under the cursor.
 * @typedef {object} Shared
 * @property {number} from_ms
 * @property {number} to_ms
 * @property {number | null} at_ms
 * @property {(at_ms: number | null) => void} point
 * @property {(from_ms: number, to_ms: number) => void} select
 * @property {() => void} reset
 */

/** Height and margins in pixels, where letters have their common size. */
const SIZES = { height: 190, left: 78, right: 14, top: 10, bottom: 24 };
/** Of a root whose letters are not enlarged. */
const ROOT_PX = 16;
/** A gap of more than this between samples is shown as one. */
const GAP_MS = 3500;
/** Steps of ticks of time, in seconds. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/**
 * Round values from 0 to at least `most`: at most five.
 * @param {number} most
 * @returns {number[]}
 */
function ticks(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((it) => it * power).find((it) => it >= rough * 0.999) ?? 10 * power;
  const out = [];
  for (let at = 0; at < most + step * 0.999; at += step) out.push(at);
  return out;
}

/**
 * A tick's value without zeros at the end of its fraction.
 * @param {string} text
 */
const short = (text) => text.replace(/[.,](\d?)0(?!\d)/, (all, digit) => (digit ? all.slice(0, 2) : ""));

/** A chart. */
export class TimeChart {
  /** @param {Plan} plan @param {Shared} shared */
  constructor(plan, shared) {
    this.plan = plan;
    this.shared = shared;
    /** @type {Sample[]} */
    this.samples = [];
    this.width = 0;
    /** On a wall of the size of 4K letters are larger, and with them what surrounds the plot. */
    this.scale = 1;
    this.sizes = SIZES;
    /** Where a drag began, in pixels. @type {number | null} */
    this.drag = null;
    this.name = el("h2");
    this.name.id = `${plan.id}-name`;
    this.legend = plan.series.map((_, at) => ({
      name: el("span", "legend-name"),
      value: el("span", "legend-value"),
      key: el("span", `legend-key line-${at}`, { "aria-hidden": "true" }),
    }));
    this.grid = svg("path", { class: "chart-grid" });
    this.area = svg("path", { class: "area" });
    this.lines = plan.series.map((_, at) => svg("path", { class: `line line-${at}` }));
    this.limits = svg("g");
    this.labels = svg("g", { class: "chart-labels" });
    this.cursor = svg("path", { class: "cursor" });
    this.dots = plan.series.map((_, at) => svg("circle", { class: `dot line-${at}`, r: 3.5 }));
    this.selection = svg("rect", { class: "selection", width: 0 });
    this.picture = svg(
      "svg",
      { role: "img", "aria-labelledby": this.name.id, "aria-describedby": `${plan.id}-table` },
      this.grid,
      this.area,
      ...this.lines,
      this.limits,
      this.selection,
      this.cursor,
      ...this.dots,
      this.labels,
    );
    this.when = el("span", "chart-when");
    this.cells = plan.series.map(() => ({ head: el("th", "", { scope: "row" }), now: el("td"), mean: el("td"), most: el("td") }));
    this.heads = ["", "", "", ""].map(() => el("th", "", { scope: "col" }));
    const table = el(
      "table",
      "unseen",
      {},
      el("thead", "", {}, el("tr", "", {}, ...this.heads)),
      el("tbody", "", {}, ...this.cells.map(({ head, now, mean, most }) => el("tr", "", {}, head, now, mean, most))),
    );
    table.id = `${plan.id}-table`;
    this.element = el(
      "figure",
      "chart",
      { tabindex: 0, "aria-labelledby": this.name.id },
      el("figcaption", "", {}, this.name, this.when),
      el("div", "plot", {}, this.picture),
      el("p", "legend", {}, ...this.legend.map((it) => el("span", "legend-item", {}, it.key, it.name, it.value))),
      table,
    );
    this.element.id = plan.id;
    this.listen();
    if (window.ResizeObserver) new ResizeObserver(() => this.draw()).observe(this.element);
  }

  listen() {
    const { picture, shared } = this;
    const x = (/** @type {PointerEvent | MouseEvent} */ event) => event.clientX - picture.getBoundingClientRect().left;
    picture.addEventListener("pointermove", (event) => {
      shared.point(this.moment(x(event)));
      if (this.drag !== null) this.showSelection(this.drag, x(event));
    });
    picture.addEventListener("pointerleave", () => {
      shared.point(null);
      this.endDrag(null);
    });
    picture.addEventListener("pointerdown", (event) => {
      if (event.button === 0) this.drag = x(event);
    });
    picture.addEventListener("pointerup", (event) => this.endDrag(x(event)));
    picture.addEventListener("dblclick", () => shared.reset());
    this.element.addEventListener("blur", () => shared.point(null));
    this.element.addEventListener("keydown", (event) => {
      const by = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
      if (by !== 0) {
        const step = Math.max(1000, (shared.to_ms - shared.from_ms) / 60);
        const from = shared.at_ms ?? (by > 0 ? shared.from_ms : shared.to_ms);
        shared.point(Math.min(shared.to_ms, Math.max(shared.from_ms, from + by * step)));
      } else if (event.key === "Escape") shared.reset();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** @param {number | null} to where the pointer is now; null if it has left */
  endDrag(to) {
    const from = this.drag;
    this.drag = null;
    this.selection.setAttribute("width", "0");
    if (from === null || to === null || Math.abs(to - from) < 8) return;
    const [low, high] = [Math.min(from, to), Math.max(from, to)].map((it) => this.moment(it));
    if (high - low >= 3000) this.shared.select(low, high);
  }

  /** @param {number} from @param {number} to */
  showSelection(from, to) {
    this.selection.setAttribute("x", String(Math.min(from, to)));
    this.selection.setAttribute("width", String(Math.abs(to - from)));
  }

  /** @param {number} x @returns {number} */
  moment(x) {
    const { from_ms, to_ms } = this.shared;
    const share = (x - this.sizes.left) / Math.max(1, this.width - this.sizes.left - this.sizes.right);
    return from_ms + Math.min(1, Math.max(0, share)) * (to_ms - from_ms);
  }

  /** @param {number} at_ms */
  x(at_ms) {
    const { from_ms, to_ms } = this.shared;
    return this.sizes.left + ((at_ms - from_ms) / Math.max(1, to_ms - from_ms)) * (this.width - this.sizes.left - this.sizes.right);
  }

  /** @param {Sample[]} samples oldest first */
  show(samples) {
    this.samples = samples;
    this.draw();
  }

  /** Takes the words of the language in use. */
  relabel() {
    setText(this.name, t(this.plan.label));
    ["chart.what", "chart.now", "chart.mean", "chart.most"].forEach((key, at) => setText(this.heads[at], t(key)));
    this.plan.series.forEach(({ key }, at) => {
      setText(this.legend[at].name, t(key));
      setText(this.cells[at].head, t(key));
    });
    this.draw();
  }

  draw() {
    this.width = Math.floor(this.picture.parentElement?.clientWidth ?? 0);
    if (this.width < 120) return;
    this.scale = Math.max(1, parseFloat(getComputedStyle(document.documentElement).fontSize) / ROOT_PX);
    const px = (/** @type {number} */ it) => Math.round(it * this.scale);
    this.sizes = { height: px(SIZES.height), left: px(SIZES.left), right: px(SIZES.right), top: px(SIZES.top), bottom: px(SIZES.bottom) };
    this.picture.setAttribute("width", String(this.width));
    this.picture.setAttribute("height", String(this.sizes.height));
    this.selection.setAttribute("y", String(this.sizes.top));
    this.selection.setAttribute("height", String(this.sizes.height - this.sizes.top - this.sizes.bottom));
    const { plan, shared } = this;
    const shown = this.samples.filter((it) => it.at_ms >= shared.from_ms - GAP_MS && it.at_ms <= shared.to_ms);
    const peaks = plan.series.map(({ value }) => shown.reduce((top, it) => Math.max(top, value(it)), 0));
    const wanted = Math.max(plan.least, ...peaks);
    const marks = ticks(Math.min(plan.most ?? Infinity, wanted));
    const top = marks[marks.length - 1];
    const y = (/** @type {number} */ value) => this.sizes.top + (1 - Math.min(value, top) / top) * (this.sizes.height - this.sizes.top - this.sizes.bottom);
    this.drawAxes(marks, y);
    plan.series.forEach(({ value }, at) => {
      let path = "";
      let before = -Infinity;
      for (const it of shown) {
        path += `${it.at_ms - before > GAP_MS ? "M" : "L"}${this.x(it.at_ms).toFixed(1)} ${y(value(it)).toFixed(1)}`;
        before = it.at_ms;
      }
      this.lines[at].setAttribute("d", path);
      if (at > 0) return;
      const first = shown[0];
      const last = shown[shown.length - 1];
      const base = this.sizes.height - this.sizes.bottom;
      this.area.setAttribute("d", first ? `M${this.x(first.at_ms).toFixed(1)} ${base}${path.replace(/M/g, "L")}L${this.x(last.at_ms).toFixed(1)} ${base}Z` : "");
    });
    refill(
      this.limits,
      ...(plan.limits ?? [])
        .filter((it) => it.value > 0 && it.value <= top)
        .map((it) => {
          const label = svg("text", { x: this.sizes.left + 4, y: y(it.value) - 4 });
          label.textContent = `${t(it.key)} ${plan.format(it.value)}`;
          return svg("g", { class: "limit" }, svg("path", { d: `M${this.sizes.left} ${y(it.value)}H${this.width - this.sizes.right}` }), label);
        }),
    );
    this.read(shown, peaks, y);
  }

  /** @param {number[]} marks @param {(value: number) => number} y */
  drawAxes(marks, y) {
    const { plan, shared } = this;
    /** @type {SVGElement[]} */
    const labels = [];
    let path = "";
    for (const mark of marks) {
      path += `M${this.sizes.left} ${Math.round(y(mark)) + 0.5}H${this.width - this.sizes.right}`;
      const label = svg("text", { x: this.sizes.left - 8, y: y(mark) + 4 * this.scale, "text-anchor": "end" });
      label.textContent = short(plan.format(mark));
      labels.push(label);
    }
    const span_s = (shared.to_ms - shared.from_ms) / 1000;
    const room = Math.max(2, Math.floor((this.width - this.sizes.left - this.sizes.right) / (90 * this.scale)));
    const step_ms = 1000 * (STEPS_S.find((it) => span_s / it <= room) ?? STEPS_S[STEPS_S.length - 1]);
    const write = step_ms < 60_000 ? seconds : time;
    for (let at = Math.ceil(shared.from_ms / step_ms) * step_ms; at <= shared.to_ms; at += step_ms) {
      const x = Math.round(this.x(at)) + 0.5;
      path += `M${x} ${this.sizes.height - this.sizes.bottom}V${this.sizes.height - this.sizes.bottom + 4}`;
      if (x > this.width - this.sizes.right - 24 * this.scale) continue;
      const label = svg("text", { x, y: this.sizes.height - 6 * this.scale, "text-anchor": "middle" });
      label.textContent = write(at);
      labels.push(label);
    }
    this.grid.setAttribute("d", path);
    refill(this.labels, ...labels);
  }

  /**
   * Values under the cursor, or the latest.
   * @param {Sample[]} shown
   * @param {number[]} peaks
   * @param {(value: number) => number} y
   */
  read(shown, peaks, y) {
    const { plan, shared } = this;
    const newest = shown[shown.length - 1];
    const at_ms = shared.at_ms;
    const near = at_ms === null ? undefined : shown.reduce((/** @type {Sample | undefined} */ best, it) => (best && Math.abs(best.at_ms - at_ms) <= Math.abs(it.at_ms - at_ms) ? best : it), undefined);
    const read = near ?? newest;
    setText(this.when, near ? seconds(near.at_ms) : "");
    this.cursor.setAttribute("d", near ? `M${this.x(near.at_ms).toFixed(1)} ${this.sizes.top}V${this.sizes.height - this.sizes.bottom}` : "");
    plan.series.forEach(({ value }, at) => {
      const dot = this.dots[at];
      dot.style.display = near ? "" : "none";
      if (near) {
        dot.setAttribute("cx", this.x(near.at_ms).toFixed(1));
        dot.setAttribute("cy", y(value(near)).toFixed(1));
      }
      const words = (/** @type {number | undefined} */ it) => (it === undefined ? "–" : plan.format(it));
      setText(this.legend[at].value, words(read && value(read)));
      setText(this.cells[at].now, words(newest && value(newest)));
      setText(this.cells[at].mean, words(shown.length ? shown.reduce((sum, it) => sum + value(it), 0) / shown.length : undefined));
      setText(this.cells[at].most, words(peaks[at]));
    });
  }
}
