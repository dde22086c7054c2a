//! Reassembly of one DSM-CC carousel from its sections, in any order and with losses.
//!
//! A module is complete as soon as each of its blocks was received once, in any order; blocks before their DII are kept,
//! within a limit. A file is delivered when its bytes and its name are complete, once for each version; the old version
//! stays valid until then.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::biop::{Ior, ObjectLocation};
use super::delivery::{CarouselDrop, CarouselFile, Event, ModuleState, ModuleStorage, Piece, SoleFile};
use super::message::{Block, DownloadInfo, Gateway, Message, ModuleInfo, TransactionId};
use super::names::{Named, Names, ObjectId};
use super::signed::SignedList;
use crate::bytes::Reader;
use crate::digest::Digest;
use crate::limits::{MAX_DOWNLOAD_INFOS, MAX_EARLY_BLOCK_BYTES, MAX_MODULES, MAX_MODULES_OPEN};
use crate::ts::Section;

#[derive(Debug)]
pub(super) enum State<S: ModuleStorage> {
    Waiting,
    Open {
        buf: S::Buf,
        seen: Vec<u64>,
        missing: u32,
        /// [`Receiver::blocks`] when it received its last block.
        fed_at: u64,
    },
    /// Complete, but some of its files have no name yet, or it is a link of a chain.
    Held {
        content: Arc<S::Module>,
        files: HashMap<Arc<[u8]>, HeldFile>,
    },
    Done,
}

#[derive(Debug, Clone)]
pub(super) struct HeldFile {
    pub(super) range: Range<usize>,
    pub(super) descriptors: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Module<S: ModuleStorage> {
    pub(super) info: ModuleInfo,
    block_size: u16,
    pub(super) state: State<S>,
}

impl<S: ModuleStorage> Module<S> {
    const fn blocks(&self) -> u32 {
        self.info.size.div_ceil(self.block_size as u32)
    }
}

pub(super) type ModuleKey = (u32, u16);

#[derive(Debug)]
struct EarlyBlock {
    module: ModuleKey,
    version: u8,
    number: u16,
    data: Vec<u8>,
}

/// Parts of an object by their number, with their paths.
pub(super) type Parts<W> = BTreeMap<u16, (Arc<str>, Piece<W>)>;

/// Record of a delivery under a path: object and version.
pub(super) type DeliveryRecord = (ObjectId, u8);

/// Unit of blockNumber.
const MOST_BLOCKS: u32 = 1 << 16;

/// Blocks of other modules after which an idle module makes room.
const IDLE_BLOCKS: u64 = 16_384;

/// A DII that has been received.
#[derive(Debug, Clone, Copy)]
struct ReceivedInfo {
    transaction: TransactionId,
    /// [`Receiver::infos_received`] when it was last received.
    received_at: u64,
    /// Its digest, where a signed list names it.
    digest: Option<Digest>,
}

/// Requirement that a carousel must meet before its contents are accepted.
#[derive(Debug, Clone, Default)]
pub enum SignatureRequirement {
    /// Nothing.
    #[default]
    Nothing,
    /// A signed list, which has not been received yet.
    List,
    /// Only contents in this signed list.
    Signed(Arc<SignedList>),
}

/// Reassembly of one carousel from the DSM-CC messages of one PID; complete modules and files come out as events.
#[derive(Debug)]
pub struct Receiver<S: ModuleStorage> {
    pub(super) requirement: SignatureRequirement,
    /// Directories were removed, but their files still have names.
    must_name: bool,
    pub(super) gateway: Option<ObjectLocation>,
    is_found: bool,
    infos: BTreeMap<(u32, u16), ReceivedInfo>,
    /// DIIs received: the time base for ageing of DIIs.
    infos_received: u64,
    /// Blocks received: the time base for ageing of modules.
    blocks: u64,
    /// Value of `blocks` before which no open module is idle.
    none_idle_before: u64,
    /// DII that a module belongs to.
    pub(super) modules: BTreeMap<ModuleKey, (u16, Module<S>)>,
    pub(super) open: usize,
    pub(super) held_bytes: u64,
    early: VecDeque<EarlyBlock>,
    early_bytes: usize,
    /// Most memory of early blocks.
    most_early_bytes: usize,
    pub(super) names: Names,
    pub(super) names_complete: bool,
    /// Names of files, by object.
    pub(super) named: HashMap<ObjectId, Vec<Named>>,
    /// Named objects, by module.
    pub(super) of_module: HashMap<u16, Vec<Arc<[u8]>>>,
    pub(super) handed_out: HashMap<Arc<str>, DeliveryRecord>,
    /// Names or modules have changed since `handed_out` was last searched for removed files.
    pub(super) may_have_gone: bool,
    pub(super) parts: HashMap<String, Parts<S::Module>>,
    pub(super) events: VecDeque<Event<S::Module>>,
    pub(super) dropped: [u64; CarouselDrop::ALL.len()],
}

impl<S: ModuleStorage> Default for Receiver<S> {
    fn default() -> Self {
        Self {
            requirement: SignatureRequirement::Nothing,
            must_name: false,
            gateway: None,
            is_found: false,
            infos: BTreeMap::new(),
            infos_received: 0,
            blocks: 0,
            none_idle_before: 0,
            modules: BTreeMap::new(),
            open: 0,
            held_bytes: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            most_early_bytes: MAX_EARLY_BLOCK_BYTES,
            names: Names::default(),
            names_complete: false,
            named: HashMap::new(),
            of_module: HashMap::new(),
            handed_out: HashMap::new(),
            may_have_gone: false,
            parts: HashMap::new(),
            events: VecDeque::new(),
            dropped: [0; CarouselDrop::ALL.len()],
        }
    }
}

impl<S: ModuleStorage> Receiver<S> {
    /// A receiver whose directories take at most `most_bytes`, and early blocks a quarter of that; both have limits of their own,
    /// [`MAX_CAROUSEL_BINDING_BYTES`](crate::limits::MAX_CAROUSEL_BINDING_BYTES) and [`MAX_EARLY_BLOCK_BYTES`].
    pub fn within(most_bytes: usize) -> Self {
        let mut receiver = Self::default();
        receiver.names.most_bytes = receiver.names.most_bytes.min(most_bytes);
        receiver.most_early_bytes = receiver.most_early_bytes.min(most_bytes / 4);
        receiver
    }

