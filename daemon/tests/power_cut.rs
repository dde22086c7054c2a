//! The power goes at any instant: after each restart every object is right or not there, and no space is leaked.
//!
//! Two harnesses. *kill*: a child that stores, reads, evicts, resumes and closes is killed at seeded moments; what it had
//! given to the kernel stays. *cut*: the same child works on ext4 on a loop device whose image is copied while it works; a
//! copy has only what had reached the device, as after a power cut, and is mounted and examined. The second needs root and
//! loop devices and is skipped without.
//!
//! A few of each with every test run; `cargo xtask power` for thousands, `--seed` replays.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use carousel::digest::Digest;
use carousel::fec::{Oti, Partition, SymbolMap};
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use linksim::Rng;
use skycache::store::{
    Arrival, CameBy, Class, EvictReason, ObjectMeta, ObjectUri, Placement, Store, StoreConfig, StoreError,
};

const SYMBOL: u64 = 1000;
const KEYS: u64 = 120;

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        path: folder.to_path_buf(),
        quota_bytes: 4 << 20,
        reserve_bytes: 0,
        // An eighth of it holds the longest body that is assembled in memory.
        memory_bytes: 4 << 20,
        resume_bytes: 400_000,
        ..StoreConfig::default()
    }
}

/// Body of object `key` in its `version`: anybody can tell whether it is right.
fn body(key: u64, version: u64) -> Vec<u8> {
    let mut rng = Rng::new(key << 32 | version);
    let length = match rng.below(10) {
        0 => 300_000 + rng.below(200_000),
        1 => rng.below(10),
        _ => 1000 + rng.below(60_000),
    };
    let words = (0..length.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes());
    words.take(length as usize).collect()
}

fn meta(key: u64, version: u64, body: &[u8]) -> ObjectMeta {
    ObjectMeta {
        key: ObjectKey::from_name(&format!("h/{key}"), None).unwrap(),
        uri: ObjectUri::Http,
        content_type: None,
        length: body.len() as u64,
        digest: Digest::of(body),
        version,
        received_at: WallTime::from_unix_ms(1_795_219_200_000),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Carousel,
        response: None,
        ignored_query: Default::default(),
        signed_by: None,
    }
}

/// Works until it is killed.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let Ok(folder) = std::env::var("POWER_FOLDER") else { return };
    let mut rng = Rng::new(std::env::var("POWER_SEED").unwrap().parse().unwrap());
    let config = config(Path::new(&folder));
    // Other tests of this process start programs: between fork and exec those hold our lock, too.
    let opened = (0..100).find_map(|_| match Store::open(&config) {
        Err(StoreError::Locked(_)) => {
            std::thread::sleep(Duration::from_millis(10));
            None
        }
        opened => Some(opened.unwrap()),
    });
    let (mut store, _) = opened.expect("the lock is free");
    println!("ready");
    loop {
        let (key, version) = (rng.below(KEYS), rng.below(4));
        let name = format!("h/{key}");
        match rng.below(100) {
            0..=1 => {
                store.close();
                drop(store);
                (store, _) = Store::open(&config).unwrap();
            }
            2..=5 => {
                store.remove(&name, EvictReason::Purged);
            }
            6..=25 => {
                store.get(&name);
            }
            _ => put(&store, key, version, &mut rng),
        }
    }
}

fn put(store: &Store, key: u64, version: u64, rng: &mut Rng) {
    let body = body(key, version);
    let symbols = Partition::new(&Oti::no_code(body.len() as u64, SYMBOL as u16, 65_535)).unwrap();
    let map = SymbolMap::new(&symbols);
    let identity = Digest::of(&[key.to_le_bytes(), version.to_le_bytes()].concat());
    let placement = Placement { is_short_lived: rng.below(20) == 0, ..Placement::default() };
    let Ok(partial) = store.create_resumable(&identity, &map, Arrival { placement, ..Arrival::default() })
    else {
        return;
    };
    let partial = Arc::new(partial);
    // Some are given up half way.
    let most = if rng.below(8) == 0 { map.symbols() / 2 } else { map.symbols() };
    for symbol in 0..most {
        let range = symbols.byte_range(symbol);
        if !map.has(symbol) {
            partial.write_at(range.start, &body[range.start as usize..range.end as usize]).unwrap();
            map.set(symbol);
        }
        if rng.below(100) == 0 {
            partial.checkpoint(&map, &map.words()).unwrap();
        }
    }
    if !map.is_complete() {
        return;
    }
    let frozen = partial.freeze(body.len() as u64).unwrap();
    let meta = meta(key, version, &body);
    if frozen.digest() == meta.digest {
        store.publish(&frozen, meta).unwrap();
    }
}

