//! The same from a socket: a thread sends trains with UDP GSO to a multicast group on loopback, never further ahead
//! than the socket buffer holds, so that nothing is dropped and every contender gets every packet.
#![allow(unsafe_code)] // sendmsg with UDP_SEGMENT, recvmmsg of the bare loop

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycache::source::{Batch, GroupSpec, Poll, ReceiveSocket};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::contenders::{Bare, Contender, Ours, Target};
use crate::meter::{Cost, Table};
use crate::packets::Stream;

/// Datagrams that may be on their way: a fraction of the socket buffer of 8 MiB, each counted by the kernel as 2304 bytes
/// or more.
const WINDOW: usize = 1024;

pub(crate) fn from_loopback(stream: &Stream, rounds: usize, folder: &Path) {
    let mut table =
        Table::new("from a loopback socket (GSO sender)", "bare recvmmsg, copy → fresh file, without GRO");
    for round in 0..rounds {
        let mut bare = Bare::new(stream, Target::File, folder);
        let cost = run(stream, |socket, received| bare_loop(socket, &mut bare, stream.packets(), received));
        table.add("bare recvmmsg, copy → fresh file, without GRO", round, cost, stream);
        assert_eq!(bare.whole(), stream.objects(), "the bare loop missed packets");

        let mut bare = Bare::new(stream, Target::File, folder);
        let cost = run(stream, |socket, received| our_loop(socket, &mut bare, stream.packets(), received));
        table.add("bare, with our socket and GRO", round, cost, stream);
        assert_eq!(bare.whole(), stream.objects(), "the bare loop with GRO missed packets");

        let mut ours = Ours::new(stream, folder);
        let cost = run(stream, |socket, received| our_loop(socket, &mut ours, stream.packets(), received));
        table.add("skycached → store", round, cost, stream);
        assert_eq!(ours.whole(), stream.objects(), "skycached missed packets");
    }
    table.print();
}

/// Sends the stream from another thread while `receive` takes it.
fn run(stream: &Stream, receive: impl FnOnce(&ReceiveSocket, &AtomicUsize)) -> Cost {
    let port = free_port();
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 1), port);
    let spec = GroupSpec { address: group.into(), source: None, interface: "127.0.0.1".to_owned() };
    let socket = ReceiveSocket::open(&spec, 8 << 20).expect("a multicast group on loopback");
    let received = Arc::new(AtomicUsize::new(0));
    let mut cost = None;
    std::thread::scope(|scope| {
        let counter = Arc::clone(&received);
        scope.spawn(move || send(stream, group, &counter));
        cost = Some(Cost::of(|| receive(&socket, &received)));
    });
    cost.expect("ran")
}

fn our_loop(socket: &ReceiveSocket, contender: &mut dyn Contender, packets: usize, received: &AtomicUsize) {
    let mut poll = Poll::new().expect("epoll");
    poll.add(socket, 1).expect("epoll");
    let mut batch = Batch::default();
    let mut count = 0;
    while count < packets {
        poll.wait(std::time::Duration::from_secs(1)).expect("epoll");
        loop {
            let read = batch.read(socket, |_, datagram| contender.packet(datagram)).expect("recvmmsg");
            contender.end_batch();
            count += read.datagrams;
            received.store(count, Ordering::Release);
            if !read.more {
                break;
            }
        }
    }
}

fn bare_loop(socket: &ReceiveSocket, contender: &mut Bare, packets: usize, received: &AtomicUsize) {
    const BATCH: usize = 32;
    let off = 0_i32;
    // SAFETY: the value outlives the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const off).cast(),
            size_of::<i32>() as libc::socklen_t,
        );
    }
    let mut buffers = vec![[0_u8; 2048]; BATCH];
    // SAFETY: all-zero is valid for these C structs; pointers are set below and stay valid while `buffers` lives.
    let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for at in 0..BATCH {
        vectors[at].iov_base = buffers[at].as_mut_ptr().cast();
        vectors[at].iov_len = 2048;
        headers[at].msg_hdr.msg_iov = &raw mut vectors[at];
        headers[at].msg_hdr.msg_iovlen = 1;
    }
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut count = 0;
    while count < packets {
        // SAFETY: one descriptor, one struct.
        unsafe { libc::poll(&raw mut poll, 1, 1000) };
        loop {
            // SAFETY: every header points at its vector and that at its buffer.
            let got = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    BATCH as u32,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            let Ok(got) = usize::try_from(got) else { break };
            for at in 0..got {
                contender.packet(&buffers[at][..headers[at].msg_len as usize]);
            }
            count += got;
            received.store(count, Ordering::Release);
            if got < BATCH {
                break;
            }
        }
    }
}

fn send(stream: &Stream, group: SocketAddrV4, received: &AtomicUsize) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("socket");
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("interface");
    let _ = socket.set_send_buffer_size(4 << 20);
    let to = SockAddr::from(SocketAddr::from(group));
    let mut sent = 0;
    for (train, segment) in stream.trains() {
        while sent >= received.load(Ordering::Acquire) + WINDOW {
            std::thread::yield_now();
        }
        send_train(&socket, &to, train, segment as u16).expect("sendmsg");
        sent += train.len().div_ceil(segment);
    }
}

/// One `sendmsg` with `UDP_SEGMENT`.
fn send_train(socket: &Socket, to: &SockAddr, train: &[u8], segment: u16) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: train.as_ptr().cast_mut().cast(), iov_len: train.len() };
    let mut control = [0_u64; 4];
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(2) } as _;
    // SAFETY: the control buffer has room for one header and two bytes, and is aligned for it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
    }
    // SAFETY: everything that the message points at is alive.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("address").port()
}