    /// Sets the requirement for the carousel. Contents received without a requirement are discarded, and nothing is accepted
    /// before a list.
    pub fn require(&mut self, requirement: SignatureRequirement) {
        let was_anything = matches!(self.requirement, SignatureRequirement::Nothing)
            && !matches!(requirement, SignatureRequirement::Nothing);
        if was_anything || matches!(requirement, SignatureRequirement::List) {
            let (dropped, most_bytes) = (self.dropped, self.names.most_bytes);
            *self = Self { dropped, ..Self::within(most_bytes) };
        }
        if let SignatureRequirement::Signed(list) = &requirement {
            // Old directories may name removed files.
            let is_listed = |(&(_, id), (_, module)): (&ModuleKey, &(u16, Module<S>))| {
                list.directories(id, module.info.version).is_some().then_some(id)
            };
            let listed: HashSet<u16> = self.modules.iter().filter_map(is_listed).collect();
            self.must_name |= self.names.keep_modules(|id| listed.contains(&id));
        }
        self.requirement = requirement;
        // Held modules whose description is no longer listed.
        let is_stale = |(key, (_, module)): &(&ModuleKey, &(u16, Module<S>))| {
            matches!(module.state, State::Held { .. }) && !self.is_listed(**key)
        };
        let stale: Vec<ModuleKey> = self.modules.iter().filter(is_stale).map(|(key, _)| *key).collect();
        for key in stale {
            self.release(key);
            self.receive_again(key.1);
        }
    }

