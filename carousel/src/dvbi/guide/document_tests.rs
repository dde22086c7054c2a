//! Guides as documents: what others write, what hostile ones do, what we write and read again.

use super::*;
use crate::xml::{Element, parse};
use proptest::prelude::*;

/// As a broadcaster with prefixes and an older edition might write it.
const FOREIGN: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<t:TVAMain xmlns:t="urn:tva:metadata:2011" xmlns:m="urn:tva:mpeg7:2008" xml:lang="en" version="3">
 <t:ProgramDescription>
  <t:ProgramInformationTable xml:lang="de">
   <t:ProgramInformation programId="CRID://channel.example/one">
    <t:BasicDescription>
     <t:Title type="main">  Das
       Erste &lt;b&gt; </t:Title>
     <t:Title xml:lang="en">The First</t:Title>
     <t:Title type="main" xml:lang="en">again</t:Title>
     <t:Title type="episodeTitle" xml:lang="en">Pilot</t:Title>
     <t:Title type="songTitle">la</t:Title>
     <t:Synopsis length="short">Kurz…</t:Synopsis>
     <t:Synopsis length="long">Kurz und gut, aber lang.</t:Synopsis>
     <t:Synopsis length="medium" xml:lang="en">The First</t:Synopsis>
     <t:Keyword type="main">Meer</t:Keyword>
     <t:Genre href="urn:tva:metadata:cs:ContentCS:2011:3.5" type="other"/>
     <t:Genre href="urn:tva:metadata:cs:ContentCS:2011:3.1"/>
     <t:ParentalGuidance><m:MinimumAge>255</m:MinimumAge></t:ParentalGuidance>
     <t:ParentalGuidance><m:MinimumAge>21</m:MinimumAge></t:ParentalGuidance>
     <t:CreditsList>
      <t:CreditsItem role="urn:mpeg:mpeg7:cs:RoleCS:2001:ACTOR">
       <t:PersonName><m:GivenName>Ada</m:GivenName><m:FamilyName>Klug</m:FamilyName></t:PersonName>
       <t:Character><m:GivenName>Eve</m:GivenName></t:Character>
      </t:CreditsItem>
      <t:CreditsItem role="urn:tva:metadata:cs:TVARoleCS:2011:V20">
       <t:OrganizationName>Films &amp; Co</t:OrganizationName>
      </t:CreditsItem>
      <t:CreditsItem role="urn:tva:metadata:cs:TVARoleCS:2011:V813"/>
     </t:CreditsList>
     <t:RelatedMaterial>
      <t:HowRelated href="urn:tva:metadata:cs:HowRelatedCS:2011:19"/>
      <t:MediaLocator><m:MediaUri contentType="image/png"> http://h/a.png </m:MediaUri></t:MediaLocator>
     </t:RelatedMaterial>
     <t:ReleaseInformation><t:ReleaseDate><t:DayAndYear>1984-05-01</t:DayAndYear></t:ReleaseDate></t:ReleaseInformation>
    </t:BasicDescription>
    <t:MemberOf crid="crid://dvb.org/metadata/schedules/now-next/now" index="1"/>
    <t:EpisodeOf crid="crid://channel.example/series" index="7"/>
   </t:ProgramInformation>
   <t:ProgramInformation programId="crid://channel.example/two">
    <t:EpisodeOf crid="crid://channel.example/two"/>
   </t:ProgramInformation>
   <t:ProgramInformation programId="CRID://channel.example/one"/>
   <t:ProgramInformation programId="no crid"/>
   <t:ProgramInformation/>
  </t:ProgramInformationTable>
  <t:GroupInformationTable>
   <t:GroupInformation groupId="crid://channel.example/series"><t:GroupType value="otherCollection"/></t:GroupInformation>
   <t:GroupInformation groupId="crid://channel.example/loop">
    <t:GroupType value="show"/><t:MemberOf crid="crid://channel.example/loop"/>
   </t:GroupInformation>
   <t:GroupInformation groupId="crid://dvb.org/metadata/schedules/now-next/now"/>
  </t:GroupInformationTable>
  <t:ProgramLocationTable>
   <t:Schedule serviceIDRef="tag:a tag:b" start="2026-01-01T00:00:00Z">
    <t:ScheduleEvent>
     <t:Program crid="CRID://channel.example/one"/>
     <t:PublishedStartTime>2026-01-01T01:00:00+01:00</t:PublishedStartTime>
     <t:PublishedEndTime>2026-01-01T00:30:00Z</t:PublishedEndTime>
     <t:PublishedDuration>PT5H</t:PublishedDuration>
     <t:FirstShowing value="true"/>
    </t:ScheduleEvent>
    <t:ScheduleEvent>
     <t:Program crid="crid://channel.example/two"/>
     <t:PublishedStartTime>2026-01-01T00:30:00</t:PublishedStartTime>
     <t:PublishedDuration>-PT1H</t:PublishedDuration>
    </t:ScheduleEvent>
    <t:ScheduleEvent>
     <t:Program crid="crid://channel.example/two"/>
     <t:PublishedStartTime>2026-01-01T02:00:00Z</t:PublishedStartTime>
     <t:PublishedDuration>P99999999999Y</t:PublishedDuration>
    </t:ScheduleEvent>
    <t:ScheduleEvent><t:Program crid="crid://channel.example/two"/></t:ScheduleEvent>
    <t:ScheduleEvent>
     <t:Program crid="crid://channel.example/two"/><t:PublishedStartTime>1912-01-01T00:00:00Z</t:PublishedStartTime>
    </t:ScheduleEvent>
    <t:ScheduleEvent><t:PublishedStartTime>2026-01-01T00:00:00Z</t:PublishedStartTime></t:ScheduleEvent>
   </t:Schedule>
   <t:BroadcastEvent serviceIDRef="tag:c">
    <t:Program crid="crid://channel.example/two"/>
    <t:PublishedStartTime>2026-01-01T09:00:00Z</t:PublishedStartTime>
    <t:PublishedDuration>PT30M</t:PublishedDuration>
   </t:BroadcastEvent>
   <t:BroadcastEvent>
    <t:Program crid="crid://channel.example/two"/>
    <t:PublishedStartTime>2026-01-01T09:00:00Z</t:PublishedStartTime>
   </t:BroadcastEvent>
   <t:OnDemandProgram serviceIDRef="tag:vod">
    <t:Program crid="crid://channel.example/two"/>
    <t:ProgramURL contentType="application/dash+xml">http://h/two.mpd</t:ProgramURL>
    <t:AuxiliaryURL>http://h/two.m3u8</t:AuxiliaryURL>
    <t:PublishedDuration>PT1H</t:PublishedDuration>
    <t:StartOfAvailability>2026-01-01T00:00:00Z</t:StartOfAvailability>
   </t:OnDemandProgram>
   <t:OnDemandService serviceIDRef="tag:other">
    <t:OnDemandProgram><t:Program crid="crid://channel.example/two"/><t:ProgramURL>http://h/x</t:ProgramURL></t:OnDemandProgram>
    <t:OnDemandProgram><t:Program crid="crid://channel.example/two"/></t:OnDemandProgram>
   </t:OnDemandService>
  </t:ProgramLocationTable>
 </t:ProgramDescription>
