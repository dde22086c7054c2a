//! Signs of life of the threads, and the consequences of a panic.
//!
//! | thread | without a sign for 10 s | panics |
//! |---|---|---|
//! | receive, session, transport stream, runtime | stalled: `/healthz` says so, and the watchdog is not reset | the process ends |
//! | HTTP worker | the same | its connection ends, and the worker continues; a panic of the worker itself ends the process |
//! | store keeper, memory of signatures, access log | shown: it may wait for a disk, and a slow disk does not stop the daemon | the process ends |
//! | finishing worker | shown, for the same reason | its object is given up, and the worker continues |
//!
//! The service manager's watchdog is reset only while all threads of the first row give signs: reset by a timer, it would not
//! notice one that hangs.
//!
//! A thread that others wait for and that has panicked leaves state behind that may be half written. The process ends at once,
//! as it does in builds with `panic = "abort"`; the service manager restarts it within a second, and the store recovers as from
//! any unclean stop.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use carousel::time::Instant;

/// Time without a sign of life after which a watched thread is stalled. Each gives one a second or more.
const STANDSTILL: Duration = Duration::from_secs(10);
/// Exit status of a process one of whose threads has panicked: that of an internal error (sysexits.h).
const PANICKED: i32 = 70;

/// Signs of life of one thread.
#[derive(Debug)]
pub struct Sign {
    name: String,
    last_ns: AtomicU64,
    panics: AtomicU64,
    is_watched: bool,
}

impl Sign {
    /// Records that the thread runs.
    pub fn give(&self, now: Instant) {
        self.last_ns.store(now.as_nanos(), Relaxed);
    }

    /// Executes work of a thread that survives its panics. `None`: the work has panicked, which is counted.
    pub fn survive<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(work)).ok();
        if done.is_none() {
            self.survived();
        }
        done
    }

    /// Counts a panic after which the thread continues.
    pub fn survived(&self) {
        self.panics.fetch_add(1, Relaxed);
        tracing::error!(thread = self.name, "a thread has panicked; it continues with its next work");
    }
}

/// State of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadState {
    /// Its name.
    pub name: String,
    /// Time since its last sign.
    pub silent_for: Duration,
    /// Survived panics.
    pub panics: u64,
    /// It is watched, and has given no sign for too long.
    pub is_stalled: bool,
}

/// All threads' signs.
#[derive(Debug, Default)]
pub struct Vitals {
    signs: Mutex<Vec<Arc<Sign>>>,
}

impl Vitals {
    /// Watches one more thread, from now on.
    pub fn watch(&self, name: String, now: Instant) -> Arc<Sign> {
        self.add(name, now, true)
    }

    /// Shows one more thread, which may be silent while it waits for a disk or for work.
    pub fn show(&self, name: String, now: Instant) -> Arc<Sign> {
        self.add(name, now, false)
    }

    fn add(&self, name: String, now: Instant, is_watched: bool) -> Arc<Sign> {
        let last_ns = AtomicU64::new(now.as_nanos());
        let sign = Arc::new(Sign { name, last_ns, panics: AtomicU64::new(0), is_watched });
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that has ended, and whose configuration is gone, no longer holds its sign.
        signs.retain(|it| Arc::strong_count(it) > 1);
        signs.push(Arc::clone(&sign));
        sign
    }

    /// Names of the stalled threads.
    pub fn standing_still(&self, now: Instant) -> Vec<String> {
        self.threads(now).into_iter().filter(|it| it.is_stalled).map(|it| it.name).collect()
    }

    /// All threads.
    pub fn threads(&self, now: Instant) -> Vec<ThreadState> {
        let signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        let running = signs.iter().filter(|it| Arc::strong_count(it) > 1);
        let state = |it: &Arc<Sign>| {
            let silent_for = Duration::from_nanos(now.as_nanos().saturating_sub(it.last_ns.load(Relaxed)));
            ThreadState {
                name: it.name.clone(),
                silent_for,
                panics: it.panics.load(Relaxed),
                is_stalled: it.is_watched && silent_for > STANDSTILL,
            }
        };
        running.map(state).collect()
    }
}

/// Starts a thread without which the daemon cannot work.
///
/// # Errors
/// If no thread is available.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let own = name.to_owned();
    Builder::new().name(name.to_owned()).spawn(move || essential(&own, run))
}

/// Runs the work of such a thread: if it panics, the process ends.
pub fn essential<T>(name: &str, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| end(name))
}

/// Runs a task in the same way.
pub fn essential_task<T: Send + 'static>(
    name: &'static str,
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let task = tokio::spawn(task);
    tokio::spawn(async move {
        if task.await.is_err_and(|err| err.is_panic()) {
            end(name);
        }
    })
}

fn end(name: &str) -> ! {
    tracing::error!(thread = name, "a thread has panicked: the process ends, to be restarted");
    eprintln!("skycached: thread {name} has panicked");
    std::process::exit(PANICKED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn threads_without_a_sign_are_named() {
        let vitals = Vitals::default();
        let (one, other) = (vitals.watch("one".into(), at(0)), vitals.watch("other".into(), at(0)));
        let _shown = vitals.show("disk".into(), at(0));
        one.give(at(8));
        assert_eq!(vitals.standing_still(at(10)), Vec::<String>::new());
        assert_eq!(vitals.standing_still(at(11)), ["other"]);
        let disk = vitals.threads(at(30)).pop().unwrap();
        assert_eq!(
            (disk.name.as_str(), disk.silent_for, disk.is_stalled),
            ("disk", Duration::from_secs(30), false)
        );
        // One that has ended by configuration stands nowhere.
        drop(other);
        assert_eq!(vitals.standing_still(at(30)), ["one"]);
    }

    #[test]
    fn a_panic_of_one_piece_of_work_is_counted_and_the_next_is_done() {
        let vitals = Vitals::default();
        let sign = vitals.show("finishing-0".into(), at(0));
        assert_eq!(sign.survive(|| -> u32 { panic!("as a hostile object might cause") }), None);
        assert_eq!(sign.survive(|| 7), Some(7));
        assert_eq!(vitals.threads(at(1))[0].panics, 1);
    }

    #[test]
    fn a_panic_of_an_essential_thread_ends_the_process() {
        const MARK: &str = "SKYCACHE_TEST_PANICS";
        match std::env::var(MARK).as_deref() {
            Ok("thread") => {
                let thread = start("receive-0", || panic!("on purpose")).unwrap();
                thread.join().unwrap();
                return;
            }
            Ok(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let task = async { essential_task("repair", async { panic!("on purpose") }).await };
                runtime.block_on(task).unwrap();
                return;
            }
            Err(_) => {}
        }
        let name = "vitals::tests::a_panic_of_an_essential_thread_ends_the_process";
        for (kind, thread) in [("thread", "receive-0"), ("task", "repair")] {
            let mut own = std::process::Command::new(std::env::current_exe().unwrap());
            let output = own.args(["--exact", name, "--nocapture"]).env(MARK, kind).output().unwrap();
            assert_eq!(output.status.code(), Some(PANICKED), "{kind}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("thread {thread} has panicked")), "{said}");
        }
    }
}
