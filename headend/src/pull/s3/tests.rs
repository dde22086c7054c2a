use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::events::amazon;
use super::super::stats::{KeyLeftOut, PullStats};
use super::super::tests::{Origin, ReceivedRequest, Reply, failed, playlist, refusal, segment, with_puller};
use super::super::{OriginKind, Probed, Puller, complete, probe};
use super::*;
use crate::config::Config;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn nothing_set(_: &str) -> Option<String> {
    None
}

fn bucket_of(url: &str, options: &S3) -> Bucket {
    let location = S3Location::of(url).unwrap().unwrap();
    let bucket = Bucket::new(location, options, nothing_set).unwrap();
    Bucket { first_wait: Duration::from_millis(1), ..bucket }
}

#[test]
fn requests_are_signed_as_amazon_does() {
    let credentials = |token: Option<&str>| Credentials {
        key: KEY.to_owned(),
        secret: SECRET.to_owned(),
        token: token.map(str::to_owned),
    };
    let at = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
    let options = |endpoint: Option<&str>, region: &str, path_style: Option<bool>| S3 {
        endpoint: endpoint.map(str::to_owned),
        region: Some(region.to_owned()),
        path_style,
        ..S3::default()
    };
    // Amazon's example, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
    let of_guide = options(Some("https://s3.amazonaws.com"), "us-east-1", Some(false));
    let bucket = bucket_of("s3://examplebucket/", &of_guide);
    let signed = bucket.signed("test.txt", &[], Some(&credentials(None)), at, 86_400).unwrap();
    assert_eq!(
        signed.as_str(),
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
    // By botocore 1.44.8 (S3SigV4QueryAuth).
    let minio = options(Some("http://127.0.0.1:9000/"), "eu-central-1", None);
    let bucket = bucket_of("s3://vod/film/", &minio);
    let key = "film/\u{e9} 100%+(1)&'*!~.ts";
    let signed = bucket.signed(key, &[], Some(&credentials(Some("tok/en+=="))), at, 300).unwrap();
    assert!(
        signed
            .as_str()
            .starts_with("http://127.0.0.1:9000/vod/film/%C3%A9%20100%25%2B%281%29%26%27%2A%21~.ts?")
            && signed.as_str().ends_with(
                "X-Amz-Signature=1a978a8a9fa046890827076914671a480f0c52c94851cfa3f3632bd39fdd89fd"
            ),
        "{signed}"
    );
    let bucket = bucket_of("s3://vod/", &options(None, "eu-central-1", None));
    let query = [
        ("continuation-token", "1ue/+=x"),
        ("encoding-type", "url"),
        ("list-type", "2"),
        ("prefix", "film a+b/\u{e9}/"),
    ];
    let signed = bucket.signed("", &query, Some(&credentials(None)), at, 300).unwrap();
    assert!(
        signed.as_str().starts_with("https://vod.s3.eu-central-1.amazonaws.com/?")
            && signed.as_str().ends_with(
                "X-Amz-Signature=645e1002831be1fee792b81ace42de37fb66900928814d94b348e5fd6d57f962"
            ),
        "{signed}"
    );
    // Without credentials nothing is signed.
    let open = bucket.signed("", &query, None, at, 300).unwrap();
    assert_eq!(
        open.query().unwrap(),
        "continuation-token=1ue%2F%2B%3Dx&encoding-type=url&list-type=2&prefix=film%20a%2Bb%2F%C3%A9%2F"
    );
}

#[test]
fn a_bucket_is_in_the_host_or_in_the_path() {
    for (endpoint, region, bucket, in_path, expected) in [
        (None, "eu-west-1", "vod", false, "https://vod.s3.eu-west-1.amazonaws.com/"),
        (None, "eu-west-1", "a.b", true, "https://s3.eu-west-1.amazonaws.com/a.b/"),
        (None, "cn-north-1", "vod", false, "https://vod.s3.cn-north-1.amazonaws.com.cn/"),
        (Some("http://[::1]:9000"), "x", "vod", true, "http://[::1]:9000/vod/"),
        (Some("https://h:443/storage/s3/"), "x", "vod", true, "https://h/storage/s3/vod/"),
        (Some("https://h/storage/s3"), "x", "vod", false, "https://vod.h/storage/s3/"),
    ] {
        assert_eq!(base_url(endpoint, region, bucket, in_path).unwrap(), expected);
    }
    assert!(base_url(Some("minio:9000"), "x", "vod", true).is_err());
    assert_eq!(bucket_of("s3://a.b/", &S3::default()).base, "https://s3.us-east-1.amazonaws.com/a.b/");
    let of_environment = |name: &str| (name == "AWS_ENDPOINT_URL").then(|| "http://store:9000".to_owned());
    let location = S3Location::of("s3://vod/").unwrap().unwrap();
    let bucket = Bucket::new(location, &S3::default(), of_environment).unwrap();
    assert_eq!(bucket.base, "http://store:9000/vod/");
}

/// Objects of a store on loopback: bytes and ETag by key.
#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, (Vec<u8>, String)>>,
    /// Keys on a page.
    page: usize,
}

