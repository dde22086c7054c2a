//! Manifests of several sources, runs and services in one table.

use std::time::Duration;

use carousel::digest::Digest;

use super::content::{EDGE, has_some};
use super::*;
use crate::delivery::ObjectRef;
use crate::store::testing::{carried, open};
use crate::store::{CameBy, Class, ObjectUri, ResponseMeta};

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_name(name, None).unwrap()
}

fn read(manifests: &Manifests, key: &ObjectKey, bytes: &[u8]) -> Option<Manifest> {
    manifests.read(key, bytes, (true, None), WallTime::from_unix_ms(0), Instant::from_nanos(0))
}

fn names(all: &[ObjectKey]) -> Vec<&str> {
    all.iter().map(ObjectKey::as_str).collect()
}

/// Live is sent once, in the order of TOIs.
#[test]
fn what_a_session_has_sent_past_is_lost() {
    let manifests = Manifests::default();
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    let session = |tsi| SessionKey {
        source: [10, 0, 0, 1].into(),
        destination: ([239, 1, 1, 1], 5000).into(),
        tsi: carousel::lct::Tsi(tsi),
    };
    let toi = |tsi, toi| ObjectRef { session: session(tsi), toi: carousel::lct::Toi(toi) };
    let left = |object: ObjectRef, ms| manifests.time_to_loss(&key("h/s1.ts"), &object, at(ms));
    let sent = |name: &str, toi, ms| manifests.note_sent(&key(name), session(1), toi, 2_000, at(ms));
    let wait = |ms| Some(Duration::from_millis(ms));
    assert_eq!(left(toi(1, 5), 0), None, "nothing has come");
    // The window of a start: the newest first.
    for (toi, ms) in [(4, 0), (3, 100), (5, 200), (2, 300), (1, 400)] {
        sent("h/s0.ts", toi, ms);
    }
    for (toi, ms) in [(6, 2_000), (7, 4_000)] {
        sent("h/s0.ts", toi, ms);
    }
    assert_eq!(left(toi(1, 5), 5_000), None, "too few came in order");
    sent("h/s0.ts", 9, 8_000);
    assert_eq!(left(toi(1, 8), 8_000), wait(250), "it may be sent in turns with the one that came");
    assert_eq!((left(toi(1, 8), 8_100), left(toi(1, 8), 8_250)), (wait(150), wait(0)));
    assert_eq!(left(toi(1, 8), 14_000), wait(0));
    assert_eq!(left(toi(1, 8), 14_001), None, "its service is silent");
    assert_eq!(left(toi(1, 10), 9_000), None, "it comes after");
    assert_eq!(left(toi(1, 3), 9_000), None, "of the window of the start, which may still come");
    assert_eq!(left(toi(2, 8), 9_000), None, "of another session");
    assert_eq!(manifests.time_to_loss(&key("h/v/s1.ts"), &toi(1, 8), at(9_000)), None, "of another name");
    // What is finished a little later is still in order; later than a target duration a new run begins.
    sent("h/s0.ts", 8, 9_900);
    assert_eq!(left(toi(1, 7), 9_950), wait(0));
    sent("h/s0.ts", 8, 10_100);
    assert_eq!(left(toi(1, 7), 10_100), None, "it may come round again");
    for (toi, ms) in [(10, 12_000), (11, 14_000), (12, 16_000), (14, 18_000)] {
        sent("h/s0.ts", toi, ms);
    }
    assert_eq!(left(toi(1, 13), 19_000), wait(0));
    // TOIs of 16 bits begin again, and so does a sender.
    for start in [65_530, 1] {
        for more in 0..6 {
            manifests.note_sent(&key("h/w/s0.ts"), session(1), start + more, 2_000, at(more));
        }
    }
    let wrapped = |number| manifests.time_to_loss(&key("h/w/s1.ts"), &toi(1, number), at(900));
    assert_eq!((wrapped(65_531), wrapped(3), wrapped(7)), (None, wait(0), None));
    for number in 0..MAX_ARRIVALS as u64 {
        manifests.note_sent(&key(&format!("h/{number}/s1.ts")), session(1), 1, 2_000, at(9_000));
    }
    assert_eq!(manifests.sent.lock().unwrap().len(), MAX_ARRIVALS);
    assert_eq!(left(toi(1, 13), 19_000), None, "forgotten: it is waited for");
}

