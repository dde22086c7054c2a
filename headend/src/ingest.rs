//! Uploads of packagers by HTTP: PUT or POST of files, DELETE of those that leave the window (DASH-IF Live Media Ingest
//! Protocol, interface 2; HLS as FFmpeg and others push it).
//!
//! ```text
//! PUT /NAME/PATH ─▶ token ─▶ name of a source ─▶ path below its folder ─▶ PATH.tmp ── end of the body ──▶ PATH
//! ```
//!
//! A file gets its name when its body is complete: a body that breaks off, or does not match its `Content-Length`, is removed,
//! and the earlier file stays. [`crate::follow`] reads the file under its temporary name while it is written, so that segments
//! are sent during the upload. Two packagers may upload one channel: each segment is taken from the first that begins it, and
//! from the other only if the first breaks off. A newer manifest replaces an older one.

pub(crate) mod folder;
pub(crate) mod ledger;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use carousel::reason::Counts;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;

use crate::config::Config;
use crate::listen;
use crate::options::has_manifest_name;
use crate::package::tree::is_temporary;
use folder::FilledFolder;
use ledger::UploadReservation;

carousel::limits! {
    /// Connections of packagers.
    const MAX_CONNECTIONS: usize = 256, "connections" {
        why: "A packager opens one or two for each rendition; ten channels have a hundred.",
        full: "Further connections wait until another ends.",
        free: "When a connection ends, or nothing came for `silence_ms`.",
        test: "connections_beyond_the_limit_wait",
    }

    /// Names of folders in the path of an uploaded file.
    const MAX_DEPTH: usize = 8, "names" {
        why: "Packagers use three or four.",
        full: "The upload is refused as `bad_path`.",
        free: "Holds for one path.",
        test: "paths_that_lead_elsewhere_are_refused",
    }

    /// Bytes of the path of an uploaded file.
    const MAX_PATH_BYTES: usize = 512, "bytes" {
        why: "File systems take 255 for a name.",
        full: "The upload is refused as `bad_path`.",
        free: "Holds for one path.",
        test: "paths_that_lead_elsewhere_are_refused",
    }
}

carousel::reasons! {
    /// Why a request of a packager came to nothing.
    pub enum IngestRefusal {
        /// No token, or another.
        Unauthorized = "unauthorized",
        /// No source of this name takes uploads.
        UnknownSource = "unknown_source",
        /// The path leads out of the folder, or names a hidden or temporary file.
        BadPath = "bad_path",
        /// Neither PUT, POST nor DELETE.
        Method = "method",
        /// The file is longer than `file_bytes`.
        TooLong = "too_long",
        /// The source has `source_files` files or `source_bytes` bytes.
        Full = "full",
        /// The body ended before its length or its last chunk, or nothing came for `silence_ms`.
        BrokenOff = "broken_off",
        /// The file could not be written.
        Io = "io",
    }
}

impl IngestRefusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::BadPath => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Io => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct IngestStats {
    stored: AtomicU64,
    bytes: AtomicU64,
    removed: AtomicU64,
    /// Uploads that another packager had delivered already.
    redundant: AtomicU64,
    refused: Counts<IngestRefusal>,
}

impl IngestStats {
    /// Number of requests refused for this reason.
    pub fn refused(&self, why: IngestRefusal) -> u64 {
        self.refused.get(why)
    }

    /// Number of stored files.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Stored files, their bytes, removed files, and uploads that another packager had delivered already.
    pub fn counts(&self) -> [u64; 4] {
        [&self.stored, &self.bytes, &self.removed, &self.redundant].map(|it| it.load(Ordering::Relaxed))
    }

    /// Refused requests, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused.labelled()
    }

    /// One line, without zero counts.
    pub fn to_text(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bytes, removed, redundant) = (of(&self.bytes), of(&self.removed), of(&self.redundant));
        let mut text = format!(
            "ingest: {} files of {bytes} bytes, {removed} removed, {redundant} redundant",
            self.stored()
        );
        for (why, count) in self.refused.labelled().filter(|(_, count)| *count > 0) {
            text.push_str(&format!(", {count} refused: {why}"));
        }
        text
    }
}

/// A source that accepts uploads.
#[derive(Debug)]
struct Channel {
    name: String,
    folder: FilledFolder,
}

