//! What one round trip showed: the delivery rate, the queue, the losses.

use std::time::Duration;

use super::RateSample;

/// Collects a round trip's acknowledgements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// A packet that is sent after this much was delivered ends the round.
    end: u64,
    queue_sum: Duration,
    queue_smallest: Option<Duration>,
    rtt_smallest: Option<Duration>,
    samples: u32,
    delivered: u64,
    lost: u64,
    last: RateSample,
}

/// A round trip that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Bytes per second that arrived; zero if unknown.
    pub(super) rate: f64,
    /// Bytes per second at which they had been sent; zero if unknown.
    pub(super) send_rate: f64,
    /// Over which time.
    pub(super) interval: Duration,
    pub(super) app_limited: bool,
    /// Mean delay above the base.
    pub(super) queue: Duration,
    /// Smallest delay above the base.
    pub(super) queue_smallest: Duration,
    /// Smallest round trip; none if no packet's was measured.
    pub(super) rtt_smallest: Option<Duration>,
    pub(super) delivered: u64,
    pub(super) lost: u64,
}

impl Observation {
    /// The share of bytes that was lost.
    pub(super) fn loss(&self) -> f64 {
        self.lost as f64 / (self.lost + self.delivered).max(1) as f64
    }

    /// True if more was lost than `usual`, beyond `excess` and beyond chance.
    pub(super) fn lost_more_than(&self, usual: f64, excess: f64) -> bool {
        let packets = ((self.lost + self.delivered) as f64 / 1500.0).max(1.0);
        let chance = 2.0 * (usual * (1.0 - usual) / packets).sqrt();
        self.loss() > usual + excess.max(chance)
    }
}

impl Round {
    pub(super) fn on_loss(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    pub(super) fn on_spurious_loss(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_sub(bytes);
    }

    /// The current round ends only when what is sent from now on arrives.
    pub(super) fn begin_anew(&mut self) {
        let end = self.last.total_delivered;
        *self = Self {
            end,
            last: self.last,
            ..Self::default()
        };
    }

    /// Takes an acknowledgement in; the observation of the round that it ends, if it ends one.
    pub(super) fn on_ack(&mut self, sample: &RateSample) -> Option<Observation> {
        self.queue_sum += sample.queue_delay;
        self.queue_smallest = Some(
            self.queue_smallest
                .map_or(sample.queue_delay, |smallest| smallest.min(sample.queue_delay)),
        );
        if !sample.rtt.is_zero() {
            self.rtt_smallest = Some(
                self.rtt_smallest
                    .map_or(sample.rtt, |smallest| smallest.min(sample.rtt)),
            );
        }
        self.samples += 1;
        self.delivered += sample.newly_acked;
        self.last = *sample;
        if sample.prior_delivered < self.end {
            return None;
        }
        let observation = Observation {
            rate: sample.rate.0 as f64,
            send_rate: sample.send_rate.0 as f64,
            interval: sample.interval,
            app_limited: sample.app_limited,
            queue: self.queue_sum / self.samples,
            queue_smallest: self.queue_smallest.unwrap_or_default(),
            rtt_smallest: self.rtt_smallest,
            delivered: self.delivered,
            lost: self.lost,
        };
        self.begin_anew();
        Some(observation)
    }
}
