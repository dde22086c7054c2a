//! Purges: removal of one object or of many, at once for players, and for good across power cuts.
//!
//! A purge takes objects out of the index, writes down whose files have to go (`purged` in the store's folder, synced), and
//! only then is acknowledged. The keeper unlinks the files afterwards and empties the list. A start after a power cut unlinks
//! what is on it first, so that nothing that was purged comes back:
//!
//! ```text
//! SKYPURGE 1
//! 2b1c…(44 hexadecimal digits: the object's file) 9f86…(32: the first half of its digest)
//! ```
//!
//! A file whose digest is another one has been published since, and stays. A last line that is torn is passed over: its purge
//! was never acknowledged.
//!
//! The last purges are remembered, so that an object that was asked for before one and becomes whole after it is not kept either.

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Deref;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carousel::name::ObjectKey;
use carousel::time::WallTime;

use super::variants::variants_of;
use super::{EvictReason, ObjectMeta, Store, StoredObject, Tier, file, format};
use crate::caching::{SurrogateHash, SurrogateKeys};
use crate::clock;

carousel::limits! {
    /// Purges whose selection is remembered for what is still being fetched.
    const MAX_RECENT: usize = 256, "purges" {
        why: "Each takes some 100 bytes, and every object that becomes whole is compared with all of them.",
        full: "The oldest is forgotten, and nothing that was asked for before it is kept.",
        free: "With the next purge.",
        test: "what_was_asked_for_before_a_forgotten_purge_is_not_kept",
    }
}

const FILE: &str = "purged";
const HEAD: &str = "SKYPURGE 1";
/// Hexadecimal digits of half a digest.
const DIGEST_DIGITS: usize = 32;
/// Objects taken out of the index before others may look something up in between.
const BATCH: usize = 256;

/// Objects that a purge selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One name, with all its variants.
    Name(ObjectKey),
    /// Every key that begins so.
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

    /// Whether an object with this key and these surrogate keys is meant.
    pub fn selects(&self, key: &str, surrogate_keys: Option<&SurrogateKeys>) -> bool {
        // Further objects of a name (`#1` …) are meant with it.
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
    /// The disk took no note of it: what is on it could come back with the next start.
    pub is_forgotten_by_disk: bool,
}

/// Purges that are not over.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// The last ones, the oldest first.
    recent: Mutex<Recent>,
    /// Objects whose files have to go.
    to_unlink: Mutex<Vec<Arc<StoredObject>>>,
    /// Purges since the start, in the order of [`Selection::KINDS`].
    done: [AtomicU64; Selection::KINDS.len()],
}

#[derive(Debug, Default)]
struct Recent {
    purges: VecDeque<(WallTime, Selection)>,
    /// When the newest was made of those that are forgotten.
    forgotten: Option<WallTime>,
}

