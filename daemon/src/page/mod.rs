//! The page at `/`: its embedded assets, and the live data of its charts.
//!
//! Sources and reasons are in `daemon/web/DESIGN.md`; requests for it are answered in `http/own.rs`.

pub(crate) mod assets;
mod live;

pub use live::{Live, MAX_VIEWERS, Viewer};
