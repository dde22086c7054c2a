//! Handling of one request: the fast path of repeated hits, the full lookup, and the record of its response.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use carousel::name::NameError;
use carousel::time::WallTime;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::access::{Record, RequestHead};
use super::body::PlayerBody;
use super::connection::{Answer, Link};
use super::head::{self, allow_everyone};
use super::hot::{Hit, QuickHit, Remembered};
use super::manifest::{self, Rewriting};
use super::quick::{Plain, Reply};
use super::rendezvous::GatewayRequest;
use super::reply::{Send, plain};
use super::serve::{EarlyData, ObjectRequest, Outcome, is_fresh};
use super::shown::{Shown, takes_gzip};
use super::stats::{MissCause, Refusal, Served};
use super::streams::Exchange;
use super::target::Target;
use super::urls::UrlMap;
use super::workers::Worker;
use super::{METHODS, cors, own, quick, target, upstream};
use crate::access::{redacted, without_tokens};
use crate::clock;
use crate::origin::{OnInterim, RequestBody, Route};
use crate::store::StoredObject;
use crate::traces::{Trace, known};

/// Bytes of an unreadable request in the access log, which is truncated.
const MAX_LOGGED_START: usize = 256;
/// Queue of interim responses of one request. Origins send one or two.
const INTERIMS: usize = 8;

/// A response body that records how it ended.
pub(super) struct Logged {
    body: PlayerBody,
    sent: u64,
    exchange: Exchange,
    route: usize,
    record: Option<Box<Record>>,
}

impl Body for Logged {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let logged = self.get_mut();
        let polled = Pin::new(&mut logged.body).poll_frame(cx);
        if let Some(pace) = &logged.exchange.pace {
            pace.took(matches!(polled, Poll::Ready(Some(Ok(_)))));
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            logged.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let is_whole = self.body.is_end_stream();
        self.exchange.is_whole = is_whole;
        self.exchange.span.number("http.response.body.size", i64::try_from(self.sent).unwrap_or(i64::MAX));
        if !is_whole {
            self.exchange.span.fail(|| "cut".to_owned());
        }
        let worker = &self.exchange.worker;
        if let Some(route) = worker.stats.routes.get(self.route) {
            route.bytes.fetch_add(self.sent, Relaxed);
        }
        if let Some(record) = &self.record {
            worker.server.measure(record, self.sent);
            worker.write_log(|log| log.add(record, self.sent, is_whole, clock::wall()));
        }
    }
}

/// Source of the answer to a request.
enum Destination<'a> {
    /// The page, or another resource of the box; with its name.
    Own(Option<&'a str>),
    /// The receiver of players' reports.
    Events,
    /// The cache or an origin; with the object, if a rendezvous service has sent the player here.
    Object(Option<GatewayRequest>),
    /// A finished response.
    Answered(Response<PlayerBody>),
}

/// The object that a request names.
struct Named {
    target: Target,
    /// Generation of the routes that resolved it.
    generation: u64,
    routes: Arc<[Route]>,
    /// Access to it is restricted.
    is_guarded: bool,
    /// Its URL at the content's own host, for players sent here by a rendezvous service.
    elsewhere: Option<String>,
}

