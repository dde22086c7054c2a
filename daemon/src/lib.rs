//! The daemon.
pub mod admin;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod flight;
pub mod http;
pub mod metrics;
pub mod origin;
pub mod receive;
pub mod repair;
pub mod running;
pub mod session;
pub mod source;
pub mod status;
pub mod store;
mod sys;
