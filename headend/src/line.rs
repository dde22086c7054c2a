//! Framing for the link: bare IP packets, datagrams of a transport stream, or baseband frames.
//!
//! Each is polled for the next datagram at the time of sending, and reports its bytes on the link.

mod groups;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use carousel::gse::{Encapsulator, FrameProfile, kbch_bits};
use carousel::ip::write_udp;
use carousel::time::WallTime;
use carousel::ts::{PACKET_BYTES, PACKETS_PER_DATAGRAM, rtp};

use crate::air::{Air, LiveDrops};
use crate::config::Config;
use crate::forward::Forward;
use crate::multiplex::{Mux, Rotation, Slot, sources};
use crate::options::{Carry, Destination, DvbS2, Multiplex};
use crate::overhead::IP_UDP_BYTES;
use groups::Groups;

/// Default destination of a stream in a recording.
const RECORDED_TO: &str = "udp://239.10.0.1:5004";
/// TTL of packets inside baseband frames: they end at the receiver.
const INNER_TTL: u8 = 8;
/// A sync byte before ACM command, CNI and frame number: mode adaptation input interface L.3.
const MODE_ADAPTATION_SYNC: u8 = 0xb8;

/// A datagram to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingDatagram {
    /// Destination.
    pub destination: SocketAddr,
    /// Bytes on the link.
    pub link_bytes: usize,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineStats {
    /// Packets: of IP, of the transport stream, or frames.
    pub packets: u64,
    /// Stuffing among them.
    pub stuffing: u64,
    /// Bytes counted against the link's rate.
    pub link_bytes: u64,
    /// Objects on the air.
    pub on_air: usize,
    /// Objects or modules sent to their end, repeats included.
    pub sent: u64,
    /// Objects that changed or vanished on disk during transmission.
    pub broken_off: u64,
    /// Dropped live objects, by reason.
    pub live_dropped: LiveDrops,
    /// Forwarded packets of other senders, and dropped ones.
    pub forwarded: (u64, u64),
    /// Bundles of firmware on the air.
    pub bundles: usize,
    /// Unit of `sent`.
    pub unit: &'static str,
    /// Unit of `packets`.
    pub packet: &'static str,
}

impl LineStats {
    /// One line of text.
    pub fn to_text(&self, elapsed: Duration) -> String {
        let rate = self.link_bytes as f64 * 8e-6 / elapsed.as_secs_f64().max(0.001);
        let broken = match self.broken_off {
            0 => String::new(),
            count => format!(", {count} broken off because they changed"),
        };
        let dropped = match self.live_dropped.total() {
            0 => String::new(),
            count => {
                let told = self.live_dropped.labelled().filter(|(_, count)| *count > 0);
                let told: Vec<String> = told.map(|(why, count)| format!("{count} {why}")).collect();
                format!(", {count} live objects dropped ({})", told.join(", "))
            }
        };
        let stuffing = match self.stuffing {
            0 => String::new(),
            count => format!(" ({:.1} % stuffing)", count as f64 * 100.0 / self.packets.max(1) as f64),
        };
        let forwarded = match self.forwarded {
            (0, 0) => String::new(),
            (carried, dropped) => format!(", {carried} packets of others ({dropped} dropped)"),
        };
        let Self { packets, packet, sent, unit, .. } = self;
        format!(
            "{packets} {packet}{stuffing}, {sent} {unit} sent with repeats{broken}{dropped}{forwarded}, {rate:.3} Mbit/s"
        )
    }
}

/// Framing of a link.
#[derive(Debug)]
pub enum Line {
    /// Bare IP packets.
    Ip,
    /// A transport stream, seven packets per datagram.
    Ts(Box<Ts>),
    /// Baseband frames, one per datagram.
    Frames(Box<Frames>),
}

/// A transport stream in datagrams.
#[derive(Debug)]
pub struct Ts {
    mux: Mux,
    groups: Option<Groups>,
    to: Option<Destination>,
    sequence: u16,
    packets: u64,
    stuffing: u64,
    slot_ns: f64,
}

