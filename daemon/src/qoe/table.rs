//! The table of `configs/clickhouse/qoe_raw.sql`, as tests compare rows with it.

use carousel::time::WallTime;
use serde_json::Value;

/// Text of the definition.
pub(super) fn definition() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/clickhouse/qoe_raw.sql");
    std::fs::read_to_string(path).unwrap()
}

/// Names and types of the columns of a table.
pub(super) fn columns_of(table: &str) -> Vec<(String, String)> {
    let text = definition();
    let start = text.find(&format!("TABLE IF NOT EXISTS {table}\n(")).unwrap();
    let body = text[start..].split_once("(\n").unwrap().1.split_once("\n)").unwrap().0;
    let column = |line: &str| {
        let (name, kind) = line.trim().trim_end_matches(',').split_once(' ').unwrap();
        (name.to_owned(), kind.to_owned())
    };
    body.lines().map(column).collect()
}

/// Whether ClickHouse takes a value for a column of this type as it is: it refuses the whole insert for some others, and wraps or
/// misreads the rest.
pub(super) fn takes(kind: &str, value: &Value) -> bool {
    let within = |most: u64| value.as_u64().is_some_and(|it| it <= most);
    if let Some(kind) = kind.strip_prefix("Nullable(").and_then(|it| it.strip_suffix(')')) {
        return value.is_null() || takes(kind, value);
    }
    match kind {
        "String" | "LowCardinality(String)" => value.is_string(),
        "UInt8" => within(u8::MAX.into()),
        "UInt16" => within(u16::MAX.into()),
        "UInt32" => within(u32::MAX.into()),
        "UInt64" => within(u64::MAX),
        "Float32" => value.as_f64().is_some_and(|it| it.abs() <= f64::from(f32::MAX)),
        // A number would be seconds; the type begins with 1900 and ends with 2299.
        "DateTime64(3, 'UTC')" => value.as_str().is_some_and(|text| {
            let xml = format!("{}Z", text.replacen(' ', "T", 1));
            let is_exact =
                text.len() == "2026-07-14 03:33:20.000".len() && ("1900".."2300").contains(&&text[..4]);
            is_exact && WallTime::from_xml(&xml).is_some_and(|it| it.to_xml() == xml)
        }),
        other => panic!("{other} is a type that no row was compared with"),
    }
}
