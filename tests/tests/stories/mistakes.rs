//! Mistakes of users, and the messages about them: one message for each, with its place and the fix.
//!
//! Only the running programs show what a user sees, so these are not unit tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use skycache_tests::Story;
use skycache_tests::programs::program;

/// A folder of its own for one mistake.
struct Setup(tempfile::TempDir);

impl Setup {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A daemon's configuration that works, with lines of a mistake.
    fn daemon(&self, extra: &str) -> PathBuf {
        let at = |name: &str| self.0.path().join(name).display().to_string();
        let listen = if extra.contains("[http]") { "" } else { "http.listen = '127.0.0.1:0'\n" };
        let text = format!(
            "store.path = '{}'\nadmin.socket = '{}'\nadmin.listen = []\nreceive.interface = '127.0.0.1'\n{listen}{extra}\n",
            at("cache"),
            at("admin.sock")
        );
        self.write("skycached.toml", &text)
    }

    fn headend(&self, text: &str) -> PathBuf {
        self.write("headend.toml", text)
    }
}

fn ladder() -> String {
    skycache_tests::media::ladder().canonicalize().unwrap().display().to_string()
}

/// Exit code, and what was said on both outputs.
fn said(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

fn run(name: &str, arguments: &[&str], config: &Path) -> (i32, String) {
    said(program(name).args(arguments).arg("-c").arg(config))
}

/// One line, which has every part, and no word of the language that the programs are written in.
#[track_caller]
fn told((code, text): (i32, String), parts: &[&str]) {
    assert_eq!(code, 1, "{text}");
    let lines: Vec<&str> =
        text.lines().filter(|it| it.starts_with("skycached:") || it.starts_with("headend:")).collect();
    assert_eq!(lines.len(), 1, "one mistake, one message: {text}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is missing: {text}");
    }
    for word in ["os error", "u64", "struct ", "serde", "Option", "Err("] {
        assert!(!lines[0].contains(word), "{word:?} is not a word for a person: {text}");
    }
}

/// A finding of `check`, with its fix.
#[track_caller]
fn found((code, text): (i32, String), parts: &[&str]) {
    assert_eq!(code, 1, "{text}");
    let mut lines = text.lines().skip_while(|it| !it.starts_with("error"));
    let finding = format!("{}{}", lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    for part in parts {
        assert!(finding.contains(part), "{part:?} is missing: {text}");
    }
}

const SOURCE: &str = "[[source]]\npath = '.'\nbase = 'http://h/v/'\n";

#[test]
fn m01_a_file_that_is_not_there() {
    let none = Path::new("/nonexistent/skycached.toml");
    told(
        run("skycached", &["run"], none),
        &["/nonexistent/skycached.toml: there is no such file", "-c FILE"],
    );
    told(run("headend", &["send"], none), &["/nonexistent/skycached.toml: there is no such file", "-c FILE"]);
}

#[test]
fn m02_a_unit_of_another_kind() {
    let setup = Setup::new();
    let config = setup.headend(&format!("link.rate_bps = '8 MB'\n{SOURCE}"));
    told(
        run("headend", &["send"], &config),
        &["headend.toml:1:17: link.rate_bps: the text \"8 MB\" is a size", "\"8 Mbit/s\""],
    );
    let config = setup.daemon("store.quota_bytes = '10 Gbit/s'");
    told(
        run("skycached", &["run"], &config),
        &["store.quota_bytes: the text \"10 Gbit/s\" is a rate", "\"10 GB\""],
    );
}

#[test]
fn m03_text_where_a_number_belongs() {
    let setup = Setup::new();
    let config = setup.daemon("receive.threads = 'two'");
    told(
        run("skycached", &["run"], &config),
        &["receive.threads: the text \"two\"; expected a whole number, e.g. 4"],
    );
    let config = setup.headend(&format!("link.rate_bps = 'fast'\n{SOURCE}"));
    told(
        run("headend", &["plan"], &config),
        &["the text \"fast\"", "expected a number, e.g. 8_000_000 or \"8 Mbit/s\""],
    );
}

#[test]
fn m04_a_misspelt_key() {
    let setup = Setup::new();
    let config = setup.daemon("store.quota = 1");
    told(
        run("skycached", &["run"], &config),
        &["unknown key `quota`; did you mean `quota_bytes`?", "skycached.toml:6:"],
    );
}

#[test]
fn m05_the_other_programs_configuration() {
    let setup = Setup::new();
    let headend = setup.headend(&format!("link.rate_bps = 8_000_000\n{SOURCE}"));
    let daemon = setup.daemon("");
    told(
        run("skycached", &["run"], &headend),
        &["this is a configuration of headend, not of skycached", "`headend send -c FILE`"],
    );
    told(
        run("headend", &["send"], &daemon),
        &["this is a configuration of skycached, not of headend", "`skycached run -c FILE`"],
    );
}

#[test]
fn m06_a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::new();
    let config = setup.daemon(&format!("[http]\nlisten = '{address}'"));
    told(
        run("skycached", &["run"], &config),
        &[&address, "[http] listen", "another program has this port", "`ss -"],
    );
    let (code, text) = run("skycached", &["check", "--seconds", "1"], &config);
    assert!(!text.contains("no mistakes"), "{text}");
    found(
        (code, text),
        &[&address, "another program has this port", "fix: `ss -", "give [http] listen another port"],
    );
}

