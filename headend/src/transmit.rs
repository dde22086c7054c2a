//! The transmission loop: asks for the next packet when the link has room for it, and applies updates of the sources.
//!
//! `send` runs it on the system's clocks and a socket, `build` in virtual time and into a file, tests in virtual time and into
//! memory.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use carousel::time::WallTime;

use crate::broadcast::{Broadcast, UpdateCounts};
use crate::clock::Clocks;
use crate::condition::Condition;
use crate::follow::{Ended, Follower};
use crate::lease::Lease;
use crate::line::{Line, LineStats};
use crate::pace::Pacer;
use crate::package::Problem;
use crate::prepare::Update;

/// The longest sleep between two checks of the stop flag and the updates, some of which are live.
const MAX_SLEEP: Duration = Duration::from_millis(10);
/// The shortest sleep while nothing is due.
const MIN_IDLE: Duration = Duration::from_micros(100);
/// Between two looks of a headend on standby at its lease.
const STANDBY_SLEEP: Duration = Duration::from_millis(2);
/// In real time: shorter sleeps cost more than the accuracy is worth.
const MIN_SLEEP_NS: u64 = 5_000;
/// From this rate on packets leave in batches: modulators of satellites take less, and a sleep for each packet would cost more than
/// the packet.
const BATCHED_FROM_BPS: u64 = 100_000_000;
/// Time between two batches: 22 packets at 1 Gbit/s.
const BATCH_NS: u64 = 250_000;
/// Packets of a batch, after which the stop flag and the updates are checked at every rate.
const BATCH_PACKETS: usize = 128;
/// Time between two lines of progress.
const LOG_INTERVAL_NS: u64 = 10_000_000_000;
/// Packets between two reports of progress: counting objects visits all of them.
const PROGRESS_PACKETS: u64 = 1024;
/// Time between two reports of a transmission that continues, however few packets it sends.
const PROGRESS_INTERVAL_NS: u64 = 1_000_000_000;

/// End condition of a transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The stop flag is set; with close flags.
    Stopped {
        /// Or after every object was sent once.
        once: bool,
    },
    /// At a time.
    At {
        /// Nanoseconds from the start.
        ns: u64,
    },
    /// After every object was sent once.
    Cycle,
}

/// Source of updates.
pub trait Updates {
    /// The next update, if there is one.
    ///
    /// # Errors
    /// No update will ever come, since what makes them has failed.
    fn poll(&self) -> Result<Option<Update>, Ended>;
    /// Reports files that were removed because they changed while they were sent, with the numbers of their sources.
    fn report_lost(&self, files: Vec<(usize, String)>);
}

impl Updates for Follower {
    fn poll(&self) -> Result<Option<Update>, Ended> {
        Self::poll(self)
    }

    fn report_lost(&self, files: Vec<(usize, String)>) {
        Self::report_lost(self, files);
    }
}

/// Receiver of progress and problems.
pub trait Observer {
    /// Units (objects or modules) sent, and all of them where known.
    fn progress(&mut self, _done: u64, _all: Option<u64>, _stats: &LineStats, _elapsed: Duration) {}
    /// Counters, every ten seconds.
    fn log(&mut self, _stats: &LineStats, _elapsed: Duration) {}
    /// The changes of a source, by its number, were applied.
    fn followed(&mut self, _source: usize, _followed: UpdateCounts) {}
    /// The condition of a source, by its number, is another. It has so many objects on the air.
    fn condition(&mut self, _source: usize, _condition: Condition, _objects: usize) {}
    /// The problems of the catalogue are different now.
    fn catalogue(&mut self, _problems: &[Problem]) {}
    /// Takes a warning for operators about a source that has come or changed.
    fn warned(&mut self, _warning: &str) {}
    /// An object cannot be sent, with the reason.
    fn left_out(&mut self, _object: &str) {}
}

/// Output of datagrams.
pub trait Output {
    /// Takes one, by its destination, its payload, and the monotonic time in nanoseconds. It may wait for [`flush`](Self::flush).
    ///
    /// # Errors
    /// It, or one before it, cannot be sent.
    fn send(&mut self, destination: SocketAddr, payload: &[u8], now_ns: u64) -> Result<(), String>;

