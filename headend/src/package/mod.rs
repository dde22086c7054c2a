//! Packaged HLS and DASH on disk, read into an [`Inventory`]: presentations, their rungs, and every object that a
//! manifest refers to.
//!
//! ```text
//! directory ─ tree ─▶ files ─┬ *.m3u8 ─ hls  ─┐
//!                            └ *.mpd  ─ dash ─┴─ refer ─▶ Inventory { presentations, objects, problems }
//! ```
//!
//! One bad manifest is a [`Problem`], not a failure: the rest is carried. Media are opaque, encrypted or not; nothing
//! is hashed here. `scan` prints an inventory, `air` sends it.

mod dash;
mod hls;
mod inventory;
pub mod media;
mod refer;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

use carousel::xml;

pub use inventory::{Inventory, Kind, ObjectSource, Presentation, Problem, Role, Rung, TrackKind};
pub use refer::content_type;
use refer::{Referred, Resolver};

/// Bytes of a manifest. A day of 2-second segments in one playlist is 4 MB.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Objects of one source.
pub const MAX_OBJECTS: usize = 1_000_000;

/// Why nothing can be read.
#[derive(Debug)]
pub enum PackageError {
    /// The source is not there or cannot be read.
    Io(PathBuf, std::io::Error),
    /// There is nothing in it that could be carried; the problems say why.
    Nothing(PathBuf, Vec<Problem>),
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, err) => write!(
                f,
                "{}: {err}; give a directory with packaged HLS or DASH, or a manifest",
                path.display()
            ),
            Self::Nothing(path, problems) => {
                write!(f, "{}: nothing to carry", path.display())?;
                if problems.is_empty() {
                    f.write_str("; the directory is empty")?;
                }
                problems.iter().take(5).try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for PackageError {}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Also carry files that no manifest refers to.
    pub include_unreferenced: bool,
    /// The URL of the directory: absolute references below it count as local.
    pub base: String,
}

/// Reads a directory, or the directory of a manifest with only that manifest and what it refers to.
///
/// # Errors
/// [`PackageError`] if there is nothing to carry.
pub fn read(source: &Path, options: &Options) -> Result<Inventory, PackageError> {
    let io = |err| PackageError::Io(source.to_owned(), err);
    let metadata = std::fs::metadata(source).map_err(io)?;
    let (root, only) = if metadata.is_dir() {
        (source.to_owned(), None)
    } else {
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
        (source.parent().map_or_else(|| PathBuf::from("."), Path::to_owned), name)
    };
    let mut problems = Vec::new();
    let files = tree::walk(&root, &mut problems).map_err(io)?;
    let mut reading = Reading {
        resolver: Resolver::new(&files, &options.base),
        inventory: Inventory { root, problems, ..Inventory::default() },
    };
    reading.manifests(only.as_deref());
    let mut inventory = reading.inventory;
    let no_manifest = inventory.presentations.is_empty() && inventory.problems.is_empty();
    for (path, file) in &files {
        if inventory.objects.contains_key(path) {
            continue;
        }
        if only.is_none() && (options.include_unreferenced || no_manifest) {
            let object = file.object(path, refer::role_of(path));
            inventory.objects.insert(path.clone(), object);
        } else {
            inventory.unreferenced += 1;
        }
    }
    if inventory.objects.is_empty() {
        return Err(PackageError::Nothing(source.to_owned(), inventory.problems));
    }
    Ok(inventory)
}

/// What changed between two readings of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New, or other bytes than before; segments and init segments before manifests, so that nothing is announced
    /// before it is there.
    pub added: Vec<ObjectSource>,
    /// Gone, or replaced by what is in `added`.
    pub removed: Vec<String>,
}

/// Compares by path, length and modification time.
pub fn changes(old: &Inventory, new: &Inventory) -> Changes {
    let mut changes = Changes::default();
    for (path, object) in &new.objects {
        match old.objects.get(path) {
            Some(before) if before == object => {}
            before => {
                if before.is_some() {
                    changes.removed.push(path.clone());
                }
                changes.added.push(object.clone());
            }
        }
    }
    changes.removed.extend(old.objects.keys().filter(|path| !new.objects.contains_key(*path)).cloned());
    changes.added.sort_by_key(|object| (object.role == Role::Manifest, object.modified_ns));
    changes
}

struct Reading<'a> {
    resolver: Resolver<'a>,
    inventory: Inventory,
}

