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

/// Whether the response contains one of these values of its request.
pub(super) fn repeats(response: &[u8], unusual: &[HeaderValue]) -> bool {
    // Short values such as numbers and flags occur everywhere.
    let mut values = unusual.iter().map(HeaderValue::as_bytes).filter(|it| it.len() >= LEAST_REPEATED_BYTES);
    values.any(|value| memmem::find(response, value).is_some())
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
}
