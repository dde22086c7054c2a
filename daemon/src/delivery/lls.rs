//! Forwarding of ATSC low-level signalling to the session thread: new tables at once, repeated ones every [`REPEAT`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use carousel::flute::{File, SessionKey};
use carousel::lct::{Toi, Tsi};
use carousel::route::lls::LLS_TYPE;
use carousel::time::Instant;

use super::ObjectRef;
use super::machine::Delivery;
use super::storage::ObjectStore;

carousel::limits! {
    /// Tables of low-level signalling that are remembered, to recognise repeats: one for each sender, kind and group of services.
    const MAX_LLS_TABLES: usize = 64, "tables" {
        why: "Sixteen service lists, each with a few tables of other kinds.",
        full: "All are forgotten: repeats are passed on once more.",
        free: "At once.",
        test: "tables_of_low_level_signalling_are_passed_on_when_they_are_new",
    }

    /// Tables of low-level signalling that are passed on in a second.
    const MAX_LLS_RATE: u32 = 32, "tables" {
        why: "A sender repeats each of a few tables every few seconds; each is unpacked by the session thread.",
        full: "Further ones are dropped and counted as `lls_excess`.",
        free: "In the next second.",
        test: "tables_of_low_level_signalling_are_passed_on_when_they_are_new",
    }
}

/// Interval at which repeated tables are passed on, so that the session thread knows their age.
const REPEAT: Duration = Duration::from_secs(4);

/// Sender, group, and the first two bytes of the table: its kind and its group of services.
type TableKey = (SocketAddr, SocketAddr, [u8; 2]);

/// Memory of the tables that were passed on.
#[derive(Debug, Default)]
pub(super) struct LlsTables {
    seen: HashMap<TableKey, (u64, Instant)>,
    second: Instant,
    passed: u32,
}

impl LlsTables {
    /// Whether a table is to be passed on now; `None`: the rate limit is reached.
    fn admit(&mut self, now: Instant, source: SocketAddr, group: SocketAddr, table: &[u8]) -> Option<bool> {
        let mut hasher = DefaultHasher::new();
        table.hash(&mut hasher);
        let print = hasher.finish();
        let kind = [0, 1].map(|at| table.get(at).copied().unwrap_or(0));
        let key = (source, group, kind);
        if self.seen.get(&key).is_some_and(|(seen, at)| *seen == print && now.since(*at) < REPEAT) {
            return Some(false);
        }
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.passed) = (now, 0);
        }
        if self.passed >= MAX_LLS_RATE {
            return None;
        }
        self.passed += 1;
        if self.seen.len() >= MAX_LLS_TABLES && !self.seen.contains_key(&key) {
            self.seen.clear();
        }
        self.seen.insert(key, (print, now));
        Some(true)
    }
}

impl<S: ObjectStore> Delivery<S> {
    /// Handles a datagram of low-level signalling.
    #[cold]
    pub(super) fn handle_lls(&mut self, now: Instant, source: SocketAddr, group: SocketAddr, table: &[u8]) {
        self.losses.lls += 1;
        match self.live.lls.admit(now, source, group, table) {
            Some(true) => {
                let session = SessionKey { source: source.ip(), destination: group, tsi: Tsi(0) };
                let file = File { content_type: Some(LLS_TYPE.to_owned()), ..File::default() };
                self.pass_on(now, session, file, table.to_vec());
            }
            Some(false) => {}
            None => self.losses.lls_excess += 1,
        }
    }

    /// Passes a document to the session thread, through the finishers.
    pub(super) fn pass_on(&mut self, now: Instant, session: SessionKey, file: File, bytes: Vec<u8>) {
        if let Some(buf) = self.store.document(bytes) {
            let toi = self.live.next_document();
            self.complete(now, ObjectRef { session, toi }, Arc::new(File { toi, ..file }), buf, 0);
        }
    }
}

impl<B> super::live::Live<B> {
    /// A TOI for the next document: each is an object of its own.
    pub(super) const fn next_document(&mut self) -> Toi {
        self.documents += 1;
        Toi(self.documents as u128)
    }
}
