//! Memory of recent purges, on disk too, so that a restart forgets none.
//!
//! Names and surrogate keys are kept as hashes with the time of their newest purge, prefixes and patterns as texts. The file
//! `recent-purges` in the store's folder has a line for each, appended before the purge is acknowledged:
//!
//! ```text
//! SKYPURGES 1
//! 1796070064170 n 2b1c0011aabbccdd      a name: the first 64 bits of the SHA-256 of its key
//! 1796070064171 k 9f86d0                a surrogate key: its hash
//! 1796070064172 p "cdn.example.com/vod/"
//! 1796070064173 m "cdn.example.com/*.mpd"
//! 1796070064174 f                       purges up to here may be missing
//! ```
//!
//! A file that has grown to twice what is remembered is rewritten. Lines that cannot be read are skipped: the last one, torn by a
//! power cut, was never acknowledged. Purges of an earlier run count as made at this start, whatever their times are, unless they seem
//! older than a day: the clock may have been wrong. Where the file itself cannot be read, nothing that is older than the start is taken for new.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use carousel::digest::{Digest, from_hex, to_hex};
use carousel::time::WallTime;

use super::super::file::append_lines;
use super::super::{ObjectMeta, lock};
use super::Selection;
use crate::caching::SurrogateHash;
use crate::{clock, sys};

carousel::limits! {
    /// Purged names and surrogate keys that are remembered.
    const MAX_EXACT: usize = 1 << 17, "names and keys" {
        why: "Each takes some 50 bytes; 18 purges a second for two hours.",
        full: "The older half is forgotten, and nothing that a parent has held since before is kept.",
        free: "Two hours after the purge, when the room is needed.",
        test: "what_is_older_than_a_forgotten_purge_is_not_kept",
    }

    /// Purged prefixes and patterns that are remembered.
    const MAX_WIDE: usize = 4096, "prefixes and patterns" {
        why: "An object of a parent is compared with those since it was made: 50 ns each.",
        full: "The oldest is forgotten, and nothing that a parent has held since before is kept.",
        free: "Two hours after the purge, when the room is needed.",
        test: "what_is_older_than_a_forgotten_purge_is_not_kept",
    }

    /// Texts of all remembered prefixes and patterns.
    const MAX_WIDE_BYTES: usize = 1 << 20, "bytes" {
        why: "256 bytes each, were there as many as may be; one request may have half of it.",
        full: "As for their number.",
        free: "As for their number.",
        test: "long_patterns_take_no_more_than_their_bytes",
    }

    /// File of remembered purges.
    const MAX_FILE_BYTES: u64 = 32 << 20, "bytes" {
        why: "What may be remembered has at most 11 MiB, escapes included, and the file is twice that before it is rewritten.",
        full: "It is not ours: nothing that is older than the start is taken for new.",
        free: "It is rewritten at the start.",
        test: "a_file_that_cannot_be_read_makes_everything_older_suspect",
    }
}

/// Time within which a purge reaches all caches, in milliseconds: a shield that was away for an hour hands out what it held until
/// it has read the purges that it missed.
pub(super) const LATELY_MS: i64 = 2 * 3_600_000;

/// Age, by the clock, from which lines of the file are skipped: the clock may have been wrong when they were written, or be wrong now.
const FILE_AGE_MS: i64 = 24 * 3_600_000;

const FILE: &str = "recent-purges";
const HEAD: &str = "SKYPURGES 1";
/// Bytes beyond twice what is remembered at which the file is rewritten.
const SLACK_BYTES: u64 = 64 << 10;

/// Name of one object, or of a group that an origin has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Exact {
    Name([u8; 8]),
    Key(SurrogateHash),
}

impl Exact {
    fn of_name(key: &str) -> Self {
        let digest = Digest::of(key.as_bytes()).0;
        Self::Name(std::array::from_fn(|at| digest[at]))
    }
}

/// Remembered purges.
#[derive(Debug, Default)]
struct Recent {
    exact: HashMap<Exact, WallTime>,
    /// Prefixes and patterns, oldest first.
    wide: VecDeque<(WallTime, Selection)>,
    /// Bytes of their texts.
    wide_bytes: usize,
    /// Time of the newest purge, and of the newest by a surrogate key.
    newest: Option<WallTime>,
    newest_key: Option<WallTime>,
    /// Time of the newest purge that may be missing.
    forgotten: Option<WallTime>,
    /// Purges forgotten for want of room, since the start.
    displaced: u64,
}

