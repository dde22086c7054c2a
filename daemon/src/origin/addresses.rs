//! Address policy of requests to origins: permitted hosts, addresses and ports.
//!
//! URLs come from the configuration file, from the air, and from redirects. Only the first kind is trusted. Any other is
//! checked at each connection, by the addresses that its host resolves to at that time; the connection then goes to a checked
//! address, so a name that resolves differently the next time (DNS rebinding) gains nothing. Hosts named in the configuration
//! stay reachable at any address, including loopback and private networks.
//!
//! | host | addresses | ports |
//! |---|---|---|
//! | of `[[origin]] url`, `[[route]] base` | any | that of the URL |
//! | of `[http] allow_origins` | any | the given one, 80, 443 |
//! | any other | global unicast of other machines, and networks of `allow_origins` | 80, 443, and those of `allow_origins` |
//!
//! A connection to a listener of this process is a loop and is always refused.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use carousel::reason::Counts;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::lock;
use super::options::{Origin, Route};

carousel::reasons! {
    /// Why an address is not asked.
    pub enum OriginRefusal in "origin_refused" by "reason" {
        /// The port is neither 80 nor 443, and the configuration does not name it.
        Port = "port",
        /// The address is a loopback address.
        Loopback = "loopback",
        /// The address is link-local; metadata services of clouds have such.
        LinkLocal = "link_local",
        /// The address is private: RFC 1918, RFC 6598, unique local, site-local.
        Private = "private",
        /// The address is a multicast or broadcast address.
        Multicast = "multicast",
        /// The address is unspecified: 0.0.0.0/8 or ::.
        Unspecified = "unspecified",
        /// The address is reserved: for protocols, benchmarks, or the future.
        Reserved = "reserved",
        /// The address is one of this machine.
        OwnAddress = "own_address",
        /// The address and port are those of a listener of this process.
        Loop = "loop",
    }
}

/// Ports that need no rule.
const WEB_PORTS: [u16; 2] = [80, 443];

/// Ports that a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// The port of a URL; for port 80 also 443, to which origins redirect.
    Of(u16),
    Web,
    WebAnd(u16),
    All,
}

impl Ports {
    fn fit(self, port: u16) -> bool {
        match self {
            Self::Of(80) => WEB_PORTS.contains(&port),
            Self::Of(own) => own == port,
            _ => self.fit_beyond_web(port) || WEB_PORTS.contains(&port),
        }
    }

    fn fit_beyond_web(self, port: u16) -> bool {
        self == Self::All || self == Self::WebAnd(port)
    }

    fn read(text: &str) -> Option<Self> {
        if text == "*" { Some(Self::All) } else { text.parse().ok().map(Self::WebAnd) }
    }
}

/// Value of `[http] allow_origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedOrigin {
    /// A host in lower case; with `*.`, all hosts below it.
    Host { name: String, with_subdomains: bool, ports: Ports },
    /// A network.
    Network { address: IpAddr, bits: u8, ports: Ports },
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is neither a host (cdn.lan, *.cdn.lan:8080) nor a network (10.0.0.0/8, 10.0.0.0/8:*)"
            )
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            let (address, ports) = (address.ip(), Ports::WebAnd(address.port()));
            return Ok(Self::Network { address, bits: bits_of(address), ports });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network { address, bits: bits_of(address), ports: Ports::Web });
        }
        if let Some((address, rest)) = text.split_once('/') {
            let (bits, ports) = match rest.split_once(':') {
                Some((bits, ports)) => (bits, Ports::read(ports).ok_or_else(wrong)?),
                None => (rest, Ports::Web),
            };
            let address: IpAddr =
                address.trim_matches(|it| matches!(it, '[' | ']')).parse().map_err(|_| wrong())?;
            let bits: u8 = bits.parse().map_err(|_| wrong())?;
            if bits > bits_of(address) {
                return Err(wrong());
            }
            return Ok(Self::Network { address, bits, ports });
        }
        let (name, ports) = match text.rsplit_once(':') {
            Some((name, ports)) => (name, Ports::read(ports).ok_or_else(wrong)?),
            None => (text, Ports::Web),
        };
        let (name, with_subdomains) = match name.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(wrong());
        }
        Ok(Self::Host { name: name.to_ascii_lowercase(), with_subdomains, ports })
    }
}

