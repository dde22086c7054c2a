// @ts-check
// Details of one title or one programme: what it is about, when it runs, what follows, and its addresses.

import * as api from "./api.js";
import { showLogo, showPoster, showStill } from "./artwork.js";
import { channelOf, facts, isBroadcast, nameOf, span } from "./card.js";
import { el, icon } from "./dom.js";
import { day, duration, percent, pick, t, time, times, write } from "./i18n.js";
import { outside } from "./outside.js";
import { ageOf } from "./parental.js";
import { now_ms, onAir, progress } from "./programme.js";
import { forget, stopOf } from "./resume.js";
import * as views from "./views.js";

/** @typedef {import("./types").Programme} Programme */
/** @typedef {import("./types").Title} Title */

/** Programmes that are shown at most. */
const MAX_SHOWN = 100;

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} classes
 * @param {{text: string, lang: string}} picked
 * @param {number} longest
 */
function written(tag, classes, picked, longest) {
  const element = el(tag, classes);
  write(element, picked, longest);
  return element;
}

/**
 * The frame of both: a picture, heading and words over it, and a body below.
 * @param {Title} title
 * @param {Programme | null} programme the one to show; null for the title itself
 */
function frame(title, programme) {
  const broadcast = isBroadcast(title);
  const art = el("span", "details-art", { "aria-hidden": "true" });
  showStill(art, title, programme?.image ?? null);
  const picture = el("span", broadcast ? "logo large" : "poster-large");
  if (broadcast) showLogo(picture, title);
  else showPoster(picture, title);
  const close = el("button", "button round close", { type: "button", "aria-label": t("close") }, icon("close"));
  close.addEventListener("click", views.back);
  const own = programme ? pick(programme.title) : { text: "", lang: "" };
  const heading = written("h2", "", own.text ? own : nameOf(title), 300);
  heading.id = "details-name";
  const above = el("p", "details-of", {}, own.text ? channelOf(title) : broadcast ? t(`type.${title.type}`) : "");
  const body = el("div", "details-body");
  const meta = el("p", "details-meta");
  const element = el(
    "dialog",
    "details",
    { "aria-labelledby": "details-name" },
    el("header", "details-head", {}, art, picture, el("div", "details-title", {}, above, heading, meta), close),
    body,
  );
  element.addEventListener("click", (event) => {
    if (event.target === element) views.back(); // beside the panel
  });
  return { element, body, meta, close };
}

/** @param {HTMLElement} into @param {string[]} words @param {number | null} age */
function fillMeta(into, words, age) {
  if (age !== null) into.append(el("span", "badge age inline", { "aria-label": t("title.age", { age: String(age) }) }, String(age)));
  into.append(words.filter((it) => it !== "").join("  ·  "));
}

/** How much is over. @param {number} share */
function bar(share) {
  const fill = el("span", "bar-fill");
  fill.style.transform = `scaleX(${share})`;
  return el("span", "bar", { "aria-hidden": "true" }, fill);
}

/** @param {string} name @param {() => void} act @param {Parameters<typeof icon>[0] | null} drawing */
function button(name, act, drawing, primary = false) {
  const it = el("button", primary ? "button primary" : "button", { type: "button" }, drawing ? icon(drawing) : null, name);
  it.addEventListener("click", act);
  return it;
}

/**
 * Opens the details of a title.
 * @param {Title} title
 * @param {{playable: boolean, play(from_s?: number): void, programme(event: Programme): void, changed(): void}} how
 */
