//! Signalling of a ROUTE session: packages, S-TSIDs, and names from other sources.

use std::sync::Arc;

use super::object::fingerprint;
use super::{Event, Receiver, RouteFailure};
use crate::flute::File;
use crate::growing::End;
use crate::lct::Toi;
use crate::limits;
use crate::route::lls::USBD_TYPE;
use crate::route::package::{parts, unpack};
use crate::route::{Channel, Format, SIGNALLING_TSI, STSID_TYPE, Stsid};

limits! {
    /// Documents of signalling packages that are remembered, to recognise repeats.
    pub(super) const MAX_DOCUMENTS: usize = 128, "documents" {
        why: "A package has up to 64 parts.",
        full: "All are forgotten: repeats are reported once more.",
        free: "At once.",
        test: "documents_are_told_when_they_change",
    }
}

/// Approximate memory of the record of a document in addition to its name.
const DOCUMENT_BYTES: usize = 64;

impl Receiver {
    /// Processes a complete signalling package.
    pub(super) fn package(&mut self, tsi: u64, toi: Toi, sent: Vec<u8>, end: End) {
        let Some((bytes, parts)) = unpack(&sent).and_then(|bytes| {
            let parts = parts(&bytes)?;
            Some((bytes, parts))
        }) else {
            return self.failed(tsi, toi, None, RouteFailure::BadSignalling);
        };
        self.stats.packages += 1;
        self.count_complete(tsi, end);
        self.events.push_back(Event::Package { toi, bytes: sent });
        for part in parts {
            let Some(body) = bytes.get(part.body) else { continue };
            let is_stsid = part.content_type == STSID_TYPE
                || (part.content_type.is_empty() && body.windows(7).take(1_000).any(|it| it == b"S-TSID "));
            if self.documents.len() >= MAX_DOCUMENTS {
                self.documents.clear();
                self.documents_bytes = 0;
            }
            let name = format!("{} {}", part.content_type, part.location);
            let (print, name_bytes) = (fingerprint(body), name.len());
            match self.documents.insert(name, print) {
                Some(before) if before == print => continue,
                Some(_) => {}
                None => self.documents_bytes += DOCUMENT_BYTES + name_bytes,
            }
            if is_stsid && tsi == SIGNALLING_TSI {
                match Stsid::parse(body) {
                    Ok(stsid) => self.described(stsid),
                    Err(_) => self.failed(tsi, toi, None, RouteFailure::BadSignalling),
                }
            }
            // Nothing can be stored or requested without a name.
            if part.location.is_empty() && !is_stsid && part.content_type != USBD_TYPE {
                self.stats.left_out += 1;
                continue;
            }
            let length = Some(body.len() as u64);
            let file = File {
                content_location: part.location,
                content_type: Some(part.content_type).filter(|it| !it.is_empty()),
                toi,
                content_length: length,
                transfer_length: length,
                ..File::default()
            };
            self.events.push_back(Event::Document { file: Arc::new(file), bytes: body.to_vec() });
        }
    }

    /// Applies an S-TSID: replaces the descriptions of the channels of this session, and reports those of other sessions.
    pub(super) fn described(&mut self, stsid: Stsid) {
        self.stats.left_out += stsid.left_out;
        let mut elsewhere = Vec::new();
        for session in stsid.sessions {
            let is_here = session.group.is_none_or(|group| group == self.destination.ip())
                && session.port.is_none_or(|port| port == self.destination.port());
            if !is_here {
                elsewhere.push(session);
                continue;
            }
            self.describe(session.channels);
        }
        if !elsewhere.is_empty() {
            self.events.push_back(Event::Elsewhere(elsewhere));
        }
    }

    /// Replaces the descriptions of channels of this session, from the S-TSID of another session, if it has no signalling of
    /// its own.
    pub fn describe(&mut self, channels: Vec<Channel>) {
        for described in channels {
            let tsi = described.tsi;
            // Signalling cannot describe itself, and repair symbols cannot protect themselves.
            let is_loop = tsi == SIGNALLING_TSI
                || described.repair.as_ref().is_some_and(|it| it.protected.iter().any(|of| of.tsi == tsi));
            if is_loop || (!self.channels.contains_key(&tsi) && !self.make_room_for_channel()) {
                self.stats.left_out += 1;
                continue;
            }
            let is_usable =
                self.with_channel(tsi, |it| it.set_description(described.source, described.repair));
            self.stats.left_out += u64::from(!is_usable);
            self.name_open_objects(tsi);
        }
    }

    /// Names objects that arrived before their description.
    pub(super) fn name_open_objects(&mut self, tsi: u64) {
        for at in 0..self.channels.get(&tsi).map_or(0, |it| it.objects.len()) {
            let Some(channel) = self.channels.get(&tsi) else { return };
            let named =
                channel.objects.get(at).filter(|it| it.file.is_none() && it.codepoint.format == Format::File);
            let file = named.and_then(|it| {
                channel
                    .describe(it.toi, it.codepoint)
                    .or_else(|| channel.first_chunk(it).filter(|_| it.bytes.is_complete()))
            });
            if file.is_some() {
                self.with_object(tsi, at, |object| object.file = file);
            }
        }
        let mut at = 0;
        while let Some(object) = self.channels.get(&tsi).and_then(|it| it.objects.get(at)) {
            let before = self.channels.get(&tsi).map_or(0, |it| it.objects.len());
            if object.bytes.is_complete() {
                self.complete(tsi, at, None);
            } else {
                self.begin(tsi, at);
            }
            let after = self.channels.get(&tsi).map_or(0, |it| it.objects.len());
            at += usize::from(after == before);
        }
    }

    /// Names objects by an FDT Instance of FLUTE in this channel. GPAC does so for chunked sessions, where its file template
    /// confuses the numbers of chunks and segments: from now on the template is not used.
    pub fn name_by_flute(&mut self, tsi: u64, files: &[Arc<File>]) {
        if files.is_empty() || !self.channels.contains_key(&tsi) {
            return;
        }
        self.with_channel(tsi, |it| it.name_by_flute(files));
        self.name_open_objects(tsi);
    }
}
