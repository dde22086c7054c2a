// @ts-check
// The tables of the operator's page: live services, sessions, groups, signal, origins, routes, what was dropped and why, and the objects of the
// cache with what one may do to them.

import * as admin from "./admin-api.js";
import { el, refill, setText } from "./dom.js";
import { bytes, number, percent, t, write } from "./i18n.js";

/** @typedef {import("./admin-api.js").Json} Json */
/** @typedef {import("./admin-api.js").Metric} Metric */
/** @typedef {(string | {text: string, how?: string, value?: number})[]} Cells */

/** Rows of a table that are shown. */
const MAX_ROWS = 200;
/** Objects that are shown; more are found by their names. */
const MAX_OBJECTS = 100;

/** Shares of packets lost that are a warning, and bad. */
export const LOSS = { warn: 0.01, bad: 0.05 };

/** Days before the end of a certificate from which it is a warning. */
const WARNING_DAYS = 14;

/** How good each state of a live service's reception is. @type {Record<string, string>} */
const LIVE_STATES = { idle: "", joining: "", live: "good", origin: "warn", stalled: "bad" };

/** How bad it is that this share of the packets was lost. @param {number} share */
export const judged = (share) => (share > LOSS.bad ? "bad" : share > LOSS.warn ? "warn" : "");

/** A table with a heading. */
class Table {
  /**
   * @param {string} key
   * @param {string[]} columns keys of their words; those with # are numbers
   * @param {string} [none] key of what an empty one says
   */
  constructor(key, columns, none = "table.none") {
    this.empty = none;
    this.key = key;
    this.columns = columns;
    /** Headings of the columns. @type {string[]} */
    this.words = [];
    this.heading = el("h2");
    this.heading.id = `table-${key}`;
    // Roles of their own: on a telephone rows are cards, which takes those of the elements away.
    this.head = el("tr", "", { role: "row" });
    this.body = el("tbody", "", { role: "rowgroup" });
    this.none = el("p", "hint");
    this.table = el("table", "data", { role: "table", "aria-labelledby": this.heading.id }, el("thead", "", { role: "rowgroup" }, this.head), this.body);
    this.frame = el("div", "table-frame", { tabindex: 0, role: "region", "aria-labelledby": this.heading.id }, this.table);
    this.element = el("section", "panel-table", {}, this.heading, this.frame, this.none);
    this.element.dataset.table = key;
  }

  relabel() {
    setText(this.heading, t(`table.${this.key}`));
    setText(this.none, t(this.empty));
    this.words = this.columns.map((it) => t(`column.${it.replace("#", "")}`));
    refill(this.head, ...this.columns.map((it, at) => el("th", it.startsWith("#") ? "number" : "", { scope: "col", role: "columnheader" }, this.words[at])));
  }

  /** @param {Cells[]} rows */
  show(rows) {
    this.none.hidden = rows.length > 0;
    // An empty one is no stop of Tab.
    this.frame.hidden = rows.length === 0;
    const shown = rows.slice(0, MAX_ROWS);
    while (this.body.children.length > shown.length) this.body.lastElementChild?.remove();
    while (this.body.children.length < shown.length) this.body.append(el("tr", "", { role: "row" }, ...this.columns.map((it) => el("td", it.startsWith("#") ? "number" : "", { role: "cell" }))));
    shown.forEach((cells, at) => {
      cells.forEach((cell, column) => {
        const td = /** @type {HTMLElement} */ (this.body.children[at].children[column]);
        const { text, how } = typeof cell === "string" ? { text: cell, how: "" } : cell;
        write(td, { text, lang: "" }, 300);
        td.dataset.column = this.words[column] ?? "";
        td.className = [this.columns[column].startsWith("#") ? "number" : "", how ?? ""].join(" ").trim();
      });
    });
  }
}

const count = (/** @type {unknown} */ it) => (typeof it === "number" && Number.isFinite(it) ? it : 0);
const list = (/** @type {unknown} */ it) => /** @type {Json[]} */ (Array.isArray(it) ? it : []);
const text = (/** @type {unknown} */ it) => (typeof it === "string" ? it : it === null || it === undefined ? "" : String(it));

