//! The files of a followed source, kept up to date by the kernel's events (inotify): nothing is read while nothing
//! changes, and a file counts as finished when its writer has closed or renamed it.
//!
//! | what is known of a file | finished |
//! |---|---|
//! | closed after writing, or renamed into place | at once |
//! | written to, not closed | when it is closed; after [`ABANDONED`] without a change, its writer is taken to have leaked it |
//! | found, linked or made without a write being seen | when it has not changed for [`SETTLE`] |
//!
//! On file systems without events (NFS, SMB, FUSE: another machine writes), and where the kernel has no more watches, the
//! folder is walked at every look, and the last rule holds for all files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use crate::package::tree::{self, FileOnDisk, Files, Folder, is_temporary};

/// A file whose writer was not seen counts as finished after this time without a change.
const SETTLE: Duration = Duration::from_secs(2);
/// A file that is still open for writing counts as finished after this time without a change, too.
const ABANDONED: Duration = Duration::from_secs(60);
/// All files are checked again after this time, for links whose target changed and events that a file system did not
/// send.
const WALK_INTERVAL: Duration = Duration::from_secs(60);
carousel::limits! {
    /// Files with temporary names that are remembered while they are written.
    const MAX_TEMPORARY: usize = 256, "files" {
        why: "A ladder writes one for each rendition; a copy of many films has some more.",
        full: "Further segments are sent when they are finished.",
        free: "When a file is renamed or removed.",
        test: "a_file_with_a_temporary_name_is_known_by_the_name_that_it_gets",
    }

    /// Folders of a source that are watched.
    const MAX_FOLDERS: usize = 8192, "folders" {
        why: "Linux lets a user watch 8,192 where memory is short; a package has some ten.",
        full: "The source is walked once a second instead.",
        free: "With the next start.",
        test: "a_source_with_too_many_folders_is_walked",
    }
}

