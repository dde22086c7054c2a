//! Time limits towards origins, by route: to the first byte of a response, and between two pieces of its body.
//!
//! Defaults are typical of delivery networks. An origin may hold back a playlist for three target durations (LL-HLS), the
//! next chunk of a segment for its duration, and the next event of a stream indefinitely.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::{ByBase, Route};

/// `[http.origin_timeouts]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginTimeouts {
    /// Until the connection is there, TLS included; at most 60 s.
    pub connect_ms: u64,
    /// From the request until the head of its response.
    pub first_byte_ms: u64,
    /// Between two pieces of a body.
    pub between_bytes_ms: u64,
}

impl Default for OriginTimeouts {
    fn default() -> Self {
        Self { connect_ms: 5000, first_byte_ms: 60_000, between_bytes_ms: 60_000 }
    }
}

/// `timeouts` of a `[[route]]`: what differs from `[http.origin_timeouts]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// Until the connection is there, TLS included; at most 60 s.
    pub connect_ms: Option<u64>,
    /// From the request until the head of its response.
    pub first_byte_ms: Option<u64>,
    /// Between two pieces of a body.
    pub between_bytes_ms: Option<u64>,
}

/// The limits of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) between_bytes: Duration,
}

impl Limits {
    /// One limit for every step, for the box's own requests.
    pub(super) const fn same(limit: Duration) -> Self {
        Self { connect: limit, first_byte: limit, between_bytes: limit }
    }

    const fn of(timeouts: &OriginTimeouts) -> Self {
        Self {
            connect: Duration::from_millis(timeouts.connect_ms),
            first_byte: Duration::from_millis(timeouts.first_byte_ms),
            between_bytes: Duration::from_millis(timeouts.between_bytes_ms),
        }
    }
}

/// Limits by URL.
#[derive(Debug, Clone)]
pub(super) struct Table {
    default: Limits,
    routes: ByBase<Limits>,
}

impl Table {
    pub(super) fn new(timeouts: &OriginTimeouts, routes: &[Route]) -> Self {
        let of = |route: &Route| {
            let OriginTimeouts { connect_ms, first_byte_ms, between_bytes_ms } = *timeouts;
            let own = route.timeouts;
            Some(Limits::of(&OriginTimeouts {
                connect_ms: own.connect_ms.unwrap_or(connect_ms),
                first_byte_ms: own.first_byte_ms.unwrap_or(first_byte_ms),
                between_bytes_ms: own.between_bytes_ms.unwrap_or(between_bytes_ms),
            }))
        };
        Self { default: Limits::of(timeouts), routes: ByBase::new(routes, of) }
    }

    /// Limits of a request for `url`: those of the longest matching base.
    pub(super) fn of(&self, url: &str) -> Limits {
        self.routes.of(url).map_or(self.default, |(limits, _)| *limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_differs_in_what_it_says() {
        let route = |base: &str, first_byte_ms| Route {
            base: base.to_owned(),
            timeouts: RouteTimeouts { first_byte_ms, ..RouteTimeouts::default() },
            ..Route::default()
        };
        let routes =
            [route("http://a/", Some(1000)), route("http://a/live/", Some(2000)), route("http://b/", None)];
        let table = Table::new(&OriginTimeouts::default(), &routes);
        let first_byte_s = |url: &str| table.of(url).first_byte.as_secs();
        assert_eq!(first_byte_s("http://a/x"), 1);
        assert_eq!(first_byte_s("http://a/live/x"), 2);
        assert_eq!((first_byte_s("http://b/x"), first_byte_s("http://c/x")), (60, 60));
        assert_eq!(table.of("http://a/x").between_bytes, Duration::from_secs(60));
    }
}