    /// Whether the description of a module is accepted.
    pub(super) fn is_listed(&self, key: ModuleKey) -> bool {
        let list = match &self.requirement {
            SignatureRequirement::Nothing => return true,
            SignatureRequirement::List => return false,
            SignatureRequirement::Signed(list) => list,
        };
        let info = self.modules.get(&key).and_then(|(of, _)| self.infos.get(&(key.0, *of)));
        info.and_then(|it| it.digest).is_some_and(|digest| list.has_info(&digest))
    }

    /// Processes a section of table 0x3B or 0x3C.
    #[inline]
    pub fn section(&mut self, section: &Section<'_>, storage: &mut S) {
        if std::mem::take(&mut self.must_name) {
            self.name_files(storage);
        }
        let is_named = |has: fn(&SignedList, &Digest) -> bool| match &self.requirement {
            SignatureRequirement::Nothing => Some(None),
            SignatureRequirement::List => None,
            SignatureRequirement::Signed(list) => {
                let digest = Digest::of(section.body);
                has(list, &digest).then_some(Some(digest))
            }
        };
        match Message::read(section) {
            Ok(Message::Block(_)) if matches!(self.requirement, SignatureRequirement::List) => {
                self.drop(CarouselDrop::Unsigned);
            }
            Ok(Message::Block(block)) => self.block(&block, storage),
            Ok(Message::Info(info)) => match is_named(SignedList::has_info) {
                Some(digest) => self.info(info, digest, storage),
                None => self.drop(CarouselDrop::Unsigned),
            },
            Ok(Message::Initiate { .. }) if is_named(SignedList::has_initiate).is_none() => {
                self.drop(CarouselDrop::Unsigned);
            }
            Ok(Message::Initiate { gateway, .. }) => self.initiate(&gateway, storage),
            Err(_) => self.drop(CarouselDrop::Message),
        }
    }

    /// Events since the last call.
    pub fn poll_event(&mut self) -> Option<Event<S::Module>> {
        self.events.pop_front()
    }

    /// Numbers of messages, blocks and modules that were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (CarouselDrop, u64)> {
        CarouselDrop::ALL.iter().map(|&drop| (drop, self.dropped[drop as usize]))
    }

    /// State of the modules.
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

    /// Forgets delivered files for which `keep` is false: they are received again in the next pass.
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

    /// Rejects a file whose bytes are wrong: its modules are received again.
    pub fn reject(&mut self, file: &CarouselFile<S::Module>) {
        for path in &file.paths {
            if let Some(((module, _), _)) = self.handed_out.remove(path) {
                self.receive_again(module);
            }
        }
    }

    /// Receives a released module again, together with the other modules of its file.
    pub(super) fn receive_again(&mut self, module_id: u16) {
        let keys: Vec<ModuleKey> = self.modules.keys().filter(|(_, id)| *id == module_id).copied().collect();
        for key in keys {
            for key in self.chain_of(key).unwrap_or_else(|| vec![key]) {
                if let Some((_, module)) = self.modules.get_mut(&key)
                    && matches!(module.state, State::Done)
                {
                    module.state = State::Waiting;
                }
            }
        }
    }

