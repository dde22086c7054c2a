//! Channels and titles for the page: the services of all lists, each once, and manifests in the cache that no service names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use carousel::dvbi::guide::{Event, Guide};
use carousel::dvbi::list::{
    ContentAttributes, DASH_TYPE, Delivery, Dvbs, HLS_TYPE, Instance, Period, PictureKind, Service,
    ServiceKind,
};
use carousel::dvbi::{Text, genre, is_hls};
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use serde_json::{Map, Value, json};

use super::client::key_of;
use super::{List, Snapshot};

carousel::limits! {
    /// Titles that are shown of manifests without a service.
    pub(super) const MAX_FILES: usize = 500, "titles" {
        why: "More cannot be browsed.",
        full: "The last by name are left out; of manifests four times as many are considered.",
        free: "When a manifest leaves the cache.",
        test: "titles_without_a_service_are_bounded",
    }
}

/// One thing to watch.
#[derive(Debug, Clone)]
pub struct Title {
    /// UniqueIdentifier; of a manifest without a service `file:` and its folder.
    pub id: String,
    /// Channel number.
    pub number: Option<u32>,
    names: Vec<Text>,
    descriptions: Vec<Text>,
    language: String,
    logo: Option<String>,
    banner: Option<String>,
    kind: Option<ServiceKind>,
    genres: Vec<String>,
    picture: Option<String>,
    minimum_age: Option<u8>,
    ways: Vec<Way>,
    others: Vec<String>,
    /// Its name in the guide.
    guide_id: String,
    duration_ms: Option<i64>,
    /// Names, in lower case, for searches.
    sought: String,
}

/// Selection of titles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TitleSelector {
    /// Every one.
    All,
    /// Those with this text in a name, in lower case, or as their number.
    Named(String),
    /// The channel of this number.
    Number(i64),
    /// The one of this id.
    Id(String),
}

/// One way to play it.
#[derive(Debug, Clone)]
pub struct Way {
    /// MIME type.
    pub content_type: String,
    /// Key of the manifest or file.
    pub key: ObjectKey,
    availability: Vec<Period>,
}

impl Way {
    fn is_available(&self, now: WallTime) -> bool {
        self.availability.is_empty() || self.availability.iter().any(|it| it.holds(now))
    }
}

/// All titles: services by channel number, then by name, then files. `names`: titles of manifests in their own metadata.
pub(super) fn titles(
    lists: &[List],
    guide: &Guide,
    manifests: &BTreeSet<String>,
    names: &BTreeMap<String, String>,
) -> Vec<Title> {
    let mut titles: Vec<Title> = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    let mut named: HashSet<String> = HashSet::new();
    let durations: HashMap<&str, i64> =
        guide.on_demand.iter().map(|it| (it.service.as_str(), it.duration_ms)).collect();
    for List { list, .. } in lists {
        let numbers = list.numbers();
        for service in &list.services {
            let lcn = numbers.get(service.id.as_str());
            if lcn.is_some_and(|it| !it.is_visible) || !known.insert(&service.id) {
                continue;
            }
            let mut title = Title::of_service(service, &list.language);
            title.number = lcn.map(|it| it.number);
            title.duration_ms = durations.get(service.id.as_str()).copied();
            named.extend(title.ways.iter().map(|it| it.key.as_str().to_owned()));
            titles.push(title);
        }
    }
    titles.sort_by(|a, b| {
        let order = |it: &Title| (it.number.is_none(), it.number);
        order(a).cmp(&order(b)).then_with(|| a.sought.cmp(&b.sought))
    });
    titles.extend(files(manifests, &named, names));
    titles
}

/// Manifests that no service names: those of one folder are one title, those of folders inside are its parts.
fn files(
    manifests: &BTreeSet<String>,
    named: &HashSet<String>,
    names: &BTreeMap<String, String>,
) -> Vec<Title> {
    let folder = |key: &str| key.rfind('/').map_or(String::new(), |at| key[..=at].to_owned());
    let services: HashSet<String> = named.iter().map(|key| folder(key)).collect();
    let folders: BTreeSet<String> = manifests.iter().map(|key| folder(key)).collect();
    let is_part = |of: &str| {
        let mut above = of.trim_end_matches('/');
        while let Some(at) = above.rfind('/') {
            if folders.contains(&above[..=at]) || services.contains(&above[..=at]) {
                return true;
            }
            above = &above[..at];
        }
        services.contains(of)
    };
    let mut found: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for key in manifests {
        let of = folder(key);
        if !is_part(&of) {
            found.entry(of).or_default().push(key);
        }
    }
    found.into_iter().take(MAX_FILES).filter_map(|(of, keys)| Title::of_files(&of, &keys, names)).collect()
}

