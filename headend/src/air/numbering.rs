//! Numbers of sessions and objects for the takeover of a carousel by another sender: the state handed over, and its use by
//! the successor.
//!
//! | number | handed over as | successor |
//! |---|---|---|
//! | TOI of an object | by key: a digest of name, content and FEC | gives it the same one; receivers continue with what they have |
//! | next TOI, next FDT Instance ID | unchanged; the caller adds a reserve | begins there with objects that were not handed over |
//! | version of ROUTE's signalling | unchanged; the caller adds a reserve | begins there |
//! | object on the air | TOI, and number of symbols sent | continues after them |
//! | last start of a repeated object | time since | schedules it accordingly |
//! | live object sent completely | a mark | does not send it again |
//! | live object that was not sent | not at all | sends it by the deadline from its own arrival, or drops it as late |

use std::collections::{BTreeSet, HashMap};

use carousel::Digest;
use carousel::flute::SenderError;
use carousel::lct::Toi;
use carousel::time::WallTime;

use super::job::{Job, WaveEntry};
use super::session::Opening;
use super::{Air, Item, ItemId, LiveTiming, Repeat, SessionIndex};

/// Digest of an object's name, content and FEC.
pub type ObjectKey = [u8; 16];

/// Numbers of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionNumbers {
    /// Address and TSI.
    pub name: String,
    /// The TOI of the next object.
    pub next_toi: u64,
    /// The ID of the next FDT Instance.
    pub next_instance_id: u32,
    /// FDT Instances that may be renewed at once.
    pub pages: usize,
    /// Number of described objects.
    pub objects: usize,
    /// Increases with each change of the result of [`Air::known_objects`].
    pub changes: u64,
    /// Version of the signalling, of a session of ROUTE.
    pub version: Option<u8>,
    /// Repeated objects that are being sent: TOI, and number of symbols sent.
    pub on_air: Vec<(u64, u64)>,
}

/// An object that has a TOI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownObject {
    /// Its key.
    pub key: ObjectKey,
    /// Its TOI.
    pub toi: u64,
    /// Start of its last transmission; `None`: not sent yet.
    pub started_ms: Option<u64>,
    /// Whether it was sent completely.
    pub is_complete: bool,
}

/// Numbers of a session used by another sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// A TOI above all that it has used.
    pub first_toi: u64,
    /// An FDT Instance ID that it has not used.
    pub first_instance_id: u32,
    /// Upper bound of the versions of the signalling that it has used.
    pub version: Option<u8>,
    /// Its objects. Times are relative to now, in milliseconds before.
    pub objects: HashMap<ObjectKey, KnownObject>,
    /// See [`SessionNumbers::on_air`].
    pub on_air: Vec<(u64, u64)>,
}

impl Air {
    /// Numbers of all sessions.
    pub fn numbers(&self) -> Vec<SessionNumbers> {
        let mut all: Vec<SessionNumbers> = (0..self.sessions.len()).map(|at| self.numbers_of(at)).collect();
        let waves = self.wave.iter().map(|entry| &entry.job);
        for job in waves.chain(&self.between).chain(self.share.job()) {
            if let Job::Object { id, symbols, left, .. } = job
                && let Some(item) = self.items.get(id)
            {
                all[item.session].on_air.push((item.toi.0 as u64, symbols - left));
            }
        }
        all
    }

    fn numbers_of(&self, index: SessionIndex) -> SessionNumbers {
        let session = &self.sessions[index];
        let (next_toi, next_instance_id) = session.sender.next_numbers();
        SessionNumbers {
            name: self.session_name(index),
            next_toi,
            next_instance_id,
            pages: session.sender.fdt_pages(),
            objects: session.items.len(),
            changes: session.changes,
            version: session.route.map(|group| self.routes[group].version()),
            on_air: Vec::new(),
        }
    }

    fn session_name(&self, index: SessionIndex) -> String {
        format!("{}/{}", self.sessions[index].address, self.sessions[index].sender.tsi().0)
    }

