//! Signalling received: the names that objects have for clients, and the documents themselves.
//!
//! The session thread is the writer. Reception, repair and responses read, so a lookup clones at most one `Arc`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::mabr::{Aliases, CONFIGURATION_TYPE, CONFIGURATION_URI};
use carousel::name::{NameError, ObjectKey};
use carousel::time::Instant;

use crate::bounded::BoundedMap;
use crate::delivery::ObjectRef;
use crate::memory::MAX_DOCUMENTS_BYTES;

carousel::limits! {
    /// Signalling documents kept for clients and status.
    pub const MAX_DOCUMENTS: usize = 256, "documents" {
        why: "A network has a handful; each takes up to 8 MiB.",
        full: "The document that was received longest ago makes room.",
        free: "When a document has not been repeated for its life, or a newer one needs the place.",
        test: "documents_make_room_for_others_and_are_forgotten",
    }

    /// Time for which a signalling document is kept after it was last received.
    pub const MAX_DOCUMENT_AGE: Duration = Duration::from_secs(36 * 3600), "s" {
        why: "Senders repeat theirs every few seconds; a cycle of a carousel may take a day.",
        full: "The document is removed when the next one is kept.",
        free: "At once; the next repetition is kept again.",
        test: "documents_make_room_for_others_and_are_forgotten",
    }
}

/// A signalling document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The session and TOI that brought it.
    pub object: ObjectRef,
    /// Its name.
    pub name: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// Its bytes, decoded.
    pub bytes: Vec<u8>,
    /// Whether it is signed by a trusted key.
    pub is_signed: bool,
}

/// Whether an object is a gateway configuration, by its name or type.
pub fn is_gateway_configuration(name: &str, content_type: Option<&str>) -> bool {
    content_type.is_some_and(|it| it.eq_ignore_ascii_case(CONFIGURATION_TYPE))
        || name.eq_ignore_ascii_case(CONFIGURATION_URI)
}

/// Bases of relative names, by group and TSI; without a TSI: of every one that has none of its own.
pub type Bases = HashMap<(SocketAddr, Option<u64>), String>;

/// Mapping of the names on the air to the URLs and cache keys by which clients request objects.
#[derive(Debug, Default)]
pub struct Names {
    aliases: RwLock<Arc<Aliases>>,
    bases: RwLock<Arc<Bases>>,
}

impl Names {
    /// Replaces the aliases by those of the configurations in force.
    pub fn set_aliases(&self, aliases: Aliases) {
        *self.aliases.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(aliases);
    }

    /// The URL under which clients know the object of this name; `None` if no alias applies.
    pub fn url_of(&self, name: &str) -> Option<String> {
        // A poisoned lock still holds a complete set of aliases: it is only ever replaced.
        self.aliases.read().unwrap_or_else(PoisonError::into_inner).url_of(name)
    }

    /// Replaces the bases of the relative names of sessions.
    pub fn set_bases(&self, bases: Bases) {
        *self.bases.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(bases);
    }

    /// The URL of an object of this name in this session, if it differs from the name.
    pub fn url_in(&self, session: &SessionKey, name: &str) -> Option<String> {
        let by_base = || carousel::name::resolve(&self.base_of(session)?, name).ok();
        self.url_of(name).or_else(by_base)
    }

    fn base_of(&self, session: &SessionKey) -> Option<String> {
        let bases = self.bases.read().unwrap_or_else(PoisonError::into_inner);
        let of = |tsi| bases.get(&(session.destination, tsi));
        of(Some(session.tsi.0)).or_else(|| of(None)).cloned()
    }

    /// The cache key of an object of this name in this session.
    ///
    /// # Errors
    /// If the name cannot be used.
    pub fn key_of(&self, session: &SessionKey, name: &str) -> Result<ObjectKey, NameError> {
        let base =
            carousel::nip::is_announcement_group(session.destination.ip()).then_some(carousel::nip::BASE);
        if let Some(own) = self.base_of(session) {
            return ObjectKey::from_name(self.url_of(name).as_deref().unwrap_or(name), Some(&own));
        }
        ObjectKey::from_name(self.url_of(name).as_deref().unwrap_or(name), base)
    }
}

/// Signalling documents by key: at most [`MAX_DOCUMENTS`], for [`MAX_DOCUMENT_AGE`].
#[derive(Debug)]
pub struct Documents {
    most_bytes: usize,
    kept: Mutex<BoundedMap<String, (Instant, Arc<Document>)>>,
}

impl Default for Documents {
    fn default() -> Self {
        Self::within(MAX_DOCUMENTS_BYTES)
    }
}

impl Documents {
    /// None yet, and at most `most_bytes` of them.
    pub fn within(most_bytes: usize) -> Self {
        Self { most_bytes, kept: Mutex::new(BoundedMap::new(MAX_DOCUMENTS)) }
    }

