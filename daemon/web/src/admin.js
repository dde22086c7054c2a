// @ts-check
// The operator's page, on the admin interface: what the box is doing, with charts, tables, and what one may do to its objects. It
// asks for the token when the box wants one, and keeps it until the tab is closed.

import * as admin from "./admin-api.js";
import { TimeChart } from "./admin-chart.js";
import { Logs } from "./admin-logs.js";
import { LOSS, Objects, Tables, judged } from "./admin-tables.js";
import { byId, el, setText } from "./dom.js";
import * as i18n from "./i18n.js";
import { Notices } from "./notices.js";
import { applyTheme } from "./theme.js";

/** @typedef {import("./types").Sample} Sample */
/** @typedef {import("./types").State} State */
/** @typedef {import("./admin-chart.js").Plan} Plan */

const { t, rate, number, percent, bytes, duration } = i18n;
const SAMPLES_MS = 1000;
const STATUS_MS = 5000;
/** Samples that the page keeps: six hours, if it is open for so long. */
const KEPT = 6 * 3600;
/** Spans to choose from, in seconds. */
const SPANS = [60, 300, 600, 3600, 21_600];
/** Loss is judged over this many seconds: one second of a quiet link says nothing. */
const LOSS_S = 60;
/** Seconds without a packet that count as a lost signal. */
const SILENT_S = 3;
const CLOCK_MS = 120_000;

applyTheme();
i18n.wordsOf("admin-");
const notices = new Notices(byId("toast"));
/** @type {Sample[]} */
let samples = [];
/** @type {State | null} */
let state = null;
let span_s = 600;
/** A span that was chosen in a chart; the clock does not move it. @type {[number, number] | null} */
let chosen = null;
let gone = false;
/** Box's clock less this device's. */
let ahead_ms = 0;

/** @type {import("./admin-chart.js").Shared} */
const shared = {
  from_ms: 0,
  to_ms: 1,
  at_ms: null,
  point(at_ms) {
    shared.at_ms = at_ms;
    for (const it of charts) it.draw();
  },
  select(from_ms, to_ms) {
    chosen = [from_ms, to_ms];
    draw();
  },
  reset() {
    chosen = null;
    draw();
  },
};

/** @param {Sample} it */
const lossOf = (it) => (it.lost + it.packets > 0 ? it.lost / (it.lost + it.packets) : 0);
const each = (/** @type {number} */ it) => `${number(it)}/s`;
/** @type {Plan[]} */
const PLANS = [
  {
    id: "chart-receive", label: "chart.receive", format: rate, least: 100_000,
    series: [{ key: "chart.received", value: (it) => it.receive_bps }, { key: "chart.repair", value: (it) => it.repair_bps }],
  },
  {
    id: "chart-loss", label: "chart.loss", format: percent, least: 0.02, most: 1,
    limits: [{ value: LOSS.warn, key: "limit.warn" }, { value: LOSS.bad, key: "limit.bad" }],
    series: [{ key: "chart.lossShare", value: lossOf }],
  },
  {
    id: "chart-packets", label: "chart.packets", format: each, least: 10,
    series: [{ key: "chart.lost", value: (it) => it.lost }, { key: "chart.recovered", value: (it) => it.recovered }],
  },
  {
    id: "chart-players", label: "chart.players", format: rate, least: 100_000,
    series: [{ key: "chart.delivered", value: (it) => it.players_bps }],
  },
  {
    id: "chart-requests", label: "chart.requests", format: each, least: 4,
    series: [{ key: "chart.hit", value: (it) => it.hits }, { key: "chart.miss", value: (it) => it.misses }],
  },
  {
    id: "chart-flash", label: "chart.flash", format: rate, least: 100_000,
    series: [{ key: "chart.written", value: (it) => it.flash_bps }],
  },
];
const charts = PLANS.map((plan) => new TimeChart(plan, shared));
byId("charts").append(...charts.map((it) => it.element));

/** A value in large, with what it means and how it is. */
class Stat {
  /** @param {string} key */
  constructor(key) {
    this.key = key;
    this.name = el("dt");
    this.value = el("dd");
    this.note = el("p", "stat-note");
    this.element = el("div", "stat", {}, el("dl", "", {}, this.name, this.value), this.note);
    this.element.dataset.stat = key;
  }

  /** @param {string} value @param {string} note @param {"" | "good" | "warn" | "bad"} [how] */
  set(value, note, how = "") {
    setText(this.name, t(`stat.${this.key}`));
    setText(this.value, value);
    setText(this.note, note);
    this.element.className = `stat ${how}`;
  }
}

