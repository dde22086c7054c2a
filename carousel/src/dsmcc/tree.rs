//! Directory tree of a carousel to build, with the changed directories.
//!
//! Names that a directory cannot hold are adapted: paths are for people and other receivers, the URI is in the file's
//! description. An empty segment becomes `~`, a long one is cut and gets a hash; a full directory continues in
//! subdirectories `~2`, `~3` and so on, for which a quarter of its entries is reserved: with 512 bindings, 65,536 names
//! need at most one more level.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::profile::ObjectNumber;
use crate::digest::Digest;
use crate::limits::cut;

/// id_length is 8 bits, NUL included.
const MAX_NAME_BYTES: usize = 254;

/// Target of a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// A directory of the tree.
    Directory(usize),
    /// An object, and which of its files.
    File(ObjectNumber, usize),
}

#[derive(Debug, Default)]
struct Directory {
    children: BTreeMap<String, Child>,
    /// Directories in which it continues.
    further: Vec<usize>,
    /// The directory that this one continues.
    goes_on: Option<usize>,
    /// Module and key.
    home: Option<(u16, u16)>,
}

/// The directories by number and which of them changed. Directory 0 is the service gateway.
#[derive(Debug)]
pub(super) struct Tree {
    directories: Vec<Directory>,
    /// Names of a directory that are stored in a continuation of it.
    elsewhere: HashMap<(usize, String), usize>,
    dirty: BTreeSet<usize>,
    most_bindings: usize,
}

impl Tree {
    pub(super) fn new(most_bindings: usize) -> Self {
        Self {
            directories: vec![Directory::default()],
            elsewhere: HashMap::new(),
            dirty: BTreeSet::from([0]),
            most_bindings: most_bindings.max(4),
        }
    }

    /// Places a file at a path, adapted if necessary; returns the actual path.
    pub(super) fn place(&mut self, wanted: &str, file: Child) -> String {
        let segments: Vec<String> = wanted.trim_start_matches('/').split('/').map(holdable).collect();
        let Some((name, folders)) = segments.split_last() else { return String::new() };
        let (mut at, mut path) = (0, Vec::new());
        for folder in folders {
            at = self.folder_in(at, folder, &mut path);
        }
        at = self.with_room(at, name, &mut path);
        let mut unique = name.clone();
        let mut number = 1;
        while self.directories[at].children.contains_key(&unique) {
            number += 1;
            unique = holdable(&format!("{name}~{number}"));
        }
        self.directories[at].children.insert(unique.clone(), file);
        self.dirty.insert(at);
        path.push(unique);
        path.join("/")
    }

    /// The folder of this name, created if necessary; if a file has that name it becomes `name~`.
    fn folder_in(&mut self, at: usize, folder: &str, path: &mut Vec<String>) -> usize {
        let mut name = folder.to_owned();
        let at = self.with_room(at, &name, path);
        loop {
            match self.directories[at].children.get(&name) {
                Some(Child::Directory(child)) => {
                    let child = *child;
                    path.push(name);
                    return child;
                }
                Some(Child::File(..)) => name.push('~'),
                None => {
                    self.directories.push(Directory::default());
                    let child = self.directories.len() - 1;
                    self.directories[at].children.insert(name.clone(), Child::Directory(child));
                    self.dirty.extend([at, child]);
                    path.push(name);
                    return child;
                }
            }
        }
    }

    /// The directory itself if it has the name or room for it, otherwise a continuation of it.
    fn with_room(&mut self, at: usize, name: &str, path: &mut Vec<String>) -> usize {
        let directory = &self.directories[at];
        let kept = self.most_bindings / 4;
        if directory.children.contains_key(name)
            || directory.children.len() - directory.further.len() < self.most_bindings - kept
        {
            return at;
        }
        let known = self.elsewhere.get(&(at, name.to_owned())).copied();
        let last = directory.further.last().copied();
        let is_full = |it: usize| self.directories[it].children.len() >= self.most_bindings;
        let may_grow = directory.further.len() < kept;
        let there = known.or_else(|| last.filter(|&last| !may_grow || !is_full(last)));
        let there = there.unwrap_or_else(|| {
            let number = self.directories[at].further.len() + 2;
            self.directories.push(Directory { goes_on: Some(at), ..Directory::default() });
            let child = self.directories.len() - 1;
            self.directories[at].further.push(child);
            self.directories[at].children.insert(format!("~{number}"), Child::Directory(child));
            self.dirty.extend([at, child]);
            child
        });
        self.elsewhere.insert((at, name.to_owned()), there);
        let number = self.directories[at].further.iter().position(|it| *it == there).unwrap_or(0) + 2;
        path.push(format!("~{number}"));
        there
    }

