//! Common Media Client Data: reports of players (CTA-5004, version 1; CTA-5004-B, version 2).
//!
//! Version 1 is a list of `key=value`, version 2 a dictionary of Structured Fields (RFC 9651 section 3.2) with inner lists
//! (`bl=(2500;v 1800;a)`). One reader takes both, more leniently than RFC 9651: players send strings beyond ASCII and keys with
//! capitals, for which a strict parser refuses the whole report. A member that cannot be read is left out and counted.
//!
//! | it comes | as |
//! |---|---|
//! | in the query | the parameter `CMCD`, encoded as an HTML form does: `%2C`, and `+` for a space |
//! | in fields | `CMCD-Request`, `CMCD-Object`, `CMCD-Status`, `CMCD-Session` |
//! | in the body of a POST | one report a line, `application/cmcd` (version 2) |

use std::borrow::Cow;

carousel::limits! {
    /// Members of one report.
    const MAX_MEMBERS: usize = 128, "members" {
        why: "Version 2 has some 50 keys; the rest is for keys of a player's own.",
        full: "The others are left out, and counted.",
        free: "Holds for one report.",
        test: "what_cannot_be_read_is_left_out_and_counted",
    }
}

/// Fields that carry a report, in lower case.
pub const FIELDS: [&str; 4] = ["cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status"];

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer or decimal.
    Number(f64),
    /// A string, without its quotes.
    Text(String),
    /// A token, such as `v`.
    Token(String),
    /// A boolean.
    Flag(bool),
    /// An inner list.
    List(Vec<Item>),
}

/// An item of an inner list.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    value: Value,
    /// Its parameter `r`: a range of the object that it names.
    range: Option<String>,
}

/// One report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    members: Vec<(String, Value)>,
    /// Members that could not be read.
    pub unread: u64,
}

impl Report {
    /// Reads a report.
    pub fn read(text: &str) -> Self {
        let mut report = Self::default();
        let mut rest = text.trim_matches([' ', '\t', '\r', '\n']);
        while !rest.is_empty() {
            let (member, after) = split_member(rest);
            match read_member(member.trim_matches([' ', '\t'])) {
                Some((key, value)) if report.members.len() < MAX_MEMBERS => {
                    // The last value of a repeated key counts (RFC 9651 section 4.2.2).
                    report.members.retain(|(name, _)| *name != key);
                    report.members.push((key, value));
                }
                _ => report.unread += 1,
            }
            rest = after.trim_start_matches([' ', '\t']);
        }
        report
    }

    /// Whether nothing could be read.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A number; the first of a list.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.numbers(key).next()
    }

    /// The numbers of a list, or the only number.
    pub fn numbers(&self, key: &str) -> impl Iterator<Item = f64> + '_ {
        self.values(key).filter_map(|(value, _)| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        })
    }

    /// The strings of a list, or the only string, each with the range that is its parameter `r`.
    pub fn strings<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        self.values(key).filter_map(|(value, range)| match value {
            Value::Text(text) => Some((text.as_str(), range)),
            _ => None,
        })
    }

    fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a Value, Option<&'a str>)> + use<'a> {
        let (one, all) = match self.get(key) {
            Some(Value::List(all)) => (None, all.as_slice()),
            one => (one, &[][..]),
        };
        let all = all.iter().map(|item| (&item.value, item.range.as_deref()));
        one.into_iter().map(|value| (value, None)).chain(all)
    }

    /// A string or token; all of a list, separated by spaces.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        match self.get(key)? {
            Value::Text(text) | Value::Token(text) => Some(Cow::Borrowed(text)),
            Value::List(all) => {
                let texts = all.iter().filter_map(|item| match &item.value {
                    Value::Text(text) | Value::Token(text) => Some(text.as_str()),
                    _ => None,
                });
                Some(Cow::Owned(texts.collect::<Vec<_>>().join(" ")))
            }
            _ => None,
        }
    }

    /// Whether a boolean is present and true.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Flag(true)))
    }

    /// The version; 1 if none is given.
    pub fn version(&self) -> u8 {
        self.number("v").map_or(1, |version| version.clamp(0.0, 255.0) as u8)
    }
}

/// The bytes outside of strings, with their offsets.
fn outside_strings(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let (mut in_string, mut is_escaped) = (false, false);
    text.bytes().enumerate().filter(move |(_, byte)| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ => return !in_string,
        }
        false
    })
}

/// Parts before and behind the next comma that is not inside a string or an inner list.
fn split_member(text: &str) -> (&str, &str) {
    let mut depth = 0_u32;
    for (at, byte) in outside_strings(text) {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

fn read_member(member: &str) -> Option<(String, Value)> {
    let key_ends = member.find(['=', ';']).unwrap_or(member.len());
    let (key, rest) = member.split_at(key_ends);
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'*');
    if key.is_empty() || !key.bytes().all(is_key) {
        return None;
    }
    let value = match rest.strip_prefix('=') {
        None => Value::Flag(true),
        Some(text) if text.starts_with('(') => {
            let (list, _) = text[1..].rsplit_once(')')?;
            Value::List(read_list(list)?)
        }
        Some(text) => read_item(text)?.0,
    };
    Some((key.to_owned(), value))
}

/// The items of an inner list, without parameters other than the range.
fn read_list(text: &str) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = text.trim_matches(' ');
    while !rest.is_empty() {
        let (value, after) = read_item(rest)?;
        let (parameters, after) = after.split_at(end_of_parameters(after));
        items.push(Item { value, range: read_range(parameters) });
        rest = after.trim_start_matches(' ');
    }
    Some(items)
}

