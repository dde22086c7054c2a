//! Faults during playback: each alone, and pairs of them by seed. No faster ring shows that packager, headend, link, origin, box
//! and player recover when any of them is killed while another is unavailable.
//!
//! A packager in this file writes segments of two seconds, in place and piece by piece, and is killed with one half written; a
//! scripted player keeps a buffer in real time. Both know every byte, and which run of the packager wrote it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carousel::time::WallTime;
use linksim::{Burst, Profile, Rng};
use skycache_tests::client::get;
use skycache_tests::{Fault as Origins, Story};

const PATIENCE: Duration = Duration::from_secs(40);
const SEGMENT: Duration = Duration::from_secs(2);
const FRAGMENTS: u32 = 5;
const FRAGMENT_BYTES: usize = 8_000;
/// Segments that a playlist lists.
const WINDOW: u64 = 6;
/// Segments behind the live edge at which players begin.
const BEHIND: u64 = 3;
/// Two segments, and what starting a process in a debug build on a busy machine takes.
const RECOVERY: Duration = Duration::from_secs(4 + 3);
/// A stall without a fault: a player at the edge has nothing in its buffer.
const JITTER: Duration = Duration::from_millis(700);
/// Observed behind the return.
const AFTER: Duration = Duration::from_secs(14);

/// Form of the packager's names of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A playlist that continues where the earlier run ended (`append_list`).
    HlsAppended,
    /// A playlist that begins at 0 with each run.
    Hls,
    /// An MPD by numbers, which begin at 1 with each run.
    Dash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Packager,
    Headend,
    Origin,
    Daemon,
    Link,
    Clock,
    SlowOrigin,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Packager,
        Self::Headend,
        Self::Origin,
        Self::Daemon,
        Self::Link,
        Self::Clock,
        Self::SlowOrigin,
    ];

    fn lasts(self) -> Duration {
        let link_s = std::env::var("LINK_CUT_S").ok().and_then(|it| it.parse().ok()).unwrap_or(12);
        Duration::from_secs(match self {
            Self::Packager | Self::Headend => 3,
            Self::Origin | Self::SlowOrigin => 8,
            Self::Daemon => 2,
            Self::Link => link_s,
            Self::Clock => 0,
        })
    }
}

