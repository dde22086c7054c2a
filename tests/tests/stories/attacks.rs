//! Attacks beside an honest player: on the addresses that the box sends requests to, its admin interface, its places for
//! connections, its page. Faster tests cover each rule; these show that the running programs enforce them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use carousel::flute::{SendFile, Sender, SenderProfile};
use carousel::lct::Tsi;
use carousel::time::WallTime;
use hyper::Method;
use skycache_tests::client::{raw, request};
use skycache_tests::programs::have;
use skycache_tests::{Asked, Scripted, Step, Story, answer, free_tcp_port, get, media};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Response to bytes that are sent as they are.
fn said_to(server: SocketAddr, text: &str) -> String {
    String::from_utf8_lossy(&raw(server, text.as_bytes())).into_owned()
}

#[test]
fn neither_the_air_nor_a_redirect_leads_the_box_to_addresses_that_its_configuration_does_not_name() {
    let secret = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"secret"));
    let inside = secret.address();
    let origin = Scripted::start(move |asked: &Asked| {
        let to = match asked.path.as_str() {
            "/to-port" => format!("http://{inside}/x"),
            "/to-loopback" => "http://127.0.0.1/x".to_owned(),
            "/to-name" => "http://localhost/x".to_owned(),
            "/to-metadata" => "http://169.254.169.254/latest/meta-data/".to_owned(),
            "/to-itself" => "/fine".to_owned(),
            _ => return answer(200, &[("Cache-Control", "max-age=60")], b"fine"),
        };
        answer(302, &[("Location", &to)], b"")
    });
    let mut story = Story::new();
    // A gateway configuration that names the inside as a base URL.
    story.headend_extra = format!("[[source]]\npath = {:?}\nbase = \"http://{inside}/air/\"\n", story.folder);
    story.daemon_extra = format!(
        "[[route]]\npath = \"/o/\"\nbase = \"http://{}/\"\nredirects = \"follow\"\n[[route]]\npath = \"/loop/\"\nbase = \"http://{}/o/\"\n",
        origin.address(),
        story.http
    );
    story.start_daemon();
    for path in ["to-port", "to-loopback", "to-name", "to-metadata"] {
        let response = get(story.http, &format!("/o/{path}"), &[]).unwrap();
        assert_eq!(response.status, 502, "{path}: {}", String::from_utf8_lossy(&response.body));
    }
    assert_eq!(get(story.http, "/o/to-itself", &[]).unwrap().body, b"fine");
    assert_eq!(get(story.http, "/loop/fine", &[]).unwrap().status, 508);
    for (reason, count) in [("port", 1), ("loopback", 2), ("link_local", 1), ("loop", 1)] {
        assert_eq!(story.metric(&format!("origin_refused_total{{reason=\"{reason}\"}}")), count, "{reason}");
    }
    story.start_headend(false);
    let path = format!("/{inside}/air/not-on-the-air.m4s");
    story.until("the base URL has come over the air", Duration::from_secs(20), |story| {
        get(story.http, &path, &[]).is_ok_and(|it| it.status != 404)
    });
    assert!(story.metric("origin_refused_total{reason=\"port\"}") > 1);
    let asked = ["/x", "/air/not-on-the-air.m4s", "/latest/meta-data/"].map(|it| secret.asked(it).len());
    assert_eq!(asked, [0; 3], "the inside was asked");
    // Named, it is asked.
    story.drop_in(&format!("[http]\nallow_origins = [\"{inside}\"]\n"));
    story.daemon.as_ref().unwrap().signal("HUP");
    story.until("the inside is named", Duration::from_secs(20), |story| {
        get(story.http, &path, &[]).is_ok_and(|it| it.status == 200 && it.body == b"secret")
    });
}

fn asked_admin(admin: SocketAddr, head: &str) -> (u16, String) {
    let response = said_to(admin, &format!("{head}\r\nConnection: close\r\n\r\n"));
    let status = response.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.unwrap_or_else(|| panic!("{head}: {response:?}")), response)
}

