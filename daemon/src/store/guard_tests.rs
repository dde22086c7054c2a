//! Tests of the store's guards: each changes one thing that a guard must detect.

use carousel::fec::{Oti, Partition, SymbolMap};

use super::tests::{config, meta, put};
use super::*;

#[test]
fn a_header_with_any_byte_changed_is_no_object() {
    let page = format::encode(&meta("h/a", b"body")).unwrap();
    let used = 48 + u32::from_le_bytes(page[12..16].try_into().unwrap()) as usize;
    assert_eq!(format::decode(&page).unwrap(), meta("h/a", b"body"));
    for at in (0..8).chain(12..used) {
        let mut changed = page.clone();
        changed[at] ^= 1;
        assert!(matches!(format::decode(&changed), Err(format::BadHeader::Damaged)), "byte {at}");
    }
    for version in [2_u32, u32::MAX] {
        let mut newer = page.clone();
        newer[8..12].copy_from_slice(&version.to_le_bytes());
        assert!(matches!(format::decode(&newer), Err(format::BadHeader::Newer)));
    }
    // Torn anywhere inside what is used.
    for end in 0..used {
        assert!(matches!(format::decode(&page[..end]), Err(format::BadHeader::Damaged)), "{end} bytes");
    }
}

#[test]
fn metadata_fill_the_header_page_to_its_last_byte_and_no_further() {
    let with_type = |length: usize| {
        let mut long = meta("h/a", b"");
        long.content_type = Some("x".repeat(length));
        long
    };
    let empty = format::metadata(&with_type(0)).unwrap().len();
    let room = HEADER_BYTES - 48 - empty;
    let full = format::encode(&with_type(room)).unwrap();
    assert_eq!((full.len(), full.last()), (HEADER_BYTES, Some(&b'}')));
    assert_eq!(format::decode(&full).unwrap(), with_type(room));
    assert!(format::encode(&with_type(room + 1)).is_none());
}

#[test]
fn a_snapshot_with_any_byte_changed_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, 1 << 20);
    let (store, _) = Store::open(&config).unwrap();
    put(&store, "h/a", b"first").unwrap();
    put(&store, "h/b", b"second").unwrap();
    let root = store.path().to_owned();
    snapshot::write(&root, &store.list()).unwrap();
    let path = root.join("index.snapshot");
    let good = std::fs::read(&path).unwrap();
    let keys = |taken: Option<Vec<ObjectMeta>>| taken.map(|all| all.len());
    assert_eq!(keys(snapshot::take(&root)), Some(2));
    assert!(!path.exists(), "taken away");
    assert_eq!(keys(snapshot::take(&root)), None);
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert_eq!(keys(snapshot::take(&root)), None, "byte {at}");
        assert!(!path.exists(), "a damaged one is taken away too");
    }
    // An object less than announced, with the right digest.
    let mut fewer = good[..48].to_vec();
    fewer[16..48].copy_from_slice(&Digest::of(b"").0);
    std::fs::write(&path, &fewer).unwrap();
    assert_eq!(keys(snapshot::take(&root)), None);
}

#[test]
fn what_lies_behind_a_body_is_cut_off_when_it_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let partial = Arc::new(store.create(4, Placement::default()).unwrap());
    partial.write_at(0, b"body").unwrap();
    // Repair symbols, until their block is decoded.
    partial.write_at(4, b"symbols").unwrap();
    let stored = store.publish(&partial.freeze(4).unwrap(), meta("h/a", b"body")).unwrap();
    assert_eq!(std::fs::metadata(stored.path()).unwrap().len(), HEADER_BYTES as u64 + 4);
    assert_eq!(stored.bytes(0..4).unwrap(), "body");
    // The index of the next start takes only files of the right length.
    drop((stored, store));
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    assert!(store.get("h/a").is_some_and(|it| it.is_intact()));
}

