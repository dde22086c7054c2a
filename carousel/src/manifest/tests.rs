use super::*;

fn listed(text: &str, url: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    segments(text.as_bytes(), url, &mut |segment| {
        all.push((segment.list, segment.url.to_owned()));
        true
    });
    all
}

fn fresh_ms(text: &str) -> Option<u64> {
    Manifest::read(text.as_bytes()).unwrap().fresh_ms()
}

#[test]
fn live_playlists_are_fresh_for_half_of_the_time_after_which_they_change() {
    let live =
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:6,\na.ts\n#EXTINF:6,\nb.ts\n";
    assert_eq!(fresh_ms(live), Some(3000));
    assert_eq!(Manifest::read(live.as_bytes()).unwrap().last_sequence, Some(11));
    for vod in [&format!("{live}#EXT-X-ENDLIST\n"), &format!("{live}#EXT-X-PLAYLIST-TYPE:VOD\n")] {
        assert_eq!(fresh_ms(vod), None);
    }
    assert_eq!(
        fresh_ms("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-ENDLIST\n"),
        Some(3000),
        "no film has no segment"
    );
    assert_eq!(fresh_ms(&format!("{live}#EXT-X-PLAYLIST-TYPE:EVENT\n")), Some(3000));
    assert_eq!(fresh_ms(&format!("{live}#EXT-X-PART-INF:PART-TARGET=0.5\n")), Some(250));
    assert_eq!(fresh_ms("\u{feff}#EXTM3U\r\n#EXTINF:4.0,\r\nx.ts\r\n"), Some(2000));
    assert_eq!(fresh_ms("#EXTM3U\n"), Some(1000));
    assert_eq!(fresh_ms("#EXTM3U\n#EXT-X-TARGETDURATION:86400\n"), Some(30_000));
    assert_eq!(fresh_ms("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"), None);
}

#[test]
fn live_manifests_say_when_their_newest_segment_ends() {
    let end_ms = |text: &str| Manifest::read(text.as_bytes()).unwrap().end_ms;
    let list = |date: &str| {
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:4,\nb.ts\n\
             #EXTINF:2.5,\nc.ts\n"
        )
    };
    let ten = 1_795_946_400_000;
    for date in ["2026-11-29T10:00:00.000Z", "2026-11-29T11:00:00.000+0100", "2026-11-29T11:00:00+01:00"] {
        assert_eq!(end_ms(&list(date)), Some(ten + 6500), "{date}");
    }
    for date in ["now", "é+0100", "+1é0"] {
        assert_eq!(end_ms(&list(date)), None, "{date}");
    }
    assert_eq!(end_ms(&format!("{}#EXT-X-ENDLIST\n", list("2026-11-29T10:00:00Z"))), None);
    let mpd = |period: &str, timeline: &str| {
        format!(
            "<MPD type=\"dynamic\" availabilityStartTime=\"2026-11-29T10:00:00Z\"><Period {period}><AdaptationSet>\
             <SegmentTemplate timescale=\"10\" media=\"$Time$\" presentationTimeOffset=\"100\"><SegmentTimeline>{timeline}\
             </SegmentTimeline></SegmentTemplate><Representation id=\"a\"/></AdaptationSet></Period></MPD>"
        )
    };
    let timeline = "<S t=\"100\" d=\"20\" r=\"2\"/><S d=\"25\"/>";
    assert_eq!(end_ms(&mpd("", timeline)), Some(ten + 8500));
    assert_eq!(end_ms(&mpd("start=\"PT1M\"", timeline)), Some(ten + 68_500));
    assert_eq!(end_ms(&mpd("", timeline).replace("dynamic", "static")), None);
    assert_eq!(end_ms(&mpd("", "<S t=\"100\" d=\"20\" r=\"-1\"/>")), None, "the clock decides");
    // Of a second Period only its own start says when it begins.
    let two = |second: &str| mpd("", timeline).replace("</Period>", &format!("</Period><Period {second}/>"));
    assert_eq!(end_ms(&two("start=\"PT8.5S\"")), Some(ten + 8500));
    let late = mpd("", "")
        .replace("<Period >", "<Period></Period><Period>")
        .replace("<SegmentTimeline>", &format!("<SegmentTimeline>{timeline}"));
    assert_eq!(end_ms(&late), None);
}

