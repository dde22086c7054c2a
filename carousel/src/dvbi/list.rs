//! Model of a service list (TS 103 770 clause 5.5), with the parts that a receiver, the page and a guide need.
//!
//! It serializes as the JSON rendering that `headend catalog` writes and the daemon serves (feature `config`).

use super::{Image, Text};
use crate::time::WallTime;

/// A service list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct ServiceList {
    /// `@id`: a tag URI; lists before r6 have none.
    pub id: String,
    /// `@version`, from 1.
    pub version: u64,
    /// `@xml:lang`.
    pub language: String,
    /// Names.
    pub names: Vec<Text>,
    /// Provider's names.
    pub providers: Vec<Text>,
    /// Logos.
    pub logos: Vec<Image>,
    /// Regions that services and channel numbers are for.
    pub regions: Vec<Region>,
    /// Regions that the list is for; none: everywhere.
    pub target_regions: Vec<String>,
    /// Channel numbers.
    pub lcn_tables: Vec<LcnTable>,
    /// Sources of programme information.
    pub guide_sources: Vec<GuideSource>,
    /// Services.
    pub services: Vec<Service>,
}

/// The JSON rendering of a list: its members, and the version of their names.
#[cfg(feature = "config")]
#[derive(Debug, serde::Serialize)]
pub struct Rendering<'a> {
    schema: u8,
    #[serde(flatten)]
    list: &'a ServiceList,
}

#[cfg(feature = "config")]
impl<'a> Rendering<'a> {
    /// The rendering of a list.
    pub const fn of(list: &'a ServiceList) -> Self {
        Self { schema: 1, list }
    }
}

/// A region with its subregions: at most three levels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Region {
    /// `@regionID`.
    pub id: String,
    /// ISO 3166 alpha-3 codes; outermost regions only.
    pub countries: Vec<String>,
    /// Names.
    pub names: Vec<Text>,
    /// Post codes.
    pub postcodes: Vec<String>,
    /// Whether users can select it.
    pub is_selectable: bool,
    /// Subregions.
    pub regions: Vec<Self>,
}

/// Channel numbers for some regions, or for all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct LcnTable {
    /// Regions; none: the table for all others.
    pub target_regions: Vec<String>,
    /// Numbers.
    pub entries: Vec<Lcn>,
}

/// A channel number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Lcn {
    /// 1 to 9999.
    pub number: u32,
    /// UniqueIdentifier of the service.
    pub service: String,
    /// Whether it can be dialled.
    pub is_selectable: bool,
    /// Whether it is listed.
    pub is_visible: bool,
}

/// Sources of programme information.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct GuideSource {
    /// `@CGSID`: an XML name.
    pub id: String,
    /// Provider's names.
    pub providers: Vec<Text>,
    /// ScheduleInfoEndpoint: on DVB-NIP the guide's manifest.
    pub schedule: String,
    /// ProgramInfoEndpoint.
    pub program: Option<String>,
    /// GroupInfoEndpoint, with a slash at its end.
    pub group: Option<String>,
    /// MoreEpisodesEndpoint.
    pub more_episodes: Option<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Service {
    /// UniqueIdentifier: a tag URI.
    pub id: String,
    /// `@version`, from 1.
    pub version: u64,
    /// Names.
    pub names: Vec<Text>,
    /// Provider's names.
    pub providers: Vec<Text>,
    /// Pictures, with their purpose.
    pub pictures: Vec<Picture>,
    /// Hrefs of genre terms, the main one first.
    pub genres: Vec<String>,
    /// Kind of service.
    pub kind: ServiceKind,
    /// Descriptions.
    pub descriptions: Vec<Text>,
    /// Regions that it is for; none: everywhere.
    pub target_regions: Vec<String>,
    /// `ContentGuideSourceRef`.
    pub guide_source: Option<String>,
    /// `ContentGuideServiceRef`: its name in the guide, if it differs from its UniqueIdentifier.
    pub guide_service: Option<String>,
    /// Youngest viewer's age, from r5.
    pub minimum_age: Option<u8>,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// A picture of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Picture {
    /// Its purpose.
    pub kind: PictureKind,
    /// The picture.
    pub image: Image,
}

/// Purpose of a picture of a service (HowRelatedCS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum PictureKind {
    /// 1001.2.
    Logo,
    /// 1001.3, from r3.
    Banner,
    /// 1000.1: while it is not available.
    OutsideAvailability,
}

impl PictureKind {
    /// Term of HowRelatedCS.
    pub const fn term(self) -> &'static str {
        match self {
            Self::Logo => "1001.2",
            Self::Banner => "1001.3",
            Self::OutsideAvailability => "1000.1",
        }
    }
}

/// Kinds of services (ServiceTypeCS:2019).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum ServiceKind {
    /// Television.
    #[default]
    Linear,
    /// Radio.
    LinearRadio,
    /// Titles on demand.
    Ondemand,
    /// Radio on demand.
    OndemandRadio,
    /// Files.
    Data,
    /// Pictures of several services.
    Mosaic,
    /// Anything else.
    Other,
}

