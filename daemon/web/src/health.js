// @ts-check
// Faults of the box, as far as a viewer must know them: no signal, gone, wrong clock, full disk. One line at the top,
// the worst first; without any, what the operator says to viewers.

import { byId, icon, refill } from "./dom.js";
import { duration, t } from "./i18n.js";

/** @typedef {import("./types").Sample} Sample */
/** @typedef {import("./types").State} State */

/** Seconds in a row without a packet that count as a lost signal. Carousels send something in each second. */
const SILENT_S = 3;
/** What the two clocks may differ by: guides go by minutes. */
const CLOCK_MS = 120_000;
/** No box was built before: a clock that stands there has not been set. */
const BUILT_MS = Date.UTC(2025, 0, 1);

/** The line. */
export class Health {
  /** @param {(gone: boolean) => void} changed */
  constructor(changed) {
    this.element = byId("health");
    this.changed = changed;
    this.silent_s = 0;
    /** Whether anything has ever come: a box that only fetches has no signal to lose. */
    this.groups = 0;
    this.unlocked = false;
    /** Whether the box has nothing to play. */
    this.empty = false;
    this.disk = "fine";
    /** @type {string[]} what the operator says */
    this.messages = [];
    this.ahead_ms = 0;
    this.unset = false;
    this.gone = false;
    /** @type {number | null} seconds after which a box with too many viewers is asked again */
    this.full = null;
  }

  /** @param {Sample} sample @param {boolean} [fresh] whether it is of this second */
  sample(sample, fresh = true) {
    this.silent_s = sample.packets > 0 ? 0 : this.silent_s + 1;
    if (fresh && sample.at_ms > 0) {
      this.ahead_ms = sample.at_ms - Date.now();
      this.unset = sample.at_ms < BUILT_MS;
    }
    this.show();
  }

  /** @param {State} state */
  state(state) {
    this.groups = state.receive.groups;
    this.unlocked = state.signal.some((it) => it.locked === false) && !state.signal.some((it) => it.locked === true);
    this.disk = state.cache.disk;
    this.messages = state.messages;
    this.show();
  }

  /** @param {import("./types").Connection} connection */
  connection({ state, retry_s }) {
    this.gone = state === "lost";
    this.full = state === "full" ? (retry_s ?? 10) : null;
    if (state === "open") this.silent_s = 0;
    this.changed(this.gone);
    this.show();
  }

  /** Name, words and whether it is bad; null when all is well. @returns {[string, string, boolean] | null} */
  worst() {
    if (this.gone) return ["gone", t("health.gone"), true];
    if (this.unlocked || (this.groups > 0 && this.silent_s >= SILENT_S)) {
      return ["no-signal", t(this.empty ? "health.noSignalEmpty" : "health.noSignal"), true];
    }
    if (this.unset) return ["clock", t("health.clockUnset"), true];
    if (Math.abs(this.ahead_ms) > CLOCK_MS) {
      return ["clock", t("health.clock", { by: duration(Math.abs(this.ahead_ms) / 1000) }), false];
    }
    if (this.disk !== "fine" && this.disk !== "") return ["disk", t(`health.disk.${this.disk}`), this.disk !== "full"];
    if (this.full !== null) return ["busy", t("health.busy"), false];
    if (this.messages.length > 0) return ["message", this.messages.join(" · "), false];
    return null;
  }

  show() {
    const worst = this.worst();
    const key = worst ? `${worst[0]} ${worst[1]}` : "";
    if (this.element.dataset.key === key) return;
    this.element.dataset.key = key;
    this.element.hidden = worst === null;
    document.documentElement.classList.toggle("has-warning", worst !== null);
    this.element.className = worst?.[2] ? "health bad" : "health";
    this.element.dataset.state = worst?.[0] ?? "";
    if (worst) refill(this.element, icon("warning"), document.createTextNode(worst[1]));
    else refill(this.element);
  }
}
