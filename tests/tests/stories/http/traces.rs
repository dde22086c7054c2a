//! Traces (OTLP): a miss goes from a player through an edge and a shield to the origin, and a collector gets one trace of it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use skycache_tests::programs::program;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const PLAYERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Whether the daemon can send traces.
fn has_traces() -> bool {
    let story = Story::new();
    let config = story.dir().join("traces.toml");
    std::fs::write(&config, "[traces]\nendpoint = \"http://127.0.0.1:9\"\n").unwrap();
    let checked =
        program("skycached").args(["check", "--seconds", "1", "--json", "-c"]).arg(config).output().unwrap();
    let there = !String::from_utf8_lossy(&checked.stdout).contains("built without OpenTelemetry");
    if !there {
        eprintln!("SKIPPED: skycached is built without traces (cargo build -p skycache --features otlp)");
    }
    there
}

/// A span, and the service that it is of.
struct Taken {
    service: String,
    span: Span,
}

impl Taken {
    fn said(&self, key: &str) -> String {
        said(&self.span.attributes, key)
    }

    fn kind(&self) -> SpanKind {
        self.span.kind()
    }

    fn error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|it| it.code == 2)
    }
}

fn said(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|it| it.key == key).and_then(|it| it.value.clone()?.value);
    match found {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

/// Every span that the collector has.
fn taken(collector: &Scripted) -> Vec<Taken> {
    let mut all = Vec::new();
    for asked in collector.asked("/v1/traces") {
        let message = ExportTraceServiceRequest::decode(&*asked.body).unwrap();
        for of in message.resource_spans {
            let service = said(&of.resource.unwrap().attributes, "service.name");
            for span in of.scope_spans.into_iter().flat_map(|it| it.spans) {
                all.push(Taken { service: service.clone(), span });
            }
        }
    }
    all
}

/// The spans of requests for this path, once there are `count` of them.
fn of_path(collector: &Scripted, path: &str, count: usize) -> Vec<Taken> {
    let begun = Instant::now();
    loop {
        let all = taken(collector);
        let roots: Vec<Vec<u8>> =
            all.iter().filter(|it| it.said("url.path") == path).map(|it| it.span.trace_id.clone()).collect();
        let found: Vec<Taken> = all.into_iter().filter(|it| roots.contains(&it.span.trace_id)).collect();
        if found.len() >= count {
            return found;
        }
        let names: Vec<_> = found.iter().map(|it| format!("{} {}", it.service, it.span.name)).collect();
        assert!(begun.elapsed() < PATIENCE, "{path}: {names:?}");
        sleep(Duration::from_millis(100));
    }
}

/// Edge, shield, origin, and the collector of both boxes.
fn tiers() -> Option<(Story, Story, Scripted, Scripted)> {
    if !has_traces() {
        return None;
    }
    let collector = Scripted::start(|_: &Asked| answer(200, &[], b""));
    let origin = Scripted::start(|asked: &Asked| {
        let mut steps =
            if asked.path.contains("slow") { vec![Step::Wait(Duration::from_secs(1))] } else { vec![] };
        steps.extend(match asked.path.contains("bad") {
            true => answer(503, &[], b"busy"),
            false => answer(200, &[("Cache-Control", "max-age=600")], b"media"),
        });
        steps
    });
    let traces = |name: &str, more: &str| {
        format!("[traces]\nendpoint = \"http://{}\"\nservice_name = \"{name}\"\n{more}", collector.address())
    };
    let shield = before(&origin, &traces("shield", "sample = 0.0\ntrusted = [\"127.0.0.0/8\"]\n"));
    let parents = format!(
        "parents = \"shields\"\n[[parent]]\nname = \"shields\"\nhedge = false\n[[parent.member]]\nurl = \"http://{}\"\n",
        shield.http
    );
    let edge = before(&origin, &format!("{parents}{}", traces("edge", "sample = 1.0\n")));
    Some((edge, shield, origin, collector))
}

#[test]
fn a_miss_is_one_trace_from_the_player_to_the_origin() {
    let Some((edge, shield, origin, collector)) = tiers() else { return };
    let path = "/o/film/1.m4s";
    // This player is not trusted: its trace is neither followed nor passed on.
    let fields = [("traceparent", PLAYERS), ("tracestate", "x=y")];
    let response = get(edge.http, &format!("{path}?x=secret"), &fields).unwrap();
    assert_eq!(response.body, b"media");
    let spans = of_path(&collector, path, 6);
    let is = |it: &&Taken, service: &str, kind| it.service == service && it.kind() == kind;
    let mut parent = Vec::new();
    for (service, kind) in [
        ("edge", SpanKind::Server),
        ("edge", SpanKind::Internal),
        ("edge", SpanKind::Client),
        ("shield", SpanKind::Server),
        ("shield", SpanKind::Internal),
        ("shield", SpanKind::Client),
    ] {
        let one: Vec<&Taken> = spans.iter().filter(|it| is(it, service, kind)).collect();
        assert_eq!(one.len(), 1, "{service} {kind:?}");
        assert_eq!(one[0].span.trace_id, spans[0].span.trace_id);
        assert_eq!(one[0].span.parent_span_id, parent, "{service} {kind:?}");
        parent.clone_from(&one[0].span.span_id);
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
    let id = hex(&spans[0].span.trace_id);
    assert_ne!(id, "0af7651916cd43dd8448eb211c80319c");
    let asked = origin.asked("/film/1.m4s?x=secret");
    let asked = asked.first().expect("with its query");
    assert_eq!(asked.field("traceparent"), format!("00-{id}-{}-01", hex(&parent)));
    assert!(!asked.fields.iter().any(|(name, _)| name == "tracestate"), "{:?}", asked.fields);
    let server = spans.iter().find(|it| is(it, "edge", SpanKind::Server)).unwrap();
    let words = ["http.request.method", "http.route", "http.response.status_code", "skycache.cache"];
    assert_eq!(words.map(|it| server.said(it)), ["GET", "/o/", "200", "miss"]);
    assert_eq!((server.span.name.as_str(), server.said("http.response.body.size")), ("GET /o/", "5".into()));
    let client = spans.iter().find(|it| is(it, "edge", SpanKind::Client)).unwrap();
    assert_eq!(client.said("url.full"), format!("http://{}{path}", shield.http));
    assert_eq!([client.said("skycache.why"), client.said("skycache.attempt")], ["parent", "1"]);
    let text = format!("{:?}", spans.iter().map(|it| &it.span).collect::<Vec<_>>());
    assert!(!text.contains("secret"), "{text}");
    // A hit makes no request, and is traced only for a client that is trusted.
    assert_eq!(get(edge.http, &format!("{path}?x=secret"), &[]).unwrap().body, b"media");
    for _ in 0..2 {
        assert_eq!(
            get(shield.http, &format!("{path}?x=secret"), &[("traceparent", PLAYERS)]).unwrap().body,
            b"media"
        );
    }
    let hits: Vec<Taken> = of_path(&collector, path, 8);
    let hits: Vec<&Taken> = hits.iter().filter(|it| it.said("skycache.cache") == "hit").collect();
    assert_eq!(hits.iter().map(|it| it.service.as_str()).collect::<Vec<_>>(), ["shield", "shield"]);
    assert!(hits.iter().all(|it| hex(&it.span.parent_span_id) == "b7ad6b7169203331"));
}

#[test]
fn attempts_and_waiting_are_in_the_trace() {
    let Some((edge, shield, origin, collector)) = tiers() else { return };
    // What fails at the shield is asked of the origin.
    assert_eq!(get(edge.http, "/o/bad", &[]).unwrap().status, 503);
    let spans = of_path(&collector, "/o/bad", 7);
    let mut attempts = BTreeMap::new();
    for it in spans.iter().filter(|it| it.service == "edge" && it.kind() == SpanKind::Client) {
        assert!(it.error());
        attempts.insert(it.said("skycache.attempt"), (it.said("skycache.why"), it.said("error.type")));
    }
    let pair = |why: &str| (why.to_owned(), "503".to_owned());
    let expected = [("1".into(), pair("parent")), ("2".into(), pair("failover to the origin"))];
    assert_eq!(attempts, BTreeMap::from(expected));
    // Two ask for the same at once: one fetches, and the other's span is linked to it.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(get(edge.http, "/o/slow", &[]).unwrap().body, b"media"));
            sleep(Duration::from_millis(200));
        }
    });
    let spans = of_path(&collector, "/o/slow", 8);
    let fetches: Vec<&Taken> =
        spans.iter().filter(|it| it.service == "edge" && it.span.name == "fetch").collect();
    let (joined, first): (Vec<&Taken>, Vec<&Taken>) =
        fetches.iter().partition(|it| it.said("skycache.joined") == "true");
    assert_eq!((joined.len(), first.len()), (1, 1));
    assert_eq!(joined[0].span.links[0].span_id, first[0].span.span_id);
    assert_ne!(joined[0].span.trace_id, first[0].span.trace_id);
    // A trusted client that does not want to be traced is not, and its trace goes on to the origin.
    let quiet = PLAYERS.replace("-01", "-00");
    assert_eq!(get(shield.http, "/o/quiet", &[("traceparent", &quiet)]).unwrap().body, b"media");
    assert_eq!(origin.asked("/quiet")[0].field("traceparent"), quiet);
    let begun = Instant::now();
    while edge.metric("traces_sent_total") < 5 && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(100));
    }
    assert!(edge.metric("traces_sent_total") >= 5);
    assert!(!taken(&collector).iter().any(|it| it.said("url.path") == "/o/quiet"));
}
