//! Service list entry points (TS 103 770 clauses 5.1.3 and 5.3): responses of a registry, and the queries that filter
//! them. On DVB-NIP they come over the announcement channel; a box answers the same queries for its own lists.

use std::fmt;

use super::edition::Edition;
use super::list::LIST_TYPE;
use super::{Image, Text};
use crate::limits;
use crate::xml::{self, Element, XML_NAMESPACE, XmlError};

limits! {
    /// Lists that one document offers.
    const MAX_OFFERINGS: usize = 4096, "lists" {
        why: "SES offers 3, a national registry some hundred.",
        full: "Further lists are ignored.",
        free: "Holds for one document.",
        test: "offerings_beyond_the_limit_are_ignored_and_the_next_document_is_read",
    }

    /// URIs, names, languages and other repeated elements of one list that is offered.
    const MAX_OF_EACH: usize = 64, "elements" {
        why: "A list has one or two of each.",
        full: "Further ones are ignored.",
        free: "Holds for one list.",
        test: "offerings_beyond_the_limit_are_ignored_and_the_next_document_is_read",
    }
}

/// Service list entry points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryPoints {
    /// `@xml:lang`.
    pub language: String,
    /// Operator of the registry.
    pub registry: Vec<Text>,
    /// Providers and their lists.
    pub providers: Vec<Provider>,
}

/// A provider and its lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provider {
    /// Names.
    pub names: Vec<Text>,
    /// Lists.
    pub lists: Vec<Offering>,
}

/// An offered list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offering {
    /// ServiceListId: the list's `@id`.
    pub id: String,
    /// Names.
    pub names: Vec<Text>,
    /// Its URLs with MIME types.
    pub uris: Vec<(String, String)>,
    /// Ways of delivery of its services.
    pub delivery: Vec<DeliveryKind>,
    /// Orbital positions in degrees, if `delivery` has [`DeliveryKind::Dvbs`].
    pub orbital_positions: Vec<String>,
    /// Languages of its services.
    pub languages: Vec<String>,
    /// Hrefs of genres.
    pub genres: Vec<String>,
    /// ISO 3166 alpha-3 codes.
    pub countries: Vec<String>,
    /// Logo.
    pub logo: Option<Image>,
    /// Whether it is a regulator's list.
    pub is_regulators: bool,
}

/// Ways of delivery of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryKind {
    /// DASHDelivery.
    Dash,
    /// DVBTDelivery.
    Dvbt,
    /// DVBCDelivery.
    Dvbc,
    /// DVBSDelivery.
    Dvbs,
    /// RTSPDelivery.
    Rtsp,
    /// MulticastTSDelivery.
    MulticastTs,
    /// ApplicationDelivery.
    Application,
}

impl DeliveryKind {
    /// In the order of the schema.
    pub const ALL: [Self; 7] =
        [Self::Dash, Self::Dvbt, Self::Dvbc, Self::Dvbs, Self::Rtsp, Self::MulticastTs, Self::Application];

    /// The element's name without `Delivery`; in queries in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dash => "DASH",
            Self::Dvbt => "DVBT",
            Self::Dvbc => "DVBC",
            Self::Dvbs => "DVBS",
            Self::Rtsp => "RTSP",
            Self::MulticastTs => "MulticastTS",
            Self::Application => "Application",
        }
    }

    /// Parses the name in a query: `dvb-dash`, `dvb-s`, `dvb-iptv`, or the element's name.
    fn from_query(text: &str) -> Option<Self> {
        let text = text.trim();
        let known = match text {
            "dvb-dash" => Some(Self::Dash),
            "dvb-t" => Some(Self::Dvbt),
            "dvb-c" => Some(Self::Dvbc),
            "dvb-s" => Some(Self::Dvbs),
            "dvb-iptv" => Some(Self::MulticastTs),
            "application" => Some(Self::Application),
            _ => None,
        };
        known.or_else(|| Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text)))
    }
}

