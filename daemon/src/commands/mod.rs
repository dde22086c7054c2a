//! Commands from the carousel: the received ones, their results, and the file that records executed ones.
//!
//! The session thread passes documents in; [`carousel::trust`] verifies them and [`carousel::command::Executor`] decides
//! which commands are due. Commands are executed at most once: each is recorded before its execution, so a power cut in
//! between loses it.

mod options;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::command::{self, Action, Command, Executor, Outcome, Receiver};
use carousel::reason::Counts;
use carousel::time::{Instant, WallTime};
use carousel::trust::{Allowance, AnchorState, Judged, KeyId, Kind, Mode, SignedBy, Trust, TrustDrop};

use crate::signed_documents::DocumentQueue;
use crate::sys;

pub use options::CommandOptions;

/// Name of the file in the store's folder.
const FILE: &str = "commands";
/// Change of the date, beside the time that has passed, after which documents are judged again: what was not valid yet may be.
const STEP_S: u64 = 60;

carousel::limits! {
    /// Documents of commands that are judged again when keys, groups or the date change.
    const MAX_JUDGED: usize = 4, "documents" {
        why: "Headends of several networks may send one each.",
        full: "One whose root key is not known makes room, else the oldest.",
        free: "When a newer one of its root key comes.",
        test: "documents_of_unknown_roots_push_out_none_that_is_in_force",
    }

    /// Messages to viewers that are shown at a time.
    const MAX_MESSAGES: usize = 4, "messages" {
        why: "The page has one line for them.",
        full: "The message that ends first makes room.",
        free: "When a message expires.",
        test: "messages_are_shown_while_they_are_in_force",
    }
}

/// Received commands and their results, shared by the session thread and the admin interface.
#[derive(Debug)]
pub struct Commands {
    options: Mutex<CommandOptions>,
    state: Mutex<State>,
    outcomes: Counts<Outcome>,
    file: PathBuf,
}

#[derive(Debug)]
struct State {
    documents: DocumentQueue,
    /// The last verified documents, which are verified again when keys or groups change: the carousel's repeats are not
    /// passed in.
    judged: Vec<(Option<KeyId>, Vec<u8>)>,
    /// Keys or groups have changed.
    is_outdated: bool,
    /// As of which of an operator's decisions about keys they were judged.
    decisions: u64,
    /// Seconds since 1970 at which the monotonic clock began, when the date was last set.
    began_s: Option<i64>,
    executor: Executor,
    /// The date by the latest genuine document.
    date: u64,
    /// Messages that are shown, with their root keys.
    messages: Vec<(String, Command)>,
}

impl State {
    fn new(executor: Executor) -> Self {
        Self {
            documents: DocumentQueue::new(Kind::Command),
            judged: Vec::new(),
            is_outdated: false,
            decisions: 0,
            began_s: None,
            executor,
            date: 0,
            messages: Vec::new(),
        }
    }
}

