//! `[dvb_i]` and `[source.service]`: descriptions of services for televisions, beyond those read from the media.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carousel::config::{Mistake, url};
use carousel::dvbi::list::{Interval, Period, Region, ServiceKind};
use carousel::dvbi::{Edition, Text, genre};
use carousel::time::WallTime;
use serde::{Deserialize, Serialize};

/// Texts by language, or one in the catalogue's language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "expected text in quotes, or a table of texts by language, e.g. { en = \"News\" }"
)]
pub enum Texts {
    /// In the catalogue's language.
    One(String),
    /// `{ en = "News", de = "Nachrichten" }`
    ByLanguage(BTreeMap<String, String>),
}

impl Texts {
    /// As documents have them, that of the catalogue's language first.
    pub fn texts(&self, language: &str) -> Vec<Text> {
        match self {
            Self::One(text) => vec![Text::new("", text)],
            Self::ByLanguage(texts) => {
                let mut all: Vec<Text> = texts.iter().map(|(tag, text)| Text::new(tag, text)).collect();
                all.sort_by_key(|text| text.language != language);
                all
            }
        }
    }
}

/// `[dvb_i]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DvbI {
    /// URL under which receivers know the catalogue's documents; ends with `/`. Left out: `http://dvb.gw/<provider>/dvb-i/`.
    pub base: String,
    /// The service list's `@id`, a tag URI. Left out: made of the base.
    pub id: String,
    /// Edition of A177: `r6` is what is on the air.
    #[serde(deserialize_with = "edition", serialize_with = "edition_text")]
    pub edition: Edition,
    /// Language of what has no language of its own.
    #[serde(default = "english")]
    pub language: String,
    /// Names of the list; the provider's if left out.
    pub names: Option<Texts>,
    /// Logo of the list: a file, or a URL.
    pub logo: Option<String>,
    /// ISO 3166 alpha-3 codes of the countries that it is for.
    pub countries: Vec<String>,
    /// Regions that services and channel numbers are for.
    pub regions: Vec<RegionConfig>,
    /// Channel numbers that hold in some regions only.
    pub lcn: Vec<LcnConfig>,
    /// Programme guides: XMLTV or JSON, also compressed with gzip, xz or zip.
    pub guides: Vec<PathBuf>,
    /// Days of the guide that are carried, today included.
    #[serde(default = "a_week")]
    pub guide_days: u32,
    /// Hard maximum between two repeats of the catalogue's documents on the air. They never take more than a twentieth of
    /// the link: then it is longer.
    #[serde(default = "ten_seconds")]
    pub interval_ms: u64,
}

fn english() -> String {
    "en".to_owned()
}
const fn a_week() -> u32 {
    7
}
const fn ten_seconds() -> u64 {
    10_000
}

fn edition_text<S: serde::Serializer>(edition: &Edition, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(edition)
}

fn edition<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Edition, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// `[[dvb_i.regions]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// `@regionID`: an XML name.
    pub id: String,
    /// ISO 3166 alpha-3 codes; outermost regions need them.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Names.
    pub names: Option<Texts>,
    /// Post codes.
    #[serde(default)]
    pub postcodes: Vec<String>,
    /// Regions inside; three levels at most.
    #[serde(default)]
    pub regions: Vec<Self>,
}

impl RegionConfig {
    pub(crate) fn region(&self, language: &str) -> Region {
        Region {
            id: self.id.clone(),
            countries: self.countries.clone(),
            names: self.names.as_ref().map(|it| it.texts(language)).unwrap_or_default(),
            postcodes: self.postcodes.clone(),
            // Of a region with inner regions, a viewer chooses an inner one.
            is_selectable: self.regions.is_empty(),
            regions: self.regions.iter().map(|it| it.region(language)).collect(),
        }
    }
}

/// `[[dvb_i.lcn]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LcnConfig {
    /// Regions.
    pub regions: Vec<String>,
    /// Numbers by name of the source.
    pub channels: BTreeMap<String, u32>,
}

