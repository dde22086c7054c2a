//! Requests that bypass the cache, and responses for one player alone.

use std::borrow::Cow;

use carousel::name::ObjectKey;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Body as _;

use super::body::PlayerBody;
use super::manifest::{self, PIECE_BYTES, Rewriter, Rewriting};
use super::missing::Missing;
use super::rendezvous::STEERING;
use super::reply::plain;
use super::serve::{ObjectLocation, ObjectRequest};
use super::urls::UrlMap;
use super::{HttpServer, head, target, urls};
use crate::caching::{self, Directives, NotKept};
use crate::catalog::Client;
use crate::delivery::{FailReason, Outcome};
use crate::origin::{Asker, ForwardReason, Passed, Question, Redirects, RequestBody, no_body};
use crate::store::{EvictReason, variants_of};

impl ObjectRequest<'_> {
    /// Request to an origin for this player alone: without a body, and without following redirects.
    pub(super) fn question(&self) -> Question {
        Question {
            method: self.head.method.clone(),
            headers: self.fields(),
            body: no_body(),
            on_interim: self.on_interim.clone(),
            follows_redirects: false,
            trace: self.trace.clone(),
            asker: Asker::Player(self.peer),
        }
    }
}

impl HttpServer {
    /// Requests only the head from the origin.
    pub(super) async fn pass(
        &self,
        request: &ObjectRequest<'_>,
        url: &str,
    ) -> Result<ObjectLocation, Missing> {
        let follows_redirects = request.target.route().is_some_and(|it| it.redirects == Redirects::Follow);
        let question = Question { follows_redirects, ..request.question() };
        let passed = self.filler.pass(url, question).await.map_err(Missing::Origin)?;
        Ok(ObjectLocation::Passed(Box::new(passed)))
    }

    /// Forwards a request with an unsafe method. If it succeeds, stored responses of its target are invalidated (RFC 9111
    /// section 4.4).
    pub(super) async fn forward(
        &self,
        request: &ObjectRequest<'_>,
        body: RequestBody,
    ) -> Option<Response<PlayerBody>> {
        let url = self.origins.url_for_unsafe(&request.target.full).filter(|_| self.config.read_through)?;
        let url = request.target.as_spelled(url);
        let mut question = Question { body, ..request.question() };
        // Conditions of these methods are evaluated by the origin.
        for name in
            [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_NONE_MATCH, header::CONTENT_LENGTH]
        {
            if let Some(value) = request.head.headers.get(&name) {
                question.headers.insert(name, value.clone());
            }
        }
        let place = match self.filler.place(request.peer) {
            Ok(place) => place,
            Err(why) => return Some(Missing::NoPlace(why).response(request.key)),
        };
        let passed = match self.filler.pass(&url, question).await {
            Ok(passed) => passed,
            Err(err) => return Some(Missing::Origin(err).response(request.key)),
        };
        drop(place);
        let status = passed.reply.status;
        if status.is_success() || status.is_redirection() {
            self.invalidate(request.key, &passed.headers);
        }
        Some(handed_on(Passed { forwarded: ForwardReason::Method, ..request.for_player(passed) }))
    }

