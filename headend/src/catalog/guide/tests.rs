use std::fmt::Write as _;
use std::io::Write as _;

use carousel::dvbi::guide::{MAX_PROGRAMMES, Role};
use proptest::prelude::*;

use super::*;

fn service(channel: &str) -> Option<String> {
    (!channel.starts_with("foreign")).then(|| format!("tag:b.example,2026:{channel}"))
}

fn read_text(text: impl Into<Vec<u8>>) -> Result<GuideResult, Refusal> {
    read_bytes(text.into(), Collector::new("guide".to_owned(), "b.example", &service))
}

/// Start of each event of a channel, its programme's first title, and its length in minutes.
fn schedule(read: &GuideResult, channel: &str) -> Vec<(String, String, i64)> {
    let events = read.guide.schedules.get(&service(channel).unwrap()).map_or(&[][..], Vec::as_slice);
    let row = |event: &carousel::dvbi::guide::Event| {
        let title = read.guide.programmes[&event.programme].titles[0].text.clone();
        let minutes = (event.end.unix_ms() - event.start.unix_ms()) / 60_000;
        (event.start.to_xml().replace(":00.000Z", ""), title, minutes)
    };
    events.iter().map(row).collect()
}

fn has_problem(read: &GuideResult, parts: &[&str]) -> bool {
    read.problems.iter().any(|problem| parts.iter().all(|part| problem.to_string().contains(part)))
}

/// As grabbers write it, with one of every quirk.
const QUIRKS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- fetched --><!DOCTYPE tv SYSTEM "xmltv.dtd">
<tv source-info-name="somewhere" generator-info-name="some grabber">
  <channel id="one.example"><display-name lang="en">One</display-name><display-name lang="de">Eins</display-name>
    <display-name>1</display-name><icon src="https://p.example/one.png"/><url>https://one.example/</url></channel>
  <channel id="foreign.example"><display-name>Not ours</display-name></channel><channel id=" one.example"/>
  <programme start="20261121200000 +0100" stop="20261121213000 +0100" channel="one.example" showview="123">
    <title lang="en">Harbour &amp; &lt;i&gt;Lights&lt;/i&gt;</title><title lang="de">Hafenlichter</title>
    <title lang="de">Zweiter Titel</title>
    <sub-title lang="en">The Pilot</sub-title>
    <desc lang="en">A pilot
      comes aboard.</desc>
    <credits><director>D. One</director><actor role="The pilot">A. One</actor><actor>  </actor>
      <adapter>W. One</adapter><key-grip>K. One</key-grip><guest>G. One<image>x</image></guest></credits>
    <date>20190403</date>
    <category lang="en">Series</category><category lang="en">Movie / Drama</category>
    <category lang="de">Hafengeschichten</category><keyword lang="en">harbour</keyword>
    <language>en</language><orig-language>de</orig-language><length units="minutes">85</length>
    <icon src="file:///tmp/x.png"/><icon src="https://p.example/h.png" width="10"/>
    <url>https://one.example/harbour</url><country>DE</country>
    <episode-num system="onscreen">S9E9</episode-num><episode-num system="xmltv_ns">1 . 4/10 . 0/1</episode-num>
    <video><aspect>16:9</aspect><colour>yes</colour><quality>HDTV</quality></video>
    <audio><stereo>stereo</stereo></audio><premiere/><subtitles type="teletext"/>
    <rating system="FSK"><value>FSK 12</value></rating><rating system="MPAA"><value>PG</value></rating>
    <rating system="advisory"><value>Rough seas</value></rating><rating system="XX"><value>odd</value></rating>
    <star-rating><value>3/5</value></star-rating>
  </programme>
  <programme start="20261121213000 CET" channel="one.example"><title>News</title><category>News</category></programme>
  <programme start="20261121203500" stop="20261121230000" channel="one.example"><title>Film</title>
    <category>Hafengeschichten</category></programme>
  <programme start="20261121213000 UTC" stop="20261121220000 UTC" channel="one.example">
    <title lang="en">Harbour again</title><episode-num system="dd_progid">EP00000001.0002</episode-num>
    <new/><previously-shown start="20200101"/></programme>
  <programme start="20261122213000 UTC" stop="20261122220000 UTC" channel="one.example">
    <title lang="en">Harbour, again</title><episode-num system="dd_progid">EP00000001.0002</episode-num></programme>
  <programme start="20261122220000 UTC" channel="one.example"><title>Last</title></programme>
  <programme start="99999999999999" channel="one.example"><title>Never</title></programme>
  <programme start="20261121213000 Mars" channel="one.example"><title>Never</title></programme>
  <programme channel="one.example"><title>Never</title></programme>
  <programme start="20261121213000 UTC"><title>Nowhere</title></programme>
  <programme start="20261125213000 UTC" channel="one.example"><title> </title></programme>
  <programme start="20261125213000 UTC" stop="soon" channel="foreign.example"><title>Not ours</title></programme>
