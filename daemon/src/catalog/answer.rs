//! Answers to televisions below `/dvb-i/` (TS 103 770 clauses 5.1.3 and 6): a query in, a document out.
//!
//! | path | parameters | answer |
//! |---|---|---|
//! | `/dvb-i/`, `/dvb-i/query` | `TargetCountry`, `Delivery`, `Language`, `Genre`, `ProviderName`, `regulatorListFlag` | service list entry points |
//! | `/dvb-i/service-list.xml`, `.json` | | the first list |
//! | `/dvb-i/lists/<key>` | `format=json` | a list |
//! | `/dvb-i/schedule` | `sids[]` or `sid`, with `start_unixtime` and `end_unixtime`, `now_next=true`, or `window=true` with `earlier` and `later` | schedules |
//! | `/dvb-i/program` | `pid` | one programme |
//! | `/dvb-i/more-episodes` | `pid`, `type=ondemand` | the episodes of its series |
//! | `/dvb-i/groups/categories`, `lists`, `contents` | `groupId`, `page` | box sets |
//! | `/dvb-i/player.aitx` | `pid` | the application that plays a title on demand: the page |

use std::sync::Arc;

use carousel::dvbi::entry_points::{EntryPoints, Offering, Provider, Query};
use carousel::dvbi::guide as tva;
use carousel::dvbi::list::{LIST_TYPE, Rendering, ServiceList};
use carousel::dvbi::{Edition, Text, relocate};
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use carousel::xml::Element;

use super::client::key_of;
use super::player;
use super::query::Pairs;
use super::{Client, List, Snapshot};
use crate::delivery::Flights;
use crate::origin::Origins;
use crate::store::{Store, StoredObject};

carousel::limits! {
    /// Span of one query for schedules.
    const MAX_SPAN_S: i64 = 8 * 86_400, "s" {
        why: "Televisions ask for three hours or a day; a guide has a week.",
        full: "The query is answered with 400.",
        free: "Holds for one query.",
        test: "queries_for_too_much_are_refused",
    }

    /// Services of one query for schedules.
    const MAX_SIDS: usize = 200, "services" {
        why: "A screen of a guide has some ten.",
        full: "The query is answered with 400.",
        free: "Holds for one query.",
        test: "queries_for_too_much_are_refused",
    }
}

/// Span from now on of a request without times.
const USUAL_SPAN_S: i64 = 6 * 3600;

/// Items on a page of a long answer.
const PAGE_ITEMS: usize = 50;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A document and its MIME type.
    Document(&'static str, Vec<u8>),
    /// The object of the request is not there; why.
    NotFound(String),
    /// The query makes no sense; why.
    Bad(String),
}

const XML: &str = "application/xml";
const JSON: &str = "application/json";

/// Objects that the daemon has or can fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holdings<'a> {
    pub(crate) store: &'a Store,
    pub(crate) flights: &'a Flights,
    pub(crate) origins: &'a Origins,
}

impl Holdings<'_> {
    /// Whether an object is in the cache, in flight, announced, or available from an origin.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.flights.expects_or_is_in(self.store, key.as_str()) || self.origins.url_for(key).is_some()
    }

    /// An object of the cache.
    fn stored(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.store.get(key.as_str())
    }
}

/// Everything that an answer is made from.
pub(crate) struct AnswerContext<'a> {
    snapshot: &'a Arc<Snapshot>,
    holdings: Holdings<'a>,
    client: &'a Client,
    now: WallTime,
    /// URL of the application that plays titles on demand.
    application: String,
}

impl<'a> AnswerContext<'a> {
    /// Takes the catalogue, the client and the time.
    pub(crate) fn new(
        snapshot: &'a Arc<Snapshot>,
        holdings: Holdings<'a>,
        client: &'a Client,
        now: WallTime,
    ) -> Self {
        Self { snapshot, holdings, client, now, application: client.url("/dvb-i/player.aitx") }
    }