    /// Objects of the session with that index.
    pub fn known_objects(&self, index: SessionIndex) -> Vec<KnownObject> {
        let own = self.sessions[index].items.iter().filter_map(|id| self.items.get(id));
        own.filter(|item| item.place.is_none())
            .map(|item| KnownObject {
                key: item.key,
                toi: item.toi.0 as u64,
                started_ms: (item.starts > 0).then_some(item.started_ns / 1_000_000),
                is_complete: item.completed > 0,
            })
            .collect()
    }

    pub(super) fn key_of(&self, item: &Item) -> ObjectKey {
        let oti = self.sessions[item.session].sender.oti(item.toi);
        let object = &item.object;
        let text = format!("{}\0{:?}\0{oti:?}\0{}", object.uri, object.digest.0, item.repair.is_some());
        let digest = Digest::of(text.as_bytes()).0;
        std::array::from_fn(|at| digest[at])
    }

    /// Next TOI, next FDT Instance ID, and pages that may be renewed at once, of each session.
    pub fn next_numbers(&self) -> impl Iterator<Item = (u64, u32, usize)> {
        self.sessions.iter().map(|it| {
            let (toi, instance_id) = it.sender.next_numbers();
            (toi, instance_id, it.sender.fdt_pages())
        })
    }

    /// Stops queueing until [`Air::go_on`]: another sender is on the air.
    pub fn stand_by(&mut self) {
        self.clear_queues();
        self.is_standby = true;
        let waiting = self.items.iter().filter(|(_, it)| it.completed == 0 && it.object.repeat.is_live());
        self.arrived = waiting.map(|(id, _)| *id).collect();
    }

    /// Advances the time while another sender is on the air: starts the deadlines of arrived objects. Call it often.
    pub fn wait(&mut self, now_ns: u64) {
        for id in std::mem::take(&mut self.arrived) {
            if let Some(item) = self.items.get_mut(&id) {
                item.arrived_ns = Some(now_ns);
            }
        }
    }

    /// Takes over from another sender that has ended; `known` is its state by session name. All queues are rebuilt. Returns
    /// the number of objects that keep their TOI.
    ///
    /// # Errors
    /// [`SenderError`] if there are more objects than TOIs.
    pub fn go_on(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        by_name: &HashMap<String, Numbers>,
    ) -> Result<usize, SenderError> {
        self.clear_queues();
        self.is_standby = false;
        let mut known: HashMap<ItemId, KnownObject> = HashMap::new();
        let mut resumed: Vec<(ItemId, u64)> = Vec::new();
        let mut told: BTreeSet<SessionIndex> = BTreeSet::new();
        for index in 0..self.sessions.len() {
            let numbers = by_name.get(&self.session_name(index));
            told.extend(numbers.map(|_| index));
            self.go_on_in(index, numbers, &mut known, &mut resumed)?;
            self.describe_restored(index, now_ns, wall, &known);
        }
        self.fdt_look_ns = 0;
        let ids: Vec<ItemId> = self.items.keys().copied().collect();
        self.arrived.clear();
        let repeated = known.len().max(1) as u64;
        let mut rank = 0;
        for id in ids {
            let Some(item) = self.items.get_mut(&id) else { continue };
            let found = known.get(&id).copied();
            let started_ms = found.and_then(|it| it.started_ms);
            item.starts = u64::from(started_ms.is_some());
            item.completed = u64::from(found.is_some_and(|it| it.is_complete));
            item.started_ns = now_ns.saturating_sub(started_ms.unwrap_or(0).saturating_mul(1_000_000));
            let (started_ns, bytes, is_open) =
                (item.started_ns, item.air_bytes, self.sessions[item.session].opening == Opening::Open);
            let weight = item.object.weight();
            match item.object.repeat {
                Repeat::Live(_) if item.completed > 0 => {}
                Repeat::Live(timing) => {
                    // Before the first start it cannot have been sent.
                    let arrived_ns = item.arrived_ns.take().filter(|_| told.contains(&item.session));
                    self.queue_live_again(id, timing, arrived_ns, now_ns);
                }
                _ if started_ms.is_none() || !is_open => self.queue_again(id),
                Repeat::Share => self.queue_again(id),
                // Receivers hold it already: it is repeated at its regular time, not immediately.
                Repeat::Within { ms } => {
                    rank += 1;
                    self.lanes.set_timer(id, now_ns + ms * 1_000_000 / repeated * rank.min(repeated));
                }
                Repeat::Scheduled { .. } => self.lanes.schedule(id, weight, bytes, started_ns),
            }
        }
        for (id, sent) in resumed {
            self.resume(id, sent, now_ns);
        }
        Ok(known.len())
    }

