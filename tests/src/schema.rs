//! Schema validation of DVB-I documents by `xmllint`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{find, have};

/// Folder of the schemas; `None` where it or `xmllint` is absent, which is reported as a skipped test.
pub fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/schemas/dvb-i/xsd");
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is absent", folder.display());
        return None;
    }
    have("xmllint").then_some(folder)
}

/// Complaint of `xmllint` about a schema, if any.
///
/// # Panics
/// For systems where [`folder`] gives none.
pub fn complaints(schema: &Path, document: &Path) -> Option<String> {
    let xmllint = find("xmllint").expect("asked for before");
    let output = Command::new(xmllint)
        .args(["--nonet", "--noout", "--schema"])
        .args([schema, document])
        .output()
        .expect("xmllint runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|line| !line.contains("parser warning"));
    (!output.status.success()).then(|| said.take(3).collect::<Vec<_>>().join("\n"))
}
