//! Files of a pulled source: partial ones, and those in the folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use carousel::name::resolve;
use tempfile::NamedTempFile;

use super::client::{Answer, Client, Validator};
use super::stats::{Failed, PullFailure, PullStats, without_secrets};
use super::{Origin, s3};
use crate::ingest::folder::FilledFolder;
use crate::ingest::is_plain_path;
use crate::ingest::ledger::UploadReservation;
use crate::options::{S3Location, has_manifest_name};
use crate::package::decode;

carousel::limits! {
    /// Manifests of a source whose redirects are remembered.
    pub(super) const MAX_MOVED: usize = 4096, "manifests" {
        why: "A presentation has some ten playlists; each is a place to look for every URL.",
        full: "A further manifest that is redirected is refused as `full`.",
        free: "When the manifest is no longer redirected, or no longer named.",
        test: "redirects_that_are_remembered_are_bounded_and_forgotten_with_their_manifest",
    }
}

/// Requests for one file before it counts as failed.
pub(super) const ATTEMPTS: u32 = 3;

/// Base of a source's files at their origin.
#[derive(Debug)]
pub(super) enum Base {
    /// URL of the manifest, query and all.
    Manifest(String),
    /// A bucket, and the beginning of keys.
    Bucket(S3Location),
}

/// Places of pulled files.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) base: Base,
    /// Path of the manifest below the folder; `None`: all of them.
    pub(super) manifest: Option<String>,
    /// Manifests that were redirected, with their final URLs: the files that they name are below those (RFC 3986 section
    /// 5.1.3).
    pub(super) moved: Mutex<BTreeMap<String, String>>,
    pub(super) folder: FilledFolder,
    pub(super) stats: Arc<PullStats>,
}

/// The folder of a path, with its last `/`.
fn folder_of(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..=at])
}

impl Files {
    /// URL of `path` below the folder of the manifest.
    pub(super) fn url_of(&self, path: &str) -> Option<String> {
        match &self.base {
            Base::Manifest(url) if self.manifest.as_deref() == Some(path) => Some(url.clone()),
            Base::Manifest(url) => match self.moved_base(path) {
                Some((base, rest)) => resolve(&base, rest).ok(),
                None => resolve(url, path).ok(),
            },
            Base::Bucket(location) => {
                Some(location.shown(&format!("{}{}", location.prefix, self.place_of(path)?)))
            }
        }
    }

