use super::*;
use carousel::eviction::Eviction;
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use proptest::prelude::*;
use std::path::PathBuf;

pub(super) fn config(folder: &tempfile::TempDir, quota_bytes: u64) -> StoreConfig {
    StoreConfig {
        path: folder.path().join("cache"),
        quota_bytes,
        reserve_bytes: 0,
        memory_bytes: 0,
        eviction: Eviction::Lru,
        ..StoreConfig::default()
    }
}

/// Opens the store of a test, again if need be: a process that another test begins holds the lock from its fork to its exec.
fn open(folder: &tempfile::TempDir) -> (Store, RecoveryReport) {
    let begin = std::time::Instant::now();
    loop {
        match Store::open(&config(folder, 1 << 20)) {
            Err(StoreError::Locked(_)) if begin.elapsed() < std::time::Duration::from_secs(60) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            opened => return opened.unwrap(),
        }
    }
}

pub(super) fn meta(key: &str, body: &[u8]) -> ObjectMeta {
    let key = ObjectKey::from_name(key, None).unwrap();
    ObjectMeta {
        uri: ObjectUri::new("http://elsewhere/", &key),
        key,
        content_type: Some("video/mp4".into()),
        length: body.len() as u64,
        digest: Digest::of(body),
        version: 7,
        received_at: WallTime::from_unix_ms(1_795_219_200_000),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Carousel,
        ignored_query: Default::default(),
        signed_by: None,
        response: Some(Box::new(ResponseMeta {
            status: 200,
            headers: vec![("etag".into(), "\"x\"".into())],
            ..ResponseMeta::default()
        })),
    }
}

pub(super) fn put(store: &Store, key: &str, body: &[u8]) -> Result<Arc<StoredObject>, StoreError> {
    let partial = Arc::new(store.create(body.len() as u64, Placement::default())?);
    // Out of order, as symbols come.
    let half = body.len() / 2;
    partial.write_at(half as u64, &body[half..])?;
    partial.write_at(0, &body[..half])?;
    let frozen = partial.freeze(body.len() as u64)?;
    assert_eq!(frozen.as_slice(), body);
    store.publish(&frozen, meta(key, body))
}

#[test]
fn what_may_not_replace_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let publish = |body: &[u8], may_replace: bool| {
        let partial = Arc::new(store.create(body.len() as u64, Placement::default()).unwrap());
        partial.write_at(0, body).unwrap();
        let frozen = partial.freeze(body.len() as u64).unwrap();
        store.publish_if(&frozen, meta("h/live.m3u8", body), |_| may_replace, |_| {}).unwrap()
    };
    assert_eq!(body_of(&publish(b"first", false)), "first", "nothing is held: nobody is asked");
    assert_eq!(body_of(&publish(b"older", false)), "first", "the one held is given");
    assert_eq!(body_of(&store.get("h/live.m3u8").unwrap()), "first");
    assert_eq!(body_of(&publish(b"newer", true)), "newer");
    assert_eq!(body_of(&store.get("h/live.m3u8").unwrap()), "newer");
    assert_eq!(store.list().len(), 1);
}

fn body_of(object: &Arc<StoredObject>) -> bytes::Bytes {
    object.bytes(0..object.meta().length).unwrap()
}

#[test]
fn what_was_published_is_there_after_a_clean_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    put(&store, "h/a", b"hello").unwrap();
    put(&store, "h/empty", b"").unwrap();
    store.close();
    drop(store);
    let (store, report) = open(&folder);
    assert_eq!((report.objects, report.removed, report.clean), (2, 0, true));
    let object = store.get("h/a").unwrap();
    assert_eq!((&body_of(&object)[..], object.meta()), (&b"hello"[..], &meta("h/a", b"hello")));
    assert_eq!(object.bytes(1..3).unwrap(), "el");
    assert_eq!(object.bytes(1..6), None);
    assert!(
        store.holds("h/a", Some(Digest::of(b"hello")), 0, 0)
            && !store.holds("h/a", Some(Digest::of(b"x")), 5, 7)
    );
}

#[test]
fn an_unpublished_object_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let partial = store.create(100_000, Placement::default()).unwrap();
    partial.write_at(0, &[1; 1000]).unwrap();
    assert!(store.usage().partial_bytes > 100_000);
    drop(partial);
    assert_eq!(store.usage().partial_bytes, 0);
    drop(store);
    let (_, report) = open(&folder);
    assert_eq!((report.objects, report.removed), (0, 0));
}

