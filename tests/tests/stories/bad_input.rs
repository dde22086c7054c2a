//! Mistyped configurations and hostile packets: one clear message with the fix, or a counted drop.

use std::net::UdpSocket;
use std::time::Duration;

use linksim::Rng;
use skycache_tests::programs::program;
use skycache_tests::{Story, get};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs to the end; gives the exit code and what was said.
fn run(mut command: std::process::Command) -> (i32, String) {
    let output = command.output().expect("program");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn typos_are_refused_with_the_nearest_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, "[recieve]\ninterface = 'lo'\n").unwrap();
    let mut command = program("skycached");
    command.arg("run").arg("-c").arg(&file);
    let (code, said) = run(command);
    assert!(code == 1 && said.contains("did you mean `receive`?") && said.contains(":1"), "{code} {said}");
    std::fs::write(&file, "[link]\nrate_bps = 1_000_000\n[[source]]\npath = '.'\nbaes = 'http://a/'\n")
        .unwrap();
    let mut command = program("headend");
    command.arg("plan").arg("-c").arg(&file);
    let (code, said) = run(command);
    assert!(code == 1 && said.contains("did you mean `base`?"), "{code} {said}");
    let mut command = program("headend");
    command.arg("plam");
    let (code, said) = run(command);
    assert!(code == 2 && said.contains("plan"), "{code} {said}");
}

#[test]
fn a_port_in_use_and_a_cache_in_use_are_named() {
    let mut story = Story::new();
    let taken = std::net::TcpListener::bind(story.http).unwrap();
    let config = story.daemon_config();
    let start = || {
        let mut command = program("skycached");
        command.arg("run").arg("-c").arg(&config);
        run(command)
    };
    let (code, said) = start();
    assert!(
        code == 1 && said.contains(&story.http.to_string()) && said.contains("[http] listen"),
        "{code} {said}"
    );
    drop(taken);
    story.start_daemon();
    let other = Story::new();
    let text = std::fs::read_to_string(&config).unwrap();
    let text =
        text.replace(&story.http.to_string(), &other.http.to_string()).replace("admin.sock", "other.sock");
    std::fs::write(&config, text).unwrap();
    let (code, said) = start();
    assert!(code == 1 && said.contains("another skycached"), "{code} {said}");
}

#[test]
fn a_group_that_cannot_be_joined_is_named_and_tried_again_and_the_rest_works() {
    let mut story = Story::new();
    story.daemon_extra = "[[session]]\naddress = \"239.1.2.3:5000\"\n".to_owned();
    let config = story.daemon_config();
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("interface = \"127.0.0.1\"", "interface = \"eth77\"");
    std::fs::write(&config, text).unwrap();
    let mut command = program("skycached");
    command.arg("check").arg("-c").arg(&config);
    let (code, _) = run(command);
    assert_eq!(code, 1);
    let output = {
        let mut c = program("skycached");
        c.arg("check").arg("-c").arg(&config).output().unwrap()
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("eth77") && said.contains("fix:"), "{said}");
}

#[test]
fn noise_liars_and_a_flood_of_objects_are_counted_and_harm_nothing() {
    let mut story = Story::new();
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    let before = story.compare();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&socket).set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
    let mut rng = Rng::new(12);
    let send = |bytes: &[u8]| {
        for group in &story.groups[1..] {
            socket.send_to(bytes, group).unwrap();
        }
    };
    // Noise, bare and behind a plausible LCT header.
    for number in 0..4000_u32 {
        let mut bytes: Vec<u8> = (0..rng.below(1400)).map(|_| rng.next_u64() as u8).collect();
        if number % 2 == 0 && bytes.len() > 16 {
            bytes[..4].copy_from_slice(&[0x10, 0xa0, 4, 0]);
        }
        send(&bytes);
    }
    // 100,000 TOIs, each announcing an object of 200 MB by EXT_FTI.
    for toi in 0..100_000_u32 {
        let mut packet = vec![0x10, 0xa0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 10];
        packet.extend((0x4000_0000 + toi).to_be_bytes());
        packet.extend([64, 4, 0, 0, 0x0b, 0xeb, 0xc2, 0, 0, 0, 0x05, 0x78, 0, 0, 0xff, 0xff]);
        packet.extend([0; 4]);
        packet.extend([7; 1400]);
        send(&packet);
        if toi % 64 == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    // FDTs that lie about lengths, are cut off, or are not XML.
    for (instance, xml) in [
        "<FDT-Instance Expires=\"4294967295\"><File TOI=\"5\" Content-Location=\"http://x/y\" Content-Length=\"18446744073709551615\" Transfer-Length=\"1\"/></FDT-Instance>",
        "<FDT-Instance Expires=\"4294967295\"><File TOI=\"6\" Content-Location=\"http://x/z\" Content-Length=\"-4\"",
        "<FDT-Instance",
        "\0\0\0\0",
        "<FDT-Instance Expires=\"9\"><File TOI=\"7\" Content-Location=\"../../../../etc/passwd\" Content-Length=\"4\"/></FDT-Instance>",
    ]
    .iter()
    .enumerate()
    {
        let mut packet = vec![0x10, 0xa0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0];
        packet.extend([192, 0x10, 0, instance as u8 + 1]);
        packet.extend([64, 4]);
        packet.extend((xml.len() as u64).to_be_bytes()[2..].iter());
        packet.extend([0, 0, 0x05, 0x78, 0, 0, 0, 64]);
        packet.extend([0; 4]);
        packet.extend(xml.as_bytes());
        send(&packet);
    }
    std::thread::sleep(Duration::from_secs(1));
    let rss_kb = resident_kb(story.daemon.as_ref().unwrap().id());
    println!("resident after the flood: {rss_kb} kB");
    // A sixteenth of the quota of 10 GB for objects without a name: three of 200 MB, and one page of each is written.
    assert!(rss_kb < 150_000, "{rss_kb} kB");
    let status = story.status().unwrap();
    let dropped = status["receive"]["sessions"].as_array().unwrap().iter().map(|session| {
        session["dropped"]["too_many_objects"].as_u64().unwrap_or(0)
            + session["dropped"]["no_room"].as_u64().unwrap_or(0)
    });
    // A slow machine's kernel drops some of the flood itself, and counts that too.
    let dropped: u64 = dropped.sum();
    let by_kernel = status["receive"]["kernel_drops"].as_u64().unwrap();
    assert!(dropped > 10_000 && dropped + by_kernel > 95_000, "{dropped}, {by_kernel}: {status:#}");
    assert!(status["receive"]["not_alc"].as_u64().unwrap() > 1000, "{status:#}");
    let after = story.compare();
    assert_eq!(
        (after.exact, after.hits),
        (before.exact, before.hits),
        "nothing already held is lost: {after}"
    );
    assert_eq!(get(story.http, "/etc/passwd", &[]).unwrap().status, 404);
    // And it still receives.
    std::fs::create_dir_all(story.dir().join("more")).unwrap();
    skycache_tests::media::many(&story.dir().join("more"), 3, 5000);
    story.folder = story.dir().join("more");
    story.start_headend(false);
    let wanted = before.exact + 4;
    story.until("new objects arrive", PATIENCE, |story| {
        story.status().is_some_and(|status| status["store"]["objects"].as_u64() >= Some(wanted))
    });
    let log = story.daemon.take().unwrap().stop();
    assert!(!log.contains("panicked"), "{log}");
}

/// Memory that is the process's own, in kB.
fn resident_kb(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    field("Private_Dirty:") + field("Private_Clean:")
}
