//! The receiver's side of commands: each is executed once, at a random time, and remembered until it has expired.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::Command;
use crate::digest::Digest;
use crate::limits;
use crate::reasons;
use crate::time::Instant;

const HEAD: &str = "skycache-commands 1";

limits! {
    /// Commands done that are remembered, so that they are not done again.
    pub const MAX_REMEMBERED: usize = 4096, "commands" {
        why: "A busy operator gives ten a day that are in force for a month.",
        full: "Further commands are refused as `full`: what is forgotten would be done once more.",
        free: "A week of running after a command has expired; at once when room is needed.",
        test: "commands_beyond_the_limits_are_refused_until_others_expire",
    }

    /// Commands that wait for their moment.
    pub const MAX_WAITING: usize = 512, "commands" {
        why: "Two full documents.",
        full: "Further commands are taken when they come again.",
        free: "When a command is done or has expired.",
        test: "commands_beyond_the_limits_are_refused_until_others_expire",
    }
}

reasons! {
    /// Outcomes of commands.
    pub enum Outcome in "commands" by "outcome" {
        /// It was done.
        Done = "done",
        /// There was nothing to do: what it names is not in the cache.
        Nothing = "nothing",
        /// It could not be done.
        Failed = "failed",
        /// Something that it asks for is not configured on this box.
        NotConfigured = "not_configured",
        /// It is for groups that this box does not belong to.
        OtherGroup = "other_group",
        /// It had expired when it came, or before its moment.
        Expired = "expired",
        /// The memory is full: no further command can be remembered.
        Full = "full",
        /// Its document cannot be read.
        Malformed = "malformed",
    }
}

/// Properties of a receiver that commands refer to.
#[derive(Debug, Clone, Copy)]
pub struct Receiver<'a> {
    /// Groups that it belongs to.
    pub groups: &'a [String],
    /// The date in seconds since 1970, as far as it is known.
    pub date: u64,
}

/// Commands that wait for their time, and those executed that have not expired.
#[derive(Debug, Default)]
pub struct Executor {
    /// Salt that makes moments differ between receivers.
    salt: [u8; 16],
    /// Executed commands, by root key and identifier.
    known: BTreeMap<String, Executed>,
    /// Commands for other groups, with their ends: each is reported once, and applies to this receiver when its groups change.
    others: BTreeMap<String, u64>,
    /// Commands of the latest documents that were expired on arrival, or have expired since: each is reported once.
    past: BTreeSet<String>,
    waiting: Vec<Waiting>,
}

/// Time, by the steady clock, for which an executed command is remembered after its end by the date: a date that was wrong may be set
/// back, and the command is in force again.
const KEPT_AFTER_END: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug, Clone, Copy)]
struct Executed {
    /// Its end, in seconds since 1970.
    until: u64,
    /// Time since which the date has been behind its end.
    ended: Option<Instant>,
}

impl Executed {
    const fn new(until: u64) -> Self {
        Self { until, ended: None }
    }

    /// Whether it can be done again, or may be.
    fn is_remembered(&mut self, now: Instant, date: u64) -> bool {
        if self.until > date {
            self.ended = None;
            return true;
        }
        now.since(*self.ended.get_or_insert(now)) < KEPT_AFTER_END
    }
}

#[derive(Debug)]
struct Waiting {
    moment: Instant,
    root: String,
    command: Command,
}

/// Roots choose identifiers independently of each other.
fn key(root: &str, id: &str) -> String {
    format!("{root}/{id}")
}

