//! Access log: one line for each response, in combined format or as JSON, written by a separate thread.
//!
//! A worker gathers lines and hands them over in batches, so that a response costs no system call and no lock. When the disk
//! is too slow, lines are dropped and counted. At low rates the lines of all workers are in order of time: small batches are
//! held back until every worker has handed over older lines.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use carousel::time::WallTime;
use http::request::Parts;
use http::{StatusCode, Version};

use super::connection::MAX_QUICK_HEADERS;
use super::measure::report_of;
use super::options::LogFormat;
use super::stats::Served;
use crate::access::redacted;
use crate::caching;
use crate::clock;
use crate::vitals::{self, Sign, Vitals};

/// Bytes that a worker gathers.
const GATHER_BYTES: usize = 32 << 10;
/// Time for which a worker gathers.
const GATHER_FOR: Duration = Duration::from_millis(100);
/// Time for which a small batch is held back: longer than [`super::workers::BEAT`], by which every worker has handed over its
/// lines.
const HOLD_FOR: Duration = Duration::from_millis(400);
/// Maximum bytes held back. Batches of a quarter of this are written at once: at such rates the exact order does not
/// matter.
const HOLD_BYTES: usize = 64 << 10;
/// Batches queued for the disk.
const PIECES: usize = 64;
/// Interval at which the file is checked: it may have been moved away (logrotate).
const LOOK: Duration = Duration::from_secs(1);

/// Facts of a request whose response has been sent.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) peer: IpAddr,
    pub(super) request: RequestHead,
    pub(super) status: StatusCode,
    pub(super) served: Served,
    pub(super) began: Instant,
    /// From the request's head to the response's.
    pub(super) head_took: Duration,
}

/// The head of a request.
#[derive(Debug)]
pub(super) enum RequestHead {
    /// Parsed by hyper.
    Parsed(Box<Parts>),
    /// Unparsed bytes: a GET of HTTP/1.1 that [`super::quick`] has read.
    Raw(Box<[u8]>),
    /// The first bytes of an unreadable request.
    Unreadable(Box<[u8]>),
}

/// Parts of a request's log line.
pub(super) struct LogFields<'a> {
    method: &'a str,
    pub(super) target: &'a str,
    protocol: &'a str,
    pub(super) field: &'a dyn Fn(&str) -> Option<Cow<'a, str>>,
}

impl RequestHead {
    /// Passes the parts of the request to `write`.
    pub(super) fn read(&self, write: impl FnOnce(&LogFields<'_>)) {
        match self {
            Self::Parsed(head) => write(&LogFields {
                method: head.method.as_str(),
                target: &redacted(head.uri.path_and_query().map_or("/", |it| it.as_str())),
                protocol: match head.version {
                    Version::HTTP_3 => "HTTP/3.0",
                    Version::HTTP_2 => "HTTP/2.0",
                    Version::HTTP_10 => "HTTP/1.0",
                    _ => "HTTP/1.1",
                },
                field: &|name| head.headers.get(name).map(|it| readable(it.as_bytes())),
            }),
            Self::Raw(bytes) => {
                let mut fields = [httparse::EMPTY_HEADER; MAX_QUICK_HEADERS];
                let mut request = httparse::Request::new(&mut fields);
                if request.parse(bytes).is_err() {
                    return;
                }
                let fields = &*request.headers;
                write(&LogFields {
                    method: request.method.unwrap_or("-"),
                    target: &redacted(request.path.unwrap_or("-")),
                    protocol: "HTTP/1.1",
                    field: &|name| {
                        let field = fields.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
                        Some(readable(field.value))
                    },
                });
            }
            Self::Unreadable(bytes) => {
                let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
                let line = readable(line.trim_ascii_end());
                write(&LogFields { method: "-", target: &redacted(&line), protocol: "-", field: &|_| None });
            }
        }
    }
}

/// A field's value as text, with bytes that are not UTF-8 as `\xNN`.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::new();
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                for byte in chunk.invalid() {
                    let _ = write!(text, "\\x{byte:02X}");
                }
            }
            Cow::Owned(text)
        }
    }
}

/// A batch of lines from one worker.
#[derive(Debug, Default)]
pub(super) struct LineBatch {
    lines: String,
    /// Milliseconds since 1970 and the end of each line.
    ends: Vec<(i64, usize)>,
}

