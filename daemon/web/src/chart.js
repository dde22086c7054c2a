// @ts-check
// A time-line chart: the last minutes of one or two rates as lines in SVG, with a scale, a reading under the pointer, and the
// latest values as a table for those who cannot see lines.

import { el, setText, svg } from "./dom.js";
import { seconds, t } from "./i18n.js";

/** @typedef {import("./types").Sample} Sample */

/**
 * One line of a chart.
 * @typedef {object} Series
 * @property {string} key of its name in the language files
 * @property {(sample: Sample) => number} value
 */

/** The box that lines are drawn in; the browser stretches it. */
const WIDTH = 600;
const HEIGHT = 100;

/**
 * The next "round" number from a value on: 1, 2 or 5 times a power of ten.
 * @param {number} value
 */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5]) if (step * power >= value) return step * power;
  return 10 * power;
}

/** A chart. */
export class Chart {
  /**
   * @param {string} id unique on the page
   * @param {string} label key of its name
   * @param {Series[]} series at most two
   * @param {{format(value: number): string, least: number}} scale how values are written, and the least top of the scale
   */
  constructor(id, label, series, scale) {
    this.label = label;
    this.series = series;
    this.scale = scale;
    /** @type {Sample[]} */
    this.samples = [];
    this.span_s = 600;
    /** @type {number | null} the sample under the pointer, counted from the newest */
    this.reading = null;
    this.lines = series.map((_, at) => svg("path", { class: `line line-${at}`, "vector-effect": "non-scaling-stroke" }));
    this.area = svg("path", { class: "area" });
    this.cursor = svg("path", { class: "cursor", "vector-effect": "non-scaling-stroke" });
    this.picture = svg(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-labelledby": `${id}-name`,
        "aria-describedby": `${id}-table`,
      },
      svg("path", {
        class: "grid",
        "vector-effect": "non-scaling-stroke",
        d: `M0 .5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}`,
      }),
      this.area,
      ...this.lines,
      this.cursor,
    );
    this.name = el("h3", "chart-name");
    this.name.id = `${id}-name`;
    this.legend = series.map((_, at) => ({
      name: el("span", "legend-name"),
      value: el("span", "legend-value"),
      key: el("span", `legend-key line-${at}`, { "aria-hidden": "true" }),
    }));
    this.maximum = el("span", "scale-top");
    this.from = el("span");
    this.until = el("span");
    this.cells = series.map(() => ({ head: el("th", "", { scope: "row" }), now: el("td"), most: el("td") }));
    this.caption = el("caption");
    this.heads = [el("th", "", { scope: "col" }), el("th", "", { scope: "col" }), el("th", "", { scope: "col" })];
    const table = el(
      "table",
      "unseen",
      {},
      this.caption,
      el("thead", "", {}, el("tr", "", {}, ...this.heads)),
      el("tbody", "", {}, ...this.cells.map(({ head, now, most }) => el("tr", "", {}, head, now, most))),
    );
    table.id = `${id}-table`;
    this.element = el(
      "figure",
      "chart",
      { "data-stop": true, tabindex: -1 },
      el(
        "figcaption",
        "",
        {},
        this.name,
        el("span", "legend", {}, ...this.legend.map((it) => el("span", "legend-item", {}, it.key, it.name, it.value))),
      ),
      el("div", "plot", {}, this.maximum, this.picture),
      el("div", "axis", { "aria-hidden": "true" }, this.from, this.until),
      table,
    );
    this.picture.addEventListener("pointermove", (event) => {
      const rect = this.picture.getBoundingClientRect();
      this.reading = Math.round((1 - (event.clientX - rect.left) / rect.width) * (this.span_s - 1));
      this.draw();
    });
    this.picture.addEventListener("pointerleave", () => {
      this.reading = null;
      this.draw();
    });
  }

  /** Takes the words of the language in use. */
  relabel() {
    setText(this.name, t(this.label));
    setText(this.caption, t("chart.caption", { name: t(this.label) }));
    ["chart.what", "chart.now", "chart.most"].forEach((key, at) => setText(this.heads[at], t(key)));
    this.series.forEach(({ key }, at) => {
      setText(this.legend[at].name, t(key));
      setText(this.cells[at].head, t(key));
    });
    this.draw();
  }

  /**
   * @param {Sample[]} samples oldest first
   * @param {number} span_s how much of the past is shown
   */
  show(samples, span_s) {
    this.samples = samples;
    this.span_s = span_s;
    this.draw();
  }

  draw() {
    const { span_s, samples, scale } = this;
    const newest = samples[samples.length - 1];
    setText(this.from, t("chart.ago", { count: Math.round(span_s / 60) }));
    if (!newest) {
      setText(this.until, "");
      return;
    }
    const shown = samples.filter((it) => it.at_ms > newest.at_ms - span_s * 1000);
    const most = this.series.map(({ value }) => shown.reduce((top, it) => Math.max(top, value(it)), 0));
    const top = roundUp(Math.max(scale.least, ...most));
    setText(this.maximum, scale.format(top));
    const x = (/** @type {Sample} */ it) => WIDTH - ((newest.at_ms - it.at_ms) / (span_s * 1000)) * WIDTH;
    const y = (/** @type {number} */ value) => HEIGHT - (value / top) * (HEIGHT - 2) - 1;
    this.series.forEach(({ value }, at) => {
      let path = "";
      let before = -Infinity;
      for (const it of shown) {
        // A gap of more than three seconds is shown as one.
        path += `${it.at_ms - before > 3000 ? "M" : "L"}${x(it).toFixed(1)} ${y(value(it)).toFixed(1)}`;
        before = it.at_ms;
      }
      this.lines[at].setAttribute("d", path);
      if (at === 0) {
        const area = path.replace(/^M/, `M${x(shown[0]).toFixed(1)} ${HEIGHT}L`).replace(/(.)M/g, "$1L");
        this.area.setAttribute("d", `${area}V${HEIGHT}Z`);
      }
    });
    this.read(newest, most, x);
  }

  /**
   * Writes the values: those under the pointer, or the latest.
   * @param {Sample} newest
   * @param {number[]} most
   * @param {(sample: Sample) => number} x
   */
  read(newest, most, x) {
    const { reading, samples, scale } = this;
    const read = reading === null ? undefined : samples[samples.length - 1 - reading];
    this.cursor.setAttribute("d", read ? `M${x(read).toFixed(1)} 0V${HEIGHT}` : "");
    setText(this.until, read ? seconds(read.at_ms) : t("chart.now"));
    this.series.forEach(({ value }, at) => {
      setText(this.legend[at].value, scale.format(value(read ?? newest)));
      setText(this.cells[at].now, scale.format(value(newest)));
      setText(this.cells[at].most, scale.format(most[at]));
    });
  }
}
