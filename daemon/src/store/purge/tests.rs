use carousel::digest::Digest;
use std::io::Write as _;

use super::super::testing::open;
use super::super::tests::{meta, put};
use super::super::{CameBy, Class, Placement, ResponseMeta, StoreError};
use super::*;
use crate::caching::from_pairs;

/// Publishes what an origin has answered at a time, with surrogate keys.
fn put_keyed(
    store: &Store,
    key: &str,
    keys: &str,
    received_at: WallTime,
) -> Result<Arc<StoredObject>, StoreError> {
    let partial = Arc::new(store.create(key.len() as u64, Placement::default()).unwrap());
    partial.write_at(0, key.as_bytes()).unwrap();
    let response = ResponseMeta {
        status: 200,
        surrogate_keys: SurrogateKeys::of(&from_pairs([("surrogate-key", keys)])),
        ..ResponseMeta::default()
    };
    let meta = ObjectMeta {
        received_at,
        class: Class::Medium,
        came_by: CameBy::Origin,
        response: Some(Box::new(response)),
        ..meta(key, key.as_bytes())
    };
    store.publish(&partial.freeze(key.len() as u64).unwrap(), meta)
}

fn purge(store: &Store, selection: Selection, mode: PurgeMode) -> Purged {
    store.purge(&[vec![selection]], mode)
}

fn later(ms: i64) -> WallTime {
    clock::steady().plus_ms(ms)
}

fn keys(store: &Store) -> Vec<String> {
    let mut keys: Vec<String> = store.list().iter().map(|it| it.meta().key.as_str().to_owned()).collect();
    keys.sort();
    keys
}

fn name(key: &str) -> Selection {
    Selection::Name(ObjectKey::from_name(key, None).unwrap())
}

#[test]
fn each_selection_takes_what_it_means_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    for (key, keys) in [("h/film/1", "film a"), ("h/film/2", "film"), ("h/films/1", "b"), ("g/film/1", "a")] {
        put_keyed(&store, key, keys, later(0)).unwrap();
    }
    put(&store, "h/carousel", b"by the air").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let purge = |selection: &Selection| purge(&store, selection.clone(), PurgeMode::Hard);
    assert_eq!(purge(&Selection::SurrogateKey(SurrogateHash::of("fil"))), Purged::default());
    assert_eq!(
        purge(&Selection::Prefix("h/film/1".to_owned())),
        Purged { objects: 1, bytes: 8, ..Purged::default() }
    );
    assert_eq!(keys(&store), ["g/film/1", "h/carousel", "h/film/2", "h/films/1"]);
    assert_eq!(purge(&Selection::SurrogateKey(SurrogateHash::of("a"))).objects, 1);
    assert_eq!(purge(&Selection::Pattern("*/film*/1".to_owned())).objects, 1);
    assert_eq!(keys(&store), ["h/carousel", "h/film/2"]);
    assert_eq!((purge(&name("h/film/2")).objects, purge(&name("h/film/2")).objects), (1, 0));
    assert_eq!(store.usage().evicted[EvictReason::Purged as usize], 4);
    assert!(store.losses() >= 4, "a carousel brings it again");
}

#[test]
fn what_selects_all_objects_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let pattern = |it: &str| Selection::Pattern(it.to_owned());
    assert!(!store.selects_all(&pattern("*")), "nothing is held");
    put(&store, "h/a.m4s", b"a").unwrap();
    assert!(!store.selects_all(&pattern("*.m4s")), "one object");
    // More than one step of the index.
    (0..200).for_each(|at| drop(put(&store, &format!("h/{at}.m4s"), b"a").unwrap()));
    assert!(store.selects_all(&pattern("*.m4s")));
    assert!(store.selects_all(&Selection::Prefix("h".to_owned())));
    put(&store, "h/a.mpd", b"a").unwrap();
    assert!(!store.selects_all(&pattern("*.m4s")));
}

#[test]
fn the_first_reading_counts_that_means_anything_and_each_name_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    for key in ["h/a", "h/b", "h/c"] {
        put_keyed(&store, key, "k", later(0)).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    let all = Selection::Prefix("h/".to_owned());
    let wanted = [vec![name("h/a"), all.clone()], vec![name("box/b"), name("h/b")], vec![name("h/a")]];
    assert_eq!(store.purge(&wanted, PurgeMode::Hard), Purged { objects: 2, bytes: 6, ..Purged::default() });
    assert_eq!(keys(&store), ["h/c"]);
    assert_eq!(store.purges().map(|(_, count)| count).collect::<Vec<_>>(), [4, 0, 0, 0]);
}

#[test]
fn all_readings_of_a_pattern_count_and_each_object_once() {
    for mode in [PurgeMode::Hard, PurgeMode::Soft] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        for key in ["h/vod/film/1", "origin/films/1", "origin/films/vod/film/2", "h/other"] {
            put_keyed(&store, key, "k", later(0)).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        // A path that is found anywhere, and through its route.
        let readings = ["*/vod/film/*", "origin/films/*"].map(|it| Selection::Pattern(it.to_owned()));
        assert_eq!(store.purge(&[readings.to_vec()], mode).objects, 3, "{mode:?}");
        let stale =
            store.list().iter().filter(|it| it.meta().expires.is_some_and(|it| it <= later(0))).count();
        assert_eq!((keys(&store).len(), stale), if mode == PurgeMode::Hard { (1, 0) } else { (4, 3) });
    }
}

