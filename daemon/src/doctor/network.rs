//! Checks of the network: interfaces, memberships, and the interfaces on which packets arrive.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use carousel::digest::to_hex;
use carousel::ip;

use super::{Finding, Severity};
use crate::clock;
use crate::config::Config;
use crate::session::Receive;
use crate::source::{Batch, GroupSpec, PacketSocket, ReceiveSocket, interface_index, interface_names};

/// Fix for a group that is not needed.
const NO_CAROUSEL: &str = "where there is no carousel, [receive] announcement = [] leaves it out";
/// The protocol that can ask for one source of a group.
const IGMP_V3: &str = "IGMP V3";

/// Interval at which sockets are polled while listening.
const STEP: Duration = Duration::from_millis(20);
/// Interfaces of this machine that `check` listens on. A PoP has a handful, a container host hundreds of virtual ones.
const MAX_INTERFACES: usize = 32;

/// A group of the configuration.
#[derive(Debug, Clone)]
struct Listed {
    spec: GroupSpec,
    /// Subject of its findings.
    about: String,
    /// The box does its work without it: see [`is_without_carousel`].
    is_optional: bool,
}

/// Whether nothing in a configuration says that there is a carousel: it has origins, and of reception no more than the announcement
/// channel that every configuration has unless it says otherwise. So it is on a PoP that is only a reverse proxy.
fn is_without_carousel(config: &Config) -> bool {
    let (own, usual) = (&config.receive, Receive::default());
    let receives_more =
        !config.sessions.is_empty() || !config.transport_streams.is_empty() || !own.lls.is_empty();
    config.has_origins()
        && !receives_more
        && own.announcement == usual.announcement
        && own.interface.is_empty()
}

/// The groups that are joined from the start: of announcements, of low-level signalling, and of fixed sessions.
fn listed(config: &Config) -> Vec<Listed> {
    let interface = &config.receive.interface;
    let is_optional = is_without_carousel(config);
    let group = |address: SocketAddr, source, about| Listed {
        spec: GroupSpec { address, source, interface: interface.clone() },
        about,
        is_optional,
    };
    let fixed = config.session_options().fixed_sessions();
    let fixed = fixed.iter().map(|it| group(it.address, it.source, format!("group {}", it.address)));
    let lls = config.receive.lls.iter().map(|it| group(*it, None, format!("low-level signalling {it}")));
    fixed.chain(lls).collect()
}

pub(super) fn examine(config: &Config, listen: Duration) -> Vec<Finding> {
    let mut found = Vec::new();
    let groups = listed(config);
    let interface = &config.receive.interface;
    if !interface.is_empty() && interface.parse::<Ipv4Addr>().is_err() {
        found.push(the_interface(interface));
    }
    found.extend(memberships(&groups));
    let joined: Vec<Joined> =
        groups.iter().filter_map(|group| Joined::try_join(group, config, &mut found)).collect();
    found.extend(buffers(&joined, config));
    let places = listen_everywhere(&groups, listen);
    for group in &joined {
        found.extend(group.where_packets_arrive(&places, listen));
    }
    found
}

/// The interface is there, up, and can multicast.
fn the_interface(name: &str) -> Finding {
    let about = format!("interface {name}");
    if interface_index(name).is_err() {
        let nearest = format!("give [receive] interface one of {}", interface_names().join(", "));
        return Finding::new(Severity::Error, about, "there is no interface of this name", nearest);
    }
    let flags = flags(name);
    if flags & libc::IFF_UP as u32 == 0 {
        return Finding::new(Severity::Error, about, "it is down", format!("`ip link set {name} up`"));
    }
    if flags & libc::IFF_MULTICAST as u32 == 0 && flags & libc::IFF_LOOPBACK as u32 == 0 {
        return Finding::new(
            Severity::Error,
            about,
            "multicast is off",
            format!("`ip link set {name} multicast on`"),
        );
    }
    let carrier = fs::read_to_string(format!("/sys/class/net/{name}/carrier")).unwrap_or_default();
    if carrier.trim() == "0" {
        return Finding::new(Severity::Error, about, "no carrier", "look at the cable, or at the modem");
    }
    Finding::fine(about, "up, multicast")
}

fn flags(name: &str) -> u32 {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or(0)
}

/// An interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    index: u32,
}

fn interfaces() -> Vec<Interface> {
    let names = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut all: Vec<Interface> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| flags(name) & libc::IFF_UP as u32 != 0)
        .filter_map(|name| Some(Interface { index: interface_index(&name).ok()?, name }))
        .collect();
    all.sort_by_key(|it| it.index);
    all.truncate(MAX_INTERFACES);
    all
}

fn sysctl(path: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse().ok()
}

