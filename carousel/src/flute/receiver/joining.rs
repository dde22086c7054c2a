//! Joining of the chunks of one session to segments (TS 103 769 Annex F, chunked transmission mode).
//!
//! Each chunk is an object of its own, `URL#offset`; the last is `URL?isLast#offset`. GPAC omits `isLast` if it learns of
//! the end too late, often for most segments of a session, and there is no other end marker. A segment has then ended
//!
//! - when the session's next segment begins with the TOI after that of its last chunk, or
//! - when nothing was received for [`END_SILENCE`], and it has as many movie fragments as the segments before it,
//!
//! and no bytes are missing. A segment that ends otherwise is given up: it must come from an origin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::super::fdt::File;
use crate::growing::{BytesDrop, End, FragmentCount, Growing};
use crate::lct::Toi;
use crate::mabr::ChunkName;
use crate::time::Instant;
use crate::{limits, reasons};

limits! {
    /// Segments of one session that are joined at a time.
    const MAX_SEGMENTS: usize = 16, "segments" {
        why: "A session carries one representation: two overlap at a segment's end.",
        full: "The one that received a chunk longest ago is given up as `displaced`.",
        free: "When a segment is complete or given up.",
        test: "segments_that_never_end_make_room",
    }

    /// Bytes of all segments of one session that are joined.
    const MAX_JOINING_BYTES: u64 = 64 << 20, "bytes" {
        why: "Two segments of ten seconds at 25 Mbit/s.",
        full: "The one that received a chunk longest ago is given up as `displaced`.",
        free: "When a segment is complete or given up.",
        test: "segments_that_never_end_make_room",
    }

    /// Chunks of one segment.
    const MAX_CHUNKS: usize = 4_096, "chunks" {
        why: "A segment of ten seconds has 250 chunks of 40 ms; each chunk is compared with those before it.",
        full: "The segment is given up as `too_many_chunks`.",
        free: "When the segment is complete or given up.",
        test: "chunks_of_few_bytes_or_none_are_bounded",
    }

    /// Complete segments of one session whose chunks are recognised when they are repeated.
    const MAX_JOINED: usize = 64, "segments" {
        why: "Two minutes of segments of two seconds; chunks are rarely repeated at all.",
        full: "The oldest is forgotten: its chunks would begin a second segment of its name.",
        free: "When a further segment is complete.",
        test: "a_repeated_chunk_is_no_new_segment_and_a_restart_is",
    }

    /// Silence after which a segment without a mark of its end is over.
    const END_SILENCE: Duration = Duration::from_secs(2), "s" {
        why: "Chunks come every 0.1 to 1 s.",
        full: "The segment is complete if it has as many fragments as the one before.",
        free: "Holds for one segment.",
        test: "the_last_segment_of_a_session_ends_by_its_fragments",
    }

    /// Chunks of one segment that wait until the bytes of one of them show whether they repeat it or are of another run.
    const MAX_AGAIN: usize = 256, "chunks" {
        why: "A segment of ten seconds in chunks of 40 ms; the first one that has media decides.",
        full: "They are taken for another run: the segment is given up as `replaced`.",
        free: "When one of them decides, another segment begins, or the segment ends.",
        test: "the_second_pass_of_a_segment_under_new_tois_fills_its_gap",
    }

    /// Silence after which a segment that has not ended is given up.
    const MAX_SEGMENT_SILENCE: Duration = Duration::from_secs(30), "s" {
        why: "Three times the longest segments in use.",
        full: "The segment is given up as `incomplete`.",
        free: "At once.",
        test: "the_last_segment_of_a_session_ends_by_its_fragments",
    }

    /// Age of a segment, from its first chunk on, at which it is given up.
    const MAX_SEGMENT_AGE: Duration = Duration::from_secs(600), "s" {
        why: "Sixty times the longest segments in use; further chunks keep one from counting as silent forever.",
        full: "The segment is given up as `too_old`.",
        free: "At once.",
        test: "a_segment_whose_chunks_trickle_is_given_up",
    }
}

reasons! {
    /// Why a segment was not joined.
    pub enum JoinFailure {
        /// Chunks are missing, or there is no evidence of its end.
        Incomplete = "incomplete",
        /// It made room for others.
        Displaced = "displaced",
        /// Chunks contradict each other: the sender has restarted under the same names.
        Replaced = "replaced",
        /// It is longer than an object of unknown length may be.
        TooLong = "too_long",
        /// It has too many chunks.
        TooManyChunks = "too_many_chunks",
        /// It was begun too long ago.
        TooOld = "too_old",
        /// Its memory was needed: all sessions together held too much.
        OverBudget = "over_budget",
    }
}

/// Event of a segment. Its TOI is that of the first received chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// Its first chunk has been received.
    Begun(Arc<File>),
    /// It is complete.
    Complete {
        /// Its description, with its length.
        file: Arc<File>,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Evidence of its end.
        end: End,
    },
    /// It will not be complete.
    Failed(Arc<File>, JoinFailure),
}

/// Approximate memory of a segment without its bytes, its chunks and the texts of its description.
const SEGMENT_BYTES: usize = 1_024;

/// Minimum length from which equal chunks prove the same run: shorter ones may be a `styp` box.
const MEDIA_BYTES: usize = 128;

/// The packager's run of an out-of-order chunk: one with a later TOI than the chunks after it in the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// The run of the segment: the chunk is in order, or repeats the segment.
    Same,
    /// Another run under the same name.
    Other,
    /// Not decided yet.
    Unknown,
}

/// A further pass of a segment that repeats it: TOI of its first chunk, and offset and TOI of its last so far.
#[derive(Debug, Clone, Copy)]
struct Pass {
    first: Toi,
    last: (u64, Toi),
}

