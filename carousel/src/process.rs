//! Figures of a Linux process out of the texts of `/proc` (proc(5)), under the names that Prometheus' own client libraries use. The
//! caller reads the files.

/// Ticks of processor time in a second, on every Linux (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// Texts of files of `/proc`; an empty one gives no figure.
#[derive(Debug, Clone, Copy)]
pub struct ProcessTexts<'a> {
    /// `/proc/self/stat`.
    pub stat: &'a str,
    /// `/proc/self/status`.
    pub status: &'a str,
    /// `/proc/self/limits`.
    pub limits: &'a str,
    /// `/proc/stat`.
    pub system: &'a str,
}

/// One value that may rise and fall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessFigure {
    /// Name of its metric.
    pub name: &'static str,
    /// Help of its metric.
    pub help: &'static str,
    /// The value, in the unit that the name ends with.
    pub value: f64,
}

impl ProcessTexts<'_> {
    /// Seconds of processor time, user and system.
    pub fn cpu_s(&self) -> Option<f64> {
        Some((stat_field(self.stat, 14)? + stat_field(self.stat, 15)?) / TICKS_PER_S)
    }

    /// Start, memory and limit of descriptors, those that are known.
    pub fn figures(&self) -> impl Iterator<Item = ProcessFigure> {
        let boot_s = number_of(self.system, "btime ");
        let started_s =
            boot_s.zip(stat_field(self.stat, 22)).map(|(boot_s, ticks)| boot_s + ticks / TICKS_PER_S);
        let resident_bytes = number_of(self.status, "VmRSS:").map(|kib| kib * 1024.0);
        let all = [
            ("process_start_time_seconds", "Seconds from 1970 to the start of the process", started_s),
            ("process_resident_memory_bytes", "Bytes of memory in use", resident_bytes),
            (
                "process_max_fds",
                "Most files and sockets that may be open",
                number_of(self.limits, "Max open files"),
            ),
        ];
        all.into_iter().filter_map(|(name, help, value)| Some(ProcessFigure { name, help, value: value? }))
    }
}

/// Field of `/proc/self/stat` by its number in proc(5). The program's name, field 2, may have blanks and brackets.
fn stat_field(text: &str, number: usize) -> Option<f64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The number in the line of a file of `/proc` that begins so.
fn number_of(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|it| it.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_moves_no_field() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 1400 1500 0";
        assert_eq!((stat_field(stat, 14), stat_field(stat, 15)), (Some(1400.0), Some(1500.0)));
        assert_eq!(number_of("a 1\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
        let texts = ProcessTexts { stat, status: "VmRSS:\t  12 kB\n", limits: "", system: "btime 5\n" };
        assert_eq!(texts.cpu_s(), Some(29.0));
        let figures: Vec<_> = texts.figures().map(|it| (it.name, it.value)).collect();
        assert_eq!(figures, [("process_resident_memory_bytes", 12.0 * 1024.0)]);
    }
}
