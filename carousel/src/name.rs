//! Names from the wire become cache keys here, and nowhere else.
//!
//! A name is whatever a sender put into `Content-Location`: an absolute URI, a path, a relative reference, a `urn:`
//! or `tag:`. A [`ObjectKey`] is what the store, the player's path and the repair client use:
//!
//! | name | key |
//! |---|---|
//! | `https://cdn.example.com/vod/a/1.m4s` | `cdn.example.com/vod/a/1.m4s` |
//! | `HTTP://CDN.example.com:80/a` | `cdn.example.com/a` |
//! | `sub/file.bin` with base `http://dvb.gw/` | `dvb.gw/sub/file.bin` |
//! | `sub/file.bin`, no base | `sub/file.bin` |
//! | `urn:dvb:metadata:nativeip:dvb-i-slep` | the same |
//!
//! The encoded path is kept raw: broadcasters percent-encode even NFD Unicode, and players ask for just these bytes.
//! What would escape a folder (`..`, also as `%2e%2e`), hide bytes (control characters, backslashes) or has no
//! meaning (an empty authority) is refused. Fragments are dropped; a query stays part of the key.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::MAX_URI_BYTES;

/// Why a name cannot become a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameError {
    /// Nothing is left after the fragment is dropped.
    Empty,
    /// Longer than [`MAX_URI_BYTES`].
    TooLong,
    /// A control character, space, backslash, or an encoded NUL.
    BadCharacter,
    /// A segment that is `.` or `..`, plain or percent-encoded.
    Escapes,
    /// `scheme://` with no host behind it, or one with characters that no host has.
    BadAuthority,
}

impl NameError {
    /// The sentence for a log or a table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 8192 bytes",
            Self::BadCharacter => "the name has a control character, a space or a backslash",
            Self::Escapes => "the name has a `.` or `..` segment",
            Self::BadAuthority => "the name has no usable host",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for NameError {}

/// The one key of the cache. Cheap to clone, ordered as text. Made by [`ObjectKey::from_name`] only, so it is never
/// empty, never longer than [`MAX_URI_BYTES`], and no segment of it is `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Turns a name from the wire into a key. `base` is an absolute URI against which relative names are read
    /// (`http://dvb.gw/` in DVB-NIP); `None` keeps them as they are.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the name.
    pub fn from_name(name: &str, base: Option<&str>) -> Result<Self, NameError> {
        let name = name.split('#').next().unwrap_or_default();
        if name.len() > MAX_URI_BYTES {
            return Err(NameError::TooLong);
        }
        if name.bytes().any(|byte| byte <= b' ' || byte == b'\\' || byte == 0x7f) {
            return Err(NameError::BadCharacter);
        }
        if let Some((authority, path)) = split_absolute(name) {
            return Self::from_authority(name, authority, path);
        }
        if has_scheme(name) {
            check_segments(name)?;
            return Ok(Self(name.into()));
        }
        if let Some((scheme, rest)) = base.and_then(|base| base.split_once("://")) {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
            let joined = match name.strip_prefix("//") {
                Some(network) => format!("{scheme}://{network}"),
                None if name.starts_with('/') => format!("{scheme}://{authority}{name}"),
                None => format!("{scheme}://{authority}/{}{name}", folder.trim_start_matches('/')),
            };
            return Self::from_name(&joined, None);
        }
        let path = name.trim_start_matches('/');
        if path.is_empty() {
            return Err(NameError::Empty);
        }
        if path.len() < name.len() {
            // `/http://h/x` has the key of `http://h/x`: keys never begin with a scheme and an authority.
            return Self::from_name(path, None);
        }
        check_segments(path)?;
        Ok(Self(path.into()))
    }

    /// A further object of the same name, of those that a request's fields choose between: the name with `#` and a number.
    /// No name from outside has a `#`.
    #[must_use]
    pub fn variant(&self, number: u8) -> Self {
        if number == 0 { self.clone() } else { Self(format!("{}#{number}", self.as_str()).into()) }
    }

    /// A key as [`ObjectKey::as_str`] gave it, a variant's included.
    ///
    /// # Errors
    /// As [`ObjectKey::from_name`].
    pub fn from_kept(text: &str) -> Result<Self, NameError> {
        let key = Self::from_name(text, None)?;
        let number = text.split_once('#').and_then(|(_, number)| number.parse().ok());
        Ok(number.map_or_else(|| key.clone(), |number| key.variant(number)))
    }

    /// The key that an HTTP request means: `path_and_query` as sent, without its leading slash.
    ///
    /// # Errors
    /// As [`ObjectKey::from_name`].
    pub fn from_request_path(path_and_query: &str) -> Result<Self, NameError> {
        let path = path_and_query.strip_prefix('/').unwrap_or(path_and_query);
        match path.split_once('/') {
            // A first segment with capitals can only be a host that a player spelled its own way.
            Some((host, rest)) if host.contains('.') && host.bytes().any(|b| b.is_ascii_uppercase()) => {
                Self::from_name(&format!("{}/{rest}", host.to_ascii_lowercase()), None)
            }
            _ => Self::from_name(path, None),
        }
    }

