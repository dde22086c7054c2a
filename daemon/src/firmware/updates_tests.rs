use carousel::command;
use carousel::digest::Digest;
use carousel::firmware::Offer;
use carousel::time::Instant;
use carousel::trust::{Certificate, Edition, Kind, Policy, Sealer, SecretKey, Trust};

use super::decide::tests::offer;
use super::decide::{Audience, BundleProgress, HoldReason, Phase};
use super::installer::InstallError;
use super::lack::Own;
use super::options::FirmwareOptions;
use super::updates::{Bundle, Step, UpdateOutcome, Updates};

/// Three in the morning.
const NIGHT: u64 = 3 * 3600;
const COMPLETE: BundleProgress = BundleProgress::Complete { length: 1000, is_offered: true };

fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn trust() -> Trust {
    Trust::new(Policy { keys: vec![root().public()], ..Policy::default() })
}

fn document_as(kind: Kind, version: u64, offers: &[Offer]) -> Vec<u8> {
    let online = SecretKey::from_seed(&[2; 32]);
    let certificate = Certificate::issue(&root(), online.public(), (0, 1), (0, 1 << 40), Vec::new());
    let sealer = Sealer::new(online, certificate, None, 0).unwrap();
    let edition = Edition { version, issued: 1000, until: 1_000_000, ..Edition::default() };
    let text = carousel::firmware::to_xml(offers);
    sealer.seal_xml(kind, &carousel::firmware::stream(), &edition, &text).into_bytes()
}

fn document(version: u64, offers: &[Offer]) -> Vec<u8> {
    document_as(Kind::Firmware, version, offers)
}

fn open_as(folder: &std::path::Path, version: &str, boot: &str) -> Updates {
    let options = FirmwareOptions {
        install: vec!["/bin/true".to_owned()],
        report_url: "https://h/report".to_owned(),
        ..FirmwareOptions::default()
    };
    let own = Own { compatible: Some("skycache-x86_64".to_owned()), version: Some(version.to_owned()) };
    Updates::open(options, Vec::new(), own, folder, boot.to_owned()).unwrap()
}

fn hand_in(updates: &Updates, document: Vec<u8>) {
    updates.offer(&trust(), Instant::default(), document);
}

fn offered(updates: &Updates, version: u64, offers: &[Offer]) {
    hand_in(updates, document(version, offers));
    updates.judge(&trust(), Instant::default(), None);
}

fn held(updates: &Updates) -> Vec<(&'static str, u64)> {
    updates.held().labelled().filter(|it| it.1 > 0).collect()
}

