//! Prefetch after a miss: the next segments of the manifest, or those that the player names in CMCD (CTA-5004 `nor` and
//! `nrr`). Names are never extrapolated.

use std::net::IpAddr;
use std::sync::Arc;

use carousel::name::{self, ObjectKey};
use http::HeaderValue;
use http::header::{self, HeaderMap};
use http::request::Parts;

use super::HttpServer;
use super::range::{self, RequestedRange};
use super::serve::ObjectRequest;
use crate::manifests::successors;
use crate::origin::FillRequest;
use crate::qoe::cmcd::Report;

/// Manifests searched for one segment, each a read from the cache. A rendition is listed in one; a service with several
/// versions of each has a few.
const MAX_MANIFESTS: usize = 4;

carousel::limits! {
    /// Objects that the CMCD of one request may name as next.
    const MAX_HINTS: usize = 4, "objects" {
        why: "Players name one or two.",
        full: "The others are ignored.",
        free: "Holds for one request.",
        test: "players_name_what_comes_next",
    }
}

/// An object to prefetch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Next {
    key: ObjectKey,
    range: Option<HeaderValue>,
}

impl HttpServer {
    /// Fetches the objects that the player will request after the missed one, with the fields of its request.
    pub(super) fn prefetch(self: &Arc<Self>, request: &ObjectRequest<'_>) {
        let count = self.config.prefetch_segments;
        let hints = if count == 0 { return } else { hints(request.head, request.key) };
        let range = request.head.headers.get(header::RANGE).cloned();
        // A part of an object is not a segment; `bytes=0-`, which some players always send, is all of it.
        if hints.is_empty() && range.as_ref().is_some_and(|it| it.as_bytes() != b"bytes=0-") {
            return;
        }
        let (server, key, fields) = (Arc::clone(self), request.key.clone(), request.fields());
        let client = request.peer;
        self.runtime.spawn(async move {
            let next = if hints.is_empty() {
                let (lister, key) = (Arc::clone(&server), key.clone());
                let listed = tokio::task::spawn_blocking(move || lister.listed_after(&key, count));
                let listed = listed.await.unwrap_or_default();
                listed.into_iter().map(|key| Next { key, range: range.clone() }).collect()
            } else {
                hints
            };
            for next in next.into_iter().take(count) {
                server.fetch_ahead(next, &key, fields.clone(), client).await;
            }
        });
    }

    fn listed_after(&self, key: &ObjectKey, count: usize) -> Vec<ObjectKey> {
        let manifests = self.shared.manifests.listing(key).into_iter().take(MAX_MANIFESTS);
        let listed = manifests.filter_map(|manifest| {
            let manifest = self.shared.store.chosen(&manifest, &HeaderMap::new())?;
            Some(successors(&manifest, key, count)).filter(|next| !next.is_empty())
        });
        listed.into_iter().next().unwrap_or_default()
    }

    /// Fetches one object, unless it is held, in flight, or announced by the carousel.
    async fn fetch_ahead(self: &Arc<Self>, next: Next, after: &ObjectKey, fields: HeaderMap, client: IpAddr) {
        let Next { key, range } = next;
        // Check flights first: a flight ends after its object is in the cache.
        let flight = self.shared.flights.get(key.as_str());
        let is_known = (flight.is_some() && range.is_none())
            || self.shared.store.contains(key.as_str())
            || self.shared.flights.announced(key.as_str()).is_some();
        // Credentials are sent only to the host that the player gave them to.
        let host = |key: &ObjectKey| key.as_str().split('/').next().map(str::to_owned);
        let url = self.origins.url_for(&key).filter(|_| !is_known && host(&key) == host(after));
        let Some(url) = url else { return };
        if let (Some(flight), Some(range)) = (&flight, &range)
            && let Some(length) = flight.length
            && let RequestedRange::Ranges(ranges) = range::parse(range.to_str().ok(), length)
        {
            for range in
                ranges.into_iter().filter(|it| it.end - it.start <= self.config.prefetch_object_bytes)
            {
                self.filler.want(flight, range, &fields).await;
            }
            return;
        }
        let ask = FillRequest { headers: fields, range, client: Some(client), ..FillRequest::default() };
        self.filler.prefetch(&key, url, ask).await;
    }
}

