//! Round-trip time of one path: latest, smoothed, smallest, and how much it varies (RFC 9002, section 5).

use std::time::Duration;

use super::extremum::WindowedMinimum;
use crate::time::Instant;

/// Assumed before the first measurement.
pub const INITIAL: Duration = Duration::from_millis(250);
/// Clocks and timers are not finer than this.
pub const GRANULARITY: Duration = Duration::from_millis(1);
const MINIMUM_WINDOW: Duration = Duration::from_secs(10);

/// Estimates the round trip over one pair of outward and return path.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    minimum: WindowedMinimum<Duration>,
    measured: bool,
}

impl Default for RttEstimator {
    fn default() -> Self {
        Self::new()
    }
}

impl RttEstimator {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self {
            latest: INITIAL,
            smoothed: INITIAL,
            variation: INITIAL / 2,
            minimum: WindowedMinimum::new(MINIMUM_WINDOW),
            measured: false,
        }
    }

    /// One measurement: `round_trip` from sending to the arrival of the acknowledgement, of which the peer held it
    /// back for `ack_delay`.
    pub fn update(&mut self, round_trip: Duration, ack_delay: Duration, now: Instant) {
        // A peer that claims to have waited longer than the whole trip is wrong about its clock.
        let sample = if ack_delay < round_trip {
            round_trip - ack_delay
        } else {
            round_trip
        };
        self.latest = sample;
        self.minimum.update(now, sample);
        if self.measured {
            self.variation = (self.variation * 3 + self.smoothed.abs_diff(sample)) / 4;
            self.smoothed = (self.smoothed * 7 + sample) / 8;
        } else {
            self.measured = true;
            self.smoothed = sample;
            self.variation = sample / 2;
        }
    }

    /// True once something was measured.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// The newest measurement, without the peer's waiting.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// Exponentially weighted mean.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// Mean deviation from the mean.
    pub fn variation(&self) -> Duration {
        self.variation
    }

    /// Smallest of the last 10 s.
    pub fn minimum(&self) -> Duration {
        self.minimum.value().unwrap_or(self.smoothed)
    }

    /// How long to wait for an acknowledgement before something is wrong.
    pub fn probe_timeout(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY) + max_ack_delay
    }

    /// An answer is late after this time: seldom by itself a reason to do anything.
    pub fn overdue(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed + self.variation + (self.smoothed / 8).min(max_ack_delay)
    }

    /// The way has become longer: what was the smallest is none any more.
    pub fn forget_minimum(&mut self, now: Instant) {
        self.minimum.clear();
        self.minimum.update(now, self.latest);
    }

    /// Acknowledgements come back another way from now on: the next measurement counts alone.
    pub fn restart(&mut self) {
        self.measured = false;
        self.minimum.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn steady_samples_narrow_the_timeout() {
        let mut rtt = RttEstimator::new();
        for step in 0..100 {
            rtt.update(25 * MS, 5 * MS, Instant::from_millis(step * 20));
        }
        assert_eq!(rtt.smoothed(), 20 * MS);
        assert_eq!(rtt.minimum(), 20 * MS);
        assert!(
            rtt.probe_timeout(5 * MS) <= 27 * MS,
            "{:?}",
            rtt.probe_timeout(5 * MS)
        );
    }

    #[test]
    fn the_minimum_forgets_after_ten_seconds() {
        let mut rtt = RttEstimator::new();
        rtt.update(10 * MS, Duration::ZERO, Instant::from_millis(0));
        for step in 1..=1_100 {
            rtt.update(40 * MS, Duration::ZERO, Instant::from_millis(step * 10));
        }
        assert_eq!(rtt.minimum(), 40 * MS);
    }

    #[test]
    fn a_peer_that_waited_longer_than_the_trip_is_not_believed() {
        let mut rtt = RttEstimator::new();
        rtt.update(10 * MS, Duration::from_secs(4000), Instant::ZERO);
        assert_eq!(rtt.latest(), 10 * MS);
    }

    #[test]
    fn another_way_back_starts_afresh() {
        let mut rtt = RttEstimator::new();
        rtt.update(10 * MS, Duration::ZERO, Instant::from_millis(0));
        rtt.restart();
        rtt.update(60 * MS, Duration::ZERO, Instant::from_millis(10));
        assert_eq!((rtt.smoothed(), rtt.minimum()), (60 * MS, 60 * MS));
    }
}
