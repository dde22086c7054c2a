//! Requests at the admin interface.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use carousel::time::Instant;
use http::request::Parts;
use skycache::admin::Admin;
use skycache::admin::probe::{Probe, purges};

use crate::input::Input;

/// The token of the target's interface.
pub(crate) const TOKEN: &str = "fuzz-token-0123456789";

/// As `daemon/src/admin/guard.rs` has it: at once, and each second from then on.
const BURST: f64 = 1000.0;
const PER_SECOND: f64 = 100.0;

fn with_token() -> Probe {
    // The guard keeps the token that it has read, also when its file is gone.
    let path = std::env::temp_dir().join(format!(
        "skycache-fuzz-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let written = std::fs::write(&path, TOKEN);
    let probe = Probe::new(&Admin { token_file: Some(path.clone()), ..Admin::default() });
    let _ = std::fs::remove_file(&path);
    probe.unwrap_or_else(|err| panic!("{err}, {written:?}"))
}

/// A line of method and target, lines of fields.
fn head(bytes: &[u8]) -> Option<Parts> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        request = request.header(name.trim(), value.trim());
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// Sequences of requests of several clients: none is let in without the right, and none more often than its rate.
pub(super) fn admin(bytes: &[u8]) {
    std::thread_local! {
        static PROBES: [Probe; 2] = [with_token(), Probe::new(&Admin::default()).unwrap_or_else(|err| panic!("{err}"))];
    }
    let clients: [(IpAddr, bool); 4] =
        [[127, 0, 0, 1], [10, 0, 0, 9], [192, 0, 2, 1], [127, 0, 0, 2]].map(|it| (it.into(), it[0] == 127));
    PROBES.with(|probes| {
        // Guards live on: every input begins long after the one before.
        let begin = next_begin();
        let mut ms = 0_u64;
        let mut admitted: BTreeMap<(IpAddr, bool), f64> = BTreeMap::new();
        let mut input = Input::new(bytes);
        while let Some((kind, bytes)) = input.record() {
            let mut input = Input::new(bytes);
            let client = clients[usize::from(input.byte() % 4)];
            ms += u64::from(input.short());
            let Some(head) = head(input.rest()) else { continue };
            let has_token = kind & 1 == 0;
            let probe = &probes[usize::from(!has_token)];
            let purge = purges(&head);
            if let Some((true, is_sidecar)) = purge {
                assert!(head.method != http::Method::GET || is_sidecar, "GET purges nothing: {head:?}");
            }
            let now = begin + Duration::from_millis(ms);
            let Ok(by) = probe.admit(client, &head, now) else { continue };
            let count = admitted.entry((client.0, has_token)).or_default();
            *count += 1.0;
            assert!(*count <= BURST + PER_SECOND * ms as f64 / 1000.0, "{count} requests in {ms} ms");
            let field = |name: &str| head.headers.get(name).and_then(|it| it.to_str().ok());
            let origin = field("origin").map(|it| it.split_once("://").map_or(it, |(_, host)| host));
            assert!(origin.is_none() || origin == field("host"), "another page is let in: {head:?}");
            match by {
                "token" => {
                    let given = field("authorization").unwrap_or_default();
                    assert!(has_token && given.ends_with(TOKEN), "{given:?} is not a token");
                }
                "loopback" => {
                    assert!(client.1, "{client:?} is elsewhere");
                    assert!(matches!(head.uri.path(), "/metrics" | "/healthz" | "/readyz"), "{head:?}");
                    assert!(matches!(head.method, http::Method::GET | http::Method::HEAD), "{head:?}");
                    assert!(!matches!(purge, Some((true, _))), "{head:?}");
                }
                other => panic!("no right is called {other}"),
            }
        }
    });
}

/// An instant by which every client's allowance is full again.
fn next_begin() -> Instant {
    use std::sync::atomic::{AtomicU64, Ordering};
    static RUNS: AtomicU64 = AtomicU64::new(1);
    Instant::from_nanos(RUNS.fetch_add(1, Ordering::Relaxed) * 10_000_000_000_000)
}
