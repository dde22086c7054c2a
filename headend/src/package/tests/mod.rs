mod packagers;
mod ranges;

use super::*;

/// Makes files; a name that ends with `/` is not a file.
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
        "l.m3u8:7: 2.m4s is missing; put the file there, or package again"
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
fn manifests_in_other_encodings_are_read_and_carried_as_they_are() {
    let dir = folder(&[("v.m3u8", &media(&["1.m4s"])), ("init.mp4", "i"), ("1.m4s", "1"), ("é.m4s", "2")]);
    let mpd = |encoding: &str| {
        format!(
            "<?xml version='1.0' encoding='{encoding}'?><MPD mediaPresentationDuration='PT2S'><Period><AdaptationSet contentType='video'>\
             <SegmentTemplate duration='2' media='é.m4s' initialization='init.mp4'/><Representation id='v' bandwidth='9'/>\
             </AdaptationSet></Period></MPD>"
        )
    };
    let latin =
        |text: &str| -> Vec<u8> { text.chars().map(|it| u8::try_from(u32::from(it)).unwrap()).collect() };
    let master = latin(
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Français\"\n#EXT-X-STREAM-INF:BANDWIDTH=9,AUDIO=\"a\"\nv.m3u8\n",
    );
    let wide: Vec<u8> = mpd("UTF-16").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let files = [
        ("master.m3u8", master),
        ("latin.mpd", latin(&mpd("ISO-8859-1"))),
        ("wide.mpd", [&b"\xff\xfe"[..], &wide].concat()),
    ];
    for (name, bytes) in &files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let inventory = read_dir(&dir);
    assert_eq!(inventory.problems, []);
    assert_eq!(
        paths(&inventory),
        ["%C3%A9.m4s", "1.m4s", "init.mp4", "latin.mpd", "master.m3u8", "v.m3u8", "wide.mpd"]
    );
    for (name, bytes) in &files {
        assert_eq!(inventory.objects[*name].bytes.as_deref(), Some(&bytes[..]), "{name}");
    }
}

