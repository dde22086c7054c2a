// @ts-check
// Digits of a remote control, gathered to the number of a channel.

import { setText } from "./dom.js";

/** How long another digit is waited for. */
const PAUSE_MS = 1600;
const MOST_DIGITS = 5;

/** The number that is being dialled. */
export class Dial {
  /**
   * @param {HTMLElement} element where it is shown
   * @param {(number: number) => void} dialled
   */
  constructor(element, dialled) {
    this.element = element;
    this.dialled = dialled;
    this.digits = "";
    this.timer = 0;
  }

  /** @param {string} digit */
  digit(digit) {
    clearTimeout(this.timer);
    this.digits = (this.digits + digit).slice(-MOST_DIGITS);
    // A dialog lies over everything that is not in it.
    (document.querySelector("dialog[open]:last-of-type") ?? document.body).append(this.element);
    setText(this.element, this.digits);
    this.element.hidden = false;
    this.timer = window.setTimeout(() => {
      const number = Number(this.digits);
      this.clear();
      this.dialled(number);
    }, PAUSE_MS);
  }

  /** Forgets the digits; false if there were none. */
  clear() {
    clearTimeout(this.timer);
    const any = this.digits !== "";
    this.digits = "";
    this.element.hidden = true;
    document.body.append(this.element);
    return any;
  }
}
