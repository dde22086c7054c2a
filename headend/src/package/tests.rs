use super::*;

/// Makes files; a name that ends with `/` is no file.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn read_dir(dir: &tempfile::TempDir) -> Inventory {
    read(dir.path(), &Options::default()).unwrap()
}

fn paths(inventory: &Inventory) -> Vec<&str> {
    inventory.objects.keys().map(String::as_str).collect()
}

const MASTER: &str = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"a/l.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=640x360\nv/l.m3u8\n";

fn media(segments: &[&str]) -> String {
    let list: String = segments.iter().map(|segment| format!("#EXTINF:2,\n{segment}\n")).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"init.mp4\"\n{list}#EXT-X-ENDLIST\n")
}

#[test]
fn hls_and_dash_over_the_same_segments_are_the_same_objects() {
    let mpd = r#"<MPD mediaPresentationDuration="PT4S"><Period><AdaptationSet contentType="video"><Representation id="v" bandwidth="9">
        <SegmentTemplate duration="2" media="v/$Number$.m4s" initialization="v/init.mp4"/></Representation></AdaptationSet></Period></MPD>"#;
    let list = media(&["1.m4s", "2.m4s"]);
    let dir = folder(&[
        ("master.m3u8", MASTER),
        ("v/l.m3u8", &list),
        ("a/l.m3u8", &list),
        ("x.mpd", mpd),
        ("v/init.mp4", "i"),
        ("v/1.m4s", "1"),
        ("v/2.m4s", "2"),
        ("a/init.mp4", "i"),
        ("a/1.m4s", "1"),
        ("a/2.m4s", "2"),
        ("notes.txt", "n"),
        (".hidden", "h"),
        ("v/3.m4s.tmp", "t"),
    ]);
    let inventory = read_dir(&dir);
    assert_eq!(inventory.problems, []);
    assert_eq!(inventory.presentations.len(), 2);
    assert_eq!(
        paths(&inventory),
        [
            "a/1.m4s",
            "a/2.m4s",
            "a/init.mp4",
            "a/l.m3u8",
            "master.m3u8",
            "v/1.m4s",
            "v/2.m4s",
            "v/init.mp4",
            "v/l.m3u8",
            "x.mpd"
        ]
    );
    assert_eq!(inventory.unreferenced, 1);
    let hls = inventory.presentations.iter().find(|p| p.kind == Kind::Hls).unwrap();
    let dash = inventory.presentations.iter().find(|p| p.kind == Kind::Dash).unwrap();
    assert_eq!(hls.rungs[1].segments, dash.rungs[0].segments);
    assert_eq!(hls.rungs[0].kind, TrackKind::Audio);
    assert_eq!(inventory.objects["v/init.mp4"].role, Role::Init);
    assert!(!hls.live && hls.duration_s == Some(4.0));
}

#[test]
fn what_is_missing_is_named_with_its_line() {
    let dir = folder(&[("l.m3u8", &media(&["1.m4s", "2.m4s"])), ("init.mp4", "i"), ("1.m4s", "1")]);
    let inventory = read_dir(&dir);
    assert_eq!(inventory.problems.len(), 1);
    assert_eq!(
        inventory.problems[0].to_string(),
        "l.m3u8:7: 2.m4s is missing; put the file there, or package anew"
    );
}

#[test]
fn references_that_escape_or_lie_elsewhere_are_reported_and_not_carried() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let list = media(&[
        "../secret",
        "%2e%2e/secret",
        "/etc/passwd",
        "http://other.example/a.ts",
        "a/../1.m4s",
        "..%2fsecret",
    ]);
    let dir = folder(&[("l.m3u8", &list), ("init.mp4", "i"), ("1.m4s", "1"), ("a/x", "")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["1.m4s", "init.mp4", "l.m3u8"]);
    assert_eq!(inventory.problems.len(), 5, "{:#?}", inventory.problems);
}

