//! `[[forecast]]`: a catalogue that does not exist yet, for `headend plan`.

use serde::{Deserialize, Serialize};

/// `[[forecast]]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// A name for people.
    pub name: String,
    /// Number of titles.
    #[serde(default)]
    pub titles: u64,
    /// Bytes of one title, all rungs that are carried.
    #[serde(default)]
    pub title_bytes: u64,
    /// Its playing time, to give prefixes in minutes.
    #[serde(default)]
    pub title_duration_s: u64,
    /// Rungs of a title that `title_bytes` has; with more than one, fewer rungs are among what would work.
    #[serde(default = "one")]
    pub rungs: u64,
    /// Promise: the longest wait for any title.
    #[serde(default)]
    pub promised_cycle_s: u64,
    /// Live: rates of the rungs that are carried all the time.
    #[serde(default)]
    pub live_bps: Vec<u64>,
}

const fn one() -> u64 {
    1
}
