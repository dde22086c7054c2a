// @ts-check
// What there is to know of one title: description, today's programmes, where else it is sent, and its addresses.

import * as api from "./api.js";
import { facts, nameOf } from "./card.js";
import { el, icon } from "./dom.js";
import { percent, pick, t, time, write } from "./i18n.js";
import { showLogo } from "./logo.js";
import { outside } from "./outside.js";
import { now_ms, onAir } from "./programme.js";
import * as views from "./views.js";

/** @typedef {import("./types").Programme} Programme */

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
 * Opens the details of a title.
 * @param {import("./types").Title} title
 * @param {{playable: boolean, play(): void}} how
 */
export function showDetails(title, { playable, play }) {
  const logo = el("span", "logo large");
  showLogo(logo, title);
  const close = el("button", "button round", { type: "button", "aria-label": t("close") }, icon("close"));
  close.addEventListener("click", views.back);
  const start = el("button", "button primary", { type: "button", autofocus: true }, icon("play"), t("play"));
  start.addEventListener("click", play);
  const heading = written("h2", "", nameOf(title), 500);
  heading.id = "details-name";
  const words = [title.number === null ? "" : t("title.number", { number: String(title.number) }), ...facts(title)];
  if (title.type === "linear") words.splice(1, 0, t("type.linear"));
  if (title.held !== null) words.push(t("title.held", { share: percent(title.held) }));
  if (!title.available) words.push(t("title.away"));
  const { now } = onAir(title);
  const body = el("div", "details-body");
  if (now) {
    body.append(
      el("h3", "", {}, t("now")),
      written("p", "strong", pick(now.title), 500),
      written("p", "", pick(now.synopsis), 2000),
    );
  }
  const description = pick(title.description);
  if (description.text) body.append(written("p", "", description, 2000));
  if (playable) body.append(el("p", "actions", {}, start));
  else if (title.play.length) body.append(el("p", "hint", {}, t("title.notHere")));
  const programmes = el("div", "schedule");
  body.append(programmes);
  if (title.type === "linear" || title.type === "radio") fillSchedule(programmes, title.id);
  body.append(el("h3", "", {}, t("outside.heading")), outside(title));
  if (title.others.length) {
    body.append(
      el("h3", "", {}, t("title.others")),
      el("ul", "others", {}, ...title.others.slice(0, 20).map((it) => written("li", "", { text: it, lang: "" }, 300))),
    );
  }
  const element = el(
    "dialog",
    "details",
    { "aria-labelledby": "details-name" },
    el(
      "header",
      "details-head",
      {},
      logo,
      el("div", "details-title", {}, heading, el("p", "facts", {}, words.filter((it) => it !== "").join(" · "))),
      close,
    ),
    body,
  );
  element.addEventListener("click", (event) => {
    if (event.target === element) views.back(); // beside the panel
  });
  views.show({ element, closed: () => {} });
  if (playable) start.focus();
  else close.focus();
}

/**
 * @param {HTMLElement} into
 * @param {string} id
 */
async function fillSchedule(into, id) {
  const now = now_ms();
  try {
    const all = await api.schedule(id, now - 3_600_000, now + 24 * 3_600_000);
    const coming = all.filter((it) => it.end_ms > now || it.start_ms > now).slice(0, MAX_SHOWN);
    if (!coming.length) return;
    into.append(el("h3", "", {}, t("schedule")), el("ol", "programmes", {}, ...coming.map((it) => row(it, now))));
  } catch {
    into.append(el("p", "hint", {}, t("schedule.failed")));
  }
}

/**
 * A line that the arrow keys can stop at, so that a long list can be read by remote control.
 * @param {Programme} it
 * @param {number} now
 */
function row(it, now) {
  const running = it.start_ms <= now;
  const synopsis = pick(it.synopsis);
  return el(
    "li",
    running ? "running" : "",
    { "data-stop": true, tabindex: -1, "aria-current": running ? "time" : null },
    el("span", "when", {}, time(it.start_ms)),
    el(
      "span",
      "",
      {},
      written("span", "what", pick(it.title), 300),
      synopsis.text ? written("span", "synopsis", synopsis, 300) : null,
    ),
  );
}
