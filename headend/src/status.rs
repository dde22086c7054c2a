//! State of a running `headend send`, and the socket on which `headend status` asks for it.
//!
//! The socket is an abstract one of Linux, named by the path of the configuration: it needs no folder and no rights, ends with
//! the process, and says only what is on the air. One connection is one JSON document.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::condition::Condition;
use crate::config::Config;
use crate::lease::{LeaseStatus, LeaseView};
use crate::line::LineStats;
use crate::progress::{Preparation, preparation_text};
use crate::pull::{EventStats, PullStats};
use crate::signing;
use crate::units::{counted, human_bps, human_bytes, human_seconds};

/// Time that a client may take to read.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// A document is longer only if something is wrong.
const DOCUMENT_BYTES: u64 = 1 << 20;

/// State of a transmission; shared with the thread that answers.
#[derive(Debug, Clone, Default)]
pub struct State {
    document: Arc<Mutex<Value>>,
    /// Until something is on the air.
    preparation: Option<Arc<Preparation>>,
    lease: Arc<OnceLock<LeaseStatus>>,
    pulled: Option<Arc<PullStats>>,
}

impl State {
    /// State of a transmission that is prepared, with sources that are pulled, or without.
    pub fn of(config: &Config, preparation: Arc<Preparation>, pulled: Option<Arc<PullStats>>) -> Self {
        let state = Self { preparation: Some(preparation), pulled, ..Self::default() };
        state.update(config, 0, &[], &LineStats::default(), Duration::ZERO);
        state
    }

    /// Adds the lease of the transmission.
    pub fn with_lease(&self, lease: LeaseStatus) {
        let _ = self.lease.set(lease);
    }

    /// Takes over the counters.
    ///
    /// `conditions`: of each source.
    pub fn update(
        &self,
        config: &Config,
        objects: usize,
        conditions: &[Condition],
        stats: &LineStats,
        elapsed: Duration,
    ) {
        let seconds = elapsed.as_secs_f64();
        let sources = config.sources.iter().zip(conditions).map(|(source, condition)| {
            json!({ "name": source.name, "path": source.path.display().to_string(), "base": source.base,
                    "class": source.class.as_str(), "reserved_bps": source.reserved_bps,
                    "condition": condition.as_str(), "why": condition.why() })
        });
        let document = json!({
            "schema": 1,
            "version": crate::units::VERSION,
            "configuration": config.file.as_ref().map(|it| it.display().to_string()),
            "uptime_s": seconds.round(),
            "rate_bps": config.link.rate_bps,
            "sent_bps": (stats.link_bytes as f64 * 8.0 / seconds.max(0.001)).round(),
            "reserved_bps": config.reserved_bps(),
            "objects": objects,
            "sent": stats.sent,
            "packets": stats.packets,
            "bytes": stats.link_bytes,
            "stuffing_packets": stats.stuffing,
            "broken_off": stats.broken_off,
            "live_dropped": stats.live_dropped.labelled().collect::<BTreeMap<_, _>>(),
            "forwarded_packets": stats.forwarded.0,
            "forwarded_dropped": stats.forwarded.1,
            "firmware": config.firmware.as_ref().map(|it| json!({ "bundles": stats.bundles, "rate_bps": it.rate_bps })),
            "signing": config.sealer.as_ref().map(signing::to_json),
            "sources": sources.collect::<Vec<_>>(),
        });
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = document;
    }

    /// A state with every member that metrics are made of.
    pub(crate) fn signed_sample() -> Self {
        let source = json!({ "name": "", "class": "medium", "condition": "available" });
        let document = json!({ "signing": { "until_s": 0 }, "sources": [source] });
        Self {
            document: Arc::new(Mutex::new(document)),
            lease: Arc::new(LeaseStatus::sample().into()),
            ..Self::default()
        }
    }

    /// The document as of the last update; preparation, lease and events as of now.
    pub fn document(&self) -> Value {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner).clone();
        document["preparing"] = self.preparation.as_ref().map_or(Value::Null, |it| it.to_json());
        document["lease"] = self.lease.get().map_or(Value::Null, |lease| lease_to_json(&lease.view()));
        let events = self.pulled.as_ref().map(|it| it.events()).unwrap_or_default();
        document["events"] = events.iter().map(|(source, it)| events_to_json(source, it)).collect();
        document
    }
}