#[test]
fn a_frozen_body_is_written_to_no_more_and_publication_does_not_reach_a_copied_head() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let partial = Arc::new(store.create(4, Placement::default()).unwrap());
    partial.write_before(3, 0, b"BIObody").unwrap();
    let frozen = Arc::clone(&partial).freeze_before(3, 4).unwrap();
    assert!(partial.write_at(0, b"else").is_err() && partial.write_before(3, 0, b"x").is_err());
    assert!(!partial.is_lost(), "what is refused does no harm");
    let stored = store.publish(&frozen, meta("h/a", b"body")).unwrap();
    assert_eq!(&std::fs::read(stored.path()).unwrap()[..8], b"SKYCACHE");
    assert_eq!((frozen.with_copied_head(), frozen.as_slice()), (&b"BIObody"[..], &b"body"[..]));

    let partial = Arc::new(store.create(4, Placement::default()).unwrap());
    let writing = partial.begin_write().unwrap();
    assert!(Arc::clone(&partial).freeze(4).is_err());
    drop(writing);
    assert!(Arc::clone(&partial).begin_write().is_err() && partial.freeze(4).is_ok());
}

fn map_of(length: u64, symbol: u16) -> SymbolMap {
    SymbolMap::new(&Partition::new(&Oti::no_code(length, symbol, 1000)).unwrap())
}

#[test]
fn a_checkpoint_of_another_object_or_with_any_byte_changed_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = resume::path_of(folder.path(), &Digest::of(b"identity"));
    let map = map_of(10_000, 100);
    let file = resume::open(&path, 10_000, &map).unwrap();
    (0..70).for_each(|symbol| _ = map.set(symbol));
    resume::checkpoint(&path, &file, &map, &map.words()).unwrap();
    let saved = path.with_extension("map");
    let good = std::fs::read(&saved).unwrap();
    let resumed = |length: u64, symbol: u16| {
        let map = map_of(length, symbol);
        resume::open(&path, length, &map).unwrap();
        map.received()
    };
    assert_eq!(resumed(10_000, 100), 70);
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(&saved, &changed).unwrap();
        assert_eq!(resumed(10_000, 100), 0, "byte {at}");
    }
    for (length, symbol) in [(9_999, 100), (10_000, 99), (10_100, 100)] {
        std::fs::write(&saved, &good).unwrap();
        assert_eq!(resumed(length, symbol), 0, "{length}, {symbol}");
    }
    // The file is shorter than the map says.
    std::fs::write(&saved, &good).unwrap();
    file_of_length(&path, 10_000 + HEADER_BYTES as u64 - 1);
    assert_eq!(resumed(10_000, 100), 0);
}

fn file_of_length(path: &Path, length: u64) {
    File::create(path).unwrap().set_len(length).unwrap();
}

#[test]
fn partials_beyond_the_bound_or_without_a_map_are_removed_at_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let identities = [b"a", b"b", b"c"].map(|it| Digest::of(it));
    let paths = identities.map(|it| resume::path_of(folder.path(), &it));
    std::fs::create_dir_all(paths[0].parent().unwrap()).unwrap();
    for (age_s, path) in [30, 20, 10].into_iter().zip(&paths) {
        file_of_length(path, 1000);
        std::fs::write(path.with_extension("map"), b"").unwrap();
        let at = std::time::SystemTime::now() - std::time::Duration::from_secs(age_s);
        File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }
    assert_eq!(resume::sweep(folder.path(), 3000), (3000, 0));
    assert_eq!(resume::sweep(folder.path(), 2999), (2000, 1));
    assert!(!paths[0].exists() && paths[1].exists(), "the oldest goes");
    assert!(!paths[0].with_extension("map").exists());
    std::fs::remove_file(paths[1].with_extension("map")).unwrap();
    assert_eq!(resume::torn(folder.path()), 1);
    assert_eq!(resume::sweep(folder.path(), 3000), (1000, 1));
    std::fs::remove_file(&paths[2]).unwrap();
    assert_eq!(resume::torn(folder.path()), 1);
    assert_eq!(resume::sweep(folder.path(), 3000), (0, 1));
    assert_eq!(resume::torn(folder.path()), 0);
    // Too old, however small.
    file_of_length(&paths[0], 1);
    std::fs::write(paths[0].with_extension("map"), b"").unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 86_400 + 60);
    File::options().write(true).open(&paths[0]).unwrap().set_modified(old).unwrap();
    assert_eq!(resume::sweep(folder.path(), 3000), (0, 1));
}

