//! Paths of a carousel's objects, from the received directories, beginning at the service gateway.
//!
//! Directories of a hostile sender may contain themselves or each other, or be listed a thousand times; names may be
//! `..`. A walk goes no deeper than [`MAX_CAROUSEL_DEPTH`], never enters a directory that it is inside of, and ends at
//! [`MAX_CAROUSEL_NAMES`].

use std::collections::HashMap;
use std::sync::Arc;

use super::biop::{Binding, Kind, ObjectLocation};
use super::describe::Description;
use crate::limits::{MAX_CAROUSEL_BINDING_BYTES, MAX_CAROUSEL_DEPTH, MAX_CAROUSEL_NAMES, MAX_URI_BYTES};

/// Memory of a binding in addition to its name and descriptors.
const BINDING_BYTES: usize = 160;

/// An object inside a carousel: module and key.
pub(super) type ObjectId = (u16, Arc<[u8]>);

/// A file by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: Arc<str>,
    pub(super) object: ObjectId,
    pub(super) description: Description,
    pub(super) content_size: u64,
}

/// Entries that a walk has skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Passed {
    /// Names that are invalid in a path.
    pub(super) bad_names: u64,
    /// Directories inside themselves, and those too deep.
    pub(super) loops: u64,
    /// Names beyond the limit.
    pub(super) too_many: u64,
    /// Objects of other carousels.
    pub(super) elsewhere: u64,
}

/// The directories of one carousel.
#[derive(Debug)]
pub(super) struct Names {
    /// Most memory of all bindings.
    pub(super) most_bytes: usize,
    directories: HashMap<ObjectId, (Kind, Vec<Binding>)>,
    /// Memory of all bindings.
    bytes: usize,
    /// Directories omitted because there were too many bindings.
    refused: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self { most_bytes: MAX_CAROUSEL_BINDING_BYTES, directories: HashMap::new(), bytes: 0, refused: 0 }
    }
}

/// Memory of the bindings of a directory.
pub(super) fn bytes_of(bindings: &[Binding]) -> usize {
    bindings.iter().map(|it| BINDING_BYTES + it.name.len() + it.descriptors.len()).sum()
}

/// Result of a walk.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) files: Vec<Named>,
    /// Whether all named directories have been received.
    pub(super) is_complete: bool,
    pub(super) passed: Passed,
    entered: usize,
}

impl Names {
    /// Replaces the directories of a module. Returns whether anything has changed.
    pub(super) fn set(&mut self, module_id: u16, directories: Vec<(Arc<[u8]>, Kind, Vec<Binding>)>) -> bool {
        let had_any = self.keep_modules(|module| module != module_id);
        let changed = had_any || !directories.is_empty();
        for (key, kind, bindings) in directories {
            let bytes = bytes_of(&bindings);
            if self.bytes + bytes > self.most_bytes
                || self.directories.contains_key(&(module_id, Arc::clone(&key)))
            {
                self.refused += 1;
                continue;
            }
            self.bytes += bytes;
            self.directories.insert((module_id, key), (kind, bindings));
        }
        changed
    }

    /// Removes the directories of modules for which `keep` is false. Returns whether there were any.
    pub(super) fn keep_modules(&mut self, mut keep: impl FnMut(u16) -> bool) -> bool {
        let had = self.directories.len();
        let mut freed = 0;
        self.directories.retain(|(module, _), (_, bindings)| {
            let stays = keep(*module);
            freed += if stays { 0 } else { bytes_of(bindings) };
            stays
        });
        self.bytes -= freed;
        self.directories.len() != had
    }

    /// Directories omitted since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// The gateway: by the DSI, or without one the only directory of that kind.
    fn root(&self, gateway: Option<&ObjectLocation>) -> Option<ObjectId> {
        match gateway {
            Some(gateway) => Some((gateway.module_id, Arc::clone(&gateway.key))),
            None => self
                .directories
                .iter()
                .find(|(_, (kind, _))| *kind == Kind::Gateway)
                .map(|(id, _)| id.clone()),
        }
    }

    /// Every file below the gateway.
    pub(super) fn walk(&self, gateway: Option<&ObjectLocation>) -> Walk {
        let mut walk = Walk::default();
        let Some(root) = self.root(gateway) else { return walk };
        walk.is_complete = true;
        let carousel_id = gateway.map(|it| it.carousel_id);
        self.enter(&root, carousel_id, "", &mut Vec::new(), &mut walk);
        walk
    }

    fn enter(
        &self,
        id: &ObjectId,
        carousel_id: Option<u32>,
        path: &str,
        inside: &mut Vec<ObjectId>,
        walk: &mut Walk,
    ) {
        let Some((_, bindings)) = self.directories.get(id) else {
            walk.is_complete = false;
            return;
        };
        if inside.len() >= MAX_CAROUSEL_DEPTH || inside.contains(id) {
            walk.passed.loops += 1;
            return;
        }
        inside.push(id.clone());
        walk.entered += 1;
        for binding in bindings {
            if walk.files.len().max(walk.entered) >= MAX_CAROUSEL_NAMES {
                walk.passed.too_many += 1;
                break;
            }
            let Some(location) =
                binding.ior.location.as_ref().filter(|it| carousel_id.is_none_or(|id| id == it.carousel_id))
            else {
                walk.passed.elsewhere += 1;
                continue;
            };
            let Some(path) = joined(path, &binding.name) else {
                walk.passed.bad_names += 1;
                continue;
            };
            let object = (location.module_id, Arc::clone(&location.key));
            match binding.ior.kind {
                Kind::File => {
                    let description = Description::read(&binding.descriptors, &path);
                    let content_size = binding.content_size;
                    walk.files.push(Named { path: path.into(), object, description, content_size });
                }
                Kind::Directory | Kind::Gateway => self.enter(&object, carousel_id, &path, inside, walk),
                Kind::Other => {}
            }
        }
        inside.pop();
    }
}

