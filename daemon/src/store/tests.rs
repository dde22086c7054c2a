use super::*;
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use proptest::prelude::*;

fn config(folder: &tempfile::TempDir, quota_bytes: u64) -> StoreConfig {
    StoreConfig { path: folder.path().join("cache"), quota_bytes, reserve_bytes: 0 }
}

fn open(folder: &tempfile::TempDir) -> (Store, RecoveryReport) {
    Store::open(&config(folder, 1 << 20)).unwrap()
}

fn meta(key: &str, body: &[u8]) -> ObjectMeta {
    ObjectMeta {
        key: ObjectKey::from_name(key, None).unwrap(),
        uri: format!("http://{key}"),
        content_type: Some("video/mp4".into()),
        length: body.len() as u64,
        digest: Digest::of(body),
        version: 7,
        received_at: WallTime::from_unix_ms(1_795_219_200_000),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Carousel,
        origin_headers: vec![("etag".into(), "\"x\"".into())],
    }
}

fn put(store: &Store, key: &str, body: &[u8]) -> Result<Arc<StoredObject>, StoreError> {
    let partial = Arc::new(store.create(body.len() as u64)?);
    // Out of order, as symbols come.
    let half = body.len() / 2;
    partial.write_at(half as u64, &body[half..])?;
    partial.write_at(0, &body[..half])?;
    let frozen = partial.freeze(body.len() as u64)?;
    assert_eq!(frozen.as_slice(), body);
    store.publish(&frozen, meta(key, body))
}

fn body_of(object: &StoredObject) -> Bytes {
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
    let partial = store.create(100_000).unwrap();
    partial.write_at(0, &[1; 1000]).unwrap();
    assert!(store.usage().partial_bytes > 100_000);
    drop(partial);
    assert_eq!(store.usage().partial_bytes, 0);
    drop(store);
    let (_, report) = open(&folder);
    assert_eq!((report.objects, report.removed, report.clean), (0, 0, false));
}

#[test]
fn after_an_unclean_stop_wrong_bytes_are_evicted_at_the_first_use() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder);
    let path = put(&store, "h/a", b"hello").unwrap().path.clone();
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
        .map(|key| put(&store, key, &[1; 5000]).unwrap().path.clone())
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
    assert_eq!(held, [true, true, false, false, true]);
    assert_eq!(body_of(&reader), &[2; 8000][..], "evicted, and still readable");
    assert!(matches!(store.create(60_000), Err(StoreError::LargerThanQuota { .. })));
    store.pin("h/0", true);
    store.pin("h/4", true);
    assert!(matches!(store.create(30_000), Err(StoreError::NoRoom)));
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
    let path = put(&store, "h/a", &[1; 10_000]).unwrap().path.clone();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    assert!(store.get("h/a").is_none());
    store.close();
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
