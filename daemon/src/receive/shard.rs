//! One thread, its sockets, their sessions.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use carousel::alc::Packet;
use carousel::flute::{Event, File, Receiver, ReceiverConfig, SessionKey, Sessions};
use carousel::lct::{Toi, Tsi};
use carousel::time::{Instant, WallTime};

use super::finish::Whole;
use super::shelf::{ObjectSpace, Shelf, is_signalling, known};
use super::{LossCounters, ObjectRef, SessionStats, Shared};
use crate::clock;
use crate::flight::{Announced, Carried, Flight};
use crate::source::{Batch, GroupSpec, Poll, ReceiveSocket, SourceError, Waker};

/// Commands waiting for a shard. Repair sends pieces of 256 KiB and waits when it is full.
const COMMANDS: usize = 256;
/// How often timeouts are looked at and statistics published.
const TICK: Duration = Duration::from_millis(500);
/// Batches read of one socket before the others have their turn.
const TURN: usize = 4;

/// What others tell a shard.
#[derive(Debug)]
pub enum Command {
    /// Listen to this.
    Open(ReceiveSocket, Listen),
    /// What is listened to on a group has changed: TSIs or repair rules.
    Change(GroupSpec, Listen),
    /// Stop listening.
    Close(GroupSpec),
    /// Wrong bytes were handed out, or they were lost: receive it again.
    Reject(ObjectRef),
    /// Bytes from an origin.
    Repair(ObjectRef, u64, Vec<u8>),
    /// The object came whole another way.
    Hold(ObjectRef),
    /// Stop.
    Stop,
}

/// What is wanted of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listen {
    /// TSIs with their reception timeout; `None` in the list: every TSI.
    pub sessions: Vec<(Option<u64>, Option<Duration>)>,
}

impl Listen {
    fn wants(&self, tsi: Tsi) -> bool {
        self.sessions.iter().any(|(want, _)| want.is_none_or(|want| want == tsi.0))
    }

    fn reception_timeout(&self, tsi: Tsi) -> Option<Duration> {
        let exact = self.sessions.iter().find(|(want, _)| *want == Some(tsi.0));
        exact
            .or_else(|| self.sessions.iter().find(|(want, _)| want.is_none()))
            .and_then(|(_, timeout)| *timeout)
    }
}

/// What a shard tells repair.
#[derive(Debug)]
pub enum Trouble {
    /// An object has stalled; its flight knows what is missing.
    Stalled(Arc<Flight>),
    /// The session was closed and nothing of this object has come.
    Unseen(Carried),
}

/// The way to repair.
type Troubles = tokio::sync::mpsc::Sender<Trouble>;

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
    pub(super) core: Core,
    number: usize,
    sockets: HashMap<u64, Listening>,
    next_token: u64,
    poll: Poll,
    batch: Batch,
    commands: mpsc::Receiver<Command>,
}

/// The part of a shard that knows no socket: `replay` drives it too.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: Sessions<ObjectSpace>,
    pub(super) losses: LossCounters,
    pub(super) default_timeout: Duration,
    pub(super) wholes: SyncSender<Whole>,
    pub(super) troubles: Option<Troubles>,
    /// The date, for what expires; a recording has none.
    pub(super) wall: fn() -> Option<WallTime>,
    /// [`crate::store::Store::losses`] when the receivers were last told.
    pub(super) store_losses: u64,
}

