//! Health of a start: the daemon is READY, and answers players.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::name::Slot;
use super::slot_error::SlotError;

/// Variable with the name of the image that the loader has started.
const SELECTED: &str = "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Timeout of one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Name of the image that the loader started, from its EFI variable.
///
/// # Errors
/// No EFI, or another loader.
pub(super) fn selected_entry(efivars: &Path) -> Result<String, SlotError> {
    let path = efivars.join(SELECTED);
    let bytes = std::fs::read(&path).map_err(|err| SlotError::NoLoader(path.display().to_string(), err))?;
    // Four bytes of attributes, then UTF-16 with its end.
    let units = bytes.get(4..).unwrap_or_default().chunks_exact(2);
    let units: Vec<u16> = units.map(|it| u16::from_le_bytes([it[0], it[1]])).collect();
    let name = String::from_utf16(&units).map_err(|_| SlotError::content(&path, "no text"))?;
    Ok(name.trim_end_matches('\0').to_owned())
}

/// The running slot, as the initial RAM disk has recorded it.
///
/// # Errors
/// This is not an appliance.
pub(super) fn running_slot(folder: &Path) -> Result<Slot, SlotError> {
    let path = folder.join("slot");
    let text = std::fs::read_to_string(&path)
        .map_err(|err| SlotError::NotAppliance(path.display().to_string(), err))?;
    text.trim().parse().map_err(|why: String| SlotError::content(&path, why))
}

/// Whether the listener answers as it would a player.
#[must_use]
pub(super) fn is_serving(listen: SocketAddr) -> bool {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, listen.port()), TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head == *b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

/// Reason why this start is not healthy, if there is one.
#[must_use]
pub(super) fn ailment(listen: SocketAddr) -> Option<&'static str> {
    // The unit is of type notify: active is READY.
    let state = Command::new("systemctl").args(["is-active", "--quiet", "skycached.service"]).status();
    if !state.is_ok_and(|it| it.success()) {
        return Some("skycached has not reported READY");
    }
    (!is_serving(listen)).then_some("skycached does not answer players")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_loaders_variable_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(selected_entry(folder.path()).is_err());
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend("skycache_1.0_a+2-1.efi\0".encode_utf16().flat_map(u16::to_le_bytes));
        std::fs::write(folder.path().join(SELECTED), bytes).unwrap();
        assert_eq!(selected_entry(folder.path()).unwrap(), "skycache_1.0_a+2-1.efi");
        std::fs::write(folder.path().join(SELECTED), [0, 0]).unwrap();
        assert_eq!(selected_entry(folder.path()).unwrap(), "");
        std::fs::write(folder.path().join("slot"), "b\n").unwrap();
        assert_eq!(running_slot(folder.path()).unwrap(), Slot::B);
    }

    #[test]
    fn serving_is_an_answer_and_not_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Wait\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 128];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert!(is_serving(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), at.port())));
        assert!(!is_serving(at));
        assert!(!is_serving(at));
        answers.join().unwrap();
        assert!(!is_serving(at), "nobody listens");
    }
}