/// `[source.service]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Names; the source's name if left out.
    pub names: Option<Texts>,
    /// Descriptions.
    pub descriptions: Option<Texts>,
    /// Kind; left out: `linear` for live packages, `ondemand` for others.
    pub kind: Option<ServiceKind>,
    /// Genres by name (`News`, `Sports`) or by href, the main one first.
    pub genres: Vec<String>,
    /// Logo: a file, or a URL.
    pub logo: Option<String>,
    /// Banner: a file, or a URL.
    pub banner: Option<String>,
    /// Channel number where no region has another, 1 to 9999. Left out: the next free one from 1.
    pub channel: Option<u32>,
    /// Regions that it is for; none: all.
    pub regions: Vec<String>,
    /// Youngest viewer's age.
    pub minimum_age: Option<u8>,
    /// Period of availability; empty: always.
    pub available: Vec<AvailableConfig>,
    /// Its channel id in the guides, if that is not the source's name.
    pub guide: String,
    /// The television service of a multiplex that has the same programmes: its service_id. Left out: `nip.service_id` where
    /// there is a carrier; 0: none.
    pub dvb_s: Option<u16>,
    /// Titles on demand: box set that the title is in, its name.
    pub box_set: Option<Texts>,
    /// Titles on demand: start and end of their availability.
    pub licence: Option<(String, String)>,
}

/// `[[source.service.available]]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AvailableConfig {
    /// Date and time from which on, such as `2026-12-01T00:00:00Z`.
    pub from: Option<String>,
    /// Until when.
    pub to: Option<String>,
    /// 1 (Monday) to 7.
    pub days: Vec<u8>,
    /// Time of day in UTC from which on, `06:00`.
    pub start: Option<String>,
    /// Until which, `24:00` at most.
    pub end: Option<String>,
}

/// `hh:mm` in milliseconds of the day.
fn time_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
    (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some((hours * 60 + minutes) * 60_000)
}

impl AvailableConfig {
    /// The form of documents. `None` if a date or time cannot be read.
    pub(crate) fn period(&self) -> Option<Period> {
        let date = |text: &Option<String>| match text {
            Some(text) => WallTime::from_xml(text).map(Some),
            None => Some(None),
        };
        let time = |text: &Option<String>, usual| text.as_deref().map_or(Some(usual), time_of_day);
        let (start_ms, end_ms) = (time(&self.start, 0)?, time(&self.end, 86_400_000)?);
        let is_always = self.days.is_empty() && self.start.is_none() && self.end.is_none();
        let days = if self.days.is_empty() { (1..=7).collect() } else { self.days.clone() };
        let is_possible = start_ms < end_ms && days.iter().all(|day| (1..=7).contains(day));
        let intervals = if is_always { Vec::new() } else { vec![Interval { days, start_ms, end_ms }] };
        is_possible.then_some(Period { from: date(&self.from)?, to: date(&self.to)?, intervals })
    }
}

/// A file or a URL of a picture, as documents name it.
pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

impl DvbI {
    /// Makes paths relative to the configuration's folder, and names what was left out.
    pub(crate) fn settle(&mut self, folder: &Path, provider: &str) {
        if self.language.is_empty() {
            self.language = english();
        }
        if self.guide_days == 0 {
            self.guide_days = a_week();
        }
        if self.interval_ms == 0 {
            self.interval_ms = ten_seconds();
        }
        if self.base.is_empty() {
            self.base = format!("{}{}/dvb-i/", carousel::nip::BASE, slug(provider));
        }
        super::settle_url(&mut self.base);
        if self.id.is_empty() {
            self.id = tag_of(&format!("{}services", self.base));
        }
        for guide in &mut self.guides {
            if guide.is_relative() {
                *guide = folder.join(&guide);
            }
        }
        settle_picture(&mut self.logo, folder);
    }

