//! A client that costs little: a thread for each core, epoll, and bodies that the kernel drops.
#![allow(unsafe_code)] // recv with MSG_TRUNC, which no safe wrapper offers

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests, and their form.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    /// Each request asks for one of these, drawn again: repeats make it likelier.
    pub(crate) paths: Arc<Vec<(String, u64)>>,
    /// Bytes of a range drawn from the object.
    pub(crate) range: Option<u64>,
    pub(crate) connections: usize,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

/// Result.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    pub(crate) p99_us: f64,
    pub(crate) cpu_s: f64,
}

struct Connection {
    stream: TcpStream,
    /// Part of the head that has come; empty while the body comes.
    head: Vec<u8>,
    left: u64,
    expected: u64,
    asked_at: Instant,
}

impl Load {
    pub(crate) fn run(&self) -> Taken {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.connections);
        let begun = Instant::now();
        let mut taken = Taken::default();
        let mut times = Vec::new();
        std::thread::scope(|scope| {
            let share =
                |thread: usize| self.connections / threads + usize::from(thread < self.connections % threads);
            let all: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || self.drive(share(thread), thread as u64)))
                .collect();
            for one in all {
                let (one, mut latencies) = one.join().expect("a thread");
                taken.requests += one.requests;
                taken.bytes += one.bytes;
                taken.errors += one.errors;
                times.append(&mut latencies);
            }
        });
        taken.seconds = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        taken.p99_us = times.get(times.len() * 99 / 100).copied().unwrap_or(0) as f64;
        taken
    }

    fn drive(&self, connections: usize, thread: u64) -> (Taken, Vec<u32>) {
        let mut random = Random(self.seed * 1000 + thread + 1);
        // SAFETY: a plain system call.
        let epoll = unsafe { libc::epoll_create1(0) };
        let mut all: Vec<Connection> = (0..connections).map(|_| self.connect()).collect();
        for (at, connection) in all.iter_mut().enumerate() {
            register(epoll, connection, at);
            self.ask(connection, &mut random);
        }
        let (mut taken, mut times) = (Taken::default(), Vec::new());
        let until = Instant::now() + self.time;
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        while Instant::now() < until {
            // SAFETY: the array has as many entries as are named.
            let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, 100) };
            for event in &events[..usize::try_from(count).unwrap_or(0)] {
                let at = event.u64 as usize;
                match all[at].receive() {
                    Ok(false) => {}
                    Ok(true) => {
                        let connection = &mut all[at];
                        taken.requests += 1;
                        taken.bytes += connection.expected;
                        times.push(
                            u32::try_from(connection.asked_at.elapsed().as_micros()).unwrap_or(u32::MAX),
                        );
                        self.ask(connection, &mut random);
                    }
                    Err(err) => {
                        if err.kind() != io::ErrorKind::ConnectionReset {
                            taken.errors += 1;
                        }
                        all[at] = self.connect();
                        register(epoll, &all[at], at);
                        self.ask(&mut all[at], &mut random);
                    }
                }
            }
        }
        // SAFETY: it is ours, and not used again.
        unsafe { libc::close(epoll) };
        (taken, times)
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_nodelay(true).expect("an option");
        stream.set_nonblocking(true).expect("an option");
        Connection { stream, head: Vec::with_capacity(4096), left: 0, expected: 0, asked_at: Instant::now() }
    }

    fn ask(&self, connection: &mut Connection, random: &mut Random) {
        let (path, length) = &self.paths[random.below(self.paths.len() as u64) as usize];
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: cdn.example.com\r\nUser-Agent: bench\r\n");
        connection.expected = *length;
        if let Some(bytes) = self.range {
            let start = random.below(length - bytes);
            request.push_str(&format!("Range: bytes={start}-{}\r\n", start + bytes - 1));
            connection.expected = bytes;
        }
        request.push_str("\r\n");
        connection.asked_at = Instant::now();
        connection.head.clear();
        connection.left = 0;
        (&connection.stream).write_all(request.as_bytes()).expect("a request fits the socket");
    }
}

fn register(epoll: i32, connection: &Connection, at: usize) {
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32, u64: at as u64 };
    // SAFETY: both descriptors are open; the event is copied.
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, connection.stream.as_raw_fd(), &raw mut event) };
}

impl Connection {
    /// Takes what has come. True when the response is over.
    fn receive(&mut self) -> io::Result<bool> {
        if self.left == 0 {
            let mut bytes = [0; 4096];
            let count = match (&self.stream).read(&mut bytes) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            };
            if count == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.head.extend_from_slice(&bytes[..count]);
            let Some(end) = self.head.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(false) };
            let head = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
            let is_right = head.starts_with("http/1.1 20") && length == Some(self.expected);
            if !is_right {
                return Err(io::Error::other(head));
            }
            self.left = self.expected - (self.head.len() - end - 4) as u64;
            if self.left == 0 {
                return Ok(true);
            }
        }
        loop {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(1 << 30);
            let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
            // SAFETY: with MSG_TRUNC TCP drops the bytes and writes nothing.
            let count = unsafe { libc::recv(self.stream.as_raw_fd(), std::ptr::null_mut(), most, flags) };
            match count {
                0 => return Err(io::Error::other("cut")),
                count if count < 0 => {
                    let err = io::Error::last_os_error();
                    return if err.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(err) };
                }
                count => self.left -= count as u64,
            }
            if self.left == 0 {
                return Ok(true);
            }
        }
    }
}

/// Asks once for each path, and compares what comes with the file.
pub(crate) fn warm(address: SocketAddr, files: &[(String, std::path::PathBuf)]) {
    for (path, file) in files {
        let mut stream = TcpStream::connect(address).expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: cdn.example.com\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("asked");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("answered");
        let body = response.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
        let file = std::fs::read(file).expect("the file");
        // A body that came in chunks ends with them.
        assert!(
            response[body..].len() >= file.len(),
            "{path}: {}",
            String::from_utf8_lossy(&response[..body])
        );
    }
}

/// xorshift: the client must not be what is measured.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) % end
    }
}