#[test]
fn after_an_unclean_stop_wrong_bytes_are_evicted_at_the_first_use() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let path = put(&store, "h/a", b"hello").unwrap().path();
    put(&store, "h/b", b"fine").unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER_BYTES] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (store, report) = open(&folder);
    assert_eq!((report.objects, report.clean), (2, false));
    assert!(store.get("h/a").is_none() && !path.exists());
    assert_eq!(body_of(&store.get("h/b").unwrap()), "fine");
}

#[test]
fn damaged_torn_and_misplaced_files_are_swept_away_and_newer_ones_left() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let paths: Vec<PathBuf> = ["h/cut", "h/torn", "h/moved", "h/newer", "h/ok"]
        .iter()
        .map(|key| put(&store, key, &[1; 5000]).unwrap().path())
        .collect();
    drop(store);
    let edit = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    edit(&paths[0], &|bytes| bytes.truncate(6000));
    edit(&paths[1], &|bytes| bytes[60] ^= 1);
    std::fs::rename(&paths[2], paths[2].with_file_name("0000")).unwrap();
    edit(&paths[3], &|bytes| bytes[8] = 9);
    std::fs::write(paths[4].with_file_name("x.0.linking"), b"leftover").unwrap();
    let (store, report) = open(&folder);
    assert_eq!((report.objects, report.removed, report.newer), (1, 4, 1));
    assert!(store.get("h/ok").is_some() && paths[3].exists());
}

#[test]
fn the_quota_evicts_the_least_recently_used_and_readers_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 50_000)).unwrap();
    for at in 0..4 {
        put(&store, &format!("h/{at}"), &[at; 8000]).unwrap();
    }
    store.pin("h/1", true);
    let reader = store.get("h/2").unwrap();
    store.get("h/0").unwrap();
    put(&store, "h/4", &[4; 20_000]).unwrap();
    let held: Vec<bool> = (0..5).map(|at| store.get(&format!("h/{at}")).is_some()).collect();
    assert_eq!(held, [false, true, true, false, true], "2 is being read and 1 is pinned");
    assert_eq!(body_of(&reader), &[2; 8000][..]);
    store.remove("h/2", EvictReason::Purged);
    assert_eq!(body_of(&reader), &[2; 8000][..], "gone, and still readable");
    assert!(matches!(store.create(60_000, Placement::default()), Err(StoreError::LargerThanQuota { .. })));
    store.pin("h/4", true);
    assert!(matches!(store.create(30_000, Placement::default()), Err(StoreError::NoRoom)));
    assert!(store.usage().bytes <= 50_000);
}

#[test]
fn a_new_version_replaces_the_old_one_for_new_readers_only() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let old = put(&store, "h/live.m3u8", b"old").unwrap();
    put(&store, "h/live.m3u8", b"newer").unwrap();
    assert_eq!(body_of(&old), "old");
    assert_eq!(body_of(&store.get("h/live.m3u8").unwrap()), "newer");
    assert_eq!(store.usage().objects, 1);
    drop((store, old));
    assert_eq!(open(&folder).1.objects, 1);
}

#[test]
fn files_truncated_or_deleted_behind_our_back_are_misses() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let held = put(&store, "h/a", &[1; 10_000]).unwrap();
    let path = held.path();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    assert!(held.bytes(0..10_000).is_none(), "who has begun to serve it is told as well");
    assert!(store.get("h/a").is_none());
    put(&store, "h/b", &[1; 10_000]).unwrap();
    store.close();
    drop(store);
    let (store, _) = open(&folder);
    std::fs::remove_file(file::object_path(store.path(), "h/b")).unwrap();
    assert!(store.get("h/b").is_none());
}

#[test]
fn a_second_daemon_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _) = open(&folder);
    let err = Store::open(&config(&folder, 1)).unwrap_err();
    assert!(matches!(err, StoreError::Locked(_)) && err.to_string().contains("another skycached"));
}

#[test]
fn names_too_long_for_the_header_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    assert!(matches!(put(&store, &format!("h/{}", "a".repeat(4000)), b"x"), Err(StoreError::MetaTooLarge)));
}

