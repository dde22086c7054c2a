//! The service list of a configuration: a service for each source, with an instance for each way to receive it.

use std::collections::{BTreeMap, HashMap};

use carousel::dvbi::list::{
    ContentAttributes, DASH_TYPE, Delivery, Dvbs, GuideSource, HLS_TYPE, Instance, Lcn, LcnTable, Picture,
    PictureKind, Service, ServiceKind, ServiceList,
};
use carousel::dvbi::{Image, Text, genre};

use super::content;
use super::images::Images;
use crate::config::{Config, Source};
use crate::options::DvbI;
use crate::package::media::{self, Facts};
use crate::package::{Inventory, Kind, Presentation};

/// `@CGSID` of our guide.
const GUIDE_ID: &str = "guide";
/// Priorities of the ways to have a service: the lowest is tried first. DASH and HLS come through the box, DVB-MABR by a
/// receiver's own gateway, DVB-S by its tuner.
const DASH_PRIORITY: u32 = 1;
const HLS_PRIORITY: u32 = 2;
const MABR_PRIORITY: u32 = 3;
const DVB_S_PRIORITY: u32 = 4;

/// Facts of media that have been read already, by file: init segments do not change, and reading them all again every 15 minutes
/// would be a waste.
#[derive(Debug, Default)]
pub(super) struct FactsCache {
    facts: HashMap<String, Option<Facts>>,
}

carousel::limits! {
    /// Renditions whose facts are remembered, so that their files are not read again.
    const MAX_KNOWN: usize = 100_000, "renditions" {
        why: "A large library has some thousand; an entry has about 200 bytes.",
        full: "All are forgotten and read again.",
        free: "At once.",
        test: "renditions_beyond_the_limit_are_read_again",
    }
}

impl FactsCache {
    fn facts(&mut self, inventory: &Inventory, presentation: &Presentation) -> Vec<Facts> {
        let mut all = Vec::new();
        for rung in &presentation.rungs {
            // Without an init segment the first segment is read; of a live channel any.
            let init = rung.inits.first().cloned().unwrap_or_else(|| format!("{}?", rung.id));
            let name = format!("{}/{init}", inventory.root.display());
            if self.facts.len() >= MAX_KNOWN {
                self.facts.clear();
            }
            let known = self.facts.entry(name).or_insert_with(|| media::facts_of(inventory, rung));
            let mut facts = known.clone().unwrap_or_default();
            if !rung.language.is_empty() {
                // The manifest knows better: init segments often say nothing.
                facts.audio.iter_mut().for_each(|it| it.language = Some(rung.language.clone()));
            }
            all.push(facts);
        }
        all
    }
}

/// Names of a source for people.
pub(super) fn names(source: &Source, language: &str) -> Vec<Text> {
    let names = source.service.names.as_ref().map(|it| it.texts(language));
    names.unwrap_or_else(|| vec![Text::new("", &source.name)])
}

/// The list, its versions left at 0.
pub(super) fn service_list(
    config: &Config,
    dvb_i: &DvbI,
    inventories: &[&Inventory],
    known: &mut FactsCache,
    images: &mut Images,
) -> ServiceList {
    let provider = vec![Text::new("", &config.nip.provider)];
    let both = config.sources.iter().zip(inventories);
    let mut services: Vec<Service> =
        both.map(|(source, inventory)| service(config, dvb_i, source, inventory, known, images)).collect();
    services.iter_mut().for_each(|it| it.providers.clone_from(&provider));
    let endpoint = |name: &str| format!("{}guide/{name}", dvb_i.base);
    let names = dvb_i.names.as_ref().map_or_else(|| provider.clone(), |it| it.texts(&dvb_i.language));
    ServiceList {
        id: dvb_i.id.clone(),
        version: 0,
        language: dvb_i.language.clone(),
        names,
        logos: dvb_i.logo.iter().filter_map(|logo| images.image(logo)).collect(),
        regions: dvb_i.regions.iter().map(|it| it.region(&dvb_i.language)).collect(),
        target_regions: Vec::new(),
        lcn_tables: lcn_tables(config, dvb_i, &services),
        guide_sources: vec![GuideSource {
            id: GUIDE_ID.to_owned(),
            providers: provider.clone(),
            // Receivers of the air read the manifest; a box answers queries at all four.
            schedule: endpoint("manifest.xml"),
            program: Some(endpoint("program")),
            group: Some(endpoint("groups/")),
            more_episodes: Some(endpoint("more-episodes")),
        }],
        providers: provider,
        services,
    }
}