#[test]
fn byte_range_playlists_carry_the_file_once() {
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"9@0\"\n#EXTINF:2,\n#EXT-X-BYTERANGE:5@9\nall.mp4\n#EXTINF:2,\n#EXT-X-BYTERANGE:5@14\nall.mp4\n#EXT-X-ENDLIST\n";
    let dir = folder(&[("l.m3u8", list), ("all.mp4", "0123456789012345678")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["all.mp4", "l.m3u8"]);
    assert_eq!(inventory.presentations[0].rungs[0].segments, ["all.mp4"]);
    // The file is media as long as the film: not sent every second among what players need first, not read into memory.
    assert_eq!(inventory.objects["all.mp4"].role, Role::Segment);
    assert!(inventory.presentations[0].rungs[0].inits.is_empty());
    let mpd = "<MPD type='static' mediaPresentationDuration='PT4S'><Period><AdaptationSet mimeType='application/x'>\
        <Representation id='a' bandwidth='1'><SegmentList duration='2'><Initialization sourceURL='all.mp4' range='0-8'/>\
        <SegmentURL media='all.mp4' mediaRange='9-13'/><SegmentURL media='all.mp4' mediaRange='14-18'/>\
        </SegmentList></Representation></AdaptationSet></Period></MPD>";
    let dir = folder(&[("m.mpd", mpd), ("all.mp4", "0123456789012345678")]);
    let inventory = read_dir(&dir);
    assert_eq!(
        (inventory.faults(), inventory.objects["all.mp4"].role),
        (0, Role::Segment),
        "{:?}",
        inventory.problems
    );
    let rung = &inventory.presentations[0].rungs[0];
    assert_eq!((rung.inits.len(), rung.segments.as_slice()), (0, ["all.mp4".to_owned()].as_slice()));
}

#[test]
fn absolute_references_below_the_base_are_local() {
    let list = media(&["https://cdn.example.com/vod/x/1.m4s", "/vod/x/2.m4s"]);
    let dir = folder(&[("l.m3u8", &list), ("init.mp4", "i"), ("1.m4s", "1"), ("2.m4s", "2")]);
    let options = Options { base: "https://cdn.example.com/vod/x/".into(), ..Options::default() };
    let inventory = read(dir.path(), &options).unwrap();
    assert_eq!((inventory.left_out.len(), inventory.faults()), (0, 0));
    assert!(["1.m4s", "2.m4s"].iter().all(|it| inventory.objects.contains_key(*it)));
    // Boxes do not change manifests by themselves.
    let texts: Vec<String> = inventory.problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(
        texts[0]
            .starts_with("l.m3u8: https://cdn.example.com/vod/x/1.m4s is not a relative reference (2 such")
    );
    assert!(texts[0].contains("rewrite = true"), "{texts:?}");
    let mpd = |base: &str| {
        format!(
            "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' mediaPresentationDuration='PT2S'>{base}<Period><AdaptationSet>\
             <SegmentTemplate media='$Number$.m4s' initialization='init.mp4' duration='2'/>\
             <Representation id='v' mimeType='video/mp4' bandwidth='9'/></AdaptationSet></Period></MPD>"
        )
    };
    for (base, count) in
        [("<BaseURL>https://cdn.example.com/vod/x/</BaseURL>", 1), ("<BaseURL>./</BaseURL>", 0), ("", 0)]
    {
        let dir = folder(&[("m.mpd", &mpd(base)), ("init.mp4", "i"), ("1.m4s", "1")]);
        let problems = read(dir.path(), &options).unwrap().problems;
        assert_eq!(
            problems.iter().filter(|it| it.what.contains("not a relative reference")).count(),
            count,
            "{problems:?}"
        );
    }
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
fn manifests_with_a_question_mark_in_their_name_or_folder_are_read() {
    let list = media(&["1.m4s"]);
    for folder_of in ["c/", "a?b/", "v1.0?x/"] {
        let (manifest, segment) = (format!("{folder_of}What now?.m3u8"), format!("{folder_of}1.m4s"));
        let dir = folder(&[
            (manifest.as_str(), &list),
            (segment.as_str(), "1"),
            (format!("{folder_of}init.mp4").as_str(), "i"),
        ]);
        let inventory = read_dir(&dir);
        let named = manifest.replace('?', "%3F").replace(' ', "%20");
        assert_eq!(inventory.presentations.iter().map(|it| &it.manifest).collect::<Vec<_>>(), [&named]);
        assert_eq!(inventory.problems, []);
        let object = &inventory.objects[&named];
        assert_eq!((object.role, object.content_type), (Role::Manifest, "application/vnd.apple.mpegurl"));
        assert!(inventory.objects.contains_key(&segment.replace('?', "%3F")));
    }
    // A query that a mirroring tool kept in the name is none of its extension.
    assert_eq!(content_type("a.m4s?file=b.m3u8"), "video/mp4");
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

fn options(base: &str) -> Options {
    Options { base: base.to_owned(), ..Options::default() }
}

fn reasons(inventory: &Inventory) -> Vec<(&str, &str)> {
    inventory.left_out.iter().map(|it| (it.reason.as_str(), it.name.as_str())).collect()
}

/// A segment of boxes that is complete.
const INIT: &str = "\0\0\0\x0cftypiso6\0\0\0\x08moov";
const SEGMENT: &str = "\0\0\0\x0cstypmsdh\0\0\0\x09mdatx";

#[test]
fn queries_do_not_make_objects_but_those_that_select() {
    let list = media(&["1.m4s?session=a", "2.m4s?session=a&lang=de", "3.m4s?start=0", "3.m4s?start=4"]);
    let files = [("l.m3u8", &list[..]), ("init.mp4", "i"), ("1.m4s", "1"), ("2.m4s", "2"), ("3.m4s", "3")];
    let dir = folder(&files);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["1.m4s", "2.m4s", "init.mp4", "l.m3u8"]);
    assert_eq!(inventory.ignored_query, IgnoredQuery::Names(vec!["lang".into(), "session".into()]));
    assert_eq!(reasons(&inventory), [("query_selects", "3.m4s")]);
    // A parameter that selects in one place may do so in all: 4.m4s would not be found under its name without it.
    let others = ["4.m4s?start=0&session=a", "5.m4s"];
    let list = media(&[&["1.m4s?session=a", "3.m4s?start=0", "3.m4s?start=4"][..], &others].concat());
    std::fs::write(dir.path().join("l.m3u8"), &list).unwrap();
    for name in ["4.m4s", "5.m4s"] {
        std::fs::write(dir.path().join(name), "4").unwrap();
    }
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["1.m4s", "5.m4s", "init.mp4", "l.m3u8"]);
    assert_eq!(reasons(&inventory), [("query_selects", "3.m4s"), ("query_selects", "4.m4s")]);
    for name in ["4.m4s", "5.m4s"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("l.m3u8"), files[0].1).unwrap();
    let rule = Some(IgnoredQuery::Names(vec!["session".into()]));
    let inventory = read(dir.path(), &Options { ignored_query: rule, ..Options::default() }).unwrap();
    assert_eq!(
        paths(&inventory),
        ["1.m4s", "2.m4s?lang=de", "3.m4s?start=0", "3.m4s?start=4", "init.mp4", "l.m3u8"],
        "what the operator calls significant stays in the name"
    );
    let rule = Some(IgnoredQuery::All);
    let inventory = read(dir.path(), &Options { ignored_query: rule, ..Options::default() }).unwrap();
    assert_eq!(paths(&inventory), ["1.m4s", "2.m4s", "3.m4s", "init.mp4", "l.m3u8"]);
}

#[test]
fn names_are_what_players_ask_for() {
    let list = media(&[
        "Träume 1.m4s",
        "50%.m4s",
        "a%2fb.m4s",
        "https://CDN.example.com:443/v/x/../c%7E.m4s",
        "//cdn.example.com/v/d.m4s",
        "http://cdn.example.com/v/e.m4s",
        "sub\\f.m4s",
    ]);
    let dir = folder(&[
        ("l.m3u8", &list),
        ("init.mp4", "i"),
        ("Träume 1.m4s", "1"),
        ("50%.m4s", "2"),
        ("a/b.m4s", "3"),
        ("c~.m4s", "4"),
        ("d.m4s", "5"),
        ("e.m4s", "6"),
        ("sub/f.m4s", "7"),
    ]);
    let inventory = read(dir.path(), &options("https://cdn.example.com/v/")).unwrap();
    let names = ["50%25.m4s", "Tr%C3%A4ume%201.m4s", "a%2Fb.m4s", "c~.m4s", "d.m4s", "e.m4s"];
    assert_eq!(paths(&inventory), [&names[..], &["init.mp4", "l.m3u8", "sub/f.m4s"]].concat());
    assert_eq!(inventory.unreferenced, 0);
    assert!(inventory.problems[0].what.contains("backslash"), "{:?}", inventory.problems);
    assert!(inventory.problems[1].what.contains("(3 such references)"), "{:?}", inventory.problems);
    assert_eq!(inventory.problems.len(), 2);
}

#[test]
fn names_that_mean_something_else_say_so() {
    let dir = folder(&[("init.mp4", "i"), ("a#1.m4s", "1"), ("b%20c.m4s", "2"), ("d.m4s", "3")]);
    let own = std::fs::canonicalize(dir.path()).unwrap().join("d.m4s");
    let list = media(&["a#1.m4s", "b%20c.m4s", own.to_str().unwrap()]);
    std::fs::write(dir.path().join("l.m3u8"), list).unwrap();
    let inventory = read(dir.path(), &options("https://cdn.example.com/v/")).unwrap();
    let said: Vec<String> = inventory.problems.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("%23") && said[1].contains("%25"), "{said:?}");
    assert!(said[2].contains("players ask for https://cdn.example.com/"), "{said:?}");
    assert_eq!(inventory.faults(), 3);
}

