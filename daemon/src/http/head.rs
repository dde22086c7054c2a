//! Heads of responses: the part that is the same for all clients, made once and kept by [`super::hot`].

use carousel::time::WallTime;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::mime;
use crate::caching::{self, Validators};
use crate::clock;
use crate::delivery::Flight;
use crate::signalling::Document;
use crate::store::StoredObject;

/// The name of this cache in `Via` and `Cache-Status`.
pub(super) const VIA: &str = "1.1 skycache";

const CACHE_STATUS: &str = "cache-status";

/// A response's head without the parts that depend on the request and the time.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// All fields except `Content-Length` and `Content-Range`; `Age` and `Cache-Status` as of the last [`Head::stamp`].
    pub(super) fields: HeaderMap,
    pub(super) validators: Validators,
    /// Length of the object in bytes; `None`: not known before its end.
    pub(super) length: Option<u64>,
    /// Time of its arrival, and its age then. `None`: it is still arriving.
    pub(super) since: Option<(WallTime, u32)>,
    pub(super) expires: Option<WallTime>,
    /// Members of `Cache-Status` from the caches before this one.
    pub(super) upstream: Vec<HeaderValue>,
    /// Part of the boundary of `multipart/byteranges`.
    pub(super) boundary: String,
    /// The origin's response has no CORS fields.
    pub(super) is_open: bool,
}

/// Field that lists query parameters that do not distinguish responses, for caches between the box and the player.
const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// The strong validator of bytes with this digest.
pub(super) fn etag(digest: &carousel::digest::Digest) -> String {
    format!("\"{}\"", &digest.to_hex()[..32])
}

/// Sets a field if the value is valid.
pub(super) fn put(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

impl Head {
    /// Head of an object in the cache.
    pub(super) fn of_stored(object: &StoredObject) -> Self {
        let meta = object.meta();
        let mut fields = meta.fields();
        if meta.response.is_none() {
            put(&mut fields, header::ETAG, &etag(&meta.digest));
            // Reception is the earliest known time of an object from the link. Players set their clocks by `Date`.
            if let Some(received) = clock::date_of(meta.received_at) {
                put(&mut fields, header::LAST_MODIFIED, &caching::write_date(received));
                put(&mut fields, header::DATE, &caching::write_date(received));
            }
            put(&mut fields, header::CACHE_CONTROL, &cache_control(object));
        }
        if let Some(rule) = meta.ignored_query.to_field() {
            put(&mut fields, NO_VARY_SEARCH, &rule);
        }
        let initial_age_s = meta.response.as_ref().map_or(0, |it| it.initial_age_s);
        Self {
            status: StatusCode::from_u16(meta.status()).unwrap_or(StatusCode::OK),
            length: Some(meta.length),
            since: Some((meta.received_at, initial_age_s)),
            expires: object.expires(),
            boundary: meta.digest.to_hex()[40..52].to_owned(),
            ..Self::new(fields, meta.key.as_str(), meta.content_type.as_deref())
        }
        .of_its_range(meta.key.as_str())
        .with_ranges()
    }

    /// Head of an object in flight.
    pub(super) fn of_flight(flight: &Flight) -> Self {
        let (mut fields, status) = flight
            .sent
            .as_ref()
            .map_or_else(|| (HeaderMap::new(), 200), |sent| (sent.response.fields(), sent.response.status));
        // The FDT may give the digest of a carousel object.
        let digest = flight.carried().filter(|_| flight.is_identity);
        let digest = digest.and_then(|it| it.file.content_digest.or(it.file.repr_digest));
        if let Some(digest) = &digest {
            put(&mut fields, header::ETAG, &etag(digest));
        }
        if flight.carried().is_some() {
            put(&mut fields, header::CACHE_CONTROL, "no-cache");
        }
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
            length: flight.length.filter(|_| flight.is_identity),
            since: flight.sent.as_ref().map(|sent| (sent.received_at, sent.response.initial_age_s)),
            boundary: digest.map_or_else(|| "0123456789ab".to_owned(), |it| it.to_hex()[40..52].to_owned()),
            ..Self::new(fields, flight.key.as_str(), flight.content_type.as_deref())
        }
        .of_its_range(flight.key.as_str())
        .with_ranges()
    }

    /// Head of a signalling document, which is kept in memory.
    pub(super) fn of_document(document: &Document) -> Self {
        let mut fields = HeaderMap::new();
        let digest = carousel::digest::Digest::of(&document.bytes);
        put(&mut fields, header::ETAG, &etag(&digest));
        put(&mut fields, header::CACHE_CONTROL, "no-cache");
        let content_type = document.content_type.as_deref().or(Some("application/xml"));
        Self {
            length: Some(document.bytes.len() as u64),
            boundary: digest.to_hex()[40..52].to_owned(),
            ..Self::new(fields, &document.name, content_type)
        }
        .with_ranges()
    }

    fn new(mut fields: HeaderMap, key: &str, content_type: Option<&str>) -> Self {
        let validators = Validators::of(&fields);
        fields.append(header::VIA, HeaderValue::from_static(VIA));
        let upstream = fields.get_all(CACHE_STATUS).iter().cloned().collect();
        let is_open = allow_everyone(&mut fields);
        let content_type = content_type.and_then(|it| HeaderValue::from_str(it).ok());
        let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static(mime::of(key)));
        fields.insert(header::CONTENT_TYPE, content_type);
        Self {
            status: StatusCode::OK,
            fields,
            validators,
            length: None,
            since: None,
            expires: None,
            upstream,
            boundary: String::new(),
            is_open,
        }
    }

    /// Adapts the head of a byte range that is an object of its own (`carousel::query`). It is a part of the requested
    /// file: its validators do not apply to the file, whose length is unknown.
    fn of_its_range(mut self, key: &str) -> Self {
        let range = carousel::query::range_of_name(key).map(|(_, range)| range);
        let range = range.filter(|it| self.length.is_none_or(|length| length == it.end - it.start));
        if let Some(range) = range.filter(|_| self.status == StatusCode::OK) {
            self.status = StatusCode::PARTIAL_CONTENT;
            put(
                &mut self.fields,
                header::CONTENT_RANGE,
                &format!("bytes {}-{}/*", range.start, range.end - 1),
            );
            self.fields.remove(header::ETAG);
            self.fields.remove(header::LAST_MODIFIED);
            self.validators = Validators::of(&self.fields);
        }
        self
    }

    /// Adds `Accept-Ranges` if ranges are possible, and removes the type of an empty response.
    fn with_ranges(mut self) -> Self {
        if self.has_ranges() {
            self.fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        if self.length == Some(0) && self.status != StatusCode::OK {
            self.fields.remove(header::CONTENT_TYPE);
        }
        self
    }

    /// Whether ranges of it can be requested.
    pub(super) fn has_ranges(&self) -> bool {
        self.status == StatusCode::OK
            && self.length.is_some()
            && !self.fields.contains_key(header::CONTENT_RANGE)
    }

    /// Updates `Age` and `Cache-Status`. `how` is the part after `skycache; `.
    pub(super) fn stamp(&mut self, how: &str) {
        if let Some((since, initial_age_s)) = self.since {
            let age_s = (clock::age_ms(since) / 1000).saturating_add(i64::from(initial_age_s));
            // A response that has just come from its origin has no age.
            if age_s > 0 || how.starts_with("hit") {
                self.fields.insert(header::AGE, HeaderValue::from(age_s));
            }
        }
        let status = match self.expires {
            Some(expires) if how.starts_with("hit") => {
                let since = self.since.map_or(expires, |(since, _)| since);
                let ttl_s = clock::left_ms(since, expires).div_euclid(1000);
                format!("skycache; {how}; ttl={ttl_s}")
            }
            _ => format!("skycache; {how}"),
        };
        put(&mut self.fields, HeaderName::from_static(CACHE_STATUS), &status);
        // The member of the cache nearest to the player is the last (RFC 9211 section 2).
        if !self.upstream.is_empty()
            && let Some(own) = self.fields.remove(CACHE_STATUS)
        {
            for value in self.upstream.iter().cloned().chain([own]) {
                self.fields.append(CACHE_STATUS, value);
            }
        }
    }

    /// As [`Head::stamp`].
    pub(super) fn stamped(mut self, how: &str) -> Self {
        self.stamp(how);
        self
    }
}

