//! Purge requests: parameters, cost against the rate limit, answers.
//!
//! | request | means |
//! |---|---|
//! | `PURGE /authority/path` | this name; with `Surrogate-Key` or `Cache-Tag`, every object that has one of these keys |
//! | `POST /api/v1/purge?` | `key=`, `prefix=`, `pattern=`, `surrogate_key=`, each as often as wanted |
//! | `POST /api/v1/ban?pattern=` | `purge?pattern=` |
//! | `GET` or `POST /cache/purge?url=`, `/cache/ban?pattern=` | as `key` and `pattern`: the paths of a cache's sidecar in CDN control planes |
//!
//! Names, prefixes and patterns may also be a path of the players' port (`/vod/film/*`): the route says which objects are meant. The
//! pattern of `/cache/ban` may be a regular expression as Varnish has them, if a pattern of `*` and `?` says the same.
//!
//! `soft=true` makes objects stale instead of removing them; so does the field `Fastly-Soft-Purge: 1`. `yes=true` allows a
//! pattern or prefix that everything matches. `id=` names the purge in the answer and the audit log; without it one is generated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use carousel::command;
use carousel::name::ObjectKey;
use http::request::Parts as Head;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{document, parameters, refusal};
use crate::access::redacted;
use crate::caching::SurrogateHash;
use crate::clock;
use crate::status::Parts;
use crate::store::{PurgeMode, Purged, Selection};
use crate::sys;

carousel::limits! {
    /// Names, prefixes, patterns and surrogate keys of one request.
    const MAX_SELECTIONS: usize = 256, "selections" {
        why: "Each but a name looks through the whole index.",
        full: "The request is refused with 400, and nothing is purged.",
        free: "Holds for one request.",
        test: "what_a_request_means",
    }
}

#[cfg(feature = "kafka")]
carousel::limits! {
    /// One message of the purge topic.
    const MAX_MESSAGE_BYTES: usize = 512 << 10, "bytes" {
        why: "256 selections of names as long as names may be.",
        full: "The message is skipped as `refused`.",
        free: "Holds for one message.",
        test: "what_a_message_means",
    }
}

/// Cost, in requests, of a purge that searches the index.
pub(super) const FAN_OUT_COSTS: f64 = 10.0;

/// Bytes of what a purge selects in a line of the audit log.
const SHOWN_BYTES: usize = 1024;

/// One request to purge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PurgeRequest {
    selectors: Vec<PurgeSelector>,
    mode: PurgeMode,
    is_sure: bool,
    id: Option<String>,
}

/// A parameter, and the kind of its values.
type Parameter = (&'static str, fn(String) -> PurgeSelector);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PurgeSelector {
    Key(String),
    Prefix(String),
    Pattern(String),
    SurrogateKey(String),
}

impl PurgeSelector {
    fn text(&self) -> &str {
        let (Self::Key(text) | Self::Prefix(text) | Self::Pattern(text) | Self::SurrogateKey(text)) = self;
        text
    }

    /// Whether it names neither an object, nor a folder, nor a host, so that the index alone says whether all is selected.
    fn could_be_all(&self) -> bool {
        let literal = match self {
            Self::Key(_) | Self::SurrogateKey(_) => return false,
            Self::Prefix(prefix) => prefix,
            Self::Pattern(pattern) => pattern.split(['*', '?']).next().unwrap_or_default(),
        };
        !without_scheme(literal).contains('/')
    }
}

fn everything(what: &str) -> String {
    format!("{what} matches everything in the cache; add --yes (by HTTP, yes=true) if that is what you want")
}

/// The pattern of `*` and `?` that says the same as a regular expression of `ban` in Varnish, which is found anywhere in a URL;
/// texts with `*` or `?` that are none as they are. One that has none is refused: taken literally it would match nothing, and the
/// ban would seem done.
///
/// # Errors
/// There is none; one line says so.
fn glob_of(text: String) -> Result<String, String> {
    // Forms write a blank as a plus, which URLs may have.
    let bare = ["req.url ~ ", "req.url+~+"].iter().find_map(|it| text.strip_prefix(it));
    let text = bare.map_or_else(|| text.clone(), str::to_owned);
    if [" ~ ", " !~ ", " == ", " != ", " && "].iter().any(|it| text.contains(it)) {
        return Err(format!("{text:?}: give the expression that URLs match, without conditions of VCL"));
    }
    // No URL has one of these unencoded.
    let is_expression =
        text.ends_with('$') || text.contains(".*") || text.contains(['^', '\\', '|', '[', ']', '{', '}']);
    if !is_expression && (text.is_empty() || text.contains(['*', '?'])) {
        return Ok(text);
    }
    let none = || {
        format!(
            "{text:?}: of regular expressions there are ^, $, . and .* here; send one ban for each alternative, or give a pattern \
             with * and ?"
        )
    };
    let begin = text.strip_prefix('^');
    let rest = begin.unwrap_or(&text);
    let end = rest.strip_suffix('$').filter(|it| !it.ends_with('\\'));
    let mut glob = String::from(if begin.is_some() { "" } else { "*" });
    let mut letters = end.unwrap_or(rest).chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '.' if letters.next_if_eq(&'*').is_some() => glob.push('*'),
            '.' => glob.push('?'),
            '\\' => match letters.next() {
                Some(escaped) if !escaped.is_alphanumeric() && !matches!(escaped, '*' | '?') => {
                    glob.push(escaped);
                }
                _ => return Err(none()),
            },
            '*' | '?' | '+' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return Err(none()),
            _ => glob.push(letter),
        }
    }
    if end.is_none() && !glob.ends_with('*') {
        glob.push('*');
    }
    Ok(glob)
}