    /// Mistakes that are well-formed and make no sense.
    pub(crate) fn mistakes(&self, services: &[(String, &ServiceConfig)]) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        if !is_url(&self.base) || !self.base.ends_with('/') {
            let what = format!("{:?} is not a folder's URL", self.base);
            wrong("dvb_i.base", what, "a URL that ends with a slash");
        } else if let Some(fault) = url::faults(&self.base).into_iter().next() {
            wrong("dvb_i.base", fault.what, &fault.fix);
        }
        if !is_tag(&self.id) {
            wrong("dvb_i.id", format!("{:?} is not a tag URI", self.id), "tag:example.com,2026:services");
        }
        if self.interval_ms < 1000 {
            wrong("dvb_i.interval_ms", format!("{} ms is too often", self.interval_ms), "1000 or more");
        }
        let regions = self.region_mistakes(&mut wrong);
        let mut numbers: BTreeMap<u32, &str> = BTreeMap::new();
        for (name, service) in services {
            service.mistakes(name, &regions, &mut numbers, &mut wrong);
        }
        for table in &self.lcn {
            table.mistakes(services, &regions, &mut wrong);
        }
        all
    }

    /// Mistakes of regions and countries; gives back the names of the regions.
    fn region_mistakes<'a>(&'a self, wrong: &mut impl FnMut(&str, String, &str)) -> Vec<&'a String> {
        let mut known = Vec::new();
        for region in &self.regions {
            collect_regions(region, 1, &mut known, wrong);
            if region.countries.is_empty() {
                let what = format!("region {:?} is in no country", region.id);
                wrong("dvb_i.regions.countries", what, "ISO 3166 alpha-3 codes, such as [\"DEU\"]");
            }
        }
        for code in self.countries.iter().chain(self.regions.iter().flat_map(|it| &it.countries)) {
            if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                wrong(
                    "dvb_i.countries",
                    format!("{code:?} is not a country"),
                    "ISO 3166 alpha-3, such as DEU",
                );
            }
        }
        known
    }
}

impl ServiceConfig {
    /// Mistakes of the service of the source of this name. `regions`: those that there are; `numbers`: channels that other services
    /// have, to which its own is added.
    fn mistakes<'a>(
        &self,
        name: &'a str,
        regions: &[&String],
        numbers: &mut BTreeMap<u32, &'a str>,
        wrong: &mut impl FnMut(&str, String, &str),
    ) {
        let key = |of: &str| format!("source.service.{of} of {name:?}");
        for region in self.regions.iter().filter(|it| !regions.contains(it)) {
            let what = format!("there is no region {region:?}");
            wrong(&key("regions"), what, "name one of [[dvb_i.regions]]");
        }
        for genre in &self.genres {
            if genre::term(genre).is_none() {
                let fix = "News, Sports, Movies, Children's, Music, Documentary … or an href";
                wrong(&key("genres"), format!("{genre:?} is not a known genre"), fix);
            }
        }
        if let Some(number) = self.channel {
            if !(1..=9999).contains(&number) {
                wrong(&key("channel"), format!("{number} is not a channel number"), "1 to 9999");
            }
            if let Some(other) = numbers.insert(number, name) {
                wrong(&key("channel"), format!("{other:?} has {number} already"), "give each its own");
            }
        }
        if self.available.iter().any(|it| it.period().is_none()) {
            let fix = "from = \"2026-12-01T00:00:00Z\", days = [1, 2], start = \"06:00\", end = \"24:00\"";
            wrong(&key("available"), "a date or time cannot be read".to_owned(), fix);
        }
        if self.minimum_age.is_some_and(|age| !(4..=18).contains(&age)) {
            wrong(&key("minimum_age"), "out of range".to_owned(), "4 to 18");
        }
        if let Some((from, to)) = &self.licence
            && WallTime::from_xml(from).zip(WallTime::from_xml(to)).is_none_or(|(from, to)| from >= to)
        {
            let fix = "[\"2026-01-01T00:00:00Z\", \"2027-01-01T00:00:00Z\"]";
            wrong(&key("licence"), "no span of time".to_owned(), fix);
        }
    }
}