impl Recent {
    /// Remembers a purge. Times ascend, but for those of an earlier run.
    fn insert(&mut self, at: WallTime, selection: Selection) {
        self.newest = self.newest.max(Some(at));
        let exact = match selection {
            Selection::Name(key) => Exact::of_name(key.as_str()),
            Selection::SurrogateKey(hash) => Exact::Key(hash),
            Selection::Prefix(_) | Selection::Pattern(_) => return self.insert_wide(at, selection),
        };
        self.insert_exact(at, exact);
    }

    fn insert_exact(&mut self, at: WallTime, exact: Exact) {
        self.newest = self.newest.max(Some(at));
        if matches!(exact, Exact::Key(_)) {
            self.newest_key = self.newest_key.max(Some(at));
        }
        if self.exact.len() >= MAX_EXACT && !self.exact.contains_key(&exact) {
            self.make_room();
        }
        let known = self.exact.entry(exact).or_insert(at);
        *known = at.max(*known);
    }

    /// Remembers a prefix or pattern once, with the time of its newest purge.
    fn insert_wide(&mut self, mut at: WallTime, selection: Selection) {
        let known = self.wide.iter().position(|(_, it)| *it == selection);
        if let Some((before, known)) = known.and_then(|it| self.wide.remove(it)) {
            self.wide_bytes -= text_of(&known).len();
            at = at.max(before);
        }
        let oldest = clock::steady().plus_ms(-LATELY_MS);
        self.wide_bytes += text_of(&selection).len();
        self.wide.push_back((at, selection));
        while self.wide.len() > MAX_WIDE || self.wide_bytes > MAX_WIDE_BYTES {
            let Some((at, selection)) = self.wide.pop_front() else { break };
            self.wide_bytes -= text_of(&selection).len();
            // One that is too old to count takes no room; what is still being fetched may have been asked for before.
            self.forget(at, u64::from(clock::current(at) >= oldest));
        }
    }

    /// Forgets what is too old to count, or the older half.
    fn make_room(&mut self) {
        let oldest = clock::steady().plus_ms(-LATELY_MS);
        let mut newest_gone = None;
        self.exact.retain(|_, at| {
            let is_recent = clock::current(*at) >= oldest;
            newest_gone = if is_recent { newest_gone } else { newest_gone.max(Some(*at)) };
            is_recent
        });
        // What is still being fetched may have been asked for before.
        self.forgotten = self.forgotten.max(newest_gone);
        if self.exact.len() < MAX_EXACT / 2 {
            return;
        }
        let mut times: Vec<WallTime> = self.exact.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let before = self.exact.len();
        self.exact.retain(|_, at| *at > median);
        self.forget(median, (before - self.exact.len()) as u64);
    }

    fn forget(&mut self, at: WallTime, count: u64) {
        self.forgotten = self.forgotten.max(Some(at));
        self.displaced += count;
    }

    /// Whether a purge since then selects an object, or may have.
    fn select_since(&self, meta: &ObjectMeta, since: WallTime) -> bool {
        let is_since = |at: &WallTime| clock::current(*at) >= since;
        if self.forgotten.as_ref().is_some_and(is_since) {
            return true;
        }
        if !self.newest.as_ref().is_some_and(is_since) {
            return false;
        }
        let key = meta.key.as_str();
        // Further objects of a name (`#1` …) are selected with it.
        let name = Exact::of_name(key.split('#').next().unwrap_or(key));
        if self.exact.get(&name).is_some_and(is_since) {
            return true;
        }
        let keys = meta.response.as_ref().map(|it| &it.surrogate_keys);
        let by_key = keys.is_some_and(|keys| match keys.hashes() {
            Some(mut hashes) => hashes.any(|it| self.exact.get(&Exact::Key(it)).is_some_and(is_since)),
            None => self.newest_key.as_ref().is_some_and(is_since),
        });
        by_key || self.wide.iter().rev().take_while(|(at, _)| is_since(at)).any(|it| it.1.selects(key, keys))
    }

