//! Trust in the descriptions of a session: acceptance of FDT Instances, and the effects of their signatures.

use std::sync::Arc;

use super::super::fdt::{FdtInstance, File};
use super::super::verify::{PLAIN_FDT, inflate_fdt};
use super::done::Done;
use super::gaps::Coding;
use super::in_flight::InFlight;
use super::{DropReason, Receiver};
use crate::fec::Oti;
use crate::lct::{Toi, Tsi};
use crate::limits;
use crate::time::{Instant, WallTime};
use crate::trust::{Allowance, HeadScan, Judged, Kind, Mode, SignedBy, Trust, TrustDrop};

limits! {
    /// Objects in flight of a session with signed descriptions that has brought no object whose digest was right.
    const MAX_UNPROVEN_OBJECTS: usize = 16, "objects" {
        why: "Anybody can repeat signed descriptions from an address of their own, with other bytes. Carousels interleave a handful. After a wrong object it is four, for ten minutes, in all unproven sessions of the stream.",
        full: "A stalled object makes room for a further one, whose packets are dropped as `unproven` if there is none.",
        free: "When an object in flight ends; for the session's life with the first whose digest is right.",
        test: "a_session_that_repeats_descriptions_of_another_opens_few_objects_until_one_is_right",
    }
}

/// Objects in flight of such a session after somebody has sent wrong bytes for an object of its stream. Not one: packets in the name of an
/// honest sender can hold objects open.
const SUSPECT_OBJECTS: usize = 4;

/// Room for one more object in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// There is some.
    Free,
    /// If a stalled object makes room.
    OfStalled,
    /// There is none.
    None,
}

/// Trust required of the FDT Instances of a session.
#[derive(Debug, Clone)]
pub struct SessionTrust {
    /// Keys, and the memory of versions.
    pub trust: Arc<Trust>,
    /// The mode.
    pub mode: Mode,
    /// The service of the session by its announcement: only keys that may sign for it may describe its objects, where the policy
    /// names them. Empty: not known.
    pub service: Arc<str>,
    /// A number made of the sender's address: what its sessions may cost before they have brought anything genuine is counted together.
    pub sender: u64,
}

impl<B> Receiver<B> {
    /// Packets of objects without a description are kept early, so that nothing is opened without a signature.
    pub(super) fn needs_description(&self) -> bool {
        self.config.trust.as_ref().is_some_and(|it| it.mode == Mode::Require)
    }

    /// Decodes an FDT Instance and asks whether it is accepted. Where unsigned ones do not count, one that its first bytes show to
    /// be none of the session's is not inflated further.
    pub(super) fn open_fdt(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        tsi: Option<Tsi>,
        (encoding, bytes): (u8, Vec<u8>),
    ) -> Result<(Vec<u8>, Option<Arc<SignedBy>>), DropReason> {
        let allowance = self.allowance(now);
        let (mut preview, mut scan, mut inflated) = (None, HeadScan::default(), 0);
        let trust = self.config.trust.as_ref().filter(|_| encoding != PLAIN_FDT);
        let only_signed = trust.filter(|it| it.mode == Mode::Require || self.is_signed);
        let xml = inflate_fdt(encoding, bytes, &mut |start| {
            inflated = start.len() as u64;
            if let Some(SessionTrust { trust, mode, .. }) = only_signed.filter(|_| preview.is_none()) {
                let tsi = Some(tsi.map_or(0, |tsi| tsi.0));
                let judged = Judged { kind: Kind::Fdt, bytes: start, tsi, mode: *mode, allowance };
                preview = trust.preview(now, wall, &judged, &mut scan);
            }
            !matches!(preview, Some(Err(_)))
        });
        let opened = match xml {
            Some(xml) => self
                .judge(now, wall, tsi, &xml, &scan)
                .map(|by| (xml, by))
                .map_err(|_| DropReason::FdtUntrusted),
            None if matches!(preview, Some(Err(_))) => return Err(DropReason::FdtUntrusted),
            None => Err(DropReason::FdtEncoding),
        };
        if let (Err(_), Some(Ok(())), Some(it)) = (&opened, preview, &self.config.trust) {
            it.trust.count_inflated(now, allowance, inflated);
        }
        opened
    }

