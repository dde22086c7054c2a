//! Uses of a response that is no longer fresh (RFC 9111 section 4.2.4, RFC 5861).

use carousel::time::WallTime;
use http::HeaderMap;

use super::Directives;

/// Staleness of a response, and the uses that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staleness {
    /// It may be used during its revalidation.
    pub while_revalidating: bool,
    /// It may be used while the origin fails.
    pub if_error: bool,
}

/// Target durations for which a live manifest is used stale while the origin fails and has set no limit of its own.
/// Players go to another origin only when they get an error.
const STALE_TARGETS: u64 = 3;

impl Staleness {
    /// Rules for a response with these fields that became stale at `expires`. `live_target_ms`: it is a live manifest with
    /// segments of this duration.
    pub fn of(response: &HeaderMap, expires: WallTime, now: WallTime, live_target_ms: Option<u64>) -> Self {
        let directives = Directives::of(response);
        // `s-maxage` implies `proxy-revalidate` (section 5.2.2.10).
        let is_forbidden = directives.must_revalidate
            || directives.proxy_revalidate
            || directives.no_cache
            || directives.s_maxage_s.is_some();
        if is_forbidden {
            return Self { while_revalidating: false, if_error: false };
        }
        let since_ms = now.unix_ms().saturating_sub(expires.unix_ms());
        let within = |seconds: u32| since_ms < i64::from(seconds) * 1000;
        Self {
            while_revalidating: directives.stale_while_revalidate_s.is_some_and(within),
            if_error: match (directives.stale_if_error_s, live_target_ms) {
                (Some(seconds), _) => within(seconds),
                (None, Some(target_ms)) => u64::try_from(since_ms).unwrap_or(0) < STALE_TARGETS * target_ms,
                // Not specified: an earlier response of a failing origin is better than nothing.
                (None, None) => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::from_pairs;
    use super::*;

    #[test]
    fn windows_and_what_forbids_them() {
        let after = |value: &str, seconds: i64| {
            let response = from_pairs([("cache-control", value)]);
            let expires = WallTime::from_unix_ms(1_800_000_000_000);
            let now = WallTime::from_unix_ms(expires.unix_ms() + seconds * 1000);
            let at = Staleness::of(&response, expires, now, None);
            (at.while_revalidating, at.if_error)
        };
        assert_eq!(after("max-age=1", 5), (false, true));
        assert_eq!(after("max-age=1, stale-while-revalidate=10", 5), (true, true));
        assert_eq!(after("max-age=1, stale-while-revalidate=10", 11), (false, true));
        assert_eq!(after("max-age=1, stale-if-error=10", 11), (false, false));
        for forbids in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=1"] {
            let value = format!("max-age=1, stale-while-revalidate=60, {forbids}");
            assert_eq!(after(&value, 5), (false, false), "{forbids}");
        }
    }

    #[test]
    fn a_live_manifest_is_used_for_three_target_durations_while_its_origin_fails() {
        let after = |value: &str, ms: i64| {
            let response = from_pairs([("cache-control", value)]);
            let expires = WallTime::from_unix_ms(1_800_000_000_000);
            let now = WallTime::from_unix_ms(expires.unix_ms() + ms);
            Staleness::of(&response, expires, now, Some(2000)).if_error
        };
        assert!(after("max-age=1", 5999) && !after("max-age=1", 6000));
        assert!(after("max-age=1, stale-if-error=60", 59_000) && !after("max-age=1, stale-if-error=1", 1000));
        assert!(!after("no-cache", 10));
    }
}