proptest! {
    #[test]
    fn no_header_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), good in any::<bool>()) {
        if good && bytes.len() > 16 { bytes[..8].copy_from_slice(b"SKYCACHE"); bytes[8..12].copy_from_slice(&1_u32.to_le_bytes()); }
        prop_assert!(format::decode(&bytes).is_err());
    }
}

/// With a memory tier.
fn both(folder: &tempfile::TempDir) -> StoreConfig {
    StoreConfig { memory_bytes: 1 << 20, ..config(folder, 1 << 20) }
}

fn put_as(
    store: &Store,
    key: &str,
    body: &[u8],
    placement: Placement,
) -> Result<Arc<StoredObject>, StoreError> {
    let partial = Arc::new(store.create(body.len() as u64, placement)?);
    partial.write_at(0, body)?;
    let frozen = partial.freeze(body.len() as u64)?;
    store.publish(&frozen, ObjectMeta { class: placement.class, ..meta(key, body) })
}

const LIVE: Placement = Placement { class: Class::Medium, is_short_lived: true };
const PROMOTION: Placement = Placement { class: Class::Low, is_short_lived: false };

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !done() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn live_never_sees_the_flash_and_promotion_only_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&both(&folder)).unwrap();
    let keeper = Keeper::start(store.clone(), &Default::default()).unwrap();
    let live = put_as(&store, "h/live", &[1; 9000], LIVE).unwrap();
    let promotion = put_as(&store, "h/promotion", &[2; 9000], PROMOTION).unwrap();
    let film = put_as(&store, "h/film", &[3; 9000], Placement::default()).unwrap();
    assert_eq!([&live, &promotion, &film].map(|it| it.tier()), [Tier::Memory, Tier::Memory, Tier::Flash]);
    assert_eq!(store.usage().written_bytes, 9000, "of the film alone");
    drop(promotion);
    assert_eq!(body_of(&store.get("h/promotion").unwrap()), &[2; 9000][..]);
    store.get("h/promotion").unwrap();
    wait_for("promotion", || store.usage().promoted == 1);
    let promoted = store.get("h/promotion").unwrap();
    assert_eq!((promoted.tier(), body_of(&promoted)), (Tier::Flash, bytes::Bytes::from_static(&[2; 9000])));
    drop((live, promoted, film, keeper));
    store.close();
    drop(store);
    let (store, report) = Store::open(&both(&folder)).unwrap();
    assert_eq!((report.objects, report.from_snapshot), (2, true));
    assert!(store.get("h/live").is_none() && store.get("h/promotion").is_some());
}

#[test]
fn each_tier_has_its_quota_and_what_replaces_a_file_from_memory_takes_the_file_away() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&both(&folder)).unwrap();
    put_as(&store, "h/film", &[3; 9000], Placement::default()).unwrap();
    for at in 0..100 {
        put_as(&store, &format!("h/live{at}"), &[at; 50_000], LIVE).unwrap();
    }
    let usage = store.usage();
    assert!(usage.memory_bytes <= 1 << 20 && usage.memory_bytes > 900_000, "{usage:?}");
    assert!(store.get("h/film").is_some(), "live does not push films out");
    let path = store.get("h/film").unwrap().path();
    put_as(&store, "h/film", &[4; 9000], LIVE).unwrap();
    assert!(!path.exists());
    assert_eq!(body_of(&store.get("h/film").unwrap()), &[4; 9000][..]);
}

#[test]
fn beyond_the_days_budget_what_comes_lives_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { write_budget_bytes_per_day: 25_000, ..both(&folder) };
    let (store, _) = Store::open(&config).unwrap();
    let tiers: Vec<Tier> = (0..4)
        .map(|at| put_as(&store, &format!("h/{at}"), &[1; 10_000], Placement::default()).unwrap().tier())
        .collect();
    assert_eq!(tiers, [Tier::Flash, Tier::Flash, Tier::Memory, Tier::Memory]);
    let wear = store.usage().wear;
    assert_eq!((wear.today_bytes, wear.budget_bytes), (20_000, 25_000));
    store.close();
    drop(store);
    let (store, _) = Store::open(&config).unwrap();
    assert_eq!(
        put_as(&store, "h/9", &[1; 10_000], Placement::default()).unwrap().tier(),
        Tier::Memory,
        "the day is not over"
    );
}

