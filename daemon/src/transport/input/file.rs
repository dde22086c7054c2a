//! Input from a recording, read at full speed; repeated if datagrams came before their groups were joined (`thread.rs`).

use std::fs::File;
use std::path::Path;

use carousel::multiplex::wrapping::Unit;
use carousel::ts::stream::Packets;

use super::{Input, InputError, Read};

/// Packets passed on in one read.
const TURN: usize = 4096;

/// A mapped file.
#[derive(Debug)]
pub(super) struct Recording {
    map: memmap2::Mmap,
    /// Position of the next packet.
    at: usize,
}

impl Recording {
    pub(super) fn open(path: &Path) -> Result<Self, InputError> {
        let failed = |err: std::io::Error| InputError::local(path.display().to_string(), err);
        let file = File::open(path).map_err(failed)?;
        let map = crate::sys::map_file(&file).map_err(failed)?;
        if Packets::new(&map).is_none() {
            return Err(InputError::Content(format!("{}: no transport stream", path.display())));
        }
        Ok(Self { map, at: 0 })
    }
}

impl Input for Recording {
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, InputError> {
        let rest = self.map.get(self.at..).unwrap_or_default();
        let Some(mut packets) = Packets::new(rest) else { return Ok(Read::End) };
        let mut count = 0;
        for packet in packets.by_ref().take(TURN) {
            each(Unit::Packet(packet));
            count += 1;
        }
        self.at = self.map.len() - packets.remaining();
        Ok(if count < TURN { Read::End } else { Read::More })
    }
}