    /// Records the redirect of a manifest, below whose target the files that it names are requested.
    pub(super) fn came_from(&self, manifest: &str, moved_to: Option<String>) -> Result<(), Failed> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        match moved_to {
            Some(_) if moved.len() >= MAX_MOVED && !moved.contains_key(manifest) => {
                let detail = format!("the redirects of {MAX_MOVED} manifests are remembered");
                return Err(Failed::new(PullFailure::Full, detail));
            }
            Some(url) => moved.insert(manifest.to_owned(), url),
            None => moved.remove(manifest),
        };
        Ok(())
    }

    /// Forgets the redirects of manifests that are no longer in use.
    pub(super) fn keep_redirects(&self, is_used: impl Fn(&str) -> bool) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.retain(|manifest, _| is_used(manifest));
    }

    /// The URL of the manifest below whose folder `path` is, if that has moved, and the rest of the path. Playlists are below the manifest of
    /// the source; media below the playlist whose folder is nearest.
    fn moved_base<'a>(&self, path: &'a str) -> Option<(String, &'a str)> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = |manifest: &str| self.manifest.as_deref() == Some(manifest);
        let is_manifest = has_manifest_name(path);
        let above = moved.iter().filter(|(manifest, _)| {
            path.starts_with(folder_of(manifest)) && (!is_manifest || is_first(manifest))
        });
        let (manifest, url) =
            above.max_by_key(|(manifest, _)| (folder_of(manifest).len(), !is_first(manifest)))?;
        Some((url.clone(), &path[folder_of(manifest).len()..]))
    }

    /// Origin, for messages.
    pub(super) fn shown(&self) -> String {
        match &self.base {
            Base::Manifest(url) => without_secrets(url),
            Base::Bucket(location) => location.shown(&location.prefix),
        }
    }

    /// Path of that in the store of pulled files.
    pub(super) fn place_of(&self, path: &str) -> Option<String> {
        let plain = decode(path.split(['?', '#']).next().unwrap_or_default());
        is_plain_path(&plain).then_some(plain)
    }

    /// Fetches a file and gives it its name. An interrupted body is continued, if the origin names the version. Returns ETag
    /// and bytes of a file from a bucket.
    pub(super) async fn fetch(&self, origin: &Origin, path: &str) -> Result<(String, u64), Failed> {
        let (Some(url), Some(name)) = (self.url_of(path), self.place_of(path)) else {
            self.stats.fail(path, PullFailure::BadPath);
            return Err(PullFailure::BadPath.into());
        };
        let fetched = match (origin, &self.base) {
            (Origin::Bucket(bucket), Base::Bucket(location)) => {
                let key = format!("{}{name}", location.prefix);
                s3::fetch::fetch(bucket, self, &key, &name).await
            }
            (Origin::Web(client), _) => {
                self.fetch_to(client, &url, &name, path).await.map(|()| (String::new(), 0))
            }
            (Origin::Bucket(_), Base::Manifest(_)) => Err(PullFailure::BadPath.into()),
        };
        fetched.inspect_err(|failed| self.stats.fail(&url, failed.clone()))
    }

    /// Fetches `path` from `url` into the file `name`, and records the redirects of a manifest.
    async fn fetch_to(&self, client: &Client, url: &str, name: &str, path: &str) -> Result<(), Failed> {
        let mut coming = self.begin(name)?;
        let mut validator = None::<Validator>;
        let mut attempt = 1;
        loop {
            let from = validator.as_ref().filter(|_| coming.bytes() > 0).map(|it| (coming.bytes(), it));
            let before = coming.bytes();
            let (mut body, whole_bytes, moved_to) = match client.get(url, None, from).await? {
                Answer::Unchanged { .. } => return Err(Failed::new(PullFailure::Status, "304")),
                // The next request asks for no range: only a body that breaks off, which counts, leads back here.
                Answer::OtherVersion => {
                    validator = None;
                    continue;
                }
                Answer::Body { continues: true, body, whole_bytes, moved_to, .. } => {
                    (body, whole_bytes, moved_to)
                }
                // Another version, or no ranges: from the start.
                Answer::Body { validator: new, body, moved_to, .. } => {
                    coming.restart()?;
                    validator = new;
                    (body, None, moved_to)
                }
            };
            let ended = loop {
                match body.next().await {
                    Ok(Some(data)) => coming.write(&data)?,
                    Ok(None) => break Ok(()),
                    Err(why) => break Err(why),
                }
            };
            let is_short = whole_bytes.is_some_and(|whole| coming.bytes() < whole);
            match ended {
                // A part of the requested range: the next request begins behind it.
                Ok(()) if is_short && coming.bytes() > before => {}
                Ok(()) if is_short => return Err(Failed::new(PullFailure::Cut, "a part without bytes")),
                Ok(()) => {
                    if has_manifest_name(path) {
                        self.came_from(path, moved_to)?;
                    }
                    return coming.keep();
                }
                Err(Failed { why, detail }) if attempt >= ATTEMPTS => {
                    return Err(Failed::new(why, format!("{detail}, at attempt {ATTEMPTS}")));
                }
                Err(_) => attempt += 1,
            }
        }
    }

    /// Stores a manifest if it differs from the current one.
    pub(super) fn store_manifest(&self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        if fs::read(self.folder.root.join(name)).is_ok_and(|it| it == bytes) {
            return Ok(());
        }
        let mut coming = self.begin(name)?;
        coming.write(bytes)?;
        coming.keep()
    }

    pub(super) fn begin<'a>(&'a self, name: &'a str) -> Result<PartialFile<'a>, Failed> {
        let place = self.folder.ledger.begin(name).map_err(|_| PullFailure::Full)?;
        let target = self.folder.root.join(name);
        let folder = self.folder.folder_for(&target).map_err(refused)?.ok_or(PullFailure::BadPath)?;
        let temporary = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)?;
        Ok(PartialFile { name, target, place, temporary, stats: &self.stats })
    }
}

/// A partial file, under a hidden name.
pub(super) struct PartialFile<'a> {
    name: &'a str,
    target: PathBuf,
    place: UploadReservation<'a>,
    temporary: NamedTempFile,
    stats: &'a PullStats,
}

impl PartialFile<'_> {
    /// Received bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.place.bytes()
    }

    /// Discards the received bytes.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        let file = self.temporary.as_file_mut();
        file.set_len(0)?;
        file.rewind()?;
        self.place.restart();
        Ok(())
    }

    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), Failed> {
        self.place.take(data.len() as u64).map_err(|_| PullFailure::Full)?;
        Ok(self.temporary.write_all(data)?)
    }

    /// Reserves room for all its bytes, which are written to [`PartialFile::file`].
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), Failed> {
        self.place.take(bytes).map_err(|_| PullFailure::Full)?;
        Ok(())
    }

    /// The file under its hidden name.
    pub(super) fn file(&self) -> io::Result<fs::File> {
        self.temporary.as_file().try_clone()
    }

    /// Gives the complete file its name.
    pub(super) fn keep(self) -> Result<(), Failed> {
        let bytes = self.bytes();
        self.temporary.persist(&self.target).map_err(|err| refused(err.error))?;
        self.place.stored(self.name);
        self.stats.files.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// An error of a file system. A bucket may have both `a` and `a/b`, which no folder has.
fn refused(err: io::Error) -> Failed {
    match err.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
            Failed::new(PullFailure::BadPath, "there is both a file and a folder of this name")
        }
        _ => err.into(),
    }
}
