// @ts-check
// The two switches at the top: language, and light or dark. Buttons that go round, because a remote control's arrows cannot
// get out of a list that opens.

import { el, setText } from "./dom.js";
import { LANGUAGES, language, t } from "./i18n.js";
import { remember, remembered } from "./memory.js";

const THEMES = ["auto", "light", "dark"];

/** @param {string} theme */
function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** The name of a language in itself. @param {string} tag */
function nameOf(tag) {
  try {
    return new Intl.DisplayNames([tag], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag.toUpperCase(); // Browsers of before 2020.
  }
}

/**
 * @param {HTMLElement} into
 * @param {(language: string) => Promise<void>} chosen
 * @returns {() => void} to be called when there are other words
 */
export function showSwitches(into, chosen) {
  const kept = remembered("theme") ?? "auto";
  let theme = THEMES.includes(kept) ? kept : "auto";
  apply(theme);
  const colours = el("button", "button small", { type: "button" });
  const languages = el("button", "button small", { type: "button" });
  const relabel = () => {
    setText(colours, t(`theme.${theme}`));
    colours.setAttribute("aria-label", t("theme.label", { theme: t(`theme.${theme}`) }));
    setText(languages, nameOf(language()));
    languages.setAttribute("aria-label", t("language.label", { language: nameOf(language()) }));
  };
  colours.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remember("theme", theme === "auto" ? null : theme);
    apply(theme);
    relabel();
  });
  languages.addEventListener("click", () => chosen(LANGUAGES[(LANGUAGES.indexOf(language()) + 1) % LANGUAGES.length]));
  into.append(languages, colours);
  return relabel;
}
