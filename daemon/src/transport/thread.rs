//! Threads of the transport streams, one for each: open the input, read it, reopen it after a failure or a loss of lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use carousel::multiplex::wrapping::Unit;
use carousel::time::Instant;
use carousel::trust::Trust;
use carousel::ts::Pid;

use super::feed::Feed;
use super::forward::Forward;
use super::input::{self, Input, InputError, Read};
use super::modules::ModuleMemory;
use super::options::TransportStream;
use super::stats::{StreamState, TransportStats};
use crate::clock;
use crate::manifests::Manifests;
use crate::receive::{ReceiveStats, ShardSender};
use crate::store::Store;
use crate::vitals::{self, Vitals};

/// Interval at which state is published, and PIDs and signal are checked.
const LOOK: Duration = Duration::from_millis(1000);
/// Interval between attempts to open an input.
const RETRY: Duration = Duration::from_secs(5);
/// Time without lock after which the tuner is tuned again.
const RETUNE: Duration = Duration::from_secs(5);
/// Maximum passes over a recording. It may be read faster than the announced groups are joined, and is repeated while
/// datagrams of unjoined groups occur.
const PASSES: u32 = 4;
/// Pause between passes, in which groups are joined and shards publish their counters (twice a second).
const SETTLE: Duration = Duration::from_millis(1000);
/// Interval at which a waiting thread checks its stop flag.
const NAP: Duration = Duration::from_millis(100);

/// Parts of the daemon that the threads use. Clones share it.
#[derive(Debug, Clone)]
pub struct TransportContext {
    /// The cache.
    pub store: Store,
    /// Facts of the manifests in the cache.
    pub manifests: Arc<Manifests>,
    /// Counters of reception: objects completed, datagrams of groups that are not received.
    pub receive_stats: Arc<ReceiveStats>,
    /// Required trust of carousels.
    pub trust: Arc<Trust>,
    /// State of all streams, published by their threads.
    pub stats: Arc<TransportStats>,
    /// Signs of life of the threads.
    pub vitals: Arc<Vitals>,
    /// The shards, by number.
    pub shards: Vec<ShardSender>,
    /// Interface for groups: name or IPv4 address; empty: the system's choice.
    pub interface: String,
    /// Requested socket buffer.
    pub socket_buffer_bytes: usize,
    /// Memory of modules, which the streams share.
    pub modules: ModuleMemory,
    /// Most memory of the directories of one carousel.
    pub carousel_bytes: usize,
}

