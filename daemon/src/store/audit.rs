//! Verification of every invariant of `DESIGN.md`, for `skycached check --deep`.

use std::fmt;

use super::{HEADER_BYTES, Store, Tier, file, resume};

/// Findings of an audit. Numbers of the invariants are those of `DESIGN.md`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Objects verified.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are shorter or longer than their object (1).
    pub wrong_length: u64,
    /// Bodies whose digest differs from their header (2), or that cannot be read.
    pub wrong_bytes: u64,
    /// Files below `objects` that belong to no object of the index (1, 4).
    pub orphan_files: u64,
    /// Bytes beyond the quota (5).
    pub over_quota_bytes: u64,
    /// Partials without a map, or maps without a partial (7).
    pub torn_partials: u64,
}

impl Audit {
    /// Whether every invariant holds.
    pub const fn is_sound(&self) -> bool {
        self.wrong_length == 0
            && self.wrong_bytes == 0
            && self.orphan_files == 0
            && self.over_quota_bytes == 0
            && self.torn_partials == 0
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, bytes, .. } = self;
        write!(f, "{objects} objects, {bytes} bytes read and compared with their digests")?;
        for (count, what) in [
            (self.wrong_length, "of another length than their header says (invariant 1)"),
            (self.wrong_bytes, "of other bytes than their header says (invariant 2)"),
            (self.orphan_files, "files that are not objects (invariants 1 and 4)"),
            (self.over_quota_bytes, "bytes over the quota (invariant 5)"),
            (self.torn_partials, "incomplete objects without a map (invariant 7)"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Reads every object and verifies the invariants; evicts corrupt objects. Takes as long as reading the cache takes; run it
    /// while nothing else writes.
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        let held = self.list();
        for object in held.iter().filter(|object| object.tier() == Tier::Flash) {
            audit.objects += 1;
            audit.bytes += object.meta().length + HEADER_BYTES as u64;
            if !object.is_intact() {
                audit.wrong_length += 1;
            } else if !object.matches_digest(|_| {}).unwrap_or(false) {
                audit.wrong_bytes += 1;
            } else {
                self.verified(object);
                continue;
            }
            self.remove_exactly(object, super::EvictReason::Corrupt);
        }
        let files = file::count_below(&self.path().join(file::OBJECTS));
        let wrong = audit.wrong_length + audit.wrong_bytes;
        audit.orphan_files = files.saturating_sub(audit.objects - wrong);
        audit.over_quota_bytes = self.usage().bytes.saturating_sub(self.usage().quota_bytes);
        audit.torn_partials = resume::torn(self.path());
        audit
    }
}
