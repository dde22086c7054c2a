//! Times of XMLTV: `YYYYMMDD[hh[mm[ss]]] [zone]`, such as `20261121200000 +0100`.

use carousel::time::WallTime;

/// Names of zones that writers use in place of `±hhmm`, and their offsets in minutes. Names that several countries use
/// (IST, and CST of China) mean what they do in Europe and America, or are left out.
const ZONES: &[(&str, i64)] = &[
    ("Z", 0),
    ("UT", 0),
    ("UTC", 0),
    ("GMT", 0),
    ("WET", 0),
    ("BST", 60),
    ("WEST", 60),
    ("CET", 60),
    ("MEZ", 60),
    ("CEST", 120),
    ("MESZ", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("AST", -240),
    ("ADT", -180),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("AKST", -540),
    ("AKDT", -480),
    ("HST", -600),
    ("JST", 540),
    ("AWST", 480),
    ("ACST", 570),
    ("ACDT", 630),
    ("AEST", 600),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
];

/// A time, and whether it came with a zone; without one it is taken as UTC.
pub(super) fn parse(text: &str) -> Option<(WallTime, bool)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (clock, zone) = text.split_at(digits);
    if !matches!(digits, 8 | 10 | 12 | 14) {
        return None;
    }
    let field = |from: usize, to: usize| clock.get(from..to).map_or(Some(0), |text| text.parse::<u32>().ok());
    let (year, month, day) = (field(0, 4)?, field(4, 6)?, field(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let (hour, minute, second) = (field(8, 10)?, field(10, 12)?, field(12, 14)?);
    let time =
        WallTime::from_xml(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))?;
    let zone = zone.trim();
    Some((time.plus_ms(-offset_min(zone)? * 60_000), !zone.is_empty()))
}

/// Minutes that a zone is ahead of UTC.
fn offset_min(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first() {
        None => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => {
            return ZONES.iter().find(|(name, _)| name.eq_ignore_ascii_case(zone)).map(|(_, min)| *min);
        }
    };
    let digits = zone[1..].replacen(':', "", 1);
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = (digits[..2].parse::<i64>().ok()?, digits[2..].parse::<i64>().ok()?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

const fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_writers_have_them() {
        let utc = |text| parse(text).map(|(time, _)| time.to_xml().replace(".000Z", ""));
        for (text, expected) in [
            ("20261121200000 +0100", "2026-11-21T19:00:00"),
            ("20261121200000+0100", "2026-11-21T19:00:00"),
            ("20261121200000 +01:00", "2026-11-21T19:00:00"),
            ("20261121200000 -0330", "2026-11-21T23:30:00"),
            ("20260721200000 BST", "2026-07-21T19:00:00"),
            ("20261121200000 cet", "2026-11-21T19:00:00"),
            ("20261121200000 EST", "2026-11-22T01:00:00"),
            ("202611212000 GMT", "2026-11-21T20:00:00"),
            ("2026112120", "2026-11-21T20:00:00"),
            ("20240229", "2024-02-29T00:00:00"),
            ("20261121240000", "2026-11-22T00:00:00"),
        ] {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(parse("20261121200000").map(|it| it.1), Some(false));
        assert_eq!(parse("20261121200000 +0000").map(|it| it.1), Some(true));
        for bad in [
            "",
            "2026",
            "202611",
            "99999999999999",
            "20261321200000",
            "20260229000000",
            "20261100000000",
            "20261121250000",
            "20261121206000",
            "2026112120000",
            "202611212000001",
            "20261121200000 Mars",
            "20261121200000 +9900",
            "20261121200000 +01",
            "20261121200000 +0é0",
            "2026-11-21T20:00:00Z",
        ] {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }
}
