//! Metrics that alerts are made from: age of the last packet, life of the flash, clock, threads, duration of repair, losses of each
//! session; and those of the process, under the names that Prometheus' own client libraries use.

use std::fmt;
use std::fs;

use carousel::flute::SessionKey;
use carousel::process::ProcessTexts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::MetricWriter;
use crate::clock;
use crate::delivery::SessionStats;
use crate::repair::RepairStats;
use crate::store::FlashWear;
use crate::vitals::ThreadState;

impl MetricWriter<'_> {
    fn measure(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    /// The program, its clock and its threads.
    pub(super) fn program(&mut self, threads: &[ThreadState]) -> fmt::Result {
        let help = "1, with the version of the program";
        let mut family = self.0.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        let is_trusted = u64::from(clock::trusted_wall().is_some());
        self.gauge("clock_trusted", "1 while the date can be right; nothing expires until then", is_trusted)?;
        let stalled = threads.iter().filter(|it| it.is_stalled).count() as u64;
        self.gauge("stalled_threads", "Threads that have given no sign for 10 s", stalled)?;
        let help = "Seconds since a thread gave a sign of life";
        let mut family = self.0.encode_descriptor("thread_silent_seconds", help, None, MetricType::Gauge)?;
        for thread in threads {
            let labels = [("thread", thread.name.as_str())];
            ConstGauge::new(thread.silent_for.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Panics that a thread has survived; any other ends the process";
        let mut family = self.0.encode_descriptor("thread_panics", help, None, MetricType::Counter)?;
        for thread in threads {
            let labels = [("thread", thread.name.as_str())];
            ConstCounter::new(thread.panics).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Writes the ends of the certificates of listeners.
    pub(super) fn certificates(&mut self, ends_s: &[(&'static str, i64)]) -> fmt::Result {
        let help = "Seconds from 1970 to the end of a listener's certificate, or of one of its chain";
        let mut family =
            self.0.encode_descriptor("certificate_expires_seconds", help, None, MetricType::Gauge)?;
        for (listener, end_s) in ends_s {
            ConstGauge::new(*end_s).encode(family.encode_family(&[("listener", *listener)])?)?;
        }
        Ok(())
    }

    /// Writes the wear of the flash.
    pub(super) fn flash(&mut self, wear: &FlashWear) -> fmt::Result {
        let help = "Bytes that may be written to the disk in a day; 0: no budget";
        self.gauge("store_write_budget_bytes", help, wear.budget_bytes)?;
        // Without a figure there is no sample, so that no rule takes it for the end.
        let help = "Seconds until the flash's endurance is used up at the rate so far";
        let mut family =
            self.0.encode_descriptor("store_flash_life_seconds", help, None, MetricType::Gauge)?;
        if let Some(days) = wear.life_days {
            ConstGauge::new(days * 86_400.0).encode(family.encode_family::<[(&str, &str); 0]>(&[])?)?;
        }
        Ok(())
    }

    /// Writes the time since the last packet, and the losses of each session of now.
    pub(super) fn reception(
        &mut self,
        packet_age_s: f64,
        sessions: &[(SessionKey, SessionStats)],
    ) -> fmt::Result {
        let help = "Seconds since a packet came, or since the start";
        self.measure("receive_last_packet_age_seconds", help, packet_age_s)?;
        type Value = fn(&SessionStats) -> u64;
        let counters: [(&str, &str, Value); 2] = [
            ("receive_session_packets", "Packets received of a session", |it| it.receiver.packets),
            ("receive_session_lost_packets", "Packets of a session lost on the link", |it| it.receiver.lost),
        ];
        for (name, help, value) in counters {
            let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, stats) in sessions {
                let labels = [
                    ("source", key.source.to_string()),
                    ("group", key.destination.to_string()),
                    ("tsi", key.tsi.0.to_string()),
                ];
                ConstCounter::new(value(stats)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// Writes the times of repairs that brought what was missing.
    pub(super) fn repairs(&mut self, stats: &RepairStats) -> fmt::Result {
        let (buckets, sum_s) = stats.took();
        let help = "Seconds that origins took for what an object missed, back-off not counted";
        let mut encoder = self.0.encode_descriptor("repair_seconds", help, None, MetricType::Histogram)?;
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(sum_s, count, &buckets, None)
    }
}

/// The process, as Linux counts it.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter(encoder);
        let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        let (limits, system) = (read("/proc/self/limits"), read("/proc/stat"));
        let texts = ProcessTexts { stat: &stat, status: &status, limits: &limits, system: &system };
        if let Some(cpu_s) = texts.cpu_s() {
            let help = "Seconds of processor time, user and system";
            let descriptor =
                writer.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(cpu_s).encode(descriptor)?;
        }
        texts.figures().try_for_each(|it| writer.measure(it.name, it.help, it.value))?;
        match fs::read_dir("/proc/self/fd") {
            Ok(open) => writer.gauge("process_open_fds", "Open files and sockets", open.count() as u64),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_process_is_described_without_a_prefix() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let text = super::super::encode(&registry).unwrap();
        let value = |name: &str| -> f64 {
            text.lines().find_map(|it| it.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(value("process_resident_memory_bytes ") > 100_000.0, "{text}");
        assert!(value("process_open_fds ") <= value("process_max_fds "), "{text}");
        let age_s = clock::wall().unix_ms() as f64 / 1e3 - value("process_start_time_seconds ");
        assert!((-5.0..86_400.0).contains(&age_s), "started {age_s} s ago");
    }
}
