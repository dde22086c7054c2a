// The packages that scripts of stories use, and the browser that they drive.

import { createRequire } from "node:module";
import { join, resolve } from "node:path";

/** The folder of packages: the one that NODE_MODULES names, or the one at this path from here. */
export function packagesAt(path) {
  return resolve(process.env.NODE_MODULES ?? join(import.meta.dirname ?? ".", path));
}

/** A package of such a folder. */
export function load(packages, name) {
  return createRequire(join(packages, "x.js"))(name);
}

/** Starts CHROMIUM's browser, or /usr/bin/chromium, by the playwright-core of such a folder. */
export function launch(packages) {
  return load(packages, "playwright-core").chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
}