const LIVE: &[u8] =
    b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nv/s8.ts\n#EXTINF:4,\nv/s9.ts\n#EXTINF:4,\nv/s10.ts\n";

#[test]
fn segments_of_an_earlier_run_of_a_packager_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let manifests = Manifests::default();
    let put = |name: &str, bytes: &[u8], at_ms: i64| {
        let (frozen, meta) = carried(&store, name, bytes);
        let meta =
            ObjectMeta { version: at_ms.unsigned_abs(), received_at: WallTime::from_unix_ms(at_ms), ..meta };
        manifests.publish(&store, &frozen, meta).unwrap();
    };
    let mpd = |start: &str, publish: &str| {
        format!(
            "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"dynamic\" availabilityStartTime=\"2026-11-29T{start}Z\" \
             publishTime=\"2026-11-29T{publish}Z\" minimumUpdatePeriod=\"PT1S\"><Period><AdaptationSet><Representation id=\"a\" \
             bandwidth=\"1\"><SegmentTemplate duration=\"1\" media=\"$RepresentationID$-$Number$.m4s\"/></Representation>\
             </AdaptationSet></Period></MPD>"
        )
    };
    put("h/live/a.mpd", mpd("10:00:00", "10:00:00").as_bytes(), 500);
    put("h/other/a-5.m4s", b"another service", 900);
    for number in 1..=9 {
        put(&format!("h/live/a-{number}.m4s"), b"earlier run", 1000 * number);
        put("h/live/a.mpd", mpd("10:00:00", &format!("10:00:0{number}")).as_bytes(), 1000 * number + 1);
    }
    assert!(store.contains("h/live/a-9.m4s"), "one run");
    // Its packager ends in order.
    let ended =
        mpd("10:00:00", "10:00:10").replace("dynamic", "static").replace("availabilityStartTime", "id");
    put("h/live/a.mpd", ended.as_bytes(), 10_000);
    assert!(store.contains("h/live/a-9.m4s"), "it can be played still");
    // It begins again with the first number.
    put("h/live/a-1.m4s", b"this run", 20_000);
    // The second is the same again, and not received.
    store.offered("h/live/a-2.m4s", WallTime::from_unix_ms(20_000));
    put("h/live/a.mpd", mpd("10:00:20", "10:00:21").as_bytes(), 20_001);
    let held: Vec<i32> = (1..=9).filter(|number| store.contains(&format!("h/live/a-{number}.m4s"))).collect();
    assert_eq!(held, [1, 2]);
    assert!(store.contains("h/other/a-5.m4s") && store.contains("h/live/a.mpd"));
}

fn session(source: [u8; 4]) -> SessionKey {
    let tsi = carousel::lct::Tsi(1);
    SessionKey { source: source.into(), destination: ([239, 1, 1, 1], 5000).into(), tsi }
}

/// A playlist that ends with segment `end`.
fn list(end: u64) -> String {
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n".to_owned();
    (1..=end).for_each(|number| text.push_str(&format!("#EXTINF:2,\ns{number}.ts\n")));
    text
}

/// Puts objects of a session into a store.
struct Puts {
    _folder: tempfile::TempDir,
    store: Store,
    manifests: Manifests,
}

impl Puts {
    /// With five segments of a first run, of TOIs 10 to 51.
    fn new(sender: SessionKey) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let it = Self { store: open(&folder), _folder: folder, manifests: Manifests::default() };
        for number in 1..=5 {
            it.put(sender, &format!("h/s{number}.ts"), b"first run", 10 * number, 1000 * number as i64);
            it.put(sender, "h/a.m3u8", list(number).as_bytes(), 10 * number + 1, 1000 * number as i64 + 1);
        }
        it
    }

    fn put(&self, from: SessionKey, name: &str, bytes: &[u8], version: u64, at_ms: i64) {
        let (frozen, meta) = carried(&self.store, name, bytes);
        let meta = ObjectMeta { version, received_at: WallTime::from_unix_ms(at_ms), ..meta };
        self.manifests.publish_sent(&self.store, &frozen, meta, Some(from)).unwrap();
    }

    fn state(&self) -> (Option<u64>, Vec<u64>) {
        let held = (1..=5).filter(|it| self.store.contains(&format!("h/s{it}.ts"))).collect();
        (self.manifests.facts(&key("h/a.m3u8")).unwrap().last_sequence, held)
    }
}

