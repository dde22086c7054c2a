// @ts-check
// The player: a title on the whole window, with controls that go away. It tries the instances of a title in the order of
// the list; when one fails it says so and takes the next, and after the last it shows the way out. How media get into the
// video element is engines.js's business.

import { channelOf, isBroadcast, nameOf, span } from "./card.js";
import { Controls } from "./controls.js";
import { el, refill } from "./dom.js";
import { engineFor } from "./engines.js";
import { pick, t, write } from "./i18n.js";
import { remember } from "./memory.js";
import { outside } from "./outside.js";
import { ageOf, isLocked } from "./parental.js";
import { askPin } from "./pin.js";
import { onAir } from "./programme.js";
import * as resume from "./resume.js";
import * as views from "./views.js";

/** @typedef {import("./types").Title} Title */
/** @typedef {import("./types").Instance} Instance */

/** How long an instance may take until its first picture. */
const START_MS = 20_000;
/** How long the controls stay when nothing is pressed. */
const IDLE_MS = 4000;
/** How often the place in a film is noted. */
const NOTE_MS = 5000;

/**
 * The instances of a title that this browser can play here, best first.
 * @param {Title} title
 * @param {boolean} players
 */
export const playable = (title, players) => title.play.filter((it) => engineFor(it, players) !== null);

/** The player view. One is made for each time somebody plays; zapping stays within it. */
/**
 * Whether the box answers that it has not got a manifest, or cannot get it now.
 * @param {string} url
 * @returns {Promise<boolean>}
 */
async function isMissing(url) {
  try {
    const { status } = await fetch(url, { method: "HEAD", cache: "no-store" });
    return status === 404 || status === 410 || status >= 500;
  } catch {
    return false;
  }
}

export class Player {
  /**
   * @param {boolean} players whether this build has the in-page players
   * @param {{zap(from: Title, by: 1 | -1): Promise<Title | null>, details(title: Title): void, closed(): void}} on
   */
  constructor(players, on) {
    this.players = players;
    this.on = on;
    /** @type {Title | null} */
    this.title = null;
    /** @type {import("./types").Engine | null} */
    this.engine = null;
    /** Counts starts; what belongs to an earlier one is dropped. */
    this.attempt = 0;
    this.closedFor = false;
    this.idle = 0;
    this.deadline = 0;
    this.noted = 0;
    /** Where to begin, once there is something to play; null for where the media begin. @type {number | null} */
    this.from_s = null;
    /** The PIN is asked for. */
    this.asking = false;
    this.video = el("video", "", { playsinline: true, tabindex: -1 });
    this.name = el("h2", "player-name");
    this.name.id = "player-name";
    this.programme = el("p", "player-now");
    this.age = el("span", "badge age inline", { hidden: true });
    this.note = el("p", "player-note", { role: "status" });
    this.spinner = el("div", "spinner", { hidden: true, "aria-hidden": "true" });
    this.panel = el("div", "player-failed", { hidden: true });
    this.controls = new Controls(this.video, {
      close: views.back,
      details: () => this.title && on.details(this.title),
      engine: () => this.engine,
    });
    this.element = el(
      "dialog",
      "player",
      { "aria-labelledby": "player-name" },
      this.video,
      this.spinner,
      this.panel,
      el("div", "player-top", {}, this.name, el("p", "player-line", {}, this.age, this.programme)),
      this.note,
      this.controls.element,
    );
    for (const event of ["pointermove", "pointerdown", "focusin"]) {
      this.element.addEventListener(event, () => this.wake(), { passive: true });
    }
    this.video.addEventListener("click", () => {
      if (!this.element.classList.contains("quiet")) this.controls.toggle();
    });
    const waiting = () => (this.spinner.hidden = false);
    const going = () => {
      this.spinner.hidden = true;
      clearTimeout(this.deadline);
      write(this.note, { text: "", lang: "" });
    };
    this.video.addEventListener("waiting", waiting);
    this.video.addEventListener("loadeddata", () => {
      clearTimeout(this.deadline);
      this.continueAt();
      this.begin();
    });
    this.video.addEventListener("timeupdate", () => this.noteStop());
    this.video.addEventListener("playing", going);
    this.video.addEventListener("pause", () => this.wake());
  }

