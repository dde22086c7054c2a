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
use crate::coding;

/// Bytes at the beginning of a body, decoded, that are searched for values of its request. Pages, scripts and manifests, which may
/// repeat them, are shorter.
const MAX_COMPARED_BYTES: usize = 4 << 20;
/// Rounds in which escapes are undone: a value that is escaped within an escaped text has two.
const FOLDED_ROUNDS: usize = 3;
/// Digits of a character reference in HTML, leading zeros included.
const LONGEST_NUMBER: usize = 8;
/// Bytes of the longest name of a character.
const LONGEST_NAME: usize = 7;
/// Names of ASCII's signs in HTML, in small letters.
const NAMED: [(&[u8], u8); 35] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"colon", b':'),
    (b"period", b'.'),
    (b"comma", b','),
    (b"semi", b';'),
    (b"num", b'#'),
    (b"percnt", b'%'),
    (b"equals", b'='),
    (b"quest", b'?'),
    (b"excl", b'!'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"lcub", b'{'),
    (b"lbrace", b'{'),
    (b"rcub", b'}'),
    (b"rbrace", b'}'),
    (b"plus", b'+'),
    (b"ast", b'*'),
    (b"lowbar", b'_'),
    (b"commat", b'@'),
    (b"dollar", b'$'),
    (b"grave", b'`'),
    (b"hat", b'^'),
    (b"verbar", b'|'),
    (b"newline", b'\n'),
];
/// The first of them, which browsers read without a semicolon too.
const WITHOUT_SEMICOLON: usize = 4;
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
///
/// Values are compared as they were sent with the response after each round in which its escapes are undone, and without their
/// escapes with what is left of it in the end. The cost is linear in the response: each round, of which a response without escapes
/// has none, passes over it once, and once for each value; in the end once more for each value that has escapes itself.
/// 4 MiB take 1 ms without escapes, 15 ms as a page, at most 90 ms (ampersands alone).
pub(super) fn repeats(response: &[u8], unusual: &[HeaderValue]) -> bool {
    let sent: Vec<Vec<u8>> = unusual.iter().map(|it| it.as_bytes().to_ascii_lowercase()).collect();
    let plain: Vec<Vec<u8>> = sent.iter().filter_map(|it| unescaped(it)).collect();
    let sought = |values: &[Vec<u8>]| -> Vec<memmem::Finder<'static>> {
        let sought = values.iter().filter_map(|it| searched(it));
        sought.map(|it| memmem::Finder::new(it).into_owned()).collect()
    };
    let (sent, plain) = (sought(&sent), sought(&plain));
    if sent.is_empty() && plain.is_empty() {
        return false;
    }
    let has_one =
        |text: &[u8], values: &[memmem::Finder<'_>]| values.iter().any(|it| it.find(text).is_some());
    let mut text = response.to_ascii_lowercase();
    let mut rounds = 0;
    loop {
        if has_one(&text, &sent) {
            return true;
        }
        rounds += 1;
        match folded(&text) {
            Some(next) if rounds <= FOLDED_ROUNDS => text = next,
            _ => return has_one(&text, &plain),
        }
    }
}

/// The part of a value, in small letters, that is searched for. What stands behind a value may make an escape with its last bytes, so
/// the beginning of one is left out. `None`: too short, as numbers and flags are, which occur everywhere.
fn searched(value: &[u8]) -> Option<&[u8]> {
    let mut inner = value;
    while let Some(at) = inner.iter().rposition(|it| matches!(it, b'%' | b'\\' | b'&'))
        && may_begin_escape(&inner[at..])
    {
        inner = &inner[..at];
    }
    [inner, value].into_iter().find(|it| it.len() >= LEAST_REPEATED_BYTES)
}

/// Whether these bytes and some behind them may be an escape.
fn may_begin_escape(tail: &[u8]) -> bool {
    let are_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match tail {
        [b'%', digits @ ..] => digits.len() < 2 && are_hex(digits),
        [b'\\'] => true,
        [b'\\', b'u', digits @ ..] => digits.len() < 4 && are_hex(digits),
        [b'\\', b'x', digits @ ..] => digits.len() < 2 && are_hex(digits),
        [b'&', name @ ..] => {
            name.len() <= LONGEST_NUMBER + 2
                && name.iter().all(|it| it.is_ascii_alphanumeric() || *it == b'#')
        }
        _ => false,
    }
}

