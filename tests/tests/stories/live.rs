//! Live, from a writing packager to a reading player. No faster ring shows that file events, the link, the cache and a
//! response in chunks work on a segment that is still incomplete everywhere, nor how long that takes.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use linksim::{Burst, Profile};
use skycache_tests::client::{follow, get};
use skycache_tests::programs::{Program, have};
use skycache_tests::{Story, free_tcp_port};

const PATIENCE: Duration = Duration::from_secs(40);
/// A segment: `styp`, then fragments.
const STYP: &[u8] = b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix";
const FRAGMENTS: usize = 5;
const FRAGMENT_BYTES: usize = 20_000;
const FRAGMENT_TIME: Duration = Duration::from_millis(200);
const SEGMENT_BYTES: usize = STYP.len() + FRAGMENTS * FRAGMENT_BYTES;

const LIVE: &str = "reserved_bps = 6_000_000\nchunk_ms = 100\nclass = \"high\"\n";
/// A chunk of 15 packets is sent in one piece: its repair symbols must outnumber a burst of losses.
const FEC: &str = "[fec.high]\ncode = \"raptorq\"\noverhead_percent = 30\nleast_repair = 12\n";

/// A packager that writes fragment after fragment, each with the time at which it was written.
struct Packager {
    folder: PathBuf,
    began: Instant,
    first: u64,
    next: u64,
    /// A segment gets its name when it is complete.
    renames: bool,
    /// From its third fragment on a segment waits for this, and is then written at once.
    goes_on: Option<mpsc::Receiver<()>>,
}

impl Packager {
    /// With segments 1 and 2.
    fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("init.mp4"), b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov").unwrap();
        let mut this = Self {
            folder: folder.to_owned(),
            began: Instant::now(),
            first: 1,
            next: 1,
            renames: false,
            goes_on: None,
        };
        for _ in 0..2 {
            this.segment(Duration::ZERO);
        }
        this
    }

    fn segment(&mut self, fragment_time: Duration) {
        let name = self.folder.join(format!("v{}.m4s", self.next));
        let written = if self.renames { name.with_extension("m4s.tmp") } else { name.clone() };
        let mut file = File::create(&written).unwrap();
        for at in 0..FRAGMENTS {
            match &self.goes_on {
                Some(goes_on) if at == 2 => goes_on.recv().unwrap(),
                Some(_) if at > 2 => {}
                _ => std::thread::sleep(fragment_time),
            }
            let mut bytes = if at == 0 { STYP.to_vec() } else { Vec::new() };
            bytes.extend_from_slice(b"\0\0\0\x10moof\0\0\0\0\0\0\0\0");
            bytes.extend_from_slice(&(FRAGMENT_BYTES as u32 - 16).to_be_bytes());
            bytes.extend_from_slice(b"mdat");
            bytes.extend_from_slice(&self.now_us().to_be_bytes());
            let filled = (0..FRAGMENT_BYTES - 32).map(|byte| (byte * 7 + at + self.next as usize) as u8);
            bytes.extend(filled);
            file.write_all(&bytes).unwrap();
        }
        drop(file);
        std::fs::rename(written, name).unwrap();
        self.next += 1;
        self.first = self.first.max(self.next.saturating_sub(6));
        let mut list = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-MAP:URI=\"init.mp4\"\n",
            self.first
        );
        for number in self.first..self.next {
            list.push_str(&format!("#EXTINF:1,\nv{number}.m4s\n"));
        }
        std::fs::write(self.folder.join("live.m3u8.tmp"), list).unwrap();
        std::fs::rename(self.folder.join("live.m3u8.tmp"), self.folder.join("live.m3u8")).unwrap();
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// Percentiles 50 and 95, and the greatest.
fn percentiles(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [all.len() / 2, all.len() * 95 / 100, all.len() - 1].map(|at| all[at])
}

