// @ts-check
// Languages: the words of the page from lang/*.json, numbers and times as the language writes them, and which of several
// names from the air is shown. A language is added by a file in lang/ and its tag in LANGUAGES.

import { remembered, remember } from "./memory.js";

export const LANGUAGES = ["en", "de", "fr", "es", "it"];

/** @typedef {string | Record<string, string>} Entry a text, or one for each plural category */
/** @type {Record<string, Entry>} */
let words = {};
/** @type {Record<string, Entry>} */
let english = {};
let tag = "en";
/** The language with the region of the browser: Britain and America write the same words and other times. */
let region = "en";
/** Before the words have come, texts are empty. */
let ready = false;
let plural = new Intl.PluralRules(tag);
/** @type {Map<string, Intl.NumberFormat>} */
const formats = new Map();
/** @type {Map<string, Intl.DateTimeFormat>} */
const clocks = new Map();

export const language = () => tag;

/** What stands before the names of the files with words: the operator's page has its own. */
let prefix = "";

/** @param {string} before */
export function wordsOf(before) {
  prefix = before;
}

/** The language that is remembered, or else the first of the browser's that there is a file for. */
export function preferred() {
  const asked = [remembered("language"), ...(navigator.languages ?? [navigator.language])];
  for (const one of asked) {
    const base = (one ?? "").toLowerCase().split("-")[0];
    if (LANGUAGES.includes(base)) return base;
  }
  return "en";
}

/**
 * @param {string} name
 * @returns {Promise<Record<string, Entry>>}
 */
async function load(name) {
  try {
    const response = await fetch(`/-/lang/${prefix}${name}.json`);
    return response.ok ? await response.json() : {};
  } catch {
    return {};
  }
}

/**
 * Takes a language: loads its words, and English for what it lacks.
 * @param {string} name
 * @param {boolean} [keep] whether to remember it
 */
export async function use(name, keep = false) {
  const [own, base] = await Promise.all([name === "en" ? {} : load(name), Object.keys(english).length ? english : load("en")]);
  english = base;
  words = own;
  tag = name;
  region = (navigator.languages ?? [navigator.language]).find((it) => it.toLowerCase().split("-")[0] === name) ?? name;
  ready = true;
  plural = new Intl.PluralRules(name);
  formats.clear();
  clocks.clear();
  document.documentElement.lang = name;
  if (keep) remember("language", name);
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.getAttribute("data-t") ?? "");
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.getAttribute("data-t-label") ?? ""));
  }
}

/**
 * A text of the page. `{name}` in it is replaced by the value of that name; `count` chooses the plural.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const entry = words[key] ?? english[key];
  if (entry === undefined) return ready ? key : "";
  const text = typeof entry === "string" ? entry : (entry[plural.select(Number(values.count))] ?? entry.other ?? key);
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

/**
 * @param {number} value
 * @param {number} [digits] behind the point
 * @returns {string}
 */