    /// Answers what is asked for below `/dvb-i/`. Takes its time: lists of 10,000 services have megabytes.
    pub(crate) fn answer(&self, path: &str, query: Option<&str>) -> Answer {
        let pairs = Pairs::of(query);
        let answered = match path {
            "" | "query" => self.registry(&pairs),
            "service-list.xml" => self.first_list(false),
            "service-list.json" => self.first_list(true),
            "schedule" => self.schedule(&pairs),
            "program" => self.programme(&pairs),
            "more-episodes" => self.more_episodes(&pairs),
            "player.aitx" => Ok(self.player(&pairs)),
            _ => match (path.strip_prefix("lists/"), path.strip_prefix("groups/")) {
                (Some(key), _) => self.list_by_key(key, pairs.get("format") == Some("json")),
                (_, Some(what)) => self.groups(what, &pairs),
                _ => Err(Answer::NotFound(format!(
                    "there is no /dvb-i/{path}: ask for service-list.xml, service-list.json, query, schedule, program, \
                     more-episodes or groups/"
                ))),
            },
        };
        answered.unwrap_or_else(|not| not)
    }

    fn registry(&self, pairs: &Pairs) -> Result<Answer, Answer> {
        let query = Query::from_pairs(pairs.iter()).map_err(|err| Answer::Bad(err.to_string()))?;
        let document = self.entry_points().answer(&query).to_xml(Edition::default());
        Ok(Answer::Document(XML, document.into_bytes()))
    }

    /// The lists that the box has, at the box, as the entry points of the air offer them.
    fn entry_points(&self) -> EntryPoints {
        let mut providers: Vec<Provider> = Vec::new();
        for list in &self.snapshot.lists {
            let is_it = |it: &&Offering| {
                it.uris.iter().any(|(uri, _)| key_of(uri).is_some_and(|key| key == list.key))
            };
            let mut offering =
                self.snapshot.points.lists().find(is_it).cloned().unwrap_or_else(|| offering_of(&list.list));
            offering.uris =
                vec![(self.client.url(&format!("/dvb-i/lists/{}", list.key)), LIST_TYPE.to_owned())];
            if let Some(logo) = &mut offering.logo
                && let Some(moved) = self.client.moved(&logo.uri, |key| self.holdings.contains(key))
            {
                logo.uri = moved;
            }
            let names = list.list.providers.clone();
            match providers.iter_mut().find(|it| it.names == names) {
                Some(provider) => provider.lists.push(offering),
                None => providers.push(Provider { names, lists: vec![offering] }),
            }
        }
        let registry = vec![Text::new("", "Skycache")];
        EntryPoints { language: "en".to_owned(), registry, providers }
    }

    fn first_list(&self, as_json: bool) -> Result<Answer, Answer> {
        let list = self.snapshot.lists.first();
        let none = || Answer::NotFound("no service list has arrived yet".to_owned());
        self.list(list.ok_or_else(none)?, as_json)
    }

    fn list_by_key(&self, key: &str, as_json: bool) -> Result<Answer, Answer> {
        let list = self.snapshot.lists.iter().find(|it| it.key.as_str() == key);
        self.list(list.ok_or_else(|| Answer::NotFound(format!("there is no service list {key}")))?, as_json)
    }

    /// A list as it was sent, its locators moved to the box.
    fn list(&self, list: &List, as_json: bool) -> Result<Answer, Answer> {
        let gone = || Answer::NotFound(format!("{} is no longer in the cache", list.key));
        let object = self.holdings.stored(&list.key).ok_or_else(gone)?;
        let bytes = object.bytes(0..object.meta().length).ok_or_else(gone)?;
        let moved = relocate(&bytes, |open, locator| self.moved(open, locator));
        let moved = moved.map_err(|err| Answer::NotFound(format!("{}: {err}", list.key)))?;
        if !as_json {
            return Ok(Answer::Document(LIST_TYPE, moved));
        }
        let (list, _) = ServiceList::parse(&moved).map_err(|err| Answer::NotFound(err.to_string()))?;
        Ok(Answer::Document(JSON, serde_json::to_vec(&Rendering::of(&list)).unwrap_or_default()))
    }

    /// A locator of a list: guides that the box has are requested from the box, media and pictures from their own URLs.
    fn moved(&self, open: &[String], locator: &str) -> Option<String> {
        let endpoint = open.iter().rev().nth(1).and_then(|name| match name.as_str() {
            "ScheduleInfoEndpoint" => Some("schedule"),
            "ProgramInfoEndpoint" => Some("program"),
            "GroupInfoEndpoint" => Some("groups/"),
            "MoreEpisodesEndpoint" => Some("more-episodes"),
            _ => None,
        });
        match endpoint {
            None => self.client.moved(locator, |key| self.holdings.contains(key)),
            Some(endpoint) => {
                let key = key_of(locator)?;
                let is_here = |folder: &String| key.as_str().starts_with(folder.as_str());
                self.snapshot
                    .guide_folders
                    .iter()
                    .any(is_here)
                    .then(|| self.client.url(&format!("/dvb-i/{endpoint}")))
            }
        }
    }

