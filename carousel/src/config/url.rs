//! Checks of the URLs of folders and hosts in configurations, beyond parsing.
//!
//! A URL with which names of objects begin has no query and no fragment, and a host and port that can be connected to.
//! Both programs refuse the same ones.

use std::net::Ipv4Addr;

use crate::name::without_secrets;

/// A fault of a URL, with its fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Description of the fault; it has no user and no password.
    pub what: String,
    /// Fix.
    pub fix: String,
}

impl Fault {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// Faults of a URL of the web that other names are put behind: those of [`of_host`], a query, a fragment, and dot segments.
pub fn faults(url: &str) -> Vec<Fault> {
    let mut all = of_host(url);
    if !is_web(url) || has_credentials(url) {
        return all;
    }
    if url.contains(['?', '#']) {
        all.push(Fault::new(
            format!("{:?}: paths cannot be put behind a query", without_secrets(url)),
            "leave out ? and #",
        ));
    } else if has_dot_segment(url) {
        all.push(Fault::new(
            format!("{:?} has . or .. in its path", without_secrets(url)),
            "give the path that they lead to",
        ));
    }
    all
}

/// Faults of a URL of the web up to its path: no host, a user or password, a port or an address that cannot be connected to.
pub fn of_host(url: &str) -> Vec<Fault> {
    if has_credentials(url) {
        return vec![Fault::new(
            "a user or password in the URL is not sent",
            "leave out what is before the @",
        )];
    }
    if is_web(url)
        && let Some(bracketed) = bracketed(authority(url))
    {
        return vec![Fault::new(
            format!("{:?} has an IPv6 address without brackets", without_secrets(url)),
            format!("write {bracketed} in its place"),
        )];
    }
    if !is_web(url) || !is_spelled(url) {
        let ascii = Some(url).filter(|url| is_web(url) && !authority(url).is_ascii());
        let fix =
            ascii.and_then(|url| crate::name::resolve("", url).ok()).map(|ascii| format!("give {ascii}"));
        let usual = "give http://host/path/ or https://host/path/";
        return vec![Fault::new(
            format!("{:?} is not a URL", without_secrets(url)),
            fix.unwrap_or_else(|| usual.to_owned()),
        )];
    }
    of_address(url)
}

/// An authority that is an IPv6 address, with a port or without, in its right spelling (RFC 3986 section 3.2.2).
fn bracketed(authority: &str) -> Option<String> {
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    match authority.rsplit_once(':') {
        Some((host, port)) if is_address(host) && port.parse::<u16>().is_ok() => {
            Some(format!("[{host}]:{port}"))
        }
        _ => is_address(authority).then(|| format!("[{authority}]")),
    }
}

/// Faults of a URL's port, and of a host that is almost an address.
pub fn of_address(url: &str) -> Vec<Fault> {
    let mut all = Vec::new();
    if let Some(port) = impossible_port(authority(url)) {
        all.push(Fault::new(format!("{port:?} is not a port"), "ports are numbers from 1 to 65535"));
    }
    if let Some(host) = not_quite_ipv4(authority(url)) {
        let what = format!("{host:?} in {:?} is not an address", without_secrets(url));
        all.push(Fault::new(what, "four numbers from 0 to 255 are one"));
    }
    all
}

/// Whether a text begins as a URL of the web with a host.
pub fn is_web(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

/// Whether a URL has a user or password.
pub fn has_credentials(url: &str) -> bool {
    authority(url).contains('@')
}

/// The host of an authority that browsers take for an IPv4 address, since its last label is a number (WHATWG URL, host parsing), and
/// that is none in the usual form.
pub fn not_quite_ipv4(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => authority,
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|it| it.is_ascii_digit())
        || hex.is_some_and(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
    (!last.is_empty() && is_number && host.parse::<Ipv4Addr>().is_err()).then_some(host)
}

/// Whether a segment of a path is `.` or `..`, percent-encoded or not.
pub fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|part| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
}

/// The part between `://` and the path.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

/// Whether a URL has only characters that requests may have, and a host that names may have.
fn is_spelled(url: &str) -> bool {
    let is_refused = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | '\\' | '`');
    !url.contains(is_refused) && authority(url).is_ascii() && has_usable_host(url)
}

/// Whether receivers can make keys of a URL; what only its port says is another fault.
fn has_usable_host(url: &str) -> bool {
    let authority = authority(url);
    let bare = impossible_port(authority).and_then(|port| authority.strip_suffix(port));
    let host = bare.map_or(authority, |bare| bare.trim_end_matches(':'));
    let ports = authority.rsplit(']').next().unwrap_or_default().matches(':').count();
    ports <= 1 && crate::name::resolve("", &format!("http://{host}/")).is_ok()
}

/// The port of an authority, if it cannot be connected to.
fn impossible_port(authority: &str) -> Option<&str> {
    let (_, port) = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'))?;
    (!port.is_empty() && port.parse::<u16>().map_or(true, |it| it == 0)).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_the_beginning_of_names_have_one_fault_each() {
        for url in [
            "https://cdn.example.com/",
            "https://cdn.example.com/my%20film/",
            "http://[2001:db8::1]/",
            "http://[::1]:8080/v/",
            "http://a:65535/",
            "http://192.0.2.1/v/",
            "http://a/f\u{fc}r/",
        ] {
            assert_eq!(faults(url), [], "{url}");
        }
        for (url, part) in [
            ("cdn", "\"cdn\" is not a URL"),
            ("http://::1:8000/", "an IPv6 address without brackets"),
            ("http://2001:db8::7/a/", "an IPv6 address without brackets"),
            ("https:///a/", "is not a URL"),
            ("ftp://a/", "is not a URL"),
            ("http://a b/", "is not a URL"),
            ("http://a/b c/", "is not a URL"),
            ("http://.../", "is not a URL"),
            ("http://a!/", "is not a URL"),
            ("http://a:99999/", "\"99999\" is not a port"),
            ("http://a:8o/", "\"8o\" is not a port"),
            ("http://[::1]:0/", "\"0\" is not a port"),
            ("http://999.1.1.1/", "\"999.1.1.1\" in"),
            ("http://10.1:8080/", "\"10.1\" in"),
            ("http://a/x?y/", "behind a query"),
            ("http://a/#", "behind a query"),
            ("http://a?x/", "behind a query"),
            ("http://a/b/../c/", ". or .."),
            ("http://a/%2E%2e/", ". or .."),
            ("http://user:secret@a/?x", "user or password"),
        ] {
            let all = faults(url);
            assert!(all.len() == 1 && all[0].what.contains(part), "{url}: {all:?}");
            assert!(!all[0].what.contains("secret") && !all[0].fix.is_empty(), "{url}: {all:?}");
        }
        assert_eq!(of_host("http://a/master.m3u8?token=x"), []);
        assert_eq!(faults("https://b\u{fc}cher.example/v/")[0].fix, "give https://xn--bcher-kva.example/v/");
    }
}
