// @ts-check
// The pictures of titles: logos, posters and stills from the air, or what is drawn from the name where there are none.

import { el, refill } from "./dom.js";
import { pick } from "./i18n.js";

/** @typedef {import("./types").Title} Title */
/** @typedef {import("./types").TitleHead} TitleHead */

/**
 * One or two letters of a name. By code points, so that no letter is cut in two.
 * @param {string} name
 * @returns {string}
 */
function initials(name) {
  const words = name.slice(0, 200).match(/[\p{L}\p{N}]+/gu) ?? [];
  const letters = words.slice(0, 2).map((word) => [...word][0]);
  return letters.length ? letters.join("").toLocaleUpperCase() : "•";
}

/**
 * A hue that belongs to a title for as long as it has its id.
 * @param {string} id
 * @returns {number}
 */
function hue(id) {
  let sum = 7;
  for (let at = 0; at < Math.min(id.length, 200); at += 1) sum = (sum * 31 + id.charCodeAt(at)) % 3600;
  // Ids that differ in their last digit get colours that lie far apart.
  return (sum * 137.5) % 360;
}

/**
 * Puts a picture into `box` when it has loaded; until then, and if it does not, `instead` is there.
 * @param {HTMLElement} box
 * @param {string | null} src
 * @param {string} key what the box shows; the same key again changes nothing
 * @param {() => HTMLElement} instead
 */
function show(box, src, key, instead) {
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.classList.remove("pictured");
  refill(box, instead());
  if (src === null) return;
  const image = el("img", "", { alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => {
    if (box.dataset.key !== key) return;
    box.classList.add("pictured");
    refill(box, image);
  });
  image.src = src;
}

/**
 * The logo of a title, or its initials.
 * @param {HTMLElement} box
 * @param {TitleHead} title
 */
export function showLogo(box, title) {
  const name = pick(title.name).text || title.id;
  box.style.setProperty("--hue", String(hue(title.id)));
  show(box, title.logo, `${title.logo ?? ""} ${name}`, () => el("span", "initials", { "aria-hidden": "true" }, initials(name)));
}

/**
 * What is drawn for a title without a poster: its name on its colour.
 * @param {string} name
 */
const drawn = (name) => el("span", "drawn", { "aria-hidden": "true", dir: "auto" }, name.slice(0, 60));

/**
 * The poster of a title on demand: its banner if it has one, or else its logo.
 * @param {HTMLElement} box
 * @param {Title} title
 */
export function showPoster(box, title) {
  const name = pick(title.name).text || title.id;
  const src = title.banner ?? title.logo;
  box.style.setProperty("--hue", String(hue(title.id)));
  show(box, src, `poster ${src ?? ""} ${name}`, () => drawn(name));
}

/**
 * The wide picture of a title: the still of what is on, its banner, or its logo on its colour.
 * @param {HTMLElement} box
 * @param {Title} title
 * @param {string | null} still
 */
export function showStill(box, title, still) {
  const name = pick(title.name).text || title.id;
  const src = still ?? title.banner;
  box.style.setProperty("--hue", String(hue(title.id)));
  show(box, src, `still ${src ?? ""} ${title.logo ?? ""} ${name}`, () => {
    const logo = el("span", "logo on-still");
    showLogo(logo, title);
    return logo;
  });
}
