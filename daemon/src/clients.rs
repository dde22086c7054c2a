//! Clients as limits count them: which addresses are one client, its number of places, and the `Host` of its requests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The network that counts as one client: an IPv4 address, or a /64 of IPv6.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// The host of a `Host` field, without its port and the brackets of IPv6. `None`: it is not a `Host`.
pub fn host_of(field: &str) -> Option<&str> {
    let (host, port) = match field.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => match field.split_once(':') {
            Some((host, _)) => (host, &field[host.len()..]),
            None => (field, ""),
        },
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|it| it.parse::<u16>().is_ok());
    (is_port && !host.is_empty() && !host.contains(['@', '/', ' '])).then_some(host.trim_end_matches('.'))
}

/// A client may hold this many times the number of free places.
const SHARE: usize = 3;

/// Places that all clients share. A client may take a place while it has fewer than [`SHARE`] times those that are free. So one
/// client gets at most three quarters of them, a second one three quarters of the rest, and so on: a few clients never leave
/// the next one without a place. A household behind one address is one client, and while places are free it is served like any
/// other.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Places {
    /// `most` places.
    pub fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Takes a place for a client at `address`. False if it may not have another.
    pub fn take(&self, address: IpAddr) -> bool {
        let mut taken = self.taken();
        let network = network_of(address);
        let has = taken.by_client.get(&network).copied().unwrap_or(0);
        let is_free = has < SHARE * (self.most - taken.all.min(self.most));
        if is_free {
            taken.all += 1;
            *taken.by_client.entry(network).or_default() += 1;
        }
        is_free
    }

    /// Whether every place is taken, so that a client is refused for that and not for its share.
    pub fn are_all_taken(&self) -> bool {
        self.taken().all >= self.most
    }

    /// Releases a place.
    pub fn give_back(&self, address: IpAddr) {
        let mut taken = self.taken();
        let network = network_of(address);
        taken.all = taken.all.saturating_sub(1);
        if let Some(has) = taken.by_client.get_mut(&network) {
            *has -= 1;
            if *has == 0 {
                taken.by_client.remove(&network);
            }
        }
        if taken.by_client.capacity() > 4 * taken.by_client.len() + 64 {
            let wanted = 2 * taken.by_client.len();
            taken.by_client.shrink_to(wanted);
        }
    }

    /// Places taken.
    pub fn taken_now(&self) -> usize {
        self.taken().all
    }

    /// Whether places become few for a client at `address`: it has nine tenths of those that it may have, or `more` beside
    /// those taken leave less than a tenth free.
    pub fn is_crowded(&self, address: IpAddr, more: usize) -> bool {
        let taken = self.taken();
        let has = taken.by_client.get(&network_of(address)).copied().unwrap_or(0);
        let free = self.most.saturating_sub(taken.all);
        has * 10 >= SHARE * free * 9 || (taken.all + more) * 10 >= self.most * 9
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Every change is complete before anything can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_client_leaves_places_for_the_next() {
        let places = Places::new(1000);
        let fill = |address: &str| (0..2000).take_while(|_| places.take(ip(address))).count();
        assert_eq!(fill("10.0.0.1"), 750);
        assert_eq!(fill("10.0.0.1"), 0);
        assert!(places.is_crowded(ip("10.0.0.1"), 0) && !places.is_crowded(ip("10.0.0.2"), 0));
        // A household of fifty players.
        assert!((0..100).all(|_| places.take(ip("10.0.0.2"))));
        (0..100).for_each(|_| places.give_back(ip("10.0.0.2")));
        assert_eq!([fill("10.0.0.2"), fill("10.0.0.3"), fill("10.0.0.4")], [188, 47, 12]);
        assert!(places.take(ip("10.0.0.5")));
        // All addresses of one IPv6 network are one client.
        let places = Places::new(100);
        let in_one = (0..200u16).take_while(|it| places.take(ip(&format!("2001:db8::{it:x}")))).count();
        assert_eq!(in_one, 75);
        assert!(places.take(ip("2001:db8:0:1::1")));
        (0..75u16).for_each(|it| places.give_back(ip(&format!("2001:db8::{it:x}"))));
        assert_eq!((places.taken_now(), places.taken().by_client.len()), (1, 1));
    }

    #[test]
    fn few_places_are_all_used() {
        let places = Places::new(3);
        assert!(!places.are_all_taken());
        assert_eq!((0..9).filter(|_| places.take(ip("::ffff:10.0.0.1"))).count(), 3);
        assert!(places.are_all_taken());
        assert!(!places.take(ip("10.0.0.2")));
        places.give_back(ip("10.0.0.1"));
        assert!(places.take(ip("10.0.0.2")));
    }

    #[test]
    fn hosts_are_read_with_and_without_ports() {
        for (field, host) in [
            ("box", Some("box")),
            ("box:8080", Some("box")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("box.:80", Some("box")),
            ("", None),
            (":80", None),
            ("a@b", None),
            ("a:b", None),
            ("[::1]x", None),
            ("[x]", None),
        ] {
            assert_eq!(host_of(field), host, "{field}");
        }
    }
}
