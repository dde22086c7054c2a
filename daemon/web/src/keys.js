// @ts-check
// Keys: what a remote control, a keyboard or a media key means, and where an arrow leads among the things on the screen.

/** By name of the key; televisions that name nothing are known by number below. */
const BY_NAME = /** @type {Record<string, string>} */ ({
  ArrowUp: "up",
  ArrowDown: "down",
  ArrowLeft: "left",
  ArrowRight: "right",
  Escape: "back",
  Backspace: "back",
  BrowserBack: "back",
  GoBack: "back",
  XF86Back: "back",
  MediaPlayPause: "toggle",
  MediaPlay: "play",
  MediaPause: "pause",
  MediaStop: "back",
  MediaRewind: "rewind",
  MediaFastForward: "forward",
  ChannelUp: "next",
  ChannelDown: "previous",
  PageUp: "next",
  PageDown: "previous",
  MediaTrackNext: "next",
  MediaTrackPrevious: "previous",
  Info: "info",
  Guide: "guide",
  g: "guide",
  AudioVolumeUp: "louder",
  AudioVolumeDown: "softer",
  "+": "louder",
  "-": "softer",
  k: "toggle",
  ContextMenu: "info",
  i: "info",
  m: "mute",
  f: "full",
  "/": "search",
});

/** Numbers of keys on televisions: webOS and HbbTV, then Tizen. */
const BY_NUMBER = /** @type {Record<number, string>} */ ({
  461: "back",
  10009: "back",
  413: "back",
  415: "play",
  19: "pause",
  10252: "toggle",
  412: "rewind",
  417: "forward",
  427: "next",
  428: "previous",
  33: "next",
  34: "previous",
  457: "info",
  458: "guide",
});

/**
 * What a key means: a direction, "back", "next" and so on, a digit, or "" for nothing.
 * @param {KeyboardEvent} event
 * @returns {string}
 */
export function actionOf(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return "";
  if (/^[0-9]$/.test(event.key)) return event.key;
  return BY_NAME[event.key] ?? BY_NUMBER[event.keyCode] ?? "";
}

/**
 * Whether a key belongs to the field it is typed into.
 * @param {EventTarget | null} target
 * @param {string} action
 */
export function isTyping(target, action) {
  if (!(target instanceof HTMLInputElement)) return false;
  if (target.type === "range") return action === "left" || action === "right";
  if (target.readOnly) return false;
  return action !== "up" && action !== "down" && !(action === "back" && target.value === "");
}

const REACHABLE = "a[href], button:not([disabled]), input:not([disabled]), [data-stop]";

/**
 * The nearest thing in a direction, among what can be focused in `root` and seen.
 * @param {ParentNode} root
 * @param {Element | null} from
 * @param {import("./types").Direction} direction
 * @param {(element: Element) => boolean} [except]
 * @returns {HTMLElement | null}
 */
export function nearest(root, from, direction, except) {
  const start = from && from !== document.body ? from.getBoundingClientRect() : null;
  /** @type {HTMLElement | null} */
  let best = null;
  let least = Infinity;
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(REACHABLE))) {
    if (element === from || element.contains(from) || except?.(element)) continue;
    const rect = element.getBoundingClientRect();
    if (rect.width === 0 || rect.height === 0) continue;
    const distance = start ? away(start, rect, direction) : rect.top + rect.left / 1000;
    if (distance !== null && distance < least) [best, least] = [element, distance];
  }
  return best;
}

/**
 * How far `to` is from `from` in a direction; null if it is not in that direction. What is askew counts twice.
 * @param {DOMRect} from
 * @param {DOMRect} to
 * @param {import("./types").Direction} direction
 * @returns {number | null}
 */
function away(from, to, direction) {
  const upright = direction === "up" || direction === "down";
  const sign = direction === "down" || direction === "right" ? 1 : -1;
  const [near, far, low, high, toLow, toHigh] = upright
    ? [sign > 0 ? from.bottom : from.top, sign > 0 ? to.top : to.bottom, from.left, from.right, to.left, to.right]
    : [sign > 0 ? from.right : from.left, sign > 0 ? to.left : to.right, from.top, from.bottom, to.top, to.bottom];
  const ahead = (far - near) * sign;
  if (ahead < -2) return null;
  const askew = Math.max(0, toLow - high, low - toHigh);
  if (!upright && askew > 0) return null; // Left and right stay in their row.
  const middles = Math.abs((toLow + toHigh) / 2 - (low + high) / 2);
  return ahead + 2 * askew + middles / 100;
}
