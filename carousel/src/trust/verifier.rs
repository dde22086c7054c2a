//! The receiver's side: decides which documents are accepted, with a memory that detects replays.
//!
//! One [`Trust`] for all receive threads. Its lock is taken for an FDT Instance and for an object that is opened or complete, never for
//! another packet: what packets depend on ([`WrongObjects`]) is read without it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::keys::{Certificate, KeyId, PublicKey, RevocationList};
use super::prepared::PreparedKey;
use super::seal::{Head, HeadScan, Kind, Seal, Sealed, open_scanned};
use crate::digest::Digest;
use crate::limits;
use crate::reasons;
use crate::time::{Instant, WallTime};

reasons! {
    /// Why a document is not accepted by the trust that `[trust]` asks for.
    pub enum TrustDrop in "trust_refused" by "reason" {
        /// It has no signature, or one of a key that is not trusted where unsigned documents count too, and signed ones have come.
        Unsigned = "unsigned",
        /// Its signature or certificate cannot be read.
        Malformed = "malformed",
        /// Its root key is not pinned and not enrolled.
        UnknownKey = "unknown_key",
        /// Its root key, or the certificate of its online key, does not cover its service, or it describes a session of another service
        /// whose keys are named.
        WrongService = "wrong_service",
        /// It was signed for another session.
        WrongSession = "wrong_session",
        /// Its online key was revoked by its root.
        Revoked = "revoked",
        /// Its certificate, or the document itself, is no longer valid.
        Expired = "expired",
        /// It was signed in the future, or its certificate begins there.
        NotYetValid = "not_yet_valid",
        /// A newer version has been received.
        Replayed = "replayed",
        /// Its signature, or that of its certificate, is not of its key.
        BadSignature = "bad_signature",
        /// Too many documents with wrong signatures came: further ones are not examined for now.
        Budget = "budget",
        /// It names an object without its SHA-256.
        NoDigest = "no_digest",
        /// It came by a protocol whose signalling has no signatures.
        Protocol = "protocol",
    }
}

limits! {
    /// Root keys that are trusted at a time, pinned and enrolled.
    pub const MAX_ROOTS: usize = 64, "keys" {
        why: "A box receives a handful of networks.",
        full: "Further keys of the configuration are refused by its check; nothing more is enrolled.",
        free: "When a key is taken out of the configuration, or an enrolled one is forgotten.",
        test: "roots_beyond_the_limit_are_not_enrolled",
    }

    /// Streams of one root key whose versions are remembered.
    pub(super) const MAX_STREAMS: usize = 1024, "streams" {
        why: "A stream is a session; only holders of a trusted key make any.",
        full: "The stream heard longest ago is forgotten; its older documents count until they expire.",
        free: "When another stream needs the place.",
        test: "streams_and_pages_beyond_their_limits_make_room",
    }

    /// Pages of one stream whose versions are remembered.
    pub(super) const MAX_PAGES: usize = 2048, "pages" {
        why: "Our own sender splits 100,000 files into about 1,000.",
        full: "The page heard longest ago is forgotten; only the stream's floor keeps its older versions out.",
        free: "When another page needs the place.",
        test: "streams_and_pages_beyond_their_limits_make_room",
    }

    /// Root keys that sign what comes and are not trusted, for status.
    const MAX_UNTRUSTED: usize = 8, "keys" {
        why: "An operator looks for one.",
        full: "The key heard longest ago makes room.",
        free: "When another key needs the place.",
        test: "untrusted_keys_are_shown_and_bounded",
    }

    /// Online keys whose multiples are kept for faster verification, 20 KiB each.
    const MAX_PREPARED_KEYS: usize = 8, "keys" {
        why: "A headend signs with one online key, and with two while they are rotated.",
        full: "The key used longest ago makes room; its multiples are computed again with its next document.",
        free: "When another key needs the place.",
        test: "multiples_of_few_keys_are_kept",
    }

    /// Wrong signatures examined in a burst, over all sessions; 64 more each second.
    const MAX_WRONG_SIGNATURES: u32 = 256, "signatures" {
        why: "One takes up to a millisecond of a receive thread on the smallest boxes; honest senders send none.",
        full: "Documents whose signature would have to be examined are refused as `budget`. Sessions that have brought a genuine one share as many of their own; the others share one half, and each group of their senders has a 64th. Each group of those that have brought right objects has a 16th besides.",
        free: "64 places each second.",
        test: "wrong_signatures_exhaust_a_budget_that_refills",
    }

    /// Inflated bytes of encoded documents that were refused, in a burst, over all sessions; 4 MiB more each second.
    const MAX_REFUSED_INFLATED_BYTES: u64 = 8 << 20, "bytes" {
        why: "Eight of the longest FDT Instances; inflating 1 MiB takes some 3 ms of a receive thread. What an honest sender signs is accepted and counts nothing.",
        full: "Encoded documents are refused as `budget` behind their first bytes, which show the seal. Sessions that have brought a genuine one share as much of their own; the others share one half, and each group of their senders has a 64th.",
        free: "4 MiB each second.",
        test: "bombs_under_a_genuine_seal_exhaust_a_budget_that_refills",
    }
}

