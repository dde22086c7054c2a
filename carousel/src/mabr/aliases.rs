//! What an object's name on the air is to a player.
//!
//! A sender may name its objects anything (`tag:…`); the configuration says which URL a manifest has
//! (`transportObjectURI` → locator) and which URL stands for a common beginning (`transportObjectBaseURI` → `BaseURL`,
//! clause 9.3). Names that neither speaks of are themselves.

use super::Configuration;

/// Names to URLs of all configurations that are in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    exact: Vec<(String, String)>,
    /// Longest beginnings first.
    beginnings: Vec<(String, String)>,
}

/// Aliases kept of one configuration. More would be one for each object, which is what beginnings are for.
const MAX_ALIASES: usize = 65_536;

impl Aliases {
    /// Adds what `configuration` says; what was said before wins.
    pub fn add(&mut self, configuration: &Configuration) {
        for session in &configuration.sessions {
            for manifest in &session.manifests {
                if let Some(name) =
                    manifest.transport_object_uri.as_ref().filter(|_| !manifest.url.is_empty())
                    && *name != manifest.url
                    && self.exact.len() < MAX_ALIASES
                    && !self.exact.iter().any(|(have, _)| have == name)
                {
                    self.exact.push((name.clone(), manifest.url.clone()));
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
                && self.beginnings.len() < MAX_ALIASES
                && !self.beginnings.iter().any(|(have, _)| have == base)
            {
                self.beginnings.push((base.clone(), url.clone()));
            }
        }
        self.beginnings.sort_by_key(|(base, _)| std::cmp::Reverse(base.len()));
    }

    /// The URL under which players know the object `name`; `None` if its name is its URL.
    pub fn url_of(&self, name: &str) -> Option<String> {
        if let Some((_, url)) = self.exact.iter().find(|(have, _)| have == name) {
            return Some(url.clone());
        }
        let (base, url) = self.beginnings.iter().find(|(base, _)| name.starts_with(base.as_str()))?;
        let rest = &name[base.len()..];
        // Exactly one slash where the two meet.
        Some(format!("{}/{}", url.trim_end_matches('/'), rest.trim_start_matches('/')))
    }

    /// Whether every name is its own URL.
    pub const fn is_empty(&self) -> bool {
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
    /// No chunk follows.
    pub is_last: bool,
}

impl<'a> ChunkName<'a> {
    /// Splits a name; `None` if it is of a whole object.
    pub fn split(name: &'a str) -> Option<Self> {
        let (before, fragment) = name.rsplit_once('#')?;
        let offset = fragment.parse().ok()?;
        let (object, query) = before.split_once('?').unwrap_or((before, ""));
        let flags: Vec<&str> = query.split('&').filter(|flag| !flag.is_empty()).collect();
        if flags.iter().any(|flag| !matches!(*flag, "isLast" | "hasRandomAccessPoint")) {
            // A query of the object itself: only the flags at its end are ours, and there are none.
            return Some(Self { object: before, offset, is_last: false });
        }
        Some(Self { object, offset, is_last: flags.contains(&"isLast") })
    }
}
