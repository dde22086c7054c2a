//! Broadcast of a configuration: the sessions and objects of all sources, updated while packages change.
//!
//! Sessions: the announcement channel (TSI 0); one configuration session (TSI 1) with the gateway configuration,
//! manifests and init segments; then for each source a group of its own with one session per rung (TSI 10, 20, …) and one
//! for everything else (TSI 2). HLS and DASH over the same segments share their sessions.

mod firmware;
mod pieces;
mod reserve;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;

use carousel::Digest;
use carousel::command::Command;
use carousel::fec::Protection;
use carousel::flute::SenderProfile;
use carousel::lct::Tsi;
use carousel::lct::ext::Naci;
use carousel::mabr::Component;
use carousel::time::WallTime;
use carousel::trust::{Edition, Kind as SealKind};

use crate::air::{Air, AirConfig, ItemId, Numbers, SessionIndex};
use crate::announce::{CONFIGURATION_TSI, MediaSession, Service, announcement, gateway_configuration};
use crate::catalog::{Catalog, CatalogDocuments};
use crate::config::{Carousel, Config, Source};
use crate::document::Announcement;
use crate::object::{AirObject, Body, LiveTiming, Repeat};
use crate::options::TransportProtocol;
use crate::package::{self, Inventory, Kind, ObjectSource, Presentation, Problem, Role, Rung};
use crate::plan::Class;
use crate::prepare::{Prepared, Update, is_signalling, prepare_each, protection, read_source};
use crate::progress::Preparation;
use crate::spool;
use crate::sys::open_source_file;
use firmware::Bundles;
use pieces::Pieces;

/// TSI of a source's session for objects outside rungs.
const OTHER_TSI: u64 = 2;
/// Distance between the TSIs of rungs.
const RUNG_TSI_STEP: u64 = 10;
carousel::limits! {
    /// Sessions of a source that carry one rendition each.
    const MAX_RUNG_SESSIONS: usize = 64, "sessions" {
        why: "A ladder has 6 renditions, one with languages 40; each session has its FDT.",
        full: "Further renditions share the last session.",
        free: "Holds for one run of the headend.",
        test: "rungs_beyond_the_limit_share_the_last_session_and_are_all_announced",
    }
    /// Manifests of live sources that wait for the segments which they name.
    const MAX_HELD: usize = 256, "manifests" {
        why: "One or two wait while a segment is sent; each has a few kilobytes.",
        full: "The oldest is sent although its segments are not.",
        free: "When the segments have been sent, or the manifest is removed.",
        test: "manifests_held_back_are_bounded_and_the_oldest_goes_out_early",
    }
}

/// Sessions, objects and documents of all sources.
#[derive(Debug)]
pub struct Broadcast {
    config: Config,
    /// The FLUTE sessions.
    pub air: Air,
    announcement: Option<SessionIndex>,
    configuration: SessionIndex,
    sources: Vec<SourceState>,
    documents: BTreeMap<String, (Vec<u8>, ItemId)>,
    /// Generator of the catalogue, until the follower takes it.
    catalog: Option<Catalog>,
    /// The current catalogue; empty if none is sent.
    made: CatalogDocuments,
    /// Its documents on the air, by URL.
    catalog_items: BTreeMap<String, (Digest, ItemId)>,
    /// Document of commands to receivers.
    commands: Option<ItemId>,
    /// The commands in it.
    in_force: Vec<Command>,
    /// Firmware bundles on offer.
    firmware: Bundles,
    /// Whether changes of sources are followed.
    is_followed: bool,
    /// Whether transmission may have begun: sessions opened from now on are held until the configuration that names them has been
    /// sent.
    is_begun: bool,
    /// Sessions held in this way, until that configuration is queued.
    late: Vec<SessionIndex>,
    /// Manifests of live sources that list unsent segments, in order.
    held: VecDeque<WaitingManifest>,
    /// Warnings for operators, until [`Broadcast::take_warnings`].
    warnings: Vec<Warning>,
}

/// A manifest that is held until its segments were sent: players request those at once.
#[derive(Debug)]
struct WaitingManifest {
    source: usize,
    prepared: Prepared,
    /// Segments that are sent first.
    behind: Vec<ItemId>,
}

/// Validity of a document without commands, so that receivers with pending commands receive it.
const EMPTY_COMMANDS_S: u64 = 7 * 86_400;
/// Divisor of the link's rate: maximum share of the catalogue's documents.
const CATALOG_SHARE: u64 = 20;
/// Time in which a receiver joins what the gateway configuration names, on a busy machine.
const JOIN_MS: u64 = 1000;