/** The tables that follow from status and metrics. */
export class Tables {
  /** @param {HTMLElement} into */
  constructor(into) {
    this.live = new Table(
      "live",
      ["service", "state", "#segmentAge", "#latency", "#segments", "#listedEarly", "#deadlineMisses", "#repairedInTime", "#fromOrigin"],
      "live.none",
    );
    this.sessions = new Table("sessions", ["session", "protocol", "#packets", "#loss", "#recovered", "#inFlight", "#dropped"]);
    this.groups = new Table("groups", ["group", "interface", "why", "state"]);
    this.signal = new Table("signal", ["input", "state", "#snr", "#strength", "#packets", "#errors"]);
    this.origins = new Table("origins", ["what", "#count"]);
    this.routes = new Table("routes", ["route", "#requests", "#hits", "#bytes"]);
    this.failures = new Table("failures", ["where", "reason", "#count"]);
    this.certificates = new Table("certificates", ["listener", "certificate", "names", "#days", "ends", "file"], "certificates.none");
    this.all = [this.live, this.sessions, this.groups, this.signal, this.origins, this.routes, this.failures, this.certificates];
    into.append(el("div", "table-grid", {}, ...this.all.map((it) => it.element)));
    /** @type {[Json, Metric[]] | null} */
    this.last = null;
  }

  relabel() {
    for (const it of this.all) it.relabel();
    if (this.last) this.show(...this.last);
  }

  /** @param {Json} status @param {Metric[]} metrics */
  show(status, metrics) {
    this.last = [status, metrics];
    const receive = status.receive ?? {};
    this.live.show(list(status.live).map(liveRow));
    this.sessions.show(
      list(receive.sessions).map((it) => {
        const all = count(it.packets) + count(it.lost);
        const loss = all > 0 ? count(it.lost) / all : 0;
        const dropped = Object.values(it.dropped ?? {}).reduce((/** @type {number} */ sum, one) => sum + count(one), 0);
        return [
          `${text(it.source)} → ${text(it.group)}:${text(it.port)}, TSI ${text(it.tsi)}`,
          text(it.protocol),
          number(count(it.packets)),
          { text: percent(loss), how: judged(loss) },
          number(count(it.recovered)),
          number(count(it.in_flight)),
          number(dropped),
        ];
      }),
    );
    this.groups.show(
      list(receive.groups).map((it) => [
        `${text(it.group)}:${text(it.port)}${it.source ? ` (${text(it.source)})` : ""}`,
        text(it.interface),
        text(it.why),
        it.error ? { text: text(it.error), how: "bad" } : { text: t("state.joined"), how: "good" },
      ]),
    );
    const streams = list(receive.transport_streams);
    this.signal.element.hidden = streams.length === 0;
    this.signal.show(
      streams.map((it) => {
        const signal = it.signal ?? {};
        const locked = signal.locked;
        return [
          text(it.from ?? it.name ?? it.input),
          it.error ? { text: text(it.error), how: "bad" } : locked === false ? { text: t("signal.none"), how: "bad" } : { text: t("signal.locked"), how: "good" },
          typeof signal.snr_db === "number" ? `${number(signal.snr_db, 1)} dB` : "–",
          typeof signal.strength_dbm === "number" ? `${number(signal.strength_dbm, 1)} dBm` : typeof signal.strength_percent === "number" ? `${number(signal.strength_percent)} %` : "–",
          number(count(it.packets)),
          number(count(it.continuity_errors)),
        ];
      }),
    );
    const origin = status.origin ?? {};
    this.origins.show([
      [t("origin.requests"), number(count(origin.requests))],
      [t("origin.bytes"), bytes(count(origin.bytes))],
      [t("origin.repair"), `${number(count(status.repair?.requests))} · ${bytes(count(status.repair?.bytes))}`],
      ...list(Array.isArray(origin.open_circuits) ? origin.open_circuits : []).map((it) => /** @type {Cells} */ ([t("origin.open"), { text: text(it.name ?? it), how: "bad" }])),
      ...(typeof origin.open_circuits === "number" ? [/** @type {Cells} */ ([t("origin.open"), { text: number(origin.open_circuits), how: origin.open_circuits > 0 ? "bad" : "" }])] : []),
    ]);
    this.routes.show(routesOf(metrics));
    /** @type {Cells[]} */
    const failures = [];
    const reasons = (/** @type {string} */ where, /** @type {Json | undefined} */ counts) => {
      for (const [reason, of] of Object.entries(counts ?? {})) if (count(of) > 0) failures.push([where, reason, number(count(of))]);
    };
    reasons(t("where.receive"), receive.dropped);
    reasons(t("where.delivery"), receive.delivery?.gone);
    reasons(t("where.rejected"), receive.delivery?.rejected);
    reasons(t("where.flights"), status.flights?.failed);
    reasons(t("where.repair"), status.repair?.outcomes);
    reasons(t("where.origin"), origin.failures);
    reasons(t("where.notKept"), origin.not_kept);
    reasons(t("where.noPlace"), origin.no_place);
    reasons(t("where.evicted"), status.store?.evicted);
    this.failures.show(failures);
    this.certificates.show(
      list(status.certificates).map((it) => {
        const days = typeof it.days_left === "number" ? it.days_left : null;
        const how = days === null ? "" : days < 0 ? "bad" : days < WARNING_DAYS ? "warn" : "good";
        return [
          `[${text(it.listener)}]`,
          it.error ? { text: t("certificates.unread", { said: text(it.error) }), how: "bad" } : text(it.subject) || "–",
          list(it.names).map(text).join(", ") || "–",
          days === null ? "–" : { text: days < 0 ? t("certificates.ended") : number(days), how },
          text(it.not_after).slice(0, 16).replace("T", " ") || "–",
          text(it.file),
        ];
      }),
    );
  }
}

