//! The same interface without the feature `otlp`: nothing is traced, and the compiler removes the calls.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Uri};

use super::{Fault, MISSING, TraceStats, Traces};

/// There is none.
#[derive(Debug)]
pub enum Tracer {}

/// Place of spans: nowhere.
#[derive(Debug, Clone, Default)]
pub struct Trace(());

/// Not recorded.
#[derive(Debug, Default)]
pub struct Span(());

/// Nothing is sent.
#[derive(Debug)]
pub enum ExportTask {}

impl ExportTask {
    /// Never called.
    pub async fn end(self) {
        match self {}
    }
}

/// Refuses.
///
/// # Errors
/// Always: the program is built without it.
pub fn start(_: &Traces, _: &Arc<TraceStats>) -> Result<(Arc<Tracer>, ExportTask), String> {
    Err(MISSING.to_owned())
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn check(_: &Traces) -> Result<(), Fault> {
    Err(Fault { about: "[traces]".to_owned(), what: MISSING.to_owned(), fix: String::new() })
}

#[allow(missing_docs, clippy::missing_const_for_fn, clippy::unused_self)]
impl Tracer {
    pub fn is_trusted(&self, _: IpAddr) -> bool {
        match *self {}
    }

    pub fn begin(self: &Arc<Self>, _: &HeaderMap, _: IpAddr, _: Instant) -> Span {
        match **self {}
    }

    pub fn continued(self: &Arc<Self>, _: &HeaderMap, _: IpAddr, _: Instant) -> Span {
        match **self {}
    }
}

#[allow(missing_docs, clippy::missing_const_for_fn, clippy::unused_self)]
impl Trace {
    pub fn is_some(&self) -> bool {
        false
    }

    #[must_use]
    pub fn because(&self, _: &'static str) -> Self {
        Self(())
    }

    pub fn span(&self, _: &'static str) -> Span {
        Span(())
    }

    pub fn client(&self, _: &Method, _: &Uri) -> Span {
        Span(())
    }

    pub fn note(&self, _: &'static str, _: &'static str) {}

    pub fn joins(&self, _: &Self) {}
}

#[allow(missing_docs, clippy::missing_const_for_fn, clippy::unused_self)]
impl Span {
    pub fn is_some(&self) -> bool {
        false
    }

    pub fn trace(&self) -> Trace {
        Trace(())
    }

    pub fn rename(&mut self, _: impl FnOnce() -> String) {}

    pub fn text(&mut self, _: &'static str, _: impl FnOnce() -> String) {}

    pub fn number(&mut self, _: &'static str, _: i64) {}

    pub fn fail(&mut self, _: impl FnOnce() -> String) {}

    pub fn inject(&self, _: &mut HeaderMap) {}

    pub fn forget_unless_used(&mut self) {}

    pub fn end(self) {}
}
