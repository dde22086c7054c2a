//! Query parameters that do not distinguish objects.
//!
//! Manifests name files with session identifiers, tokens and version hashes in the query. The headend carries the file once,
//! under its URI without them, and says which parameters those are; the box then finds it for a request with any values of
//! them. The rule is written as the HTTP field `No-Vary-Search` (draft-ietf-httpbis-no-vary-search), which caches between the
//! box and a player understand too; on the air it rides in an attribute of our own in the FDT, beside the file that it is for,
//! so that it arrives with it, is stored with it and needs no configuration:
//!
//! | rule | field |
//! |---|---|
//! | all but LL-HLS delivery directives | `params, except=("_HLS_msn" "_HLS_part" "_HLS_skip" "_HLS_push")` |
//! | these | `params=("session" "token")` |
//!
//! A file that grows while a live manifest lists byte ranges of it is on the air range by range: each range is an object whose
//! name has the parameter [`RANGE_PARAMETER`] at the end of its query ([`name_of_range`]). The parameter distinguishes
//! objects, so that no receiver takes a range for the file; a box answers a request for exactly these bytes with it.

use std::borrow::Cow;
use std::ops::Range;

use crate::limits;
use crate::name::ObjectKey;

limits! {
    /// Parameters of one rule.
    pub const MAX_PARAMETERS: usize = 32, "parameters" {
        why: "Packages have one or two; a signed URL has four.",
        full: "The rule is ignored: the whole query is part of the name.",
        free: "Holds for one rule.",
        test: "rules_survive_their_field",
    }
}

limits! {
    /// Parameters of a request up to which names with fewer of them are looked up.
    const MAX_REQUEST_PARAMETERS: usize = 16, "parameters" {
        why: "Players add a handful; each costs lookups.",
        full: "Only the full name is looked up.",
        free: "Holds for one request.",
        test: "a_query_beyond_the_limit_is_looked_up_by_its_full_name_only",
    }
}

/// Parameters that ask the server to do something (rfc8216bis section 6.2.5): never ignored.
const DIRECTIVES: [&str; 4] = ["_HLS_msn", "_HLS_part", "_HLS_skip", "_HLS_push"];

/// The parameter of the name of a byte range: first and last byte, as in `Range` (RFC 9110 section 14.1.1).
pub const RANGE_PARAMETER: &str = "skycache-range";

/// The name of the bytes `range` of the object `name`. `range` is not empty.
pub fn name_of_range(name: &str, range: &Range<u64>) -> String {
    let separator = if name.contains('?') { '&' } else { '?' };
    format!("{name}{separator}{RANGE_PARAMETER}={}-{}", range.start, range.end.saturating_sub(1))
}

/// The object and the bytes of it that `name` means, if it is the name of a byte range.
pub fn range_of_name(name: &str) -> Option<(&str, Range<u64>)> {
    let (before, value) = name.rsplit_once(RANGE_PARAMETER)?;
    let (first, last) = value.strip_prefix('=')?.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let range = number(first)?..number(last)?.checked_add(1)?;
    let whole = before.strip_suffix(['?', '&']).filter(|whole| !whole.is_empty())?;
    (range.start < range.end).then_some((whole, range))
}

/// Parameters of a query that do not distinguish objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IgnoredQuery {
    /// None: the whole query is part of the name.
    #[default]
    Nothing,
    /// All but delivery directives.
    All,
    /// These; `*` in a name stands for any characters.
    Names(Vec<String>),
}

impl IgnoredQuery {
    /// Whether the values of parameter `name` do not matter.
    pub fn ignores(&self, name: &str) -> bool {
        if name == RANGE_PARAMETER {
            return false;
        }
        match self {
            Self::Nothing => false,
            Self::All => !DIRECTIVES.contains(&name),
            Self::Names(names) => names.iter().any(|it| matches(it, name)),
        }
    }

    /// `uri` without the parameters that do not matter. `uri` has no fragment.
    pub fn strip(&self, uri: &str) -> String {
        let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
        let kept: Vec<&str> = parameters(query).filter(|it| !self.ignores(name_of(it))).collect();
        with_query(path, &kept)
    }