/// Bits of an address.
const fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Checks one entry of `[http] allow_origins`.
///
/// # Errors
/// One line about its mistake.
pub(super) fn check_allowed(text: &str) -> Result<(), String> {
    text.parse::<AllowedOrigin>().map(drop)
}

/// Whether the first `bits` of both are equal.
fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |one: u128, other: u128, width: u32| {
        let shift = width - u32::from(bits).min(width);
        one.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            same(u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

/// Addresses that the configuration names.
#[derive(Debug, Default)]
struct Rules {
    allowed: Vec<AllowedOrigin>,
    listeners: Vec<SocketAddr>,
}

impl Rules {
    /// Whether the configuration names this host with this port. Hosts, here and in the rules, are in lower case.
    fn names(&self, host: &str, port: u16) -> bool {
        self.allowed.iter().any(|rule| match rule {
            AllowedOrigin::Host { name, with_subdomains: false, ports } => name == host && ports.fit(port),
            AllowedOrigin::Host { name, with_subdomains: true, ports } => {
                host.strip_suffix(name.as_str()).is_some_and(|it| it.ends_with('.')) && ports.fit(port)
            }
            AllowedOrigin::Network { .. } => false,
        })
    }

    /// Whether a host without a rule may be requested on this port, if its address is permitted.
    fn may_have_port(&self, port: u16) -> bool {
        WEB_PORTS.contains(&port)
            || self.allowed.iter().any(
                |rule| matches!(rule, AllowedOrigin::Network { ports, .. } if ports.fit_beyond_web(port)),
            )
    }

    /// Reason to refuse this address of `host`.
    fn refusal(&self, is_named: bool, address: SocketAddr) -> Option<OriginRefusal> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if self.listeners.iter().any(|listener| reaches(*listener, ip, port)) {
            return Some(OriginRefusal::Loop);
        }
        if is_named {
            return None;
        }
        let networks: Vec<Ports> = self
            .allowed
            .iter()
            .filter_map(|rule| match rule {
                AllowedOrigin::Network { address, bits, ports } if is_within(ip, *address, *bits) => {
                    Some(*ports)
                }
                _ => None,
            })
            .collect();
        if !WEB_PORTS.contains(&port) && !networks.iter().any(|it| it.fit(port)) {
            return Some(OriginRefusal::Port);
        }
        if !networks.is_empty() {
            return None;
        }
        kind(ip).or_else(|| is_of_this_machine(ip).then_some(OriginRefusal::OwnAddress))
    }
}

/// Whether a connection to `ip` and `port` reaches a listener.
fn reaches(listener: SocketAddr, ip: IpAddr, port: u16) -> bool {
    let at = listener.ip().to_canonical();
    listener.port() == port
        && (at == ip
            || at.is_unspecified() && (ip.is_loopback() || ip.is_unspecified() || is_of_this_machine(ip)))
}

/// Whether an address belongs to this machine: the kernel chooses it as the source towards itself, or a socket can be bound to it
/// (a second address of an interface, all of 127.0.0.0/8) while foreign addresses cannot be bound (`ip_nonlocal_bind`). Sends
/// nothing.
pub(crate) fn is_of_this_machine(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    let may_be_another = || {
        let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
        let setting = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
        setting.map_or(true, |it| it.trim() != "0")
    };
    source().is_ok_and(|it| it.ip() == ip)
        || (!ip.is_multicast() && UdpSocket::bind((ip, 0)).is_ok() && !may_be_another())
}

/// Reason for which an address is not part of the public internet.
fn kind(ip: IpAddr) -> Option<OriginRefusal> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

const fn kind_v4(ip: Ipv4Addr) -> Option<OriginRefusal> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => OriginRefusal::Unspecified,
        (127, ..) => OriginRefusal::Loopback,
        (169, 254, _) => OriginRefusal::LinkLocal,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => OriginRefusal::Private,
        (224..=239, ..) | (255, 255, 255) => OriginRefusal::Multicast,
        (192, 0, 0) | (198, 18..=19, _) | (240..=255, ..) => OriginRefusal::Reserved,
        _ => return None,
    })
}