</t:TVAMain>"#;

fn at(text: &str) -> WallTime {
    WallTime::from_xml(text).unwrap()
}

#[test]
fn a_foreign_document_with_its_faults() {
    let (mut guide, left_out) = Guide::parse(FOREIGN.as_bytes()).unwrap();
    let one = &guide.programmes["CRID://channel.example/one"];
    assert_eq!(one.titles, [Text::new("de", "Das Erste <b>"), Text::new("en", "The First")]);
    assert_eq!(one.episode_titles, [Text::new("en", "Pilot")]);
    assert_eq!(one.synopses, [Text::new("de", "Kurz und gut, aber lang.")]);
    assert_eq!(one.keywords, [Text::new("de", "Meer")]);
    let terms = ["urn:tva:metadata:cs:ContentCS:2011:3.1", "urn:tva:metadata:cs:ContentCS:2011:3.5"];
    assert_eq!(
        (one.genres.as_slice(), one.minimum_age, one.year),
        (&terms.map(str::to_owned)[..], Some(18), Some(1984))
    );
    let credit = |role, name: &str, character: Option<&str>| Credit {
        role,
        name: name.into(),
        character: character.map(Into::into),
    };
    let credits = [credit(Role::Actor, "Ada Klug", Some("Eve")), credit(Role::Producer, "Films & Co", None)];
    assert_eq!(one.credits, credits);
    let still = Image { uri: "http://h/a.png".into(), content_type: "image/png".into() };
    assert_eq!(one.image.as_ref(), Some(&still));
    assert_eq!(one.part_of, Some(Part { group: "crid://channel.example/series".into(), number: Some(7) }));
    assert_eq!(guide.programmes["crid://channel.example/two"].part_of, None, "no part of itself");

    let kinds: Vec<_> = guide.groups.values().map(|group| (group.kind, group.part_of.is_some())).collect();
    assert_eq!(kinds, [(GroupKind::Series, false), (GroupKind::Series, false)]);

    let times = |service: &str| -> Vec<_> {
        guide.schedules[service]
            .iter()
            .map(|event| (event.start, event.end, event.is_first_showing))
            .collect()
    };
    assert_eq!(
        times("tag:a"),
        [
            (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:30:00Z"), true),
            (at("2026-01-01T00:30:00Z"), NO_END, false),
            (at("2026-01-01T02:00:00Z"), at("9999-12-31T23:59:59Z"), false),
        ]
    );
    assert_eq!(times("tag:b"), times("tag:a"));
    assert_eq!(times("tag:c"), [(at("2026-01-01T09:00:00Z"), at("2026-01-01T09:30:00Z"), false)]);
    let [two, other] = guide.on_demand.as_slice() else { panic!("{:?}", guide.on_demand) };
    assert_eq!((two.service.as_str(), two.duration_ms, two.end), ("tag:vod", 3_600_000, NO_END));
    assert_eq!(two.locators.len(), 2);
    assert_eq!((other.service.as_str(), other.start), ("tag:other", WallTime::default()));
    use super::LeftOut::{NoCrid, NoLocator, NoService, NoTime, Twice};
    assert_eq!(left_out, [(NoCrid, 3), (Twice, 1), (NoTime, 2), (NoService, 1), (NoLocator, 1)]);
    guide.tidy();
    let ends: Vec<WallTime> = guide.schedules["tag:a"].iter().map(|event| event.end).collect();
    let day_later = at("2026-01-02T02:00:00Z");
    assert_eq!(ends, [at("2026-01-01T00:30:00Z"), at("2026-01-01T02:00:00Z"), day_later]);
}

#[test]
fn programmes_and_groups_beyond_the_limit_are_left_out_until_others_are_gone() {
    let name = |at: usize| format!("crid://a/{at}");
    let fill = 0..MAX_PROGRAMMES - 1;
    let mut guide = Guide {
        programmes: fill.clone().map(|at| (name(at), Programme::default())).collect(),
        groups: fill.map(|at| (name(at), Group::default())).collect(),
        ..Guide::default()
    };
    // One that is known, one that fits and one more.
    let other = || {
        let numbers = [0, MAX_PROGRAMMES, MAX_PROGRAMMES + 1];
        Guide {
            programmes: numbers.map(|at| (name(at), Programme::default())).into(),
            groups: numbers.map(|at| (name(at), Group::default())).into(),
            ..Guide::default()
        }
    };
    assert_eq!(guide.merge(other()), 2);
    assert_eq!((guide.programmes.len(), guide.groups.len()), (MAX_PROGRAMMES, MAX_PROGRAMMES));
    guide.programmes.remove(&name(5));
    guide.groups.remove(&name(5));
    assert_eq!(guide.merge(other()), 0);
    assert!(guide.programmes.contains_key(&name(MAX_PROGRAMMES + 1)));
}

#[test]
fn hostile_documents_are_bounded() {
    let event = "<ScheduleEvent><Program crid='crid://a/b'/><PublishedStartTime>2026-01-01T00:00:00Z\
                 </PublishedStartTime><PublishedDuration>PT1S</PublishedDuration></ScheduleEvent>";
    let many = MAX_EVENTS / 4 + 10;
    let document = format!(
        "<TVAMain><ProgramDescription><ProgramLocationTable><Schedule serviceIDRef='a b c d e'>{}</Schedule>\
         </ProgramLocationTable></ProgramDescription></TVAMain>",
        event.repeat(many)
    );
    let (guide, left_out) = Guide::parse(document.as_bytes()).unwrap();
    assert_eq!(guide.events(), MAX_EVENTS);
    assert_eq!(guide.schedules.len(), 4);
    assert_eq!(left_out, [(LeftOut::TooMany, 10)]);
    for bad in ["", "<TVAMain>", "<ServiceList/>", "<x><TVAMain/></x>", "not XML"] {
        Guide::parse(bad.as_bytes()).unwrap_err();
    }
    // One piece inside another is not a piece.
    let nested = "<TVAMain><ProgramInformation programId='crid://a/b'><ProgramInformation programId='crid://a/c'/>\
                  </ProgramInformation></TVAMain>";
    assert_eq!(Guide::parse(nested.as_bytes()).unwrap().0.programmes.len(), 1);
    let long = format!(
        "<TVAMain><ProgramInformation programId='crid://a/{}'/><ProgramInformation programId='crid://a/b'>\
         <BasicDescription><Title>{}</Title><Synopsis>{}</Synopsis>{}{}</BasicDescription></ProgramInformation></TVAMain>",
        "x".repeat(300),
        "long ".repeat(100_000),
        "long ".repeat(100_000),
        (0..100).map(|it| format!("<Title xml:lang='x{it}'>t</Title>")).collect::<String>(),
        (0..100).map(|it| format!("<Genre href='g{it}'/>")).collect::<String>(),
    );
    let (guide, left_out) = Guide::parse(long.as_bytes()).unwrap();
    let programme = &guide.programmes["crid://a/b"];
    assert_eq!(left_out, [(LeftOut::NoCrid, 1)]);
    assert!(programme.titles[0].text.chars().count() <= 256 && programme.titles[0].text.ends_with('…'));
    assert_eq!((programme.titles.len(), programme.genres.len()), (1, 64), "x0 is not a language");
    assert!((4000..=4096).contains(&programme.synopses[0].text.encode_utf16().count()));
}

const SERVICE: &str = "tag:broadcaster.example,2026:one";

fn hour(hours: i64) -> WallTime {
    WallTime::from_unix_ms(1_795_219_200_000 + hours * 3_600_000)
}

/// Twelve programmes around noon and twelve after them again, all of a series; a box set with every third.
fn a_guide() -> Guide {
    let mut guide = Guide::default();
    for number in 0..12_u32 {
        let crid = format!("crid://a/{number}");
        let group = if number % 3 == 0 { "crid://a/box" } else { "crid://a/series" };
        let programme = Programme {
            crid: crid.clone(),
            titles: vec![Text::new("en", format!("Number {number}"))],
            part_of: Some(Part { group: group.into(), number: Some(12 - number) }),
            ..Programme::default()
        };
        guide.programmes.insert(crid.clone(), programme);
        for round in [0, 12] {
            let start = i64::from(number) - 6 + round;
            let event = Event {
                programme: crid.clone(),
                start: hour(start),
                end: hour(start + 1),
                is_first_showing: round == 0,
            };
            guide.schedules.entry(SERVICE.into()).or_default().push(event);
        }
        guide.on_demand.push(OnDemand {
            programme: crid,
            service: "tag:vod".into(),
            locators: vec![("http://h/m.mpd".into(), "application/dash+xml".into())],
            duration_ms: 1000,
            start: hour(0),
            end: hour(1 + i64::from(number)),
        });
    }
    for (crid, kind, parent) in [
        ("crid://a/box", GroupKind::BoxSet, Some("crid://a/all")),
        ("crid://a/all", GroupKind::Category, None),
        ("crid://a/series", GroupKind::Series, None),
    ] {
        let part_of = parent.map(|group| Part { group: group.into(), number: None });
        guide.groups.insert(crid.into(), Group { crid: crid.into(), kind, part_of, ..Group::default() });
    }
    guide.tidy();
    guide
}

fn table<'d>(document: &'d Element, name: &str) -> &'d [Element] {
    document.children[0].find(name).map_or(&[], |table| table.children.as_slice())
}

