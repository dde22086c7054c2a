//! `/metrics`: every counter under the standards' word for what it counts. Counters are read at each scrape.

mod health;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::caching::NotKept;
use crate::catalog::LeftOut;
use crate::clock;
use crate::delivery::{GoneReason, RejectReason, RepairOutcome, State, Totals};
use crate::firmware::Refusal as BundleRefusal;
use crate::http::{BUCKETS_US, HttpStats, MissCause, Refusal, Rewriting, RouteStats, Served};
use crate::kafka::KafkaStats;
use crate::live_services::{LiveReport, LiveState};
use crate::logs;
use crate::origin::{GroupReport, MemberReport, PrefetchEnd};
use crate::qoe::{Qoe, QoeStats};
use crate::services::Membership;
use crate::status::{Parts, queue_full, untrusted};
use crate::store::{DiskState, EvictReason, PageCacheReason};
use crate::traces::TraceStats;
use crate::transport::{Signal, StreamState};
use carousel::flute::DropReason;
use carousel::growing::End;
use carousel::route::lls::ServiceDrop;
use carousel::route::{RouteDrop, RouteFailure};
use carousel::trust::TrustDrop;

/// The registry of a daemon.
pub fn registry(parts: Arc<Parts>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(health::Process));
    registry.sub_registry_with_prefix("skycache").register_collector(Box::new(Scrape(parts)));
    registry
}

/// OpenMetrics text.
///
/// # Errors
/// Never in practice: writing to a string.
pub fn encode(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Arc<Parts>);

/// Name, help, and what gives the value.
type Named<T> = (&'static str, &'static str, T);
type CountOf = fn(&StreamState) -> u64;
type MeasureOf = fn(&Signal) -> Option<f64>;
type CountOfMember = fn(&MemberReport) -> u64;
type CountOfLive = fn(&LiveReport) -> u64;
type MeasureOfLive = fn(&LiveReport) -> Option<f64>;

/// Writes metrics one by one.
struct MetricWriter<'a>(DescriptorEncoder<'a>);

impl MetricWriter<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        metric.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    /// Writes counters and state of the groups of `[[parent]]` and their members.
    fn parents(&mut self, groups: &[GroupReport]) -> fmt::Result {
        let members =
            || groups.iter().flat_map(|group| group.members.iter().map(move |it| (&group.name, it)));
        let labels = |group: &'_ str, member: &'_ MemberReport| {
            [("group", group.to_owned()), ("parent", member.url.clone())]
        };
        let counters: [Named<CountOfMember>; 2] = [
            ("parent_requests", "Requests to parents", |it| it.requests),
            ("parent_failures", "Requests that parents did not answer, or with an error of theirs", |it| {
                it.failures
            }),
        ];
        for (name, help, of) in counters {
            let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (group, member) in members() {
                ConstCounter::new(of(member)).encode(family.encode_family(&labels(group, member))?)?;
            }
        }
        let help = "1 while the parent is asked: its health is looked at every few seconds";
        let mut family = self.0.encode_descriptor("parent_up", help, None, MetricType::Gauge)?;
        for (group, member) in members() {
            let up = ConstGauge::new(i64::from(member.is_up));
            up.encode(family.encode_family(&labels(group, member))?)?;
        }
        let by_group = |of: fn(&GroupReport) -> u64| groups.iter().map(move |it| (it.name.as_str(), of(it)));
        self.family(
            (
                "parent_hedged_requests",
                "Requests that a second parent got too, since the first was silent",
                "group",
            ),
            by_group(|it| it.hedged),
        )?;
        self.family(
            ("parent_failovers", "Requests that went on to another parent or the origin", "group"),
            by_group(|it| it.failed_over),
        )
    }

    /// A counter for each variant of an enum.
    fn gauges<'b>(
        &mut self,
        (name, help, label): (&str, &str, &str),
        values: impl Iterator<Item = (&'b str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (variant, value) in values {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[(label, variant)])?)?;
        }
        Ok(())
    }

    fn family<'b>(
        &mut self,
        (name, help, label): (&str, &str, &str),
        values: impl Iterator<Item = (&'b str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (variant, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&[(label, variant)])?)?;
        }
        Ok(())
    }
}