#[test]
fn interstitials_belong_to_what_they_interrupt() {
    let list = media(&["1.m4s"]).replace(
        "#EXT-X-TARGETDURATION:2\n",
        "#EXT-X-TARGETDURATION:2\n#EXT-X-DATERANGE:ID=\"a\",X-ASSET-URI=\"ad/m.m3u8\"\n#EXT-X-DATERANGE:ID=\"b\",X-ASSET-LIST=\"b.json\"\n",
    );
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\nl.m3u8\n";
    let ad = media(&["1.m4s"]);
    let dir = folder(&[
        ("z.m3u8", master),
        ("l.m3u8", &list),
        ("b.json", r#"{"ASSETS":[{"URI":"ad/m.m3u8"},{"URI":"bumper/l.m3u8"}]}"#),
        ("ad/m.m3u8", master),
        ("ad/l.m3u8", &ad),
        ("bumper/l.m3u8", &ad),
        ("trailer/m.m3u8", master),
        ("trailer/l.m3u8", &ad),
        ("init.mp4", "i"),
        ("1.m4s", "1"),
        ("ad/init.mp4", "i"),
        ("ad/1.m4s", "1"),
        ("bumper/init.mp4", "i"),
        ("bumper/1.m4s", "1"),
        ("trailer/init.mp4", "i"),
        ("trailer/1.m4s", "1"),
    ]);
    let inventory = read_dir(&dir);
    let manifests: Vec<&str> = inventory.presentations.iter().map(|it| it.manifest.as_str()).collect();
    assert_eq!(manifests, ["z.m3u8", "trailer/m.m3u8"]);
    assert_eq!((inventory.objects.len(), inventory.unreferenced), (16, 0));
    let only = read(&dir.path().join("z.m3u8"), &Options::default()).unwrap();
    assert_eq!((only.presentations.len(), only.objects.len(), only.unreferenced), (1, 12, 4));
}

#[test]
fn interstitials_of_interstitials_end() {
    let interrupted = |by: &str| {
        let tag = format!("#EXT-X-TARGETDURATION:2\n#EXT-X-DATERANGE:ID=\"a\",X-ASSET-URI=\"{by}\"\n");
        media(&["1.m4s"]).replace("#EXT-X-TARGETDURATION:2\n", &tag)
    };
    let dir = folder(&[("init.mp4", "i"), ("1.m4s", "1")]);
    for depth in 0..8 {
        let list = interrupted(&format!("{}.m3u8", depth + 1));
        std::fs::write(dir.path().join(format!("{depth}.m3u8")), list).unwrap();
    }
    let only = read(&dir.path().join("0.m3u8"), &Options::default()).unwrap();
    assert_eq!(paths(&only), ["0.m3u8", "1.m3u8", "1.m4s", "2.m3u8", "3.m3u8", "4.m3u8", "init.mp4"]);
}

#[test]
fn long_manifests_and_deep_folders_are_left_out() {
    let list = media(&["1.m4s"]);
    let dir = folder(&[("l.m3u8", &list), ("long.m3u8", &list), ("init.mp4", "i"), ("1.m4s", "1")]);
    let long = std::fs::File::options().write(true).open(dir.path().join("long.m3u8")).unwrap();
    long.set_len(MAX_MANIFEST_BYTES + 1).unwrap();
    for folders in [16, 17] {
        let folder = dir.path().join("d/".repeat(folders));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("l.m3u8"), "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-ENDLIST\n").unwrap();
    }
    let inventory = read_dir(&dir);
    assert_eq!(reasons(&inventory), [("not_understood", "long.m3u8")]);
    let manifests: Vec<&str> = inventory.presentations.iter().map(|it| it.manifest.as_str()).collect();
    assert_eq!(manifests, ["l.m3u8", format!("{}l.m3u8", "d/".repeat(16)).as_str()]);
    long.set_len(list.len() as u64).unwrap();
    assert_eq!(read_dir(&dir).presentations.len(), 3, "it is short again");
}

