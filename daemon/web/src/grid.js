// @ts-check
// A list of titles as a grid of cards. All cards have one size, so the place of each is known without the others: only those
// near the window exist, however long the list is. Arrow keys move by place.

import { Card } from "./card.js";

/** Least widths of cards, the space between them, and the height of the words below the picture, in rem. */
const MIN_WIDTH = { wide: 15, poster: 9 };
const GAP = 1.1;
const WORDS = 3.6;
/** Height of the picture for one of width. */
const RATIO = { wide: 9 / 16, poster: 3 / 2 };
/** On a telephone two cards stand beside each other. */
const NARROW_REM = 30;
const NARROW_WIDTH = { wide: 10, poster: 7 };

/** The grid. */
export class Grid {
  /**
   * @param {HTMLElement} element
   * @param {import("./titles.js").Titles} titles
   * @param {{open(index: number): void, details(index: number): void}} on
   */
  constructor(element, titles, on) {
    this.element = element;
    this.titles = titles;
    this.on = on;
    /** @type {import("./card.js").Shape} */
    this.shape = "wide";
    this.height = 9;
    /** @type {Map<number, Card>} */
    this.cards = new Map();
    /** The card that has or last had the focus. */
    this.current = 0;
    this.columns = 1;
    this.rem = 16;
    this.width = 0;
    this.drawing = 0;
    const draw = () => this.draw();
    window.addEventListener("scroll", draw, { passive: true });
    if (window.ResizeObserver) new ResizeObserver(draw).observe(this.element);
    else window.addEventListener("resize", draw);
    this.element.addEventListener("focusin", (event) => {
      for (const card of this.cards.values()) {
        if (card.element.contains(/** @type {Node} */ (event.target))) this.become(card.index);
      }
    });
  }

