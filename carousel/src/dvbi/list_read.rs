//! Parser of service lists: any edition and prefix; missing parts stay empty. It reads one service at a time, so that a
//! list of 10,000 is never held as a document.

use super::list::{
    AudioAttributes, ContentAttributes, Delivery, Dvbs, GuideSource, Instance, Interval, Lcn, LcnTable,
    Period, Picture, PictureKind, Region, Service, ServiceKind, ServiceList, VideoAttributes,
};
use super::{Image, Text};
use crate::limits;
use crate::reasons;
use crate::time::WallTime;
use crate::xml::{self, Element, XmlError};

limits! {
    /// Services of one service list.
    pub const MAX_SERVICES: usize = 20_000, "services" {
        why: "The largest national lists have some hundred.",
        full: "Further services are left out as `too_many`.",
        free: "Holds for one document.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }

    /// Instances, pictures, genres and other repeated elements of one service.
    const MAX_OF_EACH: usize = 32, "elements" {
        why: "A service has some five instances.",
        full: "Further ones are ignored.",
        free: "Holds for one service.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }

    /// Languages of one text.
    const MAX_LANGUAGES: usize = 16, "languages" {
        why: "Lists have up to four.",
        full: "Further ones are ignored.",
        free: "Holds for one text.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }

    /// One description.
    const MAX_TEXT: usize = 4000, "characters" {
        why: "TS 103 770 has 1,200.",
        full: "The text is cut.",
        free: "Holds for one text.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }

    /// One name, term or identifier.
    const MAX_NAME: usize = 400, "characters" {
        why: "The longest terms have 80.",
        full: "The text is cut.",
        free: "Holds for one name.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }

    /// One URI.
    const MAX_URI: usize = limits::MAX_URI_BYTES, "bytes" {
        why: "As for the names of objects.",
        full: "The URI is ignored, or cut where it is an identifier.",
        free: "Holds for one URI.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }
}

limits! {
    /// Entries of all tables of channel numbers.
    const MAX_LCNS: usize = 65_536, "numbers" {
        why: "A list of 1,000 services with 60 regions.",
        full: "Further entries are left out as `too_many`.",
        free: "Holds for one document.",
        test: "channel_numbers_beyond_the_limit_are_counted_and_the_next_list_is_read",
    }
}

limits! {
    /// Regions of one service list.
    const MAX_REGIONS: usize = 4096, "regions" {
        why: "A national list has some hundred.",
        full: "Further regions are left out as `too_many`.",
        free: "Holds for one document.",
        test: "a_hostile_list_is_bounded_and_a_lenient_one_is_read",
    }
}

reasons! {
    /// Why a part of a service list is left out.
    pub enum LeftOut {
        /// The service has no UniqueIdentifier or no name.
        NoIdentity = "no_identity",
        /// Another service has the same UniqueIdentifier.
        Twice = "twice",
        /// The list has more services, regions or channel numbers than the limit.
        TooMany = "too_many",
    }
}

impl ServiceList {
    /// Parses a list of any edition; also returns the kinds and numbers of skipped parts.
    ///
    /// # Errors
    /// Not XML, too large, or another root. Faults of single services are not errors.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<(LeftOut, u64)>), XmlError> {
        let mut reading = Reading::default();
        let root = xml::parse_each(bytes, 1, |within, element| {
            if within[0].name == "ServiceList" {
                reading.part(element);
            }
        })?;
        if root.name != "ServiceList" {
            return Err(XmlError::Missing { what: "ServiceList", within: root.name });
        }
        let mut list = reading.list;
        list.id = root.attribute("id").map(|id| bounded(id, MAX_URI)).unwrap_or_default();
        list.version = root.attribute("version").and_then(|it| it.parse().ok()).unwrap_or(1);
        list.language = root.attribute("lang").map(|it| bounded(it, 35)).unwrap_or_default();
        Ok((list, reading.left_out.into_iter().collect()))
    }
}

#[derive(Default)]
struct Reading {
    list: ServiceList,
    ids: std::collections::HashSet<String>,
    lcns: usize,
    regions: usize,
    left_out: std::collections::BTreeMap<LeftOut, u64>,
}

impl Reading {
    fn leave_out(&mut self, why: LeftOut) {
        *self.left_out.entry(why).or_default() += 1;
    }

    fn part(&mut self, element: Element) {
        match element.name.as_str() {
            "Name" => push_text(&mut self.list.names, &element, MAX_NAME),
            "ProviderName" => push_text(&mut self.list.providers, &element, MAX_NAME),
            "RelatedMaterial" => self.list.logos.extend(logo(&element)),
            "RegionList" => {
                self.list.regions = element.all("Region").filter_map(|it| self.region(it, 0)).collect();
            }
            "TargetRegion" => push(&mut self.list.target_regions, &element.text),
            "LCNTableList" => {
                for table in element.all("LCNTable").take(MAX_REGIONS) {
                    let table = self.lcn_table(table);
                    self.list.lcn_tables.push(table);
                }
            }
            "ContentGuideSourceList" => {
                let sources = element.all("ContentGuideSource").take(MAX_OF_EACH);
                self.list.guide_sources.extend(sources.filter_map(guide_source));
            }
            "ContentGuideSource" => self.list.guide_sources.extend(guide_source(&element)),
            "Service" => self.service(&element),
            _ => {}
        }
    }

    fn region(&mut self, element: &Element, depth: usize) -> Option<Region> {
        self.regions += 1;
        if self.regions > MAX_REGIONS {
            self.leave_out(LeftOut::TooMany);
            return None;
        }
        let countries = element.attribute("countryCodes").unwrap_or_default();
        let inside = if depth < 3 {
            element.all("Region").filter_map(|it| self.region(it, depth + 1)).collect()
        } else {
            Vec::new()
        };
        Some(Region {
            id: bounded(element.attribute("regionID")?, MAX_NAME),
            countries: countries.split([',', ' ']).filter(|it| it.len() == 3).map(str::to_owned).collect(),
            names: texts(element, "RegionName", MAX_NAME),
            postcodes: element.all("Postcode").take(MAX_REGIONS).map(|it| bounded(&it.text, 16)).collect(),
            is_selectable: element.attribute("selectable") != Some("false"),
            regions: inside,
        })
    }

    fn lcn_table(&mut self, element: &Element) -> LcnTable {
        let mut entries = Vec::new();
        for lcn in element.all("LCN") {
            let number = lcn.attribute("channelNumber").and_then(|it| it.trim().parse().ok());
            let (Some(number), Some(service)) = (number, lcn.attribute("serviceRef")) else { continue };
            self.lcns += 1;
            if self.lcns > MAX_LCNS {
                self.leave_out(LeftOut::TooMany);
                continue;
            }
            let is = |name| lcn.attribute(name) != Some("false");
            entries.push(Lcn {
                number,
                service: bounded(service, MAX_URI),
                is_selectable: is("selectable"),
                is_visible: is("visible"),
            });
        }
        let mut target_regions = Vec::new();
        element.all("TargetRegion").for_each(|it| push(&mut target_regions, &it.text));
        LcnTable { target_regions, entries }
    }

    fn service(&mut self, element: &Element) {
        let id = element.child_text("UniqueIdentifier").filter(|id| id.len() <= MAX_URI);
        let names = texts(element, "ServiceName", MAX_NAME);
        let Some(id) = id.filter(|_| !names.is_empty()) else {
            return self.leave_out(LeftOut::NoIdentity);
        };
        if self.list.services.len() >= MAX_SERVICES {
            return self.leave_out(LeftOut::TooMany);
        }
        if !self.ids.insert(id.to_owned()) {
            return self.leave_out(LeftOut::Twice);
        }
        let kind = element.find("ServiceType").and_then(|it| it.attribute("href"));
        let genres = element.all("ServiceGenre").take(MAX_OF_EACH).filter_map(|it| it.attribute("href"));
        let mut target_regions = Vec::new();
        element.all("TargetRegion").for_each(|it| push(&mut target_regions, &it.text));
        let age = element.find("ParentalRating").and_then(|it| it.child_text("MinimumAge"));
        self.list.services.push(Service {
            id: id.to_owned(),
            version: element.attribute("version").and_then(|it| it.parse().ok()).unwrap_or(1),
            names,
            providers: texts(element, "ProviderName", MAX_NAME),
            pictures: element.all("RelatedMaterial").take(MAX_OF_EACH).filter_map(picture).collect(),
            genres: genres.map(|href| bounded(href, MAX_NAME)).collect(),
            kind: kind.map(ServiceKind::from_href).unwrap_or_default(),
            descriptions: texts(element, "ServiceDescription", MAX_TEXT),
            target_regions,
            guide_source: element.child_text("ContentGuideSourceRef").map(|it| bounded(it, MAX_NAME)),
            guide_service: element.child_text("ContentGuideServiceRef").map(|it| bounded(it, MAX_URI)),
            minimum_age: age.and_then(|it| it.trim().parse().ok()),
            instances: element.all("ServiceInstance").take(MAX_OF_EACH).filter_map(instance).collect(),
        });
    }
}

/// A text cut to at most `most` bytes, at a character boundary.
fn bounded(text: &str, most: usize) -> String {
    limits::cut(text, most).to_owned()
}

fn push(list: &mut Vec<String>, text: &str) {
    if list.len() < MAX_REGIONS && !text.is_empty() {
        list.push(bounded(text, MAX_NAME));
    }
}

fn push_text(texts: &mut Vec<Text>, element: &Element, most: usize) {
    if texts.len() < MAX_LANGUAGES && !element.text.is_empty() {
        let language = element.attribute("lang").map(|it| bounded(it, 35)).unwrap_or_default();
        texts.push(Text { language, text: bounded(&element.text, most) });
    }
}

fn texts(element: &Element, name: &str, most: usize) -> Vec<Text> {
    let mut out = Vec::new();
    element.all(name).for_each(|it| push_text(&mut out, it, most));
    out
}

/// HowRelated's term, and the picture.
fn related(element: &Element) -> Option<(&str, Image)> {
    let term = element.find("HowRelated")?.attribute("href")?.rsplit(':').next()?;
    let uri = element.find("MediaLocator")?.find("MediaUri")?;
    let content_type = bounded(uri.attribute("contentType").unwrap_or_default(), MAX_NAME);
    (!uri.text.is_empty() && uri.text.len() <= MAX_URI)
        .then(|| (term, Image { uri: uri.text.clone(), content_type }))
}

fn logo(element: &Element) -> Option<Image> {
    related(element).filter(|(term, _)| *term == "1001.1").map(|(_, image)| image)
}

fn picture(element: &Element) -> Option<Picture> {
    let (term, image) = related(element)?;
    let kinds = [PictureKind::Logo, PictureKind::Banner, PictureKind::OutsideAvailability];
    let kind = kinds.into_iter().find(|kind| kind.term() == term)?;
    Some(Picture { kind, image })
}

fn uri_of(element: &Element) -> Option<String> {
    element.child_text("URI").filter(|uri| uri.len() <= MAX_URI).map(str::to_owned)
}

fn guide_source(element: &Element) -> Option<GuideSource> {
    let endpoint = |name: &str| element.find(name).and_then(uri_of);
    Some(GuideSource {
        id: bounded(element.attribute("CGSID")?, MAX_NAME),
        providers: texts(element, "ProviderName", MAX_NAME),
        schedule: endpoint("ScheduleInfoEndpoint")?,
        program: endpoint("ProgramInfoEndpoint"),
        group: endpoint("GroupInfoEndpoint"),
        more_episodes: endpoint("MoreEpisodesEndpoint"),
    })
}

fn instance(element: &Element) -> Option<Instance> {
    let delivery = element.children.iter().find(|it| it.name.ends_with("DeliveryParameters"))?;
    let content = element.find("ContentAttributes").map(content).unwrap_or_default();
    let periods = element.find("Availability").into_iter().flat_map(|it| it.all("Period"));
    Some(Instance {
        // Negative numbers were allowed up to r4.
        priority: element.attribute("priority").and_then(|it| it.trim().parse().ok()).unwrap_or(0),
        names: texts(element, "DisplayName", MAX_NAME),
        content,
        availability: periods.take(MAX_OF_EACH).map(period).collect(),
        delivery: read_delivery(delivery),
    })
}

fn period(element: &Element) -> Period {
    let date = |name| element.attribute(name).and_then(WallTime::from_xml);
    let intervals = element.all("Interval").take(MAX_OF_EACH).map(|interval| {
        let days = interval.attribute("days").unwrap_or("1 2 3 4 5 6 7");
        let days = days.split_whitespace().filter_map(|it| it.parse().ok());
        let at = |name, usual| interval.attribute(name).and_then(day_ms).unwrap_or(usual);
        Interval {
            days: days.filter(|day| (1..=7).contains(day)).take(7).collect(),
            start_ms: at("startTime", 0),
            // The last moment of a day is its end.
            end_ms: at("endTime", 86_400_000).saturating_add(1).next_multiple_of(1000).min(86_400_000),
        }
    });
    Period { from: date("validFrom"), to: date("validTo"), intervals: intervals.collect() }
}

/// `hh:mm:ss[.mmm]Z` in milliseconds of the day.
fn day_ms(text: &str) -> Option<u32> {
    let mut fields = text.trim().trim_end_matches('Z').splitn(3, ':');
    let (hours, minutes) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
    let seconds = fields.next()?.parse::<f64>().ok()?;
    let is_time = hours <= 24 && minutes < 60 && (0.0..60.0).contains(&seconds);
    is_time.then(|| (hours * 3_600_000 + minutes * 60_000 + (seconds * 1000.0) as u32).min(86_400_000))
}

fn href(element: &Element, name: &str) -> Option<String> {
    element.find(name)?.attribute("href").map(|it| bounded(it, MAX_NAME))
}

fn content(element: &Element) -> ContentAttributes {
    let number =
        |element: &Element, name: &str| element.child_text(name).and_then(|it| it.trim().parse().ok());
    let audio = element.all("AudioAttributes").take(MAX_OF_EACH).map(|audio| AudioAttributes {
        coding: href(audio, "Coding"),
        channels: number(audio, "NumOfChannels").and_then(|it| u8::try_from(it).ok()),
        language: audio.child_text("AudioLanguage").map(|it| bounded(it, 35)),
        sample_rate_hz: number(audio, "SampleFrequency"),
    });
    let video = element.all("VideoAttributes").take(MAX_OF_EACH).map(|video| VideoAttributes {
        coding: href(video, "Coding"),
        is_interlaced: video.child_text("Scan") == Some("interlaced"),
        width: number(video, "HorizontalSize").and_then(|it| u16::try_from(it).ok()),
        height: number(video, "VerticalSize").and_then(|it| u16::try_from(it).ok()),
        aspect_ratio: video.child_text("AspectRatio").and_then(|text| {
            let (w, h) = text.split_once(':')?;
            Some((w.trim().parse().ok()?, h.trim().parse().ok()?))
        }),
        frame_rate: video.child_text("FrameRate").map(|it| bounded(it, 16)),
        picture_format: href(video, "PictureFormat"),
        colorimetry: href(video, "Colorimetry"),
    });
    let points = element.all("VideoConformancePoint").take(MAX_OF_EACH);
    ContentAttributes {
        audio: audio.collect(),
        video: video.collect(),
        video_conformance_points: points
            .filter_map(|it| Some(bounded(it.attribute("href")?, MAX_NAME)))
            .collect(),
    }
}

fn read_delivery(element: &Element) -> Delivery {
    let other = || Delivery::Other { element: bounded(&element.name, MAX_NAME) };
    let located = |element: &Element| {
        let location = element.find("UriBasedLocation")?;
        Some((uri_of(location)?, bounded(location.attribute("contentType").unwrap_or_default(), MAX_NAME)))
    };
    match element.name.as_str() {
        "DASHDeliveryParameters" => {
            located(element).map(|(uri, content_type)| Delivery::Dash { uri, content_type })
        }
        "IdentifierBasedDeliveryParameters" => {
            (element.text.len() <= MAX_URI).then(|| Delivery::Identifier {
                uri: element.text.clone(),
                content_type: bounded(element.attribute("contentType").unwrap_or_default(), MAX_NAME),
            })
        }
        "OtherDeliveryParameters" if element.attribute("extensionName") == Some("vnd.apple.mpegurl") => {
            located(element).map(|(uri, _)| Delivery::HlsExtension { uri })
        }
        "DVBSDeliveryParameters" => Some(Delivery::Dvbs(dvbs(element))),
        "MulticastTSDeliveryParameters" => element.find("IPMulticastAddress").and_then(|address| {
            Some(Delivery::MulticastTs {
                address: bounded(address.attribute("Address")?, MAX_NAME),
                port: address.attribute("Port")?.trim().parse().ok()?,
            })
        }),
        "RTSPDeliveryParameters" => {
            element.child_text("RTSPURL").map(|uri| Delivery::Rtsp { uri: bounded(uri, MAX_URI) })
        }
        _ => None,
    }
    .unwrap_or_else(other)
}

fn dvbs(element: &Element) -> Dvbs {
    let triplet = element.find("DVBTriplet");
    let id = |name| triplet.and_then(|it| it.attribute(name)).and_then(|it| it.trim().parse().ok());
    let text = |name: &str| element.child_text(name).map(|it| bounded(it, 64));
    let number = |name: &str| element.child_text(name).and_then(|it| it.trim().parse().ok());
    Dvbs {
        original_network_id: id("origNetId"),
        transport_stream_id: id("tsId"),
        service_id: id("serviceId").unwrap_or(0),
        orbital_position: text("OrbitalPosition"),
        frequency_10khz: number("Frequency"),
        polarization: text("Polarization"),
        symbol_rate_ksps: number("SymbolRate"),
        roll_off: text("RollOff"),
        system: text("ModulationSystem"),
        modulation: text("ModulationType"),
        fec: text("FEC"),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
pub(super) mod tests;
