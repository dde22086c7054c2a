//! Catalogue end to end, from the headend's announcement to a television and the page.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carousel::dvbi::list::{LIST_TYPE, ServiceList};
use carousel::dvbi::{Edition, guide::Guide};
use skycache_tests::programs::program;
use skycache_tests::{Response, Story, Value, get, media, schema};

const PATIENCE: Duration = Duration::from_secs(60);
const NEWS: &str = "tag:cdn.example.com,2026:vod/film";

/// A PNG of one pixel.
pub(crate) const PIXEL: [u8; 67] = [
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0,
    1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x60, 0,
    0, 0, 2, 0, 1, 0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// Hours from now as XMLTV has times.
pub(crate) fn xmltv_time(hours: i64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let time = carousel::time::WallTime::from_unix_ms((now_s + hours * 3600) * 1000).to_xml();
    format!("{} +0000", time[..19].replace(['-', ':', 'T'], ""))
}

fn programme(from_h: i64, to_h: i64, title: &str) -> String {
    format!(
        "<programme channel=\"news\" start=\"{}\" stop=\"{}\"><title lang=\"en\">{title}</title>\
         <desc lang=\"en\">All of it.</desc><category lang=\"en\">News</category></programme>\n",
        xmltv_time(from_h),
        xmltv_time(to_h)
    )
}

fn guide_of(programmes: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE tv SYSTEM \"xmltv.dtd\">\n<tv>\n<channel id=\"news\"><display-name>News</display-name></channel>\n{programmes}</tv>\n"
    )
}

/// A story whose one source is a channel with a guide and a logo, and a second one that is a film in a box set.
fn story() -> Story {
    let mut story = Story::new();
    let dir = story.dir().to_path_buf();
    std::fs::write(dir.join("news.png"), PIXEL).unwrap();
    let shown = [programme(-2, 1, "The morning &amp; &lt;more&gt;"), programme(1, 3, "The evening")].concat();
    std::fs::write(dir.join("guide.xml"), guide_of(&shown)).unwrap();
    story.headend_extra = format!(
        r#"[source.service]
names = {{ en = "News", de = "Nachrichten" }}
descriptions = {{ en = "News all day.", de = "Nachrichten." }}
kind = "linear"
genres = ["News", "Documentary"]
logo = "news.png"
channel = 7
guide = "news"
regions = ["north"]
minimum_age = 12
available = [{{ from = "2020-01-01T00:00:00Z", to = "2099-01-01T00:00:00Z" }}]
[[source]]
path = {:?}
base = "https://cdn.example.com/vod/other/"
name = "other"
[source.service]
genres = ["Movies"]
box_set = "Films"
[nip]
provider = "Example Broadcast"
[nip.carrier]
frequency_10khz = 1_172_750
polarization = "linear vertical"
modulation = "8PSK"
roll_off = "0.20"
symbol_rate_ksps = 27_500
fec = "3/4"
orbital_position = 19.2
[dvb_i]
names = {{ en = "Example channels", de = "Beispielprogramme" }}
logo = "news.png"
countries = ["LUX"]
guides = ["guide.xml"]
interval_ms = 1000
regions = [{{ id = "lux", countries = ["LUX"], names = {{ en = "Luxembourg" }}, regions = [{{ id = "north", postcodes = ["9999"] }}] }}]
lcn = [{{ regions = ["north"], channels = {{ other = 3 }} }}]
"#,
        media::ladder().display().to_string()
    );
    story
}