/// Whether the beginning of a body contains one of these values; true if its coding hides that.
pub(super) fn body_repeats(body: &[u8], coding: Option<&str>, unusual: &[HeaderValue]) -> bool {
    if unusual.is_empty() {
        return false;
    }
    coding::beginning(body, coding, MAX_COMPARED_BYTES).map_or(true, |plain| repeats(&plain, unusual))
}

/// A value without escapes; `None`: it has none.
fn unescaped(value: &[u8]) -> Option<Vec<u8>> {
    let mut plain = folded(value)?;
    for _ in 1..FOLDED_ROUNDS {
        match folded(&plain) {
            Some(next) => plain = next,
            None => break,
        }
    }
    Some(plain)
}

/// A text in small letters, with the escapes undone, once, that pages, scripts and URLs write: `%2f`, `\/`, `\x2f`, `\u002f`, `&#x2f;`,
/// `&sol;`. `None`: it has none.
fn folded(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut done) = (Vec::new(), 0);
    for at in memchr::memchr3_iter(b'%', b'\\', b'&', text) {
        // The second byte of an escape may begin none.
        if at < done {
            continue;
        }
        let Some((byte, length)) = escaped(&text[at..]) else { continue };
        if done == 0 {
            out.reserve(text.len());
        }
        out.extend_from_slice(&text[done..at]);
        out.push(byte.to_ascii_lowercase());
        done = at + length;
    }
    (done > 0).then(|| {
        out.extend_from_slice(&text[done..]);
        out
    })
}

/// The character of the escape at the beginning of a text, and its length.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'%', digits @ ..] => Some((hex(digits)?, 3)),
        [b'\\', b'u', b'0', b'0', digits @ ..] => Some((hex(digits)?, 6)),
        [b'\\', b'x', digits @ ..] => Some((hex(digits)?, 4)),
        [b'\\', next @ (b'/' | b'"' | b'\'' | b'\\'), ..] => Some((*next, 2)),
        [b'&', b'#', number @ ..] => {
            let (radix, before, digits) = match number {
                [b'x', digits @ ..] => (16, 3, digits),
                _ => (10, 2, number),
            };
            let is_digit = |it: &&u8| char::from(**it).is_digit(radix);
            let count = digits.iter().take(LONGEST_NUMBER).take_while(is_digit).count();
            let byte = u8::from_str_radix(std::str::from_utf8(&digits[..count]).ok()?, radix).ok()?;
            Some((byte, before + count + usize::from(digits.get(count) == Some(&b';'))))
        }
        [b'&', name @ ..] => {
            let end = name.iter().take(LONGEST_NAME + 1).position(|it| *it == b';');
            let whole = end.and_then(|end| NAMED.iter().find(|(it, _)| *it == &name[..end]));
            let of_old = || NAMED[..WITHOUT_SEMICOLON].iter().find(|(it, _)| name.starts_with(it));
            let is_closed = whole.is_some();
            whole.or_else(of_old).map(|(it, byte)| (*byte, 1 + it.len() + usize::from(is_closed)))
        }
        _ => None,
    }
}