/// Baseband frames in datagrams.
#[derive(Debug)]
pub struct Frames {
    encapsulator: Encapsulator,
    to: SocketAddr,
    sources: [SocketAddr; 2],
    forward: Forward,
    groups: Option<Groups>,
    ready: VecDeque<Vec<u8>>,
    packet: Vec<u8>,
    ip: Vec<u8>,
    /// ACM command, if each frame has a mode adaptation header.
    acm: Option<u8>,
    frames: u64,
    bytes: u64,
}

impl Line {
    /// The framing of a configuration. `datagrams`: with destinations and headers; false for files of packets.
    ///
    /// # Errors
    /// A multiplex without a destination, or an impossible one.
    pub fn open(config: &Config, once: bool, datagrams: bool, start: WallTime) -> Result<Self, String> {
        let Some(multiplex) = &config.multiplex else { return Ok(Self::Ip) };
        let recorded = RECORDED_TO.parse().ok();
        let to = multiplex.to.or(recorded).filter(|_| datagrams);
        if multiplex.carry != Carry::Gse {
            let mux = Mux::new(config, multiplex, once, start)?;
            let slot_ns = PACKET_BYTES as f64 * 8e9 / config.link.rate_bps as f64;
            return Ok(Self::Ts(Box::new(Ts {
                mux,
                groups: None,
                to,
                sequence: 0,
                packets: 0,
                stuffing: 0,
                slot_ns,
            })));
        }
        let rate = config.code_rate().unwrap_or_default();
        let kbch = kbch_bits(rate).ok_or_else(|| format!("[multiplex]: DVB-S2 has no code rate {rate}"))?;
        let profile = FrameProfile { data_bytes: kbch / 8 - 10, isi: multiplex.isi, roll_off: 2 };
        Ok(Self::Frames(Box::new(Frames {
            encapsulator: Encapsulator::new(profile),
            to: to.map_or_else(|| SocketAddr::from(([239, 10, 0, 1], 5004)), |it| it.address),
            sources: sources(config),
            forward: Forward::default(),
            groups: None,
            ready: VecDeque::new(),
            packet: Vec::new(),
            ip: Vec::new(),
            acm: multiplex.mode_adaptation.then(|| acm_command(config)),
            frames: 0,
            bytes: 0,
        })))
    }

    /// Joins the groups to forward.
    ///
    /// # Errors
    /// A group that cannot be joined.
    pub fn forward(&mut self, config: &Config) -> Result<(), String> {
        let groups = config.multiplex.as_ref().map(|it| it.forward.as_slice()).unwrap_or_default();
        if groups.is_empty() {
            return Ok(());
        }
        let joined = Groups::join(groups, &config.output.interface)?;
        match self {
            Self::Ip => {}
            Self::Ts(ts) => ts.groups = Some(joined),
            Self::Frames(frames) => frames.groups = Some(joined),
        }
        Ok(())
    }

    /// All possible destinations of datagrams; `groups` are those of the sessions.
    pub fn destinations(&self, groups: Vec<SocketAddr>) -> Vec<SocketAddr> {
        match self {
            Self::Ip => groups,
            Self::Ts(ts) => ts.to.iter().map(|to| to.address).collect(),
            Self::Frames(frames) => vec![frames.to],
        }
    }

    /// Destination for receivers, as text.
    pub fn where_to(&self, config: &Config) -> String {
        let carries = |multiplex: &Multiplex| match multiplex.carry {
            Carry::Mpe => "IP by MPE",
            Carry::ObjectCarousel => "object carousel",
            Carry::DataCarousel => "data carousel",
            Carry::Gse => "IP by GSE",
        };
        let carries = config.multiplex.as_ref().map_or("", carries);
        match self {
            Self::Ip if config.sessions.announce => {
                let sessions = &config.sessions;
                format!("announced on {}, configuration on {}", sessions.announcement, sessions.configuration)
            }
            Self::Ip => format!("not announced, configuration on {}", config.sessions.configuration),
            Self::Ts(ts) => match ts.to {
                Some(to) => format!("{carries} to {}://{}", if to.rtp { "rtp" } else { "udp" }, to.address),
                None => carries.to_owned(),
            },
            Self::Frames(frames) => format!("{carries} to udp://{}", frames.to),
        }
    }

