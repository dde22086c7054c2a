//! Collection of the catalogue from the store: service lists, guides, entry points.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use carousel::Digest;
use carousel::dvbi::ServiceList;
use carousel::dvbi::entry_points::EntryPoints;
use carousel::dvbi::guide::Guide;
use carousel::dvbi::list::LIST_TYPE;
use carousel::limits::MAX_LONG_XML_BYTES;
use carousel::name::ObjectKey;
use carousel::nip;

use super::client::key_of;
use super::named::NamedManifests;
use super::titles::MAX_FILES;
use super::{LeftOut, List, MAX_GUIDE_FILES, MAX_LISTS, MAX_MESSAGES, Snapshot, titles};
use crate::signalling::Documents;
use crate::store::{Store, StoredObject};

/// Inputs of a snapshot.
#[derive(Debug, Default)]
pub(super) struct SnapshotInputs {
    changes: Option<u64>,
    /// Keys and digests of lists, guide files, entry points; keys of manifests, and digests of their titles.
    parts: BTreeMap<String, Digest>,
    /// Content of guide files, so that one that has not changed is not read again.
    guides: BTreeMap<String, (Digest, Arc<Guide>)>,
    named: NamedManifests,
}

/// Parts that are left out, and the messages about them.
#[derive(Debug, Default)]
struct Messages {
    texts: Vec<String>,
    counts: [u64; LeftOut::ALL.len()],
}

impl Messages {
    fn report(&mut self, why: LeftOut, count: u64, text: String) {
        self.counts[why as usize] += count;
        if self.texts.len() < MAX_MESSAGES {
            self.texts.push(text);
        }
    }
}

/// Everything of a type, or with a name, that the catalogue could be made of.
struct Candidates {
    lists: BTreeMap<String, Arc<StoredObject>>,
    documents: BTreeMap<String, Arc<StoredObject>>,
    manifests: BTreeMap<String, Arc<StoredObject>>,
}

/// The snapshot of what there is now; `None` if nothing has changed.
pub(super) fn collect(
    store: &Store,
    documents: &Documents,
    most_bytes: usize,
    seen: &mut SnapshotInputs,
) -> Option<Snapshot> {
    let points = entry_points(documents);
    let changes = store.changes();
    let points_digest = points.as_ref().map(|(_, digest)| *digest);
    let is_same = seen.parts.get("").copied() == points_digest;
    if is_same && seen.changes == Some(changes) {
        return None;
    }
    seen.changes = Some(changes);
    let candidates = Candidates::of(store);
    let (points, named) = match &points {
        Some((points, _)) => (points.clone(), keys_of(points)),
        None => (EntryPoints::default(), Vec::new()),
    };
    // Those that entry points name come first, in their order.
    let mut keys: Vec<String> = named.into_iter().filter(|key| candidates.any(key).is_some()).collect();
    let others = candidates.lists.keys().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>();
    keys.extend(others);
    let mut messages = Messages::default();
    if keys.len() > MAX_LISTS {
        let text = format!("{} service lists are on the air, {MAX_LISTS} are read", keys.len());
        messages.report(LeftOut::TooManyLists, (keys.len() - MAX_LISTS) as u64, text);
        keys.truncate(MAX_LISTS);
    }
    let lists: Vec<(String, &Arc<StoredObject>)> =
        keys.into_iter().filter_map(|key| candidates.any(&key).map(|object| (key, object))).collect();
    let mut parts: BTreeMap<String, Digest> =
        lists.iter().map(|(key, object)| (key.clone(), object.meta().digest)).collect();
    parts.extend(points_digest.map(|digest| (String::new(), digest)));
    let names = seen.named.titles(store, &candidates.manifests);
    let name = |key: &String| names.get(key).map_or("", String::as_str);
    parts.extend(candidates.manifests.keys().map(|key| (key.clone(), Digest::of(name(key).as_bytes()))));
    let mut room = Room { left_bytes: most_bytes as u64 };
    let known: Vec<List> =
        lists.iter().filter_map(|(key, object)| read_list(key, object, &mut room, &mut messages)).collect();
    let folders: BTreeSet<String> = known
        .iter()
        .flat_map(|it| &it.list.guide_sources)
        .filter_map(|source| folder_of(key_of(&source.schedule)?.as_str()))
        .collect();
    let is_guide = |key: &str| folders.iter().any(|folder| key.starts_with(folder.as_str()));
    let mut files: Vec<(&String, &Arc<StoredObject>)> =
        candidates.documents.iter().filter(|(key, _)| is_guide(key)).collect();
    if files.len() > MAX_GUIDE_FILES {
        let text = format!("{} files of guides are here, {MAX_GUIDE_FILES} are read", files.len());
        messages.report(LeftOut::TooManyGuideFiles, (files.len() - MAX_GUIDE_FILES) as u64, text);
        files.truncate(MAX_GUIDE_FILES);
    }
    parts.extend(files.iter().map(|(key, object)| ((*key).clone(), object.meta().digest)));
    if parts == seen.parts {
        return None;
    }
    let guide = read_guides(&files, &mut room, &mut seen.guides, &mut messages);
    let guide_folders =
        folders.iter().filter(|folder| files.iter().any(|(key, _)| key.starts_with(folder.as_str())));
    let guide_folders = guide_folders.cloned().collect();
    seen.parts = parts;
    let manifests = candidates.manifests.into_keys().collect();
    let titles = titles::titles(&known, &guide, &manifests, &names);
    let Messages { texts: messages, counts: left_out } = messages;
    Some(Snapshot { version: 0, lists: known, points, guide, guide_folders, titles, messages, left_out })
}