#[test]
fn an_update_is_received_installed_and_done_once_its_version_runs() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0)), Step::Rest);
    offered(&updates, 5, &[offer("1.5")]);
    let before = updates.generation();
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0)), Step::Rest);
    assert!(updates.generation() > before);
    let sessions = updates.sessions();
    assert_eq!((sessions.len(), sessions[0].tsi, sessions[0].service.as_str()), (1, Some(100), "firmware"));
    assert!(sessions[0].repair.as_ref().unwrap().base_urls.is_empty(), "the carousel has its time");
    assert_eq!(updates.wanted().unwrap().url, offer("1.5").url);
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(500)), Step::Rest);
    assert_eq!(updates.progress(), (500, 1000));
    let before = updates.generation();
    let late = updates.step(Some(NIGHT + 4200), Audience::Nobody, BundleProgress::Part(500));
    assert!(matches!(late, Step::Ask(Bundle { length: 1000, .. })), "{late:?}");
    assert!(updates.generation() > before);
    assert_eq!(
        updates.sessions()[0].repair.as_ref().unwrap().base_urls[0].0,
        "https://cdn.example.com/firmware/"
    );
    assert_eq!(updates.step(Some(NIGHT), Audience::Somebody, COMPLETE), Step::Rest);
    assert!(updates.sessions().is_empty(), "it has all of it");
    assert!(matches!(updates.step(Some(NIGHT), Audience::Nobody, COMPLETE), Step::Install(_)));
    updates.begin().unwrap();
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, COMPLETE), Step::Rest, "it is being installed");
    updates.installed(Ok(()));
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, COMPLETE), Step::Rest);
    assert_eq!(held(&updates), [("incomplete", 1), ("watched", 1), ("installation", 1), ("restart", 1)]);
    drop(updates);
    // It starts again, with the new version.
    let updates = open_as(folder.path(), "1.5", "two");
    assert_eq!(updates.remembered(), Some(offer("1.5").url));
    updates.step(Some(NIGHT), Audience::Nobody, COMPLETE);
    assert_eq!(updates.outcomes().get(UpdateOutcome::Running), 1);
    assert_eq!(updates.take_unwanted(), [offer("1.5").url]);
    offered(&updates, 6, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    assert_eq!(held(&updates), [("same", 1)]);
    let events: Vec<String> =
        updates.take_reports().iter().map(|it| it["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["running"]);
}

#[test]
fn what_fails_or_comes_back_as_the_old_version_is_not_tried_again_until_it_changes() {
    for (fails, outcome) in [(true, UpdateOutcome::Failed), (false, UpdateOutcome::RolledBack)] {
        let folder = tempfile::tempdir().unwrap();
        let mut updates = open_as(folder.path(), "1.4", "one");
        offered(&updates, 5, &[offer("1.5")]);
        updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
        updates.begin().unwrap();
        if fails {
            updates.installed(Err(InstallError::Failed("refused (signature): nobody".to_owned())));
        } else {
            updates.installed(Ok(()));
            updates = open_as(folder.path(), "1.4", "two");
            updates.step(Some(NIGHT), Audience::Nobody, COMPLETE);
        }
        assert_eq!(updates.outcomes().get(outcome), 1);
        let updates = open_as(folder.path(), "1.4", "three");
        offered(&updates, 6, &[offer("1.5")]);
        assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, COMPLETE), Step::Rest);
        assert_eq!((held(&updates), updates.wanted()), (vec![("failed_before", 1)], None));
        // The version again, in another bundle.
        offered(&updates, 7, &[Offer { sha256: Digest::of(b"better"), ..offer("1.5") }]);
        updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
        assert_eq!(updates.wanted().unwrap().sha256, Digest::of(b"better"));
    }
}

#[test]
fn what_is_not_what_was_offered_is_discarded_and_counted() {
    for (holding, why) in [
        (BundleProgress::Complete { length: 999, is_offered: false }, "truncated"),
        (BundleProgress::Complete { length: 1000, is_offered: false }, "digest"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let updates = open_as(folder.path(), "1.4", "one");
        offered(&updates, 5, &[offer("1.5")]);
        updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
        assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, holding), Step::Rest);
        assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0)), Step::Rest);
        assert_eq!(held(&updates).last().unwrap(), &(why, 1));
        assert_eq!((updates.wanted(), updates.take_unwanted().len()), (None, 1));
    }
}