    /// Keeps a document that was received at `now`, unless it is unsigned and a signed one has its key. Removes documents
    /// that were not received for [`MAX_DOCUMENT_AGE`].
    pub fn keep(&self, now: Instant, key: &ObjectKey, document: Document) {
        let mut documents = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|_, (received, _)| now.since(*received) < MAX_DOCUMENT_AGE);
        let is_outranked =
            documents.get(key.as_str()).is_some_and(|(_, it)| it.is_signed && !document.is_signed);
        if is_outranked {
            return;
        }
        documents.insert(key.as_str().to_owned(), (now, Arc::new(document)));
        let length = |(_, it): &(Instant, Arc<Document>)| it.bytes.len() + it.name.len();
        let mut bytes: usize = documents.iter().map(|(_, it)| length(it)).sum();
        while bytes > self.most_bytes {
            let longest = documents.iter().max_by_key(|(_, it)| length(it)).map(|(key, _)| key.clone());
            let Some(gone) = longest.and_then(|key| documents.remove(&key)) else { break };
            bytes -= length(&gone);
        }
    }

    /// The document of this key.
    pub fn get(&self, key: &str) -> Option<Arc<Document>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|(_, it)| Arc::clone(it))
    }
}

#[cfg(test)]
mod tests {
    use carousel::lct::{Toi, Tsi};

    use super::*;

    fn session(destination: &str) -> SessionKey {
        let (source, destination) = ("10.0.0.1".parse().unwrap(), destination.parse().unwrap());
        SessionKey { source, destination, tsi: Tsi(1) }
    }

    fn key(number: usize) -> ObjectKey {
        ObjectKey::from_name(&format!("http://h/{number}.xml"), None).unwrap()
    }

    fn document(name: &str) -> Document {
        let object = ObjectRef { session: session("239.0.0.1:6000"), toi: Toi(1) };
        Document { object, name: name.to_owned(), content_type: None, bytes: b"x".to_vec(), is_signed: false }
    }

    #[test]
    fn documents_make_room_for_others_and_are_forgotten() {
        let documents = Documents::default();
        let begin = Instant::from_nanos(0);
        for number in 0..10_000 {
            let now = begin + Duration::from_secs(number as u64);
            documents.keep(now, &key(number), document("x"));
            assert!(documents.get(key(number).as_str()).is_some(), "{number}");
        }
        let held = (0..10_000).filter(|number| documents.get(key(*number).as_str()).is_some());
        assert_eq!(held.collect::<Vec<_>>(), (10_000 - MAX_DOCUMENTS..10_000).collect::<Vec<_>>());
        let later = begin + Duration::from_secs(9_999) + MAX_DOCUMENT_AGE;
        documents.keep(later, &key(10_000), document("x"));
        assert!(documents.get(key(9999).as_str()).is_none(), "not repeated for its life");
        assert!(documents.get(key(10_000).as_str()).is_some());
    }

    #[test]
    fn long_documents_of_untrusted_senders_push_out_no_short_one() {
        let documents = Documents::default();
        let now = Instant::from_nanos(0);
        documents.keep(now, &key(0), document("network"));
        let long = |number: usize| Document { bytes: vec![b' '; 8 << 20], ..document(&number.to_string()) };
        for number in 1..100 {
            documents.keep(now, &key(number), long(number));
            let held: usize =
                (0..100).filter_map(|it| documents.get(key(it).as_str())).map(|it| it.bytes.len()).sum();
            assert!(held <= MAX_DOCUMENTS_BYTES, "{held}");
        }
        assert!(documents.get(key(0).as_str()).is_some(), "the network's own");
        // The longest of all may be the one that came last.
        let longest = Document { bytes: vec![b' '; MAX_DOCUMENTS_BYTES + 1], ..document("longest") };
        documents.keep(now, &key(100), longest);
        assert!(documents.get(key(100).as_str()).is_none());
        documents.keep(now, &key(101), document("x"));
        assert!(documents.get(key(101).as_str()).is_some());
    }

    #[test]
    fn a_document_that_is_repeated_stays() {
        let documents = Documents::default();
        let step = MAX_DOCUMENT_AGE - Duration::from_secs(1);
        let mut now = Instant::from_nanos(0);
        for number in 0..5 {
            documents.keep(now, &key(1), document(&number.to_string()));
            now = now + step;
            documents.keep(now, &key(2), document("other"));
            assert_eq!(documents.get(key(1).as_str()).unwrap().name, number.to_string());
        }
    }

    #[test]
    fn relative_names_have_a_base_on_the_announcement_channel_only() {
        let names = Names::default();
        let announcement = format!("{}:3937", carousel::nip::ANNOUNCEMENT_V4);
        let key = names.key_of(&session(&announcement), "urn.xml");
        assert_eq!(key.unwrap(), ObjectKey::from_name("urn.xml", Some(carousel::nip::BASE)).unwrap());
        assert_eq!(
            names.key_of(&session("239.0.0.1:6000"), "urn.xml").ok(),
            ObjectKey::from_name("urn.xml", None).ok()
        );
        assert_eq!(names.url_of("http://h/a"), None);
        assert!(names.key_of(&session("239.0.0.1:6000"), "a://").is_err());
    }
}