#[test]
fn a_disk_that_takes_nothing_leaves_memory_and_is_used_again_when_it_does() {
    let folder = tempfile::tempdir().unwrap();
    // A reserve that no disk has: full.
    let config = StoreConfig { reserve_bytes: u64::MAX / 2, ..both(&folder) };
    let (store, _) = Store::open(&config).unwrap();
    let kept = put_as(&store, "h/a", &[1; 10_000], Placement::default()).unwrap();
    assert_eq!((kept.tier(), store.usage().disk), (Tier::Memory, DiskState::Full));
    store.0.root.disk.failed(&std::io::Error::from_raw_os_error(libc::EROFS));
    assert_eq!(store.usage().disk, DiskState::ReadOnly);
    drop((store, kept));
    let (store, _) = Store::open(&both(&folder)).unwrap();
    store.0.root.disk.failed(&std::io::Error::from_raw_os_error(libc::EIO));
    assert_eq!(put_as(&store, "h/b", &[1; 100], Placement::default()).unwrap().tier(), Tier::Memory);
    store.0.root.disk.worked();
    assert_eq!(put_as(&store, "h/b", &[1; 100], Placement::default()).unwrap().tier(), Tier::Flash);
}

#[test]
fn classes_make_room_in_their_order_and_what_is_stale_before_all() {
    let folder = tempfile::tempdir().unwrap();
    let rules = vec![
        ClassRule { base: "https://h/".to_owned(), class: Class::High },
        ClassRule { base: "https://h/promo/".to_owned(), class: Class::Low },
    ];
    let (store, _) = Store::open(&StoreConfig { classes: rules, ..config(&folder, 70_000) }).unwrap();
    assert_eq!(
        ["h/a", "h/promo/a", "g/a"].map(|key| store.class_of(key)),
        [Class::High, Class::Low, Class::Medium]
    );
    let publish = |key: &str, expires| {
        let partial = Arc::new(store.create(10_000, Placement::default()).unwrap());
        let frozen = partial.freeze(10_000).unwrap();
        let meta = ObjectMeta { class: store.class_of(key), expires, ..meta(key, &[0; 10_000]) };
        store.publish(&frozen, meta).unwrap();
    };
    publish("h/stale", Some(WallTime::from_unix_ms(1_795_219_200_000)));
    publish("h/promo/1", None);
    publish("g/medium", None);
    publish("h/high", None);
    publish("h/high2", None);
    let mut left = Vec::new();
    for at in 0..4 {
        drop(store.create(20_000, Placement::default()).unwrap());
        publish(&format!("h/high-{at}"), None);
        let gone = ["h/stale", "h/promo/1", "g/medium", "h/high"]
            .into_iter()
            .find(|key| !store.contains(key) && !left.contains(key));
        left.extend(gone);
    }
    assert_eq!(left, ["h/stale", "h/promo/1", "g/medium", "h/high"]);
    assert_eq!(store.usage().evicted[EvictReason::Stale as usize], 1);
}

#[test]
fn a_live_manifest_is_not_stale_while_its_next_version_may_come() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&both(&folder)).unwrap();
    let now_ms = clock::steady().unix_ms();
    // Its FDT gives each version a second.
    let publish = |key: &str, age_ms: i64| {
        let partial = Arc::new(store.create(100, LIVE).unwrap());
        let frozen = partial.freeze(100).unwrap();
        let at = |ms: i64| WallTime::from_unix_ms(now_ms - age_ms + ms);
        let meta = ObjectMeta { received_at: at(0), expires: Some(at(1000)), ..meta(key, &[0; 100]) };
        let object = store.publish(&frozen, meta).unwrap();
        object.set_live(Some(LiveFacts { fresh_ms: 1000, target_ms: 2000, is_renewed: true }));
    };
    publish("h/new.m3u8", 3000);
    publish("h/old.m3u8", 21_000);
    for number in 0..60 {
        put_as(&store, &format!("h/{number}.ts"), &[1; 50_000], LIVE).unwrap();
        // Players ask for both every second or two.
        let _ = store.get("h/old.m3u8");
        assert!(store.get("h/new.m3u8").is_some(), "after {number} segments");
    }
    assert!(!store.contains("h/old.m3u8"));
    let usage = store.usage();
    assert_eq!(usage.evicted[EvictReason::Stale as usize], 1, "{usage:?}");
    assert!(usage.evicted[EvictReason::Room as usize] > 30, "{usage:?}");
}

