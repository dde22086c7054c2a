//! `/metrics` of a running `headend send` in OpenMetrics: the link, the objects on the air, the signing key, uploads, the
//! process.
//!
//! Values are those of `headend status`, at most a second old. One thread serves them: scrapers and the sending thread never
//! block each other.

mod process;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use skycache_kafka::KafkaError;
use tokio::net::TcpStream;

use crate::air::LiveDrop;
use crate::condition::Condition;
use crate::ingest::IngestStats;
use crate::lease::LeaseFailure;
use crate::listen;
use crate::pull::{EventOutcome, EventStats, PullStats};
use crate::status::State;

carousel::limits! {
    /// Connections at a time.
    const MAX_CONNECTIONS: usize = 16, "connections" {
        why: "A few servers scrape; each connection costs some 20 KB.",
        full: "The next one waits in the kernel's queue.",
        free: "When one is closed, or silent for ten seconds.",
        test: "a_scrape_tells_what_status_tells",
    }
}

/// Silence after which a connection is closed.
const SILENCE: Duration = Duration::from_secs(10);
/// Type of the exposition.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Starts the listener at `address`, for the lifetime of the process. Returns the actual address.
///
/// # Errors
/// One line: an address in use, or no thread.
pub fn listen(
    address: SocketAddr,
    state: State,
    ingest: Option<Arc<IngestStats>>,
    pulled: Option<Arc<PullStats>>,
) -> Result<SocketAddr, String> {
    let registry = registry(Scrape { state, ingest, pulled });
    listen::start("metrics", address, MAX_CONNECTIONS, registry, serve).map_err(|err| {
        let why = carousel::config::plain(&err);
        format!("metrics.listen {address}: {why}; give another port, or end the program that has it")
    })
}

fn registry(scrape: Scrape) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Process));
    registry.sub_registry_with_prefix("skycache_headend").register_collector(Box::new(scrape));
    registry
}

/// All metric families with initial values, for the reference.
///
/// # Errors
/// Never in practice: writing to a string.
pub fn families() -> Result<String, fmt::Error> {
    let mut text = String::new();
    let scrape =
        Scrape { state: State::signed_sample(), ingest: Some(Arc::default()), pulled: Some(Arc::default()) };
    prometheus_client::encoding::text::encode(&mut text, &registry(scrape))?;
    Ok(text)
}

