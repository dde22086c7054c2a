//! Processing of repair packets of a ROUTE session, and restoration of source blocks.

use super::object::Object;
use super::{Event, MAX_SESSION_BYTES, Receiver, RepairJob, RouteDrop, Verdict};
use crate::alc::Packet;
use crate::fec::BlockId;
use crate::growing::End;
use crate::lct::Toi;
use crate::route::Codepoint;
use crate::time::Instant;

impl Receiver {
    pub(super) fn repair_packet(
        &mut self,
        now: Instant,
        tsi: u64,
        toi: Toi,
        packet: &Packet<'_>,
        length: Option<u64>,
    ) -> Result<Verdict, RouteDrop> {
        let flow =
            self.channels.get(&tsi).and_then(|it| it.repair.as_ref()).ok_or(RouteDrop::UnknownRepair)?;
        // Joint protection of several objects is not supported.
        let ([protected], Some(oti)) = (flow.protected.as_slice(), flow.oti) else {
            return Err(RouteDrop::UnknownRepair);
        };
        let of = protected.tsi;
        let source_toi = protected.source_toi(toi).ok_or(RouteDrop::UnknownRepair)?;
        let channel = self.channels.get(&of).ok_or(RouteDrop::UnknownRepair)?;
        let is_open = channel.objects.iter().any(|it| it.toi == source_toi);
        if !is_open && channel.done.contains_key(&source_toi) {
            return Err(RouteDrop::RepairNotNeeded);
        }
        // Before the first packet of an object, only its protection is known.
        let is_listed =
            channel.source.as_ref().is_some_and(|it| it.files.iter().any(|file| file.toi == source_toi));
        let codepoint = if is_listed { Codepoint::INIT_AGAIN } else { Codepoint::MEDIA_FILE };
        let at = self.locate(now, of, source_toi, codepoint, length.map(|it| (it, End::Length)))?;
        let Some(object) = self.channels.get_mut(&of).and_then(|it| it.objects.get_mut(at)) else {
            return Err(RouteDrop::UnknownRepair);
        };
        object.heard = now;
        if let Some(length) = length.filter(|_| object.bytes.length().is_none()) {
            object.bytes.set_length(length).map_err(|_| RouteDrop::Malformed)?;
            object.end.get_or_insert(End::Length);
        }
        let take = |it: &mut Object| it.repair.take(&oti, packet.body, &it.bytes, it.bytes.length());
        self.with_object(of, at, take).unwrap_or(Err(RouteDrop::UnknownRepair))?;
        self.check_repair(of, at);
        if self.open_bytes > MAX_SESSION_BYTES {
            self.make_room();
        }
        Ok(Verdict::Repair)
    }

    /// The repair flow of a channel's objects.
    pub(super) fn oti_of(&self, tsi: u64) -> Option<crate::fec::Oti> {
        let flows = self.channels.values().filter_map(|it| it.repair.as_ref());
        flows
            .filter(|flow| matches!(flow.protected.as_slice(), [of] if of.tsi == tsi))
            .find_map(|flow| flow.oti)
    }

    pub(super) fn check_repair(&mut self, tsi: u64, at: usize) {
        let has_repair = |it: &Object| !it.repair.is_empty() && it.bytes.length().is_some();
        if !self.channels.get(&tsi).and_then(|it| it.objects.get(at)).is_some_and(has_repair) {
            return;
        }
        let Some(oti) = self.oti_of(tsi) else { return };
        let Some(object) = self.channels.get_mut(&tsi).and_then(|it| it.objects.get_mut(at)) else { return };
        if let Some(sbn) = object.repair.ready(&oti, &object.bytes) {
            let block = BlockId { serial: object.serial, sbn };
            self.events.push_back(Event::BlockReady { tsi, toi: object.toi, block });
        }
    }

    /// The decoding job of a block reported by [`Event::BlockReady`]. `None` if its object is no longer open.
    pub fn repair_job(&self, tsi: u64, toi: Toi, block: BlockId) -> Option<RepairJob> {
        let object = self.object(tsi, toi, block)?;
        object.repair.job(&self.oti_of(tsi)?, &object.bytes, block)
    }

    /// Memory of the symbols that [`Receiver::repair_job`] would copy: up to 64 MiB.
    pub fn repair_job_bytes(&self, tsi: u64, toi: Toi, block: BlockId) -> Option<usize> {
        let object = self.object(tsi, toi, block)?;
        object.repair.job_bytes(&self.oti_of(tsi)?, &object.bytes, block.sbn)
    }

    /// Maximum memory of running [`Receiver::repair_job`], without making it.
    pub fn repair_memory_bytes(&self, tsi: u64, toi: Toi, block: BlockId) -> Option<u64> {
        let object = self.object(tsi, toi, block)?;
        object.repair.decoding_bytes(&self.oti_of(tsi)?, &object.bytes, block.sbn)
    }

    /// The object of a block, if it is still open.
    fn object(&self, tsi: u64, toi: Toi, block: BlockId) -> Option<&Object> {
        let objects = &self.channels.get(&tsi)?.objects;
        objects.iter().find(|it| it.toi == toi && it.serial == block.serial)
    }

    /// Puts off the decoding of a block for which there is no room: it is reported again after the next [`Receiver::handle_timeout`].
    pub fn postpone_repair(&mut self, tsi: u64, toi: Toi, block: BlockId) {
        let objects = self.channels.get_mut(&tsi).into_iter().flat_map(|it| &mut it.objects);
        for object in objects.filter(|it| it.toi == toi && it.serial == block.serial) {
            object.repair.postpone(block.sbn);
        }
    }

    /// Processes the result of a [`RepairJob`]. False if its object is no longer open; another one may have its TOI.
    pub fn repaired(&mut self, tsi: u64, toi: Toi, block: BlockId, lost: Option<&[(u64, Vec<u8>)]>) -> bool {
        let Some(channel) = self.channels.get_mut(&tsi) else { return false };
        let is_its_object = |it: &Object| it.toi == toi && it.serial == block.serial;
        let Some(at) = channel.objects.iter().position(is_its_object) else { return false };
        let Some(lost) = lost else {
            self.stats.recovery_failed += 1;
            channel.objects[at].repair.failed(block.sbn);
            return true;
        };
        let recovered_bytes = self.with_object(tsi, at, |object| {
            let before = object.bytes.held_bytes();
            for (offset, bytes) in lost {
                // Bytes received meanwhile must equal the symbol, otherwise the symbol was wrong.
                let _ = object.bytes.insert(*offset, bytes);
            }
            object.repair.forget(block.sbn);
            object.read_entity();
            object.bytes.held_bytes() - before
        });
        self.stats.recovered_bytes += recovered_bytes.unwrap_or(0);
        self.advance(tsi, at);
        true
    }
}