#[test]
fn the_admin_port_takes_commands_only_with_the_token_and_writes_down_who_gave_them() {
    const TOKEN: &str = "5d4b7c0e9a1f4c2b8e6d3a7f";
    let mut story = Story::new().with_origin();
    let admin = free_tcp_port();
    let token = story.dir().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    story.admin = Some((admin, token.clone()));
    story.drop_in("[admin]\nsocket_mode = \"0600\"\n[log]\nlevel = \"error\"\n");
    story.start_daemon();
    story.send_once();
    story.until_complete(Duration::from_secs(30));
    let key = story.list()[0]["key"].as_str().unwrap().to_owned();
    let purge = format!("POST /api/v1/purge?key={key} HTTP/1.1\r\nHost: {admin}");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for (head, status) in [
        (format!("GET /metrics HTTP/1.1\r\nHost: {admin}"), 200),
        (format!("GET /healthz HTTP/1.1\r\nHost: localhost:{}", admin.port()), 200),
        (purge.clone(), 401),
        (format!("PURGE /{key} HTTP/1.1\r\nHost: {admin}"), 401),
        (format!("GET /api/v1/objects HTTP/1.1\r\nHost: {admin}"), 401),
        (format!("{purge}\r\nAuthorization: Bearer {TOKEN}0"), 401),
        // A form or script of a page in a browser of this machine, and a name that leads here.
        (format!("{purge}\r\nOrigin: https://evil.example"), 403),
        (format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nSec-Fetch-Site: cross-site"), 403),
        (format!("{purge}\r\n{bearer}\r\nOrigin: https://evil.example"), 403),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example".to_owned(), 421),
    ] {
        assert_eq!(asked_admin(admin, &head).0, status, "{head}");
    }
    assert!(story.list().iter().any(|it| it["key"] == key.as_str()), "it is still there");
    let (status, _) = asked_admin(admin, &format!("{purge}\r\n{bearer}"));
    assert_eq!(status, 200);
    assert!(!story.list().iter().any(|it| it["key"] == key.as_str()), "it is gone");
    // The command line by TCP.
    let by_url = |with_token: bool| {
        let mut command = story.skycached("status");
        command.args(["--json", "--admin", &format!("http://{admin}")]);
        if with_token {
            command.arg("--token-file").arg(&token);
        }
        command.output().unwrap()
    };
    assert!(by_url(true).status.success(), "{}", String::from_utf8_lossy(&by_url(true).stderr));
    assert!(String::from_utf8_lossy(&by_url(false).stderr).contains("token"));
    // A client that guesses is slowed down, and the socket serves its owner meanwhile.
    let mut slowed = None;
    for number in 0..200 {
        let (status, response) =
            asked_admin(admin, &format!("{purge}\r\nAuthorization: Bearer guess{number}"));
        if status == 429 {
            slowed = Some(response);
            break;
        }
    }
    assert!(slowed.unwrap().to_ascii_lowercase().contains("retry-after: "));
    assert!(story.status().is_some());
    assert!(story.metric("admin_refused_total{reason=\"rate\"}") > 0);
    assert_eq!(story.metric("admin_refused_total{reason=\"host\"}"), 1);
    // At every log level, and without the secret.
    let log = story.daemon.as_ref().unwrap().log();
    let line = log.lines().find(|it| it.contains("command")).unwrap_or_else(|| panic!("no command in {log}"));
    assert!(line.contains("127.0.0.1") && line.contains("token") && line.contains(&key), "{line}");
    assert!(log.contains("refused") && !log.contains(TOKEN), "{log}");
}

#[test]
fn there_are_as_many_admin_connections_as_places() {
    let mut story = Story::new();
    let admin = free_tcp_port();
    let token = story.dir().join("token");
    std::fs::write(&token, "5d4b7c0e9a1f4c2b8e6d3a7f").unwrap();
    story.admin = Some((admin, token));
    story.start_daemon();
    let answers =
        || said_to(admin, &format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"));
    assert!(answers().starts_with("HTTP/1.1 200"));
    let silent: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(admin).unwrap()).collect();
    story.until("all places are taken", Duration::from_secs(30), |_| answers().is_empty());
    assert!(story.metric("admin_refused_total{reason=\"places\"}") > 0, "the socket has places of its own");
    drop(silent);
    story.until("the places are free", Duration::from_secs(30), |_| answers().starts_with("HTTP/1.1 200"));
}

/// A client certificate in the place of the token.
#[test]
fn the_admin_port_takes_a_client_certificate_of_its_authority_and_no_other() {
    if !have("openssl") || !have("curl") {
        return;
    }
    let mut story = Story::new();
    let folder = story.dir().join("tls");
    std::fs::create_dir(&folder).unwrap();
    let openssl = |arguments: &str| {
        let mut call = std::process::Command::new("openssl");
        let output = call.current_dir(&folder).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for authority in ["ours", "theirs"] {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
        ));
    }
    for (name, authority) in [("box", "ours"), ("operator", "ours"), ("untrusted", "theirs")] {
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        // Version 3, which clients of TLS want.
        std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1").unwrap();
        openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 2 -extfile ext -out {name}.pem"
        ));
    }
    let at = |name: &str| folder.join(name).display().to_string();
    let port = free_tcp_port();
    story.drop_in(&format!(
        "[admin]\nlisten = \"{port}\"\n[admin.tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        at("box.pem"),
        at("box.key"),
        at("ours.pem")
    ));
    story.start_daemon();
    let asked = |method: &str, path: &str, who: Option<&str>| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--cacert"]);
        curl.arg(at("ours.pem"));
        if let Some(who) = who {
            curl.arg("--cert").arg(at(&format!("{who}.pem"))).arg("--key").arg(at(&format!("{who}.key")));
        }
        let output = curl.arg(format!("https://{port}{path}")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(asked("GET", "/api/v1/status", Some("operator")), "200");
    assert_eq!(asked("POST", "/api/v1/ban?pattern=none/x", Some("operator")), "200");
    for who in [None, Some("untrusted")] {
        assert_eq!(asked("GET", "/metrics", who), "000", "{who:?} gets no connection");
    }
    assert!(story.metric("admin_refused_total{reason=\"credential\"}") >= 2);
    let log = story.daemon.as_ref().unwrap().log();
    let line = log.lines().find(|it| it.contains("command")).unwrap_or_else(|| panic!("no command in {log}"));
    assert!(line.contains("certificate") && line.contains("/api/v1/ban"), "{line}");
}

