//! Options of unicast repair: `[repair]` of the configuration.

use serde::{Deserialize, Serialize};

/// `[repair]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// Fetch missing byte ranges from origins.
    pub enabled: bool,
    /// Silence after which an object counts as lost in part, where the sender does not say.
    pub reception_timeout_ms: u64,
    /// Wait before repair begins, where the sender does not say.
    pub fixed_back_off_ms: u64,
    /// Further wait, drawn for each repair between 0 and this, where the sender does not say.
    pub random_back_off_ms: u64,
    /// An object that no player waits for and that the carousel brings again within this time is left to the carousel.
    /// The length of a cycle is learned from repeats of held objects. 0: origins are asked regardless.
    pub carousel_wait_ms: u64,
    /// Origins that have failed are looked at this often, so that no player has to find out; 0: never.
    pub health_check_interval_ms: u64,
    /// Objects repaired at a time.
    pub concurrent_fetches: usize,
}

impl Default for Repair {
    fn default() -> Self {
        Self {
            enabled: true,
            reception_timeout_ms: 2000,
            fixed_back_off_ms: 0,
            random_back_off_ms: 1000,
            carousel_wait_ms: 30_000,
            health_check_interval_ms: 5000,
            concurrent_fetches: 8,
        }
    }
}