/// A sparse file takes no room, and would take hours to hash.
#[test]
fn a_file_that_is_longer_than_receivers_take_is_left_out_by_its_length() {
    let list = media(&["1.m4s", "2.m4s"]);
    let dir = folder(&[("l.m3u8", &list), ("init.mp4", "i"), ("1.m4s", "1"), ("2.m4s", "2")]);
    let lengths = |length: u64| {
        let long = std::fs::File::options().write(true).open(dir.path().join("2.m4s")).unwrap();
        long.set_len(length).unwrap();
        read_dir(&dir)
    };
    let inventory = lengths(carousel::limits::MAX_OBJECT_BYTES + 1);
    assert_eq!(paths(&inventory), ["1.m4s", "init.mp4", "l.m3u8"]);
    assert_eq!(reasons(&inventory), [("too_long", "2.m4s")]);
    let problem = inventory.problems.iter().find(|it| it.place == "2.m4s").expect("it is named");
    assert!(problem.what.contains("17179869185 bytes"), "{problem}");
    assert!(LeftOutReason::TooLong.is_fault());
    let inventory = lengths(carousel::limits::MAX_OBJECT_BYTES);
    assert_eq!(paths(&inventory).len(), 4);
    // Without a manifest too.
    let options = Options { include_unreferenced: true, ..Options::default() };
    let dir = folder(&[("film.mp4", "x"), ("short.mp4", "x")]);
    std::fs::File::options().write(true).open(dir.path().join("film.mp4")).unwrap().set_len(1 << 41).unwrap();
    assert_eq!(paths(&read(dir.path(), &options).unwrap()), ["short.mp4"]);
}

