//! `[metrics]`: a listener for Prometheus.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[metrics]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address and port at which `send` answers `GET /metrics` and `/healthz`, without a credential.
    pub listen: SocketAddr,
}
