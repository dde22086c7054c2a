//! Pictures that the catalogue names: files that are carried with it, and URLs that are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carousel::dvbi::Image;

use crate::options::catalog::is_url;
use crate::package::Problem;

/// Bytes of a picture. Logos have some kilobytes; they come round with the catalogue.
const MAX_IMAGE_BYTES: u64 = 1 << 20;

/// The pictures of a catalogue.
#[derive(Debug)]
pub(super) struct Images {
    base: String,
    /// Files by their URL.
    pub(super) files: BTreeMap<String, (PathBuf, &'static str)>,
    /// Pictures that are left out.
    pub(super) problems: Vec<Problem>,
}

impl Images {
    /// Files get URLs below `base`.
    pub(super) fn new(base: &str) -> Self {
        Self { base: format!("{base}images/"), files: BTreeMap::new(), problems: Vec::new() }
    }

    /// How documents name a picture; `None` if there is none.
    pub(super) fn image(&mut self, picture: &str) -> Option<Image> {
        let name = Path::new(picture.split(['?', '#']).next().unwrap_or_default());
        let extension = name.extension().map(|it| it.to_string_lossy().to_ascii_lowercase());
        let content_type = match extension.as_deref() {
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("webp") => "image/webp",
            _ => {
                self.problem(picture, "is no picture that televisions know", "give a PNG, JPEG or WebP");
                return None;
            }
        };
        if is_url(picture) {
            return Some(Image { uri: picture.to_owned(), content_type: content_type.to_owned() });
        }
        match std::fs::metadata(name) {
            Ok(metadata) if metadata.len() <= MAX_IMAGE_BYTES => {}
            Ok(metadata) => {
                let why = format!("has {} bytes", metadata.len());
                self.problem(picture, &why, "a logo has 1 MiB at most; make it smaller");
                return None;
            }
            Err(err) => {
                self.problem(picture, &err.to_string(), "the catalogue goes out without it");
                return None;
            }
        }
        let uri = self.uri(name)?;
        self.files.insert(uri.clone(), (name.to_owned(), content_type));
        Some(Image { uri, content_type: content_type.to_owned() })
    }

    fn problem(&mut self, picture: &str, what: &str, mend: &'static str) {
        self.problems.push(Problem { place: picture.to_owned(), what: what.to_owned(), mend });
    }

    /// A URL of its own for each file, also where two in different folders have one name.
    fn uri(&self, path: &Path) -> Option<String> {
        let name = path.file_name()?.to_string_lossy();
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = name.chars().map(safe).collect();
        let numbered = (0..).map(|at| match at {
            0 => format!("{}{name}", self.base),
            at => format!("{}{at}-{name}", self.base),
        });
        numbered.into_iter().find(|uri| self.files.get(uri).is_none_or(|(other, _)| other == path))
    }
}
