//! Pages of a bucket's list (ListObjectsV2), and the place that a key has in the folder of its source.

use carousel::xml;
use percent_encoding::percent_decode_str;

use super::super::stats::{Failed, PullFailure};
use crate::ingest::is_plain_path;
use crate::package::tree::is_temporary;

carousel::reasons! {
    /// Why a key of a bucket is left out.
    pub enum KeyLeftOut {
        /// It ends with a slash: a folder, as consoles write them.
        Folder = "folder",
        /// It begins with a slash, or has `..`, an empty name, a backslash or a control character.
        Unsafe = "unsafe",
        /// A name of more than 255 bytes, more than 512 bytes, or more than 8 folders.
        TooLong = "too_long",
        /// The name of a hidden or temporary file.
        Hidden = "hidden",
        /// It is in an archive (Glacier), and can be read only after it has been restored.
        Archived = "archived",
    }
}

/// Bytes that file systems take for a name.
const NAME_BYTES: usize = 255;

/// An object of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Listed {
    pub(in super::super) key: String,
    /// Version: the ETag, or size and time where the store lists none.
    pub(in super::super) version: String,
    pub(in super::super) bytes: Option<u64>,
    /// It can be read only after it has been restored.
    pub(in super::super) is_archived: bool,
}

impl Listed {
    /// Its path below the source's folder.
    pub(in super::super) fn place(&self, prefix: &str) -> Result<&str, KeyLeftOut> {
        place(self.key.get(prefix.len()..).unwrap_or_default())
    }
}

/// Begin of the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Next {
    /// As the store says.
    Token(String),
    /// The last key of the page before, where it says nothing.
    After(String),
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Page {
    pub(in super::super) objects: Vec<Listed>,
    pub(in super::super) next: Option<Next>,
}

/// Reads a page. Ignores keys that do not begin with `prefix`, since they were not requested.
pub(super) fn page(bytes: &[u8], prefix: &str) -> Result<Page, Failed> {
    let refused = |why: String| Failed::new(PullFailure::Listing, why);
    let root = xml::parse(bytes).map_err(|err| refused(err.to_string()))?;
    if root.name != "ListBucketResult" {
        return Err(refused(format!("a document <{}>: is the endpoint that of a store?", root.name)));
    }
    let is_encoded = root.child_text("EncodingType").is_some_and(|it| it.eq_ignore_ascii_case("url"));
    let mut objects = Vec::new();
    let mut last = None;
    for content in root.all("Contents") {
        let Some(raw) = content.child_text("Key") else { continue };
        let key = if is_encoded { decoded(raw) } else { raw.to_owned() };
        last = Some(key.clone());
        if !key.starts_with(prefix) {
            continue;
        }
        let text = |name: &str| content.child_text(name).unwrap_or_default();
        let etag = bare(text("ETag"));
        let (size, time) = (text("Size"), text("LastModified"));
        let version = if etag.is_empty() { format!("{size} {time}") } else { etag.to_owned() };
        let is_restored = content
            .find("RestoreStatus")
            .is_some_and(|it| it.child_text("IsRestoreInProgress") == Some("false"));
        let is_archived = matches!(text("StorageClass"), "GLACIER" | "DEEP_ARCHIVE") && !is_restored;
        objects.push(Listed { version, bytes: size.parse().ok(), is_archived, key });
    }
    let token = root.child_text("NextContinuationToken").filter(|it| !it.is_empty());
    let next = match root.child_text("IsTruncated") {
        Some("true") => match token {
            Some(token) => Some(Next::Token(token.to_owned())),
            None => {
                Some(Next::After(last.ok_or_else(|| refused("a page without keys or token".to_owned()))?))
            }
        },
        _ => None,
    };
    Ok(Page { objects, next })
}

/// Decodes a key of a list that is encoded without a request for it: as forms are, with `+` for a blank. A key that is not
/// UTF-8 is not changed: no request finds it, and it is reported.
fn decoded(raw: &str) -> String {
    let raw = raw.replace('+', " ");
    match percent_decode_str(&raw).decode_utf8() {
        Ok(key) => key.into_owned(),
        Err(_) => raw,
    }
}

/// An ETag without its quotes and `W/`: lists and responses write it differently.
pub(in super::super) fn bare(etag: &str) -> &str {
    let etag = etag.trim();
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    etag.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(etag)
}

