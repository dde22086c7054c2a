//! Updates that are offered to this box: the offers in force, the update in progress, and the file that records it.
//!
//! The session thread passes documents in and reads which sessions are wanted; [`carousel::trust`] verifies the documents,
//! and [`super::decide`] decides the next step. The file is on the disk before each step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::digest::Digest;
use carousel::firmware::{Offer, SERVICE};
use carousel::mabr::{Protocol, RepairParameters, SessionOrigin, SessionSpec};
use carousel::reason::Counts;
use carousel::time::{Instant, WallTime};
use carousel::trust::{Allowance, Judged, Kind, Mode, Trust, TrustDrop};
use serde_json::{Value, json};

use super::decide::{
    self, Action, Audience, BundleProgress, HoldReason, Memory, Moment, Phase, Receiver, Release,
    UpdateStatus,
};
use super::installer::{InstallError, Installer as _, Program};
use super::lack::{self, Lack, Own};
use super::options::FirmwareOptions;
use super::report::bounded;
use crate::commands::{may_be_commanded, may_command};
use crate::signed_documents::DocumentQueue;
use crate::sys;

/// Name of the file in the store's folder.
const FILE: &str = "firmware.json";
/// Name of the bundle for the installer, in the store's folder.
const BUNDLE: &str = "firmware.raucb";
/// Silence of a bundle's session after which packets count as lost: its rate is low.
const RECEPTION_TIMEOUT_MS: u64 = 60_000;
/// Disables repair before its time: missing parts are left to the carousel.
const NEVER_MS: u64 = 365 * 86_400_000;

carousel::limits! {
    /// Lists of offers in force: one for each root key.
    const MAX_LISTS: usize = 8, "lists" {
        why: "A box has one or two root keys that it trusts.",
        full: "The list of a further root key is refused as `malformed`.",
        free: "When its offers have ended.",
        test: "lists_of_offers_are_bounded",
    }
}

carousel::reasons! {
    /// Outcomes of updates.
    pub enum UpdateOutcome in "firmware_updates" by "outcome" {
        /// The installer is done with it; the box has to restart.
        Installed = "installed",
        /// Its version runs.
        Running = "running",
        /// The installer has refused it, or failed.
        Failed = "failed",
        /// Power was lost while it was installed.
        CutOff = "cut_off",
        /// It was installed, and the old version runs again.
        RolledBack = "rolled_back",
        /// The received bundle was not the one offered.
        Discarded = "discarded",
        /// Its offer ended, was withdrawn, or another took its place.
        Dropped = "dropped",
    }
}

/// Why each offer is not installed, by digest.
type ReasonsByOffer = BTreeMap<String, HoldReason>;

/// Offers in force and the update in progress, shared by the session thread, the installer and the admin interface.
#[derive(Debug)]
pub struct Updates {
    state: Mutex<State>,
    held: Counts<HoldReason>,
    outcomes: Counts<UpdateOutcome>,
    /// Changes with the sessions that are wanted.
    generation: AtomicU64,
    folder: PathBuf,
    boot: String,
}

#[derive(Debug)]
struct State {
    options: FirmwareOptions,
    groups: Vec<String>,
    /// Hardware and running version, if the box knows them and has an installer.
    own: Option<(String, String)>,
    /// The same, as far as each is known, for reports.
    known: Own,
    /// Missing conditions for updates, as they were reported last.
    lacks: Vec<Lack>,
    documents: DocumentQueue,
    /// Offers in force, by root key.
    lists: BTreeMap<String, Vec<Offer>>,
    memory: Memory,
    identity: Vec<u8>,
    is_installing: bool,
    /// Missing parts are requested from an origin.
    asks_origin: bool,
    /// The part of it that is in the cache, as of the last step.
    holding: Option<BundleProgress>,
    /// Why each offer is not installed, by digest: each is counted once.
    holds: ReasonsByOffer,
    /// Objects that are not wanted any more.
    unwanted: Vec<String>,
    reports: Vec<Value>,
    /// Reason of the last failure.
    why: Option<String>,
}