    fn invalidate(&self, key: &ObjectKey, response: &HeaderMap) {
        let mut targets = vec![key.clone()];
        let (host, path) = key.as_str().split_once('/').unwrap_or((key.as_str(), ""));
        let folder =
            path.split('?').next().and_then(|it| it.rsplit_once('/')).map_or("", |(folder, _)| folder);
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let Some(target) = caching::text(response, name) else { continue };
            // In the origin's terms: behind a route its host differs from ours, its paths do not.
            let absolute = match target.split_once("://") {
                Some((_, rest)) => rest.to_owned(),
                None if target.starts_with('/') => format!("{host}{target}"),
                None => format!("{host}/{folder}/{target}"),
            };
            // Only of the same host: a client must not invalidate another site's objects.
            targets.extend(
                ObjectKey::from_kept(&absolute).ok().filter(|it| it.as_str().split('/').next() == Some(host)),
            );
        }
        for target in targets {
            self.shared.store.remove_all(&target, EvictReason::Purged);
            // A fetch in progress was requested before.
            for variant in variants_of(&target) {
                let flight = self.shared.flights.get(variant.as_str()).filter(|it| it.sent.is_some());
                if let Some(flight) = flight {
                    self.shared.flights.end(&flight, Outcome::Failed(FailReason::Replaced));
                }
            }
        }
    }

    /// Passes on a response for one player as it arrives; URLs in a manifest are mapped. Also returns the result of the
    /// mapping.
    pub(super) async fn handed_on(
        &self,
        passed: Passed,
        request: &ObjectRequest<'_>,
    ) -> (Response<PlayerBody>, Option<Rewriting>) {
        let passed = request.for_player(passed);
        let content_type = caching::text(&passed.headers, header::CONTENT_TYPE);
        let key = request.key.as_str();
        let is_part = passed.reply.status == StatusCode::PARTIAL_CONTENT;
        let is_answer = is_part || passed.reply.status == StatusCode::OK;
        // The map is built only for manifests: most responses are segments.
        let may_be_manifest = is_answer && manifest::may_be(key, content_type);
        let map = may_be_manifest.then(|| self.manifest_map(request)).filter(|it| !it.is_empty());
        let Some(map) = map else { return (handed_on(passed), None) };
        let is_surely = manifest::is_named(key, content_type);
        // A range that covers the complete object is rewritten like it.
        if is_part && !is_whole_range(&passed.headers) {
            return not_rewritten(passed, is_surely.then_some(Rewriting::Partial));
        }
        if Directives::of(&passed.headers).no_transform {
            return not_rewritten(passed, is_surely.then_some(Rewriting::NoTransform));
        }
        let coding = caching::text(&passed.headers, header::CONTENT_ENCODING);
        let Ok(mut rewriter) = Rewriter::new(coding, map) else {
            return not_rewritten(passed, is_surely.then_some(Rewriting::Coding));
        };
        let why_not = WhyNot::of(&passed);
        let Passed { mut headers, mut reply, .. } = passed;
        let left = reply.body().size_hint().exact();
        // Buffer until the format is recognised.
        let (mut first, mut out) = (Vec::new(), Vec::new());
        while rewriter.is_manifest().is_none() {
            let piece = match reply.next().await {
                Ok(piece) => piece,
                Err(err) => {
                    let line = format!("the origin's manifest was cut: {err}");
                    return (plain(StatusCode::BAD_GATEWAY, &line), None);
                }
            };
            let is_end = piece.is_none();
            let pushed = match &piece {
                Some(piece) => piece.chunks(PIECE_BYTES).try_for_each(|part| rewriter.push(part, &mut out)),
                None => rewriter.finish(&mut out),
            };
            first.extend(piece);
            if pushed.is_err() || (is_end && rewriter.is_manifest() != Some(true)) {
                // A body that cannot be decoded is passed on unchanged.
                let status = reply.status;
                let why = pushed.err().filter(|_| is_surely);
                let headers = with_traces(headers, why, why_not);
                let body = PlayerBody::passed_after(first, reply, left);
                return (head::response(status, headers, body), why);
            }
            if is_end {
                for name in
                    [header::CONTENT_LENGTH, header::ETAG, header::CONTENT_ENCODING, header::CONTENT_RANGE]
                {
                    headers.remove(name);
                }
                let response =
                    head::response(StatusCode::OK, with_traces(headers, None, why_not), PlayerBody::of(out));
                return (response, Some(Rewriting::Done));
            }
        }
        if rewriter.is_manifest() == Some(false) {
            let status = reply.status;
            let body = PlayerBody::passed_after(first, reply, left);
            return (head::response(status, with_traces(headers, None, why_not), body), None);
        }
        for name in [header::CONTENT_LENGTH, header::ETAG, header::CONTENT_ENCODING, header::CONTENT_RANGE] {
            headers.remove(name);
        }
        let body = PlayerBody::passed_rewritten(reply, rewriter, out);
        (head::response(StatusCode::OK, with_traces(headers, None, why_not), body), Some(Rewriting::Done))
    }

    /// Maps URLs in fields of a response to a request.
    pub(super) fn map_fields(&self, fields: &mut HeaderMap, request: &ObjectRequest<'_>) {
        let url = request.url(&self.origins);
        urls::map_fields(fields, request.target, url.as_deref(), request.routes, &self.origins.stand_ins());
    }

    /// Map of URLs for a manifest requested by `request`.
    pub(super) fn manifest_map(&self, request: &ObjectRequest<'_>) -> UrlMap {
        let steering = self.config.steering.as_ref().map(|it| {
            let manifest = request.key.as_str().split('?').next().unwrap_or_default();
            let path = format!("{STEERING}{manifest}");
            // Absolute: dash.js does not resolve it against the manifest.
            let named = target::authority(&request.head.uri, &request.head.headers);
            let url = Client::of(named, request.is_tls).map(|it| it.url(&path));
            (url.unwrap_or(path), it.cdn.clone())
        });
        // A player sent here by a rendezvous service stays in its session.
        let own = request.elsewhere.and_then(|_| request.target.route());
        let routes = self.origins.routes();
        let mapped = || routes.iter().filter(|route| own.is_none() && route.rewrite).chain(own);
        let map = if mapped().next().is_none() {
            UrlMap::default()
        } else {
            let url = request.url(&self.origins);
            UrlMap::new(request.elsewhere.or(url.as_deref()), mapped())
        };
        map.with_steering(steering)
    }
}

