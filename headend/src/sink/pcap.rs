//! A pcap recording of what would be on the air.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use carousel::capture::{write_pcap_frame, write_pcap_header};
use carousel::ip::write_ethernet_udp;

/// TTL in the recording.
const TTL: u8 = 8;

/// Writes frames to a file.
#[derive(Debug)]
pub struct PcapSink {
    out: BufWriter<File>,
    frame: Vec<u8>,
    record: Vec<u8>,
}

impl PcapSink {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// If the file cannot be created, or its header cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut header = Vec::new();
        write_pcap_header(&mut header);
        out.write_all(&header)?;
        Ok(Self { out, frame: Vec::new(), record: Vec::new() })
    }

    /// Writes one datagram. Its source is of TEST-NET-1 (RFC 5737) or the documentation prefix (RFC 3849).
    ///
    /// # Errors
    /// If writing fails, such as on a full disk.
    pub fn send(&mut self, destination: SocketAddr, payload: &[u8], time_ns: u64) -> io::Result<()> {
        let source = match destination {
            SocketAddr::V4(_) => SocketAddr::from(([192, 0, 2, 1], 50_000)),
            SocketAddr::V6(_) => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 50_000)),
        };
        self.frame.clear();
        self.record.clear();
        write_ethernet_udp(&mut self.frame, source, destination, TTL, payload);
        write_pcap_frame(&mut self.record, time_ns, &self.frame);
        self.out.write_all(&self.record)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// As for [`PcapSink::send`].
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
