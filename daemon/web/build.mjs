// Bundles the page: node build.mjs OUTDIR
//
// main.js is the page, admin.js the operator's; hls.js and dash.js are the players, modules that the page loads for playback. licences.txt has
// the licence of every package that went into them. What is written depends on nothing but the sources and the packages.

import { readFile, mkdir, writeFile, readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const packages = join(here, "node_modules");
const out = process.argv[2] && resolve(process.argv[2]);
if (!out) {
  console.error("usage: node build.mjs OUTDIR");
  process.exit(2);
}

/** Browsers of televisions of about 2020: webOS 5 is Chromium 68. Older ones know no dynamic import. */
const TARGET = ["chrome68", "firefox68", "safari14.1"];

/** hls.js as it is published, the full build: its light build has no alternate audio. */
const HLS = join(packages, "hls.js/dist/hls.mjs");
/** What its own bundler has put into it, as its package.json says no longer. */
const INSIDE_HLS = ["eventemitter3", "url-toolkit"];

/** dash.js without MSS, DRM and reporting, as it is published; its sources are not. */
const DASH = join(packages, "dashjs/dist/modern/esm/dash.mediaplayer.min.js");

/**
 * @param {string} name of the module
 * @param {import("esbuild").BuildOptions} options
 * @returns {Promise<string[]>} the packages that went in
 */
async function bundle(name, options) {
  const { metafile } = await esbuild.build({
    bundle: true,
    minify: true,
    format: "esm",
    target: TARGET,
    charset: "utf8",
    legalComments: "none", // licences.txt has them in full
    logLevel: "warning",
    absWorkingDir: here,
    outfile: join(out, name),
    metafile: true,
    ...options,
  });
  const used = Object.entries(metafile.outputs).flatMap(([, it]) => Object.entries(it.inputs));
  return used.filter(([, { bytesInOutput }]) => bytesInOutput > 0).flatMap(([path]) => packageOf(path) ?? []);
}

/**
 * The package that a file belongs to: the last one on its path.
 * @param {string} path
 */
function packageOf(path) {
  return /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
}

/** The packages inside dash.js, by its source map, which names what its own bundler put in. */
async function insideDash() {
  const { sources } = JSON.parse(await readFile(`${DASH}.map`, "utf8"));
  const named = sources.flatMap((/** @type {string} */ it) => packageOf(it) ?? []);
  // Those of one publisher have lost their names in the map; they are what the package says that it needs, and what that needs.
  const common = new Set();
  const add = async (/** @type {string} */ name) => {
    const { dependencies = {} } = JSON.parse(await readFile(join(packages, name, "package.json"), "utf8"));
    for (const one of Object.keys(dependencies)) {
      if (!one.startsWith("@svta/") || common.has(one)) continue;
      common.add(one);
      await add(one);
    }
  };
  await add("dashjs");
  return [...named, ...common];
}

/**
 * The name of a package for people, and its licence text.
 * @param {string} name of a package
 * @returns {Promise<[string, string]>}
 */
async function licence(name) {
  const folder = join(packages, name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const files = (await readdir(folder)).filter((it) => /^(licen[cs]e|copying|notice)(\.(md|txt))?$/i.test(it)).sort();
  if (!files.some((it) => !/^notice/i.test(it))) throw new Error(`${name} ${version} has no licence text in its package`);
  const texts = await Promise.all(files.map(async (it) => (await readFile(join(folder, it), "utf8")).trim()));
  return [`${name} ${version} (${license})`, texts.join("\n\n")];
}

await mkdir(join(out, "lang"), { recursive: true });
const used = new Set([
  ...(await bundle("main.js", { entryPoints: ["src/main.js"], external: ["./hls.js", "./dash.js"] })),
  ...(await bundle("hls.js", { entryPoints: [HLS] })),
  ...INSIDE_HLS,
  ...(await bundle("dash.js", {
    stdin: { contents: `export { MediaPlayer as default } from ${JSON.stringify(DASH)};`, resolveDir: here },
  })),
  ...(await bundle("style.css", { entryPoints: ["style.css"] })),
  ...(await bundle("admin.js", { entryPoints: ["src/admin.js"] })),
  ...(await bundle("admin.css", { entryPoints: ["admin.css"] })),
  ...(await insideDash()),
]);
const head = "The page of Skycache contains parts of these packages.\n\n";
const rule = "=".repeat(78);
/** @type {Map<string, string[]>} packages by licence text, since many share one */
const texts = new Map();
for (const name of [...used].sort()) {
  const [label, text] = await licence(name);
  texts.set(text, [...(texts.get(text) ?? []), label]);
}
const chapters = [...texts].map(([text, names]) => `${rule}\n${names.join("\n")}\n${rule}\n\n${text}\n`);
await writeFile(join(out, "licences.txt"), head + chapters.join("\n"));
for (const name of ["index.html", "admin.html", "icon.svg"]) await writeFile(join(out, name), await readFile(join(here, name)));
for (const name of await readdir(join(here, "lang"))) {
  const words = JSON.parse(await readFile(join(here, "lang", name), "utf8"));
  await writeFile(join(out, "lang", name), JSON.stringify(words));
}