#[test]
fn m07_two_daemons() {
    let mut story = Story::new();
    let config = story.daemon_config();
    story.start_daemon();
    let other = Story::new();
    let text = fs::read_to_string(&config).unwrap().replace(&story.http.to_string(), &other.http.to_string());
    fs::write(&config, text).unwrap();
    told(run("skycached", &["run"], &config), &["another skycached answers here", "stop it"]);
}

#[test]
fn m08_an_interface_that_is_not_there() {
    let setup = Setup::new();
    let config = setup.daemon("").with_file_name("skycached.toml");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("receive.interface = '127.0.0.1'", "receive.interface = 'eth77'");
    fs::write(&config, text).unwrap();
    found(
        run("skycached", &["check", "--seconds", "1"], &config),
        &["eth77", "fix: give [receive] interface one of lo"],
    );
    let config = setup.headend(&format!(
        "link.rate_bps = 8_000_000\noutput.interface = 'eth77'\n[[source]]\npath = '{}'\nbase = 'http://h/v/'\n",
        ladder()
    ));
    told(
        run("headend", &["send", "--once"], &config),
        &["[output] interface", "there is no \"eth77\"", "lo"],
    );
}

#[test]
fn m09_no_route() {
    let setup = Setup::new();
    let config = setup.headend(&format!(
        "link.rate_bps = 8_000_000\n[[source]]\npath = '{}'\nbase = 'http://h/v/'\n",
        ladder()
    ));
    // A network without an interface that is up has no route to anywhere.
    let bin = skycache_tests::programs::bin_dir().join("headend");
    let alone = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]).arg(&bin).args(arguments).arg("-c").arg(&config);
        said(&mut command)
    };
    if !Command::new("unshare").args(["--user", "--net", "true"]).output().is_ok_and(|it| it.status.success())
    {
        eprintln!("SKIPPED: this system gives no network of its own");
        return;
    }
    let (code, text) = alone(&["send", "--once"]);
    assert!(!text.contains("on the air"), "nothing has been sent: {text}");
    told((code, text), &["no route to 2", "give [output] interface", "ip route add 224.0.0.0/4"]);
    found(alone(&["check"]), &["route to 2", "there is none", "fix: give [output] interface"]);
}