#[test]
fn documents_of_nobody_of_another_kind_and_older_ones_are_counted_by_reason() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    let trust = trust();
    let judge = |bytes: Vec<u8>| {
        hand_in(&updates, bytes);
        updates.judge(&trust, Instant::default(), None);
        updates.step(None, Audience::Nobody, BundleProgress::Part(0));
        updates.wanted().is_some()
    };
    let forged = String::from_utf8(document(5, &[offer("1.5")])).unwrap().replace("1.5.raucb", "1.6.raucb");
    assert!(!judge(forged.into_bytes()));
    let unsigned = carousel::firmware::to_xml(&[offer("1.5")]).replace(carousel::trust::BLANK, "");
    assert!(!judge(unsigned.into_bytes()));
    assert!(!judge(document_as(Kind::Command, 5, &[offer("1.5")])));
    assert_eq!(held(&updates), [("signature", 3)]);
    let text = command::to_xml(&[]);
    let online = SecretKey::from_seed(&[2; 32]);
    let certificate = Certificate::issue(&root(), online.public(), (0, 1), (0, 1 << 40), Vec::new());
    let sealer = Sealer::new(online, certificate, None, 0).unwrap();
    let edition = Edition { version: 6, issued: 1000, until: 1_000_000, ..Edition::default() };
    let odd = sealer.seal_xml(Kind::Firmware, &carousel::firmware::stream(), &edition, &text);
    assert!(!judge(odd.into_bytes()));
    assert!(judge(document(7, &[offer("1.5")])));
    // A recording of the time before.
    assert!(judge(document(6, &[offer("1.7")])));
    assert_eq!(updates.wanted().unwrap().url, offer("1.5").url);
    let counted = held(&updates);
    assert!(counted.contains(&("malformed", 1)) && counted.contains(&("replayed", 1)), "{counted:?}");
    // Withdrawn.
    assert!(!judge(document(8, &[])));
    assert_eq!(updates.outcomes().get(UpdateOutcome::Dropped), 1);
    assert!(judge(document(9, &[offer("1.5")])), "and offered again");
}

#[test]
fn a_box_without_an_installer_or_a_place_to_write_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let updates =
        Updates::open(FirmwareOptions::default(), Vec::new(), Own::default(), folder.path(), String::new())
            .unwrap();
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    assert_eq!((held(&updates), updates.wanted()), (vec![("not_configured", 1)], None));
    let updates = open_as(folder.path(), "1.4", "one");
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    drop(folder);
    assert!(updates.begin().is_err(), "what begins must be written down");
    assert_eq!(updates.to_json()["update"]["phase"], "receiving");
}

#[test]
fn lists_of_offers_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    let roots: Vec<SecretKey> = (10..19).map(|seed| SecretKey::from_seed(&[seed; 32])).collect();
    let keys = roots.iter().map(SecretKey::public).collect();
    let trust = Trust::new(Policy { keys, ..Policy::default() });
    for (number, root) in roots.iter().enumerate() {
        let online = SecretKey::from_seed(&[100 + number as u8; 32]);
        let certificate = Certificate::issue(root, online.public(), (0, 1), (0, 1 << 40), Vec::new());
        let sealer = Sealer::new(online, certificate, None, 0).unwrap();
        let edition = Edition { version: 5, issued: 1000, until: 1_000_000, ..Edition::default() };
        let text = carousel::firmware::to_xml(&[offer(&format!("1.{number}"))]);
        let sealed = sealer.seal_xml(Kind::Firmware, &carousel::firmware::stream(), &edition, &text);
        hand_in(&updates, sealed.into_bytes());
        updates.judge(&trust, Instant::default(), None);
    }
    assert_eq!(updates.to_json()["offers"].as_array().unwrap().len(), 8);
    assert_eq!(held(&updates), [("malformed", 1)]);
}

/// Every step is synced, which takes long on a disk that is busy.
fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A machine with two slots that loses power at seeded moments of reception and installation.
struct Machine {
    folder: tempfile::TempDir,
    running: String,
    armed: Option<String>,
    boots: u32,
    /// Bytes of the bundle in the cache, and those that a checkpoint has saved.
    arrived: u64,
    saved: u64,
    cuts_while_installing: u32,
    random: u64,
}

impl Machine {
    fn draw(&mut self, of: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % of
    }

    fn boot(&mut self) -> Updates {
        self.boots += 1;
        self.arrived = self.saved;
        if let Some(armed) = self.armed.take() {
            self.running = armed;
        }
        open_as(self.folder.path(), &self.running, &self.boots.to_string())
    }
}

