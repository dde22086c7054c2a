//! Puts packaged HLS and DASH on a one-way link. Each verb of the command line is a thin sentence over these rooms.

pub mod air;
pub mod config;
pub mod pace;
pub mod package;
pub mod plan;
mod sys;