/// Announcements of a thousand times what there is room for, before, between and behind the honest ones.
#[test]
fn untrusted_senders_that_announce_more_than_there_is_room_for_evict_nothing() {
    let mut story = Story::new();
    let folder = tempfile::tempdir().unwrap();
    media::many(folder.path(), 60, 100_000);
    story.folder = folder.path().to_path_buf();
    story.drop_in("[store]\nquota_bytes = 24_000_000\n");
    story.start_daemon();
    let socket = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
    socket2::SockRef::from(&socket).set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
    let groups = story.groups;
    let attack = || {
        let mut out = Vec::new();
        for tsi in 0..12 {
            let mut sender = Sender::new(Tsi(tsi), SenderProfile::default(), 1, 1);
            let large = vec![7; 11_000_000];
            let add =
                |at: usize| sender.add(SendFile::of(format!("https://evil.example/{tsi}/{at}"), &large));
            let tois: Vec<_> = (0..10).map(add).collect();
            sender.refresh_fdt(WallTime::from_unix_ms(4_000_000_000_000)).unwrap();
            let send = |bytes: &[u8]| groups[1..].iter().for_each(|it| drop(socket.send_to(bytes, it)));
            for packet in 0..sender.fdt_packets(0) {
                sender.write_fdt(0, packet, &mut out);
                send(&out);
            }
            for toi in tois.into_iter().flatten() {
                sender.write_packet(toi, 3, &large[..1400], false, &mut out);
                send(&out);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    attack();
    story.start_headend(false);
    let mut times = 0;
    story.until("the honest objects", Duration::from_secs(60), |story| {
        attack();
        times += 1;
        times > 3 && story.held() >= 61
    });
    let compared = story.compare();
    assert_eq!((compared.exact, compared.hits), (61, 61), "{compared}");
    let status = story.status().unwrap();
    assert_eq!(status["store"]["evicted"]["room"].as_u64().unwrap_or(0), 0, "{:#}", status["store"]);
    let partial_bytes = status["store"]["partial_bytes"].as_u64().unwrap();
    assert!(partial_bytes < 4_000_000, "{partial_bytes} bytes for what was announced");
}

#[test]
fn clients_of_one_address_that_never_end_their_requests_lock_nobody_else_out() {
    const PLACES: usize = 256;
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], &[7; 1000]));
    let mut story = Story::new();
    story.daemon_extra = format!("[[route]]\npath = \"/o/\"\nbase = \"http://{}/\"\n", origin.address());
    story.drop_in(&format!("[http]\nmax_connections = {PLACES}\n"));
    story.start_daemon();
    let attacker = |number: usize| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.connect(&story.http.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let begun = format!("GET /o/{number} HTTP/1.1\r\nHost: b\r\nX-Slow: ");
        // One that is refused is closed meanwhile.
        let _ = stream.write_all(begun.as_bytes());
        stream
    };
    let held: Vec<TcpStream> = (0..2 * PLACES).map(attacker).collect();
    story.until("the attacker is at its limit", Duration::from_secs(8), |story| {
        story.metric("http_connections_refused_total") as usize >= PLACES
            && story.metric("http_connections_open") as usize == PLACES * 3 / 4
    });
    // A household of forty players, each with a connection of its own.
    let mut household: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(story.http).unwrap()).collect();
    for stream in &mut household {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /o/1.m4s HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
    }
    drop(held);
}