impl Worker {
    /// Answers a request.
    pub(super) fn answer(self: &Rc<Self>, request: Request<RequestBody>, link: &Rc<Link>) -> Answer {
        let began = Instant::now();
        let exchange = Exchange::begin(self, link);
        if !request.body().is_end_stream() {
            link.has_had_body.set(true);
        }
        let bad_framing = bad_framing(link, request.headers());
        if request.method() == Method::GET && bad_framing.is_none() {
            let generation = self.server.origins.generation();
            let mut hot = self.hot.borrow_mut();
            let hit = hot.under(generation).get(request.uri(), request.headers(), clock::now());
            drop(hot);
            // An origin may have to evaluate a condition that fails for the version held.
            let hit = hit.filter(|it| it.status != StatusCode::PRECONDITION_FAILED);
            if let Some(Hit { status, fields, send, object, body, route }) = hit {
                let mut exchange = exchange;
                if let Some(tracer) = &self.server.shared.tracer {
                    exchange.span = tracer.continued(request.headers(), link.peer, began);
                }
                let response = head::response(status, fields, send.of_object(object, body.as_ref()));
                let (head, _) = request.into_parts();
                return Answer::Ready(Some(self.finish(response, head, exchange, route, Served::Hit, began)));
            }
        }
        let worker = Rc::clone(self);
        let mut exchange = exchange;
        Answer::Later(Box::pin(async move {
            let (head, body) = request.into_parts();
            if let Some(tracer) = &worker.server.shared.tracer {
                exchange.span = tracer.begin(&head.headers, exchange.link.peer, began);
            }
            let route = worker.route(&head);
            if let Some(line) = bad_framing {
                worker.stats.refuse(Refusal::BadRequest);
                let mut response = plain(StatusCode::BAD_REQUEST, line);
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                return worker.finish(response, head, exchange, route, Served::Own, began);
            }
            let response = worker.look_up(&head, body, &exchange.link, route, &exchange.span.trace()).await;
            let status = response.headers().get_all("cache-status").iter().next_back();
            let status = status.and_then(|it| it.to_str().ok()).unwrap_or("");
            let served = Served::of(status);
            worker.stats.miss(MissCause::of(&head, response.status(), served, status));
            worker.finish(response, head, exchange, route, served, began)
        }))
    }

