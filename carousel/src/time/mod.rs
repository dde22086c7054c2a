//! Monotonic time ([`Instant`]) and the date ([`WallTime`]), as two types that cannot be mixed.
//!
//! Neither is ever sampled here; both arrive as arguments, in the programs from their [`Clocks`]. NTP timestamps (FDT
//! `Expires`, EXT_TIME) are 32-bit seconds since 1900 that wrap on 2036-02-07T06:28:16Z; [`WallTime::from_ntp_seconds`] reads
//! them relative to a time that the caller believes.

mod clocks;

use std::time::Duration;

pub use clocks::{Clocks, EARLIEST_DATE, VirtualClocks};

/// A monotonic moment in nanoseconds from an origin that only the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// `ns` nanoseconds after the caller's origin.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the caller's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// UTC in milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(i64);

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// Seconds in one NTP era.
const NTP_ERA_S: i64 = 1 << 32;

impl WallTime {
    /// `ms` milliseconds after 1970; negative before.
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// The time at `since` after 1970.
    pub fn from_unix(since: Duration) -> Self {
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Milliseconds since 1970.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970; 0 before.
    pub fn unix_seconds(self) -> u64 {
        u64::try_from(self.0 / 1000).unwrap_or(0)
    }

    /// `self` later by `ms` milliseconds (earlier if negative), saturating.
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The moment that a 32-bit NTP seconds field means: of all eras the one within 68 years of `near`.
    pub const fn from_ntp_seconds(seconds: u32, near: Self) -> Self {
        let near_ntp = near.0.div_euclid(1000) + NTP_TO_UNIX_S;
        let ahead = (seconds as i64 - near_ntp).rem_euclid(NTP_ERA_S);
        let delta = if ahead < NTP_ERA_S / 2 { ahead } else { ahead - NTP_ERA_S };
        Self((near_ntp + delta - NTP_TO_UNIX_S) * 1000)
    }

    /// The low 32 bits of the NTP seconds, as FDT `Expires` and EXT_TIME carry them.
    pub const fn ntp_seconds(self) -> u32 {
        (self.0.div_euclid(1000) + NTP_TO_UNIX_S).rem_euclid(NTP_ERA_S) as u32
    }

    /// The fraction of the second in units of 2^-32 s (EXT_TIME SCT-Low).
    pub const fn ntp_fraction(self) -> u32 {
        ((self.0.rem_euclid(1000) << 32) / 1000) as u32
    }

    /// ISO 8601 with milliseconds and `Z`, as XML `dateTime`.
    pub fn to_xml(self) -> String {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (s, ms) = (ms / 1000, ms % 1000);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
    }

    /// Reads an XML `dateTime` or an MPEG-7 TimePoint (`2099-06-26T07:01:50:000F1000`, TS 103 769 clause 10):
    /// zone optional (none means UTC), fraction either `.123` or `:nnnFNNN`.
    pub fn from_xml(text: &str) -> Option<Self> {
        let (date, time) = text.trim().split_once('T')?;
        let mut fields = date.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        if !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
        let (clock, zone) = time.split_at_checked(zone_at)?;
        let zone_min = match zone {
            "" | "Z" => 0,
            _ => {
                let (hours, minutes) = zone.get(1..)?.split_once(':')?;
                let minutes = two_digits(hours, 14)? * 60 + two_digits(minutes, 59)?;
                if zone.starts_with('-') { -minutes } else { minutes }
            }
        };
        let hour = two_digits(clock.get(0..2)?, 24)?;
        let minute = two_digits(clock.get(3..5)?, 59)?;
        let (second, fraction) = clock.get(6..)?.split_at_checked(2)?;
        let second = two_digits(second, 60)?;
        let fraction_ms = match fraction.as_bytes().first() {
            None => 0,
            // No exponent: it would make a fraction of any size.
            Some(b'.') if fraction[1..].bytes().all(|byte| byte.is_ascii_digit()) => {
                (format!("0{fraction}").parse::<f64>().ok()? * 1000.0) as i64
            }
            Some(b':') => {
                let (n, of) = fraction.get(1..)?.split_once('F')?;
                let (n, of) = (n.parse::<u32>().ok()?, of.parse::<u32>().ok().filter(|&of| of > 0)?);
                i64::from(n) * 1000 / i64::from(of)
            }
            Some(_) => return None,
        };
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone_min * 60;
        Some(Self(seconds * 1000 + fraction_ms))
    }
}

fn two_digits(text: &str, most: i64) -> Option<i64> {
    (text.len() == 2).then(|| text.parse().ok())?.filter(|value| (0..=most).contains(value))
}

/// Days since 1970-01-01 of a proleptic Gregorian date (H. Hinnant, "chrono-compatible low-level date algorithms").
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// An XML `duration` (`PT2S`, `P99Y11M30DT0H0M0.000S`); a year counts 365 days and a month 30.
/// `None` if it is malformed or negative.
pub fn duration_from_xml(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let (date, time) = match text.trim().strip_prefix('P')?.split_once('T') {
        Some((date, time)) => (date, time),
        None => (text.trim().get(1..)?, ""),
    };
    for (part, units) in [
        (date, [('Y', 31_536_000.0), ('M', 2_592_000.0), ('W', 604_800.0), ('D', 86_400.0)]),
        (time, [('H', 3600.0), ('M', 60.0), ('S', 1.0), ('S', 1.0)]),
    ] {
        let mut rest = part;
        while !rest.is_empty() {
            let at = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, tail) = rest.split_at(at);
            let unit = units.iter().find(|(name, _)| tail.starts_with(*name))?.1;
            seconds += number.parse::<f64>().ok().filter(|n| *n >= 0.0)? * unit;
            rest = &tail[1..];
        }
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Writes a `duration` in seconds, with milliseconds when there are any.
pub fn duration_to_xml(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("PT{}S", duration.as_secs()),
        ms => format!("PT{}.{ms:03}S", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOV_2026: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

    #[test]
    fn ntp_seconds_after_the_wrap_of_2036_are_in_the_future() {
        let wrap = WallTime::from_ntp_seconds(0, NOV_2026);
        assert_eq!(wrap.to_xml(), "2036-02-07T06:28:16.000Z");
        let before = WallTime::from_ntp_seconds(u32::MAX, NOV_2026);
        assert_eq!(before.to_xml(), "2036-02-07T06:28:15.000Z");
        let later = WallTime::from_unix_ms(2_100_000_000_000);
        assert_eq!(WallTime::from_ntp_seconds(later.ntp_seconds(), NOV_2026), later);
        assert_eq!(WallTime::from_ntp_seconds(later.ntp_seconds(), later.plus_ms(1000)), later);
    }

    #[test]
    fn a_box_that_boots_in_1970_still_reads_some_date() {
        let boot = WallTime::from_unix_ms(0);
        assert_eq!(WallTime::from_ntp_seconds(NOV_2026.ntp_seconds(), boot), NOV_2026);
    }

    #[test]
    fn time_points_of_real_broadcasters() {
        let far = WallTime::from_xml("2099-06-26T07:01:50:000F1000").unwrap();
        assert_eq!(far.to_xml(), "2099-06-26T07:01:50.000Z");
        let ses = WallTime::from_xml("2025-01-10T11:36:58Z").unwrap();
        assert_eq!(ses.unix_ms(), 1_736_509_018_000);
        assert_eq!(WallTime::from_xml("2025-01-10T13:36:58+02:00"), Some(ses));
        assert_eq!(
            WallTime::from_xml("2025-09-02T16:25:34.586Z").unwrap().to_xml(),
            "2025-09-02T16:25:34.586Z"
        );
        for bad in [
            "",
            "T",
            "2025-01-10",
            "2025-13-10T00:00:00Z",
            "2025-01-10T1:2:3Z",
            "2025-01-10T00:00:00:1F0",
            "2025-01-10T00:00:00.9e999",
            "é-01-10T00:00:00",
        ] {
            assert_eq!(WallTime::from_xml(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration_from_xml("PT0.533S"), Some(Duration::from_millis(533)));
        assert_eq!(duration_from_xml("PT1M2S"), Some(Duration::from_secs(62)));
        assert_eq!(
            duration_from_xml("P99Y11M30DT0H0M0.000S").map(|d| d.as_secs() / 86_400),
            Some(99 * 365 + 360)
        );
        assert_eq!(duration_from_xml("P1W"), Some(Duration::from_secs(604_800)));
        for bad in ["", "P1", "1S", "PT1X", "-PT1S", "PT-1S"] {
            assert_eq!(duration_from_xml(bad), None, "{bad}");
        }
        assert_eq!(duration_to_xml(Duration::from_millis(1500)), "PT1.500S");
    }
}
