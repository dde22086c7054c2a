//! Requests that go on to an origin past the cache, and responses that are for one player alone.

use carousel::name::ObjectKey;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Incoming;

use super::body::PlayerBody;
use super::reply::plain;
use super::serve::{Asked, Found, Missing};
use super::{Player, head, shown};
use crate::caching;
use crate::delivery::{FailReason, Outcome};
use crate::origin::{Passed, Question, RequestBody, no_body};
use crate::store::EvictReason;

impl Player {
    /// Asks the origin for the head alone.
    pub(super) async fn pass(&self, asked: &Asked<'_>, url: &str) -> Result<Found, Missing> {
        let question = Question {
            method: asked.head.method.clone(),
            headers: asked.fields(),
            body: no_body(),
            on_interim: asked.on_interim.clone(),
        };
        let passed = self.filler.pass(url, question).await.map_err(Missing::Origin)?;
        Ok(Found::Passed(Box::new(passed)))
    }

    /// Hands a request on that is no GET: it changes something, so what is held of its target is forgotten when it succeeds
    /// (RFC 9111 section 4.4).
    pub(super) async fn forward(&self, asked: &Asked<'_>, body: Incoming) -> Option<Response<PlayerBody>> {
        let url = self.origins.url_for_unsafe(asked.key).filter(|_| self.config.read_through)?;
        let mut headers = asked.fields();
        // Conditions of these methods are the origin's to judge.
        for name in
            [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_NONE_MATCH, header::CONTENT_LENGTH]
        {
            if let Some(value) = asked.head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let question = Question {
            method: asked.head.method.clone(),
            headers,
            body: RequestBody::Left(body),
            on_interim: asked.on_interim.clone(),
        };
        let passed = match self.filler.pass(&url, question).await {
            Ok(passed) => passed,
            Err(err) => return Some(Missing::Origin(err).response(asked.key)),
        };
        let status = passed.reply.status;
        if status.is_success() || status.is_redirection() {
            self.invalidate(asked.key, &passed.headers);
        }
        Some(handed_on(passed))
    }

    fn invalidate(&self, key: &ObjectKey, response: &HeaderMap) {
        let mut targets = vec![key.clone()];
        let (host, path) = key.as_str().split_once('/').unwrap_or((key.as_str(), ""));
        let folder =
            path.split('?').next().and_then(|it| it.rsplit_once('/')).map_or("", |(folder, _)| folder);
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let Some(target) = caching::text(response, name) else { continue };
            // As the origin names it: behind a route its own host is not ours, but its paths are.
            let absolute = match target.split_once("://") {
                Some((_, rest)) => rest.to_owned(),
                None if target.starts_with('/') => format!("{host}{target}"),
                None => format!("{host}/{folder}/{target}"),
            };
            // Only its own: nobody empties another's cache.
            targets.extend(
                ObjectKey::from_kept(&absolute).ok().filter(|it| it.as_str().split('/').next() == Some(host)),
            );
        }
        for target in targets {
            self.shared.store.remove_all(&target, EvictReason::Purged);
            // What is on its way was sent before.
            if let Some(flight) = self.shared.flights.get(target.as_str()).filter(|it| it.sent.is_some()) {
                self.shared.flights.end(&flight, Outcome::Failed(FailReason::Replaced));
            }
        }
    }

    /// As the free function; but a manifest whose URLs are to be turned is read first.
    pub(super) async fn handed_on(&self, passed: Passed) -> Response<PlayerBody> {
        let routes = self.origins.routes();
        let content_type = caching::text(&passed.headers, header::CONTENT_TYPE).unwrap_or("");
        let is_turned = shown::is_manifest(content_type)
            && passed.reply.status == StatusCode::OK
            && !passed.headers.contains_key(header::CONTENT_ENCODING)
            && routes.iter().any(|route| route.rewrite);
        if !is_turned {
            return handed_on(passed);
        }
        let Passed { mut headers, mut reply, .. } = passed;
        let mut bytes = Vec::new();
        loop {
            match reply.next().await {
                Ok(None) => break,
                Ok(Some(piece)) if bytes.len() + piece.len() <= shown::MAX_TEXT_BYTES => {
                    bytes.extend_from_slice(&piece);
                }
                Ok(Some(_)) => {
                    return plain(StatusCode::BAD_GATEWAY, "this manifest is too long to be turned");
                }
                Err(err) => {
                    return plain(StatusCode::BAD_GATEWAY, &format!("the origin's manifest was cut: {err}"));
                }
            }
        }
        for name in [header::CONTENT_LENGTH, header::ETAG] {
            headers.remove(name);
        }
        let body = PlayerBody::of(shown::turned_bytes(bytes.into(), &routes));
        head::response(StatusCode::OK, with_traces(headers), body)
    }
}

/// What a response that was not kept says of its way.
fn with_traces(mut headers: HeaderMap) -> HeaderMap {
    headers.append(header::VIA, HeaderValue::from_static(head::VIA));
    headers.append("cache-status", HeaderValue::from_static("skycache; fwd=miss; stored=?0"));
    head::allow_everyone(&mut headers);
    headers
}

/// A response that is for nobody else goes on as it comes.
fn handed_on(passed: Passed) -> Response<PlayerBody> {
    let Passed { headers, reply, .. } = passed;
    let status = reply.status;
    head::response(status, with_traces(headers), PlayerBody::passed(reply))
}
