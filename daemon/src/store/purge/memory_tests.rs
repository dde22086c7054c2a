use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;

use carousel::name::ObjectKey;

use super::super::super::tests::meta;
use super::super::super::{CameBy, ResponseMeta};
use super::*;
use crate::caching::{SurrogateKeys, from_pairs};

/// An object of an origin with surrogate keys.
fn object(key: &str, keys: &str) -> ObjectMeta {
    let surrogate_keys = SurrogateKeys::of(&from_pairs([("surrogate-key", keys)]));
    let response = ResponseMeta { surrogate_keys, ..ResponseMeta::default() };
    ObjectMeta { came_by: CameBy::Origin, response: Some(Box::new(response)), ..meta(key, b"body") }
}

fn name(key: &str) -> Selection {
    Selection::Name(ObjectKey::from_name(key, None).unwrap())
}

fn later(ms: i64) -> WallTime {
    clock::steady().plus_ms(ms)
}

fn purge(memory: &PurgeMemory, selections: &[Selection]) {
    memory.write(&memory.remember(selections.iter())).unwrap();
}

/// Moves all remembered purges into the past.
fn age(memory: &PurgeMemory, ms: i64) {
    let mut recent = lock(&memory.recent);
    recent.exact.values_mut().for_each(|at| *at = at.plus_ms(-ms));
    recent.wide.iter_mut().for_each(|(at, _)| *at = at.plus_ms(-ms));
    recent.newest = recent.newest.map(|at| at.plus_ms(-ms));
}

#[test]
fn each_kind_is_known_after_a_restart_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let open = || PurgeMemory::open(folder.path());
    let memory = open();
    assert!(!folder.path().join(FILE).exists(), "a store without purges has no file");
    let odd = Selection::Prefix("h/ \"quoted\"\n".to_owned());
    purge(&memory, &[name("h/one"), Selection::Prefix("h/c/".to_owned()), odd.clone()]);
    purge(&memory, &[Selection::SurrogateKey(SurrogateHash::of("film"))]);
    purge(&memory, &[Selection::Pattern("h/*.mpd".to_owned())]);
    let every: Vec<String> = (0..200).map(|at| format!("k{at}")).collect();
    let cases = [
        (object("h/one", "x"), true),
        (object("h/one#1", "x"), true),
        (object("h/one2", "x"), false),
        (object("h/c/b", "x"), true),
        (object("h/a", "x film"), true),
        (object("h/a", "films"), false),
        (object("h/a", &every.join(" ")), true),
        (object("h/b.mpd", ""), true),
        (object("h/b.m4s", ""), false),
        (meta("h/by-air", b"body"), false),
    ];
    let check = |memory: &PurgeMemory, when| {
        for (object, is_purged) in &cases {
            assert_eq!(
                memory.has_purged_lately(object, later(-60_000)),
                *is_purged,
                "{}: {when}",
                object.key
            );
            assert!(!memory.has_purged_lately(object, later(1000)), "{}: made since, {when}", object.key);
        }
    };
    check(&memory, "before");
    // No stop of any kind writes it: it was written before each purge was acknowledged.
    drop(memory);
    check(&open(), "after a restart");
    assert!(lock(&open().recent).wide.iter().any(|(_, it)| *it == odd), "with its quotes and line feed");
    // The last line is torn, and more is written behind it.
    let mut file = OpenOptions::new().append(true).open(folder.path().join(FILE)).unwrap();
    file.write_all(b"\n17960").unwrap();
    let memory = open();
    purge(&memory, &[name("h/after")]);
    drop(memory);
    let memory = open();
    check(&memory, "with a torn line");
    assert!(memory.has_purged_lately(&object("h/after", ""), later(-60_000)));
}

