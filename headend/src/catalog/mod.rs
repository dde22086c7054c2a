//! The DVB-I catalogue: service list, content guide, pictures.
//!
//! ```text
//! configuration ─┐                 ┌─ service list (XML of an edition, JSON)
//! packages ──────┼─▶ Catalog::make ┼─ guide: manifest, a file for each day, the library on demand
//! guides, logos ─┘                 └─ pictures            all of them objects with URLs of their own
//! ```
//!
//! | file | what lives there |
//! |---|---|
//! | `options/catalog.rs` | `[dvb_i]`, `[source.service]` |
//! | `list.rs` | the service list: a service for each source, an instance for each way to receive it |
//! | `content.rs` | what the media are, in the terms of the classification schemes |
//! | `titles.rs` | titles on demand, and box sets |
//! | `images.rs` | logos: files that are carried, and URLs that are not |
//! | `kept.rs` | guides as they were last read, and what stays of one when the next is worse |
//! | `versions.rs` | what has changed since the last time |
//! | [`guide`] | a broadcaster's programme guide, XMLTV or JSON, read into the model of `carousel::dvbi` |
//!
//! Errors do not stop it: a fault of a guide or a logo is reported as a [`Problem`], and the rest is sent. Documents
//! whose content has not changed keep their bytes, version included, so that no receiver reads or stores them again.

mod content;
pub mod guide;
mod images;
mod kept;
mod list;
mod titles;
mod versions;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use carousel::dvbi::entry_points::{DeliveryKind, Offering};
use carousel::dvbi::guide::{self as tva, Guide};
use carousel::dvbi::list::{Delivery, LIST_TYPE, Rendering, ServiceList};
use carousel::nip::{GuideManifest, GuideSchedule, GuideSession};
use carousel::time::WallTime;

use crate::config::Config;
use crate::document::Announcement;
use crate::options::DvbI;
use crate::package::{Inventory, Problem};
use images::Images;
use kept::Guides;
use list::FactsCache;
use versions::Versions;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Makes the catalogue, and remembers what it has read.
#[derive(Debug, Default)]
pub struct Catalog {
    known: FactsCache,
    versions: Versions,
    guides: Guides,
    /// Inputs of the last one.
    made_of: Option<Vec<String>>,
}

/// Modification time and length of a file.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &std::path::Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Documents of a catalogue.
#[derive(Debug, Default)]
pub struct CatalogDocuments {
    /// Documents that are sent.
    pub documents: Vec<Announcement>,
    /// Documents that only `headend catalog` writes.
    pub files: Vec<Announcement>,
    /// Offer of the list in entry points.
    pub offering: Offering,
    /// Entries left out or changed.
    pub problems: Vec<Problem>,
    /// Guides and their parts that could not be read or are missing: some of `problems`.
    pub guide_faults: u64,
}

impl Catalog {
    /// Whether something that the catalogue is made of has changed since it was made: packages, guides, logos, the day.
    /// Segments of live packages do not count.
    pub fn is_stale(&self, config: &Config, inventories: &[&Inventory], now: WallTime) -> bool {
        self.made_of.as_ref() != Some(&made_of(config, inventories, now))
    }

    /// Makes it.
    pub fn make(&mut self, config: &Config, inventories: &[&Inventory], now: WallTime) -> CatalogDocuments {
        let dvb_i = &config.catalog;
        self.made_of = Some(made_of(config, inventories, now));
        let mut images = Images::new(&dvb_i.base);
        let mut list = list::service_list(config, dvb_i, inventories, &mut self.known, &mut images);
        let newest_s = versions::newest_s(config, inventories, &images);
        let mut problems = Vec::new();
        let (mut guide, guide_faults) = self.guide(config, dvb_i, now, &mut problems);
        guide.merge(titles::titles(config, dvb_i, inventories, &list.services));
        problems.append(&mut images.problems);
        self.versions.number(&mut list, newest_s);
        let mut documents = vec![list_document(dvb_i, &list)];
        documents.append(&mut guide_documents(dvb_i, &guide, now, &mut self.versions, newest_s));
        for (uri, (path, content_type)) in &images.files {
            match std::fs::read(path) {
                Ok(bytes) => documents.push(document(dvb_i, uri, content_type, bytes)),
                Err(err) => problems.push(Problem {
                    place: path.display().to_string(),
                    what: carousel::config::plain(&err),
                    fix: "the catalogue goes out without it",
                }),
            }
        }
        let files = vec![json_file(dvb_i, &list)];
        CatalogDocuments { documents, files, offering: offering(dvb_i, &list), problems, guide_faults }
    }

