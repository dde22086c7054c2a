// @ts-check
// Light or dark, as it was chosen in this browser.

import { remembered } from "./memory.js";

export const THEMES = ["auto", "light", "dark"];

/** @returns {string} */
export function theme() {
  const kept = remembered("theme") ?? "auto";
  return THEMES.includes(kept) ? kept : "auto";
}

/** Colours as they are chosen. */
export function applyTheme() {
  if (theme() === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme();
}