    /// Whether an FDT Instance is accepted, and its signer.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        tsi: Option<Tsi>,
        xml: &[u8],
        scan: &HeadScan,
    ) -> Result<Option<Arc<SignedBy>>, TrustDrop> {
        let Some(SessionTrust { trust, mode, service, .. }) = &self.config.trust else { return Ok(None) };
        let tsi = tsi.map_or(0, |tsi| tsi.0);
        let judged = Judged {
            kind: Kind::Fdt,
            bytes: xml,
            tsi: Some(tsi),
            mode: *mode,
            allowance: self.allowance(now),
        };
        let result = trust.judge_scanned(now, wall, &judged, scan);
        self.wrong_signatures.note(now, &result);
        let signed_by = result?;
        let is_of_other = signed_by.as_ref().is_some_and(|by| *by.service != **service);
        if is_of_other && trust.names_keys_of(service) {
            trust.count(TrustDrop::WrongService);
            return Err(TrustDrop::WrongService);
        }
        if signed_by.is_none() && self.is_signed {
            trust.count(TrustDrop::Unsigned);
            return Err(TrustDrop::Unsigned);
        }
        self.is_signed |= signed_by.is_some();
        Ok(signed_by)
    }

    /// Records the signer of its files. A signature does not cover objects without a SHA-256.
    pub(super) fn mark_signed(&self, instance: &mut FdtInstance, signed_by: Option<&Arc<SignedBy>>) {
        let (Some(signed_by), Some(SessionTrust { trust, mode, .. })) = (signed_by, &self.config.trust)
        else {
            return;
        };
        instance.files.retain_mut(|file| {
            if file.content_digest.or(file.repr_digest).is_some() {
                file.signed_by = Some(Arc::clone(signed_by));
                return true;
            }
            trust.count(TrustDrop::NoDigest);
            *mode != Mode::Require
        });
    }

    /// Whether a newer FDT Instance, of this or another session, has replaced the description of an object.
    pub(super) fn is_outdated(&self, file: &File) -> bool {
        let trust = self.config.trust.as_ref().zip(file.signed_by.as_ref());
        trust.is_some_and(|(it, by)| !it.trust.is_current(by))
    }

    /// Drops packets of an outdated object for a while, before its description is checked again.
    pub(super) fn outdated(&mut self, now: Instant, toi: Toi, oti: &Oti) -> DropReason {
        let until = now + self.config.refused_retry;
        let coding = Some(Coding::of(oti));
        let done = Done::new(oti.transfer_length, Some(until), DropReason::Outdated, coding, now);
        self.done.insert(toi, done);
        DropReason::Outdated
    }

    /// Whether an object whose signed digest was right has come.
    pub(super) const fn is_proven(&self) -> bool {
        self.brought.is_signed()
    }

    fn allowance(&self, now: Instant) -> Allowance {
        let sender = self.config.trust.as_ref().map_or(0, |it| it.sender);
        self.wrong_signatures.allowance((self.is_signed, self.is_proven()), sender, now)
    }

    /// Whether one more object may be opened: anybody can repeat signed descriptions from an address of their own. Asked for each
    /// packet of an object that is not in flight, so it takes no lock.
    pub(super) fn place_for(&self, now: Instant, file: Option<&Arc<File>>) -> Place {
        let Some(by) = file.and_then(|file| file.signed_by.as_ref()).filter(|_| !self.is_proven()) else {
            return Place::Free;
        };
        let most = if by.wrong_objects.are_recent(now) { SUSPECT_OBJECTS } else { MAX_UNPROVEN_OBJECTS };
        if self.in_flight.len() < most {
            Place::Free
        } else if self.in_flight.iter().any(InFlight::is_stalled) {
            Place::OfStalled
        } else {
            Place::None
        }
    }

    /// Rejects bytes of `toi` that differ from their description. If it is signed and the session has brought no right object, whoever
    /// sends may only repeat the description of another: unproven sessions of the same stream have four objects in flight for ten minutes.
    pub fn reject_wrong(&mut self, now: Instant, toi: Toi) {
        self.reject(toi);
        let by = self.table.get(toi).and_then(|file| file.signed_by.as_ref());
        if let Some(by) = by.filter(|_| !self.is_proven()) {
            by.wrong_objects.note(now);
        }
    }

    /// Whether a signed FDT Instance has been accepted.
    pub const fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// Whether `keep` is true for all described objects and those in flight.
    pub fn describes_only(&self, mut keep: impl FnMut(&File) -> bool) -> bool {
        self.table.files().all(|file| keep(file))
            && self.in_flight.iter().filter_map(|object| object.file.as_ref()).all(|file| keep(file))
    }
}
