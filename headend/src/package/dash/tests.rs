use super::template::{TemplateValues, fill_template};
use super::*;
use carousel::xml;
use proptest::prelude::*;

fn representations(text: &str) -> Vec<Representation> {
    mpd(text).unwrap().representations
}

fn mpd(text: &str) -> Result<Mpd, MpdError> {
    let around = ParseContext {
        uri: "http://h/x.mpd",
        written: None,
        now: WallTime::from_unix_ms(1_800_000_000_000),
        nearness: &|uri| match uri {
            _ if uri.starts_with("http://h/") => Nearness::Below,
            _ if uri == "http://around/" => Nearness::Around,
            _ => Nearness::Elsewhere,
        },
        load: &|uri| {
            let text = "<Period duration='PT2S'><AdaptationSet><Representation id='r'><BaseURL>r.mp4</BaseURL></Representation></AdaptationSet></Period>";
            uri.ends_with("/remote.xml").then(|| xml::parse(text.as_bytes()).unwrap())
        },
    };
    parse(&xml::parse(text.as_bytes()).unwrap(), &around)
}

fn list(representation: &Representation) -> Vec<&str> {
    match &representation.addressing {
        Addressing::List(named) => named.iter().map(|it| it.uri.strip_prefix("http://h/").unwrap()).collect(),
        Addressing::Pattern { .. } => panic!("a list"),
    }
}

fn init(representation: &Representation) -> Option<&str> {
    representation.init.as_ref().map(|it| it.uri.as_str())
}

