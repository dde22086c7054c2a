//! Opening of sessions during a transmission: their objects wait for the signalling that names the session.
//!
//! ```text
//! hold_session ─▶ Unnamed ─ open_behind(document) ─▶ Behind ─ sent completely ─▶ At(now + JOIN_NS) ─▶ Open: waiting objects are queued
//! ```
//!
//! Their descriptions are sent at once, like those of all sessions. Deadlines of live objects begin when they are queued.

use super::session::Opening;
use super::{Air, Item, ItemId, LiveDrop, SessionIndex};
use crate::object::Repeat;

/// Time between the signalling of a session and its first packet, in which receivers read the document and join the group: some
/// round trips in the network.
pub(super) const JOIN_NS: u64 = 500_000_000;

impl Item {
    /// Whether it is live, and at a start had newer ones.
    pub(super) const fn is_old(&self) -> bool {
        matches!(self.object.repeat, Repeat::Live(timing) if timing.age > 0)
    }
}

impl Air {
    /// Holds the objects of a session back until [`Air::open_behind`].
    pub fn hold_session(&mut self, session: SessionIndex) {
        self.sessions[session].opening = Opening::Unnamed;
        self.has_closed = true;
    }

    /// Opens a held session when the object that names it has been sent, and receivers have had time to join. A newer version of
    /// that object replaces it.
    pub fn open_behind(&mut self, session: SessionIndex, document: ItemId) {
        let opening = &mut self.sessions[session].opening;
        if matches!(opening, Opening::Unnamed | Opening::Behind(_)) {
            *opening = Opening::Behind(document);
        }
    }

    /// Whether a session is open, or will be opened at a known time.
    pub fn is_named(&self, session: SessionIndex) -> bool {
        matches!(self.sessions[session].opening, Opening::Open | Opening::At(_))
    }

    /// Queues an object, at once or when its session is opened.
    pub(super) fn queue(&mut self, id: ItemId) {
        let Some(item) = self.items.get(&id) else { return };
        if self.is_standby {
            if item.object.repeat.is_live() {
                self.arrived.push(id);
            }
            return;
        }
        if self.sessions[item.session].opening != Opening::Open {
            self.held.push_back(id);
            return;
        }
        match item.object.repeat {
            Repeat::Live(timing) => self.live.push(id, timing),
            Repeat::Within { .. } => self.signalling.push_back(id),
            Repeat::Scheduled { .. } => self.lanes.add_fresh(id),
            Repeat::Share => self.share.add(id),
        }
    }

    /// Removes an object that waits for its session.
    pub(super) fn remove_held(&mut self, id: ItemId, of: &Item) {
        let before = self.held.len();
        self.held.retain(|&it| it != id);
        if self.held.len() < before && of.object.repeat.is_live() {
            self.stats.live_dropped.add(LiveDrop::Removed);
        }
    }

    /// Whether an object waits for its session, and then goes to the backlog.
    pub(super) fn is_held_backlog(&self, id: ItemId) -> bool {
        self.items.get(&id).is_some_and(Item::is_old) && self.held.contains(&id)
    }

    /// Opens the sessions whose time has come.
    pub(super) fn open_due_sessions(&mut self, now_ns: u64) {
        if !self.has_closed {
            return;
        }
        let (mut is_any_open, mut has_closed) = (false, false);
        for session in &mut self.sessions {
            if let Opening::Behind(document) = session.opening {
                // A removed document was replaced by one that names the session as well.
                if self.items.get(&document).is_none_or(|item| item.completed > 0) {
                    session.opening = Opening::At(now_ns.saturating_add(JOIN_NS));
                }
            }
            if matches!(session.opening, Opening::At(at_ns) if at_ns <= now_ns) {
                session.opening = Opening::Open;
                is_any_open = true;
            }
            has_closed |= session.opening != Opening::Open;
        }
        self.has_closed = has_closed;
        if is_any_open {
            for id in std::mem::take(&mut self.held) {
                self.queue(id);
            }
        }
    }

    /// Time at which the next session is opened.
    pub(super) fn next_opening_ns(&self) -> Option<u64> {
        let at = |opening: Opening| if let Opening::At(at_ns) = opening { Some(at_ns) } else { None };
        let openings = self.sessions.iter().filter_map(|session| at(session.opening));
        if self.held.is_empty() { None } else { openings.min() }
    }
}

#[cfg(test)]
mod tests {
    use carousel::alc::Packet;
    use carousel::flute::SenderProfile;
    use carousel::lct::Tsi;
    use carousel::time::WallTime;

    use super::super::{AirConfig, AirObject, IP_UDP_BYTES};
    use super::*;
    use crate::object::LiveTiming;

