//! From sections to files: any sender's carousel, in any order, with losses.
//!
//! A module is complete as soon as each of its blocks was seen once, in whatever order; blocks that come before their DII
//! are kept for it, within a bound. A file is handed out when its bytes and its name are there, once for each version;
//! the old version stands until then, since nothing is taken back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::biop::{self, Body, Ior, ObjectLocation};
use super::describe::Description;
use super::message::{Block, DownloadInfo, Gateway, Message, ModuleInfo, TransactionId};
use super::names::{Names, ObjectId};
use crate::bytes::Reader;
use crate::limits::{
    MAX_CAROUSEL_NAMES, MAX_DOWNLOAD_INFOS, MAX_EARLY_BLOCK_BYTES, MAX_INFLATED_MODULE_BYTES, MAX_MODULES,
    MAX_MODULES_HELD_BYTES, MAX_MODULES_OPEN,
};
use crate::ts::Section;
use crate::ts::section::crc32;

/// Where the bytes of modules go.
pub trait ModuleStorage {
    /// A module under reassembly.
    type Buf: std::fmt::Debug;
    /// A whole module.
    type Whole: AsRef<[u8]> + std::fmt::Debug;

    /// Room for a module of `bytes`; `None`: not now, it is asked again when the next block comes.
    fn open(&mut self, bytes: u32) -> Option<Self::Buf>;
    /// Bytes of it; offset and length are within what was asked for.
    fn write(&mut self, buf: &mut Self::Buf, offset: u32, bytes: &[u8]);
    /// It is whole. `None` if its bytes cannot be had back: it is received again.
    fn close(&mut self, buf: Self::Buf) -> Option<Self::Whole>;
    /// Whether a file of this name and description is of use, asked before its module is received.
    fn wants(&mut self, path: &str, description: &Description) -> bool;
}

/// Modules in memory, and every file wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct InMemory;

impl ModuleStorage for InMemory {
    type Buf = Vec<u8>;
    type Whole = Vec<u8>;

    fn open(&mut self, bytes: u32) -> Option<Vec<u8>> {
        Some(vec![0; bytes as usize])
    }

    fn write(&mut self, buf: &mut Vec<u8>, offset: u32, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn close(&mut self, buf: Vec<u8>) -> Option<Vec<u8>> {
        Some(buf)
    }

    fn wants(&mut self, _: &str, _: &Description) -> bool {
        true
    }
}

/// Why something of a carousel was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CarouselDrop {
    /// A message that is not as the standard says.
    Message,
    /// A block whose module's DII has not come, beyond what is kept of such.
    EarlyBlock,
    /// A block of another version than the DII's.
    OtherVersion,
    /// A block of a number or length that its module does not have.
    BlockLength,
    /// A DII beyond the limit.
    TooManyInfos,
    /// A module beyond the limit.
    TooManyModules,
    /// A module for which there is no room, or beyond those that may be open.
    NoRoom,
    /// A module whose CRC_32 is wrong.
    ModuleCrc,
    /// A module that is no zlib stream of the size that its DII says.
    Inflate,
    /// BIOP that is not as the standard says.
    Biop,
    /// A name that no path can have.
    BadName,
    /// A directory inside itself, or too deep.
    Loop,
    /// A file beyond the limit.
    TooManyNames,
    /// An object of another carousel.
    Elsewhere,
    /// Parts that do not make the object that they say.
    Parts,
    /// A whole module that waited too long for its names.
    HeldTooLong,
}

impl CarouselDrop {
    /// Every variant.
    pub const ALL: [Self; 16] = [
        Self::Message,
        Self::EarlyBlock,
        Self::OtherVersion,
        Self::BlockLength,
        Self::TooManyInfos,
        Self::TooManyModules,
        Self::NoRoom,
        Self::ModuleCrc,
        Self::Inflate,
        Self::Biop,
        Self::BadName,
        Self::Loop,
        Self::TooManyNames,
        Self::Elsewhere,
        Self::Parts,
        Self::HeldTooLong,
    ];