/// Segments that are written while a player asks for them; returns the time from each fragment's last byte on the
/// packager's disk to its last byte at the player, in milliseconds, and how many segments came whole.
fn play(extra: &str, loss: Option<(u64, f64)>, segments: u64) -> (Vec<f64>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    let mut packager = Packager::new(&folder);
    let mut story = Story::of(&folder);
    if let Some((seed, loss)) = loss {
        let profile = Profile { burst: Burst::new(loss, 3.0), ..Profile::PERFECT };
        story = story.with_link(seed, profile);
    }
    story.headend_extra = format!("{LIVE}{extra}\n{FEC}");
    story.start_daemon();
    story.start_headend(false);
    let playlist = Story::path_of("live.m3u8");
    // And the gateway configuration, by which a name that is not announced yet is expected.
    story.until("the playlist is there, and the service is on the air", PATIENCE, |story| {
        let is_there = get(story.http, &playlist, &[]).is_ok_and(|it| it.status == 200);
        is_there
            && story.status().is_some_and(|it| it["receive"]["sessions"].as_array().map_or(0, Vec::len) > 2)
    });
    let (http, began, first) = (story.http, packager.began, packager.next);
    let (begun, begins) = mpsc::channel();
    let player = std::thread::spawn(move || {
        let mut late_ms = Vec::new();
        let (mut was_growing, mut whole) = (0, 0);
        for number in first..first + segments {
            begins.recv().unwrap();
            let (mut body, mut known) = (Vec::new(), 0);
            let path = Story::path_of(&format!("v{number}.m4s"));
            let response = follow(http, &path, &[], |bytes| {
                body.extend_from_slice(bytes);
                let fragment = |at: usize| STYP.len() + at * FRAGMENT_BYTES;
                while known < FRAGMENTS && body.len() >= fragment(known + 1) {
                    let stamp = body[fragment(known) + 24..][..8].try_into().unwrap();
                    let now_us = began.elapsed().as_micros() as u64;
                    late_ms.push((now_us - u64::from_be_bytes(stamp)) as f64 / 1000.0);
                    known += 1;
                }
            })
            .unwrap();
            let written = std::fs::read(folder.join(format!("v{number}.m4s"))).unwrap();
            if response.status != 200 {
                // Its first chunk was lost.
                continue;
            }
            assert!(written.starts_with(&body), "segment {number}: a wrong byte in {}", body.len());
            assert!(!response.whole || body.len() == SEGMENT_BYTES, "segment {number}: cut, and not said");
            whole += u64::from(response.whole);
            was_growing += u64::from(response.header("content-length").is_empty());
        }
        // A player that waits for the end of a segment learns its length.
        assert!(was_growing > 0, "none of {segments} came while it grew");
        (late_ms, whole)
    });
    for _ in 0..segments {
        begun.send(()).unwrap();
        packager.segment(FRAGMENT_TIME);
    }
    let result = player.join().unwrap();
    story.headend.take().unwrap().stop();
    result
}

#[test]
fn a_player_reads_a_segment_while_it_is_written() {
    for protocol in ["flute", "route"] {
        let (late_ms, whole) = play(&format!("protocol = \"{protocol}\""), None, 8);
        assert_eq!((whole, late_ms.len()), (8, 8 * FRAGMENTS), "{protocol}");
        let late = percentiles(late_ms);
        println!("{protocol}: {late:.0?} ms from the packager's disk to the player (p50, p95, greatest)");
    }
}

/// A segment is complete or it is cut, and never wrong; most are complete by their repair symbols.
fn lossy(protocol: &str, seed: u64) {
    let (late_ms, whole) = play(&format!("protocol = \"{protocol}\""), Some((seed, 0.02)), 10);
    let late = percentiles(late_ms);
    println!("{protocol}, 2 % lost in bursts: {whole} of 10 whole, {late:.0?} ms (p50, p95, greatest)");
    assert!(whole >= 8, "{whole} of 10");
}

#[test]
fn chunks_survive_losses_by_their_own_repair_symbols() {
    lossy("flute", 31);
}

#[test]
fn a_segment_of_route_that_lost_packets_is_whole_when_it_ends() {
    lossy("route", 32);
}

/// The number of the newest segment that a playlist lists.
fn newest(story: &Story) -> Option<u64> {
    let response = get(story.http, &Story::path_of("live.m3u8"), &[]).ok().filter(|it| it.status == 200)?;
    let text = String::from_utf8(response.body).ok()?;
    text.lines().rev().find_map(|line| line.strip_prefix('v')?.strip_suffix(".m4s")?.parse().ok())
}