/// A packager that dies early: the playlist of its next run overlaps with that of the first.
#[test]
fn a_playlist_that_its_sender_has_sent_later_may_go_back() {
    let sender = session([10, 0, 0, 1]);
    let it = Puts::new(sender);
    // It was repaired, and is late.
    it.put(sender, "h/a.m3u8", list(4).as_bytes(), 41, 5100);
    assert_eq!(it.state(), (Some(5), vec![1, 2, 3, 4, 5]));
    it.put(sender, "h/s1.ts", b"second run", 60, 6000);
    it.put(sender, "h/a.m3u8", list(1).as_bytes(), 61, 6001);
    assert_eq!(it.state(), (Some(1), vec![1]));
}

#[test]
fn a_second_sender_that_is_behind_ends_no_run() {
    let (one, two) = (session([10, 0, 0, 1]), session([10, 0, 0, 2]));
    let it = Puts::new(one);
    it.put(two, "h/s4.ts", b"first run", 69_999, 5100);
    it.put(two, "h/a.m3u8", list(4).as_bytes(), 70_000, 5101);
    assert_eq!(it.state(), (Some(5), vec![1, 2, 3, 4, 5]));
    assert_eq!(it.manifests.refused().labelled().collect::<Vec<_>>(), [("carousel", 1), ("origin", 0)]);
    // One session that sends the same segments again, with an older playlist: another headend continues with its numbers.
    it.put(one, "h/s4.ts", b"first run", 60, 5200);
    it.put(one, "h/a.m3u8", list(4).as_bytes(), 61, 5201);
    assert_eq!(it.state(), (Some(4), vec![1, 2, 3, 4, 5]));
}

#[test]
fn names_like_those_of_a_live_manifest_are_live() {
    let manifests = Manifests::default();
    assert_eq!(manifests.live_target_ms(&key("h/v/s9.ts")), None);
    read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
    for live in ["h/v/s9.ts", "h/v/s1234.ts", "h/v/s9.ts?token=x", "h/a.m3u8"] {
        assert_eq!(manifests.live_target_ms(&key(live)), Some(4000), "{live}");
    }
    for other in ["h/v/film9.ts", "h/w/s9.ts", "k/v/s9.ts", "h/v/s.ts"] {
        assert_eq!(manifests.live_target_ms(&key(other)), None, "{other}");
    }
    // The event is over.
    read(&manifests, &key("h/a.m3u8"), &[LIVE, b"#EXT-X-ENDLIST\n"].concat()).unwrap();
    assert_eq!(manifests.live_target_ms(&key("h/v/s9.ts")), None);
    assert_eq!(names(&manifests.listing(&key("h/v/s9.ts"))), ["h/a.m3u8"]);
}

#[test]
fn segments_that_the_clock_names_are_live_too() {
    let manifests = Manifests::default();
    let mpd = b"<MPD type=\"dynamic\" availabilityStartTime=\"2026-11-29T00:00:00Z\"><Period><AdaptationSet><Representation id=\"0\">\
        <SegmentTemplate timescale=\"1\" duration=\"2\" availabilityTimeOffset=\"1.5\" media=\"c-$RepresentationID$-$Number%05d$.m4s\"/>\
        </Representation></AdaptationSet></Period></MPD>";
    read(&manifests, &key("h/live.mpd"), mpd).unwrap();
    assert_eq!(manifests.live_target_ms(&key("h/c-0-00317.m4s")), Some(2000));
    assert_eq!(manifests.live_target_ms(&key("h/d-0-00317.m4s")), None);
}