fn lease_to_json(lease: &LeaseView) -> Value {
    json!({
        "role": lease.role.as_str(),
        "node": lease.node,
        "holder": lease.holder,
        "generation": lease.generation,
        "since_renewal_ms": lease.since_renewal_ms,
        "takeovers": lease.takeovers,
        "failures": lease.failures.iter().copied().collect::<BTreeMap<_, _>>(),
    })
}

fn events_to_json(source: &str, events: &EventStats) -> Value {
    json!({
        "source": source,
        "topic": events.topic(),
        "connected": events.is_connected(),
        "outcomes": events.outcomes().collect::<BTreeMap<_, _>>(),
        "errors": events.errors().collect::<BTreeMap<_, _>>(),
        "lag": events.lag(),
        "pending": events.pending(),
    })
}

fn events_to_text(events: &Value) -> String {
    let text = |name: &str| events[name].as_str().unwrap_or_default();
    let number = |name: &str| events[name].as_u64().unwrap_or(0);
    let state = match events["connected"].as_bool() {
        Some(true) => "",
        _ => " is away: the bucket is listed instead",
    };
    let mut out = format!("events     {}: topic {}{state}", text("source"), text("topic"));
    for (member, what) in [("lag", "messages not read"), ("pending", "keys waiting")] {
        if number(member) > 0 {
            out.push_str(&format!("; {} {what}", number(member)));
        }
    }
    for member in ["outcomes", "errors"] {
        for (why, count) in events[member].as_object().into_iter().flatten() {
            if let Some(count) = count.as_u64().filter(|count| *count > 0) {
                out.push_str(&format!("; {count} {why}"));
            }
        }
    }
    out.push('\n');
    out
}

fn lease_to_text(lease: &Value) -> String {
    let text = |name: &str| lease[name].as_str().unwrap_or("nobody");
    let number = |name: &str| lease[name].as_u64().unwrap_or(0);
    let mut out = match (text("role"), text("node"), text("holder")) {
        ("active", node, _) => format!("lease      {node} is active, generation {}", number("generation")),
        (_, node, holder) if node == holder => format!(
            "lease      {node} is silent: it was the last to hold the lease, and has not renewed it in time; generation {}",
            number("generation")
        ),
        (_, node, holder) => {
            format!(
                "lease      {node} is on standby, {holder} is active, generation {}",
                number("generation")
            )
        }
    };
    if let Some(ms) = lease["since_renewal_ms"].as_u64() {
        out.push_str(&format!("; renewed {ms} ms ago"));
    }
    let takeovers = usize::try_from(number("takeovers")).unwrap_or(usize::MAX);
    out.push_str(&format!("; {}\n", counted(takeovers, "takeover")));
    for (why, count) in lease["failures"].as_object().into_iter().flatten() {
        if let Some(count) = count.as_u64().filter(|count| *count > 0) {
            out.push_str(&format!("lease      {count} requests failed: {why}\n"));
        }
    }
    out
}

/// The socket of a configuration.
fn address(config: &Path) -> io::Result<SocketAddr> {
    let whole = std::fs::canonicalize(config)?;
    // 107 bytes at most: the digest stands for the path.
    let digest = carousel::digest::Digest::of(whole.as_os_str().as_encoded_bytes()).to_hex();
    SocketAddr::from_abstract_name(format!("skycache-headend/{}", &digest[..32]))
}

