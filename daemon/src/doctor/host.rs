//! Checks of the host: disk, ports, limits, clock.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{Finding, Severity};
use crate::admin::{self, Admin};
use crate::certificates::{self, ConfiguredFileError, WARNING_DAYS};
use crate::config::Config;
use crate::origin::MAX_FILLS;
use crate::store::Store;
use crate::traces::{self, Traces};
use crate::{clock, kafka, listen, memory};

pub(super) fn examine(config: &Config, is_running: bool, is_deep: bool) -> Vec<Finding> {
    let mut found = crate::as_owner_of(&config.store.path, || disk(config, is_running, is_deep));
    let tcp = |addresses: &[SocketAddr], key| ports(addresses, ("port", key), is_running, listen::try_listen);
    found.extend(tcp(&config.http.listen, "[http] listen"));
    if let Some(tls) = &config.http.tls {
        found.extend(tcp(&tls.listen, "[http.tls] listen"));
        if tls.http3 && crate::http::HAS_HTTP3 {
            let about = ("UDP port", "[http.tls] http3");
            found.extend(ports(&tls.listen, about, is_running, listen::try_datagrams));
        }
        found.push(certificate("http.tls", &tls.certificate, &tls.key));
    }
    if let Some(tls) = &config.admin.tls {
        found.push(certificate("admin.tls", &tls.certificate, &tls.key));
        let authorities = tls.client_ca.as_ref().map(|it| admin::client_verifier(it));
        found.extend(authorities.and_then(Result::err).map(unusable));
    }
    found.extend(admin_token(&config.admin));
    if config.kafka.is_some() && !kafka::HAS_KAFKA {
        let (what, fix) = (
            "this program is built without Kafka",
            "install the package for servers, or build with --features kafka",
        );
        found.push(Finding::new(Severity::Error, "[kafka]", what, fix));
    }
    if let Some(options) = &config.traces {
        found.push(crate::as_owner_of(&config.store.path, || collector(options)));
    }
    found.extend(crate::as_owner_of(&config.store.path, || {
        let found = |(about, sign): (String, &crate::origin::Signing)| {
            let why = sign.check().err()?;
            Some(Finding::new(Severity::Error, about, why.what, why.fix))
        };
        config.signed().filter_map(found).collect::<Vec<_>>()
    }));
    found.extend(config.http.access_log.iter().map(|log| access_log(&log.path)));
    found.extend(tcp(&config.admin.listen, "[admin] listen"));
    found.push(admin_socket(&config.admin.socket, is_running));
    found.push(descriptors(config));
    found.push(memory(config, memory::available_bytes()));
    found.push(match clock::trusted_wall() {
        Some(now) => Finding::fine("clock", now.to_xml()),
        None => Finding::new(
            Severity::Warning,
            "clock",
            format!("it says {}, which cannot be", clock::wall().to_xml()),
            "set it by NTP; until then nothing expires",
        ),
    });
    found
}

/// The token of the admin interface.
fn admin_token(config: &Admin) -> Option<Finding> {
    let credential = config.token_credential.as_ref().filter(|_| config.token_file.is_none());
    let key = if credential.is_some() { "[admin] token_credential" } else { "[admin] token_file" };
    match (admin::check_token(config), credential) {
        (Err(what), _) => {
            let what = what.strip_prefix("the token of [admin], ").unwrap_or(&what);
            let (what, fix) = what.split_once("; ").unwrap_or((what, "name its file in [admin] token_file"));
            Some(Finding::new(Severity::Error, key, what, fix))
        }
        (Ok(None), Some(name)) => {
            let what = format!("{name:?} is given to the service alone, so its token has not been looked at");
            Some(Finding::fine(key, what))
        }
        (Ok(_), _) => None,
    }
}

/// A file of certificates that is unusable.
fn unusable(why: ConfiguredFileError) -> Finding {
    Finding::new(Severity::Error, why.about, why.file.what, why.file.fix)
}

