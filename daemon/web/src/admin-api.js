// @ts-check
// Requests to the admin interface. The token is kept for as long as the tab is open, and goes nowhere but into the header of
// requests to this box.

import * as api from "./api.js";

const NAME = "skycache.token";
/** What is kept where the browser keeps nothing. */
let kept = "";

/**
 * What the box answers to a request that it refuses: a line for people, and a label for programs.
 * @typedef {{ error: string, reason?: string }} Problem
 */

/** A request that the box refused: for want of a token, or with the wrong one. */
export class Refused extends Error {
  /** @param {number} status @param {Problem} problem */
  constructor(status, problem) {
    super(problem.error);
    this.status = status;
    this.said = problem.error;
    this.reason = problem.reason;
  }
}

/** What the box says to a command that it does not do. */
export class Declined extends Error {}

/** @returns {string} */
export function token() {
  try {
    return sessionStorage.getItem(NAME) ?? kept;
  } catch {
    return kept;
  }
}

/** @param {string} text */
export function keep(text) {
  kept = text;
  try {
    sessionStorage.setItem(NAME, text);
  } catch {
    // Then for as long as the page is open.
  }
}

export function forget() {
  kept = "";
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // There was nothing.
  }
}

/**
 * @param {string} path
 * @param {string} [method]
 */
async function ask(path, method = "GET") {
  const given = token();
  const headers = given ? { authorization: `Bearer ${given}` } : undefined;
  const response = await fetch(path, { method, headers, cache: "no-store", referrerPolicy: "no-referrer" });
  if (response.status === 401 || response.status === 403) throw new Refused(response.status, await problemOf(response));
  if (!response.ok) throw new Declined((await problemOf(response)).error);
  return response;
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problemOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error, reason } = JSON.parse(text);
    return { error: String(error ?? text), reason };
  } catch {
    return { error: text.slice(0, 200) || `HTTP ${response.status}` };
  }
}

/** @param {number} since_ms */
export async function samples(since_ms) {
  const it = await (await ask(`/api/v1/samples?since_ms=${since_ms}`)).json();
  return {
    samples: api.history(it),
    state: it.state && typeof it.state === "object" ? api.state(it.state) : null,
  };
}

/** @typedef {Record<string, any>} Json */

/** @returns {Promise<Json>} */
export const status = async () => (await ask("/api/v1/status")).json();

/** @returns {Promise<Json[]>} */
export const objects = async () => (await (await ask("/api/v1/objects")).json()).objects ?? [];

/**
 * A line of the log.
 * @typedef {object} LogLine
 * @property {number} number
 * @property {number} at_ms
 * @property {string} level
 * @property {string} part of the program that wrote it
 * @property {string} text message and fields
 */

/**
 * Lines after the one of a number, oldest first, and the number of the newest of all.
 * @param {number} since
 * @param {number} most
 * @returns {Promise<{lines: LogLine[], newest: number}>}
 */
export async function logs(since, most) {
  const it = await (await ask(`/api/v1/logs?since=${since}&limit=${most}`)).json();
  const lines = (Array.isArray(it.lines) ? it.lines : []).map((/** @type {Json} */ line) => ({
    number: Number(line.number) || 0,
    at_ms: Number(line.at_ms) || 0,
    level: String(line.level),
    part: String(line.target).replace(/^skycache::/, ""),
    text: [line.message, ...Object.entries(line.fields ?? {}).map(([name, value]) => `${name}=${value}`)].filter((one) => one).join(" "),
  }));
  return { lines, newest: Number(it.newest) || 0 };
}

/**
 * A command on objects.
 * @param {"purge" | "pin" | "unpin" | "ban"} action
 * @param {string} name a key, or a pattern
 * @param {boolean} [everything] whether the pattern may match everything
 * @returns {Promise<Json>}
 */
export async function command(action, name, everything = false) {
  const query = `${action === "ban" ? "pattern" : "key"}=${encodeURIComponent(name)}`;
  return (await ask(`/api/v1/${action}?${query}${everything ? "&yes=true" : ""}`, "POST")).json();
}

/**
 * One value of OpenMetrics.
 * @typedef {object} Metric
 * @property {string} name
 * @property {Record<string, string>} labels
 * @property {number} value
 */

/** @returns {Promise<Metric[]>} */
export async function metrics() {
  return parseMetrics(await (await ask("/metrics")).text());
}

/**
 * @param {string} text
 * @returns {Metric[]}
 */
function parseMetrics(text) {
  /** @type {Metric[]} */
  const all = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    /** @type {Record<string, string>} */
    const labels = {};
    const pairs = /(\w+)="((?:[^"\\]|\\.)*)"/g;
    for (let pair = pairs.exec(found[2] ?? ""); pair; pair = pairs.exec(found[2] ?? "")) {
      labels[pair[1]] = pair[2].replace(/\\(.)/g, (_, it) => (it === "n" ? "\n" : it));
    }
    all.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return all;
}
