//! Background work of the store: promotion of requested objects from memory to the disk, unlinking of purged ones, and slow
//! verification of objects after an unclean stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{EvictReason, Store, StoreError, StoredObject, Tier};
use crate::clock;
use crate::vitals::{self, Sign, Vitals};

/// Interval between searches for unverified objects.
const LOOK: Duration = Duration::from_secs(1);

/// The background thread.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(store: Store, vitals: &Vitals) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sign = vitals.show("keeper".to_owned(), clock::now());
        let thread = vitals::start("keeper", move || store.keep(&stopped, &sign))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Store {
    fn keep(&self, stop: &AtomicBool, sign: &Sign) {
        while !stop.load(Ordering::Relaxed) {
            sign.give(clock::now());
            let next = {
                let promotions = self.0.to_promote.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                promotions.recv_timeout(LOOK)
            };
            self.finish_purges();
            self.0.root.ledger.keep(clock::now());
            match next {
                Ok(object) => {
                    if let Err(err) = self.promote(&object) {
                        tracing::debug!(key = %object.meta.key, %err, "not promoted");
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.scrub(stop),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Moves an object from memory to the disk.
    fn promote(&self, object: &Arc<StoredObject>) -> Result<(), StoreError> {
        let key = object.meta.key.as_str();
        let is_current = || self.index().peek(key).is_some_and(|now| Arc::ptr_eq(now, object));
        let length = object.meta.length;
        let root = &self.0.root;
        let has_page = super::format::encode(&object.meta).is_some();
        if !has_page || !is_current() || !root.disk.is_usable() || !root.ledger.allows(length) {
            return Ok(());
        }
        let partial = Arc::new(self.begin_on(Tier::Flash, |tier| self.allocate(tier, length))?);
        let bytes = object.bytes(0..length).ok_or(StoreError::NoRoom)?;
        partial.write_at(0, &bytes)?;
        let frozen = partial.freeze(length)?;
        // A newer version may have been published since; its file must stay.
        if is_current() {
            self.publish(&frozen, object.meta.clone())?;
            self.0.promoted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Verifies objects at the configured rate until other work arrives.
    fn scrub(&self, stop: &AtomicBool) {
        let rate = self.0.config.scrub_bytes_per_s;
        if rate == 0 || self.0.unverified.load(Ordering::Relaxed) == 0 {
            return;
        }
        let unverified = |object: &Arc<StoredObject>| !object.verified.load(Ordering::Acquire);
        for object in self.list().into_iter().filter(unverified) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if !object.is_intact() {
                self.remove_exactly(&object, EvictReason::Vanished);
                continue;
            }
            self.verify(&object, |bytes| {
                clock::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64));
            });
        }
    }
}
