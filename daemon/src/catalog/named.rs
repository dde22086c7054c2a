//! Titles of films that no service list names, from their own metadata: of a manifest, or of the initialization segment that
//! a playlist names.

use std::collections::BTreeMap;
use std::sync::Arc;

use carousel::Digest;
use carousel::manifest::{map_of_playlist, title_of_init_segment, title_of_manifest};
use carousel::name::{ObjectKey, resolve};

use crate::manifests::text_of;
use crate::store::{Store, StoredObject};

carousel::limits! {
    /// An initialization segment that is looked at for a title.
    const MAX_INIT_BYTES: u64 = 1 << 20, "bytes" {
        why: "It has tables of codecs and, seldom, a picture.",
        full: "The film is shown under the name of its folder.",
        free: "Holds for one segment.",
        test: "films_have_the_titles_of_their_metadata",
    }
}

/// Content of one object when it was read.
#[derive(Debug)]
struct Read {
    digest: Digest,
    title: Option<String>,
    /// Key of the initialization segment of a playlist.
    init: Option<String>,
}

/// Titles read so far: objects are read again only when they have changed.
#[derive(Debug, Default)]
pub(super) struct NamedManifests {
    read: BTreeMap<String, Read>,
}

impl NamedManifests {
    /// Titles of manifests by their keys.
    pub(super) fn titles(
        &mut self,
        store: &Store,
        manifests: &BTreeMap<String, Arc<StoredObject>>,
    ) -> BTreeMap<String, String> {
        let mut before = std::mem::take(&mut self.read);
        let mut titles = BTreeMap::new();
        for (key, object) in manifests {
            let read = self.of(&mut before, key, object, |object| of_manifest(key, object));
            let mut title = read.title.clone();
            if let (None, Some(init)) = (&title, read.init.clone())
                && let Some(object) = store.peek(&init)
            {
                title = self.of(&mut before, &init, &object, |object| (of_init(object), None)).title.clone();
            }
            titles.extend(title.map(|title| (key.clone(), title)));
        }
        titles
    }

    fn of(
        &mut self,
        before: &mut BTreeMap<String, Read>,
        key: &str,
        object: &Arc<StoredObject>,
        look: impl FnOnce(&Arc<StoredObject>) -> (Option<String>, Option<String>),
    ) -> &Read {
        let digest = object.meta().digest;
        let known = self.read.remove(key).or_else(|| before.remove(key)).filter(|it| it.digest == digest);
        let read = known.unwrap_or_else(|| {
            let (title, init) = look(object);
            Read { digest, title, init }
        });
        self.read.entry(key.to_owned()).or_insert(read)
    }
}

/// Title of a manifest, and the key of the initialization segment that it names.
fn of_manifest(key: &str, object: &Arc<StoredObject>) -> (Option<String>, Option<String>) {
    let Some(text) = text_of(object) else { return (None, None) };
    let init = || {
        let url = resolve(&format!("http://{key}"), &map_of_playlist(&text)?).ok()?;
        Some(ObjectKey::from_name(&url, None).ok()?.as_str().to_owned())
    };
    match title_of_manifest(&text) {
        None => (None, init()),
        title => (title, None),
    }
}

fn of_init(object: &Arc<StoredObject>) -> Option<String> {
    let length = object.meta().length;
    let bytes = (length <= MAX_INIT_BYTES).then(|| object.bytes(0..length)).flatten()?;
    title_of_init_segment(&bytes)
}