/// Whether the object of the second TOI was sent after that of the first.
fn is_later(before: Toi, toi: Toi) -> bool {
    match (before.0, toi.0) {
        // TOIs of 16 bits wrap around.
        (before @ ..=0xffff, toi @ ..=0xffff) => (1..0x8000).contains(&(toi.wrapping_sub(before) & 0xffff)),
        (before, toi) => toi > before,
    }
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    bytes: Growing,
    /// TOIs of its chunks, by offset.
    chunks: Vec<(u64, Toi)>,
    /// Time of its first chunk.
    begun: Instant,
    heard: Instant,
    /// Bytes from its beginning that [`Joiner::grown`] has reported.
    reported_bytes: u64,
    /// TOI of the chunk with which the next segment began.
    next_begins: Option<Toi>,
    /// Chunks that repeat the segment or are of another run.
    again: Vec<(File, Vec<u8>)>,
    pass: Option<Pass>,
}

impl Segment {
    /// TOI of the chunk that reaches furthest.
    fn last_toi(&self) -> Option<Toi> {
        self.chunks.iter().max_by_key(|(offset, _)| *offset).map(|(_, toi)| *toi)
    }

    /// Whether a chunk was sent after those that follow it in the segment. Only the last chunk may repeat bytes.
    fn began_before(&self, (offset, toi): (u64, Toi)) -> bool {
        self.chunks.iter().any(|(at, before)| *at > offset && is_later(*before, toi))
    }

    /// Decides the run of a chunk by comparing its bytes with those held; without any, by the chunks that follow.
    fn run_of(&mut self, name: &ChunkName<'_>, toi: Toi, bytes: &[u8]) -> Run {
        let chunk = (name.offset, toi);
        if let Some(pass) = &mut self.pass {
            let is_between = !is_later(toi, pass.first) && !is_later(pass.last.1, toi);
            let is_next = is_later(pass.last.1, toi) && name.offset >= pass.last.0;
            if is_next {
                pass.last = chunk;
            }
            if is_between || is_next {
                return Run::Same;
            }
        }
        let first = self.again.first().map(|(file, _)| file.toi);
        let is_again = match first {
            Some(first) => !is_later(toi, first),
            None => !name.is_last && self.began_before(chunk),
        };
        if !is_again {
            return Run::Same;
        }
        match self.bytes.has(name.offset, bytes) {
            Some(true) if bytes.len() >= MEDIA_BYTES => {
                self.pass = Some(Pass { first: first.unwrap_or(toi), last: chunk });
                Run::Same
            }
            Some(false) => Run::Other,
            // The last chunk needs no further evidence.
            _ if name.is_last || self.again.len() >= MAX_AGAIN => Run::Other,
            _ => Run::Unknown,
        }
    }

    /// Bytes that have come.
    fn held_bytes(&self) -> u64 {
        self.bytes.held_bytes() + self.lists_bytes() as u64
    }

    /// Chunks, and bytes of those that wait.
    fn lists_bytes(&self) -> usize {
        let again = self.again.iter().map(|(file, bytes)| file.text_bytes() + bytes.len());
        self.chunks.len() * size_of::<(u64, Toi)>() + again.sum::<usize>()
    }

    /// Approximate memory.
    fn memory_bytes(&self) -> usize {
        let again = self.again.len() * size_of::<(File, Vec<u8>)>();
        SEGMENT_BYTES + self.file.text_bytes() + self.bytes.memory_bytes() + self.lists_bytes() + again
    }

    /// Whether it has ended, given that the next segment began with the chunk of this TOI.
    fn ends_before(&self, next: Toi, fragments: Option<u32>) -> bool {
        // With a known length the missing bytes are known.
        let Some(last) = self.last_toi().filter(|_| self.bytes.length().is_none() && self.bytes.has_no_gap())
        else {
            return false;
        };
        match (last.0, next.0) {
            // TOIs of 16 bits wrap around to 1, since 0 is the FDT's.
            (0xffff, 1) => true,
            // GPAC wraps around after 65,534; with another sender one chunk may be missing.
            (0xfffe, 1) => fragments.is_some() && self.bytes.boxes().map(|it| it.fragments) == fragments,
            (last, next) => last.checked_add(1) == Some(next),
        }
    }
}

/// Progress of a segment under joining.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished<'a> {
    /// Its description, as in [`Joined::Begun`].
    pub file: &'a Arc<File>,
    /// End of the contiguous bytes, where the next chunk begins.
    pub end: u64,
    /// A later chunk, or one of the next segment, has been received, and this segment is not known to have ended: if the
    /// sender keeps the order, the chunk at `end` is late or lost.
    pub is_passed: bool,
    /// It has as many fragments as the previous segment: it is complete if nothing more is received for [`END_SILENCE`].
    pub is_over: bool,
    /// Time of its last chunk.
    pub heard: Instant,
}

/// Segments of one session that have some of their chunks, and the names of complete ones, which recognise repeats.
#[derive(Debug, Default)]
pub struct Joiner {
    open: Vec<Segment>,
    /// Names of complete segments with the TOIs of their chunks, oldest first.
    done: VecDeque<(String, Vec<Toi>)>,
    fragments: FragmentCount,
    events: VecDeque<Joined>,
    repeats: u64,
    empty: u64,
    /// Memory of all that, when last counted.
    held_bytes: usize,
}

impl Joiner {
    /// Whether an object of this name is a chunk.
    pub fn is_chunk(file: &File) -> bool {
        ChunkName::split(&file.content_location).is_some()
    }

    /// Processes a complete and verified chunk. False if the object is not a chunk, was processed before, or is empty and does
    /// not mark the end.
    pub fn chunk(&mut self, now: Instant, file: &File, bytes: &[u8]) -> bool {
        let is_taken = self.take_chunk(now, file, bytes);
        self.count_memory();
        is_taken
    }