#[test]
fn a_service_is_on_the_air_for_three_targets_after_an_arrival() {
    let manifests = Manifests::default();
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
    let on_air = |manifests: &Manifests, name: &str, ms| manifests.on_air_target_ms(&key(name), at(ms));
    assert_eq!(on_air(&manifests, "h/v/s11.ts", 0), None, "nothing has come");
    manifests.arrived(&key("h/v/s10.ts"), at(500));
    for (ms, target_ms) in [(500, Some(4000)), (12_500, Some(4000)), (12_501, None)] {
        assert_eq!(on_air(&manifests, "h/v/s11.ts", ms), target_ms, "{ms}");
    }
    assert_eq!(on_air(&manifests, "h/w/s11.ts", 500), None);
    for number in 0..2 * MAX_ARRIVALS {
        manifests.arrived(&key(&format!("h/{number}/s.ts")), at(0));
    }
    assert_eq!(manifests.arrivals.lock().unwrap().len(), MAX_ARRIVALS);
    assert_eq!(on_air(&manifests, "h/v/s11.ts", 500), None, "it made room");
    manifests.arrived(&key("h/v/s11.ts"), at(900));
    assert_eq!(on_air(&manifests, "h/v/s12.ts", 900), Some(4000));
}

#[test]
fn what_is_missing_stands_behind_what_is_here_and_is_like_what_the_carousel_brings() {
    let manifests = Manifests::default();
    read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
    let missing = |here: &[&str]| {
        let is_here = |key: &ObjectKey| here.contains(&key.as_str());
        names(&manifests.missing(LIVE, &key("h/a.m3u8"), &is_here)).join(" ")
    };
    assert_eq!(missing(&["h/v/s8.ts"]), "", "the carousel has brought nothing like it");
    manifests.arrived(&key("h/v/s7.ts"), Instant::from_nanos(0));
    assert_eq!(missing(&["h/v/s8.ts"]), "h/v/s9.ts h/v/s10.ts");
    assert_eq!(missing(&["h/v/s9.ts"]), "h/v/s10.ts", "a box that has just joined");
    assert_eq!(missing(&["h/v/s8.ts", "h/v/s10.ts"]), "h/v/s9.ts");
    assert_eq!(missing(&[]), "");
    let has_some = |bytes: &[u8], here: &str| has_some(bytes, &key("h/a.m3u8"), &|it| it == here);
    assert!(has_some(LIVE, "h/v/s9.ts") && !has_some(LIVE, "h/v/s7.ts"));
    assert!(has_some(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n", ""), "nothing is listed");
    // Only the end of a long list is checked.
    let long: String = (0..20).map(|number| format!("#EXTINF:4,\nv/s{number}.ts\n")).collect();
    let long = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{long}");
    let missing = manifests.missing(long.as_bytes(), &key("h/a.m3u8"), &|it| it.as_str() == "h/v/s12.ts");
    assert_eq!(missing.len(), EDGE - 1);
}

#[test]
fn a_live_object_belongs_to_a_service_or_to_the_folder_of_its_playlist() {
    let manifests = Manifests::default();
    read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
    let service_of = |name: &str| manifests.service_of(&key(name));
    assert_eq!(service_of("h/v/s11.ts").as_deref(), Some("h"));
    assert_eq!(service_of("h/a.m3u8").as_deref(), Some("h"));
    assert_eq!(service_of("h/w/s11.ts"), None);
    let spec = carousel::mabr::ServiceSpec {
        id: "one".to_owned(),
        manifests: vec!["http://h/a.m3u8".to_owned()],
        bases: Vec::new(),
        path_patterns: Vec::new(),
    };
    manifests.services().set(&[spec]);
    assert_eq!(service_of("h/v/s11.ts").as_deref(), Some("one"));
}

#[test]
fn a_manifest_is_on_the_air_with_the_playlists_below_its_folder() {
    let manifests = Manifests::default();
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    let on_air = |name: &str, ms| manifests.is_on_air(&key(name), at(ms));
    assert_eq!(on_air("h/one/main.m3u8", 0), None, "nothing is known of it");
    read(&manifests, &key("h/one/v/a.m3u8"), LIVE).unwrap();
    assert_eq!(on_air("h/one/main.m3u8", 0), Some(false), "nothing has come");
    manifests.arrived(&key("h/one/v/a.m3u8"), at(500));
    assert_eq!((on_air("h/one/main.m3u8", 600), on_air("h/one/v/a.m3u8", 600)), (Some(true), Some(true)));
    assert_eq!(on_air("h/one/main.m3u8?t=1", 600), Some(true));
    assert_eq!(on_air("h/one/main.m3u8", 60_000), Some(false), "silence");
    assert_eq!((on_air("h/two/main.m3u8", 600), on_air("x", 600)), (None, None));
}

#[test]
fn a_version_that_does_not_go_as_far_is_refused_while_the_newer_one_advances() {
    let manifests = Manifests::default();
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    let text = |first: u64| {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        (first..first + 3).for_each(|number| text.push_str(&format!("#EXTINF:2,\ns{number}.ts\n")));
        text
    };
    let meta = |is_carried: bool, length: usize| ObjectMeta {
        uri: ObjectUri::new("h/a.m3u8", &key("h/a.m3u8")),
        key: key("h/a.m3u8"),
        content_type: None,
        length: length as u64,
        digest: Digest::of(b""),
        version: 0,
        received_at: WallTime::from_unix_ms(0),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Origin,
        response: (!is_carried).then(|| Box::new(ResponseMeta { status: 200, ..ResponseMeta::default() })),
        ignored_query: Default::default(),
        signed_by: None,
    };
    let (carousel, origin) = (true, false);
    // Takes it if it may.
    let comes = |from: bool, first: u64, ms: u64| {
        let text = text(first);
        let takes = manifests.may_replace(&meta(from, text.len()), None, text.as_bytes(), at(ms));
        if takes {
            manifests
                .read(&key("h/a.m3u8"), text.as_bytes(), (from, None), WallTime::from_unix_ms(0), at(ms))
                .unwrap();
        }
        takes
    };
    assert!(comes(carousel, 100, 0), "the first");
    assert!(!comes(origin, 99, 1000), "the origin is behind");
    assert!(comes(origin, 101, 1000), "the origin is ahead");
    assert!(!comes(carousel, 100, 1100), "so the carousel is late");
    assert!(comes(carousel, 101, 2000), "it goes as far");
    assert!(comes(carousel, 102, 3000));
    // The carousel stops: the same again is not an advance, and what is behind is the best there is in the end.
    assert!(comes(carousel, 102, 8000));
    assert!(!comes(origin, 101, 9000));
    assert!(comes(origin, 101, 9001));
    // The packager restarts: at once where its own numbers fall, after three targets where another's are higher.
    assert!(comes(origin, 200, 20_000));
    assert!(!comes(carousel, 0, 20_100), "a source of its own numbers");
    assert!(comes(origin, 0, 20_200));
    assert!(comes(origin, 300, 30_000));
    assert!(!comes(carousel, 0, 36_000));
    assert!(comes(carousel, 0, 36_001));
    let refused: Vec<_> = manifests.refused().labelled().collect();
    assert_eq!(refused, [("carousel", 3), ("origin", 2)]);
    // An event that is over, and other objects, are replaced by anything.
    let ended = format!("{}#EXT-X-ENDLIST\n", text(500));
    manifests
        .read(&key("h/a.m3u8"), ended.as_bytes(), (true, None), WallTime::from_unix_ms(0), at(40_000))
        .unwrap();
    assert!(comes(origin, 1, 40_000));
    assert!(manifests.may_replace(&meta(origin, 4), None, b"text", at(40_000)));
}

#[test]
fn the_table_and_each_manifest_are_bounded() {
    let manifests = Manifests::default();
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_owned();
    for at in 0..u32::from(u16::MAX) {
        text.push_str(&format!(
            "{}.ts\n",
            (0..6).map(|n| char::from(b'a' + (at >> (2 * n) & 7) as u8)).collect::<String>()
        ));
    }
    read(&manifests, &key("h/hashes.m3u8"), text.as_bytes()).unwrap();
    assert!(manifests.known().peek(&key("h/hashes.m3u8")).unwrap().patterns.len() <= MAX_PATTERNS);
    for number in 0..2 * MAX_MANIFESTS {
        read(&manifests, &key(&format!("h/{number}.m3u8")), LIVE).unwrap();
    }
    assert_eq!(manifests.known().len(), MAX_MANIFESTS);
}
