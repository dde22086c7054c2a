//! Sessions of a receiver, by source address, group, port and TSI together (RFC 5651 section 2.1: a TSI is unique per
//! source only, so two senders on one group are two sessions).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::receiver::{Receiver, ReceiverConfig};
use crate::lct::Tsi;
use crate::limits::{MAX_SESSION_SILENCE, MAX_SESSIONS, MAX_SESSIONS_BYTES, SPENT_SESSION_SILENCE};
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

/// Memory of the sessions of all receivers of a process, which share [`MAX_SESSIONS_BYTES`]. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SessionBudget(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    held_bytes: AtomicUsize,
    receivers: AtomicUsize,
}

/// Memory that one receiver holds of a budget; released when dropped.
#[derive(Debug)]
struct Holding {
    budget: SessionBudget,
    bytes: usize,
}

impl Holding {
    fn of(budget: SessionBudget) -> Self {
        budget.0.receivers.fetch_add(1, Ordering::Relaxed);
        Self { budget, bytes: 0 }
    }

    /// Records `bytes` as held. Returns true if the total exceeds the budget and this receiver holds more than its share, so
    /// that a receiver with small sessions loses none for those of another.
    fn set(&mut self, bytes: usize) -> bool {
        let Shared { held_bytes, receivers } = &*self.budget.0;
        let before = std::mem::replace(&mut self.bytes, bytes);
        // Wraps around on a decrease; the sum is still correct.
        let change = bytes.wrapping_sub(before);
        let all = held_bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        all > MAX_SESSIONS_BYTES && bytes > MAX_SESSIONS_BYTES / receivers.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.budget.0.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.0.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All sessions of one receiver thread or one recording, bounded in number by [`MAX_SESSIONS`] and in memory by
/// [`MAX_SESSIONS_BYTES`]. The session with the lowest [rank](Receiver::worth) makes room for a new one; of equal ones, the
/// one silent longest. A sender that opens thousands of sessions displaces only such sessions, never one that has delivered
/// objects.
#[derive(Debug)]
pub struct Sessions<B> {
    sessions: Vec<(SessionKey, Receiver<B>)>,
    index: HashMap<SessionKey, usize>,
    current: usize,
    holding: Holding,
}

impl<B> Default for Sessions<B> {
    fn default() -> Self {
        Self {
            sessions: Vec::new(),
            index: HashMap::new(),
            current: 0,
            holding: Holding::of(SessionBudget::default()),
        }
    }
}

impl<B> Sessions<B> {
    /// Shares the memory with the sessions of other receivers.
    pub fn share(&mut self, budget: SessionBudget) {
        self.holding = Holding::of(budget);
    }

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
            && let Some((key, receiver)) = self.remove_least(|_, _| true)
        {
            displaced(key, receiver);
        }
        let index = self.sessions.len();
        self.sessions.push((key, Receiver::new(config)));
        self.index.insert(key, index);
        index
    }

    /// Removes the lowest-ranked session that holds memory, if all sessions, with those of the receivers that share the budget,
    /// hold more than [`MAX_SESSIONS_BYTES`]. `joined_bytes` is the memory of a session outside its receiver: segments joined
    /// from its chunks. Call it until it returns `None`.
    pub fn over_budget(
        &mut self,
        joined_bytes: impl Fn(&SessionKey) -> usize,
    ) -> Option<(SessionKey, Receiver<B>)> {
        let held_bytes = |key: &SessionKey, it: &Receiver<B>| it.held_bytes() + joined_bytes(key);
        let held: usize = self.sessions.iter().map(|(key, it)| held_bytes(key, it)).sum();
        if !self.holding.set(held) {
            return None;
        }
        let least = held / (2 * MAX_SESSIONS);
        self.remove_least(|key, it| held_bytes(key, it) > least)
    }

    /// Removes the lowest-ranked session among those that `may_go`.
    fn remove_least(
        &mut self,
        may_go: impl Fn(&SessionKey, &Receiver<B>) -> bool,
    ) -> Option<(SessionKey, Receiver<B>)> {
        let newest = self.sessions.iter().map(|(_, it)| it.last_heard()).max()?;
        let found = self
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, (key, it))| may_go(key, it))
            .min_by_key(|(_, (_, it))| (it.worth(newest), it.last_heard()));
        let (at, _) = found?;
        let (key, receiver) = self.sessions.swap_remove(at);
        self.index.remove(&key);
        if let Some((moved, _)) = self.sessions.get(at) {
            self.index.insert(*moved, at);
        }
        self.current = 0;
        Some((key, receiver))
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
    use crate::flute::{MemoryBuf, OpenRequest, Refusal, Storage};
    use crate::time::WallTime;
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
        honest.brought(3000);
        // A session that has brought more, but stays silent, is worth no more than the others.
        let newest = at(time) + SPENT_SESSION_SILENCE;
        assert_eq!(sessions.get_mut(&key(0)).map(|it| it.worth(newest).0), Some(0));
        assert_eq!(sessions.get_mut(&key(0)).map(|it| it.worth(at(time)).0), Some(12));
    }

    #[test]
    fn what_sessions_hold_together_is_bounded() {
        let mut sessions = Sessions::<MemoryBuf>::default();
        let profile = crate::flute::SenderProfile {
            symbol_length: 60_000,
            fdt_page_bytes: 200_000,
            ..crate::flute::SenderProfile::default()
        };
        let mut sender = crate::flute::Sender::new(Tsi(1), profile, 1, 1);
        for number in 0..400 {
            sender
                .add(crate::flute::SendFile::of(format!("http://h/{number}/{}", "x".repeat(400)), b"a"))
                .unwrap();
        }
        sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap();
        let mut packets = Vec::new();
        for page in 0..sender.fdt_pages() {
            for packet in 0..sender.fdt_packets(page) {
                let mut out = Vec::new();
                sender.write_fdt(page, packet, &mut out);
                packets.push(out);
            }
        }
        let at = |number: u64| Instant::from_nanos(number * 1_000_000);
        for packet in &packets {
            receive(&mut sessions, 0, at(0), packet);
        }
        let each = sessions.get_mut(&key(0)).unwrap().held_bytes();
        assert!(each > 400 * 800, "{each} bytes of descriptions");
        sessions.get_mut(&key(0)).unwrap().brought(1);
        let mut gone = Vec::new();
        // Early packets, as much as a session may keep: two thousand times as much as there is memory for.
        let early = {
            let mut out = Vec::new();
            crate::lct::LctHeader::new(Tsi(1), crate::lct::Toi(99)).write(&mut out).unwrap();
            out.resize(60_000, 1);
            out
        };
        for tsi in 1..MAX_SESSIONS as u64 {
            for _ in 0..40 {
                receive(&mut sessions, tsi, at(tsi), &early);
            }
            gone.extend(std::iter::from_fn(|| sessions.over_budget(|_| 0)).map(|(key, _)| key.tsi.0));
            let held: usize = sessions.iter().map(|(_, it)| it.held_bytes()).sum();
            assert!(held <= MAX_SESSIONS_BYTES, "{held}");
        }
        assert!(gone.len() > MAX_SESSIONS / 2, "{}", gone.len());
        assert!(!gone.contains(&0), "what has brought something stays");
        assert!(gone.is_sorted(), "the oldest of the others went first");
        for (_, receiver) in sessions.extract(|key, _| key.tsi.0 == 0) {
            drop(receiver);
        }
        assert!(sessions.over_budget(|_| 0).is_none());
    }

    /// The receiver that holds most makes room, not the one that came last.
    #[test]
    fn receivers_share_one_budget_and_a_small_one_loses_nothing() {
        let budget = SessionBudget::default();
        let all: [Sessions<MemoryBuf>; 4] = std::array::from_fn(|_| {
            let mut sessions = Sessions::default();
            sessions.share(budget.clone());
            sessions
        });
        let [mut small, mut large, mut other, idle] = all;
        let early = {
            let mut out = Vec::new();
            crate::lct::LctHeader::new(Tsi(1), crate::lct::Toi(99)).write(&mut out).unwrap();
            out.resize(60_000, 1);
            out
        };
        let at = Instant::from_nanos(1);
        receive(&mut small, 0, at, &early);
        // 35 packets are 2 MiB.
        let fill = |sessions: &mut Sessions<MemoryBuf>, count: u64| {
            for tsi in 0..count {
                for _ in 0..34 {
                    receive(sessions, tsi, at, &early);
                }
            }
            std::iter::from_fn(|| sessions.over_budget(|_| 0)).count()
        };
        assert_eq!((fill(&mut large, 45), fill(&mut other, 30)), (0, 0));
        let held = |sessions: &Sessions<MemoryBuf>| sessions.iter().map(|(_, it)| it.held_bytes()).sum();
        let parts: [usize; 3] = [held(&small), held(&large), held(&other)];
        assert!(parts.iter().sum::<usize>() < MAX_SESSIONS_BYTES);
        assert_eq!(fill(&mut other, 40), 3, "all of them hold too much");
        assert!(small.over_budget(|_| 0).is_none(), "it holds less than its part");
        assert_eq!(budget.0.held_bytes.load(Ordering::Relaxed), held(&small) + held(&large) + held(&other));
        drop((large, other, idle));
        assert_eq!(budget.0.held_bytes.load(Ordering::Relaxed), held(&small));
        assert_eq!(budget.0.receivers.load(Ordering::Relaxed), 1);
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
