//! Sharing policy for responses made for one client: cookies, `Vary: User-Agent`, and the origins of scripts.
//!
//! `caching::judge` implements what HTTP allows. RFC 9111 section 7.3 leaves `Set-Cookie` to the cache: on a cacheable
//! response it does not make the response private. The cookies go only to the player whose request caused them, and a
//! response with one is stored only with explicit freshness.

use http::HeaderMap;
use http::header::{self, HeaderValue};
use memchr::memmem;

use super::fill::FillRequest;
use super::options::{SetCookie, VaryUserAgent};
use crate::caching::{self, Directives, Keep, NotKept};
use crate::coding::Decoder;

/// Bytes at the beginning of a body, decoded, that are searched for values of its request. Pages, scripts and manifests, which may
/// repeat them, are shorter; the search takes some milliseconds.
const MAX_COMPARED_BYTES: usize = 4 << 20;
/// Bytes decoded at a time: deflate expands up to a thousand times.
const CODED_PIECE_BYTES: usize = 1024;
/// Length from which a request field's value does not occur in a response by chance.
const LEAST_REPEATED_BYTES: usize = 6;

/// Restricts a judgement to what may be shared, and removes from `fields` what may not.
pub(super) fn shareable(
    judged: Result<Keep, NotKept>,
    fields: &mut HeaderMap,
    ask: &FillRequest,
) -> Result<Keep, NotKept> {
    let mut judged = judged.and_then(|keep| select(keep, fields, ask));
    if judged.is_ok() && fields.values().any(|value| repeats(value.as_bytes(), &ask.unusual)) {
        judged = Err(NotKept::Repeats);
    }
    if !fields.contains_key(header::SET_COOKIE) || ask.set_cookie == SetCookie::Keep {
        return judged;
    }
    let is_kept = judged.is_ok() && ask.set_cookie == SetCookie::Strip && is_explicit(fields);
    if is_kept {
        take_own(fields, ask);
    } else if !matches!(&judged, Err(why) if why.is_for_one()) {
        // Requests that wait for the same response may not share it either.
        judged = Err(NotKept::SetCookie);
    }
    judged
}

/// Removes fields from a response that are for the requesting player alone.
pub(super) fn take_own(fields: &mut HeaderMap, ask: &FillRequest) {
    if ask.set_cookie == SetCookie::Keep {
        return;
    }
    match &ask.own_fields {
        Some(own) => own.take_from(fields),
        None => {
            fields.remove(header::SET_COOKIE);
        }
    }
}

/// Whether the response contains one of these values of its request, in capitals or not, escaped or not.
pub(super) fn repeats(response: &[u8], unusual: &[HeaderValue]) -> bool {
    // Short values such as numbers and flags occur everywhere.
    let values = unusual.iter().map(|it| folded(it.as_bytes())).filter(|it| it.len() >= LEAST_REPEATED_BYTES);
    let values: Vec<Vec<u8>> = values.collect();
    if values.is_empty() {
        return false;
    }
    let response = folded(response);
    values.iter().any(|value| memmem::find(&response, value).is_some())
}

/// Whether the beginning of a body contains one of these values; true if its coding hides that.
pub(super) fn body_repeats(body: &[u8], coding: Option<&str>, unusual: &[HeaderValue]) -> bool {
    if unusual.is_empty() {
        return false;
    }
    let Some(mut decoder) = Decoder::of(coding) else { return true };
    if matches!(decoder, Decoder::Identity) {
        return repeats(&body[..body.len().min(MAX_COMPARED_BYTES)], unusual);
    }
    let mut plain = Vec::new();
    for piece in body.chunks(CODED_PIECE_BYTES) {
        if decoder.push(piece, &mut plain).is_err() {
            return true;
        }
        if plain.len() >= MAX_COMPARED_BYTES {
            return repeats(&plain[..MAX_COMPARED_BYTES], unusual);
        }
    }
    decoder.finish(&mut plain).is_err() || repeats(&plain, unusual)
}

/// In small letters, with the escapes undone that pages, scripts and URLs write: `%2F`, `\/`, `&#x2f;`, `&amp;`.
fn folded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, length) = match first {
            b'%' => hex(behind.get(..2)).map_or((first, 1), |byte| (byte, 3)),
            b'\\' => match behind {
                [b'u', b'0', b'0', digits @ ..] => hex(digits.get(..2)).map_or((first, 1), |byte| (byte, 6)),
                [next @ (b'/' | b'"' | b'\'' | b'\\'), ..] => (*next, 2),
                _ => (first, 1),
            },
            b'&' => entity(behind).unwrap_or((first, 1)),
            _ => (first, 1),
        };
        out.push(byte.to_ascii_lowercase());
        rest = &rest[length..];
    }
    out
}

fn hex(digits: Option<&[u8]>) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok()
}