#[test]
fn whenever_the_power_is_cut_the_box_runs_one_of_both_versions_and_ends_with_the_new_one() {
    let (mut cut_at_all, mut given_up) = (0, 0);
    for seed in 0..200 {
        let mut machine = Machine {
            folder: folder_in_memory(),
            running: "1.4".to_owned(),
            armed: None,
            boots: 0,
            arrived: 0,
            saved: 0,
            cuts_while_installing: 0,
            random: seed * 7919 + 1,
        };
        let trust = trust();
        let mut updates = machine.boot();
        let identity = updates.own_part_s(u64::MAX);
        let mut is_done = false;
        for tick in 0..300_u64 {
            let calm = tick > 200;
            let cuts = |machine: &mut Machine, of: u64| !calm && machine.draw(of) == 0;
            // The document is repeated; now and then the box has missed it.
            if machine.draw(3) > 0 {
                hand_in(&updates, document(5, &[offer("1.5")]));
            }
            updates.judge(&trust, Instant::default(), None);
            if updates.wanted().is_some() && machine.arrived < 1000 {
                machine.arrived = 1000.min(machine.arrived + machine.draw(300));
                if machine.draw(2) == 0 {
                    machine.saved = machine.arrived;
                }
            }
            let holding =
                if machine.arrived == 1000 { COMPLETE } else { BundleProgress::Part(machine.arrived) };
            let step = updates.step(Some(NIGHT + tick), Audience::Nobody, holding);
            assert!(machine.running == "1.4" || machine.running == "1.5");
            if let Step::Install(Bundle { sha256, .. }) = step {
                assert_eq!((sha256, machine.arrived), (offer("1.5").sha256, 1000), "seed {seed}");
                assert_eq!(machine.running, "1.4", "seed {seed}: installed twice");
                machine.saved = 1000;
                if cuts(&mut machine, 6) {
                    updates = machine.boot();
                    continue;
                }
                updates.begin().unwrap();
                // Before the slot is armed, behind it, or not at all.
                let moment = if calm { 9 } else { machine.draw(10) };
                if moment > 2 {
                    machine.armed = Some("1.5".to_owned());
                }
                if moment < 5 {
                    machine.cuts_while_installing += u32::from(moment <= 2);
                    updates = machine.boot();
                    continue;
                }
                updates.installed(Ok(()));
                updates.step(Some(NIGHT + tick), Audience::Nobody, COMPLETE);
                if !cuts(&mut machine, 3) {
                    assert_eq!(updates.to_json()["update"]["phase"], "installed");
                }
                updates = machine.boot();
                continue;
            }
            if cuts(&mut machine, 12) {
                cut_at_all += 1;
                updates = machine.boot();
            }
            assert_eq!(updates.own_part_s(u64::MAX), identity, "the identity stays");
            is_done = updates.to_json()["over"].as_array().is_some_and(|it| !it.is_empty());
            if is_done && tick > 250 {
                break;
            }
        }
        let gives_up = machine.cuts_while_installing >= 3;
        given_up += u32::from(gives_up);
        assert!(is_done, "seed {seed}: {}", updates.to_json());
        let over = &updates.to_json()["over"][0];
        assert_eq!(machine.running == "1.5", !gives_up, "seed {seed}: {over}");
        assert_eq!(over["installed"], !gives_up, "seed {seed}: {over}");
    }
    println!(
        "{cut_at_all} cuts outside of installations, {given_up} of 200 boxes gave up behind three within"
    );
    assert!(cut_at_all > 1000);
}

