// @ts-check
// The age limit of this browser, and its PIN. It keeps children from what is not for them; it is not protection against who
// can open the tools of the browser, since all media are on the box's port for whoever asks.

import { recalled, remember } from "./memory.js";
import { onAir } from "./programme.js";

/** Ages to choose from, as most rating systems of Europe have them. */
export const LIMITS = [6, 10, 12, 16, 18];
/** How long a PIN that was right counts. */
const OPEN_MS = 2 * 3_600_000;
/** Wrong ones in a row before a pause, and its length. */
const TRIES = 5;
const PAUSE_MS = 60_000;

let open_until = 0;
let wrong = 0;
let paused_until = 0;

/**
 * A hash that hides the PIN from a glance at the storage; four digits can be tried out by any program.
 * @param {string} text
 */
function hash(text) {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (const letter of text) {
    const code = letter.charCodeAt(0);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  return ((a ^ (b >>> 15)) >>> 0).toString(36) + ((b ^ (a >>> 13)) >>> 0).toString(36);
}

/** @returns {{age: number, pin: string} | null} */
function lock() {
  const kept = /** @type {{age?: unknown, pin?: unknown} | null} */ (recalled("lock"));
  return kept && typeof kept.age === "number" && typeof kept.pin === "string" ? { age: kept.age, pin: kept.pin } : null;
}

/** From which age on a PIN is asked for; null for never. */
export const limit = () => lock()?.age ?? null;

/** @param {number} age @param {string} pin */
export function setLimit(age, pin) {
  remember("lock", JSON.stringify({ age, pin: hash(pin) }));
  open_until = 0;
}

export function removeLimit() {
  remember("lock", null);
}

/** Seconds until another PIN may be tried. */
export const pause_s = () => Math.max(0, Math.ceil((paused_until - Date.now()) / 1000));

/**
 * Whether a PIN is right. Opens for a while if so.
 * @param {string} pin
 */
export function unlock(pin) {
  if (pause_s() > 0) return false;
  const right = lock()?.pin === hash(pin);
  wrong = right ? 0 : wrong + 1;
  if (right) open_until = Date.now() + OPEN_MS;
  if (wrong >= TRIES) [wrong, paused_until] = [0, Date.now() + PAUSE_MS];
  return right;
}

/** Asks for the PIN again from now on. */
export function close() {
  open_until = 0;
}

/**
 * The age that is wanted of who watches a title now: its own, and that of what is on.
 * @param {import("./types").Title} title
 * @returns {number | null}
 */
export function ageOf(title) {
  const age = Math.max(title.minimum_age ?? 0, onAir(title).now?.minimum_age ?? 0);
  return age > 0 ? age : null;
}

/**
 * Whether this age needs the PIN now.
 * @param {number | null} age
 */
export function isLocked(age) {
  const from = limit();
  return from !== null && age !== null && age >= from && Date.now() >= open_until;
}
