//! `Cache-Control` (RFC 9111 section 5.2) of responses and requests, and its targeted form (RFC 9213).

use http::HeaderMap;

/// Greatest number of seconds of a directive (RFC 9111 section 1.2.2): a recipient takes it for any greater one.
const MAX_SECONDS: u32 = 1 << 31;

/// Directives of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// Seconds for which it is fresh; a value that cannot be read is 0.
    pub max_age_s: Option<u32>,
    /// As `max_age_s`, for caches that many share; not in a targeted field.
    pub s_maxage_s: Option<u32>,
    /// Not to be kept.
    pub no_store: bool,
    /// Stored, but revalidated before each use.
    pub no_cache: bool,
    /// Fields that `no-cache` names: they are not kept.
    pub no_cache_fields: Vec<String>,
    /// Not to be stored by a shared cache.
    pub private: bool,
    /// To be stored even if other rules forbid it.
    pub public: bool,
    /// Never used stale.
    pub must_revalidate: bool,
    /// Never used stale by a shared cache.
    pub proxy_revalidate: bool,
    /// Stored only by caches that know its status, which then ignore `no-store`.
    pub must_understand: bool,
    /// Not to be transformed.
    pub no_transform: bool,
    /// Seconds for which it may be used stale during revalidation (RFC 5861).
    pub stale_while_revalidate_s: Option<u32>,
    /// Seconds for which it may be used stale while the origin fails (RFC 5861).
    pub stale_if_error_s: Option<u32>,
    /// They come from a targeted field: `Expires` does not count beside them.
    pub is_targeted: bool,
}

impl Directives {
    /// Directives of a response: those for caches of a delivery network, if they are readable, else those for all caches.
    pub fn of(response: &HeaderMap) -> Self {
        Self::targeted(response).unwrap_or_else(|| {
            let mut directives = Self::default();
            each(response, "cache-control", |name, value| directives.take(name, value));
            directives
        })
    }

    /// `CDN-Cache-Control`: a Dictionary of Structured Fields (RFC 9651); a malformed one does not count.
    fn targeted(response: &HeaderMap) -> Option<Self> {
        let lines: Vec<&str> =
            response.get_all("cdn-cache-control").iter().map(|it| it.to_str().ok()).collect::<Option<_>>()?;
        let mut directives = Self { is_targeted: true, ..Self::default() };
        let mut any = false;
        for member in split(&lines.join(", "), ',') {
            let (key, value) =
                member.split_once('=').map_or((member, None), |(key, value)| (key, Some(value)));
            let is_key = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
                && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c));
            let is_value = value.is_none_or(|value| {
                value.starts_with(|c: char| c.is_ascii_alphanumeric() || "\"-?:(*@%".contains(c))
            });
            if !is_key || !is_value {
                return None;
            }
            any = true;
            // Times are Integers; a directive with a String instead is ignored.
            let is_time = matches!(key, "max-age" | "stale-while-revalidate" | "stale-if-error");
            if !is_time || value.is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit())) {
                directives.take(key, value);
            }
        }
        any.then_some(directives)
    }

    fn take(&mut self, name: &str, value: Option<&str>) {
        let seconds = || Some(value.and_then(seconds).unwrap_or(0));
        // The first of two contradicting ones counts (section 4.2.1).
        match name {
            "max-age" => self.max_age_s = self.max_age_s.or_else(seconds),
            "s-maxage" => self.s_maxage_s = self.s_maxage_s.or_else(seconds),
            "no-store" => self.no_store = true,
            "no-cache" => match value.map(unquote) {
                None => self.no_cache = true,
                Some(list) => self.no_cache_fields.extend(
                    list.split(',').map(|it| it.trim().to_ascii_lowercase()).filter(|it| !it.is_empty()),
                ),
            },
            // Also with field names: nothing private is stored here.
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-transform" => self.no_transform = true,
            "stale-while-revalidate" => {
                self.stale_while_revalidate_s = self.stale_while_revalidate_s.or_else(seconds);
            }
            "stale-if-error" => self.stale_if_error_s = self.stale_if_error_s.or_else(seconds),
            _ => {}
        }
    }

    /// Explicit freshness in a shared cache.
    pub fn lifetime_s(&self) -> Option<u32> {
        self.s_maxage_s.or(self.max_age_s)
    }
}

