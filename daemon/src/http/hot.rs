//! What a worker has served a moment ago: the object, the head that it gets, and the body if it is small. For as long as
//! [`LIFETIME`] a hit asks nobody else: no lock, no system call but the one that sends.
//!
//! An object that has left the index is never served from here ([`StoredObject::is_current`]); one that is stale neither.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use carousel::time::Instant;
use http::{HeaderMap, Uri};

use super::head::Head;
use crate::clock;
use crate::store::StoredObject;

/// How long an object is served without asking the cache, which counts its use and looks whether its file is as it was.
const LIFETIME: Duration = Duration::from_secs(1);
/// Objects remembered by a worker.
const MAX_OBJECTS: usize = 1024;
/// Bodies up to this are remembered too.
const SMALL_BYTES: u64 = 16 << 10;
/// Bytes of them.
const MAX_BYTES: usize = 2 << 20;

/// One remembered object.
#[derive(Debug)]
struct Entry {
    object: Weak<StoredObject>,
    head: Rc<Head>,
    body: Option<Bytes>,
    route: usize,
    until: Instant,
    /// The head's fields as of this second.
    fields: HeaderMap,
    fields_at_s: i64,
}

/// What is to be remembered.
#[derive(Debug)]
pub(super) struct Remembered<'a> {
    pub(super) object: &'a Arc<StoredObject>,
    pub(super) head: Head,
    /// If it is not the object's own.
    pub(super) body: Option<Bytes>,
    pub(super) route: usize,
}

/// A hit.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) object: Arc<StoredObject>,
    pub(super) head: Rc<Head>,
    pub(super) fields: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) route: usize,
}

/// A worker's memory.
#[derive(Debug, Default)]
pub(super) struct Hot {
    entries: HashMap<Box<str>, Entry>,
    bytes: usize,
    name: String,
}

impl Hot {
    /// What a request with this target means, if that was looked up a moment ago.
    pub(super) fn get(
        &mut self,
        uri: &Uri,
        host: Option<&str>,
        takes_gzip: bool,
        now: Instant,
    ) -> Option<Hit> {
        write_name(&mut self.name, uri, host, takes_gzip);
        let entry = self.entries.get_mut(self.name.as_str()).filter(|entry| now < entry.until)?;
        let object = entry.object.upgrade().filter(|object| object.is_current())?;
        let at_s = clock::wall().unix_ms() / 1000;
        if at_s != entry.fields_at_s {
            entry.fields = entry.head.now("hit");
            entry.fields_at_s = at_s;
        }
        let (head, fields) = (Rc::clone(&entry.head), entry.fields.clone());
        Some(Hit { object, head, fields, body: entry.body.clone(), route: entry.route })
    }

    /// Remembers what the cache has said.
    pub(super) fn put(
        &mut self,
        uri: &Uri,
        host: Option<&str>,
        takes_gzip: bool,
        remembered: Remembered<'_>,
    ) {
        let Remembered { object, head, body, route } = remembered;
        let now = clock::now();
        let mut until = now + LIFETIME;
        if let (Some(expires), Some(wall)) = (object.meta().expires, clock::trusted_wall()) {
            let left_ms = u64::try_from(expires.unix_ms() - wall.unix_ms()).unwrap_or(0);
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
        write_name(&mut self.name, uri, host, takes_gzip);
        let entry = Entry {
            object: Arc::downgrade(object),
            head: Rc::new(head),
            body,
            route,
            until,
            fields: HeaderMap::new(),
            fields_at_s: -1,
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

/// What decides which object a request means.
fn write_name(name: &mut String, uri: &Uri, host: Option<&str>, takes_gzip: bool) {
    name.clear();
    name.push(if takes_gzip { 'z' } else { 'i' });
    name.push_str(uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or(""));
    name.push(' ');
    name.push_str(uri.path_and_query().map_or("/", |it| it.as_str()));
}