/// A panic in between leaves a list that is consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Purges what is `wanted`: each entry has the readings of one name, of which the first counts that means anything held.
    /// Objects in memory and on flash are gone for players at once; open readers keep theirs. Waits for the disk.
    pub fn purge(&self, wanted: &[Vec<Selection>], mode: PurgeMode) -> Purged {
        // Before the index is looked through: what becomes whole meanwhile is seen by one of both.
        for selection in wanted.iter().flatten() {
            self.remember_purge(selection.clone());
        }
        let all = LazyCell::new(|| self.list());
        let mut selected = Vec::new();
        for readings in wanted {
            let mut found = readings.iter().map(|selection| {
                self.0.purges.done[selection.kind()].fetch_add(1, Ordering::Relaxed);
                self.selected(selection, &all)
            });
            selected.extend(found.find(|it| !it.is_empty()).unwrap_or_default());
        }
        match mode {
            PurgeMode::Hard => self.purge_hard(&selected),
            PurgeMode::Soft => self.purge_soft(&selected),
        }
    }

    /// Purges since the start, by the kind of their selection.
    pub fn purges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let done = self.0.purges.done.iter().map(|it| it.load(Ordering::Relaxed)).collect::<Vec<_>>();
        Selection::KINDS.into_iter().zip(done)
    }

    fn selected(
        &self,
        selection: &Selection,
        all: &impl Deref<Target = Vec<Arc<StoredObject>>>,
    ) -> Vec<Arc<StoredObject>> {
        if let Selection::Name(key) = selection {
            let index = self.index();
            return variants_of(key).filter_map(|key| index.peek(key.as_str()).cloned()).collect();
        }
        all.iter().filter(|object| selection.selects_object(&object.meta)).cloned().collect()
    }

    fn remember_purge(&self, selection: Selection) {
        let mut recent = lock(&self.0.purges.recent);
        if recent.purges.len() >= MAX_RECENT
            && let Some((at, _)) = recent.purges.pop_front()
        {
            recent.forgotten = Some(at);
        }
        recent.purges.push_back((clock::steady(), selection));
    }

    /// Whether an object that has just become whole was purged since it was asked for at `asked_at`.
    pub fn is_purged(&self, meta: &ObjectMeta, asked_at: WallTime) -> bool {
        let recent = lock(&self.0.purges.recent);
        recent.forgotten.is_some_and(|at| asked_at <= at)
            || recent.purges.iter().any(|(at, selection)| asked_at <= *at && selection.selects_object(meta))
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
                        gone.push(Arc::clone(object));
                    }
                }
            }
        }
        if gone.is_empty() {
            return purged;
        }
        // The list and what is written down are changed together.
        let mut to_unlink = lock(&self.0.purges.to_unlink);
        let written = append(self.path(), &gone);
        to_unlink.extend(gone);
        drop(to_unlink);
        if let Err(err) = written {
            tracing::warn!(%err, "the disk takes no note of a purge");
            self.unlink_purged();
            purged.is_forgotten_by_disk = true;
        }
        purged
    }

    /// Rewrites header pages in place: a page that is torn by a power cut is not accepted at the next start.
    fn purge_soft(&self, selected: &[Arc<StoredObject>]) -> Purged {
        let mut purged = Purged::default();
        let now = clock::steady();
        let mut is_on_flash = false;
        for object in selected {
            let expires = object.meta.expires.map_or(now, |expires| expires.min(now));
            let meta = ObjectMeta { expires: Some(expires), ..object.meta.clone() };
            let Some(header) = format::encode(&meta) else { continue };
            let (length, names) = (meta.length, self.names());
            if !self.index().swap(object, object.with_meta(meta)) {
                continue;
            }
            if object.tier() == Tier::Flash {
                let file = OpenOptions::new().write(true).open(object.path());
                let written = file.and_then(|file| file.write_all_at(&header, 0));
                purged.is_forgotten_by_disk |= written.is_err();
                is_on_flash = true;
            }
            drop(names);
            purged.objects += 1;
            purged.bytes += length;
        }
        if is_on_flash {
            purged.is_forgotten_by_disk |= file::sync_all(self.path()).is_err();
        }
        purged
    }

    /// Unlinks the files of purged objects and empties the list of them. Called by the keeper, and at a stop.
    pub(super) fn unlink_purged(&self) {
        let mut to_unlink = lock(&self.0.purges.to_unlink);
        if to_unlink.is_empty() {
            return;
        }
        self.unlink(&to_unlink);
        to_unlink.clear();
        // Only names that are gone for good leave the list.
        let done = file::sync_all(self.path()).and_then(|()| fs::remove_file(self.path().join(FILE)));
        if let Err(err) = done {
            tracing::debug!(%err, "the list of purged objects stays; the next start reads it");
        }
    }
}

/// Writes down whose files have to go.
fn append(folder: &Path, gone: &[Arc<StoredObject>]) -> io::Result<()> {
    let path = folder.join(FILE);
    let mut text = if path.exists() { "\n".to_owned() } else { format!("{HEAD}\n") };
    for object in gone {
        let name = file::object_name(object.meta.key.as_str());
        text.push_str(&name);
        text.push(' ');
        text.push_str(&object.meta.digest.to_hex()[..DIGEST_DIGITS]);
        text.push('\n');
    }
    let mut list = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    list.write_all(text.as_bytes())?;
    list.sync_data()?;
    // Its name has to be there too.
    File::open(folder)?.sync_all()
}

/// Unlinks what an earlier run has purged and not unlinked. Returns the number of files.
pub(super) fn finish(folder: &Path) -> u64 {
    let path = folder.join(FILE);
    let Ok(text) = fs::read_to_string(&path) else { return 0 };
    let mut lines = text.lines();
    let mut removed = 0;
    if lines.next() == Some(HEAD) {
        for line in lines {
            let Some((name, digest)) = line.split_once(' ') else { continue };
            let is_name = |text: &str, digits| {
                text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            if !is_name(name, file::NAME_DIGITS) || !is_name(digest, DIGEST_DIGITS) {
                continue;
            }
            let file = file::path_of_name(folder, name);
            if is_of_digest(&file, digest) && fs::remove_file(&file).is_ok() {
                removed += 1;
            }
        }
    }
    let done = if removed > 0 { file::sync_all(folder) } else { Ok(()) };
    if done.and_then(|()| fs::remove_file(&path)).is_err() {
        tracing::debug!("the list of purged objects stays");
    }
    removed
}

fn is_of_digest(path: &PathBuf, digest: &str) -> bool {
    let mut page = vec![0; format::HEADER_BYTES];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut page, 0));
    read.is_ok() && format::decode(&page).is_ok_and(|meta| meta.digest.to_hex().starts_with(digest))
}

#[cfg(test)]
mod tests;