fn page(story: &Story, path: &str) -> Response {
    get(story.http, path, &[]).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn json(story: &Story, path: &str) -> Value {
    let response = page(story, path);
    assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
    serde_json::from_slice(&response.body).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn titles(story: &Story) -> Value {
    json(story, "/-/titles.json")
}

/// Waits until the page has this number of titles from lists.
fn until_titles(story: &mut Story, count: usize) {
    story.until("the catalogue has come", PATIENCE, |story| {
        let titles = titles(story);
        let listed = titles["titles"].as_array().unwrap().iter().filter(|it| it["type"] != "file");
        listed.count() >= count
    });
}

fn catalog(story: &Story, out: &Path, arguments: &[&str]) -> (String, String) {
    let mut command = program("headend");
    command.args(["catalog", "-c"]).arg(story.headend_config()).arg("--out").arg(out).args(arguments);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    assert!(output.status.success(), "{}", text(output.stderr));
    (text(output.stdout), text(output.stderr))
}

#[test]
fn every_edition_of_the_catalogue_is_valid() {
    let Some(schemas) = schema::folder() else { return };
    let story = story();
    for edition in Edition::ALL {
        let out = story.dir().join(edition.as_str());
        catalog(&story, &out, &["--edition", edition.as_str()]);
        // Those with HLS in them need the schema of its extension, those before r4 have none.
        let plus = match edition {
            Edition::R8 => "+hls+hbbtv+dvbhb",
            Edition::R4 | Edition::R5 | Edition::R6 | Edition::R7 => "+hls+hbbtv",
            _ => "",
        };
        let list = schemas.join(format!("dvbi_v{}{plus}.xsd", edition.schema()));
        let number = Edition::ALL.iter().position(|it| *it == edition).unwrap();
        let points = schemas.join(format!("dvbi_service_list_discovery_v1.{number}.xsd"));
        for (schema, document) in [(list, "dvb-i/service-list.xml"), (points, "slep.xml")] {
            assert_eq!(schema::complaints(&schema, &out.join(document)), None, "{edition}: {document}");
        }
    }
    let tva = schemas.join("tva_metadata_3-1_2024.xsd");
    let out = story.dir().join("r6/dvb-i/guide");
    let files: Vec<PathBuf> = std::fs::read_dir(&out).unwrap().map(|it| it.unwrap().path()).collect();
    let guides = files.iter().filter(|it| !it.ends_with("manifest.xml"));
    assert!(guides.clone().count() >= 2, "{files:?}");
    guides.for_each(|it| assert_eq!(schema::complaints(&tva, it), None, "{}", it.display()));
}

#[test]
fn the_catalogue_is_the_same_for_the_same_content_and_its_identifiers_those_of_the_gateway() {
    let story = story();
    let (first, second) = (story.dir().join("1"), story.dir().join("2"));
    let (stdout, _) = catalog(&story, &first, &["--json"]);
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 0, "{told:#}");
    catalog(&story, &second, &[]);
    for document in told["documents"].as_array().unwrap() {
        let file = document["file"].as_str().unwrap().to_owned();
        if file.starts_with("dvb-i/") {
            let read = |at: &Path| std::fs::read(at.join(&file)).unwrap();
            assert_eq!(read(&first), read(&second), "{file}");
        }
    }
    let (list, _) =
        ServiceList::parse(&std::fs::read(first.join("dvb-i/service-list.xml")).unwrap()).unwrap();
    let gateway = std::fs::read_to_string(first.join("gateway-configuration.xml")).unwrap();
    for service in &list.services {
        assert!(
            gateway.contains(&format!("serviceIdentifier=\"{}\"", service.id)),
            "{}: {gateway}",
            service.id
        );
        let priorities: Vec<u32> = service.instances.iter().map(|it| it.priority).collect();
        assert_eq!(priorities, [1, 2, 3, 4], "DASH, HLS, DVB-MABR, DVB-S2");
        // Read from the media.
        let video = &service.instances[0].content.video[0];
        assert_eq!((video.width, video.height, video.aspect_ratio), (Some(640), Some(360), Some((16, 9))));
    }
    let rendering: Value =
        serde_json::from_slice(&std::fs::read(first.join("dvb-i/service-list.json")).unwrap()).unwrap();
    assert_eq!(
        (rendering["schema"].as_u64(), rendering["services"][0]["id"].as_str()),
        (Some(1), Some(NEWS))
    );
}

#[test]
fn a_television_finds_everything_at_the_box() {
    let mut story = story();
    story.start_daemon();
    story.start_headend(false);
    until_titles(&mut story, 2);
    story.until_complete(PATIENCE);

    let points = page(&story, "/dvb-i/query?TargetCountry=LUX");
    let points = carousel::dvbi::entry_points::EntryPoints::parse(&points.body).unwrap();
    let (uri, _) = &points.lists().next().expect("a list").uris[0];
    let base = format!("http://{}", story.http);
    let list = page(&story, uri.strip_prefix(&base).expect("a list at the box"));
    assert_eq!(list.header("content-type"), LIST_TYPE);
    assert_eq!(list.header("access-control-allow-origin"), "*");
    let (list, _) = ServiceList::parse(&list.body).unwrap();
    let nobody = page(&story, "/dvb-i/query?TargetCountry=AUT");
    assert_eq!(carousel::dvbi::entry_points::EntryPoints::parse(&nobody.body).unwrap().lists().count(), 0);

    // Every locator works from where the client stands.
    let mut tried = 0;
    let pictures = list.services.iter().flat_map(|it| &it.pictures).map(|it| it.image.uri.clone());
    let manifests = list.services.iter().flat_map(|it| &it.instances);
    let manifests = manifests.filter_map(|it| it.delivery.locator()).map(|(uri, _)| uri.to_owned());
    for uri in pictures.chain(manifests).filter(|it| it.starts_with("http")) {
        let path = uri.strip_prefix(&base).unwrap_or_else(|| panic!("{uri} is elsewhere"));
        assert_eq!(page(&story, path).status, 200, "{uri}");
        tried += 1;
    }
    assert_eq!(tried, 5, "a logo, and an MPD and a playlist of each");

    // The guide, by the endpoints that the list names.
    let endpoint = |uri: &str| uri.strip_prefix(&base).expect("an endpoint at the box").to_owned();
    let source = &list.guide_sources[0];
    let schedule = endpoint(&source.schedule);
    let guide = |path: &str| {
        let response = page(&story, path);
        assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
        Guide::parse(&response.body).unwrap_or_else(|err| panic!("{path}: {err}")).0
    };
    let now_next = guide(&format!("{schedule}?sid={NEWS}&now_next=true"));
    let shown: Vec<&str> = now_next.programmes.values().map(|it| it.titles[0].text.as_str()).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown.contains(&"The morning & <more>") && shown.contains(&"The evening"), "{shown:?}");
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (from, to) = (now_s + 2 * 3600, now_s + 3 * 3600);
    let later = guide(&format!("{schedule}?start_unixtime={from}&end_unixtime={to}&sids[]={NEWS}"));
    assert_eq!(later.schedules[NEWS].len(), 1);
    let crid = &later.schedules[NEWS][0].programme;
    let one = guide(&format!("{}?pid={crid}", endpoint(source.program.as_ref().unwrap())));
    assert_eq!(one.programmes[crid].titles[0].text, "The evening");
    let groups = endpoint(source.group.as_ref().unwrap());
    let categories = guide(&format!("{groups}categories"));
    let category = categories.groups.keys().find(|it| it.contains("/category/")).unwrap();
    let sets = guide(&format!("{groups}lists?groupId={category}"));
    let set = sets.groups.keys().find(|it| it.contains("/box-set/")).unwrap();
    let contents = guide(&format!("{groups}contents?groupId={set}"));
    assert_eq!(contents.on_demand.len(), 1);
    let application = &contents.on_demand[0].locators[0];
    assert_eq!(application.1, "application/vnd.dvb.ait+xml");
    assert_eq!(page(&story, &endpoint(&application.0)).status, 200);
    for wrong in ["/dvb-i/schedule", "/dvb-i/schedule?sid=x&start_unixtime=y", "/dvb-i/program"] {
        assert_eq!(page(&story, wrong).status, 400, "{wrong}");
    }
    for absent in
        ["/dvb-i/schedule?sid=tag:nobody", "/dvb-i/program?pid=crid://a/b", "/dvb-i/lists/x", "/dvb-i/x"]
    {
        assert_eq!(page(&story, absent).status, 404, "{absent}");
    }
    let rendering = json(&story, "/dvb-i/service-list.json");
    assert!(rendering["services"][0]["instances"][0]["delivery"]["uri"].as_str().unwrap().starts_with(&base));

    // The page.
    let titles = titles(&story);
    let news = titles["titles"].as_array().unwrap().iter().find(|it| it["id"] == NEWS).unwrap();
    assert_eq!((news["number"].as_u64(), news["name"]["de"].as_str()), (Some(7), Some("Nachrichten")));
    assert_eq!(news["now"]["title"]["en"], "The morning & <more>");
    assert_eq!(news["logo"], "/dvb.gw/example-broadcast/dvb-i/images/news.png");
    let found = json(&story, "/-/titles.json?q=nachr");
    assert_eq!((found["total"].as_u64(), found["titles"][0]["id"].as_str()), (Some(1), Some(NEWS)));
    let playlist = page(&story, &format!("/-/play.m3u?id={NEWS}"));
    assert!(String::from_utf8_lossy(&playlist.body).contains(&format!("{base}/cdn.example.com/vod/film/")));
    let html = String::from_utf8_lossy(&page(&story, "/").body).into_owned();
    assert!(html.contains("News") && !html.contains("<more>"), "{html}");
    // A client that names the box otherwise gets locators with that name.
    let other = get(story.http, "/dvb-i/service-list.xml", &[("host", "living-room.local:8080")]).unwrap();
    assert!(String::from_utf8_lossy(&other.body).contains("http://living-room.local:8080/"));
    assert_eq!(get(story.http, "/dvb-i/service-list.xml", &[("host", "a\"b")]).unwrap().status, 400);
}

