//! Processing of one transport stream: from packets and frames to datagrams and carousel files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use carousel::Digest;
use carousel::dsmcc::delivery::{CarouselFile, Event};
use carousel::dsmcc::signed::{ListAssembler, SignedList, TABLE_SIGNED};
use carousel::dsmcc::{Description, Receiver, SignatureRequirement};
use carousel::gse::Deframer;
use carousel::ip::FragmentAssembler;
use carousel::limits::MAX_CAROUSELS;
use carousel::multiplex::{Component, Delivery, Multiplex, Tables};
use carousel::time::WallTime;
use carousel::trust::{Judged, Kind, Mode, SignedBy, Trust, WrongSignatures};
use carousel::ts::psi::{self, Oui};
use carousel::ts::{PACKET_BYTES, Pid, Section};
use serde_json::{Value, json};

use super::modules::{CompleteModule, ModuleMemory, Modules};
use super::stats::{CarouselState, StreamState};
use crate::clock;
use crate::manifests::Manifests;
use crate::receive::ReceiveStats;
use crate::store::{CameBy, Frozen, ObjectMeta, ObjectUri, Placement, Store, StoreError, StoredObject};
use crate::trust::signer_text;

/// Receiver of the output of a stream.
pub trait StreamOutput {
    /// A UDP datagram from the stream's IP packets.
    fn datagram(&mut self, source: SocketAddr, destination: SocketAddr, payload: &[u8]);
    /// Called when a carousel file has been stored.
    fn stored(&mut self, _pid: Pid, _stored: &StoredObject) {}
}

carousel::reasons! {
    /// Why a complete file of a DSM-CC carousel is not stored.
    pub(super) enum FileDrop in "transport_dropped" by "reason" {
        /// The name of the file cannot be a cache key.
        Name = "name",
        /// The bytes of the file do not have the digest that the carousel gives.
        Digest = "digest",
        /// The store could not take the file.
        Store = "store",
        /// A signed object has its name, and it is not signed.
        Outranked = "outranked",
    }
}

carousel::reasons! {
    /// Why a section of a DSM-CC carousel is not looked at.
    enum SectionRefusal in "transport_dropped" by "reason" {
        /// The stream has more carousels than there is room for.
        TooManyCarousels = "too_many_carousels",
        /// A system software update for receivers of a maker that `software_updates` does not name.
        ForeignUpdate = "foreign_update",
    }
}

/// One carousel.
#[derive(Debug)]
struct Carousel {
    receiver: Receiver<Modules>,
    modules: Modules,
    /// Paths with their cache keys.
    keys: BTreeMap<Arc<str>, String>,
    /// Searches for its base URL so far.
    looks: u32,
    lists: ListAssembler,
    /// Signer of the list in force.
    signed_by: Option<Arc<SignedBy>>,
    /// Lists with wrong signatures.
    wrong_signatures: WrongSignatures,
}

impl Carousel {
    fn new(modules: Modules, carousel_bytes: usize, mode: Mode) -> Self {
        let mut receiver = Receiver::within(carousel_bytes);
        if mode == Mode::Require {
            receiver.require(SignatureRequirement::List);
        }
        Self {
            receiver,
            modules,
            keys: BTreeMap::new(),
            looks: 0,
            lists: ListAssembler::default(),
            signed_by: None,
            wrong_signatures: WrongSignatures::default(),
        }
    }

    /// Processes a section of a signed list.
    #[cold]
    fn list(&mut self, section: &Section<'_>, trust: &Trust, mode: Mode) {
        let Some(document) = self.lists.push(section).filter(|_| mode != Mode::Off) else { return };
        let now = clock::now();
        let allowance = self.wrong_signatures.allowance((self.signed_by.is_some(), false), 0, now);
        let judged = Judged { kind: Kind::Modules, bytes: &document, tsi: None, mode, allowance };
        // Refusals are counted with those of other documents.
        let result = trust.judge(now, clock::trusted_wall(), &judged);
        self.wrong_signatures.note(now, &result);
        let Ok(Some(by)) = result else { return };
        let Some(Ok(list)) = carousel::trust::unsealed(&document).map(SignedList::read) else { return };
        if self.signed_by.as_ref() != Some(&by) {
            self.receiver.require(SignatureRequirement::Signed(Arc::new(list)));
            self.modules.is_signed = true;
            self.signed_by = Some(by);
        }
    }

