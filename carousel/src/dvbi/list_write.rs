//! Serialisation of a service list in one edition. Elements are in the order of its schema; parts that the edition cannot
//! express are omitted: see [`ServiceList::to_xml`].

use super::edition::Edition;
use super::list::{
    AudioAttributes, ContentAttributes, DASH_TYPE, Delivery, Dvbs, GuideSource, HLS_TYPE, Instance, Interval,
    LcnTable, Period, PictureKind, Region, Service, ServiceList, VideoAttributes,
};
use super::{Image, Text};
use crate::xml::{self, Element, XML_NAMESPACE};

const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
const HLS_NAMESPACE: &str = "vnd:apple:mpegurl";
/// Prefix of terms of HowRelatedCS; 1001.3 is of 2021.
const HOW_RELATED: &str = "urn:dvb:metadata:cs:HowRelatedCS:";
/// Longest ServiceDescriptions of each length, in characters, and their names.
const LENGTHS: [(usize, &str); 3] = [(90, "short"), (250, "medium"), (1200, "long")];
/// Maximum characters of a description; TV-Anytime's "long".
const MAX_DESCRIPTION: usize = 1200;

/// Writer for one edition, with its names of elements.
struct Writer {
    edition: Edition,
    list: String,
    types: String,
    tva: String,
    /// Language of the document; texts in other languages have an attribute.
    language: String,
}

impl ServiceList {
    /// Writes the list in an edition. Omitted where the edition cannot express them: HLS before r4, files and DVB-MABR
    /// (identifiers) before r6, banners before r3, ages and nested regions' countries before r5, `@id` before r6, the
    /// document's language before r3.
    pub fn to_xml(&self, edition: Edition) -> String {
        let list = edition.list_namespace();
        let types = edition.types_namespace().unwrap_or_else(|| list.clone());
        let tva = edition.tva_namespace();
        let writer = Writer { edition, list, types, tva, language: self.language.clone() };
        let prefixes = [
            (writer.types.as_str(), "dvbi-types"),
            (writer.tva.as_str(), "tva"),
            (SCHEMA_INSTANCE, "xsi"),
            (HLS_NAMESPACE, "hls"),
        ];
        xml::write(&writer.service_list(self), &prefixes)
    }
}

/// Adds the language of an element, if it is not the document's.
fn in_language(element: Element, language: &str) -> Element {
    if language.is_empty() { element } else { element.attr_ns(XML_NAMESPACE, "lang", language) }
}

/// A text cut at a word, with an ellipsis.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    let at_word = kept.rfind(char::is_whitespace).filter(|&at| at > kept.len() / 2).unwrap_or(kept.len());
    format!("{}…", kept[..at_word].trim_end())
}

impl Writer {
    /// An element of the list's namespace.
    fn own(&self, name: &str) -> Element {
        Element::new(&self.list, name)
    }