impl Store {
    fn put(&self, key: &str, bytes: impl Into<Vec<u8>>, etag: &str) {
        self.objects.lock().unwrap().insert(key.to_owned(), (bytes.into(), format!("\"{etag}\"")));
    }

    fn answer(&self, asked: &ReceivedRequest) -> Reply {
        let url: Url = format!("http://h{}", asked.target).parse().unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert!(query["X-Amz-Credential"].starts_with(KEY) && !asked.headers.contains_key("authorization"));
        let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().unwrap();
        let Some(key) = path.strip_prefix("/vod/") else { return Reply::of(404, error("NoSuchBucket")) };
        if key == "film/denied.m3u8" {
            return Reply::of(403, error("AccessDenied"));
        }
        let objects = self.objects.lock().unwrap();
        if query.contains_key("list-type") {
            return Reply::of(200, self.list(&objects, &query));
        }
        let Some((bytes, etag)) = objects.get(key) else { return Reply::of(404, error("NoSuchKey")) };
        get(asked, bytes, etag)
    }

    fn list(
        &self,
        objects: &BTreeMap<String, (Vec<u8>, String)>,
        query: &BTreeMap<String, String>,
    ) -> String {
        let after = query.get("continuation-token").map_or("", |it| it.strip_prefix("after ").unwrap());
        let below =
            objects.iter().filter(|(key, _)| key.starts_with(&query["prefix"]) && key.as_str() > after);
        let below: Vec<_> = below.collect();
        let page = if self.page == 0 { 1000 } else { self.page };
        let mut text = "<ListBucketResult>".to_owned();
        for (key, (bytes, etag)) in below.iter().take(page) {
            let key = carousel::xml::escape(key);
            text += &format!(
                "<Contents><Key>{key}</Key><ETag>{etag}</ETag><Size>{}</Size></Contents>",
                bytes.len()
            );
        }
        if below.len() > page {
            let last = carousel::xml::escape(below[page - 1].0);
            text += &format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>after {last}</NextContinuationToken>"
            );
        }
        text + "</ListBucketResult>"
    }
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>")
}

