// @ts-check
// Short messages at the foot of the window, read aloud once: those that go by themselves, and those that stay for as long as
// what they say is so.

import { setText } from "./dom.js";

const SHOWN_MS = 4000;

/** The messages. */
export class Notices {
  /** @param {HTMLElement} element a live region */
  constructor(element) {
    this.element = element;
    /** @type {Map<string, string>} */
    this.kept = new Map();
    this.timer = 0;
  }

  /** Says something once. @param {string} text */
  say(text) {
    this.show(text);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.rest(), SHOWN_MS);
  }

  /** Says something until it is dropped. @param {string} name @param {string} text */
  keep(name, text) {
    this.kept.set(name, text);
    this.rest();
  }

  /** @param {string} name */
  drop(name) {
    if (this.kept.delete(name)) this.rest();
  }

  rest() {
    this.show([...this.kept.values()].pop() ?? "");
  }

  /** @param {string} text */
  show(text) {
    // A dialog lies over everything that is not in it.
    const home = document.querySelector("dialog[open]:last-of-type") ?? document.body;
    if (this.element.parentElement !== home) home.append(this.element);
    setText(this.element, text);
    this.element.classList.toggle("shown", text !== "");
  }
}