/// Answers questions for a state, as long as the process lives.
///
/// # Errors
/// `AddrInUse` if another process sends the same configuration.
pub fn listen(config: &Path, state: State) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&address(config)?)?;
    std::thread::Builder::new().name("status".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(mut stream) => {
                    // A client that disconnects is not an error.
                    let _ = stream.set_write_timeout(Some(CLIENT_TIMEOUT));
                    let _ = stream.write_all(format!("{}\n", state.document()).as_bytes());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(())
}

/// Asks the process that sends a configuration.
///
/// # Errors
/// One line: none does, or what it says cannot be read.
pub fn ask(config: &Path) -> Result<Value, String> {
    let named = config.display();
    let none = |err: io::Error| match err.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!(
                "{named}: no `headend send -c {named}` is running on this machine; start it, or name its file"
            )
        }
        _ => format!("{named}: {}", carousel::config::plain(&err)),
    };
    let stream = UnixStream::connect_addr(&address(config).map_err(none)?).map_err(none)?;
    let failed = |err: &dyn std::fmt::Display| format!("{named}: the answer of headend: {err}");
    stream.set_read_timeout(Some(CLIENT_TIMEOUT)).map_err(|err| failed(&err))?;
    let mut text = String::new();
    stream.take(DOCUMENT_BYTES).read_to_string(&mut text).map_err(|err| failed(&err))?;
    serde_json::from_str(&text).map_err(|err| failed(&err))
}

