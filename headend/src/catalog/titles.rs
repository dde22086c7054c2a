//! Titles on demand for the content guide: a programme for each source that is not live, and the box sets of the
//! configuration.

use carousel::dvbi::genre;
use carousel::dvbi::guide::{Group, GroupKind, Guide, OnDemand, Part, Programme};
use carousel::dvbi::list::{Instance, Service};
use carousel::time::WallTime;

use super::list::names;
use crate::config::{Config, Source};
use crate::options::DvbI;
use crate::package::Inventory;

/// Titles without a licence are available from 2020 to 2099.
const ALWAYS_MS: (i64, i64) = (1_577_836_800_000, 4_070_908_800_000);

/// The authority in the CRIDs: that of the list's tag URI.
pub(super) fn authority(dvb_i: &DvbI) -> &str {
    let entity = dvb_i.id.strip_prefix("tag:").unwrap_or_default();
    entity.split([',', ':']).next().filter(|it| !it.is_empty()).unwrap_or("skycache")
}

/// A CRID of a name: its letters and digits, the rest as underscores, so that it is the same at each start.
fn crid(authority: &str, kind: &str, name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-.~/".contains(c) { c } else { '_' };
    format!("crid://{authority}/{kind}/{}", name.chars().map(safe).collect::<String>())
}

/// The titles of all sources.
pub(super) fn titles(
    config: &Config,
    dvb_i: &DvbI,
    inventories: &[&Inventory],
    services: &[Service],
) -> Guide {
    let mut guide = Guide::default();
    let authority = authority(dvb_i);
    let category = crid(authority, "category", "on-demand");
    for ((source, inventory), service) in config.sources.iter().zip(inventories).zip(services) {
        if inventory.is_live() || inventory.presentations.is_empty() {
            continue;
        }
        let name = source.service_id.rsplit(':').next().unwrap_or_default();
        let crid_of_title = crid(authority, "title", name);
        let part_of = box_set(&mut guide, source, dvb_i, authority, &category);
        let asked = &source.service;
        guide.programmes.insert(
            crid_of_title.clone(),
            Programme {
                crid: crid_of_title.clone(),
                titles: names(source, &dvb_i.language),
                synopses: service.descriptions.clone(),
                genres: asked
                    .genres
                    .iter()
                    .filter_map(|it| genre::term(it))
                    .map(|it| it.href.to_owned())
                    .collect(),
                minimum_age: asked.minimum_age,
                image: service.pictures.first().map(|it| it.image.clone()),
                part_of,
                ..Programme::default()
            },
        );
        let licence = asked.licence.as_ref();
        let licence = licence.and_then(|(from, to)| WallTime::from_xml(from).zip(WallTime::from_xml(to)));
        let always = (WallTime::from_unix_ms(ALWAYS_MS.0), WallTime::from_unix_ms(ALWAYS_MS.1));
        let (start, end) = licence.unwrap_or(always);
        let is_http = |uri: &str| uri.starts_with("http://") || uri.starts_with("https://");
        let locator = |it: &Instance| {
            let (uri, content_type) = it.delivery.locator()?;
            is_http(uri).then(|| (uri.to_owned(), content_type.to_owned()))
        };
        let duration_s =
            inventory.presentations.iter().filter_map(|it| it.duration_s).fold(0.0_f64, f64::max);
        guide.on_demand.push(OnDemand {
            programme: crid_of_title,
            service: source.service_id.clone(),
            locators: service.instances.iter().filter_map(locator).collect(),
            duration_ms: (duration_s * 1000.0) as i64,
            start,
            end,
        });
    }
    guide
}

/// The box set that a source is in, made when it is first named.
fn box_set(
    guide: &mut Guide,
    source: &Source,
    dvb_i: &DvbI,
    authority: &str,
    category: &str,
) -> Option<Part> {
    let texts = source.service.box_set.as_ref()?.texts(&dvb_i.language);
    let group = crid(authority, "box-set", &texts.first()?.text);
    if !guide.groups.contains_key(category) {
        let titles = vec![carousel::dvbi::Text::new("en", "On demand")];
        let crid = category.to_owned();
        let kind = GroupKind::Category;
        guide.groups.insert(crid.clone(), Group { crid, titles, kind, ..Group::default() });
    }
    let number = guide
        .programmes
        .values()
        .filter(|it| it.part_of.as_ref().is_some_and(|it| it.group == group))
        .count();
    guide.groups.entry(group.clone()).or_insert_with(|| Group {
        crid: group.clone(),
        titles: texts,
        kind: GroupKind::BoxSet,
        part_of: Some(Part { group: category.to_owned(), number: None }),
        ..Group::default()
    });
    Some(Part { group, number: u32::try_from(number + 1).ok() })
}