#[test]
fn files_go_after_the_answer_and_a_power_cut_in_between_brings_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    put_keyed(&store, "h/a", "k", later(0)).unwrap();
    put_keyed(&store, "h/b", "k", later(0)).unwrap();
    put_keyed(&store, "h/c", "other", later(0)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let list = folder.path().join("cache").join(FILE);
    assert_eq!(purge(&store, Selection::SurrogateKey(SurrogateHash::of("k")), PurgeMode::Hard).objects, 2);
    let files = || file::count_below(&folder.path().join("cache").join(file::OBJECTS));
    assert_eq!((keys(&store).len(), files(), list.exists()), (1, 3, true));
    // One of them is there again when the power goes; the last line of a later purge is torn.
    put_keyed(&store, "h/b", "k", later(1000)).unwrap();
    let fresh = put(&store, "h/b", b"another body").unwrap();
    assert_eq!(fresh.meta().digest, Digest::of(b"another body"));
    OpenOptions::new().append(true).open(&list).unwrap().write_all(b"\n00ff").unwrap();
    drop(store);
    let store = open(&folder);
    assert_eq!(keys(&store), ["h/b", "h/c"], "not the purged one, and the new one stays");
    assert!(!list.exists());
    // The keeper does the same without a power cut.
    purge(&store, name("h/c"), PurgeMode::Hard);
    assert_eq!(files(), 2);
    store.finish_purges();
    assert_eq!((files(), list.exists()), (1, false));
}

#[test]
fn purges_by_surrogate_key_are_exact_among_many_objects_and_after_every_kind_of_start() {
    const OBJECTS: usize = 1000;
    assert!(size_of::<SurrogateKeys>() <= 24, "per object that an origin has sent");
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    for number in 0..OBJECTS {
        let keys =
            format!("all group-{} film-{number} season-{} day-{}", number % 10, number / 100, number / 10);
        put_keyed(&store, &format!("h/{number:06}"), &keys, later(0)).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    let by =
        |store: &Store, key: &str, mode| purge(store, Selection::SurrogateKey(SurrogateHash::of(key)), mode);
    let exactly = |objects: u64| Purged { objects, bytes: objects * 8, ..Purged::default() };
    let of_tenth = exactly(OBJECTS as u64 / 10);
    for (group, restart) in ["none", "clean", "unclean"].into_iter().enumerate() {
        if restart == "clean" {
            store.close();
        }
        if restart != "none" {
            drop(store);
            store = open(&folder);
        }
        let (hard, soft) = (format!("group-{}", 2 * group), format!("group-{}", 2 * group + 1));
        assert_eq!(by(&store, &hard, PurgeMode::Hard), of_tenth, "{restart}");
        assert_eq!(by(&store, &hard, PurgeMode::Hard), exactly(0), "{restart}");
        assert_eq!(by(&store, &soft, PurgeMode::Soft), of_tenth, "{restart}");
        let is_stale = |it: &Arc<StoredObject>| it.expires().is_some_and(|at| at <= clock::steady());
        let stale = store.list().iter().filter(|it| is_stale(it)).count();
        assert_eq!(
            (store.usage().objects, stale),
            (1000 - 100 * (group as u64 + 1), 100 * (group + 1)),
            "{restart}"
        );
    }
    assert_eq!(by(&store, "film-7", PurgeMode::Hard), exactly(1));
    assert_eq!(by(&store, "season-3", PurgeMode::Hard), exactly(70), "three of ten groups are gone");
    assert_eq!(by(&store, "all", PurgeMode::Hard), exactly(1000 - 300 - 1 - 70));
    assert_eq!((store.usage().objects, store.usage().bytes), (0, 0));
}

#[test]
fn a_power_cut_while_files_are_rewritten_leaves_everything_stale_that_was_purged() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let (list, doing) = (cache.join(FILE), cache.join(DOING));
    let store = open(&folder);
    for key in ["h/a", "h/b", "h/c", "h/d"] {
        put_keyed(&store, key, "k", later(0)).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    let header = |key: &str| header_of(&file::object_path(&cache, key)).unwrap().expires;
    // The keeper rewrites headers after the answer.
    purge(&store, name("h/a"), PurgeMode::Soft);
    assert_eq!((header("h/a"), list.exists()), (None, true));
    store.finish_purges();
    assert!(header("h/a").is_some() && !list.exists() && !doing.exists());
    // The power goes when it has begun, and a purge has come meanwhile whose last line is torn.
    purge(&store, name("h/b"), PurgeMode::Soft);
    let at = store.list().iter().find(|it| it.meta().key.as_str() == "h/b").unwrap().expires();
    fs::rename(&list, &doing).unwrap();
    purge(&store, name("h/c"), PurgeMode::Soft);
    let whole = store.list().into_iter().find(|it| it.meta().key.as_str() == "h/d").unwrap();
    let torn =
        Pending::Rewrite(whole.with_meta(ObjectMeta { expires: Some(later(0)), ..whole.meta().clone() }));
    let line = torn.line();
    let mut file = OpenOptions::new().append(true).open(&list).unwrap();
    file.write_all(&line.as_bytes()[..line.len() - 9]).unwrap();
    drop((store, torn, whole));
    let store = open(&folder);
    assert_eq!((header("h/b"), header("h/d")), (at, None));
    assert!(header("h/c").is_some() && !list.exists() && !doing.exists());
    assert_eq!(keys(&store), ["h/a", "h/b", "h/c", "h/d"]);
    // What could not be removed stays, and later purges have the other list.
    purge(&store, name("h/d"), PurgeMode::Hard);
    fs::write(&doing, format!("{HEAD}\n")).unwrap();
    store.finish_purges();
    assert!(!list.exists() && !doing.exists());
    assert_eq!(keys(&store), ["h/a", "h/b", "h/c"]);
}

#[test]
fn a_clean_stop_unlinks_what_was_purged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    put_keyed(&store, "h/a", "k", later(0)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    purge(&store, name("h/a"), PurgeMode::Hard);
    store.close();
    drop(store);
    assert_eq!(file::count_below(&folder.path().join("cache").join(file::OBJECTS)), 0);
}

#[test]
fn a_soft_purge_makes_stale_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let old = put_keyed(&store, "h/a", "k", later(0)).unwrap();
    assert_eq!(old.expires(), None);
    let purged = purge(&store, Selection::SurrogateKey(SurrogateHash::of("k")), PurgeMode::Soft);
    assert_eq!(purged, Purged { objects: 1, bytes: 3, ..Purged::default() });
    let stale = store.get("h/a").unwrap();
    let at = stale.expires().unwrap();
    assert!(at <= clock::steady() && !old.is_current());
    assert_eq!(stale.bytes(0..3).unwrap(), "h/a");
    // Without a clean stop the header says it.
    drop((store, stale, old));
    let store = open(&folder);
    let object = store.get("h/a").unwrap();
    assert_eq!((object.expires(), &object.bytes(0..3).unwrap()[..]), (Some(at), &b"h/a"[..]));
    assert!(object.meta().response.as_ref().unwrap().surrogate_keys.contains(SurrogateHash::of("k")));
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_kept_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    purge(&store, Selection::SurrogateKey(SurrogateHash::of("k")), PurgeMode::Hard);
    put_keyed(&store, "h/a", "k", later(1000)).unwrap();
    let late = put_keyed(&store, "h/a", "k", later(-10_000));
    assert!(matches!(late, Err(StoreError::Purged)), "{late:?}");
    put_keyed(&store, "h/b", "other", later(-10_000)).unwrap();
    assert_eq!(keys(&store), ["h/a", "h/b"], "what has been fetched since stays");
}