    fn take_chunk(&mut self, now: Instant, file: &File, bytes: &[u8]) -> bool {
        let Some(name) = ChunkName::split(&file.content_location) else { return false };
        if self.done.iter().any(|(object, tois)| object == name.object && tois.contains(&file.toi)) {
            self.repeats += 1;
            return false;
        }
        if bytes.is_empty() && !name.is_last {
            self.empty += 1;
            return false;
        }
        if name.offset == 0 {
            // There will be no further evidence for undecided chunks of other segments: they belong to the newest run.
            let is_undecided = |it: &Segment| !it.again.is_empty() && it.file.content_location != name.object;
            while let Some(at) = self.open.iter().position(is_undecided) {
                let again = self.replace(at);
                self.add_all(now, again);
            }
            for segment in self.open.iter_mut().filter(|it| it.file.content_location != name.object) {
                segment.next_begins.get_or_insert(file.toi);
            }
        }
        if let Some(at) = self.position(name.object)
            && let Some(segment) = self.open.get_mut(at)
        {
            // The end of a segment whose beginning was lost must not be combined with the beginning of another segment of the
            // same name.
            match segment.run_of(&name, file.toi, bytes) {
                Run::Same if segment.again.is_empty() || segment.pass.is_none() => {}
                Run::Same => {
                    let again = std::mem::take(&mut segment.again);
                    self.add_all(now, again);
                }
                Run::Other => {
                    let again = self.replace(at);
                    self.add_all(now, again);
                }
                Run::Unknown => {
                    segment.heard = now;
                    segment.again.push((file.clone(), bytes.to_vec()));
                    self.make_room(now);
                    return true;
                }
            }
        }
        self.add(now, file, bytes);
        self.complete_what_has_ended();
        self.make_room(now);
        true
    }

    fn position(&self, object: &str) -> Option<usize> {
        self.open.iter().position(|it| it.file.content_location == object)
    }

    /// Gives up a segment in favour of another run's; returns the chunks of the latter.
    fn replace(&mut self, at: usize) -> Vec<(File, Vec<u8>)> {
        let again = self.open.get_mut(at).map(|it| std::mem::take(&mut it.again));
        self.fail(at, JoinFailure::Replaced);
        again.unwrap_or_default()
    }

    fn add_all(&mut self, now: Instant, chunks: Vec<(File, Vec<u8>)>) {
        for (file, bytes) in chunks {
            self.add(now, &file, &bytes);
        }
    }

    fn add(&mut self, now: Instant, file: &File, bytes: &[u8]) {
        let Some(name) = ChunkName::split(&file.content_location) else { return };
        let at = self.position(name.object).unwrap_or_else(|| self.begin(now, file, name.object));
        let end = name.offset.saturating_add(bytes.len() as u64);
        let mut taken = self.take(at, now, (name.offset, file.toi), bytes);
        // The last chunk may repeat bytes: a sender that learns of the end too late has no other bytes to mark.
        if matches!(taken, Ok(()) | Err(BytesDrop::Duplicate))
            && name.is_last
            && let Some(segment) = self.open.get_mut(at)
        {
            if !segment.chunks.contains(&(name.offset, file.toi)) {
                segment.chunks.push((name.offset, file.toi));
            }
            taken = segment.bytes.set_length(end);
        }
        match taken {
            Ok(()) => {}
            Err(BytesDrop::Duplicate) => self.repeats += 1,
            Err(BytesDrop::Contradiction | BytesDrop::BeyondEnd) => {
                self.fail(at, JoinFailure::Replaced);
                let at = self.begin(now, file, name.object);
                if self.take(at, now, (name.offset, file.toi), bytes).is_err() {
                    self.fail(at, JoinFailure::TooLong);
                }
            }
            Err(BytesDrop::TooLong | BytesDrop::TooManyGaps) => self.fail(at, JoinFailure::TooLong),
        }
        let has_too_many = |at: &Segment| at.chunks.len() > MAX_CHUNKS && !at.bytes.is_complete();
        if let Some(at) = self.open.iter().position(has_too_many) {
            self.fail(at, JoinFailure::TooManyChunks);
        }
    }

    fn make_room(&mut self, now: Instant) {
        let open_bytes = |open: &[Segment]| open.iter().map(Segment::held_bytes).sum::<u64>();
        while self.open.len() > 1 && open_bytes(&self.open) > MAX_JOINING_BYTES {
            self.displace();
        }
        // Undecided chunks of the last segment count as another run.
        if open_bytes(&self.open) > MAX_JOINING_BYTES
            && let Some(at) = self.open.iter().position(|it| !it.again.is_empty())
        {
            let again = self.replace(at);
            self.add_all(now, again);
        }
    }

