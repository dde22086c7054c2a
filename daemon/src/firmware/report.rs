//! Report of the slots for the daemon, and the counters behind it.
//!
//! The daemon has no rights on the EFI partition. Root's commands, which have them, write a document to `/run/firmware`, which
//! the admin interface and the metrics read. Counters are in a file of the configuration partition, so that both slots continue
//! them.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bundle::Refusal;
use crate::sys;

/// Name of the document.
const REPORT: &str = "status.json";

carousel::limits! {
    /// Document or file of counters of the firmware.
    const MAX_BYTES: u64 = 64 * 1024, "bytes" {
        why: "A report has a few hundred for each image.",
        full: "The file counts as absent.",
        free: "When the file is rewritten.",
        test: "a_report_is_read_as_it_was_left_and_not_without_bound",
    }
}

/// Bundles by result, over the life of the box.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// Slots that were written and armed.
    #[serde(default)]
    pub(super) installed: u64,
    /// By [`Refusal`]'s label.
    #[serde(default)]
    pub(super) refused: BTreeMap<String, u64>,
}

impl Counters {
    /// All 0 if there is no readable file: counting must not prevent an update.
    pub(super) fn load(path: &Path) -> Self {
        bounded(path).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn total_refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// Counts one bundle: why it was refused, or that it was installed.
pub(super) fn count(path: &Path, refusal: Option<Refusal>) {
    let mut counters = Counters::load(path);
    match refusal {
        Some(reason) => *counters.refused.entry(reason.as_str().to_owned()).or_default() += 1,
        None => counters.installed += 1,
    }
    let written =
        serde_json::to_vec(&counters).map_err(io::Error::from).and_then(|it| sys::replace(path, &it));
    if let Err(err) = written {
        tracing::warn!("{}: {err}; the bundle is not counted", path.display());
    }
}

/// Writes the document to `run`.
pub(super) fn leave(run: &Path, report: &Value) -> io::Result<()> {
    sys::replace(&run.join(REPORT), report.to_string().as_bytes())
}

/// The document that the last `skycached firmware …` of root has written; `None` if this is not an appliance.
#[must_use]
pub fn report(run: &Path) -> Option<Value> {
    serde_json::from_slice(&bounded(&run.join(REPORT))?).ok()
}

pub(super) fn bounded(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_counted_by_reason_and_damage_of_the_file_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firmware.json");
        count(&path, Some(Refusal::Signature));
        count(&path, Some(Refusal::Signature));
        count(&path, Some(Refusal::Downgrade));
        count(&path, None);
        let counters = Counters::load(&path);
        assert_eq!((counters.installed, counters.total_refused()), (1, 3));
        assert_eq!(counters.refused["signature"], 2);
        std::fs::write(&path, "{").unwrap();
        count(&path, None);
        assert_eq!(Counters::load(&path), Counters { installed: 1, ..Counters::default() });
        count(&folder.path().join("missing/firmware.json"), None);
    }

    #[test]
    fn a_report_is_read_as_it_was_left_and_not_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(report(folder.path()), None, "no appliance");
        let value = serde_json::json!({ "schema": 1, "running": "a" });
        leave(folder.path(), &value).unwrap();
        assert_eq!(report(folder.path()), Some(value));
        std::fs::write(folder.path().join(REPORT), vec![b' '; 70_000]).unwrap();
        assert_eq!(report(folder.path()), None, "too long");
    }
}
