// @ts-check
// The three ways to play: dash.js, hls.js, and the browser by itself. The first two are loaded when somebody plays, and only
// builds with Node have them. Both are told that the server is in the same house: begin with good pictures, no workers (the
// page's policy allows no blob: scripts), nothing on the console.

import { t } from "./i18n.js";

/** @typedef {import("./types").Engine} Engine */
/** @typedef {import("./types").Track} Track */
/** @typedef {import("./types").StartEngine} StartEngine */

/** Bits in a second that are assumed before anything is measured. */
const LAN_BPS = 50_000_000;

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

/**
 * @param {string | undefined} label
 * @param {string | undefined | null} lang
 * @param {number} at
 */
const named = (label, lang, at) => label || lang || t("player.track", { n: at + 1 });

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
  return {
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
  // Live needs the time of day: the box has it, and no other host is asked.
  it.clearDefaultUTCTimingSources();
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
  let subtitles = -1;
  return {
    audio: () => shown("audio"),
    currentAudio: () => current("audio"),
    setAudio: (id) => it.setCurrentTrack(tracks("audio")[id]),
    subtitles: () => shown("text"),
    currentSubtitles: () => subtitles,
    setSubtitles: (id) => {
      subtitles = id;
      it.setTextTrack(id);
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
    // Browsers that play by themselves choose the audio by themselves too; only some say what there is.
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
    destroy: () => {
      video.removeEventListener("error", error);
      video.removeAttribute("src");
      video.load();
    },
  };
}
