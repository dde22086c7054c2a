//! Assignment of objects to modules, with the changes between two versions. [`super::write`] makes sections of it.
//!
//! The builder knows the place of each object and the changes, but does not hold the objects' bytes: they are read when a
//! block is written. Consequences: small objects share a module, in the order of their arrival; a module is compressed if
//! that saves enough, and compressed again each time it is sent; an object that exceeds the maximum size of a module is
//! sent in parts, which [`Description`](super::Description) identifies.
//!
//! A change of an object changes only the version of its module and that of the module with its directory (which contains
//! the digest), and the DIIs of these two. The DSI and the IORs stay, since references match on the identification bits
//! alone (TS 102 809 Annex B.2.8).

use std::collections::{BTreeMap, HashMap};

use super::describe::Part;
use super::profile::{BuildError, Carried, ObjectNumber, Profile, Shape};
use super::tree::{Child, Tree};
use super::write::{compressed, module_descriptors};
use crate::digest::Digest;

/// moduleIds from 0xFFF0 are reserved.
const LAST_MODULE: u16 = 0xffef;
/// Overhead of a module beside its object: BIOP's head with the longest description.
const HEAD_BYTES: u64 = 2048;
/// Modules above this are not compressed: each sending would read and compress all of it.
const MOST_COMPRESSED_BYTES: u64 = 1 << 20;
/// moduleInfo is no longer than this.
const MODULE_INFO_BYTES: usize = 255;

#[derive(Debug)]
pub(super) struct Placed {
    pub(super) object: Carried,
    pub(super) files: Vec<FileAt>,
}

/// One file of an object: all of it, or a part.
#[derive(Debug, Clone)]
pub(super) struct FileAt {
    pub(super) path: String,
    pub(super) module: u16,
    pub(super) key: u16,
    pub(super) part: Option<Part>,
    pub(super) offset: u64,
    pub(super) length: u64,
}

#[derive(Debug)]
pub(super) enum Inside {
    /// Objects with the number of the file of each.
    Files(Vec<(ObjectNumber, usize)>),
    /// Directories of the tree.
    Directories(Vec<usize>),
}

#[derive(Debug)]
pub(super) struct Module {
    pub(super) inside: Inside,
    pub(super) version: u8,
    pub(super) size: u32,
    /// Size before compression, if it is compressed.
    pub(super) original_size: Option<u32>,
    is_dirty: bool,
    /// Of directories: digest at the time of the current version.
    pub(super) digest: Option<Digest>,
    next_key: u16,
    is_text: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) updates: u32,
    is_dirty: bool,
}

/// Content of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleContent {
    /// The gateway or directories, which give objects their names.
    Directories,
    /// Objects.
    Files,
}

/// One module, for a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleView {
    /// moduleId.
    pub id: u16,
    /// moduleVersion.
    pub version: u8,
    /// Bytes on the air.
    pub size: u32,
    /// Blocks.
    pub blocks: u32,
    /// Its content.
    pub content: ModuleContent,
}

/// The objects of one carousel to send, the modules that they are in, and what changed since the sections were last written.
#[derive(Debug)]
pub struct Builder {
    pub(super) profile: Profile,
    pub(super) objects: BTreeMap<ObjectNumber, Placed>,
    next_object: ObjectNumber,
    pub(super) tree: Tree,
    pub(super) modules: BTreeMap<u16, Module>,
    /// Free module ids that were used before, with their last version.
    free: Vec<(u16, u8)>,
    next_module: u16,
    /// Modules that still have room, by lane and whether they are text.
    with_room: HashMap<(u8, bool), u16>,
    directories_with_room: Option<u16>,
    pub(super) groups: BTreeMap<u16, Group>,
    pub(super) initiate_updates: u32,
}

impl Builder {
    /// An empty carousel.
    pub fn new(profile: Profile) -> Self {
        let mut builder = Self {
            objects: BTreeMap::new(),
            next_object: 0,
            tree: Tree::new(profile.most_bindings),
            modules: BTreeMap::new(),
            free: Vec::new(),
            next_module: 1,
            with_room: HashMap::new(),
            directories_with_room: None,
            groups: BTreeMap::new(),
            initiate_updates: 0,
            profile,
        };
        if builder.profile.shape == Shape::Object {
            builder.house_directories();
        }
        builder
    }

