//! The newest lines of the daemon's log, for `GET /api/v1/logs` and the operator's page.
//!
//! The same lines as in the log: filtered by the level of `[log]`, without playback tokens. Process-wide, as the log is.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use carousel::limits::cut;
use carousel::time::Instant;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::access::redacted;
use crate::clock;

carousel::limits! {
    /// Lines of the log that are kept in memory.
    pub const MAX_LOG_LINES: usize = 1000, "lines" {
        why: "A quiet day at level info; a line has 200 bytes on average, and 2 KiB at most.",
        full: "The oldest line is forgotten; the log itself has it. Lines are numbered, so that readers see that some are gone.",
        free: "With every line.",
        test: "the_newest_lines_are_kept_and_numbered",
    }
}

/// Bytes of a message, and of all its fields together; what is longer is cut.
const MAX_TEXT_BYTES: usize = 1024;

/// Levels from the worst on, as the configuration and the interface name them.
const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];

/// The level of a name.
pub fn level(name: &str) -> Option<Level> {
    LEVELS.iter().find(|(_, it)| *it == name).map(|(level, _)| *level)
}

/// Place in [`LEVELS`].
fn place(level: Level) -> usize {
    LEVELS.iter().position(|(it, _)| *it == level).unwrap_or(0)
}

/// One line.
#[derive(Debug)]
pub struct Line {
    /// Its place among all lines since the start, from 1 on.
    number: u64,
    at_ms: i64,
    level: Level,
    target: &'static str,
    text: Text,
}

impl Line {
    /// For the interface.
    pub fn to_json(&self) -> Value {
        let fields: Map<String, Value> =
            self.text.fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "number": self.number, "at_ms": self.at_ms, "level": LEVELS[place(self.level)].1, "target": self.target,
            "message": self.text.message, "fields": fields,
        })
    }
}

/// Message and fields of an event.
#[derive(Debug, Default)]
struct Text {
    message: String,
    fields: Vec<(&'static str, String)>,
    /// Text of the fields.
    bytes: usize,
}

impl Text {
    fn put(&mut self, field: &Field, text: &str) {
        let text = redacted(text);
        if field.name() == "message" {
            cut(&text, MAX_TEXT_BYTES).clone_into(&mut self.message);
            return;
        }
        let text = cut(&text, MAX_TEXT_BYTES - self.bytes);
        self.bytes += text.len();
        self.fields.push((field.name(), text.to_owned()));
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// The newest lines, and the number of lines of each level.
#[derive(Debug)]
pub struct Lines {
    kept: Mutex<VecDeque<Arc<Line>>>,
    counts: [AtomicU64; LEVELS.len()],
}

impl Lines {
    const fn new() -> Self {
        Self { kept: Mutex::new(VecDeque::new()), counts: [const { AtomicU64::new(0) }; LEVELS.len()] }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Line>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, level: Level, target: &'static str, text: Text) {
        self.counts[place(level)].fetch_add(1, Relaxed);
        let at_ms = clock::wall().unix_ms();
        let mut kept = self.kept();
        let number = kept.back().map_or(1, |it| it.number + 1);
        if kept.len() >= MAX_LOG_LINES {
            kept.pop_front();
        }
        kept.push_back(Arc::new(Line { number, at_ms, level, target, text }));
    }

    /// The newest `most` lines after the one of the number `since` that are as bad as `least` or worse, the oldest first; and the
    /// number of the newest line of all.
    pub fn since(&self, since: u64, least: Level, most: usize) -> (Vec<Arc<Line>>, u64) {
        let kept = self.kept();
        let newest = kept.back().map_or(0, |it| it.number);
        let later = kept.iter().rev().take_while(|it| it.number > since);
        let mut lines: Vec<_> = later.filter(|it| it.level <= least).take(most).map(Arc::clone).collect();
        drop(kept);
        lines.reverse();
        (lines, newest)
    }

    /// Lines since the start, by level.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LEVELS.iter().zip(&self.counts).map(|((_, name), count)| (*name, count.load(Relaxed)))
    }
}

/// Lines of one kind in a second that are written one by one.
const LINES_PER_SECOND: u64 = 20;

/// Limit of the lines of one kind that others cause: packets from the air, messages of a topic.
#[derive(Debug, Default)]
pub struct LineLimit {
    second: AtomicU64,
    lines: AtomicU64,
}

impl LineLimit {
    /// None written so far.
    pub const fn new() -> Self {
        Self { second: AtomicU64::new(0), lines: AtomicU64::new(0) }
    }

