// @ts-check
// The PIN: four digits by keys of a remote control, by a keyboard or by touch.

import { el, icon, setText } from "./dom.js";
import { t } from "./i18n.js";
import { pause_s, unlock } from "./parental.js";
import * as views from "./views.js";

const LENGTH = 4;

/**
 * Asks for four digits. `check` says whether they are the right ones.
 * @param {string} heading
 * @param {(pin: string) => string | null} check null when the digits are taken, or else what is wrong
 * @returns {Promise<boolean>} whether they were taken
 */
function askDigits(heading, check) {
  return new Promise((resolve) => {
    let digits = "";
    let taken = false;
    const places = Array.from({ length: LENGTH }, () => el("span", "place"));
    const said = el("p", "pin-said", { role: "status" });
    const show = () => places.forEach((it, at) => it.classList.toggle("filled", at < digits.length));
    const add = (/** @type {string} */ digit) => {
      if (digits.length >= LENGTH) return;
      digits += digit;
      setText(said, "");
      show();
      if (digits.length < LENGTH) return;
      const why = check(digits);
      if (why === null) {
        taken = true;
        views.back();
        return;
      }
      setText(said, why);
      digits = "";
      window.setTimeout(show, 250);
    };
    const erase = () => {
      digits = digits.slice(0, -1);
      show();
    };
    const key = (/** @type {string} */ digit) => {
      const it = el("button", "button pin-key", { type: "button" }, digit);
      it.addEventListener("click", () => add(digit));
      return it;
    };
    const wipe = el("button", "button pin-key", { type: "button", "aria-label": t("pin.erase") }, icon("erase"));
    wipe.addEventListener("click", erase);
    const close = el("button", "button pin-key", { type: "button", "aria-label": t("close") }, icon("close"));
    close.addEventListener("click", views.back);
    const name = el("h2", "", {}, heading);
    name.id = "pin-name";
    const keys = [..."123456789"].map(key);
    const element = el(
      "dialog",
      "panel pin",
      { "aria-labelledby": "pin-name" },
      name,
      el("p", "places", { "aria-hidden": "true" }, ...places),
      said,
      el("div", "pin-keys", {}, ...keys, wipe, key("0"), close),
    );
    views.show({
      element,
      closed: () => resolve(taken),
      key: (action, event) => {
        if (/^[0-9]$/.test(action)) add(action);
        else if (event.key === "Backspace" || event.key === "Delete") erase();
        else return false;
        return true;
      },
    });
    keys[4].focus();
  });
}

/** Asks for the PIN of the age limit. @param {number} age */
export const askPin = (age) =>
  askDigits(t("pin.ask", { age: String(age) }), (pin) => {
    if (pause_s() > 0) return t("pin.wait", { count: pause_s() });
    return unlock(pin) ? null : pause_s() > 0 ? t("pin.wait", { count: pause_s() }) : t("pin.wrong");
  });

/** A new PIN, asked for twice; null if it was not given. @returns {Promise<string | null>} */
export async function newPin() {
  let first = "";
  const given = await askDigits(t("pin.new"), (pin) => {
    first = pin;
    return null;
  });
  if (!given) return null;
  const again = await askDigits(t("pin.again"), (pin) => (pin === first ? null : t("pin.differs")));
  return again ? first : null;
}