fn memberships(groups: &[Listed]) -> Option<Finding> {
    let most = sysctl("ipv4/igmp_max_memberships")?;
    let wanted = groups.iter().filter(|group| group.spec.address.is_ipv4()).count() as u64;
    // Each of our sockets joins one group, so the limit, which is a socket's, binds only what shares a socket.
    (most == 0).then(|| {
        let fix = "`sysctl net.ipv4.igmp_max_memberships=20`";
        Finding::new(Severity::Error, "memberships", format!("the kernel allows none of {wanted}"), fix)
    })
}

/// A group joined as the daemon would, and the device that the kernel chose.
struct Joined {
    about: String,
    is_optional: bool,
    socket: ReceiveSocket,
    /// Name, and the protocol by which the group is asked for there.
    device: Option<(String, String)>,
}

impl Joined {
    fn try_join(listed: &Listed, config: &Config, found: &mut Vec<Finding>) -> Option<Self> {
        let Listed { spec: group, about, is_optional } = listed.clone();
        let group = &group;
        let before = members(group.address.ip());
        match ReceiveSocket::open(group, config.receive.socket_buffer_bytes) {
            Ok(socket) => {
                let after = members(group.address.ip());
                let device = after
                    .into_iter()
                    .find(|(name, (users, _))| before.get(name).is_none_or(|(had, _)| users > had))
                    .map(|(name, (_, protocol))| (name, protocol));
                if let (Some((name, protocol)), Some(_)) = (&device, group.source)
                    && protocol != IGMP_V3
                    && group.address.is_ipv4()
                {
                    let fix =
                        format!("`sysctl net.ipv4.conf.{name}.force_igmp_version=3`, or an IGMPv3 querier");
                    let what = format!("{protocol} on {name} cannot ask for one source");
                    found.push(Finding::new(Severity::Error, &about, what, fix));
                }
                Some(Self { about, is_optional, socket, device })
            }
            Err(err) => {
                // One finding is enough for a missing interface.
                let is_reported =
                    |it: &Finding| it.severity == Severity::Error && it.about.starts_with("interface ");
                if is_optional {
                    // It matters only where there is a carousel.
                    found.push(Finding::new(Severity::Warning, about, err.to_string(), NO_CAROUSEL));
                } else if !found.iter().any(is_reported) {
                    found.push(Finding::of_message(Severity::Error, about, &err.to_string()));
                }
                None
            }
        }
    }

    fn where_packets_arrive(&self, places: &[GroupReception], listen: Duration) -> Vec<Finding> {
        let group = self.socket.group();
        let about = self.about.clone();
        let here: Vec<&GroupReception> =
            places.iter().filter(|place| place.address == group.address).collect();
        let device = self.device.as_ref().map_or("?", |(name, _)| name.as_str());
        let protocol = self.device.as_ref().map_or_else(String::new, |(_, protocol)| format!(", {protocol}"));
        let seconds = listen.as_secs_f64();
        if let Some(place) = here.iter().find(|place| place.interface == device && place.received > 0) {
            let what = format!(
                "joined on {device}{protocol}; {:.0} packets a second arrive there",
                place.received as f64 / seconds
            );
            return vec![Finding::fine(about, what)];
        }
        if let Some(place) = here.iter().find(|place| place.received > 0) {
            let what = format!("joined on {device}{protocol}, but packets arrive on {}", place.interface);
            return vec![Finding::new(
                Severity::Error,
                about,
                what,
                format!("[receive] interface = \"{}\"", place.interface),
            )];
        }
        if let Some(place) = here.iter().find(|place| place.seen > 0) {
            let filter = if group.address.is_ipv4() { rp_filter(&place.interface) } else { 0 };
            let what = format!(
                "{} packets arrive on {} and the kernel throws them away",
                place.seen, place.interface
            );
            return vec![if filter == 1 {
                let name = &place.interface;
                let fix = format!(
                    "rp_filter is strict and the sender's address is not reached through {name}: `sysctl net.ipv4.conf.{name}.rp_filter=2 net.ipv4.conf.all.rp_filter=2`"
                );
                Finding::new(Severity::Error, about, what, fix)
            } else {
                Finding::new(
                    Severity::Error,
                    about,
                    what,
                    "a firewall drops them: `nft list ruleset` or `iptables -L -v` (`ip6tables` for IPv6) shows where",
                )
            }];
        }
        if self.is_optional {
            let what = format!("joined on {device}{protocol}; nothing arrives: {NO_CAROUSEL}");
            return vec![Finding::fine(about, what)];
        }
        let mut found = Vec::new();
        if let Some(filter) = self
            .device
            .as_ref()
            .map(|(name, _)| rp_filter(name))
            .filter(|it| *it == 1 && group.address.is_ipv4())
        {
            let what = format!(
                "rp_filter is {filter} on {device}: packets whose sender is not reached through it are thrown away"
            );
            let fix = format!(
                "`sysctl net.ipv4.conf.{device}.rp_filter=2 net.ipv4.conf.all.rp_filter=2` for a one-way link"
            );
            found.push(Finding::new(Severity::Warning, &about, what, fix));
        }
        let what =
            format!("joined on {device}{protocol}; nothing arrived on any interface within {seconds:.0} s");
        let fix = "is the sender on the air, and does the switch forward the group? `headend inspect udp://GROUP:PORT` shows what arrives elsewhere";
        found.push(Finding::new(Severity::Warning, about, what, fix));
        found
    }
}

