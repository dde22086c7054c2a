//! Bodies assembled in memory: what readers see at each step, where places come from, and what the file has in the end.

use std::os::unix::fs::FileExt as _;

use super::arena::{Body, PageCacheReason};
use super::tests::{config, meta};
use super::*;

/// A store with 1 MiB for arriving bodies, of up to 256 KiB each.
fn small(folder: &tempfile::TempDir) -> Store {
    let config = StoreConfig { memory_bytes: 2 << 20, ..config(folder, 64 << 20) };
    Store::open(&config).unwrap().0
}

fn arriving(store: &Store, length: usize) -> Arc<Partial> {
    Arc::new(store.create_arriving(length as u64, Arrival::default()).unwrap())
}

fn body(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at >> 12) as u8 ^ seed).collect()
}

fn read(partial: &Partial, offset: usize, length: usize) -> Vec<u8> {
    let mut found = vec![0; length];
    partial.read_at(offset as u64, &mut found).unwrap();
    found
}

fn publish(store: &Store, partial: Arc<Partial>, key: &str, body: &[u8]) -> Arc<StoredObject> {
    let frozen = partial.freeze(body.len() as u64).unwrap();
    assert!(frozen.as_slice() == body, "{key}");
    store.publish(&frozen, meta(key, body)).unwrap()
}

fn through(store: &Store, why: PageCacheReason) -> u64 {
    store.usage().page_cache[why as usize]
}

/// The file as another program sees it.
fn file_of(object: &StoredObject) -> Vec<u8> {
    std::fs::read(object.path()).unwrap()
}

fn is_there(object: &Arc<StoredObject>, body: &[u8]) -> bool {
    object.bytes(0..body.len() as u64).as_deref() == Some(body)
}

const PIECE: usize = 50_000;

#[test]
fn readers_get_bytes_that_are_only_in_memory_until_the_object_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    // Ends within a block of the disk, and is alike nowhere.
    let body = body(1, 200_003);
    let partial = arriving(&store, body.len());
    assert_eq!(store.usage().arena_bytes, 0, "nothing is taken before a byte has come");
    // In no order.
    for at in [3, 0, 4, 2, 1] {
        let range = at * PIECE..((at + 1) * PIECE).min(body.len());
        partial.write_at(range.start as u64, &body[range.clone()]).unwrap();
        assert!(read(&partial, range.start, range.len()) == body[range]);
    }
    assert_eq!(store.usage().arena_bytes, 256 << 10);
    assert_eq!((partial.length().unwrap(), store.usage().written_bytes), (200_003, 0));
    // Repair symbols lie behind the body, in the file, and a read may go across its end.
    partial.write_at(200_003, &[7; 1000]).unwrap();
    let across = [&body[200_000..], &[7; 500]].concat();
    assert_eq!(read(&partial, 200_000, 503), across);
    let frozen = Arc::clone(&partial).freeze(200_003).unwrap();
    assert!(frozen.as_slice() == body && read(&partial, 0, body.len()) == body);
    assert!(partial.write_at(0, b"late").is_err());

    let written = store.usage().written_bytes;
    let object = store.publish(&frozen, meta("h/a", &body)).unwrap();
    assert_eq!(store.usage().written_bytes - written, 4096 + 200_003);
    assert!(is_there(&object, &body) && read(&partial, 0, body.len()) == body);
    drop((frozen, partial));
    let file = file_of(&object);
    assert_eq!(file.len(), 4096 + 200_003);
    assert_eq!(format::decode(&file[..4096]).unwrap(), meta("h/a", &body));
    assert!(file[4096..] == body, "what the disk has");
    assert_eq!(store.usage().direct + through(&store, PageCacheReason::Refused), 1);

    // Served from memory: not from the file, whose pages are not in the page cache.
    let view = object.view().unwrap();
    let bytes = view.bytes(0..10).unwrap();
    assert_eq!((view.is_resident(0..200_003), view.offset_of(bytes.as_ptr() as usize)), (true, None));
    object.leave_arena();
    let bytes = object.view().unwrap().bytes(0..10).unwrap();
    assert!(object.view().unwrap().offset_of(bytes.as_ptr() as usize).is_some() && is_there(&object, &body));
    assert_eq!(store.usage().arena_bytes, 256 << 10, "a reader has its bytes still");
    drop(view);
    assert_eq!(store.usage().arena_bytes, 256 << 10);
}