    /// Contents of the file: what is not too old to count.
    fn text(&self) -> String {
        let oldest = clock::steady().plus_ms(-LATELY_MS);
        let is_recent = |at: &WallTime| clock::current(*at) >= oldest;
        let mut text = format!("{HEAD}\n");
        if let Some(at) = self.forgotten.filter(is_recent) {
            let _ = writeln!(text, "{} f", at.unix_ms());
        }
        for (exact, at) in self.exact.iter().filter(|it| is_recent(it.1)) {
            push_exact(&mut text, *at, *exact);
        }
        for (at, selection) in self.wide.iter().filter(|it| is_recent(&it.0)) {
            push_line(&mut text, *at, selection);
        }
        text
    }

    /// Remembers what the lines of the file say, with this start as the time of their purges.
    fn read<'a>(&mut self, lines: impl Iterator<Item = &'a str>, now: WallTime) {
        // With their own times at first, so that the oldest make room; at the start none of them counts as a loss twice.
        let mut missing = None;
        lines.for_each(|line| self.read_line(line, now, &mut missing));
        // Purges at the same time may have been written in another order.
        self.wide.make_contiguous().sort_by_key(|(at, _)| *at);
        self.exact.values_mut().chain(self.wide.iter_mut().map(|it| &mut it.0)).for_each(|at| *at = now);
        for at in [&mut self.newest, &mut self.newest_key, &mut self.forgotten] {
            *at = at.map(|_| now);
        }
        // Renewed at each start, it would never end.
        self.forgotten = self.forgotten.max(missing);
    }

    /// Remembers what a line of the file says; `missing`: time up to which purges may be missing.
    fn read_line(&mut self, line: &str, now: WallTime, missing: &mut Option<WallTime>) {
        let mut parts = line.splitn(3, ' ');
        let (Some(at), Some(kind), value) = (parts.next(), parts.next(), parts.next().unwrap_or_default())
        else {
            return;
        };
        let Ok(at) = at.parse() else { return };
        let at = WallTime::from_unix_ms(at);
        // The date was not known then, or is behind it now: it was at the latest now.
        let at = if clock::is_unknown(at) { now } else { at.min(now) };
        if at < now.plus_ms(-FILE_AGE_MS) {
            return;
        }
        let text = || serde_json::from_str::<String>(value).ok();
        match kind {
            "n" => {
                if let Some(hash) = from_hex(value).and_then(|it| it.try_into().ok()) {
                    self.insert_exact(at, Exact::Name(hash));
                }
            }
            "k" => {
                if let Some(hash) = SurrogateHash::from_text(value) {
                    self.insert_exact(at, Exact::Key(hash));
                }
            }
            "p" => text().into_iter().for_each(|it| self.insert(at, Selection::Prefix(it))),
            "m" => text().into_iter().for_each(|it| self.insert(at, Selection::Pattern(it))),
            "f" => *missing = (*missing).max(Some(at)),
            _ => {}
        }
    }
}

/// Text of a prefix or pattern.
fn text_of(selection: &Selection) -> &str {
    match selection {
        Selection::Prefix(text) | Selection::Pattern(text) => text,
        Selection::Name(_) | Selection::SurrogateKey(_) => "",
    }
}

fn push_exact(text: &mut String, at: WallTime, exact: Exact) {
    let at = at.unix_ms();
    let _ = match exact {
        Exact::Name(hash) => writeln!(text, "{at} n {}", to_hex(&hash)),
        Exact::Key(hash) => writeln!(text, "{at} k {}", hash.to_text()),
    };
}

fn push_line(text: &mut String, at: WallTime, selection: &Selection) {
    let quoted = |it: &String| serde_json::Value::from(it.as_str());
    let _ = match selection {
        Selection::Name(key) => return push_exact(text, at, Exact::of_name(key.as_str())),
        Selection::SurrogateKey(hash) => return push_exact(text, at, Exact::Key(*hash)),
        Selection::Prefix(it) => writeln!(text, "{} p {}", at.unix_ms(), quoted(it)),
        Selection::Pattern(it) => writeln!(text, "{} m {}", at.unix_ms(), quoted(it)),
    };
}

/// The file.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Its length; 0: there is none.
    bytes: u64,
    /// Its length when it was last written as a whole.
    live_bytes: u64,
}