export function showDetails(title, { playable, play, programme, changed }) {
  const { now, next } = onAir(title);
  const { element, body, meta, close } = frame(title, now);
  const held = title.held === null ? "" : title.held >= 1 ? t("title.whole") : t("title.held", { share: percent(title.held) });
  fillMeta(meta, [now ? span(now, next) : "", ...facts(title), held, title.available ? "" : t("title.away")], ageOf(title));
  if (now) {
    const share = progress(now, next);
    if (share !== null) body.append(bar(share));
  }
  const stop = stopOf(title.id);
  /** @type {HTMLElement[]} */
  const actions = [];
  if (playable) {
    if (stop) {
      actions.push(button(t("hero.continueAt", { time: duration(stop.at_s) }), () => play(stop.at_s), "play", true));
      actions.push(button(t("title.fromStart"), () => play(0), "back"));
      actions.push(
        button(t("title.forget"), () => {
          forget(title.id);
          changed();
          views.back();
        }, "close"),
      );
    } else actions.push(button(t(isBroadcast(title) ? "hero.watch" : "play"), () => play(), "play", true));
    body.append(el("p", "actions", {}, ...actions));
  } else if (title.play.length) body.append(el("p", "hint", {}, t("title.notHere")));
  const episode = now ? pick(now.episode) : { text: "", lang: "" };
  if (episode.text) body.append(written("p", "strong", episode, 300));
  const synopsis = now ? pick(now.synopsis) : { text: "", lang: "" };
  if (synopsis.text) body.append(written("p", "about", synopsis, 2000));
  const description = pick(title.description);
  if (description.text) body.append(written("p", "about", description, 2000));
  const programmes = el("div", "schedule");
  body.append(programmes);
  if (isBroadcast(title)) fillSchedule(programmes, title.id, programme);
  body.append(el("h3", "", {}, t("outside.heading")), outside(title));
  if (title.others.length) {
    body.append(
      el("h3", "", {}, t("title.others")),
      el("ul", "others", {}, ...title.others.slice(0, 20).map((it) => written("li", "", { text: it, lang: "" }, 300))),
    );
  }
  views.show({ element, closed: () => {} });
  (actions[0] ?? close).focus();
}

/**
 * Opens the details of one programme.
 * @param {Title} title of the channel
 * @param {Programme} event
 * @param {{playable: boolean, play(): void, channel(): void}} how
 */
export function showProgramme(title, event, { playable, play, channel }) {
  const { element, body, meta, close } = frame(title, event);
  const now = now_ms();
  const running = event.start_ms <= now && now < event.end_ms;
  const when = `${running ? "" : `${day(event.start_ms)} `}${times(event.start_ms, event.end_ms)}`;
  const age = Math.max(event.minimum_age ?? 0, title.minimum_age ?? 0);
  fillMeta(meta, [when, duration((event.end_ms - event.start_ms) / 1000), event.genres.slice(0, 2).join(", ")], age || null);
  if (running) body.append(bar((now - event.start_ms) / (event.end_ms - event.start_ms)));
  /** @type {HTMLElement[]} */
  const actions = [];
  if (running && playable) actions.push(button(t("hero.watch"), play, "play", true));
  actions.push(button(t("programme.channel"), channel, "info"));
  const episode = pick(event.episode);
  const synopsis = pick(event.synopsis);
  body.append(el("p", "actions", {}, ...actions));
  if (!running && event.start_ms > now) {
    body.append(el("p", "hint", {}, t("programme.starts", { time: duration((event.start_ms - now) / 1000) })));
  }
  if (episode.text) body.append(written("p", "strong", episode, 300));
  body.append(synopsis.text ? written("p", "about", synopsis, 3000) : el("p", "hint", {}, t("programme.nothing")));
  views.show({ element, closed: () => {} });
  (actions[0] ?? close).focus();
}

/**
 * @param {HTMLElement} into
 * @param {string} id
 * @param {(event: Programme) => void} open
 */
async function fillSchedule(into, id, open) {
  const now = now_ms();
  try {
    const all = await api.schedule(id, now - 3_600_000, now + 24 * 3_600_000);
    const coming = all.filter((it) => it.end_ms > now || it.start_ms > now).slice(0, MAX_SHOWN);
    if (!coming.length) return;
    into.append(el("h3", "", {}, t("schedule")), el("ol", "programmes", {}, ...coming.map((it) => row(it, now, open))));
  } catch {
    into.append(el("p", "hint", {}, t("schedule.failed")));
  }
}

/**
 * @param {Programme} it
 * @param {number} now
 * @param {(event: Programme) => void} open
 */
function row(it, now, open) {
  const running = it.start_ms <= now;
  const line = el(
    "button",
    "programme",
    { type: "button" },
    el("span", "when", {}, time(it.start_ms)),
    written("span", "what", pick(it.title), 300),
    it.minimum_age ? el("span", "badge age inline", {}, String(it.minimum_age)) : null,
  );
  line.addEventListener("click", () => open(it));
  return el("li", running ? "running" : "", { "aria-current": running ? "time" : null }, line);
}