</tv>
"#;

#[test]
fn a_file_with_every_quirk() {
    let read = read_text(QUIRKS).unwrap();
    let row = |start: &str, title: &str, minutes| (start.to_owned(), title.to_owned(), minutes);
    assert_eq!(
        schedule(&read, "one.example"),
        [
            row("2026-11-21T19:00", "Harbour & <i>Lights</i>", 90),
            row("2026-11-21T20:30", "News", 5),
            row("2026-11-21T20:35", "Film", 55),
            row("2026-11-21T21:30", "Harbour again", 30),
            row("2026-11-22T21:30", "Harbour again", 30),
        ]
    );
    let events = &read.guide.schedules["tag:b.example,2026:one.example"];
    assert_eq!(
        events.iter().map(|event| event.is_first_showing).collect::<Vec<_>>(),
        [true, false, false, false, false]
    );
    assert_eq!(events[3].programme, events[4].programme);
    let harbour = &read.guide.programmes[&events[0].programme];
    assert!(harbour.crid.starts_with("crid://b.example/p") && harbour.crid.len() == 34, "{}", harbour.crid);
    assert_eq!(harbour.titles[1], Text::new("de", "Hafenlichter"));
    assert_eq!((harbour.titles.len(), harbour.episode_titles.len()), (2, 1));
    assert_eq!(harbour.synopses, [Text::new("en", "A pilot comes aboard.")]);
    assert_eq!(
        harbour.genres,
        ["urn:dvb:metadata:cs:ContentSubject:2019:1", "urn:tva:metadata:cs:ContentCS:2011:3.4"]
    );
    assert_eq!(harbour.keywords, [Text::new("en", "harbour"), Text::new("de", "Hafengeschichten")]);
    assert_eq!((harbour.minimum_age, harbour.year), (Some(12), Some(2019)));
    assert_eq!(harbour.image.as_ref().map(|it| it.uri.as_str()), Some("https://p.example/h.png"));
    let credits: Vec<_> = harbour.credits.iter().map(|it| (it.role, it.name.as_str())).collect();
    assert_eq!(
        credits,
        [
            (Role::Director, "D. One"),
            (Role::Actor, "A. One"),
            (Role::Writer, "W. One"),
            (Role::Guest, "G. One")
        ]
    );
    assert_eq!(harbour.credits[1].character.as_deref(), Some("The pilot"));
    let part = harbour.part_of.as_ref().unwrap();
    assert_eq!(part.number, Some(5));
    assert_eq!(read.guide.groups[&part.group].titles, harbour.titles);
    assert_eq!(
        read.channels.iter().map(|(id, names)| (id.as_str(), names.len())).collect::<Vec<_>>(),
        [("one.example", 3), ("foreign.example", 1)]
    );
    for parts in [
        &["programme 7 (", "start \"99999999999999\" is not a time"][..],
        &["programme 8 (", "Mars"],
        &["programme 9 (", "no start"],
        &["programme 10 (", "no channel"],
        &["programme 11 (", "no title"],
        &["2 times have no zone"],
        &["rating \"odd\" of \"XX\""],
        &["unknown genre \"Hafengeschichten\" (2 programmes)", "News, Sports"],
        &["no service asks for: 1 with 1 programmes (\"foreign.example\")"],
        &["one.example", "2 × an entry has no end"],
        &["one.example", "1 × an entry overlaps"],
    ] {
        assert!(has_problem(&read, parts), "{parts:?} in {:#?}", read.problems);
    }
    // The last one of the channel has no end, and nothing follows.
    assert_eq!(read.guide.programmes.len(), 4);
    let again = read_text(QUIRKS).unwrap();
    assert_eq!(again.guide, read.guide);
}