impl Commands {
    /// Commands of the box whose store is in `folder`, with its memory. A box without memory draws its salt.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn open(options: CommandOptions, folder: &std::path::Path) -> Result<Self, String> {
        let file = folder.join(FILE);
        let text = std::fs::read_to_string(&file);
        if let Err(err) = &text
            && err.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), %err, "the memory of commands cannot be read");
        }
        let executor = match text.ok().as_deref().and_then(Executor::recall) {
            Some(executor) => executor,
            None => {
                let mut salt = [0; 16];
                File::open("/dev/urandom")
                    .and_then(|mut it| it.read_exact(&mut salt))
                    .map_err(|err| format!("/dev/urandom: {err}"))?;
                Executor::new(salt)
            }
        };
        let state = Mutex::new(State::new(executor));
        Ok(Self { options: Mutex::new(options), state, outcomes: Counts::default(), file })
    }

    /// Takes over `[commands]` of a new configuration.
    pub fn configure(&self, options: CommandOptions) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
        self.state().is_outdated = true;
    }

    /// `[commands]`.
    pub fn options(&self) -> CommandOptions {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete in itself, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a document in.
    pub fn offer(&self, trust: &Trust, now: Instant, document: Vec<u8>) {
        self.state().documents.push(trust, now, document);
    }

    /// Counters of commands by outcome.
    pub const fn outcomes(&self) -> &Counts<Outcome> {
        &self.outcomes
    }

    /// Commands that wait for their moment, and those remembered.
    pub fn counts(&self) -> (usize, usize) {
        self.state().executor.counts()
    }

    /// Messages to viewers in force.
    pub fn messages(&self, wall: Option<WallTime>) -> Vec<String> {
        let mut state = self.state();
        let date = state.date_at(wall);
        state.messages.retain(|(_, it)| it.until > date);
        state.messages.iter().map(|(_, it)| it.action.target().to_owned()).collect()
    }

    /// Shows viewers a message.
    pub fn show(&self, root: &str, command: Command) {
        self.state().show(root, command);
    }

    /// Verifies received commands. `told` gets each command that is not executed, and the reason.
    pub fn judge(
        &self,
        trust: &Trust,
        now: Instant,
        wall: Option<WallTime>,
        mut report: impl FnMut(&Command, Outcome),
    ) {
        let documents = self.state().take_documents(trust.changes().1, now, wall);
        let options = self.options();
        for bytes in documents {
            let judged = Judged {
                kind: Kind::Command,
                bytes: &bytes,
                tsi: None,
                mode: Mode::Require,
                allowance: Allowance::Caller,
            };
            // Refusals are counted with those of other documents.
            let by = trust.judge(now, wall, &judged);
            let may_count_later = [TrustDrop::UnknownKey, TrustDrop::NotYetValid, TrustDrop::Expired];
            if matches!(by, Ok(Some(_))) || by.as_ref().is_err_and(|why| may_count_later.contains(why)) {
                let root = by.as_ref().ok().and_then(|by| Some(by.as_ref()?.root));
                let mut state = self.state();
                // A root's older document would be a replay.
                state.judged.retain(|(of, it)| *it != bytes && (root.is_none() || *of != root));
                state.keep_judged(root, bytes.clone());
            }
            let Ok(Some(by)) = by else { continue };
            if !may_command(trust, &by) {
                trust.count(TrustDrop::UnknownKey);
                continue;
            }
            let issued = carousel::trust::open(&bytes).ok().flatten().map_or(0, |it| it.seal.edition.issued);
            let Ok(commands) = command::read(&bytes) else {
                self.outcomes.add(Outcome::Malformed);
                continue;
            };
            let root = by.root.to_string();
            let mut state = self.state();
            state.date = state.date.max(issued);
            let date = state.date_at(wall);
            let receiver = Receiver { groups: &options.groups, date };
            // A message that was cancelled goes; one that was shown before a restart comes back.
            state.messages.retain(|(of, it)| *of != root || commands.iter().any(|now| now.id == it.id));
            for command in &commands {
                let is_message =
                    matches!(command.action, Action::Message(_)) && command.is_for(&options.groups);
                if is_message && command.until > date && state.executor.knows(&root, &command.id) {
                    state.show(&root, command.clone());
                }
            }
            state.executor.take(now, &root, &receiver, commands, |command, why| {
                self.outcomes.add(why);
                report(command, why);
            });
        }
    }

    /// The next command that is due, with its root key, recorded as done. Its result is reported with [`Commands::done`].
    pub fn next_due(
        &self,
        now: Instant,
        wall: Option<WallTime>,
    ) -> Option<(String, Command, Option<Outcome>)> {
        let mut state = self.state();
        let date = state.date_at(wall);
        let (root, command, why) = state.executor.next_due(now, date)?;
        if why.is_none()
            && let Err(err) = sys::replace(&self.file, state.executor.memory().as_bytes())
        {
            tracing::error!(file = %self.file.display(), %err, id = command.id, "not done: that it was done cannot be remembered");
            return Some((root, command, Some(Outcome::Failed)));
        }
        Some((root, command, why))
    }

    /// Counts the outcome of a command.
    pub fn done(&self, outcome: Outcome) {
        self.outcomes.add(outcome);
    }
}

