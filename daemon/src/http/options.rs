//! Options of the players' listener: `[http]` of the configuration.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use carousel::config::url::not_quite_ipv4;
use carousel::config::{Mistake, one_or_many};
use carousel::name::ObjectKey;
use serde::{Deserialize, Serialize};

use crate::origin::{FillOptions, MAX_FILLS, OriginTimeouts, is_own};

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Players' listener: an address with its port, or a list.
    #[serde(deserialize_with = "one_or_many::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Name of the box on the page.
    pub name: String,
    /// Names by which the page may be asked for without TLS, beside addresses, names without a dot, the machine's own, and those
    /// below `local`, `lan`, `home`, `home.arpa` and `internal`: `box.example.com`, `*.example.com`.
    pub names: Vec<String>,
    /// The page for viewers at `/`. `false`: a PoP or a shield has none, and `/` is a name like others, which a route may have.
    pub page: bool,
    /// Connections at a time; more are closed at once. One address gets at most three quarters of them, and always leaves
    /// places for others.
    pub max_connections: usize,
    /// Misses at a time for which origins are asked and have not begun to answer; more are answered with 503. One address gets at
    /// most three quarters of them, and always leaves places for others.
    pub max_fills: usize,
    /// Time for which a player waits for an object that is on its way and does not come nearer.
    pub wait_ms: u64,
    /// Fetch unknown objects from origins: those that `[[origin]]`, `[[route]]` or a received configuration names.
    pub read_through: bool,
    /// Segments that are fetched with a missed one: those that its manifest lists next, or that the player names (CMCD); 0:
    /// none.
    pub prefetch_segments: usize,
    /// An object that is longer is not prefetched.
    pub prefetch_object_bytes: u64,
    /// Origins that what comes over the air, or a redirect, may lead to although they are not on ports 80 and 443 of the public
    /// internet: hosts (`cdn.lan`, `cdn.lan:8080`, `*.cdn.lan`), addresses and networks (`10.0.0.0/8`, `10.0.0.0/8:*`). Those of `[[origin]]`
    /// and `[[route]]` need no entry.
    pub allow_origins: Vec<String>,
    /// Time that origins may take with requests of players.
    pub origin_timeouts: OriginTimeouts,
    /// Time that origins may take with requests of the box itself (repair): to connect, to begin, and between bytes.
    pub origin_timeout_ms: u64,
    /// Certificates that origins and parents may have beside those of the system's authorities: a PEM file with authorities, and with
    /// certificates of servers themselves. One that says `CA:TRUE`, as `openssl req -x509` makes them, is an authority for all origins,
    /// whatever their names; one without (`-addext basicConstraints=critical,CA:FALSE`) counts for its own names alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_ca: Option<PathBuf>,
    /// Threads that serve players; 0: one for each core.
    pub workers: usize,
    /// HTTPS, with HTTP/2 and HTTP/3.
    pub tls: Option<Tls>,
    /// One line for each response.
    pub access_log: Option<AccessLog>,
    /// Rendezvous service: players are sent to the box and back.
    pub rendezvous: Option<Rendezvous>,
    /// Content steering between satellite and CDN.
    pub steering: Option<Steering>,
    /// A request whose response's head took longer is logged; 0: none is.
    pub slow_request_ms: u64,
    /// Each response says in `Server-Timing` how it was served and how long its head took. Requests that have the field
    /// themselves get it anyway.
    pub server_timing: bool,
    /// Freshness of media segments that the origin says nothing about. A body that has neither length nor validator and lasts
    /// for 2 s is taken for a broadcast, unless a playlist lists it, and is not kept; nor is a body that ends with its
    /// connection.
    pub segment_ttl_s: u32,
    /// Freshness of manifests that the origin says nothing about and that are not live.
    pub manifest_ttl_s: u32,
    /// Freshness of an origin's 404 or 410 that says nothing about it; of media at most a quarter of a segment.
    pub negative_ttl_s: u32,
    /// Time that responses may take to end when the daemon stops.
    pub drain_ms: u64,
    /// Time from SIGTERM until the listeners close, for load balancers and edges to see that `/readyz`, and `/-/health`
    /// on the players' port, answer 503 with `draining`. New
    /// players are served meanwhile; a second signal, and SIGINT, end it at once.
    pub shutdown_delay_ms: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            name: "Skycache".to_owned(),
            names: Vec::new(),
            page: true,
            max_connections: 20_000,
            max_fills: MAX_FILLS,
            wait_ms: 10_000,
            read_through: true,
            prefetch_segments: 3,
            prefetch_object_bytes: 16 << 20,
            allow_origins: Vec::new(),
            origin_timeouts: OriginTimeouts::default(),
            origin_timeout_ms: 5000,
            origin_ca: None,
            workers: 0,
            tls: None,
            access_log: None,
            rendezvous: None,
            steering: None,
            slow_request_ms: 0,
            server_timing: false,
            segment_ttl_s: 3600,
            manifest_ttl_s: 60,
            negative_ttl_s: 5,
            drain_ms: 10_000,
            shutdown_delay_ms: 0,
        }
    }
}