#[test]
fn what_is_the_same_programme() {
    let entry = |hour: u8, inside: &str| {
        format!(
            "<programme start='202611210{hour}0000 Z' stop='202611210{hour}3000 Z' channel='c'>{inside}</programme>"
        )
    };
    let number = |number| format!("<title>a</title><episode-num system='xmltv_ns'>{number}</episode-num>");
    let text = [
        entry(0, "<title>a</title><desc>d</desc>"),
        entry(1, "<title>a</title><desc>d</desc><category>News</category>"),
        entry(2, "<title>a</title><desc>e</desc>"),
        entry(3, "<title>ad</title>"),
        entry(4, &number("0.1.")),
        entry(5, &number("0.2.")),
        entry(6, &number("1.1.")),
        entry(7, "<title>a</title><episode-num system='dd_progid'>SH00000001.0000</episode-num>"),
        entry(8, "<title>b</title><episode-num system='dd_progid'>SH00000001.0000</episode-num>"),
    ];
    let read = read_text(format!("<tv>{}</tv>", text.concat())).unwrap();
    let events = &read.guide.schedules["tag:b.example,2026:c"];
    let distinct: std::collections::BTreeSet<_> = events.iter().map(|event| &event.programme).collect();
    assert_eq!((events.len(), distinct.len()), (9, 8));
    assert_eq!(events[0].programme, events[1].programme);
    // One group for each season.
    let group = |at: usize| &read.guide.programmes[&events[at].programme].part_of.as_ref().unwrap().group;
    assert!(group(4) == group(5) && group(4) != group(6) && group(4).starts_with("crid://b.example/s"));
    assert_eq!((read.guide.groups.len(), read.problems.len()), (2, 0));
}

#[test]
fn encodings_and_document_types() {
    let with = |head: &str| {
        format!("{head}<tv><channel id='c'><display-name>Zürich 1</display-name></channel></tv>")
    };
    let name = |bytes: Vec<u8>| read_text(bytes).map(|read| read.channels[0].1[0].text.clone());
    for head in [
        "",
        "\u{feff}",
        "<?xml version='1.0' encoding='utf-8'?>",
        "<?xml version='1.0'?>\n<!DOCTYPE tv SYSTEM 'a>[b'>",
        "<!DOCTYPE tv PUBLIC \"-//X//Y\" \"http://x.example/xmltv.dtd\">",
        "<!-- <!DOCTYPE x [ -->\n<?p [ ?><!DOCTYPE tv>",
    ] {
        assert_eq!(name(with(head).into_bytes()).unwrap(), "Zürich 1", "{head}");
    }
    let latin = with("<?xml version=\"1.0\" encoding = \"ISO-8859-1\" ?>").replace("1<", "\u{80}<");
    let latin: Vec<u8> = latin.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(name(latin).unwrap(), "Zürich €");
    // The declarations of a document type are skipped, so that no entity is expanded.
    for subset in [
        "<!DOCTYPE tv [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]>",
        "<?xml version='1.0'?><!DOCTYPE tv SYSTEM \"xmltv.dtd\" [ ]>",
    ] {
        assert_eq!(name(with(subset).into_bytes()).unwrap(), "Zürich 1");
    }
    let klingon = "<?xml version='1.0' encoding='klingon'?>";
    assert!(matches!(name(with(klingon).into_bytes()), Err(Refusal::Encoding(name)) if name == "klingon"));
    for bad in ["<!DOCTYPE tv", "<!-- ", "<!DOCTYPE tv SYSTEM 'x>"] {
        assert!(matches!(name(with(bad).into_bytes()), Err(Refusal::Foreign(_))), "{bad}");
    }
    for foreign in ["#EXTM3U", "<html/>"] {
        assert!(matches!(name(foreign.into()), Err(Refusal::Foreign(_))), "{foreign}");
    }
    for empty in ["", " \n ", "\u{feff}"] {
        assert!(matches!(name(empty.into()), Err(Refusal::Empty)), "{empty}");
    }
}

