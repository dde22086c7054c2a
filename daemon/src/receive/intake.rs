//! From one datagram to symbols in their place: what a shard does, without its sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use carousel::alc::Packet;
use carousel::flute::{Event, InFlight, Receiver, ReceiverConfig, SessionKey, Sessions};
use carousel::lct::{Toi, Tsi};
use carousel::time::{Instant, WallTime};

use super::behind::WriteBehind;
use super::command::{Command, Listen};
use super::finish::{Block, Whole, Wholes, Work};
use super::shelf::{ObjectSpace, Shelf, is_signalling};
use super::{LossCounters, ObjectRef, SessionStats, Shared};
use crate::clock;
use crate::delivery::{Announced, Carried, Flight};

/// What a shard tells repair.
#[derive(Debug)]
pub enum Trouble {
    /// An object has stalled; its flight knows what is missing.
    Stalled(Arc<Flight>),
    /// The session was closed and nothing of this object has come.
    Unseen(Carried),
}

/// The way to repair.
pub(super) type Troubles = tokio::sync::mpsc::Sender<Trouble>;

/// Takes datagrams, from wherever: a shard's sockets, a recording, a benchmark's memory.
pub struct Intake {
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: Sessions<ObjectSpace>,
    pub(super) losses: LossCounters,
    pub(super) default_timeout: Duration,
    pub(super) finisher: SyncSender<Work>,
    pub(super) troubles: Option<Troubles>,
    /// The date, for what expires; a recording has none.
    pub(super) wall: fn() -> Option<WallTime>,
    /// [`crate::store::Store::losses`] when the receivers were last told.
    pub(super) store_losses: u64,
    behind: WriteBehind,
    next_checkpoint: Instant,
}

/// How often what has arrived of large objects is made to survive a power cut: what a cut costs at most, against a sync of
/// the disk.
const CHECKPOINT: Duration = Duration::from_secs(30);

impl Intake {
    /// An intake that has received nothing, and tells nobody of troubles.
    pub fn new(shared: Arc<Shared>, default_timeout: Duration, wholes: Wholes) -> Self {
        Self {
            shared,
            sessions: Sessions::default(),
            losses: LossCounters::default(),
            default_timeout,
            finisher: wholes.0,
            troubles: None,
            wall: clock::trusted_wall,
            store_losses: 0,
            behind: WriteBehind::default(),
            next_checkpoint: Instant::from_nanos(0),
        }
    }

