//! Purges: removal of one object or of many, at once for players, and permanently across power cuts.
//!
//! A purge removes objects from the index, or makes them stale there, records the pending changes of their files (`purged` in the
//! store's folder, synced), and only then is acknowledged. The keeper carries them out afterwards: it renames the list to
//! `purging`, unlinks files, rewrites headers, syncs, and removes the list. A start after a power cut first carries out both
//! lists, so that no purged object comes back:
//!
//! ```text
//! SKYPURGE 1
//! 2b1c…(44 hexadecimal digits: the object's file) 9f86…(32: the first half of its digest)
//! 2b1c… 1784000000000(since when it is stale, in milliseconds since 1970) 9f86…
//! ```
//!
//! A file with another digest was published since, and stays. A torn last line is ignored: its purge was never acknowledged.
//!
//! Selection reads only names and surrogate keys of all objects: a few milliseconds for 100,000 objects, in steps between which
//! the index is unlocked.
//!
//! Recent purges are remembered (`memory.rs`), so that an object that was requested before one and completes after it is not kept.
//! Nor is one that a parent has held since before a purge of the last two hours: the purge may not have reached the parent yet.

mod memory;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use carousel::digest::to_hex;
use carousel::name::ObjectKey;
use carousel::time::WallTime;

use self::memory::PurgeMemory;
use super::file::append_lines;
use super::lock;
use super::variants::variants_of;
use super::{EvictReason, ObjectMeta, Store, StoredObject, Tier, file, format};
use crate::caching::{SurrogateHash, SurrogateKeys};
use crate::clock;

const FILE: &str = "purged";
/// The list while it is being carried out.
const DOING: &str = "purging";
const HEAD: &str = "SKYPURGE 1";
/// Hexadecimal digits of half a digest.
const DIGEST_DIGITS: usize = 32;
/// Objects removed from the index before it is unlocked in between.
const BATCH: usize = 256;
/// Objects examined before the index is unlocked in between: half a millisecond.
const LOOKED_AT: usize = if cfg!(test) { 64 } else { 4096 };

/// Objects that a purge selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One name, with all its variants.
    Name(ObjectKey),
    /// Every key with this prefix.
    Prefix(String),
    /// Every key that matches, with `*` for any run of characters and `?` for one.
    Pattern(String),
    /// Every object to which its origin has given this surrogate key.
    SurrogateKey(SurrogateHash),
}

impl Selection {
    /// Kinds, as metrics name them.
    pub const KINDS: [&str; 4] = ["name", "prefix", "pattern", "surrogate_key"];

    const fn kind(&self) -> usize {
        match self {
            Self::Name(_) => 0,
            Self::Prefix(_) => 1,
            Self::Pattern(_) => 2,
            Self::SurrogateKey(_) => 3,
        }
    }

    /// Whether it selects an object with this key and these surrogate keys.
    pub fn selects(&self, key: &str, surrogate_keys: Option<&SurrogateKeys>) -> bool {
        // Further objects of a name (`#1` …) are selected with it.
        let name = key.split('#').next().unwrap_or(key);
        match self {
            Self::Name(meant) => meant.as_str() == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
            Self::Pattern(pattern) => carousel::mabr::playback_path_matches(pattern, name),
            Self::SurrogateKey(hash) => surrogate_keys.is_some_and(|keys| keys.contains(*hash)),
        }
    }

    fn selects_object(&self, meta: &ObjectMeta) -> bool {
        self.selects(meta.key.as_str(), meta.response.as_ref().map(|it| &it.surrogate_keys))
    }
}

/// Effect of a purge on its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeMode {
    /// They are removed.
    Hard,
    /// They become stale: the origin is asked about them, and while it fails they may be served as any stale object.
    Soft,
}

/// Result of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Objects removed, or made stale.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The purge could not be recorded on disk: its objects could come back at the next start.
    pub is_forgotten_by_disk: bool,
}

/// Pending purges, and the memory of recent ones.
#[derive(Debug)]
pub(super) struct Purges {
    /// Recent purges.
    memory: PurgeMemory,
    /// Pending changes of files.
    pending: Mutex<Vec<Pending>>,
    /// Held while pending changes are carried out.
    doing: Mutex<()>,
    /// Purges since the start, in the order of [`Selection::KINDS`].
    done: [AtomicU64; Selection::KINDS.len()],
}

