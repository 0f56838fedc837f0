//! How long a missing packet may still be on its way: little on a path that keeps its order, more where it does not.

use std::time::Duration;

use super::rtt::{GRANULARITY, RttEstimator};
use crate::time::Instant;

/// Later packets that prove a loss on a path that keeps its order.
pub(super) const PACKETS: u64 = 3;
/// A step wider is forgotten after this many round trips with losses that were real.
const RECOVERIES: u32 = 16;
const WIDEST: u32 = 8;

/// What a path has shown of reordering (after RFC 8985, section 6.2).
#[derive(Clone, Debug)]
pub(super) struct Reordering {
    /// How often a loss turned out to be none, less what was forgotten.
    steps: u32,
    recoveries: u32,
    changed: Instant,
}

impl Reordering {
    pub(super) fn new() -> Self {
        Self {
            steps: 0,
            recoveries: 0,
            changed: Instant::ZERO,
        }
    }

    /// A packet is lost if a later one was acknowledged and this much time went by since it was sent.
    pub(super) fn patience(&self, rtt: &RttEstimator) -> Duration {
        let round_trip = rtt.smoothed().max(rtt.latest());
        let usual = round_trip * 9 / 8;
        if self.steps == 0 {
            return usual.max(GRANULARITY);
        }
        let wider = (rtt.minimum() * (self.steps + 1) / 4)
            .min(rtt.smoothed())
            .max(GRANULARITY);
        usual.max(round_trip + wider)
    }

    /// A packet is lost if one that many numbers later was acknowledged; none: only time counts.
    pub(super) fn packets(&self) -> Option<u64> {
        (self.steps == 0).then_some(PACKETS)
    }

    /// What had been declared lost arrived. Counts once in a round trip.
    pub(super) fn on_spurious(&mut self, now: Instant, rtt: &RttEstimator) {
        self.recoveries = 0;
        if self.steps == 0 || now.since(self.changed) >= rtt.smoothed() {
            self.changed = now;
            self.steps = (self.steps + 1).min(WIDEST);
        }
    }

    /// Something was declared lost. Counts once in a round trip.
    pub(super) fn on_loss(&mut self, now: Instant, rtt: &RttEstimator) {
        if self.steps == 0 || now.since(self.changed) < rtt.smoothed() {
            return;
        }
        self.changed = now;
        self.recoveries += 1;
        if self.recoveries >= RECOVERIES {
            self.recoveries = 0;
            self.steps -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_spurious_losses_and_comes_back() {
        let mut rtt = RttEstimator::new();
        let mut now = Instant::ZERO;
        for _ in 0..50 {
            rtt.update(Duration::from_millis(40), Duration::ZERO, now);
        }
        let mut reordering = Reordering::new();
        assert_eq!(reordering.packets(), Some(3));
        assert_eq!(reordering.patience(&rtt), Duration::from_millis(45));
        for _ in 0..3 {
            now += Duration::from_millis(50);
            reordering.on_spurious(now, &rtt);
            reordering.on_spurious(now, &rtt);
        }
        assert_eq!(reordering.packets(), None);
        assert_eq!(reordering.patience(&rtt), Duration::from_millis(80));
        for _ in 0..3 * RECOVERIES {
            now += Duration::from_millis(50);
            reordering.on_loss(now, &rtt);
        }
        assert_eq!(reordering.packets(), Some(3));
    }
}
