//! One emulated link, without sockets and clock: frames and times in, frames and times out.
//!
//! **Invariant:** the same seed, arrivals and changes give the same deliveries.

pub mod cellular;
mod direction;
mod jitter;
mod loss;
mod random;
mod shape;
mod trace;

pub use direction::{Counters, Delivery, Direction};
pub use jitter::Jitter;
pub use loss::Loss;
pub use random::Random;
pub use shape::{Change, Policer, Reorder, Service, Shape};
pub use trace::{Trace, TraceError, TraceStatistics};
