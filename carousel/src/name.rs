//! Identity of names: resolution (RFC 3986 section 5.2), normalisation (section 6.2.2) and cache keys.
//!
//! One function for both ends. The headend resolves the references of a manifest with [`resolve`] and puts the result on
//! the air; the daemon makes an [`ObjectKey`] of what it receives and of what a player asks for. Both therefore agree on
//! every spelling of one URI:
//!
//! - scheme and host in lower case, default ports dropped, `.` and `..` segments removed;
//! - an international host is its ASCII form (`bücher.example` and `b%C3%BCcher.example` are `xn--bcher-kva.example`);
//! - `%41` is `A` (unreserved characters are decoded), `%2f` is `%2F` and stays encoded (reserved characters are not);
//! - what is not a URI character yet (blanks, non-ASCII, a lone `%`, `[ ] ^ |` and quotes) is percent-encoded, `\` in a path
//!   is `/`: what players send for such a reference (WHATWG URL), or an equivalent of it.
//!
//! A key is the URI without its scheme, since players reach the same object through the box by HTTP and by HTTPS:
//!
//! | name | key |
//! |---|---|
//! | `https://cdn.example.com/vod/a/1.m4s` | `cdn.example.com/vod/a/1.m4s` |
//! | `HTTP://CDN.example.com:80/x/../a b` | `cdn.example.com/a%20b` |
//! | `sub/file.bin` with base `http://dvb.gw/` | `dvb.gw/sub/file.bin` |
//! | `sub/file.bin`, no base | `sub/file.bin` |
//! | `urn:dvb:metadata:nativeip:dvb-i-slep` | the same |
//! | `file:///out/a.bin` | the same: private to the sender, served at `/file:///out/a.bin` |
//!
//! Names that climb above their root (`..` in a relative name, also behind an encoded slash), control characters, encoded
//! NULs and empty authorities are refused. Fragments are dropped; a query stays part of the key.

use std::borrow::{Borrow, Cow};
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
    /// A control character or an encoded NUL.
    BadCharacter,
    /// A `..` segment that climbs above the root, or a dot segment behind an encoded slash.
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
            Self::BadCharacter => "the name has a control character",
            Self::Escapes => "the name climbs above its root with `..`",
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

/// A URL as it may stand in logs and messages: without user, password, query and fragment, any of which may open it.
pub fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_bytes = rest.find('/').unwrap_or(rest.len());
    let userinfo_bytes = rest[..authority_bytes].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[userinfo_bytes..])
}

/// Resolves `reference` against the absolute URI `base` and normalises the result. The fragment is dropped. URIs without
/// an authority (`data:`, `urn:`, `skd:`) come back with their percent-encoding normalised only.
///
/// # Errors
/// [`NameError`] says what is wrong with the reference.
pub fn resolve(base: &str, reference: &str) -> Result<String, NameError> {
    let reference = clean(reference)?;
    let split = Split::of(reference);
    let own = Split::of(clean(base)?);
    let resolved = match (split.scheme, split.authority) {
        (Some(_), _) => split,
        (None, Some(_)) => Split { scheme: own.scheme, ..split },
        (None, None) => {
            let (scheme, authority) = (own.scheme, own.authority);
            if split.path.is_empty() {
                let query = split.query.or(own.query);
                Split { scheme, authority, path: own.path, query }
            } else if split.path.starts_with(['/', '\\']) {
                Split { scheme, authority, ..split }
            } else {
                let folder = own.path.rfind('/').map_or("/", |at| &own.path[..=at]);
                let path = Cow::Owned(format!("{folder}{}", split.path));
                Split { scheme, authority, path, query: split.query }
            }
        }
    };
    let mut out = String::with_capacity(reference.len() + base.len());
    let scheme = resolved.scheme.unwrap_or_default().to_ascii_lowercase();
    if let Some(authority) = resolved.authority {
        out.push_str(&scheme);
        out.push_str("://");
        if scheme != "file" || !matches!(authority, "" | "localhost") {
            out.push_str(&host_of(authority)?);
        }
        push_path(&mut out, &resolved.path, AboveRoot::Stays)?;
    } else {
        out.push_str(&scheme);
        out.push(':');
        push_encoded(&mut out, &resolved.path.replace('\\', "/"), false)?;
    }
    if let Some(query) = resolved.query {
        out.push('?');
        push_encoded(&mut out, query, true)?;
    }
    if out.len() > MAX_URI_BYTES { Err(NameError::TooLong) } else { Ok(out) }
}