    /// Whether one more line may be written now. `left_out` is called with the number of lines that were not written in an
    /// earlier second.
    pub fn admits(&self, now: Instant, left_out: impl FnOnce(u64)) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second.swap(second, Relaxed) != second {
            let before = self.lines.swap(0, Relaxed);
            if before > LINES_PER_SECOND {
                left_out(before - LINES_PER_SECOND);
            }
        }
        self.lines.fetch_add(1, Relaxed) < LINES_PER_SECOND
    }
}

static LINES: Lines = Lines::new();

/// The lines of the process.
pub fn lines() -> &'static Lines {
    &LINES
}

/// The layer of the log that keeps its lines.
#[derive(Debug, Clone, Copy)]
pub struct Recorder(&'static Lines);

/// For the log of the process.
pub fn recorder() -> Recorder {
    Recorder(&LINES)
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Writing the text may log something itself: nothing is locked meanwhile.
        let mut text = Text::default();
        event.record(&mut text);
        self.0.push(*event.metadata().level(), event.metadata().target(), text);
    }
}

/// Records the lines that `log` writes.
#[cfg(test)]
pub(crate) fn logged(log: impl FnOnce()) -> &'static Lines {
    use tracing_subscriber::prelude::*;
    let lines: &'static Lines = Box::leak(Box::new(Lines::new()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Recorder(lines)), log);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_numbered() {
        let lines = logged(|| {
            for number in 0..MAX_LOG_LINES + 5 {
                tracing::info!(number, "line");
            }
        });
        let (kept, newest) = lines.since(0, Level::TRACE, usize::MAX);
        assert_eq!((kept.len(), kept[0].number, newest), (MAX_LOG_LINES, 6, MAX_LOG_LINES as u64 + 5));
        assert_eq!(kept[0].to_json()["fields"], json!({ "number": "5" }));
        assert_eq!(lines.counts().find(|(level, _)| *level == "info").unwrap().1, newest);
        // As a page asks that has all but two.
        let (later, _) = lines.since(newest - 2, Level::TRACE, usize::MAX);
        assert_eq!(later.iter().map(|it| it.number).collect::<Vec<_>>(), [newest - 1, newest]);
        assert_eq!(lines.since(newest, Level::TRACE, 1).0.len(), 0);
        assert_eq!(lines.since(0, Level::TRACE, 1).0[0].number, newest, "the newest, not the oldest");
    }

    #[test]
    fn lines_of_one_kind_are_limited_in_each_second_and_the_others_counted() {
        let limit = LineLimit::new();
        let mut left_out = Vec::new();
        let mut written = 0;
        for ms in (1000..3000).map(|at| at / 2 * 2) {
            let now = Instant::from_nanos(ms * 1_000_000);
            written += u64::from(limit.admits(now, |count| left_out.push(count)));
        }
        assert_eq!((written, &left_out[..]), (2 * LINES_PER_SECOND, &[1000 - LINES_PER_SECOND][..]));
        // The next line reports what was left out, however much later it comes.
        let later = Instant::from_nanos(100_000_000_000);
        assert!(limit.admits(later, |count| left_out.push(count)));
        assert_eq!(left_out[1..], [1000 - LINES_PER_SECOND]);
        assert!(limit.admits(later + std::time::Duration::from_secs(1), |_| panic!("nothing was left out")));
    }

    #[test]
    fn a_level_has_what_is_worse_too() {
        let lines = logged(|| {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::debug!("d");
        });
        let of = |least| {
            let (lines, newest) = lines.since(0, level(least).unwrap(), 9);
            assert_eq!(newest, 3, "whatever is left out");
            lines.iter().map(|it| it.text.message.clone()).collect::<String>()
        };
        assert_eq!(
            (of("error"), of("warn"), of("info"), of("trace")),
            ("e".into(), "ew".into(), "ew".into(), "ewd".into())
        );
        assert!(level("WARN").is_none());
    }

    #[test]
    fn tokens_are_left_out_and_long_lines_are_cut() {
        let lines = logged(|| {
            let long = "ä".repeat(MAX_TEXT_BYTES);
            tracing::warn!(uri = %"/vod/1?sktoken=secret&x=1", url = "/sktoken=secret/a", "GET /sktoken=secret/vod");
            tracing::warn!(long, other = "gone", "{long}");
        });
        let lines: Vec<Value> = lines.since(0, Level::TRACE, 9).0.iter().map(|it| it.to_json()).collect();
        assert_eq!(lines[0]["message"], "GET /sktoken=…/vod");
        assert_eq!(lines[0]["fields"], json!({ "uri": "/vod/1?sktoken=…&x=1", "url": "/sktoken=…/a" }));
        assert!(!lines[0].to_string().contains("secret"));
        assert_eq!(lines[1]["message"].as_str().unwrap().len(), MAX_TEXT_BYTES);
        assert_eq!(lines[1]["fields"]["long"].as_str().unwrap().len(), MAX_TEXT_BYTES);
        assert_eq!(lines[1]["fields"]["other"], "");
    }
}
