//! JSON of `status`, `ls` and `replay`: one place for the names of members.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use carousel::flute::{DropReason, SessionKey};
use carousel::reason::Counts;
use carousel::route::lls::{ListReport, ServiceDrop};
use carousel::time::WallTime;
use carousel::trust::{Trust, TrustDrop, TrustReport};
use serde_json::{Map, Value, json};

use crate::admin_refusals::AdminRefusal;
use crate::caching::NotKept;
use crate::catalog::LeftOut;
use crate::certificates::Certificates;
use crate::clock;
use crate::commands::Commands;
use crate::delivery::{
    Flight, Flights, GoneReason, ObjectCounters, RejectReason, RepairOutcome, SessionStats, State,
};
use crate::firmware::Updates;
use crate::http::HttpServer;
use crate::kafka::KafkaStats;
use crate::memory::MemoryBudgets;
use crate::origin::{Client, GroupReport};
use crate::receive::ReceiveStats;
use crate::repair::Repairer;
use crate::services::Membership;
use crate::session::{AtscState, GroupStates, JoinRefusal};
use crate::store::{EvictReason, Store, StoredObject};
use crate::traces::TraceStats;
use crate::transport::TransportStats;
use crate::vitals::Vitals;

/// Sources of status and metrics.
#[derive(Debug)]
pub struct Parts {
    /// The cache.
    pub store: Store,
    /// Objects in flight.
    pub flights: Arc<Flights>,
    /// Counters of reception.
    pub receive: Arc<ReceiveStats>,
    /// Memory budgets of what is received.
    pub memory: MemoryBudgets,
    /// State of the transport streams.
    pub transport: Arc<TransportStats>,
    /// Signs of life of the threads.
    pub vitals: Arc<Vitals>,
    /// Keys, and the memory of versions.
    pub trust: Arc<Trust>,
    /// Commands from the carousel.
    pub commands: Arc<Commands>,
    /// Firmware updates that are offered.
    pub updates: Arc<Updates>,
    /// Groups.
    pub groups: Arc<GroupStates>,
    /// Repair counters.
    pub repairer: Arc<Repairer>,
    /// Origin counters.
    pub client: Arc<Client>,
    /// Counters of HTTP.
    pub server: Arc<HttpServer>,
    /// Requests at the admin interface that were refused.
    pub admin: Counts<AdminRefusal>,
    /// Counters of Kafka.
    pub kafka: Arc<KafkaStats>,
    /// Traces.
    pub traces: Arc<TraceStats>,
    /// Certificates of the listeners.
    pub certificates: Arc<Certificates>,
}

/// Counters by the name of their reason, those that are 0 left out.
fn counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Map<String, Value> {
    counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), json!(count))).collect()
}

/// One group of parents.
fn parents_json(group: &GroupReport) -> Value {
    let members = group
        .members
        .iter()
        .map(|it| json!({ "url": it.url, "up": it.is_up, "requests": it.requests, "failures": it.failures }));
    json!({
        "name": group.name, "enabled": group.is_enabled, "hedged": group.hedged, "failed_over": group.failed_over,
        "patience_ms": group.patience_ms, "members": members.collect::<Vec<_>>(),
    })
}

/// One object of the cache.
pub fn object_json(object: &StoredObject) -> Value {
    let meta = object.meta();
    json!({
        "key": meta.key.as_str(), "uri": meta.uri.text(&meta.key), "length": meta.length, "sha256": meta.digest.to_hex(),
        "content_type": meta.content_type, "version": meta.version, "received_at": meta.received_at.to_xml(),
        "tier": object.tier().as_str(), "class": meta.class.as_str(), "uses": object.uses(),
        "came_by": meta.came_by.as_str(), "expires": meta.expires.map(WallTime::to_xml), "signed_by": meta.signed_by.as_deref(),
    })
}

/// One object in flight.
pub fn flight_json(flight: &Flight) -> Value {
    json!({
        "key": flight.key.as_str(), "length": flight.length, "received_bytes": flight.received_bytes(),
        "from": if flight.is_carried() { "carousel" } else { "origin" },
    })
}

