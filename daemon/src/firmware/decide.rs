//! Decision about offered updates: a pure function from the offers, the state of the box and the time to the next step.
//!
//! ```text
//! offer ─ concerns this box? ─▶ receiving ─ whole ─▶ installing ─▶ installed ─ restart ─▶ runs: done
//!              │ no                 │ withdrawn          │ refused        │ the old version again
//!              ▼                    ▼                    ▼                ▼
//!            held                 nothing               over: this very bundle is not tried again
//! ```
//!
//! The memory is written before each step: after a power cut during an installation, the next start knows of the
//! installation.

use std::cmp::Ordering;
use std::collections::VecDeque;

use carousel::firmware::{Offer, Window};
use serde::{Deserialize, Serialize};

use super::version;

/// Installations of one bundle that a loss of power may interrupt.
const MOST_ATTEMPTS: u32 = 3;

carousel::limits! {
    /// Bundles that are remembered as installed or failed, so that they are not tried again.
    pub(super) const MAX_OVER: usize = 64, "bundles" {
        why: "A box gets a few versions a year; each takes some hundred bytes.",
        full: "The one that ended first is forgotten.",
        free: "Holds for the life of the box.",
        test: "bundles_that_are_over_are_bounded",
    }
}

carousel::reasons! {
    /// Why an update that the carousel offers is not installed, or not yet.
    pub enum HoldReason in "firmware_held" by "reason" {
        /// The list of offers is not signed by a trusted key.
        Signature = "signature",
        /// The list of offers is older than one that has come.
        Replayed = "replayed",
        /// The list of offers cannot be read.
        Malformed = "malformed",
        /// The offer has ended.
        Expired = "expired",
        /// No program that installs is configured, or the box does not know its hardware or version.
        NotConfigured = "not_configured",
        /// It is for other hardware.
        Compatible = "compatible",
        /// It is for groups that this box does not belong to.
        Group = "group",
        /// The version runs already.
        Same = "same",
        /// It is older than what runs, and not offered as a way back.
        Downgrade = "downgrade",
        /// The box is not in the share of boxes that the update is for.
        Share = "share",
        /// This very bundle was installed here before.
        InstalledBefore = "installed_before",
        /// This very bundle was refused here, or did not come up.
        FailedBefore = "failed_before",
        /// Another offer has a later version.
        Superseded = "superseded",
        /// Another update is being installed, or waits for the restart: this one comes after it.
        Busy = "busy",
        /// The cache has no room for it.
        Room = "room",
        /// It has not arrived as a whole.
        Incomplete = "incomplete",
        /// It does not have the length that was offered.
        Truncated = "truncated",
        /// It does not have the digest that was offered.
        Digest = "digest",
        /// It is to be installed at a time of day, and the box has no date.
        Date = "date",
        /// The maintenance window is closed.
        Window = "window",
        /// Players have asked for something a short time ago.
        Watched = "watched",
        /// The daemon has started a short time ago, and does not know yet whether there are viewers.
        JustStarted = "just_started",
        /// The program that installs cannot be started; that is tried again.
        Program = "program",
        /// The program that installs asks to be run again later.
        Later = "later",
        /// The program that installs has refused it, or failed.
        Installation = "installation",
        /// It is installed, and the box has not been restarted since.
        Restart = "restart",
    }
}

/// Properties of the box that offers refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver<'a> {
    /// Hardware.
    pub compatible: &'a str,
    /// Version that runs.
    pub version: &'a str,
    /// Random bytes that identify the box.
    pub identity: &'a [u8],
    /// Groups that it belongs to.
    pub groups: &'a [String],
}

/// Activity of players, as far as the box knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// No request for long enough.
    Nobody,
    /// No request since the daemon started, a short time ago.
    Unknown,
    /// A request a short time ago.
    Somebody,
}

/// Circumstances of a decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The date in seconds since 1970, if it is known.
    pub date: Option<u64>,
    /// Players.
    pub audience: Audience,
    /// The box's own maintenance window, which replaces the offer's.
    pub window: Option<Window>,
}