    fn take(
        &mut self,
        at: usize,
        now: Instant,
        (offset, toi): (u64, Toi),
        bytes: &[u8],
    ) -> Result<(), BytesDrop> {
        let Some(segment) = self.open.get_mut(at) else { return Ok(()) };
        // An empty chunk with `isLast` marks the end, but does not extend the lifetime of the segment.
        if !bytes.is_empty() {
            segment.bytes.insert(offset, bytes)?;
            segment.chunks.push((offset, toi));
            segment.heard = now;
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant, file: &File, object: &str) -> usize {
        if self.open.len() >= MAX_SEGMENTS {
            self.displace();
        }
        let of_segment = File {
            content_location: object.to_owned(),
            content_length: None,
            transfer_length: None,
            content_md5: None,
            content_digest: None,
            repr_digest: None,
            ..file.clone()
        };
        let file = Arc::new(of_segment);
        self.events.push_back(Joined::Begun(Arc::clone(&file)));
        self.open.push(Segment {
            file,
            bytes: Growing::default(),
            chunks: Vec::new(),
            begun: now,
            heard: now,
            reported_bytes: 0,
            next_begins: None,
            again: Vec::new(),
            pass: None,
        });
        self.open.len() - 1
    }

    fn complete_what_has_ended(&mut self) {
        let mut at = 0;
        while let Some(segment) = self.open.get(at) {
            let end = if segment.bytes.is_complete() {
                Some(End::LastChunk)
            } else {
                segment
                    .next_begins
                    .filter(|&next| segment.ends_before(next, self.fragments.expected()))
                    .map(|_| End::NextObject)
            };
            match end {
                Some(end) => self.complete(at, end),
                None => at += 1,
            }
        }
    }

    fn complete(&mut self, at: usize, end: End) {
        let segment = self.open.remove(at);
        if let Some(boxes) = segment.bytes.boxes().filter(|_| end != End::Silence) {
            self.fragments.learn(boxes.fragments);
        }
        let bytes = segment.bytes.into_prefix();
        let length = Some(bytes.len() as u64);
        let file = File { content_length: length, transfer_length: length, ..(*segment.file).clone() };
        if self.done.len() >= MAX_JOINED {
            self.done.pop_front();
        }
        let tois = segment.chunks.into_iter().map(|(_, toi)| toi).collect();
        self.done.push_back((file.content_location.clone(), tois));
        self.events.push_back(Joined::Complete { file: Arc::new(file), bytes, end });
        // They were of another run.
        self.add_all(segment.heard, segment.again);
    }

    fn fail(&mut self, at: usize, why: JoinFailure) {
        if at < self.open.len() {
            let segment = self.open.remove(at);
            self.events.push_back(Joined::Failed(segment.file, why));
        }
    }

    fn displace(&mut self) {
        let oldest = self.open.iter().enumerate().min_by_key(|(_, it)| it.heard);
        if let Some((at, _)) = oldest {
            self.fail(at, JoinFailure::Displaced);
        }
    }

    /// Processes timers; call it about once a second.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_silent(|segment| now.since(segment.heard) >= END_SILENCE);
        while let Some(at) = self.open.iter().position(|it| now.since(it.heard) >= MAX_SEGMENT_SILENCE) {
            self.fail(at, JoinFailure::Incomplete);
        }
        while let Some(at) = self.open.iter().position(|it| now.since(it.begun) >= MAX_SEGMENT_AGE) {
            self.fail(at, JoinFailure::TooOld);
        }
        self.count_memory();
    }

    /// Gives up segments until `wanted_bytes` are freed, the one with the oldest last chunk first. Returns the bytes freed, which may be
    /// fewer. Poll events afterwards.
    pub fn shed(&mut self, wanted_bytes: usize) -> usize {
        let mut freed_bytes = 0;
        while freed_bytes < wanted_bytes
            && let Some((at, oldest)) = self.open.iter().enumerate().min_by_key(|(_, it)| it.heard)
        {
            freed_bytes += oldest.memory_bytes();
            self.fail(at, JoinFailure::OverBudget);
        }
        self.count_memory();
        freed_bytes
    }

    fn count_memory(&mut self) {
        let open: usize = self.open.iter().map(Segment::memory_bytes).sum();
        let done = self.done.iter().map(|(name, tois)| name.len() + tois.len() * size_of::<Toi>());
        self.held_bytes = open + done.sum::<usize>() + self.done.len() * size_of::<(String, Vec<Toi>)>();
    }

    /// Ends the session or recording. Poll events afterwards.
    pub fn close(&mut self) {
        self.end_silent(|_| true);
        while !self.open.is_empty() {
            self.fail(0, JoinFailure::Incomplete);
        }
        self.count_memory();
    }

    fn end_silent(&mut self, is_silent: impl Fn(&Segment) -> bool) {
        let expected = self.fragments.expected();
        while let Some(at) = self.open.iter().position(|it| {
            let is_due = expected.is_some() && it.bytes.length().is_none() && is_silent(it);
            is_due && it.bytes.boxes().map(|it| it.fragments) == expected
        }) {
            self.complete(at, End::Silence);
        }
    }

