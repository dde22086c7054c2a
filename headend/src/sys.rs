//! System calls without a safe wrapper: two socket options, the timer slack of a thread, the time since the boot, mapping a file, and opening
//! files of a source.
#![allow(unsafe_code)] // five calls; each SAFETY comment says what makes it sound

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use socket2::Socket;

/// Chooses the interface that IPv4 multicast leaves by, by index.
///
/// # Errors
/// If the interface does not exist (`setsockopt`, `IP_MULTICAST_IF`).
pub(crate) fn set_multicast_if_index_v4(socket: &Socket, index: u32) -> io::Result<()> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel reads exactly
    // `size_of::<ip_mreqn>()` bytes of `request`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            std::ptr::from_ref(&request).cast(),
            size_of::<libc::ip_mreqn>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel splits buffers into datagrams (`UDP_SEGMENT`, Linux 4.18). One that does not know it ignores the control message, and
/// would send the whole buffer as one.
pub(crate) fn splits_datagrams(socket: &Socket) -> bool {
    let (mut segment, mut length) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel writes `length` bytes at most to `segment`, and the length
    // to `length`, both of which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut segment).cast(),
            &raw mut length,
        )
    };
    result == 0
}

/// Lets sleeps of this thread end when they are to end, instead of up to 50 us later (prctl(2), `PR_SET_TIMERSLACK`). Where the kernel refuses,
/// they end as before.
pub(crate) fn sleep_exactly() {
    let slack_ns: libc::c_ulong = 1;
    // SAFETY: this operation takes an integer and touches no memory of the process.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns) };
}

/// Whether this process ignores a signal, as one that nohup(1) started ignores SIGHUP (proc(5), `SigIgn`).
pub(crate) fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored_in(signal, &status))
}

fn is_ignored_in(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Nanoseconds since the boot, those in which the machine was suspended included.
pub(crate) fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which is there and not borrowed elsewhere.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(result, 0, "Linux has this clock since 2.6.39");
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Maps a recording for reading. A recording that another program cuts short while it is read ends this one
/// (SIGBUS); the file's owner is who runs `inspect`.
///
/// # Errors
/// If it is not a regular file, or address space is short (`mmap`).
pub(crate) fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: sound as long as no other process writes to the recording during the run; nothing here can enforce that. It is confined
    // to `inspect`, whose user names the file, and everything read is checked like input from outside.
    unsafe { memmap2::Mmap::map(file) }
}

/// Opens a file of a source by the path that the walk has found, which has no symbolic links: one that has become one since
/// leads elsewhere, and is refused. So is what is not a regular file; nothing is waited for, as opening a FIFO would.
///
/// # Errors
/// Those of the system; `InvalidInput` for what is not a regular file.
pub(crate) fn open_source_file(path: &Path) -> io::Result<File> {
    // O_NONBLOCK changes nothing for a regular file.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = match open_without_links(path, flags) {
        // Before Linux 5.6, and where a seccomp filter does not know it.
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            open_after_look(path, flags)?
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// The bytes of a file of a source, up to one more than `most`.
///
/// # Errors
/// As [`open_source_file`].
pub(crate) fn read_source_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_source_file(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_without_links(path: &Path, flags: i32) -> io::Result<File> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero bytes are a valid `open_how`, a struct of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from(flags.unsigned_abs());
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: `name` ends in NUL and `how` is as long as is said; both outlive the call, which only reads them.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    match i32::try_from(opened) {
        // SAFETY: the kernel has just opened this descriptor for us, and it is used nowhere else.
        Ok(number @ 0..) => Ok(File::from(unsafe { OwnedFd::from_raw_fd(number) })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The same in two steps: a folder that is replaced by a link between them is not noticed.
fn open_after_look(path: &Path, flags: i32) -> io::Result<File> {
    for part in path.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty()) {
        if std::fs::symlink_metadata(part)?.is_symlink() {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
    }
    OpenOptions::new().read(true).custom_flags(flags | libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_ignored_signal_is_known_by_its_bit() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000180004002\n";
        let ignored = |signal| is_ignored_in(signal, status);
        assert!(ignored(libc::SIGHUP) && ignored(libc::SIGPIPE) && !ignored(libc::SIGINT));
        // The runtime of Rust ignores SIGPIPE.
        assert!(is_ignored(libc::SIGPIPE) && !is_ignored(libc::SIGTERM));
    }

    #[test]
    fn only_regular_files_without_links_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), "x").unwrap();
        symlink(root.join("d"), root.join("to-d")).unwrap();
        symlink(root.join("d/f"), root.join("to-f")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
        assert!(made.success());
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        for open in [open_source_file, |path: &Path| open_after_look(path, libc::O_NONBLOCK)] {
            assert!(open(&root.join("d/f")).is_ok());
            for (name, code) in [("to-f", libc::ELOOP), ("to-d/f", libc::ELOOP), ("none", libc::ENOENT)] {
                assert_eq!(open(&root.join(name)).unwrap_err().raw_os_error(), Some(code), "{name}");
            }
        }
        assert!(open_without_links(&root.join("d/f"), flags).is_ok());
        for name in ["fifo", "d"] {
            let err = open_source_file(&root.join(name)).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(open_source_file(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