#[test]
fn segments_say_which_timeline_lists_them() {
    let mpd = "<MPD><Period><AdaptationSet><SegmentTemplate media=\"a$Time$\"><SegmentTimeline><S d=\"1\"/></SegmentTimeline>\
               </SegmentTemplate><Representation id=\"1\"/><Representation id=\"2\"><SegmentTemplate><SegmentTimeline>\
               <S d=\"1\"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet></Period></MPD>";
    let mut timelines = Vec::new();
    segments(mpd.as_bytes(), "http://h/a.mpd", &mut |it| {
        timelines.push((it.list, it.timeline));
        true
    });
    assert_eq!(timelines, [(0, Some(0)), (1, Some(1))]);
}

#[test]
fn parts_and_skipped_segments_count() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MEDIA-SEQUENCE:100\n\
                #EXT-X-SKIP:SKIPPED-SEGMENTS=5\n#EXTINF:4,\na.mp4\n#EXT-X-PART:DURATION=1,URI=\"b.0.mp4\"\n\
                #EXT-X-PART:DURATION=1,URI=\"b.1.mp4\"\n";
    let manifest = Manifest::read(text.as_bytes()).unwrap();
    assert_eq!((manifest.last_sequence, manifest.last_part), (Some(105), Some(1)));
    assert_eq!(manifest.parts_of_last, 0);
    let whole = Manifest::read(format!("{text}#EXTINF:4,\nb.mp4\n").as_bytes()).unwrap();
    assert_eq!((whole.last_sequence, whole.last_part, whole.parts_of_last), (Some(106), None, 2));
    let hinted = format!(
        "{text}#EXT-X-PART:URI=\"c.mp4\",BYTERANGE=\"9@0\",DURATION=1\n#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"i.mp4\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"c.mp4\",BYTERANGE-START=9\n"
    );
    let mut all = Vec::new();
    parts(hinted.as_bytes(), "http://h/v/l.m3u8", &mut |it| {
        all.push((it.url.to_owned(), it.is_range));
        true
    });
    let named = |name: &str, is_range| (format!("http://h/v/{name}"), is_range);
    assert_eq!(
        all,
        [named("b.0.mp4", false), named("b.1.mp4", false), named("c.mp4", true), named("c.mp4", true)]
    );
}

#[test]
fn versions_of_a_playlist_stand_by_their_sequences_and_parts() {
    let of = |first: u64, segments: usize, parts: usize| {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        text.push_str(&"#EXTINF:2,\ns.mp4\n".repeat(segments));
        text.push_str(&"#EXT-X-PART:DURATION=1,URI=\"p\"\n".repeat(parts));
        Manifest::read(text.as_bytes()).unwrap()
    };
    let held = of(100, 5, 1);
    for (other, order) in [
        (of(101, 5, 0), VersionOrder::Newer),
        (of(101, 4, 2), VersionOrder::Newer),
        (of(98, 7, 1), VersionOrder::Same),
        (of(100, 5, 0), VersionOrder::Older),
        (of(96, 5, 0), VersionOrder::Older),
        (of(91, 5, 0), VersionOrder::Older),
        (of(90, 5, 0), VersionOrder::MuchOlder),
        (of(0, 1, 0), VersionOrder::MuchOlder),
        (of(0, 0, 0), VersionOrder::MuchOlder),
    ] {
        assert_eq!(other.compare_version(&held), order, "{other:?}");
    }
    let variants = Manifest::read(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n").unwrap();
    assert_eq!(variants.compare_version(&held), VersionOrder::Unknown);
}

#[test]
fn versions_of_an_mpd_stand_by_their_publish_times() {
    let of = |time: &str| {
        let text = format!("<MPD type=\"dynamic\" maxSegmentDuration=\"PT2S\" {time}/>");
        Manifest::read(text.as_bytes()).unwrap()
    };
    let held = of("publishTime=\"2026-11-29T10:00:30.5Z\"");
    assert_eq!(held.publish_time_ms, Some(1_795_946_430_500));
    for (time, order) in [
        ("publishTime=\"2026-11-29T10:00:31Z\"", VersionOrder::Newer),
        ("publishTime=\"2026-11-29T11:00:30.500+01:00\"", VersionOrder::Same),
        ("publishTime=\"2026-11-29T10:00:30Z\"", VersionOrder::Older),
        ("publishTime=\"2026-11-29T10:00:10.501Z\"", VersionOrder::Older),
        ("publishTime=\"2026-11-29T10:00:10.5Z\"", VersionOrder::MuchOlder),
        ("", VersionOrder::Unknown),
        ("publishTime=\"soon\"", VersionOrder::Unknown),
    ] {
        assert_eq!(of(time).compare_version(&held), order, "{time}");
    }
}

#[test]
fn live_mpds_are_fresh_for_half_of_their_update_period_or_of_a_segment() {
    let mpd = |attributes: &str, inside: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<!-- x --><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" {attributes}><Period>\
                 <AdaptationSet>{inside}</AdaptationSet></Period></MPD>"
        )
    };
    let by_number = "<SegmentTemplate timescale=\"1000\" duration=\"4000\" media=\"$Number$.m4s\"/>";
    let timeline = "<SegmentTemplate timescale=\"10\" media=\"$Time$.m4s\"><SegmentTimeline><S d=\"20\" r=\"4\"/>\
                    </SegmentTimeline></SegmentTemplate>";
    assert_eq!(fresh_ms(&mpd("type=\"dynamic\" minimumUpdatePeriod=\"PT2S\"", by_number)), Some(1000));
    assert_eq!(fresh_ms(&mpd("type='dynamic'", by_number)), Some(2000));
    assert_eq!(fresh_ms(&mpd("type=\"dynamic\" minimumUpdatePeriod=\"PT0S\"", by_number)), Some(2000));
    assert_eq!(fresh_ms(&mpd("type=\"dynamic\" minimumUpdatePeriod=\"PT30S\"", timeline)), Some(1000));
    assert_eq!(fresh_ms(&mpd("type=\"dynamic\" minimumUpdatePeriod=\"PT1H\"", by_number)), Some(30_000));
    assert_eq!(fresh_ms(&mpd("type=\"dynamic\" maxSegmentDuration=\"PT6S\"", "")), Some(3000));
    assert_eq!(fresh_ms(&mpd("type=\"static\"", by_number)), None);
    assert_eq!(fresh_ms("<m:MPD xmlns:m=\"urn:x\" type=\"dynamic\"/>"), Some(1000));
}