fn kind_v6(ip: Ipv6Addr) -> Option<OriginRefusal> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        _ if ip.is_unspecified() => Some(OriginRefusal::Unspecified),
        _ if ip.is_loopback() => Some(OriginRefusal::Loopback),
        (0xfe80..=0xfebf, _) => Some(OriginRefusal::LinkLocal),
        (0xfc00..=0xfdff | 0xfec0..=0xfeff, _) => Some(OriginRefusal::Private),
        (0xff00..=0xffff, _) => Some(OriginRefusal::Multicast),
        // Translated (RFC 6052) and tunnelled (RFC 3056) addresses lead to the IPv4 address in them.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => kind_v4(v4(g, h)),
        (0x2002, _) => kind_v4(v4(b, c)),
        // Locally translated (RFC 8215), Teredo, discard-only, IPv4-compatible.
        (0x64, 0xff9b) | (0x2001, 0) | (0x100, 0) | (0, 0) => Some(OriginRefusal::Reserved),
        _ => None,
    }
}

/// The policy of the current configuration.
#[derive(Debug, Default)]
pub struct AddressPolicy {
    rules: RwLock<Arc<Rules>>,
    refused: Counts<OriginRefusal>,
    /// Hosts that name servers are being asked for, with the number of requests that wait.
    lookups: Mutex<HashMap<String, usize>>,
}

impl AddressPolicy {
    /// Creates it from the configuration file. `listeners` are those of this process.
    pub fn new(
        origins: &[Origin],
        routes: &[Route],
        allowed: &[String],
        listeners: Vec<SocketAddr>,
    ) -> Arc<Self> {
        let policy = Self::default();
        policy.set(origins, routes, allowed, listeners);
        Arc::new(policy)
    }

    /// Applies a new configuration file; the listeners stay.
    pub fn configure(&self, origins: &[Origin], routes: &[Route], allowed: &[String]) {
        let listeners = self.rules().listeners.clone();
        self.set(origins, routes, allowed, listeners);
    }

    fn set(&self, origins: &[Origin], routes: &[Route], allowed: &[String], listeners: Vec<SocketAddr>) {
        let urls = origins.iter().map(|it| &it.url).chain(routes.iter().map(|it| &it.base));
        let named = urls.filter_map(|url| {
            let (host, port) = host_and_port(&url.parse().ok()?)?;
            Some(AllowedOrigin::Host { name: host, with_subdomains: false, ports: Ports::Of(port) })
        });
        // A configuration with an unreadable entry is rejected earlier.
        let allowed = named.chain(allowed.iter().filter_map(|it| it.parse().ok())).collect();
        let rules = Arc::new(Rules { allowed, listeners });
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests refused.
    pub const fn refused(&self) -> &Counts<OriginRefusal> {
        &self.refused
    }

    /// The permitted addresses of a URL's host.
    async fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, BoxError> {
        let (host, port) = host_and_port(uri).ok_or("the URL has no host")?;
        let rules = self.rules();
        let is_named = rules.names(&host, port);
        if !is_named && !rules.may_have_port(port) {
            return Err(self.refuse(OriginRefusal::Port, &host, port));
        }
        let mut fit: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                let _lookup = Lookup::begin(self, &host);
                tokio::net::lookup_host((host.as_str(), port)).await?.collect()
            }
        };
        let mut refusal = None;
        fit.retain(|address| match rules.refusal(is_named, *address) {
            Some(why) => {
                refusal.get_or_insert(why);
                false
            }
            None => true,
        });
        match refusal {
            Some(why) if fit.is_empty() => Err(self.refuse(why, &host, port)),
            _ => Ok(fit),
        }
    }

    fn lookups(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        lock(&self.lookups)
    }

    /// Whether name servers are being asked for the host of a URL.
    pub(super) fn is_looked_up(&self, uri: &Uri) -> bool {
        host_and_port(uri).is_some_and(|(host, _)| self.lookups().contains_key(&host))
    }

    fn refuse(&self, why: OriginRefusal, host: &str, port: u16) -> BoxError {
        // Log the first refusal for each reason; count the rest.
        if self.refused.add(why) == 0 {
            tracing::warn!(host, port, reason = why.as_str(), "an origin is not asked: {}", why.help());
        } else {
            tracing::debug!(host, port, reason = why.as_str(), "an origin is not asked");
        }
        Box::new(Refused(why))
    }
}

