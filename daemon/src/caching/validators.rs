//! Validators and conditionals (RFC 9110 sections 8.8 and 13).

use carousel::time::WallTime;
use http::HeaderMap;
use http::header::{self, HeaderValue};

use super::{directives::split, parse_date, text};

/// Fields that distinguish versions of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag, with its quotes and its `W/`.
    pub etag: Option<HeaderValue>,
    /// Time of its last change.
    pub last_modified: Option<WallTime>,
    /// Time at which its origin sent it: the date for `If-Modified-Since` if the date of the last change is not known
    /// (RFC 9111 section 4.3.2).
    pub dated: Option<WallTime>,
}

/// Result of a conditional request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// The method is to be executed.
    Holds,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Validators {
    /// Validators of a response.
    pub fn of(response: &HeaderMap) -> Self {
        Self {
            etag: response.get(header::ETAG).cloned(),
            last_modified: text(response, header::LAST_MODIFIED).and_then(parse_date),
            dated: text(response, header::DATE).and_then(parse_date),
        }
    }

    /// Whether this version can be revalidated at an origin.
    pub fn any(response: &HeaderMap) -> bool {
        response.contains_key(header::ETAG) || response.contains_key(header::LAST_MODIFIED)
    }

    /// Whether parts of responses with these validators may be put together (RFC 9110 section 15.3.7.3): the entity tag is
    /// strong, or the date is (section 8.8.2.2).
    pub fn are_strong(&self) -> bool {
        self.has_strong_tag() || self.has_strong_date()
    }

    fn has_strong_tag(&self) -> bool {
        self.etag.as_ref().is_some_and(|etag| etag.as_bytes().starts_with(b"\""))
    }

    fn has_strong_date(&self) -> bool {
        matches!((self.last_modified, self.dated), (Some(modified), Some(dated))
            if dated.unix_ms().saturating_sub(modified.unix_ms()) >= 1000)
    }

    /// Whether a part with `other` validators is of the same version.
    pub fn same_version(&self, other: &Self) -> bool {
        let is_same = self.etag == other.etag && self.last_modified == other.last_modified;
        is_same && (self.has_strong_tag() || (self.has_strong_date() && other.has_strong_date()))
    }

    /// Value of `If-Range` (section 13.1.5): a strong entity tag, or a strong date if there is no entity tag.
    pub fn if_range(&self) -> Option<HeaderValue> {
        if self.has_strong_tag() {
            return self.etag.clone();
        }
        let date = self.last_modified.filter(|_| self.etag.is_none() && self.has_strong_date())?;
        HeaderValue::from_str(&super::write_date(date)).ok()
    }

    /// `If-Match`, `If-Unmodified-Since`, `If-None-Match`, `If-Modified-Since`, in this order (section 13.2.2).
    pub fn precondition(&self, request: &HeaderMap) -> Precondition {
        if request.contains_key(header::IF_MATCH) {
            if !self.is_listed(request, header::IF_MATCH, false) {
                return Precondition::Failed;
            }
        } else if let (Some(since), Some(modified)) =
            (text(request, header::IF_UNMODIFIED_SINCE).and_then(parse_date), self.last_modified)
            && modified > since
        {
            return Precondition::Failed;
        }
        if request.contains_key(header::IF_NONE_MATCH) {
            let listed = self.is_listed(request, header::IF_NONE_MATCH, true);
            return if listed { Precondition::NotModified } else { Precondition::Holds };
        }
        let modified = self.last_modified.or(self.dated);
        match (text(request, header::IF_MODIFIED_SINCE).and_then(parse_date), modified) {
            (Some(since), Some(modified)) if modified <= since => Precondition::NotModified,
            _ => Precondition::Holds,
        }
    }

    fn is_listed(&self, request: &HeaderMap, field: header::HeaderName, weakly: bool) -> bool {
        let latin = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
        let own = self.etag.as_ref().map(|it| latin(it.as_bytes()));
        request.get_all(field).iter().any(|line| {
            let line = latin(line.as_bytes());
            line.trim() == "*"
                || split(&line, ',').any(|tag| own.as_deref().is_some_and(|own| same(tag, own, weakly)))
        })
    }

    /// Whether `If-Range` lets `Range` count (section 13.1.5): strong comparison, exact date.
    pub fn range_counts(&self, request: &HeaderMap) -> bool {
        let Some(validator) = request.get(header::IF_RANGE) else { return true };
        if validator.as_bytes().starts_with(b"\"") {
            return self.etag.as_ref() == Some(validator);
        }
        let date = validator.to_str().ok().and_then(parse_date);
        date.is_some() && date == self.last_modified
    }
}

/// Comparison of entity tags (section 8.8.3.2).
fn same(a: &str, b: &str, weakly: bool) -> bool {
    if weakly {
        return a.strip_prefix("W/").unwrap_or(a) == b.strip_prefix("W/").unwrap_or(b);
    }
    a == b && !a.starts_with("W/")
}

#[cfg(test)]
mod tests {
    use super::super::from_pairs;
    use super::*;

