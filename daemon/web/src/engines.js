// @ts-check
// The three ways to play: dash.js, hls.js, and the browser by itself. The first two are loaded for playback, and only
// builds with Node have them. Both are configured for a server in the same house: begin with good pictures, no workers (the
// page's policy allows no blob: scripts), nothing on the console.

import { rate, t } from "./i18n.js";

/** @typedef {import("./types").Engine} Engine */
/** @typedef {import("./types").Track} Track */
/** @typedef {import("./types").StartEngine} StartEngine */

/** Bits in a second that are assumed before anything is measured. */
const LAN_BPS = 50_000_000;

/** Priority of a listener of dash.js that hears of an event before dash.js itself. */
const BEFORE_OTHERS = 5000;

const hasMediaSource = () => "MediaSource" in window || "ManagedMediaSource" in window;

/** @param {string} type */
const native = (type) => document.createElement("video").canPlayType(type) !== "";

/**
 * How this browser plays an instance, or null if it cannot.
 * @param {import("./types").Instance} instance
 * @param {boolean} players whether this build has the in-page players
 * @returns {StartEngine | null}
 */
export function engineFor(instance, players) {
  if (instance.way === "dash" || instance.type === "application/dash+xml") {
    return players && hasMediaSource() ? dash : null;
  }
  if (instance.way === "hls") {
    if (players && hasMediaSource()) return hls;
    return native("application/vnd.apple.mpegurl") ? plain : null;
  }
  return instance.type && native(instance.type) ? plain : null;
}

/** The name of a language for people, if the browser knows one. @param {string} lang */
function languageName(lang) {
  if (!lang || lang === "und") return "";
  try {
    return new Intl.DisplayNames([document.documentElement.lang || "en"], { type: "language" }).of(lang) ?? lang;
  } catch {
    return lang;
  }
}

/**
 * @param {string | undefined} label
 * @param {string | undefined | null} lang
 * @param {number} at
 */
const named = (label, lang, at) => label || languageName(lang ?? "") || t("player.track", { n: at + 1 });

/**
 * A picture for people: "1080p · 4.5 Mbit/s".
 * @param {number | undefined} height
 * @param {number | undefined} bps
 */
const quality = (height, bps) => [height ? `${height}p` : "", bps ? rate(bps) : ""].filter((it) => it !== "").join(" · ");

/** @type {StartEngine} */
async function hls(video, url, failed) {
  const { default: Hls } = await import("./hls.js");
  const it = new Hls({
    enableWorker: false,
    abrEwmaDefaultEstimate: LAN_BPS,
    testBandwidth: false,
    capLevelToPlayerSize: false,
    backBufferLength: 60,
    // A box that has just been switched on may need a moment; what never comes is given up by the player view.
    manifestLoadPolicy: {
      default: {
        maxTimeToFirstByteMs: 10_000,
        maxLoadTimeMs: 15_000,
        timeoutRetry: { maxNumRetry: 1, retryDelayMs: 500, maxRetryDelayMs: 2000 },
        errorRetry: { maxNumRetry: 1, retryDelayMs: 500, maxRetryDelayMs: 2000 },
      },
    },
  });
  let recovered = false;
  it.on(Hls.Events.ERROR, (_, data) => {
    if (!data.fatal) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && !recovered) {
      recovered = true;
      it.recoverMediaError();
      return;
    }
    const status = data.response?.code;
    failed(status ? `${data.details}, HTTP ${status}` : data.details);
  });
  it.loadSource(url);
  it.attachMedia(video);
  const isLive = () => it.levels[it.currentLevel]?.details?.live ?? false;
  return {
    qualities: () =>
      it.levels.length < 2 ? [] : it.levels.map((one, at) => ({ id: at, label: quality(one.height, one.bitrate), lang: "" })).reverse(),
    currentQuality: () => (it.autoLevelEnabled ? -1 : it.currentLevel),
    setQuality: (id) => {
      it.currentLevel = id;
    },
    shownQuality: () => {
      const level = it.levels[it.currentLevel];
      return level?.height ? `${level.height}p` : "";
    },
    audio: () => it.audioTracks.map((one, at) => ({ id: at, label: named(one.name, one.lang, at), lang: one.lang ?? "" })),
    currentAudio: () => it.audioTrack,
    setAudio: (id) => {
      it.audioTrack = id;
    },
    subtitles: () =>
      it.subtitleTracks.map((one, at) => ({ id: at, label: named(one.name, one.lang, at), lang: one.lang ?? "" })),
    currentSubtitles: () => it.subtitleTrack,
    setSubtitles: (id) => {
      it.subtitleTrack = id;
      it.subtitleDisplay = id >= 0;
    },
    liveEdge: () => (isLive() ? it.liveSyncPosition : null),
    destroy: () => it.destroy(),
  };
}