fn start_child(folder: &Path, seed: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--ignored", "--nocapture", "--test-threads", "1"]);
    command.env("POWER_FOLDER", folder).env("POWER_SEED", seed.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ready"))), "the child did not start");
    child
}

/// Findings of a restart.
#[derive(Debug, Default, Clone, Copy)]
struct Survivors {
    objects: u64,
    evicted_wrong: u64,
    resumable_bytes: u64,
}

/// Opens the store as a start does and checks everything in it.
fn examine(folder: &Path) -> Survivors {
    let (store, report) = Store::open(&config(folder)).expect("the store opens");
    let listed = store.list();
    let mut survivors = Survivors { resumable_bytes: report.partial_bytes, ..Survivors::default() };
    for object in &listed {
        let meta = object.meta().clone();
        let Some(object) = store.get(meta.key.as_str()) else {
            survivors.evicted_wrong += 1;
            continue;
        };
        let key: u64 = meta.key.as_str().rsplit('/').next().unwrap().parse().unwrap();
        let bytes = object.bytes(0..meta.length).expect("whole");
        assert!(bytes == body(key, meta.version), "a wrong byte in {} version {}", meta.key, meta.version);
        survivors.objects += 1;
    }
    drop(listed);
    // Every file is an object of the index, or a partial with its map.
    let files = files_below(&folder.join("objects"));
    assert_eq!(files.len() as u64, survivors.objects, "space is leaked: {files:?}");
    let partials = files_below(&folder.join("partial"));
    let names: HashSet<PathBuf> = partials.iter().map(|path| path.with_extension("")).collect();
    assert_eq!(
        partials.len(),
        names.len() * 2,
        "partials without maps, or maps without partials: {partials:?}"
    );
    assert!(store.usage().bytes <= 4 << 20);
    survivors
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let below = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        _ => vec![entry.path()],
    };
    entries.flatten().flat_map(below).collect()
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual)
}

#[test]
fn killed_at_any_instant() {
    let (kills, seed) = (number("POWER_KILLS", 60), number("POWER_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let mut sum = Survivors::default();
    for point in 0..kills {
        let seed = seed + point;
        let mut child = start_child(folder.path(), seed);
        std::thread::sleep(Duration::from_micros(Rng::new(seed).below(40_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        println!("POWER_SEED={seed}");
        let found = examine(folder.path());
        assert_eq!(found.evicted_wrong, 0, "a kill loses nothing that the kernel has");
        sum.objects += found.objects;
        sum.resumable_bytes += found.resumable_bytes;
    }
    println!(
        "{kills} kills: {:.1} objects survive on average, {} bytes to go on with",
        sum.objects as f64 / kills as f64,
        sum.resumable_bytes / kills
    );
    assert!(sum.objects > kills * 3, "the child did next to nothing: {sum:?}");
}

/// Runs a command; false if it cannot be run or fails.
fn done(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A mounted image; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let (image, folder) = (image.to_str()?, at.to_str()?);
        done("mount", &["-o", "loop,commit=1", image, folder]).then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for _ in 0..50 {
            if done("umount", &[self.0.to_str().unwrap_or_default()]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Stops or continues a process that we started.
fn signal(child: &Child, name: &str) {
    assert!(done("kill", &[name, &child.id().to_string()]), "kill {name}");
}

#[test]
fn the_block_device_is_cut_off() {
    let (cuts, seed) = (number("POWER_CUTS", 8), number("POWER_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let (image, copy) = (folder.path().join("disk.img"), folder.path().join("cut.img"));
    let made = std::fs::File::create(&image).and_then(|file| file.set_len(24 << 20)).is_ok()
        && done("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    let Some(mounted) = made.then(|| Mounted::new(&image, &folder.path().join("disk"))).flatten() else {
        eprintln!(
            "SKIPPED: ext4 on a loop device cannot be mounted here (root, loop devices and mkfs.ext4 are needed)"
        );
        return;
    };
    let cache = mounted.0.join("cache");
    let mut rng = Rng::new(seed);
    let mut child = start_child(&cache, seed);
    let (mut sum, mut taken) = (Survivors::default(), 0);
    while taken < cuts {
        std::thread::sleep(Duration::from_millis(150 + rng.below(900)));
        // While the child stands still, an image that does not change under the copy is what a cut would leave.
        signal(&child, "-STOP");
        let images = || std::fs::read(&image).unwrap();
        let before = images();
        let is_still = before == images();
        if is_still {
            std::fs::write(&copy, before).unwrap();
        }
        signal(&child, "-CONT");
        if !is_still {
            continue;
        }
        taken += 1;
        let cut = Mounted::new(&copy, &folder.path().join("cut")).expect("ext4 replays its journal");
        if cut.0.join("cache").exists() {
            let found = examine(&cut.0.join("cache"));
            sum.objects += found.objects;
            sum.evicted_wrong += found.evicted_wrong;
            sum.resumable_bytes += found.resumable_bytes;
        }
        drop(cut);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(mounted);
    println!(
        "{cuts} cuts: {:.1} objects survive on average, {:.1} are wrong and evicted, {} bytes to go on with",
        sum.objects as f64 / cuts as f64,
        sum.evicted_wrong as f64 / cuts as f64,
        sum.resumable_bytes / cuts
    );
}