/// One fragment of a segment: a piece for the link.
fn fragment(run: u64, number: u64, at: u32) -> Vec<u8> {
    let mut bytes = if at == 0 { b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix".to_vec() } else { Vec::new() };
    bytes.extend_from_slice(b"\0\0\0\x10moof\0\0\0\0\0\0\0\0");
    bytes.extend_from_slice(&(FRAGMENT_BYTES as u32).to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    bytes.extend_from_slice(&run.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    let mut rng = Rng::new(run << 40 | number << 8 | u64::from(at));
    bytes.extend((0..FRAGMENT_BYTES - 24).map(|_| rng.below(256) as u8));
    bytes
}

fn segment(run: u64, number: u64) -> Vec<u8> {
    (0..FRAGMENTS).flat_map(|at| fragment(run, number, at)).collect()
}

/// Whether a body is the segment; `may_be_half`: or the beginning of it, which a packager that was killed has left.
fn is_segment(run: u64, number: u64, body: &[u8], may_be_half: bool) -> bool {
    let whole = segment(run, number);
    !body.is_empty() && whole.starts_with(body) && (may_be_half || body.len() == whole.len())
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    WallTime::from_unix_ms(since.as_millis() as i64)
}

/// A packager in a thread, until it is dropped: then it stops where it is.
struct Packager {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Packager {
    /// Numbers continue behind `before` if they do; its clock is ahead by `ahead_ms`.
    fn start(folder: &Path, kind: Kind, run: u64, before: u64, ahead_ms: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (folder.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || write(&folder, kind, run, before, ahead_ms, &stopped));
        Self { stop, thread: Some(thread) }
    }

    /// Kills it; the number of its last whole segment.
    fn kill(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Packager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn replace(folder: &Path, name: &str, text: &str) {
    let temporary = folder.join(format!("{name}.tmp"));
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, folder.join(name)).unwrap();
}

fn write(folder: &Path, kind: Kind, run: u64, before: u64, ahead_ms: i64, stop: &AtomicBool) -> u64 {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("init.mp4"), b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov").unwrap();
    let (began, clock) = (Instant::now(), wall().plus_ms(ahead_ms));
    let base = match kind {
        Kind::HlsAppended => before,
        Kind::Hls | Kind::Dash => 0,
    };
    let mpd = |_: u64| {
        let now = wall().plus_ms(ahead_ms).to_xml();
        format!(
            r#"<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" profiles="urn:mpeg:dash:profile:isoff-live:2011" minBufferTime="PT2S" minimumUpdatePeriod="PT2S" suggestedPresentationDelay="PT6S" timeShiftBufferDepth="PT{}S" availabilityStartTime="{}" publishTime="{now}"><Period id="0" start="PT0S"><AdaptationSet mimeType="audio/mp4" contentType="audio"><SegmentTemplate timescale="1" duration="2" startNumber="1" initialization="init.mp4" media="v$Number$.m4s"/><Representation id="a" codecs="mp4a.40.2" bandwidth="160000"/></AdaptationSet></Period><UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="{now}"/></MPD>"#,
            WINDOW * 2,
            clock.to_xml(),
        )
    };
    let list = |first: u64, last: u64| {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"init.mp4\"\n"
        );
        for number in first..=last {
            if number == base + 1 && run > 1 {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let _ = write!(text, "#EXTINF:2,\nv{number}.m4s\n");
        }
        text
    };
    for number in base + 1.. {
        let mut file = File::create(folder.join(format!("v{number}.m4s"))).unwrap();
        for at in 0..FRAGMENTS {
            let done = SEGMENT * (number - base - 1) as u32 + SEGMENT * (at + 1) / FRAGMENTS;
            while began.elapsed() < done {
                if stop.load(Ordering::SeqCst) {
                    return number - 1;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            file.write_all(&fragment(run, number, at)).unwrap();
        }
        drop(file);
        match kind {
            Kind::Dash => replace(folder, "live.mpd", &mpd(number)),
            _ => {
                let first = (number + 1).saturating_sub(WINDOW).max(1);
                let first = if kind == Kind::Hls { first.max(base + 1) } else { first };
                replace(folder, "live.m3u8", &list(first, number));
            }
        }
        // What it has deleted.
        if let Some(old) = number.checked_sub(2 * WINDOW) {
            let _ = std::fs::remove_file(folder.join(format!("v{old}.m4s")));
        }
    }
    unreachable!()
}

/// Observations of a player.
#[derive(Debug, Default)]
struct Played {
    /// Since when there is nothing left to play, and from when on there is.
    stalls: Vec<(Instant, Instant)>,
    /// When the buffer will be empty.
    until: Option<Instant>,
    segments: u64,
    skipped: u64,
    run: u64,
    notes: VecDeque<String>,
    wrong: Vec<String>,
}

impl Played {
    fn note(&mut self, began: Instant, text: &str) {
        if self.notes.len() >= 60 {
            self.notes.pop_front();
        }
        self.notes.push_back(format!("{:6.1} {text}", began.elapsed().as_secs_f64()));
    }

    fn add(&mut self) {
        let now = Instant::now();
        self.segments += 1;
        self.until = Some(match self.until {
            Some(until) if until >= now => until + SEGMENT,
            Some(until) => {
                self.stalls.push((until, now));
                now + SEGMENT
            }
            None => now + SEGMENT,
        });
    }
}

/// A player of one rendition.
struct Player {
    http: SocketAddr,
    kind: Kind,
    began: Instant,
    played: Arc<Mutex<Played>>,
    /// A packager is killed while it writes a segment.
    may_be_half: bool,
    next: Option<u64>,
    failed: u32,
    /// HLS: end of the newest playlist. DASH: the run's beginning, and how far its clock is ahead of ours.
    end: u64,
    start_ms: Option<i64>,
    ahead_ms: i64,
}

impl Player {
    fn note(&self, text: &str) {
        self.played.lock().unwrap().note(self.began, text);
    }

    fn manifest(&self, name: &str) -> Option<String> {
        let asked = Instant::now();
        match get(self.http, &Story::path_of(name), &[]) {
            Ok(it) if it.status == 200 && it.whole => {
                if asked.elapsed() > Duration::from_secs(1) {
                    self.note(&format!("{name} took {:.1?}", asked.elapsed()));
                }
                String::from_utf8(it.body).ok()
            }
            Ok(it) => {
                self.note(&format!("{name}: {} after {:.1?}", it.status, asked.elapsed()));
                None
            }
            Err(why) => {
                self.note(&format!("{name}: {why}"));
                None
            }
        }
    }

    /// The segments that are available now: first and end, and those of them that the playlist marks.
    fn range(&mut self) -> Option<(u64, u64, Vec<u64>)> {
        if self.kind == Kind::Dash {
            let text = self.manifest("live.mpd")?;
            let value = |name: &str| {
                let rest = text.split(&format!("{name}=\"")).nth(1)?;
                WallTime::from_xml(rest.split('"').next()?)
            };
            let (start, now) = (value("availabilityStartTime")?, value("direct:2014\" value")?);
            let ahead_ms = now.unix_ms() - wall().unix_ms();
            if self.start_ms != Some(start.unix_ms()) {
                self.note("another availabilityStartTime");
                (self.start_ms, self.next, self.ahead_ms) = (Some(start.unix_ms()), None, ahead_ms);
            }
            // What is held has been on its way: the newest is the nearest.
            self.ahead_ms = self.ahead_ms.max(ahead_ms);
            let elapsed_ms = wall().plus_ms(self.ahead_ms).unix_ms() - start.unix_ms();
            let end = 1 + u64::try_from(elapsed_ms / 2000).unwrap_or(0);
            return Some((end.saturating_sub(WINDOW).max(1), end, Vec::new()));
        }
        let text = self.manifest("live.m3u8")?;
        let sequence = text.split("#EXT-X-MEDIA-SEQUENCE:").nth(1)?.lines().next()?.parse().ok()?;
        let (mut number, mut gaps, mut is_gap) = (sequence, Vec::new(), false);
        for line in text.lines() {
            is_gap |= line == "#EXT-X-GAP";
            if let Some(name) = line.strip_prefix('v').and_then(|it| it.strip_suffix(".m4s")) {
                if name.parse() != Ok(number) {
                    self.played.lock().unwrap().wrong.push(format!("{name} has number {number}"));
                }
                if std::mem::take(&mut is_gap) {
                    gaps.push(number);
                }
                number += 1;
            }
        }
        // As hls.js does: a playlist that goes back is played from its new end.
        if number + 1 < self.end {
            self.note(&format!("the playlist goes back from {} to {number}", self.end));
            self.next = None;
        }
        self.end = number;
        Some((sequence, number, gaps))
    }

    fn play(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let before = self.next;
            if let Some((first, end, gaps)) = self.range() {
                self.read(first, end, &gaps);
            }
            if self.next == before {
                std::thread::sleep(Duration::from_millis(400));
            }
        }
    }

    fn read(&mut self, first: u64, end: u64, gaps: &[u64]) {
        let edge = end.saturating_sub(BEHIND).max(first);
        let mut next = match self.next {
            Some(next) if next >= first => next,
            Some(next) => {
                self.note(&format!("{next} has left the window"));
                edge
            }
            None => edge,
        };
        while next < end {
            if gaps.contains(&next) {
                self.note(&format!("{next} is marked"));
                self.played.lock().unwrap().skipped += 1;
            } else if !self.fetch(next) {
                self.failed += 1;
                if self.failed < 3 {
                    break;
                }
                self.note(&format!("{next} is skipped"));
                self.played.lock().unwrap().skipped += 1;
            }
            self.failed = 0;
            next += 1;
        }
        self.next = Some(next);
    }

    /// Whether a segment was received, or is to be skipped.
    fn fetch(&self, number: u64) -> bool {
        let asked = Instant::now();
        let response = match get(self.http, &Story::path_of(&format!("v{number}.m4s")), &[]) {
            Ok(it) => it,
            Err(why) => {
                self.note(&format!("{number}: {why}"));
                return false;
            }
        };
        let took = asked.elapsed();
        if response.status == 204 {
            self.note(&format!("{number}: 204"));
            return true;
        }
        if response.status != 200 || !response.whole {
            let cut = if response.whole { "" } else { ", cut" };
            self.note(&format!("{number}: {}{cut} after {took:.1?}", response.status));
            return false;
        }
        let mut played = self.played.lock().unwrap();
        let stamp =
            |at: usize| response.body.get(at..at + 8).map(|it| u64::from_be_bytes(it.try_into().unwrap()));
        let run = stamp(48).unwrap_or(0);
        // Its packager was killed while it wrote it. Nothing shows that it is of the earlier run.
        if !is_segment(run, number, &response.body, self.may_be_half) {
            let what =
                format!("{number}: {} bytes of run {run}, number {:?}", response.body.len(), stamp(56));
            played.wrong.push(what);
        } else if run < played.run && response.body.len() == segment(run, number).len() {
            let what = format!("{number} is of run {run}, behind run {}", played.run);
            played.wrong.push(what);
        }
        if response.body.len() < segment(run, number).len() {
            played.note(self.began, &format!("{number} of run {run} is half written"));
        }
        if took > Duration::from_secs(1) || run > played.run {
            played.note(self.began, &format!("{number} of run {run} in {took:.1?}"));
        }
        played.run = played.run.max(run);
        played.add();
        true
    }
}

/// Two faults, or one, and around what they happen.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    kind: Kind,
    has_origin: bool,
    in_pieces: bool,
    /// With the time at which each begins.
    faults: Vec<(Fault, Duration)>,
    ahead_ms: i64,
}

impl Plan {
    fn new(seed: u64, faults: &[Fault]) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kind = [Kind::HlsAppended, Kind::Hls, Kind::Dash][rng.below(3) as usize];
        let (with_origin, in_pieces) = (rng.below(3) > 0, rng.below(2) == 0);
        let ahead_ms = if rng.below(2) == 0 { 60_000 } else { -60_000 };
        let mut faults: VecDeque<Fault> = faults.iter().copied().collect();
        while faults.len() < 2 && seed > 0 {
            let one = Fault::ALL[rng.below(7) as usize];
            if !faults.contains(&one) {
                faults.push_back(one);
            }
        }
        let of_origin = |it: &Fault| matches!(it, Fault::Origin | Fault::SlowOrigin);
        let has_origin = with_origin || faults.iter().any(of_origin);
        let second = Duration::from_millis(rng.below(8000));
        let faults = faults.into_iter().zip([Duration::ZERO, second]).collect();
        Self { seed, kind, has_origin, in_pieces, faults, ahead_ms }
    }

    /// Each fault alone, with each kind of packager: without an origin unless it is the origin's, and with one and in pieces.
    fn alone() -> impl Iterator<Item = Self> {
        let kinds = [Kind::HlsAppended, Kind::Hls, Kind::Dash];
        Fault::ALL.into_iter().flat_map(move |fault| {
            kinds.into_iter().flat_map(move |kind| {
                [false, true].map(|in_pieces| {
                    let has_origin = in_pieces || matches!(fault, Fault::Origin | Fault::SlowOrigin);
                    Self { kind, has_origin, in_pieces, ..Self::new(0, &[fault]) }
                })
            })
        })
    }

    fn kills_packager(&self) -> bool {
        self.faults.iter().any(|(fault, _)| matches!(fault, Fault::Packager | Fault::Clock))
    }
}

/// Event at a time: a fault begins, or ends.
#[derive(Debug, Clone, Copy)]
struct Happening {
    at: Duration,
    fault: Fault,
    is_end: bool,
}

/// The packager as it is now.
struct Packaging {
    folder: PathBuf,
    kind: Kind,
    run: u64,
    last: u64,
    ahead_ms: i64,
    running: Option<Packager>,
}

impl Packaging {
    fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            self.last = running.kill();
        }
    }

    fn start(&mut self) {
        self.run += 1;
        self.running = Some(Packager::start(&self.folder, self.kind, self.run, self.last, self.ahead_ms));
    }
}

fn run(plan: &Plan) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    let mut packaging =
        Packaging { folder: folder.clone(), kind: plan.kind, run: 0, last: 0, ahead_ms: 0, running: None };
    packaging.start();
    let mut story = Story::of(&folder).with_link(plan.seed, Profile::PERFECT);
    if plan.has_origin {
        story = story.with_origin();
    }
    let pieces = if plan.in_pieces { "chunk_ms = 200\n" } else { "" };
    story.headend_extra = format!(
        "reserved_bps = 2_000_000\nclass = \"high\"\n{pieces}[fec.high]\ncode = \"raptorq\"\noverhead_percent = 20\n"
    );
    story.start_daemon();
    story.start_headend(false);
    let name = if plan.kind == Kind::Dash { "live.mpd" } else { "live.m3u8" };
    story.until("segments have come", PATIENCE, |story| {
        get(story.http, &Story::path_of(name), &[]).is_ok_and(|it| it.status == 200)
            && get(story.http, &Story::path_of("v3.m4s"), &[]).is_ok_and(|it| it.status == 200)
    });
    let (played, stop, began) =
        (Arc::<Mutex<Played>>::default(), Arc::new(AtomicBool::new(false)), Instant::now());
    let player = Player {
        http: story.http,
        kind: plan.kind,
        began,
        played: Arc::clone(&played),
        may_be_half: plan.kills_packager(),
        next: None,
        failed: 0,
        end: 0,
        start_ms: None,
        ahead_ms: 0,
    };
    let stopped = Arc::clone(&stop);
    let playing = std::thread::spawn(move || player.play(&stopped));
    // It has filled its buffer.
    std::thread::sleep(Duration::from_secs(5));
    let mut happenings: Vec<Happening> = plan
        .faults
        .iter()
        .flat_map(|&(fault, at)| {
            [(at, false), (at + fault.lasts(), true)].map(|(at, is_end)| Happening { at, fault, is_end })
        })
        .collect();
    happenings.sort_by_key(|it| it.at);
    let (first, mut returned) = (Instant::now(), Instant::now());
    for Happening { at, fault, is_end } in happenings {
        std::thread::sleep((first + at).saturating_duration_since(Instant::now()));
        played
            .lock()
            .unwrap()
            .note(began, &format!("{fault:?} {}", if is_end { "returns" } else { "fails" }));
        match (fault, is_end) {
            (Fault::Packager, false) => packaging.kill(),
            (Fault::Packager, true) if packaging.running.is_none() => packaging.start(),
            (Fault::Clock, false) => {
                packaging.ahead_ms = plan.ahead_ms;
                if packaging.running.is_some() {
                    packaging.kill();
                    packaging.start();
                }
            }
            (Fault::Headend, false) => story.headend = None,
            (Fault::Headend, true) => story.start_headend(false),
            (Fault::Daemon, false) => story.daemon = None,
            (Fault::Daemon, true) => story.start_daemon(),
            (Fault::Link, false) => {
                let dark = {
                    let burst = Burst { loss_good: 1.0, ..Burst::NONE };
                    Profile { burst, ..Profile::PERFECT }
                };
                story.relay.as_ref().unwrap().set_profile(dark);
            }
            (Fault::Link, true) => story.relay.as_ref().unwrap().set_profile(Profile::PERFECT),
            (Fault::Origin, false) => story.origin.as_ref().unwrap().set_fault(Origins::Unavailable),
            (Fault::Origin, true) => story.origin.as_ref().unwrap().set_fault(Origins::None),
            (Fault::SlowOrigin, false) => story.origin.as_ref().unwrap().set_delay(Duration::from_secs(3)),
            (Fault::SlowOrigin, true) => story.origin.as_ref().unwrap().set_delay(Duration::ZERO),
            (Fault::Packager | Fault::Clock, true) => {}
        }
        // A packager has returned with its first segment.
        let behind = if matches!(fault, Fault::Packager | Fault::Clock) { SEGMENT } else { Duration::ZERO };
        returned = returned.max(Instant::now() + behind);
    }
    std::thread::sleep((returned + AFTER).saturating_duration_since(Instant::now()));
    stop.store(true, Ordering::SeqCst);
    let (lost, left) = (story.daemon.as_mut().and_then(skycache_tests::Program::ended), Instant::now());
    playing.join().unwrap();
    let played = std::mem::take(&mut *played.lock().unwrap());
    let mut stalls = played.stalls.clone();
    if played.until.is_none_or(|until| until < left) {
        stalls.push((played.until.unwrap_or(began), left));
    }
    let stood: Duration = stalls.iter().map(|(from, to)| *to - *from).sum();
    // A player that has played everything up to the edge waits a little for each next segment.
    let last = stalls.iter().rfind(|(from, to)| *to - *from > JITTER);
    let recovered = last.map_or(Duration::ZERO, |(_, to)| to.saturating_duration_since(returned));
    let is_held =
        plan.has_origin && plan.faults.iter().all(|(it, _)| matches!(it, Fault::Headend | Fault::Link));
    let mut faults = Vec::new();
    if let Some(status) = lost {
        faults.push(format!("skycached has ended: {status}"));
    }
    if !played.wrong.is_empty() {
        faults.push(format!("wrong: {:?}", played.wrong));
    }
    if recovered > RECOVERY {
        faults.push(format!("it plays only {recovered:.1?} after the return"));
    }
    if is_held && !stood.is_zero() {
        faults.push("it stood still beside a healthy origin".to_owned());
    }
    let line = format!(
        "seed {}: {:?}{}{} {:?}: {} segments, {} skipped, stood still {stood:.1?}, played {recovered:.1?} after the return",
        plan.seed,
        plan.kind,
        if plan.has_origin { " with an origin" } else { "" },
        if plan.in_pieces { " in pieces" } else { "" },
        plan.faults.iter().map(|(it, at)| format!("{it:?} at {:.1}", at.as_secs_f64())).collect::<Vec<_>>(),
        played.segments,
        played.skipped,
    );
    if faults.is_empty() {
        return Ok(line);
    }
    let log = |program: &Option<skycache_tests::Program>| {
        let text = program.as_ref().map(skycache_tests::Program::log).unwrap_or_default();
        text.lines()
            .rev()
            .take(40)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
    };
    let notes: Vec<String> = played.notes.into();
    Err(format!(
        "{line}\n{}\n{}\nskycached:\n{}\nheadend:\n{}",
        faults.join("\n"),
        notes.join("\n"),
        log(&story.daemon),
        log(&story.headend)
    ))
}

/// Runs plans, some at a time; all failures are reported.
fn all(plans: Vec<Plan>) {
    let jobs = std::env::var("FAULT_JOBS").ok().and_then(|it| it.parse().ok()).unwrap_or(2);
    let (plans, failed) = (Mutex::new(VecDeque::from(plans)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(plan) = plans.lock().unwrap().pop_front() else { return };
                    let result = std::panic::catch_unwind(|| run(&plan));
                    match result.unwrap_or_else(|_| Err(format!("{plan:?}: it did not begin"))) {
                        Ok(line) => println!("{line}"),
                        Err(text) => {
                            println!("FAILED {text}");
                            failed.lock().unwrap().push(format!("{plan:?}"));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
#[ignore = "takes minutes; its limits of time want a machine with nothing else to do"]
fn each_fault_alone_is_recovered_from() {
    all(Plan::alone().collect());
}

#[test]
fn every_plan_is_another_and_only_whole_segments_are_played() {
    let plans: Vec<String> = Plan::alone().map(|it| format!("{it:?}")).collect();
    let different: std::collections::HashSet<&String> = plans.iter().collect();
    assert_eq!((plans.len(), different.len()), (42, 42));
    let half = Plan::alone().filter(Plan::kills_packager).count();
    assert_eq!(half, 12, "two of seven faults");
    let (whole, other) = (segment(1, 5), segment(2, 5));
    for (body, when_killed, otherwise) in [
        (&whole[..], true, true),
        (&whole[..9_000], true, false),
        (&[], false, false),
        (&other[..], false, false),
        (&[&whole[..], b"x"].concat()[..], false, false),
    ] {
        let is_segment = |may_be_half| is_segment(1, 5, body, may_be_half);
        assert_eq!((is_segment(true), is_segment(false)), (when_killed, otherwise), "{}", body.len());
    }
}

/// `FAULT_PAIRS`: how many; `FAULT_SEED`: the first.
#[test]
#[ignore = "takes minutes; its limits of time want a machine with nothing else to do"]
fn pairs_of_faults_are_recovered_from() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let (first, count) = (number("FAULT_SEED").unwrap_or(1), number("FAULT_PAIRS").unwrap_or(4));
    all((first..first + count).map(|seed| Plan::new(seed, &[])).collect());
}
