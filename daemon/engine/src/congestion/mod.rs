//! Congestion control of one WAN: how fast it may be sent to, and how much may be on its way. One file an algorithm.

mod bond;
mod fixed;
#[cfg(test)]
mod link;

use std::fmt::Debug;

pub use bond::Bond;
pub use fixed::Fixed;

pub use crate::path::rate::RateSample;
use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// Packets that were declared lost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Their bytes.
    pub bytes: u64,
    /// When the newest of them was sent.
    pub sent: Instant,
    /// Bytes in flight after taking them out.
    pub in_flight: u64,
}

/// A congestion control. Bytes are whole IP packets.
pub trait Controller: Debug + Send {
    /// Bytes left; `in_flight` includes them.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64);
    /// An acknowledgement came; `in_flight` is what is left.
    fn on_ack(&mut self, now: Instant, sample: &RateSample, in_flight: u64);
    /// Packets were declared lost.
    fn on_loss(&mut self, now: Instant, loss: &Loss);
    /// Bytes that were declared lost had only been late.
    fn on_spurious_loss(&mut self, now: Instant, bytes: u64);
    /// Sending begins again after a pause.
    fn on_idle_restart(&mut self, now: Instant);
    /// Bytes that may be in flight.
    fn window(&self) -> u64;
    /// The pace of sending.
    fn pacing_rate(&self) -> BytesPerSecond;
    /// Estimated delivery rate that the path offers.
    fn bandwidth(&self) -> BytesPerSecond;
    /// True once [`Self::bandwidth`] is what the path carries, and not only what was offered to it.
    fn knows_rate(&self) -> bool;
    /// True once after a delay that stayed turned out to be no queue: the smallest delay of before is not that of the
    /// path any more.
    fn way_is_longer(&mut self) -> bool;
    /// True while the rate moves all the time, faster than it could be probed for.
    fn follows(&self) -> bool {
        false
    }
    /// True while more load than the scheduler would give would teach something.
    fn wants_probe_traffic(&self) -> bool;
    /// The user's limit.
    fn set_limit(&mut self, limit: Option<BytesPerSecond>);
    /// What it is doing, for people.
    fn state_name(&self) -> &'static str;
}

/// Which congestion control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Ours: finds the rate, keeps queues short, does not fear loss.
    #[default]
    Bond,
    /// A fixed rate, for tests and for rates that the user knows.
    Fixed(BytesPerSecond),
}

/// The congestion control of a new path.
pub fn create(algorithm: Algorithm) -> Box<dyn Controller> {
    match algorithm {
        Algorithm::Bond => Box::new(Bond::new()),
        Algorithm::Fixed(rate) => Box::new(Fixed::new(rate)),
    }
}
