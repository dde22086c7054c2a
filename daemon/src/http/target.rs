//! Which object a request is about.

use std::borrow::Cow;

use carousel::name::{NameError, ObjectKey};
use http::Uri;

use crate::origin::Route;

/// The host that DVB-NIP reserves for what comes over the air.
const NIP_HOST: &str = "dvb.gw";

/// The keys that a request can mean, the most likely first: `[[route]]`s, `/authority/path`, and its own `Host`, for
/// players that were sent here in place of the CDN.
///
/// # Errors
/// The reason, if none can be made of it.
pub(super) fn keys(
    uri: &Uri,
    host: Option<&str>,
    routes: &[Route],
    is_origin_form: bool,
) -> Result<Vec<ObjectKey>, NameError> {
    let path = &without_cmcd(uri.path_and_query().map_or("/", |it| it.as_str()));
    // A player behind a proxy setting asks with the whole URL.
    let authority = uri.authority().map(http::uri::Authority::as_str).or(host);
    let bare = authority.map(|it| it.rsplit_once(':').map_or(it, |(host, _)| host));
    let by_host = |host: &str| ObjectKey::from_name(&format!("http://{host}{path}"), None);
    if bare.is_some_and(|it| it.eq_ignore_ascii_case(NIP_HOST)) {
        return Ok(vec![by_host(NIP_HOST)?]);
    }
    if let Some(authority) = uri.authority().filter(|_| !is_origin_form) {
        return Ok(vec![ObjectKey::from_name(&format!("http://{authority}{path}"), None)?]);
    }
    let mut keys = Vec::new();
    for route in routes {
        if let Some(rest) = path.strip_prefix(route.path.as_str()) {
            let key = ObjectKey::from_name(&format!("{}{rest}", route.base), None)?;
            // Dot segments may lead out of the route: then the path is another one.
            let base = || ObjectKey::from_name(&route.base, None);
            let is_below = !rest.contains("..") && !rest.contains('%')
                || base().is_ok_and(|base| key.as_str().starts_with(base.as_str()));
            if is_below {
                keys.push(key);
            }
        }
    }
    keys.push(ObjectKey::from_request_path(path)?);
    keys.extend(authority.and_then(|host| by_host(host).ok()));
    Ok(keys)
}

/// Common Media Client Data (CTA-5004) says how a player is, not what it wants: it is no part of the key.
fn without_cmcd(path: &str) -> Cow<'_, str> {
    let Some((path_only, query)) = path.split_once('?') else { return Cow::Borrowed(path) };
    if !query.split('&').any(|it| it.starts_with("CMCD=")) {
        return Cow::Borrowed(path);
    }
    let rest: Vec<&str> = query.split('&').filter(|it| !it.starts_with("CMCD=")).collect();
    if rest.is_empty() {
        Cow::Borrowed(path_only)
    } else {
        Cow::Owned(format!("{path_only}?{}", rest.join("&")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, host: &str) -> Vec<String> {
        let routes =
            [Route { path: "/vod/".into(), base: "https://cdn.example.com/v/".into(), rewrite: false }];
        let keys = keys(&uri.parse().unwrap(), Some(host), &routes, false).unwrap();
        keys.iter().map(|key| key.as_str().to_owned()).collect()
    }

    #[test]
    fn every_way_to_name_an_object() {
        assert_eq!(of("/op/x.mpd?a=1", "DVB.gw:8080"), ["dvb.gw/op/x.mpd?a=1"]);
        assert_eq!(of("/vod/a/1.m4s", "box:8080")[0], "cdn.example.com/v/a/1.m4s");
        assert_eq!(of("/cdn.example.com/v/1.m4s", "10.0.0.1:8080")[0], "cdn.example.com/v/1.m4s");
        assert_eq!(of("/v/1.m4s", "cdn.example.com").last().unwrap(), "cdn.example.com/v/1.m4s");
        assert_eq!(of("http://cdn.example.com/v/1.m4s", "x"), ["cdn.example.com/v/1.m4s"]);
        assert_eq!(of("http://dvb.gw/x", "y"), ["dvb.gw/x"]);
    }

    #[test]
    fn what_a_player_says_of_itself_is_no_part_of_the_name() {
        for path in ["/a.example/1.m4s?CMCD=bl%3D2500", "http://a.example/1.m4s?CMCD=x"] {
            assert_eq!(of(path, "box")[0], "a.example/1.m4s", "{path}");
        }
        assert_eq!(of("/a.example/1.m4s?t=1&CMCD=x&u=2", "box")[0], "a.example/1.m4s?t=1&u=2");
    }

    #[test]
    fn dot_segments_stay_within_their_route() {
        assert_eq!(of("/vod/a/../1.m4s", "box")[0], "cdn.example.com/v/1.m4s");
        assert_eq!(of("/vod/../x", "box")[0], "x");
        assert_eq!(of("/vod/%2e%2e/x", "box")[0], "x");
    }

    #[test]
    fn what_would_escape_is_refused() {
        for path in ["/a.example/../../etc/passwd", "/vod/../../x", "/a.example/..%2fx"] {
            let routes =
                [Route { path: "/vod/".into(), base: "https://cdn.example.com/v/".into(), rewrite: false }];
            assert!(keys(&path.parse().unwrap(), Some("box"), &routes, false).is_err(), "{path}");
        }
    }
}
