//! System calls of the whole program: mapping of recordings, the limit of open files, files that are rewritten and their
//! ownership, the machine's name.
#![allow(unsafe_code)] // a mapping, limits, credentials for files

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Raises the limit of open files as far as an unprivileged process may: each connection, each fetch and each mapped object
/// needs one, and the usual 1024 dates from `select`.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is ours, and the call fills it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the call only reads the struct. If it fails, the limit stays as it was.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Gives free pages of the heap back to the system. The C library of GNU keeps those below its last allocation in each arena, and there is an
/// arena for each thread: after a flood of untrusted sessions it kept 150 of 170 MB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim_heap() {
    // SAFETY: takes the allocator's own locks, and releases only pages that hold no allocation.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back what is free as it becomes so.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim_heap() {}

/// Asks a child to end as a service manager does, if it has not ended.
#[cfg(feature = "demo")]
pub(crate) fn terminate(child: &mut std::process::Child) {
    // The number of a reaped child may belong to another process by now.
    let is_running = matches!(child.try_wait(), Ok(None));
    if let Some(number) = libc::pid_t::try_from(child.id()).ok().filter(|_| is_running) {
        // SAFETY: sends a signal, and touches no memory. The child was not waited for, and is borrowed: the number is still its own.
        unsafe { libc::kill(number, libc::SIGTERM) };
    }
}

/// The machine's own name; empty if the system does not report it.
pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Replaces a file as a whole, and syncs it: after a power cut it has the old bytes or the new ones, and the new ones once
/// this has returned.
///
/// # Errors
/// Those of the system; what was written before stays.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map(File::open).transpose()?.map_or(Ok(()), |folder| folder.sync_all())
}

/// Maps a recording for reading.
///
/// # Errors
/// If the file is empty on some systems, is not a regular file, or address space is short (`mmap`).
pub(crate) fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: sound as long as no other process writes to the recording during the run; nothing here can enforce that. It is confined
    // to `replay` and transport streams from files, whose user names the file, and everything read is checked like input from outside.
    unsafe { memmap2::Mmap::map(file) }
}

/// Does `work` with the owner of a folder as the owner of new files, if we are root and the folder belongs to another user:
/// inspection by an operator must not leave files in the cache that the daemon's user may not touch.
pub fn as_owner_of<T>(folder: &Path, work: impl FnOnce() -> T) -> T {
    use std::os::unix::fs::MetadataExt as _;
    struct Root;
    impl Drop for Root {
        fn drop(&mut self) {
            // SAFETY: two system calls that change this thread's credentials for files, and no memory.
            unsafe {
                libc::setfsuid(0);
                libc::setfsgid(0);
            }
        }
    }
    // SAFETY: reads a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    let owner = std::fs::metadata(folder).ok().map(|it| (it.uid(), it.gid())).filter(|(uid, _)| *uid != 0);
    let _root = owner.filter(|_| is_root).map(|(uid, gid)| {
        // SAFETY: as above. Threads that `work` starts inherit them.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        Root
    });
    work()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn what_root_does_in_anothers_folder_is_the_others() {
        let folder = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(folder.path(), Some(65_534), Some(65_534)).is_err() {
            eprintln!("SKIPPED: not root, so no other user's folder can be made");
            return;
        }
        let make = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        super::as_owner_of(folder.path(), || make("theirs"));
        make("ours");
        let uid = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().uid();
        assert_eq!((uid("theirs"), uid("ours")), (65_534, 0));
    }
}
