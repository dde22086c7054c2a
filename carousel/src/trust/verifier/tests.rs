use super::super::keys::SecretKey;
use super::super::seal::{BLANK, Edition, Sealer, Stream};
use super::super::tests::{ROOT, SEALER, sealer, stream};
use super::*;

const NOW: u64 = 1_795_219_200;

fn wall(at_s: u64) -> Option<WallTime> {
    Some(WallTime::from_unix_ms(at_s as i64 * 1000))
}

fn pinned_policy(mode: Mode) -> Policy {
    Policy { mode, keys: vec![ROOT.public()], ..Policy::default() }
}

fn edition(version: u64, page: u32) -> Edition {
    Edition { version, floor: 0, page, issued: NOW, until: NOW + 3600 }
}

fn sign(sealer: &Sealer, stream: &Stream, edition: &Edition, text: &str) -> Vec<u8> {
    let document = format!("<FDT-Instance{BLANK}>{text}</FDT-Instance>");
    sealer.seal_xml(Kind::Fdt, stream, edition, &document).into_bytes()
}

fn document(version: u64, page: u32) -> Vec<u8> {
    sign(&SEALER, &stream(), &edition(version, page), &version.to_string())
}

/// A signed document with another word in it.
fn forged() -> Vec<u8> {
    String::from_utf8(document(1, 0)).unwrap().replace(">1<", ">9<").into_bytes()
}

fn ask_at(trust: &Trust, bytes: &[u8], mode: Mode, wall: Option<WallTime>) -> Result<bool, TrustDrop> {
    let judged = Judged { kind: Kind::Fdt, bytes, tsi: Some(7), mode, allowance: Allowance::Untrusted(0) };
    trust.judge(Instant::from_nanos(0), wall, &judged).map(|by| by.is_some())
}

fn ask(trust: &Trust, bytes: &[u8]) -> Result<bool, TrustDrop> {
    ask_at(trust, bytes, Mode::Require, wall(NOW))
}

#[test]
fn each_mode_with_each_kind_of_document() {
    let untrusted = SecretKey::from_seed(&[8; 32]);
    let certificate =
        Certificate::issue(&untrusted, untrusted.public(), (0, 1), (100, 10_000_000_000), Vec::new());
    let untrusted = Sealer::new(untrusted, certificate, None, 0).unwrap();
    let unknown = sign(&untrusted, &stream(), &edition(1, 0), "");
    let forged = forged();
    let rows = [
        (b"<FDT-Instance/>".to_vec(), [Err(TrustDrop::Unsigned), Ok(false), Ok(false)]),
        (unknown, [Err(TrustDrop::UnknownKey), Ok(false), Ok(false)]),
        (forged, [Err(TrustDrop::BadSignature), Err(TrustDrop::BadSignature), Ok(false)]),
        (document(1, 0), [Ok(true), Ok(true), Ok(false)]),
    ];
    for (bytes, expected) in rows {
        for (mode, expected) in [Mode::Require, Mode::Prefer, Mode::Off].into_iter().zip(expected) {
            let trust = Trust::new(pinned_policy(mode));
            assert_eq!(ask_at(&trust, &bytes, mode, wall(NOW)), expected, "{mode:?}");
            let report = trust.report();
            assert_eq!(report.accepted, u64::from(expected == Ok(true)));
            assert_eq!(report.refused.iter().sum::<u64>(), u64::from(expected.is_err()));
        }
    }
}

#[test]
fn older_versions_of_a_page_are_replays_and_repeats_are_not() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let (old, new) = (document(1, 0), document(2, 0));
    for (bytes, expected) in [
        (&old, Ok(true)),
        (&old, Ok(true)),
        (&new, Ok(true)),
        (&old, Err(TrustDrop::Replayed)),
        (&new, Ok(true)),
        (&document(1, 1), Ok(true)),
        // Another document of the same version was made by a copy of the key that does not know of the first.
        (&sign(&SEALER, &stream(), &edition(2, 0), "other"), Err(TrustDrop::Replayed)),
        (&sign(&SEALER, &stream(), &Edition { floor: 5, ..edition(6, 0) }, ""), Ok(true)),
        (&document(1, 1), Err(TrustDrop::Replayed)),
        (&document(5, 1), Ok(true)),
    ] {
        assert_eq!(ask(&trust, bytes), expected);
    }
    let other = Stream { name: "other".to_owned(), ..stream() };
    assert_eq!(ask(&trust, &sign(&SEALER, &other, &edition(1, 0), "")), Ok(true));
}

