//! Quality of experience: reports of players, written as rows for a table of all boxes.
//!
//! ```text
//! HTTP workers ─▶ Inbox ─▶ thread: report ─▶ session ─▶ row ─▶ Spool ─▶ Kafka
//!              (bounded)           cmcd.rs   session.rs  row.rs  spool.rs
//! ```
//!
//! Workers only copy reports; this thread does everything else. Reports that do not fit are dropped and counted: playback never
//! waits for its measurement.

pub mod cmcd;
mod row;
mod session;
mod spool;
#[cfg(test)]
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use carousel::reason::Counts;
use carousel::time::{Instant, WallTime};
use tokio::sync::Notify;

use crate::clock;
use crate::vitals::{self, Vitals};

pub use row::{COLUMNS, Column, Names};
pub use session::Mode;
pub use spool::{Batch, Spool};

use cmcd::Report;
use row::Cell;
use session::{Sessions, whole};

carousel::limits! {
    /// Reports of workers that wait for the thread.
    const MAX_WAITING: usize = 16_384, "reports" {
        why: "Each takes about 1 KB; at 10,000 a second a disk may block for over a second.",
        full: "The report is dropped as `busy`; an event's POST is answered with 503.",
        free: "When the thread has written it.",
        test: "what_finds_no_room_is_counted",
    }

    /// Bytes of all reports that wait.
    const MAX_WAITING_BYTES: usize = 32 << 20, "bytes" {
        why: "Reports of 1 KB, twice as many as may wait; a POST of events may have 256 KiB.",
        full: "The report is dropped as `busy`; an event's POST is answered with 503.",
        free: "When the thread has taken it.",
        test: "what_finds_no_room_is_counted",
    }

    /// Reports of one POST.
    const MAX_REPORTS: usize = 1024, "reports" {
        why: "Players send batches of a few; each becomes a row of up to 1 KB, however short it is.",
        full: "The others are dropped as `too_large`.",
        free: "Holds for one POST.",
        test: "many_short_reports_become_no_more_rows_than_long_ones",
    }

    /// Name of a session.
    const MAX_SESSION_ID_BYTES: usize = 256, "bytes" {
        why: "CTA-5004 has 64 characters.",
        full: "The report counts as `no_session`.",
        free: "Holds for one report.",
        test: "many_short_reports_become_no_more_rows_than_long_ones",
    }

    /// Body of one POST of events.
    pub const MAX_EVENTS_BYTES: usize = 256 << 10, "bytes" {
        why: "A report takes some 300 bytes, and players send batches of a few.",
        full: "The POST is answered with 413, and counted as `too_large`.",
        free: "Holds for one POST.",
        test: "events_are_posted_by_players",
    }

    /// One report of an event.
    const MAX_LINE_BYTES: usize = 16 << 10, "bytes" {
        why: "A report with every key of version 2 takes 2 KB.",
        full: "The report is dropped as `too_large`.",
        free: "Holds for one report.",
        test: "reports_become_rows",
    }
}

/// Bytes and time after which rows are written to disk.
const GATHER_BYTES: usize = 64 << 10;
const GATHER_FOR: Duration = Duration::from_millis(100);
/// Greatest difference between a player's clock and ours at which its time is used; beyond it, the time of arrival is.
const MAX_SKEW_MS: i64 = 86_400_000;

carousel::reasons! {
    /// Why a report of a player, or its row, was dropped or is not complete.
    pub enum QoeLoss in "qoe_lost" by "reason" {
        /// Too many reports wait: the disk is slow.
        Busy = "busy",
        /// Nothing in it could be read.
        Unreadable = "unreadable",
        /// A member of it could not be read; the row has the others.
        Member = "member",
        /// It is longer than a report may be, or one of too many in one POST.
        TooLarge = "too_large",
        /// It has come before, and is not counted again.
        Repeat = "repeat",
        /// It names no session: its row is written, and nothing is derived.
        NoSession = "no_session",
        /// The broker was away for so long that newer rows needed the room, or the disk took none.
        Oldest = "oldest",
        /// The broker takes no message as large as the row.
        Refused = "refused",
    }
}