fn attributes<'d>(elements: &'d [Element], name: &str) -> Vec<&'d str> {
    elements.iter().map(|it| it.attribute(name).unwrap_or("-")).collect()
}

#[test]
fn a_schedule_reaches_as_far_as_its_events() {
    let guide = a_guide();
    let (from, to) = (hour(0).plus_ms(60_000), hour(1).plus_ms(60_000));
    let document = schedule(&guide, &[SERVICE, SERVICE], from, to, &Options::default()).unwrap();
    let [only] = table(&document, "ProgramLocationTable") else { panic!("one schedule") };
    assert_eq!(
        (only.attribute("start"), only.attribute("end")),
        (Some("2026-11-21T00:00:00Z"), Some("2026-11-21T02:00:00Z"))
    );
    assert_eq!(only.children.len(), 2);
    assert_eq!(
        attributes(table(&document, "ProgramInformationTable"), "programId"),
        ["crid://a/6", "crid://a/7"]
    );
    // A window beyond the last event keeps its own bounds, in their order.
    let document = schedule(&guide, &[SERVICE], hour(90), hour(80), &Options::default()).unwrap();
    let empty = &table(&document, "ProgramLocationTable")[0];
    assert_eq!((empty.attribute("start"), empty.children.len()), (empty.attribute("end"), 0));
    assert!(schedule(&guide, &["tag:other"], from, to, &Options::default()).is_none());
}

