//! Processing of FDT Instances: new descriptions, and empty objects, which have no packets.

use std::sync::Arc;
use std::time::Duration;

use super::super::fdt::{FdtInstance, File};
use super::super::table::Described;
use super::done::Done;
use super::gaps::Coding;
use super::in_flight::{InFlight, contradicts};
use super::storage::{OpenRequest, Storage};
use super::verdict::{AbandonReason, DropReason, Verdict};
use super::{Event, Receiver, with_length_on_air};
use crate::alc::Packet;
use crate::fec::{Oti, Partition, SymbolMap};
use crate::lct::Toi;
use crate::limits;
use crate::time::{Instant, WallTime};

/// Lifetime of an FDT Instance without `Expires`, or already expired on arrival; every repeat renews it.
const UNSAID_EXPIRY_MS: i64 = 3_600_000;

/// Grace period in which packets may contradict a description with length 0. Some senders write 0 for lengths that they do
/// not know yet.
pub(super) const EMPTY_PATIENCE: Duration = Duration::from_secs(2);

/// An object with length 0 by its description only.
#[derive(Debug, Clone, Copy)]
pub(super) struct EmptyObject {
    toi: Toi,
    since: Instant,
    /// Number of repeated packets of the session when it was described.
    repeats: u64,
    /// FDT packets since then.
    fdt_packets: u32,
}

impl EmptyObject {
    /// Whether its packets would have been received by now.
    fn is_certain(&self, now: Instant, repeats: u64) -> bool {
        let has_turned = self.fdt_packets >= 2 && repeats > self.repeats;
        has_turned || now.since(self.since) >= EMPTY_PATIENCE
    }
}

limits! {
    /// Objects of no bytes that wait for packets which contradict that.
    pub(super) const MAX_EMPTY: usize = 1024, "objects" {
        why: "A gateway sends a handful, as marks.",
        full: "The one that has waited longest is taken for empty.",
        free: "With an FDT packet, two seconds or a turn of the carousel after the description.",
        test: "descriptions_of_no_bytes_wait_for_packets_that_contradict",
    }
}

impl<B> Receiver<B> {
    /// Processes a packet of TOI 0.
    pub(super) fn fdt_packet<S: Storage<Buf = B>>(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        packet: &Packet<'_>,
        storage: &mut S,
    ) -> Verdict {
        self.empty.iter_mut().for_each(|it| it.fdt_packets = it.fdt_packets.saturating_add(1));
        self.complete_empty(now, storage);
        let assembled = match self.assembler.push(now, packet) {
            Ok(Some(assembled)) => assembled,
            Ok(None) => return Verdict::Fdt,
            Err(reason) => return Verdict::Dropped(reason),
        };
        let (xml, signed_by) =
            match self.open_fdt(now, wall, packet.lct.tsi, (assembled.encoding, assembled.bytes)) {
                Ok(opened) => opened,
                Err(reason) => {
                    if reason == DropReason::FdtUntrusted {
                        // It may be accepted later, with another date or key.
                        self.assembler.forget(assembled.instance_id);
                    }
                    return Verdict::Dropped(reason);
                }
            };
        let Ok((mut instance, unusable)) = FdtInstance::parse(&xml) else {
            return Verdict::Dropped(DropReason::FdtUnreadable);
        };
        self.mark_signed(&mut instance, signed_by.as_ref());
        if let Some(wall) = wall {
            let has_no_expiry = instance.expires == FdtInstance::NO_EXPIRES;
            // It is being sent now, so the clock of its sender or of this machine is wrong.
            let has_expired = WallTime::from_ntp_seconds(instance.expires, wall) < wall;
            if has_no_expiry || has_expired {
                instance.expires = wall.plus_ms(UNSAID_EXPIRY_MS).ntp_seconds();
            }
            self.stats.expired_instances += u64::from(has_expired && !has_no_expiry);
        }
        self.stats.unusable_files += unusable as u64;
        // A sender that describes objects has not ended the session, even if it has set the flag before.
        self.closed = false;
        let complete = instance.complete;
        let mut new_files = Vec::new();
        let mut changes = Vec::new();
        let mut replaced = Vec::new();
        let displaced = self.table.add(now, assembled.instance_id, instance, |change| {
            match &change {
                Described::New(file) => new_files.push(Arc::clone(file)),
                Described::Replaced { old, new } => {
                    replaced.push(Arc::clone(old));
                    new_files.push(Arc::clone(new));
                }
                Described::Again(_) => {}
            }
            changes.push(change);
        });
        for files in [displaced, replaced] {
            self.expired(files);
        }
        self.events.push_back(Event::Fdt {
            instance_id: assembled.instance_id,
            version: assembled.version,
            xml,
            new_files,
            complete,
        });
        for change in changes {
            self.described(now, change, storage);
        }
        self.replay_early(now, storage);
        Verdict::Fdt
    }