/// Report of a player, as received.
#[derive(Debug)]
pub enum Incoming {
    /// With a request.
    Request(Box<Measured>),
    /// The body of a POST.
    Events {
        /// One report a line.
        body: Bytes,
        /// `User-Agent` of the player.
        user_agent: String,
        /// Time of its reception.
        at: WallTime,
    },
}

/// A request with a report.
#[derive(Debug)]
pub struct Measured {
    /// End of its response.
    pub at: WallTime,
    /// The report, decoded.
    pub report: String,
    /// Host and path.
    pub url: String,
    /// Of the response.
    pub status: u16,
    /// Of the body, sent.
    pub bytes: u64,
    /// Way in which it was served.
    pub cache: &'static str,
    /// Time to the head.
    pub head: Duration,
    /// Time to the end.
    pub total: Duration,
    /// Of the player.
    pub user_agent: String,
}

/// Counters.
#[derive(Debug, Default)]
pub struct QoeStats {
    /// Rows made.
    pub rows: AtomicU64,
    /// Rows that the broker has taken.
    pub sent: AtomicU64,
    /// Sessions that are tracked now.
    pub sessions: AtomicU64,
    /// Counters of losses.
    pub lost: Counts<QoeLoss>,
    /// Rows dropped by the spool, as of the last look.
    dropped: AtomicU64,
}

/// State that workers, the thread and the sender share.
#[derive(Debug)]
pub struct Qoe {
    inbox: SyncSender<Incoming>,
    spool: Mutex<Spool>,
    /// Rows have been added to the spool.
    pub added: Notify,
    /// Counters.
    pub stats: QoeStats,
    /// Bytes of the reports that wait for the thread.
    waiting_bytes: AtomicUsize,
}

impl Incoming {
    /// About as much memory as it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Request(it) => size_of::<Measured>() + it.report.len() + it.url.len() + it.user_agent.len(),
            Self::Events { body, user_agent, .. } => body.len() + user_agent.len(),
        }
    }
}

impl Qoe {
    /// Starts the thread, with a spool of at most `most_bytes` in the folder of the store.
    ///
    /// # Errors
    /// One line: what failed.
    pub fn start(
        store: &Path,
        most_bytes: u64,
        node: String,
        names: &BTreeMap<String, String>,
        vitals: &Vitals,
    ) -> Result<Arc<Self>, String> {
        let folder = spool::folder_in(store);
        let spool = Spool::open(folder.clone(), most_bytes).map_err(|err| {
            format!("{}: {err}; [store] path must be a folder that skycached may write", folder.display())
        })?;
        let (qoe, incoming) = Self::new(spool);
        let (own, names) = (Arc::clone(&qoe), Names::new(names));
        let sign = vitals.show("qoe".to_owned(), clock::now());
        let mut builder = RowBuilder { boot: fresh_boot(), node, names, ..RowBuilder::default() };
        let run = move || {
            let mut rows = Rows::default();
            // Time at which the oldest row of `rows` is written.
            let mut due: Option<Instant> = None;
            loop {
                let incoming = match due {
                    None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(due) => incoming.recv_timeout(due.since(clock::now())),
                };
                sign.give(clock::now());
                match incoming {
                    Ok(incoming) => {
                        own.taken(&incoming);
                        builder.take(incoming, clock::wall(), &own.stats, &mut rows);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return own.write(&mut rows),
                }
                // Reports that keep coming delay no row.
                let is_due = due.is_some_and(|due| clock::now() >= due);
                if is_due || rows.lines.len() >= GATHER_BYTES {
                    own.write(&mut rows);
                }
                due = (rows.count > 0).then(|| due.unwrap_or_else(|| clock::now() + GATHER_FOR));
            }
        };
        vitals::start("qoe", run).map_err(|err| format!("cannot start a thread: {err}"))?;
        Ok(qoe)
    }

    fn new(spool: Spool) -> (Arc<Self>, Receiver<Incoming>) {
        let (inbox, incoming) = sync_channel(MAX_WAITING);
        let (spool, added) = (Mutex::new(spool), Notify::new());
        let waiting_bytes = AtomicUsize::new(0);
        (Arc::new(Self { inbox, spool, added, stats: QoeStats::default(), waiting_bytes }), incoming)
    }

    /// Queues a report. False if there is no room.
    pub fn offer(&self, incoming: Incoming) -> bool {
        let bytes = incoming.bytes();
        let waiting = self.waiting_bytes.fetch_add(bytes, Relaxed);
        let has_room = waiting + bytes <= MAX_WAITING_BYTES && self.inbox.try_send(incoming).is_ok();
        if !has_room {
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.stats.lost.add(QoeLoss::Busy);
        }
        has_room
    }

    /// Records that a report has left the queue.
    fn taken(&self, incoming: &Incoming) {
        self.waiting_bytes.fetch_sub(incoming.bytes(), Relaxed);
    }

    /// The rows that wait. Each change of the spool is complete in itself, so a panic elsewhere leaves it usable.
    pub fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, rows: &mut Rows) {
        if rows.count == 0 {
            return;
        }
        let (written, dropped) = {
            let mut spool = self.spool();
            (spool.append(&rows.lines, rows.count), spool.dropped())
        };
        if let Err(err) = written {
            tracing::warn!(%err, rows = rows.count, "the disk takes no measurements of players");
        }
        let before = self.stats.dropped.swap(dropped, Relaxed);
        self.stats.lost.add_many(QoeLoss::Oldest, dropped - before);
        rows.lines.clear();
        rows.count = 0;
        self.added.notify_one();
    }
}

