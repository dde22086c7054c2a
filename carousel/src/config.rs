//! Configuration files with every mistake located and with its fix. Both programs read theirs through here.
//!
//! TOML into a `serde` type that refuses unknown keys. `serde` stops at the first mistake, a person wants all of them:
//! so the text around a mistake is blanked (line and column stay what they are) and the rest is read again. Sizes, rates and
//! times may be texts with a unit: see [`quantity`].

pub mod finding;
pub mod one_or_many;
pub mod quantity;
pub mod url;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml_edit::{Document, Item, TableLike};

/// Mistakes of a configuration that are reported at once: what a terminal shows. The list is cut.
const MAX_MISTAKES: usize = 50;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1; 0 if the mistake has no place in the text.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, if it is known.
    pub key: String,
    /// Description of the mistake.
    pub what: String,
    /// Fix.
    pub fix: String,
}

impl Mistake {
    /// A value that is well-formed but makes no sense; found after reading, so it has no line.
    pub fn of_value(key: &str, what: &str, fix: &str) -> Self {
        Self { line: 0, column: 0, key: key.to_owned(), what: what.to_owned(), fix: fix.to_owned() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.what)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// Reads `text` into `T`.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn load<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Mistake>> {
    let converted = quantity::convert(text);
    let mut blanked = converted.text.clone();
    let mut mistakes = converted.mistakes.clone();
    while mistakes.len() < MAX_MISTAKES {
        let err = match toml::from_str::<T>(&blanked) {
            Ok(value) if mistakes.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(err) => err,
        };
        // A key whose value was blanked is missing by our own doing.
        let is_blanked = |mistake: &Mistake| {
            let name = mistake.key.rsplit('.').next().unwrap_or_default();
            err.message().starts_with(&format!("missing field `{name}`"))
        };
        if mistakes.iter().any(is_blanked) {
            break;
        }
        let span = err.span();
        if let Some((mistake, range)) =
            span.as_ref().and_then(|span| brackets::<T>(&blanked, span.start, &err))
        {
            mistakes.push(mistake);
            blank(&mut blanked, range);
            continue;
        }
        let place = span.clone().and_then(|span| find(&blanked, span.start));
        let at = span.map(|span| converted.original(span.start));
        let mistake = describe(text, err.message(), at, place.as_ref());
        if mistakes.contains(&mistake) {
            break;
        }
        mistakes.push(mistake);
        // Missing keys cannot be blanked, nor text that is not TOML.
        let Some(place) = place.filter(|_| !err.message().starts_with("missing field")) else { break };
        blank(&mut blanked, place.range);
        // The text must still be TOML: a mistake that only the blanking causes is not reported.
        if Document::parse(blanked.as_str()).is_err() {
            break;
        }
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(mistakes)
}

/// Puts blanks in the place of a range, so that lines and columns stay.
fn blank(text: &mut String, range: Range<usize>) {
    let blank: String = text[range.clone()]
        .chars()
        .map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) })
        .collect();
    text.replace_range(range, &blank);
}

/// The mistake of a header with too few or too many brackets, if that is what `err` at byte `at` comes of: with the other kind of header
/// the same error does not come again. With it, the range of the table and of those below it.
fn brackets<T: DeserializeOwned>(
    text: &str,
    at: usize,
    err: &toml::de::Error,
) -> Option<(Mistake, Range<usize>)> {
    let is_of_form = |err: &toml::de::Error| err.message().starts_with("invalid type");
    let begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next()?.split('#').next()?.trim_end();
    let header = line.trim_start();
    let (name, right, what) = match header.strip_prefix("[[").and_then(|it| it.strip_suffix("]]")) {
        Some(name) => (name, format!("[{name}]"), "this is one table, and the file makes it a list of them"),
        None => {
            let name = header.strip_prefix('[').and_then(|it| it.strip_suffix(']'))?;
            (name, format!("[[{name}]]"), "there may be several of these, and each has two brackets")
        }
    };
    let mut other = text.to_owned();
    other.replace_range(begin..begin + line.len(), &right);
    let is_same = |again: toml::de::Error| {
        is_of_form(&again)
            && again.span().is_some_and(|span| (begin..=begin + right.len()).contains(&span.start))
    };
    if !is_of_form(err) || toml::from_str::<T>(&other).is_err_and(is_same) {
        return None;
    }
    // Tables below it would define it a second time.
    let body = begin + line.len();
    let below = format!("{name}.");
    let is_next = |(_, rest): &(usize, &str)| !rest.trim_start_matches(['\n', '[']).starts_with(&below);
    let mut headers =
        text[body..].match_indices("\n[").map(|(offset, _)| (body + offset, &text[body + offset..]));
    let end = headers.find(is_next).map_or(text.len(), |(at, _)| at);
    let (line, column) = line_and_column(text, begin + (line.len() - header.len()));
    let (key, what, fix) = (name.to_owned(), what.to_owned(), format!("write {right}"));
    Some((Mistake { line, column, key, what, fix }, begin..end))
}