    /// The name of its metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::EarlyBlock => "early_block",
            Self::OtherVersion => "other_version",
            Self::BlockLength => "block_length",
            Self::TooManyInfos => "too_many_infos",
            Self::TooManyModules => "too_many_modules",
            Self::NoRoom => "no_room",
            Self::ModuleCrc => "module_crc",
            Self::Inflate => "inflate",
            Self::Biop => "biop",
            Self::BadName => "bad_name",
            Self::Loop => "loop",
            Self::TooManyNames => "too_many_names",
            Self::Elsewhere => "elsewhere",
            Self::Parts => "parts",
            Self::HeldTooLong => "held_too_long",
        }
    }
}

/// Bytes of a whole module.
#[derive(Debug)]
pub enum Content<W> {
    /// As they came.
    Plain(W),
    /// After zlib.
    Inflated(Vec<u8>),
}

impl<W: AsRef<[u8]>> AsRef<[u8]> for Content<W> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Plain(whole) => whole.as_ref(),
            Self::Inflated(bytes) => bytes,
        }
    }
}

/// A run of bytes of a file.
#[derive(Debug)]
pub struct Piece<W> {
    content: Arc<Content<W>>,
    range: Range<usize>,
}

impl<W> Clone for Piece<W> {
    fn clone(&self) -> Self {
        Self { content: Arc::clone(&self.content), range: self.range.clone() }
    }
}

impl<W: AsRef<[u8]>> Piece<W> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.content).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

/// Something that the carousel's user should know.
#[derive(Debug)]
pub enum Event<W> {
    /// A file, whole.
    File(CarouselFile<W>),
    /// The gateway has come, or its groups, or the first DII without them.
    Found {
        /// downloadId of the carousel.
        download_id: u32,
        /// Whether it has a service gateway.
        is_object_carousel: bool,
    },
}

/// A whole file of a carousel.
#[derive(Debug)]
pub struct CarouselFile<W> {
    /// Its path, without a slash in front. No segment of it is empty, `.` or `..`.
    pub path: Arc<str>,
    /// What is known of it.
    pub description: Description,
    /// Its bytes, one piece after the other.
    pub pieces: Vec<Piece<W>>,
    /// The module that brought it, or the last of several.
    pub module_id: u16,
    /// The version of that.
    pub module_version: u8,
}

impl<W: AsRef<[u8]>> CarouselFile<W> {
    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.range.len() as u64).sum()
    }
}

/// One module, for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleState {
    /// downloadId and moduleId.
    pub id: (u32, u16),
    /// moduleVersion.
    pub version: u8,
    /// moduleSize.
    pub size: u32,
    /// Size after zlib, if it is compressed.
    pub original_size: Option<u32>,
    /// Blocks that it has.
    pub blocks: u32,
    /// Blocks that have not come; 0 for whole ones.
    pub missing: u32,
}

#[derive(Debug)]
enum State<S: ModuleStorage> {
    Waiting,
    Open {
        buf: S::Buf,
        seen: Vec<u64>,
        missing: u32,
    },
    /// Whole, and some of its files have no name yet, or it is a link of a chain.
    Held {
        content: Arc<Content<S::Whole>>,
        files: HashMap<Arc<[u8]>, HeldFile>,
    },
    Done,
}

#[derive(Debug, Clone)]
struct HeldFile {
    range: Range<usize>,
    descriptors: Vec<u8>,
}

#[derive(Debug)]
struct Module<S: ModuleStorage> {
    info: ModuleInfo,
    block_size: u16,
    state: State<S>,
}

impl<S: ModuleStorage> Module<S> {
    const fn blocks(&self) -> u32 {
        self.info.size.div_ceil(self.block_size as u32)
    }
}

type ModuleKey = (u32, u16);

#[derive(Debug)]
struct EarlyBlock {
    module: ModuleKey,
    version: u8,
    number: u16,
    data: Vec<u8>,
}

/// What has been handed out under a path: where it came from and in which version.
type HandedOut = (ObjectId, u8);