impl Purges {
    /// None are pending; those that earlier runs have remembered are known.
    pub(super) fn open(folder: &Path) -> Self {
        Self {
            memory: PurgeMemory::open(folder),
            pending: Mutex::default(),
            doing: Mutex::default(),
            done: Default::default(),
        }
    }
}

/// Pending change of the file of an object.
#[derive(Debug)]
enum Pending {
    Unlink(Arc<StoredObject>),
    /// Its header is rewritten: it is stale.
    Rewrite(Arc<StoredObject>),
}

impl Pending {
    /// Line of the list.
    fn line(&self) -> String {
        let (Self::Unlink(object) | Self::Rewrite(object)) = self;
        let name = file::object_name(object.meta.key.as_str());
        let digest = to_hex(&object.meta.digest.0[..DIGEST_DIGITS / 2]);
        match self {
            Self::Unlink(_) => format!("{name} {digest}\n"),
            Self::Rewrite(_) => {
                format!("{name} {} {digest}\n", object.meta.expires.map_or(0, WallTime::unix_ms))
            }
        }
    }
}

impl Store {
    /// Purges the objects in `wanted`: each entry has the possible readings of one name or prefix, of which the first that
    /// selects a held object counts, or those of one pattern, which all count: a path that is found anywhere also begins that of a
    /// player's request. Objects in memory and on flash are gone for players at once; open readers keep theirs. Waits for
    /// the disk.
    pub fn purge(&self, wanted: &[Vec<Selection>], mode: PurgeMode) -> Purged {
        // Before the index is searched: an object that is published meanwhile is caught by one or the other.
        let lines = self.0.purges.memory.remember(wanted.iter().flatten());
        let mut selected = Vec::new();
        for readings in wanted {
            let mut known = HashSet::new();
            for selection in readings {
                self.0.purges.done[selection.kind()].fetch_add(1, Ordering::Relaxed);
                let mut found = self.selected(selection);
                found.retain(|it| known.insert(Arc::as_ptr(it)));
                selected.extend(found);
                if !known.is_empty() && !matches!(selection, Selection::Pattern(_)) {
                    break;
                }
            }
        }
        let mut purged = match mode {
            PurgeMode::Hard => self.purge_hard(&selected),
            PurgeMode::Soft => self.purge_soft(&selected),
        };
        if let Err(err) = self.0.purges.memory.write(&lines) {
            tracing::warn!(%err, "a purge could not be recorded on the disk: after a restart, what a parent has held since before may be kept");
            purged.is_forgotten_by_disk = true;
        }
        purged
    }

    /// Purges that are remembered, and those that were forgotten for want of room since the start.
    pub fn remembered_purges(&self) -> (u64, u64) {
        self.0.purges.memory.counts()
    }

    /// Whether `selection` selects all objects, of which there are at least two.
    pub fn selects_all(&self, selection: &Selection) -> bool {
        let steps = (0..).step_by(LOOKED_AT);
        let others = |from| self.index().select(from, LOOKED_AT, |meta| !selection.selects_object(meta));
        let has_others = steps.map_while(others).any(|it| !it.is_empty());
        !has_others && self.index().len() >= 2
    }