/// Writes fields in wire format.
pub(super) fn write_lines(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// `Cache-Control` of an object from the link.
fn cache_control(object: &StoredObject) -> String {
    let meta = object.meta();
    if let Some(live) = object.live() {
        return match live.fresh_ms / 1000 {
            seconds @ 1.. => format!("max-age={seconds}"),
            0 => "no-cache".to_owned(),
        };
    }
    let path = meta.key.as_str().split('?').next().unwrap_or_default().to_ascii_lowercase();
    // A date minus a time of 1970 would be decades.
    let received_at = clock::current(meta.received_at);
    let expires = meta.expires.filter(|it| clock::is_date(received_at) || !clock::is_date(*it));
    match expires {
        // Relative to its arrival: `Age` accounts for the time since.
        Some(expires) => match (expires.unix_ms() - received_at.unix_ms()) / 1000 {
            seconds @ 1.. => format!("max-age={seconds}"),
            _ => "no-cache".to_owned(),
        },
        // A manifest may change with the next cycle of the carousel.
        None if path.ends_with(".m3u8") || path.ends_with(".mpd") => "no-cache".to_owned(),
        None => "max-age=3600".to_owned(),
    }
}

/// Response fields that players' scripts read: dash.js sets its clock by `Date`, others measure by `Content-Length`.
const EXPOSED: &str =
    "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, Date, ETag, Server-Timing";

/// Adds the CORS fields that players in browsers need (hls.js, dash.js, Shaka). False: the origin's response has its own,
/// which take precedence. Scripts that may read the body may read [`EXPOSED`] too: origins leave these out, and dash.js then
/// requests the time every two seconds in vain.
pub(super) fn allow_everyone(fields: &mut HeaderMap) -> bool {
    const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    if fields.get(POLICY).is_some_and(|it| it != "cross-origin") {
        return false;
    }
    if fields.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        expose(fields);
        return false;
    }
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    expose(fields);
    for (name, value) in [(HeaderName::from_static("timing-allow-origin"), "*"), (POLICY, "cross-origin")] {
        fields.entry(name).or_insert(HeaderValue::from_static(value));
    }
    true
}

