//! The daemon under a service manager: inherited sockets, readiness, watchdog, and a stop that finishes open responses.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use skycache_tests::programs::{Program, program};
use skycache_tests::{Asked, Scripted, Step, Story, answer, get};

/// Waits for a message of the daemon that has this line.
fn said(manager: &UnixDatagram, line: &str) -> bool {
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = [0; 1024];
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        let Ok(count) = manager.recv(&mut bytes) else { return false };
        let message = String::from_utf8_lossy(&bytes[..count]);
        if message.lines().any(|it| it.starts_with(line)) {
            return true;
        }
    }
    false
}

/// Starts the daemon as systemd does: the listener is descriptor 3, messages go to `manager`.
fn start(story: &mut Story, players: &TcpListener, manager: &str) {
    let handed = socket2::SockRef::from(players);
    handed.set_cloexec(false).unwrap();
    let mut command = Command::new("bash");
    let script = format!("exec 3<&{}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"", players.as_raw_fd());
    command.arg("-c").arg(script).arg(program("skycached").get_program());
    command.arg("run").arg("-c").arg(story.daemon_config());
    command.env("NOTIFY_SOCKET", manager).env("WATCHDOG_USEC", "2000000");
    story.daemon = Some(Program::start(command, &story.dir().join("skycached.log")).unwrap());
    handed.set_cloexec(true).unwrap();
}

#[test]
fn a_restart_refuses_nobody_and_the_manager_hears_of_everything() {
    let mut story = Story::new();
    let players = TcpListener::bind("127.0.0.1:0").unwrap();
    story.http = players.local_addr().unwrap();
    let path = story.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let name = path.to_str().unwrap().to_owned();
    start(&mut story, &players, &name);
    assert!(said(&manager, "READY=1"), "{}", story.daemon.as_ref().unwrap().log());
    assert!(said(&manager, "STATUS=serving") && said(&manager, "WATCHDOG=1"));
    assert_eq!(get(story.http, "/", &[]).unwrap().status, 200);
    story.daemon.as_ref().unwrap().signal("HUP");
    assert!(said(&manager, "RELOADING=1") && said(&manager, "READY=1"));

    story.daemon.as_ref().unwrap().signal("TERM");
    assert!(said(&manager, "STOPPING=1"));
    assert!(story.daemon.as_mut().unwrap().wait(Duration::from_secs(15)).is_some());
    // The daemon does not listen now, and no connection is refused: the socket is the manager's.
    let http = story.http;
    let waiting = std::thread::spawn(move || get(http, "/", &[]).unwrap().status);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    start(&mut story, &players, &name);
    assert_eq!(waiting.join().unwrap(), 200);
}

#[test]
fn the_end_waits_for_what_is_being_sent_and_for_what_is_on_its_way() {
    // A response that takes two seconds.
    let origin = Scripted::start(|_: &Asked| {
        let mut steps = answer(200, &[("Cache-Control", "max-age=60"), ("Content-Length", "2000")], b"");
        steps
            .extend((0..20).flat_map(|_| [Step::Wait(Duration::from_millis(100)), Step::Send(vec![7; 100])]));
        steps
    });
    let mut story = Story::new();
    let address = origin.address();
    story.daemon_extra = format!("[[route]]\npath = \"/o/\"\nbase = \"http://{address}/\"\n");
    story.start_daemon();
    let http = story.http;
    let slow = std::thread::spawn(move || get(http, "/o/slow", &[]).unwrap());
    // One that has asked before, and asks again just when the end is said.
    let mut kept = TcpStream::connect(http).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: box\r\n\r\n";
    let mut bytes = vec![0; 65536];
    kept.write_all(request).unwrap();
    assert!(kept.read(&mut bytes).unwrap() > 0);
    std::thread::sleep(Duration::from_millis(500));
    story.daemon.as_ref().unwrap().signal("TERM");
    std::thread::sleep(Duration::from_millis(100));
    kept.write_all(request).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut last = Vec::new();
    kept.read_to_end(&mut last).unwrap();
    let last = String::from_utf8_lossy(&last).to_ascii_lowercase();
    assert!(last.starts_with("http/1.1 200") && last.contains("connection: close"), "{last}");
    let slow = slow.join().unwrap();
    assert_eq!((slow.status, slow.body.len(), slow.whole), (200, 2000, true));
    assert!(story.daemon.as_mut().unwrap().wait(Duration::from_secs(15)).is_some_and(|it| it.success()));
}

/// Status and body that the admin interface answers with.
fn ready(story: &Story) -> (u16, String) {
    let text = story.admin_answers("/readyz");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn balancers_see_the_end_before_the_listeners_close() {
    // A response that outlasts the delay.
    let origin = Scripted::start(|_: &Asked| {
        let mut steps = answer(200, &[("Cache-Control", "max-age=60"), ("Content-Length", "8000")], b"");
        steps
            .extend((0..80).flat_map(|_| [Step::Wait(Duration::from_millis(100)), Step::Send(vec![7; 100])]));
        steps
    });
    let mut story = Story::new();
    let address = origin.address();
    story.daemon_extra = format!("[[route]]\npath = \"/o/\"\nbase = \"http://{address}/\"\n");
    story.drop_in("[http]\nshutdown_delay_ms = 4000\n");
    story.start_daemon();
    assert_eq!(ready(&story), (200, "ready\n".to_owned()));
    let http = story.http;
    let slow = std::thread::spawn(move || get(http, "/o/slow", &[]).unwrap());
    std::thread::sleep(Duration::from_millis(500));
    story.daemon.as_ref().unwrap().signal("TERM");
    let begin = Instant::now();
    let draining = (503, "draining\n".to_owned());
    story.until("/readyz is red", Duration::from_secs(3), |story| ready(story) == draining);
    // A player that a balancer has sent in the meantime.
    assert_eq!(get(http, "/", &[]).unwrap().status, 200);
    while TcpStream::connect(http).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() > Duration::from_millis(3900), "{:?}", begin.elapsed());
    // Until the last response has ended, health and metrics are answered.
    assert_eq!(ready(&story), draining);
    let slow = slow.join().unwrap();
    assert_eq!((slow.status, slow.body.len(), slow.whole), (200, 8000, true));
    assert!(story.daemon.as_mut().unwrap().wait(Duration::from_secs(15)).is_some_and(|it| it.success()));
}

#[test]
fn a_second_signal_ends_the_wait_for_balancers() {
    let mut story = Story::new();
    story.drop_in("[http]\nshutdown_delay_ms = 60_000\n");
    story.start_daemon();
    story.daemon.as_ref().unwrap().signal("TERM");
    story.until("/readyz is red", Duration::from_secs(5), |story| ready(story).0 == 503);
    story.daemon.as_ref().unwrap().signal("TERM");
    let ended = story.daemon.as_mut().unwrap().wait(Duration::from_secs(15));
    assert!(ended.is_some_and(|it| it.success()), "{ended:?}");
}

#[test]
fn groups_are_joined_again_on_an_interface_that_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // A network namespace of its own, in which interfaces can be made.
    let made = Command::new("unshare")
        .args(["-rnm", "ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1"])
        .output();
    if !made.is_ok_and(|it| it.status.success()) {
        eprintln!("SKIPPED: no network namespace to make an interface in");
        return;
    }
    std::fs::write(
        at.join("box.toml"),
        format!(
            "receive.announcement = '239.9.9.9:3937'\nreceive.interface = 'd0'\nstore.path = '{0}/cache'\nstore.reserve_bytes = 0\n\
             admin.socket = '{0}/admin.sock'\nadmin.listen = []\nhttp.listen = '127.0.0.1:8080'\n",
            at.display()
        ),
    )
    .unwrap();
    let script = r#"
        set -e
        up() { ip link add d0 type veth peer name d1; ip addr add 10.9.8.1/24 dev d0; ip link set d0 up; ip link set d1 up; }
        joined() { ip maddr show dev d0 2>/dev/null | grep -q 239.9.9.9; }
        until_ok() { for _ in $(seq 200); do if "$@"; then return 0; fi; sleep 0.1; done; echo "never: $*"; return 1; }
        ready() { [ "$("$1" status -c box.toml --json 2>/dev/null | grep -c '"error": null')" = 1 ]; }
        not_ready() { "$1" status -c box.toml --json 2>/dev/null | grep -q '"error": ".*d0'; }
        # That of the namespace: interfaces are looked up there.
        mount -t sysfs sysfs /sys
        ip link set lo up
        up
        "$0" run -c box.toml 2> box.log &
        trap 'kill $!' EXIT
        until_ok joined
        until_ok ready "$0"
        ip link del d0
        until_ok not_ready "$0"
        up
        until_ok joined
        until_ok ready "$0"
        # Gone and back between two looks: it is another interface of the same name.
        ip link del d0; up
        until_ok joined
        echo joined again
    "#;
    let skycached = program("skycached");
    let output = Command::new("unshare")
        .args(["-rnm", "sh", "-c", script])
        .arg(skycached.get_program())
        .current_dir(at)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let log = std::fs::read_to_string(at.join("box.log")).unwrap_or_default();
    assert!(said.contains("joined again"), "{said} {}\n{log}", String::from_utf8_lossy(&output.stderr));
    assert!(log.contains("the interface is gone"), "{log}");
}

#[test]
fn a_secret_that_is_missing_ends_the_start_with_its_key_its_file_and_the_fix() {
    let mut story = Story::new();
    story.daemon_extra =
        "[[route]]\npath = \"/o/\"\nbase = \"http://127.0.0.1:9/b/\"\n[route.sign]\nform = \"s3\"\n\
                          access_key = \"AKIA1\"\nsecret_file = \"/nowhere/secret\"\n"
            .to_owned();
    let started = program("skycached").arg("run").arg("-c").arg(story.daemon_config()).output().unwrap();
    let said = String::from_utf8_lossy(&started.stderr);
    assert_eq!(started.status.code(), Some(1), "{said}");
    for part in
        ["[route.sign] secret_file of /o/: /nowhere/secret cannot be read", "name the file with the secret"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}
