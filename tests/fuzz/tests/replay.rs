//! Every target with its seeds and its kept inputs, then with altered ones for a while.
//!
//! `FUZZ_SECONDS` is the time for each target's altered inputs (0.5 s if it is not set; `cargo xtask test` takes 5 s),
//! `FUZZ_SEED` the seed of the alterations. An input that fails is written below the build's folder for `cargo xtask fuzz`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skycache_fuzz::mutate::Mutator;
use skycache_fuzz::{TARGETS, Target, target};

/// No input takes longer, on a machine that does much else and in a build that is not optimised.
const MOST: Duration = Duration::from_secs(10);

fn kept(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(files) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.flatten().map(|it| it.path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn run(target: &Target, bytes: &[u8], what: &str) {
    let start = Instant::now();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failed-{}", target.name));
        std::fs::write(&path, bytes).unwrap();
        eprintln!(
            "{}: {what} fails; `cargo xtask fuzz {} --input {}`",
            target.name,
            target.name,
            path.display()
        );
        resume_unwind(panic);
    }
    assert!(start.elapsed() < MOST, "{}: {what} takes {:?}", target.name, start.elapsed());
}

fn all_of(name: &str) {
    let target = target(name).unwrap();
    let mut inputs = (target.seeds)();
    assert!(!inputs.is_empty(), "{name} has seeds");
    inputs.extend(kept(name));
    for (at, bytes) in inputs.iter().enumerate() {
        run(target, bytes, &format!("input {at}"));
    }
    let setting = |name: &str| std::env::var(name).ok().map(|it| it.parse::<f64>().unwrap());
    let time = Duration::from_secs_f64(setting("FUZZ_SECONDS").unwrap_or(0.5));
    let seed = setting("FUZZ_SEED").unwrap_or(20.0) as u64;
    let (mut mutator, start, mut count) = (Mutator::new(target, seed), Instant::now(), 0_u64);
    while start.elapsed() < time {
        let bytes = mutator.next(&inputs);
        run(target, &bytes, &format!("altered input {count} of seed {seed}"));
        count += 1;
    }
    println!("{name}: {} inputs, {count} altered ones", inputs.len());
}

macro_rules! targets {
    ($($test:ident = $name:literal,)*) => {
        $(#[test] fn $test() { all_of($name); })*

        #[test]
        fn every_target_is_here() {
            let here = [$($name),*];
            assert_eq!(here.to_vec(), TARGETS.iter().map(|it| it.name).collect::<Vec<_>>());
        }
    };
}

targets! {
    alc = "alc",
    ip = "ip",
    names = "names",
    fdt = "fdt",
    mabr = "mabr",
    nip = "nip",
    route_signalling = "route-signalling",
    dvb_i = "dvb-i",
    manifests = "manifests",
    transport_stream = "transport-stream",
    sections = "sections",
    frames = "frames",
    dsm_cc = "dsm-cc",
    stream_feed = "stream-feed",
    sat_ip = "sat-ip",
    commands = "commands",
    growing = "growing",
    flute = "flute",
    route = "route",
    delivery = "delivery",
    http_head = "http-head",
    admin = "admin",
    caching = "caching",
    rewriting = "rewriting",
    package = "package",
    media = "media",
    guide = "guide",
    bucket_events = "bucket-events",
    configuration = "configuration",
}