impl State {
    /// Documents that have come, behind what was judged before keys, groups or the date changed.
    fn take_documents(&mut self, decisions: u64, now: Instant, wall: Option<WallTime>) -> Vec<Vec<u8>> {
        // The time of 1970 at which the monotonic clock began: a step changes it.
        let since_begin_s = i64::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
        let began_s = wall.map(|it| it.unix_ms() / 1000 - since_begin_s);
        let has_stepped = match (began_s, self.began_s) {
            (Some(began_s), Some(before)) => began_s.abs_diff(before) > STEP_S,
            (began_s, before) => began_s != before,
        };
        if has_stepped {
            self.began_s = began_s;
        }
        let has_changed = std::mem::take(&mut self.is_outdated) || self.decisions != decisions || has_stepped;
        self.decisions = decisions;
        let again = self.judged.iter().filter(|(_, it)| has_changed && !self.documents.has(it));
        let mut all: Vec<_> = again.map(|(_, it)| it.clone()).collect();
        all.extend(self.documents.take());
        all
    }

    /// Keeps a judged document, of this root key if it is known.
    fn keep_judged(&mut self, root: Option<KeyId>, document: Vec<u8>) {
        if self.judged.len() >= MAX_JUDGED {
            let of_unknown = self.judged.iter().position(|(of, _)| of.is_none());
            if of_unknown.is_none() && root.is_none() {
                return;
            }
            self.judged.remove(of_unknown.unwrap_or(0));
        }
        self.judged.push((root, document));
    }

    /// The date of the system; while that is not known, the date by documents.
    fn date_at(&self, wall: Option<WallTime>) -> u64 {
        wall.map_or(self.date, WallTime::unix_seconds)
    }

    fn show(&mut self, root: &str, command: Command) {
        self.messages.retain(|(of, it)| of != root || it.id != command.id);
        self.messages.push((root.to_owned(), command));
        if self.messages.len() > MAX_MESSAGES {
            let first = self.messages.iter().enumerate().min_by_key(|(_, (_, it))| it.until);
            let first = first.map_or(0, |(at, _)| at);
            self.messages.remove(first);
        }
    }
}

/// Whether a root key in this state may give commands: pinned, or confirmed by an operator. One that has only been met may not.
const fn is_in_command(state: AnchorState) -> bool {
    matches!(state, AnchorState::Pinned | AnchorState::Confirmed)
}

/// Whether the root key of a document may give commands.
pub fn may_command(trust: &Trust, by: &SignedBy) -> bool {
    let anchors = trust.report().anchors;
    anchors.iter().any(|it| it.key.id() == by.root && is_in_command(it.state))
}

/// Whether there is a root key that may give commands.
pub fn may_be_commanded(trust: &Trust) -> bool {
    trust.report().anchors.iter().any(|it| is_in_command(it.state))
}

#[cfg(test)]
mod tests {
    use carousel::trust::{Certificate, Edition, Policy, Sealer, SecretKey};

    use super::*;

    fn root() -> SecretKey {
        SecretKey::from_seed(&[1; 32])
    }

    fn document(version: u64, commands: &[Command]) -> Vec<u8> {
        let online = SecretKey::from_seed(&[2; 32]);
        let certificate = Certificate::issue(&root(), online.public(), (0, 1), (0, 1 << 40), Vec::new());
        let sealer = Sealer::new(online, certificate, None, 0).unwrap();
        let edition = Edition { version, issued: 1000, until: 9000, ..Edition::default() };
        let text = command::to_xml(commands);
        sealer.seal_xml(Kind::Command, &command::stream(), &edition, &text).into_bytes()
    }

    fn ban(id: &str, groups: &[&str]) -> Command {
        let groups = groups.iter().map(|it| (*it).to_owned()).collect();
        Command {
            id: id.to_owned(),
            action: Action::of("ban", "h/*").unwrap(),
            groups,
            until: 9000,
            within_s: 0,
        }
    }

    fn trust(policy: Policy) -> Trust {
        Trust::new(policy)
    }

    fn hand_in(commands: &Commands, document: Vec<u8>) {
        let pinned = trust(Policy { keys: vec![root().public()], ..Policy::default() });
        commands.offer(&pinned, Instant::default(), document);
    }

    fn due(commands: &Commands) -> Vec<String> {
        std::iter::from_fn(|| commands.next_due(Instant::default(), None)).map(|(_, it, _)| it.id).collect()
    }

    fn open(folder: &tempfile::TempDir) -> Commands {
        let options = CommandOptions { groups: vec!["north".into()], ..CommandOptions::default() };
        Commands::open(options, folder.path()).unwrap()
    }

