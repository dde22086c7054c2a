// @ts-check
// Answers of the daemon, checked before use. Names, logos and addresses come from the air: what is not
// of the promised kind becomes nothing, and an address is kept only if it is a path of this box.

/** @typedef {import("./types").Title} Title */
/** @typedef {import("./types").Programme} Programme */

/** Longest text that is kept: layout of longer text takes time. */
const MAX_TEXT = 4000;
const KINDS = new Set(["linear", "radio", "ondemand", "data", "other", "file"]);

/**
 * The path of an address on this box; null for everything else.
 * @param {unknown} value
 * @returns {string | null}
 */
function ownPath(value) {
  if (typeof value !== "string" || !value.startsWith("/") || /^\/[/\\]/.test(value)) return null;
  try {
    const url = new URL(value, location.origin);
    return url.origin === location.origin ? url.pathname + url.search : null;
  } catch {
    return null;
  }
}

/**
 * @param {unknown} value
 * @returns {Record<string, unknown>}
 */
function object(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value)
    ? /** @type {Record<string, unknown>} */ (value)
    : {};
}

/**
 * @param {unknown} value
 * @returns {unknown[]}
 */
const list = (value) => (Array.isArray(value) ? value : []);

/**
 * @param {unknown} value
 * @returns {string}
 */
const text = (value) => (typeof value === "string" ? value.slice(0, MAX_TEXT) : "");

/**
 * @param {unknown} value
 * @returns {number | null}
 */
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/**
 * @param {unknown} value
 * @returns {string[]}
 */
const strings = (value) => list(value).map(text).filter((it) => it !== "");

/**
 * @param {unknown} value
 * @returns {import("./types").Texts}
 */
function texts(value) {
  /** @type {import("./types").Texts} */
  const out = Object.create(null);
  for (const [tag, it] of Object.entries(object(value))) {
    const one = text(it).trim();
    if (one) out[/^[a-z]{2,3}(-[a-z0-9]{2,8})*$/i.test(tag) ? tag.toLowerCase() : "und"] = one;
  }
  return out;
}

/**
 * @param {unknown} value
 * @returns {Programme | null}
 */
function programme(value) {
  const it = object(value);
  const start = number(it.start_ms);
  const end = number(it.end_ms);
  if (start === null) return null;
  return {
    id: text(it.id) || null,
    title: texts(it.title),
    episode: texts(it.episode),
    synopsis: texts(it.synopsis),
    start_ms: start,
    // What never ends, or ends before it begins, has no length that could be shown.
    end_ms: end === null || end < start ? start : end,
    genres: strings(it.genres),
    minimum_age: age(it.minimum_age),
    image: ownPath(it.image),
  };
}

/**
 * @param {unknown} value
 * @returns {number | null}
 */
function age(value) {
  const years = number(value);
  return years !== null && years > 0 && years < 100 ? years : null;
}

/**
 * @param {unknown} value
 * @returns {import("./types").TitleHead}
 */
function head(value) {
  const it = object(value);
  const kind = text(it.type);
  return {
    id: text(it.id),
    number: number(it.number),
    name: texts(it.name),
    logo: ownPath(it.logo),
    type: /** @type {import("./types").Kind} */ (KINDS.has(kind) ? kind : "other"),
    minimum_age: age(it.minimum_age),
  };
}

/**
 * @param {unknown} value
 * @returns {Title}
 */
function title(value) {
  const it = object(value);
  const held = number(it.held);
  return {
    ...head(it),
    description: texts(it.description),
    banner: ownPath(it.banner),
    genres: strings(it.genres),
    picture: text(it.picture) || null,
    available: it.available !== false,
    duration_s: number(it.duration_s),
    held: held === null ? null : Math.min(1, Math.max(0, held)),
    play: list(it.play)
      .map(object)
      .map(({ type, url, way }) => ({ type: text(type), url: ownPath(url) ?? "", way: text(way) }))
      .filter((one) => one.url !== ""),
    others: strings(it.others),
    now: programme(it.now),
    next: programme(it.next),
  };
}

/**
 * @param {string} path
 * @returns {Promise<Record<string, unknown>>}
 */
async function json(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(`${response.status}`);
  return object(await response.json());
}

/**
 * A page of titles. `number` asks for the channel of that number, `id` for one title.
 * @param {{offset?: number, limit?: number, kind?: string, q?: string, number?: number, id?: string}} query
 * @returns {Promise<import("./types").TitlesPage>}
 */
export async function titles({ offset = 0, limit = 100, kind = "", q = "", number: dialled, id }) {
  const query = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  if (kind) query.set("kind", kind);
  if (q) query.set("q", q);
  if (dialled !== undefined) query.set("number", String(dialled));
  if (id !== undefined) query.set("id", id);
  const it = await json(`/-/titles.json?${query}`);
  return {
    version: number(it.version) ?? 0,
    players: it.players === true,
    name: text(it.name) || "Skycache",
    total: Math.max(0, number(it.total) ?? 0),
    offset: number(it.offset) ?? offset,
    titles: list(it.titles).slice(0, limit).map(title),
    messages: strings(it.messages),
  };
}