    /// Calls `each` with contiguous bytes of segments received since the last call: description, offset, bytes.
    pub fn grown(&mut self, mut each: impl FnMut(&Arc<File>, u64, &[u8])) {
        for segment in &mut self.open {
            let prefix = segment.bytes.prefix();
            let new = prefix.get(segment.reported_bytes as usize..).filter(|new| !new.is_empty());
            if let Some(new) = new {
                each(&segment.file, segment.reported_bytes, new);
                segment.reported_bytes = prefix.len() as u64;
            }
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Joined> {
        self.events.pop_front()
    }

    /// Segments under joining: description, number of received bytes.
    pub fn open(&self) -> impl Iterator<Item = (&Arc<File>, u64)> {
        self.open.iter().map(|it| (&it.file, it.bytes.held_bytes()))
    }

    /// Progress of the segments under joining.
    pub fn unfinished(&self, now: Instant) -> impl Iterator<Item = Unfinished<'_>> {
        let expected = self.fragments.expected();
        self.open.iter().map(move |it| {
            let has_gap = !it.bytes.has_no_gap();
            let boxes = it.bytes.boxes().filter(|_| it.bytes.length().is_none());
            let fragments = boxes.map(|it| it.fragments);
            let is_over = fragments.is_some() && fragments == expected;
            // The expected number may be known by then.
            let may_be_over = fragments.is_some() && expected.is_none() && now.since(it.heard) < END_SILENCE;
            Unfinished {
                file: &it.file,
                end: it.bytes.prefix().len() as u64,
                is_passed: has_gap || it.next_begins.is_some() && !is_over && !may_be_over,
                is_over,
                heard: it.heard,
            }
        })
    }

    /// Chunks received before.
    pub const fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Chunks without bytes that did not mark the end of a segment.
    pub const fn empty(&self) -> u64 {
        self.empty
    }

    /// Approximate memory of the session's segments: those under joining, and the records of complete ones.
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A segment of `count` fragments, cut where GPAC cuts it: behind `styp`, then behind each fragment.
    fn chunks(count: usize, seed: u8) -> Vec<Vec<u8>> {
        let boxed = |kind: &[u8; 4], length: usize| {
            let mut out = (length as u32).to_be_bytes().to_vec();
            out.extend_from_slice(kind);
            out.resize(length, seed);
            out
        };
        let fragments = (0..count).map(|at| [boxed(b"moof", 40 + at), boxed(b"mdat", 200 + at)].concat());
        std::iter::once(boxed(b"styp", 24)).chain(fragments).collect()
    }

    /// The chunks of a segment as objects, from `toi` on.
    fn objects(name: &str, toi: u128, chunks: &[Vec<u8>], has_last: bool) -> Vec<(File, Vec<u8>)> {
        let mut offset = 0;
        let count = chunks.len();
        let object = |(at, bytes): (usize, &Vec<u8>)| {
            let flag = if has_last && at + 1 == count { "?isLast" } else { "" };
            let content_location = format!("{name}{flag}#{offset}");
            offset += bytes.len();
            (File { content_location, toi: Toi(toi + at as u128), ..File::default() }, bytes.clone())
        };
        chunks.iter().enumerate().map(object).collect()
    }

    fn complete(joiner: &mut Joiner) -> Vec<(String, Vec<u8>, End)> {
        std::iter::from_fn(|| joiner.poll_event())
            .filter_map(|event| match event {
                Joined::Complete { file, bytes, end } => {
                    assert_eq!(file.content_length, Some(bytes.len() as u64));
                    Some((file.content_location.clone(), bytes, end))
                }
                _ => None,
            })
            .collect()
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// A packager restarts under the same names. Of its earlier run a receiver that was started in the middle of a segment has the end of
    /// that.
    #[test]
    fn ends_and_beginnings_of_two_runs_are_not_joined() {
        for (first, second) in [(10, 90), (0xfff0, 5), (1 << 20, 1 << 21)] {
            let (parts, others) = (chunks(4, 1), chunks(4, 2));
            let mut joiner = Joiner::default();
            for (file, bytes) in &objects("http://h/1.m4s", first, &parts, true)[2..4] {
                joiner.chunk(at(0), file, bytes);
            }
            for (file, bytes) in objects("http://h/1.m4s", second, &others, true) {
                joiner.chunk(at(9_000), &file, &bytes);
            }
            let done = complete(&mut joiner);
            assert_eq!(done, [("http://h/1.m4s".to_owned(), others.concat(), End::LastChunk)], "{first}");
            // A chunk that was repaired is not a new beginning.
            let mut all = objects("http://h/2.m4s", first, &parts, true);
            let late = all.remove(0);
            for (file, bytes) in all.iter().chain([&late]) {
                joiner.chunk(at(10_000), file, bytes);
            }
            let done = complete(&mut joiner);
            assert_eq!(done, [("http://h/2.m4s".to_owned(), parts.concat(), End::LastChunk)], "{first}");
        }
    }

    /// A sender that repeats a segment gives the chunks other TOIs.
    #[test]
    fn the_second_pass_of_a_segment_under_new_tois_fills_its_gap() {
        let parts = chunks(4, 1);
        for (lost, is_marked) in (0..5).flat_map(|lost| [(lost, true), (lost, false)]) {
            let mut joiner = Joiner::default();
            let first = objects("1.m4s", 10, &parts, is_marked);
            for (_, (file, bytes)) in first.iter().enumerate().filter(|(at, _)| *at != lost) {
                joiner.chunk(at(0), file, bytes);
            }
            for (file, bytes) in objects("1.m4s", 70_000, &parts, true) {
                joiner.chunk(at(500), &file, &bytes);
            }
            let events: Vec<Joined> = std::iter::from_fn(|| joiner.poll_event()).take(2).collect();
            let [Joined::Begun(_), Joined::Complete { bytes, .. }] = &events[..] else {
                panic!("lost {lost}, marked {is_marked}: {events:?}")
            };
            assert_eq!(*bytes, parts.concat(), "lost {lost}");
        }
        // Another run whose first chunk is the same.
        let other = [&parts[..1], &chunks(4, 2)[1..]].concat();
        for held in [0..2, 0..3, 2..5, 3..5] {
            let mut joiner = Joiner::default();
            for (file, bytes) in &objects("1.m4s", 10, &parts, true)[held.clone()] {
                joiner.chunk(at(0), file, bytes);
            }
            for (file, bytes) in objects("1.m4s", 20, &other, true) {
                joiner.chunk(at(500), &file, &bytes);
            }
            let done = complete(&mut joiner);
            assert_eq!(done, [("1.m4s".to_owned(), other.concat(), End::LastChunk)], "{held:?}");
        }
        // A chunk that agrees with the end that is held, until the next segment begins.
        let (mut joiner, longer) = (Joiner::default(), chunks(9, 1));
        for (file, bytes) in &objects("1.m4s", 10, &longer, true)[8..] {
            joiner.chunk(at(0), file, bytes);
        }
        for (file, bytes) in
            objects("1.m4s", 20, &parts, false).into_iter().chain(objects("2.m4s", 25, &parts, true))
        {
            joiner.chunk(at(500), &file, &bytes);
        }
        let done: Vec<(String, End)> =
            complete(&mut joiner).into_iter().map(|(name, _, end)| (name, end)).collect();
        assert_eq!(done, [("1.m4s".to_owned(), End::NextObject), ("2.m4s".to_owned(), End::LastChunk)]);
        // Undecided chunks are bounded.
        let mut joiner = Joiner::default();
        let chunk = |toi: u128, offset: usize| File {
            content_location: format!("3.m4s#{offset}"),
            toi: Toi(toi),
            ..File::default()
        };
        joiner.chunk(at(0), &chunk(1, 100_000), &[1; 500]);
        for number in 0..2 * MAX_AGAIN {
            joiner.chunk(at(1), &chunk(10 + number as u128, 10 * number), &[1; 10]);
            assert!(joiner.open.iter().all(|it| it.again.len() <= MAX_AGAIN));
        }
        let failed = std::iter::from_fn(|| joiner.poll_event()).filter(|it| matches!(it, Joined::Failed(..)));
        assert_eq!(failed.count(), 1);
    }

    #[test]
    fn a_marked_segment_ends_with_its_last_chunk_in_any_order() {
        let parts = chunks(4, 1);
        let mut all = objects("http://h/1.m4s", 1, &parts, true);
        for _ in 0..2 {
            let mut joiner = Joiner::default();
            for (file, bytes) in &all {
                assert!(joiner.chunk(at(0), file, bytes));
            }
            assert_eq!(
                complete(&mut joiner),
                [("http://h/1.m4s".to_owned(), parts.concat(), End::LastChunk)]
            );
            all.reverse();
        }
    }

    #[test]
    fn a_last_chunk_that_repeats_bytes_tells_the_end() {
        let parts = chunks(2, 1);
        let whole = parts.concat();
        let mut all = objects("http://h/1.m4s", 1, &parts, false);
        let content_location = format!("http://h/1.m4s?isLast#{}", whole.len() - 50);
        let marker = File { content_location, toi: Toi(9), ..File::default() };
        all.push((marker, whole[whole.len() - 50..].to_vec()));
        for _ in 0..2 {
            let mut joiner = Joiner::default();
            for (file, bytes) in &all {
                assert!(joiner.chunk(at(0), file, bytes));
            }
            assert_eq!(complete(&mut joiner), [("http://h/1.m4s".to_owned(), whole.clone(), End::LastChunk)]);
            // Again: nothing new.
            assert!(!joiner.chunk(at(0), &all[0].0, &all[0].1));
            all.reverse();
        }
    }

    #[test]
    fn an_unmarked_segment_ends_where_the_next_begins_unless_a_chunk_was_lost() {
        let (first, second) = (chunks(4, 1), chunks(4, 2));
        for (toi, next) in [(1, 6), (65_531, 1)] {
            unmarked(&first, &second, toi, next);
        }
        // GPAC leaves out 65,535: the number of fragments decides then.
        let mut joiner = Joiner::default();
        for (name, toi, is_last) in [("0.m4s", 10, true), ("1.m4s", 65_530, false), ("2.m4s", 1, false)] {
            for (file, bytes) in objects(name, toi, &first, is_last) {
                joiner.chunk(at(0), &file, &bytes);
            }
        }
        assert_eq!(complete(&mut joiner).len(), 2);
    }

    fn unmarked(first: &[Vec<u8>], second: &[Vec<u8>], toi: u128, next: u128) {
        let one = objects("1.m4s", toi, first, false);
        for lost in 0..=one.len() {
            let mut joiner = Joiner::default();
            for (file, bytes) in one.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, it)| it) {
                joiner.chunk(at(0), file, bytes);
            }
            for (file, bytes) in &objects("2.m4s", next, second, false)[..1] {
                joiner.chunk(at(500), file, bytes);
            }
            let whole = complete(&mut joiner);
            let expected = [("1.m4s".to_owned(), first.concat(), End::NextObject)];
            assert_eq!(whole, if lost == one.len() { &expected[..] } else { &[] }, "lost {lost}");
            // The lost chunk comes late.
            if let Some((file, bytes)) = one.get(lost) {
                joiner.chunk(at(600), file, bytes);
                assert_eq!(complete(&mut joiner), expected, "late {lost}");
            }
        }
    }

