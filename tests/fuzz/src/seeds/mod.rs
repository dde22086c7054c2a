//! Inputs to begin with, one module for each of targets. Everything is made by our own senders and writers, the same in
//! every run.

pub(crate) mod documents;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod packets;
pub(crate) mod receivers;
pub(crate) mod streams;
