//! `skycached check`: every mistake in the configuration, and every fault of this machine and its network that would
//! prevent the daemon from working, each with its fix.
//!
//! `host.rs` checks disk, ports, limits and clock; `origins.rs` origins and parents; `network.rs` interfaces, memberships and
//! where packets arrive; `transport.rs` transport streams; `firmware.rs` the requirements of updates. Nothing is changed: files
//! and sockets that are opened for a check are closed again.

mod firmware;
mod host;
mod network;
mod origins;
mod transport;

use std::time::Duration;

pub use carousel::config::finding::{Finding, Report, Severity};
use serde_json::{Value, json};

use crate::config::Config;

/// The JSON document of a report.
pub fn to_json(report: &Report) -> Value {
    json!({ "schema": 1, "healthy": report.is_healthy(), "findings": report.0 })
}

/// Runs all checks, listening for packets for `listen`. `is_running`: a daemon with this configuration is, so that its
/// ports and cache are taken by right; `is_deep`: every object of the cache is read.
pub fn examine(config: &Config, is_running: bool, is_deep: bool, listen: Duration) -> Report {
    let mut findings = host::examine(config, is_running, is_deep);
    findings.extend(firmware::examine(config));
    findings.extend(origins::examine(config));
    if config.receive.multicast {
        findings.extend(network::examine(config, listen));
    }
    findings.extend(transport::examine(config, is_running, listen));
    Report::new(findings)
}