/// Path of an object below the source's folder, from the rest of its key behind the prefix.
pub(in super::super) fn place(rest: &str) -> Result<&str, KeyLeftOut> {
    let is_unsafe = |name: &str| {
        matches!(name, "" | "." | "..") || name.contains('\\') || name.chars().any(char::is_control)
    };
    let (path, is_folder) = match rest.strip_suffix('/') {
        Some(path) => (path, true),
        None => (rest, rest.is_empty()),
    };
    if !path.is_empty() && path.split('/').any(is_unsafe) {
        return Err(KeyLeftOut::Unsafe);
    }
    if is_folder {
        return Err(if rest == "/" { KeyLeftOut::Unsafe } else { KeyLeftOut::Folder });
    }
    if path.split('/').any(|name| name.len() > NAME_BYTES) {
        return Err(KeyLeftOut::TooLong);
    }
    if path.split('/').any(is_temporary) {
        return Err(KeyLeftOut::Hidden);
    }
    if is_plain_path(path) { Ok(path) } else { Err(KeyLeftOut::TooLong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, version: &str, bytes: u64) -> Listed {
        Listed { key: key.to_owned(), version: version.to_owned(), bytes: Some(bytes), is_archived: false }
    }

    #[test]
    fn a_page_is_read_however_its_keys_are_encoded() {
        let contents = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-29T13:49:27.000Z</LastModified><ETag>&quot;e-2&quot;</ETag><Size>10</Size></Contents>"
            )
        };
        // Amazon and MinIO write a blank as `+`, moto and s3s as `%20`; all write `+` as `%2B`.
        let keys = ["p/a+b%2Bc.ts", "p/a%20b%2Bc.ts", "p/100%25.ts", "p/%C3%A9.ts", "p/z%01.ts", "other"];
        let text = format!(
            "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>{}<NextContinuationToken>t/+=</NextContinuationToken></ListBucketResult>",
            keys.map(contents).concat()
        );
        let found = page(text.as_bytes(), "p/").unwrap();
        let expected = ["p/a b+c.ts", "p/a b+c.ts", "p/100%.ts", "p/\u{e9}.ts", "p/z\u{1}.ts"];
        assert_eq!(found.objects, expected.map(|key| listed(key, "e-2", 10)));
        assert_eq!(found.next, Some(Next::Token("t/+=".to_owned())));
        // Without an encoding, an ETag, a token and a namespace.
        let text = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>p/a%20b+c&amp;&#x1;.ts</Key><LastModified>T</LastModified><Size>3</Size><StorageClass>GLACIER</StorageClass></Contents></ListBucketResult>";
        let found = page(text.as_bytes(), "p/").unwrap();
        let archived = Listed { is_archived: true, ..listed("p/a%20b+c&\u{1}.ts", "3 T", 3) };
        assert_eq!(
            found,
            Page { objects: vec![archived], next: Some(Next::After("p/a%20b+c&\u{1}.ts".to_owned())) }
        );
        let text = text.replace("<IsTruncated>true</IsTruncated>", "");
        let text = text.replace(
            "</StorageClass>",
            "</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>",
        );
        let found = page(text.as_bytes(), "").unwrap();
        assert!(found.next.is_none() && !found.objects[0].is_archived);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, why) in [
            ("<html><body>hello</body></html>", "<html>"),
            ("not XML", "XML"),
            ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "without keys"),
        ] {
            let refused = page(text.as_bytes(), "").unwrap_err();
            assert!(refused.why == PullFailure::Listing && refused.detail.contains(why), "{refused:?}");
        }
    }

    #[test]
    fn keys_that_are_no_paths_are_left_out() {
        let long = format!("{}.ts", "x".repeat(253));
        let deep = "a/".repeat(12) + "x.ts";
        for (rest, expected) in [
            ("film/a b+100%.ts", Ok("film/a b+100%.ts")),
            ("film/", Err(KeyLeftOut::Folder)),
            ("", Err(KeyLeftOut::Folder)),
            ("/", Err(KeyLeftOut::Unsafe)),
            ("/etc/x.ts", Err(KeyLeftOut::Unsafe)),
            ("film//x.ts", Err(KeyLeftOut::Unsafe)),
            ("film/../../x.ts", Err(KeyLeftOut::Unsafe)),
            ("../", Err(KeyLeftOut::Unsafe)),
            ("film/./x.ts", Err(KeyLeftOut::Unsafe)),
            ("a\\x.ts", Err(KeyLeftOut::Unsafe)),
            ("a\u{1}.ts", Err(KeyLeftOut::Unsafe)),
            (".hidden/x.ts", Err(KeyLeftOut::Hidden)),
            ("x.ts.part", Err(KeyLeftOut::Hidden)),
            (&long, Err(KeyLeftOut::TooLong)),
            (&deep, Err(KeyLeftOut::TooLong)),
        ] {
            assert_eq!(place(rest), expected, "{rest}");
        }
    }

    #[test]
    fn etags_are_compared_without_their_quotes() {
        for etag in ["\"a-3\"", "a-3", "W/\"a-3\"", " \"a-3\""] {
            assert_eq!(bare(etag), "a-3");
        }
        assert_eq!(bare("\""), "\"");
    }
}