#[test]
fn now_next_and_a_window_say_which_is_which() {
    let guide = a_guide();
    let half = hour(0).plus_ms(1_800_000);
    let groups = |document: &Element| -> Vec<(String, String)> {
        let groups = table(document, "GroupInformationTable").iter();
        let name = |it: &Element| it.attribute("groupId").unwrap().rsplit('/').next().unwrap().to_owned();
        groups.map(|it| (name(it), it.attribute("numOfItems").unwrap().to_owned())).collect()
    };
    let pair = |name: &str, items: &str| (name.to_owned(), items.to_owned());
    let document = now_next(&guide, &[SERVICE], half, &Options::default()).unwrap();
    assert_eq!(groups(&document), [pair("now", "1"), pair("later", "1")]);
    let document = window(&guide, SERVICE, half, 99, 99, &Options::default()).unwrap();
    assert_eq!(groups(&document), [pair("earlier", "6"), pair("now", "1"), pair("later", "10")]);
    // What was shown earlier comes again: one description, in both groups.
    let programmes = table(&document, "ProgramInformationTable");
    assert_eq!(programmes.len(), 12);
    let first = programmes.iter().find(|it| it.attribute("programId") == Some("crid://a/0")).unwrap();
    let places: Vec<_> =
        first.all("MemberOf").map(|it| (it.attribute("crid").unwrap(), it.attribute("index"))).collect();
    let prefix = "crid://dvb.org/metadata/schedules/now-next";
    let (earlier, later) = (format!("{prefix}/earlier"), format!("{prefix}/later"));
    assert_eq!(places, [(earlier.as_str(), Some("1")), (later.as_str(), Some("6"))]);
    // Beyond the end there is nothing, which is not a reason to know nothing.
    let document = now_next(&guide, &[SERVICE], hour(99), &Options::default()).unwrap();
    assert_eq!((groups(&document).len(), table(&document, "ProgramLocationTable").len()), (0, 1));
    assert!(window(&guide, "tag:other", half, 1, 1, &Options::default()).is_none());
}