/// Inflated bytes of refused documents that are admitted each second in the long run.
const REFUSED_BYTES_PER_S: u64 = 4 << 20;
/// Wrong signatures that are examined each second in the long run.
const WRONG_PER_S: u64 = 64;
/// Groups of senders whose sessions have brought nothing genuine. Each has the same part of half of what is admitted, so that a sender
/// uses up that of few others.
const SENDER_GROUPS: usize = 32;
/// Part of an allowance that a group of senders has whose sessions have brought right objects: 16 signatures, and 4 a second.
const PROVEN_PARTS: u64 = 16;
/// Time for which senders are in the same group.
const GROUPING_S: u64 = 60;
/// Bytes by which one refused document may exceed an allowance: the longest that is inflated.
const LONGEST_INFLATED_BYTES: u64 = 1 << 20;
/// Time for which a wrong object of a stream restricts those of its unproven sessions.
const WRONG_OBJECT_PERIOD: Duration = Duration::from_secs(600);
/// Certificates known to be genuine.
const CERTIFICATES: usize = 32;
/// Difference of the clocks of sender and receiver up to which a document is not of the future.
const CLOCK_TOLERANCE_S: u64 = 24 * 3600;

/// Wrong signatures of one session after which it counts as untrusted, even if it repeats genuine documents.
const WRONG_OF_KNOWN: u8 = 8;

/// The wrong signatures that count against the examination of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Those of sessions that have brought nothing genuine, of this sender and some others: a number made of its address.
    Untrusted(u64),
    /// Those of all sessions that have.
    Known,
    /// Those of sessions that have brought a right object, in whose name wrong signatures have come, of this sender and some others.
    Proven(u64),
    /// None: the caller asks about a few documents a second at most.
    Caller,
}

/// Wrong signatures of one session in the last ten minutes: anybody can send some in the name of another sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct WrongSignatures {
    count: u8,
    since: Instant,
}

impl WrongSignatures {
    const PERIOD: Duration = Duration::from_secs(600);

    /// The allowance of their session, which has brought a genuine document if it is signed, and a right object if it is proven.
    pub fn allowance(&self, (is_signed, is_proven): (bool, bool), sender: u64, now: Instant) -> Allowance {
        if is_signed && self.at(now) < WRONG_OF_KNOWN {
            Allowance::Known
        } else if is_proven {
            Allowance::Proven(sender)
        } else {
            Allowance::Untrusted(sender)
        }
    }

    /// Counts the result of a document of their session.
    pub fn note<T>(&mut self, now: Instant, result: &Result<T, TrustDrop>) {
        if !matches!(result, Err(TrustDrop::BadSignature)) {
            return;
        }
        self.count = self.at(now).saturating_add(1);
        if self.count == 1 {
            self.since = now;
        }
    }

    fn at(&self, now: Instant) -> u8 {
        if now.since(self.since) < Self::PERIOD { self.count } else { 0 }
    }
}

/// The used part of one allowance, which refills with time.
#[derive(Debug, Default)]
struct Used {
    amount: u64,
    refilled: Instant,
}

impl Used {
    /// Whether less than the most is used.
    fn is_below(&mut self, now: Instant, limits: Limits) -> bool {
        let second_ns = Duration::from_secs(1).as_nanos();
        let per_s = u128::from(limits.per_s.max(1));
        let back = now.since(self.refilled).as_nanos() * per_s / second_ns;
        if back >= u128::from(self.amount) {
            (self.amount, self.refilled) = (0, now);
        } else {
            self.amount -= back as u64;
            // The rest of the division counts next time.
            self.refilled = self.refilled + Duration::from_nanos((back * second_ns / per_s) as u64);
        }
        self.amount < limits.most
    }

    /// Adds what was used, up to `most` together.
    fn add(&mut self, amount: u64, most: u64) {
        self.amount = self.amount.saturating_add(amount).min(most);
    }
}

/// Used parts of an allowance: by known sessions, and by all others. Of what these have, each group of senders has the same part of
/// one half, and what a group has not is taken from the other half, which all share. So a sender uses up no part of others, and one
/// that forges the address of another has to use up the shared half too.
#[derive(Debug, Default)]
struct Allowances {
    known: Used,
    /// By groups of senders whose sessions have brought right objects: nobody else uses up their part.
    proven: [Used; SENDER_GROUPS],
    groups: [Used; SENDER_GROUPS],
    shared: Used,
}

/// The group of a sender at this time.
fn group_of(salt: u64, sender: u64, now: Instant) -> usize {
    let mut hasher = DefaultHasher::new();
    (salt, now.since(Instant::default()).as_secs() / GROUPING_S, sender).hash(&mut hasher);
    hasher.finish() as usize % SENDER_GROUPS
}