#[test]
fn what_is_not_asked_for_is_verified_in_time_and_the_next_start_is_quick_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    for at in 0..5 {
        put(&store, &format!("h/{at}"), &[at; 5000]).unwrap();
    }
    let path = store.get("h/3").unwrap().path();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER_BYTES + 7] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (store, report) = open(&folder);
    assert_eq!((report.clean, store.usage().unverified), (false, 5));
    let keeper = Keeper::start(store.clone(), &Default::default()).unwrap();
    wait_for("scrubbing", || store.usage().unverified == 0);
    assert_eq!((store.usage().objects, store.losses()), (4, 1));
    drop(keeper);
    store.close();
    drop(store);
    let (_, report) = open(&folder);
    assert!(report.clean && report.from_snapshot);
}

#[test]
fn a_large_object_goes_on_after_a_power_cut_with_what_a_checkpoint_saved() {
    use carousel::fec::{Oti, Partition};
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { resume_bytes: 100_000, ..config(&folder, 10 << 20) };
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
    let identity = Digest::of(b"identity");
    let map = || SymbolMap::new(&Partition::new(&Oti::no_code(1_000_000, 1000, 65_535)).unwrap());
    let write = |partial: &Partial, map: &SymbolMap, symbol: u64| {
        let at = (symbol * 1000) as usize;
        partial.write_at(symbol * 1000, &body[at..at + 1000]).unwrap();
        map.set(symbol);
    };
    let (store, _) = Store::open(&config).unwrap();
    let first = map();
    let partial = store.create_resumable(&identity, &first, Arrival::default()).unwrap();
    (0..600).for_each(|symbol| write(&partial, &first, symbol));
    partial.checkpoint(&first, &first.words()).unwrap();
    (600..700).for_each(|symbol| write(&partial, &first, symbol));
    // The power goes: nothing is dropped in order, the lock goes with the process.
    std::mem::forget(partial);
    let lock_gone = store.path().join("lock");
    drop(store);
    std::fs::remove_file(lock_gone).unwrap();

    let (store, report) = Store::open(&config).unwrap();
    assert_eq!((report.objects, report.removed), (0, 0));
    assert!(report.partial_bytes > 1_000_000, "{report:?}");
    assert!(store.list().is_empty(), "never visible");
    let second = map();
    let partial = Arc::new(store.create_resumable(&identity, &second, Arrival::default()).unwrap());
    assert_eq!(second.received(), 600, "what came after the checkpoint is lost");
    (600..1000).for_each(|symbol| write(&partial, &second, symbol));
    let frozen = partial.freeze(1_000_000).unwrap();
    assert_eq!(frozen.digest(), Digest::of(&body));
    store.publish(&frozen, meta("h/large", &body)).unwrap();
    drop(frozen);
    assert_eq!(
        std::fs::read_dir(store.path().join(resume::PARTIALS)).unwrap().count(),
        0,
        "nothing is leaked"
    );
    assert_eq!(body_of(&store.get("h/large").unwrap()), body);

    // Another object, or damage: reception starts from nothing.
    let other = SymbolMap::new(&Partition::new(&Oti::no_code(1_000_000, 500, 65_535)).unwrap());
    let partial = store.create_resumable(&identity, &other, Arrival::default()).unwrap();
    assert_eq!(other.received(), 0);
    drop(partial);
    assert_eq!(std::fs::read_dir(store.path().join(resume::PARTIALS)).unwrap().count(), 0, "given up, gone");
}

#[test]
fn an_audit_names_what_is_wrong_by_its_invariant() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let paths: Vec<PathBuf> =
        (0..4).map(|at| put(&store, &format!("h/{at}"), &[at; 5000]).unwrap().path()).collect();
    assert!(store.audit().is_sound());
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[HEADER_BYTES] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    flip(&paths[0]);
    std::fs::OpenOptions::new().write(true).open(&paths[1]).unwrap().set_len(10).unwrap();
    std::fs::write(paths[2].with_file_name("orphan"), b"x").unwrap();
    let audit = store.audit();
    assert_eq!((audit.objects, audit.wrong_bytes, audit.wrong_length, audit.orphan_files), (4, 1, 1, 1));
    assert!(audit.to_string().contains("1 of other bytes than their header says (invariant 2)"), "{audit}");
    assert_eq!(store.usage().objects, 2, "what is wrong is evicted");
}