/// The byte of two hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let digit = |it: &u8| char::from(*it).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
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
        assert!(selects(&selecting, &HeaderMap::new(), None), "who is not a script may have it");
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
            "what is not an escape stays"
        );
    }

    #[test]
    fn escapes_that_straddle_the_end_of_a_value_and_layers_of_them_are_seen_through() {
        let unusual = |value: &str| vec![value.parse::<HeaderValue>().unwrap()];
        for (value, page) in [
            (r"evil.example\", r"<script src='//evil.example\/app.js'>"),
            (r"//evil.example\", r#"{"base":"//evil.example\"}"#),
            (r"//evil.example\", r#"{"base":"\/\/evil.example\\/a"}"#),
            (r"a&evil.example\", r"a&amp;evil.example\/app.js"),
            ("evil.example%", "//evil.example%2fapp.js"),
            ("a&evil.example%2", "//a&amp;evil.example%2fapp.js"),
            ("evil.example&", "//evil.example&amp;x=1"),
            ("<evil.example&", "&lt;evil.example&lt;/a>"),
            ("<evil.example&#4", "&lt;evil.example&#47;/a>"),
            (r"<evil.example\u002", r"&lt;evil.example\u002f/a>"),
            (r"<evil.example\x2", r"&lt;evil.example\x2f/a>"),
            (r"<evil.example&\%", r"&lt;evil.example&\%2f/a>"),
            ("long a&b value", r"long a\u0026amp;b value"),
            ("long/x%2fy/value", "q=long%2fx%252fy%2fvalue"),
            ("long<x>value", "long%2526lt;x%2526gt;value"),
            ("//evil.example/", r"\x2f\x2Fevil\x2eexample/"),
            ("//evil.example/", "&sol;&SOL;evil&period;example&#x2f"),
            ("//evil.example/", "&#47&#0047evil&#46example&#47"),
            ("x<evil>", "x&ltevil&gt"),
            ("a%+fevil", "a%+fevil"),
            ("ab&cdef", "ab&amp;cdef"),
        ] {
            assert!(repeats(page.as_bytes(), &unusual(value)), "{value} in {page}");
            assert!(
                !repeats(
                    page.as_bytes(),
                    &unusual(&value.replace("evil", "good").replace("long", "other").replace("cdef", "cdxx"))
                ),
                "{page}"
            );
        }
        for (value, page) in [
            ("a/evil.example", "a%2 evil.example"),
            ("a/evil.example", "a&#+47;evil.example"),
            ("a/evil.example", "a&#000000047;evil.example"),
            ("a/evil.example", "a&#303;evil.example"),
            ("flag&", "flag;"),
            ("a&", "a&amp;"),
        ] {
            assert!(!repeats(page.as_bytes(), &unusual(value)), "{page}");
        }
        assert_eq!((hex(b"+f"), hex(b"f"), hex(b"2F!")), (None, None, Some(b'/')));
        // Four layers are one too many, of a page and of a value.
        assert!(repeats(b"evil%2525252fexample", &unusual("evil%252fexample")));
        assert!(repeats(b"evil%25252fexample", &unusual("evil/example")));
        assert!(!repeats(b"evil%2525252fexample", &unusual("evil/example")));
    }

    #[test]
    fn the_beginning_of_a_body_is_judged_in_every_coding() {
        use crate::coding::bombs::{bombs, zstd};
        let unusual = |value: &str| vec![value.parse::<HeaderValue>().unwrap()];
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
        for (coding, bytes) in bombs() {
            assert!(!body_repeats(&bytes, Some(coding), &value), "{coding}");
            let decoded = coding::beginning(&bytes, Some(coding), MAX_COMPARED_BYTES).unwrap();
            assert_eq!(decoded.len(), MAX_COMPARED_BYTES, "{coding}");
        }
        // Coded bytes of more than 4 MiB, of a page that is longer still.
        let long = zstd(1_200_000, 0x50);
        assert!(long.len() > MAX_COMPARED_BYTES && !body_repeats(&long, Some("zstd"), &value));
        assert!(body_repeats(&long, Some("zstd"), &unusual("zzzzzz")));
        assert!(
            body_repeats(b"no zstd", Some("zstd"), &value) && body_repeats(b"no brotli", Some("br"), &value)
        );
        let behind = [vec![b' '; MAX_COMPARED_BYTES], b"//evil.example/".to_vec()].concat();
        assert!(!body_repeats(&gzip(&behind), Some("gzip"), &value) && !body_repeats(&behind, None, &value));
        assert!(body_repeats(b"no gzip", Some("gzip"), &value) && body_repeats(b"?", Some("dcb"), &value));
        assert!(!body_repeats(b"no gzip", Some("gzip"), &[]), "nothing to look for");
    }
}