impl State {
    fn new(memory: Memory, identity: Vec<u8>) -> Self {
        Self {
            options: Default::default(),
            groups: Default::default(),
            own: Default::default(),
            known: Default::default(),
            lacks: Default::default(),
            documents: DocumentQueue::new(Kind::Firmware),
            lists: Default::default(),
            memory,
            identity,
            is_installing: Default::default(),
            asks_origin: Default::default(),
            holding: Default::default(),
            holds: Default::default(),
            unwanted: Default::default(),
            reports: Default::default(),
            why: Default::default(),
        }
    }
}

/// The object that an offer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its name.
    pub url: String,
    /// Its digest.
    pub sha256: Digest,
    /// Its length.
    pub length: u64,
}

impl Bundle {
    fn of(offer: &Offer) -> Self {
        Self { url: offer.url.clone(), sha256: offer.sha256, length: offer.length }
    }
}

/// A step for the caller, which owns the cache and the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// The missing bytes of this object are to be requested from an origin.
    Ask(Bundle),
    /// This object is to be written to [`Updates::bundle_path`] and given to the installer.
    Install(Bundle),
}

impl Updates {
    /// Updates of the box whose store is in `folder`, with its memory. A box without memory draws a random identity. `own`
    /// is its hardware and version according to the system's files.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn open(
        options: FirmwareOptions,
        groups: Vec<String>,
        own: Own,
        folder: &Path,
        boot: String,
    ) -> Result<Self, String> {
        // The installer is another program, and may run in another folder.
        let folder = std::path::absolute(folder).map_err(|err| format!("{}: {err}", folder.display()))?;
        let file = folder.join(FILE);
        let memory = bounded(&file).and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        if memory.is_none() && file.exists() {
            tracing::warn!(file = %file.display(), "the memory of updates cannot be read");
        }
        let mut memory = memory.unwrap_or_default();
        let is_new = Digest::from_hex(&memory.identity).is_none();
        if is_new {
            let mut drawn = [0; 32];
            File::open("/dev/urandom")
                .and_then(|mut it| it.read_exact(&mut drawn))
                .map_err(|err| format!("/dev/urandom: {err}"))?;
            memory.identity = Digest(drawn).to_hex();
        }
        let identity = Digest::from_hex(&memory.identity).map(|it| it.0.to_vec()).unwrap_or_default();
        let updates = Self {
            state: Mutex::new(State::new(memory, identity)),
            held: Counts::default(),
            outcomes: Counts::default(),
            generation: AtomicU64::new(0),
            folder,
            boot,
        };
        if is_new {
            // Membership in a share must not change with the next start.
            updates.remember(&updates.state());
        }
        updates.configure(options, groups, own);
        // A bundle that was being installed when the power was cut.
        let _ = std::fs::remove_file(updates.bundle_path());
        Ok(updates)
    }

    /// Takes over `[firmware]` and `[commands] groups` of a new configuration.
    pub fn configure(&self, options: FirmwareOptions, groups: Vec<String>, own: Own) {
        let mut state = self.state();
        let known = own.or_as_configured(&options);
        let both = known.compatible.clone().zip(known.version.clone());
        state.own = both.filter(|_| !options.install.is_empty());
        (state.options, state.groups, state.known) = (options, groups, known);
    }

    /// Logs the missing conditions for updates, once for each change. A box without updates configured has none.
    fn note_lacks(&self, trust: &Trust) {
        let mut state = self.state();
        let lacks = Lack::all(&state.options, &state.known, may_be_commanded(trust));
        if lacks == state.lacks {
            return;
        }
        let is_asked_for = !state.options.install.is_empty() || !state.options.url.is_empty();
        for lack in lacks.iter().filter(|it| is_asked_for && !state.lacks.contains(it)) {
            tracing::warn!("firmware updates are not taken: {}; {}", lack.what(), lack.fix());
        }
        state.lacks = lacks;
    }

    /// `[firmware]`.
    pub fn options(&self) -> FirmwareOptions {
        self.state().options.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete in itself, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a document.
    pub fn offer(&self, trust: &Trust, now: Instant, document: Vec<u8>) {
        self.state().documents.push(trust, now, document);
    }

    /// Counters of offers that are not installed, by reason.
    pub const fn held(&self) -> &Counts<HoldReason> {
        &self.held
    }

    /// Counters of updates, by outcome.
    pub const fn outcomes(&self) -> &Counts<UpdateOutcome> {
        &self.outcomes
    }

    /// Number that changes with the sessions that are wanted.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// File of the bundle for the installer.
    pub fn bundle_path(&self) -> PathBuf {
        self.folder.join(BUNDLE)
    }

    /// Offset of this box in a period, so that boxes do not send requests at the same time.
    pub fn own_part_s(&self, of_s: u64) -> u64 {
        let state = self.state();
        state.identity.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) % of_s.max(1)
    }

    /// Reports to the operator since the last call.
    pub fn take_reports(&self) -> Vec<Value> {
        std::mem::take(&mut self.state().reports)
    }

    /// Names of objects that are not wanted any more, since the last call.
    pub fn take_unwanted(&self) -> Vec<String> {
        std::mem::take(&mut self.state().unwanted)
    }

    /// Verifies the queued documents.
    pub fn judge(&self, trust: &Trust, now: Instant, wall: Option<WallTime>) {
        self.note_lacks(trust);
        let documents = self.state().documents.take();
        for bytes in documents {
            let judged = Judged {
                kind: Kind::Firmware,
                bytes: &bytes,
                tsi: None,
                mode: Mode::Require,
                allowance: Allowance::Caller,
            };
            // Refusals are also counted with those of other documents.
            let by = match trust.judge(now, wall, &judged) {
                Ok(Some(by)) if may_command(trust, &by) => by,
                Ok(_) => {
                    trust.count(TrustDrop::UnknownKey);
                    self.held.add(HoldReason::Signature);
                    continue;
                }
                Err(why) => {
                    self.held.add(match why {
                        TrustDrop::Expired => HoldReason::Expired,
                        TrustDrop::Replayed => HoldReason::Replayed,
                        _ => HoldReason::Signature,
                    });
                    continue;
                }
            };
            let Ok(offers) = carousel::firmware::read(&bytes) else {
                self.held.add(HoldReason::Malformed);
                continue;
            };
            let mut state = self.state();
            let date = wall.map_or(0, WallTime::unix_seconds);
            state.lists.retain(|_, list| list.iter().any(|it| it.until > date));
            let root = by.root.to_string();
            if state.lists.len() >= MAX_LISTS && !state.lists.contains_key(&root) {
                self.held.add(HoldReason::Malformed);
                continue;
            }
            state.lists.insert(root, offers);
        }
    }

    /// The object that is wanted, by its name.
    pub fn wanted(&self) -> Option<Bundle> {
        self.state().followed().map(Bundle::of)
    }

    /// `If-Range` value of the origin's version of which a part is in the cache.
    pub fn origin_version(&self) -> Option<String> {
        self.state().memory.release.as_ref()?.origin_version.clone()
    }

    /// Records the origin's version of the next bytes of this bundle.
    pub fn is_of_version(&self, sha256: &Digest, version: Option<&str>) {
        let mut state = self.state();
        let of = state.memory.release.as_mut().filter(|it| it.sha256 == sha256.to_hex());
        let Some(release) = of else { return };
        release.origin_version = version.map(str::to_owned);
        self.remember(&state);
    }

    /// Whether a bundle of this name is remembered, so that it must not be evicted.
    pub fn remembered(&self) -> Option<String> {
        self.state().memory.release.as_ref().map(|it| it.url.clone())
    }

    /// Sessions that are to be received.
    pub fn sessions(&self) -> Vec<SessionSpec> {
        let state = self.state();
        let is_receiving = state.memory.release.as_ref().is_some_and(|it| it.phase == Phase::Receiving);
        let is_whole = matches!(state.holding, Some(BundleProgress::Complete { .. }));
        let offer = state.followed().filter(|_| is_receiving && !is_whole);
        let spec = offer.and_then(|offer| {
            let (address, tsi) = offer.session?;
            let base = offer.url.rsplit_once('/').map_or("", |it| it.0);
            let repair = RepairParameters {
                transport_object_base_uri: Some(format!("{base}/")),
                reception_timeout_ms: RECEPTION_TIMEOUT_MS,
                fixed_back_off_ms: if state.asks_origin { 1 } else { NEVER_MS },
                random_back_off_ms: 0,
                base_urls: if state.asks_origin { vec![(format!("{base}/"), 1)] } else { Vec::new() },
            };
            Some(SessionSpec {
                source: offer.source,
                address,
                tsi: Some(tsi),
                protocol: Protocol::Flute,
                origin: SessionOrigin::Firmware,
                service: SERVICE.to_owned(),
                repair: Some(repair),
                average_bps: None,
                maximum_bps: None,
            })
        });
        spec.into_iter().collect()
    }

    /// The next step. `holding`: the part of [`Updates::wanted`] that is in the cache.
    pub fn step(&self, date: Option<u64>, audience: Audience, holding: BundleProgress) -> Step {
        let mut state = self.state();
        let before = state.wants();
        state.holding = Some(holding);
        let (step, holds) = self.step_of(&mut state, date, audience, holding);
        self.note_holds(&mut state, holds);
        if state.wants() != before {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        step
    }

    /// The next step, and why each offer is not installed: one reason for each.
    fn step_of(
        &self,
        state: &mut State,
        date: Option<u64>,
        audience: Audience,
        holding: BundleProgress,
    ) -> (Step, ReasonsByOffer) {
        let Some((compatible, version)) = state.own.clone() else {
            return (
                Step::Rest,
                state.offers().map(|it| (it.sha256.to_hex(), HoldReason::NotConfigured)).collect(),
            );
        };
        self.settle(state, &version, date);
        let offers: Vec<Offer> = state.offers().cloned().collect();
        let receiver = Receiver {
            compatible: &compatible,
            version: &version,
            identity: &state.identity.clone(),
            groups: &state.groups.clone(),
        };
        let (chosen, held) = decide::choose(&offers, &receiver, &state.memory, date);
        let mut holds: ReasonsByOffer =
            held.into_iter().map(|(offer, why)| (offer.sha256.to_hex(), why)).collect();
        let is_heard = !state.lists.is_empty();
        if !self.follow(state, chosen, date, is_heard) {
            return (Step::Rest, holds);
        }
        let Some(release) = state.memory.release.clone() else { return (Step::Rest, holds) };
        // An update that is being installed, or was, is not abandoned for a later version.
        let later = chosen.map(|it| it.sha256.to_hex()).filter(|it| *it != release.sha256);
        holds.extend(later.map(|it| (it, HoldReason::Busy)));
        let Some(offer) = state.followed().cloned() else { return (Step::Rest, holds) };
        let moment = Moment { date, audience, window: state.options.own_window() };
        let sha256 = offer.sha256.to_hex();
        let action = decide::next(&offer, &release, holding, receiver.identity, &moment);
        state.asks_origin = action == Action::Receive { asks_origin: true };
        let bundle = Bundle::of(&offer);
        let (step, why) = match action {
            Action::Wait(why) => (Step::Rest, Some(why)),
            Action::Receive { asks_origin } => {
                (if asks_origin { Step::Ask(bundle) } else { Step::Rest }, Some(HoldReason::Incomplete))
            }
            Action::Discard(why) => {
                self.end(state, UpdateOutcome::Discarded, why.as_str());
                (Step::Rest, Some(why))
            }
            // The reason that has delayed it until now.
            Action::Install => (Step::Install(bundle), state.holds.get(&sha256).copied()),
        };
        match why {
            Some(why) => holds.insert(sha256, why),
            None => holds.remove(&sha256),
        };
        (step, holds)
    }

    /// Settles the outcome of the remembered update, by the running version.
    fn settle(&self, state: &mut State, version: &str, date: Option<u64>) {
        let Some(release) = &state.memory.release else { return };
        match decide::fate(release, version, state.is_installing, date, &self.boot) {
            UpdateStatus::Open => {}
            UpdateStatus::Done => self.end(state, UpdateOutcome::Running, ""),
            UpdateStatus::Ended => self.drop_release(state),
            UpdateStatus::Failed(why) if release.phase == Phase::Installed => {
                self.end(state, UpdateOutcome::RolledBack, why);
            }
            UpdateStatus::Failed(why) => self.end(state, UpdateOutcome::Failed, why),
            UpdateStatus::CutOff => {
                self.outcomes.add(UpdateOutcome::CutOff);
                if let Some(release) = &mut state.memory.release {
                    release.phase = Phase::Receiving;
                }
                // If this cannot be written, the next start detects the interruption again.
                self.remember(state);
            }
        }
    }

    /// Makes the chosen offer the update in progress. False if it was not that before.
    fn follow(&self, state: &mut State, chosen: Option<&Offer>, date: Option<u64>, is_heard: bool) -> bool {
        if let Some(release) = &mut state.memory.release {
            if release.phase != Phase::Receiving {
                return true;
            }
            if let Some(same) = chosen.filter(|it| it.sha256.to_hex() == release.sha256) {
                let is_renamed = same.url != release.url;
                let is_dated = release.since.is_none() && date.is_some();
                if is_renamed {
                    // The object under the old name is no longer pinned; the new one is kept from eviction.
                    state.unwanted.push(std::mem::replace(&mut release.url, same.url.clone()));
                    release.origin_version = None;
                }
                if is_dated {
                    release.since = date;
                }
                if is_renamed || is_dated || release.until != same.until {
                    release.until = same.until;
                    self.remember(state);
                }
                return !is_renamed;
            }
            // After a start nothing is known until a document is received.
            if !is_heard {
                return false;
            }
            self.drop_release(state);
        }
        let Some(offer) = chosen else { return false };
        state.memory.release = Some(Release {
            sha256: offer.sha256.to_hex(),
            version: offer.version.clone(),
            url: offer.url.clone(),
            until: offer.until,
            since: date,
            phase: Phase::Receiving,
            attempts: 0,
            boot: String::new(),
            origin_version: None,
        });
        state.holding = None;
        if self.remember(state) {
            self.report(state, "begun", None);
        } else {
            state.memory.release = None;
        }
        // The cache was searched under another name.
        false
    }

    /// Records that an installation begins.
    ///
    /// # Errors
    /// If it cannot be recorded; then nothing may be installed.
    pub fn begin(&self) -> io::Result<()> {
        let mut state = self.state();
        let Some(release) = &mut state.memory.release else { return Err(io::ErrorKind::NotFound.into()) };
        release.phase = Phase::Installing;
        release.attempts += 1;
        release.boot.clone_from(&self.boot);
        if !self.remember(&state) {
            if let Some(release) = &mut state.memory.release {
                release.phase = Phase::Receiving;
                release.attempts -= 1;
            }
            return Err(io::Error::other("the beginning cannot be written down"));
        }
        state.is_installing = true;
        Ok(())
    }

    /// Handles the installer's result.
    pub fn installed(&self, result: Result<(), InstallError>) {
        let mut state = self.state();
        state.is_installing = false;
        match result {
            Ok(()) => {
                self.outcomes.add(UpdateOutcome::Installed);
                if let Some(release) = &mut state.memory.release {
                    release.phase = Phase::Installed;
                }
                self.remember(&state);
                self.report(&mut state, "installed", None);
            }
            Err(InstallError::NotStarted(why)) => {
                self.not_begun(&mut state);
                self.wait_for_program(&mut state, why);
            }
            Err(InstallError::Later(why)) => {
                self.not_begun(&mut state);
                tracing::info!(why, "the program of [firmware] install asks to be run again later");
                if let Some(sha256) = state.memory.release.as_ref().map(|it| it.sha256.clone()) {
                    self.hold(&mut state, &sha256, HoldReason::Later);
                }
                state.why = Some(why);
            }
            Err(InstallError::Failed(why)) => {
                if let Some(sha256) = state.memory.release.as_ref().map(|it| it.sha256.clone()) {
                    self.hold(&mut state, &sha256, HoldReason::Installation);
                }
                self.end(&mut state, UpdateOutcome::Failed, &why);
            }
        }
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Treats the installation as not begun.
    fn not_begun(&self, state: &mut State) {
        if let Some(release) = &mut state.memory.release {
            release.phase = Phase::Receiving;
            release.attempts = release.attempts.saturating_sub(1);
        }
        self.remember(state);
    }

    /// Records why the installer cannot be started.
    pub fn no_program(&self, why: String) {
        let mut state = self.state();
        self.wait_for_program(&mut state, why);
    }

    fn wait_for_program(&self, state: &mut State, why: String) {
        let Some(sha256) = state.memory.release.as_ref().map(|it| it.sha256.clone()) else { return };
        if state.why.as_ref() != Some(&why) {
            tracing::error!(why, "the program of [firmware] install cannot be started; it is tried again");
        }
        state.why = Some(why);
        self.hold(state, &sha256, HoldReason::Program);
    }

    /// Discards the received bundle, which was found to differ from the offer when it was written for the installer.
    pub fn discard(&self, why: HoldReason) {
        let mut state = self.state();
        if let Some(sha256) = state.memory.release.as_ref().map(|it| it.sha256.clone()) {
            self.hold(&mut state, &sha256, why);
        }
        self.end(&mut state, UpdateOutcome::Discarded, why.as_str());
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Records why it cannot continue for now.
    pub fn wait(&self, why: HoldReason) {
        let mut state = self.state();
        if let Some(sha256) = state.memory.release.as_ref().map(|it| it.sha256.clone()) {
            self.hold(&mut state, &sha256, why);
        }
    }

    fn end(&self, state: &mut State, outcome: UpdateOutcome, why: &str) {
        self.outcomes.add(outcome);
        state.why = (!why.is_empty()).then(|| why.to_owned());
        state.unwanted.extend(state.memory.release.as_ref().map(|it| it.url.clone()));
        self.report(state, outcome.as_str(), Some(why).filter(|it| !it.is_empty()));
        let is_installed = outcome == UpdateOutcome::Running;
        match outcome {
            UpdateOutcome::Running | UpdateOutcome::Installed => tracing::info!(%outcome, "firmware update"),
            _ => tracing::error!(%outcome, why, "firmware update: this bundle is not tried again"),
        }
        state.memory.end(is_installed, why);
        state.holding = None;
        self.remember(state);
    }

    /// Ends the update, which may be tried again.
    fn drop_release(&self, state: &mut State) {
        self.outcomes.add(UpdateOutcome::Dropped);
        self.report(state, UpdateOutcome::Dropped.as_str(), None);
        state.unwanted.extend(state.memory.release.take().map(|it| it.url));
        state.holding = None;
        self.remember(state);
    }

    /// Replaces the reasons why offers are not installed.
    fn note_holds(&self, state: &mut State, holds: ReasonsByOffer) {
        state.holds.retain(|sha256, _| holds.contains_key(sha256));
        for (sha256, why) in holds {
            self.hold(state, &sha256, why);
        }
    }

    /// Records why an offer is not installed; counts and logs it when it changes.
    fn hold(&self, state: &mut State, sha256: &str, why: HoldReason) {
        if state.holds.insert(sha256.to_owned(), why) != Some(why) {
            self.held.add(why);
            tracing::info!(sha256, %why, "a firmware update is not installed, or not yet");
        }
    }

    fn report(&self, state: &mut State, event: &str, why: Option<&str>) {
        if state.options.report_url.is_empty() {
            return;
        }
        let Some(release) = &state.memory.release else { return };
        let own = state.own.as_ref();
        let report = json!({
            "schema": 1, "box": &state.memory.identity[..16], "event": event, "why": why,
            "compatible": own.map(|it| &it.0), "running": own.map(|it| &it.1),
            "version": release.version, "sha256": release.sha256,
        });
        state.reports.push(report);
    }

    /// Writes the memory to disk. False if that fails.
    fn remember(&self, state: &State) -> bool {
        let file = self.folder.join(FILE);
        let text = serde_json::to_vec(&state.memory).map_err(io::Error::from);
        match text.and_then(|text| sys::replace(&file, &text)) {
            Ok(()) => true,
            Err(err) => {
                tracing::error!(file = %file.display(), %err, "the state of the firmware update cannot be written down");
                false
            }
        }
    }

    /// Offers, the update in progress, and why it is not installed.
    pub fn to_json(&self) -> Value {
        let state = self.state();
        let offers = state.offers().map(|it| {
            let sha256 = it.sha256.to_hex();
            json!({
                "version": it.version, "compatible": it.compatible, "length": it.length,
                "share_percent": f64::from(it.share) / 100.0, "window": it.window.map(|it| it.to_string()),
                "until": it.until, "held": state.holds.get(&sha256).map(|it| it.as_str()), "sha256": sha256,
            })
        });
        let update = state.memory.release.as_ref().map(|it| {
            let received = match state.holding {
                Some(BundleProgress::Part(bytes)) => bytes,
                Some(BundleProgress::Complete { length, .. }) => length,
                None => 0,
            };
            // A complete bundle counts as received while it waits.
            let phase = match (it.phase, state.holding) {
                (Phase::Receiving, Some(BundleProgress::Complete { .. })) => json!("received"),
                (phase, _) => json!(phase),
            };
            json!({
                "version": it.version, "sha256": it.sha256, "phase": phase, "attempts": it.attempts,
                "received_bytes": received, "length": state.followed().map(|it| it.length),
                "held": state.holds.get(&it.sha256).map(|it| it.as_str()), "asks_origin": state.asks_origin,
            })
        });
        let over = state.memory.over.iter().map(|it| {
            json!({ "version": it.version, "sha256": it.sha256, "installed": it.is_installed, "why": it.why })
        });
        let labelled = |all: Vec<(&'static str, u64)>| -> serde_json::Map<String, Value> {
            all.into_iter()
                .filter(|it| it.1 > 0)
                .map(|(name, count)| (name.to_owned(), json!(count)))
                .collect()
        };
        let lacks = state.lacks.iter().map(|it| json!({ "what": it.what(), "fix": it.fix() }));
        // It may appear or vanish at any time, so it is read for each request.
        let program = Some(&state.options.install).filter(|it| !it.is_empty());
        let program = program.and_then(|it| Program(it.clone()).is_ready().err());
        let lacks = lacks.chain(program.map(|why| json!({ "what": why, "fix": lack::PROGRAM_FIX })));
        json!({
            "configured": state.own.is_some(), "compatible": state.known.compatible,
            "running": state.known.version, "lacks": lacks.collect::<Vec<_>>(), "offers": offers.collect::<Vec<_>>(), "update": update,
            "over": over.collect::<Vec<_>>(), "held": labelled(self.held.labelled().collect()),
            "outcomes": labelled(self.outcomes.labelled().collect()), "why": state.why,
        })
    }

    /// Received and total bytes of the update.
    pub fn progress(&self) -> (u64, u64) {
        let state = self.state();
        let length = state.followed().map_or(0, |it| it.length);
        match state.holding {
            Some(BundleProgress::Part(bytes)) => (bytes.min(length), length),
            Some(BundleProgress::Complete { .. }) => (length, length),
            None => (0, length),
        }
    }
}

impl State {
    /// Offers in force; of the same bundle in two lists the first.
    fn offers(&self) -> impl Iterator<Item = &Offer> {
        let mut seen = BTreeSet::new();
        self.lists.values().flatten().filter(move |it| seen.insert(it.sha256.0))
    }

    /// The offer of the update in progress.
    fn followed(&self) -> Option<&Offer> {
        let release = self.memory.release.as_ref()?;
        self.offers().find(|it| it.sha256.to_hex() == release.sha256)
    }

    /// Everything that the sessions depend on.
    fn wants(&self) -> (Option<(String, Phase)>, bool, bool, bool) {
        let release = self.memory.release.as_ref().map(|it| (it.sha256.clone(), it.phase));
        let is_whole = matches!(self.holding, Some(BundleProgress::Complete { .. }));
        (release, self.asks_origin, is_whole, self.followed().is_some())
    }
}
