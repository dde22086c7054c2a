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
    /// The findings, the worst first, and each once: several tables may name one file.
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let mut once: Vec<Finding> = Vec::with_capacity(findings.len());
        for finding in findings {
            if !once.contains(&finding) {
                once.push(finding);
            }
        }
        Self(once)
    }

    /// Whether nothing prevents the program from working.
    pub fn is_healthy(&self) -> bool {
        self.0.iter().all(|finding| finding.severity < Severity::Error)
    }

    /// Lines on the configuration `file`: the findings, behind the word that there are no mistakes where none is an error.
    pub fn to_text(&self, file: &str, has_colours: bool) -> String {
        let verdict = if self.is_healthy() { format!("{file}: no mistakes\n") } else { String::new() };
        if has_colours { format!("{verdict}{self:#}\n") } else { format!("{verdict}{self}\n") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_that_there_are_no_mistakes_only_where_there_are_none() {
        let (error, warning) = (
            Finding::new(Severity::Error, "port", "taken", "choose another"),
            Finding::new(Severity::Warning, "certificate c.pem", "2 days left", "renew it"),
        );
        // Two tables may name one certificate.
        let report = Report::new(vec![warning.clone(), Finding::fine("clock", "set"), warning.clone()]);
        assert_eq!(
            report.to_text("a.toml", false),
            "a.toml: no mistakes\nwarning  certificate c.pem: 2 days left\n         fix: renew it\n\
             fine     clock: set\n0 errors, 1 warning\n"
        );
        let text = Report::new(vec![warning, error]).to_text("a.toml", true);
        assert!(text.starts_with("\x1b[31merror") && !text.contains("no mistakes"), "{text}");
    }
}
