//! Export of spans to the collector: in batches, by one task. A batch that cannot be sent is retried a few times, then dropped
//! and counted.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::live::Tracer;
use super::{Fault, SpanDrop, TraceStats, Traces};
use crate::{certificates, sys, vitals};

carousel::limits! {
    /// Spans that wait for the collector.
    pub(super) const MAX_QUEUE: usize = 4096, "spans" {
        why: "Each takes about a kilobyte; a second of a busy edge at the default share has fewer.",
        full: "The span is dropped, and counted as queue_full; its request is served.",
        free: "When the collector has taken a batch, or it was given up.",
        test: "spans_that_nobody_takes_are_dropped_and_counted",
    }
}

/// Spans of one request.
const BATCH: usize = 512;
/// Time for which spans are collected.
const GATHER_FOR: Duration = Duration::from_secs(1);
/// Time that one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Attempts to send a batch.
const ATTEMPTS: u32 = 4;
/// Pause after the first of them; it doubles from time to time.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, even if the collector asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time that the last batch has when the daemon ends.
const LAST: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 << 10;
/// Name of the box.
const AGENT: &str = concat!("skycached/", env!("CARGO_PKG_VERSION"));

/// The task that sends spans.
#[derive(Debug)]
pub struct ExportTask {
    task: JoinHandle<()>,
    ends: oneshot::Sender<()>,
    /// Dropped when no time is left.
    gives_up: oneshot::Sender<()>,
}

impl ExportTask {
    /// Sends the queued spans, within a short time, and ends.
    pub async fn end(mut self) {
        let _ = self.ends.send(());
        if timeout(LAST, &mut self.task).await.is_err() {
            drop(self.gives_up);
            let _ = self.task.await;
        }
    }
}

/// Starts sending. Call inside a tokio runtime.
///
/// # Errors
/// None here; a program without the feature refuses.
pub fn start(options: &Traces, stats: &Arc<TraceStats>) -> Result<(Arc<Tracer>, ExportTask), String> {
    let (sender, queue) = mpsc::channel(MAX_QUEUE);
    let tracer = Tracer::new(options, sender, stats);
    let (ends, ended) = oneshot::channel();
    let (gives_up, given_up) = oneshot::channel();
    let exporter = Exporter {
        resource: resource(options),
        options: options.clone(),
        stats: Arc::clone(stats),
        client: None,
        said: None,
        queue,
        batch: Vec::with_capacity(BATCH),
        in_request: 0,
    };
    let task = vitals::essential_task("traces", exporter.run(ended, given_up));
    Ok((tracer, ExportTask { task, ends, gives_up }))
}

/// Checks the collector with one empty request.
///
/// # Errors
/// A faulty value, with its fix.
pub fn check(options: &Traces) -> Result<(), Fault> {
    let asking = options.clone();
    let ask = move || {
        let options = asking;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|err| Failure::new(SpanDrop::Unreachable, err.to_string()))?;
        runtime.block_on(async {
            let client = client(&options)?;
            post(&client, &options, Bytes::new()).await.map(|_| ())
        })
    };
    let asked = std::thread::spawn(ask).join();
    let failure = match asked {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(SpanDrop::Unreachable, "the check has failed".to_owned()),
    };
    let fix = match (failure.why, failure.status) {
        (_, Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => {
            "[traces] endpoint: give the URL of the collector's receiver for OTLP over HTTP; its path is mostly /v1/traces"
        }
        (_, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
            "put the field that the collector wants into a file, and name it in [traces] headers_file"
        }
        (_, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)) => "the collector must take protobuf over HTTP",
        (SpanDrop::Credentials, _) => "name files that skycached may read in [traces]",
        _ => "start the collector, or correct [traces] endpoint",
    };
    // The message about a file ends with its own fix.
    let (what, fix) = match failure.line.rsplit_once("; ") {
        Some((what, fix)) if failure.why == SpanDrop::Credentials => (what.to_owned(), fix.to_owned()),
        _ => (failure.line, fix.to_owned()),
    };
    let about = failure.file.unwrap_or_else(|| format!("[traces] endpoint {}", options.url()));
    Err(Fault { about, what, fix })
}

/// Reason why a request failed.
#[derive(Debug)]
struct Failure {
    why: SpanDrop,
    /// The faulty key and its file, if it is not the endpoint.
    file: Option<String>,
    line: String,
    status: Option<StatusCode>,
    /// Pause that the collector asks for.
    pause: Option<Duration>,
}

impl Failure {
    const fn new(why: SpanDrop, line: String) -> Self {
        Self { why, file: None, line, status: None, pause: None }
    }