    /// The value of the field; `None` if nothing is ignored.
    pub fn to_field(&self) -> Option<String> {
        let list = |names: &mut dyn Iterator<Item = &str>| {
            let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
            names.map(quoted).collect::<Vec<_>>().join(" ")
        };
        match self {
            Self::Nothing => None,
            Self::All => Some(format!("params, except=({})", list(&mut DIRECTIVES.into_iter()))),
            Self::Names(names) if names.is_empty() => None,
            Self::Names(names) => Some(format!("params=({})", list(&mut names.iter().map(String::as_str)))),
        }
    }

    /// Reads the value of a field. What cannot be read ignores nothing, as the draft has it: a rule that is not understood
    /// must not merge objects.
    pub fn from_field(text: &str) -> Self {
        let text = text.trim();
        if let Some(names) = text.strip_prefix("params=(").and_then(|rest| rest.strip_suffix(')')) {
            return strings(names).map_or(Self::Nothing, Self::Names);
        }
        match text.strip_prefix("params") {
            Some("" | "=?1") => Self::All,
            Some(rest) => {
                let except = rest.trim_start_matches("=?1").trim_start().strip_prefix(',').map(str::trim);
                let names =
                    except.and_then(|it| it.strip_prefix("except=(")?.strip_suffix(')')).and_then(strings);
                // Only the directives are known as exceptions.
                match names {
                    Some(names) if names.iter().all(|it| DIRECTIVES.contains(&it.as_str())) => Self::All,
                    _ => Self::Nothing,
                }
            }
            None => Self::Nothing,
        }
    }
}

/// The strings of an inner list (RFC 9651 section 3.1.1).
fn strings(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim();
    while let Some(quoted) = rest.strip_prefix('"') {
        let mut name = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => name.push(characters.next()?.1),
                (_, character) => name.push(character),
            }
        };
        names.push(name);
        if names.len() > MAX_PARAMETERS {
            return None;
        }
        rest = quoted[end + 1..].trim_start();
    }
    rest.is_empty().then_some(names)
}

/// Other names that an object may have which `key` asks for: with none, one or two of its query's parameters, each with
/// the names of those left out. The object's own rule decides whether leaving them out is right.
pub fn candidates(key: &ObjectKey) -> Vec<(ObjectKey, Vec<&str>)> {
    let Some((path, query)) = key.as_str().split_once('?') else { return Vec::new() };
    let all: Vec<&str> = parameters(query).take(MAX_REQUEST_PARAMETERS + 1).collect();
    if all.len() > MAX_REQUEST_PARAMETERS {
        return Vec::new();
    }
    let keeping = |kept: &[usize]| {
        let texts: Vec<&str> = kept.iter().map(|&at| all[at]).collect();
        let others = (0..all.len()).filter(|at| !kept.contains(at)).map(|at| name_of(all[at])).collect();
        Some((ObjectKey::from_name(&with_query(path, &texts), None).ok()?, others))
    };
    let ones = (0..all.len()).filter(|_| all.len() > 1).map(|at| vec![at]);
    let twos =
        (0..all.len()).flat_map(|a| (a + 1..all.len()).map(move |b| vec![a, b])).filter(|_| all.len() > 2);
    std::iter::once(Vec::new()).chain(ones).chain(twos).filter_map(|kept| keeping(&kept)).collect()
}

/// The names of a query's parameters.
pub fn names(query: &str) -> impl Iterator<Item = &str> {
    parameters(query).map(name_of)
}

/// `uri` without the parameters that begin so. The others stay as they are.
pub fn without<'a>(uri: &'a str, beginning: &str) -> Cow<'a, str> {
    let Some((path, query)) = uri.split_once('?') else { return Cow::Borrowed(uri) };
    let goes = |parameter: &&str| parameter.starts_with(beginning);
    if !query.split('&').any(|it| goes(&it)) {
        return Cow::Borrowed(uri);
    }
    let kept: Vec<&str> = query.split('&').filter(|it| !goes(it)).collect();
    Cow::Owned(with_query(path, &kept))
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|it| !it.is_empty())
}

fn name_of(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or(parameter)
}

fn with_query(path: &str, parameters: &[&str]) -> String {
    if parameters.is_empty() { path.to_owned() } else { format!("{path}?{}", parameters.join("&")) }
}