fn get(asked: &ReceivedRequest, bytes: &[u8], etag: &str) -> Reply {
    if asked.headers.get("if-match").is_some_and(|it| it != etag) {
        return Reply::of(412, error("PreconditionFailed"));
    }
    if asked.headers.get("if-none-match").is_some_and(|it| it == etag) {
        return Reply::of(304, "").with("ETag", etag);
    }
    let Some(range) = asked.headers.get("range") else { return Reply::of(200, bytes).with("ETag", etag) };
    let (from, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (from, last): (usize, usize) = (from.parse().unwrap(), last.parse().unwrap());
    if from >= bytes.len() {
        return Reply::of(416, error("InvalidRange"));
    }
    let last = last.min(bytes.len() - 1);
    let of = format!("bytes {from}-{last}/{}", bytes.len());
    Reply::of(206, &bytes[from..=last]).with("Content-Range", of).with("ETag", etag)
}

fn config(dir: &Path, endpoint: &str, pull: &str, more: &str) -> Config {
    let credentials = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    fs::write(dir.join("credentials"), credentials).unwrap();
    let text = format!(
        "[link]\nrate_bps = 8_000_000\n[[source]]\npath = 'pulled'\nbase = 'https://cdn.example.com/film/'\n\
        pull = \"{pull}\"\n{more}\n[source.s3]\nendpoint = '{endpoint}'\nregion = 'us-east-1'\ncredentials_file = 'credentials'\n"
    );
    Config::parse(&text, dir).unwrap_or_else(|why| panic!("{why:?}"))
}

fn store(page: usize) -> (Arc<Store>, Origin) {
    let store = Arc::new(Store { page, ..Store::default() });
    let answering = Arc::clone(&store);
    (store, Origin::new(move |asked| answering.answer(asked)))
}

fn lists(origin: &Origin) -> usize {
    origin.asked.lock().unwrap().iter().filter(|it| it.target.contains("list-type")).count()
}

fn gets(origin: &Origin) -> usize {
    let all = origin.asked.lock().unwrap().len();
    all - lists(origin)
}

#[test]
fn a_bucket_is_gone_through_page_by_page_and_only_what_changed_is_fetched() {
    let (store, origin) = store(3);
    let names: Vec<String> = (0..7).map(|at| format!("{at} +%.ts")).collect();
    let uris: Vec<String> = names.iter().map(|name| crate::package::encode(name)).collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    store.put("film/index.m3u8", playlist(&uris, true), "m-2");
    for (at, name) in names.iter().enumerate() {
        store.put(&format!("film/{name}"), segment(at as u8, 10), &format!("s{at}-2"));
    }
    for key in [
        "film/",
        "film/../out.m3u8",
        "film//x.m3u8",
        "film/.hidden.m3u8",
        "film/unnamed.ts",
        "films/other.m3u8",
    ] {
        store.put(key, "x", "x");
    }
    store.put(&format!("film/{}.m3u8", "x".repeat(300)), "x", "x");
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/film/", "");
    let pulled = complete(&config, |_, _| {}).unwrap().remove(0);
    assert_eq!((pulled.files, pulled.missing.len()), (8, 0), "{pulled:?}");
    let root = dir.path().join("pulled");
    assert_eq!(fs::read(root.join("3 +%.ts")).unwrap(), segment(3, 10));
    assert!(!root.join("unnamed.ts").exists() && !dir.path().join("out.m3u8").exists());
    let list = pulled.list.unwrap();
    assert_eq!(list.keys, 14);
    let left_out: Vec<_> =
        list.left_out.iter().map(|(why, (count, first))| (*why, *count, first.as_str())).collect();
    assert_eq!(left_out[0], (KeyLeftOut::Folder, 1, "film/"));
    assert_eq!(left_out[1], (KeyLeftOut::Unsafe, 2, "film/../out.m3u8"));
    assert_eq!((left_out[2].0, left_out[2].1), (KeyLeftOut::TooLong, 1));
    assert_eq!(left_out[3], (KeyLeftOut::Hidden, 1, "film/.hidden.m3u8"));
    assert_eq!(lists(&origin), 5, "pages of three keys");

    // A restart, and nothing has changed.
    let before = gets(&origin);
    let again = complete(&config, |_, _| {}).unwrap().remove(0);
    assert_eq!((again.files, gets(&origin)), (0, before), "{again:?}");

    // Another version of the same name and length; and one that is gone from two lists.
    let stats = Arc::new(PullStats::default());
    with_puller(&config, &stats, async |puller| {
        store.put("film/3 +%.ts", segment(33, 10), "s3b-2");
        store.objects.lock().unwrap().remove("film/6 +%.ts");
        puller.round().await;
        assert_eq!((stats.counts()[0], gets(&origin)), (1, before + 1));
        assert_eq!(fs::read(root.join("3 +%.ts")).unwrap(), segment(33, 10));
        assert!(root.join("6 +%.ts").exists());
        due(puller);
        let round = puller.round().await;
        assert!(!root.join("6 +%.ts").exists());
        assert_eq!(round.missing, ["6%20+%25.ts"]);
    });
    assert_eq!(stats.counts()[3], 1);
    let (keys, left_out) = stats.listed_keys();
    assert_eq!((keys, left_out.map(|it| it.1).sum::<u64>()), (13, 5));
    assert!(
        stats.to_text().contains("left out: 1 folder (film/), 2 unsafe (film/../out.m3u8)"),
        "{}",
        stats.to_text()
    );
}

/// The next list of its bucket is due.
fn due(puller: &mut Puller) {
    puller.listing.as_mut().unwrap().due = Instant::now();
    puller.failing.clear();
}

#[test]
fn one_manifest_is_taken_alone_and_all_files_where_that_is_said() {
    let (store, origin) = store(0);
    store.put("a/one.m3u8", playlist(&["1.ts"], true), "m");
    store.put("a/two.m3u8", playlist(&["2.ts"], true), "m");
    for name in ["a/1.ts", "a/2.ts", "a/3.ts"] {
        store.put(name, segment(1, 4), "s");
    }
    store.put("a/empty.ts", "", "e");
    let files = |pull: &str, more: &str| {
        let dir = tempfile::tempdir().unwrap();
        complete(&config(dir.path(), &origin.url, pull, more), |_, _| {}).unwrap();
        let names = fs::read_dir(dir.path().join("pulled")).unwrap();
        let mut names: Vec<_> = names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|it| !it.starts_with('.'));
        names.sort();
        names.join(" ")
    };
    assert_eq!(files("s3://vod/a/one.m3u8", ""), "1.ts one.m3u8");
    assert_eq!(files("s3://vod/a/", ""), "1.ts 2.ts one.m3u8 two.m3u8");
    let all = files("s3://vod/a/", "include_unreferenced = true");
    assert_eq!(all, "1.ts 2.ts 3.ts empty.ts one.m3u8 two.m3u8");
}