/// Distinguishes this run of this box from all others.
fn fresh_boot() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Rows that are collected.
#[derive(Debug, Default)]
struct Rows {
    lines: Vec<u8>,
    count: u64,
}

/// Makes rows of reports.
#[derive(Debug)]
struct RowBuilder {
    sessions: Sessions,
    names: Names,
    node: String,
    boot: u64,
    number: u64,
}

impl Default for RowBuilder {
    fn default() -> Self {
        let names = Names::new(&BTreeMap::new());
        Self { sessions: Sessions::default(), names, node: String::new(), boot: 0, number: 0 }
    }
}

/// Facts of a row that are not from the report.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    mode: Mode,
    at: WallTime,
    user_agent: &'a str,
    request: Option<&'a Measured>,
}

impl RowBuilder {
    fn take(&mut self, incoming: Incoming, now: WallTime, stats: &QoeStats, rows: &mut Rows) {
        match incoming {
            Incoming::Request(it) => {
                let frame =
                    Frame { mode: Mode::Request, at: it.at, user_agent: &it.user_agent, request: Some(&it) };
                self.report(&it.report, frame, now, stats, rows);
            }
            Incoming::Events { body, user_agent, at } => {
                let frame = Frame { mode: Mode::Event, at, user_agent: &user_agent, request: None };
                let lines =
                    body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty());
                for (at, line) in lines.enumerate() {
                    if line.len() > MAX_LINE_BYTES || at >= MAX_REPORTS {
                        stats.lost.add(QoeLoss::TooLarge);
                        continue;
                    }
                    self.report(&String::from_utf8_lossy(line), frame, now, stats, rows);
                }
            }
        }
        stats.sessions.store(self.sessions.count() as u64, Relaxed);
    }

    fn report(&mut self, text: &str, frame: Frame<'_>, now: WallTime, stats: &QoeStats, rows: &mut Rows) {
        let report = Report::read(text);
        if report.is_empty() {
            stats.lost.add(QoeLoss::Unreadable);
            return;
        }
        stats.lost.add_many(QoeLoss::Member, report.unread);
        let at = happened_at(&report, frame.at);
        let session = report.text("sid").filter(|it| (1..=MAX_SESSION_ID_BYTES).contains(&it.len()));
        let derived = match &session {
            Some(id) => self.sessions.take(id, &report, frame.mode, at.unix_ms(), now.unix_ms()),
            None => {
                stats.lost.add(QoeLoss::NoSession);
                session::Derived::default()
            }
        };
        if derived.is_repeat {
            stats.lost.add(QoeLoss::Repeat);
            return;
        }
        self.number += 1;
        stats.rows.fetch_add(1, Relaxed);
        rows.count += 1;
        let text = |key: &str| report.text(key).unwrap_or_default();
        let number = |key: &str| Cell::Integer(report.number(key).map_or(0, |it| u64::from(whole(it))));
        let ms = |it: Duration| Cell::Integer(u64::from(whole(it.as_secs_f64() * 1000.0)));
        let status = |it: f64| Cell::Integer(u64::from(whole(it).min(u32::from(u16::MAX))));
        let event_id = format!("{:016x}-{:x}", self.boot, self.number);
        let (content, event, url) = (text("cid"), text("e"), text("url"));
        let (object_type, stream_type, format) = (text("ot"), text("st"), text("sf"));
        let (state, error) = (text("sta"), text("ec"));
        let of_request = frame.request;
        let cells = [
            Cell::Text(&event_id),
            Cell::Time(at),
            Cell::Time(frame.at),
            Cell::Text(&self.node),
            Cell::Text(session.as_deref().unwrap_or_default()),
            Cell::Text(&content),
            Cell::Integer(u64::from(report.version())),
            Cell::Text(frame.mode.as_str()),
            Cell::Text(&event),
            Cell::Text(of_request.map_or_else(|| without_query(&url), |it| &it.url)),
            of_request.map_or_else(
                || status(report.number("rc").unwrap_or(0.0)),
                |it| Cell::Integer(it.status.into()),
            ),
            Cell::Integer(of_request.map_or(0, |it| it.bytes)),
            Cell::Text(of_request.map_or("", |it| it.cache)),
            of_request.map_or_else(|| number("ttfb"), |it| ms(it.head)),
            of_request.map_or_else(|| number("ttlb"), |it| ms(it.total)),
            Cell::Text(&object_type),
            Cell::Text(&stream_type),
            Cell::Text(&format),
            number("br"),
            number("tb"),
            number("bl"),
            number("mtp"),
            number("d"),
            number("ltc"),
            Cell::Float(report.number("pr").unwrap_or(1.0).clamp(-1000.0, 1000.0)),
            Cell::Text(&state),
            Cell::Integer(u64::from(report.flag("bs"))),
            Cell::Integer(u64::from(derived.stall_count)),
            Cell::Integer(u64::from(derived.stall_ms)),
            derived.startup_ms.map_or(Cell::Nothing, |ms| Cell::Integer(u64::from(ms))),
            Cell::Text(derived.basis),
            Cell::Text(&error),
            Cell::Text(frame.user_agent),
        ];
        row::write(&mut rows.lines, &self.names, &cells);
    }
}