/// One session.
pub fn session_json((key, stats): &(SessionKey, SessionStats)) -> Value {
    let receiver = &stats.receiver;
    let dropped = counts(DropReason::ALL.iter().map(|it| it.as_str()).zip(receiver.dropped));
    if let Some(channel) = &stats.route {
        return json!({
            "source": key.source.to_string(), "group": key.destination.ip().to_string(), "port": key.destination.port(),
            "tsi": key.tsi.0, "protocol": "ROUTE", "packets": channel.packets, "bytes": channel.bytes,
            "in_flight": channel.open, "complete": channel.complete, "end_guessed": channel.guessed,
            "failed": channel.failed, "template": channel.template, "representation": channel.representation,
            "protects": channel.protects, "lost": 0,
        });
    }
    json!({
        "source": key.source.to_string(), "group": key.destination.ip().to_string(), "port": key.destination.port(),
        "tsi": key.tsi.0, "protocol": "FLUTE", "packets": receiver.packets, "bytes": receiver.bytes, "lost": receiver.lost,
        "stored": receiver.stored, "fdt": receiver.fdt, "control": receiver.control, "early": receiver.early, "recovered": receiver.recovered, "recovery_failed": receiver.recovery_failed,
        "in_flight": stats.in_flight, "described": stats.described, "dropped": dropped,
    })
}

/// Complete objects and blocks for which the queue of finishing was full.
pub fn queue_full(objects: &ObjectCounters) -> u64 {
    objects.rejected[RejectReason::QueueFull as usize] + objects.blocks_refused
}

/// Counters of objects.
fn delivery_json(objects: &ObjectCounters) -> Value {
    json!({
        "entered": objects.entered, "held": objects.held,
        "gone": counts(GoneReason::ALL.iter().map(|it| it.as_str()).zip(objects.gone)),
        "now": counts(State::ALL.iter().map(|it| it.as_str()).zip(objects.now)),
        "rejected": counts(RejectReason::ALL.iter().map(|it| it.as_str()).zip(objects.rejected)),
        "sessions_expired": objects.sessions_expired,
    })
}

/// Documents refused, by reason; packets of protocols without signatures are counted by reception.
pub const fn untrusted(report: &TrustReport, unsigned_protocol: u64) -> [u64; TrustDrop::ALL.len()] {
    let mut refused = report.refused;
    refused[TrustDrop::Protocol as usize] += unsigned_protocol;
    refused
}

/// Signers of received objects, and counters of refusals.
pub fn trust_json(trust: &Trust, unsigned_protocol: u64) -> Value {
    let report = trust.report();
    let time = |seconds: u64| {
        let ms = i64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        (seconds > 0).then(|| WallTime::from_unix_ms(ms).to_xml())
    };
    let keys = report.anchors.iter().map(|it| {
        let streams = it.streams.iter().map(|stream| {
            json!({ "name": stream.name, "version": stream.version, "key": stream.key.map(|it| it.to_string()) })
        });
        json!({
            "id": it.key.id().to_string(), "key": it.key.to_string(), "state": it.state.as_str(),
            "latest": time(it.latest), "revoked": it.revoked.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "streams": streams.collect::<Vec<_>>(),
        })
    });
    json!({
        "mode": report.mode.as_str(), "enrol": report.enrol, "accepted": report.accepted,
        "refused": counts(TrustDrop::ALL.iter().map(|it| it.as_str()).zip(untrusted(&report, unsigned_protocol))),
        "keys": keys.collect::<Vec<_>>(),
    })
}

/// The services, in the order of the list of channels.
fn services_json(groups: &GroupStates) -> Vec<Value> {
    let services = groups.services().into_iter().map(|it| {
        json!({
            "id": it.id, "join": it.join.as_str(), "joined": it.membership == Membership::Joined,
            "refused": it.refusal.map(JoinRefusal::as_str), "rate_bps": it.rate_bps,
        })
    });
    services.collect()
}