/// The threads of all streams.
#[derive(Debug)]
pub struct TransportThread {
    context: TransportContext,
    running: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    stream: TransportStream,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl TransportThread {
    /// Starts a thread for each of `streams`.
    ///
    /// # Errors
    /// If a thread cannot be created.
    pub fn start(context: TransportContext, streams: &[TransportStream]) -> std::io::Result<Self> {
        let mut threads = Self { context, running: BTreeMap::new() };
        threads.set(streams)?;
        Ok(threads)
    }

    /// Replaces the set of streams: threads of unchanged ones continue.
    ///
    /// # Errors
    /// If a thread cannot be created.
    pub fn set(&mut self, streams: &[TransportStream]) -> std::io::Result<()> {
        let stays = |running: &Running| streams.contains(&running.stream);
        let gone: Vec<String> =
            self.running.iter().filter(|(_, it)| !stays(it)).map(|(from, _)| from.clone()).collect();
        for from in gone {
            if let Some(running) = self.running.remove(&from) {
                end(vec![running]);
                self.context.stats.remove(&from);
            }
        }
        for stream in streams {
            let from = stream.from.to_string();
            if self.running.contains_key(&from) {
                continue;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let (context, own, own_stop) = (self.context.clone(), stream.clone(), Arc::clone(&stop));
            let thread =
                std::thread::Builder::new().name(format!("ts-{}", self.running.len())).spawn(move || {
                    let name = format!("transport {}", own.from);
                    vitals::essential(&name, || run(&context, &own, &own_stop));
                })?;
            self.running.insert(from, Running { stream: stream.clone(), stop, thread });
        }
        Ok(())
    }

    /// Ends all threads.
    pub fn stop(self) {
        end(self.running.into_values().collect());
    }
}

fn end(all: Vec<Running>) {
    for running in &all {
        running.stop.store(true, Ordering::Relaxed);
    }
    for running in all {
        // A panic was reported on stderr.
        let _ = running.thread.join();
    }
}

fn run(context: &TransportContext, stream: &TransportStream, stop: &AtomicBool) {
    let from = stream.from.to_string();
    let TransportContext { store, manifests, receive_stats, trust, .. } = context;
    let (manifests, receive_stats) = (Arc::clone(manifests), Arc::clone(receive_stats));
    let mut feed = Feed::new(store.clone(), manifests, receive_stats, Arc::clone(trust), stream.base.clone())
        .within(context.modules.clone(), context.carousel_bytes)
        .with_software_updates(stream.software_updates.clone());
    let mut forward = Forward::new(context.shards.clone());
    let mut state = StreamState::default();
    let sign = context.vitals.watch(format!("transport {from}"), clock::now());
    let mut wait_until = Instant::from_nanos(0);
    let mut passes = 0;
    while !stop.load(Ordering::Relaxed) {
        sign.give(clock::now());
        if clock::now() < wait_until {
            clock::sleep(NAP);
            continue;
        }
        let before = untaken(context, &forward);
        let opened = input::open(stream, &context.interface, context.socket_buffer_bytes);
        let result = opened.and_then(|mut input| {
            tracing::info!(from, "receiving a transport stream");
            state.opened += 1;
            state.error = None;
            feed.reset();
            let turn =
                Turn { feed: &mut feed, forward: &mut forward, state: &mut state, context, from: &from };
            turn.read(input.as_mut(), stop, &sign)
        });
        feed.report(&mut state);
        match result {
            Ok(()) => {
                // A recording is over.
                context.stats.set(&from, state.clone());
                passes += 1;
                clock::sleep(SETTLE);
                if passes < PASSES && untaken(context, &forward) > before {
                    continue;
                }
                while !stop.load(Ordering::Relaxed) {
                    sign.give(clock::now());
                    clock::sleep(NAP);
                }
            }
            Err(err) => {
                let why = err.to_string();
                if state.error.as_ref() != Some(&why) {
                    if err.can_retry() {
                        tracing::error!(from, "{why}; trying again every {} s", RETRY.as_secs());
                    } else {
                        tracing::error!(from, "{why}; [[transport_stream]] must be changed");
                    }
                }
                state.error = Some(why);
                context.stats.set(&from, state.clone());
                wait_until = clock::now() + RETRY;
            }
        }
    }
}

/// Datagrams for groups that were not joined, or for which shards had no room.
fn untaken(context: &TransportContext, forward: &Forward) -> u64 {
    context.receive_stats.losses().other_group + forward.lost()
}

/// One opened input.
struct Turn<'a> {
    feed: &'a mut Feed,
    forward: &'a mut Forward,
    state: &'a mut StreamState,
    context: &'a TransportContext,
    from: &'a str,
}

impl Turn<'_> {
    /// Reads until the input ends (`Ok`), fails, or `stop`.
    fn read(
        mut self,
        input: &mut dyn Input,
        stop: &AtomicBool,
        sign: &vitals::Sign,
    ) -> Result<(), InputError> {
        let mut next_look = clock::now();
        let mut pids: Vec<Pid> = Vec::new();
        let mut lock = Lock::default();
        while !stop.load(Ordering::Relaxed) {
            let (feed, forward) = (&mut *self.feed, &mut *self.forward);
            let read = input.read(&mut |unit| match unit {
                Unit::Packet(packet) => feed.packet(packet, forward),
                Unit::Frame(frame) => feed.frame(frame, forward),
            })?;
            self.forward.flush();
            let now = clock::now();
            if read == Read::End {
                return Ok(());
            }
            if now < next_look {
                continue;
            }
            next_look = now + LOOK;
            sign.give(now);
            self.feed.tick();
            let wanted = self.feed.pids();
            if wanted != pids {
                input.want(&wanted)?;
                pids = wanted;
            }
            self.check_signal(input, now, &mut lock)?;
            self.state.shard_full = self.forward.lost();
            self.feed.report(self.state);
            if let Some(unwrap) = input.unwrap() {
                self.state.unwrapped(unwrap);
            }
            self.context.stats.set(self.from, self.state.clone());
        }
        Ok(())
    }

    /// Reacts to the signal: counts losses of lock, retunes.
    fn check_signal(
        &mut self,
        input: &mut dyn Input,
        now: Instant,
        lock: &mut Lock,
    ) -> Result<(), InputError> {
        self.state.signal = input.signal();
        let Some(signal) = self.state.signal else { return Ok(()) };
        match lock.update(signal.locked, now) {
            Verdict::Steady => {}
            Verdict::Lost => {
                self.state.lock_losses += 1;
                tracing::warn!(from = self.from, "lock is lost");
            }
            Verdict::Back => {
                tracing::info!(from = self.from, "lock is back");
                self.feed.reset();
            }
            Verdict::Retune => input.retune()?,
        }
        Ok(())
    }
}

/// State of a tuner's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Unchanged.
    Steady,
    /// Lock was lost.
    Lost,
    /// Lock was gained.
    Back,
    /// No lock for [`RETUNE`].
    Retune,
}

/// Monitor of a tuner's lock.
#[derive(Debug, Default)]
struct Lock {
    was_locked: bool,
    away_since: Option<Instant>,
}

impl Lock {
    fn update(&mut self, is_locked: bool, now: Instant) -> Verdict {
        let was_locked = std::mem::replace(&mut self.was_locked, is_locked);
        if is_locked {
            self.away_since = None;
            return if was_locked { Verdict::Steady } else { Verdict::Back };
        }
        let since = *self.away_since.get_or_insert(now);
        if now.since(since) >= RETUNE {
            self.away_since = Some(now);
            return Verdict::Retune;
        }
        if was_locked { Verdict::Lost } else { Verdict::Steady }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_that_is_lost_is_waited_for_then_sought_again() {
        let mut lock = Lock::default();
        let mut update = |is_locked: bool, seconds: u64| {
            lock.update(is_locked, Instant::from_nanos(seconds * 1_000_000_000))
        };
        assert_eq!(
            [update(false, 0), update(true, 1), update(true, 2)],
            [Verdict::Steady, Verdict::Back, Verdict::Steady]
        );
        assert_eq!(
            [update(false, 3), update(false, 7), update(false, 8)],
            [Verdict::Lost, Verdict::Steady, Verdict::Retune]
        );
        assert_eq!(
            [update(false, 9), update(false, 13), update(true, 14)],
            [Verdict::Steady, Verdict::Retune, Verdict::Back]
        );
    }
}
