// @ts-check
// The way out: the addresses of a title for a player outside the browser, and how to take them there. Shown when playing in
// the page has failed or is not possible, and in the details.

import { el } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Puts a text where it can be pasted from. Boxes speak plain HTTP, where browsers have no navigator.clipboard.
 * @param {HTMLInputElement} field
 * @returns {Promise<boolean>}
 */
async function copy(field) {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(field.value);
      return true;
    }
  } catch {
    // The old way may still be allowed.
  }
  field.select();
  return document.execCommand("copy");
}

/**
 * The addresses of a title, each to be opened or copied, and its playlist file.
 * @param {import("./types").Title} title
 * @returns {HTMLElement}
 */
export function outside(title) {
  const rows = title.play.map((instance) => {
    const url = new URL(instance.url, location.origin).href;
    const field = el("input", "url", { type: "text", readonly: true, "aria-label": t("outside.address", { way: way(instance) }) });
    field.value = url;
    field.addEventListener("focus", () => field.select());
    const button = el("button", "button", { type: "button" }, t("outside.copy"));
    button.addEventListener("click", async () => {
      button.textContent = (await copy(field)) ? t("outside.copied") : t("outside.marked");
    });
    return el("li", "", {}, el("a", "way", { href: url }, way(instance)), field, button);
  });
  if (!rows.length) return el("p", "hint", {}, t("outside.nothing"));
  const playlist = `/-/play.m3u?${new URLSearchParams({ id: title.id })}`;
  return el(
    "div",
    "outside",
    {},
    el("p", "hint", {}, t("outside.hint")),
    el("ul", "addresses", {}, ...rows),
    el("a", "button wide", { href: playlist, download: "play.m3u" }, t("outside.open")),
  );
}

/** @param {import("./types").Instance} instance */
function way(instance) {
  return instance.way === "dash" || instance.way === "hls" ? instance.way.toUpperCase() : instance.type || instance.way;
}