/**
 * The row of a live service.
 * @param {Json} it
 * @returns {Cells}
 */
function liveRow(it) {
  const state = text(it.state);
  const seconds = (/** @type {unknown} */ ms) => (typeof ms === "number" ? t("live.seconds", { count: number(ms / 1000, 1) }) : "–");
  const early = count(it.listed_early);
  const misses = count(it.deadline_misses);
  return [
    text(it.service),
    state in LIVE_STATES ? { text: t(`live.${state}`), how: LIVE_STATES[state] } : state,
    seconds(it.segment_age_ms),
    it.latency_ms === null && it.dated === false ? t("live.unknown") : seconds(it.latency_ms),
    number(count(it.segments)),
    early > 0 ? t("live.early", { count: number(early), mean: number(count(it.listed_early_ms) / early / 1000, 1) }) : number(0),
    { text: number(misses), how: misses > 0 ? "warn" : "" },
    number(count(it.repaired)),
    number(count(it.from_origin)),
  ];
}

/**
 * Requests of players by route.
 * @param {Metric[]} metrics
 * @returns {Cells[]}
 */
function routesOf(metrics) {
  /** @type {Map<string, {requests: number, own: number, hits: number, bytes: number}>} */
  const routes = new Map();
  for (const { name, labels, value } of metrics) {
    const route = labels.route;
    if (route === undefined) continue;
    const it = routes.get(route) ?? { requests: 0, own: 0, hits: 0, bytes: 0 };
    routes.set(route, it);
    if (name === "skycache_http_requests_total") {
      it.requests += value;
      // The page and errors are the box's own: neither hits nor misses.
      if (labels.served === "own") it.own += value;
      else if (labels.served !== "miss") it.hits += value;
    } else if (name === "skycache_http_body_bytes_total") it.bytes += value;
  }
  return [...routes].map(([route, it]) => [route, number(it.requests), it.requests > it.own ? percent(it.hits / (it.requests - it.own)) : "–", bytes(it.bytes)]);
}

/**
 * The pattern of what is typed, by which the list shows and the box purges: one without * is a part of a name.
 * @param {string} typed
 */
