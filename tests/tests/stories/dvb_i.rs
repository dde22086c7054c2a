//! DVB-I documents against the schemas, by `xmllint`, and against a validator where one is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use carousel::dvbi::guide::{
    self, Credit, Event, Group, GroupKind, Guide, OnDemand, Options, Page, Part, Programme, Role, Showings,
    Tva,
};
use carousel::dvbi::{Image, Text};
use carousel::time::WallTime;
use carousel::xml::Element;
use skycache_tests::schema::{complaints, folder as schemas};

const NOON: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const HOUR_MS: i64 = 3_600_000;

fn at(hours: i64) -> WallTime {
    NOON.plus_ms(hours * HOUR_MS)
}

fn crid(name: &str) -> String {
    format!("crid://broadcaster.example/{name}")
}

fn part(group: &str, number: Option<u32>) -> Option<Part> {
    Some(Part { group: crid(group), number })
}

/// Two services through a day, a series, box sets in categories; texts of any length and kind.
fn a_guide() -> Guide {
    let mut guide = Guide::default();
    let long = "The lighthouse <keeper> & her \"brother\" go out. ".repeat(60);
    for number in 0..30_u32 {
        let name = format!("p{number}");
        let programme = Programme {
            crid: crid(&name),
            titles: vec![
                Text::new("en", format!("Programme {number} <b>& more</b>")),
                Text::new("de", format!("Sendung {number} \u{1f4e1}").repeat(12)),
                Text::new("not a language", "dropped"),
            ],
            episode_titles: vec![Text::new("en", "Part"), Text::new("fr", "sans titre principal")],
            synopses: if number % 3 == 0 {
                Vec::new()
            } else {
                vec![Text::new("en", &long[..(number as usize) * 80])]
            },
            genres: vec![
                "urn:tva:metadata:cs:ContentCS:2011:3.1".into(),
                "urn:dvb:metadata:cs:ContentSubject:2019:1".into(),
            ],
            keywords: (0..30)
                .map(|it| Text::new("", format!("keyword {it} that goes on and on and on")))
                .collect(),
            minimum_age: Some((number % 22) as u8),
            credits: [Role::Actor, Role::Director, Role::Writer, Role::Presenter, Role::Editor, Role::Guest]
                .into_iter()
                .cycle()
                .take(50)
                .map(|role| Credit {
                    role,
                    name: "Wilhelmina Alexandrowna von der Leuchtturmwacht".into(),
                    character: (role == Role::Actor).then(|| "Herself".into()),
                })
                .collect(),
            image: Some(Image {
                uri: format!("http://dvb.gw/i/{number} a.png"),
                content_type: String::new(),
            }),
            year: Some(2026),
            part_of: match number % 4 {
                0 => part("series", Some(number)),
                1 => part("box", None),
                2 => part("box-series", Some(number)),
                _ => None,
            },
        };
        guide.programmes.insert(programme.crid.clone(), programme);
        for service in ["tag:broadcaster.example,2026:one", "tag:broadcaster.example,2026:two"] {
            // What is shown at noon comes again later.
            for day in [0, 1] {
                guide.schedules.entry(service.into()).or_default().push(Event {
                    programme: crid(&name),
                    start: at(i64::from(number) - 15 + 30 * day),
                    end: at(i64::from(number) - 14 + 30 * day),
                    is_first_showing: number % 2 == 0,
                });
            }
        }
        guide.on_demand.push(OnDemand {
            programme: crid(&name),
            service: "tag:broadcaster.example,2026:library".into(),
            locators: vec![
                (format!("http://dvb.gw/v/{number}/m.mpd"), "application/dash+xml".into()),
                (format!("http://dvb.gw/v/{number}/m.m3u8"), "application/vnd.apple.mpegurl".into()),
            ],
            duration_ms: HOUR_MS + 40,
            start: at(-1),
            end: if number == 7 { guide::NO_END } else { at(100) },
        });
    }
    for (name, kind, part_of) in [
        ("series", GroupKind::Series, None),
        ("films", GroupKind::Category, None),
        ("children", GroupKind::Category, part("children", Some(1))),
        ("box", GroupKind::BoxSet, part("films", Some(2))),
        ("empty", GroupKind::BoxSet, part("films", Some(1))),
        ("box-series", GroupKind::Series, part("box", None)),
    ] {
        let group = Group {
            crid: crid(name),
            titles: vec![Text::new("", name), Text::new("de", "Gruppe")],
            synopses: if name == "box" { vec![Text::new("en", long.as_str())] } else { Vec::new() },
            image: Some(Image { uri: "http://dvb.gw/i/g.jpg".into(), content_type: "image/jpeg".into() }),
            kind,
            part_of,
        };
        guide.groups.insert(group.crid.clone(), group);
    }
    assert_eq!(guide.tidy(), []);
    guide
}

