use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use carousel::capture::{Datagrams, Records};

use super::*;
use crate::options::Output;

#[test]
fn a_recording_holds_each_datagram_with_its_time_and_an_address_of_documentation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pcap");
    let mut sink = Sink::Pcap(PcapSink::create(&path).unwrap());
    let to: [SocketAddr; 2] = ["239.1.1.1:5000", "[ff35::1]:5001"].map(|it| it.parse().unwrap());
    sink.send(to[0], b"one", 1_700_000_000_000_001_000).unwrap();
    sink.send(to[1], b"two", 1_700_000_000_500_000_000).unwrap();
    sink.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut datagrams = Datagrams::new(Records::new(&bytes).unwrap());
    let mut read = Vec::new();
    while let Some((time_ns, datagram)) = datagrams.next_datagram() {
        read.push((time_ns, datagram.source, datagram.destination, datagram.ttl, datagram.payload.to_vec()));
    }
    let [v4, v6] = ["192.0.2.1:50000", "[2001:db8::1]:50000"].map(|it| it.parse().unwrap());
    assert_eq!(
        read,
        [
            (1_700_000_000_000_001_000, v4, to[0], 8, b"one".to_vec()),
            (1_700_000_000_500_000_000, v6, to[1], 8, b"two".to_vec()),
        ]
    );
    assert!(!datagrams.is_truncated());
}

#[test]
fn a_file_of_packets_is_emptied_first_and_holds_nothing_but_payload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ts");
    std::fs::write(&path, vec![9; 5000]).unwrap();
    let mut sink = Sink::File(FileSink::create(&path).unwrap());
    let to = SocketAddr::from(([0, 0, 0, 0], 0));
    for payload in [&[0x47; 188][..], &[0x47; 376]] {
        sink.send(to, payload, 0).unwrap();
    }
    sink.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), vec![0x47; 564]);
    assert!(FileSink::create(&folder.path().join("missing/out.ts")).is_err());
    assert!(PcapSink::create(&folder.path().join("missing/out.pcap")).is_err());
}

/// A receiver on loopback; `None` where the host has no such addresses.
fn receiver(address: &str) -> Option<UdpSocket> {
    let socket = UdpSocket::bind(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Some(socket)
}

#[test]
fn datagrams_of_both_versions_leave_by_udp_and_others_are_refused() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Some(socket) = receiver(address) else {
            eprintln!("SKIPPED: {address} cannot be bound");
            continue;
        };
        let to = socket.local_addr().unwrap();
        let mut sink = Sink::Udp(UdpSink::open(&Output::default(), &[to]).unwrap());
        sink.send(to, b"payload", 0).unwrap();
        sink.finish().unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"payload");
        let other: IpAddr =
            if to.is_ipv4() { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() };
        let refused = sink.send(SocketAddr::new(other, 9), b"payload", 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrNotAvailable, "no socket was opened for it");
    }
}

#[test]
fn a_receiver_that_is_not_there_yet_ends_nothing() {
    let to = receiver("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut sink = UdpSink::open(&Output::default(), &[to]).unwrap();
    for _ in 0..3 {
        // The answer to the first by ICMP is the error of the second.
        sink.send(to, b"payload").unwrap();
    }
    let too_long = sink.send(to, &vec![0; 70_000]).unwrap_err();
    assert!(too_long.to_string().starts_with(&format!("sending to {to}: ")), "{too_long}");
}

#[test]
fn interfaces_that_are_not_there_are_named() {
    let output = |interface: &str| Output { interface: interface.to_owned(), ..Output::default() };
    let [v4, v6]: [SocketAddr; 2] = ["239.1.1.1:5000", "[ff35::1]:5000"].map(|it| it.parse().unwrap());
    for to in [v4, v6] {
        let why = UdpSink::open(&output("no-such0"), &[to]).unwrap_err();
        assert!(why.starts_with("[output] interface: there is no \"no-such0\"; there are "), "{why}");
    }
    let why = UdpSink::open(&output("192.0.2.1"), &[v6]).unwrap_err();
    assert_eq!(why, "[output] interface: name the interface instead of 192.0.2.1 for IPv6 groups");
    UdpSink::open(&output("lo"), &[v4]).unwrap();
    UdpSink::open(&output("127.0.0.1"), &[v4]).unwrap();
}