/// The state of the only live service.
fn live_state(story: &Story) -> String {
    let status = story.status().unwrap_or_default();
    status["live"][0]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_picture_goes_on_when_the_headend_is_gone_and_the_origin_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    let mut packager = Packager::new(&folder);
    let mut story = Story::of(&folder).with_origin();
    story.headend_extra = format!("{LIVE}{FEC}");
    story.start_daemon();
    story.start_headend(false);
    story.until("the playlist is there", PATIENCE, |story| newest(story).is_some());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            packager.segment(FRAGMENT_TIME);
        }
    });
    let (began, mut seen, mut advanced, mut greatest) = (Instant::now(), 0, Instant::now(), Duration::ZERO);
    let (mut backwards, mut cut) = (0, 0);
    let mut states = Vec::new();
    while began.elapsed() < Duration::from_secs(24) {
        let state = live_state(&story);
        if states.last() != Some(&state) {
            states.push(state);
        }
        let is_off = (8..16).contains(&began.elapsed().as_secs());
        match (&story.headend, is_off) {
            (Some(headend), true) => {
                headend.signal("KILL");
                story.headend = None;
            }
            (None, false) => story.start_headend(false),
            _ => {}
        }
        let Some(number) = newest(&story) else { continue };
        backwards += u64::from(number < seen);
        if number > seen {
            let response = get(story.http, &Story::path_of(&format!("v{number}.m4s")), &[]).unwrap();
            assert_eq!(response.status, 200, "{number}");
            let written = std::fs::read(folder.join(format!("v{number}.m4s"))).unwrap();
            if !response.whole {
                // A segment that was being read when its sender was killed: the player sees that it is cut, and asks again.
                assert!(written.starts_with(&response.body), "{number}");
                cut += 1;
                continue;
            }
            assert!(response.body == written, "{number}: {} of {} bytes", response.body.len(), written.len());
            greatest = greatest.max(advanced.elapsed());
            (seen, advanced) = (number, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    greatest = greatest.max(advanced.elapsed());
    story.until("the carousel brings it again", PATIENCE, |story| live_state(story) == "live");
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    println!(
        "{seen} segments; the newest one stood for at most {greatest:.1?}; {backwards} steps back; {cut} cut; {states:?}"
    );
    let live = states.iter().position(|it| it == "live").expect("it was live at first");
    assert!(states[live..].iter().any(|it| it == "origin"), "{states:?}");
    let service = story.status().unwrap()["live"][0].clone();
    let segments = format!("live_segments_total{{service={}}}", service["service"]);
    assert!(story.metric(&segments) >= 5, "{service}");
    assert!(seen >= 10, "{seen}");
    assert_eq!(backwards, 0, "neither source replaced the other's newer playlist");
    // Before, it stood still until the headend was back.
    assert!(greatest < Duration::from_secs(8), "{greatest:?}");
}

#[test]
fn a_segment_that_is_cut_with_its_sender_is_continued_from_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    let mut packager = Packager::new(&folder);
    packager.renames = true;
    let mut story = Story::of(&folder).with_origin();
    story.headend_extra = format!("{LIVE}{FEC}");
    story.start_daemon();
    story.start_headend(false);
    story.until("the service is on the air", PATIENCE, |story| {
        newest(story).is_some()
            && story.status().is_some_and(|it| it["receive"]["sessions"].as_array().map_or(0, Vec::len) > 2)
    });
    // One that comes as a whole, so that the box knows the names of growing ones.
    packager.segment(FRAGMENT_TIME);
    story.until("the next one has come", PATIENCE, |story| newest(story) == Some(3));
    let (go_on, goes_on) = mpsc::channel();
    packager.goes_on = Some(goes_on);
    let writing = std::thread::spawn(move || packager.segment(FRAGMENT_TIME));
    let (mut seen, mut headend, began) = (0, story.headend.take(), Instant::now());
    let response = loop {
        let response = follow(story.http, &Story::path_of("v4.m4s"), &[], |bytes| {
            seen += bytes.len();
            if seen > STYP.len() + FRAGMENT_BYTES
                && let Some(headend) = headend.take()
            {
                headend.signal("KILL");
                go_on.send(()).unwrap();
            }
        })
        .unwrap();
        // Until its first fragment is there, no program has it.
        if response.status == 200 || began.elapsed() > PATIENCE {
            break response;
        }
        seen = 0;
    };
    assert_eq!((response.status, response.whole), (200, true), "{} bytes", response.body.len());
    writing.join().unwrap();
    let written = std::fs::read(folder.join("v4.m4s")).unwrap();
    assert!(response.header("content-length").is_empty(), "it was read while it grew");
    assert!(response.body == written, "{} of {} bytes", response.body.len(), written.len());
    assert_eq!(story.metric("live_broken_off_segments_total{end=\"continued\"}"), 1);
    story.until("the service comes from the origin", PATIENCE, |story| {
        // Requests of players keep it going.
        newest(story).is_some() && live_state(story) == "origin"
    });
}

const PARTS: u64 = 4;
const PART_TIME: Duration = Duration::from_millis(250);

/// A packager of LL-HLS: every part is a file, then the segment is; the playlist lists each part as soon as it is there, and hints
/// at the next one.
struct PartPackager {
    folder: PathBuf,
    /// Complete segments, and parts of the next one.
    whole: u64,
    parts: u64,
}

impl PartPackager {
    fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("init.mp4"), b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov").unwrap();
        let mut this = Self { folder: folder.to_owned(), whole: 0, parts: 0 };
        (0..8 * PARTS).for_each(|_| this.part());
        this
    }

    fn bytes_of(segment: u64, part: u64) -> Vec<u8> {
        let mut bytes = b"\0\0\0\x10moof\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&(5000_u32 - 16).to_be_bytes());
        bytes.extend_from_slice(b"mdat");
        bytes.extend((24..5000_u64).map(|at| (at * 5 + segment * 31 + part * 7) as u8));
        bytes
    }

    fn part(&mut self) {
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(self.folder.join(format!("{name}.tmp")), bytes).unwrap();
            std::fs::rename(self.folder.join(format!("{name}.tmp")), self.folder.join(name)).unwrap();
        };
        write(&format!("v{}.{}.m4s", self.whole, self.parts), &Self::bytes_of(self.whole, self.parts));
        self.parts += 1;
        if self.parts == PARTS {
            let whole: Vec<u8> = (0..PARTS).flat_map(|part| Self::bytes_of(self.whole, part)).collect();
            write(&format!("v{}.m4s", self.whole), &whole);
            (self.whole, self.parts) = (self.whole + 1, 0);
        }
        let first = self.whole.saturating_sub(8);
        let mut list = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:1\n#EXT-X-PART-INF:PART-TARGET=0.25\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75,CAN-SKIP-UNTIL=6\n\
             #EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"init.mp4\"\n"
        );
        let list_parts = |list: &mut String, segment: u64, parts: u64| {
            for part in 0..parts {
                list.push_str(&format!("#EXT-X-PART:DURATION=0.25,URI=\"v{segment}.{part}.m4s\"\n"));
            }
        };
        for segment in first..self.whole {
            if segment + 2 >= self.whole {
                list_parts(&mut list, segment, PARTS);
            }
            list.push_str(&format!("#EXTINF:1,\nv{segment}.m4s\n"));
        }
        list_parts(&mut list, self.whole, self.parts);
        list.push_str(&format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"v{}.{}.m4s\"\n", self.whole, self.parts));
        write("live.m3u8", list.as_bytes());
    }
}