    fn of_file(key: &str, file: &Path, line: String) -> Self {
        let file = Some(format!("[traces] {key} {}", file.display()));
        Self { file, ..Self::new(SpanDrop::Credentials, line) }
    }

    /// Whether a retry may succeed (OTLP 1.7, "Failures").
    fn may_pass(&self) -> bool {
        match self.status {
            Some(status) => matches!(status.as_u16(), 429 | 502..=504),
            None => self.why == SpanDrop::Unreachable,
        }
    }
}

type Client = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

struct Exporter {
    options: Traces,
    resource: ResourceAttributesWithSchema,
    stats: Arc<TraceStats>,
    client: Option<Client>,
    /// The failure that was last logged.
    said: Option<SpanDrop>,
    queue: mpsc::Receiver<SpanData>,
    batch: Vec<SpanData>,
    /// Spans of the batch that is being sent.
    in_request: u64,
}

impl Exporter {
    /// Sends until the daemon ends, and counts the spans that are left then.
    async fn run(mut self, mut ended: oneshot::Receiver<()>, given_up: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.send_all(&mut ended) => {}
            _ = given_up => {}
        }
        self.queue.close();
        let mut left = self.in_request + self.batch.len() as u64;
        while self.queue.try_recv().is_ok() {
            left += 1;
        }
        self.stats.dropped.add_many(SpanDrop::Ended, left);
    }

    async fn send_all(&mut self, ended: &mut oneshot::Receiver<()>) {
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                _ = self.queue.recv_many(&mut self.batch, BATCH) => {}
                _ = &mut *ended => is_last = true,
            }
            if !is_last && self.batch.len() < BATCH {
                tokio::select! {
                    () = sleep(GATHER_FOR) => {}
                    _ = &mut *ended => is_last = true,
                }
            }
            loop {
                while self.batch.len() < BATCH
                    && let Ok(span) = self.queue.try_recv()
                {
                    self.batch.push(span);
                }
                if self.batch.is_empty() {
                    break;
                }
                let batch = std::mem::take(&mut self.batch);
                self.in_request = batch.len() as u64;
                self.send(batch, ended, &mut is_last).await;
                self.in_request = 0;
                if !is_last {
                    break;
                }
            }
        }
    }

    /// Sends a batch, or drops it. `is_last`: the daemon ends, and there are no retries.
    async fn send(&mut self, batch: Vec<SpanData>, ended: &mut oneshot::Receiver<()>, is_last: &mut bool) {
        let count = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut pause = PAUSE;
        for attempt in 1.. {
            let failure = match self.attempt(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.stats.sent.fetch_add(count - rejected, Relaxed);
                    if rejected > 0 {
                        self.stats.dropped.add_many(SpanDrop::Rejected, rejected);
                    }
                    return;
                }
                Err(failure) => failure,
            };
            if *is_last || attempt == ATTEMPTS || !failure.may_pass() {
                self.stats.dropped.add_many(failure.why, count);
                return;
            }
            tokio::select! {
                () = sleep(failure.pause.unwrap_or(pause).min(LONGEST_PAUSE)) => {}
                _ = &mut *ended => *is_last = true,
            }
            pause *= 2;
        }
    }

    /// Sends one request; returns the number of spans that the collector rejected, and logs changes of it.
    async fn attempt(&mut self, body: Bytes) -> Result<u64, Failure> {
        let result = self.try_once(body).await;
        match &result {
            Ok(answer) => {
                if self.said.take().is_some() {
                    tracing::info!("traces: the collector takes them again");
                }
                if answer.1 > 0 {
                    tracing::debug!(spans = answer.1, why = answer.0, "traces: the collector rejects some");
                }
            }
            Err(failure) if self.said != Some(failure.why) => {
                let (endpoint, reason) = (self.options.url(), failure.why.as_str());
                let file = failure.file.as_ref().map_or_else(String::new, |it| format!("{it}: "));
                tracing::warn!(endpoint, reason, "traces are not sent: {file}{}", failure.line);
                self.said = Some(failure.why);
            }
            Err(_) => {}
        }
        result.map(|it| it.1)
    }

    async fn try_once(&mut self, body: Bytes) -> Result<(String, u64), Failure> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(client(&self.options)?).clone(),
        };
        let answer = post(&client, &self.options, body).await?;
        // Other answers do not report rejected spans.
        let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|it| it.partial_success);
        let rejected = partial.map(|it| (it.error_message, u64::try_from(it.rejected_spans).unwrap_or(0)));
        Ok(rejected.unwrap_or_default())
    }
}

