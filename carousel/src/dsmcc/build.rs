//! Objects to modules, and modules to sections.
//!
//! The builder knows where everything lies and what has changed, and holds no object's bytes: they are read when a block
//! is written. What follows from that: small objects share a module, in the order in which they come; a module is
//! compressed when that is worth while, and compressed anew whenever it is sent; an object that is longer than a module
//! may be is sent in parts, which [`Description`] puts together again.
//!
//! What changes, and nothing else, when an object does: the version of its module, and of the module with its directory
//! (the digest stands there too); the DIIs of these two. The DSI and the IORs stay, since references match on the
//! identification bits alone (TS 102 809 Annex B.2.8).

use std::collections::{BTreeMap, HashMap};

use super::biop::{self, Ior, Kind, ObjectLocation};
use super::describe::{Description, Part};
use super::message::{self, BiopTap, Block, DownloadInfo, ModuleInfo, TransactionId, tag};
use super::tree::{Child, Tree};
use crate::bytes::WireError;
use crate::digest::Digest;
use crate::ts::descriptor;

/// What kind of carousel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// Object carousel: directories and files.
    #[default]
    Object,
    /// Two-layer data carousel: a module an object, named by its URI.
    Data,
}

/// How a carousel is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Object or data carousel.
    pub shape: Shape,
    /// carouselId, and downloadId of all modules.
    pub carousel_id: u32,
    /// association_tag of the stream: its component_tag as a rule.
    pub association_tag: u16,
    /// blockSize, up to [`super::BLOCK_BYTES`].
    pub block_bytes: u16,
    /// Blocks of a module at most. 255 is what TS 102 809 promises of HbbTV and MHP receivers; 65,536 what the standard can
    /// count.
    pub most_blocks: u32,
    /// Small objects share a module up to so many bytes.
    pub module_bytes: u32,
    /// Whether modules are compressed where it is worth while.
    pub compress: bool,
    /// Names in one directory at most; TS 102 809 allows 512.
    pub most_bindings: usize,
    /// moduleTimeOut, blockTimeOut and the Tap's timeout, in microseconds.
    pub timeout_us: u32,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            shape: Shape::Object,
            carousel_id: 1,
            association_tag: 0x0b,
            block_bytes: super::BLOCK_BYTES,
            most_blocks: 65_536,
            module_bytes: 64 << 10,
            compress: true,
            most_bindings: 512,
            timeout_us: 60_000_000,
        }
    }
}

/// An object to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its URI; where it has an authority, authority and path are its path in the carousel.
    pub uri: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// SHA-256.
    pub digest: Digest,
    /// Seconds for which it is fresh.
    pub max_age_s: Option<u32>,
    /// Bytes.
    pub length: u64,
    /// Whether compression may be worth while: text, not media.
    pub is_text: bool,
    /// Objects of different lanes share no module, so that each lane can be repeated at its own pace.
    pub lane: u8,
}

/// Identifies an object to its builder.
pub type ObjectNumber = u64;

/// Fills a buffer from an object's bytes at an offset.
pub type ReadBody<'a, E> = dyn FnMut(ObjectNumber, u64, &mut [u8]) -> Result<(), E> + 'a;

/// Why an object cannot be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// All module ids are taken.
    TooManyModules,
    /// The URI is too long for a data carousel's module information.
    UriTooLong,
    /// More parts than 16 bits count.
    TooLong,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooManyModules => "the carousel has no module id left; raise the bytes of a module",
            Self::UriTooLong => "the URI is too long for a data carousel; use an object carousel",
            Self::TooLong => "the object has too many parts; raise the blocks of a module",
        })
    }
}

impl std::error::Error for BuildError {}