/// Every answer there is, with the name of its question as the validator knows it.
fn answers(guide: &Guide, options: &Options<'_>) -> Vec<(&'static str, &'static str, Element)> {
    let (one, two) = ("tag:broadcaster.example,2026:one", "tag:broadcaster.example,2026:two");
    let link = |page: usize| format!("http://dvb.gw/guide?page={page}&a=b");
    let page = |number| Some(Page { number, items: 3, link: &link });
    let half = NOON.plus_ms(HOUR_MS / 2);
    let episodes = |showings, page| guide::more_episodes(guide, &crid("p0"), showings, half, page, options);
    let contents = |page| guide::box_set_contents(guide, &crid("box"), half, page, options);
    let one_page = Some(Page { number: 1, items: 500, link: &link });
    [
        ("Time", "schedule", guide::schedule(guide, &[one], half, at(3), options)),
        (
            "Time",
            "schedules",
            guide::schedule(guide, &[one, two, one, "tag:x,2026:y"], at(-24), at(24), options),
        ),
        ("Time", "no event", guide::schedule(guide, &[two], at(2400), at(2403), options)),
        ("NowNext", "now", guide::now_next(guide, &[one], half, options)),
        ("NowNext", "several", guide::now_next(guide, &[one, two], half, options)),
        ("NowNext", "the end", guide::now_next(guide, &[one], at(2400), options)),
        ("Window", "window", guide::window(guide, one, half, 99, 99, options)),
        ("Window", "narrow", guide::window(guide, one, half, 0, 1, options)),
        ("ProgInfo", "programme", guide::programme(guide, &crid("p28"), half, options)),
        ("ProgInfo", "nothing to see", guide::programme(guide, &crid("p3"), at(9000), options)),
        ("MoreEpisodes", "all", episodes(Showings::All, page(1))),
        ("MoreEpisodes", "last page", episodes(Showings::All, page(99))),
        ("MoreEpisodes", "on demand", episodes(Showings::OnDemand, one_page)),
        ("MoreEpisodes", "scheduled", episodes(Showings::Scheduled, page(2))),
        ("bsCategories", "categories", guide::box_set_categories(guide, options)),
        ("bsLists", "lists", guide::box_set_lists(guide, &crid("films"), options)),
        ("bsLists", "no list", guide::box_set_lists(guide, &crid("children"), options)),
        ("bsContents", "contents", contents(None)),
        ("bsContents", "first page", contents(page(1))),
        ("bsContents", "second page", contents(page(2))),
        ("bsContents", "empty", guide::box_set_contents(guide, &crid("empty"), half, None, options)),
    ]
    .into_iter()
    .map(|(form, name, document)| (form, name, document.expect(name)))
    .collect()
}

fn write(folder: &Path, name: &str, document: &Element) -> PathBuf {
    let path = folder.join(format!("{name}.xml"));
    std::fs::write(&path, guide::to_xml(document)).expect("written");
    path
}

#[test]
fn guides_are_valid_by_the_schema_of_their_edition() {
    let Some(schemas) = schemas() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let guide = a_guide();
    for (edition, schema) in
        [(Tva::V2019, "2019"), (Tva::V2023, "2023"), (Tva::V2024, "2024"), (Tva::V2026, "v1141")]
    {
        let schema = schemas.join(format!("tva_metadata_3-1_{schema}.xsd"));
        for player in [None, Some("http://dvb.gw/player.aitx")] {
            let options = Options { language: "en", edition, player, is_full: false };
            let full = Options { is_full: true, ..options };
            let mut documents = answers(&guide, &options);
            let services: Vec<&str> = guide.schedules.keys().map(String::as_str).collect();
            let day = guide::schedule(&guide, &services, at(-24), at(24), &full).expect("a day");
            documents.extend([("", "day", day), ("", "library", guide::library(&guide, &full))]);
            for (_, name, document) in documents {
                let path = write(folder.path(), name, &document);
                if let Some(complaints) = complaints(&schema, &path) {
                    panic!("{edition:?} {name}: {complaints}");
                }
            }
        }
    }
}

/// With `SKYCACHE_DVBI_CHECK` the name of a program that takes a document and `cg:` with the question it answers, and
/// says `ERROR` or `WARN` at the beginning of a line for each.
#[test]
fn guides_are_in_order_for_a_validator() {
    let Some(check) = std::env::var_os("SKYCACHE_DVBI_CHECK") else {
        eprintln!("SKIPPED: SKYCACHE_DVBI_CHECK names no validator");
        return;
    };
    let folder = tempfile::tempdir().expect("folder");
    let guide = a_guide();
    let mut complaints = String::new();
    for edition in Tva::ALL {
        let options =
            Options { language: "en", edition, player: Some("http://dvb.gw/player.aitx"), is_full: false };
        for (form, name, document) in answers(&guide, &options) {
            let path = write(folder.path(), name, &document);
            let output = Command::new(&check).arg(&path).arg(format!("cg:{form}")).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(" errors, "), "the validator does not count: {said}");
            let is_complaint = |line: &&str| {
                // That an edition is not the newest is known; a schedule without events, which more episodes are to have,
                // the schemas before 2024 do not.
                let is_age = line.contains("schema version is out of date");
                let is_bound =
                    edition < Tva::V2024 && name == "on demand" && line.starts_with("ERROR PLT010-1");
                !is_age && !is_bound && ["FATAL", "ERROR", "WARN"].iter().any(|kind| line.starts_with(kind))
            };
            for line in said.lines().filter(is_complaint) {
                complaints += &format!("{edition:?} {name}: {line}\n");
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}