    /// Adds its drops, by reason.
    fn count_dropped(&self, dropped: &mut BTreeMap<&'static str, u64>) {
        for (why, count) in self.receiver.dropped() {
            *dropped.entry(why.as_str()).or_default() += count;
        }
    }

    /// Discards the signed list: nothing is accepted before a list of a trusted signer.
    fn distrust(&mut self) {
        self.receiver.require(SignatureRequirement::List);
        self.keys.clear();
        self.signed_by = None;
    }
}

/// Searches (one per second) for the base URL of a carousel in the tables before it is used without: the SDT comes every
/// two seconds.
const MOST_LOOKS: u32 = 5;

/// One transport stream with the store that its carousels fill and the outputs that its datagrams go to.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    manifests: Arc<Manifests>,
    stats: Arc<ReceiveStats>,
    trust: Arc<Trust>,
    mode: Mode,
    /// [`Trust::generation`] at the last check of the carousels.
    trust_generation: u64,
    base: Option<String>,
    module_memory: ModuleMemory,
    /// Most memory of the directories of one carousel.
    carousel_bytes: usize,
    multiplex: Multiplex,
    deframer: Deframer,
    fragments: FragmentAssembler,
    carousels: BTreeMap<Pid, Carousel>,
    /// Drops of ended carousels.
    dropped_before: BTreeMap<&'static str, u64>,
    packets: u64,
    frames: u64,
    datagrams: u64,
    files: u64,
    files_dropped: [u64; FileDrop::ALL.len()],
    sections_refused: [u64; SectionRefusal::ALL.len()],
    store_losses: u64,
    /// Makers whose system software updates are received; `None`: all.
    software_updates: Option<Vec<Oui>>,
    /// [`Tables::generation`] when streams were last examined for updates.
    tables_generation: u64,
    /// PIDs with updates for receivers of other makers.
    foreign_updates: BTreeSet<Pid>,
}

impl Feed {
    /// A feed of a stream of which nothing has been received.
    pub fn new(
        store: Store,
        manifests: Arc<Manifests>,
        stats: Arc<ReceiveStats>,
        trust: Arc<Trust>,
        base: Option<String>,
    ) -> Self {
        let (mode, trust_generation) = (trust.mode_of(""), trust.generation());
        let store_losses = store.losses();
        Self {
            store,
            manifests,
            stats,
            trust,
            mode,
            trust_generation,
            base,
            module_memory: ModuleMemory::default(),
            carousel_bytes: usize::MAX,
            multiplex: Multiplex::default(),
            deframer: Deframer::default(),
            fragments: FragmentAssembler::default(),
            carousels: BTreeMap::new(),
            dropped_before: BTreeMap::new(),
            packets: 0,
            frames: 0,
            datagrams: 0,
            files: 0,
            files_dropped: [0; FileDrop::ALL.len()],
            sections_refused: [0; SectionRefusal::ALL.len()],
            store_losses,
            software_updates: None,
            tables_generation: 0,
            foreign_updates: BTreeSet::new(),
        }
    }

    /// Sets the memory of modules, which other streams share, and most memory of the directories of one carousel.
    pub fn within(mut self, modules: ModuleMemory, carousel_bytes: usize) -> Self {
        (self.module_memory, self.carousel_bytes) = (modules, carousel_bytes);
        self
    }

    /// Restricts system software updates (TS 102 006) to those for receivers of these makers.
    pub fn with_software_updates(mut self, makers: Vec<Oui>) -> Self {
        self.software_updates = Some(makers);
        self
    }