/// The part of a bundle that is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleProgress {
    /// Bytes of it; 0 for nothing.
    Part(u64),
    /// An object of this length and digest is there under its name.
    Complete {
        /// Its length.
        length: u64,
        /// Whether it has the offered digest.
        is_offered: bool,
    },
}

/// Phase of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// It is being received, or waits for its time.
    Receiving,
    /// The installer has begun.
    Installing,
    /// The installer is done; the box has to restart.
    Installed,
}

/// The update in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Release {
    /// Digest of the bundle.
    pub sha256: String,
    /// Its version.
    pub version: String,
    /// Its name.
    pub url: String,
    /// End of its offer.
    pub until: u64,
    /// Time at which it was seen first; `None`: the box had no date.
    pub since: Option<u64>,
    /// Phase.
    pub phase: Phase,
    /// Begun installations.
    pub attempts: u32,
    /// Boot ID of the machine when it was installed.
    pub boot: String,
    /// `If-Range` value of the origin's version of which a part is in the cache.
    #[serde(default)]
    pub origin_version: Option<String>,
}

/// A bundle that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Over {
    /// Digest of the bundle.
    pub sha256: String,
    /// Its version.
    pub version: String,
    /// Whether it was installed, and ran.
    pub is_installed: bool,
    /// Why not.
    pub why: String,
}

/// Everything that a box remembers about updates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Random bytes that identify this box, in hexadecimal digits.
    pub identity: String,
    /// The update that it is at.
    pub release: Option<Release>,
    /// Updates that are over.
    pub over: VecDeque<Over>,
}

impl Memory {
    /// Ends the update: this bundle is not tried again.
    pub(super) fn end(&mut self, is_installed: bool, why: &str) {
        let Some(Release { sha256, version, .. }) = self.release.take() else { return };
        self.over.retain(|it| it.sha256 != sha256);
        self.over.push_back(Over { sha256, version, is_installed, why: why.to_owned() });
        if self.over.len() > MAX_OVER {
            self.over.pop_front();
        }
    }
}

/// Reason why an offer does not concern this box; `None` if it does.
pub(super) fn refusal(
    offer: &Offer,
    receiver: &Receiver<'_>,
    memory: &Memory,
    date: Option<u64>,
) -> Option<HoldReason> {
    let sha256 = offer.sha256.to_hex();
    let over = memory.over.iter().find(|it| it.sha256 == sha256);
    let order = version::compare(&offer.version, receiver.version);
    let checks = [
        (date.is_some_and(|date| offer.until <= date), HoldReason::Expired),
        (offer.compatible != receiver.compatible, HoldReason::Compatible),
        (!offer.is_for(receiver.groups), HoldReason::Group),
        (order == Ordering::Equal, HoldReason::Same),
        (order == Ordering::Less && !offer.allow_downgrade, HoldReason::Downgrade),
        (over.is_some_and(|it| it.is_installed), HoldReason::InstalledBefore),
        (over.is_some(), HoldReason::FailedBefore),
        (!offer.includes(receiver.identity), HoldReason::Share),
    ];
    checks.into_iter().find_map(|(is_refused, why)| is_refused.then_some(why))
}

/// The offer to follow, which is the latest version of those that concern the box, and the reasons against the others.
pub(super) fn choose<'a>(
    offers: &'a [Offer],
    receiver: &Receiver<'_>,
    memory: &Memory,
    date: Option<u64>,
) -> (Option<&'a Offer>, Vec<(&'a Offer, HoldReason)>) {
    let (mut chosen, mut held): (Option<&Offer>, Vec<(&Offer, HoldReason)>) = (None, Vec::new());
    for offer in offers {
        if let Some(why) = refusal(offer, receiver, memory, date) {
            held.push((offer, why));
            continue;
        }
        let is_later = chosen.is_none_or(|it| version::compare(&offer.version, &it.version).is_gt());
        let other = if is_later { chosen.replace(offer) } else { Some(offer) };
        held.extend(other.map(|it| (it, HoldReason::Superseded)));
    }
    (chosen, held)
}

