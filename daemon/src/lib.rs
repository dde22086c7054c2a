//! The daemon.
pub mod clock;
pub mod config;
pub mod flight;
pub mod origin;
pub mod receive;
pub mod source;
pub mod status;
pub mod store;
mod sys;
