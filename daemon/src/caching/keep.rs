//! The decision to keep a response (RFC 9111 section 3), and its freshness (section 4.2).

use carousel::time::WallTime;
use http::{HeaderMap, header};

use super::selecting::{Selecting, selecting_of};
use super::{Directives, RequestDirectives, Validators, parse_date, text};

/// Part of the time since the last change for which a response is fresh by heuristics: a tenth, as RFC 9111 section 4.2.2 has it.
const HEURISTIC_SHARE: i64 = 10;
/// Longest freshness by heuristics: beyond a day RFC 7234 section 5.5.4 asked for a warning, which HTTP no longer has.
const MAX_HEURISTIC_S: i64 = 86_400;
/// Greatest age (RFC 9111 section 1.2.2): a cache that computes a greater one takes this one.
const MAX_AGE_S: i64 = 1 << 31;
/// A `Date` that is older than this shows that a clock is wrong, the origin's or the box's: an apparent age needs clocks that
/// agree reasonably (section 4.2.3), and a cache that has kept a response for a day sends `Age`. So does any `Date` in the past where
/// nothing says that a cache is on the way.
const MAX_APPARENT_MS: i64 = 86_400_000;

carousel::reasons! {
    /// Why a response is not kept.
    pub enum NotKept in "origin_not_kept" by "reason" {
        /// `no-store`, of the response or of the request.
        NoStore = "no_store",
        /// `private`.
        Private = "private",
        /// The request had `Authorization`, and the response does not say that it may be shared.
        Authorization = "authorization",
        /// `Vary: *`, or by what the route refuses.
        Vary = "vary",
        /// It sets a cookie, and the origin does not say how long it may be kept.
        SetCookie = "set_cookie",
        /// Its status is not one that is kept without explicit freshness.
        Status = "status",
        /// Stale at once, and nothing to ask the origin about it with.
        Useless = "useless",
        /// It repeats the value of a request field that no other request has to have: kept, it would be one client's answer to all
        /// (cache poisoning).
        Repeats = "repeats",
        /// Its body is empty, or ends within a box or a packet, and nothing is said about its freshness: its file may still be written.
        Incomplete = "incomplete",
        /// Its name or type is that of a manifest, its body is none, and nothing is said about its freshness: a page of an error, or a login.
        NoManifest = "no_manifest",
        /// Its name is that of media, its type and its body are those of a page, and nothing is said about its freshness.
        NoMedia = "no_media",
        /// Its fields do not fit the header of an object, and memory has no room for it.
        FieldsTooLong = "fields_too_long",
        /// Neither memory nor disk has room for its body.
        NoRoom = "no_room",
        /// A parent has held it since before a purge that may not have reached the parent yet.
        Purged = "purged",
    }
}

impl NotKept {
    /// Whether the response is only for the player that has requested it; otherwise waiting requests may share it.
    pub const fn is_for_one(self) -> bool {
        !matches!(
            self,
            Self::Status
                | Self::Useless
                | Self::Incomplete
                | Self::NoManifest
                | Self::NoMedia
                | Self::FieldsTooLong
                | Self::NoRoom
                | Self::Purged
        )
    }
}

/// A request and its response. Fields are end to end; times are this machine's steady ones.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// Fields of the request to the origin.
    pub request: &'a HeaderMap,
    /// Status of the response.
    pub status: u16,
    /// Fields of the response.
    pub response: &'a HeaderMap,
    /// Time at which the request was sent.
    pub requested_at: WallTime,
    /// Time at which the response's head was received.
    pub received_at: WallTime,
    /// The date then, which may have been set since the times above began to run.
    pub date: WallTime,
    /// Freshness in milliseconds if the origin says nothing at all; `None`: by heuristics, if possible.
    pub default_ms: Option<u64>,
}

/// Terms on which a response is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// End of its freshness.
    pub expires: WallTime,
    /// Its age on arrival, in seconds (section 4.2.3).
    pub initial_age_s: u32,
    /// Age in seconds of a response without a freshness of its origin: by `Age` alone, independent of the clocks.
    pub implicit_age_s: Option<u32>,
    /// Request fields by which it was selected.
    pub selecting: Selecting,
    /// Fields that are not kept.
    pub without: Vec<String>,
}