/// Maximum of an allowance, and what it gains each second.
#[derive(Debug, Clone, Copy)]
struct Limits {
    most: u64,
    per_s: u64,
}

impl Limits {
    const WRONG: Self = Self { most: MAX_WRONG_SIGNATURES as u64, per_s: WRONG_PER_S };
    const INFLATION: Self = Self { most: MAX_REFUSED_INFLATED_BYTES, per_s: REFUSED_BYTES_PER_S };

    const fn divided(self, by: u64) -> Self {
        Self { most: self.most / by, per_s: self.per_s / by }
    }
}

impl Allowances {
    /// The part that is used of an allowance now, and its limits: those of the shared half if the group of its sender has used up its part.
    /// `None`: it has no limits.
    fn of(
        &mut self,
        salt: u64,
        allowance: Allowance,
        now: Instant,
        limits: Limits,
    ) -> Option<(&mut Used, Limits)> {
        match allowance {
            Allowance::Caller => None,
            Allowance::Known => Some((&mut self.known, limits)),
            Allowance::Proven(sender) => {
                let own = limits.divided(PROVEN_PARTS);
                Some((&mut self.proven[group_of(salt, sender, now)], own))
            }
            Allowance::Untrusted(sender) => {
                let group = &mut self.groups[group_of(salt, sender, now)];
                let own = limits.divided(2 * SENDER_GROUPS as u64);
                if group.is_below(now, own) {
                    Some((group, own))
                } else {
                    Some((&mut self.shared, limits.divided(2)))
                }
            }
        }
    }
}

/// Demands on documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Only documents of a trusted key count.
    Require,
    /// Unsigned documents count where no signed one says otherwise.
    Prefer,
    /// Signatures are not checked.
    #[default]
    Off,
}

impl Mode {
    /// Name in configurations and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Prefer => "prefer",
            Self::Off => "off",
        }
    }
}

/// Demands on one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePolicy {
    /// The service.
    pub service: String,
    /// Demands on its documents.
    pub mode: Mode,
    /// The root keys that may sign for it; none: every trusted one.
    pub keys: Vec<PublicKey>,
}

/// Trust policy of a receiver's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Demands on documents of services without their own policy.
    pub mode: Mode,
    /// Pinned root keys.
    pub keys: Vec<PublicKey>,
    /// Services with their own policy.
    pub services: Vec<ServicePolicy>,
    /// Whether the first root key that signs is trusted from then on if none is pinned.
    pub enrol: bool,
    /// Revocation lists that are known beforehand.
    pub revocations: Vec<RevocationList>,
    /// Some sessions of the configuration have demands of their own.
    pub has_exceptions: bool,
}

/// Time of the latest wrong object of a stream, from a session that has brought no right one. The stream's memory shares it with all
/// that the stream has signed, so that packets read it without the lock of [`Trust`].
#[derive(Debug, Clone, Default)]
pub struct WrongObjects(Arc<AtomicU64>);

impl WrongObjects {
    pub(crate) fn note(&self, now: Instant) {
        // 0: there was none.
        self.0.fetch_max(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Whether somebody has repeated documents of the stream in the last ten minutes and has sent other bytes, from any address.
    pub fn are_recent(&self, now: Instant) -> bool {
        let latest_ns = self.0.load(Ordering::Relaxed);
        latest_ns > 0 && now.since(Instant::from_nanos(latest_ns)) < WRONG_OBJECT_PERIOD
    }
}

impl PartialEq for WrongObjects {
    /// It is no part of the identity of a signer.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for WrongObjects {}

impl std::hash::Hash for WrongObjects {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Signer of a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SignedBy {
    /// The root key.
    pub root: KeyId,
    /// The online key.
    pub key: KeyId,
    /// The service that it was signed for.
    pub service: String,
    /// Its stream, page, epoch and version.
    pub stream: String,
    /// See [`SignedBy::stream`].
    pub page: u32,
    /// See [`SignedBy::stream`].
    pub order: (u32, u64),
    /// Wrong objects of its stream.
    pub wrong_objects: WrongObjects,
}

/// Order of documents in a stream: epoch, then version.
pub(super) type Order = (u32, u64);

/// The newest document of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageMemory {
    pub(super) order: Order,
    pub(super) digest: Digest,
    /// The online key, for status.
    pub(super) key: Option<KeyId>,
    /// Identity of the document and its seal, signature included, which were verified: the same once more need not be.
    pub(super) verified: Option<Digest>,
    pub(super) heard: u64,
}

/// Memory of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StreamMemory {
    pub(super) floor: Order,
    pub(super) pages: BTreeMap<u32, PageMemory>,
    pub(super) heard: u64,
    /// Its objects whose bytes were wrong.
    pub(super) wrong_objects: WrongObjects,
}

/// Memory of a root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RootMemory {
    pub(super) key: PublicKey,
    /// It came by enrolment; whether an operator has confirmed it.
    pub(super) enrolled: Option<bool>,
    /// Epoch and time of the latest document: the date is not earlier.
    pub(super) latest: (u32, u64),
    pub(super) revocations: Option<RevocationList>,
    pub(super) streams: BTreeMap<String, StreamMemory>,
}

impl RootMemory {
    pub(super) const fn new(key: PublicKey) -> Self {
        Self { key, enrolled: None, latest: (0, 0), revocations: None, streams: BTreeMap::new() }
    }