/// A lookup of a host, until it is dropped.
struct Lookup<'a> {
    policy: &'a AddressPolicy,
    host: &'a str,
}

impl<'a> Lookup<'a> {
    fn begin(policy: &'a AddressPolicy, host: &'a str) -> Self {
        *policy.lookups().entry(host.to_owned()).or_default() += 1;
        Self { policy, host }
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut all = self.policy.lookups();
        if let Some(count) = all.get_mut(self.host) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.host);
            }
        }
    }
}

/// Host, without the brackets of an IPv6 address, and port of a URL.
fn host_and_port(uri: &Uri) -> Option<(String, u16)> {
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some((host.trim_end_matches('.').to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error of a connection that the policy refuses.
#[derive(Debug)]
pub(super) struct Refused(pub(super) OriginRefusal);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.help())
    }
}

impl std::error::Error for Refused {}

/// Opens connections to addresses that the policy admits.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) connect_timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { policy, connect_timeout } = self.clone();
        Box::pin(async move {
            let addresses = policy.addresses(&uri).await?;
            // Resolved once: the connector tries exactly these, both IP versions in parallel.
            let mut connector = HttpConnector::new_with_resolver(Resolved(addresses));
            connector.set_connect_timeout(Some(connect_timeout));
            connector.set_nodelay(true);
            connector.enforce_http(false);
            Ok(connector.call(uri).await?)
        })
    }
}

/// A resolver with a fixed result.
#[derive(Debug, Clone)]
struct Resolved(Vec<SocketAddr>);

impl Service<Name> for Resolved {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        std::future::ready(Ok(self.0.clone().into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str], listeners: &[&str]) -> Arc<AddressPolicy> {
        let allowed: Vec<String> = allowed.iter().map(|it| (*it).to_owned()).collect();
        let origin = Origin { host: "cdn.example".into(), url: "http://127.0.0.1:9000/o/".into() };
        let route = Route { path: "/v/".into(), base: "http://named.test:8080/".into(), ..Route::default() };
        let listeners = listeners.iter().map(|it| it.parse().unwrap()).collect();
        AddressPolicy::new(&[origin], &[route], &allowed, listeners)
    }

    async fn asked(policy: &AddressPolicy, url: &str) -> Result<(), OriginRefusal> {
        match policy.addresses(&url.parse().unwrap()).await {
            Ok(_) => Ok(()),
            Err(err) => Err(err.downcast_ref::<Refused>().unwrap_or_else(|| panic!("{url}: {err}")).0),
        }
    }

    #[test]
    fn hosts_are_known_while_they_are_looked_up() {
        let policy = AddressPolicy::default();
        let uri: Uri = "http://slow.test:8080/a".parse().unwrap();
        let (one, two) = (Lookup::begin(&policy, "slow.test"), Lookup::begin(&policy, "slow.test"));
        drop(one);
        assert!(policy.is_looked_up(&uri) && !policy.is_looked_up(&"http://other.test/".parse().unwrap()));
        drop(two);
        assert!(!policy.is_looked_up(&uri) && policy.lookups().is_empty());
    }