/// The one key of the cache. Cheap to clone, ordered as text. Made by [`ObjectKey::from_name`] only, so it is never
/// empty, never longer than [`MAX_URI_BYTES`], normalised, and no segment of it is `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Turns a name from the wire into a key. `base` is an absolute URI against which relative names are read
    /// (`http://dvb.gw/` in DVB-NIP); `None` keeps them as they are.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the name.
    pub fn from_name(name: &str, base: Option<&str>) -> Result<Self, NameError> {
        let name = clean(name)?;
        let split = Split::of(name);
        if split.scheme.is_some() {
            return Self::of_absolute(&resolve("", name)?);
        }
        match base.filter(|base| Split::of(base).authority.is_some()) {
            Some(base) => Self::of_absolute(&resolve(base, name)?),
            None => Self::of_relative(name),
        }
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
        let Some((first, rest)) = path.split_once('/') else { return Self::from_name(path, None) };
        // A first segment with capitals or a port can only be a host that a player spelled its own way.
        let is_host = first.contains('.') && !first.contains(['?', '%', '@']);
        match host_of(first) {
            Ok(host) if is_host && host != first => Self::from_name(&format!("{host}/{rest}"), None),
            _ => Self::from_name(path, None),
        }
    }

    /// The key that a request means whose first segment is an international host, which players encode as part of a path
    /// (`/b%C3%BCcher.example/…`). It may as well be a folder of that name.
    pub fn from_international_path(path_and_query: &str) -> Option<Self> {
        let (host, rest) = path_and_query.strip_prefix('/')?.split_once('/')?;
        if !host.contains('.') || host.contains('?') || !is_international(host) {
            return None;
        }
        Self::from_name(&format!("http://{host}/{rest}"), None).ok()
    }

    /// The key of a normalised absolute URI.
    fn of_absolute(uri: &str) -> Result<Self, NameError> {
        let split = Split::of(uri);
        if split.authority.is_none() {
            // No hierarchy that anything could be relative to: a dot segment can only be meant to mislead.
            check_opaque(uri)?;
            return Ok(Self(uri.into()));
        }
        let scheme = split.scheme.filter(|scheme| *scheme != "file");
        Ok(Self(uri[scheme.map_or(0, |scheme| scheme.len() + "://".len())..].into()))
    }

    /// The key of a relative name without a known base.
    fn of_relative(name: &str) -> Result<Self, NameError> {
        let trimmed = name.trim_start_matches(['/', '\\']);
        if trimmed.len() < name.len() && Split::of(trimmed).scheme.is_some() {
            // `/http://h/x` has the key of `http://h/x`: keys never begin with a scheme and an authority.
            return Self::from_name(trimmed, None);
        }
        if is_plain(trimmed) {
            return if trimmed.is_empty() { Err(NameError::Empty) } else { Ok(Self(trimmed.into())) };
        }
        let (path, query) = match trimmed.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (trimmed, None),
        };
        // The host of a key may be an IPv6 address, whose brackets no path has.
        let literal = path.find(']').map_or("", |at| &path[..=at]);
        let literal = if path.starts_with('[') && host_of(literal).is_ok() { literal } else { "" };
        let (mut resolved, mut out) = (String::with_capacity(name.len() + 1), literal.to_owned());
        push_path(&mut resolved, &format!("/{}", &path[literal.len()..]), AboveRoot::Refused)?;
        match literal {
            "" => out.push_str(resolved.trim_start_matches('/')),
            _ => out.push_str(resolved.strip_prefix('/').unwrap_or(&resolved)),
        }
        if let Some(query) = query {
            out.push('?');
            push_encoded(&mut out, query, true)?;
        }
        match out.len() {
            0 => Err(NameError::Empty),
            length if length > MAX_URI_BYTES => Err(NameError::TooLong),
            // `./A:b` is opaque once it is resolved.
            _ if Split::of(&out).scheme.is_some() => Self::from_name(&out, None),
            _ => Ok(Self(out.into())),
        }
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

