//! Live data for the page: a ring of samples for its charts, and a stream of events to each viewer.
//!
//! One task publishes (`sampler.rs`); the viewers' streams only wait for it, so nothing here delays a packet or a hit.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::clients::Places;

/// Samples kept: ten minutes.
const SAMPLES: usize = 600;
/// Events queued for a slow viewer; one that falls further behind starts again from the history.
const EVENTS: usize = 16;

carousel::limits! {
    /// Concurrent viewers of the page's live data.
    pub const MAX_VIEWERS: usize = 64, "viewers" {
        why: "A household has a few, a NOC a wall of them. One address gets at most three quarters of the places.",
        full: "Further viewers are refused with 503 and counted by `skycache_page_viewers_refused_total`.",
        free: "When a viewer leaves.",
        test: "viewers_are_bounded_and_counted",
    }
}

/// Samples, state and viewers.
#[derive(Debug)]
pub struct Live {
    samples: Mutex<VecDeque<String>>,
    state: Mutex<Value>,
    /// `None` when the daemon ends.
    events: Mutex<Option<broadcast::Sender<Bytes>>>,
    viewers: Places,
    /// Viewers refused because there were [`MAX_VIEWERS`].
    refused: AtomicUsize,
}

/// One viewer, counted until dropped.
#[derive(Debug)]
pub struct Viewer {
    live: Arc<Live>,
    address: IpAddr,
    events: broadcast::Receiver<Bytes>,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.live.viewers.give_back(self.address);
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
            viewers: Places::new(MAX_VIEWERS),
            refused: AtomicUsize::new(0),
        }
    }
}

impl Live {
    /// Adds a viewer; `None` if there is no place for its address or the daemon is stopping.
    pub fn join(self: &Arc<Self>, address: IpAddr) -> Option<Viewer> {
        let events = self.events().as_ref()?.subscribe();
        if !self.viewers.take(address) {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Viewer { events, address, live: Arc::clone(self) })
    }

    /// Current viewers, and viewers refused so far.
    pub fn viewers(&self) -> (usize, usize) {
        (self.viewers.taken_now(), self.refused.load(Relaxed))
    }

    /// Ends every viewer's stream and refuses new ones.
    pub fn close(&self) {
        *self.events() = None;
    }

    fn events(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Bytes>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Value> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// First bytes of a stream: reconnection time, history, state.
    fn preamble(&self) -> Bytes {
        let samples: Vec<String> = self.samples().iter().cloned().collect();
        let mut all = b"retry: 2000\n\n".to_vec();
        let history = format!("event: history\ndata: {{\"samples\":[{}]}}\n\n", samples.join(","));
        all.extend_from_slice(history.as_bytes());
        let state = self.state().clone();
        if !state.is_null() {
            all.extend_from_slice(&event("state", &state));
        }
        all.into()
    }

    /// Samples after a time, oldest first, and the state that was published last.
    pub fn since(&self, since_ms: i64) -> (Vec<Value>, Value) {
        let is_later = |it: &Value| it["at_ms"].as_i64().is_some_and(|at_ms| at_ms > since_ms);
        let newest_first = {
            let samples = self.samples();
            let parsed = samples.iter().rev().filter_map(|it| serde_json::from_str::<Value>(it).ok());
            parsed.take_while(is_later).collect::<Vec<_>>()
        };
        (newest_first.into_iter().rev().collect(), self.state().clone())
    }

    /// Adds a sample to the history and sends it to all viewers.
    pub fn publish_sample(&self, sample: &Value) {
        let mut samples = self.samples();
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample.to_string());
        // Only now: a viewer that joins in between gets the sample twice rather than not at all.
        drop(samples);
        self.send(|| event("sample", sample));
    }

    /// Replaces the state and sends it to all viewers.
    pub fn publish_state(&self, state: Value) {
        let event = event("state", &state);
        *self.state() = state;
        self.send(|| event);
    }

    /// Informs all viewers that the catalogue has changed.
    pub fn publish_titles(&self, version: u64) {
        self.send(|| event("titles", &json!({ "version": version })));
    }

    /// Sends an event to all viewers; without any, none is made.
    fn send(&self, event: impl FnOnce() -> Bytes) {
        let events = self.events();
        if let Some(events) = events.as_ref().filter(|it| it.receiver_count() > 0) {
            // The last viewer may have left since.
            let _ = events.send(event());
        }
    }
}

impl Viewer {
    /// Sends everything to `sender` until the viewer disconnects.
    pub async fn watch(mut self, sender: tokio::sync::mpsc::Sender<std::io::Result<Bytes>>) {
        let mut next = Some(self.live.preamble());
        loop {
            let bytes = match next.take() {
                Some(bytes) => bytes,
                None => match self.events.recv().await {
                    Ok(bytes) => bytes,
                    Err(RecvError::Lagged(_)) => self.live.preamble(),
                    Err(RecvError::Closed) => return,
                },
            };
            if sender.send(Ok(bytes)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_bounded_and_counted() {
        let live = Arc::new(Live::default());
        let at = |last: usize| IpAddr::from([10, 0, 0, u8::try_from(last).unwrap()]);
        // One address leaves places for others.
        let viewers: Vec<Viewer> = (0..MAX_VIEWERS).filter_map(|_| live.join(at(0))).collect();
        assert_eq!((viewers.len(), live.viewers().1), (MAX_VIEWERS * 3 / 4, MAX_VIEWERS / 4));
        let others: Vec<Viewer> = (1..=MAX_VIEWERS / 4).filter_map(|last| live.join(at(last))).collect();
        assert_eq!(others.len(), MAX_VIEWERS / 4);
        assert!(live.join(at(99)).is_none());
        drop((viewers, others));
        assert!(live.join(at(0)).is_some());
        assert_eq!(live.viewers().0, 0);
    }

    #[test]
    fn the_history_holds_the_newest_samples() {
        let live = Live::default();
        for second in 0..=SAMPLES {
            live.publish_sample(&json!({ "at_ms": second }));
        }
        live.publish_state(json!({ "name": "box" }));
        let text = String::from_utf8(live.preamble().to_vec()).unwrap();
        let events: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(
            (events[0], events[2], events.len()),
            ("retry: 2000", "event: state\ndata: {\"name\":\"box\"}", 4)
        );
        let history: Value =
            serde_json::from_str(events[1].strip_prefix("event: history\ndata: ").unwrap()).unwrap();
        let samples = history["samples"].as_array().unwrap();
        assert_eq!((samples.len(), &samples[0]["at_ms"]), (SAMPLES, &json!(1)));
        let (newest, state) = live.since(SAMPLES as i64 - 2);
        assert_eq!(
            (newest, &state["name"]),
            (vec![json!({ "at_ms": SAMPLES - 1 }), json!({ "at_ms": SAMPLES })], &json!("box"))
        );
    }

    #[tokio::test]
    async fn a_viewer_that_is_too_slow_starts_again_from_the_history() {
        let live = Arc::new(Live::default());
        let viewer = live.join(IpAddr::from([10, 0, 0, 1])).unwrap();
        for _ in 0..EVENTS * 3 {
            live.send(|| event("sample", &json!({})));
        }
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let task = tokio::spawn(viewer.watch(sender));
        for _ in 0..2 {
            let bytes = receiver.recv().await.unwrap().unwrap();
            assert!(bytes.starts_with(b"retry:"), "{bytes:?}");
        }
        assert!(receiver.recv().await.unwrap().unwrap().starts_with(b"event: sample\n"));
        drop(receiver);
        live.send(|| event("sample", &json!({})));
        task.await.unwrap();
        assert_eq!(live.viewers().0, 0);
    }
}
