//! CUBIC (RFC 9438) with HyStart.

use std::time::Duration;

use sennit_engine::time::Instant;

use super::congestion::{Congestion, Feedback};

const SCALE: f64 = 0.4;
const BETA: f64 = 0.7;
/// Growth in a round trip, at least, until the first loss: Linux does not wait for the cubic curve where nothing is known.
const FIRST_GROWTH: f64 = 0.05;

/// The state of one sender; windows in segments.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    segment: f64,
    window: f64,
    threshold: f64,
    /// The window before the last reduction, lowered by fast convergence.
    peak: f64,
    epoch: Option<Epoch>,
    hystart: Option<HyStart>,
    before: Option<(f64, f64, f64)>,
}

/// A stretch of growth since the last reduction.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds until the window is back at `origin`.
    to_origin: f64,
    origin: f64,
    /// What Reno would have.
    reno: f64,
}

/// Leaves slow start when round trips grow or acknowledgements span half of one.
#[derive(Clone, Debug, Default)]
struct HyStart {
    round_start: Instant,
    last: Instant,
    samples: u32,
    shortest: Duration,
}

impl Cubic {
    /// A new sender of segments of `segment` bytes, with or without HyStart.
    pub(super) fn new(segment: u64, hystart: bool) -> Self {
        Self {
            segment: segment as f64,
            window: 10.0,
            threshold: f64::INFINITY,
            peak: 0.0,
            epoch: None,
            hystart: hystart.then(HyStart::default),
            before: None,
        }
    }

    fn reduce(&mut self) {
        self.before = Some((self.window, self.threshold, self.peak));
        self.epoch = None;
        self.peak = if self.window < self.peak {
            self.window * (1.0 + BETA) / 2.0
        } else {
            self.window
        };
        self.threshold = (self.window * BETA).max(2.0);
    }

    fn grow(&mut self, feedback: &Feedback, acknowledged: f64) {
        let window = self.window;
        let peak = self.peak;
        let epoch = self.epoch.get_or_insert_with(|| {
            let origin = peak.max(window);
            Epoch {
                start: feedback.now,
                to_origin: ((origin - window) / SCALE).cbrt(),
                origin,
                reno: window,
            }
        });
        let time = (feedback.now.since(epoch.start) + feedback.minimum).as_secs_f64();
        let target = epoch.origin + SCALE * (time - epoch.to_origin).powi(3);
        let step = if target > window {
            (target - window) / window
        } else {
            0.01 / window
        };
        let step = if peak == 0.0 { step.max(FIRST_GROWTH) } else { step };
        // No more than half a segment for each segment acknowledged.
        let mut next = window + (step * acknowledged).min(acknowledged / 2.0);
        epoch.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) * acknowledged / window;
        if epoch.reno > next {
            next = window + ((epoch.reno - window) / window * acknowledged).min(acknowledged / 2.0);
        }
        self.window = next;
    }
}

impl HyStart {
    /// Whether slow start should end.
    fn leaves(&mut self, feedback: &Feedback, window: f64) -> bool {
        if feedback.round_ended || self.samples == 0 {
            *self = Self {
                round_start: feedback.now,
                last: feedback.now,
                samples: 0,
                shortest: Duration::MAX,
            };
        }
        if let Some(round_trip) = feedback.round_trip {
            self.samples += 1;
            if self.samples <= 8 {
                self.shortest = self.shortest.min(round_trip);
            }
        }
        let minimum = feedback.minimum;
        let dense = feedback.now.since(self.last) <= Duration::from_millis(2);
        if dense {
            self.last = feedback.now;
        }
        let train = dense && feedback.now.since(self.round_start) > minimum / 2;
        let allowed = (minimum / 8).clamp(Duration::from_millis(4), Duration::from_millis(16));
        let delayed =
            self.samples >= 8 && self.shortest != Duration::MAX && self.shortest > minimum + allowed;
        window >= 16.0 && (train || delayed)
    }
}

impl Congestion for Cubic {
    fn on_acknowledged(&mut self, feedback: &Feedback) {
        if feedback.in_recovery {
            return;
        }
        let acknowledged = feedback.delivered as f64 / self.segment;
        if self.window < self.threshold {
            let window = self.window;
            if (self.hystart.as_mut()).is_some_and(|hystart| hystart.leaves(feedback, window)) {
                self.threshold = self.window;
            } else if feedback.window_limited {
                self.window += acknowledged;
            }
        } else if feedback.window_limited {
            self.grow(feedback, acknowledged);
        } else if let Some(epoch) = &mut self.epoch {
            // Idle time is no time to grow in.
            epoch.start = epoch.start.max(feedback.now - feedback.smoothed);
        }
    }

    fn on_recovery(&mut self, _: Instant, _: u64) -> Option<u64> {
        self.reduce();
        Some((self.threshold * self.segment) as u64)
    }

    fn on_recovered(&mut self, _: Instant) {
        self.window = self.threshold;
    }

    fn on_timeout(&mut self, _: Instant) {
        self.reduce();
        self.window = 1.0;
    }

    fn on_undo(&mut self, _: Instant) {
        if let Some((window, threshold, peak)) = self.before.take() {
            self.window = self.window.max(window);
            self.threshold = threshold;
            self.peak = peak;
            self.epoch = None;
        }
    }

    fn window(&self) -> u64 {
        (self.window.floor() * self.segment) as u64
    }

    fn pacing_rate(&self) -> Option<f64> {
        None
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }
}
