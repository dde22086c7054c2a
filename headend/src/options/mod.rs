//! Options of each room: the tables of the configuration file, typed, with defaults and checks.
//!
//! [`crate::config`] collects them into one tree and checks rules across tables.

pub mod carousel;
pub mod catalog;
mod events;
pub mod fec;
pub mod firmware;
pub mod forecast;
pub mod ingest;
mod lease;
pub mod link;
mod metrics;
pub mod multiplex;
pub mod s3;
pub mod sessions;
mod signing;
pub mod simulation;
pub mod source;

pub use self::carousel::{Carousel, Profile};
pub use catalog::{DvbI, ServiceConfig, tag_of};
pub use events::Events;
pub use fec::{Code, Fec, FecClasses};
pub use firmware::Firmware;
pub use forecast::Forecast;
pub use ingest::Ingest;
pub use lease::Lease;
pub use link::{DvbS2, Link, Output, Receiver};
pub use metrics::Metrics;
pub use multiplex::{Carry, Destination, Multiplex};
pub use s3::{S3, S3Location};
pub use sessions::{Carrier, Nip, Repair, ServiceList, Sessions};
pub use signing::Signing;
pub use simulation::{Fade, Simulation, Viewing};
pub(crate) use source::has_manifest_name;
pub use source::{Class, Source, TransportProtocol};

use ::carousel::config::Mistake;
use ::carousel::config::url::has_credentials;

/// Advice for a source that is a URL.
pub(crate) const NO_URL_SOURCES: &str = "sources are folders, a URL is none; give the URL of a manifest or \
    of a bucket (s3://bucket/prefix/) as `pull` of a [[source]], which fetches what is carried into the folder `path`; or \
    mount the site, or keep a copy, and give the folder";

/// Spells an absolute URL as receivers do: what is on the air begins with it. What this would drop without a word stays, so that it
/// is refused.
pub(crate) fn settle_url(url: &mut String) {
    if url.contains("://")
        && !url.contains(['?', '#'])
        && !has_credentials(url)
        && let Ok(settled) = ::carousel::name::resolve("", url)
    {
        *url = settled;
    }
}

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

#[cfg(test)]
mod tests {
    use super::settle_url;

    #[test]
    fn urls_are_spelled_as_receivers_do() {
        for (given, settled) in [
            ("HTTPS://CDN.Example.com:443/a/../v/", "https://cdn.example.com/v/"),
            ("https://b\u{fc}cher.example/v w/", "https://xn--bcher-kva.example/v%20w/"),
            ("http://h:8080/v", "http://h:8080/v"),
            ("/srv/v/", "/srv/v/"),
            ("https:///v/", "https:///v/"),
            ("http://H/v/#x", "http://H/v/#x"),
            ("http://h/v/?x", "http://h/v/?x"),
            ("http://user:secret@h/v/", "http://user:secret@h/v/"),
        ] {
            let mut url = given.to_owned();
            settle_url(&mut url);
            assert_eq!(url, settled);
        }
    }
}
