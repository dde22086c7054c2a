//! `[store]` of the configuration, and what an object wishes for.

use std::path::PathBuf;

use carousel::eviction::Eviction;
use serde::Deserialize;

use super::Class;

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Folder of the cache.
    pub path: PathBuf,
    /// Most bytes that objects may take, headers included.
    pub quota_bytes: u64,
    /// Free space that is left to others on the same file system.
    pub reserve_bytes: u64,
    /// Most bytes that objects may take in memory: live, promotion, and whatever the disk does not take.
    pub memory_bytes: u64,
    /// What expires so soon after it came lives in memory and never sees the flash.
    pub short_lived_s: u64,
    /// Most bytes written to the disk in a day (UTC); beyond, what comes lives in memory. 0: any number.
    pub write_budget_bytes_per_day: u64,
    /// What the flash bears in all, as its maker says, to tell how long it will last. 0: nobody knows.
    pub flash_endurance_bytes: u64,
    /// Objects of this length or more outlive a power cut while they are on their way in.
    pub resume_bytes: u64,
    /// Bytes read a second to verify objects after an unclean stop, while nobody asks for them. 0: only who asks verifies.
    pub scrub_bytes_per_s: u64,
    /// Who leaves first.
    pub eviction: Eviction,
    /// Classes by URI.
    #[serde(rename = "class")]
    pub classes: Vec<ClassRule>,
}

/// `[[store.class]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRule {
    /// URI prefix; the longest that fits an object counts.
    pub base: String,
    /// Its class.
    pub class: Class,
}

impl ClassRule {
    /// The prefix as keys have it: without the scheme.
    pub(super) fn key_prefix(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, rest)| rest)
    }
}

/// What is known of an object that wants in, to find its tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// Its class.
    pub class: Class,
    /// Whether it will be stale soon: see [`super::Store::is_short`].
    pub is_short_lived: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/cache/skycache"),
            quota_bytes: 10_000_000_000,
            reserve_bytes: 256 << 20,
            memory_bytes: 64 << 20,
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
