//! Options of access: `[[access]]` of the configuration.

use std::path::PathBuf;

use carousel::config::Mistake;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// `[[access]]`: which clients may have the objects of the routes that name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessRule {
    /// By which `[[route]] access` names it.
    pub name: String,
    /// Addresses and networks that are refused, whatever else is said.
    pub deny: Vec<String>,
    /// Addresses and networks that alone are admitted. Empty: all.
    pub allow: Vec<String>,
    /// Countries that are refused, by their codes of ISO 3166-1 (`DE`).
    pub deny_countries: Vec<String>,
    /// Countries that alone are admitted; an address without a known country is not. Empty: all.
    pub allow_countries: Vec<String>,
    /// File in MaxMind's format (`.mmdb`) that knows countries. Read again when it changes.
    pub database: Option<PathBuf>,
    /// File with the keys of playback tokens, `ID SECRET` in each line: without it none are asked for. Read again when it changes.
    pub token_keys_file: Option<PathBuf>,
}

impl AccessRule {
    /// Every mistake.
    pub fn mistakes(&self, key: &str) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |name: &str, what: String, fix: &str| {
            all.push(Mistake::of_value(&format!("{key}.{name}"), &what, fix));
        };
        if self.name.is_empty() {
            wrong("name", "it has none".to_owned(), "give the name that routes say");
        }
        for (name, list) in [("allow", &self.allow), ("deny", &self.deny)] {
            for entry in list.iter().filter(|it| network(it).is_none()) {
                let fix = "give it as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32";
                wrong(name, format!("{entry:?} is not an address or network"), fix);
            }
        }
        let countries =
            [("allow_countries", &self.allow_countries), ("deny_countries", &self.deny_countries)];
        for (name, list) in countries {
            for entry in
                list.iter().filter(|it| it.len() != 2 || !it.bytes().all(|byte| byte.is_ascii_uppercase()))
            {
                wrong(
                    name,
                    format!("{entry:?} is not a country"),
                    "give two capital letters, such as \"DE\"",
                );
            }
            if !list.is_empty() && self.database.is_none() {
                wrong(
                    "database",
                    format!("{name} needs one"),
                    "give a file such as /var/lib/GeoIP/GeoLite2-Country.mmdb",
                );
            }
        }
        if self.database.is_some() && countries.iter().all(|(_, list)| list.is_empty()) {
            wrong(
                "database",
                "no country is allowed or denied".to_owned(),
                "add allow_countries or deny_countries, or remove it",
            );
        }
        all
    }
}

/// An address or a network, in its canonical form as the addresses that it is compared with: `::ffff:192.0.2.0/120` is
/// `192.0.2.0/24`.
pub(super) fn network(text: &str) -> Option<IpNetwork> {
    let network: IpNetwork = text.parse().ok()?;
    match network {
        IpNetwork::V6(mapped) => match (mapped.ip().to_ipv4_mapped(), mapped.prefix().checked_sub(96)) {
            (Some(ip), Some(prefix)) => IpNetwork::new(ip.into(), prefix).ok(),
            _ => Some(network),
        },
        IpNetwork::V4(_) => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let keys = |text: &str| -> Vec<String> {
            let rule: AccessRule = toml::from_str(text).unwrap();
            rule.mistakes("access[0]").into_iter().map(|it| it.key).collect()
        };
        assert!(keys("name = 'a'\nallow = ['10.0.0.0/8', '::1']\ntoken_keys_file = '/x'").is_empty());
        assert!(keys("name = 'a'\ndeny_countries = ['DE']\ndatabase = '/x'").is_empty());
        assert_eq!(
            keys("deny = ['10.0.0.0/33', 'host']\nallow_countries = ['de', 'Germany']"),
            [
                "access[0].name",
                "access[0].deny",
                "access[0].deny",
                "access[0].allow_countries",
                "access[0].allow_countries",
                "access[0].database"
            ]
        );
        assert_eq!(keys("name = 'a'\ndatabase = '/x'"), ["access[0].database"]);
    }
}