/**
 * The programmes of a channel in a span of time, in order, without those that a later one has overlapped.
 * @param {string} id
 * @param {number} from_ms
 * @param {number} to_ms
 * @returns {Promise<Programme[]>}
 */
export async function schedule(id, from_ms, to_ms) {
  const query = new URLSearchParams({ id, from_ms: String(from_ms), to_ms: String(to_ms) });
  const it = await json(`/-/schedule.json?${query}`);
  return inOrder(it.events);
}

/**
 * Programmes in order, each over when the next one begins.
 * @param {unknown} value
 * @returns {Programme[]}
 */
function inOrder(value) {
  const known = /** @type {Programme[]} */ (
    list(value)
      .slice(0, 500)
      .map(programme)
      .filter((one) => one !== null)
  );
  known.sort((a, b) => a.start_ms - b.start_ms);
  known.forEach((one, at) => {
    const next = known[at + 1];
    if (next) one.end_ms = Math.min(one.end_ms === one.start_ms ? next.start_ms : one.end_ms, next.start_ms);
  });
  return known.filter((one) => one.end_ms > one.start_ms);
}

/**
 * Channels from `offset` on, with what they show in a span of time.
 * @param {number} offset
 * @param {number} limit
 * @param {number} from_ms
 * @param {number} to_ms
 * @returns {Promise<import("./types").GuidePage>}
 */
export async function guide(offset, limit, from_ms, to_ms) {
  const query = new URLSearchParams({
    offset: String(offset),
    limit: String(limit),
    from_ms: String(from_ms),
    to_ms: String(to_ms),
  });
  const it = await json(`/-/guide.json?${query}`);
  return {
    version: number(it.version) ?? 0,
    total: Math.max(0, number(it.total) ?? 0),
    offset: number(it.offset) ?? offset,
    channels: list(it.channels)
      .slice(0, limit)
      .map((one) => ({ ...head(one), events: inOrder(object(one).events) })),
  };
}

/**
 * Programmes whose title has a text in it, from now on.
 * @param {string} q
 * @returns {Promise<{total: number, programmes: import("./types").FoundProgramme[]}>}
 */
export async function programmes(q) {
  const it = await json(`/-/programmes.json?${new URLSearchParams({ q })}`);
  /** @type {import("./types").FoundProgramme[]} */
  const found = [];
  for (const one of list(it.programmes).slice(0, 200)) {
    const event = programme(object(one).event);
    if (event) found.push({ channel: head(object(one).channel), event });
  }
  return { total: Math.max(0, number(it.total) ?? 0), programmes: found };
}

/**
 * @param {unknown} value
 * @returns {import("./types").Sample}
 */
export function sample(value) {
  const it = object(value);
  const of = (/** @type {string} */ name) => Math.max(0, number(it[name]) ?? 0);
  return {
    at_ms: of("at_ms"),
    receive_bps: of("receive_bps"),
    packets: of("packets"),
    lost: of("lost"),
    recovered: of("recovered"),
    repair_bps: of("repair_bps"),
    players_bps: of("players_bps"),
    connections: of("connections"),
    hits: of("hits"),
    misses: of("misses"),
    flash_bps: of("flash_bps"),
  };
}

/**
 * @param {unknown} value
 * @returns {import("./types").Sample[]}
 */
export const history = (value) => list(object(value).samples).slice(-600).map(sample);

/**
 * @param {unknown} value
 * @returns {import("./types").State}
 */
export function state(value) {
  const it = object(value);
  const [cache, flash, receive, repair] = [it.cache, it.flash, it.receive, it.repair].map(object);
  const count = (/** @type {unknown} */ one) => Math.max(0, number(one) ?? 0);
  return {
    name: text(it.name),
    version: text(it.version),
    uptime_s: count(it.uptime_s),
    messages: list(it.messages).slice(0, 4).map((one) => text(one)).filter((one) => one !== ""),
    cache: {
      objects: count(cache.objects),
      bytes: count(cache.bytes),
      quota_bytes: count(cache.quota_bytes),
      hit_ratio: number(cache.hit_ratio),
      in_flight: count(cache.in_flight),
      disk: text(cache.disk),
    },
    flash: {
      written_today_bytes: count(flash.written_today_bytes),
      budget_bytes: number(flash.budget_bytes),
      life_years: number(flash.life_years),
    },
    receive: { groups: count(receive.groups) },
    repair: { requests: count(repair.requests), bytes: count(repair.bytes), objects: count(repair.objects) },
    signal: list(it.signal).slice(0, 32).map((one) => {
      const signal = object(one);
      return { locked: typeof signal.locked === "boolean" ? signal.locked : null, snr_db: number(signal.snr_db) };
    }),
  };
}