impl Core {
    /// Takes one datagram.
    #[inline]
    pub(super) fn datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        listen: &Listen,
        payload: &[u8],
    ) {
        self.losses.datagrams += 1;
        self.losses.bytes += payload.len() as u64;
        let Ok(packet) = Packet::parse(payload) else {
            self.losses.not_alc += 1;
            return;
        };
        let tsi = packet.lct.tsi.unwrap_or(Tsi(0));
        if !listen.wants(tsi) {
            self.losses.other_tsi += 1;
            return;
        }
        let key = SessionKey { source: source.ip(), destination, tsi };
        let default_timeout = self.default_timeout;
        let config = |key: &SessionKey| ReceiverConfig {
            reception_timeout: listen.reception_timeout(key.tsi).unwrap_or(default_timeout),
            ..ReceiverConfig::default()
        };
        let Some(receiver) = self.sessions.get_or_open(key, config) else {
            self.losses.too_many_sessions += 1;
            return;
        };
        let wall = if packet.lct.toi == Some(Toi::FDT) { (self.wall)() } else { None };
        let mut shelf = Shelf { shared: &self.shared, session: key };
        receiver.handle_packet(now, wall, &packet, payload, &mut shelf);
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Complete { file, buf, repaired_symbols } => {
                    let toi = file.toi;
                    let whole = Whole { session: key, file, space: buf, repaired_symbols };
                    if self.wholes.try_send(whole).is_err() {
                        self.losses.finisher_full += 1;
                        receiver.reject(toi);
                    }
                }
                other => {
                    let mut missing = Vec::new();
                    if matches!(other, Event::SessionClosed) {
                        missing.extend(receiver.unseen().cloned());
                    }
                    if let Event::Stalled { toi } = &other
                        && let Some(flight) = flight_of(receiver, *toi)
                    {
                        tell(self.troubles.as_ref(), Trouble::Stalled(Arc::clone(flight)));
                    }
                    rare_event(&self.shared, self.troubles.as_ref(), key, &other, missing);
                }
            }
        }
    }

    /// Looks at what time has done.
    pub(super) fn tick(&mut self, now: Instant) {
        self.forget_lost();
        let wall = (self.wall)();
        for (_, receiver) in self.sessions.iter_mut() {
            receiver.handle_timeout(now, wall);
            while let Some(event) = receiver.poll_event() {
                if let Event::Stalled { toi } = event
                    && let Some(flight) = flight_of(receiver, toi)
                {
                    tell(self.troubles.as_ref(), Trouble::Stalled(Arc::clone(flight)));
                }
            }
        }
    }

    /// What the cache has lost is received again when it comes round.
    fn forget_lost(&mut self) {
        let losses = self.shared.store.losses();
        if std::mem::replace(&mut self.store_losses, losses) == losses {
            return;
        }
        let shared = &self.shared;
        for (key, receiver) in self.sessions.iter_mut() {
            receiver.forget_unless(|file| {
                is_signalling(file)
                    || shared
                        .key_of(key, &file.content_location)
                        .is_ok_and(|object| shared.store.contains(object.as_str()))
            });
        }
    }

    /// Does what somebody else asks of an object.
    pub(super) fn object_command(&mut self, command: Command) {
        let (Command::Reject(object) | Command::Hold(object) | Command::Repair(object, ..)) = &command else {
            return;
        };
        let ObjectRef { session, toi } = *object;
        let Some(receiver) = self.sessions.get_mut(&session) else { return };
        match &command {
            Command::Reject(_) => receiver.reject(toi),
            Command::Hold(_) => receiver.hold(toi),
            Command::Repair(_, offset, bytes) => {
                receiver.repair(toi, *offset, bytes);
            }
            _ => return,
        }
        while let Some(event) = receiver.poll_event() {
            if let Event::Complete { file, buf, repaired_symbols } = event {
                let whole = Whole { session, file, space: buf, repaired_symbols };
                if self.wholes.try_send(whole).is_err() {
                    self.losses.finisher_full += 1;
                    receiver.reject(toi);
                }
            }
        }
        if let Some(flight) = flight_of(receiver, toi) {
            flight.progress();
        }
    }

    /// The statistics as they are now.
    pub(super) fn publish_stats(&self, number: usize) {
        let sessions: BTreeMap<SessionKey, SessionStats> = self
            .sessions
            .iter()
            .map(|(key, receiver)| {
                let stats = SessionStats {
                    receiver: receiver.stats().clone(),
                    in_flight: receiver.in_flight().count(),
                    described: receiver.table().len(),
                };
                (*key, stats)
            })
            .collect();
        self.shared.stats.set(number, self.losses, sessions);
    }
}

/// The flight that players see of an object under reassembly.
fn flight_of(receiver: &Receiver<ObjectSpace>, toi: Toi) -> Option<&Arc<Flight>> {
    match receiver.object(toi)?.buf() {
        ObjectSpace::File(space) => space.flight.as_ref(),
        ObjectSpace::Memory(_) => None,
    }
}

fn tell(troubles: Option<&Troubles>, trouble: Trouble) {
    // A full queue loses only haste: the object stalls again, or the carousel brings it.
    if let Some(troubles) = troubles {
        let _ = troubles.try_send(trouble);
    }
}

fn rare_event(
    shared: &Arc<Shared>,
    troubles: Option<&Troubles>,
    session: SessionKey,
    event: &Event<ObjectSpace>,
    missing: Vec<Arc<File>>,
) {
    match event {
        Event::Fdt { new_files, instance_id, .. } => {
            tracing::debug!(session = %session.destination, tsi = session.tsi.0, instance_id, files = new_files.len(), "new FDT Instance");
            for file in new_files.iter().filter(|file| !is_signalling(file)) {
                let Ok(key) = shared.key_of(&session, &file.content_location) else {
                    tracing::warn!(name = %file.content_location.escape_debug(), "an object whose name cannot be used is left out");
                    continue;
                };
                let (digest, length) = known(file);
                let version = u64::try_from(file.toi.0).unwrap_or(0);
                if !shared.store.holds(key.as_str(), digest, length.unwrap_or(0), version) {
                    let content_type = file.content_type.clone();
                    shared.flights.announce(key, Announced { digest, length, content_type, version });
                }
            }
        }
        Event::SessionClosed => {
            tracing::info!(session = %session.destination, tsi = session.tsi.0, "the sender closed the session");
            for file in missing.into_iter().filter(|file| !is_signalling(file)) {
                let object = ObjectRef { session, toi: file.toi };
                tell(troubles, Trouble::Unseen(Carried { object, file }));
            }
        }
        _ => {}
    }
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
        let core = Core {
            shared,
            sessions: Sessions::default(),
            losses: LossCounters::default(),
            default_timeout,
            wholes: finisher.queue(),
            troubles: Some(troubles),
            wall: clock::trusted_wall,
            store_losses: 0,
        };
        let shard = Self {
            core,
            number,
            sockets: HashMap::new(),
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
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            let now = clock::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.core.tick(now);
                self.core.publish_stats(self.number);
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
            let core = &mut self.core;
            let listen = &listening.listen;
            let read = self.batch.read(&listening.socket, |source, payload| {
                core.datagram(now, source, destination, listen, payload);
            });
            match read {
                Ok(received) => {
                    if let Some(dropped) = received.dropped {
                        self.core.losses.kernel_drops += u64::from(dropped.wrapping_sub(listening.dropped));
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
                self.core.sessions.retain(|key, _| key.destination != group.address);
            }
            Command::Stop => {}
            object => self.core.object_command(object),
        }
    }
}
