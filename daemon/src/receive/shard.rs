//! Shard: one receive thread with its sockets and their sessions.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ReceiveContext;
use super::command::Command;
use super::finishing::Finishing;
use super::intake::{Intake, RepairQueue};
use crate::clock;
use crate::delivery::{Options, RuleBook, SessionFilter};
use crate::source::{Batch, Poll, ReceiveSocket, SourceError, Waker};
use crate::vitals::{self, Sign, Vitals};

/// Capacity of a shard's command queue. Repair sends pieces of 256 KiB and waits when it is full.
const COMMANDS: usize = 256;
/// Interval at which statistics are published.
const TICK: Duration = Duration::from_millis(500);
/// Shortest wait for packets while nothing else is due; also the resolution of repair timers.
const LEAST_WAIT: Duration = Duration::from_millis(10);
/// Batches read from one socket before the next one is read.
const TURN: usize = 4;

/// The shard of a group's sockets: constant while the daemon runs.
pub fn shard_of(address: &SocketAddr, shards: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    usize::try_from(hasher.finish() % shards.max(1) as u64).unwrap_or(0)
}

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle {
    commands: SyncSender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl ShardHandle {
    /// A handle for sending it commands.
    pub fn sender(&self) -> ShardSender {
        ShardSender { commands: self.commands.clone(), waker: self.waker.clone() }
    }

    /// Stops the shard and waits for its end.
    pub fn stop(mut self) {
        self.sender().send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic was reported on stderr.
            let _ = thread.join();
        }
    }
}

/// Sends commands to a shard.
#[derive(Debug, Clone)]
pub struct ShardSender {
    commands: SyncSender<Command>,
    waker: Waker,
}

impl ShardSender {
    /// Sends a command without waiting. False if the shard is too busy, or has ended.
    pub fn try_send(&self, command: Command) -> bool {
        let is_sent = self.commands.try_send(command).is_ok();
        self.waker.wake();
        is_sent
    }

    /// Sends a command; waits while the shard is busy. False if it has ended.
    pub fn send(&self, command: Command) -> bool {
        let is_sent = self.commands.send(command).is_ok();
        self.waker.wake();
        is_sent
    }
}

/// A sender without a shard, and the receiver of its commands.
#[cfg(test)]
pub(crate) fn channel() -> (ShardSender, mpsc::Receiver<Command>) {
    let (commands, received) = sync_channel(COMMANDS);
    (ShardSender { commands, waker: Poll::new().expect("a descriptor").waker() }, received)
}

struct Listening {
    socket: ReceiveSocket,
    filter: SessionFilter,
    dropped: u32,
}

/// See the module head of `receive`.
pub struct Shard {
    intake: Intake,
    number: usize,
    sign: Arc<Sign>,
    sockets: HashMap<u64, Listening>,
    expected: Arc<HashMap<SocketAddr, SessionFilter>>,
    next_token: u64,
    poll: Poll,
    batch: Batch,
    commands: mpsc::Receiver<Command>,
}

impl Shard {
    /// Starts a shard without sockets.
    ///
    /// # Errors
    /// If no thread or descriptor is available.
    pub fn start(
        number: usize,
        context: ReceiveContext,
        vitals: &Vitals,
        options: Options,
        rules: Arc<RuleBook>,
        finishing: &Finishing,
        repairs: RepairQueue,
    ) -> io::Result<ShardHandle> {
        let poll = Poll::new()?;
        let waker = poll.waker();
        let (commands, heard) = sync_channel(COMMANDS);
        let mut intake = Intake::new(context, options, rules, Some(finishing.queue()));
        intake.repairs = Some(repairs);
        let sender = ShardSender { commands: commands.clone(), waker: waker.clone() };
        intake.reply_to(move |answer| {
            sender.send(answer);
        });
        let shard = Self {
            intake,
            number,
            sign: vitals.watch(format!("receive-{number}"), clock::now()),
            sockets: HashMap::new(),
            expected: Arc::default(),
            next_token: 0,
            poll,
            batch: Batch::default(),
            commands: heard,
        };
        let thread = vitals::start(&format!("receive-{number}"), move || shard.run())?;
        Ok(ShardHandle { commands, waker, thread: Some(thread) })
    }

