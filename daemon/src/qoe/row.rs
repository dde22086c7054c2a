//! Rows of the table `qoe_raw`: its columns, and JSON as ClickHouse's `JSONEachRow` reads it.
//!
//! Times are text with three decimals, since ClickHouse takes a bare number for seconds. Integers are rounded and limited to the
//! range of their column: ClickHouse refuses an entire insert for `12.0` in an integer column, and wraps values out of range.

use std::collections::BTreeMap;
use std::io::Write as _;

use carousel::limits::cut;
use carousel::time::WallTime;

/// A column: its name, its type in ClickHouse, and what it is.
pub type Column = (&'static str, &'static str, &'static str);

/// The columns, in their order. `configs/clickhouse/qoe_raw.sql` has the same; a test compares them.
pub const COLUMNS: [Column; 33] = [
    ("event_id", "String", "Identity of the row: one that comes twice is the same."),
    ("timestamp", "DateTime64(3, 'UTC')", "When it happened: `ts` of the player, else when the report came."),
    ("received_at", "DateTime64(3, 'UTC')", "When the report came."),
    ("node", "LowCardinality(String)", "Name of the box."),
    ("session_id", "String", "`sid`; empty: the report belongs to no session."),
    ("content_id", "String", "`cid`."),
    ("version", "UInt8", "Version of CMCD."),
    ("mode", "LowCardinality(String)", "`request`: with a request; `event`: by a POST of its own."),
    ("event", "LowCardinality(String)", "`e`: `ps` play state, `e` error, `t` interval, `rr` response …"),
    ("url", "String", "The object, without its query."),
    ("status", "UInt16", "Status of the response; of an event `rc`."),
    ("bytes", "UInt64", "Bytes of the body that were sent."),
    ("cache", "LowCardinality(String)", "How it was served: `hit`, `miss` …; empty for events."),
    ("ttfb_ms", "UInt32", "Time to the head of the response; of an event `ttfb`."),
    ("total_ms", "UInt32", "Time to the end of the response; of an event `ttlb`."),
    ("object_type", "LowCardinality(String)", "`ot`: `v` video, `a` audio, `m` manifest …"),
    ("stream_type", "LowCardinality(String)", "`st`: `v` on demand, `l` live, `ll` low latency."),
    ("format", "LowCardinality(String)", "`sf`: `h` HLS, `d` DASH …"),
    ("bitrate_kbps", "UInt32", "`br`."),
    ("top_bitrate_kbps", "UInt32", "`tb`."),
    ("buffer_ms", "UInt32", "`bl`."),
    ("throughput_kbps", "UInt32", "`mtp`."),
    ("object_ms", "UInt32", "`d`."),
    ("latency_ms", "UInt32", "`ltc`."),
    ("playback_rate", "Float32", "`pr`; 1 where it is not given."),
    ("state", "LowCardinality(String)", "`sta`: `s` starting, `p` playing, `r` rebuffering …"),
    ("starved", "UInt8", "`bs`."),
    ("stall_count", "UInt32", "Stalls that this report adds to its session."),
    ("stall_ms", "UInt32", "Time of stalls that this report adds to its session."),
    ("startup_ms", "Nullable(UInt32)", "Time to the first picture: in one row of a session."),
    (
        "basis",
        "LowCardinality(String)",
        "Where the last three are from: `reported`, `states`, `flags`, or empty.",
    ),
    ("error", "String", "`ec`."),
    ("user_agent", "String", "The player's `User-Agent`."),
];

carousel::limits! {
    /// String of a row.
    const MAX_TEXT_BYTES: usize = 1024, "bytes" {
        why: "Ids and URLs of reports have some hundred.",
        full: "The string is cut.",
        free: "Holds for one string.",
        test: "long_strings_are_cut_between_characters",
    }
}

/// Names of the columns in a table that renames or omits some.
#[derive(Debug, Clone)]
pub struct Names(Vec<Option<Box<str>>>);

impl Names {
    /// Renamed by `names`; an empty name leaves the column out.
    pub fn new(names: &BTreeMap<String, String>) -> Self {
        let name = |(own, _, _): &Column| match names.get(*own) {
            Some(other) if other.is_empty() => None,
            Some(other) => Some(other.as_str().into()),
            None => Some((*own).into()),
        };
        Self(COLUMNS.iter().map(name).collect())
    }
}

/// The value of a column.
#[derive(Debug, Clone)]
pub(super) enum Cell<'a> {
    Text(&'a str),
    Time(WallTime),
    Integer(u64),
    Float(f64),
    /// `null`.
    Nothing,
}

/// Writes a row, ended by a line feed.
pub(super) fn write(out: &mut Vec<u8>, names: &Names, cells: &[Cell<'_>; COLUMNS.len()]) {
    let mut separator = '{';
    for (name, cell) in names.0.iter().zip(cells) {
        let Some(name) = name else { continue };
        // Writing to memory does not fail.
        let _ = write!(out, "{separator}\"{name}\":");
        separator = ',';
        let _ = match cell {
            Cell::Text(text) => {
                serde_json::to_writer(&mut *out, cut(text, MAX_TEXT_BYTES)).map_err(Into::into)
            }
            Cell::Time(time) => write!(out, "\"{}\"", time.to_xml().replace('T', " ").trim_end_matches('Z')),
            Cell::Integer(number) => write!(out, "{number}"),
            Cell::Float(number) if number.is_finite() => write!(out, "{number}"),
            Cell::Float(_) => write!(out, "0"),
            Cell::Nothing => write!(out, "null"),
        };
    }
    out.extend_from_slice(if separator == '{' { b"{}\n" } else { b"}\n" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_clickhouse_reads() {
        let mut cells = [const { Cell::Nothing }; COLUMNS.len()];
        cells[0] = Cell::Text("a\"\n\u{e4}");
        cells[1] = Cell::Time(WallTime::from_unix_ms(1_784_000_000_007));
        cells[2] = Cell::Integer(u64::MAX);
        cells[3] = Cell::Float(f64::NAN);
        let only = |kept: &[&str]| {
            let names =
                COLUMNS.iter().filter(|it| !kept.contains(&it.0)).map(|it| (it.0.to_owned(), String::new()));
            let mut names: BTreeMap<String, String> = names.collect();
            names.insert("timestamp".to_owned(), "at".to_owned());
            let mut out = Vec::new();
            write(&mut out, &Names::new(&names), &cells);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            only(&["event_id", "received_at", "node", "session_id"]),
            "{\"event_id\":\"a\\\"\\n\u{e4}\",\"at\":\"2026-07-14 03:33:20.007\",\"received_at\":18446744073709551615,\"node\":0,\"session_id\":null}\n"
        );
        cells[0] = Cell::Nothing;
        let mut out = Vec::new();
        write(&mut out, &Names::new(&BTreeMap::new()), &cells);
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(row.len(), COLUMNS.len());
    }

    #[test]
    fn the_table_definition_has_these_columns() {
        let expected: Vec<(&str, &str)> = COLUMNS.iter().map(|it| (it.0, it.1)).collect();
        for table in ["qoe_raw", "qoe_queue"] {
            let defined = super::super::table::columns_of(table);
            let defined: Vec<(&str, &str)> = defined.iter().map(|(name, kind)| (&**name, &**kind)).collect();
            assert_eq!(defined, expected, "{table}");
        }
        // What fills the one from the other.
        let text = super::super::table::definition();
        let names = text.split_once("TO qoe_raw AS\nSELECT ").unwrap().1.split_once('\n').unwrap().0;
        assert_eq!(names.split(", ").collect::<Vec<_>>(), COLUMNS.map(|it| it.0));
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let mut cells = [const { Cell::Nothing }; COLUMNS.len()];
        let text = "x".repeat(MAX_TEXT_BYTES - 1);
        let longer = format!("{text}\u{e4}");
        cells[0] = Cell::Text(&longer);
        let mut out = Vec::new();
        write(&mut out, &Names::new(&BTreeMap::new()), &cells);
        let row: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(row["event_id"], text.as_str());
    }
}