const patternOf = (typed) => {
  const name = typed.trim().replace(/^[a-z][a-z0-9+.-]*:\/\//i, "");
  return name.includes("*") || isPath(name) ? name : name ? `*${name}*` : "*";
};

/** Whether a pattern is a path of the players' port, which the routes of the box translate. @param {string} pattern */
const isPath = (pattern) => pattern.startsWith("/");

/** The expression that matches as the box does: * is any text, ? one character. @param {string} pattern */
const expressionOf = (pattern) =>
  new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".")}$`, "s");

/** The objects of the cache: found by name, pinned, purged. */
export class Objects {
  /** @param {HTMLElement} into @param {{say(text: string): void, failed(error: unknown): void}} on */
  constructor(into, on) {
    this.on = on;
    /** @type {Json[]} */
    this.all = [];
    this.sort = "received_at";
    this.heading = el("h2");
    this.heading.id = "table-objects";
    this.field = el("input", "filter", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: 500 });
    this.load = el("button", "button small", { type: "button" });
    this.ban = el("button", "button small danger", { type: "button" });
    this.status = el("p", "hint", { role: "status" });
    this.head = el("tr");
    this.body = el("tbody");
    this.table = el("table", "data objects", { "aria-labelledby": this.heading.id }, el("thead", "", {}, this.head), this.body);
    this.frame = el("div", "table-frame", { tabindex: 0, role: "region", "aria-labelledby": this.heading.id, hidden: true }, this.table);
    this.element = el(
      "section",
      "panel-table whole",
      {},
      this.heading,
      el("p", "field", {}, this.field, this.load, this.ban),
      this.status,
      this.frame,
    );
    this.element.dataset.table = "objects";
    into.append(this.element);
    this.load.addEventListener("click", () => this.fetch());
    this.field.addEventListener("input", () => {
      this.calm();
      this.draw();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !this.all.length) this.fetch();
    });
    this.ban.addEventListener("click", () => this.purgeAll());
  }

  relabel() {
    setText(this.heading, t("table.objects"));
    setText(this.load, t("objects.load"));
    setText(this.ban, t("objects.ban"));
    this.field.setAttribute("placeholder", t("objects.filter"));
    this.field.setAttribute("aria-label", t("objects.filter"));
    refill(
      this.head,
      ...[["key", "key"], ["length", "#size"], ["tier", "tier"], ["came_by", "from"], ["uses", "#uses"], ["expires", "expires"]].map(([by, column]) => {
        const button = el("button", "sort", { type: "button" }, t(`column.${column.replace("#", "")}`));
        button.addEventListener("click", () => {
          this.sort = by;
          this.draw();
        });
        return el("th", column.startsWith("#") ? "number" : "", { scope: "col", "aria-sort": this.sort === by ? "ascending" : null }, button);
      }),
      el("th", "", { scope: "col" }, el("span", "unseen", {}, t("column.actions"))),
    );
    this.draw();
  }

  async fetch() {
    try {
      this.all = await admin.objects();
      this.draw();
    } catch (error) {
      this.on.failed(error);
    }
  }

  matching() {
    const wanted = expressionOf(patternOf(this.field.value));
    const { sort } = this;
    const value = (/** @type {Json} */ it) => it[sort] ?? "";
    return this.all
      .filter((it) => wanted.test(text(it.key)))
      .sort((a, b) => (typeof value(a) === "number" ? value(b) - value(a) : text(value(a)).localeCompare(text(value(b)))));
  }

  draw() {
    const found = this.matching();
    this.frame.hidden = found.length === 0;
    setText(this.status, this.all.length ? t("objects.found", { count: found.length, all: number(this.all.length) }) : t("objects.hint"));
    refill(this.body, ...found.slice(0, MAX_OBJECTS).map((it) => this.row(it)));
  }

  /** @param {Json} it */
  row(it) {
    const key = text(it.key);
    const act = (/** @type {"purge" | "pin" | "unpin"} */ action, /** @type {string} */ words) => {
      const button = el("button", action === "purge" ? "button small danger" : "button small", { type: "button", "aria-label": `${words}: ${key}` }, words);
      button.addEventListener("click", () => this.command(action, key, button));
      return button;
    };
    const name = el("td", "key");
    write(name, { text: key, lang: "" }, 500);
    return el(
      "tr",
      "",
      {},
      name,
      el("td", "number", {}, bytes(count(it.length))),
      el("td", "", {}, text(it.tier)),
      el("td", "", {}, text(it.came_by)),
      el("td", "number", {}, number(count(it.uses))),
      el("td", "", {}, text(it.expires).slice(0, 19).replace("T", " ") || "–"),
      el("td", "acts", {}, act("pin", t("objects.pin")), act("unpin", t("objects.unpin")), act("purge", t("objects.purge"))),
    );
  }

  /**
   * @param {"purge" | "pin" | "unpin"} action
   * @param {string} key
   * @param {HTMLButtonElement} button
   */
  async command(action, key, button) {
    // What cannot be taken back is asked for twice.
    if (action === "purge" && button.dataset.sure !== "yes") {
      button.dataset.sure = "yes";
      setText(button, t("objects.sure"));
      window.setTimeout(() => {
        button.dataset.sure = "";
        setText(button, t("objects.purge"));
      }, 4000);
      return;
    }
    try {
      await admin.command(action, key);
      this.on.say(t(`objects.done.${action}`, { key: key.slice(0, 120) }));
      await this.fetch();
    } catch (error) {
      if (error instanceof admin.Declined) this.on.say(error.message);
      else this.on.failed(error);
    }
  }

  /** Takes back the question whether to purge a pattern. */
  calm() {
    this.ban.dataset.sure = "";
    setText(this.ban, t("objects.ban"));
  }

  /** Purges everything that the list shows. */
  async purgeAll() {
    if (!this.field.value.trim()) {
      this.on.say(t("objects.pattern"));
      this.field.focus();
      return;
    }
    const pattern = patternOf(this.field.value);
    if (this.ban.dataset.sure !== pattern) {
      // The question says how many there are now.
      await this.fetch();
      const found = this.matching().length;
      // Paths of players are the box's to translate.
      const words = isPath(pattern) ? "objects.sureAll" : found > 0 && found === this.all.length ? "objects.sureEverything" : "objects.sureMany";
      this.ban.dataset.sure = pattern;
      this.ban.dataset.everything = String(words === "objects.sureEverything");
      setText(this.ban, t(words, { pattern: pattern.slice(0, 60), count: found }));
      window.setTimeout(() => this.calm(), 5000);
      return;
    }
    this.calm();
    try {
      const done = await admin.command("ban", pattern, this.ban.dataset.everything === "true");
      this.on.say([t("objects.purged", { count: count(done.purged) }), text(done.hint)].filter((it) => it).join(" · "));
      await this.fetch();
    } catch (error) {
      if (error instanceof admin.Declined) this.on.say(error.message);
      else this.on.failed(error);
    }
  }
}
