//! `Vary` (RFC 9111 section 4.1): the request fields by which a response was selected.

use http::HeaderMap;

/// Request fields by which a stored response was selected, normalised; `None`: the request did not have it.
pub type Selecting = Vec<(String, Option<String>)>;

carousel::limits! {
    /// Request fields by which a response may be selected (`Vary`).
    const MAX_FIELDS: usize = 16, "fields" {
        why: "Origins name one to five; with more, hardly any request would match.",
        full: "The response is not kept; counted as `vary`.",
        free: "Holds for one response.",
        test: "responses_that_vary_by_more_fields_than_the_limit_are_not_kept",
    }
}

/// Name for the products and the platform of `User-Agent`, without their versions.
pub const BY_PRODUCTS: &str = "user-agent;products";
/// Name for the site whose scripts may read a response; requests without `Origin` are not from a script.
pub const BY_ALLOWED_SITE: &str = "origin;allowed";

/// Fields that never select. Of one connection, its end or a tunnel: each is read and replaced by every intermediary (RFC 9110 section
/// 7.6.1). Ranges and conditions choose the part and the status of a response, not the representation (RFC 9110 sections 13 and
/// 14). Origins are asked for what is not encoded.
const NOT_SELECTING: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The fields that `Vary` names, with their values in the request as it is sent to the origin. `None` for `*`, or for more fields than
/// are read.
pub fn selecting_of(request: &HeaderMap, response: &HeaderMap) -> Option<Selecting> {
    let mut selecting = Selecting::new();
    for line in response.get_all(http::header::VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let name = name.to_ascii_lowercase();
            if name == "*" || selecting.len() >= MAX_FIELDS {
                return None;
            }
            if !NOT_SELECTING.contains(&name.as_str()) && !selecting.iter().any(|(have, _)| *have == name) {
                let value = normalised(request, &name);
                selecting.push((name, value));
            }
        }
    }
    Some(selecting)
}

/// Adds a field to `Vary`, in one line: nginx 1.22 reads only the last of several.
pub fn vary_by(fields: &mut HeaderMap, name: &str) {
    let lines = fields.get_all(http::header::VARY).iter().filter_map(|it| it.to_str().ok());
    let mut names: Vec<&str> =
        lines.flat_map(|line| line.split(',')).map(str::trim).filter(|it| !it.is_empty()).collect();
    if names.contains(&"*") {
        return;
    }
    if !names.iter().any(|it| it.eq_ignore_ascii_case(name)) {
        names.push(name);
    }
    if let Ok(line) = http::HeaderValue::from_str(&names.join(", ")) {
        fields.insert(http::header::VARY, line);
    }
}

/// Whether a request selects the response that was selected by `selecting`.
pub fn matches(
    selecting: &[(String, Option<String>)],
    request: &HeaderMap,
    content_language: Option<&str>,
) -> bool {
    selecting.iter().all(|(name, value)| {
        let asked = normalised(request, name);
        (name == BY_ALLOWED_SITE && asked.is_none())
            || asked == *value
            || (name == "accept-language" && prefers(asked.as_deref(), content_language))
    })
}

/// Value of a request under this name.
pub fn selected_by(request: &HeaderMap, name: &str) -> Option<String> {
    normalised(request, name)
}

/// Products and platform of a `User-Agent`: letters only, so that versions do not count.
fn products(user_agent: &str) -> String {
    let words = user_agent.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 1);
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join(" ")
}

/// A field's value with its lines joined and without space around commas; languages also sorted and in one case.
fn normalised(request: &HeaderMap, name: &str) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut any = false;
    let latin =
        |line: &http::HeaderValue| line.as_bytes().iter().map(|&byte| char::from(byte)).collect::<String>();
    if name == BY_PRODUCTS {
        return request.get(http::header::USER_AGENT).map(|it| products(&latin(it)));
    }
    let name = if name == BY_ALLOWED_SITE { "origin" } else { name };
    if name == "cookie" {
        // Several fields of HTTP/2 are one of HTTP/1.1 (RFC 9113 section 8.2.3); a comma separates nothing in it.
        let crumbs: Vec<String> =
            request.get_all(name).iter().map(|line| latin(line).trim().to_owned()).collect();
        return (!crumbs.is_empty()).then(|| crumbs.join("; "));
    }
    for line in request.get_all(name) {
        any = true;
        let line = latin(line);
        parts.extend(line.split(',').map(|part| part.trim().to_owned()));
    }
    if name == "accept-language" {
        parts.iter_mut().for_each(|part| part.make_ascii_lowercase());
        parts.sort();
    }
    any.then(|| parts.join(","))
}

