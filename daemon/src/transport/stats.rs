//! State of the transport streams for status and metrics, written once a second by the thread of each stream.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::multiplex::wrapping::Unwrap;
use carousel::ts::rtp::RtpCounts;
use serde_json::{Value, json};

use super::input::Signal;

/// One carousel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarouselState {
    /// Its PID.
    pub pid: u16,
    /// Base URL of its files.
    pub base: String,
    /// Modules that its DIIs describe.
    pub modules: usize,
    /// Number of complete modules.
    pub whole: usize,
    /// Files in the cache.
    pub files: usize,
    /// Root key, online key and service of the signer of its module list.
    pub signed_by: Option<std::sync::Arc<str>>,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamState {
    /// Why it is not being received.
    pub error: Option<String>,
    /// Number of times that it was opened.
    pub opened: u64,
    /// Number of losses of lock.
    pub lock_losses: u64,
    /// Signal reported by the tuner.
    pub signal: Option<Signal>,
    /// RTP counters, for an RTP input.
    pub rtp: Option<RtpCounts>,
    /// transport_stream_id.
    pub transport_stream_id: Option<u16>,
    /// service_id and name.
    pub services: Vec<(u16, String)>,
    /// Packets of the transport stream.
    pub packets: u64,
    /// Packets split between two datagrams.
    pub split_packets: u64,
    /// Baseband frames.
    pub frames: u64,
    /// UDP datagrams from its IP packets.
    pub datagrams: u64,
    /// Datagrams dropped because shards had no room.
    pub shard_full: u64,
    /// Files of carousels in the cache.
    pub files: u64,
    /// Number of unexpected continuity counters.
    pub continuity_errors: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Its carousels.
    pub carousels: Vec<CarouselState>,
}

impl StreamState {
    /// Records the statistics of the datagrams.
    pub fn unwrapped(&mut self, unwrap: &Unwrap) {
        self.rtp = unwrap.rtp();
        self.split_packets = unwrap.split_packets();
        for (why, count) in unwrap.dropped() {
            *self.dropped.entry(why.as_str()).or_default() += count;
        }
    }

    /// The JSON of `status --json`.
    pub fn to_json(&self, from: &str) -> Value {
        let dropped: BTreeMap<_, _> = self.dropped.iter().filter(|(_, count)| **count > 0).collect();
        let signal = self.signal.map(|it| {
            json!({ "locked": it.locked, "strength_dbm": it.strength_dbm, "strength_percent": it.strength_percent,
                    "snr_db": it.snr_db, "quality_percent": it.quality_percent })
        });
        let rtp = self.rtp.map(|it| {
            json!({ "packets": it.packets, "lost": it.lost, "reordered": it.reordered, "late": it.late,
                    "restarts": it.restarts })
        });
        let carousels = self.carousels.iter().map(|it| {
            json!({ "pid": it.pid, "base": it.base, "modules": it.modules, "modules_whole": it.whole,
                    "files": it.files, "signed_by": it.signed_by.as_deref() })
        });
        let services = self.services.iter().map(|(id, name)| json!({ "service_id": id, "name": name }));
        json!({
            "from": from, "error": self.error, "opened": self.opened, "lock_losses": self.lock_losses,
            "signal": signal, "rtp": rtp, "transport_stream_id": self.transport_stream_id,
            "services": services.collect::<Vec<_>>(), "packets": self.packets, "split_packets": self.split_packets, "frames": self.frames,
            "datagrams": self.datagrams, "shard_full": self.shard_full, "files": self.files,
            "continuity_errors": self.continuity_errors, "dropped": dropped,
            "carousels": carousels.collect::<Vec<_>>(),
        })
    }
}

/// State of all streams, by their source.
#[derive(Debug, Default)]
pub struct TransportStats(Mutex<BTreeMap<String, StreamState>>);

impl TransportStats {
    /// Sets the state of a stream.
    pub fn set(&self, from: &str, state: StreamState) {
        self.states().insert(from.to_owned(), state);
    }

    /// Removes a stream.
    pub fn remove(&self, from: &str) {
        self.states().remove(from);
    }

    /// All streams.
    pub fn all(&self) -> Vec<(String, StreamState)> {
        self.states().iter().map(|(from, state)| (from.clone(), state.clone())).collect()
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, StreamState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
