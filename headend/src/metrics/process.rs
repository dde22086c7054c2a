//! The process, as Linux counts it, under the names that Prometheus' own client libraries use.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::MetricWriter;

/// Ticks of processor time in a second, on every Linux (`USER_HZ`, proc(5)).
const TICKS_PER_S: f64 = 100.0;

/// Collects them at each scrape.
#[derive(Debug)]
pub(super) struct Process;

/// Field of `/proc/self/stat` by its number in proc(5). The program's name, field 2, may have blanks and brackets.
fn stat_field(text: &str, number: usize) -> Option<f64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The number in the line of a file of `/proc` that begins so.
fn number_of(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|it| it.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter(encoder);
        let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
        let stat = read("/proc/self/stat");
        if let (Some(user), Some(system)) = (stat_field(&stat, 14), stat_field(&stat, 15)) {
            let help = "Seconds of processor time, user and system";
            let descriptor =
                writer.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new((user + system) / TICKS_PER_S).encode(descriptor)?;
        }
        if let (Some(boot_s), Some(started)) =
            (number_of(&read("/proc/stat"), "btime "), stat_field(&stat, 22))
        {
            let help = "Seconds from 1970 to the start of the process";
            writer.gauge("process_start_time_seconds", help, boot_s + started / TICKS_PER_S)?;
        }
        if let Some(kib) = number_of(&read("/proc/self/status"), "VmRSS:") {
            writer.gauge("process_resident_memory_bytes", "Bytes of memory in use", kib * 1024.0)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            writer.gauge("process_open_fds", "Open files and sockets", open.count() as f64)?;
        }
        if let Some(most) = number_of(&read("/proc/self/limits"), "Max open files") {
            writer.gauge("process_max_fds", "Most files and sockets that may be open", most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_moves_no_field() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 1400 1500 0";
        assert_eq!((stat_field(stat, 14), stat_field(stat, 15)), (Some(1400.0), Some(1500.0)));
        assert_eq!(number_of("a 1\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
    }

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
