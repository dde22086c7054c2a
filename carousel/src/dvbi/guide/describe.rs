//! Elements that describe a programme, a group or a title on demand, with the detail that each query requires (TS 103 770
//! clause 6.10). [`super::write`] selects the elements of an answer.

use std::borrow::Cow;
use std::time::Duration;

use super::terms::{
    AIT_TYPE, FORWARD_EPG_UNAVAILABLE, LAST_MS, MAX_CREDITS, MAX_KEYWORD, MAX_KEYWORDS, MAX_LANGUAGES,
    MAX_NAME, MAX_SYNOPSIS, MAX_TITLE, MEDIA_AVAILABLE, MEDIA_UNAVAILABLE, MPEG7, PAGINATION, STILL,
    TEMPLATE_AIT, XSI, cut, is_language, role_term,
};
use super::write::Options;
use super::{Credit, Event, Group, GroupKind, Guide, OnDemand, Part, Programme};
use crate::dvbi::{Image, Text};
use crate::time::{WallTime, duration_to_xml};
use crate::xml::{Element, XML_NAMESPACE};

/// Parts of a description in addition to titles.
#[derive(Clone, Copy)]
pub(super) struct Profile {
    /// Synopses by length: short, medium, long. The title replaces a missing medium one that is required.
    synopses: [bool; 3],
    is_medium_required: bool,
    has_keywords: bool,
    genres: usize,
    has_age: bool,
    has_credits: bool,
    has_year: bool,
    /// Only terms and positions defined by the clause.
    is_strict: bool,
}

const TITLES: Profile = Profile {
    synopses: [false; 3],
    is_medium_required: false,
    has_keywords: false,
    genres: 0,
    has_age: false,
    has_credits: false,
    has_year: false,
    is_strict: true,
};

impl Profile {
    /// Clause 6.10.5.2.
    pub(super) const SCHEDULE: Self =
        Self { synopses: [true, true, false], is_medium_required: true, genres: 1, has_age: true, ..TITLES };
    /// Clause 6.10.5.3.
    pub(super) const PROGRAMME: Self = Self {
        synopses: [true; 3],
        is_medium_required: true,
        has_keywords: true,
        genres: 1,
        has_age: true,
        has_credits: true,
        has_year: true,
        is_strict: true,
    };
    /// Clause 6.10.5.4.
    pub(super) const CONTENTS: Self =
        Self { synopses: [false, true, false], has_age: true, has_year: true, ..TITLES };
    /// Clause 6.10.5.5.
    pub(super) const EPISODES: Self = TITLES;
    /// Everything that a receiver needs to answer all queries.
    pub(super) const FULL: Self = Self { genres: 16, is_strict: false, ..Self::PROGRAMME };
}

/// Part of a document in which a title on demand is listed; each has its own elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedIn {
    /// Programme information.
    Programme,
    /// Contents of a box set.
    BoxSet,
    /// More episodes.
    Episodes,
    /// The broadcast library, with every locator.
    Library,
}

/// A guide, and the form of its elements.
#[derive(Clone, Copy)]
pub(super) struct Writing<'a> {
    pub(super) guide: &'a Guide,
    pub(super) options: &'a Options<'a>,
}

impl<'a> Writing<'a> {
    /// An element of the edition's namespace.
    pub(super) fn tva(&self, name: &str) -> Element {
        Element::new(self.options.edition.namespace(), name)
    }