/// The entry points of the announcement channel.
fn entry_points(documents: &Documents) -> Option<(EntryPoints, Digest)> {
    let document = documents.get(nip::Document::ServiceListEntryPoints.name())?;
    let digest = Digest::of(&document.bytes);
    // Malformed ones name no list; lists are found by their type then.
    EntryPoints::parse(&document.bytes).ok().map(|points| (points, digest))
}

fn keys_of(points: &EntryPoints) -> Vec<String> {
    let keys = points.lists().flat_map(|it| &it.uris).filter_map(|(uri, _)| key_of(uri));
    let mut seen = BTreeSet::new();
    keys.map(|key| key.as_str().to_owned()).filter(|key| seen.insert(key.clone())).collect()
}

impl Candidates {
    fn of(store: &Store) -> Self {
        let mut candidates =
            Self { lists: BTreeMap::new(), documents: BTreeMap::new(), manifests: BTreeMap::new() };
        for object in store.list() {
            let meta = object.meta();
            let key = meta.key.as_str();
            let essence = meta.content_type.as_deref().unwrap_or_default();
            let essence = essence.split(';').next().unwrap_or_default().trim();
            if key.contains('#') {
                continue;
            }
            if essence.eq_ignore_ascii_case(LIST_TYPE) {
                candidates.lists.insert(key.to_owned(), object);
            } else if essence.ends_with("xml") && !essence.ends_with("dash+xml") || key.ends_with(".xml") {
                candidates.documents.insert(key.to_owned(), object);
            } else if is_manifest(key) && candidates.manifests.len() < 4 * MAX_FILES {
                candidates.manifests.insert(key.to_owned(), object);
            }
        }
        candidates
    }

    fn any(&self, key: &str) -> Option<&Arc<StoredObject>> {
        self.lists.get(key).or_else(|| self.documents.get(key))
    }
}

fn is_manifest(key: &str) -> bool {
    let path = key.split('?').next().unwrap_or_default().to_ascii_lowercase();
    path.ends_with(".m3u8") || path.ends_with(".mpd")
}

/// Everything up to the last slash.
fn folder_of(key: &str) -> Option<String> {
    key.rfind('/').map(|at| key[..=at].to_owned())
}

/// Bytes of documents that may still be read.
struct Room {
    left_bytes: u64,
}

impl Room {
    /// Takes the place of a document.
    fn take(&mut self, what: &str, key: &str, object: &StoredObject) -> Result<(), String> {
        let (length, most) = (object.meta().length, self.left_bytes.min(MAX_LONG_XML_BYTES as u64));
        if length > most {
            return Err(format!("{what} {key}: {length} bytes, {most} at most"));
        }
        self.left_bytes -= length;
        Ok(())
    }
}

/// The bytes of an object, if it is what it was.
fn bytes_of(object: &Arc<StoredObject>) -> Option<bytes::Bytes> {
    object.bytes(0..object.meta().length)
}

fn read_list(
    key: &str,
    object: &Arc<StoredObject>,
    room: &mut Room,
    messages: &mut Messages,
) -> Option<List> {
    let name = ObjectKey::from_kept(key).ok()?;
    if let Err(why) = room.take("service list", key, object) {
        messages.report(LeftOut::TooLong, 1, why);
        return None;
    }
    let Some(bytes) = bytes_of(object) else {
        messages.report(LeftOut::Malformed, 1, format!("service list {key}: it cannot be read"));
        return None;
    };
    match ServiceList::parse(&bytes) {
        Ok((list, left_out)) => {
            for (why, count) in left_out {
                let text = format!("service list {key}: {count} entries left out ({})", why.as_str());
                messages.report(LeftOut::Entry, count, text);
            }
            Some(List { key: name, list })
        }
        Err(err) => {
            messages.report(LeftOut::Malformed, 1, format!("service list {key}: {err}"));
            None
        }
    }
}

fn read_guides(
    files: &[(&String, &Arc<StoredObject>)],
    room: &mut Room,
    known: &mut BTreeMap<String, (Digest, Arc<Guide>)>,
    messages: &mut Messages,
) -> Guide {
    known.retain(|key, _| files.iter().any(|(it, _)| *it == key));
    let mut whole = Guide::default();
    let mut left_out = 0;
    for (key, object) in files {
        let digest = object.meta().digest;
        if let Err(why) = room.take("guide", key, object) {
            messages.report(LeftOut::TooLong, 1, why);
            known.remove(*key);
            continue;
        }
        if known.get(*key).is_none_or(|(before, _)| *before != digest) {
            let Some(bytes) = bytes_of(object) else {
                messages.report(LeftOut::Malformed, 1, format!("guide {key}: it cannot be read"));
                continue;
            };
            // Manifests and other documents of the folder are not guides.
            match Guide::parse(&bytes) {
                Ok((guide, _)) => {
                    known.insert((*key).clone(), (digest, Arc::new(guide)));
                }
                Err(carousel::xml::XmlError::Missing { .. }) => continue,
                Err(err) => {
                    messages.report(LeftOut::Malformed, 1, format!("guide {key}: {err}"));
                    continue;
                }
            }
        }
        if let Some((_, guide)) = known.get(*key) {
            left_out += whole.merge(Guide::clone(guide));
        }
    }
    if left_out > 0 {
        messages.report(
            LeftOut::NoRoom,
            left_out,
            format!("guide: {left_out} entries more than there is room for"),
        );
    }
    // Days overlap by what runs over midnight: the same event twice is not worth a message.
    whole.tidy();
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_all_are_counted() {
        let mut messages = Messages::default();
        for number in 0..MAX_MESSAGES + 5 {
            messages.report(LeftOut::Entry, 1, number.to_string());
        }
        assert_eq!(messages.texts.len(), MAX_MESSAGES);
        assert_eq!(messages.counts[LeftOut::Entry as usize], MAX_MESSAGES as u64 + 5);
    }
}
