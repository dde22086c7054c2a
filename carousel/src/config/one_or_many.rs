//! Keys that take one value or a list: `listen = "0.0.0.0:80"`, `listen = ["0.0.0.0:80", "[::]:80"]`.
//! For `#[serde(deserialize_with = …)]`.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads socket addresses.
///
/// # Errors
/// If one is none.
pub fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    deserializer.deserialize_any(OneOrMany)
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<SocketAddr>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address with its port, e.g. \"0.0.0.0:8080\", or a list of them")
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
                "listen = 80",
                "1:10: listen: the number 80; expected an address with its port, e.g. \"0.0.0.0:8080\", or a list of them",
            ),
        ] {
            assert_eq!(read(text).unwrap_err()[0].to_string(), said);
        }
    }
}