/// `bytes` with its seal changed; the signature stays.
fn resealed(bytes: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    let value = text.split('"').nth(1).unwrap();
    let mut seal = crate::digest::from_base64(value).unwrap();
    change(&mut seal);
    text.replace(value, &crate::digest::to_base64(&seal)).into_bytes()
}

/// Whoever repeats a genuine document with a seal of his own would otherwise say which versions count from now on.
#[test]
fn a_repeat_under_another_seal_is_examined_and_changes_nothing() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let genuine = document(7, 0);
    assert_eq!(ask(&trust, &genuine), Ok(true));
    let memory = trust.memory();
    let sealed = super::super::open(&genuine).unwrap().unwrap();
    let fields = sealed.seal.fields.len();
    let mut refused = 0;
    // Each byte that is signed, and each of the signature.
    for at in 0..fields + sealed.seal.signature.len() {
        let forged = resealed(&genuine, |seal| seal[at] ^= 1);
        assert!(ask(&trust, &forged).is_err(), "byte {at}");
        refused += 1;
        if refused % 4 == 0 {
            // The budget of wrong signatures refills.
            trust.state().wrong = Default::default();
        }
    }
    assert_eq!(trust.memory(), memory, "no floor, date or version was taken over");
    assert_eq!(ask(&trust, &genuine), Ok(true));
    assert_eq!(ask(&trust, &document(8, 0)), Ok(true), "the next version counts");
}

#[test]
fn revocation_lists_come_in_genuine_documents_alone() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let list = RevocationList::issue(&ROOT, 1, vec![]);
    let online = SecretKey::from_seed(&[2; 32]);
    let certificate = SEALER.certificate().clone();
    assert_eq!(certificate.key, online.public());
    let sealer = Sealer::new(online, certificate, Some(list.clone()), 0).unwrap();
    let genuine = sign(&sealer, &stream(), &edition(3, 0), "");
    let forged = String::from_utf8(genuine.clone()).unwrap().replace("></", ">x</").into_bytes();
    assert_eq!(ask(&trust, &forged), Err(TrustDrop::BadSignature));
    let number = |trust: &Trust| trust.report().anchors[0].revocation_number;
    assert_eq!(number(&trust), None);
    assert_eq!(ask(&trust, &genuine), Ok(true));
    assert_eq!(number(&trust), Some(list.number));
}

#[test]
fn the_memory_survives_a_restart() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    for bytes in [document(1, 0), document(7, 0), document(3, 1)] {
        assert_eq!(ask(&trust, &bytes), Ok(true));
    }
    let memory = trust.memory();
    let trust = Trust::new(pinned_policy(Mode::Require));
    assert!(trust.recall(&memory));
    assert_eq!(ask(&trust, &document(6, 0)), Err(TrustDrop::Replayed));
    assert_eq!(ask(&trust, &document(2, 1)), Err(TrustDrop::Replayed));
    assert_eq!(ask(&trust, &document(7, 0)), Ok(true), "what it had is not a replay");
    assert_eq!(trust.memory(), memory);
    // Damage costs what it hits.
    assert!(!trust.recall("") && !trust.recall("skycache-trust 2\n"));
    for at in 0..memory.len() {
        let mut damaged = memory.clone().into_bytes();
        damaged[at] = b'~';
        Trust::new(pinned_policy(Mode::Require)).recall(&String::from_utf8(damaged).unwrap());
    }
}