/// Bytes of events that are read at once.
const EVENT_BYTES: usize = 64 << 10;
/// File systems whose changes other machines make.
const REMOTE: [&str; 12] =
    ["nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "gluster", "lustre", "beegfs", "virtiofs", "vboxsf"];

/// A file that is not finished yet.
#[derive(Debug, Clone, Copy)]
struct Pending {
    changed: Instant,
    is_written: bool,
}

/// The files of one source.
#[derive(Debug)]
pub(crate) struct Watch {
    root: PathBuf,
    links_to: Vec<PathBuf>,
    events: Option<Inotify>,
    folders: HashMap<WatchDescriptor, Folder>,
    files: Files,
    pending: HashMap<String, Pending>,
    /// Files that are being written under a temporary name, by the path that they will have.
    temporary: HashMap<String, PathBuf>,
    walked: Instant,
    /// Device and inode of the folder.
    identity: (u64, u64),
    /// The folder was moved or deleted, so that its events have ended or belong to another path.
    has_lost_root: bool,
}

impl Watch {
    /// Walks `root` and watches it from then on.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn start(root: &Path, links_to: &[PathBuf]) -> io::Result<Self> {
        let identity = identity(root)?;
        let mut watch = Self {
            root: root.to_owned(),
            links_to: links_to.to_vec(),
            events: if is_remote(root) { None } else { Inotify::init().ok() },
            folders: HashMap::new(),
            files: Files::new(),
            pending: HashMap::new(),
            temporary: HashMap::new(),
            walked: Instant::now(),
            identity,
            has_lost_root: false,
        };
        watch.walk_all()?;
        if watch.events.is_some() {
            // Changes between the first walk and its watches.
            watch.walk_all()?;
        }
        Ok(watch)
    }

    /// Files as of the last look.
    pub(crate) const fn files(&self) -> &Files {
        &self.files
    }

    /// Files that are as they were at an earlier reading are finished, however new they are.
    pub(crate) fn finish(&mut self, is_known: impl Fn(&FileOnDisk) -> bool) {
        for (path, file) in &mut self.files {
            if !file.is_finished && is_known(file) {
                file.is_finished = true;
                self.pending.remove(path);
            }
        }
    }

    /// Files that are being written, by the path that they have or will have.
    pub(crate) fn being_written(&self) -> impl Iterator<Item = (&str, &Path)> {
        let pending = self.pending.iter().filter(|(_, it)| it.is_written);
        let named =
            pending.filter_map(|(path, _)| Some((path.as_str(), self.files.get(path)?.file.as_path())));
        named.chain(self.temporary.iter().map(|(path, file)| (path.as_str(), file.as_path())))
    }

    /// Whether changes are known from events.
    pub(crate) const fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Whether the watched folder is still the one at its path. False: it was moved, deleted or replaced, and the one that is
    /// there now needs a new watch.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let now = identity(&self.root)?;
        // File systems without events may give a folder another number; all of them are walked at every look.
        Ok(self.events.is_none() || (!self.has_lost_root && now == self.identity))
    }

    /// Takes in what has happened since the last look. True if anything has.
    pub(crate) fn look(&mut self) -> bool {
        let mut has_changed = self.take_events();
        if self.events.is_none() || self.walked.elapsed() >= WALK_INTERVAL {
            has_changed |= self.walk_all().unwrap_or(false);
        }
        has_changed | self.settle()
    }

    /// True if a file or folder has changed.
    fn take_events(&mut self) -> bool {
        let (mut buffer, mut has_changed, mut is_incomplete) = ([0; EVENT_BYTES], false, false);
        while let Some(events) = &mut self.events {
            let events: Vec<(WatchDescriptor, EventMask, Option<String>)> =
                match events.read_events(&mut buffer) {
                    Ok(events) => events
                        .map(|event| {
                            (event.wd, event.mask, event.name.and_then(OsStr::to_str).map(str::to_owned))
                        })
                        .collect(),
                    Err(_) => break,
                };
            if events.is_empty() {
                break;
            }
            let ends =
                EventMask::MOVE_SELF | EventMask::DELETE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
            for (watch, mask, name) in events {
                let is_root = self.folders.get(&watch).is_some_and(|folder| folder.depth == 0);
                self.has_lost_root |= is_root && mask.intersects(ends);
                if mask.contains(EventMask::Q_OVERFLOW) {
                    is_incomplete = true;
                } else if mask.contains(EventMask::IGNORED) {
                    self.folders.remove(&watch);
                } else if let (Some(folder), Some(name)) = (self.folders.get(&watch).cloned(), name) {
                    has_changed |= self.event(&folder, mask, &name);
                }
            }
        }
        if is_incomplete {
            has_changed |= self.walk_all().unwrap_or(false);
        }
        has_changed
    }

    fn event(&mut self, folder: &Folder, mask: EventMask, name: &str) -> bool {
        let is_gone = mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM);
        if is_temporary(name) {
            if let Some(later) = tree::name_later(name).filter(|_| !mask.contains(EventMask::ISDIR)) {
                let path = format!("{}{later}", folder.prefix);
                if is_gone {
                    self.temporary.remove(&path);
                } else if self.temporary.len() < MAX_TEMPORARY {
                    self.temporary.insert(path, folder.path.join(name));
                }
            }
            return false;
        }
        let (path, file) = (format!("{}{name}", folder.prefix), folder.path.join(name));
        if mask.contains(EventMask::ISDIR) {
            let prefix = format!("{path}/");
            if !is_gone {
                let bounds = Arc::clone(&folder.bounds);
                let start = Folder { path: file, prefix, depth: folder.depth + 1, bounds };
                return self.walk(start).unwrap_or(false);
            }
            let before = self.files.len();
            self.files.retain(|path, _| !path.starts_with(&prefix));
            self.pending.retain(|path, _| !path.starts_with(&prefix));
            self.temporary.retain(|path, _| !path.starts_with(&prefix));
            let gone: Vec<WatchDescriptor> = self
                .folders
                .iter()
                .filter(|(_, it)| it.prefix.starts_with(&prefix))
                .map(|(it, _)| it.clone())
                .collect();
            for watch in gone {
                self.folders.remove(&watch);
                if let Some(events) = &self.events {
                    // A folder that was deleted has taken its watch with it.
                    let _ = events.watches().remove(watch);
                }
            }
            return self.files.len() != before;
        }
        // In its place there may be a link or a FIFO now.
        let found = if is_gone { None } else { tree::look(&file, &folder.bounds) };
        let Some(found) = found else {
            self.pending.remove(&path);
            return self.files.remove(&path).is_some();
        };
        if mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
            self.pending.remove(&path);
            return self.files.insert(path, found.clone()) != Some(found);
        }
        let is_written = mask.contains(EventMask::MODIFY);
        let pending = self
            .pending
            .entry(path.clone())
            .or_insert_with(|| Pending { changed: Instant::now(), is_written });
        pending.changed = Instant::now();
        pending.is_written |= is_written;
        let unfinished = FileOnDisk { is_finished: false, ..found };
        // Growth is not a change: the file is read when it is finished.
        self.files.insert(path, unfinished).is_none_or(|before| before.is_finished)
    }

    /// Files that have not changed for long enough are finished. True if there are any.
    fn settle(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let Ok(Folder { bounds, .. }) = Folder::root(&self.root, &self.links_to) else { return false };
        let mut settled = Vec::new();
        for (path, pending) in &mut self.pending {
            let patience = if pending.is_written { ABANDONED } else { SETTLE };
            let Some(known) = self.files.get(path) else { continue };
            if pending.changed.elapsed() < patience {
                continue;
            }
            match tree::look(&known.file, &bounds) {
                Some(now) if (now.length, now.modified_ns) == (known.length, known.modified_ns) => {
                    settled.push((path.clone(), now));
                }
                Some(now) => {
                    pending.changed = Instant::now();
                    self.files.insert(path.clone(), FileOnDisk { is_finished: false, ..now });
                }
                None => settled.push((path.clone(), FileOnDisk { is_finished: false, ..known.clone() })),
            }
        }
        for (path, file) in &settled {
            self.pending.remove(path);
            if file.is_finished {
                self.files.insert(path.clone(), file.clone())
            } else {
                self.files.remove(path)
            };
        }
        !settled.is_empty()
    }

    fn walk_all(&mut self) -> io::Result<bool> {
        self.walk(Folder::root(&self.root, &self.links_to)?)
    }

    /// Compares what is below `start` with what is known, and watches its folders. True if anything is different.
    fn walk(&mut self, start: Folder) -> io::Result<bool> {
        let (prefix, is_all) = (start.prefix.clone(), start.depth == 0);
        let (found, folders) = tree::walk(start, &mut Vec::new())?;
        if is_all {
            self.walked = Instant::now();
        }
        self.watch_folders(folders);
        let mut has_changed = false;
        let gone = |path: &String| path.starts_with(&prefix) && !found.contains_key(path);
        let before = self.files.len();
        self.files.retain(|path, _| !gone(path));
        has_changed |= self.files.len() != before;
        self.pending.retain(|path, _| !gone(path));
        for (path, file) in found {
            match self.files.get(&path) {
                Some(known)
                    if (known.length, known.modified_ns, &known.file)
                        == (file.length, file.modified_ns, &file.file) =>
                {
                    continue;
                }
                _ => {}
            }
            // A file that was written long ago is not waited for.
            let is_finished = !self.files.contains_key(&path) && is_older(&file, SETTLE);
            if !is_finished {
                let is_written = self.pending.get(&path).is_some_and(|it| it.is_written);
                self.pending.insert(path.clone(), Pending { changed: Instant::now(), is_written });
            }
            has_changed = true;
            self.files.insert(path, FileOnDisk { is_finished, ..file });
        }
        Ok(has_changed)
    }

    /// Watches folders; falls back to walking if the kernel has no more watches.
    fn watch_folders(&mut self, folders: Vec<Folder>) {
        let Some(events) = &self.events else { return };
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        for folder in folders {
            let has_room = self.folders.len() < MAX_FOLDERS;
            match events.watches().add(&folder.path, mask) {
                Ok(watch) if has_room || self.folders.contains_key(&watch) => {
                    self.folders.insert(watch, folder);
                }
                // A live packager removes folders, too.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                _ => {
                    eprintln!(
                        "{}: no events for {} folders; it is walked instead (fs.inotify.max_user_watches)",
                        self.root.display(),
                        self.folders.len()
                    );
                    self.events = None;
                    return;
                }
            }
        }
    }
}

