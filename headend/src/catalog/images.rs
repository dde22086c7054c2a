//! Pictures of the catalogue: files, which are carried with it, and URLs, which are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carousel::dvbi::Image;

use crate::options::catalog::is_url;
use crate::package::Problem;

carousel::limits! {
    /// One picture of the catalogue.
    const MAX_IMAGE_BYTES: u64 = 1 << 20, "bytes" {
        why: "Logos have some kilobytes; they are repeated with the catalogue.",
        full: "The picture is left out and reported.",
        free: "At once: the file is examined again with the next catalogue.",
        test: "a_picture_that_is_too_large_is_left_out_until_it_is_made_smaller",
    }
}

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

    /// Reference of documents to a picture; `None` if there is none.
    pub(super) fn image(&mut self, picture: &str) -> Option<Image> {
        let name = Path::new(picture.split(['?', '#']).next().unwrap_or_default());
        let extension = name.extension().map(|it| it.to_string_lossy().to_ascii_lowercase());
        let content_type = match extension.as_deref() {
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("webp") => "image/webp",
            _ => {
                self.problem(picture, "is not a picture that televisions know", "give a PNG, JPEG or WebP");
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
                self.problem(picture, &carousel::config::plain(&err), "the catalogue goes out without it");
                return None;
            }
        }
        let uri = self.uri(name)?;
        self.files.insert(uri.clone(), (name.to_owned(), content_type));
        Some(Image { uri, content_type: content_type.to_owned() })
    }

    fn problem(&mut self, picture: &str, what: &str, fix: &'static str) {
        self.problems.push(Problem { place: picture.to_owned(), what: what.to_owned(), fix });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_is_too_large_is_left_out_until_it_is_made_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logo.png");
        let picture = path.to_string_lossy().into_owned();
        let image = |bytes: u64| {
            std::fs::write(&path, vec![1; bytes as usize]).unwrap();
            let mut images = Images::new("https://own.example.com/");
            (images.image(&picture).map(|it| it.uri), images.files.len(), images.problems)
        };
        let (uri, files, problems) = image(MAX_IMAGE_BYTES + 1);
        assert_eq!((uri, files, problems.len()), (None, 0, 1));
        assert_eq!(
            (problems[0].place.as_str(), problems[0].what.as_str()),
            (picture.as_str(), "has 1048577 bytes")
        );
        let (uri, files, problems) = image(MAX_IMAGE_BYTES);
        assert_eq!(uri.as_deref(), Some("https://own.example.com/images/logo.png"));
        assert_eq!((files, problems.len()), (1, 0));
    }

    #[test]
    fn files_of_one_name_in_two_folders_have_a_url_each() {
        let folder = tempfile::tempdir().unwrap();
        let mut images = Images::new("https://own.example.com/");
        let mut uris = Vec::new();
        for name in ["a", "b", "a"] {
            let path = folder.path().join(name).join("lo go.png");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"x").unwrap();
            uris.push(images.image(&path.to_string_lossy()).unwrap().uri);
        }
        let [one, two] =
            ["images/lo_go.png", "images/1-lo_go.png"].map(|it| format!("https://own.example.com/{it}"));
        assert_eq!(uris, [one.clone(), two, one]);
        assert!(
            images.image("https://else.example.com/x.png?v=1").is_some()
                && images.image("logo.gif").is_none()
        );
        assert_eq!((images.files.len(), images.problems.len()), (2, 1));
    }
}