#[test]
fn a_header_has_the_digest_of_its_body_and_no_other() {
    let mut of_body = meta("h/a", b"body");
    let other = Digest::of(b"other");
    of_body.content_type = Some(format!("\"sha256\":\"{}\"", other.to_hex()));
    let page = format::encode(&of_body).unwrap();
    assert!(format::has_digest(&page, Digest::of(b"body")) && !format::has_digest(&page, other));
    assert!(!format::has_digest(&page[1..], Digest::of(b"body")));
}

#[test]
fn one_request_of_many_reads_a_manifest_of_an_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let object = put(&store, "h/a.m3u8", b"#EXTM3U").unwrap();
    assert_eq!([object.begin_reading(), object.begin_reading()], [true, false]);
    let fresh = object.with_meta(object.meta().clone());
    fresh.set_live(None);
    assert!(!fresh.begin_reading(), "it has been read");
}

#[test]
fn mappings_are_bounded_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&config(&folder, 100 << 20)).unwrap();
    let maps = || {
        let all = std::fs::read_to_string("/proc/self/maps").unwrap();
        all.lines().filter(|line| line.contains(folder.path().to_str().unwrap())).count()
    };
    for at in 0..1000 {
        // A 304 for it: the mapping goes on to the object with the new metadata.
        let object = put(&store, &format!("h/{at}"), &[at as u8; 100]).unwrap();
        store.freshen(&object, object.meta().clone()).unwrap();
    }
    assert!(maps() <= object::MOST_MAPPINGS, "{} mappings", maps());
    assert!(store.usage().dropped_mappings >= 1000 - object::MOST_MAPPINGS as u64, "{:?}", store.usage());
    for at in [0, 600, 999] {
        assert_eq!(body_of(&store.get(&format!("h/{at}")).unwrap()), &[at as u8; 100][..]);
    }
}

/// Model of a store, in a few lines.
#[derive(Debug, Default)]
struct Model(std::collections::BTreeMap<String, Vec<u8>>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn random_operations_are_those_of_a_map_that_may_forget(
        steps in proptest::collection::vec((0_u8..8, 0_u8..12, 0_usize..20_000), 1..120),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { memory_bytes: 60_000, ..config(&folder, 120_000) };
        let (mut store, _) = Store::open(&config).unwrap();
        let mut model = Model::default();
        for (what, key, length) in steps {
            let name = format!("h/{key}");
            let body: Vec<u8> = (0..length).map(|at| (at * 31 + length) as u8 ^ key).collect();
            match what {
                0..=2 => {
                    let placement = [Placement::default(), LIVE, PROMOTION][usize::from(what)];
                    if put_as(&store, &name, &body, placement).is_ok() {
                        model.0.insert(name.clone(), body);
                    }
                }
                3 => {
                    let was_there = store.contains(&name);
                    prop_assert_eq!(store.remove(&name, EvictReason::Purged), was_there);
                    model.0.remove(&name);
                }
                4 => {
                    store.close();
                    drop(store);
                    (store, _) = Store::open(&config).unwrap();
                }
                5 => {
                    // No clean stop.
                    drop(store);
                    (store, _) = Store::open(&config).unwrap();
                }
                _ => {}
            }
            if let Some(object) = store.get(&name) {
                // It may have forgotten; it never has anything else.
                prop_assert_eq!(Some(&body_of(&object)[..]), model.0.get(&name).map(|it| &it[..]));
            }
            let usage = store.usage();
            let sum: u64 = store.list().iter().map(|it| it.meta().length + HEADER_BYTES as u64).sum();
            prop_assert_eq!(usage.bytes + usage.memory_bytes, sum);
            prop_assert!(usage.bytes <= 120_000 && usage.memory_bytes <= 60_000 && usage.partial_bytes == 0);
        }
    }
}

/// Body of version `version` of object `key`.
fn known_body(key: u8, version: u8) -> Vec<u8> {
    (0..1000 + usize::from(key) * 700).map(|at| (at * 31) as u8 ^ key.wrapping_mul(17) ^ version).collect()
}