    /// Records a response and returns it for sending.
    fn finish(
        self: &Rc<Self>,
        response: Response<PlayerBody>,
        head: Parts,
        exchange: Exchange,
        route: usize,
        served: Served,
        began: Instant,
    ) -> Response<Logged> {
        let took = began.elapsed();
        let status = response.status();
        self.stats.head(route, status, served, took);
        self.complain(&head, status, served, took);
        let mut response = response;
        if self.server.config.server_timing || head.headers.contains_key("server-timing") {
            let value = format!("cache;desc=\"{}\";dur={:.3}", served.as_str(), took.as_secs_f64() * 1000.0);
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append("server-timing", value);
            }
        }
        if exchange.link.is_tls
            && head.version != Version::HTTP_3
            && let Some(alternative) = self.server.alternative.get()
        {
            response.headers_mut().insert(header::ALT_SVC, alternative.clone());
        }
        let peer = exchange.link.peer;
        let mut exchange = exchange;
        if exchange.span.is_some() {
            self.describe(&mut exchange, &head, route, &response, served);
        }
        response.map(|body| {
            self.logged(body, exchange, route, || {
                let request = RequestHead::Parsed(Box::new(head));
                Record { peer, request, status, served, began, head_took: took }
            })
        })
    }

    /// Records the request and its result in its span.
    fn describe(
        &self,
        exchange: &mut Exchange,
        head: &Parts,
        route: usize,
        response: &Response<PlayerBody>,
        served: Served,
    ) {
        let Exchange { span, link, .. } = exchange;
        let route = self.server.route_names().get(route).map_or("other", String::as_str);
        span.rename(|| format!("{} {route}", known(&head.method)));
        span.text("http.request.method", || known(&head.method).to_owned());
        span.text("http.route", || route.to_owned());
        // Without its query, which may contain secrets.
        span.text("url.path", || without_tokens(head.uri.path()).into_owned());
        span.text("url.scheme", || if link.is_tls { "https" } else { "http" }.to_owned());
        let host = target::authority(&head.uri, &head.headers);
        span.text("server.address", || host.unwrap_or_default().to_owned());
        let version = match head.version {
            Version::HTTP_3 => "3",
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        span.text("network.protocol.version", || version.to_owned());
        span.number("http.response.status_code", i64::from(response.status().as_u16()));
        span.text("skycache.cache", || served.as_str().to_owned());
        if let Some(how) = response.headers().get_all("cache-status").iter().next_back() {
            span.text("skycache.cache_status", || String::from_utf8_lossy(how.as_bytes()).into_owned());
        }
        if response.status().is_server_error() {
            span.fail(|| response.status().as_str().to_owned());
        }
        if matches!(served, Served::Hit | Served::Own) {
            span.forget_unless_used();
        }
    }

    /// Prepares a body for sending: from files where the socket can, with the data for its log line and its measurement if
    /// these are enabled.
    fn logged(
        self: &Rc<Self>,
        mut body: PlayerBody,
        exchange: Exchange,
        route: usize,
        record: impl FnOnce() -> Record,
    ) -> Logged {
        if let Some(outbox) = &exchange.link.outbox {
            body.send_through(outbox);
        }
        let is_recorded = self.log.is_some() || self.server.qoe().is_some();
        let record = is_recorded.then(|| Box::new(record()));
        Logged { body, sent: 0, exchange, route, record }
    }

    /// Answers a plain request for an object that was served recently; `None`: it needs the full path.
    pub(super) fn quick(self: &Rc<Self>, bytes: &[u8], link: &Rc<Link>) -> Option<Reply> {
        if self.server.config.server_timing {
            return None;
        }
        let began = Instant::now();
        let plain = Plain::of(bytes)?;
        if plain.is_traced && self.server.shared.tracer.is_some() {
            return None;
        }
        let generation = self.server.origins.generation();
        let QuickHit { status, mut head, body, route } =
            self.hot.borrow_mut().under(generation).quick(&plain, clock::now())?;
        if link.is_tls
            && let Some(alternative) = self.server.alternative.get()
        {
            quick::add_line(&mut head, header::ALT_SVC.as_str(), alternative.as_bytes());
        }
        let exchange = Exchange::begin(self, link);
        let took = began.elapsed();
        self.stats.head(route, status, Served::Hit, took);
        let body = self.logged(body, exchange, route, || {
            let request = RequestHead::Raw(bytes.into());
            Record { peer: link.peer, request, status, served: Served::Hit, began, head_took: took }
        });
        Some(Reply { head, body })
    }

    /// Records a connection whose request could not be read. `start`: its first bytes, as far as they are known.
    pub(super) fn refuse_connection(&self, link: &Link, err: &hyper::Error, start: &[u8]) {
        let (why, status) = match start {
            [0x16, 3, ..] => (Refusal::TlsOnPlainPort, StatusCode::BAD_REQUEST),
            _ if err.is_parse_too_large() => {
                (Refusal::HeadTooLarge, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            }
            _ => (Refusal::BadRequest, StatusCode::BAD_REQUEST),
        };
        tracing::debug!(peer = %link.peer, %err, "a request was refused");
        self.note_refusal(link.peer, why, status, start);
    }

    /// Records a connection that ended because of invalid frames. `line`: the cause, in place of a request in the log.
    pub(super) fn refuse_frames(&self, link: &Link, why: Refusal, line: &str) {
        self.note_refusal(link.peer, why, StatusCode::BAD_REQUEST, line.as_bytes());
    }

    /// Records a failed handshake. `line`: the cause, in place of a request in the log.
    pub(super) fn refuse_handshake(&self, peer: IpAddr, line: &str) {
        self.note_refusal(peer, Refusal::Handshake, StatusCode::BAD_REQUEST, line.as_bytes());
    }

    fn note_refusal(&self, peer: IpAddr, why: Refusal, status: StatusCode, start: &[u8]) {
        self.stats.refuse(why);
        tracing::debug!(%peer, why = why.as_str(), "refused");
        self.write_log(|log| {
            let record = Record {
                peer,
                request: RequestHead::Unreadable(start[..start.len().min(MAX_LOGGED_START)].into()),
                status,
                served: Served::Own,
                began: Instant::now(),
                head_took: Duration::ZERO,
            };
            log.add(&record, 0, false, clock::wall())
        });
    }

    fn complain(&self, head: &Parts, status: StatusCode, served: Served, took: Duration) {
        let slow_ms = self.server.config.slow_request_ms;
        if slow_ms > 0 && took >= Duration::from_millis(slow_ms) {
            let (method, uri, took_ms) = (&head.method, head.uri.to_string(), took.as_millis() as u64);
            tracing::warn!(%method, uri = %redacted(&uri), %status, cache = served.as_str(), took_ms, "a slow request");
        }
    }

    /// Index of the route of a request.
    fn route(&self, head: &Parts) -> usize {
        let names = self.server.route_names();
        let other = names.len() - 1;
        let fits = |name: &&str| target::below(head.uri.path(), name).is_some();
        let longest = names[..other].iter().map(String::as_str).filter(fits).max_by_key(|name| name.len());
        longest.and_then(|longest| names.iter().position(|name| name == longest)).unwrap_or(other)
    }

    /// Full lookup, for requests that no fast path has answered.
    async fn look_up(
        self: &Rc<Self>,
        head: &Parts,
        body: RequestBody,
        link: &Rc<Link>,
        route: usize,
        trace: &Trace,
    ) -> Response<PlayerBody> {
        if let Some((why, response)) = refusal(head, body.is_end_stream()) {
            self.stats.refuse(why);
            return response;
        }
        let at_gateway = match self.destination(head, link) {
            Destination::Own(host) => return self.server.own(head, host, link.peer, link.is_tls).await,
            Destination::Events => return self.server.events(head, body).await,
            Destination::Answered(response) => return response,
            Destination::Object(at_gateway) => at_gateway,
        };
        let named = match self.named(head, link, at_gateway) {
            Ok(named) => named,
            Err(response) => return *response,
        };
        let (on_interim, mut interims) = interims(head.version, link);
        let asked = self.object_request(&named, head, link, on_interim, trace);
        let mut answer = std::pin::pin!(self.respond(&asked, body, route));
        let mut response = sending_interims(&mut interims, link, answer.as_mut()).await;
        asked.own_fields.append_to(response.headers_mut());
        allow_everyone(response.headers_mut());
        response
    }

    /// Source of the answer to a request.
    fn destination<'a>(&self, head: &'a Parts, link: &Link) -> Destination<'a> {
        let server = &self.server;
        // An HTTP/2 request has its host in the URI; over TLS that does not make it a proxy request.
        let is_origin_form = link.is_tls || head.uri.authority().is_none();
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        match server.at_gateway(&head.uri).filter(|_| is_origin_form && is_read) {
            Some(Ok(at_gateway)) => return Destination::Object(Some(at_gateway)),
            Some(Err(refused)) => return Destination::Answered(refused),
            None => {}
        }
        let host = target::authority(&head.uri, &head.headers);
        let is_to_box = is_origin_form && !host.is_some_and(target::is_nip_host);
        let path = head.uri.path();
        if is_to_box && is_read && own::is_own(path, server.config.page) {
            if !link.is_tls && own::is_private(path) && !server.names.hold(host) {
                self.stats.refuse(Refusal::Host);
                let line = "that Host is not a name of this box: [http] names can add it";
                return Destination::Answered(plain(StatusCode::MISDIRECTED_REQUEST, line));
            }
            return Destination::Own(host);
        }
        if is_to_box && server.is_of_events(head) {
            return Destination::Events;
        }
        if head.method == Method::OPTIONS && !cors::is_preflight_for_origin(&head.headers) {
            return Destination::Answered(cors::options(&head.headers, &self.passed_methods(head, link)));
        }
        match target::folder_of(&head.uri, &server.origins.routes()).filter(|_| is_to_box && is_read) {
            Some(folder) => Destination::Answered(moved(&folder)),
            None => Destination::Object(None),
        }
    }

    /// Methods other than GET and HEAD that are passed on for the target of a request.
    fn passed_methods(&self, head: &Parts, link: &Link) -> Vec<String> {
        let origins = &self.server.origins;
        let host = head.headers.get(header::HOST).and_then(|it| it.to_str().ok());
        let uri = &head.uri;
        let is_origin_form = link.is_tls
            || uri.authority().is_none_or(|it| self.server.names.are_of_this_machine(it.as_str()));
        let targets = target::targets(uri, host, &origins.routes(), is_origin_form).unwrap_or_default();
        let passed = |target: &Target| origins.passed_methods(&target.full, target.route());
        targets.iter().find_map(passed).unwrap_or_default()
    }

    /// The object that a request names, if its client has access.
    ///
    /// # Errors
    /// The response without an object.
    fn named(
        &self,
        head: &Parts,
        link: &Link,
        at_gateway: Option<GatewayRequest>,
    ) -> Result<Named, Box<Response<PlayerBody>>> {
        let server = &self.server;
        let generation = server.origins.generation();
        let routes = server.origins.routes();
        let (uri, token) = server.token_of(&head.uri);
        let (targets, elsewhere) = match at_gateway {
            Some(GatewayRequest { target, url }) => (vec![target], Some(url)),
            None => {
                let host = head.headers.get(header::HOST).and_then(|it| it.to_str().ok());
                let names_us =
                    || uri.authority().is_none_or(|it| server.names.are_of_this_machine(it.as_str()));
                let targets = target::targets(&uri, host, &routes, link.is_tls || names_us());
                (targets.map_err(|err| Box::new(self.refuse_name(err)))?, None)
            }
        };
        let target = server.likeliest(targets, head);
        let rules = target::access_rules(&target, &routes, || server.origins.url_for(&target.full));
        for rule in &rules {
            // Without a date tokens count as expired, so that taking the box offline does not extend them.
            let now = clock::date().map_or(u64::MAX, WallTime::unix_seconds);
            if let Err(why) = server.shared.access.check(rule, link.peer, uri.path(), token.as_deref(), now) {
                tracing::debug!(peer = %link.peer, %why, key = %target.key, "a player may not have this");
                let mut response = plain(StatusCode::FORBIDDEN, why.help());
                allow_everyone(response.headers_mut());
                return Err(Box::new(response));
            }
        }
        let is_guarded = !rules.is_empty();
        Ok(Named { target, generation, routes, is_guarded, elsewhere })
    }

    /// Refuses a request whose URI names no object.
    fn refuse_name(&self, err: NameError) -> Response<PlayerBody> {
        let (refusal, status) = match err {
            NameError::TooLong => (Refusal::UriTooLong, StatusCode::URI_TOO_LONG),
            _ => (Refusal::BadName, StatusCode::BAD_REQUEST),
        };
        self.stats.refuse(refusal);
        plain(status, &format!("that is not an object's name: {}", err.as_str()))
    }

    /// A request for an object.
    fn object_request<'a>(
        &'a self,
        named: &'a Named,
        head: &'a Parts,
        link: &Link,
        on_interim: Option<OnInterim>,
        trace: &'a Trace,
    ) -> ObjectRequest<'a> {
        let tracer = self.server.shared.tracer.as_ref();
        ObjectRequest {
            key: &named.target.key,
            target: &named.target,
            generation: named.generation,
            routes: &named.routes,
            head,
            on_interim,
            peer: link.peer,
            is_guarded: named.is_guarded,
            is_tls: link.is_tls,
            elsewhere: named.elsewhere.as_deref(),
            own_fields: Arc::default(),
            unpassed_fields: &self.server.unpassed_fields,
            trace,
            hides_trace: tracer.is_some_and(|it| trace.is_some() || !it.is_trusted(link.peer)),
            sent_fields: OnceLock::new(),
        }
    }

    /// Answers a request for an object: reads from the cache or an origin, other methods from the origin.
    async fn respond(
        &self,
        asked: &ObjectRequest<'_>,
        body: RequestBody,
        route: usize,
    ) -> Response<PlayerBody> {
        if matches!(asked.head.method, Method::GET | Method::HEAD) {
            let outcome = self.server.object(asked).await;
            return self.as_response(outcome, asked, route);
        }
        if let Some(refused) = self.refused_method(asked) {
            return refused;
        }
        match self.server.forward(asked, body).await {
            Some(mut response) => {
                self.server.map_fields(response.headers_mut(), asked);
                response
            }
            None => without_origin(asked.head),
        }
    }

    /// Converts an outcome to a response, with URLs of origins mapped to paths of the box.
    fn as_response(&self, outcome: Outcome, asked: &ObjectRequest<'_>, route: usize) -> Response<PlayerBody> {
        let mut response = match outcome {
            Outcome::Elsewhere(response) => return response,
            Outcome::Stored(object, how) => return self.show(&object, None, how, asked, route),
            Outcome::Shaped(object, text, how) => return self.show(&object, Some(text), how, asked, route),
            Outcome::Response(response) => response,
            Outcome::Passed(response, rewriting) => {
                self.stats.manifest(rewriting);
                response
            }
        };
        self.server.map_fields(response.headers_mut(), asked);
        response
    }

    /// Refusal of a method that the route of an object does not pass on.
    fn refused_method(&self, asked: &ObjectRequest<'_>) -> Option<Response<PlayerBody>> {
        let (method, target) = (&asked.head.method, asked.target);
        let methods = self.server.origins.refused_method(method, &target.full, target.route())?;
        self.stats.refuse(Refusal::Method);
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "the route does not pass this method on");
        if let Ok(methods) = HeaderValue::from_str(&methods) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        Some(response)
    }

    /// Serves an object of the cache, and remembers the response. `text`: its current content, if that differs from the
    /// stored one.
    fn show(
        &self,
        object: &Arc<StoredObject>,
        text: Option<Bytes>,
        how: &str,
        asked: &ObjectRequest<'_>,
        route: usize,
    ) -> Response<PlayerBody> {
        let head = asked.head;
        let takes_gzip = takes_gzip(&head.headers);
        // Responses that depend on the current state are not remembered.
        let meta = object.meta();
        let may_be_manifest =
            text.is_some() || manifest::may_be(meta.key.as_str(), meta.content_type.as_deref());
        let map = if may_be_manifest { self.server.manifest_map(asked) } else { UrlMap::default() };
        let is_steered = map.steering().is_some();
        let is_of_moment = text.is_some();
        let shown = Shown::of(object, text, map, takes_gzip);
        let Shown { head: mut known, body, rewriter, rewriting } = shown;
        // The URL of the steering manifest has the name by which this player knows the box.
        let is_momentary = is_of_moment || (is_steered && rewriting.is_some());
        self.stats.manifest(rewriting);
        if known.is_manifest() && object.begin_reading() {
            // A manifest of an earlier run: read it once, so that its segments can be prefetched.
            let (server, object) = (Arc::clone(&self.server), Arc::clone(object));
            self.server.runtime.spawn_blocking(move || server.shared.manifests.learn(&object));
        }
        self.server.map_fields(&mut known.fields, asked);
        let detail = rewriting.map_or("", Rewriting::detail);
        let how = if how.contains("detail") { how.to_owned() } else { format!("{how}{detail}") };
        let known = known.stamped(&how);
        let (status, fields, send) = known.respond(&head.method, &head.headers);
        if let (Some(rewriter), Send::Everything) = (rewriter, &send) {
            return head::response(status, fields, PlayerBody::rewritten(object, rewriter));
        }
        let response = send.of_object(Arc::clone(object), body.as_ref());
        // A byte range that is an object of its own is not the answer to every request for the target.
        let is_for_all = object.meta().selecting().is_empty()
            && carousel::query::range_of_name(object.meta().key.as_str()).is_none();
        if head.method == Method::GET
            && is_for_all
            && !is_momentary
            // The next such request may come from a client without access.
            && !asked.is_guarded
            // New routes may restrict access.
            && asked.generation == self.server.origins.generation()
            && is_fresh(object)
            && !how.contains("detail")
        {
            let remembered = Remembered { object, head: known, body, route };
            self.hot.borrow_mut().under(asked.generation).put(&head.uri, &head.headers, remembered);
        }
        head::response(status, fields, response)
    }
}