impl Executor {
    /// An executor with this salt, which a receiver draws once.
    pub fn new(salt: [u8; 16]) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Handles the commands of a genuine document of this root key. `each` gets those that are not to be executed.
    pub fn take(
        &mut self,
        now: Instant,
        root: &str,
        receiver: &Receiver<'_>,
        commands: Vec<Command>,
        mut each: impl FnMut(&Command, Outcome),
    ) {
        let of_root = format!("{root}/");
        let is_named = |name: &str| {
            let id = name.strip_prefix(&of_root);
            id.is_none_or(|id| commands.iter().any(|it| it.id == id))
        };
        self.past.retain(|name| is_named(name));
        for command in commands.iter().filter(|it| it.until <= receiver.date) {
            let name = key(root, &command.id);
            let was_here = self.known.contains_key(&name)
                || self.others.contains_key(&name)
                || self.waiting.iter().any(|it| it.root == root && it.command.id == command.id);
            if self.past.insert(name) && !was_here && command.is_for(receiver.groups) {
                each(command, Outcome::Expired);
            }
        }
        self.known.retain(|_, it| it.is_remembered(now, receiver.date));
        self.others.retain(|_, until| *until > receiver.date);
        // Commands that the document no longer names are cancelled.
        self.waiting.retain(|it| it.root != root || commands.iter().any(|of| of.id == it.command.id));
        for command in commands {
            let is_waiting = self.waiting.iter().any(|it| it.root == root && it.command.id == command.id);
            if is_waiting || self.knows(root, &command.id) || command.until <= receiver.date {
                continue;
            }
            let is_meant = command.is_for(receiver.groups);
            let was_other = self.others.contains_key(&key(root, &command.id));
            if was_other && !is_meant {
                continue;
            }
            self.others.remove(&key(root, &command.id));
            self.forget_ended();
            if self.is_full() {
                each(&command, Outcome::Full);
            } else if !is_meant {
                each(&command, Outcome::OtherGroup);
                self.others.insert(key(root, &command.id), command.until);
            } else if self.waiting.len() < MAX_WAITING {
                let moment = now + Duration::from_secs(self.delay_s(&command));
                self.waiting.push(Waiting { moment, root: root.to_owned(), command });
            }
        }
    }

    /// The next due command, with its root key. It counts as done: write [`Executor::memory`] to disk before executing it.
    pub fn next_due(&mut self, now: Instant, date: u64) -> Option<(String, Command, Option<Outcome>)> {
        let at = self.waiting.iter().position(|it| it.moment <= now)?;
        let Waiting { root, command, .. } = self.waiting.remove(at);
        self.known.insert(key(&root, &command.id), Executed::new(command.until));
        let expired = (command.until <= date).then_some(Outcome::Expired);
        Some((root, command, expired))
    }

    /// Whether a command was done.
    pub fn knows(&self, root: &str, id: &str) -> bool {
        self.known.contains_key(&key(root, id))
    }

    fn is_full(&self) -> bool {
        self.known.len() + self.others.len() + self.waiting.len() >= MAX_REMEMBERED
    }

    /// Makes room, if there is none, by the command that ended first.
    fn forget_ended(&mut self) {
        if !self.is_full() {
            return;
        }
        let ended = self.known.iter().filter(|(_, it)| it.ended.is_some());
        if let Some(first) = ended.min_by_key(|(_, it)| it.until).map(|(name, _)| name.clone()) {
            self.known.remove(&first);
        }
    }

    /// Seconds until the moment of this receiver: the same at each call.
    fn delay_s(&self, command: &Command) -> u64 {
        if command.within_s == 0 {
            return 0;
        }
        let mut hasher = Digest::hasher();
        hasher.update(&self.salt);
        hasher.update(command.id.as_bytes());
        let digest = hasher.finish();
        let number = digest.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        number % (command.within_s + 1)
    }

    /// Commands that wait, and commands that are remembered.
    pub fn counts(&self) -> (usize, usize) {
        (self.waiting.len(), self.known.len() + self.others.len())
    }

    /// Text of the memory, for [`Self::recall`].
    pub fn memory(&self) -> String {
        let mut out = format!("{HEAD}\nsalt {}\n", u128::from_be_bytes(self.salt));
        for (id, it) in &self.known {
            let _ = writeln!(out, "done {} {id}", it.until);
        }
        out
    }

