//! Open spans. A span ends when it is dropped, and is queued then.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use ipnetwork::IpNetwork;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample as _, SpanData, SpanLinks,
};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{SpanDrop, TraceStats, Traces, known};
use crate::access::without_tokens;

/// The field that says which trace a request belongs to (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";
/// Additions of other tracing systems.
const TRACESTATE: &str = "tracestate";
/// Bytes of a text in a span: URLs are cut.
const TEXT_BYTES: usize = 1024;

/// Decides which requests are traced, and queues the spans.
#[derive(Debug)]
pub struct Tracer {
    sampler: Sampler,
    ids: RandomIdGenerator,
    trusted: Vec<IpNetwork>,
    queue: mpsc::Sender<SpanData>,
    stats: Arc<TraceStats>,
    scope: InstrumentationScope,
}

/// The parent of spans in a trace; none if nothing is traced.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    node: Option<Arc<Node>>,
    /// Why the next request to an origin is made.
    why: Option<&'static str>,
}

/// State shared by an open span and its contributors.
#[derive(Debug)]
struct Node {
    tracer: Arc<Tracer>,
    context: SpanContext,
    children: AtomicU32,
    /// Client spans among them.
    attempts: AtomicU32,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
}

/// An open span, or none.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    node: Arc<Node>,
    parent: SpanId,
    /// The parent is a client's.
    is_remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
    start: SystemTime,
    begun: Instant,
    attributes: Vec<KeyValue>,
    status: Status,
    is_forgotten: bool,
}

struct Fields<'a>(&'a HeaderMap);

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|it| it.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct FieldsMut<'a>(&'a mut HeaderMap);

impl Injector for FieldsMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

impl Tracer {
    /// A tracer by these options, whose spans go into `queue`.
    pub(super) fn new(options: &Traces, queue: mpsc::Sender<SpanData>, stats: &Arc<TraceStats>) -> Arc<Self> {
        Arc::new(Self {
            sampler: Sampler::TraceIdRatioBased(options.sample),
            ids: RandomIdGenerator::default(),
            trusted: options.networks(),
            queue,
            stats: Arc::clone(stats),
            scope: InstrumentationScope::builder("skycached").with_version(env!("CARGO_PKG_VERSION")).build(),
        })
    }

    /// Whether a client's `traceparent` counts.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|it| it.contains(peer))
    }

    /// The span of a request that began at `began`: part of a trusted client's trace, or by chance of a new one.
    pub fn begin(self: &Arc<Self>, fields: &HeaderMap, peer: IpAddr, began: Instant) -> Span {
        if let Some(remote) = self.remote(fields, peer) {
            return self.part_of(remote, began);
        }
        let id = self.ids.new_trace_id();
        let sampled = self.sampler.should_sample(None, id, "", &SpanKind::Server, &[], &[]);
        if sampled.decision != SamplingDecision::RecordAndSample {
            return Span(None);
        }
        self.open(SpanKind::Server, "request", began, id, TraceState::default(), SpanId::INVALID, false)
    }

    /// The same for a request that is answered from the cache, which is traced only as part of a trusted client's trace.
    pub fn continued(self: &Arc<Self>, fields: &HeaderMap, peer: IpAddr, began: Instant) -> Span {
        self.remote(fields, peer).map(|remote| self.part_of(remote, began)).unwrap_or_default()
    }

    /// The parent span that a trusted client sends.
    fn remote(&self, fields: &HeaderMap, peer: IpAddr) -> Option<SpanContext> {
        if !fields.contains_key(TRACEPARENT) || !self.is_trusted(peer) {
            return None;
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Fields(fields));
        Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
    }

    fn part_of(self: &Arc<Self>, remote: SpanContext, began: Instant) -> Span {
        if !remote.is_sampled() {
            return Span(None);
        }
        let (id, state) = (remote.trace_id(), remote.trace_state().clone());
        self.open(SpanKind::Server, "request", began, id, state, remote.span_id(), true)
    }

    #[allow(clippy::too_many_arguments)]
    fn open(
        self: &Arc<Self>,
        kind: SpanKind,
        name: &'static str,
        begun: Instant,
        id: TraceId,
        state: TraceState,
        parent: SpanId,
        is_remote: bool,
    ) -> Span {
        let context = SpanContext::new(id, self.ids.new_span_id(), TraceFlags::SAMPLED, false, state);
        let node = Node {
            tracer: Arc::clone(self),
            context,
            children: AtomicU32::new(0),
            attempts: AtomicU32::new(0),
            notes: Mutex::default(),
        };
        Span(Some(Box::new(Open {
            node: Arc::new(node),
            parent,
            is_remote,
            kind,
            name: Cow::Borrowed(name),
            start: SystemTime::now().checked_sub(begun.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
            begun,
            attributes: Vec::new(),
            status: Status::Unset,
            is_forgotten: false,
        })))
    }
}