export function number(value, digits = 0) {
  return format(`n${digits}`, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/**
 * @param {string} key
 * @param {Intl.NumberFormatOptions} options
 */
function format(key, options) {
  let it = formats.get(key);
  if (!it) formats.set(key, (it = new Intl.NumberFormat(region, options)));
  return it;
}

/**
 * A share, with as many digits as it takes to tell a little from nothing.
 * @param {number} ratio
 * @returns {string}
 */
export function percent(ratio) {
  const digits = ratio === 0 || ratio >= 0.1 ? 0 : ratio >= 0.01 ? 1 : 2;
  return format(`p${digits}`, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(ratio);
}

/**
 * A quantity with a thousand's prefix: 12.3 M and such.
 * @param {number} value
 * @param {string} unit "B" or "bit/s"
 * @returns {string}
 */
function scaled(value, unit) {
  const prefixes = ["", "k", "M", "G", "T"];
  let at = 0;
  while (value >= 999.5 && at < prefixes.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${number(value, at > 0 && value < 99.95 ? 1 : 0)}\u00a0${prefixes[at]}${unit}`;
}

/** @param {number} value */
export const bytes = (value) => scaled(value, "B");
/** @param {number} value */
export const rate = (value) => scaled(value, "bit/s");

/**
 * @param {number} at_ms
 * @returns {string}
 */
export const time = (at_ms) => clock("time", { hour: "2-digit", minute: "2-digit" }).format(at_ms);

/**
 * Two times of a day, as a region writes them: "12:30 – 1:00 PM", "20:15–21:45".
 * @param {number} from_ms
 * @param {number} to_ms
 * @returns {string}
 */
export function times(from_ms, to_ms) {
  const same = new Date(from_ms).toDateString() === new Date(to_ms).toDateString();
  const it = clock("time", { hour: "2-digit", minute: "2-digit" });
  // A range over midnight would be written with both dates; browsers before Chromium 76 have no ranges.
  if (!same || !it.formatRange) return `${time(from_ms)}${it.resolvedOptions().hour12 ? " – " : "–"}${time(to_ms)}`;
  return it.formatRange(from_ms, to_ms);
}

/**
 * @param {number} at_ms
 * @returns {string}
 */
export const seconds = (at_ms) =>
  clock("seconds", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(at_ms);

/**
 * A day of the week, and its date: "Sat, Nov 28".
 * @param {number} at_ms
 * @returns {string}
 */
export const day = (at_ms) => clock("day", { weekday: "short", day: "numeric", month: "short" }).format(at_ms);

/**
 * Date and time, in short.
 * @param {number} at_ms
 * @returns {string}
 */
export const moment = (at_ms) =>
  clock("moment", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(at_ms);

/**
 * A format of times and days. Hours of a clock of twelve are written without a zero before them: "1:30 PM", but "01:30".
 * @param {string} key
 * @param {Intl.DateTimeFormatOptions} options
 */
function clock(key, options) {
  let it = clocks.get(key);
  if (!it) {
    it = new Intl.DateTimeFormat(region, options);
    if (options.hour && it.resolvedOptions().hour12) it = new Intl.DateTimeFormat(region, { ...options, hour: "numeric" });
    clocks.set(key, it);
  }
  return it;
}

/**
 * A length of time in two units at most.
 * @param {number} value in seconds
 * @returns {string}
 */
export function duration(value) {
  const minutes = Math.floor(value / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60)];
  if (days > 0) return t("duration.days", { days, hours: hours % 24 });
  if (hours > 0) return t("duration.hours", { hours, minutes: minutes % 60 });
  return minutes > 0 ? t("duration.minutes", { minutes }) : t("duration.seconds", { seconds: Math.floor(value) });
}

/**
 * A position in a film: 1:02:03.
 * @param {number} value in seconds
 * @returns {string}
 */
export function position(value) {
  const whole = Math.max(0, Math.floor(value));
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/**
 * The text of several that this page's reader wants, and its language.
 * @param {import("./types").Texts} texts
 * @returns {{text: string, lang: string}}
 */
export function pick(texts) {
  const tags = Object.keys(texts);
  const base = (/** @type {string} */ one) => tags.find((it) => it === one || it.startsWith(`${one}-`));
  const found = base(tag) ?? base("en") ?? base("und") ?? tags[0];
  return found === undefined ? { text: "", lang: "" } : { text: texts[found], lang: found === "und" ? "" : found };
}

/**
 * Writes a text from the air: as text, in its language, in its direction, cut at a readable length.
 * @param {HTMLElement} element
 * @param {{text: string, lang: string}} picked
 * @param {number} [longest]
 */
export function write(element, picked, longest = 200) {
  const text = picked.text.length > longest ? `${picked.text.slice(0, longest)}…` : picked.text;
  if (element.textContent !== text) element.textContent = text;
  if (picked.lang) element.lang = picked.lang;
  else element.removeAttribute("lang");
  element.dir = "auto";
}
