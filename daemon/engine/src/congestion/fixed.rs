//! A fixed rate: for tests, and where the user knows the rate. Never slows down, whatever is lost.

use std::time::Duration;

use super::{Controller, Loss, RateSample};
use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// What may be in flight beyond one round trip at the rate.
const SLACK: Duration = Duration::from_millis(50);
const SMALLEST_WINDOW: u64 = 32 * 1500;

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Fixed {
    rate: BytesPerSecond,
    limit: Option<BytesPerSecond>,
    rtt: Duration,
}

impl Fixed {
    /// Always this rate.
    pub fn new(rate: BytesPerSecond) -> Self {
        Self {
            rate,
            limit: None,
            rtt: crate::path::rtt::INITIAL,
        }
    }
}

impl Controller for Fixed {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, _now: Instant, sample: &RateSample, _in_flight: u64) {
        if !sample.rtt.is_zero() {
            self.rtt = (self.rtt * 7 + sample.rtt) / 8;
        }
    }

    fn on_loss(&mut self, _now: Instant, _loss: &Loss) {}

    fn on_spurious_loss(&mut self, _now: Instant, _bytes: u64) {}

    fn on_idle_restart(&mut self, _now: Instant) {}

    fn window(&self) -> u64 {
        let span = u64::try_from((self.rtt + SLACK).as_nanos()).unwrap_or(u64::MAX);
        self.pacing_rate().bytes_in(span).max(SMALLEST_WINDOW)
    }

    fn pacing_rate(&self) -> BytesPerSecond {
        self.limit.map_or(self.rate, |limit| limit.min(self.rate))
    }

    fn bandwidth(&self) -> BytesPerSecond {
        self.pacing_rate()
    }

    fn knows_rate(&self) -> bool {
        true
    }

    fn way_is_longer(&mut self) -> bool {
        false
    }

    fn wants_probe_traffic(&self) -> bool {
        false
    }

    fn set_limit(&mut self, limit: Option<BytesPerSecond>) {
        self.limit = limit;
    }

    fn state_name(&self) -> &'static str {
        "fixed"
    }
}