#[test]
fn a_key_that_an_event_tells_of_is_looked_at_without_a_list() {
    let (store, origin) = store(0);
    store.put("film/index.m3u8", playlist(&["0.ts", "1.ts", "late.ts"], true), "m");
    for at in 0..2 {
        store.put(&format!("film/{at}.ts"), segment(at, 4), &format!("s{at}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("pulled");
    let events = "[source.events]\nbrokers = ['127.0.0.1:9']\ntopic = 's3'";
    let config = config(dir.path(), &origin.url, "s3://vod/film/", events);
    let stats = Arc::new(PullStats::default());
    with_puller(&config, &stats, async |puller| {
        assert_eq!(puller.round().await.missing, ["late.ts"]);
        let mut number = 0;
        // What became of an event, requests for it, and whether the next round came early.
        let mut event = async |name: &str, key: &str, etag: &str| {
            number += 1;
            let before: BTreeMap<_, _> = stats.events()["pulled"].outcomes().collect();
            let (asked, began) = (gets(&origin), Instant::now());
            let text = amazon(name, "vod", &format!("film/{key}"), etag, &format!("{number:016X}"));
            puller.events.as_ref().unwrap().take(number, &text);
            puller.rest(Duration::from_millis(500)).await;
            let is_early = began.elapsed() < Duration::from_millis(400);
            let all = stats.events();
            let became = all["pulled"].outcomes().find(|(why, count)| before[why] < *count);
            (became.unwrap().0, gets(&origin) - asked, is_early)
        };
        store.put("film/0.ts", segment(7, 4), "s0b");
        assert_eq!(event("ObjectCreated:Put", "0.ts", "s0b").await, ("fetched", 2, true));
        assert_eq!(fs::read(root.join("0.ts")).unwrap(), segment(7, 4));
        // The second event of an upload in parts, one of tags, one that says no version.
        let complete = "s3:ObjectCreated:CompleteMultipartUpload";
        assert_eq!(event(complete, "0.ts", "s0b").await, ("unchanged", 0, false));
        assert_eq!(event("ObjectCreated:Copy", "0.ts", "").await, ("unchanged", 1, false));
        assert_eq!(event("ObjectCreated:Put", "unnamed.ts", "u").await, ("unneeded", 0, false));
        // A file that a manifest names, and that is there at last.
        store.put("film/late.ts", segment(9, 4), "l");
        assert_eq!(event("ObjectCreated:Post", "late.ts", "l").await, ("fetched", 2, true));
        // A version was removed, not the object; then the object.
        assert_eq!(event("ObjectRemoved:Delete", "1.ts", "").await, ("unchanged", 1, false));
        store.objects.lock().unwrap().remove("film/1.ts");
        assert_eq!(event("ObjectRemoved:DeleteMarkerCreated", "1.ts", "").await, ("removed", 1, true));
        assert!(!root.join("1.ts").exists());
        assert_eq!(event("ObjectCreated:Put", "none.m3u8", "x").await, ("absent", 1, false));
        assert_eq!(event("ObjectRemoved:Delete", "none.m3u8", "").await, ("absent", 0, false));
        store.put("film/two+%.m3u8", playlist(&["0.ts", "more.ts"], true), "m2");
        store.put("film/more.ts", segment(4, 4), "more");
        assert_eq!(event("ObjectCreated:Put", "two%2B%25.m3u8", "m2").await, ("fetched", 2, true));
        assert_eq!(lists(&origin), 1);
        let due = |puller: &Puller| puller.list_due().unwrap().duration_since(Instant::now()).as_secs();
        assert_eq!(event("ObjectCreated:Put", "denied.m3u8", "d").await, ("failed", 1, false));
        puller.round().await;
        assert!(root.join("more.ts").exists(), "the new manifest names it");
        assert!((1..=60).contains(&due(puller)), "the topic is not read: {}", due(puller));
        assert_eq!(lists(&origin), 1);
        let place = fs::read_to_string(root.join(".events.json")).unwrap();
        assert_eq!(place, format!(r#"{{"schema":1,"topic":"s3","offsets":{{"0":{}}}}}"#, number + 1));
    });
}

const EVENTS: &str = "[source.events]\nbrokers = ['127.0.0.1:9']\ntopic = 's3'";

#[test]
fn what_a_list_could_not_fetch_is_listed_again_at_the_short_interval() {
    let (store, origin) = store(0);
    store.put("film/index.m3u8", playlist(&["0.ts"], true), "m");
    store.put("film/0.ts", segment(0, 4), "s0");
    store.put("film/denied.m3u8", "x", "d");
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/film/", EVENTS);
    with_puller(&config, &Arc::default(), async |puller| {
        puller.events.as_ref().unwrap().connected();
        // It fails; it waits for its next attempt; it is gone.
        for (number, is_short) in [(1, true), (2, true), (3, false)] {
            if number == 3 {
                store.objects.lock().unwrap().remove("film/denied.m3u8");
            }
            let listing = puller.listing.as_mut().unwrap();
            (listing.due, listing.listed_at) = (Instant::now(), None);
            puller.round().await;
            assert_eq!(lists(&origin), number);
            let due = puller.list_due().unwrap().duration_since(Instant::now()).as_secs();
            assert_eq!(due <= 60, is_short, "list {number}: the next in {due} s");
        }
    });
}

#[test]
fn of_events_that_differ_what_the_store_says_counts() {
    let (store, origin) = store(0);
    store.put("film/index.m3u8", playlist(&["0.ts"], true), "m");
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/film/", EVENTS);
    with_puller(&config, &Arc::default(), async |puller| {
        puller.round().await;
        store.put("film/new.m3u8", playlist(&["0.ts"], true), "n");
        for (name, etag, sequencer) in [("ObjectCreated:Put", "n", "0A"), ("ObjectRemoved:Delete", "", "0B")]
        {
            let text = amazon(name, "vod", "film/new.m3u8", etag, sequencer);
            puller.events.as_ref().unwrap().take(0, &text);
        }
        puller.rest(Duration::from_millis(200)).await;
        assert!(
            dir.path().join("pulled/new.m3u8").exists(),
            "the store has the object, although the removal has the later number"
        );
    });
}

#[test]
fn the_place_in_the_topic_is_written_though_no_event_concerns_the_source() {
    let (store, origin) = store(0);
    store.put("film/index.m3u8", playlist(&["0.ts"], true), "m");
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/film/", EVENTS);
    with_puller(&config, &Arc::default(), async |puller| {
        puller.round().await;
        let other = amazon("ObjectCreated:Put", "vod", "other/0.ts", "e", "01");
        puller.events.as_ref().unwrap().take(41, &other);
        puller.rest(Duration::from_millis(10)).await;
        let place = fs::read_to_string(dir.path().join("pulled/.events.json")).unwrap();
        assert_eq!(place, r#"{"schema":1,"topic":"s3","offsets":{"0":42}}"#);
    });
}

#[test]
fn a_live_segment_that_the_store_removes_stays_while_a_manifest_names_it() {
    let (store, origin) = store(0);
    store.put("live/index.m3u8", playlist(&["0.ts", "1.ts"], false), "m");
    store.put("live/0.ts", segment(0, 4), "s0");
    store.put("live/1.ts", segment(1, 4), "s1");
    let dir = tempfile::tempdir().unwrap();
    let more = format!("reserved_bps = 1_000_000\n{EVENTS}");
    let config = config(dir.path(), &origin.url, "s3://vod/live/", &more);
    with_puller(&config, &Arc::default(), async |puller| {
        puller.round().await;
        let removed = async |puller: &mut Puller, key: &str, sequencer: &str| {
            store.objects.lock().unwrap().remove(&format!("live/{key}"));
            let event = amazon("ObjectRemoved:Delete", "vod", &format!("live/{key}"), "", sequencer);
            puller.events.as_ref().unwrap().take(0, &event);
            puller.rest(Duration::from_millis(200)).await;
            dir.path().join("pulled").join(key).exists()
        };
        assert!(removed(puller, "0.ts", "01").await, "it is on the air");
        store.put("live/index.m3u8", playlist(&["1.ts"], false), "m2");
        puller.round().await;
        assert!(!removed(puller, "0.ts", "02").await, "nothing names it any more");
        assert!(!removed(puller, "index.m3u8", "03").await, "a channel ends at once");
    });
}

#[test]
fn a_live_playlist_is_asked_for_and_not_listed_for() {
    let (store, origin) = store(0);
    let window = |at: u8| {
        let names: Vec<String> = (at..at + 3).map(|at| format!("{at}.ts")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = playlist(&names, false).replace("SEQUENCE:0", &format!("SEQUENCE:{at}"));
        store.put("live/index.m3u8", text, &format!("m{at}"));
        for at in at..at + 3 {
            store.put(&format!("live/{at}.ts"), segment(at, 4), &format!("s{at}"));
        }
    };
    window(0);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/live/", "reserved_bps = 1_000_000");
    let stats = Arc::new(PullStats::default());
    with_puller(&config, &stats, async |puller| {
        let inventory = puller.round().await.inventory.unwrap();
        assert_eq!(puller.look_again(&inventory), Duration::from_secs(2), "half a target duration");
        puller.round().await;
        assert_eq!((lists(&origin), stats.counts()[2]), (1, 1), "asked for, and not modified");
        window(1);
        puller.round().await;
        assert_eq!((lists(&origin), stats.counts()[0]), (1, 4 + 2));
        // What came without a list is not fetched again for one.
        due(puller);
        puller.round().await;
        assert_eq!((lists(&origin), stats.counts()[0]), (2, 4 + 2));
    });
    assert!(dir.path().join("pulled/3.ts").exists());
}

/// Fetches `film/long.ts` of an origin into a folder of its own, and gives back its bytes.
fn fetched(origin: &Origin, more: &str) -> (Option<Vec<u8>>, Arc<PullStats>) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/film/", more);
    let stats = Arc::new(PullStats::default());
    with_puller(&config, &stats, async |puller| {
        puller.fetch_all(vec!["long.ts".to_owned()], &BTreeMap::new()).await;
    });
    let left: Vec<_> =
        fs::read_dir(dir.path().join("pulled")).unwrap().map(|it| it.unwrap().file_name()).collect();
    let temporary = left.iter().filter(|it| it.to_string_lossy().ends_with(".tmp")).count();
    assert_eq!(temporary, 0, "{left:?}");
    (fs::read(dir.path().join("pulled/long.ts")).ok(), stats)
}

/// Four ranges, no two bytes of which are in the same place.
fn long(version: u8) -> Vec<u8> {
    (0..26_000_000_u32).map(|at| (at / 257) as u8 ^ version).collect()
}

#[test]
fn a_long_object_comes_in_ranges_of_one_version() {
    let bytes = Arc::new(long(0));
    let (body, cuts) = (Arc::clone(&bytes), AtomicUsize::new(0));
    let origin = Origin::new(move |asked| {
        let reply = get(asked, &body, "\"v-6\"");
        let is_first = asked.headers["range"].starts_with("bytes=0-");
        assert_eq!(asked.headers.contains_key("if-match"), !is_first);
        std::thread::sleep(Duration::from_millis(20));
        // The first and third response break off.
        let is_cut = matches!(cuts.fetch_add(1, Ordering::SeqCst), 0 | 2);
        Reply { cut_at: is_cut.then_some(3_000_000), ..reply }
    });
    let (found, stats) = fetched(&origin, "");
    assert!(found.unwrap() == *bytes, "{:?}", stats.newest_failure());
    let ranges: Vec<String> =
        origin.asked.lock().unwrap().iter().map(|it| it.headers["range"].clone()).collect();
    assert!(ranges.len() >= 6 && ranges.iter().any(|it| it.starts_with("bytes=3000000-")), "{ranges:?}");
    let most = origin.most_at_once.load(Ordering::SeqCst);
    assert!((2..=MAX_REQUESTS).contains(&most), "{most} at once");
}

#[test]
fn an_object_that_changes_while_it_comes_is_fetched_from_the_start() {
    // Stores that know `If-Match` refuse the rest of the old version; others give that of the new one.
    for knows_if_match in [true, false] {
        let versions = [long(0), long(255)];
        let requests = AtomicUsize::new(0);
        let expected = versions[1].clone();
        let origin = Origin::new(move |asked| {
            let at = usize::from(requests.fetch_add(1, Ordering::SeqCst) >= 2);
            let mut asked = asked.clone();
            if !knows_if_match {
                asked.headers.remove("if-match");
            }
            get(&asked, &versions[at], &format!("\"v{at}-6\""))
        });
        let (found, stats) = fetched(&origin, "");
        assert!(found.unwrap() == expected, "{:?}", stats.newest_failure());
    }
    // One that changes forever is given up.
    let requests = AtomicUsize::new(0);
    let bytes = long(0);
    let origin = Origin::new(move |asked| {
        get(asked, &bytes, &format!("\"v{}\"", requests.fetch_add(1, Ordering::SeqCst)))
    });
    let (found, stats) = fetched(&origin, "");
    assert_eq!((found, failed(&stats, PullFailure::Changed)), (None, 1));
}

#[test]
fn without_a_strong_etag_an_object_comes_in_one_piece() {
    for etag in ["W/\"v\"", ""] {
        let bytes = long(0);
        let expected = bytes.clone();
        let origin = Origin::new(move |asked| {
            let mut reply = get(asked, &bytes, "");
            reply.headers.retain(|(name, _)| name != "ETag");
            if etag.is_empty() { reply } else { reply.with("ETag", etag) }
        });
        let (found, _) = fetched(&origin, "");
        assert!(found.unwrap() == expected);
        let asked = origin.asked.lock().unwrap();
        assert!(asked.len() == 2 && !asked[1].headers.contains_key("range"), "{asked:?}");
    }
}

#[test]
fn room_is_taken_before_an_object_comes_and_given_back() {
    let bytes = long(0);
    let origin = Origin::new(move |asked| get(asked, &bytes, "\"v-6\""));
    let (found, stats) = fetched(&origin, "pull_bytes = 25_000_000");
    assert_eq!((found, failed(&stats, PullFailure::Full)), (None, 1));
    assert_eq!(origin.asked.lock().unwrap().len(), 1);
}

/// Runs one request for the list of `s3://vod/film/`.
fn listed(bucket: &Bucket) -> Result<Page, Failed> {
    super::super::runtime().unwrap().block_on(bucket.list(None))
}

#[test]
fn a_busy_store_is_asked_again_and_at_last_given_up() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let origin = Origin::new(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::of(503, error("SlowDown")).with("Retry-After", "0"),
        1 => Reply { cut_at: Some(0), ..Reply::of(500, "x") },
        2 => Reply::of(500, error("InternalError")),
        3 => Reply::of(200, "<ListBucketResult/>"),
        _ => Reply::of(503, error("SlowDown")),
    });
    let options = S3 { endpoint: Some(origin.url.clone()), anonymous: true, ..S3::default() };
    let bucket = bucket_of("s3://vod/film/", &options);
    assert!(listed(&bucket).unwrap().objects.is_empty());
    let refused = listed(&bucket).unwrap_err();
    assert_eq!(
        (refused.why, requests.load(Ordering::SeqCst)),
        (PullFailure::SlowDown, 4 + SENDINGS as usize)
    );
    assert!(listed(&bucket.impatient()).is_err());
    assert_eq!(requests.load(Ordering::SeqCst), 5 + SENDINGS as usize);
}

#[test]
fn a_token_that_has_expired_is_replaced_by_the_one_that_the_file_has_now() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let write = |key: &str, s: u64| {
        let text =
            format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t");
        fs::write(&file, text).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + s);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    };
    write("OLD", 0);
    let path = file.clone();
    let is_renewed = Arc::new(AtomicUsize::new(0));
    let renews = Arc::clone(&is_renewed);
    let origin = Origin::new(move |asked| {
        if !asked.target.contains("Credential=OLD") {
            return Reply::of(200, "<ListBucketResult/>");
        }
        if renews.load(Ordering::SeqCst) == 1 {
            fs::write(&path, fs::read_to_string(&path).unwrap().replace("OLD", "NEW")).unwrap();
        }
        Reply::of(400, error("ExpiredToken"))
    });
    let options =
        S3 { endpoint: Some(origin.url.clone()), credentials_file: Some(file.clone()), ..S3::default() };
    let bucket = bucket_of("s3://vod/film/", &options);
    assert_eq!(listed(&bucket).unwrap_err().why, PullFailure::BadCredentials);
    assert_eq!(origin.asked.lock().unwrap().len(), 1);
    is_renewed.store(1, Ordering::SeqCst);
    assert!(listed(&bucket).is_ok());
    assert_eq!(origin.asked.lock().unwrap().len(), 3);
}

#[test]
fn lists_without_end_or_sense_are_given_up() {
    let page =
        |inner: &str| format!("<ListBucketResult><IsTruncated>true</IsTruncated>{inner}</ListBucketResult>");
    let token = |of: &str| format!("<NextContinuationToken>{of}</NextContinuationToken>");
    let key = "<Contents><Key>film/a.m3u8</Key><ETag>e</ETag><Size>1</Size></Contents>";
    let (same, pages) = (page(&format!("{key}{}", token("same"))), AtomicUsize::new(0));
    let texts: [Box<dyn Fn() -> Vec<u8> + Send + Sync>; 3] = [
        Box::new(move || same.clone().into_bytes()),
        Box::new(move || page(&token(&pages.fetch_add(1, Ordering::SeqCst).to_string())).into_bytes()),
        Box::new(|| vec![b' '; MAX_PAGE_BYTES + 1]),
    ];
    for text in texts {
        let origin = Origin::new(move |asked| match asked.target.contains("list-type") {
            true => Reply::of(200, text()),
            false => Reply::of(404, error("NoSuchKey")),
        });
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), &origin.url, "s3://vod/film/", "");
        let stats = Arc::new(PullStats::default());
        with_puller(&config, &stats, async |puller| {
            assert!(puller.round().await.refusal.is_some());
        });
        assert_eq!(failed(&stats, PullFailure::Listing), 1, "{:?}", stats.newest_failure());
        assert!(lists(&origin) <= MAX_EMPTY_PAGES);
    }
}