    /// Purges since the start, by the kind of their selection.
    pub fn purges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let done = self.0.purges.done.iter().map(|it| it.load(Ordering::Relaxed)).collect::<Vec<_>>();
        Selection::KINDS.into_iter().zip(done)
    }

    /// Removes the objects that are `wanted`; returns their number.
    pub fn remove_selected(&self, wanted: impl Fn(&ObjectMeta) -> bool, reason: EvictReason) -> usize {
        let steps = (0..).step_by(LOOKED_AT);
        let step = |from| self.index().select(from, LOOKED_AT, &wanted);
        let selected: Vec<_> = steps.map_while(step).flatten().collect();
        selected.iter().for_each(|object| self.remove_exactly(object, reason));
        selected.len()
    }

    fn selected(&self, selection: &Selection) -> Vec<Arc<StoredObject>> {
        if let Selection::Name(key) = selection {
            let index = self.index();
            return variants_of(key).filter_map(|key| index.peek(key.as_str()).cloned()).collect();
        }
        // An object keeps its slot while it is held; one that enters an examined slot is compared with the remembered
        // purges.
        let steps = (0..).step_by(LOOKED_AT);
        let step = |from| self.index().select(from, LOOKED_AT, |meta| selection.selects_object(meta));
        steps.map_while(step).flatten().collect()
    }

    /// Whether an object that is now complete was purged since it was requested at `asked_at`.
    pub fn is_purged(&self, meta: &ObjectMeta, asked_at: WallTime) -> bool {
        self.0.purges.memory.has_purged(meta, asked_at)
    }

    /// Whether an object that its parent has held since `made_at` was purged here since, so recently that the parent may still
    /// have to be purged.
    pub fn is_purged_lately(&self, meta: &ObjectMeta, made_at: WallTime) -> bool {
        self.0.purges.memory.has_purged_lately(meta, made_at)
    }

    fn purge_hard(&self, selected: &[Arc<StoredObject>]) -> Purged {
        let mut purged = Purged::default();
        let mut gone = Vec::new();
        for batch in selected.chunks(BATCH) {
            let mut index = self.index();
            for object in batch {
                let key = object.meta.key.as_str();
                if index.peek(key).is_some_and(|now| Arc::ptr_eq(now, object)) {
                    index.remove(key, EvictReason::Purged);
                    purged.objects += 1;
                    purged.bytes += object.meta.length;
                    if !object.verified.load(Ordering::Acquire) {
                        self.0.unverified.fetch_sub(1, Ordering::Relaxed);
                    }
                    if object.tier() == Tier::Flash {
                        gone.push(Pending::Unlink(Arc::clone(object)));
                    }
                }
            }
        }
        purged.is_forgotten_by_disk = !self.write_down(gone);
        purged
    }

    fn purge_soft(&self, selected: &[Arc<StoredObject>]) -> Purged {
        let mut purged = Purged::default();
        let now = clock::steady();
        let mut stale = Vec::new();
        for object in selected {
            // Stale objects need no write: purges may come in quick succession.
            if object.meta.expires.is_none_or(|expires| expires > now) {
                let fresh = object.with_meta(ObjectMeta { expires: Some(now), ..object.meta.clone() });
                if !self.index().swap(object, Arc::clone(&fresh)) {
                    continue;
                }
                if object.tier() == Tier::Flash {
                    stale.push(Pending::Rewrite(fresh));
                }
            }
            purged.objects += 1;
            purged.bytes += object.meta.length;
        }
        purged.is_forgotten_by_disk = !self.write_down(stale);
        purged
    }

    /// Records pending changes of files. False if that fails: then they are carried out at once, as far as possible.
    fn write_down(&self, work: Vec<Pending>) -> bool {
        if work.is_empty() {
            return true;
        }
        // The list in memory and the one on disk change together.
        let mut pending = lock(&self.0.purges.pending);
        let written = append(self.path(), &work);
        pending.extend(work);
        drop(pending);
        if let Err(err) = &written {
            tracing::warn!(%err, "a purge could not be recorded on the disk: its objects may come back at the next start");
            self.finish_purges();
        }
        written.is_ok()
    }

    /// Carries out pending changes of files, and removes the list. Called by the keeper, and at a stop.
    pub(super) fn finish_purges(&self) {
        let _doing = lock(&self.0.purges.doing);
        let (list, doing) = (self.path().join(FILE), self.path().join(DOING));
        let mut pending = lock(&self.0.purges.pending);
        if pending.is_empty() {
            return;
        }
        // A list that could not be removed keeps its entries; later ones stay on the other list.
        let is_left = doing.exists();
        if !is_left && let Err(err) = fs::rename(&list, &doing) {
            tracing::debug!(%err, "the list of purged objects cannot be renamed");
        }
        let work = std::mem::take(&mut *pending);
        drop(pending);
        for work in &work {
            match work {
                Pending::Unlink(object) => self.unlink(std::slice::from_ref(object)),
                Pending::Rewrite(object) => self.rewrite(object),
            }
        }
        // Only finished entries leave the list.
        let mut done = file::sync_all(self.path()).and_then(|()| fs::remove_file(&doing));
        if is_left && done.is_ok() {
            // Locked, so that no purge adds an entry that would be removed with the list.
            let pending = lock(&self.0.purges.pending);
            if pending.is_empty() {
                done = fs::remove_file(&list);
            }
        }
        if let Err(err) = done {
            tracing::debug!(%err, "the list of purged objects stays; the next start reads it");
        }
    }

    /// Rewrites the header page of an object in place: a page that is torn by a power cut is not accepted at the next start.
    fn rewrite(&self, object: &Arc<StoredObject>) {
        let names = self.names();
        let key = object.meta.key.as_str();
        // Its replacement is fresh.
        if !self.index().peek(key).is_some_and(|now| Arc::ptr_eq(now, object)) {
            return;
        }
        let Some(header) = format::encode(&object.meta) else {
            // The date makes the metadata too long for the page.
            drop(names);
            self.remove_exactly(object, EvictReason::Purged);
            return;
        };
        let file = OpenOptions::new().write(true).open(object.path());
        if let Err(err) = file.and_then(|file| file.write_all_at(&header, 0)) {
            // The next start would find it fresh.
            tracing::debug!(key, %err, "a header cannot be rewritten: the object is removed");
            drop(names);
            self.remove_exactly(object, EvictReason::Purged);
        }
    }
}

