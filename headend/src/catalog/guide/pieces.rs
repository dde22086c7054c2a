//! The channels and programmes of an XMLTV file as pieces of its text, each with its line, so that an error in one of
//! them does not affect the others.

use super::repair::tag_end;

/// One channel or programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) is_programme: bool,
    /// From `<` to the `>` of its end tag, or to where it breaks off.
    pub(super) text: &'a str,
    /// Line of its first character, from 1.
    pub(super) line: u64,
    /// Whether its end tag is there.
    pub(super) is_closed: bool,
}

/// Walks the pieces of a file.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    text: &'a str,
    at: usize,
    /// Up to where lines are counted.
    counted: usize,
    line: u64,
    /// Namespace declarations of the root, for pieces that use their prefixes.
    pub(super) namespaces: &'a str,
    has_end: bool,
}

impl<'a> Pieces<'a> {
    /// Pieces of a document whose root is `<tv>`.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let at = behind_prolog(text)?;
        let root = &text[at..];
        if !begins(root, "tv") {
            return None;
        }
        let end = tag_end(root).unwrap_or(root.len());
        let (tag, has_end) = (&root[..end], root[..end].ends_with("/>"));
        let namespaces = tag.find("xmlns:").map_or("", |from| tag[from..].trim_end_matches(['>', '/']));
        Some(Self { text, at: at + end, counted: 0, line: 1, namespaces, has_end })
    }

    /// Whether the document has its end, once all of it is walked.
    pub(super) const fn has_end(&self) -> bool {
        self.has_end
    }

    /// The last line.
    pub(super) fn last_line(&mut self) -> u64 {
        self.line_of(self.text.trim_end().len())
    }

    fn line_of(&mut self, at: usize) -> u64 {
        let between = self.text.as_bytes().get(self.counted..at).unwrap_or_default();
        self.line += between.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.counted = self.counted.max(at);
        self.line
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let at = self.at + self.text.get(self.at..)?.find('<')?;
            let rest = &self.text[at..];
            if let Some(length) = skipped(rest) {
                self.at = at + length;
                continue;
            }
            let name = ["programme", "channel"].into_iter().find(|name| begins(rest, name));
            let Some(name) = name else {
                // Files that were joined have several roots.
                self.has_end = (self.has_end || rest.starts_with("</tv")) && !begins(rest, "tv");
                self.at = at + 1;
                continue;
            };
            let (length, is_closed) = extent(rest, name);
            let line = self.line_of(at);
            self.at = at + length;
            self.has_end = false;
            return Some(Piece { is_programme: name == "programme", text: &rest[..length], line, is_closed });
        }
    }
}

/// Whether text begins with a start tag of this name.
fn begins(text: &str, name: &str) -> bool {
    text[1..]
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n', '>', '/']))
}

/// Length of a comment, CDATA section or processing instruction at the front; the rest of the text if it has no end.
fn skipped(text: &str) -> Option<usize> {
    [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")]
        .into_iter()
        .find(|(start, _)| text.starts_with(start))
        .map(|(start, end)| {
            text[start.len()..].find(end).map_or(text.len(), |at| start.len() + at + end.len())
        })
}

/// Length of an element, and whether it has its end: another one of the file, or the file's end, breaks it off.
fn extent(text: &str, name: &str) -> (usize, bool) {
    if let Some(end) = tag_end(text).filter(|end| text[..*end].ends_with("/>")) {
        return (end, true);
    }
    let mut at = 1;
    while let Some(found) = text[at..].find('<') {
        at += found;
        let rest = &text[at..];
        if let Some(length) = skipped(rest) {
            if length == rest.len() && !rest.starts_with("<?") {
                return (text.len(), false);
            }
            at += length;
            continue;
        }
        if let Some(behind) = rest.strip_prefix("</").and_then(|rest| rest.strip_prefix(name)) {
            let blanks = behind.len() - behind.trim_start().len();
            if behind[blanks..].starts_with('>') {
                return (at + 2 + name.len() + blanks + 1, true);
            }
        }
        if begins(rest, "programme") || begins(rest, "channel") || rest.starts_with("</tv") {
            return (at, false);
        }
        at += 1;
    }
    (text.len(), false)
}

/// Offset of the root: behind the declaration, comments, and a document type declaration, whose own declarations are
/// skipped, so that no entity is expanded.
fn behind_prolog(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        let rest = &text[at..];
        if let Some(length) = skipped(rest) {
            at += length;
        } else if rest.starts_with("<!DOCTYPE") {
            at += doctype(rest);
        } else {
            return rest.starts_with('<').then_some(at);
        }
    }
}

/// Length of a document type declaration.
fn doctype(text: &str) -> usize {
    let (mut quote, mut in_subset) = (None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (byte, quote) {
            (byte, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            (b'"' | b'\'', None) => quote = Some(byte),
            (b'[', None) => in_subset = true,
            (b']', None) => in_subset = false,
            (b'>', None) if !in_subset => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_lines_and_ends() {
        let text = "<?xml version='1.0'?>\n<!DOCTYPE tv [\n<!ENTITY a '>'>]>\n<!-- <tv> -->\n<tv xmlns:x=\"urn:x\">\n\
                    <channel id='a'/>\n<!-- <programme> --><programme>\n<title><![CDATA[</programme>]]></title></programme >\n\
                    <programme start='1'>\n<programme start='2'>x</programme></tv>\n";
        let mut pieces = Pieces::new(text).unwrap();
        let all: Vec<_> =
            pieces.by_ref().map(|it| (it.line, it.is_programme, it.is_closed, it.text.len())).collect();
        assert_eq!(
            all,
            [(6, false, true, 17), (7, true, true, 64), (9, true, false, 22), (10, true, true, 34)]
        );
        assert!(pieces.has_end() && pieces.last_line() == 10);
        assert_eq!(pieces.namespaces, "xmlns:x=\"urn:x\"");
    }

    #[test]
    fn a_file_that_is_cut_has_no_end() {
        let whole = "<tv><programme a='1'><title>x</title></programme></tv>";
        for cut in 5..whole.len() - 4 {
            let mut pieces = Pieces::new(&whole[..cut]).unwrap();
            let _ = pieces.by_ref().count();
            assert!(!pieces.has_end(), "{cut}");
        }
        for other in ["", "<html/>", "<tvx/>", "x<tv/>", "<!DOCTYPE tv", "<!-- "] {
            assert!(Pieces::new(other).is_none(), "{other}");
        }
        let mut joined = Pieces::new("<tv/><?xml version='1.0'?><tv><channel id='a'/>").unwrap();
        assert_eq!((joined.by_ref().count(), joined.has_end()), (1, false));
        assert!(Pieces::new("<tv/>").unwrap().has_end());
    }
}