/// Sessions and objects of one source.
#[derive(Debug)]
struct SourceState {
    inventory: Inventory,
    items: BTreeMap<String, ItemId>,
    sessions: Vec<RungSession>,
    other: Option<SessionIndex>,
    by_path: HashMap<String, usize>,
    /// Segments being sent while they are written.
    pieces: Pieces,
    /// Length of a segment of its live presentations.
    segment_ms: Option<u64>,
    /// At a start, the number of newer segments for each segment that is not the newest.
    backlog: HashMap<String, u32>,
}

#[derive(Debug)]
struct RungSession {
    index: SessionIndex,
    media: MediaSession,
}

/// Effect of applied changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpdateCounts {
    /// Objects added.
    pub added: usize,
    /// Objects removed.
    pub removed: usize,
}

impl UpdateCounts {
    /// The sum of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { added: self.added + other.added, removed: self.removed + other.removed }
    }
}

impl Broadcast {
    /// Reads every source and adds its objects. `progress` shows how far that is.
    ///
    /// # Errors
    /// A source with nothing to carry, or a file that cannot be read.
    pub fn open(
        config: Config,
        once: bool,
        is_followed: bool,
        first_toi: u32,
        wall: WallTime,
        progress: &Preparation,
    ) -> Result<Self, String> {
        let (air, announcement, configuration) = open_air(&config, once, is_followed, first_toi);
        let mut broadcast = Self {
            config,
            air,
            announcement,
            configuration,
            sources: Vec::new(),
            documents: BTreeMap::new(),
            catalog: None,
            made: CatalogDocuments::default(),
            catalog_items: BTreeMap::new(),
            commands: None,
            in_force: Vec::new(),
            firmware: Bundles::default(),
            is_followed,
            is_begun: false,
            late: Vec::new(),
            held: VecDeque::new(),
            warnings: Vec::new(),
        };
        if broadcast.config.sources.is_empty() {
            return Err("nothing to send: the configuration has no [[source]]".to_owned());
        }
        let inventories = read_all(&broadcast.config.sources, is_followed)?;
        if let Some(why) = doubled(&broadcast.config.sources, &inventories) {
            return Err(why);
        }
        let total: u64 =
            inventories.iter().flat_map(|it| it.objects.values()).map(|object| object.length).sum();
        let files = inventories.iter().map(|it| it.objects.len()).sum::<usize>();
        progress.begin(files as u64, total);
        for (index, inventory) in inventories.into_iter().enumerate() {
            broadcast.open_source(index, inventory);
        }
        if broadcast.config.dvb_i.is_some() {
            let mut catalog = Catalog::default();
            let inventories: Vec<&Inventory> = broadcast.sources.iter().map(|it| &it.inventory).collect();
            broadcast.made = catalog.make(&broadcast.config, &inventories, wall);
            broadcast.catalog = Some(catalog);
        }
        // Documents precede the media, since receivers find all sessions by them.
        broadcast.renew_documents(wall, false)?;
        broadcast.renew_catalog()?;
        if let Some(folder) = spool::folder(&broadcast.config) {
            let (commands, _) = spool::read(&folder, wall.unix_seconds());
            broadcast.command(&commands, wall)?;
        }
        let config = broadcast.config.clone();
        for index in 0..broadcast.sources.len() {
            let changes = package::changes(&Inventory::default(), &broadcast.sources[index].inventory);
            let is_live = is_followed && broadcast.config.sources[index].reserved_bps.is_some();
            let objects = first_order(changes.added, &broadcast.sources[index].inventory, is_live);
            prepare_each(&config, index, &objects, progress, |prepared| {
                // `None`: its file vanished meanwhile.
                prepared.map_or(Ok(()), |prepared| broadcast.put(index, prepared))
            })?;
        }
        broadcast.is_begun = true;
        Ok(broadcast)
    }

    /// Opens the sessions of a source's media.
    fn open_source(&mut self, index: usize, inventory: Inventory) {
        self.sources.push(SourceState {
            inventory: Inventory::default(),
            items: BTreeMap::new(),
            sessions: Vec::new(),
            other: None,
            by_path: HashMap::new(),
            pieces: Pieces::default(),
            segment_ms: None,
            backlog: HashMap::new(),
        });
        self.assign_sessions(index, &inventory);
        let by_path = &self.sources[index].by_path;
        let has_session = |object: &ObjectSource| is_signalling(object) || by_path.contains_key(&object.path);
        if !inventory.objects.values().all(has_session) {
            self.other_session(index);
        }
        self.sources[index].inventory = inventory;
    }