/// The end of a URL in the spelling that keys have (RFC 3986 section 6.2.2.1 and 6.2.2.2). Dot segments stay.
///
/// # Errors
/// [`NameError::BadCharacter`], if it has an encoded NUL.
pub fn respelled(path_and_query: &str) -> Result<String, NameError> {
    let mut out = String::with_capacity(path_and_query.len());
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    push_encoded(&mut out, path, false)?;
    if let Some(query) = query {
        out.push('?');
        push_encoded(&mut out, query, true)?;
    }
    Ok(out)
}

/// Without fragment and surrounding blanks; refuses what is too long, empty or has control characters.
fn clean(name: &str) -> Result<&str, NameError> {
    let name = name.split('#').next().unwrap_or_default().trim_matches([' ', '\t', '\r', '\n']);
    if name.len() > MAX_URI_BYTES {
        return Err(NameError::TooLong);
    }
    if name.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(NameError::BadCharacter);
    }
    Ok(name)
}

/// The components of a URI reference without its fragment (RFC 3986 appendix B).
struct Split<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: Cow<'a, str>,
    query: Option<&'a str>,
}

impl<'a> Split<'a> {
    fn of(text: &'a str) -> Self {
        let (text, query) = match text.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (text, None),
        };
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) && !is_port(rest) => (Some(scheme), rest),
            _ => (None, text),
        };
        // Players take a backslash for a slash; two of either, mixed, begin an authority (WHATWG URL, special schemes).
        let slashes = ['/', '\\'];
        let (authority, path) = match rest.strip_prefix(slashes).and_then(|rest| rest.strip_prefix(slashes)) {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Self { scheme, authority, path: Cow::Borrowed(path), query }
    }
}

fn is_scheme(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether what follows a colon is a port, as in the key `h:8080/a`.
fn is_port(text: &str) -> bool {
    let port = text.split('/').next().unwrap_or_default();
    (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_international(authority: &str) -> bool {
    !authority.is_ascii() || authority.contains('%')
}

/// An authority whose host is percent-encoded or has other letters than ASCII's, in ASCII (WHATWG URL, host parsing).
fn ascii_of(authority: &str) -> Result<String, NameError> {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if port.is_empty() || is_port(port) => (host, Some(port)),
        _ => (host, None),
    };
    let mut decoded = Vec::with_capacity(host.len());
    let bytes = host.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    // What is denied includes `%`: the result is never international.
    let host = idna::domain_to_ascii_cow(&decoded, idna::AsciiDenyList::URL);
    let host = host.map_err(|_| NameError::BadAuthority)?;
    Ok(port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}")))
}

/// The host in lower case with its port, without user information and without a default port. As a key has no scheme,
/// neither default port distinguishes anything.
fn host_of(authority: &str) -> Result<String, NameError> {
    if is_international(authority) {
        return host_of(&ascii_of(authority)?);
    }
    let authority = authority.to_ascii_lowercase();
    let mut host = authority.rsplit('@').next().unwrap_or_default();
    // An empty port is the default port (RFC 3986 section 6.2.3).
    for default_port in [":443", ":80", ":"] {
        if let Some(bare) = host.strip_suffix(default_port) {
            host = bare;
            break;
        }
    }
    let (bare, port) = match host.rsplit_once(':') {
        Some((bare, port)) if !port.ends_with(']') => (bare, port),
        _ => (host, "0"),
    };
    let is_name = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    let is_legal = match bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')) {
        Some(literal) => is_name(literal, b".-_~:"),
        None => is_name(bare, b".-_~") && !bare.bytes().all(|byte| byte == b'.'),
    };
    if is_legal && is_name(port, b"") && port.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(host.to_owned())
    } else {
        Err(NameError::BadAuthority)
    }
}