    /// The document's language.
    pub(super) fn language(&self) -> &'a str {
        if is_language(self.options.language) { self.options.language } else { "und" }
    }

    /// Non-empty texts, one for each language, with the language if it is not the document's.
    fn texts<'t>(&self, texts: &'t [Text], most: usize) -> Vec<(Option<&'t str>, String)> {
        let mut out: Vec<(Option<&str>, String)> = Vec::new();
        for text in texts {
            let own = Some(text.language.as_str())
                .filter(|tag| is_language(tag) && !tag.eq_ignore_ascii_case(self.language()));
            let line = cut(&text.text, most);
            let is_there = |(have, _): &(Option<&str>, String)| match (have, own) {
                (Some(have), Some(own)) => have.eq_ignore_ascii_case(own),
                (None, None) => true,
                _ => false,
            };
            if !line.is_empty() && out.len() < MAX_LANGUAGES && !out.iter().any(is_there) {
                out.push((own, line));
            }
        }
        out
    }

    /// Titles; the clause requires one, the schema does not.
    fn titles<'t>(&self, titles: &'t [Text], crid: &str) -> Vec<(Option<&'t str>, String)> {
        let mut out = self.texts(titles, MAX_TITLE);
        if out.is_empty() {
            out.push((None, cut(crid, MAX_TITLE)));
        }
        out
    }

    fn text(&self, name: &str, language: Option<&str>, line: &str) -> Element {
        let element = self.tva(name);
        let element = match language {
            Some(tag) => element.attr_ns(XML_NAMESPACE, "lang", tag),
            None => element,
        };
        element.with_text(line)
    }

    fn synopses(
        &self,
        synopses: &[Text],
        titles: &[(Option<&str>, String)],
        profile: Profile,
    ) -> Vec<Element> {
        const NAMES: [&str; 3] = ["short", "medium", "long"];
        let mut out = Vec::new();
        let texts = self.texts(synopses, MAX_SYNOPSIS[2]);
        for (language, line) in &texts {
            for (at, name) in NAMES.iter().enumerate() {
                // A long synopsis is only written if it has more than the medium one.
                let is_more = at < 2 || line.encode_utf16().count() > MAX_SYNOPSIS[1];
                if profile.synopses[at] && is_more {
                    let line = cut(line, MAX_SYNOPSIS[at]);
                    out.push(self.text("Synopsis", *language, &line).attr("length", *name));
                }
            }
        }
        if texts.is_empty() && profile.is_medium_required {
            let stand_in = |(language, line): &(Option<&str>, String)| {
                self.text("Synopsis", *language, line).attr("length", "medium")
            };
            out.extend(titles.iter().map(stand_in));
        }
        out
    }

    /// ProgramInformation; `relations` are its MemberOf and EpisodeOf.
    pub(super) fn programme(
        &self,
        programme: &Programme,
        profile: Profile,
        relations: Vec<Element>,
    ) -> Element {
        let titles = self.titles(&programme.titles, &programme.crid);
        let mut about = self.tva("BasicDescription");
        for (language, line) in &titles {
            about = about.child(self.text("Title", *language, line).attr("type", "main"));
        }
        for (language, line) in self.texts(&programme.episode_titles, MAX_TITLE) {
            // A second title without a first one of its language is not allowed.
            if titles.iter().any(|(have, _)| *have == language) {
                about = about.child(self.text("Title", language, &line).attr("type", "secondary"));
            }
        }
        about = about.extend(self.synopses(&programme.synopses, &titles, profile));
        if profile.has_keywords {
            about = about.extend(self.keywords(&programme.keywords));
        }
        for (at, genre) in
            programme.genres.iter().filter(|it| !it.is_empty()).take(profile.genres).enumerate()
        {
            let kind = if at == 0 { "main" } else { "secondary" };
            about = about.child(self.tva("Genre").attr("href", uri(genre)).attr("type", kind));
        }
        if let Some(age) = programme.minimum_age.filter(|age| profile.has_age && *age >= 4) {
            let age = Element::new(MPEG7, "MinimumAge").with_text(age.min(18).to_string());
            about = about.child(self.tva("ParentalGuidance").child(age));
        }
        if profile.has_credits && programme.credits.iter().any(|credit| !credit.name.trim().is_empty()) {
            let named = programme.credits.iter().filter(|credit| !credit.name.trim().is_empty());
            let credits = named.take(MAX_CREDITS).map(|credit| self.credit(credit, profile.is_strict));
            about = about.child(self.tva("CreditsList").extend(credits));
        }
        about = about.extend(self.still(programme.image.as_ref()));
        if let Some(year) = programme.year.filter(|year| profile.has_year && (1..=9999).contains(year)) {
            let date = self.tva("ReleaseDate").text_child("Year", format!("{year:04}"));
            about = about.child(self.tva("ReleaseInformation").child(date));
        }
        self.tva("ProgramInformation").attr("programId", uri(&programme.crid)).child(about).extend(relations)
    }

    fn keywords(&self, keywords: &[Text]) -> Vec<Element> {
        let mut out: Vec<(Option<&str>, Element)> = Vec::new();
        for keyword in keywords {
            for (language, line) in self.texts(std::slice::from_ref(keyword), MAX_KEYWORD) {
                if out.iter().filter(|(have, _)| *have == language).count() < MAX_KEYWORDS {
                    out.push((language, self.text("Keyword", language, &line)));
                }
            }
        }
        out.into_iter().map(|(_, element)| element).collect()
    }

    fn credit(&self, credit: &Credit, is_strict: bool) -> Element {
        let item = self.tva("CreditsItem").attr("role", role_term(credit.role, is_strict));
        let item = item.child(self.name("PersonName", &credit.name));
        match credit.character.as_deref().filter(|name| !name.trim().is_empty()) {
            Some(character) => item.child(self.name("Character", character)),
            None => item,
        }
    }

    /// A name in GivenName while it fits, since guides do not mark the family name. The rest of a long one goes into
    /// FamilyName.
    fn name(&self, element: &str, name: &str) -> Element {
        let whole = cut(name, 2 * MAX_NAME);
        let part = |name: &str, text: &str| Element::new(MPEG7, name).with_text(cut(text, MAX_NAME));
        if whole.encode_utf16().count() <= MAX_NAME {
            return self.tva(element).child(part("GivenName", &whole));
        }
        let is_in = |at: &usize| whole[..*at].encode_utf16().count() <= MAX_NAME;
        let at = whole.rmatch_indices(' ').map(|(at, _)| at).find(is_in);
        match at {
            Some(at) => self
                .tva(element)
                .child(part("GivenName", &whole[..at]))
                .child(part("FamilyName", &whole[at + 1..])),
            None => self.tva(element).child(part("GivenName", &whole)),
        }
    }

    /// RelatedMaterial of a still, if clause 6.10.13 permits its type.
    pub(super) fn still(&self, image: Option<&Image>) -> Option<Element> {
        let image = image.filter(|image| !image.uri.trim().is_empty())?;
        let known = ["image/jpeg", "image/png", "image/webp"];
        let path = image.uri.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        let by_name = || match path.rsplit('.').next() {
            Some("jpg" | "jpeg") => Some("image/jpeg"),
            Some("png") => Some("image/png"),
            Some("webp") => Some("image/webp"),
            _ => None,
        };
        let told = known.iter().find(|it| it.eq_ignore_ascii_case(image.content_type.trim())).copied();
        let kind = if image.content_type.trim().is_empty() { by_name() } else { told }?;
        Some(self.related(STILL, &image.uri, kind, None))
    }

    fn related(&self, how: &str, address: &str, kind: &str, application: Option<&str>) -> Element {
        let media = self.tva("MediaUri").attr("contentType", kind).with_text(uri(address));
        let auxiliary = application
            .map(|address| self.tva("AuxiliaryURI").attr("contentType", AIT_TYPE).with_text(uri(address)));
        self.tva("RelatedMaterial")
            .child(self.tva("HowRelated").attr("href", how))
            .child(self.tva("MediaLocator").child(media).extend(auxiliary))
    }

    /// Links to other pages of an answer.
    pub(super) fn links(&self, links: &[(&str, String)]) -> Vec<Element> {
        let link = |(to, address): &(&str, String)| {
            self.related(&format!("{PAGINATION}:{to}"), address, "application/xml", None)
        };
        links.iter().map(link).collect()
    }

    /// The application that plays the titles of a box set. The schema has no AuxiliaryURI without a MediaUri.
    pub(super) fn template_ait(&self) -> Option<Element> {
        self.options.player.map(|player| self.related(TEMPLATE_AIT, player, AIT_TYPE, Some(player)))
    }

    /// GroupInformation with its type, which is always `otherCollection` in answers.
    pub(super) fn group(
        &self,
        crid: &str,
        items: Option<usize>,
        kind: &str,
        about: Element,
        relation: Option<Element>,
    ) -> Element {
        let group = self.tva("GroupInformation").attr("groupId", uri(crid));
        let group = match items {
            Some(items) => group.attr("ordered", "true").attr("numOfItems", items.to_string()),
            None => group,
        };
        let kind = self.tva("GroupType").attr_ns(XSI, "type", "ProgramGroupTypeType").attr("value", kind);
        group.child(kind).child(about).extend(relation)
    }

    /// BasicDescription of a group: titles, a synopsis of length `synopsis`.
    pub(super) fn about_group(&self, group: &Group, synopsis: Option<&str>) -> Element {
        let titles = self.titles(&group.titles, &group.crid);
        let mut about = self.tva("BasicDescription");
        for (language, line) in &titles {
            about = about.child(self.text("Title", *language, line).attr("type", "main"));
        }
        if let Some(length) = synopsis {
            let most = match length {
                "short" => MAX_SYNOPSIS[0],
                "medium" => MAX_SYNOPSIS[1],
                _ => MAX_SYNOPSIS[2],
            };
            let mut texts = self.texts(&group.synopses, most);
            if texts.is_empty() {
                texts = titles;
            }
            let synopsis = |(language, line): &(Option<&str>, String)| {
                self.text("Synopsis", *language, line).attr("length", length)
            };
            about = about.extend(texts.iter().map(synopsis));
        }
        about
    }

    /// MemberOf or EpisodeOf.
    pub(super) fn relation(&self, name: &str, crid: &str, index: Option<usize>) -> Element {
        let element = self.tva(name).attr("crid", uri(crid));
        let element = element.attr_opt("index", index.map(|index| index.to_string()));
        if name == "MemberOf" { element.attr_ns(XSI, "type", "MemberOfType") } else { element }
    }

    /// Whether a programme is an episode of a group, not a member.
    pub(super) fn is_episode(&self, part: &Part) -> bool {
        self.guide.groups.get(&part.group).is_none_or(|group| group.kind == GroupKind::Series)
    }

    /// EpisodeOf of a programme that is part of a series.
    pub(super) fn episode_of(&self, programme: &Programme) -> Vec<Element> {
        let part = programme.part_of.as_ref().filter(|part| self.is_episode(part));
        let part = part.filter(|part| super::terms::is_crid(&part.group));
        part.map(|part| self.relation("EpisodeOf", &part.group, number(part))).into_iter().collect()
    }

    /// Children common to ScheduleEvent and BroadcastEvent.
    pub(super) fn event(&self, element: &str, event: &Event) -> Element {
        let element = self
            .tva(element)
            .child(self.tva("Program").attr("crid", uri(&event.programme)))
            .text_child("PublishedStartTime", time(event.start))
            .text_child("PublishedDuration", duration(event.end.unix_ms() - event.start.unix_ms()));
        let first = event.is_first_showing.then(|| self.tva("FirstShowing").attr("value", "true"));
        element.extend(first)
    }

    /// OnDemandProgram; `None` if it is not playable.
    pub(super) fn on_demand(&self, title: &OnDemand, listed_in: ListedIn, now: WallTime) -> Option<Element> {
        let url = |(address, kind): &(String, String)| {
            let kind = Some(kind.trim()).filter(|kind| is_mime(kind));
            self.tva("ProgramURL").attr_opt("contentType", kind).with_text(uri(address))
        };
        let located = title.locators.iter().filter(|locator| !locator.0.trim().is_empty());
        let urls: Vec<Element> = if listed_in == ListedIn::Library {
            let mut urls: Vec<Element> = located.map(url).collect();
            // The schema of 2019 has one ProgramURL.
            for other in urls.iter_mut().skip(1) {
                "AuxiliaryURL".clone_into(&mut other.name);
            }
            urls
        } else {
            let application = located.clone().find(|it| it.1.trim().eq_ignore_ascii_case(AIT_TYPE)).map(url);
            let player = || self.options.player.map(|player| url(&player_of(player, &title.programme)));
            application.or_else(player).or_else(|| located.clone().next().map(url)).into_iter().collect()
        };
        if urls.is_empty() {
            return None;
        }
        let element = self.tva("OnDemandProgram");
        let service = Some(title.service.trim()).filter(|service| !service.is_empty());
        let mut element = element
            .attr_opt("serviceIDRef", service.map(uri))
            .child(self.tva("Program").attr("crid", uri(&title.programme)))
            .extend(urls);
        if matches!(listed_in, ListedIn::Programme | ListedIn::BoxSet) {
            let is_there = title.start <= now && now < title.end;
            let media = if is_there { MEDIA_AVAILABLE } else { MEDIA_UNAVAILABLE };
            let terms = [media, FORWARD_EPG_UNAVAILABLE]
                .map(|href| self.tva("Genre").attr("href", href).attr("type", "other"));
            element = element.child(self.tva("InstanceDescription").extend(terms));
        }
        element = element
            .text_child("PublishedDuration", duration(title.duration_ms))
            .text_child("StartOfAvailability", time(title.start))
            .text_child("EndOfAvailability", time(title.end));
        if listed_in == ListedIn::Programme {
            element = element.text_child("DeliveryMode", "streaming");
        }
        Some(element.child(self.tva("Free").attr("value", "true")))
    }
}