    /// Problems of the packages, with the source's name.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &Problem)> {
        let named = self.config.sources.iter().zip(&self.sources);
        named.flat_map(|(source, state)| {
            state.inventory.problems.iter().map(|problem| (source.name.as_str(), problem))
        })
    }

    /// Warnings for operators about the sources. Each is given once.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Inventory of each source, with the source's name.
    pub fn named_inventories(&self) -> impl Iterator<Item = (&str, &Inventory)> {
        let named = self.config.sources.iter().zip(&self.sources);
        named.map(|(source, state)| (source.name.as_str(), &state.inventory))
    }

    /// The catalogue; empty if the configuration has none.
    pub const fn catalog(&self) -> &CatalogDocuments {
        &self.made
    }

    /// Takes the generator of the catalogue, for the thread that follows changes.
    pub const fn take_catalog(&mut self) -> Option<Catalog> {
        self.catalog.take()
    }

    /// All possible destinations of packets.
    pub fn destinations(&self) -> Vec<SocketAddr> {
        let media = (0..self.config.sources.len()).map(|index| self.config.media_address(index));
        [self.config.sessions.announcement, self.config.sessions.configuration]
            .into_iter()
            .chain(self.config.firmware.iter().map(|it| it.group))
            .chain(media)
            .collect()
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The documents of the announcement channel and the gateway configuration.
    pub fn announcements(&self, wall: WallTime) -> Vec<Announcement> {
        let services = self.services();
        let own = self.config.dvb_i.is_some().then_some(&self.made.offering);
        let mut all = announcement(&self.config, &services, own, wall);
        all.push(gateway_configuration(&self.config, &services));
        all
    }

    /// Number of objects of a source on the air.
    pub fn objects_of(&self, source: usize) -> usize {
        self.sources[source].items.len()
    }

    /// Inventory of each source, from which following starts.
    pub fn inventories(&self) -> Vec<Inventory> {
        self.sources.iter().map(|source| source.inventory.clone()).collect()
    }

    /// Applies a change of the sources.
    ///
    /// # Errors
    /// An object that does not fit its session.
    pub fn apply(&mut self, update: Update, wall: WallTime) -> Result<UpdateCounts, String> {
        let mut followed = UpdateCounts::default();
        let late_before = self.late.len();
        match update {
            Update::Changed { source, inventory, removed } => {
                self.held
                    .retain(|held| held.source != source || !removed.contains(&held.prepared.object.path));
                for path in &removed {
                    if let Some(id) = self.sources[source].items.remove(path) {
                        self.air.withdraw(id);
                        followed.removed += 1;
                    }
                }
                self.assign_sessions(source, &inventory);
                self.sources[source].inventory = inventory;
            }
            Update::Ready { source, prepared } => {
                self.put(source, *prepared)?;
                followed.added += 1;
            }
            Update::Piece { source, piece } => self.put_piece(source, *piece)?,
            Update::Abandoned { source, path } => self.abandon_pieces(source, &path),
            Update::Settled { .. } => self.renew_documents(wall, false)?,
            Update::Condition { .. } => {}
            Update::Commands(commands) => self.command(&commands, wall)?,
            Update::Firmware(releases) => self.offer(releases, wall)?,
            Update::Catalog(made) => {
                self.made = *made;
                self.renew_documents(wall, false)?;
                self.renew_catalog()?;
            }
        }
        // The documents name a session as soon as it exists; earlier late sessions are named already, or wait for them.
        if self.late.len() > late_before {
            self.renew_documents(wall, false)?;
        }
        Ok(followed)
    }

    /// Files removed because they changed during transmission, with the numbers of their sources. Each is reported once.
    pub fn lost(&mut self) -> Vec<(usize, String)> {
        let dropped = self.air.take_dropped();
        let (air, mut lost) = (&self.air, Vec::new());
        for (index, source) in self.sources.iter_mut().enumerate() {
            source.items.retain(|path, id| {
                let stays = air.has(*id);
                if !stays && !dropped.contains(id) {
                    lost.push((index, path.clone()));
                }
                stays
            });
        }
        lost
    }

    /// Updates the announcement documents, so that the dates in them are never older than `carousel.refresh_s`.
    ///
    /// # Errors
    /// A document that does not fit its session.
    pub fn refresh(&mut self, wall: WallTime) -> Result<(), String> {
        self.renew_documents(wall, true)
    }

    /// Assigns a session to every rung; rungs that share a segment share the session.
    fn assign_sessions(&mut self, index: usize, inventory: &Inventory) {
        let address = self.config.media_address(index);
        let base = self.config.sources[index].base.clone();
        let own_manifests = manifests_of(inventory, &base);
        // The rate of repeated objects follows from the plan.
        let is_live = self.config.sources[index].reserved_bps.is_some();
        let overhead = protection(&self.config, index, false).overhead;
        for presentation in &inventory.presentations {
            let manifest =
                own_manifests.iter().position(|(url, _)| *url == format!("{base}{}", presentation.manifest));
            for rung in &presentation.rungs {
                let state = &self.sources[index];
                let component = component(presentation, rung, manifest.unwrap_or(0), &base);
                // In a short window all segments may be new.
                let is_same = |it: &RungSession| it.media.components.contains(&component);
                let by_path = rung.segments.iter().find_map(|path| state.by_path.get(path).copied());
                let known = by_path.or_else(|| state.sessions.iter().position(is_same));
                let slot = match known {
                    Some(slot) => slot,
                    None if state.sessions.len() >= MAX_RUNG_SESSIONS => MAX_RUNG_SESSIONS - 1,
                    None => {
                        let slot = state.sessions.len();
                        let tsi = RUNG_TSI_STEP * (slot as u64 + 1);
                        let session = self.open_media_session(index, tsi);
                        let source = &self.config.sources[index];
                        let media = MediaSession {
                            id: format!("s{index}-{tsi}"),
                            address,
                            tsi,
                            protocol: source.protocol,
                            is_chunked: source.chunk_ms.is_some(),
                            components: Vec::new(),
                            maximum_bps: self.maximum_bps(index),
                            average_bps: None,
                        };
                        self.sources[index].sessions.push(RungSession { index: session, media });
                        slot
                    }
                };
                let state = &mut self.sources[index];
                let components = &mut state.sessions[slot].media.components;
                if !components.contains(&component) {
                    components.push(component);
                    if is_live && rung.bandwidth_bps > 0 {
                        let sum_bps = state.sessions[slot].media.average_bps.unwrap_or(0);
                        let own_bps = (rung.bandwidth_bps as f64 * (1.0 + overhead)) as u64;
                        state.sessions[slot].media.average_bps = Some(sum_bps.saturating_add(own_bps));
                    }
                }
                for path in &rung.segments {
                    state.by_path.entry(path.clone()).or_insert(slot);
                }
            }
        }
        // A start of the source, or of a packager that came later.
        let is_start = !self.sources[index].inventory.is_live();
        if is_start {
            self.warnings.extend(reserve::warning(&self.config, index, inventory));
        }
        let state = &mut self.sources[index];
        let lengths_ms = inventory.live_rungs().map(Rung::segment_ms);
        state.segment_ms = Some(lengths_ms.fold(0.0, f64::max) as u64);
        state.backlog.clear();
        if self.is_followed && is_start {
            state.backlog =
                ages(inventory).filter(|(_, age)| *age > 0).map(|(path, age)| (path.clone(), age)).collect();
        }
        // Live sources forget removed segments.
        self.sources[index].by_path.retain(|path, _| inventory.objects.contains_key(path));
    }

    /// Replaces an object's predecessor; holds a live source's manifest while earlier segments are pending.
    fn put(&mut self, index: usize, prepared: Prepared) -> Result<(), String> {
        let is_live = self.is_followed && self.config.sources[index].reserved_bps.is_some();
        if is_live && prepared.object.role == Role::Manifest {
            let items = self.sources[index].items.values().copied();
            let is_segment = |id: &ItemId| self.air.object(*id).is_some_and(|object| object.repeat.is_live());
            let pieces = self.pieces(index);
            let behind = items.chain(pieces).filter(|id| self.air.is_pending(*id)).filter(is_segment);
            // Do not wait for the backlog of a start: players begin at the newest segments.
            let behind: Vec<ItemId> = behind.filter(|id| !self.air.is_backlog(*id)).collect();
            let has_earlier = self.held.iter().any(|held| held.source == index);
            if !behind.is_empty() || has_earlier {
                self.held.push_back(WaitingManifest { source: index, prepared, behind });
                if self.held.len() > MAX_HELD
                    && let Some(oldest) = self.held.pop_front()
                {
                    self.put_now(oldest.source, oldest.prepared)?;
                }
                return Ok(());
            }
        }
        self.put_now(index, prepared)
    }

    /// Queues the held manifests whose segments have been sent; each gets a TOI. Call it before each batch of packets,
    /// and before [`crate::lease::Lease::tend`].
    ///
    /// # Errors
    /// A manifest that does not fit its session.
    pub fn release_held(&mut self) -> Result<(), String> {
        while let Some(at) = self.next_released() {
            if let Some(held) = self.held.remove(at) {
                self.put_now(held.source, held.prepared)?;
            }
        }
        Ok(())
    }

    /// The first held manifest that may be sent. Manifests of one source stay in order; no source waits for another.
    fn next_released(&self) -> Option<usize> {
        let is_first =
            |at: usize, of: &WaitingManifest| !self.held.iter().take(at).any(|it| it.source == of.source);
        let may_go = |of: &WaitingManifest| !of.behind.iter().any(|id| self.air.is_pending(*id));
        self.held.iter().enumerate().position(|(at, held)| is_first(at, held) && may_go(held))
    }

    fn put_now(&mut self, index: usize, prepared: Prepared) -> Result<(), String> {
        let Prepared { object, body, digest, md5, repair } = prepared;
        let source = &self.config.sources[index];
        let signalling = is_signalling(&object);
        let air_object = AirObject {
            uri: format!("{}{}", source.base, object.path),
            content_type: object.content_type.to_owned(),
            digest,
            md5,
            body,
            class: if signalling { Class::Signalling } else { source.class },
            repeat: match source.reserved_bps {
                _ if signalling => Repeat::Within { ms: self.config.carousel.manifest_interval_ms },
                Some(_) => Repeat::Live(LiveTiming {
                    age: self.sources[index].backlog.remove(&object.path).unwrap_or(0),
                    ..LiveTiming::of(index, self.sources[index].segment_ms)
                }),
                None => Repeat::Scheduled { popularity: source.popularity },
            },
            expiry_s: expiry_s(&self.config.carousel, source, &object),
            ignored_query: self.sources[index].inventory.ignored_query.clone(),
            protection: protection(&self.config, index, signalling),
        };
        let session = if signalling {
            self.configuration
        } else if let Some(&slot) = self.sources[index].by_path.get(&object.path) {
            self.sources[index].sessions[slot].index
        } else {
            self.other_session(index)
        };
        let id = self
            .air
            .add_prepared(session, air_object, repair)
            .map_err(|err| format!("{}: {err}", object.file.display()))?;
        if let Some(old) = self.sources[index].items.insert(object.path.clone(), id) {
            self.air.withdraw(old);
        }
        Ok(())
    }

    fn other_session(&mut self, index: usize) -> SessionIndex {
        if let Some(session) = self.sources[index].other {
            return session;
        }
        let session = self.open_media_session(index, OTHER_TSI);
        self.sources[index].other = Some(session);
        session
    }

    fn open_media_session(&mut self, index: usize, tsi: u64) -> SessionIndex {
        let (address, profile) = (self.config.media_address(index), self.media_profile(index));
        let source = &self.config.sources[index];
        let session = match source.protocol {
            TransportProtocol::Flute => self.air.open_session(address, Tsi(tsi), profile),
            TransportProtocol::Route => self.air.open_route_session(address, Tsi(tsi), profile),
        };
        self.air.sign_session(session, &source.service_id);
        if self.is_begun {
            self.air.hold_session(session);
            self.late.push(session);
        }
        session
    }

    /// Maximum bit rate of a source: its reserve, otherwise the link's rate.
    fn maximum_bps(&self, index: usize) -> u64 {
        let link_bps = self.config.link.rate_bps;
        self.config.sources[index].reserved_bps.map_or(link_bps, |reserved_bps| reserved_bps.min(link_bps))
    }

    fn services(&self) -> Vec<Service> {
        let both = self.config.sources.iter().zip(&self.sources).enumerate();
        both.map(|(index, (source, state))| {
            let mut sessions: Vec<MediaSession> =
                state.sessions.iter().map(|session| session.media.clone()).collect();
            if state.other.is_some() {
                let (address, maximum_bps) = (self.config.media_address(index), self.maximum_bps(index));
                let component = Component::Generic { manifest: "m0".into(), component: "other".into() };
                let id = format!("s{index}-{OTHER_TSI}");
                sessions.push(MediaSession {
                    id,
                    address,
                    tsi: OTHER_TSI,
                    protocol: source.protocol,
                    is_chunked: source.chunk_ms.is_some(),
                    components: vec![component],
                    maximum_bps,
                    average_bps: None,
                });
            }
            Service {
                id: source.service_id.clone(),
                base: source.base.clone(),
                manifests: manifests_of(&state.inventory, &source.base),
                sessions,
            }
        })
        .collect()
    }

    /// Sends new versions of the documents whose content has changed, or of `all`. A change of VersionUpdate alone does
    /// not count.
    fn renew_documents(&mut self, wall: WallTime, all: bool) -> Result<(), String> {
        let announced = self.announcements(wall);
        let stable = self.announcements(WallTime::from_unix_ms(0));
        for (document, stable) in announced.into_iter().zip(stable) {
            let is_configuration = document.uri == carousel::mabr::CONFIGURATION_URI;
            let session = if is_configuration { Some(self.configuration) } else { self.announcement };
            let Some(session) = session else { continue };
            if !all && self.documents.get(&document.uri).is_some_and(|(before, _)| *before == stable.bytes) {
                continue;
            }
            let carousel = &self.config.carousel;
            let ms = if is_configuration {
                carousel.manifest_interval_ms
            } else {
                carousel.announcement_interval_ms
            };
            let digest = Digest::of(&document.bytes);
            let object = signalled(&document.uri, &document.content_type, &document.bytes, digest, ms);
            let id = self.air.add(session, object).map_err(|err| err.to_string())?;
            if let Some((_, old)) = self.documents.insert(document.uri, (stable.bytes, id)) {
                self.air.withdraw(old);
            }
        }
        if let Some((_, id)) = self.documents.get(carousel::mabr::CONFIGURATION_URI) {
            for session in &self.late {
                self.air.open_behind(*session, *id);
            }
            // Sessions that are not named yet wait for the next version of the document, if this one is replaced before
            // it was sent.
            self.late.retain(|&session| !self.air.is_named(session));
        }
        Ok(())
    }
}