#[test]
fn many_at_once_see_whole_objects_of_one_version_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory_bytes: 60_000, ..config(&folder, 150_000) };
    let (store, _) = Store::open(&config).unwrap();
    let keeper = Keeper::start(store.clone(), &Default::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                let mut rng = linksim::Rng::new(thread);
                for _ in 0..600 {
                    let (key, version) = (rng.below(16) as u8, rng.below(200) as u8);
                    let name = format!("h/{key}");
                    match rng.below(10) {
                        0..=3 => {
                            let body = known_body(key, version);
                            let placement = [Placement::default(), LIVE, PROMOTION][rng.below(3) as usize];
                            let Ok(partial) = store.create(body.len() as u64, placement) else { continue };
                            let partial = Arc::new(partial);
                            partial.write_at(0, &body).unwrap();
                            let frozen = partial.freeze(body.len() as u64).unwrap();
                            let meta = ObjectMeta {
                                version: u64::from(version),
                                class: placement.class,
                                ..meta(&name, &body)
                            };
                            store.publish(&frozen, meta).unwrap();
                        }
                        4 => {
                            store.remove(&name, EvictReason::Purged);
                        }
                        5 => {
                            store.pin(&name, rng.below(4) == 0);
                        }
                        _ => {
                            let Some(object) = store.get(&name) else { continue };
                            let Some(bytes) = object.bytes(0..object.meta().length) else { continue };
                            std::thread::yield_now();
                            assert_eq!(bytes, known_body(key, object.meta().version as u8), "{name}");
                        }
                    }
                }
            });
        }
    });
    drop(keeper);
    (0..16).for_each(|key| {
        store.pin(&format!("h/{key}"), false);
    });
    let usage = store.usage();
    let sum: u64 = store.list().iter().map(|it| it.meta().length + HEADER_BYTES as u64).sum();
    assert_eq!((usage.bytes + usage.memory_bytes, usage.partial_bytes), (sum, 0));
    let audit = store.audit();
    assert!(audit.is_sound(), "{audit}");
}

#[test]
fn a_body_of_unknown_length_evicts_nobody_and_passes_where_it_may_not_stay() {
    const PIECE: usize = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory_bytes: 64 << 20, ..config(&folder, 32 << 20) };
    let (store, _) = Store::open(&config).unwrap();
    for number in 0..8 {
        put(&store, &format!("h/{number}"), &vec![number; 1 << 20]).unwrap();
    }
    let piece = |at: usize| vec![at as u8; PIECE];
    let partial = Arc::new(store.create_growing(Placement::default(), true).unwrap());
    let mut passing_at = None;
    for at in 0..128 {
        let offset = (at * PIECE) as u64;
        if partial.grow(offset, offset + PIECE as u64) == Grown::Passing && passing_at.is_none() {
            passing_at = Some(at);
        }
        partial.write_at(offset, &piece(at)).unwrap();
        let usage = store.usage();
        assert!(usage.bytes + usage.partial_bytes <= usage.quota_bytes, "the quota holds at {offset}");
    }
    let passing_at = passing_at.expect("32 MB do not fit into half of the quota");
    assert!(passing_at * PIECE > 4 << 20, "it has gone to the disk first");
    assert_eq!((store.usage().objects, store.usage().evicted.iter().sum::<u64>()), (8, 0));
    // What came first stays, of the rest only the end, and nothing is mixed up.
    let read = |at: usize| {
        let mut out = vec![0; PIECE];
        partial.read_at((at * PIECE) as u64, &mut out).map(|()| out)
    };
    for at in (0..passing_at).chain(124..128) {
        assert!(read(at).unwrap() == piece(at), "{at}");
    }
    assert!((passing_at..120).all(|at| read(at).is_err()));
    drop(partial);
    assert_eq!(store.usage().partial_bytes, 0);
}

#[test]
fn a_body_of_unknown_length_that_fits_is_kept_and_room_for_many_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory_bytes: 16 << 20, ..config(&folder, 32 << 20) };
    let (store, _) = Store::open(&config).unwrap();
    for length in [100_000, 6 << 20] {
        let body: Vec<u8> = (0..length).map(|at: usize| (at / 1000) as u8).collect();
        let partial = Arc::new(store.create_growing(Placement::default(), true).unwrap());
        for (at, piece) in body.chunks(100_000).enumerate() {
            let offset = (at * 100_000) as u64;
            assert_eq!(partial.grow(offset, offset + piece.len() as u64), Grown::Kept);
            partial.write_at(offset, piece).unwrap();
        }
        let settled = store.settle(&partial, length as u64, Placement::default()).unwrap();
        let frozen = settled.freeze(length as u64).unwrap();
        let stored = store.publish(&frozen, meta("h/grown", &body)).unwrap();
        assert!(body_of(&stored)[..] == body[..]);
    }
    // A ring of 1 MB each: in 4 MB beside the memory of objects, or on half of the disk, which has one object.
    for (keep, count) in [(false, 4), (true, 15)] {
        let begun = || store.create_growing(Placement::default(), keep).ok();
        let all: Vec<_> = (0..99).map_while(|_| begun()).collect();
        assert!(all.len().abs_diff(count) <= 4 * usize::from(keep), "{} {keep}", all.len());
        drop(all);
        assert!(begun().is_some());
    }
}

