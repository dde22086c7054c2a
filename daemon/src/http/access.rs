//! The access log: one line for each response, in the combined form or as JSON, written by a thread of its own.
//!
//! A worker gathers lines and hands them over in one piece, so that a response costs no system call and no lock. When the
//! disk is behind, lines are left out and counted.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use carousel::time::WallTime;
use http::{HeaderMap, Method, StatusCode, Uri, Version, header};

use super::stats::Served;
use crate::caching;
use crate::config::LogFormat;

/// Bytes that a worker gathers.
const GATHER_BYTES: usize = 32 << 10;
/// Pieces that wait for the disk.
const PIECES: usize = 64;
/// How often the file is looked at: somebody may have moved it away (logrotate).
const LOOK: Duration = Duration::from_secs(1);

/// What is known of a request when its response has gone out.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) peer: IpAddr,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) status: StatusCode,
    pub(super) served: Served,
    pub(super) began: Instant,
    /// From the request's head to the response's.
    pub(super) head_took: Duration,
}

/// One worker's end of the log.
#[derive(Debug)]
pub(super) struct Gatherer {
    lines: String,
    format: LogFormat,
    writer: SyncSender<String>,
    /// Seconds since 1970 and their text.
    date: (i64, String),
}

/// Opens the log.
///
/// # Errors
/// If the file cannot be written, with the mend.
pub(super) fn open(path: &Path) -> Result<SyncSender<String>, String> {
    let file = append(path).map_err(|err| {
        format!("{}: {err}; [http.access_log] path must be a file that skycached may write", path.display())
    })?;
    let (writer, pieces) = sync_channel(PIECES);
    let path = path.to_path_buf();
    let thread = std::thread::Builder::new().name("access-log".to_owned());
    thread
        .spawn(move || write(file, &path, &pieces))
        .map_err(|err| format!("cannot start a thread: {err}"))?;
    Ok(writer)
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write(mut file: File, path: &PathBuf, pieces: &Receiver<String>) {
    let mut looked = Instant::now();
    while let Ok(piece) = pieces.recv() {
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
        if let Err(err) = file.write_all(piece.as_bytes()) {
            tracing::warn!(path = %path.display(), %err, "the access log cannot be written");
        }
    }
}

impl Gatherer {
    pub(super) const fn new(format: LogFormat, writer: SyncSender<String>) -> Self {
        Self { lines: String::new(), format, writer, date: (-1, String::new()) }
    }

    /// Adds a line. False if lines had to be left out.
    pub(super) fn add(&mut self, record: &Record, bytes: u64, is_whole: bool, now: WallTime) -> bool {
        match self.format {
            LogFormat::Combined => self.combined(record, bytes, now),
            LogFormat::Json => self.json(record, bytes, is_whole, now),
        }
        self.lines.len() < GATHER_BYTES || self.flush()
    }

    /// Hands the lines over. False if nobody takes them.
    pub(super) fn flush(&mut self) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        let lines = std::mem::replace(&mut self.lines, String::with_capacity(GATHER_BYTES + 1024));
        self.writer.try_send(lines).is_ok()
    }

    fn combined(&mut self, record: &Record, bytes: u64, now: WallTime) {
        let at_s = now.unix_ms() / 1000;
        if self.date.0 != at_s {
            self.date = (at_s, date(now));
        }
        let line = &mut self.lines;
        // Writing to a string does not fail.
        let _ = write!(line, "{} - - [{}] \"{} ", record.peer, self.date.1, record.method);
        escape(line, record.uri.path_and_query().map_or("/", |it| it.as_str()));
        let _ = write!(line, " {:?}\" {} {bytes} \"", record.version, record.status.as_u16());
        let field = |name| record.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("-");
        escape(line, field(header::REFERER));
        line.push_str("\" \"");
        escape(line, field(header::USER_AGENT));
        line.push_str("\"\n");
    }

    fn json(&mut self, record: &Record, bytes: u64, is_whole: bool, now: WallTime) {
        let field = |name| record.headers.get(name).and_then(|it| it.to_str().ok());
        let line = serde_json::json!({
            "time": now.to_xml(), "peer": record.peer.to_string(), "method": record.method.as_str(),
            "host": field(header::HOST), "path": record.uri.path_and_query().map_or("/", |it| it.as_str()),
            "protocol": format!("{:?}", record.version), "status": record.status.as_u16(), "bytes": bytes,
            "whole": is_whole, "cache": record.served.as_str(), "head_us": micros(record.head_took),
            "total_us": micros(record.began.elapsed()), "range": field(header::RANGE),
            "user_agent": field(header::USER_AGENT), "referer": field(header::REFERER),
            "cmcd": cmcd(&record.uri, &record.headers),
        });
        let _ = writeln!(self.lines, "{line}");
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Common Media Client Data (CTA-5004) as the player has sent it, from the query or the fields.
fn cmcd(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let query = uri.query().unwrap_or("");
    if let Some(value) = query.split('&').find_map(|it| it.strip_prefix("CMCD=")) {
        return percent_encoding::percent_decode_str(value).decode_utf8().ok().map(Into::into);
    }
    let names = ["cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status"];
    let parts: Vec<&str> = names.iter().filter_map(|name| caching::text(headers, *name)).collect();
    (!parts.is_empty()).then(|| parts.join(","))
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

    fn lines(format: LogFormat) -> String {
        let (writer, pieces) = sync_channel(1);
        let mut gatherer = Gatherer::new(format, writer);
        let record = Record {
            peer: "10.0.0.7".parse().unwrap(),
            method: Method::GET,
            uri: "/v/1.m4s?a=1&CMCD=bl%3D2500%2Ccid%3D%22x%22".parse().unwrap(),
            version: Version::HTTP_11,
            headers: caching::from_pairs([("user-agent", "a\"b"), ("host", "box")]),
            status: StatusCode::PARTIAL_CONTENT,
            served: Served::Hit,
            began: Instant::now(),
            head_took: Duration::from_micros(120),
        };
        assert!(gatherer.add(&record, 500, true, WallTime::from_unix_ms(1_784_000_000_000)));
        assert!(gatherer.flush());
        pieces.recv().unwrap()
    }

    #[test]
    fn one_line_in_each_form() {
        assert_eq!(
            lines(LogFormat::Combined),
            "10.0.0.7 - - [14/Jul/2026:03:33:20 +0000] \"GET /v/1.m4s?a=1&CMCD=bl%3D2500%2Ccid%3D%22x%22 HTTP/1.1\" 206 500 \"-\" \"a\\x22b\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&lines(LogFormat::Json)).unwrap();
        assert_eq!(json["cmcd"], "bl=2500,cid=\"x\"");
        assert_eq!((json["cache"].as_str(), json["head_us"].as_u64()), (Some("hit"), Some(120)));
    }

    #[test]
    fn a_disk_that_is_behind_costs_lines_and_no_time() {
        let (writer, _pieces) = sync_channel(1);
        let mut gatherer = Gatherer::new(LogFormat::Json, writer);
        gatherer.lines.push('x');
        assert!(gatherer.flush());
        gatherer.lines.push('x');
        assert!(!gatherer.flush());
    }
}
