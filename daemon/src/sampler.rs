//! Sampling for the page's charts: the difference of all counters once a second, and the state every five.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use crate::catalog::Catalog;
use crate::clock;
use crate::live_services::{LiveChange, LiveState};
use crate::page::Live;
use crate::status::Parts;

/// Interval at which the state is published.
const STATE_INTERVAL_S: u64 = 5;
/// Objects in flight that the state lists, as many as the page can show. It also has their number.
const MAX_ARRIVING: usize = 20;

/// Counters of one second.
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

/// Counters at one instant.
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

/// Publishes a sample every second, and the state every [`STATE_INTERVAL_S`], until the runtime ends.
pub(crate) async fn run(live: Arc<Live>, parts: Arc<Parts>, catalog: Arc<Catalog>, name: String) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let started = clock::now();
    let (mut before, mut before_ms, mut version) = (Counters::of(&parts), clock::wall().unix_ms(), 0);
    for second in 0_u64.. {
        interval.tick().await;
        let (now, now_ms) = (Counters::of(&parts), clock::wall().unix_ms());
        let elapsed_ms = u64::try_from(now_ms - before_ms).unwrap_or(0).max(1);
        if second > 0 {
            let sample = now.since(&before, elapsed_ms, now_ms, parts.server.open_connections());
            live.publish_sample(&json!(sample));
        }
        (before, before_ms) = (now, now_ms);
        if second % STATE_INTERVAL_S == 0 {
            let uptime_s = clock::now().since(started).as_secs();
            live.publish_state(state(&parts, &name, uptime_s));
        }
        log_live_services(&parts);
        let current = catalog.current();
        if current.version != version {
            version = current.version;
            live.publish_titles(version);
            parts.server.manifests().services().set_order(current.channel_manifests());
        }
    }
}

/// Log line of a change to any state.
const RECEPTION_CHANGED: &str = "the reception of a live service has changed";

/// Evaluates the reception of live services, and logs each whose state has changed.
fn log_live_services(parts: &Parts) {
    let manifests = parts.server.manifests();
    let announced = manifests.services().all();
    let is_announced = |name: &str| announced.iter().any(|it| it.id == name);
    for LiveChange { service, from, to } in
        manifests.live().handle_timeout(clock::now(), manifests.joined_at(), is_announced)
    {
        match to {
            LiveState::Stalled => tracing::warn!(service, %from, %to, "{RECEPTION_CHANGED}"),
            _ => tracing::info!(service, %from, %to, "{RECEPTION_CHANGED}"),
        }
    }
}

impl Counters {
    fn of(parts: &Parts) -> Self {
        let losses = parts.receive.losses();
        let http = parts.server.stats();
        let served = |which: usize| http.routes.iter().map(|it| it.served[which].load(Relaxed)).sum::<u64>();
        let [hit, stale, revalidated, in_flight, miss, _] = [0, 1, 2, 3, 4, 5].map(served);
        Self {
            received_bytes: losses.bytes,
            packets: losses.datagrams,
            lost: parts.receive.lost() + losses.kernel_drops,
            recovered: parts.receive.recovered().0,
            repair_bytes: parts.repairer.stats().fetched().0,
            player_bytes: http.routes.iter().map(|it| it.bytes.load(Relaxed)).sum(),
            hits: hit + stale + revalidated + in_flight,
            misses: miss,
            flash_bytes: parts.store.usage().written_bytes,
        }
    }

    fn since(&self, before: &Self, elapsed_ms: u64, at_ms: i64, connections: u64) -> Sample {
        let grown = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        let bps = |bytes: u64| bytes * 8000 / elapsed_ms;
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

/// Values that change slowly.
fn state(parts: &Parts, name: &str, uptime_s: u64) -> Value {
    let Parts { store, flights, receive, transport, groups, repairer, .. } = parts;
    let usage = store.usage();
    let counters = Counters::of(parts);
    let requests = counters.hits + counters.misses;
    let hit_ratio = (requests > 0).then(|| counters.hits as f64 / requests as f64);
    let groups = groups.all();
    let arriving = flights.list();
    let (repair_bytes, repair_requests) = repairer.stats().fetched();
    let signal = transport.all().into_iter().map(|(from, it)| {
        let signal = it.signal.unwrap_or_default();
        json!({
            "name": from, "locked": it.signal.map(|it| it.locked), "strength_dbm": signal.strength_dbm,
            "strength_ratio": signal.strength_percent.map(|it| it / 100.0), "snr_db": signal.snr_db,
            "packets": it.packets, "continuity_errors": it.continuity_errors, "error": it.error,
        })
    });
    json!({
        "name": name, "version": env!("CARGO_PKG_VERSION"), "uptime_s": uptime_s,
        "messages": parts.commands.messages(clock::trusted_wall()),
        "cache": {
            "objects": usage.objects, "bytes": usage.bytes, "quota_bytes": usage.quota_bytes,
            "memory_bytes": usage.memory_bytes, "memory_quota_bytes": usage.memory_quota_bytes,
            "hit_ratio": hit_ratio, "in_flight": arriving.len(), "disk": usage.disk.as_str(),
        },
        "flash": {
            "written_today_bytes": usage.wear.today_bytes, "budget_bytes": Some(usage.wear.budget_bytes).filter(|&bytes| bytes > 0),
            "life_years": usage.wear.life_days.map(|days| (days / 36.525).round() / 10.0),
        },
        "receive": {
            "groups": groups.iter().filter(|it| it.is_wanted).count(), "sessions": receive.sessions().len(),
            "objects": receive.objects().0,
            "failing": groups.iter().filter_map(|it| it.error.clone()).collect::<Vec<_>>(),
        },
        "repair": {
            "requests": repair_requests, "bytes": repair_bytes, "objects": receive.objects().1,
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
    fn a_second_is_the_difference_of_counters() {
        let before = Counters { received_bytes: 1000, lost: 5, ..Counters::default() };
        let now = Counters { received_bytes: 3000, lost: 4, hits: 2, ..Counters::default() };
        let sample = now.since(&before, 2000, 7, 3);
        // A session that has ended takes its losses with it: no second has less than none.
        assert_eq!((sample.receive_bps, sample.lost, sample.hits, sample.connections), (8000, 0, 2, 3));
    }
}
