//! Objects of a bucket, in ranges at the same time; all bytes of a file are of one version.
//!
//! The first response names the version by its ETag. Further requests have `If-Match`, and each response is also compared with
//! the first, since some stores ignore the field. If the version has changed, the fetch restarts.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use hyper::header::HeaderValue;
use tokio::task::JoinSet;

use super::super::client::Body;
use super::super::files::{ATTEMPTS, Files, PartialFile};
use super::super::stats::{Failed, PullFailure};
use super::listing::bare;
use super::{Bucket, Conditions, ObjectResponse, is_strong};

/// Bytes of a range.
const PART_BYTES: u64 = 8 << 20;
/// Ranges of one object at the same time.
const PARTS: usize = 4;
/// Bytes after which a response counts as progress.
const PROGRESS_BYTES: u64 = 64 << 10;

/// Fetches an object and gives it its name. Returns the version (an ETag without its quotes, empty if there is none), and its
/// bytes.
pub(in super::super) async fn fetch(
    bucket: &Arc<Bucket>,
    files: &Files,
    key: &str,
    name: &str,
) -> Result<(String, u64), Failed> {
    let mut coming = files.begin(name)?;
    let mut attempt = 1;
    loop {
        match one_version(bucket, key, &mut coming).await {
            Ok(etag) => {
                let bytes = coming.bytes();
                coming.keep()?;
                return Ok((etag, bytes));
            }
            Err(Failed { why: PullFailure::Changed | PullFailure::Cut, .. }) if attempt < ATTEMPTS => {
                attempt += 1;
                coming.restart()?;
            }
            Err(failed) => return Err(failed),
        }
    }
}

async fn one_version(
    bucket: &Arc<Bucket>,
    key: &str,
    coming: &mut PartialFile<'_>,
) -> Result<String, Failed> {
    let first = Conditions { range: Some(0..PART_BYTES), ..Conditions::default() };
    let (etag, bytes, end, body) = match bucket.get(key, &first).await? {
        ObjectResponse::Part { etag: Some(etag), from: 0, bytes, body } if is_strong(&etag) => {
            (etag, bytes, bytes.min(PART_BYTES), body)
        }
        ObjectResponse::Part { etag, from: 0, bytes, body } if bytes <= PART_BYTES => {
            return whole(etag, Some(bytes), body, coming).await;
        }
        ObjectResponse::Part { from: 0, .. } | ObjectResponse::NoSuchRange => {
            // Without a version it is fetched in one piece; an empty object has no range.
            match bucket.get(key, &Conditions::default()).await? {
                ObjectResponse::Whole { etag, bytes, body } => return whole(etag, bytes, body, coming).await,
                _ => return Err(Failed::new(PullFailure::Status, "206 without a range")),
            }
        }
        ObjectResponse::Whole { etag: Some(etag), bytes: Some(bytes), body } if is_strong(&etag) => {
            (etag, bytes, bytes, body)
        }
        ObjectResponse::Whole { etag, bytes, body } => return whole(etag, bytes, body, coming).await,
        ObjectResponse::Part { .. } | ObjectResponse::Unchanged => {
            return Err(Failed::new(PullFailure::Status, "206 of another range"));
        }
    };
    coming.reserve(bytes)?;
    let piece = Piece {
        bucket: Arc::clone(bucket),
        key: key.into(),
        etag: etag.clone(),
        file: coming.file()?,
        bytes,
    };
    let piece = Arc::new(piece);
    let mut running = JoinSet::new();
    running.spawn_local(Arc::clone(&piece).fetch(0, end, Some(body)));
    let mut next = end;
    loop {
        while running.len() < PARTS && next < bytes {
            let end = bytes.min(next + PART_BYTES);
            running.spawn_local(Arc::clone(&piece).fetch(next, end, None));
            next = end;
        }
        match running.join_next().await {
            // What still runs ends with the set.
            Some(Ok(result)) => result?,
            Some(Err(_)) => return Err(Failed::new(PullFailure::Cut, "a range of it was given up")),
            None => break,
        }
    }
    Ok(bare(&String::from_utf8_lossy(etag.as_bytes())).to_owned())
}

/// An object in one piece, which cannot be continued.
async fn whole(
    etag: Option<HeaderValue>,
    bytes: Option<u64>,
    mut body: Body,
    coming: &mut PartialFile<'_>,
) -> Result<String, Failed> {
    while let Some(data) = body.next().await? {
        coming.write(&data)?;
    }
    if bytes.is_some_and(|bytes| bytes != coming.bytes()) {
        return Err(body.cut());
    }
    Ok(etag.map(|it| bare(&String::from_utf8_lossy(it.as_bytes())).to_owned()).unwrap_or_default())
}

/// One version of an object that is being fetched.
struct Piece {
    bucket: Arc<Bucket>,
    key: Box<str>,
    etag: HeaderValue,
    file: File,
    /// Bytes of all.
    bytes: u64,
}

impl Piece {
    /// Fetches the bytes from `at` to `end`; `body` is a response that has begun. An interrupted body is continued.
    async fn fetch(self: Arc<Self>, mut at: u64, end: u64, mut body: Option<Body>) -> Result<(), Failed> {
        let mut poor = 0;
        loop {
            let begun = at;
            let mut coming = match body.take() {
                Some(body) => body,
                None => self.ask(at, end).await?,
            };
            let why = loop {
                match coming.next().await {
                    Ok(Some(data)) => {
                        let bytes = data.len() as u64;
                        if bytes > end - at {
                            return Err(Failed::new(PullFailure::Status, "more bytes than the range has"));
                        }
                        self.file.write_all_at(&data, at)?;
                        at += bytes;
                        if at == end {
                            return Ok(());
                        }
                    }
                    Ok(None) => break coming.cut(),
                    Err(why) => break why,
                }
            };
            if at == end {
                return Ok(());
            }
            poor = if at - begun >= PROGRESS_BYTES { 0 } else { poor + 1 };
            if poor >= ATTEMPTS {
                return Err(why);
            }
        }
    }

    async fn ask(&self, at: u64, end: u64) -> Result<Body, Failed> {
        let conditions =
            Conditions { range: Some(at..end), if_match: Some(&self.etag), ..Conditions::default() };
        match self.bucket.get(&self.key, &conditions).await? {
            ObjectResponse::Part { etag: Some(etag), from, bytes, body } if etag == self.etag => {
                if from == at && bytes == self.bytes {
                    Ok(body)
                } else {
                    Err(Failed::new(PullFailure::Status, "206 of another range"))
                }
            }
            ObjectResponse::Whole { etag: Some(etag), body, .. }
                if etag == self.etag && at == 0 && end == self.bytes =>
            {
                Ok(body)
            }
            ObjectResponse::Whole { etag: Some(etag), .. } if etag == self.etag => {
                Err(Failed::new(PullFailure::Status, "200 for a range"))
            }
            _ => Err(PullFailure::Changed.into()),
        }
    }
}