#[test]
fn m10_no_certificate() {
    let setup = Setup::new();
    let tls = "[http]\nlisten = '127.0.0.1:0'\n[http.tls]\nlisten = '127.0.0.1:0'\ncertificate = '/nonexistent/cert.pem'\nkey = '/nonexistent/key.pem'\n";
    let config = setup.daemon(tls);
    told(run("skycached", &["run"], &config), &["/nonexistent/cert.pem", "there is no such file"]);
    found(
        run("skycached", &["check", "--seconds", "1"], &config),
        &["certificate", "/nonexistent/cert.pem", "fix:"],
    );
}

#[test]
fn m11_a_bucket_as_source() {
    let setup = Setup::new();
    let config = setup
        .headend("link.rate_bps = 8_000_000\n[[source]]\npath = 's3://films/one'\nbase = 'http://h/v/'\n");
    told(
        run("headend", &["send"], &config),
        &["source[0].path: it is a URL", "sources are folders", "s3://bucket/prefix/) as `pull`"],
    );
    told(
        said(program("headend").args(["scan", "s3://films/one"])),
        &["s3://films/one", "sources are folders", "s3://bucket/prefix/) as `pull`"],
    );
}

#[test]
fn m12_a_cache_that_cannot_be_written() {
    let setup = Setup::new();
    let file = setup.write("file", "no folder");
    let config = setup.daemon("");
    let text = fs::read_to_string(&config).unwrap().replace("/cache'", "/file'");
    fs::write(&config, text).unwrap();
    told(run("skycached", &["run"], &config), &[file.to_str().unwrap(), "folder"]);
    found(run("skycached", &["check", "--seconds", "1"], &config), &[file.to_str().unwrap(), "folder"]);
}

#[test]
fn m13_a_command_without_a_daemon() {
    let setup = Setup::new();
    let config = setup.daemon("");
    told(run("skycached", &["status"], &config), &["admin.sock", "is skycached running?"]);
    let config = setup.headend(&format!("link.rate_bps = 8_000_000\n{SOURCE}"));
    told(run("headend", &["status"], &config), &["no `headend send", "is running on this machine"]);
}

#[test]
fn m14_a_link_that_cannot_carry_it() {
    let setup = Setup::new();
    let config = setup.headend(&format!(
        "link.rate_bps = '1 Mbit/s'\noutput.interface = '127.0.0.1'\ncarousel.cycle_s = 2\n[[source]]\npath = '{}'\nbase = 'http://h/v/'\n",
        ladder()
    ));
    told(run("headend", &["plan"], &config), &["cannot be kept", "the nearest that can is"]);
    found(run("headend", &["check"], &config), &["link", "cannot be kept", "fix: `headend plan -c"]);
}

#[test]
fn m15_an_address_without_a_port() {
    let setup = Setup::new();
    let config = setup.daemon("[http]\nlisten = '0.0.0.0'");
    told(
        run("skycached", &["run"], &config),
        &["http.listen: \"0.0.0.0\" has no port; add it", "\"0.0.0.0:8080\""],
    );
    let config = setup.daemon("[http]\nlisten = ['127.0.0.1:80', 80]");
    told(run("skycached", &["run"], &config), &["http.listen", "address"]);
    let config = setup.daemon("[[session]]\naddress = 'x'");
    told(run("skycached", &["run"], &config), &["session[0].address", "\"239.1.2.3:5000\""]);
}

#[test]
fn m16_a_level_that_is_none() {
    let setup = Setup::new();
    let config = setup.daemon("log.level = 'a=b=c'");
    told(run("skycached", &["run"], &config), &["log.level", "error, warn, info, debug or trace"]);
    told(run("skycached", &["check"], &config), &["log.level", "error, warn, info, debug or trace"]);
    let config = setup.daemon("log.level = 'loud'");
    told(run("skycached", &["run"], &config), &["log.level", "error, warn, info, debug or trace"]);
}