/// Result of an update that was begun before, as far as the running version shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpdateStatus {
    /// The update continues.
    Open,
    /// Its version runs.
    Done,
    /// Its offer has ended.
    Ended,
    /// The installation was interrupted, and may be tried again.
    CutOff,
    /// It is given up.
    Failed(&'static str),
}

/// The result of the remembered update. `is_installing`: the installer runs now.
pub(super) fn fate(
    release: &Release,
    running_version: &str,
    is_installing: bool,
    date: Option<u64>,
    boot: &str,
) -> UpdateStatus {
    let runs = version::compare(&release.version, running_version).is_eq();
    match release.phase {
        Phase::Installing if is_installing => UpdateStatus::Open,
        Phase::Installing | Phase::Installed if runs => UpdateStatus::Done,
        Phase::Installing if release.attempts >= MOST_ATTEMPTS => UpdateStatus::Failed("cut off too often"),
        Phase::Installing => UpdateStatus::CutOff,
        Phase::Installed if release.boot != boot => UpdateStatus::Failed("the old version runs again"),
        Phase::Installed => UpdateStatus::Open,
        Phase::Receiving if date.is_some_and(|date| release.until <= date) => UpdateStatus::Ended,
        Phase::Receiving => UpdateStatus::Open,
    }
}

/// The next step of the followed update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// To wait.
    Wait(HoldReason),
    /// To receive it; `asks_origin`: missing parts are requested from an origin.
    Receive {
        /// Its time has come.
        asks_origin: bool,
    },
    /// To remove the received bundle, which is not the offered one, and not to try it again.
    Discard(HoldReason),
    /// To hand it to the installer.
    Install,
}