/// Parameters of a query that a route leaves out of its cache keys: those that are ignored, and all that are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryRule {
    /// These are left out.
    pub ignored: IgnoredQuery,
    /// Only these stay; `*` in a name stands for any characters. `None`: all that are not ignored.
    pub kept: Option<Vec<String>>,
}

impl QueryRule {
    /// Whether the rule changes no name.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `name` without the parameters that are left out. A query of which nothing stays is left out with its `?`.
    pub fn strip(&self, name: &str) -> String {
        let Some((path, query)) = name.split_once('?').filter(|_| !self.is_empty()) else {
            return name.to_owned();
        };
        let stays = |parameter: &&str| {
            let name = name_of(parameter);
            let is_kept = self.kept.as_ref().is_none_or(|kept| kept.iter().any(|it| matches(it, name)));
            is_kept && !self.ignored.ignores(name)
        };
        with_query(path, &parameters(query).filter(stays).collect::<Vec<_>>())
    }
}

/// Whether `name` is `pattern`, in which `*` stands for any characters. Takes time linear in the product of both at most.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let parts: Vec<&str> = parts.collect();
    let (last, middle) = parts.split_last().map_or(("", &[][..]), |(last, middle)| (*last, middle));
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The value of `ignore_query`: `true`, or a list of names.
#[cfg(feature = "config")]
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum IgnoreQuery {
    /// The whole query, or nothing of it.
    All(bool),
    /// Parameters with these names.
    Names(Vec<String>),
}

#[cfg(feature = "config")]
impl IgnoreQuery {
    /// The rule of both keys of a configuration.
    pub fn rule(ignore: Option<&Self>, keep: Option<&[String]>) -> QueryRule {
        let ignored = match ignore {
            None | Some(Self::All(false)) => IgnoredQuery::Nothing,
            Some(Self::All(true)) => IgnoredQuery::All,
            Some(Self::Names(names)) => IgnoredQuery::Names(names.clone()),
        };
        QueryRule { ignored, kept: keep.map(<[String]>::to_vec) }
    }
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for IgnoreQuery {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = IgnoreQuery;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, or a list of names such as [\"token\", \"utm_*\"]")
            }