/// Whether the collector takes traces.
fn collector(options: &Traces) -> Finding {
    if !traces::HAS_TRACES {
        let (what, fix) = (
            "this program is built without OpenTelemetry",
            "install the package for servers, or build with --features otlp",
        );
        return Finding::new(Severity::Error, "[traces]", what, fix);
    }
    let about = format!("[traces] endpoint {}", options.url());
    match traces::check(options) {
        Ok(()) => Finding::fine(about, "the collector takes traces"),
        // Players are served all the same.
        Err(it) => Finding::new(Severity::Warning, it.about, it.what, it.fix),
    }
}

/// Whether the certificate of a listener is valid, and for how long.
fn certificate(table: &str, file: &Path, key: &Path) -> Finding {
    let it = match certificates::check(table, file, key) {
        Ok(it) => it,
        Err(why) => return unusable(why),
    };
    let about = format!("certificate {}", file.display());
    let until = format!("until {}", it.not_after.to_xml());
    let Some(now) = clock::trusted_wall() else { return Finding::fine(about, until) };
    let days = it.days_left(now);
    let fix = "renew it: the daemon reads the files again when they change";
    if days < 0 {
        Finding::new(
            Severity::Error,
            about,
            format!("ended, or one of its chain: {}", it.not_after.to_xml()),
            fix,
        )
    } else if it.not_before > now {
        let (what, fix) = (
            format!("begins only {}", it.not_before.to_xml()),
            "compare the clocks of this machine and of its authority",
        );
        Finding::new(Severity::Error, about, what, fix)
    } else if days < WARNING_DAYS {
        Finding::new(Severity::Warning, about, format!("{until}: {days} days left"), fix)
    } else {
        Finding::fine(about, format!("{until}: {days} days left"))
    }
}

/// Every invariant of the store.
fn audit(store: &Store, about: &str) -> Finding {
    let audit = store.audit();
    if audit.is_sound() {
        return Finding::fine(about, audit.to_string());
    }
    let fix = "wrong objects were evicted and come again; if it recurs, the flash is worn: replace it";
    Finding::new(Severity::Warning, about, audit.to_string(), fix)
}

fn disk(config: &Config, is_running: bool, is_deep: bool) -> Vec<Finding> {
    let path = &config.store.path;
    let about = format!("disk {}", path.display());
    if !path.exists() {
        return folder_to_be(config, about);
    }
    let mut found = match store(config, is_running, is_deep) {
        Ok(found) => found,
        Err(why) => return vec![Finding::of_message(Severity::Error, about, &why)],
    };
    if let Err(err) = tempfile_works(path) {
        let fix = match err.raw_os_error() {
            Some(libc::EROFS) => "remount it for writing; the kernel's log says why it is not",
            Some(libc::EACCES | libc::EPERM) => "give the folder to the user that skycached runs as",
            _ => {
                "use a file system with O_TMPFILE: ext4, XFS, Btrfs, F2FS, tmpfs; not overlayfs on old kernels, FAT or NFS"
            }
        };
        found.push(Finding::new(
            Severity::Error,
            &about,
            format!("a file without a name cannot be made: {err}"),
            fix,
        ));
        return found;
    }
    found.push(room(config, &config.store.path, &about));
    found
}

/// A folder that is made at the start, if it can be, and the room for it.
fn folder_to_be(config: &Config, about: String) -> Vec<Finding> {
    let nearest = nearest_folder(&config.store.path);
    match tempfile_works(nearest) {
        Ok(()) => {
            let room = room(config, nearest, &about);
            let to_be = Finding::fine(about, "is not there yet and will be made");
            if room.severity == Severity::Fine { vec![to_be] } else { vec![to_be, room] }
        }
        Err(err) => vec![Finding::new(
            Severity::Error,
            about,
            format!(
                "is not there and cannot be made: {}: {}",
                nearest.display(),
                carousel::config::plain(&err)
            ),
            match err.raw_os_error() {
                Some(libc::EROFS) => {
                    "remount it for writing, or give [store] path a folder that can be written"
                }
                Some(libc::EACCES | libc::EPERM) => {
                    "give the user of skycached the right to write there, or [store] path a folder that it may write"
                }
                _ => "give [store] path a folder that skycached may write, on a file system with O_TMPFILE",
            },
        )],
    }
}

