//! Files of the store: unnamed until published, then linked into place.
#![allow(unsafe_code)] // fallocate, linkat, statvfs, flock, syncfs, memfd_create: plain calls on descriptors and C strings that we own

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Deref;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use carousel::digest::Digest;

/// Folder below the store's that holds objects.
pub(super) const OBJECTS: &str = "objects";
/// Digits of an object's name.
pub(super) const NAME_DIGITS: usize = 44;
/// Suffix of files that are being linked; left behind only by a crash between two steps.
pub(super) const LINKING: &str = ".linking";

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Appends lines to a list that survives a power cut, whose first line is `head`; `is_new`: there is none yet. Returns the bytes
/// written, with a line feed before the lines: the last one of the list may be torn.
pub(super) fn append_lines(path: &Path, head: &str, is_new: bool, lines: &str) -> io::Result<u64> {
    let text = if is_new { format!("{head}\n{lines}") } else { format!("\n{lines}") };
    let mut list = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    list.write_all(text.as_bytes())?;
    list.sync_data()?;
    if let Some(folder) = path.parent().filter(|_| is_new) {
        // The file's name must survive as well.
        File::open(folder)?.sync_all()?;
    }
    Ok(text.len() as u64)
}

/// Creates the folders and takes the lock; `None` if another process holds it.
pub(super) fn lock_folder(folder: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(folder.join(OBJECTS))?;
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"))?;
    // SAFETY: the descriptor is open for the length of the call.
    match done(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(()) => Ok(Some(lock)),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(err) => Err(err),
    }
}

/// Whether another process has the lock of a folder. A folder without a lock has no owner.
pub(super) fn is_locked(folder: &Path) -> io::Result<bool> {
    fs::read_dir(folder)?;
    let lock = match File::open(folder.join("lock")) {
        Ok(lock) => lock,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(err) => return Err(err),
    };
    // SAFETY: the descriptor is open for the length of the call.
    match done(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) }) {
        Ok(()) => Ok(false),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(err) => Err(err),
    }
}

/// Path of the file of object `key`: two levels of 256 folders by hash, so that no folder grows large.
pub(super) fn object_path(folder: &Path, key: &str) -> PathBuf {
    path_of_name(folder, &object_name(key))
}

/// The name of the file of `key`: 44 hexadecimal digits.
pub(super) fn object_name(key: &str) -> String {
    let mut name = Digest::of(key.as_bytes()).to_hex();
    name.truncate(NAME_DIGITS);
    name
}

/// Path of the file of this name. The name has all its digits.
pub(super) fn path_of_name(folder: &Path, name: &str) -> PathBuf {
    folder.join(OBJECTS).join(&name[..2]).join(&name[2..4]).join(&name[4..])
}

/// Writes everything of the folder's file system that is not written yet, names included.
pub(super) fn sync_all(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    // SAFETY: the descriptor is open for the length of the call.
    done(unsafe { libc::syncfs(folder.as_raw_fd()) })
}

/// A file that has no name until it is linked, and is gone with this value if it is not.
#[derive(Debug)]
pub(super) struct UnnamedFile {
    file: File,
    /// Its name where the file system has no unnamed files.
    name: Option<PathBuf>,
}

impl From<File> for UnnamedFile {
    fn from(file: File) -> Self {
        Self { file, name: None }
    }
}

impl Deref for UnnamedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        // A linked one has the other name alone. Numbers are not used again.
        if let Some(name) = &self.name {
            remove(name);
        }
    }
}

/// Creates an unnamed file.
pub(super) fn anonymous(folder: &Path) -> io::Result<UnnamedFile> {
    let open = |flags, path: &Path| {
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(path)
    };
    match open(libc::O_TMPFILE, &folder.join(OBJECTS)) {
        Err(err) if matches!(err.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {
            named(folder)
        }
        result => result.map(Into::into),
    }
}

/// As [`anonymous`], on file systems without O_TMPFILE (some overlays, NFS): with a name that is removed, after a crash by recovery.
fn named(folder: &Path) -> io::Result<UnnamedFile> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}-{}{LINKING}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let name = folder.join(OBJECTS).join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
    Ok(UnnamedFile { file, name: Some(name) })
}

