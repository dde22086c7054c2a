//! Results of a simulation: times from tuning in to a complete object, and the load on the origin for each second.

/// Buckets of the times: a sixteenth of an octave each, from a tenth of a second.
const BUCKETS: usize = 16 * 24;

/// Counts of one run.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    times: Vec<f64>,
    load_bytes: Vec<f64>,
    requests: f64,
    /// Bytes that fades alone took from receivers, spread evenly over the windows in which they ask.
    fair_bytes: Vec<f64>,
}

fn bucket(seconds: f64) -> usize {
    let octaves = (seconds.max(0.1) / 0.1).log2();
    ((octaves * 16.0) as usize).min(BUCKETS - 1)
}

impl Tally {
    /// Nothing yet; the origin's load is kept for `seconds`.
    pub(super) fn new(seconds: usize) -> Self {
        Self {
            times: vec![0.0; BUCKETS],
            load_bytes: vec![0.0; seconds],
            fair_bytes: vec![0.0; seconds],
            requests: 0.0,
        }
    }

    /// Records that `count` receivers have an object, `after_s` after they were switched on.
    pub(super) fn got(&mut self, count: f64, after_s: f64) {
        self.times[bucket(after_s)] += count;
    }

    /// `count` receivers ask an origin for `bytes` in all.
    pub(super) fn asked(&mut self, at_s: f64, count: f64, bytes: f64) {
        self.requests += count;
        if let Some(second) = self.load_bytes.get_mut(at_s.max(0.0) as usize) {
            *second += bytes;
        }
    }

    /// A fade took `bytes` from receivers, which may ask for them for `window_s` from `from_s` on.
    pub(super) fn faded(&mut self, bytes: f64, from_s: f64, window_s: f64) {
        let to_s = from_s + window_s.max(1e-3);
        let seconds = from_s as usize..(to_s.ceil() as usize).min(self.fair_bytes.len());
        for (second, fair) in seconds.clone().zip(self.fair_bytes.get_mut(seconds).into_iter().flatten()) {
            let within = to_s.min(second as f64 + 1.0) - from_s.max(second as f64);
            *fair += bytes * within / (to_s - from_s);
        }
    }

    pub(super) fn fair_bytes(&self) -> &[f64] {
        &self.fair_bytes
    }

    pub(super) const fn requests(&self) -> f64 {
        self.requests
    }

    pub(super) fn load_bytes(&self) -> &[f64] {
        &self.load_bytes
    }

    /// Receivers that have an object.
    pub(super) fn total(&self) -> f64 {
        self.times.iter().sum()
    }

    /// Seconds after which the part `quantile` of all requesting receivers hold it; `all` includes those that never got
    /// it.
    pub(super) fn quantile(&self, quantile: f64, all: f64) -> Option<f64> {
        let mut left = all * quantile;
        for (at, count) in self.times.iter().enumerate() {
            left -= count;
            if left <= 0.0 {
                return Some(0.1 * ((at + 1) as f64 / 16.0).exp2());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_and_who_never_got_it_counts() {
        let mut tally = Tally::new(10);
        for second in 1..=100 {
            tally.got(10.0, f64::from(second));
        }
        let half = tally.quantile(0.5, 1000.0).unwrap();
        assert!((50.0..53.0).contains(&half), "{half}");
        assert_eq!(tally.quantile(0.99, 2000.0), None);
        tally.asked(3.5, 2.0, 100.0);
        tally.asked(1e9, 1.0, 7.0);
        assert_eq!((tally.load_bytes()[3], tally.requests()), (100.0, 3.0));
    }
}
