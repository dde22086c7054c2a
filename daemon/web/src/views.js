// @ts-check
// Views on top of the list: the player, the details. Each is an entry in the browser's history, so that the Back key of
// a television, of a telephone and of the browser all close it. The focus returns to where it was.

/** @typedef {import("./types").View} View */

/** @type {{view: View, before: Element | null}[]} */
const open = [];
/** A step back is under way; another key must not make it two, which might leave the page. */
let leaving = false;

/** The view on top, or null. */
export const top = () => open[open.length - 1]?.view ?? null;

/**
 * Shows a view on top of everything.
 * @param {View} view
 */
export function show(view) {
  open.push({ view, before: document.activeElement });
  history.pushState({ depth: open.length }, "");
  document.documentElement.classList.add("covered");
  document.body.append(view.element);
  view.element.addEventListener("cancel", (event) => {
    event.preventDefault();
    back();
  });
  view.element.showModal();
}

/** Closes the view on top. */
export function back() {
  if (!open.length || leaving) return;
  leaving = true;
  history.back();
}

history.replaceState({ depth: 0 }, "");
window.addEventListener("popstate", (event) => {
  leaving = false;
  const depth = Number(event.state?.depth) || 0;
  while (open.length > depth) {
    const last = open.pop();
    last?.view.closed();
    last?.view.element.close();
    last?.view.element.remove();
    document.documentElement.classList.toggle("covered", open.length > 0);
    if (last?.before instanceof HTMLElement && last.before.isConnected) last.before.focus({ preventScroll: true });
  }
});