#[test]
fn problems_are_listed_up_to_a_bound() {
    let many: Vec<String> = (0..10_100).map(|number| format!("{number}.m4s")).collect();
    let names: Vec<&str> = many.iter().map(String::as_str).collect();
    let dir = folder(&[("l.m3u8", &media(&names)), ("init.mp4", "i"), ("0.m4s", "0")]);
    let inventory = read_dir(&dir);
    assert_eq!((inventory.problems.len(), inventory.left_out.len()), (1000, 10_000));
    assert_eq!(inventory.left_out.iter().map(|it| it.count).sum::<usize>(), 10_099, "all are counted");
}

#[test]
fn broken_media_are_left_to_the_origin() {
    let list = media(&["1.m4s", "2.m4s", "3.m4s", "4.m4s", "5.m4s"]);
    let mut ts = vec![0x47; 188];
    ts.resize(376, 0x47);
    let dir = folder(&[
        ("l.m3u8", &list),
        ("init.mp4", "i"),
        ("1.m4s", SEGMENT),
        ("2.m4s", ""),
        ("3.m4s", &SEGMENT[..SEGMENT.len() - 1]),
        ("4.m4s", "<!DOCTYPE html><p>404"),
    ]);
    std::fs::write(dir.path().join("5.m4s"), ts).unwrap();
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["1.m4s", "init.mp4", "l.m3u8"]);
    assert_eq!(
        reasons(&inventory),
        [("empty", "2.m4s"), ("cut", "3.m4s"), ("not_media", "4.m4s"), ("wrong_container", "5.m4s")]
    );
    assert_eq!((inventory.faults(), inventory.unreferenced), (4, 0));
    assert_eq!(inventory.problems[0].place, "l.m3u8:7");
}

#[test]
fn old_segments_of_live_are_left_out() {
    let window = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:8\n#EXTINF:2,\nv-8.m4s\n#EXTINF:2,\nv-9.m4s\n";
    let dir = folder(&[
        ("live.m3u8", window),
        ("v-8.m4s", "8"),
        ("v-9.m4s", "9"),
        ("v-7.m4s", "7"),
        ("v-6.m4s", "6"),
        ("x.txt", "x"),
    ]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["live.m3u8", "v-8.m4s", "v-9.m4s"]);
    assert_eq!(reasons(&inventory), [("old_segment", "v-6.m4s")]);
    assert_eq!((inventory.left_out[0].count, inventory.unreferenced, inventory.faults()), (2, 1, 0));
}

