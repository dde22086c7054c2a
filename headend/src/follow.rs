//! Keeping up with packages that change, in a thread of its own: reading folders, hashing files and making repair symbols
//! takes seconds for a film, in which the air must not fall silent.
//!
//! ```text
//! folders ─▶ inventory ─▶ changes ─▶ hash, repair symbols ─▶ Update ─▶ Broadcast::apply
//!      guides, logos ─▶ catalogue ────────────────────────────┘
//!               ▲                                              lost files ─┘
//!               └───────────────────────────────────────────────┘
//! ```

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::fec::Protection;

use crate::broadcast::{Prepared, prepare, read_source};
use crate::catalog::{Catalog, Made};
use crate::config::Config;
use crate::package::{self, Inventory, ObjectSource};
use crate::transmit::wall_now;

/// Updates that wait to be applied: each may hold repair symbols of some megabytes.
const UPDATES: usize = 8;

/// What has changed, in the order in which it is to be applied.
#[derive(Debug)]
pub enum Update {
    /// A source's packages are others now: what is gone goes, rungs get their sessions.
    Changed {
        /// Number of the source.
        source: usize,
        /// What there is.
        inventory: Inventory,
        /// Paths that are gone.
        removed: Vec<String>,
    },
    /// A new or changed object, ready for the air.
    Ready {
        /// Number of the source.
        source: usize,
        /// The object.
        prepared: Box<Prepared>,
    },
    /// All of a source's changes were told.
    Settled,
    /// The catalogue is another one now.
    Catalog(Box<Made>),
}

/// Files that left the air because they changed while they were sent: source and path.
pub type Lost = Arc<Mutex<Vec<(usize, String)>>>;

/// The thread that follows.
#[derive(Debug)]
pub struct Follower {
    updates: Receiver<Update>,
    lost: Lost,
}

impl Follower {
    /// Starts it. `known` is what is on the air already, by source; `catalog` makes the catalogue, where there is one.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(config: &Config, known: Vec<Inventory>, catalog: Option<Catalog>) -> std::io::Result<Self> {
        let (sender, updates) = sync_channel(UPDATES);
        let lost = Lost::default();
        let following =
            Following { config: config.clone(), known, catalog, lost: Arc::clone(&lost), updates: sender };
        std::thread::Builder::new().name("follow".to_owned()).spawn(move || following.run())?;
        Ok(Self { updates, lost })
    }

    /// The next update, if one is there.
    pub fn poll(&self) -> Option<Update> {
        self.updates.try_recv().ok()
    }

    /// Where files that left the air are told of.
    pub const fn lost(&self) -> &Lost {
        &self.lost
    }
}

struct Following {
    config: Config,
    known: Vec<Inventory>,
    catalog: Option<Catalog>,
    lost: Lost,
    updates: SyncSender<Update>,
}

impl Following {
    /// Until nobody listens any more.
    fn run(mut self) {
        let rescan = Duration::from_millis(self.config.carousel.rescan_interval_ms);
        loop {
            std::thread::sleep(rescan);
            let lost = std::mem::take(&mut *lock(&self.lost));
            for source in 0..self.config.sources.len() {
                let paths = lost.iter().filter(|(of, _)| *of == source).map(|(_, path)| path.as_str());
                if self.look(source, &paths.collect::<Vec<_>>()).is_none() {
                    return;
                }
            }
            if self.look_at_catalog().is_none() {
                return;
            }
        }
    }

    /// Makes the catalogue anew if something that it is made of has changed. `None` if nobody listens any more.
    fn look_at_catalog(&mut self) -> Option<()> {
        let Some(catalog) = &mut self.catalog else { return Some(()) };
        let (inventories, now): (Vec<&Inventory>, _) = (self.known.iter().collect(), wall_now());
        if !catalog.is_stale(&self.config, &inventories, now) {
            return Some(());
        }
        let made = catalog.make(&self.config, &inventories, now);
        self.updates.send(Update::Catalog(Box::new(made))).ok()
    }

    /// Looks at one source. `None` if nobody listens any more. A source that cannot be read now stays as it is.
    fn look(&mut self, source: usize, lost: &[&str]) -> Option<()> {
        let Ok(inventory) = read_source(&self.config.sources[source]) else { return Some(()) };
        let mut changes = package::changes(&self.known[source], &inventory);
        let comes_back = |object: &&ObjectSource| lost.contains(&object.path.as_str());
        let back: Vec<ObjectSource> = inventory.objects.values().filter(comes_back).cloned().collect();
        changes
            .added
            .extend(back.into_iter().filter(|object| !changes.added.contains(object)).collect::<Vec<_>>());
        // What is replaced stays on the air until its successor is ready.
        changes.removed.retain(|path| !inventory.objects.contains_key(path));
        if changes.added.is_empty() && changes.removed.is_empty() {
            return Some(());
        }
        self.known[source] = inventory.clone();
        self.updates.send(Update::Changed { source, inventory, removed: changes.removed }).ok()?;
        for object in changes.added {
            if let Some(prepared) = prepare(&self.config, source, &object) {
                self.updates.send(Update::Ready { source, prepared: Box::new(prepared) }).ok()?;
            }
        }
        self.updates.send(Update::Settled).ok()
    }
}

/// A list that a panic leaves whole.
fn lock(lost: &Lost) -> MutexGuard<'_, Vec<(usize, String)>> {
    lost.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells of files that left the air.
pub fn tell_lost(lost: &Lost, files: impl Iterator<Item = (usize, String)>) {
    lock(lost).extend(files);
}

/// The protection of a source's object: never on signalling, since who cannot decode must still find the way.
pub(crate) fn protection(config: &Config, source: usize, is_signalling: bool) -> Protection {
    if is_signalling { Protection::NONE } else { config.fec.protection(config.sources[source].class) }
}
