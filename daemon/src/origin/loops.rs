//! `CDN-Loop` (RFC 8586): a request that comes back to the box that has sent it is recognised by the identity it carries.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

/// This process in `CDN-Loop`. Boxes may stand behind one another, so each has an identity of its own.
pub fn loop_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    // `RandomState` draws its keys again for each process.
    ID.get_or_init(|| format!("skycache-{:016x}", RandomState::new().hash_one(std::process::id())))
}
