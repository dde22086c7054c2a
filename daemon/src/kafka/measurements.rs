//! Sender of measurements: from the spool to the topic, in batches, at least once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use skycache_kafka::Link;
use skycache_kafka::link::Record;

use super::around::record;
use crate::qoe::{Batch, Qoe, QoeLoss};

/// Bytes and rows of one batch: brokers take a megabyte by default.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_ROWS: usize = 2000;
/// Interval of the search for rows that were not reported.
const LOOK: Duration = Duration::from_secs(1);

/// Sends what is in the spool, until the runtime ends.
pub async fn send(qoe: Arc<Qoe>, mut link: Link) {
    let mut most_bytes = BATCH_BYTES;
    let mut number = 0_u64;
    loop {
        let own = Arc::clone(&qoe);
        let next = tokio::task::spawn_blocking(move || own.spool().next(most_bytes, BATCH_ROWS)).await;
        let batch = match next {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) => {
                let _ = tokio::time::timeout(LOOK, qoe.added.notified()).await;
                continue;
            }
            failed => {
                if let Ok(Err(err)) = failed {
                    tracing::warn!(%err, "measurements of players cannot be read from the disk");
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        number += 1;
        match link.produce(number, records(&batch)).await {
            Ok(()) => {
                link.succeeded();
                qoe.stats.sent.fetch_add(batch.rows.len() as u64, Relaxed);
                qoe.spool().take(&batch);
                most_bytes = (most_bytes * 2).min(BATCH_BYTES);
            }
            Err(error) if error.is_too_large() => {
                if batch.rows.len() == 1 {
                    // A row that the broker never takes must not hold up the rest.
                    tracing::warn!("a measurement is larger than the broker takes: it is dropped");
                    qoe.stats.lost.add(QoeLoss::Refused);
                    qoe.spool().take(&batch);
                } else {
                    most_bytes = (most_bytes / 2).max(1);
                }
            }
            Err(error) => link.failed(&error).await,
        }
    }
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.rows.iter().map(|row| record(None, row.clone())).collect()
}