#[test]
fn bodies_beyond_the_arena_go_through_the_page_cache_and_places_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let length = 256 << 10;
    let first_half = |seed| body(seed, length)[..length / 2].to_vec();
    let partials: Vec<_> = (0..5)
        .map(|seed| {
            let partial = arriving(&store, length);
            partial.write_at(0, &first_half(seed)).unwrap();
            partial
        })
        .collect();
    assert_eq!((store.usage().arena_bytes, through(&store, PageCacheReason::NoPlace)), (1 << 20, 1));
    // Each is complete and right, wherever it was.
    let mut objects = Vec::new();
    for (seed, partial) in (0..).zip(partials) {
        assert!(read(&partial, 0, length / 2) == first_half(seed));
        partial.write_at(length as u64 / 2, &body(seed, length)[length / 2..]).unwrap();
        objects.push(publish(&store, partial, &format!("h/{seed}"), &body(seed, length)));
    }
    assert_eq!(store.usage().arena_bytes, 1 << 20, "kept for hits");
    // A reader of the first keeps its bytes while others take all places that there are.
    let held = objects[0].bytes(0..length as u64).unwrap();
    for seed in 10..20 {
        let partial = arriving(&store, length);
        partial.write_at(0, &body(seed, length)).unwrap();
        publish(&store, partial, &format!("h/{seed}"), &body(seed, length));
    }
    assert_eq!(through(&store, PageCacheReason::NoPlace), 1, "published objects gave their places up");
    assert!(held == body(0, length));
    for (seed, object) in (0..).zip(&objects) {
        assert!(is_there(object, &body(seed, length)) && file_of(object)[4096..] == body(seed, length));
    }
    drop((objects, held));
    for seed in (0..5).chain(10..20) {
        store.remove(&format!("h/{seed}"), EvictReason::Purged);
    }
    assert_eq!(store.usage().arena_bytes, 0);
}

#[test]
fn a_silent_body_makes_room_and_goes_on_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let (length, half) = (200_000, 100_000);
    let body = body(9, length);
    let partial = arriving(&store, length);
    partial.write_at(half as u64, &body[half..]).unwrap();
    let arena = &store.root().arena;
    assert!(arena.take_silent(clock::now()).is_none(), "it was written to just now");
    let silent = arena.take_silent(clock::now() + arriving::SILENCE).expect("it has been silent");
    silent.spill(PageCacheReason::Silent);
    assert_eq!((store.usage().arena_bytes, through(&store, PageCacheReason::Silent)), (0, 1));
    assert!(read(&partial, half, half) == body[half..]);
    partial.write_at(0, &body[..half]).unwrap();
    assert!(read(&partial, 0, length) == body);
    let object = publish(&store, partial, "h/a", &body);
    assert!(is_there(&object, &body) && file_of(&object)[4096..] == body);
    assert_eq!((store.usage().direct, store.usage().written_bytes), (0, 200_000 + 100_000));
}

#[test]
fn bytes_before_a_body_and_across_its_end_move_it_to_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let body = body(5, 150_000);
    for (before, offset, bytes) in [(100, 0, &body[..200]), (0, 149_900, &body[..200])] {
        let partial = arriving(&store, body.len());
        partial.write_at(0, &body).unwrap();
        partial.write_before(before, offset, bytes).unwrap();
        assert_eq!(store.usage().arena_bytes, 0);
        let mut expected = body.clone();
        match before {
            0 => expected[149_900..].copy_from_slice(&bytes[..100]),
            _ => expected[..100].copy_from_slice(&bytes[100..]),
        }
        assert!(read(&partial, 0, body.len()) == expected);
    }
    assert_eq!(through(&store, PageCacheReason::Across), 2);
}