    #[test]
    fn a_signed_command_is_done_once_on_a_box_that_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let pinned = trust(Policy { keys: vec![root().public()], ..Policy::default() });
        let both = [ban("1", &[]), ban("2", &["south"]), ban("3", &["north"])];
        let commands = open(&folder);
        let mut report = Vec::new();
        for _ in 0..3 {
            hand_in(&commands, document(5, &both));
            commands.judge(&pinned, Instant::default(), None, |it, why| report.push((it.id.clone(), why)));
        }
        assert_eq!(due(&commands), ["1", "3"]);
        assert_eq!(report, [("2".to_owned(), Outcome::OtherGroup)]);
        assert_eq!(commands.outcomes().get(Outcome::OtherGroup), 1);
        drop(commands);
        let commands = open(&folder);
        hand_in(&commands, document(6, &both));
        commands.judge(&pinned, Instant::default(), None, |_, _| ());
        assert_eq!(due(&commands), [""; 0]);
    }

    #[test]
    fn commands_of_no_key_untrusted_and_unconfirmed_keys_are_refused_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let commands = open(&folder);
        let forged =
            String::from_utf8(document(5, &[ban("1", &[])])).unwrap().replace("h/*", "x/*").into_bytes();
        let unsigned = command::to_xml(&[ban("1", &[])]).replace(carousel::trust::BLANK, "").into_bytes();
        let good = document(5, &[ban("1", &[])]);
        let enrols = Policy { enrol: true, mode: Mode::Require, ..Policy::default() };
        let pinned = Policy { keys: vec![root().public()], ..Policy::default() };
        for (policy, bytes, reason) in [
            (pinned.clone(), forged, TrustDrop::BadSignature),
            (pinned, unsigned, TrustDrop::Unsigned),
            (Policy::default(), good.clone(), TrustDrop::UnknownKey),
            (enrols.clone(), good.clone(), TrustDrop::UnknownKey),
        ] {
            let trust = trust(policy);
            hand_in(&commands, bytes);
            commands.judge(&trust, Instant::default(), None, |_, _| ());
            assert_eq!(due(&commands), [""; 0], "{reason}");
            assert_eq!(trust.report().refused[reason as usize], 1, "{reason}");
        }
        // An operator confirms the key that was met.
        let trust = trust(enrols);
        for count in [0, 1] {
            hand_in(&commands, good.clone());
            commands.judge(&trust, Instant::default(), None, |_, _| ());
            assert_eq!(due(&commands).len(), count);
            trust.confirm(root().public().id());
        }
    }

    #[test]
    fn what_is_in_force_is_judged_again_when_keys_or_groups_change() {
        let folder = tempfile::tempdir().unwrap();
        let commands = open(&folder);
        let trust = trust(Policy { enrol: true, mode: Mode::Require, ..Policy::default() });
        let judge = || commands.judge(&trust, Instant::default(), None, |_, _| ());
        hand_in(&commands, document(5, &[ban("1", &[]), ban("2", &["south"])]));
        judge();
        assert_eq!(due(&commands), [""; 0]);
        // The repeats of the carousel are not handed in.
        trust.confirm(root().public().id());
        judge();
        assert_eq!((due(&commands), commands.outcomes().get(Outcome::OtherGroup)), (vec!["1".to_owned()], 1));
        for _ in 0..2 {
            commands.configure(CommandOptions { groups: vec!["south".into()], ..CommandOptions::default() });
            judge();
        }
        assert_eq!((due(&commands), commands.outcomes().get(Outcome::OtherGroup)), (vec!["2".to_owned()], 1));
        // A newer document takes the place of the one before, which would be a replay.
        hand_in(&commands, document(6, &[]));
        judge();
        commands.configure(CommandOptions::default());
        judge();
        assert_eq!(trust.report().refused[TrustDrop::Replayed as usize], 0);
    }

    /// A carousel's repeats are not handed in once more.
    #[test]
    fn what_a_wrong_clock_refuses_is_judged_again_when_the_date_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let commands = open(&folder);
        let pinned = trust(Policy { keys: vec![root().public()], ..Policy::default() });
        let judge = |at_s: u64, date_s: i64| {
            let now = Instant::from_nanos(at_s * 1_000_000_000);
            commands.judge(&pinned, now, Some(WallTime::from_unix_ms(date_s * 1000)), |_, _| ());
        };
        let due = || {
            let now = Instant::from_nanos(60_000_000_000);
            std::iter::from_fn(|| commands.next_due(now, None)).map(|(_, it, _)| it.id).collect::<Vec<_>>()
        };
        hand_in(&commands, document(5, &[ban("1", &[])]));
        judge(10, 10_000_000);
        assert_eq!(due(), [""; 0]);
        judge(20, 10_000_010);
        assert_eq!(pinned.report().refused[TrustDrop::Expired as usize], 1, "the date has not been set");
        judge(30, 2000);
        assert_eq!(due(), ["1"]);
    }

    #[test]
    fn untrusted_senders_cannot_use_up_the_examination_of_commands() {
        let folder = tempfile::tempdir().unwrap();
        let commands = open(&folder);
        let pinned = trust(Policy { keys: vec![root().public()], ..Policy::default() });
        let forged = String::from_utf8(document(5, &[ban("1", &[])])).unwrap().replace("h/*", "x/*");
        let judged = Judged {
            kind: Kind::Command,
            bytes: forged.as_bytes(),
            tsi: None,
            mode: Mode::Require,
            allowance: Allowance::Untrusted(0),
        };
        while pinned.judge(Instant::default(), None, &judged) != Err(TrustDrop::Budget) {}
        hand_in(&commands, document(5, &[ban("1", &[])]));
        commands.judge(&pinned, Instant::default(), None, |_, _| ());
        assert_eq!(due(&commands), ["1"]);
    }

    #[test]
    fn documents_of_unknown_roots_push_out_none_that_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let commands = open(&folder);
        let trust = trust(Policy { keys: vec![root().public()], ..Policy::default() });
        let judge = || commands.judge(&trust, Instant::default(), None, |_, _| ());
        hand_in(&commands, document(5, &[ban("1", &["south"])]));
        judge();
        for seed in 10..30 {
            let (root, online) = (SecretKey::from_seed(&[seed; 32]), SecretKey::from_seed(&[2; 32]));
            let certificate = Certificate::issue(&root, online.public(), (0, 1), (0, 1 << 40), Vec::new());
            let sealer = Sealer::new(online, certificate, None, 0).unwrap();
            let edition = Edition { version: 1, issued: 1000, until: 9000, ..Edition::default() };
            let text = command::to_xml(&[]);
            let unknown = sealer.seal_xml(Kind::Command, &command::stream(), &edition, &text);
            hand_in(&commands, unknown.into_bytes());
            judge();
        }
        assert_eq!(commands.state().judged.len(), MAX_JUDGED);
        commands.configure(CommandOptions { groups: vec!["south".into()], ..CommandOptions::default() });
        judge();
        assert_eq!(due(&commands), ["1"]);
    }

    #[test]
    fn messages_are_shown_while_they_are_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let commands = open(&folder);
        let message = |until: u64| {
            let action = Action::of("message", &until.to_string()).unwrap();
            Command { until, action, ..ban(&until.to_string(), &[]) }
        };
        for until in [30, 10, 20, 20, 40, 50] {
            commands.show("a", message(until));
        }
        let at = |seconds: i64| commands.messages(Some(WallTime::from_unix_ms(seconds * 1000)));
        assert_eq!(at(5), ["30", "20", "40", "50"]);
        assert_eq!(at(30), ["40", "50"]);
        assert_eq!(at(50), [""; 0]);
        // One that was shown before comes back after a restart, and goes when it is cancelled.
        let pinned = trust(Policy { keys: vec![root().public()], ..Policy::default() });
        hand_in(&commands, document(5, &[message(8000)]));
        commands.judge(&pinned, Instant::default(), None, |_, _| ());
        assert_eq!((due(&commands), at(2000)), (vec!["8000".to_owned()], Vec::new()));
        let commands = open(&folder);
        let at = |seconds: i64| commands.messages(Some(WallTime::from_unix_ms(seconds * 1000)));
        for (version, all) in [(6, vec![message(8000)]), (7, Vec::new())] {
            hand_in(&commands, document(version, &all));
            commands.judge(&pinned, Instant::default(), None, |_, _| ());
            assert_eq!((due(&commands).len(), at(2000).len()), (0, all.len()));
        }
    }
}