#[test]
fn cyclic_and_self_referring_playlists_end() {
    let a = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n";
    let b = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n";
    let dir = folder(&[("a.m3u8", a), ("b.m3u8", b)]);
    let inventory = read_dir(&dir);
    assert!(inventory.problems.iter().any(|problem| problem.what.contains("refers to itself")));
    assert!(inventory.problems.iter().any(|problem| problem.what.contains("multivariant playlist itself")));
}

#[test]
fn one_bad_manifest_does_not_hide_the_others() {
    let dir = folder(&[
        ("bad.m3u8", "#EXTM3U\n#EXTINF:2,\n"),
        ("bad.mpd", "<MPD><Period>"),
        ("l.m3u8", &media(&["1.m4s"])),
        ("init.mp4", "i"),
        ("1.m4s", "1"),
    ]);
    let inventory = read_dir(&dir);
    assert_eq!(inventory.problems.len(), 2);
    assert_eq!(inventory.presentations.len(), 1);
}

#[test]
fn byte_range_playlists_carry_the_file_once() {
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"9@0\"\n#EXTINF:2,\n#EXT-X-BYTERANGE:5@9\nall.mp4\n#EXTINF:2,\n#EXT-X-BYTERANGE:5@14\nall.mp4\n#EXT-X-ENDLIST\n";
    let dir = folder(&[("l.m3u8", list), ("all.mp4", "0123456789012345678")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["all.mp4", "l.m3u8"]);
    assert_eq!(inventory.presentations[0].rungs[0].segments, ["all.mp4"]);
}

#[test]
fn absolute_references_below_the_base_are_local() {
    let list = media(&["https://cdn.example.com/vod/x/1.m4s", "/vod/x/2.m4s"]);
    let dir = folder(&[("l.m3u8", &list), ("init.mp4", "i"), ("1.m4s", "1"), ("2.m4s", "2")]);
    let options = Options { base: "https://cdn.example.com/vod/x/".into(), ..Options::default() };
    assert_eq!(read(dir.path(), &options).unwrap().problems, []);
}

#[test]
fn a_directory_without_manifests_is_plain_files_and_an_empty_one_is_an_error() {
    let dir = folder(&[("a b.bin", "1"), ("c/d.txt", "2")]);
    assert_eq!(paths(&read_dir(&dir)), ["a%20b.bin", "c/d.txt"]);
    let empty = tempfile::tempdir().unwrap();
    let err = read(empty.path(), &Options::default()).unwrap_err().to_string();
    assert!(err.contains("nothing to carry"), "{err}");
    assert!(
        read(Path::new("/nowhere/at/all"), &Options::default())
            .unwrap_err()
            .to_string()
            .contains("give a directory")
    );
}

#[test]
fn names_with_spaces_are_found_however_they_are_encoded() {
    let dir = folder(&[
        ("l.m3u8", &media(&["seg 1.m4s", "seg%202.m4s"])),
        ("init.mp4", "i"),
        ("seg 1.m4s", "1"),
        ("seg 2.m4s", "2"),
    ]);
    assert_eq!(read_dir(&dir).problems, []);
}

#[test]
fn changes_put_segments_before_the_manifest_that_names_them() {
    let dir = folder(&[("l.m3u8", &media(&["1.m4s"])), ("init.mp4", "i"), ("1.m4s", "1")]);
    let old = read_dir(&dir);
    std::fs::write(dir.path().join("2.m4s"), "22").unwrap();
    std::fs::write(dir.path().join("l.m3u8"), media(&["2.m4s"])).unwrap();
    let new = read_dir(&dir);
    let changes = changes(&old, &new);
    let added: Vec<&str> = changes.added.iter().map(|object| object.path.as_str()).collect();
    assert_eq!(added, ["2.m4s", "l.m3u8"]);
    assert_eq!(changes.removed, ["l.m3u8", "1.m4s"]);
}