    #[test]
    fn conditionals_in_the_order_of_rfc_9110() {
        let held = Validators::of(&from_pairs([
            ("etag", "\"a,b\""),
            ("last-modified", "Tue, 14 Jul 2026 03:33:20 GMT"),
        ]));
        let (later, earlier) = ("Wed, 15 Jul 2026 00:00:00 GMT", "Sat, 21 Jun 2025 00:00:00 GMT");
        for (request, outcome) in [
            (vec![("if-none-match", "\"a,b\"")], Precondition::NotModified),
            (vec![("if-none-match", "\"other\", W/\"a,b\"")], Precondition::NotModified),
            (vec![("if-none-match", "\"other\""), ("if-none-match", "\"a,b\"")], Precondition::NotModified),
            (vec![("if-none-match", "*")], Precondition::NotModified),
            (vec![("if-none-match", "\"other\"")], Precondition::Holds),
            (vec![("if-none-match", "\"other\""), ("if-modified-since", later)], Precondition::Holds),
            (vec![("if-none-match", "\"a,b\""), ("if-modified-since", earlier)], Precondition::NotModified),
            (vec![("if-modified-since", later)], Precondition::NotModified),
            (vec![("if-modified-since", earlier)], Precondition::Holds),
            (vec![("if-modified-since", "yesterday")], Precondition::Holds),
            (vec![("if-match", "\"a,b\"")], Precondition::Holds),
            (vec![("if-match", "W/\"a,b\"")], Precondition::Failed),
            (vec![("if-unmodified-since", earlier)], Precondition::Failed),
            (vec![("if-unmodified-since", later)], Precondition::Holds),
            (vec![("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], Precondition::NotModified),
        ] {
            assert_eq!(held.precondition(&from_pairs(request.clone())), outcome, "{request:?}");
        }
        let weak = Validators::of(&from_pairs([("etag", "W/\"a\"")]));
        assert_eq!(weak.precondition(&from_pairs([("if-none-match", "\"a\"")])), Precondition::NotModified);
        assert_eq!(weak.precondition(&from_pairs([("if-match", "W/\"a\"")])), Precondition::Failed);
        let dated = Validators::of(&from_pairs([("date", "Tue, 14 Jul 2026 03:33:20 GMT")]));
        assert_eq!(
            dated.precondition(&from_pairs([("if-modified-since", later)])),
            Precondition::NotModified
        );
    }

    #[test]
    fn dates_are_compared_to_the_second_that_they_name() {
        let changed = "Tue, 14 Jul 2026 03:33:20 GMT";
        let (before, after) = ("Tue, 14 Jul 2026 03:33:19 GMT", "Tue, 14 Jul 2026 03:33:21 GMT");
        let held = Validators::of(&from_pairs([("last-modified", changed)]));
        let asked = |field, date| held.precondition(&from_pairs([(field, date)]));
        for (date, modified, unmodified) in [
            (before, Precondition::Holds, Precondition::Failed),
            (changed, Precondition::NotModified, Precondition::Holds),
            (after, Precondition::NotModified, Precondition::Holds),
        ] {
            assert_eq!(asked("if-modified-since", date), modified, "{date}");
            assert_eq!(asked("if-unmodified-since", date), unmodified, "{date}");
        }
        // A date is strong a second after it (RFC 9110 section 8.8.2.2).
        let at = |ms: i64| Some(WallTime::from_unix_ms(1_784_000_000_000 + ms));
        let dated = |ms| Validators { etag: None, last_modified: at(0), dated: at(ms) };
        assert!(!dated(999).are_strong() && dated(1000).are_strong());
    }

    #[test]
    fn parts_go_together_by_strong_validators_only() {
        let date = ("date", "Tue, 14 Jul 2026 03:33:21 GMT");
        let modified = ("last-modified", "Tue, 14 Jul 2026 03:33:20 GMT");
        let of = |fields: &[(&str, &str)]| Validators::of(&from_pairs(fields.iter().copied()));
        let tag = of(&[("etag", "\"a\""), date]);
        assert!(
            tag.are_strong() && tag.same_version(&tag) && !tag.same_version(&of(&[("etag", "\"b\""), date]))
        );
        assert_eq!(tag.if_range().unwrap(), "\"a\"");
        let dated = of(&[modified, date]);
        assert!(dated.are_strong() && dated.same_version(&dated));
        assert_eq!(dated.if_range().unwrap(), modified.1);
        // A weak tag says that the date alone must not be asked with.
        let both = of(&[("etag", "W/\"a\""), modified, date]);
        assert!(both.are_strong() && both.same_version(&both) && both.if_range().is_none());
        assert!(!both.same_version(&of(&[("etag", "W/\"b\""), modified, date])));
        for weak in [
            of(&[("etag", "W/\"a\""), date]),
            of(&[modified, ("date", modified.1)]),
            of(&[modified]),
            of(&[date]),
            of(&[]),
        ] {
            assert!(!weak.are_strong() && !weak.same_version(&weak) && weak.if_range().is_none(), "{weak:?}");
        }
    }

    #[test]
    fn if_range_is_strong_and_exact() {
        let held = Validators::of(&from_pairs([
            ("etag", "\"a\""),
            ("last-modified", "Tue, 14 Jul 2026 03:33:20 GMT"),
        ]));
        for (value, counts) in [
            ("\"a\"", true),
            ("Tue, 14 Jul 2026 03:33:20 GMT", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("Tue, 14 Jul 2026 03:33:21 GMT", false),
        ] {
            assert_eq!(held.range_counts(&from_pairs([("if-range", value)])), counts, "{value}");
        }
        assert!(held.range_counts(&HeaderMap::new()));
    }
}
