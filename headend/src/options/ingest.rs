//! `[ingest]`: packagers that upload what is sent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

use super::Mistakes;

/// `[ingest]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Address and port at which packagers upload by HTTP PUT or POST, and remove by DELETE. The path of a request is the
    /// `name` of a source that has `ingest = true`, then the file below its folder.
    pub listen: SocketAddr,
    /// File with a token, which packagers send as `Authorization: Bearer TOKEN`. Needed unless `listen` is on loopback.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Bytes of one file.
    #[serde(default = "Ingest::default_file_bytes")]
    pub file_bytes: u64,
    /// Bytes of all files of one source.
    #[serde(default = "Ingest::default_source_bytes")]
    pub source_bytes: u64,
    /// Files of one source: packagers must remove those that leave the window.
    #[serde(default = "Ingest::default_source_files")]
    pub source_files: usize,
    /// Silence within a request after which it counts as broken off.
    #[serde(default = "Ingest::default_silence_ms")]
    pub silence_ms: u64,
}

impl Ingest {
    const fn default_file_bytes() -> u64 {
        64 << 20
    }

    const fn default_source_bytes() -> u64 {
        4 << 30
    }

    const fn default_source_files() -> usize {
        5000
    }

    const fn default_silence_ms() -> u64 {
        30_000
    }

    /// Relative paths begin at `folder`.
    pub(crate) fn complete(&mut self, folder: &Path) {
        if let Some(file) = self.token_file.as_mut().filter(|file| file.is_relative()) {
            *file = folder.join(&*file);
        }
    }

    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("ingest");
        if self.token_file.is_none() && !self.listen.ip().is_loopback() {
            let what = "uploads would need no credential".to_owned();
            mistakes.add("listen", what, "give token_file, or listen on 127.0.0.1");
        }
        let values = [
            ("file_bytes", self.file_bytes),
            ("source_bytes", self.source_bytes),
            ("source_files", self.source_files as u64),
            ("silence_ms", self.silence_ms),
        ];
        for (key, _) in values.iter().filter(|(_, value)| *value == 0) {
            mistakes.add(key, "must be greater than 0".to_owned(), "leave it out for the default");
        }
        mistakes.found
    }
}
