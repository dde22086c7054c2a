//! TOIs whose packets are of no use any more, and for how long.

use std::collections::{HashMap, VecDeque};

use super::DropReason;
use crate::lct::Toi;
use crate::limits::MAX_TOIS_DONE;
use crate::time::Instant;

/// A TOI whose packets are of no use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// Transfer length when it was done: a repeat that announces another is another object.
    pub(super) length: u64,
    /// `None`: until the FDT says otherwise.
    pub(super) until: Option<Instant>,
    pub(super) reason: DropReason,
}

/// At most [`MAX_TOIS_DONE`] of them; the oldest makes room.
#[derive(Debug, Default)]
pub(super) struct DoneTable {
    done: HashMap<Toi, Done>,
    /// A TOI may be in here more than once after it was forgotten and done again; both count.
    order: VecDeque<Toi>,
}

impl DoneTable {
    pub(super) fn get(&self, toi: Toi) -> Option<&Done> {
        self.done.get(&toi)
    }

    pub(super) fn insert(&mut self, toi: Toi, done: Done) {
        if self.done.insert(toi, done).is_none() {
            self.order.push_back(toi);
        }
        while self.order.len() > MAX_TOIS_DONE {
            if let Some(oldest) = self.order.pop_front() {
                self.done.remove(&oldest);
            }
        }
    }

    pub(super) fn remove(&mut self, toi: Toi) {
        self.done.remove(&toi);
    }

    /// Forgets every TOI of which `is_done` says no.
    pub(super) fn retain(&mut self, mut is_done: impl FnMut(Toi) -> bool) {
        self.done.retain(|&toi, _| is_done(toi));
    }
}