/// The folder that is there, at or above a path. A relative path begins in the working directory.
fn nearest_folder(path: &Path) -> &Path {
    let all = path.ancestors().map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it });
    all.into_iter().find(|it| it.exists()).unwrap_or_else(|| Path::new("/"))
}

/// The store, as far as the daemon does not have it.
fn store(config: &Config, is_running: bool, is_deep: bool) -> Result<Vec<Finding>, String> {
    let path = &config.store.path;
    let about = format!("store {}", path.display());
    match (is_running, is_deep) {
        (false, true) => {
            // Opening tries the lock and the headers; what is torn is evicted, as at the daemon's start.
            let (store, report) = Store::open(&config.store).map_err(|err| err.to_string())?;
            let found = vec![Finding::fine(&about, report.to_string()), audit(&store, &about)];
            // The snapshot of a clean stop was taken by opening: the daemon's next start wants it.
            store.close();
            Ok(found)
        }
        (false, false) => Store::is_free(path).map(|()| Vec::new()).map_err(|err| err.to_string()),
        (true, true) => {
            let what = "the running daemon has it, and verifies what it serves";
            Ok(vec![Finding::new(Severity::Warning, about, what, "stop it to look at everything")])
        }
        (true, false) => Ok(Vec::new()),
    }
}

/// Room for the quota on the file system of `folder`, which is the store's or will be above it.
fn room(config: &Config, folder: &Path, about: &str) -> Finding {
    let free = match crate::store::free_bytes(folder) {
        Ok(free) => free,
        Err(err) => {
            let fix = "[store] path must be a folder";
            return Finding::new(Severity::Error, about, err.to_string(), fix);
        }
    };
    let (held, reserve) = (held_bytes(&config.store.path), config.store.reserve_bytes);
    let wanted = config.store.quota_bytes.saturating_sub(held).saturating_add(reserve);
    let what = format!(
        "{} MB free, {} MB in the cache, quota {} MB",
        free / 1_000_000,
        held / 1_000_000,
        config.store.quota_bytes / 1_000_000
    );
    if free >= wanted {
        return Finding::fine(about, what);
    }
    let left_mb = (free + held).saturating_sub(reserve) / 1_000_000;
    if left_mb < 2 {
        let what = format!("{what}: of which [store] reserve_bytes, {} MB, stay free", reserve / 1_000_000);
        let fix = "make room, give [store] path a larger file system, or lower [store] reserve_bytes";
        return Finding::new(Severity::Error, about, what, fix);
    }
    let fix = format!("[store] quota_bytes = \"{left_mb} MB\", or make room");
    Finding::new(Severity::Warning, about, format!("{what}: the quota does not fit with the reserve"), fix)
}

fn tempfile_works(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(path).map(|_| ())
}