/// The stricter of `all` and the interface's own, as the kernel takes it.
fn rp_filter(interface: &str) -> u64 {
    let of = |name: &str| sysctl(&format!("ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    of("all").max(of(interface))
}

/// Devices on which a socket has joined `group`: users, and the protocol: `IGMP V3`, `MLD`.
fn members(group: IpAddr) -> BTreeMap<String, (u64, String)> {
    match group {
        IpAddr::V4(v4) => members_v4(&fs::read_to_string("/proc/net/igmp").unwrap_or_default(), v4),
        IpAddr::V6(v6) => {
            let hex: String = to_hex(&v6.octets());
            let text = fs::read_to_string("/proc/net/igmp6").unwrap_or_default();
            let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            rows.filter(|row| row.get(2) == Some(&hex.as_str()))
                .map(|row| {
                    (
                        row[1].to_owned(),
                        (row.get(3).and_then(|it| it.parse().ok()).unwrap_or(0), "MLD".to_owned()),
                    )
                })
                .collect()
        }
    }
}

/// `/proc/net/igmp`: a line for each device, below it one for each group in the byte order of the machine.
fn members_v4(text: &str, group: Ipv4Addr) -> BTreeMap<String, (u64, String)> {
    let hex = format!("{:08X}", u32::from_ne_bytes(group.octets()));
    let (mut found, mut device) = (BTreeMap::new(), None);
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with([' ', '\t']) {
            let version = words.iter().find(|word| word.starts_with('V'));
            let protocol = version.map_or_else(|| "IGMP".to_owned(), |it| format!("IGMP {it}"));
            device = words.get(1).map(|name| (name.trim_end_matches(':').to_owned(), protocol));
        } else if let (Some((name, protocol)), true) = (&device, words.first() == Some(&hex.as_str())) {
            let users = words.get(1).and_then(|it| it.parse().ok()).unwrap_or(0);
            found.insert(name.clone(), (users, protocol.clone()));
        }
    }
    found
}

fn buffers(joined: &[Joined], config: &Config) -> Option<Finding> {
    let granted = joined.iter().map(|it| it.socket.buffer_bytes()).min()?;
    let wanted = config.receive.socket_buffer_bytes;
    Some(if granted < wanted {
        Finding::new(
            Severity::Warning,
            "socket buffer",
            format!("the kernel grants {granted} of {wanted} bytes: a burst while the box is busy is lost"),
            format!("`sysctl net.core.rmem_max={wanted}`, or CAP_NET_ADMIN for the daemon"),
        )
    } else {
        Finding::fine("socket buffer", format!("{granted} bytes"))
    })
}

/// One group on one interface.
#[derive(Debug)]
struct GroupReception {
    address: SocketAddr,
    interface: String,
    /// Datagrams that a socket got.
    received: u64,
    /// Packets on the wire, before the kernel's filters; 0 where looking is not allowed.
    seen: u64,
}

/// Joins every group on every interface and counts.
fn listen_everywhere(groups: &[Listed], listen: Duration) -> Vec<GroupReception> {
    let interfaces = interfaces();
    let mut places: Vec<(GroupReception, Option<ReceiveSocket>)> = Vec::new();
    for Listed { spec: group, .. } in groups {
        for interface in &interfaces {
            let spec = GroupSpec { interface: interface.name.clone(), ..group.clone() };
            let place = GroupReception {
                address: group.address,
                interface: interface.name.clone(),
                received: 0,
                seen: 0,
            };
            places.push((place, ReceiveSocket::open(&spec, 1 << 20).ok()));
        }
    }
    let taps: Vec<(&Interface, PacketSocket)> =
        interfaces.iter().filter_map(|it| Some((it, PacketSocket::open(it.index).ok()?))).collect();
    let (mut batch, start) = (Batch::default(), clock::now());
    let mut buffer = vec![0; 65_536];
    while clock::now().since(start) < listen {
        for (place, socket) in &mut places {
            let Some(socket) = socket else { continue };
            while batch.read(socket, |_, _| place.received += 1).is_ok_and(|it| it.more) {}
        }
        for (interface, tap) in &taps {
            while let Ok(Some(length)) = tap.read(&mut buffer) {
                let datagram =
                    ip::parse_ip(&buffer[..length]).and_then(|packet| packet.udp().map(|it| it.destination));
                let Ok(destination) = datagram else { continue };
                let place = places.iter_mut().map(|it| &mut it.0);
                for place in place.filter(|it| it.interface == interface.name && it.address == destination) {
                    place.seen += 1;
                }
            }
        }
        clock::sleep(STEP);
    }
    places.into_iter().map(|it| it.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_members() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n2\teth0      :     2      V2\n\t\t\t\t0E1700E0     3 0:00000000\t\t0\n";
        let found = members_v4(text, Ipv4Addr::new(224, 0, 23, 14));
        if cfg!(target_endian = "little") {
            assert_eq!(found, BTreeMap::from([("eth0".to_owned(), (3, "IGMP V2".to_owned()))]));
        }
    }

    #[test]
    fn every_group_that_is_joined_from_the_start_is_looked_at() {
        let text = "[receive]\ninterface = '127.0.0.1'\nlls = ['224.0.23.60:4937']\n[[session]]\naddress = '239.1.1.1:5000'\n";
        let config = Config::parse(text).unwrap();
        let about: Vec<String> = listed(&config).into_iter().map(|it| it.about).collect();
        assert_eq!(
            about,
            ["group 224.0.23.14:3937", "group 239.1.1.1:5000", "low-level signalling 224.0.23.60:4937"]
        );
        let found = examine(&config, Duration::from_millis(1));
        assert!(found.iter().any(|it| it.about == about[2] && it.what.contains("joined on lo")), "{found:?}");
    }

    #[test]
    fn a_pop_without_a_carousel_is_not_warned_of_the_groups_silence() {
        let route = "[[route]]\npath = '/vod/'\nbase = 'https://origin.example.com/vod/'\n";
        let of = |text: &str| {
            let config = Config::parse(text).unwrap();
            (is_without_carousel(&config), listed(&config).len())
        };
        assert_eq!(of(route), (true, 1), "the block of the README");
        assert_eq!(of(&format!("{route}[receive]\nannouncement = []\n")), (false, 0), "it may be left out");
        assert_eq!(of(""), (false, 1), "a box waits for its carousel");
        for reception in [
            "[receive]\ninterface = '127.0.0.1'\n",
            "[receive]\nannouncement = '239.255.0.1:3937'\n",
            "[receive]\nlls = '224.0.23.60:4937'\n",
            "[[session]]\naddress = '239.1.1.1:5000'\n",
        ] {
            assert!(!of(&format!("{route}{reception}")).0, "{reception}");
        }
        let looked = |is_optional| {
            let spec = GroupSpec {
                address: "224.0.23.14:3937".parse().unwrap(),
                source: None,
                interface: "127.0.0.1".to_owned(),
            };
            let listed = Listed { spec, about: "group".to_owned(), is_optional };
            let mut found = Vec::new();
            let joined = Joined::try_join(&listed, &Config::default(), &mut found).unwrap();
            found.extend(joined.where_packets_arrive(&[], Duration::from_secs(1)));
            found.into_iter().map(|it| it.severity).max()
        };
        assert_eq!((looked(true), looked(false)), (Some(Severity::Fine), Some(Severity::Warning)));
        // A group that cannot be joined does not make a PoP unhealthy.
        let spec = GroupSpec {
            address: "224.0.23.14:3937".parse().unwrap(),
            source: None,
            interface: "nonesuch9".to_owned(),
        };
        for (is_optional, severity) in [(true, Severity::Warning), (false, Severity::Error)] {
            let listed = Listed { spec: spec.clone(), about: "group".to_owned(), is_optional };
            let mut found = Vec::new();
            assert!(Joined::try_join(&listed, &Config::default(), &mut found).is_none());
            assert_eq!(found[0].severity, severity, "{found:?}");
        }
    }

    #[test]
    fn a_group_of_ipv6_is_asked_for_by_mld_alone() {
        let spec = GroupSpec {
            address: "[ff15::7]:39371".parse().unwrap(),
            source: None,
            interface: "127.0.0.1".to_owned(),
        };
        let listed = Listed { spec, about: "group".to_owned(), is_optional: false };
        let mut found = Vec::new();
        let Some(joined) = Joined::try_join(&listed, &Config::default(), &mut found) else {
            println!("SKIPPED: no IPv6 here: {found:?}");
            return;
        };
        let found = joined.where_packets_arrive(&[], Duration::from_secs(1));
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|it| it.contains("joined on lo, MLD;")), "{said:?}");
        assert!(!said.iter().any(|it| it.contains("IGMP") || it.contains("rp_filter")), "{said:?}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let finding = the_interface("nonesuch9");
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.fix.contains("lo"), "{finding}");
    }
}