/// moduleIds from 0xFFF0 are reserved.
const LAST_MODULE: u16 = 0xffef;
/// Bytes that a module has beside its object: BIOP's head with the longest description.
const HEAD_BYTES: u64 = 2048;
/// Compression must win one part in so many.
const WORTH: usize = 16;
/// Modules above this are not compressed: each sending would read and compress all of it.
const MOST_COMPRESSED_BYTES: u64 = 1 << 20;
/// moduleInfo is no longer than this.
const MODULE_INFO_BYTES: usize = 255;

#[derive(Debug)]
struct Placed {
    object: Carried,
    files: Vec<FileAt>,
}

/// One file of an object: all of it, or a part.
#[derive(Debug, Clone)]
struct FileAt {
    path: String,
    module: u16,
    key: u16,
    part: Option<Part>,
    offset: u64,
    length: u64,
}

#[derive(Debug)]
enum Inside {
    /// Objects with the number of the file of each.
    Files(Vec<(ObjectNumber, usize)>),
    /// Directories of the tree.
    Directories(Vec<usize>),
}

#[derive(Debug)]
struct Module {
    inside: Inside,
    version: u8,
    size: u32,
    /// Size before compression, if it is compressed.
    original_size: Option<u32>,
    is_dirty: bool,
    /// Of directories: what they were when the version was given.
    digest: Option<Digest>,
    next_key: u16,
    is_text: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    updates: u32,
    is_dirty: bool,
}

/// What a module holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The gateway or directories: without them nothing has a name.
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
    /// What it holds.
    pub holds: Holds,
}

/// See the module head.
#[derive(Debug)]
pub struct Builder {
    profile: Profile,
    objects: BTreeMap<ObjectNumber, Placed>,
    next_object: ObjectNumber,
    tree: Tree,
    modules: BTreeMap<u16, Module>,
    /// Module ids that were used, with their last version.
    free: Vec<(u16, u8)>,
    next_module: u16,
    /// Modules that still have room, by lane and whether they are text.
    with_room: HashMap<(u8, bool), u16>,
    directories_with_room: Option<u16>,
    groups: BTreeMap<u16, Group>,
    initiate_updates: u32,
}

/// A module that is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    id: u16,
    version: u8,
    size: u32,
    /// The module's beginning, or all of it.
    head: Vec<u8>,
    /// What follows: of which object, from where.
    body: Option<(ObjectNumber, u64)>,
}

impl Reading {
    /// moduleId.
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Bytes of it.
    pub const fn size(&self) -> u32 {
        self.size
    }
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

    /// How it is made.
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
                .is_none_or(|it| it.len() > MODULE_INFO_BYTES)
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

    /// Takes an object out.
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

    /// Replaces an object by another of the same URI, which stays in its module if it is a small one: the module gets a
    /// new version. `None` if it must be removed and added.
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

    /// The module and key of a file that comes new.
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
            // An estimate until it is committed: heads are some 150 bytes.
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