  /** Draws before the next frame. */
  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      if (this.element.offsetParent) this.render();
    });
  }

  measure() {
    this.rem = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
    this.width = this.element.clientWidth;
    const width = this.width / this.rem;
    const least = (width < NARROW_REM ? NARROW_WIDTH : MIN_WIDTH)[this.shape];
    this.columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const card = (width - (this.columns - 1) * GAP) / this.columns;
    this.height = card * RATIO[this.shape] + WORDS;
  }

  /** Other cards, for other titles. @param {import("./card.js").Shape} shape */
  reshape(shape) {
    if (shape === this.shape) return;
    this.shape = shape;
    for (const card of this.cards.values()) card.element.remove();
    this.cards.clear();
  }

  /** The cards that belong near the window exist afterwards, and no others. */
  render() {
    this.measure();
    const { total } = this.titles;
    const pitch = (this.height + GAP) * this.rem;
    const rows = Math.ceil(total / this.columns);
    this.element.style.height = `${Math.max(0, rows * pitch - GAP * this.rem)}px`;
    const { top } = this.element.getBoundingClientRect();
    const screen = window.innerHeight;
    const first = Math.max(0, Math.floor((-top - screen) / pitch)) * this.columns;
    const last = Math.min(total, Math.ceil((-top + 2 * screen) / pitch) * this.columns) - 1;
    this.current = Math.max(0, Math.min(this.current, total - 1));
    for (const [index, card] of this.cards) {
      const focused = index === this.current && card.element.contains(document.activeElement);
      if (index >= total || ((index < first || index > last) && !focused)) {
        card.element.remove();
        this.cards.delete(index);
      }
    }
    /** @type {Card | null} */
    let before = null;
    for (let index = last; index >= first; index -= 1) before = this.place(index, before);
    for (const card of this.cards.values()) this.position(card, pitch);
    this.become(this.current);
    if (last >= first) this.titles.want(first, last);
  }

  /**
   * @param {number} index
   * @param {Card | null} before the card behind it
   * @returns {Card}
   */
  place(index, before) {
    const known = this.cards.get(index);
    if (known) return known;
    const card = new Card(index, this.shape, this.on);
    this.cards.set(index, card);
    this.fill(card);
    // In the order of the list also in the document, which is what a screen reader reads.
    if (before) before.element.before(card.element);
    else this.element.append(card.element);
    return card;
  }

  /** @param {Card} card */
  fill(card) {
    card.fill(this.titles.at(card.index));
    card.element.setAttribute("aria-setsize", String(this.titles.total));
    card.element.setAttribute("aria-posinset", String(card.index + 1));
  }

  /** @param {Card} card @param {number} pitch */
  position(card, pitch) {
    const width = (this.width - (this.columns - 1) * GAP * this.rem) / this.columns;
    const left = (card.index % this.columns) * (width + GAP * this.rem);
    const { style } = card.element;
    style.width = `${width}px`;
    style.left = `${left}px`;
    style.top = `${Math.floor(card.index / this.columns) * pitch}px`;
  }

  /** Fills every card again, for new titles or a new language. The focus goes with its title if that has moved. */
  refill() {
    const card = this.cards.get(this.current);
    const focused = card?.element.contains(document.activeElement) ?? false;
    const id = card?.title?.id;
    const moved = id !== undefined && this.titles.at(this.current)?.id !== id ? this.titles.indexOf(id) : -1;
    for (const it of this.cards.values()) this.fill(it);
    this.render();
    if (moved >= 0) {
      if (focused) this.focus(moved);
      else this.become(moved);
    }
  }

  /** Brings progress bars up to date. */
  tick() {
    for (const card of this.cards.values()) card.tick();
  }

  /** @param {number} index */
  become(index) {
    this.current = index;
    for (const card of this.cards.values()) card.reach(card.index === index);
  }

  /**
   * Focuses a card, wherever it is.
   * @param {number} index
   */
  focus(index) {
    if (!this.titles.total) return;
    this.current = Math.max(0, Math.min(index, this.titles.total - 1));
    const pitch = (this.height + GAP) * this.rem;
    const { top } = this.element.getBoundingClientRect();
    const place = top + Math.floor(this.current / this.columns) * pitch;
    // A third of the screen stays free on either side, so that one sees where one is going.
    const [low, high] = [window.innerHeight * 0.3, window.innerHeight * 0.75 - pitch];
    if (place < low) window.scrollBy(0, place - low);
    else if (place > high) window.scrollBy(0, place - high);
    this.render();
    this.cards.get(this.current)?.main.focus({ preventScroll: true });
  }

  /**
   * The index that an arrow key leads to, or -1 if it leads out of the grid.
   * @param {import("./types").Direction} direction
   */
  neighbour(direction) {
    const [at, columns, { total }] = [this.current, this.columns, this.titles];
    if (direction === "left") return at % columns > 0 ? at - 1 : -1;
    if (direction === "right") return (at + 1) % columns > 0 && at + 1 < total ? at + 1 : -1;
    if (direction === "up") return at - columns;
    if (at + columns < total) return at + columns;
    // The last row may be shorter than the one above.
    return Math.floor(at / columns) < Math.floor((total - 1) / columns) ? total - 1 : -1;
  }

  /** Rows that fit on the screen. */
  screenful() {
    return Math.max(1, Math.floor((window.innerHeight * 0.6) / ((this.height + GAP) * this.rem)));
  }

  /** Whether the focus is on the main part of a card. */
  focused() {
    return this.element.contains(document.activeElement);
  }

  /** The card to enter the grid by: the last one, if it can be seen. */
  entry() {
    const seen = (/** @type {Card | undefined} */ card) => {
      const rect = card?.element.getBoundingClientRect();
      return rect !== undefined && rect.bottom > 0 && rect.top < window.innerHeight;
    };
    if (seen(this.cards.get(this.current))) return this.current;
    for (const index of [...this.cards.keys()].sort((a, b) => a - b)) {
      if (seen(this.cards.get(index))) return index;
    }
    return this.current;
  }
}
