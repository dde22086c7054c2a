//! `cargo xtask bench qoe`: reports of players, from the queue to rows on disk: processor time of one event at 10,000 a second,
//! the greatest rate of one core, and what becomes of rows while the broker is away.
//!
//! Ten players in a hundred report with each request (version 1), the others post events (version 2) in batches of ten. The
//! broker is away all the time: nothing is taken from the spool, until it is full and the oldest rows go.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carousel::time::WallTime;
use skycache::qoe::{Incoming, Measured, Qoe, QoeLoss};
use skycache::vitals::Vitals;

const EVENTS_PER_S: u64 = 10_000;
const BATCH: u64 = 10;
/// Bound of the spool of the last part: some 15 s of events.
const SPOOL_BYTES: u64 = 96 << 20;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let seconds = if quick { 1 } else { 20 };
    let folder = tempfile::tempdir().expect("a folder");
    let start = |name: &str, most_bytes: u64| {
        let store = folder.path().join(name);
        fs::create_dir_all(&store).expect("a folder");
        let qoe = Qoe::start(&store, most_bytes, "edge-1".to_owned(), &BTreeMap::new(), &Vitals::default());
        qoe.expect("a thread")
    };

    // At the rate of the reference.
    let qoe = start("paced", 4 << 30);
    let begun = Instant::now();
    let before = cpu_s("qoe");
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        while sent < (begun.elapsed().as_secs_f64() * EVENTS_PER_S as f64) as u64 {
            sent += offer(&qoe, sent);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    settle(&qoe, sent);
    let took_s = begun.elapsed().as_secs_f64();
    let cpu = cpu_s("qoe") - before;
    println!("events a second offered                    {:>10.0}", sent as f64 / took_s);
    println!("processor time of one, us                  {:>10.2}", cpu * 1e6 / sent as f64);
    println!("share of one core, %                       {:>10.1}", cpu * 100.0 / took_s);
    println!("refused as busy                            {:>10}", qoe.stats.lost.get(QoeLoss::Busy));
    println!("bytes of a row                             {:>10.0}", qoe.spool().bytes() as f64 / sent as f64);
    assert_eq!(qoe.spool().rows(), sent, "a row for each");

    // As fast as one core goes: what finds no room is offered again.
    let qoe = start("fast", 4 << 30);
    let count = if quick { 20_000 } else { 1_000_000 };
    let before = cpu_s("qoe");
    let begun = Instant::now();
    let mut done = 0;
    while done < count {
        match offer(&qoe, done) {
            0 => std::thread::sleep(Duration::from_micros(200)),
            some => done += some,
        }
    }
    settle(&qoe, done);
    println!(
        "events a second, as fast as it goes        {:>10.0}",
        done as f64 / begun.elapsed().as_secs_f64()
    );
    println!("events a second of processor time          {:>10.0}", done as f64 / (cpu_s("qoe") - before));

    // The broker is away for longer than the bound allows.
    let qoe = start("bounded", SPOOL_BYTES);
    let mut done = 0;
    let count = if quick { 5_000 } else { 400_000 };
    while done < count {
        match offer(&qoe, done) {
            0 => std::thread::sleep(Duration::from_micros(200)),
            some => done += some,
        }
    }
    settle(&qoe, done);
    let (waiting, lost) = (qoe.spool().rows(), qoe.stats.lost.get(QoeLoss::Oldest));
    let first = first_number(&folder.path().join("bounded"));
    println!("broker away: rows that wait, MB            {:>10.1}", qoe.spool().bytes() as f64 / 1e6);
    println!("rows of {done:>7}: waiting                   {waiting:>10}");
    println!("rows counted as oldest                     {lost:>10}");
    println!("number of the oldest row that waits        {first:>10}");
    assert_eq!(waiting + lost, done, "each row waits or is counted");
    assert_eq!(first, lost, "the oldest go first, and no other");
}

/// Offers the events from this number on; returns how many were taken.
fn offer(qoe: &Arc<Qoe>, number: u64) -> u64 {
    let at = WallTime::from_unix_ms(1_784_000_000_000);
    let incoming = if number % 100 < BATCH {
        let report = format!(
            "br={},bl=4000,mtp=25400,ot=v,sf=h,st=v,sid=\"s{}\",cid=\"{number}\",d=4000,tb=6000",
            number % 6000,
            number / 1000
        );
        Incoming::Request(Box::new(Measured {
            at,
            report,
            url: format!("cdn.example.com/vod/film/{number}.m4s"),
            status: 200,
            bytes: 2_000_000,
            cache: "hit",
            head: Duration::from_micros(700),
            total: Duration::from_millis(40),
            user_agent: "player/2".to_owned(),
        }))
    } else {
        let line = |number: u64| {
            format!(
                "e=t,sta=p,bl=({};v 3900;a),br=({};v 128;a),cid=\"{number}\",sid=\"e{}\",sn={number},ts={},mtp=(25400),v=2\n",
                number % 9000,
                number % 6000,
                number / 100 % 500,
                at.unix_ms()
            )
        };
        let body: String = (number..number + BATCH).map(line).collect();
        Incoming::Events { body: Bytes::from(body), user_agent: "player/2".to_owned(), at }
    };
    let count = if matches!(incoming, Incoming::Request(_)) { 1 } else { BATCH };
    if qoe.offer(incoming) { count } else { 0 }
}

/// Waits until rows of all events are written.
fn settle(qoe: &Arc<Qoe>, sent: u64) {
    while qoe.stats.rows.load(Relaxed) < sent {
        std::thread::sleep(Duration::from_millis(5));
    }
    // What is gathered is written within a tenth of a second.
    std::thread::sleep(Duration::from_millis(300));
}

/// CPU seconds of this process's threads of a name.
fn cpu_s(name: &str) -> f64 {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs").flatten();
    let of = |path: &Path| {
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let fields: Vec<f64> =
            rest.split_whitespace().skip(11).take(2).map(|it| it.parse().unwrap_or(0.0)).collect();
        // A tick is 10 ms on every Linux there is.
        head.ends_with(&format!("({name}")).then(|| fields.iter().sum::<f64>() / 100.0)
    };
    tasks.filter_map(|it| of(&it.path())).sum()
}

/// Number of the oldest row on disk: its `content_id`.
fn first_number(store: &Path) -> u64 {
    let files = fs::read_dir(store.join("qoe")).expect("the spool").flatten().map(|it| it.path());
    let oldest = files.filter(|it| !it.ends_with("position")).min().expect("rows");
    let text = fs::read_to_string(oldest).expect("rows");
    let (_, rest) = text.split_once("\"content_id\":\"").expect("a row");
    rest.split('"').next().and_then(|it| it.parse().ok()).expect("a number")
}