impl Broadcast {
    /// Commands to receivers on the air.
    pub fn commands_in_force(&self) -> &[Command] {
        &self.in_force
    }

    /// Takes over from another headend that has ended: with its numbers by session, and versions of signatures above those that
    /// it may have used. Documents with a version or a date are updated. Returns the number of objects that keep their TOI.
    ///
    /// # Errors
    /// An object that does not fit its session.
    pub fn go_on(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        numbers: &HashMap<String, Numbers>,
        versions: u64,
    ) -> Result<usize, String> {
        if let Some(sealer) = &self.config.sealer {
            sealer.go_on_from(versions);
        }
        self.renew_documents(wall, true)?;
        let in_force = std::mem::take(&mut self.in_force);
        self.command(&in_force, wall)?;
        self.offer_again(wall)?;
        self.forget_old_manifests();
        self.air.go_on(now_ns, wall, numbers).map_err(|err| err.to_string())
    }

    /// Keeps only the newest held manifest of each source; an earlier one would move receivers back before those of the other
    /// headend.
    fn forget_old_manifests(&mut self) {
        let mut newest = VecDeque::new();
        for held in std::mem::take(&mut self.held) {
            let is_same = |it: &WaitingManifest| {
                it.source == held.source && it.prepared.object.path == held.prepared.object.path
            };
            newest.retain(|it| !is_same(it));
            if let Some(old) = self.sources[held.source].items.remove(&held.prepared.object.path) {
                self.air.withdraw(old);
            }
            newest.push_back(held);
        }
        self.held = newest;
    }

