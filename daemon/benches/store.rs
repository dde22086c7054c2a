//! `cargo xtask bench store`: what the store costs beside the raw limit, in one run.
//!
//! Ingest of objects against one `pwrite` stream into one preallocated file; a lookup that hits; memory of the index for each
//! object; a start from a snapshot and from headers; purges by surrogate key, in the process that has stored the objects, after both
//! kinds of start, and through the admin interface of a daemon.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use carousel::digest::Digest;
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use skycache::caching::{SurrogateHash, SurrogateKeys};
use skycache::store::{
    CameBy, Class, ObjectMeta, ObjectUri, Placement, PurgeMode, ResponseMeta, Selection, Store, StoreConfig,
};

const ROUNDS: usize = 5;
const OBJECT_BYTES: usize = 1 << 20;
/// As symbols are gathered.
const RUN_BYTES: usize = 64 << 10;

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        path: folder.join("cache"),
        quota_bytes: 1 << 40,
        reserve_bytes: 0,
        ..StoreConfig::default()
    }
}

fn meta(number: usize, length: usize, digest: Digest) -> ObjectMeta {
    let name = format!("cdn.example.com/vod/film-{}/video/1080p/segment-{number:08}.m4s", number / 300);
    ObjectMeta {
        uri: ObjectUri::Https,
        key: ObjectKey::from_name(&name, None).expect("a name"),
        content_type: Some("video/mp4".to_owned()),
        length: length as u64,
        digest,
        version: number as u64,
        received_at: WallTime::from_unix_ms(1_795_219_200_000),
        expires: Some(WallTime::from_unix_ms(1_795_305_600_000)),
        class: Class::Medium,
        came_by: CameBy::Carousel,
        response: None,
        ignored_query: Default::default(),
        signed_by: None,
    }
}

fn put(store: &Store, number: usize, body: &[u8], digest: Digest) {
    let partial = Arc::new(store.create(body.len() as u64, Placement::default()).expect("room"));
    for (at, run) in body.chunks(RUN_BYTES).enumerate() {
        partial.write_at((at * RUN_BYTES) as u64, run).expect("written");
    }
    let frozen = partial.freeze(body.len() as u64).expect("mapped");
    store.publish(&frozen, meta(number, body.len(), digest)).expect("published");
}

/// Least, median and most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// Private memory of this process in bytes.
fn private_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (of("Private_Clean:").unwrap_or(0) + of("Private_Dirty:").unwrap_or(0)) * 1024
}

fn main() {
    if let Some(folder) = std::env::var_os("STORE_BENCH_START") {
        return started(Path::new(&folder));
    }
    if let Some(folder) = std::env::var_os("STORE_BENCH_PURGE") {
        return purge_after_start(Path::new(&folder));
    }
    let quick = std::env::args().any(|argument| argument == "--test");
    let (objects, many, rounds) = if quick { (4, 50, 1) } else { (200, 100_000, ROUNDS) };
    let folder = tempfile::tempdir_in(std::env::var_os("STORE_BENCH_DIR").unwrap_or_else(|| "/tmp".into()))
        .expect("a folder");
    purge(folder.path(), many);
    if std::env::args().any(|argument| argument == "purge") {
        return;
    }
    ingest(folder.path(), objects, rounds);
    for many in if quick { vec![many] } else { vec![many / 10, many] } {
        index(folder.path(), many);
        std::fs::remove_dir_all(folder.path().join("cache")).expect("removed");
    }
}

