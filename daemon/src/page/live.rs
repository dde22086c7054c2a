//! What the box is doing, second by second, for the page's charts: a ring of samples, and a stream of events to whoever
//! watches.
//!
//! One task samples; the viewers' streams only wait for it. Nothing of it is on the way of a packet or of a hit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::catalog::Catalog;
use crate::clock;
use crate::status::Parts;

/// Samples kept: ten minutes.
const SAMPLES: usize = 600;
/// Viewers at a time: a household has some, a NOC a wall of them. One more is told to come back.
pub const MAX_VIEWERS: usize = 64;
/// How often state is told.
const STATE_EVERY: u64 = 5;
/// Events that wait for a slow viewer; one that is further behind begins anew with the history.
const EVENTS: usize = 16;
/// Objects on their way that are named.
const MAX_ARRIVING: usize = 20;

/// What viewers are told.
#[derive(Debug)]
pub struct Live {
    samples: Mutex<VecDeque<Sample>>,
    state: Mutex<Value>,
    /// `None` when the daemon ends.
    events: Mutex<Option<broadcast::Sender<Bytes>>>,
    viewers: AtomicUsize,
    /// Viewers that were told to come back.
    turned_away: AtomicUsize,
}

/// What happened in one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
struct Sample {
    at_ms: i64,
    receive_bps: u64,
    packets: u64,
    lost: u64,
    recovered: u64,
    repair_bps: u64,
    players_bps: u64,
    connections: u64,
    hits: u64,
    misses: u64,
    flash_bps: u64,
}

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    received_bytes: u64,
    packets: u64,
    lost: u64,
    recovered: u64,
    repair_bytes: u64,
    player_bytes: u64,
    hits: u64,
    misses: u64,
    flash_bytes: u64,
}

/// A viewer that is counted until it leaves.
#[derive(Debug)]
pub struct Viewer {
    live: Arc<Live>,
    events: broadcast::Receiver<Bytes>,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.live.viewers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One event of the stream (WHATWG HTML section 9.2).
fn event(name: &str, data: &Value) -> Bytes {
    // JSON has no line ends of its own.
    format!("event: {name}\ndata: {data}\n\n").into()
}

impl Default for Live {
    fn default() -> Self {
        Self {
            samples: Mutex::default(),
            state: Mutex::new(Value::Null),
            events: Mutex::new(Some(broadcast::channel(EVENTS).0)),
            viewers: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        }
    }
}

impl Live {
    /// A viewer, if there is room for one more.
    pub fn join(self: &Arc<Self>) -> Option<Viewer> {
        let events = self.events().as_ref()?.subscribe();
        let join = |viewers| (viewers < MAX_VIEWERS).then_some(viewers + 1);
        if self.viewers.fetch_update(Ordering::AcqRel, Ordering::Acquire, join).is_err() {
            self.turned_away.fetch_add(1, Relaxed);
            return None;
        }
        Some(Viewer { events, live: Arc::clone(self) })
    }

    /// Viewers now, and those that were turned away so far.
    pub fn viewers(&self) -> (usize, usize) {
        (self.viewers.load(Relaxed), self.turned_away.load(Relaxed))
    }

    /// Ends every viewer's stream; nobody can join any more.
    pub fn close(&self) {
        *self.events() = None;
    }