    /// Applies a changed description to objects in flight and done.
    fn described<S: Storage<Buf = B>>(&mut self, now: Instant, change: Described, storage: &mut S) {
        let (file, replaced) = match change {
            Described::Replaced { new, .. } => (new, true),
            Described::New(file) | Described::Again(file) => (file, false),
        };
        let toi = file.toi;
        let was_outdated = self.done.get(toi).is_some_and(|it| it.reason == DropReason::Outdated);
        if replaced || was_outdated {
            self.done.remove(toi);
        }
        if file.on_air_length() == Some(0) && self.done.get(toi).is_none() && !self.index.contains_key(&toi) {
            let nothing = crate::Digest::of(b"");
            let is_certain = file.object_digest() == Some(nothing)
                || file.content_digest == Some(nothing)
                || file.content_md5 == Some(crate::digest::md5(b""));
            if is_certain {
                self.empty_object(now, &file, storage);
            } else if self.empty.iter().all(|known| known.toi != toi) {
                let repeats = self.stats.dropped(DropReason::Repeat);
                self.empty.push_back(EmptyObject { toi, since: now, repeats, fdt_packets: 0 });
                self.complete_empty(now, storage);
            }
            return;
        }
        let Some(&index) = self.index.get(&toi) else { return };
        let object = &mut self.in_flight[index];
        let file = with_length_on_air(file, object.oti.transfer_length);
        let other_length = file.on_air_length().is_some_and(|length| length != object.oti.transfer_length);
        let is_other = file.signed_by.is_some() && contradicts(&file, &object.oti);
        if other_length || is_other || (replaced && object.file.is_some()) {
            if let Some(InFlight { file, buf, .. }) = self.remove(index) {
                self.events.push_back(Event::Replaced { toi, file, buf });
            }
            return;
        }
        let had_name = object.file.replace(Arc::clone(&file)).is_some();
        if !had_name {
            self.unnamed -= 1;
            if let Err(refusal) = storage.name(&mut object.buf, &file) {
                let (length, coding) = (object.oti.transfer_length, Coding::of(&object.oti));
                self.abandon(index, AbandonReason::Refused(refusal));
                self.refused(now, toi, length, Some(coding), refusal);
                return;
            }
            let object = &self.in_flight[index];
            if object.received.is_complete() {
                self.current = index;
                self.complete_current();
            } else if object.stalled {
                self.events.push_back(Event::Stalled { toi });
            }
        }
    }

    /// Completes zero-length objects once no packet has contradicted the length for the grace period, or for a cycle of the
    /// carousel.
    fn complete_empty<S: Storage<Buf = B>>(&mut self, now: Instant, storage: &mut S) {
        let repeats = self.stats.dropped(DropReason::Repeat);
        while let Some(first) = self.empty.front()
            && (first.is_certain(now, repeats) || self.empty.len() > MAX_EMPTY)
        {
            let toi = first.toi;
            self.empty.pop_front();
            let file = self.table.get(toi).map(Arc::clone);
            let is_open = self.index.contains_key(&toi) || self.done.get(toi).is_some();
            if let Some(file) = file.filter(|file| !is_open && file.on_air_length() == Some(0)) {
                self.empty_object(now, &file, storage);
            }
        }
    }

    /// Handles an empty object, which needs no packet.
    fn empty_object<S: Storage<Buf = B>>(&mut self, now: Instant, file: &Arc<File>, storage: &mut S) {
        let Ok(partition) = Partition::new(&Oti::no_code(0, 1, 1)) else { return };
        let received = Arc::new(SymbolMap::new(&partition));
        let request = OpenRequest {
            toi: file.toi,
            length: 0,
            file: Some(file),
            is_proven: self.is_proven(),
            received: &received,
        };
        match storage.open(&request) {
            Ok(buf) => {
                self.done.insert(file.toi, Done::new(0, None, DropReason::Repeat, None, now));
                self.events.push_back(Event::Complete { file: Arc::clone(file), buf, repaired_symbols: 0 });
            }
            Err(refusal) => {
                self.events.push_back(Event::Refused { toi: file.toi, refusal });
                self.refused(now, file.toi, 0, None, refusal);
            }
        }
    }
}
