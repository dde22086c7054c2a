//! Which groups are listened to, and on which shard: the announcement channel's documents come in, sockets are opened
//! and closed.
//!
//! One thread. It alone tells shards what to listen to, so that two documents that arrive together cannot cross. A
//! group that cannot be joined is tried again; the state of each is on the [`GroupStates`].

mod options;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use carousel::mabr::{
    CONFIGURATION_TYPE, CONFIGURATION_URI, Directory, Protocol, SessionOrigin, SessionSpec,
};
use carousel::nip;

use crate::clock;
use crate::delivery::{RuleBook, SessionFilter};
use crate::origin::Origins;
use crate::receive::{Command, Document, FinishSink, ShardSender, Shared, shard_of};
use crate::source::{GroupSpec, ReceiveSocket};

pub use options::{Receive, Session, SessionOptions};

/// Notices waiting. Finishing waits when it is full: signalling is rare.
const NOTICES: usize = 256;
/// How often a group that cannot be joined is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A notice to the thread.
#[derive(Debug)]
enum Notice {
    Document(Document),
    Reload(Box<SessionOptions>),
    Stop,
}

/// One group, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The group.
    pub group: GroupSpec,
    /// Why it is listened to: `static`, `bootstrap`, `configuration`.
    pub why: &'static str,
    /// Why it is not being received.
    pub error: Option<String>,
}

/// The groups as they are now.
#[derive(Debug, Default)]
pub struct GroupStates(Mutex<Vec<GroupState>>);

impl GroupStates {
    /// All groups, wanted or failing.
    pub fn groups(&self) -> Vec<GroupState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends the session thread the documents that finishing has verified.
#[derive(Debug, Clone)]
pub struct SessionCommands(SyncSender<Notice>);

impl FinishSink for SessionCommands {
    fn document(&mut self, document: Document) {
        let _ = self.0.send(Notice::Document(document));
    }
}

/// What the thread needs of the others.
#[derive(Debug)]
pub struct SessionContext {
    /// The receive side.
    pub shared: Arc<Shared>,
    /// Told of base URLs.
    pub origins: Arc<Origins>,
    /// Told of repair parameters.
    pub rules: Arc<RuleBook>,
}

/// The notices of a thread that has not started: the finisher needs them first.
#[derive(Debug)]
pub struct SessionQueue(SyncSender<Notice>, Receiver<Notice>);

impl Default for SessionQueue {
    fn default() -> Self {
        let (sender, receiver) = sync_channel(NOTICES);
        Self(sender, receiver)
    }
}

impl SessionQueue {
    /// For finishing.
    pub fn commands(&self) -> SessionCommands {
        SessionCommands(self.0.clone())
    }

    /// Starts the thread; it opens the fixed sessions at once.
    ///
    /// # Errors
    /// If no thread is available.
    pub fn start(
        self,
        config: &SessionOptions,
        shards: Vec<ShardSender>,
        around: SessionContext,
    ) -> std::io::Result<SessionThread> {
        let board = Arc::new(GroupStates::default());
        let mut control = Control {
            interface: config.receive.interface.clone(),
            multicast: config.receive.multicast,
            socket_buffer_bytes: config.receive.socket_buffer_bytes,
            directory: Directory::new(config.join_policy(), config.fixed_sessions()),
            shards,
            around,
            open: HashMap::new(),
            board: Arc::clone(&board),
        };
        control.apply();
        let Self(sender, receiver) = self;
        let thread =
            std::thread::Builder::new().name("session".to_owned()).spawn(move || control.run(&receiver))?;
        Ok(SessionThread { notices: sender, board, thread: Some(thread) })
    }
}

/// The running thread.
#[derive(Debug)]
pub struct SessionThread {
    notices: SyncSender<Notice>,
    board: Arc<GroupStates>,
    thread: Option<JoinHandle<()>>,
}

impl SessionThread {
    /// The state of the groups.
    pub const fn board(&self) -> &Arc<GroupStates> {
        &self.board
    }

    /// Takes over `[receive]` and `[[session]]` of a new configuration. What the air has said stays in force.
    pub fn reload(&self, config: &SessionOptions) {
        let _ = self.notices.send(Notice::Reload(Box::new(config.clone())));
    }

