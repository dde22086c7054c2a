//! Transmission of a DSM-CC carousel: the objects of [`Air`] as modules, and the order of their blocks.
//!
//! Modules are repeated by the same [`Schedule`](crate::schedule::Schedule) as FLUTE objects; the weight of a module is the
//! sum of those of its objects. DSI, DIIs and directories are repeated at their intervals, as are modules with manifests and
//! init segments; control messages and directories each take at most a fixed share of the stream.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use carousel::bytes::WireError;
use carousel::dsmcc::build::{ModuleContent, ModuleView};
use carousel::dsmcc::profile::{Carried, ObjectNumber};
use carousel::dsmcc::signed::write_sections;
use carousel::dsmcc::write::Reading;
use carousel::dsmcc::{Builder, Shape};
use carousel::nip::Document;
use carousel::time::WallTime;
use carousel::trust::{Edition, Kind, Sealer, Stream};
use carousel::ts::Packetizer;

use crate::air::{ANNOUNCEMENT_SERVICE, Air, ItemId};
use crate::config::Config;
use crate::lanes::Lanes;
use crate::object::{AirObject, Body, OpenBody, Repeat};
use crate::options::{Class, Multiplex};
use crate::plan::{DeductedRates, Planned};

/// The part of the stream that DSI and DIIs may take; likewise directories.
const CONTROL_SHARE: f64 = 0.05;
carousel::limits! {
    /// Files that are held open for modules which are being sent.
    const MAX_OPEN_FILES: usize = 64, "files" {
        why: "A module of small objects has some tens; a process may have 1,024 files open.",
        full: "All are closed, and opened again when their next bytes are sent.",
        free: "At once.",
        test: "modules_of_many_small_files_keep_few_of_them_open",
    }
}

/// Validity of a signed list, which is signed again at half of it.
const LIST_LIFETIME_S: u64 = 3600;

/// Bytes of a block's section on the air beyond its data, by 4066: headers of section, message and packets.
const AIR_PER_BYTE: f64 = 1.031;

/// Error of reading a body.
#[derive(Debug)]
pub enum ReadError {
    /// A file that changed or vanished.
    Broken(ObjectNumber),
    /// A section that cannot be written.
    Wire(WireError),
}

impl From<WireError> for ReadError {
    fn from(err: WireError) -> Self {
        Self::Wire(err)
    }
}

/// Signer of the list of modules, and its sections.
#[derive(Debug)]
struct Signing {
    sealer: Sealer,
    stream: Stream,
    sections: Vec<Vec<u8>>,
    issued_s: u64,
}

/// A module that is being sent.
#[derive(Debug)]
struct Job {
    reading: Reading,
    version: u8,
    next: u32,
    blocks: u32,
}

