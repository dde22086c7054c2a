// @ts-check
// The player's controls: buttons, the bar to seek by, tracks. They act on the video element; which title plays and from
// where is player.js's business.

import { el, icon, setIcon, setText } from "./dom.js";
import { position, t, time } from "./i18n.js";
import { end_ms, onAir } from "./programme.js";

/** Steps of the arrow keys and of the rewind and forward keys, in seconds. */
const STEP = 10;
/** Nearer to the end of what can be seen than this, a live stream is live. */
const LIVE_S = 20;

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
    this.mute = button("sound", t("player.mute"), () => {
      video.muted = !video.muted;
    });
    this.audio = button("speech", "", () => this.cycle("audio"));
    this.captions = button("captions", "", () => this.cycle("subtitles"));
    this.full = button("full", t("player.full"), () => this.fullscreen());
    this.track = el("span", "track-name", { role: "status" });
    this.element = el(
      "div",
      "controls",
      { role: "group", "aria-label": t("player.controls") },
      el("div", "timeline", {}, this.at, this.seek, this.end),
      el(
        "div",
        "buttons",
        {},
        this.playing,
        this.back,
        this.ahead,
        this.mute,
        this.audio,
        this.captions,
        this.track,
        button("info", t("player.details"), () => on.details()),
        this.full,
        button("close", t("close"), () => on.close()),
      ),
    );
    this.seek.addEventListener("input", () => this.seekTo());
    for (const event of ["play", "pause", "volumechange", "loadedmetadata", "durationchange"]) {
      video.addEventListener(event, () => this.update());
    }
    video.addEventListener("timeupdate", () => this.update());
    video.addEventListener("ended", () => this.update());
    if (!document.fullscreenEnabled) this.full.hidden = true;
    this.reset();
  }

  /** For a new instance: nothing is known of its tracks. */
  reset() {
    setText(this.track, "");
    this.update();
  }

  focus() {
    this.playing.focus();
  }

  /** The span that can be seen: first and last second. */
  span() {
    const { seekable, duration } = this.video;
    const last = seekable.length ? seekable.end(seekable.length - 1) : 0;
    const first = seekable.length ? seekable.start(0) : 0;
    return { first, last: Number.isFinite(duration) && duration > 0 && duration < 1e7 ? duration : last };
  }

  isLive() {
    const { duration } = this.video;
    return duration === Infinity || duration > 1e7;
  }

  update() {
    const { video } = this;
    const { first, last } = this.span();
    const live = this.isLive();
    const length = last - first;
    this.seek.disabled = length < 1;
    const at = video.currentTime - first;
    this.seek.value = String(length > 0 ? Math.round((1000 * at) / length) : 0);
    this.seek.style.setProperty("--done", `${length > 0 ? (100 * at) / length : 0}%`);
    const behind = last - video.currentTime;
    const text = live ? (behind < LIVE_S ? t("player.live") : `−${position(behind)}`) : position(video.currentTime);
    setText(this.at, text);
    setText(this.end, live || length <= 0 ? this.until : position(last));
    this.seek.setAttribute("aria-valuetext", text);
    setIcon(this.playing, video.paused ? "play" : "pause");
    this.playing.setAttribute("aria-label", t(video.paused ? "play" : "pause"));
    setIcon(this.mute, video.muted ? "silent" : "sound");
    this.mute.setAttribute("aria-pressed", String(video.muted));
    const engine = this.on.engine();
    this.audio.hidden = (engine?.audio().length ?? 0) < 2;
    this.captions.hidden = (engine?.subtitles().length ?? 0) < 1;
    this.audio.setAttribute("aria-label", t("player.audio"));
    this.captions.setAttribute("aria-label", t("player.subtitles"));
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

  /**
   * The next audio or subtitle track; after the last subtitles, none.
   * @param {"audio" | "subtitles"} kind
   */
  cycle(kind) {
    const engine = this.on.engine();
    if (!engine) return;
    if (kind === "audio") {
      const tracks = engine.audio();
      const next = tracks[(engine.currentAudio() + 1) % tracks.length];
      if (next) engine.setAudio(next.id);
      setText(this.track, next?.label.slice(0, 60) ?? "");
    } else {
      const tracks = engine.subtitles();
      const next = tracks[engine.currentSubtitles() + 1];
      engine.setSubtitles(next?.id ?? -1);
      setText(this.track, next?.label.slice(0, 60) ?? t("player.noSubtitles"));
    }
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
    const seeking = document.activeElement === this.seek && (action === "left" || action === "right");
    if (action === "toggle") this.toggle();
    else if (action === "play") this.video.play().catch(() => {});
    else if (action === "pause") this.video.pause();
    else if (action === "rewind" || (seeking && action === "left")) this.step(-STEP);
    else if (action === "forward" || (seeking && action === "right")) this.step(STEP);
    else if (action === "mute") this.mute.click();
    else if (action === "full") this.fullscreen();
    else return false;
    return true;
  }
}
