//! How fast a link is: constant, in steps over time, or as a trace of a cellular link.

use std::sync::Arc;
use std::time::Duration;

use sennit_engine::time::Instant;

use crate::dice::Dice;

/// Bytes per second of `rate` megabits per second.
pub fn megabits(rate: f64) -> f64 {
    rate * 1e6 / 8.0
}

/// Rate of a link over time, in bytes per second.
#[derive(Clone, Debug)]
pub struct Rate {
    /// From when (in nanoseconds since the start of the run or of the period) which rate; the first from 0.
    steps: Arc<[(u64, f64)]>,
    /// After this time, in nanoseconds, the steps begin again.
    period: Option<u64>,
}

/// What a trace of a cellular link looks like.
#[derive(Clone, Copy, Debug)]
pub struct CellularShape {
    /// Median rate, in bytes per second.
    pub median: f64,
    /// Standard deviation of the natural logarithm of the rate; 0.9 gives a 90th percentile ten times the 10th.
    pub spread: f64,
    /// How long the rate stays similar.
    pub correlation: Duration,
    /// Stalls (200 to 500 ms without a byte) per minute.
    pub stalls: f64,
}

impl Rate {
    /// The same at all times.
    pub fn constant(bytes_per_second: f64) -> Self {
        Self::steps([(Duration::ZERO, bytes_per_second)])
    }

    /// From each time on the given rate; the first time must be zero and times must ascend.
    pub fn steps(steps: impl IntoIterator<Item = (Duration, f64)>) -> Self {
        let steps: Arc<[(u64, f64)]> = steps
            .into_iter()
            .map(|(from, rate)| (from.as_nanos() as u64, rate))
            .collect();
        assert!(
            steps.first().is_some_and(|(from, _)| *from == 0) && steps.is_sorted_by(|a, b| a.0 < b.0),
            "steps of a rate ascend from zero"
        );
        Self { steps, period: None }
    }

    /// Packet-delivery opportunities as Mahimahi writes them: a time in milliseconds for every 1,500 bytes. The
    /// trace begins again at its last time.
    pub fn mahimahi(opportunities: &[u64]) -> Self {
        let length = opportunities.last().copied().unwrap_or(1).max(1);
        let mut counts = vec![0u32; length as usize];
        for opportunity in opportunities {
            counts[(*opportunity).saturating_sub(1).min(length - 1) as usize] += 1;
        }
        let steps = (counts.iter().enumerate())
            .map(|(at, count)| (at as u64 * 1_000_000, f64::from(*count) * 1_500_000.0))
            .collect();
        Self {
            steps,
            period: Some(length * 1_000_000),
        }
    }

    /// A trace of `length`, repeated, made by chance in steps of 10 ms.
    pub fn cellular(shape: CellularShape, length: Duration, dice: &mut Dice) -> Self {
        const STEP: u64 = 10_000_000;
        let keep = (-(STEP as f64) / shape.correlation.as_nanos() as f64).exp();
        let renew = (1.0 - keep * keep).sqrt();
        let mut level = dice.normal();
        let mut stalled = 0u64;
        let count = (length.as_nanos() as u64 / STEP).max(1);
        let steps = (0..count)
            .map(|index| {
                level = level * keep + dice.normal() * renew;
                if stalled == 0 && dice.chance(shape.stalls / 60.0 * STEP as f64 / 1e9) {
                    stalled = dice.between(20.0, 50.0) as u64;
                }
                stalled = stalled.saturating_sub(1);
                let rate = if stalled > 0 {
                    0.0
                } else {
                    shape.median * (level.clamp(-2.5, 2.0) * shape.spread).exp()
                };
                (index * STEP, rate)
            })
            .collect();
        Self {
            steps,
            period: Some(count * STEP),
        }
    }

    /// The same until `from`, then constant.
    #[must_use]
    pub fn then_constant(&self, from: Duration, bytes_per_second: f64) -> Self {
        let from = from.as_nanos() as u64;
        let mut steps = Vec::new();
        let mut at = 0;
        while at < from {
            let (rate, until) = self.step_at(at);
            steps.push((at, rate));
            at = until.unwrap_or(from);
        }
        steps.push((from, bytes_per_second));
        Self {
            steps: steps.into(),
            period: None,
        }
    }

