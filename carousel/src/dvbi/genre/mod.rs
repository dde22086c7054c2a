//! Genres: lookup by name, and names for display, from the classification schemes of service lists and content guides.
//!
//! `ServiceGenre` of a list and `Genre` of a programme use the same three: DVB's ContentSubject (the content descriptor
//! of EN 300 468), TV-Anytime's ContentCS and FormatCS. The reference client displays only the main terms of
//! ContentSubject; so a name in several schemes maps to ContentSubject, and common words of guides map there where
//! possible.
//!
//! `terms.rs` has all terms, for hrefs; `synonyms.rs` the words of XMLTV grabbers in English, German, French, Spanish and
//! Italian. Proprietary schemes of broadcasters are left out, since receivers do not know them.

mod synonyms;
mod terms;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::limits;
use synonyms::SYNONYMS;
use terms::TERMS;

/// `uri` of DVB's scheme, with the colon before the term. Unlike the others it does not contain `CS`.
const SUBJECT: &str = "urn:dvb:metadata:cs:ContentSubject:2019:";

limits! {
    /// Name of a genre that is looked up.
    const MAX_NAME_BYTES: usize = 200, "bytes" {
        why: "The longest in the schemes has 52.",
        full: "The name is not a term.",
        free: "Holds for one name.",
        test: "words_of_grabbers_and_of_content_descriptors",
    }
}

/// One term of a classification scheme.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Scheme and term, such as `urn:dvb:metadata:cs:ContentSubject:2019:2.1`.
    pub href: &'static str,
    /// English name.
    pub name: &'static str,
}

impl Term {
    /// Depth of the term: 0 for the main terms of ContentSubject, 1 for those of the others.
    fn dots(&self) -> usize {
        self.href.bytes().filter(|&byte| byte == b'.').count()
    }

    /// Whether its name is unambiguous: names of deep terms have a meaning only below their parents ("Asia", of folk
    /// music; "Horse", of gymnastics).
    fn is_known_by_name(&self) -> bool {
        let id = self.href.rsplit(':').next().unwrap_or_default();
        let is_of_its_parent = ["3.1.8.", "3.1.9.", "3.2.10.", "3.6.", "3.7.", "2.6", "2.7."]
            .iter()
            .any(|parent| id.starts_with(parent) && (self.dots() >= 3 || parent.starts_with('2')));
        self.dots() <= 3 && (!is_of_its_parent || self.href.starts_with(SUBJECT))
    }
}

/// Finds a term by href, English name, common synonym ("Spielfilm", "Sci-Fi"), or the nibbles of a content descriptor
/// ("0x21", "2.1"). Case, accents and punctuation are ignored.
pub fn term(name_or_href: &str) -> Option<&'static Term> {
    let asked = name_or_href.trim();
    if asked.len() > MAX_NAME_BYTES {
        return None;
    }
    if asked.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("urn:")) {
        return TERMS.iter().find(|term| term.href.eq_ignore_ascii_case(asked));
    }
    nibbles(asked).or_else(|| NAMES.get(&plain(asked)).copied())
}

/// The name of a term, for display.
pub fn name_of(href: &str) -> Option<&'static str> {
    TERMS.iter().find(|term| term.href == href).map(|term| term.name)
}

/// `0x21` or `2.1`: the nibbles of a content descriptor, the first of them alone as `0x2`.
fn nibbles(text: &str) -> Option<&'static Term> {
    let id = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => {
            let byte = u8::from_str_radix(digits, 16).ok()?;
            if digits.len() == 1 { byte.to_string() } else { format!("{}.{}", byte >> 4, byte & 15) }
        }
        None if text.contains('.') && text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()) => {
            text.to_owned()
        }
        None => return None,
    };
    TERMS.iter().find(|term| term.href.strip_prefix(SUBJECT) == Some(&id))
}

/// Terms by [`plain`] name; of several with one name the first scheme's, and there the highest in the hierarchy.
static NAMES: LazyLock<HashMap<String, &'static Term>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    for (href, words) in SYNONYMS {
        let Some(term) = TERMS.iter().find(|term| term.href == *href) else { continue };
        for word in words.split('|') {
            names.entry(plain(word)).or_insert(term);
        }
    }
    for scheme in TERMS.chunk_by(|a, b| scheme_of(a) == scheme_of(b)) {
        for dots in 0..=3 {
            for term in scheme.iter().filter(|term| term.dots() == dots && term.is_known_by_name()) {
                names.entry(plain(term.name)).or_insert(term);
            }
        }
    }
    names
});

fn scheme_of(term: &Term) -> &'static str {
    term.href.rsplit_once(':').map_or("", |(scheme, _)| scheme)
}