    /// Queues a live object with the rest of its time, or drops it.
    fn queue_live_again(&mut self, id: ItemId, timing: LiveTiming, arrived_ns: Option<u64>, now_ns: u64) {
        let waited_ms = arrived_ns.map_or(0, |it| now_ns.saturating_sub(it) / 1_000_000);
        if waited_ms == 0 || timing.age > 0 {
            return self.queue_again(id);
        }
        if waited_ms > timing.within_ms && self.config.drops_late {
            return self.drop_late(id);
        }
        if let Some(item) = self.items.get_mut(&id) {
            let within_ms = timing.within_ms.saturating_sub(waited_ms);
            item.object.repeat = Repeat::Live(LiveTiming { within_ms, ..timing });
        }
        self.queue_again(id);
    }

    /// Queues an object that was not sent completely. An item with a `place` is a piece of another.
    fn queue_again(&mut self, id: ItemId) {
        // The item that describes an object in pieces has no bytes.
        let is_whole = |it: &Item| it.air_bytes == 0 && it.object.repeat.is_live();
        if self.items.get(&id).is_some_and(is_whole) {
            return;
        }
        self.queue(id);
    }

    fn clear_queues(&mut self) {
        self.urgent.clear();
        self.signalling.clear();
        self.held.clear();
        self.live.clear();
        self.share.clear();
        self.between.clear();
        self.wave.clear();
        self.lanes.retain(|_| false);
    }

    fn go_on_in(
        &mut self,
        index: SessionIndex,
        numbers: Option<&Numbers>,
        known: &mut HashMap<ItemId, KnownObject>,
        resumed: &mut Vec<(ItemId, u64)>,
    ) -> Result<(), SenderError> {
        let session = &mut self.sessions[index];
        session.forget_sent();
        session.changes += 1;
        let Some(numbers) = numbers else { return Ok(()) };
        if let (Some(group), Some(version)) = (session.route, numbers.version) {
            self.routes[group].go_on_from(version);
        }
        let own = session.items.iter().filter_map(|id| Some((*id, self.items.get(id)?)));
        let own = own.filter(|(_, it)| it.place.is_none());
        let by_toi: HashMap<Toi, (ItemId, ObjectKey)> = own.map(|(id, it)| (it.toi, (id, it.key))).collect();
        let told = |old: &Toi| numbers.objects.get(&by_toi.get(old)?.1);
        let first = (numbers.first_toi, numbers.first_instance_id);
        let new_toi = |old: Toi| told(&old).map(|it| Toi(u128::from(it.toi)));
        let renamed = session.sender.renumber(first, new_toi)?;
        for (old, new) in &renamed {
            if let (Some((id, _)), Some(it)) = (by_toi.get(old), told(old))
                && u128::from(it.toi) == new.0
            {
                known.insert(*id, *it);
                resumed.extend(numbers.on_air.iter().find(|on| on.0 == it.toi).map(|on| (*id, on.1)));
            }
        }
        if !numbers.objects.is_empty() {
            // Receivers know the session.
            session.opening = Opening::Open;
        }
        for id in &session.items {
            if let Some(item) = self.items.get_mut(id)
                && let Some(new) = renamed.get(&item.toi)
            {
                item.toi = *new;
            }
        }
        Ok(())
    }

