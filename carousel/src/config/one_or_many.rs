//! Keys that take one value or a list: `listen = "0.0.0.0:80"`, `listen = ["0.0.0.0:80", "[::]:80"]`.
//! For `#[serde(deserialize_with = …)]`.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads socket addresses.
///
/// # Errors
/// If a value is not an address with a port.
pub fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    deserializer.deserialize_any(OneOrMany)
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<SocketAddr>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the words of the reader of configurations, which adds an example for the key.
        f.write_str("a socket address or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(|address| vec![address]).map_err(|_| E::custom("invalid socket address syntax"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Address(address)) = list.next_element()? {
            all.push(address);
        }
        Ok(all)
    }
}

/// An element of a list; its error is placed at it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Address(SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        #[serde(deserialize_with = "addresses")]
        listen: Vec<SocketAddr>,
    }

    #[test]
    fn examples_suit_the_key_and_an_address_alone_has_no_port() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only mistakes are read")]
        struct Of {
            source: Option<std::net::IpAddr>,
            announcement: Option<SocketAddr>,
            media: Option<SocketAddr>,
        }
        let said = |text: &str| super::super::load::<Of>(text).unwrap_err()[0].to_string();
        assert!(
            said("source = '10.0.0.1:5000'")
                .ends_with("\"10.0.0.1:5000\" has a port, and an address alone is meant; write \"10.0.0.1\"")
        );
        assert!(said("source = 'x'").ends_with("not an address; expected an address, e.g. \"192.0.2.1\""));
        assert!(said("announcement = '224.0.23.14'").ends_with("add it, e.g. \"224.0.23.14:3937\""));
        assert!(said("media = '239.1.1.1'").ends_with("add it, e.g. \"239.1.1.1:5000\""));
        assert!(said("announcement = ':5000'").ends_with("add it, e.g. \"224.0.23.14:5000\""));
    }

    #[test]
    fn one_several_none_and_what_is_no_address() {
        let read = |text: &str| super::super::load::<File>(text);
        assert_eq!(read("listen = '0.0.0.0:80'").unwrap().listen, ["0.0.0.0:80".parse().unwrap()]);
        assert_eq!(read("listen = ['0.0.0.0:80', '[::]:80']").unwrap().listen.len(), 2);
        assert_eq!(read("listen = []").unwrap().listen, []);
        for (text, said) in [
            (
                "listen = '80'",
                "1:10: listen: not an address with its port; expected an address with its port, e.g. \"0.0.0.0:8080\"",
            ),
            (
                "listen = ['1.2.3.4:1', 'x']",
                "1:24: listen: not an address with its port; expected an address with its port, e.g. \"0.0.0.0:8080\"",
            ),
            (
                "listen = '239.1.1.1'",
                "1:10: listen: \"239.1.1.1\" has no port; add it, e.g. \"239.1.1.1:5000\"",
            ),
            (
                "listen = ['::1:8080']",
                "1:11: listen: \"::1:8080\" has no brackets; write \"[::1]:8080\" if 8080 is the port, or \"[::1:8080]:8080\" with the port behind it",
            ),
            ("listen = ':8080'", "1:10: listen: \":8080\" has no address; add it, e.g. \"0.0.0.0:8080\""),
            ("listen = ['::1']", "1:11: listen: \"::1\" has no port; add it, e.g. \"[::1]:8080\""),
            (
                "listen = ['[ff05::5]']",
                "1:11: listen: \"[ff05::5]\" has no port; add it, e.g. \"[ff05::5]:5000\"",
            ),
            (
                "listen = '1.2.3.4:99999'",
                "1:10: listen: \"99999\" in \"1.2.3.4:99999\" is not a port; give 1 to 65535",
            ),
            (
                "listen = 'box.lan:80'",
                "1:10: listen: \"box.lan\" is not an address; give it in numbers, e.g. \"192.0.2.1\" or \"[2001:db8::1]\", with the port behind it",
            ),
            (
                "listen = '999.1.1.1:80'",
                "1:10: listen: \"999.1.1.1\" is not an address; give it in numbers, e.g. \"192.0.2.1\" or \"[2001:db8::1]\", with the port behind it",
            ),
            (
                "listen = 80",
                "1:10: listen: the number 80; expected an address with its port, e.g. \"0.0.0.0:8080\", or a list of them",
            ),
        ] {
            assert_eq!(read(text).unwrap_err()[0].to_string(), said);
        }
    }
}
