//! Header fields that are forwarded or stored, and their update by a 304.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields of one connection (RFC 9110 section 7.6.1), those that must not be stored (RFC 9111 section 3.1), and `Alt-Svc` (RFC
/// 7838 section 3), which would name a port of ours.
const HOP_BY_HOP: [&str; 12] = [
    "alt-svc",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// Fields that a 304 cannot change of a stored response (RFC 9111 section 3.2).
const OF_THE_BYTES: [HeaderName; 4] =
    [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::CONTENT_RANGE, header::CONTENT_TYPE];

/// The fields for the next hop: without those of this connection, and without those that `Connection` names.
pub fn end_to_end(fields: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|line| line.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let mut out = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let text = name.as_str();
        if !HOP_BY_HOP.contains(&text) && !named.iter().any(|it| it == text) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Joins several `Cookie` fields, as HTTP/2 clients send them, into the one that HTTP/1.1 has (RFC 9113 section 8.2.3).
pub fn join_cookies(fields: &mut HeaderMap) {
    let lines: Vec<&[u8]> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(value) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        fields.insert(header::COOKIE, value);
    }
}

/// Fields in stored form: each byte of a value is one character, so that JSON can hold any bytes of an origin.
pub fn to_pairs(fields: &HeaderMap) -> Vec<(String, String)> {
    let value = |value: &HeaderValue| value.as_bytes().iter().map(|&byte| char::from(byte)).collect();
    fields.iter().map(|(name, it)| (name.as_str().to_owned(), value(it))).collect()
}

/// Fields from the output of [`to_pairs`]; skips invalid ones.
pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in pairs {
        let bytes: Option<Vec<u8>> =
            value.as_ref().chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name.as_ref().as_bytes()), value) {
            out.append(name, value);
        }
    }
    out
}

/// The first line of a field, as text.
pub fn text(fields: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    fields.get(name)?.to_str().ok()
}

/// Brings stored fields up to date with those of a 304 (RFC 9111 section 3.2). Both are end to end.
pub fn freshen(stored: &mut HeaderMap, update: &HeaderMap) {
    // An `Age` that the update does not repeat was that of the older message.
    stored.remove(header::AGE);
    for name in update.keys().filter(|name| !OF_THE_BYTES.contains(name)) {
        stored.remove(name);
        for value in update.get_all(name) {
            stored.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_connection_ends_with_it() {
        let fields = from_pairs([
            ("connection", "a, B"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("set-cookie", "x=1"),
            ("set-cookie", "y=2"),
        ]);
        let out = end_to_end(&fields);
        assert_eq!(out.len(), 3);
        assert_eq!(out.get_all("set-cookie").iter().count(), 2);
        assert_eq!(text(&out, "c"), Some("3"));
    }

    #[test]
    fn cookies_become_one_field_in_their_order() {
        let mut fields =
            from_pairs([("cookie", "a=1"), ("x", "y"), ("cookie", "b=\"2, 3\""), ("cookie", "c=3")]);
        join_cookies(&mut fields);
        let all: Vec<_> = fields.get_all("cookie").iter().collect();
        assert_eq!(all, ["a=1; b=\"2, 3\"; c=3"]);
        let mut one = from_pairs([("cookie", "a=1;b=2")]);
        join_cookies(&mut one);
        assert_eq!(text(&one, "cookie"), Some("a=1;b=2"));
    }

    #[test]
    fn any_byte_survives_being_kept() {
        let mut fields = HeaderMap::new();
        fields.insert("etag", HeaderValue::from_bytes(b"\"abc\xc3\xbc\xff\"").unwrap());
        assert_eq!(from_pairs(to_pairs(&fields)), fields);
    }

    #[test]
    fn a_304_updates_all_but_what_describes_the_bytes() {
        let mut stored = from_pairs([
            ("content-length", "36"),
            ("content-type", "text/plain"),
            ("x-test", "a"),
            ("age", "30"),
            ("kept", "k"),
        ]);
        freshen(
            &mut stored,
            &from_pairs([("content-length", "0"), ("x-test", "b"), ("x-test", "c"), ("content-type", "x/y")]),
        );
        assert_eq!(text(&stored, "content-length"), Some("36"));
        assert_eq!(text(&stored, "content-type"), Some("text/plain"));
        assert_eq!(stored.get_all("x-test").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!((text(&stored, "age"), text(&stored, "kept")), (None, Some("k")));
    }
}
