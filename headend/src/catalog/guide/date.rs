//! Times of XMLTV: `YYYYMMDD[hh[mm[ss]]] [zone]`, such as `20261121200000 +0100`, and forms that scripts write instead:
//! ISO 8601, fractions of seconds, seconds since 1970, zones by name.

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
    let Some((clock, zone)) = clock(text) else {
        return unix(text).filter(|_| !is_date(text)).map(|time| (time, true));
    };
    let field = |from: usize, to: usize| clock.get(from..to).map_or(Some(0), |text| text.parse::<u32>().ok());
    if !is_date(&clock) {
        return unix(text).map(|time| (time, true));
    }
    let (year, month, day) = (field(0, 4)?, field(4, 6)?, field(6, 8)?);
    let (hour, minute, second) = (field(8, 10)?, field(10, 12)?, field(12, 14)?);
    // Time of the clock, as if it were UTC.
    let time =
        WallTime::from_xml(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))?;
    let zone = zone.trim();
    Some((time.plus_ms(-offset_min(zone, time)? * 60_000), !zone.is_empty()))
}

/// Before television there is no programme: digits that begin so are seconds since 1970.
const FIRST_YEAR: u32 = 1900;

/// Whether the first eight digits are a day.
fn is_date(digits: &str) -> bool {
    let field = |from: usize, to: usize| digits.get(from..to).and_then(|text| text.parse::<u32>().ok());
    match (field(0, 4), field(4, 6), field(6, 8)) {
        (Some(year), Some(month @ 1..=12), Some(day)) => {
            year >= FIRST_YEAR && (1..=days_of(year, month)).contains(&day)
        }
        _ => false,
    }
}

/// Seconds or milliseconds since 1970.
fn unix(text: &str) -> Option<WallTime> {
    let number: i64 = text.parse().ok()?;
    match text.len() {
        10 => Some(WallTime::from_unix_ms(number * 1000)),
        13 => Some(WallTime::from_unix_ms(number)),
        _ => None,
    }
}

/// The digits of date and time, as many as there are, and the zone behind them: of `20261121200000 +0100` and of every
/// form of ISO 8601 that has the same order. Fractions of a second are left out.
fn clock(text: &str) -> Option<(String, &str)> {
    let bytes = text.as_bytes();
    let mut digits = String::with_capacity(14);
    let mut at = 0;
    while digits.len() < 14 {
        let separators: &[u8] = match digits.len() {
            4 | 6 => b"-/.",
            8 => b"T t_",
            10 | 12 => b":.",
            _ => b"",
        };
        let is_separated = bytes.get(at).is_some_and(|byte| separators.contains(byte))
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        // Behind a date alone, a blank and digits are an hour; behind an hour, `.5` does not count as minutes.
        let from = at + usize::from(is_separated);
        let wanted = if digits.is_empty() { 4 } else { 2 };
        let field = bytes.get(from..from + wanted).filter(|field| field.iter().all(u8::is_ascii_digit));
        let Some(field) = field else { break };
        digits.extend(field.iter().map(|byte| char::from(*byte)));
        at = from + wanted;
    }
    if digits.len() < 8 || bytes.get(at).is_some_and(u8::is_ascii_digit) && digits.len() < 14 {
        return None;
    }
    let rest = text.get(at..)?;
    let fraction = rest.strip_prefix(['.', ',']).unwrap_or("");
    let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let zone = if length > 0 { &fraction[length..] } else { rest };
    // One digit more than there are fields is a mistake.
    (!zone.starts_with(|c: char| c.is_ascii_digit())).then_some((digits, zone))
}

