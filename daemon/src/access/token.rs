//! Playback tokens: end, paths and client address for which a URL is valid, signed by the issuer of the URL.
//!
//! ```text
//! sktoken = PAYLOAD "." base64url(HMAC-SHA256(secret, PAYLOAD))
//! PAYLOAD = base64url("exp=1784000000&prefix=/vod/film/&ip=203.0.113.7&kid=k1")
//!
//! https://edge.example.com/vod/film/master.m3u8?sktoken=TOKEN     one object
//! https://edge.example.com/sktoken=TOKEN/vod/film/master.m3u8     and all that it names by relative URLs
//! ```
//!
//! `exp` (seconds since 1970) and `kid` are required; `prefix` is that of paths as players request them, `ip` an address or
//! network. base64url is RFC 4648 section 5 without padding; a token, a prefix and a path are compared decoded, but for `%2F`, which
//! is not a separator. The secret is a line of a file (`ID SECRET`): several count at a time, so that keys can change.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::AccessRefusal;
use super::error::KeysError;
use super::options::network;

carousel::limits! {
    /// One playback token.
    const MAX_TOKEN_BYTES: usize = 2048, "bytes" {
        why: "A token with a long prefix takes 300.",
        full: "The request is refused as `bad_token`.",
        free: "Holds for one request.",
        test: "what_a_token_says_is_checked",
    }
}

/// The least bytes of a secret: as many as the hash has (RFC 2104 section 3).
const MIN_SECRET_BYTES: usize = 32;
/// Prefix of a token, in a query or as the first part of a path.
pub(super) const NAME: &str = "sktoken=";

/// Secrets by their ids.
pub(super) struct Keys(Vec<(String, hmac::Key)>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl Keys {
    /// Reads `ID SECRET` lines.
    ///
    /// # Errors
    /// The line that is wrong, without its content.
    pub(super) fn read(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((id, secret)) = line.split_once(char::is_whitespace) else {
                return Err(KeysError::NotAPair(number));
            };
            let secret = secret.trim();
            if secret.len() < MIN_SECRET_BYTES {
                return Err(KeysError::ShortSecret { line: number, min: MIN_SECRET_BYTES });
            }
            keys.push((id.to_owned(), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())));
        }
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Self(keys)) }
    }

    /// Checks whether a token is genuine, and valid for this path, address and time (seconds since 1970).
    pub(super) fn check(&self, token: &str, path: &str, peer: IpAddr, now: u64) -> Result<(), AccessRefusal> {
        let bad = AccessRefusal::BadToken;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(bad);
        }
        // Players that add parameters may write the whole query again, and encode more of it than was encoded.
        let token = decoded(token);
        let (payload, mac) = token.split_once('.').ok_or(bad)?;
        let said =
            URL_SAFE_NO_PAD.decode(payload).ok().and_then(|it| String::from_utf8(it).ok()).ok_or(bad)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| bad)?;
        let value = |name: &str| {
            said.split('&').find_map(|pair| pair.split_once('=').filter(|it| it.0 == name).map(|it| it.1))
        };
        let id = value("kid").ok_or(bad)?;
        let (_, key) = self.0.iter().find(|(own, _)| own == id).ok_or(AccessRefusal::UnknownKey)?;
        hmac::verify(key, payload.as_bytes(), &mac).map_err(|_| bad)?;
        // The payload is from a holder of the secret.
        let until: u64 = value("exp").and_then(|it| it.parse().ok()).ok_or(bad)?;
        if now >= until {
            return Err(AccessRefusal::Expired);
        }
        // Issuers write it as the path of a URL, or decoded.
        let allows =
            |prefix: &str| is_below(path, prefix.as_bytes()) || is_below(path, &decoded_path(prefix));
        if value("prefix").is_some_and(|prefix| !allows(prefix)) {
            return Err(AccessRefusal::OtherPath);
        }
        match value("ip").map(|ip| network(ip).ok_or(bad)).transpose()? {
            Some(network) if !network.contains(peer) => Err(AccessRefusal::OtherAddress),
            _ => Ok(()),
        }
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

/// Bytes of a path: not every one is UTF-8. `%2F` stays encoded, in capitals: to origins `a%2Fb` is another path than `a/b`.
fn decoded_path(mut text: &str) -> Vec<u8> {
    const SLASH: &[u8] = b"%2F";
    let mut bytes = Vec::with_capacity(text.len());
    while let Some(at) = text.as_bytes().windows(3).position(|it| it.eq_ignore_ascii_case(SLASH)) {
        bytes.extend(percent_encoding::percent_decode_str(&text[..at]));
        bytes.extend_from_slice(SLASH);
        text = &text[at + SLASH.len()..];
    }
    bytes.extend(percent_encoding::percent_decode_str(text));
    bytes
}

