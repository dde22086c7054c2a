//! The daemon.
pub mod clock;
pub mod config;
pub mod flight;
pub mod source;
pub mod store;
