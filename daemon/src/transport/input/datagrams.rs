//! Packets in datagrams, with RTP headers or without, and baseband frames, with a mode adaptation header or without.

use std::net::SocketAddr;

use carousel::ts::rtp::RtpCounts;
use carousel::ts::wrapping::{Unit, Unwrap, Wrapping};

use super::{Input, PATIENCE, Read};
use crate::source::{Batch, GroupSpec, Poll, ReceiveSocket};

/// Batches read before others have their turn.
const TURN: usize = 8;

/// A socket.
pub(super) struct Datagrams {
    socket: ReceiveSocket,
    poll: Poll,
    batch: Batch,
    unwrap: Unwrap,
    is_frames: bool,
}

impl Datagrams {
    pub(super) fn open(
        address: SocketAddr,
        interface: &str,
        socket_buffer_bytes: usize,
        is_frames: bool,
    ) -> Result<Self, String> {
        let group = GroupSpec { address, source: None, interface: interface.to_owned() };
        let socket = ReceiveSocket::open(&group, socket_buffer_bytes).map_err(|err| err.to_string())?;
        let failed = |err: std::io::Error| format!("{address}: {err}");
        let poll = Poll::new().map_err(failed)?;
        poll.add(&socket, 0).map_err(failed)?;
        Ok(Self { socket, poll, batch: Batch::default(), unwrap: Unwrap::default(), is_frames })
    }
}

impl Input for Datagrams {
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, String> {
        let is_idle = self.poll.wait(PATIENCE).map_err(|err| format!("waiting failed: {err}"))?.is_empty();
        if is_idle {
            self.unwrap.idle(each);
            return Ok(Read::More);
        }
        for _ in 0..TURN {
            let (unwrap, is_frames) = (&mut self.unwrap, self.is_frames);
            let received = self
                .batch
                .read(&self.socket, |_, payload| {
                    // What is no stream is one of wrong frames, or packets whose sync bytes are wrong: they are counted as such.
                    let otherwise = if is_frames { Wrapping::Frame } else { Wrapping::Packets };
                    unwrap.datagram(Wrapping::of(payload).unwrap_or(otherwise), payload, each);
                })
                .map_err(|err| format!("{}: reading failed: {err}", self.socket.group()))?;
            if !received.more {
                break;
            }
        }
        Ok(Read::More)
    }

    fn rtp(&self) -> Option<RtpCounts> {
        self.unwrap.rtp()
    }
}