    fn events(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Bytes>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Value> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a viewer gets first: how to come back, the history, the state.
    fn beginning(&self) -> Bytes {
        let samples: Vec<Sample> = self.samples().iter().copied().collect();
        let mut all = b"retry: 2000\n\n".to_vec();
        all.extend_from_slice(&event("history", &json!({ "samples": samples })));
        let state = self.state().clone();
        if !state.is_null() {
            all.extend_from_slice(&event("state", &state));
        }
        all.into()
    }

    /// Samples every second until the runtime ends.
    pub async fn sample(self: Arc<Self>, parts: Arc<Parts>, catalog: Arc<Catalog>, name: String) {
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let began = clock::now();
        let (mut before, mut then_ms, mut version) = (Counters::of(&parts), clock::wall().unix_ms(), 0);
        for second in 0_u64.. {
            beat.tick().await;
            let (now, now_ms) = (Counters::of(&parts), clock::wall().unix_ms());
            let took_ms = u64::try_from(now_ms - then_ms).unwrap_or(0).max(1);
            if second > 0 {
                let sample = now.since(&before, took_ms, now_ms, parts.player.open_connections());
                let mut samples = self.samples();
                if samples.len() >= SAMPLES {
                    samples.pop_front();
                }
                samples.push_back(sample);
                drop(samples);
                self.tell(|| event("sample", &json!(sample)));
            }
            (before, then_ms) = (now, now_ms);
            if second % STATE_EVERY == 0 {
                let uptime_s = clock::now().since(began).as_secs();
                let state = state(&parts, &name, uptime_s);
                self.tell(|| event("state", &state));
                *self.state() = state;
            }
            let current = catalog.current().version;
            if current != version {
                version = current;
                self.tell(|| event("titles", &json!({ "version": version })));
            }
        }
    }

    /// Tells all viewers; without any, nothing is made.
    fn tell(&self, event: impl FnOnce() -> Bytes) {
        let events = self.events();
        if let Some(events) = events.as_ref().filter(|it| it.receiver_count() > 0) {
            // The last one may have left just now.
            let _ = events.send(event());
        }
    }
}

impl Viewer {
    /// Sends everything to `sender` until the viewer has gone.
    pub async fn watch(mut self, sender: tokio::sync::mpsc::Sender<std::io::Result<Bytes>>) {
        let mut next = Some(self.live.beginning());
        loop {
            let bytes = match next.take() {
                Some(bytes) => bytes,
                None => match self.events.recv().await {
                    Ok(bytes) => bytes,
                    Err(RecvError::Lagged(_)) => self.live.beginning(),
                    Err(RecvError::Closed) => return,
                },
            };
            if sender.send(Ok(bytes)).await.is_err() {
                return;
            }
        }
    }
}

impl Counters {
    fn of(parts: &Parts) -> Self {
        let losses = parts.shared.stats.losses();
        let sessions = parts.shared.stats.sessions();
        let http = parts.player.stats();
        let served = |which: usize| http.routes.iter().map(|it| it.served[which].load(Relaxed)).sum::<u64>();
        let [hit, stale, revalidated, in_flight, miss, _] = [0, 1, 2, 3, 4, 5].map(served);
        Self {
            received_bytes: losses.bytes,
            packets: losses.datagrams,
            lost: parts.shared.stats.lost() + losses.kernel_drops,
            recovered: sessions.iter().map(|(_, it)| it.receiver.recovered).sum(),
            repair_bytes: parts.repairer.stats().fetched().0,
            player_bytes: http.routes.iter().map(|it| it.bytes.load(Relaxed)).sum(),
            hits: hit + stale + revalidated + in_flight,
            misses: miss,
            flash_bytes: parts.shared.store.usage().written_bytes,
        }
    }

