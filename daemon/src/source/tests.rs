use super::*;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// A sender on loopback with this source address.
fn sender(source: Ipv4Addr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.into()
}

fn group(address: &str, source: Option<&str>) -> GroupSpec {
    GroupSpec {
        address: address.parse().unwrap(),
        source: source.map(|it| it.parse().unwrap()),
        interface: "127.0.0.1".into(),
    }
}

/// A port that the system has given to no other socket: tests of several runs must not meet.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn receive(socket: &ReceiveSocket, want: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut batch, mut all) = (Batch::default(), Vec::new());
    let mut poll = Poll::new().unwrap();
    poll.add(socket, 1).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while all.len() < want && Instant::now() < end {
        poll.wait(Duration::from_millis(50)).unwrap();
        batch.read(socket, |from, bytes| all.push((from, bytes.to_vec()))).unwrap();
    }
    all
}

#[test]
fn joins_and_receives_in_batches() {
    let address = format!("239.255.77.1:{}", free_port());
    let socket = ReceiveSocket::open(&group(&address, None), 1 << 20).unwrap();
    let sender = sender(Ipv4Addr::LOCALHOST);
    for at in 0..100_u8 {
        sender.send_to(&[at; 100], &address).unwrap();
    }
    let all = receive(&socket, 100);
    assert_eq!(all.len(), 100);
    assert!(all.iter().enumerate().all(|(at, (_, bytes))| *bytes == vec![at as u8; 100]));
}

#[test]
fn two_groups_on_one_port_do_not_mix_and_sources_are_told_apart() {
    let port = free_port();
    let (one, two) = (format!("239.255.77.2:{port}"), format!("239.255.77.3:{port}"));
    let first = ReceiveSocket::open(&group(&one, None), 1 << 20).unwrap();
    let second = ReceiveSocket::open(&group(&two, Some("127.0.0.2")), 1 << 20).unwrap();
    for (source, text) in [(Ipv4Addr::new(127, 0, 0, 1), b"1"), (Ipv4Addr::new(127, 0, 0, 2), b"2")] {
        let sender = sender(source);
        sender.send_to(text, &one).unwrap();
        sender.send_to(text, &two).unwrap();
    }
    assert_eq!(receive(&first, 2).len(), 2);
    let specific = receive(&second, 1);
    assert_eq!(specific.len(), 1, "only the source that was asked for");
    assert_eq!(specific[0].1, b"2");
}

#[test]
fn a_group_that_cannot_be_joined_is_named_with_its_fix() {
    let bad = GroupSpec { interface: "nosuch0".into(), ..group("239.255.77.4:5", None) };
    let text = ReceiveSocket::open(
        &GroupSpec { address: format!("239.255.77.4:{}", free_port()).parse().unwrap(), ..bad },
        1000,
    )
    .unwrap_err()
    .to_string();
    assert!(
        text.contains("239.255.77.4") && text.contains("nosuch0") && text.contains("[receive] interface"),
        "{text}"
    );
    assert!(text.contains("there is no interface of this name") && text.contains("one of lo"), "{text}");
}

#[test]
fn a_waker_ends_the_wait() {
    let mut poll = Poll::new().unwrap();
    poll.waker().wake();
    let start = Instant::now();
    assert!(poll.wait(Duration::from_secs(30)).unwrap().is_empty());
    assert!(start.elapsed() < Duration::from_secs(20));
}
