//! `skycached check`: every mistake in the configuration, and everything about this machine and its network that would
//! keep the daemon from its work, each with its fix.
//!
//! `host.rs` looks at disk, ports, limits and clock; `network.rs` at interfaces, membership and where packets arrive;
//! `transport.rs` at transport streams.
//! Nothing is changed: what is opened to try it is closed again.

mod host;
mod network;
mod transport;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Config;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It works, but not as well as it could, or not always.
    Warning,
    /// It does not work.
    Error,
}

impl Severity {
    /// Name in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `disk`, `port`, `group 239.1.2.3:5000`.
    pub about: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is the case.
    pub what: String,
    /// What to do; empty if nothing.
    pub fix: String,
}

impl Finding {
    fn new(
        severity: Severity,
        about: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { about: about.into(), severity, what: what.into(), fix: fix.into() }
    }

    fn fine(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Fine, about, what, "")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}: {}", self.severity.as_str(), self.about, self.what)?;
        if !self.fix.is_empty() {
            write!(f, "\n         fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// Everything found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Whether nothing keeps the daemon from its work.
    pub fn is_healthy(&self) -> bool {
        self.0.iter().all(|finding| finding.severity < Severity::Error)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .0
            .iter()
            .map(|it| json!({ "about": it.about, "severity": it.severity.as_str(), "what": it.what, "mend": it.fix }))
            .collect();
        json!({ "schema": 1, "healthy": self.is_healthy(), "findings": findings })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            writeln!(f, "{finding}")?;
        }
        let count = |severity| self.0.iter().filter(|it| it.severity == severity).count();
        write!(f, "{} errors, {} warnings", count(Severity::Error), count(Severity::Warning))
    }
}

/// Looks at everything, listening for packets for `listen`. `is_running`: a daemon with this configuration is, so that
/// its ports and cache are taken by right; `is_deep`: every object of the cache is read.
pub fn examine(config: &Config, is_running: bool, is_deep: bool, listen: Duration) -> Report {
    let mut findings = host::examine(config, is_running, is_deep);
    if config.receive.multicast {
        findings.extend(network::examine(config, listen));
    }
    findings.extend(transport::examine(config, is_running, listen));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Report(findings)
}
