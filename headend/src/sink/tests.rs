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
        sink.send(SocketAddr::new(other, 9), b"payload", 0).unwrap();
        let refused = sink.finish().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrNotAvailable, "no socket was opened for it");
    }
}

/// A datagram's bytes, which tell it from others.
fn payload(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number * 31 + at) as u8).collect()
}

#[test]
fn datagrams_that_leave_together_arrive_one_by_one_in_their_order() {
    // Lengths: as many as one buffer takes and more, one that ends a buffer, one that is longer, bytes beyond a packet's.
    let lengths: Vec<usize> =
        [vec![1400; 70], vec![100, 1400, 1400, 1399, 1400], vec![9000; 9], vec![1; 3]].concat();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Some(first) = receiver(address) else {
            eprintln!("SKIPPED: {address} cannot be bound");
            continue;
        };
        let second = receiver(address).unwrap();
        let to = [&first, &second].map(|it| it.local_addr().unwrap());
        let receive = |socket: &UdpSocket, length: usize| {
            let mut buffer = vec![0; 10_000];
            let (got, _) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(got, length);
            buffer.truncate(got);
            buffer
        };
        for splits in [true, false] {
            let output = Output { segmentation_offload: splits, ..Output::default() };
            let mut sink = UdpSink::open(&output, &to).unwrap();
            // In parts, since the receivers' buffers are short.
            for (part, lengths) in lengths.chunks(40).enumerate() {
                for (at, &length) in lengths.iter().enumerate() {
                    sink.send(to[0], &payload(part * 40 + at, length)).unwrap();
                }
                sink.flush().unwrap();
                for (at, &length) in lengths.iter().enumerate() {
                    assert_eq!(receive(&first, length), payload(part * 40 + at, length));
                }
            }
            let calls = sink.calls() as usize;
            assert_eq!(calls < lengths.len() / 6, splits && sink.splits(), "{calls} of {}", lengths.len());
            assert!(splits || calls == lengths.len());
            // Each destination gets its own.
            for number in 0..6 {
                sink.send(to[number % 2], &payload(number, 300)).unwrap();
            }
            sink.flush().unwrap();
            for number in 0..6 {
                assert_eq!(receive([&first, &second][number % 2], 300), payload(number, 300));
            }
            assert_eq!(sink.calls() as usize, calls + 6);
        }
    }
}

#[test]
fn datagrams_that_the_interface_does_not_take_so_long_go_one_by_one() {
    let Some(socket) = receiver("127.0.0.1:0") else { return };
    let to = socket.local_addr().unwrap();
    let mut sink = UdpSink::open(&Output::default(), &[to]).unwrap();
    sink.send(to, &payload(0, 1400)).unwrap();
    sink.send(to, &payload(1, 1400)).unwrap();
    // As kernels say it of an interface without checksums, and of a datagram beyond its MTU.
    for code in [libc::EIO, libc::EINVAL, libc::EMSGSIZE] {
        assert!(udp::is_of_splitting(&io::Error::from_raw_os_error(code)));
    }
    for code in [libc::ENETUNREACH, libc::EPERM, libc::ENOBUFS] {
        assert!(!udp::is_of_splitting(&io::Error::from_raw_os_error(code)));
    }
    sink.do_not_split();
    sink.flush().unwrap();
    assert_eq!(sink.calls(), 2);
    let mut buffer = [0; 2000];
    for number in 0..2 {
        assert_eq!(socket.recv_from(&mut buffer).unwrap().0, 1400);
        assert_eq!(buffer[..1400], payload(number, 1400));
    }
}

#[test]
fn a_receiver_that_is_not_there_yet_ends_nothing() {
    let to = receiver("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut sink = UdpSink::open(&Output::default(), &[to]).unwrap();
    for _ in 0..3 {
        // The answer to the first by ICMP is the error of the second.
        sink.send(to, b"payload").unwrap();
        sink.flush().unwrap();
    }
    sink.send(to, &vec![0; 70_000]).unwrap();
    let too_long = sink.flush().unwrap_err();
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
    assert!(why.contains("for IPv6 groups name the interface that has it"), "{why}");
    // TEST-NET-3 is on no machine.
    let why = UdpSink::open(&output("203.0.113.9"), &[v4]).unwrap_err();
    assert!(why.contains("this machine has no such address; name an interface"), "{why}");
    UdpSink::open(&output("lo"), &[v4]).unwrap();
    UdpSink::open(&output("127.0.0.1"), &[v4]).unwrap();
}