/// Bounded queue of an origin's interim responses, from which the connection sends. HTTP/1.0 has none.
fn interims(version: Version, link: &Link) -> (Option<OnInterim>, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel(INTERIMS);
    if version != Version::HTTP_11 || link.outbox.is_none() {
        return (None, receiver);
    }
    let on_interim: OnInterim = Arc::new(move |status, fields| {
        let reason =
            StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason()).unwrap_or("Interim");
        let mut text = String::new();
        let _ = write!(text, "HTTP/1.1 {status} {reason}\r\n");
        let mut bytes = text.into_bytes();
        head::write_lines(&mut bytes, &crate::caching::end_to_end(fields));
        bytes.extend_from_slice(b"\r\n");
        // Excess interim responses are dropped, which is permitted.
        let _ = sender.try_send(bytes);
    });
    (Some(on_interim), receiver)
}

/// Sends an origin's interim responses while `answer` is pending, and those that have arrived with it.
async fn sending_interims<T>(
    interims: &mut mpsc::Receiver<Vec<u8>>,
    link: &Link,
    // Pinned by the caller: a future that is moved into another one takes its memory twice.
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> T {
    let send = |bytes: Vec<u8>| {
        if let Some(outbox) = &link.outbox {
            outbox.send_interim(&bytes);
        }
    };
    let answered = loop {
        tokio::select! {
            biased;
            Some(bytes) = interims.recv() => send(bytes),
            answered = answer.as_mut() => break answered,
        }
    };
    while let Ok(bytes) = interims.try_recv() {
        send(bytes);
    }
    answered
}

/// The redirect to the folder of a route, as web servers have it for their own.
fn moved(folder: &str) -> Response<PlayerBody> {
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, "that is a folder: see Location");
    head::put(response.headers_mut(), header::LOCATION, folder);
    response
}

