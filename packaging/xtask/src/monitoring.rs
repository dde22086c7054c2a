//! Tests of the rules and dashboards in `configs/prometheus` and `configs/grafana`.
//!
//! A query for a metric that does not exist has no result in Prometheus, so that an alert with a misspelt name stays quiet
//! forever. The tests here read the files as text and fail
//! - when a metric, or a value that one of its labels has to equal, is not in `docs/reference/metrics.md`; metrics of transport
//!   streams, which an idle daemon does not have, are looked up in the source,
//! - when a recording rule is used that does not exist,
//! - when an alert has no unit test in which it fires.
//!
//! Where promtool is installed it checks the syntax of the rules and runs their unit tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::workspace;

/// Label → values that it may have; none where they depend on the configuration.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// A label and the values that a query compares it with.
type Matcher = (String, Vec<String>);

/// Beginnings of the names of metrics.
const PREFIXES: [&str; 2] = ["skycache_", "process_"];

/// Metrics of both programs, by the name in a query.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Labels>);

impl Known {
    /// Reads the tables of `docs/reference/metrics.md`, and names of transport streams from the source that writes them.
    fn read(reference: &str, source: &str) -> Self {
        let mut known = Self::default();
        let rows = reference.lines().filter_map(|it| it.strip_prefix("| `"));
        for row in rows.filter(|it| PREFIXES.iter().any(|prefix| it.starts_with(prefix))) {
            let cells: Vec<&str> = row.split(" | ").collect();
            let (name, kind) = (cells[0].trim_end_matches('`'), cells[1]);
            let mut labels = Labels::new();
            for label in cells[3].trim_end_matches('|').split(';') {
                let (name, values) = label.split_once(':').unwrap_or((label, ""));
                let values = values.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
                labels.insert(name.trim().trim_matches('`').to_owned(), values.collect());
            }
            known.add(name, kind, &labels);
        }
        for name in source.split('"').filter(|it| it.starts_with("transport_") && is_word(it)) {
            for kind in ["counter", "gauge"] {
                known.add(&format!("skycache_{name}"), kind, &Labels::new());
            }
        }
        known
    }

    fn add(&mut self, name: &str, kind: &str, labels: &Labels) {
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        for suffix in suffixes {
            self.0.insert(format!("{name}{suffix}"), labels.clone());
        }
    }

    /// Faults of the metrics that `text` names.
    fn faults(&self, text: &str, recorded: &BTreeSet<String>) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, matchers) in selectors(text) {
            if name.contains(':') {
                if !recorded.contains(&name) {
                    faults.push(format!("{name}: no recording rule has this name"));
                }
                continue;
            }
            let Some(labels) = self.0.get(&name) else {
                faults.push(format!("{name}: not in docs/reference/metrics.md"));
                continue;
            };
            for (label, values) in matchers {
                let Some(known) = labels.get(&label).filter(|it| !it.is_empty()) else { continue };
                for value in values.iter().filter(|it| !known.contains(*it)) {
                    faults.push(format!("{name}: {label} is never {value}"));
                }
            }
        }
        faults
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

/// The metrics that a file names, each with the values that its matchers compare labels with. A name is a word that begins with
/// one of `PREFIXES`, or has `skycache_` after a colon as recording rules do; values with variables or wildcards are left out.
fn selectors(text: &str) -> Vec<(String, Vec<Matcher>)> {
    let mut found = Vec::new();
    // Quotation marks inside JSON strings.
    let text = text.replace("\\\"", "\"");
    let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | ':');
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let is_metric = PREFIXES.iter().any(|it| word.starts_with(it)) || word.contains(":skycache_");
        // `name: word` of YAML ends in a colon; a path or a file's name continues with a dot or a dash.
        if !is_metric || word.ends_with(':') || after.starts_with(['.', '-', '/']) {
            continue;
        }
        let matchers = after.strip_prefix('{').and_then(|it| it.split_once('}')).map_or("", |it| it.0);
        found.push((word.to_owned(), matchers.split("\",").filter_map(matcher).collect()));
    }
    found
}