    const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

    /// A link of 8 Mbit/s with a session of signalling (TSI 1) and one that is held back (TSI 2).
    fn air() -> Air {
        let mut air = Air::new(AirConfig {
            rate_bps: 8_000_000,
            fdt_interval_ms: 100,
            reserved_bps: 4_000_000,
            reserved_by_service_bps: vec![4_000_000],
            share_bps: 1_000_000,
            drops_late: true,
            first_toi: 1,
            ..AirConfig::default()
        });
        for tsi in [1, 2] {
            air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(tsi), SenderProfile::default());
        }
        air.hold_session(1);
        air
    }

    fn object(name: &str, repeat: Repeat) -> AirObject {
        AirObject::of_bytes(name, &[7; 20_000], repeat)
    }

    /// Time of each packet with bytes of an object, with its TSI, in milliseconds.
    fn sent(air: &mut Air, from_ms: u64, until_ms: u64) -> Vec<(u64, u64)> {
        let (mut now_ns, mut out, mut all) = (from_ms * 1_000_000, Vec::new(), Vec::new());
        while now_ns < until_ms * 1_000_000 {
            if air.next_packet(now_ns, WALL, &mut out).is_none() {
                now_ns += 1_000_000;
                continue;
            }
            let lct = Packet::parse(&out).unwrap().lct;
            if lct.toi.is_some_and(|toi| toi.0 != 0) {
                all.push((now_ns / 1_000_000, lct.tsi.unwrap().0));
            }
            now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
        }
        all
    }

    #[test]
    fn objects_of_every_kind_wait_for_the_signalling_of_their_session() {
        let live = Repeat::Live(LiveTiming::of(0, Some(2000)));
        for repeat in
            [live, Repeat::Scheduled { popularity: 1.0 }, Repeat::Within { ms: 5000 }, Repeat::Share]
        {
            let mut air = air();
            let early = air.add(1, object("early", repeat)).unwrap();
            let before = sent(&mut air, 0, 1000);
            assert!(before.is_empty() && air.is_pending(early) && !air.is_named(1), "{repeat:?}: {before:?}");
            let document = air.add(0, object("document", Repeat::Within { ms: 10_000 })).unwrap();
            air.open_behind(1, document);
            let after = sent(&mut air, 1000, 3000);
            let named_ms = after.iter().rev().find(|it| it.1 == 1).unwrap().0;
            let first_ms = after.iter().find(|it| it.1 == 2).unwrap().0;
            let wait_ms = first_ms - named_ms;
            assert!(
                (JOIN_NS / 1_000_000..JOIN_NS / 1_000_000 + 50).contains(&wait_ms),
                "{repeat:?}: {after:?}"
            );
            assert!(!air.is_pending(early) && air.is_named(1));
            // From then on it is a session as any other.
            air.add(1, object("later", repeat)).unwrap();
            assert!(sent(&mut air, 3000, 3100).iter().any(|it| it.1 == 2), "{repeat:?}");
        }
    }

    #[test]
    fn a_newer_document_takes_the_place_of_the_one_before() {
        let mut air = air();
        air.add(1, object("early", Repeat::Live(LiveTiming::of(0, Some(2000))))).unwrap();
        let long = AirObject::of_bytes("document", &[1; 400_000], Repeat::Within { ms: 60_000 });
        let first = air.add(0, long.clone()).unwrap();
        air.open_behind(1, first);
        sent(&mut air, 0, 100);
        let second = air.add(0, long).unwrap();
        air.open_behind(1, second);
        air.withdraw(first);
        let after = sent(&mut air, 100, 3000);
        let named_ms = after.iter().rev().find(|it| it.1 == 1).unwrap().0;
        assert!(after.iter().filter(|it| it.1 == 2).all(|it| it.0 > named_ms), "{after:?}");
        assert!(named_ms > 400 && after.iter().any(|it| it.1 == 2), "{named_ms}");
    }

    #[test]
    fn what_is_withdrawn_while_it_waits_is_counted_and_never_sent() {
        let mut air = air();
        let live = Repeat::Live(LiveTiming::of(0, Some(2000)));
        let [gone, stays] = ["gone", "stays"].map(|name| air.add(1, object(name, live)).unwrap());
        air.withdraw(gone);
        assert_eq!(air.stats().live_dropped.get(LiveDrop::Removed), 1);
        let document = air.add(0, object("document", Repeat::Within { ms: 10_000 })).unwrap();
        air.open_behind(1, document);
        sent(&mut air, 0, 2000);
        assert!(!air.is_pending(stays) && air.held.is_empty());
        assert_eq!(air.stats().objects_sent, 2, "document and object");
    }
}