#[test]
fn json_says_the_same() {
    let head = include_str!("json.rs").lines().skip_while(|line| *line != "//! ```json").skip(1);
    let example: String = head.take_while(|line| *line != "//! ```").map(|line| &line[3..]).collect();
    let read = read_text(example).unwrap();
    assert_eq!(read.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(schedule(&read, "one"), [("2026-11-21T20:00".into(), "Harbour Lights".into(), 30)]);
    assert_eq!(schedule(&read, "two"), [("2026-11-21T20:00".into(), "News".into(), 30)]);
    let event = &read.guide.schedules["tag:b.example,2026:one"][0];
    let harbour = &read.guide.programmes[&event.programme];
    assert!(event.is_first_showing);
    assert_eq!((harbour.minimum_age, harbour.year), (Some(12), Some(2019)));
    assert_eq!((harbour.genres.len(), harbour.keywords.len(), harbour.credits.len()), (2, 1, 1));
    let part = harbour.part_of.as_ref().unwrap();
    assert_eq!((part.number, read.guide.groups[&part.group].titles.len()), (Some(1), 1));
    assert_eq!(read.channels[0].1[0], Text::new("en", "Channel One"));
}

#[test]
fn bad_entries_of_json_are_left_out() {
    let entry = |fields: &str| format!("{{\"channel\":\"c\",\"title\":\"t\",{fields}}}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let good = [
        entry("\"start\":1795291200.5,\"duration_s\":60"),
        entry(&format!("\"start\":1795292200,\"duration_s\":60,\"other\":{deep}")),
        entry(
            "\"start\":1795293200,\"stop\":\"2026-11-21T20:50:00\",\"credits\":[{\"role\":\"x\",\"name\":\"y\"}]",
        ),
        entry("\"start\":1795294200,\"duration_s\":-5"),
        entry(
            "\"start\":1795295200,\"duration_s\":60,\"minimum_age\":255,\"year\":3,\"image\":\"x\",\"series\":{}",
        ),
    ];
    let bad = [
        "17".to_owned(),
        "{}".to_owned(),
        deep.clone(),
        entry("\"start\":1795291200000"),
        entry("\"start\":-1"),
        entry("\"start\":99999999999999999999999999"),
        entry("\"start\":\"today\""),
        entry("\"start\":\"2026-11-21T20:00:00.9e999Z\""),
        entry(&format!("\"start\":{deep}")),
        entry("\"start\":1795291200,\"minimum_age\":256"),
        "{\"channel\":\"c\",\"title\":{},\"start\":5}".to_owned(),
        "{\"channel\":\"foreign\",\"title\":\"t\",\"start\":5}".to_owned(),
    ];
    let text =
        format!("{{\"x\":{deep},\"programmes\":[{},{}],\"channels\":[5]}}", good.join(","), bad.join(","));
    let read = read_text(text).unwrap();
    assert_eq!(schedule(&read, "c").iter().map(|it| it.2).collect::<Vec<_>>(), [1, 1, 16, 16, 1]);
    let programme = read.guide.programmes.values().find(|it| it.part_of.is_some()).unwrap();
    assert_eq!((programme.minimum_age, programme.year, &programme.image), (Some(18), None, &None));
    for parts in [
        &["programme 6 at byte", "integer `17` where an object belongs: left out"][..],
        &["programme 7 at byte", "`channel` is missing: left out"],
        &["programme 9", "start \"1795291200000\" is not a time"],
        &["role \"x\" is not known"],
        &["duration_s -5 is not a length"],
        &["1 times have no zone"],
        &["channel 1 at byte"],
        &["no service asks for: 1 with 1"],
    ] {
        assert!(has_problem(&read, parts), "{parts:?} in {:#?}", read.problems);
    }
    for fatal in [
        "{",
        "{}",
        "{\"programmes\":{}}",
        "{\"programmes\":[NaN]}",
        "{\"programmes\":[{\"start\":1e}]}",
        "{\"programmes\":[]} x",
    ] {
        assert!(matches!(read_text(fatal), Err(Refusal::Json(_))), "{fatal}");
    }
}

#[test]
fn two_hundred_thousand_at_the_same_time() {
    let mut text = "<tv>".to_owned();
    for at in 0..200_000 {
        let _ = write!(
            text,
            "<programme start='20261121200000' stop='x{at}' channel='c'><title>{at}</title><category>g{at}</category>\
             </programme>"
        );
    }
    text.push_str("<programme start='20261121210000 Z' channel='c'><title>end</title></programme></tv>");
    let read = read_text(text).unwrap();
    assert_eq!(schedule(&read, "c"), [("2026-11-21T20:00".into(), "0".into(), 60)]);
    assert_eq!(read.guide.programmes.len(), 1);
    assert!(has_problem(&read, &["199999 × an entry begins with another one"]));
    assert!(has_problem(&read, &["199980 more of this kind", "+0100"]));
    assert!(read.problems.len() < 60, "{}", read.problems.len());
}

#[test]
fn no_more_than_a_guide_has_room_for() {
    let mut text = "{\"programmes\":[".to_owned();
    for at in 0..MAX_PROGRAMMES + 5000 {
        let channel = if at < 20_000 { at } else { 0 };
        let _ = write!(
            text,
            "{{\"channel\":\"c{channel}\",\"start\":{at},\"duration_s\":1,\"title\":\"{at}\"}},"
        );
    }
    text.push_str("0]}");
    let read = read_text(text).unwrap();
    assert_eq!(read.guide.programmes.len(), MAX_PROGRAMMES);
    assert!(has_problem(&read, &["more than a guide has room for"]));
    assert!(has_problem(&read, &["is one more than 16384"]));
}

#[test]
fn names_with_markup_and_texts_without_end() {
    let long = "long ".repeat(200_000);
    let text = format!(
        "<tv><channel id='a&#10;&lt;b>'><display-name>&lt;script>\u{1b}[31m x&#x86;</display-name></channel>\
         <programme start='20261121200000 Z' stop='20261121210000 Z' channel='c'><title>{long}</title>\
         <desc>{long}</desc><desc lang='&quot;>'>{long}</desc><category>{long}</category>{}</programme>\
         <programme start='\u{1b}[31m' channel='c'/></tv>",
        "<credits><actor>a</actor></credits><category>News</category>".repeat(1000)
    );
    let read = read_text(text).unwrap();
    assert_eq!(read.channels, [("a\n<b>".to_owned(), vec![Text::new("", "<script>[31m x")])]);
    let programme = read.guide.programmes.values().next().unwrap();
    let chars = |texts: &[Text]| texts.iter().map(|it| it.text.len()).collect::<Vec<_>>();
    assert_eq!((chars(&programme.titles), chars(&programme.synopses)), (vec![399], vec![3999]));
    assert_eq!((programme.credits.len(), programme.genres.len(), programme.keywords.len()), (40, 1, 1));
    for problem in &read.problems {
        let line = problem.to_string();
        assert!(line.len() < 700 && !line.contains(|c: char| c.is_control()), "{line:?}");
    }
}

/// A guide of three programmes, an hour each, the second with this title.
fn three(title: &str) -> String {
    let entry = |hour: u8, title: &str| {
        format!(
            "<programme start='202611210{hour}0000 Z' stop='202611210{}0000 Z' channel='c'>\n<title>{title}</title></programme>\n",
            hour + 1
        )
    };
    format!("<tv>\n<channel id='c'/>\n{}{}{}</tv>", entry(1, "First"), entry(2, title), entry(3, "Third"))
}

#[test]
fn what_is_wrong_in_one_programme_leaves_the_others() {
    let titles = |read: &GuideResult| schedule(read, "c").into_iter().map(|it| it.1).collect::<Vec<_>>();
    for (title, right, kind) in [
        ("Caf&eacute;&nbsp;Noir", "Café Noir", "an entity that XML does not have"),
        ("Tom & Jerry", "Tom & Jerry", "a lone &"),
        ("a < b", "a < b", "a lone <"),
        ("Tag <br> in text", "Tag in text", "markup of HTML"),
        ("<i>open", "open", "markup of HTML"),
        ("open</title><desc>no end", "open", "a tag that is not closed"),
    ] {
        let read = read_text(three(title)).unwrap();
        assert_eq!((read.faults, read.is_cut), (0, false), "{title}: {:?}", read.problems);
        assert_eq!(titles(&read), ["First", right, "Third"]);
        assert!(has_problem(&read, &["guide, line 6, programme 2", "repaired", kind]), "{:?}", read.problems);
    }
    // Values without a plausible meaning.
    for title in ["<a b=>x", "x</title><icon src=x/>", "x</title><desc lang='a' lang='b'>y</desc>"] {
        let read = read_text(three(title)).unwrap();
        if read.faults > 0 {
            assert_eq!((titles(&read), read.faults), (vec!["First".into(), "Third".into()], 1), "{title}");
            assert!(has_problem(&read, &["line 6, programme 2, \"x\"", "left out"]), "{:?}", read.problems);
        }
    }
    let latin = read_text([&b"<tv><channel id='c'/>"[..], b"\n<programme channel='c' start='20261121 Z' stop='20261122 Z'><title>Latin \xe9t\xe9</title></programme></tv>"].concat());
    let latin = latin.unwrap();
    assert_eq!((titles(&latin), latin.faults), (vec!["Latin été".to_owned()], 0));
    assert!(has_problem(&latin, &["line 2", "2 bytes are not UTF-8"]), "{:?}", latin.problems);
}

#[test]
fn a_file_that_breaks_off_says_where() {
    let whole = three("Second");
    let lines = whole.lines().count();
    for cut in whole.find("Third").unwrap()..whole.len() - 4 {
        let read = read_text(&whole[..cut]).unwrap();
        assert!(read.is_cut && read.faults > 0, "{cut}");
        let line = format!("line {}", whole[..cut].trim_end().lines().count());
        assert!(
            has_problem(&read, &[&line, "behind programme 3", "</tv>"]),
            "{cut} of {lines}: {:?}",
            read.problems
        );
    }
    let empty =
        read_text("<?xml version='1.0'?><!DOCTYPE tv SYSTEM 'xmltv.dtd'><tv generator-info-name='g'>\n</tv>")
            .unwrap();
    assert!(empty.faults == 1 && !empty.is_cut && has_problem(&empty, &["no programme", "no channel"]));
    let renamed = read_text(three("x").replace("'c'", "'foreign.c'")).unwrap();
    assert!(
        renamed.faults == 1 && has_problem(&renamed, &["no programme", "its channels are \"foreign.c\""])
    );
}

#[test]
fn times_of_every_form_and_end_for_stop() {
    let text = three("Second").replace("stop='20261121020000 Z'", "end='2026-11-21T02:30:00+01:00'");
    let read = read_text(text).unwrap();
    assert_eq!(schedule(&read, "c")[0].2, 30);
    assert_eq!((read.faults, read.problems.len()), (0, 0));
    let never = read_text(three("Second").replace("'20261121010000 Z'", "'soon'")).unwrap();
    assert_eq!(never.faults, 1);
    assert!(has_problem(&never, &["line 3, programme 1 (channel \"c\")", "\"soon\" is not a time"]));
}

#[test]
fn files_plain_packed_and_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guide.xml.gz");
    let read_file = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read(&path, "b.example", &service)
    };
    let pack = |parts: &mut dyn Iterator<Item = &[u8]>| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        parts.for_each(|part| packer.write_all(part).unwrap());
        packer.finish().unwrap()
    };
    let packed = pack(&mut [QUIRKS.as_bytes()].into_iter());
    let plain = read_file(QUIRKS.as_bytes()).unwrap();
    assert_eq!(read_file(&packed).unwrap().guide, plain.guide);
    assert!(plain.problems[0].place.starts_with(&path.display().to_string()));
    let err = read_file(&packed[..packed.len() / 2]).unwrap_err();
    assert!(matches!(err.why, Refusal::Damaged("gzip", _)), "{err}");
    let bomb = pack(&mut std::iter::repeat_n(&[b' '; 1 << 20][..], (MAX_GUIDE_BYTES >> 20) + 1));
    let err = read_file(&bomb).unwrap_err();
    assert!(matches!(err.why, Refusal::TooLong), "{err}");
    let err = read(&folder.path().join("none"), "b.example", &service).unwrap_err();
    assert!(err.to_string().contains("give a programme guide"), "{err}");
}

proptest! {
    #[test]
    fn no_file_panics(
        text in "(<tv>)?(<(/?(tv|programme|title|credits|actor|category|rating|value|episode-num|!DOCTYPE)( (start|stop|channel|lang|system)='[ -~é]{0,20}')*/?>)|[ -~é\u{0}]{1,8}|[0-9]{8,14}){0,30}",
        json in "\\{\"(programmes|channels)\":\\[?([\\[\\]{},:]|\"(id|channel|start|stop|title|genres|é)\":?|1?[0-9.e]{1,9}|null){0,30}\\]?\\}?",
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = read_text(text);
        let _ = read_text(json);
        let _ = read_text([b"{\"programmes\":[".as_slice(), &bytes].concat());
        let _ = read_text(bytes);
    }
}
