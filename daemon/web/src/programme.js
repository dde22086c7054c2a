// @ts-check
// Programmes on now and next, as the box's clock has them: the browser's may be wrong by hours, and so may the times from the air.

/** @typedef {import("./types").Title} Title */
/** @typedef {import("./types").Programme} Programme */

/** How far the box's clock is ahead of the browser's. */
let ahead_ms = 0;

/** @param {number} at_ms the box's time, this moment */
export function boxSays(at_ms) {
  if (at_ms > 0) ahead_ms = at_ms - Date.now();
}

/** The box's time. */
export const now_ms = () => Date.now() + ahead_ms;

/**
 * What is on and what comes then. The next programme becomes the present one by itself when its time has come.
 * @param {Title} title
 * @returns {{now: Programme | null, next: Programme | null}}
 */
export function onAir(title) {
  const at = now_ms();
  let { now, next } = title;
  if (next && next.start_ms <= at) {
    [now, next] = [next, null];
  } else if (now && now.end_ms > now.start_ms && now.end_ms <= at) {
    now = null; // It is over, and nobody has said what is on now.
  }
  return { now, next };
}

/**
 * When a programme ends: at the latest when the next one begins; null if it is endless.
 * @param {Programme} now
 * @param {Programme | null} next
 * @returns {number | null}
 */
export function end_ms(now, next) {
  const end = now.end_ms > now.start_ms ? now.end_ms : Infinity;
  const clamped = Math.min(end, next && next.start_ms > now.start_ms ? next.start_ms : Infinity);
  // Times a year away are how "until further notice" is written.
  return clamped - now.start_ms > 7 * 86_400_000 ? null : clamped;
}

/**
 * How much of a programme is over, 0 to 1; null if it is endless.
 * @param {Programme} now
 * @param {Programme | null} next
 * @returns {number | null}
 */
export function progress(now, next) {
  const end = end_ms(now, next);
  return end === null ? null : Math.min(1, Math.max(0, (now_ms() - now.start_ms) / (end - now.start_ms)));
}
