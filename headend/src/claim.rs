//! Claims of configurations and groups by `headend send` on this machine: a second `send` of the same configuration is refused,
//! one of the same groups causes a warning.
//!
//! Receivers identify a session by group, source and TSI, so they would mix the objects of two senders. The same file twice is a
//! mistake; two files with one group may be intended, as in a laboratory with faulty senders. Each claim is an abstract socket of
//! Linux: the kernel assigns a name to one process, releases it at its end, and reports the owner. Names are separate for each
//! network namespace.
//!
//! The announcement channel is not claimed: it is the same for all carousels (TS 103 876), and a laboratory may have
//! several.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::config::Config;

/// Maximum number of claimed groups; further sources are not checked.
const MOST: usize = 256;
/// Time limit for finding the owner of a name.
const PATIENCE: Duration = Duration::from_secs(1);

/// Claims of a transmission, released when dropped.
#[derive(Debug)]
pub(crate) struct Claims {
    _sockets: Vec<UnixListener>,
}

impl Claims {
    /// Claims a configuration and its groups. Also returns a warning if another process has one of the groups.
    ///
    /// # Errors
    /// One line: the process that sends this configuration, and the fix.
    pub(crate) fn of(config: &Config) -> Result<(Self, Option<String>), String> {
        let (mut sockets, mut warning) = (Vec::new(), None);
        if let Some(name) = file_name(config) {
            match listen(&name) {
                Ok(socket) => sockets.push(socket),
                Err(err) if err.kind() == io::ErrorKind::AddrInUse => return Err(refusal(config, &name)),
                // Without such sockets nothing is known of other processes.
                Err(_) => {}
            }
        }
        for group in groups(config).into_iter().take(MOST) {
            let name = group_name(config, group);
            match listen(&name) {
                Ok(socket) => sockets.push(socket),
                Err(err) if err.kind() == io::ErrorKind::AddrInUse => {
                    warning.get_or_insert_with(|| shared(config, group, &name));
                }
                Err(_) => {}
            }
        }
        Ok((Self { _sockets: sockets }, warning))
    }
}

/// Warning if another process of this machine sends to one of the groups of a configuration that is not on the air itself. Claims
/// nothing.
pub(crate) fn of_others(config: &Config) -> Option<String> {
    let names = std::fs::read_to_string("/proc/net/unix").ok()?;
    let is_claimed = |name: &str| names.lines().any(|line| line.ends_with(&format!(" @{name}")));
    if file_name(config).is_some_and(|name| is_claimed(&name)) {
        return None;
    }
    let named = groups(config).into_iter().take(MOST).map(|group| (group, group_name(config, group)));
    let (group, name) = named.into_iter().find(|(_, name)| is_claimed(name))?;
    Some(shared(config, group, &name))
}

/// Destinations that only one sender may use, without duplicates.
fn groups(config: &Config) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = match &config.multiplex {
        Some(multiplex) => multiplex.to.iter().map(|to| to.address).collect(),
        None => {
            let media = (0..config.sources.len()).map(|index| config.media_address(index));
            let firmware = config.firmware.iter().map(|it| it.group);
            std::iter::once(config.sessions.configuration).chain(firmware).chain(media).collect()
        }
    };
    all.sort_unstable();
    all.dedup();
    all
}

/// The claim name of a configuration: its canonical file.
fn file_name(config: &Config) -> Option<String> {
    let meta = config.file.as_ref()?.metadata().ok()?;
    Some(socket_name("file", &format!("{}/{}", meta.dev(), meta.ino())))
}

fn group_name(config: &Config, group: SocketAddr) -> String {
    let interface = Some(config.output.interface.as_str()).filter(|it| *it != "lo").unwrap_or("127.0.0.1");
    let source = config.output.source.map_or_else(String::new, |it| it.to_string());
    socket_name("group", &format!("{group}/{interface}/{source}"))
}

/// At most 107 bytes, so a digest is used.
fn socket_name(kind: &str, named: &str) -> String {
    format!("skycache-headend-{kind}/{}", &carousel::digest::Digest::of(named.as_bytes()).to_hex()[..32])
}

