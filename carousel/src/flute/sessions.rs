//! Which session a datagram belongs to: source address, group, port and TSI together (RFC 5651 section 2.1: a TSI is
//! unique per source only, so two senders on one group are two sessions).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::receiver::{Receiver, ReceiverConfig};
use crate::lct::Tsi;
use crate::limits::MAX_SESSIONS;

/// The identity of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The sender's address. Its port is left out: senders change it at every start.
    pub source: IpAddr,
    /// Group (or unicast) address and port that the packets go to.
    pub destination: SocketAddr,
    /// Transport Session Identifier.
    pub tsi: Tsi,
}

/// All sessions of one receiver thread or one recording, bounded by [`MAX_SESSIONS`].
#[derive(Debug)]
pub struct Sessions<B> {
    sessions: Vec<(SessionKey, Receiver<B>)>,
    index: HashMap<SessionKey, usize>,
    current: usize,
    refused: u64,
}

impl<B> Default for Sessions<B> {
    fn default() -> Self {
        Self { sessions: Vec::new(), index: HashMap::new(), current: 0, refused: 0 }
    }
}

impl<B> Sessions<B> {
    /// The receiver of this session; made by `config` if it is new. `None` if there are too many.
    #[inline]
    pub fn get_or_open(
        &mut self,
        key: SessionKey,
        config: impl FnOnce(&SessionKey) -> ReceiverConfig,
    ) -> Option<&mut Receiver<B>> {
        let is_current = self.sessions.get(self.current).is_some_and(|(have, _)| *have == key);
        if !is_current {
            self.current = match self.index.get(&key) {
                Some(&index) => index,
                None if self.sessions.len() >= MAX_SESSIONS => {
                    self.refused += 1;
                    return None;
                }
                None => {
                    let index = self.sessions.len();
                    self.sessions.push((key, Receiver::new(config(&key))));
                    self.index.insert(key, index);
                    index
                }
            };
        }
        Some(&mut self.sessions[self.current].1)
    }

    /// The receiver of this session, if it has been heard.
    pub fn get_mut(&mut self, key: &SessionKey) -> Option<&mut Receiver<B>> {
        self.index.get(key).map(|&index| &mut self.sessions[index].1)
    }

    /// All sessions in the order in which they were first heard.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey, &Receiver<B>)> {
        self.sessions.iter().map(|(key, receiver)| (key, receiver))
    }

    /// All sessions, to drive timeouts and poll events.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&SessionKey, &mut Receiver<B>)> {
        self.sessions.iter_mut().map(|(key, receiver)| (&*key, receiver))
    }

    /// Forgets the sessions for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&SessionKey, &Receiver<B>) -> bool) {
        self.sessions.retain(|(key, receiver)| keep(key, receiver));
        self.index = self.sessions.iter().enumerate().map(|(index, (key, _))| (*key, index)).collect();
        self.current = 0;
    }

    /// Sessions heard now.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none was heard.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Packets that were dropped because there were too many sessions.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