#[test]
fn timeline_template_with_time_and_negative_repeat() {
    let all = representations(
        r#"<MPD type="static" mediaPresentationDuration="PT10S"><BaseURL>v/</BaseURL><Period>
        <AdaptationSet contentType="video"><SegmentTemplate timescale="10" media="$RepresentationID$/$Time$.m4s" initialization="$RepresentationID$/i.mp4">
        <SegmentTimeline><S t="5" d="20"/><S d="20" r="1"/><S d="10" r="-1"/></SegmentTimeline></SegmentTemplate>
        <Representation id="a" bandwidth="9"/></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!(
        list(&all[0]),
        ["v/a/5.m4s", "v/a/25.m4s", "v/a/45.m4s", "v/a/65.m4s", "v/a/75.m4s", "v/a/85.m4s", "v/a/95.m4s"]
    );
    assert_eq!(init(&all[0]), Some("http://h/v/a/i.mp4"));
}

#[test]
fn number_template_with_width_over_two_periods() {
    let all = representations(
        r#"<MPD mediaPresentationDuration="PT6S"><Period duration="PT4.05S"><AdaptationSet mimeType="audio/mp4">
        <SegmentTemplate duration="2" startNumber="7" media="p1-$Number%03d$-$$-$Bandwidth$.m4s"/><Representation id="x" bandwidth="5"/></AdaptationSet></Period>
        <Period start="PT4S"><AdaptationSet><Representation id="y"><SegmentTemplate duration="2" media="p2-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!(list(&all[0]), ["p1-007-$-5.m4s", "p1-008-$-5.m4s", "p1-009-$-5.m4s"]);
    let Addressing::List(named) = &all[0].addressing else { panic!("a list") };
    assert_eq!(named.iter().map(|it| it.is_optional).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(list(&all[1]), ["p2-1.m4s"]);
    assert_eq!(all[0].kind, TrackKind::Audio);
}

#[test]
fn live_number_template_takes_what_is_there() {
    let all = representations(
        r#"<MPD type="dynamic"><Period><AdaptationSet><SegmentTemplate duration="2" media="$RepresentationID$_$Number%05d$.m4s"/>
        <Representation id="1"/></AdaptationSet></Period></MPD>"#,
    );
    let window = Window { first: 1, step: 1, available: None, most: None };
    let affixes = vec![("http://h/1_".into(), ".m4s".into())];
    assert_eq!(all[0].addressing, Addressing::Pattern { listed: vec![], affixes, window });
}

#[test]
fn lists_single_files_and_bases() {
    let all = representations(
        r#"<MPD><Period><BaseURL>a/</BaseURL><AdaptationSet><Representation id="l"><SegmentList><Initialization sourceURL="i.mp4"/>
        <SegmentURL media="1.m4s"/><SegmentURL media="2.m4s"/></SegmentList></Representation>
        <Representation id="b"><BaseURL>film.mp4</BaseURL><SegmentBase indexRange="0-99"/></Representation></AdaptationSet>
        <AdaptationSet mimeType="text/vtt"><Representation id="t"><BaseURL>/abs/en.vtt</BaseURL></Representation></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!((list(&all[0]), init(&all[0])), (vec!["a/1.m4s", "a/2.m4s"], Some("http://h/a/i.mp4")));
    assert_eq!(list(&all[1]), ["a/film.mp4"]);
    assert_eq!(list(&all[2]), ["abs/en.vtt"]);
    assert_eq!(all[2].kind, TrackKind::Subtitles);
}

#[test]
fn hostile_counts_and_templates_leave_their_representation_out() {
    for body in [
        r#"<SegmentTemplate media="$Number$" timescale="1"><SegmentTimeline><S d="1" r="1000000000"/></SegmentTimeline></SegmentTemplate>"#,
        r#"<SegmentTemplate media="$Number$" duration="1" timescale="1000000000"/>"#,
        r#"<SegmentTemplate media="$Number" duration="1"/>"#,
        r#"<SegmentTemplate media="$Nonsense$" duration="1"/>"#,
        r#"<SegmentTemplate media="$Time$"><SegmentTimeline><S d="0"/></SegmentTimeline></SegmentTemplate>"#,
        r#"<SegmentTemplate media="$Number$-$SubNumber$"><SegmentTimeline><S d="1" k="1001"/></SegmentTimeline></SegmentTemplate>"#,
    ] {
        let text = format!(
            r#"<MPD mediaPresentationDuration="PT10S"><Period><AdaptationSet>{body}<Representation id="1"/></AdaptationSet>
            <AdaptationSet><Representation id="2"><BaseURL>a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#
        );
        let mpd = mpd(&text).unwrap();
        assert_eq!((mpd.left_out.len(), mpd.representations.len()), (1, 1), "{body}");
        assert_eq!(mpd.left_out[0].0, "Representation 1");
    }
    assert!(mpd("<SmoothStreamingMedia/>").is_err());
}

#[test]
fn periods_begin_where_the_one_before_ends() {
    let all = representations(
        r#"<MPD mediaPresentationDuration="PT8S"><Period duration="PT4S"><AdaptationSet><SegmentTemplate duration="2" media="$Number$"/><Representation id="a"/></AdaptationSet></Period>
        <Period><AdaptationSet><SegmentTemplate duration="2" media="$Number$" startNumber="3"/><Representation id="a"/></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!((list(&all[0]), list(&all[1])), (vec!["1", "2"], vec!["3", "4"]));
}

#[test]
fn of_several_bases_ours_is_read() {
    let all = representations(
        r#"<MPD><BaseURL>https://cdn-a.example.net/v/</BaseURL><BaseURL>HTTP://H:80/x/../</BaseURL><Period><AdaptationSet>
        <Representation id="a"><BaseURL>a%2fb.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!(list(&all[0]), ["a%2Fb.mp4"]);
}

/// 1,800,000,000 s is 2027-01-15T08:00:00Z.
#[test]
fn live_windows_follow_the_clock() {
    let window = |attributes: &str, template: &str| {
        let text = format!(
            r#"<MPD type="dynamic" availabilityStartTime="2027-01-15T07:00:00Z" {attributes}><Period start="PT0S"><AdaptationSet>
            {template}<Representation id="1"/></AdaptationSet></Period></MPD>"#
        );
        match &representations(&text)[0].addressing {
            Addressing::Pattern { listed, window, .. } => (listed.len(), *window),
            Addressing::List(_) => panic!("a pattern"),
        }
    };
    let numbers = r#"<SegmentTemplate duration="2" media="$Number$"/>"#;
    let (_, by_number) = window(r#"timeShiftBufferDepth="PT30S""#, numbers);
    assert_eq!(by_number.available, Some((1784, 1804)));
    assert!(by_number.means(1) && !by_number.means(0) && !by_number.is_available(90_001));
    assert_eq!(window("", numbers).1.available, Some((1, 1804)));
    let times = r#"<SegmentTemplate timescale="10" media="$Time$"><SegmentTimeline><S t="0" d="20" r="1"/><S d="20" r="-1"/></SegmentTimeline></SegmentTemplate>"#;
    let (listed, by_time) = window(r#"timeShiftBufferDepth="PT30S""#, times);
    assert_eq!((listed, by_time.first, by_time.step), (2, 40, 20));
    assert!(
        by_time.means(60) && !by_time.means(61) && by_time.is_available(36_000) && !by_time.is_available(60)
    );
}

#[test]
fn sub_segments_indexes_and_links() {
    let text = r#"<MPD mediaPresentationDuration="PT8S" xmlns:xlink="http://www.w3.org/1999/xlink"><Period duration="PT8S"><AdaptationSet>
        <SegmentTemplate media="$Number$.$SubNumber$" index="$Number$.sidx" bitstreamSwitching="bs.mp4"><SegmentTimeline><S t="0" d="4" r="1" k="2"/></SegmentTimeline></SegmentTemplate>
        <Representation id="a"/></AdaptationSet></Period><Period xlink:href="remote.xml"/><Period xlink:href="gone.xml"/></MPD>"#;
    let mpd = mpd(text).unwrap();
    let Addressing::List(named) = &mpd.representations[0].addressing else { panic!("a list") };
    let named: Vec<_> =
        named.iter().map(|it| (it.uri.trim_start_matches("http://h/"), it.is_optional)).collect();
    assert_eq!(
        named,
        [("1.0", true), ("1.1", false), ("1.2", true), ("2.0", true), ("2.1", false), ("2.2", true)]
    );
    assert_eq!(mpd.representations[0].others, ["http://h/bs.mp4", "http://h/1.sidx", "http://h/2.sidx"]);
    assert_eq!(list(&mpd.representations[1]), ["r.mp4"]);
    assert_eq!(mpd.others, ["http://h/remote.xml"]);
    assert_eq!(mpd.left_out, [("Period 3".to_owned(), "it is remote (xlink to gone.xml)".to_owned())]);
}

#[test]
fn bases_of_every_level_may_be_alternatives() {
    let all = representations(
        r#"<MPD><BaseURL>https://cdn-a.example.net/</BaseURL><BaseURL>http://around/</BaseURL><Period><BaseURL>https://cdn-b.example.net/</BaseURL>
        <BaseURL>http://h/p/</BaseURL><AdaptationSet><BaseURL> s/
        </BaseURL><Representation id="a"><BaseURL>https://cdn-c.example.net/x.mp4</BaseURL><BaseURL>x.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!(list(&all[0]), ["p/s/x.mp4"]);
    let relative = representations(
        r#"<MPD><BaseURL>https://cdn-a.example.net/</BaseURL><BaseURL>v/</BaseURL><Period><AdaptationSet><Representation id="a"><BaseURL>x.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!(list(&relative[0]), ["v/x.mp4"]);
    let behind = |others: usize| {
        let others = "<BaseURL>https://cdn.example.net/</BaseURL>".repeat(others);
        representations(&format!(
            r#"<MPD>{others}<BaseURL>http://h/</BaseURL><Period><AdaptationSet><Representation id="a"><BaseURL>x.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#
        ))
    };
    let first = |all: &[Representation]| match &all[0].addressing {
        Addressing::List(named) => named[0].uri.clone(),
        Addressing::Pattern { .. } => panic!("a list"),
    };
    assert_eq!(first(&behind(MAX_BASE_URLS - 1)), "http://h/x.mp4");
    assert_eq!(first(&behind(MAX_BASE_URLS)), "https://cdn.example.net/x.mp4");
    let encoded = mpd(
        r#"<MPD><BaseURL>https%3A%2F%2Fcdn.example.com%2Fx%2F</BaseURL><Period><AdaptationSet><Representation id="a"><SegmentTemplate media="s.mp4"/></Representation></AdaptationSet></Period></MPD>"#,
    );
    assert_eq!(encoded.unwrap().encoded_bases, ["https%3A%2F%2Fcdn.example.com%2Fx%2F"]);
}

#[test]
fn live_partial_segments_have_a_pattern_each() {
    let all = representations(
        r#"<MPD type="dynamic"><Period><AdaptationSet><SegmentTemplate duration="2" k="2" media="$Number$.$SubNumber$.m4s"/><Representation id="1"/></AdaptationSet></Period></MPD>"#,
    );
    let Addressing::Pattern { affixes, .. } = &all[0].addressing else { panic!("a pattern") };
    let after: Vec<&str> = affixes.iter().map(|(_, after)| after.as_str()).collect();
    assert_eq!(after, [".0.m4s", ".1.m4s", ".2.m4s"]);
}

proptest! {
    #[test]
    fn no_template_panics(text in "[$%a-zA-Z0-9]{0,30}") {
        let _ = fill_template(&text, "id", 1, TemplateValues { number: Some(2), time: Some(3), sub_number: None });
    }
}