  /** @param {Title} title @param {number | null} [from_s] */
  open(title, from_s = null) {
    views.show({ element: this.element, closed: () => this.close(), key: (action) => this.key(action) });
    this.start(title, from_s);
  }

  /**
   * Plays a title from its first instance on; a film from where it was left, if no place is named.
   * @param {Title} title
   * @param {number | null} [from_s]
   */
  start(title, from_s = null) {
    this.title = title;
    this.from_s = from_s ?? (isBroadcast(title) ? null : (resume.stopOf(title.id)?.at_s ?? null));
    if (isBroadcast(title)) remember("channel", JSON.stringify(title.id));
    this.tick();
    this.panel.hidden = true;
    this.controls.element.hidden = false;
    this.controls.focus();
    this.wake();
    this.tryNext(playable(title, this.players), []);
  }

  /**
   * @param {Instance[]} left instances not tried yet
   * @param {string[]} failures what has failed so far
   */
  async tryNext(left, failures) {
    this.stop();
    const attempt = ++this.attempt;
    const [instance, ...rest] = left;
    const begin = instance && engineFor(instance, this.players);
    if (!begin) {
      this.giveUp(failures);
      return;
    }
    const way = instance.way.toUpperCase();
    this.spinner.hidden = false;
    const failed = (/** @type {string} */ why) => {
      if (attempt !== this.attempt || this.closedFor) return;
      const failure = t("player.failedOne", { way, why });
      write(this.note, { text: rest.length ? t("player.next", { failure }) : "", lang: "" });
      this.tryNext(rest, [...failures, failure]);
    };
    this.deadline = window.setTimeout(() => failed(t("player.late")), START_MS);
    try {
      const engine = await begin(this.video, instance.url, failed);
      if (attempt !== this.attempt || this.closedFor) {
        engine.destroy();
        return;
      }
      this.engine = engine;
      this.controls.reset();
      if (!engine.startsAlone) this.begin();
    } catch (error) {
      // The player's own module has not come.
      failed(/** @type {Error} */ (error).message);
    }
  }

  /** Goes to where the viewer stopped last time. */
  continueAt() {
    if (this.from_s === null) return;
    const { duration } = this.video;
    if (this.from_s > 0 && Number.isFinite(duration) && this.from_s < duration - 1) this.video.currentTime = this.from_s;
    this.from_s = null;
  }

  /** Notes where a film is. */
  noteStop() {
    const { title, video } = this;
    const now = Date.now();
    if (!title || isBroadcast(title) || now - this.noted < NOTE_MS || !Number.isFinite(video.duration) || this.controls.isLive()) return;
    this.noted = now;
    resume.note(title.id, video.currentTime, video.duration);
  }

  /** Plays. Called at once, for browsers that load nothing before, and again when there is something to play. */
  begin() {
    this.video.play().catch((error) => {
      if (error.name !== "NotAllowedError") return; // Of media that fail, the engine knows more.
      // The browser wants a person to press the button.
      clearTimeout(this.deadline);
      this.spinner.hidden = true;
      this.wake();
    });
  }