impl Log {
    fn append(&mut self, lines: &str) -> io::Result<()> {
        self.bytes += append_lines(&self.path, HEAD, self.bytes == 0, lines)?;
        Ok(())
    }
}

/// Recent purges in memory and in their file; says whether an object that arrives was purged after it was sent.
#[derive(Debug)]
pub(super) struct PurgeMemory {
    recent: Mutex<Recent>,
    /// Locked before `recent`; held while it waits for the disk.
    log: Mutex<Log>,
}

impl PurgeMemory {
    /// Purges of earlier runs in the store's folder.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let mut recent = Recent::default();
        let now = clock::steady();
        let (mut bytes, mut live_bytes) = (0, 0);
        let mut is_rewritten = false;
        match read(&path) {
            Ok(Some(text)) => {
                recent.read(text.lines().skip(1), now);
                (bytes, live_bytes) = (text.len() as u64, recent.text().len() as u64);
                // More than there is room for: the next start would miss as much again.
                is_rewritten = std::mem::take(&mut recent.displaced) > 0;
            }
            Ok(None) => {}
            Err(err) => {
                tracing::warn!(file = %path.display(), %err, "the purges before this start cannot be read: what parents have held since before is not kept for two hours");
                recent.forgotten = Some(now);
                // Rewritten at once, or with the next purge.
                (bytes, is_rewritten) = (MAX_FILE_BYTES, true);
            }
        }
        if is_rewritten {
            // Otherwise the next start would have to distrust all that is older than itself.
            let text = recent.text();
            match sys::replace(&path, text.as_bytes()) {
                Ok(()) => (bytes, live_bytes) = (text.len() as u64, text.len() as u64),
                Err(err) => {
                    tracing::warn!(file = %path.display(), %err, "the purges that are remembered cannot be rewritten");
                }
            }
        }
        Self { recent: Mutex::new(recent), log: Mutex::new(Log { path, bytes, live_bytes }) }
    }

    /// Remembers purges; returns their lines for [`PurgeMemory::write`].
    pub(super) fn remember<'a>(&self, selections: impl Iterator<Item = &'a Selection>) -> String {
        let mut recent = lock(&self.recent);
        let mut lines = String::new();
        for selection in selections {
            // Under the lock, so that times ascend.
            let at = clock::steady();
            push_line(&mut lines, at, selection);
            recent.insert(at, selection.clone());
        }
        lines
    }

    /// Writes lines to the file. Waits for the disk: once for each purge, of the purge topic too, and also where no parents are
    /// configured now, since a later start may have some.
    ///
    /// # Errors
    /// Those of the system: a restart forgets these purges.
    pub(super) fn write(&self, lines: &str) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut log = lock(&self.log);
        if log.bytes + (lines.len() as u64) < 2 * log.live_bytes + SLACK_BYTES {
            let appended = log.append(lines);
            if appended.is_err() {
                // Half a line, or half of the first one, may be there.
                log.bytes = MAX_FILE_BYTES;
            }
            return appended;
        }
        // What is in `lines` is remembered by now.
        let text = lock(&self.recent).text();
        sys::replace(&log.path, text.as_bytes())?;
        log.bytes = text.len() as u64;
        log.live_bytes = log.bytes;
        Ok(())
    }

    /// Whether an object that was requested at `asked_at` was purged since.
    pub(super) fn has_purged(&self, meta: &ObjectMeta, asked_at: WallTime) -> bool {
        lock(&self.recent).select_since(meta, clock::current(asked_at))
    }

    /// Whether an object that was made at `made_at` was purged since, within [`LATELY_MS`].
    pub(super) fn has_purged_lately(&self, meta: &ObjectMeta, made_at: WallTime) -> bool {
        let since = clock::current(made_at).max(clock::steady().plus_ms(-LATELY_MS));
        lock(&self.recent).select_since(meta, since)
    }

    /// Remembered purges, and those that were forgotten for want of room.
    pub(super) fn counts(&self) -> (u64, u64) {
        let recent = lock(&self.recent);
        ((recent.exact.len() + recent.wide.len()) as u64, recent.displaced)
    }
}

/// The file; `None`: there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let is_ours = bytes.starts_with(format!("{HEAD}\n").as_bytes()) && bytes.len() as u64 <= MAX_FILE_BYTES;
    if !is_ours {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not in the format of this release"));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