impl Reading<'_> {
    fn manifests(&mut self, only: Option<&str>) {
        let all: Vec<String> =
            self.resolver.manifests().filter(|path| only.is_none_or(|only| only == *path)).collect();
        let mut playlists = Vec::new();
        for path in all {
            let Some(bytes) = self.load(&path) else { continue };
            if path.to_ascii_lowercase().ends_with(".mpd") {
                match xml::parse(&bytes).map_err(|err| err.to_string()).and_then(|root| dash::parse(&root)) {
                    Ok(mpd) => self.dash(&path, mpd),
                    Err(why) => self.problem(
                        &path,
                        why,
                        "it is tried again when it changes; if it is finished, package it anew",
                    ),
                }
            } else {
                match std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned()).and_then(hls::parse) {
                    Ok(playlist) => playlists.push((path, playlist)),
                    Err(why) => self.problem(
                        &path,
                        why,
                        "it is tried again when it changes; if it is finished, package it anew",
                    ),
                }
            }
        }
        let mut used: Vec<String> = Vec::new();
        for (path, playlist) in &playlists {
            if let hls::Playlist::Multivariant(multivariant) = playlist {
                self.hls(path, multivariant, &mut used);
            }
        }
        for (path, playlist) in &playlists {
            if let hls::Playlist::Media(media) = playlist
                && !used.contains(path)
            {
                self.carry(path, Role::Manifest);
                let rung = hls::Offer { uri: path.clone(), ..hls::Offer::default() };
                let rung = self.hls_rung(path, &rung, media);
                let (live, duration_s) = (!media.ended, Some(rung.duration_s).filter(|_| media.ended));
                let rungs = vec![rung];
                self.inventory.presentations.push(Presentation {
                    kind: Kind::Hls,
                    manifest: path.clone(),
                    live,
                    duration_s,
                    rungs,
                });
            }
        }
    }

    fn hls(&mut self, manifest: &str, multivariant: &hls::Multivariant, used: &mut Vec<String>) {
        self.carry(manifest, Role::Manifest);
        let (mut rungs, mut live, mut duration_s) = (Vec::new(), false, None);
        for offer in &multivariant.offers {
            let Some(path) = self.resolve(manifest, offer.line, &offer.uri) else { continue };
            if path == manifest {
                self.problem(
                    &format!("{manifest}:{}", offer.line),
                    "the playlist refers to itself".to_owned(),
                    "refer to a media playlist",
                );
                continue;
            }
            let first_use = !used.contains(&path);
            used.push(path.clone());
            if !first_use && rungs.iter().any(|rung: &Rung| rung.playlist.as_deref() == Some(&path)) {
                continue;
            }
            if !self.carry(&path, Role::Manifest) {
                self.missing(&format!("{manifest}:{}", offer.line), &path);
                continue;
            }
            let Some(bytes) = self.load(&path) else { continue };
            match std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned()).and_then(hls::parse) {
                Ok(hls::Playlist::Media(media)) => {
                    let rung = self.hls_rung(&path, offer, &media);
                    live |= !media.ended;
                    if media.ended {
                        duration_s = Some(duration_s.unwrap_or(0.0_f64).max(rung.duration_s));
                    }
                    rungs.push(rung);
                }
                Ok(hls::Playlist::Multivariant(_)) => self.problem(
                    &format!("{manifest}:{}", offer.line),
                    format!("{path} is a multivariant playlist itself"),
                    "a multivariant playlist refers to media playlists only",
                ),
                Err(_) if first_use => {} // already a problem of its own
                Err(_) => {}
            }
        }
        for (line, uri) in &multivariant.others {
            if let Some(path) = self.resolve(manifest, *line, uri)
                && !self.carry(&path, refer::role_of(&path))
            {
                self.missing(&format!("{manifest}:{line}"), &path);
            }
        }
        self.inventory.presentations.push(Presentation {
            kind: Kind::Hls,
            manifest: manifest.to_owned(),
            live,
            duration_s: duration_s.filter(|_| !live),
            rungs,
        });
    }

    fn hls_rung(&mut self, playlist: &str, offer: &hls::Offer, media: &hls::Media) -> Rung {
        let mut rung = Rung {
            id: playlist.to_owned(),
            kind: offer.kind.unwrap_or(TrackKind::Video),
            bandwidth_bps: offer.bandwidth_bps,
            codecs: offer.codecs.clone(),
            resolution: offer.resolution,
            language: offer.language.clone(),
            playlist: Some(playlist.to_owned()),
            dash_ids: None,
            inits: Vec::new(),
            segments: Vec::new(),
            duration_s: media.duration_s,
        };
        for reference in &media.references {
            let Some(path) = self.resolve(playlist, reference.line, &reference.uri) else { continue };
            let list = if reference.role == Role::Init { &mut rung.inits } else { &mut rung.segments };
            if list.last() == Some(&path) {
                continue; // byte ranges of one file
            }
            if self.carry(&path, reference.role) {
                list.push(path);
            } else if !reference.may_be_missing {
                self.missing(&format!("{playlist}:{}", reference.line), &path);
            }
        }
        dedup(&mut rung.inits);
        dedup(&mut rung.segments);
        rung
    }

    fn dash(&mut self, manifest: &str, mpd: dash::Mpd) {
        self.carry(manifest, Role::Manifest);
        let mut rungs = Vec::new();
        for note in mpd.notes {
            self.problem(manifest, note, "the manifest is carried as it is");
        }
        for (line, uri) in mpd.others.iter().map(|uri| (0, uri)) {
            if let Some(path) = self.resolve(manifest, line, uri)
                && !self.carry(&path, refer::role_of(&path))
            {
                self.missing(manifest, &path);
            }
        }
        for representation in mpd.representations {
            let place = format!("{manifest} (Representation {})", representation.ids[2]);
            let mut rung = Rung {
                id: representation.ids[2].clone(),
                kind: representation.kind,
                bandwidth_bps: representation.bandwidth_bps,
                codecs: representation.codecs,
                resolution: representation.resolution,
                language: representation.language,
                playlist: None,
                dash_ids: Some(representation.ids),
                inits: Vec::new(),
                segments: Vec::new(),
                duration_s: representation.duration_s,
            };
            if let Some(path) = representation.init.and_then(|uri| self.resolve(manifest, 0, &uri)) {
                if self.carry(&path, Role::Init) {
                    rung.inits.push(path);
                } else {
                    self.missing(&place, &path);
                }
            }
            match representation.addressing {
                dash::Addressing::List(uris) => {
                    let count = uris.len();
                    for (at, uri) in uris.into_iter().enumerate() {
                        let Some(path) = self.resolve(manifest, 0, &uri) else { continue };
                        if self.carry(&path, Role::Segment) {
                            rung.segments.push(path);
                        } else if at + 1 < count || !representation.last_may_be_missing {
                            self.missing(&place, &path);
                        }
                    }
                }
                // A live template names no end: what is there is what is to be had.
                dash::Addressing::Pattern { before, after } => {
                    // A digit stands in, so that what is resolved is the name of a file.
                    let resolved = self.resolve(manifest, 0, &format!("{before}0"));
                    let before = resolved.and_then(|path| path.strip_suffix('0').map(str::to_owned));
                    let found =
                        before.map_or_else(Vec::new, |before| self.resolver.matching(&before, &after));
                    for path in found {
                        if self.carry(&path, Role::Segment) {
                            rung.segments.push(path);
                        }
                    }
                }
            }
            dedup(&mut rung.segments);
            rungs.push(rung);
        }
        self.inventory.presentations.push(Presentation {
            kind: Kind::Dash,
            manifest: manifest.to_owned(),
            live: mpd.live,
            duration_s: mpd.duration_s,
            rungs,
        });
    }

    fn load(&mut self, path: &str) -> Option<Vec<u8>> {
        let file = self.resolver.file(path)?;
        if file.length > MAX_MANIFEST_BYTES {
            self.problem(
                path,
                format!("{} bytes are too many for a manifest", file.length),
                "split the presentation",
            );
            return None;
        }
        match std::fs::read(&file.file) {
            Ok(bytes) => Some(bytes),
            Err(err) => {
                self.problem(path, err.to_string(), "make the file readable");
                None
            }
        }
    }

    fn resolve(&mut self, manifest: &str, line: usize, uri: &str) -> Option<String> {
        let place = if line > 0 { format!("{manifest}:{line}") } else { manifest.to_owned() };
        match self.resolver.resolve(manifest, uri) {
            Referred::Local(path) => Some(path),
            Referred::Opaque => None,
            Referred::Remote => {
                self.problem(
                    &place,
                    format!("{uri} lies elsewhere and is not carried"),
                    "players fetch it from there; package it locally to carry it",
                );
                None
            }
            Referred::Escapes => {
                self.problem(
                    &place,
                    format!("{uri} leaves the source's directory and is not carried"),
                    "scan a directory that holds everything",
                );
                None
            }
        }
    }

    /// Takes the file into the inventory; false if it is not there.
    fn carry(&mut self, path: &str, role: Role) -> bool {
        if self.inventory.objects.contains_key(path) {
            return true;
        }
        let Some(file) = self.resolver.file(path) else { return false };
        self.inventory.objects.insert(path.to_owned(), file.object(path, role));
        true
    }

    fn missing(&mut self, place: &str, path: &str) {
        self.problem(place, format!("{path} is missing"), "put the file there, or package anew");
    }

    fn problem(&mut self, place: &str, what: String, mend: &'static str) {
        let problem = Problem { place: place.to_owned(), what, mend };
        if self.inventory.problems.len() < tree::MAX_PROBLEMS && !self.inventory.problems.contains(&problem) {
            self.inventory.problems.push(problem);
        }
    }
}

/// Drops repeats, keeps the first of each.
fn dedup(paths: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
}

#[cfg(test)]
mod tests;
