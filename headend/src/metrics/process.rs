//! The process, as Linux counts it, under the names that Prometheus' own client libraries use.

use std::fmt;
use std::fs;

use carousel::process::ProcessTexts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::MetricWriter;

/// Collects them at each scrape.
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
        texts.figures().try_for_each(|it| writer.gauge(it.name, it.help, it.value))?;
        match fs::read_dir("/proc/self/fd") {
            Ok(open) => writer.gauge("process_open_fds", "Open files and sockets", open.count() as f64),
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
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            text.lines().find_map(|it| it.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(value("process_resident_memory_bytes ") > 100_000.0, "{text}");
        assert!(value("process_open_fds ") <= value("process_max_fds "), "{text}");
        assert!(value("process_start_time_seconds ") > 1.7e9, "{text}");
    }
}
