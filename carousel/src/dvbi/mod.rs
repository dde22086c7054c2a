//! DVB-I (ETSI TS 103 770, Bluebook A177): service lists, service list entry points, content guides.
//!
//! ```text
//! headend  configuration, media, guides ─▶ ServiceList, EntryPoints, Guide ─▶ XML of an edition ─▶ link
//! daemon   link ─▶ XML of any edition ─▶ ServiceList, Guide ─▶ answers to queries of televisions
//!                     └─ relocate: locators adapted to the client
//! ```
//!
//! | file | content | clause |
//! |---|---|---|
//! | `edition.rs` | namespaces of the editions r0 to r8 | |
//! | `list.rs` | the model of a service list | 5.5 |
//! | `list_read.rs`, `list_write.rs` | parser of all editions, serialisation in one | 5.5 |
//! | `entry_points.rs` | responses of registries, and queries | 5.1.3, 5.3 |
//! | `guide/` | programmes, schedules, box sets: model, TV-Anytime in both directions, answers to queries | 6 |
//! | `genre/` | genres by name, from the classification schemes | 6.10.5 |
//! | `relocate.rs` | replacement of the locators in a document | |
//!
//! The parser reads the parts that the page, the content guide and a receiver need; `relocate` passes on the rest of a
//! received list unchanged. Sources are the schemas, broadcast lists and a public validator, not the text of the
//! standard.

mod edition;
pub mod entry_points;
pub mod genre;
pub mod guide;
pub mod list;
mod list_read;
mod list_write;
mod relocate;

use std::fmt;

pub use edition::{Edition, UnknownEdition};
pub use list::ServiceList;
pub use list_read::{LeftOut, MAX_SERVICES};
pub use list_write::is_hls;
pub use relocate::relocate;

/// A text in one language (`mpeg7:TextualType`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Text {
    /// `xml:lang`, such as `en`; empty: the document's language.
    pub language: String,
    /// The text.
    pub text: String,
}

impl Text {
    /// Creates a text; an empty language means the document's.
    pub fn new(language: impl Into<String>, text: impl Into<String>) -> Self {
        Self { language: language.into(), text: text.into() }
    }

    /// The best text for `language`: in that language, otherwise in one with its primary subtag, otherwise the first.
    pub fn choose<'a>(texts: &'a [Self], language: &str) -> Option<&'a Self> {
        let primary = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
        texts
            .iter()
            .find(|text| text.language.eq_ignore_ascii_case(language))
            .or_else(|| texts.iter().find(|text| primary(&text.language) == primary(language)))
            .or_else(|| texts.first())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A picture: a logo, a still.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
pub struct Image {
    /// Its URL.
    pub uri: String,
    /// MIME type, such as `image/png`.
    pub content_type: String,
}