/// An object that is carried.
#[derive(Debug)]
struct CarriedObject {
    item: ItemId,
    uri: String,
    body: Body,
    class: Class,
    weight: f64,
    repeat: Repeat,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RotationStats {
    /// Modules sent to their last block, repeats included.
    pub modules_sent: u64,
    /// Objects that changed or vanished on disk while they were sent.
    pub objects_broken_off: u64,
    /// Objects that the carousel has no room or name for.
    pub objects_refused: u64,
}

/// A DSM-CC carousel that is being sent.
#[derive(Debug)]
pub struct Rotation {
    builder: Builder,
    objects: BTreeMap<ObjectNumber, CarriedObject>,
    by_item: HashMap<ItemId, ObjectNumber>,
    by_uri: HashMap<String, ObjectNumber>,
    /// [`Air::generation`](crate::air::Air::generation) at the last look.
    generation: Option<u64>,
    lanes: Lanes,
    /// The promised cycle.
    cycle_s: Option<f64>,
    /// Modules and their versions that were sent completely, or are empty.
    sent: HashMap<u16, u8>,
    urgent: VecDeque<u16>,
    /// Modules being sent: the last one continues, the others wait for it.
    jobs: Vec<Job>,
    /// Modules with directories, and their bytes.
    directories: HashSet<u16>,
    directory_bytes: f64,
    /// Modules in all.
    modules: usize,
    control: VecDeque<Control>,
    control_due_ns: u64,
    has_changed: bool,
    signing: Option<Signing>,
    rate_bps: u64,
    config: Multiplex,
    manifest_interval_ms: u64,
    once: bool,
    files: RefCell<HashMap<ObjectNumber, OpenBody>>,
    stats: RotationStats,
    refused: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    /// A section of the signed list.
    Signed(usize),
    Initiate,
    Info(u16),
}

impl Rotation {
    /// An empty carousel.
    pub fn new(config: &Config, multiplex: &Multiplex, once: bool) -> Self {
        Self {
            builder: Builder::new(multiplex.profile()),
            objects: BTreeMap::new(),
            by_item: HashMap::new(),
            by_uri: HashMap::new(),
            generation: None,
            lanes: Lanes::new(
                config.payload_rate_bps(),
                (config.carousel.cycle_s > 0).then_some(config.carousel.cycle_s * 1_000_000_000),
            ),
            cycle_s: (config.carousel.cycle_s > 0).then_some(config.carousel.cycle_s as f64),
            sent: HashMap::new(),
            urgent: VecDeque::new(),
            jobs: Vec::new(),
            directories: HashSet::new(),
            directory_bytes: 0.0,
            modules: 0,
            control: VecDeque::new(),
            control_due_ns: 0,
            has_changed: false,
            signing: config.sealer.clone().map(|sealer| {
                let name =
                    format!("carousel {:x} pid {}", multiplex.profile().carousel_id, multiplex.data_pid());
                let stream = Stream { service: ANNOUNCEMENT_SERVICE.to_owned(), name, tsi: 0 };
                Signing { sealer, stream, sections: Vec::new(), issued_s: 0 }
            }),
            rate_bps: config.payload_rate_bps(),
            manifest_interval_ms: config.carousel.manifest_interval_ms,
            config: multiplex.clone(),
            once,
            files: RefCell::default(),
            stats: RotationStats::default(),
            refused: Vec::new(),
        }
    }

    /// Brings the carousel in line with what is on the air.
    pub fn sync(&mut self, air: &Air, now_ns: u64) {
        let generation = air.generation();
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        let mut gone: HashSet<ItemId> = self.by_item.keys().copied().collect();
        let mut new = Vec::new();
        for (item, object) in air.objects() {
            if !gone.remove(&item) && !is_of_flute_alone(object) {
                new.push((item, object));
            }
        }
        for (item, object) in new {
            self.take(item, object, &gone);
        }
        for item in gone {
            if let Some(number) = self.by_item.remove(&item) {
                self.remove(number);
            }
        }
        self.commit(now_ns);
    }

    /// Takes an object, in the place of one of the same URI that is going.
    fn take(&mut self, item: ItemId, object: &AirObject, going: &HashSet<ItemId>) {
        let class = object.class;
        let carried = Carried {
            uri: object.uri.clone(),
            content_type: Some(object.content_type.clone()),
            digest: object.digest,
            max_age_s: object.expiry_s,
            length: object.body.length(),
            is_text: is_text(&object.content_type),
            lane: class as u8 * 2 + u8::from(object.repeat.is_live()),
        };
        let carried_object = CarriedObject {
            item,
            uri: object.uri.clone(),
            body: object.body.clone(),
            class,
            weight: object.weight(),
            repeat: object.repeat,
        };
        let before = self.by_uri.get(&object.uri).copied();
        let before = before.filter(|it| self.objects.get(it).is_some_and(|it| going.contains(&it.item)));
        if let Some(number) = before
            && self.builder.replace(number, carried.clone()).is_some()
        {
            if let Some(old) = self.objects.insert(number, carried_object) {
                self.by_item.remove(&old.item);
            }
            self.files.borrow_mut().remove(&number);
            self.by_item.insert(item, number);
            return;
        }
        if let Some(number) = before {
            self.remove(number);
        }
        match self.builder.add(carried) {
            Ok(number) => {
                self.by_uri.insert(object.uri.clone(), number);
                self.by_item.insert(item, number);
                self.objects.insert(number, carried_object);
            }
            Err(err) => {
                self.stats.objects_refused += 1;
                self.refused.push(format!("{}: {err}", object.uri));
            }
        }
    }