/// Decides whether and on which terms a response is stored.
///
/// # Errors
/// Why not.
pub fn judge(exchange: &Exchange<'_>) -> Result<Keep, NotKept> {
    let Exchange { request, status, response, .. } = exchange;
    let directives = Directives::of(response);
    if directives.must_understand && !is_understood(*status) {
        return Err(NotKept::Status);
    }
    let no_store = directives.no_store && !directives.must_understand;
    if no_store || RequestDirectives::of(request).no_store {
        return Err(NotKept::NoStore);
    }
    if directives.private {
        return Err(NotKept::Private);
    }
    let is_shared_in_words =
        directives.public || directives.must_revalidate || directives.s_maxage_s.is_some();
    if request.contains_key(header::AUTHORIZATION) && !is_shared_in_words {
        return Err(NotKept::Authorization);
    }
    let selecting = selecting_of(request, response).ok_or(NotKept::Vary)?;
    let explicit = explicit_s(&directives, exchange);
    if explicit.is_none() && !is_kept_by_default(*status) && !directives.public {
        return Err(NotKept::Status);
    }
    let initial_age_s = initial_age_s(exchange);
    let lifetime_ms = match explicit {
        _ if directives.no_cache => 0,
        Some(seconds) => seconds.saturating_mul(1000),
        None => implicit_ms(exchange),
    };
    let left_ms = lifetime_ms.saturating_sub(initial_age_s.saturating_mul(1000));
    if left_ms <= 0 && !Validators::any(response) {
        return Err(NotKept::Useless);
    }
    Ok(Keep {
        expires: WallTime::from_unix_ms(exchange.received_at.unix_ms().saturating_add(left_ms)),
        initial_age_s: u32::try_from(initial_age_s).unwrap_or(u32::MAX),
        implicit_age_s: (explicit.is_none() && !directives.no_cache)
            .then(|| u32::try_from(age_value_s(response)).unwrap_or(u32::MAX)),
        selecting,
        without: directives.no_cache_fields,
    })
}

/// Whether we implement everything that a status requires of a cache.
const fn is_understood(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300..=303 | 307 | 308 | 400..=417 | 421..=429 | 451 | 500..=505)
}