impl MetricWriter<'_> {
    /// Reception of each live service.
    fn live(&mut self, reports: &[LiveReport]) -> fmt::Result {
        let help = "1 for the state of a live service, 0 for the others";
        let mut family = self.0.encode_descriptor("live_service_state", help, None, MetricType::Gauge)?;
        for report in reports {
            for state in LiveState::ALL {
                let labels = [("service", report.service.as_str()), ("state", state.as_str())];
                ConstGauge::new(i64::from(state == report.state)).encode(family.encode_family(&labels)?)?;
            }
        }
        let measures: [Named<MeasureOfLive>; 2] = [
            (
                "live_segment_age_seconds",
                "Seconds since the newest segment of a live service came by the carousel",
                |it| Some(it.segment_age?.as_secs_f64()),
            ),
            (
                "live_latency_seconds",
                "Seconds from the end of the newest segment of a live service, by the dates of its manifests, to now",
                |it| Some(it.latency_ms? as f64 / 1000.0),
            ),
        ];
        for (name, help, value) in measures {
            let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for report in reports {
                if let Some(value) = value(report) {
                    let labels = [("service", report.service.as_str())];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let counters: [Named<CountOfLive>; 5] = [
            ("live_segments", "Segments of a live service that the carousel has brought", |it| {
                it.counts.segments
            }),
            (
                "live_from_origin_objects",
                "Manifests and segments of a live service that origins have brought",
                |it| it.counts.from_origin,
            ),
            (
                "live_listed_early_segments",
                "Segments of a live service that came after a playlist had listed them",
                |it| it.counts.listed_early,
            ),
            (
                "live_deadline_misses",
                "Segments of a live service that had not come a target duration after a playlist listed them",
                |it| it.counts.deadline_misses,
            ),
            (
                "live_repaired_segments",
                "Segments of a live service that came in time with parts from an origin",
                |it| it.counts.repaired,
            ),
        ];
        for (name, help, value) in counters {
            let by_service = reports.iter().map(|it| (it.service.as_str(), value(it)));
            self.family((name, help, "service"), by_service)?;
        }
        let (name, help) =
            ("live_listed_early_seconds", "Seconds from the listing of those segments to their arrival");
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for report in reports {
            let seconds = ConstCounter::new(report.counts.listed_early_ms as f64 / 1000.0);
            seconds.encode(family.encode_family(&[("service", report.service.as_str())])?)?;
        }
        Ok(())
    }

    /// Spans for the collector.
    fn traces(&mut self, stats: &TraceStats) -> fmt::Result {
        self.counter("traces_sent", "Spans that the collector has taken", stats.sent.load(Relaxed))?;
        let dropped = ("traces_dropped", "Spans that did not reach the collector", "reason");
        self.family(dropped, stats.dropped.labelled())
    }

    /// Kafka, and reports of players.
    fn kafka(&mut self, stats: &KafkaStats, qoe: Option<&Qoe>) -> fmt::Result {
        self.family(("kafka_errors", "Failed Kafka operations", "reason"), stats.links.errors.labelled())?;
        self.family(("kafka_purges", "Messages of the purge topic", "outcome"), stats.purges.labelled())?;
        self.gauge("kafka_purge_lag", "Messages of the purge topic that are not done", stats.links.lag())?;
        self.counter(
            "kafka_results",
            "Results of purges that the broker has taken",
            stats.results_sent.load(Relaxed),
        )?;
        self.counter(
            "kafka_results_dropped",
            "Results of purges that were dropped, since too many waited for the broker",
            stats.results_dropped.load(Relaxed),
        )?;
        let none = QoeStats::default();
        let rows = qoe.map_or(&none, |it| &it.stats);
        self.counter("qoe_rows", "Rows made from reports of players (CMCD)", rows.rows.load(Relaxed))?;
        self.counter("qoe_sent_rows", "Rows that the broker has taken", rows.sent.load(Relaxed))?;
        self.gauge("qoe_sessions", "Playback sessions that are followed", rows.sessions.load(Relaxed))?;
        let (waiting, bytes) = qoe.map_or((0, 0), |it| {
            let spool = it.spool();
            (spool.rows(), spool.bytes())
        });
        self.gauge("qoe_waiting_rows", "Rows on disk that wait for the broker", waiting)?;
        self.gauge("qoe_spool_bytes", "Size of the rows on disk", bytes)?;
        self.family(
            ("qoe_lost", "Reports and rows that were dropped or are not complete", "reason"),
            rows.lost.labelled(),
        )
    }

    /// Writes counters and times of each route.
    fn routes(&mut self, names: &[String], routes: &[RouteStats]) -> fmt::Result {
        let counter = MetricType::Counter;
        let help = "Requests by route and by how they were served";
        let mut family = self.0.encode_descriptor("http_requests", help, None, counter)?;
        for (name, route) in names.iter().zip(routes) {
            for (served, count) in Served::ALL.iter().zip(&route.served) {
                let labels = [("route", name.as_str()), ("served", served.as_str())];
                ConstCounter::new(count.load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Bytes of bodies by route";
        let mut family = self.0.encode_descriptor("http_body_bytes", help, None, counter)?;
        for (name, route) in names.iter().zip(routes) {
            let labels = [("route", name.as_str())];
            ConstCounter::new(route.bytes.load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
        let histogram = MetricType::Histogram;
        let help = "Seconds from a request's head to its response's";
        let mut family = self.0.encode_descriptor("http_head_seconds", help, None, histogram)?;
        for (name, route) in names.iter().zip(routes) {
            let counts: Vec<u64> = route.buckets.iter().map(|it| it.load(Relaxed)).collect();
            let ends = BUCKETS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = ends.zip(counts.iter().copied()).collect();
            let sum_s = route.sum_us.load(Relaxed) as f64 / 1e6;
            let labels = [("route", name.as_str())];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<[(&str, &str); 0]>(sum_s, counts.iter().sum(), &buckets, None)?;
        }
        Ok(())
    }
}

impl MetricWriter<'_> {
    /// Writes counters and state of each transport stream.
    fn streams(&mut self, streams: &[(String, StreamState)]) -> fmt::Result {
        let counter = MetricType::Counter;
        let counters: [Named<CountOf>; 8] = [
            ("transport_packets", "Packets of transport streams", |it| it.packets),
            ("transport_split_packets", "Packets of transport streams split between two datagrams", |it| {
                it.split_packets
            }),
            ("transport_frames", "Baseband frames", |it| it.frames),
            ("transport_datagrams", "Datagrams inside transport streams and baseband frames", |it| {
                it.datagrams
            }),
            ("transport_files", "Files of DSM-CC carousels", |it| it.files),
            ("transport_continuity_errors", "Gaps of continuity counters", |it| it.continuity_errors),
            ("transport_rtp_lost_packets", "RTP packets that never arrived", |it| {
                it.rtp.map_or(0, |it| it.lost)
            }),
            ("transport_lock_losses", "Times that a tuner lost lock", |it| it.lock_losses),
        ];
        for (name, help, value) in counters {
            let mut family = self.0.encode_descriptor(name, help, None, counter)?;
            for (from, state) in streams {
                ConstCounter::new(value(state))
                    .encode(family.encode_family(&[("stream", from.as_str())])?)?;
            }
        }
        let help = "Packets, sections and objects of transport streams that were not used";
        let mut family = self.0.encode_descriptor("transport_dropped", help, None, counter)?;
        for (from, state) in streams {
            let full = [("shard_full", state.shard_full)];
            for (reason, count) in state.dropped.iter().map(|(reason, count)| (*reason, *count)).chain(full) {
                let labels = [("stream", from.as_str()), ("reason", reason)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let gauge = MetricType::Gauge;
        let signals: [Named<MeasureOf>; 5] = [
            ("transport_locked", "Whether the demodulator has lock", |it| {
                Some(f64::from(u8::from(it.locked)))
            }),
            ("transport_strength_dbm", "Signal strength in dBm", |it| it.strength_dbm),
            ("transport_strength_percent", "Signal strength as the tuner scales it", |it| {
                it.strength_percent
            }),
            ("transport_snr_db", "Carrier to noise ratio in dB", |it| it.snr_db),
            ("transport_quality_percent", "Signal quality as the server scales it", |it| it.quality_percent),
        ];
        for (name, help, value) in signals {
            let mut family = self.0.encode_descriptor(name, help, None, gauge)?;
            for (from, state) in streams {
                if let Some(value) = state.signal.as_ref().and_then(value) {
                    ConstGauge::new(value).encode(family.encode_family(&[("stream", from.as_str())])?)?;
                }
            }
        }
        Ok(())
    }
}

impl MetricWriter<'_> {
    /// Slots and bundles of an appliance, as the last `skycached firmware …` left them.
    fn firmware(&mut self, report: &Value) -> fmt::Result {
        let help = "Kernel images of an appliance's slots: 1 for the one that runs";
        let mut family = self.0.encode_descriptor("firmware_image", help, None, MetricType::Gauge)?;
        let images = report["images"].as_array().map(Vec::as_slice).unwrap_or_default();
        for image in images {
            let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
            let labels = ["slot", "version", "state"].map(|key| (key, text(key)));
            let runs = image["slot"] == report["running"] && image["version"] == report["version"];
            ConstGauge::new(i64::from(runs)).encode(family.encode_family(&labels)?)?;
        }
        let installed = report["installed"].as_u64().unwrap_or(0);
        self.counter("firmware_installed", "Bundles that were installed", installed)?;
        let of = |reason: &BundleRefusal| report["refused"][reason.as_str()].as_u64().unwrap_or(0);
        self.family(
            ("firmware_refused", "Bundles that were refused, by reason", "reason"),
            BundleRefusal::ALL.iter().map(|it| (it.as_str(), of(it))),
        )
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Parts { receive, server, vitals, admin, kafka, traces, certificates, .. } = &*self.0;
        let mut writer = MetricWriter(encoder);
        writer.program(&vitals.threads(clock::now()))?;
        writer.family(("log_lines", "Lines of the log, by level", "level"), logs::lines().counts())?;
        writer.certificates(&certificates.ends_s())?;
        // Without images, and all 0, where this is not an appliance.
        writer.firmware(&crate::firmware::report(Path::new(crate::firmware::RUN)).unwrap_or_default())?;
        let totals = receive.totals();
        self.received_packets(&mut writer, &totals)?;
        self.trust_and_commands(&mut writer, &totals)?;
        self.delivered_objects(&mut writer, &totals)?;
        self.joined_groups(&mut writer)?;
        self.held_objects(&mut writer)?;
        self.repairs_and_origins(&mut writer, &totals)?;
        self.catalog_and_page(&mut writer)?;
        writer.family(
            ("admin_refused", "Requests at the admin interface that were refused", "reason"),
            admin.labelled(),
        )?;
        let http = server.stats();
        self.players(&mut writer, &http)?;
        self.fills(&mut writer)?;
        self.refusals_and_manifests(&mut writer, &http)?;
        let refused = ("access_refused", "Requests of players that the access rules refuse", "reason");
        writer.family(refused, server.access().refused().labelled())?;
        writer.kafka(kafka, server.qoe().map(|it| &**it))?;
        writer.traces(traces)?;
        self.responses(&mut writer, &http)
    }
}

impl Scrape {
    /// Datagrams and packets from the link.
    fn received_packets(&self, writer: &mut MetricWriter<'_>, totals: &Totals) -> fmt::Result {
        let (losses, packets) = (totals.losses, &totals.packets);
        let streams = self.0.transport.all();
        if !streams.is_empty() {
            writer.streams(&streams)?;
        }
        writer.counter("receive_datagrams", "Datagrams received", losses.datagrams)?;
        writer.counter("receive_bytes", "Payload bytes of datagrams received", losses.bytes)?;
        writer.counter(
            "receive_lost_packets",
            "Packets lost on the link, by the sequence of symbols",
            packets.lost,
        )?;
        writer.counter(
            "receive_expired_instances",
            "FDT Instances that had expired when they came, and were read: the date of their sender is wrong, or that of this machine",
            packets.expired_instances,
        )?;
        let results = [
            ("stored", packets.stored),
            ("fdt", packets.fdt),
            ("control", packets.control),
            ("early", packets.early),
            ("dropped", packets.dropped.iter().sum()),
        ];
        writer
            .family(("receive_packets", "Packets of sessions, by result", "result"), results.into_iter())?;
        let route = &totals.route;
        let results = [
            ("stored", route.stored),
            ("repair", route.repair),
            ("control", route.control),
            ("dropped", route.dropped.iter().sum()),
        ];
        writer.family(("route_packets", "Packets of ROUTE, by result", "result"), results.into_iter())?;
        let dropped = RouteDrop::ALL.iter().map(|it| it.as_str()).zip(route.dropped);
        writer
            .family(("route_dropped_packets", "Packets of ROUTE received and not used", "reason"), dropped)?;
        let complete = End::ALL.iter().map(|it| it.as_str()).zip(route.complete);
        writer.family(
            ("route_complete_objects", "Complete objects of ROUTE by the evidence of their end", "end"),
            complete,
        )?;
        let failed = RouteFailure::ALL.iter().map(|it| it.as_str()).zip(route.failed);
        writer.family(("route_failed_objects", "Objects of ROUTE that were given up", "reason"), failed)?;
        writer.counter(
            "route_missing_bytes",
            "Bytes that were missing of objects of ROUTE given up",
            route.missing_bytes,
        )?;
        writer.counter(
            "route_recovered_bytes",
            "Lost bytes of objects of ROUTE that FEC brought back",
            route.recovered_bytes,
        )?;
        let dropped = DropReason::ALL.iter().map(|&reason| (reason, packets.dropped(reason)));
        let own = [
            ("kernel_buffer", losses.kernel_drops),
            ("not_alc", losses.not_alc),
            ("other_tsi", losses.other_tsi),
            ("other_group", losses.other_group),
            ("unsigned_protocol", losses.unsigned_protocol),
            ("lls_excess", losses.lls_excess),
        ];
        writer.family(
            ("receive_dropped_packets", "Packets received and not used", "reason"),
            own.into_iter().chain(dropped.map(|(reason, count)| (reason.as_str(), count))),
        )
    }

    /// Signatures and commands of the carousel.
    fn trust_and_commands(&self, writer: &mut MetricWriter<'_>, totals: &Totals) -> fmt::Result {
        let trust = self.0.trust.report();
        let refused = untrusted(&trust, totals.losses.unsigned_protocol);
        writer.family(
            ("trust_refused", "Documents refused for their signature, or for having none", "reason"),
            TrustDrop::ALL.iter().map(|it| it.as_str()).zip(refused),
        )?;
        writer.family(
            ("commands", "Commands of the carousel, by outcome", "outcome"),
            self.0.commands.outcomes().labelled(),
        )?;
        let (waiting, _) = self.0.commands.counts();
        writer.family(
            ("firmware_held", "Firmware updates that are not installed, or not yet, by reason", "reason"),
            self.0.updates.held().labelled(),
        )?;
        writer.family(
            ("firmware_updates", "Firmware updates, by outcome", "outcome"),
            self.0.updates.outcomes().labelled(),
        )?;
        let (received, length) = self.0.updates.progress();
        writer.gauge(
            "firmware_received_bytes",
            "Bytes of the firmware update that have arrived",
            received,
        )?;
        writer.gauge("firmware_bytes", "Bytes of the firmware update that the box is at", length)?;
        writer.gauge("commands_waiting", "Commands whose moment has not come", waiting as u64)?;
        writer.counter("trust_accepted", "Signed documents accepted, repeats included", trust.accepted)
    }

    /// Objects from their announcement to the cache, and sessions.
    fn delivered_objects(&self, writer: &mut MetricWriter<'_>, totals: &Totals) -> fmt::Result {
        let Parts { receive, memory, .. } = &*self.0;
        let (packets, objects) = (&totals.packets, &totals.objects);
        writer.counter(
            "receive_finisher_full",
            "Complete objects and blocks refused because finishing was behind",
            queue_full(objects),
        )?;
        writer.counter("receive_objects", "Objects completed by the carousel", receive.objects().0)?;
        writer.counter(
            "receive_repaired_objects",
            "Objects completed by the carousel with parts from an origin",
            receive.objects().1,
        )?;
        writer.counter(
            "receive_blocks_too_large",
            "Attempts to decode a source block for which this machine has too little memory",
            objects.blocks_too_large,
        )?;
        let budget = ("memory_budget_bytes", "Most memory that what is received may fill, by its use", "use");
        writer.gauges(budget, memory.named().into_iter())?;
        let (recovered, failed) = (packets.recovered, packets.recovery_failed);
        writer.counter("receive_recovered_symbols", "Lost source symbols that FEC restored", recovered)?;
        writer.counter("receive_recovery_failed", "Source blocks that could not be decoded yet", failed)?;
        writer.counter(
            "receive_recovery_late",
            "Decoded source blocks that were dropped because their object had ended",
            objects.blocks_late,
        )?;
        writer.gauge(
            "receive_memory_bytes",
            "Memory of the sessions of FLUTE and ROUTE: tables, early packets, live objects and segments",
            totals.memory_bytes,
        )?;
        writer.counter(
            "receive_sessions_displaced",
            "Sessions that made room for others, being silent longest or having brought least",
            objects.sessions_displaced,
        )?;
        writer.counter(
            "receive_sessions_expired",
            "Sessions that were forgotten after silence",
            objects.sessions_expired,
        )?;
        writer.counter(
            "delivery_entered_objects",
            "Objects that were announced or begun",
            objects.entered,
        )?;
        writer.counter(
            "delivery_held_objects",
            "Announced objects that the cache already holds",
            objects.held,
        )?;
        let gone = GoneReason::ALL.iter().map(|it| it.as_str()).zip(objects.gone);
        writer.family(
            ("delivery_gone_objects", "Announced or begun objects that were given up", "reason"),
            gone,
        )?;
        for (state, count) in State::ALL.iter().zip(objects.now) {
            let name = format!("delivery_objects_{state}");
            let help = format!("Objects in delivery. {}", state.help());
            writer.gauge(&name, &help, count)?;
        }
        let rejected = RejectReason::ALL.iter().map(|it| it.as_str()).zip(objects.rejected);
        writer.family(
            ("delivery_rejected_objects", "Complete objects that are received again", "reason"),
            rejected,
        )?;
        let sessions = receive.sessions();
        writer.gauge("receive_sessions", "Sessions seen", sessions.len() as u64)?;
        writer.reception(receive.packet_age_s(clock::now()), &sessions)
    }

    /// Services and their groups.
    fn joined_groups(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let groups = &self.0.groups;
        writer.family(
            ("services_joined", "Services whose groups were joined", "reason"),
            groups.joined().labelled(),
        )?;
        writer.family(
            ("services_left", "Services whose groups were left", "reason"),
            groups.left().labelled(),
        )?;
        writer.family(
            ("services_refused", "Services whose groups were not joined for want of room", "reason"),
            groups.refused().labelled(),
        )?;
        let joined_bps: u64 = groups
            .services()
            .iter()
            .filter(|it| it.membership == Membership::Joined)
            .map(|it| it.rate_bps)
            .sum();
        writer.gauge(
            "services_joined_bps",
            "Sum of the greatest rates of the services whose groups are joined; where they take turns, more than the link has",
            joined_bps,
        )?;
        let atsc = groups.atsc();
        writer.counter("atsc_tables", "Tables of ATSC low-level signalling", atsc.tables)?;
        let services = atsc.lists.iter().flat_map(|it| &it.services);
        let received = services.filter(|it| it.dropped.is_none()).count();
        writer.gauge("atsc_services", "Services of ATSC service lists that are received", received as u64)?;
        let left_out = ("atsc_left_out", "ATSC services, groups and tables that are not received", "reason");
        writer.family(left_out, ServiceDrop::ALL.iter().map(|it| it.as_str()).zip(atsc.left_out))?;
        let groups = groups.all();
        let listened = groups.iter().filter(|it| it.is_wanted).count();
        writer.gauge("receive_groups", "Groups listened to", listened as u64)?;
        let failing = groups.iter().filter(|it| it.error.is_some()).count();
        writer.gauge("receive_groups_failing", "Groups that cannot be joined", failing as u64)
    }

    /// The cache, and objects in flight.
    fn held_objects(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let Parts { store, flights, .. } = &*self.0;
        let usage = store.usage();
        writer.gauge("store_objects", "Objects in the cache", usage.objects)?;
        writer.gauge("store_bytes", "Bytes of the objects in the cache", usage.bytes)?;
        writer.gauge("store_partial_bytes", "Bytes of objects in flight", usage.partial_bytes)?;
        writer.gauge("store_quota_bytes", "Most bytes that objects may take", usage.quota_bytes)?;
        writer.counter("store_written_bytes", "Bytes written to the disk", usage.written_bytes)?;
        writer.gauge("store_memory_bytes", "Bytes of the objects in memory", usage.memory_bytes)?;
        writer.gauge(
            "store_memory_quota_bytes",
            "Most bytes that objects may take in memory",
            usage.memory_quota_bytes,
        )?;
        writer.gauge(
            "store_written_today_bytes",
            "Bytes written to the disk since midnight",
            usage.wear.today_bytes,
        )?;
        writer.counter(
            "store_promoted_objects",
            "Objects that went from memory to the disk",
            usage.promoted,
        )?;
        writer.gauge(
            "store_unverified_objects",
            "Objects not verified since an unclean stop",
            usage.unverified,
        )?;
        writer.flash(&usage.wear)?;
        let is_fine = u64::from(usage.disk == DiskState::Fine);
        writer.gauge("store_disk_fine", "1 while the disk takes objects", is_fine)?;
        let evicted = EvictReason::ALL.iter().map(|it| it.as_str()).zip(usage.evicted);
        writer.family(("store_evicted_objects", "Objects that left the cache", "reason"), evicted)?;
        writer.gauge(
            "store_arena_bytes",
            "Memory taken by bodies that arrive for the disk, and by published ones until others need it",
            usage.arena_bytes,
        )?;
        writer.counter(
            "store_direct_objects",
            "Objects that were assembled in memory and written past the page cache",
            usage.direct,
        )?;
        let page_cache = PageCacheReason::ALL.iter().map(|it| it.as_str()).zip(usage.page_cache);
        let name =
            ("store_page_cache_objects", "Arriving objects that went through the page cache", "reason");
        writer.family(name, page_cache)?;
        writer.counter(
            "store_dropped_mappings",
            "Mapped files that made room for others",
            usage.dropped_mappings,
        )?;
        writer.counter(
            "store_unguarded_mappings",
            "Mapped files of which a page that cannot be read would end the process, for want of a place",
            usage.unguarded_mappings,
        )?;
        writer.family(("store_purges", "Purges, by what they named", "kind"), store.purges())?;
        let (remembered, forgotten) = store.remembered_purges();
        writer.gauge(
            "store_remembered_purges",
            "Purges of the last two hours that are remembered, for what parents hand out",
            remembered,
        )?;
        writer.counter(
            "store_forgotten_purges",
            "Purges forgotten for want of room: what parents have held since before is not kept",
            forgotten,
        )?;

        let (failed, refused) = flights.failures();
        writer.gauge("flights", "Objects in flight", flights.list().len() as u64)?;
        writer.gauge(
            "announced_objects",
            "Objects announced and not received",
            flights.announced_count() as u64,
        )?;
        writer.family(
            ("flights_failed", "Objects in flight that did not arrive", "reason"),
            failed.labelled(),
        )?;
        writer.counter("flights_refused", "Objects refused because too many were in flight", refused)
    }

    /// Repairs, and requests to origins and parents.
    fn repairs_and_origins(&self, writer: &mut MetricWriter<'_>, totals: &Totals) -> fmt::Result {
        let Parts { repairer, client, .. } = &*self.0;
        let (bytes, requests) = repairer.stats().fetched();
        writer.counter("repair_bytes", "Bytes fetched for missing ranges", bytes)?;
        writer.counter("repair_requests", "Requests for missing ranges", requests)?;
        let outcomes = RepairOutcome::ALL.iter().map(|it| it.as_str()).zip(totals.objects.repairs);
        writer.family(("repair_objects", "Repairs, by outcome", "outcome"), outcomes)?;

        writer.repairs(repairer.stats())?;

        let [requests, bytes] = client.counts();
        writer.counter("origin_requests", "Requests to origins", requests)?;
        writer.counter("origin_bytes", "Bytes of bodies from origins", bytes)?;
        writer.family(
            ("origin_failures", "Requests to origins that failed", "reason"),
            client.failures().labelled(),
        )?;

        writer.family(
            ("origin_refused", "Connections to origins refused by the address policy", "reason"),
            client.policy().refused().labelled(),
        )?;

        writer.family(
            (
                "origin_signatures_refused",
                "Signed requests whose signature origins or parents refused",
                "reason",
            ),
            client.signatures_refused().labelled(),
        )?;

        let open = client.open_circuits().len() as u64;
        writer.gauge("origin_open_circuits", "Origins that are not asked because they fail", open)?;
        writer.parents(&client.parents_report())
    }

    /// The catalogue, and the viewers of the page.
    fn catalog_and_page(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let server = &self.0.server;
        let catalog = server.catalog().current();
        writer.gauge("catalog_lists", "Service lists that are known", catalog.lists.len() as u64)?;
        writer.gauge("catalog_titles", "Channels and titles that are known", catalog.titles.len() as u64)?;
        writer.gauge(
            "catalog_guide_entries",
            "Events and titles on demand in the guide",
            catalog.guide.events() as u64,
        )?;
        let left_out = LeftOut::ALL.iter().map(|it| it.as_str()).zip(server.catalog().left_out());
        writer
            .family(("catalog_left_out", "Lists, guides and their entries not read", "reason"), left_out)?;
        let (viewers, turned_away) = server.live().viewers();
        writer.gauge("page_viewers", "Viewers of the page's live data now", viewers as u64)?;
        writer.counter(
            "page_viewers_refused",
            "Viewers refused because there were too many",
            turned_away as u64,
        )
    }

    /// Connections of players, and hits.
    fn players(&self, writer: &mut MetricWriter<'_>, http: &HttpStats) -> fmt::Result {
        let server = &self.0.server;
        writer.counter("http_connections", "Connections of players", http.connections.load(Relaxed))?;
        writer.counter(
            "http_connections_refused",
            "Connections closed because there was no place for their client",
            http.refused.load(Relaxed),
        )?;
        writer.counter(
            "http_connections_too_slow",
            "Connections closed because their client sent or read too slowly",
            http.too_slow.load(Relaxed),
        )?;
        writer.gauge("http_connections_open", "Connections of players now", server.open_connections())?;
        writer.counter(
            "http_unlogged",
            "Pieces of the access log that were left out",
            http.unlogged.load(Relaxed),
        )?;
        writer.counter(
            "http_unpassed_fields",
            "Fields of players' requests that were not passed on to origins",
            server.unpassed_fields(),
        )?;
        writer.counter(
            "http_lost_segments",
            "Requests for live segments of DASH that the link has lost and no origin has, answered with 204",
            server.lost_segments(),
        )?;
        writer.counter("http_hits", "Responses from the cache", http.hits())
    }

    /// Objects fetched from origins for players, or ahead of them.
    fn fills(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let Parts { client, server, .. } = &*self.0;
        let (joined, revalidated) = server.filler().joined();
        writer.counter("origin_joined_requests", "Requests that waited for another's fetch", joined)?;
        writer.counter("origin_revalidated", "Objects that an origin has confirmed", revalidated)?;
        writer.counter(
            "origin_passing_bodies",
            "Bodies of unknown length that were not kept for want of room",
            server.filler().passing(),
        )?;
        writer.counter(
            "origin_unread_manifests",
            "Manifests too long to be read, which are fresh for a moment",
            server.manifests().unread(),
        )?;
        let prefetched = PrefetchEnd::ALL.iter().map(|it| it.as_str()).zip(server.filler().prefetched());
        writer
            .family(("origin_prefetches", "Objects fetched ahead of players, or not", "end"), prefetched)?;
        let not_kept = NotKept::ALL.iter().map(|it| it.as_str()).zip(server.filler().not_kept());
        let no_place =
            ("origin_fills_refused", "Requests that had no place among those that ask origins", "reason");
        writer.family(no_place, server.filler().no_place().labelled())?;
        writer.family(("origin_not_kept", "Responses of origins that were not kept", "reason"), not_kept)?;
        writer.counter(
            "origin_resent_requests",
            "Requests that found a kept connection closed and were sent again",
            client.resent(),
        )
    }

    /// Requests refused, manifests mapped, live playlists.
    fn refusals_and_manifests(&self, writer: &mut MetricWriter<'_>, http: &HttpStats) -> fmt::Result {
        let server = &self.0.server;
        let refusals = Refusal::ALL.iter().map(|it| it.as_str());
        let refusals = refusals.zip(http.refusals.iter().map(|it| it.load(Relaxed)));
        writer.family(
            ("http_refused_requests", "Requests refused before they were looked up", "reason"),
            refusals,
        )?;
        let manifests = Rewriting::ALL.iter().map(|it| it.as_str());
        let manifests = manifests.zip(http.manifests.iter().map(|it| it.load(Relaxed)));
        writer.family(
            (
                "http_manifests",
                "Manifests with URLs of the origin of a route, by result of the rewriting",
                "result",
            ),
            manifests,
        )?;
        let misses = MissCause::ALL.iter().map(|it| it.as_str());
        writer.family(
            ("http_misses", "Requests for objects that were not served from the cache, by cause", "cause"),
            misses.zip(http.misses.iter().map(|it| it.load(Relaxed))),
        )?;
        let reloads = server.reloads();
        writer.gauge(
            "http_reloads_waiting",
            "Blocking reloads of live playlists that wait",
            reloads.waiting() as u64,
        )?;
        writer.family(
            ("http_blocking_reloads", "Blocking reloads of live playlists answered by the box", "end"),
            reloads.ended().labelled(),
        )?;
        let rendezvous = server.rendezvous_stats();
        let returned = ("rendezvous_returned", "Players that were sent to the content's own host", "reason");
        writer.family(returned, rendezvous.returned.labelled())?;
        writer.counter(
            "rendezvous_accepted",
            "Players that were sent to the box",
            rendezvous.accepted.load(Relaxed),
        )?;
        writer.family(
            ("http_sent_to_cdn", "Players that were sent to the CDN of their route", "reason"),
            server.sent_to_cdn_counts().labelled(),
        )?;
        let [satellite, cdn] = rendezvous.steered.each_ref().map(|it| it.load(Relaxed));
        let steered = ("steering_manifests", "Steering manifests, by the pathway that comes first", "first");
        writer.family(steered, [("satellite", satellite), ("cdn", cdn)].into_iter())?;
        writer.family(
            (
                "live_manifests_refused",
                "Live manifests that did not go as far as the one held, and were refused",
                "from",
            ),
            server.manifests().refused().labelled(),
        )?;
        writer.family(
            (
                "live_broken_off_segments",
                "Live segments that the carousel broke off while players read them, by outcome",
                "end",
            ),
            server.tails().labelled(),
        )?;
        writer.live(&server.manifests().live_reports())
    }

    /// Responses to players, by route and by status.
    fn responses(&self, writer: &mut MetricWriter<'_>, http: &HttpStats) -> fmt::Result {
        let server = &self.0.server;
        writer.routes(server.route_names(), &http.routes)?;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .into_iter()
            .zip(http.responses.iter().map(|it| it.load(Relaxed)));
        writer.family(("http_responses", "Responses by status", "class"), classes)
    }
}