/// Resource of the traces.
fn resource(options: &Traces) -> ResourceAttributesWithSchema {
    let resource = Resource::builder_empty()
        .with_service_name(options.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", sys::hostname()))
        .with_attribute(KeyValue::new("host.name", sys::hostname()));
    ResourceAttributesWithSchema::from(&resource.build())
}

fn client(options: &Traces) -> Result<Client, Failure> {
    let tls = match &options.ca {
        Some(file) => certificates::client_trusting(file).map_err(|why| {
            // It begins with the file.
            let why =
                why.strip_prefix(&format!("{}: ", file.display())).map_or_else(|| why.clone(), str::to_owned);
            Failure::of_file("ca", file, why)
        })?,
        None => {
            let is_tls = options.url().starts_with("https");
            let failed = |line| Failure::new(SpanDrop::Credentials, line);
            certificates::client_trusting_system(is_tls, "give [traces] ca").map_err(failed)?
        }
    };
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(HyperClient::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector))
}

/// The fields of `headers_file`.
fn fields(options: &Traces) -> Result<HeaderMap, Failure> {
    let mut fields = HeaderMap::new();
    let Some(file) = &options.headers_file else { return Ok(fields) };
    let failed = |what: String| Failure::of_file("headers_file", file, what);
    let text = fs::read_to_string(file).map_err(|err| failed(carousel::config::plain(&err).to_string()))?;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // The line itself may be a secret.
        let wrong = || failed(format!("line {} is not a field; write `name: value`", at + 1));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        fields.append(name, value);
    }
    Ok(fields)
}