#[test]
fn refusals_name_the_bucket_and_no_secret() {
    let told = |status: u16, fields: &[(&str, &str)], body: String| {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let origin = Origin::new(move |_| {
            fields
                .iter()
                .fold(Reply::of(status, body.clone()), |it, (name, value)| it.with(name, value.clone()))
        });
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), &origin.url, "s3://vod/film/", "");
        let why = refusal(&config);
        let (name, kind, probed) = probe(&config).remove(0);
        assert_eq!(kind, OriginKind::Bucket);
        let Probed::Wrong { what: probed, fix } = probed else { panic!("{probed:?}") };
        assert_eq!((name.as_str(), why.ends_with(fix)), ("pulled", true), "{why}");
        let of_bucket = format!("{:?}", bucket_of("s3://vod/film/", config.sources[0].s3.as_ref().unwrap()));
        for text in [&why, &probed, &of_bucket, &config.to_toml().unwrap()] {
            assert!(!text.contains(SECRET) && !text.contains("X-Amz") && !text.contains(KEY), "{text}");
        }
        why
    };
    let region =
        [("x-amz-bucket-region", "eu-central-1"), ("Location", "https://elsewhere/?X-Amz-Signature=1")];
    let why = told(301, &region, error("PermanentRedirect"));
    assert!(why.contains("s3://vod/film/: region (") && why.contains("region = \"eu-central-1\""), "{why}");
    let why = told(403, &[], error("SignatureDoesNotMatch"));
    assert!(why.contains("bad_credentials (the secret key"), "{why}");
    let why = told(404, &[], error("NoSuchBucket"));
    assert!(why.contains("no_bucket"), "{why}");
}