#[test]
fn a_live_template_carries_its_window() {
    let mpd = r#"<MPD type="dynamic" availabilityStartTime="2027-01-15T07:00:00Z" timeShiftBufferDepth="PT4S"><Period start="PT0S"><AdaptationSet>
        <SegmentTemplate duration="2" media="v-$Number%05d$.m4s?s=1"/><Representation id="1"/></AdaptationSet></Period></MPD>"#;
    let names: Vec<String> = (1790..1806).map(|number| format!("v-{number:05}.m4s")).collect();
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "s")).collect();
    files.push(("live.mpd", mpd));
    let dir = folder(&files);
    let now = WallTime::from_unix_ms(1_800_000_000_000);
    let inventory = read(dir.path(), &Options { now: Some(now), ..Options::default() }).unwrap();
    assert_eq!(inventory.presentations[0].rungs[0].segments, &names[7..15]);
    assert_eq!((inventory.left_out[0].count, inventory.unreferenced), (8, 0));
    assert_eq!(inventory.ignored_query, IgnoredQuery::Names(vec!["s".into()]));
    // With a clock that is wrong altogether, and of a packager that has stopped, the newest are what there is.
    let now = WallTime::from_unix_ms(0);
    let inventory = read(dir.path(), &Options { now: Some(now), ..Options::default() }).unwrap();
    assert_eq!(inventory.presentations[0].rungs[0].segments, &names[12..]);
    let old = std::fs::File::options().append(true).open(dir.path().join("v-01805.m4s")).unwrap();
    old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(86_400)).unwrap();
    let inventory = read(dir.path(), &Options { now: Some(now), ..Options::default() }).unwrap();
    assert_eq!(
        inventory.presentations[0].rungs[0].segments,
        &names[11..15],
        "not what an earlier run has left"
    );
}

#[test]
fn half_manifests_do_not_replace_complete_ones() {
    let list = |from: usize, to: usize| {
        let list: String = (from..to).map(|at| format!("#EXTINF:2,\n{at}.ts\n")).collect();
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n{list}")
    };
    let dir = folder(&[("l.m3u8", &list(1, 4)), ("1.ts", "1"), ("2.ts", "2"), ("3.ts", "3"), ("4.ts", "4")]);
    let following = Options { is_following: true, ..Options::default() };
    let mut reader = Reader::new(dir.path(), following).unwrap();
    let mut sent = |text: &str| {
        std::fs::write(dir.path().join("l.m3u8"), text).unwrap();
        let inventory = reader.read().unwrap();
        let object = &inventory.objects["l.m3u8"];
        (String::from_utf8(object.bytes.clone().unwrap().to_vec()).unwrap(), inventory.is_unsettled)
    };
    assert_eq!(sent(&list(1, 4)), (list(1, 4), false));
    assert_eq!(sent(""), (list(1, 4), true));
    assert_eq!(sent("#EXTM3U\n#EXTINF:2,\n"), (list(1, 4), true), "cut in the middle");
    assert_eq!(sent(&list(1, 3)), (list(1, 4), true), "cut between lines: it goes backwards");
    assert_eq!(sent(&list(2, 6)), (list(1, 4), true), "5.ts is not there yet");
    assert_eq!(sent(&list(2, 5)), (list(2, 5), false));
}

/// Sets the time of a file, in seconds before now.
fn age(dir: &tempfile::TempDir, name: &str, seconds: u64) {
    let file = std::fs::File::options().append(true).open(dir.path().join(name)).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
}

/// FFmpeg's HLS muxer, killed and started again in its folder: its numbers begin at 0, and it writes a playlist every segment.
#[test]
fn a_playlist_of_a_packager_that_has_restarted_goes_back() {
    let list = |from: usize, to: usize| {
        let list: String = (from..to).map(|at| format!("#EXTINF:2,\n{at}.ts\n")).collect();
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n{list}")
    };
    // Of the second run: first and end of its playlist, whether it has written the segments itself, age of the playlist of the first.
    for (from, to, is_its_own, age_s, is_carried) in [
        (0, 1, true, 1, true),
        (0, 3, true, 1, true),
        (3, 5, true, 1, true),
        (3, 5, false, 1, false),
        (0, 1, false, 1, false),
        (0, 2, false, 9, true),
        (3, 5, false, 9, false),
        (0, 0, true, 9, false),
    ] {
        let names: Vec<String> = (0..6).map(|at| format!("{at}.ts")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "s")).collect();
        let old = list(3, 6);
        let dir = folder(&[&files[..], &[("l.m3u8", old.as_str())]].concat());
        names.iter().for_each(|name| age(&dir, name, 20));
        age(&dir, "l.m3u8", age_s);
        let following = Options { is_following: true, ..Options::default() };
        let mut reader = Reader::new(dir.path(), following).unwrap();
        let mut text = || {
            let inventory = reader.read().unwrap();
            String::from_utf8(inventory.objects["l.m3u8"].bytes.clone().unwrap().to_vec()).unwrap()
        };
        assert_eq!(text(), old);
        if is_its_own {
            names[from..to].iter().for_each(|name| std::fs::write(dir.path().join(name), "new").unwrap());
        }
        let new = list(from, to);
        std::fs::write(dir.path().join("l.m3u8"), &new).unwrap();
        let expected = if is_carried { &new } else { &old };
        assert_eq!(&text(), expected, "{from}..{to}, {is_its_own}, {age_s} s");
    }
}

