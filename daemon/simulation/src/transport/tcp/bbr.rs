//! A sender after BBR version 1: paces at the rate that it measured, keeps about two round trips' worth in flight.

use std::time::Duration;

use sennit_engine::time::Instant;

use super::congestion::{Congestion, Feedback};

const HIGH_GAIN: f64 = 2.885;
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE_FOR: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    Bandwidth(usize),
    RoundTrip { until: Option<Instant> },
}

/// The state of one sender.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    segment: u64,
    phase: Phase,
    phase_start: Instant,
    /// Highest rates of the last ten round trips: (round, bytes per second).
    rates: Vec<(u64, f64)>,
    round: u64,
    minimum: Duration,
    minimum_at: Instant,
    full_rate: f64,
    full_rounds: u32,
    window: u64,
    window_before: u64,
    /// Acknowledgements come in clumps: bytes above what the rate explains, most of the last rounds.
    clump: (Instant, u64, [u64; 2], u64),
    conserving: bool,
}

impl Bbr {
    /// A new sender of segments of `segment` bytes.
    pub(super) fn new(segment: u64) -> Self {
        Self {
            segment,
            phase: Phase::Startup,
            phase_start: Instant::ZERO,
            rates: Vec::new(),
            round: 0,
            minimum: Duration::MAX,
            minimum_at: Instant::ZERO,
            full_rate: 0.0,
            full_rounds: 0,
            window: 10 * segment,
            window_before: 0,
            clump: (Instant::ZERO, 0, [0; 2], 0),
            conserving: false,
        }
    }

    fn rate(&self) -> f64 {
        self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }

    fn product(&self, gain: f64) -> u64 {
        if self.minimum == Duration::MAX {
            return 10 * self.segment;
        }
        (self.rate() * self.minimum.as_secs_f64() * gain) as u64
    }

