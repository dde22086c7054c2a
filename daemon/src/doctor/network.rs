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
use crate::source::{Batch, GroupSpec, PacketSocket, ReceiveSocket, interface_index};

/// Interval at which sockets are looked at while listening.
const STEP: Duration = Duration::from_millis(20);
/// Interfaces of this machine that `check` listens on. A PoP has a handful, a container host hundreds of virtual ones.
const MAX_INTERFACES: usize = 32;

/// A group of the configuration.
#[derive(Debug, Clone)]
struct Listed {
    spec: GroupSpec,
    /// Subject of its findings.
    about: String,
}

/// The groups that are joined from the start: of announcements, of low-level signalling, and of fixed sessions.
fn listed(config: &Config) -> Vec<Listed> {
    let interface = &config.receive.interface;
    let group = |address: SocketAddr, source, about| Listed {
        spec: GroupSpec { address, source, interface: interface.clone() },
        about,
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
        let all: Vec<String> = interfaces().into_iter().map(|it| it.name).collect();
        let nearest = format!("[receive] interface is one of {}", all.join(", "));
        return Finding::new(Severity::Error, about, "there is none of this name", nearest);
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
    socket: ReceiveSocket,
    device: Option<(String, String)>,
}

impl Joined {
    fn try_join(listed: &Listed, config: &Config, found: &mut Vec<Finding>) -> Option<Self> {
        let Listed { spec: group, about } = listed.clone();
        let group = &group;
        let before = members(group.address.ip());
        match ReceiveSocket::open(group, config.receive.socket_buffer_bytes) {
            Ok(socket) => {
                let after = members(group.address.ip());
                let device = after
                    .into_iter()
                    .find(|(name, (users, _))| before.get(name).is_none_or(|(had, _)| users > had))
                    .map(|(name, (_, version))| (name, version));
                if let (Some((name, version)), Some(_)) = (&device, group.source)
                    && version != "V3"
                    && group.address.is_ipv4()
                {
                    let fix =
                        format!("`sysctl net.ipv4.conf.{name}.force_igmp_version=3`, or an IGMPv3 querier");
                    let what = format!("IGMP {version} on {name} cannot ask for one source");
                    found.push(Finding::new(Severity::Error, &about, what, fix));
                }
                Some(Self { about, socket, device })
            }
            Err(err) => {
                // Of an interface that is not there one finding is enough.
                let is_reported =
                    |it: &Finding| it.severity == Severity::Error && it.about.starts_with("interface ");
                if !found.iter().any(is_reported) {
                    found.push(Finding::new(Severity::Error, about, err.to_string(), ""));
                }
                None
            }
        }
    }

    fn where_packets_arrive(&self, places: &[Place], listen: Duration) -> Vec<Finding> {
        let group = self.socket.group();
        let about = self.about.clone();
        let here: Vec<&Place> = places.iter().filter(|place| place.address == group.address).collect();
        let device = self.device.as_ref().map_or("?", |(name, _)| name.as_str());
        let version = self.device.as_ref().map_or("", |(_, version)| version.as_str());
        let igmp = if version.is_empty() { String::new() } else { format!(", IGMP {version}") };
        let seconds = listen.as_secs_f64();
        if let Some(place) = here.iter().find(|place| place.interface == device && place.received > 0) {
            let what = format!(
                "joined on {device}{igmp}; {:.0} packets a second arrive there",
                place.received as f64 / seconds
            );
            return vec![Finding::fine(about, what)];
        }
        if let Some(place) = here.iter().find(|place| place.received > 0) {
            let what = format!("joined on {device}{igmp}, but packets arrive on {}", place.interface);
            return vec![Finding::new(
                Severity::Error,
                about,
                what,
                format!("[receive] interface = \"{}\"", place.interface),
            )];
        }
        if let Some(place) = here.iter().find(|place| place.seen > 0) {
            let filter = rp_filter(&place.interface);
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
                    "a firewall drops them: `nft list ruleset` or `iptables -L -v` shows where",
                )
            }];
        }
        let mut found = Vec::new();
        if let Some(filter) =
            self.device.as_ref().map(|(name, _)| rp_filter(name)).filter(|filter| *filter == 1)
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
            format!("joined on {device}{igmp}; nothing arrived on any interface within {seconds:.0} s");
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

/// Devices on which somebody has joined `group`: users and IGMP version (or `MLD`).
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
            let version = words.iter().find(|word| word.starts_with('V')).copied().unwrap_or("");
            device = words.get(1).map(|name| (name.trim_end_matches(':').to_owned(), version.to_owned()));
        } else if let (Some((name, version)), true) = (&device, words.first() == Some(&hex.as_str())) {
            let users = words.get(1).and_then(|it| it.parse().ok()).unwrap_or(0);
            found.insert(name.clone(), (users, version.clone()));
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
struct Place {
    address: SocketAddr,
    interface: String,
    /// Datagrams that a socket got.
    received: u64,
    /// Packets on the wire, before the kernel's filters; 0 where looking is not allowed.
    seen: u64,
}

/// Joins every group on every interface and counts.
fn listen_everywhere(groups: &[Listed], listen: Duration) -> Vec<Place> {
    let interfaces = interfaces();
    let mut places: Vec<(Place, Option<ReceiveSocket>)> = Vec::new();
    for Listed { spec: group, .. } in groups {
        for interface in &interfaces {
            let spec = GroupSpec { interface: interface.name.clone(), ..group.clone() };
            let place =
                Place { address: group.address, interface: interface.name.clone(), received: 0, seen: 0 };
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
            assert_eq!(found, BTreeMap::from([("eth0".to_owned(), (3, "V2".to_owned()))]));
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
    fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let finding = the_interface("nonesuch9");
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.fix.contains("lo"), "{finding}");
    }
}