async fn serve(registry: Rc<Registry>, stream: TcpStream) {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = answer(&registry, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    // A scraper that disconnects is not an error.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

fn answer(registry: &Registry, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let (status, kind) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => (StatusCode::OK, OPEN_METRICS),
                Err(err) => {
                    text = err.to_string();
                    (StatusCode::INTERNAL_SERVER_ERROR, "text/plain")
                }
            }
        }
        (&Method::GET | &Method::HEAD, "/healthz") => {
            text.push_str("ok\n");
            (StatusCode::OK, "text/plain")
        }
        (&Method::GET | &Method::HEAD, _) => {
            text.push_str("there is /metrics and /healthz\n");
            (StatusCode::NOT_FOUND, "text/plain")
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain"),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[derive(Debug)]
struct Scrape {
    state: State,
    ingest: Option<Arc<IngestStats>>,
    pulled: Option<Arc<PullStats>>,
}

/// Name, help, and member of the document of `headend status`.
type Row = (&'static str, &'static str, &'static str);

const COUNTERS: [Row; 7] = [
    ("sent_objects", "Objects or modules sent to their end, repeats included", "sent"),
    ("sent_packets", "Packets sent: of IP, of the transport stream, or frames", "packets"),
    ("sent_bytes", "Bytes by which the link's rate counts", "bytes"),
    ("stuffing_packets", "Packets of stuffing among those sent", "stuffing_packets"),
    ("broken_off_objects", "Objects that changed or vanished while they were sent", "broken_off"),
    ("forwarded_packets", "Packets of others carried along", "forwarded_packets"),
    ("forwarded_dropped_packets", "Packets of others for which there was no room", "forwarded_dropped"),
];
const GAUGES: [Row; 4] = [
    ("uptime_seconds", "Seconds since the carousel began", "uptime_s"),
    ("link_rate_bps", "Rate of the link, in bits per second", "rate_bps"),
    ("reserved_bps", "Part of the link that is reserved for live, in bits per second", "reserved_bps"),
    ("objects", "Objects on the air", "objects"),
];

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter(encoder);
        let status = self.state.document();
        let version = status["version"].as_str().unwrap_or_default();
        let help = "1, with the version of the program";
        let mut family = writer.0.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(family.encode_family(&[("version", version)])?)?;
        let number = |name: &str| status[name].as_u64().or_else(|| status[name].as_f64().map(|it| it as u64));
        for (name, help, member) in COUNTERS {
            writer.counter(name, help, number(member).unwrap_or(0))?;
        }
        for (name, help, member) in GAUGES {
            writer.gauge(name, help, number(member).unwrap_or(0) as f64)?;
        }
        let dropped = LiveDrop::ALL.iter().map(|it| {
            let name = it.as_str();
            (name, status["live_dropped"][name].as_u64().unwrap_or(0))
        });
        writer.by_reason("live_dropped_objects", "Live objects that were not sent", dropped)?;
        let help = "Part of the link that is reserved for a source, in bits per second";
        let mut family = writer.0.encode_descriptor("source_reserved_bps", help, None, MetricType::Gauge)?;
        for source in status["sources"].as_array().into_iter().flatten() {
            let text = |name: &str| source[name].as_str().unwrap_or_default();
            let labels = [("source", text("name")), ("class", text("class"))];
            let reserved = source["reserved_bps"].as_i64().unwrap_or(0);
            ConstGauge::new(reserved).encode(family.encode_family(&labels)?)?;
        }
        let help = "1 for the condition that a source is in: available, away (its folder is missing or has nothing to carry), stalled \
                    (live, without new segments), ended (it was live, and its packager has ended it)";
        let mut family = writer.0.encode_descriptor("source_condition", help, None, MetricType::Gauge)?;
        for source in status["sources"].as_array().into_iter().flatten() {
            let text = |name: &str| source[name].as_str().unwrap_or_default();
            for condition in Condition::NAMES {
                let labels = [("source", text("name")), ("condition", condition)];
                let is_so = i64::from(text("condition") == condition);
                ConstGauge::new(is_so).encode(family.encode_family(&labels)?)?;
            }
        }
        if let Some(until) = status["signing"]["until_s"].as_u64() {
            let help = "Seconds from 1970 to the end of the certificate of the signing key";
            writer.gauge("signing_expires_seconds", help, until as f64)?;
        }
        if let Some(lease) = status["lease"].as_object() {
            let number = |name: &str| lease.get(name).and_then(serde_json::Value::as_u64);
            let is_active = lease.get("role").is_some_and(|it| it == "active");
            let help = "1 while this headend is active, 0 while it is on standby";
            writer.gauge("lease_active", help, f64::from(u8::from(is_active)))?;
            let help = "Generation of the lease: it grows with every takeover";
            writer.gauge("lease_generation", help, number("generation").unwrap_or(0) as f64)?;
            let help = "Seconds since the lease was renewed, by this headend or, on standby, as it was seen";
            writer.gauge(
                "lease_renewal_age_seconds",
                help,
                number("since_renewal_ms").unwrap_or(0) as f64 / 1000.0,
            )?;
            let help = "Takeovers of the lease by this headend";
            writer.counter("lease_takeovers", help, number("takeovers").unwrap_or(0))?;
            let failures = LeaseFailure::ALL.iter().map(|it| {
                let count = status["lease"]["failures"][it.as_str()].as_u64().unwrap_or(0);
                (it.as_str(), count)
            });
            writer.by_reason("lease_failures", "Requests for the lease that came to nothing", failures)?;
        }
        if let Some(ingest) = &self.ingest {
            let [stored, bytes, removed, redundant] = ingest.counts();
            writer.counter("ingest_stored_files", "Files that packagers have uploaded", stored)?;
            writer.counter("ingest_stored_bytes", "Bytes of uploaded files", bytes)?;
            writer.counter("ingest_removed_files", "Files that packagers have removed", removed)?;
            let help = "Uploads that another packager had brought already";
            writer.counter("ingest_redundant_files", help, redundant)?;
            let help = "Requests of packagers that were refused";
            writer.by_reason("ingest_refused", help, ingest.refusals())?;
        }
        if let Some(pulled) = &self.pulled {
            let [files, bytes, unchanged, removed] = pulled.counts();
            writer.counter(
                "pulled_files",
                "Files that were fetched from origins of pulled sources",
                files,
            )?;
            writer.counter("pulled_bytes", "Bytes of pulled files", bytes)?;
            writer.counter("pulled_unchanged", "Manifests that had not changed", unchanged)?;
            writer.counter("pulled_removed_files", "Pulled files that left the window", removed)?;
            let help = "Requests to origins of pulled sources that failed";
            writer.by_reason("pull_failed", help, pulled.failures())?;
            let (keys, left_out) = pulled.listed_keys();
            let help = "Keys in the newest lists of buckets that sources are pulled from";
            writer.gauge("pull_listed_keys", help, keys as f64)?;
            let help = "Keys of buckets that are not pulled, by reason";
            let mut family =
                writer.0.encode_descriptor("pull_left_out_keys", help, None, MetricType::Gauge)?;
            for (reason, count) in left_out {
                ConstGauge::new(count as f64).encode(family.encode_family(&[("reason", reason)])?)?;
            }
            writer.events(&pulled.events().into_values().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

struct MetricWriter<'a>(DescriptorEncoder<'a>);

impl MetricWriter<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let descriptor = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(descriptor)
    }

    fn by_reason(
        &mut self,
        name: &str,
        help: &str,
        counts: impl Iterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in counts {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    /// Bucket events of all sources together.
    fn events(&mut self, all: &[Arc<EventStats>]) -> fmt::Result {
        let sum = |of: &dyn Fn(&EventStats) -> u64| all.iter().map(|it| of(it)).sum::<u64>();
        let help = "Events of buckets, and messages that are none, by what became of them";
        let mut family = self.0.encode_descriptor("pull_events", help, None, MetricType::Counter)?;
        for (at, outcome) in EventOutcome::ALL.iter().enumerate() {
            let count = sum(&|it| it.outcomes().nth(at).map_or(0, |it| it.1));
            ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome.as_str())])?)?;
        }
        let help = "What Kafka did not do for events of buckets";
        let errors = KafkaError::ALL.iter().enumerate().map(|(at, why)| {
            let count = sum(&|it| it.errors().nth(at).map_or(0, |it| it.1));
            (why.as_str(), count)
        });
        self.by_reason("pull_event_errors", help, errors)?;
        let help = "Topics with events of buckets that are not read: buckets are listed instead";
        self.gauge("pull_event_topics_away", help, sum(&|it| u64::from(!it.is_connected())) as f64)?;
        let help = "Messages of topics with events of buckets that are not read yet";
        self.gauge("pull_event_lag", help, sum(&EventStats::lag) as f64)?;
        let help = "Keys that events have told of and that wait to be looked at";
        self.gauge("pull_pending_keys", help, sum(&|it| it.pending() as u64) as f64)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let descriptor = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use crate::air::LiveDrops;
    use crate::config::Config;
    use crate::line::LineStats;

    use super::*;

    fn get(address: SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_scrape_tells_what_status_tells() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headend.toml");
        let text =
            "link.rate_bps = 8_000_000\n[[source]]\nname = 'a \"b\"'\npath = '.'\nbase = 'http://h/v/'\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let state = State::default();
        let address =
            listen("127.0.0.1:0".parse().unwrap(), state.clone(), Some(Arc::default()), None).unwrap();
        let mut live_dropped = LiveDrops::default();
        live_dropped.add(LiveDrop::Late);
        let stats = LineStats { sent: 7, live_dropped, link_bytes: 2_000_000, ..LineStats::default() };
        state.update(&config, 9, &[Condition::Available], &stats, Duration::from_secs(4));
        // Half-open clients take places only until they are silent for long; one more waits for none of them.
        let idle: Vec<_> = (1..MAX_CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answer = get(address, "/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200") && head.contains(OPEN_METRICS), "{head}");
        for line in [
            "skycache_headend_sent_objects_total 7",
            "skycache_headend_sent_bytes_total 2000000",
            "skycache_headend_objects 9.0",
            "skycache_headend_link_rate_bps 8000000.0",
            "skycache_headend_source_reserved_bps{source=\"a \\\"b\\\"\",class=\"medium\"} 0",
            "skycache_headend_source_condition{source=\"a \\\"b\\\"\",condition=\"available\"} 1",
            "skycache_headend_source_condition{source=\"a \\\"b\\\"\",condition=\"away\"} 0",
            "skycache_headend_ingest_refused_total{reason=\"bad_path\"} 0",
            "skycache_headend_live_dropped_objects_total{reason=\"late\"} 1",
            "skycache_headend_live_dropped_objects_total{reason=\"removed\"} 0",
            "# EOF",
        ] {
            assert!(body.lines().any(|it| it == line), "{line}: {body}");
        }
        assert!(body.contains("\nprocess_cpu_seconds_total "), "{body}");
        assert!(get(address, "/healthz").ends_with("ok\n"));
        assert!(get(address, "/other").starts_with("HTTP/1.0 404"));
        let taken = listen(address, State::default(), None, None).unwrap_err();
        assert!(taken.starts_with(&format!("metrics.listen {address}: ")), "{taken}");
        drop(idle);
    }
}