/// Bytes of the files below a folder: the cache is two levels deep.
fn held_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of the entry itself: no link leads out of the folder.
            match entry.metadata() {
                Ok(it) if it.is_dir() => folders.push(entry.path()),
                Ok(it) if it.is_file() => bytes += it.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// The ports of one key, which `try_open` opens and closes again.
fn ports(
    addresses: &[SocketAddr],
    (name, key): (&str, &str),
    is_running: bool,
    try_open: fn(SocketAddr, &[SocketAddr]) -> std::io::Result<()>,
) -> Vec<Finding> {
    let port = |address: &SocketAddr| {
        let about = format!("{name} {address}");
        if is_running {
            return Finding::fine(about, format!("{key}: the running daemon has it"));
        }
        match try_open(*address, addresses) {
            Ok(()) => Finding::fine(about, format!("{key}: free")),
            Err(err) => {
                let why = listen::refusal(&err, address.port(), key);
                Finding::of_message(Severity::Error, about, &format!("{key}: {why}"))
            }
        }
    };
    addresses.iter().map(port).collect()
}

/// The file of the access log, if it is there, else its folder.
fn access_log(path: &Path) -> Finding {
    let about = format!("access log {}", path.display());
    let opened = match fs::metadata(path) {
        Ok(it) if it.is_dir() => Err(std::io::ErrorKind::IsADirectory.into()),
        Ok(_) => fs::OpenOptions::new().append(true).open(path).map(drop),
        Err(_) => {
            let folder =
                path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            match fs::metadata(folder) {
                Ok(_) => tempfile_works(folder).or_else(|err| {
                    // A file system without O_TMPFILE may have files with names.
                    let is_refused =
                        matches!(err.raw_os_error(), Some(libc::EACCES | libc::EROFS | libc::EPERM));
                    if is_refused { Err(err) } else { Ok(()) }
                }),
                Err(err) => Err(err),
            }
        }
    };
    match opened {
        Ok(()) => Finding::fine(about, "can be written"),
        Err(err) => {
            let fix =
                "[http.access_log] path must be a file that skycached may write, in a folder that is there";
            Finding::new(Severity::Error, about, err.to_string(), fix)
        }
    }
}

fn admin_socket(path: &Path, is_running: bool) -> Finding {
    let about = format!("admin socket {}", path.display());
    if is_running {
        return Finding::fine(about, "the running daemon answers");
    }
    // Its folder is made at the start if it can be.
    let nearest = nearest_folder(path.parent().unwrap_or_else(|| Path::new("/")));
    match tempfile_works(nearest) {
        Ok(()) => Finding::fine(about, "can be made"),
        Err(err) if matches!(err.raw_os_error(), Some(libc::EACCES | libc::EROFS | libc::EPERM)) => {
            Finding::new(
                Severity::Error,
                about,
                format!("{}: {err}", nearest.display()),
                "run as root, or give [admin] socket a folder that this user may write",
            )
        }
        Err(_) => Finding::fine(about, "its folder is there"),
    }
}

/// Every connection and every fill has a descriptor.
fn descriptors(config: &Config) -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        // The hard one: the daemon raises the soft one to it.
        .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<usize>().ok());
    // And those of mapped objects, fetches and groups.
    let wanted = config.http.max_connections + 6144 + 2 * config.http.max_fills.saturating_sub(MAX_FILLS);
    match limit {
        Some(limit) if limit < wanted => Finding::new(
            Severity::Warning,
            "descriptors",
            format!("{limit} for {} connections and the cache's files", config.http.max_connections),
            format!(
                "LimitNOFILE={wanted} in the unit, `ulimit -n {wanted}`, or lower [http] max_connections"
            ),
        ),
        _ => Finding::fine("descriptors", format!("enough for {} connections", config.http.max_connections)),
    }
}

