//! Probing upwards: sends faster for two round trips, to see whether more arrives, a queue grows, or packets are lost.

use super::round::Observation;
use super::{Bond, DOWN_GAIN, State, UP_GAINS, UP_INTERVAL, UP_INTERVAL_CEILING};
use crate::time::Instant;

impl Bond {
    pub(super) fn begin_up(&mut self, now: Instant) {
        self.step = 0;
        self.reference = self.bandwidth;
        self.before_up = self.bandwidth;
        self.enter(now, State::Up, UP_GAINS[0]);
    }

    pub(super) fn up(&mut self, now: Instant, seen: &Observation) {
        // What the first round brings was sent before.
        if self.rounds < 2 {
            return;
        }
        if seen.app_limited || seen.rate < 1.0 {
            if self.rounds >= 4 {
                self.cruise(now);
            }
            return;
        }
        let lost = if self.ceiling { 0.0 } else { self.usual_loss };
        let growth = seen.rate / (1.0 - lost) / self.reference;
        if growth > 1.0 + 0.5 * (self.gain - 1.0) {
            self.bandwidth = self.bandwidth.max(seen.rate);
            // A policer lets through once what it has saved up; twice is more than that.
            if !self.ceiling || self.step > 0 {
                self.ceiling = false;
                self.before_loss = None;
                self.before_up = self.bandwidth;
                self.up_interval = UP_INTERVAL.0;
            }
            self.reference = self.bandwidth;
            self.step = (self.step + 1).min(UP_GAINS.len() - 1);
            self.enter(now, State::Up, UP_GAINS[self.step]);
            // The estimate holds what the last round brought: the next one tells.
            self.rounds = 0;
            return;
        }
        let no_queue = self.ours(seen.queue) < self.queue_most() * 4 / 5;
        if !seen.lost_more_than(self.usual_loss, 0.4 * (self.gain - 1.0)) {
            self.ceiling = false;
        } else if no_queue {
            self.ceiling = true;
            self.bandwidth = seen.rate.min(self.before_up);
            self.ceiling_rate = self.bandwidth;
            self.usual_delivered = 0.0;
            self.usual_lost = 0.0;
            self.usual_loss = 0.0;
        }
        if self.ours(seen.queue) > self.queue_target() {
            self.found_queue(now);
            return;
        }
        let longest = if self.ceiling {
            UP_INTERVAL_CEILING
        } else {
            UP_INTERVAL.1
        };
        // Where variation hides what probing brings, only trying again tells.
        let longer = if self.noise > self.queue_most() { 1 } else { 2 };
        self.up_interval = (self.up_interval * longer).min(longest);
        self.enter(now, State::Down, DOWN_GAIN);
    }

    /// Probing upwards made a queue: the estimate is right.
    pub(super) fn found_queue(&mut self, now: Instant) {
        self.ceiling = false;
        self.up_interval = (self.up_interval * 2).min(UP_INTERVAL.1);
        self.enter(now, State::Down, DOWN_GAIN);
    }

    pub(super) fn down(&mut self, now: Instant, seen: &Observation) {
        if self.ours(seen.queue_smallest) <= self.queue_target() || self.rounds >= 4 {
            self.cruise(now);
        }
    }
}