impl PurgeRequest {
    /// The purge of a request; `None` if it is not one.
    ///
    /// # Errors
    /// One line with what is missing.
    pub(super) fn of(head: &Head) -> Option<Result<Self, String>> {
        let (method, uri) = (&head.method, &head.uri);
        let is_soft_by_field = head.headers.get("fastly-soft-purge").is_some_and(|it| it == "1");
        if method.as_str() == "PURGE" {
            // Separated as in responses.
            let separators = [("surrogate-key", &[' ', '\t'][..]), ("cache-tag", &[','][..])];
            let mut keys: Vec<String> = Vec::new();
            for (field, separator) in separators {
                let lines = head.headers.get_all(field).iter().filter_map(|it| it.to_str().ok());
                let names = lines.flat_map(|line| line.split(separator)).map(str::trim);
                keys.extend(names.filter(|it| !it.is_empty()).map(str::to_owned));
            }
            let name = uri.path_and_query().map_or("", |it| it.as_str()).trim_start_matches('/');
            let selectors = if keys.is_empty() {
                vec![PurgeSelector::Key(name.to_owned())]
            } else {
                keys.into_iter().map(PurgeSelector::SurrogateKey).collect()
            };
            let mode = mode_of(is_soft_by_field);
            return Some(Self { selectors, mode, is_sure: false, id: None }.bounded());
        }
        let is_sidecar = is_sidecar(head);
        let names: &[Parameter] = match uri.path() {
            "/api/v1/purge" if method == Method::POST => &[
                ("key", PurgeSelector::Key),
                ("url", PurgeSelector::Key),
                ("prefix", PurgeSelector::Prefix),
                ("pattern", PurgeSelector::Pattern),
                ("surrogate_key", PurgeSelector::SurrogateKey),
            ],
            "/api/v1/ban" if method == Method::POST => &[("pattern", PurgeSelector::Pattern)],
            "/cache/purge" if is_sidecar => {
                &[("url", PurgeSelector::Key), ("surrogate_key", PurgeSelector::SurrogateKey)]
            }
            "/cache/ban" if is_sidecar => &[("pattern", PurgeSelector::Pattern)],
            _ => return None,
        };
        let mut selectors = Vec::new();
        for (name, make) in names {
            let Some(mut values) = parameters(uri, name) else {
                return Some(Err(format!("{name}: bad percent-encoding, or no UTF-8")));
            };
            if is_sidecar && *name == "pattern" {
                values = match values.into_iter().map(glob_of).collect() {
                    Ok(values) => values,
                    Err(why) => return Some(Err(why)),
                };
            }
            selectors.extend(values.into_iter().map(make));
        }
        if selectors.is_empty() {
            let names: Vec<String> = names
                .iter()
                .filter(|(name, _)| *name != "url" || is_sidecar)
                .map(|(it, _)| (*it).to_owned())
                .collect();
            return Some(Err(format!(
                "nothing is named to purge; give one of {} in the query",
                names.join(", ")
            )));
        }
        // A soft purge that is misspelt must not be a hard one.
        let known = names.iter().map(|(name, _)| *name).chain(["soft", "yes", "id"]);
        let known: Vec<&str> = known.collect();
        let pairs = uri.query().unwrap_or_default().split('&').filter(|it| !it.is_empty());
        let mut given = pairs.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
        if let Some(odd) = given.find(|name| !known.contains(name)) {
            return Some(Err(format!("{odd:?} is not a parameter; there is {}", known.join(", "))));
        }
        let is_set = |name: &str| match parameters(uri, name).unwrap_or_default().last().map(String::as_str) {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(odd) => Err(format!("{name}={odd}: give true or false")),
        };
        let (is_soft, is_sure) = match (is_set("soft"), is_set("yes")) {
            (Ok(soft), Ok(sure)) => (soft, sure),
            (Err(why), _) | (_, Err(why)) => return Some(Err(why)),
        };
        let mode = mode_of(is_soft_by_field || is_soft);
        let id = parameters(uri, "id").and_then(|it| it.into_iter().next());
        let is_ascii = |id: &String| id.bytes().all(|it| (b' '..=b'~').contains(&it));
        if id.as_ref().is_some_and(|id| !is_id(id) || !is_ascii(id)) {
            return Some(Err("an id has 1 to 128 characters of ASCII".to_owned()));
        }
        Some(Self { selectors, mode, is_sure, id }.bounded())
    }

