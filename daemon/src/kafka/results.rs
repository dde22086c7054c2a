//! Results of purges: a small queue in memory, and its sender. A result that cannot be sent for a long time is dropped and
//! counted; its purge is done.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use skycache_kafka::Link;
use tokio::sync::mpsc;

use super::KafkaStats;
use super::around::record;

carousel::limits! {
    /// Results that wait for the broker.
    const MAX_RESULTS: usize = 4096, "results" {
        why: "Each takes some 300 bytes; purges come at most at 100 a second.",
        full: "The result is dropped, and counted; its purge is done.",
        free: "When the broker has taken one.",
        test: "results_that_nobody_takes_are_dropped_and_counted",
    }
}

/// Messages of one request.
const BATCH: usize = 256;

/// Queue into which results are handed.
#[derive(Debug, Clone)]
pub struct Results {
    sender: mpsc::Sender<(String, Vec<u8>)>,
    stats: Arc<KafkaStats>,
}

impl Results {
    /// A queue, and the work of sending what is in it.
    pub fn new(
        link: Link,
        stats: &Arc<KafkaStats>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static + use<>) {
        let (sender, results) = mpsc::channel(MAX_RESULTS);
        let results = send(link, results, Arc::clone(stats));
        (Self { sender, stats: Arc::clone(stats) }, results)
    }

    /// Hands in the result of a purge.
    pub fn offer(&self, id: &str, result: Vec<u8>) {
        if self.sender.try_send((id.to_owned(), result)).is_err() {
            self.stats.results_dropped.fetch_add(1, Relaxed);
        }
    }
}

async fn send(mut link: Link, mut results: mpsc::Receiver<(String, Vec<u8>)>, stats: Arc<KafkaStats>) {
    let mut batch = Vec::new();
    let mut number = 0;
    loop {
        batch.clear();
        let count = results.recv_many(&mut batch, BATCH).await;
        if count == 0 {
            return;
        }
        let message = |(id, value): &(String, Vec<u8>)| record(Some(id.clone().into_bytes()), value.clone());
        number += 1;
        loop {
            match link.produce(number, batch.iter().map(message).collect()).await {
                Ok(()) => break link.succeeded(),
                Err(error) => link.failed(&error).await,
            }
        }
        stats.results_sent.fetch_add(count as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Kafka, link};

    #[tokio::test]
    async fn results_that_nobody_takes_are_dropped_and_counted() {
        let stats = Arc::<KafkaStats>::default();
        let link = link(&Kafka::default(), "cdn-purge-results", &stats);
        let (results, _send) = Results::new(link, &stats);
        for _ in 0..MAX_RESULTS + 3 {
            results.offer("a", Vec::new());
        }
        assert_eq!(stats.results_dropped.load(Relaxed), 3);
    }
}
