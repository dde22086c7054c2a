//! A file of transport stream packets.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// Writes payloads to a file.
#[derive(Debug)]
pub struct FileSink(BufWriter<File>);

impl FileSink {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::with_capacity(1 << 20, File::create(path)?)))
    }

    /// Writes one payload.
    ///
    /// # Errors
    /// If writing fails, such as on a full disk.
    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.0.write_all(payload)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// As for [`FileSink::send`].
    pub fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