impl Title {
    fn of_service(service: &Service, language: &str) -> Self {
        let mut instances: Vec<&Instance> = service.instances.iter().collect();
        instances.sort_by_key(|it| it.priority);
        let (mut ways, mut others) = (Vec::new(), Vec::new());
        for instance in &instances {
            let locator = instance.delivery.locator();
            let key = locator.and_then(|(uri, _)| key_of(uri));
            match (locator, key) {
                (Some((_, content_type)), Some(key)) => ways.push(Way {
                    content_type: content_type.to_owned(),
                    key,
                    availability: instance.availability.clone(),
                }),
                _ => others.extend(described(&instance.delivery)),
            }
        }
        let content = instances.iter().map(|it| &it.content).find(|it| !it.video.is_empty());
        let of_kind =
            |kind| service.pictures.iter().find(|it| it.kind == kind).map(|it| it.image.uri.clone());
        let (logo, banner) = (of_kind(PictureKind::Logo), of_kind(PictureKind::Banner));
        let names: Vec<String> = service.names.iter().map(|it| it.text.to_lowercase()).collect();
        Self {
            id: service.id.clone(),
            number: None,
            names: service.names.clone(),
            descriptions: service.descriptions.clone(),
            language: language.to_owned(),
            logo,
            banner,
            kind: Some(service.kind),
            genres: service
                .genres
                .iter()
                .filter_map(|href| genre::name_of(href))
                .map(str::to_owned)
                .collect(),
            picture: content.and_then(picture),
            minimum_age: service.minimum_age,
            ways,
            others,
            guide_id: service.guide_service.clone().unwrap_or_else(|| service.id.clone()),
            duration_ms: None,
            sought: names.join("\n"),
        }
    }

    /// Named by the metadata of what is played, else of a part in a folder inside, else by the folder.
    fn of_files(folder: &str, keys: &[&String], names: &BTreeMap<String, String>) -> Option<Self> {
        let is = |key: &&&String, ending: &str| {
            key.split('?').next().unwrap_or_default().to_ascii_lowercase().ends_with(ending)
        };
        // One of several playlists in a folder leads to the others, most often the one with the shortest name.
        let likeliest = |ending: &str| {
            let all = keys.iter().filter(|key| is(key, ending));
            let of_name =
                |key: &str| ["master", "index", "main", "manifest"].iter().any(|it| key.contains(it));
            let rank = |key: &&&String| (!of_name(key.rsplit('/').next().unwrap_or_default()), key.len());
            all.min_by_key(rank)
        };
        let way = |key: &&String, content_type: &str| {
            let key = ObjectKey::from_kept(key).ok()?;
            Some(Way { content_type: content_type.to_owned(), key, availability: Vec::new() })
        };
        let dash = likeliest(".mpd").and_then(|key| way(key, DASH_TYPE));
        let hls = likeliest(".m3u8").and_then(|key| way(key, HLS_TYPE));
        let ways: Vec<Way> = dash.into_iter().chain(hls).collect();
        let own = || ways.iter().find_map(|way| names.get(way.key.as_str()));
        let of_part = || {
            let (key, name) = names.range(folder.to_owned()..).next()?;
            key.starts_with(folder).then_some(name)
        };
        let name = own().or_else(of_part).cloned().unwrap_or_else(|| {
            let path = folder.trim_end_matches('/');
            let last = path.rsplit('/').next().unwrap_or(path);
            percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned()
        });
        (!ways.is_empty()).then(|| Self {
            id: format!("file:{folder}"),
            number: None,
            names: vec![Text::new("", name.clone())],
            descriptions: vec![Text::new("", folder)],
            language: String::new(),
            logo: None,
            banner: None,
            kind: None,
            genres: Vec::new(),
            picture: None,
            minimum_age: None,
            ways,
            others: Vec::new(),
            guide_id: String::new(),
            duration_ms: None,
            sought: name.to_lowercase(),
        })
    }