    fn options(&self) -> tva::Options<'_> {
        let language = self.snapshot.lists.first().map_or("", |it| it.list.language.as_str());
        let language = if language.is_empty() { "en" } else { language };
        tva::Options { language, player: Some(&self.application), ..tva::Options::default() }
    }

    /// The application that plays a title: of a programme on demand the service that offers it.
    fn player(&self, pairs: &Pairs) -> Answer {
        let crid = pairs.get("pid");
        let title = self.snapshot.guide.on_demand.iter().find(|it| Some(it.programme.as_str()) == crid);
        Answer::Document(player::TYPE, player::ait(self.client, title.map(|it| it.service.as_str())))
    }

    /// Number of the page of a long answer that is asked for.
    fn page_number(pairs: &Pairs) -> Result<usize, Answer> {
        let number = pairs.number("page").map_err(Answer::Bad)?.unwrap_or(1);
        Ok(usize::try_from(number).unwrap_or(1).max(1))
    }

    /// The URL of another page of an answer.
    fn link(&self, path: &str, name: &str, id: &str, number: usize) -> String {
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        self.client.url(&format!("/dvb-i/{path}?{name}={id}&page={number}"))
    }

    /// A guide's document, its locators moved to the box.
    fn document(&self, document: &Element) -> Answer {
        let text = tva::to_xml(document);
        let moved = relocate(text.as_bytes(), |open, locator| self.moved(open, locator));
        Answer::Document(XML, moved.unwrap_or_else(|_| text.into_bytes()))
    }

    /// Names in the guide of services, which a query may name by their UniqueIdentifiers too.
    fn services<'b>(&'b self, pairs: &'b Pairs) -> Result<Vec<&'b str>, Answer> {
        let asked: Vec<&str> = pairs.all("sids").chain(pairs.all("sid")).take(MAX_SIDS + 1).collect();
        if asked.is_empty() {
            return Err(Answer::Bad("name services: sids[]=… or sid=…".to_owned()));
        }
        if asked.len() > MAX_SIDS {
            return Err(Answer::Bad(format!("{MAX_SIDS} services at a time")));
        }
        let of_id = |id: &'b str| {
            let services = self.snapshot.lists.iter().flat_map(|it| &it.list.services);
            let service = services.into_iter().find(|it| it.id == id);
            service.and_then(|it| it.guide_service.as_deref()).unwrap_or(id)
        };
        Ok(asked.into_iter().map(of_id).collect())
    }

    fn schedule(&self, pairs: &Pairs) -> Result<Answer, Answer> {
        let (guide, options) = (&self.snapshot.guide, self.options());
        let services = self.services(pairs)?;
        let is = |name: &str| pairs.get(name) == Some("true");
        if is("now_next") {
            let document = tva::now_next(guide, &services, self.now, &options);
            return document.map(|it| self.document(&it)).ok_or_else(|| nothing("now or next"));
        }
        if is("window") {
            let service = services.first().copied().unwrap_or_default();
            let count = |name: &str| pairs.number(name).map_err(Answer::Bad);
            let events = |it: Option<i64>| it.map_or(tva::MAX_WINDOW, |it| usize::try_from(it).unwrap_or(0));
            let (earlier, later) = (events(count("earlier")?), events(count("later")?));
            let document = tva::window(guide, service, self.now, earlier, later, &options);
            return document.map(|it| self.document(&it)).ok_or_else(|| nothing("around now"));
        }
        let time = |name: &str| pairs.number(name).map_err(Answer::Bad);
        let from_s = time("start_unixtime")?.unwrap_or_else(|| self.now.unix_ms().div_euclid(1000));
        let to_s = time("end_unixtime")?.unwrap_or_else(|| from_s.saturating_add(USUAL_SPAN_S));
        let span_s = to_s.saturating_sub(from_s);
        if !(1..=MAX_SPAN_S).contains(&span_s) || !(0..=253_402_300_799).contains(&from_s) {
            return Err(Answer::Bad(format!(
                "from start_unixtime={from_s} to end_unixtime={to_s}: give a span of up to 8 days"
            )));
        }
        let at = |s: i64| WallTime::from_unix_ms(s * 1000);
        let document = tva::schedule(guide, &services, at(from_s), at(to_s), &options);
        document.map(|it| self.document(&it)).ok_or_else(|| nothing("these services"))
    }

    fn programme(&self, pairs: &Pairs) -> Result<Answer, Answer> {
        let crid =
            pairs.get("pid").ok_or_else(|| Answer::Bad("name a programme: pid=crid://…".to_owned()))?;
        let document = tva::programme(&self.snapshot.guide, crid, self.now, &self.options());
        document.map(|it| self.document(&it)).ok_or_else(|| nothing(crid))
    }

    fn more_episodes(&self, pairs: &Pairs) -> Result<Answer, Answer> {
        let crid =
            pairs.get("pid").ok_or_else(|| Answer::Bad("name a programme: pid=crid://…".to_owned()))?;
        let showings = match pairs.get("type") {
            Some("ondemand") => tva::Showings::OnDemand,
            _ => tva::Showings::All,
        };
        let guide = &self.snapshot.guide;
        let link = |number| self.link("more-episodes", "pid", crid, number);
        let page = tva::Page { number: Self::page_number(pairs)?, items: PAGE_ITEMS, link: &link };
        let document = tva::more_episodes(guide, crid, showings, self.now, Some(page), &self.options());
        document.map(|it| self.document(&it)).ok_or_else(|| nothing(crid))
    }

    fn groups(&self, what: &str, pairs: &Pairs) -> Result<Answer, Answer> {
        let (guide, options) = (&self.snapshot.guide, self.options());
        let mut ids = ["groupIds", "groupId", "pid"].into_iter().flat_map(|name| pairs.all(name));
        let id = ids.next();
        let named = || id.ok_or_else(|| Answer::Bad("name a group: groupId=crid://…".to_owned()));
        let document = match what {
            "" | "categories" => tva::box_set_categories(guide, &options),
            "lists" => tva::box_set_lists(guide, named()?, &options),
            "contents" => {
                let id = named()?;
                let link = |number| self.link("groups/contents", "groupId", id, number);
                let page = tva::Page { number: Self::page_number(pairs)?, items: PAGE_ITEMS, link: &link };
                tva::box_set_contents(guide, id, self.now, Some(page), &options)
            }
            _ => {
                return Err(Answer::NotFound(
                    "there are groups/categories, groups/lists and groups/contents".to_owned(),
                ));
            }
        };
        document.map(|it| self.document(&it)).ok_or_else(|| nothing(id.unwrap_or("box sets")))
    }
}

