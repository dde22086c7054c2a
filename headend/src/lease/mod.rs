//! Several headends with one carousel: the one that holds a lease sends, the others are ready to (`DESIGN.md`).
//!
//! | module | content |
//! |---|---|
//! | [`mod@core`] | the decision which headend sends, and the next request to the store: pure |
//! | [`record`] | the document in the store: lease, reserves, objects |
//! | `keeper` | the thread that sends the requests |
//! | this file | use of both by the sending thread |

pub mod core;
mod keeper;
pub mod record;

use std::sync::Arc;
use std::time::Duration;

use carousel::command::Command;
use carousel::time::WallTime;
use carousel::trust::Sealer;
use serde_json::Value;

use crate::broadcast::Broadcast;
use crate::clock::boot_ns;
use crate::config::Config;
use crate::spool;
pub use keeper::{LeaseFailure, LeaseRole, LeaseView, StoreLook, look};
use keeper::{PredecessorState, Shared, Upload};
use record::{SessionState, State, write_objects};

/// Interval at which the state is made for the next renewal.
const PUBLISH_NS: u64 = 200_000_000;
/// Interval at which reserves are checked while no object comes or goes.
const RESERVE_LOOK_NS: u64 = 10_000_000;
/// Objects of a session that are listed in the document; those of longer sessions are in tables.
const INLINE_OBJECTS: usize = 256;
/// Objects that are listed in the document in all.
const INLINE_OBJECTS_OF_ALL: usize = 4096;
/// Bytes of a table for each second between two writes of it.
const TABLE_BYTES_A_SECOND: u64 = 64 << 10;
/// Versions of signatures that are set aside: they count milliseconds.
const VERSIONS_AHEAD: u64 = 60_000;
/// Time after which commands that could not be taken over are tried again.
const MIRROR_AGAIN_NS: u64 = 10_000_000_000;
/// Time that a headend which ends waits for its lease to be given back.
const LEAVE_PATIENCE: Duration = Duration::from_millis(1500);

/// The right to send, of the thread that does.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    /// Generation in whose place it has continued.
    adopted: Option<u64>,
    /// Whether queues are empty, as another headend is on the air.
    is_standby: bool,
    /// Whether its time has run out, and it is not known yet that another headend is on the air.
    is_silent: bool,
    number: u64,
    publish_ns: u64,
    /// Objects on and off the air when reserves were checked last, and when the next check is due.
    looked: (u64, u64),
    tables: Vec<Table>,
    /// Commands that were taken over last.
    mirrored: Option<Arc<State>>,
    /// When those that could not be taken over are tried again.
    mirror_ns: u64,
}

/// The objects of a session, as they were written last.
#[derive(Debug, Default)]
struct Table {
    changes: u64,
    /// Lines in the document.
    inline: String,
    /// Name of the table in the store.
    name: Option<String>,
    /// See [`SessionState::table_later_ms`].
    later_ms: i64,
    is_on_its_way: bool,
    next_ns: u64,
}

/// For `headend status` and metrics.
#[derive(Debug, Clone)]
pub struct LeaseStatus(Arc<Shared>);

impl LeaseStatus {
    /// The present state.
    pub fn view(&self) -> LeaseView {
        self.0.view()
    }

    /// Whether a packet may be sent at this moment. To be asked right before.
    pub fn may_send(&self) -> bool {
        self.0.may_send()
    }

    /// One with every member, for the reference.
    pub(crate) fn sample() -> Self {
        Self(Shared::sample())
    }
}

impl Table {
    /// After a takeover: the table that the other headend had is named until there is a new one.
    fn found(found: &PredecessorState, session: &str, now_ms: u64, later_ms: u64) -> Self {
        let state = found.state.sessions.iter().find(|it| it.name == session);
        let has_table =
            |it: &&SessionState| it.table.as_ref().is_some_and(|it| found.tables.contains_key(it));
        let Some(state) = state.filter(has_table) else { return Self::default() };
        // This moment by the other headend's clock.
        let other_ms = found.state.now_ms.saturating_add(later_ms);
        Self {
            // The objects on the air have changed: TOIs have been given.
            changes: u64::MAX,
            name: state.table.clone(),
            later_ms: state.table_later_ms.saturating_add(now_ms.wrapping_sub(other_ms).cast_signed()),
            ..Self::default()
        }
    }
}

impl Lease {
    /// Begins to ask the store. `None` without `[lease]`.
    ///
    /// # Errors
    /// One line.
    pub fn start(config: &Config, broadcast: &mut Broadcast) -> Result<Option<Self>, String> {
        let Some(options) = &config.lease else { return Ok(None) };
        broadcast.air.stand_by();
        Ok(Some(Self {
            shared: keeper::start(options)?,
            adopted: None,
            is_standby: true,
            is_silent: false,
            number: 0,
            publish_ns: 0,
            looked: (0, 0),
            tables: Vec::new(),
            mirrored: None,
            mirror_ns: 0,
        }))
    }

    /// For `headend status` and metrics.
    pub fn status(&self) -> LeaseStatus {
        LeaseStatus(Arc::clone(&self.shared))
    }