    fn remove(&mut self, number: ObjectNumber) {
        self.builder.remove(number);
        self.files.borrow_mut().remove(&number);
        if let Some(old) = self.objects.remove(&number) {
            self.by_item.remove(&old.item);
            if self.by_uri.get(&old.uri) == Some(&number) {
                self.by_uri.remove(&old.uri);
            }
        }
    }

    /// Makes modules of what has changed, and puts them in their queues.
    fn commit(&mut self, now_ns: u64) {
        loop {
            let (objects, files) = (&self.objects, &self.files);
            let done = self.builder.commit(|number, offset, out| read(objects, files, number, offset, out));
            match done {
                Ok(()) => break,
                Err((number, _)) => self.break_off(number),
            }
        }
        let modules: Vec<ModuleView> = self.builder.modules().collect();
        let there: HashMap<u16, u8> = modules.iter().map(|it| (it.id, it.version)).collect();
        self.sent.retain(|id, version| there.get(id) == Some(version));
        self.lanes.retain(|id| there.contains_key(&(id as u16)));
        self.urgent.retain(|id| there.contains_key(id));
        let is_stale = |job: &Job| there.get(&job.reading.id()) != Some(&job.version);
        self.jobs.retain(|job| !is_stale(job));
        let directories = || modules.iter().filter(|it| it.content == ModuleContent::Directories);
        self.directories = directories().map(|it| it.id).collect();
        self.directory_bytes = directories().map(|it| f64::from(it.size)).sum();
        self.modules = modules.len();
        for id in there.keys().filter(|id| !self.sent.contains_key(id)) {
            self.lanes.unschedule(u64::from(*id));
        }
        for module in modules {
            let is_waiting = self.sent.contains_key(&module.id)
                || self.lanes.is_fresh(u64::from(module.id))
                || self.urgent.contains(&module.id);
            let is_on_air = self.jobs.iter().any(|job| job.reading.id() == module.id);
            if is_waiting || is_on_air {
                continue;
            }
            if self.is_repeated(module.id) {
                self.urgent.push_back(module.id);
            } else {
                self.lanes.add_fresh(u64::from(module.id));
            }
        }
        // Control messages follow a change at once.
        self.control_due_ns = now_ns;
        self.has_changed = true;
    }

    /// An object whose file is no longer what was announced.
    fn break_off(&mut self, number: ObjectNumber) {
        self.stats.objects_broken_off += 1;
        self.remove(number);
    }

    /// Whether the module holds directories or signalling, which are repeated at intervals.
    fn is_repeated(&self, module: u16) -> bool {
        self.directories.contains(&module) || self.class_of(module) == Class::Signalling
    }

    fn class_of(&self, module: u16) -> Class {
        let first = self.builder.objects_of(module).next();
        first.and_then(|number| self.objects.get(&number)).map_or(Class::Signalling, |object| object.class)
    }

    /// Sum of what its objects weigh; `None` for those that are sent once.
    fn weight_of(&self, module: u16) -> Option<f64> {
        let mut objects =
            self.builder.objects_of(module).filter_map(|number| self.objects.get(&number)).peekable();
        if objects.peek().is_some_and(|object| object.repeat.is_live()) {
            return None;
        }
        Some(objects.map(|object| object.weight).sum())
    }