    /// Gives directories that have no module one.
    fn house_directories(&mut self) {
        for directory in self.tree.homeless() {
            let room = self.profile.module_bytes / 2;
            let with_room =
                self.directories_with_room.filter(|id| self.modules.get(id).is_some_and(|it| it.size < room));
            // The gateway is alone: it is what a receiver reads first, and often.
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

    const fn modules_per_info(&self) -> u16 {
        match self.profile.shape {
            // 8 bytes a module, 21 of BIOP, 7 of the compressed_module_descriptor.
            Shape::Object => 100,
            Shape::Data => 15,
        }
    }

    const fn group_of(&self, module: u16) -> u16 {
        (module - 1) / self.modules_per_info()
    }

    fn group_mut(&mut self, module: u16) -> &mut Group {
        let group = self.group_of(module);
        self.groups.entry(group).or_default()
    }

    /// Puts everything that has changed on the air: sizes and versions are right from now on. `read` fills a buffer from an
    /// object's bytes; only what may be compressed is read.
    ///
    /// # Errors
    /// What `read` says, with the object that it said it of. Take that object out and commit again.
    pub fn commit<E>(
        &mut self,
        mut read: impl FnMut(ObjectNumber, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), (ObjectNumber, E)> {
        // Files of later are not put into modules of before: those would be received again whole.
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

    /// Bytes of a module with objects, before compression.
    fn plain_size(&self, id: u16) -> u32 {
        let Some(Module { inside: Inside::Files(inside), .. }) = self.modules.get(&id) else { return 0 };
        let mut head = Vec::new();
        let bodies: u64 =
            inside.iter().map(|(number, file)| self.write_head(*number, *file, &mut head)).sum();
        (head.len() as u64 + bodies) as u32
    }

    /// Appends what stands before a file's bytes; gives how many those are.
    fn write_head(&self, number: ObjectNumber, file: usize, out: &mut Vec<u8>) -> u64 {
        let Some((placed, file)) =
            self.objects.get(&number).and_then(|placed| Some((placed, placed.files.get(file)?)))
        else {
            return 0;
        };
        if self.profile.shape == Shape::Object {
            let mut descriptors = Vec::new();
            describe(&placed.object, file.part).write(&mut descriptors, &file.path);
            biop::write_file_head(out, &file.key.to_be_bytes(), file.length as u32, &descriptors);
        }
        file.length
    }

    /// All bytes of a module before compression.
    fn whole<E>(&self, id: u16, read: &mut ReadBody<'_, E>) -> Result<Vec<u8>, E> {
        let mut out = Vec::new();
        let Some(module) = self.modules.get(&id) else { return Ok(out) };
        match &module.inside {
            Inside::Files(inside) => {
                for (number, file) in inside {
                    let length = self.write_head(*number, *file, &mut out) as usize;
                    let start = out.len();
                    out.resize(start + length, 0);
                    let offset =
                        self.objects.get(number).and_then(|it| it.files.get(*file)).map_or(0, |it| it.offset);
                    read(*number, offset, &mut out[start..])?;
                }
            }
            Inside::Directories(inside) => {
                for directory in inside {
                    self.write_directory(*directory, &mut out);
                }
            }
        }
        Ok(out)
    }

    fn write_directory(&self, directory: usize, out: &mut Vec<u8>) {
        let Some((_, key)) = self.tree.home(directory) else { return };
        let kind = if directory == 0 { Kind::Gateway } else { Kind::Directory };
        let _ = biop::write_directory::<std::convert::Infallible>(out, &key.to_be_bytes(), kind, |out| {
            let (mut count, mut ior, mut info) = (0, Vec::new(), Vec::new());
            for (name, child) in self.tree.children(directory) {
                ior.clear();
                info.clear();
                let (kind, place) = match child {
                    Child::Directory(child) => (Kind::Directory, self.tree.home(*child)),
                    Child::File(number, file) => {
                        let placed = self.objects.get(number);
                        let Some((placed, file)) = placed.and_then(|it| Some((it, it.files.get(*file)?)))
                        else {
                            continue;
                        };
                        info.extend_from_slice(&file.length.to_be_bytes());
                        describe(&placed.object, file.part).write(&mut info, &file.path);
                        (Kind::File, Some((file.module, file.key)))
                    }
                };
                let Some((module, key)) = place else { continue };
                self.write_ior(&mut ior, kind, module, key);
                biop::write_binding(out, name.as_bytes(), kind, &ior, &info);
                count += 1;
            }
            Ok(count)
        });
    }

    fn write_ior(&self, out: &mut Vec<u8>, kind: Kind, module: u16, key: u16) {
        let at = ObjectLocation {
            carousel_id: self.profile.carousel_id,
            module_id: module,
            key: key.to_be_bytes().as_slice().into(),
        };
        // References never change: they match on the identification alone.
        let transaction = TransactionId::new(self.group_of(module) + 1, 0);
        Ior::write(out, kind, &at, &self.tap(), transaction);
    }

    const fn tap(&self) -> BiopTap {
        BiopTap { association_tag: self.profile.association_tag, module_timeout_us: self.profile.timeout_us }
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
            holds: match module.inside {
                Inside::Files(_) => Holds::Files,
                Inside::Directories(_) => Holds::Directories,
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

    /// Appends the DSI's section.
    ///
    /// # Errors
    /// If the groups of a data carousel do not fit: some 5,000 modules do.
    pub fn write_initiate(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let private = match self.profile.shape {
            Shape::Object => {
                let mut ior = Vec::new();
                let (module, key) = self.tree.home(0).unwrap_or((1, 0));
                self.write_ior(&mut ior, Kind::Gateway, module, key);
                message::service_gateway_info(&ior)
            }
            Shape::Data => {
                let groups: Vec<_> = self
                    .infos()
                    .map(|group| {
                        let info = self.info(group);
                        (info.transaction, info.modules.iter().map(|module| module.size).sum())
                    })
                    .collect();
                message::group_info_indication(&groups)
            }
        };
        message::write_dsi(out, TransactionId::new(0, self.initiate_updates), &private)
    }

    /// Numbers of the DIIs, which [`Builder::write_info`] takes.
    pub fn infos(&self) -> impl Iterator<Item = u16> {
        self.groups.keys().copied()
    }

    /// Appends the section of a DII.
    ///
    /// # Errors
    /// Never for what [`Builder::add`] has taken.
    pub fn write_info(&self, group: u16, out: &mut Vec<u8>) -> Result<(), WireError> {
        let biop = (self.profile.shape == Shape::Object).then(|| self.tap());
        message::write_dii(out, &self.info(group), biop)
    }

    /// The transactionId of a DII.
    pub fn transaction(&self, group: u16) -> TransactionId {
        let updates = self.groups.get(&group).map_or(0, |it| it.updates);
        TransactionId::new(group + 1, updates)
    }

    fn info(&self, group: u16) -> DownloadInfo {
        let first = group * self.modules_per_info() + 1;
        let last = first.saturating_add(self.modules_per_info() - 1);
        let modules = self.modules.range(first..=last).map(|(&id, module)| {
            let mut descriptors = Vec::new();
            let link = self.link(module);
            let object = match &module.inside {
                Inside::Files(inside) if self.profile.shape == Shape::Data => {
                    inside.first().and_then(|(number, _)| self.objects.get(number))
                }
                _ => None,
            };
            match object {
                Some(placed) => {
                    let is_first = link.is_none_or(|(position, _)| position == 0);
                    // It was looked at when the object was added.
                    let all = module_descriptors(&placed.object, is_first, link, module.original_size);
                    descriptors = all.unwrap_or_default();
                }
                None => write_compressed(&mut descriptors, module.original_size),
            }
            ModuleInfo {
                id,
                size: module.size,
                version: module.version,
                is_biop: self.profile.shape == Shape::Object,
                descriptors,
            }
        });
        DownloadInfo {
            transaction: self.transaction(group),
            download_id: self.profile.carousel_id,
            block_size: self.profile.block_bytes,
            modules: modules.collect(),
        }
    }

    /// Place in the chain of a data carousel's object that has several modules.
    fn link(&self, module: &Module) -> Option<(u8, u16)> {
        let Inside::Files(inside) = &module.inside else { return None };
        let (number, at) = inside.first()?;
        let files = &self.objects.get(number)?.files;
        if self.profile.shape == Shape::Object || files.len() < 2 {
            return None;
        }
        match files.get(at + 1) {
            Some(next) => Some((u8::from(*at > 0), next.module)),
            None => Some((2, 0)),
        }
    }

    /// Begins to send a module. What is small or compressed is read now, what is long when its blocks are written.
    ///
    /// # Errors
    /// What `read` says.
    pub fn read_module<E>(&self, id: u16, read: &mut ReadBody<'_, E>) -> Result<Option<Reading>, E> {
        let Some(module) = self.modules.get(&id) else { return Ok(None) };
        let (version, size) = (module.version, module.size);
        if let (Inside::Files(inside), None) = (&module.inside, module.original_size)
            && let [(number, file)] = inside.as_slice()
        {
            let mut head = Vec::new();
            self.write_head(*number, *file, &mut head);
            let offset =
                self.objects.get(number).and_then(|it| it.files.get(*file)).map_or(0, |it| it.offset);
            return Ok(Some(Reading { id, version, size, head, body: Some((*number, offset)) }));
        }
        let mut head = self.whole(id, read)?;
        if module.original_size.is_some() {
            head = compressed(&head).unwrap_or(head);
        }
        // What has another size than was told changed while nobody looked: it would be wrong bytes.
        Ok((head.len() == size as usize).then_some(Reading { id, version, size, head, body: None }))
    }

    /// Appends the section of one block.
    ///
    /// # Errors
    /// What `read` says.
    #[inline]
    pub fn write_block<E: From<WireError>>(
        &self,
        reading: &Reading,
        number: u16,
        out: &mut Vec<u8>,
        mut read: impl FnMut(ObjectNumber, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let offset = u32::from(number) * u32::from(self.profile.block_bytes);
        let length = reading.size.saturating_sub(offset).min(u32::from(self.profile.block_bytes)) as usize;
        let block = Block {
            download_id: self.profile.carousel_id,
            module_id: reading.id,
            version: reading.version,
            number,
            data: &[],
        };
        let blocks = reading.size.div_ceil(u32::from(self.profile.block_bytes));
        message::write_ddb(out, &block, length, blocks, |out| {
            let offset = offset as usize;
            let from_head = reading.head.get(offset..).unwrap_or_default();
            let count = from_head.len().min(out.len());
            out[..count].copy_from_slice(&from_head[..count]);
            match reading.body {
                Some((object, start)) if count < out.len() => {
                    let at = start + (offset + count - reading.head.len()) as u64;
                    read(object, at, &mut out[count..])
                }
                _ => Ok(()),
            }
        })
    }
}

fn describe(object: &Carried, part: Option<Part>) -> Description {
    Description {
        uri: Some(object.uri.clone()),
        content_type: object.content_type.clone(),
        digest: Some(object.digest),
        max_age_s: object.max_age_s,
        part,
    }
}

fn write_compressed(out: &mut Vec<u8>, original_size: Option<u32>) {
    if let Some(size) = original_size {
        let [a, b, c, d] = size.to_be_bytes();
        // Five bytes fit.
        let _ = descriptor::write(out, tag::COMPRESSED_MODULE, &[ZLIB_METHOD, a, b, c, d]);
    }
}

/// Descriptors of a data carousel's module: only the first of a chain is named and described. `None` if the name does not
/// fit.
fn module_descriptors(
    object: &Carried,
    is_first: bool,
    link: Option<(u8, u16)>,
    original_size: Option<u32>,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if is_first {
        descriptor::write(&mut out, tag::NAME, object.uri.as_bytes()).ok()?;
        if let Some(content_type) = &object.content_type {
            descriptor::write(&mut out, tag::TYPE, content_type.as_bytes()).ok()?;
        }
    }
    if let Some((position, next)) = link {
        let [high, low] = next.to_be_bytes();
        descriptor::write(&mut out, tag::MODULE_LINK, &[position, high, low]).ok()?;
    }
    write_compressed(&mut out, original_size);
    if is_first {
        let own = Description { uri: None, content_type: None, ..describe(object, None) };
        own.write(&mut out, "");
    }
    Some(out)
}

/// CMF byte of a zlib stream with a window of 32 KiB.
const ZLIB_METHOD: u8 = 0x78;

/// A zlib stream, if that is worth while. The same bytes always give the same stream.
fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().filter(|out| out.len() + bytes.len() / WORTH < bytes.len())
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