    /// A purge of one name, which is made stale or removed.
    pub(super) fn of_name(name: &str, is_soft: bool, id: &str) -> Self {
        let selectors = vec![PurgeSelector::Key(name.to_owned())];
        Self { selectors, mode: mode_of(is_soft), is_sure: false, id: Some(id.to_owned()) }
    }

    /// A purge of all names that match a pattern.
    pub(super) fn of_pattern(pattern: &str, id: &str) -> Self {
        let selectors = vec![PurgeSelector::Pattern(pattern.to_owned())];
        // The headend has asked for `--yes` before it signed a pattern that everything matches.
        Self { selectors, mode: PurgeMode::Hard, is_sure: true, id: Some(id.to_owned()) }
    }

    /// The purge of a message of the purge topic (`docs/kafka.md`).
    ///
    /// # Errors
    /// One line with what is wrong, and the id if it has one.
    #[cfg(feature = "kafka")]
    pub(super) fn of_message(bytes: &[u8]) -> Result<(String, Self), (Option<String>, String)> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err((
                None,
                format!("it has {} bytes; a purge has at most {MAX_MESSAGE_BYTES}", bytes.len()),
            ));
        }
        let message: Message = match serde_json::from_slice(bytes) {
            Ok(message) => message,
            Err(err) => {
                // The id is worth a result even if the rest is of another version.
                let id = serde_json::from_slice::<Value>(bytes)
                    .ok()
                    .and_then(|it| Some(it.get("id")?.as_str()?.to_owned()));
                return Err((id.filter(|id| is_id(id)), format!("it is not a purge: {err}")));
            }
        };
        let id = message.id.clone();
        if !is_id(&id) {
            return Err((None, "an id has 1 to 128 bytes, and no control characters".to_owned()));
        }
        if message.schema.is_some_and(|schema| schema != 1) {
            return Err((Some(id), "schema: there is 1 alone".to_owned()));
        }
        type Kind = (Vec<String>, fn(String) -> PurgeSelector);
        let kinds: [Kind; 5] = [
            (message.url, PurgeSelector::Key),
            (message.key, PurgeSelector::Key),
            (message.prefix, PurgeSelector::Prefix),
            (message.pattern, PurgeSelector::Pattern),
            (message.surrogate_key, PurgeSelector::SurrogateKey),
        ];
        let selectors: Vec<PurgeSelector> =
            kinds.into_iter().flat_map(|(values, make)| values.into_iter().map(make)).collect();
        if selectors.is_empty() {
            return Err((Some(id), "give url, prefix, pattern or surrogate_key".to_owned()));
        }
        let request =
            Self { selectors, mode: mode_of(message.soft), is_sure: message.yes, id: Some(id.clone()) };
        request.bounded().map(|request| (id.clone(), request)).map_err(|why| (Some(id), why))
    }

    /// A purge that makes everything stale, since messages were missed.
    #[cfg(feature = "kafka")]
    pub(super) fn of_everything_stale(id: &str) -> Self {
        let selectors = vec![PurgeSelector::Prefix(String::new())];
        Self { selectors, mode: PurgeMode::Soft, is_sure: true, id: Some(id.to_owned()) }
    }

    fn bounded(self) -> Result<Self, String> {
        if self.selectors.len() > MAX_SELECTIONS {
            return Err(format!(
                "{} selections are more than the {MAX_SELECTIONS} of one request",
                self.selectors.len()
            ));
        }
        Ok(self)
    }

    /// Whether it searches the entire index.
    pub(super) fn fans_out(&self) -> bool {
        self.selectors.iter().any(|it| !matches!(it, PurgeSelector::Key(_)))
    }

    /// The id of its answer and of its line in the audit log: the request's own, or a new one.
    pub(super) fn named(&mut self) -> String {
        self.id.get_or_insert_with(fresh_id).clone()
    }

    /// Whether objects become stale instead of being removed.
    pub(super) fn is_soft(&self) -> bool {
        self.mode == PurgeMode::Soft
    }

    /// The selection, for the audit log: at most [`SHOWN_BYTES`] and an ellipsis.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        for it in &self.selectors {
            let kind = match it {
                PurgeSelector::Key(_) => "key",
                PurgeSelector::Prefix(_) => "prefix",
                PurgeSelector::Pattern(_) => "pattern",
                PurgeSelector::SurrogateKey(_) => "surrogate_key",
            };
            let blank = if shown.is_empty() { "" } else { " " };
            shown.push_str(&format!("{blank}{kind}={}", redacted(it.text())));
            if shown.len() > SHOWN_BYTES {
                let end = (0..=SHOWN_BYTES).rev().find(|at| shown.is_char_boundary(*at));
                shown.truncate(end.unwrap_or_default());
                shown.push('…');
                break;
            }
        }
        shown
    }

    /// Executes it and answers; `asks` if somebody may be there who can confirm it. Waits for the disk.
    pub(super) fn run(&self, parts: &Parts, asks: bool) -> Response<Full<Bytes>> {
        let done = self.selections(parts).and_then(|selections| {
            if asks {
                self.check_expected(parts, &selections)?;
            }
            self.execute(parts, &selections)
        });
        match done {
            Ok(done) => {
                let mut response = document(StatusCode::OK, &done.document());
                response.extensions_mut().insert(PurgedObjects(done.all.objects));
                response
            }
            Err(not_done) => refusal(&not_done),
        }
    }

    /// Executes it. Waits for the disk.
    ///
    /// # Errors
    /// It is refused, or there is nothing of the one name that it is about.
    pub(super) fn carry_out(&self, parts: &Parts) -> Result<PurgeResult, NotDone> {
        self.execute(parts, &self.selections(parts)?)
    }

    /// Meanings of each parameter.
    fn selections(&self, parts: &Parts) -> Result<Vec<Vec<Selection>>, NotDone> {
        self.selectors
            .iter()
            .map(|it| self.readings(it, parts))
            .collect::<Result<_, _>>()
            .map_err(NotDone::Wrong)
    }

    /// Checks that none of its prefixes and patterns selects everything that is held now, unless the request says that this is
    /// wanted. An operator can be asked; commands and messages hold for boxes that hold different things.
    fn check_expected(&self, parts: &Parts, selections: &[Vec<Selection>]) -> Result<(), NotDone> {
        let is_all = |(selector, readings): &(&PurgeSelector, &Vec<Selection>)| {
            selector.could_be_all() && readings.iter().any(|it| parts.store.selects_all(it))
        };
        let mut all = std::iter::zip(&self.selectors, selections).filter(|_| !self.is_sure);
        match all.find(is_all) {
            Some((selector, _)) => Err(NotDone::Wrong(everything(&format!("{:?}", selector.text())))),
            None => Ok(()),
        }
    }

    fn execute(&self, parts: &Parts, selections: &[Vec<Selection>]) -> Result<PurgeResult, NotDone> {
        let begun = clock::now();
        // Responses that have begun continue; no request joins them.
        for flight in parts.flights.list() {
            let Some(sent) = &flight.sent else { continue };
            let keys = Some(&sent.response.surrogate_keys);
            if selections.iter().flatten().any(|it| it.selects(flight.key.as_str(), keys)) {
                parts.flights.withdraw(&flight);
            }
        }
        // For each name, the interpretation under which an object is held: the answer shows it.
        let held: Vec<Option<ObjectKey>> = selections
            .iter()
            .map(|readings| {
                readings.iter().find_map(|it| match it {
                    Selection::Name(key) if parts.store.contains(key.as_str()) => Some(key.clone()),
                    _ => None,
                })
            })
            .collect();
        let key = if let [key] = &held[..] { key.clone() } else { None };
        // Names without an object: an operator must see which one was mistyped.
        let missing: Vec<&str> = std::iter::zip(&self.selectors, &held)
            .filter_map(|it| match it {
                (PurgeSelector::Key(name), None) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let all = parts.store.purge(selections, self.mode);
        if all.objects == 0 && missing.len() > 1 && missing.len() == self.selectors.len() {
            let missing = missing.join(", ");
            let what = format!(
                "none of these is in the cache: {missing}; `skycached ls --filter NAME` lists what is"
            );
            return Err(NotDone::Nothing(what));
        }
        if let ([PurgeSelector::Key(name)], 0) = (&self.selectors[..], all.objects) {
            let tried = selections.iter().flatten().filter_map(|it| match it {
                Selection::Name(key) => Some(key),
                _ => None,
            });
            return Err(not_held(name, tried));
        }
        let took = clock::now().since(begun);
        let id = self.id.clone().unwrap_or_else(fresh_id);
        let done = if self.mode == PurgeMode::Soft { "soft purge" } else { "purge" };
        tracing::info!(id, objects = all.objects, bytes = all.bytes, done, "purged");
        let missing = missing.into_iter().map(str::to_owned).collect();
        let hint = if all.objects == 0 { self.hint() } else { None };
        Ok(PurgeResult { id, done, all, took, key, missing, hint })
    }

    /// Why its prefixes and patterns may have selected nothing; `None`: it has none.
    fn hint(&self) -> Option<String> {
        let is_literal =
            |it: &&PurgeSelector| matches!(it, PurgeSelector::Pattern(text) if !text.contains(['*', '?']));
        if let Some(PurgeSelector::Pattern(text)) = self.selectors.iter().find(is_literal) {
            return Some(format!(
                "nothing matched: without * and ? a pattern is one whole name; {text}* is all that begins so, *{text}* all that has it"
            ));
        }
        let is_wide = |it: &PurgeSelector| matches!(it, PurgeSelector::Prefix(_) | PurgeSelector::Pattern(_));
        self.selectors.iter().any(is_wide).then(|| {
            "nothing matched: a prefix or pattern is compared with whole keys, and with paths of [[route]]; `skycached ls` has the keys"
                .to_owned()
        })
    }

    /// Meanings of one parameter, the most likely first: a player's URL counts if the name as given means nothing.
    fn readings(&self, wanted: &PurgeSelector, parts: &Parts) -> Result<Vec<Selection>, String> {
        // A name without a scheme may be the path of a player's request, with or without its first slash.
        let by_routes = |name: &str| {
            let bare = without_scheme(name);
            let mut keys = if bare.len() < name.len() || bare.starts_with('/') {
                parts.server.keys_of(name)
            } else {
                parts.server.keys_of(&format!("/{bare}"))
            };
            keys.dedup();
            keys
        };
        let keys = |name: &str| {
            super::check_scheme(name)?;
            if name.is_empty() {
                return Err("an empty name; give the key of an object, or its URL".to_owned());
            }
            let key = ObjectKey::from_name(name, None).map_err(|err| format!("{name}: {}", err.as_str()));
            match (key, by_routes(name)) {
                (Err(why), others) if others.is_empty() => Err(why),
                (key, others) => Ok(key.into_iter().chain(others)),
            }
        };
        let mut readings: Vec<Selection> = match wanted {
            PurgeSelector::Key(name) => keys(name)?.map(Selection::Name).collect(),
            PurgeSelector::Prefix(prefix) if without_scheme(prefix).is_empty() => {
                if !self.is_sure {
                    return Err(everything("an empty prefix"));
                }
                vec![Selection::Prefix(String::new())]
            }
            PurgeSelector::Prefix(prefix) => {
                keys(prefix)?.map(|it| Selection::Prefix(it.as_str().to_owned())).collect()
            }
            PurgeSelector::Pattern(pattern) => {
                super::check_scheme(pattern)?;
                if !self.is_sure && command::is_everything(pattern) {
                    return Err(everything(&format!("{pattern:?}")));
                }
                let bare = without_scheme(pattern);
                // The folder before the first wildcard goes through routes; in the rest a `?` is one character, not a query. That
                // of a path which is found anywhere (`*/vod/film/*`) does too: it may begin the path of a player's request.
                let rooted = if pattern.starts_with("*/") { &pattern[1..] } else { pattern.as_str() };
                let begin = rooted.find("://").map_or(0, |at| at + 3);
                let literal = rooted[begin..].find(['*', '?']).map_or(rooted.len(), |at| begin + at);
                let folder = rooted[begin..literal].rfind('/').map_or(0, |at| begin + at + 1);
                let others = if folder == 0 { Vec::new() } else { by_routes(&rooted[..folder]) };
                let others = others.iter().map(|it| format!("{}{}", it.as_str(), &rooted[folder..]));
                std::iter::once(bare.to_owned()).chain(others).map(Selection::Pattern).collect()
            }
            PurgeSelector::SurrogateKey(key) if key.trim().is_empty() => {
                return Err("a surrogate key has at least one character".to_owned());
            }
            PurgeSelector::SurrogateKey(key) => vec![Selection::SurrogateKey(SurrogateHash::of(key.trim()))],
        };
        // The name as given may be what a route makes of it, too.
        let mut known = Vec::with_capacity(readings.len());
        readings.retain(|it| {
            let is_new = !known.contains(it);
            if is_new {
                known.push(it.clone());
            }
            is_new
        });
        Ok(readings)
    }
}

/// A message of the purge topic. Unknown members are refused: `sfot` would make a soft purge a hard one.
#[cfg(feature = "kafka")]
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(default)]
    schema: Option<u32>,
    id: String,
    #[serde(default, deserialize_with = "one_or_many")]
    url: Vec<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    key: Vec<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    prefix: Vec<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    pattern: Vec<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    surrogate_key: Vec<String>,
    #[serde(default)]
    soft: bool,
    #[serde(default)]
    yes: bool,
    /// For readers of the topic: time and sender.
    #[serde(default, rename = "issued_at")]
    _issued_at: Option<Value>,
    #[serde(default, rename = "issued_by")]
    _issued_by: Option<Value>,
}