/// Statuses that are heuristically cacheable (RFC 9110 section 15.1), but for 206, of which only whole objects are kept.
const fn is_kept_by_default(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether a response says itself how long it is fresh.
pub fn has_lifetime(response: &HeaderMap) -> bool {
    let directives = Directives::of(response);
    directives.lifetime_s().is_some() || (!directives.is_targeted && response.contains_key(header::EXPIRES))
}

/// Seconds of freshness that the origin gives (section 4.2.1).
fn explicit_s(directives: &Directives, exchange: &Exchange<'_>) -> Option<i64> {
    if let Some(seconds) = directives.lifetime_s() {
        return Some(i64::from(seconds));
    }
    if directives.is_targeted {
        return None;
    }
    let mut lines = exchange.response.get_all(header::EXPIRES).iter();
    let expires = lines.next()?;
    // Two dates, or a malformed one: in the past (section 5.3).
    let date = if lines.next().is_some() { None } else { expires.to_str().ok().and_then(parse_date) };
    Some(date.map_or(0, |expires| (expires.unix_ms() - dated(exchange).unix_ms()) / 1000))
}

/// Freshness in milliseconds if the origin gives none: the configured one for its type, else by heuristics.
fn implicit_ms(exchange: &Exchange<'_>) -> i64 {
    if let Some(ms) = exchange.default_ms {
        return i64::try_from(ms).unwrap_or(i64::MAX);
    }
    let modified = text(exchange.response, header::LAST_MODIFIED).and_then(parse_date);
    modified.map_or(0, |modified| {
        let since_s = (dated(exchange).unix_ms() - modified.unix_ms()) / 1000;
        (since_s / HEURISTIC_SHARE).clamp(0, MAX_HEURISTIC_S) * 1000
    })
}

/// Time at which the origin made the response, by its `Date`; else of its arrival.
fn dated(exchange: &Exchange<'_>) -> WallTime {
    text(exchange.response, header::DATE).and_then(parse_date).unwrap_or(exchange.date)
}

/// Section 4.2.3: the corrected initial age.
fn initial_age_s(exchange: &Exchange<'_>) -> i64 {
    // The earlier of two dates, so that a clock that is ahead makes nothing old.
    let date = exchange.received_at.min(exchange.date);
    let is_by_a_cache = [header::AGE, header::VIA].iter().any(|name| exchange.response.contains_key(name));
    let apparent_ms =
        Some(date.unix_ms() - dated(exchange).unix_ms()).filter(|ms| is_by_a_cache && *ms <= MAX_APPARENT_MS);
    let delay_ms = exchange.received_at.unix_ms() - exchange.requested_at.unix_ms();
    let corrected_s = age_value_s(exchange.response).saturating_add(delay_ms.max(0) / 1000);
    (apparent_ms.unwrap_or(0).max(0) / 1000).max(corrected_s).min(MAX_AGE_S)
}

/// `Age`: the first of several; a value that is not a number is ignored (section 5.1).
fn age_value_s(response: &HeaderMap) -> i64 {
    let first = text(response, header::AGE).and_then(|line| line.split(',').next()).map_or("", str::trim);
    // A parameter is not in the grammar, but its number is what was meant.
    let digits = first.split(';').next().unwrap_or("").trim_end();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    digits.parse::<i64>().unwrap_or(MAX_AGE_S)
}

#[cfg(test)]
mod tests {
    use super::super::{from_pairs, write_date};
    use super::*;

    const NOW_MS: i64 = 1_784_000_000_000;

    fn at(seconds: i64) -> String {
        write_date(WallTime::from_unix_ms(NOW_MS + seconds * 1000))
    }

    fn judged(status: u16, request: &[(&str, &str)], response: &[(&str, &str)]) -> Result<Keep, NotKept> {
        judge(&Exchange {
            request: &from_pairs(request.iter().copied()),
            status,
            response: &from_pairs(response.iter().copied()),
            requested_at: WallTime::from_unix_ms(NOW_MS),
            received_at: WallTime::from_unix_ms(NOW_MS),
            date: WallTime::from_unix_ms(NOW_MS),
            default_ms: None,
        })
    }

    /// Seconds of freshness left; `None`: not kept.
    fn fresh(response: &[(&str, &str)]) -> Option<i64> {
        judged(200, &[], response).ok().map(|keep| (keep.expires.unix_ms() - NOW_MS) / 1000)
    }

    #[test]
    fn freshness_is_explicit_then_heuristic_then_none() {
        let (past, soon, later) = (at(-7200), at(10), at(2_592_000));
        assert_eq!(fresh(&[]), None);
        assert_eq!(fresh(&[("cache-control", "max-age=3600")]), Some(3600));
        assert_eq!(fresh(&[("cache-control", "max-age=3600"), ("expires", &past)]), Some(3600));
        assert_eq!(fresh(&[("cache-control", "max-age=3600"), ("expires", "0")]), Some(3600));
        assert_eq!(fresh(&[("cache-control", "max-age=0"), ("expires", &later)]), None);
        assert_eq!(fresh(&[("expires", &later), ("date", &at(0))]), Some(2_592_000));
        assert_eq!(fresh(&[("expires", &later), ("expires", &later)]), None);
        assert_eq!(fresh(&[("expires", &soon), ("date", "foo")]), Some(10));
        assert_eq!(fresh(&[("expires", &at(300)), ("date", &at(400))]), None);
        assert_eq!(fresh(&[("last-modified", &at(-1000)), ("date", &at(0))]), Some(100));
        assert_eq!(fresh(&[("last-modified", &at(-86_400_000)), ("date", &at(0))]), Some(86_400));
        assert_eq!(fresh(&[("cdn-cache-control", "max-age=5"), ("expires", &past)]), Some(5));
        assert_eq!(
            fresh(&[("cdn-cache-control", "foo"), ("expires", &later)]),
            None,
            "Expires is not targeted"
        );
    }

    #[test]
    fn age_counts_however_it_is_written() {
        let left = |lines: &[&str]| {
            let mut fields = vec![("cache-control", "max-age=3600"), ("etag", "\"e\"")];
            fields.extend(lines.iter().map(|line| ("age", *line)));
            fresh(&fields).unwrap()
        };
        for ignored in ["abc", "-7200", "7200.0", ""] {
            assert_eq!(left(&[ignored]), 3600, "{ignored}");
        }
        assert_eq!((left(&["600"]), left(&["600, 0"]), left(&["600", "0"])), (3000, 3000, 3000));
        assert_eq!((left(&["0, 600"]), left(&["0", "600"])), (3600, 3600));
        for old in ["7200", "2147483647", "2147483648", "99999999999999999999"] {
            assert!(left(&[old]) <= 0, "{old}");
        }
        let slow = [("date", at(-10)), ("expires", at(10)), ("age", "25".to_owned())];
        assert_eq!(fresh(&slow.each_ref().map(|(name, value)| (*name, value.as_str()))), None);
        for by_a_cache in [("age", "0"), ("via", "1.1 cdn")] {
            let fresh_from =
                |seconds| fresh(&[("date", &at(seconds)), ("cache-control", "max-age=3600"), by_a_cache]);
            assert_eq!(fresh_from(-7200), None, "apparent age");
            assert_eq!(fresh_from(-366 * 86_400), Some(3600), "clocks that disagree");
        }
        for behind in [30, 120, 7200, 90_000] {
            let fresh = fresh(&[("date", &at(-behind)), ("cache-control", "max-age=60")]);
            assert_eq!(fresh, Some(60), "the clock of an origin that is {behind} s behind");
        }
        let expires = [("date", at(-7200)), ("expires", at(-7190))];
        assert_eq!(fresh(&expires.each_ref().map(|(name, value)| (*name, value.as_str()))), Some(10));
    }

    #[test]
    fn a_delay_on_the_way_is_age() {
        let response = from_pairs([("cache-control", "max-age=3600"), ("date", at(5).as_str())]);
        let keep = judge(&Exchange {
            request: &HeaderMap::new(),
            status: 200,
            response: &response,
            requested_at: WallTime::from_unix_ms(NOW_MS),
            received_at: WallTime::from_unix_ms(NOW_MS + 5000),
            date: WallTime::from_unix_ms(NOW_MS + 5000),
            default_ms: None,
        });
        assert_eq!(keep.unwrap().initial_age_s, 5);
    }

    #[test]
    fn what_a_shared_cache_must_not_keep() {
        let with = |value: &'static str| judged(200, &[], &[("cache-control", value), ("etag", "\"e\"")]);
        for (value, why) in [
            ("no-store", NotKept::NoStore),
            ("max-age=9, No-StOrE", NotKept::NoStore),
            ("private, max-age=9", NotKept::Private),
        ] {
            assert_eq!(with(value).unwrap_err(), why, "{value}");
        }
        assert_eq!(
            judged(200, &[], &[("cache-control", "max-age=9"), ("vary", "foo, *")]).unwrap_err(),
            NotKept::Vary
        );
        let asked = |value| judged(200, &[("authorization", "x")], &[("cache-control", value)]);
        assert_eq!(asked("max-age=9").unwrap_err(), NotKept::Authorization);
        for value in ["max-age=9, public", "max-age=9, must-revalidate", "s-maxage=9"] {
            assert!(asked(value).is_ok(), "{value}");
        }
        let no_store = judged(200, &[("cache-control", "no-store")], &[("cache-control", "max-age=9")]);
        assert_eq!(no_store.unwrap_err(), NotKept::NoStore);
    }

    #[test]
    fn statuses_are_kept_by_default_or_when_told() {
        let modified = at(-86_400);
        let heuristic = |status| judged(status, &[], &[("last-modified", &modified), ("date", &at(0))]);
        for status in [200, 203, 204, 404, 405, 410, 414, 501] {
            assert!(heuristic(status).is_ok(), "{status}");
        }
        for status in [201, 202, 403, 500, 502, 503, 504, 599] {
            assert_eq!(heuristic(status).unwrap_err(), NotKept::Status, "{status}");
        }
        for status in [299, 302, 307, 400, 499, 500, 503, 599] {
            assert!(judged(status, &[], &[("cache-control", "max-age=9")]).is_ok(), "{status}");
        }
        let careful = [("cache-control", "max-age=9, no-store, must-understand")];
        assert!(judged(200, &[], &careful).is_ok());
        assert_eq!(judged(599, &[], &careful).unwrap_err(), NotKept::Status);
    }

    #[test]
    fn no_cache_is_kept_to_be_asked_about() {
        assert_eq!(fresh(&[("cache-control", "no-cache, max-age=9"), ("etag", "\"e\"")]), Some(0));
        assert_eq!(fresh(&[("cache-control", "no-cache, max-age=9")]), None);
        let keep = judged(200, &[], &[("cache-control", "no-cache=\"a\", max-age=9")]).unwrap();
        assert_eq!(keep.without, ["a"]);
    }
}