impl LcnConfig {
    fn mistakes(
        &self,
        services: &[(String, &ServiceConfig)],
        regions: &[&String],
        wrong: &mut impl FnMut(&str, String, &str),
    ) {
        for region in self.regions.iter().filter(|it| !regions.contains(it)) {
            let what = format!("there is no region {region:?}");
            wrong("dvb_i.lcn.regions", what, "name one of [[dvb_i.regions]]");
        }
        for (name, number) in &self.channels {
            if !services.iter().any(|(it, _)| it == name) {
                let what = format!("there is no source {name:?}");
                wrong("dvb_i.lcn.channels", what, "the name of a [[source]]");
            }
            if !(1..=9999).contains(number) {
                wrong("dvb_i.lcn.channels", format!("{number} is not a channel number"), "1 to 9999");
            }
        }
    }
}

fn collect_regions<'a>(
    region: &'a RegionConfig,
    depth: usize,
    known: &mut Vec<&'a String>,
    wrong: &mut impl FnMut(&str, String, &str),
) {
    if depth > 4 {
        wrong("dvb_i.regions", format!("{:?} is nested too deep", region.id), "four levels at most");
    }
    let is_name = |id: &str| {
        id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    if !is_name(&region.id) || known.contains(&&region.id) {
        wrong(
            "dvb_i.regions.id",
            format!("{:?} is not a name, or used twice", region.id),
            "letters, digits, - and _",
        );
    }
    known.push(&region.id);
    for inside in &region.regions {
        collect_regions(inside, depth + 1, known, wrong);
    }
}

impl ServiceConfig {
    /// Makes paths relative to the configuration's folder.
    pub(crate) fn settle(&mut self, folder: &Path) {
        settle_picture(&mut self.logo, folder);
        settle_picture(&mut self.banner, folder);
    }
}

fn settle_picture(picture: &mut Option<String>, folder: &Path) {
    if let Some(path) = picture
        && !is_url(path)
        && Path::new(path).is_relative()
    {
        *path = folder.join(&*path).to_string_lossy().into_owned();
    }
}

/// A name as a part of a URL.
fn slug(name: &str) -> String {
    let kept = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let slug: String = kept.collect();
    let slug = slug.split('-').filter(|it| !it.is_empty()).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "skycache".to_owned() } else { slug }
}

/// The year in which the names that are made here were coined, as tag URIs (RFC 4151) have to say.
const TAG_YEAR: &str = "2026";

/// A tag URI made of a URL: `https://cdn.example.com/vod/film/` is `tag:cdn.example.com,2026:vod/film`.
pub fn tag_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.split(['@', ':']).next().unwrap_or_default();
    let path = path.trim_end_matches('/');
    format!("tag:{host},{TAG_YEAR}:{path}")
}

/// Whether a text is a tag URI.
pub(crate) fn is_tag(text: &str) -> bool {
    let Some((entity, _)) = text.strip_prefix("tag:").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let Some((authority, date)) = entity.split_once(',') else { return false };
    let is_date = date.len() >= 4 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    !authority.is_empty() && is_date && text.is_ascii() && !text.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_made_of_urls() {
        assert_eq!(tag_of("https://cdn.example.com:8443/vod/film/"), "tag:cdn.example.com,2026:vod/film");
        assert!(is_tag(&tag_of("http://h/")));
        assert!(!is_tag("https://cdn.example.com/") && !is_tag("tag:x:y") && !is_tag("tag:x,2026"));
        assert_eq!(
            (slug("Example Broadcast AG"), slug("©")),
            ("example-broadcast-ag".into(), "skycache".into())
        );
    }

    #[test]
    fn windows_are_read() {
        let window = |days: &[u8], start: Option<&str>, end: Option<&str>| AvailableConfig {
            days: days.to_vec(),
            start: start.map(str::to_owned),
            end: end.map(str::to_owned),
            ..AvailableConfig::default()
        };
        let period = window(&[1], Some("06:30"), Some("24:00")).period().unwrap();
        assert_eq!((period.intervals[0].start_ms, period.intervals[0].end_ms), (23_400_000, 86_400_000));
        assert!(window(&[], None, None).period().unwrap().intervals.is_empty());
        for wrong in [
            window(&[8], None, None),
            window(&[], Some("7"), None),
            window(&[], Some("09:00"), Some("08:00")),
        ] {
            assert!(wrong.period().is_none(), "{wrong:?}");
        }
    }
}