    #[test]
    fn the_last_segment_of_a_session_ends_by_its_fragments() {
        let parts = chunks(4, 3);
        let run = |count: usize, known: bool| {
            let mut joiner = Joiner::default();
            if known {
                for (file, bytes) in objects("0.m4s", 100, &chunks(4, 2), true) {
                    joiner.chunk(at(0), &file, &bytes);
                }
                assert_eq!(complete(&mut joiner).len(), 1);
            }
            for (file, bytes) in &objects("1.m4s", 1, &parts, false)[..count] {
                joiner.chunk(at(1000), file, bytes);
            }
            joiner.handle_timeout(at(1900));
            assert_eq!(complete(&mut joiner).len(), 0, "it may go on");
            joiner.handle_timeout(at(3000));
            let ended = complete(&mut joiner).len();
            joiner.handle_timeout(at(31_000));
            let failed = std::iter::from_fn(|| joiner.poll_event()).count();
            assert_eq!((ended + failed, joiner.open().count()), (1, 0), "nothing is left");
            ended == 1
        };
        assert!(run(5, true), "as many fragments as the one before");
        assert!(!run(4, true), "one less");
        assert!(!run(5, false), "nothing to compare with");
    }

    /// An MPD takes the TOI between an unmarked segment and the next.
    #[test]
    fn a_segment_that_silence_will_end_is_not_passed_by_the_next() {
        let states = |expected: usize, count: usize| {
            let (mut joiner, parts) = (Joiner::default(), chunks(4, 1));
            if expected > 0 {
                for (file, bytes) in objects("0.m4s", 1, &chunks(expected, 2), true) {
                    joiner.chunk(at(0), &file, &bytes);
                }
            }
            for (file, bytes) in &objects("1.m4s", 20, &parts, false)[..count] {
                joiner.chunk(at(1000), file, bytes);
            }
            let state = |joiner: &Joiner, ms: u64| {
                let it = joiner.unfinished(at(ms)).find(|it| it.file.content_location == "1.m4s").unwrap();
                (it.is_passed, it.is_over)
            };
            assert!(!state(&joiner, 1000).0, "nothing is behind it");
            let (file, bytes) = &objects("2.m4s", 26, &parts, false)[0];
            joiner.chunk(at(1000), file, bytes);
            let states = [state(&joiner, 1000), state(&joiner, 2999), state(&joiner, 3000)];
            joiner.handle_timeout(at(3000));
            let ends: Vec<End> = complete(&mut joiner).into_iter().map(|it| it.2).collect();
            (states, ends.contains(&End::Silence))
        };
        assert_eq!(states(4, 5), ([(false, true); 3], true), "it is complete");
        assert_eq!(states(4, 4), ([(true, false); 3], false), "its last chunk is lost");
        assert_eq!(states(0, 5), ([(false, false), (false, false), (true, false)], false), "not known");
        assert_eq!(states(4, 1), ([(true, false); 3], false), "no fragment yet");
    }

