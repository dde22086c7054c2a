//! Reasons for which there is no object to serve, and the responses that say so.

use carousel::name::ObjectKey;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::PlayerBody;
use super::overload::SentToCdn;
use super::reply::plain;
use crate::origin::{NoPlace, OriginError, OriginRefusal};

/// Reasons for which there is no object to serve.
pub(super) enum Missing {
    /// No object of that name is known.
    Unknown,
    /// The origin refuses, with this status.
    Refused(u16),
    /// The origin cannot be reached.
    Origin(OriginError),
    /// It could not be begun.
    Busy,
    /// Too much is being fetched.
    NoPlace(NoPlace),
    /// No origin is asked now, since a player has another place for it.
    Overloaded(SentToCdn),
    /// It is announced, or on its way, and does not come.
    NotInTime,
    /// Its live service is on the air and has not brought it before its deadline: perhaps it will.
    NotYet,
    /// The link has lost it, of a live service in DASH, and no origin has it: what comes after it is here.
    Lost,
    /// The groups of its service are not joined, for want of room.
    NotJoined,
    /// A live playlist has not advanced for three target durations.
    NotAdvanced,
    /// Delivery directives that are not valid.
    Directive(&'static str),
    /// Its bytes proved wrong.
    Broken,
    /// The player wants nothing but what is here.
    OnlyIfCached,
    /// It has been replaced meanwhile.
    Again,
}

/// The answer for a lost segment. An MPD cannot mark one as a playlist does (`EXT-X-GAP`), and a player that gets an error asks
/// for it until it leaves the window, while playback stalls: half a minute in dash.js 5.2.1 and Shaka Player 5.2.1. Both pass
/// over one without content.
fn no_content() -> Response<PlayerBody> {
    let mut response = Response::new(PlayerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Missing {
    pub(super) fn response(&self, key: &ObjectKey) -> Response<PlayerBody> {
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
            // Not to be kept anywhere: in a moment it may be there.
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