    /// Sends what waits: nothing follows for now.
    ///
    /// # Errors
    /// It cannot be sent.
    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl<F: FnMut(SocketAddr, &[u8], u64) -> Result<(), String>> Output for F {
    fn send(&mut self, destination: SocketAddr, payload: &[u8], now_ns: u64) -> Result<(), String> {
        self(destination, payload, now_ns)
    }
}

/// A transmission that is running.
#[derive(Debug)]
pub struct Transmission {
    broadcast: Broadcast,
    line: Line,
    end: End,
    pacer: Pacer,
    /// The right to send, of several headends with one carousel.
    lease: Option<Lease>,
    followed: UpdateCounts,
    datagrams: u64,
    next_rescan_ns: u64,
    next_refresh_ns: u64,
    next_log_ns: u64,
    next_progress_ns: u64,
}

/// Action after a batch.
enum Next {
    /// Another.
    Goes,
    /// Another, after this many nanoseconds.
    Waits(u64),
    /// Nothing is there to be sent.
    None,
}

impl Transmission {
    /// A transmission that has sent nothing.
    pub fn new(broadcast: Broadcast, line: Line, end: End) -> Self {
        let config = broadcast.config();
        Self {
            end,
            pacer: Pacer::new(config.link.rate_bps, 0),
            lease: None,
            followed: UpdateCounts::default(),
            datagrams: 0,
            next_rescan_ns: config.carousel.rescan_interval_ms * 1_000_000,
            next_refresh_ns: config.carousel.refresh_s.saturating_mul(1_000_000_000),
            next_log_ns: LOG_INTERVAL_NS,
            next_progress_ns: PROGRESS_INTERVAL_NS,
            broadcast,
            line,
        }
    }

    /// Packets are sent only while a lease is held.
    #[must_use]
    pub fn with_lease(self, lease: Option<Lease>) -> Self {
        Self { lease, ..self }
    }

    /// Counters.
    pub fn stats(&self) -> LineStats {
        LineStats { bundles: self.broadcast.bundles(), ..self.line.stats(&self.broadcast.air) }
    }