    /// Adopts a revocation list, if it is its own and newer than the last one.
    pub(super) fn take_over(&mut self, list: &RevocationList) -> bool {
        let is_newer = self.revocations.as_ref().is_none_or(|known| list.number > known.number);
        let is_taken = is_newer && list.root == self.key && list.is_genuine();
        if is_taken {
            self.revocations = Some(list.clone());
        }
        is_taken
    }

    fn is_revoked(&self, key: &KeyId) -> bool {
        self.revocations.as_ref().is_some_and(|list| list.revoked.contains(key))
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    policy: Policy,
    pub(super) roots: BTreeMap<KeyId, RootMemory>,
    /// Digests of certificates that are genuine, oldest first.
    certificates: VecDeque<Digest>,
    /// Online keys of genuine certificates, the last used last.
    prepared: VecDeque<PreparedKey>,
    /// Root keys that are not trusted, latest last.
    untrusted: VecDeque<PublicKey>,
    accepted: u64,
    refused: [u64; TrustDrop::ALL.len()],
    wrong: Allowances,
    refused_inflation: Allowances,
    /// Makes the groups of senders unpredictable.
    salt: u64,
    /// Counter of received documents, which orders them by age.
    heard: u64,
}

/// State of trust in a root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorState {
    /// It is in the configuration.
    Pinned,
    /// The first key that was seen, trusted until an operator decides.
    Enrolled,
    /// The first key that was seen, confirmed by an operator.
    Confirmed,
    /// It signs documents that are received, and is not trusted.
    Untrusted,
}

impl AnchorState {
    /// Name in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Enrolled => "enrolled",
            Self::Confirmed => "confirmed",
            Self::Untrusted => "untrusted",
        }
    }
}

/// A root key, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The key.
    pub key: PublicKey,
    /// State of trust in it.
    pub state: AnchorState,
    /// Seconds since 1970 of its latest document; 0: none.
    pub latest: u64,
    /// Its online keys that are revoked.
    pub revoked: Vec<KeyId>,
    /// Number of its revocation list.
    pub revocation_number: Option<u32>,
    /// Its streams.
    pub streams: Vec<StreamState>,
}

/// A stream, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Its name.
    pub name: String,
    /// The highest version received.
    pub version: u64,
    /// The online key that signed it, if that was since the start.
    pub key: Option<KeyId>,
}

/// Report for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustReport {
    /// Demands on services without their own policy.
    pub mode: Mode,
    /// Whether the first root key met is trusted.
    pub enrol: bool,
    /// Root keys, trusted and not.
    pub anchors: Vec<Anchor>,
    /// Documents accepted, repeats included.
    pub accepted: u64,
    /// Documents refused, by [`TrustDrop`].
    pub refused: [u64; TrustDrop::ALL.len()],
}

/// A document to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// TSI of the session that brought it; `None` if it came otherwise.
    pub tsi: Option<u64>,
    /// Demands on it.
    pub mode: Mode,
    /// The allowance of its examination.
    pub allowance: Allowance,
}

/// Keys, certificates and accepted versions of all services, behind one lock; decides on each signed document.
#[derive(Debug, Default)]
pub struct Trust {
    state: Mutex<State>,
    /// Grows when a key is no longer valid.
    generation: AtomicU64,
    /// Grows with every change to be written: versions, and changes that must not be lost.
    changes: AtomicU64,
    urgent: AtomicU64,
    /// Times that the state was locked.
    #[cfg(test)]
    locks: AtomicU64,
}

