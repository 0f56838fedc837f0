//! Links whose rate moves faster than probing finds it, as radio links' rates do.
//!
//! As long as a queue stands, what is acknowledged tells the rate of just now. So a queue is kept that lasts until more is
//! sent when the rate rises, and the window, not the pace, says how much may be on its way: each acknowledgement lets out
//! what the link took, however fast that was, and the estimate follows a round trip later.

use std::time::Duration;

use super::round::Observation;
use super::{ACK_SLACK, Bond, PACKET, PLAIN_QUEUE, RateSample, State};
use crate::time::Instant;

/// A change of the rate by less than this factor is none.
const SWING: f64 = 1.5;
/// A rate that turned so often within this time moves; one that turned less than half as often does not.
const TURNS: usize = 6;
const REMEMBERED: Duration = Duration::from_secs(8);
/// What turns sooner is no link's doing: a neighbour begins, or our own estimate swings.
const SHORTEST: Duration = Duration::from_millis(200);
/// Pace, in estimates: a rate that doubles is filled at once, as far as the window goes.
const GAIN: f64 = 2.0;
/// The queue that stands: it lasts for half of a round trip of 60 ms if the rate doubles.
const QUEUE: Duration = Duration::from_millis(30);
/// Behind such a queue a link is busy.
const BUSY: Duration = Duration::from_millis(8);
/// From such a queue follows how fast the link is at most, if it was not a few packets that waited.
const LONG: Duration = Duration::from_millis(20);
const LEAST: u64 = 8 * PACKET;
/// Where the rate moves the queue is short now and then; one that is not for so long is somebody else's.
const NEVER_SHORT: Duration = Duration::from_secs(2);

/// How the rate went up and down lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Swings {
    /// The farthest that the present movement went, and its direction; zero: none yet.
    extreme: f64,
    rising: bool,
    /// When the direction changed, newest first.
    turns: [Option<Instant>; TURNS],
}

impl Swings {
    fn learn(&mut self, now: Instant, rate: f64) {
        let (farther, turned) = if self.rising {
            (rate > self.extreme, rate * SWING < self.extreme)
        } else {
            (rate < self.extreme, rate > self.extreme * SWING)
        };
        if self.extreme <= 0.0 {
            self.extreme = rate;
        } else if turned {
            self.rising = !self.rising;
            if self.turns[0].is_none_or(|last| now.since(last) >= SHORTEST) {
                self.turns.rotate_right(1);
                self.turns[0] = Some(now);
            }
        }
        if farther || turned {
            self.extreme = rate;
        }
    }

    fn lately(&self, now: Instant) -> usize {
        (self.turns.iter().flatten())
            .filter(|turn| now.since(**turn) < REMEMBERED)
            .count()
    }
}

impl Bond {
    /// Notes how the rate moves, and begins to follow one that moves all the time.
    pub(super) fn watch_swings(&mut self, now: Instant, sample: &RateSample) {
        if matches!(self.state, State::Startup | State::Resume) || self.ceiling || self.compete.is_some() {
            return;
        }
        // What arrives behind a plain queue is the link's rate; otherwise the estimate has to do.
        let arrived = sample.rate.0 as f64;
        let busy = !sample.app_limited && self.ours(sample.queue_delay) > PLAIN_QUEUE;
        let measured = busy && arrived >= 1.0 && sample.interval >= self.rtt_minimum() / 2;
        let rate = if measured { arrived } else { self.bandwidth };
        let most = self.most_possible(sample).unwrap_or(f64::MAX);
        self.swings.learn(now, rate.min(most));
        if self.state != State::Follow && self.swings.lately(now) == TURNS {
            self.short_queue = now;
            self.enter(now, State::Follow, GAIN);
        }
    }

    /// While a packet waited in the link's queue, no more than what was on its way before it left that queue: so fast is
    /// the link at most, however little was sent since.
    fn most_possible(&self, sample: &RateSample) -> Option<f64> {
        let waited = self.ours(sample.queue_delay);
        (waited > LONG && sample.in_flight_at_send >= LEAST)
            .then(|| sample.in_flight_at_send as f64 / waited.as_secs_f64())
    }

    pub(super) fn follow_window(&self) -> u64 {
        self.pipe(self.noise + QUEUE + ACK_SLACK).max(LEAST)
    }

    /// Each acknowledgement tells: upwards at once, downwards half of the way.
    pub(super) fn follow_rate(&mut self, sample: &RateSample) {
        let rate = sample.rate.0 as f64;
        if rate < 1.0 || sample.interval < self.rtt_minimum() / 2 {
            return;
        }
        if let Some(most) = self.most_possible(sample) {
            self.bandwidth = self.bandwidth.min(most);
        }
        if rate > self.bandwidth {
            self.bandwidth = rate;
        } else if !sample.app_limited && self.ours(sample.queue_delay) > BUSY {
            self.bandwidth = (self.bandwidth + rate) / 2.0;
        }
    }

    /// Follows until the rate rests, or somebody else fills the queue.
    pub(super) fn follow(&mut self, now: Instant, seen: &Observation) {
        if self.ours(seen.queue_smallest) < QUEUE / 2 {
            self.short_queue = now;
        }
        if now.since(self.short_queue) > NEVER_SHORT {
            self.swings = Swings::default();
            self.cruise(now);
        } else if self.swings.lately(now) < TURNS / 2 {
            self.cruise(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rates: &[(u64, f64)]) -> usize {
        let mut swings = Swings::default();
        for (at, rate) in rates {
            swings.learn(Instant::from_millis(*at), *rate);
        }
        swings.lately(Instant::from_millis(rates.last().unwrap().0))
    }

    #[test]
    fn a_rate_that_falls_and_returns_does_not_move_all_the_time() {
        assert_eq!(
            turns(&[(0, 50.0), (5_000, 5.0), (10_000, 10.0), (10_100, 50.0)]),
            1
        );
        assert_eq!(turns(&[(0, 50.0), (100, 40.0), (200, 55.0), (300, 45.0)]), 0);
    }

    #[test]
    fn one_that_goes_up_and_down_does() {
        let zigzag =
            |step| move |index: u64| (index * step, if index.is_multiple_of(2) { 20.0 } else { 50.0 });
        assert_eq!(turns(&(0..9).map(zigzag(500)).collect::<Vec<_>>()), TURNS);
        assert!(turns(&(0..9).map(zigzag(50)).collect::<Vec<_>>()) <= 2);
    }
}