/// Meaning of `..` at the root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AboveRoot {
    /// The root itself (RFC 3986 section 5.2.4).
    Stays,
    /// An error.
    Refused,
}

/// Appends an absolute path: encoded, its dot segments removed. An empty path is `/`.
fn push_path(out: &mut String, path: &str, above_root: AboveRoot) -> Result<(), NameError> {
    let root = out.len();
    let mut segments = path.split(['/', '\\']);
    // In front of the first slash is nothing.
    segments.next();
    let mut is_dot = false;
    for segment in segments {
        let start = out.len();
        out.push('/');
        push_encoded(out, segment, false)?;
        is_dot = matches!(&out[start..], "/." | "/..");
        match &out[start..] {
            "/." => out.truncate(start),
            "/.." => {
                out.truncate(start);
                match out[root..].rfind('/') {
                    Some(at) => out.truncate(root + at),
                    None if above_root == AboveRoot::Refused => return Err(NameError::Escapes),
                    None => {}
                }
            }
            encoded if has_hidden_dots(encoded) => return Err(NameError::Escapes),
            _ => {}
        }
    }
    if is_dot || out.len() == root {
        out.push('/');
    }
    Ok(())
}

/// Whether a segment has a dot segment between encoded slashes or backslashes: servers that decode first would climb.
fn has_hidden_dots(segment: &str) -> bool {
    if !segment.contains("%2F") && !segment.contains("%5C") {
        return false;
    }
    let plain = segment.replace("%5C", "/").replace("%2F", "/");
    plain.split('/').any(|part| matches!(part, "." | ".."))
}

/// Refuses dot segments, also encoded ones, and encoded NULs.
fn check_opaque(name: &str) -> Result<(), NameError> {
    let path = name.split('?').next().unwrap_or_default().replace("%5C", "/").replace("%2F", "/");
    let has_dots = path.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."));
    if has_dots { Err(NameError::Escapes) } else { Ok(()) }
}

/// Appends text with its percent-encoding normalised: unreserved characters decoded, hexadecimal digits in upper case,
/// what is not a character of a path (or query) encoded.
fn push_encoded(out: &mut String, text: &str, is_query: bool) -> Result<(), NameError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let hex = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (byte, hex(at), hex(at + 1)) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                let decoded = (high * 16 + low) as u8;
                match decoded {
                    0 => return Err(NameError::BadCharacter),
                    _ if is_unreserved(decoded) => out.push(char::from(decoded)),
                    _ => push_percent(out, decoded),
                }
            }
            _ if is_legal(byte) || (is_query && byte == b'?') => out.push(char::from(byte)),
            _ => push_percent(out, byte),
        }
    }
    Ok(())
}

fn push_percent(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Characters that stand for themselves in a path: `pchar` and the slash (RFC 3986 section 3.3).
const fn is_legal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/'
        )
}

