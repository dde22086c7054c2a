//! Problems of one guide file: the first of each kind are listed, all are counted, since a grabber repeats a mistake for every entry.

use std::collections::BTreeMap;

use crate::package::Problem;

/// Problems of one kind that are listed, each with its place.
const LISTED_OF_A_KIND: u64 = 20;

/// Problems of one file.
pub(super) struct Problems {
    pub(super) file: String,
    list: Vec<Problem>,
    /// Number of each kind, by the fix.
    of_kind: BTreeMap<&'static str, u64>,
    /// Parts of the file that are left out because they cannot be read.
    pub(super) faults: u64,
}

impl Problems {
    pub(super) fn new(file: String) -> Self {
        Self { file, list: Vec::new(), of_kind: BTreeMap::new(), faults: 0 }
    }

    /// Reports a part that is left out because it cannot be read.
    pub(super) fn fault(
        &mut self,
        within: impl FnOnce() -> String,
        what: impl FnOnce() -> String,
        fix: &'static str,
    ) {
        self.faults += 1;
        self.report(within, what, fix);
    }

    /// Adds one more; `within` is the place in the file, empty for the file itself. Problems with one `fix` are of one kind.
    pub(super) fn report(
        &mut self,
        within: impl FnOnce() -> String,
        what: impl FnOnce() -> String,
        fix: &'static str,
    ) {
        let told = self.of_kind.entry(fix).or_default();
        *told += 1;
        if *told > LISTED_OF_A_KIND {
            return;
        }
        let within = within();
        let place = if within.is_empty() { self.file.clone() } else { format!("{}, {within}", self.file) };
        self.list.push(Problem { place, what: what(), fix });
    }

    /// All of them, with the numbers of those that are not listed.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (fix, told) in self.of_kind {
            if told > LISTED_OF_A_KIND {
                let what = format!("{} more of this kind", told - LISTED_OF_A_KIND);
                self.list.push(Problem { place: self.file.clone(), what, fix });
            }
        }
        self.list
    }
}

/// Text of the file in a message: short, and without anything that a terminal would obey.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