    fn parent_of(&self, path: &str) -> Option<(usize, String)> {
        let (folders, name) = path.rsplit_once('/').map_or(("", path), |(folders, name)| (folders, name));
        let mut at = 0;
        for folder in folders.split('/').filter(|it| !it.is_empty()) {
            let Child::Directory(child) = self.directories[at].children.get(folder)? else { return None };
            at = *child;
        }
        Some((at, name.to_owned()))
    }

    /// Removes the file at a path.
    pub(super) fn remove(&mut self, path: &str) {
        if let Some((at, name)) = self.parent_of(path) {
            self.directories[at].children.remove(&name);
            self.dirty.insert(at);
            if let Some(of) = self.directories[at].goes_on {
                self.elsewhere.remove(&(of, name));
            }
        }
    }

    /// Records that the description of the file at a path has changed.
    pub(super) fn touch(&mut self, path: &str) {
        if let Some((at, _)) = self.parent_of(path) {
            self.dirty.insert(at);
        }
    }

    pub(super) fn take_dirty(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.dirty)
    }

    /// Directories without a module.
    pub(super) fn homeless(&self) -> Vec<usize> {
        // Directories are created in order and get their modules together.
        let housed = self.directories.iter().rposition(|it| it.home.is_some()).map_or(0, |at| at + 1);
        (housed..self.directories.len()).collect()
    }

    pub(super) fn house(&mut self, directory: usize, module: u16, key: u16) {
        self.directories[directory].home = Some((module, key));
    }

    pub(super) fn home(&self, directory: usize) -> Option<(u16, u16)> {
        self.directories.get(directory)?.home
    }

    pub(super) fn children(&self, directory: usize) -> impl Iterator<Item = (&String, &Child)> {
        self.directories[directory].children.iter()
    }
}

fn holdable(segment: &str) -> String {
    match segment {
        "" | "." | ".." => format!("~{segment}"),
        // Must not be taken for a continuation.
        segment if segment.starts_with('~') && segment.len() < MAX_NAME_BYTES => format!("~{segment}"),
        segment if segment.len() > MAX_NAME_BYTES => {
            format!("{}~{}", cut(segment, 200), &Digest::of(segment.as_bytes()).to_hex()[..16])
        }
        segment => segment.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_holdable_and_full_directories_go_on() {
        let mut tree = Tree::new(4);
        let mut place = |path: &str| tree.place(path, Child::File(0, 0));
        assert_eq!(place("h/a"), "h/a");
        assert_eq!(place("h/b"), "h/b");
        assert_eq!(place("h/c"), "h/c");
        assert_eq!(place("h/d"), "h/~2/d");
        assert_eq!(place("h/e/f"), "h/~2/e/f");
        assert_eq!(place("h/a/x"), "h/a~/x");
        assert_eq!(place("g//x"), "g/~/x");
        assert_eq!(place("g/~2"), "g/~~2");
        let long = place(&format!("g/{}", "n".repeat(300)));
        assert!(long.len() < 260);
    }

    #[test]
    fn tens_of_thousands_of_names_are_no_deeper_than_one_level_more() {
        let mut tree = Tree::new(512);
        let mut paths = BTreeSet::new();
        for number in 0..60_000 {
            let path = tree.place(&format!("h/vod/{number}.m4s"), Child::File(number, 0));
            assert!(path.split('/').count() <= 4, "{path}");
            assert!(paths.insert(path));
        }
        assert!(tree.directories.iter().all(|it| it.children.len() <= 512));
        for path in &paths {
            tree.remove(path);
        }
        assert!(tree.elsewhere.is_empty());
    }

    #[test]
    fn what_is_removed_leaves_room() {
        let mut tree = Tree::new(4);
        for name in ["a", "b", "c"] {
            tree.place(name, Child::File(0, 0));
        }
        tree.take_dirty();
        tree.remove("b");
        assert_eq!(tree.take_dirty(), BTreeSet::from([0]));
        assert_eq!(tree.place("d", Child::File(1, 0)), "d");
        assert_eq!(tree.children(0).count(), 3);
    }
}
