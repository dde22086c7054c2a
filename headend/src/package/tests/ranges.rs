//! Files that grow while a live manifest lists byte ranges of them.

use super::*;

/// A live playlist of ranges of `all.mp4`: the init section, then segments of five bytes.
fn single_file(segments: u64, end: &str) -> String {
    let list: String =
        (0..segments).map(|at| format!("#EXTINF:2,\n#EXT-X-BYTERANGE:5@{}\nall.mp4\n", 4 + at * 5)).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"4@0\"\n{list}{end}")
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
    std::fs::write(dir.path().join(name), text).unwrap();
}

/// As the folder is, with `open` still being written.
fn read_while_written(reader: &mut Reader, dir: &tempfile::TempDir, open: &str) -> Inventory {
    let (mut files, _) = tree::walk(Folder::root(dir.path(), &[]).unwrap(), &mut Vec::new()).unwrap();
    files.get_mut(open).unwrap().is_finished = false;
    reader.read_files(&files, Vec::new()).unwrap()
}

fn following(dir: &tempfile::TempDir) -> Reader {
    Reader::new(dir.path(), Options { is_following: true, ..Options::default() }).unwrap()
}

#[test]
fn a_growing_file_is_carried_range_by_range_each_byte_once() {
    let dir = folder(&[("l.m3u8", &single_file(2, "")), ("all.mp4", "init0123456789")]);
    let mut reader = following(&dir);
    let first = read_while_written(&mut reader, &dir, "all.mp4");
    let init = "all.mp4?skycache-range=0-3";
    let ranges = [init, "all.mp4?skycache-range=4-8", "all.mp4?skycache-range=9-13"];
    assert_eq!(paths(&first), [ranges[0], ranges[1], ranges[2], "l.m3u8"]);
    assert_eq!((first.objects[init].role, first.objects[ranges[1]].role), (Role::Init, Role::Segment));
    assert_eq!((first.objects[ranges[2]].length, &first.objects[ranges[2]].range), (5, &Some(9..14)));
    assert_eq!(first.presentations[0].rungs[0].segments, ranges[1..]);
    assert_eq!((first.faults(), first.unreferenced, first.is_unsettled), (0, 0, false));

    // The next range is listed before it is flushed: it waits, and the playlist does.
    write(&dir, "all.mp4", "init0123456789abc");
    write(&dir, "l.m3u8", &single_file(3, ""));
    let same = read_while_written(&mut reader, &dir, "all.mp4");
    assert_eq!((changes(&first, &same), same.is_unsettled), (Changes::default(), true));
    write(&dir, "all.mp4", "init0123456789abcde");
    let second = read_while_written(&mut reader, &dir, "all.mp4");
    let added: Vec<String> = changes(&first, &second).added.into_iter().map(|it| it.path).collect();
    assert_eq!(added, ["all.mp4?skycache-range=14-18", "l.m3u8"]);

    // The end: nothing that was sent in ranges is sent again.
    write(&dir, "l.m3u8", &single_file(3, "#EXT-X-ENDLIST\n"));
    let last = reader.read().unwrap();
    let added: Vec<String> = changes(&second, &last).added.into_iter().map(|it| it.path).collect();
    assert_eq!(added, ["l.m3u8"]);
    assert!(!last.objects.contains_key("all.mp4"));
    // A sender that starts now has a finished file.
    assert_eq!(paths(&read_dir(&dir)), ["all.mp4", "l.m3u8"]);
}

#[test]
fn a_file_that_restarts_has_other_bytes_in_the_same_ranges() {
    let dir = folder(&[("l.m3u8", &single_file(2, "")), ("all.mp4", "init0123456789")]);
    let mut reader = following(&dir);
    let first = read_while_written(&mut reader, &dir, "all.mp4");
    write(&dir, "all.mp4", "init56789");
    write(&dir, "l.m3u8", &single_file(1, ""));
    // The playlist goes backwards: it is held until it is clear that it is meant so.
    reader.options.now = Some(WallTime::from_unix_ms(i64::MAX / 2));
    let second = read_while_written(&mut reader, &dir, "all.mp4");
    let changed = changes(&first, &second);
    let added: Vec<String> = changed.added.into_iter().map(|it| it.path).collect();
    assert_eq!(added, ["all.mp4?skycache-range=0-3", "all.mp4?skycache-range=4-8", "l.m3u8"]);
    assert!(changed.removed.contains(&"all.mp4?skycache-range=9-13".to_owned()));
}