impl ServiceKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Linear,
        Self::LinearRadio,
        Self::Ondemand,
        Self::OndemandRadio,
        Self::Data,
        Self::Mosaic,
        Self::Other,
    ];

    /// Term of ServiceTypeCS.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::LinearRadio => "linear-radio",
            Self::Ondemand => "ondemand",
            Self::OndemandRadio => "ondemand-radio",
            Self::Data => "data",
            Self::Mosaic => "mosaic",
            Self::Other => "other",
        }
    }

    /// The kind by the last term of an href.
    pub fn from_href(href: &str) -> Self {
        let term = href.rsplit(':').next().unwrap_or_default();
        Self::ALL.into_iter().find(|kind| kind.as_str() == term).unwrap_or(Self::Other)
    }
}

/// One way of delivery of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Instance {
    /// `@priority`: the lowest is preferred.
    pub priority: u32,
    /// Names, such as the quality's.
    pub names: Vec<Text>,
    /// Attributes of its media.
    pub content: ContentAttributes,
    /// Its availability; empty: always.
    pub availability: Vec<Period>,
    /// Its delivery.
    pub delivery: Delivery,
}

/// Delivery of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Serialize), serde(rename_all = "snake_case", tag = "way"))]
pub enum Delivery {
    /// DASHDeliveryParameters.
    Dash {
        /// URL of the MPD or playlist.
        uri: String,
        /// `application/dash+xml`, or that of a playlist.
        content_type: String,
    },
    /// IdentifierBasedDeliveryParameters, from r6, of any `contentType`: HLS, files, DVB-MABR.
    Identifier {
        /// URI of the description.
        uri: String,
        /// Type of the description.
        content_type: String,
    },
    /// OtherDeliveryParameters with Apple's extension.
    HlsExtension {
        /// URL of the playlist.
        uri: String,
    },
    /// DVBSDeliveryParameters.
    Dvbs(Dvbs),
    /// MulticastTSDeliveryParameters.
    MulticastTs {
        /// Group.
        address: String,
        /// Port.
        port: u16,
    },
    /// RTSPDeliveryParameters.
    Rtsp {
        /// URL.
        uri: String,
    },
    /// Any other delivery.
    Other {
        /// The element's name, such as `DVBTDeliveryParameters`.
        element: String,
    },
}

impl Delivery {
    /// URL for players, and its MIME type.
    pub fn locator(&self) -> Option<(&str, &str)> {
        match self {
            Self::Dash { uri, content_type } | Self::Identifier { uri, content_type } => {
                Some((uri, content_type))
            }
            Self::HlsExtension { uri } => Some((uri, HLS_TYPE)),
            _ => None,
        }
    }
}

/// MIME type of HLS playlists.
pub const HLS_TYPE: &str = "application/vnd.apple.mpegurl";
/// MIME type of MPDs.
pub const DASH_TYPE: &str = "application/dash+xml";
/// MIME type of service lists.
pub const LIST_TYPE: &str = "application/vnd.dvb.dvbisl+xml";

/// A carrier of DVB-S, S2 or S2X and the service on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Dvbs {
    /// original_network_id.
    pub original_network_id: Option<u16>,
    /// transport_stream_id.
    pub transport_stream_id: Option<u16>,
    /// service_id.
    pub service_id: u16,
    /// Degrees, east positive, as text.
    pub orbital_position: Option<String>,
    /// In units of 10 kHz.
    pub frequency_10khz: Option<u32>,
    /// `horizontal`, `vertical`, `left circular`, `right circular`.
    pub polarization: Option<String>,
    /// ksym/s.
    pub symbol_rate_ksps: Option<u32>,
    /// `0.35` and so on.
    pub roll_off: Option<String>,
    /// `DVB-S`, `DVB-S2`, `DVB-S2X`.
    pub system: Option<String>,
    /// `QPSK`, `8PSK` and so on.
    pub modulation: Option<String>,
    /// `3/4` and so on.
    pub fec: Option<String>,
}

/// ContentAttributes (clause 6.11).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct ContentAttributes {
    /// Audio attributes.
    pub audio: Vec<AudioAttributes>,
    /// Video attributes, the best first.
    pub video: Vec<VideoAttributes>,
    /// Hrefs of VideoConformancePointsCS.
    pub video_conformance_points: Vec<String>,
}

/// AudioAttributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct AudioAttributes {
    /// Href of a codec.
    pub coding: Option<String>,
    /// Channels.
    pub channels: Option<u8>,
    /// Language.
    pub language: Option<String>,
    /// Hz.
    pub sample_rate_hz: Option<u32>,
}