    fn from_authority(name: &str, authority: &str, path: &str) -> Result<Self, NameError> {
        let userinfo_and_host = authority.to_ascii_lowercase();
        let mut host = userinfo_and_host.rsplit('@').next().unwrap_or_default();
        let https = name.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        host = host.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(host);
        host = host.strip_suffix(':').unwrap_or(host); // an empty port is the default port, RFC 3986 section 6.2.3
        let (bare, port) = match host.rsplit_once(':') {
            Some((bare, port)) if !port.ends_with(']') => (bare, port),
            _ => (host, "0"),
        };
        let legal = match bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')) {
            Some(literal) => {
                !literal.is_empty()
                    && literal.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~:".contains(&b))
            }
            None => {
                bare.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~".contains(&b))
                    && !bare.bytes().all(|b| b == b'.')
            }
        };
        if !legal || port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::BadAuthority);
        }
        check_segments(path)?;
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Self(if path.is_empty() { format!("{host}/") } else { format!("{host}{path}") }.into()))
    }

    /// The key as text: `authority/path` or the bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Splits `scheme://authority` from path and query.
fn split_absolute(name: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = name.split_once("://")?;
    if !is_scheme(scheme) {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// Whether `name` is opaque, such as `urn:…` or `tag:…` (RFC 3986 section 3.1).
fn has_scheme(name: &str) -> bool {
    name.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme) && !scheme.contains('.'))
}