    #[test]
    fn a_repeated_chunk_is_no_new_segment_and_a_restart_is() {
        let mut joiner = Joiner::default();
        let parts = chunks(2, 1);
        let all = objects("1.m4s", 1, &parts, true);
        for (file, bytes) in &all {
            joiner.chunk(at(0), file, bytes);
        }
        assert_eq!(complete(&mut joiner).len(), 1);
        for (file, bytes) in &all {
            assert!(!joiner.chunk(at(10), file, bytes));
        }
        assert_eq!((joiner.open().count(), joiner.repeats()), (0, 3));
        // The packager restarts: the same name, other bytes, other TOIs.
        let again = chunks(2, 9);
        for (file, bytes) in objects("1.m4s", 500, &again, true) {
            joiner.chunk(at(20), &file, &bytes);
        }
        assert_eq!(complete(&mut joiner)[0].1, again.concat());
        // And once more in the middle of a segment.
        for (file, bytes) in &objects("2.m4s", 600, &parts, true)[..2] {
            joiner.chunk(at(30), file, bytes);
        }
        for (file, bytes) in objects("2.m4s", 700, &again, true) {
            joiner.chunk(at(40), &file, &bytes);
        }
        assert_eq!(complete(&mut joiner)[0].1, again.concat());
    }

    #[test]
    fn segments_that_never_end_make_room() {
        let mut joiner = Joiner::default();
        for number in 0..1000_u128 {
            let name = format!("http://h/{number}.m4s#5");
            let file = File { content_location: name, toi: Toi(1 + 2 * number), ..File::default() };
            joiner.chunk(at(number as u64), &file, &[0; 10]);
            assert!(joiner.open().count() <= MAX_SEGMENTS);
        }
        let failed = std::iter::from_fn(|| joiner.poll_event())
            .filter(|event| matches!(event, Joined::Failed(_, JoinFailure::Displaced)));
        assert_eq!(failed.count(), 1000 - MAX_SEGMENTS);
        let large = vec![0; MAX_JOINING_BYTES as usize / 2 + 1];
        for number in 0..3_u128 {
            let name = format!("http://h/large{number}.m4s#5");
            let file = File { content_location: name, toi: Toi(5000 + number), ..File::default() };
            joiner.chunk(at(2000 + number as u64), &file, &large);
        }
        assert_eq!(joiner.open().count(), 1);
        // An offset that no segment has.
        let file = File { content_location: format!("x#{}", u64::MAX), toi: Toi(9), ..File::default() };
        joiner.chunk(at(3000), &file, &[1]);
        let failed = std::iter::from_fn(|| joiner.poll_event()).last();
        assert!(matches!(failed, Some(Joined::Failed(_, JoinFailure::TooLong))));
        let parts = chunks(3, 4);
        for (file, bytes) in objects("last.m4s", 90_000, &parts, true) {
            joiner.chunk(at(4000), &file, &bytes);
        }
        assert_eq!(complete(&mut joiner).len(), 1, "the last like the first");
    }

    #[test]
    fn a_segment_whose_chunks_trickle_is_given_up() {
        let mut joiner = Joiner::default();
        let parts = chunks(60, 1);
        let all = objects("1.m4s", 1, &parts, true);
        let mut failed = Vec::new();
        for (number, (file, bytes)) in (0..).zip(all.iter().filter(|(file, _)| file.toi.0 != 2)) {
            let now = at(number * 20_000);
            joiner.chunk(now, file, bytes);
            joiner.handle_timeout(now);
            let events = std::iter::from_fn(|| joiner.poll_event());
            failed.extend(events.filter_map(|it| match it {
                Joined::Failed(_, why) => Some((now, why)),
                _ => None,
            }));
        }
        assert_eq!(failed, [(at(MAX_SEGMENT_AGE.as_secs() * 1000), JoinFailure::TooOld)]);
    }

