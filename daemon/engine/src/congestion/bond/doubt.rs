//! A delay that stays: is it a queue at all? And a queue that is far too long: what to do until the estimate follows.

use std::time::Duration;

use super::round::Observation;
use super::{Bond, RateSample, State, UP_SLACK};
use crate::time::Instant;

/// Less than this, and nothing can be read from how the delay changes.
const TELLING: Duration = Duration::from_millis(3);
/// A delay that changes by less than this stays.
const STEADY: Duration = Duration::from_millis(1);
/// After a doubt the delay is believed for so long.
const DOUBT_INTERVAL: Duration = Duration::from_secs(5);
/// At most this part of the window is taken away: a delay that is no queue must not stop us.
const MOST_SQUEEZED: u64 = 4;

/// What was there before we sent less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    in_flight: u64,
    queue: Duration,
}

impl Doubt {
    pub(super) fn window(&self) -> u64 {
        self.in_flight / 2
    }
}

impl Bond {
    /// Every packet of a round trip was late by far more than we make queues.
    pub(super) fn is_doubtful(&self, now: Instant, seen: &Observation) -> bool {
        self.ours(seen.queue_smallest) > 2 * self.queue_most() && now >= self.next_doubt
    }

    /// A queue, whoever fills it, is as many bytes shorter as we have fewer on the way: so now it is half. Until that has
    /// shown, the estimate stays: over a longer way less arrives in a round trip as well.
    pub(super) fn begin_doubt(&mut self, now: Instant, seen: &Observation) {
        self.next_doubt = now + DOUBT_INTERVAL;
        self.doubt = Some(Doubt {
            in_flight: self.in_flight,
            queue: seen.queue_smallest,
        });
        self.enter(now, State::Doubt, 0.7);
    }

    pub(super) fn doubt(&mut self, now: Instant, seen: &Observation) {
        if self.rounds < 2 {
            return;
        }
        let Some(doubt) = self.doubt.take() else { return };
        let fewer = doubt.in_flight.saturating_sub(self.in_flight) as f64;
        let gone = Duration::from_secs_f64((fewer / self.unspoilt.max(self.bandwidth).max(1.0)).min(1.0));
        let change = doubt.queue.abs_diff(seen.queue_smallest);
        // A neighbour's queue is never quite the same, and sooner or later it overflows.
        let same = change < STEADY + self.noise / 2 && seen.lost == 0;
        if same && gone > TELLING && change * 4 < gone {
            self.longer = true;
            self.squeezed = None;
            self.rtt_minimum.clear();
            self.rtt_lately.clear();
        }
        self.cruise(now);
    }

    /// Follows a queue that grows far beyond what we want, and lets go at once when it is gone: the rate of a radio link
    /// falls and returns faster than the estimate may.
    pub(super) fn squeeze(&mut self, sample: &RateSample) {
        let ours = self.ours(sample.queue_delay);
        if ours <= self.queue_most() {
            self.squeezed = None;
        } else if ours > 2 * self.queue_most() + UP_SLACK && sample.interval >= self.rtt_minimum() / 2 {
            self.squeezed = Some(sample.rate.0 as f64);
        }
    }

    /// What of a window is left while a long queue stands.
    pub(super) fn squeezed_window(&self, window: u64) -> u64 {
        let Some(rate) = self.squeezed else { return window };
        let enough = (rate * (self.rtt_minimum() + self.queue_most()).as_secs_f64()) as u64;
        window.min(enough.max(window / MOST_SQUEEZED))
    }
}