    /// Ends the thread.
    pub fn stop(mut self) {
        let _ = self.notices.send(Notice::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

struct Control {
    interface: String,
    /// Whether groups are joined on the network.
    multicast: bool,
    socket_buffer_bytes: usize,
    directory: Directory,
    shards: Vec<ShardSender>,
    around: SessionContext,
    /// What shards listen to.
    open: HashMap<GroupSpec, SessionFilter>,
    board: Arc<GroupStates>,
}

impl Control {
    fn run(mut self, notices: &Receiver<Notice>) {
        loop {
            match notices.recv_timeout(RETRY) {
                Ok(Notice::Document(document)) => self.document(document),
                Ok(Notice::Reload(config)) => self.reload(&config),
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if self.board.groups().iter().any(|it| it.error.is_some()) {
                        self.apply();
                    }
                }
            }
        }
    }

    fn shard(&self, address: &SocketAddr) -> &ShardSender {
        &self.shards[shard_of(address, self.shards.len())]
    }

    fn document(&mut self, document: Document) {
        let from = document.object.session.destination;
        if is_configuration(&document) {
            match self.directory.document(document.object.session.source, &document.name, &document.bytes) {
                Ok(_) => {
                    tracing::info!(%from, name = document.name, sessions = self.directory.sessions().len(), "session configuration");
                    self.apply();
                }
                Err(err) => {
                    tracing::warn!(%from, name = document.name, %err, "a session configuration cannot be read; the one before it stays in force");
                }
            }
        } else {
            tracing::debug!(%from, name = document.name, bytes = document.bytes.len(), "signalling");
        }
        self.around.shared.keep_document(clock::now(), document);
    }

    fn reload(&mut self, config: &SessionOptions) {
        let documents = std::mem::take(&mut self.directory);
        self.directory = documents.with_fixed(config.join_policy(), config.fixed_sessions());
        self.interface.clone_from(&config.receive.interface);
        self.multicast = config.receive.multicast;
        self.socket_buffer_bytes = config.receive.socket_buffer_bytes;
        self.apply();
    }

    /// Makes sockets, aliases, origins and repair rules what the directory says.
    fn apply(&mut self) {
        let shared = &self.around.shared;
        shared.set_aliases(self.directory.aliases().clone());
        let repairs = || self.directory.sessions().iter().filter_map(|it| Some((it, it.repair.as_ref()?)));
        self.around.origins.set_signalled(repairs().flat_map(|(_, repair)| {
            repair.base_urls.iter().filter(|(_, weight)| *weight > 0).map(|(url, _)| url.clone())
        }));
        self.around.rules.set(repairs().map(|(spec, repair)| (spec.address, spec.tsi, repair.clone())));

        let wanted = wanted(self.directory.sessions(), &self.interface);
        let expected = wanted.iter().map(|(group, listen, _)| (group.address, listen.clone())).collect();
        let expected = Arc::new(expected);
        for shard in &self.shards {
            shard.send(Command::Expect(Arc::clone(&expected)));
        }
        let joined = |group: &GroupSpec| self.multicast && wanted.iter().any(|it| it.0 == *group);
        let gone: Vec<GroupSpec> = self.open.keys().filter(|group| !joined(group)).cloned().collect();
        for group in gone {
            self.open.remove(&group);
            self.shard(&group.address).send(Command::Close(group));
        }
        let before = self.board.groups();
        let mut states = Vec::with_capacity(wanted.len());
        for (group, listen, why) in wanted {
            let listened = if self.multicast { self.listen(&group, listen) } else { Ok(()) };
            let error = listened.err().map(|err| err.to_string());
            let said = before.iter().any(|it| it.group == group && it.error == error);
            if let Some(error) = error.as_ref().filter(|_| !said) {
                tracing::error!("{error}; trying again every {} s", RETRY.as_secs());
            }
            states.push(GroupState { group, why, error });
        }
        *self.board.0.lock().unwrap_or_else(PoisonError::into_inner) = states;
    }

    fn listen(&mut self, group: &GroupSpec, filter: SessionFilter) -> Result<(), crate::source::SourceError> {
        match self.open.get(group) {
            Some(have) if *have == filter => {}
            Some(_) => {
                self.shard(&group.address).send(Command::Change(group.clone(), filter.clone()));
                self.open.insert(group.clone(), filter);
            }
            None => {
                let socket = ReceiveSocket::open(group, self.socket_buffer_bytes)?;
                self.shard(&group.address).send(Command::Open(socket, filter.clone()));
                self.open.insert(group.clone(), filter);
            }
        }
        Ok(())
    }
}

/// Sessions gathered by the socket that they share. Of a session of ROUTE every channel is received: signalling and repair
/// symbols come in channels of their own.
fn wanted(sessions: &[SessionSpec], interface: &str) -> Vec<(GroupSpec, SessionFilter, &'static str)> {
    let mut groups: Vec<(GroupSpec, SessionFilter, &'static str)> = Vec::new();
    for spec in sessions {
        let is_route = spec.protocol == Protocol::Route;
        // What nobody has declared is told packet by packet.
        let has_route = is_route || spec.origin == SessionOrigin::Static;
        let group = GroupSpec { address: spec.address, source: spec.source, interface: interface.to_owned() };
        let timeout = spec.repair.as_ref().map(|it| it.reception_timeout_ms).filter(|ms| *ms > 0);
        let session = (spec.tsi.filter(|_| !is_route), timeout.map(Duration::from_millis));
        match groups.iter_mut().find(|it| it.0 == group) {
            Some((_, listen, _)) => {
                listen.sessions.push(session);
                listen.has_route |= has_route;
            }
            None => {
                let filter = SessionFilter { sessions: vec![session], has_route };
                groups.push((group, filter, spec.origin.as_str()));
            }
        }
    }
    groups
}

fn is_configuration(document: &Document) -> bool {
    nip::Document::from_name(&document.name) == Some(nip::Document::Bootstrap)
        || document.name.eq_ignore_ascii_case(CONFIGURATION_URI)
        || document.content_type.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(CONFIGURATION_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str, tsi: Option<u64>, protocol: Protocol) -> SessionSpec {
        SessionSpec {
            source: None,
            address: address.parse().unwrap(),
            tsi,
            protocol,
            origin: SessionOrigin::Configuration,
            service: String::new(),
            repair: None,
            maximum_bps: None,
        }
    }

    #[test]
    fn sessions_of_one_group_share_a_socket() {
        let sessions = [
            spec("239.0.0.1:6000", Some(1), Protocol::Flute),
            spec("239.0.0.1:6000", Some(2), Protocol::Flute),
            spec("239.0.0.1:6001", None, Protocol::Flute),
            spec("239.0.0.2:6000", Some(10), Protocol::Route),
        ];
        let groups = wanted(&sessions, "eth0");
        assert_eq!(groups.len(), 3);
        assert_eq!((&groups[2].1.sessions[..], groups[2].1.has_route), (&[(None, None)][..], true));
        assert!(!groups[0].1.has_route);
        assert_eq!(groups[0].1.sessions, [(Some(1), None), (Some(2), None)]);
        assert_eq!(groups[1].0.to_string(), "239.0.0.1:6001 on eth0");
    }
}
