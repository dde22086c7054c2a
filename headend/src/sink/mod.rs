//! Outputs for packets: UDP sockets, pcap files, files of transport stream packets.

mod file;
mod pcap;
mod udp;

use std::io;
use std::net::SocketAddr;

pub use file::FileSink;
pub use pcap::PcapSink;
pub use udp::UdpSink;

/// A way out.
#[derive(Debug)]
pub enum Sink {
    /// On the network.
    Udp(UdpSink),
    /// Into a recording.
    Pcap(PcapSink),
    /// Into a file, one payload after the other.
    File(FileSink),
}

impl Sink {
    /// Sends one UDP payload; `time_ns` is what a recording notes, in nanoseconds since 1970.
    ///
    /// # Errors
    /// If the file cannot be written, or the socket refuses the datagram: no route, too long, a full queue.
    pub fn send(&mut self, destination: SocketAddr, payload: &[u8], time_ns: u64) -> io::Result<()> {
        match self {
            Self::Udp(sink) => sink.send(destination, payload),
            Self::Pcap(sink) => sink.send(destination, payload, time_ns),
            Self::File(sink) => sink.send(payload),
        }
    }

    /// Makes sure that everything is out.
    ///
    /// # Errors
    /// As for [`Sink::send`].
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Udp(sink) => sink.flush(),
            Self::Pcap(sink) => sink.finish(),
            Self::File(sink) => sink.finish(),
        }
    }
}

#[cfg(test)]
mod tests;