    /// Writes the next datagram, to be sent at `now_ns`. `None`: none is due.
    ///
    /// # Errors
    /// For content that cannot be carried.
    pub fn next(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        air: &mut Air,
        out: &mut Vec<u8>,
    ) -> Result<Option<OutgoingDatagram>, String> {
        match self {
            Self::Ip => Ok(air.next_packet(now_ns, wall, out).map(|departure| OutgoingDatagram {
                destination: departure.destination,
                link_bytes: out.len() + IP_UDP_BYTES,
            })),
            Self::Ts(ts) => ts.next(now_ns, wall, air, out),
            Self::Frames(frames) => frames.next(now_ns, wall, air, out),
        }
    }

    /// Time at which the next datagram is due; `None`: never.
    pub fn next_due_ns(&self, now_ns: u64, air: &Air) -> Option<u64> {
        match self {
            Self::Ip | Self::Frames(_) => air.next_due_ns(),
            Self::Ts(_) if self.is_over(air) => None,
            // Poll again within 10 ms, for the tables.
            Self::Ts(_) => Some(now_ns + 10_000_000),
        }
    }

    /// Whether everything has been sent, close flags included.
    pub fn is_over(&self, air: &Air) -> bool {
        match self {
            Self::Ip => air.is_over(),
            Self::Ts(ts) => ts.mux.is_over(air),
            Self::Frames(frames) => frames.ready.is_empty() && air.is_over(),
        }
    }

    /// Whether everything was sent at least once.
    pub fn cycle_done(&mut self, air: &Air) -> bool {
        match self {
            Self::Ip => air.cycle_done(),
            Self::Ts(ts) => ts.mux.cycle_done(air),
            Self::Frames(frames) => frames.ready.is_empty() && air.cycle_done(),
        }
    }

    /// Number of objects or modules sent at least once, and total number.
    pub fn progress(&self, air: &Air) -> (usize, usize) {
        let rotation = match self {
            Self::Ts(ts) => ts.mux.rotation(),
            Self::Ip | Self::Frames(_) => None,
        };
        let of_air = || (air.started(), air.objects().count());
        rotation.map_or_else(of_air, Rotation::progress)
    }

    /// Ends the transmission: no further object is started.
    pub fn close(&mut self) {
        if let Self::Ts(ts) = self {
            ts.mux.close();
        }
    }

    /// Objects that could not be carried since the last call, with the reason.
    pub fn refused(&mut self) -> Vec<String> {
        match self {
            Self::Ts(ts) => ts.mux.refused(),
            Self::Ip | Self::Frames(_) => Vec::new(),
        }
    }

    /// Counters.
    pub fn stats(&self, air: &Air) -> LineStats {
        let (air, on_air) = (air.stats(), air.on_air());
        let of_air = LineStats {
            on_air,
            packets: air.packets,
            link_bytes: air.bytes + air.packets * IP_UDP_BYTES as u64,
            sent: air.objects_sent,
            broken_off: air.objects_broken_off,
            live_dropped: air.live_dropped,
            unit: "objects",
            packet: "packets",
            stuffing: 0,
            forwarded: (0, 0),
            bundles: 0,
        };
        match self {
            Self::Ip => of_air,
            Self::Ts(ts) => {
                let packets = LineStats {
                    packets: ts.packets,
                    stuffing: ts.stuffing,
                    link_bytes: ts.packets * PACKET_BYTES as u64,
                    packet: "packets of the transport stream",
                    forwarded: ts.mux.forwarded(),
                    ..of_air
                };
                match ts.mux.rotation() {
                    None => packets,
                    Some(rotation) => LineStats {
                        sent: rotation.stats().modules_sent,
                        broken_off: rotation.stats().objects_broken_off,
                        unit: "modules",
                        ..packets
                    },
                }
            }
            Self::Frames(frames) => LineStats {
                packets: frames.frames,
                link_bytes: frames.bytes,
                packet: "baseband frames",
                forwarded: (frames.forward.carried, frames.forward.dropped),
                ..of_air
            },
        }
    }
}