    #[cold]
    pub(super) fn drop(&mut self, why: CarouselDrop) {
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
    fn info(&mut self, info: DownloadInfo, digest: Option<Digest>, storage: &mut S) {
        let identification = info.transaction.identification();
        let key = (info.download_id, identification);
        self.infos_received += 1;
        let known = ReceivedInfo { transaction: info.transaction, received_at: self.infos_received, digest };
        if let Some(have) = self.infos.get_mut(&key) {
            have.received_at = self.infos_received;
            have.digest = digest;
            if have.transaction == info.transaction {
                return;
            }
        }
        let mut names_changed = false;
        if self.infos.len() >= MAX_DOWNLOAD_INFOS && !self.infos.contains_key(&key) {
            names_changed = self.forget_oldest_infos(key).unwrap_or_default();
        }
        let is_object_carousel = info.modules.iter().any(|module| module.is_biop);
        self.found(info.download_id, is_object_carousel);
        self.infos.insert(key, known);
        // Remove modules that are no longer listed.
        let listed: HashSet<u16> = info.modules.iter().map(|module| module.id).collect();
        let gone: Vec<ModuleKey> = self
            .modules
            .range((info.download_id, 0)..=(info.download_id, u16::MAX))
            .filter(|((_, id), (of, _))| *of == identification && !listed.contains(id))
            .map(|(key, _)| *key)
            .collect();
        names_changed |= self.remove_modules(&gone);
        let new =
            info.modules.iter().filter(|it| !self.modules.contains_key(&(info.download_id, it.id))).count();
        while self.modules.len() + new > MAX_MODULES {
            match self.forget_oldest_infos(key) {
                Some(changed) => names_changed |= changed,
                None => break,
            }
        }
        for module in info.modules {
            if module.size.div_ceil(u32::from(info.block_size)) > MOST_BLOCKS {
                self.drop(CarouselDrop::ModuleSize);
                continue;
            }
            let key = (info.download_id, module.id);
            let is_full = self.modules.len() >= MAX_MODULES;
            match self.modules.get_mut(&key) {
                Some((of, known))
                    if known.info.version == module.version && known.info.size == module.size =>
                {
                    // The module has not changed, only its description.
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

    /// Removes the least recently received quarter of the DIIs, with their modules, but never `keep`. Returns whether
    /// names have changed; `None` if there is no other DII.
    fn forget_oldest_infos(&mut self, keep: (u32, u16)) -> Option<bool> {
        let mut by_age: Vec<(u64, (u32, u16))> = self
            .infos
            .iter()
            .filter(|(key, _)| **key != keep)
            .map(|(key, it)| (it.received_at, *key))
            .collect();
        by_age.sort_unstable();
        by_age.truncate(by_age.len().div_ceil(4));
        if by_age.is_empty() {
            return None;
        }
        let oldest: HashSet<(u32, u16)> = by_age.into_iter().map(|(_, key)| key).collect();
        self.infos.retain(|key, _| !oldest.contains(key));
        self.dropped[CarouselDrop::TooManyInfos as usize] += oldest.len() as u64;
        let modules =
            self.modules.iter().filter(|((download, _), (of, _))| oldest.contains(&(*download, *of)));
        let modules: Vec<ModuleKey> = modules.map(|(key, _)| *key).collect();
        Some(self.remove_modules(&modules))
    }

    /// Removes modules with their directories. Returns whether names have changed.
    fn remove_modules(&mut self, keys: &[ModuleKey]) -> bool {
        if keys.is_empty() {
            return false;
        }
        for key in keys {
            self.take_out(*key);
        }
        self.may_have_gone = true;
        // Another download may have a module of the same number.
        let left: HashSet<u16> = self.modules.keys().map(|(_, id)| *id).collect();
        let gone = keys.iter().filter(|(_, id)| !left.contains(id));
        gone.fold(false, |changed, (_, id)| self.names.set(*id, Vec::new()) | changed)
    }

    /// Removes modules that are no longer sent, to make room. False if there are none.
    fn give_up_idle_modules(&mut self) -> bool {
        if self.blocks < self.none_idle_before {
            return false;
        }
        let (before, mut oldest) = (self.open, self.blocks);
        for (_, module) in self.modules.values_mut() {
            if let State::Open { fed_at, .. } = module.state {
                if self.blocks - fed_at >= IDLE_BLOCKS {
                    module.state = State::Waiting;
                    self.open -= 1;
                } else {
                    oldest = oldest.min(fed_at);
                }
            }
        }
        self.none_idle_before = oldest + IDLE_BLOCKS;
        self.dropped[CarouselDrop::Idle as usize] += (before - self.open) as u64;
        self.open < before
    }

    /// Removes a module and its storage.
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
        self.blocks += 1;
        let key = (block.download_id, block.module_id);
        let Some((_, module)) = self.modules.get_mut(&key) else {
            self.keep_early(key, block);
            return;
        };
        if matches!(module.state, State::Done | State::Held { .. }) {
            return;
        }
        if module.info.version != block.version {
            // The DII of the new version will follow; until then its blocks count as early.
            self.dropped[CarouselDrop::OtherVersion as usize] += 1;
            self.keep_early(key, block);
            return;
        }
        let offset = u32::from(block.number) * u32::from(module.block_size);
        let expected = module.info.size.saturating_sub(offset).min(u32::from(module.block_size));
        if block.data.len() != expected as usize || expected == 0 {
            if module.info.size > 0 || !block.data.is_empty() {
                self.drop(CarouselDrop::BlockLength);
            } else if matches!(module.state, State::Waiting) {
                // There was no room for it when its DII was received.
                self.open_module(key, storage);
            }
            return;
        }
        if matches!(module.state, State::Waiting) && !self.open_module(key, storage) {
            return;
        }
        let Some((_, module)) = self.modules.get_mut(&key) else { return };
        let State::Open { buf, seen, missing, fed_at } = &mut module.state else { return };
        *fed_at = self.blocks;
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
        // An empty block still costs an entry.
        while self.early_bytes + bytes > self.most_early_bytes
            || self.early.len() >= self.most_early_bytes / 64
        {
            let Some(oldest) = self.early.pop_front() else { return };
            self.early_bytes -= oldest.data.len();
            self.drop(CarouselDrop::EarlyBlock);
        }
        self.early_bytes += bytes;
        let data = block.data.to_vec();
        self.early.push_back(EarlyBlock { module, version: block.version, number: block.number, data });
    }

    /// Opens storage for a module. False if it is not received now.
    #[cold]
    fn open_module(&mut self, key: ModuleKey, storage: &mut S) -> bool {
        if !self.wants(key, storage) {
            if let Some((_, module)) = self.modules.get_mut(&key) {
                module.state = State::Done;
            }
            return false;
        }
        if self.open >= MAX_MODULES_OPEN && !self.give_up_idle_modules() {
            self.drop(CarouselDrop::NoRoom);
            return false;
        }
        let Some((_, module)) = self.modules.get_mut(&key) else { return false };
        let alone = match self.of_module.get(&key.1).map(Vec::as_slice) {
            Some([only]) if self.names_complete && module.info.original_size().is_none() => {
                let object = (key.1, Arc::clone(only));
                self.named.get(&object).and_then(|names| names.first()).and_then(|file| {
                    let length = u32::try_from(file.content_size).ok()?;
                    (1..module.info.size).contains(&length).then_some(SoleFile {
                        path: &file.path,
                        description: &file.description,
                        length,
                    })
                })
            }
            _ => None,
        };
        let Some(buf) = storage.open(module.info.size, alone) else {
            self.drop(CarouselDrop::NoRoom);
            return false;
        };
        let blocks = module.blocks();
        let seen = vec![0; blocks.div_ceil(64) as usize];
        module.state = State::Open { buf, seen, missing: blocks, fed_at: self.blocks };
        self.open += 1;
        if blocks == 0 {
            self.complete(key, storage);
        }
        true
    }

    /// Whether a module is wanted: always if it has directories or unnamed objects.
    pub(super) fn wants(&mut self, module: ModuleKey, storage: &mut S) -> bool {
        let module_id = module.1;
        let Some(keys) = self.of_module.get(&module_id) else { return true };
        let Some((_, module)) = self.modules.get(&module) else { return true };
        let version = module.info.version;
        let mut wanted = false;
        let mut held = Vec::new();
        for key in keys {
            let object = (module_id, Arc::clone(key));
            for Named { path, description, .. } in self.named.get(&object).into_iter().flatten() {
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
}

#[cfg(test)]
#[path = "receive_tests.rs"]
pub(super) mod tests;