/// Lines held back, to be written in order of time.
#[derive(Debug, Default)]
struct ReorderBuffer {
    /// Time of the line, when it was handed over, the line.
    lines: Vec<(i64, Instant, String)>,
    bytes: usize,
}

impl ReorderBuffer {
    /// Adds a batch. True if everything is to be written now.
    fn take(&mut self, piece: LineBatch, now: Instant) -> bool {
        let mut start = 0;
        self.bytes += piece.lines.len();
        let is_large = piece.lines.len() >= HOLD_BYTES / 4;
        if is_large {
            let at_ms = self.lines.iter().map(|it| it.0).chain(piece.ends.first().map(|it| it.0)).max();
            self.lines.push((at_ms.unwrap_or(0), now, piece.lines));
            return true;
        }
        for (at_ms, end) in piece.ends {
            self.lines.push((at_ms, now, piece.lines[start..end].to_owned()));
            start = end;
        }
        self.bytes >= HOLD_BYTES
    }

    /// Takes the due lines, in order of time: those held for [`HOLD_FOR`], and all older ones.
    fn due(&mut self, now: Instant, all: bool) -> String {
        let is_old = |it: &(i64, Instant, String)| now.duration_since(it.1) >= HOLD_FOR;
        let cut = self.lines.iter().filter(|it| all || is_old(it)).map(|it| it.0).max();
        let Some(cut) = cut else { return String::new() };
        self.lines.sort_by_key(|it| it.0);
        let count = self.lines.partition_point(|it| it.0 <= cut);
        let text: String = self.lines.drain(..count).map(|it| it.2).collect();
        self.bytes -= text.len();
        text
    }
}

/// The gatherer of lines of one worker.
#[derive(Debug)]
pub(super) struct Gatherer {
    piece: LineBatch,
    format: LogFormat,
    writer: SyncSender<LineBatch>,
    /// When lines were last handed over.
    flushed: Instant,
    /// Seconds since 1970 and their text.
    date: (i64, String),
}

/// Opens the log.
///
/// # Errors
/// If the file cannot be written, with the fix.
pub(super) fn open(path: &Path, vitals: &Vitals) -> Result<SyncSender<LineBatch>, String> {
    let file = append(path).map_err(|err| {
        format!("{}: {err}; [http.access_log] path must be a file that skycached may write", path.display())
    })?;
    let (writer, pieces) = sync_channel(PIECES);
    let path = path.to_path_buf();
    let sign = vitals.show("access-log".to_owned(), clock::now());
    vitals::start("access-log", move || write(file, &path, &pieces, &sign))
        .map_err(|err| format!("cannot start a thread: {err}"))?;
    Ok(writer)
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write(mut file: File, path: &PathBuf, pieces: &Receiver<LineBatch>, sign: &Sign) {
    let mut looked = Instant::now();
    let mut buffer = ReorderBuffer::default();
    loop {
        // Without lines the thread sleeps.
        let piece = if buffer.lines.is_empty() {
            pieces.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            pieces.recv_timeout(GATHER_FOR)
        };
        sign.give(clock::now());
        let (all, is_over) = match piece {
            Ok(piece) => (buffer.take(piece, Instant::now()), false),
            Err(RecvTimeoutError::Timeout) => (false, false),
            Err(RecvTimeoutError::Disconnected) => (true, true),
        };
        let text = buffer.due(Instant::now(), all);
        if !text.is_empty() {
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let there = std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
                let ours = file.metadata().ok().map(|it| (it.dev(), it.ino()));
                if there != ours
                    && let Ok(fresh) = append(path)
                {
                    file = fresh;
                }
            }
            if let Err(err) = file.write_all(text.as_bytes()) {
                tracing::warn!(path = %path.display(), %err, "the access log cannot be written");
            }
        }
        if is_over {
            return;
        }
    }
}

impl Gatherer {
    pub(super) fn new(format: LogFormat, writer: SyncSender<LineBatch>) -> Self {
        let date = (-1, String::new());
        Self { piece: LineBatch::default(), format, writer, flushed: Instant::now(), date }
    }

