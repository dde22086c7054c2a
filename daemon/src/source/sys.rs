//! System calls of the receive path without a safe wrapper.
#![allow(unsafe_code)] // setsockopt, recvmmsg, epoll, eventfd; each SAFETY comment says what holds

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use socket2::{SockAddr, Socket};

fn check(result: i32) -> io::Result<i32> {
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

fn set<T>(socket: &Socket, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads `size_of::<T>()` bytes of `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result).map(|_| ())
}

/// SO_RCVBUFFORCE: a receive buffer beyond net.core.rmem_max; needs CAP_NET_ADMIN.
pub(super) fn force_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &i32::try_from(bytes).unwrap_or(i32::MAX))
}

/// UDP_GRO: several datagrams of one sender in one message.
pub(super) fn enable_gro(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, &1_i32)
}

/// SO_RXQ_OVFL: the kernel reports the number of dropped datagrams.
pub(super) fn count_drops(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &1_i32)
}

/// Binds a packet socket to one interface, for every protocol.
pub(super) fn bind_packet_socket(socket: &Socket, index: u32) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).unwrap_or(i32::MAX);
    // SAFETY: the descriptor is open while `socket` is borrowed; the address is read within its own size.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    check(result).map(|_| ())
}

/// MCAST_JOIN_SOURCE_GROUP, for either IP version, by interface index.
pub(super) fn join_source_group(
    socket: &Socket,
    group: IpAddr,
    source: IpAddr,
    index: u32,
) -> io::Result<()> {
    #[repr(C)]
    struct GroupSourceReq {
        interface: u32,
        group: libc::sockaddr_storage,
        source: libc::sockaddr_storage,
    }
    let storage = |address: IpAddr| {
        let from = SockAddr::from(SocketAddr::new(address, 0));
        // SAFETY: all-zero is a valid sockaddr_storage.
        let mut to: libc::sockaddr_storage = unsafe { zeroed() };
        // SAFETY: `from` has `from.len()` bytes, never more than a sockaddr_storage, and the two do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                from.as_ptr().cast::<u8>(),
                std::ptr::from_mut(&mut to).cast(),
                from.len() as usize,
            );
        };
        to
    };
    let request = GroupSourceReq { interface: index, group: storage(group), source: storage(source) };
    let level = if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    set(socket, level, libc::MCAST_JOIN_SOURCE_GROUP, &request)
}

/// Bytes of ancillary data for each message: GRO segment size and drop count.
const CONTROL_BYTES: usize = 64;

/// Buffers for one `recvmmsg`. The message headers point into the boxes beside them during a call, and mean nothing between two: every
/// call sets all pointers again, since using a box otherwise, or moving it, ends what pointers into it may be used for.
pub(super) struct Messages {
    headers: Box<[libc::mmsghdr]>,
    names: Box<[libc::sockaddr_storage]>,
    vectors: Box<[libc::iovec]>,
    controls: Box<[[u64; CONTROL_BYTES / 8]]>,
    buffers: Box<[u8]>,
    buffer_bytes: usize,
}

// SAFETY: the raw pointers in `headers` and `vectors` are used only by `receive`, which sets them first, to boxes that this struct owns.
unsafe impl Send for Messages {}

/// One received message.
pub(super) struct Message<'a> {
    pub(super) source: Option<SocketAddr>,
    /// All datagrams of the message, one after the other.
    pub(super) bytes: &'a [u8],
    /// Length of each datagram but the last; `None` if there is one.
    pub(super) segment_bytes: Option<usize>,
    /// Datagrams that the kernel has dropped on this socket in total.
    pub(super) dropped: Option<u32>,
}

impl Messages {
    /// Room for `count` messages of `buffer_bytes` each.
    pub(super) fn new(count: usize, buffer_bytes: usize) -> Self {
        // SAFETY: all-zero is valid for these C structs.
        let (headers, names, vectors) = unsafe {
            (
                vec![zeroed::<libc::mmsghdr>(); count].into_boxed_slice(),
                vec![zeroed::<libc::sockaddr_storage>(); count].into_boxed_slice(),
                vec![zeroed::<libc::iovec>(); count].into_boxed_slice(),
            )
        };
        let controls = vec![[0; CONTROL_BYTES / 8]; count].into_boxed_slice();
        let buffers = vec![0_u8; count * buffer_bytes].into_boxed_slice();
        Self { headers, names, vectors, controls, buffers, buffer_bytes }
    }

    /// Fills the buffers with available messages; returns their number.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        let Self { headers, names, vectors, controls, buffers, buffer_bytes } = self;
        let parts = names.iter_mut().zip(controls).zip(vectors).zip(buffers.chunks_exact_mut(*buffer_bytes));
        for (header, (((name, control), vector), buffer)) in headers.iter_mut().zip(parts) {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut header.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = std::ptr::from_mut(name).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        let count = headers.len() as libc::c_uint;
        // SAFETY: every header points to buffers of the stated lengths that `self` owns; all pointers were made just now, of
        // exclusive borrows of distinct parts, and nothing has used these parts since.
        let result = unsafe {
            libc::recvmmsg(socket, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        check(result).map(|count| count as usize)
    }

    /// Message number `at` of the last [`Messages::receive`].
    pub(super) fn get(&self, at: usize) -> Message<'_> {
        let header = &self.headers[at];
        let length = (header.msg_len as usize).min(self.buffer_bytes);
        let start = at * self.buffer_bytes;
        let (mut segment_bytes, mut dropped) = (None, None);
        #[allow(clippy::unnecessary_cast)] // a socklen_t with musl
        let control = (header.msg_hdr.msg_controllen as usize).min(CONTROL_BYTES);
        for (level, kind, value) in control_messages(&self.controls[at], control) {
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment_bytes = usize::try_from(value).ok().filter(|&it| it > 0);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => dropped = Some(value as u32),
                _ => {}
            }
        }
        Message {
            source: address(&self.names[at]),
            bytes: &self.buffers[start..start + length],
            segment_bytes,
            dropped,
        }
    }
}

/// Walks ancillary data: level, type, and the first 32 bits of each.
fn control_messages(
    words: &[u64; CONTROL_BYTES / 8],
    length: usize,
) -> impl Iterator<Item = (i32, i32, i32)> {
    let mut bytes = [0; CONTROL_BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = size_of::<libc::cmsghdr>();
        let number = |from: usize| Some(i32::from_ne_bytes(*bytes.get(from..length)?.first_chunk()?));
        // cmsg_len is a size_t: its low half comes first on every little-endian target that we ship for, and control
        // messages are far shorter than 2^31; on big-endian ones the complete field is read below.
        let own =
            if cfg!(target_endian = "little") { number(at)? } else { number(at + size_of::<usize>() - 4)? };
        let own = usize::try_from(own).ok().filter(|&own| own >= header)?;
        let level = number(at + header - 8)?;
        let kind = number(at + header - 4)?;
        let value = number(at + header).unwrap_or(0);
        at += own.next_multiple_of(size_of::<usize>());
        Some((level, kind, value))
    })
}

fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, which is smaller than the storage and no stricter
            // aligned.
            let v4 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            Some(SocketAddr::from((
                Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)),
                u16::from_be(v4.sin_port),
            )))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            Some(SocketAddr::from((Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port))))
        }
        _ => None,
    }
}

/// An epoll instance.
pub(super) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the new descriptor has no other owner.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?)) }
}

/// Adds a socket to an epoll instance, with `token` as its name.
pub(super) fn epoll_add(epoll: &OwnedFd, socket: RawFd, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    // SAFETY: the event is readable for the length of the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket, &raw mut event) })
        .map(|_| ())
}

/// Waits at most `timeout_ms`; returns the tokens of readable sockets.
pub(super) fn epoll_wait(epoll: &OwnedFd, tokens: &mut Vec<u64>, timeout_ms: i32) -> io::Result<()> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    // SAFETY: `events` has room for the number of events that is passed.
    let result =
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, timeout_ms) };
    tokens.clear();
    match check(result) {
        Ok(count) => tokens.extend(events[..count as usize].iter().map(|event| event.u64)),
        Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
        Err(err) => return Err(err),
    }
    Ok(())
}

/// An event counter that wakes an epoll.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the new descriptor has no other owner.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?)) }
}