    /// Its name for a reader of `language`.
    pub fn name(&self, language: &str) -> &str {
        Text::choose(&self.names, language).map_or(self.id.as_str(), |it| it.text.as_str())
    }

    /// The ways to play it now, the preferred one first.
    pub fn ways(&self, now: WallTime) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(move |it| it.is_available(now))
    }

    /// Whether it has programmes by the clock: television and radio.
    pub(super) const fn is_broadcast(&self) -> bool {
        matches!(self.kind, Some(ServiceKind::Linear | ServiceKind::Mosaic | ServiceKind::LinearRadio))
    }

    /// Its name in the guide.
    pub(super) fn guide_id(&self) -> &str {
        &self.guide_id
    }

    /// The manifest or file that a player gets now.
    pub fn manifest(&self, now: WallTime) -> Option<&ObjectKey> {
        self.ways(now).next().map(|it| &it.key)
    }

    const fn kind_name(&self) -> &'static str {
        match self.kind {
            Some(ServiceKind::Linear | ServiceKind::Mosaic) => "linear",
            Some(ServiceKind::LinearRadio) => "radio",
            Some(ServiceKind::Ondemand | ServiceKind::OndemandRadio) => "ondemand",
            Some(ServiceKind::Data) => "data",
            Some(ServiceKind::Other) => "other",
            None => "file",
        }
    }

    /// Members that distinguish it from others: id, number, name, logo. `shows` says whether the box has a picture, or can
    /// get it.
    pub(super) fn head_json(&self, shows: &impl Fn(&ObjectKey) -> bool) -> Value {
        json!({
            "id": self.id, "number": self.number, "name": by_language(&self.names, language_of(self)),
            "logo": picture_path(self.logo.as_deref(), shows), "type": self.kind_name(),
            "minimum_age": self.minimum_age,
        })
    }

    /// For the page. `shows` as in [`Self::head_json`], `held` gives the share of a manifest's segments in the cache.
    fn to_json(
        &self,
        guide: &Guide,
        now: WallTime,
        shows: &impl Fn(&ObjectKey) -> bool,
        held: &impl Fn(&ObjectKey) -> Option<f64>,
    ) -> Value {
        let language = language_of(self);
        let play: Vec<Value> = self
            .ways(now)
            .map(|it| {
                let way = match it.content_type.as_str() {
                    DASH_TYPE => "dash",
                    other if is_hls(other) => "hls",
                    _ => "file",
                };
                json!({ "type": it.content_type, "url": format!("/{}", it.key), "way": way })
            })
            .collect();
        let (current, next) = guide.now_next(&self.guide_id, now);
        let event = |it: Option<&Event>| it.map(|it| event_json(guide, it, language, shows));
        // A broadcast has no end, so a share of it says nothing.
        let held = self.manifest(now).filter(|_| !self.is_broadcast()).and_then(held);
        json!({
            "id": self.id, "number": self.number, "name": by_language(&self.names, language),
            "description": by_language(&self.descriptions, language),
            "logo": picture_path(self.logo.as_deref(), shows), "banner": picture_path(self.banner.as_deref(), shows),
            "type": self.kind_name(), "genres": self.genres,
            "picture": self.picture, "minimum_age": self.minimum_age, "held": held,
            "available": self.ways.is_empty() || !play.is_empty(),
            "duration_s": self.duration_ms.filter(|&ms| ms > 0).map(|ms| ms / 1000),
            "play": play, "others": self.others, "now": event(current), "next": event(next),
        })
    }
}

/// Language of texts that have none of their own.
pub(super) fn language_of(title: &Title) -> &str {
    if title.language.is_empty() { "und" } else { &title.language }
}

/// Path of a picture on this box.
fn picture_path(uri: Option<&str>, shows: &impl Fn(&ObjectKey) -> bool) -> Option<String> {
    uri.and_then(key_of).filter(|key| shows(key)).map(|key| format!("/{key}"))
}

