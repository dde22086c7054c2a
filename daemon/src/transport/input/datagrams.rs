//! Datagram input: packets with or without RTP headers, and baseband frames with or without a mode adaptation header.

use std::net::SocketAddr;

use carousel::multiplex::wrapping::{Unit, Unwrap};

use super::{Input, InputError, PATIENCE, Read};
use crate::source::{Batch, GroupSpec, Poll, ReceiveSocket};

/// Batches in one read.
const TURN: usize = 8;

/// A socket.
pub(super) struct Datagrams {
    socket: ReceiveSocket,
    poll: Poll,
    batch: Batch,
    unwrap: Unwrap,
}

impl Datagrams {
    pub(super) fn open(
        address: SocketAddr,
        interface: &str,
        socket_buffer_bytes: usize,
        is_frames: bool,
    ) -> Result<Self, InputError> {
        let group = GroupSpec { address, source: None, interface: interface.to_owned() };
        let socket = ReceiveSocket::open(&group, socket_buffer_bytes)
            .map_err(|err| InputError::Socket(err.to_string()))?;
        let failed = |err: std::io::Error| InputError::local(address.to_string(), err);
        let poll = Poll::new().map_err(failed)?;
        poll.add(&socket, 0).map_err(failed)?;
        let unwrap = if is_frames { Unwrap::of_frames() } else { Unwrap::default() };
        Ok(Self { socket, poll, batch: Batch::default(), unwrap })
    }
}

impl Input for Datagrams {
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, InputError> {
        let failed = |err: std::io::Error| InputError::local("waiting failed".to_owned(), err);
        let is_idle = self.poll.wait(PATIENCE).map_err(failed)?.is_empty();
        if is_idle {
            self.unwrap.idle(each);
            return Ok(Read::More);
        }
        for _ in 0..TURN {
            let unwrap = &mut self.unwrap;
            let received = self
                .batch
                .read(&self.socket, |_, payload| unwrap.datagram(payload, each))
                .map_err(|err| InputError::local(format!("{}: reading failed", self.socket.group()), err))?;
            if !received.more {
                break;
            }
        }
        Ok(Read::More)
    }

    fn unwrap(&self) -> Option<&Unwrap> {
        Some(&self.unwrap)
    }
}