impl Ts {
    fn next(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        air: &mut Air,
        out: &mut Vec<u8>,
    ) -> Result<Option<OutgoingDatagram>, String> {
        out.clear();
        if let Some(groups) = &mut self.groups
            && self.mux.forward().is_empty()
        {
            groups.read(self.mux.forward())?;
        }
        if let Some(to) = self.to.filter(|to| to.rtp) {
            // 90 kHz; the source is the port, which alone distinguishes two streams of one host.
            let timestamp = (u128::from(now_ns) * 9 / 100_000) as u32;
            rtp::write_header(out, self.sequence, timestamp, u32::from(to.address.port()));
        }
        let header = out.len();
        let mut packet = [0; PACKET_BYTES];
        for at in 0..PACKETS_PER_DATAGRAM {
            if self.mux.is_over(air) {
                break;
            }
            let at_ns = now_ns + (at as f64 * self.slot_ns) as u64;
            match self.mux.next_packet(at_ns, wall, air, &mut packet)? {
                Slot::Idle => break,
                Slot::Stuffing => self.stuffing += 1,
                Slot::Used => {}
            }
            out.extend_from_slice(&packet);
            self.packets += 1;
        }
        let link_bytes = out.len() - header;
        if link_bytes == 0 {
            return Ok(None);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let nowhere = || SocketAddr::from(([0, 0, 0, 0], 0));
        Ok(Some(OutgoingDatagram { destination: self.to.map_or_else(nowhere, |to| to.address), link_bytes }))
    }
}

impl Frames {
    fn next(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        air: &mut Air,
        out: &mut Vec<u8>,
    ) -> Result<Option<OutgoingDatagram>, String> {
        if let Some(groups) = &mut self.groups
            && self.forward.is_empty()
        {
            groups.read(&mut self.forward)?;
        }
        while self.ready.is_empty() {
            let ready = &mut self.ready;
            if let Some(ip) = self.forward.take() {
                if self.encapsulator.push(&ip, |frame| ready.push_back(frame.to_vec())).is_err() {
                    self.forward.refuse();
                }
                self.forward.give_back(ip);
                continue;
            }
            let Some(departure) = air.next_packet(now_ns, wall, &mut self.packet) else {
                // No further packet now: send the partial frame.
                self.encapsulator.flush(|frame| ready.push_back(frame.to_vec()));
                break;
            };
            let destination = departure.destination;
            self.ip.clear();
            let source = self.sources[usize::from(destination.is_ipv6())];
            write_udp(&mut self.ip, source, destination, INNER_TTL, &self.packet);
            self.encapsulator
                .push(&self.ip, |frame| ready.push_back(frame.to_vec()))
                .map_err(|err| format!("{destination}: {err}"))?;
        }
        let Some(frame) = self.ready.pop_front() else { return Ok(None) };
        out.clear();
        if let Some(acm) = self.acm {
            out.extend_from_slice(&[MODE_ADAPTATION_SYNC, acm, 0, self.frames as u8]);
        }
        out.extend_from_slice(&frame);
        self.frames += 1;
        self.bytes += frame.len() as u64;
        Ok(Some(OutgoingDatagram { destination: self.to, link_bytes: frame.len() }))
    }
}

/// ACM command with the carrier's MODCOD, normal frames, no pilots (EN 302 307-1 table 12); 0 if there is none.
fn acm_command(config: &Config) -> u8 {
    let of_carrier = || {
        let it = config.nip.carrier.as_ref()?;
        let (modulation, fec) = (it.modulation.clone(), it.fec.clone());
        Some(DvbS2 { modulation, fec, symbol_rate_ksps: it.symbol_rate_ksps })
    };
    config.link.dvb_s2.clone().or_else(of_carrier).and_then(|it| it.modcod()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