#[test]
fn what_an_origin_repeats_of_a_players_field_is_for_that_player_alone() {
    let origin = Scripted::start(|asked: &Asked| {
        let host = Some(asked.field("x-link")).filter(|it| !it.is_empty()).unwrap_or("good.example");
        let fields = [("Cache-Control", "max-age=60"), ("Content-Type", "text/html")];
        match asked.path.as_str() {
            "/token.m4s" if asked.field("x-token").is_empty() => answer(403, &[], b"sign in"),
            "/token.m4s" => answer(200, &[("Cache-Control", "max-age=60")], b"media"),
            "/field" => answer(200, &[fields[0], ("X-Seen", host)], b"fine"),
            "/open" => answer(200, &fields, b"the same for all"),
            "/slow" => {
                let mut steps = vec![Step::Wait(Duration::from_millis(600))];
                steps.extend(answer(200, &fields, format!("<script src=//{host}/x>").as_bytes()));
                steps
            }
            "/none.m4s" => answer(404, &fields, format!("<a href=//{host}/x>").as_bytes()),
            "/escaped" => {
                let host = host.to_ascii_uppercase().replace('.', "%2e");
                answer(200, &fields, format!("<a href=/login?next={host}>").as_bytes())
            }
            "/packed" => {
                let page = gzip(format!("<script src=//{host}/x>").as_bytes());
                answer(200, &[fields[0], fields[1], ("Content-Encoding", "gzip")], &page)
            }
            _ => answer(200, &fields, format!("<script src=//{host}/x>").as_bytes()),
        }
    });
    let mut story = Story::new();
    let route = |path: &str, extra: &str| {
        format!("[[route]]\npath = \"/{path}/\"\nbase = \"http://{}/\"\n{extra}", origin.address())
    };
    story.daemon_extra = route("o", "") + &route("strict", "request_fields = []\n");
    story.start_daemon();
    let evil = [("X-Link", "evil.example")];
    let body = |path: &str, fields: &[(&str, &str)]| {
        String::from_utf8(get(story.http, path, fields).unwrap().body).unwrap()
    };
    assert_eq!(body("/o/page", &evil), "<script src=//evil.example/x>");
    assert_eq!(body("/o/page", &[]), "<script src=//good.example/x>");
    assert_eq!(body("/o/page", &evil), "<script src=//good.example/x>", "now it is held");
    assert_eq!(get(story.http, "/o/field", &evil).unwrap().header("x-seen"), "evil.example");
    assert_eq!(get(story.http, "/o/field", &[]).unwrap().header("x-seen"), "good.example");
    assert_eq!(story.metric("origin_not_kept_total{reason=\"repeats\"}"), 2);
    // Neither a name of media, nor another spelling, nor a coding hides it.
    for path in ["/o/page.m4s", "/o/none.m4s", "/o/escaped", "/o/packed"] {
        let of = |fields: &[(&str, &str)]| get(story.http, path, fields).unwrap().body;
        let (theirs, ours) = (of(&evil), of(&[]));
        assert_ne!(theirs, ours, "{path}");
        assert_eq!(of(&evil), ours, "{path} is held as all others get it");
    }
    // What changes the origin's reading of a request does not get there.
    for name in [
        "X-Forwarded-Host",
        "X-Original-URL",
        "X-HTTP-Method-Override",
        "X-Forwarded-Scheme",
        "X-Rewrite-URL",
    ] {
        get(story.http, &format!("/o/{name}"), &[(name, "evil.example")]).unwrap();
        let asked = origin.asked(&format!("/{name}")).pop().unwrap();
        assert_ne!(asked.field(&name.to_ascii_lowercase()), "evil.example", "{name}");
    }
    // Nor does one that comes while the origin is silent about the other's request.
    let http = story.http;
    let first = std::thread::spawn(move || get(http, "/o/slow", &[("X-Link", "evil.example")]).unwrap().body);
    while origin.asked("/slow").is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(body("/o/slow", &[]), "<script src=//good.example/x>");
    assert_eq!(first.join().unwrap(), b"<script src=//evil.example/x>");
    // A response that reflects no field is shared, for any fields; so is media, and its origin receives the fields.
    for number in ["first-player", "second-player"] {
        assert_eq!(body("/o/open", &[("X-Device", number)]), "the same for all");
        assert_eq!(body("/o/token.m4s", &[("X-Token", number)]), "media");
    }
    assert_eq!((origin.asked("/open").len(), origin.asked("/token.m4s").len()), (1, 1));
    assert_eq!(origin.asked("/token.m4s")[0].field("x-token"), "first-player");
    // With a list nothing else is passed on.
    assert_eq!(body("/strict/page2", &evil), "<script src=//good.example/x>");
    assert!(story.metric("http_unpassed_fields_total") >= 1);
}