fn ingest(folder: &Path, objects: usize, rounds: usize) {
    let body: Vec<u8> =
        (0..OBJECT_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let digest = Digest::of(&body);
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let path = folder.join("raw");
        let file = std::fs::File::create(&path).expect("a file");
        file.set_len((objects * OBJECT_BYTES) as u64).expect("its length");
        let begin = Instant::now();
        for number in 0..objects {
            for (at, run) in body.chunks(RUN_BYTES).enumerate() {
                file.write_all_at(run, (number * OBJECT_BYTES + at * RUN_BYTES) as u64).expect("written");
            }
        }
        raw.push(begin.elapsed().as_secs_f64() * 1e6 / objects as f64);
        drop(file);
        std::fs::remove_file(path).expect("removed");

        let (store, _) = Store::open(&config(folder)).expect("a store");
        let begin = Instant::now();
        for number in 0..objects {
            put(&store, number, &body, digest);
        }
        ours.push(begin.elapsed().as_secs_f64() * 1e6 / objects as f64);
        drop(store);
        std::fs::remove_dir_all(folder.join("cache")).expect("removed");
    }
    let (raw, ours) = (spread(raw), spread(ours));
    println!("\ningest of objects of 1 MiB, us each, without their digests (least–most of {rounds})");
    println!("  pwrite into one file      {:>8.0} ({:.0}–{:.0})", raw[1], raw[0], raw[2]);
    println!(
        "  store: file, header, link {:>8.0} ({:.0}–{:.0})  ratio {:.2}",
        ours[1],
        ours[0],
        ours[2],
        ours[1] / raw[1]
    );
}

/// Groups that the objects of [`purge`] belong to; a purge takes one of them.
const GROUPS: usize = 10;

/// Purges by surrogate key: of a tenth of all objects, each of which has five keys.
fn purge(folder: &Path, many: usize) {
    let body = [7; 16];
    let digest = Digest::of(&body);
    let (store, _) = Store::open(&config(folder)).expect("a store");
    for number in 0..many {
        let keys = format!(
            "all group-{} film-{number} season-{} day-{}",
            number % GROUPS,
            number / 100,
            number / 1000
        );
        let mut fields = http::HeaderMap::new();
        fields.insert("surrogate-key", keys.parse().expect("a value"));
        let response = ResponseMeta {
            status: 200,
            initial_age_s: 0,
            headers: Vec::new(),
            selecting: Default::default(),
            surrogate_keys: SurrogateKeys::of(&fields),
        };
        let partial = Arc::new(store.create(16, Placement::default()).expect("room"));
        partial.write_at(0, &body).expect("written");
        let frozen = partial.freeze(16).expect("mapped");
        let meta = ObjectMeta { response: Some(Box::new(response)), ..meta(number, 16, digest) };
        store.publish(&frozen, meta).expect("published");
    }
    println!(
        "purges by surrogate key of {} of {many} objects, ms; keys take {} bytes an object",
        many / GROUPS,
        size_of::<SurrogateKeys>()
    );
    purge_two(&store, "since they were stored", 0, many);
    store.close();
    drop(store);
    // In processes of their own, the first of which finds a snapshot and leaves none.
    for (how, group) in [("snapshot", 2), ("headers", 4)] {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a program"));
        let command = command.env("STORE_BENCH_PURGE", folder).env("STORE_BENCH_MANY", many.to_string());
        let status = command.env("STORE_BENCH_HOW", how).env("STORE_BENCH_GROUP", group.to_string()).status();
        assert!(status.is_ok_and(|it| it.success()), "{how}");
    }
    purge_by_http(folder, 6, many);
    std::fs::remove_dir_all(folder.join("cache")).expect("removed");
}

/// One group after the other, hard and soft.
fn purge_two(store: &Store, when: &str, group: usize, many: usize) {
    let mut took = [0.0; 2];
    for (at, mode) in [PurgeMode::Hard, PurgeMode::Soft].into_iter().enumerate() {
        let selection = Selection::SurrogateKey(SurrogateHash::of(&format!("group-{}", group + at)));
        let begin = Instant::now();
        let purged = store.purge(&[vec![selection]], mode);
        took[at] = begin.elapsed().as_secs_f64() * 1e3;
        assert_eq!(purged.objects, (many / GROUPS) as u64, "{when}");
    }
    println!("  {when:<28} hard {:>7.1}  soft {:>7.1}", took[0], took[1]);
}

fn purge_after_start(folder: &Path) {
    let number = |name: &str| -> usize { std::env::var(name).expect(name).parse().expect(name) };
    let how = std::env::var("STORE_BENCH_HOW").expect("how");
    let (store, report) = Store::open(&config(folder)).expect("a store");
    assert_eq!(report.from_snapshot, how == "snapshot");
    purge_two(
        &store,
        &format!("after a start from {how}"),
        number("STORE_BENCH_GROUP"),
        number("STORE_BENCH_MANY"),
    );
}

