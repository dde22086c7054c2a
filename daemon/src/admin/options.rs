//! Options of the operators' interface: `[admin]` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use carousel::config::{Mistake, one_or_many};
use serde::{Deserialize, Serialize};

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket of the admin interface. Processes that may open it may do everything.
    pub socket: PathBuf,
    /// Permissions of the socket, in octal.
    pub socket_mode: String,
    /// Group of the socket: a name of `/etc/group`, or a number. Empty: that of the daemon.
    pub socket_group: String,
    /// TCP listener of the admin interface. Empty: none. Without a credential it answers `GET /metrics`, `/healthz` and `/readyz`
    /// on loopback, and nothing elsewhere.
    #[serde(deserialize_with = "one_or_many::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Host names, beside `localhost` and addresses, by which requests without a credential may name the listener.
    pub names: Vec<String>,
    /// File with the token that TCP clients send as `Authorization: Bearer TOKEN`: at least 16 characters. Read again when it
    /// changes.
    pub token_file: Option<PathBuf>,
    /// The same as a credential of the service manager (systemd `LoadCredential=NAME:PATH`): its name.
    pub token_credential: Option<String>,
    /// TLS of the TCP listener.
    pub tls: Option<AdminTls>,
}

/// `[admin.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminTls {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authorities of client certificates, PEM. A client with one of theirs needs no token, and one without is refused.
    pub client_ca: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/skycache/admin.sock"),
            socket_mode: "0660".to_owned(),
            socket_group: String::new(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8081))],
            names: Vec::new(),
            token_file: None,
            token_credential: None,
            tls: None,
        }
    }
}

impl Admin {
    /// Permissions of the socket.
    pub(super) fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket_mode, 8).ok().filter(|mode| *mode <= 0o777)
    }

    /// Every mistake.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        let wants_certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let has_credential =
            self.token_file.is_some() || self.token_credential.is_some() || wants_certificates;
        for listen in self.listen.iter().filter(|listen| !has_credential && !listen.ip().is_loopback()) {
            let fix = "keep it on 127.0.0.1 or ::1, or give token_file, token_credential, or tls.client_ca";
            wrong("admin.listen", format!("{listen} would be open to the network"), fix);
        }
        match self.mode() {
            None => wrong(
                "admin.socket_mode",
                format!("{:?} is not a mode", self.socket_mode),
                "give it in octal, such as \"0660\"",
            ),
            Some(mode) if mode & 0o002 != 0 => wrong(
                "admin.socket_mode",
                format!("{:?} lets everybody on the machine purge", self.socket_mode),
                "give \"0660\", and the group with socket_group",
            ),
            Some(_) => {}
        }
        if self.token_file.is_some() && self.token_credential.is_some() {
            let what = "there is token_file too".to_owned();
            wrong("admin.token_credential", what, "remove one of them");
        }
        if self.token_credential.as_ref().is_some_and(|name| name.is_empty() || name.contains('/')) {
            let what = "that is not a name of a credential".to_owned();
            wrong("admin.token_credential", what, "give the NAME of LoadCredential=NAME:PATH");
        }
        all
    }
}
