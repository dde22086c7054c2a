use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use carousel::alc::Packet;
use carousel::lct::Toi;
use carousel::time::{Instant, WallTime};

use super::*;
use crate::broadcast::tests::{config, open, package};
use crate::clock::VirtualClocks;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const SECOND_NS: u64 = 1_000_000_000;

/// Virtual clocks that remember the shortest and the longest sleep, ns.
#[derive(Debug)]
struct Sleeps {
    clocks: VirtualClocks,
    shortest: AtomicU64,
    longest: AtomicU64,
}

impl Sleeps {
    fn new() -> Self {
        Self {
            clocks: VirtualClocks::new(WALL),
            shortest: AtomicU64::new(u64::MAX),
            longest: AtomicU64::new(0),
        }
    }
}

impl Clocks for Sleeps {
    fn now(&self) -> Instant {
        self.clocks.now()
    }

    fn wall(&self) -> WallTime {
        self.clocks.wall()
    }

    fn sleep(&self, duration: Duration) {
        let ns = duration.as_nanos() as u64;
        self.shortest.fetch_min(ns, Ordering::Relaxed);
        self.longest.fetch_max(ns, Ordering::Relaxed);
        self.clocks.sleep(duration);
    }
}

#[derive(Default)]
struct Notes {
    progress: Vec<(u64, Option<u64>)>,
    logged_s: Vec<u64>,
    followed: Vec<UpdateCounts>,
}

impl Observer for Notes {
    fn progress(&mut self, done: u64, all: Option<u64>, _: &LineStats, _: Duration) {
        self.progress.push((done, all));
    }

    fn log(&mut self, stats: &LineStats, elapsed: Duration) {
        assert!(stats.packets > 0);
        self.logged_s.push(elapsed.as_secs());
    }

    fn followed(&mut self, _source: usize, followed: UpdateCounts) {
        self.followed.push(followed);
    }
}

/// A transmission of a playlist with segments of 100 kB at 8 Mbit/s.
fn transmission(folder: &Path, segments: &[u32], extra: &str, end: End) -> Transmission {
    package(folder, segments, false);
    let config = config(&[folder], extra);
    let once = matches!(end, End::Stopped { once: true });
    let broadcast = open(config, once, false).unwrap();
    let line = Line::open(broadcast.config(), once, true, WALL).unwrap();
    Transmission::new(broadcast, line, end)
}

/// Runs it, stopped after `stop_ns`. What was sent, with its time.
fn run(
    transmission: &mut Transmission,
    clocks: &Sleeps,
    stop_ns: u64,
    updates: Option<&dyn Updates>,
    notes: &mut Notes,
) -> Vec<(u64, Vec<u8>)> {
    let (stop, mut sent) = (AtomicBool::new(false), Vec::new());
    let output = &mut |_: SocketAddr, payload: &[u8], now_ns: u64| {
        sent.push((now_ns, payload.to_vec()));
        if now_ns >= stop_ns {
            stop.store(true, Ordering::Relaxed);
        }
        assert!(now_ns < stop_ns.saturating_add(10 * SECOND_NS), "it goes on after the stop");
        Ok(())
    };
    transmission.run(clocks, &stop, updates, notes, output).unwrap();
    sent
}

#[test]
fn a_recording_of_a_given_length_ends_there_and_keeps_the_rate() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission =
        transmission(folder.path(), &[1, 2, 3, 4, 5, 6], "", End::At { ns: 3 * SECOND_NS });
    let (clocks, mut notes) = (Sleeps::new(), Notes::default());
    let sent = run(&mut transmission, &clocks, u64::MAX, None, &mut notes);
    assert!(clocks.now().as_nanos() >= 3 * SECOND_NS);
    assert!(sent.iter().all(|(now_ns, _)| *now_ns < 3 * SECOND_NS));
    // 8 Mbit/s, IP and UDP headers included.
    let bytes: usize = sent.iter().map(|(_, payload)| payload.len() + 28).sum();
    assert!((2_990_000..=3_010_000).contains(&bytes), "{bytes}");
    // Progress with each 1,024th packet, towards all objects.
    let objects = transmission.broadcast.air.objects().count() as u64;
    assert_eq!(notes.progress.len(), sent.len() / 1024);
    assert!(notes.progress.iter().all(|&(done, all)| done <= objects && all == Some(objects)));
    assert!(notes.logged_s.is_empty(), "a recording logs nothing");
}