/// Bodies of unknown length that expire soon, all growing at a time, and the number of those that are held afterwards.
fn held_of_many(count: usize, placement: Placement, config: &StoreConfig) -> usize {
    const LENGTH: usize = 1_250_000;
    let (store, _) = Store::open(config).unwrap();
    let all: Vec<_> = (0..count).map(|_| Arc::new(store.create_growing(placement, true).unwrap())).collect();
    let body = |number: usize| vec![number as u8; LENGTH];
    let mut is_kept = vec![true; count];
    for at in (0..LENGTH).step_by(125_000) {
        for (number, partial) in all.iter().enumerate() {
            is_kept[number] &= partial.grow(at as u64, at as u64 + 125_000) == Grown::Kept;
            partial.write_at(at as u64, &body(number)[at..at + 125_000]).unwrap();
        }
    }
    for (number, partial) in all.into_iter().enumerate().filter(|(number, _)| is_kept[*number]) {
        let settled = store.settle(&partial, LENGTH as u64, placement).unwrap();
        drop(partial);
        let frozen = settled.freeze(LENGTH as u64).unwrap();
        store.publish(&frozen, meta(&format!("h/{number}"), &body(number))).unwrap();
    }
    let held = |number: usize| {
        let stored = store.get(&format!("h/{number}"))?;
        assert!(body_of(&stored)[..] == body(number)[..], "{number}");
        Some(stored)
    };
    let found = (0..count).filter_map(held).count();
    assert_eq!(store.usage().partial_bytes, 0);
    found
}

#[test]
fn live_segments_of_many_channels_grow_at_a_time() {
    let live = Placement { is_short_lived: true, ..Placement::default() };
    let of = |count, memory_bytes, disk_bytes, write_budget_bytes_per_day| {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { memory_bytes, write_budget_bytes_per_day, ..config(&folder, disk_bytes) };
        held_of_many(count, live, &config)
    };
    assert_eq!(of(20, 16 << 20, 128 << 20, 0), 20, "those that memory has no room for are on the disk");
    assert_eq!(of(3, 16 << 20, 128 << 20, 1), 3, "and in free memory if the disk takes nothing");
}

#[test]
fn readers_of_an_object_on_its_way_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let partial = Arc::new(store.create(10, Placement::default()).unwrap());
    let pace = |slowest, is_awaited| Some(Pace { slowest, is_awaited });
    assert_eq!((partial.readers_now_and_ever(), partial.pace(9)), ((0, false), None));
    let (first, second) = (partial.reader(0), partial.reader(5));
    first.is_at(7);
    assert_eq!((partial.readers_now_and_ever(), partial.pace(9)), ((2, true), pace(5, false)));
    assert_eq!(partial.pace(7), pace(5, true));
    drop(second);
    assert_eq!(partial.pace(9), pace(7, false));
    drop(first);
    assert_eq!((partial.readers_now_and_ever(), partial.pace(9)), ((0, true), None));
    // Of one that passes: readers that are overrun do not count.
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory_bytes: 8 << 20, ..config(&folder, 32 << 20) };
    let (store, _) = Store::open(&config).unwrap();
    let partial = Arc::new(store.create_growing(Placement::default(), false).unwrap());
    let (mut end, mut passing_from) = (0, None);
    while passing_from.is_none_or(|from| end <= from + growing::RING_BYTES) {
        if partial.grow(end, end + (256 << 10)) == Grown::Passing {
            passing_from.get_or_insert(end);
        }
        partial.write_at(end, &[1; 256 << 10]).unwrap();
        end += 256 << 10;
    }
    let (_paused, _quick) = (partial.reader(0), partial.reader(end));
    assert_eq!(partial.pace(end), pace(end, true));
}
