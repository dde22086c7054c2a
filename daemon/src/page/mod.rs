//! The page at `/`: its parts, which the build embeds, and what the box is doing, which charts show.
//!
//! What it is made of and why is in `daemon/web/DESIGN.md`; how it is answered in `http/own.rs`.

pub(crate) mod assets;
mod live;

pub use live::{Live, MAX_VIEWERS, Viewer};
