//! Buckets of the durations of repairs.

use super::*;

#[test]
fn durations_fall_into_the_bucket_that_ends_at_them() {
    let stats = RepairStats::default();
    for ms in [10, 11, 500, 90_000] {
        stats.succeeded(Duration::from_millis(ms));
    }
    let (buckets, sum_s) = stats.took();
    let filled: Vec<f64> = buckets.iter().filter(|(_, count)| *count == 1).map(|(end, _)| *end).collect();
    assert_eq!(filled, [0.01, 0.025, 0.5, f64::MAX]);
    assert!((sum_s - 90.521).abs() < 1e-9, "{sum_s}");
}