    /// Sends the signed document of the commands in force, which replaces the previous one.
    fn command(&mut self, commands: &[Command], wall: WallTime) -> Result<(), String> {
        // Also without commands, so that receivers forget pending ones.
        let Some(sealer) = &self.config.sealer else { return Ok(()) };
        self.in_force = commands.to_vec();
        if commands.is_empty() && self.commands.is_none() {
            return Ok(());
        }
        let issued = wall.unix_seconds();
        let edition = Edition {
            version: sealer.next_version(wall),
            issued,
            until: commands.iter().map(|it| it.until).max().unwrap_or(issued + EMPTY_COMMANDS_S),
            ..Edition::default()
        };
        let text = carousel::command::to_xml(commands);
        let sealed = sealer.seal_xml(SealKind::Command, &carousel::command::stream(), &edition, &text);
        let (bytes, ms) = (sealed.as_bytes(), self.config.carousel.announcement_interval_ms);
        let (uri, content_type) = (carousel::command::URI, carousel::command::CONTENT_TYPE);
        let object = signalled(uri, content_type, bytes, Digest::of(bytes), ms);
        let session = self.announcement.unwrap_or(self.configuration);
        let id = self.air.add(session, object).map_err(|err| format!("commands: {err}"))?;
        if let Some(old) = self.commands.replace(id) {
            self.air.withdraw(old);
        }
        Ok(())
    }