    /// Appends the next section. False if there is nothing to send.
    ///
    /// # Errors
    /// Control messages that do not fit.
    pub fn next_section(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        air: &mut Air,
        out: &mut Packetizer,
    ) -> Result<bool, String> {
        self.sync(air, now_ns);
        self.queue_control(now_ns, wall)?;
        if let Some(control) = self.control.pop_front() {
            let signing = &self.signing;
            let written = out.push_with(|out| match control {
                Control::Signed(number) => {
                    let section = signing.as_ref().and_then(|it| it.sections.get(number));
                    out.extend_from_slice(section.map_or(&[][..], Vec::as_slice));
                    Ok(())
                }
                Control::Initiate => self.builder.write_initiate(out),
                Control::Info(group) => self.builder.write_info(group, out),
            });
            written.map_err(|err| format!("[multiplex]: the carousel has too many modules: {err}"))?;
            return Ok(true);
        }
        self.queue_repeats(now_ns);
        loop {
            let Some(job) = self.take_job(now_ns, air) else { return Ok(false) };
            let (objects, files) = (&self.objects, &self.files);
            let result = out.push_with(|out| {
                self.builder.write_block(&job.reading, job.next as u16, out, |number, offset, out| {
                    read(objects, files, number, offset, out)
                })
            });
            match result {
                Ok(()) => {
                    let job = Job { next: job.next + 1, ..job };
                    if job.next < job.blocks {
                        self.jobs.push(job);
                    } else {
                        self.finish(&job, now_ns);
                    }
                    return Ok(true);
                }
                Err(ReadError::Broken(number)) => self.withdraw(number, air, now_ns),
                Err(ReadError::Wire(err)) => return Err(format!("[multiplex]: {err}")),
            }
        }
    }

    fn withdraw(&mut self, number: ObjectNumber, air: &mut Air, now_ns: u64) {
        if let Some(object) = self.objects.get(&number) {
            air.withdraw(object.item);
        }
        self.break_off(number);
        self.generation = Some(air.generation());
        self.commit(now_ns);
    }

    /// DSI and DIIs, when they are due.
    fn queue_control(&mut self, now_ns: u64, wall: WallTime) -> Result<(), String> {
        if now_ns < self.control_due_ns || !self.control.is_empty() || self.is_over() {
            return Ok(());
        }
        let signed = self.sign(wall)?;
        // Changes are sent twice: receivers read DIIs only after a DSI.
        for _ in 0..1 + u32::from(std::mem::take(&mut self.has_changed)) {
            // First the list: receivers skip what it does not name.
            self.control.extend((0..signed).map(Control::Signed));
            self.control.push_back(Control::Initiate);
            self.control.extend(self.builder.infos().map(Control::Info));
        }
        // A DII of 100 modules is nearly a full section.
        let list: usize = self.signing.iter().flat_map(|it| &it.sections).map(Vec::len).sum();
        let bytes = 200 + self.modules * 40 + list;
        self.control_due_ns = now_ns + self.spaced_ns(self.config.control_interval_ms, bytes as f64);
        Ok(())
    }

    /// Signs the list of what is on the air, where that has changed or the signature ages. Gives the number of its sections.
    fn sign(&mut self, wall: WallTime) -> Result<usize, String> {
        let Some(signing) = &mut self.signing else { return Ok(0) };
        let now_s = wall.unix_seconds();
        let is_old = now_s.abs_diff(signing.issued_s) >= LIST_LIFETIME_S / 2;
        if !self.has_changed && !is_old && !signing.sections.is_empty() {
            return Ok(signing.sections.len());
        }
        let version = signing.sealer.next_version(wall);
        let (floor, until) = (version, now_s + LIST_LIFETIME_S);
        let edition = Edition { version, floor, page: 0, issued: now_s, until };
        let failed = |err: WireError| format!("[multiplex]: the carousel's list cannot be signed: {err}");
        let list = self.builder.signed_list().map_err(failed)?.to_bytes();
        let sealed = signing.sealer.seal_bytes(Kind::Modules, &signing.stream, &edition, &list);
        signing.sections = write_sections(&sealed.unwrap_or_default()).map_err(failed)?;
        signing.issued_s = now_s;
        Ok(signing.sections.len())
    }

    /// An interval, or as much longer as the bytes need to take no more than their share.
    fn spaced_ns(&self, interval_ms: u64, bytes: f64) -> u64 {
        let least = bytes * 8e9 / (self.rate_bps.max(1) as f64 * CONTROL_SHARE);
        (interval_ms * 1_000_000).max(least as u64)
    }

