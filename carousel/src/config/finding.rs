//! Findings of `skycached check` and `headend check` about a machine and its network, each with its remedy.

use std::fmt;

use serde::Serialize;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Subject of the check.
    pub about: String,
    /// Severity.
    pub severity: Severity,
    /// Fact that was found.
    pub what: String,
    /// Fix; empty if there is none.
    pub fix: String,
}

impl Finding {
    /// A finding with what to do.
    pub fn new(
        severity: Severity,
        about: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { about: about.into(), severity, what: what.into(), fix: fix.into() }
    }

    /// A finding from a message of one line that ends with its fix, behind the last semicolon.
    pub fn of_message(severity: Severity, about: impl Into<String>, message: &str) -> Self {
        let (what, fix) = message.rsplit_once("; ").unwrap_or((message, ""));
        Self::new(severity, about, what, fix)
    }

    /// A finding without a fault.
    pub fn fine(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Fine, about, what, "")
    }
}

/// The alternate form has colours.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (colour, end) = match self.severity {
            _ if !f.alternate() => ("", ""),
            Severity::Fine => ("\x1b[32m", "\x1b[0m"),
            Severity::Warning => ("\x1b[33m", "\x1b[0m"),
            Severity::Error => ("\x1b[31m", "\x1b[0m"),
        };
        write!(f, "{colour}{:<8}{end} {}: {}", self.severity.as_str(), self.about, self.what)?;
        if !self.fix.is_empty() {
            write!(f, "\n         fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// The findings, the worst first.
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Self(findings)
    }

    /// Whether nothing prevents the program from working.
    pub fn is_healthy(&self) -> bool {
        self.0.iter().all(|finding| finding.severity < Severity::Error)
    }
}

/// The alternate form has colours.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            if f.alternate() { writeln!(f, "{finding:#}")? } else { writeln!(f, "{finding}")? }
        }
        let count = |severity| self.0.iter().filter(|it| it.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(f, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings))
    }
}
