//! A bounded queue on disk of rows for the broker.
//!
//! ```text
//! qoe/0000000000000007   rows, one a line; the newest segment is written to, the oldest is read
//! qoe/0000000000000008
//! qoe/position           "0000000000000007 0000000000001234": what stands before it has been taken
//! ```
//!
//! When the segments reach their size limit, the oldest is removed, and its rows that were not sent are counted. Nothing is
//! synced: the end of the process loses nothing, a power cut the rows of the last seconds. Rows that were sent but not
//! recorded as such are sent twice; their identity tells duplicates apart.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Segments that the limit is divided into.
const SEGMENTS: u64 = 16;
/// Sizes of a segment.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(8 << 20);
const POSITION: &str = "position";
const DIGITS: usize = 16;

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    rows: u64,
}

/// The queue: files of rows in one folder, the oldest removed when they exceed the bytes it may take.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    most_bytes: u64,
    segment_bytes: u64,
    /// The oldest first.
    segments: VecDeque<Segment>,
    writer: Option<File>,
    /// Bytes and rows of the oldest segment that were sent.
    taken: (u64, u64),
    position: Option<File>,
    /// Rows dropped because there were too many, or the disk took none.
    dropped: u64,
}

/// Rows that were read and not sent yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// One a line, without its end.
    pub rows: Vec<Vec<u8>>,
    segment: u64,
    ends: u64,
}

impl Spool {
    /// Opens the spool in `folder`, for at most `most_bytes`.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: PathBuf, most_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let segment_bytes = (most_bytes / SEGMENTS).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        let mut numbers: Vec<u64> = fs::read_dir(&folder)?
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let name = name.to_str().filter(|name| name.len() == DIGITS)?;
                u64::from_str_radix(name, 16).ok()
            })
            .collect();
        numbers.sort_unstable();
        let text = fs::read_to_string(folder.join(POSITION)).unwrap_or_default();
        let mut words = text.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok());
        let (at, offset) = (words.next().flatten().unwrap_or(0), words.next().flatten().unwrap_or(0));
        let mut spool = Self {
            position: OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(folder.join(POSITION))
                .ok(),
            folder,
            most_bytes: most_bytes.max(2 * segment_bytes),
            segment_bytes,
            segments: VecDeque::new(),
            writer: None,
            taken: (0, 0),
            dropped: 0,
        };
        for number in numbers {
            let path = spool.path(number);
            // Segments before the position have been taken.
            let content = if number < at { Vec::new() } else { fs::read(&path)? };
            // A row that was cut by a power cut does not count.
            let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            if whole == 0 {
                fs::remove_file(&path)?;
                continue;
            }
            if whole < content.len() {
                OpenOptions::new().write(true).open(&path)?.set_len(whole as u64)?;
            }
            let rows_to = |end: usize| content[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
            if number == at && spool.segments.is_empty() {
                let taken = usize::try_from(offset).unwrap_or(usize::MAX).min(whole);
                spool.taken = (taken as u64, rows_to(taken));
            }
            spool.segments.push_back(Segment { number, bytes: whole as u64, rows: rows_to(whole) });
        }
        spool.bound();
        Ok(spool)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:016x}"))
    }

    /// Queued rows.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|it| it.rows).sum::<u64>() - self.taken.1
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|it| it.bytes).sum()
    }

    /// Rows dropped since the start.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Appends `rows` rows, each ended by a line feed.
    ///
    /// # Errors
    /// If the disk does not take them: they are dropped, and counted.
    pub fn append(&mut self, lines: &[u8], rows: u64) -> io::Result<()> {
        let appended = self.try_append(lines);
        match &appended {
            Ok(()) => {
                if let Some(last) = self.segments.back_mut() {
                    last.bytes += lines.len() as u64;
                    last.rows += rows;
                }
                self.bound();
            }
            Err(_) => {
                self.dropped += rows;
                // A torn row ends with its segment.
                if let (Some(writer), Some(last)) = (self.writer.take(), self.segments.back()) {
                    let _ = writer.set_len(last.bytes);
                }
            }
        }
        appended
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let is_full = self.segments.back().is_some_and(|it| it.bytes >= self.segment_bytes);
        if self.writer.is_none() || is_full {
            let number = self.segments.back().map_or(1, |it| it.number + 1);
            let path = self.path(number);
            self.writer = Some(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?);
            self.segments.push_back(Segment { number, bytes: 0, rows: 0 });
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(lines))
    }

    /// Drops the oldest segments while the spool is too large.
    fn bound(&mut self) {
        while self.bytes() > self.most_bytes && self.segments.len() > 1 {
            self.drop_first();
        }
    }

    /// Drops the oldest segment and its unsent rows.
    fn drop_first(&mut self) {
        self.dropped += self.segments.front().map_or(0, |it| it.rows) - self.taken.1;
        self.forget_first();
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.segments.pop_front() {
            // If it cannot be removed, it is read as sent.
            let _ = fs::remove_file(self.path(first.number));
        }
        self.taken = (0, 0);
        let next = self.segments.front().map_or(0, |it| it.number);
        self.note(next, 0);
    }

    fn note(&self, segment: u64, offset: u64) {
        if let Some(file) = &self.position {
            // Without this record, rows are sent twice after the next start.
            let _ = file.write_all_at(format!("{segment:016x} {offset:016x}\n").as_bytes(), 0);
        }
    }

    /// The oldest rows, at most `most_bytes`, or one row.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn next(&mut self, most_bytes: usize, most_rows: usize) -> io::Result<Option<Batch>> {
        loop {
            let Some(first) = self.segments.front() else { return Ok(None) };
            if self.taken.0 >= first.bytes {
                if self.segments.len() == 1 {
                    return Ok(None);
                }
                self.forget_first();
                continue;
            }
            let (number, left) = (first.number, first.bytes - self.taken.0);
            let mut file = File::open(self.path(number))?;
            file.seek(SeekFrom::Start(self.taken.0))?;
            let mut content = Vec::new();
            let piece = (most_bytes as u64).min(left);
            (&mut file).take(piece).read_to_end(&mut content)?;
            if !content.contains(&b'\n') {
                file.take(left - content.len() as u64).read_to_end(&mut content)?;
            }
            let mut batch = Batch { segment: number, ends: self.taken.0, ..Batch::default() };
            for line in content.split_inclusive(|byte| *byte == b'\n').take(most_rows) {
                let Some(row) = line.strip_suffix(b"\n") else { break };
                batch.ends += line.len() as u64;
                batch.rows.push(row.to_vec());
                if batch.ends - self.taken.0 >= most_bytes as u64 {
                    break;
                }
            }
            if batch.rows.is_empty() {
                // The file was cut from outside.
                self.drop_first();
                self.writer = None;
                continue;
            }
            return Ok(Some(batch));
        }
    }

    /// Removes a sent batch, which may have been dropped meanwhile.
    pub fn take(&mut self, batch: &Batch) {
        let Some(first) = self.segments.front().filter(|it| it.number == batch.segment) else { return };
        if batch.ends <= self.taken.0 {
            return;
        }
        self.taken = (batch.ends, self.taken.1 + batch.rows.len() as u64);
        let (number, is_over) =
            (first.number, self.taken.0 >= first.bytes && first.bytes >= self.segment_bytes);
        if is_over {
            self.forget_first();
            if self.segments.is_empty() {
                self.writer = None;
            }
        } else {
            self.note(number, batch.ends);
        }
    }
}