#[test]
fn what_a_player_sends_wrongly_is_counted_against_nobody_else() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"fine"));
    let mut story = Story::new();
    story.daemon_extra =
        format!("[[route]]\npath = \"/o/\"\nbase = \"http://{}/\"\nmethods = [\"POST\"]\n", origin.address());
    story.start_daemon();
    let post = "POST /o/licence HTTP/1.1\r\nHost: b\r\n";
    for number in 0..12 {
        let body = if number % 2 == 0 { "zz\r\nno chunk\r\n" } else { "5\r\nhel" };
        let response = said_to(story.http, &format!("{post}Transfer-Encoding: chunked\r\n\r\n{body}"));
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 400"), "{response}");
    }
    assert_eq!(story.metric("origin_open_circuits"), 0);
    assert_eq!(get(story.http, "/o/1.m4s", &[]).unwrap().body, b"fine");
    // Both orders, and behind another request.
    let before = origin.asked("/licence").len();
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        for first in ["", "GET /o/1.m4s HTTP/1.1\r\nHost: b\r\n\r\n"] {
            let rest = "0\r\n\r\nGET /o/smuggled HTTP/1.1\r\nHost: b\r\n\r\n";
            let response = said_to(story.http, &format!("{first}{post}{lengths}\r\n{rest}"));
            assert!(response.contains("HTTP/1.1 400"), "{first}{lengths}: {response}");
        }
    }
    assert_eq!(origin.asked("/licence").len(), before);
    assert!(origin.asked("/smuggled").is_empty());
    // Methods that operate on the origin, and fields that would poison what others get.
    let purge = request(Method::from_bytes(b"PURGE").unwrap(), story.http, "/o/1.m4s", &[]).unwrap();
    assert_eq!((purge.status, purge.header("allow")), (405, "GET, HEAD, POST"));
    let poison = [("X-Original-URL", "/admin"), ("X-Host", "evil.example"), ("Accept-Language", "de")];
    assert_eq!(get(story.http, "/o/2.m4s", &poison).unwrap().body, b"fine");
    let asked = origin.asked("/2.m4s");
    assert_eq!(asked[0].field("accept-language"), "de");
    assert_eq!((asked[0].field("x-original-url"), asked[0].field("x-host")), ("", ""));
    assert!(story.metric("http_unpassed_fields_total") >= 2);
    // The page under a name that leads to the box.
    let page = |host: &str, path: &str| {
        let response = said_to(story.http, &format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        response.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for path in ["/", "/-/titles.json", "/-/live"] {
        assert_eq!(page("evil.example", path), "421", "{path}");
    }
    for (host, path) in [
        ("localhost", "/"),
        ("127.0.0.1", "/"),
        ("box.lan", "/-/titles.json"),
        ("cdn.example.com", "/-/time"),
    ] {
        assert_eq!(page(host, path), "200", "{host}{path}");
    }
    assert_eq!(story.metric("http_refused_requests_total{reason=\"host\"}"), 3);
}

#[test]
fn what_is_no_regular_file_of_the_source_is_named_and_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    copy(&media::ladder(), &folder.path().join("source"));
    let at = |name: &str| folder.path().join("source").join(name);
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), at("secret.m4s")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("fifo.m4s")).status().unwrap().success());
    let mut story = Story::of(&folder.path().join("source"));
    story.headend_extra = "include_unreferenced = true\n".to_owned();
    story.start_daemon();
    // A FIFO without a writer would hold this up forever.
    story.send_once();
    story.until("the media have come", Duration::from_secs(30), |story| story.held() > 3);
    assert!(!story.list().iter().any(|it| it["key"].as_str().is_some_and(|key| key.contains("secret"))));
    let scanned = skycache_tests::programs::program("headend").arg("scan").arg(at("")).output().unwrap();
    let said = String::from_utf8_lossy(&scanned.stdout) + String::from_utf8_lossy(&scanned.stderr);
    for name in ["fifo.m4s: a FIFO is left out", "secret.m4s: a link that leads out of the source"] {
        assert!(said.contains(name), "{name} in {said}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