fn nothing(what: &str) -> Answer {
    let what: String = what.chars().take(200).collect();
    Answer::NotFound(format!("the guide has nothing of {what}"))
}

/// Offer of a list that no entry points name.
fn offering_of(list: &ServiceList) -> Offering {
    use carousel::dvbi::entry_points::DeliveryKind;
    use carousel::dvbi::list::Delivery;
    let instances = list.services.iter().flat_map(|it| &it.instances);
    let delivery = instances.filter_map(|it| match &it.delivery {
        Delivery::Dash { .. } => Some(DeliveryKind::Dash),
        Delivery::MulticastTs { .. } => Some(DeliveryKind::MulticastTs),
        _ => None,
    });
    let mut delivery: Vec<DeliveryKind> = delivery.collect();
    delivery.sort_unstable();
    delivery.dedup();
    Offering {
        id: list.id.clone(),
        names: list.names.clone(),
        delivery,
        languages: Some(list.language.clone()).filter(|it| !it.is_empty()).into_iter().collect(),
        ..Offering::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_for_too_much_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = super::super::tests::store(&folder);
        let (flights, origins) = (Flights::new(), Origins::new(Vec::new(), Vec::new()));
        let holdings = Holdings { store: &store, flights: &flights, origins: &origins };
        let (snapshot, now) = (Arc::new(Snapshot::default()), WallTime::from_unix_ms(0));
        let client = Client::of(Some("box"), false).unwrap();
        let asked = AnswerContext::new(&snapshot, holdings, &client, now);
        let schedule = |services: usize, span_s: i64| {
            let query = format!("start_unixtime=0&end_unixtime={span_s}{}", "&sids[]=x".repeat(services));
            matches!(asked.answer("schedule", Some(&query)), Answer::Bad(_))
        };
        assert!(!schedule(MAX_SIDS, MAX_SPAN_S));
        assert!(schedule(MAX_SIDS + 1, MAX_SPAN_S) && schedule(MAX_SIDS, MAX_SPAN_S + 1));
    }
}
