//! Simulation of a million receivers, pass by pass: the objects that each lacks, and the time of its request to an origin.
//!
//! Receivers are numbered in the order in which they come on, and dealt out to regions one by one; so the receivers that
//! came between two passes are a range of numbers, and a region's part of them is a count. Receivers that lack an object
//! form groups by the amount missing and the cause, with the moments at which they will ask.

use std::time::Duration;

use carousel::repair::BackOff;

use super::IDLE;
use super::loss::PassLoss;
use super::tally::Tally;
use crate::options::Fade;

/// Draws that stand for a group that has more members; each counts for as many as it stands for. Of groups that chance
/// makes there is one with every pass, and their noise averages out.
const MOST_DRAWS: u64 = 2000;
/// The same for groups that a fade makes: few, large, and what the busiest second is made of.
const MOST_FADE_DRAWS: u64 = 100_000;

/// Receivers that lack the same part of an object.
#[derive(Debug, Clone)]
struct Group {
    region: usize,
    /// Numbers of receivers: from, and up to.
    range: [u64; 2],
    count: f64,
    missing: f64,
    /// Times of their requests to an origin, in order; empty: none (they do not know of it). Each stands for `each`
    /// receivers.
    asks_s: Vec<f32>,
    each: f64,
}

/// Delivery of one object to the receivers so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Spread {
    /// Receivers up to this number came before its last pass.
    seen_upto: u64,
    groups: Vec<Group>,
}

/// The receivers.
#[derive(Debug)]
pub(super) struct ReceiverPopulation<'a> {
    pub(super) receivers: u64,
    pub(super) join_s: f64,
    pub(super) regions: usize,
    pub(super) fades: &'a [Fade],
    pub(super) back_off: BackOff,
    pub(super) timeout_s: f64,
    pub(super) repairs: bool,
    pub(super) rng: fastrand::Rng,
}

