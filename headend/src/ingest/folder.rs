//! Folder of a source that is filled by uploads or by pulling.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use carousel::config::without_numbers;

use super::ledger::Ledger;

/// The folder, and the ledger of its files.
#[derive(Debug)]
pub(crate) struct FilledFolder {
    /// Canonical path.
    pub(crate) root: PathBuf,
    pub(crate) ledger: Ledger,
}

impl FilledFolder {
    /// Creates the folder if necessary, and counts its files.
    ///
    /// # Errors
    /// One line: a folder that cannot be created or read.
    pub(crate) fn open(path: &Path, max_files: usize, max_bytes: u64) -> Result<Self, String> {
        let failed = |err: io::Error| format!("{}: {}", path.display(), without_numbers(&err));
        fs::create_dir_all(path).map_err(failed)?;
        let root = path.canonicalize().map_err(failed)?;
        let ledger = Ledger::of(&root, max_files, max_bytes).map_err(failed)?;
        Ok(Self { root, ledger })
    }

    /// Creates the folder of a file; `None` if a link leads out of the source's folder.
    pub(crate) fn folder_for<'a>(&self, file: &'a Path) -> io::Result<Option<&'a Path>> {
        let Some(folder) = file.parent() else { return Ok(None) };
        fs::create_dir_all(folder)?;
        Ok(Some(folder).filter(|it| self.holds(it)))
    }

    /// Whether a folder is inside the source's, following links.
    pub(crate) fn holds(&self, folder: &Path) -> bool {
        folder.canonicalize().is_ok_and(|it| it.starts_with(&self.root))
    }
}