    /// Sends until the end.
    ///
    /// # Errors
    /// A datagram that cannot be sent, an object that does not fit its session, or sources that are no longer followed.
    pub fn run(
        &mut self,
        clocks: &dyn Clocks,
        stop: &AtomicBool,
        updates: Option<&dyn Updates>,
        observer: &mut dyn Observer,
        output: &mut dyn Output,
    ) -> Result<(), String> {
        let is_live = matches!(self.end, End::Stopped { .. });
        let mut packet = Vec::with_capacity(2048);
        loop {
            let now_ns = clocks.now().as_nanos();
            if self.is_at_end(now_ns) {
                return output.flush();
            }
            if stop.load(Ordering::Relaxed) {
                // Another headend continues with these sessions: they are not closed.
                if let Some(lease) = &mut self.lease {
                    output.flush()?;
                    lease.leave(now_ns, clocks.wall(), &self.broadcast, |duration| clocks.sleep(duration));
                    return Ok(());
                }
                self.broadcast.air.close();
                self.line.close();
            }
            self.do_what_is_due(now_ns, clocks, updates, observer)?;
            // Before the lease is asked, which looks whether every TOI is set aside.
            self.broadcast.release_held()?;
            if let Some(lease) = &mut self.lease
                && !lease.tend(now_ns, clocks.wall(), &mut self.broadcast)?
            {
                // Packets that wait there are sent while the lease under which they were made counts, or dropped.
                output.flush()?;
                clocks.sleep(STANDBY_SLEEP);
                continue;
            }
            match self.send_batch(now_ns, clocks.wall(), &mut packet, observer, output)? {
                Next::Goes => {}
                Next::Waits(wait_ns) => {
                    output.flush()?;
                    clocks.sleep(Duration::from_nanos(wait_ns).min(MAX_SLEEP));
                }
                Next::None => {
                    output.flush()?;
                    if self.line.is_over(&self.broadcast.air) {
                        return Ok(());
                    }
                    let due_ns = self.line.next_due_ns(now_ns, &self.broadcast.air);
                    match due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(now_ns))) {
                        Some(wait) if is_live => clocks.sleep(wait.clamp(MIN_IDLE, MAX_SLEEP)),
                        None if is_live => clocks.sleep(MAX_SLEEP),
                        Some(wait) => clocks.sleep(wait + Duration::from_nanos(1)),
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    /// Sends what may leave at `now_ns`, up to a batch, and says what comes next.
    fn send_batch(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        packet: &mut Vec<u8>,
        observer: &mut dyn Observer,
        output: &mut dyn Output,
    ) -> Result<Next, String> {
        let is_live = matches!(self.end, End::Stopped { .. });
        let min_sleep_ns = if is_live { MIN_SLEEP_NS } else { 0 };
        for _ in 0..BATCH_PACKETS {
            let wait_ns = self.pacer.wait_ns(now_ns);
            if wait_ns > min_sleep_ns {
                let is_batched = is_live && self.pacer.rate_bps() >= BATCHED_FROM_BPS;
                return Ok(Next::Waits(if is_batched { wait_ns.max(BATCH_NS) } else { wait_ns }));
            }
            let Some(departure) = self.line.next(now_ns, wall, &mut self.broadcast.air, packet)? else {
                return Ok(Next::None);
            };
            output.send(departure.destination, packet, now_ns)?;
            self.pacer.sent(departure.link_bytes, now_ns);
            for object in self.line.refused() {
                observer.left_out(&object);
            }
            self.datagrams += 1;
            if self.datagrams.is_multiple_of(PROGRESS_PACKETS) {
                self.report_progress(is_live, now_ns, observer);
            }
        }
        Ok(Next::Goes)
    }

    fn is_at_end(&mut self, now_ns: u64) -> bool {
        match self.end {
            End::Stopped { .. } => false,
            End::At { ns } => now_ns >= ns,
            End::Cycle => self.line.cycle_done(&self.broadcast.air),
        }
    }

    fn report_progress(&self, is_live: bool, now_ns: u64, observer: &mut dyn Observer) {
        let (stats, elapsed) = (self.stats(), Duration::from_nanos(now_ns));
        if is_live {
            observer.progress(stats.sent, None, &stats, elapsed);
        } else {
            let (done, all) = self.line.progress(&self.broadcast.air);
            observer.progress(done as u64, Some(all as u64), &stats, elapsed);
        }
    }

    /// Updates of the sources, new dates in the documents, a line of progress.
    fn do_what_is_due(
        &mut self,
        now_ns: u64,
        clocks: &dyn Clocks,
        updates: Option<&dyn Updates>,
        observer: &mut dyn Observer,
    ) -> Result<(), String> {
        if let Some(updates) = updates {
            // Objects on the air would grow old unnoticed.
            let failed = |Ended| {
                "the thread that follows the sources has failed by a fault of this program, see above; please report it, and \
                 start `headend send` again, as its service does by itself"
            };
            if let Some(update) = updates.poll().map_err(failed)? {
                self.apply(update, clocks, observer)?;
            }
            if now_ns >= self.next_rescan_ns {
                self.next_rescan_ns =
                    now_ns + self.broadcast.config().carousel.rescan_interval_ms * 1_000_000;
                updates.report_lost(self.broadcast.lost());
            }
        }
        if self.end == (End::Stopped { once: false }) && now_ns >= self.next_refresh_ns {
            let refresh_s = self.broadcast.config().carousel.refresh_s;
            self.next_refresh_ns = now_ns + refresh_s.saturating_mul(1_000_000_000);
            self.broadcast.refresh(clocks.wall())?;
        }
        if matches!(self.end, End::Stopped { .. }) && now_ns >= self.next_log_ns {
            self.next_log_ns = now_ns + LOG_INTERVAL_NS;
            observer.log(&self.stats(), Duration::from_nanos(now_ns));
        }
        if matches!(self.end, End::Stopped { .. }) && now_ns >= self.next_progress_ns {
            self.next_progress_ns = now_ns + PROGRESS_INTERVAL_NS;
            self.report_progress(true, now_ns, observer);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        update: Update,
        clocks: &dyn Clocks,
        observer: &mut dyn Observer,
    ) -> Result<(), String> {
        let settled = if let Update::Settled { source } = update { Some(source) } else { None };
        if let Update::Condition { source, condition } = update {
            observer.condition(source, condition, self.broadcast.objects_of(source));
            return Ok(());
        }
        if let Update::Catalog(made) = &update
            && made.problems != self.broadcast.catalog().problems
        {
            observer.catalogue(&made.problems);
        }
        let step = self.broadcast.apply(update, clocks.wall())?;
        for warning in self.broadcast.take_warnings() {
            observer.warned(&warning.to_string());
        }
        self.followed = self.followed.and(step);
        if let Some(source) = settled {
            observer.followed(source, std::mem::take(&mut self.followed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