#[test]
fn low_latency_hls_is_answered_by_the_box_from_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    let mut packager = PartPackager::new(&folder);
    let mut story = Story::of(&folder);
    story.headend_extra = format!("reserved_bps = 6_000_000\nclass = \"high\"\n{FEC}");
    story.start_daemon();
    story.start_headend(false);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(PART_TIME);
            packager.part();
        }
        packager.whole
    });
    let list = |story: &Story, query: &str| {
        let path = format!("{}{query}", Story::path_of("live.m3u8"));
        let response = get(story.http, &path, &[]).unwrap();
        (response.status, String::from_utf8(response.body).unwrap())
    };
    // The segment that is not whole, and parts of it.
    let edge = |text: &str| {
        let segments: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix('v')?.strip_suffix(".m4s")?.parse().ok())
            .collect();
        let next = segments.last().unwrap() + 1;
        let own = format!("#EXT-X-PART:DURATION=0.25,URI=\"v{next}.");
        (next, text.lines().filter(|line| line.starts_with(&own)).count() as u64)
    };
    story.until("parts are listed and come", PATIENCE, |story| {
        let (status, text) = list(story, "");
        status == 200 && text.contains("#EXT-X-PART") && {
            let (next, parts) = edge(&text);
            parts > 0
                && get(story.http, &Story::path_of(&format!("v{next}.0.m4s")), &[])
                    .is_ok_and(|it| it.status == 200)
        }
    });
    let (mut next, mut parts) = edge(&list(&story, "").1);
    let (mut deltas, mut hinted) = (0, 0);
    for _ in 0..24 {
        // As players do: the part after the last one that they know.
        let (status, text) = list(&story, &format!("?_HLS_msn={next}&_HLS_part={parts}&_HLS_skip=YES"));
        assert_eq!(status, 200, "{next} {parts}: {text}");
        let before = (next, parts);
        (next, parts) = edge(&text);
        assert!((next, parts) > before || (parts == 0 && next > before.0), "{before:?} is there: {text}");
        let listed: Vec<&str> =
            text.lines().filter_map(|line| line.split("URI=\"").nth(1)?.strip_suffix('"')).collect();
        deltas += u64::from(text.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=") && !text.contains("EXT-X-MAP"));
        for name in listed.iter().rev().take(3) {
            // The last is the hint: it comes when it is there.
            let response = get(story.http, &Story::path_of(name), &[]).unwrap();
            let mut numbers = name[1..].split('.').map_while(|it| it.parse::<u64>().ok());
            let expected = PartPackager::bytes_of(numbers.next().unwrap(), numbers.next().unwrap());
            assert!(response.status == 200 && response.body == expected, "{name}: {}", response.status);
            hinted += u64::from(Some(name) == listed.last());
        }
    }
    assert!(deltas > 0 && hinted == 24, "{deltas} {hinted}");
    for wrong in ["?_HLS_part=1".to_owned(), format!("?_HLS_msn={}", next + 9), "?_HLS_msn=x".to_owned()] {
        assert_eq!(list(&story, &wrong).0, 400, "{wrong}");
    }
    // The packager stands still: three target durations later that is said.
    stop.store(true, Ordering::Relaxed);
    let whole = writing.join().unwrap();
    story.until("the last playlist has come", PATIENCE, |story| edge(&list(story, "").1).0 >= whole);
    let (status, text) = list(&story, &format!("?_HLS_msn={}", whole + 1));
    assert_eq!(status, 503, "{text}");
    let ended = |end: &str| story.metric(&format!("http_blocking_reloads_total{{end=\"{end}\"}}"));
    assert!(ended("answered") >= 20 && ended("wrong") == 3 && ended("late") == 1, "{}", ended("answered"));
    assert_eq!(story.metric("http_reloads_waiting"), 0);
}