#[test]
fn what_a_parent_has_held_since_before_a_purge_is_known_after_every_kind_of_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    let object = put_keyed(&store, "h/a", "k", later(-10_000)).unwrap();
    let is_old = |store: &Store, made_at| store.is_purged_lately(object.meta(), made_at);
    purge(&store, Selection::SurrogateKey(SurrogateHash::of("other")), PurgeMode::Hard);
    assert!(!is_old(&store, later(-10_000)));
    // Nothing that it means is held: it is remembered all the same.
    purge(&store, name("h/a"), PurgeMode::Hard);
    purge(&store, Selection::SurrogateKey(SurrogateHash::of("k")), PurgeMode::Soft);
    for restart in ["none", "clean", "unclean"] {
        if restart == "clean" {
            store.close();
        }
        if restart != "none" {
            drop(store);
            store = open(&folder);
        }
        assert!(is_old(&store, later(-10_000)), "{restart}");
        assert!(!is_old(&store, later(1000)), "{restart}");
        let late = put_keyed(&store, "h/b", "k", later(-10_000));
        assert!(matches!(late, Err(StoreError::Purged)), "{restart}: what was fetched across it is not kept");
    }
    assert_eq!(store.remembered_purges(), (3, 0));
}

#[test]
fn a_purge_that_is_not_remembered_on_the_disk_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    // A folder in the place of the file.
    fs::create_dir(folder.path().join("cache/recent-purges")).unwrap();
    let purged = purge(&store, name("h/a"), PurgeMode::Hard);
    assert_eq!(purged, Purged { is_forgotten_by_disk: true, ..Purged::default() });
    fs::remove_dir(folder.path().join("cache/recent-purges")).unwrap();
    assert_eq!(purge(&store, name("h/b"), PurgeMode::Hard), Purged::default());
    drop(store);
    assert_eq!(open(&folder).remembered_purges(), (2, 0), "the one before is written with the next");
}