    /// Processes a baseband frame.
    pub fn frame(&mut self, frame: &[u8], output: &mut dyn StreamOutput) {
        self.frames += 1;
        let (datagrams, fragments) = (&mut self.datagrams, &mut self.fragments);
        self.deframer.push(frame, |packet| *datagrams += u64::from(hand_on(packet, fragments, output)));
    }

    /// Processes a packet.
    #[inline]
    pub fn packet(&mut self, packet: &[u8; PACKET_BYTES], output: &mut dyn StreamOutput) {
        self.packets += 1;
        let (carousels, datagrams) = (&mut self.carousels, &mut self.datagrams);
        let fragments = &mut self.fragments;
        let (refused, store, base) = (&mut self.sections_refused, &self.store, &self.base);
        let (mode, trust, before) = (self.mode, &self.trust, &mut self.dropped_before);
        let (foreign, memory) = (&self.foreign_updates, &self.module_memory);
        let carousel_bytes = self.carousel_bytes;
        let mut changed = None;
        self.multiplex.push(packet, |delivery| match delivery {
            Delivery::Ip(_, packet) => *datagrams += u64::from(hand_on(packet, fragments, output)),
            Delivery::Carousel(pid, section) => {
                if foreign.contains(&pid) {
                    refused[SectionRefusal::ForeignUpdate as usize] += 1;
                    return;
                }
                if carousels.len() >= MAX_CAROUSELS && !carousels.contains_key(&pid) {
                    refused[SectionRefusal::TooManyCarousels as usize] += 1;
                    return;
                }
                let carousel = carousels.entry(pid).or_insert_with(|| {
                    let modules = Modules::new(store.clone(), base.clone(), memory.clone());
                    Carousel::new(modules, carousel_bytes, mode)
                });
                if section.table_id == TABLE_SIGNED {
                    return carousel.list(section, trust, mode);
                }
                carousel.receiver.section(section, &mut carousel.modules);
                changed = Some(pid);
            }
            Delivery::Gone(pid) => {
                if let Some(carousel) = carousels.remove(&pid) {
                    carousel.count_dropped(before);
                }
            }
        });
        if self.multiplex.tables().generation() != self.tables_generation {
            self.check_updates();
        }
        if let Some(pid) = changed {
            self.take_files(pid, output);
        }
    }

    /// Finds carousels with updates for receivers of other makers, and discards what was received of them: a PMT may come after
    /// the carousel that it describes.
    #[cold]
    fn check_updates(&mut self) {
        self.tables_generation = self.multiplex.tables().generation();
        let Some(makers) = &self.software_updates else { return };
        let mut foreign = BTreeSet::new();
        for (_, stream) in self.multiplex.tables().streams() {
            let updates = stream.software_updates();
            let is_carousel = stream.stream_type == psi::STREAM_TYPE_CAROUSEL;
            if !is_carousel || updates.is_empty() || updates.iter().any(|it| makers.contains(&it.oui)) {
                continue;
            }
            if foreign.insert(stream.pid) && !self.foreign_updates.contains(&stream.pid) {
                let oui = updates.iter().map(|it| it.oui.to_string()).collect::<Vec<_>>().join(", ");
                tracing::info!(
                    pid = stream.pid.get(),
                    oui,
                    "software updates of other makers are left out; [[transport_stream]] software_updates names those to receive"
                );
            }
        }
        for pid in &foreign {
            if let Some(carousel) = self.carousels.remove(pid) {
                carousel.count_dropped(&mut self.dropped_before);
            }
        }
        self.foreign_updates = foreign;
    }

    /// Names a carousel by the tables. False while a table that may still come is missing.
    #[cold]
    fn name_carousel(&mut self, pid: Pid) -> bool {
        let Some(carousel) = self.carousels.get_mut(&pid) else { return false };
        let tables = self.multiplex.tables();
        let url =
            dvb_url(tables, pid).or_else(|| (carousel.looks >= MOST_LOOKS).then(|| bare_url(tables, pid)));
        if let Some(base) = &url {
            tracing::info!(pid = pid.get(), base, "a DSM-CC carousel");
        }
        carousel.modules.base = url;
        carousel.modules.base.is_some()
    }