#[test]
fn a_cycle_ends_when_every_object_has_been_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1, 2, 3], "", End::Cycle);
    let sent = run(&mut transmission, &Sleeps::new(), u64::MAX, None, &mut Notes::default());
    let air = &transmission.broadcast.air;
    assert!(air.cycle_done() && air.started() == air.objects().count());
    assert!(air.objects().all(|(id, _)| !air.is_pending(id)), "each to its last packet");
    assert!(sent.last().unwrap().0 < SECOND_NS, "300 kB take a third of a second");
    assert!(sent.iter().all(|(_, payload)| !Packet::parse(payload).unwrap().lct.close_session));
}

#[test]
fn a_single_pass_ends_with_the_fdt_and_the_close_flags_of_every_session() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1, 2], "", End::Stopped { once: true });
    let sent = run(&mut transmission, &Sleeps::new(), u64::MAX, None, &mut Notes::default());
    let packets: Vec<Packet<'_>> = sent.iter().map(|(_, bytes)| Packet::parse(bytes).unwrap()).collect();
    let closes = packets.iter().rev().take_while(|packet| packet.lct.close_session).count();
    let tsis: std::collections::BTreeSet<_> = packets.iter().map(|packet| packet.lct.tsi).collect();
    assert_eq!(closes, 5 * tsis.len(), "five rounds: {tsis:?}");
    let before = packets.len() - closes;
    assert_eq!(packets[before - 1].lct.toi, Some(Toi::FDT), "the FDT once more before them");
    assert!(transmission.stats().sent >= 3, "two segments and the playlist");
}

#[test]
fn a_stop_leaves_nothing_but_close_flags() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1, 2], "", End::Stopped { once: false });
    let sent = run(&mut transmission, &Sleeps::new(), SECOND_NS, None, &mut Notes::default());
    let late: Vec<_> = sent.iter().filter(|(now_ns, _)| *now_ns > SECOND_NS).collect();
    let closed = |bytes: &[u8]| Packet::parse(bytes).unwrap().lct.close_session;
    assert!(late.len() >= 5 && late.iter().skip(1).all(|(_, bytes)| closed(bytes)), "{}", late.len());
}

#[test]
fn documents_are_dated_again_and_counters_logged_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    // A class that is sent seldom leaves the link idle in between: nothing but signalling is due.
    let mut transmission = transmission(folder.path(), &[1], "", End::Stopped { once: false });
    let mut config = transmission.broadcast.config().clone();
    config.carousel.refresh_s = 10;
    let broadcast = open(config, false, false).unwrap();
    let line = Line::open(broadcast.config(), false, true, WALL).unwrap();
    transmission = Transmission::new(broadcast, line, End::Stopped { once: false });
    let generation = transmission.broadcast.air.generation();
    let documents = transmission.broadcast.announcements(WALL).len() as u64;
    let (clocks, mut notes) = (Sleeps::new(), Notes::default());
    run(&mut transmission, &clocks, 35 * SECOND_NS, None, &mut notes);
    // Every document is added and its predecessor withdrawn, after 10, 20 and 30 s.
    assert_eq!(transmission.broadcast.air.generation() - generation, 3 * 2 * documents);
    assert_eq!(notes.logged_s, [10, 20, 30]);
    assert!(notes.progress.iter().all(|(_, all)| all.is_none()), "a carousel has no end");
    assert!(notes.progress.len() >= 34, "once a second at least: {}", notes.progress.len());
    assert!(clocks.longest.load(Ordering::Relaxed) <= 50_000_000, "the stop flag is looked at often");
}

#[test]
fn documents_of_a_recording_and_of_a_single_pass_keep_their_date() {
    for end in [End::At { ns: SECOND_NS }, End::Cycle, End::Stopped { once: true }] {
        let folder = tempfile::tempdir().unwrap();
        let mut transmission = transmission(folder.path(), &[1, 2], "", end);
        transmission.next_refresh_ns = 0;
        let generation = transmission.broadcast.air.generation();
        run(&mut transmission, &Sleeps::new(), u64::MAX, None, &mut Notes::default());
        assert_eq!(transmission.broadcast.air.generation(), generation, "{end:?}");
    }
}

