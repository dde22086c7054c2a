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
  back: "M11.5 12 20 18V6zM3 12l8.5 6V6z",
  forward: "M12.5 12 4 18V6zM21 12l-8.5 6V6z",
  close: "M18.3 7.1 16.9 5.7 12 10.6 7.1 5.7 5.7 7.1 10.6 12l-4.9 4.9 1.4 1.4 4.9-4.9 4.9 4.9 1.4-1.4-4.9-4.9z",
  info: "M11 10h2v8h-2zM11 6h2v2h-2z",
  full: "M5 14H3v7h7v-2H5zM3 10h2V5h5V3H3zM19 19h-5v2h7v-7h-2zM14 3v2h5v5h2V3z",
  sound: "M4 9v6h4l5 5V4L8 9zM16 8.5v7a4 4 0 0 0 0-7z",
  silent: "M4 9v6h4l5 5V4L8 9zM21 9.4 19.6 8 17.5 10.1 15.4 8 14 9.4l2.1 2.1L14 13.6l1.4 1.4 2.1-2.1 2.1 2.1 1.4-1.4-2.1-2.1z",
  speech: "M12 3C6.5 3 2 6.6 2 11c0 2.5 1.4 4.7 3.7 6.2L5 21l4.3-2.3c.9.2 1.8.3 2.7.3 5.5 0 10-3.6 10-8s-4.5-8-10-8z",
  captions: "M3 5h18v14H3zM6 14v2h7v-2zM15 14v2h3v-2zM6 10v2h3v-2zM11 10v2h7v-2z",
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