/// Message of an I/O error, without Rust's wording.
pub fn plain(err: &std::io::Error) -> String {
    match err.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => without_numbers(err),
    }
}

/// Fix of an I/O error of reading a configuration.
pub fn fix_of(err: &std::io::Error) -> &'static str {
    match err.kind() {
        std::io::ErrorKind::InvalidData => "save it as UTF-8",
        std::io::ErrorKind::PermissionDenied => "give this user the right to read it",
        _ => "name the configuration with -c FILE",
    }
}

/// The message of an error of the system, without its number, which says nothing to a person: `File exists (os error 17)`.
pub fn without_numbers(err: &(impl fmt::Display + ?Sized)) -> String {
    let text = err.to_string();
    match text.split_once(" (os error ") {
        Some((before, after)) => {
            format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest))
        }
        None => text,
    }
}

/// Reads texts that are each right, later ones over earlier ones: tables are joined key by key, lists of tables are added to,
/// and any other value counts in place of the one before.
///
/// # Errors
/// Mistakes that the texts make together and none of them alone.
pub fn overlaid<T: DeserializeOwned>(texts: &[impl AsRef<str>]) -> Result<T, Mistake> {
    let wrong = |err: &toml::de::Error| Mistake::of_value("", err.message(), "");
    let mut all = toml::Table::new();
    for text in texts {
        let text = quantity::convert(text.as_ref()).text;
        overlay(&mut all, toml::from_str(&text).map_err(|err| wrong(&err))?);
    }
    all.try_into().map_err(|err| wrong(&err))
}

fn overlay(below: &mut toml::Table, above: toml::Table) {
    let has_tables = |list: &[toml::Value]| list.iter().any(toml::Value::is_table);
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => overlay(below, above),
            (Some(toml::Value::Array(below)), toml::Value::Array(above))
                if has_tables(below) || has_tables(&above) =>
            {
                below.extend(above);
            }
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Names of the tables and keys at the top of a text; none, if it is not TOML.
pub fn top_keys(text: &str) -> Vec<String> {
    let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
    table.keys().cloned().collect()
}

/// The two programs with a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `headend`
    Headend,
    /// `skycached`
    Skycached,
}

impl Program {
    /// Tables and keys that only this program's configuration has at its top.
    const fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Headend => &[
                "carousel",
                "dvb_i",
                "fec",
                "forecast",
                "link",
                "multiplex",
                "nip",
                "output",
                "receiver",
                "sessions",
                "simulation",
                "source",
            ],
            Self::Skycached => &[
                "admin",
                "http",
                "log",
                "origin",
                "receive",
                "route",
                "session",
                "store",
                "transport_stream",
            ],
        }
    }

    /// One line that says so if a text is a configuration of the other program: it has tables of that one, and none of ours.
    pub fn refuses(self, text: &str) -> Option<String> {
        let keys = top_keys(text);
        let has = |program: Self| keys.iter().any(|key| program.own_keys().contains(&key.as_str()));
        let (own, other, fix) = match self {
            Self::Headend => ("headend", Self::Skycached, "`skycached run -c FILE` takes it"),
            Self::Skycached => ("skycached", Self::Headend, "`headend send -c FILE` takes it"),
        };
        let name = if other == Self::Headend { "headend" } else { "skycached" };
        (has(other) && !has(self)).then(|| format!("this is a configuration of {name}, not of {own}; {fix}"))
    }
}