    /// Ends the stream: carousels that wait for a name get the best available one.
    pub fn finish(&mut self, output: &mut dyn StreamOutput) {
        for pid in self.carousels.keys().copied().collect::<Vec<_>>() {
            if let Some(carousel) = self.carousels.get_mut(&pid) {
                carousel.looks = MOST_LOOKS;
            }
            self.take_files(pid, output);
        }
    }

    fn take_files(&mut self, pid: Pid, output: &mut dyn StreamOutput) {
        let is_named = self.carousels.get(&pid).is_some_and(|it| it.modules.base.is_some());
        if !is_named && !self.name_carousel(pid) {
            return;
        }
        let Some(carousel) = self.carousels.get_mut(&pid) else { return };
        while let Some(event) = carousel.receiver.poll_event() {
            let Event::File(file) = event else { continue };
            let by = carousel.signed_by.as_deref();
            let is_ranked = self.mode != Mode::Off;
            match publish(&self.store, &self.manifests, &carousel.modules, &file, (by, is_ranked)) {
                Ok((key, stored)) => {
                    self.files += 1;
                    for path in &file.paths {
                        carousel.keys.insert(Arc::clone(path), key.clone());
                    }
                    if let Some(stored) = stored {
                        self.stats.count_object(false);
                        output.stored(pid, &stored);
                    }
                }
                Err(why) => {
                    self.files_dropped[why as usize] += 1;
                    if !matches!(why, FileDrop::Name | FileDrop::Outranked) {
                        tracing::debug!(
                            pid = pid.get(),
                            path = file.path(),
                            why = why.as_str(),
                            "a file is received again"
                        );
                        carousel.receiver.reject(&file);
                    }
                }
            }
        }
    }

    /// Processes timers, once a second: files that the cache has lost are received again.
    pub fn tick(&mut self) {
        self.check_trust();
        for carousel in self.carousels.values_mut().filter(|it| it.modules.base.is_none()) {
            carousel.looks += 1;
        }
        let losses = self.store.losses();
        if std::mem::replace(&mut self.store_losses, losses) == losses {
            return;
        }
        let store = &self.store;
        for carousel in self.carousels.values_mut() {
            let keys = &carousel.keys;
            carousel.receiver.forget_unless(|path| keys.get(path).is_none_or(|key| store.contains(key)));
        }
    }

    /// Applies changed keys and modes.
    fn check_trust(&mut self) {
        let (mode, generation) = (self.trust.mode_of(""), self.trust.generation());
        let was = std::mem::replace(&mut self.mode, mode);
        if was != mode {
            // Objects that were received under another rule are received again.
            for carousel in std::mem::take(&mut self.carousels).into_values() {
                carousel.count_dropped(&mut self.dropped_before);
            }
        }
        if std::mem::replace(&mut self.trust_generation, generation) != generation {
            let trust = &self.trust;
            for carousel in self.carousels.values_mut() {
                if carousel.signed_by.as_ref().is_some_and(|by| !trust.still_trusts(by)) {
                    carousel.distrust();
                }
            }
        }
    }

    /// PIDs in use, for the filter of a tuner.
    pub fn pids(&self) -> Vec<Pid> {
        let mut pids: Vec<Pid> = self.multiplex.demux().open_pids().collect();
        pids.sort();
        pids
    }

    /// Discards incomplete sections, as after a loss of lock.
    pub fn reset(&mut self) {
        self.multiplex.reset();
    }

