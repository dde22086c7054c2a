//! What `status`, `ls` and `replay` say, as JSON: one place for the names of members.

use carousel::flute::{DropReason, SessionKey};
use serde_json::{Map, Value, json};

use crate::flight::{Flight, Flights};
use crate::receive::{SessionStats, Shared};
use crate::store::{EvictReason, StoredObject};

/// One object of the cache.
pub fn object_json(object: &StoredObject) -> Value {
    let meta = object.meta();
    json!({
        "key": meta.key.as_str(), "uri": meta.uri, "length": meta.length, "sha256": meta.digest.to_hex(),
        "content_type": meta.content_type, "version": meta.version, "received_at": meta.received_at.to_xml(),
        "came_by": meta.came_by.as_str(), "expires": meta.expires.map(carousel::time::WallTime::to_xml),
    })
}

/// One object on its way.
pub fn flight_json(flight: &Flight) -> Value {
    json!({
        "key": flight.key.as_str(), "length": flight.length, "received_bytes": flight.received_bytes(),
        "from": if flight.symbols().is_some() { "carousel" } else { "origin" },
    })
}

/// One session.
pub fn session_json((key, stats): &(SessionKey, SessionStats)) -> Value {
    let receiver = &stats.receiver;
    let dropped: Map<String, Value> = DropReason::ALL
        .iter()
        .zip(receiver.dropped)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "source": key.source.to_string(), "group": key.destination.ip().to_string(), "port": key.destination.port(),
        "tsi": key.tsi.0, "packets": receiver.packets, "bytes": receiver.bytes, "lost": receiver.lost,
        "stored": receiver.stored, "in_flight": stats.in_flight, "described": stats.described, "dropped": dropped,
    })
}

/// The whole state.
pub fn status_json(shared: &Shared, flights: &Flights) -> Value {
    use std::sync::atomic::Ordering::Relaxed;
    let (usage, losses) = (shared.store.usage(), shared.stats.losses());
    let evicted: Map<String, Value> = EvictReason::ALL
        .iter()
        .zip(usage.evicted)
        .map(|(reason, count)| (reason.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "schema": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "store": {
            "path": shared.store.path().display().to_string(), "objects": usage.objects, "bytes": usage.bytes,
            "partial_bytes": usage.partial_bytes, "quota_bytes": usage.quota_bytes, "written_bytes": usage.written_bytes,
            "evicted": evicted,
        },
        "receive": {
            "datagrams": losses.datagrams, "bytes": losses.bytes, "lost": shared.stats.lost(),
            "kernel_drops": losses.kernel_drops, "not_alc": losses.not_alc, "finisher_full": losses.finisher_full,
            "objects": shared.received.load(Relaxed), "objects_repaired": shared.repaired.load(Relaxed),
            "sessions": shared.stats.sessions().iter().map(session_json).collect::<Vec<_>>(),
        },
        "in_flight": flights.list().len(),
        "announced": flights.announced_count(),
    })
}