#[test]
fn a_programme_is_told_with_its_showings_from_2026_on() {
    let guide = a_guide();
    let names = |edition, now| -> Vec<String> {
        let options = Options { edition, ..Options::default() };
        let document = programme(&guide, "crid://a/7", now, &options).unwrap();
        table(&document, "ProgramLocationTable").iter().map(|it| it.name.clone()).collect()
    };
    assert_eq!(names(Tva::V2024, hour(0)), ["OnDemandProgram"]);
    assert_eq!(names(Tva::V2026, hour(0)), ["BroadcastEvent", "BroadcastEvent", "OnDemandProgram"]);
    assert_eq!(names(Tva::V2026, hour(3)), ["BroadcastEvent", "OnDemandProgram"]);
    assert!(names(Tva::V2026, hour(99)).is_empty());
    let player = Options { player: Some("http://h/p"), ..Options::default() };
    let document = programme(&guide, "crid://a/7", hour(0), &player).unwrap();
    let url = table(&document, "ProgramLocationTable")[0].find("ProgramURL").unwrap();
    assert_eq!(
        (url.text.as_str(), url.attribute("contentType")),
        ("http://h/p?pid=crid%3A%2F%2Fa%2F7", Some(AIT_TYPE))
    );
    assert!(programme(&guide, "crid://a/unknown", hour(0), &player).is_none());
}

#[test]
fn more_episodes_come_by_number_and_page() {
    let guide = a_guide();
    let link = |page: usize| format!("http://h/?p={page}");
    let ask = |crid: &str, showings, now, number| {
        let page = Page { number, items: 3, link: &link };
        more_episodes(&guide, crid, showings, now, Some(page), &Options::default())
    };
    let of = |document: &Element| {
        attributes(table(document, "ProgramInformationTable"), "programId").join(" ").replace("crid://a/", "")
    };
    let links = |document: &Element| -> Vec<String> {
        let about = table(document, "GroupInformationTable")[0].find("BasicDescription").unwrap();
        let how = about.children.iter().map(|it| it.find("HowRelated").unwrap().attribute("href").unwrap());
        how.map(|href| href.rsplit(':').next().unwrap().to_owned()).collect()
    };
    // Eight of twelve are of the series, the later ones have the lower numbers.
    let first = ask("crid://a/1", Showings::All, hour(0), 1).unwrap();
    assert_eq!(
        (of(&first).as_str(), links(&first).as_slice()),
        ("11 10 8", &["next".to_owned(), "last".to_owned()][..])
    );
    let second = ask("crid://a/series", Showings::All, hour(0), 2).unwrap();
    assert_eq!((of(&second).as_str(), links(&second).len()), ("7 5 4", 4));
    let last = ask("crid://a/1", Showings::All, hour(0), usize::MAX).unwrap();
    assert_eq!((of(&last).as_str(), links(&last).join(" ").as_str()), ("2 1", "first prev"));
    assert_eq!(table(&last, "GroupInformationTable")[0].attribute("numOfItems"), Some("8"));
    // The last title on demand goes at hour 12, the last showing ends at hour 18.
    let on_demand = ask("crid://a/1", Showings::OnDemand, hour(11), 1).unwrap();
    assert_eq!((of(&on_demand).as_str(), links(&on_demand).join(" ").as_str()), ("11", "first last"));
    assert_eq!(of(&ask("crid://a/1", Showings::Scheduled, hour(16), 1).unwrap()), "11 10");
    assert!(ask("crid://a/1", Showings::All, hour(18), 1).is_none());
    assert!(ask("crid://a/unknown", Showings::All, hour(0), 1).is_none());
}

