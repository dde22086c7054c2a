// @ts-check
// The stream of live data, /-/live. It is read with fetch and not with EventSource, which does not tell a box that has too
// many viewers (503, Retry-After) from one that is gone. Nobody looks at a hidden page, so a hidden page does not listen:
// the box sends its history again when it comes back.

import * as api from "./api.js";

/** First and longest wait before the next try. */
const FIRST_MS = 1000;
const LONGEST_MS = 30_000;
/** The box sends something each second; after this long without anything the connection is dead. */
const SILENCE_MS = 15_000;
/** How long a page may be hidden before it stops listening. */
const HIDDEN_MS = 20_000;

/**
 * Calls `each` for every event of `stream` until it ends.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {(name: string, data: string) => void} each
 */
async function events(stream, each) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let name = "";
  let data = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const whole of lines) {
      const line = whole.endsWith("\r") ? whole.slice(0, -1) : whole;
      if (line === "") {
        if (data) each(name || "message", data);
        name = data = "";
      } else if (line.startsWith("event:")) {
        name = line.slice(6).trim();
      } else if (line.startsWith("data:")) {
        data += (data ? "\n" : "") + line.slice(5).replace(/^ /, "");
      }
    }
  }
}

/**
 * Listens for as long as the page lives.
 * @param {import("./types").LiveEvents} to
 */
export function listen(to) {
  /** @type {AbortController | null} */
  let running = null;
  let wait_ms = FIRST_MS;
  let timer = 0;
  let silence = 0;
  let hidden = 0;

  const heard = () => {
    clearTimeout(silence);
    silence = window.setTimeout(() => running?.abort(), SILENCE_MS);
  };

  /** @param {string} name @param {string} data */
  const dispatch = (name, data) => {
    heard();
    let value;
    try {
      value = JSON.parse(data);
    } catch {
      return; // A broken event is one second less in a chart.
    }
    if (name === "sample") to.sample(api.sample(value));
    else if (name === "history") to.history(api.history(value));
    else if (name === "state") to.state(api.state(value));
    else if (name === "titles") to.titles(Number(value?.version) || 0);
  };

  const start = async () => {
    clearTimeout(timer);
    const mine = (running = new AbortController());
    /** @type {import("./types").Connection} */
    let ending = { state: "lost", retry_s: null };
    try {
      heard();
      const response = await fetch("/-/live", {
        headers: { accept: "text/event-stream" },
        cache: "no-store",
        signal: mine.signal,
      });
      if (response.status === 503) {
        const asked = Number(response.headers.get("retry-after"));
        ending = { state: "full", retry_s: asked > 0 ? Math.min(asked, 600) : 10 };
      } else if (response.ok && response.body) {
        to.connection({ state: "open", retry_s: null });
        await events(response.body, (name, data) => {
          wait_ms = FIRST_MS;
          dispatch(name, data);
        });
      }
    } catch {
      // A broken stream and a refused connection end the same way: with the next try.
    }
    if (running !== mine) return; // Stopped on purpose.
    clearTimeout(silence);
    running = null;
    to.connection(ending);
    // A fifth more or less, or all pages of a house would come back in the same second.
    const pause = (ending.retry_s === null ? wait_ms : ending.retry_s * 1000) * (0.8 + 0.4 * Math.random());
    timer = window.setTimeout(start, ending.retry_s === null ? pause : Math.max(pause, ending.retry_s * 1000));
    wait_ms = Math.min(wait_ms * 2, LONGEST_MS);
  };

  const stop = () => {
    clearTimeout(timer);
    clearTimeout(silence);
    const last = running;
    running = null;
    last?.abort();
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = window.setTimeout(stop, HIDDEN_MS);
    else if (!running) start();
  });
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted && !running) start();
  });
  start();
}
