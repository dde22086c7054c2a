// @ts-check
// Places at which somebody stopped watching titles on demand, newest first. Kept in the browser: the box does not know who watches.

import { recalled, remember } from "./memory.js";

/** @typedef {import("./types").Stop} Stop */

/** Titles that are remembered. */
const MAX_STOPS = 30;
/** Less than this share, or these seconds, is a look; more than the second share is the credits. */
const BEGUN = 0.02;
const BEGUN_S = 60;
const OVER = 0.95;

/** @returns {Stop[]} */
export function stops() {
  const kept = recalled("stops");
  if (!Array.isArray(kept)) return [];
  return kept
    .filter((it) => it && typeof it.id === "string" && it.at_s > 0 && it.length_s > 0)
    .slice(0, MAX_STOPS);
}

/** @param {string} id @returns {Stop | null} */
export const stopOf = (id) => stops().find((it) => it.id === id) ?? null;

/**
 * Notes where a title is. At its end, and at its very beginning, there is nothing to continue.
 * @param {string} id
 * @param {number} at_s
 * @param {number} length_s
 */
export function note(id, at_s, length_s) {
  const share = length_s > 0 ? at_s / length_s : 0;
  const others = stops().filter((it) => it.id !== id);
  const before = stops().length;
  if (share > OVER) {
    if (others.length < before) remember("stops", JSON.stringify(others));
    return;
  }
  if (share < BEGUN || (at_s < BEGUN_S && share < 0.1)) return;
  const all = [{ id, at_s: Math.round(at_s), length_s: Math.round(length_s), seen_ms: Date.now() }, ...others];
  remember("stops", JSON.stringify(all.slice(0, MAX_STOPS)));
}

/** @param {string} id */
export function forget(id) {
  remember("stops", JSON.stringify(stops().filter((it) => it.id !== id)));
}
