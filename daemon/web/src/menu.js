// @ts-check
// The menu of the player: audio, subtitles and picture, each a list to choose from. It lies over the picture, and the arrow
// keys stay in it until it closes.

import { el, refill } from "./dom.js";
import { t } from "./i18n.js";

/** @typedef {import("./types").Engine} Engine */
/** @typedef {import("./types").Track} Track */

/** The menu. */
export class Menu {
  /**
   * @param {{engine(): Engine | null, audio(track: Track): void, subtitles(track: Track | null): void, closed(): void}} on
   */
  constructor(on) {
    this.on = on;
    this.element = el("div", "menu", { role: "dialog", "aria-label": t("player.tracks"), hidden: true });
  }

  get isOpen() {
    return !this.element.hidden;
  }

  /** Whether there is anything to choose. */
  hasChoice() {
    const engine = this.on.engine();
    return engine !== null && (engine.audio().length > 1 || engine.subtitles().length > 0 || engine.qualities().length > 1);
  }

  open() {
    this.draw();
    this.element.hidden = false;
    /** @type {HTMLElement | null} */ (this.element.querySelector('[aria-checked="true"]') ?? this.element.querySelector("button"))?.focus();
  }

  close() {
    if (!this.isOpen) return;
    this.element.hidden = true;
    this.on.closed();
  }

  draw() {
    const engine = this.on.engine();
    if (!engine) return;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.key;
    const groups = [
      this.group("player.audio", engine.audio(), engine.currentAudio(), (it) => {
        engine.setAudio(it.id);
        this.on.audio(it);
      }),
      this.group(
        "player.subtitles",
        engine.subtitles().length ? [{ id: -1, label: t("player.noSubtitles"), lang: "" }, ...engine.subtitles()] : [],
        engine.currentSubtitles(),
        (it) => {
          engine.setSubtitles(it.id);
          this.on.subtitles(it.id < 0 ? null : it);
        },
      ),
      this.group(
        "player.quality",
        engine.qualities().length ? [{ id: -1, label: t("player.automatic"), lang: "" }, ...engine.qualities()] : [],
        engine.currentQuality(),
        (it) => engine.setQuality(it.id),
      ),
    ];
    refill(this.element, ...groups.filter((it) => it !== null));
    if (focused) /** @type {HTMLElement[]} */ ([...this.element.querySelectorAll("[data-key]")]).find((it) => it.dataset.key === focused)?.focus();
  }

  /**
   * @param {string} key
   * @param {Track[]} tracks
   * @param {number} current
   * @param {(track: Track) => void} choose
   */
  group(key, tracks, current, choose) {
    if (tracks.length < 2) return null;
    const heading = el("h3", "", {}, t(key));
    heading.id = `menu-${key.replace(/\W/g, "-")}`;
    const items = tracks.map((track) => {
      const chosen = track.id === current;
      const label = el("span", "", { dir: "auto" }, track.label.slice(0, 60));
      if (track.lang && track.lang !== "und") label.lang = track.lang;
      const it = el("button", "menu-item", { type: "button", role: "radio", "aria-checked": String(chosen), "data-key": `${key} ${track.id}` }, el("span", "tick-mark", { "aria-hidden": "true" }), label);
      it.addEventListener("click", () => {
        choose(track);
        this.draw();
        // Engines change tracks a moment later.
        window.setTimeout(() => this.isOpen && this.draw(), 400);
      });
      return it;
    });
    return el("div", "menu-group", { role: "radiogroup", "aria-labelledby": heading.id }, heading, ...items);
  }
}
