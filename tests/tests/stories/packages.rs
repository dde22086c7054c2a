//! Packages of real packagers, from the box alone to foreign players. No faster ring shows that the objects that browsers and
//! FFmpeg request are on the air, and that a growing file arrives while it grows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use skycache_tests::programs::{Program, have, have_npm_packages};
use skycache_tests::{Story, Value, get, media};

const PATIENCE: Duration = Duration::from_secs(90);

pub(super) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browsers")
}

/// The npm packages of `tests/browsers`, below `target`. `None`, with a message, where there is no Node or no registry.
pub(super) fn modules() -> Option<&'static Path> {
    static MODULES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let modules = MODULES.get_or_init(|| {
        let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browsers");
        std::fs::create_dir_all(&to).ok()?;
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(scripts().join(name), to.join(name)).ok()?;
        }
        have_npm_packages(&to, "players").then(|| to.join("node_modules"))
    });
    modules.as_deref()
}

fn ffmpeg(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]).args(arguments).current_dir(folder);
    let output = command.output().expect("ffmpeg");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Ten seconds of picture and sound, a key frame every two.
fn film(folder: &Path) -> PathBuf {
    let source = "testsrc=s=160x90:r=25:d=10";
    ffmpeg(
        folder,
        &[
            "-f",
            "lavfi",
            "-i",
            source,
            "-f",
            "lavfi",
            "-i",
            "sine=d=10",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "50",
            "-sc_threshold",
            "0",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
            "in.mp4",
        ],
    );
    folder.join("in.mp4")
}