    /// Sends changed documents of the catalogue, and removes obsolete ones.
    fn renew_catalog(&mut self) -> Result<(), String> {
        let Some(session) = self.announcement else { return Ok(()) };
        let bytes: u64 = self.made.documents.iter().map(|it| it.bytes.len() as u64).sum();
        let share_bps = (self.config.payload_rate_bps() / CATALOG_SHARE).max(1);
        let ms = self.config.catalog.interval_ms.max(bytes * 8000 / share_bps);
        let mut gone = std::mem::take(&mut self.catalog_items);
        for document in &self.made.documents {
            let digest = Digest::of(&document.bytes);
            let before = gone.remove(&document.uri);
            if let Some((same, id)) = before.filter(|(before, _)| *before == digest) {
                self.catalog_items.insert(document.uri.clone(), (same, id));
                continue;
            }
            let object = AirObject {
                expiry_s: Some(self.config.carousel.guide_expiry_s).filter(|&seconds| seconds > 0),
                ..signalled(&document.uri, &document.content_type, &document.bytes, digest, ms)
            };
            let id = self.air.add(session, object).map_err(|err| format!("{}: {err}", document.uri))?;
            if let Some((_, old)) = before {
                self.air.withdraw(old);
            }
            self.catalog_items.insert(document.uri.clone(), (digest, id));
        }
        for (_, id) in gone.into_values() {
            self.air.withdraw(id);
        }
        Ok(())
    }
}

