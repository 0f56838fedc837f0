//! What one direction of a link is asked to be, and how that changes while it runs.

use super::jitter::Jitter;
use super::loss::Loss;
use super::trace::Trace;
use crate::time::Nanos;

/// One direction of a link. Bytes are counted as frames: the IP packet and the 14 bytes of the Ethernet header.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// How fast frames leave the queue.
    pub service: Service,
    /// One-way delay after a frame has left the queue.
    pub delay: Nanos,
    /// What the queue holds, the frame in service included; what does not fit is dropped at the tail.
    pub queue_bytes: u64,
    /// Loss after the queue.
    pub loss: Loss,
    /// Variation of the delay.
    pub jitter: Jitter,
    /// Frames that overtake others.
    pub reorder: Option<Reorder>,
    /// Share of frames delivered twice.
    pub duplicate: f64,
    /// Drops before the queue what exceeds a rate.
    pub policer: Option<Policer>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            service: Service::Unlimited,
            delay: Nanos::ZERO,
            queue_bytes: 250_000,
            loss: Loss::None,
            jitter: Jitter::None,
            reorder: None,
            duplicate: 0.0,
            policer: None,
        }
    }
}

/// How fast frames leave the queue.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// At once.
    Unlimited,
    /// At a constant rate in bits per second.
    Rate(u64),
    /// As a trace of delivery opportunities says.
    Trace(Trace),
}

impl Service {
    /// Mean rate over a span from the start in bits per second; infinite if there is no limit.
    pub fn mean_rate(&self, span: Nanos) -> f64 {
        match self {
            Self::Unlimited => f64::INFINITY,
            Self::Rate(rate) => *rate as f64,
            Self::Trace(trace) => trace.capacity(span) / span.secs().max(1e-9),
        }
    }
}

/// Frames that overtake others: some are held back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// Share of frames held back.
    pub share: f64,
    /// For how long.
    pub by: Nanos,
}

/// A token bucket without a queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policer {
    /// Bits per second.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst_bytes: u64,
}

/// A change while the link runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing is delivered from now on, and what was in the queue or on the way is gone; nobody is told.
    Silence,
    /// Delivers again.
    Heal,
    /// Another rate, in bits per second.
    Rate(u64),
    /// Another one-way delay.
    Delay(Nanos),
    /// Another loss.
    Loss(Loss),
    /// Another variation of the delay.
    Jitter(Jitter),
}
