//! Resolution of references to local names and files, with reports of faults.

use std::collections::BTreeSet;

use super::super::inventory::LeftOutReason as Reason;
use super::super::refer::{Local, ReferenceTarget};
use super::Reading;

impl Reading<'_> {
    pub(super) fn place(&mut self, place: &str, uri: &str) -> Option<Local> {
        let referred = self.resolver.place(uri.to_owned());
        self.local(place, uri, referred)
    }

    pub(super) fn resolve(&mut self, manifest: &str, line: usize, reference: &str) -> Option<Local> {
        let place = if line > 0 { format!("{manifest}:{line}") } else { manifest.to_owned() };
        if reference.split(['?', '#']).next().is_some_and(|path| path.contains('\\')) {
            let what = format!("{reference:?} has a backslash, which players read differently");
            self.problem(&place, what, "URIs have slashes: write `/`");
        }
        if self.is_own_path(reference) {
            self.own_path(&place, reference);
            return None;
        }
        let referred = self.resolver.resolve(manifest, reference);
        let is_here = matches!(&referred, ReferenceTarget::Local(local) if local.file.is_some());
        if is_here && self.options.base.is_empty() && reference.starts_with('/') {
            let what = "it has paths from the server's root, and the folder's URL is not known".to_owned();
            self.problem(manifest, what, "say it with --base, or with `base` of the source");
        } else if is_here && is_absolute(reference) {
            self.count_absolute(manifest, reference);
        }
        self.local(&place, reference, referred)
    }

    /// Notes a BaseURL with a whole URL, or with a path from the server's root, which is a folder of the source.
    pub(super) fn note_absolute_base(&mut self, manifest: &str, reference: &str) {
        if is_absolute(reference)
            && matches!(self.resolver.resolve(manifest, reference), ReferenceTarget::Local(_))
        {
            self.count_absolute(manifest, reference);
        }
    }

    /// Counts a reference by a whole URL, or by a path from the server's root, to what is carried.
    fn count_absolute(&mut self, manifest: &str, reference: &str) {
        let noted = self.absolute.entry(manifest.to_owned());
        noted.or_insert_with(|| (reference.trim().to_owned(), 0)).1 += 1;
    }

    /// Reports manifests with such references.
    pub(super) fn settle_absolute(&mut self) {
        for (manifest, (first, count)) in std::mem::take(&mut self.absolute) {
            let more = match count {
                1 => String::new(),
                count => format!(" ({count} such references)"),
            };
            let what = format!(
                "{first} is not a relative reference{more}: boxes pass manifests on as they are, and players ask another server for it"
            );
            let fix = "write names relative to the manifest, or give the boxes a [[route]] with rewrite = true and this base";
            self.problem(&manifest, what, fix);
        }
    }

    /// The local name of a reference; other references are reported.
    pub(super) fn local(&mut self, place: &str, reference: &str, referred: ReferenceTarget) -> Option<Local> {
        match referred {
            ReferenceTarget::Local(local) => {
                self.note_query(place, &local);
                Some(local)
            }
            ReferenceTarget::Opaque => {
                self.opaque(place, reference);
                None
            }
            ReferenceTarget::Remote(uri) => {
                let is_relative = reference.starts_with("..") || reference.starts_with('/');
                if let Some(base) = self.resolver.base_for(&uri) {
                    let what = format!(
                        "{reference} is a file here if the folder's URL is {base}, not {}",
                        self.options.base
                    );
                    self.problem(place, what, "set `base` of the source, or --base of `scan`, to that URL");
                } else if is_relative {
                    let what = format!(
                        "{reference} leaves the source's folder and is not carried: players ask for {uri}"
                    );
                    self.problem(place, what, "players get it from there");
                } else {
                    let what = format!("{reference} lies elsewhere and is not carried");
                    self.problem(place, what, "players get it from there");
                }
                self.leave_out(Reason::Elsewhere, place, reference, 1);
                None
            }
            ReferenceTarget::Bad(err) => {
                self.problem(place, format!("{reference:?} is not a URI: {err}"), "rename the file");
                self.leave_out(Reason::BadName, place, reference, 1);
                None
            }
        }
    }

    /// Handles a reference that is not a web resource: local files are reported; `data:`, `skd:` and similar are
    /// legitimate.
    fn opaque(&mut self, place: &str, reference: &str) {
        let Some((scheme, _)) = reference.trim().split_once(':') else { return };
        let is_drive = scheme.len() == 1;
        if !is_drive && !scheme.eq_ignore_ascii_case("file") {
            return;
        }
        let what = format!("{reference} is a path of the packager's machine: players cannot ask for it");
        self.problem(place, what, "write names relative to the manifest");
        self.leave_out(Reason::Missing, place, reference, 1);
    }

    /// Whether a reference is the path of a source file on this machine.
    fn is_own_path(&self, reference: &str) -> bool {
        if !reference.starts_with('/') {
            return false;
        }
        let root = self.own_root.get_or_init(|| std::fs::canonicalize(&self.inventory.root).ok());
        root.as_ref().is_some_and(|root| {
            let below = std::path::Path::new(reference).strip_prefix(root);
            below.is_ok_and(|below| self.files.contains_key(&*below.to_string_lossy()))
        })
    }

    fn own_path(&mut self, place: &str, reference: &str) {
        let base = self.resolver.uri_of("");
        let host = base.split('/').nth(2).filter(|_| !self.options.base.is_empty()).unwrap_or("the origin");
        let what = format!(
            "{reference} is a path of the packager's machine: players ask for https://{host}{reference}"
        );
        self.problem(place, what, "write names relative to the manifest");
        self.leave_out(Reason::Missing, place, reference, 1);
    }

    /// Records the query parameters of a name. A parameter with several values for one path of a manifest selects content.
    pub(super) fn note_query(&mut self, place: &str, local: &Local) {
        if local.query.is_empty() || self.options.ignored_query.is_some() {
            return;
        }
        let path = local.path.split('?').next().unwrap_or_default();
        let names = || carousel::query::names(&local.query).map(str::to_owned);
        self.query_names.extend(names());
        let queried = self.queried.entry(path.to_owned()).or_default();
        if queried.place.is_empty() {
            (queried.place, queried.file) = (place.to_owned(), local.file.clone());
        }
        queried.names.extend(names());
        let Some(before) = self.queries.insert(path.to_owned(), local.query.clone()) else { return };
        if before == local.query {
            return;
        }
        let values: BTreeSet<&str> = before.split('&').collect();
        let others = local.query.split('&').filter(|pair| !values.contains(pair));
        let names: Vec<String> =
            others.map(|pair| pair.split('=').next().unwrap_or(pair).to_owned()).collect();
        let what =
            format!("{path} is named with several values of {}, and is one file here", names.join(", "));
        self.problem(
            place,
            what,
            "set ignore_query of the source if it is the same file, or write the files",
        );
        self.leave_out(Reason::QuerySelects, place, path, 1);
        self.selected.insert(path.to_owned());
        self.reported_files.extend(local.file.clone());
        self.selecting.extend(names);
    }
}

/// Whether a reference is a whole URL, or a path from the server's root.
fn is_absolute(reference: &str) -> bool {
    let reference = reference.trim();
    let begins =
        |scheme: &str| reference.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    reference.starts_with('/') || begins("http://") || begins("https://")
}