  /**
   * Nothing is left to try here. Where the box itself has no manifest, other players would not have it either.
   * @param {string[]} failures
   */
  async giveUp(failures) {
    const { title, attempt } = this;
    if (!title) return;
    const instances = playable(title, this.players);
    const isAway = instances.length > 0 && (await Promise.all(instances.map((it) => isMissing(it.url)))).every(Boolean);
    if (attempt !== this.attempt || this.title !== title) return;
    this.spinner.hidden = true;
    this.controls.element.hidden = true;
    const again = el("button", "button", { type: "button" }, t("player.again"));
    again.addEventListener("click", () => this.start(title));
    const close = el("button", "button", { type: "button" }, t("close"));
    close.addEventListener("click", views.back);
    const reasons = failures.map((it) => {
      const line = el("li");
      write(line, { text: it, lang: "" }, 300);
      return line;
    });
    refill(this.panel,
      el("h3", "", { role: "alert" }, t(!isAway ? "player.cannot" : isBroadcast(title) ? "player.offAir" : "player.away")),
      el("ul", "reasons", {}, ...(reasons.length ? reasons : [el("li", "", {}, t("player.nothing"))])),
      ...(isAway ? [] : [outside(title)]),
      el("p", "actions", {}, again, close),
    );
    this.panel.hidden = false;
    again.focus();
    this.wake();
  }

  /** Brings the line about the present programme up to date. */
  tick() {
    const { title } = this;
    if (!title) return;
    const { now, next } = onAir(title);
    const programme = now ? pick(now.title) : { text: "", lang: "" };
    const channel = channelOf(title);
    write(this.name, programme.text ? programme : { text: channel, lang: nameOf(title).lang }, 200);
    write(this.programme, { text: now && programme.text ? `${span(now, next)}  ·  ${channel}` : "", lang: "" }, 300);
    const age = ageOf(title);
    this.age.hidden = age === null;
    this.age.textContent = age === null ? "" : String(age);
    this.controls.describe(title);
    this.guard(title, age);
  }

  /**
   * What begins while one watches may be for other ages than what was on.
   * @param {Title} title
   * @param {number | null} age
   */
  async guard(title, age) {
    if (this.asking || this.closedFor || !isLocked(age) || !this.element.open) return;
    this.asking = true;
    const attempt = this.attempt;
    this.video.pause();
    this.element.classList.add("locked");
    const right = await askPin(age ?? 0);
    this.asking = false;
    if (this.closedFor) return;
    this.element.classList.remove("locked");
    if (right && attempt === this.attempt && this.title === title) this.begin();
    else if (!right && this.title === title) views.back();
  }

  /** Shows the controls, and hides them again after a while. */
  wake() {
    this.element.classList.remove("quiet");
    clearTimeout(this.idle);
    this.idle = window.setTimeout(() => {
      if (!this.video.paused && this.panel.hidden && !this.controls.menu.isOpen) this.element.classList.add("quiet");
    }, IDLE_MS);
  }

  /**
   * @param {string} action
   * @returns {boolean}
   */
  key(action) {
    const asleep = this.element.classList.contains("quiet");
    this.wake();
    if (action === "next" || action === "previous") {
      this.zap(action === "next" ? 1 : -1);
      return true;
    }
    if (action === "info" && this.title) {
      this.on.details(this.title);
      return true;
    }
    if (!this.panel.hidden) return false;
    if (this.controls.key(action)) return true;
    // The first arrow only shows where the focus is.
    return asleep && ["up", "down", "left", "right"].includes(action);
  }

  /** @param {1 | -1} by */
  async zap(by) {
    if (!this.title) return;
    const to = await this.on.zap(this.title, by);
    if (!to || this.closedFor || to.id === this.title.id) return;
    if (!isLocked(ageOf(to)) || (await askPin(ageOf(to) ?? 0))) this.start(to);
  }

  stop() {
    clearTimeout(this.deadline);
    this.noted = 0;
    if (this.engine) this.noteStop();
    this.engine?.destroy();
    this.engine = null;
  }

  close() {
    this.closedFor = true;
    this.attempt += 1;
    clearTimeout(this.idle);
    this.stop();
    if (document.pictureInPictureElement === this.video) document.exitPictureInPicture().catch(() => {});
    this.video.removeAttribute("src");
    this.video.load();
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    this.on.closed();
  }
}
