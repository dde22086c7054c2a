//! Multiplexing into a transport stream: tables, payload and stuffing, packet by packet.
//!
//! ```text
//! tables     ─ PAT PMT NIT SDT TDT TOT (INT), each at its interval ┐
//! Air        ─ IP packets ─ MPE sections                           ├─▶ next packet, or stuffing
//! Rotation   ─ DSI, DII, blocks of modules                         ┘
//! ```
//!
//! Due tables are sent first, payload in the rest. Time and objects are arguments; for a constant bit rate, the caller polls
//! every packet at its time.

pub mod rotation;
mod tables;

use std::net::SocketAddr;

use carousel::ip::write_udp;
use carousel::mpe;
use carousel::time::WallTime;
use carousel::ts::{PACKET_BYTES, Packetizer, null_packet};

pub use rotation::Rotation;

use crate::air::Air;
use crate::config::Config;
use crate::forward::Forward;
use crate::options::{Carry, Multiplex as MultiplexConfig};
use tables::Table;

/// TTL of packets inside the stream: they end at the receiver.
const TTL: u8 = 8;
/// Bytes of sections that are queued at most: a table that is due is sent behind no more than these.
const WAITING_BYTES: usize = 4096;

/// Kind of the next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Tables or payload.
    Used,
    /// Stuffing.
    Stuffing,
    /// Nothing: there is nothing to send, and no stuffing is wanted.
    Idle,
}

/// Payload of the stream.
#[derive(Debug)]
enum Payload {
    Ip,
    Carousel(Box<Rotation>),
}

/// A transport stream that is being written.
#[derive(Debug)]
pub struct Mux {
    tables: Vec<Table>,
    payload: Payload,
    packetizer: Packetizer,
    stuffing: bool,
    is_draining: bool,
    /// Source addresses of IP packets, IPv4 and IPv6.
    source: [SocketAddr; 2],
    packet: Vec<u8>,
    ip: Vec<u8>,
    forward: Forward,
    null: [u8; PACKET_BYTES],
}

impl Mux {
    /// A stream that has sent nothing, for a configuration with `[multiplex]`.
    ///
    /// # Errors
    /// Tables that do not fit a section.
    pub fn new(
        config: &Config,
        multiplex: &MultiplexConfig,
        once: bool,
        start: WallTime,
    ) -> Result<Self, String> {
        let payload = match multiplex.carry {
            Carry::ObjectCarousel | Carry::DataCarousel => {
                Payload::Carousel(Box::new(Rotation::new(config, multiplex, once)))
            }
            Carry::Mpe | Carry::Gse => Payload::Ip,
        };
        let tables = tables::tables(config, multiplex, start).map_err(|err| format!("[multiplex]: {err}"))?;
        Ok(Self {
            tables,
            payload,
            packetizer: match multiplex.is_carousel() {
                true => Packetizer::new(multiplex.data_pid()).spread(),
                false => Packetizer::new(multiplex.data_pid()),
            },
            stuffing: multiplex.stuffing,
            is_draining: false,
            source: sources(config),
            packet: Vec::new(),
            ip: Vec::new(),
            forward: Forward::default(),
            null: null_packet(),
        })
    }

    /// Writes the next packet, which is sent at `now_ns`.
    ///
    /// # Errors
    /// Objects that cannot be carried.
    pub fn next_packet(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        air: &mut Air,
        out: &mut [u8; PACKET_BYTES],
    ) -> Result<Slot, String> {
        for table in &mut self.tables {
            if table.next_packet(now_ns, wall, out) {
                return Ok(Slot::Used);
            }
        }
        self.take_forwarded();
        while !self.is_draining && self.packetizer.waiting() < WAITING_BYTES {
            let more = match &mut self.payload {
                Payload::Ip => match air.next_packet(now_ns, wall, &mut self.packet) {
                    None => false,
                    Some(departure) => {
                        let destination = departure.destination;
                        let source = self.source[usize::from(destination.is_ipv6())];
                        self.ip.clear();
                        write_udp(&mut self.ip, source, destination, TTL, &self.packet);
                        self.packetizer.push_with(|section| mpe::write(section, &self.ip)).map_err(
                            |err| format!("{destination}: {err}; lower carousel.symbol_length_bytes"),
                        )?;
                        true
                    }
                },
                Payload::Carousel(rotation) => {
                    rotation.next_section(now_ns, wall, air, &mut self.packetizer)?
                }
            };
            if !more {
                break;
            }
        }
        if self.packetizer.next(out, true) {
            return Ok(Slot::Used);
        }
        if self.stuffing {
            *out = self.null;
            return Ok(Slot::Stuffing);
        }
        Ok(Slot::Idle)
    }

    /// Queue of packets of other senders.
    pub const fn forward(&mut self) -> &mut Forward {
        &mut self.forward
    }

    /// Queues packets of other senders before our own.
    fn take_forwarded(&mut self) {
        while self.packetizer.waiting() < WAITING_BYTES {
            let Some(ip) = self.forward.take() else { break };
            if self.packetizer.push_with(|section| mpe::write(section, &ip)).is_err() {
                self.forward.refuse();
            }
            self.forward.give_back(ip);
        }
    }

    /// Packets of other senders carried and dropped.
    pub const fn forwarded(&self) -> (u64, u64) {
        (self.forward.carried, self.forward.dropped)
    }

    /// Whether a single pass is over.
    pub fn is_over(&self, air: &Air) -> bool {
        self.packetizer.waiting() == 0
            && match &self.payload {
                Payload::Ip => air.is_over(),
                Payload::Carousel(rotation) => rotation.is_over(),
            }
    }

    /// Whether everything was sent once, to the last packet. Starts nothing new when only queued sections are left.
    pub fn cycle_done(&mut self, air: &Air) -> bool {
        self.is_draining |= match &self.payload {
            Payload::Ip => air.cycle_done(),
            Payload::Carousel(rotation) => rotation.cycle_done(),
        };
        self.is_draining && self.packetizer.waiting() == 0
    }

    /// Starts nothing new from now on.
    pub fn close(&mut self) {
        if let Payload::Carousel(rotation) = &mut self.payload {
            rotation.close();
        }
    }

    /// Objects that could not be carried since the last call, with the reason.
    pub fn refused(&mut self) -> Vec<String> {
        match &mut self.payload {
            Payload::Carousel(rotation) => rotation.refused(),
            Payload::Ip => Vec::new(),
        }
    }

    /// The DSM-CC carousel, if the stream has one.
    pub const fn rotation(&self) -> Option<&Rotation> {
        match &self.payload {
            Payload::Carousel(rotation) => Some(rotation),
            Payload::Ip => None,
        }
    }
}

/// Source addresses of packets in the stream, IPv4 and IPv6: as configured, else addresses for documentation (RFC 5737, RFC
/// 3849).
pub fn sources(config: &Config) -> [SocketAddr; 2] {
    let port = 50_000;
    let mut sources = [
        SocketAddr::from(([192, 0, 2, 1], port)),
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port)),
    ];
    if let Some(own) = config.sessions.source {
        sources[usize::from(own.is_ipv6())] = SocketAddr::new(own, port);
    }
    sources
}

#[cfg(test)]
mod tests;
