//! Options of the store (`[store]`), and the placement of one object.

use std::path::PathBuf;

use carousel::eviction::Eviction;
use serde::{Deserialize, Serialize};

use super::Class;

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Folder of the cache.
    pub path: PathBuf,
    /// Maximum bytes of objects on disk, headers included.
    pub quota_bytes: u64,
    /// Free space left to other programs on the same file system.
    pub reserve_bytes: u64,
    /// Maximum bytes of objects in memory: live, candidates for promotion, and everything while the disk fails.
    pub memory_bytes: u64,
    /// Arriving objects of 128 KiB to 8 MiB are assembled in memory (32 MiB, or half of `memory_bytes`) and written past the page cache:
    /// half the processor time of a receive thread. False: through the page cache, where memory is plentiful and most objects are soon asked for.
    pub direct_io: bool,
    /// Objects that expire within this time of their arrival stay in memory and are never written to flash.
    pub short_lived_s: u64,
    /// Maximum bytes written to the disk in a day (UTC); beyond that, objects go to memory. 0: unlimited.
    pub write_budget_bytes_per_day: u64,
    /// The flash's rated endurance, for the estimate of its remaining life. 0: unknown.
    pub flash_endurance_bytes: u64,
    /// Partials of objects of at least this length survive a power cut.
    pub resume_bytes: u64,
    /// Rate of background verification after an unclean stop. 0: objects are verified at their first use only.
    pub scrub_bytes_per_s: u64,
    /// Eviction policy.
    pub eviction: Eviction,
    /// Classes by URI.
    #[serde(rename = "class")]
    pub classes: Vec<ClassRule>,
}

impl StoreConfig {
    /// Memory in which bodies from the air are assembled, beside `memory_bytes`.
    pub fn arena_bytes(&self) -> u64 {
        if self.direct_io { super::arena::size_bytes(self.memory_bytes) } else { 0 }
    }
}

/// `[[store.class]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRule {
    /// URI prefix; the longest match applies.
    pub base: String,
    /// Its class.
    pub class: Class,
}

impl ClassRule {
    /// The prefix in the form of keys: without the scheme.
    pub(super) fn key_prefix(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, rest)| rest)
    }
}

/// Properties that decide an object's tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placement {
    /// Its class.
    pub class: Class,
    /// Whether it expires soon; see [`super::Store::is_short`].
    pub is_short_lived: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/cache/skycache"),
            quota_bytes: 10_000_000_000,
            reserve_bytes: 256 << 20,
            memory_bytes: 64 << 20,
            direct_io: true,
            short_lived_s: 600,
            write_budget_bytes_per_day: 0,
            flash_endurance_bytes: 0,
            resume_bytes: 16 << 20,
            scrub_bytes_per_s: 4 << 20,
            eviction: Eviction::default(),
            classes: Vec::new(),
        }
    }
}
