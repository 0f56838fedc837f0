//! What congestion controls of inner senders have in common, and Reno, the simplest of them.

use std::fmt::Debug;
use std::time::Duration;

use sennit_engine::time::Instant;

use super::bbr::Bbr;
use super::cubic::Cubic;

/// Which congestion control a sender runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 5681.
    Reno,
    /// RFC 9438 with HyStart, Linux's default.
    Cubic,
    /// RFC 9438 with a slow start that ends with a loss, as QUIC implementations have it.
    PlainCubic,
    /// After BBR version 1.
    Bbr,
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub struct Feedback {
    /// When it came.
    pub now: Instant,
    /// Bytes that it newly reports as delivered.
    pub delivered: u64,
    /// All bytes delivered so far.
    pub total: u64,
    /// A round trip, if it gives one.
    pub round_trip: Option<Duration>,
    /// The shortest round trip so far.
    pub minimum: Duration,
    /// The smoothed round trip.
    pub smoothed: Duration,
    /// Bytes in flight, after it.
    pub in_flight: u64,
    /// Delivery rate in bytes per second, if it gives one.
    pub rate: Option<f64>,
    /// The rate was limited by the application.
    pub application_limited: bool,
    /// A round trip ended.
    pub round_ended: bool,
    /// The window was the limit when the newest data were sent.
    pub window_limited: bool,
    /// Losses are being repaired.
    pub in_recovery: bool,
}

/// A congestion control. Windows are bytes.
pub trait Congestion: Debug {
    /// Data were acknowledged.
    fn on_acknowledged(&mut self, feedback: &Feedback);
    /// Losses were found, for the first time in this round trip. Returns the slow-start threshold, the window to
    /// approach in recovery, if recovery is to be shaped by the sender.
    fn on_recovery(&mut self, now: Instant, in_flight: u64) -> Option<u64>;
    /// Recovery has ended.
    fn on_recovered(&mut self, now: Instant);
    /// A retransmission time-out.
    fn on_timeout(&mut self, now: Instant);
    /// The last reduction was a mistake.
    fn on_undo(&mut self, now: Instant);
    /// The window.
    fn window(&self) -> u64;
    /// Bytes per second, if sending is paced.
    fn pacing_rate(&self) -> Option<f64>;
    /// In slow start (super-segments are then twice as large).
    fn in_slow_start(&self) -> bool;
}

/// A congestion control of its own for a sender of segments of `segment` bytes.
pub fn create(algorithm: Algorithm, segment: u64) -> Box<dyn Congestion> {
    match algorithm {
        Algorithm::Reno => Box::new(Reno::new(segment)),
        Algorithm::Cubic => Box::new(Cubic::new(segment, true)),
        Algorithm::PlainCubic => Box::new(Cubic::new(segment, false)),
        Algorithm::Bbr => Box::new(Bbr::new(segment)),
    }
}

/// Half on loss, one segment more each round trip.
#[derive(Clone, Debug)]
struct Reno {
    segment: u64,
    window: u64,
    threshold: u64,
    grown: u64,
    before: (u64, u64),
}

impl Reno {
    fn new(segment: u64) -> Self {
        Self {
            segment,
            window: 10 * segment,
            threshold: u64::MAX,
            grown: 0,
            before: (0, u64::MAX),
        }
    }

    fn reduce(&mut self) {
        self.before = (self.window, self.threshold);
        self.threshold = (self.window / 2).max(2 * self.segment);
    }
}

impl Congestion for Reno {
    fn on_acknowledged(&mut self, feedback: &Feedback) {
        if feedback.in_recovery || !feedback.window_limited {
            return;
        }
        if self.window < self.threshold {
            self.window += feedback.delivered;
            return;
        }
        self.grown += feedback.delivered;
        if self.grown >= self.window {
            self.grown -= self.window;
            self.window += self.segment;
        }
    }

    fn on_recovery(&mut self, _: Instant, _: u64) -> Option<u64> {
        self.reduce();
        Some(self.threshold)
    }

    fn on_recovered(&mut self, _: Instant) {
        self.window = self.threshold;
    }

    fn on_timeout(&mut self, _: Instant) {
        self.reduce();
        self.window = self.segment;
    }

    fn on_undo(&mut self, _: Instant) {
        self.window = self.window.max(self.before.0);
        self.threshold = self.before.1.max(self.threshold);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<f64> {
        None
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }
}