#[test]
fn box_sets_from_categories_to_contents() {
    let guide = a_guide();
    let options = Options { player: Some("http://h/p"), ..Options::default() };
    let ids = |document: &Element| attributes(table(document, "GroupInformationTable"), "groupId").join(" ");
    assert_eq!(ids(&box_set_categories(&guide, &options).unwrap()), format!("{BOX_SETS} crid://a/all"));
    let lists = box_set_lists(&guide, "crid://a/all", &options).unwrap();
    assert_eq!(ids(&lists), "crid://a/all crid://a/box");
    let contents = box_set_contents(&guide, "crid://a/box", hour(4), None, &options).unwrap();
    let programmes = table(&contents, "ProgramInformationTable");
    assert_eq!(attributes(programmes, "programId"), ["crid://a/9", "crid://a/6"], "0 and 3 are over");
    let indexes: Vec<_> =
        programmes.iter().map(|it| it.find("MemberOf").unwrap().attribute("index")).collect();
    assert_eq!(indexes, [Some("1"), Some("2")]);
    assert_eq!(table(&contents, "ProgramLocationTable").len(), 2);
    assert!(box_set_lists(&guide, "crid://a/box", &options).is_none());
    assert!(box_set_contents(&guide, "crid://a/series", hour(0), None, &options).is_none());
    assert!(box_set_categories(&Guide::default(), &options).is_none());
    // What nothing says where to find is in no box, unless an application finds it.
    let mut nowhere = a_guide();
    nowhere.on_demand.iter_mut().for_each(|title| title.locators.clear());
    let ask = |options| box_set_contents(&nowhere, "crid://a/box", hour(4), None, options).unwrap();
    let counts = [&options, &Options::default()].map(|it| table(&ask(it), "ProgramInformationTable").len());
    assert_eq!(counts, [2, 0]);
    assert!(table(&library(&nowhere, &options), "ProgramLocationTable").is_empty());
    // Groups that are in each other.
    let mut circle = a_guide();
    for (crid, parent) in [("crid://a/box", "crid://a/series"), ("crid://a/series", "crid://a/box")] {
        circle.groups.get_mut(crid).unwrap().part_of = Some(Part { group: parent.into(), number: None });
    }
    let contents = box_set_contents(&circle, "crid://a/box", hour(0), None, &options).unwrap();
    assert_eq!(table(&contents, "ProgramInformationTable").len(), 12);
    assert_eq!(ids(&contents), "crid://a/box crid://a/series");
}

#[test]
fn texts_are_fitted_to_the_clause() {
    let mut guide = a_guide();
    let crid = "crid://a/7";
    let described = guide.programmes.get_mut(crid).unwrap();
    described.titles =
        vec![Text::new("", "word ".repeat(40)), Text::new("EN", "twice"), Text::new("??", "no language")];
    described.synopses = vec![Text::new("de", "Wort ".repeat(400))];
    described.minimum_age = Some(3);
    described.episode_titles = vec![Text::new("fr", "sans titre")];
    let about = |guide: &Guide| {
        let document = programme(guide, crid, hour(0), &Options::default()).unwrap();
        let text = to_xml(&document);
        assert_eq!(parse(text.as_bytes()).unwrap(), document);
        table(&document, "ProgramInformationTable")[0].find("BasicDescription").unwrap().clone()
    };
    let cut = about(&guide);
    assert_eq!(cut.all("Title").count(), 1);
    let lengths: Vec<usize> = cut.children.iter().map(|it| it.text.chars().count()).collect();
    assert_eq!(lengths, [80, 90, 200, 1200], "{cut:?}");
    assert!(cut.children.iter().all(|it| it.text.ends_with('…')));
    assert!(cut.find("ParentalGuidance").is_none());
    let bare = guide.programmes.get_mut(crid).unwrap();
    (bare.titles, bare.synopses) = (Vec::new(), Vec::new());
    let bare = about(&guide);
    let texts: Vec<_> = bare.children.iter().map(|it| (it.name.as_str(), it.text.as_str())).collect();
    assert_eq!(texts, [("Title", crid), ("Synopsis", crid)]);
}

