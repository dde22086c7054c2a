//! Guards of the store: each test changes one thing that a guard must notice.

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