#[test]
fn short_and_long_bodies_and_those_of_a_store_that_may_not_go_through_the_page_cache() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    for length in [(128 << 10) - 1, 128 << 10, 256 << 10, (256 << 10) + 1] {
        let partial = arriving(&store, length);
        partial.write_at(0, &body(0, length)).unwrap();
        publish(&store, partial, &format!("h/{length}"), &body(0, length));
    }
    let reasons = [PageCacheReason::Short, PageCacheReason::Long].map(|why| through(&store, why));
    assert_eq!((reasons, store.usage().page_cache.iter().sum::<u64>() + store.usage().direct), ([1, 1], 4));
    drop(store);
    let config = StoreConfig { memory_bytes: 2 << 20, direct_io: false, ..config(&folder, 64 << 20) };
    let store = Store::open(&config).unwrap().0;
    let partial = arriving(&store, 200_000);
    partial.write_at(0, &body(0, 200_000)).unwrap();
    let object = publish(&store, partial, "h/a", &body(0, 200_000));
    assert!(object.view().unwrap().offset_of(object.bytes(0..1).unwrap().as_ptr() as usize).is_some());
    assert_eq!((store.usage().arena_bytes, store.usage().direct), (0, 0));
}

/// Character devices refuse O_DIRECT, as some file systems do.
#[test]
fn a_file_that_refuses_o_direct_is_written_through_the_page_cache_and_no_further_body_is_assembled() {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    assert_eq!(direct::write(&null, &[0; 4096], &[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let root = store.root();
    let arena = &root.arena;
    let refused = Body::with_file(root, 200_000, || file::LateFile::of(null.into())).unwrap();
    assert!(refused.write(0, &body(1, 200_000)));
    let _buffer = refused.complete().unwrap();
    assert!(refused.write_out(&[0; 4096]).unwrap());
    assert_eq!(
        (arena.page_cache.get(PageCacheReason::Refused), arena.direct.load(Ordering::Relaxed)),
        (1, 0)
    );
    assert!(Body::arriving(root, 200_000).is_none());
    assert_eq!(arena.page_cache.get(PageCacheReason::Refused), 2);
}

/// Alignment is refused by the call that writes, not by the one that asks for O_DIRECT.
#[test]
fn what_a_refused_write_has_left_is_written_through_the_page_cache() {
    let file = tempfile::tempfile().unwrap();
    let bytes = body(3, 200_000);
    // Not aligned: at an odd address.
    let refused = direct::write(&file, &[1; 4096], &bytes[1..]);
    if refused.is_ok() {
        eprintln!("SKIPPED: this file system takes O_DIRECT at any address");
        return;
    }
    // The descriptor is as it was: reads at any address are taken.
    file.write_all_at(&bytes, 4097).unwrap();
    let mut found = vec![0; 1000];
    file.read_exact_at(&mut found[1..], 4098).unwrap();
    assert_eq!(found[1..], bytes[1..1000]);
}

#[test]
fn objects_survive_in_a_file_system_in_memory() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: there is no /dev/shm that may be written to");
        return;
    };
    let store = small(&folder);
    let bodies: Vec<_> = (0..8).map(|seed| body(seed, 150_000 + usize::from(seed) * 1234)).collect();
    for (at, body) in bodies.iter().enumerate() {
        let partial = arriving(&store, body.len());
        partial.write_at(0, body).unwrap();
        publish(&store, partial, &format!("h/{at}"), body);
    }
    drop(store);
    let store = small(&folder);
    for (at, body) in bodies.iter().enumerate() {
        assert!(is_there(&store.get(&format!("h/{at}")).expect("verified"), body));
    }
}

#[test]
fn while_the_disk_writes_one_body_another_goes_through_the_page_cache() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let arena = &store.root().arena;
    let body = body(2, 200_000);
    let partial = arriving(&store, body.len());
    partial.write_at(0, &body).unwrap();
    let busy = arena.disk.lock().unwrap();
    let object = publish(&store, partial, "h/a", &body);
    drop(busy);
    assert_eq!((through(&store, PageCacheReason::Busy), store.usage().direct), (1, 0));
    assert!(is_there(&object, &body) && file_of(&object)[4096..] == body);
}

#[test]
fn the_list_of_bodies_does_not_grow_with_those_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    for seed in 0..40 {
        let partial = arriving(&store, 150_000);
        partial.write_at(0, &body(seed, 150_000)).unwrap();
        publish(&store, partial, &format!("h/{seed}"), &body(seed, 150_000));
        drop(arriving(&store, 150_000));
    }
    assert!(store.root().arena.listed() <= 1, "{} bodies", store.root().arena.listed());
}