fn texts(stem: &'static str, most: usize) -> impl Strategy<Value = Vec<Text>> {
    let text = format!("{stem}[a-zäß<&\"'\u{1f4e1}]{{0,9}}( [a-z.,;<>&]{{1,9}}){{0,{most}}}");
    let tags = proptest::sample::subsequence(vec!["en", "de", "pt-BR"], 0..=3);
    let text = proptest::string::string_regex(&text).unwrap();
    (tags, proptest::collection::vec(text, 3)).prop_map(|(tags, lines)| {
        tags.into_iter().zip(lines).map(|(tag, line)| Text::new(tag, line)).collect()
    })
}

fn part(groups: &'static [&'static str]) -> impl Strategy<Value = Option<Part>> {
    let group = proptest::sample::select(groups);
    let part = (group, proptest::option::of(1..99_u32));
    proptest::option::of(part.prop_map(|(group, number)| Part { group: group.into(), number }))
}

fn credit() -> impl Strategy<Value = Credit> {
    use Role::{Actor, Commentator, Composer, Director, Editor, Guest, Presenter, Producer, Writer};
    let roles = vec![Actor, Director, Writer, Producer, Presenter, Commentator, Composer, Editor, Guest];
    let name = "[A-Zé][a-z]{0,9}( [A-Z][a-z]{0,9}){0,4}";
    (proptest::sample::select(roles), name, proptest::option::of(name))
        .prop_map(|(role, name, character)| Credit { role, name, character })
}

fn programme_of(crid: String) -> impl Strategy<Value = Programme> {
    let words = (texts("t", 5), texts("t", 3), texts("s", 90), texts("k", 1));
    let facts = (proptest::option::of(4..=18_u8), proptest::option::of(1..=9999_u16), any::<bool>());
    let lists = (
        proptest::collection::vec("urn:[a-z]{3}:[0-9.]{1,5}", 0..5),
        proptest::collection::vec(credit(), 0..5),
    );
    let part = part(&["crid://a/series", "crid://a/box", "crid://a/nowhere"]);
    (words, facts, lists, part).prop_map(move |(words, facts, lists, part_of)| {
        let (titles, mut episode_titles, synopses, keywords) = words;
        episode_titles.retain(|text| titles.iter().any(|title| title.language == text.language));
        Programme {
            crid: crid.clone(),
            titles: if titles.is_empty() { vec![Text::new("en", crid.as_str())] } else { titles },
            episode_titles: if synopses.len() == 3 { Vec::new() } else { episode_titles },
            synopses,
            genres: lists.0,
            keywords,
            minimum_age: facts.0,
            credits: lists.1,
            image: facts
                .2
                .then(|| Image { uri: "http://h/a?b=1&c=2".into(), content_type: "image/webp".into() }),
            year: facts.1,
            part_of,
        }
    })
}