impl Trace {
    /// Whether anything is traced.
    pub const fn is_some(&self) -> bool {
        self.node.is_some()
    }

    /// The same parent, for a request to an origin with this reason.
    #[must_use]
    pub fn because(&self, why: &'static str) -> Self {
        Self { node: self.node.clone(), why: Some(why) }
    }

    fn child(&self, kind: SpanKind, name: &'static str) -> Span {
        let Some(node) = &self.node else { return Span(None) };
        node.children.fetch_add(1, Relaxed);
        let (id, state) = (node.context.trace_id(), node.context.trace_state().clone());
        node.tracer.open(kind, name, Instant::now(), id, state, node.context.span_id(), false)
    }

    /// A span of work in the box.
    pub fn span(&self, name: &'static str) -> Span {
        self.child(SpanKind::Internal, name)
    }

    /// The span of a request to an origin or a parent. The query is left out, since it may contain secrets.
    pub fn client(&self, method: &Method, uri: &Uri) -> Span {
        let mut span = self.child(SpanKind::Client, "request");
        let Some(node) = &self.node else { return span };
        let attempt = node.attempts.fetch_add(1, Relaxed) + 1;
        span.rename(|| known(method).to_owned());
        span.text("http.request.method", || known(method).to_owned());
        let host = uri.host().unwrap_or_default();
        span.text("server.address", || host.to_owned());
        let scheme = uri.scheme_str().unwrap_or("http");
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        span.number("server.port", i64::from(port));
        span.text("url.full", || format!("{scheme}://{host}:{port}{}", without_tokens(uri.path())));
        span.number("skycache.attempt", i64::from(attempt));
        if let Some(why) = self.why {
            span.text("skycache.why", || why.to_owned());
        }
        span
    }

    /// Adds a word to the parent span.
    pub fn note(&self, key: &'static str, word: &'static str) {
        if let Some(node) = &self.node {
            node.notes().attributes.push(KeyValue::new(key, word));
        }
    }

    /// Links the parent span to that of `other`, which does the same work for both.
    pub fn joins(&self, other: &Self) {
        let Some(node) = &self.node else { return };
        let mut notes = node.notes();
        notes.attributes.push(KeyValue::new("skycache.joined", true));
        notes.links.extend(other.node.as_ref().map(|it| Link::with_context(it.context.clone())));
    }
}

impl Node {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

impl Span {
    /// Whether it is recorded.
    pub const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// It as the parent of further spans.
    pub fn trace(&self) -> Trace {
        Trace { node: self.0.as_ref().map(|it| Arc::clone(&it.node)), why: None }
    }