/// Directives of a player for caches. Only those that cannot be turned against an origin are obeyed: a million players that
/// reload with `no-cache` must not all reach it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Answer only from the cache.
    pub only_if_cached: bool,
    /// The answer is not to be stored.
    pub no_store: bool,
}

impl RequestDirectives {
    /// Directives of a request.
    pub fn of(request: &HeaderMap) -> Self {
        let mut directives = Self::default();
        each(request, "cache-control", |name, _| match name {
            "only-if-cached" => directives.only_if_cached = true,
            "no-store" => directives.no_store = true,
            _ => {}
        });
        directives
    }
}

/// Every directive of a field, its name in lower case.
fn each(fields: &HeaderMap, field: &str, mut take: impl FnMut(&str, Option<&str>)) {
    for line in fields.get_all(field) {
        let Ok(line) = std::str::from_utf8(line.as_bytes()) else { continue };
        for directive in split(line, ',') {
            let (name, value) =
                directive.split_once('=').map_or((directive, None), |(name, value)| (name, Some(value)));
            take(&name.trim_end().to_ascii_lowercase(), value.map(str::trim));
        }
    }
}

/// The parts of a list, not split at commas in quoted strings; skips empty ones.
pub(super) fn split(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    list.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    })
    .map(str::trim)
    .filter(|it| !it.is_empty())
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value)
}

/// `delta-seconds`, quoted or not.
fn seconds(value: &str) -> Option<u32> {
    let digits = unquote(value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(
        digits
            .parse::<u64>()
            .map_or(MAX_SECONDS, |it| u32::try_from(it).map_or(MAX_SECONDS, |it| it.min(MAX_SECONDS))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Directives {
        Directives::of(&super::super::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn times_as_rfc_9111_has_them() {
        for (value, seconds) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("foobar, max-age=3600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age=99999999999", Some(1 << 31)),
            ("max-age=2147483649", Some(1 << 31)),
            ("extension=\"max-age=3600\", max-age=1", Some(1)),
            ("max-age=1, extension=\"a, max-age=3600\"", Some(1)),
            ("max-age=-3600", Some(0)),
            ("max-age='3600'", Some(0)),
            ("max-age=3600.5", Some(0)),
            ("max-age", Some(0)),
            ("public", None),
        ] {
            assert_eq!(of(&[("cache-control", value)]).lifetime_s(), seconds, "{value}");
        }
        let two = of(&[("cache-control", "max-age=3600"), ("cache-control", "s-maxage=1")]);
        assert_eq!(two.lifetime_s(), Some(1));
    }

    #[test]
    fn fields_that_are_not_kept() {
        let named = of(&[("cache-control", "no-cache=\"a, B\", max-age=5")]);
        assert_eq!((named.no_cache, named.no_cache_fields), (false, vec!["a".to_owned(), "b".to_owned()]));
        assert!(of(&[("cache-control", "No-CaChE")]).no_cache);
        assert!(of(&[("cache-control", "private=\"x\"")]).private);
    }

    #[test]
    fn a_targeted_field_goes_before_all_others_if_it_is_one() {
        let with = |value: &str| of(&[("cache-control", "no-store"), ("cdn-cache-control", value)]);
        assert_eq!(with("max-age=10000").lifetime_s(), Some(10_000));
        assert!(!with("max-age=10000").no_store && with("max-age=10000").is_targeted);
        assert!(with("foobar, private").private);
        for bad in ["max-age=10000, &&&&&", "MaX-aGe=3600", "max-age =100", "max-age= 100", ""] {
            assert!(with(bad).no_store, "{bad}");
        }
        let wrong_type = with("max-age=\"10000\"");
        assert_eq!((wrong_type.lifetime_s(), wrong_type.is_targeted), (None, true));
    }

    #[test]
    fn what_players_ask() {
        let request = super::super::from_pairs([("cache-control", "only-if-cached, no-cache")]);
        let asked = RequestDirectives::of(&request);
        assert!(asked.only_if_cached && !asked.no_store);
    }
}