impl Http {
    /// Freshness of responses whose origin gives none, and limits.
    pub const fn fill_options(&self) -> FillOptions {
        FillOptions {
            segment_ttl_s: self.segment_ttl_s,
            manifest_ttl_s: self.manifest_ttl_s,
            negative_ttl_s: self.negative_ttl_s,
            prefetch_object_bytes: self.prefetch_object_bytes,
            max_fills: self.max_fills,
        }
    }

    /// Whether another configuration is the same but for which origins are asked and the time that they have, which is taken
    /// over at once.
    pub(crate) fn differs_in_origins_only(&self, other: &Self) -> bool {
        let Self { origin_timeouts, origin_timeout_ms, .. } = *self;
        let allow_origins = self.allow_origins.clone();
        *self == Self { origin_timeouts, origin_timeout_ms, allow_origins, ..other.clone() }
    }

    /// Threads to start.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}

/// `[http.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Listener: an address with its port, or a list.
    #[serde(deserialize_with = "one_or_many::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Certificate chain, PEM. Read again when it changes.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// HTTP/3 too, on the UDP port of the same number. Needs a program that was built with it.
    #[serde(default = "yes")]
    pub http3: bool,
}

const fn yes() -> bool {
    true
}

/// `[http.rendezvous]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rendezvous {
    /// Hosts of the content, to which players are sent when the box cannot serve it, and to no others: `cdn.example.com` (by
    /// HTTPS), `http://cdn.lan:8080`. The first one is that of requests that name none.
    pub hosts: Vec<String>,
    /// A session identifier begins the path of what players ask for below `/-/mabr/`.
    #[serde(default = "yes")]
    pub session_ids: bool,
    /// `MGstatus=0` is added to URLs by which players are sent back, so that they are not sent here again. False where
    /// signatures of the content's host are over the query.
    #[serde(default = "yes")]
    pub mark_returned: bool,
}

/// `[http.steering]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steering {
    /// `PATHWAY-ID` (HLS) or `serviceLocation` (DASH) of URLs that lead to the box.
    pub satellite: String,
    /// The same for URLs that lead to the CDN, which are not mapped to the box.
    pub cdn: String,
    /// Time after which players ask again.
    pub ttl_s: u32,
}

impl Default for Steering {
    fn default() -> Self {
        Self { satellite: "satellite".to_owned(), cdn: "cdn".to_owned(), ttl_s: 10 }
    }
}