impl ReceiverPopulation<'_> {
    /// Number of those that have come on by then.
    fn joined(&self, at_s: f64) -> u64 {
        if self.join_s <= 0.0 {
            return self.receivers;
        }
        ((at_s / self.join_s * self.receivers as f64) as u64).min(self.receivers)
    }

    fn came_s(&self, number: f64) -> f64 {
        number / self.receivers as f64 * self.join_s
    }

    /// Members of `region` among the numbers of a range.
    fn count(&self, range: [u64; 2], region: usize) -> u64 {
        let upto = |number: u64| (number + self.regions as u64 - 1 - region as u64) / self.regions as u64;
        upto(range[1]).saturating_sub(upto(range[0]))
    }

    /// The part of `[from, to]` in which a region sees nothing.
    fn dark(&self, region: usize, from: f64, to: f64) -> f64 {
        let length = (to - from).max(1e-9);
        let dark = self.fades.iter().filter(|fade| fade.regions.contains(&region)).map(|fade| {
            let end = (fade.begin_s + fade.lasts_s) as f64;
            (to.min(end) - from.max(fade.begin_s as f64)).max(0.0)
        });
        (dark.sum::<f64>() / length).min(1.0)
    }

    /// The moments at which `count` receivers that lost something at `at_s` ask; and how many receivers each moment stands
    /// for.
    fn asks(&mut self, count: f64, at_s: f64, most_draws: u64) -> (Vec<f32>, f64) {
        if !self.repairs || count <= 0.0 {
            return (Vec::new(), 0.0);
        }
        let draws = (count.ceil() as u64).min(most_draws);
        let begin = at_s + self.timeout_s;
        let mut asks: Vec<f32> = (0..draws)
            .map(|_| {
                let wait: Duration = self.back_off.wait(0, self.rng.u64(..));
                (begin + wait.as_secs_f64()) as f32
            })
            .collect();
        asks.sort_unstable_by(f32::total_cmp);
        (asks, count / draws as f64)
    }

    /// Lets those ask who ask before `until_s`; they have the object then.
    pub(super) fn settle(&self, spread: &mut Spread, until_s: f64, symbol_bytes: f64, tally: &mut Tally) {
        for group in &mut spread.groups {
            let due = group.asks_s.partition_point(|&at| f64::from(at) < until_s);
            for at in group.asks_s.drain(..due) {
                let at = f64::from(at);
                let asked = group.each.min(group.count);
                group.count -= asked;
                tally.asked(at, asked, asked * group.missing * symbol_bytes);
                tally.got(asked, at - self.came_s(group.range[0].midpoint(group.range[1]) as f64));
            }
        }
        spread.groups.retain(|group| group.count > 1e-6);
    }

    /// One pass of an object, from `begin_s` to `end_s`.
    pub(super) fn pass(
        &mut self,
        spread: &mut Spread,
        begin_s: f64,
        end_s: f64,
        loss: &PassLoss,
        tally: &mut Tally,
    ) {
        self.settle(spread, begin_s, f64::from(loss.symbol_bytes), tally);
        let joined = self.joined(begin_s);
        let new = [spread.seen_upto, joined];
        spread.seen_upto = joined;
        let before = std::mem::take(&mut spread.groups);
        for region in 0..self.regions {
            let dark = self.dark(region, begin_s, end_s);
            let count = self.count(new, region) as f64;
            let all = f64::from(loss.symbols);
            let came = Group { region, range: new, count, missing: all, asks_s: Vec::new(), each: 0.0 };
            let old = before.iter().filter(|group| group.region == region).cloned();
            for group in old.chain((count > 0.0).then_some(came)) {
                self.pass_of(group, dark, begin_s, end_s, loss, spread, tally);
            }
        }
    }

    /// Does what a pass does for a group.
    #[allow(clippy::too_many_arguments)] // one step of `pass`, with its surroundings
    fn pass_of(
        &mut self,
        group: Group,
        dark: f64,
        begin_s: f64,
        end_s: f64,
        loss: &PassLoss,
        spread: &mut Spread,
        tally: &mut Tally,
    ) {
        if dark >= 1.0 {
            spread.groups.push(group);
            return;
        }
        let all = f64::from(loss.symbols);
        let is_new = group.missing >= all;
        // Loss of this pass by the fade; repair symbols recover a little of it.
        let in_the_dark = (all * dark).ceil();
        if in_the_dark > f64::from(loss.spare) {
            let missing = if is_new { in_the_dark } else { (group.missing * dark).ceil() };
            // It stops in the middle, or begins there: noticed after the reception timeout either way.
            let lights_out = self.dark(group.region, end_s - 1e-6, end_s) > 0.0;
            let noticed = if lights_out { begin_s + (1.0 - dark) * (end_s - begin_s) } else { end_s };
            let (asks_s, each) = if is_new || group.asks_s.is_empty() {
                let window_s = self.back_off.random.as_secs_f64();
                let from_s = noticed + self.timeout_s + self.back_off.fixed.as_secs_f64();
                tally.faded(group.count * missing * f64::from(loss.symbol_bytes), from_s, window_s);
                self.asks(group.count, noticed, MOST_FADE_DRAWS)
            } else {
                (group.asks_s, group.each)
            };
            spread.groups.push(Group { missing, asks_s, each, ..group });
            return;
        }
        // A receiver keeps what it has: of a second pass it needs only what it lacks.
        let (failure, missing) = if is_new {
            (loss.failure, loss.missing)
        } else {
            let rate = if all > 0.0 && loss.failure > 0.0 { loss.missing / all } else { 0.0 };
            let lost = group.missing * rate;
            ((1.0 - (1.0 - rate).powf(group.missing)).min(loss.failure), lost.max(1.0))
        };
        let failed = self.binomial(group.count, failure);
        self.completed(&group, group.count - failed, end_s, tally);
        if failed > 0.0 {
            let (asks_s, each) = self.asks(failed, end_s, MOST_DRAWS);
            spread.groups.push(Group { count: failed, missing: missing.max(1.0), asks_s, each, ..group });
        }
    }

    /// `count` members of a group have the object at `at_s`.
    fn completed(&self, group: &Group, count: f64, at_s: f64, tally: &mut Tally) {
        // They came evenly over the group's range; a few steps represent their waits well enough.
        const STEPS: u64 = 8;
        let [from, upto] = group.range.map(|number| number as f64);
        for step in 0..STEPS {
            let number = from + (upto - from) * (step as f64 + 0.5) / STEPS as f64;
            tally.got(count / STEPS as f64, at_s - self.came_s(number));
        }
    }

    /// Number of `count` that fail: exact for few, by the normal approximation for many.
    fn binomial(&mut self, count: f64, probability: f64) -> f64 {
        let mean = count * probability;
        if mean <= IDLE {
            return 0.0;
        }
        if mean < 50.0 {
            // Poisson by its waiting times; at most a few dozen steps.
            let (mut product, mut drawn) = (self.rng.f64(), 0.0);
            let limit = (-mean).exp();
            while product > limit {
                product *= self.rng.f64();
                drawn += 1.0;
            }
            return f64::min(drawn, count);
        }
        let normal =
            (-2.0 * self.rng.f64().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * self.rng.f64()).cos();
        (mean + normal * (mean * (1.0 - probability)).sqrt()).round().clamp(0.0, count)
    }

    /// Receivers who never got the object.
    pub(super) fn without(&self, spread: &Spread) -> f64 {
        let lacking: f64 = spread.groups.iter().map(|group| group.count).sum();
        lacking + (self.receivers - spread.seen_upto) as f64
    }
}