/// Texts by language; the document's for those without.
fn by_language(texts: &[Text], language: &str) -> Value {
    let mut map = Map::new();
    for text in texts {
        let tag = if text.language.is_empty() { language } else { &text.language };
        map.entry(tag.to_owned()).or_insert_with(|| json!(text.text));
    }
    Value::Object(map)
}

pub(super) fn event_json(
    guide: &Guide,
    event: &Event,
    language: &str,
    shows: &impl Fn(&ObjectKey) -> bool,
) -> Value {
    let programme = guide.programmes.get(&event.programme);
    let texts = |of: fn(&carousel::dvbi::guide::Programme) -> &Vec<Text>| {
        programme.map_or_else(|| json!({}), |it| by_language(of(it), language))
    };
    let genres =
        programme.map(|it| it.genres.iter().filter_map(|href| genre::name_of(href)).collect::<Vec<_>>());
    json!({
        "id": event.programme, "title": texts(|it| &it.titles), "episode": texts(|it| &it.episode_titles),
        "synopsis": texts(|it| &it.synopses), "start_ms": event.start.unix_ms(), "end_ms": event.end.unix_ms(),
        "genres": genres.unwrap_or_default(), "minimum_age": programme.and_then(|it| it.minimum_age),
        "image": picture_path(programme.and_then(|it| it.image.as_ref()).map(|it| it.uri.as_str()), shows),
    })
}

/// `UHD HDR`, `HD` and such.
fn picture(content: &ContentAttributes) -> Option<String> {
    let video = content.video.first()?;
    let format = video.picture_format.as_deref().and_then(|it| it.rsplit(':').next());
    let size = match (format, video.height) {
        (Some("1.1"), _) => "SD",
        (Some("1.2"), _) => "HD",
        (Some("1.4.2"), _) => "8K",
        (Some(it), _) if it.starts_with("1.4") => "UHD",
        (_, Some(lines @ 1..)) if lines < 720 => "SD",
        (_, Some(lines @ 720..)) if lines < 2160 => "HD",
        (_, Some(2160..)) => "UHD",
        _ => return None,
    };
    Some(if video.is_hdr() { format!("{size} HDR") } else { size.to_owned() })
}

/// A locator that no page can play, for people.
fn described(delivery: &Delivery) -> Option<String> {
    match delivery {
        Delivery::Dvbs(dvbs) => Some(described_dvbs(dvbs)),
        Delivery::MulticastTs { address, port } => Some(format!("udp://{address}:{port}")),
        Delivery::Rtsp { uri } => Some(uri.clone()),
        Delivery::Identifier { content_type, .. } if content_type == carousel::mabr::CONFIGURATION_TYPE => {
            Some("DVB-MABR".to_owned())
        }
        Delivery::Identifier { uri, content_type } => Some(format!("{content_type}: {uri}")),
        Delivery::Other { element } => Some(element.trim_end_matches("DeliveryParameters").to_owned()),
        Delivery::Dash { .. } | Delivery::HlsExtension { .. } => None,
    }
}

fn described_dvbs(dvbs: &Dvbs) -> String {
    let system = dvbs.system.as_deref().unwrap_or("DVB-S");
    let carrier = dvbs.frequency_10khz.map(|it| {
        let polarization = dvbs.polarization.as_deref().and_then(|it| it.chars().next()).unwrap_or(' ');
        format!(" {}.{} MHz {}", it / 100, it % 100 / 10, polarization.to_ascii_uppercase())
    });
    let position = dvbs.orbital_position.as_deref().map(|it| format!(" {it}°")).unwrap_or_default();
    format!("{system}{position}{}, service {}", carrier.unwrap_or_default(), dvbs.service_id)
}

