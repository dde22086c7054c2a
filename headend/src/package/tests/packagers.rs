//! Packages as packagers and people write them, and neighbouring forms that were not seen yet.

use super::*;

fn whats(inventory: &Inventory) -> Vec<&str> {
    inventory.problems.iter().map(|it| it.what.as_str()).collect()
}

#[test]
fn a_master_that_is_opened_with_a_token_of_its_own_is_carried() {
    let master =
        "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-STREAM-INF:BANDWIDTH=9\nv.m3u8?token={$token}\n";
    let list = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n1.ts?token={$token}\n#EXT-X-ENDLIST\n";
    let import = list.replace("QUERYPARAM", "IMPORT");
    for list in [list, &import] {
        let dir = folder(&[("m.m3u8", master), ("v.m3u8", list), ("1.ts", "1")]);
        let inventory = read_dir(&dir);
        assert_eq!(paths(&inventory), ["1.ts", "m.m3u8", "v.m3u8"]);
        assert_eq!((inventory.faults(), inventory.presentations.len()), (0, 1), "{:?}", inventory.problems);
        assert_eq!(inventory.ignored_query, IgnoredQuery::Names(vec!["token".into()]));
    }
}

#[test]
fn paths_from_the_servers_root_want_the_folders_url() {
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/vod/film/v/1.ts\n#EXTINF:2,\n/vod/film/v/2.ts\n#EXT-X-ENDLIST\n";
    let dir = folder(&[("l.m3u8", list), ("v/1.ts", "1"), ("v/2.ts", "2")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["l.m3u8", "v/1.ts", "v/2.ts"]);
    assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
    assert!(inventory.problems[0].fix.contains("--base"));
    let right = read(dir.path(), &options("https://cdn.example.com/vod/film/")).unwrap();
    assert_eq!((paths(&right), right.problems.len()), (vec!["l.m3u8", "v/1.ts", "v/2.ts"], 1));
    assert!(right.problems[0].fix.contains("relative to the manifest"), "{:?}", right.problems);
    let wrong = read(dir.path(), &options("https://cdn.example.com/vod/other/")).unwrap();
    assert_eq!(paths(&wrong), ["l.m3u8"]);
    assert!(
        whats(&wrong)[0].contains("if the folder's URL is https://cdn.example.com/vod/film/,"),
        "{:?}",
        whats(&wrong)
    );
}

#[test]
fn paths_of_the_packagers_machine_are_told_and_counted() {
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///srv/out/1.ts\n#EXTINF:2,\nC:/out/2.ts\n#EXTINF:2,\n3.ts\n#EXT-X-ENDLIST\n";
    let dir = folder(&[("l.m3u8", list), ("1.ts", "1"), ("2.ts", "2"), ("3.ts", "3")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["3.ts", "l.m3u8"]);
    assert_eq!(reasons(&inventory), [("missing", "file:///srv/out/1.ts"), ("missing", "C:/out/2.ts")]);
    assert_eq!((inventory.faults(), inventory.unreferenced), (2, 2));
    assert!(whats(&inventory).iter().all(|it| it.contains("packager's machine")));
}

#[test]
fn names_in_other_capitals_are_told_and_other_normal_forms_are_the_same_name() {
    let list = media(&["Seg-1.M4S", "b\u{e4}r.m4s", "%C3%A9.m4s"]);
    let files = [("init.mp4", INIT), ("seg-1.m4s", "1"), ("ba\u{308}r.m4s", "2"), ("e\u{301}.m4s", "3")];
    let dir = folder(&[&[("l.m3u8", list.as_str())][..], &files].concat());
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["%C3%A9.m4s", "b%C3%A4r.m4s", "init.mp4", "l.m3u8"]);
    assert!(inventory.objects["b%C3%A4r.m4s"].file.ends_with("ba\u{308}r.m4s"));
    assert_eq!(
        whats(&inventory),
        ["Seg-1.M4S is missing; seg-1.m4s is there, which is another name in capitals"]
    );
    // The other way round.
    let dir = folder(&[("l.m3u8", &media(&["ba\u{308}r.m4s"])), ("init.mp4", INIT), ("b\u{e4}r.m4s", "2")]);
    assert_eq!(paths(&read_dir(&dir)), ["ba%CC%88r.m4s", "init.mp4", "l.m3u8"]);
}

#[test]
fn thumbnails_are_segments() {
    let mpd = r#"<MPD mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="image/png"><Representation id="t">
        <SegmentTemplate duration="2" media="t-$Number$.png"/></Representation></AdaptationSet></Period></MPD>"#;
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-IMAGES-ONLY\n#EXTINF:2,\nt-1.png\n#EXT-X-ENDLIST\n";
    let png = "\u{89}PNG";
    let dir = folder(&[("x.mpd", mpd), ("t.m3u8", list), ("t-1.png", png), ("t-2.png", png)]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["t-1.png", "t-2.png", "t.m3u8", "x.mpd"]);
    assert_eq!(inventory.problems, []);
}

/// Shaka Packager 3.8.0 with `--base_urls`.
#[test]
fn a_base_that_is_percent_encoded_is_told_and_read_as_players_read_it() {
    let mpd = r#"<MPD mediaPresentationDuration="PT4S"><BaseURL>https%3A%2F%2Fcdn.example.com%2Fx%2F</BaseURL><Period><AdaptationSet><Representation id="v">
        <SegmentTemplate duration="2" media="v-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#;
    let dir = folder(&[("x.mpd", mpd), ("v-1.m4s", "1"), ("v-2.m4s", "2")]);
    let inventory = read_dir(&dir);
    assert_eq!(paths(&inventory), ["v-1.m4s", "v-2.m4s", "x.mpd"]);
    assert_eq!(inventory.problems.len(), 1);
    assert!(whats(&inventory)[0].contains("is percent-encoded"));
}

#[test]
fn a_segment_of_unknown_duration_is_one() {
    let list =
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:-1,Radio\n1.ts\n#EXTINF: 2.5 ,\n2.ts\n#EXT-X-ENDLIST\n";
    let dir = folder(&[("l.m3u8", list), ("1.ts", "1"), ("2.ts", "2")]);
    let inventory = read_dir(&dir);
    assert_eq!(
        (paths(&inventory), inventory.presentations[0].duration_s),
        (vec!["1.ts", "2.ts", "l.m3u8"], Some(2.5))
    );
}

/// The source is below one of the BaseURLs of the MPD, which only a deeper level leads to.
#[test]
fn a_base_around_the_sources_is_taken_where_a_deeper_one_leads_below_it() {
    let mpd = r#"<MPD mediaPresentationDuration="PT2S"><BaseURL>https://cdn-a.example.net/</BaseURL><BaseURL>https://cdn.example.com/</BaseURL>
        <Period><BaseURL>vod/</BaseURL><AdaptationSet><Representation id="v"><BaseURL>film/v.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#;
    let dir = folder(&[("x.mpd", mpd), ("v.mp4", "v")]);
    let inventory = read(dir.path(), &options("https://cdn.example.com/vod/film/")).unwrap();
    assert_eq!((paths(&inventory), inventory.problems.len()), (vec!["v.mp4", "x.mpd"], 0));
}

/// FFmpeg with a folder in `-hls_segment_filename` writes the names alone; `%41` in a file's name is a percent sign.
#[test]
fn files_that_must_be_meant_are_named() {
    let mpd = r#"<MPD mediaPresentationDuration="PT2S"><Period><AdaptationSet><Representation id="v">
        <SegmentTemplate duration="2" media="s %41-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#;
    let list = media(&["1.m4s"]);
    let dir = folder(&[
        ("x.mpd", mpd),
        ("s %41-1.m4s", "1"),
        ("h/l.m3u8", &list),
        ("h/seg/1.m4s", "1"),
        ("h/init.mp4", INIT),
    ]);
    let inventory = read_dir(&dir);
    assert_eq!(
        whats(&inventory),
        [
            "s A-1.m4s is missing; s %41-1.m4s is there, whose name is percent-encoded literally",
            "h/1.m4s is missing; h/seg/1.m4s is there, in a folder that the manifest does not name"
        ]
    );
    assert_eq!(inventory.faults(), 2);
}