/// A configuration as TOML, with everything that was left out.
///
/// # Errors
/// Value that TOML cannot express; a configuration that was read has none.
pub fn to_toml<T: Serialize>(config: &T) -> Result<String, String> {
    toml::to_string(config).map_err(|err| err.to_string())
}

/// The text with its commented keys and tables in force: an example that is tested must not hide mistakes in comments.
pub fn uncommented(text: &str) -> String {
    let is_toml = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// A key with its value in the text.
struct KeySpan {
    path: String,
    range: Range<usize>,
}

/// The smallest key-value that covers byte `at`.
fn find(text: &str, at: usize) -> Option<KeySpan> {
    let document = Document::parse(text).ok()?;
    let mut best = None;
    search(document.as_table(), "", at, text, &mut best);
    best
}

fn search(table: &dyn TableLike, path: &str, at: usize, text: &str, best: &mut Option<KeySpan>) {
    for (name, item) in table.iter() {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let key_span = table.key(name).and_then(toml_edit::Key::span);
        let start = key_span.as_ref().map(|span| span.start);
        let range = match (start, item.span()) {
            // A table goes with its header and everything up to the next one.
            (Some(start), Some(span)) if item.is_table() => {
                let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
                let next = text[span.end..].find("\n[").map_or(text.len(), |after| span.end + after);
                line_start..next
            }
            (Some(start), Some(span)) => dotted_start(text, start.min(span.start))..span.end.max(start),
            (None, Some(span)) => span,
            (Some(start), None) => start..key_span.map_or(start, |span| span.end),
            (None, None) => 0..0,
        };
        if range.contains(&at) {
            let smaller = best.as_ref().is_none_or(|best| range.len() <= best.range.len());
            if smaller {
                *best = Some(KeySpan { path: path.clone(), range });
            }
        }
        match item {
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    search(table, &format!("{path}[{index}]"), at, text, best);
                }
            }
            item => {
                if let Some(table) = item.as_table_like() {
                    search(table, &path, at, text, best);
                }
            }
        }
    }
}

/// Start of a dotted key whose last part begins at `start`.
fn dotted_start(text: &str, mut start: usize) -> usize {
    loop {
        let before = text[..start].trim_end_matches([' ', '\t']);
        let Some(before) = before.strip_suffix('.') else { return start };
        let before = before.trim_end_matches([' ', '\t']);
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '"' | '\'');
        start = before.trim_end_matches(is_part).len();
    }
}

/// The place of a key in texts that count together, as [`overlaid`] reads them: the number of the text, line and column.
/// `path` is as in [`Mistake::key`]: `http.tls.listen`, `route[3].base`. The nearest key above it, if it is not there itself.
pub fn locate(texts: &[impl AsRef<str>], path: &str) -> Option<(usize, usize, usize)> {
    let mut best: Option<(usize, usize, usize, usize)> = None;
    // Numbers of tables in lists count on from one text to the next.
    let mut before = std::collections::HashMap::new();
    for (number, text) in texts.iter().enumerate() {
        let text = text.as_ref();
        let Ok(document) = Document::parse(text) else { continue };
        let (mut table, mut prefix): (&dyn TableLike, String) = (document.as_table(), String::new());
        for (depth, part) in path.split('.').enumerate() {
            let (name, index) = match part.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (part, None),
            };
            let Some(item) = table.get(name) else { break };
            let mut span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            prefix = format!("{prefix}.{name}");
            let mut next = item.as_table_like();
            if let (Item::ArrayOfTables(tables), Some(index)) = (item, index) {
                let first = *before.get(&prefix).unwrap_or(&0);
                before.insert(prefix.clone(), first + tables.len());
                let Some(table) = index.checked_sub(first).and_then(|index| tables.get(index)) else { break };
                span = table.span().or(span);
                next = Some(table);
            }
            // The last of several texts that have a key counts.
            if let Some(span) = span
                && best.is_none_or(|(best, ..)| best <= depth)
            {
                let head = &text[..span.start];
                let column = head[head.rfind('\n').map_or(0, |at| at + 1)..].chars().count() + 1;
                best = Some((depth, number, head.matches('\n').count() + 1, column));
            }
            match next {
                Some(next) => table = next,
                None => break,
            }
        }
    }
    best.map(|(_, number, line, column)| (number, line, column))
}

