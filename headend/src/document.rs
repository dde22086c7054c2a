//! A document of the headend's own: announcement, gateway configuration, service list, guide.

/// A document: file name for `catalog`, object name, MIME type, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Name of the file that `catalog` writes.
    pub file: String,
    /// Object name.
    pub uri: String,
    /// MIME type.
    pub content_type: String,
    /// The document.
    pub bytes: Vec<u8>,
}
