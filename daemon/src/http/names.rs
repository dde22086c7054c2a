//! Names of the box: values of `Host` under which the page and its live data are served.
//!
//! The owner of any public name can point it at the box (DNS rebinding); a page of that name, open in a browser of the
//! household, could then read the data of the box. Addresses, names without a dot and names below special-use domains cannot be
//! registered, so they are accepted. With TLS the certificate decides.

use std::net::IpAddr;

use crate::clients::host_of;
use crate::origin::is_of_this_machine;

/// Domains of local networks (RFC 6761, 6762, 8375, ICANN's `internal`), and common ones of home routers.
const LOCAL_DOMAINS: [&str; 7] =
    ["localhost", "local", "lan", "home", "home.arpa", "internal", "localdomain"];

/// Configured names, and those of this machine.
#[derive(Debug)]
pub(super) struct Names {
    exact: Vec<String>,
    domains: Vec<String>,
}

impl Names {
    /// The names of `[http] names`.
    pub(super) fn new(names: &[String]) -> Self {
        let mut all = Self { exact: Vec::new(), domains: LOCAL_DOMAINS.map(str::to_owned).into() };
        for name in names {
            match name.strip_prefix("*.") {
                Some(domain) => all.domains.push(domain.to_ascii_lowercase()),
                None => all.exact.push(name.to_ascii_lowercase()),
            }
        }
        // On a PoP this is a name in the public DNS that its owner controls.
        all.exact.push(crate::sys::hostname().to_ascii_lowercase());
        all
    }

    /// Whether a `Host` names the box.
    pub(super) fn hold(&self, host: Option<&str>) -> bool {
        let Some(host) = host.and_then(host_of).map(str::to_ascii_lowercase) else { return false };
        host.parse::<IpAddr>().is_ok()
            || !host.contains('.')
            || self.exact.contains(&host)
            || self
                .domains
                .iter()
                .any(|it| host.strip_suffix(it.as_str()).is_some_and(|it| it.ends_with('.')))
    }

    /// Whether the host of an absolute URL is this machine; of addresses, only its own count.
    pub(super) fn are_of_this_machine(&self, authority: &str) -> bool {
        match host_of(authority).map(str::parse::<IpAddr>) {
            Some(Ok(address)) => is_of_this_machine(address.to_canonical()),
            _ => self.hold(Some(authority)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_addresses_those_of_this_machine_alone_are_its_own() {
        let names = Names::new(&[]);
        assert!(names.are_of_this_machine("127.0.0.1:8080") && names.are_of_this_machine("box:80"));
        for other in ["198.51.100.7", "198.51.100.7:8080", "224.0.0.1.example.com", "cdn.example.com"] {
            assert!(!names.are_of_this_machine(other), "{other}");
        }
    }

    #[test]
    fn names_that_somebody_else_can_own_are_refused() {
        let names = Names::new(&["edge.example.com".to_owned(), "*.pop.example.net".to_owned()]);
        for host in [
            "10.0.0.1:8080",
            "[fd00::1]:8080",
            "box",
            "BOX:8080",
            "localhost:8080",
            "skycache.local",
            "tv.lan.",
            "box.home.arpa",
            "Edge.Example.com:80",
            "a.pop.example.net",
        ] {
            assert!(names.hold(Some(host)), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "evillocal.example",
            "notlocal.xlan.com",
            "pop.example.net",
            "x.edge.example.com",
            "0x7f.1",
            "user@10.0.0.1",
            "",
        ] {
            assert!(!names.hold(Some(host)), "{host}");
        }
        assert!(!names.hold(None));
    }
}
