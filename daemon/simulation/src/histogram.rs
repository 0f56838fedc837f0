//! Distribution of durations in fixed memory: 16 classes an octave, so that a quantile is right within 5 %.

use std::time::Duration;

const OCTAVES: usize = 36;
const CLASSES: usize = 16;

/// Counts of durations by class.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; OCTAVES * CLASSES],
            total: 0,
            largest: Duration::ZERO,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        self.counts[class(duration)] += 1;
        self.total += 1;
        self.largest = self.largest.max(duration);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest.
    pub fn largest(&self) -> Duration {
        self.largest
    }

    /// The duration that the share `quantile` (0..1) does not exceed; zero if nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index).min(self.largest);
            }
        }
        Duration::ZERO
    }
}

fn class(duration: Duration) -> usize {
    let micros = (duration.as_nanos() / 1000) as u64;
    if micros < CLASSES as u64 {
        return micros as usize;
    }
    let octave = 63 - micros.leading_zeros() as usize;
    let fraction = (micros >> (octave - 4)) as usize & (CLASSES - 1);
    ((octave - 3) * CLASSES + fraction).min(OCTAVES * CLASSES - 1)
}

fn upper(class: usize) -> Duration {
    if class < CLASSES {
        return Duration::from_micros(class as u64 + 1);
    }
    let octave = class / CLASSES + 3;
    Duration::from_micros((CLASSES as u64 + (class % CLASSES) as u64 + 1) << (octave - 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_their_class() {
        let mut histogram = Histogram::default();
        for micros in 1..=100_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for quantile in [0.1, 0.5, 0.99] {
            let found = histogram.quantile(quantile).as_secs_f64() / (quantile * 0.1);
            assert!((0.94..1.08).contains(&found), "{quantile}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(100_000));
    }
}
