//! Editions, classification terms and lengths of TV-Anytime documents, for writing and reading.
//!
//! The lengths are those of TS 103 770 clause 6.10 as checked by a public validator; medium synopses are cut by the
//! strictest reading of the clause. Terms that have no effect on either side are omitted.

use super::Role;

/// Subset of MPEG-7 that every edition uses.
pub(super) const MPEG7: &str = "urn:tva:mpeg7:2008";
/// Namespace of `xsi:type`.
pub(super) const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Structural groups of the now/next and window forms: `…/now`, `…/later`, `…/earlier`.
pub(super) const NOW_NEXT: &str = "crid://dvb.org/metadata/schedules/now-next";
/// A still that advertises the programme.
pub(super) const STILL: &str = "urn:tva:metadata:cs:HowRelatedCS:2012:19";
/// The application that plays the titles of a box set.
pub(super) const TEMPLATE_AIT: &str = "urn:fvc:metadata:cs:HowRelatedCS:2018:templateAIT";
/// Other pages of the same answer; followed by `first`, `prev`, `next`, `last`.
pub(super) const PAGINATION: &str = "urn:fvc:metadata:cs:HowRelatedCS:2015-12:pagination";
/// It is available.
pub(super) const MEDIA_AVAILABLE: &str = "urn:fvc:metadata:cs:MediaAvailabilityCS:2014-07:media_available";
/// It is currently not available.
pub(super) const MEDIA_UNAVAILABLE: &str =
    "urn:fvc:metadata:cs:MediaAvailabilityCS:2014-07:media_unavailable";
/// It is not offered in advance in a forward guide.
pub(super) const FORWARD_EPG_UNAVAILABLE: &str =
    "urn:fvc:metadata:cs:FEPGAvailabilityCS:2014-10:fepg_unavailable";
/// MIME type of an XML AIT, which names the application that plays a title (TS 102 809).
pub const AIT_TYPE: &str = "application/vnd.dvb.ait+xml";

/// Longest title, like every length here in UTF-16 code units.
pub(super) const MAX_TITLE: usize = 80;
/// Longest short, medium and long synopsis.
pub(super) const MAX_SYNOPSIS: [usize; 3] = [90, 200, 1200];
/// Longest keyword.
pub(super) const MAX_KEYWORD: usize = 32;
/// Keywords of one language.
pub(super) const MAX_KEYWORDS: usize = 20;
/// Longest given or family name, or name of an organisation.
pub(super) const MAX_NAME: usize = 32;
/// Credits of a programme.
pub(super) const MAX_CREDITS: usize = 40;
/// Languages of one text.
pub(super) const MAX_LANGUAGES: usize = 16;
/// The latest time in a document: years have four digits.
pub(super) const LAST_MS: i64 = 253_402_300_799_000;

/// Edition of TV-Anytime's schema (TS 102 822-3-1), by the year of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tva {
    /// A177 r0 to r4.
    V2019,
    /// A177 r5.
    V2023,
    /// A177 r6 and r7 (TS 103 770 V1.2.1): in use on the air.
    #[default]
    V2024,
    /// A177 r8: single showings are `BroadcastEvent`s.
    V2026,
}

impl Tva {
    /// All editions, oldest first.
    pub const ALL: [Self; 4] = [Self::V2019, Self::V2023, Self::V2024, Self::V2026];

    /// Its namespace.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::V2019 => "urn:tva:metadata:2019",
            Self::V2023 => "urn:tva:metadata:2023",
            Self::V2024 => "urn:tva:metadata:2024",
            Self::V2026 => "urn:tva:metadata:2026",
        }
    }

    /// Whether a schedule may be empty.
    pub(super) const fn has_empty_schedules(self) -> bool {
        matches!(self, Self::V2024 | Self::V2026)
    }

    /// Whether a showing outside a schedule is described by a `BroadcastEvent`.
    pub(super) const fn has_broadcast_events(self) -> bool {
        matches!(self, Self::V2026)
    }
}

const ROLES: &str = "urn:mpeg:mpeg7:cs:RoleCS:2001:";
const TVA_ROLES: &str = "urn:tva:metadata:cs:TVARoleCS:";

/// Roles with their terms of `RoleCS`; the first term of a role is written. The profile has no editors.
const ROLE_TERMS: [(Role, &str); 12] = [
    (Role::Actor, "ACTOR"),
    (Role::Director, "DIRECTOR"),
    (Role::Writer, "SCRIPTWRITER"),
    (Role::Writer, "AUTHOR"),
    (Role::Producer, "PRODUCER"),
    (Role::Producer, "EXECUTIVE-PRODUCER"),
    (Role::Presenter, "ANCHOR"),
    (Role::Commentator, "NARRATOR"),
    (Role::Commentator, "REPORTER"),
    (Role::Composer, "COMPOSER"),
    (Role::Editor, "EDITOR"),
    (Role::Guest, "PERFORMER"),
];