/// Reception of live services.
fn live_json(server: &HttpServer) -> Vec<Value> {
    let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    let reports = server.manifests().live_reports().into_iter().map(|it| {
        let counts = it.counts;
        json!({
            "service": it.service, "state": it.state.as_str(), "since_ms": ms(it.since), "target_ms": it.target_ms,
            "segment_age_ms": it.segment_age.map(ms), "latency_ms": it.latency_ms, "dated": it.is_dated,
            "segments": counts.segments, "from_origin": counts.from_origin, "listed_early": counts.listed_early,
            "listed_early_ms": counts.listed_early_ms, "deadline_misses": counts.deadline_misses,
            "repaired": counts.repaired,
        })
    });
    reports.collect()
}

/// ATSC service lists.
pub fn atsc_json(lists: &[ListReport]) -> Vec<Value> {
    let lists = lists.iter().map(|it| {
        let services = it.services.iter().map(|it| {
            let service = &it.service;
            let channel = service.channel.map(|(major, minor)| format!("{major}.{minor}"));
            json!({
                "id": it.id, "name": service.name, "channel": channel, "protocol": service.protocol.as_str(),
                "manifest": it.manifest, "groups": it.groups.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "left_out": it.dropped.map(ServiceDrop::as_str),
            })
        });
        json!({
            "source": it.source.to_string(), "group": it.group.to_string(), "bsid": it.bsid, "version": it.version,
            "services": services.collect::<Vec<_>>(),
        })
    });
    lists.collect()
}

/// Low-level signalling of ATSC.
fn lls_json(atsc: &AtscState) -> Value {
    let times = atsc.times.iter().map(|(source, time)| {
        json!({
            "source": source.to_string(), "utc_offset_s": time.utc_offset_s, "local_offset": time.local_offset,
            "leap_59": time.is_leap_59, "leap_61": time.is_leap_61,
        })
    });
    json!({
        "tables": atsc.tables,
        "left_out": counts(ServiceDrop::ALL.iter().map(|it| it.as_str()).zip(atsc.left_out)),
        "times": times.collect::<Vec<_>>(), "lists": atsc_json(&atsc.lists),
    })
}

/// Signs of life.
fn threads_json(vitals: &Vitals) -> Vec<Value> {
    vitals
        .threads(clock::now())
        .iter()
        .map(|it| {
            json!({
                "name": it.name, "silent_ms": u64::try_from(it.silent_for.as_millis()).unwrap_or(u64::MAX),
                "panics": it.panics, "stalled": it.is_stalled,
            })
        })
        .collect()
}

fn groups_json(groups: &GroupStates) -> Vec<Value> {
    groups
        .all()
        .iter()
        .map(|it| {
            json!({
                "group": it.group.address.ip().to_string(), "port": it.group.address.port(),
                "source": it.group.source.map(|it| it.to_string()), "interface": it.group.interface,
                "why": it.why, "joined": it.is_wanted && it.error.is_none(), "error": it.error,
            })
        })
        .collect()
}