    /// Its profile.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Adds an object. It is on the air with the next [`Builder::commit`].
    ///
    /// # Errors
    /// [`BuildError`]; nothing has changed then.
    pub fn add(&mut self, object: Carried) -> Result<ObjectNumber, BuildError> {
        let number = self.next_object;
        let most = u64::from(self.profile.most_blocks) * u64::from(self.profile.block_bytes);
        let most =
            most.min(u64::from(u32::MAX)) - if self.profile.shape == Shape::Object { HEAD_BYTES } else { 0 };
        let count = object.length.div_ceil(most).max(1);
        let count = u16::try_from(count).map_err(|_| BuildError::TooLong)?;
        let free = usize::from(LAST_MODULE - self.next_module) + self.free.len();
        if usize::from(count) + 2 > free {
            return Err(BuildError::TooManyModules);
        }
        if self.profile.shape == Shape::Data
            && module_descriptors(&object, true, Some((0, 0)), Some(0))
                .map_or(true, |it| it.len() > MODULE_INFO_BYTES)
        {
            return Err(BuildError::UriTooLong);
        }
        self.next_object += 1;
        let mut files = Vec::new();
        let wanted = object.uri.split_once("://").map_or(object.uri.as_str(), |(_, path)| path).to_owned();
        for index in 0..count {
            let offset = u64::from(index) * most;
            let part = (count > 1).then_some(Part { index, count, length: object.length });
            let length = most.min(object.length - offset);
            let name = if part.is_some() { format!("{wanted}~{}", index + 1) } else { wanted.clone() };
            let (module, key) = self.house_file(&object, length);
            let path = match self.profile.shape {
                Shape::Object => self.tree.place(&name, Child::File(number, usize::from(index))),
                Shape::Data => name,
            };
            if let Some(Module { inside: Inside::Files(inside), is_dirty, .. }) =
                self.modules.get_mut(&module)
            {
                inside.push((number, usize::from(index)));
                *is_dirty = true;
            }
            files.push(FileAt { path, module, key, part, offset, length });
        }
        self.objects.insert(number, Placed { object, files });
        if self.profile.shape == Shape::Object {
            self.house_directories();
        }
        Ok(number)
    }

    /// Removes an object.
    pub fn remove(&mut self, number: ObjectNumber) {
        let Some(placed) = self.objects.remove(&number) else { return };
        for file in placed.files {
            if self.profile.shape == Shape::Object {
                self.tree.remove(&file.path);
            }
            let Some(module) = self.modules.get_mut(&file.module) else { continue };
            module.is_dirty = true;
            let Inside::Files(inside) = &mut module.inside else { continue };
            inside.retain(|(object, _)| *object != number);
            if inside.is_empty() {
                self.free.push((file.module, module.version));
                self.modules.remove(&file.module);
                self.with_room.retain(|_, id| *id != file.module);
                self.group_mut(file.module).is_dirty = true;
            }
        }
    }

    /// Replaces a small object by another of the same URI in the same module, which gets a new version. `None` if it must
    /// be removed and added instead.
    pub fn replace(&mut self, number: ObjectNumber, object: Carried) -> Option<()> {
        let placed = self.objects.get_mut(&number)?;
        let [file] = placed.files.as_mut_slice() else { return None };
        let room = u64::from(self.profile.module_bytes);
        if object.uri != placed.object.uri
            || object.lane != placed.object.lane
            || object.length.max(file.length) > room
            || object.is_text != placed.object.is_text
        {
            return None;
        }
        file.length = object.length;
        placed.object = object;
        let (module, path) = (file.module, file.path.clone());
        if let Some(module) = self.modules.get_mut(&module) {
            module.is_dirty = true;
        }
        self.tree.touch(&path);
        Some(())
    }

    /// Assigns module and key to a new file.
    fn house_file(&mut self, object: &Carried, length: u64) -> (u16, u16) {
        let is_text = object.is_text && self.profile.compress;
        let lane = (object.lane, is_text);
        let room = u64::from(self.profile.module_bytes);
        let is_small = self.profile.shape == Shape::Object && length + HEAD_BYTES <= room;
        if is_small
            && let Some(&id) = self.with_room.get(&lane)
            && let Some(module) = self.modules.get_mut(&id)
            && u64::from(module.size) + length + HEAD_BYTES <= room
        {
            module.next_key += 1;
            // An estimate until the commit: heads have about 150 bytes.
            module.size += length as u32 + 150;
            return (id, module.next_key);
        }
        let id = self.new_module(Inside::Files(Vec::new()), is_text);
        if is_small {
            self.with_room.insert(lane, id);
            if let Some(module) = self.modules.get_mut(&id) {
                module.size = length as u32 + 150;
            }
        }
        (id, 0)
    }

    fn new_module(&mut self, inside: Inside, is_text: bool) -> u16 {
        let (id, version) = match self.free.pop() {
            Some((id, version)) => (id, version.wrapping_add(1)),
            None => {
                self.next_module += 1;
                (self.next_module - 1, 0)
            }
        };
        self.modules.insert(
            id,
            Module {
                inside,
                version,
                size: 0,
                original_size: None,
                is_dirty: true,
                digest: None,
                next_key: 0,
                is_text,
            },
        );
        id
    }