#[test]
fn a_repeat_after_a_restart_is_examined_again() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    assert_eq!(ask(&trust, &document(7, 0)), Ok(true));
    let memory = trust.memory();
    let trust = Trust::new(pinned_policy(Mode::Require));
    trust.recall(&memory);
    // The same document and version under another online key that its root never signed.
    let thief = SecretKey::from_seed(&[66; 32]);
    let certificate = Certificate { key: thief.public(), ..SEALER.certificate().clone() };
    let text = String::from_utf8(document(7, 0)).unwrap();
    let value = text.split('"').nth(1).unwrap();
    let genuine = Certificate::from_text(&SEALER.certificate().to_text()).unwrap();
    assert_eq!(&genuine, SEALER.certificate());
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    certificate.write(&mut theirs);
    genuine.write(&mut ours);
    let seal = crate::digest::from_base64(value).unwrap();
    let at = seal.windows(ours.len()).position(|it| it == ours).unwrap();
    let forged = [&seal[..at], &theirs, &seal[at + ours.len()..]].concat();
    let forged = text.replace(value, &crate::digest::to_base64(&forged));
    assert_eq!(ask(&trust, forged.as_bytes()), Err(TrustDrop::BadSignature));
}

#[test]
fn time_is_judged_by_the_date_or_by_the_carousels_own() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let at =
        |version, issued| Edition { version, floor: 0, page: version as u32, issued, until: issued + 3600 };
    let of = |version, issued| sign(&SEALER, &stream(), &at(version, issued), "");
    // A box without a date takes the first, and from then on nothing that was over by then.
    let ask = |bytes: &[u8], wall| ask_at(&trust, bytes, Mode::Require, wall);
    assert_eq!(ask(&of(1, NOW), None), Ok(true));
    assert_eq!(ask(&of(2, NOW - 3600), None), Ok(true), "valid to the second");
    assert_eq!(ask(&of(3, NOW - 3601), None), Err(TrustDrop::Expired));
    // With a date that counts alone.
    assert_eq!(ask(&of(3, NOW - 3601), wall(NOW - 10)), Ok(true));
    assert_eq!(ask(&of(4, NOW), wall(NOW + 3601)), Err(TrustDrop::Expired));
    assert_eq!(ask(&of(5, NOW + CLOCK_TOLERANCE_S + 1), wall(NOW)), Err(TrustDrop::NotYetValid));
    assert_eq!(ask(&of(5, NOW + CLOCK_TOLERANCE_S), wall(NOW)), Ok(true));
    // Before its certificate, and after it.
    assert_eq!(ask(&of(6, 99), None), Err(TrustDrop::Expired));
    assert_eq!(ask(&of(7, 10_000_000_001), None), Err(TrustDrop::Expired));
}

#[test]
fn keys_rotate_with_an_overlap_and_revoked_ones_sign_nothing() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let (first, second) = (sealer(2, (0, 1)), sealer(3, (0, 2)));
    let of = |sealer: &Sealer, version| sign(sealer, &stream(), &edition(version, 0), &version.to_string());
    assert_eq!(ask(&trust, &of(&first, 1)), Ok(true));
    assert_eq!(ask(&trust, &of(&second, 2)), Ok(true));
    assert_eq!(ask(&trust, &of(&first, 3)), Ok(true), "both are valid");
    let by = |key: KeyId| SignedBy {
        root: ROOT.public().id(),
        key,
        service: "tag:a".to_owned(),
        stream: stream().name,
        page: 0,
        order: (0, 1),
        wrong_objects: WrongObjects::default(),
    };
    let first_id = first.certificate().key.id();
    assert!(trust.still_trusts(&by(first_id)));
    let generation = trust.generation();
    // The list comes with a document of the second key.
    let list = RevocationList::issue(&ROOT, 1, vec![first_id]);
    let online = SecretKey::from_seed(&[3; 32]);
    let second = Sealer::new(online, second.certificate().clone(), Some(list), 0).unwrap();
    assert_eq!(ask(&trust, &of(&second, 4)), Ok(true));
    assert_ne!(trust.generation(), generation);
    assert_eq!(ask(&trust, &of(&first, 5)), Err(TrustDrop::Revoked));
    assert!(!trust.still_trusts(&by(first_id)) && trust.still_trusts(&by(second.certificate().key.id())));
    // It is remembered, and a list with the same number takes nothing back.
    let again = Trust::new(pinned_policy(Mode::Require));
    again.recall(&trust.memory());
    assert_eq!(ask(&again, &of(&first, 5)), Err(TrustDrop::Revoked));
    again.configure(Policy {
        revocations: vec![RevocationList::issue(&ROOT, 1, Vec::new())],
        ..pinned_policy(Mode::Require)
    });
    assert_eq!(ask(&again, &of(&first, 5)), Err(TrustDrop::Revoked));
    // Versions that a thief has driven up are overcome by the next epoch.
    let third = sealer(4, (1, 3));
    assert_eq!(ask(&again, &of(&third, 1)), Ok(true));
    assert_eq!(ask(&again, &of(&second, 1000)), Err(TrustDrop::Replayed));
}