/// An unnamed file on the disk that is created when it is first needed.
#[derive(Debug)]
pub(super) struct LateFile {
    folder: PathBuf,
    file: OnceLock<UnnamedFile>,
}

impl LateFile {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, file: OnceLock::new() }
    }

    /// A file that exists.
    pub(super) fn of(file: UnnamedFile) -> Self {
        Self { folder: PathBuf::new(), file: OnceLock::from(file) }
    }

    pub(super) fn exists(&self) -> bool {
        self.file.get().is_some()
    }

    /// Creates it if necessary.
    pub(super) fn get(&self) -> io::Result<&UnnamedFile> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let new = anonymous(&self.folder)?;
        // Another thread may have been faster: the file of the one that was is everybody's.
        Ok(self.file.get_or_init(|| new))
    }
}

/// Creates a file in memory; unwritten pages take no memory.
pub(super) fn in_memory() -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated constant.
    let fd = unsafe { libc::memfd_create(c"skycache".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and has no other owner.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Allocates the file's blocks, so that a full disk is reported now and not as SIGBUS under a mapping.
pub(super) fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the descriptor is open for the length of the call.
    match done(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) }) {
        Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(bytes),
        result => result,
    }
}

/// Links an unnamed file under a name, atomically replacing an existing file.
pub(super) fn link(file: &UnnamedFile, path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Some(name) = &file.name {
        return rename(name, path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut linking = path.to_owned().into_os_string();
    linking.push(format!(".{}{LINKING}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let linking = PathBuf::from(linking);
    let _ = fs::remove_file(&linking);
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    let to = c_path(&linking)?;
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let result = done(unsafe {
        libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    });
    result?;
    fs::rename(&linking, path).inspect_err(|_| {
        let _ = fs::remove_file(&linking);
    })
}

/// Renames a file, atomically replacing an existing one.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(from, to)
}

/// Removes an object's file; succeeds if it does not exist.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Files below a folder.
pub(super) fn count_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count_below(&entry.path()),
        _ => 1,
    };
    entries.flatten().map(below).sum()
}

/// Bytes free on the file system for this user. It is asked as objects arrive: a usual path is copied to the stack.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let name = folder.as_os_str().as_bytes();
    let (mut short, long) = ([0; 256], if name.len() < 256 { None } else { Some(c_path(folder)?) });
    let path = match &long {
        Some(path) => path.as_c_str(),
        None => {
            short[..name.len()].copy_from_slice(name);
            CStr::from_bytes_with_nul(&short[..=name.len()]).map_err(|_| io::ErrorKind::InvalidInput)?
        }
    };
    // SAFETY: all-zero is a valid statvfs, which the call then fills.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the string is NUL-terminated, the struct is writable, both outlive the call.
    done(unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) })?;
    // The fields' widths differ between targets.
    #[allow(clippy::unnecessary_cast)]
    Ok((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn files_that_need_a_name_from_the_start_have_one_name_once_linked_and_none_if_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(OBJECTS)).unwrap();
        let path = object_path(folder.path(), "h/a");
        for body in [b"first", b"other"] {
            let file = named(folder.path()).unwrap();
            file.deref().write_all(body).unwrap();
            assert_eq!(count_below(&folder.path().join(OBJECTS)), if body == b"first" { 1 } else { 2 });
            link(&file, &path).unwrap();
            drop(file);
            assert_eq!(count_below(&folder.path().join(OBJECTS)), 1);
            assert_eq!(fs::read(&path).unwrap(), body);
        }
        drop(named(folder.path()).unwrap());
        assert_eq!(count_below(&folder.path().join(OBJECTS)), 1, "what is given up");
        let late = LateFile::of(named(folder.path()).unwrap());
        assert!(late.get().is_ok());
        drop(late);
        assert_eq!(count_below(&folder.path().join(OBJECTS)), 1);
        remove(&path);
        assert_eq!(count_below(&folder.path().join(OBJECTS)), 0, "the bytes are free");
    }
}
