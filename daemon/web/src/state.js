// @ts-check
// The box's state for a person who looks after it: what comes in, what is kept, how the signal is, with charts over time.
// Everything is made once and then only changed in its texts, so nothing moves while one reads.

import { Chart } from "./chart.js";
import { byId, el, setText } from "./dom.js";
import { bytes, duration, number, percent, rate, t, write } from "./i18n.js";

/** @typedef {import("./types").Sample} Sample */
/** @typedef {import("./types").State} State */

/** Samples that are kept: ten minutes. */
const KEPT = 600;
/** Spans to choose from, in seconds. */
const SPANS = [60, 600];
/** Loss is judged over this many seconds: one second of a quiet link says nothing. */
const LOSS_S = 60;

/** @param {Sample[]} samples */
export function lossOf(samples) {
  const [lost, got] = samples
    .slice(-LOSS_S)
    .reduce(([lost, got], it) => [lost + it.lost, got + it.packets], [0, 0]);
  return lost + got > 0 ? lost / (lost + got) : null;
}

/** A named value in a tile. */
class Fact {
  /** @param {string} key @param {boolean} [large] */
  constructor(key, large = false) {
    this.key = key;
    this.name = el("dt");
    this.value = el("dd", "", {}, "–");
    this.element = el("div", large ? "fact large" : "fact", {}, this.name, this.value);
  }

  relabel() {
    setText(this.name, t(this.key));
  }

  /** @param {string} text */
  set(text) {
    setText(this.value, text);
  }
}

/** How full something is. */
class Meter {
  constructor() {
    this.fill = el("span", "bar-fill");
    this.element = el("span", "bar", { "aria-hidden": "true" }, this.fill);
  }

  /** @param {number | null} share */
  set(share) {
    const value = Math.min(1, Math.max(0, share ?? 0));
    this.fill.style.transform = `scaleX(${value})`;
    this.element.classList.toggle("high", value > 0.95);
  }
}

/** The section. */
export class StateView {
  constructor() {
    /** @type {Sample[]} */
    this.samples = [];
    /** @type {State | null} */
    this.state = null;
    this.span_s = SPANS[1];
    const fact = (/** @type {string} */ key, large = false) => new Fact(key, large);
    this.facts = {
      receive: fact("state.rate", true),
      loss: fact("state.loss"),
      recovered: fact("state.recovered"),
      repair: fact("state.repair"),
      sessions: fact("state.sessions"),
      objects: fact("state.received"),
      space: fact("state.space", true),
      kept: fact("state.objects"),
      hits: fact("state.hits"),
      memory: fact("state.memory"),
      flight: fact("state.inFlight"),
      written: fact("state.written"),
      life: fact("state.life"),
      players: fact("state.toPlayers", true),
      connections: fact("state.connections"),
      uptime: fact("state.uptime"),
      version: fact("state.version"),
    };
    this.space = new Meter();
    this.budget = new Meter();
    const f = this.facts;
    this.signal = el("div", "signals");
    this.noSignal = el("p", "hint");
    this.arriving = el("ul", "arriving");
    this.failing = el("ul", "failing", { hidden: true });
    const bits = { format: rate, least: 100_000 };
    const count = { format: (/** @type {number} */ value) => number(value), least: 10 };
    this.charts = [
      new Chart("chart-receive", "chart.receive", [
        { key: "chart.received", value: (it) => it.receive_bps },
        { key: "chart.repair", value: (it) => it.repair_bps },
      ], bits),
      new Chart("chart-loss", "chart.loss", [
        { key: "chart.lost", value: (it) => it.lost },
        { key: "chart.recovered", value: (it) => it.recovered },
      ], count),
      new Chart("chart-players", "chart.players", [{ key: "chart.delivered", value: (it) => it.players_bps }], bits),
      new Chart("chart-hits", "chart.hits", [
        { key: "chart.hit", value: (it) => it.hits },
        { key: "chart.miss", value: (it) => it.misses },
      ], count),
      new Chart("chart-flash", "chart.flash", [{ key: "chart.written", value: (it) => it.flash_bps }], bits),
    ];
    this.spans = SPANS.map((span_s) => {
      const button = el("button", "button small", { type: "button", "aria-pressed": String(span_s === this.span_s) });
      button.addEventListener("click", () => this.choose(span_s));
      return button;
    });
    /** @type {[string, HTMLHeadingElement][]} */
    this.headings = [];
    const tile = (/** @type {string} */ key, /** @type {(HTMLElement | Fact)[]} */ ...parts) => {
      const heading = el("h3");
      this.headings.push([key, heading]);
      const small = el("dl", "facts-list");
      for (const part of parts) if (part instanceof Fact) small.append(part.element);
      const others = parts.filter((it) => !(it instanceof Fact));
      return el("section", "tile", { "data-stop": true, tabindex: -1 }, heading, small, .../** @type {HTMLElement[]} */ (others));
    };
    byId("state-body").append(
      this.failing,
      el(
        "div",
        "tiles",
        {},
        tile("state.receiving", f.receive, f.loss, f.recovered, f.repair, f.sessions, f.objects),
        tile("state.cache", f.space, f.kept, f.hits, f.memory, f.flight, this.space.element),
        tile("state.flash", f.written, f.life, this.budget.element),
        tile("state.signal", this.signal, this.noSignal),
        tile("state.serving", f.players, f.connections, f.uptime, f.version),
        tile("state.arriving", this.arriving),
      ),
      el("div", "spans", { role: "group" }, ...this.spans),
      el("div", "charts", {}, ...this.charts.map((it) => it.element)),
    );
    /** Charts that nobody sees are not drawn. */
    this.seen = true;
    if (window.IntersectionObserver) {
      const observer = new IntersectionObserver(([entry]) => {
        this.seen = entry.isIntersecting;
        this.draw();
      });
      observer.observe(byId("state-body"));
    }
    this.relabel();
  }