    /// The programme guides of the configuration for the days that are carried, and how much of them is missing.
    fn guide(
        &mut self,
        config: &Config,
        dvb_i: &DvbI,
        now: WallTime,
        problems: &mut Vec<Problem>,
    ) -> (Guide, u64) {
        let service = |channel: &str| {
            let is_meant = |source: &&crate::config::Source| match source.service.guide.as_str() {
                "" => source.name == channel || source.service_id == channel,
                guide => guide == channel,
            };
            config.sources.iter().find(is_meant).map(|source| source.service_id.clone())
        };
        let mut faults = self
            .guides
            .refresh(&dvb_i.guides, now, &|path| guide::read(path, titles::authority(dvb_i), &service));
        let mut whole = Guide::default();
        let is_configured = |id: &str| config.sources.iter().any(|source| source.service_id == id);
        for known in self.guides.all() {
            problems.extend(known.problems.iter().cloned());
            let mut guide = known.guide.clone();
            guide.schedules.retain(|service, _| is_configured(service));
            whole.merge(guide);
        }
        let today = midnight(now);
        let end = today.plus_ms(DAY_MS * i64::from(dvb_i.guide_days));
        for events in whole.schedules.values_mut() {
            events.retain(|event| event.end > today && event.start < end);
        }
        let repairs = whole.tidy();
        if !repairs.is_empty() && dvb_i.guides.len() > 1 {
            problems.push(Problem {
                place: "dvb_i.guides".to_owned(),
                what: format!("{} events of different guides overlap", repairs.len()),
                fix: "let each guide have its own channels",
            });
        }
        // A channel that no guide has any more says so, unless a whole guide is missing and says it already.
        for source in config.sources.iter().filter(|it| !it.service.guide.is_empty()) {
            let events = whole.schedules.get(&source.service_id).map_or(&[][..], Vec::as_slice);
            if faults == 0 && !dvb_i.guides.is_empty() && events.iter().all(|event| event.end <= now) {
                faults += 1;
                problems.push(Problem {
                    place: format!("source {:?}", source.name),
                    what: format!(
                        "no guide has a programme of channel {:?} from now on",
                        source.service.guide
                    ),
                    fix: "see that the guide names the channel so, and goes beyond today",
                });
            }
        }
        (whole, faults)
    }
}

fn midnight(now: WallTime) -> WallTime {
    now.plus_ms(-now.unix_ms().rem_euclid(DAY_MS))
}

/// Everything that the catalogue depends on, as lines that are compared.
fn made_of(config: &Config, inventories: &[&Inventory], now: WallTime) -> Vec<String> {
    let mut lines = vec![format!("day {}", now.unix_ms().div_euclid(DAY_MS))];
    for inventory in inventories {
        for presentation in &inventory.presentations {
            let duration = presentation.duration_s.filter(|_| !presentation.live);
            lines.push(format!("{} {} {duration:?}", presentation.manifest, presentation.live));
            for rung in &presentation.rungs {
                let (id, init) = (&rung.id, rung.inits.first());
                lines.push(format!("{id} {} {} {init:?}", rung.codecs, rung.language));
            }
        }
    }
    let dvb_i = &config.catalog;
    let pictures = config.sources.iter().flat_map(|it| [&it.service.logo, &it.service.banner]);
    let pictures = pictures.chain([&dvb_i.logo]).flatten().map(PathBuf::from);
    lines.extend(
        dvb_i.guides.iter().cloned().chain(pictures).map(|path| format!("{path:?} {:?}", stamp(&path))),
    );
    lines
}

/// A document at a URL; its file is what the URL has behind the catalogue's base.
fn document(dvb_i: &DvbI, uri: &str, content_type: &str, bytes: Vec<u8>) -> Announcement {
    let file = format!("dvb-i/{}", uri.strip_prefix(&dvb_i.base).unwrap_or(uri));
    Announcement { file, uri: uri.to_owned(), content_type: content_type.to_owned(), bytes }
}

fn list_document(dvb_i: &DvbI, list: &ServiceList) -> Announcement {
    let uri = format!("{}service-list.xml", dvb_i.base);
    document(dvb_i, &uri, LIST_TYPE, list.to_xml(dvb_i.edition).into_bytes())
}

