//! Test fixtures: a worker with an empty cache and no listeners, and requests for it.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response, Version};

use super::connection::Link;
use super::options::Http;
use super::serve::ObjectRequest;
use super::target::{Form, Target};
use super::workers::Worker;
use super::{HttpContext, HttpServer};
use crate::origin::testing::{self, Tested};
use crate::origin::{Origin, Origins, Route};
use crate::store::{Partial, Placement};

/// State of all workers, and its parts.
pub(super) struct TestedServer {
    pub(super) server: Arc<HttpServer>,
    pub(super) tested: Tested,
}

/// A server with these options, routes, and an origin for the host `h`. Call inside a runtime.
pub(super) fn server(config: Http, routes: &[Route], origin: Option<String>) -> TestedServer {
    server_of(testing::filler(), config, routes, origin)
}

/// As [`server`], with the cache of this filler.
pub(super) fn server_of(
    tested: Tested,
    config: Http,
    routes: &[Route],
    origin: Option<String>,
) -> TestedServer {
    let rules = origin.map(|url| Origin { host: "h".into(), url });
    let shared = HttpContext {
        store: tested.context.store.clone(),
        flights: Arc::clone(&tested.context.flights),
        documents: Arc::default(),
        manifests: Arc::clone(&tested.context.manifests),
        vitals: Arc::default(),
        qoe: None,
        access: Arc::default(),
        tracer: None,
    };
    let origins = Arc::new(Origins::new(rules.into_iter().collect(), routes.to_vec()));
    let runtime = tokio::runtime::Handle::current();
    let server = HttpServer::new(config, routes, shared, origins, Arc::clone(&tested.filler), runtime);
    TestedServer { server, tested }
}

/// A worker of this server.
pub(super) fn worker(server: &Arc<HttpServer>) -> Rc<Worker> {
    let stats = Arc::clone(&server.stats[0]);
    Rc::new(Worker { server: Arc::clone(server), stats, hot: Default::default(), log: None })
}

/// A connection without TLS and without a reader.
pub(super) fn link() -> Rc<Link> {
    Link::new("192.0.2.1".parse().unwrap(), &Rc::default(), false)
}

/// The head of a request of HTTP/1.1.
pub(super) fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(path).version(Version::HTTP_11);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// The target of a request by path.
pub(super) fn target(name: &str) -> Target {
    Target::new(testing::key(name), Form::Path)
}

/// A request for it.
pub(super) fn request<'a>(server: &'a HttpServer, target: &'a Target, head: &'a Parts) -> ObjectRequest<'a> {
    ObjectRequest {
        key: &target.key,
        target,
        head,
        on_interim: None,
        peer: "192.0.2.1".parse().unwrap(),
        is_guarded: false,
        is_tls: false,
        elsewhere: None,
        generation: server.origins.generation(),
        routes: Box::leak(Box::new(server.origins.routes())),
        own_fields: Arc::default(),
        unpassed_fields: &server.unpassed_fields,
        trace: Box::leak(Box::default()),
        hides_trace: false,
        sent_fields: std::sync::OnceLock::new(),
    }
}

/// A field of a response, or an empty text.
pub(super) fn field<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |it| it.to_str().unwrap())
}

/// The bytes of a body, and its end.
pub(super) async fn read(
    body: impl http_body::Body<Data = bytes::Bytes, Error = std::io::Error>,
) -> (Vec<u8>, std::io::Result<()>) {
    let (mut body, mut all) = (std::pin::pin!(body), Vec::new());
    loop {
        match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => return (all, Ok(())),
            Some(Ok(frame)) => all.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(err)) => return (all, Err(err)),
        }
    }
}

/// A GET with only the box as `Host`.
pub(super) fn get(path: &str) -> Parts {
    head(Method::GET.as_str(), path, &[("host", "box")])
}

/// An object in flight with these bytes.
pub(super) fn partial(tested: &Tested, bytes: &[u8]) -> Arc<Partial> {
    let partial = Arc::new(tested.context.store.create(5, Placement::default()).unwrap());
    partial.write_at(0, bytes).unwrap();
    partial
}