            fn visit_bool<E>(self, all: bool) -> Result<Self::Value, E> {
                Ok(IgnoreQuery::All(all))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(IgnoreQuery::Names(names))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> IgnoredQuery {
        IgnoredQuery::Names(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_query_beyond_the_limit_is_looked_up_by_its_full_name_only() {
        let with = |count: usize| {
            let query: Vec<String> = (0..count).map(|at| format!("p{at}={at}")).collect();
            let key = ObjectKey::from_name(&format!("http://h/a?{}", query.join("&")), None).unwrap();
            candidates(&key).len()
        };
        let most = MAX_REQUEST_PARAMETERS;
        assert_eq!(with(most), 1 + most + most * (most - 1) / 2);
        assert_eq!(with(most + 1), 0);
        assert_eq!(with(2), 3);
    }

    #[test]
    fn parameters_that_begin_so_leave_and_the_others_stay_as_they_are() {
        for (uri, rest) in [
            ("/a?t=1", "/a"),
            ("/a?x&t=1&&y=%2F&t=2", "/a?x&&y=%2F"),
            ("/t=1?xt=1", "/t=1?xt=1"),
            ("/a?", "/a?"),
        ] {
            assert_eq!(without(uri, "t="), rest);
        }
    }

    #[test]
    fn what_is_ignored_leaves_the_name() {
        let rule = names(&["session", "t"]);
        assert_eq!(rule.strip("h/a?session=1&lang=de&t"), "h/a?lang=de");
        assert_eq!(rule.strip("h/a?session=1&&t=2"), "h/a");
        assert_eq!(rule.strip("h/a"), "h/a");
        assert_eq!(IgnoredQuery::Nothing.strip("h/a?b"), "h/a?b");
        assert_eq!(IgnoredQuery::All.strip("h/a?b&c=d&_HLS_msn=7"), "h/a?_HLS_msn=7");
    }

    #[test]
    fn rules_survive_their_field() {
        for rule in [IgnoredQuery::All, names(&["session"]), names(&["a\"b", "c\\"])] {
            assert_eq!(IgnoredQuery::from_field(&rule.to_field().unwrap()), rule);
        }
        assert_eq!(IgnoredQuery::Nothing.to_field(), None);
        assert_eq!(IgnoredQuery::from_field("params"), IgnoredQuery::All);
        let hostile = format!("params=({})", "\"a\" ".repeat(MAX_PARAMETERS + 1));
        for text in
            ["", "key-order", "params=?0", "params, except=(\"id\")", "params=(\"a", "params=(a)", &hostile]
        {
            assert_eq!(IgnoredQuery::from_field(text), IgnoredQuery::Nothing, "{text}");
        }
    }

    #[test]
    fn a_request_may_mean_an_object_of_fewer_parameters() {
        let of = |name: &str| -> Vec<(String, usize)> {
            let key = ObjectKey::from_name(name, None).unwrap();
            candidates(&key).into_iter().map(|(key, left)| (key.to_string(), left.len())).collect()
        };
        assert_eq!(of("h/a"), []);
        assert_eq!(of("h/a?s=1"), [("h/a".to_owned(), 1)]);
        assert_eq!(
            of("h/a?s=1&l=de"),
            [("h/a".to_owned(), 2), ("h/a?s=1".to_owned(), 1), ("h/a?l=de".to_owned(), 1)]
        );
        assert_eq!(of("h/a?a&b&c").len(), 1 + 3 + 3);
        assert_eq!(of(&format!("h/a?{}", "a&".repeat(16))).len(), 1 + 16 + 120);
        assert_eq!(of(&format!("h/a?{}", "a&".repeat(17))), [], "bounded");
    }

    #[test]
    fn parameters_are_left_out_by_name_and_pattern() {
        let ignoring = |list: &[&str]| QueryRule { ignored: names(list), kept: None };
        let keeping = |name: &str| QueryRule { kept: Some(vec![name.to_owned()]), ..QueryRule::default() };
        let all = QueryRule { ignored: IgnoredQuery::All, kept: None };
        let name = "/v/1.ts?token=abc&utm_source=x&t=2&UTM_y=1&flag";
        assert_eq!(ignoring(&["token", "utm_*"]).strip(name), "/v/1.ts?t=2&UTM_y=1&flag");
        assert_eq!(all.strip("/v/1.ts?a&_HLS_msn=7"), "/v/1.ts?_HLS_msn=7");
        assert_eq!(keeping("t").strip(name), "/v/1.ts?t=2");
        assert_eq!(keeping("none").strip(name), "/v/1.ts");
        assert_eq!(QueryRule::default().strip(name), name);
        assert_eq!(ignoring(&["token"]).strip("/v/1.ts"), "/v/1.ts");
        assert_eq!(ignoring(&["token"]).strip("/v/1.ts?token"), "/v/1.ts");
    }

    #[test]
    fn byte_ranges_have_names_of_their_own() {
        for (whole, name) in
            [("h/a.mp4", "h/a.mp4?skycache-range=10-19"), ("h/a.mp4?s=1", "h/a.mp4?s=1&skycache-range=10-19")]
        {
            assert_eq!(name_of_range(whole, &(10..20)), name);
            assert_eq!(range_of_name(name), Some((whole, 10..20)));
            assert_eq!(ObjectKey::from_name(name, None).unwrap().as_str(), name, "normalised as it is");
        }
        for name in [
            "h/a",
            "h/a?skycache-range=",
            "h/a?skycache-range=5",
            "h/a?skycache-range=5-4",
            "h/a?skycache-range=+5-6",
            "h/a?skycache-range=5-6&b",
            "h/a?skycache-range=0-18446744073709551615",
            "h/askycache-range=5-6",
            "?skycache-range=5-6",
        ] {
            assert_eq!(range_of_name(name), None, "{name}");
        }
        assert!(!IgnoredQuery::All.ignores(RANGE_PARAMETER) && !names(&["*"]).ignores(RANGE_PARAMETER));
        let key = ObjectKey::from_name("h/a.mp4?s=1&skycache-range=10-19", None).unwrap();
        let without_session = candidates(&key).into_iter().find(|(_, left_out)| left_out == &["s"]).unwrap();
        assert_eq!(without_session.0.as_str(), "h/a.mp4?skycache-range=10-19");
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*x*y*", "1x2y3", true),
            ("*x*y*", "1y2x3", false),
            ("ab", "abc", false),
            ("", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