    fn since(&self, before: &Self, took_ms: u64, at_ms: i64, connections: u64) -> Sample {
        let grown = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        let bps = |bytes: u64| bytes * 8000 / took_ms;
        Sample {
            at_ms,
            receive_bps: bps(grown(|it| it.received_bytes)),
            packets: grown(|it| it.packets),
            lost: grown(|it| it.lost),
            recovered: grown(|it| it.recovered),
            repair_bps: bps(grown(|it| it.repair_bytes)),
            players_bps: bps(grown(|it| it.player_bytes)),
            connections,
            hits: grown(|it| it.hits),
            misses: grown(|it| it.misses),
            flash_bps: bps(grown(|it| it.flash_bytes)),
        }
    }
}

/// What changes slowly.
fn state(parts: &Parts, name: &str, uptime_s: u64) -> Value {
    let Parts { shared, board, repairer, .. } = parts;
    let usage = shared.store.usage();
    let counters = Counters::of(parts);
    let asked = counters.hits + counters.misses;
    let hit_ratio = (asked > 0).then(|| counters.hits as f64 / asked as f64);
    let groups = board.groups();
    let arriving = shared.flights.list();
    let (repair_bytes, repair_requests) = repairer.stats().fetched();
    let signal = shared.transport.all().into_iter().map(|(from, it)| {
        let signal = it.signal.unwrap_or_default();
        json!({
            "name": from, "locked": it.signal.map(|it| it.locked), "strength_dbm": signal.strength_dbm,
            "strength_ratio": signal.strength_percent.map(|it| it / 100.0), "snr_db": signal.snr_db,
            "packets": it.packets, "continuity_errors": it.continuity_errors, "error": it.error,
        })
    });
    json!({
        "name": name, "version": env!("CARGO_PKG_VERSION"), "uptime_s": uptime_s,
        "cache": {
            "objects": usage.objects, "bytes": usage.bytes, "quota_bytes": usage.quota_bytes,
            "memory_bytes": usage.memory_bytes, "memory_quota_bytes": usage.memory_quota_bytes,
            "hit_ratio": hit_ratio, "in_flight": arriving.len(),
        },
        "flash": {
            "written_today_bytes": usage.wear.today_bytes, "budget_bytes": Some(usage.wear.budget_bytes).filter(|&bytes| bytes > 0),
            "life_years": usage.wear.life_days.map(|days| (days / 36.525).round() / 10.0),
        },
        "receive": {
            "groups": groups.len(), "sessions": shared.stats.sessions().len(),
            "objects": shared.received.load(Relaxed),
            "failing": groups.iter().filter_map(|it| it.error.clone()).collect::<Vec<_>>(),
        },
        "repair": {
            "requests": repair_requests, "bytes": repair_bytes, "objects": shared.repaired.load(Relaxed),
        },
        "signal": signal.collect::<Vec<_>>(),
        "arriving": arriving.iter().take(MAX_ARRIVING).map(|it| {
            json!({ "name": it.key.as_str(), "received_bytes": it.received_bytes(), "length": it.length })
        }).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_bounded_and_counted() {
        let live = Arc::new(Live::default());
        let viewers: Vec<Viewer> = (0..MAX_VIEWERS).filter_map(|_| live.join()).collect();
        assert_eq!(viewers.len(), MAX_VIEWERS);
        assert!(live.join().is_none());
        assert_eq!(live.viewers(), (MAX_VIEWERS, 1));
        drop(viewers);
        assert!(live.join().is_some());
        assert_eq!(live.viewers().0, 0);
    }

    #[test]
    fn a_second_is_the_difference_of_counters() {
        let before = Counters { received_bytes: 1000, lost: 5, ..Counters::default() };
        let now = Counters { received_bytes: 3000, lost: 4, hits: 2, ..Counters::default() };
        let sample = now.since(&before, 2000, 7, 3);
        // A session that has ended takes its losses with it: no second has less than none.
        assert_eq!((sample.receive_bps, sample.lost, sample.hits, sample.connections), (8000, 0, 2, 3));
    }

    #[tokio::test]
    async fn a_viewer_that_is_too_slow_begins_anew() {
        let live = Arc::new(Live::default());
        let viewer = live.join().unwrap();
        for _ in 0..EVENTS * 3 {
            live.tell(|| event("sample", &json!({})));
        }
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let task = tokio::spawn(viewer.watch(sender));
        for _ in 0..2 {
            let bytes = receiver.recv().await.unwrap().unwrap();
            assert!(bytes.starts_with(b"retry:"), "{bytes:?}");
        }
        assert!(receiver.recv().await.unwrap().unwrap().starts_with(b"event: sample\n"));
        drop(receiver);
        live.tell(|| event("sample", &json!({})));
        task.await.unwrap();
        assert_eq!(live.viewers().0, 0);
    }
}