/// Time of the event: by the player's clock, if that is close to ours.
fn happened_at(report: &Report, received_at: WallTime) -> WallTime {
    let received_ms = received_at.unix_ms();
    let said = report.number("ts").map(|it| it.round() as i64);
    let near = said.filter(|said| said.saturating_sub(received_ms).saturating_abs() <= MAX_SKEW_MS);
    near.map_or(received_at, WallTime::from_unix_ms)
}

/// A player may put credentials into a query.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: WallTime = WallTime::from_unix_ms(1_784_000_000_000);

    fn events(body: &str) -> Incoming {
        Incoming::Events {
            body: Bytes::copy_from_slice(body.as_bytes()),
            user_agent: "x".to_owned(),
            at: NOW,
        }
    }

    fn rows_of(all: Vec<Incoming>) -> (Vec<Value>, QoeStats) {
        let (stats, mut rows) = (QoeStats::default(), Rows::default());
        let mut builder = RowBuilder { node: "box".to_owned(), ..RowBuilder::default() };
        all.into_iter().for_each(|it| builder.take(it, NOW, &stats, &mut rows));
        let text = String::from_utf8(rows.lines).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stats)
    }

    /// A box that is cut off loses the rows of a tenth of a second, also while reports come in shorter intervals.
    #[test]
    fn rows_are_written_in_time_while_reports_keep_coming() {
        let folder = tempfile::tempdir().unwrap();
        let qoe = Qoe::start(folder.path(), 1 << 20, "box".to_owned(), &BTreeMap::new(), &Vitals::default())
            .unwrap();
        let mut offered = 0;
        // Far less than what is written for its size.
        while qoe.spool().rows() == 0 {
            assert!(offered < 60, "nothing is written while reports come");
            assert!(qoe.offer(events(&format!("e=ps,sid=\"s\",sta=p,sn={offered},v=2"))));
            offered += 1;
            std::thread::sleep(GATHER_FOR / 10);
        }
    }

    #[test]
    fn reports_become_rows() {
        let request = Incoming::Request(Box::new(Measured {
            at: NOW,
            report: "br=3200,bl=2500,ot=v,sid=\"s1\",pr=1.5".to_owned(),
            url: "cdn.example.com/v/1.m4s".to_owned(),
            status: 206,
            bytes: 7,
            cache: "hit",
            head: Duration::from_micros(2600),
            total: Duration::from_millis(9),
            user_agent: "player".to_owned(),
        }));
        let ts = NOW.unix_ms();
        let body = format!(
            "e=ps,sid=\"s2\",sta=s,sn=1,ts={ts},v=2\ne=ps,sid=\"s2\",sta=p,sn=2,ts={},v=2\r\n\n\
             e=ps,sid=\"s2\",sta=p,sn=2,ts={ts},v=2\ne=rr,rc=404,url=\"https://h/a?token=x\",ttfb=12.6,v=2\n=,=\n{}",
            ts + 1234,
            "a".repeat(MAX_LINE_BYTES + 1),
        );
        let (rows, stats) = rows_of(vec![request, events(&body)]);
        assert_eq!(rows.len(), 4, "{rows:?}");
        let of = |row: usize, name: &str| rows[row][name].clone();
        assert_eq!(
            (of(0, "bitrate_kbps"), of(0, "ttfb_ms"), of(0, "playback_rate")),
            (3200.into(), 3.into(), 1.5.into())
        );
        assert_eq!((of(0, "timestamp"), of(0, "mode")), ("2026-07-14 03:33:20.000".into(), "request".into()));
        assert_eq!((of(2, "startup_ms"), of(1, "startup_ms")), (1234.into(), Value::Null));
        assert_eq!(
            (of(3, "status"), of(3, "url"), of(3, "session_id"), of(3, "ttfb_ms")),
            (404.into(), "https://h/a".into(), "".into(), 13.into())
        );
        let lost: Vec<_> = stats.lost.labelled().filter(|it| it.1 > 0).collect();
        assert_eq!(lost, [("unreadable", 1), ("too_large", 1), ("repeat", 1), ("no_session", 1)]);
        // Events without a session are dropped.
        assert_eq!(stats.sessions.load(Relaxed), 2);
    }

    #[test]
    fn rows_have_the_names_and_types_of_the_table() {
        let columns = table::columns_of("qoe_raw");
        let request = |report: &str, status: u16, bytes: u64, took: Duration| {
            Incoming::Request(Box::new(Measured {
                at: NOW,
                report: report.to_owned(),
                url: "h/\u{e4}\"\u{1}.m4s".to_owned(),
                status,
                bytes,
                cache: "hit",
                head: took,
                total: took,
                user_agent: "a\n\u{7f}".to_owned(),
            }))
        };
        // Numbers that no column holds, of every key, in every form.
        let keys = [
            "br", "tb", "bl", "mtp", "d", "ltc", "pr", "rc", "ttfb", "ttlb", "ts", "v", "bs", "bsd", "msd",
            "sn",
        ];
        let values = [
            "-7",
            "12.0",
            "12.6",
            "1e300",
            "99999999999999999999",
            "(1 2)",
            "\"x\"",
            "?1",
            "nan",
            "4294967296",
            "300",
        ];
        let bodies = values.map(|value| {
            let all: Vec<String> = keys.iter().map(|key| format!("{key}={value}")).collect();
            format!("{},sid=\"{value}\",cid=\"c\",e=rr,ec=\"E\",sta=r,su,url=\"h/a\"", all.join(","))
                .replace("\"\"x\"\"", "\"x\"")
        });
        let mut all = vec![
            request("bl=1", 999, u64::MAX, Duration::MAX),
            request("su,bs,sid=\"s\",cid=\"c\",ot=v,sf=h,st=l", 206, 7, Duration::from_micros(2600)),
            events(&format!(
                "e=ps,sid=\"t\",sta=s,ts={0},v=2\ne=ps,sid=\"t\",sta=p,ts={0},v=2\ne=ps,sid=\"t\",sta=r,ts={0},v=2",
                NOW.unix_ms()
            )),
            events(&format!("e=ps,sid=\"t\",sta=p,ts={},v=2", NOW.unix_ms() + 700)),
        ];
        for body in &bodies {
            all.extend([events(body), request(body, 200, 1, Duration::ZERO)]);
        }
        let (rows, _) = rows_of(all);
        assert!(rows.len() > bodies.len(), "{} rows", rows.len());
        for row in &rows {
            let row = row.as_object().unwrap();
            assert_eq!(row.len(), columns.len());
            for (name, kind) in &columns {
                let value = row.get(name).unwrap_or_else(|| panic!("no {name} in {row:?}"));
                assert!(table::takes(kind, value), "{name} {kind}: {value}");
            }
        }
        // Each kind of value is there, not only what stands for nothing.
        for (name, kind) in &columns {
            let is_there =
                |row: &Value| !matches!(&row[name], Value::Null) && row[name] != "" && row[name] != 0;
            assert!(rows.iter().any(is_there), "{name} {kind}");
        }
    }

    #[test]
    fn a_clock_that_is_far_off_is_not_believed() {
        for (ts, expected) in
            [("1784000060000", 1_784_000_060_000), ("5", NOW.unix_ms()), ("1e300", NOW.unix_ms())]
        {
            assert_eq!(happened_at(&Report::read(&format!("ts={ts}")), NOW).unix_ms(), expected, "{ts}");
        }
    }

    #[test]
    fn many_short_reports_become_no_more_rows_than_long_ones() {
        let (rows, stats) = rows_of(vec![events(&"a\n".repeat(MAX_REPORTS + 3)), events("a")]);
        assert_eq!((rows.len(), stats.lost.get(QoeLoss::TooLarge)), (MAX_REPORTS + 1, 3));
        let named = |bytes: usize| events(&format!("sid=\"{}\"", "s".repeat(bytes)));
        let (rows, stats) = rows_of(vec![named(MAX_SESSION_ID_BYTES), named(MAX_SESSION_ID_BYTES + 1)]);
        assert_eq!((rows.len(), stats.sessions.load(Relaxed)), (2, 1));
        assert_eq!(stats.lost.get(QoeLoss::NoSession), 1);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (qoe, incoming) = Qoe::new(Spool::open(folder.path().to_path_buf(), 1 << 20).unwrap());
        (0..MAX_WAITING).for_each(|_| assert!(qoe.offer(events("bl=1"))));
        assert!(!qoe.offer(events("bl=1")));
        assert_eq!(qoe.stats.lost.get(QoeLoss::Busy), 1);
        qoe.taken(&incoming.recv().unwrap());
        assert!(qoe.offer(events("bl=1")));
        while let Ok(it) = incoming.try_recv() {
            qoe.taken(&it);
        }
        let long = "x".repeat(MAX_EVENTS_BYTES - 1);
        let fit = MAX_WAITING_BYTES / MAX_EVENTS_BYTES;
        (0..fit).for_each(|_| assert!(qoe.offer(events(&long))));
        assert!(!qoe.offer(events(&long)));
        assert_eq!(qoe.stats.lost.get(QoeLoss::Busy), 2);
        qoe.taken(&incoming.recv().unwrap());
        assert!(qoe.offer(events(&long)));
    }
}
