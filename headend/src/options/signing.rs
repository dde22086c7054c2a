//! `[signing]`: the keys that sign what is sent.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `[signing]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// Folder that `headend keygen --out` has made, relative to the configuration. Of its online keys the newest that is valid
    /// signs; the root key is better kept elsewhere.
    pub keys: PathBuf,
    /// Folder of the commands to receivers that are in force, which `headend command` writes. Left out: `commands` in `keys`.
    #[serde(default)]
    pub commands: Option<PathBuf>,
}

impl Signing {
    pub(crate) fn settle(&mut self, folder: &Path) {
        self.keys = folder.join(&self.keys);
        self.commands = self.commands.as_ref().map(|commands| folder.join(commands));
    }
}
