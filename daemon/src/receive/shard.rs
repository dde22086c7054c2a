//! One thread, its sockets, their sessions.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use super::command::{Command, Listen};
use super::intake::{Intake, Troubles};
use crate::clock;
use crate::source::{Batch, Poll, ReceiveSocket, SourceError, Waker};

/// Commands waiting for a shard. Repair sends pieces of 256 KiB and waits when it is full.
const COMMANDS: usize = 256;
/// How often timeouts are looked at and statistics published.
const TICK: Duration = Duration::from_millis(500);
/// Batches read of one socket before the others have their turn.
const TURN: usize = 4;

/// The shard that has the sockets of this group: the same for as long as the daemon runs.
pub fn shard_of(address: &SocketAddr, shards: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    usize::try_from(hasher.finish() % shards.max(1) as u64).unwrap_or(0)
}

/// A shard's ear.
#[derive(Debug)]
pub struct ShardHandle {
    commands: SyncSender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl ShardHandle {
    /// Tells the shard something; waits while it is busy. False if the shard has ended.
    pub fn tell(&self, command: Command) -> bool {
        let told = self.commands.send(command).is_ok();
        self.waker.wake();
        told
    }

    /// A second ear.
    pub fn ear(&self) -> Ear {
        Ear { commands: self.commands.clone(), waker: self.waker.clone() }
    }

    /// Stops the shard and waits for its end.
    pub fn stop(mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A shard that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// Tells a shard something from elsewhere.
#[derive(Debug, Clone)]
pub struct Ear {
    commands: SyncSender<Command>,
    waker: Waker,
}

impl Ear {
    /// Tells the shard something without waiting. False if it is too busy, or has ended.
    pub fn offer(&self, command: Command) -> bool {
        let told = self.commands.try_send(command).is_ok();
        self.waker.wake();
        told
    }

    /// As [`ShardHandle::tell`].
    pub fn tell(&self, command: Command) -> bool {
        let told = self.commands.send(command).is_ok();
        self.waker.wake();
        told
    }
}

struct Listening {
    socket: ReceiveSocket,
    listen: Listen,
    dropped: u32,
}

/// See the module head of `receive`.
pub struct Shard {
    intake: Intake,
    number: usize,
    sockets: HashMap<u64, Listening>,
    expected: Arc<HashMap<SocketAddr, Listen>>,
    next_token: u64,
    poll: Poll,
    batch: Batch,
    commands: mpsc::Receiver<Command>,
}

impl Shard {
    /// Starts a shard without sockets.
    ///
    /// # Errors
    /// If no thread or descriptor is to be had.
    pub fn start(
        number: usize,
        shared: Arc<Shared>,
        default_timeout: Duration,
        finisher: &super::Finisher,
        troubles: Troubles,
    ) -> io::Result<ShardHandle> {
        let poll = Poll::new()?;
        let waker = poll.waker();
        let (commands, heard) = sync_channel(COMMANDS);
        let mut intake = Intake::new(shared, default_timeout, finisher.queue());
        intake.troubles = Some(troubles);
        let shard = Self {
            intake,
            number,
            sockets: HashMap::new(),
            expected: Arc::default(),
            next_token: 0,
            poll,
            batch: Batch::default(),
            commands: heard,
        };
        let thread =
            std::thread::Builder::new().name(format!("receive-{number}")).spawn(move || shard.run())?;
        Ok(ShardHandle { commands, waker, thread: Some(thread) })
    }

    fn run(mut self) {
        let mut next_tick = clock::now() + TICK;
        let vitals = &self.intake.shared.vitals;
        let sign = vitals.watch(format!("receive-{}", self.number), clock::now());
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                        self.intake.checkpoint(clock::now(), true);
                        return;
                    }
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            let now = clock::now();
            if now >= next_tick {
                next_tick = now + TICK;
                sign.give(now);
                self.intake.tick(now);
                self.intake.publish_stats(self.number);
            }
            let tokens = match self.poll.wait(next_tick.since(clock::now()).max(super::finish::LAST_TICK)) {
                Ok(tokens) => tokens.to_vec(),
                Err(err) => {
                    tracing::error!(%err, "waiting for packets failed");
                    return;
                }
            };
            for token in tokens {
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
            let listen = &listening.listen;
            let read = self.batch.read(&listening.socket, |source, payload| {
                intake.datagram(now, source, destination, listen, payload);
            });
            self.intake.end_batch();
            match read {
                Ok(received) => {
                    if let Some(dropped) = received.dropped {
                        self.intake.losses.kernel_drops += u64::from(dropped.wrapping_sub(listening.dropped));
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
            Command::Open(socket, listen) => {
                let token = self.next_token;
                self.next_token += 1;
                match self.poll.add(&socket, token) {
                    Ok(()) => {
                        tracing::info!(group = %socket.group(), buffer_bytes = socket.buffer_bytes(), "listening");
                        self.sockets.insert(token, Listening { socket, listen, dropped: 0 });
                    }
                    Err(error) => {
                        let err = SourceError { group: socket.group().clone(), step: "epoll", error };
                        tracing::error!("{err}");
                    }
                }
            }
            Command::Change(group, listen) => {
                for listening in self.sockets.values_mut().filter(|it| *it.socket.group() == group) {
                    listening.listen = listen.clone();
                }
            }
            Command::Close(group) => {
                tracing::info!(%group, "no longer listening");
                self.sockets.retain(|_, listening| *listening.socket.group() != group);
                self.intake.sessions.extract(|key, _| key.destination != group.address);
            }
            Command::Expect(expected) => {
                self.expected = expected;
                let (expected, sockets) = (&self.expected, &self.sockets);
                self.intake.sessions.extract(|key, _| {
                    expected.contains_key(&key.destination)
                        || sockets.values().any(|it| it.socket.group().address == key.destination)
                });
            }
            Command::Air(batch) => {
                let now = clock::now();
                for (source, destination, payload) in batch.iter() {
                    match self.expected.get(&destination) {
                        Some(listen) => self.intake.datagram(now, source, destination, listen, payload),
                        None => self.intake.losses.other_group += 1,
                    }
                }
                self.intake.end_batch();
            }
            Command::Stop => {}
            object => self.intake.object_command(object),
        }
    }
}
