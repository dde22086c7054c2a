//! Aliases: URLs for players, by object names on the link.
//!
//! A sender may give its objects any names (`tag:…`); the configuration maps a manifest to its URL (`transportObjectURI`
//! → locator) and a common prefix to a URL (`transportObjectBaseURI` → `BaseURL`, clause 9.3). All other names are URLs
//! already.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::Configuration;
use crate::limits;

/// Map from names to URLs, of all configurations in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    exact: HashMap<String, String>,
    beginnings: HashMap<String, String>,
    /// Lengths of the prefixes.
    lengths: BTreeSet<usize>,
    left_out: u64,
}

limits! {
    /// Names, and likewise beginnings of names, of all configurations.
    const MAX_ALIASES: usize = 65_536, "names" {
        why: "One for each manifest; one for each object is what beginnings of names are for.",
        full: "Further names are left out and counted: their objects have the keys of their names.",
        free: "When a configuration is replaced: names are collected again.",
        test: "aliases_beyond_the_limit_are_counted_and_leave_with_their_document",
    }
}

impl Aliases {
    /// Adds the aliases of `configuration`; earlier ones take precedence.
    pub fn add(&mut self, configuration: &Configuration) {
        for session in &configuration.sessions {
            for manifest in &session.manifests {
                if let Some(name) =
                    manifest.transport_object_uri.as_ref().filter(|_| !manifest.url.is_empty())
                    && *name != manifest.url
                    && !self.exact.contains_key(name)
                {
                    if self.exact.len() < MAX_ALIASES {
                        self.exact.insert(name.clone(), manifest.url.clone());
                    } else {
                        self.left_out += 1;
                    }
                }
            }
        }
        let media = configuration.sessions.iter().flat_map(|session| &session.transport_sessions);
        for repair in
            media.chain(&configuration.gateway_sessions).filter_map(|session| session.repair.as_ref())
        {
            let heaviest = repair
                .base_urls
                .iter()
                .filter(|(_, weight)| *weight > 0)
                .rev()
                .max_by_key(|(_, weight)| *weight);
            if let (Some(base), Some((url, _))) = (&repair.transport_object_base_uri, heaviest)
                && base != url
                && !self.beginnings.contains_key(base)
            {
                if self.beginnings.len() < MAX_ALIASES {
                    self.lengths.insert(base.len());
                    self.beginnings.insert(base.clone(), url.clone());
                } else {
                    self.left_out += 1;
                }
            }
        }
    }

    /// Number of names omitted because of the limit.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The URL of the object `name` for players; `None` if its name is its URL.
    pub fn url_of(&self, name: &str) -> Option<String> {
        if let Some(url) = self.exact.get(name) {
            return Some(url.clone());
        }
        // The longest prefix counts.
        let bases = self.lengths.iter().rev().filter_map(|&length| name.get(..length));
        let (base, url) = bases.into_iter().find_map(|base| Some((base, self.beginnings.get(base)?)))?;
        let rest = &name[base.len()..];
        // Joined with exactly one slash.
        Some(format!("{}/{}", url.trim_end_matches('/'), rest.trim_start_matches('/')))
    }

    /// Whether every name is its own URL.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.beginnings.is_empty()
    }
}

/// A `Content-Location` of chunked mode (Annex F): `name[?hasRandomAccessPoint][&isLast]#offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkName<'a> {
    /// The media object's name.
    pub object: &'a str,
    /// Byte offset of the chunk in the object.
    pub offset: u64,
    /// The last chunk of the object.
    pub is_last: bool,
}

impl<'a> ChunkName<'a> {
    /// Splits a name; `None` if it is not the name of a chunk.
    pub fn split(name: &'a str) -> Option<Self> {
        let (before, fragment) = name.rsplit_once('#')?;
        let offset = fragment.parse().ok()?;
        let (object, query) = before.split_once('?').unwrap_or((before, ""));
        // Called for many names at the end of each batch: without allocation.
        let flags = || query.split('&').filter(|flag| !flag.is_empty());
        if flags().any(|flag| !matches!(flag, "isLast" | "hasRandomAccessPoint")) {
            // A query of the object itself: only flags at its end belong to the chunk, and there are none.
            return Some(Self { object: before, offset, is_last: false });
        }
        Some(Self { object, offset, is_last: flags().any(|flag| flag == "isLast") })
    }
}

/// Formats the name of the chunk's transport object.
impl fmt::Display for ChunkName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = match (self.is_last, self.object.contains('?')) {
            (true, false) => "?isLast",
            // After a query of the object itself the flag would be a part of that query.
            _ => "",
        };
        write!(f, "{}{flag}#{}", self.object, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mabr::{ManifestLocator, MulticastSession, RepairParameters, TransportSession};

    fn configuration(names: usize) -> Configuration {
        let manifests = (0..names).map(|at| ManifestLocator {
            transport_object_uri: Some(format!("tag:{at}")),
            url: format!("http://h/{at}"),
            ..ManifestLocator::default()
        });
        let repairs = (0..names).map(|at| TransportSession {
            repair: Some(RepairParameters {
                transport_object_base_uri: Some(format!("tag:base/{at}/")),
                base_urls: vec![(format!("http://cdn/{at}"), 1)],
                ..RepairParameters::default()
            }),
            ..TransportSession::default()
        });
        let session = MulticastSession {
            manifests: manifests.collect(),
            transport_sessions: repairs.collect(),
            ..MulticastSession::default()
        };
        Configuration { sessions: vec![session], ..Configuration::default() }
    }

    #[test]
    fn aliases_beyond_the_limit_are_counted_and_leave_with_their_document() {
        let mut aliases = Aliases::default();
        aliases.add(&configuration(MAX_ALIASES + 5));
        assert_eq!(aliases.left_out(), 10);
        assert_eq!(aliases.url_of("tag:65535").as_deref(), Some("http://h/65535"));
        assert_eq!(aliases.url_of("tag:65536"), None);
        let mut aliases = Aliases::default();
        aliases.add(&configuration(1));
        assert_eq!(aliases.left_out(), 0);
    }

    #[test]
    fn the_longest_beginning_counts() {
        let mut aliases = Aliases::default();
        let mut all = configuration(0);
        for (base, url) in [("tag:", "http://all"), ("tag:a/", "http://a/"), ("tag:a/b", "http://b")] {
            let repair = RepairParameters {
                transport_object_base_uri: Some(base.into()),
                base_urls: vec![(url.into(), 1)],
                ..RepairParameters::default()
            };
            let session = TransportSession { repair: Some(repair), ..TransportSession::default() };
            all.gateway_sessions.push(session);
        }
        aliases.add(&all);
        for (name, url) in [
            ("tag:x", "http://all/x"),
            ("tag:a/c", "http://a/c"),
            ("tag:a/b/c", "http://b/c"),
            ("tag:é", "http://all/é"),
        ] {
            assert_eq!(aliases.url_of(name).as_deref(), Some(url));
        }
        assert_eq!(aliases.url_of("tag"), None);
    }
}