/// The folder of the rows, in that of the store.
pub(super) fn folder_in(store: &Path) -> PathBuf {
    store.join("qoe")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> Vec<u8> {
        format!("{number:>99}\n").into_bytes()
    }

    fn numbers(batch: &Batch) -> Vec<usize> {
        batch.rows.iter().map(|row| String::from_utf8_lossy(row).trim().parse().unwrap()).collect()
    }

    fn drain(spool: &mut Spool) -> Vec<usize> {
        let mut all = Vec::new();
        while let Some(batch) = spool.next(5000, 1000).unwrap() {
            all.extend(numbers(&batch));
            spool.take(&batch);
        }
        all
    }

    #[test]
    fn rows_come_out_in_their_order_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Spool::open(folder.path().join("qoe"), 10 << 20).unwrap();
        let mut spool = open();
        assert_eq!(spool.next(1000, 10).unwrap(), None);
        for number in 0..2000 {
            spool.append(&line(number), 1).unwrap();
        }
        assert_eq!(spool.rows(), 2000);
        let batch = spool.next(250, 10).unwrap().unwrap();
        assert_eq!(numbers(&batch), [0, 1]);
        assert_eq!(spool.next(10, 10).unwrap().unwrap().rows.len(), 1, "one row at least");
        spool.take(&batch);
        spool.take(&batch);
        drop(spool);
        // A row that was torn.
        let newest = fs::read_dir(folder.path().join("qoe"))
            .unwrap()
            .flatten()
            .map(|it| it.path())
            .filter(|it| !it.ends_with(POSITION))
            .max()
            .unwrap();
        OpenOptions::new().append(true).open(newest).unwrap().write_all(b"{\"half").unwrap();
        let mut spool = open();
        assert_eq!(spool.rows(), 1998);
        spool.append(&line(2000), 1).unwrap();
        assert_eq!(drain(&mut spool), (2..=2000).collect::<Vec<_>>());
        assert_eq!((spool.rows(), spool.dropped()), (0, 0));
        drop(spool);
        assert_eq!(open().rows(), 0);
    }

    #[test]
    fn the_oldest_rows_make_room_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path().join("qoe"), 1 << 20).unwrap();
        let count = 30_000;
        let batch = {
            for number in 0..count {
                spool.append(&line(number), 1).unwrap();
                if number == 10 {
                    let batch = spool.next(500, 10).unwrap().unwrap();
                    spool.take(&batch);
                }
            }
            spool.next(500, 10).unwrap().unwrap()
        };
        assert!(spool.bytes() <= 1 << 20 && spool.bytes() > (1 << 20) - (128 << 10), "{}", spool.bytes());
        let before = (spool.dropped(), spool.rows());
        assert_eq!(before.0 + before.1 + 5, count as u64, "each was taken, waits, or is counted");
        // Its segment goes while it is on its way.
        for number in count..count + 2000 {
            spool.append(&line(number), 1).unwrap();
        }
        spool.take(&batch);
        let left = drain(&mut spool);
        assert_eq!(left.last(), Some(&(count + 1999)));
        assert_eq!(left.len() as u64 + spool.dropped() + 5, count as u64 + 2000);
    }

    #[test]
    fn rows_that_the_disk_does_not_take_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qoe");
        let mut spool = Spool::open(path.clone(), 1 << 20).unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert!(spool.append(&line(1), 1).is_err());
        assert_eq!((spool.dropped(), spool.rows()), (1, 0));
        fs::create_dir(&path).unwrap();
        spool.append(&line(2), 1).unwrap();
        assert_eq!(drain(&mut spool), [2]);
    }
}
