//! Offsets of this box in the purge topic and its executed purges, kept on disk.
//!
//! A file beside the objects, rewritten as a whole and synced after each group of messages:
//!
//! ```json
//! {"schema": 1, "topic": "cdn-purge", "offsets": {"0": 17}, "ids": ["p-16", "p-17"]}
//! ```
//!
//! It is written after the purges, and has no offset beyond one that is still being executed, on whichever partition: a box that
//! loses power in between repeats them, which changes nothing.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys;

carousel::limits! {
    /// Ids of purges that are remembered.
    pub(super) const MAX_IDS: usize = 10_000, "ids" {
        why: "Each takes up to 128 bytes; a sender that repeats a message does so within minutes.",
        full: "The oldest is forgotten: a message with it would be done again, which changes nothing.",
        free: "With the next purge.",
        test: "a_place_is_kept_and_ids_are_remembered",
    }
}

const FILE: &str = "kafka";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    schema: u32,
    topic: String,
    offsets: BTreeMap<i32, i64>,
    ids: VecDeque<String>,
}

/// Offset of each partition, and the identifiers of purges that were executed.
#[derive(Debug)]
pub struct TopicOffsets {
    file: PathBuf,
    /// Offsets on disk, or soon there: messages that have been executed.
    document: Document,
    /// Next message of each partition that has been begun.
    begun: BTreeMap<i32, i64>,
    known: HashSet<String>,
}

impl TopicOffsets {
    /// Reads the offsets of a topic; without one, or of another topic, the topic is read from where a new box begins.
    pub fn open(store: &std::path::Path, topic: &str) -> Self {
        let file = store.join(FILE);
        let read: Option<Document> = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|err| tracing::warn!(file = %file.display(), %err, "the offsets in the purge topic are lost: all its messages are read again"))
                .ok(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => {
                tracing::warn!(file = %file.display(), %err, "the offsets in the purge topic cannot be read: all its messages are read again");
                None
            }
        };
        let document = read.filter(|it| it.schema == 1 && it.topic == topic).unwrap_or_else(|| Document {
            schema: 1,
            topic: topic.to_owned(),
            ..Document::default()
        });
        let known = document.ids.iter().cloned().collect();
        Self { file, begun: document.offsets.clone(), document, known }
    }

    /// The next message of a partition; `None`: it has never been read.
    pub fn next(&self, partition: i32) -> Option<i64> {
        self.begun.get(&partition).copied()
    }

    /// A message of this offset is being executed. Should that cause a panic, this run does not read it again.
    pub fn begin(&mut self, partition: i32, offset: i64) {
        self.begun.insert(partition, offset + 1);
    }

    /// Continues with another message: those before it are done.
    pub fn advance(&mut self, partition: i32, next: i64) {
        self.begun.insert(partition, next);
        self.document.offsets.insert(partition, next);
    }

    /// Whether a purge was done.
    pub fn knows(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    /// A purge is done.
    pub fn remember(&mut self, id: &str) {
        if !self.known.insert(id.to_owned()) {
            return;
        }
        self.document.ids.push_back(id.to_owned());
        while self.document.ids.len() > MAX_IDS {
            if let Some(oldest) = self.document.ids.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Writes it down. Waits for the disk.
    ///
    /// # Errors
    /// Those of the system; what was written before stays.
    pub fn write(&self) -> io::Result<()> {
        sys::replace(&self.file, &serde_json::to_vec(&self.document)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_and_ids_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let open = |topic| TopicOffsets::open(folder.path(), topic);
        let mut place = open("cdn-purge");
        assert_eq!((place.next(0), place.knows("a")), (None, false));
        place.advance(0, 17);
        place.advance(2, 5);
        place.remember("a");
        place.write().unwrap();
        // What is being executed on one partition is not done because another one writes.
        place.begin(2, 5);
        assert_eq!(place.next(2), Some(6), "this run does not read it again");
        place.advance(0, 17);
        place.write().unwrap();
        let mut place = open("cdn-purge");
        assert_eq!(
            (place.next(0), place.next(1), place.next(2), place.knows("a")),
            (Some(17), None, Some(5), true)
        );
        for number in 0..MAX_IDS {
            place.remember(&number.to_string());
            place.remember(&number.to_string());
        }
        assert!(!place.knows("a") && place.knows("0"));
        assert_eq!((place.known.len(), place.document.ids.len()), (MAX_IDS, MAX_IDS));
        assert_eq!(open("other").next(0), None, "another topic has its own messages");
        fs::write(folder.path().join(FILE), "{\"schema\"").unwrap();
        assert_eq!(open("cdn-purge").next(0), None);
    }
}