#[test]
fn an_object_whose_name_another_has_taken_keeps_its_bytes_and_never_has_those_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let (old_body, new_body) = (body(1, 200_000), body(2, 250_000));
    let arrived = |key: &str, body: &[u8]| {
        let partial = arriving(&store, body.len());
        partial.write_at(0, body).unwrap();
        publish(&store, partial, key, body)
    };
    let old = arrived("h/a", &old_body);
    old.is_warm(clock::now());
    old.leave_arena();
    assert!(!old.was_warm(clock::now()), "its pages are not in the page cache");
    let new = arrived("h/a", &new_body);
    new.leave_arena();
    assert!(is_there(&old, &old_body) && is_there(&new, &new_body));
    // Evicted while it is held.
    store.remove("h/a", EvictReason::Purged);
    assert!(is_there(&new, &new_body));

    // One of an earlier run, which nobody had mapped.
    arrived("h/b", &old_body);
    drop((store, old, new));
    let store = small(&folder);
    let old = store.get("h/b").unwrap();
    let partial = arriving(&store, new_body.len());
    partial.write_at(0, &new_body).unwrap();
    let new = publish(&store, partial, "h/b", &new_body);
    assert!(old.bytes(0..200_000).is_none_or(|bytes| bytes == old_body) && is_there(&new, &new_body));
}

#[test]
fn a_disk_that_takes_no_file_is_noticed_and_the_next_body_is_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    let first = arriving(&store, 200_000);
    first.write_at(0, &body(1, 200_000)).unwrap();
    assert_eq!((first.tier(), store.usage().disk), (Tier::Flash, DiskState::Fine));
    std::fs::remove_dir_all(store.path().join(file::OBJECTS)).unwrap();
    assert!(first.freeze(200_000).is_err());
    assert_eq!(store.usage().disk, DiskState::Failing);
    let second = arriving(&store, 200_000);
    assert_eq!(second.tier(), Tier::Memory);
    second.write_at(0, &body(2, 200_000)).unwrap();
    assert!(is_there(&publish(&store, second, "h/b", &body(2, 200_000)), &body(2, 200_000)));
    // The disk is tried again by creating a file, not by memory that it does not see.
    let on_disk = || store.arriving(Tier::Flash, 200_000, (Claim::Unnamed, Arrival::default()));
    assert!(on_disk().is_err());
    std::fs::create_dir(store.path().join(file::OBJECTS)).unwrap();
    assert!(on_disk().unwrap().has_file());
}

/// Reads, spills, replacements and bodies that are given up, in whichever order three threads come to them.
#[test]
fn threads_that_share_the_memory_read_their_own_bytes() {
    const STEPS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let store = small(&folder);
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let store = &store;
            scope.spawn(move || {
                let mut state = thread + 1;
                let mut random = |below: usize| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as usize % below
                };
                let mut held = Vec::new();
                for _ in 0..STEPS {
                    let (length, seed) = ((128 << 10) + random(128 << 10), random(256) as u8);
                    let (body, partial) = (body(seed, length), arriving(store, length));
                    let pieces = length.div_ceil(PIECE);
                    let first = random(pieces);
                    for at in (first..pieces).chain(0..first) {
                        let range = at * PIECE..((at + 1) * PIECE).min(length);
                        partial.write_at(range.start as u64, &body[range.clone()]).unwrap();
                        if random(6) == 0
                            && let Some(silent) =
                                store.root().arena.take_silent(clock::now() + arriving::SILENCE)
                        {
                            silent.spill(PageCacheReason::Silent);
                        }
                        assert!(read(&partial, range.start, range.len()) == body[range]);
                    }
                    if random(4) > 0 {
                        let object = publish(store, partial, &format!("h/{}", random(3)), &body);
                        held.push((object, body));
                    }
                    if held.len() > 4 {
                        held.remove(0);
                    }
                    for (object, body) in &held {
                        assert!(is_there(object, body), "{:?}", object.meta().key);
                    }
                }
            });
        }
    });
    let usage = store.usage();
    assert!(usage.direct + usage.page_cache.iter().sum::<u64>() >= 1, "{usage:?}");
    assert!(store.audit().is_sound());
}