/// Whether the language of the stored response is the one that the request prefers.
fn prefers(asked: Option<&str>, content_language: Option<&str>) -> bool {
    let (Some(asked), Some(have)) = (asked, content_language) else { return false };
    let quality = |part: &str| {
        let (language, rest) = part.split_once(';').unwrap_or((part, ""));
        let quality = rest.trim().strip_prefix("q=").map_or(Some(1.0), |it| it.trim().parse::<f32>().ok());
        (language.trim().to_owned(), quality.unwrap_or(0.0))
    };
    let all: Vec<(String, f32)> = asked.split(',').map(quality).collect();
    let most = all.iter().map(|(_, quality)| *quality).fold(0.0, f32::max);
    let mut best = all.iter().filter(|(_, quality)| *quality >= most && most > 0.0);
    // Only if one language is preferred: among equals the origin chooses.
    matches!((best.next(), best.next()), (Some((language, _)), None) if language.eq_ignore_ascii_case(have.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::from_pairs;
    use super::*;

    fn selects(vary: &str, first: &[(&str, &str)], second: &[(&str, &str)]) -> Option<bool> {
        let response = from_pairs([("vary", vary), ("content-language", "de")]);
        let selecting = selecting_of(&from_pairs(first.iter().copied()), &response)?;
        Some(matches(&selecting, &from_pairs(second.iter().copied()), Some("de")))
    }

    #[test]
    fn a_response_varies_by_one_line() {
        let varied = |lines: &[&str]| {
            let mut fields = from_pairs(lines.iter().map(|it| ("vary", *it)));
            vary_by(&mut fields, "Origin");
            let all = fields.get_all(http::header::VARY);
            all.iter().map(|it| it.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(varied(&[]), ["Origin"]);
        assert_eq!(varied(&["Accept-Encoding", "X-A,  X-B"]), ["Accept-Encoding, X-A, X-B, Origin"]);
        assert_eq!(varied(&["origin, Accept"]), ["origin, Accept"]);
        assert_eq!(varied(&["*"]), ["*"]);
    }

    #[test]
    fn requests_match_by_the_fields_that_vary_names() {
        let foo = [("foo", "1"), ("other", "2")];
        assert_eq!(selects("Foo", &foo, &[("foo", "1"), ("other", "3")]), Some(true));
        for other in [&[("foo", "2")][..], &[]] {
            assert_eq!(selects("Foo", &foo, other), Some(false), "{other:?}");
        }
        assert_eq!(selects("Foo", &[], &foo), Some(false));
        assert_eq!(
            selects("Foo, Bar, baz", &[("foo", "1"), ("baz", "9")], &[("baz", "9"), ("foo", "1")]),
            Some(true)
        );
        assert_eq!(
            selects("Foo, Bar", &[("foo", "1"), ("bar", "a")], &[("foo", "1"), ("bar", "b")]),
            Some(false)
        );
        assert_eq!(selects("Accept-Encoding", &[("accept-encoding", "gzip")], &[]), Some(true));
    }

    #[test]
    fn fields_of_a_connection_conditions_and_ranges_do_not_select() {
        for name in NOT_SELECTING {
            assert_eq!(selects(name, &[(name, "1")], &[(name, "2")]), Some(true), "{name}");
        }
        let response = from_pairs([("vary", NOT_SELECTING.join(", "))]);
        assert_eq!(selecting_of(&HeaderMap::new(), &response), Some(Vec::new()), "they take no place either");
    }

    #[test]
    fn responses_that_vary_by_more_fields_than_the_limit_are_not_kept() {
        let vary = |count: usize| {
            let names: Vec<String> = (0..count).map(|at| format!("x-{at}")).collect();
            selecting_of(&HeaderMap::new(), &from_pairs([("vary", names.join(", "))])).map(|it| it.len())
        };
        assert_eq!(vary(MAX_FIELDS), Some(MAX_FIELDS));
        assert_eq!(vary(MAX_FIELDS + 1), None);
        assert_eq!(vary(1), Some(1));
    }

    #[test]
    fn a_response_for_scripts_of_one_site_is_for_that_site_and_for_no_script() {
        let site = |origin: &str| from_pairs([("origin", origin)]);
        let selecting = vec![(BY_ALLOWED_SITE.to_owned(), Some("https://a.example".to_owned()))];
        assert!(matches(&selecting, &site("https://a.example"), None));
        assert!(matches(&selecting, &HeaderMap::new(), None));
        assert!(!matches(&selecting, &site("https://b.example"), None));
        assert_eq!(
            selected_by(&site("https://b.example"), BY_ALLOWED_SITE).as_deref(),
            Some("https://b.example")
        );
    }

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for vary in ["*", "*, *", ", *", "*, Foo", "Foo, *"] {
            assert_eq!(selects(vary, &[], &[]), None, "{vary}");
        }
    }

    #[test]
    fn values_that_mean_the_same_are_the_same() {
        assert_eq!(selects("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]), Some(true));
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
        assert_eq!(selects("Cookie", &crumbs, &[("cookie", "a=1; b=2")]), Some(true));
        assert_eq!(selects("Cookie", &crumbs, &[("cookie", "a=1; b=3")]), Some(false));
        assert_eq!(selects("foo", &[("foo", "1,2")], &[("foo", " 1, 2 ")]), Some(true));
        let language = |asked| {
            selects("accept-language", &[("accept-language", "en, de")], &[("accept-language", asked)])
        };
        for same in ["de, en", "eN, De", " en ,   de", "fr;q=0.5, de;q=1.0"] {
            assert_eq!(language(same), Some(true), "{same}");
        }
        for other in ["fr", "en;q=1.0, de;q=0.5", "de;q=0"] {
            assert_eq!(language(other), Some(false), "{other}");
        }
    }
}
