//! Configurations of `configs` with their programs, in the documented environment: paths and ports of the packaged units, then
//! `check`; and a start in the sandbox of the units, as far as `tests/sandbox/unit.py` builds one without systemd.
//!
//! A unit test reads the files; only the programs check folders, certificates, ports and interfaces.

use std::fs;
use std::path::{Path, PathBuf};

use skycache_tests::programs::{have, program};
use skycache_tests::{free_tcp_port, media};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Values of a key in a unit file.
fn values(unit: &str, key: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
    lines.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
}

fn unit(path: &str) -> String {
    let path = workspace().join(path);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Effective configuration of a file, as the daemon prints it.
fn effective(config: &Path) -> String {
    let output = program("skycached").args(["check", "--print-config", "-c"]).arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Texts between quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[test]
fn what_a_box_and_a_pop_write_and_open_is_what_their_unit_allows() {
    let service = unit("sysroot/systemd/usr/lib/systemd/system/skycached.service");
    assert_eq!(
        values(&service, "CapabilityBoundingSet"),
        Vec::<String>::new(),
        "no capability, so no low port"
    );
    let folder = |key: &str, root: &str| -> Vec<String> {
        values(&service, key).iter().map(|it| format!("{root}/{it}/")).collect()
    };
    let mut writable = folder("CacheDirectory", "/var/cache");
    writable.extend(folder("RuntimeDirectory", "/run"));
    writable.extend(folder("LogsDirectory", "/var/log"));
    assert_eq!(writable.len(), 3, "{writable:?}");
    let handed = |text: &str| values(text, "ListenStream");
    let packaged = handed(&unit("sysroot/systemd/usr/lib/systemd/system/skycached.socket"));
    let of_edge = handed(&unit("configs/edge.socket.conf"));
    for (name, sockets) in [("stb.toml", packaged), ("edge.toml", of_edge.clone()), ("shield.toml", of_edge)]
    {
        let text = effective(&workspace().join("configs").join(name));
        for path in quoted(&text)
            .filter(|it| it.starts_with("/var/") || it.starts_with("/run/") || it.starts_with("/srv/"))
        {
            let is_writable = writable.iter().any(|folder| format!("{path}/").starts_with(folder.as_str()));
            assert!(is_writable, "{name}: the unit does not let the daemon write {path}");
        }
        let listen = text.lines().filter(|line| line.starts_with("listen = ")).collect::<Vec<_>>().join("\n");
        let low = quoted(&listen)
            .filter(|it| it.rsplit(':').next().and_then(|it| it.parse().ok()) < Some(1024_u16));
        for address in low {
            assert!(
                sockets.iter().any(|it| it == address),
                "{name}: no socket unit opens {address}: {sockets:?}"
            );
        }
    }
}

/// A file of `configs` as it stands, with folders, ports and interfaces of a machine that has none of them.
fn moved(dir: &Path, name: &str, replaced: &[(&str, String)]) -> PathBuf {
    let mut text = unit(&format!("configs/{name}"));
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} no longer has {from}");
        text = text.replace(from, to);
    }
    let path = dir.join(name.replace('/', "-"));
    fs::write(&path, text).unwrap();
    path
}

fn checked(name: &str, config: &Path) {
    let mut command = program(name);
    command.arg("check").arg("-c").arg(config);
    if name == "skycached" {
        command.args(["--seconds", "1"]);
    }
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", config.display());
}

#[test]
fn boxes_and_pops_pass_their_check() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let port = || free_tcp_port().to_string();
    fs::create_dir(dir.path().join("log")).unwrap();
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=box",
    ]);
    openssl.args(["-keyout", &at("key.pem"), "-out", &at("cert.pem")]);
    if !openssl.output().is_ok_and(|it| it.status.success()) {
        eprintln!("SKIPPED: no openssl to make a certificate");
        return;
    }
    let everywhere = |listen: &str| {
        vec![
            ("/var/cache/skycache", at("cache")),
            ("/run/skycache/admin.sock", at("admin.sock")),
            ("127.0.0.1:8081", port()),
            ("quota_bytes = ", "quota_bytes = 100_000_000 # ".to_owned()),
            ("reserve_bytes = ", "reserve_bytes = 1_000_000 # ".to_owned()),
        ]
        .into_iter()
        .chain([(if listen.is_empty() { "0.0.0.0:8080" } else { "0.0.0.0:80\"" }, port() + listen)])
        .collect::<Vec<_>>()
    };
    let mut stb = everywhere("");
    stb.push(("interface = \"\"", "interface = \"127.0.0.1\"".to_owned()));
    checked("skycached", &moved(dir.path(), "stb.toml", &stb));
    let mut edge = everywhere("\"");
    let with_tls = || {
        [
            ("0.0.0.0:443", port()),
            ("/var/log/skycache/", at("log/")),
            ("/etc/skycache/cert.pem", at("cert.pem")),
            ("/etc/skycache/key.pem", at("key.pem")),
        ]
    };
    let mut shield = everywhere("\"");
    shield.extend(with_tls());
    checked("skycached", &moved(dir.path(), "shield.toml", &shield));
    edge.extend(with_tls());
    edge.push(("interface = \"eth1\"", "interface = \"127.0.0.1\"".to_owned()));
    checked("skycached", &moved(dir.path(), "edge.toml", &edge));
}

