//! The daemon.
pub mod store;