    /// When a transmission of `bytes` that begins at `start` is through.
    pub fn finish(&self, start: Instant, bytes: u64) -> Instant {
        let mut left = bytes as f64;
        let mut at = start.as_nanos();
        // A rate that stays zero for ten rounds stays zero.
        for _ in 0..10 * self.steps.len() + 10 {
            let (rate, until) = self.step_at(at);
            let needed = if rate > 0.0 {
                left / rate * 1e9
            } else {
                f64::INFINITY
            };
            match until {
                Some(until) if needed > (until - at) as f64 => {
                    left -= rate * (until - at) as f64 / 1e9;
                    at = until;
                }
                None if !needed.is_finite() => return Instant::NEVER,
                _ => return Instant::from_nanos(at + needed.ceil() as u64),
            }
        }
        Instant::NEVER
    }

    /// Bytes that pass between two times.
    pub fn capacity(&self, from: Instant, to: Instant) -> f64 {
        let (mut at, end) = (from.as_nanos(), to.as_nanos());
        let mut sum = 0.0;
        while at < end {
            let (rate, until) = self.step_at(at);
            let until = until.map_or(end, |until| until.min(end));
            sum += rate * (until - at) as f64 / 1e9;
            at = until;
        }
        sum
    }

    /// Whether there are times without any byte.
    pub fn has_stalls(&self) -> bool {
        self.steps.iter().any(|(_, rate)| *rate <= 0.0)
    }

    /// The rate at a time.
    pub fn at(&self, now: Instant) -> f64 {
        self.step_at(now.as_nanos()).0
    }

    /// The rate at `at` and when it changes.
    fn step_at(&self, at: u64) -> (f64, Option<u64>) {
        let (round, within) = match self.period {
            Some(period) => (at / period * period, at % period),
            None => (0, at),
        };
        let index = self.steps.partition_point(|(from, _)| *from <= within) - 1;
        let next = self.steps.get(index + 1).map(|(from, _)| *from).or(self.period);
        (self.steps[index].1, next.map(|next| round + next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transmission_spans_steps() {
        let rate = Rate::steps([
            (Duration::ZERO, 1000.0),
            (Duration::from_secs(1), 0.0),
            (Duration::from_secs(2), 500.0),
        ]);
        assert_eq!(rate.finish(Instant::ZERO, 500), Instant::from_millis(500));
        assert_eq!(
            rate.finish(Instant::from_millis(500), 1000),
            Instant::from_millis(3000)
        );
        assert!((rate.capacity(Instant::ZERO, Instant::from_millis(3000)) - 1500.0).abs() < 0.1);
    }

    #[test]
    fn a_dead_rate_never_finishes() {
        assert_eq!(Rate::constant(0.0).finish(Instant::ZERO, 1), Instant::NEVER);
    }

    #[test]
    fn a_delivery_trace_repeats_with_its_rate() {
        // 1,500 bytes in each of the milliseconds 1, 2 and 4.
        let rate = Rate::mahimahi(&[1, 2, 4]);
        let capacity = rate.capacity(Instant::ZERO, Instant::from_millis(4000));
        assert!((capacity - 4_500_000.0).abs() < 1.0, "{capacity}");
        assert_eq!(
            rate.finish(Instant::from_millis(2), 1500),
            Instant::from_millis(4)
        );
    }

    #[test]
    fn a_cellular_trace_varies_and_stalls() {
        let shape = CellularShape {
            median: megabits(20.0),
            spread: 0.9,
            correlation: Duration::from_millis(300),
            stalls: 4.0,
        };
        let rate = Rate::cellular(shape, Duration::from_secs(120), &mut Dice::new(1, "cellular"));
        let mut rates: Vec<f64> = (0..12_000)
            .map(|step| rate.at(Instant::from_millis(step * 10)))
            .collect();
        rates.sort_by(f64::total_cmp);
        assert!(rates[10_800] / rates[1_200].max(1.0) >= 8.0);
        assert_eq!(rates[0], 0.0);
    }
}
