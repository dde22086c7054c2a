// A reader of MPDs that is not ours (mpd-parser): node segments.mjs < DOCUMENTS
//
// Standard input is a JSON array of { uri, mpd }, standard output one of arrays: the URIs of every init and media segment that
// the reader would ask for, for each document. Packages are those of package.json here, in the folder that NODE_MODULES names.

import { readFileSync } from "node:fs";

import { load, packagesAt } from "./chromium.mjs";

globalThis.window ??= globalThis;
const { parse } = load(packagesAt("node_modules"), "mpd-parser");

const NOW = Number(process.env.NOW_MS ?? Date.now());

function segments({ uri, mpd }) {
  const manifest = parse(mpd, { manifestUri: uri, NOW, eventHandler() {} });
  const found = new Set();
  const take = (playlist) => {
    for (const segment of playlist.segments ?? []) {
      found.add(segment.resolvedUri);
      if (segment.map) found.add(segment.map.resolvedUri);
    }
    if (playlist.sidx) found.add(playlist.sidx.resolvedUri);
    for (const inner of playlist.playlists ?? []) take(inner);
  };
  for (const playlist of manifest.playlists) take(playlist);
  for (const groups of Object.values(manifest.mediaGroups)) {
    for (const group of Object.values(groups)) {
      for (const rendition of Object.values(group)) take(rendition);
    }
  }
  return [...found];
}

const documents = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(documents.map(segments)));