#[test]
fn a_guide_that_changes_reaches_the_box_and_one_that_is_broken_does_no_harm() {
    let mut story = story();
    story.start_daemon();
    story.start_headend(false);
    until_titles(&mut story, 2);
    let now_title = |story: &Story| {
        let titles = titles(story);
        let news = titles["titles"].as_array().unwrap().iter().find(|it| it["id"] == NEWS).cloned();
        news.and_then(|it| it["now"]["title"]["en"].as_str().map(str::to_owned))
    };
    story.until("the guide", PATIENCE, |story| now_title(story).is_some());
    let guide = story.dir().join("guide.xml");
    std::fs::write(&guide, "<tv><programme").unwrap();
    story.until("the headend tells of it", PATIENCE, |story| {
        story
            .headend
            .as_ref()
            .unwrap()
            .log()
            .contains("the guide that was read before stays on the air until")
    });
    assert_eq!(now_title(&story).as_deref(), Some("The morning & <more>"));
    // Overlaps, endless ones, an unknown genre, no title: what can be used is used.
    let messy = [
        programme(-3, 2, "The new one"),
        programme(1, 4, "Later"),
        "<programme channel=\"news\" start=\"yesterday\"><title>no time</title></programme>".to_owned(),
        format!(
            "<programme channel=\"news\" start=\"{}\"><title>endless</title><category>Nonsense</category></programme>",
            xmltv_time(5)
        ),
    ];
    std::fs::write(&guide, guide_of(&messy.concat())).unwrap();
    story.until("the new guide", PATIENCE, |story| now_title(story).as_deref() == Some("The new one"));
    let list =
        |story: &Story| ServiceList::parse(&page(story, "/dvb-i/service-list.xml").body).unwrap().0.version;
    let version = list(&story);
    assert!(version > 0);
    let log = story.headend.take().unwrap().stop();
    assert!(log.contains("Nonsense") && log.contains("yesterday"), "{log}");
    // What has come stays when the sender goes, and over a restart.
    story.daemon.take().unwrap().stop();
    story.start_daemon();
    until_titles(&mut story, 2);
    assert_eq!(now_title(&story).as_deref(), Some("The new one"));
    assert_eq!(list(&story), version);
}

