//! Reasons for which no object can be served, and their responses.

use carousel::name::ObjectKey;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::PlayerBody;
use super::overload::SentToCdn;
use super::reply::plain;
use crate::origin::{NoPlace, OriginError, OriginRefusal};

/// Reason for which no object can be served.
pub(super) enum Missing {
    /// No object of that name is known.
    Unknown,
    /// The origin has refused with this status.
    Refused(u16),
    /// The origin cannot be reached.
    Origin(OriginError),
    /// The fetch could not be started.
    Busy,
    /// Too many fetches are in progress.
    NoPlace(NoPlace),
    /// No origin is asked because of overload, and the player is sent elsewhere.
    Overloaded(SentToCdn),
    /// It is announced or in flight, and did not arrive in time.
    NotInTime,
    /// Its live service is on the air and has not delivered it before its deadline; it may still come.
    NotYet,
    /// A segment of a live DASH service that the link has lost and no origin has; later segments are here.
    Lost,
    /// The groups of its service are not joined, for want of room.
    NotJoined,
    /// A live playlist has not advanced for three target durations.
    NotAdvanced,
    /// Delivery directives that are not valid.
    Directive(&'static str),
    /// Its bytes failed verification.
    Broken,
    /// The request has `only-if-cached`.
    OnlyIfCached,
    /// It was replaced meanwhile: look it up again.
    Again,
}

/// The response for a lost segment. An MPD cannot mark it as a playlist can (`EXT-X-GAP`), and a player that gets an error
/// retries until the segment leaves the window, while playback stalls: half a minute in dash.js 5.2.1 and Shaka Player 5.2.1.
/// Both skip a segment without content.
fn no_content() -> Response<PlayerBody> {
    let mut response = Response::new(PlayerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Missing {
    /// Its line of `Cache-Status` (RFC 9211); `None`: the status says it all.
    fn cache_status(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unknown | Self::NotYet | Self::Lost | Self::Directive(_) => return None,
            Self::Refused(404 | 410) => return None,
            Self::Refused(_) => "skycache; fwd=miss; stored=?0; detail=error-origin-refuses",
            Self::Origin(OriginError::Timeout) => "skycache; fwd=miss; detail=error-origin-timeout",
            Self::Origin(OriginError::CircuitOpen) => "skycache; detail=error-circuit-open",
            Self::Origin(OriginError::Address(OriginRefusal::Loop)) => "skycache; detail=error-loop",
            Self::Origin(OriginError::RequestBody) => return None,
            Self::Origin(_) => "skycache; fwd=miss; detail=error-origin-failed",
            Self::Busy | Self::NoPlace(_) => "skycache; detail=error-no-place",
            Self::Overloaded(_) => "skycache; detail=error-overloaded",
            Self::NotInTime | Self::Again => "skycache; detail=error-not-in-time",
            Self::NotJoined => "skycache; detail=error-not-joined",
            Self::NotAdvanced => "skycache; detail=error-not-advanced",
            Self::Broken => "skycache; detail=error-broken",
            Self::OnlyIfCached => "skycache; detail=error-only-if-cached",
        })
    }

    pub(super) fn response(&self, key: &ObjectKey) -> Response<PlayerBody> {
        let mut response = self.message(key);
        if let Some(status) = self.cache_status() {
            response.headers_mut().insert("cache-status", HeaderValue::from_static(status));
        }
        response
    }

    fn message(&self, key: &ObjectKey) -> Response<PlayerBody> {
        match self {
            Self::Unknown => plain(
                StatusCode::NOT_FOUND,
                &format!("{key} is not in the cache, not announced, and no origin is configured for it"),
            ),
            Self::Refused(status @ (404 | 410)) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::NOT_FOUND);
                plain(status, &format!("the origin has no {key}"))
            }
            Self::Refused(status) => {
                plain(StatusCode::BAD_GATEWAY, &format!("the origin answers {status} for {key}"))
            }
            Self::Origin(OriginError::Timeout) => {
                plain(StatusCode::GATEWAY_TIMEOUT, &format!("the origin of {key} does not answer"))
            }
            Self::Origin(OriginError::CircuitOpen) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the origin of {key} fails: it is asked again in a moment"),
            ),
            Self::Origin(OriginError::Address(OriginRefusal::Loop)) => plain(
                StatusCode::LOOP_DETECTED,
                &format!("the origin of {key} is this cache itself: a route or origin leads back to it"),
            ),
            Self::Origin(OriginError::RequestBody) => {
                plain(StatusCode::BAD_REQUEST, "the body of the request ended early, or is not what it says")
            }
            Self::Origin(err) => {
                plain(StatusCode::BAD_GATEWAY, &format!("the origin of {key} failed: {err}"))
            }
            Self::Busy => {
                plain(StatusCode::SERVICE_UNAVAILABLE, &format!("the fetch of {key} could not be begun"))
            }
            Self::NoPlace(why) => {
                let why = match why {
                    NoPlace::Places => "too much is being fetched: see [http] max_fills",
                    NoPlace::Share => {
                        "this address waits for origins with its share of [http] max_fills; others have the rest"
                    }
                };
                plain(StatusCode::SERVICE_UNAVAILABLE, why)
            }
            Self::Overloaded(_) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "the box is overloaded: ask the CDN of its route")
            }
            Self::NotInTime | Self::Again => {
                plain(StatusCode::GATEWAY_TIMEOUT, &format!("{key} is on its way and has not come in time"))
            }
            // Not cacheable: it may arrive at any moment.
            Self::NotYet => plain(StatusCode::NOT_FOUND, &format!("{key} has not been sent yet")),
            Self::Lost => no_content(),
            Self::NotJoined => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!(
                    "the service of {key} is not received: others that are watched take all of [receive] joined_bps"
                ),
            ),
            Self::NotAdvanced => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("{key} has not advanced for three target durations"),
            ),
            Self::Directive(why) => plain(StatusCode::BAD_REQUEST, why),
            Self::Broken => {
                plain(StatusCode::BAD_GATEWAY, &format!("what arrived as {key} is not what was announced"))
            }
            Self::OnlyIfCached => {
                plain(StatusCode::GATEWAY_TIMEOUT, &format!("{key} is not in the cache, and only-if-cached"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_in_cache_status_whether_the_origin_was_asked() {
        let key = ObjectKey::from_name("h/a.ts", None).unwrap();
        let of = |missing: Missing| {
            let response = missing.response(&key);
            let how = response.headers().get("cache-status").map(|it| it.to_str().unwrap().to_owned());
            (response.status().as_u16(), how.unwrap_or_default())
        };
        let with = |status, how: &str| (status, format!("skycache; {how}"));
        let asked = |detail: &str| format!("fwd=miss; detail=error-{detail}");
        assert_eq!(of(Missing::Origin(OriginError::Timeout)), with(504, &asked("origin-timeout")));
        assert_eq!(of(Missing::Origin(OriginError::Cut)), with(502, &asked("origin-failed")));
        assert_eq!(of(Missing::Origin(OriginError::CircuitOpen)), with(503, "detail=error-circuit-open"));
        assert_eq!(of(Missing::NoPlace(NoPlace::Places)), with(503, "detail=error-no-place"));
        assert_eq!(of(Missing::OnlyIfCached), with(504, "detail=error-only-if-cached"));
        assert_eq!(of(Missing::Refused(404)), (404, String::new()));
    }
}
