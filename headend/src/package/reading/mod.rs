//! One reading of a source: from its manifests to the carried and omitted files.
//!
//! | module | content |
//! |---|---|
//! | `manifests` | the newest complete version of each manifest |
//! | `playlists`, `presentation` | objects of HLS playlists, and of MPDs |
//! | `references` | resolution of a reference to a name and a file, or its fault |
//! | `carrying` | files taken into the inventory, or left out with their reason |
//! | `settling` | titles, query parameters, and files that no manifest refers to |

mod carrying;
mod manifests;
mod playlists;
mod presentation;
mod references;
mod settling;

pub(super) use settling::numbered;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use carousel::time::WallTime;

use super::refer::{Resolver, encode, role_of};
use super::tree::{FileOnDisk, Files};
use super::{Inventory, Memory, Options, Role};
use crate::sys::open_source_file;

/// Bytes examined to recognise a file without an extension as a manifest.
const SNIFF_BYTES: usize = 256;

pub(super) struct Reading<'a> {
    files: &'a Files,
    options: &'a Options,
    resolver: Resolver<'a>,
    now: WallTime,
    memory: &'a mut Memory,
    inventory: Inventory,
    /// Carried files, by their path in the file system.
    carried_files: HashSet<String>,
    /// Files left out with a reported reason.
    reported_files: HashSet<String>,
    /// Manifests referenced by others.
    referred: HashSet<String>,
    /// Names of query parameters in manifests, and of those that select content.
    query_names: BTreeSet<String>,
    selecting: BTreeSet<String>,
    /// Paths with several values of such a parameter.
    selected: HashSet<String>,
    /// Paths with a query.
    queried: BTreeMap<String, QueriedPath>,
    /// Query of each path in the current manifest.
    queries: HashMap<String, String>,
    /// Lengths of files carried in ranges.
    lengths: HashMap<String, u64>,
    /// Canonical path of the source's folder; determined at the first reference that may be a local path.
    own_root: OnceCell<Option<PathBuf>>,
    /// For each manifest that names objects of its own folder by their whole URL or by a path from the server's root: the
    /// first one, and their number.
    absolute: BTreeMap<String, (String, usize)>,
}

/// A path with a query.
#[derive(Default)]
struct QueriedPath {
    /// Place of the first one.
    place: String,
    /// Parameters.
    names: BTreeSet<String>,
    file: Option<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        files: &'a Files,
        options: &'a Options,
        now: WallTime,
        memory: &'a mut Memory,
        inventory: Inventory,
    ) -> Self {
        let resolver = Resolver::new(files, &options.base, options.ignored_query.as_ref());
        Self {
            files,
            options,
            resolver,
            now,
            memory,
            inventory,
            carried_files: HashSet::new(),
            reported_files: HashSet::new(),
            referred: HashSet::new(),
            query_names: BTreeSet::new(),
            selecting: BTreeSet::new(),
            selected: HashSet::new(),
            queried: BTreeMap::new(),
            queries: HashMap::new(),
            lengths: HashMap::new(),
            own_root: OnceCell::new(),
            absolute: BTreeMap::new(),
        }
    }

    pub(super) fn read(mut self, only: Option<&str>) -> Inventory {
        let manifests: Vec<String> =
            self.resolver.paths().filter(|path| self.is_manifest(path, only)).map(str::to_owned).collect();
        let (mut mpds, mut masters, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for path in manifests {
            let Some(bytes) = self.load(&path) else { continue };
            let uri = encode(&path);
            if is_mpd(&bytes) {
                mpds.push((uri, bytes));
            } else if is_multivariant(&bytes) {
                masters.push((uri, bytes));
            } else {
                lists.push((uri, bytes));
            }
        }
        for (uri, bytes) in mpds {
            self.mpd(&uri, &bytes);
        }
        for (uri, bytes) in masters {
            self.multivariant(&uri, &bytes, "", 0);
        }
        for (uri, bytes) in lists {
            if !self.referred.contains(&uri) {
                self.media_alone(&uri, &bytes, "", 0);
            }
        }
        self.order_presentations();
        self.settle_queries();
        self.settle_absolute();
        self.rest(only.is_some());
        self.leave_out_too_long();
        self.inventory
    }

    fn is_manifest(&self, path: &str, only: Option<&str>) -> bool {
        if let Some(only) = only {
            return path == only;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        if role_of(path) == Role::Manifest {
            return true;
        }
        // `/live/stream`, on servers that set types, may be a playlist.
        !name.contains('.') && self.files.get(path).is_some_and(sniff)
    }
}

fn sniff(file: &FileOnDisk) -> bool {
    use std::io::Read as _;
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    let read = open_source_file(&file.file).and_then(|it| it.take(SNIFF_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && (is_mpd(&head) || text_of(&head).starts_with(b"#EXTM3U"))
}

fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start()
}

/// Whether a manifest is an MPD, by its bytes, since names are unreliable.
fn is_mpd(bytes: &[u8]) -> bool {
    let text = text_of(bytes);
    text.starts_with(b"<") || text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff")
}

fn is_multivariant(bytes: &[u8]) -> bool {
    let tags = [
        "#EXT-X-STREAM-INF",
        "#EXT-X-MEDIA:",
        "#EXT-X-I-FRAME-STREAM-INF",
        "#EXT-X-IMAGE-STREAM-INF",
        "#EXT-X-SESSION-",
    ];
    let text = String::from_utf8_lossy(bytes);
    text.lines().take(10_000).any(|line| tags.iter().any(|tag| line.starts_with(tag)))
}

/// Removes duplicates, keeping the first.
fn dedup(paths: &mut Vec<String>) {
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
}