#[test]
fn steering_manifests_are_live_and_other_texts_are_no_manifests() {
    assert_eq!(
        fresh_ms("{\"VERSION\":1,\"TTL\":300,\"RELOAD-URI\":\"x\",\"PATHWAY-PRIORITY\":[\"a\"]}"),
        Some(150_000)
    );
    for text in ["", "G@", "{\"TTL\":5}", "<html></html>", "<svg/>", "EXTM3U", "<MP"] {
        assert_eq!(Manifest::read(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Manifest::read(&vec![b'#'; MAX_MANIFEST_BYTES + 1]), None);
}

#[test]
fn an_mpd_is_known_by_its_root_whatever_stands_before_it() {
    let mpd = "<MPD type='dynamic' minimumUpdatePeriod='PT6S'><BaseURL>a&#47;b/</BaseURL><Period><AdaptationSet>\
               <SegmentTemplate media='$Number$' duration='2'><SegmentTimeline><S t='0' d='6'/></SegmentTimeline></SegmentTemplate>\
               <Representation id='a'/></AdaptationSet></Period></MPD>";
    for before in [
        "",
        "\u{feff}\r\n",
        "<?xml version='1.0'?>\n<!-- MPD file Generated with GPAC version 2.4 -->\n",
        "<?xml version='1.0'?><?xml-stylesheet href='DASH-MPD.xsl'?>",
        "<!DOCTYPE MPD [<!ENTITY a \"]>\"><!ELEMENT MPD ANY>]>",
        "<!DOCTYPE MPD [<!-- don't ] > -->]>",
        "<!DOCTYPE MPD [<?x don't ] > ?><!ENTITY a '<!-- '>]>",
        "<!DOCTYPE MPD SYSTEM '>'><!-- <a> --><!-- <MPD> -->",
    ] {
        let document = format!("{before}{mpd}");
        assert_eq!(local_root(document.as_bytes()), Some(&b"MPD"[..]), "{before}");
        assert_eq!(fresh_ms(&document), Some(3000), "{before}");
        assert_eq!(listed(&document, "http://h/x")[0].1, "http://h/a/b/1", "{before}");
    }
    assert_eq!(fresh_ms("<a:MPD type='dynamic'/>"), Some(1000));
    for other in ["<!-- <MPD> --><html>", "<html><MPD>", "<!DOCTYPE MPD [<MPD>", "<MPD"] {
        assert_eq!(Manifest::read(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn bytes_that_are_no_utf8_change_no_facts() {
    // A title of the radio in Latin-1.
    let list = b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:4\n#EXTINF:6,Chlo\xe9\na.ts\n";
    let read = Manifest::read(list).unwrap();
    assert_eq!((read.fresh_ms(), read.last_sequence), (Some(3000), Some(4)));
    let mut of_list = Vec::new();
    segments(list, "http://h/x", &mut |it| {
        of_list.push(it.url.to_owned());
        true
    });
    assert_eq!(of_list, ["http://h/a.ts"]);
    let mpd = b"<?xml version='1.0' encoding='ISO-8859-1'?><MPD type='dynamic'><!-- \xe9 --></MPD>";
    assert_eq!(Manifest::read(mpd).unwrap().fresh_ms(), Some(1000));
}

#[test]
fn playlists_list_their_segments_in_order() {
    let text = "#EXTM3U\n#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\n../v/1.m4s?t=a#x\n#EXTINF:2,\n#EXT-X-BYTERANGE:9@0\n/all.m4s\n";
    let mut ranges = Vec::new();
    segments(text.as_bytes(), "http://h/a/p/l.m3u8?q", &mut |it| {
        ranges.push((it.url.to_owned(), it.is_range));
        true
    });
    assert_eq!(ranges, [("http://h/a/v/1.m4s?t=a".to_owned(), false), ("http://h/all.m4s".to_owned(), true)]);
    assert_eq!(listed("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n", "http://h/m.m3u8"), []);
}

#[test]
fn a_timeline_that_repeats_to_the_end_of_its_period_counts_from_its_offset() {
    let text = "<MPD type=\"static\" mediaPresentationDuration=\"PT6S\"><Period><Representation id=\"v\">\
        <SegmentTemplate timescale=\"10\" presentationTimeOffset=\"1000\" media=\"$Number$-$Time$.m4s\"><SegmentTimeline>\
        <S t=\"1000\" d=\"20\" r=\"-1\"/></SegmentTimeline></SegmentTemplate></Representation></Period></MPD>";
    let urls = |text: &str| listed(text, "http://h/x.mpd").into_iter().map(|it| it.1).collect::<Vec<_>>();
    assert_eq!(urls(text), ["http://h/1-1000.m4s", "http://h/2-1020.m4s", "http://h/3-1040.m4s"]);
    let from_zero = text.replace(" presentationTimeOffset=\"1000\"", "").replace("t=\"1000\" ", "");
    assert_eq!(urls(&from_zero), ["http://h/1-0.m4s", "http://h/2-20.m4s", "http://h/3-40.m4s"]);
}

#[test]
fn mpds_list_what_their_templates_timelines_and_lists_say() {
    let text = "<MPD type=\"static\" mediaPresentationDuration=\"PT10S\"><BaseURL>v/?a&amp;b</BaseURL><BaseURL>w/</BaseURL><Period>\
        <AdaptationSet><SegmentTemplate timescale=\"2\" duration=\"8\" startNumber=\"7\" media=\"$RepresentationID$/$Number%03d$.m4s\"/>\
        <Representation id=\"a\" bandwidth=\"5\"/><Representation id=\"b\"><BaseURL>http://k/x/</BaseURL></Representation></AdaptationSet>\
        <AdaptationSet><Representation id=\"c\" bandwidth=\"9\"><SegmentTemplate media=\"c-$Bandwidth$-$Time$.m4s\"><SegmentTimeline>\
        <S t=\"3\" d=\"2\" r=\"1\"/><S d=\"5\"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet>\
        <AdaptationSet><Representation id=\"d\"><SegmentList><SegmentURL media=\"d1.m4s\"/><SegmentURL media=\"d2.m4s\"/>\
        </SegmentList></Representation></AdaptationSet></Period></MPD>";
    let all = listed(text, "http://h/f/x.mpd");
    let urls =
        |list: usize| -> Vec<&str> { all.iter().filter(|it| it.0 == list).map(|it| it.1.as_str()).collect() };
    assert_eq!(urls(0), ["http://h/f/v/a/007.m4s", "http://h/f/v/a/008.m4s", "http://h/f/v/a/009.m4s"]);
    assert_eq!(urls(1)[0], "http://k/x/b/007.m4s");
    assert_eq!(urls(2), ["http://h/f/v/c-9-3.m4s", "http://h/f/v/c-9-5.m4s", "http://h/f/v/c-9-7.m4s"]);
    assert_eq!(urls(3), ["http://h/f/v/d1.m4s", "http://h/f/v/d2.m4s"]);
    let live = text.replace("static", "dynamic");
    assert!(listed(&live, "http://h/x.mpd").iter().all(|it| it.0 >= 2), "no clock, no numbers");
    let mut examples = Vec::new();
    names(live.as_bytes(), "http://h/f/x.mpd", &mut |it| {
        examples.push((it.list, it.url.to_owned()));
        true
    });
    let of =
        |list: usize| examples.iter().filter(|it| it.0 == list).map(|it| it.1.as_str()).collect::<Vec<_>>();
    assert_eq!((of(0), of(1)), (vec!["http://h/f/v/a/007.m4s"], vec!["http://k/x/b/007.m4s"]));
    assert_eq!(of(2).len(), 3);
}

#[test]
fn hostile_manifests_end() {
    let endless = "<MPD type=\"static\"><Period><Representation><SegmentTemplate media=\"$Number$\"><SegmentTimeline>\
                   <S d=\"1\" r=\"9223372036854775807\"/></SegmentTimeline></SegmentTemplate></Representation></Period></MPD>";
    assert_eq!(listed(endless, "http://h/").len(), MAX_SEGMENTS);
    // Whoever wants the facts, or one name of each pattern, does not count to 2 to the power of 63 either.
    assert_eq!(Manifest::read(endless.as_bytes()).unwrap().kind, ManifestKind::Dash);
    let mut visited = 0;
    names(endless.as_bytes(), "http://h/", &mut |_| {
        visited += 1;
        true
    });
    assert_eq!(visited, MAX_SEGMENTS);
    let numbers = "<MPD mediaPresentationDuration=\"P999999999Y\"><Period><Representation><SegmentTemplate duration=\"1\" \
                   timescale=\"18446744073709551615\" media=\"$Number$\"/></Representation></Period></MPD>";
    assert_eq!(listed(numbers, "http://h/").len(), MAX_SEGMENTS);
    for (around, entry) in [
        (
            "<SegmentTemplate media=\"$Number$\"><SegmentTimeline>|</SegmentTimeline></SegmentTemplate>",
            "<S d=\"1\"/>",
        ),
        ("<SegmentList>|</SegmentList>", "<SegmentURL media=\"a\"/>"),
    ] {
        let entries = |count: usize| {
            let inside = around.replace('|', &entry.repeat(count));
            let text = format!("<MPD><Period><Representation>{inside}</Representation></Period></MPD>");
            listed(&text, "http://h/").len()
        };
        assert_eq!(entries(MAX_TIMELINE - 1), MAX_TIMELINE - 1, "{entry}");
        assert_eq!(entries(MAX_TIMELINE + 1), MAX_TIMELINE, "{entry}");
    }
    let deep = "<a>".repeat(100);
    assert_eq!(Manifest::read(format!("<MPD>{deep}").as_bytes()), None);
}

#[test]
fn long_manifests_are_skimmed() {
    let long = |start: &str, line: &str, end: &str| {
        format!("{start}{}{end}", line.repeat(MAX_MANIFEST_BYTES / line.len() + 1)).into_bytes()
    };
    let fresh = |bytes: &[u8]| {
        assert_eq!(Manifest::read(bytes), None);
        Manifest::skim(bytes).map(|it| (it.is_live, it.fresh_ms()))
    };
    let segment = "#EXTINF:5.9,\nsegment-with-a-long-name.ts?token=xxxxxxxxxxxxxxxxxxx\n";
    let head = "\u{feff}#EXTM3U\n#EXT-X-TARGETDURATION:6\n";
    assert_eq!(fresh(&long(head, segment, "")), Some((true, Some(3000))));
    assert_eq!(fresh(&long(head, segment, "#EXT-X-ENDLIST\n")), Some((false, None)));
    assert_eq!(fresh(&long(head, segment, "#EXT-X-ENDLIST")), Some((false, None)));
    let mpd = |attributes: &str| {
        let start = format!("<?xml version='1.0'?><!-- <MPD> --><m:MPD a='>' {attributes}><Period>");
        long(&start, "<SegmentURL media='1.m4s'/>", "</Period></m:MPD>")
    };
    assert_eq!(fresh(&mpd("type=\"dynamic\" minimumUpdatePeriod=\"PT4S\"")), Some((true, Some(2000))));
    assert_eq!(fresh(&mpd("type=\"static\"")), Some((false, None)));
    assert_eq!(fresh(&long("<html>", "<p>", "")), None);
    assert_eq!(fresh(&long("#EXTM3U", " ", "")), None, "no line ends");
}