    /// Writes the current counters into `state`, whose signal and input are kept.
    pub fn report(&self, state: &mut StreamState) {
        let demux = self.multiplex.demux();
        state.packets = self.packets;
        state.frames = self.frames;
        state.datagrams = self.datagrams;
        state.files = self.files;
        state.continuity_errors = demux.counts().map(|(_, it)| u64::from(it.discontinuities)).sum();
        let mut dropped = self.dropped_before.clone();
        self.carousels.values().for_each(|it| it.count_dropped(&mut dropped));
        let frames = self.deframer.dropped().map(|(why, count)| (why.as_str(), count));
        let files = FileDrop::ALL.iter().map(|why| (why.as_str(), self.files_dropped[*why as usize]));
        let all = self.multiplex.dropped().chain(frames).chain(files);
        let refused = SectionRefusal::ALL.iter();
        let refused = refused.map(|why| (why.as_str(), self.sections_refused[*why as usize]));
        for (why, count) in all.chain(refused) {
            *dropped.entry(why).or_default() += count;
        }
        state.dropped = dropped;
        state.transport_stream_id = self.multiplex.tables().transport_stream_id;
        state.services =
            self.multiplex.tables().services.values().map(|it| (it.service_id, it.name.clone())).collect();
        state.carousels = self
            .carousels
            .iter()
            .map(|(pid, carousel)| {
                let modules: Vec<_> = carousel.receiver.modules().collect();
                CarouselState {
                    pid: pid.get(),
                    base: carousel.modules.base.clone().unwrap_or_default(),
                    modules: modules.len(),
                    whole: modules.iter().filter(|it| it.missing == 0).count(),
                    files: carousel.keys.len(),
                    signed_by: carousel.signed_by.as_deref().map(signer_text),
                }
            })
            .collect();
    }

    /// Incomplete modules, for the summary of a replay.
    pub fn incomplete(&self) -> Vec<Value> {
        let all = self.carousels.iter().flat_map(|(pid, it)| it.receiver.modules().map(move |it| (pid, it)));
        all.filter(|(_, module)| module.missing > 0)
            .map(|(pid, module)| {
                json!({ "pid": pid.get(), "module": module.id.1, "version": module.version,
                        "blocks": module.blocks, "missing": module.missing })
            })
            .collect()
    }
}

/// Extracts the datagram of an IP packet, or of the last of its fragments; false if there is none.
fn hand_on(packet: &[u8], fragments: &mut FragmentAssembler, output: &mut dyn StreamOutput) -> bool {
    let Ok(datagram) = fragments.datagram(packet) else { return false };
    output.datagram(datagram.source, datagram.destination, datagram.payload);
    true
}

/// `dvb://onid.tsid.sid.ctag/` in hexadecimal (TS 102 851 clause 4); a PID without a PMT is its own authority. `None`
/// while required tables may still come.
fn dvb_url(tables: &Tables, pid: Pid) -> Option<String> {
    let Some(tsid) = tables.transport_stream_id else { return Some(format!("dvb://pid-{}/", pid.get())) };
    let component: Option<Component> = tables.component(pid);
    let Some(service_id) = component.as_ref().and_then(|it| it.service_id) else {
        return Some(format!("dvb://{tsid:x}.pid-{}/", pid.get()));
    };
    let onid = tables.original_network_id?;
    let tag = component.and_then(|it| it.component_tag).map_or_else(String::new, |tag| format!(".{tag:x}"));
    Some(format!("dvb://{onid:x}.{tsid:x}.{service_id:x}{tag}/"))
}

/// As [`dvb_url`], if the tables have no network.
fn bare_url(tables: &Tables, pid: Pid) -> String {
    let tsid = tables.transport_stream_id.unwrap_or(0);
    let service_id = tables.component(pid).and_then(|it| it.service_id).unwrap_or(0);
    format!("dvb://0.{tsid:x}.{service_id:x}/")
}