/// The path of a data carousel's module: its name, without the scheme of a URL. `None` if it would leave the carousel.
pub(super) fn path_of(name: &str) -> Option<String> {
    let bare = ["http://", "https://"].iter().find_map(|scheme| name.strip_prefix(scheme)).unwrap_or(name);
    joined("", bare.trim_start_matches('/').as_bytes())
}

/// The path of a name in a folder; `None` if it would leave the folder, or contains hidden characters.
fn joined(folder: &str, name: &[u8]) -> Option<String> {
    let name = String::from_utf8_lossy(name);
    let is_bad = |part: &str| {
        part.is_empty() || part == "." || part == ".." || part.chars().any(|it| it.is_control() || it == '\\')
    };
    // Names of several components have slashes; no component may.
    if name.split('/').any(is_bad) || folder.len() + name.len() + 1 > MAX_URI_BYTES {
        return None;
    }
    Some(if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsmcc::biop::Ior;

    fn binding(name: &str, kind: Kind, module_id: u16) -> Binding {
        let location = ObjectLocation { carousel_id: 7, module_id, key: Arc::new([0]) };
        Binding {
            name: name.into(),
            ior: Ior { kind, location: Some(location), transaction: None },
            content_size: 0,
            descriptors: Vec::new(),
        }
    }

    fn gateway() -> ObjectLocation {
        ObjectLocation { carousel_id: 7, module_id: 1, key: Arc::new([0]) }
    }

    fn names(directories: Vec<(u16, Vec<Binding>)>) -> Names {
        let mut names = Names::default();
        for (module, bindings) in directories {
            let kind = if module == 1 { Kind::Gateway } else { Kind::Directory };
            names.set(module, vec![(Arc::new([0]), kind, bindings)]);
        }
        names
    }

    #[test]
    fn directories_that_contain_themselves_are_entered_once_a_path() {
        let names = names(vec![
            (1, vec![binding("a", Kind::Directory, 2), binding("top", Kind::File, 9)]),
            (
                2,
                vec![
                    binding("up", Kind::Directory, 1),
                    binding("self", Kind::Directory, 2),
                    binding("f", Kind::File, 8),
                ],
            ),
        ]);
        for root in [Some(gateway()), None] {
            let walk = names.walk(root.as_ref());
            let paths: Vec<_> = walk.files.iter().map(|it| it.path.as_ref()).collect();
            assert_eq!((paths, walk.passed.loops), (vec!["a/f", "top"], 2));
        }
    }

    #[test]
    fn directories_nested_too_deeply_are_counted() {
        let depth = MAX_CAROUSEL_DEPTH as u16;
        let with_file = |at| vec![binding("f", Kind::File, 99), binding("d", Kind::Directory, at + 1)];
        let walk = names((1..=depth + 1).map(|at| (at, with_file(at))).collect()).walk(Some(&gateway()));
        assert_eq!((walk.files.len(), walk.passed.loops), (MAX_CAROUSEL_DEPTH, 1));
    }

    #[test]
    fn doubling_directories_end_at_the_limit() {
        let twice = |to| vec![binding("l", Kind::Directory, to), binding("r", Kind::Directory, to)];
        let mut all: Vec<_> = (1..30).map(|at| (at, twice(at + 1))).collect();
        all.push((30, vec![binding("f", Kind::File, 99)]));
        for without_files in [false, true] {
            if without_files {
                all.truncate(29);
                all.push((30, vec![]));
            }
            let walk = names(all.clone()).walk(Some(&gateway()));
            assert!(walk.files.len().max(walk.entered) <= MAX_CAROUSEL_NAMES + 1);
            assert!(walk.passed.too_many > 0);
        }
    }

    #[test]
    fn bindings_beyond_the_limit_are_counted_and_leave_room_when_they_go() {
        let binding = || Binding { descriptors: vec![0; 60_000], ..binding("f", Kind::File, 9) };
        let directory = |entries| vec![(Arc::from([0]), Kind::Directory, vec![binding(); entries])];
        let mut names = Names::default();
        let modules = (MAX_CAROUSEL_BINDING_BYTES / 600_000) as u16 + 2;
        for module in 0..modules {
            names.set(module, directory(10));
        }
        assert!(names.take_refused() >= 1 && names.bytes <= MAX_CAROUSEL_BINDING_BYTES);
        for module in 0..3 {
            names.set(module, Vec::new());
        }
        assert!(names.set(modules, directory(10)));
        assert_eq!(names.take_refused(), 0);
        for module in 0..=modules {
            names.set(module, Vec::new());
        }
        assert_eq!(names.bytes, 0);
    }

    #[test]
    fn names_that_leave_their_folder_are_skipped() {
        let bad = ["..", ".", "", "a/../../b", "a\\b", "a\0b", "/etc"];
        let bindings = bad.iter().map(|name| binding(name, Kind::File, 2)).collect();
        let walk = names(vec![(1, bindings)]).walk(None);
        assert_eq!((walk.files.len(), walk.passed.bad_names), (0, bad.len() as u64));
    }

    #[test]
    fn a_directory_that_has_not_come_leaves_the_walk_incomplete() {
        let mut names = names(vec![(1, vec![binding("a", Kind::Directory, 2)])]);
        assert!(!names.walk(Some(&gateway())).is_complete && !Names::default().walk(None).is_complete);
        names.set(2, vec![(Arc::new([0]), Kind::Directory, vec![])]);
        assert!(names.walk(Some(&gateway())).is_complete);
    }
}
