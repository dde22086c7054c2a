//! One entry of a guide file in either form, with its texts cleaned and cut to the lengths that a guide allows.

use carousel::dvbi::guide::Credit;
use carousel::dvbi::{Image, Text};
use carousel::time::WallTime;

use crate::package::content_type;

/// Characters of a title. Receivers show 80; the rest serves who searches.
pub(super) const MAX_TITLE_CHARS: usize = 400;
/// Characters of a synopsis. TV-Anytime's longest has 1200.
pub(super) const MAX_SYNOPSIS_CHARS: usize = 4000;
/// Characters of a name, a keyword, a genre.
pub(super) const MAX_NAME_CHARS: usize = 120;
/// Languages of one text.
pub(super) const MAX_LANGUAGES: usize = 16;
/// Credits of a programme: what DVB-I has room for.
pub(super) const MAX_CREDITS: usize = 40;
/// Genres and keywords of an entry.
pub(super) const MAX_WORDS: usize = 32;
/// Bytes of a picture's URL.
const MAX_URL_BYTES: usize = 2048;

/// One entry.
#[derive(Debug, Default)]
pub(super) struct Showing {
    /// Its number in the file, from 1.
    pub(super) number: u64,
    /// Its line, from 1; 0: not known.
    pub(super) line: u64,
    /// Channel id of the file.
    pub(super) channel: String,
    /// The service that shows it.
    pub(super) service: String,
    pub(super) start: WallTime,
    /// `NO_END` if the file has none.
    pub(super) end: WallTime,
    /// Identifier of the programme in a programme database.
    pub(super) id: Option<String>,
    /// One at least.
    pub(super) titles: Vec<Text>,
    pub(super) episode_titles: Vec<Text>,
    pub(super) synopses: Vec<Text>,
    /// Genres as the file calls them.
    pub(super) genres: Vec<Text>,
    pub(super) keywords: Vec<Text>,
    /// From 0: unrestricted.
    pub(super) minimum_age: Option<u8>,
    pub(super) credits: Vec<Credit>,
    pub(super) image: Option<Image>,
    pub(super) year: Option<u16>,
    pub(super) series: Option<Series>,
    pub(super) is_first_showing: bool,
}

/// Place of an entry in its series.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// Titles of the series; none: those of the programme.
    pub(super) titles: Vec<Text>,
    /// From 1.
    pub(super) season: Option<u32>,
    /// From 1.
    pub(super) episode: Option<u32>,
}

impl Showing {
    /// Place of a problem.
    pub(super) fn place(&self) -> String {
        place(self.number, &self.channel, self.line)
    }
}

/// Place of a problem: number of the entry, its channel, and its line (0: not known).
pub(super) fn place(number: u64, channel: &str, line: u64) -> String {
    let place = format!("programme {number} (channel {})", super::problems::quoted(channel));
    if line == 0 { place } else { format!("line {line}, {place}") }
}

/// A text without control characters (EN 300 468 has some for emphasis) and with one space for every run of blanks, cut.
pub(super) fn clean(text: &str, most_chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most_chars));
    let mut chars = 0;
    for word in text.split(|c: char| c.is_whitespace() || c == '\u{8a}').filter(|word| !word.is_empty()) {
        let start = out.len();
        for c in word.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')) {
            let space = usize::from(start > 0 && out.len() == start);
            if chars + space >= most_chars {
                return out;
            }
            if space > 0 {
                out.push(' ');
            }
            out.push(c);
            chars += 1 + space;
        }
    }
    out
}

/// A language tag as RFC 5646 writes it; empty if the text is not one.
pub(super) fn language(tag: &str) -> String {
    let tag = tag.trim();
    let is_tag = tag.len() <= 35
        && tag.starts_with(|c: char| c.is_ascii_alphabetic())
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_tag { tag.replace('_', "-") } else { String::new() }
}

/// Takes a text in one more language; what is empty, comes second in a language, or finds no room is left out.
pub(super) fn add_text(texts: &mut Vec<Text>, tag: &str, text: &str, most_chars: usize) {
    let text = Text::new(language(tag), clean(text, most_chars));
    if !text.text.is_empty()
        && texts.len() < MAX_LANGUAGES
        && texts.iter().all(|it| it.language != text.language)
    {
        texts.push(text);
    }
}

/// Takes one more keyword or genre.
pub(super) fn add_word(words: &mut Vec<Text>, tag: &str, word: &str) {
    let word = Text::new(language(tag), clean(word, MAX_NAME_CHARS));
    if !word.text.is_empty() && words.len() < MAX_WORDS && !words.contains(&word) {
        words.push(word);
    }
}

/// A picture on the web. Guides seldom say its type; where its name does not either, it is JPEG nearly always.
pub(super) fn image(url: &str) -> Option<Image> {
    let url = url.trim();
    let is_web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if !is_web || url.len() > MAX_URL_BYTES || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let kind = content_type(url.split(['?', '#']).next().unwrap_or_default());
    let kind = if kind.starts_with("image/") { kind } else { "image/jpeg" };
    Some(Image { uri: url.to_owned(), content_type: kind.to_owned() })
}

/// A year of production; from the first film on.
pub(super) fn year(year: u16) -> Option<u16> {
    (1888..=2200).contains(&year).then_some(year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned_and_cut() {
        assert_eq!(clean(" \u{86}The\u{87}\u{8a}end \n\t of\0 it\u{ffff} \u{1} ", 400), "The end of it");
        assert_eq!(clean("äöü äöü", 5), "äöü ä");
        assert_eq!(clean("äöü äöü", 4), "äöü");
        assert_eq!(clean("ab", 0), "");
        assert_eq!(clean(&"x".repeat(1 << 20), 400).len(), 400);
        assert_eq!(
            (language("pt_BR"), language("<b>"), language("")),
            ("pt-BR".into(), "".into(), "".into())
        );
        let mut texts = Vec::new();
        for at in 0..100 {
            add_text(&mut texts, &format!("x{at}"), "text", 10);
            add_text(&mut texts, "x0", "again", 10);
        }
        assert_eq!((texts.len(), texts[0].text.as_str()), (MAX_LANGUAGES, "text"));
    }

    #[test]
    fn pictures_are_of_the_web() {
        let kind = |url| image(url).map(|image| image.content_type);
        assert_eq!(kind("https://a.example/b.PNG?w=1").as_deref(), Some("image/png"));
        assert_eq!(kind("http://a.example/still/17").as_deref(), Some("image/jpeg"));
        for bad in ["", "file:///etc/passwd", "b.png", "javascript:alert(1)", "https://a b/c.png"] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }
}