    /// Reads the output of [`Self::memory`]; skips lines that cannot be read. `None` if the text is not such output.
    pub fn recall(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return None;
        }
        let mut executor =
            Self::new(lines.next()?.strip_prefix("salt ")?.parse::<u128>().ok()?.to_be_bytes());
        let done = lines.filter_map(|line| {
            let (until, key) = line.strip_prefix("done ")?.split_once(' ')?;
            Some((key.to_owned(), Executed::new(until.parse().ok()?)))
        });
        executor.known.extend(done.take(MAX_REMEMBERED));
        Some(executor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::command;
    use super::*;

    const NOBODY: Receiver<'static> = Receiver { groups: &[], date: 100 };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn due(executor: &mut Executor, seconds: u64) -> Vec<String> {
        std::iter::from_fn(|| executor.next_due(at(seconds), 100)).map(|(_, it, _)| it.id).collect()
    }

    #[test]
    fn a_command_that_is_repeated_is_done_once_also_after_a_restart() {
        let mut executor = Executor::new([7; 16]);
        let none = |it: &Command, why| panic!("{} {why}", it.id);
        executor.take(at(0), "a", &NOBODY, vec![command("1", "purge", "h/a")], none);
        assert_eq!(due(&mut executor, 0), ["1"]);
        for seconds in 1..5 {
            executor.take(at(seconds), "a", &NOBODY, vec![command("1", "purge", "h/a")], none);
            assert_eq!(due(&mut executor, seconds), [""; 0]);
        }
        let mut executor = Executor::recall(&executor.memory()).unwrap();
        let both = vec![command("1", "purge", "h/a"), command("2", "purge", "h/a")];
        executor.take(at(0), "a", &NOBODY, both, none);
        assert_eq!(due(&mut executor, 0), ["2"]);
        assert_eq!(Executor::recall(&executor.memory()).unwrap().salt, [7; 16]);
        assert!(Executor::recall("skycache-trust 1\n").is_none());
        // Another root has identifiers of its own, and takes nothing back of this one's.
        let late = Command { within_s: 1000, ..command("late", "pin", "h/a") };
        executor.take(at(0), "a", &NOBODY, vec![late], none);
        executor.take(at(0), "b", &NOBODY, vec![command("1", "purge", "h/a")], none);
        assert_eq!((due(&mut executor, 0), executor.counts().0), (vec!["1".to_owned()], 1));
    }

    #[test]
    fn a_command_is_done_once_though_the_date_goes_forward_and_back() {
        let mut executor = Executor::new([7; 16]);
        let none = |it: &Command, why| panic!("{} {why}", it.id);
        let document = || vec![Command { until: 9000, ..command("1", "pin", "h/a") }];
        let take = |executor: &mut Executor, at_s: u64, date: u64| {
            executor.take(at(at_s), "a", &Receiver { date, ..NOBODY }, document(), none);
            due(executor, at_s).len()
        };
        assert_eq!(take(&mut executor, 0, 100), 1);
        for (at_s, date) in [(1, 20_000), (2, 100), (500_000, 20_000), (500_001, 100)] {
            assert_eq!(take(&mut executor, at_s, date), 0, "{at_s} {date}");
        }
        // Also across a restart while the date is wrong.
        take(&mut executor, 500_002, 20_000);
        let mut executor = Executor::recall(&executor.memory()).unwrap();
        assert_eq!(take(&mut executor, 0, 20_000), 0);
        assert_eq!(take(&mut executor, 1, 100), 0);
        // A date that stays: it is forgotten in the end.
        take(&mut executor, 2, 20_000);
        take(&mut executor, 2 + KEPT_AFTER_END.as_secs(), 20_000);
        assert_eq!(executor.counts(), (0, 0));
    }