#[test]
fn what_a_parent_has_held_since_before_a_purge_is_known_for_two_hours_restarts_included() {
    let folder = tempfile::tempdir().unwrap();
    let held = object("h/a", "k");
    for restart in [false, true] {
        let mut memory = PurgeMemory::open(folder.path());
        let _ = fs::remove_file(folder.path().join(FILE));
        purge(&memory, &[Selection::SurrogateKey(SurrogateHash::of("k")), name("h/b")]);
        // A parent was away for an hour, and hands out what it held before; after two hours no purge is expected.
        // A purge of an earlier run counts as made at the start.
        for (age_ms, made_before_ms, is_old) in
            [(3_600_000, 3_700_000, true), (0, 3_500_000, restart), (3_601_000, 3 * 3_600_000, restart)]
        {
            age(&memory, age_ms);
            if restart {
                fs::write(folder.path().join(FILE), lock(&memory.recent).text()).unwrap();
                memory = PurgeMemory::open(folder.path());
            }
            let known = memory.has_purged_lately(&held, later(-made_before_ms));
            assert_eq!(known, is_old, "{age_ms} {made_before_ms} {restart}");
        }
        assert_eq!(memory.counts().0, 2);
    }
}

#[test]
fn what_is_older_than_a_forgotten_purge_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let memory = PurgeMemory::open(folder.path());
    let other = object("h/unrelated", "k");
    let begin = later(-100_000);
    let at = |ms: i64| begin.plus_ms(ms);
    let remember = |recent: &mut Recent, number: usize, selection: Selection| {
        recent.insert(begin.plus_ms(number as i64 / 8), selection);
    };
    {
        let mut recent = lock(&memory.recent);
        for number in 0..MAX_EXACT {
            let exact = Exact::Name((number as u64).to_be_bytes());
            recent.insert_exact(at(number as i64 / 8), exact);
        }
        assert_eq!((recent.exact.len(), recent.forgotten), (MAX_EXACT, None));
        // A name that is known takes no room.
        recent.insert_exact(at(10_000), Exact::Name([0; 8]));
        assert_eq!(recent.forgotten, None);
        remember(&mut recent, MAX_EXACT, name("h/new"));
        assert!(recent.exact.len() <= MAX_EXACT / 2 + 2 && recent.displaced >= MAX_EXACT as u64 / 2 - 2);
    }
    assert!(memory.has_purged_lately(&other, at(0)) && memory.has_purged(&other, at(0)));
    assert!(!memory.has_purged_lately(&other, at(20_000)), "made since what was forgotten");
    // A restart forgets that no more than the rest.
    memory.write("anything\n").unwrap();
    lock(&memory.log).bytes = MAX_FILE_BYTES;
    memory.write("anything\n").unwrap();
    let memory = PurgeMemory::open(folder.path());
    assert!(memory.has_purged_lately(&other, at(0)));
    assert!(!memory.has_purged_lately(&other, at(20_000)));
    assert!(memory.has_purged_lately(&object("h/new", ""), at(14_000)));
    // Prefixes and patterns have a number of their own.
    let mut recent = Recent::default();
    for number in 0..=MAX_WIDE {
        remember(&mut recent, 8 * number, Selection::Prefix(format!("h/{number}/")));
    }
    assert_eq!((recent.wide.len(), recent.displaced), (MAX_WIDE, 1));
    assert!(recent.select_since(&other, at(-1000)) && !recent.select_since(&other, at(1000)));
}

#[test]
fn a_prefix_that_is_purged_again_and_again_is_remembered_once() {
    let mut recent = Recent::default();
    recent.insert(later(-60_000), Selection::Prefix("h/other/".to_owned()));
    for number in 0..5000 {
        recent.insert(later(number - 50_000), Selection::Prefix("h/live/".to_owned()));
    }
    recent.insert(later(-1000), Selection::Pattern("h/live/".to_owned()));
    recent.insert(later(-500), Selection::Prefix("h/other/".to_owned()));
    assert_eq!((recent.wide.len(), recent.wide_bytes, recent.displaced), (3, 7 + 7 + 8, 0));
    assert_eq!(recent.forgotten, None);
    assert!(recent.wide.iter().is_sorted_by_key(|(at, _)| *at));
    assert!(recent.select_since(&object("h/live/a", ""), later(-46_000)), "the newest counts");
    assert!(!recent.select_since(&object("h/unrelated", ""), later(-3_600_000)));
    // Those that are too old make room without a loss.
    let mut recent = Recent::default();
    for number in 0..=MAX_WIDE {
        recent.insert(later(-3 * 3_600_000), Selection::Prefix(format!("h/{number}/")));
    }
    assert_eq!((recent.wide.len(), recent.displaced), (MAX_WIDE, 0));
    assert!(!recent.select_since(&object("h/unrelated", ""), later(-LATELY_MS)));
}

