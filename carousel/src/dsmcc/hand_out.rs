//! Extraction of files from complete modules: objects named by directories, and modules that are files themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::biop::{self, Body};
use super::delivery::{CarouselDrop, CarouselFile, Event, ModuleStorage, Piece};
use super::describe::Description;
use super::message::ModuleInfo;
use super::names::{Named, bytes_of};
use super::receive::{DeliveryRecord, HeldFile, Module, ModuleKey, Receiver, SignatureRequirement, State};
use super::unpack::unpack;
use crate::limits::{MAX_CAROUSEL_NAMES, MAX_MODULES_HELD_BYTES, MAX_MODULES_OPEN};

impl<S: ModuleStorage> Receiver<S> {
    /// Processes a module whose last block has been received.
    #[cold]
    pub(super) fn complete(&mut self, key: ModuleKey, storage: &mut S) {
        let Some((_, module)) = self.modules.get_mut(&key) else { return };
        let State::Open { buf, .. } = std::mem::replace(&mut module.state, State::Waiting) else { return };
        self.open -= 1;
        let info = module.info.clone();
        if !self.is_listed(key) {
            // The listed DII has not been received yet, and may describe another module.
            self.drop(CarouselDrop::Unsigned);
            return;
        }
        let Some(whole) = storage.close(buf) else {
            self.drop(CarouselDrop::NoRoom);
            return;
        };
        let content = match unpack(&info, whole, storage) {
            Ok(content) => Arc::new(content),
            Err(why) => {
                self.drop(why);
                return;
            }
        };
        let bytes = (*content).as_ref();
        if let SignatureRequirement::Signed(list) = &self.requirement
            && list.directories(key.1, info.version).is_some_and(|digest| digest != crate::Digest::of(bytes))
        {
            self.drop(CarouselDrop::Forged);
            return;
        }
        if info.is_biop || biop::is_biop(bytes) {
            self.take_biop(key, &info, content, storage);
        } else {
            self.take_module(key, &info, content);
        }
    }

    /// Processes a module of an object carousel: directories, which name files, and files, which need names.
    fn take_biop(&mut self, key: ModuleKey, info: &ModuleInfo, content: Arc<S::Module>, storage: &mut S) {
        let (mut files, mut directories) = (HashMap::new(), Vec::new());
        let mut bytes = 0;
        let may_name = match &self.requirement {
            SignatureRequirement::Nothing => true,
            SignatureRequirement::List => false,
            SignatureRequirement::Signed(list) => list.directories(key.1, info.version).is_some(),
        };
        for message in biop::messages((*content).as_ref()) {
            let Ok(message) = message else {
                self.drop(CarouselDrop::Biop);
                break;
            };
            match message.body {
                Body::File(range) => {
                    files.insert(message.key, HeldFile { range, descriptors: message.descriptors });
                }
                Body::Directory(_) if !may_name => self.drop(CarouselDrop::Unsigned),
                Body::Directory(bindings) if bytes + bytes_of(&bindings) > self.names.most_bytes => {
                    self.drop(CarouselDrop::TooManyNames);
                    break;
                }
                Body::Directory(bindings) => {
                    bytes += bytes_of(&bindings);
                    directories.push((message.key, message.kind, bindings));
                }
                Body::Other => {}
            }
        }
        let has_files = !files.is_empty();
        self.hold(key, content, files);
        let names_changed = self.names.set(info.id, directories);
        self.dropped[CarouselDrop::TooManyNames as usize] += self.names.take_refused();
        if names_changed {
            self.name_files(storage);
        } else if has_files {
            self.settle(key);
        } else {
            self.release(key);
        }
    }

