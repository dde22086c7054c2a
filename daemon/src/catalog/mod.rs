//! Catalogue of channels and titles, from service lists and guides received, for televisions and the page.
//!
//! ```text
//! announcement channel ─ entry points ─┐
//! store ─ service lists, guide files ──┴─▶ Catalog (looked at when the store has changed)
//!                                             │ Snapshot: lists, guide, titles
//!                      televisions ◀─ answer ─┤   /dvb-i/…      locators moved to where the client stands
//!                         the page ◀─ titles ─┘   /-/titles.json, guide.json, programmes.json
//! ```
//!
//! | file | what lives there |
//! |---|---|
//! | `collect.rs` | from the store to a [`Snapshot`] |
//! | `titles.rs` | what there is to watch, for the page |
//! | `named.rs` | titles of films that no service list names |
//! | `browse.rs` | the page's guide and search |
//! | `held.rs` | how much of a title is in the cache |
//! | `answer.rs` | the queries of TS 103 770: registry, lists, schedules, programmes, box sets |
//! | `client.rs` | where a client stands, and what a locator is for it |
//! | `player.rs` | what plays a title on demand on a television |
//! | `query.rs` | pairs of a query |
//!
//! Documents from the air may be malformed or hostile: a list that cannot be read is reported in a message, and the rest
//! is used. All sizes are bounded: [`MAX_LISTS`], [`MAX_GUIDE_FILES`], and the limits of `carousel::dvbi`.

mod answer;
mod browse;
mod client;
mod collect;
mod held;
mod named;
mod player;
pub(crate) mod query;
#[cfg(test)]
mod tests;
mod titles;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use carousel::dvbi::ServiceList;
use carousel::dvbi::entry_points::EntryPoints;
use carousel::dvbi::guide::Guide;
use carousel::name::ObjectKey;

pub use answer::Answer;
pub(crate) use answer::{AnswerContext, Holdings};
pub use client::Client;
pub(crate) use held::HeldShares;
pub use titles::{Title, TitleSelector, Way};

use crate::signalling::Documents;
use crate::store::Store;

carousel::limits! {
    /// Service lists that are read.
    pub const MAX_LISTS: usize = 32, "lists" {
        why: "SES has three on the air.",
        full: "Those that no entry point names, and the last by name, are left out as `too_many_lists`.",
        free: "When a list leaves the cache.",
        test: "more_than_there_is_room_for_is_left_out_and_counted",
    }

    /// Files of guides that are read.
    pub const MAX_GUIDE_FILES: usize = 256, "files" {
        why: "Seven days and a library, for some broadcasters.",
        full: "Further files, in the order of their names, are left out as `too_many_guide_files`.",
        free: "When a file leaves the cache.",
        test: "more_than_there_is_room_for_is_left_out_and_counted",
    }

    /// Messages that are kept for the page.
    const MAX_MESSAGES: usize = 32, "messages" {
        why: "A broken list has one for each entry, with the same cause.",
        full: "Further ones are counted by reason alone.",
        free: "When the catalogue is made again.",
        test: "messages_are_bounded_and_all_are_counted",
    }
}

/// Interval at which the store is checked for changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

carousel::reasons! {
    /// Why a list, a guide or an entry that was received is not in the catalogue.
    pub enum LeftOut in "catalog_left_out" by "reason" {
        /// A list beyond `MAX_LISTS`.
        TooManyLists = "too_many_lists",
        /// A file beyond `MAX_GUIDE_FILES`.
        TooManyGuideFiles = "too_many_guide_files",
        /// A document longer than one may be, or for which no memory is left.
        TooLong = "too_long",
        /// A document that cannot be read.
        Malformed = "malformed",
        /// An entry of a list that cannot be read, or one too many.
        Entry = "entry",
        /// An entry of a guide for which there is no room.
        NoRoom = "no_room",
    }
}

/// A service list of the air.
#[derive(Debug)]
pub struct List {
    /// Its key in the store.
    pub key: ObjectKey,
    /// Its content.
    pub list: ServiceList,
}

/// The catalogue at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    /// Lists, in the order in which entry points name them.
    pub lists: Vec<List>,
    /// The entry points of the air, where there are any.
    pub points: EntryPoints,
    /// Programmes of all lists' guides.
    pub guide: Guide,
    /// Folders of guides of which there is a file here: their queries are answered by the box.
    pub guide_folders: Vec<String>,
    /// Titles that there are to watch.
    pub titles: Vec<Title>,
    /// Texts about what could not be read, for people.
    pub messages: Vec<String>,
    /// Numbers of what was left out, in the order of [`LeftOut::ALL`].
    pub left_out: [u64; LeftOut::ALL.len()],
}

/// The catalogue, always as of a moment ago.
#[derive(Debug, Default)]
pub struct Catalog {
    current: RwLock<Arc<Snapshot>>,
    /// Inputs of the current one.
    seen: Mutex<collect::SnapshotInputs>,
    /// Numbers of what was left out at each look, in the order of [`LeftOut::ALL`].
    left_out: [AtomicU64; LeftOut::ALL.len()],
}

impl Catalog {
    /// Snapshot of what is known now.
    pub fn current(&self) -> Arc<Snapshot> {
        // A poisoned lock still holds the last whole snapshot: it is only ever swapped.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Numbers of what was left out so far, counted at each look that found something new.
    pub fn left_out(&self) -> [u64; LeftOut::ALL.len()] {
        std::array::from_fn(|at| self.left_out[at].load(Ordering::Relaxed))
    }

    /// Reads what has changed since the last snapshot, of lists and guides with `most_bytes` together. Waits for the disk: not for a
    /// thread that must not wait.
    pub fn refresh(&self, store: &Store, documents: &Documents, most_bytes: usize) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let Some(mut snapshot) = collect::collect(store, documents, most_bytes, &mut seen) else { return };
        for (all, now) in self.left_out.iter().zip(snapshot.left_out) {
            all.fetch_add(now, Ordering::Relaxed);
        }
        for message in snapshot.messages.iter().filter(|it| !before.messages.contains(it)) {
            tracing::warn!(message, "in the catalogue from the air");
        }
        snapshot.version = before.version + 1;
        tracing::info!(
            lists = snapshot.lists.len(),
            titles = snapshot.titles.len(),
            events = snapshot.guide.events(),
            "the catalogue is new"
        );
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Looks again and again, until the runtime ends.
    pub async fn keep_looking(self: Arc<Self>, store: Store, documents: Arc<Documents>, most_bytes: usize) {
        loop {
            let (catalog, store, documents) = (Arc::clone(&self), store.clone(), Arc::clone(&documents));
            // tokio reports the panic of one task; the next interval starts another one.
            let _ =
                tokio::task::spawn_blocking(move || catalog.refresh(&store, &documents, most_bytes)).await;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