    #[test]
    fn segments_make_room_for_other_sessions_the_oldest_first() {
        let mut joiner = Joiner::default();
        let file = |number: u128| File {
            content_location: format!("http://h/{number}.m4s#5"),
            toi: Toi(1 + 2 * number),
            ..File::default()
        };
        for number in 0..10 {
            joiner.chunk(at(number as u64), &file(number), &[0; 100_000]);
        }
        let before = joiner.held_bytes();
        assert!(before > 1_000_000);
        let freed = joiner.shed(250_000);
        assert_eq!((joiner.open().count(), before - joiner.held_bytes()), (7, freed));
        let failed: Vec<Joined> = std::iter::from_fn(|| joiner.poll_event()).collect();
        let names: Vec<&str> = failed
            .iter()
            .filter_map(|it| match it {
                Joined::Failed(file, JoinFailure::OverBudget) => Some(file.content_location.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["http://h/0.m4s", "http://h/1.m4s", "http://h/2.m4s"]);
        assert!(joiner.shed(usize::MAX) > 700_000 && joiner.held_bytes() == 0 && joiner.shed(1) == 0);
    }

    #[test]
    fn names_of_open_segments_count_as_memory() {
        const NAME_BYTES: usize = 8_000;
        let mut joiner = Joiner::default();
        for number in 0..MAX_SEGMENTS {
            let content_location = format!("{number:0>NAME_BYTES$}#5");
            let file = File { content_location, toi: Toi(1 + 2 * number as u128), ..File::default() };
            joiner.chunk(at(0), &file, &[0; 10]);
        }
        assert_eq!(joiner.open().count(), MAX_SEGMENTS);
        assert!(
            joiner.held_bytes() >= MAX_SEGMENTS * (NAME_BYTES + SEGMENT_BYTES),
            "{}",
            joiner.held_bytes()
        );
        assert!(joiner.shed(NAME_BYTES) >= NAME_BYTES);
        assert_eq!(joiner.open().count(), MAX_SEGMENTS - 1, "one segment makes room for a name");
    }

    #[test]
    fn chunks_of_few_bytes_or_none_are_bounded() {
        let chunk = |toi: usize, offset: usize| File {
            content_location: format!("1.m4s#{offset}"),
            toi: Toi(toi as u128),
            ..File::default()
        };
        let mut joiner = Joiner::default();
        joiner.chunk(at(0), &chunk(1, 0), &[1]);
        // Chunks without bytes add nothing, and the segment ages.
        let held = joiner.held_bytes();
        for number in 0..2 * MAX_CHUNKS {
            assert!(!joiner.chunk(at(29_000), &chunk(2 + number, 1), &[]));
            let marker = File { content_location: "1.m4s?isLast#9".to_owned(), ..chunk(1_000_000, 0) };
            assert!(joiner.chunk(at(29_000), &marker, &[]));
        }
        assert_eq!(joiner.empty(), 2 * MAX_CHUNKS as u64);
        assert_eq!(joiner.held_bytes(), held + size_of::<(u64, Toi)>(), "the marker, once");
        joiner.handle_timeout(at(30_000));
        assert_eq!((joiner.open().count(), joiner.held_bytes()), (0, 0));
        // Chunks of one byte, with a gap so that none is repeated.
        let failures = |joiner: &mut Joiner| {
            let events = std::iter::from_fn(|| joiner.poll_event());
            events.filter(|it| matches!(it, Joined::Failed(_, JoinFailure::TooManyChunks))).count()
        };
        assert_eq!(failures(&mut joiner), 0);
        for number in 0..3 * MAX_CHUNKS {
            joiner.chunk(at(40_000), &chunk(2_000_000 + number, number), &[1]);
            // Buffers grow by doubling.
            let most = SEGMENT_BYTES + 256 + MAX_CHUNKS * (2 + size_of::<(u64, Toi)>());
            assert!(joiner.held_bytes() <= most, "{}", joiner.held_bytes());
        }
        assert_eq!(failures(&mut joiner), 2);
        // Markers of other TOIs count, too.
        for toi in 0..2 * MAX_CHUNKS {
            let marker = File { content_location: "2.m4s?isLast#9".to_owned(), ..chunk(3_000_000 + toi, 0) };
            joiner.chunk(at(41_000), &marker, &[]);
            assert!(joiner.open.iter().all(|it| it.chunks.len() <= MAX_CHUNKS));
        }
        assert_eq!(failures(&mut joiner), 1);
        let parts = chunks(3, 4);
        for (file, bytes) in objects("last.m4s", 4_000_000, &parts, true) {
            joiner.chunk(at(50_000), &file, &bytes);
        }
        assert_eq!(complete(&mut joiner).len(), 1, "the last like the first");
    }

    #[test]
    fn undecided_chunks_of_the_only_segment_are_bounded() {
        let mut joiner = Joiner::default();
        let chunk = |toi: u128, offset: usize| File {
            content_location: format!("1.m4s#{offset}"),
            toi: Toi(toi),
            ..File::default()
        };
        joiner.chunk(at(0), &chunk(1, 60 << 20), &[1; 500]);
        let bytes = vec![1; 10 << 20];
        for number in 0..20 {
            joiner.chunk(at(1), &chunk(10 + number as u128, number), &bytes);
            assert!(joiner.held_bytes() <= MAX_JOINING_BYTES as usize);
        }
    }

    proptest! {
        #[test]
        fn what_is_complete_is_right_whatever_is_lost(lost in proptest::collection::vec(any::<bool>(), 24), marks in any::<[bool; 4]>()) {
            let segments: Vec<Vec<Vec<u8>>> = (0..4).map(|at| chunks(4, at)).collect();
            let mut joiner = Joiner::default();
            let mut number = 0;
            for (at_segment, parts) in segments.iter().enumerate() {
                let name = format!("{at_segment}");
                for (file, bytes) in objects(&name, 1 + 5 * at_segment as u128, parts, marks[at_segment]) {
                    number += 1;
                    if !lost[number] {
                        joiner.chunk(at(number as u64 * 100), &file, &bytes);
                    }
                    let mut seen = Vec::new();
                    joiner.grown(|file, offset, bytes| seen.push((file.content_location.clone(), offset, bytes.to_vec())));
                    for (name, offset, bytes) in seen {
                        let whole = segments[name.parse::<usize>().unwrap()].concat();
                        prop_assert_eq!(&whole[offset as usize..][..bytes.len()], &bytes[..]);
                    }
                }
            }
            joiner.close();
            for (name, bytes, _) in complete(&mut joiner) {
                prop_assert_eq!(bytes, segments[name.parse::<usize>().unwrap()].concat());
            }
        }
    }
}