#[test]
fn keys_and_certificates_are_bound_to_services_and_documents_to_sessions() {
    let of_service = ServicePolicy {
        service: "tag:a".to_owned(),
        mode: Mode::Prefer,
        keys: vec![SecretKey::from_seed(&[8; 32]).public()],
    };
    let trust = Trust::new(Policy { services: vec![of_service], ..pinned_policy(Mode::Require) });
    assert_eq!((trust.mode_of("tag:a"), trust.mode_of("")), (Mode::Prefer, Mode::Require));
    assert_eq!(ask(&trust, &document(1, 0)), Err(TrustDrop::WrongService), "another key is pinned for it");
    let b = Stream { service: "tag:b".to_owned(), ..stream() };
    assert_eq!(ask(&trust, &sign(&SEALER, &b, &edition(1, 0), "")), Ok(true));
    let online = SecretKey::from_seed(&[5; 32]);
    let certificate =
        Certificate::issue(&ROOT, online.public(), (0, 9), (100, 10_000_000_000), vec!["tag:c".into()]);
    let narrow = Sealer::new(online, certificate, None, 0).unwrap();
    assert_eq!(ask(&trust, &sign(&narrow, &b, &edition(2, 0), "")), Err(TrustDrop::WrongService));
    let other = Stream { tsi: 8, ..b };
    assert_eq!(ask(&trust, &sign(&SEALER, &other, &edition(3, 0), "")), Err(TrustDrop::WrongSession));
}

#[test]
fn the_first_key_is_enrolled_and_no_other_until_it_is_forgotten() {
    let enrol = Policy { mode: Mode::Require, enrol: true, ..Policy::default() };
    let trust = Trust::new(enrol.clone());
    let forged = forged();
    assert_eq!(ask(&trust, &forged), Err(TrustDrop::BadSignature));
    assert!(trust.report().anchors.is_empty(), "a forged document enrols nothing");
    assert_eq!(ask(&trust, &document(1, 0)), Ok(true));
    let id = ROOT.public().id();
    assert_eq!(trust.report().anchors[0].state, AnchorState::Enrolled);
    let untrusted = SecretKey::from_seed(&[8; 32]);
    let certificate =
        Certificate::issue(&untrusted, untrusted.public(), (0, 1), (100, 10_000_000_000), Vec::new());
    let untrusted = Sealer::new(untrusted, certificate, None, 0).unwrap();
    let theirs = sign(&untrusted, &stream(), &edition(1, 0), "");
    assert_eq!(ask(&trust, &theirs), Err(TrustDrop::UnknownKey));
    assert!(trust.confirm(id) && !trust.confirm(KeyId([0; 8])));
    let again = Trust::new(enrol);
    again.recall(&trust.memory());
    assert_eq!(again.report().anchors[0].state, AnchorState::Confirmed);
    assert_eq!(ask(&again, &theirs), Err(TrustDrop::UnknownKey), "after a restart too");
    assert!(again.forget(id) && !again.forget(id));
    assert_eq!(ask(&again, &theirs), Ok(true));
    // A key of the configuration ends enrolment.
    again.configure(Policy { enrol: false, ..pinned_policy(Mode::Require) });
    assert_eq!(ask(&again, &theirs), Err(TrustDrop::UnknownKey));
}

#[test]
fn roots_beyond_the_limit_are_not_enrolled() {
    let key = |seed: usize| SecretKey::from_seed(&[seed as u8; 32]).public();
    let keys = (100..100 + MAX_ROOTS).map(key).collect();
    let trust = Trust::new(Policy { keys, ..pinned_policy(Mode::Require) });
    trust.configure(Policy { mode: Mode::Require, enrol: true, ..Policy::default() });
    assert_eq!(ask(&trust, &document(1, 0)), Err(TrustDrop::UnknownKey));
    trust.state().roots.pop_first();
    assert_eq!(ask(&trust, &document(1, 0)), Ok(true));
}

