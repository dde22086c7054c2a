//! Selection of the newest complete version of each manifest.

use std::ops::Range;
use std::sync::Arc;

use super::super::inventory::LeftOutReason as Reason;
use super::super::refer::{Local, ReferenceTarget, decode, encode};
use super::super::tree::FileOnDisk;
use super::super::{GoodManifest, MAX_MANIFEST_BYTES, Role, dash, hls};
use super::{Reading, is_mpd};
use crate::encoding;
use crate::sys::read_source_file;

/// Time for which a manifest that is half written, goes backwards or lists missing segments is held, before it is accepted: two
/// segments of usual length.
const HOLD_MS: i64 = 4000;

impl Reading<'_> {
    /// The newest complete version of a manifest.
    pub(super) fn load(&mut self, path: &str) -> Option<Arc<[u8]>> {
        let file = self.files.get(path)?;
        let good = self.memory.manifests.get(path);
        if let Some(good) = good
            && (good.length, good.modified_ns) == (file.length, file.modified_ns)
        {
            return Some(Arc::clone(&good.bytes));
        }
        let before = good.map(|good| Arc::clone(&good.bytes));
        if !file.is_finished {
            if before.is_none() {
                self.leave_out(Reason::BeingWritten, path, path, 1);
            }
            return before;
        }
        if file.length > MAX_MANIFEST_BYTES {
            let what = format!("{} bytes are too many for a manifest", file.length);
            self.problem(path, what, "split the presentation");
            self.leave_out(Reason::NotUnderstood, path, path, 1);
            return before;
        }
        let bytes: Arc<[u8]> = match read_source_file(&file.file, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes.into(),
            Err(err) => {
                self.problem(path, carousel::config::plain(&err), "make the file readable");
                self.leave_out(Reason::Unreadable, path, path, 1);
                return before;
            }
        };
        if self.options.is_following
            && let Some(before) = &before
            && !self.replaces(path, file, &bytes, before)
        {
            self.inventory.is_unsettled = true;
            return Some(Arc::clone(before));
        }
        let (length, modified_ns) = (file.length, file.modified_ns);
        let good = GoodManifest { length, modified_ns, bytes: Arc::clone(&bytes) };
        self.memory.manifests.insert(path.to_owned(), good);
        Some(bytes)
    }

    /// Whether a new version of a manifest replaces the previous one: it is complete, does not go backwards, and its
    /// segments exist. A version that violates this for long is accepted as intended, unless it cannot be parsed.
    pub(super) fn replaces(&self, path: &str, file: &FileOnDisk, bytes: &[u8], before: &[u8]) -> bool {
        let is_old = self.now.unix_ms() - (file.modified_ns / 1_000_000) as i64 > HOLD_MS;
        let uri = encode(path);
        if is_mpd(before) || is_mpd(bytes) {
            let Ok(mpd) = self.parse_mpd(&uri, bytes, Some(file.modified_ns)) else { return false };
            let is_there = |uri: &String, range: Option<&Range<u64>>| match self.resolver.place(uri.clone()) {
                ReferenceTarget::Local(local) => self.is_there(&local, range.map(|range| range.end)),
                _ => true,
            };
            let named = mpd.representations.iter().all(|it| {
                let (dash::Addressing::List(listed) | dash::Addressing::Pattern { listed, .. }) =
                    &it.addressing;
                let mut named = it.init.iter().chain(listed).filter(|it| !it.is_optional);
                named.all(|it| is_there(&it.uri, it.range.as_ref().filter(|_| mpd.live)))
            });
            return named || is_old;
        }
        let Ok(text) = encoding::of_manifest(bytes) else { return false };
        let anything = hls::ParseContext { imports: None, query: "", has_any_query: true };
        match (
            hls::parse(&text, anything),
            encoding::of_manifest(before).ok().map(|it| hls::parse(&it, anything)),
        ) {
            (Ok(hls::Playlist::Media(new)), Some(Ok(hls::Playlist::Media(old)))) => {
                let is_backwards = new.end_sequence < old.end_sequence
                    && !new.ended
                    && !self.has_restarted(path, &new, &old);
                let all_there = new.references.iter().filter(|it| !it.may_be_missing).all(|it| {
                    // A part that is a range exists as soon as its segment has its bytes.
                    let end =
                        it.range.filter(|_| !new.ended).map(|(length, offset)| offset.saturating_add(length));
                    match self.resolver.resolve(&uri, &it.uri) {
                        ReferenceTarget::Local(local) => {
                            (it.is_part && end.is_some()) || self.is_there(&local, end)
                        }
                        _ => true,
                    }
                });
                (all_there && !is_backwards) || is_old
            }
            (Ok(hls::Playlist::Multivariant(_)), _) => true,
            (Ok(hls::Playlist::Media(_)), _) => true,
            // Imports and query parameters are unknown here, and were for the previous version.
            (Err(why), Some(Err(_))) => why.is_of_a_variable(),
            (Err(_), _) => false,
        }
    }

    /// Whether a playlist is of another run of its packager than the carried version: all its segments were written after that
    /// version, or it ends before that one began. A truncated or late playlist lists earlier segments.
    fn has_restarted(&self, path: &str, new: &hls::Media, old: &hls::Media) -> bool {
        let Some(before) = self.memory.manifests.get(path) else { return false };
        let segments = |it: &hls::Media| {
            it.references.iter().filter(|it| it.role == Role::Segment && !it.is_part).count() as u64
        };
        if segments(new) == 0 {
            return false;
        }
        let age_ms = self.now.unix_ms() - (before.modified_ns / 1_000_000) as i64;
        let is_far_back = new.end_sequence <= old.end_sequence.saturating_sub(segments(old));
        let uri = encode(path);
        let is_new = |it: &hls::Reference| match self.resolver.resolve(&uri, &it.uri) {
            ReferenceTarget::Local(local) => local
                .file
                .and_then(|file| self.files.get(&file))
                .is_some_and(|file| file.modified_ns > before.modified_ns),
            _ => false,
        };
        let mut listed = new
            .references
            .iter()
            .filter(|it| it.role == Role::Segment && !it.is_part && !it.may_be_missing)
            .peekable();
        (is_far_back && age_ms > HOLD_MS) || (listed.peek().is_some() && listed.all(is_new))
    }

    /// Whether a file is complete, or has the bytes before `end`.
    fn is_there(&self, local: &Local, end: Option<u64>) -> bool {
        let Some(path) = &local.file else { return false };
        let is_finished = self.files.get(path).is_some_and(|file| file.is_finished && file.length > 0);
        is_finished || end.is_some_and(|end| self.grown_bytes(path) >= end)
    }

    pub(super) fn not_understood(&mut self, uri: &str, why: &dyn std::fmt::Display) {
        let fix = "it is read again when it changes; if it is finished, package it again";
        self.problem(uri, why.to_string(), fix);
        self.leave_out(Reason::NotUnderstood, uri, uri, 1);
        self.reported_files.insert(decode(uri));
    }

    pub(super) fn carry_manifest(
        &mut self,
        uri: &str,
        file: &str,
        bytes: &Arc<[u8]>,
        content_type: &'static str,
    ) {
        if self.inventory.objects.contains_key(uri) {
            return;
        }
        let Some(found) = self.files.get(file) else { return };
        let mut object = found.object(uri, Role::Manifest);
        object.content_type = content_type;
        object.length = bytes.len() as u64;
        // The version on the air stays while a newer one is held.
        if let Some(good) = self.memory.manifests.get(file) {
            object.modified_ns = good.modified_ns;
        }
        object.bytes = Some(Arc::clone(bytes));
        self.carried_files.insert(file.to_owned());
        self.inventory.objects.insert(uri.to_owned(), object);
    }
}