#[test]
fn long_patterns_take_no_more_than_their_bytes() {
    let mut recent = Recent::default();
    for number in 0..20 {
        recent.insert(later(0), Selection::Pattern(format!("{number}{}", "x".repeat(MAX_WIDE_BYTES / 8))));
        assert!(recent.wide_bytes <= MAX_WIDE_BYTES && recent.wide.len() <= 8);
    }
    assert_eq!((recent.wide.len(), recent.displaced), (7, 13));
    recent.insert(later(0), Selection::Prefix("y".repeat(MAX_WIDE_BYTES + 1)));
    assert_eq!((recent.wide.len(), recent.wide_bytes), (0, 0));
    assert!(recent.forgotten.is_some());
}

#[test]
fn a_file_that_cannot_be_read_makes_everything_older_suspect() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let held = object("h/a", "k");
    for content in ["SKYPURGES 2\n1796070064170 n 2b1c0011aabbccdd\n", "", "\0\0\0\0"] {
        fs::write(&file, content).unwrap();
        let memory = PurgeMemory::open(folder.path());
        assert!(memory.has_purged_lately(&held, later(-60_000)), "{content:?}");
        assert!(!memory.has_purged_lately(&held, later(1000)), "{content:?}");
        // It is rewritten at once, so that later starts do not begin again.
        let first = lock(&memory.recent).forgotten.unwrap().unix_ms();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let memory = PurgeMemory::open(folder.path());
        assert_eq!(lock(&memory.recent).forgotten.unwrap().unix_ms(), first, "{content:?}");
        // A purge is added to that.
        purge(&memory, &[name("h/b")]);
        let memory = PurgeMemory::open(folder.path());
        assert!(
            memory.has_purged_lately(&held, later(-60_000)) && !memory.has_purged_lately(&held, later(1000))
        );
        assert_eq!(lock(&memory.recent).forgotten.unwrap().unix_ms(), first, "{content:?}");
    }
    let long = File::create(&file).unwrap();
    long.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(PurgeMemory::open(folder.path()).has_purged_lately(&held, later(-60_000)));
}

#[test]
fn the_file_is_rewritten_before_it_is_twice_what_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let memory = PurgeMemory::open(folder.path());
    let length = || fs::metadata(folder.path().join(FILE)).unwrap().len();
    for number in 0..6000 {
        // The same few names again and again.
        let lines = memory.remember([name(&format!("h/{}", number % 10))].iter());
        if number % 50 == 49 {
            memory.write(&lines.repeat(50)).unwrap();
            assert!(length() < 2 * SLACK_BYTES, "{number}: {}", length());
        }
    }
    assert_eq!(PurgeMemory::open(folder.path()).counts().0, 10);
}

#[test]
fn a_clock_that_is_ahead_of_the_file_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hash = SurrogateHash::of("k").to_text();
    // The clock is five hours ahead of that which has written it, or was behind then; two days are not an error of a clock.
    for (before_ms, is_known) in [(5 * 3_600_000, true), (47 * 3_600_000, false)] {
        let at = later(-before_ms).unix_ms();
        let line = format!("{HEAD}\n{at} k {hash}\n{at} p \"h/c/\"\n");
        fs::write(folder.path().join(FILE), line).unwrap();
        let memory = PurgeMemory::open(folder.path());
        for object in [object("h/a", "k"), object("h/c/b", "")] {
            assert_eq!(memory.has_purged_lately(&object, later(-60_000)), is_known, "{before_ms}");
            assert!(!memory.has_purged_lately(&object, later(1000)), "{before_ms}: made since the start");
        }
        assert!(!memory.has_purged_lately(&object("h/unrelated", ""), later(-60_000)), "{before_ms}");
    }
}

#[test]
fn a_clock_that_is_behind_the_file_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = |ms: i64, key| format!("{HEAD}\n{ms} k {}\n", SurrogateHash::of(key).to_text());
    // A purge of tomorrow, and one while the box had no date.
    for at in [later(86_400_000).unix_ms(), 60_000] {
        fs::write(folder.path().join(FILE), line(at, "k")).unwrap();
        let memory = PurgeMemory::open(folder.path());
        assert!(memory.has_purged_lately(&object("h/a", "k"), later(-60_000)), "{at}");
        assert!(!memory.has_purged_lately(&object("h/a", "k"), later(1000)), "{at}");
    }
}