/// Label and values of one matcher, such as `served=~"hit|stale`.
fn matcher(text: &str) -> Option<Matcher> {
    let (label, value) = text.split_once('"')?;
    let value = value.trim_end_matches('"');
    let label = label.trim_matches(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    let values = value.split('|').filter(|it| is_word(it)).map(str::to_owned).collect();
    Some((label.to_owned(), values))
}

/// Values of a key in YAML of one line each, as `record` and `alert` are.
fn values_of(key: &str, text: &str) -> BTreeSet<String> {
    let prefix = format!("- {key}: ");
    text.lines().filter_map(|it| it.trim_start().strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// Texts of the files of a folder that end so, by path.
fn files(folder: &str, end: &str) -> Vec<(PathBuf, String)> {
    let folder = workspace().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|it| it.unwrap().path()).collect();
    paths.sort();
    paths.retain(|it| it.to_string_lossy().ends_with(end));
    assert!(!paths.is_empty(), "{}: no {end}", folder.display());
    paths.into_iter().map(|it| (it.clone(), fs::read_to_string(&it).unwrap())).collect()
}

fn known() -> Known {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
    Known::read(&read("docs/reference/metrics.md"), &read("daemon/src/metrics.rs"))
}

/// YAML without comments.
fn without_comments(text: &str) -> String {
    text.lines().filter(|it| !it.trim_start().starts_with('#')).flat_map(|it| [it, "\n"]).collect()
}

#[test]
fn rules_and_dashboards_name_metrics_that_exist() {
    let known = known();
    let rules = files("configs/prometheus/rules", ".yaml");
    let recorded: BTreeSet<String> = rules.iter().flat_map(|(_, text)| values_of("record", text)).collect();
    let mut wrong = Vec::new();
    let (mut names, mut queries) = (0, 0);
    let all = rules.into_iter().chain(files("configs/prometheus/tests", ".yaml"));
    for (path, text) in all.chain(files("configs/grafana", ".json")) {
        let mut text = without_comments(&text);
        if path.extension().is_some_and(|it| it == "json") {
            let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mut found = Vec::new();
            expressions(&dashboard, &mut found);
            queries += found.len();
            text = found.join("\n");
        }
        names += selectors(&text).len();
        let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        wrong.extend(known.faults(&text, &recorded).into_iter().map(|it| format!("{shown}: {it}")));
    }
    assert!(names > 300 && queries > 100, "{names} names and {queries} queries found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The queries of a dashboard: panels, annotations, variables.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if matches!(name.as_str(), "expr" | "query") => found.push(text.to_owned()),
                    _ => expressions(member, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|it| expressions(it, found)),
        _ => {}
    }
}

#[test]
fn every_alert_fires_in_a_unit_test() {
    let rules = files("configs/prometheus/rules", ".yaml");
    let alerts: BTreeSet<String> = rules.iter().flat_map(|(_, text)| values_of("alert", text)).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    let tests: String =
        files("configs/prometheus/tests", ".yaml").into_iter().map(|(_, text)| text).collect();
    let fires = |it: &&String| tests.contains(&format!("labels: '{{alertname=\"{it}\"}}'"));
    let silent: Vec<&String> = alerts.iter().filter(|it| !fires(it)).collect();
    assert!(silent.is_empty(), "no unit test in configs/prometheus/tests has these fire: {silent:?}");
    let alertmanager = fs::read_to_string(workspace().join("configs/prometheus/alertmanager.yaml")).unwrap();
    let words = alertmanager.split(|it: char| !it.is_ascii_alphanumeric());
    let named: BTreeSet<&str> = words.filter(|it| it.starts_with("Skycache")).collect();
    assert!(!named.is_empty());
    let unknown: Vec<&&str> = named.iter().filter(|it| !alerts.contains(**it)).collect();
    assert!(unknown.is_empty(), "alertmanager.yaml names alerts that do not exist: {unknown:?}");
}

#[test]
fn promtool_agrees() {
    let run = |arguments: &[&str], paths: &[PathBuf]| {
        let output = Command::new("promtool").args(arguments).args(paths).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {text}");
    };
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("SKIPPED: unit tests of alert rules: no promtool; Debian's package prometheus has it");
        return;
    }
    let paths =
        |folder: &str| -> Vec<PathBuf> { files(folder, ".yaml").into_iter().map(|it| it.0).collect() };
    run(&["check", "rules"], &paths("configs/prometheus/rules"));
    run(&["test", "rules"], &paths("configs/prometheus/tests"));
    let config = |name: &str| vec![workspace().join("configs/prometheus").join(name)];
    run(&["check", "config", "--syntax-only"], &config("prometheus.yaml"));
    run(&["check", "config", "--syntax-only"], &config("prometheus-tls.yaml"));
    run(&["check", "config", "--syntax-only", "--agent"], &config("agent.yaml"));
}

#[test]
fn misspelt_names_labels_and_rules_are_found() {
    let reference = "| `skycache_a` | counter | What | `reason`: x, y; `route` |\n| `skycache_b` | gauge | What |  |\n\
                     | `skycache_c` | histogram | What | `le`; `route` |\n";
    let known = Known::read(reference, "(\"transport_locked\", \"Help\")");
    let recorded = BTreeSet::from(["instance:skycache_a:rate5m".to_owned()]);
    let fine = "expr: rate(skycache_a_total{reason=~\"x|y\",route=\"/vod/\",instance=~\"$instance\"}[5m]) and skycache_b > 0\n\
                skycache_c_bucket{le=\"5.0\"} instance:skycache_a:rate5m skycache_transport_locked uid: skycache-box\n\
                rule_files: [../rules/skycache.recording.yaml]\n- name: skycache.up\n\\\"skycache_a_total{reason=\\\"y\\\"}\\\"";
    assert_eq!(known.faults(fine, &recorded), Vec::<String>::new());
    assert_eq!(selectors(fine).len(), 6);
    for (text, fault) in [
        ("rate(process_gone_total[5m])", "process_gone_total: not in docs/reference/metrics.md"),
        ("skycache_a", "skycache_a: not in docs/reference/metrics.md"),
        ("skycache_b_total", "skycache_b_total: not in docs/reference/metrics.md"),
        ("skycache_a_total{route=\"/\", reason=~\"x|z\"}", "skycache_a_total: reason is never z"),
        ("skycache_a_total{reason!=\"z\"}", "skycache_a_total: reason is never z"),
        ("site:skycache_a:rate5m", "site:skycache_a:rate5m: no recording rule has this name"),
    ] {
        assert_eq!(known.faults(text, &recorded), [fault], "{text}");
    }
}