/// Minutes that a zone is ahead of UTC at a time of its own clock: `+0100`, `+01:00`, `+01`, `+1`, `UTC+1`, `CET`,
/// `Europe/Berlin`.
fn offset_min(zone: &str, clock: WallTime) -> Option<i64> {
    if zone.is_empty() {
        return Some(0);
    }
    // Behind an offset some have the zone's name as well.
    let mut words = zone.split_whitespace();
    let first = words.next()?.trim_matches(['(', ')', '[', ']']);
    if let Some((_, min)) = ZONES.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)) {
        return Some(*min);
    }
    let offset = ["UTC", "GMT", "Z"]
        .iter()
        .find_map(|prefix| {
            first
                .get(..prefix.len())
                .filter(|it| it.eq_ignore_ascii_case(prefix))
                .map(|_| &first[prefix.len()..])
        })
        .unwrap_or(first);
    let (sign, digits) = match (offset.strip_prefix('+'), offset.strip_prefix(['-', '\u{2212}'])) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return named_offset_min(first, clock),
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() <= 2 => (digits, "0"),
        None => digits.split_at_checked(digits.len() - 2)?,
    };
    let number = |text: &str| {
        text.parse::<i64>().ok().filter(|_| text.len() <= 2 && text.bytes().all(|it| it.is_ascii_digit()))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// The same of a name in the system's time zone database; `None` where it has no such name.
fn named_offset_min(name: &str, clock: WallTime) -> Option<i64> {
    let zone = jiff::tz::TimeZone::get(name).ok()?;
    // Time of the clock, as a date without a zone.
    let shown = jiff::Timestamp::from_millisecond(clock.unix_ms()).ok()?;
    let shown = jiff::tz::TimeZone::UTC.to_datetime(shown);
    let time = zone.to_ambiguous_timestamp(shown).compatible().ok()?;
    Some((clock.unix_ms() - time.as_millisecond()) / 60_000)
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
            ("2026-11-21T20:00:00+01:00", "2026-11-21T19:00:00"),
            ("2026-11-21T20:00:00Z", "2026-11-21T20:00:00"),
            ("2026-11-21T20:00:00.123Z", "2026-11-21T20:00:00"),
            ("2026-11-21T20:00Z", "2026-11-21T20:00:00"),
            ("2026-11-21 20:00:00 +0100", "2026-11-21T19:00:00"),
            ("2026-11-21 20:00:00 CET", "2026-11-21T19:00:00"),
            ("20261121T200000Z", "2026-11-21T20:00:00"),
            ("2026/11/21 20:00", "2026-11-21T20:00:00"),
            ("20261121200000.000 +0100", "2026-11-21T19:00:00"),
            ("20261121200000,5+0100", "2026-11-21T19:00:00"),
            ("20261121200000 +1", "2026-11-21T19:00:00"),
            ("20261121200000 +01", "2026-11-21T19:00:00"),
            ("20261121200000 -01", "2026-11-21T21:00:00"),
            ("20261121200000 +100", "2026-11-21T19:00:00"),
            ("20261121200000 +0530", "2026-11-21T14:30:00"),
            ("20261121200000 UTC+1", "2026-11-21T19:00:00"),
            ("20261121200000 GMT+01:00", "2026-11-21T19:00:00"),
            ("20261121200000 utc", "2026-11-21T20:00:00"),
            ("20261121200000 +0100 CET", "2026-11-21T19:00:00"),
            ("20261121200000 \u{2212}0100", "2026-11-21T21:00:00"),
            ("1795291200", "2026-11-21T20:00:00"),
            ("1795291200000", "2026-11-21T20:00:00"),
            ("20261121", "2026-11-21T00:00:00"),
            ("2026-11-21", "2026-11-21T00:00:00"),
        ] {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        }
        // Names are those of the system, with its summer times.
        if jiff::tz::TimeZone::get("Europe/Berlin").is_ok() {
            assert_eq!(utc("20261121200000 Europe/Berlin").as_deref(), Some("2026-11-21T19:00:00"));
            assert_eq!(utc("2026-07-21T20:00:00 Europe/Berlin").as_deref(), Some("2026-07-21T18:00:00"));
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
            "20261121200000 +0é0",
            "20261121200000 +",
            "20261121200000 +1:2:3",
            "20261121200000 +15",
            "2026-11-21T20:00:00 Mars/Olympus",
            "2026-11-2",
            "2026-13-21T20:00:00Z",
            "20:00",
            "179529120",
        ] {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }
}
