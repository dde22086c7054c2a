//! Phase of a live manifest: prediction of its next change from observed changes.
//!
//! Half a target duration is a default that ignores the origin's rhythm: with it a playlist is requested twice in each
//! duration. A live manifest changes once in the duration of a segment, though, and at an even pace. [`Phase`] keeps the bounds
//! between which its last change lies. Each answer narrows them: a confirmed version had not changed yet, `Last-Modified` gives
//! the time of the change, and one duration later the manifest changes again. Once the bounds are a quarter of a duration
//! apart, the manifest is requested just after each change: once in a duration, and never more than half of one behind its
//! origin. Until it has changed [`EVIDENCE`] times as predicted, and again after it has not, half a duration is its freshness.

use std::num::NonZeroUsize;

use carousel::digest::Digest;
use carousel::manifest::{Manifest, ManifestKind};
use lru::LruCache;

carousel::limits! {
    /// Live manifests whose phase is known.
    const MAX_MANIFESTS: usize = 4096, "manifests" {
        why: "A box relays tens; an entry has some 200 bytes.",
        full: "The manifest that was asked for longest ago is forgotten: it is asked for more often for a while.",
        free: "When another manifest is asked for.",
        test: "phases_are_bounded",
    }
}

/// Changes at the predicted time after which the prediction is trusted.
const EVIDENCE: u8 = 3;

/// Divisor of the period: assumed clock drift per period.
const DRIFT: i64 = 1024;

/// Facts of a manifest from one request. Times are on the monotonic clock, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) now_ms: i64,
    /// Digest of the manifest; `None`: it has not changed.
    pub(super) digest: Option<Digest>,
    /// Media sequence number of its last segment.
    pub(super) sequence: Option<u64>,
    /// Seconds from its last change to the response, by the origin's own clock.
    pub(super) age_s: Option<i64>,
    /// Time between two changes.
    pub(super) period_ms: i64,
}

/// Bounds of the last change of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Phase {
    earliest_ms: i64,
    latest_ms: i64,
    sequence: Option<u64>,
    digest: Option<Digest>,
    /// Time of the last request.
    seen_ms: i64,
    /// Changes at the predicted time.
    evidence: u8,
}

impl Phase {
    fn first(observation: &Observation) -> Self {
        let Observation { now_ms, period_ms, sequence, digest, .. } = *observation;
        let earliest_ms = now_ms - period_ms;
        Self { earliest_ms, latest_ms: now_ms, sequence, digest, seen_ms: now_ms, evidence: 0 }
    }

    /// Intersects the bounds with others, if they overlap.
    fn narrow(&mut self, earliest_ms: i64, latest_ms: i64) -> bool {
        let (earliest_ms, latest_ms) = (self.earliest_ms.max(earliest_ms), self.latest_ms.min(latest_ms));
        let is_possible = earliest_ms <= latest_ms;
        if is_possible {
            (self.earliest_ms, self.latest_ms) = (earliest_ms, latest_ms);
        }
        is_possible
    }

    fn learn(&mut self, observation: &Observation) {
        let Observation { now_ms, period_ms, .. } = *observation;
        if observation.digest.is_none() || observation.digest == self.digest {
            // The next change is not due yet. A manifest that is late by half a period has stopped, or has another
            // period.
            if now_ms - self.latest_ms > period_ms * 3 / 2 {
                self.evidence = 0;
            }
            self.earliest_ms = self.earliest_ms.max(now_ms - period_ms);
            self.latest_ms = self.latest_ms.max(self.earliest_ms);
        } else {
            let advanced = match (self.sequence, observation.sequence) {
                (Some(before), Some(now)) => i64::try_from(now.saturating_sub(before)).unwrap_or(1).max(1),
                _ => 1,
            };
            let shift_ms = advanced.saturating_mul(period_ms);
            // Clocks drift apart: the lower bound is relaxed a little in each period.
            self.earliest_ms = self.earliest_ms.saturating_add(shift_ms - shift_ms / DRIFT);
            self.latest_ms = self.latest_ms.saturating_add(shift_ms);
            let since_ms = self.seen_ms.max(now_ms - period_ms);
            if self.narrow(since_ms, now_ms) {
                self.evidence = self.evidence.saturating_add(1);
            } else {
                (self.earliest_ms, self.latest_ms, self.evidence) = (since_ms, now_ms, 0);
            }
        }
        self.narrow_by_age(observation);
    }

