//! Progress of a running command: a bar on a terminal, occasional lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::units::{counted, human_bytes};

/// Interval of the lines that replace a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Interval at which a bar moves.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// Progress of preparation: the files of the sources, and their bytes, that have been read and hashed. Shared by the threads
/// that read, and those that show it.
#[derive(Debug, Default)]
pub struct Preparation {
    files: AtomicU64,
    all_files: AtomicU64,
    bytes: AtomicU64,
    all_bytes: AtomicU64,
    is_over: AtomicBool,
}

impl Preparation {
    /// Sets what is to be read: files and bytes.
    pub fn begin(&self, files: u64, bytes: u64) {
        self.all_bytes.store(bytes, Ordering::Relaxed);
        self.all_files.store(files, Ordering::Relaxed);
    }

    /// Counts bytes that were read.
    pub fn read(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a file that is complete.
    pub fn complete(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends it.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Files and bytes, read and in all.
    fn counts(&self) -> [u64; 4] {
        let all = self.all_bytes.load(Ordering::Relaxed);
        let read = self.bytes.load(Ordering::Relaxed).min(all);
        [self.files.load(Ordering::Relaxed), self.all_files.load(Ordering::Relaxed), read, all]
    }

    /// For `headend status`; null after its end.
    pub fn to_json(&self) -> Value {
        if self.is_over.load(Ordering::Relaxed) {
            return Value::Null;
        }
        let [files, all_files, bytes, all_bytes] = self.counts();
        json!({ "files": files, "all_files": all_files, "bytes": bytes, "all_bytes": all_bytes })
    }

    /// One line.
    pub fn to_text(&self) -> String {
        preparation_text(self.counts())
    }

    /// Runs `work`, which reads, and shows its progress on stderr: a bar on a terminal, elsewhere a line each ten seconds.
    pub fn show<T>(&self, work: impl FnOnce() -> T) -> T {
        self.show_by(work, is_terminal(), LINE_INTERVAL, say)
    }

    fn show_by<T>(
        &self,
        work: impl FnOnce() -> T,
        is_terminal: bool,
        interval: Duration,
        say: impl Fn(&str) + Send,
    ) -> T {
        let (done, end) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let shown =
                std::thread::Builder::new().name("progress".to_owned()).spawn_scoped(scope, move || {
                    let bar = bar("preparing {bar:30} {bytes}/{total_bytes} {eta} {msg}", 0);
                    let tick = if is_terminal { BAR_INTERVAL } else { interval };
                    while end.recv_timeout(tick) == Err(mpsc::RecvTimeoutError::Timeout) {
                        let [files, all_files, bytes, all_bytes] = self.counts();
                        bar.set_length(all_bytes);
                        bar.set_position(bytes);
                        bar.set_message(format!("{files} of {}", counted(all_files as usize, "file")));
                        if !is_terminal {
                            say(&self.to_text());
                        }
                    }
                    bar.finish_and_clear();
                });
            // Without a thread nothing is shown.
            drop(shown);
            let result = work();
            drop(done);
            result
        })
    }
}

/// Files and bytes of a preparation, in words.
pub fn preparation_text([files, all_files, bytes, all_bytes]: [u64; 4]) -> String {
    if all_files == 0 {
        return "preparing: the folders of the sources are read".to_owned();
    }
    let of = counted(usize::try_from(all_files).unwrap_or(usize::MAX), "file");
    format!("preparing: {files} of {of}, {} of {}", human_bytes(bytes), human_bytes(all_bytes))
}

/// A progress bar, hidden without a terminal.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    if !is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Whether output may have colours: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub fn may_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Whether messages go to a terminal.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a line to stderr. A terminal that was closed is not an error: a transmission must still end in order.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_long_preparation_is_shown_while_it_lasts() {
        let preparation = Preparation::default();
        assert_eq!(preparation.to_text(), "preparing: the folders of the sources are read");
        let lines = Mutex::new(Vec::new());
        let say = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let result = preparation.show_by(
            || {
                preparation.begin(3, 9_000_000_000);
                preparation.read(2_000_000_000);
                preparation.complete();
                // Within a file, too.
                preparation.read(500_000_000);
                while lines.lock().unwrap().is_empty() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                7
            },
            false,
            Duration::from_millis(20),
            say,
        );
        assert_eq!(
            (result, lines.lock().unwrap()[0].as_str()),
            (7, "preparing: 1 of 3 files, 2.5 GB of 9.0 GB")
        );
        assert_eq!(preparation.to_json()["all_bytes"], 9_000_000_000_u64);
        preparation.end();
        assert_eq!(preparation.to_json(), Value::Null);
    }
}