const stats = Object.assign(
  Object.create(null),
  ...["signal", "rate", "loss", "repair", "hits", "cache", "flash", "players"].map((key) => ({ [key]: new Stat(key) })),
);
byId("stats").append(.../** @type {Stat[]} */ (Object.values(stats)).map((it) => it.element));

const tables = new Tables(byId("tables"));
const objects = new Objects(byId("tables"), {
  say: (text) => notices.say(text),
  failed: (error) => failed(error),
});

const logs = new Logs(byId("tables"), (error) => failed(error));

const buttons = SPANS.map((it) => {
  const button = el("button", "chip", { type: "button", "aria-pressed": String(it === span_s) });
  button.addEventListener("click", () => {
    span_s = it;
    chosen = null;
    draw();
  });
  return button;
});
byId("spans").append(...buttons);

function draw() {
  const newest = samples[samples.length - 1]?.at_ms ?? Date.now();
  [shared.from_ms, shared.to_ms] = chosen ?? [newest - span_s * 1000, newest];
  buttons.forEach((it, at) => it.setAttribute("aria-pressed", String(!chosen && SPANS[at] === span_s)));
  for (const it of charts) it.show(samples);
}

/** @param {(sample: Sample) => number} of @param {number} count of the newest seconds */
const sum = (of, count) => samples.slice(-count).reduce((all, it) => all + of(it), 0);

/** Seconds since the last packet, as far as is known. */
function silent_s() {
  let count = 0;
  for (let at = samples.length - 1; at >= 0 && samples[at].packets === 0; at -= 1) count += 1;
  return count;
}

/** What is wrong with the disk; empty for nothing. */
function diskTrouble() {
  const disk = state?.cache.disk ?? "";
  return disk === "fine" || disk === "" ? "" : t(`disk.${disk}`);
}

function showStats() {
  const newest = samples[samples.length - 1];
  if (!newest || !state) return;
  const lost = sum((it) => it.lost, LOSS_S);
  const got = sum((it) => it.packets, LOSS_S);
  const loss = lost + got > 0 ? lost / (lost + got) : null;
  const silent = state.receive.groups > 0 && silent_s() >= SILENT_S;
  const tuner = state.signal[0];
  const locked = state.signal.length === 0 || state.signal.some((it) => it.locked !== false);
  if (state.receive.groups === 0 && state.signal.length === 0) stats.signal.set("–", t("signal.unconfigured"), "");
  else stats.signal.set(
    silent || !locked ? t("signal.none") : tuner?.snr_db !== null && tuner !== undefined ? `${number(tuner.snr_db ?? 0, 1)} dB` : t("signal.receiving"),
    tuner ? t("signal.tuners", { count: state.signal.length }) : t("signal.groups", { count: state.receive.groups }),
    silent || !locked ? "bad" : "good",
  );
  stats.rate.set(rate(newest.receive_bps), t("stat.rateNote", { mean: rate(sum((it) => it.receive_bps, LOSS_S) / Math.min(LOSS_S, samples.length)) }));
  stats.loss.set(loss === null ? "–" : percent(loss), t("stat.lossNote", { lost, recovered: sum((it) => it.recovered, LOSS_S) }), loss === null ? "" : judged(loss) || "good");
  stats.repair.set(bytes(state.repair.bytes), t("stat.repairNote", { count: state.repair.requests, objects: state.repair.objects }));
  const { cache, flash } = state;
  stats.hits.set(cache.hit_ratio === null ? "–" : percent(cache.hit_ratio), t("stat.hitsNote", { count: newest.hits + newest.misses }));
  const full = cache.quota_bytes > 0 ? cache.bytes / cache.quota_bytes : 0;
  const disk = diskTrouble();
  stats.cache.set(percent(full), disk || t("stat.cacheNote", { some: bytes(cache.bytes), all: bytes(cache.quota_bytes), count: cache.objects }), disk ? "bad" : "");
  const budget = flash.budget_bytes;
  stats.flash.set(
    bytes(flash.written_today_bytes),
    budget ? t("stat.flashBudget", { all: bytes(budget) }) : flash.life_years === null ? t("stat.flashNote") : t("stat.flashLife", { count: Math.round(flash.life_years) }),
    budget && flash.written_today_bytes > budget ? "bad" : "",
  );
  stats.players.set(rate(newest.players_bps), t("stat.playersNote", { count: newest.connections }));
  setText(byId("name"), state.name || "Skycache");
  document.title = `${state.name || "Skycache"}: ${t("title")}`;
  setText(byId("about"), t("about", { version: state.version, uptime: duration(state.uptime_s) }));
  showHealth(silent || !locked);
}