/// Response to a request that only an origin could answer, where none is configured.
fn without_origin(head: &Parts) -> Response<PlayerBody> {
    if head.method == Method::OPTIONS {
        return cors::options(&head.headers, &[]);
    }
    let line = "no origin is configured for this: GET, HEAD and OPTIONS";
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, line);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// Why the end of a request is in doubt (RFC 9112 sections 6.1 and 6.3): another program on the way may see it elsewhere.
fn bad_framing(link: &Link, fields: &http::HeaderMap) -> Option<&'static str> {
    if link.has_two_lengths(fields) {
        return Some("Transfer-Encoding and Content-Length in one request");
    }
    let codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let codings = codings.flat_map(|it| it.as_bytes().split(|byte| *byte == b','));
    (codings.count() > 1).then_some("Transfer-Encoding is more than one chunked")
}

/// Refusal of a request regardless of its target: invalid framing (RFC 9112 sections 3.2 and 6.3), methods that a cache does
/// not support, and loops (RFC 8586).
fn refusal(head: &Parts, is_whole: bool) -> Option<(Refusal, Response<PlayerBody>)> {
    let wrong = |line| Some((Refusal::BadRequest, plain(StatusCode::BAD_REQUEST, line)));
    let hosts = head.headers.get_all(header::HOST).iter().count();
    if head.version == Version::HTTP_11 && hosts != 1 {
        return wrong("a request has one Host");
    }
    if !head.headers.get(header::HOST).is_none_or(target::is_host) {
        return wrong("Host is not a name or an address");
    }
    if head.version == Version::HTTP_10 && head.headers.contains_key(header::TRANSFER_ENCODING) {
        return wrong("HTTP/1.0 has no Transfer-Encoding");
    }
    // It may be a replay.
    let is_safe = matches!(head.method, Method::GET | Method::HEAD) && is_whole;
    if !is_safe && head.extensions.get::<EarlyData>().is_some() {
        let line = "early data has GET and HEAD only: ask again after the handshake";
        return Some((Refusal::EarlyData, plain(StatusCode::TOO_EARLY, line)));
    }
    // A tunnel would reach any host; an echo of the request would show what scripts must not read.
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this method is not supported");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
        return Some((Refusal::Method, response));
    }
    if upstream::is_loop(&head.headers) {
        let line = "this request has come through this cache before: a route or origin leads back to it";
        return Some((Refusal::Loop, plain(StatusCode::LOOP_DETECTED, line)));
    }
    None
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
