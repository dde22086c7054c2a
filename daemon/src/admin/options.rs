//! Options of the operators' interface: `[admin]` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use carousel::config::one_or_many;
use serde::{Deserialize, Serialize};

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket of the admin interface.
    pub socket: PathBuf,
    /// TCP listener of the admin interface; keep it on loopback. Empty: none.
    #[serde(deserialize_with = "one_or_many::addresses")]
    pub listen: Vec<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/skycache/admin.sock"),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8081))],
        }
    }
}