fn listen(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

fn refusal(config: &Config, name: &str) -> String {
    format!(
        "{}{} sends this configuration already; stop it, give both the same [lease], so that one waits for the other, or send with --alongside",
        file_of(config),
        process(name)
    )
}

fn shared(config: &Config, group: SocketAddr, name: &str) -> String {
    let is_firmware = config.firmware.as_ref().is_some_and(|it| it.group == group);
    let table = match config.multiplex.is_some() {
        true => "[multiplex] to",
        false if is_firmware => "[firmware] group",
        false => "[sessions] groups",
    };
    format!(
        "{}{} sends to {group} too, and receivers take the objects of one for those of the other; give one of them other {table}",
        file_of(config),
        process(name)
    )
}

fn file_of(config: &Config) -> String {
    config.file.as_ref().map_or_else(String::new, |it| format!("{}: ", it.display()))
}

/// The process that has a name, for messages.
fn process(name: &str) -> String {
    holder(name).map_or_else(
        || "another `headend send` of this machine".to_owned(),
        |pid| match command_line(pid) {
            Some(line) => format!("process {pid} (`{line}`)"),
            None => format!("process {pid}"),
        },
    )
}

/// The process that has a name.
fn holder(name: &str) -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let connecting = tokio::net::UnixStream::connect(format!("\0{name}"));
        let stream = tokio::time::timeout(PATIENCE, connecting).await.ok()?.ok()?;
        // 0: a process of another PID namespace.
        stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    })
}

fn command_line(pid: i32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    // The program's name without its path.
    let (program, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let program = program.rsplit('/').next().unwrap_or(program);
    let line = format!("{program} {rest}").trim_end().to_owned();
    (!line.is_empty() && !line.contains(char::is_control)).then_some(line)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(port: u16, rest: &str) -> Config {
        let text = format!(
            "link.rate_bps = 8_000_000\nsessions.configuration = '239.192.7.1:{port}'\nsessions.media = '239.192.7.2:{port}'\n\
             {rest}\n[[source]]\npath = 'x'\nbase = 'http://h/'\n"
        );
        Config::parse(&text, Path::new("/")).unwrap()
    }

    #[test]
    fn a_group_is_claimed_once_at_a_time_and_its_holder_is_named() {
        // Test runs of one machine do not meet.
        let port = 20_000 + (std::process::id() % 40_000) as u16;
        let warning = |config: &Config| Claims::of(config).unwrap().1;
        let (first, none) = Claims::of(&config(port, "")).unwrap();
        assert_eq!(none, None);
        let why = warning(&config(port, "")).unwrap();
        assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
        assert!(why.contains(&format!("239.192.7.1:{port}")) && why.contains("[sessions]"), "{why}");
        // What is on another interface, or comes from another address, is another session.
        assert_eq!(warning(&config(port, "output.interface = 'eth7'")), None);
        assert_eq!(warning(&config(port, "output.source = '192.0.2.7'")), None);
        // One group in common is enough.
        let mut other = config(port, "");
        other.sessions.configuration = SocketAddr::from(([239, 192, 7, 9], port));
        assert!(warning(&other).unwrap().contains(&format!("239.192.7.2:{port}")));
        let seen = of_others(&config(port, "")).unwrap();
        assert!(
            seen.contains(&format!("process {}", std::process::id())) && seen.contains("239.192.7.1"),
            "{seen}"
        );
        assert_eq!(of_others(&config(port, "output.interface = 'eth7'")), None);
        drop(first);
        assert_eq!(of_others(&config(port, "")), None);
        assert_eq!(warning(&config(port, "")), None);
    }

    #[test]
    fn a_configuration_is_sent_once_at_a_time_whatever_path_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let port = 20_000 + (std::process::id() % 40_000) as u16;
        let of = |name: &str, interface: &str| {
            let mut config = config(port, &format!("output.interface = '{interface}'"));
            config.file = Some(folder.path().join(name));
            config
        };
        std::fs::write(folder.path().join("a.toml"), "").unwrap();
        std::os::unix::fs::symlink("a.toml", folder.path().join("link.toml")).unwrap();
        std::fs::write(folder.path().join("b.toml"), "").unwrap();
        let first = Claims::of(&of("a.toml", "eth5")).unwrap();
        let why = Claims::of(&of("link.toml", "eth6")).unwrap_err();
        assert!(
            why.contains("link.toml: process ") && why.contains("sends this configuration already"),
            "{why}"
        );
        assert_eq!(of_others(&of("link.toml", "eth5")), None, "it is on the air itself");
        assert!(of_others(&of("b.toml", "eth5")).is_some());
        Claims::of(&of("b.toml", "eth6")).unwrap();
        drop(first);
        Claims::of(&of("link.toml", "eth6")).unwrap();
    }

    #[test]
    fn the_announcement_channel_is_shared_and_a_transport_stream_is_one_group() {
        let of = |rest: &str| groups(&config(5000, rest));
        let texts: Vec<String> = of("").iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["239.192.7.1:5000", "239.192.7.2:5000"]);
        let stream = of("[multiplex]\ncarry = 'mpe'\nto = 'udp://239.9.9.9:5000'");
        assert_eq!(stream.iter().map(ToString::to_string).collect::<Vec<_>>(), ["239.9.9.9:5000"]);
    }
}