#[test]
fn m17_a_package_with_a_missing_segment() {
    let folder = tempfile::tempdir().unwrap();
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n1.ts\n#EXTINF:2,\n2.ts\n#EXT-X-ENDLIST\n";
    fs::write(folder.path().join("v.m3u8"), list).unwrap();
    fs::write(folder.path().join("1.ts"), vec![0x47; 188]).unwrap();
    let (code, text) = said(program("headend").arg("scan").arg(folder.path()));
    assert!(code == 1 && text.contains("2.ts"), "{text}");
}

#[test]
fn m19_brackets_and_quotes() {
    let setup = Setup::new();
    let config = setup.daemon("[route]\npath = '/vod/'\nbase = 'http://h/'");
    told(run("skycached", &["run"], &config), &["route:", "two brackets; write [[route]]"]);
    let config = setup.daemon("[[log]]\nlevel = 'info'");
    told(run("skycached", &["run"], &config), &["log: this is one table", "write [log]"]);
    let config = setup.headend("link.rate_bps = 8_000_000\noutput.interface = 127.0.0.1\n");
    told(
        run("headend", &["send"], &config),
        &["2:", "the text has no quotes; write output.interface = \"127.0.0.1\""],
    );
    let config =
        setup.headend("link.rate_bps = 8_000_000\n[[source]]\npath = '.'\nbase = 'http://h/my film/'\n");
    told(run("headend", &["send"], &config), &["source[0].base", "has a blank", "%20"]);
}

#[test]
fn m20_a_port_of_the_headend_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let free = skycache_tests::free_tcp_port();
    let setup = Setup::new();
    fs::create_dir(setup.0.path().join("one")).unwrap();
    let config = |metrics, ingest| {
        setup.headend(&format!(
            "link.rate_bps = 8_000_000\noutput.interface = '127.0.0.1'\nmetrics.listen = '{metrics}'\ningest.listen = '{ingest}'\n\
             [[source]]\npath = 'one'\nbase = 'http://h/one/'\nname = 'one'\ningest = true\nreserved_bps = 1_000_000\n"
        ))
    };
    let address = address.to_string();
    let parts = [address.as_str(), "another program listens there", "fix:", "`ss -"];
    found(run("headend", &["check"], &config(address.clone(), free.to_string())), &parts);
    found(run("headend", &["check"], &config(free.to_string(), address.clone())), &parts);
    drop(taken);
    // An empty folder that packagers upload to is not a mistake.
    let (code, text) = run("headend", &["check"], &config(free.to_string(), address));
    assert!(code == 0 && text.contains("nothing yet in") && text.contains("/one/"), "{text}");
    // Nor is one that is pulled when it is sent; that its origin does not answer is.
    let pulled = setup.headend(
        "link.rate_bps = 8_000_000\noutput.interface = '127.0.0.1'\n[[source]]\npath = 'two'\nbase = 'http://h/two/'\n\
         pull = 'http://127.0.0.1:9/two/master.m3u8'\n",
    );
    let (code, text) = run("headend", &["check"], &pulled);
    assert!(code == 1 && text.contains("nothing yet in") && text.contains("`headend pull`"), "{text}");
    found(
        (code, text),
        &["origin of two", "http://127.0.0.1:9/two/master.m3u8: connect (Connection refused)", "fix:"],
    );
    let text = fs::read_to_string(&pulled).unwrap() + "pull_ca = '/nonexistent/ca.pem'\n";
    let (code, text) = run("headend", &["check"], &setup.headend(&text));
    assert!(!text.contains("no mistakes"), "{text}");
    let parts = [
        "pull_ca /nonexistent/ca.pem: there is no such file",
        "configuration (",
        "fix: correct what the message names",
    ];
    found((code, text), &parts);
}

#[test]
fn m21_files_that_are_not_there() {
    let replayed = said(program("skycached").args(["replay", "/nonexistent.pcap"]));
    told(replayed, &["/nonexistent.pcap: there is no such file", "name a recording"]);
    let inspected = said(program("headend").args(["inspect", "/nonexistent.pcap"]));
    told(inspected, &["/nonexistent.pcap: there is no such file", "udp://GROUP:PORT"]);
}

