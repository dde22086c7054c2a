//! Test of the use of clocks: which files of the programs ask the system for the time, and why.
//!
//! State machines take time as an argument, and code that must run in virtual time reads a `Clocks`. The files below ask the
//! system themselves; an unlisted file that does, or a listed one that does not, fails the test.

use std::collections::BTreeSet;
use std::path::Path;

use crate::floors::shipped_sources;
use crate::workspace;

/// Why a file asks for the time itself.
#[derive(Debug)]
enum Why {
    /// It is the clock of the program.
    Clock,
    /// The deadline of a timer of tokio, which has the clock of its runtime: a test pauses that.
    Timer,
    /// The duration of something is measured for a log, a metric or a trace, and decides nothing.
    Measurement,
    /// Times of files, or dates of received packets.
    Dates,
    /// It decides by the system's time and cannot run in virtual time yet.
    Debt,
}

const ASKING: [(&str, Why); 21] = [
    ("daemon/src/clock.rs", Why::Clock),
    ("daemon/src/http/access.rs", Why::Debt),
    ("daemon/src/http/answer.rs", Why::Measurement),
    ("daemon/src/http/connection.rs", Why::Timer),
    ("daemon/src/http/measure.rs", Why::Measurement),
    ("daemon/src/http/reload.rs", Why::Timer),
    ("daemon/src/http/serve.rs", Why::Timer),
    ("daemon/src/http/streams.rs", Why::Timer),
    ("daemon/src/http/tail.rs", Why::Timer),
    ("daemon/src/origin/recovery.rs", Why::Timer),
    ("daemon/src/origin/watch.rs", Why::Timer),
    ("daemon/src/traces/live.rs", Why::Measurement),
    ("daemon/src/waiting.rs", Why::Timer),
    ("headend/src/clock.rs", Why::Clock),
    ("headend/src/inspect/source.rs", Why::Dates),
    ("headend/src/pull/events/looks.rs", Why::Timer),
    ("headend/src/pull/events/mod.rs", Why::Timer),
    ("headend/src/pull/events/reader.rs", Why::Timer),
    ("headend/src/pull/mod.rs", Why::Timer),
    ("headend/src/pull/s3/mod.rs", Why::Timer),
    ("headend/src/watch.rs", Why::Debt),
];

#[test]
fn files_that_ask_the_system_for_the_time_are_named() {
    let mut asking = BTreeSet::new();
    for program in ["daemon", "headend"] {
        let sources = shipped_sources(&workspace().join(program).join("src"));
        assert!(sources.len() > 50, "{program}: no sources found");
        // Tests that `#[path]` names lie beside what they test.
        let is_test =
            |path: &Path| path.file_stem().is_some_and(|it| it.to_string_lossy().ends_with("_tests"));
        for (path, code) in sources.into_iter().filter(|(path, _)| !is_test(path)) {
            if code.contains("Instant::now()") || code.contains("SystemTime::now()") {
                asking.insert(path.strip_prefix(workspace()).unwrap().display().to_string());
            }
        }
    }
    let named: BTreeSet<String> = ASKING.iter().map(|(path, _)| (*path).to_owned()).collect();
    let new: Vec<_> = asking.difference(&named).collect();
    assert!(
        new.is_empty(),
        "{new:?}: take time as an argument or from `clock`, or name them with the reason"
    );
    let gone: Vec<_> = named.difference(&asking).collect();
    assert!(gone.is_empty(), "{gone:?} ask no more: take them from the list");
}