/// The string `r` among parameters.
fn read_range(parameters: &str) -> Option<String> {
    let starts = outside_strings(parameters).filter(|(_, byte)| *byte == b';').map(|(at, _)| at + 1);
    let all = starts.filter_map(|at| parameters[at..].trim_start_matches(' ').strip_prefix("r="));
    // The last value of a repeated key counts.
    match read_item(all.last()?)? {
        (Value::Text(range), _) => Some(range),
        _ => None,
    }
}

/// End of parameters that may hold strings: at the first space outside of one.
fn end_of_parameters(text: &str) -> usize {
    outside_strings(text).find(|(_, byte)| *byte == b' ').map_or(text.len(), |(at, _)| at)
}

/// A bare item, and what stands behind it.
fn read_item(text: &str) -> Option<(Value, &str)> {
    let first = text.bytes().next()?;
    if first == b'"' {
        let mut out = String::new();
        let mut is_escaped = false;
        let mut skip_to = 1;
        for (at, c) in text.char_indices() {
            match c {
                _ if at < skip_to => {}
                _ if is_escaped => {
                    is_escaped = false;
                    // A byte of a field that is not UTF-8, as logs write it: browsers send Latin-1.
                    let byte = text.get(at + 1..at + 3).filter(|_| c == 'x');
                    match byte.and_then(|it| u8::from_str_radix(it, 16).ok()) {
                        Some(byte) => {
                            out.push(char::from(byte));
                            skip_to = at + 3;
                        }
                        None => out.push(c),
                    }
                }
                '\\' => is_escaped = true,
                '"' => return Some((Value::Text(out), &text[at + 1..])),
                _ => out.push(c),
            }
        }
        return None;
    }
    let ends = text.find([';', ' ', ')']).unwrap_or(text.len());
    let (bare, rest) = text.split_at(ends);
    let value = match bare {
        "?1" | "true" => Value::Flag(true),
        "?0" | "false" => Value::Flag(false),
        _ if first == b'-' || first.is_ascii_digit() => {
            Value::Number(bare.parse().ok().filter(|number: &f64| number.is_finite())?)
        }
        _ if bare.is_empty() || bare.contains('"') => return None,
        _ => Value::Token(bare.to_owned()),
    };
    Some((value, rest))
}

/// The report in a query.
pub fn of_query(query: &str) -> Option<String> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix("CMCD="))?;
    Some(of_form(raw))
}

/// A value as an HTML form encodes it (WHATWG URL, application/x-www-form-urlencoded).
fn of_form(raw: &str) -> String {
    let spaced = raw.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_as_players_send_it() {
        // @svta/cml-cmcd 2.7.0: encodeCmcd(…, { version: 1 }).
        let text = r#"bl=2500,br=3200,bs,cid="film \"a\" 1",d=4004,mtp=25400,nor="..%2Fa%20b.m4v",ot=v,pr=1.08,su,tb=6000"#;
        let report = Report::read(text);
        assert_eq!(report.unread, 0);
        assert_eq!(
            (report.number("bl"), report.number("pr"), report.version()),
            (Some(2500.0), Some(1.08), 1)
        );
        assert_eq!(report.text("cid").as_deref(), Some("film \"a\" 1"));
        assert_eq!(report.text("ot").as_deref(), Some("v"));
        assert!(report.flag("bs") && report.flag("su") && !report.flag("nr"));
        let query = "x=1~2&CMCD=bl%3D2500%2Ccid%3D%22a+b%22&t=a+b";
        assert_eq!(of_query(query).as_deref(), Some("bl=2500,cid=\"a b\""));
        assert_eq!(of_query("cmcd=bl%3D2500"), None);
        assert_eq!(Report::read("cid=\"K\\xF6ln\\x\"").text("cid").as_deref(), Some("K\u{f6}lnx"));
    }

    #[test]
    fn version_2_as_players_send_it() {
        // @svta/cml-cmcd 2.7.0: encodeCmcd(…, { version: 2, reportingMode: "event" }).
        let text = r#"bl=(2500),br=(3200;v 128;a),bs,bsd=(120 80),cid="film \"ä\" (1), 2",e=ps,ec=("a b" "c"),msd=1234,nor=("../ä.m4v";r="0-5"),sid="6e2f",sn=5,sta=p,ts=1700000000123,v=2"#;
        let report = Report::read(text);
        assert_eq!(report.unread, 0);
        assert_eq!((report.version(), report.number("br")), (2, Some(3200.0)));
        assert_eq!(report.numbers("br").collect::<Vec<_>>(), [3200.0, 128.0]);
        assert_eq!(report.numbers("bsd").sum::<f64>(), 200.0);
        assert_eq!(report.text("cid").as_deref(), Some("film \"ä\" (1), 2"));
        assert_eq!(report.text("ec").as_deref(), Some("a b c"));
        assert_eq!(report.number("ts"), Some(1_700_000_000_123.0));
        assert_eq!(report.text("sta").as_deref(), Some("p"));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_counted() {
        for (text, unread) in [
            ("br=,bl=5", 1),
            ("br=\"open,bl=5", 1),
            ("=5", 1),
            ("b r=5", 1),
            ("br=1e999", 1),
            ("br=(1 2", 1),
            ("br=(1 \"x), 5", 1),
            ("", 0),
            (" \r\n", 0),
        ] {
            assert_eq!(Report::read(text).unread, unread, "{text:?}");
        }
        assert_eq!(Report::read("br=,bl=5").number("bl"), Some(5.0));
        assert_eq!(Report::read("a=1,a=2").number("a"), Some(2.0));
        let many: String = (0..MAX_MEMBERS + 3).map(|number| format!("a{number},")).collect();
        assert_eq!(Report::read(&many).unread, 3);
    }
}