#[test]
fn untrusted_keys_are_shown_and_bounded() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    for seed in 100..100 + 3 * MAX_UNTRUSTED {
        let secret = SecretKey::from_seed(&[seed as u8; 32]);
        let certificate = Certificate::issue(&secret, secret.public(), (0, 1), (0, u64::MAX), Vec::new());
        let untrusted = Sealer::new(secret.clone(), certificate, None, 0).unwrap();
        let bytes = sign(&untrusted, &stream(), &edition(1, 0), "");
        assert_eq!(ask(&trust, &bytes), Err(TrustDrop::UnknownKey));
        let anchors = trust.report().anchors;
        assert_eq!(
            anchors.last().map(|it| (it.key, it.state)),
            Some((secret.public(), AnchorState::Untrusted))
        );
        assert!(anchors.len() <= 1 + MAX_UNTRUSTED);
    }
}

#[test]
fn wrong_signatures_exhaust_a_budget_that_refills() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let forged = forged();
    let ask = |bytes: &[u8], at_s: u64, allowance| {
        let judged = Judged { kind: Kind::Fdt, bytes, tsi: Some(7), mode: Mode::Require, allowance };
        trust.judge(Instant::from_nanos(at_s * 1_000_000_000), wall(NOW), &judged).map(|_| ())
    };
    let part = MAX_WRONG_SIGNATURES / (2 * SENDER_GROUPS as u32) + MAX_WRONG_SIGNATURES / 2;
    for _ in 0..part {
        assert_eq!(ask(&forged, 1, Allowance::Untrusted(0)), Err(TrustDrop::BadSignature));
    }
    assert_eq!(ask(&forged, 1, Allowance::Untrusted(0)), Err(TrustDrop::Budget));
    assert_eq!(ask(&document(1, 0), 1, Allowance::Untrusted(0)), Err(TrustDrop::Budget));
    assert_eq!(ask(&document(1, 0), 1, Allowance::Known), Ok(()), "a session that has shown itself is heard");
    let forged = String::from_utf8(document(1, 5)).unwrap().replace(">1<", ">9<").into_bytes();
    for _ in 0..MAX_WRONG_SIGNATURES {
        assert_eq!(ask(&forged, 1, Allowance::Known), Err(TrustDrop::BadSignature));
    }
    assert_eq!(
        ask(&document(2, 1), 1, Allowance::Known),
        Err(TrustDrop::Budget),
        "known sessions have a budget too"
    );
    assert_eq!(ask(&document(2, 1), 1, Allowance::Caller), Ok(()), "the caller bounds these");
    assert_eq!(ask(&document(1, 0), 1, Allowance::Untrusted(0)), Ok(()), "a repeat needs no examination");
    assert_eq!(ask(&document(2, 0), 2, Allowance::Untrusted(0)), Ok(()));
}

#[test]
fn streams_and_pages_beyond_their_limits_make_room() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let mut state = trust.state();
    state.roots.get_mut(&ROOT.public().id()).unwrap();
    let judge = |state: &mut State, name: &str, page: u32| {
        let stream = Stream { name: name.to_owned(), ..stream() };
        let seal = SEALER.seal(Kind::Fdt, &stream, &edition(1, page), &Digest([0; 32]));
        let sealed = Sealed { seal: Seal::read(&seal).unwrap(), digest: Digest([0; 32]) };
        state.remember(
            &sealed,
            ROOT.public().id(),
            SEALER.certificate().key.id(),
            sealed.identity(Kind::Fdt),
        );
    };
    for number in 0..=MAX_STREAMS {
        judge(&mut state, &number.to_string(), 0);
        judge(&mut state, "0", 0);
    }
    let streams = &state.roots[&ROOT.public().id()].streams;
    assert_eq!(streams.len(), MAX_STREAMS);
    assert!(streams.contains_key("0") && !streams.contains_key("1"));
    for page in 0..=MAX_PAGES as u32 {
        judge(&mut state, "0", page);
    }
    let pages = &state.roots[&ROOT.public().id()].streams["0"].pages;
    assert!(pages.len() == MAX_PAGES && !pages.contains_key(&0) && pages.contains_key(&1));
}

