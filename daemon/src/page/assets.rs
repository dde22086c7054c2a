//! The parts of the page, embedded by `build.rs`: bundles with the players if the build had Node, else the unbundled
//! modules.

use std::io::Read as _;

use flate2::read::GzDecoder;

/// One part.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its name below `/-/`.
    name: &'static str,
    /// MIME type.
    pub(crate) content_type: &'static str,
    /// Its bytes, compressed.
    pub(crate) gzip: &'static [u8],
    /// Its strong validator.
    pub(crate) etag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The part of a name.
pub(crate) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

impl Asset {
    /// Whether it belongs to the operator's page, which is on the admin interface alone.
    pub(crate) fn is_for_operators(&self) -> bool {
        self.name.rsplit('/').next().unwrap_or(self.name).starts_with("admin")
    }

    /// Its bytes, for clients that do not take gzip.
    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.gzip.len() * 4);
        // The build's own gzip is valid; a broken program would show an empty page.
        let _ = GzDecoder::new(self.gzip).read_to_end(&mut plain);
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_there_and_small() {
        let plain = |name: &str| find(name).unwrap_or_else(|| panic!("no {name}")).plain();
        let page = String::from_utf8(plain("index.html")).unwrap();
        assert!(page.contains("<!--titles-->") && page.contains("/-/main.js"));
        // Files that a browser fetches before playback: without Node the modules, each by itself.
        let is_first = |it: &&Asset| {
            !matches!(it.name, "hls.js" | "dash.js" | "licences.txt")
                && !it.is_for_operators()
                && (!it.name.starts_with("lang/") || it.name == "lang/en.json")
        };
        let first: usize = ASSETS.iter().filter(is_first).map(|it| it.gzip.len()).sum();
        println!("{first} bytes, compressed, before the players; players: {HAS_PLAYERS}");
        assert!((10_000..100_000).contains(&first), "{first}");
        assert_eq!(find("hls.js").is_some(), HAS_PLAYERS);
        assert_eq!(find("dash.js").is_some(), HAS_PLAYERS);
        assert!(find("../etc/passwd").is_none());
        for asset in ASSETS {
            assert!(asset.plain().len() > 100 || asset.name == "licences.txt", "{}", asset.name);
        }
    }

    #[test]
    fn every_language_has_every_text() {
        // A plural has one form more in one language than in another.
        fn keys(name: &str) -> std::collections::BTreeSet<String> {
            let words: serde_json::Value = serde_json::from_slice(&find(name).unwrap().plain()).unwrap();
            let bare =
                |key: &String| key.split_once('#').map_or_else(|| key.clone(), |(key, _)| key.to_owned());
            words.as_object().unwrap().keys().map(bare).collect()
        }
        for language in ["de", "fr", "es", "it"] {
            assert_eq!(keys("lang/en.json"), keys(&format!("lang/{language}.json")), "{language}");
            let operators = keys(&format!("lang/admin-{language}.json"));
            assert_eq!(keys("lang/admin-en.json"), operators, "{language}");
        }
    }
}
