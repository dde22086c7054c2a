//! Waiting of one thread for many sockets, with a waker.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::sys;

/// Token of the waker.
const WAKE: u64 = u64::MAX;

/// An epoll instance with a waker.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
    wake: Arc<File>,
    tokens: Vec<u64>,
}

/// Wakes a [`Poll`] from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<File>);

impl Waker {
    /// Ends the current or next wait.
    pub fn wake(&self) {
        // A full counter has already woken it.
        let _ = (&*self.0).write_all(&1_u64.to_ne_bytes());
    }
}

impl Poll {
    /// Creates one that waits only for its waker.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (epoll, wake) = (sys::epoll()?, File::from(sys::eventfd()?));
        sys::epoll_add(&epoll, wake.as_raw_fd(), WAKE)?;
        Ok(Self { epoll, wake: Arc::new(wake), tokens: Vec::with_capacity(64) })
    }

    /// A handle that wakes it.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// Adds a socket to wait for; closing the socket removes it.
    ///
    /// # Errors
    /// If the kernel does not add it (`epoll_ctl`): the limit of watches, or memory.
    pub fn add(&self, socket: &impl AsRawFd, token: u64) -> io::Result<()> {
        sys::epoll_add(&self.epoll, socket.as_raw_fd(), token)
    }

    /// Waits until something is readable, [`Waker`] is used, or `timeout` has passed; returns the tokens of readable
    /// sockets.
    ///
    /// # Errors
    /// If `epoll_wait` fails; an interruption by a signal does not count.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<&[u64]> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        sys::epoll_wait(&self.epoll, &mut self.tokens, timeout_ms)?;
        if let Some(at) = self.tokens.iter().position(|&token| token == WAKE) {
            self.tokens.swap_remove(at);
            let mut count = [0; 8];
            let _ = (&*self.wake).read(&mut count);
        }
        Ok(&self.tokens)
    }
}