    fn pacing_gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => HIGH_GAIN,
            Phase::Drain => 1.0 / HIGH_GAIN,
            Phase::Bandwidth(index) => CYCLE[index],
            Phase::RoundTrip { .. } => 1.0,
        }
    }

    fn learn(&mut self, feedback: &Feedback) {
        if feedback.round_ended {
            self.round += 1;
        }
        if let Some(rate) = feedback.rate
            && (!feedback.application_limited || rate > self.rate())
        {
            self.rates.retain(|(_, older)| *older > rate);
            self.rates.push((self.round, rate));
        }
        let oldest = self.round.saturating_sub(10);
        if self.rates.len() > 1 {
            let newest = self.rates.len() - 1;
            let mut index = 0;
            self.rates.retain(|(round, _)| {
                index += 1;
                *round >= oldest || index > newest
            });
        }
        let (start, bytes, ref mut most, ref mut rounds) = self.clump;
        let expected = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
            * feedback.now.since(start).as_secs_f64();
        let (start, bytes) = if bytes as f64 <= expected {
            (feedback.now, feedback.delivered)
        } else {
            (start, bytes + feedback.delivered)
        };
        let expected = if start == feedback.now { 0.0 } else { expected };
        if feedback.round_ended {
            *rounds += 1;
            if *rounds >= 5 {
                *rounds = 0;
                *most = [0, most[0]];
            }
        }
        most[0] = most[0].max((bytes as f64 - expected) as u64);
        self.clump.0 = start;
        self.clump.1 = bytes;
    }

    fn extra(&self) -> u64 {
        let limit = (self.rate() * 0.1) as u64;
        self.clump.2[0].max(self.clump.2[1]).min(limit)
    }

    fn check_full(&mut self, feedback: &Feedback) {
        if !feedback.round_ended || feedback.application_limited || self.full_rounds >= 3 {
            return;
        }
        if self.rate() >= self.full_rate * 1.25 {
            self.full_rate = self.rate();
            self.full_rounds = 0;
        } else {
            self.full_rounds += 1;
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_start = now;
    }

    fn advance(&mut self, feedback: &Feedback) {
        let now = feedback.now;
        self.check_full(feedback);
        match self.phase {
            Phase::Startup if self.full_rounds >= 3 => self.enter(Phase::Drain, now),
            Phase::Drain if feedback.in_flight <= self.product(1.0) => self.enter(Phase::Bandwidth(2), now),
            Phase::Bandwidth(index) => {
                let full = now.since(self.phase_start) > self.minimum;
                let next = match index {
                    0 => full && (feedback.in_recovery || feedback.in_flight >= self.product(1.25)),
                    1 => full || feedback.in_flight <= self.product(1.0),
                    _ => full,
                };
                if next {
                    self.enter(Phase::Bandwidth((index + 1) % CYCLE.len()), now);
                }
            }
            _ => {}
        }
        self.track_minimum(feedback);
    }

    fn track_minimum(&mut self, feedback: &Feedback) {
        let now = feedback.now;
        let expired = now.since(self.minimum_at) > PROBE_EVERY;
        if let Some(round_trip) = feedback.round_trip
            && (round_trip < self.minimum || expired)
        {
            self.minimum = round_trip;
            self.minimum_at = now;
        }
        match self.phase {
            Phase::RoundTrip { until: None } if feedback.in_flight <= 4 * self.segment => {
                self.enter(
                    Phase::RoundTrip {
                        until: Some(now + PROBE_FOR),
                    },
                    now,
                );
            }
            Phase::RoundTrip { until: Some(until) } if now >= until => {
                self.minimum_at = now;
                self.window = self.window.max(self.window_before);
                let next = if self.full_rounds >= 3 {
                    Phase::Bandwidth(2)
                } else {
                    Phase::Startup
                };
                self.enter(next, now);
            }
            Phase::RoundTrip { .. } => {}
            _ if expired => {
                self.window_before = self.window;
                self.enter(Phase::RoundTrip { until: None }, now);
            }
            _ => {}
        }
    }

    fn set_window(&mut self, feedback: &Feedback) {
        let gain = if matches!(self.phase, Phase::Startup | Phase::Drain) {
            HIGH_GAIN
        } else {
            2.0
        };
        let target = self.product(gain) + 3 * self.super_segment() + self.extra();
        if self.conserving {
            self.window = self.window.max(feedback.in_flight + feedback.delivered);
        } else if self.full_rounds >= 3 {
            self.window = (self.window + feedback.delivered).min(target);
        } else if self.window < target || feedback.total < 10 * self.segment {
            self.window += feedback.delivered;
        }
        self.window = self.window.max(4 * self.segment);
        if matches!(self.phase, Phase::RoundTrip { .. }) {
            self.window = self.window.min(4 * self.segment);
        }
    }

    fn super_segment(&self) -> u64 {
        ((self.rate() / 1000.0) as u64).clamp(2 * self.segment, 65_000)
    }
}

impl Congestion for Bbr {
    fn on_acknowledged(&mut self, feedback: &Feedback) {
        self.learn(feedback);
        self.advance(feedback);
        if feedback.round_ended {
            self.conserving = false;
        }
        self.set_window(feedback);
    }

    fn on_recovery(&mut self, _: Instant, in_flight: u64) -> Option<u64> {
        // One round trip of as much out as in; rates are not touched.
        self.window_before = self.window_before.max(self.window);
        self.conserving = true;
        self.window = in_flight + self.segment;
        None
    }

    fn on_recovered(&mut self, _: Instant) {
        self.conserving = false;
        self.window = self.window.max(self.window_before);
        self.window_before = 0;
    }

    fn on_timeout(&mut self, _: Instant) {
        self.window_before = self.window_before.max(self.window);
        self.window = self.segment;
        self.full_rate = 0.0;
        if self.full_rounds < 3 {
            self.full_rounds = 0;
        }
    }

    fn on_undo(&mut self, now: Instant) {
        self.on_recovered(now);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<f64> {
        if self.rate() <= 0.0 {
            return None;
        }
        // One percent below, as Linux does, so that a queue drains.
        Some((self.rate() * self.pacing_gain() * 0.99).max(10_000.0))
    }

    fn in_slow_start(&self) -> bool {
        self.phase == Phase::Startup
    }
}