/// Documents of few senders, however many, keep hardly any others out, and none for more than some minutes.
#[test]
fn wrong_signatures_of_some_senders_are_not_counted_against_others() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    trust.salt(7);
    // On a page of its own, so that it is not a replay.
    let forged = String::from_utf8(document(1, 5)).unwrap().replace(">1<", ">9<").into_bytes();
    let mut version = 1;
    let mut ask = |bytes: Option<&[u8]>, at_s: u64, sender| {
        version += u64::from(bytes.is_none());
        let next = document(version, 0);
        let allowance = Allowance::Untrusted(sender);
        let bytes = bytes.unwrap_or(&next);
        let judged = Judged { kind: Kind::Fdt, bytes, tsi: Some(7), mode: Mode::Require, allowance };
        trust.judge(Instant::from_nanos(at_s * 1_000_000_000), wall(NOW), &judged).map(|_| ())
    };
    let mut kept_out = vec![0; 100];
    for minute in 0..10 {
        for sender in 0..3 {
            while ask(Some(&forged), minute * 60, sender) != Err(TrustDrop::Budget) {}
        }
        for (sender, kept_out) in (100..).zip(&mut kept_out) {
            *kept_out += usize::from(ask(None, minute * 60, sender).is_err());
        }
    }
    let all: usize = kept_out.iter().sum();
    assert!((1..150).contains(&all), "{all} of 1000: {kept_out:?}");
    assert!(kept_out.iter().all(|it| *it <= 4), "{kept_out:?}");
}

/// Addresses of datagrams can be forged: whoever sends as the honest sender uses up its group, and has to use up the shared half too.
#[test]
fn wrong_signatures_in_the_name_of_a_sender_keep_it_out_only_beyond_the_shared_half() {
    let forged = String::from_utf8(document(1, 5)).unwrap().replace(">1<", ">9<").into_bytes();
    for (each_s, is_heard) in [(30, true), (40, false)] {
        let trust = Trust::new(pinned_policy(Mode::Require));
        let ask = |bytes: &[u8], at_s: u64| {
            let allowance = Allowance::Untrusted(5);
            let judged = Judged { kind: Kind::Fdt, bytes, tsi: Some(7), mode: Mode::Require, allowance };
            trust.judge(Instant::from_nanos(at_s * 1_000_000_000), wall(NOW), &judged).map(|_| ())
        };
        let heard = (1..60)
            .filter(|second| {
                (0..each_s).for_each(|_| assert!(ask(&forged, *second).is_err()));
                ask(&document(*second, 0), *second).is_ok()
            })
            .count();
        assert_eq!(heard == 59, is_heard, "{each_s}: {heard}");
    }
}

#[test]
fn multiples_of_few_keys_are_kept() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    for (version, seed) in (1..).zip(100..100 + 2 * MAX_PREPARED_KEYS as u8) {
        let sealer = sealer(seed, (0, 1));
        let bytes = sign(&sealer, &stream(), &edition(version, 0), "");
        assert_eq!(ask(&trust, &bytes), Ok(true));
        // The key is the one used last, again and again.
        let state = trust.state();
        assert_eq!(state.prepared.back().map(|it| *it.key()), Some(sealer.certificate().key));
        assert!(state.prepared.len() <= MAX_PREPARED_KEYS);
    }
    let first = trust.state().prepared.front().map(|it| *it.key()).unwrap();
    let seed = (100..).find(|seed| SecretKey::from_seed(&[*seed; 32]).public() == first).unwrap();
    assert_eq!(ask(&trust, &sign(&sealer(seed, (0, 1)), &stream(), &edition(1000, 0), "")), Ok(true));
    assert_eq!(trust.state().prepared.len(), MAX_PREPARED_KEYS);
    assert_eq!(trust.state().prepared.back().map(|it| *it.key()), Some(first));
}