/// Posts a message; returns the answer's.
async fn post(client: &Client, options: &Traces, body: Bytes) -> Result<Bytes, Failure> {
    let unreachable = |line: String| Failure::new(SpanDrop::Unreachable, line);
    let length = HeaderValue::from(body.len());
    let mut request =
        Request::post(options.url()).body(Full::new(body)).map_err(|err| unreachable(err.to_string()))?;
    *request.headers_mut() = fields(options)?;
    let own = [(CONTENT_TYPE, "application/x-protobuf"), (USER_AGENT, AGENT)];
    // hyper omits it if there is no body.
    request.headers_mut().insert(CONTENT_LENGTH, length);
    request.headers_mut().extend(own.map(|(name, value)| (name, HeaderValue::from_static(value))));
    let answer = async {
        let response =
            client.request(request).await.map_err(|err| unreachable(certificates::innermost_cause(&err)))?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let seconds = head.headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
            return Err(Failure {
                status: Some(head.status),
                pause: seconds.map(Duration::from_secs),
                ..Failure::new(SpanDrop::Refused, format!("the collector answers {}", head.status))
            });
        }
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        Ok(body.map(http_body_util::Collected::to_bytes).unwrap_or_default())
    };
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable("the collector does not answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Instant;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    /// A collector that gives these answers in turn, the last one again and again, and the requests that it gets.
    fn collector(answers: Vec<Vec<u8>>) -> (String, std::sync::mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for at in 0.. {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let (mut all, mut piece) = (Vec::new(), [0; 4096]);
                loop {
                    let head = all.windows(4).position(|it| it == b"\r\n\r\n");
                    let length = head.and_then(|head| {
                        let text = String::from_utf8_lossy(&all[..head]).to_ascii_lowercase();
                        let line = text.lines().find_map(|it| it.strip_prefix("content-length: "))?;
                        Some(head + 4 + line.parse::<usize>().ok()?)
                    });
                    if length.is_some_and(|length| all.len() >= length) {
                        break;
                    }
                    let count = stream.read(&mut piece).unwrap();
                    assert!(count > 0);
                    all.extend(&piece[..count]);
                }
                let answer = answers.get(at).or_else(|| answers.last()).unwrap();
                let _ = stream.write_all(answer);
                if sender.send(all).is_err() {
                    return;
                }
            }
        });
        (url, requests)
    }

    fn answer(status: &str, body: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    async fn sent(options: &Traces, spans: usize) -> Arc<TraceStats> {
        let stats = Arc::<TraceStats>::default();
        let (tracer, exporting) = start(options, &stats).unwrap();
        let peer = "127.0.0.1".parse().unwrap();
        for _ in 0..spans {
            drop(tracer.begin(&HeaderMap::new(), peer, Instant::now()));
        }
        sleep(GATHER_FOR * 2).await;
        drop(tracer);
        exporting.end().await;
        stats
    }

    #[tokio::test]
    async fn spans_are_sent_with_fields_of_the_file_and_again_where_that_may_help() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fields");
        fs::write(&file, "authorization: Bearer word\n\nx-scope: a:b\n").unwrap();
        let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "full".to_owned() };
        let said = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let busy =
            b"HTTP/1.1 503 x\r\nretry-after: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
        let (endpoint, requests) = collector(vec![busy, answer("200 OK", &said)]);
        let headers_file = Some(file);
        let options = Traces { endpoint, headers_file, sample: 1.0, ..Traces::default() };
        let stats = sent(&options, 3).await;
        assert_eq!((stats.sent.load(Relaxed), stats.dropped.get(SpanDrop::Rejected)), (2, 1));
        let [first, second] = [(); 2].map(|()| requests.recv().unwrap());
        assert_eq!(first, second);
        let end = first.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&first[..end]);
        for line in [
            "POST /v1/traces HTTP/1.1",
            "authorization: Bearer word",
            "x-scope: a:b",
            "content-type: application/x-protobuf",
        ] {
            assert!(head.lines().any(|it| it == line), "{line}: {head}");
        }
        let message = ExportTraceServiceRequest::decode(&first[end + 4..]).unwrap();
        assert_eq!(message.resource_spans[0].scope_spans[0].spans.len(), 3);
    }

    #[tokio::test]
    async fn what_a_collector_refuses_is_dropped_and_counted() {
        let (endpoint, requests) = collector(vec![answer("400 Bad Request", b"")]);
        let options = Traces { endpoint, sample: 1.0, ..Traces::default() };
        let stats = sent(&options, 3).await;
        assert_eq!((stats.sent.load(Relaxed), stats.dropped.get(SpanDrop::Refused)), (0, 3));
        assert_eq!(requests.try_iter().count(), 1, "it is not asked again");
        let headers_file = Some("/nonexistent/fields".into());
        let stats = sent(&Traces { headers_file, ..options }, 2).await;
        assert_eq!(stats.dropped.get(SpanDrop::Credentials), 2);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = Traces { endpoint: format!("http://{free}"), sample: 1.0, ..Traces::default() };
        assert_eq!(sent(&options, 2).await.dropped.get(SpanDrop::Unreachable), 2, "at the end at the latest");
    }

    #[tokio::test]
    async fn what_waits_when_the_daemon_ends_is_counted() {
        // There is no answer.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let stats = Arc::<TraceStats>::default();
        let (tracer, exporting) =
            start(&Traces { endpoint, sample: 1.0, ..Traces::default() }, &stats).unwrap();
        let span = || drop(tracer.begin(&HeaderMap::new(), "127.0.0.1".parse().unwrap(), Instant::now()));
        (0..BATCH + 3).for_each(|_| span());
        exporting.end().await;
        let counted = |why| stats.dropped.get(why);
        assert_eq!(counted(SpanDrop::Ended), BATCH as u64 + 3, "in the request, and behind it");
        span();
        assert_eq!((counted(SpanDrop::Ended), counted(SpanDrop::QueueFull)), (BATCH as u64 + 4, 0));
    }

    #[test]
    fn an_endpoint_that_takes_no_traces_is_found() {
        let of = |answers: Vec<u8>| {
            let (endpoint, _requests) = collector(vec![answers]);
            check(&Traces { endpoint, ..Traces::default() })
        };
        of(answer("200 OK", b"")).unwrap();
        assert!(of(answer("404 Not Found", b"")).unwrap_err().fix.contains("/v1/traces"));
        assert!(of(answer("401 Unauthorized", b"")).unwrap_err().fix.contains("headers_file"));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let nobody = Traces { endpoint: format!("http://{free}"), ..Traces::default() };
        assert!(check(&nobody).unwrap_err().fix.contains("start the collector"));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_the_fault_and_not_the_endpoint() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fields");
        fs::write(&file, "no field\n").unwrap();
        let with = |headers_file, ca| {
            let endpoint = "http://127.0.0.1:1".to_owned();
            check(&Traces { endpoint, headers_file, ca, ..Traces::default() }).unwrap_err()
        };
        let wrong = with(Some(file.clone()), None);
        assert_eq!(wrong.about, format!("[traces] headers_file {}", file.display()));
        assert_eq!(
            (wrong.what.as_str(), wrong.fix.as_str()),
            ("line 1 is not a field", "write `name: value`")
        );
        let away = with(Some("/nonexistent/fields".into()), None);
        assert_eq!(away.about, "[traces] headers_file /nonexistent/fields");
        assert!(
            !away.what.contains("headers_file") && away.fix.contains("files that skycached may read"),
            "{away:?}"
        );
        let no_ca = with(None, Some("/nonexistent/ca.pem".into()));
        assert!(no_ca.about.starts_with("[traces] ca /nonexistent/ca.pem"), "{no_ca:?}");
    }
}
