//! Responses of a worker's last seconds: the object, its head, and the body if it is small. For [`LIFETIME`] a hit takes no
//! lock and makes no system call but the send.
//!
//! An object that has left the index is never served from here ([`StoredObject::is_current`]); one that is stale neither. Nothing
//! is served by routes that were taken over since: another configuration may guard what this one gave to everybody.

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

/// Time for which an object is served without asking the cache, which counts its use and looks whether its file is as it was.
/// Purging, banning and replacing are seen at once all the same.
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

/// Bodies up to this are remembered too.
const SMALL_BYTES: u64 = 16 << 10;

/// One remembered object.
#[derive(Debug)]
struct Entry {
    object: Weak<StoredObject>,
    head: Head,
    body: Option<Bytes>,
    route: usize,
    until: Instant,
    /// The second since 1970 of the head's stamp.
    stamped_s: i64,
    /// The head's lines as of then, for [`super::quick`].
    lines: Vec<u8>,
}

/// Object to remember, with its response.
#[derive(Debug)]
pub(super) struct Remembered<'a> {
    pub(super) object: &'a Arc<StoredObject>,
    pub(super) head: Head,
    /// If it is not the object's own.
    pub(super) body: Option<Bytes>,
    pub(super) route: usize,
}

/// A hit: the head of its response, and what to send after it.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) send: Send,
    pub(super) object: Arc<StoredObject>,
    pub(super) body: Option<Bytes>,
    pub(super) route: usize,
}

/// A hit whose head is written.
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
    /// The routes that entries were made under ([`crate::origin::Origins::generation`]).
    generation: u64,
}

impl Hot {
    /// Entries of other routes are forgotten.
    pub(super) fn under(&mut self, generation: u64) -> &mut Self {
        if self.generation != generation {
            self.entries.clear();
            self.bytes = 0;
            self.generation = generation;
        }
        self
    }

    /// The response to a GET, if what it means was looked up a moment ago.
    pub(super) fn get(&mut self, uri: &Uri, request: &HeaderMap, now: Instant) -> Option<Hit> {
        write_name(&mut self.name, uri, request);
        let (entry, object) = self.entry(now)?;
        let (status, fields, send) = entry.head.respond(&Method::GET, request);
        Some(Hit { status, fields, send, object, body: entry.body.clone(), route: entry.route })
    }

    /// The same for a request that is plain, and needs no fields but lines.
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

    /// Entry of the name just written, brought up to date.
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

    /// Remembers what the cache has said to a GET.
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

    /// Forgets what is over; everything, if that is not much.
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

/// Writes the name that decides which object a request means, and in which form it gets it.
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
