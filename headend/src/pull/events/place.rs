//! Offsets of a source in the partitions of its topic, kept in a file beside the pulled files:
//!
//! ```json
//! {"schema": 1, "topic": "s3-events", "offsets": {"0": 17}}
//! ```
//!
//! It is written when all events before these places were handled, so a restart requests some keys twice and misses none.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file.
const NAME: &str = ".events.json";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    schema: u32,
    topic: String,
    offsets: BTreeMap<i32, i64>,
}

/// The next offset of each partition, as the file has it.
#[derive(Debug)]
pub(in crate::pull) struct TopicOffsets {
    path: PathBuf,
    written: Document,
}

impl TopicOffsets {
    /// Reads the offsets in a topic. Without a file, or with one of another topic, starts from the beginning.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(in crate::pull) fn open(root: &Path, topic: &str) -> io::Result<Self> {
        let path = root.join(NAME);
        let read: Option<Document> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(err),
        };
        let written = read.filter(|it| it.schema == 1 && it.topic == topic);
        let written =
            written.unwrap_or_else(|| Document { schema: 1, topic: topic.to_owned(), ..Document::default() });
        Ok(Self { path, written })
    }

    /// The next message of each partition that was read before.
    pub(in crate::pull) const fn offsets(&self) -> &BTreeMap<i32, i64> {
        &self.written.offsets
    }

    /// Writes the offsets, if they have changed.
    ///
    /// # Errors
    /// Those of the system; the last file stays.
    pub(in crate::pull) fn write(&mut self, offsets: &BTreeMap<i32, i64>) -> io::Result<()> {
        if self.written.offsets == *offsets {
            return Ok(());
        }
        let document = Document { schema: 1, topic: self.written.topic.clone(), offsets: offsets.clone() };
        let folder = self.path.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::Builder::new().prefix(".events").suffix(".tmp").tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec(&document)?)?;
        file.as_file().sync_data()?;
        file.persist(&self.path)?;
        self.written = document;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_for_one_topic() {
        let folder = tempfile::tempdir().unwrap();
        let open = |topic| TopicOffsets::open(folder.path(), topic).unwrap();
        let mut place = open("s3");
        assert!(place.offsets().is_empty());
        let offsets = BTreeMap::from([(0, 17), (3, 0)]);
        place.write(&offsets).unwrap();
        assert_eq!(open("s3").offsets(), &offsets);
        assert!(open("other").offsets().is_empty());
        std::fs::write(folder.path().join(NAME), "{\"schema\"").unwrap();
        assert!(open("s3").offsets().is_empty());
        // A folder that cannot be written leaves what was written before.
        place.path = folder.path().join("none/.events.json");
        assert!(place.write(&BTreeMap::new()).is_err());
        assert_eq!(place.offsets(), &offsets);
    }
}