    /// Gives it a name.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(open) = &mut self.0 {
            open.name = Cow::Owned(cut(name()));
        }
    }

    /// Adds an attribute.
    pub fn text(&mut self, key: &'static str, text: impl FnOnce() -> String) {
        if let Some(open) = &mut self.0 {
            open.attributes.push(KeyValue::new(key, cut(text())));
        }
    }

    /// Adds an attribute.
    pub fn number(&mut self, key: &'static str, number: i64) {
        if let Some(open) = &mut self.0 {
            open.attributes.push(KeyValue::new(key, number));
        }
    }

    /// Records why it failed.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        if let Some(open) = &mut self.0 {
            let why = cut(why());
            open.attributes.push(KeyValue::new("error.type", why.clone()));
            open.status = Status::error(why);
        }
    }

    /// Adds this span to the fields of a request (`traceparent`).
    pub fn inject(&self, fields: &mut HeaderMap) {
        if let Some(open) = &self.0 {
            let context = Context::new().with_remote_span_context(open.node.context.clone());
            TraceContextPropagator::new().inject_context(&context, &mut FieldsMut(fields));
            if fields.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
                fields.remove(TRACESTATE);
            }
        }
    }

    /// Ends it before the end of its scope.
    pub fn end(self) {}

    /// Drops a span without children that was sampled here: a hit.
    pub fn forget_unless_used(&mut self) {
        if let Some(open) = &mut self.0 {
            open.is_forgotten = !open.is_remote && open.node.children.load(Relaxed) == 0;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.0.take().filter(|it| !it.is_forgotten) else { return };
        let Open { node, parent, is_remote, kind, name, start, begun, mut attributes, status, .. } = *open;
        let Notes { attributes: more, links: linked } = std::mem::take(&mut *node.notes());
        attributes.extend(more);
        let mut links = SpanLinks::default();
        links.links = linked;
        let span = SpanData {
            span_context: node.context.clone(),
            parent_span_id: parent,
            parent_span_is_remote: is_remote,
            span_kind: kind,
            name,
            start_time: start,
            end_time: start + begun.elapsed(),
            attributes,
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links,
            status,
            instrumentation_scope: node.tracer.scope.clone(),
        };
        let why = match node.tracer.queue.try_send(span) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => SpanDrop::QueueFull,
            Err(TrySendError::Closed(_)) => SpanDrop::Ended,
        };
        node.tracer.stats.dropped.add(why);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::export::MAX_QUEUE;
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// One that traces this share of requests, and the spans that it makes.
    pub(crate) fn tracer(sample: f64) -> (Arc<Tracer>, mpsc::Receiver<SpanData>, Arc<TraceStats>) {
        let options = Traces { sample, trusted: vec!["192.0.2.0/24".to_owned()], ..Traces::default() };
        let stats = Arc::<TraceStats>::default();
        let (sender, receiver) = mpsc::channel(MAX_QUEUE);
        (Tracer::new(&options, sender, &stats), receiver, stats)
    }

    fn fields(traceparent: &str) -> HeaderMap {
        [(HeaderName::from_static(TRACEPARENT), HeaderValue::try_from(traceparent).unwrap())]
            .into_iter()
            .collect()
    }

    fn peer(of: &str) -> IpAddr {
        of.parse().unwrap()
    }

    #[test]
    fn a_trusted_clients_word_counts_and_nobody_elses() {
        let (tracer, mut queue, _) = tracer(0.0);
        let (trusted, other) = (peer("192.0.2.7"), peer("203.0.113.1"));
        let begin = |fields: &HeaderMap, peer| tracer.begin(fields, peer, Instant::now());
        assert!(!begin(&fields(PARENT), other).is_some());
        assert!(!begin(&HeaderMap::new(), trusted).is_some());
        assert!(
            !begin(&fields("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), trusted).is_some()
        );
        assert!(!begin(&fields("00-nothing"), trusted).is_some());
        let mut span = tracer.continued(&fields(PARENT), trusted, Instant::now());
        span.forget_unless_used();
        drop(span);
        let span = queue.try_recv().unwrap();
        assert_eq!(span.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn an_address_is_trusted_in_either_form() {
        let (tracer, ..) = tracer(0.0);
        assert!(tracer.is_trusted(peer("192.0.2.7")) && tracer.is_trusted(peer("::ffff:192.0.2.7")));
        assert!(!tracer.is_trusted(peer("192.0.3.7")));
    }

    #[test]
    fn of_our_own_choice_only_what_asks_somebody_is_sent() {
        let (tracer, mut queue, _) = tracer(1.0);
        let anybody = peer("203.0.113.1");
        assert!(!tracer.continued(&HeaderMap::new(), anybody, Instant::now()).is_some());
        let mut hit = tracer.begin(&fields(PARENT), anybody, Instant::now());
        hit.forget_unless_used();
        drop(hit);
        assert!(queue.try_recv().is_err());
        let mut miss = tracer.begin(&HeaderMap::new(), anybody, Instant::now());
        let fetch = miss.trace().span("fetch");
        let uri = "https://origin.example/exp=17~hmac=secret/a/b.mp4?token=secret".parse().unwrap();
        let client = fetch.trace().client(&Method::GET, &uri);
        let mut sent = fields(PARENT);
        client.inject(&mut sent);
        let (client_id, miss_id) = (
            client.0.as_ref().unwrap().node.context.span_id(),
            miss.0.as_ref().unwrap().node.context.span_id(),
        );
        miss.forget_unless_used();
        drop(client);
        drop(fetch);
        drop(miss);
        let [client, fetch, miss] = [(); 3].map(|()| queue.try_recv().unwrap());
        assert_eq!(client.span_context.span_id(), client_id);
        assert_eq!(client.parent_span_id, fetch.span_context.span_id());
        assert_eq!((fetch.parent_span_id, miss.parent_span_id), (miss_id, SpanId::INVALID));
        let id = miss.span_context.trace_id();
        assert_eq!(sent[TRACEPARENT], format!("00-{id}-{client_id}-01"), "a new one");
        let said = format!("{client:?}");
        assert!(said.contains("https://origin.example:443/…/a/b.mp4") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn a_share_of_requests_is_traced() {
        let (tracer, _queue, _) = tracer(0.25);
        let anybody = peer("203.0.113.1");
        let mut traced = 0;
        for _ in 0..4000 {
            let mut span = tracer.begin(&HeaderMap::new(), anybody, Instant::now());
            traced += u32::from(span.is_some());
            span.forget_unless_used();
        }
        // Ten standard deviations.
        assert!((726..=1274).contains(&traced), "{traced}");
    }

    #[test]
    fn spans_that_nobody_takes_are_dropped_and_counted() {
        let (tracer, _queue, stats) = tracer(1.0);
        for _ in 0..MAX_QUEUE + 3 {
            drop(tracer.begin(&HeaderMap::new(), peer("203.0.113.1"), Instant::now()));
        }
        assert_eq!(stats.dropped.get(SpanDrop::QueueFull), 3);
    }

    #[test]
    fn spans_of_after_the_end_are_counted_as_such() {
        let (tracer, queue, stats) = tracer(1.0);
        drop(queue);
        drop(tracer.begin(&HeaderMap::new(), peer("203.0.113.1"), Instant::now()));
        assert_eq!((stats.dropped.get(SpanDrop::QueueFull), stats.dropped.get(SpanDrop::Ended)), (0, 1));
    }

    #[test]
    fn a_state_without_entries_is_not_sent() {
        let (tracer, ..) = tracer(0.0);
        let sent = |state: &str| {
            let mut fields = fields(PARENT);
            fields.insert(TRACESTATE, HeaderValue::try_from(state).unwrap());
            tracer.begin(&fields, peer("192.0.2.7"), Instant::now()).inject(&mut fields);
            fields.get(TRACESTATE).map(|it| it.to_str().unwrap().to_owned())
        };
        assert_eq!((sent(""), sent("x=y,z=1")), (None, Some("x=y,z=1".to_owned())));
    }

    #[test]
    fn a_span_is_linked_to_the_one_that_works_for_it() {
        let (tracer, mut queue, _) = tracer(1.0);
        let [first, second] =
            [(); 2].map(|()| tracer.begin(&HeaderMap::new(), peer("203.0.113.1"), Instant::now()));
        second.trace().joins(&first.trace());
        drop(first);
        drop(second);
        let [first, second] = [(); 2].map(|()| queue.try_recv().unwrap());
        assert_eq!(second.links.links[0].span_context.span_id(), first.span_context.span_id());
        assert_ne!(second.span_context.trace_id(), first.span_context.trace_id());
    }
}