/// Creates the carousel of a configuration, with the sessions of announcement and gateway configuration.
fn open_air(
    config: &Config,
    once: bool,
    is_followed: bool,
    first_toi: u32,
) -> (Air, Option<SessionIndex>, SessionIndex) {
    let carousel = &config.carousel;
    // Long enough for both steps: a repeat of the announcement channel, then of the gateway configuration. An object is
    // useless without its FDT, so the longer of both intervals counts.
    let two_steps_ms = carousel.announcement_interval_ms.max(carousel.fdt_interval_ms)
        + carousel.manifest_interval_ms.max(carousel.fdt_interval_ms)
        + JOIN_MS;
    let mut air = Air::new(AirConfig {
        rate_bps: config.payload_rate_bps(),
        fdt_interval_ms: carousel.fdt_interval_ms,
        cycle_ms: (carousel.cycle_s > 0).then_some(carousel.cycle_s * 1000),
        reserved_bps: config.reserved_bps(),
        share_bps: if once { 0 } else { config.share_bps() },
        reserved_by_service_bps: config.sources.iter().map(|it| it.reserved_bps.unwrap_or(0)).collect(),
        drops_late: is_followed,
        first_toi,
        once,
        lead_ms: if once && config.sessions.announce { two_steps_ms } else { 0 },
        sealer: config.sealer.clone(),
    });
    let profile = config.carousel.sender_profile();
    let naci = Naci {
        network_id: config.nip.network_id,
        carrier_id: config.nip.carrier_id,
        link_id: config.nip.link_id,
        service_id: config.nip.service_id,
        provider: config.nip.provider.clone(),
    };
    let announcement = config.sessions.announce.then(|| {
        let profile = SenderProfile { naci: Some(naci), ..profile.clone() };
        air.open_session(config.sessions.announcement, Tsi(carousel::nip::ANNOUNCEMENT_TSI), profile)
    });
    let configuration = air.open_session(config.sessions.configuration, Tsi(CONFIGURATION_TSI), profile);
    (air, announcement, configuration)
}

/// Reads all sources.
///
/// # Errors
/// A source that cannot be read, unless it may appear later or there are others.
fn read_all(sources: &[Source], is_followed: bool) -> Result<Vec<Inventory>, String> {
    let (mut inventories, mut failures, mut is_one_away) = (Vec::new(), Vec::new(), false);
    for source in sources {
        match read_source(source, is_followed) {
            Ok(inventory) => inventories.push(inventory),
            Err(why) => {
                is_one_away |= !source.path.exists();
                inventories.push(unread(source, &why, is_followed));
                failures.push(why);
            }
        }
    }
    // A packager that starts later creates its folder then, which is detected by following. All failures are listed.
    if !is_followed && (is_one_away || failures.len() == inventories.len()) {
        return Err(failures.join("\n"));
    }
    Ok(inventories)
}

/// A warning for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Name of the source that it is about, if it is about one.
    pub source: Option<String>,
    /// The state, and its fix.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{source}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Why two sources cannot be sent together, as they are at the start: both have another file for one URL, of which receivers would keep either. Sources of the
/// same files, such as two manifests of one folder, may share their URLs.
fn doubled(sources: &[Source], inventories: &[Inventory]) -> Option<String> {
    let is_near = |a: &Source, b: &Source| a.base.starts_with(&b.base) || b.base.starts_with(&a.base);
    let all: Vec<(&Source, &Inventory)> = sources.iter().zip(inventories).collect();
    for (at, (one, first)) in all.iter().enumerate() {
        for (other, second) in all[at + 1..].iter().filter(|(other, _)| is_near(one, other)) {
            let mut same = first.objects.values().filter_map(|object| {
                let uri = format!("{}{}", one.base, object.path);
                let namesake = second.objects.get(uri.strip_prefix(&other.base)?)?;
                (!is_same_file(object, namesake)).then_some(uri)
            });
            let Some(uri) = same.next() else { continue };
            let others = match same.count() {
                0 => String::new(),
                1 => " and 1 other URL".to_owned(),
                count => format!(" and {count} other URLs"),
            };
            return Some(format!(
                "sources {} ({}) and {} ({}) both have {uri}{others}, and receivers would take the file of one for that of the \
                 other; give one of them another base",
                one.name,
                one.path.display(),
                other.name,
                other.path.display()
            ));
        }
    }
    None
}