#[cfg(feature = "kafka")]
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "a string, or a list of strings")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    serde::Deserialize::deserialize(deserializer).map(|it| match it {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// Whether a text may be the id of a purge. By HTTP it is ASCII only.
fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && !id.contains(char::is_control)
}

/// Number of objects that were purged, beside the response, for the audit log.
#[derive(Debug, Clone, Copy)]
pub(super) struct PurgedObjects(pub(super) u64);

/// Result of a purge.
#[derive(Debug)]
pub(super) struct PurgeResult {
    id: String,
    done: &'static str,
    /// Numbers of what was removed.
    pub(super) all: Purged,
    /// Time that it took.
    pub(super) took: Duration,
    key: Option<ObjectKey>,
    /// Names under which no object was held.
    missing: Vec<String>,
    /// Why nothing was selected, if that may be a mistake.
    hint: Option<String>,
}

impl PurgeResult {
    fn document(&self) -> Value {
        let Self { id, done, all, took, key, missing, hint } = self;
        let mut answer = json!({
            "schema": 1, "id": id, "node": sys::hostname(), "done": done, "purged": all.objects, "bytes": all.bytes,
            "took_ms": took.as_micros() as f64 / 1000.0, "lasts": !all.is_forgotten_by_disk,
        });
        if !missing.is_empty() {
            answer["missing"] = json!(missing);
        }
        if let Some(key) = key {
            answer["key"] = key.as_str().into();
        }
        if let Some(hint) = hint {
            answer["hint"] = hint.as_str().into();
        }
        answer
    }
}

/// Reason why a purge or a pin had no effect.
#[derive(Debug)]
pub(super) enum NotDone {
    /// It is refused; one line with the mistake.
    Wrong(String),
    /// No object of its name is held.
    Nothing(String),
}

/// No object is held by a name, nor by another key that was tried for it.
pub(super) fn not_held<'a>(name: &str, tried: impl Iterator<Item = &'a ObjectKey>) -> NotDone {
    let name = redacted(name);
    let mut keys: Vec<&str> = Vec::new();
    for key in tried.map(ObjectKey::as_str) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let last = name.split(['?', '#']).next().and_then(|it| it.rsplit('/').find(|it| !it.is_empty()));
    let filter = last.filter(|it| it.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it)));
    let fix = format!("`skycached ls --filter {}` lists what is", filter.unwrap_or("NAME"));
    match keys[..] {
        [] => NotDone::Nothing(format!("{name} is not in the cache; {fix}")),
        [key] => NotDone::Nothing(format!("{} is not in the cache; {fix}", redacted(key))),
        _ => {
            let tried: Vec<_> = keys.into_iter().map(redacted).collect();
            NotDone::Nothing(format!(
                "{name} is not in the cache, by none of its keys: {}; {fix}",
                tried.join(", ")
            ))
        }
    }
}