fn any_guide() -> impl Strategy<Value = Guide> {
    let programmes = proptest::collection::vec(0..9_u32, 0..6).prop_flat_map(|names| {
        let names: std::collections::BTreeSet<u32> = names.into_iter().collect();
        names.into_iter().map(|name| programme_of(format!("crid://a/{name}"))).collect::<Vec<_>>()
    });
    let group = |crid: &'static str, kind| {
        (texts("g", 5), texts("s", 90), part(&["crid://a/all", "crid://a/box"])).prop_map(
            move |(titles, synopses, part_of)| Group {
                crid: crid.into(),
                titles: if titles.is_empty() { vec![Text::new("en", crid)] } else { titles },
                synopses,
                image: None,
                kind,
                part_of: part_of.filter(|part| part.group != crid),
            },
        )
    };
    let groups = (
        group("crid://a/series", GroupKind::Series),
        group("crid://a/box", GroupKind::BoxSet),
        group("crid://a/all", GroupKind::Category),
    );
    let lengths = proptest::collection::vec((1_000..9_000_000_i64, any::<bool>()), 0..9);
    (programmes, groups, lengths, any::<bool>()).prop_map(|(programmes, groups, lengths, is_endless)| {
        let mut guide = Guide::default();
        for (at, programme) in programmes.into_iter().enumerate() {
            let mut start = hour(at as i64);
            for &(length, is_first_showing) in &lengths {
                let event = Event {
                    programme: programme.crid.clone(),
                    start,
                    end: start.plus_ms(length),
                    is_first_showing,
                };
                start = event.end;
                guide.schedules.entry(format!("tag:a,2026:{at}")).or_default().push(event);
            }
            guide.on_demand.push(OnDemand {
                programme: programme.crid.clone(),
                service: if at == 0 { String::new() } else { SERVICE.into() },
                locators: vec![
                    ("http://h/m.mpd".into(), "application/dash+xml".into()),
                    ("http://h/m".into(), String::new()),
                ],
                duration_ms: 1 + at as i64,
                start,
                end: if is_endless { NO_END } else { start.plus_ms(5) },
            });
            guide.programmes.insert(programme.crid.clone(), programme);
        }
        for group in [groups.0, groups.1, groups.2] {
            guide.groups.insert(group.crid.clone(), group);
        }
        guide
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_on_the_air_comes_back(guide in any_guide(), edition in proptest::sample::select(Tva::ALL.to_vec())) {
        let options = Options { edition, is_full: true, ..Options::default() };
        let read = |document: &Element| {
            let (guide, left_out) = Guide::parse(to_xml(document).as_bytes()).unwrap();
            assert_eq!(left_out, []);
            guide
        };
        let mut back = read(&library(&guide, &options));
        prop_assert!(back.schedules.is_empty());
        let services: Vec<&str> = guide.schedules.keys().map(String::as_str).collect();
        if let Some(day) = schedule(&guide, &services, hour(-99), hour(99), &options) {
            back.merge(read(&day));
        }
        prop_assert_eq!(back, guide);
    }

    #[test]
    fn no_document_panics(text in "<TVAMain>([ -~é]|</?(ProgramInformation|ScheduleEvent|Program|Title|OnDemandProgram|GroupInformation|MemberOf|Synopsis)( (crid|programId|groupId|index|xml:lang|serviceIDRef)='[ -%(-;=-~]{0,12}'){0,2}/?>){0,60}(</TVAMain>)?") {
        let _ = Guide::parse(text.as_bytes());
    }

    #[test]
    fn no_guide_and_no_question_panics(
        mut guide in any_guide(),
        odd in ".{0,200}",
        start in any::<i64>(),
        end in any::<i64>(),
        now in any::<i64>(),
        number in any::<usize>(),
        items in any::<usize>(),
    ) {
        let (start, end, now) = (WallTime::from_unix_ms(start), WallTime::from_unix_ms(end), WallTime::from_unix_ms(now));
        for crid in [odd.clone(), format!("crid://{odd}/")] {
            let texts = vec![Text::new(odd.as_str(), odd.as_str())];
            let image = Some(Image { uri: odd.clone(), content_type: odd.clone() });
            let part_of = Some(Part { group: crid.clone(), number: Some(0) });
            guide.programmes.insert(crid.clone(), Programme {
                crid: crid.clone(), titles: texts.clone(), synopses: texts.clone(), keywords: texts.clone(), image: image.clone(),
                credits: vec![Credit { name: odd.clone(), character: Some(odd.clone()), ..Credit::default() }],
                part_of: part_of.clone(), ..Programme::default()
            });
            guide.groups.insert(crid.clone(), Group { crid: crid.clone(), titles: texts, part_of, kind: GroupKind::BoxSet, ..Group::default() });
            guide.schedules.entry(odd.clone()).or_default().push(Event { programme: crid.clone(), start, end, is_first_showing: true });
            guide.on_demand.push(OnDemand { programme: crid, service: odd.clone(), locators: vec![(odd.clone(), odd.clone())], duration_ms: now.unix_ms(), start, end });
        }
        let link = |page: usize| format!("{page}{odd}");
        let page = Some(Page { number, items, link: &link });
        for edition in Tva::ALL {
            let options = Options { language: &odd, edition, player: Some(&odd), is_full: number % 2 == 0 };
            let services: Vec<&str> = guide.schedules.keys().map(String::as_str).collect();
            let crid = format!("crid://{odd}/");
            let answers = [
                schedule(&guide, &services, start, end, &options),
                now_next(&guide, &services, now, &options),
                window(&guide, &odd, now, number, items, &options),
                programme(&guide, &crid, now, &options),
                more_episodes(&guide, &crid, Showings::All, now, page, &options),
                box_set_categories(&guide, &options),
                box_set_lists(&guide, &crid, &options),
                box_set_contents(&guide, &crid, now, page, &options),
                Some(library(&guide, &options)),
            ];
            for answer in answers.iter().flatten() {
                prop_assert!(parse(to_xml(answer).as_bytes()).is_ok());
            }
        }
    }
}