/// FFmpeg as a packager that uploads: `output` are its options, the last one the name of the manifest.
fn upload(output: &[&str], is_segment: impl Fn(&str) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    std::fs::create_dir(&folder).unwrap();
    let mut story = Story::of(&folder);
    let listen = free_tcp_port();
    let ingest = format!("[ingest]\nlisten = \"{listen}\"\n");
    story.headend_extra = format!("{LIVE}name = \"one\"\ningest = true\n{FEC}{ingest}");
    story.start_daemon();
    story.start_headend(false);
    story.until("the headend listens", PATIENCE, |_| std::net::TcpStream::connect(listen).is_ok());
    let (manifest, options) = output.split_last().unwrap();
    let mut packager = std::process::Command::new("ffmpeg");
    packager.args("-nostdin -v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -t 60".split(' '));
    packager.args("-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -b:v 400k".split(' '));
    packager.args(options).args(["-method", "PUT"]).arg(format!("http://{listen}/one/{manifest}"));
    let mut packager = Program::start(packager, &dir.path().join("ffmpeg.log")).unwrap();
    let path = Story::path_of(manifest);
    story.until("the manifest is there", PATIENCE, |story| {
        get(story.http, &path, &[]).is_ok_and(|it| it.status == 200)
    });
    // Segments that the packager has uploaded and not removed yet are at the box, byte for byte.
    let mut exact = std::collections::BTreeSet::new();
    story.until("six segments are there", PATIENCE, |story| {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Ok(written) = std::fs::read(entry.path()) else { continue };
            if is_segment(&name) && !exact.contains(&name) {
                let response = get(story.http, &Story::path_of(&name), &[]).unwrap();
                if response.status == 200 && response.whole {
                    assert!(response.body == written, "{name}: {} bytes", response.body.len());
                    exact.insert(name);
                }
            }
        }
        exact.len() >= 6
    });
    assert!(packager.ended().is_none(), "{}", packager.log());
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().map(|it| it.file_name()).collect();
    assert!(left.len() < 30, "what left the window was deleted: {left:?}");
    println!("{manifest}: {} segments byte-exact", exact.len());
    story.headend.take().unwrap().stop();
}

#[test]
fn ffmpeg_uploads_hls_and_the_box_serves_it() {
    if have("ffmpeg") {
        let output =
            "-f hls -hls_time 1 -hls_list_size 5 -hls_flags delete_segments -hls_segment_type fmp4 live.m3u8";
        upload(&output.split(' ').collect::<Vec<_>>(), |name| {
            name.starts_with("live") && name.ends_with(".m4s")
        });
    }
}

#[test]
fn ffmpeg_uploads_low_latency_dash_and_the_box_serves_it() {
    if have("ffmpeg") {
        let output = "-f dash -seg_duration 1 -frag_duration 0.2 -ldash 1 -streaming 1 -window_size 5 \
                      -extra_window_size 2 -use_template 1 -use_timeline 0 live.mpd";
        let output: Vec<&str> = output.split_whitespace().collect();
        upload(&output, |name| name.starts_with("chunk-") && name.ends_with(".m4s"));
    }
}