/// Receives one carousel: the messages of one PID. See the module head.
#[derive(Debug)]
pub struct Receiver<S: ModuleStorage> {
    gateway: Option<ObjectLocation>,
    is_found: bool,
    infos: BTreeMap<(u32, u16), TransactionId>,
    /// Which DII a module belongs to.
    modules: BTreeMap<ModuleKey, (u16, Module<S>)>,
    open: usize,
    held_bytes: u64,
    early: VecDeque<EarlyBlock>,
    early_bytes: usize,
    names: Names,
    names_complete: bool,
    /// Files by the object that they are.
    named: HashMap<ObjectId, Vec<(Arc<str>, Description)>>,
    /// Objects of a module that have names.
    of_module: HashMap<u16, Vec<Arc<[u8]>>>,
    handed_out: HashMap<Arc<str>, HandedOut>,
    parts: HashMap<String, BTreeMap<u16, Piece<S::Whole>>>,
    events: VecDeque<Event<S::Whole>>,
    dropped: [u64; CarouselDrop::ALL.len()],
}

impl<S: ModuleStorage> Default for Receiver<S> {
    fn default() -> Self {
        Self {
            gateway: None,
            is_found: false,
            infos: BTreeMap::new(),
            modules: BTreeMap::new(),
            open: 0,
            held_bytes: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            names: Names::default(),
            names_complete: false,
            named: HashMap::new(),
            of_module: HashMap::new(),
            handed_out: HashMap::new(),
            parts: HashMap::new(),
            events: VecDeque::new(),
            dropped: [0; CarouselDrop::ALL.len()],
        }
    }
}

impl<S: ModuleStorage> Receiver<S> {
    /// Takes a section of tables 0x3B or 0x3C.
    #[inline]
    pub fn section(&mut self, section: &Section<'_>, storage: &mut S) {
        match Message::read(section) {
            Ok(Message::Block(block)) => self.block(&block, storage),
            Ok(Message::Info(info)) => self.info(info, storage),
            Ok(Message::Initiate { gateway, .. }) => self.initiate(&gateway, storage),
            Err(_) => self.drop(CarouselDrop::Message),
        }
    }

