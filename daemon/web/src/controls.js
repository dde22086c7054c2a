// @ts-check
// The player's controls: buttons, the bar to seek by, volume, tracks. They act on the video element; which title plays and
// from where is player.js's business.

import { el, icon, setIcon, setText } from "./dom.js";
import { position, t, time } from "./i18n.js";
import { recalled, remember, remembered } from "./memory.js";
import { Menu } from "./menu.js";
import { end_ms, now_ms, onAir } from "./programme.js";

/** Steps of the arrow keys and of the rewind and forward keys, in seconds. */
const STEP = 10;
/** Nearer to the live edge than this, a live stream is live. */
const LIVE_S = 12;
/** Step of the volume. */
const LOUDER = 0.05;

/** The controls of one player view. */
export class Controls {
  /**
   * @param {HTMLVideoElement} video
   * @param {{close(): void, details(): void, engine(): import("./types").Engine | null}} on
   */
  constructor(video, on) {
    this.video = video;
    this.on = on;
    /** When the present programme ends, which a live stream shows instead of its length. */
    this.until = "";
    this.seek = el("input", "seek", { type: "range", min: 0, max: 1000, step: 1, "aria-label": t("player.position") });
    this.at = el("span", "at");
    this.end = el("span", "end");
    const button = (/** @type {Parameters<typeof icon>[0]} */ name, /** @type {string} */ label, /** @type {() => void} */ act) => {
      const it = el("button", "button round", { type: "button", "aria-label": label }, icon(name));
      it.addEventListener("click", act);
      return it;
    };
    this.playing = button("play", t("play"), () => this.toggle());
    this.back = button("back", t("player.back", { seconds: STEP }), () => this.step(-STEP));
    this.ahead = button("forward", t("player.forward", { seconds: STEP }), () => this.step(STEP));
    this.live = el("button", "button live", { type: "button" }, el("span", "live-dot", { "aria-hidden": "true" }), t("player.live"));
    this.live.addEventListener("click", () => this.goLive());
    this.mute = button("sound", t("player.mute"), () => {
      video.muted = !video.muted;
    });
    this.volume = el("input", "volume", { type: "range", min: 0, max: 1, step: LOUDER, "aria-label": t("player.volume") });
    this.volume.addEventListener("input", () => {
      video.volume = Number(this.volume.value);
      video.muted = false;
    });
    this.menu = new Menu({
      engine: on.engine,
      audio: (it) => remember("audio", it.lang || null),
      subtitles: (it) => remember("subtitles", it?.lang || null),
      closed: () => this.tracks.focus(),
    });
    this.tracks = button("tracks", t("player.tracks"), () => (this.menu.isOpen ? this.menu.close() : this.menu.open()));
    this.pip = button("small", t("player.pip"), () => this.picture());
    this.full = button("full", t("player.full"), () => this.fullscreen());
    this.quality = el("span", "quality");
    const close = button("close", t("close"), () => on.close());
    close.classList.add("close");
    this.element = el(
      "div",
      "controls",
      { role: "group", "aria-label": t("player.controls") },
      this.menu.element,
      el("div", "timeline", {}, this.at, this.seek, this.end),
      el(
        "div",
        "buttons",
        {},
        this.playing,
        this.back,
        this.ahead,
        this.live,
        el("span", "loudness", {}, this.mute, this.volume),
        this.quality,
        el("span", "apart"),
        this.tracks,
        button("info", t("player.details"), () => on.details()),
        this.pip,
        this.full,
        close,
      ),
    );
    this.seek.addEventListener("input", () => this.seekTo());
    for (const event of ["play", "pause", "volumechange", "loadedmetadata", "durationchange", "timeupdate", "ended"]) {
      video.addEventListener(event, () => this.update());
    }
    video.addEventListener("volumechange", () => remember("volume", JSON.stringify({ volume: video.volume, muted: video.muted })));
    const kept = /** @type {{volume?: unknown, muted?: unknown} | null} */ (recalled("volume"));
    if (kept && typeof kept.volume === "number") video.volume = Math.min(1, Math.max(0, kept.volume));
    if (kept?.muted === true) video.muted = true;
    if (!document.fullscreenEnabled) this.full.hidden = true;
    if (!document.pictureInPictureEnabled) this.pip.hidden = true;
    this.reset();
  }

  /** For a new instance: nothing is known of its tracks. */
  reset() {
    this.menu.element.hidden = true;
    this.chosen = false;
    this.update();
  }

  focus() {
    this.playing.focus();
  }

  /** Takes the audio and subtitles of the language that was chosen last, once there are tracks. */
  choose() {
    const engine = this.on.engine();
    if (this.chosen || !engine || this.video.readyState < 1) return;
    const [audio, subtitles] = [engine.audio(), engine.subtitles()];
    this.chosen = true;
    const wanted = (/** @type {import("./types").Track[]} */ tracks, /** @type {string} */ name) => {
      const lang = (remembered(name) ?? "").split("-")[0];
      return lang ? tracks.find((it) => it.lang.split("-")[0] === lang) : undefined;
    };
    const spoken = wanted(audio, "audio");
    if (spoken && spoken.id !== engine.currentAudio()) engine.setAudio(spoken.id);
    const written = wanted(subtitles, "subtitles");
    if (written) engine.setSubtitles(written.id);
  }