#[test]
fn undescribed_objects_get_their_share_evict_nothing_and_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let quota = 64 * HEADER_BYTES as u64;
    let (store, _) = Store::open(&config(&folder, quota)).unwrap();
    // Each takes a header and one page of body; the share is four pages.
    let one = || store.create_unnamed(HEADER_BYTES as u64);
    let (first, second) = (one().unwrap(), one().unwrap());
    assert!(matches!(one(), Err(StoreError::NoRoom)));
    drop(first);
    let third = one().unwrap();
    drop((second, third));
    // A full cache gives them nothing.
    for number in 0..32 {
        put(&store, &format!("h/{number}"), &[1; 4000]).unwrap();
    }
    let held = store.list().len();
    assert!(matches!(one(), Err(StoreError::NoRoom)));
    assert_eq!(store.list().len(), held);
}

/// The documents that say what to join come before their description.
#[test]
fn undescribed_objects_go_to_memory_while_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder, 1 << 20);
    config.reserve_bytes = 1 << 60;
    config.memory_bytes = 1 << 20;
    let (store, _) = Store::open(&config).unwrap();
    let one = || store.create_unnamed(4096);
    assert_eq!(one().unwrap().tier(), Tier::Memory);
    assert_eq!(store.root().disk.state(), DiskState::Full, "and it is said");
    // They have their share of memory, and no more.
    let held: Vec<_> = std::iter::from_fn(|| one().ok()).collect();
    assert!((2..100).contains(&held.len()), "{}", held.len());
    drop(held);
    assert!(one().is_ok());
    // One that memory could never hold is not refused for good.
    assert!(matches!(store.create_unnamed(1 << 19), Err(StoreError::DiskFull)));
}

#[test]
fn partials_share_half_the_quota_and_one_alone_may_have_it_all() {
    let folder = tempfile::tempdir().unwrap();
    let quota = 64 * HEADER_BYTES as u64;
    let header = HEADER_BYTES as u64;
    let (store, _) = Store::open(&config(&folder, quota)).unwrap();
    let of = |pages: u64| store.create((pages - 1) * header, Placement::default());
    let all = of(64).unwrap();
    assert!(matches!(of(1), Err(StoreError::NoRoom)));
    drop(all);
    let half = of(16).unwrap();
    let other = of(16).unwrap();
    assert!(matches!(of(1), Err(StoreError::NoRoom)));
    drop(half);
    let again = of(16).unwrap();
    drop((other, again));
    assert!(matches!(of(65), Err(StoreError::LargerThanQuota { .. })));
    assert_eq!(store.usage().partial_bytes, 0);
}

#[test]
fn bytes_outside_an_object_are_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let object = put(&store, "h/a", b"0123456789").unwrap();
    assert_eq!(object.bytes(0..10).unwrap(), b"0123456789"[..]);
    assert_eq!(object.bytes(3..5).unwrap(), b"34"[..]);
    for range in [0..11, 10..11, 11..11, u64::MAX - 1..u64::MAX, 0..u64::MAX] {
        assert!(object.bytes(range.clone()).is_none(), "{range:?}");
    }
}

#[test]
fn an_object_is_held_by_digest_or_else_by_length_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let version = put(&store, "h/a", b"12345").unwrap().meta().version;
    let digest = Digest::of(b"12345");
    assert!(store.holds("h/a", Some(digest), 0, 0) && store.holds("h/a", None, 5, version));
    assert!(!store.holds("h/a", Some(Digest::of(b"12346")), 5, version));
    assert!(!store.holds("h/a", None, 5, version + 1) && !store.holds("h/a", None, 6, version));
    assert!(!store.holds("h/b", Some(digest), 5, version));
}

#[test]
fn an_older_version_that_leaves_takes_nothing_of_the_newer_along() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let old = put(&store, "h/a", b"old").unwrap();
    let new = put(&store, "h/a", b"new").unwrap();
    assert!(new.path().exists());
    store.remove_exactly(&old, EvictReason::Corrupt);
    assert!(store.contains("h/a"));
    store.unlink(std::slice::from_ref(&old));
    assert!(new.path().exists() && !old.is_current() && new.is_current());
    store.remove_exactly(&new, EvictReason::Corrupt);
    assert!(!store.contains("h/a") && !new.path().exists());
}