    #[tokio::test]
    async fn addresses_that_are_not_of_the_public_internet_are_refused_in_every_spelling() {
        use OriginRefusal::*;
        let policy = AddressPolicy::new(&[], &[], &[], Vec::new());
        for (host, why) in [
            ("127.0.0.1", Loopback),
            ("127.255.0.9", Loopback),
            ("[::1]", Loopback),
            ("[::ffff:127.0.0.1]", Loopback),
            ("[64:ff9b::7f00:1]", Loopback),
            // As inet_aton(3) reads it.
            ("127.1", Loopback),
            ("2130706433", Loopback),
            ("0x7f.1", Loopback),
            ("localhost", Loopback),
            ("localhost.", Loopback),
            ("169.254.169.254", LinkLocal),
            ("[fe80::1]", LinkLocal),
            ("10.0.0.1", Private),
            ("172.31.255.1", Private),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("[fd00:ec2::254]", Private),
            ("[2002:c0a8:101::1]", Private),
            ("[::ffff:10.0.0.1]", Private),
            ("224.0.0.1", Multicast),
            ("255.255.255.255", Multicast),
            ("[ff02::1]", Multicast),
            ("0.0.0.0", Unspecified),
            ("0", Unspecified),
            ("[::]", Unspecified),
            ("198.18.0.1", Reserved),
            ("[::127.0.0.1]", Reserved),
        ] {
            assert_eq!(asked(&policy, &format!("http://{host}/latest/")).await, Err(why), "{host}");
        }
        for host in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "[2606:4700::1]", "[64:ff9b::808:808]"] {
            assert_eq!(asked(&policy, &format!("https://{host}/")).await, Ok(()), "{host}");
        }
        assert_eq!(policy.refused().get(LinkLocal), 2);
    }

    #[tokio::test]
    async fn what_the_configuration_names_is_asked() {
        let policy =
            policy(&["10.1.0.0/16", "192.168.7.7:8081", "*.lan.example:81", "127.0.0.2"], &["0.0.0.0:8080"]);
        for url in [
            "http://127.0.0.1:9000/o/x",
            "http://10.1.2.3/",
            "https://10.1.2.3/",
            "http://192.168.7.7:8081/",
            "http://127.0.0.2/",
        ] {
            assert_eq!(asked(&policy, url).await, Ok(()), "{url}");
        }
        use OriginRefusal::*;
        for (url, why) in [
            ("http://127.0.0.1:9001/", Port),
            ("http://127.0.0.1/", Loopback),
            ("http://8.8.8.8:22/", Port),
            ("http://8.8.8.8:8081/", Port),
            ("http://10.2.0.1/", Private),
            ("http://10.1.2.3:8081/", Port),
        ] {
            assert_eq!(asked(&policy, url).await, Err(why), "{url}");
        }
        let rules = policy.rules();
        assert!(rules.names("named.test", 8080) && rules.names("a.lan.example", 81));
        assert!(!rules.names("named.test", 8081) && !rules.names("lan.example", 81));
        assert!(!rules.names("xlan.example", 81) && !rules.names("a.lan.example", 82));
    }

    #[tokio::test]
    async fn our_own_listeners_are_a_loop_even_when_they_are_named() {
        let policy = policy(&["127.0.0.1:8081", "localhost:8080"], &["0.0.0.0:8080", "127.0.0.1:8081"]);
        for url in ["http://127.0.0.1:8081/", "http://localhost:8080/", "http://[::ffff:127.0.0.1]:8081/"] {
            assert_eq!(asked(&policy, url).await, Err(OriginRefusal::Loop), "{url}");
        }
        assert!(
            is_of_this_machine("127.0.0.1".parse().unwrap())
                && !is_of_this_machine("224.0.0.1".parse().unwrap())
                && !is_of_this_machine("8.8.8.8".parse().unwrap())
        );
    }

    #[test]
    fn entries_that_mean_nothing_are_mistakes() {
        for text in ["", "http://a/", "10.0.0.0/33", "a b", "*.", "cdn.lan:x", "10.0.0.0/8:x", "a/8"] {
            assert!(check_allowed(text).is_err(), "{text}");
        }
        for text in ["cdn.lan", "*.cdn.lan", "cdn.lan:81", "10.0.0.0/8", "10.0.0.0/8:*", "::1", "[::1]:80"] {
            assert!(check_allowed(text).is_ok(), "{text}");
        }
    }
}