fn is_scheme(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Refuses `.` and `..` segments of the path, also where dots or slashes are percent-encoded, and encoded NULs.
fn check_segments(path: &str) -> Result<(), NameError> {
    let path = path.split('?').next().unwrap_or_default();
    if !path.contains('%') {
        let escapes = path.split('/').any(|segment| matches!(segment, "." | ".."));
        return if escapes { Err(NameError::Escapes) } else { Ok(()) };
    }
    let plain: Vec<u8> = percent_decode(path);
    if plain.contains(&0) {
        return Err(NameError::BadCharacter);
    }
    if plain.split(|&byte| byte == b'/' || byte == b'\\').any(|segment| matches!(segment, b"." | b"..")) {
        return Err(NameError::Escapes);
    }
    Ok(())
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        rest = match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                &tail[2..]
            }
            _ => {
                out.push(byte);
                tail
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Result<String, NameError> {
        ObjectKey::from_name(name, None).map(|key| key.to_string())
    }

    #[test]
    fn one_key_for_every_spelling_of_an_authority() {
        for name in ["https://cdn.example.com/vod/a/1.m4s", "HTTPS://CDN.example.com:443/vod/a/1.m4s#x"] {
            assert_eq!(key(name).unwrap(), "cdn.example.com/vod/a/1.m4s");
        }
        assert_eq!(key("http://h:8080/a?b=/../c").unwrap(), "h:8080/a?b=/../c");
        assert_eq!(key("http://h").unwrap(), "h/");
        assert_eq!(key("http://h?q").unwrap(), "h/?q");
        assert_eq!(key("http://[2001:DB8::1]/x").unwrap(), "[2001:db8::1]/x");
    }

    #[test]
    fn raw_paths_stay_raw() {
        let nfd = "http://dvb.gw/ses.com/private/pdf/Su%CC%88ddeutsche%20Zeitung.pdf";
        assert_eq!(key(nfd).unwrap(), nfd[7..]);
        assert_eq!(key("http://h/a//b/%2Fc").unwrap(), "h/a//b/%2Fc");
    }

    #[test]
    fn relative_names_follow_their_base() {
        let with = |name, base| ObjectKey::from_name(name, Some(base)).unwrap().to_string();
        assert_eq!(
            with("eutelsat/NIP/CG/xml/nip_cg_1.xml", "http://dvb.gw/"),
            "dvb.gw/eutelsat/NIP/CG/xml/nip_cg_1.xml"
        );
        assert_eq!(with("b.m4s", "http://h/a/x.mpd"), "h/a/b.m4s");
        assert_eq!(with("/b.m4s", "http://h/a/x.mpd"), "h/b.m4s");
        assert_eq!(with("//k/b", "https://h"), "k/b");
        assert_eq!(with("b", "http://h"), "h/b");
        assert_eq!(key("sub/rand8.bin").unwrap(), "sub/rand8.bin");
        assert_eq!(key("/sub/rand8.bin").unwrap(), "sub/rand8.bin");
    }

    #[test]
    fn opaque_names_are_their_own_keys() {
        for name in ["urn:dvb:metadata:nativeip:dvb-i-slep", "tag:mabr.gpac.io.2025.services.26/live.m3u8"] {
            assert_eq!(key(name).unwrap(), name);
        }
    }

    #[test]
    fn refuses_what_escapes_hides_or_means_nothing() {
        for name in [
            "../etc/passwd",
            "a/../../b",
            "http://h/..",
            "http://h/%2e%2E/x",
            "a/%2e%2e%2fb",
            "tag:x/../y",
            "./a",
        ] {
            assert_eq!(key(name), Err(NameError::Escapes), "{name}");
        }
        for name in ["a b", "a\\..\\b", "a\nb", "a%00b", "\u{7f}"] {
            assert_eq!(key(name), Err(NameError::BadCharacter), "{name}");
        }
        for name in ["http:///x", "http://:80/x", "http://a b/", "http://../x", "https://h%2f/x"] {
            assert!(key(name).is_err(), "{name}");
        }
        assert_eq!(key(""), Err(NameError::Empty));
        assert_eq!(key("#7"), Err(NameError::Empty));
        assert_eq!(key(&"a".repeat(MAX_URI_BYTES + 1)), Err(NameError::TooLong));
    }

    #[test]
    fn an_authority_has_a_host_and_a_port_of_digits() {
        for name in
            ["a://", "http://", "a://:", "http://a:b/x", "http://a:1:2/x", "http://[]/x", "http://[::1]y/"]
        {
            assert_eq!(key(name), Err(NameError::BadAuthority), "{name}");
        }
        for name in
            ["http://h:/x", "http://h:80/x", "HTTPS://h:443/x", "a://h/x", "/http://h/x", "//http://h/x"]
        {
            assert_eq!(key(name).unwrap(), "h/x", "{name}");
        }
        assert_eq!(key("http://a:///b").unwrap(), "a///b");
        assert_eq!(key("http://[::1]:8080/").unwrap(), "[::1]:8080/");
    }

    #[test]
    fn a_base_is_cut_at_its_query_and_fragment() {
        for base in ["http://h/a/x?p=/q/r", "http://h/a/x#f/g"] {
            assert_eq!(ObjectKey::from_name("b", Some(base)).unwrap().as_str(), "h/a/b", "{base}");
        }
        assert_eq!(ObjectKey::from_name("b", Some("http://h?/q/")).unwrap().as_str(), "h/b");
    }

    /// What a key promises, whatever name and base it came from.
    fn check_key(key: &ObjectKey, name: &str) {
        let text = key.as_str();
        assert!(!text.is_empty() && text.len() <= MAX_URI_BYTES, "{name:?} -> {text:?}");
        assert!(!text.contains('#') && !text.starts_with('/'), "{name:?} -> {text:?}");
        assert!(!text.bytes().any(|b| b <= b' ' || b == b'\\' || b == 0x7f), "{name:?} -> {text:?}");
        let path = percent_decode(text.split('?').next().unwrap());
        assert!(!path.contains(&0), "{name:?} -> {text:?}");
        let mut segments = path.split(|b| matches!(b, b'/' | b'\\'));
        assert!(!segments.any(|s| s == b"." || s == b".."), "{name:?} -> {text:?}");
        assert_eq!(ObjectKey::from_name(text, None).as_ref(), Ok(key), "{name:?}");
        assert_eq!(ObjectKey::from_kept(text).as_ref(), Ok(key), "{name:?}");
        let variant = key.variant(7);
        assert_eq!(ObjectKey::from_kept(variant.as_str()).as_ref(), Ok(&variant), "{name:?}");
    }

    proptest! {
        // Names of every kind: any text, and texts made of the pieces that the grammar of URIs turns on.
        #[test]
        fn no_name_panics_and_keys_are_idempotent(
            name in prop_oneof![any::<String>(), URI_LIKE],
            base in proptest::option::of(prop_oneof![any::<String>(), URI_LIKE]),
        ) {
            if let Ok(key) = ObjectKey::from_name(&name, base.as_deref()) {
                check_key(&key, &name);
            }
            for key in [ObjectKey::from_request_path(&name), ObjectKey::from_kept(&name)].into_iter().flatten() {
                let bare = key.as_str().split('#').next().unwrap();
                check_key(&ObjectKey::from_name(bare, None).unwrap(), &name);
            }
        }
    }

    const URI_LIKE: &str = r"(a|h\.x|H|é|https?|HTTPS|urn|://|//|/|:|@|\[|\]|\?|#|\.|\.\.|%2e|%2E|%2f|%5c|%00|%|80|443|-|~){0,12}";

    #[test]
    fn a_request_path_finds_the_object_that_was_broadcast() {
        let broadcast = ObjectKey::from_name("https://CDN.example.com/A/b.mpd?x=1", None).unwrap();
        assert_eq!(ObjectKey::from_request_path("/cdn.example.com/A/b.mpd?x=1").unwrap(), broadcast);
        assert_eq!(ObjectKey::from_request_path("/CDN.Example.com/A/b.mpd?x=1").unwrap(), broadcast);
    }
}