/// VideoAttributes with DVB's Colorimetry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct VideoAttributes {
    /// Href of a codec.
    pub coding: Option<String>,
    /// Whether two fields make a frame.
    pub is_interlaced: bool,
    /// Pixels across.
    pub width: Option<u16>,
    /// Lines.
    pub height: Option<u16>,
    /// Display aspect ratio, such as 16 and 9.
    pub aspect_ratio: Option<(u32, u32)>,
    /// `25`, `50`, `30/1.001`.
    pub frame_rate: Option<String>,
    /// Href of PictureFormatCS.
    pub picture_format: Option<String>,
    /// Href of ColorimetryCS.
    pub colorimetry: Option<String>,
}

impl VideoAttributes {
    /// Whether its colours are those of HDR (BT.2100).
    pub fn is_hdr(&self) -> bool {
        let term = |href: &str| href.rsplit(':').next().is_some_and(|it| it == "3" || it.starts_with("3."));
        self.colorimetry.as_deref().is_some_and(term)
    }
}

/// A period of availability.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Period {
    /// Start; `None`: unbounded.
    #[cfg_attr(feature = "config", serde(serialize_with = "date"))]
    pub from: Option<WallTime>,
    /// End; `None`: unbounded.
    #[cfg_attr(feature = "config", serde(serialize_with = "date"))]
    pub to: Option<WallTime>,
    /// Recurring hours; empty: always.
    pub intervals: Vec<Interval>,
}

#[cfg(feature = "config")]
fn date<S: serde::Serializer>(time: &Option<WallTime>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&time.map(WallTime::to_xml), serializer)
}

/// Hours of some days of the week, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Interval {
    /// 1 (Monday) to 7.
    pub days: Vec<u8>,
    /// Start in milliseconds of the day.
    pub start_ms: u32,
    /// End in milliseconds of the day; at most midnight.
    pub end_ms: u32,
}

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

impl Period {
    /// Whether it holds at `now`.
    pub fn holds(&self, now: WallTime) -> bool {
        if self.from.is_some_and(|from| now < from) || self.to.is_some_and(|to| now >= to) {
            return false;
        }
        let day_ms = now.unix_ms().rem_euclid(DAY_MS);
        // 1970-01-01 was a Thursday.
        let weekday = (now.unix_ms().div_euclid(DAY_MS) + 3).rem_euclid(7) + 1;
        self.intervals.is_empty()
            || self.intervals.iter().any(|interval| {
                interval.days.iter().any(|day| i64::from(*day) == weekday)
                    && (i64::from(interval.start_ms)..i64::from(interval.end_ms)).contains(&day_ms)
            })
    }
}

impl Instance {
    /// Whether it is available at `now`.
    pub fn is_available(&self, now: WallTime) -> bool {
        self.availability.is_empty() || self.availability.iter().any(|period| period.holds(now))
    }
}

impl ServiceList {
    /// Channel numbers by service: from the table for all regions, otherwise from the first table.
    pub fn numbers(&self) -> std::collections::HashMap<&str, &Lcn> {
        let mut tables: Vec<&LcnTable> = self.lcn_tables.iter().collect();
        tables.sort_by_key(|table| !table.target_regions.is_empty());
        let mut numbers = std::collections::HashMap::new();
        for entry in tables.iter().flat_map(|table| &table.entries) {
            numbers.entry(entry.service.as_str()).or_insert(entry);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_by_date_day_and_hour() {
        let at = |text: &str| WallTime::from_xml(text).unwrap();
        let period = Period {
            from: Some(at("2026-11-01T00:00:00Z")),
            to: Some(at("2026-12-01T00:00:00Z")),
            intervals: vec![Interval { days: vec![6, 7], start_ms: 8 * 3_600_000, end_ms: 20 * 3_600_000 }],
        };
        for (time, holds) in [
            ("2026-11-21T08:00:00Z", true), // a Saturday
            ("2026-11-21T07:59:59Z", false),
            ("2026-11-21T20:00:00Z", false),
            ("2026-11-22T12:00:00Z", true),
            ("2026-11-23T12:00:00Z", false),
            ("2026-12-05T12:00:00Z", false),
            ("2026-10-31T12:00:00Z", false),
        ] {
            assert_eq!(period.holds(at(time)), holds, "{time}");
        }
        assert!(Period::default().holds(at("1969-12-31T23:59:59Z")));
    }

    #[test]
    fn the_table_for_all_regions_numbers_first() {
        let table = |region: &[&str], number, service: &str| LcnTable {
            target_regions: region.iter().map(|it| (*it).to_owned()).collect(),
            entries: vec![Lcn { number, service: service.into(), is_selectable: true, is_visible: true }],
        };
        let list = ServiceList {
            lcn_tables: vec![table(&["r"], 7, "a"), table(&[], 1, "a"), table(&["r"], 9, "b")],
            ..ServiceList::default()
        };
        let numbers = list.numbers();
        assert_eq!((numbers["a"].number, numbers["b"].number), (1, 9));
    }
}