    /// What has happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event<S::Whole>> {
        self.events.pop_front()
    }

    /// What was of no use, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (CarouselDrop, u64)> {
        CarouselDrop::ALL.iter().map(|&drop| (drop, self.dropped[drop as usize]))
    }

    /// The modules as they stand.
    pub fn modules(&self) -> impl Iterator<Item = ModuleState> {
        self.modules.iter().map(|(&id, (_, module))| ModuleState {
            id,
            version: module.info.version,
            size: module.info.size,
            original_size: module.info.original_size(),
            blocks: module.blocks(),
            missing: match &module.state {
                State::Waiting => module.blocks(),
                State::Open { missing, .. } => *missing,
                State::Held { .. } | State::Done => 0,
            },
        })
    }

    /// Paths that were handed out.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.handed_out.keys().map(AsRef::as_ref)
    }

    /// Forgets that files were handed out, unless `keep` has them still: they come again with the next pass.
    pub fn forget_unless(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let mut modules = Vec::new();
        self.handed_out.retain(|path, ((module, _), _)| {
            let stays = keep(path);
            if !stays {
                modules.push(*module);
            }
            stays
        });
        for id in modules {
            self.receive_again(id);
        }
    }

    /// The bytes of a file were wrong: its module is received again.
    pub fn reject(&mut self, path: &str) {
        if let Some(((module, _), _)) = self.handed_out.remove(path) {
            self.receive_again(module);
        }
    }

    fn receive_again(&mut self, module_id: u16) {
        for (_, (_, module)) in self.modules.iter_mut().filter(|((_, id), _)| *id == module_id) {
            if matches!(module.state, State::Done) {
                module.state = State::Waiting;
            }
        }
    }

    #[cold]
    fn drop(&mut self, why: CarouselDrop) {
        self.dropped[why as usize] += 1;
    }

    fn found(&mut self, download_id: u32, is_object_carousel: bool) {
        if !std::mem::replace(&mut self.is_found, true) {
            self.events.push_back(Event::Found { download_id, is_object_carousel });
        }
    }

    #[cold]
    fn initiate(&mut self, gateway: &Gateway<'_>, storage: &mut S) {
        let Gateway::Object(ior) = gateway else { return };
        let location = Ior::read(&mut Reader::new(ior)).ok().and_then(|ior| ior.location);
        let Some(location) = location else {
            self.drop(CarouselDrop::Biop);
            return;
        };
        if self.gateway.as_ref() != Some(&location) {
            self.found(location.carousel_id, true);
            self.gateway = Some(location);
            self.name_files(storage);
        }
    }

    #[cold]
    fn info(&mut self, info: DownloadInfo, storage: &mut S) {
        let identification = info.transaction.identification();
        let key = (info.download_id, identification);
        if self.infos.get(&key) == Some(&info.transaction) {
            return;
        }
        if self.infos.len() >= MAX_DOWNLOAD_INFOS && !self.infos.contains_key(&key) {
            self.drop(CarouselDrop::TooManyInfos);
            return;
        }
        let is_object_carousel = info.modules.iter().any(|module| module.is_biop);
        self.found(info.download_id, is_object_carousel);
        self.infos.insert(key, info.transaction);
        // Modules that it lists no more are gone.
        let gone: Vec<ModuleKey> = self
            .modules
            .range((info.download_id, 0)..=(info.download_id, u16::MAX))
            .filter(|((_, id), (of, _))| {
                *of == identification && !info.modules.iter().any(|module| module.id == *id)
            })
            .map(|(key, _)| *key)
            .collect();
        let mut names_changed = false;
        for key in gone {
            self.take_out(key);
            names_changed |= self.names.set(key.1, Vec::new());
        }
        for module in info.modules {
            let key = (info.download_id, module.id);
            let is_full = self.modules.len() >= MAX_MODULES;
            match self.modules.get_mut(&key) {
                Some((of, known))
                    if known.info.version == module.version && known.info.size == module.size =>
                {
                    // The DII has changed, this has not: only where it is described and how.
                    *of = identification;
                    known.info = module;
                    continue;
                }
                Some(_) => self.take_out(key),
                None if is_full => {
                    self.drop(CarouselDrop::TooManyModules);
                    continue;
                }
                None => {}
            }
            let is_empty = module.size == 0;
            let module = Module { info: module, block_size: info.block_size, state: State::Waiting };
            self.modules.insert(key, (identification, module));
            if is_empty {
                self.open_module(key, storage);
            }
        }
        if names_changed {
            self.name_files(storage);
        }
        self.replay_early(storage);
    }

    /// Removes a module and what it holds.
    fn take_out(&mut self, key: ModuleKey) {
        if let Some((_, module)) = self.modules.remove(&key) {
            match module.state {
                State::Open { .. } => self.open -= 1,
                State::Held { content, .. } => self.held_bytes -= (*content).as_ref().len() as u64,
                State::Waiting | State::Done => {}
            }
        }
    }

    fn replay_early(&mut self, storage: &mut S) {
        for block in std::mem::take(&mut self.early) {
            if self.modules.contains_key(&block.module) {
                self.early_bytes -= block.data.len();
                let EarlyBlock { module: (download_id, module_id), version, number, data } = block;
                self.block(&Block { download_id, module_id, version, number, data: &data }, storage);
            } else {
                self.early.push_back(block);
            }
        }
    }

    #[inline]
    fn block(&mut self, block: &Block<'_>, storage: &mut S) {
        let key = (block.download_id, block.module_id);
        let Some((_, module)) = self.modules.get_mut(&key) else {
            self.keep_early(key, block);
            return;
        };
        if matches!(module.state, State::Done | State::Held { .. }) {
            return;
        }
        if module.info.version != block.version {
            // The DII of the new version comes; until then its blocks are as early as others.
            self.dropped[CarouselDrop::OtherVersion as usize] += 1;
            self.keep_early(key, block);
            return;
        }
        let offset = u32::from(block.number) * u32::from(module.block_size);
        let expected = module.info.size.saturating_sub(offset).min(u32::from(module.block_size));
        if block.data.len() != expected as usize || expected == 0 {
            if !(module.info.size == 0 && block.data.is_empty()) {
                self.drop(CarouselDrop::BlockLength);
            }
            return;
        }
        if matches!(module.state, State::Waiting) && !self.open_module(key, storage) {
            return;
        }
        let Some((_, module)) = self.modules.get_mut(&key) else { return };
        let State::Open { buf, seen, missing } = &mut module.state else { return };
        let (word, bit) = (usize::from(block.number / 64), 1 << (block.number % 64));
        if seen[word] & bit != 0 {
            return;
        }
        seen[word] |= bit;
        *missing -= 1;
        storage.write(buf, offset, block.data);
        if *missing == 0 {
            self.complete(key, storage);
        }
    }

    #[cold]
    fn keep_early(&mut self, module: ModuleKey, block: &Block<'_>) {
        let bytes = block.data.len();
        while self.early_bytes + bytes > MAX_EARLY_BLOCK_BYTES {
            let Some(oldest) = self.early.pop_front() else { return };
            self.early_bytes -= oldest.data.len();
            self.drop(CarouselDrop::EarlyBlock);
        }
        // An empty block costs its entry all the same.
        if self.early.len() >= MAX_EARLY_BLOCK_BYTES / 64 {
            self.drop(CarouselDrop::EarlyBlock);
            return;
        }
        self.early_bytes += bytes;
        let data = block.data.to_vec();
        self.early.push_back(EarlyBlock { module, version: block.version, number: block.number, data });
    }

    /// Makes room for a module. False if it is not received now.
    #[cold]
    fn open_module(&mut self, key: ModuleKey, storage: &mut S) -> bool {
        if !self.wants(key.1, storage) {
            if let Some((_, module)) = self.modules.get_mut(&key) {
                module.state = State::Done;
            }
            return false;
        }
        let Some((_, module)) = self.modules.get_mut(&key) else { return false };
        if self.open >= MAX_MODULES_OPEN {
            self.drop(CarouselDrop::NoRoom);
            return false;
        }
        let Some(buf) = storage.open(module.info.size) else {
            self.drop(CarouselDrop::NoRoom);
            return false;
        };
        let blocks = module.blocks();
        module.state = State::Open { buf, seen: vec![0; blocks.div_ceil(64) as usize], missing: blocks };
        self.open += 1;
        if blocks == 0 {
            self.complete(key, storage);
        }
        true
    }

    /// Whether anything of a module is of use. What has no name yet may be; directories always are.
    fn wants(&mut self, module_id: u16, storage: &mut S) -> bool {
        let Some(keys) = self.of_module.get(&module_id) else { return true };
        let Some((_, module)) = self.modules.iter().find(|((_, id), _)| *id == module_id).map(|(_, it)| it)
        else {
            return true;
        };
        let version = module.info.version;
        let mut wanted = false;
        let mut held = Vec::new();
        for key in keys {
            let object = (module_id, Arc::clone(key));
            for (path, description) in self.named.get(&object).into_iter().flatten() {
                let is_out = self.handed_out.get(path).is_some_and(|it| *it == (object.clone(), version));
                if is_out {
                    continue;
                }
                if description.digest.is_some() && !storage.wants(path, description) {
                    held.push((Arc::clone(path), (object.clone(), version)));
                } else {
                    wanted = true;
                }
            }
        }
        if !wanted {
            self.handed_out.extend(held);
        }
        wanted
    }

    /// A module's last block has come.
    #[cold]
    fn complete(&mut self, key: ModuleKey, storage: &mut S) {
        let Some((_, module)) = self.modules.get_mut(&key) else { return };
        let State::Open { buf, .. } = std::mem::replace(&mut module.state, State::Waiting) else { return };
        self.open -= 1;
        let info = module.info.clone();
        let Some(whole) = storage.close(buf) else {
            self.drop(CarouselDrop::NoRoom);
            return;
        };
        let content = match unpack::<S>(&info, whole) {
            Ok(content) => Arc::new(content),
            Err(why) => {
                self.drop(why);
                return;
            }
        };
        let bytes = (*content).as_ref();
        if info.is_biop || biop::is_biop(bytes) {
            self.take_biop(key, &info, content, storage);
        } else {
            self.take_module(key, &info, content);
        }
    }

    /// A module of an object carousel: its directories name files, its files want names.
    fn take_biop(
        &mut self,
        key: ModuleKey,
        info: &ModuleInfo,
        content: Arc<Content<S::Whole>>,
        storage: &mut S,
    ) {
        let (mut files, mut directories) = (HashMap::new(), Vec::new());
        for message in biop::messages((*content).as_ref()) {
            let Ok(message) = message else {
                self.drop(CarouselDrop::Biop);
                break;
            };
            match message.body {
                Body::File(range) => {
                    files.insert(message.key, HeldFile { range, descriptors: message.descriptors });
                }
                Body::Directory(bindings) => directories.push((message.key, message.kind, bindings)),
                Body::Other => {}
            }
        }
        let has_files = !files.is_empty();
        self.hold(key, content, files);
        if self.names.set(info.id, directories) {
            self.name_files(storage);
        } else if has_files {
            self.settle(key);
        } else {
            self.release(key);
        }
    }

    fn hold(&mut self, key: ModuleKey, content: Arc<Content<S::Whole>>, files: HashMap<Arc<[u8]>, HeldFile>) {
        let bytes = (*content).as_ref().len() as u64;
        // The oldest of those that wait make room; what is larger than all room is held alone.
        while self.held_bytes > 0 && self.held_bytes + bytes > MAX_MODULES_HELD_BYTES {
            let held = |(_, (_, module)): &(&ModuleKey, &(u16, Module<S>))| {
                matches!(module.state, State::Held { .. })
            };
            let Some(victim) = self.modules.iter().find(held).map(|(key, _)| *key) else { break };
            self.release(victim);
            if let Some((_, module)) = self.modules.get_mut(&victim) {
                module.state = State::Waiting;
            }
            self.drop(CarouselDrop::HeldTooLong);
        }
        if let Some((_, module)) = self.modules.get_mut(&key) {
            module.state = State::Held { content, files };
            self.held_bytes += bytes;
        }
    }

    /// Lets a held module's bytes go.
    fn release(&mut self, key: ModuleKey) {
        let Some((_, module)) = self.modules.get_mut(&key) else { return };
        if let State::Held { content, .. } = &module.state {
            self.held_bytes -= (**content).as_ref().len() as u64;
            module.state = State::Done;
        }
    }

    /// Walks the directories anew, and hands out what has a name now.
    fn name_files(&mut self, storage: &mut S) {
        let walk = self.names.walk(self.gateway.as_ref());
        for (count, why) in [
            (walk.passed.bad_names, CarouselDrop::BadName),
            (walk.passed.loops, CarouselDrop::Loop),
            (walk.passed.too_many, CarouselDrop::TooManyNames),
            (walk.passed.elsewhere, CarouselDrop::Elsewhere),
        ] {
            self.dropped[why as usize] += count;
        }
        self.names_complete = walk.is_complete;
        self.named.clear();
        self.of_module.clear();
        for file in walk.files {
            let (module, key) = &file.object;
            let keys = self.of_module.entry(*module).or_default();
            if !keys.contains(key) {
                keys.push(Arc::clone(key));
            }
            self.named.entry(file.object).or_default().push((file.path, file.description));
        }
        // Files that are gone may come again.
        let named = &self.named;
        self.handed_out.retain(|path, (object, _)| {
            named.get(object).is_none_or(|names| names.iter().any(|(it, _)| it == path))
        });
        let held =
            |(_, (_, module)): &(&ModuleKey, &(u16, Module<S>))| matches!(module.state, State::Held { .. });
        let held: Vec<ModuleKey> = self.modules.iter().filter(held).map(|(key, _)| *key).collect();
        for key in held {
            self.settle(key);
        }
        // A module that was let go, and has a file under a name under which it was not handed out, is received again.
        let done: Vec<u16> = self
            .modules
            .iter()
            .filter(|((_, id), (_, it))| matches!(it.state, State::Done) && self.of_module.contains_key(id))
            .map(|((_, id), _)| *id)
            .collect();
        for id in done {
            if self.wants(id, storage) {
                self.receive_again(id);
            }
        }
    }

    /// Hands out the files of a held module that have names; lets it go when none can get one any more.
    fn settle(&mut self, key: ModuleKey) {
        let Some((_, module)) = self.modules.get(&key) else { return };
        let State::Held { content, files } = &module.state else { return };
        let (content, version) = (Arc::clone(content), module.info.version);
        let mut out = Vec::new();
        let mut unnamed = 0;
        for (object_key, file) in files {
            let object = (key.1, Arc::clone(object_key));
            let Some(names) = self.named.get(&object) else {
                unnamed += 1;
                continue;
            };
            for (path, description) in names {
                let handed_out = (object.clone(), version);
                if self.handed_out.get(path) == Some(&handed_out) {
                    continue;
                }
                // What the file says of itself counts over what its directory says.
                let own = Description::read(&file.descriptors, path);
                let description = Description {
                    uri: own.uri.or_else(|| description.uri.clone()),
                    content_type: own.content_type.or_else(|| description.content_type.clone()),
                    digest: own.digest.or(description.digest),
                    max_age_s: own.max_age_s.or(description.max_age_s),
                    part: own.part.or(description.part),
                };
                let piece = Piece { content: Arc::clone(&content), range: file.range.clone() };
                out.push((Arc::clone(path), description, piece, handed_out));
            }
        }
        for (path, description, piece, handed_out) in out {
            self.hand_out(path, description, piece, handed_out);
        }
        if unnamed == 0 || self.names_complete {
            self.release(key);
        }
    }

    fn hand_out(
        &mut self,
        path: Arc<str>,
        description: Description,
        piece: Piece<S::Whole>,
        from: HandedOut,
    ) {
        if self.handed_out.len() >= MAX_CAROUSEL_NAMES && !self.handed_out.contains_key(&path) {
            self.drop(CarouselDrop::TooManyNames);
            return;
        }
        let (module_id, module_version) = (from.0.0, from.1);
        self.handed_out.insert(Arc::clone(&path), from);
        let Some(part) = description.part else {
            let pieces = vec![piece];
            self.events.push_back(Event::File(CarouselFile {
                path,
                description,
                pieces,
                module_id,
                module_version,
            }));
            return;
        };
        // A new version has another digest, so that its parts do not mix with the old one's.
        let digest = description.digest.map(crate::Digest::to_hex).unwrap_or_default();
        let whole = format!("{}#{digest}", description.uri.as_deref().unwrap_or(&path));
        if self.parts.len() >= MAX_MODULES_OPEN && !self.parts.contains_key(&whole) {
            self.parts.clear();
            self.drop(CarouselDrop::Parts);
        }
        let parts = self.parts.entry(whole.clone()).or_default();
        parts.insert(part.index, piece);
        if parts.len() < usize::from(part.count) {
            return;
        }
        let pieces: Vec<_> = self.parts.remove(&whole).unwrap_or_default().into_values().collect();
        let file = CarouselFile { path, description, pieces, module_id, module_version };
        if file.length() == part.length {
            self.events.push_back(Event::File(file));
        } else {
            self.drop(CarouselDrop::Parts);
        }
    }

    /// A module of a data carousel: a file, or a link of a chain that is one.
    fn take_module(&mut self, key: ModuleKey, info: &ModuleInfo, content: Arc<Content<S::Whole>>) {
        let linked = info.link().is_some();
        self.hold(key, content, HashMap::new());
        let chain = if linked { self.chain_of(key) } else { Some(vec![key]) };
        let Some(chain) = chain else { return };
        let mut pieces = Vec::with_capacity(chain.len());
        for link in &chain {
            let Some((_, Module { state: State::Held { content, .. }, .. })) = self.modules.get(link) else {
                return;
            };
            pieces.push(Piece { content: Arc::clone(content), range: 0..(**content).as_ref().len() });
        }
        let Some((_, first)) = self.modules.get(&chain[0]) else { return };
        let name = first.info.name().unwrap_or_else(|| format!("module-{:04x}", chain[0].1));
        let (uri, path) = match super::names::path_of(&name) {
            Some(path) => ((path != name).then_some(name), path),
            None => {
                // A URL with such a path is a name all the same, for whoever can use it.
                self.drop(CarouselDrop::BadName);
                (name.contains("://").then_some(name), format!("module-{:04x}", chain[0].1))
            }
        };
        let Some((_, first)) = self.modules.get(&chain[0]) else { return };
        let mut description = Description::read(&first.info.descriptors, &path);
        description.uri = description.uri.or(uri);
        description.content_type = description.content_type.or_else(|| first.info.content_type());
        let module_version = info.version;
        let path: Arc<str> = path.into();
        if self.handed_out.len() < MAX_CAROUSEL_NAMES {
            self.handed_out.insert(Arc::clone(&path), ((chain[0].1, Arc::new([])), module_version));
            let module_id = key.1;
            self.events.push_back(Event::File(CarouselFile {
                path,
                description,
                pieces,
                module_id,
                module_version,
            }));
        } else {
            self.drop(CarouselDrop::TooManyNames);
        }
        for link in chain {
            self.release(link);
        }
    }

    /// The chain of modules that one belongs to, from the first to the last; `None` while a DII is missing.
    fn chain_of(&self, key: ModuleKey) -> Option<Vec<ModuleKey>> {
        let link = |id: u16| self.modules.get(&(key.0, id)).and_then(|(_, module)| module.info.link());
        let of_download = self.modules.range((key.0, 0)..=(key.0, u16::MAX));
        let firsts = of_download.filter(|(_, (_, it))| it.info.link().is_some_and(|(at, _)| at == 0));
        for ((_, first), _) in firsts {
            let mut chain = vec![(key.0, *first)];
            let mut next = link(*first);
            while let Some((position, id)) = next {
                if position == 2 {
                    if chain.contains(&key) {
                        return Some(chain);
                    }
                    break;
                }
                if chain.len() > usize::from(u16::MAX) || chain.contains(&(key.0, id)) {
                    break;
                }
                chain.push((key.0, id));
                next = link(id);
            }
        }
        None
    }
}