#[test]
fn m22_several_names_of_which_one_is_not_held() {
    let mut story = Story::new();
    story.start_daemon();
    story.send_once();
    story.until_complete(std::time::Duration::from_secs(30));
    let key = |name: &str| format!("cdn.example.com/vod/film/{name}");
    let purged = said(story.skycached("purge").args([key("0-001.m4s"), key("0-099.m4s")]));
    assert_eq!(purged.0, 0, "{}", purged.1);
    assert!(purged.1.contains("1 object purged"), "{}", purged.1);
    assert!(purged.1.contains("0-099.m4s is not in the cache"), "{}", purged.1);
    told(
        said(story.skycached("purge").args([key("x"), key("y")])),
        &["none of these is in the cache", "/x,", "/y;"],
    );
    let config = story.dir().join("skycached.toml");
    told(
        run("skycached", &["trust", "confirm", "abc"], &config),
        &["not an id of a root key", "16 hexadecimal digits"],
    );
    // A scheme that no object has is mistyped.
    told(
        said(story.skycached("purge").arg("htps://cdn.example.com/vod/film/0-001.m4s")),
        &["no URL of htps://", "https://"],
    );
    told(said(story.skycached("purge").args(["--prefix", "nonsense://x"])), &["no URL of nonsense://"]);
    // What is pinned is shown.
    assert!(said(story.skycached("pin").arg(key("0-002.m4s"))).0 == 0);
    let listed = said(&mut story.skycached("ls"));
    let pinned: Vec<&str> = listed.1.lines().filter(|it| it.ends_with("(pinned)")).collect();
    assert!(pinned.len() == 1 && pinned[0].contains("0-002.m4s"), "{}", listed.1);
}

/// Everything that `check` has said of one configuration of the headend.
fn checked(config: &Path) -> (i32, String) {
    run("headend", &["check"], config)
}

#[test]
fn m23_a_base_that_no_receiver_can_ask_for() {
    let setup = Setup::new();
    for (base, parts) in [
        ("https:///a/", ["is not a URL", "https://host/path/"]),
        ("http://h:99999/a/", ["\"99999\" is not a port", "1 to 65535"]),
        ("http://h/a/#", ["behind a query", "leave out ? and #"]),
        ("http://h/a/?x/", ["behind a query", "leave out ? and #"]),
        ("http://999.1.1.1/a/", ["is not an address", "four numbers"]),
        ("http://user:secret@h/a/", ["a user or password, which would go on the air", "without"]),
    ] {
        let config =
            setup.headend(&format!("link.rate_bps = 8_000_000\n[[source]]\npath = '.'\nbase = '{base}'\n"));
        let said = run("headend", &["send"], &config);
        assert!(!said.1.contains("secret"), "{}", said.1);
        told(said, &["headend.toml:4:1: source[0].base: ", parts[0], parts[1]]);
    }
    // The daemon refuses the same with the same words.
    let config = setup.daemon("[[route]]\npath = '/vod/'\nbase = 'https:///a/'");
    told(run("skycached", &["run"], &config), &["route[0].base: \"https:///a/\" is not a URL"]);
}

#[test]
fn m24_a_source_of_which_nothing_can_be_carried() {
    let setup = Setup::new();
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttps://other.example/1.ts\n#EXT-X-ENDLIST\n";
    setup.write("v.m3u8", list);
    let text = "link.rate_bps = 8_000_000\noutput.interface = 'lo'\n[[source]]\npath = 'v.m3u8'\nbase = 'http://h/a/'\nname = 'v'\n";
    let config = setup.headend(text);
    let (code, said) = checked(&config);
    assert_eq!(code, 0, "{said}");
    let warning =
        said.lines().skip_while(|it| !it.starts_with("warning")).take(2).collect::<Vec<_>>().join(" ");
    assert!(warning.contains("source v: nothing but its manifests can be carried: 1 elsewhere"), "{said}");
    assert!(warning.contains("fix: give the URL by which its manifests name the folder as base"), "{said}");
    let (code, said) = run("headend", &["plan"], &config);
    assert!(code == 0 && said.contains("v: nothing but its manifests can be carried"), "{said}");
}