/// Whether the store's memory and what is received fit into the memory that the process may use.
fn memory(config: &Config, available: Option<u64>) -> Finding {
    let (store, received) = (config.store_memory_bytes(), config.memory_budgets().received_bytes);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let Some(available) = available else {
        return Finding::new(
            Severity::Warning,
            "memory",
            "how much there is cannot be read",
            "mount /proc, or set [receive] memory_bytes",
        );
    };
    let what = format!(
        "{} for what is received, {} for the store, {} for the program, of {}",
        mib(received),
        mib(store),
        mib(memory::PROGRAM_BYTES),
        mib(available)
    );
    if received + store + memory::PROGRAM_BYTES > available {
        let fix = "lower [store] memory_bytes, of which half as much again is taken beside it, or [receive] memory_bytes";
        return Finding::new(Severity::Warning, "memory", what, fix);
    }
    Finding::fine("memory", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::tests::make;

    #[test]
    fn faults_of_certificates_have_their_own_fixes() {
        let it = certificate("http.tls", Path::new("none.pem"), Path::new("none.key"));
        assert_eq!(
            (it.about.as_str(), it.what.as_str(), it.fix.as_str()),
            ("[http.tls] certificate none.pem", "there is no such file", "give a PEM file")
        );
    }

    #[test]
    fn bytes_of_all_depths_are_held_and_those_behind_links_are_not() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.path().join("objects/a0")).unwrap();
        fs::write(folder.path().join("objects/a0/1"), [0; 300]).unwrap();
        fs::write(folder.path().join("index"), [0; 20]).unwrap();
        fs::write(other.path().join("1"), [0; 4000]).unwrap();
        std::os::unix::fs::symlink(other.path(), folder.path().join("objects/link")).unwrap();
        assert_eq!(held_bytes(folder.path()), 320);
    }

    #[test]
    fn the_files_of_both_listeners_with_tls_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let is_made = |certificate, key| make(folder.path(), certificate, key, &["-days", "90"]);
        if !is_made("a.pem", "a.key") || !is_made("b.pem", "b.key") {
            return;
        }
        let found = |admin_key: &str, client_ca: &str| -> Vec<String> {
            let at = folder.path().display();
            let text = format!(
                "store.path = '{at}/cache'\nadmin.socket = '{at}/admin.sock'\n[http]\nlisten = '127.0.0.1:0'\n\
                 [http.tls]\nlisten = []\ncertificate = '{at}/a.pem'\nkey = '{at}/a.key'\n\
                 [admin.tls]\ncertificate = '{at}/b.pem'\nkey = '{at}/{admin_key}'\nclient_ca = '{at}/{client_ca}'\n"
            );
            let config = Config::parse(&text).unwrap();
            let all = examine(&config, false, false);
            let all =
                all.iter().filter(|it| it.about.contains("certificate") || it.about.contains("client_ca"));
            all.map(|it| it.to_string().replace(&format!("{at}/"), "")).collect()
        };
        let right = found("b.key", "a.pem");
        assert!(right.len() == 2 && right.iter().all(|it| it.starts_with("fine ")), "{right:?}");
        let wrong = found("a.key", "a.pem");
        assert!(
            wrong[1].contains("[admin.tls] certificate b.pem and key a.key: they do not belong together"),
            "{wrong:?}"
        );
        let wrong = found("b.key", "b.key");
        assert!(wrong[2].contains("[admin.tls] client_ca b.key: it has no certificate"), "{wrong:?}");
        let leaf = ["-CA", "a.pem", "-CAkey", "a.key", "-subj", "/CN=leaf"];
        let leaf = [&leaf[..], &["-addext", "basicConstraints=CA:FALSE"]].concat();
        assert!(make(folder.path(), "leaf.pem", "leaf.key", &leaf));
        let wrong = found("b.key", "leaf.pem");
        assert!(
            wrong[2].contains("[admin.tls] client_ca leaf.pem") && wrong[2].contains("CA:TRUE"),
            "{wrong:?}"
        );
    }

    #[test]
    fn budgets_that_do_not_fit_into_the_memory_are_warned_of() {
        let mut config = Config::parse("").unwrap();
        (config.store.memory_bytes, config.receive.memory_bytes) = (16 << 20, 24 << 20);
        let found = memory(&config, Some(60 << 20));
        assert_eq!(found.severity, Severity::Fine, "{}", found.what);
        assert_eq!(
            found.what,
            "24 MiB for what is received, 24 MiB for the store, 12 MiB for the program, of 60 MiB"
        );
        config.receive.memory_bytes = (24 << 20) + 1;
        let found = memory(&config, Some(60 << 20));
        assert!(
            found.severity == Severity::Warning && found.fix.contains("[store] memory_bytes"),
            "{}",
            found.fix
        );
        assert_eq!(memory(&config, None).severity, Severity::Warning);
    }

    #[test]
    fn a_relative_folder_begins_in_the_working_directory() {
        assert_eq!(nearest_folder(Path::new("no-such-folder/cache")), Path::new("."));
        assert_eq!(nearest_folder(Path::new("")), Path::new("."));
        assert_eq!(nearest_folder(Path::new("/no-such-folder/cache")), Path::new("/"));
        assert_eq!(nearest_folder(Path::new("src/no-such-folder")), Path::new("src"));
    }

    #[test]
    fn a_reserve_that_leaves_no_room_is_an_error_before_the_folder_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let found = |store: &str| {
            let text =
                format!("store.path = '{at}/cache'\nadmin.socket = '{at}/admin.sock'\nstore.{store}\n");
            let all = disk(&Config::parse(&text).unwrap(), false, false);
            all.into_iter().map(|it| (it.severity, it.fix)).collect::<Vec<_>>()
        };
        let fine = (Severity::Fine, String::new());
        assert_eq!(found("quota_bytes = '20 MB'\nstore.reserve_bytes = '1 MB'"), std::slice::from_ref(&fine));
        let [first, room] = found("reserve_bytes = '1000 TB'").try_into().unwrap();
        assert_eq!(first, fine);
        assert!(room.0 == Severity::Error && room.1.contains("reserve_bytes"), "{room:?}");
        let [_, room] = found("quota_bytes = '1000 TB'").try_into().unwrap();
        let lower = room.1.strip_prefix("[store] ").unwrap().split(", or").next().unwrap();
        assert_eq!(room.0, Severity::Warning);
        assert_eq!(found(lower), [fine], "the fix is one: {lower}");
    }

    #[test]
    fn a_secret_that_requests_cannot_be_signed_with_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let found = |sign: &str| {
            let text = format!(
                "store.path = '{at}/cache'\nadmin.socket = '{at}/admin.sock'\n[[route]]\npath = '/vod/'\nbase = 'https://h/'\n\
                 [route.sign]\nsecret_file = '{at}/secret'\n{sign}\n"
            );
            let all = examine(&Config::parse(&text).unwrap(), false, false);
            let all = all.iter().filter(|it| it.about.contains("secret_file of /vod/"));
            all.map(|it| it.what.clone()).collect::<Vec<_>>()
        };
        let cloudfront = "form = 'cloudfront'\nkey_pair_id = 'K1'";
        assert!(found(cloudfront)[0].contains("cannot be read"));
        fs::write(folder.path().join("secret"), "a word").unwrap();
        assert!(found(cloudfront)[0].contains("has no private key"));
        assert_eq!(found("form = 'bunny'"), [""; 0]);
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn files_of_traces_that_only_root_may_read_are_found() {
        use std::os::unix::fs::{PermissionsExt as _, chown};

        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(folder.path(), 0o755);
        let (cache, file) = (folder.path().join("cache"), folder.path().join("fields"));
        fs::create_dir(&cache).unwrap();
        if chown(&cache, Some(65_534), Some(65_534)).is_err() {
            eprintln!("SKIPPED: not root, so no file can be root's alone");
            return;
        }
        fs::write(&file, "authorization: Bearer word\n").unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "store.path = '{at}/cache'\nadmin.socket = '{at}/admin.sock'\n[traces]\nendpoint = 'http://{free}'\n\
             headers_file = '{at}/fields'\n"
        );
        let config = Config::parse(&text).unwrap();
        let fix = |of| {
            mode(&file, of);
            let all = examine(&config, false, false);
            all.into_iter().find(|it| it.about.starts_with("[traces]")).unwrap().fix
        };
        assert_eq!(fix(0o644), "start the collector, or correct [traces] endpoint");
        assert_eq!(fix(0o600), "name files that skycached may read in [traces]");
    }

    #[test]
    fn a_token_that_run_refuses_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!(
            "store.path = '{at}/cache'\nadmin.socket = '{at}/admin.sock'\nadmin.token_file = '{at}/token'\n"
        );
        let found = |token: &str| {
            fs::write(folder.path().join("token"), token).unwrap();
            let all = examine(&Config::parse(&text).unwrap(), false, false);
            all.iter().filter(|it| it.about.contains("token")).map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("0123456789abcdef\n"), [""; 0]);
        let short = found("tok");
        assert!(short.len() == 1 && short[0].contains("at least 16 characters"), "{short:?}");
        // The service alone is given its credentials.
        let credential = Admin { token_credential: Some("admin-token".into()), ..Admin::default() };
        let said = admin_token(&credential).unwrap().to_string();
        assert!(said.starts_with("fine ") && said.contains("has not been looked at"), "{said}");
    }
}