/** @param {boolean} silent */
function showHealth(silent) {
  const bad = gone
    ? t("health.gone")
    : silent
      ? t("health.noSignal")
      : Math.abs(ahead_ms) > CLOCK_MS
        ? t("health.clock", { by: duration(Math.abs(ahead_ms) / 1000) })
        : diskTrouble();
  const line = byId("health");
  line.hidden = bad === "";
  line.className = "health bad";
  line.dataset.state = gone ? "gone" : silent ? "no-signal" : bad ? "other" : "";
  setText(line, bad);
}

/** What a request that failed means. @param {unknown} error */
function failed(error) {
  if (error instanceof admin.Refused) {
    askToken(error);
    return;
  }
  gone = true;
  showHealth(false);
}

/** @param {admin.Refused} refused */
function askToken({ said, status, reason }) {
  byId("body").hidden = byId("spans").hidden = true;
  const form = byId("token");
  if (!form.hidden && byId("token-said").textContent !== "") return;
  form.hidden = false;
  byId("forget").hidden = true;
  // Without a token in its configuration the box refuses everybody, and there is nothing to type.
  const hasNone = status === 403 && !admin.token() && reason === "read_only";
  const hint = byId("token-hint");
  hint.dataset.t = hasNone ? "token.none" : "token.hint";
  setText(hint, t(hint.dataset.t));
  byId("token-entry").hidden = hasNone;
  const isRefused = status === 403 && !hasNone;
  const isWrong = admin.token() && reason === "credential";
  setText(byId("token-said"), isWrong ? t("token.wrong") : admin.token() || isRefused ? said : "");
  admin.forget();
  if (!hasNone) byId("token-field").focus();
}

let looking = false;

/** Asks for what is new, once a second. */
async function look() {
  if (looking || document.hidden || !byId("token").hidden) return;
  looking = true;
  try {
    const newest = samples[samples.length - 1]?.at_ms ?? 0;
    const answer = await admin.samples(newest);
    if (gone) notices.say(t("health.back"));
    gone = false;
    // After a clock that was set backwards the samples start from the beginning.
    const first = answer.samples[0];
    samples = [...samples, ...answer.samples.filter((it) => it.at_ms > newest)].slice(-KEPT);
    if (first) ahead_ms = answer.samples[answer.samples.length - 1].at_ms - Date.now();
    if (answer.state) state = answer.state;
    byId("body").hidden = byId("spans").hidden = false;
    byId("forget").hidden = !admin.token();
    draw();
    showStats();
  } catch (error) {
    failed(error);
  }
  looking = false;
}

async function lookLonger() {
  if (document.hidden || !byId("token").hidden) return;
  try {
    const [status, metrics] = await Promise.all([admin.status(), admin.metrics()]);
    tables.show(status, metrics);
  } catch (error) {
    failed(error);
    return;
  }
  await logs.look();
}

function relabel() {
  buttons.forEach((it, at) => setText(it, SPANS[at] < 3600 ? t("duration.minutes", { minutes: SPANS[at] / 60 }) : t("duration.wholeHours", { hours: SPANS[at] / 3600 })));
  setText(byId("settings"), i18n.language().toUpperCase());
  byId("settings").setAttribute("aria-label", `${i18n.language().toUpperCase()}: ${t("language")}`);
  for (const it of charts) it.relabel();
  tables.relabel();
  objects.relabel();
  logs.relabel();
  showStats();
}

byId("settings").hidden = false;
byId("settings").addEventListener("click", async () => {
  const { LANGUAGES, language, use } = i18n;
  await use(LANGUAGES[(LANGUAGES.indexOf(language()) + 1) % LANGUAGES.length], true);
  relabel();
});
byId("forget").addEventListener("click", () => {
  admin.forget();
  location.reload();
});
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("token-field"));
  admin.keep(field.value.trim());
  field.value = "";
  setText(byId("token-said"), "");
  byId("token").hidden = true;
  look();
  lookLonger();
});
document.addEventListener("visibilitychange", look);
i18n.use(i18n.preferred()).then(() => {
  relabel();
  look();
  lookLonger();
});
window.setInterval(look, SAMPLES_MS);
window.setInterval(lookLonger, STATUS_MS);