  /** @param {number} span_s */
  choose(span_s) {
    this.span_s = span_s;
    this.spans.forEach((it, at) => it.setAttribute("aria-pressed", String(SPANS[at] === span_s)));
    this.draw();
  }

  /** Takes the words of the language in use. */
  relabel() {
    for (const [key, heading] of this.headings) setText(heading, t(key));
    for (const fact of Object.values(this.facts)) fact.relabel();
    this.spans.forEach((it, at) => setText(it, t("chart.minutes", { count: SPANS[at] / 60 })));
    this.spans[0].parentElement?.setAttribute("aria-label", t("chart.span"));
    setText(this.noSignal, t("state.noSignal"));
    for (const chart of this.charts) chart.relabel();
    if (this.state) this.show(this.state);
    this.second();
  }

  /** @param {Sample[]} samples */
  history(samples) {
    this.samples = samples.slice(-KEPT);
    this.draw();
    this.second();
  }

  /** @param {Sample} sample */
  sample(sample) {
    this.samples.push(sample);
    if (this.samples.length > KEPT) this.samples.shift();
    this.draw();
    this.second();
  }

  draw() {
    if (!this.seen) return;
    for (const chart of this.charts) chart.show(this.samples, this.span_s);
  }

  /** Writes what changes each second. */
  second() {
    const newest = this.samples[this.samples.length - 1];
    if (!newest) return;
    const { facts } = this;
    const loss = lossOf(this.samples);
    facts.receive.set(rate(newest.receive_bps));
    facts.loss.set(loss === null ? "–" : percent(loss));
    facts.loss.element.classList.toggle("bad", loss !== null && loss > 0.05);
    facts.recovered.set(number(this.samples.slice(-LOSS_S).reduce((sum, it) => sum + it.recovered, 0)));
    facts.players.set(rate(newest.players_bps));
    facts.connections.set(number(newest.connections));
  }