/// A story that carries another provider's list.
fn with_foreign_list(list: &[u8]) -> Story {
    let folder = tempfile_folder();
    std::fs::write(folder.path().join("list.xml"), list).unwrap();
    let mut story = Story::of(&media::ladder());
    let kept = folder.keep();
    story.headend_extra = format!(
        "[[source]]\npath = {:?}\nbase = \"http://dvb.gw/foreign/\"\ninclude_unreferenced = true\n\
         [[nip.service_lists]]\nname = \"Foreign\"\nuri = \"http://dvb.gw/foreign/list.xml\"\n",
        kept.display().to_string()
    );
    story
}

fn tempfile_folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn ten_thousand_services_are_listed_and_found() {
    let mut list = ServiceList {
        id: "tag:example.com,2026:many".into(),
        version: 1,
        language: "en".into(),
        names: vec![carousel::dvbi::Text::new("", "Many")],
        providers: vec![carousel::dvbi::Text::new("", "Many")],
        ..ServiceList::default()
    };
    let (model, _) = ServiceList::parse(&model_list()).unwrap();
    for number in 0..10_000 {
        let mut service = model.services[0].clone();
        service.id = format!("tag:example.com,2026:service-{number}");
        service.names = vec![carousel::dvbi::Text::new("", format!("Service {number}"))];
        service.instances.truncate(1);
        service.instances[0].content = carousel::dvbi::list::ContentAttributes::default();
        list.services.push(service);
    }
    let text = list.to_xml(Edition::R6);
    let mut story = with_foreign_list(text.as_bytes()).at(80_000_000);
    story.start_daemon();
    story.start_headend(false);
    story.until("all have come", PATIENCE, |story| titles(story)["total"] == 10_000);
    assert_eq!(titles(&story)["titles"].as_array().unwrap().len(), 100);
    let begin = Instant::now();
    let found = json(&story, "/-/titles.json?q=service+9999");
    // The film is what they lead to: it is not a title of its own.
    println!("{} bytes of list; one of 10000 found in {:?}", text.len(), begin.elapsed());
    assert_eq!(found["titles"][0]["id"], "tag:example.com,2026:service-9999");
    let last = json(&story, "/-/titles.json?offset=9990&limit=100");
    assert_eq!(last["titles"].as_array().unwrap().len(), 10);
    let (moved, _) = ServiceList::parse(&page(&story, "/dvb-i/service-list.xml").body).unwrap();
    assert_eq!(moved.services.len(), 10_000);
    assert_eq!(page(&story, "/").status, 200);
}