    /// Adds a line. False if lines had to be dropped.
    pub(super) fn add(&mut self, record: &Record, bytes: u64, is_whole: bool, now: WallTime) -> bool {
        match self.format {
            LogFormat::Combined => self.combined(record, bytes, now),
            LogFormat::Json => self.json(record, bytes, is_whole, now),
        }
        self.piece.ends.push((now.unix_ms(), self.piece.lines.len()));
        let is_due = self.piece.lines.len() >= GATHER_BYTES || self.flushed.elapsed() >= GATHER_FOR;
        !is_due || self.flush()
    }

    /// Hands the lines over. False if the writer has ended.
    pub(super) fn flush(&mut self) -> bool {
        if self.piece.lines.is_empty() {
            return true;
        }
        self.flushed = Instant::now();
        let lines = String::with_capacity(GATHER_BYTES + 1024);
        let ends = Vec::with_capacity(self.piece.ends.len());
        let piece = std::mem::replace(&mut self.piece, LineBatch { lines, ends });
        self.writer.try_send(piece).is_ok()
    }

    fn combined(&mut self, record: &Record, bytes: u64, now: WallTime) {
        let at_s = now.unix_ms() / 1000;
        if self.date.0 != at_s {
            self.date = (at_s, date(now));
        }
        let (line, date) = (&mut self.piece.lines, &self.date.1);
        record.request.read(|words| {
            // Writing to a string does not fail.
            let _ = write!(line, "{} - - [{date}] \"{} ", record.peer, words.method);
            escape(line, words.target);
            let _ = write!(line, " {}\" {} {bytes} \"", words.protocol, record.status.as_u16());
            escape(line, &redacted((words.field)("referer").as_deref().unwrap_or("-")));
            line.push_str("\" \"");
            escape(line, (words.field)("user-agent").as_deref().unwrap_or("-"));
            line.push_str("\"\n");
        });
    }