    fn narrow_by_age(&mut self, observation: &Observation) {
        // Both dates are rounded down to seconds.
        if let Some(age_s) = observation.age_s.filter(|age_s| (0..3600).contains(age_s)) {
            let (least_ms, most_ms) = ((age_s - 1).max(0) * 1000, (age_s + 1) * 1000);
            self.narrow(observation.now_ms - most_ms, observation.now_ms - least_ms);
        }
    }

    /// Time of the next request.
    fn next_ms(&self, now_ms: i64, period_ms: i64) -> i64 {
        let unsure_ms = self.latest_ms - self.earliest_ms;
        let after_ms = if self.evidence < EVIDENCE {
            now_ms + period_ms / 2
        } else if unsure_ms > period_ms * 3 / 8 || self.evidence == EVIDENCE && unsure_ms > period_ms / 4 {
            // In the middle of the bounds: the answer halves them.
            self.earliest_ms + unsure_ms / 2 + period_ms
        } else {
            self.latest_ms + period_ms + period_ms / 8
        };
        after_ms.clamp(now_ms + period_ms / 4, now_ms + period_ms * 3 / 2)
    }
}

/// Phases of manifests by key.
#[derive(Debug)]
pub(super) struct Phases(LruCache<String, Phase>);

impl Default for Phases {
    fn default() -> Self {
        Self(LruCache::new(const { NonZeroUsize::new(MAX_MANIFESTS).unwrap() }))
    }
}

impl Phases {
    /// Freshness of a manifest of this key from now on, in milliseconds.
    pub(super) fn fresh_ms(&mut self, key: &str, observation: &Observation) -> u64 {
        let mut phase = match self.0.get(key) {
            Some(known) => {
                let mut phase = *known;
                phase.learn(observation);
                phase
            }
            None => {
                let mut phase = Phase::first(observation);
                phase.narrow_by_age(observation);
                phase
            }
        };
        phase.sequence = observation.sequence;
        phase.digest = observation.digest.or(phase.digest);
        phase.seen_ms = observation.now_ms;
        self.0.put(key.to_owned(), phase);
        u64::try_from(phase.next_ms(observation.now_ms, observation.period_ms) - observation.now_ms)
            .unwrap_or(0)
    }
}