#[test]
fn an_update_that_waits_when_the_box_starts_again_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    drop(updates);
    let updates = open_as(folder.path(), "1.4", "two");
    // Nothing has been heard: it is neither followed nor given up, and its object stays pinned.
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, COMPLETE), Step::Rest);
    assert_eq!((updates.sessions().len(), updates.remembered()), (0, Some(offer("1.5").url)));
    offered(&updates, 5, &[offer("1.5")]);
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0)), Step::Rest);
    assert_eq!(updates.sessions().len(), 1);
    // Since when it has been waited for is remembered.
    assert!(matches!(
        updates.step(Some(NIGHT + 4200), Audience::Nobody, BundleProgress::Part(0)),
        Step::Ask(_)
    ));
    updates.wait(HoldReason::Room);
    assert_eq!(updates.to_json()["update"]["held"], "room");
    assert_eq!(updates.to_json()["update"]["phase"], serde_json::json!(Phase::Receiving));
    // A later version takes its place.
    offered(&updates, 6, &[offer("1.5"), offer("1.6")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    assert_eq!(updates.wanted().unwrap().url, offer("1.6").url);
    assert_eq!(updates.take_unwanted(), [offer("1.5").url]);
}

#[test]
fn an_update_that_is_offered_under_another_url_is_kept_under_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    let moved = Offer { url: "https://other.example.com/1.5.raucb".to_owned(), ..offer("1.5") };
    offered(&updates, 6, std::slice::from_ref(&moved));
    // A complete object under the old name is not the installed one.
    assert_eq!(updates.step(Some(NIGHT), Audience::Nobody, COMPLETE), Step::Rest);
    assert_eq!(
        (updates.remembered(), updates.wanted().unwrap().url),
        (Some(moved.url.clone()), moved.url.clone())
    );
    assert_eq!(updates.take_unwanted(), [offer("1.5").url]);
    drop(updates);
    let updates = open_as(folder.path(), "1.4", "two");
    assert_eq!(updates.remembered(), Some(moved.url), "it is written down");
}

/// A second for each step, for ten minutes.
fn ten_minutes(updates: &Updates, from: u64, holding: BundleProgress) {
    for second in 0..600 {
        assert_eq!(updates.step(Some(from + second), Audience::Nobody, holding), Step::Rest);
    }
}

/// Why the offer of this version is not installed.
fn held_of(updates: &Updates, version: &str) -> serde_json::Value {
    let offers = updates.to_json()["offers"].clone();
    offers.as_array().unwrap().iter().find(|it| it["version"] == version).unwrap()["held"].clone()
}

#[test]
fn each_reason_of_two_offers_is_counted_once_in_ten_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    updates.begin().unwrap();
    // A later one is offered while the first is installed, and before the box restarts.
    offered(&updates, 6, &[offer("1.5"), offer("1.6")]);
    ten_minutes(&updates, NIGHT, COMPLETE);
    assert_eq!(held(&updates), [("busy", 1), ("installation", 1)]);
    updates.installed(Ok(()));
    ten_minutes(&updates, NIGHT + 600, COMPLETE);
    assert_eq!(held(&updates), [("busy", 1), ("installation", 1), ("restart", 1)]);
    assert_eq!((held_of(&updates, "1.5"), held_of(&updates, "1.6")), ("restart".into(), "busy".into()));
    drop(updates);
    // The first runs: the later one is its turn.
    let updates = open_as(folder.path(), "1.5", "two");
    offered(&updates, 6, &[offer("1.5"), offer("1.6")]);
    ten_minutes(&updates, NIGHT + 1200, BundleProgress::Part(0));
    assert_eq!(held(&updates), [("same", 1), ("incomplete", 1)]);
    // One that arrives gives way to a later one at once.
    offered(&updates, 7, &[offer("1.5"), offer("1.6"), offer("1.7")]);
    ten_minutes(&updates, NIGHT + 1800, BundleProgress::Part(0));
    assert_eq!(held(&updates), [("same", 1), ("superseded", 1), ("incomplete", 2)]);
    assert_eq!(updates.wanted().unwrap().url, offer("1.7").url);
}

