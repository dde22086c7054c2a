// @ts-check
// The titles as far as they are known: pages of the server's list, fetched when somebody comes near them and forgotten when
// he is far away again. Knows nothing of how they look.

import * as api from "./api.js";

/** @typedef {import("./types").Title} Title */

const PAGE = 100;
/** Pages that are kept; about a thousand titles. */
const MAX_PAGES = 10;

/** The list, of some kinds at a time. */
export class Titles {
  /**
   * @param {(why: "page" | "reset" | "error") => void} changed
   * @param {string} [kind] kinds of titles, with commas between; none: all
   */
  constructor(changed, kind = "") {
    this.changed = changed;
    this.kind = kind;
    this.total = 0;
    this.version = -1;
    /** True when the last thing that was asked for has failed. */
    this.failed = false;
    /** True from the first answer on. */
    this.known = false;
    /** @type {Map<number, Title[]>} by number of the page, least recently wanted first */
    this.pages = new Map();
    /** @type {Map<number, Promise<void>>} */
    this.asked = new Map();
    /** Counts what makes answers that are still on their way worthless. */
    this.generation = 0;
  }

  /**
   * @param {number} index
   * @returns {Title | null}
   */
  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
  }

  /** @param {string} id */
  indexOf(id) {
    for (const [page, titles] of this.pages) {
      const at = titles.findIndex((it) => it.id === id);
      if (at >= 0) return page * PAGE + at;
    }
    return -1;
  }

  /**
   * Sees to it that the titles from `first` to `last` come; `changed` tells when they have.
   * @param {number} first
   * @param {number} last
   */
  want(first, last) {
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page += 1) {
      const titles = this.pages.get(page);
      if (titles) {
        this.pages.delete(page);
        this.pages.set(page, titles);
      } else if (page * PAGE < this.total || !this.known) {
        this.fetch(page);
      }
    }
  }

  /**
   * The title at `index`, fetched if need be.
   * @param {number} index
   */
  async get(index) {
    if (!this.at(index) && index >= 0 && index < this.total) await this.fetch(Math.floor(index / PAGE));
    return this.at(index);
  }

  /**
   * @param {number} page
   * @returns {Promise<void>}
   */
  fetch(page) {
    const under_way = this.asked.get(page);
    if (under_way) return under_way;
    const generation = this.generation;
    const answer = api.titles({ offset: page * PAGE, limit: PAGE, kind: this.kind }).then(
      (it) => {
        if (generation !== this.generation) return;
        this.asked.delete(page);
        this.take(page, it);
      },
      () => {
        if (generation !== this.generation) return;
        this.asked.delete(page);
        this.failed = true;
        this.changed("error");
      },
    );
    this.asked.set(page, answer);
    return answer;
  }

  /**
   * @param {number} page
   * @param {import("./types").TitlesPage} it
   */
  take(page, it) {
    // Pages of different versions do not fit together.
    if (this.known && it.version !== this.version) this.pages.clear();
    const first = !this.known;
    Object.assign(this, { total: it.total, version: it.version, known: true, failed: false });
    this.pages.delete(page);
    this.pages.set(page, it.titles);
    for (const oldest of this.pages.keys()) {
      if (this.pages.size <= MAX_PAGES) break;
      this.pages.delete(oldest);
    }
    this.changed(first ? "reset" : "page");
  }

  /** Other titles. @param {string} kind */
  choose(kind) {
    this.kind = kind;
    this.total = 0;
    this.restart();
    this.known = false;
    this.pages.clear();
    this.fetch(0);
  }

  /**
   * The titles have changed on the box. What is shown stays until the new page is there.
   * @param {number} version
   * @param {number} near an index whose page is wanted first
   */
  renew(version, near) {
    if (version === this.version) return;
    this.restart();
    this.fetch(Math.floor(near / PAGE));
  }

  restart() {
    this.generation += 1;
    this.asked.clear();
  }
}

/**
 * The channel of a number, or null.
 * @param {number} number
 * @returns {Promise<Title | null>}
 */
export const channel = async (number) => (await api.titles({ number })).titles[0] ?? null;

/**
 * The title of an id, or null.
 * @param {string} id
 * @returns {Promise<Title | null>}
 */
export const titleOf = async (id) => (await api.titles({ id })).titles[0] ?? null;
