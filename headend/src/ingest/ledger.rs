//! Ledger of the files and bytes of one source, against its quota.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::IngestRefusal;
use crate::package::tree::{self, Folder};

#[derive(Debug, Default)]
struct FolderContent {
    /// By path below the source's folder.
    files: HashMap<String, u64>,
    bytes: u64,
    /// Uploads whose body has not ended, and their bytes so far.
    uploads: usize,
    upload_bytes: u64,
}

/// Files and bytes of a source.
#[derive(Debug)]
pub(crate) struct Ledger {
    have: Mutex<FolderContent>,
    max_files: usize,
    max_bytes: u64,
}

/// Reservation of an upload.
#[derive(Debug)]
pub(crate) struct UploadReservation<'a> {
    ledger: &'a Ledger,
    bytes: u64,
}

impl Ledger {
    /// The ledger of a folder's current content.
    pub(crate) fn of(root: &Path, max_files: usize, max_bytes: u64) -> io::Result<Self> {
        let (found, _) = tree::walk(Folder::root(root, &[])?, &mut Vec::new())?;
        let files: HashMap<String, u64> = found.into_iter().map(|(path, file)| (path, file.length)).collect();
        let have = FolderContent { bytes: files.values().sum(), files, ..FolderContent::default() };
        Ok(Self { have: Mutex::new(have), max_files, max_bytes })
    }

    /// Reserves a place for an upload. Replacing a file needs no further place.
    pub(crate) fn begin(&self, path: &str) -> Result<UploadReservation<'_>, IngestRefusal> {
        let mut have = self.have();
        if !have.files.contains_key(path) && have.files.len() + have.uploads >= self.max_files {
            return Err(IngestRefusal::Full);
        }
        have.uploads += 1;
        Ok(UploadReservation { ledger: self, bytes: 0 })
    }

    /// Paths of all files.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.have().files.keys().cloned().collect()
    }

    pub(crate) fn removed(&self, path: &str) {
        let mut have = self.have();
        let before = have.files.remove(path).unwrap_or(0);
        have.bytes -= before;
    }

    fn have(&self) -> MutexGuard<'_, FolderContent> {
        // Changes are additions of numbers, so a panic elsewhere leaves it consistent.
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadReservation<'_> {
    /// Bytes reserved so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves room for further bytes.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), IngestRefusal> {
        let mut have = self.ledger.have();
        if have.bytes + have.upload_bytes + bytes > self.ledger.max_bytes {
            return Err(IngestRefusal::Full);
        }
        have.upload_bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Resets the upload to its beginning.
    pub(crate) fn restart(&mut self) {
        self.ledger.have().upload_bytes -= self.bytes;
        self.bytes = 0;
    }

    /// Turns the upload into a file.
    pub(crate) fn stored(self, path: &str) {
        let mut have = self.ledger.have();
        let before = have.files.insert(path.to_owned(), self.bytes).unwrap_or(0);
        have.bytes = have.bytes + self.bytes - before;
    }
}

impl Drop for UploadReservation<'_> {
    fn drop(&mut self) {
        let mut have = self.ledger.have();
        have.uploads -= 1;
        have.upload_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_filled_to_its_last_byte_and_file_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old"), b"0123").unwrap();
        let ledger = Ledger::of(folder.path(), 2, 10).unwrap();
        let mut place = ledger.begin("new").unwrap();
        assert!(matches!(ledger.begin("more"), Err(IngestRefusal::Full)), "an upload is a file to come");
        place.take(6).unwrap();
        assert!(matches!(place.take(1), Err(IngestRefusal::Full)));
        assert_eq!(place.bytes(), 6, "what was refused is not counted");
        place.restart();
        place.take(5).unwrap();
        place.stored("new");
        assert!(matches!(ledger.begin("more"), Err(IngestRefusal::Full)));
        // The replaced file is there until its successor is complete.
        let mut place = ledger.begin("old").unwrap();
        place.take(1).unwrap();
        assert!(matches!(place.take(1), Err(IngestRefusal::Full)));
        drop(place);
        ledger.removed("old");
        let mut place = ledger.begin("more").unwrap();
        place.take(5).unwrap();
        assert!(matches!(place.take(1), Err(IngestRefusal::Full)));
    }
}
