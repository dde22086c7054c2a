// @ts-check
// Settings of this browser: language, colours, and the age from which a PIN is asked for. Groups of buttons, because a remote
// control's arrows cannot get out of a list that opens.

import { el, icon, refill, setText } from "./dom.js";
import { LANGUAGES, language, t } from "./i18n.js";
import { remember } from "./memory.js";
import * as parental from "./parental.js";
import { askPin, newPin } from "./pin.js";
import { THEMES, applyTheme, theme } from "./theme.js";
import * as views from "./views.js";

/** The name of a language in itself. @param {string} tag */
function nameOf(tag) {
  try {
    const name = new Intl.DisplayNames([tag], { type: "language" }).of(tag) ?? tag;
    return name.charAt(0).toLocaleUpperCase(tag) + name.slice(1);
  } catch {
    return tag.toUpperCase(); // Browsers older than 2020.
  }
}

/**
 * Opens the settings.
 * @param {{language(tag: string): Promise<void>, changed(): void}} on
 */
export function showSettings(on) {
  const body = el("div", "settings-body");
  const heading = el("h2");
  heading.id = "settings-name";
  const close = el("button", "button round", { type: "button" }, icon("close"));
  close.addEventListener("click", views.back);
  const element = el("dialog", "panel settings", { "aria-labelledby": "settings-name" }, el("header", "panel-head", {}, heading, close), body);

  /**
   * @param {string} name
   * @param {[string, string, boolean][]} choices key, words, whether it is the chosen one
   * @param {(key: string) => unknown} choose
   * @param {string} [hint]
   */
  const group = (name, choices, choose, hint) => {
    const title = el("h3", "", {}, t(name));
    title.id = `settings-${name.replace(/\W/g, "-")}`;
    const buttons = choices.map(([key, words, chosen]) => {
      const it = el("button", "chip", { type: "button", "aria-pressed": String(chosen), "data-key": `${name} ${key}` }, words);
      it.addEventListener("click", () => choose(key));
      return it;
    });
    return el("section", "", { "aria-labelledby": title.id, role: "group" }, title, el("p", "chips", {}, ...buttons), hint ? el("p", "hint", {}, hint) : null);
  };

  const draw = () => {
    const focused = element.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.key : undefined;
    setText(heading, t("settings"));
    close.setAttribute("aria-label", t("close"));
    const limit = parental.limit();
    refill(
      body,
      group("settings.language", LANGUAGES.map((it) => [it, nameOf(it), it === language()]), async (tag) => {
        await on.language(tag);
        draw();
      }),
      group("settings.colours", THEMES.map((it) => [it, t(`theme.${it}`), it === theme()]), (it) => {
        remember("theme", it === "auto" ? null : it);
        applyTheme();
        draw();
      }),
      group(
        "settings.age",
        [["", t("settings.noLimit"), limit === null], ...parental.LIMITS.map((it) => /** @type {[string, string, boolean]} */ ([String(it), t("settings.from", { age: String(it) }), it === limit]))],
        async (it) => {
          await choose(it === "" ? null : Number(it));
          draw();
          on.changed();
        },
        t("settings.ageHint"),
      ),
    );
    const again = focused === undefined ? null : [.../** @type {NodeListOf<HTMLElement>} */ (body.querySelectorAll("[data-key]"))].find((it) => it.dataset.key === focused);
    again?.focus({ preventScroll: true });
  };

  draw();
  views.show({ element, closed: () => {} });
  /** @type {HTMLElement | null} */ (body.querySelector('[aria-pressed="true"]'))?.focus();
}

/**
 * Sets or lifts the limit. Whoever changes one that there is knows its PIN.
 * @param {number | null} age
 */
async function choose(age) {
  const before = parental.limit();
  if (age === before) return;
  if (before !== null) {
    parental.close();
    if (!(await askPin(before))) return;
  }
  if (age === null) {
    parental.removeLimit();
    return;
  }
  const pin = await newPin();
  if (pin !== null) parental.setLimit(age, pin);
}