    /// Does what is due; whether packets may be made. To be called before each batch, behind what gives objects their TOIs.
    ///
    /// # Errors
    /// A store without conditional writes; objects that do not fit their sessions.
    pub fn tend(&mut self, now_ns: u64, wall: WallTime, broadcast: &mut Broadcast) -> Result<bool, String> {
        if self.adopted.is_none_or(|generation| self.shared.held() != Some(generation)) {
            self.is_silent = false;
            return self.wait(now_ns, wall, broadcast).map(|()| false);
        }
        let may_send = self.shared.may_send();
        if self.is_silent == may_send {
            self.is_silent = !may_send;
            let what = if may_send { "renewed: sends again" } else { "not renewed in time: silent" };
            eprintln!("headend: lease: {what}");
        }
        if !may_send {
            return Ok(false);
        }
        if now_ns >= self.publish_ns {
            self.publish(now_ns, wall, broadcast, false);
        }
        let (generation, look_ns) = self.looked;
        if broadcast.air.generation() != generation || now_ns >= look_ns {
            if !self.is_reserved(broadcast) {
                // The next renewal brings what is missing.
                if now_ns >= look_ns {
                    self.looked.1 = now_ns + RESERVE_LOOK_NS;
                    self.publish(now_ns, wall, broadcast, true);
                }
                return Ok(false);
            }
            self.looked = (broadcast.air.generation(), now_ns + RESERVE_LOOK_NS);
        }
        Ok(true)
    }

    /// Another headend is on the air, or was until now.
    fn wait(&mut self, now_ns: u64, wall: WallTime, broadcast: &mut Broadcast) -> Result<(), String> {
        if let Some(why) = self.shared.broken() {
            return Err(format!("[lease] url: {why}"));
        }
        if !self.is_standby {
            broadcast.air.stand_by();
            self.is_standby = true;
            self.adopt(None);
            // Packets that the output still has are dropped before anything else may be sent.
            return Ok(());
        }
        broadcast.air.wait(now_ns);
        let Some(found) = self.shared.active().and_then(|generation| self.shared.found(generation)) else {
            if let Some(seen) = self.shared.seen() {
                self.mirror(&seen, now_ns, wall, broadcast);
            }
            return Ok(());
        };
        self.mirror_ns = 0;
        self.mirror(&found.state, now_ns, wall, broadcast);
        let later_ms = boot_ns().saturating_sub(found.read_ns) / 1_000_000;
        let numbers = found.state.numbers(later_ms, |name| found.tables.get(name).map(String::as_str));
        let no_earlier = WallTime::from_unix_ms(wall.unix_ms().max(found.state.wall_ms));
        let known = broadcast.go_on(now_ns, no_earlier, &numbers, found.state.versions)?;
        let all = broadcast.air.objects().count();
        if found.state.sessions.is_empty() {
            eprintln!("headend: lease: the first to be active: begins with {all} objects");
        } else {
            eprintln!(
                "headend: lease: continues with {known} of {all} objects under the TOIs that receivers know"
            );
        }
        self.is_standby = false;
        self.adopt(Some(found.generation));
        let names = broadcast.air.numbers().into_iter().map(|it| it.name);
        self.tables = names.map(|name| Table::found(&found, &name, now_ns / 1_000_000, later_ms)).collect();
        self.looked = (0, 0);
        self.publish(now_ns, wall, broadcast, true);
        Ok(())
    }

    fn adopt(&mut self, generation: Option<u64>) {
        self.adopted = generation;
        self.shared.adopt(generation);
    }

    /// Takes over the commands that the headend on the air has in force.
    fn mirror(&mut self, state: &Arc<State>, now_ns: u64, wall: WallTime, broadcast: &Broadcast) {
        if now_ns < self.mirror_ns || self.mirrored.as_ref().is_some_and(|it| it.commands == state.commands) {
            return;
        }
        if let (Some(folder), Some(commands)) = (spool::folder(broadcast.config()), &state.commands) {
            let read = |all: &Vec<Value>| all.iter().filter_map(spool::of_json).collect::<Vec<Command>>();
            let before = self.mirrored.as_ref().and_then(|it| it.commands.as_ref().map(read));
            let (before, now) = (before.unwrap_or_default(), read(commands));
            let problems = spool::mirror(&folder, &before, &now, wall.unix_seconds());
            for problem in &problems {
                eprintln!("headend: lease: {problem}");
            }
            if !problems.is_empty() {
                self.mirror_ns = now_ns + MIRROR_AGAIN_NS;
                return;
            }
        }
        self.mirrored = Some(Arc::clone(state));
    }

    /// Whether every number that the next packet may use is set aside in the store.
    fn is_reserved(&self, broadcast: &Broadcast) -> bool {
        let Some((_, state)) = self.shared.confirmed() else { return false };
        let versions = broadcast.config().sealer.as_ref().map_or(0, Sealer::last_version);
        let mut sessions = state.sessions.iter();
        let is_covered =
            |(toi, instance_id, pages)| sessions.next().is_some_and(|it| it.covers(toi, instance_id, pages));
        versions <= state.versions && broadcast.air.next_numbers().all(is_covered)
    }