    /// Takes one datagram.
    #[inline]
    pub fn datagram(
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
        let losses = &mut self.losses;
        let receiver = self.sessions.get_or_open(key, config, |_, _| losses.too_many_sessions += 1);
        let wall = if packet.lct.toi == Some(Toi::FDT) { (self.wall)() } else { None };
        let mut shelf = Shelf { shared: &self.shared, session: key, behind: &mut self.behind };
        receiver.handle_packet(now, wall, &packet, payload, &mut shelf);
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Complete { file, buf, repaired_symbols } => {
                    let whole = Whole { session: key, file, space: buf, repaired_symbols };
                    send_whole(&mut self.behind, &self.finisher, &mut self.losses, receiver, whole);
                }
                Event::BlockReady { toi, sbn } => {
                    if !send_block(&mut self.behind, &self.finisher, receiver, key, toi, sbn) {
                        self.losses.finisher_full += 1;
                        receiver.recovered(
                            toi,
                            sbn,
                            None,
                            &mut Shelf { shared: &self.shared, session: key, behind: &mut self.behind },
                        );
                    }
                }
                other => notice(&self.shared, self.troubles.as_ref(), key, receiver, &other),
            }
        }
    }

    /// The batch is over: symbols that were gathered go to their files, and players who wait for them are told. Call it
    /// whenever no further datagram is at hand.
    pub fn end_batch(&mut self) {
        self.behind.flush();
    }

    /// Looks at what time has done.
    pub fn tick(&mut self, now: Instant) {
        self.forget_lost();
        self.checkpoint(now, false);
        let wall = (self.wall)();
        for (key, receiver) in self.sessions.iter_mut() {
            receiver.handle_timeout(now, wall);
            while let Some(event) = receiver.poll_event() {
                notice(&self.shared, self.troubles.as_ref(), *key, receiver, &event);
            }
        }
    }

    /// Large objects in flight are made to survive, every [`CHECKPOINT`] and when everything stops.
    pub(super) fn checkpoint(&mut self, now: Instant, is_last: bool) {
        if !is_last && now < self.next_checkpoint {
            return;
        }
        self.next_checkpoint = now + CHECKPOINT;
        // What has arrived must be in the files.
        self.behind.flush();
        for (_, receiver) in self.sessions.iter_mut() {
            for object in receiver.in_flight() {
                let ObjectSpace::File(space) = object.buf() else { continue };
                if let Some(checkpoint) = space.checkpoint() {
                    // A finisher without room has more than this to lose.
                    let _ = self.finisher.try_send(Work::Checkpoint(checkpoint));
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
        let (Command::Reject(object)
        | Command::Hold(object)
        | Command::Repair(object, ..)
        | Command::Recovered(object, ..)) = &command
        else {
            return;
        };
        let ObjectRef { session, toi } = *object;
        let Some(receiver) = self.sessions.get_mut(&session) else { return };
        match &command {
            Command::Reject(_) => receiver.reject(toi),
            Command::Hold(_) => receiver.hold(toi),
            Command::Recovered(_, sbn, lost) => {
                let mut shelf = Shelf { shared: &self.shared, session, behind: &mut self.behind };
                receiver.recovered(toi, *sbn, lost.as_deref(), &mut shelf);
            }
            Command::Repair(_, offset, bytes) => {
                let mut shelf = Shelf { shared: &self.shared, session, behind: &mut self.behind };
                receiver.repair(toi, *offset, bytes, &mut shelf);
            }
            _ => return,
        }
        self.behind.flush();
        while let Some(event) = receiver.poll_event() {
            if let Event::Complete { file, buf, repaired_symbols } = event {
                let whole = Whole { session, file, space: buf, repaired_symbols };
                send_whole(&mut self.behind, &self.finisher, &mut self.losses, receiver, whole);
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

/// Gives a whole object to the finisher, its symbols in the file first. Without room there it is received again.
fn send_whole(
    behind: &mut WriteBehind,
    finisher: &SyncSender<Work>,
    losses: &mut LossCounters,
    receiver: &mut Receiver<ObjectSpace>,
    whole: Whole,
) {
    if let ObjectSpace::File(space) = &whole.space {
        behind.flush_one(&space.partial);
    }
    let toi = whole.file.toi;
    if finisher.try_send(Work::Whole(whole)).is_err() {
        losses.finisher_full += 1;
        receiver.reject(toi);
    }
}

/// Gives a block to the finisher, its symbols in the file first. False if the finisher has no room.
#[cold]
fn send_block(
    behind: &mut WriteBehind,
    finisher: &SyncSender<Work>,
    receiver: &Receiver<ObjectSpace>,
    session: SessionKey,
    toi: Toi,
    sbn: u32,
) -> bool {
    let Some(job) = receiver.recovery_job(toi, sbn) else { return true };
    let Some(ObjectSpace::File(space)) = receiver.object(toi).map(InFlight::buf) else { return true };
    behind.flush_one(&space.partial);
    let (partial, length) = (Arc::clone(&space.partial), space.slot_offset(0, 0));
    finisher.try_send(Work::Block(Block { session, job, partial, length })).is_ok()
}

/// Events that are no bytes.
#[cold]
fn notice(
    shared: &Arc<Shared>,
    troubles: Option<&Troubles>,
    session: SessionKey,
    receiver: &Receiver<ObjectSpace>,
    event: &Event<ObjectSpace>,
) {
    match event {
        Event::Fdt { new_files, instance_id, .. } => {
            tracing::debug!(session = %session.destination, tsi = session.tsi.0, instance_id, files = new_files.len(), "new FDT Instance");
            for file in new_files.iter().filter(|file| !is_signalling(file)) {
                let Ok(key) = shared.key_of(&session, &file.content_location) else {
                    tracing::warn!(name = %file.content_location.escape_debug(), "an object whose name cannot be used is left out");
                    continue;
                };
                let (digest, length) = (file.object_digest(), file.object_length());
                let version = file.version();
                if !shared.store.holds(key.as_str(), digest, length.unwrap_or(0), version) {
                    let content_type = file.content_type.clone();
                    let ignored_query = file.ignored_query.clone();
                    let announced = Announced { digest, length, content_type, version, ignored_query };
                    shared.flights.announce(key, announced);
                }
            }
        }
        Event::Stalled { toi } => {
            if let Some(flight) = flight_of(receiver, *toi) {
                flight.set_next_pass(receiver.next_pass(*toi));
                tell(troubles, Trouble::Stalled(Arc::clone(flight)));
            }
        }
        Event::SessionClosed | Event::SessionSilent => {
            let how =
                if matches!(event, Event::SessionClosed) { "the sender closed" } else { "nothing comes of" };
            tracing::info!(session = %session.destination, tsi = session.tsi.0, "{how} the session");
            for file in receiver.unseen().filter(|file| !is_signalling(file)) {
                let object = ObjectRef { session, toi: file.toi };
                tell(troubles, Trouble::Unseen(Carried { object, file: Arc::clone(file) }));
            }
        }
        _ => {}
    }
}
