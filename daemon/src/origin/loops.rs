//! Loop detection by `CDN-Loop` (RFC 8586): a request that returns to the box that sent it carries its identity.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

/// Identity of this process in `CDN-Loop`. Boxes may be chained, so each has its own.
pub fn loop_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    // `RandomState` has random keys for each process.
    ID.get_or_init(|| format!("skycache-{:016x}", RandomState::new().hash_one(std::process::id())))
}