/// Description of a value found, in place of `serde`'s, which has Rust's words.
fn found(text: &str) -> String {
    let value = text.split('`').nth(1).or_else(|| text.split('"').nth(1)).unwrap_or_default();
    if text.starts_with("string") {
        format!("the text \"{value}\"")
    } else if text.starts_with("floating point") {
        format!("the number {value} with a fraction or an exponent")
    } else if text.starts_with("integer") {
        format!("the number {value}")
    } else if text.starts_with("boolean") {
        value.to_owned()
    } else if text.starts_with("sequence") {
        "a list".to_owned()
    } else if text.starts_with("map") {
        "a table".to_owned()
    } else {
        text.to_owned()
    }
}

/// Words for the form expected of the value of `key` where `value` was found, both in `serde`'s words.
fn expected(text: &str, value: &str, key: &str) -> String {
    let text = text.trim();
    let is_integer = value.starts_with("integer");
    let is_negative = (is_integer || value.starts_with("floating point")) && value.contains('-');
    let range = match text {
        "u8" => Some((0, i64::from(u8::MAX))),
        "u16" => Some((0, i64::from(u16::MAX))),
        "u32" => Some((0, i64::from(u32::MAX))),
        "a nonzero u32" => Some((1, i64::from(u32::MAX))),
        "i32" => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        _ => None,
    };
    let is_unsigned = matches!(text, "u64" | "usize") || range.is_some_and(|(least, _)| least >= 0);
    if is_negative && is_unsigned {
        return "a number that is not negative".to_owned();
    }
    // An integer that does not fit is out of range in any unit; for any other value the unit says more.
    let unit = quantity::unit_of(key).filter(|_| is_number(text));
    let is_short = |most: i64| most <= i64::from(u16::MAX);
    match (range, unit) {
        (Some((least, most)), unit) if is_integer || (unit.is_none() && is_short(most)) => {
            return format!("a number from {least} to {most}");
        }
        (_, Some(unit)) => return quantity::expected(unit).trim_start_matches("expected ").to_owned(),
        _ => {}
    }
    match text {
        "u32" | "u64" | "usize" | "a nonzero u32" | "i32" | "i64" | "isize" => "a whole number, e.g. 4",
        "f32" | "f64" => "a number, e.g. 1.5",
        "a boolean" => "true or false",
        "a string" | "string" | "path string" => "text in quotes",
        "a sequence" => "a list, e.g. [\"a\", \"b\"]",
        "a map" => "a table",
        "a tuple of size 2" => "a list of two values",
        other if other.starts_with("struct ") => "a table",
        "socket address" => return format!("{ADDRESS}, e.g. \"{}\"", address_of(key)),
        "a socket address or a list of them" => {
            return format!("{ADDRESS}, e.g. \"{}\", or a list of them", address_of(key));
        }
        "IP address" => "an address, e.g. \"192.0.2.1\"",
        other => other,
    }
    .to_owned()
}

/// Form of an address in words.
const ADDRESS: &str = "an address with its port";

/// Last parts of keys whose value is a group and its port, of either program.
const GROUP_KEYS: [&str; 8] =
    ["announcement", "lls", "address", "forward", "configuration", "media", "group", "to"];

/// An address with its port, as an example for a key.
fn address_of(key: &str) -> SocketAddr {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let name = name.split('[').next().unwrap_or_default();
    match name {
        "listen" if table == "metrics" => SocketAddr::from(([127, 0, 0, 1], 9464)),
        "listen" if table == "admin" => SocketAddr::from(([127, 0, 0, 1], 8081)),
        "listen" if table.ends_with("tls") => SocketAddr::from(([0, 0, 0, 0], 8443)),
        // TS 103 876 clause 8.1.4.
        "announcement" => SocketAddr::from(([224, 0, 23, 14], 3937)),
        _ if GROUP_KEYS.contains(&name) => SocketAddr::from(([239, 1, 2, 3], 5000)),
        _ => SocketAddr::from(([0, 0, 0, 0], 8080)),
    }
}