/// Term of a role; restricted to the profile if `is_profile`.
pub(super) fn role_term(role: Role, is_profile: bool) -> String {
    match role {
        Role::Presenter => format!("{TVA_ROLES}2011:AD6"),
        Role::Editor if is_profile => format!("{ROLES}STAFF"),
        _ => {
            let term = ROLE_TERMS.iter().find(|row| row.0 == role).map_or("UNKNOWN", |row| row.1);
            format!("{ROLES}{term}")
        }
    }
}

/// Role of a term of any edition of either scheme; `None` for roles that are not in the model.
pub(super) fn role(term: &str) -> Option<Role> {
    let name = term.trim().rsplit(':').next()?;
    if term.contains("TVARoleCS") {
        return match name {
            "AD6" => Some(Role::Presenter),
            // The company that produced it.
            "V20" => Some(Role::Producer),
            _ => None,
        };
    }
    ROLE_TERMS.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
}

/// Whether it is a CRID: `crid://authority/data`.
pub(super) fn is_crid(text: &str) -> bool {
    let rest = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("crid://")).map(|_| &text[7..]);
    rest.is_some_and(|rest| rest.contains('/'))
}

/// Whether it has the form of a language tag (`xsd:language`).
pub(super) fn is_language(tag: &str) -> bool {
    let is_part =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_primary = |part: &str| part.bytes().all(|b| b.is_ascii_alphabetic());
    tag.len() <= 35 && tag.split('-').all(is_part) && tag.split('-').take(1).all(is_primary)
}

/// A text on one line, cut at a word to `most` UTF-16 code units with `…` in place of the rest. Validators count those;
/// they are never fewer than the characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut line = String::with_capacity(text.len().min(4 * most));
    let (mut units, mut words, mut is_cut) = (0, 0, false);
    for word in text.split_whitespace() {
        let word_units: usize = word.chars().map(char::len_utf16).sum();
        if words > 0 {
            line.push(' ');
            units += 1;
        }
        line.push_str(word);
        (units, words) = (units + word_units, words + 1);
        if units > most {
            is_cut = true;
            break;
        }
    }
    if !is_cut {
        return line;
    }
    let (mut left, mut end) = (most.saturating_sub(1), 0);
    for c in line.chars() {
        if c.len_utf16() > left {
            break;
        }
        left -= c.len_utf16();
        end += c.len_utf8();
    }
    if !line[end..].starts_with(' ') {
        // Cut at a word, unless there is only one.
        end = line[..end].rfind(' ').unwrap_or(end);
    }
    let kept = line[..end].trim_end_matches(|c: char| c == ' ' || c.is_ascii_punctuation());
    let kept = if kept.is_empty() { &line[..end] } else { kept };
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_words_within_their_length() {
        assert_eq!(cut("  one\n two  ", 7), "one two");
        assert_eq!(cut("one two", 6), "one…");
        assert_eq!(cut("one two, three", 9), "one two…");
        assert_eq!(cut("one two, three", 10), "one two…");
        assert_eq!(cut("uninterrupted", 5), "unin…");
        // Two code units each.
        assert_eq!(cut("\u{1f4e1}\u{1f4e1}\u{1f4e1}", 5), "\u{1f4e1}\u{1f4e1}…");
        assert_eq!(cut("\u{1f4e1}\u{1f4e1}", 4), "\u{1f4e1}\u{1f4e1}");
        assert_eq!(cut("...... ......", 8), "......…");
        assert_eq!(cut("", 3), "");
        assert_eq!(cut("ab", 1), "…");
    }

    #[test]
    fn every_role_is_read_from_what_is_written() {
        use Role::{Actor, Commentator, Composer, Director, Editor, Guest, Presenter, Producer, Writer};
        for known in [Actor, Director, Writer, Producer, Presenter, Commentator, Composer, Editor, Guest] {
            assert_eq!(role(&role_term(known, false)), Some(known));
        }
        assert_eq!(role(&role_term(Editor, true)), None);
        assert_eq!(role("urn:tva:metadata:cs:TVARoleCS:2010:AD6"), Some(Presenter));
        assert_eq!(role("urn:tva:metadata:cs:TVARoleCS:2011:V813"), None);
        assert_eq!(role(""), None);
    }

    #[test]
    fn crids_and_languages_by_their_form() {
        for (text, is) in
            [("crid://a/b", true), ("CRID://a/", true), ("crid://a", false), ("é", false), ("crid:/é", false)]
        {
            assert_eq!(is_crid(text), is, "{text}");
        }
        for (tag, is) in [
            ("en", true),
            ("de-AT", true),
            ("", false),
            ("e n", false),
            ("x-1", true),
            ("1x", false),
            ("en-", false),
        ] {
            assert_eq!(is_language(tag), is, "{tag}");
        }
    }
}
