//! A worker's memory of recent responses: the object, its head, and the body if it is small. For [`LIFETIME`] a hit takes
//! no lock and makes no system call but the send.
//!
//! Objects that have left the index ([`StoredObject::is_current`]) or are stale are not served from here. A reload of the routes
//! clears the memory: the new configuration may restrict access to objects that were open before.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use carousel::time::Instant;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::body::{Piece, PlayerBody};
use super::head::Head;
use super::quick::{self, Plain};
use super::reply::Send;
use super::shown::takes_gzip;
use super::target;
use crate::clock;
use crate::store::StoredObject;

/// Time for which an object is served without a lookup in the store, which counts its use and checks its file. Purges, bans
/// and replacements still take effect at once.
const LIFETIME: Duration = Duration::from_secs(5);

carousel::limits! {
    /// Objects that a worker remembers.
    const MAX_OBJECTS: usize = 4096, "objects" {
        why: "Each takes 3 to 4 KB; players of one service ask for some hundred within five seconds.",
        full: "Objects whose five seconds are over are forgotten; all, if that leaves more than half.",
        free: "Five seconds after an object was remembered.",
        test: "what_a_worker_remembers_is_bounded",
    }

    /// Bodies that a worker remembers.
    const MAX_BYTES: usize = 2 << 20, "bytes" {
        why: "Manifests and other bodies up to 16 KiB.",
        full: "As for objects.",
        free: "Five seconds after an object was remembered.",
        test: "what_a_worker_remembers_is_bounded",
    }
}

/// Bodies up to this length are remembered as well.
const SMALL_BYTES: u64 = 16 << 10;

/// One remembered object.
#[derive(Debug)]
struct Entry {
    object: Weak<StoredObject>,
    head: Head,
    body: Option<Bytes>,
    route: usize,
    until: Instant,
    /// Time of the head's last stamp, in seconds since 1970.
    stamped_s: i64,
    /// The head's lines at that time, for [`super::quick`].
    lines: Vec<u8>,
}

/// Object to remember, with its response.
#[derive(Debug)]
pub(super) struct Remembered<'a> {
    pub(super) object: &'a Arc<StoredObject>,
    pub(super) head: Head,
    /// The body, if it differs from the object's bytes.
    pub(super) body: Option<Bytes>,
    pub(super) route: usize,
}

/// A hit: the head of its response, and the content to send.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) send: Send,
    pub(super) object: Arc<StoredObject>,
    pub(super) body: Option<Bytes>,
    pub(super) route: usize,
}

/// A hit with its head in wire format.
#[derive(Debug)]
pub(super) struct QuickHit {
    pub(super) status: StatusCode,
    pub(super) head: Vec<u8>,
    pub(super) body: PlayerBody,
    pub(super) route: usize,
}

/// A worker's memory.
#[derive(Debug, Default)]
pub(super) struct Hot {
    entries: HashMap<Box<str>, Entry>,
    bytes: usize,
    name: String,
    /// Generation of the routes that entries were made under ([`crate::origin::Origins::generation`]).
    generation: u64,
}

impl Hot {
    /// Clears the memory if the routes have changed since.
    pub(super) fn under(&mut self, generation: u64) -> &mut Self {
        if self.generation != generation {
            self.entries.clear();
            self.bytes = 0;
            self.generation = generation;
        }
        self
    }

    /// The response to a GET whose target was looked up recently.
    pub(super) fn get(&mut self, uri: &Uri, request: &HeaderMap, now: Instant) -> Option<Hit> {
        write_name(&mut self.name, uri, request);
        let (entry, object) = self.entry(now)?;
        let (status, fields, send) = entry.head.respond(&Method::GET, request);
        Some(Hit { status, fields, send, object, body: entry.body.clone(), route: entry.route })
    }

    /// As [`Self::get`], for a plain request, which is answered with prepared lines.
    pub(super) fn quick(&mut self, asked: &Plain<'_>, now: Instant) -> Option<QuickHit> {
        name_of(&mut self.name, asked.takes_gzip, asked.host, asked.target);
        let (entry, object) = self.entry(now)?;
        let length = entry.head.length.filter(|_| !entry.lines.is_empty())?;
        let part = asked.range(length)?;
        let head = quick::head(&entry.lines, part.as_ref(), length);
        let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let send = Send::Pieces(vec![Piece::Range(part.unwrap_or(0..length))]);
        let body = send.of_object(object, entry.body.as_ref());
        Some(QuickHit { status, head, body, route: entry.route })
    }