    #[test]
    fn commands_for_others_expired_and_cancelled_ones_are_not_done() {
        let mut executor = Executor::new([7; 16]);
        let groups = ["north".to_owned()];
        let receiver = Receiver { groups: &groups, date: 100 };
        let of = |id: &str, group: &str| Command { groups: vec![group.into()], ..command(id, "pin", "h/a") };
        let old = Command { until: 100, ..command("old", "pin", "h/a") };
        let late = Command { within_s: 1000, ..command("late", "pin", "h/a") };
        let mut reported = Vec::new();
        let all = vec![of("north", "north"), of("south", "south"), old, late.clone()];
        executor.take(at(0), "a", &receiver, all, |it, why| reported.push((it.id.clone(), why)));
        let expired = ("old".to_owned(), Outcome::Expired);
        assert_eq!(reported, [expired.clone(), ("south".to_owned(), Outcome::OtherGroup)]);
        assert_eq!(due(&mut executor, 0), ["north"]);
        // Its moment comes after its end.
        let (_, command, why) = executor.next_due(at(1000), 10_000).unwrap();
        assert_eq!((command.id.as_str(), why), ("late", Some(Outcome::Expired)));
        // The document names it no more before its moment.
        let mut executor = Executor::new([7; 16]);
        executor.take(at(0), "a", &receiver, vec![late], |_, _| unreachable!());
        assert_eq!(executor.counts(), (1, 0));
        executor.take(at(1), "a", &receiver, Vec::new(), |_, _| unreachable!());
        assert_eq!(due(&mut executor, 2000), [""; 0]);
    }

    #[test]
    fn what_had_expired_when_it_came_is_told_of_once_and_what_was_done_is_not() {
        let mut executor = Executor::new([7; 16]);
        let document = || {
            let old = Command { until: 50, ..command("old", "pin", "h/a") };
            vec![
                command("new", "pin", "h/a"),
                old.clone(),
                Command { groups: vec!["x".into()], id: "other".into(), ..old },
            ]
        };
        let mut reported = Vec::new();
        let mut take = |executor: &mut Executor, date, commands| {
            let receiver = Receiver { date, ..NOBODY };
            executor.take(at(0), "a", &receiver, commands, |it, why| reported.push((it.id.clone(), why)));
        };
        take(&mut executor, 100, document());
        assert_eq!(due(&mut executor, 0), ["new"]);
        take(&mut executor, 100, document());
        // The document is repeated longer than its command is in force, also to a box that starts again.
        take(&mut executor, 20_000, document());
        let mut executor = Executor::recall(&executor.memory()).unwrap();
        take(&mut executor, 20_000, Vec::new());
        assert_eq!(reported, [("old".to_owned(), Outcome::Expired)]);
        assert!(executor.past.is_empty(), "what no document names is forgotten");
    }

    #[test]
    fn receivers_are_dispersed_over_the_time_that_is_given() {
        let command = Command { within_s: 599, ..command("1", "refresh", "h/a") };
        let mut minutes = [0; 10];
        for box_number in 0..2000_u128 {
            let delay_s = Executor::new(box_number.to_be_bytes()).delay_s(&command);
            minutes[usize::try_from(delay_s / 60).unwrap()] += 1;
        }
        assert!(minutes.iter().all(|it| (140..=260).contains(it)), "{minutes:?}");
        let mut executor = Executor::new([3; 16]);
        let delay_s = executor.delay_s(&command);
        executor.take(at(5), "a", &NOBODY, vec![command], |_, _| unreachable!());
        assert_eq!(due(&mut executor, 5 + delay_s - 1), [""; 0]);
        assert_eq!(due(&mut executor, 5 + delay_s), ["1"]);
    }

    #[test]
    fn commands_beyond_the_limits_are_refused_until_others_expire() {
        let mut executor = Executor::new([7; 16]);
        let many = |count: usize| (0..count).map(|at| command(&at.to_string(), "pin", "h/a")).collect();
        executor.take(at(0), "a", &NOBODY, many(MAX_WAITING + 1), |_, _| unreachable!());
        assert_eq!(executor.counts().0, MAX_WAITING);
        executor.waiting.clear();
        executor.known = (0..MAX_REMEMBERED).map(|at| (format!("k{at}"), Executed::new(200))).collect();
        let mut reported = Vec::new();
        executor.take(at(0), "a", &NOBODY, vec![command("new", "pin", "h/a")], |_, why| reported.push(why));
        assert_eq!((reported, due(&mut executor, 0)), (vec![Outcome::Full], Vec::new()));
        let later = Receiver { date: 200, ..NOBODY };
        executor.take(at(0), "a", &later, vec![command("new", "pin", "h/a")], |_, _| unreachable!());
        assert_eq!(due(&mut executor, 0), ["new"]);
    }
}
