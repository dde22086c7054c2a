// @ts-check
// Memory of the browser: language, colours, volume, where somebody stopped watching. A browser that keeps nothing
// (private windows, some televisions) is not a mistake.

/**
 * @param {string} name
 * @returns {string | null}
 */
export function remembered(name) {
  try {
    return localStorage.getItem(`skycache.${name}`);
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {string | null} value
 */
export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(`skycache.${name}`);
    else localStorage.setItem(`skycache.${name}`, value);
  } catch {
    // Then it is asked again next time.
  }
}

/**
 * What was kept as JSON; null for nothing, and for what is none.
 * @param {string} name
 * @returns {unknown}
 */
export function recalled(name) {
  try {
    return JSON.parse(remembered(name) ?? "null");
  } catch {
    return null;
  }
}
