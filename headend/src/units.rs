//! Sizes, rates and times as people read them.
//!
//! Decimal multiples (SI), since links and disks are sold by them; times of more than two minutes are rounded up, so that a
//! wait is never longer than printed.

use carousel::config::quantity::scaled;

/// Version, and the commit of a release build.
pub const VERSION: &str = env!("SKYCACHE_VERSION");

/// `1,800`.
pub fn grouped(count: usize) -> String {
    carousel::config::quantity::grouped(count as u64)
}

/// `1 object`, `1,800 objects`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// `999 B`, `1.2 MB`.
pub fn human_bytes(bytes: u64) -> String {
    scaled(bytes as f64, "B")
}

/// `61.3 Mbit/s`.
pub fn human_bps(bps: f64) -> String {
    scaled(bps, "bit/s")
}

/// `0.52 s`, `3 min 20 s`, `4 h 34 min`.
pub fn human_seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        "never".to_owned()
    } else if seconds < 120.0 {
        format!("{seconds:.2} s")
    } else if seconds < 3600.0 {
        let whole = seconds.ceil() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        let minutes = (seconds / 60.0).ceil() as u64;
        format!("{} h {} min", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_use_decimal_multiples() {
        let sizes = [0, 999, 1000, 1_234_567, 5_000_000_000, 7_200_000_000_000, 3_000_000_000_000_000];
        let texts = ["0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB", "7.2 TB", "3.0 PB"];
        assert_eq!(sizes.map(human_bytes), texts);
        assert_eq!([999.4, 61_270_000.0].map(human_bps), ["999 bit/s", "61.3 Mbit/s"]);
    }

    #[test]
    fn one_thing_is_not_several() {
        let texts = ["0 objects", "1 object", "2 objects", "1,800 objects"];
        assert_eq!([0, 1, 2, 1800].map(|count| counted(count, "object")), texts);
    }

    #[test]
    fn times_are_rounded_up() {
        let times = [0.0, 0.515, 119.99, 120.0, 200.01, 3600.0, 3601.0, f64::INFINITY, f64::NAN];
        let texts = ["0.00 s", "0.52 s", "119.99 s", "2 min 0 s", "3 min 21 s", "1 h 0 min", "1 h 1 min"];
        assert_eq!(times[..7].iter().map(|it| human_seconds(*it)).collect::<Vec<_>>(), texts);
        assert_eq!(times[7..].iter().map(|it| human_seconds(*it)).collect::<Vec<_>>(), ["never", "never"]);
    }
}
