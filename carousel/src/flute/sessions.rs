//! Sessions of a receiver, by source address, group, port and TSI together (RFC 5651 section 2.1: a TSI is unique per
//! source only, so two senders on one group are two sessions).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::receiver::{Receiver, ReceiverConfig};
use crate::lct::Tsi;
use crate::limits::{MAX_SESSION_SILENCE, MAX_SESSIONS, SPENT_SESSION_SILENCE};
use crate::time::Instant;

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

/// All sessions of one receiver thread or one recording, bounded by [`MAX_SESSIONS`]: the one that has been silent longest
/// makes room for a new one.
#[derive(Debug)]
pub struct Sessions<B> {
    sessions: Vec<(SessionKey, Receiver<B>)>,
    index: HashMap<SessionKey, usize>,
    current: usize,
}

impl<B> Default for Sessions<B> {
    fn default() -> Self {
        Self { sessions: Vec::new(), index: HashMap::new(), current: 0 }
    }
}

impl<B> Sessions<B> {
    /// The receiver of this session; made by `config` if it is new. Where there are too many, the one that makes room goes
    /// to `displaced`.
    #[inline]
    pub fn get_or_open(
        &mut self,
        key: SessionKey,
        config: impl FnOnce(&SessionKey) -> ReceiverConfig,
        displaced: impl FnOnce(SessionKey, Receiver<B>),
    ) -> &mut Receiver<B> {
        let is_current = self.sessions.get(self.current).is_some_and(|(have, _)| *have == key);
        if !is_current {
            self.current = match self.index.get(&key) {
                Some(&index) => index,
                None => self.open(key, config(&key), displaced),
            };
        }
        &mut self.sessions[self.current].1
    }

    #[cold]
    fn open(
        &mut self,
        key: SessionKey,
        config: ReceiverConfig,
        displaced: impl FnOnce(SessionKey, Receiver<B>),
    ) -> usize {
        if self.sessions.len() >= MAX_SESSIONS {
            let oldest = self.sessions.iter().enumerate().min_by_key(|(_, (_, it))| it.last_heard());
            if let Some((at, _)) = oldest {
                let (key, receiver) = self.sessions.swap_remove(at);
                self.index.remove(&key);
                if let Some((moved, _)) = self.sessions.get(at) {
                    self.index.insert(*moved, at);
                }
                displaced(key, receiver);
            }
        }
        let index = self.sessions.len();
        self.sessions.push((key, Receiver::new(config)));
        self.index.insert(key, index);
        index
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

    /// Takes out the sessions for which `keep` is false.
    pub fn extract(
        &mut self,
        mut keep: impl FnMut(&SessionKey, &Receiver<B>) -> bool,
    ) -> Vec<(SessionKey, Receiver<B>)> {
        if self.sessions.iter().all(|(key, receiver)| keep(key, receiver)) {
            return Vec::new();
        }
        let (kept, gone) =
            std::mem::take(&mut self.sessions).into_iter().partition(|(key, receiver)| keep(key, receiver));
        self.sessions = kept;
        self.index = self.sessions.iter().enumerate().map(|(index, (key, _))| (*key, index)).collect();
        self.current = 0;
        gone
    }

    /// Takes out the sessions that have been silent too long: [`SPENT_SESSION_SILENCE`] where they hold nothing,
    /// [`MAX_SESSION_SILENCE`] in any case.
    pub fn expire(&mut self, now: Instant) -> Vec<(SessionKey, Receiver<B>)> {
        self.extract(|_, receiver| {
            let most = if receiver.is_spent() { SPENT_SESSION_SILENCE } else { MAX_SESSION_SILENCE };
            now.since(receiver.last_heard()) < most
        })
    }

    /// Sessions heard now.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none was heard.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alc::Packet;
    use crate::flute::{MemoryBuf, OpenRequest, Refusal, Storage};
    use std::sync::Arc;
    use std::time::Duration;

    struct Refuses;
    impl Storage for Refuses {
        type Buf = MemoryBuf;
        fn open(&mut self, _: &OpenRequest<'_>) -> Result<MemoryBuf, Refusal> {
            Err(Refusal::NotWanted)
        }
        fn name(&mut self, _: &mut MemoryBuf, _: &Arc<crate::flute::File>) -> Result<(), Refusal> {
            Ok(())
        }
        fn write(&mut self, _: &mut MemoryBuf, _: u64, _: &[u8]) {}
    }

    fn key(tsi: u64) -> SessionKey {
        SessionKey {
            source: "10.0.0.1".parse().unwrap(),
            destination: "239.0.0.1:6000".parse().unwrap(),
            tsi: Tsi(tsi),
        }
    }

    #[test]
    fn ten_thousand_sessions_come_and_go_and_the_last_is_served_like_the_first() {
        let mut sessions = Sessions::<MemoryBuf>::default();
        let mut close = Vec::new();
        crate::flute::Sender::new(Tsi(1), crate::flute::SenderProfile::default(), 1, 1)
            .write_close(&mut close);
        let packet = Packet::parse(&close).unwrap();
        let mut displaced = Vec::new();
        let at = |number: u64| Instant::from_nanos(number * 1_000_000);
        for number in 0..10_000 {
            let open = |_: &SessionKey| ReceiverConfig::default();
            let receiver = sessions.get_or_open(key(number), open, |key, _| displaced.push(key.tsi.0));
            receiver.handle_packet(at(number), None, &packet, &close, &mut Refuses);
            // The first goes on and is never the one that makes room.
            let first = sessions.get_or_open(key(0), open, |_, _| unreachable!("it is open"));
            first.handle_packet(at(number), None, &packet, &close, &mut Refuses);
            assert!(sessions.len() <= MAX_SESSIONS);
        }
        assert_eq!(displaced, (1..=10_000 - MAX_SESSIONS as u64).collect::<Vec<_>>());
        assert!(sessions.get_mut(&key(0)).is_some() && sessions.get_mut(&key(9_999)).is_some());
        let later = at(10_000) + (SPENT_SESSION_SILENCE - Duration::from_secs(5));
        assert!(sessions.expire(later).is_empty());
        assert_eq!(sessions.expire(later + Duration::from_secs(10)).len(), MAX_SESSIONS);
        assert!(sessions.is_empty());
    }
}