/// The number of a programme in its group.
pub(super) fn number(part: &Part) -> Option<usize> {
    part.number.and_then(|number| usize::try_from(number).ok())
}

/// The XML AIT that plays a programme: the player's URL with the programme as parameter `pid`.
fn player_of(player: &str, crid: &str) -> (String, String) {
    let mut address = player.to_owned();
    address.push(if player.contains('?') { '&' } else { '?' });
    address.push_str("pid=");
    for byte in uri(crid).bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => address.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => address.push(char::from(byte)),
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    (address, AIT_TYPE.to_owned())
}

/// A dateTime with seconds, and milliseconds if not 0; clamped to years of four digits.
pub(super) fn time(time: WallTime) -> String {
    let text = WallTime::from_unix_ms(time.unix_ms().clamp(0, LAST_MS)).to_xml();
    match text.strip_suffix(".000Z") {
        Some(seconds) => format!("{seconds}Z"),
        None => text,
    }
}

fn duration(ms: i64) -> String {
    duration_to_xml(Duration::from_millis(u64::try_from(ms.min(LAST_MS)).unwrap_or(0)))
}

/// Whether it is a valid `mpeg7:mimeType`.
fn is_mime(kind: &str) -> bool {
    let is_token = |token: &str| {
        let is_in = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
        !token.is_empty() && token.bytes().all(is_in)
    };
    kind.split_once('/').is_some_and(|(left, right)| is_token(left) && is_token(right))
}