impl Http {
    /// Mistakes in `[http.rendezvous]` and `[http.steering]`.
    pub(crate) fn rendezvous_mistakes(&self, listeners: &[SocketAddr]) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: &str, fix: &str| all.push(Mistake::of_value(key, what, fix));
        if let Some(rendezvous) = &self.rendezvous {
            if rendezvous.hosts.is_empty() {
                let what = "players cannot be sent anywhere when the box cannot serve";
                wrong(
                    "http.rendezvous.hosts",
                    what,
                    "name the host of the content: hosts = [\"cdn.example.com\"]",
                );
            }
            for (at, written) in rendezvous.hosts.iter().enumerate() {
                let others = &rendezvous.hosts[..at];
                if let Err((what, fix)) = check_host(written, others, listeners) {
                    wrong("http.rendezvous.hosts", &what, &fix);
                }
            }
        }
        if let Some(steering) = &self.steering {
            let is_plain = |it: &str| {
                !it.is_empty()
                    && it.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_'))
            };
            if !is_plain(&steering.satellite)
                || !is_plain(&steering.cdn)
                || steering.satellite == steering.cdn
            {
                let what = format!("{:?} and {:?}", steering.satellite, steering.cdn);
                wrong("http.steering", &what, "two names of letters, digits, `.`, `-` and `_` are wanted");
            }
            if !(1..=3600).contains(&steering.ttl_s) {
                let what = format!("{} s", steering.ttl_s);
                wrong("http.steering.ttl_s", &what, "from 1 s to an hour; 10 s is usual");
            }
        }
        all
    }
}

/// Scheme and authority of a host as it is written; HTTPS unless it says otherwise.
pub(super) fn scheme_and_authority(written: &str) -> (&str, &str) {
    written.split_once("://").unwrap_or(("https", written))
}

/// Checks a host to which players are sent, as it is `written`; `others` are those before it.
///
/// # Errors
/// The fault, and its fix.
fn check_host(written: &str, others: &[String], listeners: &[SocketAddr]) -> Result<(), (String, String)> {
    let (scheme, authority) = scheme_and_authority(written);
    let as_written = |authority: &str| written.replacen(scheme_and_authority(written).1, authority, 1);
    let err = |what: String, fix: &str| Err((what, fix.to_owned()));
    if authority.contains('*') {
        let what = format!("{written:?} is a pattern, and players are sent to hosts");
        return err(what, "name each host: cdn.example.com");
    }
    if let Some((host, _)) = authority.split_once('/').filter(|(host, _)| is_authority(host)) {
        let what = format!("{written:?} has a path, and is to be a host");
        return err(what, &format!("give {}", as_written(host)));
    }
    if !authority.is_ascii()
        && let Ok(url) = carousel::name::resolve("", &format!("http://{authority}/"))
    {
        let ascii = url.trim_start_matches("http://").trim_end_matches('/');
        return err(format!("{written:?} is not in ASCII"), &format!("give {}", as_written(ascii)));
    }
    if let Some(host) = not_quite_ipv4(authority) {
        return err(format!("{host:?} is not an address"), "four numbers from 0 to 255 are one");
    }
    if !matches!(scheme, "http" | "https") || !is_authority(authority) {
        return err(format!("{written:?} is not a host"), "give cdn.example.com, or http://cdn.lan:8080");
    }
    let name = |it: &str| ObjectKey::from_name(&format!("http://{}/", scheme_and_authority(it).1), None).ok();
    if let Some(other) = others.iter().find(|it| name(it) == name(written)) {
        let what = if other == written {
            format!("{written:?} is there twice")
        } else {
            format!("{written:?} is the host of {other:?}")
        };
        return err(what, "remove one: requests name the host alone");
    }
    if is_own(&format!("{scheme}://{authority}/"), listeners) {
        let what = format!("{written:?} is this box, which would send players to itself");
        return err(what, "give the host that the content comes from");
    }
    Ok(())
}

/// Whether a text is a host, with or without a port: a name of the DNS, or an address, an IPv6 one in brackets (RFC 3986 section
/// 3.2.2).
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside brackets is of the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_label = |label: &str| {
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.split('.').all(is_label),
    };
    let is_port =
        |port: &str| port.bytes().all(|it| it.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|it| it > 0);
    is_host && port.is_none_or(is_port)
}

/// `[http.access_log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// The file; it is opened again after it was moved away.
    pub path: PathBuf,
    /// Format of a line.
    #[serde(default)]
    pub format: LogFormat,
}

/// Forms of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// As Apache and nginx write it.
    #[default]
    Combined,
    /// One JSON object a line, with how it was served, times and CMCD.
    Json,
}