#[test]
fn headends_pass_their_check() {
    let dir = tempfile::tempdir().unwrap();
    let film = media::ladder().canonicalize().unwrap().display().to_string();
    let named = ("interface = \"eth1\"", "interface = \"127.0.0.1\"".to_owned());
    let guide = workspace().join("configs/guide.json").canonicalize().unwrap().display().to_string();
    let srv = |name: &'static str| (name, film.clone());
    checked("headend", &moved(dir.path(), "live.toml", &[named.clone(), srv("/srv/live/one")]));
    let films = ["/srv/live/one", "/srv/films/harbour", "/srv/films/island", "/srv/films/archive"];
    let mut several: Vec<_> = films.into_iter().map(srv).collect();
    several.extend([named, ("guide.json", guide)]);
    checked("headend", &moved(dir.path(), "several.toml", &several));
    let empty = ("interface = \"\"", "interface = \"127.0.0.1\"".to_owned());
    checked(
        "headend",
        &moved(dir.path(), "headend.toml", &[empty.clone(), ("../tests/media/cmaf", film.clone())]),
    );
    for name in ["carousel-modulator", "hub"] {
        let moved = moved(
            dir.path(),
            &format!("uplink/{name}.toml"),
            &[empty.clone(), ("../../tests/media/cmaf", film.clone())],
        );
        checked("headend", &moved);
    }
}

/// `tests/sandbox/unit.py` with a unit of `sysroot`; `None`, with a message, where a sandbox is not permitted.
fn sandbox(unit: &str, name: &str) -> Option<std::process::Command> {
    let may =
        std::process::Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "true"]).output();
    if !may.is_ok_and(|it| it.status.success()) {
        eprintln!("SKIPPED: no right to make namespaces (root has it)");
        return None;
    }
    if !["python3", "ip", "curl", "openssl"].iter().all(|it| have(it)) {
        return None;
    }
    let mut command = std::process::Command::new("python3");
    command.arg(workspace().join("tests/sandbox/unit.py"));
    command.arg("--unit").arg(workspace().join("sysroot").join(unit));
    command.arg("--program").arg(program(name).get_program());
    Some(command)
}

fn file(command: &mut std::process::Command, from: &Path, to: &str) {
    command.arg("--file").arg(format!("{}={to}", from.display()));
}

/// Runs it; what was said on both outputs.
fn started(command: &mut std::process::Command, probe: &str) -> String {
    let output = command.arg("--probe").arg(probe).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("unit.py: started, answered, ended"), "{said}");
    said
}

#[test]
fn a_pop_starts_with_its_configuration_in_the_sandbox_of_its_unit() {
    let said = starts("edge.toml", "until grep -q 0E1700E0 /proc/net/igmp; do sleep 0.1; done");
    assert!(said.is_none_or(|it| it.contains("listening")));
}

#[test]
fn a_shield_starts_with_its_configuration_in_the_sandbox_of_its_unit() {
    // Its routes are for edges; what they see its health by is for all.
    let said = starts("shield.toml", "! grep -q 0E1700E0 /proc/net/igmp");
    assert!(said.is_none_or(|it| it.contains("draining") && !it.contains("listening")));
}

/// Starts a configuration of `configs` as its head says, and asks it for what both have, and for `more`; what it said, if there is a
/// sandbox.
fn starts(name: &str, more: &str) -> Option<String> {
    let mut command = sandbox("systemd/usr/lib/systemd/system/skycached.service", "skycached")?;
    let (root, dir) = (workspace(), tempfile::tempdir().unwrap());
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=edge".split(' '));
    assert!(
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap().status.success()
    );
    // As the head of the file says.
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    for socket in ["sysroot/systemd/usr/lib/systemd/system/skycached.socket", "configs/edge.socket.conf"] {
        command.arg("--socket").arg(root.join(socket));
    }
    let box_config = root.join("sysroot/box/etc/skycache/skycached.toml");
    file(&mut command, &box_config, "/etc/skycache/skycached.toml");
    file(&mut command, &root.join("configs").join(name), &format!("/etc/skycache/conf.d/50-{name}"));
    file(&mut command, &certificate, "/etc/skycache/cert.pem");
    file(&mut command, &key, "/etc/skycache/key.pem");
    let probe = "until curl -sf -o /dev/null http://127.0.0.1/-/health; do sleep 0.1; done\n\
         curl -skf -o /dev/null https://127.0.0.1/-/health\n\
         ! curl -sf -o /dev/null http://127.0.0.1/\n\
         curl -sf http://127.0.0.1:8081/healthz\n\
         grep -q '^CapBnd:.0000000000000000$' /proc/$SERVICE/status\n\
         grep -q '^NoNewPrivs:.1$' /proc/$SERVICE/status\n";
    let said = started(&mut command, &format!("{probe}{more}"));
    assert!(said.contains("serving") && !said.contains("ERROR") && !said.contains("WARN"), "{said}");
    Some(said)
}

#[test]
fn headends_start_with_their_configurations_in_the_sandbox_of_their_unit() {
    let unit = "headend/usr/lib/systemd/system/skycache-headend@.service";
    let film = media::ladder().canonicalize().unwrap();
    let folders: [(&str, &[&str]); 2] = [
        ("live", &["live/one"]),
        ("several", &["live/one", "films/harbour", "films/island", "films/archive"]),
    ];
    for (name, sources) in folders {
        let Some(mut command) = sandbox(unit, "headend") else { return };
        command.args(["--instance", name]);
        let config = workspace().join(format!("configs/{name}.toml"));
        file(&mut command, &config, &format!("/etc/skycache/headend/{name}.toml"));
        file(&mut command, &workspace().join("configs/guide.json"), "/etc/skycache/headend/guide.json");
        sources.iter().for_each(|it| file(&mut command, &film, &format!("/srv/{it}")));
        let sent = "sent() { awk '/eth1/ { print $11 }' /proc/net/dev; }\nuntil [ \"$(sent)\" -gt 100 ]; do sleep 0.1; done";
        let said = started(&mut command, sent);
        assert!(said.contains("on the air"), "{name}: {said}");
    }
}