/// The table for a person.
pub fn to_table(status: &Value) -> String {
    let number = |name: &str| status[name].as_u64().or_else(|| status[name].as_f64().map(|it| it as u64));
    let number = |name: &str| number(name).unwrap_or(0);
    if status["preparing"].is_object() {
        let count = |name: &str| status["preparing"][name].as_u64().unwrap_or(0);
        let counts = ["files", "all_files", "bytes", "all_bytes"].map(count);
        return format!(
            "not on the air yet: {}\n{}\n",
            status["configuration"].as_str().unwrap_or_default(),
            preparation_text(counts)
        );
    }
    let is_standby = status["lease"]["role"] == "standby";
    let mut out = format!(
        "{} {}, for {}\nlink       {} of {} ({} reserved for live)\nsent       {} of {}, repeats included; {} in {}\n",
        if is_standby { "on standby" } else { "on the air" },
        status["configuration"].as_str().unwrap_or_default(),
        human_seconds(number("uptime_s") as f64),
        human_bps(number("sent_bps") as f64),
        human_bps(number("rate_bps") as f64),
        human_bps(number("reserved_bps") as f64),
        counted(number("sent") as usize, "object"),
        number("objects"),
        human_bytes(number("bytes")),
        counted(number("packets") as usize, "packet"),
    );
    if number("broken_off") > 0 {
        out.push_str(&format!(
            "broken off {}, changed while sent\n",
            counted(number("broken_off") as usize, "object")
        ));
    }
    for (why, count) in status["live_dropped"].as_object().into_iter().flatten() {
        if let Some(count) = count.as_u64().filter(|count| *count > 0) {
            out.push_str(&format!("dropped    {count} live objects: {why}\n"));
        }
    }
    if status["lease"].is_object() {
        out.push_str(&lease_to_text(&status["lease"]));
    }
    if let Some(bundles) = status["firmware"]["bundles"].as_u64() {
        let rate = human_bps(status["firmware"]["rate_bps"].as_f64().unwrap_or(0.0));
        out.push_str(&format!("firmware   {bundles} bundles on the air, {rate} for them\n"));
    }
    if let Some(key) = status["signing"]["key"].as_str() {
        let text = |name: &str| status["signing"][name].as_str().unwrap_or_default();
        out.push_str(&format!("signed by  key {key} of root {}, until {}\n", text("root"), text("until")));
    }
    for source in status["sources"].as_array().into_iter().flatten() {
        let text = |name: &str| source[name].as_str().unwrap_or_default();
        let condition = match (text("condition"), text("why")) {
            ("available", _) => String::new(),
            (condition, why) => format!("; {condition}: {why}"),
        };
        out.push_str(&format!(
            "source     {} ({}): {}{condition}\n",
            text("name"),
            text("class"),
            text("base")
        ));
    }
    for events in status["events"].as_array().into_iter().flatten() {
        out.push_str(&events_to_text(events));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::air::{LiveDrop, LiveDrops};

    #[test]
    fn the_role_of_a_headend_with_a_lease_is_told() {
        let mut view = LeaseView {
            role: crate::lease::LeaseRole::Standby,
            node: "b".to_owned(),
            holder: Some("a".to_owned()),
            generation: 7,
            since_renewal_ms: Some(120),
            takeovers: 1,
            failures: vec![("connect", 3), ("timeout", 0)],
        };
        let table = to_table(&json!({ "lease": lease_to_json(&view) }));
        assert!(
            table.starts_with("on standby ") && table.contains("b is on standby, a is active, generation 7"),
            "{table}"
        );
        assert!(
            table.contains("renewed 120 ms ago; 1 takeover\nlease      3 requests failed: connect\n"),
            "{table}"
        );
        assert!(!table.contains("timeout"), "{table}");
        view.holder = Some("b".to_owned());
        let table = to_table(&json!({ "lease": lease_to_json(&view) }));
        assert!(
            table.contains("b is silent: it was the last to hold the lease")
                && !table.contains("b is active"),
            "{table}"
        );
        view.role = crate::lease::LeaseRole::Active;
        let table = to_table(&json!({ "lease": lease_to_json(&view) }));
        assert!(table.starts_with("on the air ") && table.contains("b is active, generation 7"), "{table}");
        assert!(State::default().document()["lease"].is_null());
    }

    #[test]
    fn what_is_being_prepared_is_told_until_it_is_on_the_air() {
        let text = "link.rate_bps = 8_000_000\n[[source]]\npath = '/v'\nbase = 'http://h/v/'\n";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let preparation = Arc::<Preparation>::default();
        let state = State::of(&config, Arc::clone(&preparation), None);
        preparation.begin(4, 8_000_000_000);
        preparation.read(1_000_000_000);
        preparation.complete();
        let table = to_table(&state.document());
        assert!(table.starts_with("not on the air yet"), "{table}");
        assert!(table.contains("preparing: 1 of 4 files, 1.0 GB of 8.0 GB"), "{table}");
        let status = state.document();
        assert_eq!((&status["objects"], &status["rate_bps"]), (&json!(0), &json!(8_000_000)));
        preparation.end();
        assert!(state.document()["preparing"].is_null());
        assert!(to_table(&state.document()).starts_with("on the air"));
    }

    #[test]
    fn a_state_is_told_and_a_second_sender_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headend.toml");
        std::fs::write(&file, "link.rate_bps = 8_000_000\n[[source]]\npath = '.'\nbase = 'http://h/v/'\n")
            .unwrap();
        assert!(ask(&file).unwrap_err().contains("no `headend send"), "nobody sends");
        let config = Config::load(&file).unwrap();
        let state = State::default();
        listen(&file, state.clone()).unwrap();
        let mut live_dropped = LiveDrops::default();
        live_dropped.add(LiveDrop::Late);
        let stats = LineStats { sent: 7, live_dropped, link_bytes: 2_000_000, ..LineStats::default() };
        state.update(&config, 9, &[Condition::Available], &stats, Duration::from_secs(4));
        let status = ask(&file).unwrap();
        assert_eq!(
            (&status["sent"], &status["objects"], &status["sent_bps"]),
            (&json!(7), &json!(9), &json!(4_000_000.0))
        );
        assert_eq!(status["live_dropped"], json!({ "late": 1, "removed": 0 }));
        let table = to_table(&status);
        assert!(table.contains("dropped    1 live objects: late\n") && !table.contains("removed"), "{table}");
        assert!(table.contains("4.0 Mbit/s of 8.0 Mbit/s") && table.contains("http://h/v/"), "{table}");
        assert!(!table.contains("available") && status["sources"][0]["condition"] == "available", "{table}");
        let away = Condition::Away("/v: no such file".to_owned());
        state.update(&config, 9, &[away], &stats, Duration::from_secs(5));
        let away = state.document();
        assert_eq!(
            (&away["sources"][0]["condition"], &away["sources"][0]["why"]),
            (&json!("away"), &json!("/v: no such file"))
        );
        assert!(to_table(&away).contains("http://h/v/; away: /v: no such file\n"), "{}", to_table(&away));
        assert!(status["firmware"].is_null() && !table.contains("firmware"), "{table}");
        let mut with = status;
        with["firmware"] = json!({ "bundles": 2, "rate_bps": 500_000 });
        assert!(
            to_table(&with).contains("firmware   2 bundles on the air, 500.0 kbit/s for them\n"),
            "{}",
            to_table(&with)
        );
        assert_eq!(listen(&file, State::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