#[test]
fn names_that_no_folder_has_beside_each_other_are_told() {
    let (store, origin) = store(0);
    store.put("film/a/index.m3u8", playlist(&["1.ts"], true), "m");
    store.put("film/a/1.ts", segment(1, 4), "s");
    store.put("film/a", "x", "x");
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &origin.url, "s3://vod/film/", "include_unreferenced = true");
    let stats = Arc::new(PullStats::default());
    with_puller(&config, &stats, async |puller| {
        puller.round().await;
    });
    // Whichever came first has the name.
    assert!(failed(&stats, PullFailure::BadPath) >= 1, "{:?}", stats.newest_failure());
    assert!(stats.newest_failure().unwrap().contains("both a file and a folder"));
}

#[test]
fn a_prefix_without_keys_and_a_manifest_that_is_not_there_are_told() {
    let (store, origin) = store(0);
    store.put("film/a.m3u8", playlist(&["1.ts"], true), "m");
    store.put("film/1.ts", segment(1, 4), "s");
    store.put("only/1.ts", segment(1, 4), "s");
    store.put("only/.hidden.m3u8", "x", "h");
    let dir = tempfile::tempdir().unwrap();
    let of = |pull: &str, more: &str| config(dir.path(), &origin.url, pull, more);
    let probed = |pull: &str, more: &str| probe(&of(pull, more)).remove(0).2;
    let fine = probed("s3://vod/film/", "");
    assert_eq!(fine, Probed::Fine("s3://vod/film/: 2 keys, 1 of them manifests".to_owned()));
    assert!(matches!(probed("s3://vod/film/a.m3u8", ""), Probed::Fine(_)));
    assert!(matches!(probed("s3://vod/only/", "include_unreferenced = true"), Probed::Fine(_)));
    for (pull, told) in [
        ("s3://vod/Film/", "s3://vod/Film/: no_keys"),
        ("s3://vod/film/b.m3u8", "s3://vod/film/b.m3u8: not_found (404)"),
        (
            "s3://vod/only/",
            "s3://vod/only/: 2 keys, 0 of them manifests; keys left out: 1 hidden (only/.hidden.m3u8)",
        ),
    ] {
        let Probed::Wrong { what, fix } = probed(pull, "") else { panic!("{pull}") };
        assert!(what == told && !fix.is_empty(), "{what}; {fix}");
    }
    // A copy of the time before is not a reason to be content.
    complete(&of("s3://vod/film/", ""), |_, _| {}).unwrap();
    store.objects.lock().unwrap().clear();
    let why = refusal(&of("s3://vod/film/", ""));
    assert_eq!(why, format!("s3://vod/film/: no_keys; {}", PullFailure::NoKeys.fix(OriginKind::Bucket)));
}

/// A store, or what answers in its place, that never ends to say why.
#[test]
fn a_refusal_without_an_end_is_read_up_to_a_bound() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let written = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.is_empty()), "the end of the request");
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n").unwrap();
        // More than the sockets of a connection hold.
        (0..1600).take_while(|_| stream.write_all(&[b' '; 64 << 10]).is_ok()).count()
    });
    let options = S3 { endpoint: Some(endpoint), anonymous: true, ..S3::default() };
    let refused = listed(&bucket_of("s3://vod/film/", &options));
    assert_eq!(refused.err().map(|it| it.why), Some(PullFailure::Denied));
    assert!(written.join().unwrap() < 1600);
}