/// Whether a request uses the paths of a sidecar, which change something by GET too.
pub(super) fn is_sidecar(head: &Head) -> bool {
    matches!(head.method, Method::GET | Method::POST)
        && matches!(head.uri.path(), "/cache/purge" | "/cache/ban")
}

const fn mode_of(is_soft: bool) -> PurgeMode {
    if is_soft { PurgeMode::Soft } else { PurgeMode::Hard }
}

fn without_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

/// An id that no other purge of this machine has.
fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{:x}-{number:x}", clock::wall().unix_ms(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<Result<PurgeRequest, String>> {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        PurgeRequest::of(&request.body(()).unwrap().into_parts().0)
    }

    fn request(
        selectors: &[PurgeSelector],
        mode: PurgeMode,
        is_sure: bool,
    ) -> Option<Result<PurgeRequest, String>> {
        Some(Ok(PurgeRequest { selectors: selectors.to_vec(), mode, is_sure, id: None }))
    }

    #[test]
    fn what_a_request_means() {
        let text = str::to_owned;
        let (hard, soft) = (PurgeMode::Hard, PurgeMode::Soft);
        let key = |it: &str| PurgeSelector::Key(it.to_owned());
        assert_eq!(of("PURGE", "/h/a?b=1", &[]), request(&[key("h/a?b=1")], hard, false));
        let two = [PurgeSelector::SurrogateKey(text("a")), PurgeSelector::SurrogateKey(text("b"))];
        let fields = [("surrogate-key", "a b"), ("fastly-soft-purge", "1")];
        assert_eq!(of("PURGE", "/", &fields), request(&two, soft, false));
        let tags = [PurgeSelector::SurrogateKey(text("a")), PurgeSelector::SurrogateKey(text("tenant 1"))];
        assert_eq!(of("PURGE", "/", &[("cache-tag", "a, tenant 1,")]), request(&tags, hard, false));
        assert_eq!(
            of("POST", "/api/v1/purge?key=h%2Fa&key=h%2Fb", &[]),
            request(&[key("h/a"), key("h/b")], hard, false)
        );
        assert_eq!(
            of("POST", "/api/v1/purge?surrogate_key=a%20b&prefix=h/&soft=true&yes=1", &[]),
            request(
                &[PurgeSelector::Prefix(text("h/")), PurgeSelector::SurrogateKey(text("a b"))],
                soft,
                true
            )
        );
        let pattern = [PurgeSelector::Pattern(text("h/*.m4s"))];
        for path in ["/api/v1/ban", "/cache/ban"] {
            assert_eq!(of("POST", &format!("{path}?pattern=h/*.m4s"), &[]), request(&pattern, hard, false));
        }
        assert_eq!(of("GET", "/cache/purge?url=http://h/a", &[]), request(&[key("http://h/a")], hard, false));
        for other in ["/api/v1/purge?key=h", "/api/v1/ban?pattern=h", "/api/v1/status", "/cache/other?url=h"]
        {
            assert_eq!(of("GET", other, &[]), None, "{other}");
        }
        for wrong in [
            "/api/v1/purge",
            "/api/v1/purge?keys=a",
            "/api/v1/purge?key=%zz",
            "/api/v1/purge?key=a&soft=maybe",
            "/api/v1/purge?key=a&sfot=true",
            "/api/v1/ban?key=a",
        ] {
            assert!(of("POST", wrong, &[]).unwrap().is_err(), "{wrong}");
        }
        let many = |count: usize| format!("/api/v1/purge?{}", "key=a&".repeat(count));
        assert!(of("POST", &many(MAX_SELECTIONS), &[]).unwrap().is_ok());
        assert!(of("POST", &many(MAX_SELECTIONS + 1), &[]).unwrap().is_err());
        for (id, is_ok) in [
            ("x".repeat(128), true),
            ("x".repeat(129), false),
            (String::new(), false),
            ("%C3%BC".into(), false),
        ] {
            let request = of("POST", &format!("/api/v1/purge?key=a&id={id}"), &[]).unwrap();
            assert_eq!(request.is_ok(), is_ok, "{id}");
        }
    }

    #[test]
    fn bans_of_sidecars_may_be_regular_expressions() {
        for (given, meant) in [
            ("h/*.m4s", "h/*.m4s"),
            ("/vod/show/*", "/vod/show/*"),
            ("^/show/.*", "/show/*"),
            ("^/show/a\\.ts$", "/show/a.ts"),
            ("^/show/", "/show/*"),
            ("show/.*\\.m4s$", "*show/*.m4s"),
            (".*", "**"),
            // Without a wildcard too: found anywhere, as Varnish does.
            ("/vod/film/", "*/vod/film/*"),
            ("film-17", "*film-17*"),
            ("/", "*/*"),
            ("req.url ~ ^/show/", "/show/*"),
            ("req.url ~ /show/", "*/show/*"),
            ("req.url+~+^/show/", "/show/*"),
            ("/film+(1)/*", "/film+(1)/*"),
        ] {
            assert_eq!(glob_of(given.to_owned()).as_deref(), Ok(meant), "{given}");
        }
        for wrong in [
            "^/(a|b)/",
            "(a|b)",
            "/show/[ab].ts",
            "a{2}",
            "^/a+$",
            "^/[0-9]*",
            "^a\\d",
            "\\",
            "^/a{2}",
            "a.*\\$",
            "obj.http.x-host ~ cdn",
            "req.url == /a",
            "req.url ~ /a && req.http.host ~ b",
        ] {
            let glob = glob_of(wrong.to_owned());
            assert!(
                glob.is_err() || wrong == "a.*\\$" && glob == Ok("*a*$*".to_owned()),
                "{wrong}: {glob:?}"
            );
        }
        let ban = |target: &str| of("GET", target, &[]).unwrap();
        assert!(ban("/cache/ban?pattern=%5E/(a%7Cb)/").is_err());
        assert_eq!(
            Some(ban("/cache/ban?pattern=%5E/a/")),
            request(&[PurgeSelector::Pattern("/a/*".into())], PurgeMode::Hard, false)
        );
    }

    #[test]
    fn audit_lines_name_what_is_selected_and_the_id() {
        let mut purge = of("PURGE", "/h/a?token=x", &[("surrogate-key", "film news")]).unwrap().unwrap();
        assert_eq!(purge.shown(), "surrogate_key=film surrogate_key=news");
        let id = purge.named();
        assert_eq!((purge.named(), purge.id), (id.clone(), Some(id)));
        let long = format!("/api/v1/purge?id=i&pattern={}", "é".repeat(2000).replace('é', "%C3%A9"));
        let mut long = of("POST", &long, &[]).unwrap().unwrap();
        assert!(long.shown().len() < SHOWN_BYTES + 8 && long.shown().ends_with('…'));
        assert_eq!(long.named(), "i");
    }

    #[test]
    fn what_selects_nothing_has_a_hint_if_it_may_be_a_mistake() {
        let hint = |target: &str| of("POST", &format!("/api/v1/{target}"), &[]).unwrap().unwrap().hint();
        let literal = hint("ban?pattern=/vod/").unwrap();
        assert!(literal.contains("/vod/* is all") && literal.contains("*/vod/* all"), "{literal}");
        for wide in ["ban?pattern=/vod/*", "purge?prefix=/vod/"] {
            assert!(hint(wide).is_some_and(|it| it.contains("whole keys")), "{wide}");
        }
        // Nothing may have this name now.
        assert_eq!((hint("purge?surrogate_key=film"), hint("purge?key=h/a")), (None, None));
    }

    #[test]
    fn what_is_not_held_is_refused_with_every_key_that_was_tried() {
        let said = |name: &str, keys: &[&str]| {
            let keys: Vec<_> = keys.iter().map(|it| ObjectKey::from_name(it, None).unwrap()).collect();
            match not_held(name, keys.iter()) {
                NotDone::Nothing(line) => line,
                NotDone::Wrong(line) => panic!("{line}"),
            }
        };
        assert_eq!(
            said("http://box:8080/vod/a.m4s?x=1", &["box:8080/vod/a.m4s?x=1", "cdn.example.com/a.m4s?x=1"]),
            "http://box:8080/vod/a.m4s?x=1 is not in the cache, by none of its keys: box:8080/vod/a.m4s?x=1, \
             cdn.example.com/a.m4s?x=1; `skycached ls --filter a.m4s` lists what is"
        );
        let one = "cdn.example.com/a is not in the cache; `skycached ls --filter a` lists what is";
        assert_eq!(said("https://cdn.example.com/a", &["cdn.example.com/a", "cdn.example.com/a"]), one);
        let thrice = said("/o/a", &["o/a", "cdn.example.com/a", "o/a"]);
        assert!(thrice.contains(": o/a, cdn.example.com/a;"), "{thrice}");
        let odd = said("h/$(reboot)", &["h/$(reboot)"]);
        assert!(odd.ends_with("`skycached ls --filter NAME` lists what is"), "{odd}");
    }

    #[test]
    fn what_could_select_everything() {
        for all in [
            PurgeSelector::Pattern("*.m4s".into()),
            PurgeSelector::Prefix("cdn".into()),
            PurgeSelector::Pattern("cdn*/x".into()),
        ] {
            assert!(all.could_be_all(), "{all:?}");
        }
        for some in [
            PurgeSelector::Pattern("https://h/*".into()),
            PurgeSelector::Prefix("h/".into()),
            PurgeSelector::Key("h".into()),
            PurgeSelector::SurrogateKey("a".into()),
        ] {
            assert!(!some.could_be_all(), "{some:?}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn what_a_message_means() {
        let of = |text: &str| PurgeRequest::of_message(text.as_bytes());
        let text = str::to_owned;
        let (id, request) =
            of(r#"{"schema":1,"id":"p-1","url":"https://h/a","surrogate_key":["x","y"],"soft":true,"issued_at":5}"#).unwrap();
        let selectors = vec![
            PurgeSelector::Key(text("https://h/a")),
            PurgeSelector::SurrogateKey(text("x")),
            PurgeSelector::SurrogateKey(text("y")),
        ];
        assert_eq!(id, "p-1");
        assert_eq!(
            request,
            PurgeRequest { selectors, mode: PurgeMode::Soft, is_sure: false, id: Some(text("p-1")) }
        );
        assert_eq!(of(r#"{"id":"p-ü","url":"h/a"}"#).unwrap().0, "p-ü");
        let long_id = format!(r#"{{"id":"{}","url":"h/a"}}"#, "x".repeat(129));
        let long = format!(r#"{{"id":"p","url":"{}"}}"#, "h".repeat(MAX_MESSAGE_BYTES));
        let many = format!(r#"{{"id":"p","url":[{}"h"]}}"#, "\"h\",".repeat(MAX_SELECTIONS));
        for (wrong, id) in [
            ("", None),
            ("[]", None),
            ("\u{0}\u{1}", None),
            (r#"{"url":"h/a"}"#, None),
            (r#"{"id":"","url":"h/a"}"#, None),
            (r#"{"id":7,"url":"h/a"}"#, None),
            (r#"{"id":"p\n","url":"h/a"}"#, None),
            (&long_id, None),
            (r#"{"id":"p"}"#, Some("p")),
            (r#"{"id":"p","url":"h","sfot":true}"#, Some("p")),
            (r#"{"id":"p","url":"h","soft":"yes"}"#, Some("p")),
            (r#"{"id":"p","url":"h","schema":2}"#, Some("p")),
            (r#"{"id":"p","url":{"h":1}}"#, Some("p")),
            (&many, Some("p")),
            (&long, None),
        ] {
            assert_eq!(of(wrong).unwrap_err().0.as_deref(), id, "{wrong}");
        }
    }

    #[test]
    fn what_looks_through_the_index_costs_more() {
        for (target, fans_out) in
            [("key=a", false), ("pattern=a", true), ("prefix=a", true), ("surrogate_key=a", true)]
        {
            let request = of("POST", &format!("/api/v1/purge?{target}"), &[]).unwrap().unwrap();
            assert_eq!(request.fans_out(), fans_out, "{target}");
        }
    }
}
