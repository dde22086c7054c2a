//! Configuration files with every mistake located and mended. Both programs read theirs through here.
//!
//! TOML into a `serde` type that refuses unknown keys. `serde` stops at the first mistake, a person wants all of them:
//! so the text around a mistake is blanked (line and column stay what they are) and the rest is read again.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml_edit::{Document, Item, TableLike};

/// Mistakes reported at once; more would not help anybody.
const MAX_MISTAKES: usize = 50;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1; 0 if the mistake has no place in the text.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, if it could be told.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub mend: String,
}

impl Mistake {
    /// A value that is well-formed but makes no sense; found after reading, so it has no line.
    pub fn of_value(key: &str, what: &str, mend: &str) -> Self {
        Self { line: 0, column: 0, key: key.to_owned(), what: what.to_owned(), mend: mend.to_owned() }
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
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}

/// Reads `text` into `T`.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn load<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Mistake>> {
    let mut blanked = text.to_owned();
    let mut mistakes: Vec<Mistake> = Vec::new();
    while mistakes.len() < MAX_MISTAKES {
        let err = match toml::from_str::<T>(&blanked) {
            Ok(value) if mistakes.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(err) => err,
        };
        let span = err.span();
        let place = span.clone().and_then(|span| find(&blanked, span.start));
        let mistake = describe(text, err.message(), span, place.as_ref());
        if mistakes.contains(&mistake) {
            break;
        }
        mistakes.push(mistake);
        // What is missing cannot be blanked, nor what is no TOML.
        let Some(place) = place.filter(|_| !err.message().starts_with("missing field")) else { break };
        let blank: String = blanked[place.range.clone()]
            .chars()
            .map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) })
            .collect();
        blanked.replace_range(place.range, &blank);
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(mistakes)
}

/// Reads texts that are each right, later ones over earlier ones: tables are joined key by key, lists of tables are added to,
/// and any other value counts in place of the one before.
///
/// # Errors
/// What the texts make together that none of them does alone.
pub fn overlaid<T: DeserializeOwned>(texts: &[impl AsRef<str>]) -> Result<T, Mistake> {
    let wrong = |err: &toml::de::Error| Mistake::of_value("", err.message(), "");
    let mut all = toml::Table::new();
    for text in texts {
        overlay(&mut all, toml::from_str(text.as_ref()).map_err(|err| wrong(&err))?);
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

/// The text with its commented keys and tables in force: an example that is tested must not hide mistakes in comments.
pub fn uncommented(text: &str) -> String {
    let is_toml = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// A key with its value in the text.
struct Place {
    path: String,
    range: Range<usize>,
}

/// The smallest key-value that covers byte `at`.
fn find(text: &str, at: usize) -> Option<Place> {
    let document = Document::parse(text).ok()?;
    let mut best = None;
    search(document.as_table(), "", at, text, &mut best);
    best
}

fn search(table: &dyn TableLike, path: &str, at: usize, text: &str, best: &mut Option<Place>) {
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
            (Some(start), Some(span)) => start.min(span.start)..span.end.max(start),
            (None, Some(span)) => span,
            (Some(start), None) => start..key_span.map_or(start, |span| span.end),
            (None, None) => 0..0,
        };
        if range.contains(&at) {
            let smaller = best.as_ref().is_none_or(|best| range.len() <= best.range.len());
            if smaller {
                *best = Some(Place { path: path.clone(), range });
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

fn describe(text: &str, message: &str, span: Option<Range<usize>>, place: Option<&Place>) -> Mistake {
    let (line, column) = span.map_or((0, 0), |span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    });
    let key = place.map_or_else(String::new, |place| place.path.clone());
    let mut mistake =
        Mistake { line, column, key, what: message.trim().replace('\n', " "), mend: String::new() };
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let kind = if message.starts_with("unknown field") { "key" } else { "value" };
        if let Some((unknown, known)) = quoted.split_first() {
            mistake.what = format!("unknown {kind} `{unknown}`");
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
            mistake.mend = match nearest {
                Some(nearest) if strsim::jaro_winkler(nearest, unknown) > 0.7 => {
                    format!("did you mean `{nearest}`?")
                }
                Some(_) => format!("known here: {}", known.join(", ")),
                None => format!("no {kind}s are known here"),
            };
        }
    } else if message.starts_with("missing field") {
        mistake.mend = "add it".to_owned();
    } else if message.starts_with("invalid type") || message.starts_with("invalid value") {
        if let Some((what, expected)) = message.split_once(", expected ") {
            mistake.what = what.to_owned();
            mistake.mend = format!("give {expected}");
        }
    } else if place.is_none() {
        mistake.what = format!("not TOML: {}", mistake.what);
    }
    mistake
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
    fn every_mistake_at_once_each_with_its_place_and_mend() {
        let text = "lisen = 1\nlisten = 80\n[receive]\ninterfase = 'eth0'\nthreads = 'two'\nmode = \"slo\"\n[[route]]\nzzz = 1\n";
        let all = mistakes(text);
        assert_eq!(all.len(), 5, "{all:#?}");
        assert_eq!(all[0], "1:1: lisen: unknown key `lisen`; did you mean `listen`?");
        assert_eq!(all[1], "4:1: receive.interfase: unknown key `interfase`; did you mean `interface`?");
        assert!(
            all[2].starts_with("5:11: receive.threads: invalid type: string \"two\"; give u32"),
            "{}",
            all[2]
        );
        assert!(all[3].contains("unknown value `slo`; did you mean `slow`?"), "{}", all[3]);
        assert_eq!(all[4], "8:1: route[0].zzz: unknown key `zzz`; known here: interface, threads, mode");
    }

    #[test]
    fn an_unknown_table_a_missing_key_and_no_toml_at_all() {
        let all = mistakes("listen = 1\n[receiv]\nthreads = 1\nmore = 2\n");
        assert_eq!(all, ["2:2: receiv: unknown key `receiv`; did you mean `receive`?"]);
        let all = mistakes("[receive]\nthreads = 1\n");
        assert!(all[0].contains("missing field `listen`; add it"), "{all:?}");
        let all = mistakes("listen = = 1\n");
        assert!(all.len() == 1 && all[0].contains("not TOML"), "{all:?}");
        assert!(load::<File>("listen = 1").is_ok());
    }
}