/// The missing part of an incomplete address with a port, and the fix; `None` if the text is nothing like one.
fn nearly_an_address(text: &str, key: &str) -> Option<(String, String)> {
    let example = address_of(key);
    let port_of = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    // IPv6 without its brackets: the port has become a part of the address.
    let split =
        text.rsplit_once(':').and_then(|(host, port)| Some((host.parse::<Ipv6Addr>().ok()?, port_of(port)?)));
    if let Some((ip, port)) = split {
        let whole = SocketAddr::from((ip, port));
        let other = example.port();
        let fix = match text.strip_prefix("::") {
            // `[:::8080]` is not an address.
            Some(rest) if rest.starts_with(':') => format!("write \"{whole}\""),
            _ => format!(
                "write \"{whole}\" if {port} is the port, or \"[{text}]:{other}\" with the port behind it"
            ),
        };
        return Some((format!("\"{text}\" has no brackets"), fix));
    }
    if let Some(port) = text.strip_prefix(':').and_then(port_of) {
        let whole = SocketAddr::new(example.ip(), port);
        return Some((format!("\"{text}\" has no address"), format!("add it, e.g. \"{whole}\"")));
    }
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let port = match (ip.is_multicast(), example.ip().is_multicast()) {
            (true, false) => 5000,
            (false, true) => 8080,
            _ => example.port(),
        };
        let whole = SocketAddr::new(ip, port);
        return Some((format!("\"{text}\" has no port"), format!("add it, e.g. \"{whole}\"")));
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    match ip {
        Some(_) if !is_port => {
            Some((format!("\"{port}\" in \"{text}\" is not a port"), "give 1 to 65535".to_owned()))
        }
        None if is_port => {
            let fix = "give it in numbers, e.g. \"192.0.2.1\" or \"[2001:db8::1]\", with the port behind it";
            Some((format!("\"{host}\" is not an address"), fix.to_owned()))
        }
        _ => None,
    }
}

/// Whether `serde` expects a number.
fn is_number(text: &str) -> bool {
    matches!(
        text.trim(),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" | "isize" | "f32" | "f64" | "a nonzero u32"
    )
}

/// Line and column, both from 1, of a byte of a text.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn describe(text: &str, message: &str, at: Option<usize>, place: Option<&KeySpan>) -> Mistake {
    let (line, column) = at.map_or((0, 0), |at| line_and_column(text, at));
    let key = place.map_or_else(String::new, |place| place.path.clone());
    let mut mistake =
        Mistake { line, column, key, what: message.trim().replace('\n', " "), fix: String::new() };
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let kind = if message.starts_with("unknown field") { "key" } else { "value" };
        if let Some((unknown, known)) = quoted.split_first() {
            mistake.what = format!("unknown {kind} `{unknown}`");
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
            mistake.fix = match nearest {
                Some(nearest) if strsim::jaro_winkler(nearest, unknown) > 0.7 => {
                    format!("did you mean `{nearest}`?")
                }
                Some(_) => format!("known here: {}", known.join(", ")),
                None => format!("no {kind}s are known here"),
            };
        }
    } else if let Some(rest) = message.strip_prefix("missing field") {
        mistake.what = format!("missing key{rest}");
        mistake.fix = "add it".to_owned();
    } else if message.starts_with("invalid socket address") {
        let nearly = at.and_then(|at| quoted_at(text, at));
        let nearly = nearly.and_then(|it| nearly_an_address(it, &mistake.key));
        (mistake.what, mistake.fix) = nearly.unwrap_or_else(|| {
            let fix = format!("expected {}", expected("socket address", "", &mistake.key));
            (format!("not {ADDRESS}"), fix)
        });
    } else if message.starts_with("invalid IP address") {
        let with_port = at.and_then(|at| quoted_at(text, at)).and_then(|it| it.parse::<SocketAddr>().ok());
        (mistake.what, mistake.fix) = match with_port {
            Some(address) => {
                let ip = address.ip();
                (
                    format!("\"{address}\" has a port, and an address alone is meant"),
                    format!("write \"{ip}\""),
                )
            }
            None => ("not an address".to_owned(), format!("expected {}", expected("IP address", "", ""))),
        };
    } else if message.starts_with("invalid type") || message.starts_with("invalid value") {
        if let Some((what, expected)) = message.split_once(", expected ") {
            let value = what.split_once(": ").map_or(what, |(_, value)| value);
            mistake.what = found(value);
            let key = mistake.key.rsplit('.').next().unwrap_or_default();
            mistake.fix = format!("expected {}", self::expected(expected, value, key));
        }
    } else if message.starts_with("invalid length") {
        mistake.what = "a list of another length".to_owned();
        let wanted = message.split_once(", expected ").map_or("another one", |(_, wanted)| wanted);
        mistake.fix = format!("expected {}", expected(wanted, "", ""));
    } else if message.starts_with("expected ") && place.is_some() {
        // Types with several forms say what they take.
        mistake.what = "it has another form".to_owned();
        mistake.fix = message.trim().to_owned();
    } else if place.is_none() {
        if let Some((what, right)) = text.lines().nth(line.wrapping_sub(1)).and_then(with_quotes) {
            mistake.what = what.to_owned();
            mistake.fix = format!("write {right}");
        } else if message.starts_with("duplicate key") {
            (mistake.what, mistake.fix) = duplicate(text, line);
        } else {
            mistake.what = format!("not TOML: {}", mistake.what);
        }
    }
    mistake
}

