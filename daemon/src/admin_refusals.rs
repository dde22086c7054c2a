//! Requests that the admin interface has refused, by reason: counted there, read by status and metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

carousel::reasons! {
    /// Why a request at the admin interface is refused.
    pub enum AdminRefusal in "admin_refused" by "reason" {
        /// It comes without the token or certificate that it needs, or with a wrong one.
        Credential = "credential",
        /// It is a command, or reads more than metrics and health, and comes by TCP without a credential.
        ReadOnly = "read_only",
        /// Its `Host` is no name of the listener: a name that leads here from elsewhere (DNS rebinding).
        Host = "host",
        /// A web page has sent it: `Origin` or `Sec-Fetch-Site` say so.
        Page = "page",
        /// Its client sends more than it may.
        Rate = "rate",
        /// Too many connections are open.
        Places = "places",
    }
}

/// Requests refused, in the order of [`AdminRefusal::ALL`].
#[derive(Debug, Default)]
pub struct AdminStats([AtomicU64; AdminRefusal::ALL.len()]);

impl AdminStats {
    /// One more.
    pub(crate) fn refuse(&self, why: AdminRefusal) {
        self.0[why as usize].fetch_add(1, Relaxed);
    }

    /// All of them.
    pub fn refused(&self) -> [u64; AdminRefusal::ALL.len()] {
        std::array::from_fn(|at| self.0[at].load(Relaxed))
    }
}