/// Verifies a file and publishes it; nothing is written if the same file is held.
fn publish(
    store: &Store,
    manifests: &Manifests,
    modules: &Modules,
    file: &CarouselFile<CompleteModule>,
    (by, is_ranked): (Option<&SignedBy>, bool),
) -> Result<(String, Option<Arc<StoredObject>>), FileDrop> {
    let description = &file.description;
    let key = modules.key_of(file.path(), description).ok_or(FileDrop::Name)?;
    if is_ranked && by.is_none() && store.is_signed(key.as_str()) {
        return Err(FileDrop::Outranked);
    }
    let length = file.length();
    let version = u64::from(file.module_version);
    let mut hasher = carousel::digest::ObjectHasher::default();
    for piece in &file.pieces {
        hasher.update(piece.bytes());
    }
    let digest: Digest = hasher.finish().0;
    if description.digest.is_some_and(|own| own != digest) {
        return Err(FileDrop::Digest);
    }
    if store.holds(key.as_str(), Some(digest), length, version) {
        return Ok((key.as_str().to_owned(), None));
    }
    let (expires, placement) = fate(store, key.as_str(), description);
    let failed = |err: StoreError| {
        tracing::debug!(%err, "a file of a carousel has no room");
        FileDrop::Store
    };
    let copied;
    let frozen = match in_place(file) {
        Some(frozen) => frozen,
        None => {
            let partial = Arc::new(store.create(length, placement).map_err(failed)?);
            let mut offset = 0;
            for piece in &file.pieces {
                partial.write_at(offset, piece.bytes()).map_err(|_| FileDrop::Store)?;
                offset += piece.bytes().len() as u64;
            }
            copied = partial.freeze(length).map_err(|_| FileDrop::Store)?;
            &copied
        }
    };
    let name = modules.name_of(file.path(), description);
    let meta = ObjectMeta {
        uri: ObjectUri::new(&name, &key),
        key: key.clone(),
        content_type: description.content_type.clone(),
        length,
        digest,
        version,
        received_at: clock::steady(),
        expires,
        class: placement.class,
        came_by: CameBy::Carousel,
        response: None,
        ignored_query: Default::default(),
        signed_by: by.map(signer_text),
    };
    let stored = store.publish_with(frozen, meta, |object| manifests.learn(object)).map_err(failed)?;
    Ok((key.as_str().to_owned(), Some(stored)))
}

/// Expiry and placement of an object received now.
pub(super) fn fate(store: &Store, key: &str, description: &Description) -> (Option<WallTime>, Placement) {
    let now = clock::steady();
    let expires = description.max_age_s.map(|seconds| now.plus_ms(i64::from(seconds) * 1000));
    let class = store.class_of(key);
    (expires, Placement { class, is_short_lived: store.is_short(now, expires) })
}

/// The store file in which a module was assembled, if it is the object's own.
fn in_place(file: &CarouselFile<CompleteModule>) -> Option<&Frozen> {
    let [piece] = file.pieces.as_slice() else { return None };
    match piece.place() {
        (CompleteModule::File(file), range) => file.take(&range),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_other_bytes_than_described_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let modules = Modules::new(store.clone(), Some("http://h/".to_owned()), ModuleMemory::default());
        let published = |name: &str, digest| {
            let file = CarouselFile {
                paths: vec![name.into()],
                description: Description { digest, ..Description::default() },
                pieces: Vec::new(),
                module_id: 1,
                module_version: 1,
            };
            publish(&store, &Manifests::default(), &modules, &file, (None, true)).map(|it| it.0)
        };
        for (digest, is_right) in
            [(None, true), (Some(Digest::of(b"")), true), (Some(Digest::of(b"other")), false)]
        {
            match published("a.m4s", digest) {
                Ok(key) => {
                    assert_eq!((key.as_str(), is_right, store.contains("h/a.m4s")), ("h/a.m4s", true, true));
                }
                Err(why) => {
                    assert_eq!((why, is_right, store.contains("h/a.m4s")), (FileDrop::Digest, false, false));
                }
            }
            store.remove("h/a.m4s", crate::store::EvictReason::Purged);
        }
    }
}