#[test]
fn objects_in_memory_are_promoted_at_their_second_use_unless_they_are_live() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory_bytes: 1 << 20, ..config(&folder, 1 << 20) };
    let (store, _) = Store::open(&config).unwrap();
    let in_memory = |key: &str| {
        let placement = Placement { class: Class::Low, is_short_lived: false };
        let partial = Arc::new(store.create(4, placement).unwrap());
        partial.write_at(0, b"body").unwrap();
        let object = store.publish(&partial.freeze(4).unwrap(), meta(key, b"body")).unwrap();
        assert_eq!(object.tier(), Tier::Memory);
        object
    };
    let promoted = || store.0.to_promote.lock().unwrap().try_recv().ok().map(|it| it.meta().key.to_string());
    in_memory("h/a");
    in_memory("h/live").mark_live();
    for key in ["h/a", "h/live"] {
        store.get(key).unwrap();
    }
    assert_eq!(promoted(), None);
    for key in ["h/a", "h/live", "h/a"] {
        store.get(key).unwrap();
    }
    assert_eq!((promoted(), promoted()), (Some("h/a".to_owned()), None));
}

#[test]
fn an_object_is_short_lived_up_to_the_configured_time() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&StoreConfig { short_lived_s: 600, ..config(&folder, 1 << 20) }).unwrap();
    let now = WallTime::from_unix_ms(1_795_219_200_000);
    assert!(store.is_short(now, Some(now.plus_ms(600_000))) && store.is_short(now, Some(now.plus_ms(-1))));
    assert!(!store.is_short(now, Some(now.plus_ms(600_001))) && !store.is_short(now, None));
}

#[test]
fn partials_of_an_earlier_run_count_until_they_are_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let quota = 64 * HEADER_BYTES as u64;
    let (store, _) = Store::open(&config(&folder, quota)).unwrap();
    for number in 0..32 {
        put(&store, &format!("h/{number}"), &[1; 4000]).unwrap();
    }
    store.0.leftover_bytes.store(quota / 2, Ordering::Relaxed);
    let partial = store.create(1000, Placement::default()).unwrap();
    let usage = store.usage();
    assert!(usage.bytes + usage.partial_bytes + quota / 2 <= quota, "{usage:?}");
    drop(partial);
}

#[test]
fn a_body_of_unknown_length_gets_half_the_quota_and_then_passes() {
    const STEP: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let quota = 16 * STEP;
    let config = StoreConfig { memory_bytes: 8 * STEP, ..config(&folder, quota) };
    let (store, _) = Store::open(&config).unwrap();
    let partial = Arc::new(store.create_growing(Placement::default(), true).unwrap());
    let (mut end, piece) = (0, vec![7; STEP as usize]);
    while partial.grow(end, end + STEP) == Grown::Kept {
        partial.write_at(end, &piece).unwrap();
        end += STEP;
        assert!(end <= quota / 2, "{end} bytes of {quota}");
    }
    assert!(end > 0 && store.usage().partial_bytes <= quota / 2);
    // Bodies are passed through a ring: no write may be larger.
    let ring = growing::RING_BYTES as usize;
    assert!(partial.write_at(end, &vec![1; ring + 1]).is_err());
    partial.write_at(end, &vec![2; ring]).unwrap();
    drop(partial);
    assert_eq!((store.usage().partial_bytes, store.0.growing_bytes.load(Ordering::Relaxed)), (0, 0));
    let next = store.create_growing(Placement::default(), true).unwrap();
    assert_eq!(next.grow(0, STEP), Grown::Kept, "its room is free again");
}