  /** @param {State} state */
  show(state) {
    this.state = state;
    const { facts } = this;
    const { cache, flash, receive, repair } = state;
    facts.repair.set(t("state.repairValue", { bytes: bytes(repair.bytes), count: repair.requests }));
    facts.sessions.set(t("state.sessionsValue", { sessions: receive.sessions, groups: receive.groups }));
    facts.objects.set(number(receive.objects));
    facts.space.set(t("of", { some: bytes(cache.bytes), all: bytes(cache.quota_bytes) }));
    this.space.set(cache.quota_bytes > 0 ? cache.bytes / cache.quota_bytes : null);
    facts.kept.set(number(cache.objects));
    facts.hits.set(cache.hit_ratio === null ? "–" : percent(cache.hit_ratio));
    facts.memory.set(t("of", { some: bytes(cache.memory_bytes), all: bytes(cache.memory_quota_bytes) }));
    facts.flight.set(number(cache.in_flight));
    const { written_today_bytes: written, budget_bytes: budget } = flash;
    facts.written.set(budget === null ? bytes(written) : t("of", { some: bytes(written), all: bytes(budget) }));
    this.budget.element.hidden = budget === null;
    this.budget.set(budget ? written / budget : null);
    facts.life.set(flash.life_years === null ? "–" : t("state.years", { count: Math.round(flash.life_years * 10) / 10 }));
    facts.uptime.set(duration(state.uptime_s));
    facts.version.set(state.version.slice(0, 60));
    this.showFailing(receive.failing);
    this.showSignal(state.signal);
    this.showArriving(state.arriving);
  }

  /** @param {string[]} failing */
  showFailing(failing) {
    this.failing.hidden = failing.length === 0;
    rows(this.failing, failing.slice(0, 20), () => el("li"), (row, it) => write(row, { text: it, lang: "" }, 300));
  }

  /** @param {import("./types").Signal[]} signals */
  showSignal(signals) {
    this.noSignal.hidden = signals.length > 0;
    rows(this.signal, signals, signalRow, (row, it) => {
      const [name, lock, values, bar] = /** @type {HTMLElement[]} */ ([...row.children]);
      write(name, { text: it.name, lang: "" }, 60);
      setText(lock, it.locked === null ? "" : t(it.locked ? "signal.locked" : "signal.unlocked"));
      lock.className = it.locked ? "lock good" : "lock poor";
      const words = [
        it.snr_db === null ? "" : t("signal.snr", { db: number(it.snr_db, 1) }),
        it.strength_dbm === null ? "" : t("signal.dbm", { dbm: number(it.strength_dbm, 1) }),
        it.strength_dbm === null && it.strength_ratio !== null ? t("signal.strength", { share: percent(it.strength_ratio) }) : "",
        t("signal.errors", { count: it.continuity_errors }),
      ];
      setText(values, words.filter((one) => one !== "").join(" · "));
      // 15 dB is more than any usual mode of DVB-S2 asks for.
      const share = it.strength_ratio ?? (it.snr_db === null ? null : it.snr_db / 15);
      bar.hidden = share === null;
      /** @type {HTMLElement} */ (bar.firstElementChild).style.transform = `scaleX(${Math.min(1, Math.max(0, share ?? 0))})`;
    });
  }

  /** @param {import("./types").Arriving[]} arriving */
  showArriving(arriving) {
    rows(this.arriving, arriving.slice(0, 6), arrivingRow, (row, it) => {
      const [name, value, bar] = /** @type {HTMLElement[]} */ ([...row.children]);
      write(name, { text: it.name, lang: "" }, 200);
      setText(value, it.length === null ? bytes(it.received_bytes) : t("of", { some: bytes(it.received_bytes), all: bytes(it.length) }));
      const share = it.length ? Math.min(1, it.received_bytes / it.length) : 0;
      /** @type {HTMLElement} */ (bar.firstElementChild).style.transform = `scaleX(${share})`;
    });
    if (!arriving.length) this.arriving.append(el("li", "hint", {}, t("state.nothing")));
  }
}

/**
 * Makes the children of `parent` as many as `items`, and fills each.
 * @template T
 * @param {HTMLElement} parent
 * @param {T[]} items
 * @param {() => HTMLElement} make
 * @param {(row: HTMLElement, item: T) => void} fill
 */
function rows(parent, items, make, fill) {
  parent.querySelector(":scope > .hint")?.remove();
  while (parent.children.length > items.length) parent.lastElementChild?.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, at) => fill(/** @type {HTMLElement} */ (parent.children[at]), item));
}

const bar = () => el("span", "bar", { "aria-hidden": "true" }, el("span", "bar-fill"));
const signalRow = () => el("div", "signal", {}, el("span", "name"), el("span", "lock"), el("span", "values"), bar());
const arrivingRow = () => el("li", "", {}, el("span", "name"), el("span", "value"), bar());