/// FFmpeg's DASH muxer by numbers, killed and started again in its folder: segments of the first run have numbers that are just ahead.
#[test]
fn segments_of_an_earlier_run_are_not_those_of_a_live_template() {
    let now = WallTime::from_unix_ms(
        i64::try_from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
        )
        .unwrap(),
    );
    let time = |ms: i64| now.plus_ms(ms).to_xml();
    // Seconds since the second run began, by how much the packager's clock is ahead, segments that it has written; what is carried.
    for (run_s, ahead_s, written, expected) in [
        (1, 0, 0, vec![]),
        (5, 0, 2, vec!["v-1.m4s", "v-2.m4s"]),
        (5, 60, 2, vec!["v-1.m4s", "v-2.m4s"]),
        // Segments that are available by the packager's clock alone.
        (15, 60, 7, vec!["v-1.m4s", "v-2.m4s", "v-3.m4s", "v-4.m4s", "v-5.m4s", "v-6.m4s", "v-7.m4s"]),
        // Their times are those of their originals.
        (
            12,
            0,
            0,
            vec!["v-1.m4s", "v-2.m4s", "v-3.m4s", "v-4.m4s", "v-5.m4s", "v-6.m4s", "v-7.m4s", "v-8.m4s"],
        ),
    ] {
        let mpd = format!(
            r#"<MPD type="dynamic" availabilityStartTime="{}" publishTime="{}"><Period start="PT0S"><AdaptationSet>
            <SegmentTemplate duration="2" startNumber="1" media="v-$Number$.m4s"/><Representation id="1"/></AdaptationSet></Period></MPD>"#,
            time((ahead_s - run_s) * 1000),
            time(ahead_s * 1000),
        );
        let names: Vec<String> = (1..9).map(|at| format!("v-{at}.m4s")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "s")).collect();
        let dir = folder(&[&files[..], &[("x.mpd", mpd.as_str())]].concat());
        names[written..].iter().for_each(|name| age(&dir, name, 20));
        let inventory = read_dir(&dir);
        let segments: Vec<&str> =
            inventory.presentations[0].rungs[0].segments.iter().map(String::as_str).collect();
        assert_eq!(segments, expected, "{run_s} s, {ahead_s} s ahead, {written} written");
    }
}

#[test]
fn manifests_without_an_extension_and_folders_behind_links_are_read() {
    let elsewhere = folder(&[("1.m4s", "1"), ("init.mp4", "i")]);
    let dir =
        folder(&[("stream", &media(&["v/1.m4s"]).replace("init.mp4", "v/init.mp4")), ("README", "text")]);
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("v")).unwrap();
    std::os::unix::fs::symlink(dir.path(), elsewhere.path().join("loop")).unwrap();
    // It leads out of the source: only where the configuration says so.
    assert_eq!(paths(&read_dir(&dir)), ["stream"]);
    let links_to = vec![elsewhere.path().to_owned()];
    let inventory = read(dir.path(), &Options { links_to, ..Options::default() }).unwrap();
    assert_eq!(paths(&inventory), ["stream", "v/1.m4s", "v/init.mp4"]);
    assert_eq!(inventory.objects["stream"].content_type, "application/vnd.apple.mpegurl");
}