impl Trust {
    /// Trust with this policy and no memory.
    pub fn new(policy: Policy) -> Self {
        let trust = Self::default();
        trust.configure(policy);
        trust
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.locks.fetch_add(1, Ordering::Relaxed);
        // Each change is complete in itself, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Times that the state was locked.
    #[cfg(test)]
    pub(crate) fn locks(&self) -> u64 {
        self.locks.load(Ordering::Relaxed)
    }

    /// Adopts a policy. Pinned keys that it lacks are no longer valid; enrolled ones stay while it enrols.
    pub fn configure(&self, policy: Policy) {
        let mut state = self.state();
        for key in pinned(&policy) {
            state.roots.entry(key.id()).or_insert_with(|| RootMemory::new(key));
        }
        let lists = policy.revocations.clone();
        state.policy = policy;
        for list in lists {
            self.revoke(&mut state, &list);
        }
        drop(state);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Demands on the documents of a service; for an empty name, on those of no known service.
    pub fn mode_of(&self, service: &str) -> Mode {
        self.state().mode_of(service)
    }

    /// Changes when a valid key may no longer be: descriptions are then to be checked with [`Trust::still_trusts`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether the policy names the root keys of a service.
    pub fn names_keys_of(&self, service: &str) -> bool {
        self.state().keys_of(service).is_some()
    }

    /// Whether a root key is pinned or enrolled, for any service.
    pub fn knows(&self, root: &PublicKey) -> bool {
        let state = self.state();
        let is_enrolled = state.roots.get(&root.id()).is_some_and(|it| it.enrolled.is_some());
        is_enrolled || pinned(&state.policy).any(|it| it == *root)
    }

    /// Whether an accepted document of this signer would still be accepted.
    pub fn still_trusts(&self, by: &SignedBy) -> bool {
        let state = self.state();
        state.still_trusts(by.root, by.key, &by.service)
    }

    /// Whether the next root key that signs is enrolled: until then it is not known which signers are trusted.
    pub fn awaits_enrolment(&self) -> bool {
        self.state().awaits_enrolment()
    }

    /// Whether an object may be kept: where signatures are checked, those of signers that are trusted no longer may not. `signer`: its
    /// root key, online key and service; `None`: it is not signed, and may be kept unless signatures are required everywhere.
    pub fn keeps(&self, signer: Option<(KeyId, KeyId, &str)>) -> bool {
        let state = self.state();
        let Policy { mode, services, has_exceptions, .. } = &state.policy;
        match signer {
            None => {
                let is_required =
                    *mode == Mode::Require && services.iter().all(|it| it.mode == Mode::Require);
                !is_required || *has_exceptions
            }
            Some((root, key, service)) => {
                state.mode_of(service) == Mode::Off || state.still_trusts(root, key, service)
            }
        }
    }

    /// Whether its key still counts and no newer document has replaced this one, in any session. Asked when an object is opened and
    /// when it is complete: what older documents describe may have been recorded, and a key may have been revoked since.
    pub fn is_current(&self, by: &SignedBy) -> bool {
        let state = self.state();
        let stream = state.roots.get(&by.root).and_then(|root| root.streams.get(&by.stream));
        let is_newest = stream.is_none_or(|stream| {
            by.order >= stream.floor && stream.pages.get(&by.page).is_none_or(|page| page.order <= by.order)
        });
        is_newest && state.still_trusts(by.root, by.key, &by.service)
    }

    /// Makes the groups of senders unpredictable from outside by a random number.
    pub fn salt(&self, random: u64) {
        self.state().salt = random;
    }

    /// Counts a refusal that was decided elsewhere.
    pub fn count(&self, reason: TrustDrop) {
        self.state().refused[reason as usize] += 1;
    }

    /// Decides whether a document is accepted. `Ok(None)`: it is, unsigned.
    ///
    /// # Errors
    /// Why it does not; counted.
    pub fn judge(
        &self,
        now: Instant,
        wall: Option<WallTime>,
        document: &Judged<'_>,
    ) -> Result<Option<Arc<SignedBy>>, TrustDrop> {
        self.judge_scanned(now, wall, document, &HeadScan::default())
    }

    /// As [`Trust::judge`], of a document whose first bytes [`Trust::preview`] has looked at: they are not scanned again.
    ///
    /// # Errors
    /// As for [`Trust::judge`].
    pub fn judge_scanned(
        &self,
        now: Instant,
        wall: Option<WallTime>,
        document: &Judged<'_>,
        scan: &HeadScan,
    ) -> Result<Option<Arc<SignedBy>>, TrustDrop> {
        let mut state = self.state();
        let judged = self.judge_in(&mut state, now, wall, document, scan);
        match judged {
            Ok(Some(_)) => state.accepted += 1,
            Ok(None) => {}
            Err(reason) => state.refused[reason as usize] += 1,
        }
        judged.map(|it| it.map(Arc::new))
    }

    /// Looks at the first bytes of an encoded document before the rest is inflated: `None` as long as more of them are needed.
    /// For documents that count only if they are signed; `scan` is that of this document. The checks are those of [`Trust::judge`] that need no more than the
    /// seal, and whether the document may be inflated.
    ///
    /// # Errors
    /// Why the document is not accepted; counted.
    pub fn preview(
        &self,
        now: Instant,
        wall: Option<WallTime>,
        document: &Judged<'_>,
        scan: &mut HeadScan,
    ) -> Option<Result<(), TrustDrop>> {
        let result = match scan.look(document.bytes) {
            Head::Open => return None,
            Head::Unsigned => Err(TrustDrop::Unsigned),
            Head::Malformed => Err(TrustDrop::Malformed),
            Head::Sealed(seal) => {
                let mut state = self.state();
                state.judge_seal(wall, document.tsi, seal).and_then(|_| {
                    let may = state.may_inflate(document.allowance, now);
                    may.then_some(()).ok_or(TrustDrop::Budget)
                })
            }
        };
        if let Err(reason) = result {
            self.count(reason);
        }
        Some(result)
    }

    /// Counts the inflated bytes of a document that was refused.
    pub fn count_inflated(&self, now: Instant, allowance: Allowance, bytes: u64) {
        let mut state = self.state();
        let salt = state.salt;
        if let Some((used, limits)) = state.refused_inflation.of(salt, allowance, now, Limits::INFLATION) {
            used.add(bytes, limits.most + LONGEST_INFLATED_BYTES);
        }
    }

    fn judge_in(
        &self,
        state: &mut State,
        now: Instant,
        wall: Option<WallTime>,
        document: &Judged<'_>,
        scan: &HeadScan,
    ) -> Result<Option<SignedBy>, TrustDrop> {
        let unsigned = |reason| if document.mode == Mode::Require { Err(reason) } else { Ok(None) };
        if document.mode == Mode::Off {
            return Ok(None);
        }
        let sealed = match open_scanned(document.bytes, scan) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return unsigned(TrustDrop::Unsigned),
            Err(_) => return Err(TrustDrop::Malformed),
        };
        self.judge_sealed(state, now, wall, document, &sealed).map_or_else(
            // A signature by an untrusted key counts as none.
            |reason| if reason == TrustDrop::UnknownKey { unsigned(reason) } else { Err(reason) },
            |by| Ok(Some(by)),
        )
    }

    fn judge_sealed(
        &self,
        state: &mut State,
        now: Instant,
        wall: Option<WallTime>,
        document: &Judged<'_>,
        sealed: &Sealed,
    ) -> Result<SignedBy, TrustDrop> {
        let Sealed { seal, digest } = sealed;
        let Seal { certificate, stream, edition, revocations, .. } = seal;
        let (root_id, key_id) = (certificate.root.id(), certificate.key.id());
        let is_enrolment = state.judge_seal(wall, document.tsi, seal)?;
        let root = state.roots.get(&root_id);
        let order = (certificate.epoch, edition.version);
        let memory = root.and_then(|root| root.streams.get(&stream.name));
        let page = memory.and_then(|it| it.pages.get(&edition.page));
        let is_repeat = page.is_some_and(|page| page.order == order && page.digest == *digest);
        let is_older = page.is_some_and(|page| order <= page.order);
        if is_older && !is_repeat {
            return Err(TrustDrop::Replayed);
        }
        // The seal belongs to the identity: an untrusted sender can put another one on a known document.
        let identity = sealed.identity(document.kind);
        if page.is_none_or(|page| page.verified != Some(identity)) {
            if !state.may_examine(document.allowance, now) {
                return Err(TrustDrop::Budget);
            }
            if !state.is_genuine(certificate) || !state.is_signed(sealed, document.kind) {
                state.count_wrong(document.allowance, now);
                return Err(TrustDrop::BadSignature);
            }
        }
        if is_enrolment {
            let root = RootMemory { enrolled: Some(false), ..RootMemory::new(certificate.root) };
            state.roots.insert(root_id, root);
            self.urgent.fetch_add(1, Ordering::Relaxed);
        }
        // Only now: a list of its root comes in what is genuine otherwise, so a forged one costs no examination.
        if let Some(list) = revocations {
            self.revoke(state, list);
            let is_revoked = state.roots.get(&root_id).is_some_and(|root| root.is_revoked(&key_id));
            if is_revoked && !is_enrolment {
                return Err(TrustDrop::Revoked);
            }
        }
        if !is_repeat || is_enrolment {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        let wrong_objects = state.remember(sealed, root_id, key_id, identity);
        Ok(SignedBy {
            root: root_id,
            key: key_id,
            service: stream.service.clone(),
            stream: stream.name.clone(),
            page: edition.page,
            order,
            wrong_objects,
        })
    }

    /// Adopts a revocation list of a trusted root.
    fn revoke(&self, state: &mut State, list: &RevocationList) {
        let Some(root) = state.roots.get_mut(&list.root.id()) else { return };
        if root.take_over(list) {
            for ordering in [&self.generation, &self.urgent, &self.changes] {
                ordering.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Confirms an enrolled key for an operator. False if no key has this name.
    pub fn confirm(&self, id: KeyId) -> bool {
        let mut state = self.state();
        let root = state.roots.get_mut(&id).filter(|root| root.enrolled.is_some());
        let is_there = root.map(|root| root.enrolled = Some(true)).is_some();
        self.urgent.fetch_add(u64::from(is_there), Ordering::Relaxed);
        is_there
    }

    /// Forgets an enrolled key for an operator: the next one that signs may be enrolled. False if no key has this name.
    pub fn forget(&self, id: KeyId) -> bool {
        let mut state = self.state();
        let is_there = state.roots.get(&id).is_some_and(|root| root.enrolled.is_some());
        if is_there {
            state.roots.remove(&id);
            self.urgent.fetch_add(1, Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        is_there
    }

    /// Number of changes since the start, and of those that must be written immediately.
    pub fn changes(&self) -> (u64, u64) {
        (self.changes.load(Ordering::Relaxed), self.urgent.load(Ordering::Relaxed))
    }

    /// Report for status and metrics.
    pub fn report(&self) -> TrustReport {
        let state = self.state();
        let mut anchors: Vec<Anchor> = state.roots.values().filter_map(|root| state.anchor(root)).collect();
        anchors.extend(state.untrusted.iter().filter(|it| !state.roots.contains_key(&it.id())).map(|key| {
            let (revoked, streams) = (Vec::new(), Vec::new());
            let state = AnchorState::Untrusted;
            Anchor { key: *key, state, latest: 0, revoked, revocation_number: None, streams }
        }));
        let Policy { mode, enrol, .. } = state.policy;
        TrustReport { mode, enrol, anchors, accepted: state.accepted, refused: state.refused }
    }
}

fn pinned(policy: &Policy) -> impl Iterator<Item = PublicKey> {
    policy.keys.iter().chain(policy.services.iter().flat_map(|it| &it.keys)).copied()
}

/// Whether a seal is valid at `wall`, or while the date is not known, at the time of the latest document of its root.
fn in_time(seal: &Seal, wall: Option<WallTime>, (epoch, latest): (u32, u64)) -> Result<(), TrustDrop> {
    let Seal { certificate, edition, .. } = seal;
    let date = wall.map(WallTime::unix_seconds);
    if date.is_some_and(|date| certificate.from.max(edition.issued) > date.saturating_add(CLOCK_TOLERANCE_S))
    {
        return Err(TrustDrop::NotYetValid);
    }
    // The signature of a key shows no date after the end of its certificate.
    let signed_in_time = edition.issued <= certificate.until && edition.issued >= certificate.from;
    // A stolen key may have dated its documents late: those of the epoch behind it are not measured by them.
    let at_least = if certificate.epoch <= epoch { latest } else { 0 };
    let date = date.unwrap_or(at_least);
    if !signed_in_time || edition.until.min(certificate.until) < date {
        return Err(TrustDrop::Expired);
    }
    Ok(())
}

impl State {
    fn mode_of(&self, service: &str) -> Mode {
        let of_service = self.policy.services.iter().find(|it| it.service == service);
        of_service.map_or(self.policy.mode, |it| it.mode)
    }

    /// The root keys that the policy names for a service, if it names any.
    fn keys_of(&self, service: &str) -> Option<&[PublicKey]> {
        let of_service = self.policy.services.iter().find(|it| it.service == service && !it.keys.is_empty());
        of_service.map(|it| &it.keys[..])
    }

    fn awaits_enrolment(&self) -> bool {
        self.policy.enrol
            && pinned(&self.policy).next().is_none()
            && self.roots.values().all(|root| root.enrolled.is_none())
    }

    /// Whether a root key is trusted for a service.
    fn is_anchor(&self, key: &PublicKey, service: &str) -> bool {
        if let Some(keys) = self.keys_of(service) {
            return keys.contains(key);
        }
        let is_enrolled = self.roots.get(&key.id()).is_some_and(|root| root.enrolled.is_some());
        self.policy.keys.contains(key) || (is_enrolled && self.policy.enrol)
    }

    fn still_trusts(&self, root: KeyId, key: KeyId, service: &str) -> bool {
        let root = self.roots.get(&root);
        root.is_some_and(|root| !root.is_revoked(&key) && self.is_anchor(&root.key, service))
    }

    /// Admits a root key; true if its first genuine document enrols it.
    fn admit(&mut self, key: &PublicKey, service: &str) -> Result<bool, TrustDrop> {
        if self.is_anchor(key, service) {
            return Ok(false);
        }
        if self.awaits_enrolment() && self.roots.len() < MAX_ROOTS {
            return Ok(true);
        }
        if self.roots.contains_key(&key.id()) && pinned(&self.policy).any(|it| it == *key) {
            return Err(TrustDrop::WrongService);
        }
        self.untrusted.retain(|it| it != key);
        self.untrusted.push_back(*key);
        if self.untrusted.len() > MAX_UNTRUSTED {
            self.untrusted.pop_front();
        }
        Err(TrustDrop::UnknownKey)
    }

    /// The checks that need no more than the seal; true if its root key would be enrolled.
    fn judge_seal(
        &mut self,
        wall: Option<WallTime>,
        tsi: Option<u64>,
        seal: &Seal,
    ) -> Result<bool, TrustDrop> {
        let Seal { certificate, stream, edition, .. } = seal;
        let is_enrolment = self.admit(&certificate.root, &stream.service)?;
        let root = self.roots.get(&certificate.root.id());
        if root.is_some_and(|root| root.is_revoked(&certificate.key.id())) {
            return Err(TrustDrop::Revoked);
        }
        if !certificate.covers(&stream.service) {
            return Err(TrustDrop::WrongService);
        }
        if tsi.is_some_and(|tsi| tsi != stream.tsi) {
            return Err(TrustDrop::WrongSession);
        }
        in_time(seal, wall, root.map_or((0, 0), |root| root.latest))?;
        let order = (certificate.epoch, edition.version);
        let memory = root.and_then(|root| root.streams.get(&stream.name));
        let page = memory.and_then(|it| it.pages.get(&edition.page));
        if memory.is_some_and(|it| order < it.floor) || page.is_some_and(|page| order < page.order) {
            return Err(TrustDrop::Replayed);
        }
        Ok(is_enrolment)
    }

    /// Whether an allowance admits one more encoded document that may be refused.
    fn may_inflate(&mut self, allowance: Allowance, now: Instant) -> bool {
        let used = self.refused_inflation.of(self.salt, allowance, now, Limits::INFLATION);
        used.is_none_or(|(it, limits)| it.is_below(now, limits))
    }

    /// Whether an allowance admits one more signature that may be wrong.
    fn may_examine(&mut self, allowance: Allowance, now: Instant) -> bool {
        let used = self.wrong.of(self.salt, allowance, now, Limits::WRONG);
        used.is_none_or(|(it, limits)| it.is_below(now, limits))
    }

    fn count_wrong(&mut self, allowance: Allowance, now: Instant) {
        if let Some((used, limits)) = self.wrong.of(self.salt, allowance, now, Limits::WRONG) {
            used.add(1, limits.most);
        }
    }

    fn is_genuine(&mut self, certificate: &Certificate) -> bool {
        let mut bytes = Vec::new();
        certificate.write(&mut bytes);
        let digest = Digest::of(&bytes);
        if self.certificates.contains(&digest) {
            return true;
        }
        let is_genuine = certificate.is_genuine();
        if is_genuine {
            if self.certificates.len() >= CERTIFICATES {
                self.certificates.pop_front();
            }
            self.certificates.push_back(digest);
        }
        is_genuine
    }

    /// Whether the key of a genuine certificate has signed a document.
    fn is_signed(&mut self, sealed: &Sealed, kind: Kind) -> bool {
        let key = sealed.seal.certificate.key;
        let known = self.prepared.iter().position(|it| *it.key() == key);
        let prepared = match known {
            Some(at) => self.prepared.remove(at),
            None => PreparedKey::new(key),
        };
        let Some(prepared) = prepared else { return false };
        let is_signed = prepared.verify(&sealed.signed(kind), &sealed.seal.signature);
        if self.prepared.len() >= MAX_PREPARED_KEYS {
            self.prepared.pop_front();
        }
        self.prepared.push_back(prepared);
        is_signed
    }

    /// Remembers a document as the newest of its page; returns the wrong objects of its stream.
    fn remember(&mut self, sealed: &Sealed, root_id: KeyId, key_id: KeyId, identity: Digest) -> WrongObjects {
        self.heard += 1;
        let heard = self.heard;
        let Seal { certificate, stream, edition, .. } = &sealed.seal;
        let Some(root) = self.roots.get_mut(&root_id) else { return WrongObjects::default() };
        root.latest = root.latest.max((certificate.epoch, edition.issued));
        let streams = &mut root.streams;
        if !streams.contains_key(&stream.name) && streams.len() >= MAX_STREAMS {
            let oldest = streams.iter().min_by_key(|(_, it)| it.heard).map(|(name, _)| name.clone());
            oldest.and_then(|name| streams.remove(&name));
        }
        let memory = streams.entry(stream.name.clone()).or_default();
        memory.heard = heard;
        let floor = (certificate.epoch, edition.floor);
        if floor > memory.floor {
            memory.floor = floor;
            memory.pages.retain(|_, page| page.order >= floor);
        }
        if !memory.pages.contains_key(&edition.page) && memory.pages.len() >= MAX_PAGES {
            let oldest = memory.pages.iter().min_by_key(|(_, it)| it.heard).map(|(page, _)| *page);
            oldest.and_then(|page| memory.pages.remove(&page));
        }
        let order = (certificate.epoch, edition.version);
        let page =
            PageMemory { order, digest: sealed.digest, key: Some(key_id), verified: Some(identity), heard };
        memory.pages.insert(edition.page, page);
        memory.wrong_objects.clone()
    }

    fn anchor(&self, root: &RootMemory) -> Option<Anchor> {
        let state = match root.enrolled {
            _ if pinned(&self.policy).any(|it| it == root.key) => AnchorState::Pinned,
            Some(true) if self.policy.enrol => AnchorState::Confirmed,
            Some(false) if self.policy.enrol => AnchorState::Enrolled,
            _ => return None,
        };
        let streams = root.streams.iter().map(|(name, memory)| {
            let newest = memory.pages.values().max_by_key(|page| page.order);
            let version = newest.map_or(memory.floor.1, |page| page.order.1);
            StreamState { name: name.clone(), version, key: newest.and_then(|page| page.key) }
        });
        Some(Anchor {
            key: root.key,
            state,
            latest: root.latest.1,
            revoked: root.revocations.as_ref().map(|it| it.revoked.clone()).unwrap_or_default(),
            revocation_number: root.revocations.as_ref().map(|it| it.number),
            streams: streams.collect(),
        })
    }
}

#[cfg(test)]
mod tests;