    /// Directories and signalling whose interval is over.
    fn queue_repeats(&mut self, now_ns: u64) {
        while let Some(id) = self.lanes.take_due(now_ns).map(|id| id as u16) {
            let is_queued = self.urgent.contains(&id) || self.jobs.iter().any(|job| job.reading.id() == id);
            if is_queued {
                self.set_timer(id, now_ns);
            } else {
                self.urgent.push_back(id);
            }
        }
    }

    /// Starts the interval of a module with directories or signalling. A single pass repeats nothing.
    fn set_timer(&mut self, id: u16, now_ns: u64) {
        let interval_ns = match self.directories.contains(&id) {
            true => self.spaced_ns(self.config.directory_interval_ms, self.directory_bytes),
            false => self.manifest_interval_ms * 1_000_000,
        };
        if !self.once {
            self.lanes.set_timer(u64::from(id), now_ns + interval_ns);
        }
    }

    /// The module whose block is next: urgent, short and due, the one being sent, new, scheduled; in this order.
    fn take_job(&mut self, now_ns: u64, air: &mut Air) -> Option<Job> {
        while let Some(id) = self.urgent.pop_front() {
            if let Some(job) = self.start(id, air, now_ns) {
                self.set_timer(id, now_ns);
                return Some(job);
            }
        }
        if let Some(job) = self.jobs.pop() {
            let left_bytes = || {
                let blocks = f64::from(job.blocks - job.next);
                Some((blocks * f64::from(self.config.block_bytes) * AIR_PER_BYTE) as u64)
            };
            if !self.once
                && self.jobs.is_empty()
                && let Some(id) = self.lanes.next_between(now_ns, left_bytes)
                && let Some(short) = self.start(id as u16, air, now_ns)
            {
                self.jobs.push(job);
                return Some(short);
            }
            return Some(job);
        }
        while let Some(id) = self.lanes.next_fresh(|_| true) {
            if let Some(job) = self.start(id as u16, air, now_ns) {
                return Some(job);
            }
        }
        if self.once {
            return None;
        }
        while let Some(id) = self.lanes.next_scheduled(now_ns) {
            match self.start(id as u16, air, now_ns) {
                Some(job) => return Some(job),
                None => self.lanes.unschedule(id),
            }
        }
        None
    }

    fn start(&mut self, id: u16, air: &mut Air, now_ns: u64) -> Option<Job> {
        loop {
            let view = self.builder.module(id)?;
            let (objects, files) = (&self.objects, &self.files);
            let read = &mut |number, offset, out: &mut [u8]| read(objects, files, number, offset, out);
            match self.builder.read_module::<ReadError>(id, read) {
                Ok(Some(reading)) if view.blocks > 0 => {
                    return Some(Job { reading, version: view.version, next: 0, blocks: view.blocks });
                }
                Ok(Some(_)) => {
                    // An empty module is complete with its DII.
                    self.sent.insert(id, view.version);
                    return None;
                }
                Ok(None) => return None,
                Err(ReadError::Broken(number)) => self.withdraw(number, air, now_ns),
                Err(ReadError::Wire(_)) => return None,
            }
        }
    }

    fn finish(&mut self, job: &Job, now_ns: u64) {
        let id = job.reading.id();
        self.stats.modules_sent += 1;
        for number in self.builder.objects_of(id) {
            self.files.borrow_mut().remove(&number);
        }
        if self.sent.insert(id, job.version) == Some(job.version) || self.is_repeated(id) {
            return;
        }
        if let Some(weight) = self.weight_of(id) {
            let bytes = (f64::from(job.reading.size()) * AIR_PER_BYTE) as u64;
            self.lanes.schedule(u64::from(id), weight, bytes, now_ns);
        }
    }

    /// Starts nothing from now on.
    pub fn close(&mut self) {
        self.once = true;
        self.lanes.clear_fresh();
        self.urgent.clear();
        self.jobs.clear();
    }