/// Time between two changes of a live manifest that has no partial segments, in milliseconds.
pub(super) fn period_ms(manifest: &Manifest) -> Option<i64> {
    let fresh_ms = manifest.fresh_ms()?;
    let period_ms = match manifest.kind {
        ManifestKind::HlsMedia if manifest.part_target_ms.is_none() => {
            // Encoders round the target duration up.
            manifest.last_ms.filter(|last_ms| *last_ms > manifest.target_ms / 2).unwrap_or(manifest.target_ms)
        }
        ManifestKind::Dash => fresh_ms * 2,
        _ => return None,
    };
    i64::try_from(period_ms.min(manifest.target_ms.max(fresh_ms * 2))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An origin whose manifest changes at `phase_ms` and each `actual_ms` after; asked about by players that ask every
    /// `ask_ms`. Requests for each period, and the longest time that players were behind, after it was learned.
    fn follow(phase_ms: i64, actual_ms: i64, said_ms: i64, ask_ms: i64, has_date: bool) -> (f64, i64) {
        let version = |now_ms: i64| (now_ms - phase_ms).div_euclid(actual_ms);
        let mut phases = Phases::default();
        let (mut held, mut fresh_until_ms) = (None, 0);
        let (mut requests, mut behind_ms) = (0, 0);
        let (learned_ms, end_ms) = (20 * actual_ms, 220 * actual_ms);
        for now_ms in (0..end_ms).step_by(usize::try_from(ask_ms).unwrap()) {
            if now_ms >= fresh_until_ms {
                let current = version(now_ms);
                let age_s = has_date.then(|| {
                    let changed_ms = phase_ms + current * actual_ms;
                    now_ms.div_euclid(1000) - changed_ms.div_euclid(1000)
                });
                let observation = Observation {
                    now_ms,
                    digest: Some(Digest::of(&current.to_be_bytes())),
                    sequence: Some(u64::try_from(current + 100).unwrap()),
                    age_s,
                    period_ms: said_ms,
                };
                fresh_until_ms = now_ms + i64::try_from(phases.fresh_ms("k", &observation)).unwrap();
                held = Some(current);
                requests += i32::from(now_ms >= learned_ms);
            } else if now_ms >= learned_ms {
                let missed_ms = phase_ms + (held.unwrap() + 1) * actual_ms;
                behind_ms = behind_ms.max(now_ms - missed_ms);
            }
        }
        (f64::from(requests) / 200.0, behind_ms)
    }

    #[test]
    fn a_manifest_is_asked_for_once_in_a_period_and_is_never_half_of_one_behind() {
        for has_date in [false, true] {
            for period_ms in [1000, 2000, 3840, 6006] {
                for tenth in 0..10 {
                    let (requests, behind_ms) =
                        follow(tenth * period_ms / 10, period_ms, period_ms, 50, has_date);
                    assert!(
                        requests <= 1.02 && behind_ms <= period_ms / 2,
                        "{has_date} {period_ms} {tenth}: {requests} {behind_ms}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_origin_that_is_a_little_off_is_followed() {
        for (actual_ms, said_ms) in [(2010, 2000), (1999, 2000), (4040, 4000)] {
            for has_date in [false, true] {
                let (requests, behind_ms) = follow(700, actual_ms, said_ms, 50, has_date);
                assert!(
                    requests <= 1.1 && behind_ms <= actual_ms / 2,
                    "{actual_ms} {said_ms} {has_date}: {requests} {behind_ms}"
                );
            }
        }
    }

    #[test]
    fn what_nothing_is_known_of_is_fresh_for_half_a_period() {
        let observation = Observation {
            now_ms: 10_000,
            digest: Some(Digest::of(b"1")),
            sequence: None,
            age_s: None,
            period_ms: 4000,
        };
        assert_eq!(Phases::default().fresh_ms("k", &observation), 2000);
        let dated = Observation { age_s: Some(1), ..observation };
        assert_eq!(Phases::default().fresh_ms("k", &dated), 2000, "its pace is not known yet");
        // A clock that jumps is not a reason to wait for hours.
        let mut phases = Phases::default();
        phases.fresh_ms("k", &observation);
        let later = Observation { now_ms: 1_000_000, digest: Some(Digest::of(b"2")), ..observation };
        assert!(phases.fresh_ms("k", &later) <= 6000);
    }

    #[test]
    fn a_pace_that_changes_is_no_pace() {
        let mut phases = Phases::default();
        let mut at = |now_ms: i64, sequence: u64| {
            let observation = Observation {
                now_ms,
                digest: Some(Digest::of(&sequence.to_be_bytes())),
                sequence: Some(sequence),
                age_s: None,
                period_ms: 4000,
            };
            phases.fresh_ms("k", &observation)
        };
        for change in 0..5 {
            at(change * 4000, change.unsigned_abs());
            at(change * 4000 + 3500, change.unsigned_abs());
        }
        assert!(at(20_000, 5) > 2000, "once in a period");
        assert_eq!(at(30_000, 5), 2000, "it stands still");
        assert_eq!(at(32_000, 9), 2000, "and jumps");
    }

    #[test]
    fn the_period_is_that_of_the_segments() {
        let of = |text: &str| period_ms(&Manifest::read(text.as_bytes()).unwrap());
        let live = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:3.84,\na\n";
        assert_eq!(of(live), Some(3840));
        assert_eq!(of("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:0.4,\na\n"), Some(4000));
        assert_eq!(of(&format!("{live}#EXT-X-ENDLIST\n")), None);
        assert_eq!(of(&format!("{live}#EXT-X-PART-INF:PART-TARGET=0.5\n")), None);
    }

    #[test]
    fn phases_are_bounded() {
        let mut phases = Phases::default();
        let observation =
            Observation { now_ms: 0, digest: None, sequence: None, age_s: None, period_ms: 2000 };
        for number in 0..=MAX_MANIFESTS {
            phases.fresh_ms(&number.to_string(), &observation);
        }
        assert_eq!(phases.0.len(), MAX_MANIFESTS);
        assert!(phases.0.peek("0").is_none() && phases.0.peek("1").is_some());
    }
}
