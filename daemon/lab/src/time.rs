//! Points in time and spans as the emulator counts them: integers, so that a run depends on nothing but its input.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time or a span, in nanoseconds. Points are of the monotonic clock, or virtual in tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// From milliseconds; negative values become zero.
    pub fn from_millis(millis: f64) -> Self {
        Self((millis * 1e6).max(0.0).round() as u64)
    }

    /// From seconds; negative values become zero.
    pub fn from_secs(seconds: f64) -> Self {
        Self((seconds * 1e9).max(0.0).round() as u64)
    }

    /// In milliseconds.
    pub fn millis(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// In seconds.
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The difference, or zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.since(other)
    }
}

impl From<Nanos> for Duration {
    fn from(nanos: Nanos) -> Self {
        Self::from_nanos(nanos.0)
    }
}
