//! What a round trip teaches: the rate of the path, and the share of packets that it loses at any rate.

use std::time::Duration;

use super::round::Observation;
use super::{Bond, MOST_USUAL_LOSS, PLAIN_QUEUE, State, UP_INTERVAL};

impl Bond {
    pub(super) fn learn_loss(&mut self, seen: &Observation) {
        // Losses of a full queue are told a round trip late, and are not usual.
        let quiet = matches!(self.state, State::Cruise)
            && self.rounds > 2
            && self.ours(seen.queue) < self.queue_most();
        if !quiet {
            return;
        }
        self.usual_delivered += seen.delivered as f64;
        self.usual_lost += seen.lost as f64;
        let total = self.usual_delivered + self.usual_lost;
        if total > 2_000_000.0 {
            self.usual_delivered *= 0.75;
            self.usual_lost *= 0.75;
        }
        if total > 200_000.0 {
            self.usual_loss = (self.usual_lost / total).min(MOST_USUAL_LOSS);
        }
    }

    pub(super) fn learn_rate(&mut self, seen: &Observation) {
        if seen.rate < 1.0 || seen.interval < self.rtt_minimum() / 2 {
            return;
        }
        let lost = if self.ceiling { 0.0 } else { self.usual_loss };
        let rate = seen.rate / (1.0 - lost);
        if rate >= self.bandwidth {
            // Under a ceiling there is no queue that would correct an estimate that chance drove up.
            let share = if self.ceiling { 0.25 } else { 1.0 };
            self.bandwidth += share * (rate - self.bandwidth);
            return;
        }
        if seen.app_limited || self.state == State::Startup {
            return;
        }
        if self.ceiling && seen.loss() > 0.005 {
            // Sending faster brings nothing but loss.
            self.bandwidth += 0.25 * (rate.max(0.97 * self.ceiling_rate) - self.bandwidth).min(0.0);
            return;
        }
        // The link was busy all the time if every packet found a queue. It was the link and not we who set the rate if
        // that differs from the rate of sending.
        let busy = self.ours(seen.queue_smallest) > Duration::from_micros(500);
        let blur = (0.02 + self.noise.as_secs_f64() / seen.interval.as_secs_f64().max(0.001)).min(0.5);
        let sent = seen.send_rate;
        let beyond_doubt = seen.queue_smallest > PLAIN_QUEUE;
        let told = (seen.rate - sent).abs() > blur * sent || beyond_doubt;
        if busy && told {
            let far = rate < 0.85 * self.bandwidth;
            self.bandwidth = if far { rate } else { (self.bandwidth + rate) / 2.0 };
            if far {
                self.up_interval = UP_INTERVAL.0;
            }
        }
    }
}