/// Checks a whole module and undoes its compression.
fn unpack<S: ModuleStorage>(info: &ModuleInfo, whole: S::Whole) -> Result<Content<S::Whole>, CarouselDrop> {
    let is_crc_right = |bytes: &[u8]| info.crc32().is_none_or(|crc| crc == crc32(bytes));
    let right = is_crc_right(whole.as_ref());
    let Some(original_size) = info.original_size() else {
        return if right { Ok(Content::Plain(whole)) } else { Err(CarouselDrop::ModuleCrc) };
    };
    let inflated = inflate(whole.as_ref(), original_size).ok_or(CarouselDrop::Inflate)?;
    // The CRC's scope is told differently by different books.
    if right || is_crc_right(&inflated) {
        Ok(Content::Inflated(inflated))
    } else {
        Err(CarouselDrop::ModuleCrc)
    }
}

fn inflate(bytes: &[u8], original_size: u32) -> Option<Vec<u8>> {
    if original_size > MAX_INFLATED_MODULE_BYTES {
        return None;
    }
    let mut out = Vec::with_capacity((original_size as usize).min(bytes.len().saturating_mul(1032)));
    let mut decoder = flate2::Decompress::new(true);
    // A byte more than there should be shows what is too long.
    out.reserve_exact(1);
    loop {
        let before = (decoder.total_in(), decoder.total_out());
        let rest = bytes.get(usize::try_from(before.0).ok()?..)?;
        let status = decoder.decompress_vec(rest, &mut out, flate2::FlushDecompress::Finish).ok()?;
        if status == flate2::Status::StreamEnd {
            return (out.len() == original_size as usize).then_some(out);
        }
        if out.len() > original_size as usize || (decoder.total_in(), decoder.total_out()) == before {
            return None;
        }
        if out.len() == out.capacity() {
            out.reserve_exact((original_size as usize + 1).saturating_sub(out.len()).max(1));
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