/// Device and inode of a folder.
fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(folder)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn is_older(file: &FileOnDisk, than: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
    now - file.modified_ns > than.as_nanos() as i128
}

/// Whether another machine writes what is at `path`, by the table of mounts.
fn is_remote(path: &Path) -> bool {
    let (Ok(path), Ok(mounts)) = (path.canonicalize(), std::fs::read_to_string("/proc/self/mountinfo"))
    else {
        return false;
    };
    is_remote_in(&path, &mounts)
}

/// Fields of a line: id, parent, device, root, mount point, options, …, `-`, type, source, options (proc(5)).
fn is_remote_in(path: &Path, mounts: &str) -> bool {
    let mounted = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (point.len(), right.split(' ').next().unwrap_or_default()))
    });
    // Of two mounts on one point the later one is seen.
    let kind = mounted.max_by_key(|(length, _)| *length).map_or("", |(_, kind)| kind);
    REMOTE.iter().any(|remote| kind.starts_with(remote))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn finished(watch: &Watch) -> Vec<&str> {
        watch.files().iter().filter(|(_, file)| file.is_finished).map(|(path, _)| path.as_str()).collect()
    }

    /// Events are there when the call that caused them has returned.
    #[test]
    fn a_file_is_finished_when_it_is_closed_or_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(dir.path(), &[]).unwrap();
        assert!(watch.has_events());
        assert!(!watch.look());
        let mut file = std::fs::File::create(dir.path().join("a.m4s")).unwrap();
        file.write_all(b"half").unwrap();
        assert!(watch.look());
        assert_eq!(finished(&watch), [""; 0]);
        file.write_all(b"whole").unwrap();
        assert!(!watch.look(), "that it grows is not a change");
        drop(file);
        assert!(watch.look());
        assert_eq!((finished(&watch), watch.files()["a.m4s"].length), (vec!["a.m4s"], 9));
        std::fs::write(dir.path().join("b.m4s.tmp"), "b").unwrap();
        assert!(!watch.look());
        std::fs::rename(dir.path().join("b.m4s.tmp"), dir.path().join("b.m4s")).unwrap();
        assert!(watch.look());
        assert_eq!(finished(&watch), ["a.m4s", "b.m4s"]);
        std::fs::remove_file(dir.path().join("a.m4s")).unwrap();
        assert!(watch.look());
        assert_eq!(finished(&watch), ["b.m4s"]);
        // Written again: it is not finished until it is closed again.
        let file =
            std::fs::OpenOptions::new().write(true).truncate(true).open(dir.path().join("b.m4s")).unwrap();
        assert!(watch.look());
        assert_eq!(finished(&watch), [""; 0]);
        drop(file);
        assert!(watch.look());
        assert_eq!((finished(&watch), watch.files()["b.m4s"].length), (vec!["b.m4s"], 0));
    }

    #[test]
    fn a_file_with_a_temporary_name_is_known_by_the_name_that_it_gets() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(dir.path(), &[]).unwrap();
        let written =
            |watch: &Watch| watch.being_written().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
        std::fs::write(dir.path().join("a.m4s.tmp"), "a").unwrap();
        std::fs::write(dir.path().join(".b.m4s.tmp"), "b").unwrap();
        assert!(!watch.look());
        assert_eq!(written(&watch), ["a.m4s"]);
        std::fs::rename(dir.path().join("a.m4s.tmp"), dir.path().join("a.m4s")).unwrap();
        let mut open = std::fs::File::create(dir.path().join("c.m4s")).unwrap();
        open.write_all(b"c").unwrap();
        assert!(watch.look());
        assert_eq!((written(&watch), finished(&watch)), (vec!["c.m4s".to_owned()], vec!["a.m4s"]));
        drop(open);
        watch.look();
        assert!(written(&watch).is_empty());
        for at in 0..MAX_TEMPORARY + 2 {
            std::fs::write(dir.path().join(format!("{at}.m4s.tmp")), "a").unwrap();
        }
        watch.look();
        assert_eq!(written(&watch).len(), MAX_TEMPORARY);
        std::fs::remove_file(dir.path().join("0.m4s.tmp")).unwrap();
        watch.look();
        assert_eq!(written(&watch).len(), MAX_TEMPORARY - usize::from(watch.temporary.len() < MAX_TEMPORARY));
    }

    #[test]
    fn folders_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(dir.path(), &[]).unwrap();
        std::fs::create_dir_all(dir.path().join("v/1")).unwrap();
        assert!(!watch.look());
        std::fs::write(dir.path().join("v/1/a.m4s"), "a").unwrap();
        assert!(watch.look());
        assert_eq!(finished(&watch), ["v/1/a.m4s"]);
        std::fs::rename(dir.path().join("v"), dir.path().join("w")).unwrap();
        assert!(watch.look());
        assert!(watch.files().contains_key("w/1/a.m4s") && watch.files().len() == 1);
        std::fs::write(dir.path().join("w/1/b.m4s"), "b").unwrap();
        assert!(watch.look());
        assert!(finished(&watch).contains(&"w/1/b.m4s"));
        std::fs::remove_dir_all(dir.path().join("w")).unwrap();
        assert!(watch.look());
        assert!(watch.files().is_empty());
    }

    #[test]
    fn what_was_written_before_is_finished_if_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("new.m4s"), "n").unwrap();
        let old = std::fs::File::create(dir.path().join("old.m4s")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        drop(old);
        let mut watch = Watch::start(dir.path(), &[]).unwrap();
        assert_eq!(finished(&watch), ["old.m4s"]);
        let before = Instant::now().checked_sub(SETTLE).unwrap();
        watch.pending.values_mut().for_each(|it| it.changed = before);
        assert!(watch.look());
        assert_eq!(finished(&watch), ["new.m4s", "old.m4s"]);
        assert!(watch.pending.is_empty());
    }

    #[test]
    fn without_events_a_file_has_to_stay_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(dir.path(), &[]).unwrap();
        watch.events = None;
        std::fs::write(dir.path().join("a.m4s"), "a").unwrap();
        assert!(watch.look());
        assert_eq!(finished(&watch), [""; 0]);
        let before = Instant::now().checked_sub(SETTLE).unwrap();
        watch.pending.values_mut().for_each(|it| it.changed = before);
        std::fs::write(dir.path().join("a.m4s"), "ab").unwrap();
        watch.look();
        assert_eq!(finished(&watch), [""; 0], "it grew");
        watch.pending.values_mut().for_each(|it| it.changed = before);
        assert!(watch.look());
        assert_eq!(finished(&watch), ["a.m4s"]);
    }

    #[test]
    fn mounts_of_other_machines_are_known() {
        let mounts = "22 1 0:20 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / /mnt/my\\040films rw shared:1 - nfs4 nas:/f rw\n";
        assert!(is_remote_in(Path::new("/mnt/my films/one"), mounts));
        assert!(!is_remote_in(Path::new("/mnt/other"), mounts));
    }

    #[test]
    fn a_source_with_too_many_folders_is_walked() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..MAX_FOLDERS {
            std::fs::create_dir(dir.path().join(number.to_string())).unwrap();
        }
        // With the source's own it is one too many.
        assert!(!Watch::start(dir.path(), &[]).unwrap().has_events());
        std::fs::remove_dir(dir.path().join("0")).unwrap();
        let has_events = Watch::start(dir.path(), &[]).unwrap().has_events();
        let allowed = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
        assert!(has_events || allowed.trim().parse::<usize>().is_ok_and(|it| it < 2 * MAX_FOLDERS));
    }
}