#[test]
fn m25_one_configuration_sent_twice() {
    let mut story = Story::new();
    story.start_headend(false);
    let config = story.headend_config();
    let again = |flags: &[&str]| said(program("headend").arg("send").args(flags).arg("-c").arg(&config));
    // The first one has the configuration before it answers.
    let begin = std::time::Instant::now();
    while run("headend", &["status"], &config).0 != 0 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "the first headend does not answer");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for flags in [&[][..], &["--once"]] {
        told(
            again(flags),
            &[
                "process ",
                "(`headend send",
                "sends this configuration already",
                "stop it",
                "[lease]",
                "--alongside",
            ],
        );
    }
    let (code, text) = again(&["--once", "--alongside"]);
    assert!(code == 0 && text.contains("off the air"), "{text}");
}

#[test]
fn m26_a_demo_without_its_parts() {
    let demo = |arguments: &[&str]| said(program("skycached").arg("demo").args(arguments));
    told(
        demo(&["--headend", "/nonexistent"]),
        &["--headend /nonexistent: there is no such file", "leave the option out"],
    );
    for (arguments, part) in [
        (["--loss", "-1"], "give 0 to 90 percent"),
        (["--loss", "95%"], "give 0 to 90 percent"),
        (["--rate-bps", "4 MB"], "it is a size; expected a number, e.g. 8_000_000 or \"8 Mbit/s\""),
        (["--rate-bps", "1 Mbit/s"], "do not carry the demo"),
    ] {
        let (code, text) = demo(&arguments);
        assert!(code == 2 && text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn m27_live_alone_and_a_folder_that_comes_later() {
    let setup = Setup::new();
    let text = |path: &str, live: &str| {
        format!(
            "link.rate_bps = 8_000_000\noutput.interface = 'lo'\n[[source]]\npath = '{path}'\nbase = 'http://h/v/'\n{live}"
        )
    };
    let (code, said) = checked(&setup.headend(&text(&ladder(), "reserved_bps = '4 Mbit/s'")));
    assert!(code == 0 && said.contains("live media are sent once, the newest first"), "{said}");
    assert!(!said.contains("0.00 s"), "{said}");
    let config = setup.headend(&text("later", ""));
    let (code, said) = checked(&config);
    assert_eq!(code, 0, "{said}");
    let warning =
        said.lines().skip_while(|it| !it.starts_with("warning")).take(2).collect::<Vec<_>>().join(" ");
    assert!(
        warning.contains("later: there is no such file") && warning.contains("`headend send` waits for it"),
        "{said}"
    );
    assert_eq!(said.matches("no such file").count(), 1, "{said}");
    told(run("headend", &["plan"], &config), &["later: there is no such file", "give a directory"]);
    let folder = setup.0.path().join("empty");
    fs::create_dir(&folder).unwrap();
    let (code, said) = checked(&setup.headend(&text("empty", "")));
    assert!(code == 0 && said.contains("/empty is empty"), "{said}");
}

#[test]
fn m28_addresses_that_are_none_of_this_machine() {
    let setup = Setup::new();
    let errors = |said: &str| said.lines().filter(|it| it.starts_with("error")).count();
    // TEST-NET-3 is on no machine.
    for (line, parts) in [
        ("output.interface = 'eth77'", ["there is no \"eth77\"", "fix: name one of these"]),
        ("output.interface = '203.0.113.9'", ["this machine has no such address", "fix: name an interface"]),
        (
            "output.source = '203.0.113.9'",
            ["[output] source 203.0.113.9", "fix: `ip address add 203.0.113.9"],
        ),
    ] {
        let text = format!(
            "link.rate_bps = 8_000_000\n{line}\n[[source]]\npath = '{}'\nbase = 'http://h/v/'\n",
            ladder()
        );
        let said = checked(&setup.headend(&text));
        assert_eq!(errors(&said.1), 1, "one mistake, one error: {}", said.1);
        found(said, &parts);
    }
    for (key, value, parts) in [
        (
            "announcement",
            "10.0.0.1:3937",
            ["neither a multicast group nor an address", "such as 224.0.23.14:3937"],
        ),
        (
            "interface",
            "203.0.113.9",
            ["no interface has this address", "fix: name an interface, or one of its addresses"],
        ),
    ] {
        let config = setup.daemon(&format!("receive.{key} = '{value}'"));
        let text = fs::read_to_string(&config).unwrap();
        let text =
            if key == "interface" { text.replace("receive.interface = '127.0.0.1'\n", "") } else { text };
        fs::write(&config, text).unwrap();
        let said = run("skycached", &["check", "--seconds", "1"], &config);
        assert_eq!(errors(&said.1), 1, "one mistake, one error: {}", said.1);
        assert!(parts.iter().all(|it| said.1.contains(it)) && said.1.contains("fix:"), "{}", said.1);
    }
}

#[test]
fn m29_a_film_that_is_no_package() {
    let setup = Setup::new();
    let film = setup.write("film.mp4", "no manifest");
    told(
        said(program("headend").arg("scan").arg(&film)),
        &["film.mp4: it is not a manifest of HLS (.m3u8) or DASH (.mpd)", "packager", "`ffmpeg -i"],
    );
    let (code, text) = said(program("headend").arg("scan").arg(setup.0.path()));
    assert!(code == 0 && text.contains("1 object, ") && text.contains("no manifest: "), "{text}");
}

#[test]
fn m30_what_is_lacking_is_asked_for_and_nothing_else() {
    let setup = Setup::new();
    let keys = setup.0.path().join("keys");
    assert_eq!(said(program("headend").args(["keygen", "--out"]).arg(&keys)).0, 0);
    let signed = format!("link.rate_bps = 8_000_000\nsigning.keys = '{}'\n{SOURCE}", keys.display());
    let config = setup.headend(&signed);
    let listed = run("headend", &["firmware", "list"], &config);
    assert!(!listed.1.contains("[signing]"), "{}", listed.1);
    told(listed, &["add [firmware] with base"]);
    let (code, text) = run("headend", &["command", "list"], &config);
    assert!(code == 0 && text.contains("no commands are in force"), "{text}");
}

#[test]
fn m31_a_destination_without_a_port() {
    let setup = Setup::new();
    for (to, parts) in [
        ("udp://239.1.1.1", ["has no port", "\"udp://239.1.1.1:5004\""]),
        ("239.1.1.1:5004", ["has no scheme", "\"udp://239.1.1.1:5004\""]),
    ] {
        let text =
            format!("link.rate_bps = 8_000_000\nmultiplex.carry = 'mpe'\nmultiplex.to = '{to}'\n{SOURCE}");
        told(run("headend", &["check"], &setup.headend(&text)), &["multiplex.to", parts[0], parts[1]]);
    }
    let config = setup.headend(&format!("link.rate_bps = 8_000_000\nmetrics.listen = '127.0.0.1'\n{SOURCE}"));
    told(run("headend", &["check"], &config), &["metrics.listen", "has no port", "\"127.0.0.1:9464\""]);
}

#[test]
fn m18_check_writes_nothing() {
    let setup = Setup::new();
    let config = setup.daemon("");
    let before: Vec<_> = fs::read_dir(setup.0.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    let (code, text) = run("skycached", &["check", "--seconds", "1"], &config);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("nothing arrived on any interface") && text.contains("is the sender on the air"),
        "{text}"
    );
    let after: Vec<_> = fs::read_dir(setup.0.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(before, after, "{text}");
}