#[derive(Debug)]
struct Shared {
    channels: Vec<Channel>,
    token: Option<String>,
    file_bytes: u64,
    silence: Duration,
    uploads: AtomicU64,
    stats: Arc<IngestStats>,
}

/// Listener for packagers, in a separate thread that runs as long as the program.
#[derive(Debug)]
pub struct Ingest {
    address: SocketAddr,
    stats: Arc<IngestStats>,
}

impl Ingest {
    /// Starts the listener; `None` if the configuration has no `[ingest]`. Creates the folders of its sources.
    ///
    /// # Errors
    /// An address in use, a token that cannot be read, a folder that cannot be created.
    pub fn start(config: &Config) -> Result<Option<Self>, String> {
        let Some(options) = &config.ingest else { return Ok(None) };
        let token = options.token_file.as_deref().map(read_token).transpose()?;
        let mut channels = Vec::new();
        for source in config.sources.iter().filter(|source| source.ingest) {
            let folder = FilledFolder::open(&source.path, options.source_files, options.source_bytes)?;
            channels.push(Channel { name: source.name.clone(), folder });
        }
        let stats = Arc::new(IngestStats::default());
        let shared = Shared {
            channels,
            token,
            file_bytes: options.file_bytes,
            silence: Duration::from_millis(options.silence_ms),
            uploads: AtomicU64::new(0),
            stats: Arc::clone(&stats),
        };
        let address =
            listen::start("ingest", options.listen, MAX_CONNECTIONS, shared, serve).map_err(|err| {
                format!("ingest.listen {}: {}", options.listen, carousel::config::without_numbers(&err))
            })?;
        Ok(Some(Self { address, stats }))
    }

    /// Address on which it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counters.
    pub const fn stats(&self) -> &Arc<IngestStats> {
        &self.stats
    }
}

/// The token of packagers.
///
/// # Errors
/// One line with the fix.
pub(crate) fn read_token(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|err| {
        let why = carousel::config::plain(&err);
        format!(
            "ingest.token_file {}: {why}; `openssl rand -hex 16` makes a token, chmod 640 the file",
            file.display()
        )
    })?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(format!("ingest.token_file {}: give 16 characters or more", file.display()));
    }
    Ok(token.to_owned())
}