#[test]
fn an_object_is_evicted_first_from_the_moment_it_is_stale() {
    let now = WallTime::from_unix_ms(1_795_219_200_000);
    let evicted_at = |now: WallTime, expires: WallTime, is_pinned: bool| {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
        put(&store, "h/old", b"body").unwrap();
        let partial = Arc::new(store.create(4, Placement::default()).unwrap());
        partial.write_at(0, b"body").unwrap();
        let stale = ObjectMeta { expires: Some(expires), ..meta("h/stale", b"body") };
        store.publish(&partial.freeze(4).unwrap(), stale).unwrap();
        assert!(!is_pinned || store.pin("h/stale", true));
        let (evicted, is_enough) = store.index().shrink(Tier::Flash, HEADER_BYTES as u64 + 4, Some(now));
        assert!(is_enough);
        evicted.iter().map(|it| it.meta().key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(evicted_at(now, now.plus_ms(1), false), ["h/old"]);
    assert_eq!(evicted_at(now, now, false), ["h/stale"]);
    assert_eq!(evicted_at(now, now.plus_ms(-1), false), ["h/stale"]);
    assert_eq!(evicted_at(now, now.plus_ms(-1), true), ["h/old"], "pinned");
}

#[test]
fn pages_count_as_in_memory_for_a_second_after_they_were_seen_there() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let object = put(&store, "h/a", b"body").unwrap();
    let at = |ms: u64| carousel::time::Instant::from_nanos(ms * 1_000_000);
    assert!(!object.was_warm(at(500)), "never seen");
    object.is_warm(at(5000));
    assert!(object.was_warm(at(5999)) && !object.was_warm(at(6000)));
}

#[test]
fn a_partial_on_the_disk_is_removed_with_its_object_and_kept_at_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { resume_bytes: 1, ..config(&folder, 1 << 20) };
    let (store, _) = Store::open(&config).unwrap();
    let files = || std::fs::read_dir(config.path.join(resume::PARTIALS)).map_or(0, Iterator::count);
    let create = || {
        let map = map_of(10_000, 100);
        store.create_resumable(&Digest::of(b"identity"), &map, Arrival::default()).unwrap()
    };
    let partial = create();
    assert_eq!(files(), 1);
    drop(partial);
    assert_eq!(files(), 0);
    let partial = create();
    store.closing();
    drop(partial);
    assert_eq!(files(), 1);
}

/// Two sessions that carry one object: whatever one of them does, the file of the other is its own.
#[test]
fn a_partial_on_the_disk_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { resume_bytes: 1, ..config(&folder, 1 << 20) };
    let (store, _) = Store::open(&config).unwrap();
    let files = || std::fs::read_dir(config.path.join(resume::PARTIALS)).map_or(0, Iterator::count);
    let body = vec![7; 10_000];
    let create = || {
        let map = map_of(10_000, 100);
        Arc::new(store.create_resumable(&Digest::of(b"identity"), &map, Arrival::default()).unwrap())
    };
    let first = create();
    first.write_at(0, &body).unwrap();
    // It neither empties nor changes the first one's, nor removes its name.
    let second = create();
    second.write_at(0, b"forged").unwrap();
    let frozen = first.freeze(10_000).unwrap();
    assert_eq!((frozen.as_slice(), files()), (body.as_slice(), 1));
    drop(second);
    assert_eq!(files(), 1);
    let object = store.publish(&frozen, meta("h/a", &body)).unwrap();
    // The name is free again, for another file.
    let third = create();
    third.write_at(0, b"forged").unwrap();
    assert_eq!((object.bytes(0..6).unwrap().as_ref(), files()), (&body[..6], 1));
    drop(frozen);
    assert_eq!(files(), 1);
    drop(third);
    assert_eq!(files(), 0);
    assert_eq!(store.root().disk.state(), DiskState::Fine);
}

/// A store of one megabyte with ten objects of 84 kB, and what has been evicted of them.
fn filled(folder: &tempfile::TempDir) -> Store {
    let (store, _) = Store::open(&config(folder, 1 << 20)).unwrap();
    for number in 0..10_u8 {
        put(&store, &format!("h/{number}"), &[number; 80_000]).unwrap();
    }
    store
}

fn evicted(store: &Store) -> u64 {
    store.usage().evicted[EvictReason::Room as usize]
}

fn of_class(class: Class, is_signed: bool) -> Arrival {
    Arrival { placement: Placement { class, is_short_lived: false }, is_signed, returns: false }
}

#[test]
fn what_is_announced_takes_room_as_it_arrives_and_gives_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder);
    let huge = store.create_arriving(1_000_000, Arrival::default()).unwrap();
    let large: Vec<Partial> =
        (0..15).map(|_| store.create_arriving(500_000, Arrival::default()).unwrap()).collect();
    large.iter().for_each(|it| it.write_at(300_000, &[1; 1400]).unwrap());
    huge.write_at(0, &[1; 1400]).unwrap();
    assert_eq!(evicted(&store), 0, "sixteen packets that announce eight megabytes evict nobody");
    assert!(store.usage().partial_bytes <= 16 * 2 * HEADER_BYTES as u64, "{:?}", store.usage());
    drop(huge);
    // What arrives takes what it needs, and a quarter more.
    for at in (0..300_000).step_by(1400) {
        large[0].write_at(at, &[1; 1400]).unwrap();
    }
    let taken = store.usage().partial_bytes - 14 * 2 * HEADER_BYTES as u64;
    assert!((300_000..400_000).contains(&taken), "{taken}");
    assert!((2..=4).contains(&evicted(&store)), "{}", evicted(&store));
    drop(large);
    assert_eq!(store.usage().partial_bytes, 0);
}