/// The text in the quotes that begin at a byte.
fn quoted_at(text: &str, at: usize) -> Option<&str> {
    let rest = text.get(at..)?;
    let quote = rest.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    rest[1..].split([quote, '\n']).next()
}

/// The fault of a line `key = value` without quotes around its value, and the line as TOML; `None` if it is TOML, or lacks more.
fn with_quotes(line: &str) -> Option<(&'static str, String)> {
    let line = line.split(" #").next()?.trim();
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_toml = |text: &str| Document::parse(text.to_owned()).is_ok();
    let is_bare = !value.is_empty() && !value.contains(['"', '\'', '[', '{', '=']);
    if !is_bare || is_toml(line) {
        return None;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let has_commas = value.contains(',') && value.split(',').all(is_number);
    let straight =
        value.trim_matches(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}']);
    let (what, right) = if has_commas {
        ("a number has no commas", format!("{key} = {}", quantity::without_commas(value)))
    } else if straight != value {
        ("quotes in TOML are the straight ones", format!("{key} = \"{}\"", straight.trim()))
    } else {
        ("the text has no quotes", format!("{key} = \"{value}\""))
    };
    is_toml(&right).then_some((what, right))
}

/// The mistake of a line whose key or table an earlier line has, and the fix.
fn duplicate(text: &str, line: usize) -> (String, String) {
    /// The table of a header, or the key of a line.
    fn name(line: &str) -> Option<&str> {
        let line = line.trim_start();
        let header = line.trim_start_matches('[').split(']').next();
        let key = line.split_once('=').map(|(key, _)| key);
        if line.starts_with('[') { header } else { key }.map(str::trim)
    }
    let mut lines = text.lines();
    let own = lines.nth(line.wrapping_sub(1)).and_then(name).unwrap_or_default();
    let is_table = text.lines().nth(line.wrapping_sub(1)).is_some_and(|it| it.trim_start().starts_with('['));
    let is_before = |it: &str| {
        name(it)
            .and_then(|it| it.strip_prefix(own))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let is_header = |it: &&str| it.trim_start().starts_with('[');
    let above: Vec<&str> = text.lines().take(line.saturating_sub(1)).collect();
    // A key is one of its own table; that may be one of several of a name.
    let begin = if is_table { 0 } else { above.iter().rposition(is_header).map_or(0, |at| at + 1) };
    let before = above[begin..].iter().position(|it| is_before(it)).map(|at| begin + at + 1);
    let place = before.map_or_else(String::new, |line| format!(" on line {line}"));
    if is_table {
        let what = format!("the table {own} has begun before{place}");
        return (what, format!("write all keys of {own} in one place, below one [{own}]"));
    }
    (format!("the key {own} is there before{place}"), "remove one of them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct File {
        listen: u16,
        #[serde(default)]
        receive: Receive,
        #[serde(default)]
        route: Vec<Receive>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code)]
    struct Receive {
        interface: String,
        threads: u32,
        mode: Mode,
        keep_s: u32,
        offset: i32,
        copies: Option<std::num::NonZeroU32>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Fast,
        Slow,
    }

    fn mistakes(text: &str) -> Vec<String> {
        load::<File>(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_comes_twice_names_its_first_place() {
        let twice = |text: &str| mistakes(text).remove(0);
        assert_eq!(
            twice("listen = 80\n[[route]]\nthreads = 1\n[[route]]\nthreads = 2\nthreads = 3\n"),
            "6:1: the key threads is there before on line 5; remove one of them"
        );
        assert_eq!(
            twice("listen = 80\nreceive.threads = 1\n\n[receive]\ninterface = 'a'\n"),
            "4:2: the table receive has begun before on line 2; write all keys of receive in one place, below one [receive]"
        );
        assert_eq!(
            twice("listen = 80\n[receive]\nthreads = 1\n[receive]\ninterface = 'a'\n"),
            "4:2: the table receive has begun before on line 2; write all keys of receive in one place, below one [receive]"
        );
        assert_eq!(
            twice("listen = 80\nlisten = 81\n"),
            "2:1: the key listen is there before on line 1; remove one of them"
        );
    }

    #[test]
    fn quotes_and_commas_of_word_processors_are_named() {
        let first = |line: &str| mistakes(&format!("listen = 80\n[receive]\n{line}\n")).remove(0);
        assert!(
            first("interface = \u{201c}eth0\u{201d}")
                .ends_with("are the straight ones; write interface = \"eth0\"")
        );
        assert!(first("offset = 1,5").ends_with("a number has no commas; write offset = 1.5"));
        assert!(first("offset = 8,000").ends_with("a number has no commas; write offset = 8000"));
        assert!(first("interface = eth0").ends_with("the text has no quotes; write interface = \"eth0\""));
    }

    #[test]
    fn every_mistake_at_once_each_with_its_place_and_fix() {
        let text = "lisen = 1\nlisten = 80\n[receive]\ninterfase = 'eth0'\nthreads = 'two'\nmode = \"slo\"\n[[route]]\nzzz = 1\n";
        let all = mistakes(text);
        assert_eq!(all.len(), 5, "{all:#?}");
        assert_eq!(all[0], "1:1: lisen: unknown key `lisen`; did you mean `listen`?");
        assert_eq!(all[1], "4:1: receive.interfase: unknown key `interfase`; did you mean `interface`?");
        assert!(
            all[2].starts_with("5:11: receive.threads: the text \"two\"; expected a whole number, e.g. 4"),
            "{}",
            all[2]
        );
        assert!(all[3].contains("unknown value `slo`; did you mean `slow`?"), "{}", all[3]);
        assert_eq!(
            all[4],
            "8:1: route[0].zzz: unknown key `zzz`; known here: interface, threads, mode, keep_s, offset, copies"
        );
    }

    #[test]
    fn one_mistake_is_one_message_in_plain_words() {
        for (text, expected) in [
            (
                "listen = 1\nreceive.threads = 'x'",
                "2:19: receive.threads: the text \"x\"; expected a whole number, e.g. 4",
            ),
            (
                "listen = 1\nreceive . threads = -1",
                "2:21: receive.threads: the number -1; expected a number that is not negative",
            ),
            (
                "listen = 1\nreceive = { threads = [1] }",
                "2:23: receive.threads: a list; expected a whole number, e.g. 4",
            ),
            ("listen = 1\nroute = 5", "2:9: route: the number 5; expected a list, e.g. [\"a\", \"b\"]"),
            ("listen = 1\nreceive = true", "2:11: receive: true; expected a table"),
            (
                "listen = 1\nreceive.interface = 7",
                "2:21: receive.interface: the number 7; expected text in quotes",
            ),
            ("listen = 70000", "1:10: listen: the number 70000; expected a number from 0 to 65535"),
            (
                "listen = 1\nreceive.keep_s = 5_000_000_000",
                "2:18: receive.keep_s: the number 5000000000; expected a number from 0 to 4294967295",
            ),
            (
                "listen = 1\nreceive.keep_s = -1",
                "2:18: receive.keep_s: the number -1; expected a number that is not negative",
            ),
            (
                "listen = 1\nreceive.keep_s = true",
                "2:18: receive.keep_s: true; expected a number, e.g. 3600 or \"1 h\"",
            ),
            // A dash in a text is not a sign.
            (
                "listen = 1\nreceive.threads = 'two-four'",
                "2:19: receive.threads: the text \"two-four\"; expected a whole number, e.g. 4",
            ),
            ("listen = 'a-b'", "1:10: listen: the text \"a-b\"; expected a number from 0 to 65535"),
            (
                "listen = 1\nreceive.offset = -3_000_000_000",
                "2:18: receive.offset: the number -3000000000; expected a number from -2147483648 to 2147483647",
            ),
            (
                "listen = 1\nreceive.copies = 0",
                "2:18: receive.copies: the number 0; expected a number from 1 to 4294967295",
            ),
            (
                "listen = 1\nreceive.copies = true",
                "2:18: receive.copies: true; expected a whole number, e.g. 4",
            ),
        ] {
            assert_eq!(mistakes(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_header_with_the_wrong_number_of_brackets() {
        let all = mistakes(
            "listen = 1\n[route] # one\nthreads = 1\n[route.more]\nx = 1\n[receive]\nthreads = 'x'\n",
        );
        assert_eq!(
            all[0],
            "2:1: route: there may be several of these, and each has two brackets; write [[route]]"
        );
        assert!(all.len() == 2 && all[1].starts_with("7:11: receive.threads"), "{all:?}");
        let all = mistakes("listen = 1\n[[receive]]\nthreads = 1\n");
        assert_eq!(
            all,
            ["2:1: receive: this is one table, and the file makes it a list of them; write [receive]"]
        );
        assert!(mistakes("listen = 1\n[listen.a]\n")[0].contains("not TOML"), "what is not TOML stays so");
    }

    #[test]
    fn what_the_system_says_has_no_numbers() {
        let missing = std::fs::read("/nonexistent/file").unwrap_err();
        assert_eq!(plain(&missing), "there is no such file");
        assert_eq!(without_numbers("a: File exists (os error 17); b"), "a: File exists; b");
        assert_eq!(without_numbers("a (b)"), "a (b)");
    }

    #[test]
    fn values_are_found_in_the_text_that_counts() {
        let texts = [
            "[http]\nlisten = 1\nwait = 2\n[[route]]\npath = 1\n[[route]]\npath = 2\n",
            "http.listen = 3\n[[route]]\nbase = 1\npath = 3\n",
        ];
        assert_eq!(locate(&texts, "http.listen"), Some((1, 1, 6)));
        assert_eq!(locate(&texts, "http.wait"), Some((0, 3, 1)));
        assert_eq!(locate(&texts, "route[1].path"), Some((0, 7, 1)));
        assert_eq!(locate(&texts, "route[2].path"), Some((1, 4, 1)));
        assert_eq!(locate(&texts, "route[1].base"), Some((0, 6, 1)), "its table");
        assert_eq!(locate(&texts, "none"), None);
    }

    #[test]
    fn an_unknown_table_a_missing_key_and_no_toml_at_all() {
        let all = mistakes("listen = 1\n[receiv]\nthreads = 1\nmore = 2\n");
        assert_eq!(all, ["2:2: receiv: unknown key `receiv`; did you mean `receive`?"]);
        let all = mistakes("[receive]\nthreads = 1\n");
        assert!(all[0].contains("missing key `listen`; add it"), "{all:?}");
        let all = mistakes("listen = 1\nreceive.interface = 127.0.0.1 # here\n");
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].ends_with("the text has no quotes; write receive.interface = \"127.0.0.1\""),
            "{all:?}"
        );
        let all = mistakes("listen = = 1\n");
        assert!(all.len() == 1 && all[0].contains("not TOML"), "{all:?}");
        assert!(load::<File>("listen = 1").is_ok());
    }
}