/// The list of the usual story, as `headend catalog` writes it.
fn model_list() -> Vec<u8> {
    let story = story();
    let out = story.dir().join("model");
    catalog(&story, &out, &[]);
    std::fs::read(out.join("dvb-i/service-list.xml")).unwrap()
}

#[test]
fn a_hostile_list_is_a_message_and_the_page_works() {
    let mut markup = String::new();
    for number in 0..50 {
        let _ = write!(
            markup,
            "<Service><UniqueIdentifier>tag:a,2026:{number}</UniqueIdentifier><ServiceInstance><DASHDeliveryParameters>\
             <UriBasedLocation contentType='application/dash+xml'><URI>javascript:alert({number})</URI></UriBasedLocation>\
             </DASHDeliveryParameters></ServiceInstance><ServiceName>&lt;script&gt;alert({number})&lt;/script&gt;</ServiceName>\
             <RelatedMaterial><HowRelated href='x:1001.2'/><MediaLocator><MediaUri>http://evil.example/x.png</MediaUri></MediaLocator>\
             </RelatedMaterial></Service>"
        );
    }
    let hostile = format!("<ServiceList>{markup}</ServiceList>");
    let billion = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><ServiceList><Name>&a;</Name></ServiceList>".to_owned();
    for (list, is_readable) in
        [(hostile, true), (billion, false), ("<ServiceList><Service>".to_owned(), false)]
    {
        let mut story = with_foreign_list(list.as_bytes());
        story.start_daemon();
        story.start_headend(false);
        story.until("the list has come", PATIENCE, |story| {
            let titles = titles(story);
            let is_there = titles["total"].as_u64() > Some(2);
            if is_readable { is_there } else { !titles["messages"].as_array().unwrap().is_empty() }
        });
        let html = String::from_utf8_lossy(&page(&story, "/").body).into_owned();
        assert!(!html.contains("<script>alert"), "{html}");
        assert!(!html.contains("javascript:"), "{html}");
        let titles = titles(&story);
        for title in titles["titles"].as_array().unwrap() {
            assert!(title["logo"].is_null(), "nobody has named that host: {title}");
            for way in title["play"].as_array().unwrap() {
                assert!(way["url"].as_str().unwrap().starts_with('/'), "{title}");
            }
        }
        // What else is on the air is there all the same.
        story.until_complete(PATIENCE);
        assert!(story.compare().wrong.is_empty());
        let log = story.daemon.take().unwrap().stop();
        assert!(!log.contains("panicked"), "{log}");
    }
}