/// Whether two files of one URL have the same bytes, as two copies of one folder have: by length, beginning and end.
fn is_same_file(one: &ObjectSource, other: &ObjectSource) -> bool {
    /// Bytes that are compared at either end.
    const COMPARED_BYTES: u64 = 64 << 10;
    let ends = |object: &ObjectSource| -> std::io::Result<Vec<u8>> {
        let mut file = open_source_file(&object.file)?;
        let start = object.range.as_ref().map_or(0, |it| it.start);
        let mut bytes = Vec::new();
        for at in [start, start + object.length.saturating_sub(COMPARED_BYTES)] {
            file.seek(SeekFrom::Start(at))?;
            file.by_ref().take(COMPARED_BYTES.min(object.length)).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    one.file == other.file
        || one.length == other.length && ends(one).is_ok_and(|it| ends(other).is_ok_and(|other| it == other))
}

/// A document of the headend, repeated within `ms`.
fn signalled(uri: &str, content_type: &str, bytes: &[u8], digest: Digest, ms: u64) -> AirObject {
    AirObject {
        protection: Protection::NONE,
        uri: uri.to_owned(),
        content_type: content_type.to_owned(),
        digest,
        md5: carousel::digest::md5(bytes),
        body: Body::Memory(bytes.into()),
        class: Class::Signalling,
        repeat: Repeat::Within { ms },
        expiry_s: None,
        ignored_query: Default::default(),
    }
}

/// Freshness lifetime of an object for caches, seconds.
fn expiry_s(carousel: &Carousel, source: &Source, object: &ObjectSource) -> Option<u32> {
    let is_guide =
        object.role == Role::Other && ["xml", "json"].iter().any(|kind| object.content_type.ends_with(kind));
    // A live manifest is replaced with every segment: a cache that keeps it would stall playback.
    if object.role == Role::Manifest && source.reserved_bps.is_some() {
        return Some(carousel.live_manifest_expiry_s).filter(|&seconds| seconds > 0);
    }
    let usual = if is_guide { carousel.guide_expiry_s } else { carousel.expiry_s };
    Some(source.expiry_s.unwrap_or(usual)).filter(|&seconds| seconds > 0)
}

/// The order of the first transmissions: manifests and init segments first, which players need first. For live
/// presentations the newest segments precede older ones, since players begin at the live edge, and manifests follow the
/// newest segments, which they list.
pub(crate) fn first_order(
    mut objects: Vec<ObjectSource>,
    inventory: &Inventory,
    is_live: bool,
) -> Vec<ObjectSource> {
    let ages: HashMap<&String, u32> = ages(inventory).collect();
    objects.sort_by_key(|object| match (object.role, ages.get(&object.path).copied().unwrap_or(0)) {
        (Role::Manifest, _) => (if is_live { 3 } else { 0 }, 0),
        (Role::Init, _) => (1, 0),
        (_, 0) => (2, 0),
        (_, age) => (4, age),
    });
    objects
}

/// For each segment of live presentations, the number of newer ones.
fn ages(inventory: &Inventory) -> impl Iterator<Item = (&String, u32)> {
    inventory
        .live_rungs()
        .flat_map(|rung| (0..).zip(rung.segments.iter().rev()).map(|(age, path)| (path, age)))
}

/// Inventory of a source that could not be read.
fn unread(source: &Source, why: &str, is_followed: bool) -> Inventory {
    let fix = match is_followed {
        true => "it is looked at again and again, and sent when it is there",
        false => "the other sources are taken; `headend send` waits for this one",
    };
    // The text begins with its path.
    let problem = Problem { place: String::new(), what: why.to_owned(), fix };
    Inventory { root: source.path.clone(), problems: vec![problem], ..Inventory::default() }
}

fn manifests_of(inventory: &Inventory, base: &str) -> Vec<(String, String)> {
    let url = |presentation: &Presentation| {
        let content_type = match presentation.kind {
            Kind::Hls => "application/vnd.apple.mpegURL",
            Kind::Dash => "application/dash+xml",
        };
        (format!("{base}{}", presentation.manifest), content_type.to_owned())
    };
    inventory.presentations.iter().map(url).collect()
}

fn component(presentation: &Presentation, rung: &Rung, manifest: usize, base: &str) -> Component {
    let manifest = format!("m{manifest}");
    match (presentation.kind, &rung.dash_ids) {
        (Kind::Dash, Some([period, adaptation_set, representation])) => Component::Dash {
            manifest,
            period: period.clone(),
            adaptation_set: adaptation_set.clone(),
            representation: representation.clone(),
        },
        _ => Component::Hls {
            manifest,
            playlist: format!("{base}{}", rung.playlist.as_deref().unwrap_or(&rung.id)),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