    pub(super) fn hold(
        &mut self,
        key: ModuleKey,
        content: Arc<S::Module>,
        files: HashMap<Arc<[u8]>, HeldFile>,
    ) {
        let bytes = (*content).as_ref().len() as u64;
        // The oldest held modules make room; one that exceeds the limit is held alone.
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

    /// Releases the bytes of a held module.
    pub(super) fn release(&mut self, key: ModuleKey) {
        let Some((_, module)) = self.modules.get_mut(&key) else { return };
        if let State::Held { content, .. } = &module.state {
            self.held_bytes -= (**content).as_ref().len() as u64;
            module.state = State::Done;
        }
    }

    /// Walks the directories again, and delivers files that have a name now.
    pub(super) fn name_files(&mut self, storage: &mut S) {
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
        self.may_have_gone = true;
        self.named.clear();
        self.of_module.clear();
        for file in walk.files {
            let (module, key) = &file.object;
            let keys = self.of_module.entry(*module).or_default();
            if !keys.contains(key) {
                keys.push(Arc::clone(key));
            }
            self.named.entry(file.object.clone()).or_default().push(file);
        }
        // Files that were removed may come again.
        let named = &self.named;
        self.handed_out.retain(|path, (object, _)| {
            named.get(object).is_none_or(|names| names.iter().any(|it| it.path == *path))
        });
        let held =
            |(_, (_, module)): &(&ModuleKey, &(u16, Module<S>))| matches!(module.state, State::Held { .. });
        let held: Vec<ModuleKey> = self.modules.iter().filter(held).map(|(key, _)| *key).collect();
        for key in held {
            self.settle(key);
        }
        // A released module with a file under a new name is received again.
        let done: Vec<ModuleKey> = self
            .modules
            .iter()
            .filter(|((_, id), (_, it))| matches!(it.state, State::Done) && self.of_module.contains_key(id))
            .map(|(key, _)| *key)
            .collect();
        for key in done {
            if self.wants(key, storage) {
                self.receive_again(key.1);
            }
        }
    }

    /// Delivers the named files of a held module; releases it when no further file can get a name.
    fn settle(&mut self, key: ModuleKey) {
        let Some((_, module)) = self.modules.get(&key) else { return };
        let State::Held { content, files } = &module.state else { return };
        let (content, version) = (Arc::clone(content), module.info.version);
        let mut out = Vec::new();
        let (mut unnamed, mut unsigned) = (0, 0);
        let is_signed = !matches!(self.requirement, SignatureRequirement::Nothing);
        for (object_key, file) in files {
            let object = (key.1, Arc::clone(object_key));
            let Some(names) = self.named.get(&object) else {
                unnamed += 1;
                continue;
            };
            for Named { path, description, .. } in names {
                let handed_out = (object.clone(), version);
                if self.handed_out.get(path) == Some(&handed_out) {
                    continue;
                }
                let description = if is_signed {
                    // The file's own description is not covered by a signature.
                    if description.digest.is_none() {
                        unsigned += 1;
                        continue;
                    }
                    description.clone()
                } else {
                    // The file's own description takes precedence over that in its directory.
                    let own = Description::read(&file.descriptors, path);
                    Description {
                        uri: own.uri.or_else(|| description.uri.clone()),
                        content_type: own.content_type.or_else(|| description.content_type.clone()),
                        digest: own.digest.or(description.digest),
                        max_age_s: own.max_age_s.or(description.max_age_s),
                        part: own.part.or(description.part),
                    }
                };
                let piece = Piece { content: Arc::clone(&content), range: file.range.clone() };
                out.push((Arc::clone(path), description, piece, handed_out));
            }
        }
        self.dropped[CarouselDrop::Unsigned as usize] += unsigned;
        for (path, description, piece, handed_out) in out {
            self.hand_out(path, description, piece, handed_out);
        }
        if unnamed == 0 || self.names_complete {
            self.release(key);
        }
    }

    /// Whether a path may be delivered: at the limit, removed files make room.
    fn has_room_for(&mut self, path: &Arc<str>) -> bool {
        if self.handed_out.len() < MAX_CAROUSEL_NAMES || self.handed_out.contains_key(path) {
            return true;
        }
        if std::mem::take(&mut self.may_have_gone) {
            let modules: HashSet<u16> = self.modules.keys().map(|(_, id)| *id).collect();
            let named = &self.named;
            // A module that is itself a file has no key.
            self.handed_out.retain(|path, (object, _)| match named.get(object) {
                Some(names) => names.iter().any(|it| it.path == *path),
                None => object.1.is_empty() && modules.contains(&object.0),
            });
        }
        let has_room = self.handed_out.len() < MAX_CAROUSEL_NAMES;
        if !has_room {
            self.drop(CarouselDrop::TooManyNames);
        }
        has_room
    }

    pub(super) fn hand_out(
        &mut self,
        path: Arc<str>,
        description: Description,
        piece: Piece<S::Module>,
        from: DeliveryRecord,
    ) {
        if !self.has_room_for(&path) {
            return;
        }
        let (module_id, module_version) = (from.0.0, from.1);
        self.handed_out.insert(Arc::clone(&path), from);
        let Some(part) = description.part else {
            let pieces = vec![piece];
            let paths = vec![path];
            let file = CarouselFile { paths, description, pieces, module_id, module_version };
            self.events.push_back(Event::File(file));
            return;
        };
        // The digest keeps the parts of different versions apart.
        let digest = description.digest.map(crate::Digest::to_hex).unwrap_or_default();
        let whole = format!("{}#{digest}", description.uri.as_deref().unwrap_or(&path));
        if self.parts.len() >= MAX_MODULES_OPEN && !self.parts.contains_key(&whole) {
            // Objects that stay incomplete: their parts are received again.
            for parts in std::mem::take(&mut self.parts).into_values() {
                self.drop(CarouselDrop::Parts);
                for (path, _) in parts.into_values() {
                    if let Some(((module, _), _)) = self.handed_out.remove(&path) {
                        self.receive_again(module);
                    }
                }
            }
        }
        let parts = self.parts.entry(whole.clone()).or_default();
        parts.insert(part.index, (path, piece));
        if parts.len() < usize::from(part.count) {
            return;
        }
        let all = self.parts.remove(&whole).unwrap_or_default();
        let (paths, pieces) = all.into_values().unzip();
        let file = CarouselFile { paths, description, pieces, module_id, module_version };
        if file.length() == part.length {
            self.events.push_back(Event::File(file));
        } else {
            self.drop(CarouselDrop::Parts);
        }
    }

    /// Processes a module of a data carousel: a file, or a link of a chain that is one.
    fn take_module(&mut self, key: ModuleKey, info: &ModuleInfo, content: Arc<S::Module>) {
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
                // A URL with such a path is a valid name as well.
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
        let is_named =
            matches!(self.requirement, SignatureRequirement::Nothing) || description.digest.is_some();
        if !is_named {
            self.drop(CarouselDrop::Unsigned);
        } else if self.has_room_for(&path) {
            self.handed_out.insert(Arc::clone(&path), ((chain[0].1, Arc::new([])), module_version));
            let (paths, module_id) = (vec![path], key.1);
            let file = CarouselFile { paths, description, pieces, module_id, module_version };
            self.events.push_back(Event::File(file));
        }
        for link in chain {
            self.release(link);
        }
    }

    /// The chain of modules that contains this one, from first to last; `None` while a DII is missing.
    pub(super) fn chain_of(&self, key: ModuleKey) -> Option<Vec<ModuleKey>> {
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
