//! What we do where somebody else keeps the queue full: one flow's share, by CUBIC's rule (RFC 9438).

use std::time::Duration;

use crate::time::Instant;

const PACKET: f64 = 1500.0;
const SMALLEST: f64 = 4.0 * PACKET;
/// Between CUBIC (0.7 and 0.4) for one flow and for two, as we give way early and whenever we try alone.
const SHRINK: f64 = 0.8;
const STEEPNESS: f64 = 0.6;

/// A window that behaves as its neighbours' do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compete {
    window: f64,
    /// Where the last loss was.
    peak: f64,
    /// When the window shrank last.
    shrunk: Instant,
    /// Packets sent before this belong to a loss that was answered.
    answered: Instant,
    /// What Reno would have.
    reno: f64,
}

impl Compete {
    pub(super) fn new(now: Instant, window: u64) -> Self {
        let window = (window as f64).max(SMALLEST);
        Self {
            window,
            peak: window,
            shrunk: now,
            answered: now,
            reno: window,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    pub(super) fn on_ack(&mut self, now: Instant, acked: u64, rtt: Duration) {
        let since = (now.since(self.shrunk) + rtt).as_secs_f64();
        let wait = ((self.peak / PACKET) * (1.0 - SHRINK) / STEEPNESS).cbrt();
        let cubic = (STEEPNESS * (since - wait).powi(3)).mul_add(PACKET, self.peak);
        let share = acked as f64 / self.window;
        self.reno += 3.0 * (1.0 - SHRINK) / (1.0 + SHRINK) * PACKET * share;
        let target = cubic.clamp(self.window, 1.5 * self.window);
        self.window = (self.window + (target - self.window) * share)
            .max(self.reno)
            .max(SMALLEST);
    }

    /// A packet sent at `sent` was lost, or marked. True if this is news.
    pub(super) fn on_loss(&mut self, now: Instant, sent: Instant) -> bool {
        if sent < self.answered {
            return false;
        }
        self.answered = now;
        self.shrunk = now;
        self.peak = if self.window < self.peak {
            self.window * (1.0 + SHRINK) / 2.0
        } else {
            self.window
        };
        self.window = (self.window * SHRINK).max(SMALLEST);
        self.reno = self.window;
        true
    }
}