#[test]
fn a_bundle_that_two_root_keys_offer_is_one_offer() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    let other = SecretKey::from_seed(&[9; 32]);
    let trust = Trust::new(Policy { keys: vec![root().public(), other.public()], ..Policy::default() });
    let online = SecretKey::from_seed(&[8; 32]);
    let certificate = Certificate::issue(&other, online.public(), (0, 1), (0, 1 << 40), Vec::new());
    let sealer = Sealer::new(online, certificate, None, 0).unwrap();
    let edition = Edition { version: 5, issued: 1000, until: 1_000_000, ..Edition::default() };
    let text = carousel::firmware::to_xml(&[offer("1.5")]);
    let same = sealer.seal_xml(Kind::Firmware, &carousel::firmware::stream(), &edition, &text);
    for bytes in [document(5, &[offer("1.5")]), same.into_bytes()] {
        hand_in(&updates, bytes);
        updates.judge(&trust, Instant::default(), None);
    }
    ten_minutes(&updates, NIGHT, BundleProgress::Part(0));
    assert_eq!(held(&updates), [("incomplete", 1)]);
    assert_eq!(updates.to_json()["offers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_program_that_cannot_be_started_is_tried_again_and_the_bundle_is_none_the_worse() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    for second in 0..600 {
        let step = updates.step(Some(NIGHT + second), Audience::Nobody, COMPLETE);
        assert!(matches!(step, Step::Install(_)), "{second}: {step:?}");
        updates.begin().unwrap();
        updates.installed(Err(InstallError::NotStarted("/x: there is no such program".to_owned())));
    }
    assert_eq!(held(&updates), [("program", 1)]);
    let said = updates.to_json();
    assert_eq!((&said["update"]["attempts"], &said["update"]["held"]), (&0.into(), &"program".into()));
    assert_eq!(said["why"], "/x: there is no such program");
    assert_eq!(updates.outcomes().get(UpdateOutcome::Failed), 0);
    // It is there now.
    updates.begin().unwrap();
    updates.installed(Ok(()));
    assert_eq!(updates.to_json()["update"]["phase"], "installed");
}

#[test]
fn a_program_that_asks_to_be_run_later_is_and_nothing_counts_as_failed() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    offered(&updates, 5, &[offer("1.5")]);
    updates.step(Some(NIGHT), Audience::Nobody, BundleProgress::Part(0));
    assert_eq!(updates.to_json()["update"]["phase"], "receiving");
    for second in 0..600 {
        let step = updates.step(Some(NIGHT + second), Audience::Nobody, COMPLETE);
        assert!(matches!(step, Step::Install(_)), "{second}: {step:?}");
        assert_eq!(updates.to_json()["update"]["phase"], "received");
        updates.begin().unwrap();
        updates.installed(Err(InstallError::Later("a recording runs".to_owned())));
    }
    assert_eq!(held(&updates), [("later", 1)]);
    let said = updates.to_json();
    assert_eq!((&said["update"]["attempts"], &said["update"]["held"]), (&0.into(), &"later".into()));
    assert_eq!(said["why"], "a recording runs");
    assert_eq!(updates.outcomes().get(UpdateOutcome::Failed), 0);
    updates.begin().unwrap();
    updates.installed(Ok(()));
    assert_eq!(updates.to_json()["update"]["phase"], "installed");
}

#[test]
fn a_program_that_is_not_there_is_said_before_anything_is_offered() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    let lacks = || updates.to_json()["lacks"].clone();
    assert_eq!(lacks(), serde_json::json!([]));
    let install = vec!["/none/such".to_owned()];
    updates.configure(FirmwareOptions { install, ..updates.options() }, Vec::new(), Own::default());
    assert_eq!(lacks()[0]["what"], "/none/such: there is no such program");
    assert!(lacks()[0]["fix"].as_str().unwrap().contains("[firmware] install"));
}

#[test]
fn what_a_box_lacks_is_said_until_it_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let updates = open_as(folder.path(), "1.4", "one");
    let lacks = |trust: &Trust| {
        updates.judge(trust, Instant::default(), None);
        updates.to_json()["lacks"].as_array().unwrap().len()
    };
    assert_eq!(lacks(&Trust::new(Policy::default())), 1, "nobody is trusted");
    assert!(updates.to_json()["lacks"][0]["fix"].as_str().unwrap().contains("[trust] keys"));
    assert_eq!(lacks(&trust()), 0);
}

#[test]
fn the_installer_gets_a_path_from_the_root_on() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let relative = std::path::Path::new(".").join(folder.path().file_name().unwrap());
    let updates = open_as(&relative, "1.4", "one");
    assert!(updates.bundle_path().is_absolute(), "{}", updates.bundle_path().display());
}