    fn run(mut self) {
        let (mut next_tick, mut tokens) = (clock::now() + TICK, Vec::new());
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                        self.intake.checkpoint(clock::now());
                        return;
                    }
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            let now = clock::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.sign.give(now);
                self.intake.publish_stats(self.number);
            }
            self.intake.tick(now);
            let next = self.intake.next_tick().min(next_tick);
            match self.poll.wait(next.since(clock::now()).max(LEAST_WAIT)) {
                Ok(ready) => tokens.extend_from_slice(ready),
                Err(err) => {
                    // Reception is impossible without it.
                    panic!("waiting for packets failed: {err}");
                }
            }
            for token in tokens.drain(..) {
                self.read(token);
            }
        }
    }

    fn read(&mut self, token: u64) {
        let Some(listening) = self.sockets.get_mut(&token) else { return };
        let destination = listening.socket.group().address;
        for _ in 0..TURN {
            let now = clock::now();
            let intake = &mut self.intake;
            let filter = &listening.filter;
            let read = self.batch.read(&listening.socket, |source, payload| {
                intake.datagram(now, source, destination, filter, payload);
            });
            self.intake.end_batch();
            match read {
                Ok(received) => {
                    if let Some(dropped) = received.dropped {
                        self.intake.kernel_drops(dropped.wrapping_sub(listening.dropped).into());
                        listening.dropped = dropped;
                    }
                    if !received.more {
                        return;
                    }
                }
                Err(err) => {
                    tracing::warn!(group = %listening.socket.group(), %err, "reading failed");
                    return;
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open(socket, filter) => {
                let token = self.next_token;
                self.next_token += 1;
                match self.poll.add(&socket, token) {
                    Ok(()) => {
                        tracing::info!(group = %socket.group(), buffer_bytes = socket.buffer_bytes(), "listening");
                        self.sockets.insert(token, Listening { socket, filter, dropped: 0 });
                    }
                    Err(error) => {
                        let err = SourceError { group: socket.group().clone(), step: "epoll", error };
                        tracing::error!("{err}");
                    }
                }
            }
            Command::Change(group, filter) => {
                let mut is_other_trust = false;
                for listening in self.sockets.values_mut().filter(|it| *it.socket.group() == group) {
                    is_other_trust |= listening.filter.trust != filter.trust;
                    listening.filter = filter.clone();
                }
                // Objects accepted under another rule are received again.
                if is_other_trust {
                    self.intake.close_sessions(clock::now(), |key| key.destination != group.address);
                }
            }
            Command::Close(group) => {
                tracing::info!(%group, "no longer listening");
                self.sockets.retain(|_, listening| *listening.socket.group() != group);
                self.intake.close_sessions(clock::now(), |key| key.destination != group.address);
            }
            Command::Leave(group) => {
                self.sockets.retain(|_, listening| *listening.socket.group() != group);
            }
            Command::Expect(expected) => {
                let before = std::mem::replace(&mut self.expected, expected);
                let (expected, sockets) = (&self.expected, &self.sockets);
                let same_trust = |address: &SocketAddr, filter: &SessionFilter| {
                    before.get(address).is_none_or(|before| before.trust == filter.trust)
                };
                self.intake.close_sessions(clock::now(), |key| {
                    expected.get(&key.destination).is_some_and(|it| same_trust(&key.destination, it))
                        || sockets.values().any(|it| it.socket.group().address == key.destination)
                });
            }
            Command::Air(batch) => {
                let now = clock::now();
                for (source, destination, payload) in batch.iter() {
                    match self.expected.get(&destination) {
                        Some(filter) => self.intake.datagram(now, source, destination, filter, payload),
                        None => self.intake.other_group(),
                    }
                }
                self.intake.end_batch();
            }
            Command::Describe(described) => self.intake.describe_routes(clock::now(), described),
            Command::Stop => {}
            object => self.intake.object_command(clock::now(), object),
        }
    }
}