/// Through the admin interface of a daemon, with everything that a request goes through.
fn purge_by_http(folder: &Path, group: usize, many: usize) {
    let home = folder.display();
    let config = format!(
        "[receive]\nannouncement = [\"239.255.77.79:3937\"]\ninterface = \"127.0.0.1\"\n[store]\npath = \"{home}/cache\"\n\
         quota_bytes = 1_099_511_627_776\nreserve_bytes = 0\n[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nsocket = \"{home}/admin.sock\"\n\
         listen = []\n[log]\nlevel = \"warn,skycache::audit=off\"\n"
    );
    let path = folder.join("skycached.toml");
    std::fs::write(&path, config).expect("written");
    let program = env!("CARGO_BIN_EXE_skycached");
    let child = std::process::Command::new(program).arg("run").arg("-c").arg(&path).spawn();
    let mut child = child.expect("skycached");
    let access = skycache::admin::Access::Socket(folder.join("admin.sock"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let call = |method: http::Method, path: &str, parameters: &[(&str, &str)]| {
        runtime.block_on(skycache::admin::call(&access, method, path, parameters))
    };
    let started = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        call(http::Method::GET, "/api/v1/status", &[]).is_ok()
    });
    assert!(started, "skycached answers");
    let mut took = [0.0; 2];
    for (at, soft) in ["false", "true"].into_iter().enumerate() {
        let key = format!("group-{}", group + at);
        let begin = Instant::now();
        let done =
            call(http::Method::POST, "/api/v1/purge", &[("surrogate_key", key.as_str()), ("soft", soft)]);
        took[at] = begin.elapsed().as_secs_f64() * 1e3;
        assert_eq!(done.expect("an answer")["purged"], (many / GROUPS) as u64);
    }
    println!("  {:<28} hard {:>7.1}  soft {:>7.1}", "by the admin interface", took[0], took[1]);
    let _ = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    let _ = child.wait();
}

fn index(folder: &Path, many: usize) {
    let body = [7; 16];
    let digest = Digest::of(&body);
    let (store, _) = Store::open(&config(folder)).expect("a store");
    for number in 0..many {
        put(&store, number, &body, digest);
    }
    let keys: Vec<String> =
        (0..many).step_by(97).map(|number| meta(number, 16, digest).key.as_str().to_owned()).collect();
    // The first use maps a file.
    for key in &keys {
        store.get(key);
    }
    let begin = Instant::now();
    let mut found = 0;
    for _ in 0..20 {
        found += keys.iter().filter(|key| store.get(key).is_some()).count();
    }
    println!(
        "\nlookup of a hit               {:>8.0} ns, its fstat or stat included",
        begin.elapsed().as_nanos() as f64 / found.max(1) as f64
    );
    store.close();
    drop(store);

    // In processes of their own: this one has memory to spare from what it did before.
    for line in [start(folder, &keys[0]), start(folder, &keys[0])].into_iter().flatten() {
        println!("{line}");
    }
}

/// A start in a process of its own; the first finds a snapshot and leaves none.
fn start(folder: &Path, key: &str) -> Option<String> {
    let mut command = std::process::Command::new(std::env::current_exe().ok()?);
    let output = command.env("STORE_BENCH_START", folder).env("STORE_BENCH_KEY", key).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn started(folder: &Path) {
    let key = std::env::var("STORE_BENCH_KEY").expect("a key");
    let before = private_bytes();
    let begin = Instant::now();
    let (store, report) = Store::open(&config(folder)).expect("a store");
    let opened_ms = begin.elapsed().as_secs_f64() * 1e3;
    assert!(store.get(&key).is_some());
    let hit_ms = begin.elapsed().as_secs_f64() * 1e3;
    let from = if report.from_snapshot { "a snapshot" } else { "headers   " };
    let bytes = private_bytes().saturating_sub(before);
    println!(
        "start from {from}         {opened_ms:>8.0} ms for {} objects, {hit_ms:.0} ms to the first hit; {} bytes private an object",
        report.objects,
        bytes / report.objects.max(1)
    );
}