    /// The entry of the name just written, with a current stamp.
    fn entry(&mut self, now: Instant) -> Option<(&Entry, Arc<StoredObject>)> {
        let entry = self.entries.get_mut(self.name.as_str()).filter(|entry| now < entry.until)?;
        let object = entry.object.upgrade().filter(|object| object.is_current())?;
        let at_s = clock::wall().unix_ms() / 1000;
        if at_s != entry.stamped_s {
            entry.head.stamp("hit");
            entry.lines = entry.head.lines();
            entry.stamped_s = at_s;
        }
        Some((entry, object))
    }

    /// Remembers the response of the cache to a GET.
    pub(super) fn put(&mut self, uri: &Uri, request: &HeaderMap, remembered: Remembered<'_>) {
        let Remembered { object, head, body, route } = remembered;
        let now = clock::now();
        let mut until = now + LIFETIME;
        if let Some(expires) = object.expires() {
            let left_ms = u64::try_from(clock::left_ms(object.meta().received_at, expires)).unwrap_or(0);
            until = until.min(now + Duration::from_millis(left_ms));
        }
        if self.entries.len() >= MAX_OBJECTS || self.bytes >= MAX_BYTES {
            self.forget(now);
        }
        let length = object.meta().length;
        let view = object.view().filter(|view| length <= SMALL_BYTES && view.is_resident(0..length));
        let own = || view.and_then(|view| view.bytes(0..length)).map(|bytes| Bytes::copy_from_slice(&bytes));
        let body = body.or_else(own);
        self.bytes += body.as_ref().map_or(0, Bytes::len);
        write_name(&mut self.name, uri, request);
        let entry = Entry {
            object: Arc::downgrade(object),
            head,
            body,
            route,
            until,
            stamped_s: -1,
            lines: Vec::new(),
        };
        if let Some(old) = self.entries.insert(self.name.as_str().into(), entry) {
            self.bytes -= old.body.map_or(0, |body| body.len());
        }
    }

    /// Removes expired entries; clears the memory if it is still more than half full.
    fn forget(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.until);
        if self.entries.len() > MAX_OBJECTS / 2 {
            self.entries.clear();
        }
        self.bytes = self.entries.values().filter_map(|entry| entry.body.as_ref()).map(Bytes::len).sum();
        if self.bytes > MAX_BYTES / 2 {
            self.entries.clear();
            self.bytes = 0;
        }
    }
}

/// Writes the lookup key of a request: everything that decides its object and the form in which it is sent.
fn write_name(name: &mut String, uri: &Uri, request: &HeaderMap) {
    let host = target::authority(uri, request).unwrap_or("");
    name_of(name, takes_gzip(request), host, uri.path_and_query().map_or("/", |it| it.as_str()));
}

fn name_of(name: &mut String, takes_gzip: bool, host: &str, target: &str) {
    name.clear();
    name.push(if takes_gzip { 'z' } else { 'i' });
    name.push_str(host);
    name.push(' ');
    name.push_str(target);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::testing::put;
    use crate::store::testing::open;

    #[test]
    fn what_a_worker_remembers_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let object = put(&store, "h/1.m4s", b"body", 60_000);
        let (mut hot, request) = (Hot::default(), HeaderMap::new());
        let uri = |number: usize| -> Uri { format!("http://h/{number}").parse().unwrap() };
        let put = |hot: &mut Hot, number: usize, bytes: usize| {
            let (head, body) = (Head::of_stored(&object), Some(Bytes::from(vec![0; bytes])));
            hot.put(&uri(number), &request, Remembered { object: &object, head, body, route: 0 });
        };
        for number in 0..MAX_OBJECTS {
            put(&mut hot, number, 0);
        }
        assert_eq!(hot.entries.len(), MAX_OBJECTS);
        put(&mut hot, MAX_OBJECTS, 0);
        assert_eq!(hot.entries.len(), 1, "none is older than five seconds");
        assert!(hot.get(&uri(MAX_OBJECTS), &request, clock::now()).is_some());
        put(&mut hot, 0, MAX_BYTES);
        assert_eq!((hot.entries.len(), hot.bytes), (2, MAX_BYTES));
        put(&mut hot, 1, 5);
        assert_eq!((hot.entries.len(), hot.bytes), (1, 5));
    }

    #[test]
    fn what_has_left_the_cache_is_not_remembered_although_somebody_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let object = put(&store, "h/1.m4s", b"body", 60_000);
        let (mut hot, request) = (Hot::default(), HeaderMap::new());
        let uri: Uri = "http://h/1.m4s".parse().unwrap();
        let head = Head::of_stored(&object);
        hot.put(&uri, &request, Remembered { object: &object, head, body: None, route: 0 });
        assert!(hot.get(&uri, &request, clock::now()).is_some());
        put(&store, "h/1.m4s", b"the next version", 60_000);
        assert!(hot.get(&uri, &request, clock::now()).is_none());
    }
}