/// The character of an HTML entity, and its length with the ampersand.
fn entity(behind: &[u8]) -> Option<(u8, usize)> {
    let end = behind.iter().take(8).position(|it| *it == b';')?;
    let name = std::str::from_utf8(&behind[..end]).ok()?;
    let byte = match name {
        "amp" => b'&',
        "lt" => b'<',
        "gt" => b'>',
        "quot" => b'"',
        "apos" => b'\'',
        _ => match name.strip_prefix('#')?.split_at_checked(1)? {
            ("x" | "X", digits) => u8::from_str_radix(digits, 16).ok()?,
            _ => name[1..].parse().ok()?,
        },
    };
    Some((byte, end + 2))
}

/// Whether the origin gives explicit freshness, or requires revalidation each time.
fn is_explicit(fields: &HeaderMap) -> bool {
    let directives = Directives::of(fields);
    directives.lifetime_s().is_some() || directives.no_cache || fields.contains_key(header::EXPIRES)
}

/// Adds selecting fields (`Vary`) that the response needs.
fn select(mut keep: Keep, fields: &mut HeaderMap, ask: &FillRequest) -> Result<Keep, NotKept> {
    if let Some(at) = keep.selecting.iter().position(|(name, _)| name == "user-agent") {
        match ask.vary_user_agent {
            VaryUserAgent::Exact => {}
            VaryUserAgent::Ignore => drop(keep.selecting.remove(at)),
            VaryUserAgent::Refuse => return Err(NotKept::Vary),
            VaryUserAgent::Products => {
                let name = caching::BY_PRODUCTS;
                keep.selecting[at] = (name.to_owned(), caching::selected_by(&ask.headers, name));
            }
        }
    }
    // A CORS response for one site without `Vary: Origin`: scripts of another could not read it.
    let site = caching::text(fields, header::ACCESS_CONTROL_ALLOW_ORIGIN).filter(|site| *site != "*");
    if let Some(site) = site
        && !keep.selecting.iter().any(|(name, _)| name == "origin")
    {
        keep.selecting.push((caching::BY_ALLOWED_SITE.to_owned(), Some(site.to_owned())));
        caching::vary_by(fields, "Origin");
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carousel::time::WallTime;

    use super::*;
    use crate::caching::{Exchange, from_pairs, judge, selects, text};
    use crate::origin::OwnFields;

    /// The judgement, what is left of the fields, and what the player gets beside.
    fn of(
        ask: FillRequest,
        response: &[(&str, &str)],
        default_s: Option<u32>,
    ) -> (Result<Keep, NotKept>, HeaderMap, HeaderMap) {
        let own = Arc::new(OwnFields::default());
        let ask = FillRequest { own_fields: Some(Arc::clone(&own)), ..ask };
        let mut fields = from_pairs(response.iter().copied());
        let now = WallTime::from_unix_ms(1_784_000_000_000);
        let judged = judge(&Exchange {
            request: &ask.headers,
            status: 200,
            response: &fields,
            requested_at: now,
            received_at: now,
            date: now,
            default_ms: default_s.map(|it| u64::from(it) * 1000),
        });
        let judged = shareable(judged, &mut fields, &ask);
        let mut mine = HeaderMap::new();
        own.append_to(&mut mine);
        (judged, fields, mine)
    }

    #[test]
    fn a_cookie_is_for_the_player_whose_request_caused_it() {
        let (cookie, fresh) = (("set-cookie", "s=1"), ("cache-control", "public, max-age=60"));
        let (judged, fields, mine) = of(FillRequest::default(), &[cookie, fresh], None);
        assert!(judged.is_ok());
        assert_eq!((text(&fields, "set-cookie"), text(&mine, "set-cookie")), (None, Some("s=1")));
        // A freshness that the box assumes is not one that the origin has given.
        let (judged, fields, _) = of(FillRequest::default(), &[cookie], Some(3600));
        assert_eq!((judged.unwrap_err(), text(&fields, "set-cookie")), (NotKept::SetCookie, Some("s=1")));
        // Nor may requests that wait for a response that is not kept share it.
        assert_eq!(of(FillRequest::default(), &[cookie], None).0.unwrap_err(), NotKept::SetCookie);
        let private = of(FillRequest::default(), &[cookie, ("cache-control", "private")], None);
        assert_eq!(private.0.unwrap_err(), NotKept::Private);
        let keep = FillRequest { set_cookie: SetCookie::Keep, ..FillRequest::default() };
        assert_eq!(text(&of(keep, &[cookie], Some(9)).1, "set-cookie"), Some("s=1"));
        let pass = FillRequest { set_cookie: SetCookie::Pass, ..FillRequest::default() };
        assert_eq!(of(pass, &[cookie, fresh], None).0.unwrap_err(), NotKept::SetCookie);
        assert!(of(FillRequest::default(), &[fresh], None).0.is_ok());
    }

    #[test]
    fn player_programs_are_told_apart_as_the_route_says() {
        let chrome = |version: &str| {
            from_pairs([(
                "user-agent",
                format!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{version} Safari/537.36"),
            )])
        };
        let selecting = |vary_user_agent| {
            let ask = FillRequest { vary_user_agent, headers: chrome("1.2"), ..FillRequest::default() };
            of(ask, &[("vary", "User-Agent"), ("cache-control", "max-age=9")], None).0.map(|it| it.selecting)
        };
        assert_eq!(selecting(VaryUserAgent::Refuse).unwrap_err(), NotKept::Vary);
        assert!(selecting(VaryUserAgent::Ignore).unwrap().is_empty());
        let exact = selecting(VaryUserAgent::Exact).unwrap();
        assert!(selects(&exact, &chrome("1.2"), None) && !selects(&exact, &chrome("1.3"), None));
        let products = selecting(VaryUserAgent::Products).unwrap();
        assert!(selects(&products, &chrome("9"), None));
        let other =
            from_pairs([("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0) AppleWebKit/1 Safari/1")]);
        assert!(!selects(&products, &other, None) && !selects(&products, &HeaderMap::new(), None));
    }

    #[test]
    fn an_answer_for_one_site_is_not_given_to_another() {
        let response = |site| [("access-control-allow-origin", site), ("cache-control", "max-age=9")];
        let (judged, fields, _) = of(FillRequest::default(), &response("https://a.example"), None);
        let selecting = judged.unwrap().selecting;
        assert_eq!(text(&fields, "vary"), Some("Origin"));
        let from = |site: &str| from_pairs([("origin", site)]);
        assert!(selects(&selecting, &from("https://a.example"), None));
        assert!(!selects(&selecting, &from("https://b.example"), None));
        assert!(selects(&selecting, &HeaderMap::new(), None), "who is no script may have it");
        assert!(of(FillRequest::default(), &response("*"), None).0.unwrap().selecting.is_empty());
    }

    #[test]
    fn a_response_that_repeats_a_value_of_its_request_is_for_that_request_alone() {
        let ask =
            |value: &str| FillRequest { unusual: vec![value.parse().unwrap()], ..FillRequest::default() };
        let fresh = ("cache-control", "max-age=60");
        let link = ("link", "<https://evil.example/x>");
        let (judged, _, _) = of(ask("evil.example"), &[fresh, link], None);
        assert_eq!(judged.unwrap_err(), NotKept::Repeats);
        assert!(NotKept::Repeats.is_for_one());
        assert!(of(ask("other.example"), &[fresh, link], None).0.is_ok());
        assert!(of(ask("evil"), &[fresh, link], None).0.is_ok(), "too short to mean anything");
        assert!(repeats(b"<script src=//evil.example>", &ask("evil.example").unusual));
        assert!(!repeats(b"<script src=//good.example>", &ask("evil.example").unusual));
        assert!(!repeats(b"", &ask("evil.example").unusual));
    }

    #[test]
    fn a_value_is_found_in_every_spelling_and_coding() {
        let unusual = |value: &str| vec![value.parse::<HeaderValue>().unwrap()];
        let value = unusual("Evil.example/\"><x>&y");
        for page in [
            "<a href=//Evil.example/\"><x>&y>",
            "<a href=//EVIL.EXAMPLE/\"><X>&Y>",
            "<a href=//evil.example/&quot;&gt;&lt;x&gt;&amp;y>",
            "<a href=//evil&#46;example&#x2F;&#34;&#x3e;&lt;x&gt;&amp;y>",
            "location='https:\\/\\/evil.example\\/\\\"\\u003e\\u003Cx>\\u0026y'",
            "/login?next=https%3A%2F%2Fevil.example%2F%22%3E%3Cx%3e%26y",
        ] {
            assert!(repeats(page.as_bytes(), &value), "{page}");
            assert!(!repeats(page.as_bytes(), &unusual("good.example/\"><x>&y")), "{page}");
        }
        assert!(
            repeats(b"a/%zz&#999;&nosuch;\\q", &unusual("A/%zz&#999;&nosuch;\\Q")),
            "what is no escape stays"
        );
        let gzip = |page: &[u8]| {
            use std::io::Write as _;
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(page).unwrap();
            out.finish().unwrap()
        };
        let value = unusual("evil.example");
        let page = [vec![b' '; 100_000], b"//evil.example/".to_vec()].concat();
        assert!(body_repeats(&gzip(&page), Some("gzip"), &value));
        assert!(!body_repeats(&gzip(b"the same for all"), Some("gzip"), &value));
        assert!(!body_repeats(&gzip(&vec![0; MAX_COMPARED_BYTES * 3]), Some("gzip"), &value), "a bomb");
        assert!(body_repeats(b"no gzip", Some("gzip"), &value) && body_repeats(b"?", Some("dcb"), &value));
        assert!(!body_repeats(b"no gzip", Some("gzip"), &[]), "nothing to look for");
    }
}