    /// Makes the state that the next renewal writes.
    fn publish(&mut self, now_ns: u64, wall: WallTime, broadcast: &Broadcast, is_urgent: bool) {
        self.publish_ns = now_ns + PUBLISH_NS;
        for (session, name) in self.shared.take_written() {
            if let Some(table) = self.tables.get_mut(session) {
                table.is_on_its_way = false;
                match name.is_empty() {
                    true => table.changes = 0,
                    false => (table.name, table.later_ms) = (Some(name), 0),
                }
            }
        }
        let mut room = INLINE_OBJECTS_OF_ALL;
        let all = broadcast.air.numbers().into_iter().enumerate();
        let sessions = all.map(|(index, numbers)| {
            if self.tables.len() <= index {
                self.tables.push(Table::default());
            }
            let (objects, changes) = (numbers.objects, numbers.changes);
            let mut session = SessionState::of(numbers);
            let table = &mut self.tables[index];
            if objects <= INLINE_OBJECTS && objects <= room {
                room -= objects;
                if table.changes != changes || table.name.is_some() {
                    table.inline = write_objects(&broadcast.air.known_objects(index));
                    (table.changes, table.name) = (changes, None);
                }
                session.objects.clone_from(&table.inline);
                return session;
            }
            table.inline.clear();
            if table.changes != changes && !table.is_on_its_way && now_ns >= table.next_ns {
                let content = write_objects(&broadcast.air.known_objects(index));
                let pause_ns = (content.len() as u64).saturating_mul(1_000_000_000) / TABLE_BYTES_A_SECOND;
                (table.changes, table.is_on_its_way) = (changes, true);
                table.next_ns = now_ns + pause_ns.max(1_000_000_000);
                self.number += 1;
                let name = format!("tables/{}-{}", self.adopted.unwrap_or(0), self.number);
                self.shared.upload(Upload { session: index, name, content });
            }
            session.table.clone_from(&table.name);
            session.table_later_ms = table.later_ms;
            session
        });
        let sessions = sessions.collect();
        let sealer = broadcast.config().sealer.as_ref();
        let last = sealer.map_or(0, |it| it.last_version().max(u64::try_from(wall.unix_ms()).unwrap_or(0)));
        let state = State {
            now_ms: now_ns / 1_000_000,
            wall_ms: wall.unix_ms(),
            versions: if sealer.is_some() { last + VERSIONS_AHEAD } else { 0 },
            sessions,
            commands: sealer.map(|_| broadcast.commands_in_force().iter().map(spool::to_json).collect()),
        };
        self.number += 1;
        self.shared.publish(self.number, self.adopted.unwrap_or(0), state, is_urgent);
    }

    /// Stops sending, and gives the lease back with the last state: another headend continues at once. Packets in the output
    /// count as sent: it has to be flushed before.
    pub fn leave(&mut self, now_ns: u64, wall: WallTime, broadcast: &Broadcast, sleep: impl Fn(Duration)) {
        if self.adopted.is_some() && self.shared.held() == self.adopted {
            self.publish(now_ns, wall, broadcast, false);
        }
        self.adopt(None);
        self.shared.leave();
        let begin_ns = boot_ns();
        while !self.shared.has_left() && boot_ns() - begin_ns < LEAVE_PATIENCE.as_nanos() as u64 {
            sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_table_of_the_other_headend_is_named_with_its_clock_until_there_is_a_new_one() {
        let known =
            crate::air::KnownObject { key: [1; 16], toi: 3, started_ms: Some(900), is_complete: true };
        let session = SessionState {
            name: "s".to_owned(),
            table: Some("tables/4-1".to_owned()),
            ..SessionState::default()
        };
        let state = State { now_ms: 1000, sessions: vec![session], ..State::default() };
        let tables = HashMap::from([("tables/4-1".to_owned(), write_objects(&[known]))]);
        let content = |state: &State, later_ms: u64| {
            let of_table = |name: &str| tables.get(name).map(String::as_str);
            state.numbers(later_ms, of_table)["s"].objects[&[1; 16]].started_ms
        };
        // The clock of this one is earlier, then that of the next one later: it began 350 ms, then 450 ms ago.
        let mut found = PredecessorState {
            generation: 5,
            state: Arc::new(state),
            read_ns: 0,
            tables: Arc::new(tables.clone()),
        };
        assert_eq!(content(&found.state, 250), Some(350));
        for (now_ms, later_ms, age_ms) in [(20, 250, 350), (9000, 100, 450)] {
            let table = Table::found(&found, "s", now_ms, later_ms);
            assert_eq!(table.name.as_deref(), Some("tables/4-1"));
            assert_ne!(table.changes, 0, "it is rewritten");
            let mut state = State::clone(&found.state);
            (state.now_ms, state.sessions[0].table_later_ms) = (now_ms, table.later_ms);
            assert_eq!(content(&state, 0), Some(age_ms));
            found.state = Arc::new(state);
        }
        found.tables = Arc::default();
        assert_eq!(Table::found(&found, "s", 20, 0).name, None, "nobody knows what it says");
    }
}