impl Snapshot {
    /// A page of the titles that are wanted, and how many there are in all; of `kinds` alone unless that is empty.
    pub fn titles_json(
        &self,
        (wanted, kinds): (&TitleSelector, &[&str]),
        (offset, limit): (usize, usize),
        now: WallTime,
        shows: impl Fn(&ObjectKey) -> bool,
        held: impl Fn(&ObjectKey) -> Option<f64>,
    ) -> Value {
        let is_of_kind = |it: &&Title| kinds.is_empty() || kinds.contains(&it.kind_name());
        let is_sought = |it: &&Title| match wanted {
            TitleSelector::All => true,
            TitleSelector::Named(text) => {
                it.sought.contains(text) || it.number.is_some_and(|number| number.to_string() == *text)
            }
            TitleSelector::Number(number) => it.number.is_some_and(|it| i64::from(it) == *number),
            TitleSelector::Id(id) => it.id == *id,
        };
        let found = self.titles.iter().filter(is_of_kind).filter(is_sought);
        let total = found.clone().count();
        let page = found.skip(offset).take(limit).map(|it| it.to_json(&self.guide, now, &shows, &held));
        json!({
            "schema": 1, "version": self.version, "total": total, "offset": offset,
            "titles": page.collect::<Vec<_>>(), "messages": self.messages,
        })
    }

    /// Manifests of the channels that have a number, in the order of their numbers.
    pub fn channel_manifests(&self) -> Vec<ObjectKey> {
        let mut channels: Vec<&Title> = self.titles.iter().filter(|it| it.number.is_some()).collect();
        channels.sort_by_key(|it| it.number);
        channels.iter().flat_map(|it| it.ways.iter().map(|way| way.key.clone())).collect()
    }

    /// A title by its id.
    pub fn title(&self, id: &str) -> Option<&Title> {
        self.titles.iter().find(|it| it.id == id)
    }

    /// Programmes of a title between two times.
    pub fn schedule_json(
        &self,
        id: &str,
        (from, to): (WallTime, WallTime),
        shows: impl Fn(&ObjectKey) -> bool,
    ) -> Option<Value> {
        let title = self.title(id)?;
        let events = self.guide.between(&title.guide_id, from, to).iter();
        let events =
            events.map(|it| event_json(&self.guide, it, language_of(title), &shows)).collect::<Vec<_>>();
        Some(json!({ "schema": 1, "events": events }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(manifests: &[&str], named: &[&str]) -> Vec<(String, Vec<String>)> {
        let manifests = manifests.iter().map(|it| (*it).to_owned()).collect();
        let named = named.iter().map(|it| (*it).to_owned()).collect();
        let titles = files(&manifests, &named, &BTreeMap::new()).into_iter();
        titles.map(|it| (it.id.clone(), it.ways.iter().map(|way| way.key.to_string()).collect())).collect()
    }

    #[test]
    fn manifests_of_a_folder_are_one_title_and_parts_are_none() {
        let all = ["h/a/master.m3u8", "h/a/media_0.m3u8", "h/a/manifest.mpd", "h/a/v/0.m3u8", "h/b/x.m3u8"];
        let found = files_of(&all, &[]);
        assert_eq!(
            found[0],
            ("file:h/a/".to_owned(), vec!["h/a/manifest.mpd".to_owned(), "h/a/master.m3u8".to_owned()])
        );
        assert_eq!((found.len(), found[1].0.as_str()), (2, "file:h/b/"));
        // What a service names is not a file, nor what lies beside or below.
        assert_eq!(files_of(&all, &["h/a/manifest.mpd"]).len(), 1);
    }

    #[test]
    fn carriers_are_told_to_people() {
        let dvbs = Dvbs {
            service_id: 5001,
            orbital_position: Some("19.2".into()),
            frequency_10khz: Some(1_172_750),
            polarization: Some("vertical".into()),
            system: Some("DVB-S2".into()),
            ..Dvbs::default()
        };
        assert_eq!(described_dvbs(&dvbs), "DVB-S2 19.2° 11727.5 MHz V, service 5001");
    }

    #[test]
    fn titles_without_a_service_are_bounded() {
        let all: Vec<String> = (0..=MAX_FILES).map(|at| format!("h/{at:04}/x.mpd")).collect();
        let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
        let found = files_of(&all, &[]);
        assert_eq!((found.len(), found.last().unwrap().0.as_str()), (MAX_FILES, "file:h/0499/"));
        all.remove(0);
        assert_eq!(files_of(&all, &[]).last().unwrap().0, "file:h/0500/", "its place is free");
    }
}
