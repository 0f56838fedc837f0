//! Counts of durations in bins that grow with their value: quantiles to 3 %, in bounded memory.

use crate::time::Nanos;

/// Bins for each doubling.
const STEPS: u64 = 32;
/// Below this (1 µs) everything is in the first bin.
const SMALLEST: u64 = 1_000;

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    bins: Vec<u64>,
    count: u64,
    sum: u128,
    largest: Nanos,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one value.
    pub fn record(&mut self, value: Nanos) {
        let index = bin_of(value.0);
        if self.bins.len() <= index {
            self.bins.resize(index + 1, 0);
        }
        self.bins[index] += 1;
        self.count += 1;
        self.sum += u128::from(value.0);
        self.largest = self.largest.max(value);
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        if self.bins.len() < other.bins.len() {
            self.bins.resize(other.bins.len(), 0);
        }
        for (to, from) in self.bins.iter_mut().zip(&other.bins) {
            *to += from;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.largest = self.largest.max(other.largest);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest.
    pub fn largest(&self) -> Nanos {
        self.largest
    }

    /// The mean.
    pub fn mean(&self) -> Nanos {
        Nanos((self.sum / u128::from(self.count.max(1))) as u64)
    }

    /// The value that this share of all stays at or under. Zero if there are none.
    pub fn quantile(&self, share: f64) -> Nanos {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.bins.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Nanos(upper_edge(index)).min(self.largest);
            }
        }
        self.largest
    }
}

fn bin_of(value: u64) -> usize {
    if value < SMALLEST {
        return 0;
    }
    let doublings = u64::from((value / SMALLEST).ilog2());
    let base = SMALLEST << doublings;
    (1 + doublings * STEPS + (value - base) * STEPS / base) as usize
}

fn upper_edge(index: usize) -> u64 {
    if index == 0 {
        return SMALLEST;
    }
    let (doublings, step) = ((index as u64 - 1) / STEPS, (index as u64 - 1) % STEPS);
    let base = SMALLEST << doublings;
    base + base * (step + 1) / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_percent() {
        let mut histogram = Histogram::new();
        for value in 1..=100_000 {
            histogram.record(Nanos(value * 1000));
        }
        for share in [0.1, 0.5, 0.99] {
            let wanted = share * 1e8;
            let found = histogram.quantile(share).0 as f64;
            assert!((found / wanted - 1.0).abs() < 0.035, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), Nanos(100_000_000));
    }
}