/// The next step with the offer that `release` follows.
pub(super) fn next(
    offer: &Offer,
    release: &Release,
    holding: BundleProgress,
    identity: &[u8],
    moment: &Moment,
) -> Action {
    match (release.phase, holding) {
        (Phase::Installing, _) => Action::Wait(HoldReason::Installation),
        (Phase::Installed, _) => Action::Wait(HoldReason::Restart),
        (Phase::Receiving, BundleProgress::Part(_)) => {
            let is_late = |date: u64| {
                let at = release.since?.saturating_add(offer.repair_delay_s(identity));
                Some(date >= at)
            };
            // An origin is the only source of bundles that no session carries.
            let waits = offer.session.is_some() && !moment.date.and_then(is_late).unwrap_or(false);
            Action::Receive { asks_origin: !waits }
        }
        (Phase::Receiving, BundleProgress::Complete { length, .. }) if length != offer.length => {
            Action::Discard(HoldReason::Truncated)
        }
        (Phase::Receiving, BundleProgress::Complete { is_offered: false, .. }) => {
            Action::Discard(HoldReason::Digest)
        }
        (Phase::Receiving, BundleProgress::Complete { .. }) => {
            let window = moment.window.or(offer.window);
            match (window, moment.date) {
                (Some(_), None) => Action::Wait(HoldReason::Date),
                (Some(window), Some(date)) if !window.is_open(date) => Action::Wait(HoldReason::Window),
                _ => match moment.audience {
                    Audience::Somebody => Action::Wait(HoldReason::Watched),
                    Audience::Unknown => Action::Wait(HoldReason::JustStarted),
                    Audience::Nobody => Action::Install,
                },
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use carousel::Digest;

    use super::*;

    pub(in super::super) fn offer(version: &str) -> Offer {
        Offer {
            compatible: "skycache-x86_64".to_owned(),
            version: version.to_owned(),
            url: format!("https://cdn.example.com/firmware/{version}.raucb"),
            length: 1000,
            sha256: Digest::of(version.as_bytes()),
            allow_downgrade: false,
            share: carousel::firmware::EVERYBODY,
            groups: Vec::new(),
            window: Window::parse("02:00-05:00"),
            session: Some(("239.192.49.2:49003".parse().unwrap(), 100)),
            source: None,
            repair_after_s: 3600,
            repair_within_s: 600,
            until: 1_000_000,
        }
    }

    const BOX: Receiver<'static> =
        Receiver { compatible: "skycache-x86_64", version: "1.4", identity: b"box", groups: &[] };
    /// Three in the morning.
    const NIGHT: u64 = 3 * 3600;

    fn release(of: &Offer, phase: Phase) -> Release {
        Release {
            sha256: of.sha256.to_hex(),
            version: of.version.clone(),
            url: of.url.clone(),
            until: of.until,
            since: Some(0),
            phase,
            attempts: 1,
            boot: "one".to_owned(),
            origin_version: None,
        }
    }

    #[test]
    fn each_offer_that_does_not_concern_the_box_has_its_reason() {
        let memory = Memory::default();
        let why = |offer: &Offer| refusal(offer, &BOX, &memory, Some(NIGHT));
        let good = offer("1.5");
        assert_eq!(why(&good), None);
        assert_eq!(why(&Offer { until: NIGHT, ..good.clone() }), Some(HoldReason::Expired));
        assert_eq!(refusal(&Offer { until: 0, ..good.clone() }, &BOX, &memory, None), None, "no date yet");
        let other = Offer { compatible: "skycache-aarch64".to_owned(), ..good.clone() };
        assert_eq!(why(&other), Some(HoldReason::Compatible));
        assert_eq!(why(&Offer { groups: vec!["north".to_owned()], ..good.clone() }), Some(HoldReason::Group));
        assert_eq!(why(&offer("1.4")), Some(HoldReason::Same));
        assert_eq!(why(&offer("1.3")), Some(HoldReason::Downgrade));
        assert_eq!(why(&Offer { allow_downgrade: true, ..offer("1.3") }), None);
        assert_eq!(why(&Offer { share: 0, ..good.clone() }), Some(HoldReason::Share));
        for (is_installed, expected) in
            [(true, HoldReason::InstalledBefore), (false, HoldReason::FailedBefore)]
        {
            let mut memory = Memory { release: Some(release(&good, Phase::Receiving)), ..Memory::default() };
            memory.end(is_installed, "why");
            assert_eq!(refusal(&good, &BOX, &memory, None), Some(expected));
            // Another bundle of the same version is another matter.
            let again = Offer { sha256: Digest::of(b"again"), ..good.clone() };
            assert_eq!(refusal(&again, &BOX, &memory, None), None);
        }
    }

    #[test]
    fn the_latest_of_the_offers_that_concern_the_box_is_followed() {
        let memory = Memory::default();
        let offers = [offer("1.10"), offer("1.5"), Offer { share: 0, ..offer("1.11") }];
        let (chosen, held) = choose(&offers, &BOX, &memory, None);
        assert_eq!(chosen, Some(&offers[0]));
        assert_eq!(held, [(&offers[1], HoldReason::Superseded), (&offers[2], HoldReason::Share)]);
        let offers = [offer("1.5"), offer("1.10")];
        assert_eq!(choose(&offers, &BOX, &memory, None).0, Some(&offers[1]));
        assert_eq!(choose(&[], &BOX, &memory, None), (None, Vec::new()));
    }

    #[test]
    fn it_is_received_then_installed_at_night_when_nobody_watches() {
        let (offer, receiving) = (offer("1.5"), release(&offer("1.5"), Phase::Receiving));
        let night = Moment { date: Some(NIGHT), audience: Audience::Nobody, window: None };
        let step = |holding, moment: Moment| next(&offer, &receiving, holding, b"box", &moment);
        let delay_s = offer.repair_delay_s(b"box");
        assert!((3600..4200).contains(&delay_s));
        let at = |date| Moment { date, ..night };
        let receive = |asks_origin| Action::Receive { asks_origin };
        assert_eq!(step(BundleProgress::Part(999), at(Some(delay_s - 1))), receive(false));
        assert_eq!(step(BundleProgress::Part(999), at(Some(delay_s))), receive(true));
        assert_eq!(step(BundleProgress::Part(0), at(None)), receive(false));
        let whole = BundleProgress::Complete { length: 1000, is_offered: true };
        assert_eq!(step(whole, night), Action::Install);
        for (audience, hold) in
            [(Audience::Somebody, HoldReason::Watched), (Audience::Unknown, HoldReason::JustStarted)]
        {
            assert_eq!(step(whole, Moment { audience, ..night }), Action::Wait(hold));
        }
        assert_eq!(step(whole, at(Some(12 * 3600))), Action::Wait(HoldReason::Window));
        assert_eq!(step(whole, at(None)), Action::Wait(HoldReason::Date));
        let noon = Moment { date: Some(12 * 3600), window: Window::parse("11:00-13:00"), ..night };
        assert_eq!(step(whole, noon), Action::Install, "the box's own window");
        let cut = BundleProgress::Complete { length: 999, is_offered: false };
        assert_eq!(step(cut, night), Action::Discard(HoldReason::Truncated));
        let tampered = BundleProgress::Complete { length: 1000, is_offered: false };
        assert_eq!(step(tampered, night), Action::Discard(HoldReason::Digest));
        let anywhere = Offer { window: None, session: None, ..offer.clone() };
        assert_eq!(next(&anywhere, &receiving, whole, b"box", &at(None)), Action::Install);
        assert_eq!(next(&anywhere, &receiving, BundleProgress::Part(0), b"box", &at(None)), receive(true));
        for (phase, hold) in
            [(Phase::Installing, HoldReason::Installation), (Phase::Installed, HoldReason::Restart)]
        {
            let release = Release { phase, ..receiving.clone() };
            assert_eq!(next(&offer, &release, whole, b"box", &night), Action::Wait(hold));
        }
    }

    #[test]
    fn what_was_begun_before_a_start_has_its_fate() {
        let of = |phase, attempts| Release { attempts, ..release(&offer("1.5"), phase) };
        let fate_of =
            |release: &Release, running: &str, boot: &str| fate(release, running, false, Some(NIGHT), boot);
        assert_eq!(fate_of(&of(Phase::Receiving, 0), "1.4", "two"), UpdateStatus::Open);
        assert_eq!(fate_of(&of(Phase::Installing, 1), "1.4", "two"), UpdateStatus::CutOff);
        assert!(matches!(fate_of(&of(Phase::Installing, 3), "1.4", "two"), UpdateStatus::Failed(_)));
        assert_eq!(
            fate_of(&of(Phase::Installing, 3), "1.5", "two"),
            UpdateStatus::Done,
            "cut off behind its end"
        );
        assert_eq!(fate_of(&of(Phase::Installed, 1), "1.4", "one"), UpdateStatus::Open);
        assert!(matches!(fate_of(&of(Phase::Installed, 1), "1.4", "two"), UpdateStatus::Failed(_)));
        assert_eq!(fate_of(&of(Phase::Installed, 1), "1.5", "two"), UpdateStatus::Done);
        assert_eq!(fate(&of(Phase::Installing, 3), "1.4", true, None, "one"), UpdateStatus::Open);
        let ended = Release { until: NIGHT, ..of(Phase::Receiving, 0) };
        assert_eq!(fate_of(&ended, "1.4", "one"), UpdateStatus::Ended);
    }

    #[test]
    fn bundles_that_are_over_are_bounded() {
        let mut memory = Memory::default();
        for number in 0..=MAX_OVER {
            memory.release = Some(release(&offer(&format!("1.{number}")), Phase::Receiving));
            memory.end(false, "x");
        }
        assert_eq!((memory.over.len(), memory.over[0].version.as_str()), (MAX_OVER, "1.1"));
        // A repeat takes no second place.
        memory.release = Some(release(&offer("1.5"), Phase::Receiving));
        memory.end(true, "");
        assert_eq!((memory.over.len(), memory.over[MAX_OVER - 1].is_installed), (MAX_OVER, true));
        memory.end(true, "");
        assert_eq!(memory.over.len(), MAX_OVER, "there was none");
    }
}
