//! Rules of HTTP caching (RFC 9111, 9213, 5861, 8246), as pure functions from fields and times to decisions.
//!
//! | file | content |
//! |---|---|
//! | `fields.rs` | fields that are passed on, kept, brought up to date |
//! | `directives.rs` | `Cache-Control` and `CDN-Cache-Control` |
//! | `date.rs` | HTTP dates, strictly |
//! | `keep.rs` | whether a response is kept, and how long it is fresh |
//! | `stale.rs` | what may be done with it afterwards |
//! | `selecting.rs` | `Vary`: which of several responses a request means |
//! | `surrogate.rs` | surrogate keys: names of groups of responses that are purged together |
//! | `validators.rs` | `ETag`, `Last-Modified` and every conditional |
//!
//! Elsewhere: storage ([`crate::store`]), requests to origins ([`crate::origin`]), and responses to players
//! ([`crate::http`]).

mod date;
mod directives;
mod fields;
mod keep;
mod selecting;
mod stale;
mod surrogate;
mod validators;

pub use date::{parse as parse_date, write as write_date};
pub use directives::{Directives, RequestDirectives};
pub use fields::{end_to_end, freshen, from_pairs, join_cookies, text, to_pairs};
pub use keep::{Exchange, Keep, NotKept, has_lifetime, judge};
pub use selecting::{
    BY_ALLOWED_SITE, BY_PRODUCTS, Selecting, matches as selects, selected_by, selecting_of, vary_by,
};
pub use stale::Staleness;
pub use surrogate::{SurrogateHash, SurrogateKeys, strip_surrogate_keys};
pub use validators::{Precondition, Validators};