#[test]
fn a_file_that_grows_arrives_in_the_ranges_of_its_playlist() {
    if !have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (film, folder) = (film(dir.path()), dir.path().join("live"));
    std::fs::create_dir(&folder).unwrap();
    let mut story = Story::of(&folder);
    story.start_daemon();
    story.start_headend(false);
    let mut packager = Command::new("ffmpeg");
    packager
        .args(["-nostdin", "-v", "error", "-re", "-i"])
        .arg(&film)
        .args(["-c", "copy"])
        .current_dir(&folder);
    packager.args(["-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "-hls_flags", "single_file"]);
    packager.args(["-hls_segment_type", "fmp4", "live.m3u8"]);
    let mut packager = Program::start(packager, &dir.path().join("ffmpeg.log")).unwrap();

    // Its first ranges are there while it is written.
    let ranges = |story: &Story| -> BTreeSet<(u64, u64)> {
        let keys = story.list();
        let keys = keys.iter().filter_map(|it| it["key"].as_str().map(str::to_owned)).collect::<Vec<_>>();
        let named = keys.iter().filter_map(|key| key.strip_prefix("cdn.example.com/vod/film/live.m4s"));
        named
            .map(|query| {
                let (first, last) = query.strip_prefix("?skycache-range=").unwrap().split_once('-').unwrap();
                (first.parse().unwrap(), last.parse::<u64>().unwrap() + 1)
            })
            .collect()
    };
    story.until("the first segment is there", PATIENCE, |story| ranges(story).len() >= 2);
    assert!(packager.ended().is_none(), "it is written: {}", packager.log());
    let playlist = Story::path_of("live.m3u8");
    story.until("the playlist ends", PATIENCE, |story| {
        let response = get(story.http, &playlist, &[]).ok();
        response.is_some_and(|it| String::from_utf8_lossy(&it.body).contains("#EXT-X-ENDLIST"))
    });

    // What the playlist lists is there, and is the file's bytes.
    let text = String::from_utf8(get(story.http, &playlist, &[]).unwrap().body).unwrap();
    let listed = |text: &str| -> (u64, u64) {
        let (length, first) = text.split_once('@').unwrap();
        let first: u64 = first.parse().unwrap();
        (first, first + length.parse::<u64>().unwrap())
    };
    let map = text.split("BYTERANGE=\"").nth(1).unwrap().split('"').next().map(listed).unwrap();
    let segments: Vec<(u64, u64)> =
        text.lines().filter_map(|line| line.strip_prefix("#EXT-X-BYTERANGE:")).map(listed).collect();
    let file = std::fs::read(folder.join("live.m4s")).unwrap();
    story.until("every range is there", PATIENCE, |story| ranges(story).len() > segments.len());
    let all = ranges(&story);
    assert_eq!(all, segments.iter().copied().chain([map]).collect(), "{text}");
    assert_eq!((map.0, map.1, segments.len()), (0, segments[0].0, 5), "{text}");
    assert!(segments.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gap, nothing twice: {text}");
    for &(first, end) in &all {
        let range = format!("bytes={first}-{}", end - 1);
        let response = get(story.http, &Story::path_of("live.m4s"), &[("range", &range)]).unwrap();
        assert_eq!(response.status, 206, "{range}");
        assert_eq!(response.header("content-range"), format!("bytes {first}-{}/*", end - 1));
        assert!(response.body == file[first as usize..end as usize], "{range}");
    }
    assert_ne!(
        get(story.http, &Story::path_of("live.m4s"), &[]).unwrap().status,
        200,
        "nobody has all of it"
    );
    let played = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-v",
            "warning",
            "-progress",
            "-",
            "-i",
            &format!("http://{}{playlist}", story.http),
        ])
        .args(["-map", "0:v:0", "-f", "null", "/dev/null"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    let frames = said.lines().rev().find_map(|line| line.strip_prefix("frame="));
    assert_eq!(frames, Some("250"), "{}", String::from_utf8_lossy(&played.stderr));
    story.headend.take().unwrap().stop();
}

#[test]
fn players_in_a_browser_play_packages_from_the_box_alone() {
    if !have("ffmpeg") || !have("chromium") {
        return;
    }
    let Some(modules) = modules() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (film, folder) = (film(dir.path()), dir.path().join("out"));
    let film = film.display().to_string();
    for name in ["hls ts", "hls fmp4", "dash time", "dash single"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let input = ["-i", &film, "-c", "copy"];
    let package = |name: &str, output: &[&str]| ffmpeg(&folder.join(name), &[&input[..], output].concat());
    package(
        "hls ts",
        &[
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_list_size",
            "0",
            "-hls_segment_filename",
            "säg %d.ts",
            "m.m3u8",
        ],
    );
    package(
        "hls fmp4",
        &[
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_playlist_type",
            "vod",
            "-hls_segment_type",
            "fmp4",
            "-hls_flags",
            "single_file",
            "m.m3u8",
        ],
    );
    package(
        "dash time",
        &[
            "-f",
            "dash",
            "-seg_duration",
            "2",
            "-init_seg_name",
            "i+$RepresentationID$.mp4",
            "-media_seg_name",
            "s+$RepresentationID$-$Number%05d$.m4s",
            "m.mpd",
        ],
    );
    package("dash single", &["-f", "dash", "-seg_duration", "2", "-single_file", "1", "m.mpd"]);
    let mut story = Story::of(&folder);
    story.start_daemon();
    story.send_once();
    let url = |name: &str| format!("http://{}{}", story.http, Story::path_of(&name.replace(' ', "%20")));
    let mut command = Command::new("node");
    command.arg(scripts().join("play.mjs")).env("NODE_MODULES", modules);
    for (player, manifest) in [
        ("hls.js", "hls ts/m.m3u8"),
        ("hls.js", "hls fmp4/m.m3u8"),
        ("shaka", "hls fmp4/m.m3u8"),
        ("dash.js", "dash time/m.mpd"),
        ("shaka", "dash time/m.mpd"),
        ("dash.js", "dash single/m.mpd"),
        ("shaka", "dash single/m.mpd"),
    ] {
        command.arg(player).arg(url(manifest));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {said}"));
    for found in all.as_array().unwrap() {
        assert_eq!(found["ended"], true, "{found:#}");
        assert_eq!(found["refused"], Value::Array(Vec::new()), "{found:#}");
        assert_eq!(found["errors"], Value::Array(Vec::new()), "{found:#}");
        assert!(
            found["frames"].as_u64().unwrap() > 0 && found["requests"].as_u64().unwrap() > 3,
            "{found:#}"
        );
    }
    assert_eq!(all.as_array().unwrap().len(), 7);
}

/// Random MPDs of every kind of addressing, from a seed.
struct Mpds(linksim::Rng);

impl Mpds {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }

    fn base_url(&mut self) -> String {
        match self.below(3) {
            0 => String::new(),
            1 => {
                let url = self.one_of(&[
                    "a%20b/",
                    "./x/../y/",
                    "s+t/",
                    "%7Ez/",
                    "/vod/film/abs/",
                    "//cdn.example.com/vod/film/n/",
                ]);
                format!("<BaseURL>{url}</BaseURL>")
            }
            _ => format!("<BaseURL>d{}/</BaseURL>", self.below(3)),
        }
    }

    fn addressing(&mut self, is_alone: bool) -> String {
        let name = self.one_of(&[
            "$RepresentationID$-",
            "$RepresentationID$/",
            "$RepresentationID$_$Bandwidth$_",
            "$$$RepresentationID$ ",
        ]);
        let number = self.one_of(&["$Number$", "$Number%05d$", "$Number%01d$"]);
        let timescale = self.one_of(&["1", "10", "90000"]);
        let start = self.one_of(&["", "startNumber=\"0\"", "startNumber=\"17\""]);
        let units = timescale.parse::<u64>().unwrap();
        let query = self.one_of(&["", "", "?v=1", "?sid=7&amp;t=%7E1"]);
        match self.below(4) {
            0 => {
                let (duration, init) = (2 * units, self.one_of(&["init-", "i/"]));
                format!(
                    "<SegmentTemplate timescale=\"{timescale}\" duration=\"{duration}\" {start} media=\"{name}{number}.m4s{query}\" initialization=\"{init}$RepresentationID$.mp4{query}\"/>"
                )
            }
            1 | 2 => {
                let media = if self.below(2) == 0 { "$Time$" } else { number };
                // Of several Periods the reader takes the end of the presentation for the end of each.
                let last = if is_alone && self.below(2) == 0 { "-1" } else { "1" };
                format!(
                    "<SegmentTemplate timescale=\"{timescale}\" {start} media=\"{name}{media}.m4s{query}\" initialization=\"{name}i.mp4\"><SegmentTimeline>\
                     <S t=\"0\" d=\"{}\"/><S d=\"{}\" r=\"{last}\"/></SegmentTimeline></SegmentTemplate>",
                    2 * units,
                    3 * units
                )
            }
            _ => format!(
                "<SegmentList timescale=\"{timescale}\" duration=\"{}\"><Initialization sourceURL=\"list-i.mp4{query}\"/><SegmentURL media=\"list-1.m4s{query}\"/>\
                 <SegmentURL media=\"list-2%2Bx.m4s\"/><SegmentURL media=\"list%203.m4s\"/></SegmentList>",
                3 * units
            ),
        }
    }

    fn next(&mut self) -> String {
        let periods = 1 + self.below(2);
        let body: String = (0..periods)
            .map(|period| {
                let sets: String = (0..1 + self.below(2))
                    .map(|set| {
                        let kind = if set == 0 { "video" } else { "audio" };
                        let (base, at_set, inside) = (self.base_url(), self.below(2) == 0, self.addressing(periods == 1));
                        let representations: String = (0..1 + self.below(2))
                            .map(|number| {
                                let own = self.base_url();
                                let addressing = if at_set { "" } else { inside.as_str() };
                                format!(
                                    "<Representation id=\"{kind}{period}{number}\" bandwidth=\"{}\" width=\"2\" height=\"2\" codecs=\"avc1.4d401f\">{own}{addressing}</Representation>",
                                    1000 + number
                                )
                            })
                            .collect();
                        let addressing = if at_set { inside.as_str() } else { "" };
                        format!(
                            "<AdaptationSet contentType=\"{kind}\" mimeType=\"{kind}/mp4\" lang=\"de\">{base}{addressing}{representations}</AdaptationSet>"
                        )
                    })
                    .collect();
                format!("<Period id=\"p{period}\" duration=\"PT9S\">{}{sets}</Period>", self.base_url())
            })
            .collect();
        let (base, seconds) = (self.base_url(), 9 * periods);
        format!(
            "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" mediaPresentationDuration=\"PT{seconds}S\" minBufferTime=\"PT1S\" profiles=\"x\">{base}{body}</MPD>"
        )
    }
}

#[test]
fn a_reader_of_mpds_asks_for_what_is_on_the_air() {
    let Some(modules) = modules() else { return };
    let mut mpds = Mpds(linksim::Rng::new(18));
    let all: Vec<String> = (0..300).map(|_| mpds.next()).collect();
    let uri = format!("{}x.mpd", media::BASE);
    let documents: Vec<Value> = all.iter().map(|mpd| serde_json::json!({ "uri": uri, "mpd": mpd })).collect();
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("mpds.json");
    std::fs::write(&input, Value::from(documents).to_string()).unwrap();
    let mut reader = Command::new("node");
    reader.arg(scripts().join("segments.mjs")).env("NODE_MODULES", modules);
    let output = reader.stdin(std::fs::File::open(&input).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked: Vec<BTreeSet<String>> = serde_json::from_slice(&output.stdout).unwrap();
    let key = |name: &str| carousel::ObjectKey::from_name(name, None).unwrap().to_string();
    let (mut names, mut with_selection) = (0, 0);
    for (number, (mpd, asked)) in all.iter().zip(asked).enumerate() {
        let folder = dir.path().join(number.to_string());
        // The files are where a server of files would look for what the reader asks for.
        for name in &asked {
            let below = name.strip_prefix(media::BASE).unwrap_or_else(|| panic!("{name}: {mpd}"));
            let plain = percent_decoded(below.split('?').next().unwrap());
            let path = folder.join(plain);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "s").unwrap();
        }
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("x.mpd"), mpd).unwrap();
        let options = headend::package::Options { base: media::BASE.to_owned(), ..Default::default() };
        let inventory = headend::package::read(&folder, &options).unwrap();
        let on_air: BTreeSet<String> =
            inventory.objects.keys().map(|path| key(&format!("{}{path}", media::BASE))).collect();
        // A receiver removes the parameters from a query that the headend names.
        let asked = asked.iter().map(|name| inventory.ignored_query.strip(&key(name)));
        // One file with several values of a parameter is left to the origin, by its name.
        let left: BTreeSet<String> =
            inventory.left_out.iter().map(|it| key(&format!("{}{}", media::BASE, it.name))).collect();
        let path = |name: &str| name.split('?').next().unwrap().to_owned();
        let wanted: BTreeSet<String> =
            asked.chain([key(&uri)]).filter(|name| !left.contains(&path(name))).collect();
        assert_eq!(on_air, wanted, "{mpd}");
        assert_eq!(inventory.faults(), 0, "{mpd}");
        // Boxes pass a BaseURL with a host or from the root on as it is, which is reported beside.
        let others = inventory.problems.iter().filter(|it| !it.what.contains("is not a relative reference"));
        assert_eq!(others.count() == 0, left.is_empty(), "{mpd}");
        with_selection += usize::from(!left.is_empty());
        names += wanted.len();
    }
    println!("{} MPDs, {names} names", all.len());
    assert!(names > 2000 && with_selection < all.len() / 4, "{names} {with_selection}");
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}