/// The next objects named by a request's CMCD: `nor`, with `nrr` as its range. Version 2 has a list of objects, each with its range as
/// the parameter `r`.
fn hints(head: &Parts, key: &ObjectKey) -> Vec<Next> {
    let query = head.uri.query().unwrap_or("");
    let in_query = query.split('&').find_map(|it| it.strip_prefix("CMCD=")).map(decoded);
    let in_field = || head.headers.get("cmcd-request").and_then(|it| it.to_str().ok()).map(str::to_owned);
    let Some(cmcd) = in_query.or_else(in_field) else { return Vec::new() };
    let report = Report::read(&cmcd);
    let mut objects: Vec<_> = report.strings("nor").take(MAX_HINTS).collect();
    let ranges: Vec<_> = report.strings("nrr").take(MAX_HINTS).map(|(range, _)| range).collect();
    if objects.is_empty() && !ranges.is_empty() {
        objects.push(("", None));
    }
    let base = format!("http://{key}");
    let next = objects.into_iter().enumerate().filter_map(|(at, (name, range))| {
        let name = decoded(name);
        // What the CMCD plugin of video.js sends of a live channel.
        if name == "undefined" {
            return None;
        }
        // The specification defines it relative to the request, so never another host.
        if name.contains("://") || name.starts_with("//") {
            return None;
        }
        let key = ObjectKey::from_name(&name::resolve(&base, &name).ok()?, None).ok()?;
        let range = range.or_else(|| ranges.get(at).copied()).filter(|range| is_range(range));
        let range = range.and_then(|range| HeaderValue::from_str(&format!("bytes={range}")).ok());
        Some(Next { key, range })
    });
    next.filter(|next| next.key != *key || next.range.is_some()).collect()
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn is_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(first, last)| {
        !first.is_empty() && (first.to_owned() + last).bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &str, field: Option<&str>) -> Vec<(String, Option<String>)> {
        let mut request = http::Request::get(target);
        if let Some(field) = field {
            request = request.header("cmcd-request", field);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let key = ObjectKey::from_name("h/v/1.m4s", None).unwrap();
        let text = |range: HeaderValue| range.to_str().unwrap().to_owned();
        hints(&head, &key).into_iter().map(|it| (it.key.as_str().to_owned(), it.range.map(text))).collect()
    }

    #[test]
    fn players_name_what_comes_next() {
        let next = |key: &str, range: Option<&str>| vec![(key.to_owned(), range.map(str::to_owned))];
        assert_eq!(of("/x?CMCD=bl%3D2%2Cnor%3D%222.m4s%22", None), next("h/v/2.m4s", None));
        assert_eq!(of("/x", Some("bl=2,nor=\"..%2Fw%2F2.m4s\"")), next("h/w/2.m4s", None));
        assert_eq!(of("/x", Some("nor=\"a.mp4\",nrr=\"100-\"")), next("h/v/a.mp4", Some("bytes=100-")));
        assert_eq!(of("/x", Some("nrr=\"5-9\"")), next("h/v/1.m4s", Some("bytes=5-9")));
        assert_eq!(
            of("/x", Some("v=2,nor=(\"2.m4s\" \"3.m4s\";r=\"0-9\";x=1 \"4.m4s\";q=\"; r=\" \"5.m4s\";r=7)")),
            [
                next("h/v/2.m4s", None),
                next("h/v/3.m4s", Some("bytes=0-9")),
                next("h/v/4.m4s", None),
                next("h/v/5.m4s", None)
            ]
            .concat(),
            "a parameter is not another object"
        );
        assert_eq!(of("/x", Some("nor=(\"2.m4s\";r=\"0-99\")")), next("h/v/2.m4s", Some("bytes=0-99")));
        let many = "\"a.m4s\" ".repeat(MAX_HINTS + 1);
        assert_eq!(of("/x", Some(&format!("v=2,nor=({many})"))).len(), MAX_HINTS);
    }

    #[test]
    fn what_names_no_object_of_the_same_host_is_no_hint() {
        for field in [
            "",
            "bl=3",
            "nor=2.m4s",
            "nor=\"undefined\"",
            "nor=\"http:%2F%2Fother%2F2.m4s\"",
            "nor=\"%2F%2Fother%2F2\"",
            "nor=\"1.m4s\"",
            "xnor=\"2.m4s\"",
            "nor=\"",
            "nrr=\"x-\"",
        ] {
            assert!(of("/x", Some(field)).is_empty(), "{field}");
        }
    }
}