/// Hands out updates, and remembers what was reported to it.
#[derive(Default)]
struct Queue {
    updates: RefCell<VecDeque<Update>>,
    polls: Cell<u64>,
    reports: RefCell<Vec<Vec<(usize, String)>>>,
}

impl Updates for Queue {
    fn poll(&self) -> Result<Option<Update>, Ended> {
        self.polls.set(self.polls.get() + 1);
        Ok(self.updates.borrow_mut().pop_front())
    }

    fn report_lost(&self, files: Vec<(usize, String)>) {
        self.reports.borrow_mut().push(files);
    }
}

#[test]
fn files_that_changed_under_it_are_reported_once_at_the_next_look() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1, 2], "", End::At { ns: 3 * SECOND_NS });
    std::fs::write(folder.path().join("2.ts"), [1; 50]).unwrap();
    let queue = Queue::default();
    run(&mut transmission, &Sleeps::new(), u64::MAX, Some(&queue), &mut Notes::default());
    let reports = queue.reports.borrow();
    // A check every 500 ms.
    assert_eq!(reports.len(), 5, "{reports:?}");
    let lost: Vec<_> = reports.iter().flatten().collect();
    assert_eq!(lost, [&(0, "2.ts".to_owned())]);
    assert_eq!(transmission.stats().broken_off, 1);
}

#[test]
fn changes_of_a_source_are_counted_together_when_they_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1, 2], "", End::At { ns: SECOND_NS });
    let known = transmission.broadcast.inventories().remove(0);
    package(folder.path(), &[2, 3], false);
    let config = transmission.broadcast.config().clone();
    let inventory = crate::prepare::read_source(&config.sources[0], false).unwrap();
    let changes = crate::package::changes(&known, &inventory);
    let mut removed = changes.removed;
    removed.retain(|path| !inventory.objects.contains_key(path));
    assert_eq!(removed, ["1.ts"]);
    let mut updates = VecDeque::from([Update::Changed { source: 0, inventory, removed }]);
    for object in &changes.added {
        let prepared = Box::new(crate::prepare::prepare(&config, 0, object).unwrap());
        updates.push_back(Update::Ready { source: 0, prepared });
    }
    updates.extend([Update::Settled { source: 0 }, Update::Settled { source: 0 }]);
    let queue = Queue { updates: RefCell::new(updates), ..Queue::default() };
    let mut notes = Notes::default();
    run(&mut transmission, &Sleeps::new(), u64::MAX, Some(&queue), &mut notes);
    let both = UpdateCounts { added: changes.added.len(), removed: 1 };
    assert!(both.added >= 2, "the segment and the playlist");
    assert_eq!(notes.followed, [both, UpdateCounts::default()]);
    let uris: Vec<String> =
        transmission.broadcast.air.objects().map(|(_, object)| object.uri.clone()).collect();
    assert!(uris.iter().any(|uri| uri.ends_with("3.ts")) && !uris.iter().any(|uri| uri.ends_with("1.ts")));
}

#[test]
fn a_datagram_that_cannot_be_sent_ends_it_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1], "", End::Stopped { once: false });
    let mut count = 0;
    let output = &mut |_: SocketAddr, _: &[u8], _: u64| {
        count += 1;
        if count == 3 { Err("no route".to_owned()) } else { Ok(()) }
    };
    let stop = AtomicBool::new(false);
    let result = transmission.run(&Sleeps::new(), &stop, None, &mut Notes::default(), output);
    assert_eq!((result, count), (Err("no route".to_owned()), 3));
}

#[test]
fn a_transmission_whose_sources_nobody_follows_ends_with_an_error() {
    struct Failed;
    impl Updates for Failed {
        fn poll(&self) -> Result<Option<Update>, Ended> {
            Err(Ended)
        }
        fn report_lost(&self, _: Vec<(usize, String)>) {}
    }
    let folder = tempfile::tempdir().unwrap();
    let mut transmission = transmission(folder.path(), &[1], "", End::At { ns: SECOND_NS });
    let (clocks, stop) = (VirtualClocks::new(WALL), AtomicBool::new(false));
    let ended = transmission.run(
        &clocks,
        &stop,
        Some(&Failed),
        &mut Notes::default(),
        &mut |_: SocketAddr, _: &[u8], _: u64| Ok(()),
    );
    assert!(ended.unwrap_err().contains("start `headend send` again"));
}
