//! Decision on each file: taken into the inventory, or left out with a reason.

use std::ops::Range;

use carousel::limits::MAX_OBJECT_BYTES;
use carousel::query::name_of_range;

use super::super::check::{DeclaredProperties, check};
use super::super::inventory::{LeftOut, LeftOutReason as Reason};
use super::super::refer::{Local, decode};
use super::super::tree::{MAX_PROBLEMS, is_temporary};
use super::super::{CheckResult, ObjectSource, Problem, Role};
use super::Reading;

carousel::limits! {
    /// Maximum files left out that are listed by name.
    const MAX_LEFT_OUT: usize = 10_000, "files" {
        why: "Each takes some 200 bytes.",
        full: "Further ones are counted with the last of the same reason.",
        free: "With the next reading.",
        test: "problems_are_listed_up_to_a_bound",
    }
}

const PACKAGE_AGAIN: &str = "package it again; players get it from the origin meanwhile";
const LET_READ: &str = "give this user the right to read it; if the disk fails, the kernel's log says so";
const PUT_IT_THERE: &str = "put the file there, or package again";
const PULL_IT: &str = "`headend pull` fetches it, or says why it does not come and what to do";

impl Reading<'_> {
    /// Adds the file to the inventory if it exists and has no fault; otherwise reports the fault.
    pub(super) fn carry_or_tell(
        &mut self,
        place: &str,
        manifest: &str,
        reference: &str,
        local: &Local,
        role: Role,
        expected: DeclaredProperties,
    ) -> bool {
        if local.file.is_none() {
            self.missing(place, manifest, reference, local, role);
            return false;
        }
        if let Some((reason, what)) = self.fault(local, expected, role) {
            // The end of writing causes an event.
            if reason != Reason::BeingWritten {
                let fix = if reason == Reason::Unreadable { LET_READ } else { PACKAGE_AGAIN };
                self.problem(place, format!("{} {what}", local.path), fix);
            }
            self.leave_out(reason, place, &local.path, 1);
            self.reported_files.extend(local.file.clone());
            return false;
        }
        self.carry(local, role)
    }

    pub(super) fn carry(&mut self, local: &Local, role: Role) -> bool {
        let Some((path, file)) = local.file.as_ref().and_then(|path| Some((path, self.files.get(path)?)))
        else {
            return false;
        };
        if !self.inventory.objects.contains_key(&local.path) {
            self.carried_files.insert(path.clone());
            self.inventory.objects.insert(local.path.clone(), file.object(&local.path, role));
        } else if role == Role::Segment {
            // A file in ranges, including its init section and index, is as long as the film.
            let carried = self.inventory.objects.get_mut(&local.path);
            if let Some(object) = carried.filter(|it| matches!(it.role, Role::Init | Role::Other)) {
                object.role = Role::Segment;
            }
        }
        true
    }

    /// Whether ranges of this file have been carried as objects.
    pub(super) fn is_growing(&self, local: &Local) -> bool {
        local.file.as_ref().is_some_and(|path| self.memory.growing.contains_key(path))
    }

    /// Current length of a file, which may have grown since the walk.
    pub(super) fn grown_bytes(&self, path: &str) -> u64 {
        let file = self.files.get(path);
        file.and_then(|it| std::fs::symlink_metadata(&it.file).ok()).map_or(0, |metadata| metadata.len())
    }

    /// Adds a range of a growing file to the inventory, as an object with its own name, which is returned.
    pub(super) fn carry_range(
        &mut self,
        place: &str,
        manifest: &str,
        reference: &str,
        local: &Local,
        role: Role,
        range: &Range<u64>,
    ) -> Option<String> {
        let Some((path, file)) = local.file.as_ref().and_then(|path| Some((path, self.files.get(path)?)))
        else {
            self.missing(place, manifest, reference, local, role);
            return None;
        };
        let length = match self.lengths.get(path) {
            Some(&length) => length,
            None => {
                let length = self.grown_bytes(path);
                self.lengths.insert(path.clone(), length);
                let growing = self.memory.growing.entry(path.clone()).or_default();
                growing.beginnings += i128::from(length < growing.length);
                growing.length = length;
                length
            }
        };
        self.carried_files.insert(path.clone());
        let name = name_of_range(&local.path, range);
        if range.is_empty() || range.end > length {
            if file.is_finished {
                let what = format!(
                    "bytes {} to {} of {} are listed, and it has {length}",
                    range.start, range.end, local.path
                );
                self.problem(place, what, PACKAGE_AGAIN);
                self.leave_out(Reason::Cut, place, &name, 1);
            } else {
                // Packagers may list ranges before they are flushed.
                self.inventory.is_unsettled = true;
                self.leave_out(Reason::BeingWritten, place, &name, 1);
            }
            return None;
        }
        let modified_ns = self.memory.growing.get(path).map_or(0, |it| it.beginnings);
        let object = ObjectSource {
            path: name.clone(),
            length: range.end - range.start,
            range: Some(range.clone()),
            modified_ns,
            ..file.object(&local.path, role)
        };
        self.inventory.objects.entry(name.clone()).or_insert(object);
        Some(name)
    }

    /// Adds a key stored with the media, and reports that all receivers will get it.
    pub(super) fn carry_key(&mut self, place: &str, local: &Local) -> bool {
        if local.file.is_none() {
            // Keys belong on a key server: an absent one is normal.
            return false;
        }
        let what = format!("{} is a key: broadcast, everybody has it", local.path);
        self.problem(place, what, "serve keys from a key server and take them out of the folder");
        self.carry(local, Role::Key)
    }

    /// Fault of a file, if any.
    pub(super) fn fault(
        &mut self,
        local: &Local,
        expected: DeclaredProperties,
        role: Role,
    ) -> Option<(Reason, String)> {
        let path = local.file.as_ref()?;
        let file = self.files.get(path)?;
        if !file.is_finished {
            return Some((Reason::BeingWritten, "is still being written".to_owned()));
        }
        if !matches!(role, Role::Segment | Role::Init) {
            return None;
        }
        if let Some(known) = self.memory.checks.get(path)
            && (known.length, known.modified_ns, known.expected) == (file.length, file.modified_ns, expected)
        {
            return known.fault.as_ref().map(|fault| (fault.reason, fault.what.clone()));
        }
        let fault = match check(&file.file, file.length, expected) {
            Ok(fault) => fault,
            Err(err) => {
                return Some((
                    Reason::Unreadable,
                    format!("cannot be read: {}", carousel::config::plain(&err)),
                ));
            }
        };
        let (length, modified_ns) = (file.length, file.modified_ns);
        let result = fault.as_ref().map(|fault| (fault.reason, fault.what.clone()));
        self.memory.checks.insert(path.clone(), CheckResult { length, modified_ns, expected, fault });
        result
    }

    pub(super) fn missing(
        &mut self,
        place: &str,
        manifest: &str,
        reference: &str,
        local: &Local,
        role: Role,
    ) {
        let plain = decode(local.path.split('?').next().unwrap_or_default());
        let name = plain.rsplit('/').next().unwrap_or(&plain);
        match self.resolver.meant(manifest, reference) {
            Some((what, fix)) => self.problem(place, what, fix),
            None if is_temporary(name) => {
                let what = format!("{} is a temporary file by its name and is not carried", local.path);
                self.problem(place, what, "rename it when it is finished");
            }
            None if role == Role::Key => {}
            None => {
                let fix = if self.options.is_pulled { PULL_IT } else { PUT_IT_THERE };
                self.problem(place, format!("{} is missing", local.path), fix);
            }
        }
        self.leave_out(Reason::Missing, place, &local.path, 1);
    }

    pub(super) fn leave_out(&mut self, reason: Reason, place: &str, name: &str, count: usize) {
        let left_out = LeftOut { reason, place: place.to_owned(), name: name.to_owned(), count };
        let has_room = self.inventory.left_out.len() < MAX_LEFT_OUT;
        match self.inventory.left_out.last_mut() {
            _ if has_room => self.inventory.left_out.push(left_out),
            Some(last) if last.reason == reason => last.count += count,
            _ => self.inventory.left_out.push(left_out),
        }
    }

    /// Leaves out objects that no receiver takes, before they are hashed.
    pub(super) fn leave_out_too_long(&mut self) {
        let all = self.inventory.objects.iter().filter(|(_, it)| it.length > MAX_OBJECT_BYTES);
        let too_long: Vec<(String, u64)> = all.map(|(path, it)| (path.clone(), it.length)).collect();
        for (path, length) in too_long {
            self.inventory.objects.remove(&path);
            let what = format!("{length} bytes, more than the {MAX_OBJECT_BYTES} that a receiver takes");
            self.problem(&path, what, "split it, or remove it from the source");
            self.leave_out(Reason::TooLong, &path, &path, 1);
        }
    }

    pub(super) fn problem(&mut self, place: &str, what: String, fix: &'static str) {
        let problem = Problem { place: place.to_owned(), what, fix };
        if self.inventory.problems.len() < MAX_PROBLEMS && !self.inventory.problems.contains(&problem) {
            self.inventory.problems.push(problem);
        }
    }
}