#[test]
fn what_was_evicted_for_room_is_wanted_again_when_there_is_room_and_evicts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder);
    let before = store.losses();
    let partial = store.create_arriving(400_000, Arrival::default()).unwrap();
    partial.write_at(0, &[1; 400_000]).unwrap();
    let gone: Vec<u8> = (0..10).filter(|it| !store.contains(&format!("h/{it}"))).collect();
    assert!(gone.len() >= 3, "{gone:?}");
    assert_eq!(store.losses(), before, "there is no room yet");
    let digest_of = |number: u8| Some(Digest::of(&[number; 80_000]));
    assert!(store.returns(&format!("h/{}", gone[0]), digest_of(gone[0])));
    assert!(!store.returns(&format!("h/{}", gone[0]), digest_of(11)), "another version is new");
    drop(partial);
    assert_eq!((store.losses(), store.losses()), (before + 1, before + 1));
    let again = Arrival { returns: true, ..Arrival::default() };
    for &number in &gone {
        let partial = Arc::new(store.create_arriving(80_000, again).unwrap());
        partial.write_at(0, &[number; 80_000]).unwrap();
        let key = format!("h/{number}");
        store.publish(&partial.freeze(80_000).unwrap(), meta(&key, &[number; 80_000])).unwrap();
        assert!(!store.returns(&key, digest_of(number)));
    }
    assert_eq!(evicted(&store), gone.len() as u64);
    // There is no room for one more: one that returns goes without, a new one evicts.
    let partial = store.create_arriving(400_000, again).unwrap();
    assert!(partial.write_at(0, &[1; 400_000]).is_err() && partial.is_lost());
    let partial = store.create_arriving(400_000, Arrival::default()).unwrap();
    assert!(partial.write_at(0, &[1; 400_000]).is_ok());
}

#[test]
fn of_those_that_arrive_the_unsigned_and_lower_make_room_and_are_read_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 1 << 20)).unwrap();
    let fill = |class, is_signed| {
        let partial = store.create_arriving(250_000, of_class(class, is_signed)).unwrap();
        let result = partial.write_at(0, &[1; 200_000]);
        (partial, result)
    };
    let (low, _) = fill(Class::Low, false);
    let (medium, written) = fill(Class::Medium, false);
    written.unwrap();
    // Half of the quota is taken. One of the same rank goes without.
    let (third, refused) = fill(Class::Low, false);
    assert!(refused.is_err() && third.is_lost() && !low.is_lost() && !medium.is_lost());
    let mut out = [0; 10];
    assert!(third.read_at(0, &mut out).is_err(), "its zeros are shown to nobody");
    drop(third);
    let (signed, written) = fill(Class::Low, true);
    written.unwrap();
    assert!(low.is_lost() && !medium.is_lost(), "the lowest class goes first");
    assert!(low.read_at(0, &mut out).is_err() && Arc::new(low).freeze(200_000).is_err());
    let (other, written) = fill(Class::High, true);
    written.unwrap();
    assert!(medium.is_lost() && !signed.is_lost() && !other.is_lost());
    // A complete one is not lost any more.
    let signed = Arc::new(signed).freeze(200_000).unwrap();
    let (last, written) = fill(Class::Pinned, true);
    written.unwrap();
    assert!(other.is_lost() && !last.is_lost());
    assert_eq!(signed.as_slice(), &[1; 200_000][..]);
    // Short objects have an eighth of their own.
    let (full, _) = fill(Class::Low, true);
    assert!(full.is_lost());
    let short = store.create_arriving(10_000, Arrival::default()).unwrap();
    short.write_at(0, &[1; 10_000]).unwrap();
    drop((signed, last, medium, other, full, short));
    assert_eq!(store.usage().partial_bytes, 0, "nothing is given back twice");
}