    fn json(&mut self, record: &Record, bytes: u64, is_whole: bool, now: WallTime) {
        let lines = &mut self.piece.lines;
        record.request.read(|words| {
            let field = words.field;
            let line = serde_json::json!({
                "time": now.to_xml(), "peer": record.peer.to_string(), "method": words.method,
                "host": field("host"), "path": words.target, "protocol": words.protocol,
                "status": record.status.as_u16(), "bytes": bytes, "whole": is_whole,
                "cache": record.served.as_str(), "head_us": micros(record.head_took),
                "total_us": micros(record.began.elapsed()), "range": field("range"),
                "user_agent": field("user-agent"), "referer": field("referer").map(|it| redacted(&it).into_owned()), "cmcd": report_of(words),
            });
            let _ = writeln!(lines, "{line}");
        });
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// `21/Nov/2026:14:05:01 +0000`.
fn date(now: WallTime) -> String {
    let text = caching::write_date(now);
    // Sat, 21 Nov 2026 14:05:01 GMT
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or("");
    format!("{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
}

/// Quotes, backslashes and control characters must not end a field.
fn escape(line: &mut String, text: &str) {
    // The common case: nothing to escape.
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        line.push_str(text);
        return;
    }
    for c in text.chars() {
        if c == '"' || c == '\\' || c.is_control() {
            let _ = write!(line, "\\x{:02X}", u32::from(c));
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "/v/1.m4s?a=1&CMCD=bl%3D2500%2Ccid%3D%22x%22";

    /// The same request, read by hyper and read by us.
    fn heads() -> [RequestHead; 2] {
        let parsed = http::Request::get(TARGET).header("user-agent", "a\"b").header("host", "box").body(());
        let raw = format!("GET {TARGET} HTTP/1.1\r\nUser-Agent: a\"b\r\nHost: box\r\n\r\n");
        [
            RequestHead::Parsed(Box::new(parsed.unwrap().into_parts().0)),
            RequestHead::Raw(raw.into_bytes().into()),
        ]
    }

    fn line(format: LogFormat, request: RequestHead) -> String {
        let (writer, pieces) = sync_channel(1);
        let mut gatherer = Gatherer::new(format, writer);
        let record = Record {
            peer: "10.0.0.7".parse().unwrap(),
            request,
            status: StatusCode::PARTIAL_CONTENT,
            served: Served::Hit,
            began: Instant::now(),
            head_took: Duration::from_micros(120),
        };
        assert!(gatherer.add(&record, 500, true, WallTime::from_unix_ms(1_784_000_000_000)));
        gatherer.flush();
        pieces.recv().unwrap().lines
    }

    #[test]
    fn one_line_in_each_form() {
        for asking in heads() {
            assert_eq!(
                line(LogFormat::Combined, asking),
                "10.0.0.7 - - [14/Jul/2026:03:33:20 +0000] \"GET /v/1.m4s?a=1&CMCD=bl%3D2500%2Ccid%3D%22x%22 HTTP/1.1\" 206 500 \"-\" \"a\\x22b\"\n"
            );
        }
        for asking in heads() {
            let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, asking)).unwrap();
            assert_eq!(
                (json["cmcd"].as_str(), json["host"].as_str()),
                (Some("bl=2500,cid=\"x\""), Some("box"))
            );
            assert_eq!((json["cache"].as_str(), json["head_us"].as_u64()), (Some("hit"), Some(120)));
        }
    }

    #[test]
    fn what_is_no_text_is_escaped() {
        let head = http::Request::get("/")
            .header("user-agent", http::HeaderValue::from_bytes(b"\xdcn\xc3\xaf").unwrap());
        let parsed = RequestHead::Parsed(Box::new(head.body(()).unwrap().into_parts().0));
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, parsed)).unwrap();
        assert_eq!(json["user_agent"], "\\xDCnï");
        let refused = || RequestHead::Unreadable(b"\x16\x03\"\r\nsecond".as_slice().into());
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, refused())).unwrap();
        assert_eq!((json["method"].as_str(), json["path"].as_str()), (Some("-"), Some("\x16\x03\"")));
        let too_long =
            RequestHead::Unreadable(b"GET /sktoken=a.b/vod/1.m4s HTTP/1.1\r\nx: ".as_slice().into());
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, too_long)).unwrap();
        assert_eq!(json["path"], "GET /sktoken=\u{2026}/vod/1.m4s HTTP/1.1", "nor is a token shown");
        let combined = line(LogFormat::Combined, refused());
        assert!(combined.contains("\"- \\x16\\x03\\x22 -\" 206"), "{combined}");
    }

    fn piece(lines: &[(i64, &str)]) -> LineBatch {
        let mut piece = LineBatch::default();
        for (at_ms, line) in lines {
            piece.lines.push_str(line);
            piece.ends.push((*at_ms, piece.lines.len()));
        }
        piece
    }

    #[test]
    fn lines_of_all_workers_stand_in_the_order_of_time() {
        let mut buffer = ReorderBuffer::default();
        let begin = Instant::now();
        assert!(!buffer.take(piece(&[(20, "c\n"), (40, "e\n")]), begin));
        let later = begin + HOLD_FOR / 2;
        assert!(!buffer.take(piece(&[(5, "a\n"), (10, "b\n"), (30, "d\n"), (50, "f\n")]), later));
        assert_eq!(buffer.due(later, false), "");
        assert_eq!(buffer.due(begin + HOLD_FOR, false), "a\nb\nc\nd\ne\n", "and what is older");
        assert_eq!(buffer.due(later + HOLD_FOR, false), "f\n");
        assert_eq!((buffer.bytes, buffer.lines.len()), (0, 0));
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut buffer = ReorderBuffer::default();
        let now = Instant::now();
        let line = format!("{}\n", "x".repeat(1023));
        assert!((1..64).all(|at| !buffer.take(piece(&[(at, &line)]), now)));
        assert!(buffer.take(piece(&[(64, &line)]), now), "64 KiB");
        assert_eq!(buffer.due(now, true).len(), HOLD_BYTES);
        buffer.take(piece(&[(1, "first\n")]), now);
        let many = vec![(0, line.as_str()); 16];
        assert!(buffer.take(piece(&many), now), "a large piece is not taken apart");
        assert!(buffer.due(now, true).starts_with("first\n"));
    }

    #[test]
    fn a_disk_that_is_behind_costs_lines_and_no_time() {
        let (writer, _pieces) = sync_channel(1);
        let mut gatherer = Gatherer::new(LogFormat::Json, writer);
        gatherer.piece.lines.push('x');
        assert!(gatherer.flush());
        gatherer.piece.lines.push('x');
        assert!(!gatherer.flush());
    }
}