/// A query of a registry: empty fields do not filter. Values are compared literally.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// `TargetCountry`.
    pub countries: Vec<String>,
    /// `regulatorListFlag`.
    pub is_regulators: Option<bool>,
    /// `Delivery`.
    pub delivery: Vec<DeliveryKind>,
    /// `Language`.
    pub languages: Vec<String>,
    /// `Genre`.
    pub genres: Vec<String>,
    /// `ProviderName`.
    pub providers: Vec<String>,
}

/// The invalid part of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// `regulatorListFlag` is neither true nor false.
    RegulatorListFlag(String),
    /// `Delivery` is not known.
    Delivery(String),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegulatorListFlag(value) => {
                write!(f, "regulatorListFlag={value:?} is neither true nor false")
            }
            Self::Delivery(value) => write!(f, "Delivery={value:?} is not known"),
        }
    }
}

impl std::error::Error for QueryError {}

impl Query {
    /// Parses the decoded pairs of a query. Names may end with `[]`; values may be comma-separated lists, except names of
    /// providers.
    ///
    /// # Errors
    /// One line about the invalid part, for the client.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for (name, value) in pairs {
            let values = || value.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
            match name.trim_end_matches("[]") {
                "TargetCountry" => query.countries.extend(values()),
                "Language" => query.languages.extend(values()),
                "Genre" => query.genres.extend(values()),
                "ProviderName" => query.providers.push(value.to_owned()),
                "regulatorListFlag" => {
                    query.is_regulators =
                        Some(value.parse().map_err(|_| QueryError::RegulatorListFlag(value.to_owned()))?);
                }
                "Delivery" => {
                    for value in values() {
                        let kind = DeliveryKind::from_query(&value);
                        query.delivery.push(kind.ok_or(QueryError::Delivery(value))?);
                    }
                }
                // Ignore parameters of later editions.
                _ => {}
            }
        }
        Ok(query)
    }
}

impl EntryPoints {
    /// Reads entry points of any edition.
    ///
    /// # Errors
    /// Not XML, or another root.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let root = xml::parse(bytes)?;
        if root.name != "ServiceListEntryPoints" {
            return Err(XmlError::Missing { what: "ServiceListEntryPoints", within: root.name });
        }
        let mut room = MAX_OFFERINGS;
        let mut providers = Vec::new();
        for offering in root.all("ProviderOffering").take(MAX_OFFERINGS) {
            let lists: Vec<Offering> =
                offering.all("ServiceListOffering").take(room).map(Offering::read).collect();
            room -= lists.len();
            let names = offering.find("Provider").map(names_of).unwrap_or_default();
            providers.push(Provider { names, lists });
        }
        Ok(Self {
            language: root.attribute("lang").unwrap_or_default().to_owned(),
            registry: root.find("ServiceListRegistryEntity").map(names_of).unwrap_or_default(),
            providers,
        })
    }

    /// All lists.
    pub fn lists(&self) -> impl Iterator<Item = &Offering> {
        self.providers.iter().flat_map(|provider| &provider.lists)
    }

    /// The lists selected by a query.
    #[must_use]
    pub fn answer(&self, query: &Query) -> Self {
        let providers = self.providers.iter().filter(|provider| {
            let is_meant = |text: &Text| query.providers.contains(&text.text);
            query.providers.is_empty() || provider.names.iter().any(is_meant)
        });
        let providers = providers.map(|provider| Provider {
            names: provider.names.clone(),
            lists: provider.lists.iter().filter(|list| list.suits(query)).cloned().collect(),
        });
        Self {
            language: self.language.clone(),
            registry: self.registry.clone(),
            providers: providers.filter(|provider| !provider.lists.is_empty()).collect(),
        }
    }

    /// Writes the document of an edition.
    pub fn to_xml(&self, edition: Edition) -> String {
        let own = edition.discovery_namespace();
        let types = edition.types_namespace().unwrap_or_else(|| own.clone());
        let tva = edition.tva_namespace();
        let organization = |name: &str, names: &[Text]| {
            let names = names.iter().map(|text| text_element(&own, "Name", text));
            Element::new(&own, name).extend(names)
        };
        let providers = self.providers.iter().map(|provider| {
            Element::new(&own, "ProviderOffering")
                .child(organization("Provider", &provider.names))
                .extend(provider.lists.iter().map(|list| list.element(edition, &own, &types, &tva)))
        });
        let mut root = Element::new(&own, "ServiceListEntryPoints");
        if edition >= Edition::R3 {
            let language = if self.language.is_empty() { "en" } else { &self.language };
            root = root.attr_ns(XML_NAMESPACE, "lang", language);
        }
        let root = root.child(organization("ServiceListRegistryEntity", &self.registry)).extend(providers);
        xml::write(&root, &[(&types, "dvbi-types"), (&tva, "tva")])
    }
}

