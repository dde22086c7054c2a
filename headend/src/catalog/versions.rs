//! Versions of announced documents: equal for equal content, greater for every change, also across a restart.
//!
//! A version is in seconds since 2020: at first the time of the newest file of the catalogue, later the time of the
//! change, but always at least one more than before.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use carousel::Digest;
use carousel::dvbi::ServiceList;
use carousel::time::WallTime;

use super::images::Images;
use crate::config::Config;
use crate::package::Inventory;

/// 2020-01-01T00:00:00Z in seconds since 1970.
const EPOCH_S: u64 = 1_577_836_800;

/// Versions announced last, by name.
#[derive(Debug, Default)]
pub(super) struct Versions {
    last: BTreeMap<String, (Digest, u64)>,
}

/// The date that a version is.
pub(super) const fn date(version: u64) -> WallTime {
    WallTime::from_unix_ms((EPOCH_S + version) as i64 * 1000)
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_sub(EPOCH_S)
}

/// Modification time of the newest of the files, in seconds since 2020: configuration, manifests, guides, pictures.
pub(super) fn newest_s(config: &Config, inventories: &[&Inventory], images: &Images) -> u64 {
    let modified = |path: &std::path::Path| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    let dvb_i = &config.catalog;
    let files = images.files.values().map(|(path, _)| path).chain(&dvb_i.guides).chain(&config.file);
    let files = files.filter_map(|path| modified(path)).map(seconds);
    let manifests = inventories.iter().flat_map(|inventory| {
        let objects = inventory.presentations.iter().filter_map(|it| inventory.objects.get(&it.manifest));
        objects.map(|object| u64::try_from(object.modified_ns / 1_000_000_000).unwrap_or(0))
    });
    files.chain(manifests.map(|s| s.saturating_sub(EPOCH_S))).max().unwrap_or(0).max(1)
}

impl Versions {
    /// The version of something with this content.
    pub(super) fn of(&mut self, name: &str, content: &[u8], newest_s: u64) -> u64 {
        let digest = Digest::of(content);
        let version = match self.last.get(name) {
            Some((before, version)) if *before == digest => return *version,
            Some((_, version)) => newest_s.max(version + 1),
            None => newest_s,
        };
        self.last.insert(name.to_owned(), (digest, version));
        version
    }

    /// Numbers a list and its services.
    pub(super) fn number(&mut self, list: &mut ServiceList, newest_s: u64) {
        for service in &mut list.services {
            let content = format!("{service:?}");
            service.version = self.of(&format!("service {}", service.id), content.as_bytes(), newest_s);
        }
        let content = format!("{list:?}");
        list.version = self.of("list", content.as_bytes(), newest_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stay_and_grow() {
        let mut versions = Versions::default();
        assert_eq!(versions.of("a", b"1", 100), 100);
        assert_eq!(versions.of("a", b"1", 200), 100);
        assert_eq!(versions.of("a", b"2", 200), 200);
        assert_eq!(versions.of("a", b"3", 150), 201);
        assert_eq!(versions.of("b", b"3", 150), 150);
        assert_eq!(date(0).to_xml(), "2020-01-01T00:00:00.000Z");
    }
}