/// Whether a path, decoded, is below `prefix`; one that leads out again is not, also for servers that read `%2F` as `/`, or `..;x`
/// as `..`.
fn is_below(path: &str, prefix: &[u8]) -> bool {
    let all: Cow<'_, [u8]> = percent_encoding::percent_decode_str(path).into();
    let mut parts = all.split(|it| matches!(it, b'/' | b'\\'));
    let leads_out = parts.any(|part| part.split(|it| *it == b';').next() == Some(b"..".as_slice()));
    decoded_path(path).starts_with(prefix) && !leads_out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn token(said: &str, secret: &str) -> String {
        let payload = URL_SAFE_NO_PAD.encode(said);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, payload.as_bytes())))
    }

    #[test]
    fn what_a_token_says_is_checked() {
        let keys = Keys::read(&format!("# ours\n\nk1 {SECRET}\nk2  {SECRET}x\n")).unwrap();
        let peer = "203.0.113.7".parse().unwrap();
        let of = |said: &str, path: &str| keys.check(&token(said, SECRET), path, peer, 1000);
        assert_eq!(of("exp=1001&kid=k1", "/vod/a"), Ok(()));
        assert_eq!(of("exp=1001&prefix=/vod/film/&ip=203.0.113.0/24&kid=k1", "/vod/film/a%20b.m4s"), Ok(()));
        assert_eq!(of("exp=1000&kid=k1", "/vod/a"), Err(AccessRefusal::Expired));
        assert_eq!(of("kid=k1", "/vod/a"), Err(AccessRefusal::BadToken), "forever is not meant");
        assert_eq!(of("exp=1001", "/vod/a"), Err(AccessRefusal::BadToken));
        assert_eq!(of("exp=1001&kid=k3", "/vod/a"), Err(AccessRefusal::UnknownKey));
        assert_eq!(of("exp=1001&kid=k2", "/vod/a"), Err(AccessRefusal::BadToken), "another's secret");
        assert_eq!(of("exp=1001&ip=203.0.113.8&kid=k1", "/vod/a"), Err(AccessRefusal::OtherAddress));
        assert_eq!(of("exp=1001&ip=nobody&kid=k1", "/vod/a"), Err(AccessRefusal::BadToken));
        for path in [
            "/vod/other",
            "/vod/film/../a",
            "/vod/film/%2e%2e/a",
            "/vod/film/..%2Fa",
            "/vod/film/..;/a",
            "/vod/filma",
        ] {
            assert_eq!(
                of("exp=1001&prefix=/vod/film/&kid=k1", path),
                Err(AccessRefusal::OtherPath),
                "{path}"
            );
        }
        for (prefix, path) in [
            ("/vod/a%20b/", "/vod/a%20b/1.m4s"),
            ("/vod/a b/", "/vod/a%20b/1.m4s"),
            ("/vod/%c3%a9/", "/vod/%C3%A9/1.m4s"),
            ("/vod/%28x%29/", "/vod/(x)/1.m4s"),
        ] {
            let said = format!("exp=1001&prefix={prefix}&kid=k1");
            assert_eq!(of(&said, path), Ok(()), "{prefix}");
            assert_eq!(of(&said, "/vod/c/1.m4s"), Err(AccessRefusal::OtherPath), "{prefix}");
            assert_eq!(
                of(&said, &format!("{path}/%2e%2e/%2e%2e/b")),
                Err(AccessRefusal::OtherPath),
                "{prefix}"
            );
        }
        // Bytes that are no UTF-8 differ, and an encoded slash separates nothing.
        for (prefix, path, result) in [
            ("/k/%e4/", "/k/%E4/x", Ok(())),
            ("/k/%e4/", "/k/%f6/x", Err(AccessRefusal::OtherPath)),
            ("/t/a%2Fb/", "/t/a%2fb/x", Ok(())),
            ("/t/a%2fb/", "/t/a%2Fb/x", Ok(())),
            ("/t/a%2Fb/", "/t/a/b/x", Err(AccessRefusal::OtherPath)),
            ("/t/a/", "/t/a%2Fb", Err(AccessRefusal::OtherPath)),
            ("/t/a/", "/t/a/..%2F..%2Fb", Err(AccessRefusal::OtherPath)),
        ] {
            assert_eq!(of(&format!("exp=1001&prefix={prefix}&kid=k1"), path), result, "{prefix} {path}");
        }
        let encoded: String =
            token("exp=1001&kid=k1", SECRET).bytes().map(|it| format!("%{it:02x}")).collect();
        assert_eq!(keys.check(&encoded, "/", peer, 1000), Ok(()), "a player has encoded the whole query");
        let forever = token(&format!("exp={}&kid=k1", u64::MAX), SECRET);
        assert_eq!(keys.check(&forever, "/", peer, u64::MAX), Err(AccessRefusal::Expired), "without a date");
        let good = token("exp=1001&kid=k1", SECRET);
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).unwrap();
            assert!(keys.check(&altered, "/", peer, 1000).is_err(), "{altered}");
        }
        for wrong in
            ["", ".", "a.b", &"x".repeat(MAX_TOKEN_BYTES + 1), &good[..good.len() - 1], &format!("{good}A")]
        {
            assert!(keys.check(wrong, "/", peer, 1000).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_lines_and_wrong_ones_are_not_shown() {
        for (text, line) in [("", "no key"), ("k1", "line 1"), ("\nk1 short-secret", "line 2")] {
            let why = Keys::read(text).unwrap_err().to_string();
            assert!(why.contains(line) && !why.contains("short-secret"), "{why}");
        }
        assert!(!format!("{:?}", Keys::read(&format!("k1 {SECRET}")).unwrap()).contains(SECRET));
    }
}
