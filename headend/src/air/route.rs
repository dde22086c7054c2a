//! Media sessions of ROUTE: the sessions of one address share an S-TSID, which replaces their FDTs.
//!
//! Every object is listed with its name and TOI, so that segments may have any names. Repair symbols of a channel are sent
//! in the next channel (TSI + 1).

use std::net::SocketAddr;
use std::sync::Arc;

use carousel::fec::{Oti, Partition};
use carousel::flute::File;
use carousel::lct::{Toi, Tsi};
use carousel::route::{
    Channel, Codepoint, Payload, Protected, RepairFlow, RouteSession, Sender, SenderError, SourceFlow,
};

/// A repair channel follows its source channel.
const REPAIR_TSI_STEP: u64 = 1;
/// `@formatId` of a file, `@frag` of samples, `@srcFecPayloadId` of start_offset.
const MEDIA: Payload =
    Payload { codepoint: Codepoint::MEDIA_FILE, format: 1, fragmentation: 1, source_payload_id: Some(1) };

/// Description of one session in an S-TSID.
pub(super) struct SessionFiles<'a> {
    pub(super) tsi: Tsi,
    pub(super) files: Vec<&'a File>,
}

/// The sessions of one address.
#[derive(Debug)]
pub(super) struct RouteGroup {
    pub(super) address: SocketAddr,
    sender: Sender,
    /// Packets of the signalling.
    packets: Arc<[Vec<u8>]>,
    repair_oti: Oti,
}

/// Numbering of the repair symbols of an object in a ROUTE session.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteObject {
    pub(super) oti: Oti,
    pub(super) partition: Partition,
}

impl RouteGroup {
    pub(super) fn new(address: SocketAddr, symbol_length: u16) -> Self {
        Self {
            address,
            sender: Sender::new(usize::from(symbol_length)),
            packets: Arc::default(),
            repair_oti: Sender::repair_oti(symbol_length),
        }
    }

    /// Version of its signalling.
    pub(super) const fn version(&self) -> u8 {
        self.sender.package_version()
    }

    /// Sets the last version used by another sender.
    pub(super) fn go_on_from(&mut self, version: u8) {
        self.sender.go_on_from(version);
    }

    /// The packets of the updated signalling.
    pub(super) fn signalling<'a>(
        &mut self,
        sessions: impl Iterator<Item = SessionFiles<'a>>,
    ) -> Arc<[Vec<u8>]> {
        let mut channels = Vec::new();
        for SessionFiles { tsi, files } in sessions {
            let files = files.into_iter().map(|file| File {
                content_location: file.content_location.clone(),
                toi: file.toi,
                content_type: file.content_type.clone(),
                // The length of a growing object is unknown.
                content_length: file.content_length.filter(|&length| length > 0),
                ..File::default()
            });
            let source = SourceFlow {
                is_real_time: true,
                files: files.collect(),
                payloads: vec![MEDIA],
                ..SourceFlow::default()
            };
            let repair = RepairFlow {
                oti: Some(self.repair_oti),
                protected: vec![Protected { tsi: tsi.0, x: 1, y: 0 }],
                ..RepairFlow::default()
            };
            channels.push(Channel { tsi: tsi.0, source: Some(source), ..Channel::default() });
            let tsi = tsi.0 + REPAIR_TSI_STEP;
            channels.push(Channel { tsi, repair: Some(repair), ..Channel::default() });
        }
        let session = RouteSession {
            group: Some(self.address.ip()),
            port: Some(self.address.port()),
            channels,
            ..RouteSession::default()
        };
        let mut packets = Vec::new();
        let is_written = self.sender.set_signalling(session, &[]).is_ok()
            && self.sender.signalling(|packet| packets.push(packet.to_vec())).is_ok();
        if is_written {
            self.packets = packets.into();
        }
        Arc::clone(&self.packets)
    }

    /// Writes a packet with bytes of an object, and its length if it is known.
    pub(super) fn write_source(
        &self,
        id: (Tsi, Toi),
        offset: u64,
        length: Option<u64>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SenderError> {
        let id = (id.0.0, id.1);
        self.sender.write_source(id, Codepoint::MEDIA_FILE, offset, length, bytes, out)
    }

    /// Writes a packet with a repair symbol of an object of `length` bytes.
    pub(super) fn write_repair(
        &self,
        id: (Tsi, Toi),
        length: u64,
        esi: u32,
        symbol: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SenderError> {
        let id = (id.0.0 + REPAIR_TSI_STEP, id.1);
        self.sender.write_repair(id, length, (0, esi), symbol, out)
    }

    /// Writes a packet with the A flag.
    pub(super) fn write_close(&self, tsi: Tsi, out: &mut Vec<u8>) -> Result<(), SenderError> {
        self.sender.write_close(tsi.0, out)
    }
}