#[test]
fn nobody_is_told_to_broadcast_keys() {
    let list = media(&["1.m4s"]).replace("#EXTINF", "#EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\n#EXTINF");
    let dir =
        folder(&[("l.m3u8", &list), ("init.mp4", INIT), ("1.m4s", "0123456789abcdef"), ("other.key", "k")]);
    let inventory = read_dir(&dir);
    assert_eq!((inventory.problems.len(), inventory.faults()), (0, 0), "{:?}", inventory.problems);
    let all = Options { include_unreferenced: true, ..Options::default() };
    assert!(!read(dir.path(), &all).unwrap().objects.contains_key("other.key"));
    std::fs::write(dir.path().join("k.key"), "0123456789abcdef").unwrap();
    assert!(read_dir(&dir).problems[0].what.contains("everybody has it"));
}

/// A file and a reference to it, spelled in one of the ways that manifests have.
fn reference() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    // Not with a comma in front: `m3u8-rs` takes a comma behind the line of an EXTINF for its end.
    let name = "[a-zA-Z0-9ä_~+\\[\\]^|&=;@'()!-][a-zA-Z0-9ä %_~+\\[\\]^|&=,;@'()!-]{0,6}(%41|%2[bB]|%C3%A4|%2F[a-z]|%)?\\.(ts|m4s)";
    let prefix = prop_oneof![
        Just(""),
        Just("./"),
        Just("sub dir/"),
        Just("sub%20dir/../"),
        Just("/v/"),
        Just("https://cdn.example.com/v/"),
        Just("HTTP://CDN.example.com:443/v/x/../"),
        Just("//cdn.example.com/v/"),
    ];
    let query = prop_oneof![Just(""), Just("?session=a"), Just("?session=a&t=%7E1"), Just("?")];
    (prefix, name, query).prop_map(|(prefix, name, query)| format!("{prefix}{name}{query}"))
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]

    /// The URIs that an independent reader of the playlist asks for, resolved and encoded as a browser does it, are on the air.
    #[test]
    fn an_independent_reader_asks_for_what_is_on_the_air(
        references in proptest::collection::btree_set(reference(), 1..6),
        variable in proptest::option::of("[a-z]{1,4}"),
    ) {
        let base = url::Url::parse("https://cdn.example.com/v/l.m3u8").unwrap();
        let dir = tempfile::tempdir().unwrap();
        // The files are where a server of files would look for what a browser asks for.
        for reference in &references {
            let asked = base.join(reference).unwrap();
            let below = asked.path().strip_prefix("/v/").unwrap();
            // File systems here have names in UTF-8, and none with a NUL.
            let decoded = percent_encoding::percent_decode_str(below).decode_utf8();
            let Some(path) = decoded.ok().filter(|path| !path.contains('\0')) else { return Ok(()) };
            let path = path.into_owned();
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "s").unwrap();
        }
        let list: String = references.iter().map(|reference| format!("#EXTINF:2,\n{reference}\n")).collect();
        let define = variable.map_or_else(String::new, |it| format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{it}\"\n"));
        let text = format!("#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:2\n{define}{list}#EXT-X-ENDLIST\n");
        std::fs::write(dir.path().join("l.m3u8"), &text).unwrap();
        let inventory = read(dir.path(), &options("https://cdn.example.com/v/")).unwrap();
        proptest::prop_assert_eq!(inventory.faults(), 0, "{:?}", inventory.problems);
        let key = |name: &str| carousel::ObjectKey::from_name(name, None).unwrap().to_string();
        let on_air: std::collections::BTreeSet<String> =
            inventory.objects.keys().map(|path| key(&format!("https://cdn.example.com/v/{path}"))).collect();
        let read = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        let mut asked: std::collections::BTreeSet<String> = read
            .segments
            .iter()
            .map(|segment| inventory.ignored_query.strip(&key(base.join(&segment.uri).unwrap().as_str())))
            .collect();
        asked.insert("cdn.example.com/v/l.m3u8".to_owned());
        proptest::prop_assert_eq!(asked, on_air);
    }
}