async fn serve(shared: Rc<Shared>, stream: TcpStream) {
    let answer = service_fn(|request| {
        let shared = Rc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    // An idle connection is closed by the limit for heads.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.silence)
        // A client may close its sending side before it reads the response.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// A file that is being uploaded.
struct Upload {
    file: File,
    temporary: PathBuf,
    is_first: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Fails after a rename, when it no longer exists.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let mut response = Response::new(Empty::new());
        match self.handle(request).await {
            Ok(status) => *response.status_mut() = status,
            Err(why) => {
                self.stats.refused.add(why);
                *response.status_mut() = why.status();
                let headers = response.headers_mut();
                match why {
                    IngestRefusal::Unauthorized => {
                        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                    }
                    IngestRefusal::Full => {
                        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                    }
                    _ => {}
                }
            }
        }
        response
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<StatusCode, IngestRefusal> {
        self.authorize(request.headers().get(AUTHORIZATION))?;
        let (channel, path) = self.locate(request.uri().path())?;
        match *request.method() {
            Method::PUT | Method::POST => self.upload(channel, &path, request.into_body()).await,
            Method::DELETE => self.remove(channel, &path),
            _ => Err(IngestRefusal::Method),
        }
    }

    fn authorize(&self, given: Option<&HeaderValue>) -> Result<(), IngestRefusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = given.and_then(|it| it.as_bytes().strip_prefix(b"Bearer ")).unwrap_or_default();
        // Constant time for all tokens of this length.
        let differs = given.iter().zip(token.as_bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        if given.len() == token.len() && differs == 0 { Ok(()) } else { Err(IngestRefusal::Unauthorized) }
    }

    /// The source, and the path below its folder.
    fn locate(&self, path: &str) -> Result<(&Channel, String), IngestRefusal> {
        let path = path.strip_prefix('/').ok_or(IngestRefusal::BadPath)?;
        let (name, path) = path.split_once('/').ok_or(IngestRefusal::UnknownSource)?;
        let name = percent_decode_str(name).decode_utf8().map_err(|_| IngestRefusal::BadPath)?;
        let channel = self.channels.iter().find(|it| it.name == name).ok_or(IngestRefusal::UnknownSource)?;
        let path = percent_decode_str(path).decode_utf8().map_err(|_| IngestRefusal::BadPath)?;
        if !is_plain_path(&path) {
            return Err(IngestRefusal::BadPath);
        }
        Ok((channel, path.into_owned()))
    }

    async fn upload(
        &self,
        channel: &Channel,
        path: &str,
        mut body: Incoming,
    ) -> Result<StatusCode, IngestRefusal> {
        let said = body.size_hint().exact();
        if said.is_some_and(|length| length > self.file_bytes) {
            return Err(IngestRefusal::TooLong);
        }
        if said == Some(0) {
            // Some packagers probe for a listener first.
            return Ok(StatusCode::OK);
        }
        let mut place = channel.folder.ledger.begin(path)?;
        let mut upload = self.open(channel, path)?;
        let mut length = 0;
        loop {
            let frame = match tokio::time::timeout(self.silence, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) | Err(_) => return Err(IngestRefusal::BrokenOff),
            };
            let Some(data) = frame.data_ref() else { continue };
            length += data.len() as u64;
            if length > self.file_bytes {
                return Err(IngestRefusal::TooLong);
            }
            place.take(data.len() as u64)?;
            upload.file.write_all(data).map_err(|_| IngestRefusal::Io)?;
        }
        if length == 0 {
            return Ok(StatusCode::OK);
        }
        self.keep(channel, path, (&upload, place), length)
    }

    /// Opens the temporary file of an upload: under the name that is followed, or, if another packager writes that, under a
    /// hidden one.
    fn open(&self, channel: &Channel, path: &str) -> Result<Upload, IngestRefusal> {
        let file = channel.folder.root.join(path);
        let folder = channel.folder.folder_for(&file).map_err(|_| IngestRefusal::Io)?;
        let folder = folder.ok_or(IngestRefusal::BadPath)?;
        let name = file.file_name().and_then(|name| name.to_str()).ok_or(IngestRefusal::BadPath)?;
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        for (temporary, is_first) in [(format!("{name}.tmp"), true), (format!(".{name}.{number}.tmp"), false)]
        {
            let temporary = folder.join(temporary);
            match File::options().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(Upload { file, temporary, is_first }),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => return Err(IngestRefusal::Io),
            }
        }
        Err(IngestRefusal::Io)
    }

    /// Renames the file of a complete body.
    fn keep(
        &self,
        channel: &Channel,
        path: &str,
        (upload, place): (&Upload, UploadReservation<'_>),
        length: u64,
    ) -> Result<StatusCode, IngestRefusal> {
        let file = channel.folder.root.join(path);
        let is_new = !file.exists();
        let is_written = file.with_file_name(format!(
            "{}.tmp",
            file.file_name().and_then(|name| name.to_str()).unwrap_or_default()
        ));
        // The other packager's file is on the air, or will be.
        if !upload.is_first && !has_manifest_name(path) && (!is_new || is_written.exists()) {
            self.stats.redundant.fetch_add(1, Ordering::Relaxed);
            return Ok(StatusCode::OK);
        }
        fs::rename(&upload.temporary, &file).map_err(|_| IngestRefusal::Io)?;
        place.stored(path);
        self.stats.stored.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(if is_new { StatusCode::CREATED } else { StatusCode::OK })
    }

    fn remove(&self, channel: &Channel, path: &str) -> Result<StatusCode, IngestRefusal> {
        let file = channel.folder.root.join(path);
        if !file.parent().is_some_and(|it| channel.folder.holds(it)) || !file.is_file() {
            return Ok(StatusCode::NOT_FOUND);
        }
        fs::remove_file(&file).map_err(|_| IngestRefusal::Io)?;
        channel.folder.ledger.removed(path);
        self.stats.removed.fetch_add(1, Ordering::Relaxed);
        Ok(StatusCode::OK)
    }
}

/// Bytes of a name: file systems take 255, and `.tmp` is behind it during the upload.
const LONGEST_NAME_BYTES: usize = 251;

/// Whether an untrusted path stays in the folder, and does not name a hidden or temporary file.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= LONGEST_NAME_BYTES
            && !is_temporary(name)
            && !name.contains(['\\', '\0'])
            && !name.chars().any(char::is_control)
    };
    path.len() <= MAX_PATH_BYTES && path.split('/').count() <= MAX_DEPTH && path.split('/').all(is_name)
}

#[cfg(test)]
mod tests;