    /// Assigns modules to directories without one.
    fn house_directories(&mut self) {
        for directory in self.tree.homeless() {
            let room = self.profile.module_bytes / 2;
            let with_room =
                self.directories_with_room.filter(|id| self.modules.get(id).is_some_and(|it| it.size < room));
            // The gateway has its own module: receivers read it first, and often.
            let id = match with_room.filter(|_| directory != 0) {
                Some(id) => id,
                None => self.new_module(Inside::Directories(Vec::new()), self.profile.compress),
            };
            if directory != 0 {
                self.directories_with_room = Some(id);
            }
            let Some(module) = self.modules.get_mut(&id) else { continue };
            if let Inside::Directories(inside) = &mut module.inside {
                inside.push(directory);
                self.tree.house(directory, id, module.next_key);
                module.next_key += 1;
                module.is_dirty = true;
                module.size += 4096;
            }
        }
    }

    pub(super) const fn modules_per_info(&self) -> u16 {
        match self.profile.shape {
            // 8 bytes a module, 21 of BIOP, 7 of the compressed_module_descriptor.
            Shape::Object => 100,
            Shape::Data => 15,
        }
    }

    pub(super) const fn group_of(&self, module: u16) -> u16 {
        (module - 1) / self.modules_per_info()
    }

    fn group_mut(&mut self, module: u16) -> &mut Group {
        let group = self.group_of(module);
        self.groups.entry(group).or_default()
    }

    /// Applies all changes: sizes and versions are valid from now on. `read` fills a buffer from an object's bytes; only
    /// objects that may be compressed are read.
    ///
    /// # Errors
    /// Those of `read`, with the object that it was called for. Remove that object and commit again.
    pub fn commit<E>(
        &mut self,
        mut read: impl FnMut(ObjectNumber, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), (ObjectNumber, E)> {
        // New files never go into existing modules: receivers would have to fetch the complete module again.
        self.with_room.clear();
        let dirty_directories = self.tree.take_dirty();
        for directory in dirty_directories {
            if let Some(module) = self.tree.home(directory).and_then(|(id, _)| self.modules.get_mut(&id)) {
                module.is_dirty = true;
            }
        }
        let dirty: Vec<u16> = self.modules.iter().filter(|(_, it)| it.is_dirty).map(|(id, _)| *id).collect();
        for id in dirty {
            let Some(module) = self.modules.get(&id) else { continue };
            let is_directory = matches!(module.inside, Inside::Directories(_));
            let may_compress = module.is_text && u64::from(module.size) <= MOST_COMPRESSED_BYTES;
            let mut bytes = None;
            if is_directory || may_compress {
                let mut failed = None;
                let whole = self.whole(id, &mut |object, offset, out| {
                    read(object, offset, out).map_err(|err| failed = Some((object, err)))
                });
                match (whole, failed) {
                    (Ok(whole), _) => bytes = Some(whole),
                    (Err(()), failed) => return failed.map_or(Ok(()), Err),
                }
            }
            let plain = bytes.as_ref().map_or_else(|| self.plain_size(id), |it| it.len() as u32);
            let compressed = bytes.as_deref().filter(|_| may_compress).and_then(compressed);
            let digest = bytes.filter(|_| is_directory).as_deref().map(Digest::of);
            let Some(module) = self.modules.get_mut(&id) else { continue };
            module.is_dirty = false;
            if is_directory && module.digest == digest {
                continue;
            }
            module.digest = digest;
            module.size = compressed.as_ref().map_or(plain, |it| it.len() as u32);
            module.original_size = compressed.is_some().then_some(plain);
            module.version = module.version.wrapping_add(1);
            self.group_mut(id).is_dirty = true;
        }
        let mut changed = false;
        for group in self.groups.values_mut().filter(|group| group.is_dirty) {
            *group = Group { updates: group.updates + 1, is_dirty: false };
            changed = true;
        }
        if changed && self.profile.shape == Shape::Data {
            self.initiate_updates += 1;
        }
        Ok(())
    }

    /// The modules as committed.
    pub fn modules(&self) -> impl Iterator<Item = ModuleView> {
        self.modules.keys().filter_map(|&id| self.module(id))
    }

    /// One module as committed.
    pub fn module(&self, id: u16) -> Option<ModuleView> {
        let module = self.modules.get(&id)?;
        Some(ModuleView {
            id,
            version: module.version,
            size: module.size,
            blocks: module.size.div_ceil(u32::from(self.profile.block_bytes)),
            content: match module.inside {
                Inside::Files(_) => ModuleContent::Files,
                Inside::Directories(_) => ModuleContent::Directories,
            },
        })
    }

    /// Objects of a module.
    pub fn objects_of(&self, id: u16) -> impl Iterator<Item = ObjectNumber> {
        let inside = match self.modules.get(&id).map(|it| &it.inside) {
            Some(Inside::Files(inside)) => inside.as_slice(),
            _ => &[],
        };
        inside.iter().map(|(number, _)| *number)
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
