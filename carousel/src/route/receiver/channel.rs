//! One channel of a ROUTE session: its description, open objects, and completed objects.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::object::Object;
use crate::flute::File;
use crate::growing::FragmentCount;
use crate::lct::Toi;
use crate::limits;
use crate::mabr::ChunkName;
use crate::route::{Codepoint, FileTemplate, Payload, Protected, RepairFlow, SourceFlow};
use crate::time::Instant;

limits! {
    /// Names that FDT Instances of FLUTE have given to the objects of one channel.
    pub(super) const MAX_FLUTE_NAMES: usize = 1_024, "names" {
        why: "GPAC sends one for each chunk, some 50 a second at most, just before the chunk.",
        full: "The oldest is forgotten.",
        free: "When a newer name comes.",
        test: "names_of_flute_go_before_the_template",
    }

    /// Complete objects of one channel that are remembered, to recognise repeats.
    pub(super) const MAX_DONE: usize = 1_024, "objects" {
        why: "Half an hour of segments of two seconds; an entry takes 60 bytes.",
        full: "The oldest is forgotten: its repeat counts as a new object.",
        free: "When a further object is complete.",
        test: "a_repeat_is_received_and_dropped_and_other_bytes_are_a_new_object",
    }
}

/// State of a channel, for reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// Its TSI.
    pub tsi: u64,
    /// Packets.
    pub packets: u64,
    /// UDP payload bytes.
    pub bytes: u64,
    /// Complete objects, without repeats.
    pub complete: u64,
    /// Complete objects whose end was inferred.
    pub guessed: u64,
    /// Objects given up.
    pub failed: u64,
    /// Open objects.
    pub open: usize,
    /// Template of its objects' names, if the S-TSID has one.
    pub template: Option<String>,
    /// Its representation.
    pub representation: Option<String>,
    /// TSIs whose objects its repair symbols protect.
    pub protects: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) length: u64,
    pub(super) fingerprint: u64,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) source: Option<SourceFlow>,
    pub(super) template: Option<FileTemplate>,
    pub(super) repair: Option<RepairFlow>,
    /// Names from FDT Instances of FLUTE, oldest first.
    pub(super) flute_names: VecDeque<Arc<File>>,
    pub(super) objects: Vec<Object>,
    pub(super) current: usize,
    pub(super) done: HashMap<Toi, Done>,
    pub(super) done_order: VecDeque<Toi>,
    pub(super) fragments: FragmentCount,
    pub(super) state: ChannelState,
    /// Memory of its description, and of `flute_names`.
    described_bytes: usize,
    names_bytes: usize,
    /// Time of its last packet.
    pub(super) heard: Instant,
}

/// Approximate memory of a channel without its tables, and of the record of a complete object.
const CHANNEL_BYTES: usize = 1_024;
const DONE_BYTES: usize = 80;

/// Memory of one description of an object.
fn file_bytes(file: &File) -> usize {
    size_of::<File>() + file.text_bytes()
}

impl Channel {
    /// Approximate memory without its open objects.
    pub(super) fn memory_bytes(&self) -> usize {
        CHANNEL_BYTES + self.described_bytes + self.names_bytes + self.done.len() * DONE_BYTES
    }

    /// Replaces the description. False if its template cannot be used.
    pub(super) fn set_description(&mut self, source: Option<SourceFlow>, repair: Option<RepairFlow>) -> bool {
        let template = source.as_ref().and_then(|it| it.template.as_deref());
        self.template = template.and_then(FileTemplate::parse);
        let is_usable = template.is_none() || self.template.is_some();
        let of_source = |it: &SourceFlow| {
            let texts = [&it.template, &it.representation, &it.content_type].into_iter().flatten();
            it.files.iter().map(file_bytes).sum::<usize>()
                // The template is kept in two forms.
                + 2 * texts.map(String::len).sum::<usize>()
                + it.payloads.len() * size_of::<Payload>()
        };
        self.described_bytes = source.as_ref().map_or(0, of_source)
            + repair.as_ref().map_or(0, |it| it.protected.len() * size_of::<Protected>());
        (self.source, self.repair) = (source, repair);
        is_usable
    }

    /// Adds names that FDT Instances have given.
    pub(super) fn name_by_flute(&mut self, files: &[Arc<File>]) {
        for file in files {
            if self.flute_names.len() >= MAX_FLUTE_NAMES
                && let Some(oldest) = self.flute_names.pop_front()
            {
                self.names_bytes -= file_bytes(&oldest);
            }
            self.names_bytes += file_bytes(file);
            self.flute_names.push_back(Arc::clone(file));
        }
    }

    /// The description of an object by the S-TSID, if it has a name.
    pub(super) fn describe(&self, toi: Toi, codepoint: Codepoint) -> Option<Arc<File>> {
        let flow = self.source.as_ref()?;
        if let Some(file) = flow.files.iter().find(|file| file.toi == toi) {
            return Some(Arc::new(file.clone()));
        }
        if let Some(file) = self.flute_names.iter().rev().find(|file| file.toi == toi) {
            return Some(Arc::clone(file));
        }
        if !self.flute_names.is_empty() {
            return None;
        }
        // Init segments must be listed: a template would make a wrong name of their TOI.
        let template = self.template.as_ref().filter(|_| !codepoint.is_init)?;
        Some(Arc::new(File { content_location: template.name(toi), toi, ..File::default() }))
    }

    /// The name of a complete object that is the first chunk of a segment: GPAC names only the later ones.
    pub(super) fn first_chunk(&self, object: &Object) -> Option<Arc<File>> {
        let next_toi = object.toi.0.checked_add(1)?;
        let next = self.flute_names.iter().rev().find(|file| file.toi.0 == next_toi)?;
        let name = ChunkName::split(&next.content_location)?;
        let content_location = format!("{}#0", name.object);
        (name.offset == object.bytes.end() && name.offset > 0)
            .then(|| Arc::new(File { content_location, toi: object.toi, ..File::default() }))
    }

    pub(super) fn payloads(&self) -> &[Payload] {
        self.source.as_ref().map_or(&[], |flow| &flow.payloads)
    }

    pub(super) fn remember(&mut self, toi: Toi, done: Done) {
        if self.done.insert(toi, done).is_none() {
            self.done_order.push_back(toi);
            if self.done_order.len() > MAX_DONE
                && let Some(oldest) = self.done_order.pop_front()
            {
                self.done.remove(&oldest);
            }
        }
    }
}
