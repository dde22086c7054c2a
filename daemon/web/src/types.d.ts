// The shapes that several modules share: what the daemon answers (after `api.js` has looked at it) and what the modules of
// the page want of each other. No code.

/** A text in several languages, by language tag; "und" where the language is unknown. */
export type Texts = Record<string, string>;

export interface Programme {
  id: string | null;
  title: Texts;
  episode: Texts;
  synopsis: Texts;
  start_ms: number;
  end_ms: number;
  genres: string[];
  minimum_age: number | null;
  image: string | null;
}

/** One way to play a title. `url` is a path of this box, or the instance would not be here. */
export interface Instance {
  type: string;
  url: string;
  way: string;
}

export type Kind = "linear" | "radio" | "ondemand" | "data" | "other" | "file";

/** What tells a title from others. */
export interface TitleHead {
  id: string;
  number: number | null;
  name: Texts;
  logo: string | null;
  type: Kind;
  minimum_age: number | null;
}

export interface Title extends TitleHead {
  description: Texts;
  banner: string | null;
  genres: string[];
  picture: string | null;
  available: boolean;
  duration_s: number | null;
  held: number | null;
  play: Instance[];
  others: string[];
  now: Programme | null;
  next: Programme | null;
}

export interface TitlesPage {
  version: number;
  players: boolean;
  name: string;
  total: number;
  offset: number;
  titles: Title[];
  messages: string[];
}

/** A channel of the guide. */
export interface GuideRow extends TitleHead {
  events: Programme[];
}

export interface GuidePage {
  version: number;
  total: number;
  offset: number;
  channels: GuideRow[];
}

/** A programme that a search has found. */
export interface FoundProgramme {
  channel: TitleHead;
  event: Programme;
}

/** Where somebody stopped watching a title on demand. */
export interface Stop {
  id: string;
  at_s: number;
  length_s: number;
  seen_ms: number;
}

/** One second of the box's life. */
export interface Sample {
  at_ms: number;
  receive_bps: number;
  packets: number;
  lost: number;
  recovered: number;
  repair_bps: number;
  players_bps: number;
  connections: number;
  hits: number;
  misses: number;
  flash_bps: number;
}

export interface Signal {
  locked: boolean | null;
  snr_db: number | null;
}

/** What changes slowly, every five seconds. */
export interface State {
  name: string;
  version: string;
  uptime_s: number;
  messages: string[];
  cache: {
    objects: number;
    bytes: number;
    quota_bytes: number;
    hit_ratio: number | null;
    in_flight: number;
    disk: string;
  };
  flash: { written_today_bytes: number; budget_bytes: number | null; life_years: number | null };
  receive: { groups: number };
  repair: { requests: number; bytes: number; objects: number };
  signal: Signal[];
}

/** How the stream of live data is doing. `retry_s` is there when the box has named a time to come back. */
export type Connection = { state: "open" | "lost" | "full"; retry_s: number | null };

export interface LiveEvents {
  history(samples: Sample[]): void;
  sample(sample: Sample): void;
  state(state: State): void;
  titles(version: number): void;
  connection(connection: Connection): void;
}

export type Direction = "up" | "down" | "left" | "right";

/** A track that can be chosen while playing: audio or subtitles. `id` -1 is "none". */
export interface Track {
  id: number;
  label: string;
  lang: string;
}

/** What the player view wants of hls.js, dash.js or the browser itself. */
export interface Engine {
  /** Pictures to choose from; `id` -1 is "automatic". */
  qualities(): Track[];
  currentQuality(): number;
  setQuality(id: number): void;
  /** The picture that is shown now, for people; empty where it is not known. */
  shownQuality(): string;
  audio(): Track[];
  currentAudio(): number;
  setAudio(id: number): void;
  subtitles(): Track[];
  currentSubtitles(): number;
  setSubtitles(id: number): void;
  /** Where live is, in the time of the video element; null for what is not live, or where the engine does not know. */
  liveEdge(): number | null;
  /** It plays as soon as it can, and must not be asked before. */
  startsAlone?: boolean;
  destroy(): void;
}

/** Starts `url` in `video`; `failed` is called once, with a text for people, when there is no going on. */
export type StartEngine = (
  video: HTMLVideoElement,
  url: string,
  failed: (why: string) => void,
) => Promise<Engine>;

/** A view on top of the list, such as the player. */
export interface View {
  element: HTMLDialogElement;
  /** Called when the view goes away, by whatever key. */
  closed(): void;
  /** A key that the view wants before everybody else; true if it has dealt with it. */
  key?(action: string, event: KeyboardEvent): boolean;
}