fn json_file(dvb_i: &DvbI, list: &ServiceList) -> Announcement {
    let uri = format!("{}service-list.json", dvb_i.base);
    let rendering = serde_json::to_vec_pretty(&Rendering::of(list)).unwrap_or_default();
    document(dvb_i, &uri, "application/json", rendering)
}

fn guide_documents(
    dvb_i: &DvbI,
    guide: &Guide,
    now: WallTime,
    versions: &mut Versions,
    newest_s: u64,
) -> Vec<Announcement> {
    // Receivers of these files answer every question by themselves.
    let options = tva::Options { language: &dvb_i.language, is_full: true, ..tva::Options::default() };
    let services: Vec<&str> = guide.schedules.keys().map(String::as_str).collect();
    let today = midnight(now);
    let mut documents = Vec::new();
    let mut add = |name: &str, element: &carousel::xml::Element| {
        let uri = format!("{}guide/{name}", dvb_i.base);
        documents.push(document(dvb_i, &uri, "application/xml", tva::to_xml(element).into_bytes()));
    };
    for day in 0..i64::from(dvb_i.guide_days) {
        let from = today.plus_ms(day * DAY_MS);
        let to = from.plus_ms(DAY_MS);
        let shown: Vec<&str> =
            services.iter().copied().filter(|it| !guide.between(it, from, to).is_empty()).collect();
        if !shown.is_empty() {
            let name = format!("{}.xml", &from.to_xml()[..10].replace('-', ""));
            if let Some(schedule) = tva::schedule(guide, &shown, from, to, &options) {
                add(&name, &schedule);
            }
        }
    }
    if !guide.on_demand.is_empty() {
        add("library.xml", &tva::library(guide, &options));
    }
    // The digests of the files identify their content; the manifest has the date of the last change.
    let told: Vec<u8> = documents.iter().flat_map(|it| carousel::Digest::of(&it.bytes).0).collect();
    let changed_s = versions.of("guide", &told, newest_s);
    let manifest = GuideManifest {
        version_update: versions::date(changed_s).to_xml(),
        schedules: vec![GuideSchedule {
            start: today,
            duration: Duration::from_secs(86_400 * u64::from(dvb_i.guide_days)),
            sessions: vec![GuideSession {
                tags: vec![guide_tag(dvb_i)],
                max_bytes: documents.iter().map(|it| it.bytes.len() as u64).sum(),
            }],
        }],
    };
    let uri = format!("{}guide/manifest.xml", dvb_i.base);
    documents.insert(0, document(dvb_i, &uri, "application/xml", manifest.to_xml().into_bytes()));
    documents
}

/// `@tags` of the session that carries the guide's files.
pub(crate) fn guide_tag(dvb_i: &DvbI) -> String {
    format!("{}guide", dvb_i.base)
}

fn offering(dvb_i: &DvbI, list: &ServiceList) -> Offering {
    let mut delivery: Vec<DeliveryKind> = Vec::new();
    let mut languages: Vec<String> = Vec::new();
    let mut genres: Vec<String> = Vec::new();
    let mut orbital_positions: Vec<String> = Vec::new();
    for instance in list.services.iter().flat_map(|it| &it.instances) {
        let kind = match &instance.delivery {
            Delivery::Dash { .. } => Some(DeliveryKind::Dash),
            Delivery::Dvbs(dvbs) => {
                orbital_positions.extend(dvbs.orbital_position.clone());
                Some(DeliveryKind::Dvbs)
            }
            Delivery::MulticastTs { .. } => Some(DeliveryKind::MulticastTs),
            _ => None,
        };
        delivery.extend(kind);
        languages.extend(instance.content.audio.iter().filter_map(|it| it.language.clone()));
    }
    genres.extend(list.services.iter().filter_map(|it| it.genres.first().cloned()));
    languages.push(dvb_i.language.clone());
    for all in [&mut languages, &mut genres, &mut orbital_positions] {
        all.sort();
        all.dedup();
    }
    Offering {
        id: list.id.clone(),
        names: list.names.clone(),
        uris: vec![(format!("{}service-list.xml", dvb_i.base), LIST_TYPE.to_owned())],
        delivery,
        orbital_positions,
        languages,
        genres,
        countries: dvb_i.countries.clone(),
        logo: list.logos.first().cloned(),
        is_regulators: false,
    }
}
