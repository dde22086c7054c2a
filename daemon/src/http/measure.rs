//! Reports of players (CMCD), in their requests and in POSTs of events, passed to [`crate::qoe`].

use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::HttpServer;
use super::access::{LogFields, Record};
use super::body::PlayerBody;
use super::head::allow_everyone;
use super::reply::plain;
use crate::access::without_token;
use crate::clock;
use crate::origin::RequestBody;
use crate::qoe::{Incoming, MAX_EVENTS_BYTES, Measured, QoeLoss, cmcd};

/// Path to which players post events.
pub(super) const EVENTS_PATH: &str = "/-/cmcd";
/// `Retry-After` in seconds if the disk is slow.
const RETRY_AFTER_S: u32 = 5;

/// Common Media Client Data of a request, from the query or the fields.
pub(super) fn report_of(words: &LogFields<'_>) -> Option<String> {
    let query = words.target.split_once('?').map_or("", |(_, query)| query);
    if let Some(report) = cmcd::of_query(query) {
        return Some(report);
    }
    let parts: Vec<_> = cmcd::FIELDS.iter().filter_map(|name| (words.field)(name)).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

impl HttpServer {
    /// Passes on the CMCD of a request after its response has ended.
    pub(super) fn measure(&self, record: &Record, sent: u64) {
        let Some(qoe) = &self.shared.qoe else { return };
        record.request.read(|words| {
            let Some(report) = report_of(words) else { return };
            let field = |name| (words.field)(name).unwrap_or_default().into_owned();
            let without = without_token(words.target);
            let target = without.as_ref().map_or(words.target, |it| &it.0);
            let path = target.split('?').next().unwrap_or_default();
            let url =
                if path.starts_with('/') { format!("{}{path}", field("host")) } else { path.to_owned() };
            let measured = Measured {
                at: clock::wall(),
                report,
                url,
                status: record.status.as_u16(),
                bytes: sent,
                cache: record.served.as_str(),
                head: record.head_took,
                total: Instant::now().saturating_duration_since(record.began),
                user_agent: field("user-agent"),
            };
            // Counted there.
            let _ = qoe.offer(Incoming::Request(Box::new(measured)));
        });
    }

    /// Whether a request posts events, or is a preflight for that.
    pub(super) fn is_of_events(&self, head: &Parts) -> bool {
        self.shared.qoe.is_some()
            && head.uri.path() == EVENTS_PATH
            && matches!(head.method, Method::POST | Method::OPTIONS)
    }

    /// Receives events.
    pub(super) async fn events(&self, head: &Parts, body: RequestBody) -> Response<PlayerBody> {
        let mut response = self.take_events(head, body).await;
        let fields = response.headers_mut();
        if head.method == Method::OPTIONS {
            for (name, value) in [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, "*, Content-Type"),
                (header::ACCESS_CONTROL_MAX_AGE, "86400"),
            ] {
                fields.insert(name, HeaderValue::from_static(value));
            }
        }
        allow_everyone(fields);
        response
    }

    async fn take_events(&self, head: &Parts, body: RequestBody) -> Response<PlayerBody> {
        let done = || {
            let mut response = Response::new(PlayerBody::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        };
        let Some(qoe) = self.shared.qoe.as_ref().filter(|_| head.method == Method::POST) else {
            return done();
        };
        let body: Bytes = match Limited::new(body, MAX_EVENTS_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(err) if err.is::<LengthLimitError>() => {
                qoe.stats.lost.add(QoeLoss::TooLarge);
                let line = format!(
                    "events of one request have at most {MAX_EVENTS_BYTES} bytes: send them in several"
                );
                return plain(StatusCode::PAYLOAD_TOO_LARGE, &line);
            }
            Err(_) => return plain(StatusCode::BAD_REQUEST, "the request's body was cut"),
        };
        let user_agent = head.headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        let user_agent = String::from_utf8_lossy(user_agent).into_owned();
        if qoe.offer(Incoming::Events { body, user_agent, at: clock::wall() }) {
            return done();
        }
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many measurements wait for the disk");
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        response
    }
}