    /// Creates new instances of the pages of a session's FDT. Those without new descriptions are sent at their regular time:
    /// receivers have the other sender's.
    fn describe_restored(
        &mut self,
        index: SessionIndex,
        now_ns: u64,
        wall: WallTime,
        known: &HashMap<ItemId, KnownObject>,
    ) {
        let changed = self.sessions[index].renew(now_ns, wall);
        if let Some(group) = self.sessions[index].route {
            if !changed.is_empty() {
                let job = self.signalling_of(group, index);
                self.urgent.push_back(job);
            }
            return;
        }
        let session = &self.sessions[index];
        let own = session.items.iter().filter(|id| !known.contains_key(id));
        let own = own.filter_map(|id| session.sender.page_of(self.items.get(id)?.toi));
        let new: BTreeSet<usize> = own.collect();
        let pages = changed.into_iter().filter(|page| new.contains(page));
        self.urgent.extend(pages.map(|page| Job::Fdt { session: index, page, next: 0 }));
    }

    /// Continues an object after the symbols that were sent.
    fn resume(&mut self, id: ItemId, sent: u64, now_ns: u64) {
        let is_share = self.items.get(&id).is_some_and(|it| it.object.repeat == Repeat::Share);
        let is_scheduled =
            self.items.get(&id).is_some_and(|it| matches!(it.object.repeat, Repeat::Scheduled { .. }));
        if !is_share && !is_scheduled {
            return;
        }
        let Some(mut job) = self.start(id, now_ns) else { return };
        if let Job::Object { sequence, symbols, left, .. } = &mut job
            && sent < *symbols
        {
            for _ in 0..sent {
                sequence.next();
            }
            *left = *symbols - sent;
        }
        match is_share {
            true => self.share.put(job),
            false => self.wave.push(WaveEntry::of(job)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carousel::alc::Packet;
    use carousel::flute::SenderProfile;
    use carousel::lct::Tsi;
    use carousel::lct::ext::Fdt;

    use super::super::{AirConfig, AirObject, IP_UDP_BYTES, LiveDrop};
    use super::*;

    const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
    const FILM: Repeat = Repeat::Scheduled { popularity: 1.0 };

    fn air(first_toi: u32) -> Air {
        let mut air = Air::new(AirConfig {
            rate_bps: 8_000_000,
            fdt_interval_ms: 100,
            reserved_bps: 4_000_000,
            reserved_by_service_bps: vec![4_000_000],
            drops_late: true,
            first_toi,
            ..AirConfig::default()
        });
        air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
        air
    }

    fn object(name: &str, bytes: usize, repeat: Repeat) -> AirObject {
        AirObject::of_bytes(name, &vec![name.len() as u8; bytes], repeat)
    }

    /// TOI and symbol of each packet of an object, FDT Instance ID of each other one.
    #[derive(Debug, Default)]
    struct Sent {
        symbols: Vec<(u128, u32)>,
        instances: Vec<u32>,
    }

    #[test]
    fn what_comes_and_goes_on_standby_is_neither_queued_nor_counted_as_dropped() {
        let mut air = air(1);
        air.stand_by();
        let live = Repeat::Live(LiveTiming::of(0, Some(2000)));
        let [gone, stays] = ["gone", "stays"].map(|name| air.add(0, object(name, 1000, live)).unwrap());
        air.withdraw(gone);
        assert!(sent(&mut air, 0, 100).symbols.is_empty() && air.stats().live_dropped.total() == 0);
        air.go_on(100_000_000, WALL, &HashMap::new()).unwrap();
        assert_eq!(sent(&mut air, 100, 200).symbols.len(), 1);
        assert!(!air.is_pending(stays));
    }

    fn sent(air: &mut Air, from_ms: u64, until_ms: u64) -> Sent {
        let (mut now_ns, mut out, mut all) = (from_ms * 1_000_000, Vec::new(), Sent::default());
        while now_ns < until_ms * 1_000_000 {
            if air.next_packet(now_ns, WALL, &mut out).is_none() {
                now_ns += 1_000_000;
                continue;
            }
            let packet = Packet::parse(&out).unwrap();
            match packet.fdt {
                Some(fdt) => all.instances.push(Fdt::parse(fdt).unwrap().instance_id),
                None => {
                    let esi = u16::from_be_bytes([packet.body[2], packet.body[3]]);
                    all.symbols.push((packet.lct.toi.unwrap().0, u32::from(esi)));
                }
            }
            now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
        }
        all
    }

    /// State that one sender hands to the next one, with a reserve of ten.
    fn told(air: &Air, now_ms: u64) -> HashMap<String, Numbers> {
        let all = air.numbers().into_iter().enumerate().map(|(index, it)| {
            let objects = air.known_objects(index).into_iter().map(|mut known| {
                known.started_ms = known.started_ms.map(|ms| now_ms - ms);
                (known.key, known)
            });
            let numbers = Numbers {
                first_toi: it.next_toi + 10,
                first_instance_id: it.next_instance_id + 10,
                version: it.version,
                objects: objects.collect(),
                on_air: it.on_air,
            };
            (it.name, numbers)
        });
        all.collect()
    }

    #[test]
    fn a_film_goes_on_where_the_other_sender_has_ended_under_the_same_toi() {
        let (mut first, mut second) = (air(1), air(70_000));
        first.add(0, object("film", 1_400_000, FILM)).unwrap();
        first.add(0, object("short", 14_000, FILM)).unwrap();
        // Another order, and one that the first does not have.
        for (name, bytes) in [("new!", 2800), ("short", 14_000), ("film", 1_400_000)] {
            second.add(0, object(name, bytes, FILM)).unwrap();
        }
        let before = sent(&mut first, 0, 500);
        let tois: BTreeMap<u128, u32> = before.symbols.iter().copied().collect();
        let (&film, &last) = tois.iter().find(|(_, last)| **last > 100).expect("the film has begun");
        let known = second.go_on(900_000_000, WALL, &told(&first, 500)).unwrap();
        assert_eq!(known, 2);
        let after = sent(&mut second, 900, 2500);
        let of_film: Vec<u32> = after.symbols.iter().filter(|it| it.0 == film).map(|it| it.1).collect();
        assert_eq!(of_film[0], last + 1, "nothing is sent twice, and nothing left out");
        assert!(of_film.ends_with(&[999]) || of_film.contains(&999), "to its end: {}", of_film.len());
        let used: BTreeSet<u128> = after.symbols.iter().map(|it| it.0).collect();
        // Both were told, though the second was not sent; what was not is above the reserve.
        assert_eq!(used, BTreeSet::from([film, 2, 13]));
        let highest = before.instances.iter().max().unwrap();
        assert!(after.instances.iter().all(|id| id > &(highest + 9)), "{:?}", after.instances);
    }

    #[test]
    fn a_live_object_that_was_sent_is_not_sent_again_and_one_that_was_not_is() {
        let live = Repeat::Live(LiveTiming::of(0, Some(2000)));
        let (mut first, mut second) = (air(1), air(70_000));
        for name in ["s1", "s-2"] {
            first.add(0, object(name, 14_000, live)).unwrap();
            second.add(0, object(name, 14_000, live)).unwrap();
        }
        let before = sent(&mut first, 0, 300);
        assert_eq!(before.symbols.len(), 20);
        first.add(0, object("s--3", 14_000, live)).unwrap();
        let third = second.add(0, object("s--3", 14_000, live)).unwrap();
        second.go_on(400_000_000, WALL, &told(&first, 300)).unwrap();
        assert!(second.is_pending(third));
        let after = sent(&mut second, 400, 900);
        assert_eq!(after.symbols, (0..10).map(|esi| (3, esi)).collect::<Vec<_>>());
        assert_eq!(second.stats().live_dropped.total(), 0);
    }

    #[test]
    fn a_live_object_whose_time_has_passed_on_standby_is_dropped_at_a_takeover_and_not_at_a_first_start() {
        let live = Repeat::Live(LiveTiming::of(0, Some(2000)));
        for is_first_start in [false, true] {
            let (mut first, mut second) = (air(1), air(70_000));
            first.add(0, object("sent", 14_000, live)).unwrap();
            sent(&mut first, 0, 300);
            second.stand_by();
            second.add(0, object("sent", 14_000, live)).unwrap();
            // The first one drops it: its deadline is six seconds after its coming.
            let late = second.add(0, object("late!", 14_000, live)).unwrap();
            second.wait(0);
            let in_time = second.add(0, object("in time", 14_000, live)).unwrap();
            second.wait(3_000_000_000);
            let told = if is_first_start { HashMap::new() } else { told(&first, 300) };
            second.go_on(7_000_000_000, WALL, &told).unwrap();
            assert_eq!(second.has(late), is_first_start);
            let after = sent(&mut second, 7000, 7500);
            assert_eq!(after.symbols.len(), if is_first_start { 30 } else { 10 });
            assert!(second.has(in_time) && !second.is_pending(in_time));
            assert_eq!(second.take_dropped().contains(&late), !is_first_start);
            assert_eq!(second.stats().live_dropped.get(LiveDrop::Late), u64::from(!is_first_start));
        }
        // The rest of its time counts.
        let (mut first, mut second) = (air(1), air(70_000));
        first.add(0, object("sent", 14_000, live)).unwrap();
        second.stand_by();
        let near = second.add(0, object("near", 14_000, live)).unwrap();
        second.wait(0);
        second.go_on(5_000_000_000, WALL, &told(&first, 0)).unwrap();
        let Repeat::Live(timing) = second.object(near).unwrap().repeat else { panic!() };
        assert_eq!(timing.within_ms, 1000);
    }

    #[test]
    fn signalling_that_receivers_have_is_repeated_in_turn_and_new_signalling_goes_at_once() {
        let (mut first, mut second) = (air(1), air(70_000));
        for air in [&mut first, &mut second] {
            for name in ["a", "b2", "c33"] {
                air.add(0, object(name, 1000, Repeat::Within { ms: 3000 })).unwrap();
            }
        }
        second.add(0, object("new!", 1000, Repeat::Within { ms: 3000 })).unwrap();
        sent(&mut first, 0, 300);
        second.go_on(400_000_000, WALL, &told(&first, 300)).unwrap();
        let at_once = sent(&mut second, 400, 500).symbols;
        assert_eq!(at_once, [(14, 0)]);
        let later: BTreeSet<u128> = sent(&mut second, 500, 3600).symbols.iter().map(|it| it.0).collect();
        assert_eq!(later, BTreeSet::from([1, 2, 3, 14]));
    }

    #[test]
    fn a_sender_that_was_silent_for_a_while_goes_on_with_the_numbers_of_the_other_one() {
        let (mut first, mut second) = (air(1), air(70_000));
        for air in [&mut first, &mut second] {
            air.add(0, object("film", 140_000, FILM)).unwrap();
        }
        let mut instances = sent(&mut first, 0, 500).instances;
        for (from, to, at_ms) in [(0, 1, 1000), (1, 0, 2000), (0, 1, 3000)] {
            let airs = [&mut first, &mut second];
            let numbers = told(airs[from], at_ms);
            assert_eq!(airs[to].go_on(at_ms * 1_000_000, WALL, &numbers).unwrap(), 1);
            let next = sent(airs[to], at_ms, at_ms + 500);
            assert!(next.symbols.iter().all(|it| it.0 == 1) && next.symbols.len() > 100);
            assert!(next.instances[0] > *instances.last().unwrap(), "{instances:?} {next:?}");
            instances = next.instances;
        }
    }
}
