//! HTTP dates (RFC 9110 section 5.6.7): the three forms, names in any case, nothing else.

use std::time::{Duration, UNIX_EPOCH};

use carousel::time::WallTime;

/// Reads a date; `None` if it is malformed. Caches disagree about almost valid dates, and a wrong one makes stale
/// responses fresh, so only `GMT` and the digits and separators of the grammar are accepted. The day of the week is not
/// checked.
pub fn parse(text: &str) -> Option<WallTime> {
    let text = text.trim();
    let fields: Vec<&str> = text.split(' ').collect();
    let (day, month, year, time) = match fields.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        [weekday, day, month, year, time, zone]
            if weekday.len() == 4 && weekday.ends_with(',') && zone.eq_ignore_ascii_case("GMT") =>
        {
            (digits(day, 2)?, *month, digits(year, 4)?, *time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, date, time, zone] if weekday.ends_with(',') && zone.eq_ignore_ascii_case("GMT") => {
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            let short = digits(year, 2).filter(|_| parts.next().is_none())?;
            // RFC 9110: a date more than 50 years ahead is in the past. No box of ours existed in 1970.
            (digits(day, 2)?, month, if short < 70 { 2000 + short } else { 1900 + short }, *time)
        }
        // Sun Nov  6 08:49:37 1994, Sun Nov 16 08:49:37 1994
        [_, month, "", day, time, year] => (digits(day, 1)?, *month, digits(year, 4)?, *time),
        [_, month, day, time, year] => (digits(day, 2)?, *month, digits(year, 4)?, *time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|it| it.eq_ignore_ascii_case(month))? as i64 + 1;
    let mut clock = time.split(':');
    let mut two = || clock.next().and_then(|it| digits(it, 2));
    let (hour, minute, second) = (two()?, two()?, two()?);
    if clock.next().is_some() || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(WallTime::from_unix_ms(seconds * 1000))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 in the Gregorian calendar, with years that begin in March so that leap days come last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Writes the preferred form.
pub fn write(time: WallTime) -> String {
    let ms = u64::try_from(time.unix_ms()).unwrap_or(0);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_in_any_case() {
        let at = parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(at.unix_ms(), 784_111_777_000);
        for text in [
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 nov 1994 08:49:37 gMT",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text), Some(at), "{text}");
        }
        assert_eq!(write(at), "Sun, 06 Nov 1994 08:49:37 GMT");
        for ms in [0, 951_782_400_000, 951_868_800_000, 4_107_542_400_000, 1_784_000_000_000] {
            let time = WallTime::from_unix_ms(ms);
            assert_eq!(parse(&write(time)), Some(time), "{ms}");
        }
        assert!(parse("Thursday, 18-Aug-50 02:01:18 GMT").unwrap() > at, "a year of two digits is near");
        assert!(parse("Sun, 21 Nov 2286 04:46:39 GMT").is_some());
    }

    #[test]
    fn what_is_nearly_a_date_is_none() {
        for text in [
            "0",
            "",
            "foo",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
