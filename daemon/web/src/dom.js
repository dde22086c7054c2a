// @ts-check
// Making elements. Names come from the air, so text is only ever set as text: nothing here takes markup, and there is no
// way to set an attribute to something that the browser would run.

/**
 * An element with classes, attributes and children; strings become text.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [classes]
 * @param {Record<string, string | number | boolean | null>} [attributes] `false` and `null` leave one out
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, classes, attributes, ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

/**
 * An element of SVG.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...Node} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Sets a text only where it differs: layout is not redone once a second for what has not changed.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Puts `children` in the place of what is in `parent`. Browsers have replaceChildren for this only since 2020.
 * @param {Element} parent
 * @param {...Node} children
 */
export function refill(parent, ...children) {
  parent.textContent = "";
  parent.append(...children);
}

/**
 * The element that index.html promises.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html lacks #${id}`);
  return element;
}

/** Drawings on buttons, as paths in a box of 24 by 24. */
const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M6 5h4v14H6zM14 5h4v14h-4z",
  back: "M12 5V1L7 6l5 5V7a6 6 0 1 1-6 6H4a8 8 0 1 0 8-8z",
  forward: "M12 5V1l5 5-5 5V7a6 6 0 1 0 6 6h2a8 8 0 1 1-8-8z",
  close: "M18.3 7.1 16.9 5.7 12 10.6 7.1 5.7 5.7 7.1 10.6 12l-4.9 4.9 1.4 1.4 4.9-4.9 4.9 4.9 1.4-1.4-4.9-4.9z",
  info: "M11 10h2v8h-2zM11 6h2v2h-2zM12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm0 18a8 8 0 1 1 0-16 8 8 0 0 1 0 16z",
  full: "M5 14H3v7h7v-2H5zM3 10h2V5h5V3H3zM19 19h-5v2h7v-7h-2zM14 3v2h5v5h2V3z",
  small: "M3 4h18v7h-2V6H5v12h6v2H3zM13 13h8v7h-8z",
  sound: "M4 9v6h4l5 5V4L8 9zM16 8.5v7a4 4 0 0 0 0-7z",
  silent: "M4 9v6h4l5 5V4L8 9zM21 9.4 19.6 8 17.5 10.1 15.4 8 14 9.4l2.1 2.1L14 13.6l1.4 1.4 2.1-2.1 2.1 2.1 1.4-1.4-2.1-2.1z",
  tracks: "M3 5h18v14H3zM6 14v2h7v-2zM15 14v2h3v-2zM6 10v2h3v-2zM11 10v2h7v-2z",
  settings:
    "M19.4 13a7.6 7.6 0 0 0 0-2l2.1-1.6-2-3.5-2.5 1a7.3 7.3 0 0 0-1.7-1L15 3.3h-4l-.4 2.6a7.3 7.3 0 0 0-1.7 1l-2.5-1-2 3.5L6.6 11a7.6 7.6 0 0 0 0 2l-2.1 1.6 2 3.5 2.5-1c.5.4 1.1.8 1.7 1l.4 2.6h4l.4-2.6c.6-.2 1.2-.6 1.7-1l2.5 1 2-3.5zM13 15.5a3.5 3.5 0 1 1 0-7 3.5 3.5 0 0 1 0 7z",
  home: "M12 3 2 12h3v8h5v-6h4v6h5v-8h3z",
  guide: "M3 4h18v4H3zM3 10h7v4H3zM12 10h9v4h-9zM3 16h11v4H3zM16 16h5v4h-5z",
  films: "M4 4h16v16H4zM6 6v2h2V6zm0 5v2h2v-2zm0 5v2h2v-2zM16 6v2h2V6zm0 5v2h2v-2zm0 5v2h2v-2z",
  search: "M15.5 14h-.8l-.3-.3a6.5 6.5 0 1 0-.7.7l.3.3v.8l5 5 1.5-1.5zm-6 0a4.5 4.5 0 1 1 0-9 4.5 4.5 0 0 1 0 9z",
  lock: "M17 9V7A5 5 0 0 0 7 7v2H5v12h14V9zM9 7a3 3 0 0 1 6 0v2H9z",
  next: "M9 6 7.6 7.4l4.6 4.6-4.6 4.6L9 18l6-6z",
  previous: "M15 6 9 12l6 6 1.4-1.4L11.8 12l4.6-4.6z",
  warning: "M12 2 1 21h22zm1 16h-2v-2h2zm0-4h-2v-4h2z",
  erase: "M9 5 3 12l6 7h12V5zm9 10-1.4 1.4L14 13.8l-2.6 2.6L10 15l2.6-2.6L10 9.8l1.4-1.4L14 11l2.6-2.6L18 9.8l-2.6 2.6z",
};

/**
 * @param {keyof typeof ICONS} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/**
 * Changes the drawing on a button.
 * @param {HTMLElement} button
 * @param {keyof typeof ICONS} name
 */
export function setIcon(button, name) {
  button.querySelector("path")?.setAttribute("d", ICONS[name]);
}
