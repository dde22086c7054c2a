//! Queue of firmware bundles, which are repeated one after the other at a reserved rate.

use std::collections::VecDeque;

use super::ItemId;
use super::job::Job;
use super::reserve::Reserve;

/// The queue.
#[derive(Debug)]
pub(super) struct Share {
    reserve: Reserve,
    /// In transmission order.
    waiting: VecDeque<ItemId>,
    job: Option<Job>,
}

impl Share {
    /// An empty queue with the rate `rate_bps`.
    pub(super) const fn new(rate_bps: u64) -> Self {
        Self { reserve: Reserve::new(rate_bps), waiting: VecDeque::new(), job: None }
    }

    pub(super) fn add(&mut self, id: ItemId) {
        self.waiting.push_back(id);
    }

    pub(super) fn remove(&mut self, id: ItemId) {
        self.waiting.retain(|&it| it != id);
        self.job.take_if(|job| job.object() == Some(id));
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.job = None;
    }

    /// The object that is being sent.
    pub(super) const fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.job.is_none()
    }

    /// Whether a packet may be sent now.
    pub(super) fn has_credit(&mut self, now_ns: u64) -> bool {
        !self.is_empty() && self.reserve.has_credit(now_ns)
    }

    /// The next object, if none is being sent; it moves to the end of the queue.
    pub(super) fn next_turn(&mut self) -> Option<ItemId> {
        if self.job.is_some() {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.waiting.push_back(id);
        Some(id)
    }

    pub(super) fn put(&mut self, job: Job) {
        self.job = Some(job);
    }

    pub(super) const fn take(&mut self) -> Option<Job> {
        self.job.take()
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.reserve.spend(bytes);
    }

    /// Time at which the next packet may be sent.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.reserve.due_ns()).flatten()
    }
}
