//! Repair of one entry's XML that a script has written by joining strings.
//!
//! A lone `&` or `<`, entities of HTML, its markup in texts, tags that are not closed, control characters: each has one
//! plausible reading. Anything else stays as it is, and is refused by the XML reader.

use std::collections::BTreeSet;

/// Elements of HTML that get into texts, and that XMLTV does not have. Sorted.
const HTML: [&str; 21] = [
    "a",
    "b",
    "blockquote",
    "br",
    "center",
    "div",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "hr",
    "i",
    "li",
    "ol",
    "p",
    "small",
    "span",
    "strong",
    "u",
    "ul",
];
/// Bytes of the longest entity of HTML, `&CounterClockwiseContourIntegral;`.
const MAX_ENTITY_BYTES: usize = 33;

/// Descriptions of repairs that were made.
pub(super) type Repairs = BTreeSet<&'static str>;

/// Repairs an element's XML.
pub(super) fn repair(piece: &str) -> (String, Repairs) {
    let mut repair =
        Repair { out: String::with_capacity(piece.len() + 64), open: Vec::new(), repairs: Repairs::new() };
    let mut rest = piece;
    while let Some(at) = rest.find(['<', '&']) {
        let (text, special) = rest.split_at(at);
        repair.text(text);
        rest = if special.starts_with('<') { repair.markup(special) } else { repair.reference(special) };
    }
    repair.text(rest);
    while let Some(name) = repair.open.pop() {
        repair.close(name);
        repair.repairs.insert("a tag that is not closed");
    }
    (repair.out, repair.repairs)
}

struct Repair<'a> {
    out: String,
    /// Elements that have begun.
    open: Vec<&'a str>,
    repairs: Repairs,
}

impl<'a> Repair<'a> {
    fn text(&mut self, text: &str) {
        let is_character = |c: char| c >= ' ' || matches!(c, '\t' | '\n' | '\r');
        if text.chars().all(is_character) {
            self.out.push_str(text);
        } else {
            self.out.extend(text.chars().filter(|c| is_character(*c)));
            self.repairs.insert("a control character");
        }
    }

    fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Takes what begins with `<`; gives what is behind it.
    fn markup(&mut self, from: &'a str) -> &'a str {
        let bounded = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        for (start, end) in bounded {
            if let Some(inside) = from.strip_prefix(start)
                && let Some((inside, rest)) = inside.split_once(end)
            {
                // As text, so that its content is examined.
                if start == "<![CDATA[" {
                    self.text(&inside.replace('&', "&amp;").replace('<', "&lt;"));
                }
                return rest;
            }
        }
        let is_end = from[1..].starts_with('/');
        let named = &from[1 + usize::from(is_end)..];
        let length = named.find(|c: char| !c.is_alphanumeric() && !"_:.-".contains(c)).unwrap_or(named.len());
        let name = &named[..length];
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let Some(end) = tag_end(from).filter(|_| is_name) else {
            self.out.push_str("&lt;");
            self.repairs.insert("a lone <");
            return &from[1..];
        };
        let (tag, rest) = from.split_at(end);
        if HTML.binary_search(&name.to_ascii_lowercase().as_str()).is_ok() {
            self.out.push(' ');
            self.repairs.insert("markup of HTML");
        } else if is_end {
            self.end(name);
        } else {
            self.attributes(tag);
            if !tag.ends_with("/>") {
                self.open.push(name);
            }
        }
        rest
    }

    /// Ends an element, and those in it that were not.
    fn end(&mut self, name: &'a str) {
        if !self.open.contains(&name) {
            self.repairs.insert("an end tag without a start");
            return;
        }
        while let Some(open) = self.open.pop() {
            self.close(open);
            if open == name {
                return;
            }
            self.repairs.insert("a tag that is not closed");
        }
    }

    /// A start tag; references in it are examined too.
    fn attributes(&mut self, mut tag: &'a str) {
        while let Some(at) = tag.find('&') {
            self.text(&tag[..at]);
            tag = self.reference(&tag[at..]);
        }
        self.text(tag);
    }

    /// Takes what begins with `&`; gives what is behind it.
    fn reference(&mut self, from: &'a str) -> &'a str {
        let end = from.bytes().take(MAX_ENTITY_BYTES).position(|byte| byte == b';');
        let name = end.map(|end| &from[1..end]).filter(|name| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'#') && !name.is_empty()
        });
        let Some(name) = name else {
            self.out.push_str("&amp;");
            self.repairs.insert("a lone &");
            return &from[1..];
        };
        let rest = &from[name.len() + 2..];
        let whole = &from[..name.len() + 2];
        if matches!(name, "amp" | "lt" | "gt" | "quot" | "apos") {
            self.out.push_str(whole);
            return rest;
        }
        let decoded = html_escape::decode_html_entities(whole);
        let is_number =
            name.strip_prefix('#').is_some_and(|it| it.starts_with(['x', 'X']) || it.parse::<u32>().is_ok());
        if decoded == whole && is_number {
            self.repairs.insert("a control character");
            return rest;
        }
        if decoded == whole {
            self.out.push_str("&amp;");
            self.repairs.insert("a lone &");
            return &from[1..];
        }
        if !name.starts_with('#') {
            self.repairs.insert("an entity that XML does not have");
        }
        self.text(&decoded.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;"));
        rest
    }
}

/// End of a tag: behind the first `>` outside quotes; `None` if another `<` comes first.
pub(super) fn tag_end(from: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in from.bytes().enumerate().skip(1) {
        match (byte, quote) {
            (b'<', _) => return None,
            (b'>', None) => return Some(at + 1),
            (b'"' | b'\'', None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_scripts_write_becomes_what_they_mean() {
        assert!(HTML.is_sorted());
        for (bad, right) in [
            ("<t>Caf&eacute;&nbsp;Noir</t>", "Café\u{a0}Noir"),
            ("<t>Tom & Jerry</t>", "Tom & Jerry"),
            ("<t>a=1&b=2; c</t>", "a=1&b=2; c"),
            ("<t>AT&T;</t>", "AT&T;"),
            ("<t>a < b</t>", "a < b"),
            ("<t>a <3 b</t>", "a <3 b"),
            ("<t>Tag <br> in<br/>text</t>", "Tag   in text"),
            ("<t><b>bold</B></t>", "bold"),
            ("<t>x\u{b}y&#26;z</t>", "xyz"),
            ("<t>&#233;&#xe9;&amp;&lt;</t>", "éé&<"),
            ("<t><![CDATA[a & b <c>]]></t>", "a & b <c>"),
            ("<t>a <!-- & --> b</t>", "a  b"),
            ("<t>unclosed", "unclosed"),
            ("<t>stray</u></v></t>", "stray"),
            ("<t k='1&2'>x</t>", "x"),
        ] {
            let (text, _) = repair(bad);
            let element =
                carousel::xml::parse(text.as_bytes()).unwrap_or_else(|err| panic!("{bad}: {text}: {err}"));
            assert_eq!(element.text, right, "{bad}");
        }
        let nested = repair("<p><t>a<u>b</t><d>c</d></p>").0;
        assert_eq!(nested, " <t>a b</t><d>c</d> ");
        assert_eq!(repair("<t>right &amp; good</t>").1, Repairs::new());
        assert_eq!(repair("<t>&eacute; & <</t>").1.len(), 3);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(<[/!?]?[a-z]{0,3}( [a-z]='?[&<>;]?'?)?>?|&#?[a-z0-9]{0,4};?|[ -~é]{0,3}|<!--|-->|<!\\[CDATA\\[|\\]\\]>){0,20}") {
            let _ = repair(&text);
        }
    }
}