fn text_element(namespace: &str, name: &str, text: &Text) -> Element {
    let out = Element::new(namespace, name).with_text(&text.text);
    if text.language.is_empty() { out } else { out.attr_ns(XML_NAMESPACE, "lang", &text.language) }
}

fn texts(element: &Element, name: &str) -> Vec<Text> {
    let all = element.all(name).take(MAX_OF_EACH).filter(|it| !it.text.is_empty());
    all.map(|it| Text::new(it.attribute("lang").unwrap_or_default(), &it.text)).collect()
}

fn names_of(organization: &Element) -> Vec<Text> {
    texts(organization, "Name")
}

impl Offering {
    fn read(element: &Element) -> Self {
        let uris = element.all("ServiceListURI").take(MAX_OF_EACH).filter_map(|uri| {
            let content_type = uri.attribute("contentType").unwrap_or_default();
            Some((uri.child_text("URI")?.to_owned(), content_type.to_owned()))
        });
        let delivery = element.find("Delivery");
        let has = |kind: &DeliveryKind| {
            delivery.is_some_and(|it| it.find(&format!("{}Delivery", kind.as_str())).is_some())
        };
        let leaves = |name: &str| -> Vec<String> {
            let all = element.all(name).take(MAX_OF_EACH).flat_map(|it| it.text.split([',', ' ']));
            all.filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        let genres = element.all("Genre").take(MAX_OF_EACH).filter_map(|it| it.attribute("href"));
        let dvbs = delivery.into_iter().flat_map(|it| it.all("DVBSDelivery"));
        let positions = dvbs.flat_map(|it| it.all("OrbitalPosition")).take(MAX_OF_EACH);
        let logo = element.all("RelatedMaterial").find_map(|it| {
            let uri = it.find("MediaLocator")?.find("MediaUri")?;
            let content_type = uri.attribute("contentType").unwrap_or_default().to_owned();
            Some(Image { uri: uri.text.clone(), content_type })
        });
        Self {
            id: element.child_text("ServiceListId").unwrap_or_default().to_owned(),
            names: texts(element, "ServiceListName"),
            uris: uris.collect(),
            delivery: DeliveryKind::ALL.into_iter().filter(has).collect(),
            orbital_positions: positions.map(|it| it.text.clone()).collect(),
            languages: leaves("Language"),
            genres: genres.map(str::to_owned).collect(),
            countries: leaves("TargetCountry"),
            logo,
            is_regulators: element.attribute("regulatorListFlag") == Some("true"),
        }
    }

    fn suits(&self, query: &Query) -> bool {
        fn meets<T: PartialEq>(asked: &[T], have: &[T]) -> bool {
            asked.is_empty() || asked.iter().any(|it| have.contains(it))
        }
        meets(&query.countries, &self.countries)
            && meets(&query.languages, &self.languages)
            && meets(&query.genres, &self.genres)
            && meets(&query.delivery, &self.delivery)
            && query.is_regulators.is_none_or(|it| it == self.is_regulators)
    }

    fn element(&self, edition: Edition, own: &str, types: &str, tva: &str) -> Element {
        let new = |name: &str| Element::new(types, name);
        let uris = self.uris.iter().map(|(uri, content_type)| {
            let content_type = match content_type.as_str() {
                "" | LIST_TYPE if edition >= Edition::R7 => "application/xml",
                "" => LIST_TYPE,
                other => other,
            };
            // Before there was a namespace for shared types, they used that of lists.
            let namespace = edition.types_namespace().unwrap_or_else(|| edition.list_namespace());
            let uri = Element::new(&namespace, "URI").with_text(uri);
            new("ServiceListURI").attr("contentType", content_type).child(uri)
        });
        let mut kinds: Vec<DeliveryKind> = self.delivery.clone();
        kinds.sort_unstable();
        kinds.dedup();
        // An application needs its type, a satellite its position: without them the element is omitted.
        let can_be_said = |kind: &DeliveryKind| match kind {
            DeliveryKind::Application => false,
            DeliveryKind::Dvbs => !self.orbital_positions.is_empty(),
            _ => true,
        };
        let delivery = kinds.into_iter().filter(can_be_said).map(|kind| {
            let out = new(&format!("{}Delivery", kind.as_str()));
            if kind == DeliveryKind::Dvbs {
                out.extend(self.orbital_positions.iter().map(|it| new("OrbitalPosition").with_text(it)))
            } else {
                out
            }
        });
        let logo = self.logo.as_ref().filter(|_| edition >= Edition::R5).map(|logo| {
            let href = "urn:dvb:metadata:cs:HowRelatedCS:2021:1001.1";
            let uri = Element::new(tva, "MediaUri").attr("contentType", &logo.content_type);
            new("RelatedMaterial")
                .child(Element::new(tva, "HowRelated").attr("href", href))
                .child(Element::new(tva, "MediaLocator").child(uri.with_text(&logo.uri)))
        });
        let mut out = Element::new(own, "ServiceListOffering")
            .attr_opt("regulatorListFlag", self.is_regulators.then_some("true"))
            .extend(self.names.iter().map(|text| text_element(types, "ServiceListName", text)))
            .extend(uris)
            .extend((edition >= Edition::R2).then(|| new("Delivery").extend(delivery)))
            .extend(self.languages.iter().map(|it| new("Language").with_text(it)))
            .extend(self.genres.iter().map(|href| new("Genre").attr("href", href)))
            .extend(self.countries.iter().map(|it| new("TargetCountry").with_text(it)))
            .extend(logo);
        if edition >= Edition::R6 && !self.id.is_empty() {
            out = out.child(new("ServiceListId").with_text(&self.id));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ours() -> EntryPoints {
        let list = |id: &str, country: &str, delivery: Vec<DeliveryKind>| Offering {
            id: format!("tag:example.com,2026:{id}"),
            names: vec![Text::new("", id), Text::new("de", "Liste")],
            uris: vec![(format!("http://dvb.gw/x/{id}.xml"), LIST_TYPE.to_owned())],
            orbital_positions: vec!["19.2".to_owned(); usize::from(delivery.contains(&DeliveryKind::Dvbs))],
            delivery,
            languages: vec!["en".to_owned()],
            genres: vec!["urn:tva:metadata:cs:ContentCS:2011:3.1".to_owned()],
            countries: vec![country.to_owned()],
            logo: Some(Image { uri: "http://dvb.gw/x/l.png".into(), content_type: "image/png".into() }),
            is_regulators: id == "a",
        };
        EntryPoints {
            language: "en".to_owned(),
            registry: vec![Text::new("", "Registry")],
            providers: vec![
                Provider {
                    names: vec![Text::new("", "One")],
                    lists: vec![
                        list("a", "LUX", vec![DeliveryKind::Dash]),
                        list("b", "DEU", vec![DeliveryKind::Dash, DeliveryKind::Dvbs]),
                    ],
                },
                Provider {
                    names: vec![Text::new("", "Two")],
                    lists: vec![list("c", "LUX", vec![DeliveryKind::MulticastTs])],
                },
            ],
        }
    }

    #[test]
    fn a_broadcasters_entry_points() {
        let path = format!("{}/../../shared/schemas/nip/ses-capture/slep.xml", env!("CARGO_MANIFEST_DIR"));
        let Ok(bytes) = std::fs::read(path) else {
            eprintln!("SKIPPED: ses-capture/slep.xml is not here");
            return;
        };
        let points = EntryPoints::parse(&bytes).unwrap();
        let uris: Vec<&str> = points.lists().flat_map(|it| &it.uris).map(|it| it.0.as_str()).collect();
        assert_eq!(uris.len(), 3);
        assert_eq!(uris[0], "http://dvb.gw/ses.com/dvbi/service_list_full.xml");
        let first = points.lists().next().unwrap();
        assert_eq!(
            (first.countries.as_slice(), first.delivery.as_slice()),
            (&["LUX".to_owned()][..], &[DeliveryKind::Dash][..])
        );
        assert_eq!(points.registry[0].text, "SES DVB-NIP");
    }

    #[test]
    fn what_is_written_is_read() {
        for edition in Edition::ALL {
            let read = EntryPoints::parse(ours().to_xml(edition).as_bytes()).unwrap();
            assert_eq!(read.lists().count(), 3, "{edition}");
            if edition == Edition::R6 {
                assert_eq!(read, ours(), "{edition}");
            }
        }
    }

    #[test]
    fn queries_narrow_down() {
        let ids = |pairs: &[(&str, &str)]| -> String {
            let answer = ours().answer(&Query::from_pairs(pairs.iter().copied()).unwrap());
            answer.lists().map(|it| it.id.rsplit(':').next().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(&[]), "abc");
        assert_eq!(ids(&[("TargetCountry", "LUX")]), "ac");
        assert_eq!(ids(&[("TargetCountry[]", "LUX"), ("TargetCountry[]", "DEU")]), "abc");
        assert_eq!(ids(&[("TargetCountry", "lux")]), "");
        assert_eq!(ids(&[("Delivery", "dvb-s")]), "b");
        assert_eq!(ids(&[("Delivery", "dvb-dash,dvb-iptv"), ("TargetCountry", "LUX")]), "ac");
        assert_eq!(ids(&[("ProviderName", "Two")]), "c");
        assert_eq!(ids(&[("regulatorListFlag", "true")]), "a");
        assert_eq!(ids(&[("regulatorListFlag", "false"), ("Language", "en"), ("Later", "x")]), "bc");
        assert!(Query::from_pairs([("regulatorListFlag", "maybe")]).is_err());
        assert!(Query::from_pairs([("Delivery", "pigeon")]).is_err());
    }

    #[test]
    fn offerings_beyond_the_limit_are_ignored_and_the_next_document_is_read() {
        let provider = |count: usize| {
            format!("<ProviderOffering>{}</ProviderOffering>", "<ServiceListOffering/>".repeat(count))
        };
        let lists = |providers: &str| {
            let document = format!("<ServiceListEntryPoints>{providers}</ServiceListEntryPoints>");
            let points = EntryPoints::parse(document.as_bytes()).unwrap();
            points.providers.iter().map(|it| it.lists.len()).collect::<Vec<_>>()
        };
        // Lists of all providers together, and providers.
        assert_eq!(
            lists(&(provider(MAX_OFFERINGS - 1) + &provider(3) + &provider(1))),
            [MAX_OFFERINGS - 1, 1, 0]
        );
        assert_eq!(lists(&provider(0).repeat(MAX_OFFERINGS + 1)).len(), MAX_OFFERINGS);
        assert_eq!(lists(&provider(2)), [2]);
        let uris = "<ServiceListURI><URI>http://a/</URI></ServiceListURI>".repeat(MAX_OF_EACH + 1);
        let document = format!(
            "<ServiceListEntryPoints><ProviderOffering><ServiceListOffering>{uris}</ServiceListOffering>\
             </ProviderOffering></ServiceListEntryPoints>"
        );
        let points = EntryPoints::parse(document.as_bytes()).unwrap();
        assert_eq!(points.providers[0].lists[0].uris.len(), MAX_OF_EACH);
    }

    proptest! {
        #[test]
        fn no_document_panics(text in "<ServiceListEntryPoints>([ -~]|</?[A-Za-z]{1,20}/?>){0,40}") {
            let _ = EntryPoints::parse(text.as_bytes());
            let _ = EntryPoints::parse(format!("{text}</ServiceListEntryPoints>").as_bytes());
        }
    }
}