/// Whether a relative name is already normalised. Nearly all are, and every request checks it.
fn is_plain(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.iter().all(|&byte| is_legal(byte) || byte == b'?')
        && !bytes.starts_with(b".")
        && !bytes.windows(2).any(|pair| pair == b"/.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Result<String, NameError> {
        ObjectKey::from_name(name, None).map(|key| key.to_string())
    }

    fn request(path: &str) -> String {
        ObjectKey::from_request_path(path).unwrap().to_string()
    }

    #[test]
    fn one_key_for_every_spelling_of_an_authority() {
        for name in [
            "https://cdn.example.com/vod/a/1.m4s",
            "HTTP://CDN.example.com:443/vod/a/1.m4s#x",
            "http://user@cdn.example.com:80/vod/a/1.m4s",
            "https://cdn.example.com:/vod/a/1.m4s",
        ] {
            assert_eq!(key(name).unwrap(), "cdn.example.com/vod/a/1.m4s");
        }
        assert_eq!(key("http://h:8080/a?b=/../c").unwrap(), "h:8080/a?b=/../c");
        assert_eq!(key("http://h").unwrap(), "h/");
        assert_eq!(key("http://h?q").unwrap(), "h/?q");
        assert_eq!(key("http://[2001:DB8::1]/x").unwrap(), "[2001:db8::1]/x");
        assert_eq!(key("http://[2001:DB8::1]:80/x").unwrap(), "[2001:db8::1]/x");
    }

    #[test]
    fn a_base_is_held_to_what_names_are() {
        for base in ["http://h/a?b\0", "http://h/a\u{2}b/", "http://h/\u{7f}"] {
            assert_eq!(resolve(base, ""), Err(NameError::BadCharacter), "{base:?}");
            assert_eq!(ObjectKey::from_name("", Some(base)), Err(NameError::BadCharacter), "{base:?}");
        }
        assert_eq!(resolve("http://h/a?b#c", "").as_deref(), Ok("http://h/a?b"));
    }

    #[test]
    fn an_international_host_is_one_however_it_is_spelled() {
        for name in [
            "https://xn--bcher-kva.example/v/1.m4s",
            "https://b\u{fc}cher.example/v/1.m4s",
            "http://B\u{dc}CHER.example:80/v/1.m4s",
            "http://user@bu\u{308}cher.example:/v/1.m4s",
            "https://b%C3%BCcher.example/v/1.m4s",
            "https://b%c3%bccher\u{3002}example:443/v/1.m4s",
            "//XN--BCHER-KVA.example/v/1.m4s",
        ] {
            let uri = resolve("https://h/", name).unwrap();
            assert_eq!(uri.split_once("://").unwrap().1, "xn--bcher-kva.example/v/1.m4s", "{name}");
            assert_eq!(key(&uri).unwrap(), "xn--bcher-kva.example/v/1.m4s", "{name}");
        }
        assert_eq!(key("http://\u{444}.example:8080/a").unwrap(), "xn--t1a.example:8080/a");
        for name in
            ["http://b%00.example/", "http://b%2Fc.example/", "http://b%.example/", "http://%FF.example/"]
        {
            assert_eq!(key(name), Err(NameError::BadAuthority), "{name}");
        }
        let asked = |path: &str| ObjectKey::from_international_path(path).map(|key| key.to_string());
        assert_eq!(asked("/b%C3%BCcher.example/v/a%20b?x").unwrap(), "xn--bcher-kva.example/v/a%20b?x");
        assert_eq!(asked("/b\u{fc}cher.example:8080/v").unwrap(), "xn--bcher-kva.example:8080/v");
        for path in
            ["/cdn.example.com/v", "/a%20b/v", "/b%C3%BCcher/v", "/b%C3%BCcher.example", "/a?b%C3%BC.c/d"]
        {
            assert_eq!(asked(path), None, "{path}");
        }
    }

    /// RFC 3986 section 6.2.2, and characters that are not URI's.
    #[test]
    fn spellings_of_one_path_are_one_key() {
        for (name, same) in [
            ("http://h/e%2b1%7Ex%41", "h/e%2B1~xA"),
            ("http://h/./a/x/../b", "h/a/b"),
            ("http://h/a/%2e%2E/b/.", "h/b/"),
            ("http://h/a/..", "h/"),
            ("http://h/../a", "h/a"),
            ("http://h/Mein Träume", "h/Mein%20Tr%C3%A4ume"),
            ("http://h/\u{3000}", "h/%E3%80%80"),
            ("http://h/50%", "h/50%25"),
            ("http://h/50%2", "h/50%252"),
            ("http://h/%zz", "h/%25zz"),
            ("http://h/[1]^a|b\"<>`{}", "h/%5B1%5D%5Ea%7Cb%22%3C%3E%60%7B%7D"),
            ("http://h/720p\\1.m4s", "h/720p/1.m4s"),
            ("http:\\/h/a/../x.m4s", "h/x.m4s"),
            ("http:\\\\h/x.m4s", "h/x.m4s"),
            ("http://h/a%2Fb%2fc", "h/a%2Fb%2Fc"),
            ("http://h/a?x=%7e y\\?", "h/a?x=~%20y%5C?"),
            ("http://h//a//b", "h//a//b"),
            ("  http://h/a\n", "h/a"),
            ("./a", "a"),
            ("a/./b/../c d", "a/c%20d"),
        ] {
            assert_eq!(key(name).as_deref(), Ok(same), "{name}");
            assert_eq!(key(same).as_deref(), Ok(same), "a key is its own key");
        }
        let nfd = "http://dvb.gw/ses.com/private/pdf/Su%CC%88ddeutsche%20Zeitung.pdf";
        assert_eq!(key(nfd).unwrap(), nfd[7..], "no Unicode normalisation: players ask for just these bytes");
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
        assert_eq!(with("?q", "http://h/a/x?p"), "h/a/x?q");
        assert_eq!(with("../../../b", "http://h/a/x"), "h/b");
        assert_eq!(key("sub/rand8.bin").unwrap(), "sub/rand8.bin");
        assert_eq!(key("/sub/rand8.bin").unwrap(), "sub/rand8.bin");
        assert_eq!(key("sub\\b.bin").unwrap(), "sub/b.bin");
    }

    /// RFC 3986 section 5.4, those that need no fragment.
    #[test]
    fn references_resolve_as_in_the_standard() {
        for (reference, uri) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g..", "http://a/b/c/g.."),
            ("./g/.", "http://a/b/c/g/"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g:h", "g:h"),
            ("HTTPS://G:443/x", "https://g/x"),
        ] {
            assert_eq!(resolve("http://a/b/c/d;p?q", reference).as_deref(), Ok(uri), "{reference}");
        }
    }

    #[test]
    fn opaque_and_private_names_are_their_own_keys() {
        for name in [
            "urn:dvb:metadata:nativeip:dvb-i-slep",
            "tag:mabr.gpac.io.2025.services.26/live.m3u8",
            "file:///dir/b.bin",
            "c:/out/a.bin",
        ] {
            assert_eq!(key(name).unwrap(), name);
            assert_eq!(request(&format!("/{name}")), name);
        }
        assert_eq!(key("file://localhost/a/../b").unwrap(), "file:///b");
        assert_eq!(key("C:\\out\\a b").unwrap(), "c:/out/a%20b");
    }

    #[test]
    fn refuses_what_escapes_hides_or_means_nothing() {
        for name in
            ["../etc/passwd", "a/../../b", "tag:x/../y", "a/%2e%2e%2fb", "http://h/a%5c..%5cb", "x:\\..\\y"]
        {
            assert_eq!(key(name), Err(NameError::Escapes), "{name}");
        }
        for name in ["a\nb", "a%00b", "http://h/\u{7f}"] {
            assert_eq!(key(name), Err(NameError::BadCharacter), "{name}");
        }
        for name in [
            "http:///x",
            "http://:80/x",
            "http://a b/",
            "http://../x",
            "https://h%2f/x",
            "a://",
            "http://a:b/x",
            "http://[]/x",
            "http://[::1]y/",
        ] {
            assert!(key(name).is_err(), "{name}");
        }
        assert_eq!(key(""), Err(NameError::Empty));
        assert_eq!(key("#7"), Err(NameError::Empty));
        assert_eq!(key("/"), Err(NameError::Empty));
        assert_eq!(key(&"a".repeat(MAX_URI_BYTES + 1)), Err(NameError::TooLong));
        assert_eq!(key(&"ä".repeat(MAX_URI_BYTES / 3)), Err(NameError::TooLong), "also when encoded");
    }

    #[test]
    fn a_request_path_finds_the_object_that_was_broadcast() {
        let broadcast = key("https://CDN.example.com/A/b.mpd?x=1").unwrap();
        for path in [
            "/cdn.example.com/A/b.mpd?x=1",
            "/CDN.Example.com/A/b.mpd?x=1",
            "/cdn.example.com:443/A/./b.mpd?x=1",
            "/cdn.example.com/A/c/../b.mp%64?x=%31",
        ] {
            assert_eq!(request(path), broadcast);
        }
        assert_ne!(request("/cdn.example.com//A/b.mpd?x=1"), broadcast);
    }

    #[test]
    fn an_authority_has_a_host_and_a_port_of_digits() {
        for name in
            ["http://h:/x", "http://h:80/x", "HTTPS://h:443/x", "a://h/x", "/http://h/x", "//http://h/x"]
        {
            assert_eq!(key(name).unwrap(), "h/x", "{name}");
        }
        assert_eq!(key("http://a:///b").unwrap(), "a///b");
        assert_eq!(key("http://[::1]:8080/").unwrap(), "[::1]:8080/");
        for base in ["http://h/a/x?p=/q/r", "http://h/a/x#f/g"] {
            assert_eq!(ObjectKey::from_name("b", Some(base)).unwrap().as_str(), "h/a/b", "{base}");
        }
    }

    /// Checks the invariants of a key, from any name and base.
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

    proptest! {
        #[test]
        fn keys_are_stable_and_requests_find_what_was_sent(
            path in "([a-zA-Z0-9._~%ä \\[\\]^|+&/-]{0,4}/){0,4}[a-zA-Z0-9._~%äü {}\"+=-]{0,8}",
            query in proptest::option::of("[a-z0-9=&%_~ ä/?-]{0,12}"),
        ) {
            let query = query.map_or_else(String::new, |query| format!("?{query}"));
            let reference = format!("{path}{query}");
            let Ok(uri) = resolve("https://cdn.example.com/v/x.mpd", &reference) else { return Ok(()) };
            prop_assert_eq!(&resolve("http://other/", &uri).unwrap(), &uri);
            let sent = ObjectKey::from_name(&uri, None).unwrap();
            prop_assert_eq!(&ObjectKey::from_name(sent.as_str(), None).unwrap(), &sent);
            prop_assert_eq!(&ObjectKey::from_request_path(&format!("/{sent}")).unwrap(), &sent);
            prop_assert!(sent.as_str().split(['/', '?']).all(|part| !matches!(part, "." | "..")) || uri.contains('?'));
        }

        /// A browser resolves the reference as WHATWG says and asks the box for what it got: that is the key on the air.
        #[test]
        fn an_independent_resolver_asks_for_the_same_key(
            path in "(\\.\\./|\\./|/|//k\\.example/)?([a-zA-Z0-9._~%ä \\[\\]^|+&-]{1,4}/){0,4}[a-zA-Z0-9._~äü {}\"'+=,;@-]{1,8}",
            query in proptest::option::of("[a-z0-9=&%_~ ä/?-]{0,12}"),
        ) {
            let query = query.map_or_else(String::new, |query| format!("?{query}"));
            let reference = format!("{path}{query}");
            let base = "https://cdn.example.com/v/w/x.mpd";
            let Ok(asked) = url::Url::parse(base).unwrap().join(&reference) else { return Ok(()) };
            let Ok(ours) = resolve(base, &reference) else { return Ok(()) };
            let asked = ObjectKey::from_name(asked.as_str(), None).unwrap();
            prop_assert_eq!(asked, ObjectKey::from_name(&ours, None).unwrap());
        }

        /// Names of every kind: any text, and texts made of the pieces that the grammar of URIs turns on.
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
}