#[test]
fn dates_of_a_stolen_key_lock_no_box_without_a_date_out_of_the_next_epoch() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let (stolen, honest) = (sealer(2, (0, 1)), sealer(4, (1, 3)));
    let at = |version, issued| Edition { version, floor: 0, page: 0, issued, until: issued + 3600 };
    let of = |sealer: &Sealer, version, issued| sign(sealer, &stream(), &at(version, issued), "");
    let ask = |bytes: &[u8]| ask_at(&trust, bytes, Mode::Require, None);
    let later = NOW + 300 * 86400;
    assert_eq!(ask(&of(&stolen, 1, NOW)), Ok(true));
    assert_eq!(ask(&of(&stolen, 2, later)), Ok(true), "it has no date of its own");
    // The next epoch, with the list that revokes the stolen key.
    let list = RevocationList::issue(&ROOT, 1, vec![stolen.certificate().key.id()]);
    let honest =
        Sealer::new(SecretKey::from_seed(&[4; 32]), honest.certificate().clone(), Some(list), 0).unwrap();
    assert_eq!(ask(&of(&honest, 1, NOW)), Ok(true));
    assert_eq!(ask(&of(&stolen, 3, later)), Err(TrustDrop::Revoked));
    // Documents of an older epoch are measured by the newer one.
    let older = sealer(3, (0, 2));
    let other = Stream { name: "239.1.1.1:5000/8".to_owned(), ..stream() };
    let ask_other = |issued| ask(&sign(&older, &other, &at(1, issued), ""));
    assert_eq!(ask_other(NOW - 3601), Err(TrustDrop::Expired));
    assert_eq!(ask_other(NOW - 3600), Ok(true));
}

#[test]
fn wrong_signatures_in_the_name_of_a_session_that_has_brought_right_objects_do_not_keep_it_out() {
    let trust = Trust::new(pinned_policy(Mode::Require));
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    let ask = |bytes: &[u8], allowance, ms| {
        let judged = Judged { kind: Kind::Fdt, bytes, tsi: Some(7), mode: Mode::Require, allowance };
        trust.judge(at(ms), wall(NOW), &judged).map(|_| ())
    };
    let mut wrong = WrongSignatures::default();
    // Of a page that nothing genuine has come for, so that each is examined.
    let forged = String::from_utf8(document(1, 9)).unwrap().replace(">1<", ">9<").into_bytes();
    for second in 1..120 {
        // A flood from many addresses, and four a second in the name of the session.
        for sender in 0..300 {
            let _ = ask(&forged, Allowance::Untrusted(sender), second * 1000);
        }
        for number in 0..4 {
            let ms = second * 1000 + number * 250;
            let result = ask(&forged, wrong.allowance((true, true), 5, at(ms)), ms);
            wrong.note(at(ms), &result);
        }
        let ms = second * 1000 + 999;
        assert_eq!(ask(&document(second, 0), wrong.allowance((true, true), 5, at(ms)), ms), Ok(()));
    }
    assert_eq!(wrong.allowance((true, true), 5, at(120_000)), Allowance::Proven(5));
    // One that has only repeated what others have signed has no part of its own.
    assert_eq!(wrong.allowance((true, false), 5, at(120_000)), Allowance::Untrusted(5));
}

#[test]
fn objects_are_kept_while_their_signers_are_trusted() {
    let service = |service: &str, mode| ServicePolicy { service: service.to_owned(), mode, keys: Vec::new() };
    let trust = Trust::new(pinned_policy(Mode::Require));
    let (root, key) = (ROOT.public().id(), sealer(2, (0, 1)).certificate().key.id());
    let keeps = || (trust.keeps(None), trust.keeps(Some((root, key, "tag:a"))));
    assert_eq!(keeps(), (false, true));
    for (policy, kept) in [
        (pinned_policy(Mode::Off), (true, true)),
        (Policy::default(), (true, true)),
        (Policy { mode: Mode::Prefer, ..Policy::default() }, (true, false)),
        (Policy { mode: Mode::Require, ..Policy::default() }, (false, false)),
        (Policy { has_exceptions: true, ..pinned_policy(Mode::Require) }, (true, true)),
        (
            Policy { services: vec![service("tag:b", Mode::Prefer)], ..pinned_policy(Mode::Require) },
            (true, true),
        ),
        (
            Policy { services: vec![service("tag:a", Mode::Require)], ..pinned_policy(Mode::Require) },
            (false, true),
        ),
    ] {
        trust.configure(policy.clone());
        assert_eq!(keeps(), kept, "{policy:?}");
    }
    let revocations = vec![RevocationList::issue(&ROOT, 1, vec![key])];
    trust.configure(Policy { revocations, ..pinned_policy(Mode::Require) });
    assert_eq!(keeps(), (false, false));
}
