//! A client's view of the box: its address as the client named it, and locators below that address.

use carousel::name::ObjectKey;

/// The host that DVB-NIP reserves for the gateway in the home.
const NIP_HOST: &str = "dvb.gw/";

/// A client, as far as URLs depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    /// `http://box:8080`, as the client has named the box.
    base: String,
}

impl Client {
    /// By the `Host` of a request. `None` if it is not a valid authority.
    pub fn of(host: Option<&str>, is_tls: bool) -> Option<Self> {
        let host = host?;
        let authority: http::uri::Authority = host.parse().ok()?;
        // A browser's `Host` has no user name and password.
        let is_plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        let scheme = if is_tls { "https" } else { "http" };
        is_plain.then(|| Self { base: format!("{scheme}://{authority}") })
    }

    /// `http://box:8080`
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The URL of a path of the box.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Locator for the client: what the box has, or can get, is at the box. `None`: it stays as it is. `has` says
    /// whether the box can be asked for a key.
    pub fn moved(&self, locator: &str, has: impl Fn(&ObjectKey) -> bool) -> Option<String> {
        let key = key_of(locator)?;
        (key.as_str().starts_with(NIP_HOST) || has(&key)).then(|| self.url(&format!("/{key}")))
    }
}

/// The key of a URL of the web; other locators have none.
pub(super) fn key_of(locator: &str) -> Option<ObjectKey> {
    let is_web = locator.starts_with("http://") || locator.starts_with("https://");
    // A relative one is read against the reserved host (TS 103 876).
    let is_relative = !locator.is_empty() && !locator.contains(':');
    (is_web || is_relative).then(|| ObjectKey::from_name(locator, Some(carousel::nip::BASE)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_are_where_the_client_stands() {
        let client = Client::of(Some("box.local:8080"), false).unwrap();
        let moved = |locator: &str, has: bool| client.moved(locator, |_| has);
        assert_eq!(
            moved("http://dvb.gw/a/x.mpd", false).as_deref(),
            Some("http://box.local:8080/dvb.gw/a/x.mpd")
        );
        assert_eq!(
            moved("https://cdn.example.com/x", true).as_deref(),
            Some("http://box.local:8080/cdn.example.com/x")
        );
        assert_eq!(moved("https://cdn.example.com/x", false), None);
        // RFC 3986 section 5.2.4: there is nothing above a host's root.
        assert_eq!(moved("http://dvb.gw/../x", true).as_deref(), Some("http://box.local:8080/dvb.gw/x"));
        assert_eq!(moved("logos/a.png", false).as_deref(), Some("http://box.local:8080/dvb.gw/logos/a.png"));
        for left in ["urn:dvb:x", "rtsp://h/x", "javascript:alert(1)", "data:image/png;base64,AA"] {
            assert_eq!(moved(left, true), None, "{left}");
        }
    }

    #[test]
    fn hosts_that_are_none_are_refused() {
        for bad in ["", "a b", "user@host", "host\"><script>", "a/b"] {
            assert_eq!(Client::of(Some(bad), false), None, "{bad}");
        }
        assert_eq!(Client::of(Some("[::1]:8443"), true).unwrap().base(), "https://[::1]:8443");
        assert_eq!(Client::of(None, false), None);
    }
}
