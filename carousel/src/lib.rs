//! Every wire format that both ends of a Skycache carousel speak. Sans-IO: bytes to values and values to bytes; no
//! socket, file, clock, thread or async. Time, randomness and storage arrive as arguments.
#![warn(missing_docs)]
#![allow(missing_docs)] // until the first tour is written

pub mod alc;
pub mod bytes;
pub mod capture;
#[cfg(feature = "config")]
pub mod config;
pub mod digest;
pub mod fec;
pub mod flute;
pub mod ip;
pub mod lct;
pub mod limits;
pub mod mabr;
pub mod name;
pub mod nip;
pub mod route;
pub mod time;
pub mod xml;

pub use bytes::WireError;
pub use digest::Digest;
pub use name::{NameError, ObjectKey};