/// Adds the names that `Access-Control-Expose-Headers` lacks. `*` counts as all of them only without credentials (Fetch Standard),
/// and stays.
fn expose(fields: &mut HeaderMap) {
    if !fields.contains_key(header::ACCESS_CONTROL_EXPOSE_HEADERS) {
        fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        return;
    }
    let named: Vec<&str> = fields
        .get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(str::trim)
        .collect();
    let is_named = |name: &&str| named.iter().any(|it| it.eq_ignore_ascii_case(name));
    let lacking: Vec<&str> = EXPOSED.split(", ").filter(|it| !is_named(it)).collect();
    if named.contains(&"*") || lacking.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&lacking.join(", ")) {
        fields.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}

/// A response with this status, fields and body.
pub(super) fn response<B>(status: StatusCode, fields: HeaderMap, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carousel::digest::Digest;
    use carousel::name::ObjectKey;

    use super::*;
    use crate::manifests::Manifests;
    use crate::store::{CameBy, Class, ObjectMeta, ObjectUri, Placement, Tier};

    #[test]
    fn live_manifests_of_a_carousel_are_for_half_a_target_whatever_the_fdt_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let manifests = Manifests::default();
        let received_at = clock::wall();
        let put = |name: &str, body: &str| {
            let key = ObjectKey::from_name(name, None).unwrap();
            let is_short_lived = manifests.live_target_ms(&key).is_some();
            let partial = store
                .create(body.len() as u64, Placement { is_short_lived, ..Placement::default() })
                .unwrap();
            let partial = Arc::new(partial);
            partial.write_at(0, body.as_bytes()).unwrap();
            let meta = ObjectMeta {
                uri: ObjectUri::new(name, &key),
                key,
                content_type: None,
                length: body.len() as u64,
                digest: Digest::of(body.as_bytes()),
                version: 1,
                received_at,
                expires: Some(received_at.plus_ms(86_400_000)),
                class: Class::Medium,
                came_by: CameBy::Carousel,
                response: None,
                ignored_query: Default::default(),
                signed_by: None,
            };
            let frozen = partial.freeze(body.len() as u64).unwrap();
            store.publish_with(&frozen, meta, |object| manifests.learn(object)).unwrap()
        };
        let says = |object: &StoredObject| {
            Head::of_stored(object).fields[header::CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        let live = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nv/s1.m4s\n";
        let playlist = put("h/live.m3u8", live);
        assert_eq!((says(&playlist).as_str(), playlist.is_live()), ("max-age=3", true));
        assert_eq!(playlist.expires(), Some(received_at.plus_ms(12_000)), "then the origin is asked");
        let fast = put("h/fast.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nf/1.m4s\n");
        assert_eq!(says(&fast), "no-cache");
        let vod = put("h/vod.m3u8", &format!("{live}#EXT-X-ENDLIST\n").replace("v/s", "w/s"));
        assert_eq!((says(&vod).as_str(), vod.is_live()), ("max-age=86400", false));
        // Segments of what is live stay in memory, others go to the disk.
        let (segment, other) = (put("h/v/s2.m4s", "media"), put("h/w/s2.m4s", "media"));
        assert_eq!((segment.tier(), other.tier()), (Tier::Memory, Tier::Flash));
        for _ in 0..3 {
            store.get("h/v/s2.m4s");
        }
        assert!(segment.is_live() && says(&segment) == "max-age=86400");
    }

    #[test]
    fn a_date_of_expiry_says_nothing_to_a_box_in_1970() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let expires = WallTime::from_unix_ms(1_800_000_000_000);
        let says = |name: &str, received_at: WallTime| {
            let (frozen, meta) = crate::store::testing::carried(&store, name, b"#EXTM3U");
            let meta = ObjectMeta { received_at, expires: Some(expires), ..meta };
            let object = store.publish_with(&frozen, meta, |_| {}).unwrap();
            Head::of_stored(&object).fields[header::CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        let in_1970 = WallTime::from_unix_ms(60_000);
        assert_eq!(
            (says("h/a.m3u8", in_1970), says("h/a.mp4", in_1970)),
            ("no-cache".into(), "max-age=3600".into())
        );
        assert_eq!(says("h/b.mp4", expires.plus_ms(-90_000)), "max-age=90");
    }

    #[test]
    fn a_byte_range_of_another_length_than_its_name_says_is_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let name = carousel::query::name_of_range("h/a.mp4", &(2..5));
        for (body, status, range) in [
            (&b"abc"[..], StatusCode::PARTIAL_CONTENT, Some("bytes 2-4/*")),
            (&b"abcd"[..], StatusCode::OK, None),
        ] {
            let head = Head::of_stored(&crate::origin::testing::put(&store, &name, body, 60_000));
            let of_head = caching::text(&head.fields, header::CONTENT_RANGE);
            assert_eq!((head.status, of_head), (status, range), "{body:?}");
        }
    }
}