/// Appends pending changes to the list.
fn append(folder: &Path, work: &[Pending]) -> io::Result<()> {
    let path = folder.join(FILE);
    let lines: String = work.iter().map(Pending::line).collect();
    append_lines(&path, HEAD, !path.exists(), &lines).map(|_| ())
}

/// Carries out the pending changes of an earlier run. Returns the number of files removed.
pub(super) fn finish(folder: &Path) -> u64 {
    let mut removed = 0;
    let mut is_done = false;
    let lists = [DOING, FILE].map(|name| folder.join(name));
    for path in &lists {
        let Ok(text) = fs::read_to_string(path) else { continue };
        is_done = true;
        let mut lines = text.lines();
        if lines.next() == Some(HEAD) {
            removed += lines.filter(|line| finish_line(folder, line)).count() as u64;
        }
    }
    if is_done {
        let done = file::sync_all(folder);
        let removed = lists.iter().filter(|it| it.exists()).try_for_each(fs::remove_file);
        if done.and(removed).is_err() {
            tracing::debug!("the list of purged objects stays");
        }
    }
    removed
}

/// Carries out one line of the list. Returns whether a file was removed.
fn finish_line(folder: &Path, line: &str) -> bool {
    let parts: Vec<&str> = line.split(' ').collect();
    let (name, stale_ms, digest) = match parts[..] {
        [name, digest] => (name, None, digest),
        [name, stale_ms, digest] => match stale_ms.parse() {
            Ok(stale_ms) => (name, Some(WallTime::from_unix_ms(stale_ms)), digest),
            Err(_) => return false,
        },
        _ => return false,
    };
    let is_name =
        |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_name(name, file::NAME_DIGITS) || !is_name(digest, DIGEST_DIGITS) {
        return false;
    }
    let path = file::path_of_name(folder, name);
    let meta = header_of(&path).filter(|it| it.digest.to_hex().starts_with(digest));
    let Some(meta) = meta else { return false };
    if let Some(stale) = stale_ms {
        let expires = meta.expires.map_or(stale, |expires| expires.min(stale));
        if let Some(header) = format::encode(&ObjectMeta { expires: Some(expires), ..meta }) {
            let file = OpenOptions::new().write(true).open(&path);
            if file.and_then(|file| file.write_all_at(&header, 0)).is_ok() {
                return false;
            }
        }
    }
    fs::remove_file(&path).is_ok()
}

fn header_of(path: &Path) -> Option<ObjectMeta> {
    let mut page = vec![0; format::HEADER_BYTES];
    File::open(path).and_then(|file| file.read_exact_at(&mut page, 0)).ok()?;
    format::decode(&page).ok()
}

#[cfg(test)]
mod tests;