    /// Whether everything has been sent, where that has an end.
    pub fn is_over(&self) -> bool {
        let is_idle = self.lanes.is_all_started() && self.urgent.is_empty() && self.jobs.is_empty();
        self.once && self.generation.is_some() && is_idle && self.control.is_empty()
    }

    /// Whether every module was sent completely at least once.
    pub fn cycle_done(&self) -> bool {
        self.generation.is_some() && self.sent.len() >= self.modules
    }

    /// Files that are open.
    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.files.borrow().len()
    }

    /// Counters.
    pub const fn stats(&self) -> &RotationStats {
        &self.stats
    }

    /// Modules sent at least once, and all.
    pub fn progress(&self) -> (usize, usize) {
        (self.sent.len(), self.modules)
    }

    /// Objects that could not be carried since the last call, with the reason.
    pub fn refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// The modules for [`crate::plan`], and the rates that are taken off the stream first.
    pub fn planned(&mut self, air: &Air) -> (Vec<Planned>, DeductedRates) {
        self.sync(air, 0);
        let shape = self.builder.profile().shape;
        let mut planned = Vec::new();
        for module in self.builder.modules() {
            let air_bytes = (f64::from(module.size) * AIR_PER_BYTE) as u64 + 200;
            let mut names = self.builder.objects_of(module.id).filter_map(|it| self.objects.get(&it));
            let (first, others) = (names.next(), names.count());
            let name = match (first, others) {
                (None, _) => format!("module {}: directories", module.id),
                (Some(object), 0) if shape == Shape::Data => object.uri.clone(),
                (Some(object), 0) => format!("module {}: {}", module.id, object.uri),
                (Some(object), others) => format!("module {}: {} and {others} more", module.id, object.uri),
            };
            let is_directory = module.content == ModuleContent::Directories;
            let class = if is_directory { Class::Signalling } else { self.class_of(module.id) };
            let Some(weight) = (if is_directory { Some(1.0) } else { self.weight_of(module.id) }) else {
                continue;
            };
            let interval_ms =
                if is_directory { self.config.directory_interval_ms } else { self.manifest_interval_ms };
            planned.push(Planned {
                weight,
                max_period_s: (class == Class::Signalling).then_some(interval_ms as f64 / 1000.0),
                ..Planned::new(name, u64::from(module.size), air_bytes, class)
            });
        }
        let control = (200 + planned.len() * 40) as f64;
        let taken = DeductedRates {
            fdt_bps: control * 8e9 / self.spaced_ns(self.config.control_interval_ms, control) as f64,
            cycle_s: self.cycle_s,
            ..DeductedRates::default()
        };
        (planned, taken)
    }
}

/// Documents that lead receivers to FLUTE sessions, which a carousel does not have.
fn is_of_flute_alone(object: &AirObject) -> bool {
    object.uri == carousel::mabr::CONFIGURATION_URI || Document::from_name(&object.uri).is_some()
}

/// Whether zlib may make it smaller: media are compressed already.
fn is_text(content_type: &str) -> bool {
    let kinds = ["text/", "json", "xml", "mpegurl", "javascript", "svg"];
    let content_type = content_type.to_ascii_lowercase();
    kinds.iter().any(|kind| content_type.contains(kind))
}

fn read(
    objects: &BTreeMap<ObjectNumber, CarriedObject>,
    files: &RefCell<HashMap<ObjectNumber, OpenBody>>,
    number: ObjectNumber,
    offset: u64,
    out: &mut [u8],
) -> Result<(), ReadError> {
    let broken = ReadError::Broken(number);
    let Some(object) = objects.get(&number) else { return Err(broken) };
    let mut files = files.borrow_mut();
    if files.len() >= MAX_OPEN_FILES && !files.contains_key(&number) {
        files.clear();
    }
    let reading = match files.entry(number) {
        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::hash_map::Entry::Vacant(entry) => match object.body.open() {
            Ok(reading) => entry.insert(reading),
            Err(_) => return Err(broken),
        },
    };
    reading.read_at(offset, out).map_err(|_| broken)
}