/// The whole state.
pub fn status_json(parts: &Parts) -> Value {
    let Parts { store, flights, receive, transport, trust, groups, repairer, client, server, vitals, .. } =
        parts;
    let (usage, totals) = (store.usage(), receive.totals());
    let (losses, packets) = (totals.losses, &totals.packets);
    let (objects, objects_repaired) = receive.objects();
    let (commands_waiting, commands_remembered) = parts.commands.counts();
    let (failed, refused) = flights.failures();
    let [requests, origin_bytes] = client.counts();
    let (repair_bytes, repair_requests) = repairer.stats().fetched();
    let http = server.stats();
    let (remembered_purges, forgotten_purges) = store.remembered_purges();
    let catalog = server.catalog().current();
    let left_out = counts(LeftOut::ALL.iter().map(|it| it.as_str()).zip(catalog.left_out));
    json!({
        "schema": 1, "threads": threads_json(vitals),
        "version": env!("CARGO_PKG_VERSION"), "draining": server.is_draining(),
        "store": {
            "path": store.path().display().to_string(), "objects": usage.objects, "bytes": usage.bytes,
            "partial_bytes": usage.partial_bytes, "quota_bytes": usage.quota_bytes, "written_bytes": usage.written_bytes,
            "memory_bytes": usage.memory_bytes, "memory_quota_bytes": usage.memory_quota_bytes, "promoted": usage.promoted,
            "unverified": usage.unverified, "disk": usage.disk.as_str(),
            "flash": {
                "today_bytes": usage.wear.today_bytes, "budget_bytes_per_day": usage.wear.budget_bytes,
                "total_bytes": usage.wear.total_bytes, "life_days": usage.wear.life_days.map(f64::round),
            },
            "evicted": counts(EvictReason::ALL.iter().map(|it| it.as_str()).zip(usage.evicted)),
            "purges": {
                "remembered": remembered_purges, "forgotten": forgotten_purges, "since_start": counts(store.purges()),
            },
        },
        "memory": {
            "received_bytes": parts.memory.received_bytes,
            "budgets": counts(parts.memory.named().into_iter()),
        },
        "receive": {
            "groups": groups_json(groups),
            "datagrams": losses.datagrams, "bytes": losses.bytes, "lost": packets.lost,
            "packets": packets.packets, "stored": packets.stored, "fdt": packets.fdt, "control": packets.control,
            "early": packets.early, "dropped": counts(DropReason::ALL.iter().map(|it| (it.as_str(), packets.dropped(*it)))),
            "kernel_drops": losses.kernel_drops, "not_alc": losses.not_alc, "other_tsi": losses.other_tsi, "other_group": losses.other_group,
            "memory_bytes": totals.memory_bytes, "memory_limit_bytes": parts.memory.sessions_bytes,
            "too_many_sessions": totals.objects.sessions_displaced, "finisher_full": queue_full(&totals.objects),
            "delivery": delivery_json(&totals.objects),
            "objects": objects, "objects_repaired": objects_repaired,
            "sessions": receive.sessions().iter().map(session_json).collect::<Vec<_>>(),
            "transport_streams":
                transport.all().iter().map(|(from, it)| it.to_json(from)).collect::<Vec<_>>(),
        },
        "services": services_json(groups),
        "atsc": lls_json(&groups.atsc()),
        "certificates": parts.certificates.to_json(clock::trusted_wall()),
        "live": live_json(server),
        "trust": trust_json(trust, losses.unsigned_protocol),
        "commands": {
            "groups": parts.commands.options().groups, "waiting": commands_waiting, "remembered": commands_remembered,
            "outcomes": counts(parts.commands.outcomes().labelled()),
            "messages": parts.commands.messages(clock::trusted_wall()),
        },
        "firmware": parts.updates.to_json(),
        "flights": {
            "now": flights.list().iter().map(|it| flight_json(it)).collect::<Vec<_>>(),
            "announced": flights.announced_count(), "refused": refused,
            "failed": counts(failed.labelled()),
        },
        "repair": {
            "bytes": repair_bytes, "requests": repair_requests,
            "outcomes": counts(RepairOutcome::ALL.iter().map(|it| it.as_str()).zip(totals.objects.repairs)),
        },
        "origin": {
            "requests": requests, "bytes": origin_bytes,
            "open_circuits": client.open_circuits(), "failures": counts(client.failures().labelled()),
            "not_kept": counts(NotKept::ALL.iter().map(|it| it.as_str()).zip(server.filler().not_kept())),
            "waiting": server.filler().places_taken(), "no_place": counts(server.filler().no_place().labelled()),
            "parents": client.parents_report().iter().map(parents_json).collect::<Vec<_>>(),
        },
        "catalog": {
            "lists": catalog.lists.len(), "titles": catalog.titles.len(), "guide_entries": catalog.guide.events(),
            "left_out": left_out, "messages": catalog.messages,
        },
        "http": {
            "connections": http.connections.load(Relaxed), "connections_refused": http.refused.load(Relaxed),
            "hits": http.hits(), "connections_open": server.open_connections(), "too_slow": http.too_slow.load(Relaxed),
            "sent_to_cdn": counts(server.sent_to_cdn_counts().labelled()),
            "responses": counts(["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(http.responses.iter().map(|it| it.load(Relaxed)))),
        },
    })
}