/// A valid URI (`xsd:anyURI`): invalid characters are percent-encoded.
pub(super) fn uri(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let authority = text.find("://").map_or(0, |at| at + 3);
    let authority_end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    let first_hash = text.find('#').unwrap_or(text.len());
    let may_stand = |at: usize, byte: u8| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        b'[' | b']' => (authority..authority_end).contains(&at) && authority > 0,
        b'#' => at == first_hash,
        _ => byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=".contains(&byte),
    };
    if bytes.iter().enumerate().all(|(at, &byte)| may_stand(at, byte)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (at, &byte) in bytes.iter().enumerate() {
        if may_stand(at, byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_made_fit_for_a_document() {
        for (text, fit) in [
            ("crid://a/b c", "crid://a/b%20c"),
            (" http://[::1]:8080/a[1]%20%zz#x#y", "http://[::1]:8080/a%5B1%5D%20%25zz#x%23y"),
            ("http://h/é", "http://h/%C3%A9"),
            ("tag:a,2026:b[", "tag:a,2026:b%5B"),
        ] {
            assert_eq!(uri(text), fit);
            assert_eq!(uri(fit), fit, "once is enough");
        }
        assert_eq!(
            player_of("http://h/p?a=1", "crid://a/b%20").0,
            "http://h/p?a=1&pid=crid%3A%2F%2Fa%2Fb%2520"
        );
    }

    #[test]
    fn times_and_types_that_no_document_holds() {
        assert_eq!(time(WallTime::from_unix_ms(i64::MAX)), "9999-12-31T23:59:59Z");
        assert_eq!(time(WallTime::from_unix_ms(-1)), "1970-01-01T00:00:00Z");
        assert_eq!(time(WallTime::from_unix_ms(1_500)), "1970-01-01T00:00:01.500Z");
        assert_eq!((duration(-5), duration(5_000)), ("PT0S".into(), "PT5S".into()));
        assert!(is_mime(AIT_TYPE) && !is_mime("video") && !is_mime("a/b; c") && !is_mime("/"));
    }
}