    fn texts<'a>(&'a self, name: &'a str, texts: &'a [Text]) -> impl Iterator<Item = Element> + 'a {
        texts.iter().map(move |text| {
            let is_one_of_many = texts.len() > 1 && text.language.is_empty();
            let language = if is_one_of_many { &self.language } else { &text.language };
            in_language(self.own(name).with_text(&text.text), language)
        })
    }

    fn leaves<'a>(&'a self, name: &'a str, texts: &'a [String]) -> impl Iterator<Item = Element> + 'a {
        texts.iter().map(move |text| self.own(name).with_text(text))
    }

    fn service_list(&self, list: &ServiceList) -> Element {
        let mut root = self.own("ServiceList");
        if self.edition >= Edition::R6 {
            root = root.attr("id", &list.id);
        }
        root = root.attr("version", list.version.max(1).to_string());
        if self.edition >= Edition::R3 {
            root = in_language(root, &list.language);
        }
        root = root.extend(self.texts("Name", &list.names));
        root = root.extend(self.texts("ProviderName", &list.providers));
        root = root.extend(list.logos.iter().map(|logo| self.picture("1001.1", logo)));
        if !list.regions.is_empty() {
            let regions = list.regions.iter().map(|region| self.region(region, true));
            root = root.child(self.own("RegionList").attr("version", "1").extend(regions));
        }
        root = root.extend(self.leaves("TargetRegion", &list.target_regions));
        if !list.lcn_tables.is_empty() {
            let tables = list.lcn_tables.iter().map(|table| self.lcn_table(table, list.version));
            root = root.child(self.own("LCNTableList").extend(tables));
        }
        if !list.guide_sources.is_empty() {
            let sources = list.guide_sources.iter().map(|source| self.guide_source(source));
            root = root.child(self.own("ContentGuideSourceList").extend(sources));
        }
        root.extend(list.services.iter().map(|service| self.service(service)))
    }

    /// RelatedMaterial is TV-Anytime's type, but r1 to r4 had one of their own with the same children.
    fn picture(&self, term: &str, image: &Image) -> Element {
        let is_own = (Edition::R1..=Edition::R4).contains(&self.edition);
        let namespace = if is_own { &self.list } else { &self.tva };
        let year = match self.edition {
            Edition::R0 => "2019",
            Edition::R1 | Edition::R2 => "2020",
            _ => "2021",
        };
        let uri = Element::new(&self.tva, "MediaUri").attr("contentType", &image.content_type);
        self.own("RelatedMaterial")
            .child(Element::new(namespace, "HowRelated").attr("href", format!("{HOW_RELATED}{year}:{term}")))
            .child(Element::new(namespace, "MediaLocator").child(uri.with_text(&image.uri)))
    }

    fn region(&self, region: &Region, is_outermost: bool) -> Element {
        let mut out = self.own("Region");
        if is_outermost && !region.countries.is_empty() {
            out = out.attr("countryCodes", region.countries.join(","));
        }
        out = out.attr("regionID", &region.id);
        if !region.is_selectable && self.edition >= Edition::R4 {
            out = out.attr("selectable", "false");
        }
        out.extend(self.texts("RegionName", &region.names))
            .extend(self.leaves("Postcode", &region.postcodes))
            .extend(region.regions.iter().map(|inside| self.region(inside, false)))
    }

    fn lcn_table(&self, table: &LcnTable, version: u64) -> Element {
        let mut out = self.own("LCNTable");
        // Unknown in the schema of r7, required in that of r8.
        if self.edition >= Edition::R8 {
            out = out.attr("version", version.max(1).to_string());
        }
        let entries = table.entries.iter().map(|lcn| {
            self.own("LCN")
                .attr("channelNumber", lcn.number.to_string())
                .attr("serviceRef", &lcn.service)
                .attr_opt("selectable", (!lcn.is_selectable).then_some("false"))
                .attr_opt("visible", (!lcn.is_visible).then_some("false"))
        });
        out.extend(self.leaves("TargetRegion", &table.target_regions)).extend(entries)
    }

    fn located(&self, name: &str, uri: &str, content_type: &str) -> Element {
        let uri = Element::new(&self.types, "URI").with_text(uri);
        self.own(name).attr("contentType", content_type).child(uri)
    }

    fn guide_source(&self, source: &GuideSource) -> Element {
        let endpoint = |name, uri: &str| self.located(name, uri, "application/xml");
        let further = [
            ("ProgramInfoEndpoint", &source.program),
            ("GroupInfoEndpoint", &source.group),
            ("MoreEpisodesEndpoint", &source.more_episodes),
        ];
        let further = further.into_iter().filter_map(|(name, uri)| Some(endpoint(name, uri.as_deref()?)));
        self.own("ContentGuideSource")
            .attr("CGSID", &source.id)
            .extend(self.texts("ProviderName", &source.providers))
            .child(endpoint("ScheduleInfoEndpoint", &source.schedule))
            .extend(further)
    }

    fn service(&self, service: &Service) -> Element {
        let pictures = service
            .pictures
            .iter()
            .filter(|picture| picture.kind != PictureKind::Banner || self.edition >= Edition::R3)
            .map(|picture| self.picture(picture.kind.term(), &picture.image));
        let most_genres = if self.edition == Edition::R1 { 1 } else { usize::MAX };
        let genres = service.genres.iter().take(most_genres).enumerate().map(|(at, href)| {
            self.own("ServiceGenre").attr("href", href).attr_opt("type", (at > 0).then_some("secondary"))
        });
        let kind = format!("urn:dvb:metadata:cs:ServiceTypeCS:2019:{}", service.kind.as_str());
        let mut out = self
            .own("Service")
            .attr("version", service.version.max(1).to_string())
            .text_child("UniqueIdentifier", &service.id)
            .extend(service.instances.iter().filter_map(|instance| self.instance(instance)))
            .extend(self.leaves("TargetRegion", &service.target_regions))
            .extend(self.texts("ServiceName", &service.names))
            .extend(self.texts("ProviderName", &service.providers))
            .extend(pictures)
            .extend(genres)
            .child(self.own("ServiceType").attr("href", kind));
        if self.edition >= Edition::R2 {
            out = out.extend(service.descriptions.iter().map(|text| self.description(text)));
        }
        if let Some(source) = &service.guide_source {
            out = out.text_child("ContentGuideSourceRef", source);
        }
        if let Some(name) = &service.guide_service {
            out = out.text_child("ContentGuideServiceRef", name);
        }
        if let Some(age) = service.minimum_age.filter(|_| self.edition >= Edition::R5) {
            out = out.child(self.own("ParentalRating").text_child("MinimumAge", age.to_string()));
        }
        out
    }

    fn description(&self, text: &Text) -> Element {
        let characters = text.text.chars().count();
        let length = LENGTHS.iter().find(|(most, _)| characters <= *most).map_or("long", |(_, name)| name);
        let out = in_language(self.own("ServiceDescription"), &text.language).attr("length", length);
        out.with_text(cut(&text.text, MAX_DESCRIPTION))
    }

    /// `None` if the edition cannot express its delivery.
    fn instance(&self, instance: &Instance) -> Option<Element> {
        let delivery = self.delivery(&instance.delivery)?;
        let mut out = self
            .own("ServiceInstance")
            .attr("priority", instance.priority.to_string())
            .extend(self.texts("DisplayName", &instance.names));
        if instance.content != ContentAttributes::default() {
            out = out.child(self.content(&instance.content));
        }
        if !instance.availability.is_empty() {
            let periods = instance.availability.iter().map(|period| self.period(period));
            out = out.child(self.own("Availability").extend(periods));
        }
        if self.edition == Edition::R0 {
            // Required then, deprecated soon after.
            let source = match &instance.delivery {
                Delivery::Dvbs(_) => "dvb-s",
                Delivery::MulticastTs { .. } | Delivery::Rtsp { .. } => "dvb-iptv",
                _ => "dvb-dash",
            };
            out = out.text_child("SourceType", format!("urn:dvb:metadata:source:{source}"));
        }
        Some(out.child(delivery))
    }

    fn period(&self, period: &Period) -> Element {
        let interval = |interval: &Interval| {
            let days: Vec<String> = interval.days.iter().map(u8::to_string).collect();
            // The end is the last millisecond before midnight.
            let end_ms = interval.end_ms.min(86_399_999);
            self.own("Interval")
                .attr("days", days.join(" "))
                .attr("startTime", clock(interval.start_ms))
                .attr("endTime", clock(end_ms))
        };
        self.own("Period")
            .attr_opt("validFrom", period.from.map(crate::time::WallTime::to_xml))
            .attr_opt("validTo", period.to.map(crate::time::WallTime::to_xml))
            .extend(period.intervals.iter().map(interval))
    }

    fn content(&self, content: &ContentAttributes) -> Element {
        let mut out = self.own("ContentAttributes").extend(content.audio.iter().map(|it| self.audio(it)));
        if !content.video.is_empty() {
            // Only the best one, by which receivers choose instances.
            out = out.extend(content.video.iter().take(1).map(|it| self.video(it)));
        }
        let most = if self.edition >= Edition::R7 { 2 } else { 1 };
        let points = content.video_conformance_points.iter().take(most);
        out.extend(points.map(|href| self.own("VideoConformancePoint").attr("href", href)))
    }

    fn audio(&self, audio: &AudioAttributes) -> Element {
        let tva = |name: &str| Element::new(&self.tva, name);
        let mut out = self.own("AudioAttributes");
        if let Some(href) = &audio.coding {
            out = out.child(tva("Coding").attr("href", href));
        }
        if let Some(channels) = audio.channels {
            out = out.child(tva("NumOfChannels").with_text(channels.to_string()));
        }
        if let Some(language) = &audio.language {
            let purpose = "urn:tva:metadata:cs:AudioPurposeCS:2007:6";
            out = out.child(tva("AudioLanguage").attr("purpose", purpose).with_text(language));
        }
        if let Some(rate) = audio.sample_rate_hz {
            out = out.child(tva("SampleFrequency").with_text(rate.to_string()));
        }
        out
    }

    fn video(&self, video: &VideoAttributes) -> Element {
        let tva = |name: &str| Element::new(&self.tva, name);
        let term = |name: &str, href: &Option<String>| {
            href.as_ref().map(|href| tva(name).attr("href", href)).into_iter()
        };
        let size = |name: &str, pixels: Option<u16>| {
            pixels.map(|pixels| tva(name).with_text(pixels.to_string())).into_iter()
        };
        let aspect = video.aspect_ratio.map(|(w, h)| tva("AspectRatio").with_text(format!("{w}:{h}")));
        let rate = video.frame_rate.as_ref().map(|rate| tva("FrameRate").with_text(rate));
        let mut out = self
            .own("VideoAttributes")
            .extend(term("Coding", &video.coding))
            .child(tva("Scan").with_text(if video.is_interlaced { "interlaced" } else { "progressive" }))
            .extend(size("HorizontalSize", video.width))
            .extend(size("VerticalSize", video.height))
            .extend(aspect)
            .extend(rate)
            .extend(term("PictureFormat", &video.picture_format));
        if let Some(href) = video.colorimetry.as_ref().filter(|_| self.edition >= Edition::R2) {
            out = out.child(self.own("Colorimetry").attr("href", href));
        }
        out
    }

    fn delivery(&self, delivery: &Delivery) -> Option<Element> {
        Some(match delivery {
            Delivery::Dash { uri, content_type } => {
                let content_type = if content_type.is_empty() { DASH_TYPE } else { content_type };
                let location = self.located("UriBasedLocation", uri, content_type);
                self.own("DASHDeliveryParameters").child(location)
            }
            Delivery::Identifier { uri, content_type } if self.edition >= Edition::R6 => {
                self.own("IdentifierBasedDeliveryParameters").attr("contentType", content_type).with_text(uri)
            }
            Delivery::Identifier { uri, content_type } if is_hls(content_type) => self.hls_extension(uri)?,
            Delivery::HlsExtension { uri } => self.hls_extension(uri)?,
            Delivery::Dvbs(dvbs) => self.dvbs(dvbs),
            Delivery::MulticastTs { address, port } => {
                let address =
                    self.own("IPMulticastAddress").attr("Address", address).attr("Port", port.to_string());
                self.own("MulticastTSDeliveryParameters").child(address)
            }
            // Not expressible without a DVB triplet.
            Delivery::Identifier { .. } | Delivery::Rtsp { .. } | Delivery::Other { .. } => return None,
        })
    }

    fn hls_extension(&self, uri: &str) -> Option<Element> {
        if self.edition < Edition::R4 {
            return None;
        }
        let uri = Element::new(&self.types, "URI").with_text(uri);
        let location = Element::new(HLS_NAMESPACE, "UriBasedLocation").attr("contentType", HLS_TYPE);
        let parameters = self
            .own("OtherDeliveryParameters")
            .attr_ns(SCHEMA_INSTANCE, "type", "hls:m3u8RefType")
            .attr("extensionName", "vnd.apple.mpegurl");
        Some(parameters.child(location.child(uri)))
    }

    fn dvbs(&self, dvbs: &Dvbs) -> Element {
        let triplet = self
            .own("DVBTriplet")
            .attr_opt("origNetId", dvbs.original_network_id.map(|it| it.to_string()))
            .attr_opt("tsId", dvbs.transport_stream_id.map(|it| it.to_string()))
            .attr("serviceId", dvbs.service_id.to_string());
        let mut out = self.own("DVBSDeliveryParameters").child(triplet);
        if let Some(position) = &dvbs.orbital_position {
            out = out.text_child("OrbitalPosition", position);
        }
        // Each group of parameters requires the previous one.
        let (Some(frequency), Some(polarization)) = (dvbs.frequency_10khz, &dvbs.polarization) else {
            return out;
        };
        out = out.text_child("Frequency", frequency.to_string()).text_child("Polarization", polarization);
        let Some(rate) = dvbs.symbol_rate_ksps.filter(|_| self.edition >= Edition::R5) else { return out };
        out = out.text_child("SymbolRate", rate.to_string());
        let rest = [
            ("RollOff", &dvbs.roll_off),
            ("ModulationSystem", &dvbs.system),
            ("ModulationType", &dvbs.modulation),
            ("FEC", &dvbs.fec),
        ];
        if rest.iter().all(|(_, value)| value.is_some()) {
            for (name, value) in rest {
                out = out.text_child(name, value.as_deref().unwrap_or_default());
            }
        }
        out
    }
}

/// Whether a MIME type is that of an HLS playlist.
pub fn is_hls(content_type: &str) -> bool {
    ["application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl"]
        .iter()
        .any(|it| content_type.eq_ignore_ascii_case(it))
}

/// Milliseconds of a day as `hh:mm:ss.mmmZ`.
fn clock(ms: u32) -> String {
    let s = ms / 1000;
    let fraction = if ms.is_multiple_of(1000) { String::new() } else { format!(".{:03}", ms % 1000) };
    format!("{:02}:{:02}:{:02}{fraction}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_words() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("one two three four", 12), "one two…");
        assert_eq!(cut("unbreakableword", 6), "unbre…");
        assert_eq!(cut("äöü äöü", 5), "äöü…");
    }

    #[test]
    fn times_of_day() {
        assert_eq!(clock(0), "00:00:00Z");
        assert_eq!(clock(86_399_999), "23:59:59.999Z");
    }
}