  /** The span that can be seen: first and last second. */
  span() {
    const { seekable, duration } = this.video;
    const last = seekable.length ? seekable.end(seekable.length - 1) : 0;
    const first = seekable.length ? seekable.start(0) : 0;
    if (this.isLive()) {
      const edge = this.on.engine()?.liveEdge();
      return { first, last: edge !== null && edge !== undefined && edge > first ? Math.max(edge, this.video.currentTime) : last };
    }
    return { first, last: Number.isFinite(duration) && duration > 0 ? duration : last };
  }

  isLive() {
    const { duration } = this.video;
    const edge = this.on.engine()?.liveEdge();
    return duration === Infinity || duration > 1e7 || (edge !== null && edge !== undefined);
  }

  update() {
    const { video } = this;
    const { first, last } = this.span();
    const live = this.isLive();
    const length = last - first;
    this.seek.disabled = length < 1;
    const at = video.currentTime - first;
    this.seek.value = String(length > 0 ? Math.round((1000 * at) / length) : 0);
    this.seek.style.setProperty("--done", `${length > 0 ? Math.min(100, (100 * at) / length) : 0}%`);
    const behind = Math.max(0, last - video.currentTime);
    const isAtEdge = live && behind < LIVE_S;
    // A live picture has a time of day; a film has a position.
    const text = live ? time(now_ms() - behind * 1000) : position(video.currentTime);
    setText(this.at, text);
    setText(this.end, live ? (isAtEdge ? this.until : `−${position(behind)}`) : length > 0 ? position(last) : "");
    this.seek.setAttribute("aria-valuetext", live && !isAtEdge ? `−${position(behind)}` : text);
    this.live.hidden = !live;
    this.live.classList.toggle("now", isAtEdge);
    this.live.setAttribute("aria-label", t(isAtEdge ? "player.live" : "player.toLive"));
    setIcon(this.playing, video.paused ? "play" : "pause");
    this.playing.setAttribute("aria-label", t(video.paused ? "play" : "pause"));
    const silent = video.muted || video.volume === 0;
    setIcon(this.mute, silent ? "silent" : "sound");
    this.mute.setAttribute("aria-pressed", String(video.muted));
    this.volume.value = String(video.muted ? 0 : video.volume);
    this.volume.style.setProperty("--done", `${100 * (video.muted ? 0 : video.volume)}%`);
    this.tracks.hidden = !this.menu.hasChoice();
    setText(this.quality, this.on.engine()?.shownQuality() ?? "");
    this.choose();
  }

  /** @param {import("./types").Title | null} title */
  describe(title) {
    const { now, next } = title ? onAir(title) : { now: null, next: null };
    const end = now ? end_ms(now, next) : null;
    this.until = end === null ? "" : t("player.until", { time: time(end) });
    this.update();
  }

  toggle() {
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  /** @param {number} by in seconds */
  step(by) {
    const { first, last } = this.span();
    if (last > first) this.video.currentTime = Math.min(last - 0.5, Math.max(first, this.video.currentTime + by));
  }

  seekTo() {
    const { first, last } = this.span();
    this.video.currentTime = first + (Number(this.seek.value) / 1000) * (last - first);
  }

  goLive() {
    this.video.currentTime = this.span().last;
    this.video.play().catch(() => {});
  }

  /** @param {number} by */
  louder(by) {
    const { video } = this;
    video.volume = Math.min(1, Math.max(0, (video.muted ? 0 : video.volume) + by));
    video.muted = false;
  }

  picture() {
    if (document.pictureInPictureElement) document.exitPictureInPicture().catch(() => {});
    else this.video.requestPictureInPicture?.().catch(() => {});
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    else this.element.closest("dialog")?.requestFullscreen().catch(() => {});
  }

  /**
   * @param {string} action
   * @returns {boolean}
   */
  key(action) {
    if (this.menu.isOpen && action === "back") {
      this.menu.close();
      return true;
    }
    const sideways = action === "left" || action === "right";
    const seeking = document.activeElement === this.seek && sideways;
    if (document.activeElement === this.volume && sideways) this.louder(action === "left" ? -LOUDER : LOUDER);
    else if (action === "toggle") this.toggle();
    else if (action === "play") this.video.play().catch(() => {});
    else if (action === "pause") this.video.pause();
    else if (action === "rewind" || (seeking && action === "left")) this.step(-STEP);
    else if (action === "forward" || (seeking && action === "right")) this.step(STEP);
    else if (action === "mute") this.mute.click();
    else if (action === "louder") this.louder(LOUDER);
    else if (action === "softer") this.louder(-LOUDER);
    else if (action === "full") this.fullscreen();
    else return false;
    return true;
  }
}