/// Normalises a name: lower case, no accents, single spaces, no "and".
fn plain(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’')) {
        let start = out.len();
        for c in word.chars().flat_map(char::to_lowercase) {
            match c {
                'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' => out.push('a'),
                'ç' => out.push('c'),
                'è' | 'é' | 'ê' | 'ë' => out.push('e'),
                'ì' | 'í' | 'î' | 'ï' => out.push('i'),
                'ñ' => out.push('n'),
                'ò' | 'ó' | 'ô' | 'õ' | 'ö' => out.push('o'),
                'ù' | 'ú' | 'û' | 'ü' => out.push('u'),
                'ß' => out.push_str("ss"),
                c if c.is_alphanumeric() => out.push(c),
                _ => {}
            }
        }
        if matches!(&out[start..], "and" | "und" | "et" | "y" | "e") {
            out.truncate(start);
        } else if out.len() > start {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{self, Element};
    use proptest::prelude::*;

    fn href(name: &str) -> Option<&'static str> {
        term(name).map(|term| term.href.rsplit_once("cs:").unwrap().1)
    }

    #[test]
    fn words_of_grabbers_and_of_content_descriptors() {
        assert!(href(&format!("Film{}", "!".repeat(MAX_NAME_BYTES - 4))).is_some());
        assert_eq!(href(&format!("Film{}", "!".repeat(MAX_NAME_BYTES - 3))), None);
        for (name, expected) in [
            ("Movie / Drama", "ContentSubject:2019:1"),
            ("News / Current affairs", "ContentSubject:2019:2"),
            ("NEWS & CURRENT AFFAIRS", "ContentSubject:2019:2"),
            ("Sports", "ContentSubject:2019:4"),
            ("Children", "ContentSubject:2019:5"),
            ("Children’s / Youth programs", "ContentSubject:2019:5"),
            ("Documentary", "ContentSubject:2019:2.3"),
            ("Series", "ContentCS:2011:3.4"),
            ("Film", "ContentSubject:2019:1"),
            ("Spielfilm", "ContentSubject:2019:1"),
            ("Película", "ContentSubject:2019:1"),
            ("dessins animés", "ContentSubject:2019:5.5"),
            ("Telegiornale", "ContentSubject:2019:2"),
            ("sci-fi", "ContentSubject:2019:1.3"),
            ("Fußball", "ContentSubject:2019:4.3"),
            ("Sitcom", "ContentCS:2011:3.5.7.3"),
            ("Basketball", "ContentCS:2011:3.2.3.8"),
            ("Reality", "ContentCS:2011:3.5.5"),
            ("Phone-in", "FormatCS:2011:2.1.8"),
            ("0x10", "ContentSubject:2019:1.0"),
            ("0xA5", "ContentSubject:2019:10.5"),
            ("0x4", "ContentSubject:2019:4"),
            ("1.0", "ContentSubject:2019:1.0"),
            (" urn:tva:metadata:cs:ContentCS:2011:3.1.1 ", "ContentCS:2011:3.1.1"),
            ("URN:TVA:metadata:cs:contentcs:2011:3.6.8.16.3", "ContentCS:2011:3.6.8.16.3"),
        ] {
            assert_eq!(href(name), Some(expected), "{name}");
        }
        for unknown in [
            "",
            "/",
            "0x",
            "0x1F",
            "0x100",
            "9.9.9",
            "1",
            "Asia",
            "Horse",
            "void",
            "urn:dvb:metadata:cs:ContentSubjectCS:2019:1",
            "urn:é",
            "series 7 of the thing",
        ] {
            assert_eq!(href(unknown), None, "{unknown}");
        }
        assert_eq!(term(&"film ".repeat(1000)), None);
        assert_eq!(name_of("urn:dvb:metadata:cs:ContentSubject:2019:2.1"), Some("News/Weather report"));
        assert_eq!(name_of("urn:dvb:metadata:cs:ContentSubject:2019:2.9"), None);
    }

    #[test]
    fn every_synonym_is_of_a_term_and_only_of_one() {
        let mut seen = HashMap::new();
        for (href, words) in SYNONYMS {
            assert!(name_of(href).is_some(), "{href}");
            for word in words.split('|') {
                assert!(!plain(word).is_empty());
                assert_eq!(seen.insert(plain(word), *href), None, "{word}");
            }
        }
    }

    #[test]
    fn the_table_is_what_the_schemes_say() {
        fn walk(uri: &str, element: &Element, out: &mut Vec<(String, String)>) {
            for term in element.all("Term") {
                let name = term.child_text("Name").unwrap();
                out.push((format!("{uri}:{}", term.attribute("termID").unwrap()), name.to_owned()));
                walk(uri, term, out);
            }
        }
        let (mut expected, mut files) = (Vec::new(), 0);
        for file in ["dvbi/DVBContentSubjectCS-2019.xml", "tva/ContentCS.xml", "tva/FormatCS.xml"] {
            let path = format!("{}/../../shared/schemas/dvb-i/cs/{file}", env!("CARGO_MANIFEST_DIR"));
            let Ok(bytes) = std::fs::read(&path) else {
                eprintln!("SKIPPED: {path} is not here");
                continue;
            };
            let scheme = xml::parse(&bytes).unwrap();
            walk(scheme.attribute("uri").unwrap(), &scheme, &mut expected);
            files += 1;
        }
        if files < 3 {
            return;
        }
        assert_eq!(TERMS.len(), expected.len());
        for (term, (href, name)) in TERMS.iter().zip(&expected) {
            assert_eq!(term.href, href);
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(term.name.eq_ignore_ascii_case(&name), "{term:?} is {name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(name in ".{0,80}") {
            let _ = term(&name);
            let _ = term(&format!("0x{name}"));
            let _ = name_of(&name);
        }
    }
}