#[test]
fn a_range_behind_the_end_of_a_finished_file_is_a_fault() {
    let dir = folder(&[("l.m3u8", &single_file(3, "")), ("all.mp4", "init0123456789")]);
    let inventory = read_dir(&dir);
    assert_eq!(reasons(&inventory), [("cut", "all.mp4?skycache-range=14-18")]);
    assert_eq!((inventory.faults(), inventory.is_unsettled), (1, false));
    assert!(inventory.problems[0].what.contains("it has 14"), "{:?}", inventory.problems);
}

#[test]
fn parts_that_are_ranges_go_out_with_their_segment() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"4@0\"\n\
        #EXT-X-PART:DURATION=1,URI=\"1.mp4\",BYTERANGE=\"5@0\"\n#EXT-X-PART:DURATION=1,URI=\"1.mp4\",BYTERANGE=\"5@5\"\n\
        #EXTINF:2,\n1.mp4\n#EXT-X-PART:DURATION=1,URI=\"2.mp4\",BYTERANGE=\"3@0\"\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2.mp4\",BYTERANGE-START=3\n";
    let dir = folder(&[("l.m3u8", text), ("i.mp4", "init"), ("1.mp4", "0123456789"), ("2.mp4", "abc")]);
    let inventory = read_while_written(&mut following(&dir), &dir, "2.mp4");
    assert_eq!(paths(&inventory), ["1.mp4", "i.mp4", "l.m3u8"]);
    assert_eq!(inventory.problems, []);
    assert!(
        reasons(&inventory).iter().all(|it| *it == ("being_written", "2.mp4")),
        "{:?}",
        inventory.left_out
    );
}

#[test]
fn i_frames_of_segments_that_are_carried_entire_are_ranges_of_them() {
    let master = "#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9,URI=\"i.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=9\nv.m3u8\n";
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n1.ts\n";
    let frames =
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-I-FRAMES-ONLY\n#EXTINF:2,\n#EXT-X-BYTERANGE:3@0\n1.ts\n";
    let dir = folder(&[("m.m3u8", master), ("v.m3u8", list), ("i.m3u8", frames), ("1.ts", "0123456789")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["1.ts", "i.m3u8", "m.m3u8", "v.m3u8"]);
    assert_eq!(inventory.presentations[0].rungs[1].segments, ["1.ts"]);
}

#[test]
fn ranges_of_a_live_mpd_are_carried_one_by_one() {
    let mpd = r#"<MPD type="dynamic"><Period><AdaptationSet><Representation id="v"><BaseURL>v.mp4</BaseURL><SegmentList duration="2">
        <Initialization range="0-3"/><SegmentURL mediaRange="4-8"/><SegmentURL mediaRange="9-13"/></SegmentList></Representation></AdaptationSet></Period></MPD>"#;
    let dir = folder(&[("x.mpd", mpd), ("v.mp4", "init0123456789")]);
    let inventory = read_while_written(&mut following(&dir), &dir, "v.mp4");
    let ranges = ["v.mp4?skycache-range=0-3", "v.mp4?skycache-range=4-8", "v.mp4?skycache-range=9-13"];
    assert_eq!(paths(&inventory), [ranges[0], ranges[1], ranges[2], "x.mpd"]);
    let rung = &inventory.presentations[0].rungs[0];
    assert_eq!(rung.inits, ranges[..1]);
    assert_eq!(rung.segments, ranges[1..]);
    let ended = mpd.replace(r#"type="dynamic""#, r#"type="static""#);
    let dir = folder(&[("x.mpd", &ended), ("v.mp4", "init0123456789")]);
    assert_eq!(paths(&read_dir(&dir)), ["v.mp4", "x.mpd"]);
}