/// Whether a 206 has all bytes of its object.
fn is_whole_range(fields: &HeaderMap) -> bool {
    let range = caching::text(fields, header::CONTENT_RANGE).and_then(|it| it.strip_prefix("bytes 0-"));
    let Some((last, length)) = range.and_then(|it| it.split_once('/')) else { return false };
    let (last, length) = (last.trim().parse::<u64>(), length.trim().parse::<u64>());
    matches!((last, length), (Ok(last), Ok(length)) if last.checked_add(1) == Some(length))
}

fn not_rewritten(passed: Passed, why: Option<Rewriting>) -> (Response<PlayerBody>, Option<Rewriting>) {
    let why_not = WhyNot::of(&passed);
    let Passed { headers, reply, .. } = passed;
    let status = reply.status;
    (head::response(status, with_traces(headers, why, why_not), PlayerBody::passed(reply)), why)
}

/// Why the origin was asked for a response, and why that is not stored.
#[derive(Debug, Clone, Copy)]
struct WhyNot {
    forwarded: ForwardReason,
    not_kept: Option<NotKept>,
}

impl WhyNot {
    const fn of(passed: &Passed) -> Self {
        Self { forwarded: passed.forwarded, not_kept: passed.why }
    }
}

/// Fields of a response that was not stored, with `Via` and `Cache-Status`. The detail says why it is not stored, unless it has to
/// say how a manifest was rewritten (RFC 9211 2.8: one detail).
fn with_traces(mut headers: HeaderMap, rewriting: Option<Rewriting>, why_not: WhyNot) -> HeaderMap {
    headers.append(header::VIA, HeaderValue::from_static(head::VIA));
    let detail = rewriting.map(Rewriting::detail).filter(|it| !it.is_empty()).map(Cow::Borrowed);
    let detail = detail.or_else(|| {
        why_not
            .not_kept
            .map(|why| Cow::Owned(format!("; detail=not-kept-{}", why.as_str().replace('_', "-"))))
    });
    let detail = detail.unwrap_or_default();
    if let Ok(value) =
        HeaderValue::from_str(&format!("skycache; fwd={}; stored=?0{detail}", why_not.forwarded.as_str()))
    {
        headers.append("cache-status", value);
    }
    head::allow_everyone(&mut headers);
    headers
}

/// Passes on a response that is not shared, as it arrives.
fn handed_on(passed: Passed) -> Response<PlayerBody> {
    let why_not = WhyNot::of(&passed);
    let Passed { headers, reply, .. } = passed;
    let status = reply.status;
    head::response(status, with_traces(headers, None, why_not), PlayerBody::passed(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_why_it_is_not_kept_or_how_its_manifest_was_rewritten() {
        let status = |rewriting, not_kept| {
            let why_not = WhyNot { forwarded: ForwardReason::Miss, not_kept };
            let fields = with_traces(HeaderMap::new(), rewriting, why_not);
            fields["cache-status"].to_str().unwrap().to_owned()
        };
        assert_eq!(status(None, None), "skycache; fwd=miss; stored=?0");
        let no_store = Some(NotKept::NoStore);
        assert_eq!(status(None, no_store), "skycache; fwd=miss; stored=?0; detail=not-kept-no-store");
        let both = status(Some(Rewriting::NoTransform), no_store);
        assert_eq!(both, "skycache; fwd=miss; stored=?0; detail=not-rewritten-no-transform");
    }
}