/** @type {StartEngine} */
async function dash(video, url, failed) {
  const { default: MediaPlayer } = await import("./dash.js");
  const it = MediaPlayer().create();
  it.updateSettings({
    debug: { logLevel: 0 },
    streaming: {
      abr: { initialBitrate: { audio: LAN_BPS / 1000, video: LAN_BPS / 1000 }, limitBitrateByPortal: false },
      buffer: { bufferToKeep: 60 },
      retryAttempts: { MPD: 1 },
    },
  });
  it.on("error", (event) => {
    const { error } = /** @type {{error?: {message?: string, code?: number} | string}} */ (event);
    failed(typeof error === "string" ? error : (error?.message ?? `dash.js ${error?.code ?? ""}`).slice(0, 200));
  });
  // Live needs the time of day: the box has it, and no other host is asked, whatever the manifest names.
  it.clearDefaultUTCTimingSources();
  const forget = (/** @type {unknown} */ event) => {
    const { manifest } = /** @type {{manifest?: {UTCTiming?: unknown}}} */ (event);
    if (manifest) delete manifest.UTCTiming;
  };
  it.on("internalManifestLoaded", forget, undefined, { priority: BEFORE_OTHERS });
  it.addUTCTimingSource("urn:mpeg:dash:utc:http-iso:2014", new URL("/-/time", location.href).href);
  // Live streams begin to load only when they are to be played at once.
  it.initialize(video, url, true);
  const tracks = (/** @type {"audio" | "text"} */ kind) => (it.isReady() ? it.getTracksFor(kind) : []);
  const current = (/** @type {"audio" | "text"} */ kind) =>
    tracks(kind).findIndex((one) => one.index === it.getCurrentTrackFor(kind)?.index);
  const shown = (/** @type {"audio" | "text"} */ kind) =>
    tracks(kind).map((one, at) => ({
      id: at,
      label: named(one.labels?.[0]?.text, one.lang, at),
      lang: one.lang ?? "",
    }));
  const pictures = () => (it.isReady() ? it.getRepresentationsByType("video") : []);
  let subtitles = -1;
  let fixed = -1;
  return {
    qualities: () => {
      const all = pictures();
      if (all.length < 2) return [];
      return all.map((one, at) => ({ id: at, label: quality(one.height, one.bandwidth), lang: "" })).reverse();
    },
    currentQuality: () => fixed,
    setQuality: (id) => {
      fixed = id;
      it.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: id < 0 } } } });
      const one = pictures()[id];
      if (one) it.setRepresentationForTypeById("video", one.id);
    },
    shownQuality: () => {
      const one = it.isReady() ? it.getCurrentRepresentationForType("video") : null;
      return one?.height ? `${one.height}p` : "";
    },
    audio: () => shown("audio"),
    currentAudio: () => current("audio"),
    setAudio: (id) => it.setCurrentTrack(tracks("audio")[id]),
    subtitles: () => shown("text"),
    currentSubtitles: () => subtitles,
    setSubtitles: (id) => {
      subtitles = id;
      it.setTextTrack(id);
    },
    // Asked to play before it has the stream, dash.js 5.2.1 never asks for a live manifest again: it begins by itself.
    startsAlone: true,
    liveEdge: () => {
      if (!it.isReady() || !it.isDynamic() || !video.seekable.length) return null;
      return video.currentTime + Math.max(0, it.getCurrentLiveLatency() - it.getTargetLiveDelay());
    },
    destroy: () => it.destroy(),
  };
}

/** @type {StartEngine} */
async function plain(video, url, failed) {
  const error = () => failed(video.error?.message || t("player.refused"));
  video.addEventListener("error", error);
  video.src = url;
  const subtitles = () => [...video.textTracks].filter((it) => it.kind === "subtitles" || it.kind === "captions");
  return {
    // Browsers that play by themselves choose picture and audio by themselves too; only some say what there is.
    qualities: () => [],
    currentQuality: () => -1,
    setQuality: () => {},
    shownQuality: () => (video.videoHeight ? `${video.videoHeight}p` : ""),
    audio: () => [],
    currentAudio: () => -1,
    setAudio: () => {},
    subtitles: () => subtitles().map((one, at) => ({ id: at, label: named(one.label, one.language, at), lang: one.language })),
    currentSubtitles: () => subtitles().findIndex((it) => it.mode === "showing"),
    setSubtitles: (id) => {
      subtitles().forEach((it, at) => {
        it.mode = at === id ? "showing" : "disabled";
      });
    },
    liveEdge: () => null,
    destroy: () => {
      video.removeEventListener("error", error);
      video.removeAttribute("src");
      video.load();
    },
  };
}
