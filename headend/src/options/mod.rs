//! Options of each room: the tables of the configuration file, typed, with defaults and checks.
//!
//! [`crate::config`] gathers them into one tree and checks what depends on several tables.

pub mod carousel;
pub mod catalog;
pub mod fec;
pub mod forecast;
pub mod link;
pub mod multiplex;
pub mod sessions;
pub mod simulation;
pub mod source;

pub use self::carousel::{Carousel, Profile};
pub use catalog::{DvbI, ServiceConfig, tag_of};
pub use fec::{Code, Fec, FecClasses};
pub use forecast::Forecast;
pub use link::{DvbS2, Link, Output, Receiver};
pub use multiplex::{Carry, Destination, Multiplex};
pub use sessions::{Carrier, Nip, Repair, ServiceList, Sessions};
pub use simulation::{Fade, Simulation, Viewing};
pub use source::{Class, Source, TransportProtocol};

use ::carousel::config::Mistake;

/// What is said of a source that is a URL.
pub(crate) const NO_URL_SOURCES: &str = "sources are folders, a URL is none; mount the bucket or site \
    (`rclone mount`, `mount-s3`), or copy it and keep it up to date (`rclone sync`, `aws s3 sync`), and give the folder";

/// Collects the mistakes of one table.
struct Mistakes {
    table: &'static str,
    found: Vec<Mistake>,
}

impl Mistakes {
    const fn of(table: &'static str) -> Self {
        Self { table, found: Vec::new() }
    }

    /// Notes that the value of `key` is wrong, and how to fix it.
    fn add(&mut self, key: &str, what: String, fix: &str) {
        self.found.push(Mistake::of_value(&format!("{}.{key}", self.table), &what, fix));
    }
}
