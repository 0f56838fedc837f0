//! Delivery rate of one path: how much arrived in how much time, at any moment, without filling the path.
//!
//! For each packet it is remembered how much had been delivered when it was sent. When it is acknowledged, what was
//! delivered since then took the longer of two times: that in which it was sent, and that in which it arrived. The
//! latter is read from the peer's clock, so that acknowledgements which wait or come in bunches do not matter.

use std::time::Duration;

use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// What one acknowledgement tells about the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes that arrived within `interval`.
    pub delivered: u64,
    /// Time over which they were sent or received, whichever is longer. Zero: no rate could be measured.
    pub interval: Duration,
    /// `delivered` over `interval`; zero if it could not be measured.
    pub rate: BytesPerSecond,
    /// The rate at which the delivered bytes had been sent; zero if it could not be measured.
    pub send_rate: BytesPerSecond,
    /// The sender had too little to send: the path may be faster than this.
    pub app_limited: bool,
    /// Round trip of the newest packet; zero if it could not be measured.
    pub rtt: Duration,
    /// Bytes declared lost while `delivered` arrived.
    pub lost_bytes: u64,
    /// Bytes in flight when the newest packet was sent.
    pub in_flight_at_send: u64,
    /// How much of the newest packet's one-way delay is above the smallest of the last seconds.
    pub queue_delay: Duration,
    /// Bytes that this acknowledgement newly acknowledged.
    pub newly_acked: u64,
    /// All bytes delivered on this path before the newest packet was sent: a round trip ends when this reaches what
    /// was delivered at its beginning.
    pub prior_delivered: u64,
    /// All bytes delivered on this path until now.
    pub total_delivered: u64,
    /// Packets newly reported as marked by ECN.
    pub ce: u32,
}

/// What was known when a packet was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    delivered: u64,
    /// When the newest of `delivered` was sent.
    newest_sent: Instant,
    /// When its acknowledgement came.
    acked_at: Instant,
    /// When it arrived, on the peer's clock; none after a pause.
    received_at: Option<u32>,
    lost: u64,
    in_flight: u64,
    app_limited: bool,
}

/// Measures one path.
#[derive(Clone, Debug)]
pub(super) struct RateEstimator {
    delivered: u64,
    newest_sent: Instant,
    acked_at: Instant,
    received_at: Option<u32>,
    lost: u64,
    /// Too little was sent until this much is delivered; zero: enough is sent.
    app_limited_until: u64,
}

/// The newest packet that an acknowledgement covers, with what was known when it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub(super) sent: Instant,
    pub(super) snapshot: Snapshot,
}

impl RateEstimator {
    pub(super) fn new() -> Self {
        Self {
            delivered: 0,
            newest_sent: Instant::ZERO,
            acked_at: Instant::ZERO,
            received_at: None,
            lost: 0,
            app_limited_until: 0,
        }
    }

    /// A packet leaves; `in_flight` is what was in flight before it.
    pub(super) fn on_sent(&mut self, now: Instant, in_flight: u64) -> Snapshot {
        if in_flight == 0 {
            // Time in which nothing was on its way says nothing about the path.
            self.newest_sent = now;
            self.acked_at = now;
            self.received_at = None;
        }
        Snapshot {
            delivered: self.delivered,
            newest_sent: self.newest_sent,
            acked_at: self.acked_at,
            received_at: self.received_at,
            lost: self.lost,
            in_flight,
            app_limited: self.app_limited_until > 0,
        }
    }

    /// There was room and nothing to send.
    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    pub(super) fn on_delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// An acknowledgement was taken in. `received_at` is the arrival of `newest` on the peer's clock, if the
    /// acknowledgement says so.
    pub(super) fn sample(&mut self, now: Instant, newest: Newest, received_at: Option<u32>) -> RateSample {
        let then = newest.snapshot;
        let sending = newest.sent.since(then.newest_sent);
        let acknowledging = now.since(then.acked_at);
        let receiving = match (then.received_at, received_at) {
            (Some(from), Some(to)) => {
                let micros = to.wrapping_sub(from);
                // A clock that was set in between gives nonsense; the acknowledgements' times are never far off.
                (micros < 1 << 31)
                    .then(|| Duration::from_micros(u64::from(micros)))
                    .filter(|&receiving| receiving <= acknowledging * 2 + Duration::from_millis(100))
            }
            _ => None,
        };
        let interval = sending.max(receiving.unwrap_or(acknowledging));
        let delivered = self.delivered - then.delivered;
        if newest.sent >= self.newest_sent {
            self.newest_sent = newest.sent;
            self.acked_at = now;
            self.received_at = received_at;
        }
        RateSample {
            delivered,
            interval,
            rate: rate(delivered, interval),
            send_rate: rate(delivered, sending),
            app_limited: then.app_limited,
            lost_bytes: self.lost - then.lost,
            in_flight_at_send: then.in_flight,
            prior_delivered: then.delivered,
            total_delivered: self.delivered,
            ..RateSample::default()
        }
    }
}

fn rate(bytes: u64, interval: Duration) -> BytesPerSecond {
    let nanoseconds = interval.as_nanos();
    let rate = (u128::from(bytes) * 1_000_000_000).checked_div(nanoseconds);
    BytesPerSecond(rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX)))
}
