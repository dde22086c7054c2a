// @ts-check
// The picture of a title: its logo, or its initials where there is none or it does not load.

import { el, refill } from "./dom.js";
import { pick } from "./i18n.js";

/**
 * One or two letters of a name. By code points, so that no letter is cut in two.
 * @param {string} name
 * @returns {string}
 */
export function initials(name) {
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
  return sum / 10;
}

/**
 * Puts the picture of `title` into `box`, if it is not there already.
 * @param {HTMLElement} box
 * @param {import("./types").Title} title
 */
export function showLogo(box, title) {
  const name = pick(title.name).text || title.id;
  const key = `${title.logo ?? ""} ${name}`;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const letters = el("span", "initials", { "aria-hidden": "true" }, initials(name));
  box.style.setProperty("--hue", String(hue(title.id)));
  box.classList.remove("pictured");
  refill(box, letters);
  if (title.logo === null) return;
  const image = el("img", "", { alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => {
    if (box.dataset.key !== key) return;
    box.classList.add("pictured");
    refill(box, image);
  });
  image.src = title.logo;
}