fn service(
    config: &Config,
    dvb_i: &DvbI,
    source: &Source,
    inventory: &Inventory,
    known: &mut FactsCache,
    images: &mut Images,
) -> Service {
    let asked = &source.service;
    let language = &dvb_i.language;
    let mut picture = |kind, uri: &Option<String>| {
        let image: Option<Image> = uri.as_ref().and_then(|it| images.image(it));
        image.map(|image| Picture { kind, image })
    };
    let pictures = [picture(PictureKind::Logo, &asked.logo), picture(PictureKind::Banner, &asked.banner)];
    let genres = asked.genres.iter().filter_map(|name| genre::term(name)).map(|it| it.href.to_owned());
    let availability: Vec<_> =
        asked.available.iter().filter_map(crate::options::catalog::AvailableConfig::period).collect();
    let mut instances = Vec::new();
    let mut kind = if inventory.is_live() { ServiceKind::Linear } else { ServiceKind::Ondemand };
    let mut content = ContentAttributes::default();
    for presentation in &inventory.presentations {
        let uri = format!("{}{}", source.base, presentation.manifest);
        let (priority, delivery) = match presentation.kind {
            Kind::Dash => (DASH_PRIORITY, Delivery::Dash { uri, content_type: DASH_TYPE.to_owned() }),
            Kind::Hls => (HLS_PRIORITY, Delivery::Identifier { uri, content_type: HLS_TYPE.to_owned() }),
        };
        content = content::attributes(&known.facts(inventory, presentation));
        let (content, names, availability) = (content.clone(), Vec::new(), availability.clone());
        instances.push(Instance { priority, names, content, availability, delivery });
    }
    if content.video.is_empty() && !content.audio.is_empty() {
        kind =
            if kind == ServiceKind::Linear { ServiceKind::LinearRadio } else { ServiceKind::OndemandRadio };
    }
    let mut further = |priority, delivery| {
        let (content, names, availability) = (content.clone(), Vec::new(), availability.clone());
        instances.push(Instance { priority, names, content, availability, delivery });
    };
    if config.sessions.announce {
        // A receiver with a multicast gateway of its own finds the service in the gateway configuration, where its
        // MulticastSession has this service's identifier.
        further(
            MABR_PRIORITY,
            Delivery::Identifier {
                uri: carousel::mabr::CONFIGURATION_URI.to_owned(),
                content_type: carousel::mabr::CONFIGURATION_TYPE.to_owned(),
            },
        );
    }
    if let Some(dvbs) = dvbs(config, source) {
        further(DVB_S_PRIORITY, Delivery::Dvbs(dvbs));
    }
    instances.sort_by_key(|it| it.priority);
    Service {
        id: source.service_id.clone(),
        version: 0,
        names: names(source, language),
        providers: Vec::new(),
        pictures: pictures.into_iter().flatten().collect(),
        genres: genres.collect(),
        kind: asked.kind.unwrap_or(kind),
        descriptions: asked.descriptions.as_ref().map(|it| it.texts(language)).unwrap_or_default(),
        target_regions: asked.regions.clone(),
        guide_source: Some(GUIDE_ID.to_owned()),
        guide_service: None,
        minimum_age: asked.minimum_age,
        instances,
    }
}

/// The service on the carrier, if there is one.
fn dvbs(config: &Config, source: &Source) -> Option<Dvbs> {
    let carrier = config.nip.carrier.as_ref()?;
    let service_id = source.service.dvb_s.unwrap_or(config.nip.service_id);
    if service_id == 0 {
        return None;
    }
    let polarization = carrier.polarization.to_ascii_lowercase();
    let known = ["left circular", "right circular", "horizontal", "vertical"];
    let polarization = known.into_iter().find(|it| polarization.ends_with(it)).map(str::to_owned);
    let multiplex = config.multiplex.as_ref();
    Some(Dvbs {
        original_network_id: multiplex.map(|it| it.original_network_id),
        transport_stream_id: Some(multiplex.map_or(config.nip.carrier_id, |it| it.transport_stream_id)),
        service_id,
        orbital_position: carrier.orbital_position.map(|degrees| degrees.to_string()),
        frequency_10khz: Some(carrier.frequency_10khz),
        polarization,
        symbol_rate_ksps: Some(carrier.symbol_rate_ksps),
        roll_off: Some(carrier.roll_off.clone()),
        system: Some("DVB-S2".to_owned()),
        modulation: Some(carrier.modulation.clone()),
        fec: Some(carrier.fec.clone()),
    })
}

/// The table for all regions, and those of the configuration. Services without a number get the next free one.
fn lcn_tables(config: &Config, dvb_i: &DvbI, services: &[Service]) -> Vec<LcnTable> {
    let entry = |number: u32, service: &str| Lcn {
        number,
        service: service.to_owned(),
        is_selectable: true,
        is_visible: true,
    };
    let taken: BTreeMap<u32, ()> =
        config.sources.iter().filter_map(|it| it.service.channel).map(|number| (number, ())).collect();
    let mut free = (1..=9999).filter(|number| !taken.contains_key(number));
    let numbered = config.sources.iter().zip(services).filter_map(|(source, service)| {
        let number = source.service.channel.or_else(|| free.next())?;
        Some(entry(number, &service.id))
    });
    let mut entries: Vec<Lcn> = numbered.collect();
    entries.sort_by_key(|it| it.number);
    let id_of = |name: &str| {
        let source = config.sources.iter().find(|it| it.name == name)?;
        Some(source.service_id.clone())
    };
    let regional = dvb_i.lcn.iter().map(|table| LcnTable {
        target_regions: table.regions.clone(),
        entries: table
            .channels
            .iter()
            .filter_map(|(name, number)| Some(entry(*number, &id_of(name)?)))
            .collect(),
    });
    std::iter::once(LcnTable { target_regions: Vec::new(), entries }).chain(regional).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Options, Reader};

    #[test]
    fn renditions_beyond_the_limit_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n1.ts\n#EXT-X-ENDLIST\n";
        std::fs::write(folder.path().join("a.m3u8"), list).unwrap();
        std::fs::write(folder.path().join("1.ts"), carousel::ts::null_packet().repeat(20)).unwrap();
        let inventory = Reader::new(folder.path(), Options::default()).unwrap().read().unwrap();
        let presentation = &inventory.presentations[0];
        let mut known = FactsCache::default();
        let first = known.facts(&inventory, presentation);
        assert_eq!((first.len(), known.facts.len()), (1, 1));
        known.facts.extend((1..MAX_KNOWN).map(|at| (at.to_string(), None)));
        assert_eq!(known.facts(&inventory, presentation), first);
        assert_eq!(known.facts.len(), 1, "all others are forgotten");
    }
}
