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
    /// Group (or unicast) address and port of the packets.
    pub destination: SocketAddr,
    /// Transport Session Identifier.
    pub tsi: Tsi,
}

/// All sessions of one receiver thread or one recording, bounded in number by [`MAX_SESSIONS`]; their memory is
/// bounded by their owner ([`crate::budget`]). The session that has brought least makes room for a new one; of several, the one that has been
/// silent longest. A sender that opens thousands of sessions displaces only such sessions, never one that has brought objects.
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
    /// The receiver of this session, created by `config` if it is new. At the limit, the displaced receiver is passed to
    /// `displaced`.
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
        if self.sessions.len() >= MAX_SESSIONS
            && let Some((key, receiver)) = self.remove_least()
        {
            displaced(key, receiver);
        }
        let index = self.sessions.len();
        self.sessions.push((key, Receiver::new(config)));
        self.index.insert(key, index);
        index
    }

    /// Removes the lowest-ranked session.
    fn remove_least(&mut self) -> Option<(SessionKey, Receiver<B>)> {
        let newest = self.sessions.iter().map(|(_, it)| it.last_heard()).max()?;
        let least = self.sessions.iter().min_by_key(|(_, it)| (it.worth(newest), it.last_heard()));
        let key = least.map(|(key, _)| *key)?;
        self.remove(&key).map(|receiver| (key, receiver))
    }

    /// Removes a session.
    pub fn remove(&mut self, key: &SessionKey) -> Option<Receiver<B>> {
        let at = self.index.remove(key)?;
        let (_, receiver) = self.sessions.swap_remove(at);
        if let Some((moved, _)) = self.sessions.get(at) {
            self.index.insert(*moved, at);
        }
        self.current = 0;
        Some(receiver)
    }

    /// The receiver of this session, if it exists.
    pub fn get_mut(&mut self, key: &SessionKey) -> Option<&mut Receiver<B>> {
        self.index.get(key).map(|&index| &mut self.sessions[index].1)
    }

    /// As [`Self::get_mut`], for reading.
    pub fn get(&self, key: &SessionKey) -> Option<&Receiver<B>> {
        self.index.get(key).map(|&index| &self.sessions[index].1)
    }

    /// All sessions in the order of their first packets.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey, &Receiver<B>)> {
        self.sessions.iter().map(|(key, receiver)| (key, receiver))
    }

    /// All sessions, for timeouts and events.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&SessionKey, &mut Receiver<B>)> {
        self.sessions.iter_mut().map(|(key, receiver)| (&*key, receiver))
    }

    /// Removes and returns the sessions for which `keep` is false.
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

    /// Removes and returns silent sessions: after [`SPENT_SESSION_SILENCE`] if they hold nothing, otherwise after
    /// [`MAX_SESSION_SILENCE`].
    pub fn expire(&mut self, now: Instant) -> Vec<(SessionKey, Receiver<B>)> {
        self.extract(|_, receiver| {
            let most = if receiver.is_spent() { SPENT_SESSION_SILENCE } else { MAX_SESSION_SILENCE };
            now.since(receiver.last_heard()) < most
        })
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alc::Packet;
    use crate::budget::{Brought, Worth};
    use crate::flute::{MemoryBuf, OpenRequest, Refusal, Storage};
    use crate::time::WallTime;
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
            // The first continues and is never the one that makes room.
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

    /// A receiver that has received `packet` at a time.
    fn receive(sessions: &mut Sessions<MemoryBuf>, tsi: u64, now: Instant, datagram: &[u8]) {
        let receiver = sessions.get_or_open(key(tsi), |_| ReceiverConfig::default(), |_, _| {});
        let packet = Packet::parse(datagram).unwrap();
        receiver.handle_packet(now, None, &packet, datagram, &mut crate::flute::MemoryStorage);
    }

    /// An honest session and thousands of untrusted ones between any two of its packets.
    #[test]
    fn untrusted_sessions_displace_none_that_has_brought_objects() {
        let body = vec![7; 30_000];
        let mut sender = crate::flute::Sender::new(Tsi(1), crate::flute::SenderProfile::default(), 1, 1);
        let toi = sender.add(crate::flute::SendFile::of("http://h/a", &body)).unwrap();
        sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap();
        let (mut fdt, mut packet) = (Vec::new(), Vec::new());
        assert!(sender.write_fdt(0, 0, &mut fdt) && sender.fdt_packets(0) == 1);
        let mut sessions = Sessions::<MemoryBuf>::default();
        let at = |number: u64| Instant::from_nanos(number * 1_000_000);
        let mut time = 0;
        receive(&mut sessions, 0, at(0), &fdt);
        for (symbol, bytes) in body.chunks(1400).enumerate() {
            sender.write_packet(toi, symbol as u64, bytes, false, &mut packet);
            receive(&mut sessions, 0, at(time), &packet);
            if symbol == 0 {
                // What has brought nothing is worth what it has placed: it needs a few packets' head start.
                continue;
            }
            for _ in 0..2 * MAX_SESSIONS as u64 {
                time += 1;
                // The untrusted session has a description, too.
                receive(&mut sessions, time, at(time), &fdt);
            }
            assert!(sessions.len() <= MAX_SESSIONS);
        }
        let honest = sessions.get_mut(&key(0)).expect("the honest session is there");
        let is_complete = std::iter::from_fn(|| honest.poll_event())
            .any(|event| matches!(event, crate::flute::Event::Complete { .. }));
        assert!(is_complete, "and has all of its object");
        honest.brought(3000, false);
        // A session that has brought more, but stays silent, is worth no more than the others.
        let newest = at(time) + SPENT_SESSION_SILENCE;
        let worth = |key, now| sessions.get(&key).map(|it| it.worth(now)).unwrap();
        let other = *sessions.iter().map(|(key, _)| key).find(|it| it.tsi.0 > 0).unwrap();
        assert!(worth(key(0), at(time)) > worth(other, at(time)));
        let placed = body.len().div_ceil(1400) as u64;
        let silent = Worth::new(Brought::default(), placed, true);
        assert_eq!(worth(key(0), newest), silent);
    }

    #[test]
    fn a_session_is_found_after_others_have_made_room_or_gone() {
        let mut sessions = Sessions::<MemoryBuf>::default();
        let mut close = Vec::new();
        let sender = crate::flute::Sender::new(Tsi(1), crate::flute::SenderProfile::default(), 1, 1);
        sender.write_close(&mut close);
        let at = |number: u64| Instant::from_nanos(number * 1_000_000);
        for tsi in 0..=MAX_SESSIONS as u64 {
            receive(&mut sessions, tsi, at(tsi), &close);
        }
        // The first made room, and the last of the others moved into its place.
        let packets = |sessions: &mut Sessions<MemoryBuf>, tsi| {
            sessions.get_mut(&key(tsi)).map(|receiver| (receiver.stats().packets, receiver.last_heard()))
        };
        assert_eq!(packets(&mut sessions, 0), None);
        for tsi in 1..=MAX_SESSIONS as u64 {
            assert_eq!(packets(&mut sessions, tsi), Some((1, at(tsi))), "{tsi}");
        }
        let gone = sessions.extract(|key, _| key.tsi.0 % 2 == 1);
        assert_eq!(gone.len(), MAX_SESSIONS / 2);
        receive(&mut sessions, 3, at(9_000), &close);
        assert_eq!(packets(&mut sessions, 3), Some((2, at(9_000))));
        assert_eq!((packets(&mut sessions, 4), sessions.len()), (None, MAX_SESSIONS / 2));
        receive(&mut sessions, 4, at(9_001), &close);
        assert_eq!(packets(&mut sessions, 4), Some((1, at(9_001))), "a session of its own");
    }

    #[test]
    fn a_session_that_describes_objects_is_kept_longer_than_one_that_holds_nothing() {
        let mut sessions = Sessions::<MemoryBuf>::default();
        let mut sender = crate::flute::Sender::new(Tsi(1), crate::flute::SenderProfile::default(), 1, 1);
        let (mut close, mut fdt) = (Vec::new(), Vec::new());
        sender.write_close(&mut close);
        sender.add(crate::flute::SendFile::of("http://h/a", b"bytes")).unwrap();
        sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap();
        assert!(sender.write_fdt(0, 0, &mut fdt));
        let start = Instant::from_nanos(1_000_000_000);
        receive(&mut sessions, 1, start, &fdt);
        receive(&mut sessions, 2, start, &close);
        let nano = Duration::from_nanos(1);
        assert!(sessions.expire(start + (SPENT_SESSION_SILENCE - nano)).is_empty());
        let gone = sessions.expire(start + SPENT_SESSION_SILENCE);
        assert_eq!(gone.iter().map(|(key, _)| key.tsi.0).collect::<Vec<_>>(), [2]);
        assert!(sessions.expire(start + (MAX_SESSION_SILENCE - nano)).is_empty());
        assert_eq!(sessions.expire(start + MAX_SESSION_SILENCE).len(), 1);
    }
}
